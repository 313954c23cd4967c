//! What clients read: bodies written straight into bytes.

mod json;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::api::query::VectorEncoding;
use crate::model::value::Vector;
use crate::model::{Id, NamespaceName, Value, datetime, schema_json};
use crate::namespace::{Metadata, NamespacePage, QueryOutcome, WriteOutcome};
use crate::query::{QueryResult, ResultRow};

/// The documented floor of bytes billed per query.
const BYTES_QUERIED_MIN: u64 = 256_000_000;
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
    let rows: usize = outcome.results.iter().map(|r| r.rows().len()).sum();
    let mut out = Vec::with_capacity(512 + rows * 64);
    match (multi, outcome.results.as_slice()) {
        (false, [only]) => {
            out.push(b'{');
            json::rows(&mut out, only, encoding);
        }
        (_, results) => {
            out.extend_from_slice(b"{\"results\":[");
            for (i, result) in results.iter().enumerate() {
                out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
                json::rows(&mut out, result, encoding);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    let returned: u64 = outcome.results.iter().map(bytes_returned).sum();
    let temperature = if outcome.cold { "cold" } else { "hot" };
    let ratio = if outcome.cold { "0.0" } else { "1.0" };
    let tail = format!(
        ",\"billing\":{{\"billable_logical_bytes_queried\":{BYTES_QUERIED_MIN},\
         \"billable_logical_bytes_returned\":{returned}}},\
         \"performance\":{{\"approx_namespace_size\":{},\"cache_hit_ratio\":{ratio},\
         \"cache_temperature\":\"{temperature}\",\"exhaustive_search_count\":{},\
         \"query_execution_ms\":{},\"server_total_ms\":{},\"last_included_write_at\":\"{}\"}}}}",
        outcome.approx_namespace_rows,
        outcome.exhaustive_search_rows,
        whole_ms(outcome.execution),
        whole_ms(total),
        timestamp(outcome.last_included_write_ms),
    );
    out.extend_from_slice(tail.as_bytes());
    out
}

/// Milliseconds rounded up, never 0.
fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

fn timestamp(ms: u64) -> String {
    datetime::format_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// The logical bytes of an answer: ids, 4 per `$dist`, and the attributes.
fn bytes_returned(result: &QueryResult) -> u64 {
    result.rows().iter().map(row_bytes).sum()
}

fn row_bytes(row: &ResultRow) -> u64 {
    let id = match &row.id {
        Id::UInt(_) => 8,
        Id::Uuid(_) => 16,
        Id::String(s) => s.len() as u64,
    };
    let rank = if row.rank.is_some() { 4 } else { 0 };
    id + rank + row.attributes.iter().map(|(_, v)| value_bytes(v)).sum::<u64>()
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
    out.push_str(&format!(
        ",\"billing\":{{\"billable_logical_bytes_written\":{}}},\"performance\":{{\"server_total_ms\":{}}}}}",
        outcome.logical_bytes_written,
        whole_ms(total)
    ));
    out.into_bytes()
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
    let body = serde_json::json!({
        "approx_logical_bytes": known.approx_bytes,
        "approx_row_count": known.approx_rows,
        "created_at": timestamp(known.created_ms),
        "updated_at": timestamp(known.updated_ms),
        "last_write_at": timestamp(known.last_write_ms),
        "encryption": encryption,
        "index": index,
        "schema": schema,
    });
    body.to_string().into_bytes()
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
