use super::*;
use crate::{Frontier, Point};
use proptest::prelude::*;

/// A start tag's name and attributes.
type Element = (String, Vec<(String, String)>);

/// Checks that a document is well-formed XML and returns its elements. Knows what these pictures use: elements,
/// attributes, text, the five predefined entities.
fn elements(xml: &str) -> Result<Vec<Element>, String> {
    let mut open: Vec<String> = Vec::new();
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        text_is_legal(&rest[..at])?;
        let end = at + rest[at..].find('>').ok_or("a tag does not end")?;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let expected = open.pop().ok_or("an end without a start")?;
            if expected != name {
                return Err(format!("</{name}> closes <{expected}>"));
            }
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("{name:?} is not a name"));
        }
        let mut list: Vec<(String, String)> = Vec::new();
        while !attributes.trim().is_empty() {
            let (key, after) = attributes.trim_start().split_once("=\"").ok_or(format!("attribute {attributes:?}"))?;
            let (value, after) = after.split_once('"').ok_or(format!("value of {key}"))?;
            text_is_legal(value)?;
            if list.iter().any(|(k, _)| k == key) {
                return Err(format!("{key} twice in <{name}>"));
            }
            list.push((key.to_owned(), value.to_owned()));
            attributes = after;
        }
        found.push((name.to_owned(), list));
        if !closed {
            open.push(name.to_owned());
        }
    }
    text_is_legal(rest)?;
    if open.is_empty() { Ok(found) } else { Err(format!("{open:?} stay open")) }
}

fn text_is_legal(text: &str) -> Result<(), String> {
    if text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{ffff}' || c == '\u{fffe}') {
        return Err(format!("a forbidden character in {text:?}"));
    }
    let entity = |after: &str| ["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|e| after.starts_with(e));
    match text.split('&').skip(1).all(entity) {
        true => Ok(()),
        false => Err(format!("a bare & in {text:?}")),
    }
}

fn number(element: &Element, key: &str) -> f64 {
    element.1.iter().find(|a| a.0 == key).and_then(|a| a.1.parse().ok()).unwrap_or(f64::NAN)
}

#[test]
fn the_checker_finds_faults() {
    for bad in
        ["<a>", "<a></b>", "</a>", "<a b=\"1\" b=\"2\"/>", "<a>&x</a>", "<a b=1/>", "<a", "<a>\u{1}</a>", "< a/>"]
    {
        assert!(elements(bad).is_err(), "{bad}");
    }
    assert_eq!(elements("<a x=\"1\"><b/>&amp;</a>").unwrap().len(), 2);
}

fn sample(methods: usize) -> Plot {
    let mut points = Vec::new();
    for m in 0..methods {
        for (i, bits) in [2.6, 3.4, 4.5, 5.5, 6.6, 8.5].into_iter().enumerate() {
            let loss = 4f64.powf(2.2 - bits) * 2f64.powi(-(m as i32));
            let point = Point::new(format!("method number {m} <&> \"{m}\""), bits, loss);
            points.push(point.with_error(loss * 0.05).with_label(format!("q{i}_k")));
        }
    }
    Plot::frontier("Rate & loss", &Frontier::new(points).unwrap())
        .floor(1e-5, "floor")
        .faint(&["method number 1 <&> \"1\""])
}

#[test]
fn frontiers_are_well_formed_and_complete() {
    for methods in [0, 1, 3, 14, 40] {
        let svg = sample(methods).to_svg();
        let found = elements(&svg).unwrap();
        let (polylines, texts) =
            (found.iter().filter(|e| e.0 == "polyline").count(), found.iter().filter(|e| e.0 == "text").count());
        assert_eq!(polylines, methods);
        assert!(texts > methods);
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}

#[test]
fn the_legend_covers_nothing() {
    let found = elements(&sample(40).to_svg()).unwrap();
    let (width, height) = (number(&found[0], "width"), number(&found[0], "height"));
    let names: Vec<&Element> =
        found.iter().filter(|e| e.0 == "text" && number(e, "font-size") == 13.0 && number(e, "x") > 720.0).collect();
    assert_eq!(names.len(), 41);
    for pair in names.windows(2) {
        assert!(number(pair[1], "y") - number(pair[0], "y") >= 16.0);
    }
    let longest = text_width("method number 10 <&> \"10\"", 13);
    assert!(names.iter().all(|e| number(e, "x") + longest <= width && number(e, "y") < height));
    // All points lie left of the legend.
    assert!(found.iter().filter(|e| e.0 == "circle").all(|e| number(e, "cx") < number(names[0], "x")));
}

#[test]
fn what_a_logarithm_cannot_show_is_counted() {
    let frontier =
        Frontier::new([Point::new("m", 4.0, 0.1), Point::new("m", 8.0, 0.0), Point::new("m", 9.0, -0.1)]).unwrap();
    assert!(Plot::frontier("t", &frontier).to_svg().contains("2 off scale"));
    assert!(!Plot::frontier("t", &frontier).log_y(false).to_svg().contains("off scale"));
}

fn bars() -> Bars {
    let mut bars = Bars::new("Where the bits went", "MB");
    for layer in 0..12 {
        let kinds = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        let segments = kinds.iter().enumerate().map(|(i, kind)| Segment {
            kind: (*kind).to_owned(),
            value: 0.1 + 0.2 * ((i + layer) % 5) as f64,
            note: "q4_k".to_owned(),
        });
        bars.add(Bar { label: format!("blk.{layer}"), segments: segments.collect() });
    }
    bars
}

#[test]
fn bars_have_the_lengths_of_their_values() {
    let found = elements(&bars().to_svg()).unwrap();
    let rects: Vec<&Element> = found.iter().filter(|e| e.0 == "rect" && number(e, "height") == 20.0).collect();
    assert_eq!(rects.len(), 84);
    let scale = (number(rects[4], "width") + 1.0) / 0.9;
    for (i, rect) in rects.iter().take(7).enumerate() {
        assert!((number(rect, "width") + 1.0 - scale * (0.1 + 0.2 * (i % 5) as f64)).abs() < 0.5);
    }
}

proptest! {
    #[test]
    fn anything_is_drawn(name in ".{0,40}", title in ".{0,80}", xs in prop::collection::vec(prop::num::f64::ANY, 0..8), ys in prop::collection::vec(prop::num::f64::ANY, 8), log in any::<bool>()) {
        let mut plot = Plot::new(&*title, &*name, &*name).log_x(log).log_y(!log).floor(ys[0], &*name);
        let marks: Vec<Mark> = xs.iter().zip(&ys).map(|(&x, &y)| Mark { x, y, error: Some(y), label: Some(name.clone()) }).collect();
        plot.add(Series { name: name.clone(), marks, faint: log });
        elements(&plot.to_svg()).map_err(TestCaseError::fail)?;
        let mut bars = Bars::new(&*title, &*name);
        let segments = ys.iter().map(|&value| Segment { kind: name.clone(), value, note: name.clone() }).collect();
        bars.add(Bar { label: title, segments });
        elements(&bars.to_svg()).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn heat_maps_are_well_formed_and_colour_by_value() {
    let labels = |name: &str, count| (0..count).map(|index| format!("{name} <{index}>")).collect::<Vec<_>>();
    let mut map = HeatMap::new("Bits & layers", "bits", labels("layer", 3), labels("ffn", 2));
    for (row, column, value) in [(0, 0, 2.0), (1, 1, 8.0), (2, 0, 2.0), (9, 0, 4.0)] {
        map.add(Field { row, column, value, note: "q2_k".into(), hint: "a < b".into() });
    }
    let found = elements(&map.to_svg()).unwrap();
    let fields: Vec<&Element> = found.iter().filter(|e| e.0 == "rect" && number(e, "height") == 20.0).collect();
    assert_eq!(fields.len(), 3, "one row is outside of the table");
    let colour = |index: usize| fields[index].1.iter().find(|(key, _)| key == "fill").unwrap().1.clone();
    assert_eq!(colour(0), colour(2));
    assert_ne!(colour(0), colour(1));
    assert!(number(fields[1], "y") > number(fields[0], "y") && number(fields[1], "x") > number(fields[0], "x"));
    for values in [vec![], vec![f64::NAN], vec![3.0, 3.0]] {
        let mut map = HeatMap::new("", "", labels("", 1), labels("", 1));
        values.into_iter().for_each(|value| {
            map.add(Field { row: 0, column: 0, value, note: String::new(), hint: String::new() });
        });
        elements(&map.to_svg()).unwrap();
    }
}

#[test]
fn hints_show_five_digits_that_count() {
    assert_eq!([1.0192446e-3, 16.550_339_017, 10_192_446.0, -0.0].map(rounded), [1.0192e-3, 16.55, 10_192_000.0, -0.0]);
    assert!(rounded(f64::NAN).is_nan() && rounded(f64::INFINITY).is_infinite());
}
