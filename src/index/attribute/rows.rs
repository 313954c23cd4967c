//! Sets of rows: which rows have a value, which are null.
//!
//! Few rows are gaps between them, inside whatever names them; many are a serialised roaring bitmap elsewhere.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::wire::{CRC_BYTES, Damaged, Reader, Sizes, put, seal, unseal};
use crate::base::Bitset;

/// Some rows of a segment, ascending.
#[derive(Clone, Debug, PartialEq)]
pub enum RowSet {
    One(u32),
    /// Strictly ascending.
    List(Vec<u32>),
    Bitmap(RoaringBitmap),
}

impl RowSet {
    /// How many rows.
    pub fn len(&self) -> u64 {
        match self {
            RowSet::One(_) => 1,
            RowSet::List(rows) => rows.len() as u64,
            RowSet::Bitmap(rows) => rows.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with each row, ascending.
    pub fn each(&self, mut f: impl FnMut(u32)) {
        match self {
            RowSet::One(row) => f(*row),
            RowSet::List(rows) => rows.iter().copied().for_each(f),
            RowSet::Bitmap(rows) => {
                // Many at a time, so that which kind of container they are in is not asked for each.
                let (mut rows, mut some) = (rows.iter(), [0; 256]);
                loop {
                    let next = rows.next_many(&mut some);
                    if next.is_empty() {
                        break;
                    }
                    next.iter().copied().for_each(&mut f);
                }
            }
        }
    }

    /// The rows, ascending.
    pub fn to_vec(&self) -> Vec<u32> {
        let mut all = Vec::with_capacity(self.len() as usize);
        self.each(|row| all.push(row));
        all
    }

    /// Adds the rows to a set over all rows of the segment.
    pub fn add_to(&self, set: &mut Bitset) {
        self.each(|row| set.insert(row as usize));
    }

    /// How many of the rows are in a set over all rows of the segment.
    pub fn count_in(&self, set: &Bitset) -> u64 {
        let mut count = 0;
        self.each(|row| count += u64::from(set.contains(row as usize)));
        count
    }

    pub(super) fn of(rows: &[u32]) -> Self {
        match rows {
            [row] => RowSet::One(*row),
            rows => RowSet::List(rows.to_vec()),
        }
    }
}

/// Where the rows are that were read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// In the buffer given to [`decode`].
    Inline,
    Elsewhere(Bitmap),
}

/// A bitmap in the area of blocks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bitmap {
    pub rows: u32,
    pub at: Range<u64>,
}

/// Appends some rows, at least one and strictly ascending.
///
/// * `elsewhere` — where a bitmap is appended if there has to be one
pub(super) fn encode(rows: &[u32], sizes: &Sizes, out: &mut Vec<u8>, elsewhere: &mut Vec<u8>) {
    let count = (rows.len() as u64) << 1;
    if rows.len() <= sizes.inline_rows {
        let start = out.len();
        put(out, count);
        put_gaps(out, rows.iter().copied());
        if out.len() - start <= sizes.inline_rows {
            return;
        }
        out.truncate(start);
    }
    let start = elsewhere.len();
    let mut bitmap = RoaringBitmap::from_sorted_iter(rows.iter().copied()).expect("rows ascend");
    bitmap.optimize();
    bitmap
        .serialize_into(&mut *elsewhere)
        .expect("writing to memory does not fail");
    seal(elsewhere, start);
    put(out, count | 1);
    put(out, (elsewhere.len() - start) as u64);
}

/// Appends the first number and what is between the others.
pub(super) fn put_gaps(out: &mut Vec<u8>, ascending: impl Iterator<Item = u32>) {
    let mut next = 0;
    for number in ascending {
        put(out, u64::from(number - next));
        // Nothing follows the greatest number.
        next = number.wrapping_add(1);
    }
}

/// Reads `count` numbers below `end` that [`put_gaps`] wrote.
pub(super) fn take_gaps(reader: &mut Reader<'_>, count: u32, end: u32, mut f: impl FnMut(u32)) -> Result<(), Damaged> {
    let mut next = 0u64;
    for _ in 0..count {
        let number = next.checked_add(reader.varint()?).filter(|n| *n < u64::from(end));
        let number = number.ok_or(Damaged("a number in a list is too large"))?;
        f(number as u32);
        next = number + 1;
    }
    Ok(())
}

/// Reads what [`encode`] wrote.
///
/// * `end` — how many rows there are
/// * `elsewhere` — where the next bitmap begins; moved behind it
/// * `rows` — gets the rows if they are here
pub(super) fn decode(
    reader: &mut Reader<'_>,
    end: u32,
    elsewhere: &mut Range<u64>,
    rows: &mut Vec<u32>,
) -> Result<Place, Damaged> {
    let head = reader.varint()?;
    let count = u32::try_from(head >> 1).map_err(|_| Damaged("too many rows"))?;
    if count == 0 || count > end {
        return Err(Damaged("a value has no rows or too many"));
    }
    rows.clear();
    if head & 1 == 0 {
        take_gaps(reader, count, end, |row| rows.push(row))?;
        return Ok(Place::Inline);
    }
    let len = reader.varint()?;
    let after = elsewhere.start.checked_add(len).filter(|after| *after <= elsewhere.end);
    let after = after.ok_or(Damaged("a bitmap lies outside of its area"))?;
    let at = elsewhere.start..after;
    elsewhere.start = after;
    match len >= CRC_BYTES as u64 {
        true => Ok(Place::Elsewhere(Bitmap { rows: count, at })),
        false => Err(Damaged("a bitmap is too short")),
    }
}

/// Decodes a bitmap of so many rows, all below `end`.
pub(super) fn decode_bitmap(bytes: &[u8], expected: u32, end: u32) -> Result<RoaringBitmap, Damaged> {
    let mut content = unseal(bytes)?;
    let bitmap = RoaringBitmap::deserialize_from(&mut content).map_err(|_| Damaged("a bitmap cannot be read"))?;
    match content.is_empty() && bitmap.len() == u64::from(expected) && bitmap.max().is_none_or(|row| row < end) {
        true => Ok(bitmap),
        false => Err(Damaged("a bitmap has other rows than announced")),
    }
}
