//! Values that are numbers, and how they are written.

/// Longest value that is read as a number.
const LONGEST: usize = 24;

/// A way to write whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Decimal, with so many digits behind the point.
    Decimal(u8),
    /// So many digits, with zeros ahead.
    Padded(u8),
    /// Hexadecimal in small letters, so many digits, behind `0x` or not.
    Hexadecimal { digits: u8, prefix: bool },
    /// `12:34:56` as seconds, or with so many digits behind this mark in their fractions.
    Clock { mark: u8, fraction: u8 },
    /// Four numbers below 256 and points between.
    Address,
}

fn digits(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > 18 {
        return None;
    }
    bytes.iter().try_fold(0i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn put_digits(value: i64, width: u8, out: &mut Vec<u8>) {
    let mut reversed = [b'0'; 20];
    let (mut rest, mut length) = (value.unsigned_abs(), 0);
    while rest > 0 || length == 0 {
        reversed[length] = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
    }
    out.extend(reversed[..length.max(usize::from(width)).min(20)].iter().rev());
}

impl Format {
    /// The formats that a value may be written in, the likeliest first.
    pub fn candidates(value: &[u8]) -> Vec<Self> {
        let mut found = Vec::new();
        let point = value.iter().rev().position(|&byte| byte == b'.').unwrap_or(0);
        let length = value.len().min(255) as u8;
        let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
        found.push(Self::Decimal(point.min(17) as u8));
        found.push(Self::Padded(length));
        found.push(Self::Address);
        match value.strip_prefix(b"0x") {
            Some(rest) if hex(rest) => {
                found.push(Self::Hexadecimal { digits: 0, prefix: true });
                found.push(Self::Hexadecimal { digits: length - 2, prefix: true });
            }
            None if hex(value) => {
                found.push(Self::Hexadecimal { digits: 0, prefix: false });
                found.push(Self::Hexadecimal { digits: length, prefix: false });
            }
            _ => {}
        }
        match value {
            [_, _, b':', _, _, b':', _, _] => found.push(Self::Clock { mark: 0, fraction: 0 }),
            [_, _, b':', _, _, b':', _, _, mark, rest @ ..] if (1..=9).contains(&rest.len()) => {
                found.push(Self::Clock { mark: *mark, fraction: rest.len() as u8 });
            }
            _ => {}
        }
        found
    }

    /// The number, if this is exactly how it is written.
    pub fn read(self, value: &[u8]) -> Option<i64> {
        if value.len() > LONGEST {
            return None;
        }
        let number = self.number(value)?;
        let mut again = Vec::with_capacity(LONGEST);
        self.write(number, &mut again);
        (again == value).then_some(number)
    }

    fn number(self, value: &[u8]) -> Option<i64> {
        match self {
            Self::Decimal(fraction) => {
                let (sign, rest) = value.strip_prefix(b"-").map_or((1, value), |rest| (-1, rest));
                if fraction == 0 {
                    return Some(sign * digits(rest)?);
                }
                let (whole, part) = rest.split_at_checked(rest.len().checked_sub(usize::from(fraction) + 1)?)?;
                let both = [whole, part.strip_prefix(b".")?].concat();
                Some(sign * digits(&both)?)
            }
            Self::Padded(_) => digits(value),
            Self::Hexadecimal { prefix, .. } => {
                let rest = if prefix { value.strip_prefix(b"0x")? } else { value };
                if rest.is_empty() || rest.len() > 15 {
                    return None;
                }
                i64::from_str_radix(std::str::from_utf8(rest).ok()?, 16).ok()
            }
            Self::Clock { fraction, .. } => {
                let &[h1, h2, _, m1, m2, _, s1, s2] = value.first_chunk::<8>()?;
                let seconds = digits(&[h1, h2])? * 3600 + digits(&[m1, m2])? * 60 + digits(&[s1, s2])?;
                match fraction {
                    0 => Some(seconds),
                    _ => {
                        seconds.checked_mul(10i64.checked_pow(fraction.into())?)?.checked_add(digits(value.get(9..)?)?)
                    }
                }
            }
            Self::Address => {
                let mut parts = value.split(|&byte| byte == b'.');
                let mut sum = 0;
                for _ in 0..4 {
                    sum = sum << 8 | digits(parts.next()?).filter(|&part| part < 256)?;
                }
                parts.next().is_none().then_some(sum)
            }
        }
    }

    /// Writes a number; any number has a form, though not all forms are read.
    pub fn write(self, number: i64, out: &mut Vec<u8>) {
        match self {
            Self::Decimal(fraction) => {
                if number < 0 {
                    out.push(b'-');
                }
                put_digits(number, fraction.min(18) + u8::from(fraction > 0), out);
                if fraction > 0 {
                    out.insert(out.len() - usize::from(fraction.min(18)), b'.');
                }
            }
            Self::Padded(width) => put_digits(number, width, out),
            Self::Hexadecimal { digits, prefix } => {
                if prefix {
                    out.extend(b"0x");
                }
                let needed = (64 - number.leading_zeros()).div_ceil(4).max(1).max(u32::from(digits).min(16));
                out.extend((0..needed).rev().map(|place| b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]));
            }
            Self::Clock { mark, fraction } => {
                let unit = 10i64.pow(u32::from(fraction.min(9)));
                let (seconds, part) = (number.div_euclid(unit), number.rem_euclid(unit));
                put_digits(seconds / 3600, 2, out);
                out.push(b':');
                put_digits(seconds / 60 % 60, 2, out);
                out.push(b':');
                put_digits(seconds % 60, 2, out);
                if fraction > 0 {
                    out.push(mark);
                    put_digits(part, fraction.min(9), out);
                }
            }
            Self::Address => {
                for place in (0..4).rev() {
                    put_digits(number >> (8 * place) & 255, 1, out);
                    if place > 0 {
                        out.push(b'.');
                    }
                }
            }
        }
    }

    /// The format as bytes.
    pub fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Decimal(fraction) => out.extend([0, fraction]),
            Self::Padded(width) => out.extend([1, width]),
            Self::Hexadecimal { digits, prefix } => out.extend([2 + u8::from(prefix), digits]),
            Self::Clock { mark, fraction } => out.extend([4, fraction, mark]),
            Self::Address => out.push(5),
        }
    }

    /// Reads what [`put`](Self::put) writes.
    pub fn take(input: &mut &[u8]) -> Option<Self> {
        let mut byte = || {
            let (&first, rest) = input.split_first()?;
            *input = rest;
            Some(first)
        };
        Some(match byte()? {
            0 => Self::Decimal(byte()?),
            1 => Self::Padded(byte()?),
            kind @ (2 | 3) => Self::Hexadecimal { digits: byte()?, prefix: kind == 3 },
            4 => Self::Clock { fraction: byte()?, mark: byte()? },
            5 => Self::Address,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_they_are_written_or_not_at_all() {
        let clock = Format::Clock { mark: b',', fraction: 3 };
        assert_eq!(clock.read(b"19:22:46,680"), Some(69_766_680));
        assert_eq!(clock.read(b"19:62:46,680"), None);
        assert_eq!(Format::Decimal(2).read(b"-0.05"), Some(-5));
        assert_eq!(Format::Decimal(2).read(b"-0.00"), None);
        assert_eq!(Format::Decimal(0).read(b"007"), None);
        assert_eq!(Format::Padded(3).read(b"007"), Some(7));
        assert_eq!(Format::Address.read(b"10.250.7.244"), Some(0x0AFA_07F4));
        assert_eq!(Format::Address.read(b"10.250.07.244"), None);
        assert_eq!(Format::Hexadecimal { digits: 0, prefix: true }.read(b"0x1f"), Some(31));
        assert_eq!(Format::Hexadecimal { digits: 4, prefix: false }.read(b"001F"), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(value in "[0-9a-f:.,x-]{1,14}") {
            for format in Format::candidates(value.as_bytes()) {
                if let Some(number) = format.read(value.as_bytes()) {
                    let mut out = Vec::new();
                    format.write(number, &mut out);
                    prop_assert_eq!(&out, value.as_bytes());
                }
                let mut bytes = Vec::new();
                format.put(&mut bytes);
                prop_assert_eq!(Format::take(&mut &bytes[..]), Some(format));
            }
        }

        #[test]
        fn any_number_is_written(number: i64, format in prop::collection::vec(any::<u8>(), 3)) {
            if let Some(format) = Format::take(&mut &format[..]) {
                format.write(number, &mut Vec::new());
            }
        }
    }
}
