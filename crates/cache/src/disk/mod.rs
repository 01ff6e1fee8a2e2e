//! A context's cache on disk: a codec of keys and values, and the file around it.
//!
//! [`Context`] is what a text left in a cache: keys (turned by rope), values, and how large queries are in each channel.
//! A [`Codec`] makes bytes of the keys, or the values, of one layer at a time, with a step that says how coarse; decoding gives
//! the same bits on every machine and at any thread count. [`File`] holds all of them with the text's tokens and the names of
//! the model and the tokenizer they belong to, and finds any damage.

mod basis;
mod cachegen;
mod context;
mod file;
mod kvtc;
mod symbols;
mod wire;

pub(crate) use basis::eigenvectors;
pub use cachegen::CacheGen;
pub use context::{Context, Watch};
pub use file::{File, Identity};
pub use kvtc::Kvtc;

use crate::Error;
use brevity_kernels::{Matrix, pool};
use brevity_measure::MethodCard;
use brevity_model::cache::CacheShape;
use std::sync::Mutex;

/// Bytes of keys or values.
pub trait Codec: Send + Sync {
    /// What the method is.
    fn card(&self) -> &'static MethodCard;

    /// Whether it takes keys as rope turned them.
    fn turned(&self) -> bool;

    /// What a layer's step is multiplied by, where that is the method's own.
    fn bin(&self, layer: usize, layers: usize) -> f32 {
        let _ = (layer, layers);
        1.0
    }

    /// All that does not depend on the step. `rows` is (tokens, heads · `head_dim`); `weights` say for keys how large queries
    /// are in each channel: root mean squares over √d.
    fn prepare(&self, rows: &Matrix, weights: Option<&[f32]>, head_dim: usize) -> Box<dyn Prepared>;

    /// Rows back from bytes.
    ///
    /// # Errors
    /// If the bytes are none of this codec's.
    fn decode(&self, bytes: &[u8], tokens: usize, width: usize, head_dim: usize) -> Result<Matrix, Error>;
}

/// Keys or values of a layer, ready to be coded with any step.
pub trait Prepared: Send + Sync {
    /// The bytes, with a step in the codec's own unit.
    fn encode(&self, step: f32) -> Vec<u8>;

    /// A step of 1 in that unit is as large as the numbers' root mean square; for keys that are weighted, 1.
    fn unit(&self) -> f32;
}

/// All codecs.
pub fn codecs() -> [&'static dyn Codec; 2] {
    [&Kvtc, &CacheGen]
}

/// The codec of that name.
///
/// # Errors
/// If there is none.
pub fn codec(name: &str) -> Result<&'static dyn Codec, Error> {
    let known = || codecs().map(|codec| codec.card().name).join(", ");
    let found = codecs().into_iter().find(|codec| codec.card().name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| Error::Codec { name: name.to_string(), known: known() })
}

/// How coarse the keys and the values of each layer are.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl Steps {
    /// The same for all layers.
    pub fn even(layers: usize, keys: f32, values: f32) -> Steps {
        Steps { keys: vec![keys; layers], values: vec![values; layers] }
    }

    /// The step of a side of a layer, keys of all layers first, then values.
    fn of(&self, side: usize) -> f32 {
        if side < self.keys.len() { self.keys[side] } else { self.values[side - self.keys.len()] }
    }
}

/// A context's keys and values, ready to be coded.
pub struct Ready {
    shape: CacheShape,
    tokens: usize,
    codec: &'static dyn Codec,
    /// Keys of all layers, then values.
    sides: Vec<Box<dyn Prepared>>,
}

impl Ready {
    /// Prepares all layers, on all threads.
    pub fn new(codec: &'static dyn Codec, context: &Context) -> Ready {
        let shape = context.shape();
        let keys = if codec.turned() { context.keys.clone() } else { context.unturned() };
        let prepare = |side: usize| match side < shape.layers {
            true => codec.prepare(&keys[side], Some(&context.weights[side]), shape.head_dim),
            false => codec.prepare(&context.values[side - shape.layers], None, shape.head_dim),
        };
        let sides = each(2 * shape.layers, prepare);
        Ready { shape, tokens: context.tokens(), codec, sides }
    }

    /// The bytes of one side of a layer: keys of all layers first, then values.
    pub fn encode_side(&self, side: usize, steps: &Steps) -> Vec<u8> {
        let layers = self.shape.layers;
        self.sides[side].encode(steps.of(side) * self.codec.bin(side % layers, layers) * self.sides[side].unit())
    }

    /// The bytes of all sides.
    pub fn encode(&self, steps: &Steps) -> Vec<Vec<u8>> {
        each(self.sides.len(), |side| self.encode_side(side, steps))
    }

    /// The bytes of some sides; none for the others.
    pub fn encode_some(&self, steps: &Steps, sides: impl Fn(usize) -> bool + Sync) -> Vec<Vec<u8>> {
        each(self.sides.len(), |side| if sides(side) { self.encode_side(side, steps) } else { Vec::new() })
    }

    /// What the bytes of some sides decode to, among the others as they are in `full`.
    ///
    /// # Errors
    /// If they are not this codec's.
    pub fn decode_some(
        &self,
        coded: &[Vec<u8>],
        sides: impl Fn(usize) -> bool + Sync,
        full: &Context,
    ) -> Result<Context, Error> {
        let CacheShape { layers, kv_heads, head_dim, .. } = self.shape;
        let rows = each(coded.len(), |side| match (sides(side), side < layers) {
            (true, _) => self.codec.decode(&coded[side], self.tokens, kv_heads * head_dim, head_dim),
            (false, true) => Ok(full.keys[side].clone()),
            (false, false) => Ok(full.values[side - layers].clone()),
        });
        let mut keys = rows.into_iter().collect::<Result<Vec<Matrix>, Error>>()?;
        let values = keys.split_off(layers);
        if !self.codec.turned() {
            let coded: Vec<usize> = (0..layers).filter(|&side| sides(side)).collect();
            let taken = coded.iter().map(|&side| std::mem::take(&mut keys[side])).collect();
            let turned = full.turn(self.tokens, taken);
            coded.into_iter().zip(turned).for_each(|(side, rows)| keys[side] = rows);
        }
        Ok(Context { keys, values, weights: full.weights.clone(), rope: full.rope.clone(), shape: full.shape })
    }
}

/// Keys and values from the bytes of all sides.
fn decode(
    codec: &dyn Codec,
    sides: &[&[u8]],
    tokens: usize,
    shape: CacheShape,
    rope: Option<&brevity_kernels::rope::RopeTable>,
) -> Result<Context, Error> {
    let width = shape.kv_heads * shape.head_dim;
    let rows = each(sides.len(), |side| codec.decode(sides[side], tokens, width, shape.head_dim));
    let mut keys = rows.into_iter().collect::<Result<Vec<Matrix>, Error>>()?;
    let values = keys.split_off(shape.layers);
    let mut context = Context { shape, keys, values, weights: Vec::new(), rope: rope.cloned() };
    if !codec.turned() {
        let keys = std::mem::take(&mut context.keys);
        context.keys = context.turn(tokens, keys);
    }
    Ok(context)
}

/// `make` of every index, on all threads, in their order.
fn each<T: Send>(count: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let made = Mutex::new(Vec::with_capacity(count));
    pool::parallel(count, |index| {
        let one = make(index);
        made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, one));
    });
    let mut made = made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, one)| one).collect()
}
