//! A namespace with everything that there is, a branch of it, and their objects as a map that can be damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value as Json, json};
use shoal::maintenance::UpkeepOptions;
use shoal::maintenance::fsck::{Fsck, FsckOptions, Report};
use shoal::manifest::{self, Manifest};
use shoal::model::write::origin::OriginKind;
use shoal::namespace::{CopyFrom, Progress};
use shoal::store::NsKey;
use shoal::store::paths::{self, NsObject};

use crate::support::engine::{Node, name};
use crate::support::upkeep;

/// All objects of a bucket.
#[derive(Clone)]
pub struct Objects(pub BTreeMap<Path, Bytes>);

pub fn ns(of: &str) -> NsKey {
    NsKey::new(shoal::model::OrgId::default_org(), name(of))
}

fn rows(ids: std::ops::Range<u64>, salt: u64) -> Json {
    let row = |id: u64| {
        let mut row = json!({
            "id": id, "n": (id * 7 + salt) % 13, "t": format!("word{} and {salt} of {id}", id % 5),
            "tags": [format!("tag{}", id % 4), "all"], "vector": [id, salt], "u": format!("unfiltered {id}"),
        });
        if id.is_multiple_of(3) {
            row["f"] = json!(id as f64 / 3.0 - 5.0);
        }
        row
    };
    ids.map(row).collect()
}

fn upsert(ids: std::ops::Range<u64>, salt: u64) -> Json {
    json!({
        "upsert_rows": rows(ids, salt), "distance_metric": "euclidean_squared",
        "schema": {
            "t": {"type": "string", "full_text_search": true, "glob": true, "filterable": true},
            "u": {"type": "string", "filterable": false},
        },
    })
}

async fn flush(node: &Node, namespace: &str) -> Manifest {
    let options = UpkeepOptions {
        inline: false,
        ..UpkeepOptions::default()
    };
    upkeep::flush_with(node, namespace, options).await.expect("published")
}

/// `docs`: several generations, a merge, deletions, a tail. `branch`: shares its segments, has a tail. `small`: inline.
/// `gone`: deleted. `log`: never flushed.
pub async fn world() -> Objects {
    let bucket = Arc::new(InMemory::new());
    let node = Node::new(bucket.clone(), 7);
    let write = async |namespace: &str, body: Json| drop(node.write(namespace, body).await.expect("written"));
    write("docs", upsert(0..40, 1)).await;
    adopt(&node, "docs", flush(&node, "docs").await).await;
    write("docs", upsert(30..70, 2)).await;
    write("docs", json!({"deletes": [1, 2, 3]})).await;
    adopt(&node, "docs", flush(&node, "docs").await).await;
    let merged = upkeep::merge_all(&node, "docs").await.expect("published");
    adopt(&node, "docs", merged).await;
    write("docs", upsert(60..90, 3)).await;
    write("docs", json!({"patch_rows": [{"id": 5, "n": 99}], "deletes": [6, 7]})).await;
    adopt(&node, "docs", flush(&node, "docs").await).await;
    for salt in 0..4 {
        write("docs", upsert(85 + salt..95 + salt, salt)).await;
    }
    write("docs", json!({"patch_rows": [{"id": 20, "n": 98}], "deletes": [8]})).await;
    let from = CopyFrom {
        kind: OriginKind::Branch,
        org: node.org.clone(),
        source: name("docs"),
        guard: None,
        num_shards: None,
        create_namespace: None,
    };
    let (branch, progress) = (name("branch"), Progress::default());
    let branched = node.engine.copy(&node.org, &branch, &from, &progress).await;
    branched.expect("branched");
    write("branch", json!({"deletes": [20, 21]})).await;
    write("small", upsert(0..5, 1)).await;
    upkeep::flush(&node, "small").await.expect("published");
    write("gone", upsert(0..5, 1)).await;
    flush(&node, "gone").await;
    node.engine.delete(&node.org, &name("gone")).await.expect("deleted");
    write("log", upsert(0..5, 1)).await;
    write("log", upsert(3..9, 2)).await;
    Objects::of(&bucket).await
}

async fn adopt(node: &Node, namespace: &str, manifest: Manifest) {
    let adopted = node.engine.adopt(&node.org, &name(namespace), &manifest).await;
    adopted.expect("it says the same");
}

/// The branch after its first flush, the source merged into one segment.
pub async fn later(objects: &Objects) -> Objects {
    let bucket = objects.bucket().await;
    let node = Node::new(bucket.clone(), 8);
    flush(&node, "branch").await;
    upkeep::merge_all(&node, "docs").await.expect("published");
    flush(&node, "docs").await;
    Objects::of(&bucket).await
}

impl Objects {
    pub async fn of(bucket: &InMemory) -> Self {
        let mut objects = BTreeMap::new();
        let listed: Vec<_> = bucket.list(None).try_collect().await.expect("listed");
        for object in listed {
            let found = bucket.get(&object.location).await.expect("there");
            objects.insert(object.location, found.bytes().await.expect("readable"));
        }
        Self(objects)
    }

    pub async fn bucket(&self) -> Arc<InMemory> {
        let bucket = Arc::new(InMemory::new());
        for (key, bytes) in &self.0 {
            bucket.put(key, bytes.clone().into()).await.expect("memory takes it");
        }
        bucket
    }

    /// The keys in the directory of a namespace, with what they are.
    pub fn inside(&self, of: &str) -> Vec<(NsObject, Path)> {
        let prefix = paths::namespace_prefix(&ns(of));
        let inside = self.0.keys().filter(|key| key.prefix_matches(&prefix));
        inside
            .filter_map(|key| Some((paths::parse_object(key)?, key.clone())))
            .collect()
    }

    /// The keys of manifests, oldest first.
    pub fn manifests(&self, of: &str) -> Vec<Path> {
        let mut found: Vec<_> = self
            .inside(of)
            .into_iter()
            .filter(|(o, _)| matches!(o, NsObject::Manifest(_)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, key)| key).collect()
    }

    pub fn newest(&self, of: &str) -> (Path, Manifest) {
        let key = self.manifests(of).pop().expect("there is one");
        let (manifest, _) = manifest::decode(&self.0[&key]).expect("whole");
        (key, manifest)
    }

    pub fn entry(&self, of: &str, seq: u64) -> Path {
        paths::wal_entry(&ns(of), shoal::model::Seq(seq))
    }

    /// Puts this in place of the newest manifest, and of the hint.
    pub fn replace_newest(&mut self, of: &str, change: impl FnOnce(&mut Manifest)) {
        let (key, mut manifest) = self.newest(of);
        change(&mut manifest);
        let (bytes, _) = manifest::encode(&manifest);
        self.0.insert(paths::head(&ns(of)), bytes.clone());
        self.0.insert(key, bytes);
    }

    pub fn flip(&mut self, key: &Path, at: usize) {
        let mut bytes = self.0[key].to_vec();
        bytes[at] ^= 4;
        self.0.insert(key.clone(), bytes.into());
    }

    pub async fn look(&self, of: &str, deep: bool) -> Report {
        look(self.bucket().await, of, deep).await
    }
}

pub async fn look(bucket: Arc<dyn ObjectStore>, of: &str, deep: bool) -> Report {
    let node = Node::new(bucket, 9);
    let options = FsckOptions {
        deep,
        ..FsckOptions::default()
    };
    let fsck = Fsck::new(node.engine.store().clone(), node.runtime.clone(), options);
    fsck.look(&ns(of)).await.expect("the store answers")
}
