//! Changes of a model's weights that leave its function as it is, served as a model of its own.
//!
//! Between two linears of which the second reads the first's outputs, anything invertible can be inserted and undone. A
//! [`Fold`] is one tensor's share of that: with `W` outputs × inputs it makes
//!
//! `W' = Q_left · diag(rows) · W · diag(columns) · Q_rightᵀ`
//!
//! where each [`Rotation`] is orthogonal and works on runs of its size (one run a head, or one for the whole width).
//! [`ModelSource::folded`](crate::ModelSource::folded) gives the model with these tensors; whoever reads it sees an ordinary model.
//! Whether folds belong together so that the function stays is up to the method that makes them.

mod paley;
mod rotation;

use std::collections::BTreeMap;
use std::sync::Arc;

use brevity_kernels::Matrix;

pub use rotation::Rotation;

use crate::error::{Error, Result};
use crate::names::Role;
use crate::source::TensorEntry;

/// Bounds of weights, for each run of `group` columns of each row: the one change here that is not exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Columns in a run; 0: the whole row.
    pub group: usize,
    /// Greatest absolute value of each run, row after row; infinity where nothing is clipped.
    pub most: Vec<f32>,
}

impl Clip {
    /// Runs in a row of `cols`.
    pub fn runs(&self, cols: usize) -> usize {
        if self.group == 0 { 1 } else { cols.div_ceil(self.group) }
    }
}

/// What happens to one tensor; each step is optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fold {
    /// Stands in place of the stored values (norms that were absorbed become ones).
    pub values: Option<Vec<f32>>,
    /// Each column's factor.
    pub columns: Option<Vec<f32>>,
    /// Each row's factor.
    pub rows: Option<Vec<f32>>,
    /// Rotates each row: the inputs come rotated.
    pub right: Option<Arc<Rotation>>,
    /// Rotates each column: the outputs leave rotated.
    pub left: Option<Arc<Rotation>>,
    /// Comes last.
    pub clip: Option<Clip>,
}

/// The folds of a model's tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folds {
    tensors: BTreeMap<Role, Fold>,
    /// A tied head becomes a matrix of its own, made from the embedding.
    pub untie: bool,
}

impl Folds {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fold of a tensor, to be changed; one that does nothing at first.
    pub fn entry(&mut self, role: Role) -> &mut Fold {
        self.tensors.entry(role).or_default()
    }

    /// The fold of a tensor.
    pub fn get(&self, role: Role) -> Option<&Fold> {
        self.tensors.get(&role)
    }

    /// The fold of a tensor, to be changed.
    pub fn get_mut(&mut self, role: Role) -> Option<&mut Fold> {
        self.tensors.get_mut(&role)
    }

    pub(crate) fn take(&mut self, role: Role) -> Option<Fold> {
        self.tensors.remove(&role)
    }

    /// Every fold, in order of roles.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Fold)> {
        self.tensors.iter().map(|(role, fold)| (*role, fold))
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && !self.untie
    }

    /// Takes in the folds of other tensors (those of another block); of a tensor that both have, the other's holds.
    pub fn merge(&mut self, other: Folds) {
        self.tensors.extend(other.tensors);
        self.untie |= other.untie;
    }

    /// A number that tells these folds from others (FNV-1a of all that they hold).
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.bytes(&[u8::from(self.untie)]);
        for (role, fold) in &self.tensors {
            hash.bytes(role.gguf_name().as_bytes());
            let clip = fold.clip.as_ref();
            for values in [&fold.values, &fold.columns, &fold.rows, &clip.map(|clip| clip.most.clone())] {
                hash.bytes(&[u8::from(values.is_some())]);
                values.iter().flatten().for_each(|value| hash.bytes(&value.to_le_bytes()));
            }
            hash.bytes(&clip.map_or(0, |clip| clip.group).to_le_bytes());
            for rotation in [&fold.right, &fold.left] {
                hash.bytes(&[u8::from(rotation.is_some())]);
                rotation.iter().for_each(|rotation| hash.bytes(&rotation.digest().to_le_bytes()));
            }
        }
        hash.0
    }
}

/// FNV-1a.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    }
}

impl Fold {
    /// Whether rows can be had one without the others.
    pub(crate) fn rows_are_independent(&self) -> bool {
        self.left.is_none()
    }

    /// Refuses what is no fold of this tensor.
    pub(crate) fn check(&self, entry: &TensorEntry) -> Result<()> {
        let (rows, cols) = (entry.rows, entry.cols);
        let wrong = |what: &str, found: String, expected: String| {
            Err(Error::argument(&format!("{what} folded into {}", entry.name), found, expected))
        };
        let lengths =
            [("values", &self.values, rows * cols), ("columns", &self.columns, cols), ("rows", &self.rows, rows)];
        for (what, values, expected) in lengths {
            let Some(values) = values else { continue };
            if values.len() != expected {
                return wrong(what, format!("{} numbers", values.len()), format!("{expected}"));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return wrong(what, value.to_string(), "finite numbers".to_owned());
            }
        }
        for (rotation, width) in [(&self.right, cols), (&self.left, rows)] {
            if let Some(rotation) = rotation.as_ref().filter(|rotation| !width.is_multiple_of(rotation.size())) {
                return wrong("rotation", format!("runs of {}", rotation.size()), format!("a divisor of {width}"));
            }
        }
        if let Some(clip) = &self.clip {
            let expected = rows * clip.runs(cols);
            if clip.most.len() != expected {
                return wrong("bounds", format!("{} numbers", clip.most.len()), format!("{expected}"));
            }
            if let Some(value) = clip.most.iter().find(|value| value.is_nan() || **value < 0.0) {
                return wrong("bounds", value.to_string(), "numbers of 0 and more".to_owned());
            }
        }
        Ok(())
    }

    /// Folds rows that begin with row `first`; all rows when the outputs are rotated.
    pub(crate) fn apply(&self, w: &mut Matrix, first: usize) {
        let cols = w.cols();
        if let Some(values) = &self.values {
            let cells = first * cols..(first + w.rows()) * cols;
            w.data_mut().copy_from_slice(&values[cells]);
        }
        let grain = (1 << 13) / cols.max(1);
        w.view_mut().parallel_rows(grain, |row, values| {
            if let Some(columns) = &self.columns {
                values.iter_mut().zip(columns).for_each(|(value, factor)| *value *= factor);
            }
            if let Some(rows) = &self.rows {
                values.iter_mut().for_each(|value| *value *= rows[first + row]);
            }
            if let Some(right) = &self.right {
                right.apply(values);
            }
        });
        if let Some(left) = &self.left {
            let mut turned = transposed(w);
            let grain = (1 << 13) / turned.cols().max(1);
            turned.view_mut().parallel_rows(grain, |_, values| left.apply(values));
            *w = transposed(&turned);
        }
        if let Some(clip) = &self.clip {
            let runs = clip.runs(cols);
            let length = if clip.group == 0 { cols.max(1) } else { clip.group };
            w.view_mut().parallel_rows(grain, |row, values| {
                for (values, &most) in values.chunks_mut(length).zip(&clip.most[(first + row) * runs..]) {
                    values.iter_mut().for_each(|value| *value = value.clamp(-most, most));
                }
            });
        }
    }
}

fn transposed(w: &Matrix) -> Matrix {
    let (rows, cols) = (w.rows(), w.cols());
    let mut out = Matrix::zeros(cols, rows);
    // Blocks of 32 columns stay in the cache on both sides.
    let data = w.data();
    out.view_mut().parallel_rows(32, |col, values| {
        values.iter_mut().enumerate().for_each(|(row, value)| *value = data[row * cols + col]);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TensorKind;

    #[test]
    fn folds_do_what_the_formula_says() {
        let mut w = Matrix::from_vec(4, 2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let (right, left) = (Rotation::new(2, Some(1)), Rotation::new(4, None));
        let fold = Fold {
            columns: Some(vec![2.0, 0.5]),
            rows: Some(vec![1.0, -1.0, 3.0, 0.0]),
            right: Some(Arc::new(right.clone())),
            left: Some(Arc::new(left.clone())),
            ..Fold::default()
        };
        // Columns, then rows, are scaled; each row is rotated; then each column.
        let mut expected = [vec![2.0f32, 1.0], vec![-6.0, -2.0], vec![30.0, 9.0], vec![0.0, 0.0]];
        expected.iter_mut().for_each(|row| right.apply(row));
        for col in 0..2 {
            let mut column: Vec<f32> = expected.iter().map(|row| row[col]).collect();
            left.apply(&mut column);
            expected.iter_mut().zip(column).for_each(|(row, value)| row[col] = value);
        }
        fold.apply(&mut w, 0);
        assert_eq!(w.data(), expected.concat());
    }

    #[test]
    fn clipping_comes_last_and_knows_its_row() {
        let mut w = Matrix::from_vec(1, 4, vec![1.0, -2.0, 3.0, -4.0]);
        let most = vec![9.0, 9.0, 1.5, f32::INFINITY];
        let fold = Fold { columns: Some(vec![2.0; 4]), clip: Some(Clip { group: 2, most }), ..Fold::default() };
        fold.apply(&mut w, 1);
        assert_eq!(w.data(), [1.5, -1.5, 6.0, -8.0]);
    }

    #[test]
    fn digests_tell_folds_apart() {
        let role = Role::block(0, TensorKind::FfnUp);
        let mut digests = vec![Folds::new().digest()];
        let mut add = |fold: Fold| {
            let mut folds = Folds::new();
            *folds.entry(role) = fold;
            digests.push(folds.digest());
        };
        add(Fold { rows: Some(vec![2.0]), ..Fold::default() });
        add(Fold { columns: Some(vec![2.0]), ..Fold::default() });
        add(Fold { columns: Some(vec![2.5]), ..Fold::default() });
        add(Fold { right: Some(Arc::new(Rotation::new(8, None))), ..Fold::default() });
        add(Fold { right: Some(Arc::new(Rotation::new(8, Some(1)))), ..Fold::default() });
        digests.sort_unstable();
        let count = digests.len();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }
}
