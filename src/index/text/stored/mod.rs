//! The text index of an attribute as a segment keeps it, and how an index that knows some terms is
//! loaded from it.
//!
//! A small directory is in the segment's hot region. Everything else is one stream in pages with
//! checksums: the lengths of all rows, the dictionary, the postings, the places of tokens. Nothing here
//! reads: [`TextDirectory::look_up`] and [`FoundTerms::load`] say which byte ranges they want, and are
//! given them. So the terms of a query cost two dependent rounds of reads, whatever their number.
//!
//! # What stays true
//!
//! - A loaded index answers for the terms that were wanted as [`TextIndex::build`](super::TextIndex::build)
//!   of the same column would: same rows, frequencies, lengths, statistics. So scores are equal to the bit.
//! - Any bytes give an index or an error, and take memory in proportion to themselves and to the rows of
//!   the segment.
//!
//! Bytes: `docs/formats/postings.md`.

mod dictionary;
mod directory;
mod lists;
mod merge;
mod packing;
mod pages;
mod read;
mod sequence;
#[cfg(test)]
mod tests;
mod write;

pub use dictionary::{FoundTerms, TermLookup};
pub use directory::{TextDirectory, fingerprint};
pub use merge::{MergeInput, merge};
pub use read::PostingsLoad;
pub use write::{EncodedText, encode};

/// The version of new text indexes.
pub const VERSION_WRITTEN: u8 = 1;
/// The oldest version that [`TextDirectory::open`] understands.
pub const VERSION_OLDEST_READ: u8 = 1;

const FLAG_POSITIONS: u8 = 1;
const FLAG_ELEMENTS: u8 = 2;

/// A block of the dictionary is closed when it has this many bytes.
const BLOCK_BYTES: usize = 32 * 1024;
/// A block is closed when its terms have this many bytes in memory, so that few bytes cannot unpack to
/// many.
const BLOCK_TERM_BYTES_MAX: usize = 1024 * 1024;
/// The longest term. The limit on tokens is 254 characters before they are folded.
const TERM_BYTES_MAX: usize = u16::MAX as usize;
/// The longest block: one entry more than fits.
const BLOCK_LEN_MAX: usize = BLOCK_BYTES + TERM_BYTES_MAX + 64;
/// Rows of a block of lengths.
const LENGTHS_ROWS: usize = 4096;

/// A term of a text index to be loaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TermWanted {
    Exact(String),
    /// All terms that begin so.
    Prefix(String),
}
