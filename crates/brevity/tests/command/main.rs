//! The command as people and scripts use it: the real binary on the embedded model and on tiny random ones.

mod allocate;
mod archives;
mod bad_models;
mod bench;
mod budgets;
mod caches;
mod calibrated;
mod generate;
mod grids;
mod help;
mod hub;
mod imatrix;
mod interrupted;
mod measure;
mod report;
mod same_bits;
mod support;
mod tiny;
