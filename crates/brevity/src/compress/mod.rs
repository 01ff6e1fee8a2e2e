//! The main job: a model goes in, a smaller one comes out, and a report says in bits what it cost.

pub mod calibrated;
pub mod calibration;
pub mod checks;
pub mod directory;
pub mod folding;
pub mod goal;
pub mod memory;
pub mod metadata;
pub mod page;
pub mod plan;
pub mod rehearsal;
pub mod replaced;
pub mod report;
pub mod sensitivity;
pub mod write;

use crate::evaluate::{self, Comparison, Score, Text};
use crate::progress::Show;
use crate::{open, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_measure::memory::peak_rss_bytes;
use brevity_model::forward::Options;
use brevity_model::{ModelSource, Role, TensorKind};
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::registry::Chain;
use brevity_weights::{Level, Needs};
use calibrated::Calibrated;
use calibration::{Calibration, WINDOW, Windows};
use goal::Goal;
use plan::{Plan, Planner};
use report::{Loss, Report};
use sensitivity::MOST_WEIGHTS;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use directory::DirectoryFormat;

/// What is to be done.
pub struct Job {
    pub model: Option<String>,
    pub goal: Goal,
    /// Folds, then how matrices are stored.
    pub chain: Chain,
    pub rules: Rules,
    /// Where to write; chosen from model and goal when absent.
    pub output: Option<PathBuf>,
    pub format: Option<DirectoryFormat>,
    pub force: bool,
    pub allow_requantize: bool,
    pub memory: Option<u64>,
    pub calibration: Option<PathBuf>,
    /// Windows of calibration text for methods that look at inputs.
    pub calibration_windows: usize,
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
        let original = Arc::new(self.open()?);
        self.check(&original)?;
        let source = self.folded(original)?.source;
        let calibration = self.calibration(&source, true)?.map(|(_, calibration)| calibration);
        let plan = self.plan(&source, calibration.as_ref())?;
        Ok((plan, source.label().to_string()))
    }

    /// Compresses, writes and measures.
    ///
    /// # Errors
    /// If the model cannot be read, the budget is impossible, the output exists or cannot be written, or the user stopped.
    pub fn run(&self) -> Result<Report> {
        let started = Instant::now();
        let original = Arc::new(self.open()?);
        let output = self.output(&original);
        checks::output(&output, self.force, self.kind())?;
        self.check(&original)?;
        directory::check_name(&output, self.is_directory())?;
        memory::check(self.memory, memory::least(self, &original))?;
        let folding::FoldedModel { source, groups } = self.folded(Arc::clone(&original))?;
        let calibration = self.calibration(&source, false)?;
        let plan = self.plan(&source, calibration.as_ref().map(|(_, calibration)| calibration))?;
        let (written, rows_kept) = self.write(&source, &plan, &output, calibration)?;
        drop(source);
        let loss = self.evaluate.then(|| self.measure(&original, &output)).transpose().with_context(|| {
            let (output, model) = (output.display(), original.label());
            format!("{output} is written and complete; `brevity eval {output} --against {model}` measures it. Measuring failed")
        })?;
        Ok(Report {
            model: original.label().to_string(),
            requantized: original.tensors().iter().any(|tensor| tensor.is_quantized()),
            output,
            goal: self.goal,
            method: self.chain.name(),
            bits_before: 8.0 * original.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>() as f64
                / original.weights().max(1) as f64,
            bytes_before: original.file_bytes(),
            bytes_after: written,
            rows_kept,
            groups,
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
        self.check_folds(source)?;
        if self.evaluate {
            source.tokenizer()?;
        }
        Ok(())
    }

    fn kind(&self) -> checks::Kind {
        if self.is_directory() { checks::Kind::Directory } else { checks::Kind::File }
    }

    /// What the method or the choice of types must know; a grid alone needs nothing, unless its expected losses are to be
    /// shown.
    fn calibration(&self, source: &ModelSource, expected: bool) -> Result<Option<(Windows, Calibration)>> {
        let needs = self.chain.method.needs();
        if !expected && matches!(self.goal, Goal::Grid(_)) && needs == Needs::Nothing {
            return Ok(None);
        }
        let windows = Windows::cut(source, self.calibration.as_deref(), needs, self.calibration_windows)?;
        let calibration = self.calibrate(source, &windows, needs, expected)?;
        Ok(Some((windows, calibration)))
    }

    fn calibrate(&self, source: &ModelSource, windows: &Windows, needs: Needs, expected: bool) -> Result<Calibration> {
        let mut calibration = Calibration::run(source, windows, needs, self.memory.is_none(), self.show)?;
        let chosen = expected || !matches!(self.goal, Goal::Grid(_));
        if chosen && source.weights() <= MOST_WEIGHTS && self.memory.is_none() {
            calibration.probe(source, windows, self.show)?;
        }
        Ok(calibration)
    }

    fn plan(&self, source: &ModelSource, calibration: Option<&Calibration>) -> Result<Plan> {
        let planner = Planner {
            source,
            method: self.chain.method,
            rules: &self.rules,
            calibration,
            directory: self.is_directory(),
            show: self.show,
        };
        let mut plan = planner.plan(self.goal)?;
        if let Some(format) = self.directory_format(source, &plan)? {
            directory::count_bytes(&mut plan, source, format)?;
        }
        Ok(plan)
    }

    /// Writes the model; returns the bytes of its weights' files, and how many rows kept round-to-nearest.
    fn write(
        &self,
        source: &ModelSource,
        plan: &Plan,
        output: &Path,
        calibration: Option<(Windows, Calibration)>,
    ) -> Result<(u64, usize)> {
        let method = self.chain.method;
        let (path, force, show) = (output, self.force, self.show);
        let name = self.chain.name();
        let mut writing =
            write::Writing { source, method, name, path, force, show, calibration: None, calibrated: None };
        if let Some((windows, calibration)) = calibration {
            writing.name = format!("{} {}", writing.name, windows.digest);
            match method.needs() {
                Needs::Nothing => (),
                Needs::SecondMoments => writing.calibration = Some(calibration),
                Needs::Hessian => {
                    let head = calibration.statistics(source, Role::global(TensorKind::Output));
                    // Other sites' Hessians make room before the first block is in memory.
                    drop(calibration);
                    writing.calibrated = Some(RefCell::new(Calibrated::new(source, method, plan, &windows, head)?));
                }
            }
        }
        let bytes = match self.directory_format(source, plan)? {
            Some(format) => directory::write(&writing, plan, format)?,
            None => {
                let (metadata, extras) = metadata::gguf(source, &self.chain.name())?;
                let path = writing.gguf(plan, &metadata, &extras)?;
                std::fs::metadata(path)?.len()
            }
        };
        Ok((bytes, writing.rows_kept()))
    }

    /// Whether a directory is written, not a GGUF file.
    fn is_directory(&self) -> bool {
        let grid = matches!(self.goal, Goal::Grid(Level::Integer { .. } | Level::Sum(_)));
        self.format.is_some() || self.chain.stores_sums() || grid
    }

    fn directory_format(&self, source: &ModelSource, plan: &Plan) -> Result<Option<DirectoryFormat>> {
        let choose = || DirectoryFormat::choose(self.format, plan, source.config().architecture);
        self.is_directory().then(choose).transpose()
    }

    fn output(&self, source: &ModelSource) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let stem = open::short_name(source.label());
            let name = format!("{stem}-{}-{}", self.chain.name(), self.goal.slug());
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
