use std::sync::Arc;

use serde_json::json;

use crate::base::CpuPool;
use crate::error::Error;
use crate::model::query::{Aggregate, Aggregation, FragmentBy, Highlight, Score, TextQuery, VectorQuery};
use crate::model::query::{Compute, Projection};
use crate::model::value::Vector;
use crate::model::{
    Direction, Filter, FilterOp, FullTextConfig, Id, IdKind, Limits, Metric, Query, RankBy, Schema, Value,
};
use crate::query::tests::support::{Rows, schema_of, snapshot_of};
use crate::query::{Computed, ResultRow, View, execute};
use crate::snapshot::Snapshot;

fn schema() -> Schema {
    let attributes = [
        ("n", "int"),
        ("t", "string"),
        ("tags", "[]string"),
        ("v", "[2]f32"),
        ("m", "[][2]f32"),
    ];
    let mut schema = schema_of(IdKind::UInt, &attributes);
    for name in ["t", "tags"] {
        let mut text = schema.get(name).unwrap().clone();
        text.full_text = Some(FullTextConfig::default());
        schema.put(text);
    }
    schema
}

/// Three rows in two parts; the second has nothing but its id, the third is in a part without `v`.
fn snapshot() -> Snapshot {
    let text = |s: &str| Value::String(s.into());
    let first: Rows = vec![
        (
            Id::UInt(1),
            vec![
                ("n", Value::Int(5)),
                ("t", text("A fox. A dog.")),
                ("tags", Value::Array(vec![text("red"), text("fox")])),
                ("v", Value::Vector(Vector::F32(vec![3.0, 4.0]))),
            ],
        ),
        (Id::UInt(2), vec![]),
    ];
    let second: Rows = vec![(Id::UInt(3), vec![("t", text("Nothing of that."))])];
    snapshot_of(&schema(), &[(first, vec![true; 2]), (second, vec![true])])
}

fn ask(compute: Vec<(&str, Compute)>, change: impl FnOnce(&mut Query)) -> Result<Vec<ResultRow>, Error> {
    let mut query = Query {
        rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
        limit: 10,
        compute: compute.into_iter().map(|(name, c)| (name.into(), c)).collect(),
        ..Query::default()
    };
    change(&mut query);
    let queries: Arc<[Query]> = Arc::new([query]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cpu = CpuPool::inline();
    let snapshot = snapshot();
    let all = Arc::new(View::all(snapshot.schema.clone()));
    let mut results = runtime.block_on(execute(&snapshot, &all, &queries, &cpu, &Limits::default()))?;
    Ok(results.remove(0).rows().to_vec())
}

fn refused(compute: Vec<(&str, Compute)>, change: impl FnOnce(&mut Query), part: &str) {
    let error = ask(compute, change).expect_err(part);
    assert!(error.message.contains(part), "{}", error.message);
}

/// What each row has.
fn computed(rows: &[ResultRow]) -> Vec<Vec<(&str, Computed)>> {
    rows.iter()
        .map(|row| row.computed.iter().map(|(name, c)| (&**name, c.clone())).collect())
        .collect()
}

fn distance(attribute: &str, vector: &[f32]) -> Compute {
    Compute::VectorDistance {
        attribute: attribute.into(),
        query: VectorQuery::One(vector.to_vec()),
    }
}

fn bm25(attribute: &str, text: &str) -> Score {
    Score::Text {
        attribute: attribute.into(),
        query: TextQuery::Text(text.into()),
        last_as_prefix: false,
    }
}

fn highlight(attribute: &str, of: Option<Score>) -> Compute {
    Compute::Highlight(Highlight {
        attribute: attribute.into(),
        fragment_by: FragmentBy::Sentence,
        fragment_limit: 3,
        include_offsets: None,
        rank_fragments_by: of,
    })
}

fn is_five() -> Filter {
    Filter::compare("n", FilterOp::Eq, json!(5))
}

fn fragments(texts: &[&str]) -> Computed {
    let fragment = |text: &&str| super::super::Fragment {
        text: (*text).to_owned(),
        offsets: None,
    };
    Computed::Fragments(texts.iter().map(fragment).collect())
}

#[test]
fn every_row_has_its_values_and_no_nulls() {
    let fox = || Some(bm25("$fragment", "fox"));
    let rows = ask(
        vec![
            ("close", distance("v", &[3.0, 3.0])),
            ("five", Compute::Filter(is_five())),
            ("high", highlight("t", fox())),
            ("score", Compute::Score(Score::Attribute("n".into()))),
            ("tagged", highlight("tags", fox())),
        ],
        |_| {},
    )
    .unwrap();
    assert_eq!(
        computed(&rows),
        vec![
            vec![
                ("close", Computed::Distance(1.0)),
                ("five", Computed::Bool(true)),
                ("high", fragments(&["A fox."])),
                ("score", Computed::Score(5.0)),
                ("tagged", fragments(&["fox"])),
            ],
            vec![("five", Computed::Bool(false)), ("score", Computed::Score(0.0))],
            vec![
                ("five", Computed::Bool(false)),
                ("high", fragments(&[])),
                ("score", Computed::Score(0.0)),
            ],
        ]
    );
}

#[test]
fn a_computed_score_is_the_score_of_the_ranking() {
    let rows = ask(vec![("same", Compute::Score(bm25("t", "fox dog")))], |q| {
        q.rank_by = Some(RankBy::Score(bm25("t", "fox dog")));
        q.include = Projection::Only(vec!["n".into()]);
    })
    .unwrap();
    assert_eq!(rows.len(), 1);
    let Some(super::super::Rank::Score(score)) = rows[0].rank else {
        panic!("a score");
    };
    assert_eq!(computed(&rows), [[("same", Computed::Score(score))]]);
    assert_eq!(rows[0].attributes, [("n".into(), Value::Int(5))]);
}

#[test]
fn highlights_follow_the_query_unless_told_otherwise() {
    let rank = |q: &mut Query| q.rank_by = Some(RankBy::Score(bm25("t", "dog")));
    let rows = ask(
        vec![
            ("a", highlight("t", None)),
            ("b", highlight("t", Some(bm25("$fragment", "fox")))),
        ],
        rank,
    )
    .unwrap();
    assert_eq!(
        computed(&rows),
        [[("a", fragments(&["A dog."])), ("b", fragments(&["A fox."]))]]
    );
    refused(vec![("a", highlight("tags", None))], rank, "no BM25 clause on \"tags\"");
}

#[test]
fn distances_have_the_metric_of_the_column() {
    let rows = ask(vec![("d", distance("v", &[0.0, 0.0]))], |q| {
        q.distance_metric = Some(Metric::CosineDistance);
    })
    .unwrap();
    assert_eq!(computed(&rows)[0], [("d", Computed::Distance(25.0))]);
}

#[test]
fn names_that_rows_have_already_are_refused() {
    let five = || Compute::Filter(is_five());
    for include in [
        Projection::All,
        Projection::Only(vec!["n".into()]),
        Projection::Except(vec!["v".into()]),
    ] {
        refused(
            vec![("n", five())],
            |q| q.include = include,
            "rows have the attribute of that name",
        );
    }
    let without = |q: &mut Query| q.include = Projection::Except(vec!["n".into()]);
    assert_eq!(ask(vec![("n", five())], without).unwrap().len(), 3);
}

#[test]
fn what_does_not_fit_the_schema_is_refused_by_name() {
    let filter_of_nothing = Filter::compare("nope", FilterOp::Eq, json!(5));
    for (compute, part) in [
        (distance("nope", &[1.0]), "\"x\": attribute not found"),
        (distance("n", &[1.0]), "\"x\": \"n\" is int"),
        (distance("v", &[1.0]), "has 1 dimensions, and \"v\" has 2"),
        (distance("v", &[1.0, f32::NAN]), "beyond the range of f32"),
        (distance("m", &[1.0, 2.0]), "array of vectors"),
        (highlight("nope", None), "\"x\": attribute not found"),
        (highlight("n", None), "full-text search"),
        (highlight("t", None), "rank_fragments_by"),
        (Compute::Score(bm25("n", "a")), "full-text search"),
        (Compute::Score(Score::Attribute("t".into())), "\"t\" is string"),
        (Compute::Filter(filter_of_nothing), "\"x\": "),
    ] {
        refused(vec![("x", compute)], |_| {}, part);
    }
    let count = Aggregation {
        aggregates: vec![("n".into(), Aggregate::Count)],
        group_by: Vec::new(),
    };
    refused(
        vec![("x", Compute::Filter(is_five()))],
        |q| q.aggregation = Some(count),
        "aggregate_by returns none",
    );
    let names: Vec<String> = (0..257).map(|n| format!("x{n}")).collect();
    let many = names.iter().map(|n| (n.as_str(), Compute::Filter(is_five()))).collect();
    refused(many, |_| {}, "at most 256");
}
