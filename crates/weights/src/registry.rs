//! All methods that shrink parameters, by name.

use crate::factor::{BitStack, Lord};
use crate::fold::{Awq, FoldMethod, Rotate};
use crate::quantize::{Gptq, ImportanceMatrix, LlmInt8, OnlineRotation, RoundToNearest, Spqr};
use crate::{Error, Level, WeightMethod};
use brevity_measure::MethodCard;

static METHODS: [&dyn WeightMethod; 8] =
    [&RoundToNearest, &ImportanceMatrix, &Gptq::DEFAULT, &OnlineRotation, &Spqr, &LlmInt8, &Lord, &BitStack];

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
        let known: Vec<&str> = cards().iter().map(|card| card.name).collect();
        Error::UnknownMethod { name: name.to_string(), known: known.join(", ") }
    })
}

static FOLDS: [&dyn FoldMethod; 2] = [&Awq::DEFAULT, &Rotate::DEFAULT];

/// Every method that changes the model beforehand, in the order in which `brevity methods` lists them.
pub fn folds() -> &'static [&'static dyn FoldMethod] {
    &FOLDS
}

/// The cards of all methods, matrices' first.
pub fn cards() -> Vec<&'static MethodCard> {
    methods().iter().map(|method| method.card()).chain(folds().iter().map(|fold| fold.card())).collect()
}

/// What `--method` says: any number of folds, then how matrices are stored.
#[derive(Clone)]
pub struct Chain {
    pub folds: Vec<&'static dyn FoldMethod>,
    pub method: &'static dyn WeightMethod,
}

impl Chain {
    /// The names with `+` between them.
    pub fn name(&self) -> String {
        let folds = self.folds.iter().map(|fold| fold.card().name);
        folds.chain([self.method.card().name]).collect::<Vec<_>>().join("+")
    }

    /// Whether all that it stores are sums of parts, which only a format of their own holds.
    pub fn stores_sums(&self) -> bool {
        self.method.levels().iter().all(|level| matches!(level, Level::Sum(_)))
    }

    /// Whether matrices are rounded to nearest in the end.
    pub fn rounds_to_nearest(&self) -> bool {
        self.method.card().name == RoundToNearest.card().name
    }
}

/// Reads `gptq`, `awq+gptq`, `rotation+awq+rtn`; folds alone end in round-to-nearest.
///
/// # Errors
/// If a name is unknown, or a fold comes after the method that stores matrices.
pub fn chain(text: &str) -> Result<Chain, Error> {
    let mut names: Vec<&str> = text.split('+').map(str::trim).collect();
    let fold = |name: &str| folds().iter().copied().find(|fold| fold.card().name.eq_ignore_ascii_case(name));
    let last = match names.last() {
        Some(name) if fold(name).is_none() => names.pop(),
        _ => None,
    };
    let method = last.map_or(Ok(methods()[0]), method)?;
    let folds = names.into_iter().map(|name| match fold(name) {
        Some(fold) => Ok(fold),
        None => Err(Error::Chain {
            text: text.to_string(),
            name: name.to_string(),
            folds: folds().iter().map(|fold| fold.card().name).collect::<Vec<_>>().join(", "),
        }),
    });
    Ok(Chain { folds: folds.collect::<Result<_, _>>()?, method })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_read() {
        for (text, name) in
            [("gptq", "gptq"), ("awq", "awq+rtn"), ("AWQ + gptq", "awq+gptq"), ("rotation+awq+rtn", "rotation+awq+rtn")]
        {
            assert_eq!(chain(text).unwrap().name(), name);
        }
        assert!(chain("awq").unwrap().rounds_to_nearest() && !chain("gptq").unwrap().rounds_to_nearest());
        for (wrong, says) in [("gptq+awq", "gptq"), ("", "rtn"), ("awq+nothing", "nothing"), ("+rtn", "awq")] {
            let error = chain(wrong).err().unwrap().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
