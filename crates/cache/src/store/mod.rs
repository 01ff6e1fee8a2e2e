//! How tokens that stay are represented: the coding of each block, from its tokens' arrival on.

mod cskv;
mod float;
mod gear;
mod kivi;
mod mikv;
mod mixed;
mod saq;
mod split;
mod tiers;
mod token;
mod zipcache;

pub use cskv::Cskv;
pub use float::Float;
pub use gear::Gear;
pub use kivi::Kivi;
pub use mikv::Mikv;
pub use mixed::{Mixed, PRECISIONS};
pub use saq::Saq;
pub use split::Split;
pub use tiers::Tiers;
pub use token::TokenInt;
pub use zipcache::ZipCache;

pub use brevity_kernels::attention::packed::{Coding, Form, Recipe};
use brevity_measure::MethodCard;

/// A way to represent the tokens that stay.
pub trait Store: Send + Sync {
    /// What the method is.
    fn card(&self) -> &'static MethodCard;

    /// How it is written: the name, and options that differ from what they are by themselves.
    fn text(&self) -> String;

    /// Codings of keys and of values of tokens as they arrive; both write one token at a time.
    fn fresh(&self) -> (Coding, Coding);

    /// [`fresh`](Self::fresh) of one head: number `layer · key-value heads + head`.
    fn fresh_of(&self, place: usize) -> (Coding, Coding) {
        let _ = place;
        self.fresh()
    }

    /// How many heads in all layers it is for, if that matters.
    fn places(&self) -> Option<usize> {
        None
    }

    /// Codings of a full block once `age` more blocks are full after it; a block never goes back.
    fn aged(&self, age: usize) -> (Coding, Coding) {
        let _ = age;
        self.fresh()
    }

    /// Forms of a full block of heads of `dim` values once `age` more blocks are full after it: [`aged`](Self::aged), and what else there is.
    fn forms(&self, age: usize, dim: usize) -> (Form, Form) {
        let _ = dim;
        let (keys, values) = self.aged(age);
        (keys.into(), values.into())
    }

    /// Whether [`aged`](Self::aged) ever differs from [`fresh`](Self::fresh).
    fn ages(&self) -> bool {
        false
    }

    /// Whether keys, and values, are stored behind a block-diagonal Hadamard rotation of each head.
    fn rotates(&self) -> (bool, bool);

    /// Whether keys are stored without their mean: one learnt from the first 64 tokens is taken off every key, which moves all
    /// scores of a query alike, and the softmax does not see it. Until it is known keys are f16.
    fn centres(&self) -> bool {
        false
    }

    /// Whether keys of less than 8 bits are rounded by what queries of the first 64 tokens looked at; with [`centres`](Self::centres)
    /// alone.
    fn feeds_back(&self) -> bool {
        false
    }

    /// Whether heads are turned to their principal axes at the prompt's end; blocks take their [`forms`](Self::forms) from then on.
    fn turns(&self) -> bool {
        false
    }

    /// Two precisions, where importance decides at the prompt's end which tokens have which.
    fn tiers(&self) -> Option<Tiers> {
        None
    }

    /// Whether it can be one side of `k:…,v:…`.
    fn splits(&self) -> bool {
        false
    }
}
