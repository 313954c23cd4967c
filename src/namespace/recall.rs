//! Measures how much of the exact answer a nearest-neighbour query finds.
//!
//! Both ways are run through `query::execute` as any query is: the one that an index may answer, and
//! the exact one. What they found is compared by id; rows as near as the last of the exact answer count
//! as found, because any of several equally near rows is right.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::evaluate::not_found;
use super::state::Trouble;
use super::{Engine, Handle};
use crate::base::{Bitset, Priority, Rng};
use crate::cache::ReadKind;
use crate::error::{Error, ErrorKind, Result};
use crate::model::access::Access;
use crate::model::query::{Projection, VectorQuery};
use crate::model::value::Vector;
use crate::model::{AttrType, Attribute, Column, Filter, Invalid, Limits, NamespaceName, OrgId, Query, RankBy, Schema};
use crate::model::{Id, Value};
use crate::query::{Rank, ResultRow, View, value_at};
use crate::snapshot::Snapshot;
use crate::tail::Part;

/// How often rows are drawn again because some of those in segments turned out to have no vector.
const DRAWS_MAX: usize = 8;

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallRequest {
    pub of: RecallOf,
    /// How many neighbours each query asks for; at least 1.
    pub top_k: usize,
    /// Only among these rows.
    pub filter: Option<Filter>,
    /// Whether the exact answers are returned too.
    pub with_truth: bool,
}

/// Which queries recall is measured with.
#[derive(Clone, Debug, PartialEq)]
pub enum RecallOf {
    /// So many vectors of the namespace, drawn at random, each at most once; at least 1.
    Sampled(usize),
    /// The vectors that are written here one after the other.
    Flat(Vec<f32>),
    /// This one query, which must be ANN.
    Ranking(RankBy),
}

/// Averages over all queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Recall {
    /// 0 to 1; 1 when there was nothing to find.
    pub avg_recall: f64,
    /// Rows of the exact answers.
    pub avg_exhaustive: f64,
    /// Rows of the answers that were measured.
    pub avg_ann: f64,
    /// One per query, when it was asked for.
    pub truth: Option<Vec<Truth>>,
}

/// The exact answer to one query.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    pub query: VectorQuery,
    /// With their vectors.
    pub neighbors: Vec<ResultRow>,
}

impl Engine {
    /// Measures recall on the newest state.
    ///
    /// Costs one GET, shared, and two nearest-neighbour searches per query, each pair of which takes its query
    /// slots, so that other queries get their turn in between.
    ///
    /// # Errors
    ///
    /// 404 without the namespace, 400 when it has no vectors or the request is out of bounds.
    pub async fn recall(&self, org: &OrgId, name: &NamespaceName, asked: &RecallRequest) -> Result<Recall> {
        check(asked, self.limits())?;
        self.with_namespace(org, name, |handle: Arc<Handle>| async move {
            self.check_newest(&handle, Access::Read, name).await?;
            let snapshot = handle.snapshot();
            if !snapshot.exists() {
                return Err(not_found(name).into());
            }
            Ok(self.measure(&handle, &snapshot, asked).await?)
        })
        .await
    }

    async fn measure(&self, handle: &Handle, snapshot: &Arc<Snapshot>, asked: &RecallRequest) -> Result<Recall> {
        let (attribute, queries) = self.queries(snapshot, asked).await?;
        let mut sum = (0.0, 0, 0);
        let mut truth = Vec::new();
        let count = queries.len().max(1) as f64;
        let none = queries.is_empty();
        let view = Arc::new(View::all(snapshot.schema.clone()));
        for query in queries {
            let pair: Arc<[Query]> = pair(&attribute.name, &query, asked).into();
            let _slots = handle.admission.admit(&pair).await?;
            let results = self.answer(snapshot, &view, &pair).await?;
            let [found, exact] = <[_; 2]>::try_from(results).expect("two queries have two results");
            sum.0 += share_found(found.rows(), exact.rows());
            sum.1 += exact.rows().len();
            sum.2 += found.rows().len();
            if asked.with_truth {
                truth.push(Truth {
                    query,
                    neighbors: exact.into_rows(),
                });
            }
        }
        Ok(Recall {
            avg_recall: if none { 1.0 } else { sum.0 / count },
            avg_exhaustive: sum.1 as f64 / count,
            avg_ann: sum.2 as f64 / count,
            truth: asked.with_truth.then_some(truth),
        })
    }

    /// The column that is measured, and the queries.
    async fn queries(&self, snapshot: &Arc<Snapshot>, asked: &RecallRequest) -> Result<(Attribute, Vec<VectorQuery>)> {
        let schema = &snapshot.schema;
        match &asked.of {
            RecallOf::Ranking(RankBy::Nearest {
                attribute,
                query,
                exact: false,
            }) => Ok((schema.require(attribute)?.clone(), vec![query.clone()])),
            RecallOf::Ranking(_) => Err(Error::invalid(
                "rank_by must be an ANN query: [attribute, \"ANN\", vector]",
            )),
            RecallOf::Flat(elements) => {
                let attribute = column(schema)?.clone();
                let queries = cut(elements, &attribute)?;
                check_count(queries.len(), asked, self.limits())?;
                Ok((attribute, queries))
            }
            RecallOf::Sampled(count) => {
                let attribute = column(schema)?.clone();
                let queries = self.sample(snapshot, &attribute, *count).await?;
                Ok((attribute, queries))
            }
        }
    }
}

impl Engine {
    /// Draws `count` different rows that have a vector, or all if there are fewer, and returns their vectors.
    async fn sample(&self, snapshot: &Arc<Snapshot>, attribute: &Attribute, count: usize) -> Result<Vec<VectorQuery>> {
        let (rng, cpu) = (&self.inner.runtime.rng, &self.inner.runtime.cpu);
        let stored: usize = snapshot.segments.iter().map(|part| part.live.count()).sum();
        if stored == 0 {
            let (parts, of, rng) = (snapshot.parts.clone(), attribute.clone(), rng.clone());
            return cpu
                .run(Priority::Foreground, move || sample(&parts, &of, count, &rng))
                .await;
        }
        // Which rows of segments have a vector is known when they were read, so that some may be drawn for nothing.
        let total = stored + snapshot.unindexed_rows();
        let mut drawn = BTreeSet::new();
        let mut queries = Vec::new();
        for _ in 0..DRAWS_MAX {
            if queries.len() >= count || drawn.len() == total {
                break;
            }
            let missing = (count - queries.len()).min(total - drawn.len());
            let more: BTreeSet<usize> = choose(total, drawn.len() + missing, rng);
            let more: Vec<usize> = more
                .into_iter()
                .filter(|row| drawn.insert(*row))
                .take(missing)
                .collect();
            queries.extend(vectors(snapshot, attribute, &more).await?);
        }
        queries.truncate(count);
        Ok(queries)
    }
}

/// The vectors of live rows, numbered through segments and tail; none for rows that have none.
///
/// * `chosen` — ascending
async fn vectors(snapshot: &Snapshot, attribute: &Attribute, chosen: &[usize]) -> Result<Vec<VectorQuery>> {
    let mut queries = Vec::new();
    let mut first = 0;
    let here = |first: usize, live: &Bitset| -> Vec<usize> {
        let count = live.count();
        let mut rows = live.iter();
        let mut next = 0;
        let chosen = chosen.iter().filter(|at| (first..first + count).contains(at));
        let row = |at: &usize| {
            let row = rows.nth(at - first - next);
            next = at - first + 1;
            row
        };
        chosen.filter_map(row).collect()
    };
    for part in snapshot.segments.iter() {
        let rows = here(first, &part.live);
        first += part.live.count();
        let rows: Vec<u32> = rows.into_iter().filter_map(|row| u32::try_from(row).ok()).collect();
        if rows.is_empty() {
            continue;
        }
        let fetched = part
            .segment
            .fetch(&rows, std::slice::from_ref(attribute), ReadKind::Vectors)
            .await;
        let fetched = fetched.map_err(Trouble::from)?;
        if let Some(column) = fetched.columns.get(&attribute.id) {
            for row in (0..rows.len()).filter(|row| is_present(column, *row)) {
                queries.push(as_query(column, attribute, row)?);
            }
        }
    }
    for part in snapshot.parts.iter() {
        let rows = here(first, &part.live);
        first += part.live.count();
        if let Some(column) = part.chunk.columns.get(&attribute.id) {
            for row in rows.into_iter().filter(|row| is_present(column, *row)) {
                queries.push(as_query(column, attribute, row)?);
            }
        }
    }
    Ok(queries)
}

fn is_present(column: &Column, row: usize) -> bool {
    match column {
        Column::Vectors(vectors) => !vectors.is_null(row),
        Column::Values(array) => !arrow::array::Array::is_null(array, row),
    }
}

fn check(asked: &RecallRequest, limits: &Limits) -> Result<(), Invalid> {
    if asked.top_k == 0 || asked.top_k > limits.rows_max {
        return Err(Invalid::new(format!(
            "top_k must be 1 to {}, got {}",
            limits.rows_max, asked.top_k
        )));
    }
    match &asked.of {
        RecallOf::Sampled(num) => check_count(*num, asked, limits),
        // How many they are is known when the dimensions of the column are.
        RecallOf::Flat(_) | RecallOf::Ranking(_) => Ok(()),
    }
}

/// * `num` — how many queries
fn check_count(num: usize, asked: &RecallRequest, limits: &Limits) -> Result<(), Invalid> {
    if num == 0 || num > limits.recall_queries_max {
        return Err(Invalid::new(format!(
            "num must be 1 to {}, got {num}",
            limits.recall_queries_max
        )));
    }
    if asked.with_truth && num.saturating_mul(asked.top_k) > limits.rows_max {
        return Err(Invalid::new(format!(
            "num times top_k must be at most {} with include_ground_truth, got {num} times {}",
            limits.rows_max, asked.top_k
        )));
    }
    Ok(())
}

/// The column that is measured when none is named: `vector`, or the first that has an index.
fn column(schema: &Schema) -> Result<&Attribute, Invalid> {
    let mut indexed: Vec<&Attribute> = schema.attributes().filter(|a| a.ann.is_some()).collect();
    // Dense ones first, then in the order in which they were added.
    indexed.sort_by_key(|a| (&*a.name != "vector", !a.ty.is_vector(), a.id));
    indexed.first().copied().ok_or_else(|| {
        Invalid::new("this namespace has no attribute with an ANN index, so there is no recall to measure")
    })
}

/// The query to be measured, and the exact one. Equal filters, so that nothing but the way differs.
fn pair(attribute: &str, vector: &VectorQuery, asked: &RecallRequest) -> Vec<Query> {
    let way = |exact: bool| Query {
        rank_by: Some(RankBy::Nearest {
            attribute: attribute.to_owned(),
            query: vector.clone(),
            exact,
        }),
        limit: asked.top_k,
        filter: match exact {
            // Exact search wants a filter; this one holds for all rows.
            true => Some(asked.filter.clone().unwrap_or_else(|| Filter::And(Vec::new()))),
            false => asked.filter.clone(),
        },
        include: match exact && asked.with_truth {
            true => Projection::Only(vec![attribute.to_owned()]),
            false => Projection::None,
        },
        ..Query::default()
    };
    vec![way(false), way(true)]
}

/// The share of the exact answer that was found, 0 to 1.
fn share_found(found: &[ResultRow], exact: &[ResultRow]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let ids: BTreeSet<&Id> = exact.iter().map(|row| &row.id).collect();
    let distance = |row: &ResultRow| match row.rank {
        Some(Rank::Distance(d)) => d,
        _ => f32::INFINITY,
    };
    let hits = found
        .iter()
        .filter(|row| ids.contains(&row.id) || distance(row) <= distance(last))
        .count();
    hits.min(exact.len()) as f64 / exact.len() as f64
}

/// Cuts a list of numbers into vectors of the attribute's dimensions.
fn cut(elements: &[f32], attribute: &Attribute) -> Result<Vec<VectorQuery>, Invalid> {
    let AttrType::Vector { dims, .. } = attribute.ty else {
        return Err(Invalid::new(format!(
            "queries cannot be given for {:?}, whose rows have several vectors",
            attribute.name
        )));
    };
    let chunks = elements.chunks_exact(dims as usize);
    match chunks.remainder().is_empty() && !elements.is_empty() {
        true => Ok(chunks.map(|v| VectorQuery::One(v.to_vec())).collect()),
        false => Err(Invalid::new(format!(
            "queries must hold whole vectors of {dims} numbers one after the other, got {} numbers",
            elements.len()
        ))),
    }
}

/// Draws `count` different rows that have a vector, or all if there are fewer, and returns their
/// vectors.
fn sample(parts: &[Part], attribute: &Attribute, count: usize, rng: &Rng) -> Result<Vec<VectorQuery>> {
    let columns = parts
        .iter()
        .filter_map(|part| Some((part, part.chunk.columns.get(&attribute.id)?)));
    let with_vector = |part: &Part, column: &Column| -> Vec<usize> {
        part.live.iter().filter(|row| is_present(column, *row)).collect()
    };
    let counts: Vec<usize> = columns.clone().map(|(p, c)| with_vector(p, c).len()).collect();
    let total: usize = counts.iter().sum();
    let chosen = choose(total, count, rng);
    let mut queries = Vec::with_capacity(chosen.len());
    let mut first = 0;
    for ((part, column), rows) in columns.zip(counts) {
        let mut here = chosen.range(first..first + rows).peekable();
        if here.peek().is_some() {
            let present = with_vector(part, column);
            for at in here {
                queries.push(as_query(column, attribute, present[at - first])?);
            }
        }
        first += rows;
    }
    Ok(queries)
}

/// `count` different numbers below `total`, or all of them (Floyd's method: one draw each).
fn choose(total: usize, count: usize, rng: &Rng) -> BTreeSet<usize> {
    if count >= total {
        return (0..total).collect();
    }
    let mut chosen = BTreeSet::new();
    for last in total - count..total {
        let drawn = rng.below(last as u64 + 1) as usize;
        if !chosen.insert(drawn) {
            chosen.insert(last);
        }
    }
    chosen
}

fn as_query(column: &Column, attribute: &Attribute, row: usize) -> Result<VectorQuery> {
    let damaged = || {
        Error::new(
            ErrorKind::Internal,
            format!("a value of attribute {:?} cannot be read", attribute.name),
        )
    };
    match value_at(column, attribute.ty, row).map_err(|e| damaged().because(e))? {
        Value::Vector(Vector::F32(v)) => Ok(VectorQuery::One(v)),
        Value::Vector(Vector::F16(v)) => Ok(VectorQuery::One(v.iter().map(|x| x.to_f32()).collect())),
        Value::Vector(Vector::I8(v)) => Ok(VectorQuery::One(v.iter().map(|x| f32::from(*x)).collect())),
        Value::MultiVector { dims, elements } => Ok(VectorQuery::Many(
            elements.chunks(dims.max(1) as usize).map(<[f32]>::to_vec).collect(),
        )),
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(found: &[(u64, f32)]) -> Vec<ResultRow> {
        let row = |(id, distance): &(u64, f32)| ResultRow {
            id: Id::UInt(*id),
            rank: Some(Rank::Distance(*distance)),
            attributes: Vec::new(),
            computed: Vec::new(),
        };
        found.iter().map(row).collect()
    }

    #[test]
    fn recall_is_the_share_of_the_exact_answer_that_was_found() {
        let exact = rows(&[(1, 0.0), (2, 0.5), (3, 1.0), (4, 1.5)]);
        assert_eq!(share_found(&exact, &exact), 1.0);
        assert_eq!(share_found(&rows(&[(1, 0.0), (2, 0.5), (9, 2.0)]), &exact), 0.5);
        assert_eq!(share_found(&[], &exact), 0.0);
        assert_eq!(share_found(&[], &[]), 1.0);
    }

    #[test]
    fn rows_as_near_as_the_last_of_the_exact_answer_count() {
        let exact = rows(&[(1, 0.0), (2, 1.0)]);
        assert_eq!(share_found(&rows(&[(1, 0.0), (7, 1.0)]), &exact), 1.0);
        assert_eq!(share_found(&rows(&[(7, 1.0), (8, 1.0)]), &exact), 1.0);
        assert_eq!(share_found(&rows(&[(7, 1.0), (8, 1.1)]), &exact), 0.5);
    }

    #[test]
    fn drawn_rows_are_different_and_all_of_them_can_be_drawn() {
        let rng = Rng::seeded(5);
        assert_eq!(choose(3, 25, &rng), BTreeSet::from([0, 1, 2]));
        assert!(choose(0, 25, &rng).is_empty());
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let chosen = choose(10, 3, &rng);
            assert_eq!(chosen.len(), 3);
            assert!(chosen.iter().all(|row| *row < 10));
            seen.extend(chosen);
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn requests_out_of_bounds_are_refused() {
        let limits = Limits::default();
        let ok = |of: RecallOf, top_k, with_truth| {
            let asked = RecallRequest {
                of,
                top_k,
                filter: None,
                with_truth,
            };
            check(&asked, &limits).is_ok()
        };
        let sampled = RecallOf::Sampled;
        assert!(ok(sampled(1), 1, true));
        assert!(ok(sampled(limits.recall_queries_max), 10_000, false));
        assert!(!ok(sampled(limits.recall_queries_max + 1), 1, false));
        assert!(!ok(sampled(0), 1, false));
        assert!(!ok(sampled(1), 0, false));
        assert!(!ok(sampled(1), 10_001, false));
        assert!(ok(sampled(10), 1000, true));
        assert!(!ok(sampled(10), 1001, true));
    }
}
