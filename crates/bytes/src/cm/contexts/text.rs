//! Contexts of text whose words may have become codes.

use super::{BANK, Expected, Far, Recent, Wide, hash2};

#[inline(always)]
pub fn first(r: &Recent, expected: u32) -> [u64; BANK] {
    let c4 = r.c4;
    [
        hash2(0, c4 & 0xFF),
        hash2(0, c4 & 0xFFFF),
        hash2(0, c4 & 0xFF_FFFF),
        hash2(0, c4),
        hash2(r.c8 & 0xFF, c4),
        hash2(r.c8 & 0xFFFF, c4),
        hash2(r.words[0], 0x100),
        hash2(r.words[0], r.words[1]),
        hash2(r.words[0] ^ r.words[1].rotate_left(9), r.words[2]),
        hash2(r.words[0].wrapping_add(1), r.words[2]),
        hash2(c4 & 0xFFFF_FF00, 0x200),
        hash2(r.line_start, c4 & 0xFF | r.above << 8 | 0x30000),
        hash2((r.kinds & 0xFFFF_FFFF) as u32, c4 & 0xFF),
        hash2(expected | r.bracket << 8, c4 & 0xFF),
        hash2(r.words[1], c4 & 0xFF),
        hash2(r.bracket, r.words[0]),
    ]
}

#[inline(always)]
pub fn second(r: &Recent, expected: u32) -> [u64; BANK] {
    let c4 = r.c4;
    let [w0, w1, w2, w3] = r.words;
    [
        hash2(r.c8 & 0xFF_FFFF, c4),
        hash2(r.c8, c4),
        hash2(w0 ^ w1.rotate_left(9), w2 ^ w3.rotate_left(7)),
        hash2(w0.wrapping_add(2), w3),
        hash2(w1, w2.wrapping_add(3)),
        hash2(w1 ^ w3.rotate_left(5), w0.wrapping_add(5)),
        hash2(c4 & 0xFF00_FF00, 0x300),
        hash2(c4 & 0xFFFF_0000, 0x400),
        hash2(c4 & 0xFFFF_FF00, r.c8 & 0xFF | 0x500),
        hash2(r.line_start, w0.wrapping_add(6)),
        hash2(r.bracket | 0x700, c4 & 0xFFFF),
        hash2((r.kinds >> 32) as u32, (r.kinds & 0xFFFF_FFFF) as u32),
        hash2(expected | 0x800, c4 & 0xFFFF),
        hash2(r.above | r.column.min(255) << 8 | 0x9_0000, 0),
        hash2(c4 & 0xF0FF_F0FF, w1),
        hash2(w0.wrapping_add(7), expected | r.bracket << 8),
    ]
}

#[inline(always)]
pub fn sets(r: &Recent) -> [usize; 5] {
    let word = usize::from(r.code) * 2 + usize::from(r.coded);
    let state = word << 8 | (r.kinds & 0xF0) as usize | (r.bracket & 15) as usize;
    [(r.kinds & 0xFF) as usize, (r.kinds & 0xFFF) as usize, (r.c4 & 0xFF) as usize, state, (r.kinds & 0xF) as usize]
}

#[inline(always)]
pub fn third(r: &Recent, far: &Far, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let [w0, w1, w2, _] = r.words;
    let follow1 = far.follow1[(c4 & 0xFF) as usize];
    let follow2 = far.follow2[(c4 & 0xFFFF) as usize];
    let name = far.name();
    [
        hash2(follow1 & 0xFFFF, c4 & 0xFF),
        hash2(follow1 & 0xFF_FFFF, 0x100),
        hash2(follow2 & 0xFFFF, 0x200),
        hash2(follow2 & 0xFF, c4 & 0xFFFF),
        hash2(name, w0.wrapping_add(0x300)),
        hash2(name, c4 & 0xFFFF),
        hash2(far.heads[0], w0.wrapping_add(0x400)),
        hash2(far.heads[0] ^ far.heads[1].rotate_left(9), c4 & 0xFF | r.column.min(3) << 8),
        hash2(far.shape, 0x500),
        hash2(far.number, c4 & 0xFF | far.digits << 8),
        hash2(far.c12 & 0xFFFF, c4 ^ r.c8.wrapping_mul(0x2F0B_4C47)),
        hash2(w1, (r.kinds & 0xFFF) as u32 | 0x6000),
        hash2(expected[1] | expected[2] << 8 | 0x700_0000, c4 & 0xFF),
        hash2(far.sentence, w0.wrapping_add(0x800)),
        hash2(w0.wrapping_add(9), w1 ^ (r.kinds >> 16 & 0xFFFF) as u32),
        hash2(w0 ^ w2.rotate_left(11), r.line_start),
    ]
}

#[inline(always)]
pub fn fourth(r: &Recent, far: &Far, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let [w0, w1, w2, w3] = r.words;
    let [_, e1, e2, e3] = far.ends;
    let two = |end: u32| end & 0xFFFF;
    let three = |end: u32| end & 0xFF_FFFF;
    let outer = far.names.len().checked_sub(2).and_then(|at| far.names.get(at)).copied().unwrap_or(0);
    [
        hash2(three(e1), w0.wrapping_add(0x100)),
        hash2(two(e1) | two(e2) << 16, w0.wrapping_add(0x200)),
        hash2(three(e1), c4 & 0xFF | ((r.kinds & 0xFF) as u32) << 8 | 0x30_0000),
        hash2(two(e1) | two(e2) << 16, w0.wrapping_add(two(e3) << 8 | 3)),
        hash2(three(e1) ^ w2.rotate_left(9), w0.wrapping_add(0x400)),
        hash2(three(e2) ^ w1.rotate_left(9), w0.wrapping_add(0x500)),
        hash2(far.marks & 0xFF, w0.wrapping_add(0x600)),
        hash2(far.marks & 0xFFF, (r.kinds & 0xFFFF) as u32 | 0x7_0000),
        hash2(outer, far.name() ^ w0.wrapping_add(0x800)),
        hash2(far.closed, w0.wrapping_add(0x900)),
        hash2(w0 ^ w1.rotate_left(9), w3.wrapping_add(0xA00)),
        hash2(expected[1] | ((r.kinds & 0xFFF) as u32) << 8, 0xB00),
        hash2(far.c12, c4 ^ r.c8.wrapping_mul(0x9E37_79B1)),
        hash2(r.column, c4 & 0xFF | 0xC_0000),
        hash2(e1, e2.wrapping_add(c4 & 0xFF)),
        hash2(far.number ^ far.digits, w1.wrapping_add(0xD00)),
    ]
}

#[inline(always)]
pub fn fifth(r: &Recent, wide: &Wide) -> [u64; BANK] {
    let c4 = r.c4;
    let [w0, w1, w2, _] = r.words;
    let [one, two] = wide.foretold;
    let c1 = c4 & 0xFF;
    [
        hash2((wide.letters >> 32) as u32 & 0xFFFF, wide.letters as u32),
        hash2(wide.letters as u32, c1 | 0x100),
        hash2(wide.bones[0], w1.wrapping_add(0x200)),
        hash2(wide.bones[0] ^ wide.bones[1].rotate_left(9), c1 | 0x300),
        hash2(wide.firsts & 0xFF_FFFF, w0.wrapping_add(0x400)),
        hash2(wide.firsts & 0xFFFF, c4 & 0xFFFF | 0x5_0000),
        hash2(one[0], w0.wrapping_add(0x600)),
        hash2(two[0], w0.wrapping_add(0x700)),
        hash2(one[0] ^ two[0].rotate_left(9), w0.wrapping_add(0x800)),
        hash2(wide.long[0], w0.wrapping_add(0x900)),
        hash2(wide.long[0] ^ wide.long[1].rotate_left(9), w0.wrapping_add(0xA00)),
        hash2(w1 ^ wide.long[1].rotate_left(9), w0.wrapping_add(0xB00)),
        hash2(wide.name, w0.wrapping_add(0xC00)),
        hash2(wide.opener ^ wide.in_sentence.min(7), w0.wrapping_add(0xD00)),
        hash2(wide.inside, 0xE00),
        hash2(wide.between, w0 ^ w1.rotate_left(9) ^ w2.rotate_left(18)),
    ]
}

#[inline(always)]
pub fn sixth(r: &Recent, far: &Far, wide: &Wide, expected: Expected) -> [u64; BANK] {
    let c4 = r.c4;
    let [w0, w1, w2, w3] = r.words;
    let c1 = c4 & 0xFF;
    let above = wide.above();
    [
        hash2(far.c12 & 0xFF, c4 ^ r.c8.wrapping_mul(0x2F0B_4C47)),
        hash2(w0 ^ w1.rotate_left(9) ^ w2.rotate_left(18), w3 ^ wide.older[0].rotate_left(9)),
        hash2(w0 ^ w2.rotate_left(9), w3.wrapping_add(0x200)),
        hash2(w0, wide.older[0].wrapping_add(0x300)),
        hash2(wide.in_line, far.heads[0] ^ w0.wrapping_add(0x400)),
        hash2(above[0], w0.wrapping_add(0x500)),
        hash2(above[0] ^ above[1].rotate_left(9), r.above | c1 << 8 | 0x60_0000),
        hash2((r.kinds & 0xFFFF_FFFF) as u32, r.above | 0x700),
        hash2(expected[0] | expected[1] << 8 | expected[2] << 16, c4 & 0xFFFF | 0x8_0000),
        hash2(wide.followed[0] & 0xFFFF, c1 | 0x900),
        hash2(wide.followed[0] & 0xFF_FFFF, 0xA00),
        hash2(wide.followed[1] & 0xFFFF, c1 | 0xB00),
        hash2(wide.followed[1] & 0xFF | (wide.followed[0] & 0xFF) << 8, c4 & 0xFFFF | 0xC_0000),
        hash2(wide.foretold[0][1], w0 ^ wide.foretold[0][0].rotate_left(5)),
        hash2(wide.foretold[1][1], w0 ^ wide.foretold[1][0].rotate_left(5)),
        hash2(c4 & 0x1F1F_1F1F, r.c8 & 0x1F1F | 0xF_0000),
    ]
}
