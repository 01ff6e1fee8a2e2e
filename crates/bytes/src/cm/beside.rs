//! A predictor of bytes that stands beside the contexts.

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
