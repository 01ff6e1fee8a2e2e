//! Templates of lines, by iterative clustering.
//!
//! Lines whose words and marks agree have one *shape*. Shapes with as many tokens and the same marks form a group. In each round the
//! most frequent shapes of a group are a sample, which is clustered: a shape joins the first cluster with which it shares
//! 70 in a hundred of its words, and words that differ become values. Then all other shapes of the group are matched with the
//! clusters; what none takes is left to the next round. (After Logzip, J. Liu and others, 2019, which samples lines and clusters
//! them by level, component and frequent words.) Groups do not know of each other: they go over all threads.

use super::tokens::{Cut, Role};
use brevity_kernels::pool;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

/// Shapes of a round's sample, clusters that it may have, and rounds.
const SAMPLE: usize = 512;
const CLUSTERS: usize = 64;
const ROUNDS: usize = 6;
/// Words and values of a hundred in which lines of one template agree.
const ALIKE: usize = 70;

/// Most templates of a block: two bytes name one.
pub const MOST: usize = 192 + 64 * 256 - 1;
/// Longest line that has a template.
pub const LONGEST: usize = 1 << 16;

/// A line as an example, and which of its tokens are slots.
#[derive(Clone, Debug)]
pub struct Template {
    /// Where the example stands.
    pub line: Range<usize>,
    /// For each token whether it is a slot.
    pub slots: Vec<bool>,
    /// Lines that follow it.
    pub count: usize,
}

/// Templates, the most frequent first, and that of each line.
pub struct Templates {
    /// The templates.
    pub list: Vec<Template>,
    /// The template of each line, [`NONE`] for none.
    pub of_line: Vec<u32>,
}

/// No template.
pub const NONE: u32 = u32::MAX;

struct Shape {
    line: Range<usize>,
    count: usize,
}

struct Cluster {
    template: Template,
    tokens: Vec<(usize, Role)>,
    shapes: Vec<usize>,
}

/// Shapes, the shape of each line, and the groups.
struct Survey {
    shapes: Vec<Shape>,
    of_line: Vec<u32>,
    groups: Vec<Vec<usize>>,
}

/// The lines of a text: what newlines part.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    text.split(|&byte| byte == b'\n').map(move |line| {
        let range = from..from + line.len();
        from = range.end + 1;
        range
    })
}

fn survey(text: &[u8], cut: Cut) -> Survey {
    let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut groups: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut survey = Survey { shapes: Vec::new(), of_line: Vec::new(), groups: Vec::new() };
    let (mut shape, mut marks) = (Vec::new(), Vec::new());
    for range in lines(text) {
        let line = &text[range.clone()];
        if line.len() > LONGEST || line.contains(&0) {
            survey.of_line.push(NONE);
            continue;
        }
        shape.clear();
        let mut from = 0;
        cut.tokens(line, |end, role| {
            match role {
                Role::Value => shape.push(0),
                Role::Word | Role::Mark => shape.extend_from_slice(&line[from..end]),
            }
            from = end;
        });
        if let Some(&index) = known.get(&shape) {
            survey.shapes[index as usize].count += 1;
            survey.of_line.push(index);
            continue;
        }
        let index = survey.shapes.len();
        known.insert(shape.clone(), index as u32);
        survey.shapes.push(Shape { line: range.clone(), count: 1 });
        survey.of_line.push(index as u32);
        marks.clear();
        from = 0;
        cut.tokens(line, |end, role| {
            match role {
                Role::Mark => marks.extend_from_slice(&line[from..end]),
                Role::Word | Role::Value => marks.push(0),
            }
            from = end;
        });
        let next = survey.groups.len();
        let group = *groups.entry(marks.clone()).or_insert(next);
        if group == next {
            survey.groups.push(Vec::new());
        }
        survey.groups[group].push(index);
    }
    survey
}

/// The tokens of a line: where each ends, and its role.
pub fn tokens(line: &[u8], cut: Cut) -> Vec<(usize, Role)> {
    let mut tokens = Vec::new();
    cut.tokens(line, |end, role| tokens.push((end, role)));
    tokens
}

/// Whether a line is like a template, whose words that differ are slots then.
fn joins(text: &[u8], cluster: &mut Cluster, line: &[u8], tokens: &[(usize, Role)]) -> bool {
    let example = &text[cluster.template.line.clone()];
    let (mut places, mut alike) = (0, 0);
    let mut differ = Vec::new();
    let mut from = (0, 0);
    for (index, (&(end, role), &(other_end, other))) in cluster.tokens.iter().zip(tokens).enumerate() {
        if role != Role::Mark {
            places += 1;
            let same = match (cluster.template.slots[index], other) {
                (true, _) => role == Role::Value && other == Role::Value,
                (false, Role::Word) => example[from.0..end] == line[from.1..other_end],
                (false, _) => false,
            };
            alike += usize::from(same);
            if !same {
                differ.push(index);
            }
        }
        from = (end, other_end);
    }
    if cluster.tokens.len() != tokens.len() || alike * 100 < places * ALIKE {
        return false;
    }
    differ.into_iter().for_each(|index| cluster.template.slots[index] = true);
    true
}

/// The clusters of a group.
fn clusters(text: &[u8], shapes: &[Shape], group: &[usize], cut: Cut) -> Vec<Cluster> {
    let mut rest = group.to_vec();
    // The sort is stable: what is as frequent stays in the order of the text.
    rest.sort_by_key(|&index| usize::MAX - shapes[index].count);
    let mut found: Vec<Cluster> = Vec::new();
    for _ in 0..ROUNDS {
        let first = found.len();
        let mut left = Vec::new();
        for (place, &index) in rest.iter().enumerate() {
            let shape = &shapes[index];
            let line = &text[shape.line.clone()];
            let tokens = tokens(line, cut);
            if let Some(cluster) = found[first..].iter_mut().find_map(|it| joins(text, it, line, &tokens).then_some(it))
            {
                cluster.shapes.push(index);
                cluster.template.count += shape.count;
            } else if place < SAMPLE && found.len() - first < CLUSTERS {
                let slots = tokens.iter().map(|&(_, role)| role == Role::Value).collect();
                let template = Template { line: shape.line.clone(), slots, count: shape.count };
                found.push(Cluster { template, tokens, shapes: vec![index] });
            } else {
                left.push(index);
            }
        }
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    // What stands alone is no template.
    found.retain(|cluster| cluster.template.count > 1);
    found
}

/// The templates of a text.
pub fn templates(text: &[u8], cut: Cut) -> Templates {
    let survey = survey(text, cut);
    let places: Vec<Mutex<Vec<Cluster>>> = survey.groups.iter().map(|_| Mutex::default()).collect();
    pool::parallel(places.len(), |group| {
        if let Ok(mut place) = places[group].lock() {
            *place = clusters(text, &survey.shapes, &survey.groups[group], cut);
        }
    });
    let mut all: Vec<Cluster> = places.into_iter().flat_map(|place| place.into_inner().unwrap_or_default()).collect();
    all.sort_by_key(|cluster| usize::MAX - cluster.template.count);
    all.truncate(MOST);
    let mut of_shape = vec![NONE; survey.shapes.len()];
    for (number, cluster) in all.iter().enumerate() {
        cluster.shapes.iter().for_each(|&shape| of_shape[shape] = number as u32);
    }
    let of_line = survey.of_line.iter().map(|&shape| of_shape.get(shape as usize).copied().unwrap_or(NONE)).collect();
    Templates { list: all.into_iter().map(|cluster| cluster.template).collect(), of_line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_differ_become_slots() {
        let names = ["alice", "bob", "carol"];
        let text: String = (0..30).map(|n| format!("session {n} opened for user {} by root\n", names[n % 3])).collect();
        let templates = templates(text.as_bytes(), Cut::Log);
        assert_eq!(templates.list.len(), 1);
        assert_eq!(templates.list[0].count, 30);
        assert_eq!(templates.list[0].slots.iter().filter(|&&slot| slot).count(), 2);
        assert_eq!(templates.of_line.last(), Some(&NONE));
    }

    #[test]
    fn other_marks_and_other_words_are_other_templates() {
        let text: String = (0..20).map(|n| format!("open {n}\nclose: {n}\nstill the same as before\n")).collect();
        assert_eq!(templates(text.as_bytes(), Cut::Log).list.len(), 3);
    }
}
