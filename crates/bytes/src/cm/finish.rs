//! The last step: the mixed probability is corrected by what came when it was much the same before.
//!
//! Secondary maps correct it in contexts; what they say is averaged. (Those of the widest models learn the less the more they
//! have seen.) The richer models then weigh it all once more, by weights that the bits of the byte so far choose, and give a quarter to what [denoising](brevity_coding::denoise) makes of it. (Alone, the denoised probability is
//! worse than what goes in: a mixture that is calibrated already leaves little but the noise of its counts.)

use brevity_coding::apm::{Apm, Point};
use brevity_coding::counter::{Bit, Counter, Rates};
use brevity_coding::denoise::Denoiser;
use brevity_coding::logistic::Logistic;
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::simd::Scalar;

/// Maps, at most.
pub const MAPS: usize = 5;
/// Two bits of a byte are asked for together: their three contexts stand side by side, the first bit's and one for each second bit.
const GROUP: usize = 3;
/// Groups of a byte that is predicted in a single context: 1, 4, 16 and 64.
pub const GROUPS_OF_A_BYTE: usize = 85;
/// log₂ of the groups of a map whose contexts are hashed.
pub const GROUPS_BITS: u32 = 15;

/// Groups of each map; the plain models have the first, and the two that are hashed.
fn groups(effort: Effort) -> Vec<usize> {
    let byte = 256 * GROUPS_OF_A_BYTE;
    match effort {
        Effort::Plain => vec![16 * GROUPS_OF_A_BYTE, 1 << GROUPS_BITS, 1 << GROUPS_BITS],
        Effort::Rich => vec![16 * GROUPS_OF_A_BYTE, byte, 1 << GROUPS_BITS, byte, 1 << GROUPS_BITS],
        Effort::Fine { bits } => vec![16 * GROUPS_OF_A_BYTE, byte, 1 << bits, byte, 1 << bits],
    }
}

/// How much is done: by the plain models, by those with runs, and by the widest, where hashes have so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    Plain,
    Rich,
    Fine { bits: u32 },
}

/// Nodes of the tree of a byte: all of the first three bits, four for each later one.
const NODES: usize = 7 + 4 * 5;
/// How many of the contexts of order one to six are known, in three steps.
const ORDERS: usize = 3;
/// Kinds of the last byte: letter, digit, space, anything else.
const SHAPES: usize = 4;

/// Where a bit stands.
#[derive(Clone, Copy)]
pub struct Moment {
    /// The bits of the byte so far behind a one.
    pub partial: u32,
    pub bits: u32,
    /// Of the contexts of one to six bytes, how many are known.
    pub order: usize,
    /// The kind of the last byte.
    pub kind: u8,
}

/// Weights that the rich models learn last.
struct Rich {
    mixer: Mixer<8>,
    inputs: [i32; 8],
    denoiser: Denoiser,
}

/// The maps, and what follows them.
pub struct Finish {
    maps: Vec<Apm<Bit<5>>>,
    /// In place of them in the widest models.
    fine: Vec<Apm<Counter>>,
    rich: Option<Box<Rich>>,
}

/// Bytes of it all.
pub fn memory(effort: Effort) -> u64 {
    let contexts = GROUP * groups(effort).iter().sum::<usize>();
    let denoiser = Denoiser::memory(NODES * ORDERS * SHAPES);
    match effort {
        Effort::Plain => Apm::<Bit<5>>::memory(contexts),
        Effort::Rich => Apm::<Bit<5>>::memory(contexts) + denoiser,
        Effort::Fine { .. } => Apm::<Counter>::memory(contexts) + denoiser,
    }
}

fn maps<P: Point>(groups: &[usize]) -> Vec<Apm<P>> {
    groups.iter().map(|&groups| Apm::new(GROUP * groups)).collect()
}

impl Finish {
    /// Nothing corrected.
    pub fn new(effort: Effort) -> Self {
        let weighing = || Rich {
            mixer: Mixer::new(256, ONE / (MAPS as i32 + 2)),
            inputs: [0; 8],
            denoiser: Denoiser::new(NODES * ORDERS * SHAPES),
        };
        let groups = groups(effort);
        let [quick, fine] = if matches!(effort, Effort::Fine { .. }) { [&[], &groups[..]] } else { [&groups[..], &[]] };
        Self { maps: maps(quick), fine: maps(fine), rich: (effort != Effort::Plain).then(|| Box::new(weighing())) }
    }

    /// Asks for the memory of two bits ahead of [`Finish::refine`]. Whether the maps are fine is asked for as a constant.
    #[inline(always)]
    pub fn prefetch(&self, is_fine: bool, groups: &[usize; MAPS]) {
        fn all<P: Point>(maps: &[Apm<P>], groups: &[usize; MAPS]) {
            for (map, group) in maps.iter().zip(groups).skip(1) {
                (0..GROUP).for_each(|node| map.prefetch(GROUP * group + node));
            }
        }
        if is_fine {
            all(&self.fine, groups);
        } else {
            all(&self.maps, groups);
        }
    }

    /// The probability `p` (units of 2⁻¹⁶) corrected; `mixed` are its log-odds, `first` those that the first map takes.
    #[inline(always)]
    pub fn refine(
        &mut self,
        is_fine: bool,
        p: u32,
        (first, mixed): (i32, i32),
        groups: &[usize; MAPS],
        moment: Moment,
        logistic: &Logistic,
    ) -> u32 {
        let mut refined = [0; MAPS];
        let node = if moment.bits & 1 == 0 { 0 } else { 1 + (moment.partial & 1) as usize };
        let at = |i: usize| (if i == 0 { first } else { mixed }, GROUP * groups[i] + node);
        if is_fine {
            refine(&mut self.fine, &mut refined, at);
        } else {
            refine(&mut self.maps, &mut refined, at);
        }
        let [a, b, c, d, e] = refined;
        let Some(rich) = &mut self.rich else { return (2 * p + 2 * a + 2 * b + 2 * c + 4) >> 3 };
        let p = (p + a + 2 * b + 2 * c + d + e + 4) >> 3;
        let stretch = |p: u32| i32::from(logistic.stretch(p.min(65_535) as u16));
        rich.inputs[0] = mixed;
        rich.inputs[1..].iter_mut().zip(refined).for_each(|(input, refined)| *input = stretch(refined));
        rich.inputs[MAPS + 1] = stretch(p);
        rich.mixer.mix::<Scalar>(&rich.inputs, moment.partial as usize, logistic);
        let p = ((p + u32::from(rich.mixer.p())) >> 1).clamp(1, 65_535);
        let denoised = u32::from(rich.denoiser.refine(p as u16, moment.context(), logistic));
        ((3 * p + denoised) >> 2).clamp(1, 65_535)
    }

    /// Learns the bit that came after the last [`Finish::refine`].
    #[inline(always)]
    pub fn learn(&mut self, is_fine: bool, bit: u32, rates: Rates) {
        if is_fine {
            self.fine.iter_mut().for_each(|map| map.learn(bit, rates));
        } else {
            self.maps.iter_mut().for_each(|map| map.learn(bit, rates));
        }
        if let Some(rich) = &mut self.rich {
            rich.mixer.learn::<Scalar>(&rich.inputs, bit, 4);
            rich.denoiser.learn(bit);
        }
    }
}

/// What each map says of its log-odds in its context.
#[inline(always)]
fn refine<P: Point>(maps: &mut [Apm<P>], refined: &mut [u32; MAPS], at: impl Fn(usize) -> (i32, usize)) {
    for (i, (refined, map)) in refined.iter_mut().zip(maps).enumerate() {
        let (odds, context) = at(i);
        *refined = u32::from(map.refine(odds, context));
    }
}

impl Moment {
    /// The context of denoising.
    #[inline(always)]
    fn context(self) -> usize {
        let (partial, bits) = (self.partial as usize, self.bits as usize);
        let node = if bits < 3 { partial - 1 } else { 7 + (bits - 3) * 4 + (partial >> (bits - 2) & 3) };
        let shape = match self.kind {
            1 | 2 => 0,
            3 => 1,
            4 | 5 => 2,
            _ => 3,
        };
        (node * SHAPES + shape) * ORDERS + (self.order / 2).min(ORDERS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_has_a_context_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for bits in 0..8 {
            for partial in 1 << bits..2 << bits {
                for (order, kind) in [(0, 1), (3, 3), (6, 14)] {
                    let context = Moment { partial, bits, order, kind }.context();
                    assert!(context < NODES * ORDERS * SHAPES);
                    seen.insert(context);
                }
            }
        }
        assert_eq!(seen.len(), 3 * NODES);
    }

    #[test]
    fn a_wrong_probability_is_mended() {
        for effort in [Effort::Plain, Effort::Rich, Effort::Fine { bits: 10 }] {
            let (logistic, mut finish) = (Logistic::get(), Finish::new(effort));
            let fine = matches!(effort, Effort::Fine { .. });
            let moment = Moment { partial: 1, bits: 0, order: 2, kind: 1 };
            let mut p = 0;
            for n in 0..3000 {
                p = finish.refine(fine, 32_768, (0, 0), &[3; MAPS], moment, logistic);
                assert!((1..65_536).contains(&p));
                finish.learn(fine, u32::from(n % 10 > 0), Rates::get());
            }
            assert!(p > 50_000, "{p}");
        }
    }
}
