//! The text that names a cache: `snapkv:budget=256,window=32 + int4`, `k:int8,v:int4`, `kivi:bits=4`.

use crate::fit::Positions;
use crate::registry;
use crate::store::{Float, Split};
use crate::{Cache, Error, Merging, Selection, Store};
use brevity_model::Config;
use brevity_model::cache::CacheShape;
use brevity_model::forward::Model;
use std::fmt;
use std::sync::Arc;

/// A composition of methods.
#[derive(Clone)]
pub struct Spec {
    pub(crate) selection: Option<Arc<dyn Selection>>,
    pub(crate) merging: Option<Arc<dyn Merging>>,
    pub(crate) store: Arc<dyn Store>,
}

impl Spec {
    /// Reads methods joined by `+`, in any order; each is a name and, behind a colon, options `key=value` with commas
    /// between. Without a store tokens are kept in f16.
    ///
    /// # Errors
    /// If a name or option is unknown, two methods do the same, or a budget cannot be.
    pub fn parse(text: &str) -> Result<Spec, Error> {
        let mut selection: Option<Arc<dyn Selection>> = None;
        let mut merging: Option<Arc<dyn Merging>> = None;
        let mut store: Option<Arc<dyn Store>> = None;
        let mut any = false;
        for part in text.split('+').map(str::trim).filter(|part| !part.is_empty()) {
            any = true;
            let (what, old, new) = match method(text, part)? {
                Method::Select(new) => {
                    let text = new.text();
                    ("selection", selection.replace(new).map(|old| old.text()), text)
                }
                Method::Merge(new) => {
                    let text = new.text();
                    ("merging", merging.replace(new).map(|old| old.text()), text)
                }
                Method::Store(new) => {
                    let text = new.text();
                    ("store", store.replace(new).map(|old| old.text()), text)
                }
            };
            if let Some(old) = old {
                return Err(twice(text, what, &old, &new));
            }
        }
        if !any {
            return Err(Error::Empty { text: text.to_string() });
        }
        let store = store.unwrap_or_else(|| Arc::new(Float::F16));
        if let Some(merging) = merging.as_ref().filter(|merging| merging.across().is_some()) {
            let changes = (store.ages() || store.tiers().is_some()).then(|| store.text());
            if let Some(with) = selection.as_ref().map(|selection| selection.text()).or(changes) {
                return Err(Error::Across { text: text.to_string(), merging: merging.card().name, with });
            }
        }
        match (&selection, &merging) {
            (None, Some(merging)) if merging.across().is_none() => {
                return Err(Error::NothingDropped { text: text.to_string(), merging: merging.card().name });
            }
            (Some(selection), Some(merging)) if selection.merging().is_some() => {
                return Err(twice(text, "merging", selection.card().name, merging.card().name));
            }
            _ => {}
        }
        Ok(Spec { selection, merging, store })
    }

    /// The same for one model: methods that must see it look at it now, by running it on texts of their own.
    ///
    /// # Errors
    /// If the model cannot run.
    pub fn learnt(self, model: &Model) -> brevity_model::error::Result<Spec> {
        let unlearnt = self.selection.as_ref().filter(|selection| selection.must_learn());
        let learnt = unlearnt.map(|selection| selection.learnt(model)).transpose()?.flatten();
        Ok(Spec { selection: learnt.or(self.selection), ..self })
    }

    /// An empty cache for a model, of `capacity` tokens at most.
    ///
    /// # Errors
    /// If that is more than the model's context, or a method has yet to see the model ([`learnt`](Self::learnt)).
    pub fn cache(&self, config: &Config, capacity: usize) -> Result<Cache, Error> {
        let sliding = config.windows.iter().any(Option::is_some);
        match capacity > config.context {
            true => Err(Error::Context { wanted: capacity, context: config.context }),
            false if self.selection.as_ref().is_some_and(|selection| selection.must_learn()) => {
                Err(Error::Unlearnt { spec: self.to_string() })
            }
            false if sliding && self.reorders() => Err(Error::Sliding { spec: self.to_string() }),
            false
                if self.store.places().is_some_and(|places| {
                    let shape = CacheShape::of(config);
                    places != shape.layers * shape.kv_heads
                }) =>
            {
                let shape = CacheShape::of(config);
                Err(Error::Places {
                    method: self.store.card().name,
                    found: self.store.places().unwrap_or(0),
                    layers: shape.layers,
                    heads: shape.kv_heads,
                })
            }
            false => {
                let rope = config.rope_table().map(|table| Positions { table, count: config.context });
                Ok(Cache::new(self.clone(), CacheShape::of(config), capacity).with_rope(rope))
            }
        }
    }

    /// Whether tokens may lie in another order than they came.
    fn reorders(&self) -> bool {
        self.store.tiers().is_some() || self.merging.as_ref().is_some_and(|merging| merging.across().is_some())
    }

    /// The same with another store.
    pub fn with_store(self, store: Arc<dyn Store>) -> Spec {
        Spec { store, ..self }
    }

    /// How tokens are stored.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What becomes of those that do not stay.
    pub fn merging(&self) -> Option<Arc<dyn Merging>> {
        self.merging.clone().or_else(|| self.selection.as_ref()?.merging())
    }

    /// Which stay.
    pub fn selection(&self) -> Option<&dyn Selection> {
        self.selection.as_deref()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(selection) = &self.selection {
            write!(f, "{} + ", selection.text())?;
        }
        if let Some(merging) = &self.merging {
            write!(f, "{} + ", merging.text())?;
        }
        f.write_str(&self.store.text())
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spec({self})")
    }
}

enum Method {
    Select(Arc<dyn Selection>),
    Merge(Arc<dyn Merging>),
    Store(Arc<dyn Store>),
}

fn method(text: &str, part: &str) -> Result<Method, Error> {
    let (name, options) = part.split_once(':').map_or((part, ""), |(name, options)| (name.trim(), options));
    if matches!(name, "k" | "v") {
        return sides(text, part).map(Method::Store);
    }
    if let Some(selection) = registry::selection(name, options) {
        return selection.map(Method::Select);
    }
    if let Some(merging) = registry::merging(name, options) {
        return merging.map(Method::Merge);
    }
    match registry::store(name, options) {
        Some(store) => store.map(Method::Store),
        None => Err(unknown(text, name)),
    }
}

/// `k:int8,v:int4`.
fn sides(text: &str, part: &str) -> Result<Arc<dyn Store>, Error> {
    let (mut keys, mut values) = (None, None);
    for half in part.split(',').map(str::trim) {
        let (side, name) = half.split_once(':').unwrap_or((half, ""));
        let (slot, called) = match side.trim() {
            "k" => (&mut keys, "keys"),
            "v" => (&mut values, "values"),
            _ => return Err(unknown(text, half)),
        };
        let store = registry::store(name.trim(), "").ok_or_else(|| unknown(text, name.trim()))??;
        if !store.splits() {
            let stores = registry::store_names().into_iter().filter_map(|name| registry::store(name, "")?.ok());
            let possible: Vec<String> = stores.filter(|store| store.splits()).map(|store| store.text()).collect();
            return Err(Error::Side {
                text: text.to_string(),
                name: name.to_string(),
                side: called,
                possible: possible.join(", "),
            });
        }
        if let Some(old) = slot.replace(store.clone()) {
            return Err(twice(text, "store", &old.text(), &store.text()));
        }
    }
    match (keys, values) {
        (Some(keys), Some(values)) => Ok(Arc::new(Split { keys, values })),
        (keys, _) => {
            let side = if keys.is_some() { "keys" } else { "values" };
            Err(Error::Half { text: text.to_string(), found: part.to_string(), side })
        }
    }
}

fn unknown(text: &str, name: &str) -> Error {
    let (stores, selections) = (registry::store_names().join(", "), registry::selection_names().join(", "));
    let mergings = registry::merging_names().join(", ");
    Error::Unknown { text: text.to_string(), name: name.to_string(), stores, selections, mergings }
}

fn twice(text: &str, what: &'static str, first: &str, second: &str) -> Error {
    Error::Twice { text: text.to_string(), what, first: first.to_string(), second: second.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compositions_are_read_in_any_order() {
        for (text, read) in [
            ("int4", "int4"),
            (" INT8 ", "int8"),
            ("k:int8,v:int4", "k:int8,v:int4"),
            ("v:int4, k:f16", "k:f16,v:int4"),
            ("int4 + h2o:budget=512", "h2o:budget=512,recent=256 + int4"),
            ("snapkv:budget=256,window=32 + k:int8,v:int4", "snapkv:budget=256,window=32,pool=7 + k:int8,v:int4"),
            ("int8+kvmerger+h2o:budget=64", "h2o:budget=64,recent=32 + kvmerger:similarity=80 + int8"),
            ("window:budget=64", "window:budget=64,sinks=4 + f16"),
            ("kivi:bits=4", "kivi:bits=4,residual=64"),
            ("minicache", "minicache:from=50,t=60,keep=5 + f16"),
            ("int4 + minicache:keep=10", "minicache:from=50,t=60,keep=10 + int4"),
            ("mikv", "mikv:high=8,low=2,share=25"),
            ("mixed:values=4322,keys=48h3", "mixed:keys=48h3,values=4322"),
            ("zipcache:share=50,low=3", "zipcache:high=4,low=3,share=50"),
            ("h2o:budget=25%", "h2o:budget=25%,recent=12.5% + f16"),
        ] {
            assert_eq!(Spec::parse(text).unwrap().to_string(), read);
            assert_eq!(Spec::parse(read).unwrap().to_string(), read, "what it prints is read again");
        }
    }

    #[test]
    fn wrong_ones_are_explained() {
        for (text, says) in [
            ("", "names no method"),
            (" + ", "names no method"),
            ("int5", "int4"),
            ("int4 + int8", "int4 and int8 are both stores"),
            ("h2o + snapkv", "both selections"),
            ("k:int8", "the rest"),
            ("k:int8,k:int4", "both stores"),
            ("k:kivi,v:int4", "cannot store keys alone"),
            ("k:int8,w:int4", "w:int4"),
            ("h2o:budget=0", "from 1"),
            ("h2o:budget=many", "whole number"),
            ("h2o:size=3", "budget, sinks, recent"),
            ("h2o:budget=3,budget=4", "budget"),
            ("window:budget=4,sinks=8", "9 is the least"),
            ("snapkv:budget=32,window=32", "33 is the least"),
            ("kivi:bits=5", "2, 3, 4 or 8"),
            ("int4:bits=3", "no option"),
            ("mixed:keys=4432,values=444", "as many digits"),
            ("mixed:keys=45,values=44", "2, 3, 4, 8 or h"),
            ("h2o:budget", "budget"),
            ("kvmerger + int4", "none is named"),
            ("minicache + h2o", "two layers"),
            ("minicache + kivi", "two layers"),
            ("minicache:from=101", "0 to 100"),
            ("ems + kvmerger", "both mergings"),
            ("h2o:budget=0%", "share"),
            ("h2o:budget=10%,recent=20%", "less than the budget"),
        ] {
            let error = Spec::parse(text).err().unwrap_or_else(|| panic!("{text:?} was read")).to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn cards_are_whole_and_names_their_own() {
        let cards = registry::cards();
        let names =
            [registry::store_names(), registry::selection_names(), registry::merging_names(), registry::codec_names()]
                .concat();
        assert_eq!(cards.len(), names.len());
        for (card, name) in cards.into_iter().zip(names) {
            assert_eq!(card.problems(), Vec::<String>::new(), "{name}");
            assert_eq!((card.name, card.room), (name, "cache"));
        }
    }
}
