//! Levels that are sums of parts: what `spqr`, `llm-int8`, `lord`, `bitstack` and `online-rotation` store.
//!
//! | written | what it is | bits a weight |
//! |---|---|---|
//! | `spqr:B:G[:P]` | [`Sum::Outliers`]: B-bit codes in groups of G with 3-bit scales and zero points, and the P of 10,000 most sensitive weights as f16 | B + 6/G + 64/(16·G) + 32·P/10,000 |
//! | `int8:columns:P` | [`Sum::Columns`]: int8 rows, and the P of 1,000 largest columns as f16 | 8 + 16·P/1,000 |
//! | `rank:P` | [`Sum::LowRank`]: factors of rank P/1,000 of the smaller side | 16·rank·(1/rows + 1/cols) |
//! | `stack:N[:R]` | [`Sum::Stack`]: N blocks of signs times magnitudes of rank R (else 1 for each 256 of the smaller side, at most 16) | N·(1 + 16·R·(1/rows + 1/cols)) |
//! | `turned:q3_k`, `turned:int3:128` | [`Sum::Turned`]: blocks or a grid, and random signs with a Hadamard transform before the inputs | those of the grid |
//!
//! The number of weights, columns or blocks follows from the level and the shape alone, so a file can be planned before
//! anything is compressed.

use crate::Level;
use brevity_formats::TensorType;
use brevity_kernels::hadamard;
use brevity_parts::Transform;
use brevity_parts::stored::{Descriptor, PartDescriptor};
use std::fmt;

/// A level that is a sum of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sum {
    /// A grid whose scales are codes too, and the `outliers` of 10,000 most sensitive weights.
    Outliers { bits: u8, group: u16, outliers: u16 },
    /// Eight bits a weight with one scale a row, and the `columns` of 1,000 largest columns as f16.
    Columns { columns: u16 },
    /// Two factors, their rank `rank` of 1,000 of the smaller side.
    LowRank { rank: u16 },
    /// `blocks` sign matrices with magnitudes of rank `rank` (0: one for each 256 of the smaller side, at most 16).
    Stack { blocks: u8, rank: u8 },
    /// One plain grid whose inputs are turned while the model runs.
    Turned(Codes),
}

/// What is behind a turn: codes of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codes {
    Type(TensorType),
    Integer { bits: u8, group: usize },
}

impl Codes {
    /// As a level of its own.
    pub fn level(self) -> Level {
        match self {
            Codes::Type(ty) => Level::Type(ty),
            Codes::Integer { bits, group } => Level::Integer { bits, group },
        }
    }

    /// The codes of a level; none where it is plain numbers or a sum.
    pub fn of(level: Level) -> Option<Self> {
        match level {
            _ if level.is_plain() => None,
            Level::Type(ty) => Some(Codes::Type(ty)),
            Level::Integer { bits, group } => Some(Codes::Integer { bits, group }),
            Level::Sum(_) => None,
        }
    }

    fn part(self) -> PartDescriptor {
        match self {
            Codes::Type(ty) => PartDescriptor::Blocks { ty: ty.name().to_string() },
            Codes::Integer { bits, group } => PartDescriptor::Grid { bits, group },
        }
    }
}

/// Seed of the signs of every turn: inputs that several matrices read are turned once.
const TURN_SEED: u32 = 0x5157;

/// The transform of inputs of `cols`: signs, and Hadamard transforms of the largest power of two that divides them.
pub(crate) fn turn(cols: usize) -> Transform {
    Transform::Hadamard { block: hadamard::block(cols), seed: Some(TURN_SEED) }
}

/// Bits of SpQR's second-level codes.
pub(crate) const STATISTIC_BITS: u8 = 3;
/// Rows that share SpQR's second-level numbers.
pub(crate) const TILE: usize = 16;

impl Sum {
    /// Reads what the table above shows.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(codes) = text.strip_prefix("turned:") {
            return Codes::of(Level::parse(codes).ok()?).map(Sum::Turned);
        }
        let mut words = text.split(':');
        let kind = words.next()?;
        let rest: Vec<&str> = words.collect();
        let number = |text: &str| text.parse::<u16>().ok();
        let small = |text: &str| text.parse::<u8>().ok();
        let found = match (kind, rest.as_slice()) {
            ("spqr", [bits, group]) => Sum::Outliers { bits: small(bits)?, group: number(group)?, outliers: 100 },
            ("spqr", [bits, group, outliers]) => {
                Sum::Outliers { bits: small(bits)?, group: number(group)?, outliers: number(outliers)? }
            }
            ("int8", ["columns", columns]) => Sum::Columns { columns: number(columns)? },
            ("rank", [rank]) => Sum::LowRank { rank: number(rank)? },
            ("stack", [blocks]) => Sum::Stack { blocks: small(blocks)?, rank: 0 },
            ("stack", [blocks, rank]) => Sum::Stack { blocks: small(blocks)?, rank: small(rank)? },
            _ => return None,
        };
        found.is_possible().then_some(found)
    }

    fn is_possible(self) -> bool {
        match self {
            Sum::Outliers { bits, group, outliers } => {
                (2..=7).contains(&bits) && group > 0 && group.is_multiple_of(16) && outliers <= 2000
            }
            Sum::Columns { columns } => columns <= 1000,
            Sum::LowRank { rank } => (1..=1000).contains(&rank),
            Sum::Stack { blocks, .. } => blocks > 0,
            Sum::Turned(_) => true,
        }
    }

    /// Weights kept apart.
    pub(crate) fn outliers(self, rows: usize, cols: usize) -> usize {
        match self {
            Sum::Outliers { outliers, .. } => rows * cols * usize::from(outliers) / 10_000,
            _ => 0,
        }
    }

    /// Columns kept apart.
    pub(crate) fn columns(self, cols: usize) -> usize {
        match self {
            Sum::Columns { columns } => (cols * usize::from(columns)).div_ceil(1000),
            _ => 0,
        }
    }

    /// Rank of factors or magnitudes.
    pub(crate) fn rank(self, rows: usize, cols: usize) -> usize {
        let side = rows.min(cols);
        match self {
            Sum::LowRank { rank } => (side * usize::from(rank) / 1000).max(1),
            Sum::Stack { rank: 0, .. } => (side / 256).clamp(1, 16),
            Sum::Stack { rank, .. } => usize::from(rank).min(side),
            _ => 0,
        }
    }

    /// What a matrix of this level says of itself: parts and their sizes.
    pub fn descriptor(self, rows: usize, cols: usize) -> Descriptor {
        let parts = match self {
            Sum::Outliers { bits, group, .. } => {
                let grid = PartDescriptor::Bilevel {
                    bits,
                    group: usize::from(group),
                    statistic_bits: STATISTIC_BITS,
                    tile: TILE,
                };
                let entries = self.outliers(rows, cols);
                let sparse = (entries > 0).then_some(PartDescriptor::Sparse { entries });
                std::iter::once(grid).chain(sparse).collect()
            }
            Sum::Columns { .. } => {
                let count = self.columns(cols);
                let columns = (count > 0).then_some(PartDescriptor::Columns { count });
                std::iter::once(PartDescriptor::Grid { bits: 8, group: 0 }).chain(columns).collect()
            }
            Sum::LowRank { .. } => vec![PartDescriptor::LowRank { rank: self.rank(rows, cols) }],
            Sum::Stack { blocks, .. } => {
                let rank = self.rank(rows, cols);
                vec![PartDescriptor::SignScale { rank, gain: true }; usize::from(blocks)]
            }
            Sum::Turned(codes) => vec![codes.part()],
        };
        let transform = matches!(self, Sum::Turned(_)).then(|| turn(cols));
        Descriptor { shape: (rows, cols), transform, parts }
    }

    /// Bytes of a matrix, everything counted.
    pub(crate) fn bytes(self, rows: usize, cols: usize) -> Option<u64> {
        let fields = self.descriptor(rows, cols).fields().ok()?;
        Some(fields.iter().map(brevity_parts::FieldPlan::bytes).sum())
    }

    /// The level itself where rows of `cols` fit, or else the nearest; 16 bits where a sum makes no sense (matrices of one
    /// column).
    pub(crate) fn fit(self, cols: usize) -> Level {
        match self {
            _ if cols < 2 => Level::Type(TensorType::F16),
            Sum::Turned(codes) => {
                let level = codes.level().fit(cols);
                Codes::of(level).map_or(level, |codes| Level::Sum(Sum::Turned(codes)))
            }
            _ => Level::Sum(self),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Sum::Outliers { bits, group, outliers } => write!(f, "spqr:{bits}:{group}:{outliers}"),
            Sum::Columns { columns } => write!(f, "int8:columns:{columns}"),
            Sum::LowRank { rank } => write!(f, "rank:{rank}"),
            Sum::Stack { blocks, rank: 0 } => write!(f, "stack:{blocks}"),
            Sum::Stack { blocks, rank } => write!(f, "stack:{blocks}:{rank}"),
            Sum::Turned(codes) => write!(f, "turned:{}", codes.level()),
        }
    }
}
