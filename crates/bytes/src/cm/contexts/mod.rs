//! Which contexts a byte is predicted in.

mod far;
mod lines;
mod plain;
mod text;
mod wide;

pub use far::Far;
pub use wide::Wide;

use crate::transform::words::code_length;

/// Contexts of a bank.
pub const BANK: usize = 16;
/// A hash for each context, in banks.
pub type Hashes<const B: usize> = [[u64; BANK]; B];

/// As the length of a record: lines of values, no records.
pub const LINES: usize = 1;

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
    /// Where records are lines: hash of the line so far.
    pub value: u32,
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
    /// Whether this is text whose words may have become codes.
    pub text: bool,
    /// What is kept for the larger sets of contexts alone.
    pub far: Option<Box<Far>>,
    /// What is kept for the widest sets of contexts alone.
    pub wide: Option<Box<Wide>>,
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
        let ended = begins && self.words[0] != 0;
        if ended {
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
        if let Some(far) = &mut self.far {
            far.push(byte, self.c4, self.c8, self.words, begins && self.words[1] != 0, self.column);
        }
        if let Some(wide) = &mut self.wide {
            wide.push(byte, self.c4, self.words, ended);
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
        if self.record == LINES {
            let value = (self.value.wrapping_add(u32::from(byte)).wrapping_add(1)).wrapping_mul(0x2F0B_4C47);
            self.value = if byte == b'\n' { 0 } else { value };
        }
        if self.record > LINES {
            self.field = if self.field + 1 == self.record { 0 } else { self.field + 1 };
            let back = |distance: usize| {
                let place = at.checked_sub(distance).filter(|&place| place >= start);
                place.and_then(|place| bytes.get(place)).map_or(0, |&b| u32::from(b))
            };
            self.earlier = [back(self.record), back(2 * self.record), back(self.record - 1)];
        }
    }
}

/// What the matches say that contexts take up: the bytes they expect, the shortest match's first.
pub type Expected = [u32; 3];

/// Hashes of the contexts of the next byte: the first bank alone, or more.
#[inline(always)]
pub fn hashes<const B: usize>(r: &Recent, expected: Expected, out: &mut Hashes<B>) {
    let far = r.far.as_deref();
    let wide = r.wide.as_deref();
    let lines = r.record == LINES;
    for (bank, out) in out.iter_mut().enumerate() {
        *out = match (bank, r.text || lines, far, wide) {
            (0, true, _, _) if lines => lines::first(r, expected[0]),
            (0, true, _, _) => text::first(r, expected[0]),
            (1, true, _, _) => text::second(r, expected[0]),
            (2, true, Some(far), _) => text::third(r, far, expected),
            (3, true, Some(far), _) => text::fourth(r, far, expected),
            (4, true, _, Some(wide)) => text::fifth(r, wide),
            (5, true, Some(far), Some(wide)) => text::sixth(r, far, wide, expected),
            (_, true, _, _) => [0; BANK],
            (0, false, _, _) => plain::first(r, expected[0]),
            (1, false, _, _) => plain::second(r, expected[0]),
            (2, false, Some(far), _) => plain::third(r, far, expected),
            (3, false, Some(far), _) => plain::fourth(r, far, expected),
            (4, false, _, Some(wide)) => plain::fifth(r, wide, expected),
            (5, false, Some(far), Some(wide)) => plain::sixth(r, far, wide, expected),
            (_, false, _, _) => [0; BANK],
        };
    }
}

/// Sets of weights of the last mixer (below 256) and of the third to fifth (below 4,096, 256 and 2,048), and the context of the
/// first map (below 16): fixed during a byte.
#[inline(always)]
pub fn sets(r: &Recent) -> [usize; 5] {
    match (r.text, r.record) {
        (true, _) => text::sets(r),
        (false, LINES) => lines::sets(r),
        (false, _) => plain::sets(r),
    }
}

#[inline(always)]
fn hash2(a: u32, b: u32) -> u64 {
    (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
