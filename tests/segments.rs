//! Namespaces whose rows are partly in segments: several nodes, flushes and merges by whoever gets to it, collected logs,
//! stale and missing hints. Whatever happens, a read says what a map says.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value as Json, json};
use shoal::base::Rng;
use shoal::maintenance::UpkeepOptions;
use shoal::maintenance::fsck::{Fsck, FsckOptions};
use shoal::manifest::{Deletions, Manifest, ManifestStore};
use shoal::model::query::{Read, VectorQuery};
use shoal::model::{Consistency, Direction, Filter, FilterOp, Gen, Id, Query, RankBy, Value};
use shoal::store::NsKey;
use shoal::store::paths::{self, NsObject};
use support::engine::{self, Node, name};
use support::upkeep;

/// `n` and `t` of each row.
type Rows = BTreeMap<u64, (i64, Option<String>)>;

struct World {
    bucket: Arc<InMemory>,
    nodes: Vec<Node>,
    rng: Rng,
    model: Rows,
    exists: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let bucket = Arc::new(InMemory::new());
        let nodes = (0..3).map(|n| Node::new(bucket.clone(), seed * 1000 + n)).collect();
        Self {
            bucket,
            nodes,
            rng: Rng::seeded(seed),
            model: Rows::new(),
            exists: false,
        }
    }

    fn node(&self) -> &Node {
        &self.nodes[self.rng.below(self.nodes.len() as u64) as usize]
    }

    fn ns(&self) -> NsKey {
        NsKey::new(self.nodes[0].org.clone(), name("ns"))
    }

    fn ids(&self) -> Vec<u64> {
        let ids: BTreeSet<u64> = (0..=self.rng.below(5)).map(|_| self.rng.below(30)).collect();
        ids.into_iter().collect()
    }

    /// A write, and what it does to the model: rows upserted, patched, deleted as far as they are counted.
    fn write(&mut self) -> (Json, [Option<u64>; 3]) {
        let (ids, n) = (self.ids(), self.rng.below(10) as i64);
        let row =
            |id: &u64| json!({"id": id, "n": n + *id as i64 % 3, "t": format!("text {n} of {id}"), "vector": [n, id]});
        let patch = |id: &u64| json!({"id": id, "n": n});
        let value = |id: &u64| (n + *id as i64 % 3, Some(format!("text {n} of {id}")));
        let known: Vec<u64> = ids.iter().copied().filter(|id| self.model.contains_key(id)).collect();
        let less = |model: &Rows, ids: &[u64]| -> Vec<u64> {
            ids.iter()
                .copied()
                .filter(|id| model.get(id).is_some_and(|r| r.0 < 5))
                .collect()
        };
        let less_known = less(&self.model, &ids);
        let upsert = |ids: &[u64]| ids.iter().map(row).collect::<Vec<_>>();
        let patches = |ids: &[u64]| ids.iter().map(patch).collect::<Vec<_>>();
        let (body, counts) = match self.rng.below(if self.exists { 9 } else { 1 }) {
            0 | 1 => {
                ids.iter().for_each(|id| drop(self.model.insert(*id, value(id))));
                let body = json!({"upsert_rows": upsert(&ids), "distance_metric": "euclidean_squared"});
                (body, [Some(ids.len() as u64), None, None])
            }
            2 => {
                known.iter().for_each(|id| self.model.get_mut(id).unwrap().0 = n);
                (
                    json!({"patch_rows": patches(&ids)}),
                    [None, Some(known.len() as u64), None],
                )
            }
            3 => {
                ids.iter().for_each(|id| drop(self.model.remove(id)));
                (json!({"deletes": ids}), [None, None, Some(ids.len() as u64)])
            }
            4 => {
                less_known.iter().for_each(|id| self.model.get_mut(id).unwrap().0 = n);
                let body = json!({"patch_rows": patches(&ids), "patch_condition": ["n", "Lt", 5]});
                (body, [None, Some(less_known.len() as u64), None])
            }
            5 => {
                less_known.iter().for_each(|id| drop(self.model.remove(id)));
                let body = json!({"deletes": ids, "delete_condition": ["n", "Lt", 5]});
                (body, [None, None, Some(less_known.len() as u64)])
            }
            6 => {
                let applies = |id: &&u64| self.model.get(id).is_none_or(|r| r.0 < 5);
                let applies: Vec<u64> = ids.iter().filter(applies).copied().collect();
                applies.iter().for_each(|id| drop(self.model.insert(*id, value(id))));
                let body = json!({
                    "upsert_rows": upsert(&ids), "upsert_condition": ["n", "Lt", 5],
                    "distance_metric": "euclidean_squared",
                });
                (body, [Some(applies.len() as u64), None, None])
            }
            7 => {
                let before = self.model.len();
                self.model.retain(|_, r| r.0 != n);
                let gone = (before - self.model.len()) as u64;
                // The second filter sees what the first one leaves, and the patch that row by id what both do.
                let mut patched = 0;
                for row in self.model.values_mut().filter(|r| r.0 > 8) {
                    (row.0, patched) = (0, patched + 1);
                }
                let low: Vec<u64> = ids
                    .iter()
                    .copied()
                    .filter(|id| self.model.get(id).is_some_and(|r| r.0 == 0))
                    .collect();
                low.iter().for_each(|id| self.model.get_mut(id).unwrap().0 = n);
                let body = json!({
                    "delete_by_filter": ["n", "Eq", n],
                    "patch_by_filter": {"filters": ["n", "Gt", 8], "patch": {"n": 0}},
                    "patch_rows": patches(&ids), "patch_condition": ["n", "Eq", 0],
                });
                (body, [None, Some(patched + low.len() as u64), Some(gone)])
            }
            _ => {
                let text = format!("text {n}");
                let matches = |t: &Option<String>| t.as_ref().is_some_and(|t| t.starts_with(&text));
                let hit: Vec<u64> = self
                    .model
                    .iter()
                    .filter(|(_, r)| matches(&r.1))
                    .map(|(id, _)| *id)
                    .collect();
                hit.iter().for_each(|id| self.model.get_mut(id).unwrap().1 = None);
                let body = json!({"patch_by_filter": {
                    "filters": ["t", "Glob", format!("{text}*")], "patch": {"t": null},
                }});
                (body, [None, Some(hit.len() as u64), None])
            }
        };
        self.exists = true;
        (body, counts)
    }

    async fn step(&mut self, log: &mut Vec<String>) {
        match self.rng.below(20) {
            0..=9 => {
                let (body, [upserted, patched, deleted]) = self.write();
                log.push(body.to_string());
                let written = self
                    .node()
                    .write("ns", body)
                    .await
                    .unwrap_or_else(|e| panic!("{e:?} after {log:#?}"));
                let counts = (written.rows_upserted, written.rows_patched, written.rows_deleted);
                assert_eq!(counts, (upserted, patched, deleted), "after {log:#?}");
            }
            10..=13 if self.exists => {
                let options = UpkeepOptions {
                    inline: self.rng.below(2) == 0,
                    ..UpkeepOptions::default()
                };
                let node = self.rng.below(3) as usize;
                log.push(format!("flush by {node}"));
                let manifest = upkeep::flush_with(&self.nodes[node], "ns", options).await;
                self.adopt(manifest, log).await;
            }
            14 if self.exists => {
                log.push("merge".into());
                let manifest = upkeep::merge_all(self.node(), "ns").await;
                self.adopt(manifest, log).await;
            }
            15 => {
                let node = self.rng.below(3) as usize;
                log.push(format!("restart {node}"));
                self.nodes[node] = Node::new(self.bucket.clone(), self.rng.u64());
            }
            16 if self.exists => {
                log.push("delete".into());
                let node = self.node();
                node.engine.delete(&node.org, &name("ns")).await.expect("deleted");
                self.model.clear();
                self.exists = false;
            }
            17 => {
                log.push("collect".into());
                tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
                self.collect().await;
            }
            18 => {
                let lost = self.rng.below(2) == 0;
                log.push(format!("hint lost: {lost}"));
                self.damage_hint(lost).await;
            }
            _ => {}
        }
        self.check(log).await;
    }

    async fn adopt(&self, manifest: Option<Manifest>, log: &mut Vec<String>) {
        let Some(manifest) = manifest else {
            log.push("nothing was published".into());
            return;
        };
        log.push(format!("manifest {} at {}", manifest.generation, manifest.indexed_seq));
        for (n, node) in self.nodes.iter().enumerate() {
            if self.rng.below(2) == 0 {
                log.push(format!("adopt {} by {n}", manifest.generation));
                let adopted = node.engine.adopt(&node.org, &name("ns"), &manifest).await;
                adopted.unwrap_or_else(|e| panic!("{e:?} after {log:#?}"));
            }
        }
    }

    /// Removes what a collector may remove after the grace time: all but the newest manifest, what that one names, and
    /// the log after it.
    async fn collect(&self) {
        let node = &self.nodes[0];
        let manifests = ManifestStore::new(node.engine.store().clone(), self.ns(), node.runtime.cpu.clone());
        let Some((newest, _)) = manifests.listed().await.expect("readable") else {
            return;
        };
        let listed: Vec<_> = self
            .bucket
            .list(Some(&paths::upkeep::namespace_prefix(&self.ns())))
            .try_collect()
            .await
            .expect("listed");
        let objects: Vec<_> = listed
            .into_iter()
            .filter_map(|o| Some((paths::parse_object(&o.location)?, o.location)))
            .collect();
        let last = objects.iter().filter_map(|(o, _)| match o {
            NsObject::Entry(seq) => Some(*seq),
            _ => None,
        });
        let last = last.max().expect("the newest entry is there");
        let named: BTreeSet<_> = newest.segments.iter().map(|s| s.meta.id.0).collect();
        let deletions = newest.segments.iter().filter_map(|s| match &s.deletions {
            Deletions::Object(object) => Some(object.key),
            _ => None,
        });
        let deletions: BTreeSet<_> = deletions.collect();
        for (object, key) in objects {
            let goes = match object {
                NsObject::Entry(seq) => seq <= newest.indexed_seq && seq < last,
                NsObject::Manifest(generation) => generation < newest.generation,
                NsObject::Segment(id) => !named.contains(&id),
                NsObject::Deletions(id) => !deletions.contains(&id),
                _ => false,
            };
            if goes {
                self.bucket.delete(&key).await.expect("deleted");
            }
        }
    }

    /// Makes the hint disappear, or as old as can be.
    async fn damage_hint(&self, lost: bool) {
        let head = paths::head(&self.ns());
        if lost {
            let _ = self.bucket.delete(&head).await;
            return;
        }
        for generation in 1..200 {
            let old = self.bucket.get(&paths::manifest(&self.ns(), Gen(generation))).await;
            if let Ok(old) = old {
                let bytes = old.bytes().await.expect("readable");
                self.bucket.put(&head, bytes.into()).await.expect("written");
                return;
            }
        }
    }

    /// Nothing that lies in the bucket is damaged, and everything derived says what the rows say.
    async fn is_whole(&self, log: &[String]) {
        let node = &self.nodes[0];
        let deep = FsckOptions {
            deep: true,
            ..FsckOptions::default()
        };
        let fsck = Fsck::new(node.engine.store().clone(), node.runtime.clone(), deep);
        let report = fsck.look(&self.ns()).await.expect("the store answers");
        assert!(report.is_whole(), "{:#?} after {log:#?}", report.findings);
        assert_eq!(report.rows, self.model.len() as u64, "after {log:#?}");
    }

    async fn check(&self, log: &[String]) {
        let node = self.rng.below(3) as usize;
        let mut log = log.to_vec();
        log.push(format!("read by {node}"));
        let node = &self.nodes[node];
        let read = node.rows("ns", Consistency::Strong).await;
        if !self.exists {
            assert!(read.is_err(), "after {log:#?}");
            return;
        }
        let read = read.unwrap_or_else(|e| panic!("{e:?} after {log:#?}"));
        let mut rows = Rows::new();
        for row in read.results[0].rows() {
            let value = |name: &str| {
                row.attributes
                    .iter()
                    .find(|(n, _)| &**n == name)
                    .map(|(_, v)| v.clone())
            };
            let n = match value("n") {
                Some(Value::Int(n)) => n,
                Some(Value::UInt(n)) => n as i64,
                other => panic!("{other:?} after {log:#?}"),
            };
            let t = match value("t") {
                Some(Value::String(t)) => Some(t),
                None => None,
                other => panic!("{other:?} after {log:#?}"),
            };
            let Id::UInt(id) = row.id else { panic!("{:?}", row.id) };
            assert!(value("vector").is_some(), "after {log:#?}");
            rows.insert(id, (n, t));
        }
        assert_eq!(rows, self.model, "after {log:#?}");
        let filtered = Query {
            rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
            filter: Some(Filter::compare("n", FilterOp::Gt, 8)),
            limit: 1000,
            ..Query::default()
        };
        let filtered = Read {
            queries: vec![filtered],
            rerank: None,
            consistency: Consistency::Strong,
        };
        let filtered = node.engine.query(&node.org, &name("ns"), filtered).await;
        let filtered = engine::ids(&filtered.unwrap_or_else(|e| panic!("{e:?} after {log:#?}")));
        let expected: Vec<u64> = self.model.iter().filter(|(_, r)| r.0 > 8).map(|(id, _)| *id).collect();
        assert_eq!(filtered, expected, "with n above 8 after {log:#?}");
        assert_eq!(read.approx_namespace_rows, self.model.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn vectors_are_searched_exhaustively_wherever_they_are() {
    let node = Node::new(Arc::new(InMemory::new()), 1);
    let write = |ids: std::ops::Range<u64>| {
        let rows: Vec<_> = ids.map(|id| json!({"id": id, "n": id, "vector": [id, 1]})).collect();
        json!({"upsert_rows": rows, "distance_metric": "euclidean_squared"})
    };
    node.write("ns", write(0..10)).await.expect("written");
    let manifest = upkeep::flush(&node, "ns").await.expect("published");
    let adopted = node.engine.adopt(&node.org, &name("ns"), &manifest).await;
    adopted.expect("it is newer");
    node.write("ns", write(10..14)).await.expect("written");
    let ask = async |rank_by: RankBy| {
        let query = Query {
            rank_by: Some(rank_by),
            limit: 3,
            ..Query::default()
        };
        let read = Read {
            queries: vec![query],
            rerank: None,
            consistency: Consistency::Strong,
        };
        let answer = node.engine.query(&node.org, &name("ns"), read).await.expect("answered");
        (answer.approx_namespace_rows, answer.exhaustive_search_rows)
    };
    let nearest = RankBy::Nearest {
        attribute: "vector".into(),
        query: VectorQuery::One(vec![3.0, 1.0]),
        exact: false,
    };
    assert_eq!(ask(nearest).await, (14, 14));
    assert_eq!(ask(RankBy::Order(vec![("n".into(), Direction::Asc)])).await, (14, 4));
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_do_not_depend_on_what_is_in_segments() {
    let seeds = std::env::var("SHOAL_SEGMENT_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(24);
    let first = std::env::var("SHOAL_SEGMENT_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    for seed in first..first + seeds {
        let mut world = World::new(seed);
        let mut log = vec![format!("seed {seed}")];
        for _ in 0..60 {
            world.step(&mut log).await;
        }
        world.is_whole(&log).await;
    }
}
