//! The frame of a segment object: sections, then the hot region, then a trailer.
//!
//! A section has *cold* bytes, which lie in the object and are read in ranges, and *hot* bytes, which lie in the hot region
//! and say where what is in the cold ones. The hot region is read whole when a segment is opened and stays in memory, and its
//! checksum covers all of it. Cold bytes carry their own checksums, block by block, because they are never read as a whole.
//!
//! Bytes: `docs/formats/segment.md`.

use bytes::Bytes;
use ulid::Ulid;

use super::SegmentId;
use super::wire::{FormatError, Reader};
use crate::model::{AttrId, IdKind};

/// The version of new segments.
pub const VERSION_WRITTEN: u32 = 1;
/// The oldest version that is still read.
pub const VERSION_OLDEST_READ: u32 = 1;
/// The trailer's length.
pub const TRAILER_BYTES: u64 = 32;
/// Where sections of vectors start: at multiples of this, for reads past the page cache and aligned loads.
pub const ALIGN_RAW: usize = 4096;
/// Where other sections start.
pub const ALIGN: usize = 64;

const MAGIC: &[u8; 8] = b"SHOALSEG";
const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 40;
/// As attribute of a section: that it belongs to all rows.
const NO_ATTRIBUTE: u32 = u32::MAX;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum SectionKind {
    /// The ids of all rows, as a column.
    Ids = 1,
    /// Row pages; of one wide attribute, or of all others.
    Pages = 2,
    /// The column of an attribute.
    Column = 3,
    /// The dense vectors of an attribute.
    Vectors = 4,
    /// The sorted ids with their rows.
    Keys = 5,
    /// A filter of ids; hot only.
    Bloom = 6,
    /// The text index of an attribute.
    Postings = 7,
    /// The index of an attribute for filters: its blocks; hot: the directory, unless there is a section of it.
    Attribute = 8,
    /// The directory of an attribute's index, where it is too large to be hot.
    AttributeDirectory = 9,
}

impl SectionKind {
    /// `None`: of a newer version, which readers pass over. A section that must not be passed over needs a feature bit.
    fn parse(kind: u16) -> Option<Self> {
        use SectionKind::{Attribute, AttributeDirectory, Bloom, Column, Ids, Keys, Pages, Postings, Vectors};
        let known = [
            Ids,
            Pages,
            Column,
            Vectors,
            Keys,
            Bloom,
            Postings,
            Attribute,
            AttributeDirectory,
        ];
        known.into_iter().find(|k| *k as u16 == kind)
    }
}

/// A section as the directory lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub kind: SectionKind,
    /// Whose; `None` when it belongs to all rows.
    pub attribute: Option<AttrId>,
    /// Where its cold bytes start in the object, and how many there are.
    pub offset: u64,
    pub len: u64,
    /// CRC32C of all cold bytes, for who reads them all.
    pub crc: u32,
    /// Of the options it was built with, in the meaning of its kind; 0 when there are none.
    pub fingerprint: u64,
    /// Its part of the hot region.
    pub hot: Bytes,
}

/// The hot region, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    pub id: SegmentId,
    pub rows: u32,
    pub id_kind: IdKind,
    /// Sorted by kind and attribute.
    sections: Vec<Section>,
}

/// Where the hot region of a finished object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotPlace {
    pub offset: u64,
    pub len: u32,
    pub crc: u32,
}

/// Puts an object together in memory.
#[derive(Default)]
pub struct Writer {
    object: Vec<u8>,
    sections: Vec<Section>,
}

impl Writer {
    /// Appends a section. No kind occurs twice for the same attribute.
    ///
    /// * `fingerprint` — of the options it was built with
    /// * `cold` — what is read in ranges
    /// * `hot` — what every open segment keeps in memory
    pub fn section(&mut self, kind: SectionKind, attribute: Option<AttrId>, fingerprint: u64, cold: &[u8], hot: Bytes) {
        let align = if kind == SectionKind::Vectors { ALIGN_RAW } else { ALIGN };
        if !cold.is_empty() {
            self.object.resize(self.object.len().next_multiple_of(align), 0);
        }
        self.sections.push(Section {
            kind,
            attribute,
            offset: self.object.len() as u64,
            len: cold.len() as u64,
            crc: crc32c::crc32c(cold),
            fingerprint,
            hot,
        });
        self.object.extend_from_slice(cold);
    }

    /// Appends hot region and trailer.
    pub fn finish(mut self, id: SegmentId, rows: u32, id_kind: IdKind) -> (Bytes, HotPlace) {
        self.sections.sort_by_key(|s| (s.kind, s.attribute));
        let hot = encode_hot(id, rows, id_kind, &self.sections);
        self.object.resize(self.object.len().next_multiple_of(ALIGN), 0);
        let place = HotPlace {
            offset: self.object.len() as u64,
            len: u32::try_from(hot.len())
                .expect("hot bytes are a small share of a segment's rows, of which there are 2^32"),
            crc: crc32c::crc32c(&hot),
        };
        self.object.extend_from_slice(&hot);
        self.object.extend_from_slice(&encode_trailer(place));
        (self.object.into(), place)
    }
}

fn encode_hot(id: SegmentId, rows: u32, id_kind: IdKind, sections: &[Section]) -> Vec<u8> {
    let mut hot = Vec::new();
    hot.extend_from_slice(&VERSION_WRITTEN.to_le_bytes());
    hot.extend_from_slice(&(sections.len() as u32).to_le_bytes());
    hot.extend_from_slice(&id.0.0.to_le_bytes());
    hot.extend_from_slice(&0u64.to_le_bytes());
    hot.extend_from_slice(&rows.to_le_bytes());
    hot.push(match id_kind {
        IdKind::UInt => 1,
        IdKind::Uuid => 2,
        IdKind::String => 3,
    });
    hot.resize(HEAD_BYTES, 0);
    for section in sections {
        let attribute = section.attribute.map_or(NO_ATTRIBUTE, |a| a.0);
        hot.extend_from_slice(&(section.kind as u16).to_le_bytes());
        hot.extend_from_slice(&0u16.to_le_bytes());
        hot.extend_from_slice(&attribute.to_le_bytes());
        hot.extend_from_slice(&section.offset.to_le_bytes());
        hot.extend_from_slice(&section.len.to_le_bytes());
        hot.extend_from_slice(&section.crc.to_le_bytes());
        hot.extend_from_slice(&(section.hot.len() as u32).to_le_bytes());
        hot.extend_from_slice(&section.fingerprint.to_le_bytes());
    }
    sections.iter().for_each(|s| hot.extend_from_slice(&s.hot));
    hot
}

fn encode_trailer(place: HotPlace) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(TRAILER_BYTES as usize);
    trailer.extend_from_slice(&place.offset.to_le_bytes());
    trailer.extend_from_slice(&place.len.to_le_bytes());
    trailer.extend_from_slice(&place.crc.to_le_bytes());
    trailer.extend_from_slice(&VERSION_WRITTEN.to_le_bytes());
    let crc = crc32c::crc32c(&trailer);
    trailer.extend_from_slice(&crc.to_le_bytes());
    trailer.extend_from_slice(MAGIC);
    trailer
}

/// Where the hot region is, from an object's last 32 bytes: for who has the object and no manifest.
///
/// * `object_len` — of the whole object
pub fn decode_trailer(trailer: &[u8], object_len: u64) -> Result<HotPlace, FormatError> {
    if trailer.len() as u64 != TRAILER_BYTES || !trailer.ends_with(MAGIC) {
        return Err(FormatError::corrupt("it does not end as a segment does"));
    }
    let mut input = Reader::new(trailer);
    let (offset, len, crc, version) = (input.u64_le()?, input.u32_le()?, input.u32_le()?, input.u32_le()?);
    if input.u32_le()? != crc32c::crc32c(&trailer[..20]) {
        return Err(FormatError::corrupt("the checksum of its trailer is wrong"));
    }
    check_version(version)?;
    let end = offset.checked_add(u64::from(len) + TRAILER_BYTES);
    match end == Some(object_len) {
        true => Ok(HotPlace { offset, len, crc }),
        false => Err(FormatError::corrupt("its trailer says another length")),
    }
}

fn check_version(version: u32) -> Result<(), FormatError> {
    match version {
        ..VERSION_OLDEST_READ => Err(FormatError::corrupt(format!(
            "format version {version} is no longer read"
        ))),
        VERSION_OLDEST_READ..=VERSION_WRITTEN => Ok(()),
        _ => Err(FormatError::Newer(format!(
            "format version {version}, this one reads {VERSION_OLDEST_READ} to {VERSION_WRITTEN}"
        ))),
    }
}

impl Hot {
    /// Decodes the hot region of an object.
    ///
    /// * `bytes` — exactly the region
    /// * `place` — where it lies and what its checksum is, as the manifest or the trailer says
    pub fn decode(bytes: &Bytes, place: HotPlace) -> Result<Self, FormatError> {
        if bytes.len() != place.len as usize || crc32c::crc32c(bytes) != place.crc {
            return Err(FormatError::corrupt("the checksum of its hot region is wrong"));
        }
        let mut input = Reader::new(bytes);
        let mut head = Reader::new(input.take(HEAD_BYTES)?);
        check_version(head.u32_le()?)?;
        let count = head.u32_le()? as usize;
        let id = SegmentId(Ulid(head.u128_le()?));
        let features = head.u64_le()?;
        if features != 0 {
            return Err(FormatError::Newer(format!(
                "it requires unknown features {features:#x}"
            )));
        }
        let rows = head.u32_le()?;
        let id_kind = match head.byte()? {
            1 => IdKind::UInt,
            2 => IdKind::Uuid,
            3 => IdKind::String,
            kind => return Err(FormatError::corrupt(format!("ids of kind {kind}"))),
        };
        let directory_len = count.saturating_mul(ENTRY_BYTES);
        let mut directory = Reader::new(input.take(directory_len)?);
        let mut hot_at = HEAD_BYTES + directory_len;
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let hot_len = decode_section(&mut directory, bytes, hot_at, place.offset, &mut sections)?;
            hot_at += hot_len;
        }
        if hot_at != bytes.len() {
            return Err(FormatError::corrupt(
                "its hot region has another length than its sections say",
            ));
        }
        if !sections.is_sorted_by(|a, b| (a.kind, a.attribute) < (b.kind, b.attribute)) {
            return Err(FormatError::corrupt("its sections are not in order"));
        }
        Ok(Self {
            id,
            rows,
            id_kind,
            sections,
        })
    }

    /// The section of that kind for that attribute.
    pub fn section(&self, kind: SectionKind, attribute: Option<AttrId>) -> Option<&Section> {
        let at = self
            .sections
            .binary_search_by_key(&(kind, attribute), |s| (s.kind, s.attribute));
        at.ok().map(|i| &self.sections[i])
    }

    /// All sections of known kinds.
    pub fn all(&self) -> &[Section] {
        &self.sections
    }

    /// The sections of a kind, by attribute.
    pub fn sections(&self, kind: SectionKind) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |s| s.kind == kind)
    }
}

/// Reads one entry; sections of unknown kinds are passed over. Returns the length of its hot bytes, which lie at `hot_at`.
fn decode_section(
    directory: &mut Reader<'_>,
    region: &Bytes,
    hot_at: usize,
    cold_end: u64,
    sections: &mut Vec<Section>,
) -> Result<usize, FormatError> {
    let (kind, _reserved, attribute) = (directory.u16_le()?, directory.u16_le()?, directory.u32_le()?);
    let (offset, len, crc) = (directory.u64_le()?, directory.u64_le()?, directory.u32_le()?);
    let (hot_len, fingerprint) = (directory.u32_le()? as usize, directory.u64_le()?);
    if offset.checked_add(len).is_none_or(|end| end > cold_end) {
        return Err(FormatError::corrupt("a section lies outside of the object"));
    }
    if region.len() - hot_at < hot_len {
        return Err(FormatError::corrupt(
            "the hot bytes of a section lie outside of the region",
        ));
    }
    if let Some(kind) = SectionKind::parse(kind) {
        sections.push(Section {
            kind,
            attribute: (attribute != NO_ATTRIBUTE).then_some(AttrId(attribute)),
            offset,
            len,
            crc,
            fingerprint,
            hot: region.slice(hot_at..hot_at + hot_len),
        });
    }
    Ok(hot_len)
}
