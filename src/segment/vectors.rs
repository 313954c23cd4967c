//! Dense vectors as they are: rows back to back, checked in blocks of whole rows.
//!
//! Bytes: `docs/formats/segment.md`.

use std::ops::Range;

use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use bytes::Bytes;

use super::values::{put_type, read_type};
use super::wire::{Compression, FormatError, Packer, Reader, put_varint, unframe};
use crate::model::{AttrType, Element, VectorColumn};

/// About how much is read and checked together.
const BLOCK_BYTES: usize = 64 * 1024;
/// Where vectors start in memory, for aligned loads.
const ALIGN: usize = 64;

/// The hot bytes of a column; its cold ones are its data as it is.
pub fn encode(column: &VectorColumn, compression: Compression) -> Vec<u8> {
    let mut hot = Vec::new();
    put_type(&mut hot, column.ty());
    let rows_per_block = (BLOCK_BYTES / column.stride()).max(1);
    put_varint(&mut hot, rows_per_block as u64);
    let mut bitmap = Vec::new();
    if let Some(nulls) = column.nulls.as_ref().filter(|n| n.null_count() > 0) {
        let bits = bitmap_of(nulls);
        Packer::new(compression).frame(&bits, &mut bitmap);
    }
    put_varint(&mut hot, bitmap.len() as u64);
    hot.append(&mut bitmap);
    for block in column.data.chunks(rows_per_block * column.stride()) {
        hot.extend_from_slice(&crc32c::crc32c(block).to_le_bytes());
    }
    hot
}

fn bitmap_of(nulls: &NullBuffer) -> Vec<u8> {
    let mut bits = vec![0; nulls.len().div_ceil(8)];
    for row in nulls.inner().set_indices() {
        bits[row / 8] |= 1 << (row % 8);
    }
    bits
}

/// Where the vectors of an attribute are, and which rows have one.
#[derive(Clone, Debug)]
pub struct VectorIndex {
    pub dims: u32,
    pub element: Element,
    rows: u32,
    rows_per_block: u32,
    nulls: Option<NullBuffer>,
    crcs: Vec<u32>,
}

impl VectorIndex {
    /// Decodes the hot bytes of a section.
    ///
    /// * `rows` — of the segment
    /// * `len` — of the section
    pub fn decode(hot: &[u8], rows: u32, len: u64) -> Result<Self, FormatError> {
        let mut input = Reader::new(hot);
        let AttrType::Vector { dims, element } = read_type(&mut input)? else {
            return Err(FormatError::corrupt("a section of vectors has another type"));
        };
        let rows_per_block = match input.varint_to(BLOCK_BYTES as u64)? {
            0 => return Err(FormatError::corrupt("blocks of vectors have no rows")),
            n => n as u32,
        };
        let bitmap = input.bytes()?;
        let nulls = match bitmap.is_empty() {
            true => None,
            false => Some(decode_bitmap(bitmap, rows)?),
        };
        let blocks = rows.div_ceil(rows_per_block) as usize;
        let crcs: Vec<u32> = (0..blocks.min(input.len()))
            .map(|_| input.u32_le())
            .collect::<Result<_, _>>()?;
        input.end()?;
        let stride = u64::from(dims) * element.bytes() as u64;
        // Rows fit in 32 bits, strides in 16: no overflow.
        if crcs.len() != blocks || u64::from(rows) * stride != len {
            return Err(FormatError::corrupt(
                "a section of vectors has another length than its rows",
            ));
        }
        Ok(Self {
            dims,
            element,
            rows,
            rows_per_block,
            nulls: nulls.filter(|n| n.null_count() > 0),
            crcs,
        })
    }

    /// The type of the attribute.
    pub fn ty(&self) -> AttrType {
        AttrType::Vector {
            dims: self.dims,
            element: self.element,
        }
    }

    /// How many bytes the vectors have that are not null.
    pub fn values_bytes(&self) -> u64 {
        let nulls = self.nulls.as_ref().map_or(0, NullBuffer::null_count);
        (u64::from(self.rows) - nulls as u64) * self.stride() as u64
    }

    fn stride(&self) -> usize {
        self.dims as usize * self.element.bytes()
    }

    /// The block of a row.
    pub fn block_of(&self, row: u32) -> usize {
        (row / self.rows_per_block) as usize
    }

    /// The blocks that some rows lie in.
    ///
    /// * `rows` — of the segment's
    pub fn blocks_of(&self, rows: &Range<u32>) -> Range<usize> {
        match rows.is_empty() {
            true => 0..0,
            false => self.block_of(rows.start)..self.block_of(rows.end - 1) + 1,
        }
    }

    fn first_row(&self, block: usize) -> usize {
        (block * self.rows_per_block as usize).min(self.rows as usize)
    }

    /// Where some blocks lie in the section.
    pub fn range(&self, blocks: &Range<usize>) -> Range<u64> {
        let at = |block| (self.first_row(block) * self.stride()) as u64;
        at(blocks.start)..at(blocks.end)
    }

    /// Checks the bytes of some blocks.
    pub fn check(&self, blocks: &Range<usize>, bytes: &[u8]) -> Result<(), FormatError> {
        let block_len = self.rows_per_block as usize * self.stride();
        let expected = self.crcs[blocks.clone()].iter();
        match bytes.chunks(block_len).map(crc32c::crc32c).eq(expected.copied()) {
            true => Ok(()),
            false => Err(FormatError::corrupt("the checksum of a block of vectors is wrong")),
        }
    }

    /// The vectors of some rows, from the checked bytes of the blocks that they lie in.
    pub fn slice(&self, rows: &Range<u32>, bytes: Bytes) -> VectorColumn {
        let len = rows.len();
        let start = match len {
            0 => 0,
            _ => rows.start as usize - self.first_row(self.block_of(rows.start)),
        };
        let stride = self.stride();
        let data = Buffer::from(bytes.slice(start * stride..(start + len) * stride));
        let nulls = self.nulls.as_ref().filter(|_| len > 0);
        let nulls = nulls.map(|n| n.slice(rows.start as usize, len));
        VectorColumn {
            dims: self.dims,
            element: self.element,
            data: aligned(data),
            nulls: nulls.filter(|n| n.null_count() > 0),
        }
    }

    /// The vectors of scattered rows.
    ///
    /// * `block` — the checked bytes of a block, for each block that the rows lie in
    pub fn gather<'a>(&self, rows: &[u32], block: impl Fn(usize) -> &'a [u8]) -> VectorColumn {
        let stride = self.stride();
        let mut data = MutableBuffer::with_capacity(rows.len() * stride);
        for row in rows {
            let start = (row % self.rows_per_block) as usize * stride;
            data.extend_from_slice(&block(self.block_of(*row))[start..start + stride]);
        }
        let valid = |n: &NullBuffer| rows.iter().map(|row| n.is_valid(*row as usize)).collect();
        let nulls: Option<NullBuffer> = self.nulls.as_ref().map(valid);
        VectorColumn {
            dims: self.dims,
            element: self.element,
            data: data.into(),
            nulls: nulls.filter(|n| n.null_count() > 0),
        }
    }
}

fn decode_bitmap(frame: &[u8], rows: u32) -> Result<NullBuffer, FormatError> {
    let bits = unframe(frame)?;
    match bits.len() == (rows as usize).div_ceil(8) {
        true => Ok(NullBuffer::new(BooleanBuffer::new(
            Buffer::from_vec(bits),
            0,
            rows as usize,
        ))),
        false => Err(FormatError::corrupt("a bitmap of vectors has another length than rows")),
    }
}

/// The buffer, copied if its first byte is not aligned for vector loads.
fn aligned(buffer: Buffer) -> Buffer {
    if buffer.as_ptr().align_offset(ALIGN) == 0 || buffer.is_empty() {
        return buffer;
    }
    let mut copy = MutableBuffer::with_capacity(buffer.len());
    copy.extend_from_slice(&buffer);
    copy.into()
}
