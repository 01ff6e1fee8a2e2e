//! Formats of directories, and what each can hold.

use crate::compress::goal::Goal;
use crate::compress::plan::{Plan, Planned};
use anyhow::{Result, bail};
use brevity_formats::TensorType;
use brevity_model::{Architecture, TensorKind};
use brevity_weights::Level;
use std::collections::BTreeSet;

/// A format of quantised linears in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryFormat {
    /// GPTQ, version 1.
    Gptq,
    /// AWQ, GEMM layout.
    Awq,
    /// compressed-tensors, pack-quantized.
    CompressedTensors,
    /// Brevity's own sums of parts.
    Parts,
}

use DirectoryFormat::*;

impl DirectoryFormat {
    /// Every format, the one that most programs read first.
    pub const ALL: [Self; 4] = [Gptq, Awq, CompressedTensors, Parts];

    /// The name that `--format` takes.
    pub fn name(self) -> &'static str {
        match self {
            Gptq => "gptq",
            Awq => "awq",
            CompressedTensors => "compressed-tensors",
            Parts => "parts",
        }
    }

    /// Reads `--format`; `None` is GGUF.
    ///
    /// # Errors
    /// If there is no such format, or it cannot hold what the goal asks for; the message lists those that can.
    pub fn parse(text: &str, goal: Goal) -> Result<Option<Self>> {
        let integers = matches!(goal, Goal::Grid(Level::Integer { .. }));
        let sum = matches!(goal, Goal::Grid(Level::Sum(_)));
        let format = Self::ALL.into_iter().find(|format| format.name() == text);
        match (text, format) {
            ("gguf", _) if integers => bail!(
                "--format gguf: GGUF has no integer grids\n  next: take a grid of its own (--grid q4_k), or --format gptq, \
                 awq, compressed-tensors or parts"
            ),
            (_, Some(Parts)) => Ok(Some(Parts)),
            ("gguf" | "gptq" | "compressed-tensors", _) if sum => {
                bail!("--format {text}: {goal} is a sum of parts, which no other program reads\n  next: --format parts")
            }
            ("gguf", _) => Ok(None),
            (_, Some(format)) if !integers => bail!(
                "--format {}: this format holds one integer grid, and {goal} is met with GGUF's types\n  next: --grid \
                 int4:128, or --format gguf or parts",
                format.name()
            ),
            (_, Some(format)) => Ok(Some(format)),
            _ => bail!("--format {text}: gguf, gptq, awq, compressed-tensors and parts are possible"),
        }
    }

    /// The format for a plan: the one asked for, or else GPTQ where it holds the plan and others read it, or parts.
    ///
    /// # Errors
    /// If the format asked for cannot hold the plan; the message says why and lists those that can.
    pub fn choose(asked: Option<Self>, plan: &Plan, architecture: Architecture) -> Result<Self> {
        let Some(asked) = asked else {
            let common = |level: Level| matches!(level, Level::Integer { group: 0 | 32 | 64 | 128, .. });
            let all_common = quantized(plan).all(|tensor| common(tensor.level));
            let natural = all_common && Gptq.refusal(plan, architecture).is_none();
            return Ok(if natural { Gptq } else { Parts });
        };
        match asked.refusal(plan, architecture) {
            None => Ok(asked),
            Some(why) => {
                let can = Self::ALL.into_iter().filter(|format| format.refusal(plan, architecture).is_none());
                let can: Vec<&str> = can.map(Self::name).collect();
                bail!("--format {}: {why}\n  next: --format {}", asked.name(), can.join(" or "))
            }
        }
    }

    /// Why this format cannot hold the plan.
    fn refusal(self, plan: &Plan, architecture: Architecture) -> Option<String> {
        if self == Parts {
            return None;
        }
        let levels: BTreeSet<String> = quantized(plan).map(|tensor| tensor.level.to_string()).collect();
        if levels.len() != 1 {
            let found = levels.into_iter().collect::<Vec<_>>().join(", ");
            return Some(format!("it holds one integer grid for all tensors, and the plan has {found}"));
        }
        if matches!(self, Awq | CompressedTensors) && architecture == Architecture::Gpt2 {
            return Some("its readers know no GPT-2 (whose linears are Conv1D)".into());
        }
        quantized(plan).find_map(|tensor| self.tensor_refusal(tensor))
    }

    fn tensor_refusal(self, tensor: &Planned) -> Option<String> {
        let entry = &tensor.entry;
        let Level::Integer { bits, group } = tensor.level else {
            return Some(format!("it holds integer grids, not {}", tensor.level));
        };
        let widths: &[u8] = match self {
            Gptq => &[2, 3, 4, 8],
            Awq => &[4],
            _ => &[4, 8],
        };
        if !widths.contains(&bits) {
            return Some(format!("it has no codes of {bits} bits, only of {widths:?}"));
        }
        if entry.role.kind == TensorKind::TokenEmbedding {
            return Some("it cannot quantise the embedding".into());
        }
        let (rows, cols) = (entry.rows, entry.cols);
        match self {
            Gptq if rows % 32 != 0 || cols % 32 != 0 => {
                Some(format!("{} is {rows}×{cols}, and its readers need multiples of 32", entry.name))
            }
            Awq if rows % 8 != 0 => Some(format!("{} has {rows} outputs, and it packs eight in a word", entry.name)),
            Awq | CompressedTensors if group > 0 && cols % group != 0 => {
                Some(format!("{} has rows of {cols} weights, which groups of {group} do not divide", entry.name))
            }
            _ => None,
        }
    }
}

/// Whether a level is plain numbers.
pub fn is_plain(level: Level) -> bool {
    matches!(level, Level::Type(TensorType::F32 | TensorType::F16 | TensorType::BF16))
}

fn quantized(plan: &Plan) -> impl Iterator<Item = &Planned> {
    plan.tensors.iter().filter(|tensor| !is_plain(tensor.level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_fit_goals() {
        let int4 = Goal::Grid(Level::Integer { bits: 4, group: 128 });
        let bits = Goal::Bits(4.25);
        let parse = DirectoryFormat::parse;
        assert_eq!(parse("gptq", int4).unwrap(), Some(Gptq));
        assert_eq!(parse("parts", bits).unwrap(), Some(Parts));
        assert_eq!(parse("gguf", bits).unwrap(), None);
        for (text, goal, says) in [
            ("gguf", int4, "gptq"),
            ("gptq", bits, "parts"),
            ("compressed-tensors", bits, "gguf"),
            ("zip", int4, "gptq"),
        ] {
            let error = parse(text, goal).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
