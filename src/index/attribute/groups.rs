//! How many rows have each value, without reading rows: for groups, distinct counts and extremes.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::key::Key;
use super::rows::{Bitmap, Place, RowSet};
use super::wire::Damaged;
use super::{AttributeIndex, Estimate, Inner, NullsAt, Result, Which, batches, directory};
use crate::base::{Bitset, is_abandoned};
use crate::model::Direction;

/// A value and how many of the rows asked about have it: of arrays, how many have it as an element.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub key: Key,
    pub rows: u64,
}

/// Some groups.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Groups {
    /// Ascending, none empty.
    pub groups: Vec<Group>,
    /// Whether there can be more groups after these.
    pub more: bool,
}

/// Blocks of values that are read before their bitmaps are.
const BLOCKS_MAX: usize = 16;

/// What is counted: all rows, or the rows of a set.
#[derive(Clone)]
struct Eligible(Option<Arc<Bitset>>);

impl Eligible {
    fn of(set: &Arc<Bitset>, rows: u32) -> Self {
        assert_eq!(set.len(), rows as usize, "the rows of the segment");
        // Blocks know how many rows there are in all.
        Self((set.count() < set.len()).then(|| set.clone()))
    }
}

/// Values of some blocks with their counts, and the bitmaps that counts depend on.
type Counted = (Vec<Group>, Vec<(usize, Bitmap)>);

impl AttributeIndex {
    /// How many of some rows have each value, ascending by value, for the values after `after`; at least
    /// `limit` groups if there are so many. `None` when only trigrams are indexed.
    ///
    /// * `eligible` — over all rows of the segment
    pub async fn groups(&self, eligible: &Arc<Bitset>, after: Bound<Key>, limit: usize) -> Result<Option<Groups>> {
        let Some(values) = self.dictionary(Which::Values) else {
            return Ok(None);
        };
        let eligible = Eligible::of(eligible, self.rows());
        let mut found = Groups::default();
        let mut left = values.blocks_between(&after, &Bound::Unbounded);
        while !left.is_empty() && found.groups.len() < limit {
            let blocks: Vec<usize> = left.by_ref().take(BLOCKS_MAX).collect();
            let mut counted = self.count_blocks(blocks, &eligible).await?;
            counted.retain(|group| group.key.of().is_from(&after));
            found.groups.append(&mut counted);
        }
        found.more = !left.is_empty();
        Ok(Some(found))
    }

    /// How many distinct values, or elements, some rows have. `None` when only trigrams are indexed.
    pub async fn count_distinct(&self, eligible: &Arc<Bitset>) -> Result<Option<u64>> {
        let Some(values) = self.dictionary(Which::Values) else {
            return Ok(None);
        };
        let eligible = Eligible::of(eligible, self.rows());
        if eligible.0.is_none() {
            return Ok(Some(values.values.into()));
        }
        let mut count = 0;
        let all: Vec<usize> = (0..values.blocks.len()).collect();
        for blocks in all.chunks(BLOCKS_MAX) {
            count += self.count_blocks(blocks.to_vec(), &eligible).await?.len() as u64;
        }
        Ok(Some(count))
    }

    /// The least value, or element, of some rows when ascending, the greatest when descending; `None` when they have
    /// none, or only trigrams are indexed.
    pub async fn extreme(&self, eligible: &Arc<Bitset>, direction: Direction) -> Result<Option<Key>> {
        if eligible.none() {
            return Ok(None);
        }
        let Some(mut order) = self.order(direction, Bound::Unbounded, NullsAt::Omitted) else {
            return Ok(None);
        };
        while let Some((key, rows)) = order.next().await? {
            let within = eligible.clone();
            if self
                .compute(rows.len(), move |_| Ok(rows.count_in(&within) > 0))
                .await?
            {
                return Ok(key);
            }
        }
        Ok(None)
    }

    /// How many of some rows are null.
    pub async fn count_nulls(&self, eligible: &Arc<Bitset>) -> Result<u64> {
        let mut nulls = self.nulls().await?;
        nulls.and(eligible);
        Ok(nulls.count() as u64)
    }

    /// What it takes to go through all values: the rows are pairs of a value and a row, which a scan of the column
    /// would look at, too. No I/O.
    pub fn groups_estimate(&self) -> Estimate {
        let values = self.dictionary(Which::Values);
        let bytes = values.map_or(0, |v| {
            v.blocks
                .iter()
                .map(|b| b.at.end - b.at.start + b.bitmaps.end - b.bitmaps.start)
                .sum()
        });
        let pairs = values.map_or(0, |v| v.pairs);
        Estimate {
            rows_low: pairs,
            rows_likely: pairs,
            rows_high: pairs,
            bytes,
        }
    }

    /// The values of some ascending blocks that eligible rows have.
    async fn count_blocks(&self, blocks: Vec<usize>, eligible: &Eligible) -> Result<Vec<Group>> {
        let read = self.read_blocks(self.values(), &blocks).await?;
        let bytes = read.iter().map(|b| b.len() as u64).sum();
        let within = eligible.clone();
        let count = move |inner: &Inner| inner.count(&blocks, &read, &within);
        let (mut groups, bitmaps) = self.compute(bytes, count).await?;
        let Some(within) = &eligible.0 else { return Ok(groups) };
        for batch in batches(bitmaps, |(_, bitmap)| bitmap.at.end - bitmap.at.start) {
            let ranges: Vec<_> = batch.iter().map(|(_, bitmap)| bitmap.at.clone()).collect();
            let read = self.read(&ranges).await?;
            let rows = batch.iter().map(|(_, bitmap)| u64::from(bitmap.rows)).sum();
            let within = within.clone();
            let count = move |inner: &Inner| {
                let counted = batch.iter().zip(&read).map(|((group, bitmap), bytes)| {
                    let rows = directory::bitmap(bytes, bitmap, inner.directory.rows)?;
                    Ok((*group, RowSet::Bitmap(rows).count_in(&within)))
                });
                counted.collect::<Result<Vec<_>, Damaged>>()
            };
            for (group, rows) in self.compute(rows, count).await? {
                groups[group].rows = rows;
            }
        }
        groups.retain(|group| group.rows > 0);
        Ok(groups)
    }
}

impl Inner {
    fn count(&self, blocks: &[usize], read: &[Bytes], eligible: &Eligible) -> Result<Counted, Damaged> {
        let (mut groups, mut bitmaps) = (Vec::new(), Vec::new());
        let Some(values) = &self.directory.values else {
            return Ok((groups, bitmaps));
        };
        for (block, bytes) in blocks.iter().zip(read) {
            let mut reader = values.reader(*block, bytes, self.directory.rows)?;
            while let Some(entry) = reader.next()? {
                if is_abandoned() {
                    break;
                }
                let rows = match (&eligible.0, &entry.place) {
                    (None, _) => entry.count(),
                    (Some(within), Place::Inline) => {
                        let is_in = |row: &&u32| within.contains(**row as usize);
                        match entry.rows.iter().filter(is_in).count() {
                            0 => continue,
                            rows => rows as u64,
                        }
                    }
                    (Some(_), Place::Elsewhere(bitmap)) => {
                        bitmaps.push((groups.len(), bitmap.clone()));
                        0
                    }
                };
                if !entry.key.fits(self.directory.shape.scalar) {
                    return Err(Damaged("a value is not of its type"));
                }
                groups.push(Group {
                    key: entry.key.to_key(),
                    rows,
                });
            }
        }
        Ok((groups, bitmaps))
    }
}
