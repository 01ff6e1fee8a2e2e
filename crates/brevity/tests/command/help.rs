//! Help that teaches, flags that are refused, and other people's closed pipes.

use crate::support::*;
use std::process::{Command, Stdio};

#[test]
fn every_command_explains_itself() {
    for (command, words) in [
        (
            &["compress"][..],
            &["Examples:", "--bits", "--size", "--ratio", "--grid", "--dry-run", "--memory", "--force"][..],
        ),
        (&["eval"], &["Examples:", "--against", "--text", "--tasks", "--window", "second-half"]),
        (&["run"], &["Examples:", "--temperature", "--seed", "--chat", "--stop"]),
        (&["inspect"], &["--tensors", "--metadata"]),
        (&["convert"], &["Examples:", "--type", "--force"]),
        (&["methods"], &["--room"]),
        (&["diff"], &["Examples:", "--output", "--level", "--force"]),
        (&["patch"], &["--output", "--force"]),
        (&["bench"], &["speed", "weights"]),
        (&["bench", "speed"], &["--prompt", "--generate"]),
        (&["bench", "weights"], &["--bits", "--output"]),
        (&[], &["compress", "eval", "Hub id", "embedded"]),
    ] {
        let help = ran(Command::new(BINARY).args(command).arg("--help")).ok().out;
        for word in words.iter().chain(&["--json", "--threads"]) {
            assert!(help.contains(word), "{command:?} does not speak of {word}: {help}");
        }
    }
    assert!(ran(Command::new(BINARY).arg("--version")).ok().out.starts_with("brevity "));
}

#[test]
fn absurd_flags_are_refused() {
    for args in [
        &["methods", "--threads", "0"][..],
        &["methods", "--threads", "-1"],
        &["methods", "--threads", "many"],
        &["methods", "--wrong"],
        &["methods", "extra"],
        &["eval", "--window", "-1"],
        &["compress", "--chunks", "-1"],
        &["bench"],
        &["wrong"],
    ] {
        run(args).refused(&["error: "]);
    }
    run(&["methods", "--room", "cellar"]).refused(&["weights"]);
}

#[test]
fn methods_and_models_are_listed_as_json() {
    let methods = run(&["methods", "--json"]).json();
    let rtn = methods["methods"].as_array().unwrap().iter().find(|card| card["name"] == "rtn").unwrap();
    for key in ["title", "mechanism", "room"] {
        assert!(rtn[key].is_string(), "{key}");
    }
    assert!(run(&["methods"]).ok().out.contains("rtn"));
    let nano = run(&["inspect", "--json"]).json();
    assert_eq!((nano["model"].as_str(), nano["architecture"].as_str()), (Some("nano"), Some("llama")));
    let total: f64 = nano["tensors"].as_array().unwrap().iter().map(|tensor| number(tensor, "bytes")).sum();
    assert!(total > 1e6 && total < number(&nano, "bytes"));
    assert!(run(&["inspect", "--tensors"]).ok().out.contains("blk.0.attn_q.weight"));
}

/// `brevity … | head` and `brevity … 2>&1 | head` end quietly.
#[test]
fn closed_pipes_are_no_failure() {
    for (out, err) in [(true, false), (false, true), (true, true)] {
        for args in
            [&["inspect", "--tensors"][..], &["run", "-p", "The whale", "-n", "8"], &["inspect", "/nonexistent"]]
        {
            let mut child = brevity(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            if out {
                drop(child.stdout.take());
            }
            if err {
                drop(child.stderr.take());
            }
            let ran = finished(child.wait_with_output().unwrap(), format!("{args:?}"));
            let expected = if args.contains(&"/nonexistent") { 1 } else { 0 };
            assert_eq!(ran.code, Some(expected), "{args:?}: {}", ran.err);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = brevity(&["inspect"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let ran = finished(output, "inspect > /dev/full".into());
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("No space left"), "{}", ran.err);
}
