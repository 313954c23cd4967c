//! Which trigrams a text must have to match a pattern.
//!
//! A pattern becomes a graph whose arcs are trigrams: a text can match only if the trigrams that it has lead from the
//! start to an accepting node. The graph comes from the automaton that searches for the pattern, so that flags,
//! classes and cases mean the same in both. What would make the graph large (wide classes, long alternations) becomes
//! arcs without a trigram: the texts that can match are then more, never fewer.
//!
//! Source: the index of regular expressions in PostgreSQL's `pg_trgm` (`trgm_regexp.c`), without its colours.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use regex_automata::nfa::thompson::{Compiler, Config, NFA, State, Transition, WhichCaptures};
use regex_automata::util::primitives::StateID;

use super::fold::fold;

/// Distinct bytes that may follow each other as arcs of their own, in the order in which they are tried.
const SPREADS: [usize; 3] = [16, 4, 1];
/// Nodes before arcs without a trigram are left out.
const RAW_NODES_MAX: usize = 2048;
/// Arcs of a graph.
const ARCS_MAX: usize = 4096;
/// The memory of an automaton, in bytes.
const NFA_BYTES_MAX: usize = 4 << 20;

/// What a text must have to match a pattern; a superset of the texts that do. Made once per query.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// Ascending.
    trigrams: Vec<u32>,
    /// The first is the start.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Default)]
struct Node {
    accepts: bool,
    /// The number of a trigram in `trigrams`, and the node behind it.
    arcs: Vec<(u16, u16)>,
}

impl Candidates {
    /// Every text can match.
    pub fn all() -> Self {
        let start = Node {
            accepts: true,
            arcs: Vec::new(),
        };
        Self {
            trigrams: Vec::new(),
            nodes: vec![start],
        }
    }

    /// What a text must have so that a regular expression matches somewhere in it.
    ///
    /// * `regex` — in the syntax of the crate regex, flags and all. Globs are searched for by such expressions, too.
    pub fn regex(regex: &str) -> Self {
        let config = Config::new()
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(NFA_BYTES_MAX));
        let Ok(nfa) = Compiler::new().configure(config).build(regex) else {
            return Self::all();
        };
        let graphs = SPREADS.iter().filter_map(|spread| Raw::of(&nfa, *spread));
        graphs.filter_map(Raw::contracted).next().unwrap_or_else(Self::all)
    }

    /// What a text must have to contain all of some texts, such as the literal pieces of a glob, in this order.
    pub fn pieces(pieces: &[&str], ignore_case: bool) -> Self {
        let escaped: Vec<_> = pieces.iter().map(|p| regex::escape(p)).collect();
        let flags = if ignore_case { "(?is)" } else { "(?s)" };
        Self::regex(&format!("{flags}{}", escaped.join(".*")))
    }

    /// What a text must have so that some part of it is within `distance` edits of `query`.
    ///
    /// * `ignore_case` — characters are compared by their simple case folding
    pub fn fuzzy(query: &str, distance: usize, ignore_case: bool) -> Self {
        let chars: Vec<char> = query.chars().collect();
        // Each edit is in one piece at most, so that one piece stays as it is.
        let pieces = distance.saturating_add(1);
        if chars.len() / pieces == 0 {
            return Self::all();
        }
        let piece = |i: usize| {
            let part = &chars[i * chars.len() / pieces..(i + 1) * chars.len() / pieces];
            part.iter().map(|c| any_case(*c, ignore_case)).collect::<String>()
        };
        let escaped: Vec<_> = (0..pieces).map(piece).collect();
        let flags = if ignore_case { "(?i)" } else { "" };
        Self::regex(&format!("{flags}(?:{})", escaped.join("|")))
    }

    /// Whether nothing is known: every text can match.
    pub fn is_all(&self) -> bool {
        self.nodes[0].accepts
    }

    /// The trigrams that it makes a difference to have, ascending. ASCII letters are in lower case.
    pub fn trigrams(&self) -> &[u32] {
        &self.trigrams
    }

    /// Whether a text can match.
    ///
    /// * `has` — whether it has the trigram of that place among [`Candidates::trigrams`]
    pub fn accepts(&self, has: impl Fn(usize) -> bool) -> bool {
        let mut seen = vec![false; self.nodes.len()];
        seen[0] = true;
        let mut left = vec![0u16];
        while let Some(node) = left.pop() {
            let node = &self.nodes[usize::from(node)];
            if node.accepts {
                return true;
            }
            for (trigram, to) in &node.arcs {
                let to_seen = &mut seen[usize::from(*to)];
                if !*to_seen && has(usize::from(*trigram)) {
                    *to_seen = true;
                    left.push(*to);
                }
            }
        }
        false
    }
}

/// An expression for a character and, under the flag `i`, all that [`fold`] makes the same of.
pub(super) fn any_case(c: char, ignore_case: bool) -> String {
    let folded = fold(c);
    if !ignore_case || c.is_ascii() || folded.is_ascii() {
        return regex::escape(&c.to_string());
    }
    // The syntax of expressions can be of an older version of Unicode than the standard library, and not know the cases
    // of the newest letters.
    format!("[{c}{folded}{}]", folded.to_uppercase())
}

/// The graph of an automaton's states, each with the bytes that were read last, as far as they are known.
#[derive(Default)]
struct Raw {
    nodes: Vec<RawNode>,
    numbers: HashMap<(StateID, u32), u32>,
    places: Vec<(StateID, u32)>,
}

#[derive(Default)]
struct RawNode {
    accepts: bool,
    free: Vec<u32>,
    /// A trigram and the node behind it.
    arcs: Vec<(u32, u32)>,
}

/// No byte, one and two bytes that were read last: a number whose highest bit tells how many.
const NOTHING: u32 = 1;

impl Raw {
    /// `None` when it would be too large.
    fn of(nfa: &NFA, spread: usize) -> Option<Self> {
        let mut raw = Self::default();
        // Anything may stand before a match.
        raw.number(nfa.start_anchored(), NOTHING);
        let mut done = 0;
        while done < raw.places.len() {
            if raw.places.len() > RAW_NODES_MAX {
                return None;
            }
            let (state, known) = raw.places[done];
            raw.visit(nfa, done, state, known, spread);
            done += 1;
        }
        Some(raw)
    }

    fn number(&mut self, state: StateID, known: u32) -> u32 {
        let next = self.places.len() as u32;
        let number = *self.numbers.entry((state, known)).or_insert(next);
        if number == next {
            self.places.push((state, known));
            self.nodes.push(RawNode::default());
        }
        number
    }

    fn visit(&mut self, nfa: &NFA, node: usize, state: StateID, known: u32, spread: usize) {
        match nfa.state(state) {
            State::ByteRange { trans } => self.read(node, known, std::slice::from_ref(trans), spread),
            State::Sparse(sparse) => self.read(node, known, &sparse.transitions, spread),
            State::Dense(dense) => {
                let to = |byte: u8| {
                    dense.matches_byte(byte).map(|next| Transition {
                        start: byte,
                        end: byte,
                        next,
                    })
                };
                let transitions: Vec<_> = (0..=u8::MAX).filter_map(to).collect();
                self.read(node, known, &transitions, spread);
            }
            // Where the text has to begin, end or change is for the search to find out.
            State::Look { next, .. } | State::Capture { next, .. } => self.free(node, *next, known),
            State::Union { alternates } => alternates.iter().for_each(|next| self.free(node, *next, known)),
            State::BinaryUnion { alt1, alt2 } => {
                self.free(node, *alt1, known);
                self.free(node, *alt2, known);
            }
            State::Fail => {}
            State::Match { .. } => self.nodes[node].accepts = true,
        }
    }

    fn free(&mut self, node: usize, next: StateID, known: u32) {
        let to = self.number(next, known);
        self.nodes[node].free.push(to);
    }

    fn read(&mut self, node: usize, known: u32, transitions: &[Transition], spread: usize) {
        let bytes = |t: &Transition| usize::from(t.end - t.start) + 1;
        // Both cases of a letter are one.
        if transitions.iter().map(bytes).sum::<usize>() > 2 * spread {
            transitions.iter().for_each(|t| self.free(node, t.next, NOTHING));
            return;
        }
        for transition in transitions {
            for byte in transition.start..=transition.end {
                let with = known << 8 | u32::from(byte.to_ascii_lowercase());
                let arc = match known >= 1 << 16 {
                    true => (
                        Some(with & 0xff_ffff),
                        self.number(transition.next, with & 0xffff | 1 << 16),
                    ),
                    false => (None, self.number(transition.next, with)),
                };
                match arc {
                    (Some(trigram), to) => self.nodes[node].arcs.push((trigram, to)),
                    (None, to) => self.nodes[node].free.push(to),
                }
            }
        }
    }

    /// The same without arcs that have no trigram; `None` when it would be too large.
    fn contracted(self) -> Option<Candidates> {
        let mut numbers: BTreeMap<u32, u16> = BTreeMap::from([(0, 0)]);
        let mut order = vec![0u32];
        let mut nodes: Vec<(bool, Vec<(u32, u16)>)> = Vec::new();
        let mut arcs_left = ARCS_MAX;
        while nodes.len() < order.len() {
            let (accepts, mut arcs) = self.closure(order[nodes.len()]);
            arcs.sort_unstable();
            arcs.dedup();
            // What accepts needs nothing more.
            if accepts {
                arcs.clear();
            }
            arcs_left = arcs_left.checked_sub(arcs.len())?;
            let numbered = arcs.into_iter().map(|(trigram, to)| {
                let next = order.len() as u16;
                let number = *numbers.entry(to).or_insert(next);
                if number == next {
                    order.push(to);
                }
                (trigram, number)
            });
            let numbered = numbered.collect();
            nodes.push((accepts, numbered));
        }
        let mut trigrams: Vec<u32> = nodes.iter().flat_map(|(_, arcs)| arcs.iter().map(|a| a.0)).collect();
        trigrams.sort_unstable();
        trigrams.dedup();
        let place = |trigram| trigrams.partition_point(|t| *t < trigram) as u16;
        let nodes = nodes.into_iter().map(|(accepts, arcs)| Node {
            accepts,
            arcs: arcs.into_iter().map(|(trigram, to)| (place(trigram), to)).collect(),
        });
        Some(Candidates {
            nodes: nodes.collect(),
            trigrams,
        })
    }

    /// What can be reached from a node without a trigram: whether that accepts, and the arcs that go on.
    fn closure(&self, from: u32) -> (bool, Vec<(u32, u32)>) {
        let mut seen = vec![false; self.nodes.len()];
        seen[from as usize] = true;
        let (mut accepts, mut arcs, mut left) = (false, Vec::new(), vec![from]);
        while let Some(node) = left.pop() {
            let node = &self.nodes[node as usize];
            accepts |= node.accepts;
            arcs.extend_from_slice(&node.arcs);
            for to in &node.free {
                if !std::mem::replace(&mut seen[*to as usize], true) {
                    left.push(*to);
                }
            }
        }
        (accepts, arcs)
    }
}
