//! Numbers of a sequence as symbols with raw bits behind them.
//!
//! How many literals come and how long the match behind them is make one symbol, a *command*: both are small mostly, and a Huffman
//! code of one likely symbol wastes less than codes of two. A distance is one of the last three, or its logarithm.

/// Shortest match.
pub const LEAST: u32 = 3;

/// Codes of a number: from where each begins, and its raw bits.
type Steps<const N: usize> = [(u32, u32); N];

const LITERALS: Steps<16> = steps([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 6, 10, 16, 32]);
const LENGTHS: Steps<24> = steps([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 32]);

/// Symbols of commands.
pub const COMMANDS: usize = LITERALS.len() * LENGTHS.len();
/// Distances that are remembered, and their symbols.
pub const REPEATS: usize = 3;
/// Symbols of distances.
pub const DISTANCES: usize = REPEATS + 16 + 2 * 28;

const fn steps<const N: usize>(bits: [u32; N]) -> Steps<N> {
    let mut steps = [(0, 0); N];
    let (mut at, mut from) = (0, 0u32);
    while at < N {
        steps[at] = (from, bits[at]);
        from = from.wrapping_add(1u32.wrapping_shl(bits[at]));
        at += 1;
    }
    steps
}

#[inline(always)]
fn code<const N: usize>(steps: &Steps<N>, direct: usize, value: u32) -> usize {
    if (value as usize) < direct {
        return value as usize;
    }
    let mut code = direct;
    while code + 1 < N && steps[code + 1].0 <= value {
        code += 1;
    }
    code
}

/// The code of so many literals.
#[inline(always)]
pub fn literals_code(literals: u32) -> usize {
    code(&LITERALS, 8, literals)
}

/// The code of a length, at least [`LEAST`].
#[inline(always)]
pub fn length_code(length: u32) -> usize {
    code(&LENGTHS, 16, length - LEAST)
}

/// The command of two codes.
#[inline(always)]
pub fn command(literals: usize, length: usize) -> usize {
    literals * LENGTHS.len() + length
}

/// Of both numbers of a command the least and the raw bits.
#[inline(always)]
pub fn of_command(command: usize) -> [(u32, u32); 2] {
    let (from, bits) = LENGTHS[command % LENGTHS.len()];
    [LITERALS[command / LENGTHS.len() % LITERALS.len()], (from + LEAST, bits)]
}

/// The symbol of a distance that is not remembered, and its raw bits: 1 to 16 are their own symbols, then two for each power of two.
#[inline(always)]
pub fn distance_code(distance: u32) -> (usize, u32) {
    let value = distance - 1;
    if value < 16 {
        return (REPEATS + value as usize, 0);
    }
    let log = value.ilog2();
    (REPEATS + 16 + 2 * (log as usize - 4) + (value >> (log - 1) & 1) as usize, log - 1)
}

/// The least distance of a symbol, and its raw bits.
#[inline(always)]
pub fn of_distance(symbol: usize) -> (u32, u32) {
    let symbol = symbol.saturating_sub(REPEATS);
    if symbol < 16 {
        return (symbol as u32 + 1, 0);
    }
    let log = (4 + (symbol - 16) / 2).min(31) as u32;
    (((2 | (symbol as u32 & 1)) << (log - 1)) + 1, log - 1)
}

/// The distances that came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent(pub [u32; REPEATS]);

impl Default for Recent {
    fn default() -> Self {
        Self([1, 4, 8])
    }
}

impl Recent {
    /// Which of them a distance is, if any.
    #[inline(always)]
    pub fn place(&self, distance: u32) -> Option<usize> {
        self.0.iter().position(|&recent| recent == distance)
    }

    /// A distance comes: it is the first of them now.
    #[inline(always)]
    pub fn push(&mut self, distance: u32) {
        let [first, second, third] = self.0;
        self.0 = match distance {
            _ if distance == first => self.0,
            _ if distance == second => [second, first, third],
            _ => [distance, first, second],
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_split_and_join() {
        for value in (0..70_000).chain([1 << 20, (1 << 31) - 1, u32::MAX - 3]) {
            let [(least, bits), _] = of_command(command(literals_code(value), 0));
            assert!(value >= least && u64::from(value - least) < 1 << bits, "{value} literals");
            let [_, (least, bits)] = of_command(command(3, length_code(value.max(LEAST))));
            assert!(value.max(LEAST) >= least && u64::from(value.max(LEAST) - least) < 1 << bits, "length {value}");
        }
        for value in (1..70_000).chain([1 << 20, (1 << 31) - 1]) {
            let (symbol, bits) = distance_code(value);
            assert!((REPEATS..DISTANCES).contains(&symbol));
            let (least, raw) = of_distance(symbol);
            assert!(bits == raw && value >= least && value - least < 1 << bits, "distance {value}");
        }
    }

    #[test]
    fn the_latest_distance_stands_first() {
        let mut recent = Recent::default();
        [7, 9, 7, 9, 11, 7].into_iter().for_each(|distance| recent.push(distance));
        assert_eq!(recent.0, [7, 11, 9]);
        assert_eq!(recent.place(9), Some(2));
    }
}
