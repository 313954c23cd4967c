//! What an answer will be and cost, told from the directory alone.

use std::ops::{Bound, Range};

use super::block::{BlockMeta, Dictionary};
use super::directory::Nulls;
use super::evaluate::Predicate;
use super::key::{Key, is_empty_range, prefix_range};
use super::{AttributeIndex, Which};

/// How many rows a predicate selects, and what it takes to know which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Estimate {
    /// At least so many rows.
    pub rows_low: u64,
    /// About so many.
    pub rows_likely: u64,
    /// At most so many.
    pub rows_high: u64,
    /// Bytes to read: at most so many for ranges, about so many for other predicates.
    pub bytes: u64,
}

/// So many keys of a filter are looked up at most while a query is planned, which is done in place: a filter may have a
/// million of them, and every segment is asked.
pub(super) const KEYS_MAX: usize = 1024;

/// Sums over some values.
#[derive(Clone, Copy, Default)]
struct Sum {
    low: u64,
    likely: u64,
    high: u64,
    bytes: u64,
}

impl AttributeIndex {
    /// What to expect of [`AttributeIndex::evaluate`]. No I/O; a step for each key that is asked for, of which it looks at
    /// `KEYS_MAX` or so. Exact for null and not null, and for other predicates with fewer keys where the attribute has so
    /// few values that they are in the directory.
    pub fn estimate(&self, predicate: &Predicate) -> Estimate {
        let directory = &self.0.directory;
        let (nulls, present) = (u64::from(directory.null_count), u64::from(directory.present()));
        let null_bytes = match &directory.nulls {
            Nulls::Elsewhere(bitmap) => length(&bitmap.at),
            Nulls::None | Nulls::All | Nulls::Rows(_) => 0,
        };
        let exactly = |rows, bytes| Estimate {
            rows_low: rows,
            rows_likely: rows,
            rows_high: rows,
            bytes,
        };
        let Some(values) = self.dictionary(Which::Values) else {
            return match predicate {
                Predicate::Null => exactly(nulls, null_bytes),
                Predicate::NotNull => exactly(present, null_bytes),
                Predicate::Pattern(pattern) => {
                    self.estimate_pattern(pattern.candidates.trigrams(), Sum::all(present, 0))
                }
                _ => Sum::all(present, null_bytes).estimate(present, true),
            };
        };
        let is_array = directory.shape.is_array;
        match predicate {
            Predicate::Null => exactly(nulls, null_bytes),
            Predicate::NotNull => exactly(present, null_bytes),
            Predicate::Range { low, high } => {
                let mut estimate = values.sum_range(low, high, self.rows()).estimate(present, is_array);
                // The range may be found through what is outside of it.
                estimate.bytes += null_bytes;
                estimate
            }
            Predicate::In(keys) => values.sum_keys(keys, self.rows()).estimate(present, is_array),
            Predicate::Whole(elements) => self.estimate_whole(elements, values, present),
            Predicate::Pattern(pattern) => {
                let (low, high) = prefix_range(&pattern.prefix);
                let mut sum = values.sum_range(&low, &high, self.rows());
                sum.low = 0;
                match pattern.candidates.is_all() {
                    true => sum.estimate(present, is_array),
                    false => self.estimate_pattern(pattern.candidates.trigrams(), sum),
                }
            }
        }
    }

    /// What trigrams narrow down is known only when their lists are read: a tenth is a guess.
    fn estimate_pattern(&self, trigrams: &[u32], all: Sum) -> Estimate {
        let mut estimate = all.estimate(u64::from(self.0.directory.present()), true);
        estimate.rows_low = 0;
        let Some(directory) = self.0.directory.trigrams.as_ref().filter(|_| !trigrams.is_empty()) else {
            return estimate;
        };
        let mut blocks: Vec<_> = trigrams.iter().filter_map(|t| directory.block_of(*t)).collect();
        blocks.dedup();
        let lists: u64 = blocks
            .into_iter()
            .map(|block| length(&directory.blocks[block].at))
            .sum();
        estimate.rows_likely /= 10;
        estimate.bytes = estimate.bytes / 10 + lists;
        estimate
    }

    fn estimate_whole(&self, elements: &[Key], values: &Dictionary, present: u64) -> Estimate {
        let lengths = self.dictionary(Which::Lengths);
        let len = [Key::Word(elements.len() as u64)];
        let mut estimate = lengths.map_or(Estimate::default(), |l| {
            l.sum_keys(&len, self.rows()).estimate(present, false)
        });
        for element in elements {
            let with = values
                .sum_keys(std::slice::from_ref(element), self.rows())
                .estimate(present, true);
            estimate.rows_likely = estimate.rows_likely.min(with.rows_likely);
            estimate.rows_high = estimate.rows_high.min(with.rows_high);
            estimate.bytes += with.bytes;
        }
        if !elements.is_empty() {
            estimate.rows_low = 0;
        }
        estimate
    }
}

impl Sum {
    fn all(rows: u64, bytes: u64) -> Self {
        Self {
            low: 0,
            likely: rows,
            high: rows,
            bytes,
        }
    }

    /// * `rows` — how many rows have values
    /// * `overlap` — whether a row can have several values
    fn estimate(self, rows: u64, overlap: bool) -> Estimate {
        let high = self.high.min(rows);
        // Rows that have all their values among these count several times.
        let low = match overlap {
            true => u64::from(self.low > 0),
            false => self.low,
        };
        Estimate {
            rows_low: low.min(high),
            rows_likely: self.likely.clamp(low.min(high), high),
            rows_high: high,
            bytes: self.bytes,
        }
    }

    fn add(&mut self, other: Sum) {
        self.low += other.low;
        self.likely += other.likely;
        self.high = self.high.saturating_add(other.high);
        self.bytes += other.bytes;
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

impl BlockMeta {
    /// Some of the block's values: how many if that is known, or any number of them.
    fn part(&self, values: Option<u64>) -> Sum {
        let all = u64::from(self.values);
        let some = values.unwrap_or(all.div_ceil(2)).min(all);
        // Every other value has a row of its own.
        let high = if some == all || values.is_none() {
            self.pairs
        } else {
            self.pairs - (all - some)
        };
        let share = |n: u64| (u128::from(n) * u128::from(some)).div_ceil(u128::from(all)) as u64;
        Sum {
            low: 0,
            likely: share(self.pairs),
            high,
            bytes: length(&self.at)
                + if values.is_none() {
                    length(&self.bitmaps)
                } else {
                    share(length(&self.bitmaps))
                },
        }
    }

    fn whole(&self) -> Sum {
        Sum {
            low: self.pairs,
            likely: self.pairs,
            high: self.pairs,
            bytes: length(&self.at) + length(&self.bitmaps),
        }
    }
}

impl Dictionary {
    fn sum_range(&self, low: &Bound<Key>, high: &Bound<Key>, rows: u32) -> Sum {
        let mut sum = Sum::default();
        let blocks = self.blocks_between(low, high);
        if is_empty_range(low, high) || self.is_outside(low, high) {
            return sum;
        }
        if let Some(exact) = self.sum_resident(rows, |key| key.of().is_from(low) && key.of().is_to(high)) {
            return exact;
        }
        for (i, block) in self.blocks.iter().enumerate().take(blocks.end).skip(blocks.start) {
            let covered = self.is_covered(i, low, high);
            sum.add(if covered { block.whole() } else { block.part(None) });
        }
        sum
    }

    fn is_outside(&self, low: &Bound<Key>, high: &Bound<Key>) -> bool {
        let Some(zone) = &self.zone else { return true };
        is_empty_range(low, &zone.high) || is_empty_range(&zone.low, high)
    }

    /// Whether the greatest value is at or below a bound.
    pub(super) fn ends_within(&self, high: &Bound<Key>) -> bool {
        match (high, self.zone.as_ref().map(|z| &z.high)) {
            (Bound::Unbounded, _) => true,
            (high, Some(Bound::Included(max))) => max.of().is_to(high),
            (Bound::Included(high) | Bound::Excluded(high), Some(Bound::Excluded(above))) => above <= high,
            _ => false,
        }
    }

    /// About what the rows of many keys add up to, from every so manieth of them.
    fn sum_sampled(&self, keys: &[Key]) -> Sum {
        let step = keys.len().div_ceil(KEYS_MAX);
        let sampled = keys.iter().step_by(step).filter_map(|key| self.block_of(key.of()));
        let mut blocks: Vec<usize> = sampled.collect();
        let ones = blocks
            .iter()
            .map(|block| self.blocks[*block].part(Some(1)).likely)
            .sum::<u64>();
        blocks.sort_unstable();
        blocks.dedup();
        let read = blocks
            .iter()
            .map(|block| self.blocks[*block].whole().bytes)
            .sum::<u64>();
        let all = self.blocks.iter().map(BlockMeta::whole);
        let all = all.fold(Sum::default(), |mut all, block| {
            all.add(block);
            all
        });
        let times = |n: u64| n.saturating_mul(step as u64);
        Sum {
            low: 0,
            likely: times(ones).min(all.high),
            high: all.high,
            bytes: times(read).min(all.bytes),
        }
    }

    fn sum_keys(&self, keys: &[Key], rows: u32) -> Sum {
        if keys.len() > KEYS_MAX {
            return self.sum_sampled(keys);
        }
        let mut sorted;
        let mut keys = keys;
        if !keys.is_sorted_by(|a, b| a < b) {
            sorted = keys.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            keys = &sorted;
        }
        if let Some(exact) = self.sum_resident(rows, |key| keys.binary_search(key).is_ok()) {
            return exact;
        }
        let mut sum = Sum::default();
        let mut keys = keys.iter().filter_map(|key| self.block_of(key.of())).peekable();
        while let Some(block) = keys.next() {
            let mut count = 1;
            while keys.next_if_eq(&block).is_some() {
                count += 1;
            }
            sum.add(self.blocks[block].part(Some(count)));
        }
        sum
    }

    /// The sum over the values that are chosen, where all values are in the directory.
    fn sum_resident(&self, rows: u32, chosen: impl Fn(&Key) -> bool) -> Option<Sum> {
        let resident = self.resident.as_ref()?;
        let mut reader = self.reader(0, resident, rows).ok()?;
        let mut sum = Sum::default();
        while let Some(entry) = reader.next().ok()? {
            if chosen(&entry.key.to_key()) {
                let bytes = match &entry.place {
                    super::rows::Place::Inline => 0,
                    super::rows::Place::Elsewhere(bitmap) => length(&bitmap.at),
                };
                let count = entry.count();
                sum.add(Sum {
                    low: count,
                    likely: count,
                    high: count,
                    bytes,
                });
            }
        }
        Some(sum)
    }
}
