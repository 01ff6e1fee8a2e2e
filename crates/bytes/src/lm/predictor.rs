//! A model that predicts, known by the hash of what it computes with.

use brevity_model::tokenizer::{TokenKind, Tokenizer};
use brevity_model::{Model, ModelSource, Options, Result};

/// First bytes of a BLAKE3.
pub type Hash = [u8; 16];

/// A causal model in memory with its vocabulary.
pub struct Predictor {
    name: String,
    hash: Hash,
    bytes: u64,
    model: Model,
    tokenizer: Tokenizer,
    start: u32,
}

impl Predictor {
    /// Loads a model that is called `name`.
    ///
    /// # Errors
    /// If it cannot be read, or has no tokenizer.
    pub fn load(source: &ModelSource, name: &str) -> Result<Self> {
        let tokenizer = source.tokenizer()?.clone();
        let known = |id: u32| (id as usize) < source.config().vocab;
        let start = [tokenizer.token_id("<|endoftext|>"), tokenizer.bos(), tokenizer.eos()];
        Ok(Self {
            name: name.chars().take(NAME_CHARS).collect(),
            hash: hash(source, &tokenizer)?,
            bytes: source.file_bytes(),
            // The activation is a part of the format: 8 bits where weights are integers.
            model: Model::load(source, Options::default())?,
            start: start.into_iter().flatten().find(|&id| known(id)).unwrap_or(0),
            tokenizer,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first 16 bytes of the BLAKE3 of its shape, its vocabulary and its tensors: of whatever file they come from.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Bytes of its files, which whoever unpacks needs beside the archive.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token that every text follows.
    pub(crate) fn start(&self) -> u32 {
        self.start
    }

    /// Tokens that it knows and that stand for bytes of a text.
    pub(crate) fn speaks(&self, id: u32) -> bool {
        let silent =
            matches!(self.tokenizer.kind(id), None | Some(TokenKind::Control | TokenKind::Unknown | TokenKind::Unused));
        !silent && (id as usize) < self.model.config().vocab && !self.tokenizer.token_bytes(id).is_empty()
    }
}

/// Longest name that an archive holds, in characters.
const NAME_CHARS: usize = 64;

fn hash(source: &ModelSource, tokenizer: &Tokenizer) -> Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let config = source.config();
    let attention = config.attention;
    let shape = [
        config.vocab,
        config.hidden,
        config.layers(),
        attention.heads,
        attention.kv_heads,
        attention.head_dim,
        config.context,
    ];
    for number in shape {
        hasher.update(&(number as u64).to_le_bytes());
    }
    hasher.update(&config.norm_eps.to_bits().to_le_bytes());
    for id in 0..tokenizer.vocab_size() as u32 {
        let token = tokenizer.token_bytes(id);
        hasher.update(&(token.len() as u32).to_le_bytes());
        hasher.update(token);
    }
    for tensor in source.tensors() {
        hasher.update(tensor.name.as_bytes());
        if tensor.is_packed() {
            for row in 0..tensor.rows {
                for x in source.read_rows_f32(tensor, row..row + 1)? {
                    hasher.update(&x.to_le_bytes());
                }
            }
        } else {
            hasher.update(&source.read_raw(tensor)?);
        }
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Ok(hash)
}
