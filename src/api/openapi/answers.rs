//! Answers, which are printed by hand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value as Json, json};

use super::expressions::{Id, written};

/// An object with these fields; those after `optional` may be absent. Open: clients must take more.
fn object(required: &[(&str, Json)], optional: &[(&str, Json)]) -> Json {
    let fields = required
        .iter()
        .chain(optional)
        .map(|(name, field)| ((*name).to_owned(), field.clone()));
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "properties": fields.collect::<serde_json::Map<_, _>>(), "required": names})
}

fn closed(mut object: Json) -> Json {
    object["additionalProperties"] = false.into();
    object
}

fn count() -> Json {
    json!({"type": "integer", "minimum": 0})
}

fn number() -> Json {
    json!({"type": "number"})
}

fn text() -> Json {
    json!({"type": "string"})
}

fn time() -> Json {
    json!({"type": "string", "format": "date-time"})
}

fn list(items: impl Into<Json>) -> Json {
    json!({"type": "array", "items": items.into()})
}

fn part<T: JsonSchema>(generator: &mut SchemaGenerator) -> Json {
    generator.subschema_for::<T>().into()
}

written! {
    /// Every error.
    Error, |_g| closed(object(&[("status", json!({"const": "error"})), ("error", text())], &[]))
}

written! {
    /// Every error of Typesense's routes.
    TypesenseError, |_g| closed(object(&[("message", text())], &[]))
}

written! {
    /// Every error of the control plane.
    TursoError, |_g| closed(object(&[("error", text())], &[("code", text())]))
}

written! {
    /// The answer to a write.
    WriteAnswer, |g| {
        let ids = || list(g_id());
        let _ = part::<Id>(g);
        let query = object(
            &[("billable_logical_bytes_queried", count()), ("billable_logical_bytes_returned", count())],
            &[],
        );
        object(
            &[
                ("status", json!({"const": "OK"})),
                ("message", text()),
                ("rows_affected", count()),
                ("billing", object(&[("billable_logical_bytes_written", count())], &[("query", query)])),
                (
                    "performance",
                    object(
                        &[("server_total_ms", json!({"type": "integer", "minimum": 1}))],
                        &[("embedding_ms", count()), ("embedding_tokens", count())],
                    ),
                ),
            ],
            &[
                ("rows_upserted", count()),
                ("rows_patched", count()),
                ("rows_deleted", count()),
                ("rows_remaining", json!({"type": "boolean"})),
                ("upserted_ids", ids()),
                ("patched_ids", ids()),
                ("deleted_ids", ids()),
            ],
        )
    }
}

fn g_id() -> Json {
    json!({"$ref": "#/components/schemas/Id"})
}

written! {
    /// A row of an answer: its attributes stand beside `id` and `$dist`; nulls are left out.
    Row, |g| object(&[("id", part::<Id>(g))], &[("$dist", number())])
}

written! {
    /// Rows, aggregates, or groups.
    QueryResult, |g| json!({
        "anyOf": [
            object(&[("rows", list(part::<Row>(g)))], &[]),
            object(&[("aggregations", json!({"type": "object"}))], &[]),
            object(&[("aggregation_groups", list(json!({"type": "object"})))], &[]),
        ],
    })
}

written! {
    /// The answer to a query: one result, or `results` for several queries.
    QueryAnswer, |g| {
        let result = part::<QueryResult>(g);
        let billing = object(
            &[("billable_logical_bytes_queried", count()), ("billable_logical_bytes_returned", count())],
            &[],
        );
        let ms = || json!({"type": "integer", "minimum": 1});
        let performance = object(
            &[
                ("approx_namespace_size", count()),
                ("cache_hit_ratio", json!({"type": "number", "minimum": 0, "maximum": 1})),
                ("cache_temperature", json!({"enum": ["hot", "warm", "cold"]})),
                ("exhaustive_search_count", count()),
                ("query_execution_ms", ms()),
                ("server_total_ms", ms()),
                ("last_included_write_at", time()),
            ],
            &[("embedding_ms", count()), ("embedding_tokens", count())],
        );
        let mut answer = object(&[("billing", billing), ("performance", performance)], &[]);
        answer["anyOf"] = json!([result, object(&[("results", list(result.clone()))], &[])]);
        answer
    }
}

written! {
    /// The plan of a query, for people.
    PlanAnswer, |_g| closed(object(&[("plan_text", text())], &[]))
}

written! {
    /// A page of namespaces.
    NamespacePage, |_g| closed(object(
        &[("namespaces", list(closed(object(&[("id", text())], &[]))))],
        &[("next_cursor", text())],
    ))
}

fn full_text() -> Json {
    closed(object(
        &[
            ("tokenizer", text()),
            ("language", text()),
            ("stemming", json!({"type": "boolean"})),
            ("remove_stopwords", json!({"type": "boolean"})),
            ("case_sensitive", json!({"type": "boolean"})),
            ("ascii_folding", json!({"type": "boolean"})),
            ("max_token_length", count()),
            ("k1", number()),
            ("b", number()),
            ("k3", number()),
        ],
        &[],
    ))
}

/// Options that are there only when they are on.
fn options() -> Vec<(&'static str, Json)> {
    let on = || json!({"const": true});
    vec![
        ("regex", on()),
        ("glob", on()),
        ("fuzzy", on()),
        ("sparse_knn", json!({"type": "object"})),
        ("embed", json!({"type": ["string", "object"]})),
    ]
}

fn by_name(entry: Json) -> Json {
    json!({"type": "object", "additionalProperties": entry})
}

written! {
    /// The schema as v1 prints it: what cannot apply is null.
    SchemaV1, |_g| {
        let mut optional = options();
        optional.push(("ann", json!({"const": true})));
        by_name(closed(object(
            &[
                ("type", text()),
                ("filterable", json!({"type": ["boolean", "null"]})),
                ("full_text_search", json!({"anyOf": [full_text(), {"type": "null"}]})),
            ],
            &optional,
        )))
    }
}

written! {
    /// The schema as v2 prints it: what cannot apply is absent.
    SchemaV2, |_g| {
        let ann = object(&[("distance_metric", text())], &[("late_interaction", json!({"const": true}))]);
        let mut optional = options();
        optional.extend([("filterable", json!({"type": "boolean"})), ("full_text_search", full_text()), ("ann", ann)]);
        by_name(closed(object(&[("type", text())], &optional)))
    }
}

fn metadata(schema: Json, encryption: Json) -> Json {
    let index = json!({
        "anyOf": [
            closed(object(&[("status", json!({"const": "up-to-date"}))], &[])),
            closed(object(
                &[
                    ("status", json!({"const": "updating"})),
                    ("unindexed_bytes", count()),
                    ("unindexed_rows", count()),
                ],
                &[],
            )),
        ],
    });
    object(
        &[
            ("approx_logical_bytes", count()),
            ("approx_row_count", count()),
            ("created_at", time()),
            ("updated_at", time()),
            ("last_write_at", time()),
            ("encryption", encryption),
            ("index", index),
            ("schema", schema),
        ],
        &[
            ("pinning", json!({"type": "object"})),
            ("read_only", json!({"const": true})),
            ("sharding", object(&[("num_shards", count())], &[])),
            ("branching", object(&[("parent", json!(true))], &[])),
        ],
    )
}

written! {
    /// What is known of a namespace, as v1 prints it.
    MetadataV1, |g| metadata(part::<SchemaV1>(g), json!({"type": "object"}))
}

written! {
    /// What is known of a namespace, as v2 prints it.
    MetadataV2, |g| metadata(part::<SchemaV2>(g), object(&[("mode", text())], &[]))
}

written! {
    /// What an operation is asked after with.
    Token, |_g| closed(object(&[("token", text())], &[]))
}

written! {
    /// The state of a copy.
    CopyState, |g| {
        let failure = object(&[("status_code", count()), ("detail", part::<Error>(g))], &[]);
        let success = object(
            &[
                ("status", json!({"const": "OK"})),
                ("message", text()),
                ("rows_affected", count()),
                ("billing", object(&[("billable_logical_bytes_written", count())], &[])),
            ],
            &[],
        );
        let result = json!({"anyOf": [
            closed(object(&[("success", success)], &[])),
            closed(object(&[("error", failure)], &[])),
        ]});
        json!({"anyOf": [
            closed(object(
                &[("status", json!({"const": "running"})), ("start_time", time()), ("progress", text())],
                &[],
            )),
            closed(object(
                &[
                    ("status", json!({"const": "finished"})),
                    ("start_time", time()),
                    ("finish_time", time()),
                    ("result", result),
                ],
                &[],
            )),
        ]})
    }
}

written! {
    /// Done.
    Done, |_g| closed(object(&[("status", json!({"enum": ["OK", "ok"]}))], &[]))
}

written! {
    /// Done, or begun.
    Hinted, |_g| closed(object(&[("status", json!({"enum": ["OK", "ACCEPTED"]})), ("message", text())], &[]))
}

written! {
    /// Averages over all queries.
    RecallAnswer, |g| {
        let truth = closed(object(
            &[("query_vector", json!({"type": "array"})), ("nearest_neighbors", list(part::<Row>(g)))],
            &[],
        ));
        closed(object(
            &[
                ("avg_recall", json!({"type": "number", "minimum": 0, "maximum": 1})),
                ("avg_exhaustive_count", json!({"type": "number", "minimum": 0})),
                ("avg_ann_count", json!({"type": "number", "minimum": 0})),
            ],
            &[("ground_truth", list(truth))],
        ))
    }
}

written! {
    /// The rows of an answer in v1: a bare array.
    LegacyRows, |g| list(closed(object(
        &[("id", part::<Id>(g))],
        &[("dist", number()), ("attributes", json!({"type": "object"})), ("vector", json!({"type": "array"}))],
    )))
}

written! {
    /// A page of an export, as columns.
    LegacyExport, |g| closed(object(
        &[
            ("ids", list(part::<Id>(g))),
            ("vectors", json!({"type": ["array", "null"], "items": {"type": ["array", "null"]}})),
            ("attributes", by_name(json!({"type": "array"}))),
            ("next_cursor", json!({"type": ["string", "null"]})),
        ],
        &[],
    ))
}

written! {
    /// This document.
    Document, |_g| object(&[("openapi", text()), ("paths", json!({"type": "object"}))], &[])
}
