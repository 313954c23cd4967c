//! What is deleted when: the table `[gc]`.

use serde::Deserialize;

/// Settings of garbage collection. They should be the same on all nodes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectingConfig {
    /// Seconds for which the past of a namespace is kept. Default 0: a day, after which nothing of it is needed.
    pub retention_seconds: u64,
    /// Seconds between looks at a namespace with garbage. Default 3600.
    pub interval_seconds: u64,
    /// Seconds between the look that finds garbage and the one that deletes it. Default 600.
    pub second_look_seconds: u64,
    /// Seconds between two searches, by one node for all, for namespaces whose markers were lost. Default 86400; 0: never.
    pub sweep_seconds: u64,
    /// Only logs what would be deleted. Default false.
    pub dry_run: bool,
}

impl Default for CollectingConfig {
    fn default() -> Self {
        Self {
            retention_seconds: 0,
            interval_seconds: 3600,
            second_look_seconds: 600,
            sweep_seconds: 86_400,
            dry_run: false,
        }
    }
}

impl CollectingConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, value, least) in [
            ("interval_seconds", self.interval_seconds, 60),
            ("second_look_seconds", self.second_look_seconds, 60),
        ] {
            if value < least {
                return Err(format!("gc.{name} must be at least {least}"));
            }
        }
        match self.sweep_seconds {
            1..3600 => Err("gc.sweep_seconds must be 0, or at least 3600".into()),
            _ => Ok(()),
        }
    }
}
