//! An export of v1: all rows in id order, page by page, as columns.
//!
//! A cursor names the last id of the page before it, so that pages stay right whatever is written and
//! deleted in between.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json as tree};

use crate::api::error::ApiError;
use crate::api::query::VectorEncoding;
use crate::api::response::json;
use crate::model::query::{Projection, Read};
use crate::model::{Consistency, Filter, FilterOp, Id, Invalid, Query, Value};
use crate::namespace::QueryOutcome;
use crate::query::ResultRow;

/// Rows per page. More: fewer requests, larger answers; a row may have 43 kB of vector alone.
pub const PAGE_ROWS: usize = 1000;
/// The longest cursor: an id of 64 bytes, each of which may need six in JSON, in base64.
const CURSOR_BYTES_MAX: usize = 1024;
const VECTOR: &str = "vector";

/// The answer to a cursor that we did not make.
pub fn foreign_cursor() -> ApiError {
    ApiError::invalid("cursor was not made by this server")
}

/// The read that finds a page.
pub fn read(cursor: Option<&str>) -> Result<Read, ApiError> {
    let after = cursor.map(last_id).transpose()?;
    let filter = after.map(|id| Filter::compare("id", FilterOp::Gt, id));
    let query = Query {
        // One more than fits tells whether there is a next page.
        limit: PAGE_ROWS + 1,
        filter,
        include: Projection::All,
        ..Query::default()
    };
    Ok(Read {
        queries: vec![query],
        rerank: None,
        consistency: Consistency::Strong,
    })
}

fn cursor(id: &Id) -> String {
    let text = match id {
        Id::UInt(n) => tree!(n),
        Id::Uuid(u) => tree!(u.to_string()),
        Id::String(s) => tree!(&**s),
    };
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(text.to_string())
}

fn last_id(cursor: &str) -> Result<Json, Invalid> {
    let wrong = || Invalid::new("cursor was not made by this server");
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(wrong());
    }
    let text = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(cursor)
        .map_err(|_| wrong())?;
    match serde_json::from_slice(&text) {
        Ok(id @ (Json::Number(_) | Json::String(_))) => Ok(id),
        _ => Err(wrong()),
    }
}

/// The page: `{"ids", "vectors", "attributes": {…}, "next_cursor"}`. `vectors` is null in a namespace
/// that has none.
pub fn print(outcome: &QueryOutcome) -> Vec<u8> {
    let found = outcome.results.first().map_or(&[][..], |result| result.rows());
    let rows = &found[..found.len().min(PAGE_ROWS)];
    let mut out = Vec::with_capacity(1024 + rows.len() * 64);
    out.extend_from_slice(b"{\"ids\":");
    json::list(&mut out, rows, |out, row| json::id(out, &row.id));
    out.extend_from_slice(b",\"vectors\":");
    let columns = columns(outcome, rows);
    match columns.get(VECTOR) {
        Some(vectors) => column(&mut out, vectors),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"attributes\":{");
    for (name, values) in columns.iter().filter(|(name, _)| **name != VECTOR) {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        json::put(&mut out, name);
        out.push(b':');
        column(&mut out, values);
    }
    out.extend_from_slice(b"},\"next_cursor\":");
    let next = rows
        .last()
        .filter(|_| found.len() > rows.len())
        .map(|last| cursor(&last.id));
    json::put(&mut out, &next);
    out.push(b'}');
    out
}

/// The values of every attribute of the schema, row by row.
fn columns<'a>(outcome: &'a QueryOutcome, rows: &'a [ResultRow]) -> BTreeMap<&'a str, Vec<Option<&'a Value>>> {
    let blank = || vec![None; rows.len()];
    let mut columns: BTreeMap<&str, Vec<Option<&Value>>> =
        outcome.schema.attributes().map(|a| (&*a.name, blank())).collect();
    for (n, row) in rows.iter().enumerate() {
        for (name, value) in &row.attributes {
            if let Some(column) = columns.get_mut(&**name) {
                column[n] = Some(value);
            }
        }
    }
    columns
}

fn column(out: &mut Vec<u8>, values: &[Option<&Value>]) {
    json::list(out, values, |out, value| match value {
        Some(value) => json::value(out, value, VectorEncoding::Float),
        None => out.extend_from_slice(b"null"),
    });
}
