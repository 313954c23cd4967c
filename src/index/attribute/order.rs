//! Values in order, without reading rows: for the first rows by an attribute.

use std::collections::VecDeque;
use std::ops::Bound;

use super::key::Key;
use super::rows::{Bitmap, Place, RowSet};
use super::wire::Damaged;
use super::{AttributeIndex, AttributeIndexError, Inner, Result, Which, directory};
use crate::model::Direction;

/// Where rows without a value come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullsAt {
    First,
    Last,
    /// Nowhere.
    Omitted,
}

/// The most blocks that are read at a time; the first time it is one.
const BLOCKS_MAX: usize = 16;

/// Goes through the values, and the rows of each, in order. Not for arrays, of which a row is at each of its elements.
pub struct Order {
    index: AttributeIndex,
    direction: Direction,
    nulls: NullsAt,
    from: Bound<Key>,
    /// Blocks that were not read: from, to.
    left: (usize, usize),
    blocks_next: usize,
    ready: VecDeque<(Key, Rows)>,
}

enum Rows {
    Here(RowSet),
    There(Bitmap),
}

impl AttributeIndex {
    /// The values in order.
    ///
    /// * `from` — where to begin: a lower bound of what comes when ascending, an upper bound when descending
    /// * `nulls` — where the rows without a value come, whatever `from` says
    ///
    /// Costs a read of one block, then of more and more, as they are asked for, and one for each bitmap. `None` when
    /// only trigrams are indexed.
    pub fn order(&self, direction: Direction, from: Bound<Key>, nulls: NullsAt) -> Option<Order> {
        let values = self.dictionary(Which::Values)?;
        let left = match direction {
            Direction::Asc => values.blocks_between(&from, &Bound::Unbounded),
            Direction::Desc => values.blocks_between(&Bound::Unbounded, &from),
        };
        let nulls = if self.null_count() == 0 {
            NullsAt::Omitted
        } else {
            nulls
        };
        Some(Order {
            index: self.clone(),
            direction,
            nulls,
            from,
            left: (left.start, left.end),
            blocks_next: 1,
            ready: VecDeque::new(),
        })
    }
}

impl Order {
    /// The next value and its rows, ascending; `None` for the value when they have none. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<(Option<Key>, RowSet)>> {
        if self.nulls == NullsAt::First {
            return self.take_nulls().await.map(Some);
        }
        while self.ready.is_empty() && self.left.0 < self.left.1 {
            self.fill().await?;
        }
        let rows = match self.ready.front() {
            Some((_, Rows::There(bitmap))) => Some(self.read_bitmap(bitmap.clone()).await?),
            Some((_, Rows::Here(_))) => None,
            None if self.nulls == NullsAt::Last => return self.take_nulls().await.map(Some),
            None => return Ok(None),
        };
        Ok(self.ready.pop_front().map(|(key, place)| match (place, rows) {
            (_, Some(rows)) => (Some(key), rows),
            (Rows::Here(rows), None) => (Some(key), rows),
            (Rows::There(_), None) => unreachable!("it was read above"),
        }))
    }

    async fn take_nulls(&mut self) -> Result<(Option<Key>, RowSet)> {
        let nulls = self.index.nulls().await?;
        let list = move |_: &Inner| Ok(RowSet::List(nulls.iter().map(|row| row as u32).collect()));
        let rows = self.index.compute(self.index.null_count().into(), list).await?;
        self.nulls = NullsAt::Omitted;
        Ok((None, rows))
    }

    async fn read_bitmap(&self, bitmap: Bitmap) -> Result<RowSet> {
        let read = self.index.read(std::slice::from_ref(&bitmap.at)).await?;
        let bytes = read
            .into_iter()
            .next()
            .ok_or(AttributeIndexError::Damaged("nothing was read"))?;
        let rows = u64::from(bitmap.rows);
        let decode = move |inner: &Inner| directory::bitmap(&bytes, &bitmap, inner.directory.rows);
        Ok(RowSet::Bitmap(self.index.compute(rows, decode).await?))
    }

    /// Reads some more blocks.
    async fn fill(&mut self) -> Result<()> {
        let (start, end) = self.left;
        let count = self.blocks_next.min(end - start);
        let (blocks, left) = match self.direction {
            Direction::Asc => (start..start + count, (start + count, end)),
            Direction::Desc => (end - count..end, (start, end - count)),
        };
        let values = self.index.values();
        let read = self
            .index
            .read_blocks(values, &blocks.clone().collect::<Vec<_>>())
            .await?;
        let bytes = read.iter().map(|b| b.len() as u64).sum();
        let (from, direction) = (self.from.clone(), self.direction);
        let decode = move |inner: &Inner| {
            let mut found = VecDeque::new();
            for (block, bytes) in blocks.zip(&read) {
                inner.decode_block(block, bytes, |key, rows| {
                    let is_within = match direction {
                        Direction::Asc => key.of().is_from(&from),
                        Direction::Desc => key.of().is_to(&from),
                    };
                    match direction {
                        _ if !is_within => {}
                        Direction::Asc => found.push_back((key, rows)),
                        Direction::Desc => found.push_front((key, rows)),
                    }
                })?;
            }
            Ok(found)
        };
        let mut found = self.index.compute(bytes, decode).await?;
        self.ready.append(&mut found);
        self.left = left;
        self.blocks_next = (2 * self.blocks_next).min(BLOCKS_MAX);
        Ok(())
    }
}

impl Inner {
    fn decode_block(&self, block: usize, bytes: &[u8], mut f: impl FnMut(Key, Rows)) -> Result<(), Damaged> {
        let Some(values) = &self.directory.values else {
            return Ok(());
        };
        let mut reader = values.reader(block, bytes, self.directory.rows)?;
        while let Some(entry) = reader.next()? {
            if !entry.key.fits(self.directory.shape.scalar) {
                return Err(Damaged("a value is not of its type"));
            }
            let rows = match entry.place {
                Place::Inline => Rows::Here(RowSet::of(entry.rows)),
                Place::Elsewhere(bitmap) => Rows::There(bitmap),
            };
            f(entry.key.to_key(), rows);
        }
        Ok(())
    }
}
