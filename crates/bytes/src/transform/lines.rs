//! Whether data is lines of values: numbers, names, addresses, a column after the other.

/// Bytes of a line at most, on average.
const LINE: usize = 200;
/// One byte of so many may be no printable character.
const STRANGE: usize = 50;

/// Whether bytes, which are no text, are printable characters in lines.
pub fn are_values(bytes: &[u8]) -> bool {
    let (mut lines, mut strange) = (0, 0);
    for &byte in bytes {
        lines += usize::from(byte == b'\n');
        strange += usize::from(!matches!(byte, b' '..=b'~' | b'\t'..=b'\r'));
    }
    lines * LINE > bytes.len() && strange * STRANGE < bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_lines_are_told_from_numbers_and_from_one_long_line() {
        let values: String = (0..500).map(|n| format!("10.0.{}.{}\n", n / 7, n * n % 251)).collect();
        assert!(are_values(values.as_bytes()));
        assert!(!are_values(&values.replace('\n', " ").into_bytes()));
        assert!(!are_values(&(0..2000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()));
        assert!(!are_values(b""));
    }
}
