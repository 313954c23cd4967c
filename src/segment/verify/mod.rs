//! Looking at all of a segment: whether every byte is what was written, and whether everything that was derived from
//! the rows still says what they say.
//!
//! Readers check what they read and trust the rest. This checks what no reader looks at, and what a reader could not
//! notice: an index that is whole and wrong.
//!
//! Not compared with the rows, but covered by checksums: trigrams of attribute indexes, places of tokens, what belongs to
//! attributes that the schema does not have any more, or whose options are others by now.

mod indexes;
mod keys;

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef};
use bytes::Bytes;

use super::columns::zone;
use super::container::SectionKind;
use super::layout::Layout;
use super::{Rows, Segment, SegmentError};
use crate::cache::ReadKind;
use crate::model::{AttrId, Attribute, Column, Schema};
use crate::store::StoreError;

/// What is read at a time to be summed up, in bytes.
const STEP_BYTES: u64 = 8 << 20;
/// About how much of the rows is held at a time, in bytes; more attributes are compared in several rounds.
const ROUND_BYTES: u64 = 512 << 20;

/// A section of a segment, as its directory lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// What it holds, in a word.
    pub kind: &'static str,
    /// Whose it is; `None` when it belongs to all rows.
    pub attribute: Option<AttrId>,
    /// Where its cold bytes start in the object, and how many there are.
    pub offset: u64,
    pub len: u64,
    /// How many bytes of the hot region are its.
    pub hot_len: u64,
}

/// What a flaw makes unreadable or wrong, and so what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlawIn {
    /// Rows are lost, unless there is a copy of the object.
    Rows,
    /// Answers are wrong or fail, but the rows are whole, and everything can be made of them anew.
    Derived,
}

/// Something that is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub part: FlawIn,
    /// A sentence without a subject: the segment is the subject.
    pub what: String,
}

impl SectionKind {
    fn word(self) -> &'static str {
        match self {
            SectionKind::Ids => "ids",
            SectionKind::Pages => "row pages",
            SectionKind::Column => "column",
            SectionKind::Vectors => "vectors",
            SectionKind::Keys => "key run",
            SectionKind::Bloom => "bloom filter",
            SectionKind::Postings => "text index",
            SectionKind::Attribute => "attribute index",
            SectionKind::AttributeDirectory => "attribute directory",
        }
    }

    fn part(self) -> FlawIn {
        match self {
            SectionKind::Pages | SectionKind::Vectors => FlawIn::Rows,
            SectionKind::Ids
            | SectionKind::Column
            | SectionKind::Keys
            | SectionKind::Bloom
            | SectionKind::Postings
            | SectionKind::Attribute
            | SectionKind::AttributeDirectory => FlawIn::Derived,
        }
    }
}

impl Segment {
    /// What the segment consists of, in the order of its directory. Costs nothing.
    pub fn sections(&self) -> Vec<SectionInfo> {
        let sections = self.layout.hot.all().iter().map(|section| SectionInfo {
            kind: section.kind.word(),
            attribute: section.attribute,
            offset: section.offset,
            len: section.len,
            hot_len: section.hot.len() as u64,
        });
        sections.collect()
    }

    /// Everything that is wrong with the segment.
    ///
    /// * `schema` — of the namespace: what the indexes should be like
    ///
    /// Reads the object about twice, and holds the rows once and the index of one attribute twice, of large segments
    /// the attributes in several rounds: that is a job for nobody who is in a hurry. Costs one GET for about every 8 MiB.
    ///
    /// # Errors
    ///
    /// The object is gone or the store did not answer: nothing is known then.
    pub async fn verify(&self, schema: &Schema) -> Result<Vec<Flaw>, SegmentError> {
        let mut verifier = Verifier {
            segment: self,
            flaws: Vec::new(),
            damaged: BTreeSet::new(),
        };
        verifier.sections().await?;
        // Of rows that cannot be read nothing can be said.
        if verifier.flaws.iter().all(|flaw| flaw.part == FlawIn::Derived) {
            verifier.vectors(schema).await?;
            verifier.rows(schema).await?;
        }
        Ok(verifier.flaws)
    }
}

struct Verifier<'a> {
    segment: &'a Segment,
    flaws: Vec<Flaw>,
    /// Sections whose bytes are not what was written: they are not compared with anything.
    damaged: BTreeSet<(SectionKind, Option<AttrId>)>,
}

impl Verifier<'_> {
    fn flaw(&mut self, part: FlawIn, what: impl Into<String>) {
        let what = what.into();
        self.flaws.push(Flaw { part, what });
    }

    /// What was read; `None` when it is damaged, which is noted.
    fn noted<T>(&mut self, part: FlawIn, read: Result<T, SegmentError>) -> Result<Option<T>, SegmentError> {
        let why = match read {
            Ok(read) => return Ok(Some(read)),
            Err(SegmentError::Damaged { why, .. }) => why,
            Err(SegmentError::Store(StoreError::Corrupt { reason, .. })) => reason,
            Err(error) => return Err(error),
        };
        self.flaw(part, why);
        Ok(None)
    }

    fn is_damaged(&self, kind: SectionKind, attribute: AttrId) -> bool {
        self.damaged.contains(&(kind, Some(attribute)))
    }

    /// The checksums of all sections but vectors, whose blocks have their own.
    async fn sections(&mut self) -> Result<(), SegmentError> {
        let segment = self.segment;
        for section in segment.layout.hot.all() {
            if section.kind == SectionKind::Vectors {
                continue;
            }
            let crc = segment.checksum(section.offset, section.len).await;
            let is_whole = self.noted(section.kind.part(), crc)?.map(|crc| crc == section.crc);
            if is_whole == Some(true) {
                continue;
            }
            self.damaged.insert((section.kind, section.attribute));
            if is_whole == Some(false) {
                let (word, of) = (section.kind.word(), of(section.attribute));
                let end = section.offset + section.len;
                let what = format!(
                    "its {word}{of}, bytes {} to {end}, are not what was written",
                    section.offset
                );
                self.flaw(section.kind.part(), what);
            }
        }
        Ok(())
    }

    async fn vectors(&mut self, schema: &Schema) -> Result<(), SegmentError> {
        let segment = self.segment;
        for attribute in schema.vectors() {
            let Some(vectors) = segment.layout.vectors.get(&attribute.id) else {
                continue;
            };
            let row_bytes = u64::from(vectors.index.dims) * vectors.index.element.bytes() as u64;
            let step = u32::try_from(STEP_BYTES / row_bytes.max(1)).unwrap_or(u32::MAX).max(1);
            let mut row = 0;
            while row < segment.rows() {
                let end = row.saturating_add(step).min(segment.rows());
                let read = segment.vectors(attribute, row..end).await;
                if self.noted(FlawIn::Rows, read)?.is_none() {
                    break;
                }
                row = end;
            }
        }
        Ok(())
    }

    /// Compares everything that was derived from rows with the rows.
    async fn rows(&mut self, schema: &Schema) -> Result<(), SegmentError> {
        let attributes: Vec<Attribute> = schema.attributes().filter(|a| !a.ty.is_vector()).cloned().collect();
        let rounds = self.segment.meta.unpacked_bytes().div_ceil(ROUND_BYTES).max(1);
        let per_round = (attributes.len() as u64).div_ceil(rounds).max(1) as usize;
        let all: Vec<u32> = (0..self.segment.rows()).collect();
        let mut round = attributes.chunks(per_round);
        let mut next = round.next().unwrap_or(&[]);
        let mut is_first = true;
        loop {
            let read = self.segment.fetch(&all, next, ReadKind::Scan).await;
            let Some(rows) = self.noted(FlawIn::Rows, read)? else {
                return Ok(());
            };
            if is_first {
                self.keys(&rows.ids).await?;
                is_first = false;
            }
            self.attributes(next, &rows).await?;
            match round.next() {
                Some(more) => next = more,
                None => return Ok(()),
            }
        }
    }

    async fn attributes(&mut self, attributes: &[Attribute], rows: &Rows) -> Result<(), SegmentError> {
        for attribute in attributes {
            let values = match rows.columns.get(&attribute.id) {
                Some(Column::Values(values)) => Some(values),
                Some(Column::Vectors(_)) => continue,
                None => None,
            };
            self.column(attribute, values).await?;
            self.attribute_index(attribute, values).await?;
            self.text_index(attribute, values).await?;
        }
        Ok(())
    }

    /// The column section of an attribute.
    async fn column(&mut self, attribute: &Attribute, values: Option<&ArrayRef>) -> Result<(), SegmentError> {
        if !self.segment.has_column(attribute.id) || self.is_damaged(SectionKind::Column, attribute.id) {
            return Ok(());
        }
        let name = &attribute.name;
        let Some(values) = values else {
            self.flaw(
                FlawIn::Derived,
                format!("it has a column of {name:?}, which no row has"),
            );
            return Ok(());
        };
        let read = self.segment.column(attribute).await;
        let Some(column) = self.noted(FlawIn::Derived, read)? else {
            return Ok(());
        };
        let (layout, values, id) = (self.segment.layout.clone(), values.clone(), attribute.id);
        let compare = move || match column.as_deref() {
            Some(Column::Values(found)) if found == &values => match zones_hold(&layout, id, &values) {
                true => None,
                false => Some("the bounds of blocks are wrong in its column"),
            },
            _ => Some("its rows say something else than its column"),
        };
        if let Some(wrong) = self.segment.source.compute(ReadKind::Scan, compare).await {
            self.flaw(FlawIn::Derived, format!("{wrong} of {name:?}"));
        }
        Ok(())
    }
}

/// Whether the blocks of a column have the bounds and nulls that its directory says.
fn zones_hold(layout: &Layout, id: AttrId, values: &ArrayRef) -> bool {
    layout.columns[&id].index.blocks.iter().all(|block| {
        let part = values.slice(block.rows.start as usize, block.rows.len());
        part.null_count() == block.nulls as usize && zone(&part) == (block.low, block.high)
    })
}

/// Of which attribute something is, in words.
fn of(attribute: Option<AttrId>) -> String {
    attribute.map_or_else(String::new, |id| format!(" of attribute {}", id.0))
}

impl Segment {
    /// The CRC32C of a part of the object; read a step at a time.
    async fn checksum(&self, offset: u64, len: u64) -> Result<u32, SegmentError> {
        let (mut crc, mut at, end) = (0, offset, offset + len);
        while at < end {
            let next = at.saturating_add(STEP_BYTES).min(end);
            let sum = move |read: &[Bytes]| Ok(crc32c::crc32c_append(crc, &read[0]));
            crc = self
                .source
                .read(std::iter::once(at..next).collect(), ReadKind::Scan, sum)
                .await?;
            at = next;
        }
        Ok(crc)
    }
}
