//! What calibration text says of a model: second moments or Hessians of every linear's inputs, and sensitivities.

use super::sensitivity::{Sensitivities, moments_role};
use crate::evaluate::{self, Score, Text};
use crate::importance::Given;
use crate::progress::Show;
use crate::texts;
use anyhow::{Context, Result, bail};
use brevity_kernels::MatrixView;
use brevity_model::forward::Options;
use brevity_model::source::{TensorEntry, WeightSource};
use brevity_model::stream::Stream;
use brevity_model::taps::{Place, SecondMoments, Site, Tap};
use brevity_model::{Config, ModelSource, Role};
use brevity_parts::Activation;
use brevity_weights::{HessianSum, Needs, Statistics};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Tokens in a window.
pub const WINDOW: usize = 512;
/// Tokens without which inputs are not known well enough to compress for them.
const LEAST_TOKENS: usize = 1024;
/// Windows that calibrate the choice of types alone.
const FEW_WINDOWS: usize = 8;
/// Windows and tokens of each on which sensitivities are probed.
const PROBE_WINDOWS: usize = 2;
const PROBE_TOKENS: usize = 192;
/// Hessians of all sites are held at once up to this size.
const MOST_HESSIAN_BYTES: usize = 512 << 20;

/// Calibration text, cut into windows for a model.
#[derive(Clone)]
pub struct Windows {
    pub tokens: Vec<Vec<u32>>,
    /// Of the text and the way it was cut.
    pub digest: String,
    /// Whether their hidden states go to disk, since memory is scarce.
    pub spill: bool,
}

impl Windows {
    /// The first windows of the text: `count` of them where statistics are needed, a few where only types are chosen.
    ///
    /// # Errors
    /// If the text cannot be read, or is too short for what is needed.
    pub fn cut(source: &ModelSource, text: Option<&Path>, needs: Needs, count: usize) -> Result<Self> {
        let text = texts::calibration(text)?;
        let window = WINDOW.min(source.config().context);
        let count = if needs == Needs::Nothing { FEW_WINDOWS } else { count };
        let cut = Text::cut(source.tokenizer()?, &text, window, Some(count), Score::All);
        let tokens = cut.context("the calibration text")?.windows;
        let found: usize = tokens.iter().map(Vec::len).sum();
        if needs > Needs::Nothing && found < LEAST_TOKENS {
            bail!(
                "the calibration text is too short: {found} tokens, and {LEAST_TOKENS} are the least that says anything of \
                 the inputs\n  next: name a longer text with --calibration, or raise --calibration-windows"
            );
        }
        let bytes: Vec<u8> = tokens.iter().flatten().flat_map(|token| token.to_le_bytes()).collect();
        let digest = format!("{window} {count} {}", blake3::hash(&bytes).to_hex());
        Ok(Self { tokens, digest, spill: false })
    }

    /// Their embeddings, ready to go through the blocks of a model.
    ///
    /// # Errors
    /// If the embedding cannot be read, or the windows do not fit the model or the disk.
    pub fn stream(&self, config: &Config, source: &dyn WeightSource, options: Options) -> Result<Stream> {
        let begin = if self.spill { Stream::spilled } else { Stream::new };
        Ok(begin(config, source, &self.tokens, options)?)
    }

    /// Short windows for the probing of sensitivities.
    fn probes(&self) -> Vec<Vec<u32>> {
        let short = |tokens: &Vec<u32>| tokens[..tokens.len().min(PROBE_TOKENS)].to_vec();
        self.tokens.iter().take(PROBE_WINDOWS).map(short).collect()
    }
}

/// What calibration text says of a model.
#[derive(Clone)]
pub struct Calibration {
    moments: SecondMoments,
    /// With Hessians, of as many sites as memory holds.
    sites: HashMap<Site, Statistics>,
    /// Second moments from a file, in place of both.
    pub given: Option<Given>,
    pub sensitivities: Sensitivities,
}

impl Calibration {
    /// Runs the windows through the model. Sensitivities are typical ones until they are [probed](Self::probe). Hessians of
    /// all sites are kept only if there is `room` for them, the head's always.
    ///
    /// # Errors
    /// If weights cannot be read, what was seen is not finite, or the user stopped.
    pub fn run(source: &ModelSource, windows: &Windows, needs: Needs, room: bool, show: Show) -> Result<Self> {
        let options = Options { activation: Activation::Int8, ..Options::default() };
        let (mut moments, mut hessians) = (SecondMoments::new(), Hessians::new(held_sites(source, room)));
        let second = (needs == Needs::Hessian).then_some(&mut hessians as &mut dyn Tap);
        let mut both = Both(&mut moments, second);
        let show = (show, "calibrating");
        evaluate::watch(windows.stream(source.config(), source, options)?, source.config(), source, &mut both, show)?;
        Ok(Self { moments, sites: hessians.finish()?, given: None, sensitivities: Sensitivities::typical() })
    }

    /// Takes second moments as a file has them.
    pub fn given(given: Given) -> Self {
        let (moments, sites) = (SecondMoments::new(), HashMap::new());
        Self { moments, sites, given: Some(given), sensitivities: Sensitivities::typical() }
    }

    /// Measures how much the model minds an error in each tensor.
    ///
    /// # Errors
    /// If weights cannot be read, or the user stopped.
    pub fn probe(&mut self, source: &ModelSource, windows: &Windows, show: Show) -> Result<()> {
        let statistics = |role| self.statistics(source, role);
        self.sensitivities = Sensitivities::measure(source, statistics, &windows.probes(), show)?;
        Ok(())
    }

    /// All that is known of the inputs of the tensor of this role.
    pub fn statistics(&self, source: &ModelSource, role: Role) -> Statistics {
        if let Some(given) = &self.given {
            let second_moments = given.moments.get(&role).cloned().unwrap_or_default();
            return Statistics { second_moments, ..Statistics::default() };
        }
        let role = moments_role(source, role);
        let site = Site::of(role).and_then(|site| self.sites.get(&site));
        site.cloned().unwrap_or_else(|| Statistics {
            second_moments: self.moments.means(role).unwrap_or_default(),
            ..Statistics::default()
        })
    }
}

/// Which sites' Hessians are held: all, or the head's alone.
fn held_sites(source: &ModelSource, room: bool) -> impl Fn(Site) -> bool + use<> {
    let linear = |entry: &&TensorEntry| entry.role.kind.is_linear() && !entry.vector;
    let bytes: usize = source.tensors().iter().filter(linear).map(|entry| 4 * entry.cols * entry.cols).sum();
    move |site| room && bytes <= MOST_HESSIAN_BYTES || site.place == Place::Head
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

/// What a finished sum says.
///
/// # Errors
/// If it is not finite.
pub fn statistics(sum: HessianSum) -> Result<Statistics, brevity_weights::Error> {
    let hessian = sum.mean()?;
    let (second_moments, tokens) = (hessian.diagonal(), hessian.tokens());
    Ok(Statistics { second_moments, hessian: Some(Arc::new(hessian)), tokens })
}

/// Hessians of several sites in one pass.
struct Hessians {
    wanted: Box<dyn Fn(Site) -> bool>,
    sums: HashMap<Site, HessianSum>,
}

impl Hessians {
    fn new(wanted: impl Fn(Site) -> bool + 'static) -> Self {
        Self { wanted: Box::new(wanted), sums: HashMap::new() }
    }

    fn finish(self) -> Result<HashMap<Site, Statistics>> {
        let one = |(site, sum)| {
            let statistics = statistics(sum).with_context(|| format!("calibrating {site:?}"))?;
            Ok((site, statistics))
        };
        self.sums.into_iter().map(one).collect()
    }
}

impl Tap for Hessians {
    fn linear(&mut self, site: Site, input: MatrixView<'_>) {
        if (self.wanted)(site) {
            self.sums.entry(site).or_insert_with(|| HessianSum::new(input.cols())).add(input);
        }
    }
}
