//! The main job: a model goes in, a smaller one comes out, and a report says in bits what it cost.

pub mod checks;
pub mod directory;
pub mod goal;
pub mod memory;
pub mod metadata;
pub mod page;
pub mod plan;
pub mod report;
pub mod sensitivity;
pub mod write;

use crate::evaluate::{self, Comparison, Finished, Score, Text};
use crate::progress::Show;
use crate::{open, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_measure::memory::peak_rss_bytes;
use brevity_model::ModelSource;
use brevity_model::forward::Options;
use brevity_model::taps::SecondMoments;
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::{Level, WeightMethod};
use goal::Goal;
use plan::{Plan, Planner};
use report::{Loss, Report};
use sensitivity::{MOST_WEIGHTS, Sensitivities};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use directory::DirectoryFormat;

/// Tokens in a window of the report and of calibration.
const WINDOW: usize = 512;
/// Windows that calibrate second moments.
const CALIBRATION_WINDOWS: usize = 8;

/// Windows and tokens of each on which sensitivities are probed.
const PROBE_WINDOWS: usize = 2;
const PROBE_TOKENS: usize = 192;

/// What calibration text says of a model.
pub struct Calibration {
    pub moments: SecondMoments,
    pub sensitivities: Sensitivities,
}

/// What is to be done.
pub struct Job {
    pub model: Option<String>,
    pub goal: Goal,
    pub method: &'static dyn WeightMethod,
    pub rules: Rules,
    /// Where to write; chosen from model and goal when absent.
    pub output: Option<PathBuf>,
    pub format: Option<DirectoryFormat>,
    pub force: bool,
    pub allow_requantize: bool,
    pub memory: Option<u64>,
    pub calibration: Option<PathBuf>,
    pub text: Option<PathBuf>,
    pub chunks: usize,
    pub evaluate: bool,
    pub activation: Activation,
    pub show: Show,
}

impl Job {
    /// The plan alone: nothing is written.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn dry_run(&self) -> Result<(Plan, String)> {
        let source = self.open()?;
        self.check(&source)?;
        let plan = self.plan(&source, true)?;
        Ok((plan, source.label().to_string()))
    }

    /// Compresses, writes and measures.
    ///
    /// # Errors
    /// If the model cannot be read, the budget is impossible, the output exists or cannot be written, or the user stopped.
    pub fn run(&self) -> Result<Report> {
        let started = Instant::now();
        let source = self.open()?;
        let output = self.output(&source);
        checks::output(&output, self.force, self.kind())?;
        self.check(&source)?;
        directory::check_name(&output, self.is_directory())?;
        let least = memory::least(&source, self.evaluate, self.chunks * WINDOW);
        memory::check(self.memory, least)?;
        let plan = self.plan(&source, false)?;
        let written = self.write(&source, &plan, &output)?;
        let loss = self.evaluate.then(|| self.measure(&source, &output)).transpose().with_context(|| {
            let (output, model) = (output.display(), source.label());
            format!("{output} is written and complete; `brevity eval {output} --against {model}` measures it. Measuring failed")
        })?;
        Ok(Report {
            model: source.label().to_string(),
            requantized: source.tensors().iter().any(|tensor| tensor.is_quantized()),
            output,
            goal: self.goal,
            method: self.method.card().name,
            bits_before: 8.0 * source.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>() as f64
                / source.weights().max(1) as f64,
            bytes_before: source.file_bytes(),
            bytes_after: written,
            plan,
            loss,
            seconds: started.elapsed().as_secs_f64(),
            peak_rss_bytes: peak_rss_bytes(),
        })
    }

    fn open(&self) -> Result<ModelSource> {
        let source = open::open(self.model.as_deref(), self.show)?;
        if let Some(tensor) = source.tensors().iter().find(|tensor| tensor.is_quantized())
            && !self.allow_requantize
        {
            bail!(
                "{}: `{}` is {} already, so what its first compression lost is lost for good\n  next: start from the \
                 16- or 32-bit original, or add --allow-requantize to take this file as the reference",
                source.label(),
                tensor.name,
                tensor.type_name(),
            );
        }
        Ok(source)
    }

    /// Refuses what cannot work before any time is spent.
    fn check(&self, source: &ModelSource) -> Result<()> {
        checks::rules(&self.rules, source, self.kind())?;
        checks::describable(source, self.kind())?;
        if self.evaluate {
            source.tokenizer()?;
        }
        Ok(())
    }

    fn kind(&self) -> checks::Kind {
        if self.is_directory() { checks::Kind::Directory } else { checks::Kind::File }
    }

    /// The plan; a grid needs no calibration unless its expected losses are to be shown.
    fn plan(&self, source: &ModelSource, expected: bool) -> Result<Plan> {
        let calibration = match self.goal {
            Goal::Grid(_) if !expected => None,
            _ => Some(self.calibrate(source)?),
        };
        let planner = Planner {
            source,
            method: self.method,
            rules: &self.rules,
            calibration: calibration.as_ref(),
            directory: self.is_directory(),
            show: self.show,
        };
        let mut plan = planner.plan(self.goal)?;
        if let Some(format) = self.directory_format(source, &plan)? {
            directory::count_bytes(&mut plan, source, format)?;
        }
        Ok(plan)
    }

    /// Second moments of every linear's inputs, and how much the model minds an error in each.
    fn calibrate(&self, source: &ModelSource) -> Result<Calibration> {
        let text = texts::calibration(self.calibration.as_deref())?;
        let window = WINDOW.min(source.config().context);
        let text = Text::cut(source.tokenizer()?, &text, window, Some(CALIBRATION_WINDOWS), Score::All)
            .context("the calibration text")?;
        let mut moments = SecondMoments::new();
        let options = Options { activation: Activation::Int8, ..Options::default() };
        let show = (self.show, "calibrating");
        let finished = Finished::run(source.config(), source, &text.windows, options, Some(&mut moments), show)?;
        finished.tap_head(&mut moments);
        let probe = source.weights() <= MOST_WEIGHTS && self.memory.is_none();
        let sensitivities = match probe {
            true => {
                let windows: Vec<Vec<u32>> = text
                    .windows
                    .iter()
                    .take(PROBE_WINDOWS)
                    .map(|tokens| tokens[..tokens.len().min(PROBE_TOKENS)].to_vec())
                    .collect();
                Sensitivities::measure(source, self.method, &moments, &windows, self.show)?
            }
            false => Sensitivities::typical(),
        };
        Ok(Calibration { moments, sensitivities })
    }

    /// Writes the model; returns the bytes of its weights' files.
    fn write(&self, source: &ModelSource, plan: &Plan, output: &Path) -> Result<u64> {
        let writing = write::Writing { source, method: self.method, path: output, force: self.force, show: self.show };
        match self.directory_format(source, plan)? {
            Some(format) => directory::write(&writing, plan, format),
            None => {
                let (metadata, extras) = metadata::gguf(source, self.method.card().name)?;
                let path = writing.gguf(plan, &metadata, &extras)?;
                Ok(std::fs::metadata(path)?.len())
            }
        }
    }

    /// Whether a directory is written, not a GGUF file.
    fn is_directory(&self) -> bool {
        self.format.is_some() || matches!(self.goal, Goal::Grid(Level::Integer { .. } | Level::Sum(_)))
    }

    fn directory_format(&self, source: &ModelSource, plan: &Plan) -> Result<Option<DirectoryFormat>> {
        let choose = || DirectoryFormat::choose(self.format, plan, source.config().architecture);
        self.is_directory().then(choose).transpose()
    }

    fn output(&self, source: &ModelSource) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let stem = open::short_name(source.label());
            let name = format!("{stem}-{}-{}", self.method.card().name, self.goal.slug());
            PathBuf::from(if self.is_directory() { name } else { format!("{name}.gguf") })
        })
    }

    fn measure(&self, source: &ModelSource, output: &Path) -> Result<Loss> {
        let compressed = ModelSource::open(output).context("reading back what was written")?;
        let text = texts::evaluation(self.text.as_deref())?;
        let window = WINDOW.min(source.config().context);
        let tokenizer = source.tokenizer()?;
        let text = Text::cut(tokenizer, &text, window, Some(self.chunks), Score::All)?;
        let options = Options { activation: self.activation, ..Options::default() };
        let before = evaluate::finish(source, &text, options, (self.show, "original"))?;
        stop::check()?;
        let after = evaluate::finish(&compressed, &text, options, (self.show, "compressed"))?;
        let Comparison { before, after: bits_after, divergence } =
            evaluate::compare(&before, &after, &text, tokenizer)?;
        let floor = evaluate::floor(&compressed, &after, &text, tokenizer, options, self.show)?;
        Ok(Loss {
            before: before.summary()?,
            after: bits_after.summary()?,
            divergence: divergence.summary()?,
            floor,
            windows: text.windows.len(),
            activation: self.activation,
        })
    }
}
