//! Which contexts a byte is predicted in.

use crate::transform::words::code_length;

/// What contexts are made of: the bytes before, and what they say of words and lines.
#[derive(Clone, Default)]
pub struct Recent {
    /// The last four bytes, the latest lowest.
    pub c4: u32,
    /// The four before them.
    pub c8: u32,
    /// Hash of the word so far (0 between words) and of the words before it.
    pub words: [u32; 4],
    /// What kinds of bytes came, four bits each, the latest lowest.
    pub kinds: u64,
    /// Hash of how the line began.
    pub line_start: u32,
    /// Position in the line.
    pub column: u32,
    /// Position in memory where the line before began, and where this one did.
    pub lines: [usize; 2],
    /// The byte above.
    pub above: u32,
    /// The length of a record (0: none), the position in it, the bytes at this place of the last two records and the one behind.
    pub record: usize,
    pub field: usize,
    pub earlier: [u32; 3],
    /// The latest bracket that stands open.
    pub bracket: u32,
    /// Bytes of a word's code that are still to come.
    pub code: u8,
    /// Whether the last byte ended a code.
    pub coded: bool,
}

/// Classes of bytes for the history of kinds.
const fn kind(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        b'0'..=b'9' => 3,
        b' ' => 4,
        b'\n' => 5,
        b'.' | b',' | b';' | b':' | b'!' | b'?' => 6,
        b'[' | b'(' | b'{' | b'<' => 7,
        b']' | b')' | b'}' | b'>' => 8,
        b'"' | b'\'' => 9,
        b'=' | b'|' | b'*' | b'#' | b'&' | b'/' | b'-' | b'_' => 10,
        128..=215 => 11,
        216.. => 12,
        0..=8 => 13,
        _ => 14,
    }
}

static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = kind(byte as u8);
        byte += 1;
    }
    kinds
};

impl Recent {
    /// Takes a byte; `at` is the position behind it.
    #[inline(always)]
    pub fn push(&mut self, byte: u8, bytes: &[u8], start: usize, at: usize) {
        self.c8 = self.c8 << 8 | self.c4 >> 24;
        self.c4 = self.c4 << 8 | u32::from(byte);
        self.kinds = self.kinds << 4 | u64::from(KINDS[usize::from(byte)]);
        let letter = byte.is_ascii_alphabetic();
        // A code is a word by itself, with or without a space before and behind it.
        let begins = self.code == 0 && (!letter || self.coded);
        if begins && self.words[0] != 0 {
            self.words = [0, self.words[0], self.words[1], self.words[2]];
        }
        if self.code > 0 || byte >= 128 || letter {
            self.words[0] = (self.words[0].wrapping_add(u32::from(byte)).wrapping_add(1)).wrapping_mul(0x3D4D_51CB);
        }
        self.code = if self.code > 0 { self.code - 1 } else { code_length(byte).saturating_sub(1) };
        self.coded = byte >= 128 && self.code == 0;
        match byte {
            b'[' | b'(' | b'{' | b'<' => self.bracket = u32::from(byte),
            b']' | b')' | b'}' | b'>' | b'\n' => self.bracket = 0,
            _ => {}
        }
        self.column += 1;
        if byte == b'\n' {
            self.lines = [self.lines[1], at];
            self.column = 0;
            self.line_start = 0;
        } else if self.column <= 3 {
            self.line_start = self.line_start << 8 | u32::from(byte);
        }
        let above = self.lines[0] + self.column as usize;
        self.above = if above < self.lines[1] { bytes.get(above).map_or(0, |&b| u32::from(b)) } else { 0 };
        if self.record > 0 {
            self.field = if self.field + 1 == self.record { 0 } else { self.field + 1 };
            let back = |distance: usize| {
                let place = at.checked_sub(distance).filter(|&place| place >= start);
                place.and_then(|place| bytes.get(place)).map_or(0, |&b| u32::from(b))
            };
            self.earlier = [back(self.record), back(2 * self.record), back(self.record - 1)];
        }
    }
}

/// A set of contexts, in banks of sixteen.
pub trait Contexts<const B: usize>: Copy {
    /// Hashes of the contexts of the next byte, one for each.
    fn hashes(recent: &Recent, expected: u32, out: &mut [[u64; 16]; B]);
    /// Sets of weights of the last mixer (below 256) and of the third to fifth (below 4,096, 256 and 2,048), and the context of the
    /// first map (below 16): fixed during a byte.
    fn sets(recent: &Recent) -> [usize; 5];
}

/// Contexts of text whose words may have become codes.
#[derive(Clone, Copy)]
pub struct Text;

#[inline(always)]
fn hash2(a: u32, b: u32) -> u64 {
    (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Text {
    #[inline(always)]
    fn first(r: &Recent, expected: u32) -> [u64; 16] {
        let c4 = r.c4;
        [
            hash2(0, c4 & 0xFF),
            hash2(0, c4 & 0xFFFF),
            hash2(0, c4 & 0xFF_FFFF),
            hash2(0, c4),
            hash2(r.c8 & 0xFF, c4),
            hash2(r.c8 & 0xFFFF, c4),
            hash2(r.words[0], 0x100),
            hash2(r.words[0], r.words[1]),
            hash2(r.words[0] ^ r.words[1].rotate_left(9), r.words[2]),
            hash2(r.words[0].wrapping_add(1), r.words[2]),
            hash2(c4 & 0xFFFF_FF00, 0x200),
            hash2(r.line_start, c4 & 0xFF | r.above << 8 | 0x30000),
            hash2((r.kinds & 0xFFFF_FFFF) as u32, c4 & 0xFF),
            hash2(expected | r.bracket << 8, c4 & 0xFF),
            hash2(r.words[1], c4 & 0xFF),
            hash2(r.bracket, r.words[0]),
        ]
    }

    #[inline(always)]
    fn second(r: &Recent, expected: u32) -> [u64; 16] {
        let c4 = r.c4;
        let [w0, w1, w2, w3] = r.words;
        [
            hash2(r.c8 & 0xFF_FFFF, c4),
            hash2(r.c8, c4),
            hash2(w0 ^ w1.rotate_left(9), w2 ^ w3.rotate_left(7)),
            hash2(w0.wrapping_add(2), w3),
            hash2(w1, w2.wrapping_add(3)),
            hash2(w1 ^ w3.rotate_left(5), w0.wrapping_add(5)),
            hash2(c4 & 0xFF00_FF00, 0x300),
            hash2(c4 & 0xFFFF_0000, 0x400),
            hash2(c4 & 0xFFFF_FF00, r.c8 & 0xFF | 0x500),
            hash2(r.line_start, w0.wrapping_add(6)),
            hash2(r.bracket | 0x700, c4 & 0xFFFF),
            hash2((r.kinds >> 32) as u32, (r.kinds & 0xFFFF_FFFF) as u32),
            hash2(expected | 0x800, c4 & 0xFFFF),
            hash2(r.above | r.column.min(255) << 8 | 0x9_0000, 0),
            hash2(c4 & 0xF0FF_F0FF, w1),
            hash2(w0.wrapping_add(7), expected | r.bracket << 8),
        ]
    }

    #[inline(always)]
    fn sets(r: &Recent) -> [usize; 5] {
        let word = usize::from(r.code) * 2 + usize::from(r.coded);
        let state = word << 8 | (r.kinds & 0xF0) as usize | (r.bracket & 15) as usize;
        [(r.kinds & 0xFF) as usize, (r.kinds & 0xFFF) as usize, (r.c4 & 0xFF) as usize, state, (r.kinds & 0xF) as usize]
    }
}

impl Contexts<1> for Text {
    #[inline(always)]
    fn hashes(r: &Recent, expected: u32, out: &mut [[u64; 16]; 1]) {
        *out = [Self::first(r, expected)];
    }

    #[inline(always)]
    fn sets(r: &Recent) -> [usize; 5] {
        Self::sets(r)
    }
}

impl Contexts<2> for Text {
    #[inline(always)]
    fn hashes(r: &Recent, expected: u32, out: &mut [[u64; 16]; 2]) {
        *out = [Self::first(r, expected), Self::second(r, expected)];
    }

    #[inline(always)]
    fn sets(r: &Recent) -> [usize; 5] {
        Self::sets(r)
    }
}

/// Contexts of anything else.
#[derive(Clone, Copy)]
pub struct Plain;

impl Plain {
    #[inline(always)]
    fn first(r: &Recent, expected: u32) -> [u64; 16] {
        let c4 = r.c4;
        let [above, above2, beside] = r.earlier;
        let field = r.field as u32;
        [
            hash2(0, c4 & 0xFF),
            hash2(0, c4 & 0xFFFF),
            hash2(0, c4 & 0xFF_FFFF),
            hash2(0, c4),
            hash2(r.c8 & 0xFFFF, c4),
            hash2(r.words[0], c4 & 0xFF),
            hash2(c4 & 0xFF00, 0x100),
            hash2(c4 & 0xFF_FF00, 0x200),
            hash2(c4 & 0xFF00_FF00, 0x300),
            hash2(c4 & 0xF0F0_F0F0, r.c8 & 0xF0F0),
            hash2(above << 8 | c4 & 0xFF, field),
            hash2(above << 8 | above2, 0x1_0000),
            hash2(field, 0x2_0000 | c4 & 0xFF),
            hash2(above << 16 | beside << 8 | c4 & 0xFF, 0x3_0000),
            hash2(c4 & 0xFFFF_F8F8, 0x400),
            hash2(expected, 0),
        ]
    }

    #[inline(always)]
    fn second(r: &Recent, expected: u32) -> [u64; 16] {
        let c4 = r.c4;
        let [above, above2, beside] = r.earlier;
        let field = r.field as u32;
        [
            hash2(r.c8 & 0xFF, c4),
            hash2(r.c8 & 0xFF_FFFF, c4),
            hash2(r.words[0], r.words[1]),
            hash2(c4 & 0xFFFF_0000, 0x500),
            hash2(c4 & 0xFF_0000, 0x600),
            hash2(c4 & 0xFF00_0000, 0x700),
            hash2(c4 & 0xFFFF_FF00, r.c8 & 0xFF),
            hash2(c4 & 0xFF_00FF, 0x800),
            hash2(c4 & 0xFF00_00FF, 0x900),
            hash2(above << 24 | c4 & 0xFFFF, 0xA00),
            hash2(above << 16 | above2 << 8 | c4 & 0xFF, field),
            hash2(above.wrapping_sub(above2) & 0xFF | beside << 8, c4 & 0xFF | 0xB00),
            hash2((above + (c4 & 0xFF)).wrapping_sub(beside) & 0x1FF, 0xC00),
            hash2((r.kinds & 0xFFFF_FFFF) as u32, 0xD00),
            hash2(c4 & 0xF0F0_F0F0, r.c8 & 0xF0F0_F0F0),
            hash2(expected | 0xE00, c4 & 0xFF),
        ]
    }

    #[inline(always)]
    fn sets(r: &Recent) -> [usize; 5] {
        let c1 = (r.c4 & 0xFF) as usize;
        let field = if r.record > 0 { r.field & 0xFF } else { 0 };
        [field, (r.earlier[0] >> 4 << 8) as usize | c1, c1, field << 3 | (r.c4 >> 13 & 7) as usize, c1 >> 4]
    }
}

impl Contexts<1> for Plain {
    #[inline(always)]
    fn hashes(r: &Recent, expected: u32, out: &mut [[u64; 16]; 1]) {
        *out = [Self::first(r, expected)];
    }

    #[inline(always)]
    fn sets(r: &Recent) -> [usize; 5] {
        Self::sets(r)
    }
}

impl Contexts<2> for Plain {
    #[inline(always)]
    fn hashes(r: &Recent, expected: u32, out: &mut [[u64; 16]; 2]) {
        *out = [Self::first(r, expected), Self::second(r, expected)];
    }

    #[inline(always)]
    fn sets(r: &Recent) -> [usize; 5] {
        Self::sets(r)
    }
}
