//! The report as one HTML page: the tables, and a picture of where the bits went.

use super::picture::heat_map;
use super::plan::Plan;
use super::report::Report;
use anyhow::{Context, Result, bail};
use brevity_measure::bits::bits_per_weight;
use brevity_measure::plot::{Bar, Bars, Segment};
use brevity_measure::table::{Style, Table};
use std::fmt::Write as _;
use std::path::Path;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;\
background:#fff;color:#222}pre{font:13px/1.35 ui-monospace,monospace;overflow-x:auto}svg{max-width:100%;height:auto}\
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}}";

/// Writes the page.
///
/// # Errors
/// If the file exists (without `force`) or cannot be written.
pub fn write(report: &Report, path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        bail!("{} exists already\n  next: overwrite it with --force", path.display());
    }
    std::fs::write(path, page(report)).with_context(|| format!("writing {}", path.display()))
}

fn page(report: &Report) -> String {
    let title = escape(&format!("{} → {}", report.model, report.output.display()));
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1><p><strong>{}</strong></p>",
        escape(&report.headline())
    );
    for table in report.tables() {
        let _ = write!(html, "<pre>{}</pre>", escape(&plain(&table)));
    }
    let _ = write!(html, "<h2>Where the bits went</h2>{}{}", heat_map(&report.plan).to_svg(), picture(&report.plan));
    if let Some(next) = report.next() {
        let _ = write!(html, "<p>{}</p>", escape(&next));
    }
    let _ =
        write!(html, "<h2>Every tensor</h2><pre>{}</pre>", escape(&plain(&super::report::plan_table(&report.plan))));
    html.push_str("</body></html>\n");
    html
}

fn plain(table: &Table) -> String {
    table.render(&Style::plain())
}

/// Bytes of each tensor, a bar a layer.
pub fn picture(plan: &Plan) -> String {
    let mut bars = Bars::new("Bytes by layer and tensor", "kB");
    let mut current: Option<(String, Vec<Segment>)> = None;
    for tensor in &plan.tensors {
        let label = tensor.entry.role.layer.map_or_else(|| "outside".to_string(), |layer| format!("layer {layer}"));
        let weights = (tensor.entry.rows * tensor.entry.cols) as u64;
        let segment = Segment {
            kind: tensor.entry.role.kind.gguf_stem().to_string(),
            value: tensor.bytes as f64 / 1e3,
            note: format!("{:.1}", bits_per_weight(tensor.bytes, weights)),
        };
        match &mut current {
            Some((open, segments)) if *open == label => segments.push(segment),
            _ => {
                if let Some((label, segments)) = current.replace((label, vec![segment])) {
                    bars.add(Bar { label, segments });
                }
            }
        }
    }
    if let Some((label, segments)) = current {
        bars.add(Bar { label, segments });
    }
    bars.to_svg()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
