//! Contexts of lines of values: columns of a table, one after the other.

use super::{BANK, Recent, hash2};

#[inline(always)]
pub fn first(r: &Recent, expected: u32) -> [u64; BANK] {
    let c4 = r.c4;
    let last = c4 & 0xFF;
    [
        hash2(0, last),
        hash2(0, c4 & 0xFFFF),
        hash2(0, c4 & 0xFF_FFFF),
        hash2(0, c4),
        hash2(r.c8 & 0xFFFF, c4),
        hash2(r.value, 0x100),
        hash2(0, 0),
        hash2(r.bracket, r.words[0]),
        hash2(r.line_start, r.above << 8 | last | 0x2_0000),
        hash2(r.words[0], r.words[1]),
        hash2((r.kinds & 0xFFFF_FFFF) as u32, last | r.above << 8 | 0x3_0000),
        hash2(r.kinds as u32, r.column | 0xC00),
        hash2(c4 & 0xF0F0_F0F0, r.c8 & 0xF0F0),
        hash2(c4 & 0xFFFF_FF00, 0x200),
        hash2(r.column, r.above | (r.kinds as u32 & 0xFF) << 8 | 0x4_0000),
        hash2(expected, last),
    ]
}

#[inline(always)]
pub fn sets(r: &Recent) -> [usize; 5] {
    let last = (r.c4 & 0xFF) as usize;
    let column = r.column.min(31) as usize;
    let kinds = r.kinds as usize;
    [column << 3 | r.above as usize >> 5, kinds & 0xFFF, last, kinds & 0xFF, kinds & 15]
}
