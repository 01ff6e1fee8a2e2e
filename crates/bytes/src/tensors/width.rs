//! How wide the distribution of the next number of a matrix is, in octaves, from what stands around it.
//!
//! `w = M + Σ aᵢ · (xᵢ − M)`: `xᵢ` are the mean width of the row so far, that of the column, the widths to the left and above; `M` is the mean of all; the
//! weights `a` are learnt by least mean squares. Means forget: the row's by 1/32, the column's after 32 numbers, all by 1/1024. All in integers, 256 an octave.

/// Rows of unknown length are taken to be this long.
const ROW: usize = 1024;
const FEATURES: usize = 4;
/// Farthest that anything counts from the mean.
const FAR: i32 = 24 * 256;
/// One, as a weight.
const ONE: i32 = 1 << 14;

/// `4096 / (n + 2)`: a mean of the first numbers, later one that forgets.
const RECIPROCALS: [i32; 32] = {
    let mut table = [0; 32];
    let mut n = 0;
    while n < 32 {
        table[n] = 4096 / (n as i32 + 2);
        n += 1;
    }
    table
};

/// What was seen so far.
pub struct Widths {
    weights: [i32; FEATURES],
    seen: [i32; FEATURES],
    /// Mean widths of the columns, and the width above.
    columns: Vec<[i32; 2]>,
    row: i32,
    all: i32,
    left: i32,
}

impl Widths {
    /// For `count` numbers, so many to a row (0: not known), about this wide.
    pub fn new(row: usize, count: usize, width: i32) -> Self {
        let columns = if row == 0 { ROW } else { row }.min(count.max(1));
        let columns = vec![[width; 2]; columns];
        Self { weights: [ONE, ONE, 0, 0], seen: [0; FEATURES], columns, row: width, all: width, left: width }
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// The width to expect in a column.
    #[inline(always)]
    pub fn predict(&mut self, column: usize) -> i32 {
        let [own, above] = self.columns[column];
        self.seen = [self.row, own, self.left, above].map(|x| (x - self.all).clamp(-FAR, FAR));
        let sum: i32 = self.weights.iter().zip(&self.seen).map(|(w, x)| (w * x) >> 8).sum();
        self.all + (sum >> 6)
    }

    /// Learns the width that was found where `predicted` was expected.
    #[inline(always)]
    pub fn learn(&mut self, column: usize, row: usize, predicted: i32, width: i32) {
        let error = (width - predicted).clamp(-FAR, FAR);
        for (w, x) in self.weights.iter_mut().zip(&self.seen) {
            *w = (*w + ((x * error + (1 << 12)) >> 13)).clamp(-4 * ONE, 4 * ONE);
        }
        self.row += (width - self.row) >> 5;
        self.all += (width - self.all) >> 10;
        let [own, above] = &mut self.columns[column];
        *own += ((width - *own) * RECIPROCALS[row.min(31)]) >> 12;
        *above = width;
        self.left = width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_rows_and_columns_that_are_wider() {
        let mut widths = Widths::new(16, 16_000, 2000);
        let (mut error, mut seed) = (0, 1u32);
        for row in 0..1000usize {
            for column in 0..16usize {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let truth = 3000 + (row % 7 * 100) as i32 + (column % 3 * 200) as i32;
                let predicted = widths.predict(column);
                error += if row >= 800 { (predicted - truth).abs() } else { 0 };
                widths.learn(column, row, predicted, truth + (seed >> 24) as i32 - 128);
            }
        }
        assert!(error / 3200 < 150, "{}", error / 3200);
    }
}
