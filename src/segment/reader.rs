//! An open segment.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::columns::ColumnIndex;
use super::container::{Hot, HotPlace, SectionKind, TRAILER_BYTES, decode_trailer};
use super::layout::{Layout, Pages, Placed, Step, Taken, Wanted, expect_type};
use super::pages::Page;
use super::source::{SMALL_BYTES, Source};
use super::wire::FormatError;
use super::{Rows, SegmentError, SegmentMeta};
use crate::base::CpuPool;
use crate::cache::{Cache, ObjectRef, ReadKind};
use crate::model::{AttrId, Attribute, Column, IdColumn, VectorColumn};
use crate::store::paths::{self, NsKey};

/// An open segment. Its methods cost what is not in the cache.
pub struct Segment {
    pub(super) meta: SegmentMeta,
    pub(super) source: Source,
    pub(super) layout: Arc<Layout>,
}

/// Tells what is decoded from an object apart.
pub(super) fn tag(kind: SectionKind, attribute: Option<AttrId>) -> u64 {
    let attribute = attribute.map_or(u32::MAX, |a| a.0);
    (u64::from(kind as u16) << 32) | u64::from(attribute)
}

impl Segment {
    /// Opens a segment. Costs one GET, none when it is inline.
    ///
    /// * `ns` — whose manifest names it
    ///
    /// # Errors
    ///
    /// [`SegmentError::Damaged`] when the object is not the segment that `meta` means, also when read again.
    pub async fn open(meta: SegmentMeta, ns: &NsKey, cache: &Cache, cpu: &CpuPool) -> Result<Self, SegmentError> {
        let owner = meta.owner.as_ref().unwrap_or(ns);
        let object = ObjectRef {
            key: Arc::new(paths::segment(owner, meta.id.0)),
            len: meta.len,
            org: owner.org().clone(),
        };
        let source = Source::new(&meta, object, cache, cpu);
        let place = HotPlace {
            offset: meta.hot_offset,
            len: meta.hot_len,
            crc: meta.hot_crc,
        };
        let end = place.offset.checked_add(u64::from(place.len) + TRAILER_BYTES);
        if end != Some(meta.len) {
            return Err(source.damaged(&FormatError::corrupt("its manifest contradicts itself")));
        }
        let expected = meta.clone();
        let decode = move |bytes: &[Bytes]| decode_tail(&bytes[0], place, &expected);
        let tail = place.offset..meta.len;
        let layout = source.read(vec![tail], ReadKind::Hot, decode).await?;
        Ok(Self {
            meta,
            source,
            layout: Arc::new(layout),
        })
    }

    /// What the manifest says of it.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Its object, unless it is inline.
    pub fn object(&self) -> &ObjectRef {
        &self.source.object
    }

    /// How many rows, dead ones included.
    pub fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// The ids of all rows. Costs one GET.
    pub async fn ids(&self) -> Result<Arc<IdColumn>, SegmentError> {
        let made = async {
            let column = self.whole_column(|l| &l.ids).await?;
            let Column::Values(array) = &column else {
                unreachable!("column sections have values");
            };
            let without_ids = || self.source.damaged(&FormatError::corrupt("it has rows without id"));
            let ids = IdColumn::from_array(array).ok_or_else(without_ids)?;
            let bytes = ids.memory_bytes();
            Ok((Arc::new(ids), bytes))
        };
        let tag = tag(SectionKind::Ids, None);
        self.source.cache.decoded(&self.source.object, tag, made).await
    }

    /// Whether [`column`](Self::column) reads a column rather than rows.
    pub fn has_column(&self, id: AttrId) -> bool {
        self.layout.columns.contains_key(&id)
    }

    /// How many bytes [`column`](Self::column) reads of a column section; `None` where it reads rows.
    pub fn column_len(&self, id: AttrId) -> Option<u64> {
        let blocks = &self.layout.columns.get(&id)?.index.blocks;
        Some(blocks.last().map_or(0, |block| block.range.end))
    }

    /// How many bytes [`column`](Self::column) reads of row pages where there is no column section; 0 where the attribute
    /// is null in every row.
    pub fn pages_len(&self, attribute: &Attribute) -> u64 {
        self.layout.pages_len(attribute)
    }

    /// How many bytes the values of all rows have, dense vectors left out.
    pub fn values_bytes(&self) -> u64 {
        let vectors = self.layout.vectors.values().map(|v| v.index.values_bytes());
        self.meta.logical_bytes.saturating_sub(vectors.sum())
    }

    /// The whole column of an attribute that is no dense vector. `None`: null in every row.
    ///
    /// Costs one GET where there is a column section, else one for about every 8 MiB of row pages.
    pub async fn column(&self, attribute: &Attribute) -> Result<Option<Arc<Column>>, SegmentError> {
        let there = self.layout.has_values(attribute).map_err(|e| self.source.damaged(&e))?;
        if !there {
            return Ok(None);
        }
        let made = async {
            let column = match self.layout.columns.get(&attribute.id) {
                Some(column) => {
                    expect_type(column.index.ty, attribute).map_err(|e| self.source.damaged(&e))?;
                    let id = attribute.id;
                    self.whole_column(move |l| &l.columns[&id]).await?
                }
                None => self.assembled_column(attribute).await?,
            };
            let bytes = column.memory_bytes();
            Ok((Arc::new(column), bytes))
        };
        let tag = tag(SectionKind::Column, Some(attribute.id));
        let column = self.source.cache.decoded(&self.source.object, tag, made).await;
        column.map(Some)
    }

    async fn whole_column<F>(&self, which: F) -> Result<Column, SegmentError>
    where
        F: Fn(&Layout) -> &Placed<ColumnIndex> + Send + Sync + 'static,
    {
        let column = which(&self.layout);
        let len = column.index.blocks.last().map_or(0, |b| b.range.end);
        let range = column.place(0..len);
        let layout = self.layout.clone();
        let decode = move |bytes: &[Bytes]| {
            let index = &which(&layout).index;
            let frame = |b: &super::columns::Block| &bytes[0][b.range.start as usize..b.range.end as usize];
            let frames: Vec<&[u8]> = index.blocks.iter().map(frame).collect();
            index.read(&index.blocks, frames.into_iter()).map(Column::Values)
        };
        self.source.read(vec![range], ReadKind::Index, decode).await
    }

    /// A column from row pages.
    async fn assembled_column(&self, attribute: &Attribute) -> Result<Column, SegmentError> {
        let rows: Vec<u32> = (0..self.meta.rows).collect();
        let attributes = std::slice::from_ref(attribute);
        // Who asks has reserved memory: others may be waiting for the same column.
        let mut charge = |_| Ok::<_, SegmentError>(());
        let mut taken = self.take(&rows, false, attributes, ReadKind::Rows, &mut charge).await?;
        let column = taken.columns.remove(&attribute.id);
        column.ok_or_else(|| {
            self.source
                .damaged(&FormatError::corrupt("a column is not where it should be"))
        })
    }

    /// Some rows, in the order given, with these attributes, dense vectors included. An attribute that is null in every row
    /// of the segment gets no column.
    ///
    /// * `rows` — of the segment's; may repeat
    /// * `kind` — [`ReadKind::Scan`] for who reads everything once, else [`ReadKind::Rows`]
    ///
    /// Costs one GET for each page or run of pages that the rows lie in, and as many for each wide attribute and each
    /// vector column, all at once; one such round for about every 8 MiB.
    pub async fn fetch(&self, rows: &[u32], attributes: &[Attribute], kind: ReadKind) -> Result<Rows, SegmentError> {
        self.fetch_charged(rows, attributes, kind, &mut |_| Ok(())).await
    }

    /// The same, paid for on the way.
    ///
    /// * `charge` — told how many bytes more are in memory, after each round and before rounds are put together; stops the
    ///   reading with its error
    pub async fn fetch_charged<E: From<SegmentError>>(
        &self,
        rows: &[u32],
        attributes: &[Attribute],
        kind: ReadKind,
        charge: &mut (impl FnMut(usize) -> Result<(), E> + Send),
    ) -> Result<Rows, E> {
        let taken = self.take(rows, true, attributes, kind, charge).await?;
        Ok(taken.into_rows().map_err(|e| self.source.damaged(&e))?)
    }

    async fn take<E: From<SegmentError>>(
        &self,
        rows: &[u32],
        ids: bool,
        attributes: &[Attribute],
        kind: ReadKind,
        charge: &mut (impl FnMut(usize) -> Result<(), E> + Send),
    ) -> Result<Taken, E> {
        assert!(
            rows.iter().all(|row| *row < self.meta.rows),
            "only rows of the segment are fetched"
        );
        let wanted = Wanted::new(&self.layout, ids, attributes).map_err(|e| self.source.damaged(&e))?;
        let wanted = Arc::new(wanted);
        let mut steps: Vec<Taken> = Vec::new();
        let mut rest = rows;
        while steps.is_empty() || !rest.is_empty() {
            let pages = KeptPages::of(&self.source, kind);
            let step = Step::plan(&self.layout, &wanted, rest, &pages);
            let (now, later) = rest.split_at(step.rows);
            let shares = self.shares(&step, now, kind);
            let share_rows = now.len().div_ceil(shares).max(1);
            let ranges = step.ranges.merged().to_vec();
            let (layout, wanted, now) = (self.layout.clone(), wanted.clone(), now.to_vec());
            let decode = move |share: usize, bytes: &[Bytes]| {
                let rows = now.chunks(share_rows).nth(share).unwrap_or_default();
                step.decode(&layout, &wanted, rows, bytes, &pages)
            };
            let mut taken = self.source.read_shares(ranges, kind, shares, decode).await?;
            charge(taken.iter().map(Taken::memory_bytes).sum())?;
            steps.append(&mut taken);
            rest = later;
        }
        match steps.len() {
            1 => Ok(steps.swap_remove(0)),
            _ => {
                charge(steps.iter().map(Taken::memory_bytes).sum())?;
                let joined = self.source.compute(kind, move || Taken::join(&steps)).await;
                Ok(joined.map_err(|e| self.source.damaged(&e))?)
            }
        }
    }

    /// Into how many parts the decoding of a step is divided.
    fn shares(&self, step: &Step, rows: &[u32], kind: ReadKind) -> usize {
        // Out of order, several would unpack the same pages. Nobody waits for a scan.
        match kind != ReadKind::Scan && rows.is_sorted() {
            true => {
                (step.bytes as usize / SMALL_BYTES).clamp(1, self.source.cpu().parallelism().min(rows.len().max(1)))
            }
            false => 1,
        }
    }

    /// The dense vectors of a range of rows. `None`: null in every row of the segment.
    ///
    /// * `rows` — of the segment's
    ///
    /// Costs one GET, of the blocks of about 64 KiB that the rows lie in.
    pub async fn vectors(&self, attribute: &Attribute, rows: Range<u32>) -> Result<Option<VectorColumn>, SegmentError> {
        assert!(
            rows.start <= rows.end && rows.end <= self.meta.rows,
            "only rows of the segment are read"
        );
        let Some(vectors) = self.layout.vectors.get(&attribute.id) else {
            return Ok(None);
        };
        expect_type(vectors.index.ty(), attribute).map_err(|e| self.source.damaged(&e))?;
        let blocks = vectors.index.blocks_of(&rows);
        let range = vectors.place(vectors.index.range(&blocks));
        let (layout, id) = (self.layout.clone(), attribute.id);
        let decode = move |bytes: &[Bytes]| {
            let index = &layout.vectors[&id].index;
            index.check(&blocks, &bytes[0])?;
            Ok(index.slice(&rows, bytes[0].clone()))
        };
        self.source.read(vec![range], ReadKind::Vectors, decode).await.map(Some)
    }
}

/// Unpacked pages in the cache.
struct KeptPages {
    /// `None` for who reads everything once.
    cache: Option<(Cache, ObjectRef)>,
}

impl KeptPages {
    fn of(source: &Source, kind: ReadKind) -> Self {
        // Asked here: the meter of a task is not known on the threads that unpack.
        let keeps = kind != ReadKind::Scan && !source.is_inline() && source.cache.would_keep(0);
        Self {
            cache: keeps.then(|| (source.cache.clone(), source.object.clone())),
        }
    }

    /// Tells pages apart from each other, and from what else is decoded: sections, whose kinds are small numbers, and what
    /// is kept of attributes under the two highest bits.
    fn tag(stream: usize, page: usize) -> u64 {
        1 << 61 | (stream as u64) << 32 | page as u64
    }
}

impl Pages for KeptPages {
    fn get(&self, stream: usize, page: usize) -> Option<Arc<Page>> {
        let (cache, object) = self.cache.as_ref()?;
        cache.kept(object, Self::tag(stream, page))
    }

    fn put(&self, stream: usize, page: usize, unpacked: &Arc<Page>) {
        if let Some((cache, object)) = &self.cache {
            cache.keep(object, Self::tag(stream, page), unpacked, unpacked.memory_bytes());
        }
    }
}

/// Decodes hot region and trailer.
fn decode_tail(bytes: &Bytes, place: HotPlace, meta: &SegmentMeta) -> Result<Layout, FormatError> {
    let hot_len = bytes.len().saturating_sub(TRAILER_BYTES as usize);
    if decode_trailer(&bytes[hot_len..], meta.len)? != place {
        return Err(FormatError::corrupt("its trailer contradicts its manifest"));
    }
    Layout::decode(Hot::decode(&bytes.slice(..hot_len), place)?, meta)
}
