//! Once an hour: expired keys that want to go, and what broke off.

use std::collections::HashSet;
use std::time::Duration;

use futures::TryStreamExt;

use super::hex_digest;
use crate::control::audit::Event;
use crate::control::{Control, GRACE};
use crate::error::Result;
use crate::model::OrgId;
use crate::store::paths::control as paths;
use crate::store::paths::parse_record_revision;
use crate::store::record::RecordError;

/// How often, on average, each node looks.
const INTERVAL: Duration = Duration::from_secs(3600);

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Keys that expired and had `autodelete`.
    pub expired: u64,
    /// Records whose creation or deletion broke off.
    pub left_behind: u64,
    /// Markers of keys that are no more.
    pub markers: u64,
    /// Revisions of what is remembered of requests with idempotency keys.
    pub mints: u64,
}

impl Control {
    /// Sweeps about every hour until `stop` resolves.
    pub async fn sweep_keys_until(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = stop.as_mut() => return,
                // Nodes that start together do not sweep together.
                () = tokio::time::sleep(self.runtime().rng.jitter(INTERVAL)) => {}
            }
            match self.sweep_keys().await {
                Ok(swept) if swept != Swept::default() => tracing::info!(?swept, "API keys were swept"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "API keys were not swept"),
            }
        }
    }

    /// Sweeps once. Any number of nodes may at the same time.
    ///
    /// Costs one LIST per thousand keys there ever were, in all organizations together three times, one GET for each
    /// key, and a deletion for each that goes.
    pub async fn sweep_keys(&self) -> Result<Swept> {
        let now = self.now();
        let mut swept = Swept::default();
        let mut alive = HashSet::new();
        for org in self.organization_ids().await? {
            swept.mints += self.forget_mints(&org).await?;
            let keys = self.keys(&org).await?;
            if keys.is_empty() {
                continue;
            }
            // Listed after the keys: what was claimed since is younger than anything that is looked at.
            let claimed = self.claimed_digests().await?;
            for (id, record) in keys {
                if record.autodelete && record.is_expired(now) {
                    if self.delete_key(&org, id).await? {
                        swept.expired += 1;
                        self.audit_expired(&org, id, &record.prefix).await?;
                    }
                } else if !claimed.contains(&record.sha256) && now.saturating_sub(record.created_at) > GRACE.as_secs() {
                    self.bury(&org, id, &record).await?;
                    swept.left_behind += 1;
                } else {
                    alive.insert((org.clone(), id));
                }
            }
        }
        let store = self.records().store().clone();
        let markers: Vec<_> = store
            .list(&paths::key_prefixes(), None)
            .try_collect()
            .await
            .map_err(RecordError::from)?;
        for marker in markers {
            let Some((_, org, id)) = paths::parse_key_prefix_marker(&marker.location) else {
                continue;
            };
            // A key that was made since is there: its record comes before its marker.
            if !alive.contains(&(org.clone(), id)) && self.key(&org, id).await?.is_none() {
                store.delete(&marker.location).await.map_err(RecordError::from)?;
                swept.markers += 1;
            }
        }
        Ok(swept)
    }

    /// The digests that some key has, in hexadecimal.
    async fn claimed_digests(&self) -> Result<HashSet<String>> {
        let newest = self.records().list(&paths::key_digests()).await?;
        // Odd revisions are claimed, even ones released.
        let claimed = newest
            .iter()
            .filter(|key| parse_record_revision(key).is_some_and(|n| n % 2 == 1));
        Ok(claimed.filter_map(hex_digest).collect())
    }

    async fn audit_expired(&self, org: &OrgId, id: u64, prefix: &str) -> Result<()> {
        self.audit(Event {
            code: "key-expired",
            org: org.clone(),
            actor: "sweep".into(),
            author: None,
            ip: None,
            target: id.to_string(),
            data: serde_json::json!({ "prefix": prefix }),
        })
        .await
    }
}
