//! States of the past: what a namespace was at some time, as long as manifests and log are kept.
//!
//! A manifest is the state at one of its entries, and garbage collection keeps every manifest that was the newest at some
//! time within the retention, with the entries after it. So the state at a time is the newest manifest whose clock is not
//! later, and the entries after it up to that time. It can be of a namespace that has been deleted since.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::commit::Failure;
use super::copy::{CopyFrom, CopyOutcome, Progress};
use super::evaluate::not_found;
use super::manifests::{self, NotApplied};
use super::state::{State, Trouble};
use crate::base::clock::wall_ms;
use crate::error::{Error, Result};
use crate::manifest::{Gen, Manifest};
use crate::model::access::Access;
use crate::model::{NamespaceName, OrgId, Seq};
use crate::snapshot::Snapshot;
use crate::wal::LogError;

impl Engine {
    /// Copies or branches a namespace as it was at a time, whether or not it exists now; a deleted one also onto itself.
    ///
    /// * `at_ms` — milliseconds since the epoch
    ///
    /// Costs what [`copy`](Self::copy) costs, a LIST of the manifests, a GET for each of about log2 of them, and one for
    /// each entry between the one that is used and `at_ms`.
    ///
    /// # Errors
    ///
    /// As `copy`; 404 when it did not exist then; 400 when what it was then is not kept any more, or not known yet.
    pub async fn restore(
        &self,
        org: &OrgId,
        name: &NamespaceName,
        from: &CopyFrom,
        at_ms: u64,
        progress: &Progress,
    ) -> Result<CopyOutcome> {
        self.copy_at(org, name, from, Some(at_ms), progress).await
    }

    /// The state of a namespace at a time.
    pub(super) async fn past(&self, org: &OrgId, name: &NamespaceName, at_ms: u64) -> Result<Arc<Snapshot>> {
        self.check_now(org, name, Access::Read).await?;
        self.check_kept(at_ms)?;
        let found = self
            .with_namespace(org, name, |handle| async move {
                handle.probe().await?;
                Ok::<_, Failure>(state_at(handle.state(), at_ms).await?)
            })
            .await?;
        match found {
            Some(snapshot) if snapshot.exists() => Ok(Arc::new(snapshot)),
            Some(_) => Err(not_found(name)),
            None => Err(not_kept(self.kept())),
        }
    }

    /// For how long states of the past can be had.
    fn kept(&self) -> Duration {
        // Half of the grace time is left for whoever works on what is found.
        self.inner.options.retention.max(self.inner.options.grace / 2)
    }

    /// That states of a time are kept. Costs nothing.
    ///
    /// # Errors
    ///
    /// 400.
    pub fn check_kept(&self, at_ms: u64) -> Result<()> {
        let now_ms = wall_ms(self.inner.runtime.clock.as_ref());
        if at_ms > now_ms {
            return Err(Error::invalid("the time of the state that is wanted is in the future"));
        }
        match u128::from(now_ms - at_ms) <= self.kept().as_millis() {
            true => Ok(()),
            false => Err(not_kept(self.kept())),
        }
    }
}

fn not_kept(kept: Duration) -> Error {
    let hours = kept.as_secs() / 3600;
    Error::invalid(format!(
        "the state of that time is not kept: states of the past are kept for {hours} hours"
    ))
}

/// The state after the last entry whose clock is not after `at_ms`; `None` when it is not kept.
async fn state_at(state: &State, at_ms: u64) -> Result<Option<Snapshot>, Trouble> {
    let end = state.snapshot().seq;
    let mut snapshot = match newest_until(state, at_ms).await? {
        Some(manifest) => match manifests::open(state, &manifest).await {
            Ok(opened) => opened,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        None => Snapshot::empty(),
    };
    while snapshot.seq < end {
        let seq = snapshot.seq.next();
        let loaded = match state.kept(seq) {
            Some(kept) => Some(kept),
            None => match state.log.load(seq).await {
                Ok(loaded) => loaded.map(Arc::new),
                Err(error) => return past_unreadable(state, seq, error).await,
            },
        };
        let Some(logged) = loaded else { return Ok(None) };
        if logged.entry.hlc_ms > at_ms {
            break;
        }
        snapshot = match manifests::advance(state, &snapshot, &logged, None).await {
            Ok(next) => next,
            Err(NotApplied::Missing(_)) => return Ok(None),
            Err(NotApplied::Trouble(trouble)) => return Err(trouble),
        };
    }
    Ok(Some(snapshot))
}

/// What it means that an entry of the past cannot be read: for the present nothing, if that does not need the entry.
async fn past_unreadable(state: &State, seq: Seq, error: LogError) -> Result<Option<Snapshot>, Trouble> {
    match error {
        LogError::Damaged { .. } if manifests::is_covered(state, seq).await? => Err(Trouble::Damaged(Arc::new(error))),
        error => match manifests::unreadable(state, seq, error).await {
            // Collected.
            Trouble::Stale => Ok(None),
            trouble => Err(trouble),
        },
    }
}

/// The newest manifest whose clock is not after `at_ms`: their clocks never fall.
async fn newest_until(state: &State, at_ms: u64) -> Result<Option<Manifest>, Trouble> {
    let mut generations: Vec<Gen> = state.manifests.list().await?.into_iter().map(|(g, _)| g).collect();
    generations.sort_unstable();
    let (mut low, mut high, mut found) = (0, generations.len(), None);
    while low < high {
        let middle = low + (high - low) / 2;
        match state.manifests.get(generations[middle]).await? {
            // It was collected meanwhile: so were those before it.
            None => low = middle + 1,
            Some((manifest, _)) if manifest.hlc_ms <= at_ms => {
                found = Some(manifest);
                low = middle + 1;
            }
            Some(_) => high = middle,
        }
    }
    Ok(found)
}
