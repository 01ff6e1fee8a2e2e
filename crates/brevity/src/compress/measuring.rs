//! The report's measurement: text apart from calibration through the original and through what was written.

use super::Job;
use super::calibration::WINDOW;
use super::report::Loss;
use crate::evaluate::{self, Comparison, Finished, Score, Text};
use crate::progress::Show;
use crate::{stop, texts};
use anyhow::{Context, Result};
use brevity_model::ModelSource;
use brevity_model::forward::Options;
use std::path::Path;

/// The text, and what the original makes of it.
pub struct Measuring<'a> {
    original: &'a ModelSource,
    text: Text,
    before: Finished,
    options: Options,
    show: Show,
}

impl<'a> Measuring<'a> {
    /// Runs the original.
    ///
    /// # Errors
    /// If the text or weights cannot be read, or the user stopped.
    pub fn new(job: &Job, original: &'a ModelSource) -> Result<Self> {
        let text = texts::evaluation(job.text.as_deref())?;
        let window = WINDOW.min(original.config().context);
        let text = Text::cut(original.tokenizer()?, &text, window, Some(job.chunks), Score::All)?;
        let options = Options { activation: job.activation, ..Options::default() };
        let before = evaluate::finish(original, &text, options, (job.show, "original"))?;
        stop::check()?;
        Ok(Self { original, text, before, options, show: job.show })
    }

    /// What the model at `output` lost.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn loss(&self, output: &Path) -> Result<Loss> {
        let (options, text, tokenizer) = (self.options, &self.text, self.original.tokenizer()?);
        let compressed = ModelSource::open(output).context("reading back what was written")?;
        let finished = evaluate::finish(&compressed, text, options, (self.show, "compressed"))?;
        let Comparison { before, after, divergence } = evaluate::compare(&self.before, &finished, text, tokenizer)?;
        let floor = evaluate::floor(&compressed, &finished, text, tokenizer, options, self.show)?;
        Ok(Loss {
            before: before.summary()?,
            after: after.summary()?,
            divergence: divergence.summary()?,
            floor,
            windows: text.windows.len(),
            activation: options.activation,
        })
    }

    /// Mean divergence of the original from itself that the way of measuring makes, in bits.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn floor(&self) -> Result<f64> {
        let tokenizer = self.original.tokenizer()?;
        evaluate::floor(self.original, &self.before, &self.text, tokenizer, self.options, self.show)
    }
}
