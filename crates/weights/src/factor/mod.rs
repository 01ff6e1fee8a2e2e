//! Methods that store factors in place of weights.

mod bitstack;
mod lord;
mod spectrum;

pub use bitstack::{BitStack, Block, stack};
pub use lord::Lord;
