//! A namespace with jobs of upkeep and what its rows should be after each entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, LargeStringArray};
use arrow::buffer::Buffer;
use futures::TryStreamExt;
use uuid::Uuid;

use crate::base::{CpuPool, Runtime, TokioClock};
use crate::cache::{Cache, CacheOptions, ReadKind};
use crate::maintenance::merge::{self, Merged};
use crate::maintenance::{Job, Outcome, Pace, UpkeepOptions, Workshop, flush};
use crate::manifest::tests::scripted::ScriptedStore;
use crate::manifest::{Manifest, ManifestStore, live_rows};
use crate::model::batch::NamedColumn;
use crate::model::schema::SchemaChange;
use crate::model::{
    AttrId, AttrType, Attribute, Column, FullTextConfig, Id, IdColumn, IdKind, NamespaceName, OrgId, RowBatch, Seq,
    VectorColumn,
};
use crate::segment::{Segment, SegmentId, SegmentPart};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::store::paths::{self, NsKey};
use crate::wal::{Digest, Entry, EntryKind, Operation, RequestEffects};

#[derive(Clone, Debug)]
pub enum Step {
    /// These rows with this value.
    Upsert(Vec<u64>, i64),
    Delete(Vec<u64>),
    Flush,
    /// Merges all segments, without publishing.
    BeginMerge,
    /// Publishes the merge that was begun.
    EndMerge,
    /// Forgets what was in memory.
    Reopen,
    DeleteNamespace,
}

pub struct World {
    pub backend: ScriptedStore,
    pub workshop: Workshop,
    pub snapshot: Snapshot,
    pub newest: Option<(Manifest, Digest)>,
    ns: NsKey,
    log: Vec<(Entry, Digest)>,
    /// The rows after each entry.
    history: Vec<BTreeMap<u64, i64>>,
    merging: Option<(Job, Merged)>,
}

fn attributes() -> Vec<Attribute> {
    let of = |id, name: &str, ty: &str| Attribute {
        filterable: ty == "int",
        full_text: (ty == "string").then(FullTextConfig::default),
        ..Attribute::new(AttrId(id), name.into(), AttrType::parse(ty).expect("a type"))
    };
    vec![of(0, "n", "int"), of(1, "t", "string"), of(2, "v", "[2]f32")]
}

fn upsert(ids: &[u64], n: i64) -> Operation {
    let rows = ids.len();
    let ids: Vec<Id> = ids.iter().map(|id| Id::UInt(*id)).collect();
    let attributes = attributes();
    let named = |at: usize, column| NamedColumn {
        name: attributes[at].name.clone(),
        ty: attributes[at].ty,
        column,
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![n; rows]));
    let texts: ArrayRef = Arc::new(LargeStringArray::from(vec![format!("word{n} and"); rows]));
    let AttrType::Vector { dims, element } = attributes[2].ty else {
        panic!("a vector");
    };
    let vectors = VectorColumn {
        dims,
        element,
        data: Buffer::from_vec(vec![n as f32; rows * 2]),
        nulls: None,
    };
    let mut columns = vec![named(0, Column::Values(numbers))];
    // Some rows lack an attribute.
    if n % 3 != 0 {
        columns.push(named(1, Column::Values(texts)));
    }
    columns.push(named(2, Column::Vectors(vectors)));
    Operation::Upsert(RowBatch {
        ids: IdColumn::from_ids(IdKind::UInt, ids.iter()),
        columns,
    })
}

impl World {
    pub fn new(inline: bool) -> Self {
        let backend = ScriptedStore::new();
        let runtime = Runtime::of_tests(Arc::new(TokioClock::new(Duration::from_secs(1_000))), 11);
        let store = Store::of_tests(backend.clone(), &runtime);
        let options = UpkeepOptions::default();
        let mut world = Self {
            workshop: Workshop {
                cache: Cache::new(store.clone(), &runtime, CacheOptions::default()),
                store,
                runtime,
                writer: 9,
                grace: Duration::from_secs(3600),
                options: Arc::new(options),
            },
            backend,
            snapshot: Snapshot::empty(),
            newest: None,
            ns: NsKey::new(OrgId::default_org(), NamespaceName::parse("docs").expect("a name")),
            log: Vec::new(),
            history: vec![BTreeMap::new()],
            merging: None,
        };
        world.set_options(|o| o.inline = inline);
        world
    }

    pub fn set_options(&mut self, change: impl FnOnce(&mut UpkeepOptions)) {
        let mut options = UpkeepOptions::clone(&self.workshop.options);
        change(&mut options);
        self.workshop.options = Arc::new(options);
    }

    pub fn job(&self) -> Job {
        Job::begin(self.workshop.clone(), self.ns.clone())
    }

    pub fn indexed_seq(&self) -> Seq {
        self.newest.as_ref().map_or(Seq::ZERO, |(m, _)| m.indexed_seq)
    }

    fn manifests(&self) -> ManifestStore {
        ManifestStore::new(self.workshop.store.clone(), self.ns.clone(), CpuPool::inline())
    }

    /// How many objects there are.
    pub async fn objects(&self) -> usize {
        let listed = self
            .workshop
            .store
            .list(&paths::upkeep::namespace_prefix(&self.ns), None);
        listed.try_collect::<Vec<_>>().await.expect("listed").len()
    }

    pub async fn take(&mut self, step: Step) {
        match step {
            Step::Upsert(ids, n) => {
                let rows = ids.iter().map(|id| (*id, n));
                let after = self.rows().clone().into_iter().chain(rows).collect();
                self.write(vec![upsert(&ids, n)], after).await;
            }
            Step::Delete(ids) => {
                let mut after = self.rows().clone();
                after.retain(|id, _| !ids.contains(id));
                let ids: Vec<Id> = ids.into_iter().map(Id::UInt).collect();
                let ids = IdColumn::from_ids(IdKind::UInt, ids.iter());
                self.write(vec![Operation::Delete(ids)], after).await;
            }
            Step::DeleteNamespace => {
                if self.snapshot.exists() {
                    self.append(EntryKind::DeleteNamespace, BTreeMap::new()).await;
                }
            }
            Step::Flush => self.flush().await,
            Step::BeginMerge => self.begin_merge().await,
            Step::EndMerge => self.end_merge().await,
            Step::Reopen => self.reload().await,
        }
    }

    fn rows(&self) -> &BTreeMap<u64, i64> {
        self.history.last().expect("never empty")
    }

    async fn write(&mut self, operations: Vec<Operation>, after: BTreeMap<u64, i64>) {
        let schema = match self.snapshot.schema.is_empty() {
            false => SchemaChange::default(),
            true => {
                let first = self.snapshot.schema.next_attribute_id().0;
                let renumbered = attributes().into_iter().map(|a| Attribute {
                    id: AttrId(a.id.0 + first),
                    ..a
                });
                SchemaChange {
                    id_kind: Some(IdKind::UInt),
                    drops: Vec::new(),
                    puts: renumbered.collect(),
                }
            }
        };
        let request = RequestEffects {
            request: 1,
            schema,
            operations,
            ..RequestEffects::default()
        };
        self.append(EntryKind::Data(vec![request]), after).await;
    }

    async fn append(&mut self, kind: EntryKind, after: BTreeMap<u64, i64>) {
        let seq = self.snapshot.seq.next();
        let entry = Entry {
            namespace: Uuid::from_u128(5),
            seq,
            writer: 9,
            batch: u128::from(seq.0),
            writer_addr: String::new(),
            prev_digest: self.snapshot.digest,
            manifest_gen_hint: 0,
            hlc_ms: seq.0,
            kind,
        };
        let digest = Digest(u128::from(seq.0) << 64);
        self.snapshot = apply(&self.snapshot, &entry, digest).await;
        self.log.push((entry, digest));
        self.history.push(after);
    }

    async fn flush(&mut self) {
        let job = self.job();
        let base = self.newest.clone();
        let outcome = flush(&job, &self.snapshot, base.as_ref().map(|(m, d)| (m, *d))).await;
        self.take_over(outcome).await;
    }

    async fn begin_merge(&mut self) {
        let Some((manifest, _)) = self.newest.clone() else {
            return;
        };
        let stored = manifest.segments.iter().filter(|s| s.meta.inline.is_none());
        let inputs: Vec<SegmentId> = stored.map(|s| s.meta.id).collect();
        if inputs.is_empty() {
            return;
        }
        let job = self.job();
        if let Ok(merged) = merge::merge(&job, &manifest, &inputs, &Pace::new(0)).await {
            self.merging = Some((job, merged));
        }
    }

    async fn end_merge(&mut self) {
        let (Some((job, merged)), Some((base, digest))) = (self.merging.take(), self.newest.clone()) else {
            return;
        };
        let outcome = merge::publish(&job, &merged, (&base, digest)).await;
        self.take_over(outcome).await;
    }

    async fn take_over(&mut self, outcome: Result<Outcome, crate::maintenance::JobError>) {
        match outcome {
            Ok(Outcome::Published(manifest, digest) | Outcome::Lost(manifest, digest)) => {
                // Where it cannot be opened now, the old one does.
                if let Ok(snapshot) = self.at(&manifest).await {
                    self.snapshot = snapshot;
                    self.newest = Some((*manifest, digest));
                    self.check().await;
                }
            }
            Ok(Outcome::Nothing | Outcome::Abandoned | Outcome::Unknown) | Err(_) => {}
        }
    }

    /// Begins again from what is in the store.
    pub async fn reload(&mut self) {
        let Ok(newest) = self.manifests().listed().await else {
            return;
        };
        let snapshot = match &newest {
            Some((manifest, _)) => self.at(manifest).await,
            None => Ok(self.replay(Snapshot::empty()).await),
        };
        if let Ok(snapshot) = snapshot {
            (self.snapshot, self.newest) = (snapshot, newest);
        }
    }

    /// The state of a manifest with the log after it.
    async fn at(&self, manifest: &Manifest) -> Result<Snapshot, Box<dyn std::error::Error>> {
        let mut segments = Vec::new();
        for named in &manifest.segments {
            let (cache, cpu) = (&self.workshop.cache, &self.workshop.runtime.cpu);
            let segment = Segment::open(named.meta.clone(), &self.ns, cache, cpu).await?;
            let deleted = self.manifests().deletions(named).await?;
            segments.push(SegmentPart {
                segment: Arc::new(segment),
                live: Arc::new(live_rows(&deleted, named.meta.rows).into()),
            });
        }
        let snapshot = Snapshot {
            seq: manifest.indexed_seq,
            digest: manifest.indexed_digest,
            namespace: Some(manifest.namespace),
            incarnation: manifest.incarnation,
            schema: manifest.schema.clone(),
            recent: manifest.recent.clone(),
            settings: manifest.settings.clone(),
            segments: Arc::new(segments),
            generation: manifest.generation,
            indexed_seq: manifest.indexed_seq,
            hlc_ms: manifest.hlc_ms,
            ..Snapshot::empty()
        };
        Ok(self.replay(snapshot).await)
    }

    async fn replay(&self, mut snapshot: Snapshot) -> Snapshot {
        for (entry, digest) in &self.log[snapshot.seq.0 as usize..] {
            snapshot = apply(&snapshot, entry, *digest).await;
        }
        snapshot
    }

    /// The state in memory and the newest manifest have the rows that they should have, each once.
    pub async fn check(&self) {
        assert_eq!(self.snapshot.seq.0 as usize, self.log.len());
        assert_eq!(&rows_of(&self.snapshot).await, self.rows());
        let Some((manifest, _)) = &self.newest else { return };
        let indexed = self.at(manifest).await.expect("readable");
        assert_eq!(&rows_of(&indexed).await, self.rows());
        let only = Snapshot {
            parts: Arc::default(),
            ..self.at_indexed(manifest).await
        };
        assert_eq!(rows_of(&only).await, self.history[manifest.indexed_seq.0 as usize]);
    }

    async fn at_indexed(&self, manifest: &Manifest) -> Snapshot {
        let mut shorter = Self {
            log: self.log[..manifest.indexed_seq.0 as usize].to_vec(),
            ..Self::new(true)
        };
        shorter.workshop = self.workshop.clone();
        shorter.at(manifest).await.expect("readable")
    }
}

/// Hides what an entry names in segments, and applies it.
async fn apply(snapshot: &Snapshot, entry: &Entry, digest: Digest) -> Snapshot {
    let mut ids = Vec::new();
    if let EntryKind::Data(requests) = &entry.kind {
        for operation in requests.iter().flat_map(|r| &r.operations) {
            let (Operation::Upsert(RowBatch { ids: named, .. }) | Operation::Delete(named)) = operation else {
                panic!("there are no patches here");
            };
            ids.extend((0..named.len()).map(|row| named.get(row)));
        }
    }
    let mut segments = Vec::new();
    for part in snapshot.segments.iter() {
        let mut live = crate::base::Bitset::clone(&part.live);
        for row in part.segment.find(&ids).await.expect("readable").into_iter().flatten() {
            live.remove(row as usize);
        }
        segments.push(SegmentPart {
            segment: part.segment.clone(),
            live: Arc::new(live.into()),
        });
    }
    let ready = Snapshot {
        segments: Arc::new(segments),
        ..snapshot.clone()
    };
    ready.apply(entry, digest, 100).expect("the next")
}

/// The value of every live row by its id; each id once.
pub async fn rows_of(snapshot: &Snapshot) -> BTreeMap<u64, i64> {
    let mut found = BTreeMap::new();
    let Some(attribute) = snapshot.schema.get("n").cloned() else {
        return found;
    };
    let mut add = |ids: &IdColumn, column: &Column, row: usize| {
        let Column::Values(values) = column else {
            panic!("numbers");
        };
        let values = values.as_any().downcast_ref::<Int64Array>().expect("numbers");
        let Id::UInt(id) = ids.get(row) else {
            panic!("numbers");
        };
        assert_eq!(found.insert(id, values.value(row)), None, "{id} is live twice");
    };
    for part in snapshot.segments.iter() {
        let live: Vec<u32> = part.live.iter().map(|row| row as u32).collect();
        let rows = part
            .segment
            .fetch(&live, std::slice::from_ref(&attribute), ReadKind::Rows)
            .await;
        let rows = rows.expect("readable");
        for row in 0..live.len() {
            add(&rows.ids, &rows.columns[&attribute.id], row);
        }
    }
    for part in snapshot.parts.iter() {
        for row in part.live.iter() {
            add(&part.chunk.ids, &part.chunk.columns[&attribute.id], row);
        }
    }
    found
}
