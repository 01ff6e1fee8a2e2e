//! Budgets and rules turned into one level per tensor.

use crate::database::{Candidate, Database};
use crate::{Error, Level};
use brevity_budget as budget;
use brevity_formats::TensorType;
use regex::Regex;

/// What a tensor is, as far as a plan must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A matrix that multiplies activations.
    Linear,
    /// The token embedding (also the head, when tied).
    Embedding,
    /// A head of its own.
    Output,
    /// Norms, biases and other small tensors: kept as they are.
    Fixed,
}

/// A tensor to find a level for: `rows` outputs × `cols` inputs, of type `ty` now.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub ty: TensorType,
    pub part: Part,
}

impl Slot {
    pub fn weights(&self) -> u64 {
        (self.rows * self.cols) as u64
    }

    /// The level a fixed tensor keeps: f32, which every reader takes.
    fn kept(&self) -> Level {
        Level::Type(TensorType::F32)
    }

    /// The 16-bit (or own) type that stores the tensor with nothing lost that matters.
    fn sixteen_bit(&self) -> Level {
        Level::Type(if self.ty == TensorType::BF16 { TensorType::BF16 } else { TensorType::F16 })
    }
}

/// What the user fixed beforehand.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `--tensor-type REGEX=TYPE`, the first that matches wins.
    pub overrides: Vec<(Regex, Level)>,
    /// `--output-tensor-type`.
    pub output: Option<Level>,
    /// `--token-embedding-type`.
    pub token_embedding: Option<Level>,
    /// `--pure`: embedding and head like all others.
    pub pure: bool,
    /// `--quantize-embedding`: integer grids take in embedding and head too.
    pub quantize_embedding: bool,
}

impl Rules {
    /// Adds a rule written `REGEX=TYPE`.
    ///
    /// # Errors
    /// If there is no `=`, or either side cannot be read.
    pub fn add_override(&mut self, text: &str) -> Result<(), Error> {
        let pattern = |why: String| Error::Pattern { pattern: text.to_string(), why };
        let (regex, level) = text.rsplit_once('=').ok_or_else(|| pattern("write REGEX=TYPE".into()))?;
        let regex = Regex::new(regex).map_err(|error| pattern(error.to_string()))?;
        self.overrides.push((regex, Level::parse(level)?));
        Ok(())
    }

    /// The level that a rule demands for this tensor.
    fn fixed(&self, slot: &Slot) -> Option<Level> {
        if slot.part == Part::Fixed {
            return Some(slot.kept());
        }
        let by_name = self.overrides.iter().find(|(regex, _)| regex.is_match(&slot.name)).map(|(_, level)| *level);
        let by_part = match slot.part {
            Part::Output => self.output,
            Part::Embedding => self.token_embedding,
            _ => None,
        };
        by_name.or(by_part).map(|level| level.fit(slot.cols))
    }
}

/// One grid everywhere, apart from what the rules say and what does not fit.
///
/// Embedding and head stay in 16 bit under an integer grid (unless `quantize_embedding`) and take at least 6 bits under
/// a block type (unless `pure`), since one of them is read for every token.
pub fn uniform(slots: &[Slot], level: Level, rules: &Rules) -> Vec<Level> {
    let choose = |slot: &Slot| {
        rules.fixed(slot).unwrap_or_else(|| match (slot.part, level) {
            (Part::Linear, _) => level.fit(slot.cols),
            (_, Level::Integer { .. } | Level::Sum(_)) if !rules.quantize_embedding => slot.sixteen_bit(),
            (_, Level::Type(ty)) if !rules.pure && ty.bits_per_weight() < 6.5 => {
                Level::Type(TensorType::Q6K).fit(slot.cols)
            }
            _ => level.fit(slot.cols),
        })
    };
    slots.iter().map(choose).collect()
}

/// The levels of `ladder` that a budget may choose from for this tensor, and plain numbers; one if a rule says so.
pub fn candidates(slot: &Slot, rules: &Rules, ladder: &[Level]) -> Vec<Level> {
    if let Some(level) = rules.fixed(slot) {
        return vec![level];
    }
    let mut levels: Vec<Level> = ladder.iter().copied().filter(|level| level.fit(slot.cols) == *level).collect();
    levels.push(slot.sixteen_bit());
    if slot.ty == TensorType::F32 {
        levels.push(Level::Type(TensorType::F32));
    }
    levels
}

/// The levels of fewest bytes whose expected losses are at most `loss` together.
///
/// # Errors
/// If even the best levels are expected to lose more.
pub fn at_most(database: &Database, loss: f64) -> Result<Vec<Level>, Error> {
    let groups = groups(database);
    let least: f64 =
        groups.iter().map(|levels| levels.iter().map(|level| level.loss).fold(f64::INFINITY, f64::min)).sum();
    let choice = budget::allocate_max_loss(&groups, loss).map_err(|_| Error::Impossible {
        budget: format!("an expected loss of {loss} bits a token"),
        smallest: format!("{least} bits a token"),
    })?;
    Ok(database.entries.iter().zip(choice).map(|(entry, index)| entry.candidates[index].level).collect())
}

fn groups(database: &Database) -> Vec<Vec<budget::Level>> {
    let level = |candidate: &Candidate| budget::Level::new(candidate.bytes, candidate.loss);
    database.entries.iter().map(|entry| entry.candidates.iter().map(level).collect()).collect()
}

/// The levels of least total loss whose tensors take at most `bytes` together.
///
/// # Errors
/// If even the smallest levels take more; the error says how much.
pub fn within(database: &Database, bytes: u64) -> Result<Vec<Level>, Error> {
    let groups = groups(database);
    let smallest: u64 = groups.iter().map(|levels| levels.iter().map(|level| level.bytes).min().unwrap_or(0)).sum();
    let choice = budget::allocate(&groups, bytes)
        .map_err(|_| Error::Impossible { budget: format!("{bytes} bytes"), smallest: format!("{smallest} bytes") })?;
    Ok(database.entries.iter().zip(choice).map(|(entry, index)| entry.candidates[index].level).collect())
}
