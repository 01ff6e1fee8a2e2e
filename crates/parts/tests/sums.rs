//! What holds for every part and for sums of them: multiplying equals dense to rounding, counted bits equal written bytes,
//! what was written comes back, bad fields are refused.

use brevity_formats::TensorType;
use brevity_formats::blocks;
use brevity_formats::grid::GridMatrix;
use brevity_kernels::Matrix;
use brevity_parts::{Activation, Bilevel, CompressedMatrix, Error, Input, StoredMatrix, StoredPart, Transform};
use half::f16;

/// A small generator, so that the tests need no dependency.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    }

    fn halves(&mut self, count: usize) -> Vec<f16> {
        (0..count).map(|_| f16::from_f32(self.next())).collect()
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| self.next()).collect())
    }

    fn byte(&mut self) -> u8 {
        (self.next() * 128.0 + 128.0) as u8
    }
}

fn dense(noise: &mut Noise, rows: usize, cols: usize, ty: TensorType) -> StoredPart {
    let values = noise.matrix(rows, cols);
    let mut bytes = vec![0; rows * ty.row_bytes(cols).unwrap()];
    blocks::quantize(ty, values.data(), None, &mut bytes).unwrap();
    match ty.is_quantized() {
        true => StoredPart::Blocks { ty, bytes },
        false => StoredPart::Dense { ty, bytes },
    }
}

fn grid(noise: &mut Noise, rows: usize, cols: usize, bits: u8, group: usize) -> StoredPart {
    let mask = ((1u16 << bits) - 1) as u8;
    let groups = rows * brevity_formats::grid::groups_per_row(cols, group);
    StoredPart::Grid(GridMatrix {
        bits,
        group,
        rows,
        cols,
        codes: (0..rows * cols).map(|_| noise.byte() & mask).collect(),
        scales: (0..groups).map(|_| f16::from_f32(0.1 + 0.05 * noise.next()).to_f32()).collect(),
        zeros: (0..groups).map(|_| noise.byte() & mask).collect(),
    })
}

fn low_rank(noise: &mut Noise, rows: usize, cols: usize, rank: usize) -> StoredPart {
    StoredPart::LowRank { rank, left: noise.halves(rows * rank), right: noise.halves(rank * cols) }
}

fn sparse(noise: &mut Noise, rows: usize, cols: usize) -> StoredPart {
    let mut offsets = vec![0u32];
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        for column in (0..cols).filter(|_| noise.next() > 0.9).collect::<Vec<_>>() {
            columns.push(column as u32);
            values.push(f16::from_f32(noise.next() * 4.0));
        }
        offsets.push(columns.len() as u32);
    }
    StoredPart::Sparse { offsets, columns, values }
}

fn sign_scale(noise: &mut Noise, rows: usize, cols: usize, rank: usize) -> StoredPart {
    let signs = (0..rows * cols.div_ceil(8)).map(|_| noise.byte()).collect();
    let gain = (rank > 1).then_some(0.25);
    StoredPart::SignScale { rank, signs, left: noise.halves(rows * rank), right: noise.halves(rank * cols), gain }
}

fn bilevel(noise: &mut Noise, rows: usize, cols: usize, bits: u8, group: usize) -> StoredPart {
    let groups = brevity_formats::grid::groups_per_row(cols, group);
    let mut codes = |count: usize, bits: u8| (0..count).map(|_| noise.byte() & ((1 << bits) - 1)).collect();
    let (codes, scales, zeros) = (codes(rows * cols, bits), codes(rows * groups, 3), codes(rows * groups, 3));
    let tile = |_| [0.02, 0.05, 0.3, 1.5].map(f16::from_f32);
    let statistics = (0..rows.div_ceil(8) * groups).map(tile).collect();
    StoredPart::Bilevel(Bilevel {
        bits,
        group,
        statistic_bits: 3,
        tile: 8,
        rows,
        cols,
        codes,
        scales,
        zeros,
        statistics,
    })
}

fn columns(noise: &mut Noise, rows: usize, cols: usize) -> StoredPart {
    let columns: Vec<u32> = (0..cols as u32).filter(|column| column % 11 == 3).collect();
    StoredPart::Columns { values: noise.halves(rows * columns.len()), columns }
}

fn every_kind(noise: &mut Noise, rows: usize, cols: usize) -> Vec<StoredPart> {
    let mut parts = vec![
        dense(noise, rows, cols, TensorType::F32),
        dense(noise, rows, cols, TensorType::F16),
        dense(noise, rows, cols, TensorType::BF16),
        low_rank(noise, rows, cols, 3),
        sparse(noise, rows, cols),
        sign_scale(noise, rows, cols, 1),
        sign_scale(noise, rows, cols, 2),
        columns(noise, rows, cols),
        bilevel(noise, rows, cols, 3, 16),
        bilevel(noise, rows, cols, 7, 48),
    ];
    for bits in 2..=8 {
        parts.push(grid(noise, rows, cols, bits, 64));
        parts.push(grid(noise, rows, cols, bits, 0));
        parts.push(grid(noise, rows, cols, bits, 16));
        parts.push(grid(noise, rows, cols, bits, 24));
    }
    for ty in TensorType::all().filter(|ty| ty.is_quantized() && ty.writable() && ty.row_bytes(cols).is_some()) {
        parts.push(dense(noise, rows, cols, ty));
    }
    parts
}

fn stored(rows: usize, cols: usize, parts: Vec<StoredPart>, transform: Option<Transform>) -> StoredMatrix {
    StoredMatrix { rows, cols, transform, parts }
}

/// Largest difference between `x·Wᵀ` by the parts and by dequantised weights in f64, over the largest output.
fn difference(matrix: &StoredMatrix, x: &Matrix, activation: Activation) -> f64 {
    let weights = matrix.dequantize().unwrap();
    let packed = CompressedMatrix::pack(matrix.clone()).unwrap();
    let mut y = Matrix::zeros(x.rows(), matrix.rows);
    packed.multiply(&Input::new(x.view(), activation), &mut y.view_mut(), false);
    let (mut worst, mut largest) = (0.0f64, 1e-30f64);
    for token in 0..x.rows() {
        for (row, &value) in y.row(token).iter().enumerate() {
            let pairs = x.row(token).iter().zip(weights.row(row));
            let exact: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            worst = worst.max((exact - f64::from(value)).abs());
            largest = largest.max(exact.abs());
        }
    }
    worst / largest
}

#[test]
fn every_part_multiplies_like_its_dense_weights() {
    let mut noise = Noise(1);
    for cols in [256, 288, 40] {
        for part in every_kind(&mut noise, 37, cols) {
            let name = format!("{:?}", stored(37, cols, vec![part.clone()], None).descriptor());
            let x = noise.matrix(5, cols);
            let matrix = stored(37, cols, vec![part], None);
            let exact = difference(&matrix, &x, Activation::F32);
            assert!(exact < 3e-6, "{name} cols {cols}: {exact}");
            let coarse = difference(&matrix, &x, Activation::Int8);
            assert!(coarse < 2e-2, "{name} cols {cols}: {coarse}");
        }
    }
}

#[test]
fn a_sum_is_the_sum_of_its_parts_behind_each_transform() {
    let mut noise = Noise(2);
    let (rows, cols) = (24, 256);
    let order: Vec<u32> = (0..cols as u32).map(|i| (i * 77 + 5) % cols as u32).collect();
    let transforms = [
        None,
        Some(Transform::Permutation { order }),
        Some(Transform::Scaling { factors: (0..cols).map(|i| 0.5 + i as f32 / 100.0).collect() }),
        Some(Transform::Hadamard { block: 64, seed: None }),
        Some(Transform::Hadamard { block: 256, seed: Some(7) }),
    ];
    for transform in transforms {
        let parts = vec![
            grid(&mut noise, rows, cols, 3, 128),
            low_rank(&mut noise, rows, cols, 4),
            sparse(&mut noise, rows, cols),
            sign_scale(&mut noise, rows, cols, 1),
        ];
        let matrix = stored(rows, cols, parts, transform.clone());
        let x = noise.matrix(3, cols);
        let difference = difference(&matrix, &x, Activation::F32);
        assert!(difference < 5e-6, "{transform:?}: {difference}");
    }
}

#[test]
fn rows_do_not_depend_on_their_company() {
    let mut noise = Noise(3);
    let x = noise.matrix(9, 256);
    for part in every_kind(&mut noise, 20, 256) {
        let packed = CompressedMatrix::pack(stored(20, 256, vec![part], None)).unwrap();
        for activation in [Activation::Int8, Activation::F32] {
            let mut all = Matrix::zeros(9, 20);
            packed.multiply(&Input::new(x.view(), activation), &mut all.view_mut(), false);
            for row in 0..9 {
                let mut one = Matrix::zeros(1, 20);
                let alone = Input::new(x.view().rows_range(row..row + 1), activation);
                packed.multiply(&alone, &mut one.view_mut(), false);
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(one.row(0)), bits(all.row(row)));
            }
        }
    }
}

#[test]
fn counted_bits_are_written_bytes_and_come_back() {
    let mut noise = Noise(4);
    for cols in [256, 288, 40] {
        let parts = every_kind(&mut noise, 19, cols);
        let matrix = stored(19, cols, parts, None);
        let fields = matrix.fields();
        assert_eq!(matrix.bits(), 8 * fields.iter().map(|field| field.bytes.len() as u64).sum::<u64>());
        for field in &fields {
            let row = field.ty.row_bytes(field.shape.iter().product()).unwrap();
            assert_eq!(row, field.bytes.len(), "{}", field.name);
        }
        let find =
            |name: &str| fields.iter().find(|field| field.name == name).map(|field| field.bytes.clone()).unwrap();
        let back = StoredMatrix::from_fields(&matrix.descriptor(), |name| Ok(find(name))).unwrap();
        assert_eq!(back, matrix);
    }
}

#[test]
fn packed_bits_are_stored_bits() {
    let mut noise = Noise(5);
    for part in every_kind(&mut noise, 16, 256) {
        let matrix = stored(16, 256, vec![part], None);
        assert_eq!(CompressedMatrix::pack(matrix.clone()).unwrap().bits(), matrix.bits());
    }
}

#[test]
fn lies_are_refused() {
    let short = stored(4, 256, vec![StoredPart::Blocks { ty: TensorType::Q4K, bytes: vec![0; 100] }], None);
    assert!(matches!(CompressedMatrix::pack(short), Err(Error::Length { found: 100, expected: 576, .. })));
    let uneven = stored(4, 100, vec![StoredPart::Blocks { ty: TensorType::Q4K, bytes: vec![0; 100] }], None);
    assert!(matches!(CompressedMatrix::pack(uneven), Err(Error::Row { cols: 100, .. })));
    let values = vec![f16::ONE];
    let far = StoredPart::Sparse { offsets: vec![0, 1], columns: vec![9], values: values.clone() };
    assert!(matches!(CompressedMatrix::pack(stored(1, 8, vec![far], None)), Err(Error::Column { found: 9, .. })));
    let falling = StoredPart::Sparse { offsets: vec![0, 1, 0], columns: vec![0], values };
    assert!(matches!(CompressedMatrix::pack(stored(2, 8, vec![falling], None)), Err(Error::Offsets { .. })));
    let twice = Some(Transform::Permutation { order: vec![0, 0] });
    let mut noise = Noise(6);
    let part = dense(&mut noise, 1, 2, TensorType::F32);
    assert!(matches!(
        CompressedMatrix::pack(stored(1, 2, vec![part], twice)),
        Err(Error::Permutation { index: 1, .. })
    ));
    assert!(matches!(CompressedMatrix::pack(stored(1, 2, vec![], None)), Err(Error::Empty)));
    let odd = Some(Transform::Hadamard { block: 3, seed: None });
    let part = dense(&mut noise, 1, 6, TensorType::F32);
    assert!(matches!(
        CompressedMatrix::pack(stored(1, 6, vec![part], odd)),
        Err(Error::HadamardBlock { block: 3, .. })
    ));
}

#[test]
fn descriptors_plan_what_is_written() {
    let mut noise = Noise(9);
    for cols in [256, 40] {
        let matrix = stored(19, cols, every_kind(&mut noise, 19, cols), None);
        let planned = matrix.descriptor().fields().unwrap();
        let written = matrix.fields();
        assert_eq!(planned.len(), written.len());
        for (plan, field) in planned.iter().zip(&written) {
            assert_eq!((&plan.name, plan.ty, &plan.shape), (&field.name, field.ty, &field.shape));
            assert_eq!(plan.bytes(), field.bytes.len() as u64, "{}", plan.name);
        }
    }
}

#[test]
fn hostile_columns_and_two_level_grids_are_refused() {
    let values = vec![f16::ONE; 2];
    for columns in [vec![3, 3], vec![5, 1], vec![0, 40]] {
        assert!(
            stored(1, 40, vec![StoredPart::Columns { columns, values: values.clone() }], None).dequantize().is_err()
        );
    }
    let mut noise = Noise(10);
    let StoredPart::Bilevel(good) = bilevel(&mut noise, 8, 64, 3, 16) else { unreachable!() };
    for bad in [
        Bilevel { group: 24, ..good.clone() },
        Bilevel { group: 0, ..good.clone() },
        Bilevel { bits: 8, ..good.clone() },
        Bilevel { tile: 0, ..good.clone() },
        Bilevel { statistics: Vec::new(), ..good.clone() },
        Bilevel { scales: vec![0; 3], ..good.clone() },
        Bilevel { rows: 9, ..good.clone() },
    ] {
        assert!(CompressedMatrix::pack(stored(8, 64, vec![StoredPart::Bilevel(bad)], None)).is_err());
    }
    let description = r#"{"kind":"bilevel","bits":3,"group":16,"statistic_bits":3,"tile":0}"#;
    let part: brevity_parts::stored::PartDescriptor = serde_json::from_str(description).unwrap();
    let descriptor = brevity_parts::stored::Descriptor { shape: (8, 64), transform: None, parts: vec![part] };
    assert!(StoredMatrix::from_fields(&descriptor, |_| Ok(Vec::new())).is_err());
}
