//! Every fold on every architecture: the function stays, what the search promises holds, bad input is refused.

#[path = "support/hessians.rs"]
mod hessians;

use brevity_kernels::pool;
use brevity_model::arch::NormKind;
use brevity_model::{Folds, ModelSource, Role, TensorKind, stream};
use brevity_weights::fold::{Awq, FoldJob, FoldMethod, FoldOutcome, Rotate};
use brevity_weights::{Error, Level, Statistics, registry};
use hessians::{EXACT, Hessians};
use std::path::Path;
use std::sync::Arc;

const MODELS: [&str; 8] = ["llama2", "llama3", "llama-linear", "mistral", "smollm2", "qwen2", "qwen3", "gpt2"];
const LEVEL: Level = Level::Integer { bits: 3, group: 32 };

fn golden(name: &str) -> Arc<ModelSource> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name);
    Arc::new(ModelSource::open(path).unwrap())
}

fn windows(source: &ModelSource, seed: u64) -> Vec<Vec<u32>> {
    let mut state = seed;
    let mut token = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32 % source.config().vocab as u32
    };
    let length = source.config().context.min(48);
    (0..4).map(|_| (0..length).map(|_| token()).collect()).collect()
}

fn calibrate(source: &ModelSource) -> Hessians {
    Hessians::collect(source.config(), source, &windows(source, 1))
}

fn job<'a>(source: &'a ModelSource, statistics: &'a dyn Fn(Role) -> Statistics) -> FoldJob<'a> {
    let layers = 0..source.config().layers();
    FoldJob { source, layers, statistics, level: &|_| Some(LEVEL), nearest: false }
}

fn fold(method: &dyn FoldMethod, source: &ModelSource) -> Result<FoldOutcome, Error> {
    let hessians = calibrate(source);
    method.fold(&job(source, &|role| hessians.statistics(role)))
}

fn logits(source: &ModelSource) -> Vec<f32> {
    let mut all = Vec::new();
    stream::run(source.config(), source, &windows(source, 2), EXACT, None, &mut |_, _, rows| {
        (0..rows.rows()).for_each(|row| all.extend_from_slice(rows.row(row)));
        Ok(())
    })
    .unwrap();
    all
}

fn same_function(a: &ModelSource, b: &ModelSource, what: &str) {
    let (a, b) = (logits(a), logits(b));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let size = a.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    assert!(worst < 2e-5 * size, "{what}: {worst} of {size}");
    assert!(worst > 0.0, "{what}: something was folded");
}

#[test]
fn cards_are_complete_and_names_are_unique() {
    let cards = registry::cards();
    for (index, card) in cards.iter().enumerate() {
        assert_eq!(card.problems(), Vec::<String>::new());
        assert!(cards[..index].iter().all(|other| other.name != card.name));
    }
    assert!(registry::folds().iter().all(|fold| cards.iter().any(|card| card.name == fold.card().name)));
}

#[test]
fn outputs_stay_and_folds_chain() {
    for model in MODELS {
        let original = golden(model);
        let mut last = Arc::clone(&original);
        for method in registry::folds() {
            if method.check(original.config()).is_err() {
                continue;
            }
            let what = format!("{model}, {}", method.card().name);
            let folded = ModelSource::folded(Arc::clone(&original), fold(*method, &original).unwrap().folds).unwrap();
            same_function(&original, &folded, &what);
            last = Arc::new(ModelSource::folded(Arc::clone(&last), fold(*method, &last).unwrap().folds).unwrap());
            same_function(&original, &last, &format!("{what}, chained"));
        }
    }
}

#[test]
fn awq_ends_above_plain_rounding_in_no_group() {
    let mut gained = 0;
    for model in MODELS {
        let source = golden(model);
        let outcome = fold(&Awq::DEFAULT, &source).unwrap();
        assert_eq!(outcome.groups.len(), 4 * source.config().layers());
        for group in &outcome.groups {
            assert!(group.after <= group.before && group.before > 0.0, "{model}: {group:?}");
            gained += usize::from(group.after < 0.97 * group.before);
        }
    }
    assert!(gained > 20, "{gained} groups gained");
}

#[test]
fn what_awq_reports_is_what_rounding_the_folded_model_gives() {
    use brevity_weights::WeightMethod;
    use brevity_weights::quantize::RoundToNearest;
    let source = golden("llama2");
    let hessians = calibrate(&source);
    let statistics = |role| hessians.statistics(role);
    let outcome = Awq::DEFAULT.fold(&FoldJob { nearest: true, ..job(&source, &statistics) }).unwrap();
    let folded = ModelSource::folded(Arc::clone(&source), outcome.folds.clone()).unwrap();
    for group in &outcome.groups {
        let (mut error, mut energy) = (0.0f64, 0.0f64);
        for entry in source.tensors() {
            let site = brevity_model::taps::Site { layer: Some(group.layer), place: group.place };
            if brevity_model::taps::Site::of(entry.role) != Some(site) {
                continue;
            }
            let read = |source: &ModelSource| {
                let entry = source.require(entry.role).unwrap();
                let values = source.read_rows_f32(entry, 0..entry.rows).unwrap();
                brevity_kernels::Matrix::from_vec(entry.rows, entry.cols, values)
            };
            let (w, changed) = (read(&source), read(&folded));
            let rounded =
                RoundToNearest.compress(&changed, &Statistics::default(), LEVEL).unwrap().dequantize().unwrap();
            let fold = outcome.folds.get(entry.role);
            let hessian = statistics(entry.role).hessian.unwrap();
            let factor =
                |values: Option<&Vec<f32>>, index: usize| values.map_or(1.0, |values| f64::from(values[index]));
            for row in 0..w.rows() {
                // Back to the coordinates of the original.
                let restored: Vec<f64> = (0..w.cols())
                    .map(|col| {
                        let scale = factor(fold.and_then(|f| f.columns.as_ref()), col)
                            * factor(fold.and_then(|f| f.rows.as_ref()), row);
                        f64::from(rounded.row(row)[col]) / scale
                    })
                    .collect();
                let form = |e: &dyn Fn(usize) -> f64| -> f64 {
                    let h = |i: usize, j: usize| f64::from(hessian.matrix().row(i)[j]);
                    (0..w.cols())
                        .flat_map(|i| (0..w.cols()).map(move |j| (i, j)))
                        .map(|(i, j)| e(i) * h(i, j) * e(j))
                        .sum()
                };
                error += form(&|col| f64::from(w.row(row)[col]) - restored[col]);
                energy += form(&|col| f64::from(w.row(row)[col]));
            }
        }
        let found = error / energy;
        // Rows that are scaled for the next group round a little differently: scales are half floats.
        assert!((found - group.after).abs() < 0.05 * group.after, "{group:?}: {found}");
    }
}

#[test]
fn clipping_helps_where_rounding_follows() {
    let mut clipped = 0;
    for model in MODELS {
        let source = golden(model);
        let hessians = calibrate(&source);
        let statistics = |role| hessians.statistics(role);
        let plain = Awq { clip: false, ..Awq::DEFAULT };
        let job = FoldJob { nearest: true, ..job(&source, &statistics) };
        let (with, without) = (Awq::DEFAULT.fold(&job).unwrap(), plain.fold(&job).unwrap());
        for (with, without) in with.groups.iter().zip(&without.groups) {
            assert!(with.after <= without.after && with.alpha == without.alpha);
        }
        clipped += with.folds.iter().filter(|(_, fold)| fold.clip.is_some()).count();
        assert!(without.folds.iter().all(|(_, fold)| fold.clip.is_none()));
        let queries = [TensorKind::AttnQ, TensorKind::AttnK];
        assert!(with.folds.iter().all(|(role, fold)| !queries.contains(&role.kind) || fold.clip.is_none()));
    }
    assert!(clipped > 10, "{clipped}");
}

#[test]
fn without_statistics_awq_folds_nothing_and_moments_alone_do() {
    let source = golden("qwen3");
    let nothing = Awq::DEFAULT.fold(&job(&source, &|_| Statistics::default())).unwrap();
    assert_eq!(nothing, FoldOutcome::default());
    let hessians = calibrate(&source);
    let moments = |role| Statistics { hessian: None, ..hessians.statistics(role) };
    let outcome = Awq::DEFAULT.fold(&job(&source, &moments)).unwrap();
    assert!(outcome.groups.iter().any(|group| group.alpha > 0.0 && group.after < group.before));
    let kept = FoldJob { level: &|_| None, ..job(&source, &moments) };
    assert_eq!(Awq::DEFAULT.fold(&kept).unwrap().folds, Folds::new());
}

#[test]
fn layers_come_alone_as_together_and_threads_change_nothing() {
    let before = pool::threads();
    for model in ["llama2", "qwen2"] {
        let source = golden(model);
        let hessians = calibrate(&source);
        let statistics = |role| hessians.statistics(role);
        for method in registry::folds() {
            pool::set_threads(1);
            let whole = method.fold(&FoldJob { nearest: true, ..job(&source, &statistics) }).unwrap();
            pool::set_threads(3);
            let mut folds = Folds::new();
            for layer in 0..source.config().layers() {
                let job = FoldJob { nearest: true, layers: layer..layer + 1, ..job(&source, &statistics) };
                folds.merge(method.fold(&job).unwrap().folds);
            }
            assert!(folds == whole.folds && folds.digest() == whole.folds.digest());
        }
    }
    pool::set_threads(before);
}

#[test]
fn rotation_spreads_outliers_and_unties_only_where_it_must() {
    let source = golden("smollm2");
    let outcome = fold(&Rotate::DEFAULT, &source).unwrap();
    assert!(outcome.folds.untie);
    // Once the last norm is absorbed nothing stands in the way of one matrix.
    let mut flat = Folds::new();
    let norm = Role::global(TensorKind::OutputNorm);
    flat.entry(norm).values = Some(vec![2.0; source.config().hidden]);
    let flat = Arc::new(ModelSource::folded(source, flat).unwrap());
    let outcome = fold(&Rotate::DEFAULT, &flat).unwrap();
    assert!(!outcome.folds.untie);
    let folded = ModelSource::folded(Arc::clone(&flat), outcome.folds).unwrap();
    assert!(folded.config().tied);
    same_function(&flat, &folded, "tied");

    let source = golden("llama2");
    let up = Role::block(0, TensorKind::FfnUp);
    let cols = source.require(up).unwrap().cols;
    let mut outlier = Folds::new();
    outlier.entry(up).columns = Some((0..cols).map(|col| if col == 5 { 40.0 } else { 1.0 }).collect());
    let source = Arc::new(ModelSource::folded(source, outlier).unwrap());
    let folded = ModelSource::folded(Arc::clone(&source), fold(&Rotate::DEFAULT, &source).unwrap().folds).unwrap();
    let peak = |source: &ModelSource| {
        let entry = source.require(up).unwrap();
        let row = source.read_rows_f32(entry, 0..1).unwrap();
        let energy: f32 = row.iter().map(|value| value * value).sum();
        row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / (energy / row.len() as f32).sqrt()
    };
    assert!(peak(&folded) < 0.6 * peak(&source), "{} {}", peak(&folded), peak(&source));
}

#[test]
fn models_and_statistics_that_do_not_fit_are_refused() {
    let source = golden("gpt2");
    assert_eq!(source.config().norm, NormKind::Layer);
    let error = fold(&Rotate::DEFAULT, &source).err().unwrap();
    assert!(matches!(&error, Error::NoFold { .. }) && error.to_string().contains("RMS"), "{error}");
    let wrong = |_| Statistics { second_moments: vec![1.0; 3], ..Statistics::default() };
    assert!(matches!(Awq::DEFAULT.fold(&job(&source, &wrong)), Err(Error::StatisticsShape { found: 3, .. })));
    let absent = FoldJob { layers: 90..91, ..job(&source, &wrong) };
    assert_eq!(Awq::DEFAULT.fold(&absent).unwrap(), FoldOutcome::default());
    let source = golden("llama2");
    let absent = FoldJob { layers: 90..91, ..job(&source, &wrong) };
    assert!(matches!(Rotate::DEFAULT.fold(&absent), Err(Error::Model(_))));
}
