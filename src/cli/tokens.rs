//! `shoal tokens`: platform tokens, and tokens of namespaces and groups.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::client::{Failure, InOrg, OnOrg, Request};
use super::table::{self, Column};

const LISTED: &[Column] = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("ORGANIZATION", "organization"),
    ("GROUP", "group"),
    ("SCOPES", "scopes"),
    ("OWNER", "owner.username"),
    ("CREATED", "created_at"),
];
const SHOWN: &[Column] = &[("id", "id"), ("name", "name"), ("token", "token")];

/// What the command is given.
pub type Tokens = OnOrg<Command>;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a platform token, for organizations, groups and databases; it is shown this once. With --org it
    /// counts in that organization only.
    Mint {
        /// What to call it; unique among a user's tokens.
        name: String,
        /// Only for this group; needs --org and --scope.
        #[arg(long, requires = "scopes")]
        group: Option<String>,
        /// What it may do, such as read, db:create or read-only; with commas or repeated. Needs --group.
        #[arg(long = "scope", requires = "group", value_delimiter = ',')]
        scopes: Vec<String>,
        /// Whose it is; with a bootstrap key only.
        #[arg(long)]
        user: Option<String>,
        /// Print the token only.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Your platform tokens; with --org those of the organization that you may see.
    List,
    /// Revoke a platform token: your own by name; with --org one of the organization by id.
    Revoke { name_or_id: String },
    /// Until when the credential counts.
    Validate,
    /// A token for the rows of one namespace (a database); printed alone.
    Db {
        name: String,
        #[command(flatten)]
        options: DataOptions,
    },
    /// A token for the rows of all namespaces of a group; printed alone.
    Group {
        name: String,
        #[command(flatten)]
        options: DataOptions,
    },
    /// Make tokens worthless that were issued until now.
    Rotate {
        #[command(flatten)]
        what: What,
    },
}

#[derive(Args, Debug)]
pub struct DataOptions {
    /// Only for reading.
    #[arg(long)]
    read_only: bool,
    /// For how long it counts, such as 2w or 1d12h [default: for ever, until rotated].
    #[arg(long)]
    expiration: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct What {
    /// The tokens of this namespace (database).
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// The tokens of this group.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Your sessions, those of `shoal login`, on all machines.
    #[arg(long)]
    sessions: bool,
}

/// `/v1`, or `/v1/organizations/ORG`, and the rest.
fn path<'a>(org: &'a InOrg, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["v1"];
    if let Some(org) = &org.org {
        path.extend(["organizations", org.as_str()]);
    }
    path.extend(rest);
    path
}

fn data_token(org: &InOrg, kind: &str, name: &str, options: &DataOptions) -> Request {
    Request::new(Method::POST, path(org, &[kind, name, "auth", "tokens"]))
        .query("expiration", options.expiration.as_deref())
        .query("authorization", options.read_only.then_some("read-only"))
}

/// Runs the command.
pub fn run(tokens: Tokens) -> Result<(), Failure> {
    let Tokens {
        connection,
        org,
        command,
    } = tokens;
    match command {
        Command::Mint {
            name,
            group,
            scopes,
            user,
            quiet,
        } => {
            let mut body = Map::new();
            for (field, value) in [("organization", &org.org), ("group", &group), ("user", &user)] {
                body.extend(value.as_ref().map(|value| (field.to_owned(), json!(value))));
            }
            if group.is_some() {
                body.insert("scopes".to_owned(), json!(scopes));
            }
            let request = Request::new(Method::POST, ["v1", "auth", "api-tokens", &name]).body(Json::Object(body));
            let answer = connection.send(request)?;
            connection.print_secret(&answer, "token", quiet, |json| table::object(json, SHOWN))
        }
        Command::List => {
            let request = match &org.org {
                Some(_) => Request::new(Method::GET, path(&org, &["api-tokens"])),
                None => Request::new(Method::GET, ["v1", "auth", "api-tokens"]),
            };
            let answer = connection.send(request)?;
            connection.print(&answer, |json| table::list(&json["tokens"], LISTED))
        }
        Command::Revoke { name_or_id } => {
            let request = match &org.org {
                Some(_) => Request::new(Method::DELETE, path(&org, &["api-tokens", &name_or_id])),
                None => Request::new(Method::DELETE, ["v1", "auth", "api-tokens", &name_or_id]),
            };
            let answer = connection.send(request)?;
            connection.print(&answer, |_| format!("revoked {name_or_id}"))
        }
        Command::Validate => {
            let answer = connection.send(Request::new(Method::GET, ["v1", "auth", "validate"]))?;
            connection.print(&answer, |json| table::object(json, &[("expires", "exp")]))
        }
        Command::Db { name, options } => {
            let answer = connection.send(data_token(&org, "databases", &name, &options))?;
            connection.print_secret(&answer, "jwt", true, |_| String::new())
        }
        Command::Group { name, options } => {
            let answer = connection.send(data_token(&org, "groups", &name, &options))?;
            connection.print_secret(&answer, "jwt", true, |_| String::new())
        }
        Command::Rotate { what } => {
            let (request, said) = match (&what.db, &what.group) {
                (Some(db), _) => (
                    Request::new(Method::POST, path(&org, &["databases", db, "auth", "rotate"])),
                    format!("the tokens of {db} count no more"),
                ),
                (None, Some(group)) => (
                    Request::new(Method::POST, path(&org, &["groups", group, "auth", "rotate"])),
                    format!("the tokens of the group {group} count no more"),
                ),
                (None, None) => (
                    Request::new(Method::POST, ["v1", "auth", "invalidate"]),
                    "your sessions have ended".to_owned(),
                ),
            };
            let answer = connection.send(request)?;
            connection.print(&answer, |_| said)
        }
    }
}
