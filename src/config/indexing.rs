//! When rows go into segments, and segments into larger ones: the table `[indexing]`.

use serde::Deserialize;

use super::MemorySize;

/// Settings of nodes with the role `index`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexingConfig {
    /// Bytes of log outside of segments at which a namespace is flushed at once. Default 8 MiB.
    pub flush_bytes: u64,
    /// Log entries outside of segments at which a namespace is flushed at once. Default 64.
    pub flush_entries: u64,
    /// Seconds that more than 1 MiB of log waits for its flush at most. Default 20.
    pub flush_age_seconds: u64,
    /// Seconds without a write after which less than that is flushed. Default 30.
    pub quiet_seconds: u64,
    /// Flushes at a time. Default 4.
    pub flushes_at_once: usize,
    /// So many segments of about one size become one. Default 8.
    pub merge_fan_out: usize,
    /// Deleted rows in a hundred at which a segment is rewritten. Default 20.
    pub merge_dead_percent: u32,
    /// The size in bytes up to which segments are merged. Default 512 MiB, at most a third of `memory`.
    pub merge_bytes_max: u64,
    /// Merges at a time. Default 1.
    pub merges_at_once: usize,
    /// Bytes per second that merges read and write together; 0 for no limit, the default.
    pub merge_bytes_per_second: u64,
    /// Flushes and merges of one organization at a time. Default 2.
    pub jobs_per_org: usize,
    /// Memory for flushes and merges. Default an eighth of the machine's.
    pub memory: MemorySize,
    /// Milliseconds between looks for namespaces that other nodes have written. Default 2000.
    pub list_interval_ms: u64,
}

impl Default for IndexingConfig {
    fn default() -> Self {
        Self {
            flush_bytes: 8 << 20,
            flush_entries: 64,
            flush_age_seconds: 20,
            quiet_seconds: 30,
            flushes_at_once: 4,
            merge_fan_out: 8,
            merge_dead_percent: 20,
            merge_bytes_max: 512 << 20,
            merges_at_once: 1,
            merge_bytes_per_second: 0,
            jobs_per_org: 2,
            memory: MemorySize::Fraction(0.125),
            list_interval_ms: 2000,
        }
    }
}

impl IndexingConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        self.memory.check("indexing.memory")?;
        let positive = [
            ("flush_bytes", self.flush_bytes),
            ("flush_entries", self.flush_entries),
            ("flush_age_seconds", self.flush_age_seconds),
            ("quiet_seconds", self.quiet_seconds),
            ("flushes_at_once", self.flushes_at_once as u64),
            ("merge_bytes_max", self.merge_bytes_max),
            ("merges_at_once", self.merges_at_once as u64),
            ("jobs_per_org", self.jobs_per_org as u64),
            ("list_interval_ms", self.list_interval_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("indexing.{name} must be at least 1"));
        }
        if !(2..=64).contains(&self.merge_fan_out) {
            return Err(format!(
                "indexing.merge_fan_out must be from 2 to 64, got {}",
                self.merge_fan_out
            ));
        }
        match (1..=100).contains(&self.merge_dead_percent) {
            true => Ok(()),
            false => Err(format!(
                "indexing.merge_dead_percent must be from 1 to 100, got {}",
                self.merge_dead_percent
            )),
        }
    }
}
