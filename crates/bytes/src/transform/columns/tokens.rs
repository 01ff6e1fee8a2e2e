//! Lines in tokens.

/// What a token may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of the template: delimiters, keys, tags.
    Mark,
    /// Part of the template unless lines that are alike differ in it.
    Word,
    /// Always a value of a column.
    Value,
}

/// How lines are cut. Between two words or values there is always a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Runs of letters, digits, `_`, with `.`, `-` and `:` of a clock within; what holds a digit is a value.
    Log,
    /// Values between delimiters that are not in quotes.
    Fields(u8),
    /// Strings, numbers and names as values, keys as marks.
    Json,
    /// Attributes and what stands between tags as values, tags as marks.
    Xml,
}

/// Lines that are looked at.
const SAMPLE: usize = 512;

impl Cut {
    /// The cut that fits most of a sample of lines.
    pub fn choose(bytes: &[u8]) -> Self {
        let mut lines = Vec::new();
        for part in 0..4 {
            let from = bytes.len() / 4 * part;
            let whole = bytes[from..].split(|&byte| byte == b'\n').skip(usize::from(part > 0));
            lines.extend(whole.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).take(SAMPLE / 4));
        }
        if lines.is_empty() {
            return Self::Log;
        }
        let most = |is: &dyn Fn(&[u8]) -> bool| lines.iter().filter(|line| is(line)).count() * 10 >= lines.len() * 9;
        if most(&|line| line[0] == b'{' && line.ends_with(b"}")) {
            return Self::Json;
        }
        if lines.iter().filter(|line| line[0] == b'<' && line.contains(&b'>')).count() * 2 >= lines.len() {
            return Self::Xml;
        }
        for delimiter in [b'\t', b',', b';', b'|'] {
            let fields = |line: &[u8]| fields(line, delimiter, |_, _| ());
            let Some(wanted) = lines.get(lines.len() / 2).map(|line| fields(line)) else { break };
            if wanted >= 3 && most(&|line| fields(line) == wanted) {
                return Self::Fields(delimiter);
            }
        }
        Self::Log
    }

    /// Gives the end and the role of each token.
    pub fn tokens(self, line: &[u8], mut emit: impl FnMut(usize, Role)) {
        match self {
            Self::Log => words(line, emit),
            Self::Fields(delimiter) => {
                let end = line.len() - usize::from(line.ends_with(b"\r"));
                fields(&line[..end], delimiter, |_, end| {
                    emit(end, Role::Value);
                    if end < line.len() {
                        emit(end + 1, Role::Mark);
                    }
                });
            }
            Self::Json => json(line, emit),
            Self::Xml => xml(line, emit),
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 128
}

fn words(line: &[u8], mut emit: impl FnMut(usize, Role)) {
    let mut at = 0;
    let digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    while at < line.len() {
        if !is_word(line[at]) {
            at += 1;
            emit(at, Role::Mark);
            continue;
        }
        let mut value = false;
        while let Some(&byte) = line.get(at) {
            let within = match byte {
                b'.' | b'-' => at + 1 < line.len() && is_word(line[at + 1]),
                b',' | b':' => clock(line, at),
                _ => is_word(byte),
            };
            if !within {
                break;
            }
            value |= digit(at);
            at += 1;
        }
        emit(at, if value { Role::Value } else { Role::Word });
    }
}

/// Whether the mark here stands within a clock, `12:34:56` and `,789` behind it.
fn clock(line: &[u8], at: usize) -> bool {
    let pair = |from: usize| line.get(from..from + 2).is_some_and(|two| two.iter().all(u8::is_ascii_digit));
    let colon = |at: usize| line.get(at) == Some(&b':');
    let whole = |from: usize| pair(from) && colon(from + 2) && pair(from + 3) && colon(from + 5) && pair(from + 6);
    let begins = |back: usize| at.checked_sub(back).is_some_and(whole);
    match line[at] {
        b':' => begins(2) || begins(5),
        _ => begins(8) && pair(at + 1) && line.get(at + 3).is_some_and(u8::is_ascii_digit),
    }
}

/// Gives where each field begins and ends; returns how many there are.
fn fields(line: &[u8], delimiter: u8, mut emit: impl FnMut(usize, usize)) -> usize {
    let (mut from, mut quoted, mut count) = (0, false, 1);
    for (at, &byte) in line.iter().enumerate() {
        quoted ^= byte == b'"';
        if byte == delimiter && !quoted {
            emit(from, at);
            from = at + 1;
            count += 1;
        }
    }
    emit(from, line.len());
    count
}

/// The end of a string whose quote stands before `at`: its closing quote, or the end of the line.
fn string(line: &[u8], mut at: usize) -> usize {
    while at < line.len() && line[at] != b'"' {
        at += 1 + usize::from(line[at] == b'\\');
    }
    at.min(line.len())
}

fn json(line: &[u8], mut emit: impl FnMut(usize, Role)) {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
    let mut at = 0;
    while at < line.len() {
        if line[at] == b'"' {
            let end = string(line, at + 1);
            let key = line[end..].iter().skip(1).find(|&&byte| byte != b' ') == Some(&b':');
            if !key {
                emit(at + 1, Role::Mark);
                emit(end, Role::Value);
            }
            at = (end + 1).min(line.len());
            if key || end < line.len() {
                emit(at, Role::Mark);
            }
        } else if bare(line[at]) {
            at += line[at..].iter().take_while(|&&byte| bare(byte)).count();
            emit(at, Role::Value);
        } else {
            at += 1;
            emit(at, Role::Mark);
        }
    }
}

fn xml(line: &[u8], mut emit: impl FnMut(usize, Role)) {
    let mut at = 0;
    let until = |from: usize, stop: &[u8]| from + line[from..].iter().take_while(|byte| !stop.contains(byte)).count();
    while at < line.len() {
        let blank = at + line[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blank > at {
            at = blank;
            emit(at, Role::Mark);
        } else if line[at] != b'<' {
            let end = until(at, b"<");
            at = end - usize::from(end == line.len() && line.ends_with(b"\r"));
            emit(at, Role::Value);
        } else {
            // A tag: its attributes' values are values.
            while at < line.len() {
                at = (until(at, b"\">") + 1).min(line.len());
                emit(at, Role::Mark);
                if line[at - 1] != b'"' {
                    break;
                }
                at = until(at, b"\"");
                emit(at, Role::Value);
                if at < line.len() {
                    at += 1;
                    emit(at, Role::Mark);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(cut: Cut, line: &str) -> String {
        let (mut out, mut from) = (String::new(), 0);
        cut.tokens(line.as_bytes(), |end, role| {
            match role {
                Role::Value => out.push('*'),
                _ => out.push_str(&line[from..end]),
            }
            from = end;
        });
        out
    }

    #[test]
    fn values_stand_out() {
        let log = "2015-07-29 19:22:46,680 - WARN [Send:1889@679] at 10.2.0.1:80 of a.b.c, v2. x:1:22:33";
        assert_eq!(cut(Cut::Log, log), "* * - WARN [Send:*@*] at *:* of a.b.c, *. x:*:*:*");
        assert_eq!(cut(Cut::Fields(b','), "1,\"a,b\",,x\r"), "*,*,*,*\r");
        assert_eq!(
            cut(Cut::Json, r#"{"a": -1.5e3, "b":"x\"y", "c":[true,null,""]}"#),
            r#"{"a": *, "b":"*", "c":[*,*,"*"]}"#
        );
        assert_eq!(cut(Cut::Xml, "  <a href=\"u\" n=\"\">text x</a>\r"), "  <a href=\"*\" n=\"*\">*</a>\r");
    }

    #[test]
    fn the_kind_of_lines_is_found() {
        let lines = |line: &dyn Fn(usize) -> String| (0..200).map(line).collect::<String>();
        assert_eq!(Cut::choose(lines(&|n| format!("{n},{},x\n", n * 7)).as_bytes()), Cut::Fields(b','));
        assert_eq!(Cut::choose(lines(&|n| format!("{{\"n\":{n}}}\n")).as_bytes()), Cut::Json);
        assert_eq!(Cut::choose(lines(&|n| format!(" <n>{n}</n>\n")).as_bytes()), Cut::Xml);
        assert_eq!(Cut::choose(lines(&|n| format!("at {n} it was {}\n", n / 3)).as_bytes()), Cut::Log);
        assert_eq!(Cut::choose(b""), Cut::Log);
    }

    proptest! {
        #[test]
        fn tokens_cover_a_line_and_values_do_not_touch(line in "[a0:<>\"\\\\{},.\\r é-]{0,40}", which in 0usize..4) {
            let (mut at, mut mark, cut) = (0, true, [Cut::Log, Cut::Fields(b','), Cut::Json, Cut::Xml][which]);
            let mut well = true;
            cut.tokens(line.as_bytes(), |end, role| {
                well &= end >= at && (mark || role == Role::Mark) && (end > at || role == Role::Value);
                (at, mark) = (end, role == Role::Mark);
            });
            prop_assert!(well && at == line.len());
        }
    }
}
