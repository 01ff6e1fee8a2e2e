//! One typed configuration for every supported architecture, read from `config.json`, GGUF metadata or a llama2.c header.

mod gguf;
mod hf;
mod llama2c;

use brevity_kernels::rope::RopeTable;

use crate::arch::{Architecture, Attention, Block, Mlp, NormKind, Position, RopeScaling};
use crate::error::{Error, Result};
use crate::names::{Role, TensorKind};

#[cfg(test)]
mod tests;

pub(crate) use crate::keys::Keys;
pub(crate) use gguf::GgufTensors;

/// Everything about a model but its weights and its tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Width of the hidden state.
    pub hidden: usize,
    /// The blocks' attention; its `window` is that of no particular layer, see [`windows`](Self::windows).
    pub attention: Attention,
    /// Sliding window of each layer; its length is the number of layers.
    pub windows: Vec<Option<usize>>,
    /// The blocks' MLP.
    pub mlp: Mlp,
    /// Kind of every norm.
    pub norm: NormKind,
    /// Epsilon of every norm.
    pub norm_eps: f32,
    /// Rope or learned positions.
    pub position: Position,
    /// The head is the token embedding.
    pub tied: bool,
    /// Longest context the model was made for.
    pub context: usize,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// Tokens that end one.
    pub eos: Vec<u32>,
}

/// A tensor that a model of some configuration must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its place.
    pub role: Role,
    /// Outputs; length for a vector.
    pub rows: usize,
    /// Inputs; 1 for a vector.
    pub cols: usize,
    /// A norm or a bias.
    pub vector: bool,
}

impl Config {
    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// The description of one block.
    pub fn block(&self, layer: usize) -> Block {
        let window = self.windows.get(layer).copied().flatten();
        let attention = Attention { window, ..self.attention };
        Block { norm: self.norm, eps: self.norm_eps, attention, mlp: self.mlp }
    }

    /// Rope's frequencies, if it has rope.
    pub fn rope_table(&self) -> Option<RopeTable> {
        match &self.position {
            Position::Rope(rope) => Some(rope.table(self.attention.head_dim)),
            Position::Learned => None,
        }
    }

    /// Every tensor of the model, in the order in which it is used (the head last), a tied head left out.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = TensorList(Vec::new());
        list.matrix(Role::global(TensorKind::TokenEmbedding), self.vocab, self.hidden);
        if self.position == Position::Learned {
            list.matrix(Role::global(TensorKind::PositionEmbedding), self.context, self.hidden);
        }
        for layer in 0..self.layers() {
            self.block_tensors(layer, &mut list);
        }
        list.norm(Role::global(TensorKind::OutputNorm), self.hidden, self.norm);
        if !self.tied {
            list.matrix(Role::global(TensorKind::Output), self.vocab, self.hidden);
        }
        list.0
    }

    fn block_tensors(&self, layer: usize, list: &mut TensorList) {
        use TensorKind::*;
        let Block { norm, attention, mlp, .. } = self.block(layer);
        let role = |kind| Role::block(layer, kind);
        let (q, kv) = (attention.q_width(), attention.kv_width());
        list.norm(role(AttnNorm), self.hidden, norm);
        if attention.fused {
            list.linear(role(AttnQkv), q + 2 * kv, self.hidden, attention.qkv_bias);
        } else {
            list.linear(role(AttnQ), q, self.hidden, attention.qkv_bias);
            list.linear(role(AttnK), kv, self.hidden, attention.qkv_bias);
            list.linear(role(AttnV), kv, self.hidden, attention.qkv_bias);
        }
        if attention.qk_norm {
            list.vector(role(AttnQNorm), attention.head_dim);
            list.vector(role(AttnKNorm), attention.head_dim);
        }
        list.linear(role(AttnOutput), self.hidden, q, attention.output_bias);
        list.norm(role(FfnNorm), self.hidden, norm);
        if mlp.gated {
            list.linear(role(FfnGate), mlp.width, self.hidden, mlp.bias);
        }
        list.linear(role(FfnUp), mlp.width, self.hidden, mlp.bias);
        list.linear(role(FfnDown), self.hidden, mlp.width, mlp.bias);
    }

    /// Refuses what no model can be, so that later arithmetic cannot overflow.
    fn check(self, keys: &Keys) -> Result<Self> {
        const MOST: usize = 1 << 24;
        let attention = &self.attention;
        let sizes = [
            ("number of layers", self.layers(), 1 << 14),
            ("vocabulary", self.vocab, MOST),
            ("hidden size", self.hidden, MOST),
            ("number of heads", attention.heads, 1 << 16),
            ("number of key-value heads", attention.kv_heads, 1 << 16),
            ("head dimension", attention.head_dim, 1 << 16),
            ("MLP width", self.mlp.width, MOST),
            ("context", self.context, 1 << 30),
        ];
        for (what, found, most) in sizes {
            if found == 0 || found > most {
                return Err(keys.bad(what, found, format!("1 to {most}")));
            }
        }
        if !attention.heads.is_multiple_of(attention.kv_heads) {
            let expected = format!("a divisor of the {} heads", attention.heads);
            return Err(keys.bad("number of key-value heads", attention.kv_heads, expected));
        }
        if let Position::Rope(rope) = &self.position {
            if !attention.head_dim.is_multiple_of(2) {
                return Err(keys.bad("head dimension", attention.head_dim, "an even number (rope rotates pairs)"));
            }
            if let RopeScaling::Factors(factors) = &rope.scaling
                && (factors.len() != attention.head_dim / 2 || factors.iter().any(|f| !(f.is_finite() && *f > 0.0)))
            {
                let expected = format!("{} positive numbers", attention.head_dim / 2);
                return Err(keys.bad("rope_freqs.weight", format!("{} numbers", factors.len()), expected));
            }
            if !(rope.base.is_finite() && rope.base > 1.0) {
                return Err(keys.bad("rope base", rope.base, "a number above 1"));
            }
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(keys.bad("norm epsilon", self.norm_eps, "a number between 0 and 1"));
        }
        if let Some(zero) = self.windows.iter().position(|window| *window == Some(0)) {
            return Err(keys.bad("sliding window", format!("0 in layer {zero}"), "at least 1"));
        }
        let special = self.bos.iter().chain(&self.eos).find(|&&id| id as usize >= self.vocab);
        match special {
            Some(id) => Err(keys.bad("bos or eos token", id, format!("below the vocabulary of {}", self.vocab))),
            None => Ok(self),
        }
    }
}

struct TensorList(Vec<TensorSpec>);

impl TensorList {
    fn matrix(&mut self, role: Role, rows: usize, cols: usize) {
        self.0.push(TensorSpec { role, rows, cols, vector: false });
    }

    fn vector(&mut self, role: Role, rows: usize) {
        self.0.push(TensorSpec { role, rows, cols: 1, vector: true });
    }

    fn linear(&mut self, role: Role, rows: usize, cols: usize, bias: bool) {
        self.matrix(role, rows, cols);
        if bias {
            self.vector(role.bias(), rows);
        }
    }

    fn norm(&mut self, role: Role, width: usize, kind: NormKind) {
        self.vector(role, width);
        if kind == NormKind::Layer {
            self.vector(role.bias(), width);
        }
    }
}

fn unknown_architecture(keys: &Keys, found: impl ToString) -> Error {
    Error::UnknownArchitecture {
        file: keys.file().to_owned(),
        found: found.to_string(),
        supported: Architecture::supported(),
    }
}

fn unsupported(keys: &Keys, key: &str, found: impl ToString, supported: &str) -> Error {
    Error::Unsupported {
        file: keys.file().to_owned(),
        key: key.to_owned(),
        found: found.to_string(),
        supported: supported.to_owned(),
    }
}
