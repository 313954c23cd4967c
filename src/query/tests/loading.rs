//! What is loaded of segments for a query: enough of it, and not too much at a time.

use super::support::{Rows, Segments, schema_of, snapshot_of};
use super::*;
use crate::model::query::{Aggregate, Aggregation, Compute, FragmentBy, GroupKey, Highlight, LimitPer, Projection};

/// The same rows in the tail and in segments.
struct Twice {
    runtime: tokio::runtime::Runtime,
    in_tail: Snapshot,
    stored: Snapshot,
}

impl Twice {
    fn new(schema: Schema, parts: &[Rows]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let segments = Segments::new();
        let live = |rows: &Rows| vec![true; rows.len()];
        let all: Vec<(Rows, Vec<bool>)> = parts.iter().map(|rows| (rows.clone(), live(rows))).collect();
        let mut stored = snapshot_of(&schema, &[]);
        let put = async {
            let mut stored = Vec::new();
            for rows in parts {
                stored.push(segments.put(&schema, rows, &live(rows)).await);
            }
            stored
        };
        stored.segments = Arc::new(runtime.block_on(put));
        Self {
            in_tail: snapshot_of(&schema, &all),
            runtime,
            stored,
        }
    }

    fn ask(&self, snapshot: &Snapshot, query: &Query) -> Result<QueryResult, Error> {
        self.ask_within(snapshot, query, &Limits::default())
    }

    fn ask_within(&self, snapshot: &Snapshot, query: &Query, limits: &Limits) -> Result<QueryResult, Error> {
        let queries: Arc<[Query]> = Arc::new([query.clone()]);
        let all = Arc::new(View::all(snapshot.schema.clone()));
        let cpu = CpuPool::inline();
        let execution = execute(snapshot, &all, &queries, &cpu, limits);
        let mut results = self.runtime.block_on(execution)?;
        Ok(results.remove(0))
    }
}

fn searchable(schema: &mut Schema, name: &str) {
    let mut text = schema.get(name).unwrap().clone();
    (text.full_text, text.filterable) = (Some(FullTextConfig::default()), true);
    schema.put(text);
}

/// What was loaded of a text index for the terms of a query says nothing of the terms of a computed filter.
#[test]
fn a_computed_filter_looks_for_tokens_of_its_own() {
    let mut schema = schema_of(IdKind::UInt, &[("t", "string")]);
    searchable(&mut schema, "t");
    let texts = ["quick fox", "lazy dog", "fox and dog", "cat", "dog fox"];
    let rows = (0..60).map(|i| (Id::UInt(i), vec![("t", Value::String(texts[i as usize % 5].into()))]));
    let twice = Twice::new(schema, &[rows.collect()]);
    let tokens = |op, text: &str| Compute::Filter(Filter::compare("t", op, json!(text)));
    let text = |query: &str| Score::Text {
        attribute: "t".into(),
        query: TextQuery::Text(query.into()),
        last_as_prefix: false,
    };
    let highlight = Compute::Highlight(Highlight {
        attribute: "t".into(),
        fragment_by: FragmentBy::Word,
        fragment_limit: 3,
        include_offsets: None,
        rank_fragments_by: Some(Score::Text {
            attribute: "$fragment".into(),
            query: TextQuery::Text("fox".into()),
            last_as_prefix: false,
        }),
    });
    let by_text = || Some(RankBy::Order(vec![("t".into(), Direction::Asc)]));
    let sequence = Score::Filter(Filter::compare(
        "t",
        FilterOp::ContainsTokenSequence,
        json!("quick fox"),
    ));
    let per = LimitPer {
        attributes: vec!["t".into()],
        limit: 2,
    };
    let cases = [
        (by_text(), None, vec![highlight]),
        (Some(RankBy::Score(text("fox"))), Some(per), vec![]),
        (
            Some(RankBy::Score(Score::Sum(vec![text("fox"), sequence]))),
            None,
            vec![],
        ),
    ];
    for (number, (rank_by, per, compute)) in cases.into_iter().enumerate() {
        for filter in [
            tokens(FilterOp::ContainsAllTokens, "dog"),
            tokens(FilterOp::ContainsAnyToken, "dog cat"),
            tokens(FilterOp::ContainsTokenSequence, "lazy dog"),
        ] {
            for include in [Projection::None, Projection::Only(vec!["t".into()])] {
                let compute = compute.iter().chain([&filter]).cloned();
                let query = Query {
                    rank_by: rank_by.clone(),
                    per: per.clone(),
                    include,
                    compute: compute.enumerate().map(|(i, c)| (format!("_{i}").into(), c)).collect(),
                    ..query(None, 100)
                };
                let expected = twice.ask(&twice.in_tail, &query).unwrap();
                let found = twice.ask(&twice.stored, &query).unwrap();
                assert_eq!(found, expected, "case {number}, {filter:?}");
            }
        }
    }
}

fn nearest_tags(limit: usize) -> Query {
    let score = Score::Sparse {
        attribute: "s".into(),
        query: vec![("tag".into(), 1.0)],
    };
    query(Some(RankBy::Score(score)), limit)
}

/// Texts that do not get much smaller when they are packed.
fn words(seed: u64, count: u64) -> String {
    let word = |n: u64| format!("{:x}", (seed * 1000 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// Rows with a large dense vector and a small sparse one, in several segments.
fn with_sparse_vectors() -> Twice {
    let mut schema = schema_of(
        IdKind::UInt,
        &[
            ("v", "[512]f32"),
            ("s", "{}f16"),
            ("title", "string"),
            ("late", "float"),
        ],
    );
    for name in ["late", "title"] {
        let mut plain = schema.get(name).unwrap().clone();
        plain.filterable = false;
        schema.put(plain);
    }
    let row = |i: u64| {
        let weight = half::f16::from_f32((i % 7) as f32 + 1.0);
        let values = vec![
            ("v", Value::Vector(Vector::F32(vec![i as f32; 512]))),
            ("s", Value::SparseVector(vec![("tag".into(), weight)])),
            ("title", Value::String(words(i, 40))),
        ];
        (Id::UInt(i), values)
    };
    let part = |part: u64| (part * 500..(part + 1) * 500).map(row).collect();
    Twice::new(schema, &(0..6).map(part).collect::<Vec<Rows>>())
}

impl Twice {
    /// Loads what a query looks at, with so much memory.
    fn load(&self, query: &Query, bytes: u64) -> Result<(), Error> {
        let view = View::all(self.stored.schema.clone());
        let plan = view.plan(query, &Limits::default()).unwrap();
        let (cpu, budget) = (CpuPool::inline(), budget::Budget::new(bytes));
        let loaded = load::load(&self.stored, &plan, &cpu, &budget);
        self.runtime.block_on(loaded).map(drop)
    }
}

/// Dense vectors are not read with what has no column of its own; an attribute without values costs nothing.
#[test]
fn what_is_reserved_is_what_the_attribute_can_take() {
    let twice = with_sparse_vectors();
    let vectors = 6 * 500 * 2048;
    twice.load(&nearest_tags(10), vectors / 4).unwrap();
    let by_late = query(Some(RankBy::Order(vec![("late".into(), Direction::Asc)])), 10);
    twice.load(&by_late, 6 * 500 * 16).unwrap();
    for query in [nearest_tags(10), by_late] {
        let expected = twice.ask(&twice.in_tail, &query).unwrap();
        assert_eq!(twice.ask(&twice.stored, &query).unwrap(), expected);
    }
}

/// Segments that are too much side by side are read one after the other; what is too much alone is refused.
#[test]
fn a_segment_waits_for_the_memory_of_others() {
    let twice = with_sparse_vectors();
    let query = nearest_tags(10);
    let schema = &twice.stored.schema;
    let view = View::all(schema.clone());
    let needs = view.plan(&query, &Limits::default()).unwrap().needs();
    let (cpu, budget) = (CpuPool::inline(), budget::Budget::new(u64::MAX));
    let reader = reader::Reader {
        segment: &twice.stored.segments[0].segment,
        schema,
        cpu: &cpu,
        budget: &budget,
    };
    let one = reader.memory_bytes(&needs) as u64;
    let kept = 6 * 500 * (12 + 8 + 32);
    assert!(one + kept < 5 * one / 2, "or they would not wait");
    twice.load(&query, one + kept).unwrap();
    let refused = twice.load(&query, one / 2).unwrap_err();
    assert_eq!(refused.kind, crate::error::ErrorKind::Overloaded);
    // So do the queries of one request for each other.
    let plan = view.plan(&query, &Limits::default()).unwrap();
    let budget = budget::Budget::new(one + 2 * kept);
    let load = || load::load(&twice.stored, &plan, &cpu, &budget);
    let both = async { futures::join!(load(), load(), load()) };
    let (first, second, third) = twice.runtime.block_on(both);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
}

/// Many filters in a score read the same column: a few at a time.
#[test]
fn filters_in_a_score_take_turns() {
    let schema = schema_of(IdKind::UInt, &[("s", "string")]);
    let rows = (0..4000u64).map(|i| {
        let text = format!("{:04} {}", i * 7919 % 4000, "x".repeat(100));
        (Id::UInt(i), vec![("s", Value::String(text))])
    });
    let twice = Twice::new(schema, &[rows.collect()]);
    let clause = |i: u64| Score::Product {
        weight: 1.0 + i as f64,
        of: Box::new(Score::Filter(Filter::compare(
            "s",
            FilterOp::Gte,
            json!(format!("{:04}", i * 90)),
        ))),
    };
    let query = query(Some(RankBy::Score(Score::Sum((0..40).map(clause).collect()))), 10);
    let view = View::all(twice.stored.schema.clone());
    let plan = view.plan(&query, &Limits::default()).unwrap();
    let (cpu, budget) = (CpuPool::new(3), budget::Budget::new(12 * 4000 * 125));
    for _ in 0..10 {
        let loaded = load::load(&twice.stored, &plan, &cpu, &budget);
        twice.runtime.block_on(loaded).unwrap();
    }
    let expected = twice.ask(&twice.in_tail, &query).unwrap();
    assert_eq!(twice.ask(&twice.stored, &query).unwrap(), expected);
}

/// Values are not matched with patterns while a query is planned, which is done on the runtime's threads.
#[test]
fn a_pattern_waits_for_the_pool() {
    let mut schema = schema_of(IdKind::UInt, &[("s", "string")]);
    let mut searched = schema.get("s").unwrap().clone();
    searched.glob = true;
    schema.put(searched);
    let rows = (0..3000).map(|i| (Id::UInt(i), vec![("s", Value::String(format!("kind {}", i % 50)))]));
    let twice = Twice::new(schema, &[rows.collect()]);
    let query = Query {
        filter: Some(Filter::compare("s", FilterOp::Glob, json!("*7"))),
        ..query(None, 1000)
    };
    let expected = twice.ask(&twice.in_tail, &query).unwrap();
    assert_eq!(expected.rows().len(), 300);
    // Groups make the codes.
    let groups = Query {
        aggregation: Some(Aggregation {
            aggregates: vec![("n".into(), Aggregate::Count)],
            group_by: vec![GroupKey::Attribute("s".into())],
        }),
        filter: Some(Filter::compare("id", FilterOp::Gt, json!(10))),
        ..Query {
            limit: 100,
            ..Query::default()
        }
    };
    twice.ask(&twice.stored, &groups).unwrap();
    let told = described(&twice.stored, &query).unwrap();
    assert!(told.contains("codes of \"s\": 50 values, matched"), "{told}");
    for _ in 0..3 {
        assert_eq!(twice.ask(&twice.stored, &query).unwrap(), expected);
    }
}

/// Values may be long where they were written before they could be filtered by.
#[test]
fn keys_that_take_too_much_are_refused() {
    let schema = schema_of(IdKind::UInt, &[("s", "string")]);
    let row = |i: u64| {
        (
            Id::UInt(i),
            vec![("s", Value::String(format!("{i:04} {}", "x".repeat(995))))],
        )
    };
    let twice = Twice::new(schema, &[(0..100).map(row).collect()]);
    let limits = Limits {
        distinct_bytes_max: 20_000,
        ..Limits::default()
    };
    let groups = |limit| Query {
        aggregation: Some(Aggregation {
            aggregates: vec![("n".into(), Aggregate::Count)],
            group_by: vec![GroupKey::Attribute("s".into())],
        }),
        ..query(None, limit)
    };
    let per = |limit| Query {
        per: Some(LimitPer {
            attributes: vec!["s".into()],
            limit: 1,
        }),
        ..query(Some(RankBy::Order(vec![("id".into(), Direction::Asc)])), limit)
    };
    for snapshot in [&twice.in_tail, &twice.stored] {
        // The smallest ones fit, however many there are.
        for (few, many) in [(groups(10), groups(100)), (per(10), per(100))] {
            let found = twice.ask_within(snapshot, &few, &limits).unwrap();
            assert_eq!(found, twice.ask(snapshot, &few).unwrap());
            let refused = twice.ask_within(snapshot, &many, &limits).unwrap_err();
            assert!(refused.message.contains("more than 20000 bytes"), "{refused}");
        }
    }
}
