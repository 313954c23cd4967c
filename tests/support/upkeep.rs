//! Jobs of upkeep, done by hand.

use std::sync::Arc;

use shoal::maintenance::{Job, Outcome, UpkeepOptions, Workshop, flush as flush_snapshot, merge};
use shoal::manifest::Manifest;
use shoal::store::NsKey;

use super::engine::{Node, name};

/// A job on behalf of a node.
pub fn job(node: &Node, namespace: &str, options: UpkeepOptions) -> Job {
    let workshop = Workshop {
        runtime: node.runtime.clone(),
        store: node.engine.store().clone(),
        cache: node.engine.cache().clone(),
        writer: node.engine.writer(),
        grace: node.engine.grace(),
        options: Arc::new(options),
    };
    Job::begin(workshop, NsKey::new(node.org.clone(), name(namespace)))
}

/// Puts what a node knows of a namespace into segments. `None` when there is nothing to do, or another was faster.
pub async fn flush(node: &Node, namespace: &str) -> Option<Manifest> {
    flush_with(node, namespace, UpkeepOptions::default()).await
}

pub async fn flush_with(node: &Node, namespace: &str, options: UpkeepOptions) -> Option<Manifest> {
    let job = job(node, namespace, options);
    let snapshot = node.engine.newest(&node.org, &name(namespace)).await.expect("readable");
    let base = match snapshot.generation.0 {
        0 => None,
        _ => job.manifests.get(snapshot.generation).await.expect("readable"),
    };
    let outcome = flush_snapshot(&job, &snapshot, base.as_ref().map(|(m, digest)| (m, *digest))).await;
    match outcome.expect("flushed") {
        Outcome::Published(manifest, _) => Some(*manifest),
        _ => None,
    }
}

/// Makes one segment of all.
pub async fn merge_all(node: &Node, namespace: &str) -> Option<Manifest> {
    let job = job(node, namespace, UpkeepOptions::default());
    let (base, digest) = job.manifests.listed().await.expect("readable")?;
    let inputs: Vec<_> = base.segments.iter().map(|s| s.id()).collect();
    let pace = shoal::maintenance::Pace::new(0);
    if inputs.is_empty() {
        return None;
    }
    let merged = merge::merge(&job, &base, &inputs, &pace).await.expect("merged");
    match merge::publish(&job, &merged, (&base, digest)).await.expect("published") {
        Outcome::Published(manifest, _) => Some(*manifest),
        _ => None,
    }
}
