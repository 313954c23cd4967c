//! `shoal audit`: the audit log of an organization.

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value as Json;

use super::client::{Failure, OnOrg, Request};
use super::table::{self, Column};

const VERDICT: &[Column] = &[
    ("day", "day"),
    ("intact", "intact"),
    ("files", "files"),
    ("lines", "lines"),
    ("not sealed yet", "unsealed"),
];

/// What the command is given.
pub type Audit = OnOrg<Command>;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Check that a day's log is as it was written; exit status 1 when something was removed, added or changed.
    Verify {
        /// By UTC, such as 2026-01-31 [default: today].
        #[arg(long)]
        day: Option<String>,
    },
}

/// Runs the command.
pub fn run(audit: Audit) -> Result<(), Failure> {
    let Audit {
        connection,
        org,
        command,
    } = audit;
    let Command::Verify { day } = command;
    let path = match &org.org {
        Some(org) => vec!["v1", "organizations", org, "audit-logs", "verify"],
        None => vec!["v1", "audit-logs", "verify"],
    };
    let answer = connection.send(Request::new(Method::GET, path).query("day", day.as_deref()))?;
    connection.print(&answer, readable)?;
    // Whatever does not say that all is well does not mean it.
    match answer.json["intact"] == true {
        true => Ok(()),
        false => Err(Failure::Failed("the audit log is not as it was written".into())),
    }
}

fn readable(verdict: &Json) -> String {
    let problems = verdict["problems"].as_array().into_iter().flatten();
    let sentences = problems.filter_map(Json::as_str).map(table::clean);
    std::iter::once(table::object(verdict, VERDICT).trim_end().to_owned())
        .chain(sentences)
        .collect::<Vec<_>>()
        .join("\n")
}
