//! What becomes of the tokens that a selection drops.
//!
//! A [`Merging`] folds some of them into tokens that stay, which get new keys and values and keep their positions. Keys are
//! merged as they are stored, rotated by rope: near each other only where both the words and the positions are. [`MiniCache`] merges
//! across layers instead, and needs no selection.

mod compensation;
mod kvmerger;
mod minicache;
mod nearest;

pub use compensation::Compensation;
pub use kvmerger::KvMerger;
pub use minicache::{MiniCache, Pair};
pub use nearest::Nearest;

use crate::selection::HeadView;
use brevity_measure::MethodCard;

/// A token that stays and takes others in.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// Which of the tokens that stay.
    pub at: usize,
    pub key: Vec<f32>,
    pub value: Vec<f32>,
    /// As how many tokens the softmax counts it.
    pub tokens: usize,
}

/// A way to fold tokens that go into tokens that stay.
pub trait Merging: Send + Sync {
    /// What the method is.
    fn card(&self) -> &'static MethodCard;

    /// How it is written.
    fn text(&self) -> String;

    /// The tokens that change, when the slots `kept` (rising) stay and all others go.
    fn merge(&self, head: &HeadView<'_>, kept: &[usize]) -> Vec<Merged>;

    /// How it merges neighbouring layers, if that is what it does: then nothing is dropped, and no selection is asked.
    fn across(&self) -> Option<MiniCache> {
        None
    }
}

/// A key and a value with a weight.
struct Token {
    key: Vec<f32>,
    value: Vec<f32>,
}

fn token(head: &HeadView<'_>, slot: usize) -> Token {
    let dim = head.stored.dim();
    let mut token = Token { key: vec![0.0; dim], value: vec![0.0; dim] };
    head.stored.key(slot, &mut token.key);
    head.stored.value(slot, &mut token.value);
    token
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

/// The average of tokens by their weights, in their order.
fn average(at: usize, tokens: &[(f64, &Token)]) -> Merged {
    let all: f64 = tokens.iter().map(|(weight, _)| weight).sum();
    let mean = |of: fn(&Token) -> &[f32]| -> Vec<f32> {
        let length = tokens.first().map_or(0, |(_, token)| of(token).len());
        let sum = |d: usize| tokens.iter().map(|(weight, token)| weight * f64::from(of(token)[d])).sum::<f64>();
        (0..length).map(|d| (sum(d) / all) as f32).collect()
    };
    Merged { at, key: mean(|token| &token.key), value: mean(|token| &token.value), tokens: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_weigh_and_cosines_measure() {
        let token = |key: [f32; 2], value: [f32; 2]| Token { key: key.to_vec(), value: value.to_vec() };
        let (a, b) = (token([1.0, 0.0], [2.0, 2.0]), token([0.0, 1.0], [0.0, 4.0]));
        let merged = average(7, &[(3.0, &a), (1.0, &b)]);
        assert_eq!(merged, Merged { at: 7, key: vec![0.75, 0.25], value: vec![1.5, 2.5], tokens: 1 });
        assert_eq!(cosine(&a.key, &b.key), 0.0);
        assert!((cosine(&a.key, &[3.0, 3.0]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(cosine(&a.key, &[0.0, 0.0]), 0.0);
    }
}
