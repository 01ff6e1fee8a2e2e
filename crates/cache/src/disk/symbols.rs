//! Whole numbers around zero into bits: a table of probabilities for each spread.
//!
//! What a codec quantises is spread around zero. A column of such numbers is coded by one of 96 tables: 48 spreads `σ = 0.1·2^(k/4)` in
//! each of two shapes, the normal and the Laplace distribution, integrated over each number's cell in f64 in a written order. Above
//! `σ = 24` the low bits are noise and go raw: a table then holds numbers divided by a power of two. What lies beyond a table is escaped.

use brevity_coding::range::Interval;
use brevity_coding::rans::Entries;
use brevity_coding::rans::varied::{Reader, Writer, entries};
use brevity_kernels::math::double;
use std::sync::OnceLock;

/// Total of a table's frequencies as a power of two.
const BITS: u32 = 12;
const SPREADS: usize = 48;
/// Tables there are: a spread and a shape each.
pub(super) const TABLES: usize = 2 * SPREADS;
/// Raw bits of an escaped number.
const ESCAPED: u32 = 32;
/// Points at which a cell's density is taken.
const POINTS: usize = 16;

/// Frequencies of the numbers `−most..=most`, and of all others together.
pub(super) struct Table {
    most: i32,
    /// Low bits that go raw.
    low: u32,
    /// Start and size of each symbol.
    intervals: Vec<(u32, u32)>,
    costs: Vec<f32>,
    entries: Box<Entries>,
}

fn spread(index: usize) -> f64 {
    0.1 * double::exp(std::f64::consts::LN_2 * (index / 2) as f64 / 4.0)
}

/// The table of that index.
pub(super) fn table(index: usize) -> &'static Table {
    static ALL: OnceLock<Vec<OnceLock<Table>>> = OnceLock::new();
    let all = ALL.get_or_init(|| (0..TABLES).map(|_| OnceLock::new()).collect());
    all[index].get_or_init(|| Table::new(spread(index), index % 2 == 1))
}

impl Table {
    fn new(sigma: f64, laplace: bool) -> Table {
        let mut low = 0;
        while sigma / f64::from(1u32 << low) > 24.0 {
            low += 1;
        }
        let scaled = sigma / f64::from(1u32 << low);
        let most = ((6.0 * scaled) as i32 + 2).min(126);
        let density = |x: f64| match laplace {
            true => double::exp(-x.abs() * std::f64::consts::SQRT_2 / scaled),
            false => double::exp(-x * x / (2.0 * scaled * scaled)),
        };
        let cell = |m: i32| -> f64 {
            (0..POINTS).map(|i| density(f64::from(m) - 0.5 + (i as f64 + 0.5) / POINTS as f64)).sum()
        };
        let mut weights: Vec<f64> = (-most..=most).map(cell).collect();
        let all: f64 = weights.iter().sum();
        weights.push(all / 4096.0);
        let total = all + all / 4096.0;
        let free = f64::from((1u32 << BITS) - weights.len() as u32);
        let mut sizes: Vec<u32> = weights.iter().map(|w| 1 + (w / total * free) as u32).collect();
        sizes[most as usize] += (1 << BITS) - sizes.iter().sum::<u32>();
        Table::of(most, low, &sizes)
    }

    fn of(most: i32, low: u32, sizes: &[u32]) -> Table {
        let mut start = 0;
        let mut interval = |&size: &u32| {
            start += size;
            (start - size, size)
        };
        let intervals: Vec<(u32, u32)> = sizes.iter().map(&mut interval).collect();
        let bits =
            |&(start, size): &(u32, u32)| Interval::new(start, size, BITS).map_or(0.0, |interval| interval.cost());
        let costs = intervals.iter().map(|interval| (bits(interval) + f64::from(low)) as f32).collect();
        let entries = entries(sizes).expect("frequencies that sum to the total");
        Table { most, low, intervals, costs, entries }
    }

    /// Where a number lies: its symbol, and its low bits.
    fn split(&self, number: i32) -> (usize, u32) {
        let high = number >> self.low;
        match (-self.most..=self.most).contains(&high) {
            true => ((high + self.most) as usize, (number - (high << self.low)) as u32),
            false => (self.intervals.len() - 1, 0),
        }
    }

    /// Bits of a number.
    pub(super) fn cost(&self, number: i32) -> f32 {
        let (symbol, _) = self.split(number);
        self.costs[symbol] + if symbol + 1 == self.intervals.len() { ESCAPED as f32 } else { 0.0 }
    }

    /// Codes a number.
    pub(super) fn put(&self, number: i32, writer: &mut Writer) {
        let (symbol, low) = self.split(number);
        let (start, size) = self.intervals[symbol];
        writer.put(start, size);
        if symbol + 1 == self.intervals.len() {
            writer.put_raw(number as u32, ESCAPED);
        } else {
            writer.put_raw(low, self.low);
        }
    }

    /// Decodes a number.
    #[inline(always)]
    pub(super) fn get(&self, reader: &mut Reader<'_>) -> i32 {
        let symbol = reader.take(&self.entries) as i32;
        if self.low == 0 && symbol <= 2 * self.most {
            return symbol - self.most;
        }
        self.rest(symbol, reader)
    }

    /// A number with raw bits.
    fn rest(&self, symbol: i32, reader: &mut Reader<'_>) -> i32 {
        match symbol > 2 * self.most {
            true => reader.take_raw(ESCAPED) as i32,
            false => ((symbol - self.most) << self.low) + reader.take_raw(self.low) as i32,
        }
    }
}

/// Numbers counted up to this size; larger ones are few.
const COUNTED: i32 = 2048;
/// Every so many spreads are tried first.
const COARSE: usize = 4;

/// The table that codes some numbers in the fewest bits, with these bits.
pub(super) fn best(numbers: impl Iterator<Item = i32>) -> (usize, f64) {
    let mut counts = vec![0u32; 2 * COUNTED as usize + 1];
    let mut others = Vec::new();
    for x in numbers {
        match counts.get_mut(x.wrapping_add(COUNTED) as u32 as usize) {
            Some(slot) => *slot += 1,
            None => others.push(x),
        }
    }
    let distinct: Vec<(i32, f64)> = (-COUNTED..=COUNTED)
        .zip(&counts)
        .filter(|(_, many)| **many > 0)
        .map(|(x, &many)| (x, f64::from(many)))
        .chain(others.into_iter().map(|x| (x, 1.0)))
        .collect();
    let cost = |index: usize| -> f64 { distinct.iter().map(|&(x, many)| many * f64::from(table(index).cost(x))).sum() };
    let least = |indices: &mut dyn Iterator<Item = usize>| {
        let costs = indices.map(|index| (index, cost(index)));
        costs.fold((0, f64::INFINITY), |best, next| if next.1 < best.1 { next } else { best })
    };
    // A few large numbers say little about the spread of all others, so all spreads are tried, then those around the best.
    let (near, _) = least(&mut (0..TABLES).step_by(2 * COARSE));
    least(&mut (near.saturating_sub(2 * COARSE)..(near + 2 * COARSE).min(TABLES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_at_the_cost_that_was_said() {
        let mut state = 9u64;
        for size in [1i64, 4, 60, 900, 100_000] {
            let numbers: Vec<i32> = (0..4000)
                .map(|_| {
                    let mut sum = 0;
                    for _ in 0..6 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        sum += (state >> 33) as i64 % (2 * size + 1) - size;
                    }
                    (sum / 2) as i32
                })
                .chain([i32::MAX, i32::MIN])
                .collect();
            let (index, bits) = best(numbers.iter().copied());
            let mut writer = Writer::default();
            numbers.iter().for_each(|&x| table(index).put(x, &mut writer));
            let bytes = writer.finish();
            // Eight states of 32 bits hold what 15 bits each begin with.
            assert!(
                (bytes.len() as f64 * 8.0 - bits - 8.0 * 17.0).abs() < 8.0 * 17.0,
                "{} bytes, {bits} bits",
                bytes.len()
            );
            let mut reader = Reader::new(&bytes).unwrap();
            let back: Vec<i32> = numbers.iter().map(|_| table(index).get(&mut reader)).collect();
            assert_eq!(back, numbers);
            reader.finish().unwrap();
            // Six uniform numbers are nearly normal: the table is within a twentieth of a bit of that entropy.
            let sigma = (numbers[..4000].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 4000.0).sqrt();
            let normal = (sigma * (2.0 * std::f64::consts::PI * std::f64::consts::E).sqrt()).log2();
            if size > 1 && size < 900 {
                let each = (bits - 2.0 * 44.0) / 4000.0;
                assert!((each - normal).abs() < 0.06, "{size}: {each} bits, {normal} for a normal distribution");
            }
        }
    }

    #[test]
    fn tables_are_whole() {
        for index in 0..TABLES {
            let table = table(index);
            let (start, size) = table.intervals[table.intervals.len() - 1];
            assert_eq!((start + size, table.intervals.len()), (4096, 2 * table.most as usize + 2));
        }
    }
}
