//! All methods that shrink the cache, by name.

use crate::merging::{KvMerger, Merging, MiniCache};
use crate::selection::{CompressKv, Ems, ExpectedAttention, H2o, Random, Razor, Selection, SnapKv, TreeKv, Window};
use crate::store::{Cskv, Float, Gear, Kivi, Mikv, Mixed, Saq, Store, TokenInt, ZipCache};
use crate::{Error, disk};
use brevity_measure::MethodCard;
use std::sync::Arc;

/// Reads a method's options.
type Read<T> = fn(&str) -> Result<Arc<T>, Error>;

const STORES: [(&str, Read<dyn Store>); 13] = [
    ("f32", |text| plain("f32", text, Float::F32)),
    ("f16", |text| plain("f16", text, Float::F16)),
    ("int8", |text| plain("int8", text, TokenInt { bits: 8 })),
    ("int4", |text| plain("int4", text, TokenInt { bits: 4 })),
    ("int3", |text| plain("int3", text, TokenInt { bits: 3 })),
    ("int2", |text| plain("int2", text, TokenInt { bits: 2 })),
    ("kivi", |text| Ok(Arc::new(Kivi::read(text)?))),
    ("gear", |text| Ok(Arc::new(Gear::read(text)?))),
    ("cskv", |text| Ok(Arc::new(Cskv::read(text)?))),
    ("saq", |text| Ok(Arc::new(Saq::read(text)?))),
    ("mikv", |text| Ok(Arc::new(Mikv::read(text)?))),
    ("zipcache", |text| Ok(Arc::new(ZipCache::read(text)?))),
    ("mixed", |text| Ok(Arc::new(Mixed::read(text)?))),
];

const SELECTIONS: [(&str, Read<dyn Selection>); 9] = [
    ("window", |text| Ok(Arc::new(Window::read(text)?))),
    ("random", |text| Ok(Arc::new(Random::read(text)?))),
    ("h2o", |text| Ok(Arc::new(H2o::read(text)?))),
    ("snapkv", |text| Ok(Arc::new(SnapKv::read(text)?))),
    ("expected", |text| Ok(Arc::new(ExpectedAttention::read(text)?))),
    ("treekv", |text| Ok(Arc::new(TreeKv::read(text)?))),
    ("ems", |text| Ok(Arc::new(Ems::read(text)?))),
    ("compresskv", |text| Ok(Arc::new(CompressKv::read(text)?))),
    ("razor", |text| Ok(Arc::new(Razor::read(text)?))),
];

const MERGINGS: [(&str, Read<dyn Merging>); 2] = [
    ("kvmerger", |text| Ok(Arc::new(KvMerger::read(text)?))),
    ("minicache", |text| Ok(Arc::new(MiniCache::read(text)?))),
];

/// A store without options.
fn plain(name: &'static str, text: &str, store: impl Store + 'static) -> Result<Arc<dyn Store>, Error> {
    crate::options::Options::read(name, "none", text)?.done()?;
    Ok(Arc::new(store))
}

/// The store of that name with these options; `None` if there is none.
///
/// # Errors
/// If an option is wrong.
pub fn store(name: &str, options: &str) -> Option<Result<Arc<dyn Store>, Error>> {
    STORES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, read)| read(options))
}

/// The selection of that name with these options; `None` if there is none.
///
/// # Errors
/// If an option is wrong.
pub fn selection(name: &str, options: &str) -> Option<Result<Arc<dyn Selection>, Error>> {
    SELECTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, read)| read(options))
}

/// The merging of that name with these options; `None` if there is none.
///
/// # Errors
/// If an option is wrong.
pub fn merging(name: &str, options: &str) -> Option<Result<Arc<dyn Merging>, Error>> {
    MERGINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, read)| read(options))
}

/// The names of all mergings.
pub fn merging_names() -> Vec<&'static str> {
    MERGINGS.iter().map(|(name, _)| *name).collect()
}

/// The names of all stores.
pub fn store_names() -> Vec<&'static str> {
    STORES.iter().map(|(name, _)| *name).collect()
}

/// The names of all selections.
pub fn selection_names() -> Vec<&'static str> {
    SELECTIONS.iter().map(|(name, _)| *name).collect()
}

/// The names of all codecs for the disk.
pub fn codec_names() -> Vec<&'static str> {
    disk::codecs().map(|codec| codec.card().name).to_vec()
}

/// The cards of all methods: stores, selections, mergings, codecs.
pub fn cards() -> Vec<&'static MethodCard> {
    let stores = STORES.iter().filter_map(|(_, read)| read("").ok()).map(|store| store.card());
    let selections = SELECTIONS.iter().filter_map(|(_, read)| read("").ok()).map(|selection| selection.card());
    let mergings = MERGINGS.iter().filter_map(|(_, read)| read("").ok()).map(|merging| merging.card());
    let codecs = disk::codecs().map(|codec| codec.card());
    stores.chain(selections).chain(mergings).chain(codecs).collect()
}
