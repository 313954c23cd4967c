//! Descriptions of the routes of keys, and of what callers ask about themselves.

use schemars::SchemaGenerator;

use super::operations::{BODY, KNOWN, NAMED};
use super::{Operation, Tag};
use crate::api::typesense::keys::{KeyDeleted, KeyList, KeyRequest, KeyShown};
use crate::api::typesense::operator::{Debug, Health, Metrics, Stats};
use crate::api::whoami::{ExplainRequest, Explained, WhoAmI};

pub fn create_key(g: &mut SchemaGenerator) -> Operation {
    Operation::new("createKey", Tag::Keys, "Makes an API key; its value is shown this once")
        .takes::<KeyRequest>(g)
        .answers::<KeyShown>(201, "The key.", g)
        .fails(&[400, 401, 402, 408, 409, 413, 415, 429, 500, 503])
}

pub fn list_keys(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "listKeys",
        Tag::Keys,
        "Lists the API keys of the organization, without their values",
    )
    .answers::<KeyList>(200, "All of them, by id.", g)
    .fails(KNOWN)
}

pub fn get_key(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getKey", Tag::Keys, "Returns an API key, without its value")
        .answers::<KeyShown>(200, "The key.", g)
        .fails(NAMED)
}

pub fn delete_key(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "deleteKey",
        Tag::Keys,
        "Deletes an API key, and with it every scoped key made of it",
    )
    .answers::<KeyDeleted>(200, "It does not count any more.", g)
    .fails(NAMED)
}

pub fn whoami(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "whoami",
        Tag::Keys,
        "Says who the request's credential stands for, and what it allows",
    )
    .answers::<WhoAmI>(200, "Who it is.", g)
    .fails(KNOWN)
}

pub fn explain_access(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "explainAccess",
        Tag::Keys,
        "Says whether the request's credential allows something, and why",
    )
    .takes::<ExplainRequest>(g)
    .answers::<Explained>(200, "The decision.", g)
    .fails(BODY)
}

pub fn health(g: &mut SchemaGenerator) -> Operation {
    Operation::new("health", Tag::Operations, "Answers when the server does")
        .answers::<Health>(200, "It does.", g)
        .fails(&[])
}

pub fn debug(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "debug",
        Tag::Debugging,
        "Says what the server is, to Typesense's clients",
    )
    .answers::<Debug>(200, "What it is.", g)
    .fails(KNOWN)
}

pub fn metrics(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "machineMetrics",
        Tag::Debugging,
        "Figures of the machine and the process, as Typesense names them",
    )
    .answers::<Metrics>(200, "The figures.", g)
    .fails(KNOWN)
}

pub fn stats(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "requestStats",
        Tag::Debugging,
        "Requests per second and latencies of the last ten seconds on this node",
    )
    .answers::<Stats>(200, "The figures.", g)
    .fails(KNOWN)
}
