//! Facts hidden in a long text.
//!
//! A text of public domain is the haystack; facts stand in it as sentences of their own at even depths:
//!
//! - *needle*: one fact, asked for;
//! - *multi-needle*: four of a kind with different names, one asked for;
//! - *key-value*: eight lines `key: value` in a row, one asked for;
//! - *variable tracking*: a value passed from name to name through the text, the last name asked for.

use super::Case;
use anyhow::{Result, bail};
use brevity_model::tokenizer::Tokenizer;

/// The kinds of questions.
pub const TASKS: [&str; 4] = ["needle", "multi-needle", "key-value", "variable tracking"];
const NAMES: [&str; 8] = ["harbour", "garden", "castle", "market", "bridge", "forest", "temple", "island"];
/// Needles of a kind, and names that a value is passed through.
const MANY: usize = 4;

/// Five digits that nothing in the text suggests.
fn number(seed: usize) -> usize {
    let x = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    10_000 + ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize % 90_000
}

/// Sentences with their depth in percent, the question, the answer.
fn facts(task: usize, case: usize) -> (Vec<(usize, String)>, String, String) {
    let (depth, value) = (10 + 80 * (case * 37 % 100) / 100, number(100 * task + case));
    let name = |i: usize| NAMES[(case + i) % NAMES.len()];
    let sentence = |name: &str, value: usize| format!(" The secret number of the {name} is {value}.");
    match task {
        0 => (
            vec![(depth, sentence(name(0), value))],
            format!(" The secret number of the {} is", name(0)),
            format!(" {value}"),
        ),
        1 => {
            let needle = |i: usize| {
                (10 + 80 * i / MANY, sentence(name(i), if i == 1 { value } else { number(7000 + 10 * case + i) }))
            };
            ((0..MANY).map(needle).collect(), format!(" The secret number of the {} is", name(1)), format!(" {value}"))
        }
        2 => {
            let line = |i: usize| {
                let value = if i == 5 { value } else { number(9000 + 10 * case + i) };
                format!("\n{}: {value}", name(i))
            };
            (vec![(depth, (0..8).map(line).collect::<String>() + "\n")], format!("\n{}:", name(5)), format!(" {value}"))
        }
        _ => {
            let passed = |i: usize| match i {
                0 => (10, sentence(name(0), value)),
                _ => {
                    let text =
                        format!(" The secret number of the {} is that of the {}: {value}.", name(i), name(i - 1));
                    (10 + 80 * i / MANY, text)
                }
            };
            (
                (0..MANY).map(passed).collect(),
                format!(" The secret number of the {} is that of the {}:", name(MANY), name(MANY - 1)),
                format!(" {value}"),
            )
        }
    }
}

/// `cases` cases of each task, each filling `window` tokens.
///
/// # Errors
/// If the haystack is too short, or the window holds no more than the question.
pub fn cases(tokenizer: &Tokenizer, haystack: &str, window: usize, cases: usize) -> Result<Vec<Case>> {
    let hay = tokenizer.encode(haystack, false, false);
    let head: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
    let mut all = Vec::new();
    for (task, name) in TASKS.iter().enumerate() {
        for case in 0..cases {
            let (needles, question, answer) = facts(task, case);
            let encode = |text: &str| tokenizer.encode(text, false, false);
            let (question, answer) = (encode(&question), encode(&answer));
            let needles: Vec<(usize, Vec<u32>)> = needles.iter().map(|(depth, text)| (*depth, encode(text))).collect();
            let taken =
                head.len() + question.len() + answer.len() + needles.iter().map(|(_, n)| n.len()).sum::<usize>();
            let Some(room) = window.checked_sub(taken).filter(|room| *room >= 64) else {
                bail!("--window {window} is too small for questions: {} tokens are the least", taken + 64);
            };
            let first = (case * 997) % hay.len().saturating_sub(room).max(1);
            let Some(text) = hay.get(first..first + room) else {
                bail!("the text is too short: {} tokens, and {room} are needed for questions", hay.len());
            };
            let mut prompt = head.clone();
            let mut done = 0;
            for (depth, needle) in &needles {
                let until = (room * depth / 100).max(done);
                prompt.extend(&text[done..until]);
                prompt.extend(needle);
                done = until;
            }
            prompt.extend(&text[done..]);
            all.push(Case { task: name.to_string(), prompt, question, answer });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_in_the_text_and_differs_from_case_to_case() {
        let mut answers = Vec::new();
        for task in 0..TASKS.len() {
            for case in 0..20 {
                let (needles, question, answer) = facts(task, case);
                let whole: String = needles.iter().map(|(_, text)| text.as_str()).collect();
                assert!(whole.contains(answer.trim()), "{task} {case}");
                assert!(needles.iter().all(|(depth, _)| *depth <= 90) && needles.is_sorted_by_key(|(depth, _)| *depth));
                if task < 3 {
                    assert!(whole.contains(&format!("{question}{answer}")), "{task} {case}: {question}");
                }
                answers.push(answer);
            }
        }
        let count = answers.len();
        answers.sort();
        answers.dedup();
        assert!(answers.len() > count - 3);
    }
}
