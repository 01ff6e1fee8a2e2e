//! Evolutionary search for levels (EvoPress: Accurate Dynamic Model Compression via Evolutionary Search, 2024, arXiv 2410.14649).
//!
//! One parent. Each generation makes offspring by *level-switch mutations*: a tensor goes one rung up and others go down
//! until the size is what it was, so every offspring fits the budget. How many switches is the smaller of two draws, so that
//! small steps are the most common. *Multi-step selection* finds the best for little: all offspring are measured on a little
//! text, the survivors on more, the last of them and the parent on the most; the best is the next parent. Text changes from
//! generation to generation, so that nothing is won on one piece alone. EvoPress proves that this converges on linear losses, and
//! finds that it works on models.
//!
//! What differs from the paper: tensors differ in size here, and rungs in bytes, so a switch lowers as many others as it
//! takes, and spends what is left over on steps up.

use super::random::Random;
use super::{Choice, Ladders};

/// One step of selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Share of the text that choices are measured on: one part in so many.
    pub part: usize,
    /// How many go on.
    pub survivors: usize,
}

/// How long and how wide to search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub generations: usize,
    pub offspring: usize,
    /// The last leaves one.
    pub stages: Vec<Stage>,
    /// Switches in one mutation, at most.
    pub switches: usize,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let stages = [(8, 4), (2, 1)].map(|(part, survivors)| Stage { part, survivors }).to_vec();
        Self { generations: 60, offspring: 16, stages, switches: 3, seed: 0 }
    }
}

/// What a choice is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sample {
    /// The text is cut in so many parts…
    pub parts: usize,
    /// …of which this one counts.
    pub index: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub choice: Choice,
    /// Measured losses of start and choice on the whole text.
    pub before: f64,
    pub after: f64,
    /// Generations whose best offspring replaced its parent.
    pub improvements: usize,
}

/// Evolves `start` within `bytes`. `loss` measures a choice on a part of the text.
///
/// # Errors
/// Those of `loss`.
pub fn search<E>(
    ladders: &Ladders,
    bytes: u64,
    start: &[usize],
    options: &Options,
    mut loss: impl FnMut(&[usize], Sample) -> Result<f64, E>,
) -> Result<Found, E> {
    let whole = Sample { parts: 1, index: 0 };
    let before = loss(start, whole)?;
    let mut random = Random::new(options.seed);
    let (mut parent, mut improvements) = (start.to_vec(), 0);
    for generation in 0..options.generations {
        let mut alive: Vec<Choice> = Vec::with_capacity(options.offspring);
        for _ in 0..options.offspring {
            let child = mutate(ladders, bytes, &parent, options.switches, &mut random);
            if child != parent && !alive.contains(&child) {
                alive.push(child);
            }
        }
        for (index, stage) in options.stages.iter().enumerate() {
            let last = index + 1 == options.stages.len();
            if last {
                alive.push(parent.clone());
            }
            let parts = stage.part.max(1);
            let sample = Sample { parts, index: generation % parts };
            let mut measured = Vec::with_capacity(alive.len());
            for choice in alive {
                measured.push((loss(&choice, sample)?, choice));
            }
            // A stable sort: of equals the first made wins, and an offspring wins over its parent only if it is better.
            let parent_first = |choice: &Choice| last && *choice == parent;
            measured.sort_by(|a, b| a.0.total_cmp(&b.0).then(parent_first(&b.1).cmp(&parent_first(&a.1))));
            alive = measured.into_iter().map(|(_, choice)| choice).take(stage.survivors.max(1)).collect();
        }
        if let Some(best) = alive.into_iter().next().filter(|best| *best != parent) {
            parent = best;
            improvements += 1;
        }
    }
    // Parts may have favoured what the whole does not.
    let after = loss(&parent, whole)?;
    match after < before {
        true => Ok(Found { choice: parent, before, after, improvements }),
        false => Ok(Found { choice: start.to_vec(), before, after: before, improvements: 0 }),
    }
}

/// Some tensors up, others down, within `bytes`.
fn mutate(ladders: &Ladders, bytes: u64, parent: &[usize], switches: usize, random: &mut Random) -> Choice {
    let mut child = parent.to_vec();
    let most = switches.max(1);
    let count = 1 + random.below(most).min(random.below(most));
    let mut raised = Vec::with_capacity(count);
    for _ in 0..count {
        let up: Vec<usize> = movable(ladders, &child, 1).collect();
        let Some(&tensor) = up.get(random.below(up.len().max(1))) else { break };
        child[tensor] += 1;
        raised.push(tensor);
    }
    let mut size = ladders.bytes(&child);
    while size > bytes {
        let down: Vec<usize> = movable(ladders, &child, -1).filter(|tensor| !raised.contains(tensor)).collect();
        let Some(&tensor) = down.get(random.below(down.len().max(1))) else { return parent.to_vec() };
        child[tensor] -= 1;
        size = ladders.bytes(&child);
    }
    // What lowering freed too much of goes to others.
    loop {
        let fits = |tensor: &usize| size + step(ladders, &child, *tensor) <= bytes;
        let up: Vec<usize> = movable(ladders, &child, 1).filter(fits).collect();
        let Some(&tensor) = up.get(random.below(up.len().max(1))) else { return child };
        size += step(ladders, &child, tensor);
        child[tensor] += 1;
    }
}

/// Tensors that can go one rung up (1) or down (−1).
fn movable<'a>(ladders: &'a Ladders, choice: &'a [usize], by: isize) -> impl Iterator<Item = usize> + 'a {
    let can = move |tensor: &usize| {
        choice[*tensor].checked_add_signed(by).is_some_and(|rung| rung < ladders.rungs(*tensor).len())
    };
    (0..ladders.len()).filter(can)
}

/// Bytes of the next rung above what a tensor has.
fn step(ladders: &Ladders, choice: &[usize], tensor: usize) -> u64 {
    let rungs = ladders.rungs(tensor);
    rungs[choice[tensor] + 1].bytes - rungs[choice[tensor]].bytes
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::Model;
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn evolution_beats_wrong_expectations_and_keeps_the_size() {
        let mut gains = Vec::new();
        for seed in 0..8 {
            let mut model = Model::new(24, 8.0, seed);
            let ladders = model.ladders.clone();
            let bytes = 24 * 2500 * 3;
            let start = model.start(bytes);
            let options = Options { generations: 200, seed, ..Options::default() };
            let ask = |choice: &[usize], sample: Sample| {
                assert!(ladders.bytes(choice) <= bytes && sample.index < sample.parts);
                // Each part of the text sees it a little differently.
                Ok::<_, Infallible>(model.loss(choice) * (1.0 + 0.01 * sample.index as f64 / sample.parts as f64))
            };
            let Ok(found) = search(&ladders, bytes, &start, &options, ask);
            assert!(found.after < found.before && found.improvements > 0);
            assert_eq!(model.loss(&found.choice), found.after);
            gains.push(found.after / found.before);
        }
        assert!(gains.iter().sum::<f64>() / (gains.len() as f64) < 0.7, "{gains:?}");
    }

    #[test]
    fn the_same_seed_finds_the_same_and_a_misleading_part_does_no_harm() {
        let mut model = Model::new(12, 4.0, 5);
        let ladders = model.ladders.clone();
        let start = model.start(90_000);
        let options = Options { generations: 20, ..Options::default() };
        let mut run = |seed| {
            let ask = |choice: &[usize], _| Ok::<_, Infallible>(model.loss(choice));
            let Ok(found) = search(&ladders, 90_000, &start, &Options { seed, ..options.clone() }, ask);
            found
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).choice, run(2).choice);
        // Parts say the opposite of the whole: the start stays.
        let misled = |choice: &[usize], sample: Sample| {
            let loss = ladders.expected(choice);
            Ok::<_, Infallible>(if sample.parts == 1 { loss } else { -loss })
        };
        let best = ladders.within(90_000).unwrap();
        let Ok(found) = search(&ladders, 90_000, &best, &options, misled);
        assert_eq!((found.choice, found.improvements), (best, 0));
    }

    #[test]
    fn where_nothing_can_move_nothing_does_and_errors_come_through() {
        let model = Model::new(6, 2.0, 1);
        let (smallest, _) = model.ladders.range();
        let options = Options { generations: 3, ..Options::default() };
        let Ok(found) = search(&model.ladders, smallest, &[0; 6], &options, |_, _| Ok::<_, Infallible>(1.0));
        assert_eq!(found.choice, [0; 6]);
        assert!(search(&model.ladders, smallest, &[0; 6], &options, |_, _| Err(())).is_err());
    }
}
