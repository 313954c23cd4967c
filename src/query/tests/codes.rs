//! Answers from the codes of rows, and what they take.

use super::support::Segments;
use super::*;
use crate::model::query::{Aggregate, Aggregation, GroupKey};
use crate::query::budget::Budget;
use crate::query::filter::tests::properties::{Kind, NAMES, any_filter, any_kind, any_of_kind, schema_with};
use crate::query::load::load;

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(future)
}

/// All rows in the tail, and the same in segments of `of_segment` rows, of which all codes are made.
async fn coded(schema: &Schema, rows: &Rows, live: &[bool], of_segment: usize) -> (Snapshot, Snapshot) {
    let together = snapshot_of(schema, &[(rows.clone(), live.to_vec())]);
    let segments = Segments::new();
    let mut stored = Vec::new();
    for (rows, live) in rows.chunks(of_segment).zip(live.chunks(of_segment)) {
        let part = segments.put(schema, &rows.to_vec(), live).await;
        for attribute in schema.attributes() {
            if let Some(index) = part.segment.attribute_index(attribute).await.unwrap() {
                part.segment.codes(attribute, &index).await.unwrap();
            }
        }
        stored.push(part);
    }
    let mut apart = snapshot_of(schema, &[]);
    apart.segments = Arc::new(stored);
    (together, apart)
}

async fn answers(snapshot: &Snapshot, queries: &[Query]) -> Vec<Result<Vec<QueryResult>, String>> {
    let all = Arc::new(View::all(snapshot.schema.clone()));
    let mut answers = Vec::new();
    for query in queries {
        let asked: Arc<[Query]> = Arc::new([query.clone()]);
        let found = execute(snapshot, &all, &asked, &CpuPool::inline(), &Limits::default()).await;
        answers.push(found.map_err(|e| e.message));
    }
    answers
}

/// The rows that pass a filter, and how many they are: each is answered in its own way.
fn asking(filter: &Filter) -> Vec<Query> {
    let counted = Aggregation {
        aggregates: vec![("n".into(), Aggregate::Count)],
        group_by: Vec::new(),
    };
    let of = |aggregation| Query {
        filter: Some(filter.clone()),
        limit: 1000,
        aggregation,
        ..Query::default()
    };
    vec![of(None), of(Some(counted))]
}

/// A row, and whether it is live.
type Row = (Vec<Value>, bool);

/// Some attributes, rows of them, a filter, and how many rows each segment has.
fn any_case() -> impl Strategy<Value = (Vec<Kind>, Vec<Row>, Filter, usize)> {
    // Arrays have no codes.
    let kind = any_kind().prop_filter("an array", |kind| !kind.array);
    prop::collection::vec(kind, 1..=3).prop_flat_map(|kinds| {
        let filter = any_filter(&kinds);
        let row: Vec<_> = kinds.iter().map(|k| any_of_kind(*k)).collect();
        let rows = prop::collection::vec((row, prop::bool::weighted(0.8)), 0..200);
        (Just(kinds), rows, filter, 64usize..160)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn filters_of_coded_attributes_hold_for_the_same_rows((kinds, rows, filter, of_segment) in any_case()) {
        let schema = schema_with(&kinds);
        let live: Vec<bool> = rows.iter().map(|(_, live)| *live).collect();
        let row = |(i, (values, _)): (usize, &(Vec<Value>, bool))| {
            let values = NAMES.into_iter().zip(values.iter().cloned());
            (Id::UInt(i as u64), values.filter(|(_, v)| *v != Value::Null).collect())
        };
        let rows: Rows = rows.iter().enumerate().map(row).collect();
        run(async {
            let (together, apart) = coded(&schema, &rows, &live, of_segment).await;
            let queries = asking(&filter);
            prop_assert_eq!(answers(&apart, &queries).await, answers(&together, &queries).await);
            Ok(())
        })?;
    }
}

const ROWS: usize = 4000;

/// Numbers of three attributes, some of them null.
fn numbers(rows: usize) -> (Schema, Rows) {
    let schema = schema_of(IdKind::UInt, &[("a", "int"), ("b", "string"), ("c", "uint")]);
    let row = |i: usize| {
        let mut values = vec![
            ("a", Value::Int((i % 5) as i64)),
            ("b", Value::String(format!("b{}", i * 31 % 97))),
        ];
        if !i.is_multiple_of(3) {
            values.push(("c", Value::UInt((i / 3 % 50) as u64)));
        }
        (Id::UInt(i as u64), values)
    };
    (schema, (0..rows).map(row).collect())
}

/// Every combination of conditions on codes is as the plain evaluation, and is one on codes.
#[test]
fn conditions_on_codes_are_joined_as_others_are() {
    let (schema, rows) = numbers(ROWS);
    let live: Vec<bool> = (0..ROWS).map(|i| i % 11 > 0).collect();
    let is = |name: &str, op, value| Filter::compare(name, op, value);
    let (a, b) = (is("a", FilterOp::Eq, json!(1)), is("b", FilterOp::Gte, json!("b5")));
    // Of most values, but not of those side by side: looked up one by one.
    let most: Vec<u64> = (0..50).filter(|n| n % 5 > 0).collect();
    let (c, d) = (is("c", FilterOp::Lt, json!(20)), is("c", FilterOp::In, json!(most)));
    let not = |f: &Filter| Filter::Not(Box::new(f.clone()));
    let (and, or) = (
        |l: &[&Filter]| Filter::And(l.iter().map(|f| (*f).clone()).collect()),
        |l: &[&Filter]| Filter::Or(l.iter().map(|f| (*f).clone()).collect()),
    );
    let filters = [
        a.clone(),
        not(&c),
        and(&[&a, &b]),
        or(&[&a, &d]),
        and(&[&a, &b, &c]),
        or(&[&a, &b, &c, &d]),
        not(&or(&[&a, &c])),
        not(&and(&[&a, &c])),
        and(&[&or(&[&a, &d]), &or(&[&b, &c])]),
        or(&[&and(&[&a, &b]), &and(&[&not(&c), &b])]),
        or(&[&and(&[&a, &not(&d)]), &not(&or(&[&b, &c]))]),
        // Nothing holds, and everything.
        and(&[&a, &not(&a)]),
        or(&[&a, &not(&a)]),
    ];
    let (together, apart) = run(coded(&schema, &rows, &live, ROWS));
    for filter in filters {
        let queries = asking(&filter);
        assert_eq!(
            run(answers(&apart, &queries)),
            run(answers(&together, &queries)),
            "{filter:?}"
        );
        let text = described(&apart, &queries[0]).unwrap();
        assert!(text.contains("codes of") && !text.contains("index of"), "{text}");
        assert!(!text.contains("values of"), "{text}");
    }
}

/// A budget for a few segments does for a request of many queries over more of them, one after the other.
#[test]
fn what_codes_take_is_given_back() {
    let (schema, rows) = numbers(20_000);
    let live = vec![true; rows.len()];
    let (_, apart) = run(coded(&schema, &rows, &live, 1000));
    let aggregation = |keys: &[&str]| Aggregation {
        aggregates: vec![("n".into(), Aggregate::Count)],
        group_by: keys.iter().map(|key| GroupKey::Attribute((*key).into())).collect(),
    };
    let filter = Filter::compare("a", FilterOp::NotEq, json!(1));
    for (keys, filter) in [
        (&["a", "c"][..], None),
        (&["b"], Some(filter.clone())),
        (&["b", "a"], Some(filter)),
    ] {
        let query = Query {
            limit: 1000,
            aggregation: Some(aggregation(keys)),
            filter,
            ..Query::default()
        };
        let view = View::all(apart.schema.clone());
        let plan = view.plan(&query, &Limits::default()).unwrap();
        let all = 1 << 20;
        let budget = Budget::new(all);
        for _ in 0..100 {
            let loaded = run(load(&apart, &plan, &CpuPool::inline(), &budget)).unwrap();
            assert!(budget.left() < all, "what is held is counted");
            drop(loaded);
            assert_eq!(budget.left(), all, "{keys:?}");
        }
        // Beyond the budget nothing is held.
        let small = Budget::new(3000);
        assert!(
            run(load(&apart, &plan, &CpuPool::inline(), &small)).is_err(),
            "{keys:?}"
        );
        assert_eq!(small.left(), 3000);
    }
}
