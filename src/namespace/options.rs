//! What an operator may set about the engine.

use std::time::Duration;

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
    /// Writes with at least so many logical bytes are uploaded as blobs before they queue up, so
    /// that one large request does not hold up the small ones. Less: more requests per write.
    pub stage_bytes_min: u64,
    /// How long a write may wait for the store before its outcome is reported as unknown.
    pub write_deadline: Duration,
    /// How old an eventual read's view may grow before it is refreshed in the background. More:
    /// fewer requests; less: fresher.
    pub eventual_refresh: Duration,
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
            stage_bytes_min: 8 * 1024 * 1024,
            write_deadline: Duration::from_secs(30),
            eventual_refresh: Duration::from_secs(1),
            open_namespaces_max: 10_000,
            internal_url: String::new(),
            inference: Inference::default(),
        }
    }
}
