//! Which tensor gets which level, found on the model's true loss.
//!
//! [`plan::within`](crate::plan::within) spends a budget under the assumption that the losses of tensors add up. They do to
//! first order only: errors of layers that feed each other amplify or cancel, and the sum of what each loses alone is not
//! what the whole loses (EvoPress, arXiv 2410.14649, shows how far that leads astray at few bits). The searches here ask the
//! model itself. They see tensors as [`Ladders`] of levels and the model as a function from a choice to a loss, so they are
//! tested on functions that are no models.
//!
//! | file | search |
//! |---|---|
//! | [`lagrange`] | the knapsack's choice, corrected: what a step up or down of each tensor does to the true loss replaces what was expected of it |
//! | [`evopress`] | evolution: mutations that keep the size, survivors judged on more and more text |
//! | [`target`] | the smallest choice that loses at most so much |

pub mod evopress;
pub mod lagrange;
mod random;
pub mod target;

use crate::database::{Candidate, Database};
use crate::{Error, Level, database};
use brevity_budget as budget;

/// The rung of every tensor.
pub type Choice = Vec<usize>;

/// The levels of every tensor that are of use: each costs more bytes than the one below and is expected to lose less.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladders {
    tensors: Vec<Vec<Candidate>>,
}

impl Ladders {
    /// Sorts the levels of a database, and leaves out those that cost more and lose as much as another.
    pub fn new(database: &Database) -> Self {
        Self { tensors: database.entries.iter().map(ladder).collect() }
    }

    /// Tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The rungs of a tensor.
    pub fn rungs(&self, tensor: usize) -> &[Candidate] {
        &self.tensors[tensor]
    }

    /// Bytes of all tensors.
    pub fn bytes(&self, choice: &[usize]) -> u64 {
        self.chosen(choice).map(|candidate| candidate.bytes).sum()
    }

    /// Sum of the expected losses.
    pub fn expected(&self, choice: &[usize]) -> f64 {
        self.chosen(choice).map(|candidate| candidate.loss).sum()
    }

    /// The level of every tensor.
    pub fn levels(&self, choice: &[usize]) -> Vec<Level> {
        self.chosen(choice).map(|candidate| candidate.level).collect()
    }

    /// Bytes of the smallest choice and of the largest.
    pub fn range(&self) -> (u64, u64) {
        let ends = |tensor: &Vec<Candidate>| {
            (tensor.first().map_or(0, |rung| rung.bytes), tensor.last().map_or(0, |rung| rung.bytes))
        };
        self.tensors.iter().map(ends).fold((0, 0), |(low, high), (a, b)| (low + a, high + b))
    }

    /// The choice of least expected loss within `bytes`.
    ///
    /// # Errors
    /// [`Error::Impossible`] where even the lowest rungs take more.
    pub fn within(&self, bytes: u64) -> Result<Choice, Error> {
        budget::allocate(&self.groups(), bytes).map_err(|_| Error::Impossible {
            budget: format!("{bytes} bytes"),
            smallest: format!("{} bytes", self.range().0),
        })
    }

    /// The choice of fewest bytes whose expected losses are at most `loss` together; the top rungs where there is none.
    pub fn at_most(&self, loss: f64) -> Choice {
        budget::allocate_max_loss(&self.groups(), loss)
            .unwrap_or_else(|_| self.tensors.iter().map(|rungs| rungs.len().saturating_sub(1)).collect())
    }

    fn groups(&self) -> Vec<Vec<budget::Level>> {
        let level = |rung: &Candidate| budget::Level::new(rung.bytes, rung.loss);
        self.tensors.iter().map(|rungs| rungs.iter().map(level).collect()).collect()
    }

    /// Replaces the expected losses: `loss(tensor, rung)`. Rungs stay as they are, also where the new losses do not fall.
    pub fn with_losses(&self, loss: impl Fn(usize, usize) -> f64) -> Self {
        let mut changed = self.clone();
        for (tensor, rungs) in changed.tensors.iter_mut().enumerate() {
            rungs.iter_mut().enumerate().for_each(|(rung, candidate)| candidate.loss = loss(tensor, rung));
        }
        changed
    }

    fn chosen<'a>(&'a self, choice: &'a [usize]) -> impl Iterator<Item = &'a Candidate> {
        self.tensors.iter().zip(choice).map(|(rungs, &rung)| &rungs[rung])
    }
}

fn ladder(entry: &database::Entry) -> Vec<Candidate> {
    let mut sorted = entry.candidates.clone();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss)));
    let mut rungs: Vec<Candidate> = Vec::with_capacity(sorted.len());
    for candidate in sorted {
        if rungs.last().is_none_or(|last| candidate.bytes > last.bytes && candidate.loss < last.loss) {
            rungs.push(candidate);
        }
    }
    rungs
}

#[cfg(test)]
pub(crate) mod synthetic {
    //! A loss that does not add up, and ladders that expect it to.

    use super::{Choice, Ladders, random::Random};
    use crate::Level;
    use crate::database::{Candidate, Database, Entry};
    use brevity_formats::TensorType;

    pub struct Model {
        pub ladders: Ladders,
        /// What an error in each tensor costs alone, in truth.
        weights: Vec<f64>,
        /// What errors in two tensors cost together.
        pairs: Vec<(usize, usize, f64)>,
        pub calls: usize,
    }

    impl Model {
        /// `tensors` of different sizes with six levels; expectations are off by a factor of up to `skew` either way.
        pub fn new(tensors: usize, skew: f64, seed: u64) -> Self {
            let mut random = Random::new(seed);
            let weights: Vec<f64> = (0..tensors).map(|_| 0.1 + random.unit()).collect();
            let entry = |tensor: usize| {
                let size = 1000 * (1 + tensor as u64 % 4);
                let off = skew.powf(2.0 * random.unit() - 1.0);
                let candidate = |bits: u64| {
                    let error = 0.25f64.powi(bits as i32);
                    let loss = weights[tensor] * error * off;
                    Candidate { level: Level::Type(TensorType::F16), bytes: size * bits, error, loss }
                };
                Entry { name: format!("{tensor}"), weights: 8 * size, candidates: (1..=6).map(candidate).collect() }
            };
            let ladders = Ladders::new(&Database { entries: (0..tensors).map(entry).collect() });
            let pairs = (1..tensors).map(|tensor| (tensor - 1, tensor, 1.5 * random.unit())).collect();
            Self { ladders, weights, pairs, calls: 0 }
        }

        pub fn loss(&mut self, choice: &[usize]) -> f64 {
            self.calls += 1;
            let error = |tensor: usize| self.ladders.rungs(tensor)[choice[tensor]].error;
            let alone: f64 = self.weights.iter().enumerate().map(|(tensor, weight)| weight * error(tensor)).sum();
            let together = |(a, b, weight): &(usize, usize, f64)| weight * (error(*a) * error(*b)).sqrt();
            alone + self.pairs.iter().map(together).sum::<f64>()
        }

        pub fn start(&self, bytes: u64) -> Choice {
            self.ladders.within(bytes).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brevity_formats::TensorType;

    fn candidate(bytes: u64, loss: f64) -> Candidate {
        Candidate { level: Level::Type(TensorType::Q8_0), bytes, error: loss, loss }
    }

    #[test]
    fn ladders_hold_what_is_of_use() {
        let candidates = vec![candidate(30, 0.2), candidate(10, 1.0), candidate(20, 0.5), candidate(20, 0.4)];
        let useless = vec![candidate(25, 0.4), candidate(26, 0.6)];
        let entry = database::Entry { name: "w".into(), weights: 1, candidates: [candidates, useless].concat() };
        let ladders = Ladders::new(&Database { entries: vec![entry.clone(), entry] });
        let bytes: Vec<u64> = ladders.rungs(0).iter().map(|rung| rung.bytes).collect();
        assert_eq!(bytes, [10, 20, 30]);
        assert_eq!(ladders.rungs(0)[1].loss, 0.4);
        assert_eq!(ladders.range(), (20, 60));
        let choice = ladders.within(45).unwrap();
        assert_eq!((ladders.bytes(&choice), ladders.expected(&choice)), (40, 0.8));
        assert!(ladders.within(19).unwrap_err().to_string().contains("20 bytes"));
        assert_eq!(ladders.at_most(0.65), [1, 2]);
        assert_eq!(ladders.at_most(0.1), [2, 2]);
        let flat = ladders.with_losses(|tensor, rung| (tensor * 10 + rung) as f64);
        assert_eq!(flat.rungs(1)[2].loss, 12.0);
        assert_eq!(flat.within(60).unwrap(), [0, 0]);
    }
}
