//! One description per route.

use schemars::SchemaGenerator;
use serde_json::json;

use super::answers::{
    CopyState, Document, Done, Hinted, LegacyExport, LegacyRows, MetadataV1, MetadataV2, NamespacePage, PlanAnswer,
    QueryAnswer, RecallAnswer, SchemaV1, Token, WriteAnswer,
};
use super::expressions::SchemaUpdate;
use super::requests::{CopyRequest, LegacyWrite, QueryRequest, SettingsUpdate, WriteRequest};
use super::{Operation, Tag};
use crate::api::handlers::ListOptions;
use crate::api::inspect::{RecallBody, RecallOptions};
use crate::api::legacy::{ExportOptions, LegacyQuery};

/// Describes one route; named schemas go to the generator.
pub type Describe = fn(&mut SchemaGenerator) -> Operation;

/// What every request with a key can fail with, and one that names a namespace besides.
pub(super) const KNOWN: &[u16] = &[400, 401, 429, 500, 503];
pub(super) const NAMED: &[u16] = &[400, 401, 402, 403, 404, 429, 500, 503];
/// The same with a body.
pub(super) const BODY: &[u16] = &[400, 401, 402, 403, 404, 408, 413, 415, 422, 429, 500, 503];

pub fn list(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "listNamespaces",
        Tag::Namespaces,
        "Lists namespaces by name, page by page",
    )
    .asks::<ListOptions>(g)
    .answers::<NamespacePage>(200, "A page.", g)
    .fails(KNOWN)
}

pub fn write(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "write",
        Tag::Data,
        "Writes rows, all or none; creates the namespace if need be",
    )
    .takes::<WriteRequest>(g)
    .answers::<WriteAnswer>(200, "Everything is durable.", g)
    .fails(BODY)
}

pub fn query(g: &mut SchemaGenerator) -> Operation {
    Operation::new("query", Tag::Data, "Answers one query, or several on one snapshot")
        .takes::<QueryRequest>(g)
        .answers::<QueryAnswer>(200, "What was found.", g)
        .fails(BODY)
}

pub fn delete(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "deleteNamespace",
        Tag::Namespaces,
        "Deletes a namespace; its name can be used again at once",
    )
    .answers::<Done>(200, "It is gone.", g)
    .fails(NAMED)
}

pub fn metadata_v1(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "metadataV1",
        Tag::Namespaces,
        "Says what is known of a namespace, in the shape of v1",
    )
    .answers::<MetadataV1>(200, "What is known.", g)
    .fails(NAMED)
}

pub fn metadata_v2(g: &mut SchemaGenerator) -> Operation {
    Operation::new("metadata", Tag::Namespaces, "Says what is known of a namespace")
        .answers::<MetadataV2>(200, "What is known.", g)
        .fails(NAMED)
}

pub fn update_metadata(g: &mut SchemaGenerator) -> Operation {
    Operation::new("updateMetadata", Tag::Namespaces, "Changes the settings of a namespace")
        .takes::<SettingsUpdate>(g)
        .answers::<MetadataV1>(200, "What is known after the change.", g)
        .fails(BODY)
}

pub fn start_copy(g: &mut SchemaGenerator) -> Operation {
    Operation::new("startCopy", Tag::Data, "Starts to copy a namespace into this one")
        .takes::<CopyRequest>(g)
        .answers::<Token>(200, "It is under way; the token tells which it is.", g)
        .fails(BODY)
}

pub fn poll_copy(g: &mut SchemaGenerator) -> Operation {
    Operation::new("pollCopy", Tag::Data, "Says how far a copy has come")
        .answers::<CopyState>(200, "It runs, or has ended.", g)
        .fails(NAMED)
}

pub fn schema(g: &mut SchemaGenerator) -> Operation {
    Operation::new("schema", Tag::Namespaces, "Returns the schema")
        .answers::<SchemaV1>(200, "The schema.", g)
        .fails(NAMED)
}

pub fn update_schema(g: &mut SchemaGenerator) -> Operation {
    Operation::new("updateSchema", Tag::Namespaces, "Adds, changes and drops attributes")
        .takes::<SchemaUpdate>(g)
        .answers::<SchemaV1>(200, "The whole schema after the change.", g)
        .fails(BODY)
}

pub fn warm(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "hintCacheWarm",
        Tag::Namespaces,
        "Opens the namespace on this node and begins to load its indexes",
    )
    .answers::<Hinted>(200, "It was open, and loaded before.", g)
    .answers::<Hinted>(202, "It is being loaded.", g)
    .fails(NAMED)
}

pub fn recall(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "recall",
        Tag::Debugging,
        "Measures the recall of nearest-neighbour queries",
    )
    .takes::<RecallBody>(g)
    .answers::<RecallAnswer>(200, "What was measured.", g)
    .fails(BODY)
}

pub fn explain(g: &mut SchemaGenerator) -> Operation {
    Operation::new("explainQuery", Tag::Debugging, "Says in words how a query is answered")
        .takes::<QueryRequest>(g)
        .answers::<PlanAnswer>(200, "The plan.", g)
        .fails(BODY)
}

pub fn recall_by_query_string(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "recallByQueryString",
        Tag::Legacy,
        "Measures the recall of nearest-neighbour queries",
    )
    .asks::<RecallOptions>(g)
    .answers::<RecallAnswer>(200, "What was measured.", g)
    .fails(NAMED)
}

pub fn warm_cache(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "warmCache",
        Tag::Debugging,
        "Opens the namespace on this node and begins to load its indexes",
    )
    .answers::<Hinted>(200, "It is open.", g)
    .fails(NAMED)
}

pub fn purge_cache(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "purgeCache",
        Tag::Debugging,
        "Closes the namespace on this node and drops what its cache has of it, so that the next read is cold",
    )
    .answers::<Hinted>(200, "It is closed.", g)
    .fails(NAMED)
}

pub fn read_only_optimize(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "readOnlyOptimize",
        Tag::Namespaces,
        "Prepares a namespace for reading; nothing is needed here",
    )
    .answers::<Done>(200, "It is ready.", g)
    .fails(NAMED)
}

pub fn legacy_write(g: &mut SchemaGenerator) -> Operation {
    Operation::new("legacyWrite", Tag::Legacy, "Writes rows")
        .takes::<LegacyWrite>(g)
        .answers::<WriteAnswer>(200, "Everything is durable.", g)
        .fails(BODY)
}

pub fn legacy_query(g: &mut SchemaGenerator) -> Operation {
    Operation::new("legacyQuery", Tag::Legacy, "Answers a query with a bare array")
        .takes::<LegacyQuery>(g)
        .answers::<LegacyRows>(200, "What was found.", g)
        .fails(BODY)
}

pub fn legacy_export(g: &mut SchemaGenerator) -> Operation {
    export("legacyExport", g)
}

pub fn legacy_vectors(g: &mut SchemaGenerator) -> Operation {
    export("legacyExportNext", g)
}

fn export(id: &'static str, g: &mut SchemaGenerator) -> Operation {
    Operation::new(id, Tag::Legacy, "Returns all rows in id order, page by page")
        .asks::<ExportOptions>(g)
        .answers::<LegacyExport>(200, "A page.", g)
        .fails(NAMED)
}

pub fn legacy_head(_: &mut SchemaGenerator) -> Operation {
    let headers = json!({
        "X-turbopuffer-Dimensions": {"schema": {"type": "integer"}},
        "X-turbopuffer-Approx-Num-Vectors": {"schema": {"type": "integer"}},
        "X-turbopuffer-Created-At": {"schema": {"type": "string", "format": "date-time"}},
    });
    Operation::new(
        "legacyHead",
        Tag::Legacy,
        "Says in headers what is known of a namespace",
    )
    .answers_with(200, json!({"description": "It exists.", "headers": headers}))
    .fails(NAMED)
}

pub fn legacy_delete(g: &mut SchemaGenerator) -> Operation {
    Operation::new("legacyDelete", Tag::Legacy, "Deletes a namespace")
        .answers::<Done>(200, "It is gone.", g)
        .fails(NAMED)
}

pub fn legacy_delete_index(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "legacyDeleteIndex",
        Tag::Legacy,
        "Does nothing: the server alone makes and replaces indexes",
    )
    .answers::<Done>(200, "Done.", g)
    .fails(NAMED)
}

pub fn live(g: &mut SchemaGenerator) -> Operation {
    health("live", "Says that the process runs", g)
}

pub fn started(g: &mut SchemaGenerator) -> Operation {
    health("started", "Says that the store was there when the process started", g)
}

fn health(id: &'static str, summary: &'static str, g: &mut SchemaGenerator) -> Operation {
    Operation::new(id, Tag::Operations, summary).answers::<Done>(200, "It does.", g)
}

pub fn ready(g: &mut SchemaGenerator) -> Operation {
    health("ready", "Says whether requests should come here", g).fails(&[503])
}

pub fn prometheus(_: &mut SchemaGenerator) -> Operation {
    let text = json!({"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}});
    Operation::new("metrics", Tag::Operations, "Metrics in the format of Prometheus").answers_with(200, text)
}

pub fn document(g: &mut SchemaGenerator) -> Operation {
    Operation::new("openapi", Tag::Operations, "Returns this document").answers::<Document>(200, "It.", g)
}
