//! Reading what is to be shown.

use std::sync::Arc;

use futures::{StreamExt, stream};
use serde_json::{Value as Json, json};
use ulid::Ulid;

use super::super::client::{Failure, usage};
use super::super::with_causes;
use super::describe;
use crate::base::Runtime;
use crate::cache::{Cache, CacheOptions};
use crate::maintenance::fsck::Listing;
use crate::maintenance::lease;
use crate::manifest::{Manifest, ManifestSegment, ManifestStore, Pin, decode};
use crate::model::{Gen, Schema, Seq};
use crate::segment::Segment;
use crate::store::paths::{self, NsKey};
use crate::store::{Store, StoreError};
use crate::wal::{Digest, Log};

/// The newest manifests that are listed, each of which is read.
const MANIFESTS_SHOWN: usize = 20;
/// Segments whose hot regions are read.
const SEGMENTS_OPENED: usize = 256;
/// Holds and leases that are read.
const SMALL_SHOWN: usize = 50;
/// Objects that are read at the same time.
const READ_AT_ONCE: usize = 8;
const CACHE_BYTES: u64 = 64 << 20;

/// A namespace in a store.
pub struct Place {
    store: Store,
    runtime: Runtime,
    ns: NsKey,
    cache: Cache,
    manifests: ManifestStore,
    log: Log,
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::Failed(with_causes(error))
}

impl Place {
    pub fn new(store: Store, runtime: Runtime, ns: NsKey) -> Self {
        Self {
            cache: Cache::new(store.clone(), &runtime, CacheOptions::memory_only(CACHE_BYTES)),
            manifests: ManifestStore::new(store.clone(), ns.clone(), runtime.cpu.clone()),
            log: Log::new(store.clone(), ns.clone(), runtime.cpu.clone()),
            store,
            runtime,
            ns,
        }
    }

    /// One manifest.
    pub async fn manifest(&self, generation: Gen) -> Result<Json, Failure> {
        let found = self.manifests.get(generation).await.map_err(|e| failed(&e))?;
        let (manifest, digest) = found.ok_or_else(|| Failure::Failed(format!("there is no manifest {generation}")))?;
        Ok(self.described(&manifest, digest, None).await)
    }

    async fn described(&self, manifest: &Manifest, digest: Digest, bytes: Option<u64>) -> Json {
        let named = manifest.segments.iter().enumerate();
        let described = stream::iter(named).map(|(at, named)| async move {
            let mut json = describe::segment(named);
            if at < SEGMENTS_OPENED {
                match self.open(named).await {
                    Ok(segment) => json["sections"] = describe::sums(&segment),
                    Err(why) => json["error"] = json!(why),
                }
            }
            json
        });
        let segments = described.buffered(READ_AT_ONCE).collect().await;
        describe::manifest(manifest, digest, bytes, segments)
    }

    async fn open(&self, named: &ManifestSegment) -> Result<Segment, String> {
        let opened = Segment::open(named.meta.clone(), &self.ns, &self.cache, &self.runtime.cpu).await;
        opened.map_err(|e| with_causes(&e))
    }

    /// One segment of the newest manifest that names it.
    pub async fn segment(&self, id: &str) -> Result<Json, Failure> {
        let id =
            Ulid::from_string(id).map_err(|_| usage("--segment must be the id of a segment: 26 letters and digits"))?;
        let generations = self.manifests.list().await.map_err(|e| failed(&e))?;
        for (generation, _) in generations {
            // What cannot be read may not name it; fsck says more.
            let Ok(Some((manifest, _))) = self.manifests.get(generation).await else {
                continue;
            };
            if let Some(named) = manifest.segments.iter().find(|s| s.meta.id.0 == id) {
                return self.one_segment(named, generation, &manifest.schema).await;
            }
        }
        Err(Failure::Failed(format!("no manifest names segment {id}")))
    }

    async fn one_segment(
        &self,
        named: &ManifestSegment,
        generation: Gen,
        schema: &Arc<Schema>,
    ) -> Result<Json, Failure> {
        let mut json = describe::segment(named);
        json["gen"] = json!(generation.0);
        let owner = named.meta.owner.as_ref().unwrap_or(&self.ns);
        json["key"] = json!(paths::segment(owner, named.meta.id.0).to_string());
        match self.open(named).await {
            Ok(segment) => {
                let bounds = segment.id_bounds();
                json["first_id"] = json!(bounds.map(|(first, _)| first.to_string()));
                json["last_id"] = json!(bounds.map(|(_, last)| last.to_string()));
                json["sections"] = describe::sections(&segment, schema);
            }
            Err(why) => json["error"] = json!(why),
        }
        Ok(json)
    }

    /// One log entry.
    pub async fn entry(&self, seq: Seq) -> Result<Json, Failure> {
        let found = self.log.get(seq).await.map_err(|e| failed(&e))?;
        let logged = found.ok_or_else(|| Failure::Failed(format!("there is no entry {seq}")))?;
        let mut json = describe::entry(&logged);
        json["key"] = json!(paths::wal_entry(&self.ns, seq).to_string());
        Ok(json)
    }

    /// What there is.
    pub async fn overview(&self) -> Result<Json, Failure> {
        let unread = |e: StoreError| failed(&e);
        let listing = Listing::of(&self.store, &self.ns).await.map_err(unread)?;
        if listing.objects == 0 {
            let (name, org) = (self.ns.namespace(), self.ns.org());
            let sentence = format!("there has never been a namespace {name} of organization {org}");
            return Err(Failure::Failed(sentence));
        }
        let newest = match listing.newest_manifest() {
            None => None,
            Some(generation) => Some(self.manifests.get(generation).await),
        };
        let mut indexed = Seq::ZERO;
        let described = match newest {
            None => Json::Null,
            Some(Ok(Some((manifest, digest)))) => {
                indexed = manifest.indexed_seq;
                let bytes = listing.manifests.get(&manifest.generation).copied();
                self.described(&manifest, digest, bytes).await
            }
            Some(Ok(None)) => json!({"error": "it was collected meanwhile; look again"}),
            Some(Err(error)) => json!({"error": with_causes(&error)}),
        };
        Ok(json!({
            "org": self.ns.org().as_str(), "namespace": self.ns.namespace().as_str(),
            "directory": paths::namespace_prefix(&self.ns).to_string(),
            "objects": listing.objects, "bytes": listing.bytes, "foreign": listing.foreign,
            "newest": described, "manifests": self.past(&listing).await,
            "manifest_count": listing.manifests.len(), "hint": self.hint(&listing).await.map_err(unread)?,
            "log": log(&listing, indexed),
            "holds": self.holds(&listing).await.map_err(unread)?, "hold_count": listing.pins.len(),
            "leases": self.leases(&listing).await.map_err(unread)?,
            "is_marked_dirty": self.has(&paths::dirty_marker(&self.ns)).await.map_err(unread)?,
            "is_marked_garbage": self.has(&paths::collection_marker(&self.ns)).await.map_err(unread)?,
            "collection_plans": listing.plans.len(), "copies_by_token": listing.operations.len(),
            "blobs": listing.blobs.len(), "deletion_bitmaps": listing.deletions.len(),
            "segment_objects": listing.segments.len(),
        }))
    }

    async fn has(&self, key: &object_store::path::Path) -> Result<bool, StoreError> {
        Ok(self.store.get(key).await?.is_some())
    }

    /// The newest manifests, in short.
    async fn past(&self, listing: &Listing) -> Json {
        let newest = listing.manifests.iter().rev().take(MANIFESTS_SHOWN);
        let read = |(generation, bytes): (&Gen, &u64)| {
            let (generation, bytes) = (*generation, *bytes);
            async move {
                match self.manifests.get(generation).await {
                    Ok(Some((m, _))) => json!({
                        "gen": generation.0, "created_at": describe::time(m.created_ms),
                        "indexed_seq": m.indexed_seq.0, "segments": m.segments.len(), "rows": m.rows(), "bytes": bytes,
                    }),
                    Ok(None) => json!({"gen": generation.0, "bytes": bytes, "error": "it was collected meanwhile"}),
                    Err(error) => json!({"gen": generation.0, "bytes": bytes, "error": with_causes(&error)}),
                }
            }
        };
        let found: Vec<Json> = stream::iter(newest).map(read).buffered(READ_AT_ONCE).collect().await;
        found.into()
    }

    /// The generation of the hint; in words, if there is no good one.
    async fn hint(&self, listing: &Listing) -> Result<Json, StoreError> {
        if listing.head.is_none() {
            return Ok(json!("none"));
        }
        let bytes = self.store.get(&paths::head(&self.ns)).await?;
        Ok(match bytes.map(|bytes| decode(&bytes)) {
            None => json!("none"),
            Some(Ok((manifest, _))) => json!(manifest.generation.0),
            Some(Err(error)) => json!(format!("damaged: {error}")),
        })
    }

    async fn holds(&self, listing: &Listing) -> Result<Json, StoreError> {
        let mut holds = Vec::new();
        for id in listing.pins.keys().rev().take(SMALL_SHOWN) {
            let Some(bytes) = self.store.get(&paths::pin(&self.ns, *id)).await? else {
                continue;
            };
            holds.push(match Pin::decode(&bytes) {
                Ok(pin) => json!({
                    "id": id.to_string(), "entry": pin.entry.0, "segments": pin.segments.len(),
                    "for": format!("{}/{}", pin.target.org(), pin.target.namespace()),
                }),
                Err(error) => json!({"id": id.to_string(), "error": error.to_string()}),
            });
        }
        Ok(holds.into())
    }

    async fn leases(&self, listing: &Listing) -> Result<Json, StoreError> {
        let mut leases = Vec::new();
        for (role, term) in listing.leases.iter().rev().take(SMALL_SHOWN) {
            let held = lease::holder(&self.store, &self.ns, role, *term).await?;
            leases.push(match held {
                Some((node, expires_ms)) => json!({
                    "role": role, "term": term, "node": node, "expires_at": describe::time(expires_ms),
                }),
                None => json!({"role": role, "term": term}),
            });
        }
        Ok(leases.into())
    }
}

/// * `indexed` — entries up to this one are in segments
fn log(listing: &Listing, indexed: Seq) -> Json {
    let first = listing.entries.keys().next();
    let unindexed: Vec<u64> = listing
        .entries
        .range(indexed.next()..)
        .map(|(_, bytes)| *bytes)
        .collect();
    json!({
        "first": first.map(|seq| seq.0), "last": listing.newest_entry().map(|seq| seq.0),
        "entries": listing.entries.len(), "bytes": listing.entries.values().sum::<u64>(),
        "unindexed_entries": unindexed.len(), "unindexed_bytes": unindexed.iter().sum::<u64>(),
        "blobs": listing.blobs.len(), "blob_bytes": listing.blobs.values().sum::<u64>(),
    })
}
