//! `shoal restore`: a new namespace of what one was at some time.

use std::time::Duration;

use chrono::DateTime;
use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::client::{Connection, Failure, Request, usage};
use super::table::{self, Column};

/// All rows are copied before the answer comes.
const TIMEOUT: Duration = Duration::from_secs(3600);

const SHOWN: &[Column] = &[("name", "Name"), ("id", "DbId"), ("host name", "Hostname")];

/// The namespace itself is not changed. What it was is kept for half the grace time, or `gc.retention_seconds`.
#[derive(Args, Debug)]
pub struct Restore {
    #[command(flatten)]
    connection: Connection,
    /// The slug of the organization.
    org: String,
    /// What is to be restored; it may have been deleted since.
    namespace: String,
    /// The name of the new namespace: that of the old one only if it does not exist any more.
    #[arg(long)]
    to: String,
    /// The time whose state is wanted, such as 2026-01-31T12:00:00Z. Of writes at exactly this time, none is missing.
    #[arg(long, value_name = "RFC3339")]
    at: String,
    /// The group of the new namespace [default: the group `default`].
    #[arg(long)]
    group: Option<String>,
}

/// Runs the command.
pub fn run(restore: Restore) -> Result<(), Failure> {
    let Restore {
        connection,
        org,
        namespace,
        to,
        at,
        group,
    } = restore;
    if DateTime::parse_from_rfc3339(&at).is_err() {
        return Err(usage("--at must be a time with its zone, such as 2026-01-31T12:00:00Z"));
    }
    let mut body = json!({
        "name": to,
        "seed": {"type": "database", "name": namespace, "timestamp": at},
    });
    if let Some(group) = group {
        body["group"] = json!(group);
    }
    let request = Request::new(Method::POST, ["v1", "organizations", &org, "databases"]);
    let answer = connection.send(request.body(body).within(TIMEOUT))?;
    connection.print(&answer, |json| table::object(&json["database"], SHOWN))
}
