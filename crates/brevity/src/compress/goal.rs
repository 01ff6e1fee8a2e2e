//! What a user asks for: a budget, or one grid everywhere.

use anyhow::{Context, Result, bail};
use brevity_measure::bits::{format_bytes, parse_size};
use brevity_weights::Level;
use std::fmt;

/// A budget, or one grid everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Bits per weight over all tensors.
    Bits(f64),
    /// Bytes of the whole file.
    Size(u64),
    /// Share of the source's bytes.
    Ratio(f64),
    /// Bits of divergence a token, measured.
    MaxKld(f64),
    /// One level for all.
    Grid(Level),
}

/// The default: what a 4-bit model is commonly taken to be.
pub const DEFAULT: Goal = Goal::Bits(4.5);

impl Goal {
    /// Reads the flags, of which at most one is given.
    ///
    /// # Errors
    /// If a number is out of range or a size or grid cannot be read.
    pub fn from_flags(
        bits: Option<f64>,
        size: Option<&str>,
        ratio: Option<f64>,
        max_kld: Option<f64>,
        grid: Option<&str>,
    ) -> Result<Self> {
        if let Some(limit) = max_kld {
            if !(limit > 0.0 && limit.is_finite()) {
                bail!("--max-kld {limit}: write the bits a token that may be lost, a number above 0 (0.02)");
            }
            return Ok(Goal::MaxKld(limit));
        }
        Ok(match (bits, size, ratio, grid) {
            (Some(bits), ..) if !(0.5..=32.0).contains(&bits) => bail!("--bits {bits}: between 0.5 and 32 is possible"),
            (Some(bits), ..) => Goal::Bits(bits),
            (_, Some(size), ..) => Goal::Size(parse_size(size).context("--size")?),
            (_, _, Some(ratio), _) if !(ratio > 0.0 && ratio <= 1.0) => bail!("--ratio {ratio}: above 0 and at most 1"),
            (_, _, Some(ratio), _) => Goal::Ratio(ratio),
            (.., Some(grid)) => Goal::Grid(Level::parse(grid).context("--grid")?),
            _ => DEFAULT,
        })
    }

    /// A short name for files: `4.25bit`, `700MB`, `q4_k`.
    pub fn slug(&self) -> String {
        match self {
            Goal::Bits(bits) => format!("{bits}bit"),
            Goal::Size(bytes) => format_bytes(*bytes).replace(' ', ""),
            Goal::Ratio(ratio) => format!("ratio{ratio}"),
            Goal::MaxKld(limit) => format!("kld{limit}"),
            Goal::Grid(level) => level.to_string().replace(':', "-g"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Goal::Bits(bits) => write!(f, "{bits} bits a weight"),
            Goal::Size(bytes) => write!(f, "at most {}", format_bytes(*bytes)),
            Goal::Ratio(ratio) => write!(f, "{ratio} of the original's bytes"),
            Goal::MaxKld(limit) => write!(f, "at most {limit} bits lost a token"),
            Goal::Grid(level) => write!(f, "{level} everywhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_nonsense_refused() {
        let goal = |bits, size, ratio, grid| Goal::from_flags(bits, size, ratio, None, grid);
        assert_eq!(goal(None, Some("700MB"), None, None).unwrap(), Goal::Size(700_000_000));
        assert_eq!(goal(None, None, None, None).unwrap(), DEFAULT);
        assert!(matches!(
            goal(None, None, None, Some("int3:128")).unwrap(),
            Goal::Grid(Level::Integer { bits: 3, .. })
        ));
        for wrong in [goal(Some(0.0), None, None, None), goal(Some(f64::NAN), None, None, None)] {
            assert!(wrong.is_err());
        }
        let limit = |limit| Goal::from_flags(None, None, None, Some(limit), None);
        assert_eq!(limit(0.02).unwrap(), Goal::MaxKld(0.02));
        for wrong in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(limit(wrong).is_err_and(|error| error.to_string().contains("--max-kld")), "{wrong}");
        }
        assert!(goal(None, Some("-3"), None, None).is_err());
        assert!(goal(None, None, Some(1.5), None).is_err());
        assert!(goal(None, None, None, Some("int9:128")).is_err());
    }
}
