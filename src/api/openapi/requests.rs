//! Bodies that are parsed by hand, and the hand-parsed parts of those that serde reads.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use super::expressions::{
    Aggregates, Columns, Compute, Filter, GroupBy, Id, Include, Limit, RankBy, Rerank, Rows, SchemaUpdate, Source,
};

/// The fields of a write. Values are read straight into columns, by a parser that no type describes;
/// a test holds that it knows every field here.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
pub struct WriteRequest {
    /// Rows to insert or replace.
    upsert_rows: Option<Rows>,
    /// The same, attribute by attribute.
    upsert_columns: Option<Columns>,
    /// Rows to change in part; those that do not exist are skipped.
    patch_rows: Option<Rows>,
    /// The same, attribute by attribute.
    patch_columns: Option<Columns>,
    /// Ids of rows to delete.
    deletes: Option<Vec<Id>>,
    /// Upserts only rows that do not exist, or of which this holds.
    upsert_condition: Option<Filter>,
    /// Patches only rows of which this holds.
    patch_condition: Option<Filter>,
    /// Deletes only rows of which this holds.
    delete_condition: Option<Filter>,
    /// Changes all rows that a filter selects.
    patch_by_filter: Option<PatchByFilter>,
    /// Whether to stop at the limit instead of refusing.
    patch_by_filter_allow_partial: Option<bool>,
    /// Deletes all rows that a filter selects.
    delete_by_filter: Option<Filter>,
    /// Whether to stop at the limit instead of refusing.
    delete_by_filter_allow_partial: Option<bool>,
    /// Whether the answer lists the ids.
    return_affected_ids: Option<bool>,
    /// Needed for new vector columns.
    distance_metric: Option<Metric>,
    schema: Option<SchemaUpdate>,
    encryption: Option<Encryption>,
    /// Makes sure that the namespace exists, or does not create it.
    create_namespace: Option<bool>,
    /// Writes also when too much is not indexed yet.
    disable_backpressure: Option<bool>,
    copy_from_namespace: Option<Source>,
    branch_from_namespace: Option<Source>,
    sharding: Option<Sharding>,
}

/// A filter, and what to change in the rows that it selects.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
struct PatchByFilter {
    filters: Filter,
    /// Attributes with their new values.
    patch: Map<String, Json>,
}

/// How distances are measured.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
pub enum Metric {
    CosineDistance,
    EuclideanSquared,
}

/// How many parts a namespace is kept in.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
struct Sharding {
    #[schemars(range(min = 1, max = 256))]
    num_shards: u32,
}

super::expressions::written! {
    /// Settings; those that are left out stay as they are.
    SettingsUpdate, |_g| json!({
        "type": "object",
        "properties": {
            "pinning": {
                "description": "Null or false: not pinned; true: one replica.",
                "anyOf": [
                    {"type": ["boolean", "null"]},
                    {"type": "object", "properties": {"replicas": {"type": ["integer", "null"], "minimum": 1}}},
                ],
            },
            "read_only": {"type": ["boolean", "null"], "description": "Refuses writes of rows and schema."},
        },
    })
}

super::expressions::written! {
    /// Which namespace to copy.
    CopyRequest, |g| json!({
        "type": "object",
        "properties": {"copy_from_namespace": g.subschema_for::<Source>()},
        "required": ["copy_from_namespace"],
    })
}

super::expressions::written! {
    /// Who holds the keys of what is stored.
    Encryption, |_g| json!({
        "type": "object",
        "properties": {"mode": {"enum": ["default", "customer-managed"]}},
    })
}

/// A write of v1: rows in `upserts`, or columns in `ids`, `vectors` and `attributes`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
pub struct LegacyWrite {
    upserts: Option<Vec<LegacyRow>>,
    ids: Option<Vec<Id>>,
    /// A null deletes the row.
    vectors: Option<Vec<Json>>,
    /// Arrays by attribute.
    attributes: Option<Map<String, Json>>,
    /// Not looked at.
    distances: Option<Json>,
    delete_by_filter: Option<super::expressions::LegacyFilter>,
    copy_from_namespace: Option<Source>,
    distance_metric: Option<Metric>,
    schema: Option<SchemaUpdate>,
    encryption: Option<Encryption>,
    disable_backpressure: Option<bool>,
}

/// One row of `upserts`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what a parser reads; no value is ever made")]
struct LegacyRow {
    id: Id,
    /// A null deletes the row.
    vector: Option<Json>,
    attributes: Option<Map<String, Json>>,
    /// Not looked at.
    dist: Option<Json>,
}

/// A query, whose fields are those of serde's type; see [`overlay`].
pub struct QueryRequest;

impl JsonSchema for QueryRequest {
    fn schema_name() -> Cow<'static, str> {
        "QueryRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // What the overlay refers to has to be there.
        for part in parts(generator) {
            drop(part);
        }
        crate::api::query::Root::json_schema(generator)
    }
}

/// Fields of queries whose values are parsed by hand.
fn parts(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
    vec![
        ("rank_by", generator.subschema_for::<RankBy>()),
        ("filters", generator.subschema_for::<Filter>()),
        ("limit", generator.subschema_for::<Limit>()),
        ("include_attributes", generator.subschema_for::<Include>()),
        ("distance_metric", generator.subschema_for::<Metric>()),
        ("aggregate_by", generator.subschema_for::<Aggregates>()),
        ("group_by", generator.subschema_for::<GroupBy>()),
        ("compute_attributes", generator.subschema_for::<Compute>()),
        ("rerank_by", generator.subschema_for::<Rerank>()),
    ]
}

/// Puts the hand-written parts where serde's types of a query have "any JSON".
pub(super) fn overlay(schemas: &mut Map<String, Json>) {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.definitions_path = "/components/schemas".into())
        .into_generator();
    let parts = parts(&mut generator);
    for name in ["QueryRequest", "Query"] {
        let Some(fields) = schemas.get_mut(name).and_then(|s| s["properties"].as_object_mut()) else {
            continue;
        };
        for (field, part) in &parts {
            if fields.contains_key(*field) {
                fields.insert((*field).to_owned(), json!({"anyOf": [part, {"type": "null"}]}));
            }
        }
    }
}
