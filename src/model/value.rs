//! One value of one attribute.

use half::f16;
use serde_json::Value as Json;
use uuid::Uuid;

use super::datetime;

/// A typed value, as filters compare it and as queries return it. Rows at rest are columns
/// ([`crate::model::batch`]); this form is for single values.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    String(String),
    Uuid(Uuid),
    /// Milliseconds since the Unix epoch.
    Datetime(i64),
    Bytes(Vec<u8>),
    /// Elements of one scalar type, none null.
    Array(Vec<Value>),
    Vector(Vector),
    /// Rows of `dims` elements each.
    MultiVector {
        dims: u32,
        elements: Vec<f32>,
    },
    /// Weights by dimension name, ascending.
    SparseVector(Vec<(String, f16)>),
}

/// A dense vector in its column's element type.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    F32(Vec<f32>),
    F16(Vec<f16>),
    I8(Vec<i8>),
}

impl Value {
    /// About how much memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let beside = match self {
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::Uuid(_)
            | Value::Datetime(_) => 0,
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Array(values) => values.iter().map(Value::memory_bytes).sum(),
            Value::Vector(Vector::F32(elements)) => size_of_val(&elements[..]),
            Value::Vector(Vector::F16(elements)) => size_of_val(&elements[..]),
            Value::Vector(Vector::I8(elements)) => size_of_val(&elements[..]),
            Value::MultiVector { elements, .. } => size_of_val(&elements[..]),
            Value::SparseVector(entries) => entries.iter().map(|entry| size_of_val(entry) + entry.0.len()).sum(),
        };
        size_of::<Self>() + beside
    }
}

/// The value as clients write it; vectors, which nothing is compared with, as null.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Vector(_) | Value::MultiVector { .. } | Value::SparseVector(_) => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::UInt(n) => (*n).into(),
        Value::Float(x) => (*x).into(),
        Value::String(s) => s.as_str().into(),
        Value::Uuid(u) => u.to_string().into(),
        Value::Datetime(ms) => datetime::format(*ms).into(),
        Value::Bytes(b) => base64_simd::STANDARD.encode_to_string(b).into(),
        Value::Array(items) => items.iter().map(to_json).collect(),
    }
}
