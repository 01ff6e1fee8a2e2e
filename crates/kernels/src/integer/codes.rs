//! How codes lie in a block of 32 k × 16 outputs.
//!
//! A *group* is four consecutive k of sixteen outputs, 64 codes; a *line* is 64 bytes. Codes of `b` bits are cut into
//! planes whose widths are the powers of two that make up `b`: 5 = 4 + 1, lowest bits first. A plane of width `w` packs
//! `8 / w` groups into a line, the first in the lowest bits; its lines follow each other, and so do the planes. So `b` lines
//! hold a block, whatever `b` is, and a shift and a mask for each plane give a group.
//!
//! Where eight weights share a codeword of a [`Codebook`], a line holds the indices, four of every output, and a plane of one
//! bit the signs. Level and sign of a weight make three bits, which a table turns into its code, 64 too high.

use super::activations::BLOCK;
use super::lanes::Lanes;
use super::pack::Codes;
use std::sync::Arc;

/// Sixteen steps that four-bit codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steps {
    /// Those of IQ4_NL and IQ4_XS.
    Iq4,
    /// Twice the four-bit floats (E2M1) of MXFP4.
    Mxfp4,
}

const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const MXFP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Steps {
    /// The sixteen steps.
    pub const fn values(self) -> [i8; 16] {
        match self {
            Steps::Iq4 => IQ4,
            Steps::Mxfp4 => MXFP4,
        }
    }
}

/// The 256 codewords of IQ2_XXS: the magnitudes of eight weights each.
#[derive(Clone)]
pub struct Codebook(Arc<Book>);

/// A [`Codebook`] as the kernels read it. Levels number the magnitudes that there are: two bits each.
#[repr(C, align(64))]
pub(super) struct Book {
    /// Levels of weights 0..4 of every word, the first in the lowest bits; of weights 4..8.
    pub halves: [[u8; 256]; 2],
    /// Code of a level in the lowest two bits and its sign in bit 2, 3, 4 or 5, whatever the others.
    pub codes: [[u8; 64]; 4],
    /// The same words for a gather: byte i has the level of weight i in its low half, of weight 4 + i in its high one.
    pub words: [u32; 256],
}

impl Codebook {
    /// From the magnitudes.
    ///
    /// # Panics
    /// If there are more than four different ones, or one is above 63.
    pub fn new(words: &[[u8; 8]; 256]) -> Codebook {
        let mut levels: Vec<u8> = words.as_flattened().to_vec();
        levels.sort_unstable();
        levels.dedup();
        assert!(levels.len() <= 4 && levels.iter().all(|&m| m < 64), "magnitudes {levels:?}: not four below 64");
        levels.resize(4, 0);
        let level = |m: u8| levels.iter().position(|&l| l == m).unwrap_or(0) as u8;
        let half = |four: &[u8]| four.iter().rev().fold(0, |byte, &m| byte << 2 | level(m));
        Codebook(Arc::new(Book {
            halves: [0, 4].map(|from| words.map(|word| half(&word[from..from + 4]))),
            codes: [4, 8, 16, 32].map(|sign| {
                std::array::from_fn(|i| if i & sign == 0 { 64 + levels[i & 3] } else { 64 - levels[i & 3] })
            }),
            words: words
                .map(|word| u32::from_le_bytes(std::array::from_fn(|i| level(word[i]) | level(word[4 + i]) << 4))),
        }))
    }

    /// Weight `i` of word `index`.
    pub(super) fn magnitude(&self, index: u8, i: usize) -> i8 {
        let level = self.0.halves[i / 4][usize::from(index)] >> (i % 4 * 2) & 3;
        self.0.codes[0][usize::from(level)] as i8 - 64
    }
}

/// Which bit of the signs is for group `g`: those of two groups with a common word are four apart.
pub(super) const fn sign_bit(g: usize) -> u32 {
    (g / 2 + g % 2 * 4) as u32
}

/// A layout of codes as the kernels read it.
pub(super) trait CodeLayout: Copy {
    /// Bits of a stored code, and lines of a block.
    const BITS: u32;
    /// Whether the groups of a block are looked up in a codebook, all of them at once where that is better.
    const WORDS: bool = false;
    /// A layout with a codebook finds it in `book`.
    fn new(book: Option<&Codebook>) -> Self;
    /// The `G`th group of a block.
    unsafe fn group<L: Lanes, const G: usize>(self, block: *const u8) -> L::C;
    /// All groups.
    #[inline(always)]
    unsafe fn codes<L: Lanes>(self, p: *const u8) -> [L::C; 8] {
        unsafe {
            [
                self.group::<L, 0>(p),
                self.group::<L, 1>(p),
                self.group::<L, 2>(p),
                self.group::<L, 3>(p),
                self.group::<L, 4>(p),
                self.group::<L, 5>(p),
                self.group::<L, 6>(p),
                self.group::<L, 7>(p),
            ]
        }
    }
}

/// Codes of `BITS` bits as they are; eight bits are signed bytes, held 128 too high.
#[derive(Clone, Copy)]
pub(super) struct Planes<const BITS: u32>;

impl<const BITS: u32> CodeLayout for Planes<BITS> {
    const BITS: u32 = BITS;

    fn new(_book: Option<&Codebook>) -> Self {
        Planes
    }

    #[inline(always)]
    unsafe fn group<L: Lanes, const G: usize>(self, block: *const u8) -> L::C {
        // SAFETY: as the caller promised; there is at least one plane.
        unsafe {
            if BITS == 8 {
                return L::byte_codes(L::codes(block.add(64 * G)));
            }
            let (four, two, one) = (BITS & 4, BITS & 2, BITS & 1);
            let mut code = None;
            if four != 0 {
                code = Some(L::bits(L::codes(block.add(G / 2 * 64)), (G % 2) as u32 * 4, 0, 4));
            }
            if two != 0 {
                let line = L::codes(block.add((four as usize + G / 4) * 64));
                code = Some(join::<L>(code, L::bits(line, (G % 4) as u32 * 2, four, 2)));
            }
            if one != 0 {
                let line = L::codes(block.add((four + two) as usize * 64));
                code = Some(join::<L>(code, L::bits(line, G as u32, four + two, 1)));
            }
            code.unwrap_unchecked()
        }
    }
}

#[inline(always)]
unsafe fn join<L: Lanes>(low: Option<L::C>, high: L::C) -> L::C {
    match low {
        // SAFETY: as the caller promised.
        Some(low) => unsafe { L::or(low, high) },
        None => high,
    }
}

/// Four-bit codes that stand for the [`Steps`] number `STEPS`: those of IQ4 as eight-bit codes, those of MXFP4 as five-bit ones.
#[derive(Clone, Copy)]
pub(super) struct Table<const STEPS: usize>;

impl<const STEPS: usize> Table<STEPS> {
    const SIGNED: [u8; 16] = Self::bytes(if STEPS == Steps::Iq4 as usize { 0 } else { 16 });
    const OFFSET: [u8; 16] = Self::bytes(if STEPS == Steps::Iq4 as usize { 0x80 } else { 16 });

    const fn bytes(above: u8) -> [u8; 16] {
        let values = if STEPS == Steps::Iq4 as usize { IQ4 } else { MXFP4 };
        let (mut bytes, mut i) = ([0; 16], 0);
        while i < 16 {
            bytes[i] = (values[i] as u8).wrapping_add(above);
            i += 1;
        }
        bytes
    }
}

impl<const STEPS: usize> CodeLayout for Table<STEPS> {
    const BITS: u32 = 4;

    fn new(_book: Option<&Codebook>) -> Self {
        Table
    }

    #[inline(always)]
    unsafe fn group<L: Lanes, const G: usize>(self, block: *const u8) -> L::C {
        // SAFETY: as the caller promised.
        unsafe {
            let table = if L::BYTE_OFFSET { &Self::OFFSET } else { &Self::SIGNED };
            L::look_up(Planes::<4>.group::<L, G>(block), table)
        }
    }
}

/// Indices into a [`Codebook`] and signs, as seven-bit codes.
#[derive(Clone, Copy)]
pub(super) struct Words(*const Book);

impl CodeLayout for Words {
    const BITS: u32 = 2;
    const WORDS: bool = true;

    fn new(book: Option<&Codebook>) -> Self {
        // A panel without a book is never read.
        Words(book.map_or(std::ptr::null(), |book| Arc::as_ptr(&book.0)))
    }

    #[inline(always)]
    unsafe fn group<L: Lanes, const G: usize>(self, block: *const u8) -> L::C {
        // SAFETY: as the caller promised; all bytes are indices of words.
        unsafe { L::codeword::<G>(L::codes(block), L::codes(block.add(64)), &*self.0) }
    }
}

/// Bytes of a block.
pub(super) const fn block_bytes(bits: u32) -> usize {
    64 * bits as usize
}

/// The planes of `bits` as (width, bits below, lines before).
fn planes(bits: u32) -> impl Iterator<Item = (u32, u32, usize)> {
    let mut below = 0;
    [8, 4, 2, 1].into_iter().filter(move |width| bits & width != 0).map(move |width| {
        below += width;
        (width, below - width, (below - width) as usize)
    })
}

/// Packs one block of sixteen rows into zeroed bytes.
pub(super) fn put(bits: u32, codes: &Codes, block: usize, to: &mut [u8]) {
    for (width, below, lines) in planes(bits) {
        let per_line = 8 / width as usize;
        for g in 0..BLOCK / 4 {
            let line = &mut to[64 * (lines + g / per_line)..][..64];
            for (to, code) in line.iter_mut().zip(codes.group(8 * block + g)) {
                let part = u32::from(code) >> below & ((1 << width) - 1);
                *to |= (part << ((g % per_line) as u32 * width)) as u8;
            }
        }
    }
}

/// The code of column `k` of a block.
pub(super) fn get(bits: u32, block: &[u8], lane: usize, k: usize) -> u8 {
    let mut code = 0;
    for (width, below, lines) in planes(bits) {
        let (per_line, g) = (8 / width as usize, k / 4);
        let byte = block[64 * (lines + g / per_line) + lane * 4 + k % 4];
        let part = u32::from(byte) >> ((g % per_line) as u32 * width) & ((1 << width) - 1);
        code |= part << below;
    }
    code as u8
}

/// Packs one block of [`Words`]: of every eight columns the first has the index, the second the signs.
pub(super) fn put_words(codes: &Codes, block: usize, to: &mut [u8]) {
    for lane in 0..16 {
        let row = &codes.lane(lane)[block * BLOCK..][..BLOCK];
        for k in 0..BLOCK {
            to[lane * 4 + k / 8] = row[k / 8 * 8];
            to[64 + lane * 4 + k % 4] |= (row[k / 8 * 8 + 1] >> (k % 8) & 1) << sign_bit(k / 4);
        }
    }
}

/// The weight of column `k` of a block of [`Words`].
pub(super) fn get_word(book: &Codebook, block: &[u8], lane: usize, k: usize) -> i8 {
    let magnitude = book.magnitude(block[lane * 4 + k / 8], k % 8);
    if block[64 + lane * 4 + k % 4] >> sign_bit(k / 4) & 1 == 1 { -magnitude } else { magnitude }
}
