//! The newest log entries, kept in memory to be applied again.
//!
//! A newer manifest is taken over by applying to its state the entries that came after it. They are kept while they
//! are in the tail, up to a bound; older ones are read again.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::Seq;
use crate::snapshot::Snapshot;
use crate::wal::{Entry, EntryKind, Logged, Operation};

/// Memory that the kept entries of one namespace may take, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Consecutive entries, up to the newest that was applied.
#[derive(Default)]
pub(super) struct Kept {
    entries: VecDeque<Arc<Logged>>,
    bytes: u64,
    /// The clock of the first entry that is not in segments.
    dirty_since_ms: Option<u64>,
}

impl Kept {
    /// Adds the entry that was just applied.
    pub fn push(&mut self, logged: Arc<Logged>) {
        self.dirty_since_ms.get_or_insert(logged.entry.hlc_ms);
        if self
            .entries
            .back()
            .is_some_and(|last| last.entry.seq.next() != logged.entry.seq)
        {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += memory_bytes(&logged.entry);
        self.entries.push_back(logged);
        while self.bytes > BYTES_MAX {
            self.drop_first();
        }
    }

    /// The entry of that number, if it is kept.
    pub fn get(&self, seq: Seq) -> Option<Arc<Logged>> {
        let first = self.entries.front()?.entry.seq;
        let at = usize::try_from(seq.0.checked_sub(first.0)?).ok()?;
        self.entries.get(at).cloned()
    }

    /// Drops what a newer manifest has made superfluous.
    ///
    /// * `now` — the state from now on
    pub fn supersede(&mut self, now: &Snapshot) {
        while self.entries.front().is_some_and(|e| e.entry.seq <= now.indexed_seq) {
            self.drop_first();
        }
        if self.entries.back().is_some_and(|e| e.entry.seq != now.seq) {
            self.entries.clear();
            self.bytes = 0;
        }
        self.entries.shrink_to_fit();
        self.dirty_since_ms = match self.get(now.indexed_seq.next()) {
            Some(first) => Some(first.entry.hlc_ms),
            None if now.seq > now.indexed_seq => self.dirty_since_ms.or(Some(now.hlc_ms)),
            None => None,
        };
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.bytes = self.bytes.saturating_sub(memory_bytes(&first.entry));
        }
    }

    /// Memory that the entries take, about, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The clock of the first entry that is not in segments, in milliseconds since the epoch.
    pub fn dirty_since_ms(&self) -> Option<u64> {
        self.dirty_since_ms
    }
}

fn memory_bytes(entry: &Entry) -> u64 {
    let EntryKind::Data(requests) = &entry.kind else {
        return size_of::<Entry>() as u64;
    };
    let operations = requests.iter().flat_map(|r| &r.operations);
    let bytes = operations.map(|operation| match operation {
        Operation::Upsert(batch) | Operation::Patch(batch) => batch.memory_bytes() as u64,
        Operation::Delete(ids) => ids.memory_bytes() as u64,
    });
    size_of::<Entry>() as u64 + bytes.sum::<u64>()
}
