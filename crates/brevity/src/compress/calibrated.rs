//! Block by block: each linear is compressed for the inputs that the compressed model before it gives.
//!
//! The calibration windows stream through the blocks. In each block the linears go in the order in which they run (q, k and
//! v; attention's output; gate and up; down): the inputs of each place are observed with everything before it compressed
//! already, so what was lost there is known here. Then the windows move on through the compressed block. In memory are the
//! hidden states of all windows (past `--memory` in a file), one block, and the Hessian of one place.

use super::calibration::{Windows, statistics};
use super::plan::Plan;
use super::replaced::Replaced;
use crate::stop;
use anyhow::{Context, Result, bail};
use brevity_kernels::{Matrix, MatrixView};
use brevity_model::export::{unpermute_rows, unpermuted_heads};
use brevity_model::forward::Options;
use brevity_model::source::TensorEntry;
use brevity_model::stream::Stream;
use brevity_model::taps::{Place, Site, Tap};
use brevity_model::weights::BlockWeights;
use brevity_model::{ModelSource, Role, TensorKind};
use brevity_parts::{Activation, StoredMatrix};
use brevity_weights::{HessianSum, Level, Statistics, WeightMethod};
use std::collections::HashMap;

/// The places of a block, in the order in which it runs them.
const PLACES: [Place; 4] = [Place::Qkv, Place::AttnOutput, Place::GateUp, Place::Down];

/// Compresses the linears of a model in the order of its blocks.
pub struct Calibrated<'a> {
    source: &'a ModelSource,
    method: &'a dyn WeightMethod,
    levels: HashMap<Role, Level>,
    stream: Stream,
    /// The next block.
    layer: usize,
    /// What was compressed and not taken yet.
    ready: HashMap<Role, StoredMatrix>,
    /// Statistics of the head's inputs (and a tied embedding's), taken from the original.
    head: Statistics,
    rows_kept: usize,
}

impl<'a> Calibrated<'a> {
    /// Begins before the first block: the windows' tokens become states by the embedding as it is to be stored. `head` are
    /// the statistics of the head's inputs.
    ///
    /// # Errors
    /// If the embedding cannot be read, or the windows do not fit the model.
    pub fn new(
        source: &'a ModelSource,
        method: &'a dyn WeightMethod,
        plan: &Plan,
        windows: &Windows,
        head: Statistics,
    ) -> Result<Self> {
        let levels: HashMap<Role, Level> =
            plan.tensors.iter().map(|tensor| (tensor.entry.role, tensor.level)).collect();
        let options = Options { activation: Activation::F32, ..Options::default() };
        let embedding = Role::global(TensorKind::TokenEmbedding);
        let lossy = source.tensor(embedding).and_then(|entry| lossy(entry, &levels));
        let mut replaced = Replaced::new(source);
        let mut rows_kept = 0;
        if let Some((entry, level)) = lossy {
            let statistics = if source.config().tied { head.clone() } else { Statistics::default() };
            let stored = compress(source, method, entry, level, &statistics, &mut rows_kept)?;
            replaced.replace(embedding, stored, None);
        }
        let stream = windows.stream(source.config(), &replaced, options)?;
        let ready = replaced.into_stored();
        Ok(Self { source, method, levels, stream, layer: 0, ready, head, rows_kept })
    }

    /// The matrix of this tensor as it is to be stored, rows in the source's order; those of a sum of parts in the order of
    /// a directory.
    ///
    /// # Errors
    /// If weights cannot be read, the Hessian is not finite, or the user stopped.
    pub fn take(&mut self, entry: &TensorEntry, level: Level) -> Result<StoredMatrix> {
        while entry.role.layer.is_some_and(|layer| self.layer <= layer) {
            self.block()?;
        }
        match (self.ready.remove(&entry.role), entry.role.layer) {
            (Some(stored), _) => Ok(stored),
            (None, None) => compress(self.source, self.method, entry, level, &self.head, &mut self.rows_kept),
            (None, Some(_)) => bail!("{}: asked for twice", entry.name),
        }
    }

    /// Rows that kept round-to-nearest so far.
    pub fn rows_kept(&self) -> usize {
        self.rows_kept
    }

    fn block(&mut self) -> Result<()> {
        let (config, layer) = (self.source.config(), self.layer);
        let mut replaced = Replaced::new(self.source);
        for place in PLACES {
            stop::check()?;
            let site = Site { layer: Some(layer), place };
            let entries: Vec<(&TensorEntry, Level)> = self.lossy(site);
            let Some((first, _)) = entries.first() else { continue };
            let weights = BlockWeights::load(config, layer, &replaced)?;
            let mut tap = OnePlace { site, sum: HessianSum::new(first.cols) };
            self.stream.observe(layer, &weights, place, &mut tap)?;
            drop(weights);
            let statistics = tap.statistics().with_context(|| format!("calibrating {}", first.name))?;
            for (entry, level) in entries {
                let kept = &mut self.rows_kept;
                let stored = compress(self.source, self.method, entry, level, &statistics, kept)?;
                replaced.replace(entry.role, stored, sum_order(self.source, entry.role, entry.rows, level));
            }
        }
        let weights = BlockWeights::load(config, layer, &replaced)?;
        self.stream.advance(layer, &weights, None)?;
        self.ready.extend(replaced.into_stored());
        self.layer += 1;
        Ok(())
    }

    /// The linears at a site that lose something at their level.
    fn lossy(&self, site: Site) -> Vec<(&'a TensorEntry, Level)> {
        let here = |entry: &&'a TensorEntry| !entry.vector && Site::of(entry.role) == Some(site);
        self.source.tensors().iter().filter(here).filter_map(|entry| lossy(entry, &self.levels)).collect()
    }
}

/// A tensor that loses something at its level.
fn lossy<'a>(entry: &'a TensorEntry, levels: &HashMap<Role, Level>) -> Option<(&'a TensorEntry, Level)> {
    let level = *levels.get(&entry.role)?;
    (!level.is_lossless_for(entry.ty)).then_some((entry, level))
}

fn compress(
    source: &ModelSource,
    method: &dyn WeightMethod,
    entry: &TensorEntry,
    level: Level,
    statistics: &Statistics,
    rows_kept: &mut usize,
) -> Result<StoredMatrix> {
    stop::check()?;
    let mut values = source.read_rows_f32(entry, 0..entry.rows)?;
    if let Some(order) = sum_order(source, entry.role, entry.rows, level) {
        values = order.iter().flat_map(|&row| &values[row * entry.cols..][..entry.cols]).copied().collect();
    }
    let weights = Matrix::from_vec(entry.rows, entry.cols, values);
    let outcome = method.compress_counted(&weights, statistics, level);
    let outcome = outcome.with_context(|| format!("compressing {}", entry.name))?;
    *rows_kept += outcome.rows_kept;
    Ok(outcome.stored)
}

/// For each row of a sum of parts as it is stored, the row of the source; `None` when they are the same. Rows of a sum share
/// numbers, so they are put in the order of the output before anything is compressed.
pub fn sum_order(source: &ModelSource, role: Role, rows: usize, level: Level) -> Option<Vec<usize>> {
    let heads = unpermuted_heads(source.config(), role).filter(|_| matches!(level, Level::Sum(_)));
    heads.map(|heads| unpermute_rows(rows, heads))
}

/// Sums up the inputs of one place.
struct OnePlace {
    site: Site,
    sum: HessianSum,
}

impl OnePlace {
    fn statistics(self) -> Result<Statistics> {
        Ok(statistics(self.sum)?)
    }
}

impl Tap for OnePlace {
    fn linear(&mut self, site: Site, input: MatrixView<'_>) {
        if site == self.site {
            self.sum.add(input);
        }
    }
}
