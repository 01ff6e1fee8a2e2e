//! Text with its frequent words as codes and its capitals as marks.
//!
//! Words are runs of ASCII letters. A capital at the head of a word becomes a mark before the small letter, a word all in
//! capitals another; in mixed case each capital begins a word of its own. Words that are frequent in this text are listed at the
//! head and become codes of one to three bytes from 128 up, the first byte saying how many follow; everything else stays as it
//! is, bytes from 128 up behind an escape (one for each well-formed UTF-8 character). Nothing but the text itself is the
//! dictionary.
//!
//! A single space between two words goes without saying where the second begins with a code or a mark, or the first was a code;
//! words that touch have a mark of their own between them.
//!
//! ```text
//! The BBC met McAdam   →   ⟨cap⟩the⟨upper⟩bbc met⟨cap⟩mc⟨join⟩⟨cap⟩adam
//! ```

mod lexicon;

use brevity_coding::simd::prefetch;
use lexicon::Lexicon;
use std::ops::Range;

/// Before a word that begins with a capital.
pub const CAPITAL: u8 = 2;
/// Before a word that is all capitals.
pub const UPPER: u8 = 3;
/// A character of UTF-8 follows as it is.
const CHARACTER: u8 = 4;
/// A byte follows as it is.
const BYTE: u8 = 5;
/// No space between the words around this.
const JOIN: u8 = 6;

/// First bytes that are a whole code, that begin one of two bytes, and of three.
const TIERS: [usize; 3] = [88, 32, 8];
const CAPACITY: [usize; 3] = [TIERS[0], TIERS[1] * 128, TIERS[2] * 128 * 128];

/// Times that a word must occur to be listed, where few contexts follow.
pub const LEAST: u32 = 7;
/// Words that are looked for together.
const TOGETHER: usize = 32;
/// Longest word that is listed.
const LONGEST: usize = 32;

/// A piece of text.
enum Piece<'a> {
    /// A word: the mark before it, and where its letters stand.
    Word(Option<u8>, Range<usize>),
    /// One byte that is no letter and below 128.
    Plain(u8),
    /// Bytes from 128 up: a character, or one byte.
    High(&'a [u8]),
}

/// Which bytes of a text are letters: a bit for each.
struct Letters {
    small: Vec<u64>,
    capital: Vec<u64>,
}

impl Letters {
    fn of(text: &[u8]) -> Self {
        let bits = |first, last| text.chunks(64).map(|chunk| between(chunk, first, last)).collect();
        Self { small: bits(b'a', b'z'), capital: bits(b'A', b'Z') }
    }
}

/// Of at most 64 bytes, which are between two ASCII letters.
#[inline(always)]
fn between(chunk: &[u8], first: u8, last: u8) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (from, to) = (EACH * u64::from(128 - first), EACH * u64::from(127 - last));
    let mut bits = 0;
    for (n, part) in chunk.chunks(8).enumerate() {
        let eight = match part.first_chunk() {
            Some(eight) => u64::from_le_bytes(*eight),
            None => part.iter().rev().fold(0, |eight, &byte| eight << 8 | u64::from(byte)),
        };
        let low = eight & (EACH * 127);
        let inside = (low + from) & !(low + to) & !eight & (EACH * 128);
        bits |= ((inside >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * n);
    }
    bits
}

/// How many bits are set from this one on.
#[inline(always)]
fn set_from(bits: &[u64], at: usize) -> usize {
    let mut count = (!(bits.get(at / 64).copied().unwrap_or(0) >> (at % 64))).trailing_zeros() as usize;
    while count > 0 && (at + count).is_multiple_of(64) {
        let more = (!bits.get((at + count) / 64).copied().unwrap_or(0)).trailing_zeros() as usize;
        count += more;
        if more < 64 {
            break;
        }
    }
    count
}

/// Cuts text into pieces.
#[inline(always)]
fn pieces<'a>(text: &'a [u8], letters: &Letters, mut emit: impl FnMut(Piece<'a>)) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte >= 128 {
            let length = character(&text[at..]).unwrap_or(1);
            emit(Piece::High(&text[at..at + length]));
            at += length;
        } else if !byte.is_ascii_alphabetic() {
            emit(Piece::Plain(byte));
            at += 1;
        } else {
            let (mark, end) = if byte.is_ascii_lowercase() {
                (None, at + set_from(&letters.small, at))
            } else {
                let uppers = at + set_from(&letters.capital, at);
                let end = uppers + set_from(&letters.small, uppers);
                match uppers - at {
                    1 => (Some(CAPITAL), end),
                    _ if uppers == end => (Some(UPPER), end),
                    _ => (Some(CAPITAL), at + 1),
                }
            };
            emit(Piece::Word(mark, at..end));
            at = end;
        }
    }
}

/// Bytes of the well-formed character of UTF-8 that begins here, if it is one beyond ASCII.
fn character(bytes: &[u8]) -> Option<usize> {
    let length = character_length(*bytes.first()?)?;
    std::str::from_utf8(bytes.get(..length)?).is_ok().then_some(length)
}

fn character_length(lead: u8) -> Option<usize> {
    match lead {
        0xC2..=0xDF => Some(2),
        0xE0..=0xEF => Some(3),
        0xF0..=0xF4 => Some(4),
        _ => None,
    }
}

/// The words that are worth a code, by their numbers in the lexicon, in the order of their codes.
fn choose(lexicon: &Lexicon, least: u32) -> Vec<u32> {
    let mut words: Vec<(u32, u32)> = lexicon.counts().filter(|&(_, count)| count >= least).collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| lexicon.word(a.0).cmp(lexicon.word(b.0))));
    let mut chosen = Vec::new();
    let mut rest = words.into_iter().map(|(word, _)| word);
    for (tier, room) in CAPACITY.into_iter().enumerate() {
        let long = |word: &u32| lexicon.word(*word).len() > tier;
        let mut part: Vec<u32> = rest.by_ref().filter(long).take(room).collect();
        part.sort_by_key(|&word| lexicon.word(word));
        chosen.extend(part);
    }
    chosen
}

/// The code of a word; no bytes where there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bytes: [u8; 3],
    length: u8,
}

/// The code of the word of this rank.
fn code(mut rank: usize) -> Code {
    if rank < CAPACITY[0] {
        return Code { bytes: [128 + rank as u8, 0, 0], length: 1 };
    }
    rank -= CAPACITY[0];
    let low = |n: usize| 128 + (n % 128) as u8;
    if rank < CAPACITY[1] {
        return Code { bytes: [(128 + TIERS[0] + rank / 128) as u8, low(rank), 0], length: 2 };
    }
    rank -= CAPACITY[1];
    Code { bytes: [(128 + TIERS[0] + TIERS[1] + rank / (128 * 128)) as u8, low(rank / 128), low(rank)], length: 3 }
}

/// Bytes of the code that begins with this byte; 0 for none.
pub const fn code_length(first: u8) -> u8 {
    match first as usize {
        0..128 => 0,
        n if n < 128 + TIERS[0] => 1,
        n if n < 128 + TIERS[0] + TIERS[1] => 2,
        _ => 3,
    }
}

/// The rank of a code whose bytes, the latest lowest, are this number.
pub fn rank_of(code: u32) -> Option<usize> {
    let bytes = code.to_be_bytes();
    let first = bytes.iter().position(|&byte| byte != 0)?;
    rank(*bytes.get(first).filter(|&&byte| byte >= 128)?, &mut bytes[first + 1..].iter().copied())
}

/// Whether a word may be listed.
fn listed(letters: &Range<usize>) -> bool {
    (2..=LONGEST).contains(&letters.len())
}

/// The transformed text, the list of words that occur `least` times at its head, and how many they are.
pub fn forward(text: &[u8], least: u32) -> (Vec<u8>, usize) {
    let known = Letters::of(text);
    let mut lexicon = Lexicon::default();
    let mut standing = Vec::with_capacity(text.len() / 8);
    let mut keys = Vec::with_capacity(TOGETHER);
    pieces(text, &known, |piece| {
        if let Piece::Word(_, letters) = piece
            && listed(&letters)
        {
            keys.push(Lexicon::key(text, letters));
            if keys.len() == TOGETHER {
                lexicon.count(text, &keys, &mut standing);
                keys.clear();
            }
        }
    });
    lexicon.count(text, &keys, &mut standing);
    let words = choose(&lexicon, least);
    let mut out = Vec::with_capacity(text.len() / 3 * 2);
    let mut codes = vec![Code::default(); lexicon.len()];
    for (rank, &word) in words.iter().enumerate() {
        out.extend_from_slice(lexicon.word(word));
        out.push(b'\n');
        codes[word as usize] = code(rank);
    }
    drop(lexicon);
    let mut place = 0;
    let mut before = Before::Other;
    pieces(text, &known, |piece| {
        let space = matches!(piece, Piece::Plain(b' '));
        if let (Before::Space(_), false) = (before, matches!(piece, Piece::Word(..))) {
            out.push(b' ');
        }
        before = match piece {
            Piece::Word(mark, letters) => {
                let mut code = Code::default();
                if listed(&letters) {
                    code = codes[standing[place] as usize];
                    place += 1;
                    prefetch(&codes, standing.get(place + TOGETHER).map_or(0, |&word| word as usize));
                }
                let plain = mark.is_none() && code.length == 0;
                match before {
                    Before::Space(false) if plain => out.push(b' '),
                    Before::Word(_) => out.push(JOIN),
                    _ => {}
                }
                out.extend(mark);
                match code.length {
                    0 => out.extend(text[letters].iter().map(u8::to_ascii_lowercase)),
                    length => out.extend_from_slice(&code.bytes[..usize::from(length)]),
                }
                Before::Word(code.length > 0)
            }
            Piece::Plain(_) if space => match before {
                Before::Word(code) => Before::Space(code),
                _ => {
                    out.push(b' ');
                    Before::Other
                }
            },
            Piece::Plain(byte) => {
                if (CAPITAL..=JOIN).contains(&byte) {
                    out.push(BYTE);
                }
                out.push(byte);
                Before::Other
            }
            Piece::High(bytes) => {
                out.push(if bytes.len() > 1 { CHARACTER } else { BYTE });
                out.extend_from_slice(bytes);
                Before::Other
            }
        };
    });
    if let Before::Space(_) = before {
        out.push(b' ');
    }
    (out, words.len())
}

/// What came before a piece, and whether the word was a code.
#[derive(Clone, Copy)]
enum Before {
    Word(bool),
    /// A word and a space that is not written yet.
    Space(bool),
    Other,
}

/// The text again, `length` bytes of it; nothing if this is not what [`forward`] writes.
pub fn backward(bytes: &[u8], words: usize, length: usize) -> Option<Vec<u8>> {
    if words > CAPACITY.iter().sum() {
        return None;
    }
    let mut list = Vec::with_capacity(words);
    let mut rest = bytes;
    for _ in 0..words {
        let end = rest.iter().take(LONGEST + 1).position(|&byte| byte == b'\n')?;
        list.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    let mut out: Vec<u8> = Vec::with_capacity(length);
    let mut rest = rest.iter().copied();
    // A mark whose word has not begun; whether the word being spelt is all in capitals; whether what came last was of a word.
    let (mut mark, mut upper, mut word) = (None, false, Before::Other);
    while let Some(byte) = rest.next() {
        let touches = mark.is_none() && matches!(word, Before::Word(_));
        word = match byte {
            CAPITAL | UPPER => {
                if mark.replace(byte).is_some() {
                    return None;
                }
                if touches {
                    out.push(b' ');
                }
                Before::Other
            }
            128.. => {
                if touches {
                    out.push(b' ');
                }
                let from = out.len();
                let rank = rank(byte, &mut rest)?;
                out.extend_from_slice(list.get(rank)?);
                match mark.take() {
                    Some(UPPER) => out[from..].make_ascii_uppercase(),
                    Some(_) => out.get_mut(from)?.make_ascii_uppercase(),
                    None => {}
                }
                Before::Word(true)
            }
            _ if byte.is_ascii_alphabetic() => {
                if mark.is_some() || !matches!(word, Before::Word(false)) {
                    upper = mark == Some(UPPER);
                }
                if touches && matches!(word, Before::Word(true)) {
                    out.push(b' ');
                }
                let capital = mark.take().is_some() || upper;
                out.push(if capital { byte.to_ascii_uppercase() } else { byte });
                Before::Word(false)
            }
            _ if mark.is_some() => return None,
            JOIN => Before::Other,
            CHARACTER => {
                let lead = rest.next()?;
                out.push(lead);
                for _ in 1..character_length(lead)? {
                    out.push(rest.next()?);
                }
                Before::Other
            }
            BYTE => {
                out.push(rest.next()?);
                Before::Other
            }
            _ => {
                out.push(byte);
                Before::Other
            }
        };
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

/// The rank that a code stands for.
fn rank(first: u8, rest: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut low = || rest.next()?.checked_sub(128).map(usize::from);
    let first = usize::from(first) - 128;
    if first < TIERS[0] {
        return Some(first);
    }
    if first < TIERS[0] + TIERS[1] {
        return Some(CAPACITY[0] + (first - TIERS[0]) * 128 + low()?);
    }
    let high = first - TIERS[0] - TIERS[1];
    Some(CAPACITY[0] + CAPACITY[1] + (high * 128 + low()?) * 128 + low()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(text: &[u8]) {
        let (bytes, words) = forward(text, LEAST);
        assert_eq!(backward(&bytes, words, text.len()).as_deref(), Some(text));
    }

    #[test]
    fn text_comes_back() {
        round_trip(b"");
        round_trip("The BBC met McAdam at MHz; iPhone ABCdef \u{2}\u{3}\u{4}\u{5} Größe 日本語 \u{1F600}".as_bytes());
        round_trip(b"A a AA a AAa aA a  a \x06 AB cd AB CD ab.CD ");
        round_trip(b"\xFF\xC3 \xE0\x80\x80 A aB AB Ab");
        round_trip("Alpha beta ALPHA Beta alpha ".repeat(50).as_bytes());
    }

    #[test]
    fn frequent_words_become_codes() {
        let text = "Whenever whenever WHENEVER ".repeat(100);
        let (bytes, words) = forward(text.as_bytes(), LEAST);
        assert_eq!(words, 1);
        assert!(bytes.len() < text.len() / 3);
    }

    #[test]
    fn codes_and_ranks_are_one_to_one() {
        for wanted in [0, 87, 88, 4183, 4184, 4184 + 131_071] {
            let Code { bytes, length } = code(wanted);
            let mut rest = bytes[1..usize::from(length)].iter().copied();
            assert_eq!(rank(bytes[0], &mut rest), Some(wanted));
            assert_eq!(rest.next(), None);
        }
    }

    proptest! {
        #[test]
        fn anything_comes_back(pieces in prop::collection::vec(
            prop_oneof!["[a-zA-Z]{1,5}", "\\PC", "[ \n.]", "\u{1}|\u{2}|\u{3}|\u{4}|\u{5}|\u{6}"], 0..200), noise in any::<Vec<u8>>()) {
            let text = pieces.concat().repeat(5);
            round_trip(text.as_bytes());
            round_trip(&noise);
        }

        #[test]
        fn any_bytes_are_taken(bytes in any::<Vec<u8>>(), words in 0usize..4, length in 0usize..300) {
            let _ = backward(&bytes, words, length);
        }
    }
}
