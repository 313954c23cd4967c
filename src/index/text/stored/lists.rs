//! What is stored of one term: the rows that contain it with frequencies, and the places of its
//! tokens.

use super::packing::{pack, packed_len, unpack, width};
use crate::base::coding::{FormatError, Reader, put_varint};
use crate::index::text::Posting;

/// Rows of a block of postings.
const BLOCK_ROWS: usize = 128;

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which element of an array; 0 where sequences may span all elements.
    pub(super) element: u32,
    /// In that element.
    pub(super) position: u32,
}

/// Appends postings, whose rows ascend: blocks of 128 rows, then what is left.
pub(super) fn put_postings(out: &mut Vec<u8>, postings: &[Posting]) {
    let mut next = 0;
    let (mut steps, mut more) = (Vec::with_capacity(BLOCK_ROWS), Vec::with_capacity(BLOCK_ROWS));
    for block in postings.chunks(BLOCK_ROWS) {
        steps.clear();
        more.clear();
        for posting in block {
            steps.push(posting.row - next);
            more.push(posting.frequency - 1);
            next = posting.row + 1;
        }
        let widths = [width(&steps), width(&more)];
        out.extend_from_slice(&widths);
        pack(out, &steps, widths[0]);
        pack(out, &more, widths[1]);
    }
}

/// Appends the postings in `bytes` to `out`.
///
/// * `count`, `tokens` — how many rows and tokens the dictionary promises
/// * `rows` — of the segment
pub(super) fn read_postings(
    bytes: &[u8],
    count: u32,
    tokens: u64,
    rows: u32,
    out: &mut Vec<Posting>,
) -> Result<(), FormatError> {
    let first = out.len();
    let mut reader = Reader::new(bytes);
    let (mut steps, mut more) = ([0; BLOCK_ROWS], [0; BLOCK_ROWS]);
    let (mut next, mut total) = (0u64, 0u64);
    let mut left = count as usize;
    while left > 0 {
        let n = left.min(BLOCK_ROWS);
        let widths = [reader.byte()?, reader.byte()?];
        let [steps_len, more_len] = widths.map(|w| packed_len(n, w));
        unpack(reader.take(steps_len)?, widths[0], &mut steps[..n])?;
        unpack(reader.take(more_len)?, widths[1], &mut more[..n])?;
        for (step, more) in steps[..n].iter().zip(&more[..n]) {
            let row = next + u64::from(*step);
            if row >= u64::from(rows) {
                return Err(FormatError::corrupt("a posting's row is not in the segment"));
            }
            let frequency = more
                .checked_add(1)
                .ok_or_else(|| FormatError::corrupt("a frequency is too large"))?;
            out.push(Posting {
                row: row as u32,
                frequency,
            });
            next = row + 1;
            total += u64::from(frequency);
        }
        left -= n;
    }
    reader.end()?;
    if total != tokens || out.len() - first != count as usize {
        return Err(FormatError::corrupt(format!(
            "{total} tokens of a term instead of {tokens}"
        )));
    }
    Ok(())
}

/// Appends the places of one row, which ascend.
///
/// * `elements` — whether there can be more than one element
pub(super) fn put_places(out: &mut Vec<u8>, places: impl Iterator<Item = Place>, elements: bool) {
    let mut before = Place {
        element: 0,
        position: 0,
    };
    for place in places {
        if elements {
            put_varint(out, u64::from(place.element - before.element));
        }
        let from = if place.element == before.element {
            before.position
        } else {
            0
        };
        put_varint(out, u64::from(place.position - from));
        before = place;
    }
}

/// Reads the places of a term, row by row.
pub(super) struct PlaceReader<'a> {
    reader: Reader<'a>,
    elements: bool,
}

impl<'a> PlaceReader<'a> {
    pub(super) fn new(bytes: &'a [u8], elements: bool) -> Self {
        Self {
            reader: Reader::new(bytes),
            elements,
        }
    }

    /// The places of the next row, as many as the term's frequency there, ascending.
    pub(super) fn row(&mut self, frequency: u32, out: &mut Vec<Place>) -> Result<(), FormatError> {
        out.clear();
        let corrupt = || FormatError::corrupt("the place of a token has more than 32 bits");
        let mut last = Place {
            element: 0,
            position: 0,
        };
        for _ in 0..frequency {
            let elements = if self.elements { self.reader.varint32()? } else { 0 };
            let step = self.reader.varint32()?;
            let from = if elements == 0 { last.position } else { 0 };
            last = Place {
                element: last.element.checked_add(elements).ok_or_else(corrupt)?,
                position: from.checked_add(step).ok_or_else(corrupt)?,
            };
            out.push(last);
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), FormatError> {
        Ok(self.reader.end()?)
    }
}
