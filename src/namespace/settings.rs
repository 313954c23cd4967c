//! Settings: their changes, and what they forbid.

use super::commit::Failure;
use super::evaluate::{Change, not_found};
use super::{Engine, Metadata};
use crate::error::{Error, Result};
use crate::model::{NamespaceName, OrgId, Settings, SettingsChange};
use std::sync::Arc;

impl Engine {
    /// Commits a change of settings and returns what is known of the namespace after it.
    ///
    /// Costs one PUT, or one GET when nothing changes.
    pub async fn update_settings(&self, org: &OrgId, name: &NamespaceName, change: SettingsChange) -> Result<Metadata> {
        let change = Arc::new(Change::Settings(change));
        let snapshot = self
            .with_namespace(org, name, |handle| {
                let change = change.clone();
                async move {
                    handle.commit(change).await?;
                    // The entry is applied before it is answered, so this has it.
                    Ok::<_, Failure>(handle.snapshot())
                }
            })
            .await?;
        // It may have been deleted again since.
        let known = snapshot.incarnation.ok_or_else(|| not_found(name))?;
        Ok(self.describe(&snapshot, known))
    }
}

/// Fails when documents and schema may not be written.
pub(super) fn check_writable(settings: &Settings, name: &NamespaceName) -> Result<()> {
    match settings.read_only {
        false => Ok(()),
        true => Err(Error::invalid(format!(
            "namespace '{name}' is read-only: documents and schema cannot be written until read_only is set to false"
        ))),
    }
}

/// What a write's `sharding` changes: it is fixed when the namespace is created, and may be said
/// again.
///
/// * `given` — the number of shards in the request
/// * `exists` — whether the namespace exists already
///
/// # Errors
///
/// 400 when the namespace exists with another number.
pub(super) fn sharding_of_write(given: Option<u32>, exists: bool, settings: &Settings) -> Result<SettingsChange> {
    let unchanged = SettingsChange::default();
    let Some(shards) = given else {
        return Ok(unchanged);
    };
    match (exists, settings.num_shards.unwrap_or(1)) {
        (false, _) => Ok(SettingsChange {
            num_shards: Some(shards),
            ..unchanged
        }),
        (true, has) if has == shards => Ok(unchanged),
        (true, has) => Err(Error::invalid(format!(
            "sharding can only be set by the first write to a namespace: this one has num_shards {has}, got {shards}"
        ))),
    }
}

/// The part of `change` that changes something.
pub(super) fn effective(change: &SettingsChange, settings: &Settings) -> SettingsChange {
    SettingsChange {
        read_only: change.read_only.filter(|r| *r != settings.read_only),
        pinned_replicas: change.pinned_replicas.filter(|p| *p != settings.pinned_replicas),
        ..change.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharding_is_fixed_by_the_first_write() {
        let none = Settings::default();
        let four = Settings {
            num_shards: Some(4),
            ..Settings::default()
        };
        let set = |shards| SettingsChange {
            num_shards: Some(shards),
            ..SettingsChange::default()
        };
        assert_eq!(sharding_of_write(Some(4), false, &none).expect("first"), set(4));
        assert_eq!(sharding_of_write(Some(1), false, &none).expect("first"), set(1));
        for (given, settings) in [(None, &none), (None, &four), (Some(4), &four), (Some(1), &none)] {
            assert!(sharding_of_write(given, true, settings).expect("the same").is_empty());
        }
        for (given, settings) in [(2, &four), (1, &four), (4, &none)] {
            let e = sharding_of_write(Some(given), true, settings).expect_err("another");
            assert!(e.message.contains("num_shards"), "{e}");
        }
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let settings = Settings {
            read_only: true,
            pinned_replicas: Some(2),
            ..Settings::default()
        };
        let change = |read_only, pinned_replicas| SettingsChange {
            read_only,
            pinned_replicas,
            ..SettingsChange::default()
        };
        assert!(effective(&change(Some(true), Some(Some(2))), &settings).is_empty());
        let differs = change(Some(false), Some(None));
        assert_eq!(effective(&differs, &settings), differs);
        assert_eq!(
            effective(&change(Some(true), Some(Some(3))), &settings),
            change(None, Some(Some(3)))
        );
    }
}
