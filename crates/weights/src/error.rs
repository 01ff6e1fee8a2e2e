/// What can go wrong while parameters are shrunk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{text}` is no grid: write int2..int8 with an optional group size (int4:128), a GGUF type ({types}), or a sum of parts (spqr:3:16, int8:columns:6, rank:250, stack:8)"
    )]
    UnknownLevel { text: String, types: String },
    #[error("no method is called `{name}`; there are: {known}")]
    UnknownMethod { name: String, known: String },
    #[error("rows of {cols} weights cannot be stored as {level}")]
    DoesNotFit { level: String, cols: usize },
    #[error("tensor `{tensor}`, row {row}, column {col}: the weight is {value}; only finite weights can be quantised")]
    NotFinite { tensor: String, row: usize, col: usize, value: f32 },
    #[error("method {method} cannot store {level}; it can: {can}")]
    Unsupported { method: String, level: String, can: String },
    #[error("`{pattern}` is no regular expression: {why}")]
    Pattern { pattern: String, why: String },
    #[error("{budget} is too little: the smallest possible is {smallest}")]
    Impossible { budget: String, smallest: String },
    #[error("statistics of {found} columns do not fit a matrix of {expected}")]
    StatisticsShape { found: usize, expected: usize },
    #[error(transparent)]
    Format(#[from] brevity_formats::Error),
    #[error(transparent)]
    Parts(#[from] brevity_parts::Error),
    #[error("the Hessian is not finite at row {row}, column {column}: the calibration run overflowed")]
    HessianNotFinite { row: usize, column: usize },
    #[error("the eigenvectors of a {size} × {size} matrix were not found; it is not finite")]
    NoConvergence { size: usize },
    #[error(transparent)]
    Model(#[from] brevity_model::Error),
    #[error("{method} cannot be folded into this model: {why}")]
    NoFold { method: &'static str, why: String },
    #[error("`{text}`: before a `+` stand methods that change the model beforehand ({folds}), and `{name}` is none")]
    Chain { text: String, name: String, folds: String },
}
