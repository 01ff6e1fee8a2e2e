use super::axis::Axis;
use super::{Svg, colour, coordinate, escape, rounded, shorten, text_width};
use crate::frontier::Frontier;

/// A point of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Half the length of its error bar: one standard error of `y`.
    pub error: Option<f64>,
    /// A few characters beside it, drawn where they cover nothing.
    pub label: Option<String>,
}

/// Points that belong together: one colour, one marker, one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points, in any order; the line runs by rising x.
    pub marks: Vec<Mark>,
    /// Dashed and hollow: a peer, a baseline.
    pub faint: bool,
}

/// A plot of series over two axes.
#[derive(Debug, Clone)]
pub struct Plot {
    title: String,
    x_label: String,
    y_label: String,
    log_x: bool,
    log_y: bool,
    floor: Option<(f64, String)>,
    series: Vec<Series>,
}

const TOP: f64 = 52.0;
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 56.0;
const PLOT_WIDTH: f64 = 620.0;
const LEAST_HEIGHT: f64 = 380.0;
const ENTRY: f64 = 22.0;

impl Plot {
    /// An empty plot with linear axes.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        let (title, x_label, y_label) = (title.into(), x_label.into(), y_label.into());
        Self { title, x_label, y_label, log_x: false, log_y: false, floor: None, series: Vec::new() }
    }

    /// One series for every method of a frontier: bits per weight across, bits lost per token up, logarithmic upwards.
    pub fn frontier(title: impl Into<String>, frontier: &Frontier) -> Self {
        let mut plot = Self::new(title, "bits per weight", "loss (bits per token)").log_y(true);
        for method in frontier.methods() {
            let points = frontier.points().iter().filter(|p| p.method == method);
            let marks =
                points.map(|p| Mark { x: p.rate, y: p.loss, error: p.loss_error, label: p.label.clone() }).collect();
            plot.series.push(Series { name: method.to_owned(), marks, faint: false });
        }
        plot
    }

    /// Labels of the axes.
    #[must_use]
    pub fn labels(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        (self.x_label, self.y_label) = (x.into(), y.into());
        self
    }

    /// Logarithmic x axis.
    #[must_use]
    pub fn log_x(mut self, log: bool) -> Self {
        self.log_x = log;
        self
    }

    /// Logarithmic y axis. Values of 0 and below cannot be shown on it; a line under the legend counts them.
    #[must_use]
    pub fn log_y(mut self, log: bool) -> Self {
        self.log_y = log;
        self
    }

    /// A horizontal line below which nothing is measured.
    #[must_use]
    pub fn floor(mut self, y: f64, name: impl Into<String>) -> Self {
        self.floor = Some((y, name.into()));
        self
    }

    /// Draws these methods dashed and hollow.
    #[must_use]
    pub fn faint(mut self, names: &[&str]) -> Self {
        for series in &mut self.series {
            series.faint |= names.contains(&series.name.as_str());
        }
        self
    }

    /// Adds a series.
    pub fn add(&mut self, series: Series) {
        self.series.push(series);
    }

    /// The document.
    pub fn to_svg(&self) -> String {
        let names: Vec<String> = self.series.iter().map(|s| shorten(&s.name, 30)).collect();
        let floor_name = self.floor.as_ref().map(|f| shorten(&f.1, 30));
        let legend = names.iter().chain(&floor_name).map(|n| text_width(n, 13)).fold(60.0, f64::max) + 40.0;
        let entries = names.len() + usize::from(floor_name.is_some()) + 1;
        let plot_height = (entries as f64 * ENTRY).max(LEAST_HEIGHT);
        let (right, bottom) = (LEFT + PLOT_WIDTH, TOP + plot_height);
        let width = (right + 20.0 + legend + 12.0).max(text_width(&self.title, 17) + 48.0);
        let mut svg = Svg::new(width, bottom + BOTTOM, &self.title);
        let marks = || self.series.iter().flat_map(|s| &s.marks);
        let ends = |m: &Mark| [Some(m.y), m.error.map(|e| m.y + e), m.error.map(|e| m.y - e)];
        let floor = self.floor.as_ref().map(|f| f.0);
        let x = Axis::new(marks().map(|m| m.x), self.log_x, (LEFT, right));
        let y = Axis::new(marks().flat_map(ends).flatten().chain(floor), self.log_y, (bottom, TOP));
        self.frame(&mut svg, &x, &y, (right, bottom));
        let hidden = self.draw_series(&mut svg, &x, &y, (right, bottom));
        if let Some(at) = floor.and_then(|f| y.pixel(f)) {
            svg.add(&format!(
                "<line class=\"a\" stroke-dasharray=\"2 4\" x1=\"{LEFT}\" y1=\"{0}\" x2=\"{right}\" y2=\"{0}\"/>",
                coordinate(at)
            ));
        }
        self.legend(&mut svg, &names, floor_name.as_deref(), hidden, right + 20.0);
        svg.finish()
    }

    fn frame(&self, svg: &mut Svg, x: &Axis, y: &Axis, (right, bottom): (f64, f64)) {
        svg.text((24.0, 32.0), 17, "t", "start", &self.title);
        for (value, label) in y.ticks(6) {
            if let Some(at) = y.pixel(value) {
                svg.line("g", (LEFT, at), (right, at));
                svg.text((LEFT - 8.0, at + 4.0), 12, "m", "end", &label);
            }
        }
        for (value, label) in x.ticks(8) {
            if let Some(at) = x.pixel(value) {
                svg.line("g", (at, TOP), (at, bottom));
                svg.text((at, bottom + 18.0), 12, "m", "middle", &label);
            }
        }
        svg.line("a", (LEFT, bottom), (right, bottom));
        svg.text(((LEFT + right) / 2.0, bottom + 42.0), 13, "t", "middle", &self.x_label);
        let (at, label) = (coordinate((TOP + bottom) / 2.0), escape(&self.y_label));
        svg.add(&format!("<text transform=\"translate(20 {at}) rotate(-90)\" font-size=\"13\" class=\"t\" text-anchor=\"middle\">{label}</text>"));
    }

    /// Lines, error bars, markers and labels. Returns how many points the axes could not show.
    fn draw_series(&self, svg: &mut Svg, x: &Axis, y: &Axis, (right, bottom): (f64, f64)) -> usize {
        let mut hidden = 0;
        let mut taken: Vec<Area> = Vec::new();
        let mut wanted: Vec<((f64, f64), String, usize)> = Vec::new();
        for (i, series) in self.series.iter().enumerate() {
            let mut shown: Vec<(f64, f64, &Mark)> = Vec::new();
            for mark in &series.marks {
                match (x.pixel(mark.x), y.pixel(mark.y)) {
                    (Some(px), Some(py)) => shown.push((px, py, mark)),
                    _ => hidden += 1,
                }
            }
            shown.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let path: Vec<String> = shown.iter().map(|p| format!("{} {}", coordinate(p.0), coordinate(p.1))).collect();
            let dash = if series.faint { " stroke-dasharray=\"5 4\"" } else { "" };
            if path.len() > 1 {
                let c = colour(i);
                svg.add(&format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{c}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dash}/>", path.join(" ")));
            }
            taken.extend(shown.windows(2).flat_map(|w| along((w[0].0, w[0].1), (w[1].0, w[1].1))));
            for (px, py, mark) in shown {
                error_bar(svg, (px, py), mark, y, colour(i));
                let hint = format!(
                    "{}{}: {} → {}",
                    series.name,
                    mark.label.iter().map(|l| format!(" {l}")).collect::<String>(),
                    rounded(mark.x),
                    rounded(mark.y)
                );
                svg.add(&format!("<g>{}<title>{}</title></g>", marker(i, series.faint, (px, py)), escape(&hint)));
                taken.push(Area { left: px - 6.0, top: py - 6.0, right: px + 6.0, bottom: py + 6.0 });
                wanted.extend(mark.label.iter().map(|l| ((px, py), shorten(l, 16), i)));
            }
        }
        let frame = Area { left: LEFT, top: TOP, right, bottom };
        for (at, label, i) in wanted {
            if let Some((place, area)) = place(at, &label, &taken, &frame) {
                let (px, py, label) = (coordinate(place.0), coordinate(place.1), escape(&label));
                svg.add(&format!("<text x=\"{px}\" y=\"{py}\" font-size=\"11\" fill=\"{}\">{label}</text>", colour(i)));
                taken.push(area);
            }
        }
        hidden
    }

    fn legend(&self, svg: &mut Svg, names: &[String], floor: Option<&str>, hidden: usize, left: f64) {
        let mut at = TOP + 12.0;
        for (i, (name, series)) in names.iter().zip(&self.series).enumerate() {
            let (x1, x2, y, c) = (coordinate(left), coordinate(left + 24.0), coordinate(at - 4.0), colour(i));
            let dash = if series.faint { " stroke-dasharray=\"5 4\"" } else { "" };
            svg.add(&format!(
                "<line x1=\"{x1}\" y1=\"{y}\" x2=\"{x2}\" y2=\"{y}\" stroke=\"{c}\" stroke-width=\"2\"{dash}/>"
            ));
            svg.add(&marker(i, series.faint, (left + 12.0, at - 4.0)));
            svg.text((left + 32.0, at), 13, "t", "start", name);
            at += ENTRY;
        }
        if let Some(name) = floor {
            let (x1, x2, y) = (coordinate(left), coordinate(left + 24.0), coordinate(at - 4.0));
            svg.add(&format!(
                "<line class=\"a\" stroke-dasharray=\"2 4\" x1=\"{x1}\" y1=\"{y}\" x2=\"{x2}\" y2=\"{y}\"/>"
            ));
            svg.text((left + 32.0, at), 13, "m", "start", name);
            at += ENTRY;
        }
        if hidden > 0 {
            svg.text((left, at), 11, "m", "start", &format!("{hidden} off scale"));
        }
    }
}

fn error_bar(svg: &mut Svg, (px, py): (f64, f64), mark: &Mark, y: &Axis, c: &str) {
    let Some(error) = mark.error.filter(|e| e.is_finite() && *e > 0.0) else { return };
    let top = y.pixel(mark.y + error).unwrap_or(py);
    let bottom = y.pixel(mark.y - error).unwrap_or(y.start());
    if bottom - top > 1.0 {
        let [x, l, r, a, b] = [px, px - 4.0, px + 4.0, top, bottom].map(coordinate);
        svg.add(&format!(
            "<path d=\"M{x} {a}V{b}M{l} {a}H{r}M{l} {b}H{r}\" stroke=\"{c}\" stroke-width=\"1.2\" fill=\"none\"/>"
        ));
    }
}

/// Circle, square, diamond, triangle: by turns, hollow for faint series.
fn marker(index: usize, faint: bool, (x, y): (f64, f64)) -> String {
    let c = colour(index);
    let paint = match faint {
        true => format!("class=\"b\" stroke=\"{c}\" stroke-width=\"1.8\""),
        false => format!("class=\"h\" style=\"fill:{c}\" stroke-width=\"1\""),
    };
    let at = |dx: f64, dy: f64| format!("{} {}", coordinate(x + dx), coordinate(y + dy));
    match (index + index / 4) % 4 {
        0 => format!("<circle cx=\"{}\" cy=\"{}\" r=\"4.5\" {paint}/>", coordinate(x), coordinate(y)),
        1 => format!(
            "<path d=\"M{}H{}V{}H{}Z\" {paint}/>",
            at(-4.0, -4.0),
            coordinate(x + 4.0),
            coordinate(y + 4.0),
            coordinate(x - 4.0)
        ),
        2 => format!("<path d=\"M{}L{}L{}L{}Z\" {paint}/>", at(0.0, -5.5), at(5.5, 0.0), at(0.0, 5.5), at(-5.5, 0.0)),
        _ => format!("<path d=\"M{}L{}L{}Z\" {paint}/>", at(0.0, -5.5), at(5.0, 4.0), at(-5.0, 4.0)),
    }
}

#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn holds(&self, other: &Self) -> bool {
        self.left <= other.left && other.right <= self.right && self.top <= other.top && other.bottom <= self.bottom
    }
}

/// Small areas along a line, so that no label is drawn across it.
fn along(from: (f64, f64), to: (f64, f64)) -> impl Iterator<Item = Area> {
    let steps = ((to.0 - from.0).hypot(to.1 - from.1) / 6.0).ceil().max(1.0) as u32;
    (1..steps).map(move |i| {
        let t = f64::from(i) / f64::from(steps);
        let (x, y) = (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
        Area { left: x - 1.0, top: y - 1.0, right: x + 1.0, bottom: y + 1.0 }
    })
}

/// The first place around a point where its label covers nothing: baseline start and the area.
fn place((x, y): (f64, f64), label: &str, taken: &[Area], frame: &Area) -> Option<((f64, f64), Area)> {
    let w = text_width(label, 11);
    let places = [
        (8.0, -6.0),
        (8.0, 14.0),
        (-8.0 - w, -6.0),
        (-8.0 - w, 14.0),
        (-w / 2.0, -10.0),
        (-w / 2.0, 20.0),
        (10.0, 4.0),
    ];
    places.into_iter().find_map(|(dx, dy)| {
        let (left, base) = (x + dx, y + dy);
        let area = Area { left, top: base - 9.0, right: left + w, bottom: base + 3.0 };
        (frame.holds(&area) && !taken.iter().any(|t| t.meets(&area))).then_some(((left, base), area))
    })
}
