//! Killed, stopped, or out of room: the old file or none, never half; and the same command goes on.

#![cfg(target_os = "linux")]

use crate::support::*;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The embedded model on a type whose search takes long enough to be interrupted.
const COMPRESS: [&str; 8] = ["compress", "--method", "rtn", "--grid", "q5_k", "--no-eval", "-o", "out.gguf"];

fn start(directory: &Path) -> Child {
    brevity(&COMPRESS).current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until several tensors are written; false if it was faster than we.
fn wait_until_written(child: &mut Child, directory: &Path) -> bool {
    let partial = directory.join("out.gguf.partial");
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        if std::fs::metadata(&partial).is_ok_and(|facts| facts.len() > 2_000_000) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    panic!("nothing was written in two minutes");
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Interrupts a run while it writes; returns what it ended with.
fn interrupt(directory: &Path, name: &str) -> Ran {
    for _ in 0..5 {
        let mut child = start(directory);
        if wait_until_written(&mut child, directory) {
            signal(&child, name);
            let ran = finished(child.wait_with_output().unwrap(), format!("interrupted by {name}"));
            if ran.code != Some(0) {
                return ran;
            }
        }
        std::fs::remove_file(directory.join("out.gguf")).unwrap();
    }
    panic!("five runs were too fast to be interrupted");
}

fn uninterrupted(directory: &Path) -> Vec<u8> {
    run_in(directory, &COMPRESS).ok();
    let path = directory.join("out.gguf");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    bytes
}

#[test]
fn after_a_kill_or_ctrl_c_the_same_command_goes_on() {
    let directory = temporary();
    let whole = uninterrupted(directory.path());
    for (name, code) in [("-KILL", None), ("-INT", Some(130)), ("-TERM", Some(130))] {
        let ran = interrupt(directory.path(), name);
        assert_eq!(ran.code, code, "{name}: {}", ran.err);
        assert!(!directory.path().join("out.gguf").exists());
        let again = run_in(directory.path(), &COMPRESS).ok();
        assert!(again.err.contains("going on after"), "{}", again.err);
        assert!(std::fs::read(directory.path().join("out.gguf")).unwrap() == whole, "{name}: another file");
        assert_eq!(listing(directory.path()), ["out.gguf"]);
        std::fs::remove_file(directory.path().join("out.gguf")).unwrap();
    }
}

#[test]
fn ctrl_c_ends_a_measurement_with_130_and_no_result() {
    let mut child = brevity(&["eval", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !catches_interrupts(child.id()) {
        assert!(child.try_wait().unwrap().is_none(), "ended before it could be stopped");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "-INT");
    let ran = finished(child.wait_with_output().unwrap(), "eval, stopped".into());
    assert_eq!((ran.code, ran.out.as_str()), (Some(130), ""));
    assert!(ran.err.contains("brevity: stopped"), "{}", ran.err);
}

/// Whether a process has a handler for SIGINT.
fn catches_interrupts(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 2 != 0)
}

/// A limit on the size of files stands in for a full disk.
#[test]
fn without_room_the_old_file_stays_and_one_error_says_why() {
    let directory = temporary();
    std::fs::write(directory.path().join("out.gguf"), "old").unwrap();
    let script = format!("ulimit -f 2000; trap '' XFSZ; exec {BINARY} \"$@\"");
    let mut limited = Command::new("sh");
    limited.args(["-c", &script, "sh"]).args(COMPRESS).args(["--force", "--threads", "1"]);
    let failed = ran(limited.current_dir(directory.path()).stdin(Stdio::null())).refused(&["brevity: ", "out.gguf"]);
    let errors = failed.err.lines().filter(|line| line.starts_with("brevity: ")).count();
    assert_eq!(errors, 1, "{}", failed.err);
    assert_eq!(std::fs::read(directory.path().join("out.gguf")).unwrap(), b"old");
    run_in(directory.path(), &[&COMPRESS[..], &["--force"]].concat()).ok();
    run_in(directory.path(), &["inspect", "out.gguf"]).ok();
    assert_eq!(listing(directory.path()), ["out.gguf"]);
}
