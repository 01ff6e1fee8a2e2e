//! Context mixing: the byte engine.

mod beside;
mod contexts;
mod direct;
mod finish;
mod matching;
mod model;
mod net;
mod runs;
mod second;
mod slots;

pub use beside::{Beside, Tree};
pub use contexts::{LINES, Recent};
pub use model::{Lanes, Settings, WIDE, decode, decode_beside, encode, encode_beside, memory};
