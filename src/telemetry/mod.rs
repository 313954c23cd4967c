//! Metric names and the set-up of logs, declared once.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

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

/// Buckets of latency histograms, in seconds: from a cache hit to a client's time-out.
const SECONDS_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Starts logging to standard error. `level` is a filter such as `info` or `shoal=debug,info`.
///
/// # Errors
///
/// When the filter cannot be understood, or logging was started before.
pub fn start_logs(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|e| format!("log_level {level:?}: {e}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|e| e.to_string())
}

/// Installs the process-wide recorder; the handle prints what it holds.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(HTTP_SECONDS.to_owned()), &SECONDS_BUCKETS)?
        .install_recorder()?;
    metrics::describe_counter!(COMMIT_CONFLICTS, "Log slots lost to another writer");
    metrics::describe_counter!(MODEL_REQUESTS, "Requests to embedding and rerank models");
    metrics::describe_counter!(HTTP_REQUESTS, "HTTP requests answered");
    metrics::describe_histogram!(HTTP_SECONDS, "Seconds from a request's headers to its answer's");
    Ok(handle)
}
