//! The commit loop of one namespace: the only thing that writes its log from this node.
//!
//! Requests queue up; as soon as the previous entry is durable, everything that waits is evaluated
//! in order and becomes the next entry, with one PUT. There is no timer: an idle namespace commits
//! at once, a busy one groups what arrives while a PUT is in flight.
//!
//! # What stays true
//!
//! The five rules of the log (docs/design/0003-log.md), each of which loses acknowledged writes when it
//! is left out (`tests/model`):
//!
//! 1. *Same slot*: after an unclear outcome only the same slot is tried until its owner is known.
//! 2. *Own write*: "exists" is never a verdict; the entry is read and its writer and batch compared.
//! 3. *Staleness*: a success counts only while this node's knowledge is younger than half the grace.
//! 4. *No re-send after staleness*: a batch that was sent and has gone stale is answered "unknown".
//! 5. *Chain*: every entry names the digest of its predecessor (`snapshot` checks it).
//!
//! A client that goes away does not stop its request: the loop owns it.

mod fill;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::catalog;
use super::evaluate::{Change, Staged, Verdict, What, evaluate, group_len};
use super::follow::Follower;
use super::manifests;
use super::prefetch::{self, NotFetched, Prefetched};
use super::read;
use super::state::{Moment, Trouble};
use crate::base::Priority;
use crate::base::clock::wall_ms;
use crate::error::{Error, ErrorKind};
use crate::model::datetime::CLOCK_MS_MAX;
use crate::model::write::Counts;
use crate::model::{Schema, Seq};
use crate::snapshot::Snapshot;
use crate::store::PutPayload;
use crate::telemetry;
use crate::wal::{self, BlobRef, Entry, EntryKind, Logged, Operation, RequestEffects};

/// Bytes of requests that are put into one entry; more wait for the next.
const ENTRY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Requests that are put into one entry.
const ENTRY_REQUESTS_MAX: usize = 4096;
/// The first wait before a slot is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A request in the queue.
pub(super) struct Submission {
    pub change: Arc<Change>,
    pub reply: oneshot::Sender<Result<Committed, Failure>>,
    /// When it was queued.
    pub since: Moment,
}

impl AsRef<Change> for Submission {
    fn as_ref(&self) -> &Change {
        &self.change
    }
}

/// What a client is told of its request.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    /// The entry that holds it, or the newest one where there was nothing to write.
    pub seq: Seq,
    pub counts: Counts,
    pub schema: Arc<Schema>,
    /// The rows it touched.
    pub affected: Affected,
}

/// Where the rows are named that a request touched.
#[derive(Clone, Debug)]
pub(super) enum Affected {
    By(Vec<Operation>),
    /// By the request of that number in the entry `seq`: it was sent before.
    Logged(u128),
}

/// Why a request was not confirmed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was sent, and this node's knowledge is too old: open the namespace again.
    Stale,
    /// Nothing was sent, because this node has no memory for so many bytes of entries that it has to read first.
    NoRoom(u64),
    Failed(Error),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stale => Failure::Stale,
            Trouble::NoRoom(bytes) => Failure::NoRoom(bytes),
            other => Failure::Failed(other.into()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error)
    }
}

/// How an attempt to fill a slot ended.
enum Slot {
    /// The entry is in the log, and applied.
    Ours,
    /// Another entry has the slot, and is applied. Evaluate again.
    Lost,
    /// Nothing was written and nothing will be.
    NotWritten(Trouble),
    /// The entry may be in the log, now or later.
    Unknown,
}

/// Who has a slot.
enum Filled {
    /// This entry, which is not applied yet. The request that said so began then.
    Won(Moment),
    Decided(Slot),
}

impl From<Slot> for Filled {
    fn from(slot: Slot) -> Self {
        Filled::Decided(slot)
    }
}

/// An entry ready to be sent.
struct Sealed {
    logged: Arc<Logged>,
    bytes: PutPayload,
}

pub(super) struct CommitLoop {
    follower: Follower,
    /// Of boxes, as an inbox has room for many of what it is of.
    inbox: mpsc::Receiver<Box<Submission>>,
    /// The incarnation whose listing marker is known to exist, by its first entry.
    listed: Option<Seq>,
    /// When the dirty marker was written last, and up to which entry the log was in segments then.
    marked: Option<(Moment, Seq)>,
    /// Whether entries were written since.
    marks_again: bool,
}

impl CommitLoop {
    pub fn new(follower: Follower, inbox: mpsc::Receiver<Box<Submission>>) -> Self {
        Self {
            follower,
            inbox,
            listed: None,
            marked: None,
            marks_again: false,
        }
    }

    /// Runs until the inbox closes, which is when nobody holds the namespace any more.
    pub async fn run(mut self) {
        while let Some(first) = self.next().await {
            // A new one each time: an idle namespace does not hold the place that a busy one needed.
            let mut queue = VecDeque::from([*first]);
            while !queue.is_empty() {
                while queue.len() < ENTRY_REQUESTS_MAX
                    && let Ok(next) = self.inbox.try_recv()
                {
                    queue.push_back(*next);
                }
                let indexed = !self.follower.state.snapshot().segments.is_empty();
                let group = group_len(queue.iter(), ENTRY_BYTES_MAX, ENTRY_REQUESTS_MAX, indexed);
                let rest = Box::pin(self.commit(queue.drain(..group).collect())).await;
                rest.into_iter()
                    .rev()
                    .for_each(|submission| queue.push_front(submission));
            }
        }
    }

    /// The next request. While nothing comes, or when nothing will, the dirty marker is written once more, because an
    /// indexer may have removed it just before the newest entry was written.
    async fn next(&mut self) -> Option<Box<Submission>> {
        if let Some((at, _)) = self.marked.filter(|_| self.marks_again) {
            let age = at.age(self.follower.state.runtime.clock.as_ref());
            let wait = self.follower.state.options.dirty_mark_refresh.saturating_sub(age);
            let next = tokio::time::timeout(wait, self.inbox.recv()).await;
            if let Ok(Some(next)) = next {
                return Some(next);
            }
            self.marks_again = false;
            if self.follower.state.dirty_since_ms().is_some() {
                // The namespace is being closed: nobody will come by later.
                if next.is_ok() {
                    catalog::mark_dirty(&self.follower.state).await;
                    return None;
                }
                self.mark_behind();
            }
        }
        self.inbox.recv().await
    }

    /// Commits a group of requests and answers each of them. Returns those that cannot be committed together after
    /// all.
    async fn commit(&mut self, mut group: Vec<Submission>) -> Vec<Submission> {
        self.answer_overdue(&mut group);
        if group.is_empty() {
            return group;
        }
        let mut rest = Vec::new();
        let began = self.follower.state.now();
        let mut looked = false;
        for losses in 0u32.. {
            // Rivals are fast: let them go on, and then take up all they wrote, not one entry per
            // lost slot.
            self.pause_after(losses.saturating_sub(1)).await;
            if (losses > 1 || self.follower.state.is_behind())
                && let Err(trouble) = self.follower.catch_up().await
            {
                answer_all(group, || trouble.clone().into());
                return rest;
            }
            let (base, verdicts) = match self.ready(&mut group, &mut rest, &mut looked).await {
                Ok(ready) => ready,
                Err(trouble) => {
                    answer_all(group, || trouble.clone().into());
                    return rest;
                }
            };
            if matches!(group[0].change.what, What::DeleteNamespace) && !base.exists() {
                // An earlier deletion may have left its markers behind.
                catalog::remove(&self.follower.state, base.seq).await;
            }
            let verdicts = answer_decided(&mut group, verdicts, base.seq);
            if group.is_empty() {
                return rest;
            }
            match self.write(&verdicts, &group, &base, began).await {
                Slot::Ours => {
                    answer_committed(group, verdicts, base.seq.next());
                    self.follower.look_behind();
                    return rest;
                }
                Slot::Lost if self.overdue(began) => {
                    answer_all(group, || contended().into());
                    return rest;
                }
                Slot::Lost => {
                    looked = false;
                    metrics::counter!(telemetry::COMMIT_CONFLICTS).increment(1);
                }
                Slot::NotWritten(trouble) => {
                    answer_all(group, || trouble.clone().into());
                    return rest;
                }
                Slot::Unknown => {
                    answer_all(group, || unknown().into());
                    return rest;
                }
            }
        }
        rest
    }

    /// Evaluates the group on a state that is young enough to write on, and current where a
    /// request is not simply committed: "no" is only right on the newest state. What that state does not let be
    /// committed together goes from `group` to the front of `rest`.
    async fn ready(
        &mut self,
        group: &mut Vec<Submission>,
        rest: &mut Vec<Submission>,
        looked: &mut bool,
    ) -> Result<(Arc<Snapshot>, Vec<Verdict>), Trouble> {
        let state = &self.follower.state;
        loop {
            state.check()?;
            self.follower.refresh_if_stale().await?;
            let base = state.snapshot();
            // Segments may have come with the state, be it a moment ago.
            let together = group_len(group.iter(), u64::MAX, usize::MAX, !base.segments.is_empty());
            rest.splice(0..0, group.drain(together..));
            let prefetched = self.prefetch(group, &base).await?;
            let base = prefetched.base.clone();
            let verdicts = self.evaluate(group, prefetched).await;
            if *looked || verdicts.iter().all(|v| matches!(v, Verdict::Commit(_))) {
                return Ok((base, verdicts));
            }
            self.follower.catch_up().await?;
            *looked = true;
        }
    }

    /// Reads what the group needs of segments, for as long as a query may take: others wait behind it. Nearly always most
    /// of it was read before the group queued up.
    async fn prefetch(&self, group: &[Submission], base: &Arc<Snapshot>) -> Result<Prefetched, Trouble> {
        let max = self.follower.state.options.limits.query_time_max;
        match tokio::time::timeout(max, self.read_stored(group, base)).await {
            Ok(read) => read,
            Err(_) => Err(Trouble::Failed(Arc::new(read::too_slow("write", max)))),
        }
    }

    async fn read_stored(&self, group: &[Submission], base: &Arc<Snapshot>) -> Result<Prefetched, Trouble> {
        let state = &self.follower.state;
        let changes: Vec<Arc<Change>> = group.iter().map(|s| s.change.clone()).collect();
        match prefetch::prefetch(&changes, base, state).await {
            Err(NotFetched::Missing(missing)) => {
                if !self.follower.move_on().await? {
                    manifests::alarm(state, &missing);
                    return Err(NotFetched::Missing(missing).into());
                }
                let again = prefetch::prefetch(&changes, &state.snapshot(), state).await;
                again.map_err(Trouble::from)
            }
            fetched => fetched.map_err(Trouble::from),
        }
    }

    async fn evaluate(&self, group: &[Submission], on: Prefetched) -> Vec<Verdict> {
        let state = &self.follower.state;
        let changes: Vec<Arc<Change>> = group.iter().map(|s| s.change.clone()).collect();
        let (name, options) = (state.name.clone(), state.options.clone());
        let evaluate = move || evaluate(&changes, &on.ready, &on.stored, &name, &options.limits);
        state.runtime.cpu.run(Priority::Foreground, evaluate).await
    }

    /// Makes the entry durable as the successor of `base`, and its namespace listed.
    async fn write(&mut self, verdicts: &[Verdict], group: &[Submission], base: &Arc<Snapshot>, began: Moment) -> Slot {
        if let What::Copy(copy) = &group[0].change.what
            && let Some(shared) = &copy.base
        {
            let state = &self.follower.state;
            // Again, because it may have waited since.
            if let Err(error) = shared.check_age(state.runtime.clock.as_ref(), state.options.grace) {
                return Slot::NotWritten(Trouble::Failed(Arc::new(error)));
            }
        }
        let deletes = matches!(group[0].change.what, What::DeleteNamespace);
        let sealed = self.seal(verdicts, deletes, base).await;
        let slot = sealed.logged.entry.seq;
        let incarnation = base.incarnation.map_or(slot, |i| i.genesis);
        let lists = !deletes && self.listed != Some(incarnation);
        let marks = self.begin_mark(base);
        // In parallel, so that a first write costs one round trip; the write is answered when all
        // are done, so that whatever is acknowledged is listed, and indexed some day.
        let (outcome, listed, ()) = tokio::join!(
            self.fill(&sealed, base, began),
            async { lists && catalog::add(&self.follower.state, incarnation).await },
            async {
                if marks {
                    catalog::mark_dirty(&self.follower.state).await;
                }
            },
        );
        if deletes {
            if matches!(outcome, Slot::Ours) {
                self.listed = None;
                catalog::remove(&self.follower.state, slot).await;
            }
            return outcome;
        }
        if lists {
            self.listed = listed.then_some(incarnation);
            if matches!(outcome, Slot::Lost) {
                self.correct_listing(incarnation).await;
            }
        }
        outcome
    }

    /// Whether the namespace is to be marked as dirty before the next write is answered. When it was dirty already, a
    /// marker that is not so young any more is written again behind the answer.
    fn begin_mark(&mut self, base: &Snapshot) -> bool {
        let state = &self.follower.state;
        let since = match self.marked {
            Some((at, indexed)) if base.seq > base.indexed_seq || indexed == base.indexed_seq => Some(at),
            _ => None,
        };
        let young = since.is_some_and(|at| at.age(state.runtime.clock.as_ref()) < state.options.dirty_mark_refresh);
        self.marks_again = true;
        if young {
            return false;
        }
        self.marked = Some((state.now(), base.indexed_seq));
        if since.is_some() {
            self.mark_behind();
        }
        since.is_none()
    }

    /// Writes the dirty marker while nobody waits for it.
    fn mark_behind(&self) {
        let state = self.follower.state.clone();
        let mark = async move { catalog::mark_dirty(&state).await };
        self.follower.state.runtime.spawner.spawn("mark", Box::pin(mark));
    }

    /// After a lost slot: takes back the marker of an incarnation that never came to be.
    async fn correct_listing(&mut self, guessed: Seq) {
        // A node that guessed that the log is empty has seen no more than its first entry.
        if self.follower.state.is_behind() && self.follower.catch_up().await.is_err() {
            return;
        }
        let living = self.follower.state.snapshot().incarnation;
        if living.is_none_or(|i| i.genesis != guessed) {
            self.listed = None;
            catalog::retract(&self.follower.state, guessed).await;
        }
    }

    async fn seal(&self, verdicts: &[Verdict], deletes: bool, base: &Snapshot) -> Sealed {
        let state = &self.follower.state;
        let rng = &state.runtime.rng;
        let requests: Vec<RequestEffects> = verdicts
            .iter()
            .filter_map(Verdict::effects)
            .map(|e| RequestEffects {
                request: e.key.map_or_else(|| rng.u128(), |key| key.number),
                reply: e.reply(),
                schema: e.schema.clone(),
                operations: e.operations.clone(),
                staged: self.usable(e.staged.as_ref()),
                settings: e.settings.clone(),
                branch: e.branch.clone(),
            })
            .collect();
        let entry = Entry {
            namespace: base.namespace.unwrap_or_else(|| rng.uuid()),
            seq: base.seq.next(),
            writer: state.writer,
            batch: rng.u128(),
            writer_addr: state.options.internal_url.clone(),
            prev_digest: base.digest,
            manifest_gen_hint: base.generation.0,
            hlc_ms: wall_ms(state.runtime.clock.as_ref())
                .max(base.hlc_ms + 1)
                .min(CLOCK_MS_MAX),
            kind: match deletes {
                true => EntryKind::DeleteNamespace,
                false => EntryKind::Data(requests),
            },
        };
        state
            .runtime
            .cpu
            .run(Priority::Foreground, move || {
                let (bytes, digest) = wal::encode(&as_stored(&entry));
                let logged = Logged {
                    bytes: bytes.content_length() as u64 + entry.staged_bytes(),
                    entry,
                    digest,
                };
                Sealed {
                    logged: Arc::new(logged),
                    bytes,
                }
            })
            .await
    }

    /// The blobs of a staged request, unless they may be collected already: then its operations go
    /// into the entry.
    fn usable(&self, staged: Option<&Staged>) -> Vec<BlobRef> {
        let state = &self.follower.state;
        let young = |s: &&Staged| s.since.age(state.runtime.clock.as_ref()) <= state.options.grace / 2;
        staged.filter(young).map(|s| s.blobs.clone()).unwrap_or_default()
    }

    /// Answers the requests that waited in the queue for as long as a write may take at all: their
    /// clients have given up, or will before another attempt ends.
    fn answer_overdue(&self, group: &mut Vec<Submission>) {
        let (late, in_time) = group.drain(..).partition(|s| self.overdue(s.since));
        *group = in_time;
        answer_all(late, || contended().into());
    }

    fn overdue(&self, began: Moment) -> bool {
        let state = &self.follower.state;
        began.age(state.runtime.clock.as_ref()) > state.options.write_deadline
    }

    /// Waits before a slot is tried again; jittered, so that rivals do not meet in step.
    async fn pause_after(&self, failures: u32) {
        if failures == 0 {
            return;
        }
        let base = BACKOFF_MIN * 2u32.saturating_pow(failures.min(10) - 1);
        let wait = self.follower.state.runtime.rng.jitter(base.min(BACKOFF_MAX));
        tokio::time::sleep(wait).await;
    }
}

/// Whether two entries are one batch of one writer.
fn is_same(a: &Entry, b: &Entry) -> bool {
    a.writer == b.writer && a.batch == b.batch
}

/// The entry without the operations that its blobs hold.
fn as_stored(entry: &Entry) -> Entry {
    let mut stored = entry.clone();
    if let EntryKind::Data(requests) = &mut stored.kind {
        for request in requests.iter_mut().filter(|r| !r.staged.is_empty()) {
            request.operations.clear();
        }
    }
    stored
}

/// Answers the requests before the first that writes, which what is durable decides alone, and
/// returns the verdicts on the others. Those rest on writes that may still fail, so even a "nothing
/// to do" or a "no" among them waits for the outcome.
fn answer_decided(group: &mut Vec<Submission>, mut verdicts: Vec<Verdict>, seq: Seq) -> Vec<Verdict> {
    let writes = |v: &Verdict| v.effects().is_some();
    let decided = verdicts.iter().position(writes).unwrap_or(verdicts.len());
    let rest = verdicts.split_off(decided);
    answer_committed(group.drain(..decided).collect(), verdicts, seq);
    rest
}

/// Answers each request by its verdict, now that the entry `seq` is durable.
fn answer_committed(group: Vec<Submission>, verdicts: Vec<Verdict>, seq: Seq) {
    for (submission, verdict) in group.into_iter().zip(verdicts) {
        submission.answer(match verdict {
            Verdict::Commit(effects) => Ok(Committed {
                seq,
                counts: effects.counts,
                schema: effects.schema_after,
                affected: Affected::By(effects.operations),
            }),
            Verdict::Nothing(counts, schema) => Ok(Committed {
                seq,
                counts,
                schema,
                affected: Affected::By(Vec::new()),
            }),
            Verdict::Repeated(before, schema) => Ok(Committed {
                seq: before.seq,
                counts: before.reply.counts,
                schema,
                affected: Affected::Logged(before.request),
            }),
            Verdict::Reject(error) => Err(error.into()),
        });
    }
}

fn answer_all(group: Vec<Submission>, failure: impl Fn() -> Failure) {
    for submission in group {
        submission.answer(Err(failure()));
    }
}

impl Submission {
    fn answer(self, result: Result<Committed, Failure>) {
        // The client may have gone; its request was carried out all the same.
        let _ = self.reply.send(result);
    }
}

fn contended() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "this namespace is written faster than object storage takes it, so this write found no turn; nothing was \
         written, try again",
    )
    .after(Duration::from_secs(1))
}

pub(super) fn unknown() -> Error {
    Error::new(
        ErrorKind::Unknown,
        "object storage did not confirm the write in time; it may or may not have been applied: read before writing \
         again, or repeat it if it is idempotent",
    )
}
