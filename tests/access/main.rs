//! What callers may do with a namespace, on the engine: decided on the newest state, on any node, and
//! at no extra request.

#[path = "../support/mod.rs"]
mod support;

mod create;
mod guard;
mod restricted;

use std::sync::Arc;

use object_store::memory::InMemory;
use serde_json::Value as Json;
use shoal::base::Rng;
use shoal::error::{Error, Result};
use shoal::model::access::{Guard, Restriction, TokenGuard};
use shoal::model::query::Read;
use shoal::model::{Settings, SettingsChange};
use shoal::namespace::{Metadata, QueryOutcome};
use support::engine::{Node, name};
use support::fault::{FaultRates, FaultStore};

/// A bucket that fails when told to.
fn bucket(seed: u64) -> FaultStore {
    FaultStore::new(Arc::new(InMemory::new()), Rng::seeded(seed), FaultRates::healthy())
}

fn node(bucket: &FaultStore, seed: u64) -> Node {
    Node::new(Arc::new(bucket.clone()), seed)
}

/// The same node for a caller.
fn guarded(node: &Node, guard: Guard) -> Node {
    Node {
        engine: node.engine.guarded(Arc::new(guard)),
        runtime: node.runtime.clone(),
        org: node.org.clone(),
    }
}

fn token(node: &Node, token: TokenGuard) -> Node {
    let guard = Guard {
        token: Some(token),
        ..Guard::default()
    };
    guarded(node, guard)
}

fn restricted(node: &Node, restriction: Restriction) -> Node {
    let guard = Guard {
        restriction: Some(Arc::new(restriction)),
        ..Guard::default()
    };
    guarded(node, guard)
}

async fn known(node: &Node, namespace: &str) -> Metadata {
    node.engine.metadata(&node.org, &name(namespace)).await.expect("there")
}

async fn set(node: &Node, namespace: &str, change: SettingsChange) -> Settings {
    let set = node.engine.update_settings(&node.org, &name(namespace), change).await;
    (*set.expect("set").settings).clone()
}

fn read(node: &Node, query: &Json) -> Read {
    let parsed = shoal::api::query::parse(query.to_string().as_bytes(), node.engine.limits());
    parsed.expect("a query").read
}

async fn query(node: &Node, namespace: &str, body: &Json) -> Result<QueryOutcome> {
    node.engine.query(&node.org, &name(namespace), read(node, body)).await
}

/// The kind and the code of an error.
fn said<T>(result: Result<T>) -> (shoal::error::ErrorKind, Option<&'static str>) {
    let error: Error = result.err().expect("refused");
    (error.kind, error.code)
}
