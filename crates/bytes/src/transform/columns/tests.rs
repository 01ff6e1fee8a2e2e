use super::*;
use proptest::prelude::*;

const STYLES: [Style; 3] = [Style::Strings, Style::Sorting, Style::Mixing];

fn round_trip(text: &[u8]) -> bool {
    STYLES.map(|style| {
        let Some(parts) = split(text, style) else { return false };
        assert!(join(&parts, text.len()).as_deref() == Some(text), "{}", String::from_utf8_lossy(text));
        assert_eq!(join(&parts, text.len() + 1), None);
        true
    })[0]
}

fn log(lines: usize) -> String {
    (0..lines)
        .map(|n| {
            let clock = format!("2026-03-04 {:02}:{:02}:{:02},{:03}", n / 3600, n / 60 % 60, n % 60, n * 77 % 1000);
            match n % 3 {
                0 => format!("{clock} INFO open block blk_{} from 10.0.{}.7\n", n * 7919, n % 5),
                1 => format!("{clock} WARN  slow disk 0x{:08x} after {} ms, 0x{0:08x}\n", n * 31, n % 13),
                _ => format!("{clock} INFO close {}\r\n", ["alice", "bob", "carol"][n / 3 % 3]),
            }
        })
        .collect()
}

#[test]
fn logs_come_back_whatever_their_lines_hold() {
    let log = log(400);
    assert!(round_trip(log.as_bytes()));
    for odd in
        ["\r", "", "\0\0", " 1  2 ", "\u{FF}", "0007 \t x", "2026-03-04 99:99:99,999 INFO open block blk_ from 1"]
    {
        assert!(round_trip(format!("{odd}\n{log}{odd}").as_bytes()), "{odd:?}");
    }
    let mut bytes = log.into_bytes();
    (0..bytes.len()).step_by(997).for_each(|at| bytes[at] = 0x80 | at as u8);
    round_trip(&bytes);
}

#[test]
fn tables_objects_and_elements_come_back() {
    let lines = |line: &dyn Fn(usize) -> String| (0..300).map(line).collect::<String>();
    assert!(round_trip(lines(&|n| format!("{n},{}.50,\"a, {}\",,-{n}\r\n", n * 3, n % 4)).as_bytes()));
    assert!(round_trip(lines(&|n| format!("{n}\t\t{}\n", n * n)).as_bytes()));
    assert!(round_trip(lines(&|n| format!("{{\"id\": {n}, \"k\": \"v\\\"{}\", \"n\": null}}\n", n % 7)).as_bytes()));
    assert!(round_trip(lines(&|n| format!("  <row id=\"{n}\">text {}</row>\n", n % 9)).as_bytes()));
}

#[test]
fn columns_are_what_varies() {
    let text = log(3000);
    let parts = split(text.as_bytes(), Style::Mixing).unwrap();
    assert_eq!(parts.lines.len(), 3001);
    assert!(parts.text.len() + parts.numbers.len() < text.len() / 2);
    let prose = "Words that never come in the same order make no template at all, whatever one does.\n";
    let scattered: String = (0..400)
        .map(|n| prose.split(' ').cycle().skip(n * n % 83).take(5 + n % 9).collect::<Vec<_>>().join(" "))
        .collect();
    assert!(split(scattered.as_bytes(), Style::Mixing).is_none());
}

#[test]
fn a_slot_that_repeats_another_takes_nothing() {
    let line = |n: usize| format!("job {} done, log of {} closed\n", n * n % 1009, n * n % 1009);
    let once = split((0..500).map(line).collect::<String>().as_bytes(), Style::Strings).unwrap();
    let line = |n: usize| format!("job {} done, log of {} closed\n", n * n % 1009, n * n % 1013);
    let twice = split((0..500).map(line).collect::<String>().as_bytes(), Style::Strings).unwrap();
    assert!(once.numbers.len() * 3 < twice.numbers.len() * 2);
}

#[test]
fn threads_do_not_change_the_parts() {
    let text = log(2000);
    brevity_kernels::pool::set_threads(1);
    let one = split(text.as_bytes(), Style::Strings);
    brevity_kernels::pool::set_threads(2);
    assert_eq!(split(text.as_bytes(), Style::Strings), one);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_lines_come_back(lines in prop::collection::vec("[a-c]{1,2} [0-9.:]{0,8},[0-9]{0,2}\r?|\\PC{0,9}|[ \"{}<>,]{0,6}", 1..40)) {
        round_trip(lines.join("\n").repeat(3).as_bytes());
    }

    #[test]
    fn any_parts_are_joined_or_refused(text: Vec<u8>, lines: Vec<u8>, numbers: Vec<u8>, length in 0usize..300) {
        if let Some(bytes) = join(&Parts { text, lines, numbers }, length) {
            prop_assert_eq!(bytes.len(), length);
        }
    }

    #[test]
    fn damaged_parts_are_joined_or_refused(at in 0usize..2000, byte: u8, which in 0usize..3) {
        let text = log(60);
        let mut parts = split(text.as_bytes(), Style::Strings).unwrap();
        let part = match which { 0 => &mut parts.text, 1 => &mut parts.lines, _ => &mut parts.numbers };
        let at = at % part.len();
        part[at] = byte;
        if let Some(bytes) = join(&parts, text.len()) {
            prop_assert_eq!(bytes.len(), text.len());
        }
    }
}
