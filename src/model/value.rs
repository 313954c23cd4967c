//! One value of one attribute.

use half::f16;
use uuid::Uuid;

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
