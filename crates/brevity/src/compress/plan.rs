//! From a goal to one level per tensor, with what it will cost and lose.

use super::Calibration;
use super::allocate::Search;
use super::directory;
use super::goal::Goal;
use super::metadata::{self, Extra};
use crate::progress::Show;
use crate::stop;
use anyhow::{Result, bail};
use brevity_formats::gguf::{Metadata, TensorPlan, planned_bytes};
use brevity_kernels::Matrix;
use brevity_measure::bits::format_bytes;
use brevity_model::source::TensorEntry;
use brevity_model::{ModelSource, TensorKind};
use brevity_weights::allocate::Ladders;
use brevity_weights::database::{self, Candidate, Database, Entry};
use brevity_weights::plan::{self, Part, Rules, Slot};
use brevity_weights::{Level, Statistics, WeightMethod};
use std::cell::RefCell;

/// One tensor's fate.
#[derive(Debug, Clone)]
pub struct Planned {
    pub entry: TensorEntry,
    pub level: Level,
    /// Bytes in the output.
    pub bytes: u64,
    /// Relative error that its outputs will see (energy); 0 where nothing is lost.
    pub error: f64,
    /// Divergence that this alone is expected to cause, in bits a token; `None` without calibration.
    pub loss: Option<f64>,
}

/// All tensors' fates.
pub struct Plan {
    pub tensors: Vec<Planned>,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    pub weights: u64,
    /// What a larger budget would buy, where there was one.
    pub next: Option<Next>,
}

/// What a tenth more bytes would buy.
#[derive(Debug, Clone)]
pub struct Next {
    /// Bytes of all tensors then.
    pub bytes: u64,
    /// Expected loss then, over that of this plan.
    pub share: f64,
    /// The tensors that would gain the most, and what they would become.
    pub tensors: Vec<(String, Level)>,
}

impl Plan {
    pub fn bits_per_weight(&self) -> f64 {
        brevity_measure::bits::bits_per_weight(self.tensor_bytes, self.weights)
    }
}

/// Everything that a plan is made from.
pub struct Planner<'a> {
    pub source: &'a ModelSource,
    pub method: &'a dyn WeightMethod,
    pub rules: &'a Rules,
    pub calibration: Option<&'a Calibration>,
    /// Where levels are chosen on the true loss.
    pub search: Option<&'a RefCell<Search<'a>>>,
    /// Whether a directory is to be written, not a GGUF file.
    pub directory: bool,
    pub show: Show,
}

impl Planner<'_> {
    /// Finds each tensor's level.
    ///
    /// # Errors
    /// If the budget is impossible (the error names the smallest possible), a weight is not finite, or the user stopped.
    pub fn plan(&self, goal: Goal) -> Result<Plan> {
        let slots = self.slots();
        let weights = self.source.weights();
        match goal {
            Goal::Grid(level) => self.uniform(&slots, level, weights),
            Goal::Bits(bits) => self.within(&slots, (bits * weights as f64 / 8.0).floor() as u64, weights),
            Goal::Size(bytes) => self.within_file(&slots, bytes),
            Goal::MaxKld(limit) => {
                let database = self.database(&slots)?;
                Ok(self.of(&database, plan::at_most(&database, limit)?))
            }
            Goal::Ratio(ratio) => {
                let bytes = (ratio * self.source.file_bytes() as f64).floor() as u64;
                self.within_file(&slots, bytes)
            }
        }
    }

    /// Every tensor, as a plan sees it.
    pub fn slots(&self) -> Vec<Slot> {
        self.source.tensors().iter().map(|entry| self.slot(entry)).collect()
    }

    fn slot(&self, entry: &TensorEntry) -> Slot {
        let part = match entry.role.kind {
            _ if entry.vector || entry.role.bias => Part::Fixed,
            TensorKind::PositionEmbedding => Part::Fixed,
            TensorKind::TokenEmbedding => Part::Embedding,
            TensorKind::Output => Part::Output,
            _ => Part::Linear,
        };
        Slot { name: entry.name.clone(), rows: entry.rows, cols: entry.cols, ty: entry.ty, part }
    }

    fn uniform(&self, slots: &[Slot], level: Level, weights: u64) -> Result<Plan> {
        if !self.method.supports(level) {
            bail!("method {} cannot store {level}", self.method.card().name);
        }
        let levels = plan::uniform(slots, level, self.rules);
        let phase = self.show.phase("measuring", slots.len() as u64);
        let mut tensors = Vec::new();
        for ((slot, level), entry) in slots.iter().zip(levels).zip(self.source.tensors()) {
            stop::check()?;
            let sample = self.sample(entry)?;
            let error = self.error(slot, entry, &sample, level)?;
            tensors.push(self.planned(entry, self.candidate(slot, entry, level, error)?));
            phase.step();
        }
        Ok(finish(tensors, weights))
    }

    /// The levels of least loss whose whole file takes at most `bytes`.
    fn within_file(&self, slots: &[Slot], bytes: u64) -> Result<Plan> {
        let overhead = match self.directory {
            true => directory::overhead(self.source),
            false => self.gguf_overhead(slots)?,
        };
        let database = self.database(slots)?;
        let smallest: u64 = database.entries.iter().map(smallest_bytes).sum::<u64>() + overhead;
        if bytes < smallest {
            let (asked, least) = (format_bytes(bytes), format_bytes(smallest));
            bail!("{asked} is too little for this model: the smallest file possible is {least} ({smallest} bytes)");
        }
        self.choose(&database, bytes - overhead)
    }

    /// Bytes of a GGUF file beside its tensors, padding included.
    fn gguf_overhead(&self, slots: &[Slot]) -> Result<u64> {
        let (metadata, extras) = metadata::gguf(self.source, self.method.card().name)?;
        let all_f32: Vec<TensorPlan> = slots
            .iter()
            .map(|slot| tensor_plan(&slot.name, slot.rows, slot.cols, Level::Type(brevity_formats::TensorType::F32)))
            .collect();
        let tensors: u64 = slots.iter().map(|slot| 4 * slot.weights()).sum();
        Ok(file_bytes(&metadata, &extras, &all_f32)?.saturating_sub(tensors) + 32 * slots.len() as u64)
    }

    fn within(&self, slots: &[Slot], bytes: u64, weights: u64) -> Result<Plan> {
        let database = self.database(slots)?;
        let smallest: u64 = database.entries.iter().map(smallest_bytes).sum();
        if bytes < smallest {
            let least = brevity_measure::bits::bits_per_weight(smallest, weights);
            let asked = brevity_measure::bits::bits_per_weight(bytes, weights);
            bail!(
                "{asked:.3} bits a weight are too few for this model: the least possible is {:.4}",
                (1e4 * least).ceil() / 1e4
            );
        }
        self.choose(&database, bytes)
    }

    fn choose(&self, database: &Database, bytes: u64) -> Result<Plan> {
        let levels = match self.search {
            Some(search) => search.borrow().choose(database, bytes)?,
            None => plan::within(database, bytes)?,
        };
        Ok(self.of(database, levels))
    }

    /// The plan that gives every tensor of the database its level.
    pub fn of(&self, database: &Database, levels: Vec<Level>) -> Plan {
        let pick = |((entry, group), level): ((&TensorEntry, &Entry), Level)| {
            let candidate = group.candidates.iter().find(|candidate| candidate.level == level);
            candidate.map(|candidate| self.planned(entry, *candidate))
        };
        let tensors = self.source.tensors().iter().zip(&database.entries).zip(levels).filter_map(pick).collect();
        let mut plan = finish(tensors, self.source.weights());
        plan.next = next(database, &plan);
        plan
    }

    /// What each tensor's levels cost and lose.
    ///
    /// # Errors
    /// If a tensor cannot be stored at a level that a rule demands, weights cannot be read, or the user stopped.
    pub fn database(&self, slots: &[Slot]) -> Result<Database> {
        let ladder = self.method.levels();
        let levels: Vec<Vec<Level>> = slots.iter().map(|slot| plan::candidates(slot, self.rules, &ladder)).collect();
        let errors = match self.search {
            Some(search) => search.borrow_mut().errors(&levels)?,
            None => self.errors(slots, &levels)?,
        };
        let mut entries = Vec::with_capacity(slots.len());
        for ((slot, entry), (levels, errors)) in slots.iter().zip(self.source.tensors()).zip(levels.iter().zip(errors))
        {
            let candidates = levels.iter().zip(errors).map(|(level, error)| self.candidate(slot, entry, *level, error));
            let candidates = candidates.collect::<Result<Vec<_>>>()?;
            entries.push(Entry { name: slot.name.clone(), weights: slot.weights(), candidates });
        }
        Ok(Database { entries })
    }

    /// The error of each level, on a sample of each tensor's rows.
    fn errors(&self, slots: &[Slot], levels: &[Vec<Level>]) -> Result<Vec<Vec<f64>>> {
        let phase = self.show.phase("measuring", slots.len() as u64);
        let mut errors = Vec::with_capacity(slots.len());
        for ((slot, entry), levels) in slots.iter().zip(self.source.tensors()).zip(levels) {
            stop::check()?;
            let sample = self.sample(entry)?;
            errors.push(levels.iter().map(|level| self.error(slot, entry, &sample, *level)).collect::<Result<_>>()?);
            phase.step();
        }
        Ok(errors)
    }

    fn error(&self, slot: &Slot, entry: &TensorEntry, sample: &Matrix, level: Level) -> Result<f64> {
        Ok(match level.is_lossless_for(entry.ty) || slot.part == Part::Fixed {
            true => 0.0,
            false => database::error_at(self.method, sample, &self.statistics(entry), level)?,
        })
    }

    fn candidate(&self, slot: &Slot, entry: &TensorEntry, level: Level, error: f64) -> Result<Candidate> {
        let Some(bytes) = level.bytes(slot.rows, slot.cols) else {
            bail!("{}: rows of {} weights cannot be stored as {level}", slot.name, slot.cols);
        };
        let sensitivity = self.calibration.map_or(1.0, |calibration| calibration.sensitivities.of(entry.role));
        Ok(Candidate { level, bytes, error, loss: sensitivity * error })
    }

    /// Rows of a tensor, spread evenly.
    fn sample(&self, entry: &TensorEntry) -> Result<Matrix> {
        let rows = match entry.vector {
            true => Vec::new(),
            false => database::sample_rows(entry.rows, entry.cols),
        };
        let mut sample = Matrix::zeros(rows.len(), entry.cols);
        let mut start = 0;
        while start < rows.len() {
            let run = rows[start..].windows(2).take_while(|pair| pair[1] == pair[0] + 1).count() + 1;
            let values = self.source.read_rows_f32(entry, rows[start]..rows[start] + run)?;
            let cells = start * entry.cols..(start + run) * entry.cols;
            sample.data_mut()[cells].copy_from_slice(&values);
            start += run;
        }
        Ok(sample)
    }

    fn statistics(&self, entry: &TensorEntry) -> Statistics {
        self.calibration.map(|calibration| calibration.statistics(self.source, entry.role)).unwrap_or_default()
    }

    fn planned(&self, entry: &TensorEntry, candidate: Candidate) -> Planned {
        Planned {
            entry: entry.clone(),
            level: candidate.level,
            bytes: candidate.bytes,
            error: candidate.error,
            loss: self.calibration.map(|_| candidate.loss),
        }
    }
}

fn smallest_bytes(entry: &Entry) -> u64 {
    entry.candidates.iter().map(|candidate| candidate.bytes).min().unwrap_or(0)
}

fn finish(tensors: Vec<Planned>, weights: u64) -> Plan {
    let tensor_bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
    Plan { tensors, tensor_bytes, weights, next: None }
}

/// Tensors that [`Next`] names.
const NAMED: usize = 3;

fn next(database: &Database, plan: &Plan) -> Option<Next> {
    let now: f64 = plan.tensors.iter().filter_map(|tensor| tensor.loss).sum();
    let ladders = Ladders::new(database);
    let choice = ladders.within(plan.tensor_bytes + plan.tensor_bytes / 10).ok()?;
    let gain = |(tensor, &rung): (usize, &usize)| {
        let (planned, then) = (&plan.tensors[tensor], ladders.rungs(tensor)[rung]);
        (planned.loss.unwrap_or(0.0) - then.loss, planned.entry.name.clone(), then.level)
    };
    let mut gains: Vec<_> = choice.iter().enumerate().map(gain).filter(|(gain, ..)| *gain > 0.0).collect();
    gains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let tensors = gains.into_iter().take(NAMED).map(|(_, name, level)| (name, level)).collect();
    let share = ladders.expected(&choice) / now;
    (now > 0.0 && share < 1.0).then(|| Next { bytes: ladders.bytes(&choice), share, tensors })
}

/// A tensor as GGUF plans it.
pub fn tensor_plan(name: &str, rows: usize, cols: usize, level: Level) -> TensorPlan {
    let shape = if cols == 1 { vec![rows] } else { vec![cols, rows] };
    let ty = match level {
        Level::Type(ty) => ty,
        Level::Integer { .. } | Level::Sum(_) => brevity_formats::TensorType::F16,
    };
    TensorPlan { name: name.to_string(), shape, ty }
}

/// Bytes of the file with these tensors and extras.
pub fn file_bytes(metadata: &Metadata, extras: &[Extra], plans: &[TensorPlan]) -> Result<u64> {
    let all: Vec<TensorPlan> = extras.iter().map(|extra| extra.plan.clone()).chain(plans.iter().cloned()).collect();
    Ok(planned_bytes(metadata, &all)?)
}
