//! Groups of the rows of segments whose keys are codes: tables instead of hashing.

use std::collections::BTreeMap;

use super::Selected;
use super::bind::BoundAggregation;
use super::groups::{Groups, WordKey, word_key};
use crate::base::Bitset;
use crate::index::attribute::Combined;
use crate::query::exec::Work;
use crate::query::key;
use crate::tail::Part;

/// What rows are grouped and aggregated of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub parts: &'a [Part],
    /// How many are of the tail.
    pub tail: usize,
    /// For each of the others the keys of its rows as numbers, where they are codes.
    pub combined: &'a [Option<Combined>],
}

impl<'a> Parts<'a> {
    pub fn of(work: &'a Work) -> Self {
        Self {
            parts: &work.parts,
            tail: work.tail,
            combined: &work.combined,
        }
    }

    pub fn combined(&self, part: usize) -> Option<&'a Combined> {
        self.combined.get(part.checked_sub(self.tail)?)?.as_ref()
    }
}

/// For each part whose keys are codes, which of their numbers some rows have.
pub(super) type Seen = BTreeMap<usize, Bitset>;

/// For each of these parts the group of each number.
pub(super) type Tables = BTreeMap<usize, Vec<u32>>;

/// Of a number that is in no group of the answer.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// Adds the numbers of some rows.
pub(super) fn see(combined: &Combined, rows: &Selected, seen: &mut Seen) {
    let set = seen.entry(rows.part).or_insert_with(|| Bitset::empty(combined.len()));
    combined.each(rows.start, &rows.rows, |_, number| set.insert(number as usize));
}

/// Adds what other rows have.
pub(super) fn merge(seen: &mut Seen, other: Seen) {
    for (part, numbers) in other {
        match seen.get_mut(&part) {
            Some(known) => known.or(&numbers),
            None => drop(seen.insert(part, numbers)),
        }
    }
}

/// The key of a number, where rows are grouped by one attribute of words.
pub(super) fn word_of(combined: &Combined, number: u32) -> WordKey {
    let only = combined.parts(number).next();
    word_key(only.and_then(|(codes, code)| codes.key(code)).as_ref())
}

/// Replaces `out` by the key of a number.
pub(super) fn bytes_of(combined: &Combined, number: u32, out: &mut Vec<u8>) {
    out.clear();
    for (codes, code) in combined.parts(number) {
        match codes.key(code) {
            None => key::push_null(out),
            Some(value) => key::push_key(out, &value),
        }
    }
}

/// The group of each number that rows have.
pub(super) fn tables(asked: &BoundAggregation, parts: Parts<'_>, groups: &Groups, seen: &Seen) -> Tables {
    let table = |(part, numbers): (&usize, &Bitset)| {
        let combined = parts.combined(*part)?;
        let mut table = vec![NO_GROUP; combined.len()];
        let mut key = Vec::new();
        for number in numbers.iter() {
            if let Some(group) = groups.of_number(asked, combined, number as u32, &mut key) {
                table[number] = group;
            }
        }
        Some((*part, table))
    };
    seen.iter().filter_map(table).collect()
}

/// Calls `visit` with every row and the group of the answer that it falls into.
pub(super) fn each_member(combined: &Combined, rows: &Selected, table: &[u32], mut visit: impl FnMut(u32, u32)) {
    combined.each(rows.start, &rows.rows, |row, number| match table[number as usize] {
        NO_GROUP => {}
        group => visit(row as u32, group),
    });
}
