use super::axis::Axis;
use super::{Svg, colour, coordinate, escape, rounded, shorten, text_width};

/// A piece of a bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// What it is, which sets its colour: `attn_q`, `ffn_down`, …
    pub kind: String,
    /// Its length, ≥ 0.
    pub value: f64,
    /// A few characters inside of it, where they fit: the type, the bits per weight.
    pub note: String,
}

/// A horizontal bar of segments, end to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Name to its left: a layer.
    pub label: String,
    /// Its pieces.
    pub segments: Vec<Segment>,
}

/// Horizontal bars, one below the other: where the bits went, tensor by tensor, layer by layer.
#[derive(Debug, Clone)]
pub struct Bars {
    title: String,
    unit: String,
    bars: Vec<Bar>,
}

const ROW: f64 = 20.0;
const GAP: f64 = 5.0;
const WIDTH: f64 = 680.0;

impl Bars {
    /// No bars yet. The unit names the axis.
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { title: title.into(), unit: unit.into(), bars: Vec::new() }
    }

    /// Adds a bar below the others.
    pub fn add(&mut self, bar: Bar) {
        self.bars.push(bar);
    }

    /// The document.
    pub fn to_svg(&self) -> String {
        let kinds = self.kinds();
        let labels: Vec<String> = self.bars.iter().map(|b| shorten(&b.label, 28)).collect();
        let left = labels.iter().map(|l| text_width(l, 12)).fold(40.0, f64::max) + 24.0;
        let (entries, legend_height) = legend_places(&kinds, left + WIDTH);
        let top = 48.0 + legend_height + 12.0;
        let bottom = top + self.bars.len() as f64 * (ROW + GAP);
        let width = (left + WIDTH + 40.0).max(text_width(&self.title, 17) + 48.0);
        let most =
            self.bars.iter().map(|b| b.segments.iter().map(|s| length(s.value)).sum::<f64>()).fold(0.0, f64::max);
        let axis = Axis::from_zero(most, (left, left + WIDTH));
        let mut svg = Svg::new(width, bottom + 52.0, &self.title);
        svg.text((24.0, 32.0), 17, "t", "start", &self.title);
        for ((x, y), (i, kind)) in entries.into_iter().zip(kinds.iter().enumerate()) {
            let (px, py) = (coordinate(x), coordinate(y - 10.0));
            svg.add(&format!(
                "<rect x=\"{px}\" y=\"{py}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\"/>",
                colour(i)
            ));
            svg.text((x + 18.0, y), 12, "t", "start", &shorten(kind, 28));
        }
        for (value, label) in axis.ticks(8) {
            if let Some(at) = axis.pixel(value) {
                svg.line("g", (at, top - 4.0), (at, bottom));
                svg.text((at, bottom + 16.0), 12, "m", "middle", &label);
            }
        }
        svg.text((left + WIDTH / 2.0, bottom + 38.0), 13, "t", "middle", &self.unit);
        for (i, (bar, label)) in self.bars.iter().zip(&labels).enumerate() {
            let y = top + i as f64 * (ROW + GAP);
            svg.text((left - 8.0, y + 14.0), 12, "t", "end", label);
            self.draw(&mut svg, bar, &kinds, &axis, y);
        }
        svg.finish()
    }

    fn draw(&self, svg: &mut Svg, bar: &Bar, kinds: &[&str], axis: &Axis, y: f64) {
        let mut sum = 0.0;
        for segment in &bar.segments {
            let from = axis.pixel(sum).unwrap_or(axis.start());
            sum += length(segment.value);
            let to = axis.pixel(sum).unwrap_or(from);
            let c = colour(kinds.iter().position(|k| *k == segment.kind).unwrap_or(0));
            let [x, top, w] = [from, y, (to - from - 1.0).max(0.3)].map(coordinate);
            let hint =
                format!("{} {} {}: {} {}", bar.label, segment.kind, segment.note, rounded(segment.value), self.unit);
            svg.add(&format!("<rect x=\"{x}\" y=\"{top}\" width=\"{w}\" height=\"{ROW}\" rx=\"2\" fill=\"{c}\"><title>{}</title></rect>", escape(&hint)));
            if !segment.note.is_empty() && text_width(&segment.note, 11) + 6.0 < to - from {
                svg.text(((from + to) / 2.0, y + 14.0), 11, "l", "middle", &segment.note);
            }
        }
    }

    /// Kinds in the order of their first segments.
    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for segment in self.bars.iter().flat_map(|b| &b.segments) {
            if !kinds.contains(&segment.kind.as_str()) {
                kinds.push(&segment.kind);
            }
        }
        kinds
    }
}

/// What is not a length counts as none.
fn length(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

/// Entries of the legend in lines of the given width, and the height of all lines.
fn legend_places(kinds: &[&str], width: f64) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut y) = (24.0, 58.0);
    let mut places = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let entry = text_width(&shorten(kind, 28), 12) + 36.0;
        if x > 24.0 && x + entry > width {
            (x, y) = (24.0, y + 20.0);
        }
        places.push((x, y));
        x += entry;
    }
    (places, y - 48.0)
}
