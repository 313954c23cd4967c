//! Follows the log: applies entries in order, and asks whether there are newer ones.
//!
//! Two tasks per open namespace. The *follower* owns the state: whoever has an entry, the commit
//! loop or a probe, hands it in and gets the snapshot that holds it. The *prober* answers "what
//! is the newest entry?" for everybody who asks at the same time with one GET that is expected to
//! find nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::state::{Listed, Moment, State, Trouble};
use crate::base::Priority;
use crate::model::Seq;
use crate::snapshot::{BrokenChain, Snapshot};
use crate::wal::Logged;

/// Entries fetched at once when the log has run far ahead.
const WINDOW_MAX: u64 = 64;
/// Bytes of entries fetched at once, by the largest entry that was listed.
const WINDOW_BYTES: u64 = 256 * 1024 * 1024;

/// An entry for the follower to apply, and who wants to know.
pub(super) struct Absorb {
    pub logged: Arc<Logged>,
    pub reply: oneshot::Sender<Result<Arc<Snapshot>, Trouble>>,
}

/// Applies entries in order. Ends when the inbox closes.
pub(super) async fn run_follower(state: Arc<State>, mut inbox: mpsc::Receiver<Absorb>) {
    while let Some(absorb) = inbox.recv().await {
        let result = apply(&state, absorb.logged).await;
        // Whoever asked may have gone; the state counts, not the answer.
        let _ = absorb.reply.send(result);
    }
}

async fn apply(state: &Arc<State>, logged: Arc<Logged>) -> Result<Arc<Snapshot>, Trouble> {
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
    let apply = state.runtime.cpu.run(Priority::Foreground, move || {
        base.apply(&logged.entry, logged.digest, logged.bytes)
    });
    // An entry that cannot be applied must not be read and tried again for ever.
    match AssertUnwindSafe(apply).catch_unwind().await {
        Ok(Ok(snapshot)) => Ok(state.publish(snapshot)),
        Ok(Err(broken)) => Err(state.set_broken(broken)),
        Err(_) => Err(state.set_broken(BrokenChain {
            seq,
            why: "applying it failed",
        })),
    }
}

/// How the other tasks reach the follower.
#[derive(Clone)]
pub(super) struct Follower {
    pub state: Arc<State>,
    pub inbox: mpsc::Sender<Absorb>,
}

impl Follower {
    /// Applies an entry, unless it is applied already, and returns a snapshot that holds it.
    pub async fn absorb(&self, logged: Arc<Logged>) -> Result<Arc<Snapshot>, Trouble> {
        let (reply, answer) = oneshot::channel();
        let absorb = Absorb { logged, reply };
        // The follower lives as long as anybody who can send to it; it is gone only when the
        // whole node is being dropped, and then nobody waits for this answer either.
        if self.inbox.send(absorb).await.is_err() {
            return Err(Trouble::Stale);
        }
        answer.await.unwrap_or(Err(Trouble::Stale))
    }

    /// Applies everything that is in the log and returns the position of its end at some moment
    /// after the call.
    ///
    /// Costs one GET when there is nothing new, and one more per new entry. The first time, a LIST
    /// instead of the GET that finds nothing.
    pub async fn catch_up(&self) -> Result<Seq, Trouble> {
        self.state.check()?;
        let began = self.state.now();
        let (Listed { newest, at_once }, listed_now) = self.prove().await?;
        let mut window = 1;
        loop {
            let start = self.state.now();
            let base = self.state.snapshot().seq;
            if listed_now && base >= newest {
                self.state.verified(began);
                return Ok(base);
            }
            let known = newest.0.saturating_sub(base.0);
            let count = known.max(window).min(at_once);
            let wanted: Vec<Seq> = (1..=count).map(|i| Seq(base.0 + i)).collect();
            let fetched = join_all(wanted.iter().map(|seq| self.state.log.get(*seq))).await;
            for (logged, seq) in fetched.into_iter().zip(wanted) {
                match logged.map_err(|e| self.state.unreadable(seq, e))? {
                    Some(logged) => {
                        self.absorb_whole(logged).await?;
                    }
                    None if seq <= newest => return Err(self.vanished(seq)),
                    None => return self.end_reached(start).await,
                }
            }
            if known == 0 {
                window = (window * 2).min(WINDOW_MAX);
            }
        }
    }

    /// Fetches the blobs that an entry names and applies it. One entry's blobs at a time, because
    /// they may be large.
    pub async fn absorb_whole(&self, mut logged: Logged) -> Result<Arc<Snapshot>, Trouble> {
        let resolved = self.state.log.resolve(&mut logged.entry).await;
        resolved.map_err(|e| self.state.unreadable(logged.entry.seq, e))?;
        self.absorb(Arc::new(logged)).await
    }

    /// Makes sure by a listing that this node's state is a state of the log: that the log begins
    /// where it is expected to, without gaps. Returns its newest entry, and whether this very call
    /// listed it as the end.
    ///
    /// Costs one LIST the first time, then nothing.
    pub async fn prove(&self) -> Result<(Listed, bool), Trouble> {
        let mut listed_now = false;
        let list = async || {
            let start = self.state.now();
            let entries = self.state.log.list().await.map_err(unavailable)?;
            let largest = entries.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
            let entries: Vec<Seq> = entries.into_iter().map(|(seq, _)| seq).collect();
            let newest = self.contiguous(&entries).await?;
            // One with a gap proves less than where the log ends.
            listed_now = newest == entries.last().copied().unwrap_or(Seq::ZERO);
            if listed_now && newest == self.state.snapshot().seq {
                self.state.verified(start);
            }
            Ok(Listed {
                newest,
                at_once: (WINDOW_BYTES / largest.max(1)).clamp(1, WINDOW_MAX),
            })
        };
        let listed = *self.state.listed.get_or_try_init(list).await?;
        Ok((listed, listed_now))
    }

    /// The newest entry of a listing, up to which it has no gap.
    ///
    /// A listing without order may miss an entry that was created while it ran, and yet have a
    /// later one. What it misses for another reason is not there.
    async fn contiguous(&self, entries: &[Seq]) -> Result<Seq, Trouble> {
        let Err(broken) = check_contiguous(entries) else {
            return Ok(entries.last().copied().unwrap_or(Seq::ZERO));
        };
        let found = self.state.log.get(broken.seq).await;
        match found.map_err(|e| self.state.unreadable(broken.seq, e))? {
            Some(_) => Ok(Seq(broken.seq.0 - 1)),
            None => Err(self.state.set_broken(broken)),
        }
    }

    /// An entry that was listed is not there: it was collected, if this node was away for long.
    fn vanished(&self, seq: Seq) -> Trouble {
        match self.state.is_stale() {
            true => Trouble::Stale,
            false => self.state.set_broken(BrokenChain {
                seq,
                why: "it was listed and is not there",
            }),
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

pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Trouble {
    Trouble::Unavailable(Arc::new(error))
}

/// Until segments exist, a log begins with its first entry and has no gaps.
fn check_contiguous(entries: &[Seq]) -> Result<(), BrokenChain> {
    let expected = (1..).map(Seq);
    match entries
        .iter()
        .zip(expected)
        .find(|(found, expected)| **found != *expected)
    {
        None => Ok(()),
        Some((_, missing)) => Err(BrokenChain {
            seq: missing,
            why: "it is missing although later ones exist",
        }),
    }
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
        let result = follower.catch_up().await;
        for reply in waiting {
            let _ = reply.send(result.clone());
        }
    }
}
