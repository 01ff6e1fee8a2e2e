//! AWQ: input channels that carry large activations are scaled up before rounding, so that their weights lose less.
//!
//! "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration", 2023, arXiv 2306.00978. Linears that share
//! an input `x` (weights `W`, outputs × inputs) are stored as `W·diag(s)` and read `x/s`; the division is folded into what makes
//! `x`:
//!
//! | linears | folded into |
//! |---|---|
//! | q, k, v | the norm before them (weight, bias) |
//! | o | rows of v (and its bias); heads that share a v head share its scales |
//! | gate, up | the norm before them |
//! | down, after a gated MLP | rows of up (and its bias) |
//!
//! Nothing is folded in front of the down of a plain MLP, whose nonlinearity lies between. The scales are `s_k = a_k^α`,
//! normalised to a geometric mean of 1, with `a_k = √E[x_k²]`; α is searched on a grid of 0 to 1 for the least error of the outputs
//! after rounding to nearest at the level that the matrix will have, summed over the group's linears:
//!
//! `Σ_W tr(E·H·Eᵀ)`, `E = W − round(W·diag(s))·diag(1/s)`, `H = E[x·xᵀ]` (its diagonal alone where there is no Hessian).
//!
//! Where round-to-nearest follows, each group of weights (one scale in the file) is then clipped to the share of its greatest
//! value, 1 to ½, that gives its outputs the least error; not in q and k, as in the paper's code. Clips of a matrix are kept if its
//! outputs' error falls.
//!
//! The rows that errors are measured on are a sample of large matrices ([`SAMPLE_WEIGHTS`]).

use super::{FoldJob, FoldMethod, FoldOutcome, GroupReport};
#[cfg(doc)]
use crate::database::SAMPLE_WEIGHTS;
use crate::database::sample_rows;
use crate::method::{Needs, Statistics, WeightMethod};
use crate::quantize::RoundToNearest;
use crate::sum::Codes;
use crate::{Error, Hessian, Level, Sum};
use brevity_kernels::dense::DensePanels;
use brevity_kernels::{Matrix, math};
use brevity_measure::MethodCard;
use brevity_model::fold::{Clip, Fold, Folds};
use brevity_model::taps::{Place, Site};
use brevity_model::{Config, Role, TensorKind};

/// AWQ with its options.
#[derive(Debug, Clone, Copy)]
pub struct Awq {
    /// Steps of α from 0 to 1.
    pub steps: usize,
    /// Whether weights are clipped where round-to-nearest follows.
    pub clip: bool,
}

impl Awq {
    /// What the registry holds: the paper's 20 steps, with clipping.
    pub const DEFAULT: Awq = Awq { steps: 20, clip: true };
}

static CARD: MethodCard = MethodCard {
    name: "awq",
    room: "weights",
    title: "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
    year: 2023,
    arxiv: Some("2306.00978"),
    mechanism: "Scales input channels up by a power of their activations' size before rounding, searched per group of linears \
                that share an input, and folds the inverse into the norm or linear before; then searches how far to clip.",
    guarantees: &[
        "before rounding and clipping the outputs are the original's up to floating-point rounding",
        "no group's error on the rows measured ends above that without scales, nor a matrix's above that without clipping",
        "without calibration nothing is folded; the same statistics give the same folds at any thread count",
    ],
    simplifications: &[
        "the error is that of each linear's outputs by its inputs' Hessian, for q, k and v too (the paper's code: the block's)",
        "a channel's size is its root mean square, not its mean absolute value",
        "on matrices of more than half a million weights errors are measured on a sample of rows",
    ],
};

/// Shares of a group's greatest value that clipping tries, besides 1.
const CLIPS: [f32; 7] = [0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5];

impl FoldMethod for Awq {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn check(&self, _config: &Config) -> Result<(), Error> {
        Ok(())
    }

    fn fold(&self, job: &FoldJob) -> Result<FoldOutcome, Error> {
        let mut outcome = FoldOutcome::default();
        for layer in job.layers.clone() {
            for place in [Place::Qkv, Place::AttnOutput, Place::GateUp, Place::Down] {
                self.group(job, layer, place, &mut outcome)?;
            }
            // A matrix whose rows are scaled for the next group is clipped after that.
            for kind in [TensorKind::AttnV, TensorKind::AttnQkv, TensorKind::FfnUp] {
                outcome.folds.get_mut(Role::block(layer, kind)).into_iter().for_each(rescale_clip);
            }
        }
        Ok(outcome)
    }
}

/// Takes bounds that were found before the rows were scaled along.
fn rescale_clip(fold: &mut Fold) {
    let (Some(rows), Some(clip)) = (&fold.rows, &mut fold.clip) else { return };
    let runs = clip.most.len() / rows.len().max(1);
    for (bounds, factor) in clip.most.chunks_mut(runs.max(1)).zip(rows) {
        bounds.iter_mut().for_each(|bound| *bound *= factor);
    }
}

/// A linear of a group, on the rows that are measured.
struct Linear {
    role: Role,
    level: Level,
    sample: Matrix,
}

impl Awq {
    fn group(&self, job: &FoldJob, layer: usize, place: Place, outcome: &mut FoldOutcome) -> Result<(), Error> {
        let mut linears = Vec::new();
        for kind in TensorKind::ALL {
            let role = Role::block(layer, kind);
            let site = Site { layer: Some(layer), place };
            if Site::of(role) == Some(site) && job.source.tensor(role).is_some() {
                linears.extend(Linear::read(job, role)?);
            }
        }
        let Some(first) = linears.first() else { return Ok(()) };
        let cols = first.sample.cols();
        let Some(cost) = Cost::new(&(job.statistics)(first.role), cols)? else { return Ok(()) };
        let shared = Shared::new(job.source.config(), place, cols);
        let sizes = shared.sizes(&cost.moments);
        let unit = vec![1.0; cols];
        let energy: f64 = linears.iter().map(|linear| cost.of(&linear.sample)).sum();
        let before = error(&linears, &cost, &unit)?;
        let (mut best, mut alpha, mut scales) = (before, 0.0, unit);
        let steps = if shared.folds() { self.steps } else { 0 };
        for step in 1..=steps {
            let tried = step as f32 / steps as f32;
            let candidate = shared.scales(&sizes, tried);
            let error = error(&linears, &cost, &candidate)?;
            if error < best {
                (best, alpha, scales) = (error, tried, candidate);
            }
        }
        if alpha > 0.0 {
            shared.fold(job, layer, &scales, &mut outcome.folds);
        }
        if self.clip && job.nearest {
            for linear in linears.iter().filter(|l| !matches!(l.role.kind, TensorKind::AttnQ | TensorKind::AttnK)) {
                best -= linear.clip(job, &cost, &scales, &mut outcome.folds)?;
            }
        }
        let relative = |error: f64| if energy > 0.0 { error / energy } else { 0.0 };
        let (before, after) = (relative(before), relative(best));
        outcome.groups.push(GroupReport { layer, place, alpha, before, after });
        Ok(())
    }
}

impl Linear {
    /// `None` if the matrix is not going to be rounded.
    fn read(job: &FoldJob, role: Role) -> Result<Option<Self>, Error> {
        let level = match (job.level)(role) {
            Some(Level::Type(ty)) if !ty.is_quantized() => return Ok(None),
            Some(level) => level,
            None => return Ok(None),
        };
        let entry = job.source.require(role)?;
        let mut values = Vec::new();
        let rows = sample_rows(entry.rows, entry.cols);
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            values.extend(job.source.read_rows_f32(entry, run[0]..run[0] + run.len())?);
        }
        Ok(Some(Self { role, level, sample: Matrix::from_vec(rows.len(), entry.cols, values) }))
    }

    /// Finds this matrix's clips; returns by how much its error falls.
    fn clip(&self, job: &FoldJob, cost: &Cost, scales: &[f32], folds: &mut Folds) -> Result<f64, Error> {
        let entry = job.source.require(self.role)?;
        let group = match self.level {
            Level::Integer { group, .. } => group,
            Level::Type(ty) => ty.block(),
            Level::Sum(Sum::Outliers { group, .. }) => usize::from(group),
            Level::Sum(Sum::Turned(Codes::Integer { group, .. })) => group,
            Level::Sum(Sum::Turned(Codes::Type(ty))) => ty.block(),
            Level::Sum(_) => 0,
        };
        let mut clip = Clip { group, most: Vec::new() };
        let slab = (crate::database::SAMPLE_WEIGHTS / entry.cols.max(1)).clamp(1, entry.rows.max(1));
        for start in (0..entry.rows).step_by(slab) {
            let rows = start..(start + slab).min(entry.rows);
            let values = job.source.read_rows_f32(entry, rows.clone())?;
            let w = scaled(&Matrix::from_vec(rows.len(), entry.cols, values), scales);
            clip.most.extend(cost.clips(&w, scales, self.level, group)?);
        }
        // What clipping does to the sample as a whole, across groups too.
        let w = scaled(&self.sample, scales);
        let runs = clip.runs(entry.cols);
        let rows = sample_rows(entry.rows, entry.cols);
        let bounds: Vec<f32> = rows.iter().flat_map(|row| &clip.most[row * runs..][..runs]).copied().collect();
        let clipped = clamp(&w, group, &bounds);
        let error = |stored: &Matrix| -> Result<f64, Error> {
            let rounded = round(stored, self.level)?;
            Ok(cost.of(&difference(&w, &rounded, scales)))
        };
        let gain = error(&w)? - error(&clipped)?;
        if gain > 0.0 {
            folds.entry(self.role).clip = Some(clip);
        }
        Ok(gain.max(0.0))
    }
}

/// Error of the outputs of all linears of a group when their columns are scaled before rounding.
fn error(linears: &[Linear], cost: &Cost, scales: &[f32]) -> Result<f64, Error> {
    let mut sum = 0.0;
    for linear in linears {
        let w = scaled(&linear.sample, scales);
        sum += cost.of(&difference(&w, &round(&w, linear.level)?, scales));
    }
    Ok(sum)
}

fn round(w: &Matrix, level: Level) -> Result<Matrix, Error> {
    Ok(RoundToNearest.compress(w, &Statistics::default(), level)?.dequantize()?)
}

fn scaled(w: &Matrix, scales: &[f32]) -> Matrix {
    let mut out = Matrix::from_vec(w.rows(), w.cols(), w.data().to_vec());
    out.view_mut().parallel_rows(16, |_, row| row.iter_mut().zip(scales).for_each(|(value, scale)| *value *= scale));
    out
}

/// `(w − rounded)/s`: the error in the coordinates of the unscaled input.
fn difference(w: &Matrix, rounded: &Matrix, scales: &[f32]) -> Matrix {
    let mut out = Matrix::zeros(w.rows(), w.cols());
    out.view_mut().parallel_rows(16, |row, values| {
        let pairs = w.row(row).iter().zip(rounded.row(row)).zip(scales);
        values.iter_mut().zip(pairs).for_each(|(value, ((w, r), scale))| *value = (w - r) / scale);
    });
    out
}

/// Clamps runs of `group` columns to bounds, row after row.
fn clamp(w: &Matrix, group: usize, most: &[f32]) -> Matrix {
    let length = if group == 0 { w.cols().max(1) } else { group };
    let runs = w.cols().div_ceil(length);
    let mut out = Matrix::from_vec(w.rows(), w.cols(), w.data().to_vec());
    for row in 0..w.rows() {
        for (values, &most) in out.row_mut(row).chunks_mut(length).zip(&most[row * runs..]) {
            values.iter_mut().for_each(|value| *value = value.clamp(-most, most));
        }
    }
    out
}

/// What an error in the weights costs the outputs.
struct Cost {
    moments: Vec<f32>,
    hessian: Option<(std::sync::Arc<Hessian>, DensePanels)>,
}

impl Cost {
    /// `None` without statistics.
    fn new(statistics: &Statistics, cols: usize) -> Result<Option<Self>, Error> {
        if let Some(hessian) = statistics.hessian(cols)? {
            let panels = DensePanels::from_f32(cols, cols, hessian.matrix().data());
            let hessian = statistics.hessian.clone().map(|hessian| (hessian, panels));
            let moments = hessian.iter().flat_map(|(hessian, _)| hessian.diagonal()).collect();
            return Ok(Some(Self { moments, hessian }));
        }
        let moments = statistics.importance(cols)?;
        Ok(moments.map(|moments| Self { moments: moments.to_vec(), hessian: None }))
    }

    /// `tr(E·H·Eᵀ)`.
    fn of(&self, e: &Matrix) -> f64 {
        let mut product = Matrix::zeros(e.rows(), e.cols());
        match &self.hessian {
            Some((_, panels)) => panels.multiply(e.view(), &mut product.view_mut(), false),
            None => (0..e.rows()).for_each(|row| {
                let pairs = e.row(row).iter().zip(&self.moments);
                product.row_mut(row).iter_mut().zip(pairs).for_each(|(p, (e, moment))| *p = e * moment);
            }),
        }
        let pairs = e.data().iter().zip(product.data());
        pairs.map(|(e, p)| f64::from(*e) * f64::from(*p)).sum::<f64>().max(0.0)
    }

    /// For each run of a scaled matrix the bound of least error, infinity where none helps. Rows and runs on their own.
    fn clips(&self, w: &Matrix, scales: &[f32], level: Level, group: usize) -> Result<Vec<f32>, Error> {
        let cols = w.cols();
        let length = if group == 0 { cols.max(1) } else { group };
        let greatest: Vec<f32> = (0..w.rows())
            .flat_map(|row| w.row(row).chunks(length))
            .map(|run| run.iter().fold(0.0f32, |most, value| most.max(value.abs())))
            .collect();
        let mut most = vec![f32::INFINITY; greatest.len()];
        let mut least = self.runs(&difference(w, &round(w, level)?, scales), length);
        for share in CLIPS {
            let bounds: Vec<f32> = greatest.iter().map(|greatest| share * greatest).collect();
            let rounded = round(&clamp(w, group, &bounds), level)?;
            let errors = self.runs(&difference(w, &rounded, scales), length);
            for ((most, least), (bound, error)) in most.iter_mut().zip(&mut least).zip(bounds.into_iter().zip(errors)) {
                if error < *least {
                    (*most, *least) = (bound, error);
                }
            }
        }
        Ok(most)
    }

    /// The error of each run by itself.
    fn runs(&self, e: &Matrix, length: usize) -> Vec<f64> {
        let (cols, runs) = (e.cols(), e.cols().div_ceil(length));
        let mut sums = Matrix::zeros(e.rows(), runs);
        sums.view_mut().parallel_rows(4, |row, out| {
            for (run, (out, e)) in out.iter_mut().zip(e.row(row).chunks(length)).enumerate() {
                let first = run * length;
                *out = match &self.hessian {
                    None => e.iter().zip(&self.moments[first..cols]).map(|(e, moment)| e * e * moment).sum(),
                    Some((hessian, _)) => {
                        let dot = |k: usize| -> f32 {
                            let row = &hessian.matrix().row(first + k)[first..];
                            row.iter().zip(e).map(|(h, e)| h * e).sum()
                        };
                        e.iter().enumerate().map(|(k, value)| value * dot(k)).sum()
                    }
                };
            }
        });
        sums.data().iter().map(|sum| f64::from(*sum)).collect()
    }
}

/// Where the scales of a group's input go, and which of them must be equal.
#[derive(Clone, Copy)]
enum Shared {
    /// The norm of this kind; every channel on its own.
    Norm(TensorKind),
    /// Rows of a linear, from row `first` on; `heads` heads of `width` in runs of `repeats` that share theirs.
    Rows { kind: TensorKind, first: usize, width: usize, repeats: usize },
    /// Nowhere.
    Nothing,
}

impl Shared {
    fn new(config: &Config, place: Place, cols: usize) -> Self {
        let attention = &config.attention;
        match place {
            Place::Qkv => Self::Norm(TensorKind::AttnNorm),
            Place::GateUp => Self::Norm(TensorKind::FfnNorm),
            Place::AttnOutput => {
                let (kind, first) = match attention.fused {
                    true => (TensorKind::AttnQkv, attention.q_width() + attention.kv_width()),
                    false => (TensorKind::AttnV, 0),
                };
                let repeats = attention.heads / attention.kv_heads.max(1);
                Self::Rows { kind, first, width: attention.head_dim, repeats }
            }
            Place::Down if config.mlp.gated => {
                Self::Rows { kind: TensorKind::FfnUp, first: 0, width: cols, repeats: 1 }
            }
            Place::Down | Place::Head => Self::Nothing,
        }
    }

    fn folds(self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// The channel of the neighbour that input `col` comes from.
    fn channel(self, col: usize) -> usize {
        match self {
            Self::Rows { width, repeats, .. } => col / (width * repeats).max(1) * width + col % width.max(1),
            _ => col,
        }
    }

    /// Root mean square of each input, over all that share a channel; not below 10⁻⁴ of the greatest.
    fn sizes(self, moments: &[f32]) -> Vec<f32> {
        let mut sums = vec![(0.0f32, 0.0f32); moments.len()];
        for (col, &moment) in moments.iter().enumerate() {
            let sum = &mut sums[self.channel(col)];
            *sum = (sum.0 + moment.max(0.0), sum.1 + 1.0);
        }
        let mean = |col: usize| sums[self.channel(col)].0 / sums[self.channel(col)].1.max(1.0);
        let greatest = (0..moments.len()).map(mean).fold(0.0f32, f32::max);
        (0..moments.len()).map(|col| mean(col).max(1e-8 * greatest).max(f32::MIN_POSITIVE).sqrt()).collect()
    }

    /// `a^α` over its geometric mean.
    fn scales(self, sizes: &[f32], alpha: f32) -> Vec<f32> {
        let logs: Vec<f32> = sizes.iter().map(|size| math::ln(*size)).collect();
        let mean = (logs.iter().map(|log| f64::from(*log)).sum::<f64>() / logs.len().max(1) as f64) as f32;
        logs.iter().map(|log| math::exp(alpha * (log - mean))).collect()
    }

    /// Writes scales down: columns of the readers, the inverse in the neighbour.
    fn fold(self, job: &FoldJob, layer: usize, scales: &[f32], folds: &mut Folds) {
        let (neighbour, count) = match self {
            Self::Norm(kind) => (kind, scales.len()),
            Self::Rows { kind, repeats, .. } => (kind, scales.len() / repeats.max(1)),
            Self::Nothing => return,
        };
        let first = if let Self::Rows { first, .. } = self { first } else { 0 };
        let mut inverse = vec![1.0; first + count];
        for (col, scale) in scales.iter().enumerate() {
            inverse[first + self.channel(col)] = 1.0 / scale;
        }
        let neighbour = Role::block(layer, neighbour);
        for role in [neighbour, neighbour.bias()] {
            if job.source.tensor(role).is_some() {
                folds.entry(role).rows = Some(inverse.clone());
            }
        }
        let site = self.site(layer);
        for entry in job.source.tensors().iter().filter(|entry| Site::of(entry.role) == Some(site)) {
            folds.entry(entry.role).columns = Some(scales.to_vec());
        }
    }

    /// Where the readers of the scaled input are.
    fn site(self, layer: usize) -> Site {
        let place = match self {
            Self::Norm(TensorKind::AttnNorm) => Place::Qkv,
            Self::Norm(_) => Place::GateUp,
            Self::Rows { kind: TensorKind::FfnUp, .. } => Place::Down,
            _ => Place::AttnOutput,
        };
        Site { layer: Some(layer), place }
    }
}
