//! What queries over segments read.

use super::support::{Rows, Segments, schema_of, snapshot_of};
use super::*;
use crate::base::Bitset;
use crate::model::query::{Aggregate, Aggregation, GroupKey, Projection};
use crate::store::count::Counts;

const ROWS: u64 = 20_000;

/// A snapshot of one segment, all of whose objects are in no cache.
struct Cold {
    segments: Segments,
    snapshot: Snapshot,
    runtime: tokio::runtime::Runtime,
}

impl Cold {
    fn new() -> Self {
        let mut schema = schema_of(
            IdKind::UInt,
            &[
                ("n", "int"),
                ("kind", "string"),
                ("day", "datetime"),
                ("text", "string"),
                ("v", "[32]f32"),
            ],
        );
        let mut text = schema.get("text").unwrap().clone();
        (text.full_text, text.filterable) = (Some(FullTextConfig::default()), false);
        schema.put(text);
        let row = |i: u64| {
            let words = ["reef", "tide", "shoal", "kelp", "ray"];
            let word = |n: u64| words[(i * 31 + n * n) as usize % words.len()];
            let text: Vec<&str> = (0..12).map(word).collect();
            let vector = (0..32).map(|d| ((i * 7 + d * 13) % 101) as f32).collect();
            let values = vec![
                ("n", Value::Int((i * 7919 % ROWS) as i64)),
                ("kind", Value::String(format!("kind-{}", i % 10))),
                ("day", Value::Datetime((i / 64) as i64 * 86_400_000)),
                ("text", Value::String(format!("{} {i}", text.join(" ")))),
                ("v", Value::Vector(Vector::F32(vector))),
            ];
            (Id::UInt(i * 3), values)
        };
        let rows: Rows = (0..ROWS).map(row).collect();
        let live: Vec<bool> = (0..ROWS).map(|i| i % 100 != 5).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let segments = Segments::new();
        let mut snapshot = snapshot_of(&schema, &[]);
        let part = runtime.block_on(segments.put(&schema, &rows, &live));
        snapshot.segments = Arc::new(vec![part]);
        Self {
            segments,
            snapshot,
            runtime,
        }
    }

    /// The answer to a query, and what it read.
    fn ask(&self, query: &Query) -> (QueryResult, Counts) {
        let before = self.segments.store.counts();
        let queries: Arc<[Query]> = Arc::new([query.clone()]);
        let all = Arc::new(View::all(self.snapshot.schema.clone()));
        let (cpu, limits) = (CpuPool::inline(), Limits::default());
        let execution = execute(&self.snapshot, &all, &queries, &cpu, &limits);
        let result = self.runtime.block_on(execution).unwrap().remove(0);
        let after = self.segments.store.counts();
        let read = Counts {
            gets: after.gets - before.gets,
            bytes_read: after.bytes_read - before.bytes_read,
            ..Counts::default()
        };
        (result, read)
    }
}

fn count(filter: Filter, group_by: Vec<GroupKey>) -> Query {
    Query {
        limit: 100,
        filter: Some(filter),
        aggregation: Some(Aggregation {
            aggregates: vec![("count".into(), Aggregate::Count)],
            group_by,
        }),
        ..Query::default()
    }
}

#[test]
fn few_requests_answer_a_cold_query() {
    let kind = || Filter::compare("kind", FilterOp::Eq, json!("kind-3"));
    let top = |rank_by: Option<RankBy>, filter: Option<Filter>| Query {
        rank_by,
        filter,
        limit: 10,
        include: Projection::Only(vec!["n".into(), "text".into()]),
        ..Query::default()
    };
    let words = RankBy::Score(Score::Text {
        attribute: "text".into(),
        query: TextQuery::Text("kelp 777".into()),
        last_as_prefix: false,
    });
    let near = RankBy::Nearest {
        attribute: "v".into(),
        query: VectorQuery::One(vec![5.0; 32]),
        exact: false,
    };
    let by = |name: &str| RankBy::Order(vec![(name.into(), Direction::Desc)]);
    let ids = Filter::compare("id", FilterOp::In, json!([30, 60, 31, 45_000]));
    let sizes = [
        ("a count by a filter", count(kind(), vec![]), 1, 2),
        ("groups", count(kind(), vec![GroupKey::Attribute("kind".into())]), 1, 3),
        ("the first by an attribute", top(Some(by("n")), None), 10, 3),
        ("the first by id", top(None, None), 10, 2),
        ("rows by their ids", top(None, Some(ids)), 3, 2),
        ("the best by text", top(Some(words), None), 10, 5),
        ("the nearest", top(Some(near), Some(kind())), 10, 4),
    ];
    for (what, query, size, requests_max) in sizes {
        let cold = Cold::new();
        let (found, read) = cold.ask(&query);
        assert_eq!(found.size(), size, "{what}");
        assert!(read.gets <= requests_max, "{what}: {read:?}");
        let (again, _) = cold.ask(&query);
        assert_eq!(again, found, "{what}");
    }
}

/// A filter that is a clause of a score reads what that of a query reads: an index, and no column.
#[test]
fn filters_in_scores_are_asked_of_indexes() {
    let text = || Score::Text {
        attribute: "text".into(),
        query: TextQuery::Text("kelp 777".into()),
        last_as_prefix: false,
    };
    let few = || Filter::compare("n", FilterOp::Lt, json!(10));
    let boost = Score::Product {
        weight: 100.0,
        of: Box::new(Score::Filter(few())),
    };
    let best = |clauses: Vec<Score>, filter: Option<Filter>| Query {
        rank_by: Some(RankBy::Score(Score::Sum(clauses))),
        filter,
        limit: 10,
        ..Query::default()
    };
    let (_, filtered) = Cold::new().ask(&best(vec![text(), text()], Some(few())));
    let (found, boosted) = Cold::new().ask(&best(vec![text(), boost], None));
    // They are read in another order: blocks at the edges may be read by one or the other.
    let difference = boosted.bytes_read.abs_diff(filtered.bytes_read);
    assert!(difference <= 2 * 4096, "{boosted:?} {filtered:?}");
    let is_few = |i: &u64| i * 7919 % ROWS < 10;
    let expected = (0..ROWS).filter(is_few).filter(|i| i % 100 != 5).count();
    let first = found.rows().iter().take(expected);
    assert!(first.clone().count() > 0);
    assert!(
        first
            .clone()
            .all(|row| matches!(row.id, Id::UInt(id) if is_few(&(id / 3))))
    );
}

#[test]
fn a_plan_tells_how_a_segment_is_searched() {
    let cold = Cold::new();
    let day = Filter::compare("day", FilterOp::Lt, json!("1970-01-03"));
    let words = Filter::compare("text", FilterOp::ContainsAllTokens, json!("reef 40"));
    let query = Query {
        limit: 5,
        filter: Some(Filter::And(vec![words, day])),
        ..Query::default()
    };
    let said = described(&cold.snapshot, &query).unwrap();
    for part in [
        "segment 1: 20000 rows, 19800 of them live",
        "  all of",
        "    postings of 2 terms of \"text\"",
        "    index of \"day\": about",
        "  rows that pass the filter: 1",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
}

fn described_as(cold: &Cold, query: &Query, parts: &[&str]) {
    let said = described(&cold.snapshot, query).unwrap();
    for part in parts {
        assert!(said.contains(part), "{said} lacks {part}");
    }
}

#[test]
fn a_plan_tells_what_groups_and_orders_cost() {
    let cold = Cold::new();
    let third = || Filter::compare("kind", FilterOp::Eq, json!("kind-3"));
    let by = |name: &str| vec![GroupKey::Attribute(name.into())];
    described_as(
        &cold,
        &count(third(), vec![]),
        &["  rows that pass the filter: 2000; read for it: "],
    );
    described_as(
        &cold,
        &count(third(), vec![]),
        &["  aggregates: the number of these rows"],
    );
    described_as(
        &cold,
        &count(third(), by("kind")),
        &["  aggregates: attribute indexes, about ", "columns take "],
    );
    let many = [by("kind"), by("day")].concat();
    described_as(
        &cold,
        &count(third(), many),
        &["  aggregates: codes of 2 keys where there are some"],
    );
    let first = |limit| Query {
        limit,
        rank_by: Some(RankBy::Order(vec![("day".into(), Direction::Asc)])),
        ..Query::default()
    };
    described_as(
        &cold,
        &first(1),
        &["  order: index of \"day\", about 1 rows, ", "columns have "],
    );
    described_as(&cold, &first(9_000), &["  order: columns, "]);
}

#[test]
fn what_is_asked_again_and_again_is_read_once_more_and_then_never() {
    let mut cold = Cold::new();
    let all = Bitset::full(ROWS as usize);
    let days = |low: u64, high: u64| {
        let day = |n: u64| json!(n * 86_400_000);
        let (low, high) = (day(low), day(high));
        let bounds = [("day", FilterOp::Gte, low), ("day", FilterOp::Lt, high)];
        Filter::And(bounds.map(|(name, op, bound)| Filter::compare(name, op, bound)).into())
    };
    let rows = |found: QueryResult| match &found {
        QueryResult::Aggregations(values) => values[0].1.clone(),
        other => panic!("{other:?}"),
    };
    let dead = |row: &u64| row % 100 == 5;
    let mut reads = Vec::new();
    for round in 0..40 {
        let (low, high) = (round % 7, 300 - round);
        let (found, read) = cold.ask(&count(days(low, high), vec![]));
        let expected = (low * 64..(high * 64).min(ROWS)).filter(|row| !dead(row)).count();
        assert_eq!(
            rows(found),
            AggregateValue::Value(Value::UInt(expected as u64)),
            "{round}"
        );
        reads.push(read.bytes_read);
    }
    assert_eq!(reads.last(), Some(&0), "{reads:?}");
    // Where all rows are live, a count takes what the directory says.
    let part = crate::segment::SegmentPart {
        live: Arc::new(all.into()),
        ..cold.snapshot.segments[0].clone()
    };
    cold.snapshot.segments = Arc::new(vec![part]);
    let (found, read) = cold.ask(&count(Filter::compare("n", FilterOp::Lt, json!(15_000)), vec![]));
    assert_eq!(rows(found), AggregateValue::Value(Value::UInt(15_000)));
    assert!(read.bytes_read < 40_000, "{read:?}");
}

/// The next page of an export reads the ids from where the last one ended, and not those of all rows.
#[test]
fn a_page_by_id_reads_no_other_ids() {
    let by_id = |op, id: u64| Query {
        limit: 10,
        filter: Some(Filter::compare("id", op, json!(id))),
        ..Query::default()
    };
    let (page, read) = Cold::new().ask(&by_id(FilterOp::Gt, 30_000));
    let live = (10_001..).filter(|i| i % 100 != 5).map(|i| i * 3);
    assert_eq!(ids(page.rows()), live.take(10).collect::<Vec<u64>>());
    let (_, all) = Cold::new().ask(&by_id(FilterOp::NotEq, 30_000));
    assert!(
        read.gets < all.gets && read.bytes_read < all.bytes_read,
        "{read:?}, of all ids {all:?}"
    );
}
