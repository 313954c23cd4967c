//! Searching long texts with large expressions, so that the search can be given up.
//!
//! In the worst case a search takes time in proportion to the text times the program, which for 8 MiB and 1 MiB is
//! a quarter of an hour, and the crate regex cannot be interrupted. Here the text is walked byte by byte: with a lazy
//! DFA, which is nearly as fast, and where that cannot go on, at Unicode word boundaries in texts that are not
//! ASCII, with all states of the NFA at a time.

use std::sync::Arc;

use regex_automata::Input;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::nfa::thompson::{Compiler, Config, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;

use crate::base::is_abandoned;

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) struct Stepwise(Arc<DFA>);

/// Bytes of the text, or sets of states, after which to ask whether anybody waits.
const BYTES_AT_ONCE: usize = 64;

impl Stepwise {
    /// Compiles what the crate regex has compiled already. `None` when it cannot be.
    pub(super) fn new(regex: &str, cache_bytes: usize) -> Option<Self> {
        let config = Config::new().which_captures(WhichCaptures::None);
        let nfa = Compiler::new().configure(config).build(regex).ok()?;
        let config = DFA::config()
            .cache_capacity(cache_bytes)
            .skip_cache_capacity_check(true)
            .unicode_word_boundary(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa).ok()?;
        Some(Self(Arc::new(dfa)))
    }

    /// Whether the expression matches somewhere in the text; anything when the job was abandoned.
    pub(super) fn is_match(&self, text: &str) -> bool {
        match determined(&self.0, text) {
            Some(found) => found,
            None => simulated(self.0.get_nfa(), text),
        }
    }
}

/// `None` when the automaton cannot go on.
fn determined(dfa: &DFA, text: &str) -> Option<bool> {
    let mut cache = dfa.create_cache();
    let mut state = dfa.start_state_forward(&mut cache, &Input::new(text)).ok()?;
    for (at, byte) in text.bytes().enumerate() {
        if at % BYTES_AT_ONCE == 0 && is_abandoned() {
            return Some(false);
        }
        state = dfa.next_state(&mut cache, state, byte).ok()?;
        match state {
            // Matches are reported one byte late.
            s if s.is_match() => return Some(true),
            s if s.is_dead() => return Some(false),
            s if s.is_quit() => return None,
            _ => {}
        }
    }
    let end = dfa.next_eoi_state(&mut cache, state).ok()?;
    Some(end.is_match())
}

/// The states that the automaton can be in.
struct States {
    list: Vec<StateID>,
    /// For each state the place in the text where it was last put in, and 1.
    since: Vec<usize>,
    /// Those to follow.
    stack: Vec<StateID>,
}

impl States {
    fn of(nfa: &NFA) -> Self {
        Self {
            list: Vec::new(),
            since: vec![0; nfa.states().len()],
            stack: Vec::new(),
        }
    }

    /// Adds a state and all that it leads to without a byte. Returns whether a match is among them.
    fn add(&mut self, nfa: &NFA, state: StateID, text: &[u8], at: usize) -> bool {
        self.stack.push(state);
        while let Some(id) = self.stack.pop() {
            if std::mem::replace(&mut self.since[id.as_usize()], at + 1) == at + 1 {
                continue;
            }
            match nfa.state(id) {
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) => self.list.push(id),
                State::Look { look, next } => {
                    if nfa.look_matcher().matches(*look, text, at) {
                        self.stack.push(*next);
                    }
                }
                State::Union { alternates } => self.stack.extend_from_slice(alternates),
                State::BinaryUnion { alt1, alt2 } => self.stack.extend([*alt1, *alt2]),
                State::Capture { next, .. } => self.stack.push(*next),
                State::Fail => {}
                State::Match { .. } => {
                    self.stack.clear();
                    return true;
                }
            }
        }
        false
    }
}

fn simulated(nfa: &NFA, text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut now, mut next) = (States::of(nfa), States::of(nfa));
    for at in 0..=bytes.len() {
        if at % BYTES_AT_ONCE == 0 && is_abandoned() {
            return false;
        }
        // A match may begin with any character.
        if text.is_char_boundary(at) && now.add(nfa, nfa.start_anchored(), bytes, at) {
            return true;
        }
        for id in now.list.drain(..) {
            let to = match nfa.state(id) {
                State::ByteRange { trans } => trans.matches(bytes, at).then_some(trans.next),
                State::Sparse(trans) => trans.matches(bytes, at),
                State::Dense(trans) => trans.matches(bytes, at),
                _ => None,
            };
            if let Some(to) = to
                && next.add(nfa, to, bytes, at + 1)
            {
                return true;
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    const PIECES: &[&str] = &[
        "a",
        "b",
        "é",
        "ß",
        ".",
        r"\w",
        r"\W",
        r"\b",
        r"\B",
        "^",
        "$",
        "(?i:É)",
        "[a-é]",
        "(a|é)*",
        "(ab){2,3}",
        "a?",
        "(?m:^)",
        "(?m:$)",
        r"\s+",
        "()",
        r"\b{start}",
    ];

    proptest! {
        #[test]
        fn both_ways_find_what_the_crate_finds(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..6), text in "[abAÉéß \n]{0,12}",
        ) {
            let pattern: String = pieces.concat();
            let expected = Regex::new(&pattern).unwrap().is_match(&text);
            // A small cache is emptied again and again.
            for cache_bytes in [1 << 20, 0] {
                let stepwise = Stepwise::new(&pattern, cache_bytes).unwrap();
                prop_assert_eq!(stepwise.is_match(&text), expected, "{} {:?}", pattern, text);
                prop_assert_eq!(simulated(stepwise.0.get_nfa(), &text), expected, "{} {:?}", pattern, text);
                if let Some(found) = determined(&stepwise.0, &text) {
                    prop_assert_eq!(found, expected, "{} {:?}", pattern, text);
                }
            }
        }
    }
}
