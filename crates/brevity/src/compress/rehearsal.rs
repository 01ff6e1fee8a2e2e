//! A rehearsal: the job on the first blocks of a model, to learn what the whole will take.

use super::{Job, checks};
use anyhow::{Context, Result, bail};
use brevity_measure::memory::peak_rss_bytes;
use brevity_measure::table::{Cell, Column, Table};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// What the first blocks took.
pub struct Rehearsal {
    pub model: String,
    pub method: String,
    pub blocks: usize,
    pub all_blocks: usize,
    /// Weights of the rehearsal, and of the whole.
    pub weights: u64,
    pub all_weights: u64,
    /// From calibration to the last byte written; without the measurement of the loss.
    pub seconds: f64,
    pub peak_rss_bytes: Option<u64>,
}

impl Job {
    /// Compresses the first blocks (with embedding and head) into a temporary file, which is removed.
    ///
    /// # Errors
    /// As [`Job::run`]; if no block is asked for.
    pub fn rehearse(&self, blocks: usize) -> Result<Rehearsal> {
        if blocks == 0 {
            bail!("--blocks 0 rehearses nothing\n  next: --blocks 2");
        }
        let whole = self.open()?;
        checks::rules(&self.rules, &whole, self.kind())?;
        self.check_folds(&whole)?;
        let (model, all_weights, all_blocks) = (whole.label().to_string(), whole.weights(), whole.config().layers());
        let original = Arc::new(whole.first_blocks(blocks));
        let weights = original.weights();
        let directory = Scratch::new()?;
        let started = Instant::now();
        let source = self.folded(original)?.source;
        let calibration = self.calibration(&source, false)?;
        let plan = self.plan(&source, calibration.as_ref().map(|(_, calibration)| calibration))?;
        self.write(&source, &plan, &directory.0.join("rehearsal"), calibration)?;
        Ok(Rehearsal {
            model,
            method: self.chain.name(),
            blocks: blocks.min(all_blocks),
            all_blocks,
            weights,
            all_weights,
            seconds: started.elapsed().as_secs_f64(),
            peak_rss_bytes: peak_rss_bytes(),
        })
    }
}

impl Rehearsal {
    /// Seconds for the whole model, if time goes with the number of weights.
    pub fn all_seconds(&self) -> f64 {
        self.seconds * self.all_weights as f64 / self.weights.max(1) as f64
    }

    pub fn json(&self) -> Value {
        json!({
            "model": self.model,
            "method": self.method,
            "blocks": self.blocks,
            "all_blocks": self.all_blocks,
            "weights": self.weights,
            "all_weights": self.all_weights,
            "seconds": self.seconds,
            "all_seconds": self.all_seconds(),
            "peak_rss_bytes": self.peak_rss_bytes,
        })
    }

    pub fn table(&self) -> Table {
        let measured = format!("{} of {} blocks", self.blocks, self.all_blocks);
        let title = format!("{}, {}: a rehearsal", self.model, self.method);
        let mut table = Table::new(["", measured.as_str(), "the whole"].map(Column::new)).title(title);
        let millions = |weights: u64| Cell::number(weights as f64 * 1e-6, 1);
        table.row([Cell::text("million weights"), millions(self.weights), millions(self.all_weights)]);
        table.row([Cell::text("seconds"), Cell::number(self.seconds, 1), Cell::number(self.all_seconds(), 0)]);
        let peak = || Cell::or_empty(self.peak_rss_bytes, |bytes| Cell::number(bytes as f64 * 1e-6, 0));
        table.row([Cell::text("peak memory (MB)"), peak(), peak()]);
        table.note("seconds of the whole by its number of weights; memory does not grow with the blocks");
        table.note("nothing was written, and the loss was not measured");
        table
    }
}

/// A folder that is removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("brevity-rehearsal-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
