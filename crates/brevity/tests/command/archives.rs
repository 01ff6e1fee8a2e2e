//! `pack`, `unpack`, `list`, `test`, `cat`, and differences from a base.

use crate::support::*;
use crate::tiny::Tiny;
use std::path::Path;

/// A folder with text, numbers, an empty file and an empty folder.
fn folder(directory: &Path) {
    std::fs::create_dir_all(directory.join("deep/empty")).unwrap();
    text_file(directory);
    let numbers: Vec<u8> = (0..4000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    std::fs::write(directory.join("deep/numbers.bin"), numbers).unwrap();
    std::fs::write(directory.join("nothing"), b"").unwrap();
}

/// The first and the second of two checkpoints of which the second's last weights have moved a little.
fn checkpoints(directory: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (old, new) = (directory.join("old"), directory.join("new"));
    Tiny { ty: "BF16", ..Tiny::narrow() }.write(&old);
    std::fs::create_dir(&new).unwrap();
    let mut bytes = std::fs::read(old.join("model.safetensors")).unwrap();
    let end = bytes.len() - 1;
    bytes[end - 20_000..end].iter_mut().step_by(40).for_each(|low| *low ^= 1);
    std::fs::write(new.join("model.safetensors"), bytes).unwrap();
    (old.join("model.safetensors"), new.join("model.safetensors"))
}

#[test]
fn a_folder_comes_back_at_each_kind_of_level() {
    let directory = temporary();
    let source = directory.path().join("notes");
    folder(&source);
    for level in ["-1", "-3", "-5", "-7", "-9"] {
        let (archive, out) = (directory.path().join(format!("a{level}.brv")), directory.path().join(level));
        let packed = run(&["pack", level, "--json", arg(&source), "-o", arg(&archive)]).json();
        assert_eq!(number(&packed, "bytes"), std::fs::metadata(&archive).unwrap().len() as f64);
        run(&["test", arg(&archive)]).ok();
        run(&["unpack", arg(&archive), "-C", arg(&out)]).ok();
        for name in ["text.txt", "deep/numbers.bin", "nothing"] {
            let back = std::fs::read(out.join(name)).unwrap();
            assert_eq!(back, std::fs::read(source.join(name)).unwrap(), "{level} {name}");
        }
        assert!(out.join("deep/empty").is_dir());
    }
}

#[test]
fn parts_of_an_archive_are_listed_and_read() {
    let directory = temporary();
    let (source, archive) = (directory.path().join("notes"), directory.path().join("notes.brv"));
    folder(&source);
    run_in(directory.path(), &["pack", "notes"]).ok();
    let list = run(&["list", "--json", arg(&archive)]).json().to_string();
    for name in ["text.txt", "deep/numbers.bin", "nothing", "deep/empty"] {
        assert!(list.contains(&format!("\"{name}\"")), "{list}");
    }
    let text = std::fs::read_to_string(source.join("text.txt")).unwrap();
    let part = run(&["cat", arg(&archive), "text.txt", "--range", "100..164"]).ok();
    assert_eq!(part.out, text[100..164]);
    let out = directory.path().join("some");
    run(&["unpack", arg(&archive), "deep", "-C", arg(&out)]).ok();
    assert_eq!(listing(&out), ["deep"]);
    run(&["cat", arg(&archive), "none"]).refused(&["none"]);
    run(&["cat", arg(&archive), "text.txt", "--range", "9..2"]).refused(&["ends before it begins"]);
    run(&["pack", arg(&source), "-o", arg(&archive)]).refused(&["notes.brv", "--force"]);
    run(&["unpack", arg(&archive), "deep", "-C", arg(&out)]).refused(&["numbers.bin", "--force"]);
}

#[test]
fn damage_is_found_and_named() {
    let directory = temporary();
    let (source, archive) = (directory.path().join("notes"), directory.path().join("notes.brv"));
    folder(&source);
    run(&["pack", "-1", arg(&source), "-o", arg(&archive)]).ok();
    let whole = std::fs::read(&archive).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    std::fs::write(&archive, &flipped).unwrap();
    run(&["test", arg(&archive)]).refused(&["notes.brv"]);
    std::fs::write(&archive, &whole[..whole.len() - 9]).unwrap();
    run(&["list", arg(&archive)]).refused(&["notes.brv"]);
    let out = directory.path().join("out");
    run(&["unpack", arg(&archive), "-C", arg(&out)]).refused(&["notes.brv"]);
}

#[test]
fn a_patch_makes_the_new_from_the_old() {
    let directory = temporary();
    let (old, new) = checkpoints(directory.path());
    let (patch, made) = (directory.path().join("new.brv"), directory.path().join("made.safetensors"));
    let diff = run(&["diff", "--json", arg(&old), arg(&new), "-o", arg(&patch)]).json();
    assert!(number(&diff, "bytes") < 0.02 * number(&diff, "content_bytes"), "{diff}");
    run(&["patch", arg(&old), arg(&patch), "-o", arg(&made)]).ok();
    assert_eq!(std::fs::read(&made).unwrap(), std::fs::read(&new).unwrap());
    run(&["patch", arg(&old), arg(&patch), "-o", arg(&made)]).refused(&["made.safetensors"]);
    let other = directory.path().join("other.safetensors");
    run(&["patch", arg(&new), arg(&patch), "-o", arg(&other)]).refused(&["model.safetensors"]);
    assert!(!other.exists(), "nothing is written from the wrong old file");
}

#[test]
fn an_archive_of_differences_wants_its_base() {
    let directory = temporary();
    let (old, new) = checkpoints(directory.path());
    let (base, next) = (old.parent().unwrap(), new.parent().unwrap());
    let (archive, out) = (directory.path().join("next.brv"), directory.path().join("out"));
    run(&["pack", arg(next), "--base", arg(base), "-o", arg(&archive)]).ok();
    run(&["unpack", arg(&archive), "-C", arg(&out)]).refused(&["--base"]);
    run(&["test", arg(&archive), "--base", arg(base)]).ok();
    run(&["unpack", arg(&archive), "-C", arg(&out), "--base", arg(base), "--force"]).ok();
    let back = std::fs::read(out.join("model.safetensors")).unwrap();
    assert_eq!(back, std::fs::read(&new).unwrap());
    run(&["test", arg(&archive), "--base", arg(next)]).refused(&["model.safetensors"]);
}

#[test]
fn a_text_behind_the_embedded_model() {
    let directory = temporary();
    let (text, archive) = (directory.path().join("sea.txt"), directory.path().join("sea.brv"));
    let content = "The captain stood on the deck and looked at the sea. There is a storm coming, he said.\n";
    std::fs::write(&text, content).unwrap();
    let packed = run(&["pack", "--json", "--model", "nano", arg(&text), "-o", arg(&archive)]).json();
    let model = &packed["model"];
    assert!(
        model["bytes"].as_u64().unwrap() > 16_000_000 && model["training_set"].as_str().unwrap().starts_with("known")
    );
    assert_eq!(run(&["cat", arg(&archive), "sea.txt"]).ok().out, content);
    let out = directory.path().join("out");
    run(&["unpack", arg(&archive), "-C", arg(&out)]).ok();
    assert_eq!(std::fs::read_to_string(out.join("sea.txt")).unwrap(), content);
    let other = directory.path().join("other");
    Tiny::narrow().write(&other);
    run(&["test", arg(&archive), "--model", arg(&other)]).refused(&["nano", "--model"]);
    run(&["pack", "--model", "nano", "--base", arg(&text), arg(&text)]).refused(&["--base"]);
    run(&["pack", "--model", "none.gguf", arg(&text), "-o", "-"]).refused(&["none.gguf"]);
}
