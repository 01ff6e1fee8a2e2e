//! From logits to probabilities that follow the text: an adaptive scale and an adaptive bias for each token.
//!
//! `p = softmax(s·l + b)`. After each token t, a step of gradient descent on the bits spent: `b ← b − η·(p − onehot t)`,
//! `s ← s + ζ·(l_t − Σ p·l)`. All in f32 with every operation rounded by itself, sums in 16 lanes and the tree of
//! `brevity_kernels`: the same bits on every machine.

use brevity_kernels::math::lanes::exp;
use brevity_kernels::simd::{Kernel, LANES, Simd, dispatch};
use brevity_kernels::{Isa, pool};

/// Tokens of a bucket: a token is coded as its bucket, then itself.
pub const BUCKET: usize = 256;

/// Biases that a thread takes at once.
const PART: usize = 8192;
/// Step of the bias.
const BIAS: f32 = 0.15;
/// Step of the scale.
const SCALE: f32 = 0.0005;

/// Scale and bias.
pub struct Head {
    scale: f32,
    bias: Vec<f32>,
}

/// Probabilities of the next token.
#[derive(Default)]
pub struct Chances {
    /// Of each token; they sum to about 1.
    pub p: Vec<f32>,
    /// `Σ p·(l − max l)`, and the largest logit.
    mean: f32,
    most: f32,
}

impl Head {
    /// The identity.
    pub fn new(vocabulary: usize) -> Self {
        Self { scale: 1.0, bias: vec![0.0; vocabulary] }
    }

    /// Softmax of a row of logits.
    pub fn chances(&self, logits: &[f32], out: &mut Chances) {
        out.p.resize(self.bias.len(), 0.0);
        (out.mean, out.most) = dispatch(Softmax { logits, bias: &self.bias, scale: self.scale, p: &mut out.p });
    }

    /// Learns what came of some rows, one after another.
    pub fn learn(&mut self, rows: &[Came<'_>]) {
        let isa = Isa::current();
        pool::parallel_chunks(&mut self.bias, PART, |part, bias| {
            let span = part * PART..part * PART + bias.len();
            isa.with(|| {
                for row in rows {
                    dispatch(Step { bias, p: &row.chances.p[span.clone()] });
                    if span.contains(&row.token) {
                        bias[row.token - span.start] += BIAS;
                    }
                }
            });
        });
        for Came { logits, chances, token } in rows {
            let Some(logit) = logits.get(*token) else { continue };
            let step = SCALE * ((logit - chances.most) - chances.mean);
            self.scale = (self.scale + step).clamp(0.25, 2.0);
        }
    }
}

/// The token that came behind a row of logits.
pub struct Came<'a> {
    pub logits: &'a [f32],
    pub chances: &'a Chances,
    pub token: usize,
}

struct Softmax<'a> {
    logits: &'a [f32],
    bias: &'a [f32],
    scale: f32,
    p: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let Self { logits, bias, scale, p } = self;
        let low = s.splat(f32::MIN);
        let (mut top, mut most) = (low, low);
        let scale = s.splat(scale);
        for ((l, b), p) in logits.chunks(LANES).zip(bias.chunks(LANES)).zip(p.chunks_mut(LANES)) {
            let part = l.len().min(p.len());
            // What is no number counts as the least.
            let mut lanes = [f32::MIN; LANES];
            lanes[..part].copy_from_slice(&l[..part]);
            let l = s.max(s.load(&lanes), low);
            most = s.max(l, most);
            let z = s.max(s.add(s.mul(scale, l), s.load_part(b)), low);
            s.store_part(p, z);
            if part == LANES {
                top = s.max(z, top);
            } else {
                for &z in p.iter() {
                    top = s.max(s.splat(z), top);
                }
            }
        }
        let (top, most) = (s.splat(s.greatest(top)), s.greatest(most));
        let (mut sum, mut mean) = (s.zero(), s.zero());
        for (l, p) in logits.chunks(LANES).zip(p.chunks_mut(LANES)) {
            let e = exp(s, s.sub(s.load_part(p), top));
            s.store_part(p, e);
            let e = s.load_part(p);
            sum = s.add(sum, e);
            let distance = s.max(s.sub(s.load_part(l), s.splat(most)), s.splat(-1e4));
            mean = s.add(mean, s.mul(e, distance));
        }
        let sum = s.sum(sum);
        let share = s.splat(1.0 / sum);
        for p in p.chunks_mut(LANES) {
            let y = s.mul(s.load_part(p), share);
            s.store_part(p, y);
        }
        (s.sum(mean) / sum, most)
    }
}

struct Step<'a> {
    bias: &'a mut [f32],
    p: &'a [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rate = s.splat(BIAS);
        for (b, p) in self.bias.chunks_mut(LANES).zip(self.p.chunks(LANES)) {
            let y = s.sub(s.load_part(b), s.mul(rate, s.load_part(p)));
            s.store_part(b, y);
        }
    }
}

/// Sums of buckets, and the likeliest token.
pub fn buckets(p: &[f32], out: &mut Vec<f32>) -> usize {
    out.clear();
    let (mut best, mut top) = (0, f32::MIN);
    for (index, bucket) in p.chunks(BUCKET).enumerate() {
        let (sum, most) = dispatch(Bucket(bucket));
        out.push(sum);
        if most > top {
            top = most;
            best = index * BUCKET + bucket.iter().position(|&p| p == most).unwrap_or(0);
        }
    }
    best
}

/// The sum of one bucket, as [`buckets`] has it.
pub fn bucket_sum(p: &[f32]) -> f32 {
    dispatch(Bucket(p)).0
}

struct Bucket<'a>(&'a [f32]);

impl Kernel for Bucket<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let (mut sum, mut most) = (s.zero(), s.zero());
        for p in self.0.chunks(LANES) {
            let p = s.load_part(p);
            sum = s.add(sum, p);
            most = s.max(p, most);
        }
        (s.sum(sum), s.greatest(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_together_teach_what_they_teach_one_by_one_on_any_number_of_threads() {
        let vocabulary = PART + 300;
        let logits = |row: usize| -> Vec<f32> {
            (0..vocabulary).map(|token| ((token * 37 + row * 11) % 101) as f32 / 20.0).collect()
        };
        let rows: Vec<(Vec<f32>, usize)> =
            [(0, 5), (1, PART + 7), (2, 5)].map(|(row, token)| (logits(row), token)).into();
        let said: Vec<Chances> = rows
            .iter()
            .map(|(logits, _)| {
                let mut chances = Chances::default();
                Head::new(vocabulary).chances(logits, &mut chances);
                chances
            })
            .collect();
        let came = || rows.iter().zip(&said).map(|((logits, token), chances)| Came { logits, chances, token: *token });
        let mut one_by_one = Head::new(vocabulary);
        came().for_each(|row| one_by_one.learn(&[row]));
        for threads in [1, 2] {
            pool::set_threads(threads);
            let mut together = Head::new(vocabulary);
            together.learn(&came().collect::<Vec<_>>());
            assert!(together.bias == one_by_one.bias && together.scale == one_by_one.scale, "{threads} threads");
        }
        pool::set_threads(0);
        assert!(one_by_one.bias[5] > 0.2 && one_by_one.bias[PART + 7] > 0.1 && one_by_one.bias[6] < 0.0);
    }
}
