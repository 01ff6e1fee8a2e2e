//! x86 code with the targets of its calls and jumps as absolute addresses.
//!
//! A call (E8) or jump (E9) is followed by the distance to its target in 32 bits. The same target has another distance from every
//! place; its address is the same. Where the distance is within ±2²⁴, it is replaced by the address modulo 2²⁵, sign extended
//! the same way, so that the other way finds the same places.

/// Places that are tried are at least so far from the end.
const OPERAND: usize = 5;

fn convert(bytes: &mut [u8], sign: i32) {
    let mut at = 0;
    while at + OPERAND <= bytes.len() {
        if bytes[at] & 0xFE != 0xE8 {
            at += 1;
            continue;
        }
        let Some(operand) = bytes.get_mut(at + 1..).and_then(|rest| rest.first_chunk_mut::<4>()) else { return };
        if operand[3] == 0 || operand[3] == 0xFF {
            let value = i32::from_le_bytes(*operand).wrapping_add(sign.wrapping_mul(at as i32));
            // 25 bits, the highest of them as the sign.
            let value = value << 7 >> 7;
            *operand = value.to_le_bytes();
        }
        at += OPERAND;
    }
}

/// Distances become addresses.
pub fn forward(bytes: &mut [u8]) {
    convert(bytes, 1);
}

/// Addresses become distances.
pub fn backward(bytes: &mut [u8]) {
    convert(bytes, -1);
}

/// Whether calls and jumps with near targets are so frequent that these bytes must be x86 code.
pub fn is_code(bytes: &[u8]) -> bool {
    let mut near = 0;
    let mut at = 0;
    while at + OPERAND <= bytes.len() {
        if bytes[at] & 0xFE != 0xE8 {
            at += 1;
            continue;
        }
        near += usize::from(bytes[at + 4] == 0 || bytes[at + 4] == 0xFF && bytes[at + 3] >= 0xF0);
        at += OPERAND;
    }
    near > 50 && near > bytes.len() / 400
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_target_becomes_the_same_bytes() {
        let mut code = vec![0x90; 300];
        for at in [10usize, 100, 250] {
            code[at] = 0xE8;
            code[at + 1..at + 5].copy_from_slice(&(5000 - at as i32).to_le_bytes());
        }
        let before = code.clone();
        forward(&mut code);
        assert_eq!(code[11..15], 5000i32.to_le_bytes());
        assert!(code[11..15] == code[101..105] && code[11..15] == code[251..255]);
        backward(&mut code);
        assert_eq!(code, before);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(mut bytes in prop::collection::vec(prop_oneof![Just(0xE8u8), Just(0u8), Just(0xFFu8), any::<u8>()], 0..300)) {
            let before = bytes.clone();
            forward(&mut bytes);
            backward(&mut bytes);
            prop_assert_eq!(bytes, before);
        }
    }
}
