//! Reversible changes that make data easier to predict.

pub mod arm64;
pub mod calls;
pub mod columns;
pub mod lines;
pub mod records;
pub mod words;
