//! Reading a segment into the cache before somebody asks for it.

use std::ops::Range;

use super::container::SectionKind;
use super::{Segment, SegmentError};
use crate::cache::ReadKind;
use crate::model::Attribute;

/// About how much is read at a time.
const STEP_BYTES: u64 = 8 << 20;

/// What of a segment is read ahead of queries. The hot region is read when the segment is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// Indexes, keys and columns.
    Indexes,
    Rows,
    Vectors,
}

impl Ahead {
    fn holds(self, section: SectionKind) -> bool {
        use SectionKind::{Attribute, AttributeDirectory, Bloom, Column, Ids, Keys, Pages, Postings, Vectors};
        self == match section {
            Ids | Column | Keys | Bloom | Postings | Attribute | AttributeDirectory => Self::Indexes,
            Pages => Self::Rows,
            Vectors => Self::Vectors,
        }
    }

    fn kind(self) -> ReadKind {
        match self {
            Self::Indexes => ReadKind::Index,
            Self::Rows => ReadKind::Rows,
            Self::Vectors => ReadKind::Vectors,
        }
    }
}

impl Segment {
    /// How many bytes [`read_ahead`](Self::read_ahead) reads. None of a segment that is inline.
    pub fn bytes_ahead(&self, what: Ahead) -> u64 {
        self.sections_ahead(what).iter().map(|r| r.end - r.start).sum()
    }

    /// Reads what is not in the cache yet, and leaves it there as far as there is room. Costs one GET for about every
    /// 8 MiB, one after the other.
    ///
    /// * `goes_on` — asked before each read; ends early when it says no
    pub async fn read_ahead(&self, what: Ahead, goes_on: impl Fn() -> bool + Send + Sync) -> Result<(), SegmentError> {
        for step in steps(self.sections_ahead(what)) {
            if !goes_on() {
                break;
            }
            self.source.cache.read(&self.source.object, &step, what.kind()).await?;
        }
        Ok(())
    }

    /// Reads the vectors of some rows, so that [`vectors`](Self::vectors) of the same ranges finds them in the cache; not if
    /// they would not stay there. Costs one GET for each range that is not there yet, all at once.
    pub async fn vectors_ahead(&self, attribute: &Attribute, rows: &[Range<u32>]) -> Result<(), SegmentError> {
        let Some(vectors) = self.layout.vectors.get(&attribute.id) else {
            return Ok(());
        };
        let place = |rows: &Range<u32>| vectors.place(vectors.index.range(&vectors.index.blocks_of(rows)));
        let ranges: Vec<Range<u64>> = rows.iter().map(place).filter(|r| !r.is_empty()).collect();
        if self.meta.inline.is_some() || ranges.is_empty() {
            return Ok(());
        }
        Ok(self.source.cache.read_ahead(&self.source.object, &ranges).await?)
    }

    /// Where these sections lie in the object, ascending.
    fn sections_ahead(&self, what: Ahead) -> Vec<Range<u64>> {
        if self.meta.inline.is_some() {
            return Vec::new();
        }
        let sections = self.layout.hot.all().iter();
        let wanted = sections.filter(|s| what.holds(s.kind) && s.len > 0);
        let mut ranges: Vec<Range<u64>> = wanted.map(|s| s.offset..s.offset + s.len).collect();
        ranges.sort_unstable_by_key(|r| r.start);
        ranges
    }
}

/// Cuts and groups ranges into reads of at most `STEP_BYTES`.
fn steps(ranges: Vec<Range<u64>>) -> Vec<Vec<Range<u64>>> {
    let mut steps = Vec::new();
    let (mut step, mut room) = (Vec::new(), STEP_BYTES);
    for mut range in ranges {
        while range.start < range.end {
            let cut = range.end.min(range.start + room);
            step.push(range.start..cut);
            room -= cut - range.start;
            range.start = cut;
            if room == 0 {
                steps.push(std::mem::take(&mut step));
                room = STEP_BYTES;
            }
        }
    }
    if !step.is_empty() {
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_full_and_say_the_same_as_the_ranges() {
        const MIB: u64 = 1 << 20;
        assert!(steps(Vec::new()).is_empty());
        let small = vec![0..10, 64..70];
        assert_eq!(steps(small.clone()), [small]);
        let large = vec![0..3 * MIB, 4 * MIB..20 * MIB];
        let ends: Vec<Vec<(u64, u64)>> = steps(large)
            .into_iter()
            .map(|step| step.into_iter().map(|r| (r.start / MIB, r.end / MIB)).collect())
            .collect();
        assert_eq!(ends, [vec![(0, 3), (4, 9)], vec![(9, 17)], vec![(17, 20)]]);
        let whole = std::iter::once(0..STEP_BYTES).collect::<Vec<_>>();
        assert_eq!(steps(whole.clone()), [whole]);
    }
}
