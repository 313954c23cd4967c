//! What a look lists of a namespace: all of it, but not the log that stays.
//!
//! The log of a namespace that is written all the time has millions of entries within the grace time. Its key sorts after
//! all others, newest first; so where listings are ordered, its newest entry is seen, and then only the oldest ones are
//! listed: what a look costs depends on how much garbage there is.

use std::collections::BinaryHeap;

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectMeta;

use super::plan::Found;
use crate::model::Seq;
use crate::store::paths::{self, NsKey, NsObject};
use crate::store::{Store, StoreError};

/// The objects of a namespace, the log still to be listed.
pub(super) struct Listed {
    /// All but log entries.
    pub found: Vec<Found>,
    /// The entries that were seen on the way: all of them, or, where listings are ordered, the newest one.
    entries: Vec<Found>,
    /// What comes after that.
    rest: Option<BoxStream<'static, Result<ObjectMeta, StoreError>>>,
}

impl Listed {
    /// Lists a namespace as far as its log. One LIST per thousand objects.
    pub async fn of(store: &Store, ns: &NsKey) -> Result<Self, StoreError> {
        let mut listed = store.list(&paths::namespace_prefix(ns), None);
        let (mut found, mut entries) = (Vec::new(), Vec::new());
        while let Some(meta) = listed.next().await {
            let Some(object) = found_of(&meta?) else {
                continue;
            };
            match object.object {
                NsObject::Entry(_) => entries.push(object),
                _ => found.push(object),
            }
            if store.lists_in_order() && !entries.is_empty() {
                let rest = Some(listed);
                return Ok(Self { found, entries, rest });
            }
        }
        Ok(Self {
            found,
            entries,
            rest: None,
        })
    }

    /// Of the log: the newest entry, the first that is not in segments, and the oldest of those that are. Costs one LIST
    /// per thousand entries in segments; where listings are not ordered, nothing more.
    ///
    /// * `floor` — the last one in segments
    /// * `skipped_min` — where more entries follow it, they are left out of the listing
    /// * `max` — how many of those in segments are kept in mind
    pub async fn log(
        self,
        (store, ns): (&Store, &NsKey),
        floor: Seq,
        (skipped_min, max): (u64, usize),
    ) -> Result<Vec<Found>, StoreError> {
        let mut log = Log::new(floor, max);
        self.entries.iter().for_each(|f| log.add(f));
        let Some(mut rest) = self.rest else {
            return Ok(log.into_found());
        };
        if log.newest.0.0.saturating_sub(floor.0) > skipped_min {
            let before = paths::wal_entry(ns, Seq(floor.0.saturating_add(2)));
            rest = store.list(&paths::wal_prefix(ns), Some(&before));
        }
        while let Some(meta) = rest.next().await {
            if let Some(found) = found_of(&meta?) {
                log.add(&found);
            }
        }
        Ok(log.into_found())
    }
}

fn found_of(meta: &ObjectMeta) -> Option<Found> {
    Some(Found {
        object: paths::parse_object(&meta.location)?,
        written_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
        bytes: meta.size,
    })
}

/// An entry, when it was written, and its bytes.
type Listing = (Seq, u64, u64);

/// What matters of a log.
struct Log {
    floor: Seq,
    /// Number 0 when there is none.
    newest: Listing,
    /// The first after `floor`.
    first: Option<Listing>,
    /// Up to `floor`: the oldest ones, the newest of them first.
    passed: BinaryHeap<Listing>,
    max: usize,
}

impl Log {
    fn new(floor: Seq, max: usize) -> Self {
        Self {
            floor,
            newest: (Seq::ZERO, 0, 0),
            first: None,
            passed: BinaryHeap::new(),
            max,
        }
    }

    fn add(&mut self, found: &Found) {
        let NsObject::Entry(seq) = found.object else {
            return;
        };
        let entry = (seq, found.written_ms, found.bytes);
        self.newest = self.newest.max(entry);
        if seq <= self.floor {
            self.passed.push(entry);
            if self.passed.len() > self.max {
                self.passed.pop();
            }
        } else if seq.0 == self.floor.0.saturating_add(1) {
            self.first = Some(entry);
        }
    }

    fn into_found(self) -> Vec<Found> {
        let (passed, first) = (self.passed.into_vec(), self.first);
        let mut all: Vec<Listing> = passed.into_iter().chain(first).collect();
        if self.newest.0 > Seq::ZERO && !all.contains(&self.newest) {
            all.push(self.newest);
        }
        let found = |(seq, written_ms, bytes)| Found {
            object: NsObject::Entry(seq),
            written_ms,
            bytes,
        };
        all.into_iter().map(found).collect()
    }
}
