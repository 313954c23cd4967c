//! Ids, key run and filter against the ids of the rows.

use std::ops::Bound;
use std::sync::Arc;

use super::super::SegmentError;
use super::super::container::SectionKind;
use super::super::keys::KeyBlock;
use super::super::layout::Layout;
use super::{FlawIn, Verifier};
use crate::base::Bitset;
use crate::cache::ReadKind;
use crate::model::IdColumn;

impl Verifier<'_> {
    /// * `ids` — from the row pages
    pub(super) async fn keys(&mut self, ids: &IdColumn) -> Result<(), SegmentError> {
        let ids = Arc::new(ids.clone());
        if !self.damaged.contains(&(SectionKind::Ids, None)) {
            let read = self.segment.ids().await;
            if let Some(column) = self.noted(FlawIn::Derived, read)? {
                let ids = ids.clone();
                let compare = move || column.to_array() == ids.to_array();
                if !self.segment.source.compute(ReadKind::Scan, compare).await {
                    self.flaw(FlawIn::Derived, "its rows say something else than its column of ids");
                }
            }
        }
        if self.damaged.contains(&(SectionKind::Keys, None)) {
            return Ok(());
        }
        let segment = self.segment;
        let mut scan = segment.scan_ids((Bound::Unbounded, Bound::Unbounded), false, ReadKind::Scan);
        let mut run = Run {
            seen: Bitset::empty(segment.rows() as usize),
            last: None,
            wrong: None,
        };
        loop {
            let read = scan.next().await;
            let block = match self.noted(FlawIn::Derived, read)? {
                Some(Some(block)) => block,
                Some(None) => break,
                None => return Ok(()),
            };
            let (layout, ids) = (segment.layout.clone(), ids.clone());
            let look = move || {
                run.take(&block, &ids, &layout);
                run
            };
            run = segment.source.compute(ReadKind::Scan, look).await;
        }
        let is_missing = run.wrong.is_none() && run.seen.count() < run.seen.len();
        let why = if is_missing {
            Some("some rows are not in its key run")
        } else {
            run.wrong
        };
        if let Some(why) = why {
            self.flaw(FlawIn::Derived, why);
        }
        Ok(())
    }
}

/// What is known of a key run so far.
struct Run {
    seen: Bitset,
    /// The row of the last id.
    last: Option<usize>,
    wrong: Option<&'static str>,
}

impl Run {
    fn take(&mut self, block: &KeyBlock, ids: &IdColumn, layout: &Layout) {
        for (at, row) in block.rows.iter().enumerate() {
            let row = *row as usize;
            let wrong = match () {
                () if row >= ids.len() => Some("its key run names rows that it does not have"),
                () if self.seen.contains(row) => Some("its key run names a row twice"),
                () if block.ids.compare(at, ids, row).is_ne() => Some("its key run gives rows to other ids"),
                () if self.last.is_some_and(|last| ids.compare(last, ids, row).is_ge()) => {
                    Some("an id is in it twice, or its key run is not in order")
                }
                () if !layout.bloom.may_contain(&ids.get(row)) => Some("its bloom filter denies an id that it has"),
                () => None,
            };
            if wrong.is_some() {
                self.wrong = self.wrong.or(wrong);
                return;
            }
            self.seen.insert(row);
            self.last = Some(row);
        }
    }
}
