//! All dropped tokens into one that counts as many; the second half of RazorAttention.

use super::{Merged, Merging, Token, average, token};
use crate::selection::HeadView;
use brevity_kernels::math::double;
use brevity_measure::MethodCard;

/// One token with the mean key and the mean value of all that go, weighed in the softmax by their number.
#[derive(Clone, Copy, Debug)]
pub struct Compensation {
    /// Of the method that it belongs to.
    pub card: &'static MethodCard,
    /// Which of the tokens that stay stands for those that go, and for itself.
    pub at: usize,
}

impl Merging for Compensation {
    fn card(&self) -> &'static MethodCard {
        self.card
    }

    fn text(&self) -> String {
        format!("{}:compensation", self.card.name)
    }

    fn merge(&self, head: &HeadView<'_>, kept: &[usize]) -> Vec<Merged> {
        let mut goes = vec![true; head.positions.len()];
        kept.iter().enumerate().for_each(|(i, &slot)| goes[slot] = i == self.at);
        let tokens: Vec<(f64, Token)> = (0..goes.len())
            .filter(|&slot| goes[slot])
            .map(|slot| (double::exp(f64::from(head.stored.tilted(slot))).round(), token(head, slot)))
            .collect();
        let all: f64 = tokens.iter().map(|(count, _)| count).sum();
        if self.at >= kept.len() || tokens.len() < 2 {
            return Vec::new();
        }
        let weighted: Vec<(f64, &Token)> = tokens.iter().map(|(count, token)| (*count, token)).collect();
        vec![Merged { tokens: all as usize, ..average(self.at, &weighted) }]
    }
}
