//! Each operation of each instruction set against [`Scalar`].

use super::*;
use proptest::prelude::*;

/// All operations on one pair of vectors, as bits.
struct Everything<'a> {
    a: &'a [f32; 16],
    b: &'a [f32; 16],
    c: &'a [f32; 16],
    half: &'a [u16; 16],
}

impl Kernel for Everything<'_> {
    type Output = Vec<[u32; 16]>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let (a, b, c) = (s.load(self.a), s.load(self.b), s.load(self.c));
        let small = s.min(s.max(a, s.splat(-1e9)), s.splat(1e9));
        let (ia, ib) = (s.bits(a), s.bits(b));
        let half = self.half.as_ptr();
        let floats = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.sqrt(a),
            s.fma(a, b, c),
            s.fnma(a, b, c),
            s.max(a, b),
            s.min(a, b),
            s.round(a),
            s.abs(a),
            s.neg(a),
            s.swap::<1>(a),
            s.swap::<2>(a),
            s.swap::<4>(a),
            s.swap::<8>(a),
            s.select(s.lt(a, b), a, c),
            s.select(s.is_nan(a), b, a),
            s.to_float(ia),
            s.to_float(s.to_int(small)),
            s.load_part(&self.a[..5]),
            unsafe { s.load_f16_ptr(half) },
            unsafe { s.load_bf16_ptr(half) },
        ];
        let ints = [
            s.add_i(ia, ib),
            s.sub_i(ia, ib),
            s.mul_i(ia, ib),
            s.dot_pairs(ia, ib, s.bits(c)),
            s.and_i(ia, ib),
            s.or_i(ia, ib),
            s.shl_i::<5>(ia),
            s.shr_i::<7>(ia),
        ];
        let mut out = Vec::new();
        for f in floats {
            out.push(s.lanes(s.canonical(f)).map(f32::to_bits));
        }
        for i in ints {
            let mut lanes = [0; 16];
            s.store_i(&mut lanes, i);
            out.push(lanes.map(|v| v as u32));
        }
        out.push(s.to_f16(a).map(u32::from));
        let mut part = [7.0; 16];
        s.store_part(&mut part[2..9], b);
        out.push(s.lanes(s.canonical(s.load(&part))).map(f32::to_bits));
        out.push([s.sum(c).to_bits(), s.greatest(c).to_bits(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out
    }
}

fn any_bits() -> impl Strategy<Value = [f32; 16]> {
    prop::array::uniform16(prop_oneof![
        3 => any::<u32>().prop_map(f32::from_bits),
        3 => -100f32..100.0,
        1 => prop::sample::select(vec![0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-45, 0.5, 1.5, 2.5, 65504.0, 65520.0])
    ])
}

proptest! {
    #[test]
    fn every_isa_gives_the_bits_of_scalar(
        a in any_bits(), b in any_bits(), c in prop::array::uniform16(-1e6f32..1e6), half in prop::array::uniform16(any::<u16>()),
    ) {
        let expected = dispatch_on(Isa::Scalar, Everything { a: &a, b: &b, c: &c, half: &half });
        for isa in Isa::available() {
            prop_assert_eq!(&dispatch_on(isa, Everything { a: &a, b: &b, c: &c, half: &half }), &expected, "{:?}", isa);
        }
    }
}

#[test]
fn the_tree_adds_in_its_order() {
    let mut v = [0.0f32; 16];
    (v[0], v[8], v[4]) = (1e8, -1e8, 1.0);
    assert_eq!(tree_sum(v), 1.0);
    (v[8], v[4], v[12]) = (1.0, -1e8, 1.0);
    assert_eq!(tree_sum(v), 0.0);
}
