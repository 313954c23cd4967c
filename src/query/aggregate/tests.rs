mod model;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use self::model::{Row, expected};
use super::*;
use crate::error::Error;
use crate::model::query::{Aggregate, Aggregation, GroupKey};
use crate::model::{Filter, FilterOp, Id, IdKind, Limits, Query, Schema, Value};
use crate::query::tests::support::{Rows, schema_of, snapshot_of};
use crate::query::{AggregateValue, execute};
use crate::snapshot::Snapshot;

const ATTRIBUTES: &[(&str, &str)] = &[
    ("b", "bool"),
    ("d", "datetime"),
    ("f", "float"),
    ("i", "int"),
    ("ii", "[]int"),
    ("s", "string"),
    ("ss", "[]string"),
    ("u", "uint"),
    ("v", "[2]f32"),
    ("y", "bytes"),
];

fn schema() -> Schema {
    schema_of(IdKind::UInt, ATTRIBUTES)
}

fn ask(snapshot: &Snapshot, query: Query, cpu: &CpuPool, limits: &Limits) -> Result<QueryResult, Error> {
    let queries: Arc<[Query]> = Arc::new([query]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let all = Arc::new(crate::query::View::all(snapshot.schema.clone()));
    let mut results = runtime.block_on(execute(snapshot, &all, &queries, cpu, limits))?;
    Ok(results.remove(0))
}

fn query(aggregates: Vec<(&str, Aggregate)>, group_by: Vec<GroupKey>, limit: usize) -> Query {
    Query {
        limit,
        aggregation: Some(Aggregation {
            aggregates: aggregates.into_iter().map(|(l, a)| (Arc::from(l), a)).collect(),
            group_by,
        }),
        ..Query::default()
    }
}

fn elements(label: &str, attribute: &str) -> GroupKey {
    GroupKey::Elements {
        label: label.into(),
        attribute: attribute.into(),
    }
}

fn top(attribute: &str, limit: usize) -> Aggregate {
    Aggregate::Top {
        attribute: attribute.into(),
        limit,
    }
}

/// Every function, on every type that it takes.
fn every_aggregate() -> Vec<(String, Aggregate)> {
    let mut all = vec![("n".to_owned(), Aggregate::Count)];
    for name in ["f", "i", "u"] {
        all.push((format!("sum {name}"), Aggregate::Sum(name.into())));
        all.push((format!("avg {name}"), Aggregate::Avg(name.into())));
    }
    for name in ["b", "d", "f", "i", "s", "u", "y", "id"] {
        all.push((format!("min {name}"), Aggregate::Min(name.into())));
        all.push((format!("max {name}"), Aggregate::Max(name.into())));
    }
    for name in ["b", "d", "f", "i", "ii", "s", "ss", "u", "y", "id"] {
        all.push((format!("distinct {name}"), Aggregate::CountDistinct(name.into())));
        all.push((format!("top {name}"), top(name, 2)));
    }
    all
}

fn any_row() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    fn nullable<T: Clone + std::fmt::Debug + 'static>(
        name: &'static str,
        values: Vec<T>,
        of: fn(T) -> Value,
    ) -> impl Strategy<Value = Option<(&'static str, Value)>> {
        prop::option::weighted(0.8, prop::sample::select(values).prop_map(move |v| (name, of(v))))
    }
    let words = prop::sample::subsequence(vec!["", "a", "a\0", "b"], 0..=3);
    let words = words.prop_map(|w| {
        // Elements may be repeated.
        let twice = w.iter().chain(w.first()).map(|s| Value::String((*s).into()));
        ("ss", Value::Array(twice.collect()))
    });
    let numbers = prop::collection::vec(-1i64..2, 0..4);
    let numbers = numbers.prop_map(|n| ("ii", Value::Array(n.into_iter().map(Value::Int).collect())));
    (
        nullable("b", vec![false, true], Value::Bool),
        nullable("d", vec![-5, 0, 1_700_000_000_000], Value::Datetime),
        nullable("f", vec![-0.0, 0.0, 0.25, -7.5, 1e9], Value::Float),
        nullable("i", vec![i64::MIN / 400, -1, 0, 1, 2], Value::Int),
        prop::option::weighted(0.8, numbers),
        nullable("s", vec!["", "\0", "a", "a\0b", "ä"], |s| Value::String(s.into())),
        prop::option::weighted(0.8, words),
        nullable("u", vec![0, 7, u64::MAX / 400], Value::UInt),
        nullable("y", vec![vec![], vec![0], vec![0, 255], vec![1]], Value::Bytes),
    )
        .prop_map(|(b, d, f, i, ii, s, ss, u, y)| [b, d, f, i, ii, s, ss, u, y].into_iter().flatten().collect())
}

/// Parts of rows that are live or not.
fn any_parts() -> impl Strategy<Value = Vec<(Rows, Vec<bool>)>> {
    let row = (any_row(), prop::bool::weighted(0.85));
    prop::collection::vec(prop::collection::vec(row, 0..80), 0..4).prop_map(|parts| {
        let built = parts.into_iter().enumerate().map(|(p, rows)| {
            let live = rows.iter().map(|r| r.1).collect();
            let id = |r: usize| Id::UInt(((r * 37 + p * 11) % 101 * 8 + p) as u64);
            let rows = rows.into_iter().enumerate().map(|(r, (values, _))| (id(r), values));
            (rows.collect(), live)
        });
        built.collect()
    })
}

fn any_query() -> impl Strategy<Value = Query> {
    let keys = vec![
        GroupKey::Attribute("b".into()),
        GroupKey::Attribute("d".into()),
        GroupKey::Attribute("f".into()),
        GroupKey::Attribute("i".into()),
        GroupKey::Attribute("id".into()),
        GroupKey::Attribute("s".into()),
        GroupKey::Attribute("u".into()),
        GroupKey::Attribute("y".into()),
        elements("word", "ss"),
        elements("number", "ii"),
    ];
    let group_by = prop::sample::subsequence(keys, 0..4).prop_shuffle();
    let aggregates = prop::sample::subsequence(every_aggregate(), 1..8);
    let low = prop::option::weighted(0.3, -1i64..3);
    let limit = prop_oneof![0usize..8, Just(10_000)];
    (group_by, aggregates, low, limit).prop_map(|(group_by, aggregates, low, limit)| {
        let aggregates = aggregates.iter().map(|(l, a)| (l.as_str(), a.clone())).collect();
        let filter = low.map(|low| Filter::compare("i", FilterOp::Gte, json!(low)));
        Query {
            filter,
            ..query(aggregates, group_by, limit)
        }
    })
}

fn live_rows(parts: &[(Rows, Vec<bool>)]) -> Vec<Row> {
    let live = |(rows, live): &(Rows, Vec<bool>)| -> Vec<Row> {
        rows.iter()
            .zip(live)
            .filter(|(_, live)| **live)
            .map(|(row, _)| row.clone())
            .collect()
    };
    parts.iter().flat_map(live).collect()
}

/// The answer of jobs that were cut wherever `cuts` says.
fn answer_of_jobs(asked: &Query, snapshot: &Snapshot, cuts: &[usize]) -> QueryResult {
    let bound = bind(
        asked.aggregation.as_ref().unwrap(),
        asked.limit,
        &snapshot.schema,
        &Limits::default(),
    )
    .unwrap();
    let mut cuts = cuts.iter().copied().cycle();
    let mut jobs: Vec<Vec<Selected>> = Vec::new();
    for (part, of) in snapshot.parts.iter().enumerate() {
        let mut start = 0;
        while start < of.chunk.len() {
            let end = (start + cuts.next().unwrap_or(usize::MAX)).min(of.chunk.len());
            let rows = Bitset::from_fn(end - start, |i| of.live.contains(start + i));
            let selected = Selected { part, start, rows };
            match (start % 3, jobs.last_mut()) {
                (0, Some(job)) => job.push(selected),
                _ => jobs.push(vec![selected]),
            }
            start = end;
        }
    }
    let parts = Parts {
        parts: &snapshot.parts,
        tail: snapshot.parts.len(),
        combined: &[],
    };
    let keys = jobs.iter().map(|job| groups::find(&bound, parts, job).unwrap());
    let groups = Groups::number(&bound, keys.collect()).unwrap();
    let numbered = (groups, dense::Tables::new());
    let counted = jobs.iter().rev().map(|job| count(&bound, parts, job, &numbered));
    answer(&bound, &numbered.0, counted.collect()).unwrap()
}

proptest! {
    #[test]
    fn answers_equal_those_of_the_model(parts in any_parts(), asked in any_query()) {
        let snapshot = snapshot_of(&schema(), &parts);
        let found = ask(&snapshot, asked.clone(), &CpuPool::inline(), &Limits::default()).unwrap();
        prop_assert_eq!(found, expected(&asked, &live_rows(&parts)));
    }

    #[test]
    fn answers_do_not_depend_on_the_division_into_jobs(
        parts in any_parts(), asked in any_query(), cuts in prop::collection::vec(1usize..50, 1..6),
    ) {
        let snapshot = snapshot_of(&schema(), &parts);
        let asked = Query { filter: None, ..asked };
        let whole = ask(&snapshot, asked.clone(), &CpuPool::inline(), &Limits::default()).unwrap();
        prop_assert_eq!(answer_of_jobs(&asked, &snapshot, &cuts), whole);
    }
}

/// More rows than one job takes.
fn many_rows() -> (Snapshot, Vec<Row>) {
    let rows: Rows = (0..9_001u64)
        .map(|i| {
            let words = [i % 3, i % 7].map(|n| Value::String(format!("w{n}")));
            let mut values = vec![
                ("f", Value::Float((i as f64 - 4000.0) / 4.0)),
                ("i", Value::Int((i as i64 % 1000 - 500) << 40)),
                ("ss", Value::Array(words.to_vec())),
            ];
            if i % 5 != 0 {
                values.push(("s", Value::String(format!("{}", i % 400))));
            }
            (Id::UInt(i * 7919 % 9_001), values)
        })
        .collect();
    let live: Vec<bool> = (0..rows.len()).map(|i| i % 7 != 0).collect();
    let parts = [(rows, live)];
    (snapshot_of(&schema(), &parts), live_rows(&parts))
}

#[test]
fn a_big_part_is_dealt_out_and_answers_the_same_on_any_pool() {
    let (snapshot, rows) = many_rows();
    let group_by = [
        vec![],
        vec![GroupKey::Attribute("i".into())],
        vec![GroupKey::Attribute("s".into()), elements("w", "ss")],
    ];
    for group_by in group_by {
        for limit in [3, 700] {
            let aggregates = every_aggregate();
            let aggregates: Vec<_> = aggregates
                .iter()
                .filter(|(label, _)| !label.ends_with(" id"))
                .take(31)
                .map(|(l, a)| (l.as_str(), a.clone()))
                .collect();
            let asked = query(aggregates, group_by.clone(), limit);
            let one = ask(&snapshot, asked.clone(), &CpuPool::inline(), &Limits::default()).unwrap();
            let two = ask(&snapshot, asked.clone(), &CpuPool::new(2), &Limits::default()).unwrap();
            assert_eq!(one, two);
            assert_eq!(one, expected(&asked, &rows));
        }
    }
}

fn values(result: QueryResult) -> Vec<AggregateValue> {
    match result {
        QueryResult::Aggregations(values) => values.into_iter().map(|(_, v)| v).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_has_the_documented_values() {
    let aggregates = || {
        vec![
            ("n", Aggregate::Count),
            ("si", Aggregate::Sum("i".into())),
            ("sf", Aggregate::Sum("f".into())),
            ("av", Aggregate::Avg("i".into())),
            ("af", Aggregate::Avg("f".into())),
            ("mi", Aggregate::Min("i".into())),
            ("ms", Aggregate::Max("s".into())),
            ("cd", Aggregate::CountDistinct("ss".into())),
            ("tp", top("s", 3)),
        ]
    };
    let null = AggregateValue::Value(Value::Null);
    let expected = |rows: u64| {
        let mut all = vec![
            AggregateValue::Value(Value::UInt(rows)),
            AggregateValue::Value(Value::Int(0)),
            AggregateValue::Value(Value::Float(0.0)),
        ];
        all.extend(vec![null.clone(); 4]);
        all.push(AggregateValue::Value(Value::UInt(0)));
        all.push(AggregateValue::Top(vec![]));
        all
    };
    let empty = snapshot_of(&schema(), &[]);
    let nulls = snapshot_of(
        &schema(),
        &[(vec![(Id::UInt(1), vec![]), (Id::UInt(2), vec![])], vec![true, true])],
    );
    for (snapshot, rows) in [(&empty, 0), (&nulls, 2)] {
        let found = ask(
            snapshot,
            query(aggregates(), vec![], 0),
            &CpuPool::inline(),
            &Limits::default(),
        )
        .unwrap();
        assert_eq!(values(found), expected(rows));
    }
    let by_s = || vec![GroupKey::Attribute("s".into())];
    let found = ask(
        &empty,
        query(aggregates(), by_s(), 10),
        &CpuPool::inline(),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(found, QueryResult::Groups(vec![]));
    let found = ask(
        &nulls,
        query(aggregates(), by_s(), 10),
        &CpuPool::inline(),
        &Limits::default(),
    )
    .unwrap();
    let QueryResult::Groups(groups) = found else { panic!() };
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].key, vec![(Arc::from("s"), Value::Null)]);
}

#[test]
fn sums_are_integers_as_long_as_a_type_has_them() {
    let sum_of = |values: &[Value], name: &'static str| {
        let rows: Rows = values
            .iter()
            .enumerate()
            .map(|(i, v)| (Id::UInt(i as u64), vec![(name, v.clone())]))
            .collect();
        let live = vec![true; rows.len()];
        let snapshot = snapshot_of(&schema(), &[(rows, live)]);
        let asked = query(vec![("s", Aggregate::Sum(name.into()))], vec![], 1);
        values_of_one(ask(&snapshot, asked, &CpuPool::inline(), &Limits::default()).unwrap())
    };
    let (max, min) = (Value::Int(i64::MAX), Value::Int(i64::MIN));
    assert_eq!(sum_of(&[max.clone(), min.clone()], "i"), Value::Int(-1));
    assert_eq!(sum_of(&[max.clone(), max.clone()], "i"), Value::UInt(u64::MAX - 1));
    assert_eq!(sum_of(&vec![max.clone(); 3], "i"), Value::Float(3.0 * 2f64.powi(63)));
    assert_eq!(sum_of(&[min.clone(), min], "i"), Value::Float(-(2f64.powi(64))));
    assert_eq!(sum_of(&[Value::UInt(u64::MAX)], "u"), Value::UInt(u64::MAX));
    assert_eq!(
        sum_of(&vec![Value::UInt(u64::MAX); 2], "u"),
        Value::Float(2f64.powi(65))
    );
    // A loop over floats would say 0.9999999999999999 and infinity.
    assert_eq!(sum_of(&vec![Value::Float(0.1); 10], "f"), Value::Float(1.0));
    let huge = [1e308, 1e308, -1e308].map(Value::Float);
    assert_eq!(sum_of(&huge, "f"), Value::Float(1e308));
    assert_eq!(sum_of(&huge[..2], "f"), Value::Null);
}

fn values_of_one(result: QueryResult) -> Value {
    match values(result).remove(0) {
        AggregateValue::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_fit_into_memory_is_refused_however_it_is_dealt_out() {
    let (snapshot, _) = many_rows();
    let refused = |asked: &Query, limits: &Limits| {
        let one = ask(&snapshot, asked.clone(), &CpuPool::inline(), limits).map_err(|e| e.message);
        let two = ask(&snapshot, asked.clone(), &CpuPool::new(3), limits).map_err(|e| e.message);
        assert_eq!(one, two);
        one.err()
    };
    let distinct = query(vec![("n", Aggregate::CountDistinct("i".into()))], vec![], 1);
    let with = |distinct_bytes_max| Limits {
        distinct_bytes_max,
        ..Limits::default()
    };
    // A thousand words of eight bytes.
    assert_eq!(refused(&distinct, &with(1000 * 72)), None);
    let why = refused(&distinct, &with(1000 * 72 - 1)).unwrap();
    assert!(why.contains("more distinct values than fit into 71999 bytes"), "{why}");
    // Only the groups of the answer count: null, with the 200 multiples of five, and "1", with five values.
    let grouped = query(vec![("t", top("i", 1))], vec![GroupKey::Attribute("s".into())], 2);
    assert_eq!(refused(&grouped, &with(205 * 72)), None);
    assert!(refused(&grouped, &with(205 * 72 - 1)).is_some());
    assert!(refused(&Query { limit: 3, ..grouped }, &with(205 * 72)).is_some());
    let combined = query(
        vec![("n", Aggregate::Count)],
        vec![elements("a", "ss"), elements("b", "ss"), elements("c", "ii")],
        10,
    );
    let with = |combinations_max| Limits {
        combinations_max,
        ..Limits::default()
    };
    let rows = 0..9001u64;
    let groups: u64 = rows
        .filter(|i| i % 7 != 0)
        .map(|i| if i % 3 == i % 7 { 1 } else { 4 })
        .sum();
    assert_eq!(refused(&combined, &with(groups)), None);
    assert!(
        refused(&combined, &with(groups - 1))
            .unwrap()
            .contains("several arrays")
    );
}

#[test]
fn aggregations_that_do_not_fit_the_schema_are_refused_with_the_reason() {
    let mut schema = schema();
    let mut long = schema.get("s").unwrap().clone();
    (long.name, long.filterable) = (Arc::from("long"), false);
    long.id = schema.next_attribute_id();
    schema.put(long);
    let snapshot = snapshot_of(&schema, &[]);
    let count = || vec![("n", Aggregate::Count)];
    let one = |a: Aggregate| query(vec![("x", a)], vec![], 1);
    let by = |key: GroupKey| query(count(), vec![key], 1);
    let named = |name: &str| GroupKey::Attribute(name.into());
    for (asked, part) in [
        (
            one(Aggregate::Sum("s".into())),
            "Sum needs an int, uint or float attribute, and \"s\" is string",
        ),
        (one(Aggregate::Sum("d".into())), "\"d\" is datetime"),
        (one(Aggregate::Avg("ii".into())), "\"ii\" is []int"),
        (
            one(Aggregate::Min("ss".into())),
            "Min needs an attribute of single values, and \"ss\" is []string",
        ),
        (one(Aggregate::Max("v".into())), "\"v\" is [2]f32"),
        (one(Aggregate::Max("gone".into())), "attribute not found"),
        (one(Aggregate::Max("long".into())), "\"long\" is not filterable"),
        (one(Aggregate::CountDistinct("long".into())), "not filterable"),
        (one(top("long", 1)), "not filterable"),
        (one(top("s", 0)), "1 to 1000 values"),
        (one(top("s", 1001)), "1 to 1000 values"),
        (by(named("gone")), "invalid group_by: attribute not found"),
        (by(named("ss")), "ForEachUnique"),
        (by(named("long")), "not filterable"),
        (by(named("v")), "no plain value"),
        (by(named("n")), "attribute not found"),
        (
            by(elements("x", "s")),
            "ForEachUnique needs an array attribute, and \"s\" is string",
        ),
        (
            by(elements("n", "ss")),
            "two results of the aggregation have the name \"n\"",
        ),
        (query(count(), vec![named("s"), named("s")], 1), "the name \"s\""),
        (query([count(), count()].concat(), vec![], 1), "the name \"n\""),
        (query(count(), vec![named("s"); 9], 1), "at most 8 elements"),
        (query(vec![], vec![], 1), "1 to 32 aggregates"),
        (query(count(), vec![named("s")], 10_001), "at most 10000 groups"),
    ] {
        let error = ask(&snapshot, asked, &CpuPool::inline(), &Limits::default()).unwrap_err();
        assert!(error.message.contains(part), "{} lacks {part}", error.message);
    }
}
