//! A store in memory whose calls fail as a script says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
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
}

impl Fault {
    pub const ALL: [Fault; 4] = [Fault::Before, Fault::After, Fault::Conflict, Fault::Denied];
}

#[derive(Default)]
struct Script {
    calls: u64,
    faults: BTreeMap<u64, Fault>,
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

    /// The `n`-th call from now, counted from 0, meets this fault.
    pub fn fail(&self, n: u64, fault: Fault) {
        let mut script = self.script.lock().expect("whole");
        let at = script.calls + n;
        script.faults.insert(at, fault);
    }

    /// Forgets the faults that did not happen.
    pub fn heal(&self) {
        self.script.lock().expect("whole").faults.clear();
    }

    pub fn calls(&self) -> u64 {
        self.script.lock().expect("whole").calls
    }

    fn draw(&self) -> Option<Fault> {
        let mut script = self.script.lock().expect("whole");
        let call = script.calls;
        script.calls += 1;
        script.faults.remove(&call)
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
        match self.draw() {
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
        match self.draw() {
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
        self.inner.copy_opts(from, to, options).await
    }
}
