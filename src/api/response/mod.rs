//! What clients read: bodies written straight into bytes.

pub mod copy;
pub(in crate::api) mod json;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::api::query::VectorEncoding;
use crate::model::embed::EmbeddingUse;
use crate::model::query::VectorQuery;
use crate::model::value::Vector;
use crate::model::{Id, NamespaceName, Settings, Value, datetime, schema_json};
use crate::namespace::{AffectedIds, Metadata, NamespacePage, QueryOutcome, Recall, WriteOutcome};
use crate::query::{AggregateValue, Computed, Fragment, Group, QueryResult, ResultRow};

/// The documented floor of bytes billed per query.
pub const BYTES_QUERIED_MIN: u64 = 256_000_000;
/// A tail smaller than this stays unindexed by design, so its index is not behind.
const UPDATING_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Which shape of an answer: paths of v1 and v2 differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The answer to a query.
///
/// * `total` — time since the request arrived
/// * `multi` — whether the request had `queries`
pub fn query(outcome: &QueryOutcome, multi: bool, encoding: VectorEncoding, total: Duration) -> Vec<u8> {
    let items: usize = outcome.results.iter().map(QueryResult::size).sum();
    let mut out = Vec::with_capacity(512 + items * 64);
    let print = match outcome.hides_id {
        true => json::result_without_ids,
        false => json::result,
    };
    match (multi, outcome.results.as_slice()) {
        (false, [only]) => {
            out.push(b'{');
            print(&mut out, only, encoding);
        }
        (_, results) => {
            out.extend_from_slice(b"{\"results\":[");
            for (i, result) in results.iter().enumerate() {
                out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
                print(&mut out, result, encoding);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    let returned: u64 = outcome.results.iter().map(bytes_returned).sum();
    let (ratio, temperature) = cache(outcome);
    let tail = format!(
        ",\"billing\":{{\"billable_logical_bytes_queried\":{BYTES_QUERIED_MIN},\
         \"billable_logical_bytes_returned\":{returned}}},\
         \"performance\":{{\"approx_namespace_size\":{},\"cache_hit_ratio\":{ratio},\
         \"cache_temperature\":\"{temperature}\",\"exhaustive_search_count\":{},\
         \"query_execution_ms\":{},\"server_total_ms\":{},\"last_included_write_at\":\"{}\"{}}}}}",
        outcome.approx_namespace_rows,
        outcome.exhaustive_search_rows,
        whole_ms(outcome.execution),
        whole_ms(total),
        timestamp(outcome.last_included_write_ms),
        embedding(outcome.embedding),
    );
    out.extend_from_slice(tail.as_bytes());
    out
}

/// `cache_hit_ratio`, which clients want with a decimal point, and `cache_temperature`.
pub(in crate::api) fn cache(outcome: &QueryOutcome) -> (String, &'static str) {
    // Down: it is 1.0 only when nothing came from the store.
    let ratio = (outcome.cache_hit_ratio() * 10_000.0).floor() / 10_000.0;
    (format!("{ratio:?}"), outcome.cache_temperature().as_str())
}

/// What embedding took, to be added to `performance`.
fn embedding(spent: Option<EmbeddingUse>) -> String {
    spent.map_or_else(String::new, |spent| {
        let EmbeddingUse { time, tokens } = spent;
        format!(",\"embedding_ms\":{},\"embedding_tokens\":{tokens}", whole_ms(time))
    })
}

/// Milliseconds rounded up, never 0.
pub(in crate::api) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

fn timestamp(ms: u64) -> String {
    datetime::format_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// The logical bytes of an answer: ids, 4 per `$dist`, and the attributes, computed ones too; of groups the keys
/// and the aggregates.
pub fn bytes_returned(result: &QueryResult) -> u64 {
    match result {
        QueryResult::Rows(rows) => rows.iter().map(row_bytes).sum(),
        QueryResult::Aggregations(values) => aggregate_bytes(values),
        QueryResult::Groups(groups) => {
            let key = |g: &Group| g.key.iter().map(|(_, v)| value_bytes(v)).sum::<u64>();
            groups.iter().map(|g| key(g) + aggregate_bytes(&g.values)).sum()
        }
    }
}

fn aggregate_bytes(values: &[(Arc<str>, AggregateValue)]) -> u64 {
    let bytes = |(_, value): &(Arc<str>, AggregateValue)| match value {
        AggregateValue::Value(value) => value_bytes(value),
        AggregateValue::Top(values) => values.iter().map(|(v, _)| value_bytes(v) + 8).sum(),
    };
    values.iter().map(bytes).sum()
}

fn row_bytes(row: &ResultRow) -> u64 {
    let id = match &row.id {
        Id::UInt(_) => 8,
        Id::Uuid(_) => 16,
        Id::String(s) => s.len() as u64,
    };
    let rank = if row.rank.is_some() { 4 } else { 0 };
    let attributes: u64 = row.attributes.iter().map(|(_, v)| value_bytes(v)).sum();
    let computed: u64 = row.computed.iter().map(|(_, v)| computed_bytes(v)).sum();
    id + rank + attributes + computed
}

/// Distances and scores count as `$dist` does, fragments as their texts and 8 per offset.
fn computed_bytes(value: &Computed) -> u64 {
    match value {
        Computed::Distance(_) | Computed::Score(_) => 4,
        Computed::Bool(_) => 1,
        Computed::Fragments(fragments) => {
            let offsets = |f: &Fragment| f.offsets.as_ref().map_or(0, |o| 16 * (1 + o.matches.len() as u64));
            fragments.iter().map(|f| f.text.len() as u64 + offsets(f)).sum()
        }
    }
}

fn value_bytes(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Datetime(_) => 8,
        Value::String(s) => s.len() as u64,
        Value::Uuid(_) => 16,
        Value::Bytes(b) => b.len() as u64,
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Vector(Vector::F32(v)) => 4 * v.len() as u64,
        Value::Vector(Vector::F16(v)) => 2 * v.len() as u64,
        Value::Vector(Vector::I8(v)) => v.len() as u64,
        Value::MultiVector { elements, .. } => 4 * elements.len() as u64,
        Value::SparseVector(entries) => entries.iter().map(|(name, _)| name.len() as u64 + 2).sum(),
    }
}

/// The answer to a write.
pub fn write(outcome: &WriteOutcome, total: Duration) -> Vec<u8> {
    let counts = [
        ("rows_upserted", outcome.rows_upserted),
        ("rows_patched", outcome.rows_patched),
        ("rows_deleted", outcome.rows_deleted),
    ];
    let affected: u64 = counts.iter().filter_map(|(_, n)| *n).sum();
    let mut out =
        format!("{{\"status\":\"OK\",\"message\":\"documents committed successfully\",\"rows_affected\":{affected}");
    for (name, count) in counts {
        if let Some(count) = count {
            out.push_str(&format!(",\"{name}\":{count}"));
        }
    }
    if let Some(remaining) = outcome.rows_remaining {
        out.push_str(&format!(",\"rows_remaining\":{remaining}"));
    }
    let mut out = out.into_bytes();
    if let Some(AffectedIds {
        upserted,
        patched,
        deleted,
    }) = &outcome.affected
    {
        json::ids(&mut out, "upserted_ids", upserted);
        json::ids(&mut out, "patched_ids", patched);
        json::ids(&mut out, "deleted_ids", deleted);
    }
    let query = match outcome.searched {
        true => format!(
            ",\"query\":{{\"billable_logical_bytes_queried\":{BYTES_QUERIED_MIN},\
             \"billable_logical_bytes_returned\":0}}"
        ),
        false => String::new(),
    };
    let tail = format!(
        ",\"billing\":{{\"billable_logical_bytes_written\":{}{query}}},\"performance\":{{\"server_total_ms\":{}{}}}}}",
        outcome.logical_bytes_written,
        whole_ms(total),
        embedding(outcome.embedding)
    );
    out.extend_from_slice(tail.as_bytes());
    out
}

/// The answer to a request for metadata.
pub fn metadata(known: &Metadata, version: Version) -> Vec<u8> {
    let (schema, encryption) = match version {
        Version::V1 => (schema_json::v1(&known.schema), serde_json::json!({"sse": true})),
        Version::V2 => (schema_json::v2(&known.schema), serde_json::json!({"mode": "default"})),
    };
    let index = match known.unindexed_bytes < UPDATING_BYTES_MIN {
        true => serde_json::json!({"status": "up-to-date"}),
        false => serde_json::json!({
            "status": "updating", "unindexed_bytes": known.unindexed_bytes, "unindexed_rows": known.unindexed_rows,
        }),
    };
    let mut body = serde_json::json!({
        "approx_logical_bytes": known.approx_bytes,
        "approx_row_count": known.approx_rows,
        "created_at": timestamp(known.created_ms),
        "updated_at": timestamp(known.updated_ms),
        "last_write_at": timestamp(known.last_write_ms),
        "encryption": encryption,
        "index": index,
        "schema": schema,
    });
    settings(&mut body, known);
    body.to_string().into_bytes()
}

/// Adds what the namespace is set to, where it is set to something.
fn settings(body: &mut serde_json::Value, known: &Metadata) {
    let Settings {
        read_only,
        pinned_replicas,
        num_shards,
        parent,
        ..
    } = &*known.settings;
    if *read_only {
        body["read_only"] = true.into();
    }
    if let Some(replicas) = pinned_replicas {
        // Every node serves every namespace: the one that answers is the replica that is known to
        // be ready, and no resources are set aside whose use could be told.
        body["pinning"] = serde_json::json!({
            "replicas": replicas,
            "status": {
                "ready_replicas": 1, "replicas": 1, "updated_at": timestamp(known.now_ms), "utilization": 0.0,
            },
        });
    }
    if let Some(shards) = num_shards {
        body["sharding"] = serde_json::json!({ "num_shards": shards });
    }
    if let Some(parent) = parent {
        body["branching"] = serde_json::json!({ "parent": parent.as_str() });
    }
}

/// A page of namespaces.
pub fn namespaces(page: &NamespacePage) -> Vec<u8> {
    let ids: Vec<_> = page
        .names
        .iter()
        .map(|n: &NamespaceName| serde_json::json!({"id": n.as_str()}))
        .collect();
    let mut body = serde_json::json!({ "namespaces": ids });
    if let Some(cursor) = &page.next_cursor {
        body["next_cursor"] = cursor.as_str().into();
    }
    body.to_string().into_bytes()
}

/// The answer to a delete.
pub fn deleted(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => br#"{"status":"ok"}"#.to_vec(),
        Version::V2 => br#"{"status":"OK"}"#.to_vec(),
    }
}

/// The answer to a hint to warm the cache.
pub fn warmed(was_warm: bool) -> Vec<u8> {
    match was_warm {
        true => br#"{"status":"OK","message":"cache is already warm"}"#.to_vec(),
        false => br#"{"status":"ACCEPTED","message":"cache warm hint accepted"}"#.to_vec(),
    }
}

/// The answer to a purge.
pub fn purged() -> Vec<u8> {
    br#"{"status":"OK","message":"this node forgot the namespace"}"#.to_vec()
}

/// The plan of a query.
pub fn plan(text: &str) -> Vec<u8> {
    serde_json::json!({ "plan_text": text }).to_string().into_bytes()
}

/// Done.
pub fn ok() -> Vec<u8> {
    br#"{"status":"OK"}"#.to_vec()
}

/// A measurement of recall.
pub fn recall(measured: &Recall) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for (name, value) in [
        ("{\"avg_recall\":", measured.avg_recall),
        (",\"avg_exhaustive_count\":", measured.avg_exhaustive),
        (",\"avg_ann_count\":", measured.avg_ann),
    ] {
        out.extend_from_slice(name.as_bytes());
        json::put(&mut out, &value);
    }
    if let Some(truth) = &measured.truth {
        out.extend_from_slice(b",\"ground_truth\":");
        json::list(&mut out, truth, |out, one| {
            out.extend_from_slice(b"{\"query_vector\":");
            query_vector(out, &one.query);
            out.extend_from_slice(b",\"nearest_neighbors\":");
            json::list(out, &one.neighbors, |out, row| {
                json::row(out, row, VectorEncoding::Float)
            });
            out.push(b'}');
        });
    }
    out.push(b'}');
    out
}

fn query_vector(out: &mut Vec<u8>, query: &VectorQuery) {
    match query {
        VectorQuery::One(vector) => json::list(out, vector, json::put),
        VectorQuery::Many(vectors) => json::list(out, vectors, |out, v| json::list(out, v, json::put)),
        VectorQuery::Embed { text, .. } => json::put(out, text),
    }
}
