//! What an operator may set about the engine.

use std::time::Duration;

use crate::cache::CacheOptions;
use crate::inference::Inference;
use crate::model::Limits;

/// Settings of a node's engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub limits: Limits,
    /// How long an object stays after nothing needs it. A node whose knowledge of a log is older
    /// than half of it must look again before it writes or answers (rule 3 of the log). More:
    /// more storage; less: less time for a suspended node to come back.
    pub grace: Duration,
    /// For how long states of the past are kept, where that is longer than the grace time. The same on all nodes.
    pub retention: Duration,
    /// Writes with at least so many logical bytes are uploaded as blobs before they queue up, so
    /// that one large request does not hold up the small ones. Less: more requests per write.
    pub stage_bytes_min: u64,
    /// How long a write may wait for the store before its outcome is reported as unknown.
    pub write_deadline: Duration,
    /// How old an eventual read's view may grow before it is refreshed in the background. More:
    /// fewer requests; less: fresher.
    pub eventual_refresh: Duration,
    /// How long a node goes on with a manifest before it looks for a newer one, while the namespace is used and has
    /// rows that are not in segments. Less: more requests; more: longer tails on nodes that do not index.
    pub manifest_refresh: Duration,
    /// How long a namespace with entries that are not in segments goes on being written before it is marked once more
    /// for whoever indexes. Less: more requests; more: longer until a mark that was lost is there again.
    pub dirty_mark_refresh: Duration,
    /// How many bytes of entries are fetched at once by a node that catches up, judged by the largest that it has seen.
    /// Less: less memory; more: a long tail is read faster.
    pub window_bytes: u64,
    /// What is kept of segments.
    pub cache: CacheOptions,
    /// How many namespaces are kept open at most. More: more memory, fewer cold opens.
    pub open_namespaces_max: usize,
    /// URL at which other nodes reach this one; written into log entries. May be empty.
    pub internal_url: String,
    /// The models that make vectors of texts and judge rows.
    pub inference: Inference,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            grace: Duration::from_secs(24 * 3600),
            retention: Duration::ZERO,
            stage_bytes_min: 8 * 1024 * 1024,
            write_deadline: Duration::from_secs(30),
            eventual_refresh: Duration::from_secs(1),
            manifest_refresh: Duration::from_secs(30),
            window_bytes: 256 * 1024 * 1024,
            cache: CacheOptions::default(),
            dirty_mark_refresh: Duration::from_secs(10),
            open_namespaces_max: 10_000,
            internal_url: String::new(),
            inference: Inference::default(),
        }
    }
}
