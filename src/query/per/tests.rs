use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::model::query::{Score, TextQuery, VectorQuery};
use crate::model::value::Vector;
use crate::model::{Direction, FullTextConfig, Id, IdKind, Query, RankBy, Value};
use crate::query::tests::support::{Rows, schema_of, snapshot_of};
use crate::query::{ResultRow, execute};
use crate::snapshot::Snapshot;

fn schema() -> Schema {
    let mut schema = schema_of(
        IdKind::UInt,
        &[
            ("n", "int"),
            ("s", "string"),
            ("t", "string"),
            ("v", "[1]f32"),
            ("l", "[]int"),
        ],
    );
    let mut text = schema.get("t").unwrap().clone();
    (text.full_text, text.filterable) = (Some(FullTextConfig::default()), false);
    schema.put(text);
    schema
}

fn ask(snapshot: &Snapshot, query: Query) -> Result<Vec<ResultRow>, Error> {
    let queries: Arc<[Query]> = Arc::new([query]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let all = Arc::new(crate::query::View::all(snapshot.schema.clone()));
    let results = runtime.block_on(execute(
        snapshot,
        &all,
        &queries,
        &CpuPool::inline(),
        &Limits::default(),
    ))?;
    Ok(results[0].rows().to_vec())
}

fn per(attributes: &[&str], limit: usize) -> Option<LimitPer> {
    let attributes = attributes.iter().map(|a| (*a).into()).collect();
    Some(LimitPer { attributes, limit })
}

/// What makes rows alike: a number and a word.
type Alike = (Option<i64>, Option<&'static str>);

fn rows_of(values: &[Alike], first: u64) -> Rows {
    let row = |(i, (n, s)): (usize, &Alike)| {
        let id = first + (i as u64 * 37) % 1009;
        let mut row = vec![("v", Value::Vector(Vector::F32(vec![(id % 10) as f32])))];
        row.extend(n.map(|n| ("n", Value::Int(n))));
        row.extend(s.map(|s| ("s", Value::String(s.into()))));
        row.push(("t", Value::String("fox ".repeat(1 + id as usize % 5))));
        (Id::UInt(id), row)
    };
    values.iter().enumerate().map(row).collect()
}

fn orders() -> Vec<Option<RankBy>> {
    vec![
        None,
        Some(RankBy::Order(vec![("n".into(), Direction::Desc)])),
        Some(RankBy::Order(vec![("id".into(), Direction::Desc)])),
        Some(RankBy::Nearest {
            attribute: "v".into(),
            query: VectorQuery::One(vec![3.0]),
            exact: false,
        }),
        Some(RankBy::Score(Score::Text {
            attribute: "t".into(),
            query: TextQuery::Text("fox".into()),
            last_as_prefix: false,
        })),
    ]
}

/// Walks over the whole order row by row.
fn walk(order: Vec<ResultRow>, alike: &HashMap<Id, Alike>, names: &[&str], cap: usize) -> Vec<ResultRow> {
    let mut seen: Vec<(Alike, usize)> = Vec::new();
    let keeps = |row: &ResultRow| {
        let (n, s) = alike[&row.id];
        let key = (n.filter(|_| names.contains(&"n")), s.filter(|_| names.contains(&"s")));
        let place = seen.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
            seen.push((key, 0));
            seen.len() - 1
        });
        seen[place].1 += 1;
        seen[place].1 <= cap
    };
    order.into_iter().filter(keeps).collect()
}

proptest! {
    #[test]
    fn the_answer_is_what_a_walk_over_the_whole_order_keeps(
        parts in prop::collection::vec(prop::collection::vec(
            (prop::option::of(-1i64..2), prop::option::of(prop::sample::select(vec!["", "a", "b"]))), 0..40), 0..4),
        rank_by in prop::sample::select(orders()),
        names in prop::sample::subsequence(vec!["n", "s"], 1..=2),
        cap in 1usize..4, limit in 0usize..12, offset in 0usize..4,
    ) {
        let built: Vec<_> = parts.iter().enumerate().map(|(p, values)| {
            let rows = rows_of(values, p as u64 * 2000);
            let live = vec![true; rows.len()];
            (rows, live)
        }).collect();
        let alike: HashMap<Id, Alike> = built.iter().zip(&parts)
            .flat_map(|((rows, _), values)| rows.iter().map(|r| r.0.clone()).zip(values.iter().copied()))
            .collect();
        let snapshot = snapshot_of(&schema(), &built);
        let query = Query { rank_by, limit: 10_000, ..Query::default() };
        let whole = ask(&snapshot, query.clone()).unwrap();
        let expected = walk(whole.clone(), &alike, &names, cap);
        let capped = Query { limit, offset, per: per(&names, cap), ..query.clone() };
        let cut = |rows: Vec<ResultRow>| -> Vec<ResultRow> { rows.into_iter().skip(offset).take(limit).collect() };
        prop_assert_eq!(ask(&snapshot, capped).unwrap(), cut(expected));
        let plain = Query { limit, offset, ..query };
        prop_assert_eq!(ask(&snapshot, plain).unwrap(), cut(whole));
    }
}

#[test]
fn a_walk_goes_on_where_the_first_rows_are_not_enough() {
    // 5,000 rows of one value come before the others, which a first search of 1,024 does not meet.
    let mut values: Vec<Alike> = vec![(Some(9), Some("common")); 5_000];
    values.extend([
        (Some(5), Some("rare")),
        (Some(4), None),
        (Some(4), None),
        (Some(3), Some("last")),
    ]);
    let rows: Rows = values
        .iter()
        .enumerate()
        .map(|(i, (n, s))| {
            let mut row = vec![("n", Value::Int(n.unwrap()))];
            row.extend(s.map(|s| ("s", Value::String(s.into()))));
            (Id::UInt(i as u64), row)
        })
        .collect();
    let live = vec![true; rows.len()];
    let snapshot = snapshot_of(&schema(), &[(rows, live)]);
    let query = |limit, offset, cap| Query {
        rank_by: Some(RankBy::Order(vec![("n".into(), Direction::Desc)])),
        limit,
        offset,
        per: per(&["s"], cap),
        ..Query::default()
    };
    let ids = |query| -> Vec<Id> { ask(&snapshot, query).unwrap().into_iter().map(|r| r.id).collect() };
    let expect = |ids: &[u64]| -> Vec<Id> { ids.iter().map(|id| Id::UInt(*id)).collect() };
    assert_eq!(ids(query(10, 0, 1)), expect(&[0, 5000, 5001, 5003]));
    assert_eq!(ids(query(3, 1, 2)), expect(&[1, 5000, 5001]));
    assert_eq!(ids(query(2, 7, 2)), expect(&[]));
    assert_eq!(ids(query(0, 0, 2)), expect(&[]));
    assert_eq!(ids(query(10_000, 0, 9_000)).len(), 5_004);
}

#[test]
fn caps_and_offsets_that_cannot_be_are_refused_with_the_reason() {
    let snapshot = snapshot_of(&schema(), &[]);
    let with = |limit_per: Option<LimitPer>| Query {
        limit: 1,
        per: limit_per,
        ..Query::default()
    };
    for (query, part) in [
        (with(per(&["gone"], 1)), "invalid limit.per: attribute not found"),
        (
            with(per(&["l"], 1)),
            "\"l\" is []int, and only single values can be compared",
        ),
        (with(per(&["v"], 1)), "no plain value"),
        (with(per(&["t"], 1)), "not filterable"),
        (with(per(&[], 1)), "1 to 8 attributes"),
        (with(per(&["n"; 9], 1)), "1 to 8 attributes"),
        (with(per(&["n"], 0)), "at least 1"),
        (
            Query {
                limit: 10,
                offset: 99_991,
                ..Query::default()
            },
            "at most 100000",
        ),
    ] {
        let error = ask(&snapshot, query).unwrap_err();
        assert!(error.message.contains(part), "{} lacks {part}", error.message);
    }
    assert!(ask(&snapshot, with(per(&["id", "n", "s"], 1))).unwrap().is_empty());
    let far = Query {
        limit: 10,
        offset: 99_990,
        ..Query::default()
    };
    assert!(ask(&snapshot, far).unwrap().is_empty());
}
