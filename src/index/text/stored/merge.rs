//! Stored indexes in, one stored index out: what a merge of segments does instead of analysing their texts again.

use bytes::Bytes;

use super::dictionary::{FoundTerm, Postings};
use super::directory::{Draft, TextDirectory};
use super::lists::{Place, PlaceReader, put_places};
use super::pages::{PagePlan, PagedBytes};
use super::read::read_term;
use super::write::{Areas, EncodedText, encode_lengths, tells_elements};
use crate::base::Bitset;
use crate::base::coding::FormatError;
use crate::index::text::{FieldStats, Posting};
use crate::model::FullTextConfig;

/// A stored index that is merged.
pub struct MergeInput<'a> {
    pub directory: &'a TextDirectory,
    /// All of its pages.
    pub pages: Bytes,
    /// The new number of each row, `None` when it is gone. New numbers ascend within an input and from input to input.
    pub remap: &'a [Option<u32>],
}

/// Joins stored indexes: the same bytes as [`encode`](super::encode) of the texts of the rows that are left.
///
/// Takes about a tenth of the time of an analysis, and the bytes of all inputs and of the result in memory: hand it to
/// the CPU pool.
///
/// * `config` — of the attribute, which every input [serves](TextDirectory::serves)
/// * `array` — whether a row may have several texts
/// * `rows` — how many there are after; rows that no input maps to are null
///
/// # Errors
///
/// The bytes of an input are damaged, or it was stored with other places than the others.
pub fn merge(
    config: &FullTextConfig,
    array: bool,
    inputs: &[MergeInput<'_>],
    rows: u32,
) -> Result<EncodedText, FormatError> {
    let elements = tells_elements(config, array);
    let mut cursors = Vec::with_capacity(inputs.len());
    let mut lengths = Lengths::new(rows as usize);
    for input in inputs {
        let directory = input.directory;
        assert_eq!(
            input.remap.len(),
            directory.rows as usize,
            "a remap covers every row of its index"
        );
        if !directory.positions || directory.elements != elements {
            return Err(FormatError::corrupt("a text index was stored with other places"));
        }
        let stream = 0..directory.stream_len;
        // Nothing is stored of no rows.
        let read: &[Bytes] = match stream.is_empty() {
            true => &[],
            false => std::slice::from_ref(&input.pages),
        };
        let pages = PagePlan::new(directory.stream_len, [stream]).open(read)?;
        lengths.take(directory, &pages, input.remap)?;
        cursors.push(Cursor::new(input, pages)?);
    }
    let mut areas = Areas::new(Draft {
        positions: true,
        elements,
        rows,
        stats: lengths.stats(),
        ..Draft::default()
    });
    let lengths = encode_lengths(&lengths.tokens, &lengths.present);
    areas.draft.lengths_len = lengths.len() as u64;
    merge_terms(&mut cursors, &mut areas)?;
    areas.close();
    Ok(areas.finish(config, &lengths))
}

/// Takes the terms of all inputs in their order.
fn merge_terms(cursors: &mut [Cursor<'_>], areas: &mut Areas) -> Result<(), FormatError> {
    let mut postings = Vec::new();
    let mut term = String::new();
    loop {
        let smallest = cursors.iter().filter_map(|c| c.term().map(|t| t.term.as_str())).min();
        let Some(smallest) = smallest else { return Ok(()) };
        if !term.is_empty() && *smallest <= *term {
            return Err(FormatError::corrupt("terms do not ascend"));
        }
        term.clear();
        term.push_str(smallest);
        postings.clear();
        let before = areas.positions.len();
        for cursor in cursors.iter_mut() {
            if cursor.term().is_some_and(|t| t.term == term) {
                cursor.take(&mut postings, &mut areas.positions)?;
                cursor.advance()?;
            }
        }
        // None when all of its rows are gone.
        if !postings.is_empty() {
            let places_len = (areas.positions.len() - before) as u64;
            areas.put_term(&term, &postings, places_len);
        }
    }
}

/// The lengths of the rows after.
struct Lengths {
    tokens: Vec<u32>,
    present: Bitset,
}

impl Lengths {
    fn new(rows: usize) -> Self {
        Self {
            tokens: vec![0; rows],
            present: Bitset::empty(rows),
        }
    }

    fn take(
        &mut self,
        directory: &TextDirectory,
        pages: &PagedBytes,
        remap: &[Option<u32>],
    ) -> Result<(), FormatError> {
        let old = directory.read_lengths(pages.get(&directory.lengths)?)?;
        for (row, new) in (0..).zip(remap) {
            if let Some(new) = new
                && old.present().contains(row as usize)
            {
                self.tokens[*new as usize] = old.tokens_of(row);
                self.present.insert(*new as usize);
            }
        }
        Ok(())
    }

    fn stats(&self) -> FieldStats {
        FieldStats {
            docs: self.present.count() as u64,
            tokens: self.tokens.iter().map(|n| u64::from(*n)).sum(),
        }
    }
}

/// The terms of an input, one after the other.
struct Cursor<'a> {
    directory: &'a TextDirectory,
    pages: PagedBytes,
    remap: &'a [Option<u32>],
    /// Whether every row is still there: then places are copied as they are.
    is_whole: bool,
    /// The block that is read next.
    block: usize,
    /// The terms of the block before, the next one last.
    terms: Vec<FoundTerm>,
    old: Vec<Posting>,
    places: Vec<Place>,
}

impl<'a> Cursor<'a> {
    fn new(input: &MergeInput<'a>, pages: PagedBytes) -> Result<Self, FormatError> {
        let mut cursor = Self {
            directory: input.directory,
            pages,
            remap: input.remap,
            is_whole: input.remap.iter().all(Option::is_some),
            block: 0,
            terms: Vec::new(),
            old: Vec::new(),
            places: Vec::new(),
        };
        cursor.fill()?;
        Ok(cursor)
    }

    fn term(&self) -> Option<&FoundTerm> {
        self.terms.last()
    }

    fn advance(&mut self) -> Result<(), FormatError> {
        self.terms.pop();
        self.fill()
    }

    fn fill(&mut self) -> Result<(), FormatError> {
        if self.terms.is_empty()
            && let Some(block) = self.directory.blocks.get(self.block)
        {
            self.directory
                .read_block(block, self.pages.get(&block.bytes)?, |_| true, &mut self.terms)?;
            self.terms.reverse();
            self.block += 1;
        }
        Ok(())
    }

    /// Appends the postings of the term at hand, and its places.
    fn take(&mut self, postings: &mut Vec<Posting>, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let found = self.terms.last().expect("there is a term at hand");
        self.old.clear();
        match found.postings {
            // Most terms are in one row.
            Postings::Row(row) if self.remap.get(row as usize).is_some_and(Option::is_none) => return Ok(()),
            _ => read_term(self.directory, &self.pages, found, &mut self.old)?,
        }
        let places = self.pages.get(&found.places)?;
        if self.is_whole {
            out.extend_from_slice(places);
        }
        let mut reader = PlaceReader::new(places, self.directory.elements);
        for posting in &self.old {
            let new = self.remap[posting.row as usize];
            if !self.is_whole {
                reader.row(posting.frequency, &mut self.places)?;
                if new.is_some() {
                    put_places(out, self.places.iter().copied(), self.directory.elements);
                }
            }
            postings.extend(new.map(|row| Posting { row, ..*posting }));
        }
        match self.is_whole {
            true => Ok(()),
            false => reader.end(),
        }
    }
}
