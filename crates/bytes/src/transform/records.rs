//! How long the records of structured data are.

/// Longest record that is looked for.
const LONGEST: usize = 4096;
/// Places that are looked at.
const SAMPLES: usize = 1 << 15;

/// The distance at which bytes repeat most beyond what is expected of any distance, if it stands out: 2 to 4,096, or 0.
pub fn length(bytes: &[u8]) -> usize {
    if bytes.len() < 4 * LONGEST {
        return 0;
    }
    let step = ((bytes.len() - LONGEST) / SAMPLES).max(1) | 1;
    let mut hits = vec![0u32; LONGEST + 1];
    let mut places = 0u32;
    for at in (LONGEST..bytes.len()).step_by(step) {
        let byte = bytes[at];
        // Runs of one byte fit every distance and say nothing.
        if byte == bytes[at - 1] || byte == 0 {
            continue;
        }
        places += 1;
        for (distance, &earlier) in bytes[at - LONGEST..at - 1].iter().rev().enumerate() {
            hits[distance + 2] += u32::from(earlier == byte);
        }
    }
    let mut sorted = hits[2..].to_vec();
    sorted.sort_unstable();
    let usual = sorted[sorted.len() / 2];
    let (mut best, mut most) = (0, usual + usual / 4 + places / 40);
    for (distance, &count) in hits.iter().enumerate().skip(2) {
        // A multiple of a record must be clearly better than the record.
        if count > most {
            most = count + count / 16;
            best = distance;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_and_noise_has_none() {
        let mut seed = 1u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let records: Vec<u8> = (0..4000u32)
            .flat_map(|n| {
                let mut record = [7, 9, 11, 0, 0, 0, 0, 0, 0, 3, 5, 77, (n >> 4) as u8];
                record[3..9].fill_with(&mut noise);
                record
            })
            .collect();
        assert_eq!(length(&records), 13);
        let noise: Vec<u8> = std::iter::repeat_with(noise).take(60_000).collect();
        assert_eq!(length(&noise), 0);
        assert_eq!(length(b"short"), 0);
    }
}
