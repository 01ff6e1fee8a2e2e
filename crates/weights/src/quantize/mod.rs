//! Methods that round weights to a grid.

mod descent;
mod feedback;
pub mod gptq;
mod imatrix;
mod llm_int8;
mod online_rotation;
mod rtn;
mod spqr;
mod sweep;
mod unit;

pub(crate) use feedback::mean_diagonal;
pub use gptq::Gptq;
pub use imatrix::ImportanceMatrix;
pub use llm_int8::LlmInt8;
pub use online_rotation::OnlineRotation;
pub use rtn::RoundToNearest;
pub use spqr::Spqr;

use crate::Error;
use brevity_kernels::Matrix;

/// Refuses weights that are NaN or infinite.
pub(crate) fn check_finite(w: &Matrix) -> Result<(), Error> {
    match w.data().iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(brevity_formats::Error::NonFinite { what: "weights".into(), index, value: w.data()[index] }.into())
        }
        None => Ok(()),
    }
}
