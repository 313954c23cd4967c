//! Rows in segments answer as the same rows in the tail.

use std::collections::BTreeSet;

use half::f16;

use super::support::{Rows, Segments, schema_of, snapshot_of};
use super::*;
use crate::model::query::{
    Aggregate, Aggregation, Compute, FragmentBy, GroupKey, Highlight, LimitPer, OffsetUnit, Projection,
};
use crate::query::filter::tests::properties::{Kind, NAMES, any_filter, any_kind, any_of_kind, schema_with};
use crate::query::score::tests::{Row as Scored, any_row, any_score};

/// Besides what filters and scores look at, vectors of every kind.
#[derive(Clone, Debug)]
struct Row {
    /// Of [`NAMES`].
    filtered: Vec<Value>,
    scored: Scored,
    point: Option<(i8, i8)>,
    /// 0 and 1 are parts of the tail, the others segments.
    place: usize,
}

#[derive(Clone, Debug)]
struct Case {
    kind: IdKind,
    kinds: Vec<Kind>,
    rows: Vec<Row>,
    query: Query,
}

fn schema(case: &Case) -> Schema {
    let mut schema = schema_of(
        case.kind,
        &[
            ("n", "int"),
            ("u", "uint"),
            ("f", "float"),
            ("d", "datetime"),
            ("t", "string"),
            ("s", "{}f16"),
            ("v", "[2]f32"),
            ("h", "[2]f16"),
            ("i", "[2]i8"),
            ("m", "[][2]f32"),
        ],
    );
    let mut text = schema.get("t").unwrap().clone();
    (text.full_text, text.filterable) = (Some(FullTextConfig::default()), false);
    schema.put(text);
    for attribute in schema_with(&case.kinds).attributes() {
        let id = schema.next_attribute_id();
        schema.put(crate::model::Attribute {
            id,
            ..attribute.clone()
        });
    }
    schema
}

fn id(kind: IdKind, row: usize) -> Id {
    let number = (row * 37 + 11) % 167;
    match kind {
        IdKind::UInt => Id::UInt(number as u64),
        IdKind::Uuid => Id::Uuid(uuid::Uuid::from_u128((number as u128) << 90 | 7)),
        IdKind::String => Id::String(format!("{}{number:x}", "k".repeat(number % 3)).into()),
    }
}

fn values(case: &Case, row: &Row) -> Vec<(&'static str, Value)> {
    let mut values = row.scored.values();
    values.extend(NAMES.into_iter().zip(row.filtered.iter().cloned()));
    if let Some((x, y)) = row.point {
        let floats = [f32::from(x), f32::from(y)];
        values.push(("v", Value::Vector(Vector::F32(floats.into()))));
        values.push(("h", Value::Vector(Vector::F16(floats.map(f16::from_f32).into()))));
        values.push(("i", Value::Vector(Vector::I8(vec![x, y]))));
        let elements = (0..x.unsigned_abs() % 3).flat_map(|n| [floats[0] + f32::from(n), floats[1]]);
        let elements = elements.collect();
        values.push(("m", Value::MultiVector { dims: 2, elements }));
    }
    let _ = case;
    values.retain(|(_, v)| *v != Value::Null);
    values
}

/// All rows in one part of the tail, and the same rows dealt out.
async fn snapshots(case: &Case, segments: &Segments) -> (Snapshot, Snapshot) {
    let schema = schema(case);
    let rows = case.rows.iter().enumerate();
    let rows: Vec<_> = rows.map(|(i, r)| (id(case.kind, i), values(case, r))).collect();
    let live: Vec<bool> = case.rows.iter().map(|r| r.scored.live).collect();
    let together = snapshot_of(&schema, &[(rows.clone(), live.clone())]);
    let part = |place: usize| -> (Rows, Vec<bool>) {
        let here = (0..rows.len()).filter(|i| case.rows[*i].place == place);
        here.map(|i| (rows[i].clone(), live[i])).unzip()
    };
    let mut apart = snapshot_of(&schema, &[part(0), part(1)]);
    let mut stored = Vec::new();
    for place in [2, 3, 4] {
        let (rows, live) = part(place);
        if !rows.is_empty() {
            stored.push(segments.put(&schema, &rows, &live).await);
        }
    }
    apart.segments = Arc::new(stored);
    (together, apart)
}

fn any_rank() -> BoxedStrategy<Option<RankBy>> {
    let names = vec!["id", "n", "u", "f", "d", "t"];
    let key = (prop::sample::select(names), any::<bool>());
    let order = prop::collection::vec(key, 1..4).prop_map(|keys| {
        let direction = |descending| if descending { Direction::Desc } else { Direction::Asc };
        RankBy::Order(keys.into_iter().map(|(k, d)| (k.to_owned(), direction(d))).collect())
    });
    prop_oneof![
        1 => Just(None),
        2 => order.prop_map(Some),
        3 => any_nearest().prop_map(|(attribute, query)| Some(RankBy::Nearest { attribute, query, exact: false })),
        3 => any_score().prop_map(|score| Some(RankBy::Score(score))),
    ]
    .boxed()
}

fn any_nearest() -> impl Strategy<Value = (String, VectorQuery)> {
    let point = (-3i8..4, -3i8..4).prop_map(|(x, y)| vec![f32::from(x), f32::from(y)]);
    let many = prop::collection::vec(point.clone(), 1..3).prop_map(|l| ("m".to_owned(), VectorQuery::Many(l)));
    let one = (prop::sample::select(vec!["v", "h", "i"]), point);
    prop_oneof![3 => one.prop_map(|(name, p)| (name.to_owned(), VectorQuery::One(p))), 1 => many]
}

fn any_compute(kinds: &[Kind]) -> BoxedStrategy<Compute> {
    let words = prop::sample::select(vec!["fox", "dog cat", "fo"]);
    let highlight = (words, any::<bool>()).prop_map(|(words, last_as_prefix)| {
        Compute::Highlight(Highlight {
            attribute: "t".into(),
            fragment_by: FragmentBy::Word,
            fragment_limit: 3,
            include_offsets: Some(OffsetUnit::Utf8),
            rank_fragments_by: Some(Score::Text {
                attribute: "$fragment".into(),
                query: TextQuery::Text(words.into()),
                last_as_prefix,
            }),
        })
    });
    prop_oneof![
        any_nearest().prop_map(|(attribute, query)| Compute::VectorDistance { attribute, query }),
        any_score().prop_map(Compute::Score),
        any_filter(kinds).prop_map(Compute::Filter),
        highlight,
    ]
    .boxed()
}

fn any_rows_query(kinds: &[Kind]) -> BoxedStrategy<Query> {
    let per = (prop::sample::subsequence(vec!["id", "n", "u", "f"], 1..=2), 1usize..3);
    let per = per.prop_map(|(names, limit)| LimitPer {
        attributes: names.into_iter().map(String::from).collect(),
        limit,
    });
    let include = prop::sample::select(vec![
        Projection::None,
        Projection::All,
        Projection::Only(vec!["n".into(), "h".into()]),
        Projection::Except(vec!["t".into()]),
    ]);
    let compute = prop::collection::vec(any_compute(kinds), 0..3);
    (
        any_rank(),
        0usize..20,
        0usize..4,
        prop::option::weighted(0.2, per),
        include,
        compute,
    )
        .prop_map(|(rank_by, limit, offset, per, include, compute)| Query {
            rank_by,
            limit,
            offset,
            per,
            include,
            compute: compute
                .into_iter()
                .enumerate()
                .map(|(i, c)| (format!("_{i}").into(), c))
                .collect(),
            ..Query::default()
        })
        .boxed()
}

fn any_aggregation(kinds: &[Kind]) -> BoxedStrategy<Query> {
    let numbers = || prop::sample::select(vec!["n", "u", "f"]).prop_map(String::from);
    let scalars = prop::sample::select(vec!["id", "n", "u", "f", "d"]).prop_map(String::from);
    let filtered: Vec<(&'static str, bool)> = NAMES.into_iter().zip(kinds.iter().map(|k| k.array)).collect();
    let any = prop::sample::select([vec!["id", "n", "f"], filtered.iter().map(|f| f.0).collect()].concat());
    let any = any.prop_map(String::from);
    let aggregate = prop_oneof![
        Just(Aggregate::Count),
        numbers().prop_map(Aggregate::Sum),
        numbers().prop_map(Aggregate::Avg),
        scalars.clone().prop_map(Aggregate::Min),
        scalars.prop_map(Aggregate::Max),
        any.clone().prop_map(Aggregate::CountDistinct),
        (any, 1usize..4).prop_map(|(attribute, limit)| Aggregate::Top { attribute, limit }),
    ];
    let plain = ["n", "u", "f", "d", "id"].map(|name| (name, false));
    let keys = [plain.to_vec(), filtered].concat();
    let keys = prop::sample::subsequence(keys, 0..=3).prop_map(|keys| {
        let key = |(name, array): (&str, bool)| match array {
            false => GroupKey::Attribute(name.into()),
            true => GroupKey::Elements {
                label: name.into(),
                attribute: name.into(),
            },
        };
        keys.into_iter().map(key).collect::<Vec<_>>()
    });
    (prop::collection::vec(aggregate, 1..4), keys, 0usize..8)
        .prop_map(|(aggregates, group_by, limit)| Query {
            limit,
            aggregation: Some(Aggregation {
                aggregates: aggregates
                    .into_iter()
                    .enumerate()
                    .map(|(i, a)| (format!("_{i}").into(), a))
                    .collect(),
                group_by,
            }),
            ..Query::default()
        })
        .boxed()
}

fn any_case() -> impl Strategy<Value = Case> {
    prop::collection::vec(any_kind(), 1..=3).prop_flat_map(|kinds| {
        // Ids of other kinds are not compared with numbers.
        let has_id = |filter: &Filter| format!("{filter:?}").contains("\"id\"");
        let filter = prop::option::weighted(0.8, any_filter(&kinds));
        let query = prop_oneof![3 => any_rows_query(&kinds), 1 => any_aggregation(&kinds)];
        let kind = prop::sample::select(vec![IdKind::UInt, IdKind::UInt, IdKind::Uuid, IdKind::String]);
        let filtered: Vec<_> = kinds.iter().map(|k| any_of_kind(*k)).collect();
        let point = prop::option::of((-3i8..4, -3i8..4));
        let row = (filtered, any_row(), point, 0usize..5).prop_map(|(filtered, scored, point, place)| Row {
            filtered,
            scored,
            point,
            place,
        });
        let rows = prop::collection::vec(row, 0..160);
        (Just(kinds), kind, rows, query, filter).prop_map(move |(kinds, kind, rows, query, filter)| {
            let computed = query
                .compute
                .iter()
                .any(|(_, c)| matches!(c, Compute::Filter(f) if has_id(f)));
            Case {
                kind: match computed || filter.as_ref().is_some_and(has_id) {
                    true => IdKind::UInt,
                    false => kind,
                },
                kinds,
                rows,
                query: Query { filter, ..query },
            }
        })
    })
}

async fn answer(snapshot: &Snapshot, query: &Query) -> Result<QueryResult, String> {
    let queries: Arc<[Query]> = Arc::new([query.clone()]);
    let all = Arc::new(View::all(snapshot.schema.clone()));
    let results = execute(snapshot, &all, &queries, &CpuPool::inline(), &Limits::default()).await;
    results.map(|mut r| r.remove(0)).map_err(|e| e.message)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_query_has_the_answer_of_the_same_rows_in_the_tail(case in any_case()) {
        run(async {
            let (together, apart) = snapshots(&case, &Segments::new()).await;
            let expected = answer(&together, &case.query).await;
            // What is asked often is answered in another way.
            for _ in 0..4 {
                let found = answer(&apart, &case.query).await;
                prop_assert_eq!(&found, &expected);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_filter_for_writes_matches_dead_rows_too(case in any_case()) {
        let Some(filter) = &case.query.filter else { return Ok(()) };
        run(async {
            let (together, apart) = snapshots(&case, &Segments::new()).await;
            let Ok(bound) = filter::bind(filter, &together.schema) else { return Ok(()) };
            let bound = Arc::new(bound);
            let all = matching(&together, &bound, &CpuPool::inline()).await.unwrap();
            let expected: BTreeSet<Id> = all.parts[0].iter().map(|row| together.parts[0].chunk.ids.get(row)).collect();
            let found = matching(&apart, &bound, &CpuPool::inline()).await.unwrap();
            let mut ids = BTreeSet::new();
            for (part, rows) in apart.parts.iter().zip(&found.parts) {
                ids.extend(rows.iter().map(|row| part.chunk.ids.get(row)));
            }
            for (part, rows) in apart.segments.iter().zip(&found.segments) {
                let all = part.segment.ids().await.unwrap();
                ids.extend(rows.iter().map(|row| all.get(row)));
            }
            prop_assert_eq!(ids, expected);
            Ok(())
        })?;
    }
}
