//! A predictor of bytes that stands beside the contexts.

use brevity_coding::logistic::Logistic;
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::simd::Scalar;

/// Sums of probabilities: a binary tree, node n above 2n and 2n + 1, the bytes behind 256.
pub type Tree = [f32; 512];

/// Foretells the next byte of each lane.
pub trait Beside {
    /// The next byte of these lanes is to be predicted: what can be done for all at once.
    fn round(&mut self, lanes: &[usize]);
    /// Probabilities of the next byte of a lane.
    fn predict(&mut self, lane: usize, tree: &mut Tree);
    /// The byte that came.
    fn learn(&mut self, lane: usize, byte: u8);
}

/// Inputs of a blend, of which two are used.
const INPUTS: usize = 8;
/// How quickly a blend learns.
const RATE: i32 = 16;

/// What contexts and predictor have together made of a bit, mixed once more with what the predictor says alone: where it knows nearly all, the
/// rest is noise.
pub struct Blend {
    mixer: Mixer<INPUTS>,
    inputs: [i32; INPUTS],
}

impl Blend {
    /// Half of each.
    pub fn new() -> Self {
        let mut mixer = Mixer::new(1, 0);
        (0..2).for_each(|input| mixer.set_weight(input, ONE / 2));
        Self { mixer, inputs: [0; INPUTS] }
    }

    /// The probability of a one in units of 2⁻¹⁶, of the one so far and the predictor's log odds.
    pub fn refine(&mut self, p: u32, odds: i16, logistic: &Logistic) -> u32 {
        self.inputs[0] = i32::from(logistic.stretch(p.min(65_535) as u16));
        self.inputs[1] = i32::from(odds);
        self.mixer.mix::<Scalar>(&self.inputs, 0, logistic);
        ((p + 3 * u32::from(self.mixer.p()) + 2) >> 2).clamp(1, 65_535)
    }

    /// Learns the bit that came.
    pub fn learn(&mut self, bit: u32) {
        self.mixer.learn::<Scalar>(&self.inputs, bit, RATE);
    }
}
