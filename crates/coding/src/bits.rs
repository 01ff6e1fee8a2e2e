//! Bits packed into bytes, lowest first.

/// Writes bits.
#[derive(Debug, Default, Clone)]
pub struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the lowest `count` bits of a value, at most 32.
    #[inline(always)]
    pub fn put(&mut self, value: u32, count: u32) {
        let count = count.min(32);
        let mask = (1u64 << count) - 1;
        self.held |= (u64::from(value) & mask) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.bytes.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// Ends the stream; zeros fill the last byte.
    pub fn finish(mut self) -> Vec<u8> {
        let rest = self.count.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.held.to_le_bytes()[..rest]);
        self.bytes
    }
}

/// Reads bits; zeros follow the end.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, held: 0, count: 0 }
    }

    /// Makes at least 32 bits available to [`BitReader::peek`].
    #[inline(always)]
    pub fn fill(&mut self) {
        if self.count < 32 {
            let more = match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>()) {
                Some(four) => u32::from_le_bytes(*four),
                None => self.last_bytes(),
            };
            self.held |= u64::from(more) << self.count;
            self.at += 4;
            self.count += 32;
        }
    }

    #[cold]
    fn last_bytes(&self) -> u32 {
        let mut four = [0; 4];
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        four[..rest.len().min(4)].copy_from_slice(&rest[..rest.len().min(4)]);
        u32::from_le_bytes(four)
    }

    /// The next bits, at most 32 of them, without taking them.
    #[inline(always)]
    pub fn peek(&self, count: u32) -> u32 {
        (self.held & ((1u64 << count.min(32)) - 1)) as u32
    }

    /// Takes bits that were peeked at.
    #[inline(always)]
    pub fn skip(&mut self, count: u32) {
        let count = count.min(self.count);
        self.held >>= count;
        self.count -= count;
    }

    /// Takes up to 32 bits.
    #[inline(always)]
    pub fn take(&mut self, count: u32) -> u32 {
        self.fill();
        let value = self.peek(count);
        self.skip(count);
        value
    }

    /// Bytes of which something was taken.
    pub fn position(&self) -> usize {
        (self.at * 8).saturating_sub(self.count as usize).div_ceil(8)
    }

    /// Whether more was taken than there is.
    pub fn overran(&self) -> bool {
        (self.at * 8).saturating_sub(self.count as usize) > self.bytes.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(values in prop::collection::vec((any::<u32>(), 0u32..33), 0..200)) {
            let mut writer = BitWriter::new();
            values.iter().for_each(|&(value, count)| writer.put(value, count));
            let bytes = writer.finish();
            let bits: u32 = values.iter().map(|v| v.1).sum();
            prop_assert_eq!(bytes.len(), bits.div_ceil(8) as usize);
            let mut reader = BitReader::new(&bytes);
            for (value, count) in values {
                prop_assert_eq!(u64::from(reader.take(count)), u64::from(value) & ((1u64 << count) - 1));
            }
            prop_assert!(!reader.overran());
            reader.take(32);
            prop_assert!(reader.overran() || bits.is_multiple_of(8) && bytes.is_empty() || reader.overran());
        }
    }
}
