//! A store in memory that lists in order and dates objects by a clock, which may be a simulated one. Also for the tests of
//! `maintenance::gc`: what includes this file names the `Clock`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::Clock;

pub struct Dated {
    inner: Arc<InMemory>,
    clock: Arc<dyn Clock>,
    /// Protects when each object was written, in milliseconds since the epoch; held to read or write that.
    written: Arc<Mutex<BTreeMap<Path, u64>>>,
}

impl Dated {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            clock,
            written: Arc::default(),
        }
    }

    fn wrote(&self, path: &Path) {
        let now = self.clock.wall().as_millis() as u64;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(path.clone(), now);
    }

    fn dated(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let written = self.written.clone();
        let date = move |mut meta: ObjectMeta| {
            if let Some(ms) = written
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&meta.location)
            {
                let at = chrono::DateTime::from_timestamp_millis(*ms as i64);
                meta.last_modified = at.expect("near this century");
            }
            meta
        };
        listed.map(move |meta| meta.map(&date)).boxed()
    }
}

impl fmt::Debug for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dated")
    }
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dated")
    }
}

#[async_trait]
impl ObjectStore for Dated {
    async fn put_opts(&self, path: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(path, body, options).await?;
        self.wrote(path);
        Ok(put)
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.dated(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.dated(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.wrote(to);
        Ok(())
    }
}
