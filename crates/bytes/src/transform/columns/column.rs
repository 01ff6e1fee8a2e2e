//! One column: its values in the way of writing that promises to take least.

use super::estimate::{Style, bits};
use super::values::Format;
use crate::varint;
use std::collections::HashMap;

/// Values as lines.
const TEXT: u8 = 0;
/// One line, which all values are.
const CONSTANT: u8 = 1;
/// Differences of numbers as lines.
const STEPS: u8 = 2;
/// Numbers as varints.
const NUMBERS: u8 = 3;
/// Differences of numbers as varints.
const DELTAS: u8 = 4;
/// The values that there are as lines, then which each is.
const CHOICES: u8 = 5;
/// Hexadecimal digits of a pattern, two a byte.
const DIGITS: u8 = 6;

/// Bits of a hundred that choices are forgiven under mixing: there are fewer bytes to mix.
const FEWER: u64 = 15;

/// Fewest hexadecimal digits of a pattern.
const FEWEST: usize = 8;

/// A column, written.
#[derive(Default)]
pub struct Written {
    /// How.
    pub kind: Vec<u8>,
    /// Lines.
    pub text: Vec<u8>,
    /// Numbers.
    pub numbers: Vec<u8>,
}

impl Written {
    fn bits(&self, style: Style, lines: bool) -> u64 {
        bits(&self.text, style, lines) + bits(&self.numbers, style, false) + 16 * (self.kind.len() as u64)
    }
}

fn lines(values: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    values.split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1])
}

fn put_line(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// Writes values, each of which ends with a newline.
pub fn write(values: &[u8], style: Style) -> Written {
    let first = lines(values).next().unwrap_or_default();
    if lines(values).all(|value| value == first) {
        let mut text = Vec::new();
        put_line(first, &mut text);
        return Written { kind: vec![CONSTANT], text, ..Written::default() };
    }
    let mut best = Written { kind: vec![TEXT], text: values.to_vec(), ..Written::default() };
    let mut least = best.bits(style, true);
    // What is no plain text must be clearly better: mixing knows a column's strings from other columns.
    least -= least / if style == Style::Mixing { 8 } else { 50 };
    let mut others = numeric(values, first, style);
    others.extend(digits(values, first));
    others.extend(choices(values));
    for other in others {
        let mut bits = other.bits(style, false);
        if style == Style::Mixing && other.kind[0] == CHOICES {
            bits -= bits * FEWER / 100;
        }
        if bits < least {
            (best, least) = (other, bits);
        }
    }
    best
}

/// A column of numbers that are all written alike, in the ways that suit the style.
fn numeric(values: &[u8], first: &[u8], style: Style) -> Vec<Written> {
    let read = |format: Format| lines(values).map(|value| format.read(value)).collect::<Option<Vec<i64>>>();
    let Some((format, numbers)) = Format::candidates(first).into_iter().find_map(|it| Some((it, read(it)?))) else {
        return Vec::new();
    };
    let deltas = || numbers.iter().scan(0i64, |last, &n| Some(n.wrapping_sub(std::mem::replace(last, n))));
    let kind = |kind| {
        let mut bytes = vec![kind];
        format.put(&mut bytes);
        bytes
    };
    let mut found = Vec::new();
    let ordered = matches!(format, Format::Decimal(_) | Format::Padded(_) | Format::Clock { .. });
    if style != Style::Strings && ordered {
        let mut text = Vec::new();
        for delta in deltas() {
            Format::Decimal(0).write(delta, &mut text);
            text.push(b'\n');
        }
        found.push(Written { kind: kind(STEPS), text, ..Written::default() });
    }
    if style != Style::Mixing {
        let (mut plain, mut steps) = (Vec::new(), Vec::new());
        numbers.iter().for_each(|&number| varint::put(varint::zigzag(number), &mut plain));
        deltas().for_each(|delta| varint::put(varint::zigzag(delta), &mut steps));
        found.push(Written { kind: kind(NUMBERS), numbers: plain, ..Written::default() });
        found.push(Written { kind: kind(DELTAS), numbers: steps, ..Written::default() });
    }
    found
}

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A column of long hexadecimal digits, with other bytes always in the same places.
fn digits(values: &[u8], first: &[u8]) -> Option<Written> {
    let free = |byte: u8| !byte.is_ascii_alphanumeric();
    let pattern: Vec<u8> = first.iter().map(|&byte| if free(byte) { byte } else { b'0' }).collect();
    let count = pattern.iter().filter(|&&byte| byte == b'0').count();
    let mut written = Written { kind: vec![DIGITS], ..Written::default() };
    put_line(&pattern, &mut written.text);
    for value in lines(values) {
        if count < FEWEST || value.len() != pattern.len() {
            return None;
        }
        let mut half = None;
        for (&byte, &place) in value.iter().zip(&pattern) {
            match (place, half) {
                (b'0', None) => half = Some(nibble(byte)?),
                (b'0', Some(high)) => {
                    written.numbers.push(high << 4 | nibble(byte)?);
                    half = None;
                }
                _ if byte == place => {}
                _ => return None,
            }
        }
        written.numbers.extend(half.map(|high| high << 4));
    }
    Some(written)
}

/// A column of few values.
fn choices(values: &[u8]) -> Option<Written> {
    let mut known: HashMap<&[u8], u64> = HashMap::new();
    let (mut text, mut which) = (Vec::new(), Vec::new());
    let mut total = 0usize;
    for value in lines(values) {
        let next = known.len() as u64;
        let index = *known.entry(value).or_insert(next);
        if index == next {
            put_line(value, &mut text);
        }
        varint::put(index, &mut which);
        total += 1;
    }
    let mut numbers = Vec::new();
    varint::put(known.len() as u64, &mut numbers);
    numbers.extend(which);
    (known.len() * 2 <= total).then_some(Written { kind: vec![CHOICES], text, numbers })
}

/// What has been read of a column.
pub struct Column<'a> {
    kind: Kind<'a>,
    text: &'a [u8],
    numbers: &'a [u8],
    last: i64,
}

enum Kind<'a> {
    Text,
    Constant(&'a [u8]),
    Steps(Format),
    Numbers(Format),
    Deltas(Format),
    Choices(Vec<&'a [u8]>),
    Digits(&'a [u8]),
}

/// The line at the front.
pub fn take_line<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    let line = &text[..end];
    *text = &text[end + 1..];
    Some(line)
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = input.split_first()?;
    *input = rest;
    Some(first)
}

/// Passes over so many lines.
fn pass_lines<'a>(text: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let whole = *text;
    for _ in 0..count {
        take_line(text)?;
    }
    Some(whole)
}

fn pass_numbers<'a>(numbers: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let whole = *numbers;
    for _ in 0..count {
        varint::take(numbers)?;
    }
    Some(whole)
}

/// A way of writing before its columns are found.
pub struct Way(u8, Option<Format>);

impl Way {
    /// Reads how a column is written.
    pub fn take(input: &mut &[u8]) -> Option<Self> {
        let kind = take_byte(input)?;
        let format = match kind {
            STEPS | NUMBERS | DELTAS => Some(Format::take(input)?),
            TEXT | CONSTANT | CHOICES | DIGITS => None,
            _ => return None,
        };
        Some(Self(kind, format))
    }
}

impl<'a> Column<'a> {
    /// Finds a column of `count` values at the front of the streams, which go on behind it.
    pub fn open(way: Way, count: usize, text: &mut &'a [u8], numbers: &mut &'a [u8]) -> Option<Self> {
        let none: &[u8] = &[];
        let (kind, text, numbers) = match way {
            Way(TEXT, _) => (Kind::Text, pass_lines(text, count)?, none),
            Way(CONSTANT, _) => (Kind::Constant(take_line(text)?), none, none),
            Way(STEPS, Some(format)) => (Kind::Steps(format), pass_lines(text, count)?, none),
            Way(NUMBERS, Some(format)) => (Kind::Numbers(format), none, pass_numbers(numbers, count)?),
            Way(DELTAS, Some(format)) => (Kind::Deltas(format), none, pass_numbers(numbers, count)?),
            Way(CHOICES, _) => {
                let distinct = usize::try_from(varint::take(numbers)?).ok()?;
                // Each value is one that there is or the next.
                if distinct > count {
                    return None;
                }
                let list = (0..distinct).map(|_| take_line(text)).collect::<Option<_>>()?;
                (Kind::Choices(list), none, pass_numbers(numbers, count)?)
            }
            Way(_, _) => {
                let pattern = take_line(text)?;
                let each = pattern.iter().filter(|&&byte| byte == b'0').count().div_ceil(2);
                let (own, rest) = numbers.split_at_checked(each.checked_mul(count)?)?;
                *numbers = rest;
                (Kind::Digits(pattern), none, own)
            }
        };
        Some(Self { kind, text, numbers, last: 0 })
    }

    /// Appends the next value.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Option<()> {
        match &self.kind {
            Kind::Text => out.extend_from_slice(take_line(&mut self.text)?),
            Kind::Constant(value) => out.extend_from_slice(value),
            Kind::Steps(format) => {
                let delta = Format::Decimal(0).read(take_line(&mut self.text)?)?;
                self.last = self.last.wrapping_add(delta);
                format.write(self.last, out);
            }
            Kind::Numbers(format) => format.write(varint::unzigzag(varint::take(&mut self.numbers)?), out),
            Kind::Deltas(format) => {
                self.last = self.last.wrapping_add(varint::unzigzag(varint::take(&mut self.numbers)?));
                format.write(self.last, out);
            }
            Kind::Choices(list) => {
                let index = usize::try_from(varint::take(&mut self.numbers)?).ok()?;
                out.extend_from_slice(list.get(index)?);
            }
            Kind::Digits(pattern) => {
                let mut low = None;
                for &byte in *pattern {
                    let digit = match (byte, low.take()) {
                        (b'0', Some(low)) => low,
                        (b'0', None) => {
                            let byte = take_byte(&mut self.numbers)?;
                            low = Some(byte & 15);
                            byte >> 4
                        }
                        (_, held) => {
                            low = held;
                            out.push(byte);
                            continue;
                        }
                    };
                    out.push(b"0123456789abcdef"[usize::from(digit)]);
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STYLES: [Style; 3] = [Style::Strings, Style::Sorting, Style::Mixing];

    fn round_trip(values: &[u8], style: Style) -> u8 {
        let written = write(values, style);
        let (mut text, mut numbers) = (&written.text[..], &written.numbers[..]);
        let count = lines(values).count();
        let way = Way::take(&mut &written.kind[..]).unwrap();
        let mut column = Column::open(way, count, &mut text, &mut numbers).unwrap();
        let mut out = Vec::new();
        for _ in 0..count {
            column.next(&mut out).unwrap();
            out.push(b'\n');
        }
        assert_eq!(out, values);
        assert!(text.is_empty() && numbers.is_empty());
        written.kind[0]
    }

    fn column(value: impl FnMut(u32) -> String) -> Vec<u8> {
        (0..500).map(value).collect::<Vec<_>>().join("\n").into_bytes().into_iter().chain([b'\n']).collect()
    }

    #[test]
    fn each_column_is_written_in_its_way() {
        let random = |n: u32| n.wrapping_mul(n.wrapping_mul(2_654_435_761) ^ 0x5bd1_e995);
        let times = column(|n| format!("{:02}:{:02}:{:02}", n / 60 % 24, n % 60, random(n) % 60));
        assert_eq!(round_trip(&column(|_| "same".into()), Style::Mixing), CONSTANT);
        assert_eq!(round_trip(&times, Style::Mixing), STEPS);
        assert_eq!(round_trip(&column(|n| (77_000 + 31 * n).to_string()), Style::Strings), DELTAS);
        assert_eq!(round_trip(&column(|n| (random(n) % 251).to_string()), Style::Strings), NUMBERS);
        assert_eq!(round_trip(&column(|n| format!("host{}.net", random(n) % 7)), Style::Strings), CHOICES);
        let hex = column(|n| format!("{:08x}-{:08x}", random(n), random(n + 9000)));
        STYLES.into_iter().for_each(|style| assert_eq!(round_trip(&hex, style), DIGITS));
    }

    proptest! {
        #[test]
        fn any_column_comes_back(values in prop::collection::vec("[0-9a-f.:-]{0,9}|[0-9]{1,3}|1?", 1..60), which in 0usize..3) {
            let values: String = values.iter().map(|value| format!("{value}\n")).collect();
            round_trip(values.as_bytes(), STYLES[which]);
        }
    }
}
