//! Counts requests, for metrics and for tests of request budgets.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::telemetry::{STORE_BYTES, STORE_REQUESTS};

/// Objects on one page of a listing.
const PAGE: u64 = 1000;

/// Requests sent so far, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Unconditional writes.
    pub puts: u64,
    /// Writes that must not replace anything.
    pub creates: u64,
    pub gets: u64,
    /// Pages of a thousand keys.
    pub lists: u64,
    pub deletes: u64,
    pub bytes_written: u64,
    /// Bytes announced by successful GETs.
    pub bytes_read: u64,
}

#[derive(Debug, Default)]
struct Counters {
    puts: AtomicU64,
    creates: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
}

/// A store that counts. Clones count together.
#[derive(Clone, Debug)]
pub struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
}

impl CountingStore {
    /// Counts what reaches `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            counters: Arc::default(),
        }
    }

    /// The counts at this moment.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        Counts {
            puts: read(&c.puts),
            creates: read(&c.creates),
            gets: read(&c.gets),
            lists: read(&c.lists),
            deletes: read(&c.deletes),
            bytes_written: read(&c.bytes_written),
            bytes_read: read(&c.bytes_read),
        }
    }
}

fn report<T>(op: &'static str, result: &Result<T>) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(object_store::Error::NotFound { .. }) => "not_found",
        Err(object_store::Error::AlreadyExists { .. }) => "exists",
        Err(_) => "error",
    };
    metrics::counter!(STORE_REQUESTS, "op" => op, "outcome" => outcome).increment(1);
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, key: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes = body.content_length() as u64;
        let (op, counter) = match options.mode {
            PutMode::Create => ("create", &self.counters.creates),
            _ => ("put", &self.counters.puts),
        };
        // Counted before it is sent: a request whose future is dropped was sent all the same.
        add(counter, 1);
        add(&self.counters.bytes_written, bytes);
        let result = self.inner.put_opts(key, body, options).await;
        report(op, &result);
        metrics::counter!(STORE_BYTES, "direction" => "written").increment(bytes);
        result
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        add(&self.counters.gets, 1);
        let result = self.inner.get_opts(key, options).await;
        report("get", &result);
        if let (Ok(found), false) = (&result, head) {
            let bytes = found.range.end - found.range.start;
            add(&self.counters.bytes_read, bytes);
            metrics::counter!(STORE_BYTES, "direction" => "read").increment(bytes);
        }
        result
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // Through `get_opts`, so that the requests that coalescing leaves are counted.
        let get = async |range: Range<u64>| {
            let options = GetOptions {
                range: Some(range.into()),
                ..GetOptions::default()
            };
            self.get_opts(key, options).await?.bytes().await
        };
        object_store::coalesce_ranges(ranges, get, object_store::OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let counters = self.counters.clone();
        let counted = keys.inspect(move |_| add(&counters.deletes, 1)).boxed();
        self.inner
            .delete_stream(counted)
            .inspect(|result| report("delete", result))
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        add(&self.counters.lists, 1);
        let result = self.inner.list_with_delimiter(prefix).await;
        report("list", &result);
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        add(&self.counters.puts, 1);
        let result = self.inner.copy_opts(from, to, options).await;
        report("put", &result);
        result
    }
}

impl CountingStore {
    fn pages(&self, found: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let counters = self.counters.clone();
        add(&counters.lists, 1);
        metrics::counter!(STORE_REQUESTS, "op" => "list", "outcome" => "ok").increment(1);
        let mut seen = 0;
        found
            .inspect(move |_| {
                if seen > 0 && seen % PAGE == 0 {
                    add(&counters.lists, 1);
                }
                seen += 1;
            })
            .boxed()
    }
}
