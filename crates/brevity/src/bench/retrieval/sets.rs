//! Sets of questions about long contexts, from files of JSON lines (`.gz` too); what a line holds says which set it is.
//!
//! | set | a line | remembered | asked, answered |
//! |---|---|---|---|
//! | key-value retrieval (Lost in the Middle, 2023) | `ordered_kv_records`, `key`, `value` | as many records as the window holds, the one asked for in its relative place | the key, its value |
//! | LongChat topics (2023) | `prompt`, `label` | the conversation's beginning | the first topic, its name |
//! | QMSum (2021) | `meeting_transcripts`, `specific_query_list` | the transcript about the passage that a query is about | the query, its answer |
//!
//! Contexts are cut to the window, never filled up: a shorter one stays shorter.

use super::Case;
use anyhow::{Context, Result, bail};
use brevity_model::tokenizer::Tokenizer;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Longest line that is read.
const LONGEST: u64 = 1 << 26;
/// Tokens of context that a case must hold at least.
const LEAST: usize = 64;

/// The first `cases` questions of a set, each filling at most `window` tokens.
///
/// # Errors
/// If the file cannot be read or is no such set, or the window is too small for it.
pub fn cases(tokenizer: &Tokenizer, path: &Path, window: usize, cases: usize) -> Result<Vec<Case>> {
    let read = || -> Result<Vec<Case>> {
        let mut all = Vec::new();
        for (number, line) in lines(path)?.take(cases).enumerate() {
            let made = line.and_then(|line| case(tokenizer, &line, window));
            all.push(made.with_context(|| format!("line {}", number + 1))?);
        }
        if all.is_empty() {
            bail!("the file holds no question");
        }
        Ok(all)
    };
    read().with_context(|| path.display().to_string())
}

/// The lines of a file as JSON.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Value>>> {
    let file = File::open(path)?;
    let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let bytes: Box<dyn Read> = if packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = BufReader::new(bytes);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&line).context("this is no JSON")),
            Err(error) => Some(Err(error.into())),
        }
    }))
}

fn case(tokenizer: &Tokenizer, line: &Value, window: usize) -> Result<Case> {
    let set = Set { tokenizer, window };
    match line {
        _ if line.get("ordered_kv_records").is_some() => set.key_value(line),
        _ if line.get("label").is_some() && line.get("prompt").is_some() => set.longchat(line),
        _ if line.get("meeting_transcripts").is_some() => set.qmsum(line),
        _ => bail!("neither key-value retrieval, nor LongChat, nor QMSum"),
    }
    .and_then(|case| case.context("a field is missing, or is not what it should be"))
}

struct Set<'a> {
    tokenizer: &'a Tokenizer,
    window: usize,
}

impl Set<'_> {
    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, false, false)
    }

    /// Tokens of context beside the question and the answer.
    fn room(&self, question: &[u32], answer: &[u32]) -> Result<usize> {
        let taken = question.len() + answer.len() + 1;
        match self.window.checked_sub(taken).filter(|room| *room >= LEAST) {
            Some(room) => Ok(room),
            None => bail!("--window {} is too small for it: {} tokens are the least", self.window, taken + LEAST),
        }
    }

    fn made(&self, task: &str, context: &[u32], question: Vec<u32>, answer: Vec<u32>) -> Option<Case> {
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        let prompt: Vec<u32> = bos.into_iter().chain(context.iter().copied()).collect();
        let whole = !prompt.is_empty() && !question.is_empty() && !answer.is_empty();
        whole.then(|| Case { task: task.to_string(), prompt, question, answer })
    }

    fn key_value(&self, line: &Value) -> Result<Option<Case>> {
        let records = || -> Option<(Vec<String>, usize, &str, &str)> {
            let (key, value) = (line.get("key")?.as_str()?, line.get("value")?.as_str()?);
            let pair = |pair: &Value| Some((pair.get(0)?.as_str()?.to_string(), pair.get(1)?.as_str()?.to_string()));
            let pairs: Vec<_> = line.get("ordered_kv_records")?.as_array()?.iter().map(pair).collect::<Option<_>>()?;
            let at = pairs.iter().position(|(name, held)| name == key && held == value)?;
            let text = pairs.iter().map(|(name, value)| format!("\n \"{name}\": \"{value}\","));
            Some((text.collect(), at, key, value))
        };
        let Some((records, at, key, value)) = records() else { return Ok(None) };
        let (question, answer) = (self.encode(&format!("\n}}\nKey: \"{key}\"\nValue: \"")), self.encode(value));
        let intro = self.encode("JSON data:\n{");
        let mut left = self.room(&question, &answer)?.saturating_sub(intro.len());
        let coded: Vec<Vec<u32>> = records.iter().map(|record| self.encode(record)).collect();
        let count =
            coded.iter().take_while(|record| left.checked_sub(record.len()).map(|rest| left = rest).is_some()).count();
        // Records around the one asked for, which stands where it stood among all.
        let first = (at * (records.len() - count) / records.len().max(1)).min(at).max((at + 1).saturating_sub(count));
        let context = [intro, coded[first..(first + count).min(coded.len())].concat()].concat();
        if count == 0 {
            bail!("--window {} does not hold one record", self.window);
        }
        Ok(self.made("key-value retrieval", &context, question, answer))
    }

    fn longchat(&self, line: &Value) -> Result<Option<Case>> {
        let fields = || Some((line.get("prompt")?.as_str()?, line.get("label")?.get(0)?.as_str()?));
        let Some((prompt, label)) = fields() else { return Ok(None) };
        let text = prompt.split("Now the record ends.").next().unwrap_or(prompt);
        let question = self.encode(
            "\n Now the record ends. What is the first topic we discussed? Only give me the topic name. Do not summarize yourself. ASSISTANT:",
        );
        let answer = self.encode(&format!(" {label}"));
        let room = self.room(&question, &answer)?;
        let context = self.encode(text);
        Ok(self.made("LongChat topics", &context[..room.min(context.len())], question, answer))
    }

    fn qmsum(&self, line: &Value) -> Result<Option<Case>> {
        let fields = || -> Option<(Vec<String>, &str, &str, usize)> {
            let said = |turn: &Value| {
                Some(format!("{}: {}\n", turn.get("speaker")?.as_str()?, turn.get("content")?.as_str()?))
            };
            let turns = line.get("meeting_transcripts")?.as_array()?.iter().map(said).collect::<Option<_>>()?;
            let query = line.get("specific_query_list")?.get(0)?;
            let span = query.get("relevant_text_span")?.get(0)?.get(0)?.as_str()?.parse().ok()?;
            Some((turns, query.get("query")?.as_str()?, query.get("answer")?.as_str()?, span))
        };
        let Some((turns, query, answer, span)) = fields() else { return Ok(None) };
        let question = self.encode(&format!("\nQuestion: {query}\nAnswer:"));
        let answer = self.encode(&format!(" {answer}"));
        let room = self.room(&question, &answer)?;
        let coded: Vec<Vec<u32>> = turns.iter().map(|turn| self.encode(turn)).collect();
        // The passage stands in the middle of what the window holds.
        let (mut first, mut before) = (span.min(coded.len()), 0);
        while first > 0 && before + coded[first - 1].len() <= room / 2 {
            first -= 1;
            before += coded[first].len();
        }
        let context = coded[first..].concat();
        Ok(self.made("QMSum", &context[..room.min(context.len())], question, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;
    use crate::progress::Show;
    use std::io::Write;

    fn written(line: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{line}").unwrap();
        file
    }

    #[test]
    fn each_set_is_known_by_its_fields_and_holds_its_answer() {
        let source = open::open(None, Show::choose(true)).unwrap();
        let tokenizer = source.tokenizer().unwrap();
        let records: Vec<String> = (0..60).map(|i| format!(r#"["key-{i}-a", "value-{i}-b"]"#)).collect();
        let key_value =
            format!(r#"{{"ordered_kv_records": [{}], "key": "key-44-a", "value": "value-44-b"}}"#, records.join(","));
        let turns: Vec<String> =
            (0..90).map(|i| format!(r#"{{"speaker": "A{i}", "content": "turn number {i} of them"}}"#)).collect();
        let qmsum = format!(
            r#"{{"meeting_transcripts": [{}], "specific_query_list": [{{"query": "What?", "answer": "Turn 70.", "relevant_text_span": [["70", "71"]]}}]}}"#,
            turns.join(",")
        );
        let long = "I would like to discuss the topic of ships. ".repeat(60);
        let longchat = format!(r#"{{"prompt": "{long}Now the record ends. What?", "label": ["ships", "x"]}}"#);
        for (line, task, holds, answer) in [
            (&key_value, "key-value retrieval", "\"key-44-a\": \"value-44-b\"", "value-44-b"),
            (&qmsum, "QMSum", "turn number 70 of", " Turn 70."),
            (&longchat, "LongChat topics", "topic of ships", " ships"),
        ] {
            for window in [300, 400] {
                let case = &cases(tokenizer, written(line).path(), window, 1).unwrap()[0];
                let text = tokenizer.decode(&case.prompt);
                assert!(text.contains(holds), "{task}: {text}");
                assert_eq!((case.task.as_str(), tokenizer.decode(&case.answer).as_str()), (task, answer));
                let total = case.prompt.len() + case.question.len() + case.answer.len();
                assert!(total <= window && total > window / 2, "{task}: {total} of {window}");
            }
        }
        for (line, says) in
            [("{}", "neither"), ("[", "no JSON"), (r#"{"label": 3, "prompt": 4}"#, "a field"), ("", "no JSON")]
        {
            let error = cases(tokenizer, written(line).path(), 300, 1).err().map(|error| format!("{error:#}")).unwrap();
            assert!(error.contains(says) && error.contains("line 1"), "{line}: {error}");
        }
        let error = cases(tokenizer, written(&key_value).path(), 80, 1).err().unwrap();
        assert!(format!("{error:#}").contains("too small"));
    }
}
