//! `key=value,key=value` after a method's name.

use crate::Error;

/// So many tokens, or a share of those read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Tokens(usize),
    /// In hundredths of a percent.
    Share(u32),
}

impl Amount {
    /// Tokens, of `read`.
    pub fn of(self, read: usize) -> usize {
        match self {
            Amount::Tokens(tokens) => tokens,
            Amount::Share(share) => (read as u64 * u64::from(share) / 10_000) as usize,
        }
    }

    /// The same so many thousandths of times, a share up to the whole.
    pub fn times(self, thousandths: usize) -> Amount {
        match self {
            Amount::Tokens(tokens) => Amount::Tokens(tokens * thousandths / 1000),
            Amount::Share(share) => Amount::Share((u64::from(share) * thousandths as u64 / 1000).min(10_000) as u32),
        }
    }

    /// The same over a divisor.
    pub fn over(self, divisor: usize) -> Amount {
        match self {
            Amount::Tokens(tokens) => Amount::Tokens(tokens / divisor),
            Amount::Share(share) => Amount::Share(share / divisor as u32),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Tokens(tokens) => write!(f, "{tokens}"),
            Amount::Share(share) => write!(f, "{}%", f64::from(*share) / 100.0),
        }
    }
}

/// The options of one method, taken one by one.
pub struct Options<'a> {
    method: &'static str,
    known: &'static str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    /// Reads them; `known` lists what the method has.
    ///
    /// # Errors
    /// If one is no pair, or stands twice.
    pub fn read(method: &'static str, known: &'static str, text: &'a str) -> Result<Self, Error> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            match pair {
                Some((key, value)) if pairs.iter().all(|(other, _)| *other != key) => pairs.push((key, value)),
                _ => return Err(Error::Option { method, key: part.to_string(), known }),
            }
        }
        Ok(Self { method, known, pairs })
    }

    /// A whole number between `least` and `most`, or `default`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn number(&mut self, key: &'static str, default: usize, (least, most): (usize, usize)) -> Result<usize, Error> {
        let Some(at) = self.pairs.iter().position(|(name, _)| *name == key) else { return Ok(default) };
        let (_, found) = self.pairs.remove(at);
        let number = found.parse().ok().filter(|number| (least..=most).contains(number));
        let expected = format!("a whole number from {least} to {most}");
        number.ok_or(Error::Value { method: self.method, key, found: found.to_string(), expected })
    }

    /// A number of tokens or a share of those read (`25%`), or `default`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn amount(&mut self, key: &'static str, default: Amount, least: usize) -> Result<Amount, Error> {
        let found = self.pairs.iter().find(|(name, _)| *name == key).and_then(|(_, found)| found.strip_suffix('%'));
        let Some(found) = found else {
            let number = if let Amount::Tokens(tokens) = default { tokens } else { usize::MAX };
            let read = self.number(key, number, (least, 1 << 24))?;
            return Ok(if read == usize::MAX { default } else { Amount::Tokens(read) });
        };
        let percent: Option<f64> = found.trim().parse().ok().filter(|share| (0.01..=100.0).contains(share));
        self.pairs.retain(|(name, _)| *name != key);
        let expected = "a number of tokens, or a share from 0.01% to 100%".to_string();
        let share = percent.ok_or(Error::Value { method: self.method, key, found: format!("{found}%"), expected })?;
        Ok(Amount::Share((share * 100.0).round() as u32))
    }

    /// What stands behind a key.
    pub fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let at = self.pairs.iter().position(|(name, _)| *name == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Bits of codes, or `default`.
    ///
    /// # Errors
    /// If codes cannot have so many.
    pub fn bits(&mut self, key: &'static str, default: u8) -> Result<u8, Error> {
        let bits = self.number(key, usize::from(default), (2, 8))?;
        match bits {
            2 | 3 | 4 | 8 => Ok(bits as u8),
            _ => {
                let found = bits.to_string();
                Err(Error::Value { method: self.method, key, found, expected: "2, 3, 4 or 8".to_string() })
            }
        }
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// As said.
    pub fn done(self) -> Result<(), Error> {
        match self.pairs.first() {
            Some((key, _)) => Err(Error::Option { method: self.method, key: key.to_string(), known: self.known }),
            None => Ok(()),
        }
    }
}
