//! The tensors that one weight becomes in a directory: names, types, shapes.

use super::format::{DirectoryFormat, is_plain};
use crate::compress::plan::Planned;
use anyhow::{Context, Result, bail};
use brevity_formats::TensorType;
use brevity_formats::grid::groups_per_row;
use brevity_formats::safetensors::TensorPlan;
use brevity_model::Architecture;
use brevity_parts::FieldPlan;
use brevity_parts::stored::{Descriptor, PartDescriptor};
use brevity_weights::Level;

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Numbers, outputs × inputs (or a vector).
    Plain,
    /// Numbers, inputs × outputs (GPT-2's linears).
    Transposed,
    /// A quantised weight in the tensors of the format.
    Quantized(DirectoryFormat),
}

/// One weight of the plan with its tensors in the directory.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    pub planned: &'a Planned,
    /// Name in Hugging Face checkpoints.
    pub name: String,
    pub layout: Layout,
    /// In the order in which they are written.
    pub tensors: Vec<TensorPlan>,
}

impl<'a> Item<'a> {
    /// Lays a weight out.
    ///
    /// # Errors
    /// If it has no name in Hugging Face checkpoints, or rows that the level does not hold.
    pub fn new(planned: &'a Planned, architecture: Architecture, format: DirectoryFormat) -> Result<Self> {
        let entry = &planned.entry;
        let name = entry.role.hf_name(architecture);
        let name = name.with_context(|| format!("{} has no place in Hugging Face's layout", entry.name))?;
        let layout = match is_plain(planned.level) {
            false => Layout::Quantized(format),
            true if entry.role.transposed_in_hf(architecture) => Layout::Transposed,
            true => Layout::Plain,
        };
        let tensors = tensors(planned, &name, layout)?;
        Ok(Self { planned, name, layout, tensors })
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        let bytes = |tensor: &TensorPlan| {
            tensor.shape.iter().product::<usize>() as u64 * tensor.ty.block_bytes() as u64 / tensor.ty.block() as u64
        };
        self.tensors.iter().map(bytes).sum()
    }

    /// What `brevity.json` says of it, when it is stored in parts.
    pub fn descriptor(&self) -> Option<Descriptor> {
        if let (Layout::Quantized(DirectoryFormat::Parts), Level::Sum(sum)) = (self.layout, self.planned.level) {
            return Some(sum.descriptor(self.planned.entry.rows, self.planned.entry.cols));
        }
        let part = match (self.layout, self.planned.level) {
            (Layout::Quantized(DirectoryFormat::Parts), Level::Integer { bits, group }) => {
                PartDescriptor::Grid { bits, group }
            }
            (Layout::Quantized(DirectoryFormat::Parts), Level::Type(ty)) => {
                PartDescriptor::Blocks { ty: ty.name().to_string() }
            }
            _ => return None,
        };
        let shape = (self.planned.entry.rows, self.planned.entry.cols);
        Some(Descriptor { shape, transform: None, parts: vec![part] })
    }
}

fn tensors(planned: &Planned, name: &str, layout: Layout) -> Result<Vec<TensorPlan>> {
    let (rows, cols) = (planned.entry.rows, planned.entry.cols);
    let tensor = |name: String, ty, shape: &[usize]| TensorPlan { name, shape: shape.to_vec(), ty };
    let format = match (layout, planned.level) {
        (Layout::Quantized(format), _) => format,
        (_, Level::Integer { .. } | Level::Sum(_)) => bail!("{name}: {} is no plain number", planned.level),
        (Layout::Transposed, Level::Type(ty)) => return Ok(vec![tensor(name.into(), ty, &[cols, rows])]),
        (_, Level::Type(ty)) if planned.entry.vector => return Ok(vec![tensor(name.into(), ty, &[rows])]),
        (_, Level::Type(ty)) => return Ok(vec![tensor(name.into(), ty, &[rows, cols])]),
    };
    let (bits, group) = match planned.level {
        Level::Integer { bits, group } => (usize::from(bits), group),
        Level::Sum(sum) => {
            let fields = sum.descriptor(rows, cols).fields()?;
            let tensor = |field: FieldPlan| tensor(format!("{name}.{}", field.name), field.ty, &field.shape);
            return Ok(fields.into_iter().map(tensor).collect());
        }
        Level::Type(ty) => {
            let row = ty.row_bytes(cols).with_context(|| format!("{name}: rows of {cols} weights as {}", ty.name()))?;
            return Ok(vec![tensor(format!("{name}.0.blocks"), TensorType::U8, &[rows, row])]);
        }
    };
    let (groups, stem) = (groups_per_row(cols, group), name.strip_suffix("weight").unwrap_or(name));
    let words = |codes: usize| (codes * bits).div_ceil(32);
    let bytes = |codes: usize| (codes * bits).div_ceil(8);
    let field = |field: &str, ty, shape: [usize; 2]| tensor(format!("{stem}{field}"), ty, &shape);
    let part = |field: &str, ty, shape: [usize; 2]| tensor(format!("{name}.0.{field}"), ty, &shape);
    use TensorType::{F16, I32, I64, U8};
    Ok(match format {
        DirectoryFormat::Gptq => vec![
            field("qweight", I32, [words(cols), rows]),
            field("qzeros", I32, [groups, words(rows)]),
            field("scales", F16, [groups, rows]),
            tensor(format!("{stem}g_idx"), I32, &[cols]),
        ],
        DirectoryFormat::Awq => vec![
            field("qweight", I32, [cols, words(rows)]),
            field("qzeros", I32, [groups, words(rows)]),
            field("scales", F16, [groups, rows]),
        ],
        DirectoryFormat::CompressedTensors => vec![
            field("weight_packed", I32, [rows, words(cols)]),
            field("weight_scale", F16, [rows, groups]),
            field("weight_zero_point", I32, [words(rows), groups]),
            tensor(format!("{stem}weight_shape"), I64, &[2]),
        ],
        DirectoryFormat::Parts => vec![
            part("codes", U8, [rows, bytes(cols)]),
            part("scales", F16, [rows, groups]),
            part("zeros", U8, [rows, bytes(groups)]),
        ],
    })
}
