//! How many rows a predicate holds for, without looking at rows.

use std::ops::Bound;

use super::block::Dictionary;
use super::evaluate::Selector;
use super::key::{Key, is_empty_range};
use super::{AttributeIndex, Inner, Predicate, Result, Which, batches};

impl AttributeIndex {
    /// How many rows [`evaluate`](Self::evaluate) finds. `None` where that is not known without looking at them: of
    /// arrays, whose rows have several values, of patterns, and where only trigrams are indexed.
    ///
    /// Reads the blocks of the values at the ends of a range, or those of the keys, and no bitmaps.
    pub async fn count(&self, predicate: &Predicate) -> Result<Option<u64>> {
        let directory = &self.0.directory;
        let Some(values) = self.dictionary(Which::Values).filter(|_| !directory.shape.is_array) else {
            return Ok(None);
        };
        Ok(match predicate {
            Predicate::Null => Some(directory.null_count.into()),
            Predicate::NotNull => Some(directory.present().into()),
            Predicate::Range { low, high } if is_empty_range(low, high) => Some(0),
            Predicate::Range { low, high } => {
                let (whole, cut): (Vec<usize>, Vec<usize>) = values
                    .blocks_between(low, high)
                    .partition(|block| values.is_covered(*block, low, high));
                let covered: u64 = whole.iter().map(|block| values.blocks[*block].pairs).sum();
                let selector = Selector::Range(low.clone(), high.clone());
                Some(covered + self.count_chosen(cut, selector).await?)
            }
            Predicate::In(keys) => {
                let keys = self.ordered(keys).await?;
                let blocks = self.blocks_of(Which::Values, keys.clone()).await?;
                Some(self.count_chosen(blocks, Selector::Keys(keys)).await?)
            }
            Predicate::Pattern(_) | Predicate::Whole(_) => None,
        })
    }

    async fn count_chosen(&self, blocks: Vec<usize>, selector: Selector) -> Result<u64> {
        let values = self.values();
        let len = |block: &usize| values.blocks[*block].at.end - values.blocks[*block].at.start;
        let mut count = 0;
        for batch in batches(blocks, len) {
            let bytes = batch.iter().map(len).sum();
            let read = self.read_blocks(values, &batch).await?;
            let selector = selector.clone();
            let add = move |inner: &Inner| {
                let mut rows = 0;
                inner.each_chosen(Which::Values, &batch, &read, &selector, |entry| rows += entry.count())?;
                Ok(rows)
            };
            count += self.compute(bytes, add).await?;
        }
        Ok(count)
    }
}

impl Dictionary {
    /// Whether all values of a block are between two bounds.
    pub(super) fn is_covered(&self, block: usize, low: &Bound<Key>, high: &Bound<Key>) -> bool {
        // What a block begins with is at most its first value, and above all of the block before.
        let from = self.blocks[block].first.of().is_from(low);
        let to = match self.blocks.get(block + 1) {
            Some(next) => next.first.of().is_to(high),
            None => self.ends_within(high),
        };
        from && to
    }
}
