//! What must be true of a manifest: looked at before it is published and after it was read.

use std::collections::BTreeSet;

use super::{INLINE_BYTES_MAX, Manifest, ManifestSegment};
use crate::model::datetime::CLOCK_MS_MAX;
use crate::model::recent::REMEMBERED_MAX;
use crate::model::{AttrId, Gen, Seq};
use crate::wal::Digest;

/// The highest level: fan-out 8 from one row up passes 2^32 rows long before.
const LEVEL_MAX: u32 = 64;
/// The largest deletion bitmap, in bytes: one of 2^32 rows, and what is around it.
const DELETIONS_BYTES_MAX: u64 = (1 << 29) + (1 << 20);

/// The most bytes of a segment, stored or as clients sent them: many times what a merge writes. The sum over as many
/// segments as a manifest can name does not overflow.
const SEGMENT_BYTES_MAX: u64 = 1 << 44;

/// A manifest that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest {generation} is not consistent: {why}")]
pub struct InvalidManifest {
    pub generation: Gen,
    pub why: String,
}

impl Manifest {
    /// Checks everything that can be checked without other objects.
    pub fn check(&self) -> Result<(), InvalidManifest> {
        self.check_position().map_err(|why| self.invalid(why))?;
        self.check_schema().map_err(|why| self.invalid(why))?;
        self.check_recent().map_err(|why| self.invalid(why))?;
        let mut ids = BTreeSet::new();
        for segment in &self.segments {
            let checked = match ids.insert(segment.meta.id) {
                true => self.check_segment(segment),
                false => Err("it is named twice".to_owned()),
            };
            checked.map_err(|why| self.invalid(format!("segment {}: {why}", segment.meta.id.0)))?;
        }
        let pins: BTreeSet<_> = self.pins.iter().collect();
        match pins.len() == self.pins.len() {
            true => Ok(()),
            false => Err(self.invalid("a hold is named twice")),
        }
    }

    /// Checks that it may follow `previous`, whose digest is `digest`; `None` for the first.
    pub fn check_successor(&self, previous: Option<(&Manifest, Digest)>) -> Result<(), InvalidManifest> {
        let Some((previous, digest)) = previous else {
            return match self.generation == Gen(1) {
                true => Ok(()),
                false => Err(self.invalid("there is none before it")),
            };
        };
        let right = [
            (
                self.generation == previous.generation.next(),
                "its generation is not the next",
            ),
            (self.prev_digest == digest, "it names another predecessor"),
            (self.namespace == previous.namespace, "it belongs to another namespace"),
            (
                self.indexed_seq >= previous.indexed_seq,
                "it knows less of the log than its predecessor",
            ),
            (self.hlc_ms >= previous.hlc_ms, "its clock runs backwards"),
            (
                self.indexed_seq != previous.indexed_seq || self.indexed_digest == previous.indexed_digest,
                "its log entry is another one",
            ),
        ];
        match right.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, why)) => Err(self.invalid(why)),
        }
    }

    fn invalid(&self, why: impl Into<String>) -> InvalidManifest {
        InvalidManifest {
            generation: self.generation,
            why: why.into(),
        }
    }

    fn check_position(&self) -> Result<(), String> {
        let right = [
            (self.generation != Gen::ZERO, "its generation is 0"),
            (
                self.generation != Gen(1) || self.prev_digest == Digest::default(),
                "it is the first and has a predecessor",
            ),
            (self.generation <= Gen::MAX, "its generation cannot be"),
            (self.indexed_seq != Seq::ZERO, "it indexes nothing"),
            (self.indexed_seq <= Seq::INDEXED_MAX, "its log entry cannot be"),
            (
                self.clocks().all(|ms| ms <= CLOCK_MS_MAX),
                "one of its clocks says what cannot be",
            ),
            (
                self.incarnation
                    .is_none_or(|i| i.genesis != Seq::ZERO && i.genesis <= self.indexed_seq),
                "the namespace begins after it",
            ),
            (
                self.incarnation.is_some() || self.segments.is_empty(),
                "it has segments of a namespace that does not exist",
            ),
        ];
        right
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, why)| Err(why.to_owned()))
    }

    /// All times in it but those of answers, milliseconds since the epoch.
    fn clocks(&self) -> impl Iterator<Item = u64> {
        let lived = self.incarnation.map(|i| [i.created_ms, i.last_write_ms]);
        [self.created_ms, self.hlc_ms]
            .into_iter()
            .chain(lived.into_iter().flatten())
    }

    fn check_schema(&self) -> Result<(), String> {
        let next = self.schema.next_attribute_id();
        if next.0 > AttrId::MAX.0 + 1 {
            return Err("more numbers of attributes are used up than there are".into());
        }
        let numbers: BTreeSet<AttrId> = self.schema.attributes().map(|a| a.id).collect();
        if numbers.len() < self.schema.len() || numbers.iter().any(|id| *id >= next) {
            return Err("two attributes have the same number, or one that is not used up".into());
        }
        Ok(())
    }

    fn check_recent(&self) -> Result<(), String> {
        let (mut last, mut len) = (Seq::ZERO, 0);
        for entry in self.recent.entries() {
            let is_possible = entry.seq > last && entry.seq <= self.indexed_seq && entry.hlc_ms <= CLOCK_MS_MAX;
            if !is_possible || entry.replies.is_empty() {
                return Err(format!("the answers of entry {} are out of place", entry.seq));
            }
            last = entry.seq;
            len += entry.replies.len();
        }
        match len <= REMEMBERED_MAX {
            true => Ok(()),
            false => Err(format!("it remembers {len} answers")),
        }
    }

    fn check_segment(&self, segment: &ManifestSegment) -> Result<(), String> {
        let (meta, deletions) = (&segment.meta, &segment.deletions);
        let first = self.incarnation.map_or(Seq::ZERO, |i| i.genesis);
        let hot_end = meta.hot_offset.checked_add(u64::from(meta.hot_len));
        let right = [
            (meta.rows > 0, "it has no rows"),
            (deletions.rows() <= meta.rows, "more rows are deleted than there are"),
            (
                deletions
                    .inline()
                    .is_none_or(|rows| rows.max().is_none_or(|last| last < meta.rows)),
                "rows are deleted that it does not have",
            ),
            (
                deletions
                    .object()
                    .is_none_or(|o| o.rows > 0 && (1..=DELETIONS_BYTES_MAX).contains(&o.len)),
                "its deletion bitmap is empty or too large",
            ),
            (meta.level <= LEVEL_MAX, "its level is too high"),
            (
                first <= meta.min_seq && meta.min_seq <= meta.max_seq && meta.max_seq <= self.indexed_seq,
                "its entries are not among those that are indexed",
            ),
            (
                meta.len.max(meta.logical_bytes) <= SEGMENT_BYTES_MAX,
                "it is larger than a segment can be",
            ),
            (
                hot_end.is_some_and(|end| end <= meta.len),
                "its hot region is not in it",
            ),
            (
                meta.inline
                    .as_ref()
                    .is_none_or(|bytes| bytes.len() as u64 == meta.len && meta.len <= INLINE_BYTES_MAX),
                "it is inline and too large, or has another length",
            ),
            (
                meta.inline.is_none() || meta.owner.is_none(),
                "it is inline and lies with another namespace",
            ),
        ];
        right
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, why)| Err(why.to_owned()))
    }
}
