//! `k:int8,v:int4`: keys in one store, values in another.

use super::{Coding, Store};
use brevity_measure::MethodCard;
use std::sync::Arc;

/// Two stores, each for one side.
pub struct Split {
    pub keys: Arc<dyn Store>,
    pub values: Arc<dyn Store>,
}

impl Store for Split {
    /// The keys' card: the losses of keys are those that grow.
    fn card(&self) -> &'static MethodCard {
        self.keys.card()
    }

    fn text(&self) -> String {
        format!("k:{},v:{}", self.keys.text(), self.values.text())
    }

    fn fresh(&self) -> (Coding, Coding) {
        (self.keys.fresh().0, self.values.fresh().1)
    }

    fn centres(&self) -> bool {
        self.keys.centres()
    }

    fn feeds_back(&self) -> bool {
        self.keys.feeds_back()
    }

    fn rotates(&self) -> (bool, bool) {
        (self.keys.rotates().0, self.values.rotates().1)
    }
}
