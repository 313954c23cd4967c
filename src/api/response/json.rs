//! Rows as JSON. Numbers print as the shortest text that reads back the same; floats always with
//! a decimal point or an exponent.

use std::io::Write;

use serde::Serialize;

use crate::api::query::VectorEncoding;
use crate::model::value::Vector;
use crate::model::{Id, Value, datetime};
use crate::query::{QueryResult, Rank, ResultRow};

/// Writes `"rows":[…]`.
pub fn rows(out: &mut Vec<u8>, result: &QueryResult, encoding: VectorEncoding) {
    out.extend_from_slice(b"\"rows\":");
    list(out, result.rows(), |out, r| row(out, r, encoding));
}

fn row(out: &mut Vec<u8>, row: &ResultRow, encoding: VectorEncoding) {
    out.extend_from_slice(b"{\"id\":");
    match &row.id {
        Id::UInt(n) => put(out, n),
        Id::Uuid(u) => quoted(out, u),
        Id::String(s) => put(out, s),
    }
    match row.rank {
        None => {}
        Some(Rank::Distance(d)) => {
            out.extend_from_slice(b",\"$dist\":");
            put(out, &d);
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
    out.push(b'}');
}

fn value(out: &mut Vec<u8>, value: &Value, encoding: VectorEncoding) {
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

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
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
