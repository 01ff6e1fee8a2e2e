//! A coder of bytes that stand in runs.
//!
//! First whether a byte is the one before it again, as what came of the last such questions, the length of the run and the
//! last bytes make likely; if not, its bits, each predicted by counters of the byte alone (a fast and a slow one), behind the last
//! byte, behind the one before that, and behind both. Predictions are mixed.

use brevity_coding::counter::Bit;
use brevity_coding::logistic::Logistic;
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::range::{Coder, Decoder, Encoder};
use brevity_coding::simd::{Backend, Simd, Task, dispatch};

/// Counters of one kind of question: a table for each context.
struct Question<const N: usize> {
    fast: [Vec<Bit<4>>; N],
    slow: [Vec<Bit<7>>; N],
    mixer: Mixer<16>,
}

impl<const N: usize> Question<N> {
    fn new(bits: u32, sets: usize) -> Self {
        Self {
            fast: std::array::from_fn(|_| vec![Bit::default(); 1 << bits]),
            slow: std::array::from_fn(|_| vec![Bit::default(); 1 << bits]),
            mixer: Mixer::new(sets, ONE / (2 * N as i32 - 1)),
        }
    }

    #[inline(always)]
    fn bit<S: Simd, K: Coder>(
        &mut self,
        coder: &mut K,
        bit: u32,
        contexts: [usize; N],
        set: usize,
        l: &Logistic,
    ) -> u32 {
        let mut x = [0; 16];
        let at: [usize; N] = std::array::from_fn(|i| contexts[i] & (self.fast[i].len() - 1));
        for (i, &place) in at.iter().enumerate() {
            x[2 * i] = i32::from(l.stretch(self.fast[i][place].p()));
            x[2 * i + 1] = i32::from(l.stretch(self.slow[i][place].p()));
        }
        self.mixer.mix::<S>(&x, set, l);
        let bit = coder.code(bit, u32::from(self.mixer.p()));
        self.mixer.learn::<S>(&x, bit, 6);
        for (i, &place) in at.iter().enumerate() {
            self.fast[i][place].learn(bit);
            self.slow[i][place].learn(bit);
        }
        bit
    }
}

struct Model {
    again: Question<3>,
    byte: Question<4>,
    last: [usize; 2],
    run: usize,
    asked: usize,
    logistic: &'static Logistic,
}

impl Model {
    fn new() -> Self {
        Self {
            again: Question::new(16, 256),
            byte: Question::new(18, 256),
            last: [0; 2],
            run: 0,
            asked: 0,
            logistic: Logistic::get(),
        }
    }

    /// Codes one byte; a decoder ignores the one it is given.
    #[inline(always)]
    fn byte<S: Simd, K: Coder>(&mut self, coder: &mut K, byte: u8) -> u8 {
        let [c1, c2] = self.last;
        let run = self.run.min(15);
        let contexts = [run << 8 | self.asked & 0xFF, c1 << 8 | c2, c1 << 8 | run << 4 | self.asked & 15];
        let set = run << 4 | self.asked & 15;
        let again = u32::from(usize::from(byte) == c1);
        let bit = self.again.bit::<S, K>(coder, again, contexts, set, self.logistic);
        self.asked = self.asked << 1 | bit as usize;
        if bit == 1 {
            self.run += 1;
            return c1 as u8;
        }
        let mut node = 1usize;
        for at in (0..8).rev() {
            let both = (c1.wrapping_mul(0x9E37) ^ c2.wrapping_mul(0x79B1) ^ node.wrapping_mul(0x3D4D)) & 0x3FFFF;
            let contexts = [run.min(3) << 8 | node, c1 << 8 | node, c2 << 8 | node, both];
            let bit = self.byte.bit::<S, K>(coder, u32::from(byte) >> at & 1, contexts, node, self.logistic);
            node = node << 1 | bit as usize;
        }
        self.run = 0;
        self.last = [node & 0xFF, c1];
        node as u8
    }
}

struct Encode<'a>(&'a [u8]);

impl Task for Encode<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<u8> {
        let mut model = Model::new();
        let mut coder = Encoder::with_capacity(self.0.len() / 3);
        for &byte in self.0 {
            model.byte::<S, _>(&mut coder, byte);
        }
        coder.finish()
    }
}

struct Decode<'a>(&'a [u8], &'a mut [u8]);

impl Task for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut model = Model::new();
        let mut coder = Decoder::new(self.0);
        for byte in self.1 {
            *byte = model.byte::<S, _>(&mut coder, 0);
        }
    }
}

/// Encodes.
pub fn encode(bytes: &[u8], backend: Backend) -> Vec<u8> {
    dispatch(backend, Encode(bytes))
}

/// Decodes into `out`.
pub fn decode(packed: &[u8], out: &mut [u8], backend: Backend) {
    dispatch(backend, Decode(packed, out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_cost_little() {
        let runs: Vec<u8> = (0..50_000u32).map(|n| (n / 500 * 37) as u8).collect();
        assert!(encode(&runs, Backend::best()).len() < 600);
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in any::<Vec<u8>>(), few in prop::collection::vec(0u8..3, 0..500)) {
            for bytes in [bytes, few] {
                let mut back = vec![0; bytes.len()];
                decode(&encode(&bytes, Backend::best()), &mut back, Backend::Scalar);
                prop_assert_eq!(back, bytes);
            }
        }
    }
}
