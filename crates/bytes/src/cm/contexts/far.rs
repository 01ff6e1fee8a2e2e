//! What reaches further than the last bytes and words: what followed whom, names of brackets, heads of lines, ends of words.

use crate::transform::words::{CAPITAL, UPPER, code_length, rank_of};

/// What reaches further.
#[derive(Clone)]
pub struct Far {
    /// The bytes that followed each byte, and each pair of bytes, the latest lowest.
    pub(super) follow1: Vec<u32>,
    pub(super) follow2: Vec<u32>,
    /// Hash of the first word of the line, and of the one of the line before.
    pub(super) heads: [u32; 2],
    /// Hash of the name behind the last `<`, `[` or `{` that stands open, and whether it is still being spelt.
    pub(super) names: Vec<u32>,
    spelling: bool,
    /// Hash of the bytes so far with all digits the same.
    pub(super) shape: u32,
    /// The last twelve bytes, further back than `c8`.
    pub(super) c12: u32,
    /// Letters of the word so far.
    pub letters: u32,
    /// Hash of the number before, and bytes since.
    pub(super) number: u32,
    pub(super) digits: u32,
    /// Hash of the words since the last full stop, regardless of order.
    pub(super) sentence: u32,
    /// Lines of the list of words that are still to come, and the ends of those that came (their last four letters).
    listed: usize,
    endings: Vec<u32>,
    /// The bytes of the code so far.
    coding: (usize, u32),
    /// The ends of the word so far and of those before.
    pub(super) ends: [u32; 4],
    /// What stood before the last words: the latest lowest, two bits each.
    pub(super) marks: u32,
    /// Hash of the name that was closed last.
    pub(super) closed: u32,
}

impl Default for Far {
    fn default() -> Self {
        Self {
            follow1: vec![0; 1 << 8],
            follow2: vec![0; 1 << 16],
            heads: [0; 2],
            names: Vec::new(),
            spelling: false,
            shape: 0,
            c12: 0,
            letters: 0,
            number: 0,
            digits: 0,
            sentence: 0,
            listed: 0,
            endings: Vec::new(),
            coding: (0, 0),
            ends: [0; 4],
            marks: 0,
            closed: 0,
        }
    }
}

/// Brackets that are remembered at once.
const DEEPEST: usize = 64;

impl Far {
    /// For data that begins with a list of so many words.
    pub fn new(listed: usize) -> Self {
        Self { listed, ..Self::default() }
    }

    /// Takes a byte; `c4` and `c8` hold it already.
    #[inline(always)]
    pub(super) fn push(&mut self, byte: u8, c4: u32, c8: u32, words: [u32; 4], begins: bool, column: u32) {
        let one = (c4 >> 8 & 0xFF) as usize;
        let two = (c4 >> 8 & 0xFFFF) as usize;
        self.follow1[one] = self.follow1[one] << 8 | u32::from(byte);
        self.follow2[two] = self.follow2[two] << 8 | u32::from(byte);
        self.c12 = self.c12 << 8 | c8 >> 24;
        let letter = byte.is_ascii_alphabetic();
        if begins {
            self.ends = [0, self.ends[0], self.ends[1], self.ends[2]];
            self.letters = 0;
        }
        self.end(byte, letter);
        match byte {
            CAPITAL | UPPER => self.marks = self.marks << 2 | u32::from(byte - 1),
            b' ' => self.marks <<= 2,
            _ => {}
        }
        self.letters = if letter || byte >= 128 { self.letters.saturating_add(1) } else { 0 };
        if byte.is_ascii_digit() {
            self.digits = self.digits.wrapping_add(u32::from(byte)).wrapping_mul(0x2F0B_4C47);
        } else if self.digits != 0 {
            self.number = self.digits;
            self.digits = 0;
        }
        let shaped = if byte.is_ascii_digit() { b'0' } else { byte };
        self.shape = self.shape.wrapping_add(u32::from(shaped)).wrapping_mul(0x2F0B_4C70);
        if column == 0 {
            self.heads = [0, self.heads[0]];
        }
        if self.heads[0] == 0 && begins {
            self.heads[0] = words[1];
        }
        match byte {
            b'<' | b'[' | b'{' | b'(' => {
                if self.names.len() == DEEPEST {
                    self.names.remove(0);
                }
                self.names.push(u32::from(byte));
                self.spelling = true;
            }
            b'>' | b']' | b'}' | b')' => {
                self.closed = self.names.pop().unwrap_or(0);
                self.spelling = false;
            }
            b' ' | b'\n' | b'|' | b'=' | b':' => self.spelling = false,
            _ => {}
        }
        if self.spelling
            && let Some(name) = self.names.last_mut()
        {
            *name = name.wrapping_add(u32::from(byte)).wrapping_mul(0x3D4D_51CB);
        }
        match byte {
            b'.' | b'\n' => self.sentence = 0,
            _ if begins => self.sentence = self.sentence.wrapping_add(words[1].wrapping_mul(0x9E37_79B1)),
            _ => {}
        }
    }

    /// How the word so far ends; a code's word is looked up in the list.
    #[inline(always)]
    fn end(&mut self, byte: u8, letter: bool) {
        if self.listed > 0 {
            if byte == b'\n' {
                self.endings.push(self.ends[0]);
                self.ends[0] = 0;
                self.listed -= 1;
            } else {
                self.ends[0] = self.ends[0] << 8 | u32::from(byte);
            }
            return;
        }
        let (left, value) = self.coding;
        if left == 0 && byte < 128 {
            if letter {
                self.ends[0] = self.ends[0] << 8 | u32::from(byte);
            }
            return;
        }
        let (left, value) = if left == 0 {
            (usize::from(code_length(byte)) - 1, u32::from(byte))
        } else {
            (left - 1, value << 8 | u32::from(byte))
        };
        self.coding = (left, value);
        if left == 0 {
            self.ends[0] = rank_of(value).and_then(|rank| self.endings.get(rank)).copied().unwrap_or(value);
        }
    }

    pub(super) fn name(&self) -> u32 {
        self.names.last().copied().unwrap_or(0)
    }
}
