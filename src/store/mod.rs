//! The only way to object storage: keys, conditional creates, retries, request counts.
//!
//! # What stays true
//!
//! - The only condition used is "create if absent". A create is sent once, never repeated: after a
//!   lost reply the second attempt would meet the first and look like a rival's.
//! - Everything else is idempotent and is repeated, with jittered pauses, within one deadline per
//!   operation and one retry budget per store. The client library's own retries are off.
//! - Whole objects and ranges are returned complete or not at all.
//! - A store that does not answer is not asked for a while (`health`), and background work gives way when it is slow.
//!
//! # Cost
//!
//! One request per operation; a listing costs one per thousand objects. `count` counts.

pub mod backend;
pub mod count;
mod error;
mod health;
mod local;
pub mod paths;
pub mod probe;
pub mod record;
mod retry;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
pub use object_store::PutPayload;
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

use crate::base::{Clock, Rng};
use crate::config::StoreConfig;
pub use error::{CreateError, StoreError};
use health::{Health, Lane};
pub use paths::NsKey;
pub use probe::{OpenError, Opened, open};
use retry::Retry;

/// Objects that are deleted by one request, where the store can.
const DELETED_AT_ONCE: usize = 1000;
/// How long a PUT of so many bytes takes says how fast the store answers.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// Upload speed that a PUT may always count on, in bytes per second.
const PUT_BYTES_PER_SECOND: f64 = 10_000_000.0;

/// A bucket, or the part of it below a prefix. Cheap to clone; clones share the retry budget.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    lists_in_order: bool,
}

struct Inner {
    backend: count::CountingStore,
    clock: Arc<dyn Clock>,
    rng: Rng,
    retry: Retry,
    request_timeout: Duration,
    put_timeout: Duration,
}

impl Store {
    /// Puts timeouts, retries and counting around `backend`, whose own retries must be off. Its
    /// listings are taken to be unordered. Does no I/O.
    pub fn new(backend: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, rng: Rng, config: &StoreConfig) -> Self {
        let inner = Inner {
            backend: count::CountingStore::new(backend),
            retry: Retry::new(rng.clone(), config.retry_deadline, Health::new(clock.clone())),
            clock,
            rng,
            request_timeout: config.request_timeout,
            put_timeout: config.put_timeout,
        };
        Self {
            inner: Arc::new(inner),
            lists_in_order: false,
        }
    }

    /// The store of a node with this runtime.
    #[cfg(test)]
    pub(crate) fn of_tests(backend: impl ObjectStore, runtime: &crate::base::Runtime) -> Self {
        let (clock, rng) = (runtime.clock.clone(), runtime.rng.clone());
        Self::new(Arc::new(backend), clock, rng, &StoreConfig::default())
    }

    /// States that the backend lists keys in ascending order.
    pub fn listing_in_order(mut self, in_order: bool) -> Self {
        self.lists_in_order = in_order;
        self
    }

    /// The requests that were sent so far, retries included.
    pub fn counts(&self) -> count::Counts {
        self.inner.backend.counts()
    }

    /// Whether [`list`](Self::list) yields ascending keys. Not so in memory.
    pub fn lists_in_order(&self) -> bool {
        self.lists_in_order
    }

    /// Creates an object if there is none of that key. One PUT, never repeated.
    ///
    /// # Errors
    ///
    /// See [`CreateError`]: only `Refused` means that nothing was created. Not cancel safe:
    /// dropping the future is a lost reply.
    pub async fn create(&self, key: &Path, body: impl Into<PutPayload>) -> Result<(), CreateError> {
        let body: PutPayload = body.into();
        let limit = self.put_limit(&body);
        let (retry, is_small) = (&self.inner.retry, body.content_length() <= SMALL_BYTES_MAX);
        if !retry.health.admit(Lane::Write) {
            return Err(CreateError::Refused(StoreError::refused("create", key)));
        }
        let start = retry.health.now();
        let attempt = self.inner.backend.put_opts(key, body, PutMode::Create.into());
        let error = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(_)) => {
                if is_small {
                    retry.health.took(start);
                }
                retry.health.answered(Lane::Write);
                retry.succeeded();
                return Ok(());
            }
            Ok(Err(error)) => CreateError::of(key, error),
            Err(_) => CreateError::Ambiguous(StoreError::late("create", key)),
        };
        match &error {
            CreateError::Exists => retry.health.answered(Lane::Write),
            CreateError::Ambiguous(error) | CreateError::Refused(error) => retry.heard(Lane::Write, error),
        }
        Err(error)
    }

    /// Waits while reads are refused because the store does not answer, for a bounded time. For whoever has to find out
    /// what became of a request.
    pub async fn wait_for_answers(&self) {
        self.inner.retry.wait("get").await;
    }

    /// Writes an object, whether or not it exists. One PUT per attempt. After an error it may
    /// exist, or appear later.
    pub async fn put(&self, key: &Path, body: impl Into<PutPayload>) -> Result<(), StoreError> {
        let body: PutPayload = body.into();
        let limit = self.put_limit(&body);
        let attempt = async || match self.inner.backend.put(key, body.clone()).await {
            Ok(_) => Ok(()),
            // An unconditional PUT can conflict on S3 too; it has to be sent again.
            Err(error) => Err(StoreError::of("put", key, error)),
        };
        self.inner.retry.run(("put", key), limit, attempt).await
    }

    /// Copies an object within the store, over what is there; false when there is none. One request per attempt, which
    /// counts as a PUT, and no bytes of it come through this node.
    ///
    /// * `bytes` — how many it has, for the time limit
    ///
    /// # Errors
    ///
    /// [`StoreError::Denied`] also where the store cannot do it. After an error the copy may exist, or appear later.
    pub async fn copy(&self, from: &Path, to: &Path, bytes: u64) -> Result<bool, StoreError> {
        let limit = self.inner.put_timeout + Duration::from_secs_f64(bytes as f64 / PUT_BYTES_PER_SECOND);
        let attempt = async || match self.inner.backend.copy(from, to).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(StoreError::of("copy", from, error)),
        };
        self.inner.retry.run(("copy", from), limit, attempt).await
    }

    /// A whole object; `None` when there is none. One GET per attempt.
    pub async fn get(&self, key: &Path) -> Result<Option<Bytes>, StoreError> {
        let attempt = async || match self.timed(self.inner.backend.get(key)).await {
            Ok(found) => complete("get", key, found).await.map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::of("get", key, error)),
        };
        self.inner
            .retry
            .run(("get", key), self.inner.request_timeout, attempt)
            .await
    }

    /// These bytes of an object; `None` when there is none. One GET per attempt; none when the
    /// range is empty, whether or not the object exists.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when the object ends before the range does.
    pub async fn get_range(&self, key: &Path, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let attempt = async || {
            let options = GetOptions {
                range: Some(range.clone().into()),
                ..GetOptions::default()
            };
            match self.timed(self.inner.backend.get_opts(key, options)).await {
                Ok(found) if found.range == range => complete("get", key, found).await.map(Some),
                Ok(found) => {
                    let reason = format!("bytes {range:?} were asked for, it has {}", found.meta.size);
                    Err(StoreError::Corrupt {
                        key: key.to_string(),
                        reason,
                    })
                }
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(StoreError::of("get", key, error)),
            }
        };
        self.inner
            .retry
            .run(("get", key), self.inner.request_timeout, attempt)
            .await
    }

    /// The objects below the directory `prefix` whose keys are greater than `offset`, in ascending
    /// order only if [`lists_in_order`](Self::lists_in_order): callers sort. One LIST per thousand.
    ///
    /// After a failure the listing goes on behind the last key; where there is no order, it is
    /// gathered whole before the first item is yielded.
    pub fn list(&self, prefix: &Path, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let (store, prefix, offset) = (self.clone(), prefix.clone(), offset.cloned());
        match self.lists_in_order {
            true => Listing {
                store,
                prefix,
                last: offset,
                page: None,
            }
            .stream(),
            false => futures::stream::once(async move { store.list_whole(&prefix, offset.as_ref()).await })
                .map_ok(|found| futures::stream::iter(found.into_iter().map(Ok)))
                .try_flatten()
                .boxed(),
        }
    }

    async fn list_whole(&self, prefix: &Path, offset: Option<&Path>) -> Result<Vec<ObjectMeta>, StoreError> {
        let attempt = async || {
            let found: Result<Vec<_>, _> = self.raw_list(prefix, offset).try_collect().await;
            found.map_err(|error| StoreError::of("list", prefix, error))
        };
        self.inner
            .retry
            .run(("list", prefix), self.inner.request_timeout, attempt)
            .await
    }

    fn raw_list(&self, prefix: &Path, offset: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match offset {
            Some(offset) => self.inner.backend.list_with_offset(Some(prefix), offset),
            None => self.inner.backend.list(Some(prefix)),
        }
    }

    /// Deletes an object; it need not exist. One DELETE per attempt.
    pub async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        let attempt = async || match self.inner.backend.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::of("delete", key, error)),
        };
        self.inner
            .retry
            .run(("delete", key), self.inner.request_timeout, attempt)
            .await
    }

    /// Deletes objects in this order, a thousand at a time; they need not exist. One DELETE per object and attempt,
    /// where the store can, one request per thousand.
    ///
    /// # Errors
    ///
    /// Some are deleted, those of a batch in any order; all batches before it are.
    pub async fn delete_all(&self, keys: &[Path]) -> Result<(), StoreError> {
        for batch in keys.chunks(DELETED_AT_ONCE) {
            let attempt = async || {
                let keys: Vec<_> = batch.iter().cloned().map(Ok).collect();
                let mut deleted = self.inner.backend.delete_stream(futures::stream::iter(keys).boxed());
                while let Some(result) = deleted.next().await {
                    match result {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => return Err(StoreError::of("delete", &batch[0], error)),
                    }
                }
                Ok(())
            };
            let limit = self.inner.request_timeout * 4;
            self.inner.retry.run(("delete", &batch[0]), limit, attempt).await?;
        }
        Ok(())
    }

    /// Notes how long the first byte took.
    async fn timed(
        &self,
        get: impl Future<Output = object_store::Result<GetResult>>,
    ) -> object_store::Result<GetResult> {
        let health = &self.inner.retry.health;
        let start = health.now();
        let found = get.await;
        if matches!(found, Ok(_) | Err(object_store::Error::NotFound { .. })) {
            health.took(start);
        }
        found
    }

    fn put_limit(&self, body: &PutPayload) -> Duration {
        self.inner.put_timeout + Duration::from_secs_f64(body.content_length() as f64 / PUT_BYTES_PER_SECOND)
    }
}

/// The body, if it is as long as the store announced.
async fn complete(op: &'static str, key: &Path, found: GetResult) -> Result<Bytes, StoreError> {
    let announced = found.range.end - found.range.start;
    let body = found.bytes().await.map_err(|error| StoreError::of(op, key, error))?;
    if body.len() as u64 == announced {
        return Ok(body);
    }
    let source = format!("{announced} bytes were announced, {} came", body.len()).into();
    Err(StoreError::Unavailable {
        op,
        key: key.to_string(),
        source,
    })
}

/// A listing in order, resumed behind the last key.
struct Listing {
    store: Store,
    prefix: Path,
    last: Option<Path>,
    page: Option<BoxStream<'static, object_store::Result<ObjectMeta>>>,
}

impl Listing {
    fn stream(self) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let step = async |mut listing: Listing| Ok(listing.next().await?.map(|object| (object, listing)));
        futures::stream::try_unfold(self, move |listing| {
            Box::pin(step(listing)) as futures::future::BoxFuture<'static, _>
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<ObjectMeta>, StoreError> {
        let store = self.store.clone();
        let retry = &store.inner.retry;
        let is_new = self.page.is_none();
        if is_new {
            retry.health.give_way().await;
        }
        let mut attempts = retry.start();
        loop {
            if self.page.is_none() && !retry.health.admit(Lane::Read) {
                return Err(StoreError::refused("list", &self.prefix));
            }
            let page = self
                .page
                .get_or_insert_with(|| store.raw_list(&self.prefix, self.last.as_ref()));
            let error = match tokio::time::timeout(store.inner.request_timeout, page.next()).await {
                Ok(Some(Ok(object))) => {
                    if is_new {
                        retry.health.answered(Lane::Read);
                    }
                    self.last = Some(object.location.clone());
                    return Ok(Some(object));
                }
                Ok(None) => {
                    retry.health.answered(Lane::Read);
                    return Ok(None);
                }
                Ok(Some(Err(error))) => StoreError::of("list", &self.prefix, error),
                Err(_) => StoreError::late("list", &self.prefix),
            };
            self.page = None;
            retry.heard(Lane::Read, &error);
            attempts.pause_after(error).await?;
        }
    }
}
