//! A pool of spinning workers for many very short parallel regions.
//!
//! Decoding one token of a small model makes some two hundred regions of a few microseconds each, so a region must
//! cost about one microsecond. Workers spin after a region (first hot, then yielding), and park after a
//! millisecond without work. The caller takes part in the work and never waits for a worker that has not started:
//! a worker enters a region by a compare-and-swap on the state word, and the region closes as soon as
//! all tasks are taken. A slow or sleeping worker therefore costs nothing but its help.
//!
//! Which thread runs a task is left to chance, so tasks must write to disjoint places and may not depend on
//! each other; kernels split outputs, never reductions, and so the result is the same at any thread count.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Sets how many threads take part in a region, the caller included; 0 chooses the default
/// (`BREVITY_THREADS`, else the machine's parallelism). Takes effect at the next region.
pub fn set_threads(n: usize) {
    let n = if n == 0 { default_threads() } else { n };
    TARGET.store(n.min(MAX_THREADS), Ordering::Relaxed);
}

/// How many threads take part in a region, the caller included.
pub fn threads() -> usize {
    match TARGET.load(Ordering::Relaxed) {
        0 => {
            let n = default_threads();
            let _ = TARGET.compare_exchange(0, n, Ordering::Relaxed, Ordering::Relaxed);
            TARGET.load(Ordering::Relaxed)
        }
        n => n,
    }
}

/// Runs `f(0)`, …, `f(tasks − 1)`, each once, in any order, on all threads; returns when all are done.
///
/// A call from inside a region, or while another thread has a region open, runs on the caller's thread alone.
///
/// # Panics
/// If a task panics: the first panic caught goes on in the caller, after all other threads have left.
pub fn parallel(tasks: usize, f: impl Fn(usize) + Sync) {
    if tasks <= 1 || threads() <= 1 || INSIDE.get() {
        return (0..tasks).for_each(f);
    }
    match pool().region.try_lock() {
        Ok(region) => run_region(pool(), region, tasks, &f),
        Err(std::sync::TryLockError::Poisoned(e)) => run_region(pool(), e.into_inner(), tasks, &f),
        Err(std::sync::TryLockError::WouldBlock) => (0..tasks).for_each(f),
    }
}

/// Whether this thread works on a region: a region inside it runs on this thread alone.
pub fn inside() -> bool {
    INSIDE.get()
}

/// Splits `data` into chunks of `chunk` elements (the last may be shorter) and runs `f(index, chunk)` on all threads.
///
/// # Panics
/// If `chunk` is 0, or as [`parallel`] does.
pub fn parallel_chunks<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    assert!(chunk > 0, "a chunk holds at least one element");
    let len = data.len();
    let base = Shared(data.as_mut_ptr());
    parallel(len.div_ceil(chunk), |i| {
        let start = i * chunk;
        // SAFETY: chunks of different tasks do not overlap, and `data` is borrowed until `parallel` returns.
        let part = unsafe { std::slice::from_raw_parts_mut(base.get().add(start), chunk.min(len - start)) };
        f(i, part);
    });
}

/// Calls `f(range)` on all threads for ranges of nearly one length that cover `0..items`, of at least `grain` items each if
/// there are so many; four ranges per thread when there is enough.
pub fn parallel_ranges(items: usize, grain: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
    let tasks = (items / grain.max(1)).clamp(1, 4 * threads());
    let start = |task: usize| (items as u128 * task as u128 / tasks as u128) as usize;
    if items > 0 {
        parallel(tasks, |i| f(start(i)..start(i + 1)));
    }
}

/// A pointer that tasks share; each task must touch places of its own.
pub(crate) struct Shared<T>(pub *mut T);

// SAFETY: only an address travels; who dereferences it vouches for disjointness.
unsafe impl<T: Send> Sync for Shared<T> {}
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    pub fn get(&self) -> *mut T {
        self.0
    }
}

const MAX_THREADS: usize = 256;
const HOT_SPINS: u32 = 2_000;
const AWAKE: Duration = Duration::from_millis(1);
const OPEN: u64 = 1 << 31;
const ACTIVE: u64 = OPEN - 1;
const EPOCH: u64 = 1 << 32;

static TARGET: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn default_threads() -> usize {
    let named = std::env::var("BREVITY_THREADS").ok().and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
    let n = named.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    n.min(MAX_THREADS)
}

/// The work of a region: a closure with its type erased.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize),
    tasks: usize,
}

#[repr(align(128))]
struct Line<T>(T);

struct Pool {
    /// Epoch in the high half, [`OPEN`] while workers may enter, the number of workers inside below it.
    state: Line<AtomicU64>,
    next: Line<AtomicUsize>,
    job: UnsafeCell<Job>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    region: Mutex<Vec<Worker>>,
}

// SAFETY: `job` is written only by the holder of `region` while the state is closed with nobody inside, and read
// only by workers that entered through the state word afterwards.
unsafe impl Sync for Pool {}
unsafe impl Send for Pool {}

struct Worker {
    thread: Thread,
    signals: Arc<Signals>,
}

#[derive(Default)]
struct Signals {
    parked: AtomicBool,
    leave: AtomicBool,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool {
        state: Line(AtomicU64::new(0)),
        next: Line(AtomicUsize::new(0)),
        job: UnsafeCell::new(Job { data: std::ptr::null(), call: |_, _| {}, tasks: 0 }),
        panic: Mutex::new(None),
        region: Mutex::new(Vec::new()),
    })
}

fn run_region<F: Fn(usize) + Sync>(pool: &'static Pool, mut region: MutexGuard<'_, Vec<Worker>>, tasks: usize, f: &F) {
    unsafe fn call<F: Fn(usize) + Sync>(data: *const (), task: usize) {
        // SAFETY: `data` is the `&F` below, alive until the region has closed.
        unsafe { (*data.cast::<F>())(task) }
    }
    resize(pool, &mut region, threads() - 1);
    // SAFETY: the state is closed with nobody inside, and this thread holds the region lock.
    unsafe { *pool.job.get() = Job { data: std::ptr::from_ref(f).cast(), call: call::<F>, tasks } };
    pool.next.0.store(0, Ordering::Relaxed);
    let epoch = (pool.state.0.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
    pool.state.0.store(epoch | OPEN, Ordering::SeqCst);
    for worker in region.iter().take(tasks - 1).filter(|w| w.signals.parked.load(Ordering::SeqCst)) {
        worker.thread.unpark();
    }
    INSIDE.set(true);
    work(pool);
    INSIDE.set(false);
    pool.state.0.fetch_and(!OPEN, Ordering::AcqRel);
    let mut spins = 0u32;
    while pool.state.0.load(Ordering::Acquire) & ACTIVE != 0 {
        spins += 1;
        if spins < HOT_SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    let caught = pool.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(region);
    if let Some(payload) = caught {
        resume_unwind(payload);
    }
}

/// Takes tasks until none is left. The thread is inside the region.
fn work(pool: &Pool) {
    // SAFETY: inside an open region the job does not change.
    let job = unsafe { *pool.job.get() };
    let result = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let task = pool.next.0.fetch_add(1, Ordering::Relaxed);
            if task >= job.tasks {
                break;
            }
            // SAFETY: the region's closure is alive until all threads have left.
            unsafe { (job.call)(job.data, task) };
        }
    }));
    if let Err(payload) = result {
        pool.next.0.store(job.tasks, Ordering::Relaxed);
        pool.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
    }
}

fn resize(pool: &'static Pool, workers: &mut Vec<Worker>, target: usize) {
    for worker in workers.drain(target.min(workers.len())..) {
        worker.signals.leave.store(true, Ordering::SeqCst);
        worker.thread.unpark();
    }
    while workers.len() < target {
        let signals = Arc::new(Signals::default());
        let theirs = Arc::clone(&signals);
        let name = format!("brevity-{}", workers.len() + 1);
        match std::thread::Builder::new().name(name).spawn(move || serve(pool, &theirs)) {
            Ok(handle) => workers.push(Worker { thread: handle.thread().clone(), signals }),
            Err(_) => break, // the system gives no more threads: the work goes on with those there are
        }
    }
}

fn serve(pool: &Pool, signals: &Signals) {
    INSIDE.set(true);
    let mut seen = 0;
    loop {
        let Some(epoch) = wait(pool, signals, seen) else {
            return;
        };
        seen = epoch;
        let entered = pool.state.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            (state & OPEN != 0 && state & !(EPOCH - 1) == epoch).then_some(state + 1)
        });
        if entered.is_ok() {
            work(pool);
            pool.state.0.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Waits for a region newer than `seen`; `None` when this worker shall leave.
fn wait(pool: &Pool, signals: &Signals, seen: u64) -> Option<u64> {
    let fresh = |order| {
        let state = pool.state.0.load(order);
        let epoch = state & !(EPOCH - 1);
        (state & OPEN != 0 && epoch != seen).then_some(epoch)
    };
    let mut spins = 0u32;
    let mut since = None;
    loop {
        if let Some(epoch) = fresh(Ordering::Acquire) {
            return Some(epoch);
        }
        spins += 1;
        if spins < HOT_SPINS {
            std::hint::spin_loop();
            continue;
        }
        if signals.leave.load(Ordering::Relaxed) {
            return None;
        }
        if since.get_or_insert_with(Instant::now).elapsed() < AWAKE {
            std::thread::yield_now();
            continue;
        }
        signals.parked.store(true, Ordering::SeqCst);
        if fresh(Ordering::SeqCst).is_none() && !signals.leave.load(Ordering::SeqCst) {
            std::thread::park();
        }
        signals.parked.store(false, Ordering::SeqCst);
        (spins, since) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 5] {
            set_threads(threads);
            for tasks in [0, 1, 2, 3, 17, 1000] {
                let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
                parallel(tasks, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
        set_threads(0);
    }

    #[test]
    fn regions_from_many_threads_and_nested_ones_finish() {
        let total = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        parallel(4, |_| {
                            parallel(3, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 500 * 12);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for bad in 0..8 {
            let caught = catch_unwind(|| parallel(8, |i| assert!(i != bad, "task {i}")));
            assert!(caught.is_err());
        }
        let done = AtomicU32::new(0);
        parallel(8, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 8);
    }

    #[test]
    fn sleeping_workers_wake() {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            let mut data = vec![0u32; 1003];
            parallel_chunks(&mut data, 10, |i, part| part.fill(i as u32));
            assert!(data.iter().enumerate().all(|(i, &v)| v == (i / 10) as u32));
        }
    }

    #[test]
    fn ranges_cover_everything_once() {
        for items in [0, 1, 15, 16, 17, 1000] {
            let hits: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
            parallel_ranges(items, 16, |range| {
                for i in range {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
        }
    }
}
