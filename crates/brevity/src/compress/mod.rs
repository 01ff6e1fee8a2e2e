//! The main job: a model goes in, a smaller one comes out, and a report says in bits what it cost.

pub mod allocate;
pub mod calibrated;
pub mod calibration;
pub mod checks;
pub mod directory;
pub mod folding;
pub mod goal;
pub mod levels;
pub mod max_kld;
pub mod measuring;
pub mod memory;
pub mod metadata;
pub mod page;
pub mod picture;
pub mod plan;
pub mod rehearsal;
pub mod replaced;
pub mod report;
pub mod sensitivity;
pub mod true_loss;
pub mod write;

use crate::progress::Show;
use crate::{importance, open};
use allocate::{Allocator, Search};
use anyhow::{Context, Result, bail};
use brevity_measure::memory::peak_rss_bytes;
use brevity_model::{ModelSource, Role, TensorKind};
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::registry::Chain;
use brevity_weights::{Level, Needs, Statistics};
use calibrated::Calibrated;
use calibration::{Calibration, Windows};
use goal::Goal;
use measuring::Measuring;
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
    /// An importance matrix in place of second moments of the calibration text.
    pub imatrix: Option<PathBuf>,
    /// Windows of calibration text for methods that look at inputs.
    pub calibration_windows: usize,
    /// How a budget is shared out on runs of the model; on expected losses alone without it.
    pub allocator: Option<Allocator>,
    /// Folder of the database of levels.
    pub levels: Option<PathBuf>,
    pub text: Option<PathBuf>,
    pub chunks: usize,
    pub evaluate: bool,
    pub activation: Activation,
    pub show: Show,
}

/// A model that was written.
pub struct Made {
    pub plan: Plan,
    pub bytes: u64,
    pub rows_kept: usize,
    pub loss: Option<Loss>,
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
        memory::check(self.memory, memory::least(self, &original, true))?;
        let folding::FoldedModel { source, groups } = self.folded(Arc::clone(&original))?;
        let calibration = self.calibration(&source, false)?;
        let made = self.make(&original, source, calibration, &output)?;
        Ok(Report {
            model: original.label().to_string(),
            requantized: original.tensors().iter().any(|tensor| tensor.is_quantized()),
            output,
            goal: self.goal,
            method: self.chain.name(),
            bits_before: 8.0 * original.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>() as f64
                / original.weights().max(1) as f64,
            bytes_before: original.file_bytes(),
            bytes_after: made.bytes,
            rows_kept: made.rows_kept,
            groups,
            plan: made.plan,
            loss: made.loss,
            seconds: started.elapsed().as_secs_f64(),
            peak_rss_bytes: peak_rss_bytes(),
        })
    }

    /// Plans, writes and measures.
    fn make(
        &self,
        original: &ModelSource,
        source: Arc<ModelSource>,
        calibration: Option<(Windows, Calibration)>,
        output: &Path,
    ) -> Result<Made> {
        if let (Goal::MaxKld(limit), Some((windows, calibration))) = (self.goal, &calibration) {
            return self.limited(limit, original, &source, (windows, calibration), output);
        }
        let plan = self.searched(&source, calibration.as_ref().map(|(_, calibration)| calibration), output)?;
        let (bytes, rows_kept) = self.write(&source, &plan, output, calibration)?;
        drop(source);
        let measure = || Measuring::new(self, original)?.loss(output);
        let loss = self.evaluate.then(measure).transpose().with_context(|| {
            let (output, model) = (output.display(), original.label());
            format!("{output} is written and complete; `brevity eval {output} --against {model}` measures it. Measuring failed")
        })?;
        Ok(Made { plan, bytes, rows_kept, loss })
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
        let seen = if self.imatrix.is_some() { Needs::Nothing } else { needs };
        let mut windows = Windows::cut(source, self.calibration.as_deref(), seen, self.calibration_windows)?;
        windows.spill = self.spills(source);
        let calibration = self.calibrate(source, &windows, needs, expected)?;
        windows.digest.extend(calibration.given.iter().flat_map(|given| [" ", given.digest.as_str()]));
        Ok(Some((windows, calibration)))
    }

    /// Whether hidden states of the calibration windows must go to disk.
    fn spills(&self, source: &ModelSource) -> bool {
        self.memory.is_some_and(|limit| limit < memory::least(self, source, false))
    }

    fn calibrate(&self, source: &ModelSource, windows: &Windows, needs: Needs, expected: bool) -> Result<Calibration> {
        let mut calibration = match &self.imatrix {
            Some(path) => Calibration::given(importance::read(path, source)?),
            None => Calibration::run(source, windows, needs, self.memory.is_none(), self.show)?,
        };
        let chosen = expected || !matches!(self.goal, Goal::Grid(_));
        if chosen && source.weights() <= MOST_WEIGHTS && self.memory.is_none() {
            calibration.probe(source, windows, self.show)?;
        }
        Ok(calibration)
    }

    /// The plan on expected losses.
    fn plan(&self, source: &ModelSource, calibration: Option<&Calibration>) -> Result<Plan> {
        self.counted(source, self.planner(source, calibration, None).plan(self.goal)?)
    }

    /// The plan on the model's true loss, where there is a budget and the model is not too large for it.
    fn searched(&self, source: &ModelSource, calibration: Option<&Calibration>, output: &Path) -> Result<Plan> {
        let statistics = |role| calibration.map(|known| known.statistics(source, role)).unwrap_or_default();
        let search = self.search(source, &statistics, output)?.map(RefCell::new);
        self.counted(source, self.planner(source, calibration, search.as_ref()).plan(self.goal)?)
    }

    fn search<'a>(
        &self,
        source: &'a ModelSource,
        statistics: &'a dyn Fn(Role) -> Statistics,
        output: &Path,
    ) -> Result<Option<Search<'a>>> {
        let Some(allocator) = self.allocator else { return Ok(None) };
        if matches!(self.goal, Goal::Grid(_)) || source.weights() > MOST_WEIGHTS || self.memory.is_some() {
            return Ok(None);
        }
        let wanted = allocate::Wanted {
            source,
            method: self.chain.method,
            statistics,
            allocator,
            levels: self.levels.as_deref(),
            output,
            calibration: self.calibration.as_deref(),
            show: self.show,
        };
        Search::new(&wanted).map(Some)
    }

    fn planner<'a>(
        &'a self,
        source: &'a ModelSource,
        calibration: Option<&'a Calibration>,
        search: Option<&'a RefCell<Search<'a>>>,
    ) -> Planner<'a> {
        let (method, rules, show) = (self.chain.method, &self.rules, self.show);
        Planner { source, method, rules, calibration, search, directory: self.is_directory(), show }
    }

    /// With the bytes that a directory takes.
    fn counted(&self, source: &ModelSource, mut plan: Plan) -> Result<Plan> {
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
}
