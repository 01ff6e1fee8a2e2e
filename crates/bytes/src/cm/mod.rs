//! Context mixing: the byte engine.

mod contexts;
mod matching;
mod model;
mod slots;

pub use contexts::{Contexts, Plain, Recent, Text};
pub use model::{Settings, decode, encode};
