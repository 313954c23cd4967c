//! The directory: all that is known of an index without reading blocks. Bytes: `docs/formats/attribute-index.md`.

use roaring::RoaringBitmap;

use super::AttributeIndexError;
use super::block::{BlockMeta, Dictionary};
use super::key::Key;
use super::rows::{self, Bitmap, Place, RowSet};
use super::trigram;
use super::wire::{Damaged, Reader, unseal};
use crate::model::{AttrType, Attribute, Scalar};

pub(super) const MAGIC: [u8; 8] = *b"SHOALATT";
/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;

pub(super) const FLAG_ARRAY: u8 = 1;
pub(super) const FLAG_TRIGRAMS: u8 = 2;
pub(super) const FLAG_DICTIONARY: u8 = 4;

/// What an index depends on besides the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub scalar: Scalar,
    pub is_array: bool,
    pub trigrams: bool,
    pub dictionary: bool,
}

impl Shape {
    /// `None` for attributes that have no such index.
    pub fn of(attribute: &Attribute) -> Option<Self> {
        let (scalar, is_array) = match attribute.ty {
            AttrType::Scalar(scalar) => (scalar, false),
            AttrType::Array(scalar) => (scalar, true),
            AttrType::Vector { .. } | AttrType::MultiVector { .. } | AttrType::SparseVector => return None,
        };
        let trigrams = scalar == Scalar::String && (attribute.glob || attribute.regex || attribute.fuzzy);
        let dictionary = attribute.filterable;
        (trigrams || dictionary).then_some(Self {
            scalar,
            is_array,
            trigrams,
            dictionary,
        })
    }

    pub fn flags(self) -> u8 {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        flag(self.is_array, FLAG_ARRAY) | flag(self.trigrams, FLAG_TRIGRAMS) | flag(self.dictionary, FLAG_DICTIONARY)
    }

    /// A hash of the shape and the version.
    pub fn fingerprint(self) -> u64 {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.push(self.flags());
        bytes.extend_from_slice(self.scalar.name().as_bytes());
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

/// Which rows are null.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Nulls {
    None,
    All,
    Rows(RowSet),
    Elsewhere(Bitmap),
}

/// What an index says of itself and of where its blocks are, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Directory {
    pub(super) shape: Shape,
    pub(super) rows: u32,
    pub(super) null_count: u32,
    /// Of all arrays, repeated ones as often as they occur; the values that are not null otherwise.
    pub(super) elements: u64,
    pub(super) nulls: Nulls,
    pub(super) values: Option<Dictionary>,
    /// Of arrays with a dictionary: numbers of elements as words.
    pub(super) lengths: Option<Dictionary>,
    pub(super) trigrams: Option<trigram::Directory>,
}

impl Directory {
    /// Decodes the directory of an attribute's index; no I/O.
    ///
    /// * `bytes` — [`Built::directory`](super::Built::directory)
    /// * `rows` — how many rows the segment has
    /// * `area` — the length of [`Built::blocks`](super::Built::blocks)
    ///
    /// # Errors
    ///
    /// It was built with other options than the attribute has, by another version, or is damaged.
    pub fn of(bytes: &[u8], rows: u32, area: u64, attribute: &Attribute) -> Result<Self, AttributeIndexError> {
        let shape = Shape::of(attribute).ok_or(AttributeIndexError::OtherOptions)?;
        Self::decode(bytes, shape, rows, area)
    }

    /// About how much memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let first = |b: &BlockMeta| {
            if let Key::Bytes(bytes) = &b.first {
                bytes.len()
            } else {
                0
            }
        };
        let dictionary = |d: &Dictionary| {
            d.blocks.iter().map(|b| size_of_val(b) + first(b)).sum::<usize>()
                + d.resident.as_ref().map_or(0, |r| r.len())
        };
        let dictionaries = self.values.iter().chain(&self.lengths).map(dictionary);
        let trigrams = self.trigrams.as_ref().map_or(0, |t| size_of_val(t.blocks.as_slice()));
        size_of::<Self>() + dictionaries.sum::<usize>() + trigrams
    }

    /// Reads a directory whose index has this shape.
    ///
    /// * `rows` — how many rows the segment has: memory is taken for them
    /// * `area` — how many bytes of blocks there are
    pub(super) fn decode(bytes: &[u8], shape: Shape, rows: u32, area: u64) -> Result<Self, AttributeIndexError> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(Damaged("shorter than its magic"))?;
        if *magic != MAGIC {
            return Err(Damaged("not an attribute index").into());
        }
        let (version, _) = rest.split_first_chunk().ok_or(Damaged("shorter than its version"))?;
        match u32::from_le_bytes(*version) {
            VERSION => {}
            version => return Err(AttributeIndexError::Version(version)),
        }
        let content = unseal(bytes)?
            .get(MAGIC.len() + 4..)
            .ok_or(Damaged("shorter than its version"))?;
        let (fingerprint, rest) = content
            .split_first_chunk()
            .ok_or(Damaged("shorter than its fingerprint"))?;
        if u64::from_le_bytes(*fingerprint) != shape.fingerprint() {
            return Err(AttributeIndexError::OtherOptions);
        }
        let mut reader = Reader::new(rest);
        let made = Self::decode_rest(&mut reader, shape, area)?;
        if made.rows != rows {
            return Err(Damaged("the index is of another number of rows").into());
        }
        reader.end().map_err(Damaged::from)?;
        Ok(made)
    }

    fn decode_rest(reader: &mut Reader<'_>, shape: Shape, area: u64) -> Result<Self, Damaged> {
        if reader.varint()? != area {
            return Err(Damaged("the blocks are of another length"));
        }
        let (rows, null_count, elements) = (reader.varint32()?, reader.varint32()?, reader.varint()?);
        if null_count > rows {
            return Err(Damaged("more rows are null than there are"));
        }
        let nulls = match null_count {
            0 => Nulls::None,
            all if all == rows => Nulls::All,
            some => Self::decode_nulls(reader, some, rows, area)?,
        };
        let words = super::key::has_words(shape.scalar);
        let mut dictionary = |is: bool, words| match is {
            true => Dictionary::decode(reader, words, rows, area).map(Some),
            false => Ok(None),
        };
        let values = dictionary(shape.dictionary, words)?;
        let lengths = dictionary(shape.dictionary && shape.is_array, true)?;
        let trigrams = match shape.trigrams {
            true => Some(trigram::Directory::decode(reader, area)?),
            false => None,
        };
        let present = u64::from(rows - null_count);
        let pairs_fit = |d: &Dictionary, pairs: u64| match shape.is_array {
            true => d.pairs <= pairs,
            false => d.pairs == pairs,
        };
        if values.as_ref().is_some_and(|d| !pairs_fit(d, elements))
            || lengths.as_ref().is_some_and(|d| d.pairs != present)
            || !shape.is_array && elements != present
        {
            return Err(Damaged("values do not add up"));
        }
        Ok(Self {
            shape,
            rows,
            null_count,
            elements,
            nulls,
            values,
            lengths,
            trigrams,
        })
    }

    fn decode_nulls(reader: &mut Reader<'_>, count: u32, rows: u32, area: u64) -> Result<Nulls, Damaged> {
        let at = reader.varint()?;
        let mut list = Vec::new();
        let nulls = match rows::decode(reader, rows, &mut (at.min(area)..area), &mut list)? {
            Place::Inline => Nulls::Rows(RowSet::of(&list)),
            Place::Elsewhere(bitmap) => Nulls::Elsewhere(bitmap),
        };
        let found = match &nulls {
            Nulls::Elsewhere(bitmap) => u64::from(bitmap.rows),
            _ => list.len() as u64,
        };
        match found == u64::from(count) {
            true => Ok(nulls),
            false => Err(Damaged("other rows are null than announced")),
        }
    }

    /// How many rows are not null.
    pub(super) fn present(&self) -> u32 {
        self.rows - self.null_count
    }
}

/// The rows of a bitmap that was read.
pub(super) fn bitmap(bytes: &[u8], bitmap: &Bitmap, rows: u32) -> Result<RoaringBitmap, Damaged> {
    rows::decode_bitmap(bytes, bitmap.rows, rows)
}
