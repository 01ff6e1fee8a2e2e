//! Importance matrices: files that llama-imatrix wrote (`oracles/imatrix_golden.py`), files that lie, and what comes back.

mod support;

use brevity_formats::Error;
use brevity_formats::imatrix::{Entry, Imatrix, ImatrixError as Lie, Layout};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use support::{Gguf, array, string};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/imatrix").join(name)
}

#[test]
fn llama_imatrix_files_are_read() {
    let imatrix = Imatrix::open(golden("tiny.gguf")).unwrap();
    assert_eq!((imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size), (vec!["calibration.txt".into()], 2, 64));
    let lines: Vec<&str> = include_str!("golden/imatrix/tiny.txt").lines().collect();
    assert_eq!(lines.len(), imatrix.entries.len());
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| fields[i].parse::<f64>().unwrap();
        let entry = &imatrix.entries[fields[0]];
        let counts: Vec<u64> = fields[4..].iter().map(|count| count.parse().unwrap()).collect();
        assert_eq!((entry.sums.len(), &entry.counts), (number(2) as usize, &counts), "{line}");
        assert_eq!(entry.sums.len() / counts.len(), number(1) as usize);
        let sum: f64 = entry.sums.iter().map(|sum| f64::from(*sum)).sum();
        assert!((sum / number(3) - 1.0).abs() < 1e-12, "{line}: {sum}");
    }
}

#[test]
fn both_layouts_have_the_same_means() {
    let exact = Imatrix::open(golden("tiny.gguf")).unwrap();
    let legacy = Imatrix::open(golden("tiny.dat")).unwrap();
    assert_eq!((&legacy.datasets, legacy.chunk_count, legacy.chunk_size), (&exact.datasets, 2, 0));
    let mut unseen = 0;
    for (name, entry) in &exact.entries {
        let (means, others) = (entry.means(), legacy.entries[name].means());
        assert_eq!(means.len(), others.len());
        assert!(means.iter().zip(&others).all(|(a, b)| (a - b).abs() <= 1e-6 * a), "{name}");
        let cols = means.len() / entry.counts.len();
        for (expert, _) in entry.counts.iter().enumerate().filter(|(_, count)| **count == 0) {
            assert_eq!(means[expert * cols..][..cols], vec![1.0; cols], "{name} {expert}");
            unseen += 1;
        }
    }
    assert!(unseen > 0, "the golden files hold experts that saw nothing");
}

#[test]
fn what_is_written_are_the_bytes_that_llama_imatrix_writes() {
    let dir = tempfile::tempdir().unwrap();
    let imatrix = Imatrix::open(golden("tiny.gguf")).unwrap();
    for (name, layout) in [("tiny.gguf", Layout::Gguf), ("tiny.dat", Layout::Legacy)] {
        let path = dir.path().join(name);
        assert_eq!(Layout::of_path(&path), layout);
        imatrix.write(&path, layout, false).unwrap();
        assert!(std::fs::read(&path).unwrap() == std::fs::read(golden(name)).unwrap(), "{name}");
        assert!(matches!(imatrix.write(&path, layout, false), Err(Error::Exists { .. })));
    }
}

#[test]
fn legacy_files_become_gguf_with_the_same_means() {
    let dir = tempfile::tempdir().unwrap();
    let legacy = Imatrix::open(golden("tiny.dat")).unwrap();
    let path = dir.path().join("new.gguf");
    legacy.write(&path, Layout::Gguf, false).unwrap();
    let read = Imatrix::open(&path).unwrap();
    assert_eq!((read.chunk_size, read.chunk_count), (512, 2));
    for (name, entry) in &legacy.entries {
        assert_eq!(entry.means(), read.entries[name].means());
    }
    legacy.write(dir.path().join("again.dat"), Layout::Legacy, false).unwrap();
    assert!(std::fs::read(dir.path().join("again.dat")).unwrap() == std::fs::read(golden("tiny.dat")).unwrap());
}

#[test]
fn another_model_is_noticed() {
    let imatrix = Imatrix::open(golden("tiny.gguf")).unwrap();
    assert_eq!(imatrix.importance("blk.0.attn_q.weight", 32).unwrap().len(), 32);
    let experts = imatrix.expert_importance("blk.0.ffn_down_exps.weight", 64, 24).unwrap();
    assert_eq!(experts.len(), 64 * 24);
    for error in [
        imatrix.importance("blk.1.attn_q.weight", 32).unwrap_err(),
        imatrix.importance("blk.0.attn_q.weight", 64).unwrap_err(),
        imatrix.importance("blk.0.ffn_down_exps.weight", 64).unwrap_err(),
        imatrix.expert_importance("blk.0.attn_q.weight", usize::MAX, 2).unwrap_err(),
    ] {
        assert!(matches!(error, Lie::NoEntry { .. } | Lie::Columns { .. }), "{error}");
        assert!(error.to_string().contains("blk."), "{error}");
    }
}

/// An imatrix in GGUF, ready to be made false.
fn file(datasets: bool, tensors: &[(&str, &[u64])], values: &[f32]) -> Vec<u8> {
    let mut file = Gguf::new().entry("general.type", 8, &string(b"imatrix"));
    if datasets {
        file = file.entry("imatrix.datasets", 9, &array(8, 0, &[]));
    }
    file = file.entry("imatrix.chunk_count", 4, &1u32.to_le_bytes());
    file = file.entry("imatrix.chunk_size", 4, &512u32.to_le_bytes());
    for (index, (name, shape)) in tensors.iter().enumerate() {
        file = file.tensor(name, shape, 0, 32 * index as u64);
    }
    let mut bytes = file.build();
    let mut data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    data.resize(32 * tensors.len(), 0);
    bytes.extend(data);
    bytes
}

const PAIR: [(&str, &[u64]); 2] = [("w.in_sum2", &[8, 1]), ("w.counts", &[1, 1])];

fn pair(sum: f32, count: f32) -> Vec<u8> {
    let mut values = [1.0; 9];
    (values[3], values[8]) = (sum, count);
    file(true, &PAIR, &values)
}

/// One entry of the legacy layout.
fn entry(length: i32, name: &[u8], chunks: i32, values: i32, floats: &[f32]) -> Vec<u8> {
    let floats = floats.iter().flat_map(|value| value.to_le_bytes());
    let mut bytes = [&length.to_le_bytes(), name, &chunks.to_le_bytes(), &values.to_le_bytes()].concat();
    bytes.extend(floats);
    bytes
}

fn legacy(entries: i32, parts: &[Vec<u8>]) -> Vec<u8> {
    [&entries.to_le_bytes()[..], &parts.concat()].concat()
}

fn small() -> Vec<u8> {
    entry(1, b"w", 2, 3, &[1.0, 2.0, 3.0])
}

#[test]
fn the_smallest_true_files_are_read() {
    let imatrix = Imatrix::parse(&pair(4.0, 2.0)).unwrap();
    assert_eq!(imatrix.importance("w", 8).unwrap()[3], 2.0);
    let imatrix = Imatrix::parse(&legacy(1, &[small()])).unwrap();
    assert_eq!(imatrix.importance("w", 3).unwrap(), [0.5, 1.0, 1.5]);
    let tail = [7i32.to_le_bytes(), 2i32.to_le_bytes()].concat();
    let imatrix = Imatrix::parse(&legacy(1, &[small(), tail, b"ab".to_vec()])).unwrap();
    assert_eq!((imatrix.chunk_count, &imatrix.datasets[..]), (7, &["ab".to_string()][..]));
    assert_eq!(Imatrix::parse(&legacy(1, &[entry(1, b"w", 0, 1, &[3.0])])).unwrap().importance("w", 1).unwrap(), [3.0]);
}

macro_rules! lies {
    ($($name:ident: $bytes:expr => $pattern:pat,)*) => {$(
        #[test]
        fn $name() {
            let error = Imatrix::parse(&$bytes).unwrap_err();
            assert!(matches!(error, $pattern), "{error:?}");
            assert!(error.to_string().len() > 15);
        }
    )*};
}

lies! {
    an_empty_file: [] => Lie::Truncated { needed: 4, left: 0, .. },
    a_model_for_an_imatrix: support::valid_gguf() => Lie::NotImatrix { .. },
    a_broken_gguf: *b"GGUF\x03\0\0\0" => Lie::Gguf(_),
    a_missing_key: file(false, &PAIR, &[1.0; 9]) => Lie::Key { key: "imatrix.datasets", .. },
    no_tensors: file(true, &[], &[]) => Lie::Empty,
    only_other_tensors: file(true, &[("w.in_sum", &[8])], &[]) => Lie::Empty,
    sums_without_counts: file(true, &PAIR[..1], &[]) => Lie::Partner { missing: "counts", .. },
    counts_without_sums: file(true, &PAIR[1..], &[]) => Lie::Partner { missing: "in_sum2", .. },
    sums_of_another_type: Gguf::new()
        .entry("general.type", 8, &string(b"imatrix"))
        .entry("imatrix.datasets", 9, &array(8, 0, &[]))
        .entry("imatrix.chunk_count", 4, &[0; 4])
        .entry("imatrix.chunk_size", 4, &[0; 4])
        .tensor("w.in_sum2", &[8], 1, 0).data(16).build() => Lie::Type { .. },
    counts_that_do_not_divide: file(true, &[PAIR[0], ("w.counts", &[1, 3])], &[1.0; 16]) => Lie::Counts { values: 8, counts: 3, .. },
    a_sum_that_is_no_number: pair(f32::NAN, 1.0) => Lie::Value { index: 3, .. },
    a_sum_that_is_infinite: pair(f32::INFINITY, 1.0) => Lie::Value { index: 3, .. },
    a_negative_sum: pair(-1.0, 1.0) => Lie::Value { index: 3, .. },
    a_count_that_is_no_number: pair(1.0, f32::NAN) => Lie::Count { index: 0, .. },
    a_negative_count: pair(1.0, -2.0) => Lie::Count { index: 0, .. },
    an_absurd_count: pair(1.0, 1e30) => Lie::Count { index: 0, .. },
    text_for_an_imatrix: *b"# Not an imatrix but a page of text" => Lie::Entries { .. },
    no_layers: legacy(0, &[]) => Lie::Empty,
    negative_layers: legacy(-1, &[small()]) => Lie::Entries { found: -1, .. },
    more_layers_than_bytes: legacy(9, &[small()]) => Lie::Entries { found: 9, .. },
    a_name_without_length: legacy(1, &[entry(0, b"", 1, 1, &[1.0; 3])]) => Lie::NameLength { found: 0, entry: 1, .. },
    a_name_of_negative_length: legacy(1, &[entry(-5, b"", 1, 1, &[1.0; 3])]) => Lie::NameLength { found: -5, .. },
    a_name_beyond_the_file: legacy(1, &[entry(i32::MAX, b"w", 1, 1, &[1.0])]) => Lie::Truncated { what: "the name", .. },
    a_name_that_is_not_utf8: legacy(1, &[entry(1, &[0xff], 1, 1, &[1.0])]) => Lie::NameUtf8 { entry: 1, at: 8 },
    negative_chunks: legacy(1, &[entry(1, b"w", -1, 1, &[1.0])]) => Lie::Negative { found: -1, .. },
    no_values: legacy(1, &[entry(1, b"w", 1, 0, &[1.0])]) => Lie::Values { found: 0, .. },
    negative_values: legacy(1, &[entry(1, b"w", 1, -3, &[1.0])]) => Lie::Values { found: -3, .. },
    values_beyond_the_file: legacy(1, &[entry(1, b"w", 1, i32::MAX, &[1.0])]) => Lie::Truncated { what: "the values", .. },
    a_value_that_is_no_number: legacy(1, &[entry(1, b"w", 1, 2, &[1.0, f32::NAN])]) => Lie::Value { index: 1, .. },
    a_layer_twice: legacy(2, &[small(), small()]) => Lie::Duplicate { .. },
    a_second_layer_missing: legacy(2, &[entry(1, b"w", 1, 9, &[1.0; 9])]) => Lie::Truncated { entry: 2, .. },
    negative_chunks_in_all: legacy(1, &[small(), vec![0xff; 4]]) => Lie::Negative { .. },
    a_dataset_of_negative_length: legacy(1, &[small(), vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]]) => Lie::Negative { .. },
    a_dataset_beyond_the_file: legacy(1, &[small(), vec![1, 0, 0, 0, 9, 0, 0, 0]]) => Lie::Truncated { .. },
    bytes_after_the_end: legacy(1, &[small(), vec![0; 9]]) => Lie::Trailing { left: 1, .. },
}

#[test]
fn every_truncation_is_refused() {
    for name in ["tiny.gguf", "tiny.dat"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        // Files may end after the last layer, or after the number of chunks.
        let complete = if name == "tiny.dat" { vec![bytes.len() - 23, bytes.len() - 19] } else { vec![] };
        let data_end = if name == "tiny.dat" { bytes.len() } else { bytes.len() - 31 };
        for length in (0..data_end).filter(|length| length % 7 == 0 || *length > data_end - 64) {
            assert_eq!(Imatrix::parse(&bytes[..length]).is_ok(), complete.contains(&length), "{name}: {length} bytes");
        }
    }
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("liar.dat");
    std::fs::write(&path, legacy(2, &[small(), small()])).unwrap();
    let error = Imatrix::open(&path).unwrap_err();
    assert!(matches!(error, Error::Imatrix { lie: Lie::Duplicate { .. }, .. }), "{error}");
    assert!(error.to_string().contains("liar.dat"), "{error}");
    assert!(matches!(Imatrix::open(dir.path()), Err(Error::Io { .. })));
    assert!(matches!(Imatrix::open(dir.path().join("absent")), Err(Error::Io { action: "open", .. })));
}

#[test]
fn nothing_false_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let with = |name: &str, sums: Vec<f32>, counts: Vec<u64>| {
        let mut imatrix = Imatrix { chunk_size: 512, ..Imatrix::default() };
        imatrix.entries.insert(name.into(), Entry { sums, counts });
        imatrix
    };
    let refused = [
        Imatrix::default(),
        with("w", vec![1.0; 4], vec![]),
        with("w", vec![], vec![1]),
        with("w", vec![1.0; 4], vec![1; 3]),
        with("w", vec![f32::NAN], vec![1]),
    ];
    for imatrix in refused {
        for layout in [Layout::Gguf, Layout::Legacy] {
            let error = imatrix.write(dir.path().join("out"), layout, false).unwrap_err();
            assert!(matches!(error, Error::Imatrix { .. }), "{error}");
        }
    }
    let long = with(&"n".repeat(60), vec![1.0], vec![1]);
    assert!(matches!(long.write(dir.path().join("out"), Layout::Gguf, false), Err(Error::Gguf { .. })));
    let many = with("w", vec![1.0], vec![1 << 50]);
    let error = many.write(dir.path().join("out"), Layout::Legacy, false).unwrap_err();
    assert!(matches!(error, Error::Imatrix { lie: Lie::LegacyLimit { .. }, .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn any_imatrix() -> impl Strategy<Value = Imatrix> {
    let entry = (1usize..4, 1usize..9).prop_flat_map(|(experts, cols)| {
        let sums = prop::collection::vec(0.0f32..1e6, experts * cols);
        (sums, prop::collection::vec(0u64..1 << 24, experts)).prop_map(|(sums, counts)| Entry { sums, counts })
    });
    let entries = prop::collection::btree_map("[a-z.é]{1,12}", entry, 1..5);
    let datasets = prop::collection::vec("[ -~]{0,20}", 0..3);
    (entries, datasets, 0u32..1 << 20, 1u32..1 << 16).prop_map(|(entries, datasets, chunk_count, chunk_size)| Imatrix {
        entries,
        datasets,
        chunk_count,
        chunk_size,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn gguf_comes_back_as_it_was(imatrix in any_imatrix()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.gguf");
        imatrix.write(&path, Layout::Gguf, false).unwrap();
        prop_assert_eq!(Imatrix::open(&path).unwrap(), imatrix);
    }

    #[test]
    fn any_bytes_are_an_imatrix_or_an_error(start in 0usize..3, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let start: &[u8] = [&b""[..], b"GGUF\x03\0\0\0", &[1, 0, 0, 0, 2, 0, 0, 0]][start];
        if let Ok(imatrix) = Imatrix::parse(&[start, &bytes].concat()) {
            prop_assert!(!imatrix.entries.is_empty());
        }
    }
}
