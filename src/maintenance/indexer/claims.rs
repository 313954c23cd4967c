//! Which large jobs this node has taken for itself.

use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use futures::StreamExt;

use super::{IndexError, Indexer, MERGES, Slot};
use crate::base::clock::wall_ms;
use crate::maintenance::Job;
use crate::maintenance::lease::{self, Taken};
use crate::store::StoreError;
use crate::store::paths::NsKey;

/// How long a node that stops waits for its leases to be given back.
const GIVING_BACK_MAX: Duration = Duration::from_secs(5);
/// Leases that are given back at the same time.
const GIVEN_BACK_AT_ONCE: usize = 16;

impl Indexer {
    /// Whether another node has taken jobs of a role for itself, and for how much longer. `None` when this node may do
    /// them: it has the lease now, or the job is on so few bytes that it needs none. Costs nothing while the lease is held.
    pub(super) async fn leased(
        &self,
        job: &Job,
        slot: &Slot,
        role: &'static str,
        bytes: u64,
    ) -> Result<Option<Duration>, IndexError> {
        let options = self.options();
        let held = slot.known().leases.get(role).copied();
        if bytes < options.lease_bytes_min || held.is_some_and(|h| h.covers(job.now_ms(), options.lease / 4)) {
            return Ok(None);
        }
        Ok(match self.take(job, slot, role).await? {
            Taken::Ours(_) => None,
            Taken::Elsewhere { expires_ms } => Some(Duration::from_millis(expires_ms.saturating_sub(job.now_ms()))),
        })
    }

    /// Takes a lease that this node has for longer and longer. Nothing is known of how long a merge will take; and that
    /// of a node that was killed is not to stand in the way of others for long.
    pub(super) async fn hold(&self, job: &Job, slot: &Slot, role: &'static str) -> Infallible {
        loop {
            tokio::time::sleep(self.options().lease / 2).await;
            let is_held = slot.known().leases.contains_key(role);
            // Should another node have it now, what is nearly done is done twice.
            if is_held && let Err(error) = self.take(job, slot, role).await {
                tracing::debug!(namespace = %job.ns().namespace(), role, %error, "a lease was not taken for longer");
            }
        }
    }

    async fn take(&self, job: &Job, slot: &Slot, role: &'static str) -> Result<Taken, StoreError> {
        let workshop = &self.inner.workshop;
        let span = workshop.options.lease;
        let taken = lease::take(&workshop.store, job.ns(), role, workshop.writer, job.now_ms(), span).await?;
        let leases = &mut slot.known().leases;
        match taken {
            Taken::Ours(lease) => leases.insert(role, lease),
            Taken::Elsewhere { .. } => leases.remove(role),
        };
        Ok(taken)
    }

    /// Gives back the lease of merges, if this node has it.
    pub(super) async fn give_back(&self, job: &Job, slot: &Slot) {
        let held = slot.known().leases.remove(MERGES);
        // One that ran out may be another node's by now, under the same number.
        if let Some(lease) = held.filter(|held| held.covers(job.now_ms(), Duration::ZERO))
            && let Err(error) = lease::give_back(&self.inner.workshop.store, job.ns(), MERGES, lease).await
        {
            tracing::debug!(namespace = %job.ns().namespace(), %error, "a lease was not given back, and runs out");
        }
    }

    /// Gives back all leases: a node that stops does not keep others waiting, be it the same one after its restart. Costs
    /// a DELETE each, and some seconds at most. No job may begin any more.
    pub(in crate::maintenance) async fn give_back_all(&self) {
        let slots: Vec<_> = {
            let slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.iter().map(|(name, slot)| (name.clone(), slot.clone())).collect()
        };
        let store = &self.inner.workshop.store;
        let now_ms = wall_ms(self.inner.workshop.runtime.clock.as_ref());
        let mut held = Vec::new();
        for ((org, name), slot) in slots {
            let ns = NsKey::new(org, name);
            let leases = std::mem::take(&mut slot.known().leases);
            let leases = leases
                .into_iter()
                .filter(|(_, lease)| lease.covers(now_ms, Duration::ZERO));
            held.extend(leases.map(|(role, lease)| (ns.clone(), role, lease)));
        }
        let all = futures::stream::iter(held).for_each_concurrent(GIVEN_BACK_AT_ONCE, |(ns, role, lease)| async move {
            if let Err(error) = lease::give_back(store, &ns, role, lease).await {
                tracing::debug!(namespace = %ns.namespace(), role, %error, "a lease was not given back, and runs out");
            }
        });
        if tokio::time::timeout(GIVING_BACK_MAX, all).await.is_err() {
            tracing::debug!("not all leases were given back; they run out");
        }
    }
}
