//! The attributes of found rows, as values.

use arrow::array::{Array, ArrayRef, AsArray};
use half::f16;
use uuid::Uuid;

use super::exec::RowRef;
use super::plan::Projected;
use super::values::Values;
use super::{Rank, ResultRow};
use crate::error::{Error, ErrorKind, Result};
use crate::model::value::Vector;
use crate::model::{AttrType, Column, Element, Invalid, Scalar, Value, VectorColumn, encoding};
use crate::tail::Part;

/// One row of an answer. Nulls are left out.
///
/// # Errors
///
/// [`ErrorKind::Internal`] when a stored composite value does not decode.
pub(super) fn result_row(
    parts: &[Part],
    row: RowRef,
    rank: Option<Rank>,
    projection: &[Projected],
) -> Result<ResultRow> {
    let chunk = &parts[row.part as usize].chunk;
    let row = row.row as usize;
    let mut attributes = Vec::with_capacity(projection.len());
    for attribute in projection {
        let Some(column) = chunk.column(attribute.id) else {
            continue;
        };
        let value = value_at(column, attribute.ty, row).map_err(|damage| {
            Error::new(
                ErrorKind::Internal,
                format!("a value of attribute {:?} cannot be read", attribute.name),
            )
            .because(damage)
        })?;
        if value != Value::Null {
            attributes.push((attribute.name.clone(), value));
        }
    }
    Ok(ResultRow {
        id: chunk.ids().get(row),
        rank,
        attributes,
        computed: Vec::new(),
    })
}

/// The value of one row of a column.
///
/// # Errors
///
/// When the bytes of a `[][N]f32` or `{}f16` value are damaged.
pub fn value_at(column: &Column, ty: AttrType, row: usize) -> std::result::Result<Value, Invalid> {
    let array = match column {
        Column::Vectors(vectors) if vectors.is_null(row) => return Ok(Value::Null),
        Column::Vectors(vectors) => return Ok(Value::Vector(vector_at(vectors, row))),
        Column::Values(array) if array.is_null(row) => return Ok(Value::Null),
        Column::Values(array) => array,
    };
    Ok(match ty {
        AttrType::Scalar(scalar) => scalar_at(Values::of(array), scalar, row),
        AttrType::Array(scalar) => {
            let elements: ArrayRef = array.as_list::<i32>().value(row);
            let values = Values::of(&elements);
            Value::Array((0..elements.len()).map(|i| scalar_at(values, scalar, i)).collect())
        }
        AttrType::MultiVector { dims } => Value::MultiVector {
            dims,
            elements: encoding::decode_multi_vector(array.as_binary::<i64>().value(row), dims)?,
        },
        AttrType::SparseVector => {
            let entries = encoding::decode_sparse(array.as_binary::<i64>().value(row))?;
            Value::SparseVector(
                entries
                    .into_iter()
                    .map(|(name, weight)| (name.to_owned(), weight))
                    .collect(),
            )
        }
        AttrType::Vector { .. } => panic!("a vector attribute has a column of vectors"),
    })
}

fn scalar_at(values: Values<'_>, scalar: Scalar, i: usize) -> Value {
    match values {
        Values::I64(v) if scalar == Scalar::Datetime => Value::Datetime(v[i]),
        Values::I64(v) => Value::Int(v[i]),
        Values::U64(v) => Value::UInt(v[i]),
        Values::F64(v) => Value::Float(v[i]),
        Values::Bool(v) => Value::Bool(v.value(i)),
        Values::String(v) => Value::String(v.value(i).to_owned()),
        Values::Binary(v) => Value::Bytes(v.value(i).to_vec()),
        Values::Uuid(v) => Value::Uuid(Uuid::from_slice(v.value(i)).expect("the array's values have 16 bytes")),
    }
}

fn vector_at(vectors: &VectorColumn, row: usize) -> Vector {
    let bytes = vectors.row(row);
    match vectors.element {
        Element::F32 => Vector::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Element::F16 => Vector::F16(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect()),
        Element::I8 => Vector::I8(bytes.iter().map(|b| b.cast_signed()).collect()),
    }
}
