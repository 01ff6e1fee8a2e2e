//! What the lanes have read raises what came before: a log-linear correction of the model's probabilities.
//!
//! ```text
//! p'(t) ∝ p(t) · exp( θ[how often t came at all, and in this lane] + Σ over contexts c of θ[c, how often c came, how often t followed] )
//! ```
//!
//! Contexts are the last one, two, three and four tokens, and the last but one alone. A lane's model has seen its own
//! text; what the others read, it learns from here. A weight θ belongs to a class of counts, so there are
//! few, learnt while coding: after each token, a step of gradient descent on the bits spent, divided by the root of the sum of
//! the squares of the gradients so far (Adagrad; J. Duchi et al., 2011). All in `f32`, each operation rounded by itself, in the
//! order written here.

use super::contexts::{self, Contexts};
use brevity_kernels::math::lanes::exp;
use brevity_kernels::simd::{Kernel, LANES, Simd, dispatch};

/// Contexts: the tokens back that each is made of.
const CONTEXTS: [&[usize]; 5] = [&[1], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4], &[2]];
/// Tokens back that a context reaches.
pub const HISTORY: usize = 4;
/// Classes of a count.
const CLASSES: usize = 6;
/// Weights of how often a token came: eight classes at all, four in this lane.
const TOKENS: usize = 8 * 4;
const WEIGHTS: usize = TOKENS + CONTEXTS.len() * CLASSES * CLASSES;
/// Step of the weights.
const STEP: f32 = 0.12;
/// What a token's weights sum to at most.
const MOST: f32 = 8.0;

/// What came, and what it is worth.
pub struct Recall {
    all: Vec<u32>,
    own: Vec<Vec<u8>>,
    seen: Vec<u32>,
    contexts: Contexts,
    theta: [f32; WEIGHTS],
    squares: [f32; WEIGHTS],
}

/// What a row of probabilities is corrected by.
#[derive(Default)]
pub struct Correction {
    /// Each token's sum, and which weights are in it.
    boost: Vec<f32>,
    pub active: Vec<(u32, u16)>,
    /// What each token that came is multiplied by.
    factors: Vec<f32>,
}

/// Of each weight: by how much more should have come than was expected.
pub struct Gradient([f32; WEIGHTS]);

/// `x ← exp x`, x between [`MOST`] and its negative.
struct Factors<'a>(&'a mut [f32]);

impl Kernel for Factors<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let most = s.splat(MOST);
        for x in self.0.chunks_mut(LANES) {
            let inside = s.min(s.max(s.load_part(x), s.neg(most)), most);
            s.store_part(x, exp(s, inside));
        }
    }
}

/// Multiplies all by one number.
struct Scale<'a> {
    p: &'a mut [f32],
    share: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let share = s.splat(self.share);
        for p in self.p.chunks_mut(LANES) {
            let scaled = s.mul(s.load_part(p), share);
            s.store_part(p, scaled);
        }
    }
}

/// Bytes that it takes for so many lanes over a vocabulary, and so many tokens at most.
pub fn memory(vocabulary: usize, lanes: usize, tokens: usize) -> usize {
    vocabulary * (lanes + 8 + 16 * lanes) + contexts::memory(tokens.saturating_mul(CONTEXTS.len()))
}

fn class(count: u32) -> usize {
    match count {
        0..=2 => count.saturating_sub(1) as usize,
        3..=4 => 2,
        5..=8 => 3,
        9..=24 => 4,
        _ => 5,
    }
}

fn keys(history: &[u32]) -> [u64; CONTEXTS.len()] {
    std::array::from_fn(|at| {
        CONTEXTS[at].iter().fold(at as u64 + 1, |hash, &back| {
            let token = history.len().checked_sub(back).and_then(|place| history.get(place));
            let mixed = (hash ^ token.map_or(u64::MAX, |&t| u64::from(t))).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed ^ (mixed >> 29)
        })
    })
}

impl Recall {
    /// Nothing has come yet; so many tokens will.
    pub fn new(vocabulary: usize, lanes: usize, tokens: usize) -> Self {
        Self {
            all: vec![0; vocabulary],
            own: vec![vec![0; vocabulary]; lanes],
            seen: Vec::new(),
            contexts: Contexts::new(tokens.saturating_mul(CONTEXTS.len())),
            theta: [0.0; WEIGHTS],
            squares: [0.0; WEIGHTS],
        }
    }

    /// Corrects the probabilities of a lane's next token, which sum to one.
    pub fn correct(&self, lane: usize, history: &[u32], p: &mut [f32], by: &mut Correction) {
        self.weigh(lane, history, by);
        by.factors.clear();
        by.factors.extend(self.seen.iter().map(|&token| by.boost[token as usize]));
        dispatch(Factors(&mut by.factors));
        let mut sum = 1.0f32;
        for (&token, factor) in self.seen.iter().zip(&by.factors) {
            let p = &mut p[token as usize];
            let raised = *p * factor;
            sum += raised - *p;
            *p = raised;
        }
        let share = 1.0 / sum.max(1e-6);
        dispatch(Scale { p, share });
    }

    /// Sums the weights of every token that came.
    fn weigh(&self, lane: usize, history: &[u32], by: &mut Correction) {
        by.boost.resize(self.all.len(), 0.0);
        by.active.clear();
        for &token in &self.seen {
            let (all, own) = (self.all[token as usize], self.own[lane][token as usize]);
            let weight = 4 * (all.max(1).ilog2().min(7) as usize) + usize::from(own.min(3));
            by.boost[token as usize] = self.theta[weight];
            by.active.push((token, weight as u16));
        }
        for (order, key) in keys(history).iter().enumerate() {
            let Some((total, followers)) = self.contexts.followers(*key) else { continue };
            let base = TOKENS + (order * CLASSES + class(total)) * CLASSES;
            for (token, count) in followers {
                let weight = base + class(count);
                by.boost[token as usize] += self.theta[weight];
                by.active.push((token, weight as u16));
            }
        }
    }

    /// How the weights in a correction should have been others, for the token that came: what [`Recall::learn`] takes.
    pub fn gradient(token: u32, p: &[f32], active: &[(u32, u16)]) -> Gradient {
        let mut gradient = [0.0f32; WEIGHTS];
        for &(t, weight) in active {
            gradient[usize::from(weight)] += f32::from(u8::from(t == token)) - p[t as usize];
        }
        Gradient(gradient)
    }

    /// Learns what the corrected probabilities of a row should have been.
    pub fn learn(&mut self, gradient: &Gradient) {
        for ((theta, square), g) in self.theta.iter_mut().zip(&mut self.squares).zip(gradient.0) {
            *square += g * g;
            *theta += STEP * g / (*square + 1.0).sqrt();
        }
    }

    /// A token came in a lane behind `history`.
    pub fn count(&mut self, lane: usize, history: &[u32], token: u32) {
        let Some(all) = self.all.get_mut(token as usize) else { return };
        if *all == 0 {
            self.seen.push(token);
        }
        *all = all.saturating_add(1);
        let own = &mut self.own[lane][token as usize];
        *own = own.saturating_add(1);
        for key in keys(history) {
            self.contexts.count(key, token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_another_lane_is_expected_and_the_rest_still_sums_to_one() {
        let (mut recall, mut by) = (Recall::new(64, 2, 480), Correction::default());
        let mut last = 0.0;
        for turn in 0..60 {
            let lane = turn % 2;
            for at in 0..8u32 {
                let history: Vec<u32> = (0..at).collect();
                let mut p = vec![1.0 / 64.0; 64];
                recall.correct(lane, &history, &mut p, &mut by);
                assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-3 && p.iter().all(|&p| p > 0.0));
                last = p[at as usize];
                recall.learn(&Recall::gradient(at, &p, &by.active));
                recall.count(lane, &history, at);
            }
        }
        assert!(last > 0.9, "{last}");
    }
}
