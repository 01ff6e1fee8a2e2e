//! The ways an importance matrix can lie.

use crate::gguf::GgufError;
use crate::types::TensorType;

/// One lie in an imatrix file, or one request that it cannot fulfil. Positions are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ImatrixError {
    #[error("the file could not be read to its end")]
    Unreadable,

    #[error(transparent)]
    Gguf(#[from] GgufError),

    #[error("not an imatrix: general.type is {found}, expected \"imatrix\"")]
    NotImatrix { found: String },

    #[error("the imatrix has no layers")]
    Empty,

    #[error("`{key}` is {found}, expected {expected}")]
    Key { key: &'static str, found: String, expected: &'static str },

    #[error("tensor `{tensor}` is {found}; sums and counts are F32")]
    Type { tensor: String, found: TensorType },

    #[error("layer `{name}` has {found}, but no tensor `{name}.{missing}`")]
    Partner { name: String, found: &'static str, missing: &'static str },

    #[error("layer `{name}`: expert {index} is said to have seen {value} tokens")]
    Count { name: String, index: usize, value: f32 },

    #[error(
        "layer `{name}` has {values} sums for {counts} counts: neither may be none, and each count covers as many sums"
    )]
    Counts { name: String, values: usize, counts: usize },

    #[error("layer `{name}`: sum {index} of squares is {value}")]
    Value { name: String, index: usize, value: f32 },

    #[error(
        "neither a GGUF file nor a legacy imatrix: it would hold {found} layers in {left} bytes, which hold at most {most}"
    )]
    Entries { found: i32, left: u64, most: u64 },

    #[error("{what} of layer {entry} at byte {at} needs {needed} bytes, but the file ends {left} bytes later")]
    Truncated { what: &'static str, entry: usize, at: u64, needed: u64, left: u64 },

    #[error("the name of layer {entry} at byte {at} is said to have {found} bytes")]
    NameLength { entry: usize, at: u64, found: i32 },

    #[error("the name of layer {entry} at byte {at} is not UTF-8")]
    NameUtf8 { entry: usize, at: u64 },

    #[error("layer `{name}` appears twice")]
    Duplicate { name: String },

    #[error("layer `{name}` is said to hold {found} values")]
    Values { name: String, found: i32 },

    #[error("{what} is {found}, which cannot be negative")]
    Negative { what: String, found: i32 },

    #[error("the file goes on for {left} bytes after its end at byte {at}")]
    Trailing { at: u64, left: u64 },

    #[error("{what} is {found}; a legacy imatrix holds at most {limit}: write GGUF")]
    LegacyLimit { what: String, found: u64, limit: u64 },

    #[error("no layer `{name}` among the {entries} of the imatrix: was it made for another model?")]
    NoEntry { name: String, entries: usize },

    #[error(
        "layer `{name}` has {found} values in the imatrix, where {experts} × {cols} are needed: was it made for another model?"
    )]
    Columns { name: String, found: usize, cols: usize, experts: usize },
}
