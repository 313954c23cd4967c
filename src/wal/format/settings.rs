//! Changes of settings as messages.

use bytes::Bytes;
use ipnet::IpNet;
use uuid::Uuid;

use super::{DecodeError, proto};
use crate::model::settings::{ALLOWED_IPS_MAX, REPLICAS_MAX, SHARDS_MAX};
use crate::model::{NamespaceName, SettingsChange};

/// A change of settings as a message.
pub fn change_to_proto(change: &SettingsChange) -> proto::SettingsChange {
    proto::SettingsChange {
        read_only: change.read_only,
        pinned_replicas: change.pinned_replicas.map(|replicas| replicas.unwrap_or(0)),
        num_shards: change.num_shards,
        branch_parent: change.parent.as_ref().map(|parent| parent.as_str().to_owned()),
        group: change.group.map(group_to_proto),
        token_gen: change.token_gen,
        block_reads: change.block_reads,
        block_writes: change.block_writes,
        delete_protection: change.delete_protection,
        allow_attach: change.allow_attach,
        size_limit: change.size_limit.map(|bytes| bytes.unwrap_or(0)),
        allowed_ips: change.allowed_ips.as_ref().map(|networks| proto::Networks {
            networks: networks.iter().map(IpNet::to_string).collect(),
        }),
    }
}

/// The change of settings of a message.
///
/// # Errors
///
/// [`DecodeError::Corrupt`] on values that no version writes.
pub fn change_from_proto(change: &proto::SettingsChange) -> Result<SettingsChange, DecodeError> {
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
        group: change.group.as_deref().map(group_from_proto).transpose()?,
        rotate_tokens: false,
        token_gen: change.token_gen,
        block_reads: change.block_reads,
        block_writes: change.block_writes,
        delete_protection: change.delete_protection,
        allow_attach: change.allow_attach,
        size_limit: change.size_limit.map(|bytes| Some(bytes).filter(|b| *b > 0)),
        allowed_ips: change.allowed_ips.as_ref().map(networks_from_proto).transpose()?,
    })
}

fn group_to_proto(group: Option<Uuid>) -> Bytes {
    group.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes()))
}

fn group_from_proto(bytes: &[u8]) -> Result<Option<Uuid>, DecodeError> {
    match bytes {
        [] => Ok(None),
        bytes => Uuid::from_slice(bytes)
            .map(Some)
            .map_err(|_| DecodeError::corrupt("the id of a group has not 16 bytes")),
    }
}

fn networks_from_proto(networks: &proto::Networks) -> Result<Vec<IpNet>, DecodeError> {
    if networks.networks.len() > ALLOWED_IPS_MAX {
        return Err(DecodeError::corrupt("too many networks are allowed"));
    }
    let parsed = networks.networks.iter().map(|network| network.parse());
    parsed
        .collect::<Result<_, _>>()
        .map_err(|_| DecodeError::corrupt("what is allowed is no network"))
}
