use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::model::query::{Projection, VectorQuery};
use crate::model::{Filter, FilterOp, Invalid, InvalidKind, Limits, RankBy};

fn write_text(body: &str) -> Result<String, Invalid> {
    write::to_v2(body.as_bytes(), 1 << 20).map(|text| String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn writes_become_the_text_of_v2() {
    for (v1, v2) in [
        ("{}", "{}"),
        (
            r#"{"upserts":[{"id":1,"vector":[1,2.50],"attributes":{"a":"x","b":[1]}},{"attributes":null,"id":"s"}],"schema":null}"#,
            r#"{"upsert_rows":[{"id":1,"vector":[1,2.50],"a":"x","b":[1]},{"id":"s"}]}"#,
        ),
        (
            r#"{"upserts":[{"id":1,"vector":null},{"id":2,"vector":[1]},{"id":3,"vector":null,"attributes":{"a":null}}]}"#,
            r#"{"upsert_rows":[{"id":2,"vector":[1]}],"deletes":[1,3]}"#,
        ),
        (r#"{"upserts":[{"id":1,"vector":null}]}"#, r#"{"deletes":[1]}"#),
        (r#"{"upserts":[]}"#, "{}"),
        (
            r#"{"ids":[1,2],"vectors":[[1],"zczM"],"attributes":{"a":["x",null]},"distances":null,"distance_metric":"cosine_distance"}"#,
            r#"{"upsert_columns":{"id":[1,2],"vector":[[1],"zczM"],"a":["x",null]},"distance_metric":"cosine_distance"}"#,
        ),
        (
            r#"{"ids":[1],"vectors":null,"attributes":{"a":[1]}}"#,
            r#"{"upsert_columns":{"id":[1],"a":[1]}}"#,
        ),
        (r#"{"ids":[1,"b"],"vectors":[null, null]}"#, r#"{"deletes":[1,"b"]}"#),
        (
            r#"{"ids":[1,2,3],"vectors":[[1],null,[3]],"attributes":{"a":["x",null,"z"],"n":[null,null,"null"]}}"#,
            r#"{"upsert_columns":{"id":[1,3],"vector":[[1],[3]],"a":["x","z"],"n":[null,"null"]},"deletes":[2]}"#,
        ),
        (
            r#"{"ids":["null"],"vectors":["null"]}"#,
            r#"{"upsert_columns":{"id":["null"],"vector":["null"]}}"#,
        ),
        (
            r#"{"delete_by_filter":["a","Eq",1],"copy_from_namespace":null}"#,
            r#"{"delete_by_filter":["a","Eq",1]}"#,
        ),
        (
            r#"{"delete_by_filter":{"a":[["Gt",1],["Lt",5]],"b":["Eq","x"]}}"#,
            r#"{"delete_by_filter":["And",[["a","Gt",1],["a","Lt",5],["b","Eq","x"]]]}"#,
        ),
        (r#"{"copy_from_namespace":"src"}"#, r#"{"copy_from_namespace":"src"}"#),
    ] {
        assert_eq!(write_text(v1).as_deref(), Ok(v2), "{v1}");
    }
}

#[test]
fn writes_that_cannot_be_meant_are_refused() {
    use InvalidKind::{Semantic, Shape};
    for (body, kind, sentence) in [
        ("", Semantic, "not valid JSON"),
        ("[]", Shape, "expected struct Write"),
        ("{\"ids\":[1", Semantic, "not valid JSON"),
        (
            r#"{"upserts":{}}"#,
            Shape,
            "upserts: invalid type: map, expected a sequence",
        ),
        (
            r#"{"upserts":[1]}"#,
            Shape,
            "upserts[0]: invalid type: integer `1`, expected struct Row",
        ),
        (r#"{"upserts":[{"vector":[1]}]}"#, Shape, "missing field `id`"),
        (r#"{"upserts":[{"id":1,"x":1}]}"#, Shape, "unknown field `x`"),
        (r#"{"upserts":[{"id":1,"attributes":[]}]}"#, Shape, "expected a map"),
        (
            r#"{"upserts":[{"id":1,"attributes":{"id":2}}]}"#,
            Semantic,
            "may not contain \"id\"",
        ),
        (
            r#"{"upserts":[{"id":1,"attributes":{"vector":[2]}}]}"#,
            Semantic,
            "may not contain \"vector\"",
        ),
        (
            r#"{"upserts":[{"id":1,"vector":null,"attributes":{"a":1}}]}"#,
            Semantic,
            "null vector deletes",
        ),
        (r#"{"upserts":[],"ids":[]}"#, Semantic, "exclude each other"),
        (r#"{"vectors":[[1]]}"#, Semantic, "need ids"),
        (r#"{"upserts":[],"attributes":{}}"#, Semantic, "need ids"),
        (
            r#"{"ids":[1],"vectors":[null,[1]]}"#,
            Semantic,
            "ids has 1 elements and vectors 2",
        ),
        (
            r#"{"ids":[1,2],"vectors":[null,[1]],"attributes":{"a":[null]}}"#,
            Semantic,
            "\"a\" has 1 elements",
        ),
        (
            r#"{"ids":[1,2],"vectors":[null,[1]],"attributes":{"a":["x",null]}}"#,
            Semantic,
            "null vector deletes",
        ),
        (
            r#"{"ids":[1],"vectors":[[1]],"attributes":{"id":[1]}}"#,
            Semantic,
            "may not contain",
        ),
        (r#"{"ids":1,"vectors":[null]}"#, Shape, "ids: invalid type"),
        (
            r#"{"ids":[1],"vectors":{"a":null}}"#,
            Shape,
            "vectors: invalid type: map",
        ),
        (r#"{"ids":[1],"attributes":[null]}"#, Shape, "attributes: invalid type"),
        (r#"{"upsert_rows":[]}"#, Shape, "unknown field `upsert_rows`"),
        (r#"{"delete_by_filter":{"a":1}}"#, Shape, "filters must be"),
        (r#"{"delete_by_filter":{"a":[["Eq"]]}}"#, Shape, "filters must be"),
        (r#"{"delete_by_filter":{"a":[[1,2]]}}"#, Shape, "filters must be"),
    ] {
        let e = write_text(body).expect_err(body);
        assert!(e.kind == kind && e.message.contains(sentence), "{body}: {e:?}");
    }
    let long = format!(r#"{{"delete_by_filter":["a","Eq","{}"]}}"#, "x".repeat(100));
    assert!(write::to_v2(long.as_bytes(), 100).is_err());
    assert!(write::to_v2(long.as_bytes(), 200).is_ok());
    assert!(write::to_v2(b"{\"\xff\":1}", 100).is_err());
}

/// Few ids and values, so that deletes, nulls and repeats happen in almost every run.
fn any_row() -> impl Strategy<Value = (u64, Option<Vec<u8>>, Option<u8>)> {
    (
        0..9_u64,
        prop::option::weighted(0.7, vec(0..9_u8, 2)),
        prop::option::of(0..9_u8),
    )
}

proptest! {
    #[test]
    fn rows_and_columns_write_what_a_naive_translation_writes(rows in vec(any_row(), 0..12)) {
        // What is deleted has no attributes.
        let attribute = |row: &(u64, Option<Vec<u8>>, Option<u8>)| row.1.as_ref().and(row.2);
        let kept: Vec<_> = rows.iter().filter(|r| r.1.is_some()).collect();
        let deletes: Vec<_> = rows.iter().filter(|r| r.1.is_none()).map(|r| r.0).collect();

        let upserts: Vec<Json> = rows
            .iter()
            .map(|r| json!({"id": r.0, "vector": r.1, "attributes": {"a": attribute(r)}}))
            .collect();
        let mut expected = json!({});
        if !kept.is_empty() {
            expected["upsert_rows"] =
                kept.iter().map(|r| json!({"id": r.0, "vector": r.1, "a": r.2})).collect();
        }
        if !deletes.is_empty() {
            expected["deletes"] = json!(deletes);
        }
        let text = write_text(&json!({"upserts": upserts}).to_string()).expect("valid");
        prop_assert_eq!(serde_json::from_str::<Json>(&text).expect("JSON"), expected);

        let columns = json!({
            "ids": rows.iter().map(|r| r.0).collect::<Vec<_>>(),
            "vectors": rows.iter().map(|r| r.1.clone()).collect::<Vec<_>>(),
            "attributes": {"a": rows.iter().map(attribute).collect::<Vec<_>>()},
        });
        let mut expected = json!({});
        if !kept.is_empty() || rows.is_empty() {
            expected["upsert_columns"] = json!({
                "id": kept.iter().map(|r| r.0).collect::<Vec<_>>(),
                "vector": kept.iter().map(|r| r.1.clone()).collect::<Vec<_>>(),
                "a": kept.iter().map(|r| r.2).collect::<Vec<_>>(),
            });
        }
        if !deletes.is_empty() {
            expected["deletes"] = json!(deletes);
        }
        let body = columns.to_string();
        let text = write_text(&body).expect("valid");
        prop_assert!(text.len() <= body.len() + FRAME_BYTES);
        prop_assert_eq!(serde_json::from_str::<Json>(&text).expect("JSON"), expected);
    }
}

fn parsed(body: Json) -> crate::model::Query {
    let (request, _) = query::parse(body.to_string().as_bytes(), &Limits::default()).expect("a valid query");
    request.read.queries.into_iter().next().expect("one query")
}

#[test]
fn queries_mean_what_they_meant() {
    let nulls = json!({"vector": null, "distance_metric": null, "top_k": null, "include_vectors": null,
        "include_attributes": null, "filters": null, "rank_by": null, "consistency": null});
    let all = parsed(nulls);
    assert_eq!(all.limit, 10);
    assert!(matches!(&all.rank_by, Some(RankBy::Order(keys)) if keys[0].0 == "id"));
    assert_eq!(all.include, Projection::None);

    let nearest = parsed(
        json!({"vector": [1, 2], "top_k": 3, "include_vectors": true, "include_attributes": ["a"],
        "filters": {"a": [["Eq", 1]]}}),
    );
    assert_eq!(nearest.limit, 3);
    assert!(matches!(
        &nearest.rank_by,
        Some(RankBy::Nearest { attribute, query: VectorQuery::One(v), exact: false }) if attribute == "vector" && *v == [1.0, 2.0]
    ));
    assert_eq!(nearest.include, Projection::Only(vec!["a".into(), "vector".into()]));
    assert!(matches!(
        &nearest.filter,
        Some(Filter::And(all)) if matches!(&all[..], [Filter::Compare { op: FilterOp::Eq, .. }])
    ));
    let included = |body| parsed(body).include;
    assert_eq!(
        included(json!({"include_attributes": true, "include_vectors": true})),
        Projection::All
    );
    assert_eq!(
        included(json!({"include_attributes": true})),
        Projection::Except(vec!["vector".into()])
    );
    assert_eq!(
        included(json!({"include_attributes": false, "include_vectors": true})),
        Projection::Only(vec!["vector".into()])
    );
}

#[test]
fn queries_that_contradict_themselves_are_refused() {
    for body in [
        json!({"vector": [1], "rank_by": ["id", "asc"]}),
        json!({"top_k": -1}),
        json!({"top_k": 10_001}),
        json!({"include_attributes": 1}),
        json!({"include_attributes": [1]}),
        json!({"filters": {"a": 1}}),
        json!({"filters": 1}),
        json!({"limit": 1}),
        json!({"consistency": "strong"}),
        json!({"distance_metric": "manhattan", "vector": [1]}),
        json!([1]),
    ] {
        assert!(
            query::parse(body.to_string().as_bytes(), &Limits::default()).is_err(),
            "{body}"
        );
    }
}

#[test]
fn cursors_come_back_as_the_ids_they_were_made_of() {
    for cursor in ["!", "e30", "bnVsbA", "", &"A".repeat(5000)] {
        assert!(export::read(Some(cursor)).is_err(), "{cursor}");
    }
    // `17` and `"a b"` as JSON in base64.
    for cursor in ["MTc", "ImEgYiI"] {
        let read = export::read(Some(cursor)).expect("ours");
        assert!(read.queries[0].filter.is_some());
    }
    assert!(export::read(None).expect("the first page").queries[0].filter.is_none());
}
