//! How much the whole model minds an error in one tensor.
//!
//! To first order the divergence of a model whose tensors are all disturbed a little is `Σ α_l·e_l`, with `e_l` the relative
//! energy of the error that the outputs of tensor l see, and `α_l` its sensitivity in bits (the linearity theorem of
//! HIGGS, arXiv 2411.17525). `α_l` is measured: tensor l alone is rounded to 4-bit integers, the model is run from its block
//! on, and the divergence found (against the undisturbed run, f32 activations, so that nothing else adds to it) is
//! divided by `e_l`.
//!
//! All blocks are in memory for that. In deep models a few layers are probed, evenly spaced, and the others interpolated in
//! the logarithm. Models above [`MOST_WEIGHTS`] (and jobs with a memory limit) take the medians that were measured on
//! SmolLM2-135M instead.

use super::replaced::Replaced;
use crate::progress::Show;
use crate::stop;
use anyhow::Result;
use brevity_kernels::Matrix;
use brevity_measure::divergence;
use brevity_model::forward::Options;
use brevity_model::source::TensorEntry;
use brevity_model::stream::Stream;
use brevity_model::weights::{BlockWeights, Head};
use brevity_model::{ModelSource, Role, TensorKind};
use brevity_parts::{Activation, Input};
use brevity_weights::database::output_error;
use brevity_weights::quantize::RoundToNearest;
use brevity_weights::{Level, Statistics, WeightMethod};
use std::collections::HashMap;

/// Models with more weights are not probed.
pub const MOST_WEIGHTS: u64 = 400_000_000;
/// Layers that are probed at most.
const PROBED_LAYERS: usize = 8;
/// What a probe rounds to.
const PROBE: Level = Level::Integer { bits: 4, group: 32 };

/// Bits of divergence per unit of relative error.
#[derive(Clone)]
pub struct Sensitivities {
    measured: HashMap<Role, f64>,
    probed: Vec<usize>,
}

/// What one probe needs.
struct Probe<'a> {
    source: &'a ModelSource,
    blocks: Vec<BlockWeights>,
    head: Head,
    /// Hidden states before each block, and after the last.
    states: Vec<Matrix>,
    reference: Matrix,
}

impl Sensitivities {
    /// Typical values, for models that are not probed.
    pub fn typical() -> Self {
        Self { measured: HashMap::new(), probed: Vec::new() }
    }

    /// Probes a model on windows of text.
    ///
    /// # Errors
    /// If weights cannot be read or the user stopped.
    pub fn measure(
        source: &ModelSource,
        statistics: impl Fn(Role) -> Statistics,
        windows: &[Vec<u32>],
        show: Show,
    ) -> Result<Self> {
        let layers = source.config().layers();
        let count = layers.min(PROBED_LAYERS);
        let probed: Vec<usize> = (0..count).map(|index| index * (layers - 1) / (count - 1).max(1)).collect();
        let wanted = |entry: &&TensorEntry| match entry.role.layer {
            _ if entry.vector || entry.role.bias => false,
            Some(layer) => entry.role.kind.is_linear() && probed.contains(&layer),
            None => matches!(entry.role.kind, TensorKind::TokenEmbedding | TensorKind::Output),
        };
        let entries: Vec<&TensorEntry> = source.tensors().iter().filter(wanted).collect();
        let phase = show.phase("probing", entries.len() as u64);
        let options = Options { activation: Activation::F32, ..Options::default() };
        let mut stream = Stream::new(source.config(), source, windows, options)?;
        let probe = Probe::new(source, &mut stream)?;
        let mut measured = HashMap::new();
        for entry in entries {
            stop::check()?;
            let statistics = statistics(entry.role);
            measured.insert(entry.role, probe.sensitivity(entry, &statistics, windows, &mut stream)?);
            phase.step();
        }
        Ok(Self { measured, probed })
    }

    /// The sensitivity of the tensor of this role.
    pub fn of(&self, role: Role) -> f64 {
        if let Some(&measured) = self.measured.get(&role) {
            return measured;
        }
        let at = |layer: usize| self.measured.get(&Role { layer: Some(layer), ..role }).copied();
        let Some(layer) = role.layer else { return typical(role.kind) };
        let below = self.probed.iter().rev().find(|probed| **probed <= layer).copied();
        let above = self.probed.iter().find(|probed| **probed >= layer).copied();
        match (below.and_then(|layer| Some((layer, at(layer)?))), above.and_then(|layer| Some((layer, at(layer)?)))) {
            (Some((low, a)), Some((high, b))) if high > low => {
                let share = (layer - low) as f64 / (high - low) as f64;
                (a.ln() * (1.0 - share) + b.ln() * share).exp()
            }
            (Some((_, a)), _) | (_, Some((_, a))) => a,
            _ => typical(role.kind),
        }
    }
}

/// Whose inputs a tensor's moments are: those of the head for a tied embedding.
pub fn moments_role(source: &ModelSource, role: Role) -> Role {
    match role.kind {
        TensorKind::TokenEmbedding if source.config().tied => Role::global(TensorKind::Output),
        _ => role,
    }
}

/// Medians over the layers of SmolLM2-135M-Instruct (Q4_1, dequantised), in bits: the expected loss of each tensor over its
/// error, as `brevity compress MODEL --allow-requantize --bits 4 --dry-run --json` gives them. A fused q, k and v takes the
/// middle of its three. What counts for the allocator is how they compare, not their size.
fn typical(kind: TensorKind) -> f64 {
    use TensorKind::*;
    match kind {
        AttnQ => 0.053,
        AttnK | AttnQkv => 0.073,
        AttnV => 0.163,
        AttnOutput => 0.068,
        FfnGate => 0.150,
        FfnUp => 0.172,
        FfnDown => 0.204,
        _ => 56.4,
    }
}

impl<'a> Probe<'a> {
    fn new(source: &'a ModelSource, stream: &mut Stream) -> Result<Self> {
        let config = source.config();
        let mut states = vec![stream.states()?];
        let mut blocks = Vec::with_capacity(config.layers());
        for layer in 0..config.layers() {
            stop::check()?;
            let block = BlockWeights::load(config, layer, source)?;
            stream.advance(layer, &block, None)?;
            states.push(stream.states()?);
            blocks.push(block);
        }
        let head = Head::load(config, source)?;
        let mut probe = Self { source, blocks, head, states, reference: Matrix::default() };
        probe.reference = probe.logits(&stream.states()?, &probe.head);
        Ok(probe)
    }

    /// Divergence caused by rounding one tensor, over the relative error that it makes.
    fn sensitivity(
        &self,
        entry: &TensorEntry,
        statistics: &Statistics,
        windows: &[Vec<u32>],
        stream: &mut Stream,
    ) -> Result<f64> {
        let config = self.source.config();
        let values = self.source.read_rows_f32(entry, 0..entry.rows)?;
        let weights = Matrix::from_vec(entry.rows, entry.cols, values);
        let stored = RoundToNearest.compress(&weights, &Statistics::default(), PROBE)?;
        let error = output_error(&weights, &stored.dequantize()?, statistics)?;
        let mut disturbed = Replaced::new(self.source);
        disturbed.replace(entry.role, stored, None);
        let logits = match entry.role.layer {
            Some(layer) => {
                stream.set_states(&self.states[layer])?;
                stream.advance(layer, &BlockWeights::load(config, layer, &disturbed)?, None)?;
                self.finish(stream, layer + 1)?;
                self.logits(&stream.states()?, &self.head)
            }
            None => {
                let head = Head::load(config, &disturbed)?;
                if entry.role.kind == TensorKind::TokenEmbedding {
                    *stream = Stream::new(config, &disturbed, windows, stream.options())?;
                    self.finish(stream, 0)?;
                } else {
                    stream.set_states(&self.states[config.layers()])?;
                }
                self.logits(&stream.states()?, &head)
            }
        };
        let divergence = self.divergence(&logits)?;
        Ok((divergence / error.max(1e-12)).max(1e-6))
    }

    fn finish(&self, stream: &mut Stream, from: usize) -> Result<()> {
        for layer in from..self.blocks.len() {
            stream.advance(layer, &self.blocks[layer], None)?;
        }
        Ok(())
    }

    fn logits(&self, states: &Matrix, head: &Head) -> Matrix {
        let mut normed = Matrix::default();
        head.norm().apply(states.view(), &mut normed);
        let mut logits = Matrix::zeros(normed.rows(), self.source.config().vocab);
        head.logits(&Input::new(normed.view(), Activation::F32), &mut logits.view_mut());
        logits
    }

    fn divergence(&self, logits: &Matrix) -> Result<f64> {
        let row = |row| Ok(divergence::compare(self.reference.row(row), logits.row(row), None)?.kld);
        let all = crate::evaluate::in_parallel(logits.rows(), row)?;
        Ok(all.iter().sum::<f64>() / all.len().max(1) as f64)
    }
}
