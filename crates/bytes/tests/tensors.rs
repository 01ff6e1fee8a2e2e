//! Files of tensors: the exact file comes back, whatever its header says, and a wrong bit is always found.

use brevity_bytes::archive::{Archive, PackOptions, UnpackOptions, pack, pack_against, unpack};
use brevity_bytes::level::Level;
use brevity_bytes::{Error, tensors::layout};
use brevity_kernels::Isa;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

fn packed(path: &Path, level: u8, block: Option<usize>) -> Vec<u8> {
    let options = PackOptions { level: Level::of(level).unwrap(), block, memory: 1 << 30, progress: &|_| true };
    let mut out = Vec::new();
    pack(&[path.to_path_buf()], &mut out, &options).unwrap();
    out
}

fn content(archive: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::open(Cursor::new(archive.to_vec()), 1 << 30)?;
    let mut out = Vec::new();
    archive.read(0, 0..u64::MAX, |part| {
        out.extend_from_slice(part);
        Ok(())
    })?;
    Ok(out)
}

/// About Gaussian, some 0.03 wide.
fn weights(count: usize) -> Vec<f32> {
    let mut x = 0x9E37u32;
    let mut uniform = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        f64::from(x) / 4_294_967_296.0
    };
    (0..count).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32 * 0.03).collect()
}

fn bf16(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|w| [w.to_le_bytes()[2], w.to_le_bytes()[3]]).collect()
}

/// A file of these tensors: name, type, shape, bytes.
fn safetensors(tensors: &[(&str, &str, &str, Vec<u8>)]) -> Vec<u8> {
    let mut at = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, ty, shape, bytes)| {
            at += bytes.len();
            format!(r#""{name}":{{"dtype":"{ty}","shape":[{shape}],"data_offsets":[{},{at}]}}"#, at - bytes.len())
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    tensors.iter().for_each(|tensor| file.extend(&tensor.3));
    file
}

fn sample(count: usize) -> Vec<u8> {
    let floats = weights(count);
    let count = format!("{},8", count / 8);
    safetensors(&[
        ("a", "BF16", &count, bf16(&floats)),
        ("b", "F32", &count, floats.iter().flat_map(|w| w.to_le_bytes()).collect()),
        ("ids", "I64", "9", (0..9i64).flat_map(i64::to_le_bytes).collect()),
        ("c", "F8_E4M3", &count, floats.iter().map(|w| (w.to_bits() >> 20) as u8).collect()),
    ])
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn tensors_come_back_at_every_level_and_are_what_they_should_be() {
    let directory = tempfile::tempdir().unwrap();
    let file = sample(80_000);
    let path = write(directory.path(), "model.safetensors", &file);
    assert_eq!(layout::tensors(&path).len(), 4);
    for level in [1, 3, 5] {
        let archive = packed(&path, level, None);
        assert_eq!(content(&archive).unwrap(), file, "level {level}");
        // Of seven bytes a value take 10.6 + 26.6 + some 6.2 bits.
        assert!(archive.len() * 1000 < file.len() * 790, "level {level}: {}", archive.len());
        let cut = packed(&path, level, Some(100_001));
        assert_eq!(content(&cut).unwrap(), file, "level {level}");
    }
}

#[test]
fn archives_are_the_same_on_every_instruction_set() {
    let directory = tempfile::tempdir().unwrap();
    let file = sample(16_000);
    let path = write(directory.path(), "model.safetensors", &file);
    for level in [1, 5] {
        let archive = packed(&path, level, None);
        for isa in Isa::available() {
            assert!(isa.with(|| packed(&path, level, None)) == archive, "{isa:?} {level}");
            assert!(isa.with(|| content(&archive)).unwrap() == file, "{isa:?} {level}");
        }
    }
}

#[test]
fn lying_headers_are_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let file = sample(6000);
    let text = String::from_utf8_lossy(&file[8..200]).into_owned();
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = 8 + text.find(from).unwrap();
        [&file[..at], to.as_bytes(), &file[at + from.len()..]].concat()
    };
    let liars = [
        replaced("BF16", "F32_"),
        replaced("[750,8]", "[751,8]"),
        replaced("[0,12000]", "[1,12000]"),
        replaced("\"a\"", "\"b\""),
        file[..file.len() / 2].to_vec(),
        [&[0xFF; 8], &file[8..]].concat(),
    ];
    for (number, liar) in liars.iter().enumerate() {
        let path = write(directory.path(), "liar.safetensors", liar);
        for level in [1, 5] {
            assert!(content(&packed(&path, level, None)).unwrap() == *liar, "{number} {level}");
        }
    }
}

#[test]
fn any_flipped_bit_is_found() {
    let directory = tempfile::tempdir().unwrap();
    for level in [1, 5] {
        let floats = weights(2100);
        let file = safetensors(&[("w", "BF16", "2100", bf16(&floats))]);
        let archive = packed(&write(directory.path(), "w.safetensors", &file), level, None);
        for bit in (0..8 * archive.len()).step_by(7) {
            let mut wrong = archive.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(content(&wrong).is_err(), "level {level}, bit {bit}");
        }
    }
}

#[test]
fn numpys_arrays_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!("{:117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (100, 200), }");
    let mut file = b"\x93NUMPY\x01\0\x76\0".to_vec();
    file.extend(line.bytes());
    file.extend(weights(20_000).iter().flat_map(|w| w.to_le_bytes()));
    let path = write(directory.path(), "x.npy", &file);
    let archive = packed(&path, 1, None);
    assert!(archive.len() * 100 < file.len() * 86, "{}", archive.len());
    assert_eq!(content(&archive).unwrap(), file);
}

#[test]
fn real_weights_take_what_their_exponents_are_worth() {
    let Some(root) = std::env::var_os("BREVITY_MODELS") else {
        println!("skipped: BREVITY_MODELS is not set");
        return;
    };
    let path = Path::new(&root).join("minilm/model.safetensors");
    let Ok(found) = brevity_formats::safetensors::SafetensorsFile::open(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let tensor = found.tensors().iter().find(|t| t.name.ends_with("layer.3.intermediate.dense.weight")).unwrap();
    let mut raw = vec![0; tensor.bytes as usize];
    found.read_into(tensor, 0, &mut raw).unwrap();
    let floats: Vec<f32> = raw.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    let shape = format!("{},{}", tensor.rows(), tensor.cols());
    let file = safetensors(&[("w", "BF16", &shape, bf16(&floats))]);
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "w.safetensors", &file);
    for (level, most) in [(1, 0.675), (5, 0.663)] {
        let archive = packed(&path, level, None);
        let share = archive.len() as f64 / file.len() as f64;
        assert!(share < most, "level {level}: {share:.4}");
        assert_eq!(content(&archive).unwrap(), file);
    }
}

/// A step of training: masters in f32 move by about `rate` each, what is stored is their BF16 view.
fn step(floats: &[f32], rate: f32) -> Vec<f32> {
    floats
        .iter()
        .zip(weights(floats.len() + 1).iter().skip(1))
        .map(|(w, g)| w - rate * (g * 30.0).clamp(-1.0, 1.0))
        .collect()
}

fn against(path: &Path, base: &Path, level: u8) -> Vec<u8> {
    let options = PackOptions { level: Level::of(level).unwrap(), block: None, memory: 1 << 30, progress: &|_| true };
    let mut out = Vec::new();
    pack_against(&[path.to_path_buf()], base, &mut out, &options).unwrap();
    out
}

fn beside(archive: &[u8], base: &Path) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::open(Cursor::new(archive.to_vec()), 1 << 30)?.against(base);
    let mut out = Vec::new();
    archive.read(0, 0..u64::MAX, |part| {
        out.extend_from_slice(part);
        Ok(())
    })?;
    Ok(out)
}

#[test]
fn differences_are_small_and_need_their_base() {
    let directory = tempfile::tempdir().unwrap();
    let floats = weights(60_000);
    let moved = step(&floats, 1e-5);
    let file = |floats: &[f32]| {
        let same: Vec<u8> = floats.iter().take(8000).flat_map(|_| [1, 2, 3, 4]).collect();
        safetensors(&[("w", "BF16", "100,600", bf16(floats)), ("same", "I32", "8000", same)])
    };
    let (old, new) = (file(&floats), file(&moved));
    let base = write(directory.path(), "old.safetensors", &old);
    let path = write(directory.path(), "new.safetensors", &new);
    let changed = old.chunks(2).zip(new.chunks(2)).filter(|(a, b)| a != b).count();
    assert!(changed > 1000, "{changed}");
    for level in [1, 5] {
        let archive = against(&path, &base, level);
        assert!(archive.len() < changed + 400, "level {level}: {} bytes for {changed} changes", archive.len());
        assert_eq!(beside(&archive, &base).unwrap(), new);
        assert!(matches!(content(&archive), Err(Error::Base { .. })));
        assert!(matches!(beside(&archive, &path), Err(Error::Base { .. })));
        assert!(matches!(beside(&archive, &directory.path().join("nowhere")), Err(Error::Base { .. })));
        for bit in (0..8 * archive.len()).step_by(61) {
            let mut wrong = archive.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(beside(&wrong, &base).is_err(), "level {level}, bit {bit}");
        }
    }
    let same = against(&base, &base, 5);
    assert!(same.len() < 500, "{}", same.len());
    assert_eq!(beside(&same, &base).unwrap(), old);
}

#[test]
fn directories_are_differences_file_by_file() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new, out) = (directory.path().join("old"), directory.path().join("new"), directory.path().join("out"));
    let floats = weights(20_000);
    for (root, floats) in [(&old, floats.clone()), (&new, step(&floats, 1e-4))] {
        fs::create_dir_all(root.join("deep")).unwrap();
        fs::write(root.join("config.json"), "{\"model_type\": \"llama\"}").unwrap();
        fs::write(root.join("deep/w.safetensors"), safetensors(&[("w", "BF16", "20000", bf16(&floats))])).unwrap();
    }
    fs::write(new.join("only.npy"), b"nothing like it before").unwrap();
    let archive = against(&new, &old, 5);
    let mut opened = Archive::open(Cursor::new(archive), 1 << 30).unwrap().against(&old);
    let options = UnpackOptions { force: false, keep_going: false, progress: &|_| true };
    unpack(&mut opened, &[], &out, &options).unwrap();
    for name in ["config.json", "deep/w.safetensors", "only.npy"] {
        assert!(fs::read(out.join(name)).unwrap() == fs::read(new.join(name)).unwrap(), "{name}");
    }
}
