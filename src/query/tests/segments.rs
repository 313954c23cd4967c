//! Rows in segments answer as the same rows in the tail, whatever schema the segments were written with.

use std::collections::BTreeSet;

use half::f16;

use super::support::{Rows, Segments, schema_of, snapshot_of};
use super::*;
use crate::model::filter::{CompareOptions, Operand};
use crate::model::query::{
    Aggregate, Aggregation, Compute, FragmentBy, GroupKey, Highlight, LimitPer, OffsetUnit, Projection,
};
use crate::model::{AttrType, Scalar};
use crate::query::filter::tests::properties::{Kind, NAMES, any_filter, any_kind, any_of_kind, schema_with};
use crate::query::score::tests::{Row as Scored, any_row, any_score};

/// Rows where there are many.
const MANY_ROWS: usize = 700;

/// Besides what filters and scores look at, vectors of every kind.
#[derive(Clone, Debug)]
struct Row {
    /// Of [`NAMES`].
    filtered: Vec<Value>,
    scored: Scored,
    point: Option<(i8, i8)>,
    raw: Option<Vec<u8>>,
    /// 0 and 1 are parts of the tail, the others segments.
    place: usize,
}

/// How an attribute was, when a segment was written.
#[derive(Clone, Copy, Debug)]
enum Before {
    NotFilterable,
    NotSearched,
    /// With other tokens.
    Cased,
    WithoutPatterns,
    WithGlobs,
    /// It did not exist.
    Absent,
    /// There was another one of that name, which was dropped.
    Another,
}

#[derive(Clone, Debug)]
struct Case {
    kind: IdKind,
    kinds: Vec<Kind>,
    rows: Vec<Row>,
    /// In which places, of which attributes.
    before: Vec<(usize, &'static str, Before)>,
    /// Whether values of `t` are filtered by, besides its tokens.
    filters_text: bool,
    /// Whether rows have a long text, which has pages of its own.
    wide: bool,
    /// Whether there are more rows than a code of one byte tells apart.
    many: bool,
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
            ("x", "bytes"),
            ("w", "string"),
        ],
    );
    let mut text = schema.get("t").unwrap().clone();
    (text.full_text, text.filterable) = (Some(FullTextConfig::default()), case.filters_text);
    schema.put(text);
    let mut wide = schema.get("w").unwrap().clone();
    wide.filterable = false;
    schema.put(wide);
    for attribute in schema_with(&case.kinds).attributes() {
        let id = schema.next_attribute_id();
        schema.put(crate::model::Attribute {
            id,
            ..attribute.clone()
        });
    }
    schema
}

/// The schema that a segment was written with.
fn schema_before(case: &Case, place: usize) -> Schema {
    let mut schema = schema(case);
    for (_, name, before) in case.before.iter().filter(|(at, ..)| *at == place) {
        let Some(attribute) = schema.get(name) else { continue };
        let mut attribute = attribute.clone();
        let is_string = matches!(
            attribute.ty,
            AttrType::Scalar(Scalar::String) | AttrType::Array(Scalar::String)
        );
        match before {
            Before::NotFilterable => attribute.filterable = false,
            Before::NotSearched => attribute.full_text = None,
            Before::Cased => {
                let cased = |config: FullTextConfig| FullTextConfig {
                    case_sensitive: !config.case_sensitive,
                    ..config
                };
                attribute.full_text = attribute.full_text.map(cased);
            }
            Before::WithoutPatterns => (attribute.glob, attribute.regex, attribute.fuzzy) = (false, false, false),
            Before::WithGlobs => attribute.glob |= is_string,
            Before::Absent => {
                schema.drop_attribute(name);
                continue;
            }
            Before::Another => attribute.id = schema.next_attribute_id(),
        }
        schema.put(attribute);
    }
    schema
}

/// The attributes that rows of a place cannot have.
fn unknown(case: &Case, place: usize) -> BTreeSet<&'static str> {
    let unknown = case.before.iter().filter(|(at, _, before)| {
        let is_unknown = matches!(before, Before::Absent | Before::Another);
        *at == place && is_unknown
    });
    unknown.map(|(_, name, _)| *name).collect()
}

fn id(kind: IdKind, row: usize) -> Id {
    let number = if row < 167 { (row * 37 + 11) % 167 } else { row };
    match kind {
        IdKind::UInt => Id::UInt(number as u64),
        IdKind::Uuid => Id::Uuid(uuid::Uuid::from_u128((number as u128) << 90 | 7)),
        IdKind::String => Id::String(format!("{}{number:x}", "k".repeat(number % 3)).into()),
    }
}

fn values(case: &Case, number: usize, row: &Row) -> Vec<(&'static str, Value)> {
    let mut values = row.scored.values();
    if case.many {
        values.retain(|(name, _)| *name != "n");
        values.push(("n", Value::Int((number * 7919 % MANY_ROWS) as i64)));
    }
    values.extend(row.raw.clone().map(|bytes| ("x", Value::Bytes(bytes))));
    if case.wide {
        values.push(("w", Value::String(format!("{number} {}", "wide ".repeat(600)))));
    }
    let filtered = row.filtered.iter().map(|value| match case.filters_text {
        true => odd(value),
        false => value.clone(),
    });
    values.extend(NAMES.into_iter().zip(filtered));
    if let Some((x, y)) = row.point {
        let floats = [f32::from(x), f32::from(y)];
        values.push(("v", Value::Vector(Vector::F32(floats.into()))));
        values.push(("h", Value::Vector(Vector::F16(floats.map(f16::from_f32).into()))));
        values.push(("i", Value::Vector(Vector::I8(vec![x, y]))));
        let elements = (0..x.unsigned_abs() % 3).flat_map(|n| [floats[0] + f32::from(n), floats[1]]);
        let elements = elements.collect();
        values.push(("m", Value::MultiVector { dims: 2, elements }));
    }
    values.retain(|(_, v)| *v != Value::Null);
    values
}

/// Some texts with what others end with, or longer than any other.
fn odd(value: &Value) -> Value {
    match value {
        Value::String(text) if text == "a" => Value::String("a\0".into()),
        Value::String(text) if text == "b" => Value::String("\0".into()),
        Value::String(text) if text == "aa" => Value::String("sea seal fish ".repeat(8)),
        Value::Array(list) => Value::Array(list.iter().map(odd).collect()),
        other => other.clone(),
    }
}

/// All rows in one part of the tail, and the same rows dealt out.
async fn snapshots(case: &Case, segments: &Segments) -> (Snapshot, Snapshot) {
    let schema = schema(case);
    let mut all: Vec<Row> = case.rows.clone();
    if case.many && !all.is_empty() {
        let more = case.rows.iter().cycle().take(MANY_ROWS - all.len());
        all.extend(more.cloned().map(|row| Row { place: 2, ..row }));
    }
    let rows = all.iter().enumerate();
    let rows: Vec<_> = rows.map(|(i, r)| (id(case.kind, i), values(case, i, r))).collect();
    let live: Vec<bool> = all.iter().map(|r| r.scored.live).collect();
    let part = |place: usize| -> (Rows, Vec<bool>) {
        let here = (0..rows.len()).filter(|i| all[*i].place == place);
        here.map(|i| (rows[i].clone(), live[i])).unzip()
    };
    let mut known = rows.clone();
    for (row, (_, values)) in all.iter().zip(&mut known) {
        let unknown = unknown(case, row.place);
        values.retain(|(name, _)| !unknown.contains(name));
    }
    let together = snapshot_of(&schema, &[(known, live.clone())]);
    let mut apart = snapshot_of(&schema, &[part(0), part(1)]);
    let mut stored = Vec::new();
    for place in [2, 3, 4] {
        let (rows, live) = part(place);
        if !rows.is_empty() {
            stored.push(segments.put(&schema_before(case, place), &rows, &live).await);
        }
    }
    apart.segments = Arc::new(stored);
    (together, apart)
}

/// A filter on what is searched and ranked too, besides those on attributes of random types.
fn any_mixed_filter(kinds: &[Kind]) -> BoxedStrategy<Filter> {
    let tokens = prop_oneof![
        (
            prop::sample::select(vec![FilterOp::ContainsAllTokens, FilterOp::ContainsAnyToken]),
            any::<bool>()
        ),
        Just((FilterOp::ContainsTokenSequence, false)),
    ];
    let words = prop::sample::select(vec!["fox", "dog cat", "fo", "do fox", "cat", ""]);
    let text = (tokens, words).prop_map(|((op, last_as_prefix), words)| Filter::Compare {
        attribute: "t".into(),
        op,
        operand: Operand::Value(json!(words)),
        options: match last_as_prefix {
            true => CompareOptions::LastAsPrefix,
            false => CompareOptions::None,
        },
    });
    let compared = || prop::sample::select(vec![FilterOp::Eq, FilterOp::NotEq, FilterOp::Lt, FilterOp::Gte]);
    let number = (compared(), prop_oneof![-3i64..6, 0..MANY_ROWS as i64]);
    let number = number.prop_map(|(op, n)| Filter::compare("n", op, json!(n)));
    let raw = (compared(), prop::sample::select(vec!["", "AA==", "AAE=", "/////w=="]));
    let raw = raw.prop_map(|(op, bytes)| Filter::compare("x", op, json!(bytes)));
    let both = (any_filter(kinds), text.clone()).prop_map(|(a, b)| Filter::And(vec![a, b]));
    prop_oneof![4 => any_filter(kinds), 2 => text, 1 => both, 1 => number, 1 => raw].boxed()
}

/// A score of texts, and of whether they have some tokens.
fn any_mixed_score(kinds: &[Kind]) -> BoxedStrategy<Score> {
    let mut texts = vec!["t"];
    texts.extend(
        NAMES
            .into_iter()
            .zip(kinds)
            .filter(|(_, kind)| kind.is_text())
            .map(|(name, _)| name),
    );
    let words = prop::sample::select(vec!["fox", "sea", "seal fish", "the dog", "fo"]);
    let text = (prop::sample::select(texts), words, any::<bool>());
    let text = text.prop_map(|(name, words, last_as_prefix)| Score::Text {
        attribute: name.into(),
        query: TextQuery::Text(words.into()),
        last_as_prefix,
    });
    let sum = (text.clone(), any_mixed_filter(kinds)).prop_map(|(text, f)| Score::Sum(vec![text, Score::Filter(f)]));
    prop_oneof![4 => any_score(), 1 => text, 1 => sum].boxed()
}

fn any_rank(kinds: &[Kind]) -> BoxedStrategy<Option<RankBy>> {
    let names = vec!["id", "n", "u", "f", "d", "t", "x", "w", "a"];
    let key = (prop::sample::select(names), any::<bool>());
    let order = prop::collection::vec(key, 1..4).prop_map(|keys| {
        let direction = |descending| if descending { Direction::Desc } else { Direction::Asc };
        RankBy::Order(keys.into_iter().map(|(k, d)| (k.to_owned(), direction(d))).collect())
    });
    prop_oneof![
        1 => Just(None),
        2 => order.prop_map(Some),
        3 => any_nearest().prop_map(|(attribute, query)| Some(RankBy::Nearest { attribute, query, exact: false })),
        3 => any_mixed_score(kinds).prop_map(|score| Some(RankBy::Score(score))),
        2 => prop::collection::vec(any_clause(kinds), 1..4).prop_map(|list| Some(RankBy::Score(Score::Sum(list)))),
    ]
    .boxed()
}

/// Filters with all kinds of answers, among other clauses.
fn any_clause(kinds: &[Kind]) -> BoxedStrategy<Score> {
    let boost = (any_filter(kinds), 1u8..4).prop_map(|(filter, weight)| Score::Product {
        weight: f64::from(weight),
        of: Box::new(Score::Filter(filter)),
    });
    prop_oneof![2 => boost, 1 => any_score()].boxed()
}

fn any_nearest() -> impl Strategy<Value = (String, VectorQuery)> {
    let point = (-3i8..4, -3i8..4).prop_map(|(x, y)| vec![f32::from(x), f32::from(y)]);
    let many = prop::collection::vec(point.clone(), 1..3).prop_map(|l| ("m".to_owned(), VectorQuery::Many(l)));
    let one = (prop::sample::select(vec!["v", "h", "i"]), point);
    prop_oneof![3 => one.prop_map(|(name, p)| (name.to_owned(), VectorQuery::One(p))), 1 => many]
}

fn any_compute(kinds: &[Kind]) -> BoxedStrategy<Compute> {
    let words = prop::sample::select(vec!["fox", "dog cat", "fo", "sea", "seal fish"]);
    let mut texts = vec!["t", "t"];
    texts.extend(
        NAMES
            .into_iter()
            .zip(kinds)
            .filter(|(_, kind)| kind.is_text())
            .map(|(name, _)| name),
    );
    let highlight = (words, any::<bool>(), prop::sample::select(texts)).prop_map(|(words, last_as_prefix, name)| {
        Compute::Highlight(Highlight {
            attribute: name.into(),
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
        any_mixed_score(kinds).prop_map(Compute::Score),
        any_mixed_filter(kinds).prop_map(Compute::Filter),
        highlight,
    ]
    .boxed()
}

fn any_rows_query(kinds: &[Kind]) -> BoxedStrategy<Query> {
    let per = prop::sample::subsequence(vec!["id", "n", "u", "f", "t", "x"], 1..=2);
    let per = (per, 1usize..3);
    let per = per.prop_map(|(names, limit)| LimitPer {
        attributes: names.into_iter().map(String::from).collect(),
        limit,
    });
    let include = prop::sample::select(vec![
        Projection::None,
        Projection::All,
        Projection::Only(vec!["n".into(), "h".into()]),
        Projection::Only(vec!["t".into()]),
        Projection::Except(vec!["t".into()]),
    ]);
    let compute = prop::collection::vec(any_compute(kinds), 0..3);
    (
        any_rank(kinds),
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
    let scalars = prop::sample::select(vec!["id", "n", "u", "f", "d", "x"]).prop_map(String::from);
    let filtered: Vec<(&'static str, bool)> = NAMES.into_iter().zip(kinds.iter().map(|k| k.array)).collect();
    let any = prop::sample::select([vec!["id", "n", "f", "x"], filtered.iter().map(|f| f.0).collect()].concat());
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
    let plain = ["n", "u", "f", "d", "x", "id"].map(|name| (name, false));
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

fn any_before() -> impl Strategy<Value = (usize, &'static str, Before)> {
    let names = vec![
        "a", "b", "c", "a", "b", "c", "t", "t", "n", "f", "d", "s", "v", "m", "x", "w",
    ];
    let before = vec![
        Before::NotFilterable,
        Before::NotSearched,
        Before::Cased,
        Before::WithoutPatterns,
        Before::WithGlobs,
        Before::Absent,
        Before::Another,
    ];
    (2usize..5, prop::sample::select(names), prop::sample::select(before))
}

fn any_case() -> impl Strategy<Value = Case> {
    prop::collection::vec(any_kind(), 1..=3).prop_flat_map(|kinds| {
        // Ids of other kinds are not compared with numbers.
        let has_id = |filter: &Filter| format!("{filter:?}").contains("\"id\"");
        let filter = prop::option::weighted(0.8, any_mixed_filter(&kinds));
        let query = prop_oneof![3 => any_rows_query(&kinds), 1 => any_aggregation(&kinds)];
        let kind = prop::sample::select(vec![IdKind::UInt, IdKind::UInt, IdKind::Uuid, IdKind::String]);
        let filtered: Vec<_> = kinds.iter().map(|k| any_of_kind(*k)).collect();
        let point = prop::option::of((-3i8..4, -3i8..4));
        let raw = prop::option::of(prop::sample::select(vec![vec![], vec![0], vec![0, 1], vec![255; 4]]));
        let row = (filtered, any_row(), point, raw, 0usize..5);
        let row = row.prop_map(|(filtered, scored, point, raw, place)| Row {
            filtered,
            scored,
            point,
            raw,
            place,
        });
        let rows = prop::collection::vec(row, 0..160);
        let before = prop_oneof![Just(Vec::new()), prop::collection::vec(any_before(), 1..8)];
        let odd = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.06));
        (Just(kinds), kind, rows, query, filter, before, odd).prop_map(move |case| {
            let (kinds, kind, rows, query, filter, before, (filters_text, wide, many)) = case;
            let computed = query
                .compute
                .iter()
                .any(|(_, c)| matches!(c, Compute::Filter(f) if has_id(f)));
            let scored = matches!(&query.rank_by, Some(RankBy::Score(s)) if format!("{s:?}").contains("\"id\""));
            Case {
                kind: match computed || scored || filter.as_ref().is_some_and(has_id) {
                    true => IdKind::UInt,
                    false => kind,
                },
                kinds,
                rows,
                before,
                filters_text,
                wide,
                many,
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
