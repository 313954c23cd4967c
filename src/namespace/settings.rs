//! Settings: their changes, and what they forbid.

use super::commit::Failure;
use super::evaluate::{What, not_found};
use super::{Engine, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NamespaceName, OrgId, Settings, SettingsChange};

impl Engine {
    /// Commits a change of settings and returns what is known of the namespace after it.
    ///
    /// Costs one PUT, or one GET when nothing changes.
    ///
    /// # Errors
    ///
    /// 404 without the namespace, 400 when a setting is out of bounds.
    pub async fn update_settings(&self, org: &OrgId, name: &NamespaceName, change: SettingsChange) -> Result<Metadata> {
        change.check()?;
        self.commit_and_describe(org, name, What::Settings(change)).await
    }

    /// Commits a change and returns what is known of the namespace after it.
    pub(super) async fn commit_and_describe(&self, org: &OrgId, name: &NamespaceName, what: What) -> Result<Metadata> {
        let change = self.change(what);
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

/// Fails when the namespace may not be deleted.
pub(super) fn check_deletable(settings: &Settings, name: &NamespaceName) -> Result<()> {
    match settings.delete_protection {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::Conflict,
            format!("namespace '{name}' is protected from deletion: set delete_protection to false first"),
        )
        .coded("delete_protected")),
    }
}

/// Fails when a namespace would outgrow its `size_limit`.
///
/// * `has` — bytes as metadata count them: [`Snapshot::stored_bytes`](crate::snapshot::Snapshot::stored_bytes)
/// * `adds` — logical bytes of a write; stored, they are mostly fewer
///
/// # Errors
///
/// 402.
pub(super) fn check_size(settings: &Settings, name: &NamespaceName, has: u64, adds: u64) -> Result<()> {
    match settings.size_limit {
        Some(limit) if has >= limit || has.saturating_add(adds) > limit => Err(Error::new(
            ErrorKind::QuotaExceeded,
            format!(
                "namespace '{name}' has {has} bytes, and this write of {adds} would take it beyond its size_limit of \
                 {limit}; raise the limit, or delete the namespace"
            ),
        )
        .coded("quota_size_limit")),
        _ => Ok(()),
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

/// The part of `change` that changes something, as it is logged: a rotation is the number that it comes to,
/// so that an entry says the same whoever applies it, however often.
pub(super) fn effective(change: &SettingsChange, settings: &Settings) -> SettingsChange {
    let networks = change.allowed_ips.as_ref();
    SettingsChange {
        read_only: change.read_only.filter(|r| *r != settings.read_only),
        pinned_replicas: change.pinned_replicas.filter(|p| *p != settings.pinned_replicas),
        group: change.group.filter(|g| *g != settings.group),
        rotate_tokens: false,
        token_gen: change.rotate_tokens.then(|| settings.token_gen.saturating_add(1)),
        block_reads: change.block_reads.filter(|b| *b != settings.block_reads),
        block_writes: change.block_writes.filter(|b| *b != settings.block_writes),
        delete_protection: change.delete_protection.filter(|p| *p != settings.delete_protection),
        allow_attach: change.allow_attach.filter(|a| *a != settings.allow_attach),
        size_limit: change.size_limit.filter(|l| *l != settings.size_limit),
        allowed_ips: networks.filter(|n| **n != settings.allowed_ips).cloned(),
        num_shards: change.num_shards,
        parent: change.parent.clone(),
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
        let all = SettingsChange {
            group: Some(Some(uuid::Uuid::nil())),
            block_reads: Some(true),
            block_writes: Some(true),
            delete_protection: Some(true),
            allow_attach: Some(true),
            size_limit: Some(Some(5)),
            allowed_ips: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
            ..SettingsChange::default()
        };
        assert_eq!(effective(&all, &settings), all);
        let mut after = settings.clone();
        after.apply(&all);
        assert!(effective(&all, &after).is_empty());
    }

    #[test]
    fn a_rotation_is_logged_as_the_number_it_comes_to() {
        let mut settings = Settings::default();
        let rotate = SettingsChange {
            rotate_tokens: true,
            // Nobody may go back to a generation that was revoked.
            token_gen: Some(0),
            ..SettingsChange::default()
        };
        for generation in 1..4 {
            let logged = effective(&rotate, &settings);
            assert_eq!((logged.rotate_tokens, logged.token_gen), (false, Some(generation)));
            settings.apply(&logged);
            assert_eq!(settings.token_gen, generation);
        }
        let set = SettingsChange {
            token_gen: Some(0),
            ..SettingsChange::default()
        };
        assert!(effective(&set, &settings).is_empty());
    }

    #[test]
    fn a_namespace_grows_up_to_its_limit() {
        let name = NamespaceName::parse("ns").expect("a valid name");
        let limited = Settings {
            size_limit: Some(100),
            ..Settings::default()
        };
        for (has, adds, fits) in [
            (0, 100, true),
            (0, 101, false),
            (99, 1, true),
            (99, 2, false),
            (100, 0, false),
        ] {
            let checked = check_size(&limited, &name, has, adds);
            assert_eq!(checked.is_ok(), fits, "{has} and {adds}");
            if let Err(e) = checked {
                assert_eq!((e.kind, e.code), (ErrorKind::QuotaExceeded, Some("quota_size_limit")));
            }
            assert!(check_size(&Settings::default(), &name, has, adds).is_ok());
        }
        assert!(check_size(&limited, &name, u64::MAX, u64::MAX).is_err());
    }
}
