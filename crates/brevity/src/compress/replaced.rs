//! A model with some of its matrices in another form.

use brevity_formats::TensorType;
use brevity_kernels::Matrix;
use brevity_model::source::WeightSource;
use brevity_model::{Error, ModelSource, Result, Role};
use brevity_parts::{CompressedMatrix, StoredMatrix, StoredPart};
use std::collections::HashMap;

/// The source's weights, but for those that are replaced.
pub struct Replaced<'a> {
    source: &'a ModelSource,
    stored: HashMap<Role, Replacement>,
}

struct Replacement {
    stored: StoredMatrix,
    /// For each of its rows, the row of the source; `None` when they are the same.
    order: Option<Vec<usize>>,
}

impl<'a> Replaced<'a> {
    pub fn new(source: &'a ModelSource) -> Self {
        Self { source, stored: HashMap::new() }
    }

    /// Serves `stored` from now on; its row i is row `order[i]` of the source's.
    pub fn replace(&mut self, role: Role, stored: StoredMatrix, order: Option<Vec<usize>>) {
        self.stored.insert(role, Replacement { stored, order });
    }

    pub fn into_stored(self) -> HashMap<Role, StoredMatrix> {
        self.stored.into_iter().map(|(role, replacement)| (role, replacement.stored)).collect()
    }
}

impl Replacement {
    fn pack(&self) -> std::result::Result<CompressedMatrix, brevity_parts::Error> {
        let Some(order) = &self.order else { return CompressedMatrix::pack(self.stored.clone()) };
        let found = self.stored.dequantize()?;
        let mut values = Matrix::zeros(found.rows(), found.cols());
        order.iter().enumerate().for_each(|(row, &source)| values.row_mut(source).copy_from_slice(found.row(row)));
        let bytes = values.data().iter().flat_map(|value| value.to_le_bytes()).collect();
        let parts = vec![StoredPart::Dense { ty: TensorType::F32, bytes }];
        CompressedMatrix::pack(StoredMatrix { rows: found.rows(), cols: found.cols(), transform: None, parts })
    }
}

impl WeightSource for Replaced<'_> {
    fn matrices(&self, roles: &[Role]) -> Result<Vec<CompressedMatrix>> {
        if !roles.iter().any(|role| self.stored.contains_key(role)) {
            return self.source.matrices(roles);
        }
        let one = |&role: &Role| match self.stored.get(&role) {
            Some(replacement) => {
                replacement.pack().map_err(|source| Error::Part { tensor: role.gguf_name(), source: Box::new(source) })
            }
            None => self.source.load_matrix(self.source.require(role)?),
        };
        roles.iter().map(one).collect()
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>> {
        self.source.vector(role)
    }
}
