//! Embedding: which texts want a vector, where it goes, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::model::embed::{Embeddings, Models};
use crate::model::schema_json;
use crate::model::write::{prepare_schema_with, prepare_with};
use crate::model::{AttrType, Metric};

fn models() -> Arc<Models> {
    Arc::new(Models::new([
        ("small".into(), 2),
        ("large".into(), 4),
        ("wide".into(), 10_000),
    ]))
}

fn prepared(body: &str, schema: &Schema, embeddings: &Arc<Embeddings>) -> Result<Write, Invalid> {
    prepare_with(body.as_bytes(), schema, &Limits::default(), embeddings)
}

/// The write as it comes to the commit loop: `vector(text)` is what the model makes.
fn complete(body: &str, schema: &Schema, vector: impl Fn(&str) -> Vec<f32>) -> Write {
    let none = Arc::new(Embeddings::of(models()));
    let write = prepared(body, schema, &none).unwrap();
    let mut made = Embeddings::of(models());
    for wanted in write.wanted {
        let vectors = wanted.texts.iter().map(|t| vector(t).into()).collect();
        made.add(wanted, vectors);
    }
    let write = prepared(body, schema, &Arc::new(made)).unwrap();
    assert!(write.wanted.is_empty());
    write
}

fn after(body: &str) -> Schema {
    let mut schema = Schema::default();
    let none = Arc::new(Embeddings::of(models()));
    schema.apply(&prepared(body, &schema, &none).unwrap().schema);
    schema
}

fn length(text: &str) -> Vec<f32> {
    vec![text.len() as f32, 1.0]
}

fn vectors(write: &Write, name: &str) -> Vec<Option<Vec<f32>>> {
    let rows = write.upserts.as_ref().unwrap();
    let Some(column) = rows.column(name) else {
        return vec![None; rows.len()];
    };
    let Column::Vectors(v) = &column.column else { panic!() };
    let all = floats(rows, name);
    let row = |r| all[r * v.dims as usize..(r + 1) * v.dims as usize].to_vec();
    (0..v.len()).map(|r| (!v.is_null(r)).then(|| row(r))).collect()
}

const EMBED: &str = r#"{"schema": {"text": {"type": "string", "embed": "small"}}, "upsert_rows": [{"id": 1}]}"#;

#[test]
fn texts_without_a_vector_want_one_each_once() {
    let body = r#"{"schema": {"text": {"embed": "small"}}, "upsert_rows": [{"id": 1, "text": "a"},
        {"id": 2, "text": "bb"}, {"id": 3, "text": "a"}, {"id": 4, "text": null}, {"id": 5}, {"id": 6, "text": " \n"},
        {"id": 7, "text": "mine", "$embed_text": [7, 7]}]}"#;
    let none = Arc::new(Embeddings::of(models()));
    let write = prepared(body, &Schema::default(), &none).unwrap();
    assert_eq!(write.wanted.len(), 1);
    assert_eq!((&*write.wanted[0].model, write.wanted[0].dims), ("small", 2));
    assert_eq!(write.wanted[0].texts, ["a", "bb"]);
    let write = complete(body, &Schema::default(), length);
    let expected = [
        Some(vec![1.0, 1.0]),
        Some(vec![2.0, 1.0]),
        Some(vec![1.0, 1.0]),
        None,
        None,
        None,
        Some(vec![7.0, 7.0]),
    ];
    assert_eq!(vectors(&write, "$embed_text"), expected);
    // Ids, texts, and four vectors of two numbers.
    assert_eq!(write.logical_bytes, 7 * 8 + (1 + 2 + 1 + 2 + 4) + 4 * 8);
}

#[test]
fn the_generated_column_has_the_models_dimensions() {
    let schema = after(EMBED);
    let column = schema.get("$embed_text").unwrap();
    assert_eq!(column.ty.to_string(), "[2]f32");
    assert_eq!(column.ann, Some(Metric::CosineDistance));
    assert!(column.nullable);
    let printed = schema_json::v1(&schema);
    let expected = serde_json::json!({"model": "small", "attribute": "$embed_text"});
    assert_eq!(printed["text"]["embed"], expected);
    assert_eq!(schema_json::v2(&schema)["text"]["embed"], expected);
    assert!(printed["$embed_text"].get("embed").is_none());
    let fewer = after(
        r#"{"distance_metric": "euclidean_squared", "schema": {"text": {"type": "string",
        "embed": {"model": "large", "dims": 3}}}, "upsert_rows": [{"id": 1}]}"#,
    );
    let column = fewer.get("$embed_text").unwrap();
    assert_eq!(
        (column.ty.to_string().as_str(), column.metric),
        ("[3]f32", Some(Metric::EuclideanSquared))
    );
}

#[test]
fn a_named_column_is_used_and_keeps_its_type() {
    let body = r#"{"distance_metric": "cosine_distance", "schema": {"vec": {"type": "[2]f16", "ann": true},
        "text": {"type": "string", "embed": {"model": "large", "attribute": "vec"}}},
        "upsert_rows": [{"id": 1, "text": "abc"}, {"id": 2}]}"#;
    let none = Arc::new(Embeddings::of(models()));
    // Fewer dimensions than the model has by itself are asked for.
    assert_eq!(prepared(body, &Schema::default(), &none).unwrap().wanted[0].dims, 2);
    let write = complete(body, &Schema::default(), length);
    let Column::Vectors(v) = &write.upserts.as_ref().unwrap().column("vec").unwrap().column else {
        panic!()
    };
    assert_eq!(v.row(0), [0x00, 0x42, 0x00, 0x3c], "3 and 1 as f16");
    assert!(v.is_null(1));
    let as_documented = after(
        r#"{"schema": {"text": {"type": "string", "embed": {"model": "small", "attribute": "embed_text"}}},
        "upsert_rows": [{"id": 1}]}"#,
    );
    assert_eq!(as_documented.get("embed_text").unwrap().ty.to_string(), "[2]f32");
}

#[test]
fn a_printed_schema_changes_nothing_even_without_the_model() {
    let schema = after(EMBED);
    for printed in [schema_json::v1(&schema), schema_json::v2(&schema)] {
        let body = serde_json::to_vec(&printed).unwrap();
        let change = prepare_schema_with(&body, &schema, &Limits::default(), &Models::default()).unwrap();
        assert!(change.is_empty(), "{change:?}");
    }
}

#[test]
fn embedding_can_be_switched_on_and_off_later() {
    let mut schema = after(r#"{"schema": {"text": "string"}, "upsert_rows": [{"id": 1}]}"#);
    let mut change = |body: &str| {
        let change = prepare_schema_with(body.as_bytes(), &schema, &Limits::default(), &models()).unwrap();
        schema.apply(&change);
        schema.clone()
    };
    let on = change(r#"{"text": {"embed": "small"}}"#);
    assert_eq!(on.get("$embed_text").unwrap().ty, AttrType::parse("[2]f32").unwrap());
    let same = change(r#"{"text": {"filterable": false}}"#);
    assert!(same.get("text").unwrap().embed.is_some(), "what is not mentioned stays");
    let off = change(r#"{"text": {"embed": null}}"#);
    assert!(off.get("text").unwrap().embed.is_none());
    assert!(
        off.get("$embed_text").unwrap().nullable,
        "the column stays, and rows may lack a vector"
    );
    let write = complete(r#"{"upsert_rows": [{"id": 1, "text": "abc"}]}"#, &off, length);
    assert_eq!(vectors(&write, "$embed_text"), [None]);
    let other = change(r#"{"text": {"embed": {"model": "large"}}}"#);
    let again = other.get("text").unwrap().embed.clone().unwrap();
    assert_eq!((&*again.model, &*again.target), ("large", "$embed_text"));
}

#[test]
fn the_same_bytes_serve_again_under_a_rivals_schema() {
    let schema = after(EMBED);
    let body = r#"{"upsert_rows": [{"id": 1, "text": "abc"}]}"#;
    let write = complete(body, &schema, length);
    assert!(write.fits(&schema));
    let mut rival = schema.clone();
    let other = r#"{"other": "string", "text": {"filterable": false}}"#;
    rival.apply(&prepare_schema_with(other.as_bytes(), &rival, &Limits::default(), &models()).unwrap());
    assert!(!write.fits(&rival));
    let again = prepared(body, &rival, &write.embeddings).unwrap();
    assert!(again.wanted.is_empty(), "no model is asked twice");
    assert_eq!(vectors(&again, "$embed_text"), [Some(vec![3.0, 1.0])]);
    // Another model would have to make another vector.
    let mut rival = schema.clone();
    let other = r#"{"text": {"embed": {"model": "large"}}}"#;
    rival.apply(&prepare_schema_with(other.as_bytes(), &rival, &Limits::default(), &models()).unwrap());
    assert!(!write.fits(&rival));
    assert_eq!(prepared(body, &rival, &write.embeddings).unwrap().wanted.len(), 1);
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let rows = |n: usize| -> String {
        let rows: Vec<String> = (0..n).map(|i| format!(r#"{{"id": {i}, "text": "t{i}"}}"#)).collect();
        format!(r#"{{"upsert_rows": [{}]}}"#, rows.join(","))
    };
    let none = Arc::new(Embeddings::of(models()));
    assert!(prepared(&rows(30), &after(EMBED), &none).is_ok());
    let embedded = |n: usize| {
        let all: Vec<String> = (0..n)
            .map(|i| format!(r#""t{i}": {{"type": "string", "embed": "small"}}"#))
            .collect();
        format!(r#"{{"schema": {{{}}}}}"#, all.join(","))
    };
    assert!(prepared(&embedded(4), &Schema::default(), &none).is_ok());
    let five = embedded(5);
    let long = format!(r#"{{"schema": {{"{}": {{"embed": "small"}}}}}}"#, "n".repeat(125));
    let old = after(EMBED);
    let new = Schema::default();
    let cases: &[(&Schema, &str, &str)] = &[
        (&old, &rows(31), "at most 30 rows"),
        (
            &old,
            r#"{"patch_rows": [{"id": 1, "text": "x"}]}"#,
            "\"text\" cannot be patched",
        ),
        (
            &old,
            r#"{"patch_rows": [{"id": 1, "$embed_text": [1, 2]}]}"#,
            "cannot be patched",
        ),
        (
            &old,
            r#"{"schema": {"$embed_text": {"drop": true}}}"#,
            "set embed of \"text\" to null first",
        ),
        (
            &old,
            r#"{"schema": {"text": {"embed": {"model": "small", "dims": 1}}}}"#,
            "has 2",
        ),
        (
            &old,
            r#"{"upsert_rows": [{"id": 1, "$embed_text": [1]}]}"#,
            "2 dimensions, but got 1",
        ),
        (
            &new,
            r#"{"schema": {"a": {"type": "int", "embed": "small"}}}"#,
            "embed: needs string, not int",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": "tiny"}}}"#,
            "there are large, small, wide",
        ),
        (&new, r#"{"schema": {"a": {"embed": {}}}}"#, "embed.model is missing"),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "dim": 2}}}}"#,
            "unknown key \"dim\"",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "dims": 3}}}}"#,
            "at most 2 dimensions, not 3",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "dims": 0}}}}"#,
            "not 0",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "attribute": "a"}}}}"#,
            "must name a vector column",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "attribute": "$b"}}}}"#,
            "must not begin with '$'",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "attribute": "$embed_b"}}}}"#,
            "must not begin with '$'",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "attribute": "b"}}, "b": "string"}}"#,
            "\"b\" is string",
        ),
        (
            &new,
            r#"{"distance_metric": "cosine_distance", "schema": {"b": "[2]i8",
            "a": {"embed": {"model": "small", "attribute": "b"}}}}"#,
            "need a column of f32 or f16",
        ),
        (
            &new,
            r#"{"distance_metric": "cosine_distance", "schema": {"b": "[3]f32",
            "a": {"embed": {"model": "small", "attribute": "b"}}}}"#,
            "at most 2 dimensions, not 3",
        ),
        (
            &new,
            r#"{"schema": {"a": {"embed": {"model": "small", "attribute": "v"}},
            "b": {"embed": {"model": "small", "attribute": "v"}}}}"#,
            "embedded into \"v\" already",
        ),
        (
            &new,
            r#"{"distance_metric": "cosine_distance", "schema": {"$embed_a": "[2]f32"}}"#,
            "must not begin with '$'",
        ),
        (
            &new,
            r#"{"upsert_rows": [{"id": 1, "$embed_a": [1, 2]}]}"#,
            "must not begin with '$'",
        ),
        (&new, &five, "at most 4 embedded attributes"),
        (&new, &long, "1 to 128 bytes"),
    ];
    for (schema, body, part) in cases {
        let refused = prepared(body, schema, &none).expect_err(body);
        assert_eq!(refused.kind, InvalidKind::Semantic, "{body}");
        assert!(refused.message.contains(part), "{body}: {}", refused.message);
    }
    let shape = prepared(r#"{"schema": {"a": {"embed": 7}}}"#, &new, &none).unwrap_err();
    assert_eq!(shape.kind, InvalidKind::Shape);
    let gone = prepared(&rows(1), &old, &Arc::default()).unwrap_err();
    assert!(gone.message.contains("no embedding model configured"), "{gone}");
}

#[test]
fn few_vectors_among_very_many_rows_take_no_memory() {
    let schema =
        after(r#"{"schema": {"text": {"embed": {"model": "wide", "attribute": "v"}}}, "upsert_rows": [{"id": 1}]}"#);
    let wide = vec![1.0f32; 10_000];
    let mut made = Embeddings::of(models());
    let wanted = crate::model::embed::Wanted {
        model: "wide".into(),
        dims: 10_000,
        texts: vec!["x".into()],
    };
    made.add(wanted, vec![wide.clone().into()]);
    let made = Arc::new(made);
    let own = serde_json::json!({"id": 1, "v": wide}).to_string();
    for row in [r#"{"id":1,"text":"x"}"#, &own] {
        let body = |others: u32| {
            let others: Vec<String> = (0..others).map(|i| format!(r#",{{"id":{}}}"#, i + 2)).collect();
            format!(r#"{{"upsert_rows":[{row}{}]}}"#, others.concat())
        };
        assert!(prepared(&body(1_000), &schema, &made).is_ok());
        let refused = prepared(&body(2_000), &schema, &made).expect_err("mostly absent");
        assert!(refused.message.contains("send those rows apart"), "{refused}");
    }
}

#[derive(Clone, Debug)]
struct Row {
    text: Option<&'static str>,
    own: Option<(i8, i8)>,
}

fn any_row() -> impl Strategy<Value = Row> {
    let text = prop_oneof![
        Just(None),
        Just(Some("")),
        Just(Some("a")),
        Just(Some("bb")),
        Just(Some("\u{e4} \"c\""))
    ];
    (text, proptest::option::of((-2..3i8, -2..3i8))).prop_map(|(text, own)| Row { text, own })
}

proptest! {
    /// Row by row: a row's own vector, else that of its text, else none.
    #[test]
    fn rows_and_columns_get_the_vectors_that_a_naive_model_gives(rows in proptest::collection::vec(any_row(), 1..12)) {
        let schema = after(EMBED);
        let own = |r: &Row| r.own.map(|(a, b)| serde_json::json!([a, b]));
        let as_rows: Vec<_> = rows.iter().enumerate().map(|(i, r)| {
            serde_json::json!({"id": i, "text": r.text, "$embed_text": own(r)})
        }).collect();
        let as_columns = serde_json::json!({
            "id": (0..rows.len()).collect::<Vec<_>>(),
            "text": rows.iter().map(|r| r.text).collect::<Vec<_>>(),
            "$embed_text": rows.iter().map(own).collect::<Vec<_>>(),
        });
        let expected: Vec<Option<Vec<f32>>> = rows.iter().map(|r| match (r.own, r.text) {
            (Some((a, b)), _) => Some(vec![f32::from(a), f32::from(b)]),
            (None, Some(text)) if !text.is_empty() => Some(length(text)),
            _ => None,
        }).collect();
        for body in [serde_json::json!({"upsert_rows": as_rows}), serde_json::json!({"upsert_columns": as_columns})] {
            let write = complete(&body.to_string(), &schema, length);
            prop_assert_eq!(vectors(&write, "$embed_text"), expected.clone(), "{}", body);
        }
    }
}
