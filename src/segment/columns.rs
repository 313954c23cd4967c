//! Columns of ids and filterable attributes, in blocks of up to 8192 rows with their least and greatest value.
//!
//! Bytes: `docs/formats/segment.md`.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, UInt64Array, new_empty_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, filter, is_not_null, take};

use super::block;
use super::values::{Source, put_type, read_type};
use super::wire::{Compression, FormatError, Packer, Reader, put_varint, unframe};
use crate::model::AttrType;
use crate::model::batch::arrow_type;

/// The most rows of a block.
const BLOCK_ROWS: usize = 8192;
/// A block takes less memory than this, unless one row takes more.
const BLOCK_BYTES: usize = 1 << 20;

/// An encoded column.
pub struct Encoded {
    pub cold: Vec<u8>,
    pub hot: Vec<u8>,
}

/// Encodes a column; `None` when it has an array of so many elements that only row pages take it.
///
/// * `array` — of the Arrow type of `ty`, which is a scalar or an array
pub fn encode(array: &ArrayRef, ty: AttrType, compression: Compression) -> Option<Encoded> {
    let mut packer = Packer::new(compression);
    let (mut cold, mut blocks, mut count) = (Vec::new(), Vec::new(), 0);
    let (mut row, mut raw) = (0, Vec::new());
    while row < array.len() {
        let values = array.slice(row, block_rows(array, row));
        raw.clear();
        encode_block(&values, &mut raw)?;
        put_varint(&mut blocks, values.len() as u64);
        put_varint(&mut blocks, packer.frame(&raw, &mut cold));
        put_varint(&mut blocks, values.null_count() as u64);
        let (low, high) = zone(&values);
        blocks.extend_from_slice(&low.to_le_bytes());
        blocks.extend_from_slice(&high.to_le_bytes());
        row += values.len();
        count += 1;
    }
    let mut hot = Vec::new();
    put_type(&mut hot, ty);
    put_varint(&mut hot, count);
    hot.append(&mut blocks);
    Some(Encoded { cold, hot })
}

fn block_rows(array: &ArrayRef, row: usize) -> usize {
    let mut rows = BLOCK_ROWS.min(array.len() - row);
    while rows > 1 && block::bytes_about(array, row..row + rows) > BLOCK_BYTES {
        rows = rows.div_ceil(2);
    }
    rows
}

fn encode_block(values: &ArrayRef, out: &mut Vec<u8>) -> Option<()> {
    let Some(nulls) = values.nulls().filter(|n| n.null_count() > 0) else {
        out.push(0);
        return block::encode(values, out);
    };
    out.push(1);
    block::put_bits(nulls.iter(), out);
    let present = is_not_null(values).and_then(|present| filter(values, &present));
    block::encode(&present.expect("the mask is as long as the values"), out)
}

/// The least and the greatest [key](Source::zone_key) of the values or elements; the wrong way round when there are none.
pub fn zone(values: &ArrayRef) -> (u64, u64) {
    let source = Source::new(values);
    let mut zone = (u64::MAX, 0);
    let mut add = |source: &Source<'_>, row| {
        let key = source.zone_key(row);
        zone = (zone.0.min(key), zone.1.max(key));
    };
    for row in (0..values.len()).filter(|row| !source.is_null(*row)) {
        match &source {
            Source::List(lists, elements) => {
                let offsets = lists.value_offsets();
                (offsets[row] as usize..offsets[row + 1] as usize).for_each(|element| add(elements, element));
            }
            scalar => add(scalar, row),
        }
    }
    zone
}

/// Where a block is, and what its values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which rows of the segment.
    pub rows: Range<u32>,
    /// Where in the section.
    pub range: Range<u64>,
    /// How many of the rows have no value.
    pub nulls: u32,
    /// The least [key](Source::zone_key) of a value or element.
    pub low: u64,
    /// The greatest; less than `low` when there is no value or element.
    pub high: u64,
}

/// The blocks of a column.
#[derive(Clone, Debug)]
pub struct ColumnIndex {
    pub ty: AttrType,
    /// In order; every row is in one.
    pub blocks: Vec<Block>,
}

impl ColumnIndex {
    /// Decodes the hot bytes of a section.
    ///
    /// * `rows` — of the segment
    /// * `len` — of the section
    pub fn decode(hot: &[u8], rows: u32, len: u64) -> Result<Self, FormatError> {
        let mut input = Reader::new(hot);
        let ty = read_type(&mut input)?;
        if !matches!(ty, AttrType::Scalar(_) | AttrType::Array(_)) {
            return Err(FormatError::corrupt(format!("a column of {ty}")));
        }
        let count = input.varint_to(input.len() as u64)?;
        let (mut blocks, mut row, mut offset) = (Vec::new(), 0, 0);
        for _ in 0..count {
            let block = decode_block_entry(&mut input, row..rows, offset..len)?;
            (row, offset) = (block.rows.end, block.range.end);
            blocks.push(block);
        }
        input.end()?;
        match row == rows && offset == len {
            true => Ok(Self { ty, blocks }),
            false => Err(FormatError::corrupt("the blocks of a column do not hold all rows")),
        }
    }

    /// The blocks as a column, in order.
    ///
    /// * `frames` — the bytes of these blocks
    pub fn read<'a>(&self, blocks: &[Block], frames: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef, FormatError> {
        let arrays = blocks
            .iter()
            .zip(frames)
            .map(|(b, frame)| read_block(self.ty, b, frame));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let arrays: Vec<&dyn Array> = arrays.iter().map(|a| a.as_ref()).collect();
        match arrays.is_empty() {
            true => Ok(new_empty_array(&arrow_type(self.ty).expect("checked by decode"))),
            false => concat(&arrays).map_err(|e| FormatError::corrupt(format!("the blocks of a column: {e}"))),
        }
    }
}

/// * `rows`, `range` — what no block before it took
fn decode_block_entry(input: &mut Reader<'_>, rows: Range<u32>, range: Range<u64>) -> Result<Block, FormatError> {
    let count = input.varint_to(u64::from(rows.end - rows.start).min(BLOCK_ROWS as u64))? as u32;
    let len = input.varint_to(range.end - range.start)?;
    let nulls = input.varint_to(u64::from(count))? as u32;
    if count == 0 {
        return Err(FormatError::corrupt("a block of a column has no rows"));
    }
    Ok(Block {
        rows: rows.start..rows.start + count,
        range: range.start..range.start + len,
        nulls,
        low: input.u64_le()?,
        high: input.u64_le()?,
    })
}

fn read_block(ty: AttrType, block: &Block, frame: &[u8]) -> Result<ArrayRef, FormatError> {
    let raw = unframe(frame)?;
    let mut input = Reader::new(&raw);
    let rows = block.rows.len();
    let present = rows - block.nulls as usize;
    let array = match input.byte()? {
        0 if block.nulls == 0 => block::decode(&mut input, rows, ty)?,
        1 => {
            let bits = block::read_bits(&mut input, rows)?;
            if bits.count_set_bits() != present {
                return Err(FormatError::corrupt("a block of a column has another number of nulls"));
            }
            let values = block::decode(&mut input, present, ty)?;
            spread(&values, &NullBuffer::new(bits))?
        }
        _ => return Err(FormatError::corrupt("a block of a column says nothing of its nulls")),
    };
    input.end()?;
    Ok(array)
}

/// Puts the values where `valid` says, with nulls in between.
fn spread(values: &ArrayRef, valid: &NullBuffer) -> Result<ArrayRef, FormatError> {
    let mut next = 0;
    let place = |valid| {
        next += u64::from(valid);
        if valid { next - 1 } else { 0 }
    };
    let places: Vec<u64> = valid.iter().map(place).collect();
    let places = UInt64Array::new(places.into(), Some(valid.clone()));
    take(values, &places, None).map_err(|e| FormatError::corrupt(format!("a block of a column: {e}")))
}
