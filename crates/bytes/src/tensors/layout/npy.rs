//! numpy's `.npy`: a line of Python says type, order and shape, then the array follows.

use super::{Kind, Tensor};
use std::io::{Read, Seek, SeekFrom};

/// Longest line that is read.
const LONGEST: usize = 1 << 16;

/// The array of a file (or of a part of one) that begins at `start` and has `length` bytes.
pub fn tensor<R: Read + Seek>(file: &mut R, start: u64, length: u64) -> Option<Tensor> {
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut fixed = [0; 12];
    file.read_exact(&mut fixed).ok()?;
    let (begin, line) = match fixed {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, low, high, ..] => (10, usize::from(u16::from_le_bytes([low, high]))),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d] => {
            (12, usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?)
        }
        _ => return None,
    };
    let mut text = vec![0; Some(line).filter(|&line| line <= LONGEST)?];
    file.seek(SeekFrom::Start(start + begin)).ok()?;
    file.read_exact(&mut text).ok()?;
    let text = String::from_utf8(text).ok()?;
    let kind = kind(value(&text, "descr")?.trim_matches(['\'', '"']))?;
    let offset = begin + line as u64;
    let bytes = length.checked_sub(offset)?;
    let row = value(&text, "shape").and_then(|shape| last(shape, value(&text, "fortran_order")? == "True"));
    Some(Tensor { name: String::new(), kind, offset: start + offset, bytes, row: row.unwrap_or(0), base: None })
}

/// The value that stands behind a key, up to the comma or brace that ends it.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let after = text.split_once(&format!("'{key}':"))?.1.trim_start();
    let end = if after.starts_with('(') { after.find(')')? + 1 } else { after.find([',', '}'])? };
    after.get(..end).map(str::trim)
}

/// The dimension that numbers follow each other in.
fn last(shape: &str, fortran: bool) -> Option<usize> {
    let mut sizes = shape.trim_matches(['(', ')']).split(',').map(str::trim).filter(|size| !size.is_empty());
    if fortran { sizes.next() } else { sizes.next_back() }?.parse().ok()
}

fn kind(descr: &str) -> Option<Kind> {
    match descr {
        "<f2" => Some(Kind::Float16),
        "<f4" => Some(Kind::Float32),
        "<f8" => Some(Kind::Float64),
        "|i1" | "|u1" | "|b1" => Some(Kind::Integer(1)),
        "<i2" | "<u2" => Some(Kind::Integer(2)),
        "<i4" | "<u4" => Some(Kind::Integer(4)),
        "<i8" | "<u8" => Some(Kind::Integer(8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn arrays_are_found() {
        let mut file = b"\x93NUMPY\x01\0\x46\0".to_vec();
        let line = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
        file.extend(format!("{line:69}\n").bytes());
        file.extend([0; 48]);
        let length = file.len() as u64;
        let found = tensor(&mut Cursor::new(&file), 0, length).unwrap();
        assert_eq!((found.kind, found.offset, found.bytes, found.row), (Kind::Float32, 80, 48, 4));
        assert_eq!(tensor(&mut Cursor::new(&file[..40]), 0, 40), None);
        assert_eq!(tensor(&mut Cursor::new(&file), 0, 70), None);
    }
}
