//! One file a command.

pub mod archive;
pub mod bench;
pub mod cache;
pub mod compress;
pub mod convert;
pub mod diff;
pub mod eval;
pub mod imatrix;
pub mod inspect;
pub mod methods;
pub mod pack;
pub mod patch;
pub mod run;
pub mod unpack;

use crate::cli::{ActivationArg, AllocateArg};
use crate::compress::allocate::Allocator;
use brevity_parts::Activation;

impl From<AllocateArg> for Option<Allocator> {
    fn from(arg: AllocateArg) -> Self {
        match arg {
            AllocateArg::Lagrange => Some(Allocator::Lagrange),
            AllocateArg::Evopress => Some(Allocator::EvoPress),
            AllocateArg::None => None,
        }
    }
}

impl From<ActivationArg> for Activation {
    fn from(arg: ActivationArg) -> Self {
        match arg {
            ActivationArg::Int8 => Activation::Int8,
            ActivationArg::F32 => Activation::F32,
        }
    }
}
