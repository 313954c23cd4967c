//! Byte ranges of one object: alignment, union, and what is known of it so far.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

/// The smallest unit that is fetched, checked and kept.
pub(super) const SUB_BLOCK: u64 = 4 << 10;
/// Sub-blocks whose state is kept together.
pub(super) const EXTENT: u64 = 64 << 10;

/// The aligned hull of `range` in an object of `len` bytes.
pub(super) fn align(range: &Range<u64>, len: u64) -> Range<u64> {
    let start = range.start / SUB_BLOCK * SUB_BLOCK;
    start..range.end.next_multiple_of(SUB_BLOCK).min(len)
}

/// Joins ranges that touch, overlap, or have at most `gap` bytes between them; none gets longer than `max` by
/// joining what does not overlap. Ascending.
pub(super) fn join(mut ranges: Vec<Range<u64>>, gap: u64, max: u64) -> Vec<Range<u64>> {
    ranges.retain(|r| !r.is_empty());
    ranges.sort_unstable_by_key(|r| (r.start, r.end));
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last)
                if range.start < last.end
                    || (range.start - last.end <= gap && range.end.max(last.end) - last.start <= max) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Cuts ranges into parts of at most `max` bytes, at multiples of it from the start of each.
pub(super) fn split(ranges: impl IntoIterator<Item = Range<u64>>, max: u64) -> Vec<Range<u64>> {
    let cut = |range: Range<u64>| {
        let end = range.end;
        range
            .step_by(usize::try_from(max).unwrap_or(usize::MAX))
            .map(move |start| start..end.min(start.saturating_add(max)))
    };
    ranges.into_iter().flat_map(cut).collect()
}

/// What of `wanted` is in none of `taken` (ascending, disjoint), ascending.
pub(super) fn subtract(wanted: &Range<u64>, taken: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    let mut at = wanted.start;
    for t in taken {
        if t.start >= wanted.end {
            break;
        }
        if t.start > at {
            left.push(at..t.start);
        }
        at = at.max(t.end);
    }
    if at < wanted.end {
        left.push(at..wanted.end);
    }
    left
}

/// The parts of one object that are at hand. They never overlap.
#[derive(Default)]
pub(super) struct Pieces {
    by_start: BTreeMap<u64, Bytes>,
}

impl Pieces {
    /// Adds bytes that begin at `start`; what is there already stays.
    pub(super) fn insert(&mut self, start: u64, bytes: &Bytes) {
        for part in self.gaps(&(start..start + bytes.len() as u64)) {
            let slice = bytes.slice((part.start - start) as usize..(part.end - start) as usize);
            self.by_start.insert(part.start, slice);
        }
    }

    /// What of `range` is missing, ascending.
    pub(super) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let before = self.by_start.range(..range.start).next_back();
        let inside = self.by_start.range(range.start..range.end.max(range.start));
        let held = before
            .into_iter()
            .chain(inside)
            .map(|(start, bytes)| *start..*start + bytes.len() as u64)
            .filter(|held| held.end > range.start);
        subtract(range, held)
    }

    /// These bytes; `None` when some are missing. Without a copy where they lie in one piece that is not much larger.
    pub(super) fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        if !self.gaps(range).is_empty() {
            return None;
        }
        let (start, first) = self.by_start.range(..=range.start).next_back()?;
        let len = (range.end - range.start) as usize;
        let skip = (range.start - start) as usize;
        if first.len() >= skip + len {
            let slice = first.slice(skip..skip + len);
            // A small part would keep all of a large body in memory.
            return match first.len() > 2 * len + EXTENT as usize {
                true => Some(Bytes::copy_from_slice(&slice)),
                false => Some(slice),
            };
        }
        let mut joined = Vec::with_capacity(len);
        joined.extend_from_slice(&first[skip..]);
        for (_, bytes) in self.by_start.range(range.start + 1..range.end) {
            let rest = len - joined.len();
            joined.extend_from_slice(&bytes[..rest.min(bytes.len())]);
        }
        Some(joined.into())
    }
}
