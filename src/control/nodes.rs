//! Which nodes serve, and which of them a namespace is at home on.
//!
//! A node says that it is there by one object, written anew every [`BEAT`]; after [`SILENCE_MAX`] without a
//! word it is taken for gone. It removes the object when it stops.
//!
//! # Cost
//!
//! One PUT per [`BEAT`] and node: 8,640 a day, some cents on S3. Whoever asks who is there costs one LIST, and one
//! GET per node, at most once per [`BEAT`]; every node asks once a minute, since limits are shared by all.

use std::future::Future;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NamespaceName, OrgId};
use crate::store::StoreError;
use crate::store::paths::control as paths;

/// How often a node says that it is there.
pub const BEAT: Duration = Duration::from_secs(10);
/// Limits are shared by as many nodes as there were at the last count, every so many beats.
const BEATS_PER_COUNT: u64 = 6;
/// After so long without a word a node is taken for gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// After so long, what it left is removed by whoever finds it.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3600);
/// The most nodes that are looked at.
const NODES_MAX: usize = 1024;
/// A larger heartbeat was not written by a node.
const BEAT_BYTES_MAX: usize = 4096;

/// A node as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: Uuid,
    /// Unique: its location and the beginning of its id.
    pub name: String,
    /// The code of its location.
    pub region: String,
    /// When it last said that it is there: seconds since the epoch.
    pub at: u64,
}

/// What this node knows of itself and the others.
#[derive(Default)]
pub(super) struct Nodes {
    this: OnceLock<(Uuid, String)>,
    /// The nodes found, and when on the boot clock. Held to look or note.
    seen: Mutex<Option<(Duration, Vec<Node>)>>,
}

impl Control {
    /// This node, as of now.
    pub fn this_node(&self) -> Node {
        let region = &self.place().region;
        let (id, name) = self.nodes().this.get_or_init(|| {
            let id = self.runtime().rng.uuid();
            let begin: String = id.simple().to_string().chars().take(8).collect();
            (id, format!("{region}-{begin}"))
        });
        Node {
            id: *id,
            name: name.clone(),
            region: region.clone(),
            at: self.now(),
        }
    }

    /// Says every [`BEAT`] that this node is there, until `stop` resolves; then that it is not.
    pub async fn beat_until(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        for n in 0u64.. {
            if let Err(error) = self.beat().await {
                tracing::debug!(%error, "a heartbeat was not written");
            }
            if n.is_multiple_of(BEATS_PER_COUNT) {
                match self.live_nodes().await {
                    Ok(nodes) => self.share_limits(nodes.len()),
                    Err(error) => tracing::debug!(%error, "the nodes were not counted"),
                }
            }
            tokio::select! {
                () = stop.as_mut() => break,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
        let key = paths::node(&self.this_node().id.to_string());
        if let Err(error) = self.records().store().delete(&key).await {
            tracing::debug!(%error, "the heartbeat of this node was left");
        }
    }

    /// Says that this node is there. Costs one PUT. Nobody else writes its key, so it may be repeated.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let node = self.this_node();
        let body = serde_json::to_vec(&node).expect("texts and numbers are JSON");
        self.records()
            .store()
            .put(&paths::node(&node.id.to_string()), body)
            .await
    }

    /// The nodes that are there, this one always among them, by id. At most [`BEAT`] old.
    pub async fn live_nodes(&self) -> Result<Vec<Node>> {
        let now = self.runtime().clock.boot();
        let seen = || self.nodes().seen.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((at, nodes)) = &*seen()
            && now.saturating_sub(*at) < BEAT
        {
            return Ok(nodes.clone());
        }
        let nodes = self.find_nodes().await.map_err(|e| {
            let sentence = "object storage cannot be reached; try again";
            Error::new(ErrorKind::Unavailable, sentence).because(e)
        })?;
        *seen() = Some((now, nodes.clone()));
        Ok(nodes)
    }

    async fn find_nodes(&self) -> Result<Vec<Node>, StoreError> {
        let store = self.records().store();
        let listed: Vec<_> = store.list(&paths::nodes(), None).take(NODES_MAX).try_collect().await?;
        let read = listed.into_iter().map(|object| async move {
            let found = store.get(&object.location).await?;
            let node = found.filter(|bytes| bytes.len() <= BEAT_BYTES_MAX);
            let node = node.and_then(|bytes| serde_json::from_slice::<Node>(&bytes).ok());
            Ok::<_, StoreError>((object.location, node))
        });
        let read: Vec<_> = stream::iter(read).buffered(16).try_collect().await?;
        let this = self.this_node();
        let mut nodes = vec![this.clone()];
        for (key, node) in read {
            let Some(node) = node else { continue };
            let silence = Duration::from_secs(this.at.saturating_sub(node.at));
            if node.id != this.id && silence <= SILENCE_MAX {
                nodes.push(node);
            } else if silence > LEFTOVER_AFTER
                && let Err(error) = store.delete(&key).await
            {
                tracing::debug!(%error, "the heartbeat of a node that is gone was left");
            }
        }
        nodes.sort_by_key(|node| node.id);
        Ok(nodes)
    }
}

/// The nodes in the order in which a namespace is at home on them: the first is its primary. When a node comes or
/// goes, the order of the others stays. Pure.
pub fn in_order_of(mut nodes: Vec<Node>, org: &OrgId, name: &NamespaceName) -> Vec<Node> {
    let weight = |node: &Node| xxh3_64(format!("{}\0{org}\0{name}", node.id).as_bytes());
    nodes.sort_by_cached_key(|node| (std::cmp::Reverse(weight(node)), node.id));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u128) -> Node {
        Node {
            id: Uuid::from_u128(n),
            name: n.to_string(),
            region: "local".into(),
            at: 0,
        }
    }

    #[test]
    fn a_node_that_goes_moves_nothing_but_its_own() {
        let org = OrgId::default_org();
        let nodes: Vec<Node> = (1..=5).map(node).collect();
        let mut homes = std::collections::BTreeSet::new();
        for i in 0..200 {
            let name = NamespaceName::parse(&format!("ns-{i}")).expect("legal");
            let all = in_order_of(nodes.clone(), &org, &name);
            homes.insert(all[0].id);
            for gone in &nodes {
                let left: Vec<Node> = nodes.iter().filter(|n| n.id != gone.id).cloned().collect();
                let expected: Vec<Node> = all.iter().filter(|n| n.id != gone.id).cloned().collect();
                assert_eq!(in_order_of(left, &org, &name), expected);
            }
        }
        assert_eq!(homes.len(), 5, "every node is home to some");
    }
}
