//! How large a cache is, and where.

use std::path::PathBuf;

use super::disk::Fault;
use crate::config::Config;

/// How large the tiers are.
#[derive(Clone)]
pub struct CacheOptions {
    /// Limit of the memory tier, in bytes.
    pub memory_bytes: u64,
    /// Where the disk tier has its files; without it there is none.
    pub directory: Option<PathBuf>,
    /// Limit of the disk tier, in bytes; in any case 90 % of the file system.
    pub disk_bytes: u64,
    /// Free space to leave on the file system, in bytes. Default the smaller of 5 % of it and 10 GiB.
    pub disk_reserve_bytes: Option<u64>,
    /// Makes operations on files fail, for tests.
    pub(crate) fault: Option<Fault>,
}

impl std::fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheOptions")
            .field("memory_bytes", &self.memory_bytes)
            .field("directory", &self.directory)
            .field("disk_bytes", &self.disk_bytes)
            .field("disk_reserve_bytes", &self.disk_reserve_bytes)
            .finish_non_exhaustive()
    }
}

/// A memory tier of 256 MiB.
impl Default for CacheOptions {
    fn default() -> Self {
        Self::memory_only(256 << 20)
    }
}

impl CacheOptions {
    /// A memory tier of that many bytes, and no disk tier.
    pub fn memory_only(memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            directory: None,
            disk_bytes: 0,
            disk_reserve_bytes: None,
            fault: None,
        }
    }

    /// Both tiers; the disk tier only when there is a directory.
    pub fn with_disk(memory_bytes: u64, directory: Option<PathBuf>, disk_bytes: u64) -> Self {
        Self {
            directory,
            disk_bytes,
            ..Self::memory_only(memory_bytes)
        }
    }

    /// As configured, on a machine with so much memory.
    pub fn of(config: &Config, machine_bytes: u64) -> Self {
        let memory_bytes = config.cache_memory.bytes(machine_bytes);
        Self::with_disk(
            memory_bytes,
            config.cache_dir.clone(),
            config.cache_bytes.unwrap_or(u64::MAX),
        )
    }
}
