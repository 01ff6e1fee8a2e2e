//! All methods that shrink parameters, by name.

use crate::factor::{BitStack, Lord};
use crate::quantize::{Gptq, LlmInt8, RoundToNearest, Spqr};
use crate::{Error, WeightMethod};

static METHODS: [&dyn WeightMethod; 6] = [&RoundToNearest, &Gptq::DEFAULT, &Spqr, &LlmInt8, &Lord, &BitStack];

/// Every method, in the order in which `brevity methods` lists them.
pub fn methods() -> &'static [&'static dyn WeightMethod] {
    &METHODS
}

/// The method of that name.
///
/// # Errors
/// If there is none; the error lists those that there are.
pub fn method(name: &str) -> Result<&'static dyn WeightMethod, Error> {
    let found = methods().iter().find(|method| method.card().name.eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = methods().iter().map(|method| method.card().name).collect();
        Error::UnknownMethod { name: name.to_string(), known: known.join(", ") }
    })
}
