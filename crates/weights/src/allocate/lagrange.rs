//! The knapsack's choice, corrected by what the model says.
//!
//! The knapsack ([`Ladders::within`]) minimises `Σ_t l_t(j_t)`, expected losses measured one tensor at a time around the
//! *uncompressed* model. Around the choice `j*` that it makes, where all tensors are disturbed at once, the true loss `L` has
//! other slopes. So they are measured there: a group of tensors moves one rung down (up where it is at the bottom), and
//!
//! `c_g = (L(j* − 1_g) − L(j*)) / Σ_{t∈g} (l_t(j*_t − 1) − l_t(j*_t))`
//!
//! says by what factor the expectation was wrong. With losses corrected by it, `l'_t(j) = c_g·l_t(j)`, the knapsack is solved
//! again, no tensor moving more than a few rungs; the new choice is kept only if its true loss is lower. That is sequential
//! linear programming with a trust region. Each round costs one evaluation a group and a few more; groups join tensors where
//! there are too many to be asked alone.
//!
//! Guarantee: never a choice of higher measured loss than the knapsack's, never more bytes than the budget.

use super::{Choice, Ladders};

/// How long to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Times that slopes are measured anew.
    pub rounds: usize,
    /// Rungs that a tensor may move in one round.
    pub reach: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 2, reach: 3 }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Corrected {
    pub choice: Choice,
    /// Measured loss of the start and of the choice.
    pub before: f64,
    pub after: f64,
    /// Losses as corrected around the choice, for budgets nearby.
    pub ladders: Ladders,
    /// Evaluations of the loss.
    pub evaluations: usize,
}

/// Groups of neighbouring tensors, at most `most`, of those that have a choice at all.
pub fn groups(ladders: &Ladders, most: usize) -> Vec<Vec<usize>> {
    let open: Vec<usize> = (0..ladders.len()).filter(|&tensor| ladders.rungs(tensor).len() > 1).collect();
    let count = most.clamp(1, open.len().max(1));
    let cut = |index: usize| index * open.len() / count;
    (0..count).map(|index| open[cut(index)..cut(index + 1)].to_vec()).filter(|group| !group.is_empty()).collect()
}

/// Corrects `start` within `bytes`. `loss` measures a choice; the searches' own order of questions is fixed.
///
/// # Errors
/// Those of `loss`.
pub fn correct<E>(
    ladders: &Ladders,
    bytes: u64,
    start: &[usize],
    groups: &[Vec<usize>],
    options: Options,
    mut loss: impl FnMut(&[usize]) -> Result<f64, E>,
) -> Result<Corrected, E> {
    let mut evaluations = 0;
    let mut measure = |choice: &[usize]| {
        evaluations += 1;
        loss(choice)
    };
    let before = measure(start)?;
    let (mut choice, mut best, mut ladders) = (start.to_vec(), before, ladders.clone());
    for _ in 0..options.rounds {
        ladders = corrected(&ladders, &choice, best, groups, &mut measure)?;
        let mut improved = false;
        let mut reach = options.reach;
        while reach > 0 {
            let next = near(&ladders, &choice, reach).within_or(bytes, &choice);
            if next == choice {
                break;
            }
            let found = measure(&next)?;
            if found < best {
                (choice, best, improved) = (next, found, true);
                break;
            }
            reach /= 2;
        }
        if !improved {
            break;
        }
    }
    Ok(Corrected { choice, before, after: best, ladders, evaluations })
}

/// Ladders whose losses have the slopes that are measured around `choice`.
fn corrected<E>(
    ladders: &Ladders,
    choice: &[usize],
    here: f64,
    groups: &[Vec<usize>],
    measure: &mut impl FnMut(&[usize]) -> Result<f64, E>,
) -> Result<Ladders, E> {
    let mut factors = vec![None; ladders.len()];
    for group in groups {
        let moved = [-1, 1].map(|step| moved(ladders, choice, group, step)).into_iter().find(|moved| moved != choice);
        let Some(moved) = moved else { continue };
        let expected = ladders.expected(&moved) - ladders.expected(choice);
        if expected != 0.0 {
            let factor = (measure(&moved)? - here) / expected;
            group.iter().for_each(|&tensor| factors[tensor] = Some(factor));
        }
    }
    let typical = median(factors.iter().flatten().copied());
    // A tensor whose step down seems to help is one that hardly matters.
    let bounded = |factor: Option<f64>| factor.unwrap_or(typical).clamp(0.1 * typical, 10.0 * typical);
    let factors: Vec<f64> = factors.into_iter().map(bounded).collect();
    Ok(ladders.with_losses(|tensor, rung| factors[tensor] * ladders.rungs(tensor)[rung].loss))
}

/// A choice with a group of tensors some rungs higher or lower, those that can.
fn moved(ladders: &Ladders, choice: &[usize], group: &[usize], step: isize) -> Choice {
    let mut moved = choice.to_vec();
    for &tensor in group {
        let rung = choice[tensor].checked_add_signed(step).filter(|rung| *rung < ladders.rungs(tensor).len());
        moved[tensor] = rung.unwrap_or(choice[tensor]);
    }
    moved
}

/// The positive numbers' median; 1 where there is none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.filter(|value| *value > 0.0 && value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(1.0)
}

/// Ladders cut to the rungs near a choice, and how many rungs are missing below.
struct Near {
    ladders: Ladders,
    below: Vec<usize>,
}

fn near(ladders: &Ladders, choice: &[usize], reach: usize) -> Near {
    let below: Vec<usize> = choice.iter().map(|rung| rung.saturating_sub(reach)).collect();
    let cut =
        |(tensor, rungs): (usize, &Vec<_>)| rungs[below[tensor]..rungs.len().min(choice[tensor] + reach + 1)].to_vec();
    Near { ladders: Ladders { tensors: ladders.tensors.iter().enumerate().map(cut).collect() }, below }
}

impl Near {
    fn within_or(&self, bytes: u64, otherwise: &[usize]) -> Choice {
        match self.ladders.within(bytes) {
            Ok(choice) => choice.iter().zip(&self.below).map(|(rung, below)| rung + below).collect(),
            Err(_) => otherwise.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::Model;
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn wrong_expectations_are_corrected_within_the_budget() {
        let mut gains = Vec::new();
        for seed in 0..20 {
            let mut model = Model::new(24, 8.0, seed);
            let bytes = 24 * 2500 * 3;
            let start = model.start(bytes);
            let ladders = model.ladders.clone();
            let groups = groups(&ladders, 100);
            let ask = |choice: &[usize]| Ok::<_, Infallible>(model.loss(choice));
            let Ok(found) = correct(&ladders, bytes, &start, &groups, Options::default(), ask);
            assert!(ladders.bytes(&found.choice) <= bytes);
            assert!(found.after <= found.before);
            assert_eq!(found.evaluations, model.calls);
            assert_eq!(model.loss(&found.choice), found.after);
            gains.push(found.after / found.before);
        }
        let mean = gains.iter().sum::<f64>() / gains.len() as f64;
        assert!(mean < 0.75, "{mean}");
    }

    #[test]
    fn groups_cover_what_can_move_once_each() {
        let model = Model::new(10, 1.0, 1);
        for most in [1, 3, 10, 50] {
            let groups = groups(&model.ladders, most);
            assert_eq!(groups.len(), most.min(10));
            assert_eq!(groups.concat(), (0..10).collect::<Vec<_>>());
        }
        assert!(groups(&Ladders { tensors: Vec::new() }, 4).is_empty());
    }

    #[test]
    fn coarse_groups_do_no_harm_and_errors_come_through() {
        let mut model = Model::new(24, 8.0, 3);
        let start = model.start(150_000);
        let ladders = model.ladders.clone();
        let ask = |choice: &[usize]| Ok::<_, Infallible>(model.loss(choice));
        let Ok(found) = correct(&ladders, 150_000, &start, &groups(&ladders, 4), Options::default(), ask);
        assert!(found.after <= found.before && ladders.bytes(&found.choice) <= 150_000);
        let refused = correct(&ladders, 150_000, &start, &[vec![0]], Options::default(), |_| Err("stopped"));
        assert_eq!(refused.unwrap_err(), "stopped");
    }
}
