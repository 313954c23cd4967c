//! What indexers leave behind, held against the log.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use shoal::base::CpuPool;
use shoal::cache::{Cache, CacheOptions, ReadKind};
use shoal::maintenance::fsck::{Fsck, FsckOptions};
use shoal::manifest::{Manifest, ManifestStore};
use shoal::model::{Attribute, Column, Consistency, Id};
use shoal::snapshot::Snapshot;
use shoal::store::paths::{self, NsObject};

use super::check::Replay;
use super::history::{Outcome, Row, Rows, WriteOp};
use super::world::{Plan, World, key};

impl World {
    /// Checks every manifest, and that a node that has time puts everything into segments. Returns the number of
    /// manifests. The store must be healed.
    pub async fn check_upkeep(&self, replayed: &Replay) -> u64 {
        // Every node may be dead: this one does what is left (I16).
        let node = self.start_node(u64::MAX);
        if self.plan.faults {
            // A DELETE that was late may have taken the marker of a later entry along: whoever uses the namespace
            // finds out (row 32 of the failure table).
            self.read_on(&node, Consistency::Strong).await;
        }
        tokio::time::sleep(Duration::from_secs(180)).await;
        let runtime = self.observer();
        let store = self.store(&runtime);
        let cache = Cache::new(store.clone(), &runtime, CacheOptions::default());
        let manifests = ManifestStore::new(store.clone(), key(), CpuPool::inline());
        let mut listed = manifests.list().await.expect("the store is healed");
        listed.sort_by_key(|l| l.0);
        let mut previous: Option<(Manifest, _)> = None;
        for (at, (generation, ..)) in listed.iter().enumerate() {
            assert_eq!(generation.0, at as u64 + 1, "a generation is missing");
            let read = manifests.get(*generation).await.expect("the store is healed");
            let (manifest, digest) = read.expect("it was listed");
            manifest.check().expect("it was published");
            let after = previous.as_ref().map(|(m, digest)| (m, *digest));
            // Among others: `indexed_seq` does not go back (I11).
            manifest.check_successor(after).expect("it was published");
            let seq = manifest.indexed_seq.0 as usize;
            assert_eq!(replayed.digests.get(seq), Some(&manifest.indexed_digest), "another log");
            let snapshot = Snapshot::open(&manifest, &manifests, &[], &cache, &runtime.cpu).await;
            let snapshot = snapshot.expect("what a manifest names is there (I9)");
            let rows = rows_of(&snapshot).await;
            let state = replayed.states[seq].clone().unwrap_or_default();
            assert_eq!(rows, state, "{generation} holds another state than the log up to {seq}");
            assert_eq!(manifest.rows(), state.len() as u64, "{generation} counts its rows");
            previous = Some((manifest, digest));
        }
        let deep = FsckOptions {
            deep: true,
            ..FsckOptions::default()
        };
        let looked = Fsck::new(store.clone(), runtime.clone(), deep).look(&key()).await;
        let looked = looked.expect("the store is healed");
        assert!(looked.is_whole(), "fsck says {:#?}", looked.findings);
        let written = replayed.states.len() as u64 - 1;
        let indexed = previous.map_or(0, |(m, _)| m.indexed_seq.0);
        assert_eq!(indexed, written, "what is dirty becomes clean (I16)");
        let marked: Vec<_> = store
            .list(&paths::dirty_markers(), None)
            .try_collect()
            .await
            .expect("healed");
        assert!(marked.is_empty(), "{marked:?} marks what is clean");
        // Names of objects are used once (I10), but for the hint and what is only advice: listing markers, dirty markers,
        // and leases, which are deleted and may then arrive late.
        let may_change = |object: &object_store::path::Path| {
            let parsed = paths::parse_object(object);
            matches!(parsed, Some(NsObject::Head | NsObject::Lease { .. }))
                || paths::parse_dirty_marker(object).is_some()
                || paths::marker_genesis(object).is_some()
        };
        let changed: Vec<_> = self.ledger.changed().into_iter().filter(|k| !may_change(k)).collect();
        assert!(changed.is_empty(), "{changed:?} were stored twice with different bytes");
        node.engine.close();
        listed.len() as u64
    }
}

/// The live rows of the segments; every id is live once (I8).
async fn rows_of(snapshot: &Snapshot) -> Rows {
    assert!(snapshot.parts.is_empty(), "a manifest has no tail");
    let attributes: Vec<Attribute> = snapshot.schema.attributes().cloned().collect();
    let mut rows = Rows::new();
    for part in snapshot.segments.iter() {
        let live: Vec<u32> = part.live.iter().map(|row| row as u32).collect();
        if live.is_empty() {
            continue;
        }
        let fetched = part
            .segment
            .fetch(&live, &attributes, ReadKind::Scan)
            .await
            .expect("readable");
        let ids: Vec<Id> = (0..fetched.ids.len()).map(|row| fetched.ids.get(row)).collect();
        for (at, id) in ids.iter().enumerate() {
            let Id::UInt(number) = id else {
                panic!("the simulation writes numbers, not {id}");
            };
            let mut row: Row = BTreeMap::new();
            for attribute in &attributes {
                let Some(Column::Values(values)) = fetched.columns.get(&attribute.id) else {
                    continue;
                };
                if values.is_valid(at) {
                    row.insert(attribute.name.to_string(), values.as_primitive::<Int64Type>().value(at));
                }
            }
            assert!(rows.insert(*number, row).is_none(), "{number} is live twice");
            // It is found by its id, and nowhere else.
            let found = part.segment.find(std::slice::from_ref(id)).await.expect("readable");
            assert_eq!(found, [Some(live[at])], "{number} is not found where it is");
        }
    }
    rows
}

/// One node writes, and flushes and merges in between; it dies at its `polls`-th poll, and another goes on.
fn run_to(polls: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let plan = Plan {
            nodes: 1,
            indexers: true,
            ..Plan::default()
        };
        let world = World::with_first_life(11, plan, polls);
        let first = world.first_node();
        for _ in 0..4 {
            for _ in 0..3 {
                world.write().await;
            }
            world.read().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let spent = first.life.polls();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let replayed = super::check::replay(&world.log()).await;
        replayed.check(&world.history.borrow());
        let is_unknown = |w: &&WriteOp| w.outcome == Outcome::Unknown;
        let unknown = world.history.borrow().writes.iter().filter(is_unknown).count();
        assert!(unknown <= 1, "one crash interrupts one write");
        let manifests = world.check_upkeep(&replayed).await;
        assert!(manifests > 0, "it was indexed");
        spent
    })
}

#[test]
fn nothing_is_lost_at_whichever_await_an_indexer_dies() {
    let polls = run_to(u64::MAX);
    assert!(polls > 100, "there is a lot to do: {polls}");
    for n in 1..=polls {
        run_to(n);
    }
}
