//! Replays the log independently of the engine and holds the history against it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use shoal::model::batch::RowBatch;
use shoal::model::{Column, Id, IdColumn, Seq};
use shoal::wal::{Digest, EntryKind, Log, Logged, Operation, RequestEffects};

use super::history::{History, Outcome, ReadOp, Row, Rows, Saw, What, WriteOp};

/// The log, replayed.
pub struct Replay {
    /// The rows after each entry; `None` where no namespace exists. Index 0 is before the first.
    pub states: Vec<Option<Rows>>,
    /// The digest of each entry, that of the first at 1.
    pub digests: Vec<Digest>,
    /// Where each write was found, by its `op`.
    found: BTreeMap<i64, Vec<FoundAt>>,
    deletions: BTreeSet<u64>,
}

/// What a request in the log does.
#[derive(Clone, Debug, Default, PartialEq)]
struct Found {
    upserts: BTreeSet<u64>,
    patches: BTreeSet<u64>,
    deletes: BTreeSet<u64>,
}

/// A request in the log.
struct FoundAt {
    seq: u64,
    /// The rows that it meets.
    before: Rows,
    does: Found,
}

/// Reads and replays the whole log; checks that it is contiguous and chained (I2).
pub async fn replay(log: &Log) -> Replay {
    let entries = log.list().await.expect("the store is healed");
    let mut replay = Replay {
        states: vec![None],
        digests: vec![Digest::default()],
        found: BTreeMap::new(),
        deletions: BTreeSet::new(),
    };
    let mut digest = Digest::default();
    for (i, (seq, _)) in entries.iter().enumerate() {
        assert_eq!(*seq, Seq(i as u64 + 1), "the log has a gap");
        let logged = log
            .load(*seq)
            .await
            .expect("the store is healed")
            .expect("it was listed");
        assert_eq!(logged.entry.prev_digest, digest, "the chain breaks at {seq}");
        digest = logged.digest;
        replay.digests.push(digest);
        replay.apply(&logged);
    }
    replay
}

impl Replay {
    fn apply(&mut self, logged: &Logged) {
        let seq = logged.entry.seq.0;
        let before = self.states.last().cloned().flatten();
        let after = match &logged.entry.kind {
            EntryKind::DeleteNamespace => {
                self.deletions.insert(seq);
                None
            }
            EntryKind::Data(requests) => {
                let mut rows = before.unwrap_or_default();
                for request in requests {
                    self.note(seq, request, &rows);
                    request.operations.iter().for_each(|o| apply(&mut rows, o));
                }
                Some(rows)
            }
        };
        self.states.push(after);
    }

    fn note(&mut self, seq: u64, request: &RequestEffects, before: &Rows) {
        let mut found = Found::default();
        let mut marker = None;
        for operation in &request.operations {
            match operation {
                Operation::Upsert(batch) => {
                    for id in ids(&batch.ids) {
                        match id >= MARKERS {
                            true => marker = Some((id - MARKERS) as i64),
                            false => drop(found.upserts.insert(id)),
                        }
                    }
                }
                Operation::Patch(batch) => found.patches.extend(ids(&batch.ids)),
                Operation::Delete(column) => found.deletes.extend(ids(column)),
            }
        }
        let op = marker.expect("every write of the simulation has a marker row");
        self.found.entry(op).or_default().push(FoundAt {
            seq,
            before: before.clone(),
            does: found,
        });
    }

    /// Holds everything that clients saw against the log.
    pub fn check(&self, history: &History) {
        for write in &history.writes {
            self.check_write(write);
        }
        for read in &history.reads {
            self.check_read(read);
        }
    }

    fn check_write(&self, write: &WriteOp) {
        let What::Rows { .. } = &write.what else {
            if let Outcome::Confirmed(seq) = write.outcome {
                assert!(self.deletions.contains(&seq), "{write:?}: no deletion at {seq}");
                assert!(
                    seq > write.confirmed_before,
                    "{write:?}: is older than what came before it"
                );
            }
            return;
        };
        let found = self.found.get(&write.op).map_or(&[][..], Vec::as_slice);
        assert!(found.len() <= 1, "{write:?} is in the log {} times", found.len());
        match write.outcome {
            Outcome::Confirmed(seq) => {
                assert!(
                    seq > write.confirmed_before,
                    "{write:?}: is older than what came before it"
                );
                let Some(found) = found.first() else {
                    panic!("{write:?} was confirmed and is not in the log");
                };
                assert_eq!(found.seq, seq, "{write:?} is in another entry");
            }
            Outcome::Refused => assert!(found.is_empty(), "{write:?} was refused and is in the log"),
            Outcome::Unknown => {}
        }
        if let Some(found) = found.first() {
            let whole = expected(&write.what, &found.before);
            assert_eq!(found.does, whole, "{write:?} does something else on {:?}", found.before);
        }
    }

    fn check_read(&self, read: &ReadOp) {
        match &read.saw {
            Saw::Nothing => {}
            Saw::Rows { seq, rows } => {
                let state = self.states.get(*seq as usize);
                let state = state.unwrap_or_else(|| panic!("a read saw {seq}, which is not in the log"));
                assert_eq!(state.as_ref(), Some(rows), "a read at {seq} saw another state");
                if read.strong {
                    assert!(
                        *seq >= read.confirmed_before,
                        "a strong read saw {seq} although {} was confirmed before it began",
                        read.confirmed_before
                    );
                }
            }
            Saw::NoNamespace => {
                // Even an eventual read says "not found" on the newest state only.
                let from = read.confirmed_before as usize;
                assert!(
                    self.states[from..].iter().any(Option::is_none),
                    "a read found no namespace although one existed all the time since {from}"
                );
            }
        }
    }
}

/// What a write should do to these rows: first by its filters, and then to the rows that it names.
fn expected(what: &What, before: &Rows) -> Found {
    let What::Rows {
        delete_by,
        patch_by,
        upserts,
        patches,
        deletes,
        ..
    } = what
    else {
        return Found::default();
    };
    let mut found = Found {
        upserts: upserts.iter().copied().collect(),
        ..Found::default()
    };
    let mut rows = before.clone();
    if let Some(filter) = delete_by {
        let matching = rows.iter().filter(|(id, row)| filter.holds(**id, row));
        found.deletes = matching.map(|(id, _)| *id).collect();
        rows.retain(|id, _| !found.deletes.contains(id));
    }
    if let Some(filter) = patch_by {
        let matching = rows.iter().filter(|(id, row)| filter.holds(**id, row));
        found.patches = matching.map(|(id, _)| *id).collect();
    }
    // Where rows had to be read anyway, patches of those that do not exist are left out.
    let all = delete_by.is_none() && patch_by.is_none();
    found
        .patches
        .extend(patches.iter().filter(|id| all || rows.contains_key(id)));
    found.deletes.extend(deletes);
    found
}

/// Ids from here on are marker rows: this plus the write's `op`.
pub const MARKERS: u64 = 1000;

fn ids(column: &IdColumn) -> Vec<u64> {
    (0..column.len())
        .map(|i| match column.get(i) {
            Id::UInt(n) => n,
            other => panic!("the simulation writes numbers, not {other}"),
        })
        .collect()
}

fn apply(rows: &mut Rows, operation: &Operation) {
    match operation {
        Operation::Upsert(batch) => {
            for (i, id) in ids(&batch.ids).into_iter().enumerate() {
                let mut row = Row::new();
                set(&mut row, batch, i);
                rows.insert(id, row);
            }
        }
        Operation::Patch(batch) => {
            for (i, id) in ids(&batch.ids).into_iter().enumerate() {
                if let Some(row) = rows.get_mut(&id) {
                    set(row, batch, i);
                }
            }
        }
        Operation::Delete(column) => {
            for id in ids(column) {
                rows.remove(&id);
            }
        }
    }
}

fn set(row: &mut Row, batch: &RowBatch, i: usize) {
    for column in &batch.columns {
        let Column::Values(values) = &column.column else {
            panic!("the simulation writes integers");
        };
        match values.is_valid(i) {
            true => row.insert(column.name.to_string(), values.as_primitive::<Int64Type>().value(i)),
            false => row.remove(&*column.name),
        };
    }
}
