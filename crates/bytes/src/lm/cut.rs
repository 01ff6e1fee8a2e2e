//! What of a block is text for a model, and where its lanes begin.
//!
//! Runs of valid UTF-8 without control characters, of [`LEAST`] bytes and more, are text; what lies between them goes to
//! the byte engine.

/// Shortest run of text.
const LEAST: usize = 64;
/// Bytes that are searched for a space to begin a lane at.
const REACH: usize = 256;

/// Lengths of pieces, text and other bytes in turn, text first (perhaps empty).
pub fn pieces(bytes: &[u8]) -> Vec<usize> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        for run in valid.split_inclusive(|&byte| is_control(byte)) {
            let ends = run.last().is_some_and(|&byte| is_control(byte));
            let length = run.len() - usize::from(ends);
            if length >= LEAST {
                runs.push((at, at + length));
            }
            at += run.len();
        }
        at += chunk.invalid().len();
    }
    let mut lengths = Vec::new();
    let mut done = 0;
    for (start, end) in runs {
        if lengths.is_empty() && start > 0 {
            lengths.push(0);
        }
        if start > done {
            lengths.push(start - done);
        }
        lengths.push(end - start);
        done = end;
    }
    if lengths.is_empty() {
        lengths.push(0);
    }
    if done < bytes.len() {
        lengths.push(bytes.len() - done);
    }
    lengths
}

fn is_control(byte: u8) -> bool {
    byte < 32 && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 127
}

/// Cuts bytes by the lengths of pieces: text, and the rest.
pub fn split(bytes: &[u8], lengths: &[usize]) -> [Vec<u8>; 2] {
    let mut out = [Vec::new(), Vec::new()];
    let mut rest = bytes;
    for (turn, &length) in lengths.iter().enumerate() {
        let (piece, more) = rest.split_at(length.min(rest.len()));
        out[turn % 2].extend_from_slice(piece);
        rest = more;
    }
    out
}

/// Undoes [`split`].
pub fn join(parts: [&[u8]; 2], lengths: &[usize]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = parts;
    for (turn, &length) in lengths.iter().enumerate() {
        let (piece, more) = rest[turn % 2].split_at_checked(length)?;
        out.extend_from_slice(piece);
        rest[turn % 2] = more;
    }
    rest.iter().all(|rest| rest.is_empty()).then_some(out)
}

/// Cuts text into lanes of much the same length, the first longer by `head`, each beginning with a space or a line where one is near.
pub fn lanes(text: &[u8], count: usize, head: usize) -> Vec<&[u8]> {
    let each = (text.len() / count.max(1)).max(1);
    let mut out = Vec::new();
    let mut rest = text;
    for lane in 0..count {
        let more = if lane == 0 { head.saturating_sub(head / count) } else { 0 };
        let left = count - lane;
        let want = if left == 1 { rest.len() } else { (rest.len().min(each + more)).min(rest.len() * 2 / left + more) };
        let break_at = |&at: &usize| matches!(rest.get(at), Some(b' ' | b'\n'));
        let character = |&at: &usize| rest.get(at).is_none_or(|byte| byte & 0xC0 != 0x80);
        let near = want..rest.len().min(want + REACH);
        let at = near.clone().find(break_at).or_else(|| near.clone().find(character)).unwrap_or(rest.len());
        let (lane, more) = rest.split_at(if left == 1 { rest.len() } else { at });
        if !lane.is_empty() {
            out.push(lane);
        }
        rest = more;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_other_bytes_take_turns() {
        let text = "Alice was beginning to get very tired of sitting by her sister on the bank. ";
        let bytes = [&[0, 1, 2][..], text.as_bytes(), &[0xFF; 9], b"short", &[7], text.as_bytes()].concat();
        assert_eq!(pieces(&bytes), [0, 3, text.len(), 15, text.len()]);
        assert_eq!(pieces(b""), [0]);
        assert_eq!(pieces(text.as_bytes()), [text.len()]);
    }

    proptest! {
        #[test]
        fn pieces_and_lanes_are_the_whole(parts in prop::collection::vec(prop_oneof!["[ -~]{0,200}".prop_map(String::into_bytes), any::<Vec<u8>>(), "\\PC{0,60}".prop_map(String::into_bytes)], 0..8), count in 1usize..9) {
            let bytes = parts.concat();
            let lengths = pieces(&bytes);
            let [text, other] = split(&bytes, &lengths);
            prop_assert!(std::str::from_utf8(&text).is_ok());
            prop_assert_eq!(join([&text, &other], &lengths), Some(bytes));
            let lanes = lanes(&text, count, 10);
            prop_assert!(lanes.len() <= count && lanes.iter().all(|lane| std::str::from_utf8(lane).is_ok()));
            prop_assert_eq!(lanes.concat(), text);
        }
    }
}
