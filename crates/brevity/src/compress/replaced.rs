//! A model with some of its matrices in another form.

use brevity_model::source::WeightSource;
use brevity_model::{Error, ModelSource, Result, Role};
use brevity_parts::{CompressedMatrix, StoredMatrix};
use std::collections::HashMap;

/// The source's weights, but for those that are replaced.
pub struct Replaced<'a> {
    source: &'a ModelSource,
    stored: HashMap<Role, StoredMatrix>,
}

impl<'a> Replaced<'a> {
    pub fn new(source: &'a ModelSource) -> Self {
        Self { source, stored: HashMap::new() }
    }

    /// Serves `stored` from now on.
    pub fn replace(&mut self, role: Role, stored: StoredMatrix) {
        self.stored.insert(role, stored);
    }

    pub fn into_stored(self) -> HashMap<Role, StoredMatrix> {
        self.stored
    }
}

impl WeightSource for Replaced<'_> {
    fn matrices(&self, roles: &[Role]) -> Result<Vec<CompressedMatrix>> {
        if !roles.iter().any(|role| self.stored.contains_key(role)) {
            return self.source.matrices(roles);
        }
        let one = |&role: &Role| match self.stored.get(&role) {
            Some(stored) => CompressedMatrix::pack(stored.clone())
                .map_err(|source| Error::Part { tensor: role.gguf_name(), source: Box::new(source) }),
            None => self.source.load_matrix(self.source.require(role)?),
        };
        roles.iter().map(one).collect()
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>> {
        self.source.vector(role)
    }
}
