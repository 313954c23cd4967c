//! What things cost, in nanoseconds of one processor: for choosing between ways to the same answer.
//!
//! Measured with `cargo bench --bench segments` over a million rows, everything in memory; what comes from a disk is
//! [`BYTES_PER_NS`] slower for all of them. They need to be right within a factor of two or so.

use crate::index::attribute::{AttributeIndex, CodeSet, Estimate};

/// What a disk gives, roughly. What the cache has costs less, for indexes and columns alike.
pub const BYTES_PER_NS: u64 = 4;
/// To decode a value of an index with its rows.
pub const VALUE_NS: u64 = 30;
/// To decode a row of a bitmap and to put it into a set.
pub const BITMAP_ROW_NS: u64 = 4;
/// To make the code of a row.
const CODE_NS: u64 = 6;
/// To compare the codes of eight rows with a range, or to look one up.
const CODES_PER_NS: u64 = 8;
const SCATTERED_CODE_NS: u64 = 1;

/// To ask an index, where so many of its values are decoded.
///
/// * `value_ns` — what each of them takes besides
pub fn index(estimate: &Estimate, values: u64, value_ns: u64) -> u64 {
    estimate.bytes / BYTES_PER_NS + values * (VALUE_NS + value_ns) + estimate.rows_likely * BITMAP_ROW_NS
}

/// To make the codes of an attribute; `None` where there are none.
pub fn codes_made(index: &AttributeIndex) -> Option<u64> {
    let values = u64::from(index.distinct()?);
    Some(index.codes_bytes()? / BYTES_PER_NS + values * VALUE_NS + u64::from(index.rows()) * CODE_NS)
}

/// To add a value of a column up, or to compare it.
pub const ADDED_NS: u64 = 1;
/// To look one up in a table of groups or of distinct values.
pub const HASHED_NS: u64 = 20;
/// To make a group of a value.
const GROUP_NS: u64 = 60;
/// To count a row by its code.
const COUNTED_NS: u64 = 2;

/// To count rows by the values that an index has.
///
/// * `all` — whether these are all rows, so that none has to be looked at
/// * `kept` — whether their codes are in memory
pub fn groups(index: &AttributeIndex, all: bool, kept: bool) -> u64 {
    let values = index.distinct().map_or(u64::MAX, u64::from).saturating_mul(GROUP_NS);
    let rows = u64::from(index.rows());
    let read = index.groups_estimate().bytes / BYTES_PER_NS;
    values.saturating_add(match (all, kept, codes_made(index)) {
        (true, ..) => read,
        (false, true, _) => rows * COUNTED_NS,
        (false, false, Some(made)) => made + rows * COUNTED_NS,
        (false, false, None) => read + rows * BITMAP_ROW_NS,
    })
}

/// To read a column and to look at each of its values.
pub fn column(bytes: u64, rows: usize, value_ns: u64) -> u64 {
    bytes / BYTES_PER_NS + rows as u64 * value_ns
}

/// To find the rows that have some codes.
pub fn codes(set: &CodeSet, rows: usize) -> u64 {
    match set.is_scattered() {
        true => rows as u64 * SCATTERED_CODE_NS,
        false => rows as u64 / CODES_PER_NS,
    }
}
