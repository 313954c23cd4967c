//! What an operator may set about upkeep.

use std::time::Duration;

/// When rows go into segments, and segments into larger ones.
#[derive(Clone, Debug, PartialEq)]
pub struct UpkeepOptions {
    /// Bytes of log outside of segments at which a flush starts at once. Less: shorter tails, more segments.
    pub flush_bytes: u64,
    /// Log entries outside of segments at which a flush starts at once.
    pub flush_entries: u64,
    /// The longest that entries wait for their flush once there is more than [`small_bytes`](Self::small_bytes) of them.
    pub flush_age: Duration,
    /// Tails up to so many bytes wait for more.
    pub small_bytes: u64,
    /// A small tail is flushed when so many entries are in it, …
    pub small_entries: u64,
    /// … when nothing was written for so long, …
    pub small_quiet: Duration,
    /// … or when its first entry is so old.
    pub small_age: Duration,
    /// The shortest time between two flushes of a namespace whose tail is large.
    pub flush_pause: Duration,
    /// The same where it is small.
    pub small_pause: Duration,
    /// A flush makes segments of about so many bytes of rows.
    pub flush_segment_bytes: u64,
    /// Whether segments that are small enough are put into manifests.
    pub inline: bool,
    /// So many segments of about one size are merged into one.
    pub merge_fan_out: usize,
    /// A segment of whose rows so many in a hundred are deleted is rewritten.
    pub merge_dead_percent: u32,
    /// Segments are merged up to this size, in bytes; larger ones are rewritten in parts of it. A merge holds about
    /// three times as much in memory.
    pub merge_bytes_max: u64,
    /// Flushes that run at the same time.
    pub flushes_at_once: usize,
    /// Merges that run at the same time.
    pub merges_at_once: usize,
    /// Jobs of one organization that run at the same time, while others wait.
    pub jobs_per_org: usize,
    /// Memory that flushes and merges may take together, about, in bytes. A job that needs more
    /// than all of it runs alone.
    pub memory_bytes: u64,
    /// Bytes that merges read and write per second, together; 0 for no limit.
    pub merge_bytes_per_second: u64,
    /// How often dirty markers are listed while there is work.
    pub list_interval: Duration,
    /// The same when there has been none for long.
    pub list_interval_idle: Duration,
    /// How long a namespace that another node writes must have been marked before this one looks after it: nodes that
    /// write index their own.
    pub foreign_wait: Duration,
    /// For how long a node takes large jobs for itself; merges longer, as long as they go on.
    pub lease: Duration,
    /// Jobs on fewer bytes need no lease: doing one twice is cheaper.
    pub lease_bytes_min: u64,
    /// The shortest and the longest wait after a failure.
    pub retry: (Duration, Duration),
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            flush_bytes: 8 << 20,
            flush_entries: 64,
            flush_age: Duration::from_secs(20),
            small_bytes: 1 << 20,
            small_entries: 8,
            small_quiet: Duration::from_secs(30),
            small_age: Duration::from_secs(120),
            flush_pause: Duration::from_secs(2),
            small_pause: Duration::from_secs(10),
            flush_segment_bytes: 128 << 20,
            inline: true,
            merge_fan_out: 8,
            merge_dead_percent: 20,
            merge_bytes_max: 512 << 20,
            flushes_at_once: 4,
            merges_at_once: 1,
            jobs_per_org: 2,
            memory_bytes: 1 << 30,
            merge_bytes_per_second: 0,
            list_interval: Duration::from_secs(2),
            list_interval_idle: Duration::from_secs(60),
            foreign_wait: Duration::from_secs(45),
            lease: Duration::from_secs(60),
            lease_bytes_min: 4 << 20,
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}
