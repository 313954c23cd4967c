//! The table section of a group: ids and every column that is not a dense vector, as one Arrow
//! IPC stream of one record batch, compressed as a whole.
//!
//! Compressed as a whole rather than buffer by buffer, as Arrow would: its reader trusts the
//! uncompressed sizes inside the stream, while ours stops at the announced one.

use std::collections::VecDeque;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::buffer::Buffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::container::ALIGN;
use super::groups::{Body, BodyReader, Part};
use super::{DecodeError, proto};
use crate::model::batch::arrow_type;
use crate::model::{AttrType, Column, IdColumn, IdKind};

/// Smaller tables are not worth a compressor's set-up.
const COMPRESS_FROM_BYTES: usize = 16 * 1024;
const ZSTD_LEVEL: i32 = 1;

/// Appends the table of some parts; `values` are the columns besides vectors, by name.
pub(super) fn write<'a>(
    parts: &[Part],
    values: impl Iterator<Item = (&'a Arc<str>, &'a AttrType)>,
    body: &mut Body,
) -> proto::Section {
    let ids: Vec<_> = parts.iter().map(|p| p.ids.to_array()).collect();
    let ids = join(&ids);
    let mut fields = vec![Field::new("id", ids.data_type().clone(), false)];
    let mut columns = vec![ids];
    for (name, ty) in values {
        let data_type = arrow_type(*ty).expect("dense vectors are not in the table");
        columns.push(join(&pieces(parts, name, &data_type)));
        fields.push(Field::new(&**name, data_type, true));
    }
    let schema = Arc::new(Schema::new(fields));
    let batch =
        RecordBatch::try_new(schema.clone(), columns).expect("a batch's columns have their types and one length");
    let mut stream = Vec::new();
    StreamWriter::try_new(&mut stream, &schema)
        .and_then(|mut writer| writer.write(&batch).and_then(|()| writer.finish()))
        .expect("writing to memory does not fail, and these types have an encoding");
    match compressed(&stream, body) {
        Some(frame) => append(body, [frame.into()], stream.len() as u64),
        None => append(body, [stream.into()], 0),
    }
}

fn pieces(parts: &[Part], name: &str, data_type: &DataType) -> Vec<ArrayRef> {
    let piece = |part: &Part| match part.column(name).map(|c| &c.column) {
        Some(Column::Values(array)) => array.clone(),
        Some(Column::Vectors(_)) => panic!("column {name:?} has vectors, its type does not"),
        None => new_null_array(data_type, part.ids.len()),
    };
    parts.iter().map(piece).collect()
}

fn join(pieces: &[ArrayRef]) -> ArrayRef {
    match pieces {
        [one] => one.clone(),
        many => {
            let many: Vec<&dyn Array> = many.iter().map(|a| &**a).collect();
            concat(&many).expect("the columns of an attribute have its type")
        }
    }
}

/// The stream as a zstd frame, when that is smaller and the object's limit allows unpacking it.
fn compressed(stream: &[u8], body: &mut Body) -> Option<Vec<u8>> {
    let raw = stream.len() as u64;
    if stream.len() < COMPRESS_FROM_BYTES || raw > body.raw_budget {
        return None;
    }
    let frame = zstd::bulk::compress(stream, ZSTD_LEVEL).ok()?;
    if frame.len() >= stream.len() {
        return None;
    }
    body.raw_budget -= raw;
    Some(frame)
}

/// Appends a section and the padding behind it.
pub(super) fn append(body: &mut Body, bytes: impl IntoIterator<Item = Bytes>, raw_len: u64) -> proto::Section {
    let offset = body.bytes.len();
    let mut crc32c = 0;
    for piece in bytes {
        crc32c = crc32c::crc32c_append(crc32c, &piece);
        body.bytes.push(piece);
    }
    let len = body.bytes.len() - offset;
    body.bytes.pad(ALIGN);
    proto::Section {
        offset,
        len,
        crc32c,
        raw_len,
    }
}

/// Reads a table back: its ids, and the columns of those `types` that are not dense vectors.
pub(super) fn read(
    section: Option<&proto::Section>,
    rows: usize,
    id_kind: IdKind,
    types: &[AttrType],
    body: &mut BodyReader,
) -> Result<(IdColumn, Vec<ArrayRef>), DecodeError> {
    let stored = body.section(section)?;
    let raw_len = section.map_or(0, |s| s.raw_len);
    let stream = match raw_len {
        0 => stored,
        _ => unpack(&stored, raw_len, body)?,
    };
    let id_type = match id_kind {
        IdKind::UInt => DataType::UInt64,
        IdKind::Uuid => DataType::FixedSizeBinary(16),
        IdKind::String => DataType::LargeUtf8,
    };
    let expected = std::iter::once(id_type).chain(types.iter().filter_map(|ty| arrow_type(*ty)));
    let expected: Vec<_> = expected.collect();
    // Behind valid checksums only a faulty or malicious writer leads here. Arrow 60 panics on some
    // such streams (buffers outside the message; a fuzzing test of ours finds them), which must
    // not take down a node that holds other namespaces. It can go when that test passes without.
    let batch = std::panic::catch_unwind(AssertUnwindSafe(|| read_stream(stream, &expected)))
        .unwrap_or_else(|_| Err(DecodeError::corrupt("an Arrow stream that the decoder cannot handle")))?;
    if batch.num_rows() != rows {
        return Err(DecodeError::corrupt(
            "a table has another number of rows than announced",
        ));
    }
    let mut columns = VecDeque::from(batch.columns().to_vec());
    let ids = columns.pop_front().as_ref().and_then(IdColumn::from_array);
    let ids = ids.ok_or_else(|| DecodeError::corrupt("a table has rows without id"))?;
    Ok((ids, columns.into()))
}

fn unpack(frame: &[u8], raw_len: u64, body: &mut BodyReader) -> Result<Bytes, DecodeError> {
    let corrupt = |e: std::io::Error| DecodeError::corrupt(format!("a compressed section: {e}"));
    body.raw_budget = body
        .raw_budget
        .checked_sub(raw_len)
        .ok_or_else(|| DecodeError::corrupt("its sections unpack to too many bytes"))?;
    // The vector grows with what really comes out, not with what the header promises.
    let mut raw = Vec::with_capacity((raw_len as usize).min(frame.len().saturating_mul(8)));
    let decoder = zstd::stream::read::Decoder::with_buffer(frame).map_err(corrupt)?;
    decoder.take(raw_len + 1).read_to_end(&mut raw).map_err(corrupt)?;
    match raw.len() as u64 == raw_len {
        true => Ok(raw.into()),
        false => Err(DecodeError::corrupt(
            "a section unpacks to another length than announced",
        )),
    }
}

/// Reads the one batch of a stream whose columns must have these types.
///
/// The schema is read and compared before the batch, because Arrow panics on some types that can
/// be written down but not exist, such as binaries of a negative width.
fn read_stream(stream: Bytes, expected: &[DataType]) -> Result<RecordBatch, DecodeError> {
    let corrupt = |e: arrow::error::ArrowError| DecodeError::corrupt(format!("an Arrow stream: {e}"));
    let no_batch = || DecodeError::corrupt("an Arrow stream does not have exactly one batch");
    // A message is a marker, its length, and that many bytes. The decoder only looks at a message
    // when there is a byte after it.
    let schema_len = stream
        .get(4..8)
        .and_then(|len| len.try_into().ok())
        .map(u32::from_le_bytes);
    let schema_end = schema_len.map_or(usize::MAX, |len| (len as usize).saturating_add(9));
    if schema_end > stream.len() {
        return Err(no_batch());
    }
    let mut rest = Buffer::from(stream);
    let mut start = rest.slice_with_length(0, schema_end);
    rest.advance(schema_end);
    let mut decoder = StreamDecoder::new();
    let early = decoder.decode(&mut start).map_err(corrupt)?;
    let schema = decoder.schema().filter(|_| early.is_none()).ok_or_else(no_batch)?;
    if !schema.fields().iter().map(|f| f.data_type()).eq(expected) {
        return Err(DecodeError::corrupt("a table has other columns than announced"));
    }
    let batch = decoder.decode(&mut rest).map_err(corrupt)?;
    let more = decoder.decode(&mut rest).map_err(corrupt)?;
    decoder.finish().map_err(corrupt)?;
    match (batch, more) {
        (Some(batch), None) => Ok(batch),
        _ => Err(no_batch()),
    }
}
