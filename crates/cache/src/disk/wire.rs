//! Numbers as bytes, little end first; reading past the end is an error.

use crate::Error;
use brevity_kernels::convert::{f16_to_f32, f32_to_f16};

/// Appends numbers.
#[derive(Default)]
pub(super) struct Wire(pub Vec<u8>);

impl Wire {
    pub(super) fn u8(&mut self, x: u8) {
        self.0.push(x);
    }

    pub(super) fn u32(&mut self, x: u32) {
        self.0.extend(x.to_le_bytes());
    }

    pub(super) fn f32(&mut self, x: f32) {
        self.0.extend(x.to_le_bytes());
    }

    /// Rounds to f16; what lies beyond its range becomes its largest number.
    pub(super) fn f16(&mut self, x: f32) {
        self.0.extend(f32_to_f16(x.clamp(-65504.0, 65504.0)).to_le_bytes());
    }

    /// Bytes with their number before them.
    pub(super) fn block(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
    }
}

/// Takes numbers.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(Error::Short { offset: self.at, wanted: count, found: self.bytes.len() - self.at });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A finite number.
    pub(super) fn f32(&mut self) -> Result<f32, Error> {
        let (offset, x) = (self.at, f32::from_le_bytes(self.array()?));
        if x.is_finite() { Ok(x) } else { Err(Error::Content { offset, what: "a number that is not finite" }) }
    }

    /// A finite number.
    pub(super) fn f16(&mut self) -> Result<f32, Error> {
        let (offset, x) = (self.at, f16_to_f32(u16::from_le_bytes(self.array()?)));
        if x.is_finite() { Ok(x) } else { Err(Error::Content { offset, what: "a number that is not finite" }) }
    }

    pub(super) fn block(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// Refuses bytes that nobody took.
    pub(super) fn done(self) -> Result<(), Error> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            _ => Err(Error::Content { offset: self.at, what: "bytes that nothing explains" }),
        }
    }
}
