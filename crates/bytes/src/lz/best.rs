//! Parsing at the least cost: of all ways to cut a part into literals and matches, the one that takes the fewest bits by the
//! statistics of the part before.
//!
//! ```text
//! cost(i + 1) ← cost(i) + literal        cost(i + n) ← cost(i) + command(literals so far, n) + distance
//! ```
//!
//! Matches are those with the last three distances and, of ten lengths, with the place where so many bytes came last.

use super::Sequence;
use super::matching::{Latest, common, hash, word};
use super::symbols::{
    COMMANDS, DISTANCES, LEAST, REPEATS, Recent, command, distance_code, length_code, literals_code, of_command,
};
use brevity_kernels::math;
use std::ops::Range;

/// Units of a bit in costs.
const BIT: f32 = 256.0;
/// A match of this length is taken.
const ENOUGH: usize = 160;
/// Places without a match behind which most are passed over: those are looked up of whose hash three bits are 0, here as there.
const QUIET: usize = 1 << 12;
/// Shorter matches come by chance.
const BY_CHANCE: usize = 5;
/// Bytes from which the first statistics come.
const AHEAD: usize = 1 << 16;

/// How often symbols came.
struct Counts {
    literals: [u32; 256],
    commands: [u32; COMMANDS],
    distances: [u32; DISTANCES],
}

/// Costs of symbols, raw bits included.
struct Costs {
    literals: [u32; 256],
    commands: [u32; COMMANDS],
    distances: [u32; DISTANCES],
}

impl Costs {
    fn of(counts: &Counts) -> Self {
        let mut costs = Self {
            literals: costs(&counts.literals),
            commands: costs(&counts.commands),
            distances: costs(&counts.distances),
        };
        for (symbol, cost) in costs.commands.iter_mut().enumerate() {
            let [(_, literals), (_, length)] = of_command(symbol);
            *cost += (literals + length) * BIT as u32;
        }
        for (symbol, cost) in costs.distances.iter_mut().enumerate().skip(REPEATS) {
            *cost += super::symbols::of_distance(symbol).1 * BIT as u32;
        }
        costs
    }
}

fn costs<const N: usize>(counts: &[u32; N]) -> [u32; N] {
    // A symbol that has not come yet may.
    let total: f32 = counts.iter().map(|&count| count as f32 + 0.3).sum();
    counts.map(|count| (math::ln(total / (count as f32 + 0.3)) * (std::f32::consts::LOG2_E * BIT)) as u32)
}

/// The cheapest way to a place.
#[derive(Clone, Copy)]
struct Node {
    cost: u32,
    /// Of the match that ends here, 0 for a literal.
    length: u32,
    distance: u32,
    /// Literals behind the last match.
    literals: u32,
    recent: Recent,
}

const FAR: Node = Node { cost: u32::MAX, length: 0, distance: 0, literals: 0, recent: Recent([1; REPEATS]) };

/// What is known of the bytes before.
pub struct Best {
    latest: Latest,
    counts: Counts,
    nodes: Vec<Node>,
    /// Places since a match was found that is none by chance.
    quiet: usize,
}

impl Best {
    /// Bytes of tables for so many bytes.
    pub fn memory(length: usize) -> usize {
        Latest::memory(length) + length.min(super::PART) * size_of::<Node>()
    }

    /// For these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut best = Self::plain(bytes);
        if bytes.len() > AHEAD / 4 {
            // What a first look at the beginning counts stands for what comes.
            let head = &bytes[..bytes.len().min(AHEAD)];
            let mut first = Self::plain(head);
            first.parse(head, 0..head.len(), &mut Recent::default(), &mut Vec::new());
            best.counts = first.counts;
        }
        best
    }

    fn plain(bytes: &[u8]) -> Self {
        let mut counts = Counts { literals: [0; 256], commands: [1; COMMANDS], distances: [1; DISTANCES] };
        bytes.iter().take(AHEAD).for_each(|&byte| counts.literals[usize::from(byte)] += 1);
        counts.distances[..REPEATS].fill(8);
        Self { latest: Latest::new(bytes.len()), counts, nodes: Vec::new(), quiet: 0 }
    }

    /// The sequences of a part; what is behind the last of them are literals.
    pub fn parse(&mut self, bytes: &[u8], part: Range<usize>, recent: &mut Recent, out: &mut Vec<Sequence>) {
        let costs = Costs::of(&self.counts);
        let count = part.len();
        self.nodes.clear();
        self.nodes.resize(count + 1, FAR);
        self.nodes[0] = Node { cost: 0, recent: *recent, ..FAR };
        let mut i = 0;
        while i < count {
            let taken = self.extend(bytes, part.start + i, i, part.end, &costs);
            for place in i + 1..i + taken {
                self.latest.find(bytes, part.start + place);
            }
            i += taken.max(1);
        }
        let first = out.len();
        let mut at = count;
        while let Some(node) = self.nodes.get(at).filter(|_| at > 0).copied() {
            if node.length == 0 {
                at -= node.literals.max(1) as usize;
                continue;
            }
            at -= node.length as usize;
            let literals = self.nodes[at].literals;
            out.push(Sequence { literals, length: node.length, distance: node.distance });
            at -= literals as usize;
        }
        out[first..].reverse();
        *recent = self.nodes[count].recent;
        self.count(bytes, part, &out[first..]);
    }

    /// The ways on from a place; the length of a match that is taken, or 0.
    #[inline(always)]
    fn extend(&mut self, bytes: &[u8], at: usize, i: usize, end: usize, costs: &Costs) -> usize {
        let node = self.nodes[i];
        let literal = &mut self.nodes[i + 1];
        let cost = node.cost + costs.literals[usize::from(bytes[at])];
        if cost < literal.cost {
            *literal = Node { cost, length: 0, distance: 0, literals: node.literals + 1, recent: node.recent };
        }
        self.quiet += 1;
        let found = match self.quiet > QUIET {
            true if hash(word(bytes, at), 8, 3) > 0 => return 0,
            true => self.latest.find_alone(bytes, at),
            false => self.latest.find(bytes, at),
        };
        if at == 0 || at + LEAST as usize > end {
            return 0;
        }
        let run = literals_code(node.literals);
        let mut longest = (0, 0);
        for (place, distance) in node.recent.0.into_iter().enumerate() {
            if distance as usize > at {
                continue;
            }
            let length = common(bytes, at - distance as usize, at, end);
            if length >= LEAST as usize {
                self.reach(i, LEAST as usize..length + 1, distance, costs.distances[place], run, costs);
                if length > longest.0 {
                    longest = (length, distance);
                }
            }
        }
        let mut reached = LEAST as usize - 1;
        let mut before = u32::MAX;
        for earlier in found {
            if earlier as usize >= at || earlier == before {
                continue;
            }
            before = earlier;
            let length = common(bytes, earlier as usize, at, end);
            if length > reached {
                let distance = (at - earlier as usize) as u32;
                let (symbol, _) = distance_code(distance);
                self.reach(i, reached + 1..length + 1, distance, costs.distances[symbol], run, costs);
                reached = length;
                if length > longest.0 {
                    longest = (length, distance);
                }
            }
        }
        if longest.0 >= ENOUGH { longest.0 } else { 0 }
    }

    /// Ways by matches of these lengths.
    #[inline(always)]
    fn reach(&mut self, i: usize, lengths: Range<usize>, distance: u32, cost: u32, run: usize, costs: &Costs) {
        if lengths.end > BY_CHANCE {
            self.quiet = 0;
        }
        let node = self.nodes[i];
        let cost = node.cost + cost;
        let mut recent = node.recent;
        recent.push(distance);
        // Of a match that is taken whole, no part is.
        let lengths = if lengths.end > ENOUGH { lengths.end - 1..lengths.end } else { lengths };
        for length in lengths {
            let cost = cost + costs.commands[command(run, length_code(length as u32))];
            let to = &mut self.nodes[i + length];
            if cost < to.cost {
                *to = Node { cost, length: length as u32, distance, literals: 0, recent };
            }
        }
    }

    /// What came counts as much as all before.
    fn count(&mut self, bytes: &[u8], part: Range<usize>, sequences: &[Sequence]) {
        let Counts { literals, commands, distances } = &mut self.counts;
        for count in literals.iter_mut().chain(commands.iter_mut()).chain(distances.iter_mut()) {
            *count /= 4;
        }
        let mut recent = self.nodes[0].recent;
        let mut at = part.start;
        for sequence in sequences {
            let end = at + sequence.literals as usize;
            bytes[at..end].iter().for_each(|&byte| literals[usize::from(byte)] += 1);
            at = end + sequence.length as usize;
            commands[command(literals_code(sequence.literals), length_code(sequence.length))] += 1;
            let symbol = recent.place(sequence.distance).unwrap_or_else(|| distance_code(sequence.distance).0);
            distances[symbol] += 1;
            recent.push(sequence.distance);
        }
        bytes[at..part.end].iter().for_each(|&byte| literals[usize::from(byte)] += 1);
    }
}
