//! The file of a context: what it belongs to, the text's tokens, the coded keys and values, and a hash over all of it.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `brevi.kv` |
//! | 4 | version, 1 |
//! | 32 | BLAKE3 of the model: configuration and every tensor as stored |
//! | 32 | BLAKE3 of the tokenizer |
//! | 16 | layers, query heads, key-value heads, head size |
//! | 1 + n | the codec's name |
//! | 4 + 4·n | tokens |
//! | 4 + n, each | sides: keys of layer 0, 1, …, then values |
//! | 32 | BLAKE3 of everything before |
//!
//! Numbers are 32 bits, little end first. The hash finds every change of a bit and every cut. Nothing in it depends on the
//! instruction set it was written on: what is decoded has the same bits everywhere.

use super::wire::{Reader, Wire};
use super::{Codec, Context, codec, decode};
use crate::Error;
use brevity_kernels::rope::RopeTable;
use brevity_model::cache::CacheShape;

const MAGIC: [u8; 8] = *b"brevi.kv";
const VERSION: u32 = 1;
const HASH: usize = 32;

/// What a cache belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Hash of the model.
    pub model: [u8; HASH],
    /// Hash of the tokenizer.
    pub tokenizer: [u8; HASH],
    /// The shape of its cache.
    pub shape: CacheShape,
}

/// A context on disk.
pub struct File {
    pub identity: Identity,
    /// The text.
    pub tokens: Vec<u32>,
    codec: &'static dyn Codec,
    sides: Vec<Vec<u8>>,
}

impl File {
    /// A file of what [`Ready::encode`](super::Ready::encode) gave.
    pub fn new(identity: Identity, tokens: Vec<u32>, codec: &'static dyn Codec, sides: Vec<Vec<u8>>) -> File {
        File { identity, tokens, codec, sides }
    }

    /// The codec's name.
    pub fn codec(&self) -> &'static str {
        self.codec.card().name
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut wire = Wire(MAGIC.to_vec());
        wire.u32(VERSION);
        wire.0.extend(self.identity.model);
        wire.0.extend(self.identity.tokenizer);
        let CacheShape { layers, heads, kv_heads, head_dim } = self.identity.shape;
        [layers, heads, kv_heads, head_dim].iter().for_each(|&x| wire.u32(x as u32));
        let name = self.codec();
        wire.u8(name.len() as u8);
        wire.0.extend(name.as_bytes());
        wire.u32(self.tokens.len() as u32);
        self.tokens.iter().for_each(|&token| wire.u32(token));
        self.sides.iter().for_each(|side| wire.block(side));
        let hash = blake3::hash(&wire.0);
        wire.0.extend(hash.as_bytes());
        wire.0
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// If they are no such file, of another version, or damaged anywhere.
    pub fn from_bytes(bytes: &[u8]) -> Result<File, Error> {
        let mut reader = Reader::new(bytes);
        if reader.array::<8>().ok() != Some(MAGIC) {
            return Err(Error::NoCacheFile { found: bytes.iter().take(8).copied().collect() });
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::Version { found: version, expected: VERSION });
        }
        let Some(body) = bytes.len().checked_sub(HASH).filter(|&body| body >= 12) else {
            return Err(Error::Damaged { bytes: bytes.len() });
        };
        let (body, hash) = bytes.split_at(body);
        if blake3::hash(body).as_bytes() != hash {
            return Err(Error::Damaged { bytes: bytes.len() });
        }
        Self::read(body)
    }

    fn read(body: &[u8]) -> Result<File, Error> {
        let mut reader = Reader::new(body);
        reader.take(12)?;
        let (model, tokenizer) = (reader.array()?, reader.array()?);
        let mut size = || reader.u32().map(|x| x as usize);
        let shape = CacheShape { layers: size()?, heads: size()?, kv_heads: size()?, head_dim: size()? };
        let length = usize::from(reader.u8()?);
        let codec = codec(&String::from_utf8_lossy(reader.take(length)?))?;
        let count = reader.u32()? as usize;
        let tokens =
            reader.take(count.saturating_mul(4))?.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let mut sides = Vec::new();
        for _ in 0..2 * shape.layers.min(1 << 20) {
            sides.push(reader.block()?.to_vec());
        }
        reader.done()?;
        Ok(File { identity: Identity { model, tokenizer, shape }, tokens, codec, sides })
    }

    /// Refuses a model that it does not belong to.
    ///
    /// # Errors
    /// If the model, its tokenizer or the shape of its cache is another.
    pub fn check(&self, identity: &Identity) -> Result<(), Error> {
        let what = match &self.identity {
            own if own.tokenizer != identity.tokenizer => "tokenizer",
            own if own.shape != identity.shape => "shape of the cache",
            own if own.model != identity.model => "model",
            _ => return Ok(()),
        };
        Err(Error::Foreign { what })
    }

    /// Keys and values.
    ///
    /// # Errors
    /// If the codec refuses.
    pub fn context(&self, rope: Option<&RopeTable>) -> Result<Context, Error> {
        let sides: Vec<&[u8]> = self.sides.iter().map(Vec::as_slice).collect();
        decode(self.codec, &sides, self.tokens.len(), self.identity.shape, rope)
    }
}
