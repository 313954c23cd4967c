mod codes;
mod loading;
mod ranking;
mod reads;
mod segments;
pub mod support;

use std::cmp::Ordering;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use self::support::{Rows, schema_of, snapshot_of};
use super::*;
use crate::base::CpuPool;
use crate::error::Error;
use crate::model::query::{Projection, Score, TextQuery, VectorQuery};
use crate::model::value::Vector;
use crate::model::{Direction, Filter, FilterOp, FullTextConfig, IdKind, Limits, Metric, Query, RankBy, Schema};
use crate::snapshot::Snapshot;

fn query(rank_by: Option<RankBy>, limit: usize) -> Query {
    Query {
        rank_by,
        limit,
        ..Query::default()
    }
}

fn ask(snapshot: &Snapshot, query: Query, cpu: &CpuPool) -> Result<Vec<ResultRow>, Error> {
    let queries: Arc<[Query]> = Arc::new([query]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let all = Arc::new(View::all(snapshot.schema.clone()));
    let mut results = runtime.block_on(execute(snapshot, &all, &queries, cpu, &Limits::default()))?;
    Ok(results.remove(0).rows().to_vec())
}

fn described(snapshot: &Snapshot, query: &Query) -> Result<String, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let all = Arc::new(View::all(snapshot.schema.clone()));
    runtime.block_on(explain(snapshot, &all, query, &CpuPool::inline(), &Limits::default()))
}

fn ids(rows: &[ResultRow]) -> Vec<u64> {
    rows.iter()
        .map(|r| if let Id::UInt(n) = r.id { n } else { panic!() })
        .collect()
}

/// A small row: a number, a word, a point, each of which may be null.
type Small = (Option<i64>, Option<&'static str>, Option<[f32; 2]>, bool);

fn any_rows() -> impl Strategy<Value = Vec<Vec<Small>>> {
    let number = prop::option::of(-2i64..3);
    let word = prop::option::of(prop::sample::select(vec!["", "fox", "fox dog", "dog dog fox cat"]));
    let point = prop::option::of((0u8..3, 0u8..3).prop_map(|(x, y)| [x.into(), y.into()]));
    let row = (number, word, point, prop::bool::weighted(0.8));
    prop::collection::vec(prop::collection::vec(row, 0..40), 0..4)
}

fn small_schema() -> Schema {
    let mut schema = schema_of(IdKind::UInt, &[("n", "int"), ("s", "string"), ("v", "[2]f32")]);
    let mut text = schema.get("s").unwrap().clone();
    text.full_text = Some(FullTextConfig::default());
    schema.put(text);
    schema
}

/// Ids that are not ascending, and interleaved between parts.
fn id_of(part: usize, row: usize) -> u64 {
    ((row * 37 + part * 11) % 101 * 8 + part) as u64
}

fn small_snapshot(parts: &[Vec<Small>]) -> (Snapshot, Vec<(u64, Small)>) {
    let mut live = Vec::new();
    let mut built = Vec::new();
    for (p, rows) in parts.iter().enumerate() {
        let mut part: Rows = Vec::new();
        for (r, row) in rows.iter().enumerate() {
            let mut values = Vec::new();
            values.extend(row.0.map(|n| ("n", Value::Int(n))));
            values.extend(row.1.map(|s| ("s", Value::String(s.into()))));
            values.extend(row.2.map(|v| ("v", Value::Vector(Vector::F32(v.to_vec())))));
            part.push((Id::UInt(id_of(p, r)), values));
            live.extend(row.3.then_some((id_of(p, r), *row)));
        }
        built.push((part, rows.iter().map(|r| r.3).collect()));
    }
    (snapshot_of(&small_schema(), &built), live)
}

proptest! {
    #[test]
    fn an_ordered_scan_equals_a_full_sort(
        parts in any_rows(),
        keys in prop::collection::vec((prop::sample::select(vec!["n", "s", "id"]), any::<bool>()), 1..4),
        limit in 0usize..50,
    ) {
        let (snapshot, mut rows) = small_snapshot(&parts);
        rows.sort_by(|a, b| {
            let by_key = keys.iter().map(|(key, descending)| {
                let ascending = match *key {
                    "n" => a.1.0.cmp(&b.1.0),
                    "s" => a.1.1.cmp(&b.1.1),
                    _ => a.0.cmp(&b.0),
                };
                if *descending { ascending.reverse() } else { ascending }
            });
            by_key.fold(Ordering::Equal, Ordering::then).then(a.0.cmp(&b.0))
        });
        let expected: Vec<u64> = rows.iter().take(limit).map(|r| r.0).collect();
        let direction = |d: bool| if d { Direction::Desc } else { Direction::Asc };
        let keys = keys.iter().map(|(k, d)| (k.to_string(), direction(*d))).collect();
        let found = ask(&snapshot, query(Some(RankBy::Order(keys)), limit), &CpuPool::inline()).unwrap();
        prop_assert!(found.iter().all(|r| r.rank.is_none()));
        prop_assert_eq!(ids(&found), expected);
    }

    #[test]
    fn nearest_equals_a_sort_by_distance(parts in any_rows(), k in 1usize..30, low in -2i64..3) {
        let (snapshot, rows) = small_snapshot(&parts);
        let distance = |v: [f32; 2]| (v[0] - 1.0).powi(2) + v[1].powi(2);
        let eligible = rows.iter().filter(|r| r.1.0.is_some_and(|n| n >= low));
        let mut expected: Vec<(f32, u64)> = eligible.filter_map(|r| Some((distance(r.1.2?), r.0))).collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        expected.truncate(k);
        let rank_by = RankBy::Nearest { attribute: "v".into(), query: VectorQuery::One(vec![1.0, 0.0]), exact: true };
        let mut query = query(Some(rank_by), k);
        query.filter = Some(Filter::compare("n", FilterOp::Gte, json!(low)));
        let found = ask(&snapshot, query, &CpuPool::inline()).unwrap();
        let ranks: Vec<_> = expected.iter().map(|e| Some(Rank::Distance(e.0))).collect();
        prop_assert_eq!(found.iter().map(|r| r.rank).collect::<Vec<_>>(), ranks);
        prop_assert_eq!(ids(&found), expected.iter().map(|e| e.1).collect::<Vec<_>>());
    }

    #[test]
    fn scores_use_the_statistics_of_all_parts_with_their_deleted_rows(parts in any_rows(), k in 1usize..30) {
        let (snapshot, live) = small_snapshot(&parts);
        let texts: Vec<Vec<&str>> =
            parts.iter().flatten().filter_map(|r| Some(r.1?.split_whitespace().collect())).collect();
        let average = texts.iter().map(Vec::len).sum::<usize>() as f64 / texts.len().max(1) as f64;
        let score = |text: &str| -> f64 {
            let words: Vec<&str> = text.split_whitespace().collect();
            let one = |term: &str, qf: f64| {
                let df = texts.iter().filter(|t| t.contains(&term)).count() as f64;
                let idf = (1.0 + (texts.len() as f64 - df + 0.5) / (df + 0.5)).ln();
                let tf = words.iter().filter(|w| **w == term).count() as f64;
                let norm = 1.2 * (1.0 - 0.75 + 0.75 * words.len() as f64 / average);
                if tf == 0.0 { 0.0 } else { idf * (tf * 2.2 / (tf + norm)) * (qf * 9.0 / (qf + 8.0)) }
            };
            one("fox", 1.0) + one("cat", 2.0)
        };
        let scored = live.iter().filter_map(|r| Some((score(r.1.1?), r.0)));
        let mut expected: Vec<(f64, u64)> = scored.filter(|e| e.0 > 0.0).collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        expected.truncate(k);
        let rank_by = RankBy::Score(Score::Text { attribute: "s".into(), query: TextQuery::Text("fox cat cat".into()), last_as_prefix: false });
        let found = ask(&snapshot, query(Some(rank_by), k), &CpuPool::inline()).unwrap();
        prop_assert_eq!(ids(&found), expected.iter().map(|e| e.1).collect::<Vec<_>>());
        for (row, (score, _)) in found.iter().zip(&expected) {
            prop_assert!(matches!(row.rank, Some(Rank::Score(s)) if (s - score).abs() < 1e-12));
        }
    }
}

#[test]
fn a_big_part_is_dealt_out_and_answers_the_same_on_any_pool() {
    let rows: Rows = (0..9_001u64)
        .map(|i| {
            let point = Vector::F32(vec![(i * 7919 % 1009) as f32, (i % 13) as f32]);
            (
                Id::UInt(i * 7919 % 9_001),
                vec![("n", Value::Int((i % 10) as i64)), ("v", Value::Vector(point))],
            )
        })
        .collect();
    let live = (0..rows.len()).map(|i| i % 7 != 0).collect();
    let snapshot = snapshot_of(&small_schema(), &[(rows, live)]);
    let nearest = RankBy::Nearest {
        attribute: "v".into(),
        query: VectorQuery::One(vec![500.0, 5.0]),
        exact: false,
    };
    let order = RankBy::Order(vec![("n".into(), Direction::Desc)]);
    for rank_by in [None, Some(nearest), Some(order)] {
        let mut query = query(rank_by, 100);
        query.filter = Some(Filter::compare("n", FilterOp::NotEq, json!(9)));
        let one = ask(&snapshot, query.clone(), &CpuPool::inline()).unwrap();
        let two = ask(&snapshot, query, &CpuPool::new(2)).unwrap();
        assert_eq!(one.len(), 100);
        assert_eq!(one, two);
    }
}

#[test]
fn a_result_row_has_the_asked_attributes_by_name_and_no_nulls() {
    let (snapshot, _) = small_snapshot(&[vec![
        (Some(4), None, Some([1.0, 2.0]), true),
        (None, Some("x"), None, true),
    ]]);
    let mut query = query(None, 10);
    for (include, expected) in [
        (Projection::None, vec![vec![], vec![]]),
        (Projection::All, vec![vec!["n", "v"], vec!["s"]]),
        (
            Projection::Only(["v", "id", "n", "v"].map(String::from).into()),
            vec![vec!["n", "v"], vec![]],
        ),
        (
            Projection::Except(["v", "gone"].map(String::from).into()),
            vec![vec!["n"], vec!["s"]],
        ),
    ] {
        query.include = include;
        let rows = ask(&snapshot, query.clone(), &CpuPool::inline()).unwrap();
        let names = rows
            .iter()
            .map(|r| r.attributes.iter().map(|a| &*a.0).collect::<Vec<_>>());
        assert_eq!(names.collect::<Vec<_>>(), expected, "{:?}", query.include);
    }
}

#[test]
fn queries_that_do_not_fit_the_schema_are_refused_with_the_reason() {
    let nearest = |attribute: &str, vector: Vec<f32>, exact| {
        Some(RankBy::Nearest {
            attribute: attribute.into(),
            query: VectorQuery::One(vector),
            exact,
        })
    };
    let text = |attribute: &str| {
        Some(RankBy::Score(Score::Text {
            attribute: attribute.into(),
            query: TextQuery::Text("x".into()),
            last_as_prefix: false,
        }))
    };
    let order = |attribute: &str| Some(RankBy::Order(vec![(attribute.into(), Direction::Asc)]));
    let (snapshot, _) = small_snapshot(&[]);
    for (rank_by, expected) in [
        (nearest("v", vec![1.0], false), "has 1 dimensions, and \"v\" has 2"),
        (nearest("v", vec![1.0, f32::INFINITY], false), "beyond the range of f32"),
        (nearest("v", vec![1.0, 2.0], true), "kNN needs filters"),
        (nearest("n", vec![1.0], false), "need a vector attribute"),
        (nearest("gone", vec![1.0], false), "attribute not found"),
        (text("n"), "only string and []string attributes"),
        (text("gone"), "attribute not found"),
        (order("v"), "cannot be ordered by \"v\", which is [2]f32"),
        (order("gone"), "attribute not found"),
        (Some(RankBy::Order(vec![])), "1 to 8 attributes"),
    ] {
        let error = ask(&snapshot, query(rank_by, 1), &CpuPool::inline()).unwrap_err();
        assert!(error.message.contains(expected), "{} lacks {expected}", error.message);
    }
    let mut unknown = query(None, 1);
    unknown.include = Projection::Only(vec!["gone".into()]);
    assert!(
        ask(&snapshot, unknown, &CpuPool::inline())
            .unwrap_err()
            .message
            .contains("include_attributes")
    );
    let mut cosine = query(nearest("v", vec![1.0, 0.0], false), 1);
    cosine.distance_metric = Some(Metric::CosineDistance);
    assert!(ask(&snapshot, cosine, &CpuPool::inline()).unwrap().is_empty());
}
