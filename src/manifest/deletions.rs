//! Which rows of a segment are deleted.

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use ulid::Ulid;

use super::DecodeError;
use crate::base::Bitset;
use crate::store::paths::NsKey;

/// The largest bitmap that stays in the manifest, in bytes.
pub const DELETIONS_INLINE_BYTES_MAX: usize = 8 << 10;
/// What all bitmaps in a manifest may take together, about, in bytes: a quarter of what a manifest may have, which
/// segments themselves and remembered replies need as well.
const DELETIONS_INLINE_SUM_MAX: usize = 1 << 20;
/// In front of the bitmap in an object of its own: magic, version, crc32c of the bitmap.
const HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"SHOALDEL";
/// The version of new objects.
const VERSION_WRITTEN: u32 = 1;

/// The deleted rows of a segment.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Deletions {
    #[default]
    None,
    /// At least one row.
    Inline(Arc<RoaringBitmap>),
    Object(DeletionsObject),
}

/// An object with deleted rows. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionsObject {
    /// The last part of its key.
    pub key: Ulid,
    /// Its size in bytes.
    pub len: u64,
    /// crc32c of all of it.
    pub crc: u32,
    /// How many rows are deleted.
    pub rows: u32,
    /// In whose directory it lies, when that is not the namespace's own.
    pub owner: Option<NsKey>,
}

/// The largest bitmap that stays in a manifest of so many segments, in bytes.
pub fn deletions_inline_max(segments: usize) -> usize {
    DELETIONS_INLINE_BYTES_MAX.min(DELETIONS_INLINE_SUM_MAX / segments.max(1))
}

impl Deletions {
    /// How many rows are deleted.
    pub fn rows(&self) -> u32 {
        match self {
            Deletions::None => 0,
            // A bitmap of 2^32 rows is no segment's.
            Deletions::Inline(rows) => u32::try_from(rows.len()).unwrap_or(u32::MAX),
            Deletions::Object(object) => object.rows,
        }
    }

    /// How many bytes of the manifest they take, about.
    pub fn inline_bytes(&self) -> usize {
        self.inline().map_or(0, RoaringBitmap::serialized_size)
    }

    pub(super) fn inline(&self) -> Option<&RoaringBitmap> {
        match self {
            Deletions::Inline(rows) => Some(rows),
            Deletions::None | Deletions::Object(_) => None,
        }
    }

    pub(super) fn object(&self) -> Option<&DeletionsObject> {
        match self {
            Deletions::Object(object) => Some(object),
            Deletions::None | Deletions::Inline(_) => None,
        }
    }

    /// The objects that hold the rows of `deleted`, as they are to be named and, when they are too many for the
    /// manifest, the object to be put first.
    ///
    /// * `key` — new
    /// * `inline_max` — how large a bitmap may be that stays in the manifest, in bytes
    pub(super) fn prepare(mut deleted: RoaringBitmap, key: Ulid, inline_max: usize) -> (Self, Option<Bytes>) {
        if deleted.is_empty() {
            return (Deletions::None, None);
        }
        deleted.optimize();
        if deleted.serialized_size() <= inline_max {
            return (Deletions::Inline(Arc::new(deleted)), None);
        }
        let bytes = encode_object(&deleted);
        let object = DeletionsObject {
            key,
            len: bytes.len() as u64,
            crc: crc32c::crc32c(&bytes),
            rows: u32::try_from(deleted.len()).unwrap_or(u32::MAX),
            owner: None,
        };
        (Deletions::Object(object), Some(bytes))
    }
}

/// The deleted rows, given a bit per live row.
pub fn deleted_rows(live: &Bitset) -> RoaringBitmap {
    let mut dead = live.clone();
    dead.invert();
    let rows = dead
        .iter()
        .map(|row| u32::try_from(row).expect("a segment has less than 2^32 rows"));
    RoaringBitmap::from_sorted_iter(rows).expect("a bitset yields ascending rows")
}

/// A bit per live row, given the deleted ones.
///
/// * `rows` — of the segment
pub fn live_rows(deleted: &RoaringBitmap, rows: u32) -> Bitset {
    let mut live = Bitset::full(rows as usize);
    for row in deleted.iter().take_while(|row| *row < rows) {
        live.remove(row as usize);
    }
    live
}

/// The portable form of a bitmap.
pub(super) fn encode_bitmap(rows: &RoaringBitmap) -> Bytes {
    let mut bytes = Vec::with_capacity(rows.serialized_size());
    rows.serialize_into(&mut bytes)
        .expect("writing to memory does not fail");
    bytes.into()
}

/// The bitmap of any bytes; takes memory in proportion to them.
pub(super) fn decode_bitmap(bytes: &[u8]) -> Result<RoaringBitmap, DecodeError> {
    let mut rest = bytes;
    let rows = RoaringBitmap::deserialize_from(&mut rest)
        .map_err(|e| DecodeError::corrupt(format!("it has no deletion bitmap: {e}")))?;
    match rest.is_empty() && !rows.is_empty() {
        true => Ok(rows),
        false => Err(DecodeError::corrupt(
            "its deletion bitmap is empty, or does not end where it should",
        )),
    }
}

fn encode_object(rows: &RoaringBitmap) -> Bytes {
    let bitmap = encode_bitmap(rows);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + bitmap.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION_WRITTEN.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bitmap).to_le_bytes());
    bytes.extend_from_slice(&bitmap);
    bytes.into()
}

/// The rows of an object with deleted rows.
///
/// * `segment_rows` — of the segment
pub(super) fn decode_object(
    named: &DeletionsObject,
    segment_rows: u32,
    bytes: &[u8],
) -> Result<RoaringBitmap, DecodeError> {
    let corrupt = |what: &str| Err(DecodeError::corrupt(what));
    if bytes.len() as u64 != named.len || crc32c::crc32c(bytes) != named.crc {
        return corrupt("its length or its checksum is not what the manifest says");
    }
    let Some((header, bitmap)) = bytes.split_at_checked(HEADER_BYTES) else {
        return corrupt("it is too short");
    };
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if &header[..8] != MAGIC {
        return corrupt("it starts with the wrong magic");
    }
    if word(8) > VERSION_WRITTEN {
        return Err(DecodeError::newer(format!("format version {}", word(8))));
    }
    if word(8) == 0 || word(12) != crc32c::crc32c(bitmap) {
        return corrupt("the checksum of its bitmap is wrong");
    }
    let rows = decode_bitmap(bitmap)?;
    match rows.len() == u64::from(named.rows) && rows.max().is_some_and(|last| last < segment_rows) {
        true => Ok(rows),
        false => corrupt("its rows are not those that the manifest counts"),
    }
}
