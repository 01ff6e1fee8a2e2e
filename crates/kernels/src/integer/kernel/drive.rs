//! From panels and rows to threads, scratch and instruction sets.

use super::source::{Form, Panels, Unpacked, offset, unpack};
use super::tile::{Job, Out, Place, all_rows};
use super::{CHUNK, PANEL};
use crate::integer::activations::{Activations, BLOCK};
use crate::integer::lanes::{self, Lanes};
use crate::integer::storage::Bytes;
use crate::pool::{self, Shared};
use crate::{Isa, MatrixMut};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

/// With at most this many rows of activations the packed panels are read directly.
const DIRECT_ROWS: usize = 8;
/// Chunks that a pass over many rows takes at once, so that two unpacked panels stay in the first-level cache.
const PASS_CHUNKS: usize = 2;

/// Unpacks panels, two at a time where `L` likes pairs, and multiplies them with all rows.
///
/// No closures here nor below: they would not be compiled for the instruction set.
#[inline(always)]
unsafe fn through_scratch<L: Lanes, F: Form>(isa: Isa, job: &Job, range: Range<usize>, unpack: &dyn Unpack) {
    let bytes = job.blocks * Unpacked::<F>::BLOCK_BYTES;
    let mut scratch = Scratch::with(2 * bytes + job.rows * 2 * PANEL * 4);
    let first = scratch.as_mut_ptr();
    let partial = first.wrapping_add(2 * bytes).cast();
    let mut panel = range.start;
    while panel < range.end {
        // SAFETY: the scratch holds two panels and their partial sums; panels that count have just been written.
        unsafe {
            let live = (1 + usize::from(L::WIDE)).min(range.end - panel);
            for p in 0..live {
                unpack.unpack(isa, panel + p, first.add(p * bytes));
            }
            let one = Unpacked::<F>::new(first).before(unpack.place(panel + live), job.blocks);
            let two =
                Unpacked::<F>::new(first.add((live - 1) * bytes)).before(unpack.place(panel + live + 1), job.blocks);
            let mut from = 0;
            loop {
                let to = job.blocks.min(from + PASS_CHUNKS * CHUNK);
                let place = Place { first: 0, n: 0, own: 0, panel, live, from, to, partial };
                if L::WIDE {
                    all_rows::<L, Unpacked<F>, 2, true>([one, two], job, place);
                } else {
                    all_rows::<L, Unpacked<F>, 1, true>([one], job, place);
                }
                from = to;
                if to == job.blocks {
                    break;
                }
            }
            panel += live;
        }
    }
}

/// Bytes that this thread keeps for its next task.
pub(in crate::integer) struct Scratch(Bytes);

thread_local! { static SCRATCH: Cell<Option<Bytes>> = const { Cell::new(None) } }

impl Scratch {
    pub fn with(bytes: usize) -> Scratch {
        let mut scratch = SCRATCH.take().unwrap_or_else(|| Bytes::zeroed(0));
        scratch.reserve(bytes);
        Scratch(scratch)
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH.set(Some(std::mem::replace(&mut self.0, Bytes::zeroed(0))));
    }
}

/// Something to be done to ranges of panels, written once for all instruction sets.
pub(in crate::integer) trait Task: Sync {
    /// Whether codes are looked up in a codebook.
    const WORDS: bool = false;
    /// # Safety
    /// Inlined into a function compiled for `L`'s instruction set, on a machine that has it.
    unsafe fn run<L: Lanes>(&self, panels: Range<usize>);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn run_avx512(task: &impl Task, panels: Range<usize>) {
    unsafe { task.run::<lanes::Avx512>(panels) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")]
unsafe fn run_avx512_vbmi(task: &impl Task, panels: Range<usize>) {
    unsafe { task.run::<lanes::Avx512>(panels) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2(task: &impl Task, panels: Range<usize>) {
    unsafe { task.run::<lanes::Avx2>(panels) }
}

/// Runs `task` on this thread.
pub(in crate::integer) fn run<T: Task>(isa: Isa, panels: Range<usize>, task: &T) {
    // SAFETY: an instruction set is only current where the machine has it.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                // Codewords are looked up with byte permutations. Cascade Lake has none; what AVX2 unpacks has the same layout.
                if !T::WORDS {
                    run_avx512(task, panels);
                } else if is_x86_feature_detected!("avx512vbmi") {
                    run_avx512_vbmi(task, panels);
                } else {
                    run_avx2(task, panels);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => run_avx2(task, panels),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => task.run::<lanes::Neon>(panels),
            _ => task.run::<lanes::Portable>(panels),
        }
    }
}

/// Panels of any kind that can be unpacked.
pub(in crate::integer) trait Unpack: Sync {
    /// Writes `panel` to `to` as [`Unpacked`] for `isa`, with room for all its blocks.
    unsafe fn unpack(&self, isa: Isa, panel: usize, to: *mut u8);
    /// Where a panel lies, which need not exist, and its bytes; null, if nowhere in one piece.
    fn place(&self, _panel: usize) -> (*const u8, usize) {
        (std::ptr::null(), 0)
    }
}

/// [`Unpack`] of packed panels.
pub(super) struct UnpackPanels<'a, P: Panels>(pub &'a P);

/// One call of it.
struct UnpackTask<'a, P: Panels>(&'a P, Shared<u8>);

impl<P: Panels> Unpack for UnpackPanels<'_, P> {
    unsafe fn unpack(&self, isa: Isa, panel: usize, to: *mut u8) {
        run(isa, panel..panel + 1, &UnpackTask(self.0, Shared(to)));
    }
    fn place(&self, panel: usize) -> (*const u8, usize) {
        self.0.place(panel)
    }
}

impl<P: Panels> Task for UnpackTask<'_, P> {
    const WORDS: bool = P::WORDS;
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, panels: Range<usize>) {
        // SAFETY: as the caller of `unpack` promised.
        unsafe { unpack::<L, _>(self.0.source::<L>(panels.start), self.0.shape().1.div_ceil(BLOCK), self.1.get()) }
    }
}

/// Few rows: packed panels are read directly.
struct Direct<'a, P: Panels>(&'a P, &'a Job);

impl<P: Panels> Task for Direct<'_, P> {
    const WORDS: bool = P::WORDS;
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, range: Range<usize>) {
        for panel in range {
            // SAFETY: the panels exist and have as many blocks as the job.
            unsafe {
                let to = self.1.blocks;
                let place =
                    Place { first: 0, n: 0, own: 0, panel, live: 1, from: 0, to, partial: std::ptr::null_mut() };
                all_rows::<L, _, 1, false>([self.0.source::<L>(panel)], self.1, place);
            }
        }
    }
}

/// Many rows, or panels that must be made first.
struct Indirect<'a, F> {
    isa: Isa,
    job: &'a Job,
    unpack: &'a dyn Unpack,
    form: PhantomData<F>,
}

impl<F: Form> Task for Indirect<'_, F> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, range: Range<usize>) {
        // SAFETY: the panels exist and have as many blocks as the job.
        unsafe { through_scratch::<L, F>(self.isa, self.job, range, self.unpack) }
    }
}

/// Makes the job `y (=|+=) x·Wᵀ` for codes of form `F` and hands it to `f` with the number of panels to take at least.
///
/// # Panics
/// If the shapes do not agree.
fn with_job<F: Form>(
    (outputs, cols): (usize, usize),
    x: &Activations,
    y: &mut MatrixMut<'_>,
    accumulate: bool,
    f: impl FnOnce(Isa, usize, &Job),
) {
    assert_eq!(x.cols(), cols, "columns of the activations and of the weights");
    assert_eq!((y.rows(), y.cols()), (x.rows(), outputs), "shape of the output");
    if x.rows() == 0 || outputs == 0 {
        return;
    }
    let isa = Isa::current();
    x.with_starts(offset::<F>(isa == Isa::Avx512), F::HALVES, |starts| {
        let job = Job {
            rows: x.rows(),
            blocks: x.blocks(),
            codes: x.codes(),
            meta: x.meta(),
            starts: starts.as_ptr(),
            out: Out::new(y, accumulate),
        };
        f(isa, (32_768 / (cols * PANEL * x.rows()).max(1)).max(2), &job);
    });
}

/// `y (=|+=) x·Wᵀ`.
pub(in crate::integer) fn multiply<P: Panels>(panels: &P, x: &Activations, y: &mut MatrixMut<'_>, accumulate: bool) {
    if x.rows() > DIRECT_ROWS {
        return multiply_unpacked::<P::Form>(panels.shape(), &UnpackPanels(panels), x, y, accumulate);
    }
    let shape = panels.shape();
    with_job::<P::Form>(shape, x, y, accumulate, |isa, grain, job| {
        let task = Direct(panels, job);
        pool::parallel_ranges(shape.0.div_ceil(PANEL), grain, |range| run(isa, range, &task));
    });
}

/// `y (=|+=) x·Wᵀ` for panels that `unpack` makes.
pub(in crate::integer) fn multiply_unpacked<F: Form>(
    shape: (usize, usize),
    unpack: &dyn Unpack,
    x: &Activations,
    y: &mut MatrixMut<'_>,
    accumulate: bool,
) {
    with_job::<F>(shape, x, y, accumulate, |isa, grain, job| {
        let task = Indirect { isa, job, unpack, form: PhantomData::<F> };
        pool::parallel_ranges(shape.0.div_ceil(PANEL), grain, |range| run(isa, range, &task));
    });
}
