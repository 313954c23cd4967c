//! The local disk, with listings in order.
//!
//! The client that this stands on walks whole directories, in whatever order the file system has them. Here a listing
//! reads the directories that it comes to, keeps the next of their names in order, and looks at the files that it yields:
//! a page of a listing of a hundred thousand namespaces costs passing over one directory of names, and the page.

use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Objects that are looked at before the first of them is yielded.
const BATCH: usize = 256;
/// Names of a directory that are kept and sorted when it is first read; twice as many each time that it is read again for
/// the next ones. Few, so that a page does not sort what it does not yield; few in tests, so that these read again.
const NAMES: usize = if cfg!(test) { 3 } else { 4096 };

/// Objects in a local directory; keys are paths below it.
#[derive(Debug)]
pub(super) struct LocalStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl LocalStore {
    /// * `root` — the directory that `inner` has as its prefix
    pub fn new(inner: LocalFileSystem, root: PathBuf) -> Self {
        Self { inner, root }
    }

    fn walk(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.map(Path::as_ref).filter(|prefix| !prefix.is_empty());
        let walk = Walk {
            root: self.root.clone(),
            offset: offset.map(|offset| offset.as_ref().to_owned()).unwrap_or_default(),
            left: vec![Left::Key(
                prefix.map_or_else(String::new, |prefix| format!("{prefix}/")),
            )],
            names: NAMES,
        };
        let batches = stream::try_unfold(walk, |mut walk| async {
            let step = tokio::task::spawn_blocking(move || walk.batch().map(|batch| (batch, walk)));
            let (batch, walk) = step.await.map_err(generic)?.map_err(generic)?;
            Ok::<_, Error>((!batch.is_empty()).then(|| (stream::iter(batch.into_iter().map(Ok)), walk)))
        });
        batches.try_flatten().boxed()
    }
}

/// A listing under way.
struct Walk {
    root: PathBuf,
    /// Only greater keys are yielded.
    offset: String,
    /// What was not looked at yet, the next last.
    left: Vec<Left>,
    /// Names that are kept of a directory.
    names: usize,
}

/// What a listing has still to look at.
enum Left {
    /// A file, or with a slash at the end of its key a directory, below which there may be objects.
    Key(String),
    /// What a directory has after a key of it.
    Rest { directory: String, after: String },
}

impl Walk {
    /// The next objects; empty at the end.
    fn batch(&mut self) -> io::Result<Vec<ObjectMeta>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(left) = self.left.pop()
        {
            match left {
                Left::Key(key) if key.ends_with('/') || key.is_empty() => self.enter(key, "")?,
                Left::Key(key) => batch.extend(self.look_at(&key)?),
                Left::Rest { directory, after } => {
                    self.names = self.names.saturating_mul(2);
                    self.enter(directory, &after)?;
                }
            }
        }
        Ok(batch)
    }

    /// Adds the next of what is in a directory.
    ///
    /// * `after` — only greater keys
    fn enter(&mut self, directory: String, after: &str) -> io::Result<()> {
        let entries = match std::fs::read_dir(self.root.join(&directory)) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // The smallest so far, the greatest of them on top.
        let mut next = BinaryHeap::new();
        let mut is_all = true;
        let mut key = String::new();
        for entry in entries {
            let entry = entry?;
            let Some(name) = object_name(entry.file_name()) else {
                continue;
            };
            // A directory's keys go on with a slash, which decides about their order.
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            key.clear();
            [&directory, name.as_str(), slash]
                .iter()
                .for_each(|part| key.push_str(part));
            // All keys below a directory that begins otherwise are smaller, too.
            let is_after = key > self.offset || !slash.is_empty() && self.offset.starts_with(&key);
            if !is_after || key.as_str() <= after {
                continue;
            }
            if next.len() >= self.names {
                is_all = false;
                if next.peek().is_some_and(|last| key > *last) {
                    continue;
                }
                next.pop();
            }
            next.push(key.clone());
        }
        let next = next.into_sorted_vec();
        if let (false, Some(last)) = (is_all, next.last()) {
            let after = last.clone();
            self.left.push(Left::Rest { directory, after });
        }
        self.left.extend(next.into_iter().rev().map(Left::Key));
        Ok(())
    }

    /// `None` when the file was deleted meanwhile, or is no object.
    fn look_at(&self, key: &str) -> io::Result<Option<ObjectMeta>> {
        let found = match std::fs::metadata(self.root.join(key)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (Ok(location), true) = (Path::parse(key), found.is_file()) else {
            return Ok(None);
        };
        Ok(Some(ObjectMeta {
            location,
            last_modified: found.modified()?.into(),
            size: found.len(),
            e_tag: None,
            version: None,
        }))
    }
}

/// The name, unless it is that of a file which is being written, `name#1`, or none of ours.
fn object_name(name: OsString) -> Option<String> {
    let name = name.into_string().ok()?;
    let number = name.rsplit_once('#').map(|(_, number)| number);
    let is_staging = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    (!is_staging).then_some(name)
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: "LocalStore",
        source: Box::new(source),
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, key: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(key, body, options).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    async fn get_ranges(&self, key: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(key, ranges).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(listed: Vec<ObjectMeta>) -> Vec<String> {
        listed.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    async fn list(store: &LocalStore, prefix: Option<&str>, offset: Option<&str>) -> Vec<String> {
        let prefix = prefix.map(Path::from);
        let listed = match offset {
            Some(offset) => store.list_with_offset(prefix.as_ref(), &Path::from(offset)),
            None => store.list(prefix.as_ref()),
        };
        keys(listed.try_collect().await.unwrap())
    }

    /// Letters before and after a slash.
    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec("[-a.=!]{1,2}", 1..4)
            .prop_map(|parts| parts.join("/"))
            .prop_filter("no name", |key| !key.split('/').any(|part| part == "." || part == ".."))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn listings_are_in_order_and_begin_behind_their_offset(
            written in prop::collection::btree_set(key(), 0..20),
            prefix in prop::option::of(key()),
            offset in prop::option::of(key()),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let inner = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
            let store = LocalStore::new(inner, dir.path().into());
            let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
            tokio.block_on(async {
                let mut there = std::collections::BTreeSet::new();
                for key in written {
                    // A file and a directory cannot have the same name.
                    if store.put_opts(&Path::from(key.as_str()), key.clone().into(), PutOptions::default()).await.is_ok() {
                        there.insert(key);
                    }
                }
                let expected: Vec<String> = there
                    .into_iter()
                    .filter(|key| prefix.as_ref().is_none_or(|prefix| key.starts_with(&format!("{prefix}/"))))
                    .filter(|key| offset.as_ref().is_none_or(|offset| key > offset))
                    .collect();
                prop_assert_eq!(list(&store, prefix.as_deref(), offset.as_deref()).await, expected);
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn files_that_are_being_written_are_no_objects() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap(), dir.path().into());
        std::fs::create_dir_all(dir.path().join("ns/empty")).unwrap();
        for name in ["ns/a#1", "ns/b", "ns/c#x", "d"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let mut theirs = keys(store.inner.list(None).try_collect().await.unwrap());
        theirs.sort();
        let ours = list(&store, None, None).await;
        assert_eq!(ours, ["d", "ns/b", "ns/c#x"]);
        assert_eq!(ours, theirs, "as the client lists them");
        assert!(list(&store, Some("ns/b"), None).await.is_empty());
        assert!(list(&store, Some("nothing"), None).await.is_empty());
        let many: Vec<String> = (0..2 * BATCH + 3).map(|i| format!("many/{i:06}")).collect();
        for key in &many {
            let (path, body) = (Path::from(key.as_str()), key.clone().into());
            store.put_opts(&path, body, PutOptions::default()).await.unwrap();
        }
        assert_eq!(list(&store, Some("many"), None).await, many);
        assert_eq!(list(&store, Some("many"), Some("many/000500")).await, many[501..]);
    }
}
