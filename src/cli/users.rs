//! `shoal users`, `shoal login` and `shoal whoami`: people, and who the credential stands for.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::client::{Connection, Failure, InOrg, OnServer, Request, password_of_file};
use super::table::{self, Column};

const SHOWN: &[Column] = &[("username", "username"), ("name", "name"), ("e-mail", "email")];
const WHOAMI: &[Column] = &[
    ("kind", "kind"),
    ("id", "id"),
    ("user", "user"),
    ("organization", "organization"),
    ("group", "group"),
    ("actions", "actions"),
    ("namespaces", "namespaces"),
    ("filtered", "has_filter"),
    ("shown attributes", "include_fields"),
    ("hidden attributes", "exclude_fields"),
    ("addresses", "allowed_ips"),
    ("expires", "expires_at"),
];

/// What the command is given.
pub type Users = OnServer<Command>;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a user; with a bootstrap key only.
    Create {
        username: String,
        #[arg(long)]
        email: Option<String>,
        /// How people call them.
        #[arg(long)]
        name: Option<String>,
        /// A file with the password (- is standard input); without it the user cannot log in.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Delete a user; with a bootstrap key only.
    Delete { username: String },
    /// Set a password; it ends the user's sessions and platform tokens.
    Password {
        username: String,
        /// A file with the password (- is standard input).
        #[arg(long, value_name = "FILE", default_value = "-")]
        password_file: PathBuf,
        /// A file with the password until now: for one's own; with a bootstrap key it is not needed.
        #[arg(long, value_name = "FILE")]
        old_password_file: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub struct Login {
    #[command(flatten)]
    connection: Connection,
    username: String,
    /// A file with the password (- is standard input).
    #[arg(long, value_name = "FILE", default_value = "-")]
    password_file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Whoami {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    org: InOrg,
}

/// Runs `shoal users`.
pub fn run(users: Users) -> Result<(), Failure> {
    let Users { connection, command } = users;
    match command {
        Command::Create {
            username,
            email,
            name,
            password_file,
        } => {
            let mut body = Map::new();
            body.insert("username".to_owned(), json!(username));
            let password = password_file.map(|path| password_of_file(&path)).transpose()?;
            for (field, value) in [("email", email), ("name", name), ("password", password)] {
                body.extend(value.map(|value| (field.to_owned(), json!(value))));
            }
            let request = Request::new(Method::POST, ["v1", "users"]).body(Json::Object(body));
            let answer = connection.send(request)?;
            connection.print(&answer, |json| table::object(&json["user"], SHOWN))
        }
        Command::Delete { username } => {
            let answer = connection.send(Request::new(Method::DELETE, ["v1", "users", &username]))?;
            connection.print(&answer, |_| format!("deleted user {username}"))
        }
        Command::Password {
            username,
            password_file,
            old_password_file,
        } => {
            let mut body = json!({"password": password_of_file(&password_file)?});
            if let Some(path) = old_password_file {
                body["old_password"] = json!(password_of_file(&path)?);
            }
            let request = Request::new(Method::PATCH, ["v1", "users", &username]).body(body);
            let answer = connection.send(request)?;
            connection.print(&answer, |_| format!("{username} has a new password"))
        }
    }
}

/// Runs `shoal login`: prints a token that counts for seven days.
pub fn login(login: Login) -> Result<(), Failure> {
    let body = json!({"username": login.username, "password": password_of_file(&login.password_file)?});
    let request = Request::new(Method::POST, ["v1", "auth", "login"]).body(body).unknown();
    let answer = login.connection.send(request)?;
    login.connection.print_secret(&answer, "token", true, |_| String::new())
}

/// Runs `shoal whoami`.
pub fn whoami(whoami: Whoami) -> Result<(), Failure> {
    let request = Request::new(Method::GET, ["v1", "auth", "whoami"]).naming(&whoami.org);
    let answer = whoami.connection.send(request)?;
    whoami.connection.print(&answer, |json| table::object(json, WHOAMI))
}
