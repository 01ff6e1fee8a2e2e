//! mixed: a precision for the keys and for the values of every head, as a budget assigns them.
//!
//! Heads differ by orders of magnitude in what rounding them costs the model's predictions. Where each one's loss was measured, the knapsack of
//! `brevity-budget` finds the precisions with the least sum of losses in the bytes allowed; this store holds them.
//!
//! Written `mixed:keys=4834…,values=2243…`: a digit for each head of the first layer, of the second, and so on: 2, 3, 4 or 8 bits as the stores
//! of that name, `h` for f16 (behind the same rotation). Without options every head has 4 bits.

use super::{Coding, Store};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// Precisions of keys and values, one a head, layer by layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed {
    keys: Vec<Coding>,
    values: Vec<Coding>,
}

/// The precisions that a head can have, from the fewest bits up, and how each is written.
pub const PRECISIONS: [(Coding, char); 5] = [
    (Coding::Token(2), '2'),
    (Coding::Token(3), '3'),
    (Coding::Token(4), '4'),
    (Coding::Token(8), '8'),
    (Coding::F16, 'h'),
];

/// What a head has that nothing is said about.
const PLAIN: Coding = Coding::Token(4);

const CARD: MethodCard = MethodCard {
    name: "mixed",
    room: "cache",
    title: "Brevity: precision per layer, head and side by measured loss",
    year: 2026,
    arxiv: None,
    mechanism: "Keys and values of every head have a precision of their own, 2, 3, 4, 8 or 16 bits behind the rotation of int4; --cache-budget measures what each costs in bits and solves the knapsack.",
    guarantees: &[
        "a head's tokens are those of the store of its precision",
        "tokens are independent: any chunking gives the same codes",
    ],
    simplifications: &[
        "losses of heads are taken to add up; their sum is scaled to what all heads together lose at each precision",
    ],
};

impl Mixed {
    /// These precisions, of [`PRECISIONS`], in the order of layers and in them of heads.
    pub fn new(keys: Vec<Coding>, values: Vec<Coding>) -> Mixed {
        Mixed { keys, values }
    }

    pub(crate) fn read(text: &str) -> Result<Mixed, Error> {
        let mut options = Options::read("mixed", "keys, values (a digit a head: 2, 3, 4, 8, h)", text)?;
        let (keys, values) = (side(&mut options, "keys")?, side(&mut options, "values")?);
        options.done()?;
        if keys.len() != values.len() {
            let expected = format!("as many digits as keys has, {}", keys.len());
            return Err(Error::Value { method: "mixed", key: "values", found: values.len().to_string(), expected });
        }
        Ok(Mixed { keys, values })
    }
}

fn side(options: &mut Options, key: &'static str) -> Result<Vec<Coding>, Error> {
    let digits = options.text(key).unwrap_or("");
    let coding = |digit: char| PRECISIONS.iter().find(|(_, known)| *known == digit).map(|(coding, _)| *coding);
    let wrong = |digit: char| Error::Value {
        method: "mixed",
        key,
        found: digit.to_string(),
        expected: "2, 3, 4, 8 or h for each head".to_string(),
    };
    digits.chars().map(|digit| coding(digit).ok_or_else(|| wrong(digit))).collect()
}

fn written(codings: &[Coding]) -> String {
    let digit = |coding: &Coding| PRECISIONS.iter().find(|(known, _)| known == coding).map_or('?', |(_, digit)| *digit);
    codings.iter().map(digit).collect()
}

impl Store for Mixed {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        match self.keys.is_empty() {
            true => "mixed".to_string(),
            false => format!("mixed:keys={},values={}", written(&self.keys), written(&self.values)),
        }
    }

    fn fresh(&self) -> (Coding, Coding) {
        (PLAIN, PLAIN)
    }

    fn fresh_of(&self, place: usize) -> (Coding, Coding) {
        let of = |side: &[Coding]| side.get(place).copied().unwrap_or(PLAIN);
        (of(&self.keys), of(&self.values))
    }

    fn places(&self) -> Option<usize> {
        (!self.keys.is_empty()).then_some(self.keys.len())
    }

    fn rotates(&self) -> (bool, bool) {
        (true, true)
    }

    fn centres(&self) -> bool {
        true
    }

    fn feeds_back(&self) -> bool {
        true
    }
}
