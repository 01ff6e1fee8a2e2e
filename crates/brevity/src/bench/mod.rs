//! Benches that a user can run: speed of a model, and the frontier of methods and grids, and llama.cpp beside both.

pub mod bandwidth;
pub mod beside;
pub mod bytes;
pub mod cache;
mod cast;
pub mod document;
pub mod llama_quantize;
pub mod matrices;
pub mod peer;
pub mod residual;
pub mod retrieval;
pub mod speed;
pub mod weights;

use brevity_measure::Frontier;
use brevity_measure::plot::Plot;

/// The frontier as an SVG picture.
fn picture(model: &str, frontier: &Frontier) -> String {
    Plot::frontier(format!("{model}: bits stored against bits lost"), frontier).to_svg()
}
