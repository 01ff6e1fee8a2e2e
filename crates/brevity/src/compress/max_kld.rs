//! `--max-kld`: the smallest file that is measured to lose at most so many bits a token.
//!
//! What counts is the divergence of the written file on the report's text, which is apart from calibration. So files are
//! written and measured until one lies between 95 % of the limit and the limit: a size is planned, the method compresses, the
//! file is run. Where to begin comes from expected losses, corrected by runs of the model where there are any
//! ([`Search`]). Each attempt takes as long as a compression and its report: about six are needed.

use super::allocate::{Allocator, Search};
use super::calibration::{Calibration, Windows};
use super::measuring::Measuring;
use super::{Job, Made};
use crate::stop;
use anyhow::{Context, Result, bail};
use brevity_model::{ModelSource, Role};
use brevity_parts::Activation;
use brevity_weights::allocate::target::{self, Ask, Ended, Measured};
use brevity_weights::allocate::{Choice, Ladders, evopress};
use brevity_weights::database::Database;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Files that are written at most before single tensors are moved, and as many again for that.
const ATTEMPTS: usize = 16;
/// Divergences below this are the rounding of f32 logits, in bits.
const RESOLUTION: f64 = 1e-7;
/// Generations of an evolution at each size that is tried.
const GENERATIONS: usize = 20;

/// The file that is being tried; removed at the end unless it was taken.
struct Attempt(PathBuf);

impl Attempt {
    fn beside(output: &Path) -> Self {
        let name = output.file_name().map_or_else(|| "out".into(), |name| name.to_string_lossy().into_owned());
        Self(output.with_file_name(format!(".attempt-{name}")))
    }

    fn remove(&self) {
        let _ = if self.0.is_dir() { std::fs::remove_dir_all(&self.0) } else { std::fs::remove_file(&self.0) };
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Job {
    /// Finds the size, and leaves the file at `output`.
    ///
    /// # Errors
    /// If the limit is below the measurement's floor or below what any file loses, weights cannot be read, the disk is full,
    /// or the user stopped.
    pub(super) fn limited(
        &self,
        limit: f64,
        original: &ModelSource,
        source: &ModelSource,
        (windows, calibration): (&Windows, &Calibration),
        output: &Path,
    ) -> Result<Made> {
        let measuring = Measuring::new(self, original)?;
        let floor = measuring.floor()?.max(RESOLUTION);
        if limit <= floor {
            let next = match self.activation {
                Activation::Int8 => "raise the limit, or measure with --activations f32",
                Activation::F32 => "raise the limit",
            };
            bail!("--max-kld {limit} is below the floor of the measurement, {floor:.2e} bits a token\n  next: {next}");
        }
        let statistics = |role: Role| calibration.statistics(source, role);
        let search = self.search(source, &statistics, output)?.map(RefCell::new);
        let planner = self.planner(source, Some(calibration), search.as_ref());
        let database = planner.database(&planner.slots())?;
        let search = search.as_ref().map(RefCell::borrow);
        let (ladders, guess) = begin(&database, search.as_deref(), limit)?;

        let attempt = Attempt::beside(output);
        let mut tried: Vec<(Choice, f64, Made)> = Vec::new();
        let mut written: Option<Choice> = None;
        let mut ask = |ask: Ask| -> Result<Measured> {
            stop::check()?;
            let choice = match (ask, &search) {
                (Ask::Of(choice), _) => choice.to_vec(),
                (Ask::Within(bytes), Some(search)) if search.allocator() == Allocator::EvoPress => {
                    let options = evopress::Options { generations: GENERATIONS, ..Default::default() };
                    search.evolved(&ladders, bytes, &ladders.within(bytes)?, options)?
                }
                (Ask::Within(bytes), _) => ladders.within(bytes)?,
            };
            if let Some((_, loss, _)) = tried.iter().find(|(tried, ..)| *tried == choice) {
                return Ok(Measured { choice, loss: *loss });
            }
            let plan = self.counted(source, planner.of(&database, ladders.levels(&choice)))?;
            attempt.remove();
            let (bytes, rows_kept) =
                self.write(source, &plan, &attempt.0, Some((windows.clone(), calibration.clone())))?;
            written = Some(choice.clone());
            let loss = measuring.loss(&attempt.0)?;
            let mean = loss.divergence.mean;
            self.show.remark(&format!("tried {:.4} bits a weight: {mean:.5} bits a token", plan.bits_per_weight()));
            tried.push((choice.clone(), mean, Made { plan, bytes, rows_kept, loss: Some(loss) }));
            Ok(Measured { choice, loss: mean })
        };
        let found = match target::search(&ladders, limit, guess, ATTEMPTS, &mut ask)? {
            Ended::Found(found) => found,
            Ended::Below(found) => {
                let loss = found.loss;
                self.show
                    .remark(&format!("no choice of levels that was tried comes closer to the limit than {loss:.5}"));
                found
            }
            Ended::Unreachable(found) => bail!(
                "--max-kld {limit}: the largest file that method {} can write loses {:.3e} bits a token already\n  next: raise the limit",
                self.chain.name(),
                found.loss
            ),
        };
        let (.., made) = tried.into_iter().find(|(tried, ..)| *tried == found.choice).context("the file is lost")?;
        if written.as_ref() != Some(&found.choice) {
            attempt.remove();
            self.write(source, &made.plan, &attempt.0, Some((windows.clone(), calibration.clone())))?;
        }
        take(&attempt, output)?;
        Ok(made)
    }
}

/// Losses to plan with, and the size to begin at.
fn begin(database: &Database, search: Option<&Search>, limit: f64) -> Result<(Ladders, u64)> {
    let mut ladders = Ladders::new(database);
    let mut guess = ladders.bytes(&ladders.at_most(limit));
    let Some(search) = search else { return Ok((ladders, guess)) };
    for _ in 0..2 {
        let found = search.corrected(&ladders, guess)?;
        let scale = limit / found.after.max(1e-12);
        let expected = found.ladders.expected(&found.choice);
        ladders = found.ladders;
        guess = ladders.bytes(&ladders.at_most(scale * expected));
        if (0.6..1.6).contains(&scale) {
            break;
        }
    }
    Ok((ladders, guess))
}

/// Puts the attempt where the output belongs.
fn take(attempt: &Attempt, output: &Path) -> Result<()> {
    let moved = || format!("moving the finished model to {}", output.display());
    if output.is_dir() {
        std::fs::remove_dir_all(output).with_context(moved)?;
    }
    std::fs::rename(&attempt.0, output).with_context(moved)
}
