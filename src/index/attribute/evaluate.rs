//! Predicates: the rows whose value, or one of whose elements, is so.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::block::Entry;
use super::candidates::Candidates;
use super::key::{Key, KeyRef, is_empty_range, prefix_range};
use super::rows::{Bitmap, Place};
use super::trigram::{self, Listed};
use super::wire::Damaged;
use super::{AttributeIndex, Inner, Result, Which, batches};
use crate::base::{Bitset, is_abandoned};

/// What a value, or at least one element of an array, is asked to be. Cheap to clone.
#[derive(Clone)]
pub enum Predicate {
    /// Between two bounds.
    Range { low: Bound<Key>, high: Bound<Key> },
    /// One of these, which ascend strictly; others are sorted each time.
    In(Arc<[Key]>),
    /// The row is null.
    Null,
    /// The row is not null.
    NotNull,
    /// Matched by a pattern.
    Pattern(Pattern),
    /// Of arrays: these elements, in this order, and no more. Only [`Matches::exact`] for arrays of none or one.
    Whole(Arc<[Key]>),
}

impl Predicate {
    /// One of some keys, in any order. Sorts them: with many keys a job for the CPU pool.
    pub fn one_of(mut keys: Vec<Key>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        Predicate::In(keys.into())
    }
}

/// Whether a value matches.
pub type Matcher = dyn Fn(&[u8]) -> bool + Send + Sync;

/// A pattern that values are matched with.
#[derive(Clone)]
pub struct Pattern {
    /// What all matching values have.
    pub candidates: Arc<Candidates>,
    /// What all matching values begin with; may be empty.
    pub prefix: Box<[u8]>,
    /// Whether a value matches. Called once for each distinct value that can, on the CPU pool.
    pub matches: Arc<Matcher>,
}

/// The rows for which a predicate holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    /// Over all rows of the segment.
    pub rows: Bitset,
    /// Whether it holds for all of them. If not, it holds for no others, and the values of these have to be looked at.
    pub exact: bool,
}

/// How the values of some blocks are chosen.
#[derive(Clone)]
pub(super) enum Selector {
    Range(Bound<Key>, Bound<Key>),
    /// Strictly ascending.
    Keys(Arc<[Key]>),
    Matching(Arc<Matching>),
}

pub(super) struct Matching {
    low: Bound<Key>,
    high: Bound<Key>,
    /// Numbers of values that can match; `None` for all.
    ordinals: Option<Bitset>,
    matches: Arc<Matcher>,
}

/// How much longer it takes to match a value than to decode it.
const MATCHING: u64 = 16;
/// The most trigrams of a pattern that are looked up: a bit of a word for each.
const TRIGRAMS_MAX: usize = 64;
/// The most bytes of lists of trigrams that are read for a pattern, beyond the first block.
const TRIGRAM_BYTES_MAX: u64 = 4 << 20;

impl AttributeIndex {
    /// The rows for which `predicate` holds. Cancel safe.
    ///
    /// Without a dictionary ([`AttributeIndex::has_values`]) all that can be said of values is which rows can match a
    /// pattern.
    pub async fn evaluate(&self, predicate: &Predicate) -> Result<Matches> {
        let rows = match predicate {
            Predicate::Null => self.nulls().await?,
            Predicate::NotNull => self.present().await?,
            Predicate::Pattern(pattern) => return self.pattern(pattern).await,
            _ if !self.has_values() => {
                return Ok(Matches {
                    rows: self.present().await?,
                    exact: false,
                });
            }
            Predicate::Range { low, high } => self.range(low, high).await?,
            Predicate::In(keys) => {
                let keys = self.ordered(keys).await?;
                self.select_keys(Which::Values, keys).await?
            }
            Predicate::Whole(elements) => return self.whole(elements).await,
        };
        Ok(Matches { rows, exact: true })
    }

    async fn range(&self, low: &Bound<Key>, high: &Bound<Key>) -> Result<Bitset> {
        let dictionary = self.values();
        if is_empty_range(low, high) {
            return Ok(Bitset::empty(self.rows() as usize));
        }
        let inside = dictionary.blocks_between(low, high);
        // Most of the values: cheaper to read the others. Rows of arrays can be in both. Of the blocks at the ends there
        // may be little inside: a few values of one block are no reason to read the bitmaps of all others.
        let certainly_inside = inside.len().saturating_sub(2);
        if self.0.directory.shape.is_array
            || dictionary.resident.is_some()
            || certainly_inside * 2 <= dictionary.blocks.len()
        {
            return self.select_range(low.clone(), high.clone()).await;
        }
        let turn = |bound: &Bound<Key>| match bound {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(Bound::Excluded(key.clone())),
            Bound::Excluded(key) => Some(Bound::Included(key.clone())),
        };
        let mut rows = self.nulls().await?;
        if let Some(below) = turn(low) {
            rows.or(&self.select_range(Bound::Unbounded, below).await?);
        }
        if let Some(above) = turn(high) {
            rows.or(&self.select_range(above, Bound::Unbounded).await?);
        }
        rows.invert();
        Ok(rows)
    }

    async fn select_range(&self, low: Bound<Key>, high: Bound<Key>) -> Result<Bitset> {
        let blocks = self.values().blocks_between(&low, &high).collect();
        self.select(Which::Values, blocks, Selector::Range(low, high)).await
    }

    /// The same keys, ascending strictly.
    pub(super) async fn ordered(&self, keys: &Arc<[Key]>) -> Result<Arc<[Key]>> {
        let keys = keys.clone();
        let weight = 16 * keys.len() as u64;
        let order = move |_: &Inner| {
            if keys.is_sorted_by(|a, b| a < b) {
                return Ok(keys);
            }
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            keys.dedup();
            Ok(keys.into())
        };
        self.compute(weight, order).await
    }

    async fn select_keys(&self, which: Which, keys: Arc<[Key]>) -> Result<Bitset> {
        let blocks = self.blocks_of(which, keys.clone()).await?;
        self.select(which, blocks, Selector::Keys(keys)).await
    }

    /// The blocks that can have some keys, ascending.
    ///
    /// * `wanted` — strictly ascending
    pub(super) async fn blocks_of(&self, which: Which, wanted: Arc<[Key]>) -> Result<Vec<usize>> {
        let weight = 16 * wanted.len() as u64;
        let find = move |inner: &Inner| {
            let dictionary = match which {
                Which::Values => inner.directory.values.as_ref(),
                Which::Lengths => inner.directory.lengths.as_ref(),
            };
            let Some(dictionary) = dictionary else {
                return Ok(Vec::new());
            };
            let mut blocks: Vec<usize> = wanted.iter().filter_map(|key| dictionary.block_of(key.of())).collect();
            blocks.dedup();
            Ok(blocks)
        };
        self.compute(weight, find).await
    }

    async fn whole(&self, elements: &Arc<[Key]>) -> Result<Matches> {
        let exact = elements.len() <= 1;
        let len = Arc::from([Key::Word(elements.len() as u64)]);
        let mut rows = self.select_keys(Which::Lengths, len).await?;
        let mut elements = elements.to_vec();
        elements.sort_unstable();
        elements.dedup();
        for element in elements {
            if rows.none() {
                break;
            }
            rows.and(&self.select_keys(Which::Values, Arc::from([element])).await?);
        }
        Ok(Matches { rows, exact })
    }

    async fn pattern(&self, pattern: &Pattern) -> Result<Matches> {
        let universe = self.distinct().unwrap_or(self.rows());
        let ordinals = self.candidates(&pattern.candidates, universe).await?;
        let Some(dictionary) = self.dictionary(Which::Values) else {
            let rows = match ordinals {
                Some(rows) => rows,
                None => self.present().await?,
            };
            return Ok(Matches { rows, exact: false });
        };
        let (low, high) = prefix_range(&pattern.prefix);
        let mut blocks: Vec<usize> = dictionary.blocks_between(&low, &high).collect();
        if let Some(ordinals) = &ordinals {
            blocks.retain(|block| {
                let meta = &dictionary.blocks[*block];
                has_any(ordinals, meta.ordinal as usize, meta.values as usize)
            });
        }
        let matches = pattern.matches.clone();
        let matching = Matching {
            low,
            high,
            ordinals,
            matches,
        };
        let rows = self
            .select(Which::Values, blocks, Selector::Matching(Arc::new(matching)))
            .await?;
        Ok(Matches { rows, exact: true })
    }

    /// The rows of the chosen values of some ascending blocks.
    async fn select(&self, which: Which, blocks: Vec<usize>, selector: Selector) -> Result<Bitset> {
        let mut rows = Bitset::empty(self.rows() as usize);
        let Some(dictionary) = self.dictionary(which) else {
            return Ok(rows);
        };
        let len = |block: usize| dictionary.blocks[block].at.end - dictionary.blocks[block].at.start;
        for batch in batches(blocks, |block| len(*block)) {
            let read = self.read_blocks(dictionary, &batch).await?;
            let bytes: u64 = batch.iter().map(|block| len(*block)).sum();
            let weight = match &selector {
                Selector::Matching(_) => bytes * MATCHING,
                Selector::Range(..) | Selector::Keys(_) => bytes,
            };
            let selector = selector.clone();
            let choose = move |inner: &Inner| inner.choose(which, &batch, &read, &selector, rows);
            let (chosen, bitmaps) = self.compute(weight, choose).await?;
            rows = self.add_bitmaps(bitmaps, chosen).await?;
        }
        Ok(rows)
    }

    /// The values, or rows where there is no dictionary, whose texts can match; `None` for all.
    async fn candidates(&self, candidates: &Arc<Candidates>, universe: u32) -> Result<Option<Bitset>> {
        let Some(directory) = &self.0.directory.trigrams else {
            return Ok(None);
        };
        if candidates.is_all() {
            return Ok(None);
        }
        let lookup = Lookup::plan(directory, candidates.trigrams());
        if candidates.accepts(|i| matches!(lookup.known[i], Known::Unread)) {
            return Ok(None);
        }
        let ranges: Vec<_> = lookup
            .blocks
            .iter()
            .map(|(block, _)| directory.blocks[*block].at.clone())
            .collect();
        let bytes = ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        let read = self.read(&ranges).await?;
        let candidates = candidates.clone();
        let combine = move |inner: &Inner| match &inner.directory.trigrams {
            Some(directory) => lookup.combine(directory, &read, &candidates, universe),
            None => Ok(None),
        };
        // Even where lists are short, there is a mask for each value.
        self.compute(bytes + u64::from(universe), combine).await
    }
}

/// Whether one of `count` numbers, at least one, from `first` on is in a set.
fn has_any(set: &Bitset, first: usize, count: usize) -> bool {
    let last = first + count - 1;
    let word = |i: usize| {
        let from = if i == first / 64 {
            u64::MAX << (first % 64)
        } else {
            u64::MAX
        };
        let to = if i == last / 64 {
            u64::MAX >> (63 - last % 64)
        } else {
            u64::MAX
        };
        set.words()[i] & from & to
    };
    (first / 64..=last / 64).any(|i| word(i) != 0)
}

impl Inner {
    /// Adds the rows of chosen values that are in the blocks to `rows`; returns the bitmaps of the others.
    fn choose(
        &self,
        which: Which,
        blocks: &[usize],
        read: &[Bytes],
        selector: &Selector,
        mut rows: Bitset,
    ) -> Result<(Bitset, Vec<Bitmap>), Damaged> {
        let mut bitmaps = Vec::new();
        self.each_chosen(which, blocks, read, selector, |entry| match entry.place {
            Place::Inline => entry.rows.iter().for_each(|row| rows.insert(*row as usize)),
            Place::Elsewhere(bitmap) => bitmaps.push(bitmap),
        })?;
        Ok((rows, bitmaps))
    }

    /// Calls `visit` with the chosen values of some blocks.
    pub(super) fn each_chosen(
        &self,
        which: Which,
        blocks: &[usize],
        read: &[Bytes],
        selector: &Selector,
        mut visit: impl FnMut(Entry<'_>),
    ) -> Result<(), Damaged> {
        let dictionary = match which {
            Which::Values => self.directory.values.as_ref(),
            Which::Lengths => self.directory.lengths.as_ref(),
        };
        let Some(dictionary) = dictionary else {
            return Ok(());
        };
        for (block, bytes) in blocks.iter().zip(read) {
            let mut reader = dictionary.reader(*block, bytes, self.directory.rows)?;
            let mut keys = match selector {
                Selector::Keys(keys) => {
                    let first = &dictionary.blocks[*block].first;
                    &keys[keys.partition_point(|key| key < first)..]
                }
                Selector::Range(..) | Selector::Matching(_) => &[],
            };
            while let Some(entry) = reader.next()? {
                // The caller will not see what is wrong then.
                if is_abandoned() {
                    break;
                }
                if selector.takes(entry.ordinal, entry.key, &mut keys) {
                    visit(entry);
                }
            }
        }
        Ok(())
    }
}

impl Selector {
    /// * `keys` — those that have not been passed yet
    fn takes(&self, ordinal: u32, key: KeyRef<'_>, keys: &mut &[Key]) -> bool {
        match self {
            Selector::Range(low, high) => key.is_from(low) && key.is_to(high),
            Selector::Keys(_) => {
                while let Some((first, rest)) = keys.split_first() {
                    if first.of() >= key {
                        break;
                    }
                    *keys = rest;
                }
                keys.first().is_some_and(|first| first.of() == key)
            }
            Selector::Matching(matching) => {
                let KeyRef::Bytes(bytes) = key else { return false };
                let can = matching.ordinals.as_ref().is_none_or(|o| o.contains(ordinal as usize));
                can && key.is_from(&matching.low) && key.is_to(&matching.high) && (matching.matches)(bytes)
            }
        }
    }
}

/// Which of a pattern's trigrams are looked up where.
struct Lookup {
    /// For each trigram of the pattern.
    known: Vec<Known>,
    /// Ascending blocks, each with the trigrams to look up there, ascending.
    blocks: Vec<(usize, Vec<u32>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Known {
    /// No value has it.
    Never,
    /// It is not looked up: any value may have it.
    Unread,
    /// It is in a block to be read; its number among those.
    Read(usize),
}

impl Lookup {
    /// Chooses the trigrams that cost least.
    fn plan(directory: &trigram::Directory, trigrams: &[u32]) -> Self {
        let len = |block: usize| directory.blocks[block].at.end - directory.blocks[block].at.start;
        let mut by_cost: Vec<(u64, usize, usize)> = Vec::new();
        let mut known = vec![Known::Never; trigrams.len()];
        for (i, trigram) in trigrams.iter().enumerate() {
            if let Some(block) = directory.block_of(*trigram) {
                by_cost.push((len(block), block, i));
                known[i] = Known::Unread;
            }
        }
        by_cost.sort_unstable();
        let mut blocks: Vec<usize> = Vec::new();
        let mut bytes = 0;
        let mut chosen = Vec::new();
        for (len, block, i) in by_cost.into_iter().take(TRIGRAMS_MAX) {
            if blocks.last() != Some(&block) {
                bytes += len;
                if bytes > TRIGRAM_BYTES_MAX && !blocks.is_empty() {
                    break;
                }
                blocks.push(block);
            }
            chosen.push((block, i));
        }
        chosen.sort_unstable();
        let mut groups: Vec<(usize, Vec<u32>)> = Vec::new();
        for (number, (block, i)) in chosen.into_iter().enumerate() {
            known[i] = Known::Read(number);
            match groups.last_mut() {
                Some((last, wanted)) if *last == block => wanted.push(trigrams[i]),
                _ => groups.push((block, vec![trigrams[i]])),
            }
        }
        Self { known, blocks: groups }
    }

    /// The values that have the trigrams they need; `None` for all.
    fn combine(
        &self,
        directory: &trigram::Directory,
        read: &[Bytes],
        candidates: &Candidates,
        universe: u32,
    ) -> Result<Option<Bitset>, Damaged> {
        // A bit for each trigram that is read, set where a value has it.
        let mut masks = vec![0u64; universe as usize];
        let mut often = 0u64;
        let mut first = 0;
        for ((block, wanted), bytes) in self.blocks.iter().zip(read) {
            for (trigram, listed) in trigram::look_up(&directory.blocks[*block], bytes, wanted, universe)? {
                let bit = 1u64 << (first + wanted.partition_point(|w| *w < trigram));
                match listed {
                    Listed::Often => often |= bit,
                    Listed::In(numbers) => numbers.iter().for_each(|n| masks[*n as usize] |= bit),
                }
            }
            first += wanted.len();
        }
        let accepts = |mask: u64| {
            candidates.accepts(|i| match self.known[i] {
                Known::Never => false,
                Known::Unread => true,
                Known::Read(number) => (mask | often) >> number & 1 == 1,
            })
        };
        if accepts(0) {
            return Ok(None);
        }
        let mut known: HashMap<u64, bool> = HashMap::new();
        let mut can = Bitset::empty(universe as usize);
        for (number, mask) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
            if *known.entry(*mask).or_insert_with(|| !is_abandoned() && accepts(*mask)) {
                can.insert(number);
            }
        }
        Ok(Some(can))
    }
}
