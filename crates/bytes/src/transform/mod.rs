//! Reversible changes that make data easier to predict.

pub mod calls;
pub mod records;
pub mod words;
