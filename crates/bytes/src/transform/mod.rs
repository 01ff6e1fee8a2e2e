//! Reversible changes that make data easier to predict.

pub mod words;
