//! Whole numbers in as few bytes as they need: seven bits a byte, lowest first, the top bit set where more follow.

/// Writes a number.
pub fn put(value: u64, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a number from the front; nothing if it is cut off, longer than it need be, or beyond 64 bits.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 127);
        if place == 9 && part > 1 || place > 0 && byte == 0 {
            return None;
        }
        value |= part << (7 * place);
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

/// A signed number as an unsigned one, small magnitudes first.
pub fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The other way.
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value in any::<u64>(), signed in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            prop_assert_eq!(take(&mut &bytes[..]), Some(value));
            prop_assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn there_is_one_way_to_write_a_number() {
        assert_eq!(take(&mut &[0x80, 0x00][..]), None);
        assert_eq!(take(&mut &[0xFF; 11][..]), None);
    }
}
