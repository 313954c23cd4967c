//! Row pages: whole rows side by side, so that the attributes of a found row cost one small read.
//!
//! Rows lie in segment order in pages of about 3 KiB, each compressed and checked on its own: whoever wants one row unpacks
//! few others. The main stream of pages has
//! the ids and most attributes; an attribute whose values are long on average has a stream of its own, so that reading a
//! title never reads the body.
//!
//! Bytes: `docs/formats/segment.md`.

use std::ops::Range;

use arrow::array::ArrayRef;

use super::values::{Source, ValueBuilder, Wire, id_type, put_id, put_type, read_type};
use super::wire::{Compression, FormatError, Packer, Reader, put_varint, unframe};
use crate::model::{AttrId, AttrType, IdColumn, IdKind};

/// A page is closed before it gets larger, unless one row does that alone. Of rows of 400 bytes it is unpacked in a seventh
/// of the time of a page of 16 KiB, and takes a tenth more room.
const PAGE_BYTES: usize = 3 * 1024;
/// An attribute whose values take more than this on average gets a stream of its own.
const WIDE_BYTES: u64 = 2048;

/// A column of an attribute that is no dense vector.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    pub id: AttrId,
    pub ty: AttrType,
    pub array: &'a ArrayRef,
    /// About how many bytes its values take.
    pub bytes: u64,
}

impl Values<'_> {
    fn is_wide(&self) -> bool {
        let present = (self.array.len() - self.array.null_count()) as u64;
        self.bytes > WIDE_BYTES * present
    }
}

/// The pages of some attributes.
pub struct Stream {
    /// The one it is for; `None` when it is the main stream.
    pub attribute: Option<AttrId>,
    pub cold: Vec<u8>,
    pub hot: Vec<u8>,
}

/// Encodes rows as a main stream and one for each wide attribute.
///
/// * `columns` — ascending by id, each with a value in some row
pub fn encode(ids: &IdColumn, columns: &[Values<'_>], compression: Compression) -> Vec<Stream> {
    let (wide, narrow): (Vec<Values<'_>>, Vec<Values<'_>>) = columns.iter().copied().partition(Values::is_wide);
    let mut packer = Packer::quick(compression);
    let mut streams = vec![encode_stream(None, Some(ids), &narrow, ids.len(), &mut packer)];
    for column in wide {
        streams.push(encode_stream(Some(column.id), None, &[column], ids.len(), &mut packer));
    }
    streams
}

fn encode_stream(
    attribute: Option<AttrId>,
    ids: Option<&IdColumn>,
    columns: &[Values<'_>],
    rows: usize,
    packer: &mut Packer,
) -> Stream {
    let mut hot = Vec::new();
    put_varint(&mut hot, columns.len() as u64);
    for column in columns {
        put_varint(&mut hot, u64::from(column.id.0));
        put_type(&mut hot, column.ty);
    }
    let sources: Vec<_> = columns
        .iter()
        .map(|c| (c.id, Wire::of(c.ty), Source::new(c.array)))
        .collect();
    let mut pages = PageWriter::new(packer);
    let (mut row_bytes, mut spare) = (Vec::new(), Vec::new());
    for row in 0..rows {
        row_bytes.clear();
        if let Some(ids) = ids {
            put_id(ids, row, &mut row_bytes);
        }
        let mut next = 0;
        for (id, wire, source) in sources.iter().filter(|(_, _, s)| !s.is_null(row)) {
            put_varint(&mut row_bytes, (u64::from(id.0 - next) << 2) | *wire as u64);
            source.put(row, &mut row_bytes, &mut spare);
            next = id.0.saturating_add(1);
        }
        pages.push(&row_bytes);
    }
    let cold = pages.finish(&mut hot);
    Stream { attribute, cold, hot }
}

struct PageWriter<'a> {
    packer: &'a mut Packer,
    /// Of the page that is being filled: how long its rows are, and the rows.
    lengths: Vec<u8>,
    rows: Vec<u8>,
    count: u64,
    cold: Vec<u8>,
    /// Rows and bytes of each page.
    pages: Vec<(u64, u64)>,
}

impl<'a> PageWriter<'a> {
    fn new(packer: &'a mut Packer) -> Self {
        Self {
            packer,
            lengths: Vec::new(),
            rows: Vec::new(),
            count: 0,
            cold: Vec::new(),
            pages: Vec::new(),
        }
    }

    fn push(&mut self, row: &[u8]) {
        if self.count > 0 && self.lengths.len() + self.rows.len() + row.len() > PAGE_BYTES {
            self.close();
        }
        put_varint(&mut self.lengths, row.len() as u64);
        self.rows.extend_from_slice(row);
        self.count += 1;
    }

    fn close(&mut self) {
        self.lengths.append(&mut self.rows);
        let len = self.packer.frame(&self.lengths, &mut self.cold);
        self.pages.push((self.count, len));
        self.lengths.clear();
        self.count = 0;
    }

    fn finish(mut self, hot: &mut Vec<u8>) -> Vec<u8> {
        if self.count > 0 {
            self.close();
        }
        put_varint(hot, self.pages.len() as u64);
        for (rows, len) in self.pages {
            put_varint(hot, rows);
            put_varint(hot, len);
        }
        self.cold
    }
}

/// Where the rows of a stream are.
#[derive(Clone, Debug)]
pub struct PageIndex {
    /// In ascending order; an attribute that is in no stream is null in every row.
    pub attributes: Vec<(AttrId, AttrType)>,
    /// The first row of each page, and the number of rows.
    first_rows: Vec<u32>,
    /// Where each page starts in the section, and the section's length.
    offsets: Vec<u64>,
}

impl PageIndex {
    /// Decodes the hot bytes of a stream.
    ///
    /// * `rows` — of the segment
    /// * `len` — of the section
    pub fn decode(hot: &[u8], rows: u32, len: u64) -> Result<Self, FormatError> {
        let mut input = Reader::new(hot);
        let count = input.varint_to(input.len() as u64)?;
        let mut attributes = Vec::new();
        for _ in 0..count {
            let id = AttrId(input.varint_to(u64::from(u32::MAX))? as u32);
            attributes.push((id, read_type(&mut input)?));
        }
        if !attributes.is_sorted_by(|a, b| a.0 < b.0) || attributes.iter().any(|a| a.1.is_vector()) {
            return Err(FormatError::corrupt("the attributes of row pages are not in order"));
        }
        let count = input.varint_to(input.len() as u64)? as usize;
        let (mut first_rows, mut offsets) = (Vec::with_capacity(count + 1), Vec::with_capacity(count + 1));
        let (mut row, mut offset) = (0, 0);
        for _ in 0..count {
            first_rows.push(row);
            offsets.push(offset);
            match input.varint_to(u64::from(rows - row))? as u32 {
                0 => return Err(FormatError::corrupt("a page has no rows")),
                n => row += n,
            }
            offset += input.varint_to(len - offset)?;
        }
        if row != rows || offset != len {
            return Err(FormatError::corrupt("the pages do not hold all rows"));
        }
        first_rows.push(row);
        offsets.push(offset);
        input.end()?;
        Ok(Self {
            attributes,
            first_rows,
            offsets,
        })
    }

    /// The page of a row, which the segment has.
    pub fn page_of(&self, row: u32) -> usize {
        self.first_rows.partition_point(|first| *first <= row) - 1
    }

    /// The rows of a page.
    pub fn rows(&self, page: usize) -> Range<u32> {
        self.first_rows[page]..self.first_rows[page + 1]
    }

    /// Where a page lies in the section.
    pub fn range(&self, page: usize) -> Range<u64> {
        self.offsets[page]..self.offsets[page + 1]
    }

    /// How long all pages are.
    pub fn len(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// The type that an attribute's values have in this stream, if it is there.
    pub fn type_of(&self, id: AttrId) -> Option<AttrType> {
        let at = self.attributes.binary_search_by_key(&id, |a| a.0).ok()?;
        Some(self.attributes[at].1)
    }
}

/// An unpacked page.
pub struct Page {
    raw: Vec<u8>,
    first_row: u32,
    /// Where each row ends in `raw`; the first one starts at `start`.
    ends: Vec<usize>,
    start: usize,
}

impl Page {
    /// Unpacks a page with these rows.
    pub fn decode(frame: &[u8], rows: Range<u32>) -> Result<Self, FormatError> {
        let raw = unframe(frame)?;
        let count = rows.len();
        let mut input = Reader::new(&raw);
        // Each row has at least the byte of its length.
        let mut ends = Vec::with_capacity(count.min(raw.len()));
        let mut end = 0;
        for _ in 0..count {
            end += input.varint_to(raw.len() as u64)? as usize;
            ends.push(end);
        }
        let start = raw.len() - input.len();
        if end != input.len() {
            return Err(FormatError::corrupt("a page has another length than its rows"));
        }
        ends.iter_mut().for_each(|end| *end += start);
        Ok(Self {
            raw,
            first_row: rows.start,
            ends,
            start,
        })
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.raw.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// The bytes of a row, which is on this page.
    pub fn row(&self, row: u32) -> &[u8] {
        let at = (row - self.first_row) as usize;
        let start = if at == 0 { self.start } else { self.ends[at - 1] };
        &self.raw[start..self.ends[at]]
    }
}

/// Takes wanted values out of rows and makes columns of them.
pub struct Extractor {
    id: Option<Wire>,
    ids: Option<ValueBuilder>,
    /// Ascending by attribute.
    columns: Vec<(AttrId, Wire, ValueBuilder)>,
}

impl Extractor {
    /// Extracts from rows of one stream.
    ///
    /// * `id_kind` — of the ids that every row starts with; `None` in the stream of a wide attribute
    /// * `with_ids` — whether the ids are wanted
    /// * `wanted` — attributes of the stream with the types that they have in it
    /// * `rows` — how many will come
    pub fn new(id_kind: Option<IdKind>, with_ids: bool, mut wanted: Vec<(AttrId, AttrType)>, rows: usize) -> Self {
        wanted.sort_by_key(|(id, _)| *id);
        wanted.dedup_by_key(|(id, _)| *id);
        let id_type = id_kind.map(id_type);
        let column = |(id, ty): &(AttrId, AttrType)| (*id, Wire::of(*ty), ValueBuilder::new(*ty, rows));
        Self {
            id: id_type.map(Wire::of),
            ids: id_type.filter(|_| with_ids).map(|ty| ValueBuilder::new(ty, rows)),
            columns: wanted.iter().map(column).collect(),
        }
    }

    /// Appends the values of a row.
    pub fn push(&mut self, row: &[u8]) -> Result<(), FormatError> {
        let mut input = Reader::new(row);
        if let Some(wire) = self.id {
            let id = wire.take(&mut input)?;
            if let Some(ids) = &mut self.ids {
                ids.append(Some(id))?;
            }
        }
        let mut columns = self.columns.iter_mut().peekable();
        let mut next = 0;
        while columns.peek().is_some() && !input.is_empty() {
            let key = input.varint()?;
            let id =
                u32::try_from(next + (key >> 2)).map_err(|_| FormatError::corrupt("an attribute has no number"))?;
            next = u64::from(id) + 1;
            let wire = Wire::of_key(key);
            let value = wire.take(&mut input)?;
            while let Some((_, _, builder)) = columns.next_if(|(wanted, _, _)| wanted.0 < id) {
                builder.append(None)?;
            }
            if let Some((_, expected, builder)) = columns.next_if(|(wanted, _, _)| wanted.0 == id) {
                if *expected != wire {
                    return Err(FormatError::corrupt("a value has another type than its attribute"));
                }
                builder.append(Some(value))?;
            }
        }
        columns.try_for_each(|(_, _, builder)| builder.append(None))
    }

    /// The ids, if they were wanted, and the columns by attribute.
    pub fn finish(self) -> (Option<ArrayRef>, Vec<(AttrId, ArrayRef)>) {
        let columns = self.columns.into_iter().map(|(id, _, builder)| (id, builder.finish()));
        (self.ids.map(ValueBuilder::finish), columns.collect())
    }
}
