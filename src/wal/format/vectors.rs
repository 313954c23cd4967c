//! Vector sections: raw rows, then a bitmap of those that exist.

use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use bytes::Bytes;

use super::container::ALIGN;
use super::groups::{Body, BodyReader, Part};
use super::table::append;
use super::{DecodeError, proto};
use crate::model::{Column, Element, VectorColumn};

/// Appends the vectors of one column of some parts, all of which have it. Returns the section and
/// whether it ends with a bitmap.
pub(super) fn write(parts: &[Part], name: &str, rows: usize, body: &mut Body) -> (proto::Section, bool) {
    let columns: Vec<&VectorColumn> = parts
        .iter()
        .map(|part| match part.column(name).map(|c| &c.column) {
            Some(Column::Vectors(vectors)) => vectors,
            _ => panic!("every part of a group has the vector column {name:?}"),
        })
        .collect();
    let nulls = columns
        .iter()
        .any(|c| c.nulls.as_ref().is_some_and(|n| n.null_count() > 0));
    let bitmap = nulls.then(|| bitmap(&columns, rows).into());
    let data = columns.iter().map(|c| Bytes::from_owner(c.data.clone()));
    (append(body, data.chain(bitmap), 0), nulls)
}

fn bitmap(columns: &[&VectorColumn], rows: usize) -> Vec<u8> {
    let mut bits = vec![0; rows.div_ceil(8)];
    let mut at = 0;
    for column in columns {
        for row in 0..column.len() {
            if !column.is_null(row) {
                bits[at / 8] |= 1 << (at % 8);
            }
            at += 1;
        }
    }
    bits
}

/// Reads a column of vectors back.
pub(super) fn read(
    column: &proto::Column,
    rows: usize,
    dims: u32,
    element: Element,
    body: &mut BodyReader,
) -> Result<VectorColumn, DecodeError> {
    let bytes = body.section(column.vectors.as_ref())?;
    let data_len = rows as u64 * u64::from(dims) * element.bytes() as u64;
    let bitmap_len = if column.nulls { rows.div_ceil(8) as u64 } else { 0 };
    // Rows fit in 32 bits, dimensions in 14: no overflow.
    if bytes.len() as u64 != data_len + bitmap_len {
        return Err(DecodeError::corrupt(
            "a vector section has another length than announced",
        ));
    }
    let data_len = data_len as usize;
    let nulls = column.nulls.then(|| {
        let bits = Buffer::from(bytes.slice(data_len..));
        NullBuffer::new(BooleanBuffer::new(bits, 0, rows))
    });
    Ok(VectorColumn {
        dims,
        element,
        data: aligned(Buffer::from(bytes.slice(..data_len))),
        nulls: nulls.filter(|n| n.null_count() > 0),
    })
}

/// The buffer, copied if its first byte is not aligned for vector loads.
pub(super) fn aligned(buffer: Buffer) -> Buffer {
    if buffer.as_ptr().align_offset(ALIGN) == 0 || buffer.is_empty() {
        return buffer;
    }
    let mut copy = MutableBuffer::with_capacity(buffer.len());
    copy.extend_from_slice(&buffer);
    copy.into()
}
