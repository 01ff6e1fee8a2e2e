//! Rotation: the hidden state is turned so that no channel stands out, and every matrix with it.
//!
//! "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024, arXiv 2404.00456; the randomised Hadamard matrices are those of
//! "QuIP#" (arXiv 2402.04396). An RMS norm without weights commutes with rotations, `norm(Q·x) = Q·norm(x)`. So, after each
//! norm's weights `g` are absorbed by the linears that read it (`W·diag(g)`, the norm becomes ones), an orthogonal `Q` (hidden ×
//! hidden) goes through the whole model:
//!
//! | tensor | becomes |
//! |---|---|
//! | embedding (rows are tokens) | `E·Qᵀ` |
//! | q, k, v, gate, up, head | `W·diag(g)·Qᵀ` |
//! | o, down, and their biases | `Q·W`, `Q·b` |
//! | v, its bias; o | each head: `R·W_v`, `R·b_v`; `W_o·Rᵀ`, with `R` head × head |
//!
//! Weights of rotated rows are close to normal, without outliers ("incoherent"), which is what grids of few bits like.
//!
//! Sizes that are no power of two: see [`brevity_model::fold::Rotation`]. A head tied to the embedding must be untied when the
//! last norm has weights, since `E·diag(g)·Qᵀ ≠ E·Qᵀ`: the file then holds both, and its bytes are counted. Where all
//! weights of the last norm are equal it stays tied.

use super::{FoldJob, FoldMethod, FoldOutcome};
use crate::Error;
use crate::method::Needs;
use brevity_measure::MethodCard;
use brevity_model::arch::NormKind;
use brevity_model::fold::{Folds, Rotation};
use brevity_model::{Config, ModelSource, Role, TensorKind};
use std::sync::Arc;

/// Rotation with its options.
#[derive(Debug, Clone, Copy)]
pub struct Rotate {
    /// Seed of the random signs; without one plain Hadamard matrices.
    pub seed: Option<u64>,
    /// Whether heads of v and o are rotated too.
    pub heads: bool,
}

impl Rotate {
    /// What the registry holds: random signs, heads too.
    pub const DEFAULT: Rotate = Rotate { seed: Some(0x5157), heads: true };
}

static CARD: MethodCard = MethodCard {
    name: "rotation",
    room: "weights",
    title: "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs",
    year: 2024,
    arxiv: Some("2404.00456"),
    mechanism: "Absorbs the norms' weights and turns the hidden state, and each head of v and o, by Hadamard matrices with \
                random signs that are folded into all matrices, so that no channel stands out when they are rounded.",
    guarantees: &[
        "before rounding the outputs are the original's up to floating-point rounding",
        "needs no data; the same model gives the same folds",
    ],
    simplifications: &[
        "only what can be folded: the input of down and the cache's keys are not rotated while the model runs",
        "widths that are no power of two take a Paley Hadamard factor, or else a cosine transform",
        "a tied head is untied when the last norm has weights: the head's bytes come on top",
    ],
};

impl FoldMethod for Rotate {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn check(&self, config: &Config) -> Result<(), Error> {
        match config.norm {
            NormKind::Rms => Ok(()),
            NormKind::Layer => Err(Error::NoFold {
                method: CARD.name,
                why: format!(
                    "a {} has layer norms, which take the mean of the hidden state away; only RMS norms commute with rotations",
                    config.architecture.hf_name()
                ),
            }),
        }
    }

    fn fold(&self, job: &FoldJob) -> Result<FoldOutcome, Error> {
        use TensorKind::*;
        let (source, config) = (job.source, job.source.config());
        self.check(config)?;
        let hidden = Arc::new(Rotation::new(config.hidden, self.seed));
        let mut folding = Folding { source, folds: Folds::new() };
        folding.folds.entry(Role::global(TokenEmbedding)).right = Some(Arc::clone(&hidden));
        folding.head(config, &hidden)?;
        for layer in job.layers.clone() {
            let role = |kind| Role::block(layer, kind);
            folding.absorb(role(AttnNorm), &[AttnQ, AttnK, AttnV, AttnQkv].map(role), &hidden)?;
            folding.absorb(role(FfnNorm), &[FfnGate, FfnUp].map(role), &hidden)?;
            folding.writes(role(AttnOutput), &hidden);
            folding.writes(role(FfnDown), &hidden);
            if self.heads && !config.attention.fused {
                let seed = self.seed.map(|seed| seed ^ (layer as u64 + 1) << 32);
                let head = Arc::new(Rotation::new(config.attention.head_dim, seed));
                folding.writes(role(AttnV), &head);
                folding.folds.entry(role(AttnOutput)).right = Some(head);
            }
        }
        Ok(FoldOutcome { folds: folding.folds, groups: Vec::new() })
    }
}

struct Folding<'a> {
    source: &'a ModelSource,
    folds: Folds,
}

impl Folding<'_> {
    /// The norm's weights go into the linears that read it, whose inputs come rotated.
    fn absorb(&mut self, norm: Role, readers: &[Role], rotation: &Arc<Rotation>) -> Result<(), Error> {
        let weights = self.source.load_vector(self.source.require(norm)?)?;
        self.folds.entry(norm).values = Some(vec![1.0; weights.len()]);
        for &reader in readers.iter().filter(|reader| self.source.tensor(**reader).is_some()) {
            let fold = self.folds.entry(reader);
            fold.columns = Some(weights.clone());
            fold.right = Some(Arc::clone(rotation));
        }
        Ok(())
    }

    /// The outputs of a linear leave rotated, its bias with them.
    fn writes(&mut self, role: Role, rotation: &Arc<Rotation>) {
        for role in [role, role.bias()] {
            if self.source.tensor(role).is_some() {
                self.folds.entry(role).left = Some(Arc::clone(rotation));
            }
        }
    }

    fn head(&mut self, config: &Config, rotation: &Arc<Rotation>) -> Result<(), Error> {
        let (norm, head) = (Role::global(TensorKind::OutputNorm), Role::global(TensorKind::Output));
        if !config.tied {
            return self.absorb(norm, &[head], rotation);
        }
        let weights = self.source.load_vector(self.source.require(norm)?)?;
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(());
        }
        self.folds.untie = true;
        self.folds.entry(norm).values = Some(vec![1.0; weights.len()]);
        let fold = self.folds.entry(head);
        fold.columns = Some(weights);
        fold.right = Some(Arc::clone(rotation));
        Ok(())
    }
}
