//! Two precisions by importance: which tokens fall to the lower one.
//!
//! Tokens of a head lie in blocks of 64 that share a coding, so those that fall at the prompt's end go into blocks of their own before the
//! others: of `len` tokens `⌊(1 − share)·len / 64⌋` blocks. The newest 64 never fall, and what comes after the prompt keeps the higher precision.

use crate::BLOCK;

/// Two precisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// Bits of important tokens, and of new ones.
    pub high: u8,
    /// Bits of the others.
    pub low: u8,
    /// Percent of the tokens that are important.
    pub share: usize,
    /// Whether a token's attention is divided by the number of queries that could see it.
    pub normalised: bool,
    /// Whether channels are divided by the root of their largest number before tokens are rounded.
    pub separable: bool,
}

impl Tiers {
    /// The order in which slots lie, those that fall first, and how many fall.
    ///
    /// `saliency` is the attention that each slot got, `positions` where its token stands, `read` how many tokens there were.
    pub(crate) fn order(&self, saliency: &[u64], positions: &[usize], read: usize) -> (Vec<usize>, usize) {
        let len = positions.len();
        let wanted = len * (100 - self.share.min(100)) / 100 / BLOCK * BLOCK;
        let newest = read.saturating_sub(BLOCK);
        let mut candidates: Vec<usize> = (0..len).filter(|&slot| positions[slot] < newest).collect();
        let fallen = wanted.min(candidates.len() / BLOCK * BLOCK);
        let score = |slot: usize| {
            let queries = if self.normalised { (read - positions[slot]).max(1) as f64 } else { 1.0 };
            saliency[slot] as f64 / queries
        };
        candidates.sort_by(|&a, &b| score(a).total_cmp(&score(b)).then(a.cmp(&b)));
        candidates.truncate(fallen);
        candidates.sort_unstable();
        let mut falls = vec![false; len];
        candidates.iter().for_each(|&slot| falls[slot] = true);
        let stay = (0..len).filter(|&slot| !falls[slot]);
        (candidates.iter().copied().chain(stay).collect(), fallen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIERS: Tiers = Tiers { high: 4, low: 2, share: 50, normalised: false, separable: false };

    #[test]
    fn the_least_important_fall_and_the_newest_do_not() {
        let positions: Vec<usize> = (0..300).collect();
        let saliency: Vec<u64> = (0..300).map(|i| if i % 2 == 0 { 10 } else { 1 }).collect();
        let (order, fallen) = TIERS.order(&saliency, &positions, 300);
        assert_eq!(fallen, 128);
        assert_eq!(order[..128].iter().filter(|slot| *slot % 2 == 1).count(), 118, "all odd ones but the newest");
        assert!(order[..118].iter().all(|slot| *slot < 236) && order[..128].is_sorted());
        assert!(order[128..].is_sorted());
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!(all, positions);
    }

    /// An early token has been seen by more queries: normalised, a late one with as much attention counts more.
    #[test]
    fn normalised_saliency_does_not_favour_early_tokens() {
        let positions: Vec<usize> = (0..256).collect();
        let saliency: Vec<u64> = (0..256).map(|i| 256 - i).collect();
        let tiers = Tiers { share: 70, ..TIERS };
        assert!(tiers.order(&saliency, &positions, 256).0[..64].contains(&191));
        let normalised = Tiers { normalised: true, ..tiers };
        let even: Vec<u64> = (0..256).map(|i| (256 - i) * if i < 64 { 1 } else { 2 }).collect();
        assert_eq!(normalised.order(&even, &positions, 256).0[..64], positions[..64]);
    }
}
