//! Methods that shrink parameters, and the plan that says which tensor gets what.
//!
//! | module | what it holds |
//! |---|---|
//! | [`method`] | the trait [`WeightMethod`] that every method implements, and what it is given |
//! | [`level`] | one way to store a matrix: a GGUF block type, or integers with a group size |
//! | [`sum`] | levels that are sums of parts |
//! | [`quantize`] | methods that round to a grid |
//! | [`factor`] | methods that store factors |
//! | [`fold`] | methods that scale or rotate the model beforehand and leave its function as it is |
//! | [`registry`] | all methods, by name |
//! | [`hessian`] | the second moments of a linear's inputs |
//! | [`database`] | what each level of each tensor would cost and lose |
//! | [`allocate`] | searches for levels on the true loss of the whole model |
//! | [`plan`] | budgets and rules turned into one level per tensor |
#![forbid(unsafe_code)]

pub mod allocate;
pub mod database;
mod error;
pub mod factor;
pub mod fold;
pub mod hessian;
pub mod level;
pub mod method;
pub mod plan;
pub mod quantize;
pub mod registry;
pub mod sum;

pub use error::Error;
pub use hessian::{Hessian, HessianSum};
pub use level::Level;
pub use method::{Needs, Outcome, Statistics, WeightMethod};
pub use sum::Sum;
