//! The matrix test: every registered method on every level that it supports, held to what all methods promise.

use brevity_formats::TensorType;
use brevity_kernels::{Matrix, pool};
use brevity_parts::{Activation, CompressedMatrix, Input};
use brevity_weights::database::relative_error;
use brevity_weights::{Hessian, Level, Needs, Statistics, Sum, WeightMethod, registry};
use std::sync::{Arc, LazyLock};

const COLS: usize = 512;

/// Weights like a model's: roughly normal, scales that differ by column, a few outliers.
fn weights(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut normal = move || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    let mut matrix = Matrix::zeros(rows, cols);
    for row in 0..rows {
        for (col, value) in matrix.row_mut(row).iter_mut().enumerate() {
            let outlier = if (row * 31 + col * 17) % 997 == 0 { 8.0 } else { 1.0 };
            *value = 0.02 * normal() * outlier * (1.0 + (col % 7) as f32 / 4.0);
        }
    }
    matrix
}

fn levels() -> Vec<Level> {
    let types = TensorType::all().filter(|ty| ty.writable() && ty.ggml_id().is_some()).map(Level::Type);
    let groups = [0, 32, 64, 128];
    let integers = (2..=8).flat_map(|bits| groups.map(|group| Level::Integer { bits, group }));
    let sums = SUMS.iter().flat_map(|family| family.iter().map(|text| Level::parse(text).unwrap()));
    types.chain(integers).chain(sums).collect()
}

/// Sums of parts, each line of one method with more and more bytes.
const SUMS: [&[&str]; 8] = [
    &["spqr:2:16:100", "spqr:3:16:100", "spqr:4:16:100", "spqr:6:16:100"],
    &["spqr:3:16:0", "spqr:3:16:50", "spqr:3:16:100", "spqr:3:16:400"],
    &["spqr:3:64:100", "spqr:3:32:100", "spqr:3:16:100"],
    &["int8:columns:0", "int8:columns:6", "int8:columns:100", "int8:columns:1000"],
    &["rank:100", "rank:250", "rank:500", "rank:1000"],
    &["turned:q2_k", "turned:q3_k", "turned:q4_k", "turned:q6_k", "turned:q8_0"],
    &["turned:int2:64", "turned:int3:64", "turned:int4:64", "turned:int6:64"],
    &["stack:1:4", "stack:2:4", "stack:3:4", "stack:5:4", "stack:8:4"],
];

fn each(check: impl Fn(&'static dyn WeightMethod, Level)) {
    for method in registry::methods() {
        for level in levels().into_iter().filter(|level| method.supports(*level)) {
            check(*method, level);
        }
    }
}

/// Inputs that are correlated, of very different sizes, some of them dead.
static CALIBRATED: LazyLock<Statistics> = LazyLock::new(|| {
    let (tokens, mixed) = (2 * COLS, COLS / 4);
    let (sources, mixing) = (weights(tokens, mixed, 11), weights(mixed, COLS, 12));
    let mut inputs = weights(tokens, COLS, 13);
    for token in 0..tokens {
        for (source, value) in sources.row(token).iter().enumerate() {
            let row = inputs.row_mut(token).iter_mut().zip(mixing.row(source));
            row.for_each(|(input, factor)| *input += 20.0 * value * factor);
        }
        inputs.row_mut(token).iter_mut().skip(3).step_by(100).for_each(|dead| *dead = 0.0);
    }
    let mut matrix = Matrix::zeros(COLS, COLS);
    for token in 0..tokens {
        let x = inputs.row(token).to_vec();
        for (row, factor) in x.iter().enumerate() {
            let sums = matrix.row_mut(row).iter_mut().zip(&x);
            sums.for_each(|(sum, value)| *sum += factor * value / tokens as f32);
        }
    }
    let hessian = Hessian::new(matrix, tokens as u64).unwrap();
    Statistics { second_moments: hessian.diagonal(), hessian: Some(Arc::new(hessian)), tokens: tokens as u64 }
});

/// What calibration gives a method: what it asks for.
fn statistics(method: &dyn WeightMethod) -> &'static Statistics {
    static NOTHING: LazyLock<Statistics> = LazyLock::new(Statistics::default);
    static MOMENTS: LazyLock<Statistics> = LazyLock::new(|| Statistics { hessian: None, ..CALIBRATED.clone() });
    match method.needs() {
        Needs::Nothing => &NOTHING,
        Needs::SecondMoments => &MOMENTS,
        Needs::Hessian => &CALIBRATED,
    }
}

fn compress(method: &dyn WeightMethod, w: &Matrix, level: Level) -> brevity_parts::StoredMatrix {
    method.compress(w, statistics(method), level).unwrap_or_else(|error| panic!("{level}: {error}"))
}

/// The error that a method makes small: the outputs', if it knows the inputs.
fn loss(method: &dyn WeightMethod, w: &Matrix, restored: &Matrix) -> f64 {
    let Some(hessian) = &statistics(method).hessian else {
        return relative_error(w, restored, statistics(method).importance(COLS).unwrap()).unwrap();
    };
    let mut sum = 0.0;
    for row in 0..w.rows() {
        let error: Vec<f32> = w.row(row).iter().zip(restored.row(row)).map(|(a, b)| a - b).collect();
        for (index, e) in error.iter().enumerate() {
            let dot: f32 = hessian.matrix().row(index).iter().zip(&error).map(|(h, e)| h * e).sum();
            sum += f64::from(e * dot);
        }
    }
    sum
}

#[test]
fn cards_are_complete_and_names_are_unique() {
    let mut names = Vec::new();
    for method in registry::methods() {
        assert_eq!(method.card().problems(), Vec::<String>::new());
        names.push(method.card().name);
        assert_eq!(registry::method(method.card().name).unwrap().card().name, method.card().name);
    }
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(registry::method("no such method").err().unwrap().to_string().contains(names[0]));
}

#[test]
fn counted_bits_are_written_bytes_and_what_the_level_says() {
    let w = weights(24, COLS, 1);
    each(|method, level| {
        let stored = compress(method, &w, level);
        assert_eq!((stored.rows, stored.cols), (24, COLS));
        let written: usize = stored.fields().iter().map(|field| field.bytes.len()).sum();
        assert_eq!(stored.bits(), 8 * written as u64, "{level}");
        assert!(stored.transform.is_none() || matches!(level, Level::Sum(Sum::Turned(_))), "{level}");
        assert_eq!(Some(written as u64), level.bytes(24, COLS), "{level}");
        if let Level::Sum(sum) = level {
            assert_eq!(sum.descriptor(24, COLS), stored.descriptor(), "{level}");
        }
    });
}

#[test]
fn what_is_stored_multiplies_like_what_it_stands_for() {
    let (w, x) = (weights(40, COLS, 2), weights(3, COLS, 3));
    each(|method, level| {
        let stored = compress(method, &w, level);
        let dense = stored.dequantize().unwrap();
        let packed = CompressedMatrix::pack(stored).unwrap();
        let mut y = Matrix::zeros(3, 40);
        packed.multiply(&Input::new(x.view(), Activation::F32), &mut y.view_mut(), false);
        for token in 0..3 {
            for row in 0..40 {
                let products = x.row(token).iter().zip(dense.row(row)).map(|(a, b)| f64::from(a * b));
                let exact: f64 = products.sum();
                assert!((exact - f64::from(y.row(token)[row])).abs() < 2e-5, "{level}");
            }
        }
    });
}

#[test]
fn more_bits_of_one_family_lose_less() {
    use TensorType::*;
    let w = weights(32, COLS, 4);
    let mut families = vec![
        vec![Q2K, Q3K, Q4K, Q5K, Q6K, Q8_0, F16].into_iter().map(Level::Type).collect::<Vec<_>>(),
        vec![Q4_0, Q5_0, Q8_0].into_iter().map(Level::Type).collect(),
        (2..=8).map(|bits| Level::Integer { bits, group: 64 }).collect(),
        [0, 128, 64, 32].map(|group| Level::Integer { bits: 4, group }).to_vec(),
    ];
    families.extend(SUMS.map(|family| family.iter().map(|text| Level::parse(text).unwrap()).collect()));
    for method in registry::methods() {
        for family in &families {
            let mut last = f64::INFINITY;
            for level in family.iter().filter(|level| method.supports(**level)) {
                let restored = compress(*method, &w, *level).dequantize().unwrap();
                let error = loss(*method, &w, &restored);
                assert!(error < last, "{} {level}: {error} after {last}", method.card().name);
                last = error;
            }
        }
    }
}

#[test]
fn rows_are_independent_where_the_method_says_so() {
    let w = weights(9, COLS, 5);
    each(|method, level| {
        if !method.rows_are_independent() {
            return;
        }
        let whole = compress(method, &w, level).dequantize().unwrap();
        for row in [0, 4, 8] {
            let one = Matrix::from_vec(1, COLS, w.row(row).to_vec());
            let alone = compress(method, &one, level).dequantize().unwrap();
            assert_eq!(alone.row(0), whole.row(row), "{level}");
        }
    });
}

#[test]
fn threads_change_nothing() {
    let w = weights(33, COLS, 6);
    let before = pool::threads();
    each(|method, level| {
        pool::set_threads(1);
        let one = compress(method, &w, level);
        pool::set_threads(3);
        assert_eq!(one, compress(method, &w, level), "{level}");
    });
    pool::set_threads(before);
}

#[test]
fn bad_input_is_refused() {
    each(|method, level| {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut w = weights(3, COLS, 7);
            w.row_mut(1)[100] = bad;
            if !matches!(level, Level::Type(TensorType::F32 | TensorType::F16 | TensorType::BF16)) {
                assert!(method.compress(&w, statistics(method), level).is_err(), "{level}");
            }
        }
        let narrow = weights(2, 48, 8);
        if level.bytes(2, 48).is_none() {
            assert!(method.compress(&narrow, &Statistics::default(), level).is_err(), "{level}");
        }
    });
    let wrong = Statistics { second_moments: vec![1.0; 3], tokens: 1, ..Statistics::default() };
    assert!(wrong.importance(COLS).is_err());
}

#[test]
fn zeros_stay_zeros() {
    let w = Matrix::zeros(2, COLS);
    each(|method, level| {
        let restored = compress(method, &w, level).dequantize().unwrap();
        assert!(restored.data().iter().all(|value| *value == 0.0), "{level}");
    });
}
