//! Levels chosen on the model's true loss: the database of levels and runs of the model behind the searches of
//! [`brevity_weights::allocate`].
//!
//! Whatever is searched, the bytes of a budget are kept and the search ends after a fixed amount of arithmetic, so that the
//! same job gives the same file however fast the machine is.

use super::levels::{self, Levels};
use super::true_loss::{self, TrueLoss};
use crate::progress::Show;
use anyhow::Result;
use brevity_model::{ModelSource, Role};
use brevity_weights::allocate::evopress::{self, Sample};
use brevity_weights::allocate::lagrange::{self, Corrected};
use brevity_weights::allocate::{Choice, Ladders};
use brevity_weights::database::Database;
use brevity_weights::{Level, Statistics, WeightMethod};
use std::path::Path;

/// Multiplications that the measurements of one round of correction take, about.
const WORK: u64 = 1 << 37;
/// Groups without which a correction is not worth its time.
const LEAST_GROUPS: usize = 8;
/// Tensors that differ from the base before another base is cheaper.
const FAR: usize = 6;

/// How levels are chosen within a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// The knapsack on expected losses, corrected by what the model says: a minute for small models.
    Lagrange,
    /// Evolution from there: several times as long.
    EvoPress,
}

/// A search at work on one model.
pub struct Search<'a> {
    source: &'a ModelSource,
    levels: Levels<'a>,
    allocator: Allocator,
    windows: Vec<Vec<u32>>,
    show: Show,
}

/// What a search is made from.
pub struct Wanted<'a, 'b> {
    pub source: &'a ModelSource,
    pub method: &'a dyn WeightMethod,
    pub statistics: &'a dyn Fn(Role) -> Statistics,
    pub allocator: Allocator,
    /// The folder for the database of levels; a temporary one beside `output` without it.
    pub levels: Option<&'b Path>,
    pub output: &'b Path,
    pub calibration: Option<&'b Path>,
    pub show: Show,
}

impl<'a> Search<'a> {
    /// Opens the database; nothing is made yet.
    ///
    /// # Errors
    /// If the folder cannot be made, or the text is too short.
    pub fn new(wanted: &Wanted<'a, '_>) -> Result<Self> {
        let Wanted { source, method, statistics, allocator, show, .. } = *wanted;
        let levels = Levels::open(source, method, statistics, wanted.levels, wanted.output)?;
        let windows = true_loss::windows(source, wanted.calibration)?;
        Ok(Self { source, levels, allocator, windows, show })
    }

    /// The error of every tensor at each of its levels, which are made where the database lacks them.
    ///
    /// # Errors
    /// As [`Levels::errors`].
    pub fn errors(&mut self, wanted: &[Vec<Level>]) -> Result<Vec<Vec<f64>>> {
        let errors = levels::all_errors(&mut self.levels, wanted, self.show)?;
        let (made, found) = (self.levels.made(), self.levels.found());
        if found > 0 {
            self.show.remark(&format!("levels: {found} found in the database, {made} made"));
        }
        Ok(errors)
    }

    /// The best levels within `bytes`.
    ///
    /// # Errors
    /// If the budget is impossible, weights cannot be read, or the user stopped.
    pub fn choose(&self, database: &Database, bytes: u64) -> Result<Vec<Level>> {
        let ladders = Ladders::new(database);
        let choice = self.corrected(&ladders, bytes)?;
        let choice = match self.allocator {
            Allocator::Lagrange => choice.choice,
            Allocator::EvoPress => self.evolved(&ladders, bytes, &choice.choice, evopress::Options::default())?,
        };
        Ok(ladders.levels(&choice))
    }

    /// How levels are chosen.
    pub fn allocator(&self) -> Allocator {
        self.allocator
    }

    /// The knapsack's choice after correction, and losses as corrected.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn corrected(&self, ladders: &Ladders, bytes: u64) -> Result<Corrected> {
        let start = ladders.within(bytes)?;
        let tokens: usize = self.windows.iter().map(Vec::len).sum();
        // A probe runs from its block on: half of the model on average.
        let probe = (self.source.weights() * tokens as u64 / 2).max(1);
        let groups = lagrange::groups(ladders, (WORK / probe) as usize);
        let open = (0..ladders.len()).filter(|tensor| ladders.rungs(*tensor).len() > 1).count();
        if groups.len() < LEAST_GROUPS.min(open) || open == 0 {
            self.show
                .remark("the model is too large to correct expected losses by runs of it: they are taken as they are");
            let expected = ladders.expected(&start);
            let ladders = ladders.clone();
            return Ok(Corrected { choice: start, before: expected, after: expected, ladders, evaluations: 0 });
        }
        let phase = self.show.phase("correcting", 2 * groups.len() as u64);
        let mut loss = TrueLoss::new(self.source, &self.levels, ladders, self.windows.clone(), &start)?;
        let measure = |choice: &[usize]| {
            if loss.distance(choice) > FAR {
                loss.rebase(choice)?;
            }
            phase.step();
            loss.all(choice)
        };
        let found = lagrange::correct(ladders, bytes, &start, &groups, lagrange::Options::default(), measure)?;
        drop(phase);
        let (before, after, evaluations) = (found.before, found.after, found.evaluations);
        self.show.remark(&format!("corrected: {before:.5} → {after:.5} bits a token in {evaluations} runs"));
        Ok(found)
    }

    /// What evolution makes of a choice.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn evolved(
        &self,
        ladders: &Ladders,
        bytes: u64,
        start: &[usize],
        options: evopress::Options,
    ) -> Result<Choice> {
        let phase = self.show.phase("evolving", (options.generations * options.offspring) as u64);
        let mut loss = TrueLoss::new(self.source, &self.levels, ladders, self.windows.clone(), start)?;
        let measure = |choice: &[usize], sample: Sample| {
            // Offspring differ from their parent in a few tensors; once the parent is far from the base, it moves along.
            if loss.distance(choice) > 2 * FAR {
                loss.rebase(choice)?;
            }
            phase.step();
            loss.part(choice, sample)
        };
        let found = evopress::search(ladders, bytes, start, &options, measure)?;
        drop(phase);
        let (before, after, improvements) = (found.before, found.after, found.improvements);
        self.show.remark(&format!("evolved: {before:.5} → {after:.5} bits a token in {improvements} improvements"));
        Ok(found.choice)
    }
}
