//! What a credential allows.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::action::ActionSet;
use super::pattern::Patterns;
use crate::model::OrgId;

/// How much a credential may do in a second; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_per_second: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_per_second: Option<u32>,
}

impl RateLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the other is limited at least as much.
    fn covers(&self, other: &Self) -> bool {
        let within = |ours: Option<u32>, theirs: Option<u32>| match (ours, theirs) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs <= ours,
        };
        within(self.queries_per_second, other.queries_per_second)
            && within(self.writes_per_second, other.writes_per_second)
    }
}

/// One link of the chain behind a credential. What is absent is not allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub org: OrgId,
    /// Only the namespaces of this group, and the group itself.
    pub group: Option<Uuid>,
    pub namespaces: Patterns,
    pub actions: ActionSet,
    /// The last second in which it counts, since the epoch; for ever if absent.
    pub not_after: Option<u64>,
    /// Where requests may come from; everywhere if empty.
    pub allowed_ips: Vec<IpNet>,
    pub rate_limits: RateLimits,
}

impl Grant {
    /// These actions in the whole organization, for ever.
    pub fn in_org(org: OrgId, actions: ActionSet) -> Self {
        Self {
            org,
            group: None,
            namespaces: Patterns::any(),
            actions,
            not_after: None,
            allowed_ips: Vec::new(),
            rate_limits: RateLimits::default(),
        }
    }

    /// Whether everything that the other allows is allowed by this: the condition for minting the other.
    pub fn covers(&self, other: &Grant) -> bool {
        let outlives = match (self.not_after, other.not_after) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs <= ours,
        };
        let in_reach = |net: &IpNet| self.allowed_ips.iter().any(|ours| ours.contains(net));
        let ips =
            self.allowed_ips.is_empty() || (!other.allowed_ips.is_empty() && other.allowed_ips.iter().all(in_reach));
        self.org == other.org
            && (self.group.is_none() || self.group == other.group)
            && other.actions.is_subset(self.actions)
            && other.namespaces.is_subset(&self.namespaces)
            && self.rate_limits.covers(&other.rate_limits)
            && outlives
            && ips
    }
}
