//! What the widest models keep: words by what stands out of them, and what followed whom among words.

use crate::transform::words::{CAPITAL, UPPER};

/// log₂ of the contexts whose followers are remembered.
const FOLLOWERS: u32 = 16;

/// Words of a line that are remembered.
const LINE: usize = 1 << 10;

/// Words by their first letters, their consonants, their length, and the places they stand at.
#[derive(Clone)]
pub struct Wide {
    /// Hash of the consonants of the word so far, and of the one before.
    pub(super) bones: [u32; 2],
    /// First letters of words, the latest lowest.
    pub(super) firsts: u32,
    /// Hashes of the last words of more than three letters.
    pub(super) long: [u32; 3],
    /// Hash of the last word with a capital.
    pub(super) name: u32,
    capital: bool,
    /// The last eight letters, whatever stood between.
    pub(super) letters: u64,
    /// Hash of the bytes since a bracket opened or closed.
    pub(super) inside: u32,
    /// Words since the sentence and the line began.
    pub(super) in_sentence: u32,
    pub(super) in_line: u32,
    /// First word of the sentence.
    pub(super) opener: u32,
    /// Words further back.
    pub(super) older: [u32; 3],
    /// Hashes of the words of this line and of the one before, so many at most.
    pub(super) lines: [Vec<u32>; 2],
    /// The words that followed a word, and two words, when they last came.
    after_one: Vec<[u32; 2]>,
    after_two: Vec<[u32; 2]>,
    /// What followed the last word, and the last two, when they last came.
    pub(super) foretold: [[u32; 2]; 2],
    /// Bytes that followed three bytes, and the word so far behind the one before; those of now, and where they stand.
    follow3: Vec<u32>,
    follow_word: Vec<u32>,
    pub(super) followed: [u32; 2],
    slots: [usize; 2],
    /// Length of the word so far.
    length: u32,
    /// What stood between the last word and this.
    pub(super) between: u32,
}

impl Default for Wide {
    fn default() -> Self {
        let table = || vec![[0; 2]; 1 << FOLLOWERS];
        Self {
            bones: [0; 2],
            firsts: 0,
            long: [0; 3],
            name: 0,
            capital: false,
            letters: 0,
            inside: 0,
            in_sentence: 0,
            in_line: 0,
            opener: 0,
            older: [0; 3],
            lines: [Vec::new(), Vec::new()],
            after_one: table(),
            after_two: table(),
            foretold: [[0; 2]; 2],
            follow3: vec![0; 1 << FOLLOWERS],
            follow_word: vec![0; 1 << FOLLOWERS],
            followed: [0; 2],
            slots: [0; 2],
            length: 0,
            between: 0,
        }
    }
}

fn slot(hash: u32) -> usize {
    (hash.wrapping_mul(0x9E37_79B1) >> (32 - FOLLOWERS)) as usize
}

impl Wide {
    /// Bytes of its tables.
    pub const BYTES: usize = (2 * size_of::<[u32; 2]>() + 2 * size_of::<u32>()) << FOLLOWERS;

    /// Takes a byte; `c4` holds it already, `words` are the words behind it, the first of them new if one `ended`.
    #[inline(always)]
    pub(super) fn push(&mut self, byte: u8, c4: u32, words: [u32; 4], ended: bool) {
        for (table, slot) in [&mut self.follow3, &mut self.follow_word].into_iter().zip(self.slots) {
            table[slot] = table[slot] << 8 | u32::from(byte);
        }
        if ended {
            self.end(words);
            self.length = 0;
        }
        let letter = byte.is_ascii_alphabetic() || byte >= 128;
        if letter {
            if self.length == 0 {
                self.firsts = self.firsts << 8 | u32::from(byte);
                self.bones[0] = u32::from(byte);
            } else if !matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u' | b'y') {
                self.bones[0] = self.bones[0].wrapping_add(u32::from(byte)).wrapping_mul(0x3D4D_51CB);
            }
            self.length += 1;
            self.letters = self.letters << 8 | u64::from(byte);
        } else {
            self.between = self.between << 8 | u32::from(byte);
        }
        match byte {
            CAPITAL | UPPER => self.capital = true,
            b'.' | b'\n' | b'!' | b'?' => {
                self.in_sentence = 0;
                self.opener = 0;
            }
            _ => {}
        }
        if byte == b'\n' {
            self.in_line = 0;
            self.lines.swap(0, 1);
            self.lines[0].clear();
        }
        self.inside = match byte {
            b'[' | b'(' | b'{' | b'<' | b']' | b')' | b'}' | b'>' | b'\n' | b'|' => u32::from(byte),
            _ => self.inside.wrapping_add(u32::from(byte)).wrapping_mul(0x2F0B_4C47),
        };
        self.slots = [slot((c4 & 0xFF_FFFF).wrapping_mul(0x85EB_CA6B)), slot(words[0] ^ words[1].rotate_left(7))];
        self.followed = [self.follow3[self.slots[0]], self.follow_word[self.slots[1]]];
    }

    /// A word ended.
    #[inline(always)]
    fn end(&mut self, words: [u32; 4]) {
        let [_, last, before, third] = words;
        for (table, key) in [(&mut self.after_one, before), (&mut self.after_two, before ^ third.rotate_left(9))] {
            let entry = &mut table[slot(key)];
            if entry[0] != last {
                *entry = [last, entry[0]];
            }
        }
        self.foretold = [self.after_one[slot(last)], self.after_two[slot(last ^ before.rotate_left(9))]];
        if self.length > 3 {
            self.long = [last, self.long[0], self.long[1]];
        }
        if self.capital {
            self.name = last;
            self.capital = false;
        }
        self.older = [third, self.older[0], self.older[1]];
        self.bones = [0, self.bones[0]];
        self.between = 0;
        if self.opener == 0 {
            self.opener = last;
        }
        self.in_sentence += 1;
        self.in_line += 1;
        if self.lines[0].len() < LINE {
            self.lines[0].push(last);
        }
    }

    /// The word above, and the one behind it.
    pub(super) fn above(&self) -> [u32; 2] {
        let at = self.lines[0].len();
        [at, at + 1].map(|at| self.lines[1].get(at).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recent;
    use super::*;

    fn after(text: &str) -> (Recent, Wide) {
        let mut recent = Recent { text: true, wide: Some(Box::default()), ..Recent::default() };
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            recent.push(byte, text.as_bytes(), 0, at + 1);
        }
        let wide = recent.wide.as_deref().cloned().unwrap_or_default();
        (recent, wide)
    }

    #[test]
    fn words_foretell_what_followed_them() {
        let (recent, wide) = after("the green door, the ");
        let (word, _) = after("green ");
        assert_eq!(wide.foretold[0], [word.words[1], 0]);
        assert_eq!(wide.long[0], after("door ").0.words[1]);
        assert_eq!(recent.words[1], after("the ").0.words[1]);
        assert_eq!(wide.firsts, u32::from_be_bytes(*b"tgdt"));
    }

    #[test]
    fn the_words_above_are_those_at_the_same_place() {
        let (_, wide) = after("one two three\nsix ");
        let words = ["two ", "three "].map(|word| after(word).0.words[1]);
        assert_eq!(wide.above(), words);
    }
}
