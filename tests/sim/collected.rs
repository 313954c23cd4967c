//! What collectors deleted, held against what was needed then; and what they left.
//!
//! The rules are written down a second time, from the archive of everything that was ever stored: nothing is read from
//! the collectors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use shoal::base::CpuPool;
use shoal::config::StoreConfig;
use shoal::manifest::{self, Deletions, Manifest};
use shoal::model::{Consistency, Gen, Seq};
use shoal::store::Store;
use shoal::store::paths::{self, NsKey, NsObject};
use shoal::wal::{EntryKind, Log};
use ulid::Ulid;

use super::check::Replay;
use super::collecting::{Branches, GRACE, Since};
use super::history::Saw;
use super::once::Event;
use super::world::{World, key};

/// Until when something is needed that nothing succeeds.
const ALWAYS: u64 = u64::MAX;

/// Something that names objects, and when it counts.
struct Namer {
    from_ms: u64,
    until_ms: u64,
    what: String,
    names: BTreeSet<Path>,
}

/// One namespace, as the archive knows it.
#[derive(Default)]
struct Past {
    /// How long a manifest stays after its successor was published, in milliseconds.
    kept_ms: u64,
    /// When each manifest was published, and what it says.
    manifests: BTreeMap<Gen, (u64, Manifest)>,
    /// When each entry was written, which blobs it names, and the manifest of a branch in it.
    entries: BTreeMap<Seq, (u64, Vec<Ulid>, Option<Manifest>)>,
    /// The bytes of each entry with its blobs.
    bytes: BTreeMap<Seq, u64>,
    /// The entries that delete the namespace, and with it its tail.
    tombstones: BTreeSet<Seq>,
}

impl Past {
    /// When a manifest stops being retained: a while after its successor was published.
    fn until(&self, generation: Gen) -> u64 {
        match self.manifests.get(&generation.next()) {
            Some((at_ms, _)) => at_ms + self.kept_ms,
            None => ALWAYS,
        }
    }

    /// How much of the log every state has in segments that counts at a time.
    fn floor(&self, at_ms: u64) -> Seq {
        if at_ms < self.until(Gen::ZERO) {
            return Seq::ZERO;
        }
        let counts = self
            .manifests
            .iter()
            .filter(|(g, (from, _))| *from <= at_ms && at_ms < self.until(**g));
        counts.map(|(_, (_, m))| m.indexed_seq).min().unwrap_or(Seq::ZERO)
    }
}

/// The keys that a manifest of `ns` names.
fn names(ns: &NsKey, manifest: &Manifest) -> BTreeSet<Path> {
    let mut names = BTreeSet::new();
    for segment in &manifest.segments {
        if segment.meta.inline.is_none() {
            let owner = segment.meta.owner.as_ref().unwrap_or(ns);
            names.insert(paths::segment(owner, segment.meta.id.0));
        }
        if let Deletions::Object(object) = &segment.deletions {
            names.insert(paths::deletions(object.owner.as_ref().unwrap_or(ns), object.key));
        }
    }
    names
}

impl World {
    /// Checks what was deleted, what branches are, and that in the end only what is needed is left. Returns how many
    /// objects were garbage. The store must be healed.
    pub async fn check_collected(&self, replayed: &Replay, branches: &Branches) -> u64 {
        let node = self.start_node(u64::MAX);
        for (name, rows) in &branches.rows {
            match self.read_of(&node, name, Consistency::Strong).await {
                Saw::Rows { rows: saw, .. } => assert_eq!(saw, *rows, "{name}"),
                saw => panic!("{name}: {saw:?}"),
            }
        }
        // Nobody else needs to live: this one does what is left.
        self.read_on(&node, Consistency::Strong).await;
        self.wait_until_clean().await;
        let events = self.ledger.events();
        let pasts = self.pasts(&events).await;
        self.check_origins(replayed, branches).await;
        if let Some(max) = self.plan.unindexed_bytes_max {
            check_backpressure(&pasts[&key()], max);
        }
        let collected = check_deletions(&events, &pasts);
        // What is left is all that a node needs that begins now.
        let cold = self.start_node(u64::MAX);
        for (name, rows) in &branches.rows {
            match self.read_of(&cold, name, Consistency::Strong).await {
                Saw::Rows { rows: saw, .. } => assert_eq!(saw, *rows, "{name}"),
                saw => panic!("{name}: {saw:?}"),
            }
        }
        let may_change = |object: &Path| {
            let parsed = paths::parse_object(object);
            // The first slot of a log that a node took for empty, after it was collected.
            matches!(
                parsed,
                Some(NsObject::Head | NsObject::Lease { .. } | NsObject::Entry(Seq(1)))
            ) || paths::upkeep::parse_sweep(object).is_some()
                || paths::marker_genesis(object).is_some()
        };
        let changed: Vec<_> = self.ledger.changed().into_iter().filter(|k| !may_change(k)).collect();
        assert!(
            changed.is_empty(),
            "{changed:?} were stored twice with different bytes (I10)"
        );
        node.engine.close();
        cold.engine.close();
        collected
    }

    /// What branches began with are states of the namespace that they were made of (I13).
    async fn check_origins(&self, replayed: &Replay, branches: &Branches) {
        let log = self.whole_log().await;
        for origin in &branches.origins {
            let states = &replayed.states;
            match origin.since {
                Since::Entry(since) => {
                    let mut later = states.iter().skip(since as usize);
                    assert!(later.any(|s| s.as_ref() == Some(&origin.rows)), "{origin:?} was never");
                }
                Since::Time(at_ms) => {
                    let mut last = 0;
                    for seq in 1..states.len() as u64 {
                        let logged = log.get(Seq(seq)).await.expect("memory").expect("it was replayed");
                        if logged.entry.hlc_ms > at_ms {
                            break;
                        }
                        last = seq;
                    }
                    assert_eq!(
                        states[last as usize].as_ref(),
                        Some(&origin.rows),
                        "{origin:?} at {last}"
                    );
                }
            }
        }
    }

    /// Everything that was ever written of each namespace.
    async fn pasts(&self, events: &[Event]) -> BTreeMap<NsKey, Past> {
        let runtime = self.observer();
        let archive = Arc::new(self.ledger.archive().await);
        let store = Store::new(archive, runtime.clock, runtime.rng, &StoreConfig::default());
        let mut pasts: BTreeMap<NsKey, Past> = BTreeMap::new();
        for event in events.iter().filter(|e| e.stored) {
            let (Some(ns), Some(object)) = (
                paths::upkeep::parse_namespace(&event.key),
                paths::parse_object(&event.key),
            ) else {
                continue;
            };
            let past = pasts.entry(ns.clone()).or_default();
            past.kept_ms = GRACE.max(self.plan.retention).as_millis() as u64;
            match object {
                NsObject::Manifest(generation) => {
                    let (manifest, _) = manifest::decode(&self.ledger.stored(&event.key)).expect("published");
                    past.manifests.entry(generation).or_insert((event.at_ms, manifest));
                }
                NsObject::Entry(seq) => {
                    let log = Log::new(store.clone(), ns, CpuPool::inline());
                    let logged = log.get(seq).await.expect("memory").expect("stored");
                    past.bytes.entry(seq).or_insert(logged.bytes);
                    let entry = logged.entry;
                    if matches!(entry.kind, EntryKind::DeleteNamespace) {
                        past.tombstones.insert(seq);
                    }
                    let branch = entry.branch().map(|bytes| manifest::decode(bytes).expect("written").0);
                    past.entries.entry(seq).or_insert((event.at_ms, entry.blobs(), branch));
                }
                _ => {}
            }
        }
        pasts
    }

    /// Waits until only what is needed is left.
    async fn wait_until_clean(&self) {
        let mut left = Vec::new();
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(300)).await;
            left = self.superfluous().await;
            if left.is_empty() {
                return;
            }
        }
        let node = self.start_node(u64::MAX);
        let mut why = Vec::new();
        for ns in left
            .iter()
            .filter_map(|key| paths::parse_collection_marker(&Path::from(key.as_str())))
        {
            tokio::time::sleep(Duration::from_secs(301)).await;
            why.push(format!("{:?}", self.collector(&node.engine).look(&ns).await));
            let is_of = |key: &Path| {
                paths::upkeep::parse_namespace(key)
                    .or_else(|| paths::parse_collection_marker(key))
                    .as_ref()
                    == Some(&ns)
            };
            let own = self.ledger.events().into_iter().filter(|e| is_of(&e.key));
            why.extend(own.map(|e| format!("{} {} stored: {}", e.at_ms, e.key, e.stored)));
        }
        panic!("{left:#?} are left at {}: {why:#?}", self.clock.wall().as_millis());
    }

    /// What is there and should not be, once everything has been quiet for long.
    async fn superfluous(&self) -> Vec<String> {
        let events = self.ledger.events();
        let mut there: BTreeSet<Path> = BTreeSet::new();
        for event in &events {
            match event.stored {
                true => drop(there.insert(event.key.clone())),
                false => drop(there.remove(&event.key)),
            }
        }
        let pasts = self.pasts(&events).await;
        let newest = |ns: &NsKey| pasts.get(ns).and_then(|p| p.manifests.values().next_back());
        let mut needed: BTreeSet<Path> = BTreeSet::new();
        let mut held: BTreeSet<&NsKey> = BTreeSet::new();
        for (ns, past) in &pasts {
            if let Some((_, manifest)) = newest(ns) {
                needed.insert(paths::manifest(ns, manifest.generation));
                needed.extend(names(ns, manifest));
                held.extend(manifest.segments.iter().filter_map(|s| s.meta.owner.as_ref()));
            }
            if let Some((seq, (_, blobs, _))) = past.entries.iter().next_back() {
                needed.insert(paths::wal_entry(ns, *seq));
                needed.extend(blobs.iter().map(|id| paths::blob(ns, *id)));
                if newest(ns).is_none_or(|(_, m)| m.indexed_seq < *seq) {
                    return vec![format!("{ns:?} is dirty")];
                }
            }
        }
        let is_needed = |object: &Path| {
            let marked = paths::parse_collection_marker(object);
            match paths::parse_object(object) {
                // Of somebody who names an object here.
                Some(NsObject::Pin(_)) => paths::upkeep::parse_namespace(object).is_some_and(|ns| held.contains(&ns)),
                // A hold on what a branch has not merged away keeps the rest of what it was made of.
                Some(NsObject::Segment(_) | NsObject::Deletions(_)) => {
                    let ns = paths::upkeep::parse_namespace(object);
                    needed.contains(object) || ns.is_some_and(|ns| held.contains(&ns))
                }
                Some(NsObject::Head | NsObject::Lease { .. }) => true,
                Some(_) => needed.contains(object),
                None => marked.is_none_or(|ns| held.contains(&ns)) && paths::parse_dirty_marker(object).is_none(),
            }
        };
        let left = there.iter().filter(|object| !is_needed(object));
        left.map(|object| object.to_string()).collect()
    }
}

/// No object was deleted while a retained manifest, a branch, or the log named it (I9). Returns how many were.
fn check_deletions(events: &[Event], pasts: &BTreeMap<NsKey, Past>) -> u64 {
    let namers = namers(pasts);
    let mut there: BTreeMap<&Path, u64> = BTreeMap::new();
    let mut collected = 0;
    for event in events {
        if event.stored {
            there.insert(&event.key, event.at_ms);
            continue;
        }
        let written_ms = there.remove(&event.key);
        let (Some(ns), Some(object)) = (
            paths::upkeep::parse_namespace(&event.key),
            paths::parse_object(&event.key),
        ) else {
            continue;
        };
        let at_ms = event.at_ms;
        let past = pasts.get(&ns);
        match object {
            NsObject::Segment(_) | NsObject::Deletions(_) => {
                let namer = namers
                    .iter()
                    .find(|n| n.from_ms <= at_ms && at_ms < n.until_ms && n.names.contains(&event.key));
                assert!(
                    namer.is_none(),
                    "{} was deleted at {at_ms}, and is named by {}\n{}",
                    event.key,
                    namer.map_or("", |n| &n.what),
                    story(&event.key, events, &namers)
                );
            }
            NsObject::Manifest(generation) => {
                let until = past.map_or(ALWAYS, |p| p.until(generation));
                assert!(at_ms >= until, "{} was deleted at {at_ms}, before {until}", event.key);
            }
            NsObject::Entry(seq) => {
                let past = past.expect("it had an entry");
                let floor = past.floor(at_ms);
                assert!(
                    seq <= floor,
                    "{} was deleted at {at_ms}: {floor} are indexed",
                    event.key
                );
                let newer = past.entries.range(seq.next()..).next();
                assert!(newer.is_some_and(|(_, e)| e.0 <= at_ms), "{} was the newest", event.key);
            }
            NsObject::Blob(id) => {
                let entries = past.map(|p| &p.entries).into_iter().flatten();
                let newest = entries.clone().filter(|(_, e)| e.0 <= at_ms).map(|(seq, _)| *seq).max();
                let floor = past.map_or(Seq::ZERO, |p| p.floor(at_ms));
                for (seq, (from_ms, blobs, _)) in entries {
                    let counts = *from_ms <= at_ms && (*seq > floor || Some(*seq) == newest);
                    assert!(
                        !counts || !blobs.contains(&id),
                        "{} was deleted: entry {seq}",
                        event.key
                    );
                }
            }
            _ => continue,
        }
        if let Some(written_ms) = written_ms {
            let age = at_ms - written_ms;
            assert!(age >= GRACE.as_millis() as u64, "{} was {age} ms old", event.key);
            collected += 1;
        }
    }
    collected
}

/// Before each entry there were not more bytes outside of segments than may be, whoever wrote it: there are never more
/// than that and one entry (I12).
fn check_backpressure(past: &Past, max: u64) {
    for (seq, (at_ms, ..)) in &past.entries {
        if past.tombstones.contains(seq) {
            continue;
        }
        let published = past.manifests.values().filter(|(from_ms, _)| from_ms <= at_ms);
        let indexed = published.map(|(_, m)| m.indexed_seq).max().unwrap_or(Seq::ZERO);
        let deleted = past.tombstones.range(..*seq).next_back().copied().unwrap_or(Seq::ZERO);
        let tail = past
            .bytes
            .range(indexed.max(deleted).next()..*seq.max(&indexed.max(deleted).next()));
        let unindexed: u64 = tail.map(|(_, b)| b).sum();
        assert!(unindexed <= max, "{unindexed} bytes before entry {seq}");
    }
}

/// What is worth knowing of an object that should not have been deleted.
fn story(key: &Path, events: &[Event], namers: &[Namer]) -> String {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for namer in namers.iter().filter(|n| n.names.contains(key)) {
        lines.push((
            namer.from_ms,
            format!("{} names it until {}", namer.what, namer.until_ms),
        ));
    }
    for event in events {
        let is_hold = matches!(
            paths::parse_object(&event.key),
            Some(NsObject::Pin(_) | NsObject::Manifest(_))
        );
        if is_hold || event.key == *key {
            let what = if event.stored { "stored" } else { "deleted" };
            lines.push((event.at_ms, format!("{} {what}", event.key)));
        }
    }
    lines.sort();
    lines.iter().map(|(at_ms, line)| format!("{at_ms} {line}\n")).collect()
}

/// Everything that names segments and deletion bitmaps.
fn namers(pasts: &BTreeMap<NsKey, Past>) -> Vec<Namer> {
    let mut namers = Vec::new();
    for (ns, past) in pasts {
        for (generation, (from_ms, manifest)) in &past.manifests {
            namers.push(Namer {
                from_ms: *from_ms,
                until_ms: past.until(*generation),
                what: format!("manifest {generation} of {}", ns.namespace()),
                names: names(ns, manifest),
            });
        }
        // A branch is what its first entry says until every state that counts has that in segments.
        for (seq, (from_ms, _, branch)) in &past.entries {
            let Some(manifest) = branch else { continue };
            let mut covered = past.manifests.values().filter(|(_, m)| m.indexed_seq >= *seq);
            let until_ms = covered.next().map_or(ALWAYS, |(at_ms, _)| at_ms + past.kept_ms);
            namers.push(Namer {
                from_ms: *from_ms,
                until_ms,
                what: format!("entry {seq} of {}", ns.namespace()),
                names: names(ns, manifest),
            });
        }
    }
    namers
}
