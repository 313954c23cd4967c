//! A restricted query answers as if what it must not see were not there.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value as Json, json};

use super::View;
use crate::base::CpuPool;
use crate::error::{Error, ErrorKind};
use crate::model::access::{MandatoryFilter, Restriction};
use crate::model::query::{
    Aggregate, Aggregation, Compute, Curve, FragmentBy, GroupKey, Highlight, LimitPer, Midpoint, Projection, Score,
    TextQuery, VectorQuery,
};
use crate::model::value::Vector;
use crate::model::{Direction, Filter, FilterOp, FullTextConfig, Id, IdKind, Limits, Query, RankBy, Schema, Value};
use crate::query::tests::support::{Rows, schema_of, snapshot_of};
use crate::query::{QueryResult, execute, explain};
use crate::snapshot::Snapshot;

const WORDS: [&str; 4] = ["", "fox", "fox dog", "dog dog fox cat"];
/// Every attribute of the tests, one that does not exist, and `id`.
const NAMES: [&str; 8] = ["t", "n", "s", "v", "tags", "f", "gone", "id"];

/// One row: whose it is, and what it has.
#[derive(Clone, Debug)]
struct Row {
    tenant: Option<i64>,
    n: Option<i64>,
    s: Option<&'static str>,
    v: Option<[f32; 2]>,
    tags: Option<Vec<i64>>,
    f: Option<f64>,
    live: bool,
}

fn any_row() -> impl Strategy<Value = Row> {
    let some = |range: std::ops::Range<i64>| prop::option::weighted(0.9, range);
    let words = prop::option::weighted(0.8, prop::sample::select(WORDS.to_vec()));
    let point = prop::option::weighted(0.8, (0u8..3, 0u8..3).prop_map(|(x, y)| [x.into(), y.into()]));
    let tags = prop::option::weighted(0.8, prop::collection::vec(0i64..3, 0..3));
    let number = prop::option::weighted(0.8, prop::sample::select(vec![-0.5, 0.0, 1.25, 3.0]));
    (
        some(0..3),
        some(-2..3),
        words,
        point,
        tags,
        number,
        prop::bool::weighted(0.85),
    )
        .prop_map(|(tenant, n, s, v, tags, f, live)| Row {
            tenant,
            n,
            s,
            v,
            tags,
            f,
            live,
        })
}

fn any_parts() -> impl Strategy<Value = Vec<Vec<Row>>> {
    prop::collection::vec(prop::collection::vec(any_row(), 0..30), 1..4)
}

fn schema() -> Schema {
    let attributes = [
        ("t", "int"),
        ("n", "int"),
        ("s", "string"),
        ("v", "[2]f32"),
        ("tags", "[]int"),
        ("f", "float"),
    ];
    let mut schema = schema_of(IdKind::UInt, &attributes);
    let mut text = schema.get("s").unwrap().clone();
    text.full_text = Some(FullTextConfig::default());
    schema.put(text);
    schema
}

/// Ids that are not ascending, and interleaved between parts.
fn id_of(part: usize, row: usize) -> u64 {
    ((row * 37 + part * 11) % 101 * 8 + part) as u64
}

fn values(row: &Row) -> Vec<(&'static str, Value)> {
    let mut values = Vec::new();
    values.extend(row.tenant.map(|t| ("t", Value::Int(t))));
    values.extend(row.n.map(|n| ("n", Value::Int(n))));
    values.extend(row.s.map(|s| ("s", Value::String(s.into()))));
    values.extend(row.v.map(|v| ("v", Value::Vector(Vector::F32(v.to_vec())))));
    let tags = row.tags.as_ref();
    values.extend(tags.map(|t| ("tags", Value::Array(t.iter().map(|n| Value::Int(*n)).collect()))));
    values.extend(row.f.map(|f| ("f", Value::Float(f))));
    values
}

/// Which rows of a snapshot there are.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    /// All that are live.
    Live,
    /// Those that do not pass are dead, so that they count in the statistics of texts alone.
    Dead,
    /// Those that do not pass were never there.
    Absent,
}

fn snapshot(parts: &[Vec<Row>], passes: impl Fn(&Row) -> bool, others: Others) -> Snapshot {
    let part = |(p, rows): (usize, &Vec<Row>)| {
        let kept = rows
            .iter()
            .enumerate()
            .filter(|(_, r)| others != Others::Absent || passes(r));
        let (rows, live): (Rows, Vec<bool>) = kept
            .map(|(i, r)| {
                (
                    (Id::UInt(id_of(p, i)), values(r)),
                    r.live && (others == Others::Live || passes(r)),
                )
            })
            .unzip();
        (rows, live)
    };
    let built: Vec<_> = parts.iter().enumerate().map(part).collect();
    snapshot_of(&schema(), &built)
}

/// A filter of a key, and what it means.
#[derive(Clone, Debug)]
enum Mandatory {
    Tenant(i64),
    Tenants(Vec<i64>),
    NotTenant(i64),
    SmallOrNull(i64),
    Word(&'static str),
    Tag(i64),
    Nothing,
}

impl Mandatory {
    fn filter(&self) -> Filter {
        match self {
            Mandatory::Tenant(t) => Filter::compare("t", FilterOp::Eq, *t),
            Mandatory::Tenants(list) => Filter::compare("t", FilterOp::In, json!(list)),
            Mandatory::NotTenant(t) => Filter::Not(Box::new(Filter::compare("t", FilterOp::Eq, *t))),
            Mandatory::SmallOrNull(n) => Filter::Or(vec![
                Filter::compare("n", FilterOp::Lt, *n),
                Filter::compare("n", FilterOp::Eq, Json::Null),
            ]),
            Mandatory::Word(word) => Filter::compare("s", FilterOp::ContainsAllTokens, *word),
            Mandatory::Tag(tag) => Filter::compare("tags", FilterOp::Contains, *tag),
            Mandatory::Nothing => Filter::Or(Vec::new()),
        }
    }

    fn holds(&self, row: &Row) -> bool {
        match self {
            Mandatory::Tenant(t) => row.tenant == Some(*t),
            Mandatory::Tenants(list) => row.tenant.is_some_and(|t| list.contains(&t)),
            Mandatory::NotTenant(t) => row.tenant != Some(*t),
            Mandatory::SmallOrNull(n) => row.n.is_none_or(|x| x < *n),
            Mandatory::Word(word) => row.s.is_some_and(|s| s.split(' ').any(|w| w == *word)),
            Mandatory::Tag(tag) => row.tags.as_ref().is_some_and(|tags| tags.contains(tag)),
            Mandatory::Nothing => false,
        }
    }
}

fn any_mandatory() -> impl Strategy<Value = Vec<Mandatory>> {
    let one = prop_oneof![
        4 => (0i64..3).prop_map(Mandatory::Tenant),
        1 => prop::collection::vec(0i64..3, 0..3).prop_map(Mandatory::Tenants),
        1 => (0i64..3).prop_map(Mandatory::NotTenant),
        1 => (-1i64..3).prop_map(Mandatory::SmallOrNull),
        1 => prop::sample::select(vec!["fox", "cat"]).prop_map(Mandatory::Word),
        1 => (0i64..3).prop_map(Mandatory::Tag),
        1 => Just(Mandatory::Nothing),
    ];
    prop::collection::vec(one, 0..3)
}

fn any_name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.to_vec()).prop_map(String::from)
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let operand = prop_oneof![
        (-2i64..3).prop_map(Json::from),
        Just(Json::Null),
        Just(json!("fox")),
        Just(json!(1.25)),
        Just(json!([0, 1])),
    ];
    let operators = vec![
        FilterOp::Eq,
        FilterOp::NotEq,
        FilterOp::Lt,
        FilterOp::Gte,
        FilterOp::In,
        FilterOp::Contains,
        FilterOp::ContainsAnyToken,
        FilterOp::Glob,
    ];
    // Mostly ones that fit their attributes, so that not every query is refused.
    let fitting = prop_oneof![
        (-2i64..3).prop_map(|n| Filter::compare("n", FilterOp::Gte, n)),
        (0i64..3).prop_map(|t| Filter::compare("t", FilterOp::NotEq, t)),
        Just(Filter::compare("s", FilterOp::ContainsAnyToken, "fox cat")),
        (0i64..3).prop_map(|t| Filter::compare("tags", FilterOp::Contains, t)),
        (0i64..800).prop_map(|id| Filter::compare("id", FilterOp::Lt, id)),
    ];
    let any = (any_name(), prop::sample::select(operators), operand).prop_map(|(n, op, x)| Filter::compare(n, op, x));
    let leaf = prop_oneof![12 => fitting, 1 => any];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|f| Filter::Not(Box::new(f))),
        ]
    })
}

fn text(attribute: &str, words: &str) -> Score {
    Score::Text {
        attribute: attribute.into(),
        query: TextQuery::Text(words.into()),
        last_as_prefix: false,
    }
}

/// Mostly the attribute that fits, now and then another one.
fn attribute(fits: &'static str) -> BoxedStrategy<String> {
    prop_oneof![15 => Just(fits.to_owned()), 1 => any_name()].boxed()
}

fn any_score() -> impl Strategy<Value = Score> {
    let leaf = prop_oneof![
        attribute("s").prop_map(|a| text(&a, "fox dog")),
        attribute("n").prop_map(Score::Attribute),
        any_filter().prop_map(Score::Filter),
        attribute("f").prop_map(|attribute| Score::Distance {
            attribute,
            origin: json!(1)
        }),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        let curve = Curve {
            midpoint: Midpoint::Number(1.0),
            exponent: 1.0,
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Score::Sum),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Score::Max),
            inner.prop_map(move |of| Score::Saturate {
                of: Box::new(of),
                curve
            }),
        ]
    })
}

fn any_rank_by() -> impl Strategy<Value = Option<RankBy>> {
    let direction = prop_oneof![Just(Direction::Asc), Just(Direction::Desc)];
    let key = prop_oneof![attribute("n"), attribute("s"), attribute("t"), attribute("id")];
    let nearest = (attribute("v"), any::<bool>()).prop_map(|(attribute, exact)| RankBy::Nearest {
        attribute,
        query: VectorQuery::One(vec![1.0, 0.5]),
        exact,
    });
    prop_oneof![
        Just(None),
        prop::collection::vec((key, direction), 1..3).prop_map(|keys| Some(RankBy::Order(keys))),
        nearest.prop_map(Some),
        attribute("s").prop_map(|a| Some(RankBy::Score(text(&a, "fox cat")))),
        any_score().prop_map(|s| Some(RankBy::Score(s))),
    ]
}

fn any_compute() -> impl Strategy<Value = Vec<(Arc<str>, Compute)>> {
    let one = prop_oneof![
        attribute("v").prop_map(|attribute| Compute::VectorDistance {
            attribute,
            query: VectorQuery::One(vec![0.0, 2.0]),
        }),
        any_filter().prop_map(Compute::Filter),
        any_score().prop_map(Compute::Score),
        attribute("s").prop_map(|attribute| Compute::Highlight(Highlight {
            attribute,
            fragment_by: FragmentBy::Word,
            fragment_limit: 3,
            include_offsets: None,
            rank_fragments_by: Some(text("$fragment", "fox cat")),
        })),
    ];
    prop::collection::vec(one, 0..3).prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(|(i, c)| (format!("c{i}").into(), c))
            .collect()
    })
}

fn any_aggregation() -> impl Strategy<Value = Aggregation> {
    let one = prop_oneof![
        Just(Aggregate::Count),
        attribute("n").prop_map(Aggregate::Sum),
        attribute("f").prop_map(Aggregate::Avg),
        attribute("id").prop_map(Aggregate::Min),
        attribute("s").prop_map(Aggregate::Max),
        attribute("t").prop_map(Aggregate::CountDistinct),
        attribute("tags").prop_map(|attribute| Aggregate::Top { attribute, limit: 2 }),
    ];
    let key = prop_oneof![
        attribute("t").prop_map(GroupKey::Attribute),
        attribute("s").prop_map(GroupKey::Attribute),
        attribute("tags").prop_map(|attribute| GroupKey::Elements {
            label: "tag".into(),
            attribute
        }),
    ];
    (prop::collection::vec(one, 1..4), prop::collection::vec(key, 0..2)).prop_map(|(aggregates, group_by)| {
        let label = |(i, a)| (format!("a{i}").into(), a);
        Aggregation {
            aggregates: aggregates.into_iter().enumerate().map(label).collect(),
            group_by,
        }
    })
}

fn any_query() -> impl Strategy<Value = Query> {
    let include = prop_oneof![
        Just(Projection::None),
        Just(Projection::All),
        prop::collection::vec(any_name(), 0..3).prop_map(Projection::Except),
        prop::collection::vec(attribute("n"), 0..3).prop_map(Projection::Only),
    ];
    let per = (attribute("t"), 1usize..3).prop_map(|(attribute, limit)| LimitPer {
        attributes: vec![attribute],
        limit,
    });
    let rows = (
        any_rank_by(),
        any_compute(),
        prop::option::weighted(0.2, per),
        include,
        0usize..3,
    )
        .prop_map(|(rank_by, compute, per, include, offset)| Query {
            rank_by,
            compute,
            per,
            include,
            offset,
            ..Query::default()
        });
    let numbers = any_aggregation().prop_map(|aggregation| Query {
        aggregation: Some(aggregation),
        ..Query::default()
    });
    let query = prop_oneof![3 => rows, 1 => numbers];
    (query, prop::option::of(any_filter()), 0usize..40).prop_map(|(query, filter, limit)| Query {
        filter,
        limit,
        ..query
    })
}

/// What a query is answered, or refused with.
fn ask(snapshot: &Snapshot, view: &Arc<View>, query: &Query) -> Result<QueryResult, String> {
    let queries: Arc<[Query]> = Arc::new([query.clone()]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (cpu, limits) = (CpuPool::inline(), Limits::default());
    let execution = execute(snapshot, view, &queries, &cpu, &limits);
    let mut results = runtime.block_on(execution).map_err(|e| e.message)?;
    Ok(results.remove(0))
}

fn said(snapshot: &Snapshot, view: &Arc<View>, query: &Query) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (cpu, limits) = (CpuPool::inline(), Limits::default());
    let text = runtime.block_on(explain(snapshot, view, query, &cpu, &limits));
    text.map_err(|e| e.message)
}

fn all(snapshot: &Snapshot) -> Arc<View> {
    Arc::new(View::all(snapshot.schema.clone()))
}

fn with_filters(mandatory: &[Mandatory]) -> Restriction {
    let filter = |m: &Mandatory| Arc::new(m.filter()) as Arc<dyn MandatoryFilter>;
    Restriction {
        filters: mandatory.iter().map(filter).collect(),
        ..Restriction::default()
    }
}

/// Whether a text clause scores something, by statistics of all rows.
fn has_text(query: &Query) -> bool {
    format!("{query:?}").contains("Text {")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn rows_that_do_not_pass_are_as_good_as_absent(
        parts in any_parts(), mandatory in any_mandatory(), query in any_query(),
    ) {
        let passes = |row: &Row| mandatory.iter().all(|m| m.holds(row));
        let whole = snapshot(&parts, passes, Others::Live);
        let view = Arc::new(View::restricted(&whole.schema, &with_filters(&mandatory)).unwrap());
        let answer = ask(&whole, &view, &query);
        let dead = snapshot(&parts, passes, Others::Dead);
        prop_assert_eq!(&answer, &ask(&dead, &all(&dead), &query));
        if !has_text(&query) {
            let without = snapshot(&parts, passes, Others::Absent);
            prop_assert_eq!(&answer, &ask(&without, &all(&without), &query));
        }
    }

    #[test]
    fn hidden_attributes_are_as_good_as_absent(
        parts in any_parts(), mandatory in any_mandatory(), query in any_query(),
        hidden in prop::sample::subsequence(&NAMES[..6], 0..4), by_inclusion in any::<bool>(),
    ) {
        let passes = |row: &Row| mandatory.iter().all(|m| m.holds(row));
        let whole = snapshot(&parts, passes, Others::Live);
        let names = |keep: bool| NAMES[..6].iter().filter(|n| hidden.contains(n) != keep).map(|n| n.to_string()).collect();
        let mut restriction = with_filters(&mandatory);
        match by_inclusion {
            true => restriction.include = Some(names(true)),
            false => restriction.exclude = names(false),
        }
        let view = Arc::new(View::restricted(&whole.schema, &restriction).unwrap());
        let mut dead = snapshot(&parts, passes, Others::Dead);
        let schema = Arc::make_mut(&mut dead.schema);
        hidden.iter().for_each(|name| schema.drop_attribute(name));
        prop_assert_eq!(ask(&whole, &view, &query), ask(&dead, &all(&dead), &query));
        let (found, expected) = (said(&whole, &view, &query), said(&dead, &all(&dead), &query));
        // The number of rows apart, which only those may know who see them all.
        let lines = |text: &str| -> Vec<String> {
            let counts = |line: &&str| !line.starts_with("rows scanned: ") && !line.starts_with("key: ");
            text.lines().filter(counts).map(String::from).collect()
        };
        prop_assert_eq!(found.as_deref().map(lines), expected.as_deref().map(lines));
    }
}

#[test]
fn the_queries_of_these_tests_are_mostly_answered() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let whole = snapshot(&[vec![]], |_| true, Others::Live);
    let strategy = any_query();
    let answered = |_: &i32| {
        let query = strategy.new_tree(&mut runner).unwrap().current();
        ask(&whole, &all(&whole), &query).is_ok()
    };
    assert!((0..400).filter(answered).count() > 200);
}

/// Fails with the same words whatever is wrong, so that nothing of the filter is told.
#[test]
fn a_mandatory_filter_that_does_not_fit_lets_nothing_pass() {
    let schema = Arc::new(schema());
    for filter in [
        Filter::compare("gone", FilterOp::Eq, 1),
        Filter::compare("t", FilterOp::Eq, "text"),
        Filter::compare("s", FilterOp::Regex, "a"),
        Filter::compare("v", FilterOp::Eq, 1),
        Filter::Or(vec![Filter::And(Vec::new()), Filter::compare("gone", FilterOp::Eq, 1)]),
        Filter::Not(Box::new(Filter::compare("gone", FilterOp::Eq, 1))),
    ] {
        // Also beside one that fits.
        let filters: Vec<Arc<dyn MandatoryFilter>> =
            vec![Arc::new(Filter::compare("t", FilterOp::Eq, 1)), Arc::new(filter)];
        let restriction = Restriction {
            filters,
            ..Restriction::default()
        };
        let error: Error = View::restricted(&schema, &restriction).expect_err("does not fit");
        assert_eq!(error.kind, ErrorKind::Forbidden);
        assert_eq!(
            error.message,
            "the filter of this key does not fit the namespace's schema"
        );
    }
}

/// What the key holds is typed against all attributes, also those that it hides.
#[test]
fn a_mandatory_filter_may_name_what_it_hides() {
    let row = |tenant| Row {
        tenant: Some(tenant),
        n: Some(tenant),
        s: None,
        v: None,
        tags: None,
        f: None,
        live: true,
    };
    let whole = snapshot(&[vec![row(0), row(1), row(1)]], |_| true, Others::Live);
    let restriction = Restriction {
        include: Some(vec!["n".into()]),
        ..with_filters(&[Mandatory::Tenant(1)])
    };
    let view = Arc::new(View::restricted(&whole.schema, &restriction).unwrap());
    let query = Query {
        limit: 10,
        include: Projection::All,
        ..Query::default()
    };
    let found = ask(&whole, &view, &query).unwrap();
    assert_eq!(found.rows().len(), 2);
    let attributes = vec![(Arc::from("n"), Value::Int(1))];
    assert!(found.rows().iter().all(|r| r.attributes == attributes));
    let guess = Query {
        filter: Some(Filter::compare("t", FilterOp::Eq, 0)),
        ..query
    };
    assert_eq!(
        ask(&whole, &view, &guess).unwrap_err(),
        "filter error in key `t`: attribute not found: \"t\" is not in the schema"
    );
}

#[test]
fn ids_that_are_hidden_are_in_no_result() {
    let whole = snapshot(&[vec![]], |_| true, Others::Live);
    let restriction = Restriction {
        exclude: vec!["id".into()],
        ..Restriction::default()
    };
    let view = Arc::new(View::restricted(&whole.schema, &restriction).unwrap());
    assert!(view.hides_id() && !View::all(whole.schema.clone()).hides_id());
    let of = |aggregate, group_by| Query {
        limit: 1,
        aggregation: Some(Aggregation {
            aggregates: vec![("a".into(), aggregate)],
            group_by,
        }),
        ..Query::default()
    };
    let id = || "id".to_owned();
    for query in [
        of(Aggregate::Min(id()), vec![]),
        of(Aggregate::Max(id()), vec![]),
        of(Aggregate::Sum(id()), vec![]),
        of(Aggregate::CountDistinct(id()), vec![]),
        of(
            Aggregate::Top {
                attribute: id(),
                limit: 1,
            },
            vec![],
        ),
        of(Aggregate::Count, vec![GroupKey::Attribute(id())]),
    ] {
        assert!(ask(&whole, &view, &query).unwrap_err().contains("attribute not found"));
    }
    let ordered = Query {
        rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Desc)])),
        filter: Some(Filter::compare("id", FilterOp::Gt, 1)),
        ..of(Aggregate::Count, vec![])
    };
    assert!(ask(&whole, &view, &ordered).is_ok(), "filters and orders may name it");
}

#[test]
fn a_plan_tells_nothing_of_what_a_key_holds() {
    let rows = vec![
        Row {
            tenant: Some(2),
            n: Some(1),
            s: Some("fox"),
            v: None,
            tags: None,
            f: None,
            live: true,
        };
        5
    ];
    let whole = snapshot(&[rows], |_| true, Others::Live);
    let view = Arc::new(View::restricted(&whole.schema, &with_filters(&[Mandatory::Tenant(1)])).unwrap());
    let query = Query {
        limit: 7,
        ..Query::default()
    };
    let said = said(&whole, &view, &query);
    assert_eq!(
        said.unwrap(),
        "action: lookup in the order of id asc\nfilter: none\nkey: only rows and attributes that it may see\n\
         limit: 7 rows\nattributes returned: 0\n"
    );
}
