//! A store in memory whose calls fail as a script says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error; the store did nothing.
    Before,
    /// The store did it, the reply was lost.
    After,
    /// A create is told that the key is taken, and nothing was written. As `Before` for others.
    Conflict,
    /// Refused for lack of permission.
    Denied,
    /// The disk is full; the store did nothing.
    Full,
}

/// A call, for whoever listens in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    Put,
}

/// Does something before a call, and says what happens to it.
type Between = dyn Fn(Call, &Path) -> BoxFuture<'static, Option<Fault>> + Send + Sync;

/// Whether it is the creation of a manifest.
pub fn is_manifest(call: Call, key: &Path) -> bool {
    call == Call::Put && key.as_ref().contains("/man/")
}

impl Fault {
    pub const ALL: [Fault; 4] = [Fault::Before, Fault::After, Fault::Conflict, Fault::Denied];
}

#[derive(Default)]
struct Script {
    calls: u64,
    faults: BTreeMap<u64, Fault>,
    between: Option<Arc<Between>>,
}

/// Clones share objects and script.
#[derive(Clone)]
pub struct ScriptedStore {
    inner: Arc<InMemory>,
    script: Arc<Mutex<Script>>,
}

impl ScriptedStore {
    pub fn new() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            script: Arc::default(),
        }
    }

    /// The same objects by another way, without faults.
    pub fn aside(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            script: Arc::default(),
        }
    }

    /// Has each GET and PUT wait for what `between` does, and meet the fault that it says.
    pub fn listen(&self, between: impl Fn(Call, &Path) -> BoxFuture<'static, Option<Fault>> + Send + Sync + 'static) {
        self.script.lock().expect("whole").between = Some(Arc::new(between));
    }

    /// Counts the calls from now on that are `such`.
    pub fn count(&self, such: impl Fn(Call, &Path) -> bool + Send + Sync + 'static) -> Arc<AtomicU64> {
        self.before(such, |_| async {})
    }

    /// Has each call from now on that is `such` wait for what `act` does, which is told how many there were before it.
    /// Returns their count.
    pub fn before<F: Future<Output = ()> + Send + 'static>(
        &self,
        such: impl Fn(Call, &Path) -> bool + Send + Sync + 'static,
        act: impl Fn(u64) -> F + Send + Sync + 'static,
    ) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        self.listen(move |call, key| {
            let acting = such(call, key).then(|| act(counted.fetch_add(1, Ordering::Relaxed)));
            async move {
                if let Some(acting) = acting {
                    acting.await;
                }
                None
            }
            .boxed()
        });
        count
    }

    /// The `n`-th call from now, counted from 0, meets this fault.
    pub fn fail(&self, n: u64, fault: Fault) {
        let mut script = self.script.lock().expect("whole");
        let at = script.calls + n;
        script.faults.insert(at, fault);
    }

    /// Forgets the faults that did not happen, and who listens in.
    pub fn heal(&self) {
        let mut script = self.script.lock().expect("whole");
        script.faults.clear();
        script.between = None;
    }

    pub fn calls(&self) -> u64 {
        self.script.lock().expect("whole").calls
    }

    async fn draw(&self, call: Call, path: &Path) -> Option<Fault> {
        let (fault, between) = {
            let mut script = self.script.lock().expect("whole");
            let call = script.calls;
            script.calls += 1;
            (script.faults.remove(&call), script.between.clone())
        };
        match between {
            Some(between) => between(call, path).await.or(fault),
            None => fault,
        }
    }
}

fn failed(path: &Path, fault: Fault) -> Error {
    let path = path.to_string();
    match fault {
        Fault::Before | Fault::After => Error::Generic {
            store: "scripted",
            source: "failed by script".into(),
        },
        Fault::Conflict => Error::AlreadyExists {
            path,
            source: "by script".into(),
        },
        Fault::Full => Error::Generic {
            store: "scripted",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
        },
        Fault::Denied => Error::PermissionDenied {
            path,
            source: "by script".into(),
        },
    }
}

impl fmt::Debug for ScriptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedStore")
    }
}

impl fmt::Display for ScriptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedStore")
    }
}

#[async_trait]
impl ObjectStore for ScriptedStore {
    async fn put_opts(&self, path: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.draw(Call::Put, path).await {
            None => self.inner.put_opts(path, body, options).await,
            Some(Fault::After) => {
                let _ = self.inner.put_opts(path, body, options).await;
                Err(failed(path, Fault::After))
            }
            Some(Fault::Conflict) if !matches!(options.mode, PutMode::Create) => Err(failed(path, Fault::Before)),
            Some(fault) => Err(failed(path, fault)),
        }
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match self.draw(Call::Get, path).await {
            None => self.inner.get_opts(path, options).await,
            Some(_) => Err(failed(path, Fault::Before)),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.draw(Call::Put, to).await {
            None => self.inner.copy_opts(from, to, options).await,
            Some(Fault::After) => {
                let _ = self.inner.copy_opts(from, to, options).await;
                Err(failed(to, Fault::After))
            }
            Some(fault) => Err(failed(to, fault)),
        }
    }
}
