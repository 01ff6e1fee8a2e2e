//! Levels: a row each.

use crate::error::{Error, Result};
use crate::lz::Effort;

/// The default level.
pub const DEFAULT: u8 = 5;

/// What a level does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// Repeated strings, Huffman coded.
    Lz(Effort),
    /// Block sorting.
    Sort,
    /// Context mixing, with a table of at most `2^table_bits` bytes.
    Mix {
        /// log₂ of the largest table.
        table_bits: u32,
        /// Banks of sixteen contexts, with sixteen times the networks that learn beside.
        banks: u8,
        /// Lanes of large blocks: two take less time, one less space.
        lanes: usize,
    },
}

/// A level: its number, its pipeline, and the bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// 1 to 9.
    pub number: u8,
    /// What it does.
    pub pipeline: Pipeline,
    /// Largest block.
    pub block: usize,
}

const MIB: usize = 1 << 20;

/// All levels.
pub const LEVELS: [Level; 9] = [
    Level { number: 1, pipeline: Pipeline::Lz(Effort::Fast { bits: 16 }), block: 4 * MIB },
    Level { number: 2, pipeline: Pipeline::Lz(Effort::Best), block: 16 * MIB },
    Level { number: 3, pipeline: Pipeline::Sort, block: 128 * MIB },
    Level { number: 4, pipeline: Pipeline::Mix { table_bits: 27, banks: 1, lanes: 2 }, block: 128 * MIB },
    Level { number: 5, pipeline: Pipeline::Mix { table_bits: 30, banks: 1, lanes: 2 }, block: 128 * MIB },
    Level { number: 6, pipeline: Pipeline::Mix { table_bits: 30, banks: 4, lanes: 2 }, block: 128 * MIB },
    Level { number: 7, pipeline: Pipeline::Mix { table_bits: 31, banks: 4, lanes: 1 }, block: 128 * MIB },
    Level { number: 8, pipeline: Pipeline::Mix { table_bits: 30, banks: 0x16, lanes: 1 }, block: 128 * MIB },
    Level { number: 9, pipeline: Pipeline::Mix { table_bits: 31, banks: 0x16, lanes: 1 }, block: 128 * MIB },
];

impl Level {
    /// The level of this number.
    ///
    /// # Errors
    /// [`Error::Level`] if there is none.
    pub fn of(number: u8) -> Result<Self> {
        let known = || LEVELS.map(|level| level.number.to_string()).join(", ");
        LEVELS
            .into_iter()
            .find(|level| level.number == number)
            .ok_or_else(|| Error::Level { level: number, known: known() })
    }

    /// Bytes of memory that packing one block of `length` bytes takes, more or less.
    pub fn memory(&self, length: usize) -> u64 {
        let length = length.min(self.block) as u64;
        match self.pipeline {
            Pipeline::Lz(effort) => 2 * length + crate::lz::memory(length as usize, effort),
            Pipeline::Sort => 14 * length,
            Pipeline::Mix { table_bits, banks, .. } => {
                let bits = crate::codec::table_bits(length as usize, table_bits, banks);
                3 * length + crate::cm::memory(bits, 22, banks)
            }
        }
    }
}
