//! What bytes would take, roughly: to choose between ways to write a column.

use brevity_coding::logistic::Logistic;

/// What codes the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Repeated strings and a code of bytes: levels 1 and 2.
    Strings,
    /// Block sorting: level 3.
    Sorting,
    /// Context mixing: from level 4 on.
    Mixing,
}

/// Bytes that are looked at.
const MOST: usize = 1 << 13;
/// Orders of the contexts.
const ORDERS: [u32; 3] = [1, 2, 4];
/// What a repeated value takes as a string, in bits.
const STRING: u64 = 18;

/// Bits that bytes, values parted by newlines or not, would take, of a sample from the front.
pub fn bits(bytes: &[u8], style: Style, whole_values: bool) -> u64 {
    let sample = &bytes[..bytes.len().min(MOST)];
    let bits = match (style, whole_values) {
        (Style::Strings, true) => strings(sample),
        (Style::Strings, false) => entropy(sample),
        _ => mixed(sample),
    };
    bits * bytes.len() as u64 / sample.len().max(1) as u64
}

/// log₂ in 1/256, straight between powers of two.
fn log2(value: u64) -> u64 {
    let whole = u64::from(value.max(1).ilog2());
    let below = value.max(1) - (1 << whole);
    whole * 256 + if whole >= 8 { below >> (whole - 8) } else { below << (8 - whole) }
}

fn entropy(bytes: &[u8]) -> u64 {
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let all = log2(bytes.len() as u64);
    counts.iter().map(|&count| count * (all - log2(count).min(all))).sum::<u64>() / 256
}

/// Values that came before are one string; others take what their bytes take.
fn strings(bytes: &[u8]) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let (mut repeated, mut fresh) = (0, Vec::new());
    let mut last: &[u8] = &[];
    for value in bytes.split_inclusive(|&byte| byte == b'\n') {
        if value == last {
            repeated += value.len() as u64 / 4;
        } else if value.len() > 4 && seen.contains(value) {
            repeated += STRING;
        } else {
            seen.insert(value);
            fresh.extend_from_slice(value);
        }
        last = value;
    }
    repeated + entropy(&fresh)
}

/// Bits under three orders of contexts, whose predictions are summed in the logistic domain.
fn mixed(bytes: &[u8]) -> u64 {
    let logistic = Logistic::get();
    let size = (bytes.len() * 8).next_power_of_two().clamp(1 << 10, 1 << 18);
    let mut tables = ORDERS.map(|_| vec![32_768u16; size]);
    let (mut history, mut total) = (0u32, 0);
    for &byte in bytes {
        let hashes = ORDERS.map(|order| {
            let kept = history & (u32::MAX >> (32 - 8 * order));
            (kept.wrapping_add(order)).wrapping_mul(0x9E37_79B1) as usize
        });
        let mut partial = 1usize;
        for place in (0..8).rev() {
            let bit = byte >> place & 1;
            let places = hashes.map(|hash| (hash >> 8 ^ partial.wrapping_mul(0x2F0B_4C47)) & (size - 1));
            let mut sum = 0;
            for (table, &at) in tables.iter().zip(&places) {
                sum += i32::from(logistic.stretch(table[at]));
            }
            let one = u64::from(logistic.squash(sum * 5 / 8).clamp(32, 65_503));
            total += 16 * 256 - log2(if bit == 1 { one } else { 65_536 - one });
            for (table, &at) in tables.iter_mut().zip(&places) {
                let held = i32::from(table[at]);
                table[at] = (held + ((if bit == 1 { 65_535 } else { 0 }) - held) / 6) as u16;
            }
            partial = partial << 1 | usize::from(bit);
        }
        history = history << 8 | u32::from(byte);
    }
    total / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_takes_less_than_noise() {
        let mut seed = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .take(4000)
        .collect();
        let repeats = b"10.2.0.1\n10.2.0.7\n".repeat(220);
        for style in [Style::Strings, Style::Mixing] {
            assert!(bits(&noise, style, false) > 7 * 4000);
            assert!(bits(&repeats, style, true) * 3 < bits(&noise, style, true));
            assert_eq!(bits(b"", style, true), 0);
        }
    }
}
