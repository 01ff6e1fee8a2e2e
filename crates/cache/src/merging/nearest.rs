//! Each dropped token into the token that stays with the nearest key, if one is near enough.

use super::{Merged, Merging, Token, average, token};
use crate::selection::HeadView;
use brevity_measure::MethodCard;

/// Merging by the greatest cosine of keys; the second half of evict-then-merge.
#[derive(Clone, Copy, Debug)]
pub struct Nearest {
    /// Of the method that it belongs to.
    pub card: &'static MethodCard,
    /// Least cosine, in percent.
    pub similarity: usize,
}

impl Merging for Nearest {
    fn card(&self) -> &'static MethodCard {
        self.card
    }

    fn text(&self) -> String {
        format!("{}:similarity={}", self.card.name, self.similarity)
    }

    fn merge(&self, head: &HeadView<'_>, kept: &[usize]) -> Vec<Merged> {
        let tokens: Vec<Token> = (0..head.positions.len()).map(|slot| token(head, slot)).collect();
        let least = self.similarity as f64 / 100.0;
        let mut sets: Vec<Vec<(f64, &Token)>> = kept.iter().map(|&slot| vec![(1.0, &tokens[slot])]).collect();
        let mut stays = vec![false; tokens.len()];
        kept.iter().for_each(|&slot| stays[slot] = true);
        let directions: Vec<Vec<f32>> = tokens.iter().map(|token| direction(&token.key)).collect();
        for slot in (0..tokens.len()).filter(|&slot| !stays[slot]) {
            let near = kept.iter().enumerate().map(|(at, &to)| (product(&directions[to], &directions[slot]), at));
            let best = near.fold((f32::MIN, 0), |best, next| if next.0 > best.0 { next } else { best });
            if f64::from(best.0) >= least {
                sets[best.1].push((f64::from(best.0), &tokens[slot]));
            }
        }
        let grown = sets.iter().enumerate().filter(|(_, set)| set.len() > 1);
        grown.map(|(at, set)| average(at, set)).collect()
    }
}

/// A key of length 1, filled up with zeros to whole vectors.
fn direction(key: &[f32]) -> Vec<f32> {
    let norm = product(key, key).sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    let mut direction: Vec<f32> = key.iter().map(|x| x * scale).collect();
    direction.resize(key.len().next_multiple_of(LANES), 0.0);
    direction
}

const LANES: usize = 16;

/// `Σ a·b`, 16 sums side by side and then one after another; what is left of whole vectors is added last.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in whole.0.iter().zip(rest.0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let last: f32 = whole.1.iter().zip(rest.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + last
}
