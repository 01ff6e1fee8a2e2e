//! A small network that predicts the next byte and learns from every byte: a selective state-space model over bytes, and votes.
//!
//! The state is a vector `h` of `N` numbers that the last two bytes open and close:
//!
//! ```text
//! a = σ(A₁[c₁] + A₂[c₂])      v = V₁[c₁] + V₂[c₂]      h ← a·h + (1 − a)·v
//! u = max(0, W₁ᵀh + b[c₁])    logits = W₂ᵀu + B[c₁] + Σ votes
//! ```
//!
//! A vote is a byte that a run or a match of the byte engine expects; how long it is chooses what the vote weighs. Since gates
//! depend on bytes alone, the derivative of `h` by each row of `A` and `V` obeys the same recurrence as `h`, unit by unit
//! (`∂h/∂V ← a·∂h/∂V + (1 − a)`): gradients through time are exact without going back in it. Rows that were not used for
//! [`HORIZON`] bytes are let go. Every byte is a step of gradient descent on its own code length.
//!
//! After "StateSMix" (2026, arXiv 2605.02904), which trains a Mamba over tokens while it codes; the forward recurrence of
//! derivatives is that of real-time recurrent learning.
//!
//! Arithmetic: additions, multiplications, divisions of `f32`, each rounded by itself, nothing fused; sums go over inputs in
//! order with outputs side by side, dot products by sixteen lanes and a fixed tree: the same bits on every machine.

/// Units of the state.
const N: usize = 192;
/// Units of the hidden layer.
const H: usize = 128;
/// Bytes after which a row's derivative is let go.
const HORIZON: usize = 40;
/// Kinds of votes.
pub const KINDS: usize = 2048;

type Row = [f32; N];

/// A table of rows, of which each byte uses one, with derivatives.
struct Rows {
    weights: Vec<Row>,
    traces: Vec<Row>,
    used: Vec<usize>,
}

impl Rows {
    fn new(start: impl Fn(usize, usize) -> f32) -> Self {
        let weights = (0..256).map(|byte| std::array::from_fn(|unit| start(byte, unit))).collect();
        Self { weights, traces: vec![[0.0; N]; 256], used: vec![0; 256] }
    }
}

/// The network.
pub struct Net {
    values: [Rows; 2],
    gates: [Rows; 2],
    state: Row,
    gradient: Row,
    hidden: [f32; H],
    first: Vec<[f32; H]>,
    first_bias: Vec<[f32; H]>,
    second: Vec<[f32; 256]>,
    second_bias: Vec<[f32; 256]>,
    votes: Vec<f32>,
    voted: Vec<(u16, u8)>,
    /// Sums of probabilities: a binary tree, the bytes behind 256.
    tree: [f32; 512],
    recent: [usize; 2],
    /// Rows in use.
    live: [Vec<u8>; 2],
    at: usize,
    rates: Rates,
}

/// Repeatable noise in ±1.
fn noise(seed: usize) -> f32 {
    let mut x = (seed as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x >> 40) as f32) / 8_388_608.0 - 1.0
}

/// eˣ for x in ±80, to some 2⁻²²: `2ⁿ` times a polynomial of what is left.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to a whole number.
    const WHOLE: f32 = 12_582_912.0;
    let x = x.clamp(-80.0, 80.0);
    let n = (x * std::f32::consts::LOG2_E + WHOLE) - WHOLE;
    let f = (x - n * (355.0 / 512.0)) + n * 2.121_944_4e-4;
    let p = f * (1.0 / 720.0) + 1.0 / 120.0;
    let p = ((((p * f + 1.0 / 24.0) * f + 1.0 / 6.0) * f + 0.5) * f + 1.0) * f + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[inline(always)]
fn add_scaled<const W: usize>(to: &mut [f32; W], scale: f32, row: &[f32; W]) {
    for (to, x) in to.iter_mut().zip(row) {
        *to += scale * x;
    }
}

#[inline(always)]
fn dot<const W: usize>(a: &[f32; W], b: &[f32; W]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for lane in 0..16 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

impl Net {
    /// Weights as they are before the first byte. Networks of other numbers start elsewhere and learn at another speed.
    pub fn new(which: usize) -> Self {
        let value =
            |table: usize| Rows::new(move |byte, unit| noise((2 * which + table) * 256 * N + byte * N + unit) * 0.5);
        // Half of the gates' logits each: units remember from one byte to a hundred.
        let gate = || Rows::new(|_, unit| -1.0 + 3.4 * unit as f32 / N as f32);
        let scale = 1.0 / 14.0;
        Self {
            values: [value(0), value(1)],
            gates: [gate(), gate()],
            state: [0.0; N],
            gradient: [0.0; N],
            hidden: [0.0; H],
            first: (0..N)
                .map(|n| std::array::from_fn(|h| noise((1 << 20) + (which * N + n) * H + h) * scale))
                .collect(),
            first_bias: vec![[0.0; H]; 256],
            second: vec![[0.0; 256]; H],
            second_bias: vec![[0.0; 256]; 256],
            votes: vec![0.5; KINDS],
            voted: Vec::new(),
            tree: [1.0 / 256.0; 512],
            recent: [0; 2],
            live: [Vec::new(), Vec::new()],
            at: 0,
            rates: RATES[which % RATES.len()],
        }
    }

    /// The state moves on by the bytes in `recent`.
    #[inline(always)]
    fn advance(&mut self) {
        let [one, two] = self.recent;
        let (mut a, mut v) = ([0.0f32; N], [0.0f32; N]);
        for n in 0..N {
            a[n] = self.gates[0].weights[one][n] + self.gates[1].weights[two][n];
            v[n] = self.values[0].weights[one][n] + self.values[1].weights[two][n];
        }
        for a in &mut a {
            *a = 1.0 / (1.0 + exp(-*a));
        }
        for table in 0..2 {
            let byte = self.recent[table];
            if !self.live[table].contains(&(byte as u8)) {
                self.live[table].push(byte as u8);
            }
            self.values[table].used[byte] = self.at;
            let (values, gates) = (&mut self.values[table], &mut self.gates[table]);
            let at = self.at;
            self.live[table].retain(|&byte| {
                let row = usize::from(byte);
                let keep = at - values.used[row] < HORIZON;
                if keep {
                    values.traces[row].iter_mut().zip(&a).for_each(|(trace, a)| *trace *= a);
                    gates.traces[row].iter_mut().zip(&a).for_each(|(trace, a)| *trace *= a);
                } else {
                    values.traces[row] = [0.0; N];
                    gates.traces[row] = [0.0; N];
                }
                keep
            });
            for n in 0..N {
                values.traces[byte][n] += 1.0 - a[n];
                gates.traces[byte][n] += (self.state[n] - v[n]) * (a[n] * (1.0 - a[n]));
            }
        }
        for n in 0..N {
            self.state[n] = a[n] * self.state[n] + (1.0 - a[n]) * v[n];
        }
        self.at += 1;
    }

    /// Predicts the next byte; `votes` are kinds (below [`KINDS`]) and bytes.
    #[inline(always)]
    pub fn predict(&mut self, votes: impl Iterator<Item = (usize, u8)>) {
        let one = self.recent[0];
        self.hidden = self.first_bias[one];
        for (&x, row) in self.state.iter().zip(&self.first) {
            add_scaled(&mut self.hidden, x, row);
        }
        self.hidden.iter_mut().for_each(|u| *u = u.max(0.0));
        let mut logits = self.second_bias[one];
        for (&u, row) in self.hidden.iter().zip(&self.second) {
            if u > 0.0 {
                add_scaled(&mut logits, u, row);
            }
        }
        self.voted.clear();
        for (kind, byte) in votes {
            logits[usize::from(byte)] += self.votes[kind % KINDS];
            self.voted.push(((kind % KINDS) as u16, byte));
        }
        let most = logits.iter().fold(f32::MIN, |most, &x| if x > most { x } else { most });
        for (p, &x) in self.tree[256..].iter_mut().zip(&logits) {
            *p = exp(x - most) + 1e-7;
        }
        for node in (1..256).rev() {
            self.tree[node] = self.tree[2 * node] + self.tree[2 * node + 1];
        }
    }

    /// Probability of a one behind the bits so far (a one before them), in units of 2⁻¹⁶.
    #[inline(always)]
    pub fn bit(&self, partial: u32) -> u16 {
        let node = partial as usize & 255;
        let share = self.tree[2 * node + 1] / self.tree[node];
        (share * 65_536.0).clamp(16.0, 65_520.0) as u16
    }

    /// Learns the byte that came, and moves on.
    #[inline(always)]
    pub fn learn(&mut self, byte: u8) {
        let rates = self.rates;
        let one = self.recent[0];
        let total = 1.0 / self.tree[1];
        let mut error = [0.0f32; 256];
        for (error, p) in error.iter_mut().zip(&self.tree[256..]) {
            *error = -(p * total);
        }
        error[usize::from(byte)] += 1.0;
        for &(kind, byte) in &self.voted {
            self.votes[usize::from(kind)] += rates.votes * error[usize::from(byte)];
        }
        let mut back = [0.0f32; H];
        for ((&u, back), row) in self.hidden.iter().zip(&mut back).zip(&mut self.second) {
            if u > 0.0 {
                *back = dot(row, &error);
                add_scaled(row, rates.second * u, &error);
            }
        }
        add_scaled(&mut self.second_bias[one], rates.bias, &error);
        for ((&x, gradient), row) in self.state.iter().zip(&mut self.gradient).zip(&mut self.first) {
            *gradient = dot(row, &back);
            add_scaled(row, rates.first * x, &back);
        }
        add_scaled(&mut self.first_bias[one], rates.first, &back);
        for table in 0..2 {
            for &row in &self.live[table] {
                let row = usize::from(row);
                for (rows, rate) in [(&mut self.values[table], rates.values), (&mut self.gates[table], rates.gates)] {
                    let traces = &rows.traces[row];
                    for ((w, t), g) in rows.weights[row].iter_mut().zip(traces).zip(&self.gradient) {
                        *w += rate * (t * g);
                    }
                }
            }
        }
        self.recent = [usize::from(byte), one];
        self.advance();
    }
}

/// Steps of gradient descent.
#[derive(Clone, Copy)]
struct Rates {
    /// Of what votes weigh.
    votes: f32,
    /// Of the output layer and its bias, of the hidden layer.
    second: f32,
    bias: f32,
    first: f32,
    /// Of the rows of values and gates.
    values: f32,
    gates: f32,
}

const RATES: [Rates; 2] = [
    Rates { votes: 0.005, second: 0.06, bias: 0.02, first: 0.03, values: 0.1, gates: 0.02 },
    Rates { votes: 0.02, second: 0.02, bias: 0.05, first: 0.01, values: 0.3, gates: 0.1 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_to_the_x() {
        for n in -8000..8000 {
            let x = n as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2e-6, "{x}");
        }
    }

    #[test]
    fn it_learns_what_repeats_at_a_distance() {
        let mut net = Net::new(0);
        let (mut seed, mut cost) = (1u32, 0.0);
        for round in 0..4000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // What ends a group is what began it; between, bytes that say nothing of it.
            let key = if seed >> 31 == 1 { b'x' } else { b'y' };
            for (place, byte) in [key, b'.', b'-', b'.', key].into_iter().enumerate() {
                net.predict(std::iter::empty());
                if place == 4 && round >= 3900 {
                    cost -= f64::from(net.tree[256 + usize::from(byte)] / net.tree[1]).log2();
                }
                net.learn(byte);
            }
        }
        assert!(cost < 20.0, "{cost} bits for 100");
    }

    #[test]
    fn a_byte_that_is_voted_for_becomes_likely() {
        let mut net = Net::new(0);
        let p = |net: &mut Net, votes: &[(usize, u8)]| {
            net.predict(votes.iter().copied());
            f64::from(net.bit(1)) / 65_536.0
        };
        assert!(p(&mut net, &[(3, 200), (9, 200)]) > p(&mut net, &[]));
    }
}
