//! Attribute indexes of a segment, read as far as an answer needs them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use bytes::Bytes;

use super::SegmentError;
use super::container::{Section, SectionKind};
use super::reader::{Segment, tag};
use super::source::Source;
use super::wire::FormatError;
use crate::cache::ReadKind;
use crate::index::attribute::{AttributeIndex, AttributeIndexError, Blocks, Codes, Directory, as_built, is_whole};
use crate::model::Attribute;
use crate::store::StoreError;

/// Marks the codes of an attribute among what is decoded of it.
const CODES: u64 = 1 << 63;
/// The same of what its index has cost.
const SPENT: u64 = 1 << 62;

/// The blocks of one index.
struct SectionBlocks {
    source: Source,
    /// Where they start in the object.
    offset: u64,
}

#[async_trait]
impl Blocks for SectionBlocks {
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let place = |r: &Range<u64>| self.offset + r.start..self.offset + r.end;
        let placed: Vec<_> = ranges.iter().map(place).collect();
        let check = |read: &[Bytes]| match read.iter().all(|bytes| is_whole(bytes)) {
            true => Ok(read.to_vec()),
            false => Err(FormatError::corrupt("a block of an attribute index is damaged")),
        };
        let read = self.source.read(placed, ReadKind::Index, check).await;
        read.map_err(|error| match error {
            SegmentError::Store(error) => error,
            SegmentError::Damaged { key, why } | SegmentError::Newer { key, what: why } => {
                StoreError::Corrupt { key, reason: why }
            }
        })
    }
}

impl Segment {
    /// The index of an attribute. `None` where there is none: the attribute is null in every row, cannot be filtered by,
    /// or could not when the segment was written. One that was written for other options answers what it can: it may lack
    /// trigrams, or a dictionary ([`AttributeIndex::has_values`]).
    ///
    /// Costs nothing, or one GET in segments whose directories together take more than 1 MiB.
    pub async fn attribute_index(&self, attribute: &Attribute) -> Result<Option<AttributeIndex>, SegmentError> {
        let Some((section, built)) = self.attribute_section(attribute) else {
            return Ok(None);
        };
        let made = async {
            let directory = self.directory(section, &built).await?;
            let bytes = directory.memory_bytes();
            Ok::<_, SegmentError>((Arc::new(directory), bytes))
        };
        let tag = tag(SectionKind::Attribute, Some(attribute.id));
        let directory = self.source.cache.decoded(&self.source.object, tag, made).await?;
        // Made anew for everyone: kept by the cache, it would keep the cache.
        let blocks = SectionBlocks {
            source: self.source.clone(),
            offset: section.offset,
        };
        let index = AttributeIndex::new(directory, Arc::new(blocks), self.source.cpu());
        Ok(Some(index))
    }

    /// The code of each row of an attribute, if they were made and are kept. No I/O, and nobody who makes them is waited
    /// for.
    pub async fn codes_kept(&self, attribute: &Attribute) -> Option<Arc<Codes>> {
        let tag = self.attribute_tag(attribute)? | CODES;
        let kept = self.source.cache.kept::<Option<Arc<Codes>>>(&self.source.object, tag)?;
        Option::clone(&kept)
    }

    /// The code of each row of an attribute. `None` where there are no codes
    /// ([`AttributeIndex::codes`]).
    ///
    /// Costs reading the whole index, in as many rounds as it has 4 MiB.
    ///
    /// * `index` — of the attribute in this segment
    pub async fn codes(
        &self,
        attribute: &Attribute,
        index: &AttributeIndex,
    ) -> Result<Option<Arc<Codes>>, SegmentError> {
        let Some(tag) = self.attribute_tag(attribute).filter(|_| index.codes_bytes().is_some()) else {
            return Ok(None);
        };
        let made = async {
            let codes = index.codes().await.map_err(|e| self.index_error(e))?.map(Arc::new);
            let bytes = codes.as_ref().map_or(0, |codes| codes.memory_bytes());
            Ok::<_, SegmentError>((Arc::new(codes), bytes))
        };
        let codes = self
            .source
            .cache
            .decoded(&self.source.object, tag | CODES, made)
            .await?;
        Ok(Option::clone(&codes))
    }

    /// What the index of an attribute has cost so far, in whatever unit callers count. Kept as long as the cache likes,
    /// and by nobody else.
    pub async fn index_spent(&self, attribute: &Attribute) -> Result<Arc<AtomicU64>, SegmentError> {
        let tag = self.attribute_tag(attribute).unwrap_or_default() | SPENT;
        let made = async { Ok::<_, SegmentError>((Arc::new(AtomicU64::new(0)), size_of::<AtomicU64>())) };
        self.source.cache.decoded(&self.source.object, tag, made).await
    }

    /// Where the index of an attribute is, with the attribute as it was indexed. `None` where there is no index that this
    /// program reads.
    pub(super) fn attribute_section(&self, attribute: &Attribute) -> Option<(&Section, Attribute)> {
        let section = self.layout.hot.section(SectionKind::Attribute, Some(attribute.id))?;
        Some((section, as_built(attribute, section.fingerprint)?))
    }

    /// `None` when the attribute has no index here.
    fn attribute_tag(&self, attribute: &Attribute) -> Option<u64> {
        self.attribute_section(attribute)
            .map(|_| tag(SectionKind::Attribute, Some(attribute.id)))
    }

    /// What it means that an index was not read.
    pub fn index_error(&self, error: AttributeIndexError) -> SegmentError {
        match error {
            AttributeIndexError::Store(error) => SegmentError::Store(error),
            damaged => SegmentError::Damaged {
                key: self.source.object.key.to_string(),
                why: damaged.to_string(),
            },
        }
    }

    async fn directory(&self, section: &Section, attribute: &Attribute) -> Result<Directory, SegmentError> {
        let (rows, area, attribute) = (self.meta.rows, section.len, attribute.clone());
        let decode = move |bytes: &[u8]| {
            let directory = Directory::of(bytes, rows, area, &attribute);
            directory.map_err(|e| FormatError::corrupt(e.to_string()))
        };
        let id = section.attribute;
        match self.layout.hot.section(SectionKind::AttributeDirectory, id) {
            None => decode(&section.hot).map_err(|e| self.source.damaged(&e)),
            Some(cold) => {
                let range = cold.offset..cold.offset + cold.len;
                let decode = move |read: &[Bytes]| decode(&read[0]);
                self.source.read(vec![range], ReadKind::Index, decode).await
            }
        }
    }
}
