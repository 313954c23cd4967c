//! Where everything in a segment is, and how bytes read from there become columns. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{MutableBuffer, NullBuffer};
use bytes::Bytes;

use super::columns::ColumnIndex;
use super::container::{Hot, Section, SectionKind};
use super::keys::{Bloom, KeyIndex};
use super::pages::{Extractor, Page, PageIndex};
use super::values::id_type;
use super::vectors::VectorIndex;
use super::wire::FormatError;
use super::{Rows, SegmentMeta};
use crate::index::text::stored::TextDirectory;
use crate::model::{AttrId, AttrType, Attribute, Column, IdColumn, VectorColumn};

/// An index and where its section starts.
pub struct Placed<T> {
    pub offset: u64,
    pub index: T,
}

impl<T> Placed<T> {
    /// A range of the section as one of the object.
    pub fn place(&self, range: Range<u64>) -> Range<u64> {
        self.offset + range.start..self.offset + range.end
    }
}

/// The decoded hot region.
pub struct Layout {
    pub hot: Hot,
    pub ids: Placed<ColumnIndex>,
    pub columns: BTreeMap<AttrId, Placed<ColumnIndex>>,
    pub vectors: BTreeMap<AttrId, Placed<VectorIndex>>,
    pub keys: Placed<KeyIndex>,
    pub bloom: Bloom,
    pub texts: BTreeMap<AttrId, Placed<TextDirectory>>,
    /// The main one first.
    streams: Vec<Placed<PageIndex>>,
}

impl Layout {
    /// Decodes what the sections say of themselves, and checks that it is the segment that `meta` means.
    pub fn decode(hot: Hot, meta: &SegmentMeta) -> Result<Self, FormatError> {
        if hot.id != meta.inner_id() || hot.rows != meta.rows {
            return Err(FormatError::corrupt("it is another segment"));
        }
        let column = |s: &Section| {
            let index = ColumnIndex::decode(&s.hot, hot.rows, s.len)?;
            Ok::<_, FormatError>(Placed {
                offset: s.offset,
                index,
            })
        };
        let ids = hot.section(SectionKind::Ids, None).map(column).transpose()?;
        let ids = ids.filter(|ids| ids.index.ty == id_type(hot.id_kind));
        let ids = ids.ok_or_else(|| FormatError::corrupt("it has no ids"))?;
        if ids.index.blocks.iter().any(|b| b.nulls > 0) {
            return Err(FormatError::corrupt("it has rows without id"));
        }
        let mut streams = Vec::new();
        for section in hot.sections(SectionKind::Pages) {
            let index = PageIndex::decode(&section.hot, hot.rows, section.len)?;
            if section.attribute.is_none() != streams.is_empty() {
                return Err(FormatError::corrupt("it has no main row pages"));
            }
            streams.push(Placed {
                offset: section.offset,
                index,
            });
        }
        let mut vectors = BTreeMap::new();
        for section in hot.sections(SectionKind::Vectors) {
            let index = VectorIndex::decode(&section.hot, hot.rows, section.len)?;
            vectors.insert(
                owner(section)?,
                Placed {
                    offset: section.offset,
                    index,
                },
            );
        }
        let (keys, bloom) = decode_keys(&hot)?;
        let texts = hot.sections(SectionKind::Postings).map(|s| {
            let index = TextDirectory::open(&s.hot, hot.rows, s.len)?;
            let offset = s.offset;
            Ok((owner(s)?, Placed { offset, index }))
        });
        let texts = texts.collect::<Result<_, FormatError>>()?;
        let columns = hot.sections(SectionKind::Column).map(|s| Ok((owner(s)?, column(s)?)));
        let columns = columns.collect::<Result<_, FormatError>>()?;
        match streams.is_empty() {
            true => Err(FormatError::corrupt("it has no row pages")),
            false => Ok(Self {
                hot,
                ids,
                columns,
                vectors,
                keys,
                bloom,
                texts,
                streams,
            }),
        }
    }

    /// The stream that has an attribute.
    fn stream_of(&self, attribute: &Attribute) -> Result<Option<usize>, FormatError> {
        let found = self.streams.iter().enumerate();
        let mut found = found.filter_map(|(i, s)| Some((i, s.index.type_of(attribute.id)?)));
        match found.next() {
            None => Ok(None),
            Some((stream, ty)) => expect_type(ty, attribute).map(|()| Some(stream)),
        }
    }

    /// How long the row pages are that have an attribute; 0 where it is in none.
    pub fn pages_len(&self, attribute: &Attribute) -> u64 {
        let mut found = self.streams.iter().filter(|s| s.index.type_of(attribute.id).is_some());
        found.next().map_or(0, |stream| stream.index.len())
    }

    /// Whether rows have a value of an attribute that is no dense vector.
    pub fn has_values(&self, attribute: &Attribute) -> Result<bool, FormatError> {
        self.stream_of(attribute).map(|stream| stream.is_some())
    }
}

fn owner(section: &Section) -> Result<AttrId, FormatError> {
    let owner = section.attribute;
    owner.ok_or_else(|| FormatError::corrupt("a section of an attribute is nobody's"))
}

/// The key run, which every segment has.
fn decode_keys(hot: &Hot) -> Result<(Placed<KeyIndex>, Bloom), FormatError> {
    let sections = (
        hot.section(SectionKind::Keys, None),
        hot.section(SectionKind::Bloom, None),
    );
    let (Some(keys), Some(bloom)) = sections else {
        return Err(FormatError::corrupt("it has no key run"));
    };
    let index = KeyIndex::open(&keys.hot, keys.len)?;
    if index.rows() != hot.rows || index.kind() != hot.id_kind {
        return Err(FormatError::corrupt("its key run is that of another segment"));
    }
    let offset = keys.offset;
    Ok((Placed { offset, index }, Bloom::open(bloom.hot.clone())?))
}

/// That an attribute has the type that was stored, which never changes while its number is in use.
pub fn expect_type(stored: AttrType, attribute: &Attribute) -> Result<(), FormatError> {
    match stored == attribute.ty {
        true => Ok(()),
        false => Err(FormatError::corrupt(format!(
            "attribute {} is {stored} in it and {} in the schema",
            attribute.id.0, attribute.ty
        ))),
    }
}

/// The ranges of one read; ranges that touch are one.
#[derive(Default)]
pub struct Ranges {
    merged: Vec<Range<u64>>,
    /// For each range added: which of `merged` has it, and where.
    slots: Vec<(usize, Range<usize>)>,
}

impl Ranges {
    fn add(&mut self, range: Range<u64>) {
        let len = (range.end - range.start) as usize;
        match self.merged.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => self.merged.push(range.clone()),
        }
        let at = self.merged.len() - 1;
        let start = (range.start - self.merged[at].start) as usize;
        self.slots.push((at, start..start + len));
    }

    /// What to read.
    pub fn merged(&self) -> &[Range<u64>] {
        &self.merged
    }

    /// The bytes of each range added, from those of each merged one.
    fn split(&self, read: &[Bytes]) -> Vec<Bytes> {
        let slice = |(at, range): &(usize, Range<usize>)| read[*at].slice(range.clone());
        self.slots.iter().map(slice).collect()
    }
}

/// What of the rows is wanted.
#[derive(Default)]
pub struct Wanted {
    ids: bool,
    /// Of each stream.
    values: Vec<Vec<(AttrId, AttrType)>>,
    vectors: Vec<AttrId>,
}

impl Wanted {
    /// What is there of some attributes.
    pub fn new(layout: &Layout, ids: bool, attributes: &[Attribute]) -> Result<Self, FormatError> {
        let mut wanted = Self {
            ids,
            values: vec![Vec::new(); layout.streams.len()],
            vectors: Vec::new(),
        };
        for attribute in attributes {
            if let Some(vectors) = layout.vectors.get(&attribute.id) {
                expect_type(vectors.index.ty(), attribute)?;
                wanted.vectors.push(attribute.id);
            } else if let Some(stream) = layout.stream_of(attribute)? {
                wanted.values[stream].push((attribute.id, attribute.ty));
            }
        }
        Ok(wanted)
    }

    fn needs_stream(&self, stream: usize) -> bool {
        (self.ids && stream == 0) || !self.values[stream].is_empty()
    }
}

/// The most bytes that one read of scattered rows takes, and the most pages.
const STEP_BYTES: u64 = 8 << 20;
const STEP_PAGES: usize = 4096;

/// One read of some rows.
pub struct Step {
    /// How many of the rows it takes.
    pub rows: usize,
    /// How many bytes it reads.
    pub bytes: u64,
    pub ranges: Ranges,
    /// For each stream the pages that the rows lie in, ascending, with those that are unpacked already.
    pages: Vec<Vec<(usize, Option<Arc<Page>>)>>,
    /// For each vector column the blocks to read, ascending.
    blocks: Vec<Vec<usize>>,
}

impl Step {
    /// Plans the read of as many of `rows` as one step takes, at least one if there are any.
    ///
    /// * `pages` — where pages are that are unpacked already
    pub fn plan(layout: &Layout, wanted: &Wanted, rows: &[u32], pages: &impl Pages) -> Self {
        let streams: Vec<_> = (0..layout.streams.len()).filter(|s| wanted.needs_stream(*s)).collect();
        let mut places = Vec::new();
        let mut sets = vec![BTreeSet::new(); layout.streams.len() + wanted.vectors.len()];
        let (mut bytes, mut count, mut taken) = (0, 0, 0);
        for row in rows {
            places.clear();
            places.extend(streams.iter().map(|s| {
                let index = &layout.streams[*s].index;
                let page = index.page_of(*row);
                (*s, page, index.range(page))
            }));
            places.extend(wanted.vectors.iter().enumerate().map(|(i, id)| {
                let index = &layout.vectors[id].index;
                let block = index.block_of(*row);
                (layout.streams.len() + i, block, index.range(&(block..block + 1)))
            }));
            for (set, number, range) in &places {
                if sets[*set].insert(*number) {
                    bytes += range.end - range.start;
                    count += 1;
                }
            }
            taken += 1;
            if bytes >= STEP_BYTES || count >= STEP_PAGES {
                break;
            }
        }
        let mut numbers: Vec<Vec<usize>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
        let blocks = numbers.split_off(layout.streams.len());
        let mut ranges = Ranges::default();
        let mut read = Vec::with_capacity(numbers.len());
        for (number, numbers) in numbers.into_iter().enumerate() {
            let stream = &layout.streams[number];
            let unpacked = numbers.into_iter().map(|page| (page, pages.get(number, page)));
            let unpacked: Vec<_> = unpacked.collect();
            let missing = unpacked.iter().filter(|(_, unpacked)| unpacked.is_none());
            missing.for_each(|(page, _)| ranges.add(stream.place(stream.index.range(*page))));
            read.push(unpacked);
        }
        for (id, blocks) in wanted.vectors.iter().zip(&blocks) {
            let vectors = &layout.vectors[id];
            let place = |block: &usize| vectors.place(vectors.index.range(&(*block..*block + 1)));
            blocks.iter().for_each(|block| ranges.add(place(block)));
        }
        Self {
            rows: taken,
            bytes,
            ranges,
            pages: read,
            blocks,
        }
    }

    /// Some of the rows from the bytes of the ranges; without ids if they are not wanted.
    ///
    /// * `rows` — of those that it takes
    /// * `keep` — where pages go that were unpacked for it
    pub fn decode(
        &self,
        layout: &Layout,
        wanted: &Wanted,
        rows: &[u32],
        read: &[Bytes],
        keep: &impl Pages,
    ) -> Result<Taken, FormatError> {
        let mut bytes = self.ranges.split(read).into_iter();
        let mut taken = Taken::default();
        for (stream, pages) in self.pages.iter().enumerate().filter(|(s, _)| wanted.needs_stream(*s)) {
            let frame = |(_, unpacked): &(usize, Option<Arc<Page>>)| match unpacked {
                Some(_) => None,
                None => bytes.next(),
            };
            let frames: Vec<Option<Bytes>> = pages.iter().map(frame).collect();
            let extracting = Extracting {
                layout,
                wanted,
                stream,
                pages,
                frames: &frames,
            };
            let (ids, columns) = extracting.rows(rows, keep)?;
            taken.ids = taken.ids.or(ids);
            taken
                .columns
                .extend(columns.into_iter().map(|(id, array)| (id, Column::Values(array))));
        }
        for (id, blocks) in wanted.vectors.iter().zip(&self.blocks) {
            let data: Vec<Bytes> = bytes.by_ref().take(blocks.len()).collect();
            let column = gather_vectors(&layout.vectors[id].index, blocks, &data, rows)?;
            taken.columns.insert(*id, Column::Vectors(column));
        }
        Ok(taken)
    }
}

/// Rows, or parts of them.
#[derive(Default)]
pub struct Taken {
    ids: Option<ArrayRef>,
    pub columns: BTreeMap<AttrId, Column>,
}

impl Taken {
    /// About how much memory they take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let ids = self.ids.as_ref().map_or(0, |ids| ids.get_buffer_memory_size());
        ids + self.columns.values().map(Column::memory_bytes).sum::<usize>()
    }

    /// With the ids, which were wanted.
    pub fn into_rows(self) -> Result<Rows, FormatError> {
        let ids = self.ids.as_ref().and_then(IdColumn::from_array);
        Ok(Rows {
            ids: ids.ok_or_else(|| FormatError::corrupt("it has rows without id"))?,
            columns: self.columns,
        })
    }

    /// Puts the rows of several steps together, of which there is at least one.
    pub fn join(steps: &[Taken]) -> Result<Taken, FormatError> {
        let ids: Vec<&ArrayRef> = steps.iter().filter_map(|s| s.ids.as_ref()).collect();
        let ids = if ids.is_empty() { None } else { Some(concat(&ids)?) };
        let mut columns = BTreeMap::new();
        // All steps want the same.
        for id in steps[0].columns.keys() {
            let parts: Vec<&Column> = steps.iter().filter_map(|s| s.columns.get(id)).collect();
            columns.insert(*id, join_columns(&parts)?);
        }
        Ok(Taken { ids, columns })
    }
}

fn concat(arrays: &[&ArrayRef]) -> Result<ArrayRef, FormatError> {
    let arrays: Vec<_> = arrays.iter().map(|a| a.as_ref()).collect();
    arrow::compute::concat(&arrays).map_err(|e| FormatError::corrupt(format!("the pages of a column: {e}")))
}

/// One column of several of the same attribute.
fn join_columns(parts: &[&Column]) -> Result<Column, FormatError> {
    let (mut arrays, mut vectors) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Column::Values(array) => arrays.push(array),
            Column::Vectors(column) => vectors.push(column),
        }
    }
    match vectors.is_empty() {
        true => Ok(Column::Values(concat(&arrays)?)),
        false => Ok(Column::Vectors(join_vectors(&vectors))),
    }
}

fn join_vectors(parts: &[&VectorColumn]) -> VectorColumn {
    let mut data = MutableBuffer::with_capacity(parts.iter().map(|p| p.data.len()).sum());
    parts.iter().for_each(|p| data.extend_from_slice(&p.data));
    let valid = parts.iter().flat_map(|p| (0..p.len()).map(|row| !p.is_null(row)));
    let nulls: NullBuffer = valid.collect();
    VectorColumn {
        dims: parts[0].dims,
        element: parts[0].element,
        data: data.into(),
        nulls: Some(nulls).filter(|n| n.null_count() > 0),
    }
}

type Extracted = (Option<ArrayRef>, Vec<(AttrId, ArrayRef)>);

/// Pages that are unpacked, kept between reads.
pub trait Pages {
    /// A page of a stream, if it is there.
    fn get(&self, stream: usize, page: usize) -> Option<Arc<Page>>;
    /// Takes one that was unpacked, if it is worth it.
    fn put(&self, stream: usize, page: usize, unpacked: &Arc<Page>);
}

/// Pages of one stream, unpacked or read.
struct Extracting<'a> {
    layout: &'a Layout,
    wanted: &'a Wanted,
    stream: usize,
    pages: &'a [(usize, Option<Arc<Page>>)],
    frames: &'a [Option<Bytes>],
}

impl Extracting<'_> {
    fn rows(&self, rows: &[u32], keep: &impl Pages) -> Result<Extracted, FormatError> {
        let index = &self.layout.streams[self.stream].index;
        // The others as far as these rows need them.
        let mut unpacked: Vec<Option<Arc<Page>>> = self.pages.iter().map(|(_, page)| page.clone()).collect();
        let id_kind = (self.stream == 0).then_some(self.layout.hot.id_kind);
        let wanted = self.wanted.values[self.stream].clone();
        let mut extractor = Extractor::new(id_kind, self.wanted.ids, wanted, rows.len());
        for row in rows {
            let number = index.page_of(*row);
            let at = self.pages.binary_search_by_key(&number, |(page, _)| *page);
            let at = at.expect("the pages of all rows are read");
            let page = match &mut unpacked[at] {
                Some(page) => page,
                none => {
                    let frame = self.frames[at].as_ref().expect("what is not unpacked is read");
                    let page = Arc::new(Page::decode(frame, index.rows(number))?);
                    keep.put(self.stream, number, &page);
                    none.insert(page)
                }
            };
            extractor.push(page.row(*row))?;
        }
        Ok(extractor.finish())
    }
}

fn gather_vectors(
    index: &VectorIndex,
    blocks: &[usize],
    data: &[Bytes],
    rows: &[u32],
) -> Result<VectorColumn, FormatError> {
    let at = |block| blocks.binary_search(&block).expect("the blocks of all rows are read");
    let needed: BTreeSet<usize> = rows.iter().map(|row| index.block_of(*row)).collect();
    for block in needed {
        index.check(&(block..block + 1), &data[at(block)])?;
    }
    Ok(index.gather(rows, |block| &data[at(block)]))
}
