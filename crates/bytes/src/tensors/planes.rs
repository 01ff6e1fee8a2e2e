//! Numbers taken apart into planes of bytes, and put together again.
//!
//! A float is rotated to the left by one bit first, so that its sign comes last and its highest byte is the exponent (of BF16 and F32; of
//! F16 exponent and three bits of mantissa). Plane 0 holds the highest byte of each number, and so on. The parts of a block are planes each.

use super::kind::{Kind, Layout, Part};
use brevity_coding::simd::{Backend, Simd, Task, dispatch};

/// Bytes of each plane for `count` numbers or blocks.
pub fn sizes(kind: Kind, count: usize) -> Vec<usize> {
    match kind {
        Kind::Blocks(layout) => layout
            .parts()
            .iter()
            .flat_map(|part| match *part {
                Part::Half => vec![count; 2],
                Part::Bytes(bytes) => vec![bytes * count],
            })
            .collect(),
        _ => vec![count; kind.unit()],
    }
}

/// Takes numbers apart; `planes` become as many as there are.
pub fn split(kind: Kind, raw: &[u8], planes: &mut Vec<Vec<u8>>, backend: Backend) {
    let sizes = sizes(kind, raw.len() / kind.unit());
    planes.resize_with(sizes.len(), Vec::new);
    planes.iter_mut().zip(&sizes).for_each(|(plane, &size)| plane.resize(size, 0));
    match (kind, planes.as_mut_slice()) {
        (Kind::Blocks(layout), planes) => split_blocks(layout, raw, planes),
        (_, [only]) if kind == Kind::Float8 => {
            only.iter_mut().zip(raw).for_each(|(to, from)| *to = from.rotate_left(1));
        }
        (_, [only]) => only.copy_from_slice(raw),
        (_, [high, low]) => dispatch(backend, Split2 { raw, high, low, turn: u32::from(kind.is_float()) }),
        (_, [a, b, c, d]) => dispatch(backend, Split4 { raw, planes: [a, b, c, d], turn: u32::from(kind.is_float()) }),
        (_, planes) => split8(raw, planes, u32::from(kind.is_float())),
    }
}

struct Split2<'a> {
    raw: &'a [u8],
    high: &'a mut [u8],
    low: &'a mut [u8],
    turn: u32,
}

impl Task for Split2<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for ((two, high), low) in self.raw.as_chunks::<2>().0.iter().zip(self.high).zip(self.low) {
            let x = u16::from_le_bytes(*two).rotate_left(self.turn);
            *high = (x >> 8) as u8;
            *low = x as u8;
        }
    }
}

struct Split4<'a> {
    raw: &'a [u8],
    planes: [&'a mut [u8]; 4],
    turn: u32,
}

impl Task for Split4<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for (place, plane) in self.planes.into_iter().enumerate() {
            let shift = 24 - 8 * place as u32;
            for (four, to) in self.raw.as_chunks::<4>().0.iter().zip(plane) {
                *to = (u32::from_le_bytes(*four).rotate_left(self.turn) >> shift) as u8;
            }
        }
    }
}

fn split8(raw: &[u8], planes: &mut [Vec<u8>], turn: u32) {
    for (place, plane) in planes.iter_mut().enumerate() {
        for (eight, to) in raw.as_chunks::<8>().0.iter().zip(plane) {
            *to = u64::from_le_bytes(*eight).rotate_left(turn).to_be_bytes()[place & 7];
        }
    }
}

fn split_blocks(layout: &Layout, raw: &[u8], planes: &mut [Vec<u8>]) {
    for (index, block) in raw.chunks_exact(layout.bytes()).enumerate() {
        let (mut at, mut plane) = (0, 0);
        for part in layout.parts() {
            match *part {
                Part::Half => {
                    let x = u16::from_le_bytes([block[at], block[at + 1]]).rotate_left(1);
                    planes[plane][index] = (x >> 8) as u8;
                    planes[plane + 1][index] = x as u8;
                    (at, plane) = (at + 2, plane + 2);
                }
                Part::Bytes(bytes) => {
                    planes[plane][index * bytes..][..bytes].copy_from_slice(&block[at..at + bytes]);
                    (at, plane) = (at + bytes, plane + 1);
                }
            }
        }
    }
}

/// Puts numbers together; each plane has the bytes of [`sizes`].
pub fn merge(kind: Kind, planes: &[&[u8]], out: &mut [u8], backend: Backend) {
    let turn = u32::from(kind.is_float());
    match (kind, planes) {
        (Kind::Blocks(layout), planes) => merge_blocks(layout, planes, out),
        (_, [only]) if kind == Kind::Float8 => {
            out.iter_mut().zip(*only).for_each(|(to, from)| *to = from.rotate_right(1));
        }
        (_, [only]) => out.copy_from_slice(only),
        (_, &[high, low]) => dispatch(backend, Merge2 { high, low, out, turn }),
        (_, &[a, b, c, d]) => dispatch(backend, Merge4 { planes: [a, b, c, d], out, turn }),
        (_, planes) => {
            for (index, to) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let bytes = std::array::from_fn(|place| planes.get(place).map_or(0, |plane| plane[index]));
                *to = u64::from_be_bytes(bytes).rotate_right(turn).to_le_bytes();
            }
        }
    }
}

struct Merge2<'a> {
    high: &'a [u8],
    low: &'a [u8],
    out: &'a mut [u8],
    turn: u32,
}

impl Task for Merge2<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for ((two, high), low) in self.out.as_chunks_mut::<2>().0.iter_mut().zip(self.high).zip(self.low) {
            let x = u16::from(*high) << 8 | u16::from(*low);
            *two = x.rotate_right(self.turn).to_le_bytes();
        }
    }
}

struct Merge4<'a> {
    planes: [&'a [u8]; 4],
    out: &'a mut [u8],
    turn: u32,
}

impl Task for Merge4<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let [a, b, c, d] = self.planes;
        let low = b.iter().zip(c).zip(d);
        for ((four, a), ((b, c), d)) in self.out.as_chunks_mut::<4>().0.iter_mut().zip(a).zip(low) {
            let x = u32::from(*a) << 24 | u32::from(*b) << 16 | u32::from(*c) << 8 | u32::from(*d);
            *four = x.rotate_right(self.turn).to_le_bytes();
        }
    }
}

fn merge_blocks(layout: &Layout, planes: &[&[u8]], out: &mut [u8]) {
    for (index, block) in out.chunks_exact_mut(layout.bytes()).enumerate() {
        let (mut at, mut plane) = (0, 0);
        for part in layout.parts() {
            match *part {
                Part::Half => {
                    let x = u16::from(planes[plane][index]) << 8 | u16::from(planes[plane + 1][index]);
                    block[at..at + 2].copy_from_slice(&x.rotate_right(1).to_le_bytes());
                    (at, plane) = (at + 2, plane + 2);
                }
                Part::Bytes(bytes) => {
                    block[at..at + bytes].copy_from_slice(&planes[plane][index * bytes..][..bytes]);
                    (at, plane) = (at + bytes, plane + 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_on_every_backend() {
        let noise: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for kind in (0..=255).filter_map(Kind::of_code) {
            let count = 10_007 / kind.unit();
            let raw = &noise[..count * kind.unit()];
            let mut expected = Vec::new();
            split(kind, raw, &mut expected, Backend::Scalar);
            assert_eq!(expected.iter().map(Vec::len).collect::<Vec<_>>(), sizes(kind, count));
            for backend in [Backend::Scalar, Backend::Avx2, Backend::Avx512] {
                let mut planes = Vec::new();
                split(kind, raw, &mut planes, backend);
                assert_eq!(planes, expected, "{kind:?} {backend:?}");
                let mut out = vec![0; raw.len()];
                merge(kind, &planes.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out, backend);
                assert_eq!(out, raw, "{kind:?} {backend:?}");
            }
        }
    }

    #[test]
    fn the_highest_plane_of_bfloats_is_the_exponent() {
        let mut planes = Vec::new();
        let raw: Vec<u8> = [1.0f32, -2.0, 0.5].iter().flat_map(|x| [x.to_le_bytes()[2], x.to_le_bytes()[3]]).collect();
        split(Kind::Bfloat16, &raw, &mut planes, Backend::best());
        assert_eq!(planes, [vec![127, 128, 126], vec![0, 1, 0]]);
    }
}
