//! Rows, aggregates and groups as JSON. Numbers print as the shortest text that reads back the same; floats always with
//! a decimal point or an exponent.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::api::query::VectorEncoding;
use crate::model::value::Vector;
use crate::model::{Id, IdColumn, Value, datetime};
use crate::query::{AggregateValue, Computed, Fragment, Group, QueryResult, Rank, ResultRow};

/// Writes `"rows":[…]`, `"aggregations":{…}` or `"aggregation_groups":[…]`.
pub fn result(out: &mut Vec<u8>, result: &QueryResult, encoding: VectorEncoding) {
    match result {
        QueryResult::Rows(rows) => {
            out.extend_from_slice(b"\"rows\":");
            list(out, rows, |out, r| row(out, r, encoding));
        }
        QueryResult::Aggregations(values) => {
            out.extend_from_slice(b"\"aggregations\":{");
            aggregates(out, values, true);
            out.push(b'}');
        }
        QueryResult::Groups(groups) => {
            out.extend_from_slice(b"\"aggregation_groups\":");
            list(out, groups, group);
        }
    }
}

/// The same for those who must not see ids.
pub fn result_without_ids(out: &mut Vec<u8>, result: &QueryResult, encoding: VectorEncoding) {
    let QueryResult::Rows(rows) = result else {
        return self::result(out, result, encoding);
    };
    out.extend_from_slice(b"\"rows\":");
    list(out, rows, |out, row| {
        out.push(b'{');
        let start = out.len();
        fields(out, row, encoding);
        if out.get(start) == Some(&b',') {
            out.remove(start);
        }
        out.push(b'}');
    });
}

/// Unlike rows, groups show nulls: a null is a key like any other.
fn group(out: &mut Vec<u8>, group: &Group) {
    out.push(b'{');
    for (i, (label, value)) in group.key.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        put(out, &**label);
        out.push(b':');
        self::value(out, value, VectorEncoding::Float);
    }
    aggregates(out, &group.values, group.key.is_empty());
    out.push(b'}');
}

/// * `first` — whether no entry stands before these
fn aggregates(out: &mut Vec<u8>, values: &[(Arc<str>, AggregateValue)], first: bool) {
    for (i, (label, value)) in values.iter().enumerate() {
        if i > 0 || !first {
            out.push(b',');
        }
        put(out, &**label);
        out.push(b':');
        match value {
            AggregateValue::Value(value) => self::value(out, value, VectorEncoding::Float),
            AggregateValue::Top(values) => list(out, values, |out, (value, count)| {
                out.extend_from_slice(b"{\"value\":");
                self::value(out, value, VectorEncoding::Float);
                out.extend_from_slice(b",\"count\":");
                put(out, count);
                out.push(b'}');
            }),
        }
    }
}

/// `,"name":[…]`, or nothing when there are no ids.
pub fn ids(out: &mut Vec<u8>, name: &str, columns: &[IdColumn]) {
    if columns.iter().all(IdColumn::is_empty) {
        return;
    }
    out.push(b',');
    put(out, name);
    out.push(b':');
    let ids = columns.iter().flat_map(|c| (0..c.len()).map(|row| c.get(row)));
    for (i, one) in ids.enumerate() {
        out.push(if i == 0 { b'[' } else { b',' });
        id(out, &one);
    }
    out.push(b']');
}

pub(in crate::api) fn row(out: &mut Vec<u8>, row: &ResultRow, encoding: VectorEncoding) {
    out.extend_from_slice(b"{\"id\":");
    id(out, &row.id);
    fields(out, row, encoding);
    out.push(b'}');
}

/// What a row has besides its id, a comma before each.
fn fields(out: &mut Vec<u8>, row: &ResultRow, encoding: VectorEncoding) {
    match row.rank {
        None => {}
        Some(Rank::Distance(d)) => {
            out.extend_from_slice(b",\"$dist\":");
            distance(out, d);
        }
        Some(Rank::Score(s)) => {
            out.extend_from_slice(b",\"$dist\":");
            put(out, &s);
        }
    }
    for (name, value) in &row.attributes {
        if *value == Value::Null || &**name == "id" {
            continue;
        }
        out.push(b',');
        put(out, &**name);
        out.push(b':');
        self::value(out, value, encoding);
    }
    for (name, value) in &row.computed {
        out.push(b',');
        put(out, &**name);
        out.push(b':');
        computed(out, value);
    }
}

/// Distances beyond f32 are infinite, and JSON has no number for that: clients expect one.
fn distance(out: &mut Vec<u8>, distance: f32) {
    put(out, &distance.min(f32::MAX));
}

fn computed(out: &mut Vec<u8>, value: &Computed) {
    match value {
        Computed::Distance(d) => distance(out, *d),
        Computed::Score(s) => put(out, s),
        Computed::Bool(b) => put(out, b),
        Computed::Fragments(fragments) => list(out, fragments, fragment),
    }
}

fn fragment(out: &mut Vec<u8>, fragment: &Fragment) {
    out.extend_from_slice(b"{\"text\":");
    put(out, &fragment.text);
    if let Some(offsets) = &fragment.offsets {
        let range = |out: &mut Vec<u8>, range: &Range<u64>| list(out, &[range.start, range.end], put);
        out.extend_from_slice(b",\"fragment_range\":");
        range(out, &offsets.fragment);
        out.extend_from_slice(b",\"match_ranges\":");
        list(out, &offsets.matches, range);
    }
    out.push(b'}');
}

pub(in crate::api) fn id(out: &mut Vec<u8>, id: &Id) {
    match id {
        Id::UInt(n) => put(out, n),
        Id::Uuid(u) => quoted(out, u),
        Id::String(s) => put(out, s),
    }
}

pub(in crate::api) fn value(out: &mut Vec<u8>, value: &Value, encoding: VectorEncoding) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => put(out, b),
        Value::Int(n) => put(out, n),
        Value::UInt(n) => put(out, n),
        Value::Float(x) => put(out, x),
        Value::String(s) => put(out, s),
        Value::Uuid(u) => quoted(out, u),
        Value::Datetime(ms) => quoted(out, &datetime::format(*ms)),
        Value::Bytes(b) => base64(out, b),
        Value::Array(items) => list(out, items, |out, item| self::value(out, item, encoding)),
        Value::Vector(v) => match encoding {
            VectorEncoding::Float => vector(out, v),
            VectorEncoding::Base64 => base64(out, &little_endian(v)),
        },
        Value::MultiVector { dims, elements } => {
            // A decoded value has at least one dimension; `chunks` would panic on none.
            let vectors: Vec<&[f32]> = elements.chunks((*dims).max(1) as usize).collect();
            match encoding {
                VectorEncoding::Float => list(out, &vectors, |out, v| list(out, v, put)),
                VectorEncoding::Base64 => list(out, &vectors, |out, v| base64(out, &f32_bytes(v))),
            }
        }
        Value::SparseVector(entries) => {
            out.push(b'{');
            for (i, (name, weight)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                put(out, name);
                out.push(b':');
                put(out, &weight.to_f32());
            }
            out.push(b'}');
        }
    }
}

fn vector(out: &mut Vec<u8>, vector: &Vector) {
    match vector {
        Vector::F32(v) => list(out, v, put),
        Vector::F16(v) => list(out, v, |out, x| put(out, &x.to_f32())),
        Vector::I8(v) => list(out, v, put),
    }
}

fn little_endian(vector: &Vector) -> Vec<u8> {
    match vector {
        Vector::F32(v) => f32_bytes(v),
        Vector::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Vector::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn f32_bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub(in crate::api) fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub(in crate::api) fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("numbers and strings are JSON, and a Vec takes all bytes");
}

/// Text that needs no escaping.
fn quoted(out: &mut Vec<u8>, text: &impl std::fmt::Display) {
    write!(out, "\"{text}\"").expect("a Vec takes all bytes");
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64_simd::STANDARD.encode_append(bytes, out);
    out.push(b'"');
}
