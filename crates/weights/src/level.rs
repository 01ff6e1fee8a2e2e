//! One way to store a matrix: a GGUF block type, or integer codes with a group size.

use crate::{Error, Sum};
use brevity_formats::TensorType;
use brevity_formats::grid::groups_per_row;
use std::fmt;

/// A level that a matrix can be stored at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// A GGUF type: numbers (f16, bf16, f32) or blocks (q4_k, iq4_nl, …).
    Type(TensorType),
    /// Integer codes of 2–8 bits; one f16 scale and one zero point per `group` weights of a row (0: the whole row).
    Integer { bits: u8, group: usize },
    /// A sum of parts, which only `--format parts` holds.
    Sum(Sum),
}

/// Group size where none is written.
pub const DEFAULT_GROUP: usize = 128;

impl Level {
    /// Reads `int3:128`, `int4` (group 128), `int8:row`, or a GGUF type by name.
    ///
    /// # Errors
    /// If it is neither, or a type that cannot be written.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownLevel { text: text.to_string(), types: writable_names() };
        let lower = text.trim().to_ascii_lowercase();
        if let Some(sum) = Sum::parse(&lower) {
            return Ok(Level::Sum(sum));
        }
        if let Some(rest) = lower.strip_prefix("int") {
            let (bits, group) = rest.split_once(':').unwrap_or((rest, ""));
            let bits = bits.parse().ok().filter(|bits| (2..=8).contains(bits)).ok_or_else(unknown)?;
            let group = match group {
                "" => DEFAULT_GROUP,
                "row" | "channel" => 0,
                group => group.parse().ok().filter(|group| *group >= 32 && *group % 32 == 0).ok_or_else(unknown)?,
            };
            return Ok(Level::Integer { bits, group });
        }
        let ty = TensorType::parse(&lower).map_err(|_| unknown())?;
        if ty.writable() { Ok(Level::Type(ty)) } else { Err(unknown()) }
    }

    /// Bytes of a matrix, all scales and zero points counted; `None` where rows of `cols` do not fit.
    pub fn bytes(self, rows: usize, cols: usize) -> Option<u64> {
        match self {
            Level::Type(ty) => ty.row_bytes(cols).map(|row| (row * rows) as u64),
            Level::Integer { bits, group } => {
                let groups = groups_per_row(cols, group);
                let packed = |codes: usize| (codes * usize::from(bits)).div_ceil(8);
                Some((rows * (packed(cols) + 2 * groups + packed(groups))) as u64)
            }
            Level::Sum(sum) => sum.bytes(rows, cols),
        }
    }

    /// The level itself where rows of `cols` fit, or else the nearest that holds them.
    ///
    /// k-quants need multiples of 256: the fallbacks are blocks of 32 with at least as many bits, and 16-bit numbers
    /// where even 32 does not divide the row.
    pub fn fit(self, cols: usize) -> Level {
        let mut level = match self {
            Level::Sum(sum) => return sum.fit(cols),
            level => level,
        };
        while let Level::Type(ty) = level
            && ty.row_bytes(cols).is_none()
        {
            level = Level::Type(fallback(ty));
        }
        level
    }

    /// Whether it is plain numbers: no grid, no parts.
    pub fn is_plain(self) -> bool {
        matches!(self, Level::Type(ty) if !ty.is_quantized())
    }

    /// Whether any bits are lost when a tensor of type `source` is stored so.
    pub fn is_lossless_for(self, source: TensorType) -> bool {
        matches!(self, Level::Type(ty) if ty == source || ty == TensorType::F32)
    }
}

fn fallback(ty: TensorType) -> TensorType {
    use TensorType::*;
    match ty {
        Q2K | Q3K | Iq4Xs => Iq4Nl,
        Q4K => Q5_0,
        Q5K => Q5_1,
        Q6K => Q8_0,
        _ => F16,
    }
}

/// Names of the types that can be written, for messages.
pub fn writable_names() -> String {
    let names: Vec<&str> =
        TensorType::all().filter(|ty| ty.writable() && ty.ggml_id().is_some()).map(TensorType::name).collect();
    names.join(", ")
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Level::Type(ty) => f.write_str(ty.name()),
            Level::Integer { bits, group: 0 } => write!(f, "int{bits}:row"),
            Level::Integer { bits, group } => write!(f, "int{bits}:{group}"),
            Level::Sum(sum) => sum.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_printed() {
        for text in [
            "int3:128",
            "int8:row",
            "q4_k",
            "iq4_nl",
            "bf16",
            "spqr:3:16:100",
            "int8:columns:6",
            "rank:250",
            "stack:4:16",
            "stack:8",
            "turned:q3_k",
            "turned:int3:128",
        ] {
            assert_eq!(Level::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Level::parse("INT4").unwrap(), Level::Integer { bits: 4, group: 128 });
        for wrong in [
            "int1",
            "int9:64",
            "int4:7",
            "int4:",
            "q9_k",
            "iq2_xxs",
            "",
            "int4:-1",
            "spqr:3:17",
            "spqr:9:16",
            "rank:0",
            "stack:0",
            "int8:columns:x",
            "turned:f16",
            "turned:turned:q4_k",
        ] {
            assert!(Level::parse(wrong).is_err() || wrong == "int4:", "{wrong}");
        }
        assert!(Level::parse("q9").unwrap_err().to_string().contains("q4_k"));
    }

    #[test]
    fn rows_that_do_not_fit_take_the_nearest_type_that_does() {
        use TensorType::*;
        let fit = |ty, cols| Level::Type(ty).fit(cols);
        assert_eq!(fit(Q4K, 512), Level::Type(Q4K));
        assert_eq!(fit(Q4K, 576), Level::Type(Q5_0));
        assert_eq!(fit(Q2K, 288), Level::Type(Iq4Nl));
        assert_eq!(fit(Q6K, 100), Level::Type(F16));
        for ty in TensorType::all().filter(|ty| ty.writable() && ty.is_quantized()) {
            for cols in [1, 31, 32, 48, 256, 288, 576, 768] {
                assert!(fit(ty, cols).bytes(2, cols).is_some(), "{} {cols}", ty.name());
            }
        }
    }

    #[test]
    fn bytes_count_scales_and_zero_points() {
        assert_eq!(Level::Integer { bits: 4, group: 128 }.bytes(2, 256), Some(2 * (128 + 4 + 1)));
        assert_eq!(Level::Integer { bits: 3, group: 0 }.bytes(1, 10), Some(4 + 2 + 1));
        assert_eq!(Level::Type(TensorType::Q4K).bytes(3, 512), Some(3 * 2 * 144));
        assert_eq!(Level::Type(TensorType::Q4K).bytes(3, 500), None);
    }
}
