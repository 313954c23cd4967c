//! A store that notices when an object changes (I10).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use xxhash_rust::xxh3::xxh3_128;

/// Remembers what was stored under every name, also after it is gone. Clones share everything.
#[derive(Clone)]
pub struct OnceStore {
    inner: Arc<dyn ObjectStore>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    objects: BTreeMap<Path, u128>,
    changed: Vec<Path>,
}

impl OnceStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            seen: Arc::default(),
        }
    }

    /// Names under which other bytes were stored than before.
    pub fn changed(&self) -> Vec<Path> {
        self.seen.lock().expect("no panic holds it").changed.clone()
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
        let mut seen = self.seen.lock().expect("no panic holds it");
        let digest = xxh3_128(&bytes);
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
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
