//! The tensors of a matrix, known from its descriptor alone: what a writer plans before anything is compressed.

use crate::Error;
use crate::bit_rows::row_bytes;
use crate::stored::{Descriptor, PartDescriptor, index_bytes};
use brevity_formats::TensorType;
use brevity_formats::grid::groups_per_row;

/// A tensor of a part, without its bytes: `name` is `<part index>.<field>`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldPlan {
    pub name: String,
    pub ty: TensorType,
    pub shape: Vec<usize>,
}

impl FieldPlan {
    pub fn bytes(&self) -> u64 {
        let block = (self.ty.block_bytes() as u64, self.ty.block().max(1) as u64);
        self.shape.iter().map(|&length| length as u64).product::<u64>() * block.0 / block.1
    }
}

impl Descriptor {
    /// The tensors that a matrix of this description has, in the order of [`StoredMatrix::fields`](crate::StoredMatrix::fields).
    ///
    /// # Errors
    /// If a block type is unknown or does not hold such rows.
    pub fn fields(&self) -> Result<Vec<FieldPlan>, Error> {
        let mut all = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            for (name, ty, shape) in part.fields(self.shape.0, self.shape.1)? {
                all.push(FieldPlan { name: format!("{index}.{name}"), ty, shape });
            }
        }
        Ok(all)
    }

    /// Bytes of one part.
    ///
    /// # Errors
    /// As [`fields`](Self::fields).
    pub fn part_bytes(&self, part: &PartDescriptor) -> Result<u64, Error> {
        let plan = |(_, ty, shape)| FieldPlan { name: String::new(), ty, shape }.bytes();
        Ok(part.fields(self.shape.0, self.shape.1)?.into_iter().map(plan).sum())
    }
}

type FieldShape = (&'static str, TensorType, Vec<usize>);

impl PartDescriptor {
    fn fields(&self, rows: usize, cols: usize) -> Result<Vec<FieldShape>, Error> {
        use TensorType::{F16, U8, U16, U32};
        let known = |ty: &str| {
            let unknown = |_| Error::Descriptor { name: "parts".into(), what: format!("unknown type `{ty}`") };
            TensorType::parse(ty).map_err(unknown)
        };
        let packed = |codes, bits| vec![rows, row_bytes(codes, bits)];
        let index = if index_bytes(cols) == 2 { U16 } else { U32 };
        Ok(match self {
            PartDescriptor::Dense { ty } => vec![("weight", known(ty)?, vec![rows, cols])],
            PartDescriptor::Blocks { ty } => {
                let ty = known(ty)?;
                let row = ty.row_bytes(cols).ok_or(Error::Row { ty, cols })?;
                vec![("blocks", U8, vec![rows, row])]
            }
            PartDescriptor::Grid { bits, group } => {
                let groups = groups_per_row(cols, *group);
                vec![
                    ("codes", U8, packed(cols, *bits)),
                    ("scales", F16, vec![rows, groups]),
                    ("zeros", U8, packed(groups, *bits)),
                ]
            }
            PartDescriptor::Bilevel { bits, group, statistic_bits, tile } => {
                let groups = groups_per_row(cols, *group);
                vec![
                    ("codes", U8, packed(cols, *bits)),
                    ("scales", U8, packed(groups, *statistic_bits)),
                    ("zeros", U8, packed(groups, *statistic_bits)),
                    ("statistics", F16, vec![rows.div_ceil((*tile).max(1)), groups, 4]),
                ]
            }
            PartDescriptor::Columns { count } => {
                vec![("columns", index, vec![*count]), ("values", F16, vec![rows, *count])]
            }
            PartDescriptor::LowRank { rank } => {
                vec![("left", F16, vec![rows, *rank]), ("right", F16, vec![*rank, cols])]
            }
            PartDescriptor::Sparse { entries } => vec![
                ("offsets", U32, vec![rows + 1]),
                ("columns", index, vec![*entries]),
                ("values", F16, vec![*entries]),
            ],
            PartDescriptor::SignScale { rank, gain } => {
                let parts = [
                    ("signs", U8, vec![rows, cols.div_ceil(8)]),
                    ("left", F16, vec![rows, *rank]),
                    ("right", F16, vec![*rank, cols]),
                ];
                let gain = gain.then(|| ("gain", TensorType::F32, vec![1]));
                gain.into_iter().chain(parts).collect()
            }
        })
    }
}
