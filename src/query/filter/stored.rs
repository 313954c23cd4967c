//! Evaluates a bound filter on the rows of a segment.
//!
//! A filter becomes a tree of steps: what attribute indexes, postings or keys answer for less than a column costs is
//! asked of them, the rest of columns, or of the rows themselves where few are left. A step is only asked about rows
//! that can still pass.
//!
//! # Cost
//!
//! Requests for what is not in the cache: those of all indexes that are cheap at once, then of the others one after the
//! other, unless looking at the rows that are left is cheaper; then those for the columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use super::evaluate::evaluate_within;
use super::indexed::{Prepared, Question};
use super::tokens::TokenTest;
use super::{Atom, BoundFilter, Comparison, Condition, Target, Test};
use crate::base::{Bitset, Priority};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, Estimate};
use crate::model::{AttrId, Attribute, Id, IdKind};
use crate::query::needs::Needs;
use crate::query::reader::{PAGE_BYTES, Reader};
use crate::segment::TermWanted;
use crate::tail::{Chunk, Contents};

/// Rows that one job looks at, a multiple of 64.
const JOB_ROWS: usize = 64 * 1024;
/// Rows that are fetched at a time.
const FETCHED_ROWS: usize = 1024;
/// What a disk gives, roughly. What the cache has costs less, for indexes and columns alike.
const BYTES_PER_NS: u64 = 4;
/// What it takes to decode a value of an index with its rows, roughly.
const DECODE_NS: u64 = 30;
/// Indexes that read less are asked at once, without waiting for what others leave.
const CHEAP_BYTES: u64 = 256 * 1024;

/// Evaluates filters on the rows of one segment.
#[derive(Clone, Copy)]
pub(in crate::query) struct Stored<'a>(pub Reader<'a>);

/// What is done for a filter, or for a part of it.
enum Step {
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
        index: AttributeIndex,
        question: Question,
        estimate: Estimate,
    },
}

impl Step {
    /// Whether indexes answer it alone.
    fn is_indexed(&self) -> bool {
        match self {
            Step::All(list) | Step::Any(list) => list.iter().all(Step::is_indexed),
            Step::Not(inner) => inner.is_indexed(),
            Step::Scan(_) => false,
            Step::Tokens { tokens, .. } => !tokens.reads_texts(),
            Step::Ids { .. } | Step::Index { .. } => true,
        }
    }

    /// Bytes to read of indexes, as far as they are known.
    fn bytes(&self) -> u64 {
        match self {
            Step::All(list) | Step::Any(list) => list.iter().map(Step::bytes).sum(),
            Step::Not(inner) => inner.bytes(),
            Step::Index { estimate, .. } => estimate.bytes,
            Step::Scan(_) | Step::Tokens { .. } | Step::Ids { .. } => 0,
        }
    }

    /// Rows that pass, about; unknown ones are many.
    fn rows(&self) -> u64 {
        match self {
            Step::All(list) => list.iter().map(Step::rows).min().unwrap_or(u64::MAX),
            Step::Index { test, estimate, .. } if !test.negated && !test.null => estimate.rows_likely,
            Step::Ids { ids, negated: false } => ids.len() as u64,
            _ => u64::MAX,
        }
    }

    /// The filter that it stands for, where there is one.
    fn as_test(&self) -> Option<BoundFilter> {
        match self {
            Step::Index { test, .. } => Some(BoundFilter::Test(test.clone())),
            _ => None,
        }
    }
}

/// What a filter asks of a segment.
struct Asked<'a> {
    prepared: &'a Prepared,
    indexes: BTreeMap<AttrId, AttributeIndex>,
}

/// About how many nanoseconds it takes to ask an index.
fn cost(index: &AttributeIndex, test: &Test, estimate: &Estimate) -> u64 {
    let rows = u64::from(index.rows() - index.null_count()).max(1);
    // Without a list of the values, the values of the rows are looked at.
    let distinct = index.distinct().map_or(rows, u64::from);
    let values = (u128::from(distinct) * u128::from(estimate.rows_likely) / u128::from(rows)) as u64;
    let each = match test.is_pattern() {
        true => DECODE_NS + test.value_ns(),
        false => DECODE_NS,
    };
    estimate.bytes / BYTES_PER_NS + values * each + estimate.rows_likely
}

/// Whether it is asked without waiting for what other steps leave.
fn is_cheap(step: &Step) -> bool {
    step.is_indexed() && step.bytes() <= CHEAP_BYTES
}

impl Stored<'_> {
    /// Those of some rows for which the filter holds.
    ///
    /// * `within` — a bit per row of the segment
    pub async fn holding(self, prepared: &Prepared, within: Bitset) -> Result<Bitset> {
        let Some(filter) = &prepared.filter else {
            return Ok(within);
        };
        let indexes = self.0.indexes(prepared.attributes()).await?;
        let step = self.step(filter, &Asked { prepared, indexes });
        self.run(&step, within).await
    }

    /// How the filter is answered, in lines with their depths; and how many rows pass, where indexes tell for little.
    pub async fn describe(self, prepared: &Prepared, within: Bitset) -> Result<(Vec<(usize, String)>, Option<usize>)> {
        let mut lines = Vec::new();
        let Some(filter) = &prepared.filter else {
            return Ok((lines, None));
        };
        let indexes = self.0.indexes(prepared.attributes()).await?;
        let step = self.step(filter, &Asked { prepared, indexes });
        self.lines(&step, 0, &mut lines);
        let passing = match is_cheap(&step) {
            true => Some(self.run(&step, within).await?.count()),
            false => None,
        };
        Ok((lines, passing))
    }

    fn lines(&self, step: &Step, depth: usize, lines: &mut Vec<(usize, String)>) {
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
            Step::Index { test, estimate, .. } => {
                let of = match test.target {
                    Target::Attribute(id) => name(id),
                    Target::Id => "id".to_owned(),
                };
                let Estimate { rows_likely, bytes, .. } = estimate;
                (format!("index of {of}: about {rows_likely} rows, {bytes} bytes"), &[])
            }
        };
        lines.push((depth, line));
        inner.iter().for_each(|step| self.lines(step, depth + 1, lines));
    }

    fn step(&self, filter: &BoundFilter, asked: &Asked<'_>) -> Step {
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
            (_, Target::Attribute(id)) => match (asked.prepared.question(test), asked.indexes.get(&id)) {
                (Some(question), Some(index)) => {
                    let estimate = match question {
                        Question::Nothing => Estimate::default(),
                        Question::Index(predicate) => index.estimate(predicate),
                    };
                    match cost(index, test, &estimate) <= self.scan_cost(test, id) {
                        true => Step::Index {
                            test: test.clone(),
                            index: index.clone(),
                            question: question.clone(),
                            estimate,
                        },
                        false => scan(),
                    }
                }
                _ => scan(),
            },
            _ => scan(),
        }
    }

    /// About how many nanoseconds it takes to look at all values.
    fn scan_cost(&self, test: &Test, id: AttrId) -> u64 {
        self.0.column_bytes(id) / BYTES_PER_NS + self.0.len() as u64 * test.value_ns()
    }

    /// The ids for which an atom holds, where they are few.
    fn ids(&self, atom: &Atom) -> Option<Vec<Id>> {
        let id = |bytes: &[u8]| match self.0.schema.id_kind? {
            IdKind::Uuid => uuid::Uuid::from_slice(bytes).ok().map(Id::Uuid),
            IdKind::String => std::str::from_utf8(bytes).ok().map(|s| Id::String(s.into())),
            IdKind::UInt => None,
        };
        let ids = match atom {
            Atom::UInt(range) if range.start() == range.end() => vec![Id::UInt(*range.start())],
            Atom::UIntIn(set) => set.iter().map(|x| Id::UInt(*x)).collect(),
            Atom::Bytes(Comparison::Eq, bytes) => vec![id(bytes)?],
            Atom::BytesIn(set) => set.iter().map(|bytes| id(bytes)).collect::<Option<_>>()?,
            _ => return None,
        };
        (ids.len() * 8 <= self.0.len().max(64)).then_some(ids)
    }

    fn run<'f>(&'f self, step: &'f Step, within: Bitset) -> BoxFuture<'f, Result<Bitset>> {
        async move {
            if within.none() {
                return Ok(within);
            }
            match step {
                Step::All(list) => self.all(list, within).await,
                Step::Any(list) => self.any(list, within).await,
                Step::Not(inner) => {
                    let mut left = within.clone();
                    left.and_not(&self.run(inner, within).await?);
                    Ok(left)
                }
                Step::Scan(filter) => self.scan(filter, within).await,
                Step::Tokens {
                    attribute,
                    test,
                    tokens,
                } => self.tokens(attribute, test, tokens, within).await,
                Step::Ids { ids, negated } => self.find(ids, *negated, within).await,
                Step::Index {
                    test, index, question, ..
                } => self.index(test, index, question, within).await,
            }
        }
        .boxed()
    }

    async fn all(&self, list: &[Step], mut within: Bitset) -> Result<Bitset> {
        let (cheap, mut rest): (Vec<&Step>, Vec<&Step>) = list.iter().partition(|s| is_cheap(s));
        let asked: Vec<_> = cheap.iter().map(|step| self.run(step, within.clone())).collect();
        for found in try_join_all(asked).await? {
            within.and(&found);
        }
        // The most selective first, and what looks at values last.
        rest.sort_by_key(|step| (!step.is_indexed(), step.rows()));
        for step in rest {
            let left = within.count() as u64;
            within = match step.as_test() {
                Some(test) if left * PAGE_BYTES < step.bytes() => self.scan(&test, within).await?,
                _ => self.run(step, within).await?,
            };
        }
        Ok(within)
    }

    async fn any(&self, list: &[Step], mut within: Bitset) -> Result<Bitset> {
        let mut any = Bitset::empty(within.len());
        let (indexed, rest): (Vec<&Step>, Vec<&Step>) = list.iter().partition(|s| s.is_indexed());
        let asked: Vec<_> = indexed.iter().map(|step| self.run(step, within.clone())).collect();
        for found in try_join_all(asked).await? {
            any.or(&found);
        }
        for step in rest {
            within.and_not(&any);
            any.or(&self.run(step, within.clone()).await?);
        }
        Ok(any)
    }

    async fn index(
        &self,
        test: &Arc<Test>,
        index: &AttributeIndex,
        question: &Question,
        within: Bitset,
    ) -> Result<Bitset> {
        let (mut held, exact) = match question {
            Question::Nothing => (Bitset::empty(within.len()), true),
            Question::Index(predicate) => {
                let found = index.evaluate(predicate).await;
                let found = found.map_err(|e| self.0.index_error(e))?;
                (found.rows, found.exact)
            }
        };
        // First those for which the condition does not hold.
        let mut passing = match (test.negated, test.null) {
            (true, true) => within.clone(),
            (false, false) => Bitset::empty(within.len()),
            (negated, _) => {
                let nulls = index.nulls().await.map_err(|e| self.0.index_error(e))?;
                let mut passing = within.clone();
                match negated {
                    true => passing.and_not(&nulls),
                    false => passing.and(&nulls),
                }
                passing
            }
        };
        passing.and_not(&held);
        held.and(&within);
        match (exact, test.negated) {
            (true, true) => {}
            (true, false) => passing.or(&held),
            (false, _) => passing.or(&self.scan(&BoundFilter::Test(test.clone()), held).await?),
        }
        Ok(passing)
    }

    async fn find(&self, ids: &[Id], negated: bool, mut within: Bitset) -> Result<Bitset> {
        let rows = self.0.segment.find(ids).await?;
        let mut found = Bitset::empty(within.len());
        rows.into_iter().flatten().for_each(|row| found.insert(row as usize));
        match negated {
            true => within.and_not(&found),
            false => within.and(&found),
        }
        Ok(within)
    }

    async fn tokens(
        &self,
        attribute: &Attribute,
        test: &Arc<Test>,
        tokens: &Arc<TokenTest>,
        within: Bitset,
    ) -> Result<Bitset> {
        if let Some(sequence) = tokens.sequence().filter(|_| tokens.reads_texts())
            && let Some(mut found) = self.0.segment.token_sequence(attribute, sequence).await?
        {
            found.and(&within);
            return Ok(found);
        }
        let terms: Vec<TermWanted> = tokens.terms().collect();
        let Some(index) = self.0.segment.text(attribute, &terms).await? else {
            return Ok(match test.null {
                true => within,
                false => Bitset::empty(within.len()),
            });
        };
        if !tokens.fits(index.config()) {
            return self.scan(&BoundFilter::Test(test.clone()), within).await;
        }
        let _memory = self.0.budget.borrow(index.memory_bytes())?;
        let find = {
            let tokens = tokens.clone();
            move || {
                let mut found = tokens.candidates(&index, 0..index.rows());
                found.and(index.present());
                found.and(&within);
                found
            }
        };
        let candidates = self.0.cpu.run(Priority::Foreground, find).await;
        match tokens.reads_texts() {
            true => self.scan(&BoundFilter::Test(test.clone()), candidates).await,
            false => Ok(candidates),
        }
    }

    /// Looks at the values: at those of the rows alone when they are few, else at whole columns.
    async fn scan(&self, filter: &BoundFilter, within: Bitset) -> Result<Bitset> {
        let mut needs = Needs::default();
        filter.values(&mut needs);
        let rows = within.count() as u64;
        if rows == 0 {
            return Ok(within);
        }
        let columns: u64 = needs.columns.iter().map(|id| self.0.column_bytes(*id)).sum();
        let whole = columns + if needs.ids { self.0.ids_bytes() } else { 0 };
        match rows * PAGE_BYTES < whole {
            true => self.verify(filter, &needs, within).await,
            false => self.evaluate(filter, &needs, within).await,
        }
    }

    /// Fetches the rows.
    async fn verify(&self, filter: &BoundFilter, needs: &Needs, within: Bitset) -> Result<Bitset> {
        let mut found = Bitset::empty(within.len());
        let rows: Vec<u32> = within.iter().map(|row| row as u32).collect();
        for rows in rows.chunks(FETCHED_ROWS) {
            let contents = self.0.rows(rows, &needs.columns, ReadKind::Rows).await?;
            let chunk = Chunk::partial(contents);
            let _memory = self.0.budget.borrow(chunk.memory_bytes())?;
            let held = self.look(filter, chunk, Bitset::full(rows.len())).await;
            held.iter().for_each(|i| found.insert(rows[i] as usize));
        }
        Ok(found)
    }

    /// Reads whole columns.
    async fn evaluate(&self, filter: &BoundFilter, needs: &Needs, within: Bitset) -> Result<Bitset> {
        let ids = async {
            match needs.ids {
                true => self.0.ids().await.map(Some),
                false => Ok(None),
            }
        };
        let (ids, columns) = futures::try_join!(ids, self.0.columns(&needs.columns))?;
        let chunk = Chunk::partial(Contents {
            rows: self.0.len(),
            ids,
            columns,
            ..Contents::default()
        });
        let _memory = self.0.budget.borrow(chunk.memory_bytes())?;
        Ok(self.look(filter, chunk, within).await)
    }

    async fn look(&self, filter: &BoundFilter, chunk: Chunk, within: Bitset) -> Bitset {
        let rows = within.len();
        let shared = Arc::new((filter.clone(), chunk, within));
        let jobs = (0..rows).step_by(JOB_ROWS).map(|start| {
            let shared = shared.clone();
            move || {
                let (filter, chunk, within) = &*shared;
                let rows = start..rows.min(start + JOB_ROWS);
                evaluate_within(filter, chunk, rows.clone(), within.range(rows))
            }
        });
        let found = self.0.cpu.run_all(Priority::Foreground, jobs.collect()).await;
        let words = found.iter().flat_map(|f| f.words().iter().copied());
        Bitset::from_words(words.collect(), rows)
    }
}
