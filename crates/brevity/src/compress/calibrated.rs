//! Block by block: each linear is compressed for the inputs that the compressed model before it gives.
//!
//! The calibration windows stream through the blocks. In each block the linears go in the order in which they run (q, k and
//! v; attention's output; gate and up; down): the inputs of each place are observed with everything before it compressed
//! already, so what was lost there is known here. Then the windows move on through the compressed block. In memory are the
//! hidden states of all windows, one block, and the second moments of one place.

use super::plan::Plan;
use super::replaced::Replaced;
use crate::stop;
use anyhow::{Context, Result};
use brevity_kernels::{Matrix, MatrixView};
use brevity_model::forward::Options;
use brevity_model::source::TensorEntry;
use brevity_model::stream::Stream;
use brevity_model::taps::{Place, Site, Tap};
use brevity_model::weights::BlockWeights;
use brevity_model::{ModelSource, Role};
use brevity_parts::StoredMatrix;
use brevity_weights::{HessianSum, Level, Statistics, WeightMethod};
use std::collections::HashMap;
use std::sync::Arc;

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
    /// Statistics of embedding and head, taken from the original.
    head: Statistics,
    rows_kept: usize,
}

impl<'a> Calibrated<'a> {
    /// Begins at the first block. `head` are the statistics of the head's inputs.
    ///
    /// # Errors
    /// If the embedding cannot be read, or the windows do not fit the model.
    pub fn new(
        source: &'a ModelSource,
        method: &'a dyn WeightMethod,
        plan: &Plan,
        windows: &[Vec<u32>],
        options: Options,
        head: Statistics,
    ) -> Result<Self> {
        let levels = plan.tensors.iter().map(|tensor| (tensor.entry.role, tensor.level)).collect();
        let stream = Stream::new(source.config(), source, windows, options)?;
        Ok(Self { source, method, levels, stream, layer: 0, ready: HashMap::new(), head, rows_kept: 0 })
    }

    /// The matrix of this tensor as it is to be stored, rows in the source's order.
    ///
    /// # Errors
    /// If weights cannot be read, the Hessian is not finite, or the user stopped.
    pub fn take(&mut self, entry: &TensorEntry, level: Level) -> Result<StoredMatrix> {
        let Some(layer) = entry.role.layer else {
            let head = std::mem::take(&mut self.head);
            let stored = self.compress(entry, level, &head);
            self.head = head;
            return stored;
        };
        while self.layer <= layer {
            self.block()?;
        }
        self.ready.remove(&entry.role).with_context(|| format!("{}: asked for twice", entry.name))
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
            self.stream.observe(layer, &weights, &mut tap)?;
            drop(weights);
            let statistics = tap.statistics().with_context(|| format!("calibrating {}", first.name))?;
            for (entry, level) in entries {
                let stored = self.compress(entry, level, &statistics)?;
                replaced.replace(entry.role, stored);
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
        let level = |entry: &'a TensorEntry| {
            let level = *self.levels.get(&entry.role)?;
            (!level.is_lossless_for(entry.ty)).then_some((entry, level))
        };
        self.source.tensors().iter().filter(here).filter_map(level).collect()
    }

    fn compress(&mut self, entry: &TensorEntry, level: Level, statistics: &Statistics) -> Result<StoredMatrix> {
        stop::check()?;
        let values = self.source.read_rows_f32(entry, 0..entry.rows)?;
        let weights = Matrix::from_vec(entry.rows, entry.cols, values);
        let outcome = self.method.compress_counted(&weights, statistics, level);
        let outcome = outcome.with_context(|| format!("compressing {}", entry.name))?;
        self.rows_kept += outcome.rows_kept;
        Ok(outcome.stored)
    }
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

/// What a finished sum says.
///
/// # Errors
/// If it is not finite.
pub fn statistics(sum: HessianSum) -> Result<Statistics, brevity_weights::Error> {
    let hessian = sum.mean()?;
    let (second_moments, tokens) = (hessian.diagonal(), hessian.tokens());
    Ok(Statistics { second_moments, hessian: Some(Arc::new(hessian)), tokens })
}

/// Hessians of several sites in one pass.
pub struct Hessians {
    wanted: Box<dyn Fn(Site) -> bool>,
    sums: HashMap<Site, HessianSum>,
}

impl Hessians {
    /// Watches the sites that are wanted.
    pub fn new(wanted: impl Fn(Site) -> bool + 'static) -> Self {
        Self { wanted: Box::new(wanted), sums: HashMap::new() }
    }

    /// The statistics of every site that was seen.
    ///
    /// # Errors
    /// If one is not finite.
    pub fn finish(self) -> Result<HashMap<Site, Statistics>> {
        let one = |(site, sum)| {
            let statistics = statistics(sum).with_context(|| format!("calibrating {site:?}"))?;
            Ok((site, statistics))
        };
        self.sums.into_iter().map(one).collect()
    }
}

impl Tap for Hessians {
    fn linear(&mut self, site: Site, input: MatrixView<'_>) {
        if (self.wanted)(site) {
            self.sums.entry(site).or_insert_with(|| HessianSum::new(input.cols())).add(input);
        }
    }
}
