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
/// Log slots lost to another writer.
pub const COMMIT_CONFLICTS: &str = "shoal_commit_conflicts_total";
/// Requests to models, by `model` and `outcome`.
pub const MODEL_REQUESTS: &str = "shoal_model_requests_total";
/// Memory in use, by `share`: request bodies and tails.
pub const MEMORY_BYTES: &str = "shoal_memory_used_bytes";
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
    metrics::describe_counter!(COMMIT_CONFLICTS, "Log slots lost to another writer");
    metrics::describe_counter!(MODEL_REQUESTS, "Requests to embedding and rerank models");
    metrics::describe_counter!(DENIED, "Requests refused to whom they came from");
    metrics::describe_counter!(RATE_LIMITED, "Requests refused for their rate");
    metrics::describe_counter!(
        FLUSH_FAILURES,
        "Flushes of usage or audit lines that did not reach the store"
    );
    metrics::describe_counter!(AUDIT_DROPPED, "Denied calls that were not written to an audit log");
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
