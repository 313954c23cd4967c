//! Evaluates a bound filter on the rows of a segment.
//!
//! A filter becomes a tree of steps (`steps`): what attribute indexes, postings or keys answer for less than a column costs
//! is asked of them, the rest of columns, or of the rows themselves where few are left. A step is only asked about rows
//! that can still pass. Of an attribute whose index was asked for much, the codes are made and compared from then on; how
//! many rows pass is often known without finding them.
//!
//! # Cost
//!
//! Requests for what is not in the cache: those of all indexes that are cheap at once, then of the others one after the
//! other, unless looking at the rows that are left is cheaper; then those for the columns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use super::evaluate::evaluate_within;
use super::indexed::{Prepared, Question};
use super::steps::{Asked, Only, Step, held, is_cheap};
use super::tokens::TokenTest;
use super::{BoundFilter, Test};
use crate::base::{Bitset, Priority};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, CodeSet, Codes};
use crate::model::{AttrId, Attribute, Id};
use crate::query::costs;
use crate::query::needs::Needs;
use crate::query::reader::{PAGE_BYTES, Reader};
use crate::segment::TermWanted;
use crate::tail::{Chunk, Contents};

/// Rows that one job looks at, a multiple of 64.
const JOB_ROWS: usize = 64 * 1024;
/// Rows that are fetched at a time.
const FETCHED_ROWS: usize = 1024;
/// Ids whose rows are listed rather than put into a set of all rows.
const FEW_IDS: usize = 10_000;
/// Codes that are compared in place, by what that costs for all conditions of a filter; the others on the CPU pool, so
/// many rows at a time.
const QUICK_NS: u64 = 300_000;
const CODED_ROWS: usize = 1 << 20;

/// Evaluates filters on the rows of one segment.
#[derive(Clone, Copy)]
pub(in crate::query) struct Stored<'a>(pub Reader<'a>);

/// What is done for a filter on one segment; without a filter nothing.
#[derive(Default)]
pub(in crate::query) struct Planned {
    step: Option<Step>,
    only: Option<Only>,
}

impl Planned {
    /// Whether every row passes.
    pub fn is_none(&self) -> bool {
        self.step.is_none()
    }

    /// About how many rows pass, where that is known before they are found.
    pub fn rows_likely(&self) -> Option<u64> {
        self.step.as_ref().map(Step::rows).filter(|rows| *rows < u64::MAX)
    }
}

impl Stored<'_> {
    /// What is done for a filter. Costs no requests where the directories of indexes are in the hot region.
    pub async fn plan(self, prepared: &Prepared) -> Result<Planned> {
        let Some(filter) = &prepared.filter else {
            return Ok(Planned::default());
        };
        let indexes = self.0.indexes(prepared.attributes()).await?;
        let codes = self.0.codes_kept(prepared.attributes()).await;
        let asked = Asked {
            prepared,
            indexes,
            codes,
        };
        Ok(Planned {
            only: Only::of(filter, &asked),
            step: Some(self.step(filter, &asked)),
        })
    }

    /// Those of some rows for which the filter holds.
    ///
    /// * `within` — a bit per row of the segment
    pub async fn holding(self, planned: &Planned, within: Bitset) -> Result<Bitset> {
        match &planned.step {
            None => Ok(within),
            Some(step) => self.run(step, within, &AtomicU64::new(0)).await,
        }
    }

    /// Those of some rows for which the filter holds, ascending, where it names few ids and nothing else: without a set
    /// over all rows. `None` for other filters.
    pub async fn few(self, planned: &Planned, within: &Bitset) -> Result<Option<Vec<u32>>> {
        let Some(Step::Ids { ids, negated: false }) = &planned.step else {
            return Ok(None);
        };
        if ids.len() > FEW_IDS {
            return Ok(None);
        }
        let found = self.0.segment.find(ids).await?.into_iter().flatten();
        let mut rows: Vec<u32> = found.filter(|row| within.contains(*row as usize)).collect();
        rows.sort_unstable();
        rows.dedup();
        Ok(Some(rows))
    }

    /// For how many rows of the segment the filter holds, dead ones included. `None` where that is not known without
    /// finding them. Costs reading a block or two of an index.
    pub async fn count(self, planned: &Planned) -> Result<Option<u64>> {
        let rows = self.0.len() as u64;
        if let Some(Step::Codes { codes, passing, .. }) = &planned.step {
            return Ok(Some(codes.rows_of(passing)));
        }
        let Some(only) = &planned.only else {
            return Ok(planned.is_none().then_some(rows));
        };
        let held = match &only.question {
            Question::Nothing => Some(0),
            Question::Index(predicate) => only.index.count(predicate).await.map_err(|e| self.0.index_error(e))?,
        };
        let nulls = u64::from(only.index.null_count());
        let present = rows.saturating_sub(nulls);
        let count = |held: u64| {
            let values = if only.test.negated {
                present.saturating_sub(held)
            } else {
                held
            };
            let passing = values + if only.test.null { nulls } else { 0 };
            if only.is_inverted {
                rows.saturating_sub(passing)
            } else {
                passing
            }
        };
        Ok(held.map(count))
    }

    /// How the filter is answered, in lines with their depths; and how many rows pass, where indexes tell for little.
    pub async fn describe(self, planned: &Planned, within: Bitset) -> Result<(Vec<(usize, String)>, Option<usize>)> {
        let mut lines = Vec::new();
        let Some(step) = &planned.step else {
            return Ok((lines, None));
        };
        self.lines(step, 0, &mut lines);
        let passing = match is_cheap(step) {
            true => Some(self.run(step, within, &AtomicU64::new(0)).await?.count()),
            false => None,
        };
        Ok((lines, passing))
    }

    /// * `spent` — nanoseconds of the runtime's thread that the filter has taken in place, about
    fn run<'f>(&'f self, step: &'f Step, within: Bitset, spent: &'f AtomicU64) -> BoxFuture<'f, Result<Bitset>> {
        async move {
            if within.none() {
                return Ok(within);
            }
            match step {
                Step::All(list) => self.all(list, within, spent).await,
                Step::Any(list) => self.any(list, within, spent).await,
                Step::Not(inner) => {
                    let mut left = within.clone();
                    left.and_not(&self.run(inner, within, spent).await?);
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
                    test,
                    attribute,
                    index,
                    question,
                    ns,
                    ..
                } => match self.codes_instead(*attribute, index, question, *ns).await? {
                    Some((codes, held)) => {
                        let passing = codes.passing(&held, test.negated, test.null);
                        Ok(self.compare(&codes, &passing, within, spent).await)
                    }
                    None => self.index(test, index, question, within).await,
                },
                Step::Codes { codes, passing, .. } => Ok(self.compare(codes, passing, within, spent).await),
                Step::Matched {
                    test, codes, question, ..
                } => {
                    let held = self.matched(question, codes).await.unwrap_or_default();
                    let passing = codes.passing(&held, test.negated, test.null);
                    Ok(self.compare(codes, &passing, within, spent).await)
                }
            }
        }
        .boxed()
    }

    async fn all(&self, list: &[Step], mut within: Bitset, spent: &AtomicU64) -> Result<Bitset> {
        // There is nothing to wait for in what is in memory: one after the other, without a copy of the rows for each.
        let (coded, rest): (Vec<&Step>, Vec<&Step>) = list.iter().partition(|s| s.is_coded());
        for step in coded {
            within = self.run(step, within, spent).await?;
        }
        if within.none() {
            return Ok(within);
        }
        let (cheap, mut rest): (Vec<&Step>, Vec<&Step>) = rest.into_iter().partition(|s| is_cheap(s));
        let asked: Vec<_> = cheap.iter().map(|s| self.run(s, within.clone(), spent)).collect();
        for found in try_join_all(asked).await? {
            within.and(&found);
        }
        // The most selective first, and what looks at values last.
        rest.sort_by_key(|step| (!step.is_indexed(), step.rows()));
        for step in rest {
            let left = within.count() as u64;
            within = match step.as_test() {
                Some(test) if left * PAGE_BYTES < step.bytes() => self.scan(&test, within).await?,
                _ => self.run(step, within, spent).await?,
            };
        }
        Ok(within)
    }

    async fn any(&self, list: &[Step], mut within: Bitset, spent: &AtomicU64) -> Result<Bitset> {
        let mut any = Bitset::empty(within.len());
        let (coded, rest): (Vec<&Step>, Vec<&Step>) = list.iter().partition(|s| s.is_coded());
        for step in coded {
            // One copy at a time, as in `all`.
            any.or(&self.run(step, within.clone(), spent).await?);
        }
        within.and_not(&any);
        let (indexed, rest): (Vec<&Step>, Vec<&Step>) = rest.into_iter().partition(|s| s.is_indexed());
        let asked: Vec<_> = indexed.iter().map(|s| self.run(s, within.clone(), spent)).collect();
        for found in try_join_all(asked).await? {
            any.or(&found);
        }
        for step in rest {
            within.and_not(&any);
            any.or(&self.run(step, within.clone(), spent).await?);
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

    /// The codes of an attribute and those of the values that are asked for, when it is time to make them.
    async fn codes_instead(
        &self,
        attribute: AttrId,
        index: &AttributeIndex,
        question: &Question,
        ns: u64,
    ) -> Result<Option<(Arc<Codes>, CodeSet)>> {
        let is_answered = match question {
            Question::Nothing => false,
            Question::Index(predicate) => Codes::answer(predicate, index),
        };
        if !is_answered || ns <= 2 * costs::codes(&CodeSet::default(), self.0.len()) {
            return Ok(None);
        }
        let Some(codes) = self.0.codes_due(attribute, index, ns).await? else {
            return Ok(None);
        };
        let held = self.matched(question, &codes).await;
        Ok(held.map(|held| (codes, held)))
    }

    /// The codes of the values for which a condition holds.
    async fn matched(&self, question: &Question, codes: &Arc<Codes>) -> Option<CodeSet> {
        if !question.is_pattern() {
            return held(question, codes);
        }
        let (question, codes) = (question.clone(), codes.clone());
        self.0
            .cpu
            .run(Priority::Foreground, move || held(&question, &codes))
            .await
    }

    async fn compare(&self, codes: &Arc<Codes>, passing: &CodeSet, mut within: Bitset, spent: &AtomicU64) -> Bitset {
        let rows = within.len();
        // Many quick ones in a row would keep the runtime's thread from everybody else.
        let sum = spent
            .load(Ordering::Relaxed)
            .saturating_add(costs::codes(passing, rows));
        let words = match sum <= QUICK_NS {
            true => {
                spent.store(sum, Ordering::Relaxed);
                codes.select(passing, 0..rows)
            }
            false => {
                let jobs = (0..rows).step_by(CODED_ROWS).map(|start| {
                    let (codes, passing) = (codes.clone(), passing.clone());
                    move || codes.select(&passing, start..rows.min(start + CODED_ROWS))
                });
                self.0.cpu.run_all(Priority::Foreground, jobs.collect()).await.concat()
            }
        };
        within.and(&Bitset::from_words(words, rows));
        within
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
        let Some(index) = self.0.text(attribute, &terms).await? else {
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
            let (contents, _memory) = self.0.rows(rows, &needs.columns, ReadKind::Rows).await?;
            let chunk = Chunk::partial(contents);
            let passing = self.look(filter, chunk, Bitset::full(rows.len())).await;
            passing.iter().for_each(|i| found.insert(rows[i] as usize));
        }
        Ok(found)
    }

    /// Reads whole columns.
    async fn evaluate(&self, filter: &BoundFilter, needs: &Needs, within: Bitset) -> Result<Bitset> {
        let reserved = self.0.budget.borrow(self.0.memory_bytes(needs))?;
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
        drop(reserved);
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
