//! Hessians of every linear of a small model, all at once.

use brevity_kernels::{Matrix, MatrixView};
use brevity_model::forward::Options;
use brevity_model::source::WeightSource;
use brevity_model::taps::{Site, Tap};
use brevity_model::{Config, Role, stream};
use brevity_parts::Activation;
use brevity_weights::{Hessian, Statistics};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sums of `x·xᵀ` by site.
#[derive(Default)]
pub struct Hessians {
    sums: BTreeMap<Site, (Matrix, u64)>,
}

pub const EXACT: Options = Options { activation: Activation::F32, chunk: 512 };

impl Hessians {
    /// Runs windows through a model and watches.
    pub fn collect(config: &Config, source: &dyn WeightSource, windows: &[Vec<u32>]) -> Self {
        let mut hessians = Self::default();
        stream::run(config, source, windows, EXACT, Some(&mut hessians), &mut |_, _, _| Ok(())).unwrap();
        hessians
    }

    /// What a method is given for the linear of a role.
    pub fn statistics(&self, role: Role) -> Statistics {
        let Some((sums, tokens)) = Site::of(role).and_then(|site| self.sums.get(&site)) else {
            return Statistics::default();
        };
        let means = sums.data().iter().map(|sum| sum / *tokens as f32).collect();
        let hessian = Hessian::new(Matrix::from_vec(sums.rows(), sums.cols(), means), *tokens).unwrap();
        Statistics { second_moments: hessian.diagonal(), hessian: Some(Arc::new(hessian)), tokens: *tokens }
    }
}

impl Tap for Hessians {
    fn linear(&mut self, site: Site, input: MatrixView<'_>) {
        let cols = input.cols();
        let (sums, tokens) = self.sums.entry(site).or_insert_with(|| (Matrix::zeros(cols, cols), 0));
        sums.view_mut().parallel_rows(8, |row, out| {
            for token in 0..input.rows() {
                let x = input.row(token);
                out.iter_mut().zip(x).for_each(|(sum, value)| *sum += x[row] * value);
            }
        });
        *tokens += input.rows() as u64;
    }
}
