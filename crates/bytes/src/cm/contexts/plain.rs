//! Contexts of anything else.

use super::{BANK, Expected, Far, Recent, Wide, hash2};

#[inline(always)]
pub fn first(r: &Recent, expected: u32) -> [u64; BANK] {
    let c4 = r.c4;
    let [place0, place1, place2, place3] = match r.record {
        0..=3 => gaps(r),
        _ => records(r),
    };
    [
        hash2(0, c4 & 0xFF),
        hash2(0, c4 & 0xFFFF),
        hash2(0, c4 & 0xFF_FFFF),
        hash2(0, c4),
        hash2(r.c8 & 0xFFFF, c4),
        hash2(r.words[0], c4 & 0xFF),
        hash2(c4 & 0xFF00, 0x100),
        hash2(c4 & 0xFF_FF00, 0x200),
        hash2(c4 & 0xFF00_FF00, 0x300),
        hash2(c4 & 0xF0F0_F0F0, r.c8 & 0xF0F0),
        place0,
        place1,
        place2,
        place3,
        hash2(c4 & 0xFFFF_F8F8, 0x400),
        hash2(expected, 0),
    ]
}

/// What stands in the same place of the records before.
#[inline(always)]
fn records(r: &Recent) -> [u64; 4] {
    let [above, above2, beside] = r.earlier;
    let (last, field) = (r.c4 & 0xFF, r.field as u32);
    [
        hash2(above << 8 | last, field),
        hash2(above << 8 | above2, 0x1_0000),
        hash2(field, 0x2_0000 | last),
        hash2(above << 16 | beside << 8 | last, 0x3_0000),
    ]
}

/// Further gaps, with the place in short records.
#[inline(always)]
fn gaps(r: &Recent) -> [u64; 4] {
    let (c4, field) = (r.c4, r.field as u32);
    [
        hash2(r.c8 & 0xFF, c4),
        hash2(c4 & 0xFFFF_0000, 0x1_0000 | field),
        hash2(c4 & 0xFF_0000, 0x2_0000 | field),
        hash2(c4 & 0xFF00_00FF, 0x3_0000 | field),
    ]
}

#[inline(always)]
pub fn second(r: &Recent, expected: u32) -> [u64; BANK] {
    let c4 = r.c4;
    let [above, above2, beside] = r.earlier;
    let field = r.field as u32;
    [
        hash2(r.c8 & 0xFF, c4),
        hash2(r.c8 & 0xFF_FFFF, c4),
        hash2(r.words[0], r.words[1]),
        hash2(c4 & 0xFFFF_0000, 0x500),
        hash2(c4 & 0xFF_0000, 0x600),
        hash2(c4 & 0xFF00_0000, 0x700),
        hash2(c4 & 0xFFFF_FF00, r.c8 & 0xFF),
        hash2(c4 & 0xFF_00FF, 0x800),
        hash2(c4 & 0xFF00_00FF, 0x900),
        hash2(above << 24 | c4 & 0xFFFF, 0xA00),
        hash2(above << 16 | above2 << 8 | c4 & 0xFF, field),
        hash2(above.wrapping_sub(above2) & 0xFF | beside << 8, c4 & 0xFF | 0xB00),
        hash2((above + (c4 & 0xFF)).wrapping_sub(beside) & 0x1FF, 0xC00),
        hash2((r.kinds & 0xFFFF_FFFF) as u32, 0xD00),
        hash2(c4 & 0xF0F0_F0F0, r.c8 & 0xF0F0_F0F0),
        hash2(expected | 0xE00, c4 & 0xFF),
    ]
}

#[inline(always)]
pub fn sets(r: &Recent) -> [usize; 5] {
    let [c3, c2, c1] = [16, 8, 0].map(|shift| (r.c4 >> shift & 0xFF) as usize);
    if r.record <= 3 {
        return [c2, (c2 >> 4 << 8) | c1, (c1 & 0xFC) | r.field & 3, c3 << 3 | c2 >> 5, c1 >> 4];
    }
    let field = r.field & 0xFF;
    [field, (r.earlier[0] >> 4 << 8) as usize | c1, c1, field << 3 | c2 >> 5, c1 >> 4]
}

#[inline(always)]
pub fn third(r: &Recent, far: &Far, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let [above, above2, beside] = r.earlier;
    let field = r.field as u32;
    let follow1 = far.follow1[(c4 & 0xFF) as usize];
    let follow2 = far.follow2[(c4 & 0xFFFF) as usize];
    [
        hash2(follow1 & 0xFFFF, c4 & 0xFF),
        hash2(follow1 & 0xFF_FFFF, 0x100),
        hash2(follow2 & 0xFFFF, 0x200),
        hash2(follow2 & 0xFF, c4 & 0xFFFF),
        hash2(r.c8, c4),
        hash2(r.words[0] ^ r.words[1].rotate_left(9), r.words[2]),
        hash2(r.above, c4 & 0xFF | r.column.min(255) << 8 | 0x2_0000),
        hash2(far.shape, 0x500),
        hash2(c4 & 0xF0, r.c8 & 0xFF | 0x600),
        hash2(r.c8 & 0xFFFF, 0x700),
        hash2(above, above2 << 8 | beside << 16 | 0x800_0000),
        hash2(above.wrapping_add(c4 & 0xFF).wrapping_sub(beside) & 0xFF | above << 8, field),
        hash2(expected[1] | expected[2] << 8 | 0x700_0000, c4 & 0xFF),
        hash2(c4 & 0xE0E0_E0E0, 0x900),
        hash2((c4 & 0xFF).wrapping_mul(2).wrapping_sub(c4 >> 8 & 0xFF) & 0x1FF, 0xA00),
        hash2(c4 & 0xFFF8_F8FF, r.c8 & 0xF8),
    ]
}

#[inline(always)]
pub fn fourth(r: &Recent, far: &Far, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let [above, above2, beside] = r.earlier;
    let field = r.field as u32;
    let follow1 = far.follow1[(c4 & 0xFF) as usize];
    let follow2 = far.follow2[(c4 & 0xFFFF) as usize];
    [
        hash2(follow1 & 0xFF, c4 & 0xFFFF),
        hash2(follow2 & 0xFF_FFFF, 0x100),
        hash2(field | above << 16, c4 & 0xFFFF),
        hash2(field | above << 16, above2 | beside << 8 | 0x2_0000),
        hash2(r.column, c4 & 0xFF | 0x3_0000),
        hash2(far.name(), c4 & 0xFFFF | 0x4_0000),
        hash2(far.heads[0], r.words[0] ^ c4 & 0xFF),
        hash2(far.number, c4 & 0xFF | far.digits << 8),
        hash2(expected[0] | 0x500_0000, c4 & 0xFFFF),
        hash2(c4 & 0xFF00_FFFF, 0x600),
        hash2(c4 & 0xFFFF_00FF, r.c8 & 0xFF | 0x700),
        hash2(r.c8 & 0xFF00_00FF, c4 & 0xFF00_00FF),
        hash2(r.c8 & 0xFF00, c4 & 0xFF00_FF00),
        hash2(far.c12 & 0xFF, r.c8 ^ c4.wrapping_mul(0x2F0B_4C47)),
        hash2(far.c12 & 0xFFFF_0000, 0x800 | c4 & 0xFF),
        hash2((r.kinds >> 32) as u32, (r.kinds & 0xFFFF_FFFF) as u32),
    ]
}

#[inline(always)]
pub fn fifth(r: &Recent, wide: &Wide, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let c1 = c4 & 0xFF;
    let field = r.field as u32;
    let [above, above2, _] = r.earlier;
    let [follow3, follow_word] = wide.followed;
    [
        hash2(follow3 & 0xFFFF, c1 | 0x100),
        hash2(follow3 & 0xFF_FFFF, 0x200),
        hash2(follow3 & 0xFF, c4 & 0xFFFF | 0x3_0000),
        hash2(follow_word & 0xFFFF, c1 | 0x400),
        hash2(wide.inside, 0x500),
        hash2(r.words[0] ^ r.words[1].rotate_left(9), r.words[2] ^ r.words[3].rotate_left(7)),
        hash2(wide.letters as u32, c1 | 0x600),
        hash2(wide.foretold[0][0], r.words[0].wrapping_add(0x700)),
        hash2(expected[0] | expected[1] << 8 | expected[2] << 16, c4 & 0xFFFF | 0x8_0000),
        hash2(expected[2] | 0x900, c4 & 0xFFFF),
        hash2(c4 & 0xFFFF_FF00, r.c8 & 0xFFFF | 0xA_0000),
        hash2(c4 & 0xFFFF_0000, r.c8 & 0xFF | 0xB00),
        hash2(r.c8, 0xC00),
        hash2(c4 & 0xFF_0000, r.c8 & 0xFF | 0xD00 | field << 16),
        hash2((r.kinds & 0xFFF) as u32 | field << 16, 0xE_0000 | c1),
        hash2(above | above2 << 8 | c4 << 16, field),
    ]
}

#[inline(always)]
pub fn sixth(r: &Recent, far: &Far, wide: &Wide, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let [c1, c2] = [c4 & 0xFF, c4 >> 8 & 0xFF];
    let [above, above2, beside] = r.earlier;
    let field = r.field as u32;
    let [w0, w1, w2, _] = r.words;
    [
        hash2(c4 & 0xF8F8_F8F8, 0x100),
        hash2(c4 & 0xFCFC_FCFC, r.c8 & 0xFCFC),
        hash2(c4 & 0xFF_F0F0, 0x200 | r.c8 & 0xF0),
        hash2(c4 & 0xFF00_FF00, r.c8 & 0xFF00_FF00),
        hash2(c4 & 0xFF_00FF, r.c8 & 0xFF_00FF),
        hash2(c4 & 0xFF, r.c8 & 0xFF | 0x400),
        hash2(c4 & 0xFF, r.c8 & 0xFFFF_0000 | 0x500),
        hash2(far.c12 & 0xFFFF, 0x600 | c1),
        hash2(c4 & 0xFFFF, r.c8 & 0xFFFF | 0x700_0000),
        hash2(above.wrapping_sub(above2) & 0xFF | (c1.wrapping_sub(beside) & 0xFF) << 8, above | 0x800),
        hash2((c1 + above).wrapping_sub(beside) & 0x1FF | c2 << 16, field),
        hash2(
            wide.followed[0] & 0xFF | (far.follow2[(c4 & 0xFFFF) as usize] & 0xFF) << 8,
            far.follow1[c1 as usize] & 0xFF,
        ),
        hash2(expected[0] | (r.kinds as u32 & 0xFFF) << 8, 0x9_0000),
        hash2(w0.wrapping_add(0xA00), w1),
        hash2(w0.wrapping_add(0xB00), w2),
        hash2(wide.between, w0.wrapping_add(0xC00)),
    ]
}
