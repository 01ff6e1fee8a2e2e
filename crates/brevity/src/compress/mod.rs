//! The main job: a model goes in, a smaller one comes out, and a report says in bits what it cost.

pub mod calibrated;
pub mod checks;
pub mod directory;
pub mod goal;
pub mod memory;
pub mod metadata;
pub mod page;
pub mod plan;
pub mod replaced;
pub mod report;
pub mod sensitivity;
pub mod write;

use crate::evaluate::{self, Comparison, Finished, Score, Text};
use crate::progress::Show;
use crate::{open, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_kernels::MatrixView;
use brevity_measure::memory::peak_rss_bytes;
use brevity_model::forward::Options;
use brevity_model::source::TensorEntry;
use brevity_model::taps::{Place, SecondMoments, Site, Tap};
use brevity_model::{ModelSource, Role, TensorKind};
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::{Level, Needs, Statistics, WeightMethod};
use calibrated::{Calibrated, Hessians};
use goal::Goal;
use plan::{Plan, Planner};
use report::{Loss, Report};
use sensitivity::{MOST_WEIGHTS, Sensitivities, moments_role};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use directory::DirectoryFormat;

/// Tokens in a window of the report and of calibration.
const WINDOW: usize = 512;
/// Tokens without which inputs are not known well enough to compress for them.
const LEAST_TOKENS: usize = 1024;
/// Windows that calibrate second moments.
const CALIBRATION_WINDOWS: usize = 8;

/// Windows and tokens of each on which sensitivities are probed.
const PROBE_WINDOWS: usize = 2;
const PROBE_TOKENS: usize = 192;

/// What calibration text says of a model.
pub struct Calibration {
    pub moments: SecondMoments,
    /// With Hessians, of as many sites as memory holds.
    pub sites: HashMap<Site, Statistics>,
    pub sensitivities: Sensitivities,
}

impl Calibration {
    /// All that is known of the inputs of the tensor of this role.
    pub fn statistics(&self, source: &ModelSource, role: Role) -> Statistics {
        let role = moments_role(source, role);
        let site = Site::of(role).and_then(|site| self.sites.get(&site));
        site.cloned().unwrap_or_else(|| Statistics {
            second_moments: self.moments.means(role).unwrap_or_default(),
            ..Statistics::default()
        })
    }
}

/// Hessians of all sites are held at once up to this size.
const MOST_HESSIAN_BYTES: usize = 512 << 20;

/// Which sites' Hessians are held: all, or the head's alone.
fn held_sites(source: &ModelSource) -> impl Fn(Site) -> bool + use<> {
    let linear = |entry: &&TensorEntry| entry.role.kind.is_linear() && !entry.vector;
    let bytes: usize = source.tensors().iter().filter(linear).map(|entry| 4 * entry.cols * entry.cols).sum();
    move |site| bytes <= MOST_HESSIAN_BYTES || site.place == Place::Head
}

/// Two who watch the same pass.
struct Both<'a>(&'a mut dyn Tap, Option<&'a mut dyn Tap>);

impl Tap for Both<'_> {
    fn linear(&mut self, site: Site, input: MatrixView<'_>) {
        self.0.linear(site, input);
        if let Some(second) = &mut self.1 {
            second.linear(site, input);
        }
    }
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
        let source = self.open()?;
        self.check(&source)?;
        let plan = self.plan(&source, self.calibration(&source, true)?.as_ref())?;
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
        let calibration = self.calibration(&source, false)?;
        let plan = self.plan(&source, calibration.as_ref())?;
        let (written, rows_kept) = self.write(&source, &plan, &output, calibration)?;
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
            rows_kept,
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

    /// A grid needs no calibration unless its expected losses are to be shown, or the method asks for it.
    fn calibration(&self, source: &ModelSource, expected: bool) -> Result<Option<Calibration>> {
        let wanted = expected || !matches!(self.goal, Goal::Grid(_)) || self.method.needs() > Needs::Nothing;
        wanted.then(|| self.calibrate(source, expected)).transpose()
    }

    fn plan(&self, source: &ModelSource, calibration: Option<&Calibration>) -> Result<Plan> {
        let planner = Planner {
            source,
            method: self.method,
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

    /// Second moments of every linear's inputs, and how much the model minds an error in each.
    fn calibrate(&self, source: &ModelSource, expected: bool) -> Result<Calibration> {
        let windows = self.windows(source)?;
        let options = Options { activation: Activation::Int8, ..Options::default() };
        let (mut moments, mut hessians) = (SecondMoments::new(), Hessians::new(held_sites(source)));
        let second = (self.method.needs() == Needs::Hessian).then_some(&mut hessians as &mut dyn Tap);
        let mut both = Both(&mut moments, second);
        let show = (self.show, "calibrating");
        let finished = Finished::run(source.config(), source, &windows, options, Some(&mut both), show)?;
        finished.tap_head(&mut both);
        drop(finished);
        let mut calibration =
            Calibration { moments, sites: hessians.finish()?, sensitivities: Sensitivities::typical() };
        let asked = expected || !matches!(self.goal, Goal::Grid(_));
        let probe = asked && source.weights() <= MOST_WEIGHTS && self.memory.is_none();
        let sensitivities = match probe {
            true => {
                let windows: Vec<Vec<u32>> = windows
                    .iter()
                    .take(PROBE_WINDOWS)
                    .map(|tokens| tokens[..tokens.len().min(PROBE_TOKENS)].to_vec())
                    .collect();
                let statistics = |role| calibration.statistics(source, role);
                Sensitivities::measure(source, self.method, statistics, &windows, self.show)?
            }
            false => Sensitivities::typical(),
        };
        calibration.sensitivities = sensitivities;
        Ok(calibration)
    }

    /// Calibration text in windows; more of it where Hessians are to be estimated.
    fn windows(&self, source: &ModelSource) -> Result<Vec<Vec<u32>>> {
        let text = texts::calibration(self.calibration.as_deref())?;
        let window = WINDOW.min(source.config().context);
        let count = match self.method.needs() {
            Needs::Nothing => CALIBRATION_WINDOWS,
            _ => self.calibration_windows,
        };
        let text =
            Text::cut(source.tokenizer()?, &text, window, Some(count), Score::All).context("the calibration text")?;
        let tokens: usize = text.windows.iter().map(Vec::len).sum();
        if self.method.needs() > Needs::Nothing && tokens < LEAST_TOKENS {
            bail!(
                "the calibration text is too short: {tokens} tokens, and method {} needs {LEAST_TOKENS} at the least\n  \
                 next: name a longer text with --calibration",
                self.method.card().name
            );
        }
        Ok(text.windows)
    }

    /// Writes the model; returns the bytes of its weights' files, and how many rows kept round-to-nearest.
    fn write(
        &self,
        source: &ModelSource,
        plan: &Plan,
        output: &Path,
        calibration: Option<Calibration>,
    ) -> Result<(u64, usize)> {
        let calibrated = match (self.method.needs(), calibration) {
            (Needs::Nothing, _) | (_, None) => None,
            (_, Some(calibration)) => {
                let head = calibration.statistics(source, Role::global(TensorKind::Output));
                drop(calibration);
                let options = Options { activation: Activation::F32, ..Options::default() };
                Some(RefCell::new(Calibrated::new(source, self.method, plan, &self.windows(source)?, options, head)?))
            }
        };
        let (path, force, show) = (output, self.force, self.show);
        let writing = write::Writing { source, method: self.method, path, force, show, calibrated };
        let bytes = match self.directory_format(source, plan)? {
            Some(format) => directory::write(&writing, plan, format)?,
            None => {
                let (metadata, extras) = metadata::gguf(source, self.method.card().name)?;
                let path = writing.gguf(plan, &metadata, &extras)?;
                std::fs::metadata(path)?.len()
            }
        };
        Ok((bytes, writing.rows_kept()))
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
