//! Expected attention: the tokens that queries to come are expected to attend.
//!
//! Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution (2025, arXiv 2510.00636).
//!
//! If queries are Gaussian with mean μ and covariance Σ, the expected weight of a key k before the softmax's division is
//! `E[exp(q·k/√d)] = exp(μ·k/√d + kᵀΣk/2d)`, and what the token adds to the output grows with ‖v‖. The score is the
//! logarithm, `μ·k/√d + kᵀΣk/2d + ln(‖v‖ + ε)`, the greatest over the query heads of the group.

use super::{Budget, HeadView, Observes, Selection};
use crate::Error;
use crate::options::Options;
use brevity_kernels::math::double;
use brevity_measure::MethodCard;

/// The Gaussian of the latest queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedAttention {
    pub budget: Budget,
    /// Queries that the Gaussian is fitted to.
    pub queries: usize,
}

const CARD: MethodCard = MethodCard {
    name: "expected",
    room: "cache",
    title: "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
    year: 2025,
    arxiv: Some("2510.00636"),
    mechanism: "A Gaussian fitted to queries says how much attention a key will get on average; times the value's norm, it chooses what stays.",
    guarantees: &["with a budget of the whole text it is the full cache, bit for bit"],
    simplifications: &[
        "the Gaussian is that of the latest queries with the rotations they had; the paper averages rope over positions to come",
        "the best of the query heads that share keys counts",
    ],
};

/// Keeps tokens with a value of zero comparable.
const EPSILON: f64 = 1e-2;

impl ExpectedAttention {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("expected", "budget, sinks, recent (tokens), queries", text)?;
        let budget = Budget::read("expected", &mut options, 4, 8)?;
        let queries = options.number("queries", 64, (2, 1024))?;
        options.done()?;
        Ok(Self { budget, queries })
    }
}

impl Selection for ExpectedAttention {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        format!("expected:budget={tokens},sinks={sinks},recent={recent},queries={}", self.queries)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn observes(&self) -> Observes {
        Observes { attention: false, queries: self.queries }
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        let dim = head.stored.dim();
        let rows = head.queries.chunks_exact(dim * head.group.max(1));
        let scale = 1.0 / (dim as f64).sqrt();
        let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
        let mut scores = Vec::with_capacity(head.positions.len());
        for slot in 0..head.positions.len() {
            head.stored.key(slot, &mut key);
            head.stored.value(slot, &mut value);
            let gain = |member: usize| {
                let dots = rows.clone().map(|row| scale * dot(&row[member * dim..][..dim], &key));
                let (sum, squares) = dots.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
                let n = rows.len().max(1) as f64;
                let mean = sum / n;
                mean + 0.5 * (squares / n - mean * mean)
            };
            let best = (0..head.group).map(gain).fold(f64::MIN, f64::max);
            scores.push(best + double::ln(dot(&value, &value).sqrt() + EPSILON));
        }
        scores
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
