//! A store that notices when an object changes (I10), dates objects by the simulated clock, and remembers all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use shoal::base::Clock;
use xxhash_rust::xxh3::xxh3_128;

/// Remembers what was stored under every name, also after it is gone. Clones share everything.
#[derive(Clone)]
pub struct OnceStore {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    objects: BTreeMap<Path, u128>,
    changed: Vec<Path>,
    /// What was stored first under each name: a node that takes a log for empty may use its first slot again, when that
    /// was collected, and nobody looks there.
    first: BTreeMap<Path, Bytes>,
    /// When what is there was stored.
    written_ms: BTreeMap<Path, u64>,
    events: Vec<Event>,
    /// GETs that run, and the most that did at the same time.
    gets: u64,
    most_gets: u64,
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub struct Event {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    pub key: Path,
    /// Stored, or else deleted.
    pub stored: bool,
}

impl OnceStore {
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            seen: Arc::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic holds it")
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.wall().as_millis()).expect("soon")
    }

    /// The most GETs that ran at the same time since [`reset_gauge`](Self::reset_gauge).
    pub fn most_gets(&self) -> u64 {
        self.seen().most_gets
    }

    pub fn reset_gauge(&self) {
        self.seen().most_gets = 0;
    }

    /// Everything that happened, in order.
    pub fn events(&self) -> Vec<Event> {
        self.seen().events.clone()
    }

    /// What was stored first under a name, whether or not it is still there.
    pub fn stored(&self, key: &Path) -> Bytes {
        self.seen().first[key].clone()
    }

    /// A store in which nothing was ever deleted.
    pub async fn archive(&self) -> InMemory {
        let archive = InMemory::new();
        let all = self.seen().first.clone();
        for (key, bytes) in all {
            archive.put(&key, bytes.into()).await.expect("memory");
        }
        archive
    }

    /// Names under which other bytes were stored than before.
    pub fn changed(&self) -> Vec<Path> {
        self.seen().changed.clone()
    }
}

impl fmt::Debug for OnceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnceStore({:?})", self.inner)
    }
}

impl fmt::Display for OnceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnceStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for OnceStore {
    async fn put_opts(&self, key: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes: Vec<u8> = body.iter().flat_map(|part| part.iter().copied()).collect();
        let stored = self.inner.put_opts(key, body, options).await?;
        let at_ms = self.now_ms();
        let mut seen = self.seen();
        let digest = xxh3_128(&bytes);
        seen.first.entry(key.clone()).or_insert_with(|| bytes.into());
        seen.written_ms.insert(key.clone(), at_ms);
        seen.events.push(Event {
            at_ms,
            key: key.clone(),
            stored: true,
        });
        if seen
            .objects
            .insert(key.clone(), digest)
            .is_some_and(|before| before != digest)
        {
            seen.changed.push(key.clone());
        }
        Ok(stored)
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        {
            let mut seen = self.seen();
            seen.gets += 1;
            seen.most_gets = seen.most_gets.max(seen.gets);
        }
        let found = self.inner.get_opts(key, options).await;
        self.seen().gets -= 1;
        found
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = self.inner.delete_stream(keys);
        let note = move |deleted: Result<Path>| {
            if let Ok(key) = &deleted {
                let at_ms = this.now_ms();
                this.seen().events.push(Event {
                    at_ms,
                    key: key.clone(),
                    stored: false,
                });
            }
            deleted
        };
        deleted.map(note).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let dated = move |meta: Result<ObjectMeta>| {
            let mut meta = meta?;
            if let Some(at_ms) = this.seen().written_ms.get(&meta.location) {
                let ms = i64::try_from(*at_ms).expect("soon");
                meta.last_modified = chrono::DateTime::from_timestamp_millis(ms).expect("a time");
            }
            Ok(meta)
        };
        self.inner.list(prefix).map(dated).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        // As a PUT of the same bytes, so that it is dated and remembered.
        let bytes = self.inner.get(from).await?.bytes().await?;
        drop(options);
        self.put_opts(to, bytes.into(), PutOptions::default()).await.map(drop)
    }
}
