//! Changes of settings as messages.

use super::{DecodeError, proto};
use crate::model::settings::{REPLICAS_MAX, SHARDS_MAX};
use crate::model::{NamespaceName, SettingsChange};

/// A change of settings as a message.
pub(super) fn change_to_proto(change: &SettingsChange) -> proto::SettingsChange {
    proto::SettingsChange {
        read_only: change.read_only,
        pinned_replicas: change.pinned_replicas.map(|replicas| replicas.unwrap_or(0)),
        num_shards: change.num_shards,
        branch_parent: change.parent.as_ref().map(|parent| parent.as_str().to_owned()),
    }
}

/// The change of settings of a message.
///
/// # Errors
///
/// [`DecodeError::Corrupt`] on values that no version writes.
pub(super) fn change_from_proto(change: &proto::SettingsChange) -> Result<SettingsChange, DecodeError> {
    let parent = change.branch_parent.as_deref().map(NamespaceName::parse);
    let parent = parent
        .transpose()
        .map_err(|_| DecodeError::corrupt("the parent of a branch has no valid name"))?;
    if change.pinned_replicas.is_some_and(|n| n > REPLICAS_MAX) {
        return Err(DecodeError::corrupt("a namespace is pinned with too many replicas"));
    }
    if change.num_shards.is_some_and(|n| !(1..=SHARDS_MAX).contains(&n)) {
        return Err(DecodeError::corrupt("a namespace has no shards, or too many"));
    }
    Ok(SettingsChange {
        read_only: change.read_only,
        pinned_replicas: change.pinned_replicas.map(|n| Some(n).filter(|n| *n > 0)),
        num_shards: change.num_shards,
        parent,
    })
}
