//! What a compression did, as a table for people and as JSON for machines.

use super::goal::Goal;
use super::plan::{Plan, Planned};
use brevity_measure::bits::bits_per_weight;
use brevity_measure::table::{Cell, Column, Emphasis, Table};
use brevity_measure::{divergence, perplexity};
use brevity_parts::Activation;
use brevity_weights::fold::GroupReport;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the measurement found.
pub struct Loss {
    pub before: perplexity::Summary,
    pub after: perplexity::Summary,
    pub divergence: divergence::Summary,
    /// Mean divergence, in bits, that the measurement itself makes.
    pub floor: f64,
    pub windows: usize,
    pub activation: Activation,
}

/// What was done.
pub struct Report {
    pub model: String,
    /// The source was quantised itself; losses are relative to it.
    pub requantized: bool,
    pub output: PathBuf,
    pub goal: Goal,
    pub method: String,
    pub bits_before: f64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Rows where the method ended above round-to-nearest's error and kept that.
    pub rows_kept: usize,
    /// What the searches for folds found.
    pub groups: Vec<GroupReport>,
    pub plan: Plan,
    pub loss: Option<Loss>,
    pub seconds: f64,
    pub peak_rss_bytes: Option<u64>,
}

impl Report {
    /// One object with everything.
    pub fn json(&self) -> Value {
        let loss = self.loss.as_ref();
        json!({
            "model": self.model,
            "output": self.output,
            "method": self.method,
            "goal": self.goal.to_string(),
            "requantized": self.requantized,
            "bits_per_weight": self.plan.bits_per_weight(),
            "bits_per_weight_before": self.bits_before,
            "weights": self.plan.weights,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "rows_kept_rtn": self.rows_kept,
            "folds": self.groups.iter().map(group_json).collect::<Vec<_>>(),
            "tensor_bytes": self.plan.tensor_bytes,
            "kld_mean_bits": loss.map(|loss| loss.divergence.mean),
            "kld_se_bits": loss.map(|loss| loss.divergence.error()),
            "kld_median_bits": loss.map(|loss| loss.divergence.median),
            "kld_p99_bits": loss.map(|loss| loss.divergence.p99),
            "kld_p999_bits": loss.map(|loss| loss.divergence.p999),
            "kld_max_bits": loss.map(|loss| loss.divergence.max),
            "kld_floor_bits": loss.map(|loss| loss.floor),
            "top1_agreement": loss.map(|loss| loss.divergence.top1),
            "top1_se": loss.map(|loss| loss.divergence.top1_se),
            "bpb_before": loss.and_then(|loss| loss.before.bits_per_byte),
            "bpb_after": loss.and_then(|loss| loss.after.bits_per_byte),
            "perplexity_before": loss.map(|loss| loss.before.perplexity),
            "perplexity_after": loss.map(|loss| loss.after.perplexity),
            "tokens": loss.map(|loss| loss.divergence.tokens),
            "activations": loss.map(|loss| activation_name(loss.activation)),
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "next_tenth": self.plan.next.as_ref().map(|next| json!({"tensor_bytes": next.bytes, "loss_share": next.share})),
            "tensors": self.plan.tensors.iter().map(tensor_json).collect::<Vec<_>>(),
        })
    }

    /// Tables for a terminal.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.before_and_after(), types(&self.plan)];
        if let Some(loss) = &self.loss {
            tables.push(divergence_table(loss));
        }
        tables
    }

    fn before_and_after(&self) -> Table {
        let columns = ["", "original", "compressed", "ratio"].map(Column::new);
        let mut table = Table::new(columns).title(format!("{} → {}", self.model, self.output.display()));
        let ratio = |after: f64, before: f64| Cell::number(after / before, 3);
        table.row([
            Cell::text("file"),
            Cell::text(brevity_measure::bits::format_bytes(self.bytes_before)),
            Cell::text(brevity_measure::bits::format_bytes(self.bytes_after)),
            ratio(self.bytes_after as f64, self.bytes_before as f64),
        ]);
        let bits = self.plan.bits_per_weight();
        table.row([
            Cell::text("bits per weight"),
            Cell::number(self.bits_before, 3),
            Cell::number(bits, 3),
            ratio(bits, self.bits_before),
        ]);
        if let Some(loss) = &self.loss {
            let pair = |name: &str, before: f64, after: f64, digits| {
                [Cell::text(name), Cell::number(before, digits), Cell::number(after, digits), ratio(after, before)]
            };
            if let (Some(before), Some(after)) = (loss.before.bits_per_byte, loss.after.bits_per_byte) {
                table.row(pair("bits per byte", before, after, 4));
            }
            table.row(pair("perplexity", loss.before.perplexity, loss.after.perplexity, 3));
        }
        if self.requantized {
            table.note("the source is quantised already: it was dequantised and is the reference of all losses here");
        }
        table
    }

    /// What a tenth more bytes would buy.
    pub fn next(&self) -> Option<String> {
        let next = self.plan.next.as_ref()?;
        let bytes = brevity_measure::bits::format_bytes(next.bytes.saturating_sub(self.plan.tensor_bytes));
        let change = match &self.loss {
            Some(loss) => {
                let now = loss.divergence.mean;
                format!("about {:.4} bits lost a token in place of {now:.4}", next.share * now)
            }
            None => format!("about {:.0} % of the loss", 100.0 * next.share),
        };
        let tensors: Vec<String> = next.tensors.iter().map(|(name, level)| format!("{name} as {level}")).collect();
        Some(format!("10 % more bytes ({bytes}) would buy {change}: {}, ...", tensors.join(", ")))
    }

    /// The line that says it all.
    pub fn headline(&self) -> String {
        let size = format!(
            "{:.3} bits a weight, {:.1} % of the bytes",
            self.plan.bits_per_weight(),
            100.0 * self.bytes_after as f64 / self.bytes_before.max(1) as f64
        );
        let loss = self.loss.as_ref().map_or(String::new(), |loss| {
            format!(", at {:.4} ± {:.4} bits lost a token", loss.divergence.mean, loss.divergence.error())
        });
        let peak = self
            .peak_rss_bytes
            .map_or(String::new(), |bytes| format!(", {} of memory", brevity_measure::bits::format_bytes(bytes)));
        format!("{size}{loss} ({:.1} s{peak})", self.seconds)
    }
}

fn group_json(group: &GroupReport) -> Value {
    json!({
        "layer": group.layer,
        "place": format!("{:?}", group.place),
        "alpha": group.alpha,
        "error_before": group.before,
        "error_after": group.after,
    })
}

fn tensor_json(tensor: &Planned) -> Value {
    json!({
        "name": tensor.entry.name,
        "type": tensor.level.to_string(),
        "shape": [tensor.entry.rows, tensor.entry.cols],
        "bytes": tensor.bytes,
        "error": tensor.error,
        "expected_loss_bits": tensor.loss,
    })
}

/// How activations were represented, as the flag is written.
pub fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Int8 => "int8",
        Activation::F32 => "f32",
    }
}

/// Bytes and error by type.
fn types(plan: &Plan) -> Table {
    let columns = ["type", "tensors", "weights", "bytes", "share", "bits per weight", "worst error"].map(Column::new);
    let mut table = Table::new(columns);
    let mut by_type: BTreeMap<String, (u64, u64, u64, f64)> = BTreeMap::new();
    for tensor in &plan.tensors {
        let sum = by_type.entry(tensor.level.to_string()).or_default();
        sum.0 += 1;
        sum.1 += (tensor.entry.rows * tensor.entry.cols) as u64;
        sum.2 += tensor.bytes;
        sum.3 = sum.3.max(tensor.error);
    }
    for (name, (tensors, weights, bytes, error)) in by_type {
        table.row([
            Cell::text(name),
            Cell::Integer(tensors),
            Cell::Integer(weights),
            Cell::Bytes(bytes),
            Cell::number(100.0 * bytes as f64 / plan.tensor_bytes.max(1) as f64, 1),
            Cell::number(bits_per_weight(bytes, weights), 3),
            Cell::text(if error > 0.0 { format!("{error:.2e}") } else { "none".into() }),
        ]);
    }
    table.note("share in per cent of all bytes; error: energy of the error that a tensor's outputs see, over that of the outputs");
    table
}

/// The plan, tensor by tensor.
pub fn plan_table(plan: &Plan) -> Table {
    let columns = ["tensor", "shape", "from", "to", "bytes", "error", "expected loss"].map(Column::new);
    let mut table = Table::new(columns);
    for tensor in &plan.tensors {
        table.row([
            Cell::text(&tensor.entry.name),
            Cell::text(format!("{}×{}", tensor.entry.rows, tensor.entry.cols)),
            Cell::text(tensor.entry.type_name()),
            Cell::text(tensor.level.to_string()),
            Cell::Bytes(tensor.bytes),
            Cell::text(if tensor.error > 0.0 { format!("{:.2e}", tensor.error) } else { "none".into() }),
            Cell::or_empty(tensor.loss, |loss| Cell::number(1e3 * loss, 3)),
        ]);
    }
    table.rule();
    table.emphasised(
        Emphasis::Strong,
        [
            Cell::text("all"),
            Cell::text(format!("{:.3} bits per weight", plan.bits_per_weight())),
            Cell::Empty,
            Cell::Empty,
            Cell::Bytes(plan.tensor_bytes),
            Cell::Empty,
            Cell::or_empty(expected(plan), |loss| Cell::number(1e3 * loss, 3)),
        ],
    );
    table.note(
        "expected loss in thousandths of a bit a token, to first order; error: relative energy at the tensor's outputs",
    );
    table
}

/// Sum of the expected losses.
fn expected(plan: &Plan) -> Option<f64> {
    plan.tensors.iter().map(|tensor| tensor.loss).sum()
}

/// The plan as JSON.
pub fn plan_json(plan: &Plan, model: &str) -> Value {
    json!({
        "model": model,
        "dry_run": true,
        "expected_loss_bits": expected(plan),
        "bits_per_weight": plan.bits_per_weight(),
        "tensor_bytes": plan.tensor_bytes,
        "weights": plan.weights,
        "tensors": plan.tensors.iter().map(tensor_json).collect::<Vec<_>>(),
    })
}

fn divergence_table(loss: &Loss) -> Table {
    let d = &loss.divergence;
    let columns = ["divergence from the original", "bits a token"].map(Column::new);
    let title =
        format!("{} tokens in {} windows, activations {}", d.tokens, loss.windows, activation_name(loss.activation));
    let mut table = Table::new(columns).title(title);
    table.emphasised(Emphasis::Strong, [Cell::text("mean"), Cell::with_error(d.mean, d.error(), 4)]);
    for (name, value) in [("median", d.median), ("99 %", d.p99), ("99.9 %", d.p999), ("most", d.max)] {
        table.row([Cell::text(name), Cell::number(value, 4)]);
    }
    table.emphasised(Emphasis::Dim, [Cell::text("floor of this measurement"), Cell::number(loss.floor, 4)]);
    table.note(format!("same likeliest token: {:.2} ± {:.2} %", 100.0 * d.top1, 100.0 * d.top1_se));
    table
}
