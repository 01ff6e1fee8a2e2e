use super::{Svg, coordinate, escape, shorten, text_width};

/// One field of a [`HeatMap`].
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its row from above.
    pub row: usize,
    /// Its column from the left.
    pub column: usize,
    /// What sets its colour.
    pub value: f64,
    /// A few characters inside of it.
    pub note: String,
    /// What is said on hover.
    pub hint: String,
}

/// A table of coloured fields: bits per weight, layer by tensor. Colours go from the least value to the greatest.
#[derive(Debug, Clone)]
pub struct HeatMap {
    title: String,
    unit: String,
    rows: Vec<String>,
    columns: Vec<String>,
    fields: Vec<Field>,
}

const WIDTH: f64 = 74.0;
const HEIGHT: f64 = 22.0;
/// Little and much, told apart by the colour-blind too.
const ENDS: [(f64, f64, f64); 3] = [(42.0, 72.0, 118.0), (61.0, 140.0, 140.0), (196.0, 113.0, 24.0)];

impl HeatMap {
    /// An empty table of these rows and columns; the unit is that of the values.
    pub fn new(title: impl Into<String>, unit: impl Into<String>, rows: Vec<String>, columns: Vec<String>) -> Self {
        Self { title: title.into(), unit: unit.into(), rows, columns, fields: Vec::new() }
    }

    /// Fills a field; one outside of the table is left out.
    pub fn add(&mut self, field: Field) {
        if field.row < self.rows.len() && field.column < self.columns.len() {
            self.fields.push(field);
        }
    }

    /// The document.
    pub fn to_svg(&self) -> String {
        let labels: Vec<String> = self.rows.iter().map(|label| shorten(label, 24)).collect();
        let left = labels.iter().map(|label| text_width(label, 12)).fold(40.0, f64::max) + 32.0;
        let (top, across) = (74.0, self.columns.len() as f64 * WIDTH);
        let bottom = top + self.rows.len() as f64 * HEIGHT;
        let width = (left + across + 24.0).max(text_width(&self.title, 17) + 48.0).max(left + 300.0);
        let mut svg = Svg::new(width, bottom + 56.0, &self.title);
        svg.text((24.0, 32.0), 17, "t", "start", &self.title);
        for (index, column) in self.columns.iter().enumerate() {
            let x = left + (index as f64 + 0.5) * WIDTH;
            svg.text((x, top - 10.0), 11, "m", "middle", &shorten(column, 12));
        }
        for (index, label) in labels.iter().enumerate() {
            svg.text((left - 8.0, top + index as f64 * HEIGHT + 15.0), 12, "t", "end", label);
        }
        let (least, most) = self.range();
        for field in &self.fields {
            let (x, y) = (left + field.column as f64 * WIDTH, top + field.row as f64 * HEIGHT);
            self.draw(&mut svg, (x, y), field, shade(field.value, least, most));
        }
        self.scale(&mut svg, (left, bottom + 18.0), (least, most));
        svg.finish()
    }

    fn draw(&self, svg: &mut Svg, (x, y): (f64, f64), field: &Field, colour: String) {
        let [px, py, w, h] = [x + 1.0, y + 1.0, WIDTH - 2.0, HEIGHT - 2.0].map(coordinate);
        svg.add(&format!(
            "<rect x=\"{px}\" y=\"{py}\" width=\"{w}\" height=\"{h}\" rx=\"2\" fill=\"{colour}\"><title>{}</title></rect>",
            escape(&field.hint)
        ));
        if text_width(&field.note, 11) + 4.0 < WIDTH {
            svg.text((x + WIDTH / 2.0, y + 15.0), 11, "l", "middle", &field.note);
        }
    }

    /// What the colours mean.
    fn scale(&self, svg: &mut Svg, (x, y): (f64, f64), (least, most): (f64, f64)) {
        const STEPS: usize = 24;
        for step in 0..STEPS {
            let value = least + (most - least) * (step as f64 + 0.5) / STEPS as f64;
            let [px, py] = [x + 40.0 + 5.0 * step as f64, y].map(coordinate);
            let colour = shade(value, least, most);
            svg.add(&format!("<rect x=\"{px}\" y=\"{py}\" width=\"5.2\" height=\"12\" fill=\"{colour}\"/>"));
        }
        let end = x + 40.0 + 5.0 * STEPS as f64;
        svg.text((x + 34.0, y + 11.0), 12, "m", "end", &format!("{least:.1}"));
        svg.text((end + 6.0, y + 11.0), 12, "m", "start", &format!("{most:.1} {}", self.unit));
    }

    fn range(&self) -> (f64, f64) {
        let values = || self.fields.iter().map(|field| field.value).filter(|value| value.is_finite());
        match values().next() {
            Some(first) => (values().fold(first, f64::min), values().fold(first, f64::max)),
            None => (0.0, 1.0),
        }
    }
}

/// The colour of a value between two others.
fn shade(value: f64, least: f64, most: f64) -> String {
    let share = if most > least { ((value - least) / (most - least)).clamp(0.0, 1.0) } else { 0.5 };
    let share = if share.is_nan() { 0.0 } else { share };
    let (from, to, at) = match share < 0.5 {
        true => (ENDS[0], ENDS[1], 2.0 * share),
        false => (ENDS[1], ENDS[2], 2.0 * share - 1.0),
    };
    let mix = |a: f64, b: f64| (a + (b - a) * at).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}
