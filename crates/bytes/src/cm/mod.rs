//! Context mixing: the byte engine.

mod contexts;
mod direct;
mod matching;
mod model;
mod net;
mod runs;
mod slots;

pub use contexts::Recent;
pub use model::{Settings, decode, encode, memory};
