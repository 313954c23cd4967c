//! Columns as plain slices, looked at once per part rather than once per row.

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, PrimitiveArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType, UInt64Type};

use crate::model::{AttrId, Column, IdColumn};
use crate::tail::Chunk;

/// The values of a scalar column, or the elements of an array column. What is behind a null is
/// unspecified.
#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    /// Ints, and datetimes in milliseconds.
    I64(&'a [i64]),
    U64(&'a [u64]),
    F64(&'a [f64]),
    Bool(&'a BooleanBuffer),
    String(&'a LargeStringArray),
    Binary(&'a LargeBinaryArray),
    Uuid(&'a FixedSizeBinaryArray),
}

/// A scalar column.
#[derive(Clone, Copy)]
pub(super) struct ScalarView<'a> {
    pub values: Values<'a>,
    pub nulls: Option<&'a NullBuffer>,
}

/// An array column: row `r` has the elements `offsets[r]..offsets[r + 1]`.
#[derive(Clone, Copy)]
pub(super) struct ListView<'a> {
    pub offsets: &'a [i32],
    pub elements: Values<'a>,
    pub nulls: Option<&'a NullBuffer>,
}

impl<'a> Values<'a> {
    /// Panics on a type that no scalar attribute has: the decoders of log entries refuse those.
    pub fn of(array: &'a ArrayRef) -> Self {
        fn primitive<T: arrow::datatypes::ArrowPrimitiveType>(array: &ArrayRef) -> &PrimitiveArray<T> {
            array.as_primitive::<T>()
        }
        match array.data_type() {
            DataType::Int64 => Values::I64(primitive::<Int64Type>(array).values()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Values::I64(primitive::<TimestampMillisecondType>(array).values())
            }
            DataType::UInt64 => Values::U64(primitive::<UInt64Type>(array).values()),
            DataType::Float64 => Values::F64(primitive::<Float64Type>(array).values()),
            DataType::Boolean => Values::Bool(array.as_boolean().values()),
            DataType::LargeUtf8 => Values::String(array.as_string::<i64>()),
            DataType::LargeBinary => Values::Binary(array.as_binary::<i64>()),
            DataType::FixedSizeBinary(16) => Values::Uuid(array.as_fixed_size_binary()),
            other => panic!("no scalar attribute has a column of {other}"),
        }
    }

    /// The ids of a chunk.
    pub fn of_ids(ids: &'a IdColumn) -> Self {
        match ids {
            IdColumn::UInt(a) => Values::U64(a.values()),
            IdColumn::Uuid(a) => Values::Uuid(a),
            IdColumn::String(a) => Values::String(a),
        }
    }

    /// The bytes by which a value is compared; `None` for numbers and bools.
    pub fn bytes(self, i: usize) -> Option<&'a [u8]> {
        match self {
            Values::String(a) => Some(a.value(i).as_bytes()),
            Values::Binary(a) => Some(a.value(i)),
            Values::Uuid(a) => Some(a.value(i)),
            Values::I64(_) | Values::U64(_) | Values::F64(_) | Values::Bool(_) => None,
        }
    }
}

/// The column of a scalar attribute; `None` when the chunk has none: null in every row.
pub(super) fn scalar_view(chunk: &Chunk, attribute: AttrId) -> Option<ScalarView<'_>> {
    let array = array_of(chunk, attribute)?;
    Some(ScalarView {
        values: Values::of(array),
        nulls: array.nulls(),
    })
}

/// The column of an array attribute; `None` when the chunk has none: null in every row.
pub(super) fn list_view(chunk: &Chunk, attribute: AttrId) -> Option<ListView<'_>> {
    let list = array_of(chunk, attribute)?.as_list::<i32>();
    Some(ListView {
        offsets: list.value_offsets(),
        elements: Values::of(list.values()),
        nulls: list.nulls(),
    })
}

fn array_of(chunk: &Chunk, attribute: AttrId) -> Option<&ArrayRef> {
    match chunk.column(attribute)? {
        Column::Values(array) => Some(array),
        Column::Vectors(_) => panic!("attribute {attribute:?} is not a vector, its column is"),
    }
}
