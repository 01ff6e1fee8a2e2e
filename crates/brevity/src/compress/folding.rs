//! The folds of a chain, made one after the other before matrices are stored.

use super::Job;
use super::calibration::Windows;
use anyhow::{Context, Result};
use brevity_model::{ModelSource, Role};
use brevity_weights::fold::{FoldJob, GroupReport};
use brevity_weights::{Level, Needs, Statistics};
use std::collections::HashMap;
use std::sync::Arc;

/// A model behind the folds of a chain.
pub struct FoldedModel {
    pub source: Arc<ModelSource>,
    /// What the searches for them found.
    pub groups: Vec<GroupReport>,
}

impl Job {
    /// Refuses a model that a fold of the chain cannot be folded into.
    pub(super) fn check_folds(&self, source: &ModelSource) -> Result<()> {
        for fold in &self.chain.folds {
            fold.check(source.config()).with_context(|| format!("folding {}", source.label()))?;
        }
        Ok(())
    }

    /// Makes the folds of the chain. Each is fitted to the model as the folds before left it, and to the levels that a
    /// plan for that model chooses.
    ///
    /// # Errors
    /// If the model cannot be read or does not take a fold, or the user stopped.
    pub(super) fn folded(&self, original: Arc<ModelSource>) -> Result<FoldedModel> {
        let (mut source, mut groups) = (original, Vec::new());
        for fold in &self.chain.folds {
            let (levels, calibration) = match fold.needs() {
                Needs::Nothing => (HashMap::new(), None),
                needs => {
                    let mut windows =
                        Windows::cut(&source, self.calibration.as_deref(), needs, self.calibration_windows)?;
                    windows.spill = self.spills(&source);
                    let calibration = self.calibrate(&source, &windows, needs, false)?;
                    let plan = self.plan(&source, Some(&calibration))?;
                    let levels = plan.tensors.iter().map(|tensor| (tensor.entry.role, tensor.level)).collect();
                    (levels, Some(calibration))
                }
            };
            let level = |role: Role| {
                let level: Option<Level> = levels.get(&role).copied();
                level.filter(|level| !level.is_plain())
            };
            let statistics = |role| match &calibration {
                Some(calibration) => calibration.statistics(&source, role),
                None => Statistics::default(),
            };
            let job = FoldJob {
                source: &source,
                layers: 0..source.config().layers(),
                statistics: &statistics,
                level: &level,
                nearest: self.chain.rounds_to_nearest(),
            };
            let name = fold.card().name;
            let outcome = fold.fold(&job).with_context(|| format!("folding {name} into {}", source.label()))?;
            groups.extend(outcome.groups);
            source = Arc::new(ModelSource::folded(Arc::clone(&source), outcome.folds)?);
        }
        Ok(FoldedModel { source, groups })
    }
}
