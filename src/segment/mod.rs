//! One immutable unit: rows and their indexes.
//!
//! Rows have dense numbers from 0, and everything in a segment speaks of rows by them: ids and filterable attributes as
//! columns, whole rows in pages, dense vectors as they are, key runs, text and attribute indexes. A segment is one object,
//! or lies in the manifest when it is small.
//!
//! # What stays true
//!
//! - The bytes of a segment never change; which of its rows are dead is the manifest's business.
//! - Every byte that is used was checked: the hot region as a whole, everything else block by block. What does not check is
//!   read once more from the store, and then is an error that names the object.
//! - The same rows, schema and options make the same bytes.
//!
//! # Who touches it
//!
//! `maintenance` writes, from rows in memory. Anyone reads. Nothing changes or deletes a segment but garbage collection.
//!
//! # Cost
//!
//! Opening is one GET, of the hot region; what a method costs it says. Nothing is asked of the store for inline segments.
//!
//! Bytes: `docs/formats/segment.md`.

mod ahead;
mod attributes;
mod block;
mod columns;
mod container;
mod error;
mod find;
pub mod keys;
mod layout;
mod pages;
mod parts;
mod reader;
mod source;
mod stale;
#[cfg(test)]
mod tests;
mod text;
mod values;
mod vectors;
mod verify;
mod wire;
mod writer;

use std::collections::BTreeMap;

use bytes::Bytes;
use ulid::Ulid;

use crate::model::{AttrId, Column, IdColumn, Seq};
use crate::store::StoreError;
use crate::store::paths::NsKey;

pub use crate::index::text::TermWanted;
pub use crate::index::text::stored::EncodedText;
pub use ahead::Ahead;
pub use container::{VERSION_OLDEST_READ, VERSION_WRITTEN};
pub use find::IdScan;
pub use keys::Hit;
pub use parts::{Live, SegmentPart};
pub use reader::Segment;
pub use text::{TextToMerge, merge_texts};
pub use verify::{Flaw, FlawIn, SectionInfo};
pub use wire::Compression;
pub use writer::{encode, encode_merged, encode_with};

/// The name of a segment, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub Ulid);

/// What a manifest says of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    pub id: SegmentId,
    /// 0 for what was flushed; merges go up.
    pub level: u32,
    /// Dead ones included.
    pub rows: u32,
    /// The log entries whose rows it holds.
    pub min_seq: Seq,
    pub max_seq: Seq,
    /// Of the object, in bytes.
    pub len: u64,
    /// Where the hot region of the object is.
    pub hot_offset: u64,
    pub hot_len: u32,
    pub hot_crc: u32,
    /// Of its rows, as writes are billed.
    pub logical_bytes: u64,
    /// In whose directory it lies, when that is not the namespace's own.
    pub owner: Option<NsKey>,
    /// The whole object, when it is so small that it has none.
    pub inline: Option<Bytes>,
    /// What the object itself says that it is, when it is a copy of one with another name.
    pub made_as: Option<SegmentId>,
}

impl SegmentMeta {
    /// What the object says that it is.
    pub fn inner_id(&self) -> SegmentId {
        self.made_as.unwrap_or(self.id)
    }

    /// About how much its rows take in memory, in bytes: pages are compressed.
    pub fn unpacked_bytes(&self) -> u64 {
        self.len.max(self.logical_bytes)
    }
}

/// Rows in memory, dense vectors included.
#[derive(Clone, Debug)]
pub struct Rows {
    pub ids: IdColumn,
    /// An attribute without a column is null in every row.
    pub columns: BTreeMap<AttrId, Column>,
}

/// How a segment is encoded.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    pub level: u32,
    pub min_seq: Seq,
    pub max_seq: Seq,
}

/// A segment ready for upload.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub bytes: Bytes,
    /// Not inline.
    pub meta: SegmentMeta,
}

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object is not what was written, though it was read twice.
    #[error("segment object {key} is damaged: {why}")]
    Damaged { key: String, why: String },
    /// The object is whole, and a newer version of this program has to read it.
    #[error("segment object {key} was written by a newer version: {what}")]
    Newer { key: String, what: String },
}
