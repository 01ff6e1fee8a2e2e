//! Weights in memory: each block's matrices, in the layout that the kernels read.

use std::sync::Arc;

use brevity_kernels::{Matrix, MatrixMut, MatrixView, norm};
use brevity_parts::{CompressedMatrix, Input};

use crate::arch::NormKind;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::names::{Role, TensorKind};
use crate::source::WeightSource;

/// Linears that read one input, their outputs side by side.
pub struct Projection {
    matrices: Vec<CompressedMatrix>,
    bias: Option<Vec<f32>>,
}

impl Projection {
    fn load(source: &dyn WeightSource, roles: &[Role], widths: &[usize], inputs: usize, bias: bool) -> Result<Self> {
        let matrices = source.matrices(roles)?;
        let rows: usize = matrices.iter().map(CompressedMatrix::rows).sum();
        let expected: usize = widths.iter().sum();
        if rows != expected || matrices.iter().any(|matrix| matrix.cols() != inputs) {
            let found = matrices.iter().map(|m| format!("{}×{}", m.rows(), m.cols())).collect::<Vec<_>>().join(" + ");
            return Err(Error::argument(&roles[0].gguf_name(), found, format!("{expected}×{inputs}")));
        }
        let bias = match bias {
            true => Some(load_bias(source, roles, expected)?),
            false => None,
        };
        Ok(Self { matrices, bias })
    }

    /// Outputs.
    pub fn width(&self) -> usize {
        self.matrices.iter().map(CompressedMatrix::rows).sum()
    }

    /// `y = x·Wᵀ + b`, or `y += …`.
    pub fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        let mut first = 0;
        for matrix in &self.matrices {
            let columns = first..first + matrix.rows();
            first = columns.end;
            matrix.multiply(x, &mut y.cols_range(columns), add);
        }
        if let Some(bias) = &self.bias {
            y.parallel_rows(32, |_, row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
        }
    }

    /// Bytes held.
    pub fn resident_bytes(&self) -> usize {
        let matrices: usize = self.matrices.iter().map(CompressedMatrix::resident_bytes).sum();
        matrices + self.bias.as_ref().map_or(0, |bias| 4 * bias.len())
    }
}

fn load_bias(source: &dyn WeightSource, roles: &[Role], expected: usize) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(expected);
    for role in roles {
        all.extend(source.vector(role.bias())?);
    }
    match all.len() == expected {
        true => Ok(all),
        false => Err(Error::argument(&roles[0].bias().gguf_name(), all.len(), expected)),
    }
}

/// A norm's weights.
pub struct Norm {
    kind: NormKind,
    eps: f32,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn load(source: &dyn WeightSource, role: Role, kind: NormKind, eps: f32, width: usize) -> Result<Self> {
        let vector = |role: Role| {
            let values = source.vector(role)?;
            match values.len() == width {
                true => Ok(values),
                false => Err(Error::argument(&role.gguf_name(), values.len(), width)),
            }
        };
        let bias = match kind {
            NormKind::Layer => vector(role.bias())?,
            NormKind::Rms => Vec::new(),
        };
        Ok(Self { kind, eps, weight: vector(role)?, bias })
    }

    /// Normalises every row of `x` into `out`, which takes its shape.
    pub fn apply(&self, x: MatrixView<'_>, out: &mut Matrix) {
        out.reshape(x.rows(), x.cols());
        let out = &mut out.view_mut();
        match self.kind {
            NormKind::Rms => norm::rms_norm(x, &self.weight, self.eps, out),
            NormKind::Layer => norm::layer_norm(x, &self.weight, &self.bias, self.eps, out),
        }
    }

    /// Normalises (by RMS) each head of each row.
    pub fn apply_heads(&self, x: &mut MatrixMut<'_>) {
        norm::rms_norm_heads(x, &self.weight, self.eps);
    }
}

/// The weights of one block.
pub struct BlockWeights {
    pub(crate) attn_norm: Norm,
    pub(crate) qkv: Projection,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) attn_output: Projection,
    pub(crate) ffn_norm: Norm,
    pub(crate) gate_up: Projection,
    pub(crate) down: Projection,
}

impl BlockWeights {
    /// Loads block `layer`.
    pub fn load(config: &Config, layer: usize, source: &dyn WeightSource) -> Result<Self> {
        use TensorKind::*;
        let block = config.block(layer);
        let (attention, mlp) = (block.attention, block.mlp);
        let (q, kv, hidden) = (attention.q_width(), attention.kv_width(), config.hidden);
        let role = |kind| Role::block(layer, kind);
        let norm = |kind, width| Norm::load(source, role(kind), block.norm, block.eps, width);
        let head_norm = |kind| match attention.qk_norm {
            true => Norm::load(source, role(kind), NormKind::Rms, block.eps, attention.head_dim).map(Some),
            false => Ok(None),
        };
        let project = |kinds: &[TensorKind], widths: &[usize], inputs, bias| {
            let roles: Vec<Role> = kinds.iter().map(|&kind| role(kind)).collect();
            Projection::load(source, &roles, widths, inputs, bias)
        };
        Ok(Self {
            attn_norm: norm(AttnNorm, hidden)?,
            qkv: match attention.fused {
                true => project(&[AttnQkv], &[q + 2 * kv], hidden, attention.qkv_bias)?,
                false => project(&[AttnQ, AttnK, AttnV], &[q, kv, kv], hidden, attention.qkv_bias)?,
            },
            q_norm: head_norm(AttnQNorm)?,
            k_norm: head_norm(AttnKNorm)?,
            attn_output: project(&[AttnOutput], &[hidden], q, attention.output_bias)?,
            ffn_norm: norm(FfnNorm, hidden)?,
            gate_up: match mlp.gated {
                true => project(&[FfnGate, FfnUp], &[mlp.width, mlp.width], hidden, mlp.bias)?,
                false => project(&[FfnUp], &[mlp.width], hidden, mlp.bias)?,
            },
            down: project(&[FfnDown], &[hidden], mlp.width, mlp.bias)?,
        })
    }

    /// Bytes held by the matrices.
    pub fn resident_bytes(&self) -> usize {
        [&self.qkv, &self.attn_output, &self.gate_up, &self.down].iter().map(|p| p.resident_bytes()).sum()
    }
}

/// Embeddings: where the hidden state begins.
pub struct Embedding {
    tokens: Arc<CompressedMatrix>,
    positions: Option<CompressedMatrix>,
}

impl Embedding {
    /// Loads the token embedding, and the learned positions where there are any.
    pub fn load(config: &Config, source: &dyn WeightSource) -> Result<Self> {
        let learned = config.position == crate::arch::Position::Learned;
        let positions = match learned {
            true => Some(one(source, Role::global(TensorKind::PositionEmbedding), config.context, config.hidden)?),
            false => None,
        };
        let tokens = one(source, Role::global(TensorKind::TokenEmbedding), config.vocab, config.hidden)?;
        Ok(Self { tokens: Arc::new(tokens), positions })
    }

    /// The hidden state of a token at a position.
    pub fn embed(&self, token: u32, position: usize, out: &mut [f32]) {
        self.tokens.row_f32(token as usize, out);
        if let Some(positions) = &self.positions {
            let mut vector = vec![0.0; out.len()];
            positions.row_f32(position, &mut vector);
            out.iter_mut().zip(&vector).for_each(|(x, p)| *x += p);
        }
    }

    /// Bytes held.
    pub fn resident_bytes(&self) -> usize {
        self.tokens.resident_bytes() + self.positions.as_ref().map_or(0, CompressedMatrix::resident_bytes)
    }
}

/// The last norm and the head.
pub struct Head {
    norm: Norm,
    output: Arc<CompressedMatrix>,
    /// Whether the matrix is an embedding's that is held elsewhere.
    shared: bool,
}

impl Head {
    /// Loads them by themselves.
    pub fn load(config: &Config, source: &dyn WeightSource) -> Result<Self> {
        let kind = if config.tied { TensorKind::TokenEmbedding } else { TensorKind::Output };
        let output = Arc::new(one(source, Role::global(kind), config.vocab, config.hidden)?);
        Ok(Self { norm: Self::load_norm(config, source)?, output, shared: false })
    }

    /// Loads them beside an embedding, which a tied head shares.
    pub fn load_beside(config: &Config, source: &dyn WeightSource, embedding: &Embedding) -> Result<Self> {
        match config.tied {
            true => {
                let output = Arc::clone(&embedding.tokens);
                Ok(Self { norm: Self::load_norm(config, source)?, output, shared: true })
            }
            false => Self::load(config, source),
        }
    }

    /// The last norm alone.
    pub fn load_norm(config: &Config, source: &dyn WeightSource) -> Result<Norm> {
        Norm::load(source, Role::global(TensorKind::OutputNorm), config.norm, config.norm_eps, config.hidden)
    }

    /// The last norm.
    pub fn norm(&self) -> &Norm {
        &self.norm
    }

    /// Logits of normalised rows.
    pub fn logits(&self, x: &Input, out: &mut MatrixMut) {
        self.output.multiply(x, out, false);
    }

    /// Bytes held, apart from those shared with an embedding.
    pub fn resident_bytes(&self) -> usize {
        if self.shared { 0 } else { self.output.resident_bytes() }
    }
}

fn one(source: &dyn WeightSource, role: Role, rows: usize, cols: usize) -> Result<CompressedMatrix> {
    let matrix = source.matrices(&[role])?.pop();
    match matrix {
        Some(matrix) if (matrix.rows(), matrix.cols()) == (rows, cols) => Ok(matrix),
        Some(other) => Err(Error::argument(
            &role.gguf_name(),
            format!("{}×{}", other.rows(), other.cols()),
            format!("{rows}×{cols}"),
        )),
        None => Err(Error::argument(&role.gguf_name(), "no matrix", format!("{rows}×{cols}"))),
    }
}
