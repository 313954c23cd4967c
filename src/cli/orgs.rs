//! `shoal orgs`: organizations and their members.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{Connection, Failure, OnServer, Request};
use super::table::{self, Column};

const LISTED: &[Column] = &[
    ("SLUG", "slug"),
    ("NAME", "name"),
    ("TYPE", "type"),
    ("PLAN", "plan_id"),
];
const SHOWN: &[Column] = &[
    ("slug", "slug"),
    ("name", "name"),
    ("id", "id"),
    ("type", "type"),
    ("plan", "plan_id"),
    ("overages", "overages"),
    ("reads blocked", "blocked_reads"),
    ("writes blocked", "blocked_writes"),
];
const MEMBERS: &[Column] = &[("USER", "username"), ("ROLE", "role"), ("E-MAIL", "email")];

/// What the command is given.
pub type Orgs = OnServer<Command>;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make an organization; its slug is made of the name.
    Create {
        name: String,
        /// Only say whether it could be made.
        #[arg(long)]
        dry_run: bool,
    },
    /// The organizations that the credential belongs to.
    List,
    /// One organization.
    Show { org: String },
    /// Delete an organization that has nothing left in it.
    Delete { org: String },
    /// Its members.
    Members { org: String },
    /// Make a user a member.
    AddMember {
        org: String,
        user: String,
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
    },
    /// End a membership.
    RemoveMember { org: String, user: String },
    /// Change what a member may do.
    SetRole {
        org: String,
        user: String,
        #[arg(value_enum)]
        role: Role,
    },
    /// Invite whoever has an e-mail address.
    Invite {
        org: String,
        email: String,
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    Owner,
    Admin,
    Member,
    Viewer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Member => "member",
            Role::Viewer => "viewer",
        }
    }
}

/// Runs the command.
pub fn run(orgs: Orgs) -> Result<(), Failure> {
    let Orgs { connection, command } = orgs;
    let of = |org: &str, rest: &[&str], method: Method| {
        let path = ["v1", "organizations", org].into_iter().chain(rest.iter().copied());
        Request::new(method, path)
    };
    let show = |connection: &Connection, request: Request, readable: &dyn Fn(&Json) -> String| {
        let answer = connection.send(request)?;
        connection.print(&answer, readable)
    };
    match command {
        Command::Create { name, dry_run } => {
            let request = Request::new(Method::POST, ["v1", "organizations"])
                .query("dry_run", dry_run.then_some("true"))
                .body(json!({"name": name}));
            show(&connection, request, &|json| table::object(&json["org"], SHOWN))
        }
        Command::List => {
            let request = Request::new(Method::GET, ["v1", "organizations"]);
            show(&connection, request, &|json| {
                table::list(&json["organizations"], LISTED)
            })
        }
        Command::Show { org } => {
            let request = of(&org, &[], Method::GET);
            show(&connection, request, &|json| {
                table::object(&json["organization"], SHOWN)
            })
        }
        Command::Delete { org } => {
            let request = of(&org, &[], Method::DELETE);
            show(&connection, request, &|_| format!("deleted organization {org}"))
        }
        Command::Members { org } => {
            let request = of(&org, &["members"], Method::GET);
            show(&connection, request, &|json| table::list(&json["members"], MEMBERS))
        }
        Command::AddMember { org, user, role } => {
            let body = json!({"username": user, "role": role.name()});
            let request = of(&org, &["members"], Method::POST).body(body);
            show(&connection, request, &|_| format!("{user} is {} of {org}", role.name()))
        }
        Command::RemoveMember { org, user } => {
            let request = of(&org, &["members", &user], Method::DELETE);
            show(&connection, request, &|_| {
                format!("{user} is no member of {org} any more")
            })
        }
        Command::SetRole { org, user, role } => {
            let request = of(&org, &["members", &user], Method::PATCH).body(json!({"role": role.name()}));
            show(&connection, request, &|_| format!("{user} is {} of {org}", role.name()))
        }
        Command::Invite { org, email, role } => {
            let body = json!({"email": email, "role": role.name()});
            let request = of(&org, &["invites"], Method::POST).body(body);
            show(&connection, request, &|_| {
                format!("invited {email} to {org} as {}", role.name())
            })
        }
    }
}
