//! What is done for a filter on the rows of a segment, and what that costs. Pure: nothing is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::indexed::{Prepared, Question};
use super::stored::Stored;
use super::tokens::TokenTest;
use super::{Atom, BoundFilter, Comparison, Condition, Target, Test};
use crate::index::attribute::{AttributeIndex, CodeSet, Codes, Estimate, Predicate};
use crate::model::{AttrId, Attribute, Id, IdKind};
use crate::query::costs;
use crate::query::needs::Needs;

/// Indexes that read less are asked at once, without waiting for what others leave.
const CHEAP_BYTES: u64 = 256 * 1024;
/// Values whose rows are counted at most by looking for each, a block of up to 16 KiB for each.
const COUNTED_KEYS_MAX: usize = 16;

/// What is done for a filter, or for a part of it.
pub(super) enum Step {
    All(Vec<Step>),
    Any(Vec<Step>),
    Not(Box<Step>),
    /// Values are looked at.
    Scan(BoundFilter),
    /// The postings of terms are united or intersected; of a sequence, the texts that are left are looked at.
    Tokens {
        attribute: Attribute,
        test: Arc<Test>,
        tokens: Arc<TokenTest>,
    },
    /// Ids are looked up.
    Ids {
        ids: Vec<Id>,
        negated: bool,
    },
    /// The index of the attribute is asked.
    Index {
        test: Arc<Test>,
        attribute: AttrId,
        index: AttributeIndex,
        question: Question,
        estimate: Estimate,
        /// What it costs, about.
        ns: u64,
    },
    /// The codes of the rows are compared with some.
    Codes {
        attribute: AttrId,
        codes: Arc<Codes>,
        passing: CodeSet,
    },
    /// The same, where the values first have to be matched with a pattern, which can take long.
    Matched {
        test: Arc<Test>,
        attribute: AttrId,
        codes: Arc<Codes>,
        question: Question,
    },
}

impl Step {
    /// Whether indexes answer it alone.
    pub fn is_indexed(&self) -> bool {
        match self {
            Step::All(list) | Step::Any(list) => list.iter().all(Step::is_indexed),
            Step::Not(inner) => inner.is_indexed(),
            Step::Scan(_) => false,
            Step::Tokens { tokens, .. } => !tokens.reads_texts(),
            Step::Ids { .. } | Step::Index { .. } | Step::Codes { .. } | Step::Matched { .. } => true,
        }
    }

    /// Whether codes in memory answer it alone.
    pub fn is_coded(&self) -> bool {
        match self {
            Step::All(list) | Step::Any(list) => list.iter().all(Step::is_coded),
            Step::Not(inner) => inner.is_coded(),
            Step::Codes { .. } => true,
            Step::Scan(_) | Step::Tokens { .. } | Step::Ids { .. } | Step::Index { .. } | Step::Matched { .. } => false,
        }
    }

    /// Bytes to read of indexes, as far as they are known.
    pub fn bytes(&self) -> u64 {
        match self {
            Step::All(list) | Step::Any(list) => list.iter().map(Step::bytes).sum(),
            Step::Not(inner) => inner.bytes(),
            Step::Index { estimate, .. } => estimate.bytes,
            Step::Scan(_) | Step::Tokens { .. } | Step::Ids { .. } | Step::Codes { .. } | Step::Matched { .. } => 0,
        }
    }

    /// Rows that pass, about; unknown ones are many.
    pub fn rows(&self) -> u64 {
        match self {
            Step::All(list) => list.iter().map(Step::rows).min().unwrap_or(u64::MAX),
            Step::Index { test, estimate, .. } if !test.negated && !test.null => estimate.rows_likely,
            Step::Ids { ids, negated: false } => ids.len() as u64,
            Step::Codes { codes, passing, .. } => codes.rows_of(passing),
            _ => u64::MAX,
        }
    }

    /// The filter that it stands for, where there is one.
    pub fn as_test(&self) -> Option<BoundFilter> {
        match self {
            Step::Index { test, .. } => Some(BoundFilter::Test(test.clone())),
            _ => None,
        }
    }
}

/// What a filter asks of a segment.
pub(super) struct Asked<'a> {
    pub prepared: &'a Prepared,
    pub indexes: BTreeMap<AttrId, AttributeIndex>,
    /// Where they are kept.
    pub codes: BTreeMap<AttrId, Arc<Codes>>,
}

/// A filter of one comparison, of which an index counts the rows for little.
pub(super) struct Only {
    pub test: Arc<Test>,
    pub index: AttributeIndex,
    pub question: Question,
    /// Whether the other rows pass.
    pub is_inverted: bool,
}

impl Only {
    pub fn of(mut filter: &BoundFilter, asked: &Asked<'_>) -> Option<Self> {
        let mut is_inverted = false;
        while let BoundFilter::Not(inner) = filter {
            (filter, is_inverted) = (inner, !is_inverted);
        }
        let (BoundFilter::Test(test), Some(id)) = (filter, filter.attribute()) else {
            return None;
        };
        let question = asked.prepared.question(test)?;
        let is_little = match question {
            Question::Nothing | Question::Index(Predicate::Range { .. } | Predicate::NotNull) => true,
            Question::Index(Predicate::In(keys)) => keys.len() <= COUNTED_KEYS_MAX,
            Question::Index(_) => false,
        };
        let index = asked.indexes.get(&id).filter(|_| is_little)?;
        Some(Self {
            test: test.clone(),
            index: index.clone(),
            question: question.clone(),
            is_inverted,
        })
    }
}

impl BoundFilter {
    /// Of a single test.
    fn attribute(&self) -> Option<AttrId> {
        match self {
            BoundFilter::Test(test) => match test.target {
                Target::Attribute(id) => Some(id),
                Target::Id => None,
            },
            _ => None,
        }
    }
}

/// About how many nanoseconds it takes to ask an index.
fn cost(index: &AttributeIndex, test: &Test, estimate: &Estimate) -> u64 {
    let rows = u64::from(index.rows() - index.null_count()).max(1);
    // Without a list of the values, the values of the rows are looked at.
    let distinct = index.distinct().map_or(rows, u64::from);
    let values = (u128::from(distinct) * u128::from(estimate.rows_likely) / u128::from(rows)) as u64;
    let value_ns = if test.is_pattern() { test.value_ns() } else { 0 };
    costs::index(estimate, values, value_ns)
}

/// Whether it is asked without waiting for what other steps leave.
pub(super) fn is_cheap(step: &Step) -> bool {
    step.is_indexed() && step.bytes() <= CHEAP_BYTES
}

/// The codes of the values for which a condition holds; `None` when codes do not tell.
pub(super) fn held(question: &Question, codes: &Codes) -> Option<CodeSet> {
    match question {
        Question::Nothing => Some(CodeSet::default()),
        Question::Index(predicate) => codes.choose(predicate),
    }
}

impl Stored<'_> {
    pub(super) fn lines(&self, step: &Step, depth: usize, lines: &mut Vec<(usize, String)>) {
        let name = |id: AttrId| {
            self.0
                .attribute(id)
                .map_or_else(String::new, |a| format!("{:?}", a.name))
        };
        let (line, inner): (String, &[Step]) = match step {
            Step::All(list) => ("all of".into(), list),
            Step::Any(list) => ("one of".into(), list),
            Step::Not(inner) => ("not".into(), std::slice::from_ref(inner)),
            Step::Scan(filter) => {
                let mut needs = Needs::default();
                filter.values(&mut needs);
                let ids = needs.ids.then(|| "id".to_owned());
                let names: Vec<String> = ids.into_iter().chain(needs.columns.into_iter().map(name)).collect();
                (format!("values of {}", names.join(", ")), &[])
            }
            Step::Tokens { attribute, tokens, .. } => {
                let places = if tokens.reads_texts() { " and their places" } else { "" };
                let terms = tokens.terms().count();
                (
                    format!("postings of {terms} terms of {:?}{places}", attribute.name),
                    &[],
                )
            }
            Step::Ids { ids, .. } => (format!("{} ids, looked up", ids.len()), &[]),
            Step::Index { test, estimate, ns, .. } => {
                let of = match test.target {
                    Target::Attribute(id) => name(id),
                    Target::Id => "id".to_owned(),
                };
                let Estimate { rows_likely, bytes, .. } = estimate;
                let us = ns / 1000;
                (
                    format!("index of {of}: about {rows_likely} rows, {bytes} bytes, {us} µs"),
                    &[],
                )
            }
            Step::Codes {
                attribute,
                codes,
                passing,
            } => {
                let rows = codes.rows_of(passing);
                (format!("codes of {}: {rows} rows", name(*attribute)), &[])
            }
            Step::Matched { attribute, codes, .. } => {
                let values = codes.count() - 1;
                (format!("codes of {}: {values} values, matched", name(*attribute)), &[])
            }
        };
        lines.push((depth, line));
        inner.iter().for_each(|step| self.lines(step, depth + 1, lines));
    }

    pub(super) fn step(&self, filter: &BoundFilter, asked: &Asked<'_>) -> Step {
        match filter {
            BoundFilter::And(list) => self.several(list, asked, BoundFilter::And, Step::All),
            BoundFilter::Or(list) => self.several(list, asked, BoundFilter::Or, Step::Any),
            BoundFilter::Not(inner) => match self.step(inner, asked) {
                Step::Scan(inner) => Step::Scan(BoundFilter::Not(Box::new(inner))),
                step => Step::Not(Box::new(step)),
            },
            BoundFilter::Test(test) => self.test(test, asked),
        }
    }

    /// The steps of a list; those that look at values become one, so that they are read together.
    fn several(
        &self,
        list: &[BoundFilter],
        asked: &Asked<'_>,
        join: impl Fn(Vec<BoundFilter>) -> BoundFilter,
        of: impl Fn(Vec<Step>) -> Step,
    ) -> Step {
        let (mut steps, mut scans) = (Vec::new(), Vec::new());
        for step in list.iter().map(|f| self.step(f, asked)) {
            match step {
                Step::Scan(filter) => scans.push(filter),
                step => steps.push(step),
            }
        }
        if steps.is_empty() {
            return Step::Scan(join(scans));
        }
        if !scans.is_empty() {
            steps.push(Step::Scan(join(scans)));
        }
        of(steps)
    }

    fn test(&self, test: &Arc<Test>, asked: &Asked<'_>) -> Step {
        let scan = || Step::Scan(BoundFilter::Test(test.clone()));
        match (&test.condition, test.target) {
            (Condition::Tokens(tokens), Target::Attribute(id)) => match self.0.attribute(id) {
                Some(attribute) if attribute.full_text.is_some_and(|c| tokens.fits(&c)) => Step::Tokens {
                    attribute: attribute.clone(),
                    test: test.clone(),
                    tokens: tokens.clone(),
                },
                _ => scan(),
            },
            (Condition::Scalar(atom), Target::Id) => match self.ids(atom) {
                Some(ids) => Step::Ids {
                    ids,
                    negated: test.negated,
                },
                None => scan(),
            },
            (_, Target::Attribute(id)) => self.compared(test, id, asked).unwrap_or_else(scan),
            _ => scan(),
        }
    }

    /// What answers a comparison for less than its column does.
    fn compared(&self, test: &Arc<Test>, attribute: AttrId, asked: &Asked<'_>) -> Option<Step> {
        let question = asked.prepared.question(test)?;
        let coded = asked.codes.get(&attribute).and_then(|codes| {
            if let Question::Index(predicate @ Predicate::Pattern(_)) = question {
                let ns = u64::from(codes.count()) * test.value_ns() + costs::codes(&CodeSet::default(), self.0.len());
                let step = Step::Matched {
                    test: test.clone(),
                    attribute,
                    codes: codes.clone(),
                    question: question.clone(),
                };
                return codes.chooses(predicate).then_some((ns, step));
            }
            let passing = codes.passing(&held(question, codes)?, test.negated, test.null);
            let ns = costs::codes(&passing, self.0.len());
            let codes = codes.clone();
            let step = Step::Codes {
                attribute,
                codes,
                passing,
            };
            Some((ns, step))
        });
        let indexed = asked.indexes.get(&attribute).map(|index| {
            let estimate = match question {
                Question::Nothing => Estimate::default(),
                Question::Index(predicate) => index.estimate(predicate),
            };
            let ns = cost(index, test, &estimate);
            let step = Step::Index {
                test: test.clone(),
                attribute,
                index: index.clone(),
                question: question.clone(),
                estimate,
                ns,
            };
            (ns, step)
        });
        let (ns, step) = coded.into_iter().chain(indexed).min_by_key(|(ns, _)| *ns)?;
        (ns <= self.scan_cost(test, attribute)).then_some(step)
    }

    /// About how many nanoseconds it takes to look at all values.
    fn scan_cost(&self, test: &Test, id: AttrId) -> u64 {
        self.0.column_bytes(id) / costs::BYTES_PER_NS + self.0.len() as u64 * test.value_ns()
    }

    /// The ids for which an atom holds, where they are few.
    fn ids(&self, atom: &Atom) -> Option<Vec<Id>> {
        let id = |bytes: &[u8]| match self.0.schema.id_kind? {
            IdKind::Uuid => uuid::Uuid::from_slice(bytes).ok().map(Id::Uuid),
            IdKind::String => std::str::from_utf8(bytes).ok().map(|s| Id::String(s.into())),
            IdKind::UInt => None,
        };
        // Before they are copied, for every segment.
        let are_few = |len: usize| len * 8 <= self.0.len().max(64);
        let ids = match atom {
            Atom::UIntIn(set) if !are_few(set.len()) => return None,
            Atom::BytesIn(set) if !are_few(set.len()) => return None,
            Atom::UInt(range) if range.start() == range.end() => vec![Id::UInt(*range.start())],
            Atom::UIntIn(set) => set.iter().map(|x| Id::UInt(*x)).collect(),
            Atom::Bytes(Comparison::Eq, bytes) => vec![id(bytes)?],
            Atom::BytesIn(set) => set.iter().map(|bytes| id(bytes)).collect::<Option<_>>()?,
            _ => return None,
        };
        are_few(ids.len()).then_some(ids)
    }
}
