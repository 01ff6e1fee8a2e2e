//! Methods that change a model before it is compressed, so that rounding hurts less, and leave its function as it is.
//!
//! | file | what it folds |
//! |---|---|
//! | [`awq`] | scales of input channels into the linear or norm before |
//! | [`rotation`] | orthogonal matrices into everything that reads or writes the hidden state, and into the heads of v and o |
//!
//! What comes out is a [`Folds`]; [`ModelSource::folded`] serves the model with it, and every method that stores matrices works on
//! that as on any other model. So they chain: `awq+gptq`, `rotation+awq+rtn` ([`registry::chain`](crate::registry::chain)). Of a
//! chain the statistics of each step are those of the model that the step before gave.

pub mod awq;
pub mod rotation;

use crate::method::{Needs, Statistics};
use crate::{Error, Level};
use brevity_measure::MethodCard;
use brevity_model::taps::Place;
use brevity_model::{Config, Folds, ModelSource, Role};
use std::ops::Range;

pub use awq::Awq;
pub use rotation::Rotate;

/// What a fold is made for.
pub struct FoldJob<'a> {
    pub source: &'a ModelSource,
    /// Blocks that are wanted; those of several calls are joined by [`Folds::merge`].
    pub layers: Range<usize>,
    /// What calibration says of the inputs of the linear of this role; empty statistics where there is none.
    pub statistics: &'a dyn Fn(Role) -> Statistics,
    /// The level that a matrix is going to be stored at; `None` where it stays as it is.
    pub level: &'a dyn Fn(Role) -> Option<Level>,
    /// Whether the matrices are going to be rounded to nearest: only then is clipping of use.
    pub nearest: bool,
}

/// What the search found for linears that share an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupReport {
    pub layer: usize,
    pub place: Place,
    /// Exponent of the scales; 0: none.
    pub alpha: f32,
    /// Relative error (energy) of the linears' outputs after rounding to nearest, without and with what was folded.
    pub before: f64,
    pub after: f64,
}

/// Folds, and what the search for them found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoldOutcome {
    pub folds: Folds,
    pub groups: Vec<GroupReport>,
}

/// A method that changes the model before its matrices are stored.
pub trait FoldMethod: Send + Sync {
    fn card(&self) -> &MethodCard;

    /// What it must know of the linears' inputs; without it there may be nothing to fold, as its card says.
    fn needs(&self) -> Needs;

    /// Refuses a model that it cannot be folded into.
    ///
    /// # Errors
    /// [`Error::NoFold`], with the reason.
    fn check(&self, config: &Config) -> Result<(), Error>;

    /// Finds the folds of some blocks, and those outside the blocks.
    ///
    /// # Errors
    /// As [`check`](Self::check), if weights cannot be read, or if statistics do not fit.
    fn fold(&self, job: &FoldJob) -> Result<FoldOutcome, Error>;
}
