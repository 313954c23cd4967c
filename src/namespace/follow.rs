//! Follows the log: applies entries in order, and asks whether there are newer ones.
//!
//! Two tasks per open namespace. The *follower* owns the state: whoever has an entry, the commit
//! loop or a probe, hands it in and gets the snapshot that holds it. The *prober* answers "what
//! is the newest entry?" for everybody who asks at the same time with one GET that is expected to
//! find nothing.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::manifests::{self, Begun, NotApplied, Pace};
use super::state::{Listed, Moment, State, Trouble};
use crate::model::{Gen, Seq};
use crate::snapshot::{BrokenChain, Snapshot};
use crate::wal::{LogError, Logged};

/// Entries fetched at once when the log has run far ahead.
const WINDOW_MAX: u64 = 64;
/// After so many entries, or bytes of them, whoever catches up looks whether the rest is in segments.
const LOOK_ENTRIES: u64 = 256;
const LOOK_BYTES: u64 = 64 * 1024 * 1024;

/// What the follower is asked to do, and who wants to know.
pub(super) struct Task {
    what: Todo,
    reply: oneshot::Sender<Result<Arc<Snapshot>, Trouble>>,
}

enum Todo {
    /// To apply an entry.
    Absorb(Arc<Logged>, Option<Box<Promoted>>),
    /// To go over to the state of a newer manifest.
    TakeOver(Box<Snapshot>),
}

/// A state that is ready for an entry.
pub(super) struct Promoted {
    /// The state that it was made of.
    pub base: Arc<Snapshot>,
    pub ready: Snapshot,
}

/// Applies entries in order. Ends when the inbox closes.
///
/// What it does is boxed, here and in the other tasks of a namespace, so that a task that waits is small: a node has
/// thousands of them.
pub(super) async fn run_follower(state: Arc<State>, mut inbox: mpsc::Receiver<Box<Task>>) {
    while let Some(task) = inbox.recv().await {
        let Task { what, reply } = *task;
        let result = match what {
            Todo::Absorb(logged, promoted) => Box::pin(apply(&state, logged, promoted)).await,
            Todo::TakeOver(snapshot) => Box::pin(manifests::take_over(&state, *snapshot)).await,
        };
        // Whoever asked may have gone; the state counts, not the answer.
        let _ = reply.send(result);
    }
}

async fn apply(
    state: &Arc<State>,
    logged: Arc<Logged>,
    promoted: Option<Box<Promoted>>,
) -> Result<Arc<Snapshot>, Trouble> {
    state.check()?;
    let base = state.snapshot();
    let seq = logged.entry.seq;
    if seq <= base.seq {
        let same = seq < base.seq || logged.digest == base.digest;
        return match same {
            true => Ok(base),
            false => Err(state.set_broken(BrokenChain {
                seq,
                why: "two entries were seen in one slot",
            })),
        };
    }
    let ready = promoted.filter(|p| Arc::ptr_eq(&p.base, &base)).map(|p| p.ready);
    let applied = match manifests::advance(state, &base, &logged, ready).await {
        Err(NotApplied::Missing(missing)) => {
            let base = manifests::move_on(state, missing).await?;
            if base.seq >= seq {
                return Ok(base);
            }
            manifests::advance(state, &base, &logged, None).await
        }
        applied => applied,
    };
    match applied {
        Ok(snapshot) => Ok(state.publish(snapshot, logged)),
        Err(NotApplied::Missing(missing)) => Err(missing.into()),
        Err(NotApplied::Trouble(trouble)) => Err(trouble),
    }
}

/// How the other tasks reach the follower.
#[derive(Clone)]
pub(super) struct Follower {
    pub state: Arc<State>,
    /// Of boxes, as an inbox has room for many of what it is of.
    pub inbox: mpsc::Sender<Box<Task>>,
}

impl State {
    /// How many entries may be fetched at once.
    ///
    /// * `largest` — bytes of the largest that is known of
    fn at_once(&self, largest: u64) -> u64 {
        (self.options.window_bytes / largest.max(1)).clamp(1, WINDOW_MAX)
    }
}

impl Follower {
    /// Applies an entry, unless it is applied already, and returns a snapshot that holds it.
    ///
    /// * `promoted` — what the entry needs, if it was read before
    pub async fn absorb(&self, logged: Arc<Logged>, promoted: Option<Promoted>) -> Result<Arc<Snapshot>, Trouble> {
        self.ask(Todo::Absorb(logged, promoted.map(Box::new))).await
    }

    /// Goes over to the state of a newer manifest.
    pub async fn take_over(&self, rebuilt: Snapshot) -> Result<Arc<Snapshot>, Trouble> {
        self.ask(Todo::TakeOver(Box::new(rebuilt))).await
    }

    async fn ask(&self, what: Todo) -> Result<Arc<Snapshot>, Trouble> {
        let (reply, answer) = oneshot::channel();
        // The follower lives as long as anybody who can send to it; it is gone only when the
        // whole node is being dropped, and then nobody waits for this answer either.
        if self.inbox.send(Box::new(Task { what, reply })).await.is_err() {
            return Err(Trouble::Stale);
        }
        answer.await.unwrap_or(Err(Trouble::Stale))
    }

    /// Applies everything that is in the log and returns the position of its end at some moment
    /// after the call.
    ///
    /// Costs one GET when there is nothing new, and one more per new entry. The first time, a LIST
    /// instead of the GET that finds nothing.
    ///
    /// # Errors
    ///
    /// [`Trouble::NoRoom`] when the tails of this node would take more memory than they may.
    pub async fn catch_up(&self) -> Result<Seq, Trouble> {
        self.go_on(false).await
    }

    /// The same, but of a tail for which there is no room only as much as may be flushed at once: what is applied then
    /// is the state at an older entry. Costs what was read.
    pub async fn catch_up_partly(&self) -> Result<Seq, Trouble> {
        self.go_on(true).await
    }

    async fn go_on(&self, partly: bool) -> Result<Seq, Trouble> {
        self.state.check()?;
        self.refresh_stale_index().await?;
        let began = self.state.now();
        let (listed, listed_now) = self.prove().await?;
        let Listed { newest, at_once, .. } = listed;
        let mut window = 1;
        let mut read = Read::default();
        'windows: loop {
            let start = self.state.now();
            let base = self.state.snapshot().seq;
            if listed_now && base >= newest {
                self.state.verified(began);
                return Ok(base);
            }
            let known = newest.0.saturating_sub(base.0);
            let bytes = known.saturating_mul(listed.entry_bytes);
            if known > 0 && !partly && !self.state.has_room_for(bytes) {
                // Before it is read in vain.
                if self.pass_indexed().await? {
                    continue;
                }
                return Err(Trouble::NoRoom(bytes));
            }
            let count = known.max(window).min(at_once).min(self.state.at_once(read.largest));
            let wanted: Vec<Seq> = (1..=count).map(|i| Seq(base.0 + i)).collect();
            let fetched = join_all(wanted.iter().map(|seq| self.state.log.get(*seq))).await;
            if base == Seq::ZERO && is_stray(&fetched) && self.find_beginning().await? {
                continue;
            }
            for (logged, seq) in fetched.into_iter().zip(wanted) {
                match logged.map_err(|e| self.state.unreadable(seq, e))? {
                    Some(logged) => {
                        let is_enough = partly && self.state.is_large();
                        if is_enough || !self.state.has_room_for(logged.bytes) {
                            if self.pass_indexed().await? {
                                continue 'windows;
                            }
                            return match partly && self.state.snapshot().unindexed_bytes > 0 {
                                true => Ok(self.state.snapshot().seq),
                                false => Err(Trouble::NoRoom(self.state.tail_bytes_with(known.max(1)).max(bytes))),
                            };
                        }
                        read.count(&logged);
                        self.absorb_whole(logged).await?;
                    }
                    None if seq <= newest => return Err(self.vanished(seq).await),
                    None => return self.end_reached(start).await,
                }
            }
            if known == 0 {
                window = (window * 2).min(WINDOW_MAX);
            }
            if read.entries >= LOOK_ENTRIES || read.bytes >= LOOK_BYTES {
                (read.entries, read.bytes) = (0, 0);
                self.pass_indexed().await?;
            }
        }
    }

    /// Goes over to a newer manifest that the log names, so that what is in its segments is neither read nor held; false
    /// when it did not. Costs nothing when the log names none.
    async fn pass_indexed(&self) -> Result<bool, Trouble> {
        let state = &self.state;
        if !state.is_index_behind() || state.refused.waits(state.runtime.clock.boot()) {
            return Ok(false);
        }
        let before = state.snapshot().generation;
        match self.look_for_manifest(Pace::Now).await {
            // What would have to be read is collected.
            Err(Trouble::Stale) => Err(Trouble::Stale),
            Err(trouble) => {
                tracing::debug!(namespace = %state.name, ?trouble, "no newer manifest was taken over");
                Ok(false)
            }
            Ok(()) => Ok(state.snapshot().generation > before),
        }
    }

    /// Fetches the blobs that an entry names and applies it. One entry's blobs at a time, because
    /// they may be large.
    pub async fn absorb_whole(&self, mut logged: Logged) -> Result<Arc<Snapshot>, Trouble> {
        let resolved = self.state.log.resolve(&mut logged.entry).await;
        if let Err(error) = resolved {
            return Err(manifests::unreadable(&self.state, logged.entry.seq, error).await);
        }
        self.absorb(Arc::new(logged), None).await
    }

    /// Makes sure that this node's state is a state of the log: that of a manifest that the log continues, or that
    /// before its first entry. Returns the newest entry, and whether this very call listed it as the end.
    ///
    /// The first time, costs a LIST and a GET for the hint at the newest manifest; with a manifest then a GET for each
    /// of its segments and for the first entries after it, all at once. Then nothing.
    pub async fn prove(&self) -> Result<(Listed, bool), Trouble> {
        let mut listed_now = false;
        let list = async || {
            let begun = self.begin().await?;
            // One with a gap proves less than where the log ends.
            listed_now = begun.is_end;
            if listed_now && begun.newest == self.state.snapshot().seq {
                self.state.verified(begun.start);
            }
            Ok::<_, Trouble>(Listed {
                newest: begun.newest,
                is_end: begun.is_end,
                at_once: begun.at_once,
                entry_bytes: begun.entry_bytes,
            })
        };
        let listed = *self.state.listed.get_or_try_init(list).await?;
        Ok((listed, listed_now))
    }

    /// The newest entry of a listing, up to which it has no gap after `from`. What is older may be there or not.
    ///
    /// A listing without order may miss an entry that was created while it ran, and yet have a
    /// later one. What it misses for another reason is not there. Costs a GET then.
    pub async fn contiguous(&self, listing: &[(Seq, u64)], from: Seq) -> Result<Result<Begun, BrokenChain>, Trouble> {
        let after = || listing.iter().filter(|(seq, _)| *seq > from);
        let largest = after().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let last = listing.last().map_or(Seq::ZERO, |(seq, _)| *seq);
        if last < from {
            // The newest entry is never collected.
            let why = "a manifest holds it, and the log ends before it";
            return Ok(Err(BrokenChain { seq: from, why }));
        }
        let begun = |newest: Seq| Begun {
            newest,
            is_end: newest == last,
            at_once: self.state.at_once(largest),
            entry_bytes: after().map(|(_, bytes)| *bytes).sum::<u64>() / (after().count() as u64).max(1),
            start: self.state.now(),
        };
        let Err(broken) = check_contiguous(after().map(|(seq, _)| *seq), from) else {
            return Ok(Ok(begun(last)));
        };
        if broken.seq == FIRST {
            // What is found there now may be the first entry of somebody who took the log for empty, after its own was
            // collected. A listing that begins later says what it is.
            return Ok(Err(broken));
        }
        let found = self.state.log.get(broken.seq).await;
        Ok(match found.map_err(|e| self.state.unreadable(broken.seq, e))? {
            Some(_) => Ok(begun(Seq(broken.seq.0 - 1))),
            None => Err(broken),
        })
    }

    /// Whether a log that seems to begin with its first entry begins elsewhere; then the state is that of the newest
    /// manifest. A node that guessed that the log is empty, and wrote, must know before it believes what it wrote.
    ///
    /// Costs two GETs when there are several entries and no manifest is known, else nothing.
    pub async fn begins_elsewhere(&self, listed: Listed) -> Result<bool, Trouble> {
        let state = &self.state;
        let is_alone = listed.is_end && listed.newest <= FIRST;
        if is_alone || state.snapshot().generation > Gen::ZERO {
            return Ok(false);
        }
        let first = join_all([FIRST, FIRST.next()].map(|seq| state.log.get(seq))).await;
        match first.iter().any(Result::is_err) {
            // Damaged or not, it is read again, and then said.
            true => Err(Trouble::Unavailable(Arc::new(FirstUnread))),
            false => Ok(is_stray(&first) && self.find_beginning().await?),
        }
    }

    /// Makes sure that the manifest in use is one of the newest: what a hint named may be long gone. Costs a LIST and a
    /// GET the first time, then a GET after half the grace.
    pub async fn prove_index(&self) -> Result<(), Trouble> {
        let state = &self.state;
        let proven = state.index_proven.load(std::sync::atomic::Ordering::Relaxed);
        match proven && state.index_age() <= state.options.grace / 2 {
            true => Ok(()),
            false => self.look_for_manifest(Pace::Now).await,
        }
    }

    /// Begins with the newest manifest, because the first entry is not that of the log. False when there is none.
    async fn find_beginning(&self) -> Result<bool, Trouble> {
        let Some((manifest, _)) = self.state.manifests.listed().await? else {
            return Ok(false);
        };
        let opened = manifests::open(&self.state, &manifest).await?;
        self.take_over(opened).await?;
        Ok(true)
    }

    /// An entry that was listed is not there: it was collected, if this node was away for long, or began with a manifest
    /// that was succeeded long ago. Costs a LIST and a GET unless it was away.
    async fn vanished(&self, seq: Seq) -> Trouble {
        if self.state.is_stale() {
            return Trouble::Stale;
        }
        match manifests::is_covered(&self.state, seq).await {
            Ok(true) => Trouble::Stale,
            Ok(false) => self.state.set_broken(BrokenChain {
                seq,
                why: "it was listed and is not there",
            }),
            Err(trouble) => trouble,
        }
    }

    /// The slot after the newest applied entry was found empty by a request that began at `start`.
    async fn end_reached(&self, start: Moment) -> Result<Seq, Trouble> {
        if self.state.is_stale() {
            // The slot may be empty because it was used and collected while this node slept.
            return self.look_again().await;
        }
        self.state.verified(start);
        Ok(self.state.snapshot().seq)
    }

    /// Proves by a listing that the newest applied entry is still the end of the log.
    async fn look_again(&self) -> Result<Seq, Trouble> {
        let start = self.state.now();
        let newest = self.state.log.list().await.map_err(unavailable)?.last().copied();
        let known = self.state.snapshot().seq;
        if newest.map_or(Seq::ZERO, |(seq, _)| seq) != known {
            return Err(Trouble::Stale);
        }
        self.state.verified(start);
        Ok(known)
    }

    /// Makes sure that the knowledge of this node is young enough to write on.
    pub async fn refresh_if_stale(&self) -> Result<(), Trouble> {
        match self.state.is_stale() {
            true => self.look_again().await.map(drop),
            false => Ok(()),
        }
    }
}

/// What was read of the log while catching up.
#[derive(Default)]
struct Read {
    /// Since somebody looked whether it is in segments.
    entries: u64,
    bytes: u64,
    /// Bytes of the largest entry, without its blobs, which are read one after the other.
    largest: u64,
}

impl Read {
    fn count(&mut self, logged: &Logged) {
        self.entries += 1;
        self.bytes += logged.bytes;
        let own = logged.bytes.saturating_sub(logged.entry.staged_bytes());
        self.largest = self.largest.max(own);
    }
}

pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Trouble {
    Trouble::Unavailable(Arc::new(error))
}

/// The first entry of a log.
const FIRST: Seq = Seq(1);

/// The first entries were not read.
#[derive(Debug, thiserror::Error)]
#[error("the first entries of the log cannot be read")]
struct FirstUnread;

/// Whether a first entry was created after the log's own was collected, by a node that guessed that the log was
/// empty: the second does not continue it.
fn is_stray(fetched: &[Result<Option<Logged>, LogError>]) -> bool {
    match fetched {
        [Ok(Some(first)), Ok(Some(second)), ..] => second.entry.prev_digest != first.digest,
        _ => false,
    }
}

/// The entries after `from` have no gaps.
fn check_contiguous(entries: impl Iterator<Item = Seq>, from: Seq) -> Result<(), BrokenChain> {
    let mut expected = from.next();
    for found in entries {
        if found != expected {
            return Err(BrokenChain {
                seq: expected,
                why: "it is missing although later ones exist",
            });
        }
        expected = expected.next();
    }
    Ok(())
}

/// Somebody who wants to know the end of the log.
pub(super) type ProbeReply = oneshot::Sender<Result<Seq, Trouble>>;

/// Answers everybody who asks with probes that begin after they asked. Ends when the inbox closes.
pub(super) async fn run_prober(follower: Follower, mut inbox: mpsc::Receiver<ProbeReply>) {
    while let Some(first) = inbox.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = inbox.try_recv() {
            waiting.push(next);
        }
        let result = Box::pin(follower.catch_up()).await;
        follower.look_behind();
        for reply in waiting {
            let _ = reply.send(result.clone());
        }
    }
}
