//! One order made of several.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{QueryResult, Rank, ResultRow};
use crate::model::Id;

/// Reciprocal rank fusion: each row's score is the sum of weight / (`rank_constant` + rank) over the queries that
/// found it, where ranks count from 1.
///
/// * `results` — rows, best first; answers without rows add nothing
/// * `weights` — one per result
///
/// Returns the rows from `offset` on, at most `limit`, best first, ties by id. A row has the attributes of every
/// query that found it; where two computed something under the same name, the first query's. Scores are added up in
/// the order of the queries, so that they have the same bits every time.
///
/// Source: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion Outperforms Condorcet" (SIGIR 2009).
pub fn fuse(
    results: Vec<QueryResult>,
    rank_constant: f64,
    weights: &[f64],
    limit: usize,
    offset: usize,
) -> QueryResult {
    let mut places: HashMap<Id, usize> = HashMap::new();
    let mut fused: Vec<(f64, ResultRow)> = Vec::new();
    for (result, weight) in results.into_iter().zip(weights) {
        let QueryResult::Rows(rows) = result else { continue };
        for (i, row) in rows.into_iter().enumerate() {
            let score = weight / (rank_constant + (i + 1) as f64);
            match places.get(&row.id) {
                Some(place) => {
                    let (sum, known) = &mut fused[*place];
                    *sum += score;
                    unite(known, row);
                }
                None => {
                    places.insert(row.id.clone(), fused.len());
                    fused.push((score, row));
                }
            }
        }
    }
    fused.sort_unstable_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.id.cmp(&y.id)));
    let answer = fused.into_iter().skip(offset).take(limit);
    QueryResult::Rows(
        answer
            .map(|(score, row)| ResultRow {
                rank: Some(Rank::Score(score)),
                ..row
            })
            .collect(),
    )
}

/// Adds to `known` what only `other`, the same row, has.
fn unite(known: &mut ResultRow, other: ResultRow) {
    let new = |(name, _): &(Arc<str>, _)| !has(known, name);
    let attributes: Vec<_> = other.attributes.into_iter().filter(new).collect();
    if !attributes.is_empty() {
        known.attributes.extend(attributes);
        known.attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    for (name, value) in other.computed {
        if !has(known, &name) {
            known.computed.push((name, value));
        }
    }
}

/// What one query computes may have the name of an attribute that another returns: a row has it once.
fn has(row: &ResultRow, name: &str) -> bool {
    let mut names = row
        .attributes
        .iter()
        .map(|(n, _)| n)
        .chain(row.computed.iter().map(|(n, _)| n));
    names.any(|n| **n == *name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Value;
    use crate::query::{AggregateValue, Computed};

    fn row(id: u64, attributes: &[(&str, i64)]) -> ResultRow {
        ResultRow {
            id: Id::UInt(id),
            rank: Some(Rank::Distance(0.5)),
            attributes: attributes
                .iter()
                .map(|(n, v)| (Arc::from(*n), Value::Int(*v)))
                .collect(),
            computed: Vec::new(),
        }
    }

    fn rows(ids: &[u64]) -> QueryResult {
        QueryResult::Rows(ids.iter().map(|id| row(*id, &[])).collect())
    }

    fn scores(result: &QueryResult) -> Vec<(u64, f64)> {
        let score = |r: &ResultRow| match (&r.id, r.rank) {
            (Id::UInt(id), Some(Rank::Score(score))) => (*id, score),
            other => panic!("{other:?}"),
        };
        result.rows().iter().map(score).collect()
    }

    #[test]
    fn known_ranks_give_known_scores_and_ties_go_by_id() {
        let fused = fuse(vec![rows(&[7, 3, 5]), rows(&[3, 9])], 60.0, &[1.0, 1.0], 10, 0);
        let expected = vec![
            (3, 1.0 / 62.0 + 1.0 / 61.0),
            (7, 1.0 / 61.0),
            (9, 1.0 / 62.0),
            (5, 1.0 / 63.0),
        ];
        assert_eq!(scores(&fused), expected);
        // Weights turn the order around; equal scores are ordered by id.
        let fused = fuse(
            vec![rows(&[8, 2]), rows(&[2, 8]), rows(&[5])],
            0.0,
            &[1.0, 1.0, 2.0],
            10,
            0,
        );
        assert_eq!(scores(&fused), vec![(5, 2.0), (2, 1.5), (8, 1.5)]);
        let fused = fuse(
            vec![rows(&[8, 2]), rows(&[2, 8]), rows(&[5])],
            0.0,
            &[1.0, 1.0, 2.0],
            1,
            1,
        );
        assert_eq!(scores(&fused), vec![(2, 1.5)]);
        assert_eq!(fuse(vec![], 60.0, &[], 10, 0), QueryResult::default());
    }

    #[test]
    fn attributes_are_united_by_name() {
        let mut first = row(1, &[("b", 2), ("d", 4)]);
        first.computed.push((Arc::from("x"), Computed::Bool(true)));
        let mut second = row(1, &[("a", 1), ("d", 4)]);
        second.computed.push((Arc::from("x"), Computed::Bool(false)));
        second.computed.push((Arc::from("y"), Computed::Score(1.0)));
        let counts = QueryResult::Aggregations(vec![(Arc::from("n"), AggregateValue::Value(Value::UInt(1)))]);
        let results = vec![QueryResult::Rows(vec![first]), counts, QueryResult::Rows(vec![second])];
        let fused = fuse(results, 1.0, &[1.0, 1.0, 2.0], 10, 0);
        let only = &fused.rows()[0];
        assert_eq!(only.rank, Some(Rank::Score(1.5)));
        assert_eq!(only.attributes, row(1, &[("a", 1), ("b", 2), ("d", 4)]).attributes);
        let computed: Vec<_> = only.computed.iter().map(|(n, c)| (&**n, c.clone())).collect();
        assert_eq!(computed, [("x", Computed::Bool(true)), ("y", Computed::Score(1.0))]);
    }

    /// Two values under one name would be no valid object for many clients.
    #[test]
    fn a_row_has_every_name_once() {
        let mut computes = row(1, &[]);
        computes.computed.push(("x".into(), Computed::Bool(true)));
        let returns = row(1, &[("x", 7)]);
        for (first, second) in [(&computes, &returns), (&returns, &computes)] {
            let results = [first, second].map(|r| QueryResult::Rows(vec![r.clone()]));
            let fused = fuse(results.into(), 60.0, &[1.0, 1.0], 10, 0);
            let fused = &fused.rows()[0];
            assert_eq!(
                (&fused.attributes, &fused.computed),
                (&first.attributes, &first.computed)
            );
        }
    }

    proptest! {
        #[test]
        fn fusion_equals_the_sum_of_each_rows_shares(
            lists in prop::collection::vec(prop::collection::vec(0u64..12, 0..10), 0..5),
            constant in 0u8..4, weights in prop::collection::vec(1u8..4, 5), limit in 0usize..15, offset in 0usize..5,
        ) {
            // A query finds a row once.
            let lists: Vec<Vec<u64>> = lists.into_iter().map(|list| {
                let mut seen = std::collections::BTreeSet::new();
                list.into_iter().filter(|id| seen.insert(*id)).collect()
            }).collect();
            let share = |list: &Vec<u64>, weight: &u8, id: u64| {
                let rank = list.iter().position(|x| *x == id)? + 1;
                Some(f64::from(*weight) / (f64::from(constant) + rank as f64))
            };
            let score = |id| -> Option<f64> {
                let shares = lists.iter().zip(&weights).filter_map(|(list, weight)| share(list, weight, id));
                shares.reduce(|a, b| a + b)
            };
            let mut expected: Vec<(u64, f64)> = (0..12).filter_map(|id| Some((id, score(id)?))).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1));
            let expected: Vec<_> = expected.into_iter().skip(offset).take(limit).collect();
            let weights: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
            let results = lists.iter().map(|list| rows(list)).collect();
            prop_assert_eq!(scores(&fuse(results, constant.into(), &weights, limit, offset)), expected);
        }
    }
}
