//! `shoal keys`: API keys of an organization.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::client::{Failure, OnOrg, Request, secret_of_file, usage};
use super::table::{self, Column};
use crate::base::Clock;

const LISTED: &[Column] = &[
    ("ID", "id"),
    ("PREFIX", "value_prefix"),
    ("ACTIONS", "actions"),
    ("NAMESPACES", "collections"),
    ("EXPIRES", "expires_at"),
    ("DESCRIPTION", "description"),
];
const SHOWN: &[Column] = &[
    ("id", "id"),
    ("key", "value"),
    ("prefix", "value_prefix"),
    ("description", "description"),
    ("actions", "actions"),
    ("namespaces", "collections"),
    ("expires", "expires_at"),
    ("autodelete", "autodelete"),
    ("filter", "filter"),
    ("shown attributes", "include_fields"),
    ("hidden attributes", "exclude_fields"),
    ("addresses", "allowed_ips"),
    ("queries per second", "limits.queries_per_second"),
    ("writes per second", "limits.writes_per_second"),
];

/// What the command is given.
pub type Keys = OnOrg<Command>;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a key; its value is shown this once.
    Create(Box<Create>),
    /// All keys, without their values.
    List,
    /// One key, without its value.
    Get { id: u64 },
    /// Delete a key, and with it all scoped keys made of it.
    Delete { id: u64 },
}

#[derive(Args, Debug)]
pub struct Create {
    /// What it is for.
    #[arg(long)]
    description: String,
    /// What it may do, such as documents:search, documents:* or *; several with commas or repeated.
    #[arg(long = "action", required = true, value_delimiter = ',')]
    actions: Vec<String>,
    /// Namespaces: a name, a pattern such as shop_*, a regular expression, or * for all; repeatable.
    #[arg(long = "collection", visible_alias = "namespace", required = true)]
    collections: Vec<String>,
    /// For how long it counts, such as 2w, 1d12h, 30m; or never.
    #[arg(long, default_value = "never")]
    expiration: String,
    /// Remove the key some time after it has expired.
    #[arg(long)]
    autodelete: bool,
    /// What every row has to pass: the query API's JSON, or Typesense's filter_by. For documents:search only.
    #[arg(long)]
    filter: Option<String>,
    /// The only attributes that are shown; with commas or repeated. For documents:search only.
    #[arg(long = "include-field", value_delimiter = ',')]
    include_fields: Vec<String>,
    /// Attributes that are not shown; with commas or repeated. For documents:search only.
    #[arg(long = "exclude-field", value_delimiter = ',')]
    exclude_fields: Vec<String>,
    /// Networks that may use it, such as 10.0.0.0/8; with commas or repeated.
    #[arg(long = "allow-ip", value_delimiter = ',')]
    allowed_ips: Vec<String>,
    #[arg(long)]
    queries_per_second: Option<u32>,
    #[arg(long)]
    writes_per_second: Option<u32>,
    /// A file (- is standard input) with a value of your own, where the server allows that.
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    /// Print the value only.
    #[arg(long, short)]
    quiet: bool,
}

impl Create {
    /// * `now` — seconds since the epoch
    fn body(&self, now: u64) -> Result<Json, Failure> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Json| body.insert(name.to_owned(), value);
        set("description", json!(self.description));
        set("actions", json!(self.actions));
        set("collections", json!(self.collections));
        if let Some(seconds) = seconds_of(&self.expiration)? {
            set("expires_at", json!(now.saturating_add(seconds)));
        }
        if self.autodelete {
            set("autodelete", json!(true));
        }
        if let Some(filter) = &self.filter {
            // Every filter of the query API is a JSON array; no text of filter_by is one.
            let parsed = serde_json::from_str::<Vec<Json>>(filter);
            set("filter", parsed.map_or_else(|_| json!(filter), Json::Array));
        }
        for (name, list) in [
            ("include_fields", &self.include_fields),
            ("exclude_fields", &self.exclude_fields),
            ("allowed_ips", &self.allowed_ips),
        ] {
            if !list.is_empty() {
                set(name, json!(list));
            }
        }
        let mut limits = Map::new();
        for (name, rate) in [
            ("queries_per_second", self.queries_per_second),
            ("writes_per_second", self.writes_per_second),
        ] {
            limits.extend(rate.map(|rate| (name.to_owned(), json!(rate))));
        }
        if !limits.is_empty() {
            set("limits", Json::Object(limits));
        }
        if let Some(path) = &self.value_file {
            set("value", json!(secret_of_file(path)?.trim()));
        }
        Ok(Json::Object(body))
    }
}

/// Seconds in a text such as `1w2d`; `None` for `never`.
fn seconds_of(text: &str) -> Result<Option<u64>, Failure> {
    let bad = || usage("--expiration must be never, or numbers with units w, d, h, m, s, such as 2w or 1d12h");
    if text == "never" {
        return Ok(None);
    }
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = match after.chars().next() {
            Some('w') => 7 * 86_400,
            Some('d') => 86_400,
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(bad()),
        };
        total = number
            .checked_mul(unit)
            .and_then(|s| total.checked_add(s))
            .ok_or_else(bad)?;
        rest = &after[1..];
    }
    match total {
        0 => Err(bad()),
        _ => Ok(Some(total)),
    }
}

/// Runs the command.
pub fn run(keys: Keys, clock: &dyn Clock) -> Result<(), Failure> {
    let Keys {
        connection,
        org,
        command,
    } = keys;
    match command {
        Command::Create(create) => {
            let request = Request::new(Method::POST, ["keys"]).body(create.body(clock.wall().as_secs())?);
            let answer = connection.send(request.naming(&org))?;
            connection.print_secret(&answer, "value", create.quiet, |json| table::object(json, SHOWN))
        }
        Command::List => {
            let answer = connection.send(Request::new(Method::GET, ["keys"]).naming(&org))?;
            connection.print(&answer, |json| table::list(&json["keys"], LISTED))
        }
        Command::Get { id } => {
            let request = Request::new(Method::GET, ["keys", &id.to_string()]);
            let answer = connection.send(request.naming(&org))?;
            connection.print(&answer, |json| table::object(json, SHOWN))
        }
        Command::Delete { id } => {
            let request = Request::new(Method::DELETE, ["keys", &id.to_string()]);
            let answer = connection.send(request.naming(&org))?;
            connection.print(&answer, |_| format!("deleted key {id}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_numbers_with_units() {
        for (text, seconds) in [
            ("never", None),
            ("2w", Some(1_209_600)),
            ("1d12h", Some(129_600)),
            ("1w2d6h3m4s", Some(799_384)),
            ("90s", Some(90)),
        ] {
            assert_eq!(seconds_of(text), Ok(seconds), "{text}");
        }
        for bad in [
            "",
            "2",
            "w",
            "2 w",
            "-1d",
            "1y",
            "0s",
            "2wx",
            "1é",
            "99999999999999999999w",
            "18446744073709551615w",
        ] {
            assert!(matches!(seconds_of(bad), Err(Failure::Usage(_))), "{bad:?}");
        }
    }
}
