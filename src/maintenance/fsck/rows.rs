//! Rows: that each segment is what was written, and that each row is live in one place.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::objects::{segment_key, segment_wrong};
use super::{FindingKind, FsckError, Look};
use crate::base::{Bitset, Priority};
use crate::cache::ReadKind;
use crate::manifest::{Manifest, ManifestError, ManifestSegment};
use crate::model::{Id, IdColumn, Schema, Seq};
use crate::segment::keys::KeyBlock;
use crate::segment::{FlawIn, IdScan, Live, Segment, SegmentError};
use crate::snapshot::{OpenError, Snapshot, Wanted, branch_manifest, promote};
use crate::store::StoreError;
use crate::store::paths;
use crate::wal::{LogError, Logged};

/// Ids that are named when they are there twice.
const NAMED_MAX: usize = 20;

/// Why the state after the log is not known.
enum NoState {
    /// Something that is reported elsewhere, or has changed meanwhile.
    Reported,
    Entry(Seq, String),
    Failed(FsckError),
}

impl Look<'_> {
    /// Compares all rows with what was derived from them, and all ids with one another.
    ///
    /// * `needed` — the segments that are looked at when nothing more can be
    pub(super) async fn all_rows(
        &mut self,
        newest: Option<&Manifest>,
        needed: &[ManifestSegment],
    ) -> Result<(), FsckError> {
        let state = match self.state(newest).await {
            Ok(state) => state,
            Err(NoState::Failed(error)) => return Err(error),
            Err(no) => {
                if let NoState::Entry(seq, what) = no {
                    self.find(FindingKind::NotReplayable, paths::wal_entry(self.ns, seq), what);
                }
                let schema = newest.map(|m| m.schema.clone()).unwrap_or_default();
                return self.all_that_open(needed, &schema).await;
            }
        };
        for part in state.segments.iter() {
            self.flaws(&part.segment, &state.schema).await?;
        }
        self.ids(&state).await?;
        self.rows = state.rows() as u64;
        Ok(())
    }

    /// What is wrong with those segments that can be opened.
    async fn all_that_open(&mut self, needed: &[ManifestSegment], schema: &Schema) -> Result<(), FsckError> {
        for named in needed {
            let opened = Segment::open(named.meta.clone(), self.ns, &self.cache, &self.runtime.cpu).await;
            // Others are reported already.
            if let Ok(segment) = opened {
                self.flaws(&segment, schema).await?;
            }
        }
        Ok(())
    }

    /// The state of a manifest.
    async fn opened(&self, manifest: &Manifest) -> Result<Snapshot, NoState> {
        let cpu = &self.runtime.cpu;
        let opened = Snapshot::open(manifest, &self.manifests, &[], &self.cache, cpu).await;
        opened.map_err(|error| match error {
            OpenError::Manifest(ManifestError::Damaged { .. } | ManifestError::Missing { .. }) => NoState::Reported,
            OpenError::Manifest(error) => NoState::Failed(error.into()),
            OpenError::Segment(error) => unread(error),
        })
    }

    /// The state after the newest entry, as a node would have it.
    async fn state(&self, newest: Option<&Manifest>) -> Result<Snapshot, NoState> {
        let mut state = match newest {
            Some(manifest) => self.opened(manifest).await?,
            None => Snapshot::empty(),
        };
        let end = self.listing.newest_entry().unwrap_or(state.seq);
        while state.seq < end {
            let logged = match self.log.load(state.seq.next()).await {
                Ok(Some(logged)) => logged,
                Ok(None) | Err(LogError::Damaged { .. } | LogError::BlobMissing { .. }) => {
                    return Err(NoState::Reported);
                }
                Err(error) => return Err(NoState::Failed(error.into())),
            };
            state = self.advance(state, logged).await?;
        }
        Ok(state)
    }

    /// The state after one more entry.
    async fn advance(&self, state: Snapshot, logged: Logged) -> Result<Snapshot, NoState> {
        let cpu = &self.runtime.cpu;
        let seq = logged.entry.seq;
        let state = match logged.entry.branch().cloned() {
            Some(_) if state.exists() => {
                return Err(NoState::Entry(
                    seq,
                    "it creates a branch in place of a namespace that exists".into(),
                ));
            }
            Some(bytes) => match branch_manifest(&bytes, seq) {
                Ok(manifest) => state.branched(self.opened(&manifest).await?),
                Err(_) => return Err(NoState::Reported),
            },
            None => promote(&state, Wanted::by(&logged.entry), cpu).await.map_err(unread)?,
        };
        let apply = move || state.apply(&logged.entry, logged.digest, logged.bytes);
        // What a hostile entry does to whoever applies it is not to end the look.
        let applied = AssertUnwindSafe(cpu.run(Priority::Background, apply))
            .catch_unwind()
            .await;
        match applied {
            Ok(Ok(next)) => Ok(next),
            // A gap or a broken chain, which are reported.
            Ok(Err(_)) => Err(NoState::Reported),
            Err(_) => Err(NoState::Entry(seq, "applying it fails".into())),
        }
    }

    async fn flaws(&mut self, segment: &Segment, schema: &Schema) -> Result<(), FsckError> {
        let key = segment_key(segment.meta(), self.ns);
        let flaws = match segment.verify(schema).await {
            Ok(flaws) => flaws,
            Err(error) => {
                let (kind, key, what) = segment_wrong(error, key)?;
                self.find(kind, key, what);
                return Ok(());
            }
        };
        for flaw in flaws {
            let kind = match flaw.part {
                FlawIn::Rows => FindingKind::SegmentDamaged,
                FlawIn::Derived => FindingKind::IndexWrong,
            };
            self.find(kind, &key, flaw.what);
        }
        Ok(())
    }

    /// That no id is live in two places.
    async fn ids(&mut self, state: &Snapshot) -> Result<(), FsckError> {
        let mut scans: Vec<IdScan<'_>> = Vec::new();
        let mut walk = Walk::default();
        for part in state.segments.iter() {
            let all = (Bound::Unbounded, Bound::Unbounded);
            scans.push(part.segment.scan_ids(all, false, ReadKind::Scan));
            walk.sources.push(Source::of(part.live.clone()));
        }
        for (at, scan) in scans.iter_mut().enumerate() {
            walk.fill(at, next(scan).await?);
        }
        let tail = state.clone();
        let tail = self
            .runtime
            .cpu
            .run(Priority::Background, move || tail_ids(&tail))
            .await;
        if let Some((block, live)) = tail {
            walk.sources.push(Source::of(Arc::new(live.into())));
            walk.fill(scans.len(), Some(block));
        }
        loop {
            let step = move || {
                let empty = walk.run();
                (walk, empty)
            };
            let (walked, empty) = self.runtime.cpu.run(Priority::Background, step).await;
            walk = walked;
            match empty {
                None => break,
                Some(at) => {
                    let block = match scans.get_mut(at) {
                        Some(scan) => next(scan).await?,
                        // The tail is one block.
                        None => None,
                    };
                    walk.fill(at, block);
                }
            }
        }
        self.twice(state, &walk);
        Ok(())
    }

    fn twice(&mut self, state: &Snapshot, walk: &Walk) {
        let place = |at: usize| match state.segments.get(at) {
            Some(part) => format!("segment {}", part.segment.meta().id.0),
            None => "the log after the newest manifest".to_owned(),
        };
        let prefix = paths::namespace_prefix(self.ns);
        for (id, a, b) in &walk.twice {
            let key = state
                .segments
                .get(*a)
                .map(|part| segment_key(part.segment.meta(), self.ns));
            let what = format!("row {id} is live in {} and in {}", place(*a), place(*b));
            self.find(FindingKind::IdTwice, key.unwrap_or_else(|| prefix.to_string()), what);
        }
        if walk.more > 0 {
            let what = format!("{} more rows are live twice", walk.more);
            self.find(FindingKind::IdTwice, prefix, what);
        }
    }
}

/// What an error of a segment says about the state.
fn unread(error: SegmentError) -> NoState {
    match error {
        SegmentError::Damaged { .. }
        | SegmentError::Newer { .. }
        | SegmentError::Store(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => NoState::Reported,
        error => NoState::Failed(error.into()),
    }
}

/// The next ids of a scan; `None` also where they cannot be read, which is reported elsewhere.
async fn next(scan: &mut IdScan<'_>) -> Result<Option<KeyBlock>, FsckError> {
    match scan.next().await {
        Ok(block) => Ok(block),
        Err(
            SegmentError::Damaged { .. } | SegmentError::Newer { .. } | SegmentError::Store(StoreError::Corrupt { .. }),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The ids that are live in the tail, in order, as if they were a key run.
fn tail_ids(state: &Snapshot) -> Option<(KeyBlock, Bitset)> {
    let kind = state.schema.id_kind?;
    let live = |part: &crate::tail::Part| -> Vec<Id> { part.live.iter().map(|row| part.chunk.ids.get(row)).collect() };
    let mut ids: Vec<Id> = state.parts.iter().flat_map(live).collect();
    ids.sort_unstable();
    let rows = 0..u32::try_from(ids.len()).ok()?;
    let block = KeyBlock {
        ids: IdColumn::from_ids(kind, ids.iter()),
        rows: rows.collect(),
    };
    Some((block, Bitset::full(ids.len())))
}

/// Several sorted runs of ids, walked through together.
#[derive(Default)]
struct Walk {
    sources: Vec<Source>,
    /// The least id of each source that has one.
    heads: BinaryHeap<Reverse<(Id, usize)>>,
    last: Option<(Id, usize)>,
    /// Ids that were met twice, and where.
    twice: Vec<(Id, usize, usize)>,
    /// How many more.
    more: u64,
}

struct Source {
    live: Arc<Live>,
    block: Option<KeyBlock>,
    at: usize,
}

impl Source {
    fn of(live: Arc<Live>) -> Self {
        Self {
            live,
            block: None,
            at: 0,
        }
    }

    /// The next live id of the block.
    fn next(&mut self) -> Option<Id> {
        let block = self.block.as_ref()?;
        while let Some(row) = block.rows.get(self.at) {
            let (at, row) = (self.at, *row as usize);
            self.at += 1;
            if row < self.live.len() && self.live.contains(row) {
                return Some(block.ids.get(at));
            }
        }
        None
    }
}

impl Walk {
    /// Gives a source its next block; `None` at its end.
    fn fill(&mut self, at: usize, block: Option<KeyBlock>) {
        let source = &mut self.sources[at];
        (source.block, source.at) = (block, 0);
        self.pull(at);
    }

    /// Whether the source has another id, or has come to its end.
    fn pull(&mut self, at: usize) -> bool {
        let source = &mut self.sources[at];
        match source.next() {
            Some(id) => {
                self.heads.push(Reverse((id, at)));
                true
            }
            None => source.block.is_none(),
        }
    }

    /// Goes on until a source needs its next block, and says which; `None` at the end of all.
    fn run(&mut self) -> Option<usize> {
        // A block may have had no live row at all.
        if let Some(at) = self.starved() {
            return Some(at);
        }
        while let Some(Reverse((id, at))) = self.heads.pop() {
            match &self.last {
                Some((last, other)) if *last == id => match self.twice.len() < NAMED_MAX {
                    true => self.twice.push((id.clone(), *other, at)),
                    false => self.more += 1,
                },
                _ => {}
            }
            self.last = Some((id, at));
            if !self.pull(at) {
                return Some(at);
            }
        }
        None
    }

    /// A source whose block is used up and which has no id among the least.
    fn starved(&self) -> Option<usize> {
        let is_starved = |(at, source): &(usize, &Source)| {
            let is_used_up = source.block.as_ref().is_some_and(|b| source.at >= b.rows.len());
            is_used_up && !self.heads.iter().any(|Reverse((_, head))| head == at)
        };
        self.sources.iter().enumerate().find(is_starved).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IdKind;

    fn block(ids: &[u64]) -> KeyBlock {
        let ids: Vec<Id> = ids.iter().copied().map(Id::UInt).collect();
        KeyBlock {
            rows: (0..ids.len() as u32).collect(),
            ids: IdColumn::from_ids(IdKind::UInt, ids.iter()),
        }
    }

    /// What is found in these runs, given as blocks; ids above 99 are dead.
    fn twice(runs: &[&[&[u64]]]) -> Vec<(u64, usize, usize)> {
        let mut walk = Walk::default();
        let mut left: Vec<_> = runs.iter().map(|run| run.iter()).collect();
        for _ in runs {
            walk.sources.push(Source::of(Arc::new(Bitset::empty(0).into())));
        }
        let mut give = |walk: &mut Walk, at: usize| {
            let ids = left[at].next();
            let live = ids.map_or(Bitset::empty(0), |ids| Bitset::from_fn(ids.len(), |i| ids[i] < 100));
            walk.sources[at].live = Arc::new(live.into());
            walk.fill(at, ids.map(|ids| block(ids)));
        };
        (0..runs.len()).for_each(|at| give(&mut walk, at));
        while let Some(at) = walk.run() {
            give(&mut walk, at);
        }
        let number = |id: &Id| match id {
            Id::UInt(n) => *n,
            other => panic!("{other}"),
        };
        walk.twice.iter().map(|(id, a, b)| (number(id), *a, *b)).collect()
    }

    #[test]
    fn ids_that_are_in_two_runs_are_met_twice() {
        assert_eq!(twice(&[]), []);
        assert_eq!(twice(&[&[&[1, 2], &[3]], &[&[4], &[5, 6]]]), []);
        assert_eq!(twice(&[&[&[1, 3], &[5]], &[&[2, 3], &[4, 5]]]), [(3, 0, 1), (5, 0, 1)]);
        assert_eq!(twice(&[&[&[1]], &[&[1]], &[&[1]]]), [(1, 0, 1), (1, 1, 2)]);
        // Blocks without a live row, at the beginning, in the middle and at the end.
        assert_eq!(
            twice(&[&[&[100], &[7], &[101], &[9], &[102]], &[&[7, 8, 9]]]),
            [(7, 0, 1), (9, 0, 1)]
        );
        assert_eq!(twice(&[&[&[100], &[101]], &[&[100]]]), []);
    }
}
