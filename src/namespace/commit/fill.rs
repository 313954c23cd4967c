//! Fills a slot of the log: who gets it, and what is known of that.

use std::sync::Arc;

use super::super::follow::{Promoted, unavailable};
use super::super::state::{Moment, Trouble};
use super::{CommitLoop, Filled, Sealed, Slot, is_same};
use crate::snapshot::{Snapshot, Wanted, promote};
use crate::store::StoreError;
use crate::wal::{Append, LogError, Logged};

impl CommitLoop {
    /// Tries to make `sealed` the owner of its slot until that is decided or the deadline passes.
    ///
    /// What applying it needs of segments is read at the same time.
    pub(super) async fn fill(&self, sealed: &Sealed, base: &Arc<Snapshot>, began: Moment) -> Slot {
        let mut ready = None;
        let outcome = {
            let read = async { ready = self.promote(sealed, base).await };
            let (outcome, ()) = tokio::join!(self.fill_slot(sealed, base, began), read);
            outcome
        };
        match outcome {
            Filled::Won(start) => self.won(sealed, start, ready).await,
            Filled::Decided(slot) => slot,
        }
    }

    /// A state that is ready for the entry. `None` when that needs no reading, or could not be read: then it is tried
    /// again when the entry is applied.
    async fn promote(&self, sealed: &Sealed, base: &Arc<Snapshot>) -> Option<Promoted> {
        if base.segments.is_empty() {
            return None;
        }
        let wanted = Wanted::by(&sealed.logged.entry);
        let ready = promote(base, wanted, &self.follower.state.runtime.cpu).await;
        let ready = ready.inspect_err(|error| tracing::debug!(%error, "stored rows of an entry were not read ahead"));
        Some(Promoted {
            base: base.clone(),
            ready: ready.ok()?,
        })
    }

    async fn fill_slot(&self, sealed: &Sealed, base: &Snapshot, began: Moment) -> Filled {
        let state = &self.follower.state;
        let seq = sealed.logged.entry.seq;
        let mut tried = false;
        for attempt in 0.. {
            if tried {
                if self.overdue(began) {
                    return Slot::Unknown.into();
                }
                self.pause_after(attempt).await;
            }
            // Rule 3, before sending; rule 4: what was sent once is never sent again when stale.
            if state.is_stale() {
                return match tried {
                    true => Slot::Unknown.into(),
                    false => Slot::NotWritten(Trouble::Stale).into(),
                };
            }
            let start = state.now();
            // The first time, beside a listing: a node begins with the guess that the log is empty,
            // and its first entry counts only if the log does not begin elsewhere.
            let append = state.log.append(seq, sealed.bytes.clone());
            let (sent, proven) = tokio::join!(append, self.follower.prove());
            let elsewhere = match proven {
                // A guess that the log is empty.
                Ok((listed, _)) if base.namespace.is_none() => self.follower.begins_elsewhere(listed).await,
                Ok(_) => Ok(false),
                Err(trouble) => Err(trouble),
            };
            match elsewhere {
                Ok(false) => {}
                // The slot lies before what the log begins with now: nobody ever looks there.
                Ok(true) => return Slot::Lost.into(),
                Err(trouble) => {
                    return match (trouble, &sent) {
                        // In a log that begins elsewhere, nothing at this number is ever seen.
                        (Trouble::Broken(broken), _) => Slot::NotWritten(Trouble::Broken(broken)).into(),
                        (trouble, Append::Refused(_)) if !tried => Slot::NotWritten(trouble).into(),
                        _ => Slot::Unknown.into(),
                    };
                }
            }
            if let Some(decided) = self.guessed_wrong(sealed, base) {
                return decided.into();
            }
            // Rule 3, after the answer: a success of a node that was suspended meanwhile may be
            // a slot that was used and collected long ago.
            if state.is_stale() {
                return Slot::Unknown.into();
            }
            match sent {
                Append::Created => return Filled::Won(start),
                Append::Refused(error) if !tried => return self.refused(sealed, start, error).await,
                Append::Taken | Append::Ambiguous(_) | Append::Refused(_) => {}
            }
            tried = true;
            if let Some(decided) = self.owner(sealed, start, began).await {
                return decided;
            }
        }
        unreachable!("the loop ends by the deadline")
    }

    /// A node begins with the guess that the log is empty. When it was not, and its first entries are in segments and
    /// collected, the slot was free and is behind the log's beginning.
    fn guessed_wrong(&self, sealed: &Sealed, base: &Snapshot) -> Option<Slot> {
        let now = self.follower.state.snapshot();
        if base.namespace.is_some() || now.indexed_seq < sealed.logged.entry.seq {
            return None;
        }
        // The identity was drawn with the entry, so that a log that has it began with it.
        Some(match now.namespace == Some(sealed.logged.entry.namespace) {
            true => Slot::Ours,
            false => Slot::Lost,
        })
    }

    /// Rules 1 and 2: reads who owns the slot. `None` when it is still empty.
    async fn owner(&self, sealed: &Sealed, start: Moment, began: Moment) -> Option<Filled> {
        let state = &self.follower.state;
        let ours = &sealed.logged.entry;
        for attempt in 1.. {
            let error = match state.log.get(ours.seq).await {
                Ok(None) => return None,
                Ok(Some(found)) => return Some(self.owned_by(found, sealed, start).await),
                Err(LogError::Store(error)) => error,
                Err(damaged) => {
                    return Some(Filled::Decided(match state.unreadable(ours.seq, damaged) {
                        // Whole, and nothing that this node has written: the slot is taken.
                        newer @ Trouble::Newer(_) => Slot::NotWritten(newer),
                        _ => Slot::Unknown,
                    }));
                }
            };
            tracing::warn!(namespace = %state.name, seq = %ours.seq, %error, "cannot read a contested slot");
            if self.overdue(began) {
                return Some(Slot::Unknown.into());
            }
            self.pause_after(attempt).await;
        }
        unreachable!("the loop ends by the deadline")
    }

    /// What it means that `found` is in the slot.
    async fn owned_by(&self, found: Logged, sealed: &Sealed, start: Moment) -> Filled {
        if is_same(&found.entry, &sealed.logged.entry) {
            // Rule 3 holds for a success that is read back, too.
            return match self.follower.state.is_stale() {
                true => Slot::Unknown.into(),
                false => Filled::Won(start),
            };
        }
        // A rival's, or an older batch of our own whose outcome was unknown: either way it is
        // committed, this batch is not in the slot, and comes after it.
        Filled::Decided(match self.follower.absorb_whole(found).await {
            Ok(_) => Slot::Lost,
            // The log is broken: whether our entry was overwritten is not known.
            Err(Trouble::Broken(_)) => Slot::Unknown,
            Err(trouble) => Slot::NotWritten(trouble),
        })
    }

    /// The store refused the first attempt. A disk that was full at the very end may have kept
    /// the entry all the same, so look before saying no.
    async fn refused(&self, sealed: &Sealed, start: Moment, error: StoreError) -> Filled {
        match self.follower.state.log.get(sealed.logged.entry.seq).await {
            Ok(Some(found)) if is_same(&found.entry, &sealed.logged.entry) => self.owned_by(found, sealed, start).await,
            _ => Slot::NotWritten(unavailable(error)).into(),
        }
    }

    async fn won(&self, sealed: &Sealed, start: Moment, ready: Option<Promoted>) -> Slot {
        let state = &self.follower.state;
        match self.follower.absorb(sealed.logged.clone(), ready).await {
            Ok(_) => {
                state.verified(start);
                Slot::Ours
            }
            // It is durable, and what it did is known. Whoever reads, or writes the next entry, finds it in the log and
            // applies it first.
            Err(trouble @ (Trouble::Unavailable(_) | Trouble::Damaged(_) | Trouble::Newer(_))) => {
                tracing::warn!(namespace = %state.name, ?trouble, "an entry is durable and could not be applied yet");
                Slot::Ours
            }
            Err(_) => Slot::Unknown,
        }
    }
}
