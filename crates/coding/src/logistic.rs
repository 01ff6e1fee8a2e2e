//! The logistic scale: probabilities as log-odds, where evidence adds.
//!
//! `stretch(p) = ln(p / (1 − p))`, in units of 1/256, held to ±2,047 (±8); `squash` is its inverse, on ±3,071 (±12), and
//! returns a probability in units of 2⁻¹⁶. Both are tables made once from additions, multiplications and divisions of
//! IEEE doubles in a written order, so they are the same on every machine.

use std::sync::LazyLock;

/// Largest magnitude of a stretched probability.
pub const MAX_STRETCH: i32 = 2047;
/// Largest magnitude that [`Logistic::squash`] tells apart.
pub const MAX_SQUASH: i32 = 3071;

const SQUASH_ENTRIES: usize = 2 * (MAX_SQUASH as usize + 1);

/// The tables.
pub struct Logistic {
    /// Two more than are asked for: vector loads read four bytes an entry.
    pub(crate) stretch: [i16; 4098],
    squash: [u16; SQUASH_ENTRIES],
}

static TABLES: LazyLock<Box<Logistic>> = LazyLock::new(|| Box::new(Logistic::new()));

impl Logistic {
    /// The tables, made at the first call.
    pub fn get() -> &'static Self {
        &TABLES
    }

    fn new() -> Self {
        // e^(1/256) by its series, then powers of it.
        let x = 1.0 / 256.0;
        let (mut step, mut term) = (1.0f64, 1.0f64);
        for n in 1..12 {
            term = term * x / f64::from(n);
            step += term;
        }
        let mut squash = [0u16; SQUASH_ENTRIES];
        let middle = SQUASH_ENTRIES / 2;
        let mut odds = 1.0f64;
        for distance in 0..=middle {
            // p = odds / (1 + odds) upwards and 1 − p downwards.
            let p = (odds / (1.0 + odds) * 65_536.0 + 0.5) as u32;
            let p = p.clamp(1, 65_535);
            if middle + distance < SQUASH_ENTRIES {
                squash[middle + distance] = p as u16;
            }
            squash[middle - distance] = (65_536 - p) as u16;
            odds *= step;
        }
        let mut stretch = [0i16; 4098];
        let mut at = 0;
        for (index, entry) in stretch.iter_mut().enumerate().take(4096) {
            let wanted = index as u32 * 16 + 8;
            while at < SQUASH_ENTRIES - 1 && u32::from(squash[at]) < wanted {
                at += 1;
            }
            *entry = (at as i32 - middle as i32).clamp(-MAX_STRETCH, MAX_STRETCH) as i16;
        }
        Self { stretch, squash }
    }

    /// Log-odds of a probability in units of 2⁻¹⁶; the lowest 4 bits do not count.
    #[inline(always)]
    pub fn stretch(&self, probability: u16) -> i16 {
        self.stretch[usize::from(probability >> 4)]
    }

    /// Probability in units of 2⁻¹⁶, 1 to 65,535, of log-odds in units of 1/256.
    #[inline(always)]
    pub fn squash(&self, stretched: i32) -> u16 {
        let index = stretched.clamp(-MAX_SQUASH - 1, MAX_SQUASH) + MAX_SQUASH + 1;
        self.squash[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squash_is_the_logistic_function() {
        let tables = Logistic::get();
        for x in -3000..3000 {
            let exact = 65_536.0 / (1.0 + (-f64::from(x) / 256.0).exp());
            assert!((f64::from(tables.squash(x)) - exact).abs() < 1.1, "{x}");
        }
        assert_eq!(tables.squash(0), 32_768);
        assert_eq!(tables.squash(i32::MAX), tables.squash(MAX_SQUASH));
        assert_eq!(u32::from(tables.squash(-300)) + u32::from(tables.squash(300)), 65_536);
    }

    #[test]
    fn stretch_undoes_squash() {
        let tables = Logistic::get();
        for x in -1200..1200 {
            let back = i32::from(tables.stretch(tables.squash(x)));
            let slack = 2 + (x.abs() / 256).pow(3);
            assert!((back - x).abs() <= slack, "{x} became {back}");
        }
        assert!((0..4095u16).all(|p| tables.stretch(p * 16) <= tables.stretch(p * 16 + 16)));
    }
}
