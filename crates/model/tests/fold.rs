//! Folded models: served like any other, by rows or whole, nested or not, and refused where a fold does not fit.

use brevity_formats::TensorType;
use brevity_model::fold::{Clip, Fold, Folds, Rotation};
use brevity_model::{Error, ModelSource, Role, TensorKind};
use std::path::Path;
use std::sync::Arc;

fn golden(name: &str) -> Arc<ModelSource> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    Arc::new(ModelSource::open(path).unwrap())
}

fn rows(source: &ModelSource, role: Role) -> Vec<f32> {
    let entry = source.require(role).unwrap();
    source.read_rows_f32(entry, 0..entry.rows).unwrap()
}

/// A fold of each kind.
fn folds(source: &ModelSource, kind: TensorKind) -> Folds {
    let entry = source.require(Role::block(0, kind)).unwrap();
    let ramp = |count: usize| (0..count).map(|i| 0.5 + i as f32 / count as f32).collect::<Vec<f32>>();
    let mut folds = Folds::new();
    *folds.entry(entry.role) = Fold {
        columns: Some(ramp(entry.cols)),
        rows: Some(ramp(entry.rows)),
        right: Some(Arc::new(Rotation::new(8, Some(1)))),
        left: Some(Arc::new(Rotation::new(entry.rows, Some(2)))),
        ..Fold::default()
    };
    folds
}

#[test]
fn rows_come_alone_as_in_the_whole() {
    for model in ["llama2", "smollm2", "gpt2"] {
        let original = golden(model);
        let mut folds = folds(&original, TensorKind::FfnUp);
        let down = Role::block(1, TensorKind::FfnDown);
        folds.entry(down).right = Some(Arc::new(Rotation::new(16, None)));
        let folded = ModelSource::folded(Arc::clone(&original), folds).unwrap();
        for role in [Role::block(0, TensorKind::FfnUp), down] {
            let whole = rows(&folded, role);
            assert_ne!(whole, rows(&original, role));
            let entry = folded.require(role).unwrap();
            assert_eq!((entry.ty, entry.is_packed()), (TensorType::F32, false));
            let some = folded.read_rows_f32(entry, 3..5).unwrap();
            assert_eq!(some, whole[3 * entry.cols..5 * entry.cols]);
            let raw = folded.read_raw_rows(entry, 3..5).unwrap();
            let words: Vec<f32> = raw.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
            assert_eq!(words, some);
        }
        // Everything else is as it was, transposed layouts too.
        for entry in original.tensors().iter().filter(|entry| entry.role.layer == Some(1) && entry.role != down) {
            let same = folded.require(entry.role).unwrap();
            assert_eq!((same.ty, same.rows, same.bytes), (entry.ty, entry.rows, entry.bytes));
            assert_eq!(rows(&folded, entry.role), rows(&original, entry.role), "{}", entry.name);
        }
    }
}

#[test]
fn folds_nest_and_are_told_apart() {
    let original = golden("llama2");
    let role = Role::block(0, TensorKind::FfnUp);
    let scale = |factor: f32| {
        let mut folds = Folds::new();
        folds.entry(role).rows = Some(vec![factor; original.require(role).unwrap().rows]);
        folds
    };
    let once = Arc::new(ModelSource::folded(Arc::clone(&original), scale(4.0)).unwrap());
    let twice = ModelSource::folded(Arc::clone(&once), scale(0.25)).unwrap();
    assert_eq!(rows(&twice, role), rows(&original, role));
    let other = ModelSource::folded(Arc::clone(&original), scale(0.25)).unwrap();
    let digests = [original.fold_digest(), once.fold_digest(), twice.fold_digest(), other.fold_digest()];
    for (i, a) in digests.iter().enumerate() {
        assert!(digests[..i].iter().all(|b| a != b), "{digests:?}");
    }
}

#[test]
fn a_tied_head_becomes_one_of_its_own() {
    let original = golden("smollm2");
    assert!(original.config().tied);
    let mut folds = Folds::new();
    folds.untie = true;
    let untied = ModelSource::folded(Arc::clone(&original), folds).unwrap();
    assert!(!untied.config().tied);
    let embedding = rows(&original, Role::global(TensorKind::TokenEmbedding));
    assert_eq!(rows(&untied, Role::global(TensorKind::Output)), embedding);
    assert_eq!(untied.tensors().len(), original.tensors().len() + 1);
}

#[test]
fn folds_that_do_not_fit_are_refused() {
    let original = golden("llama2");
    let role = Role::block(0, TensorKind::FfnUp);
    let refused = |fold: Fold| {
        let mut folds = Folds::new();
        *folds.entry(role) = fold;
        let error = ModelSource::folded(Arc::clone(&original), folds).err().expect("an error");
        assert!(matches!(&error, Error::Argument { what, .. } if what.contains("ffn_up")), "{error}");
    };
    refused(Fold { columns: Some(vec![1.0]), ..Fold::default() });
    refused(Fold { rows: Some(vec![f32::NAN; 48]), ..Fold::default() });
    refused(Fold { values: Some(vec![1.0; 48]), ..Fold::default() });
    refused(Fold { right: Some(Arc::new(Rotation::new(7, None))), ..Fold::default() });
    refused(Fold { clip: Some(Clip { group: 16, most: vec![1.0; 48] }), ..Fold::default() });
    refused(Fold { clip: Some(Clip { group: 0, most: vec![-1.0; 48] }), ..Fold::default() });
    let mut folds = Folds::new();
    folds.entry(Role::block(99, TensorKind::FfnUp)).rows = Some(vec![1.0]);
    let error = ModelSource::folded(original, folds).err().expect("an error").to_string();
    assert!(error.contains("blk.99"), "{error}");
}
