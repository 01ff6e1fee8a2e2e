//! Everything that can be wrong with a cache, one variant per way.

/// What went wrong, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was named.
    #[error(
        "the cache {text:?} names no method; a store (int4), a selection (h2o:budget=512) or both (h2o:budget=512 + int4) do"
    )]
    Empty {
        /// What was read.
        text: String,
    },
    /// No method has that name.
    #[error(
        "cache {text:?}: there is no method {name:?}; stores: {stores}; selections: {selections}; mergings: {mergings}"
    )]
    Unknown {
        /// What was read.
        text: String,
        /// The name in it.
        name: String,
        /// The stores that exist.
        stores: String,
        /// The selections that exist.
        selections: String,
        /// The mergings that exist.
        mergings: String,
    },
    /// Precisions of another model's heads.
    #[error(
        "{method}: {found} heads are named, and the model has {heads} of keys and values in each of {layers} layers"
    )]
    Places {
        /// The method.
        method: &'static str,
        /// Heads that it names.
        found: usize,
        /// Layers of the model.
        layers: usize,
        /// Key-value heads in each.
        heads: usize,
    },
    /// Two methods for one thing.
    #[error("cache {text:?}: {first} and {second} are both {what}s, and a cache has one")]
    Twice {
        /// What was read.
        text: String,
        /// "store", "selection" or "merging".
        what: &'static str,
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// A merging without a selection.
    #[error(
        "cache {text:?}: {merging} merges what a selection drops, and none is named; write h2o:budget=512 + {merging}"
    )]
    NothingDropped {
        /// What was read.
        text: String,
        /// The merging.
        merging: &'static str,
    },
    /// A composition that changes tokens after they came, for sequences that share them.
    #[error(
        "{spec} changes tokens after they came, so sequences cannot share them; a store that leaves them as they are can (int4)"
    )]
    Unshared {
        /// The composition.
        spec: String,
    },
    /// A merging of layers with something that treats each layer by itself.
    #[error(
        "cache {text:?}: {merging} holds tokens of two layers once, and {with} would change them in each; a store that stays as it is goes with it (int4)"
    )]
    Across {
        /// What was read.
        text: String,
        /// The merging.
        merging: &'static str,
        /// A selection, or a store that recodes blocks.
        with: String,
    },
    /// A store that cannot hold keys or values alone.
    #[error("cache {text:?}: {name} cannot store {side} alone; these can: {possible}")]
    Side {
        /// What was read.
        text: String,
        /// The store.
        name: String,
        /// "keys" or "values".
        side: &'static str,
        /// Stores that can.
        possible: String,
    },
    /// `k:` without `v:`, or the other way round.
    #[error(
        "cache {text:?}: {found} says how to store {side}, and nothing says how to store the rest; write k:int8,v:int4"
    )]
    Half {
        /// What was read.
        text: String,
        /// The half that is there.
        found: String,
        /// "keys" or "values".
        side: &'static str,
    },
    /// An option that the method does not have.
    #[error("{method} has no option {key:?}; it has: {known}")]
    Option {
        /// The method.
        method: &'static str,
        /// The option.
        key: String,
        /// Those it has.
        known: &'static str,
    },
    /// An option's value cannot be read or is out of range.
    #[error("{method}: {key}={found}, expected {expected}")]
    Value {
        /// The method.
        method: &'static str,
        /// The option.
        key: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A budget that the tokens kept in any case exceed.
    #[error("{method}: a budget of {budget} tokens does not hold {sinks} sinks and {recent} recent tokens; {} is the least", sinks + recent + 1)]
    Budget {
        /// The method.
        method: &'static str,
        /// Tokens.
        budget: usize,
        /// First tokens that stay.
        sinks: usize,
        /// Last tokens that stay.
        recent: usize,
    },
    /// A longer cache than the model has positions.
    #[error("a cache of {wanted} tokens is longer than the model's context of {context}; ask for {context} at most")]
    Context {
        /// Tokens wanted.
        wanted: usize,
        /// The model's limit.
        context: usize,
    },
    /// A key or a value is NaN or infinite.
    #[error("layer {layer}, position {position}: a {side} holds {value}; the cache is as it was before")]
    NotFinite {
        /// The block.
        layer: usize,
        /// The token.
        position: usize,
        /// "key" or "value".
        side: &'static str,
        /// The number.
        value: f32,
    },
    /// Dropped tokens cannot come back.
    #[error(
        "the cache has dropped tokens before position {dropped}, so it cannot go back to {wanted}; it can be emptied"
    )]
    Dropped {
        /// Positions up to here may be gone.
        dropped: usize,
        /// Where to go back to.
        wanted: usize,
    },
    /// A file that is no context's cache.
    #[error("this is no cache of a context: it begins with {found:02x?}, expected \"brevi.kv\"")]
    NoCacheFile {
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// A file of another version.
    #[error("version {found} of a cache's file, expected {expected}; save it again")]
    Version {
        /// The file's.
        found: u32,
        /// This program's.
        expected: u32,
    },
    /// A file that is not as it was written.
    #[error(
        "the cache's file is damaged or cut off: the hash at the end of its {bytes} bytes is not that of what is before"
    )]
    Damaged {
        /// Bytes of the file.
        bytes: usize,
    },
    /// A file of another model.
    #[error("the cache's file was made with another {what}; it means something to the model that wrote it alone")]
    Foreign {
        /// "model", "tokenizer" or "shape of the cache".
        what: &'static str,
    },
    /// Bytes that end too early.
    #[error("offset {offset}: {wanted} bytes expected, {found} are left")]
    Short {
        /// Where.
        offset: usize,
        /// Bytes wanted.
        wanted: usize,
        /// Bytes left.
        found: usize,
    },
    /// Bytes that mean nothing.
    #[error("offset {offset}: {what}")]
    Content {
        /// Where.
        offset: usize,
        /// What was found.
        what: &'static str,
    },
    /// No codec has that name.
    #[error("there is no codec {name:?}; there are: {known}")]
    Codec {
        /// What was asked for.
        name: String,
        /// The codecs that exist.
        known: String,
    },
    /// A selection that must see the prompt's queries, for a cache from a file.
    #[error(
        "{spec} chooses tokens by the prompt's queries, and a cache from a file has none; a store alone, or window, can take it"
    )]
    Unobserved {
        /// The composition.
        spec: String,
    },
    /// A method that has not seen the model that it is for.
    #[error("{spec} must see the model before it can keep its tokens: it has to be learnt first")]
    Unlearnt {
        /// The composition.
        spec: String,
    },
    /// A store that orders tokens by importance, in a model whose layers see a window of positions.
    #[error(
        "{spec} orders tokens by importance, and this model has layers that see the latest positions alone; int4 or kivi can be used"
    )]
    Sliding {
        /// The composition.
        spec: String,
    },
    /// A layer, a position or a length that the cache does not have.
    #[error("{what}: found {found}, expected {expected}")]
    Argument {
        /// Which.
        what: &'static str,
        /// What was given.
        found: usize,
        /// What fits.
        expected: String,
    },
}

impl From<Error> for brevity_model::Error {
    fn from(error: Error) -> Self {
        brevity_model::Error::Cache(Box::new(error))
    }
}
