//! Methods that round weights to a grid.

mod feedback;
pub mod gptq;
mod rtn;
mod unit;

pub use gptq::Gptq;
pub use rtn::RoundToNearest;
