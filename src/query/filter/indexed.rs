//! What an attribute index is asked so as to answer a test.

use std::collections::HashMap;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use super::pattern::Pattern;
use super::{Atom, BoundFilter, Comparison, Condition, Target, Test};
use crate::index::attribute::{self, Candidates, Key, Predicate};
use crate::model::AttrId;

/// What holds of the values for which a test's condition does.
#[derive(Clone)]
pub(super) enum Question {
    /// Of none.
    Nothing,
    Index(Predicate),
}

impl Question {
    /// Whether values are matched with a pattern: of 256 values, each 4 KiB long, that can take a minute.
    pub fn is_pattern(&self) -> bool {
        matches!(self, Question::Index(Predicate::Pattern(_)))
    }
}

/// A filter and what indexes are asked for it. Made once per query.
#[derive(Default)]
pub(in crate::query) struct Prepared {
    pub(super) filter: Option<BoundFilter>,
    // Only looked up, by the address of a test that the filter holds: its order matters to nobody.
    questions: HashMap<usize, Question>,
    attributes: Vec<AttrId>,
}

impl Prepared {
    /// Takes time in proportion to the filter's size, which can be some milliseconds.
    pub fn new(filter: BoundFilter) -> Self {
        let mut prepared = Self::default();
        prepared.add(&filter);
        prepared.attributes.sort_unstable();
        prepared.attributes.dedup();
        prepared.filter = Some(filter);
        prepared
    }

    fn add(&mut self, filter: &BoundFilter) {
        match filter {
            BoundFilter::And(list) | BoundFilter::Or(list) => list.iter().for_each(|f| self.add(f)),
            BoundFilter::Not(inner) => self.add(inner),
            BoundFilter::Test(test) => {
                if let (Target::Attribute(id), Some(question)) = (test.target, question(&test.condition)) {
                    self.questions.insert(address(test), question);
                    self.attributes.push(id);
                }
            }
        }
    }

    pub(super) fn question(&self, test: &Arc<Test>) -> Option<&Question> {
        self.questions.get(&address(test))
    }

    /// The attributes whose indexes are asked.
    pub(super) fn attributes(&self) -> &[AttrId] {
        &self.attributes
    }
}

fn address(test: &Arc<Test>) -> usize {
    Arc::as_ptr(test).addr()
}

/// `None` when an index has no answer.
fn question(condition: &Condition) -> Option<Question> {
    Some(match condition {
        Condition::Scalar(Atom::Never) | Condition::AnyElement(Atom::Never) => Question::Nothing,
        Condition::Scalar(Atom::Always) => Question::Index(Predicate::NotNull),
        // An empty array has a value, but no element.
        Condition::AnyElement(Atom::Always) => return None,
        Condition::Scalar(atom) | Condition::AnyElement(atom) => Question::Index(predicate(atom)),
        Condition::Whole(atoms) => {
            if atoms.iter().any(|atom| matches!(atom, Atom::Never)) {
                return Some(Question::Nothing);
            }
            let keys: Option<Arc<[Key]>> = atoms.iter().map(one).collect();
            Question::Index(Predicate::Whole(keys?))
        }
        Condition::Tokens(_) => return None,
    })
}

fn predicate(atom: &Atom) -> Predicate {
    match atom {
        Atom::Never => Predicate::In(Arc::new([])),
        Atom::Always => Predicate::NotNull,
        Atom::Int(range) => between(range, |x| Key::int(*x)),
        Atom::UInt(range) => between(range, |x| Key::Word(*x)),
        Atom::Float(range) => between(range, |x| Key::float(*x)),
        Atom::IntIn(set) => one_of(set.iter().map(|x| Key::int(*x)).collect()),
        Atom::UIntIn(set) => one_of(set.iter().map(|x| Key::Word(*x)).collect()),
        Atom::FloatIn(set) => one_of(set.iter().map(|x| Key::float(f64::from_bits(*x))).collect()),
        Atom::Bool([no, yes]) => {
            let keys = [(no, 0), (yes, 1)].into_iter().filter(|(wanted, _)| **wanted);
            one_of(keys.map(|(_, word)| Key::Word(word)).collect())
        }
        Atom::Bytes(comparison, bytes) => {
            let key = Key::bytes(bytes);
            let (low, high) = match comparison {
                Comparison::Eq => return Predicate::In(Arc::new([key])),
                Comparison::Lt => (Bound::Unbounded, Bound::Excluded(key)),
                Comparison::Lte => (Bound::Unbounded, Bound::Included(key)),
                Comparison::Gt => (Bound::Excluded(key), Bound::Unbounded),
                Comparison::Gte => (Bound::Included(key), Bound::Unbounded),
            };
            Predicate::Range { low, high }
        }
        Atom::BytesIn(set) => one_of(set.iter().map(Key::bytes).collect()),
        Atom::Pattern(pattern) => of_pattern(pattern),
        Atom::Fuzzy(query) => {
            let of = query.clone();
            let matches = move |text: &str| of.matches(text, &mut super::fuzzy::Scratch::default());
            searched(query.candidates(), "", matches)
        }
    }
}

/// One of some keys. Sorted here, once, and not for every segment.
fn one_of(mut keys: Vec<Key>) -> Predicate {
    keys.sort_unstable();
    keys.dedup();
    Predicate::In(keys.into())
}

fn between<T>(range: &RangeInclusive<T>, key: impl Fn(&T) -> Key) -> Predicate {
    Predicate::Range {
        low: Bound::Included(key(range.start())),
        high: Bound::Included(key(range.end())),
    }
}

fn of_pattern(pattern: &Pattern) -> Predicate {
    let (candidates, prefix) = match pattern {
        Pattern::Exactly(whole) => return Predicate::In(Arc::new([Key::bytes(whole.as_bytes())])),
        Pattern::Ends(start, end) => (Candidates::pieces(&[start, end], false), &**start),
        Pattern::Regex(expression) => (expression.candidates(), ""),
    };
    let pattern = pattern.clone();
    searched(candidates, prefix, move |text| pattern.matches(text))
}

fn searched(candidates: Candidates, prefix: &str, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Predicate {
    Predicate::Pattern(attribute::Pattern {
        candidates: Arc::new(candidates),
        prefix: prefix.as_bytes().into(),
        matches: Arc::new(move |bytes| std::str::from_utf8(bytes).is_ok_and(&matches)),
    })
}

/// The one value that passes, where there is one only.
fn one(atom: &Atom) -> Option<Key> {
    match atom {
        Atom::Int(range) if range.start() == range.end() => Some(Key::int(*range.start())),
        Atom::UInt(range) if range.start() == range.end() => Some(Key::Word(*range.start())),
        Atom::Float(range) if range.start() == range.end() => Some(Key::float(*range.start())),
        Atom::Bool([no, yes]) if no != yes => Some(Key::Word((*yes).into())),
        Atom::Bytes(Comparison::Eq, bytes) => Some(Key::bytes(bytes)),
        _ => None,
    }
}
