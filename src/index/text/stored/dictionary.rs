//! Finding terms in the dictionary.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::directory::{Block, TextDirectory};
use super::packing::{packed_len, unpack};
use super::pages::PagePlan;
use super::{BLOCK_TERM_BYTES_MAX, LENGTHS_ROWS, TERM_BYTES_MAX, TermWanted};
use crate::base::Bitset;
use crate::base::coding::{FormatError, Reader};
use crate::index::text::RowLengths;

/// A search for terms, between [`TextDirectory::look_up`] and the bytes it wants.
#[derive(Clone, Debug)]
pub struct TermLookup {
    /// Ascending.
    exact: Vec<String>,
    prefixes: Vec<String>,
    /// Which blocks the terms would be in, ascending.
    blocks: Vec<usize>,
    lengths: bool,
    plan: PagePlan,
}

/// The terms that were found, in their order.
#[derive(Clone, Debug)]
pub struct FoundTerms {
    pub(super) terms: Vec<FoundTerm>,
    /// The lengths of all rows, when they were wanted.
    pub lengths: Option<Arc<RowLengths>>,
}

#[derive(Clone, Debug)]
pub(super) struct FoundTerm {
    pub(super) term: String,
    /// Rows that contain it.
    pub(super) rows: u32,
    /// How often they do, all together.
    pub(super) tokens: u64,
    pub(super) postings: Postings,
    /// Where the places of its tokens are in the stream; empty when they are not stored.
    pub(super) places: Range<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Postings {
    /// The only row.
    Row(u32),
    /// Where they are in the stream.
    At(Range<u64>),
}

impl TextDirectory {
    /// Prepares the search for some terms.
    ///
    /// * `lengths` — whether those of the rows are wanted too, from the same reads
    pub fn look_up(&self, wanted: &[TermWanted], lengths: bool) -> TermLookup {
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for term in wanted {
            match term {
                TermWanted::Exact(term) => exact.push(term.clone()),
                TermWanted::Prefix(prefix) => prefixes.push(prefix.clone()),
            }
        }
        exact.sort_unstable();
        prefixes.sort_unstable();
        exact.dedup();
        // What begins with a longer prefix begins with the shorter one.
        prefixes.dedup_by(|longer, shorter| longer.starts_with(shorter.as_str()));
        let before = |term: &str| self.blocks.partition_point(|b| *b.first <= *term);
        let mut blocks: Vec<usize> = exact.iter().filter_map(|term| before(term).checked_sub(1)).collect();
        for prefix in &prefixes {
            let end = self
                .blocks
                .partition_point(|b| *b.first <= **prefix || b.first.starts_with(prefix.as_str()));
            blocks.extend(before(prefix).saturating_sub(1)..end);
        }
        blocks.sort_unstable();
        blocks.dedup();
        let dictionary = blocks.iter().map(|b| self.blocks[*b].bytes.clone());
        let ranges = dictionary.chain(lengths.then(|| self.lengths.clone()));
        TermLookup {
            plan: PagePlan::new(self.stream_len, ranges),
            exact,
            prefixes,
            blocks,
            lengths,
        }
    }

    /// Decodes lengths.
    pub(super) fn read_lengths(&self, bytes: &[u8]) -> Result<RowLengths, FormatError> {
        let rows = self.rows as usize;
        let mut reader = Reader::new(bytes);
        if bytes.len() < rows.div_ceil(LENGTHS_ROWS) {
            return Err(FormatError::corrupt("lengths are missing"));
        }
        let mut tokens = vec![0u32; rows];
        let mut present = Bitset::empty(rows);
        for (block, values) in tokens.chunks_mut(LENGTHS_ROWS).enumerate() {
            let width = reader.byte()?;
            unpack(reader.take(packed_len(values.len(), width))?, width, values)?;
            for (i, value) in values.iter_mut().enumerate().filter(|(_, v)| **v > 0) {
                present.insert(block * LENGTHS_ROWS + i);
                *value -= 1;
            }
        }
        reader.end()?;
        let lengths = RowLengths::new(tokens, present);
        match lengths.stats() == self.stats() {
            true => Ok(lengths),
            false => Err(FormatError::corrupt("lengths add up to something else")),
        }
    }

    /// Appends the terms of a block that are wanted, in their order.
    pub(super) fn read_block(
        &self,
        block: &Block,
        bytes: &[u8],
        wants: impl Fn(&[u8]) -> bool,
        found: &mut Vec<FoundTerm>,
    ) -> Result<(), FormatError> {
        let mut reader = Reader::new(bytes);
        let mut term = Vec::new();
        let mut budget = BLOCK_TERM_BYTES_MAX + TERM_BYTES_MAX;
        let (mut postings_at, mut places_at) = (block.postings.start, block.positions.start);
        for i in 0..block.terms {
            next_term(&mut reader, &mut term, i == 0)?;
            if i == 0 && term != block.first.as_bytes() {
                return Err(FormatError::corrupt("a block begins with another term"));
            }
            let left = budget.checked_sub(term.len());
            budget = left.ok_or_else(|| FormatError::corrupt("a block has too many bytes of terms"))?;
            let rows = reader.varint32()?;
            let tokens = reader.varint()?.checked_add(u64::from(rows));
            let tokens = tokens.ok_or_else(|| FormatError::corrupt("a term has too many tokens"))?;
            if rows == 0 || rows > self.rows {
                return Err(FormatError::corrupt(format!("a term is in {rows} rows")));
            }
            let postings = match rows {
                1 => Postings::Row(reader.varint32()?),
                _ => Postings::At(next_range(&mut postings_at, reader.varint()?, block.postings.end)?),
            };
            let places = match self.positions {
                true => next_range(&mut places_at, reader.varint()?, block.positions.end)?,
                false => places_at..places_at,
            };
            if wants(&term) {
                let text = std::str::from_utf8(&term).map_err(|_| FormatError::corrupt("a term is not UTF-8"))?;
                found.push(FoundTerm {
                    term: text.to_owned(),
                    rows,
                    tokens,
                    postings,
                    places,
                });
            }
        }
        if (postings_at, places_at) != (block.postings.end, block.positions.end) {
            return Err(FormatError::corrupt("the terms of a block have less than the block"));
        }
        Ok(reader.end()?)
    }
}

impl TermLookup {
    /// The byte ranges to be read, ascending and disjoint; empty when there is nothing to look for.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.plan.ranges()
    }

    /// The terms that there are.
    ///
    /// * `directory` — that of [`TextDirectory::look_up`]
    /// * `read` — the bytes of each of [`TermLookup::ranges`]
    ///
    /// Takes about 1 ms per megabyte. Errors when a page is damaged: read it again, then raise the alarm.
    pub fn finish(&self, directory: &TextDirectory, read: &[Bytes]) -> Result<FoundTerms, FormatError> {
        let pages = self.plan.open(read)?;
        let mut terms = Vec::new();
        for block in self.blocks.iter().map(|b| &directory.blocks[*b]) {
            directory.read_block(block, pages.get(&block.bytes)?, |term| self.wants(term), &mut terms)?;
        }
        let lengths = match self.lengths {
            true => Some(Arc::new(directory.read_lengths(pages.get(&directory.lengths)?)?)),
            false => None,
        };
        Ok(FoundTerms { terms, lengths })
    }

    fn wants(&self, term: &[u8]) -> bool {
        self.exact.binary_search_by(|e| e.as_bytes().cmp(term)).is_ok()
            || self.prefixes.iter().any(|p| term.starts_with(p.as_bytes()))
    }
}

/// Turns the term before into the next one.
fn next_term(reader: &mut Reader<'_>, term: &mut Vec<u8>, first: bool) -> Result<(), FormatError> {
    let shared = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let suffix = reader.bytes()?;
    let rest = term
        .get(shared..)
        .ok_or_else(|| FormatError::corrupt("a term shares more than there is"))?;
    if !first && suffix <= rest {
        return Err(FormatError::corrupt("terms do not ascend"));
    }
    term.truncate(shared);
    term.extend_from_slice(suffix);
    match term.len() <= TERM_BYTES_MAX {
        true => Ok(()),
        false => Err(FormatError::corrupt("a term is too long")),
    }
}

/// The next `len` bytes of an area that ends at `end`.
fn next_range(at: &mut u64, len: u64, end: u64) -> Result<Range<u64>, FormatError> {
    let start = *at;
    *at = start
        .checked_add(len)
        .filter(|at| *at <= end)
        .ok_or_else(|| FormatError::corrupt("a term has more than its block"))?;
    Ok(start..*at)
}
