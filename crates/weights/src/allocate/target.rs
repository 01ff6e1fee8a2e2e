//! The smallest choice that loses at most so much.
//!
//! Loss falls with bytes, roughly by a constant factor per bit, but not strictly: whoever chooses levels for a size chooses
//! anew, and what is measured in the end may be a file that a method made, with errors of its own. So the search trusts
//! measurements alone. It keeps the largest size known to lose too much and the smallest known to lose at most the limit,
//! asks between them where a line through the logarithms crosses the middle of the wanted range, and ends when a loss lies
//! in that range, [`RANGE`] of the limit to the limit. Where sizes are too close to go on, single tensors go down a rung, those
//! whose expected loss fits the gap best first.

use super::{Choice, Ladders};

/// A loss of at least this share of the limit is close enough.
pub const RANGE: f64 = 0.95;

/// Where in the range the search aims.
const AIM: f64 = 0.975;

/// What is asked of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ask<'a> {
    /// The best choice within so many bytes.
    Within(u64),
    /// This choice.
    Of(&'a [usize]),
}

/// A choice and what it was measured to lose.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub choice: Choice,
    pub loss: f64,
}

/// How the search ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// In the range, or at the smallest choice there is.
    Found(Measured),
    /// At most the limit, but below the range: no choice that was tried comes closer.
    Below(Measured),
    /// Even the largest choice loses more than the limit.
    Unreachable(Measured),
}

/// The smallest choice that loses at most `limit`; `guess` is where to begin, `attempts` how often to ask.
///
/// # Errors
/// Those of `ask`.
pub fn search<E>(
    ladders: &Ladders,
    limit: f64,
    guess: u64,
    attempts: usize,
    mut ask: impl FnMut(Ask) -> Result<Measured, E>,
) -> Result<Ended, E> {
    let (smallest, largest) = ladders.range();
    let close = |found: &Measured| (RANGE * limit..=limit).contains(&found.loss);
    let (mut low, mut high): (Option<Measured>, Option<Measured>) = (None, None);
    let (mut low_bytes, mut high_bytes) = (smallest, largest);
    let mut bytes = guess.clamp(smallest, largest);
    for _ in 0..attempts {
        let found = ask(Ask::Within(bytes))?;
        if close(&found) || (found.loss <= limit && bytes == smallest) {
            return Ok(Ended::Found(found));
        }
        if found.loss > limit {
            if bytes == largest {
                return Ok(Ended::Unreachable(found));
            }
            (low_bytes, low) = (bytes, Some(found));
        } else {
            (high_bytes, high) = (bytes, Some(found));
        }
        if high_bytes - low_bytes <= 1 {
            break;
        }
        bytes = match (&low, &high) {
            (Some(low), Some(high)) => between((low_bytes, low.loss), (high_bytes, high.loss), AIM * limit),
            // A quarter of the loss for each bit of an eighth of the bytes or so: far enough to cross, seldom too far.
            (Some(low), None) => stride(low_bytes, low.loss / limit).min(largest),
            (None, Some(high)) => stride(high_bytes, (high.loss / limit).max(1e-6)).max(smallest),
            (None, None) => break,
        };
        bytes = bytes.clamp(low_bytes + u64::from(low.is_some()), high_bytes - u64::from(high.is_some()));
    }
    let mut best = match high {
        Some(found) => found,
        None => match ask(Ask::Within(largest))? {
            found if found.loss > limit => return Ok(Ended::Unreachable(found)),
            found => found,
        },
    };
    let mut caution = 1.0;
    for _ in 0..attempts {
        if close(&best) {
            break;
        }
        let Some(lower) = step_down(ladders, &best, limit, caution) else { break };
        let found = ask(Ask::Of(&lower))?;
        if found.loss <= limit {
            best = found;
        } else {
            caution *= 1.5;
        }
    }
    Ok(if close(&best) { Ended::Found(best) } else { Ended::Below(best) })
}

/// Where a line through the logarithms of two losses crosses `aim`, not too near to either end.
fn between(low: (u64, f64), high: (u64, f64), aim: f64) -> u64 {
    let span = (high.0 - low.0) as f64;
    let (top, bottom) = (low.1.ln(), high.1.max(1e-12 * aim).ln());
    let share = if top > bottom { (top - aim.ln()) / (top - bottom) } else { 0.5 };
    low.0 + (span * share.clamp(0.1, 0.9)) as u64
}

/// From `bytes`, where the loss is `ratio` times the limit, past where it should be the limit.
fn stride(bytes: u64, ratio: f64) -> u64 {
    let factor = ratio.powf(0.18) * if ratio > 1.0 { 1.02 } else { 0.98 };
    (bytes as f64 * factor.clamp(0.5, 2.0)) as u64
}

/// One tensor a rung lower: the one whose expected loss, `caution` times over, comes closest to what is left, and does not go
/// beyond.
fn step_down(ladders: &Ladders, from: &Measured, limit: f64, caution: f64) -> Option<Choice> {
    let left = limit - from.loss;
    let expected = ladders.expected(&from.choice);
    // What is expected and what is measured differ by a factor on the whole.
    let scale = caution * if expected > 0.0 { from.loss / expected } else { 1.0 };
    let rise = |tensor: usize| {
        let (rungs, rung) = (ladders.rungs(tensor), from.choice[tensor]);
        (rung > 0).then(|| (scale * (rungs[rung - 1].loss - rungs[rung].loss), tensor))
    };
    let fits = (0..ladders.len()).filter_map(rise).filter(|(rise, _)| *rise <= left);
    let (_, tensor) = fits.max_by(|a, b| a.0.total_cmp(&b.0))?;
    let mut lower = from.choice.clone();
    lower[tensor] -= 1;
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::Model;
    use super::*;
    use std::convert::Infallible;

    fn run(model: &mut Model, limit: f64, guess: u64, noise: f64) -> (Ended, usize) {
        let ladders = model.ladders.clone();
        let mut asked = 0;
        let ask = |ask: Ask| {
            asked += 1;
            let choice = match ask {
                Ask::Within(bytes) => ladders.within(bytes).unwrap(),
                Ask::Of(choice) => choice.to_vec(),
            };
            // As a method adds: the same for the same choice, different for the next.
            let jitter =
                (choice.iter().enumerate().map(|(i, rung)| (i + 3) * rung).sum::<usize>() % 7) as f64 / 3.0 - 1.0;
            let loss = model.loss(&choice) * (1.0 + noise * jitter);
            Ok::<_, Infallible>(Measured { choice, loss })
        };
        let Ok(ended) = search(&ladders, limit, guess, 24, ask);
        (ended, asked)
    }

    #[test]
    fn losses_end_in_the_range_from_any_guess() {
        let mut asked_in_all = 0;
        let mut runs = 0;
        for seed in 0..6 {
            let mut model = Model::new(60, 3.0, seed);
            let (smallest, largest) = model.ladders.range();
            let (most, least) = (model.loss(&[0; 60]), model.loss(&[5; 60]));
            for step in 1..6 {
                let limit = most * (least / most).powf(f64::from(step) / 6.0);
                for guess in [smallest, (smallest + largest) / 2, largest] {
                    for noise in [0.0, 0.02] {
                        let (ended, asked) = run(&mut model, limit, guess, noise);
                        let Ended::Found(found) = ended else { panic!("{ended:?} for {limit}") };
                        assert!(found.loss <= limit && found.loss >= RANGE * limit, "{} of {limit}", found.loss);
                        (asked_in_all, runs) = (asked_in_all + asked, runs + 1);
                    }
                }
            }
        }
        assert!(asked_in_all < 8 * runs, "{asked_in_all} questions in {runs} searches");
    }

    #[test]
    fn limits_beyond_both_ends_are_told_apart() {
        let mut model = Model::new(10, 1.0, 2);
        let (most, least) = (model.loss(&[0; 10]), model.loss(&[5; 10]));
        let (ended, _) = run(&mut model, 0.5 * least, 1, 0.0);
        assert!(matches!(ended, Ended::Unreachable(found) if found.loss == least));
        let (ended, _) = run(&mut model, 3.0 * most, u64::MAX, 0.0);
        assert!(matches!(ended, Ended::Found(found) if found.choice == [0; 10]));
    }

    #[test]
    fn where_choices_are_few_the_limit_is_kept_all_the_same() {
        let mut model = Model::new(2, 1.0, 4);
        let limit = 0.5 * (model.loss(&[2, 2]) + model.loss(&[3, 3]));
        let (ended, _) = run(&mut model, limit, 10_000, 0.0);
        let (Ended::Below(found) | Ended::Found(found)) = ended else { panic!("{ended:?}") };
        assert!(found.loss <= limit);
    }
}
