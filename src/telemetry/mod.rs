//! Metric names and the set-up of logs, declared once.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// Requests to the object store, by `op` and `outcome`.
pub const STORE_REQUESTS: &str = "shoal_store_requests_total";
/// Bytes to and from the object store, by `direction`.
pub const STORE_BYTES: &str = "shoal_store_bytes_total";
/// 1 while the breaker refuses requests to a store that does not answer, by `lane`: read, write.
pub const STORE_BREAKER: &str = "shoal_store_breaker_open";
/// Requests that the breaker refused, by `lane`.
pub const STORE_REFUSED: &str = "shoal_store_refused_total";
/// Requests of background work that waited because the store was slow.
pub const STORE_YIELDS: &str = "shoal_store_yields_total";
/// Log slots lost to another writer.
pub const COMMIT_CONFLICTS: &str = "shoal_commit_conflicts_total";
/// Flushes: tails that became segments.
pub const FLUSHES: &str = "shoal_flushes_total";
/// Merges of segments.
pub const MERGES: &str = "shoal_merges_total";
/// Bytes of the segments that merges have read.
pub const MERGED_BYTES: &str = "shoal_merged_bytes_total";
/// Jobs of upkeep that failed, by `job`: flush, merge, look. They are tried again.
pub const UPKEEP_FAILURES: &str = "shoal_upkeep_failures_total";
/// Requests to models, by `model` and `outcome`.
pub const MODEL_REQUESTS: &str = "shoal_model_requests_total";
/// Memory in use, by `share`: request bodies, tails and caches.
pub const MEMORY_BYTES: &str = "shoal_memory_used_bytes";
/// Bytes read of immutable objects, by the `tier` that had them: memory, disk, store.
pub const CACHE_READ_BYTES: &str = "shoal_cache_read_bytes_total";
/// Second GETs sent because the first took long.
pub const CACHE_HEDGES: &str = "shoal_cache_hedged_requests_total";
/// Bytes that the disk cache holds.
pub const CACHE_DISK_BYTES: &str = "shoal_cache_disk_bytes";
/// Bytes removed from the disk cache to make room.
pub const CACHE_EVICTED_BYTES: &str = "shoal_cache_evicted_bytes_total";
/// Bytes that were not written to the disk cache, by `reason`: queue, space, error.
pub const CACHE_REFUSED_BYTES: &str = "shoal_cache_refused_bytes_total";
/// Bytes of pinned objects that were not brought to the cache: it refused them, or the store did not give them.
pub const CACHE_PINNED_MISSING_BYTES: &str = "shoal_cache_pinned_missing_bytes";
/// What went wrong with the disk cache, by `kind`: checksum, read, write. Answers stay right.
pub const CACHE_DISK_ERRORS: &str = "shoal_cache_disk_errors_total";
/// HTTP requests answered, by `route` (its template), `method` and `status`.
pub const HTTP_REQUESTS: &str = "shoal_http_requests_total";
/// Seconds from the request's headers to the answer's, by `route` and `method`.
pub const HTTP_SECONDS: &str = "shoal_http_request_seconds";
/// Requests refused to whom they came from, by `reason`: unauthenticated, forbidden, quota.
pub const DENIED: &str = "shoal_requests_denied_total";
/// Requests refused for their rate, by `limit`: organization, key, address.
pub const RATE_LIMITED: &str = "shoal_requests_rate_limited_total";
/// Flushes of what a node keeps in memory that did not reach the store, by `what`: audit, usage. They are tried again.
pub const FLUSH_FAILURES: &str = "shoal_flush_failures_total";
/// Denied calls that were not written to an audit log because there were too many.
pub const AUDIT_DROPPED: &str = "shoal_audit_events_dropped_total";
/// Objects that garbage collection has deleted.
pub const GC_OBJECTS: &str = "shoal_gc_objects_deleted_total";
/// Bytes of these.
pub const GC_BYTES: &str = "shoal_gc_bytes_deleted_total";
/// Looks at a namespace that garbage collection gave up.
pub const GC_FAILURES: &str = "shoal_gc_failures_total";

/// Buckets of latency histograms, in seconds: from a cache hit to a client's time-out.
const SECONDS_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Whether lines of this origin and level may be written, whatever filter the operator set.
///
/// Below `info`, libraries print what they read and write as they see fit: `h2` for one the query string of
/// a request that it refuses, and browsers put keys there. So only our own lines may be that chatty,
/// which covers a library that is added or changed tomorrow too.
fn may_be_written(target: &str, level: &Level) -> bool {
    *level <= Level::INFO || target == "shoal" || target.starts_with("shoal::")
}

/// Starts logging to standard error. `level` is a filter such as `info` or `shoal=debug,info`; of
/// libraries only `info` and above is written in any case.
///
/// # Errors
///
/// When the filter cannot be understood, or logging was started before.
pub fn start_logs(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|e| format!("log_level {level:?}: {e}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .with(filter_fn(|line| may_be_written(line.target(), line.level())))
        .try_init()
        .map_err(|e| e.to_string())
}

/// Installs the process-wide recorder; the handle prints what it holds.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(HTTP_SECONDS.to_owned()), &SECONDS_BUCKETS)?
        .install_recorder()?;
    metrics::describe_gauge!(
        STORE_BREAKER,
        "Whether requests to a store that does not answer are refused"
    );
    metrics::describe_counter!(
        STORE_REFUSED,
        "Requests that were not sent to a store that does not answer"
    );
    metrics::describe_counter!(STORE_YIELDS, "Requests of background work that waited for a slow store");
    metrics::describe_counter!(COMMIT_CONFLICTS, "Log slots lost to another writer");
    metrics::describe_counter!(FLUSHES, "Tails that became segments");
    metrics::describe_counter!(MERGES, "Merges of segments");
    metrics::describe_counter!(MERGED_BYTES, "Bytes of the segments that merges have read");
    metrics::describe_counter!(UPKEEP_FAILURES, "Jobs of upkeep that failed and are tried again");
    metrics::describe_counter!(MODEL_REQUESTS, "Requests to embedding and rerank models");
    metrics::describe_counter!(DENIED, "Requests refused to whom they came from");
    metrics::describe_counter!(RATE_LIMITED, "Requests refused for their rate");
    metrics::describe_counter!(
        FLUSH_FAILURES,
        "Flushes of usage or audit lines that did not reach the store"
    );
    metrics::describe_counter!(AUDIT_DROPPED, "Denied calls that were not written to an audit log");
    metrics::describe_counter!(CACHE_READ_BYTES, "Bytes read of immutable objects, by tier");
    metrics::describe_counter!(CACHE_HEDGES, "Second GETs sent because the first took long");
    metrics::describe_gauge!(CACHE_DISK_BYTES, "Bytes that the disk cache holds");
    metrics::describe_counter!(CACHE_EVICTED_BYTES, "Bytes removed from the disk cache to make room");
    metrics::describe_counter!(CACHE_REFUSED_BYTES, "Bytes that were not written to the disk cache");
    metrics::describe_gauge!(
        CACHE_PINNED_MISSING_BYTES,
        "Bytes of pinned objects that were not brought to the cache"
    );
    metrics::describe_counter!(CACHE_DISK_ERRORS, "Failures of the disk cache, all of them survived");
    metrics::describe_counter!(GC_OBJECTS, "Objects that garbage collection has deleted");
    metrics::describe_counter!(GC_BYTES, "Bytes that garbage collection has deleted");
    metrics::describe_counter!(GC_FAILURES, "Looks of garbage collection that were given up");
    metrics::describe_counter!(HTTP_REQUESTS, "HTTP requests answered");
    metrics::describe_histogram!(HTTP_SECONDS, "Seconds from a request's headers to its answer's");
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_lines_go_below_info() {
        for (target, level, written) in [
            ("shoal", Level::TRACE, true),
            ("shoal::access", Level::DEBUG, true),
            ("shoal_like", Level::DEBUG, false),
            ("h2::codec::framed_read", Level::DEBUG, false),
            ("hyper::proto", Level::TRACE, false),
            ("rustls::server", Level::TRACE, false),
            ("a_library_of_tomorrow", Level::DEBUG, false),
            ("h2", Level::INFO, true),
            ("h2", Level::ERROR, true),
        ] {
            assert_eq!(may_be_written(target, &level), written, "{target} {level}");
        }
    }
}
