//! A store in memory that dates objects by Tokio's clock, and that can be cut off after any number of calls.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::base::{Clock, TokioClock};

#[path = "../../../../benches/common/dated.rs"]
mod dated;

#[derive(Default)]
struct Inside {
    calls: u64,
    cut_at: Option<u64>,
    /// What was asked for: the kind of request and the key.
    asked: Vec<(&'static str, String)>,
    /// Requests for keys that contain this take so long.
    slow: Option<(String, Duration)>,
    /// What is gone as soon as this was read.
    vanishing: Option<(Path, Vec<Path>)>,
}

/// A clock that is so many seconds ahead of another one.
struct Ahead(TokioClock, Arc<AtomicI64>);

impl Clock for Ahead {
    fn wall(&self) -> Duration {
        let seconds = self.1.load(Ordering::Relaxed);
        let ahead = Duration::from_secs(seconds.unsigned_abs());
        match seconds < 0 {
            true => self.0.wall().saturating_sub(ahead),
            false => self.0.wall() + ahead,
        }
    }

    fn boot(&self) -> Duration {
        self.0.boot()
    }
}

/// Clones are the same store.
#[derive(Clone)]
pub struct Dated {
    inner: Arc<dated::Dated>,
    /// Seconds that the store's clock is ahead of the nodes'.
    ahead: Arc<AtomicI64>,
    inside: Arc<Mutex<Inside>>,
}

impl Dated {
    pub fn new(clock: TokioClock) -> Self {
        let ahead = Arc::<AtomicI64>::default();
        let clock = Ahead(clock, ahead.clone());
        Self {
            inner: Arc::new(dated::Dated::new(Arc::new(clock))),
            ahead,
            inside: Arc::default(),
        }
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses everything after so many more calls.
    pub fn cut_after(&self, calls: u64) {
        let mut inside = self.inside();
        inside.cut_at = Some(inside.calls + calls);
    }

    pub fn heal(&self) {
        self.inside().cut_at = None;
    }

    /// Whether a call was refused since the last [`heal`](Self::heal).
    pub fn was_cut(&self) -> bool {
        let inside = self.inside();
        inside.cut_at.is_some_and(|at| inside.calls > at)
    }

    pub fn calls(&self) -> u64 {
        self.inside().calls
    }

    /// Sets the store's clock, in seconds against the nodes'.
    pub fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }

    /// How many requests of a kind there were for keys that contain `text`, since the last call of this.
    pub fn take_asked(&self, kind: &str, text: &str) -> usize {
        let asked = std::mem::take(&mut self.inside().asked);
        let is_meant = |(of, key): &&(&'static str, String)| *of == kind && key.contains(text);
        asked.iter().filter(is_meant).count()
    }

    /// The keys of the requests of a kind, since the last call of this or of [`take_asked`](Self::take_asked).
    pub fn take_keys(&self, kind: &str) -> Vec<String> {
        let asked = std::mem::take(&mut self.inside().asked);
        let of_kind = asked.into_iter().filter(|(of, _)| *of == kind);
        of_kind.map(|(_, key)| key).collect()
    }

    /// From now on, requests for keys that contain `text` take so long.
    pub fn slow(&self, text: &str, by: Duration) {
        self.inside().slow = Some((text.to_owned(), by));
    }

    /// Once, when `read` was read, `gone` is deleted.
    pub fn vanish_after(&self, read: Path, gone: Vec<Path>) {
        self.inside().vanishing = Some((read, gone));
    }

    async fn vanish(&self, read: &Path) {
        let gone = match &mut self.inside().vanishing {
            Some((trigger, gone)) if trigger == read => std::mem::take(gone),
            _ => return,
        };
        for path in gone {
            self.inner.delete(&path).await.expect("it was there");
        }
    }

    async fn wait(&self, path: &Path) {
        let wait = match &self.inside().slow {
            Some((text, by)) if path.as_ref().contains(text) => *by,
            _ => return,
        };
        tokio::time::sleep(wait).await;
    }

    fn call(&self, kind: &'static str, path: &Path) -> Result<()> {
        let mut inside = self.inside();
        inside.calls += 1;
        inside.asked.push((kind, path.to_string()));
        match inside.cut_at.is_some_and(|at| inside.calls > at) {
            false => Ok(()),
            true => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "cut off".into(),
            }),
        }
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
        self.call("put", path)?;
        self.wait(path).await;
        self.inner.put_opts(path, body, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.call("get", path)?;
        self.wait(path).await;
        let found = self.inner.get_opts(path, options).await;
        self.vanish(path).await;
        found
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |path: Result<Path>| {
            let this = this.clone();
            async move {
                let path = path?;
                this.call("delete", &path)?;
                let one = stream::iter([Ok(path)]).boxed();
                this.inner.delete_stream(one).next().await.expect("one for one")
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(refused) = self.call("list", prefix.unwrap_or(&Path::default())) {
            return stream::iter([Err(refused)]).boxed();
        }
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(refused) = self.call("list", prefix.unwrap_or(&Path::default())) {
            return stream::iter([Err(refused)]).boxed();
        }
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
