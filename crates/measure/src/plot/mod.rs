//! Pictures as SVG: the frontier of rate and loss, and where the bits went.
//!
//! The files carry their own colours for light and dark backgrounds (`prefers-color-scheme`), need no fonts and no
//! scripts, and show exact numbers on hover. The legend has a place of its own, so that it never covers a point.
//!
//! ```
//! use brevity_measure::{Frontier, Point, plot::Plot};
//! let frontier = Frontier::new([Point::new("rtn", 3.4, 0.31), Point::new("rtn", 4.5, 0.05).with_label("q4_k")])?;
//! let svg = Plot::frontier("nano", &frontier).log_y(true).to_svg();
//! assert!(svg.starts_with("<svg"));
//! # Ok::<(), brevity_measure::Error>(())
//! ```

mod axis;
mod bars;
mod heat;
mod scatter;

pub use bars::{Bar, Bars, Segment};
pub use heat::{Field, HeatMap};
pub use scatter::{Mark, Plot, Series};

use std::fmt::Write;

/// Colours that are told apart on white and on near-black, by the colour-blind too; markers differ as well.
const PALETTE: [&str; 10] =
    ["#3b7dd8", "#e0762f", "#2a9d74", "#c4478e", "#8a6fd1", "#b08a10", "#3fa0b5", "#d1495b", "#6b8e23", "#8c6d5a"];

const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\
.b{fill:#ffffff}.t{fill:#1f2328}.m{fill:#59636e}.g{stroke:#e4e7eb;stroke-width:1}.a{stroke:#8b949e;stroke-width:1}.h{stroke:#ffffff}.l{fill:#ffffff}\
@media(prefers-color-scheme:dark){.b{fill:#0d1117}.t{fill:#e6edf3}.m{fill:#9198a1}.g{stroke:#262c36}.a{stroke:#6e7681}.h{stroke:#0d1117}}";

/// The text of an SVG document under construction.
struct Svg {
    out: String,
}

impl Svg {
    fn new(width: f64, height: f64, title: &str) -> Self {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n<rect class=\"b\" width=\"{w}\" height=\"{h}\" rx=\"6\"/>\n",
            escape(title),
            w = coordinate(width),
            h = coordinate(height),
        );
        Self { out }
    }

    /// Appends an element as it is; texts in it are escaped by the caller.
    fn add(&mut self, element: &str) {
        self.out.push_str(element);
        self.out.push('\n');
    }

    /// Text of a class (`t` or `m`), anchored at `start`, `middle` or `end`.
    fn text(&mut self, (x, y): (f64, f64), size: u32, class: &str, anchor: &str, text: &str) {
        let (x, y, text) = (coordinate(x), coordinate(y), escape(text));
        self.add(&format!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(coordinate);
        self.add(&format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"));
    }

    fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

fn colour(index: usize) -> &'static str {
    PALETTE[index % PALETTE.len()]
}

/// A number as a hint shows it: five digits that count.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// A coordinate with a tenth of a pixel.
fn coordinate(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Text for XML: markup escaped, what XML forbids replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Pixels that a text takes at a font size, rounded up: no font is asked, so wide letters are assumed.
fn text_width(text: &str, size: u32) -> f64 {
    text.chars().map(|c| if c.is_ascii() { 0.6 } else { 1.0 }).sum::<f64>() * f64::from(size)
}

/// Cuts a text to so many characters.
fn shorten(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
