//! Attribute indexes: which rows of a segment have which value.
//!
//! An index lists the distinct values of a filterable attribute in order, each with the rows that have it. The values
//! lie in blocks of about 16 KiB, and a small directory knows where each begins, so that a range or a value is found
//! with one or two reads, most aggregates need no row, and an ordered scan begins where it has to. Where patterns are
//! searched for (`glob`, `regex`, `fuzzy`) the distinct values are found by trigrams and looked at once each, however
//! many rows have them.
//!
//! # What stays true
//!
//! - Answers are exact, over all rows of the segment, dead ones included, unless [`Matches::exact`] says that they are
//!   a superset.
//! - A row is in the set of each of its elements once, however often it has it; an empty array is in none, and not
//!   null.
//! - Every byte that is read is checked: damage is an error, and takes no more memory than the object is long.
//!
//! # Who touches it
//!
//! `segment` builds and stores indexes and reads them through [`Blocks`]; queries ask.
//!
//! # Cost
//!
//! No requests to open. [`AttributeIndex::estimate`] says how many bytes an answer needs; they are read in one round
//! for the values, one for the bitmaps of frequent values, and one before them for trigrams, each in batches of at
//! most 4 MiB. What takes long runs on the CPU pool.
//!
//! Bytes: `docs/formats/attribute-index.md`.

mod block;
mod build;
mod candidates;
mod codes;
mod combined;
mod count;
mod directory;
mod estimate;
mod evaluate;
mod fold;
mod groups;
mod key;
mod order;
mod rows;
mod trigram;
mod wire;

#[cfg(test)]
mod tests;

pub use block::Zone;
pub use build::{Built, build};
pub use candidates::Candidates;
pub use codes::{CodeSet, Codes};
pub use combined::Combined;
pub use directory::Directory;
pub use estimate::Estimate;
pub use evaluate::{Matcher, Matches, Pattern, Predicate};
pub use fold::fold;
pub use groups::{Group, Groups};
pub use key::{Key, float_word, has_words, int_word, prefix_range, value_of_word};
pub use order::{NullsAt, Order};
pub use rows::RowSet;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::block::Dictionary;
use self::directory::{Nulls, Shape};
use self::rows::Bitmap;
use self::wire::{Damaged, unseal};
use crate::base::{Bitset, CpuPool, Priority};
use crate::model::Attribute;
use crate::store::StoreError;

/// Reads ranges of the blocks of one index.
#[async_trait]
pub trait Blocks: Send + Sync {
    /// The bytes of each range, in order. Ranges are relative to [`Built::blocks`], not empty, ascending and do not
    /// overlap; to join near ones is up to the reader.
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError>;
}

/// Why an index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AttributeIndexError {
    /// The attribute's options have changed since it was built: look at the values instead.
    #[error("the attribute index was built with other options")]
    OtherOptions,
    /// Another version of the program wrote it.
    #[error("attribute index of version {0}, which is not known")]
    Version(u32),
    /// The bytes are not what was written.
    #[error("damaged attribute index: {0}")]
    Damaged(&'static str),
    #[error("blocks of an attribute index were not read")]
    Store(#[from] StoreError),
}

impl From<Damaged> for AttributeIndexError {
    fn from(damaged: Damaged) -> Self {
        AttributeIndexError::Damaged(damaged.0)
    }
}

/// What answers are made of.
pub type Result<T, E = AttributeIndexError> = std::result::Result<T, E>;

/// Whether bytes of a range that [`Blocks`] reads are what was written. The index looks by itself; this is for readers
/// that read again what is damaged.
pub fn is_whole(bytes: &[u8]) -> bool {
    unseal(bytes).is_ok()
}

/// A hash of everything that the index of an attribute depends on besides the values; `None` when it has none.
pub fn fingerprint(attribute: &Attribute) -> Option<u64> {
    Shape::of(attribute).map(Shape::fingerprint)
}

/// The attribute as it was when an index with this [`fingerprint`] was built. `None` when this is not known: the index is
/// of another type, or was built by another version; or the attribute has no index now.
pub fn as_built(attribute: &Attribute, fingerprint: u64) -> Option<Attribute> {
    Shape::of(attribute)?;
    // Which of the options needs trigrams does not matter.
    let options = [(true, false), (false, true), (true, true)];
    let mut built = options.into_iter().map(|(filterable, glob)| Attribute {
        filterable,
        glob,
        regex: false,
        fuzzy: false,
        ..attribute.clone()
    });
    built.find(|built| self::fingerprint(built) == Some(fingerprint))
}

/// The index of one attribute over the rows of one segment. Clone = share.
#[derive(Clone)]
pub struct AttributeIndex(Arc<Inner>);

struct Inner {
    directory: Arc<Directory>,
    blocks: Arc<dyn Blocks>,
    cpu: CpuPool,
}

/// At most so many bytes are read at a time.
const BATCH_BYTES: u64 = 4 << 20;
/// What is decoded where it was read: less than half a millisecond of work.
const QUICK_BYTES: u64 = 32 << 10;

/// Which of an index's dictionaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Values,
    Lengths,
}

/// Bytes of a block that are here, or where they are to be read.
enum Source {
    Here(Bytes),
    There(Range<u64>),
}

impl AttributeIndex {
    /// Opens an index; no I/O.
    ///
    /// * `directory` — of the attribute, by [`Directory::of`]
    /// * `blocks` — reads of [`Built::blocks`]
    pub fn new(directory: Arc<Directory>, blocks: Arc<dyn Blocks>, cpu: &CpuPool) -> Self {
        Self(Arc::new(Inner {
            directory,
            blocks,
            cpu: cpu.clone(),
        }))
    }

    /// Decodes a directory and opens its index; no I/O.
    ///
    /// # Errors
    ///
    /// Those of [`Directory::of`].
    pub fn open(
        directory: &[u8],
        rows: u32,
        area: u64,
        attribute: &Attribute,
        blocks: Arc<dyn Blocks>,
        cpu: &CpuPool,
    ) -> Result<Self> {
        let directory = Directory::of(directory, rows, area, attribute)?;
        Ok(Self::new(Arc::new(directory), blocks, cpu))
    }

    /// How many rows the segment has.
    pub fn rows(&self) -> u32 {
        self.0.directory.rows
    }

    /// How many rows are null.
    pub fn null_count(&self) -> u32 {
        self.0.directory.null_count
    }

    /// How many elements arrays have, repeated ones as often as they occur; how many rows are not null otherwise.
    pub fn elements(&self) -> u64 {
        self.0.directory.elements
    }

    /// How many distinct values, or elements, there are; `None` when only trigrams are indexed.
    pub fn distinct(&self) -> Option<u32> {
        self.0.directory.values.as_ref().map(|d| d.values)
    }

    /// Bounds of the values, or elements; `None` when there are none or they are not known.
    pub fn zone(&self) -> Option<&Zone> {
        self.0.directory.values.as_ref()?.zone.as_ref()
    }

    /// Whether values can be looked up, grouped and ordered: not where only trigrams are indexed.
    pub fn has_values(&self) -> bool {
        self.0.directory.values.is_some()
    }

    /// Whether patterns are narrowed down by trigrams.
    pub fn has_trigrams(&self) -> bool {
        self.0.directory.trigrams.is_some()
    }

    /// About how much memory the directory takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Inner>() + self.0.directory.memory_bytes()
    }

    /// The rows that are null.
    pub async fn nulls(&self) -> Result<Bitset> {
        let rows = self.0.directory.rows as usize;
        let mut set = Bitset::empty(rows);
        match &self.0.directory.nulls {
            Nulls::None => {}
            Nulls::All => set = Bitset::full(rows),
            Nulls::Rows(nulls) => nulls.add_to(&mut set),
            Nulls::Elsewhere(bitmap) => set = self.add_bitmaps(vec![bitmap.clone()], set).await?,
        }
        Ok(set)
    }

    /// The rows that are not null.
    pub async fn present(&self) -> Result<Bitset> {
        let mut set = self.nulls().await?;
        set.invert();
        Ok(set)
    }

    fn dictionary(&self, which: Which) -> Option<&Dictionary> {
        match which {
            Which::Values => self.0.directory.values.as_ref(),
            Which::Lengths => self.0.directory.lengths.as_ref(),
        }
    }

    /// The dictionary of the values, where the caller has seen that there is one.
    fn values(&self) -> &Dictionary {
        self.dictionary(Which::Values)
            .expect("the caller has asked whether there are values")
    }

    /// Runs work on so many bytes, here when that is quick.
    async fn compute<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce(&Inner) -> Result<T, Damaged> + Send + 'static,
    ) -> Result<T> {
        if bytes <= QUICK_BYTES {
            return Ok(work(&self.0)?);
        }
        let inner = self.0.clone();
        Ok(self.0.cpu.run(Priority::Foreground, move || work(&inner)).await?)
    }

    /// Reads ranges, which ascend and do not overlap.
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.0.blocks.read(ranges).await?;
        let is_as_asked = |(bytes, range): (&Bytes, &Range<u64>)| bytes.len() as u64 == range.end - range.start;
        match read.len() == ranges.len() && read.iter().zip(ranges).all(is_as_asked) {
            true => Ok(read),
            false => Err(AttributeIndexError::Damaged(
                "a read gave more or less than was asked for",
            )),
        }
    }

    /// Reads some ascending blocks of a dictionary.
    async fn read_blocks(&self, dictionary: &Dictionary, blocks: &[usize]) -> Result<Vec<Bytes>> {
        let source = |block: &usize| match &dictionary.resident {
            Some(resident) => Source::Here(resident.clone()),
            None => Source::There(dictionary.blocks[*block].at.clone()),
        };
        let sources: Vec<_> = blocks.iter().map(source).collect();
        let there = sources.iter().filter_map(|s| {
            if let Source::There(range) = s {
                Some(range.clone())
            } else {
                None
            }
        });
        let mut read = self.read(&there.collect::<Vec<_>>()).await?.into_iter();
        let bytes = sources.into_iter().map(|source| match source {
            Source::Here(bytes) => bytes,
            Source::There(_) => read.next().expect("as many were read as asked for"),
        });
        Ok(bytes.collect())
    }

    /// Adds the rows of some bitmaps, in the order of their places, to a set.
    async fn add_bitmaps(&self, bitmaps: Vec<Bitmap>, mut set: Bitset) -> Result<Bitset> {
        for batch in batches(bitmaps, |bitmap| bitmap.at.end - bitmap.at.start) {
            let ranges: Vec<_> = batch.iter().map(|bitmap| bitmap.at.clone()).collect();
            let read = self.read(&ranges).await?;
            // Rows are what takes time here: the densest bitmaps are the shortest.
            let rows = batch.iter().map(|bitmap| u64::from(bitmap.rows)).sum();
            let add = move |inner: &Inner| {
                for (bytes, bitmap) in read.iter().zip(&batch) {
                    let rows = directory::bitmap(bytes, bitmap, inner.directory.rows)?;
                    RowSet::Bitmap(rows).add_to(&mut set);
                }
                Ok(set)
            };
            set = self.compute(rows, add).await?;
        }
        Ok(set)
    }
}

/// Deals things out so that each batch has at least one and otherwise at most [`BATCH_BYTES`].
fn batches<T>(things: Vec<T>, bytes: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for thing in things {
        let bytes = bytes(&thing);
        match batches.last_mut() {
            Some(batch) if bytes <= room => {
                batch.push(thing);
                room -= bytes;
            }
            _ => {
                batches.push(vec![thing]);
                room = BATCH_BYTES.saturating_sub(bytes);
            }
        }
    }
    batches
}
