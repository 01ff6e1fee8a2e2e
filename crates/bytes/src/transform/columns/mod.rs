//! Lines that follow templates, as columns: logs, CSV, JSON lines, XML.
//!
//! `tokens` cuts each line (by content: a log, fields between delimiters, JSON, XML), `cluster` finds the templates, and what
//! stands in a template's slots goes to columns. Slots that have the same template before them share one, so that all lines'
//! clocks stand together; in JSON, those behind the same key. A slot that always repeats an earlier one of its line is no column at all. `column` writes each as
//! text, numbers, differences, choices or digits, whichever promises to take least. Lines without a template stay as they are.
//!
//! ```text
//! 10:02:11 INFO session 17 opened        templates  ⟨⟩ INFO session ⟨⟩ opened
//! 10:02:14 INFO session 18 opened   →    lines      1 1
//!                                        columns    36131 +3 · 17 +1
//! ```
//!
//! There are three streams: text (the templates, the lines without one, columns of text), the lines' templates, and numbers.

mod cluster;
mod column;
mod estimate;
mod tokens;
mod values;

pub use estimate::Style;

use crate::{lz, varint};
use brevity_kernels::pool;
use cluster::{NONE, Template, Templates, lines};
use column::{Column, Way, Written};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use tokens::Cut;

/// Stands in a template for a slot.
const SLOT: u8 = 0;
/// First bytes of two that name a template.
const TWO: usize = 192;
/// Lines of the text for each of a template's lines, at most, where it is frequent.
const SPARSE: usize = 256;
/// Slots of a line that may repeat others.
const REPEATS: usize = 64;

/// Bytes that are cut both ways to choose, and how they are coded.
const SAMPLE: usize = 1 << 17;
const TRIAL: lz::Effort = lz::Effort::Best;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The next value of a column.
    Column(usize),
    /// What that slot of the line holds.
    Repeat(usize),
}

/// Text told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The templates, the lines without one, columns of text.
    pub text: Vec<u8>,
    /// The template of each line.
    pub lines: Vec<u8>,
    /// What templates hold, how columns are written, numbers.
    pub numbers: Vec<u8>,
}

/// A template whose lines are taken apart.
struct Plan {
    slots: Vec<bool>,
    /// What stands before, between and behind the slots.
    pieces: Vec<Vec<u8>>,
    holds: Vec<Slot>,
}

impl Plan {
    fn new(text: &[u8], template: &Template, cut: Cut) -> Self {
        let line = &text[template.line.clone()];
        let mut pieces = vec![Vec::new()];
        let mut from = 0;
        for ((end, _), &slot) in cluster::tokens(line, cut).into_iter().zip(&template.slots) {
            match slot {
                true => pieces.push(Vec::new()),
                false => pieces.last_mut().into_iter().for_each(|piece| piece.extend_from_slice(&line[from..end])),
            }
            from = end;
        }
        Self { slots: template.slots.clone(), pieces, holds: Vec::new() }
    }

    /// Where the slots' values stand in a line; whether it follows the template.
    fn values(&self, line: &[u8], cut: Cut, found: &mut Vec<Range<usize>>) -> bool {
        found.clear();
        let (mut from, mut start, mut index, mut fits) = (0, 0, 0, true);
        cut.tokens(line, |end, _| {
            if self.slots.get(index) == Some(&true) {
                fits &= line[from..start] == self.pieces[found.len()][..];
                found.push(start..end);
                from = end;
            }
            start = end;
            index += 1;
        });
        fits && index == self.slots.len() && line[from..] == self.pieces[found.len()][..]
    }
}

/// Which slots of a template repeat others, as far as its lines have shown.
#[derive(Clone, Default)]
struct Repeats {
    first: Option<Vec<Vec<u8>>>,
    varies: Vec<bool>,
    /// For each slot the earlier ones that it has always equalled.
    equals: Vec<u64>,
}

impl Repeats {
    fn see(&mut self, line: &[u8], values: &[Range<usize>]) {
        let value = |index: usize| &line[values[index].clone()];
        let known = values.len().min(REPEATS);
        let Some(first) = &self.first else {
            self.equals = (0..known)
                .map(|slot| (0..slot).filter(|&before| value(before) == value(slot)).fold(0, |set, bit| set | 1 << bit))
                .collect();
            self.varies = vec![false; known];
            self.first = Some((0..known).map(|index| value(index).to_vec()).collect());
            return;
        };
        for (slot, first) in first.iter().enumerate() {
            self.varies[slot] |= value(slot) != first;
            let mut open = self.equals[slot];
            while open != 0 {
                let before = open.trailing_zeros() as usize;
                open &= open - 1;
                if value(before) != value(slot) {
                    self.equals[slot] &= !(1 << before);
                }
            }
        }
    }

    fn of(&self, slot: usize) -> Option<usize> {
        let set = self.equals.get(slot).filter(|_| self.varies[slot])?;
        (*set != 0).then(|| set.trailing_zeros() as usize)
    }
}

/// Text in lines of which half the bytes follow templates, told apart; or nothing.
pub fn split(text: &[u8], style: Style) -> Option<Parts> {
    if !is_lines(text) {
        return None;
    }
    let cut = match Cut::choose(text) {
        cut if cut == Cut::Log || is_shorter(text, cut, Cut::Log) => cut,
        _ => Cut::Log,
    };
    if !is_regular(text, cut) {
        return None;
    }
    split_as(text, cut, style)
}

/// Whether a sample is shorter cut one way than the other, with repeated strings.
fn is_shorter(text: &[u8], one: Cut, other: Cut) -> bool {
    let middle = text.len() / 2;
    let sample = &text[middle.saturating_sub(SAMPLE / 2)..text.len().min(middle + SAMPLE / 2)];
    let size = |cut| {
        let parts = split_as(sample, cut, Style::Strings)?;
        Some([parts.text, parts.lines, parts.numbers].iter().map(|part| lz::encode(part, TRIAL).len()).sum::<usize>())
    };
    size(one).is_some_and(|one| size(other).is_none_or(|other| one < other))
}

fn split_as(text: &[u8], cut: Cut, style: Style) -> Option<Parts> {
    let Templates { list, mut of_line } = cluster::templates(text, cut);
    let mut plans: Vec<Plan> = list.iter().map(|template| Plan::new(text, template, cut)).collect();
    let mut repeats = vec![Repeats::default(); plans.len()];
    let mut values = Vec::new();
    let mut covered = 0;
    let mut spans = vec![0..0; plans.len()];
    for (number, (range, template)) in lines(text).zip(&mut of_line).enumerate() {
        let Some(plan) = plans.get(*template as usize) else { continue };
        let line = &text[range];
        if plan.values(line, cut, &mut values) {
            covered += line.len() + 1;
            repeats[*template as usize].see(line, &values);
            let span = &mut spans[*template as usize];
            *span = if span.end == 0 { number..number + 1 } else { span.start..number + 1 };
        } else {
            *template = NONE;
        }
    }
    if covered * 2 < text.len() {
        return None;
    }
    let count = assign(&mut plans, &list, &repeats, &regions(&list, &spans), cut);
    Some(write(text, cut, style, &plans, &of_line, count))
}

/// Whether a sample of the bytes has newlines and hardly any control characters.
fn is_lines(text: &[u8]) -> bool {
    let step = (text.len() >> 14).max(1) | 1;
    let (mut all, mut ends, mut control) = (0, 0, 0);
    for &byte in text.iter().step_by(step) {
        all += 1;
        ends += usize::from(byte == b'\n');
        control += usize::from(byte < 32 && !matches!(byte, b'\n' | b'\r' | b'\t'));
    }
    ends * 1000 >= all && control * 100 <= all && ends > 0
}

/// Whether a quarter of a sample's bytes stand in lines whose shape occurs twice.
fn is_regular(text: &[u8], cut: Cut) -> bool {
    const PIECE: usize = 1 << 14;
    let (mut all, mut twice) = (0, 0);
    for part in 0..4 {
        let from = (text.len() / 4 * part).min(text.len().saturating_sub(PIECE));
        let sample = &text[from..text.len().min(from + PIECE)];
        let templates = cluster::templates(sample, cut);
        for (line, template) in lines(sample).zip(&templates.of_line) {
            all += line.len();
            twice += if *template == NONE { 0 } else { line.len() };
        }
    }
    all > 0 && twice * 4 >= all
}

/// For each template the part of the text that it is of: where templates begin after all frequent ones before have ended, as in
/// logs that stand behind each other, there is another part.
fn regions(list: &[Template], spans: &[Range<usize>]) -> Vec<usize> {
    let dense = |(template, span): &(&Template, &Range<usize>)| span.len() <= SPARSE * template.count;
    let mut frequent: Vec<&Range<usize>> = list.iter().zip(spans).filter(dense).map(|(_, span)| span).collect();
    frequent.sort_by_key(|span| span.start);
    let (mut starts, mut end) = (Vec::new(), 0);
    for span in frequent {
        if span.start >= end {
            starts.push(span.start);
        }
        end = end.max(span.end);
    }
    spans.iter().map(|span| starts.partition_point(|&start| start <= span.start)).collect()
}

/// Gives each slot its column; returns how many there are.
fn assign(plans: &mut [Plan], list: &[Template], repeats: &[Repeats], regions: &[usize], cut: Cut) -> usize {
    let mut nodes: HashMap<(usize, usize, Vec<u8>), usize> = HashMap::new();
    let mut columns: HashMap<usize, usize> = HashMap::new();
    for (((plan, template), repeats), &region) in plans.iter_mut().zip(list).zip(repeats).zip(regions) {
        let mut node = 0;
        for (slot, piece) in plan.pieces.iter().enumerate().take(plan.pieces.len() - 1) {
            let from = if cut == Cut::Json { 0 } else { node };
            let next = nodes.len() + 1;
            node = *nodes.entry((region, from, piece.clone())).or_insert(next);
            let column = columns.len();
            plan.holds.push(match repeats.of(slot).filter(|_| template.count > 2) {
                Some(before) => Slot::Repeat(before),
                None => Slot::Column(*columns.entry(node).or_insert(column)),
            });
        }
    }
    columns.len()
}

/// Puts the number of a line's template.
fn put_template(template: u32, out: &mut Vec<u8>) {
    match template.wrapping_add(1) as usize {
        code if code < TWO => out.push(code as u8),
        code => out.extend([(TWO + ((code - TWO) >> 8)) as u8, (code - TWO) as u8]),
    }
}

fn take_template(input: &mut &[u8]) -> Option<usize> {
    let mut byte = || {
        let (&first, rest) = input.split_first()?;
        *input = rest;
        Some(usize::from(first))
    };
    let first = byte()?;
    Some(if first < TWO { first } else { TWO + ((first - TWO) << 8 | byte()?) })
}

fn write(text: &[u8], cut: Cut, style: Style, plans: &[Plan], of_line: &[u32], count: usize) -> Parts {
    let mut parts = Parts::default();
    varint::put(of_line.len() as u64, &mut parts.numbers);
    varint::put(plans.len() as u64, &mut parts.numbers);
    let mut known = 0;
    for plan in plans {
        for (slot, piece) in plan.pieces.iter().enumerate() {
            parts.text.extend_from_slice(piece);
            parts.text.push(if slot + 1 < plan.pieces.len() { SLOT } else { b'\n' });
        }
        for held in &plan.holds {
            match *held {
                Slot::Repeat(before) => {
                    parts.numbers.push(1);
                    varint::put(before as u64, &mut parts.numbers);
                }
                Slot::Column(column) if column == known => {
                    known += 1;
                    parts.numbers.push(0);
                }
                Slot::Column(column) => varint::put(column as u64 + 2, &mut parts.numbers),
            }
        }
    }
    let mut columns = vec![(Vec::new(), 0usize); count];
    let mut values = Vec::new();
    for (range, &template) in lines(text).zip(of_line) {
        let line = &text[range];
        put_template(template, &mut parts.lines);
        let Some(plan) = plans.get(template as usize) else {
            parts.text.extend_from_slice(line);
            parts.text.push(b'\n');
            continue;
        };
        plan.values(line, cut, &mut values);
        for (value, held) in values.iter().zip(&plan.holds) {
            if let Slot::Column(column) = *held {
                let (values, count) = &mut columns[column];
                values.extend_from_slice(&line[value.clone()]);
                values.push(b'\n');
                *count += 1;
            }
        }
    }
    let written: Vec<Mutex<Written>> = columns.iter().map(|_| Mutex::default()).collect();
    pool::parallel(columns.len(), |index| {
        if let Ok(mut place) = written[index].lock() {
            *place = column::write(&columns[index].0, style);
        }
    });
    let written: Vec<Written> = written.into_iter().map(|place| place.into_inner().unwrap_or_default()).collect();
    written.iter().for_each(|column| parts.numbers.extend(&column.kind));
    for index in order(columns.iter().map(|(_, count)| *count)) {
        parts.text.extend(&written[index].text);
        parts.numbers.extend(&written[index].numbers);
    }
    parts
}

/// Columns as they stand in the streams: those with most values first.
fn order(counts: impl Iterator<Item = usize>) -> Vec<usize> {
    let counts: Vec<usize> = counts.collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&index| usize::MAX - counts[index]);
    order
}

/// A template as it is read.
struct Known<'a> {
    pieces: Vec<&'a [u8]>,
    holds: Vec<Slot>,
    count: usize,
}

/// The text again, `length` bytes of it; nothing if these are not what [`split`] gives.
pub fn join(parts: &Parts, length: usize) -> Option<Vec<u8>> {
    let (mut text, mut numbers) = (&parts.text[..], &parts.numbers[..]);
    let number = |input: &mut &[u8]| varint::take(input).and_then(|n| usize::try_from(n).ok());
    let (lines, templates) = (number(&mut numbers)?, number(&mut numbers)?);
    if lines == 0 || lines > length.saturating_add(1) || templates > cluster::MOST {
        return None;
    }
    let mut known = Vec::new();
    let mut columns = 0;
    for _ in 0..templates {
        known.push(read_template(&mut text, &mut numbers, &mut columns)?);
    }
    let mut open = &parts.lines[..];
    let mut plain = 0;
    for _ in 0..lines {
        match take_template(&mut open)?.checked_sub(1) {
            None => plain += 1,
            Some(template) => known.get_mut(template)?.count += 1,
        }
    }
    let mut without = text;
    for _ in 0..plain {
        column::take_line(&mut text)?;
    }
    let mut columns = read_columns(&known, columns, &mut text, &mut numbers)?;
    if !open.is_empty() || !text.is_empty() || !numbers.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    let (mut open, mut spans) = (&parts.lines[..], Vec::new());
    for line in 0..lines {
        if line > 0 {
            out.push(b'\n');
        }
        match take_template(&mut open)?.checked_sub(1) {
            None => out.extend_from_slice(column::take_line(&mut without)?),
            Some(template) => put_line(known.get(template)?, &mut columns, &mut spans, length, &mut out)?,
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

fn read_template<'a>(text: &mut &'a [u8], numbers: &mut &[u8], columns: &mut usize) -> Option<Known<'a>> {
    let pieces: Vec<&[u8]> = column::take_line(text)?.split(|&byte| byte == SLOT).collect();
    // Slots do not touch: so each value but one brings a byte of the text with it.
    if pieces.len() > 2 && pieces[1..pieces.len() - 1].iter().any(|piece| piece.is_empty()) {
        return None;
    }
    let mut holds = Vec::new();
    for slot in 0..pieces.len() - 1 {
        holds.push(match varint::take(numbers)? {
            0 => {
                *columns += 1;
                Slot::Column(*columns - 1)
            }
            1 => Slot::Repeat(usize::try_from(varint::take(numbers)?).ok().filter(|&before| before < slot)?),
            code => Slot::Column(usize::try_from(code - 2).ok().filter(|column| column < columns)?),
        });
    }
    Some(Known { pieces, holds, count: 0 })
}

fn read_columns<'a>(
    known: &[Known<'_>],
    count: usize,
    text: &mut &'a [u8],
    numbers: &mut &'a [u8],
) -> Option<Vec<Column<'a>>> {
    let mut counts = vec![0usize; count];
    for template in known {
        for held in &template.holds {
            if let Slot::Column(column) = *held {
                counts[column] = counts[column].saturating_add(template.count);
            }
        }
    }
    let mut ways = (0..count).map(|_| Way::take(numbers).map(Some)).collect::<Option<Vec<_>>>()?;
    let mut columns: Vec<Option<Column<'_>>> = (0..count).map(|_| None).collect();
    for index in order(counts.iter().copied()) {
        columns[index] = Some(Column::open(ways[index].take()?, counts[index], text, numbers)?);
    }
    columns.into_iter().collect()
}

fn put_line(
    template: &Known<'_>,
    columns: &mut [Column<'_>],
    spans: &mut Vec<Range<usize>>,
    length: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    spans.clear();
    let (first, rest) = template.pieces.split_first()?;
    out.extend_from_slice(first);
    for (held, piece) in template.holds.iter().zip(rest) {
        let from = out.len();
        match *held {
            Slot::Column(column) => columns.get_mut(column)?.next(out)?,
            Slot::Repeat(before) => out.extend_from_within(spans.get(before)?.clone()),
        }
        spans.push(from..out.len());
        out.extend_from_slice(piece);
        if out.len() > length {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
