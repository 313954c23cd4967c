//! Appending to, reading and listing the log of one namespace.
//!
//! One method per request to the store; the rules that connect them (same slot, own write,
//! staleness, chain) are the commit loop's, in `namespace`.

use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use ulid::Ulid;

use super::{BlobRef, DecodeError, Digest, Entry, EntryKind, StagedBlob, format};
use crate::base::{CpuPool, Priority};
use crate::error::{Error, ErrorKind};
use crate::model::Seq;
use crate::store::paths::{self, NsKey};
use crate::store::{CreateError, PutPayload, Store, StoreError};

/// Blobs of one entry that are uploaded or fetched at the same time.
const BLOBS_AT_ONCE: usize = 8;

/// What became of an append. None of them is a verdict but `Created` and `Refused`.
#[derive(Debug)]
pub enum Append {
    /// The entry is durable, if the writer's knowledge is still fresh.
    Created,
    /// The store says that the slot exists. By a rival, by our own first attempt whose reply was
    /// lost, or not at all (a conflict reported for nothing): [`Log::get`] it and compare.
    Taken,
    /// It may or may not exist, now or later. Only the same slot may be tried again.
    Ambiguous(StoreError),
    /// Nothing was written and nothing will be.
    Refused(StoreError),
}

/// Why the log could not be read, or a blob not be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Try again later.
    #[error("the log cannot be reached")]
    Store(#[from] StoreError),
    /// The object is there and is not what it should be: the alarm, and no more writes.
    #[error("log object {object}")]
    Damaged { object: String, source: DecodeError },
    /// An entry names a blob that is gone.
    #[error("log entry {seq} names blob {key}, which does not exist")]
    BlobMissing { seq: Seq, key: Ulid },
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(_) => Error::new(ErrorKind::Unavailable, "the object store cannot be reached"),
            _ if error.is_newer() => Error::newer_version(),
            LogError::Damaged { .. } | LogError::BlobMissing { .. } => {
                Error::new(ErrorKind::Internal, "the namespace's log is damaged")
            }
        }
        .because(error)
    }
}

impl LogError {
    /// Whether the object is whole, and a newer version of this program has to read it.
    pub fn is_newer(&self) -> bool {
        matches!(
            self,
            Self::Damaged {
                source: DecodeError::Newer(_),
                ..
            }
        )
    }

    fn damaged(object: impl fmt::Display, source: DecodeError) -> Self {
        Self::Damaged {
            object: object.to_string(),
            source,
        }
    }
}

/// An entry as it is stored.
#[derive(Clone, Debug)]
pub struct Logged {
    pub entry: Entry,
    pub digest: Digest,
    /// Bytes of the entry and of the blobs it names.
    pub bytes: u64,
}

/// The log of one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    store: Store,
    ns: NsKey,
    cpu: CpuPool,
}

impl Log {
    /// The log of `ns`. Does no I/O.
    pub fn new(store: Store, ns: NsKey, cpu: CpuPool) -> Self {
        Self { store, ns, cpu }
    }

    /// Whose log it is.
    pub fn key(&self) -> &NsKey {
        &self.ns
    }

    /// The store that holds it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Creates the entry of `seq` from what [`encode`](format::encode) returned. One PUT, never
    /// repeated.
    ///
    /// Not cancel safe: dropping the future is a lost reply, as [`Append::Ambiguous`].
    pub async fn append(&self, seq: Seq, bytes: PutPayload) -> Append {
        match self.store.create(&paths::wal_entry(&self.ns, seq), bytes).await {
            Ok(()) => Append::Created,
            Err(CreateError::Exists) => Append::Taken,
            Err(CreateError::Ambiguous(source)) => Append::Ambiguous(source),
            Err(CreateError::Refused(source)) => Append::Refused(source),
        }
    }

    /// The entry of `seq`; `None` when there is none. One GET. Staged blobs are named, not loaded:
    /// [`Log::load`] does that.
    ///
    /// What cannot be decoded is read once more: the damage may have happened on the way.
    pub async fn get(&self, seq: Seq) -> Result<Option<Logged>, LogError> {
        match self.read(seq).await {
            Err(LogError::Damaged { .. }) => self.read(seq).await,
            read => read,
        }
    }

    async fn read(&self, seq: Seq) -> Result<Option<Logged>, LogError> {
        let Some(bytes) = self.store.get(&paths::wal_entry(&self.ns, seq)).await? else {
            return Ok(None);
        };
        let len = bytes.len();
        let decode = move || format::decode(bytes);
        let decoded = self.cpu.run_on(len, Priority::Foreground, decode).await;
        let (entry, digest) = decoded.map_err(|source| LogError::damaged(seq, source))?;
        if entry.seq != seq {
            let source = DecodeError::Corrupt(format!("it is entry {}", entry.seq));
            return Err(LogError::damaged(seq, source));
        }
        let bytes = len as u64 + entry.staged_bytes();
        Ok(Some(Logged { entry, digest, bytes }))
    }

    /// The entry of `seq` with its staged blobs turned into operations. One GET, and then one per
    /// blob, some in parallel.
    pub async fn load(&self, seq: Seq) -> Result<Option<Logged>, LogError> {
        let Some(mut logged) = self.get(seq).await? else {
            return Ok(None);
        };
        self.resolve(&mut logged.entry).await?;
        Ok(Some(logged))
    }

    /// Replaces the blobs an entry names by the operations in them.
    pub async fn resolve(&self, entry: &mut Entry) -> Result<(), LogError> {
        let EntryKind::Data(requests) = &mut entry.kind else {
            return Ok(());
        };
        for request in requests {
            let staged = std::mem::take(&mut request.staged);
            let fetches = stream::iter(staged).map(|blob| self.fetch(entry.seq, blob));
            let loaded: Vec<_> = fetches.buffered(BLOBS_AT_ONCE).try_collect().await?;
            request.operations.extend(loaded.into_iter().flatten());
        }
        Ok(())
    }

    async fn fetch(&self, seq: Seq, blob: BlobRef) -> Result<Vec<super::Operation>, LogError> {
        match self.read_blob(seq, blob).await {
            Err(LogError::Damaged { .. }) => self.read_blob(seq, blob).await,
            read => read,
        }
    }

    async fn read_blob(&self, seq: Seq, blob: BlobRef) -> Result<Vec<super::Operation>, LogError> {
        let bytes = self.store.get(&paths::blob(&self.ns, blob.key)).await?;
        let bytes = bytes.ok_or(LogError::BlobMissing { seq, key: blob.key })?;
        let len = bytes.len();
        let decode = move || format::decode_blob(bytes);
        let decoded = self.cpu.run_on(len, Priority::Foreground, decode).await;
        let (operations, digest) = decoded.map_err(|source| LogError::damaged(blob.key, source))?;
        if (len as u64, digest) != (blob.len, blob.digest) {
            let source = DecodeError::Corrupt(format!("it is not the blob that entry {seq} names"));
            return Err(LogError::damaged(blob.key, source));
        }
        Ok(operations)
    }

    /// Uploads what [`stage`](super::stage()) returned and names it for
    /// [`RequestEffects::staged`](super::RequestEffects). One PUT per blob, some in parallel.
    ///
    /// * `keys` — new ULIDs, one per blob
    ///
    /// The entry must be appended within half the grace time: blobs that no entry names are
    /// garbage after the grace time. On an error, what was uploaded is garbage.
    pub async fn upload(&self, blobs: Vec<(Ulid, StagedBlob)>) -> Result<Vec<BlobRef>, LogError> {
        let uploads = stream::iter(blobs).map(|(key, blob)| async move {
            let (len, digest) = (blob.bytes.content_length() as u64, blob.digest);
            self.store.put(&paths::blob(&self.ns, key), blob.bytes).await?;
            Ok::<_, LogError>(BlobRef { key, len, digest })
        });
        uploads.buffered(BLOBS_AT_ONCE).try_collect().await
    }

    /// Every entry there is with its size in bytes, oldest first. One LIST per 1000 entries.
    /// Listings of some stores have no order; this one has.
    pub async fn list(&self) -> Result<Vec<(Seq, u64)>, LogError> {
        let prefix = paths::wal_prefix(&self.ns);
        let objects = self.store.list(&prefix, None);
        let named = objects.try_filter_map(|object| async move {
            Ok(paths::parse_wal_entry(&object.location).map(|seq| (seq, object.size)))
        });
        let mut entries: Vec<(Seq, u64)> = named.try_collect().await?;
        entries.sort_unstable();
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use uuid::Uuid;

    use super::*;
    use crate::base::{Rng, SystemClock};
    use crate::config::StoreConfig;
    use crate::model::{Id, IdColumn, IdKind, NamespaceName, OrgId};
    use crate::wal::{Operation, RequestEffects, encode, stage};

    fn entry(seq: u64, staged: Vec<BlobRef>) -> Entry {
        Entry {
            namespace: Uuid::from_u128(1),
            seq: Seq(seq),
            writer: 2,
            batch: 3,
            writer_addr: String::new(),
            prev_digest: Digest(4),
            manifest_gen_hint: 0,
            hlc_ms: 5,
            kind: EntryKind::Data(vec![RequestEffects {
                request: 6,
                operations: vec![delete(0..2)],
                staged,
                ..RequestEffects::default()
            }]),
        }
    }

    fn delete(ids: std::ops::Range<u64>) -> Operation {
        let ids: Vec<Id> = ids.map(Id::UInt).collect();
        Operation::Delete(IdColumn::from_ids(IdKind::UInt, ids.iter()))
    }

    fn log() -> (Log, Store, NsKey) {
        let config = StoreConfig::default();
        let store = Store::new(
            Arc::new(InMemory::new()),
            Arc::new(SystemClock),
            Rng::seeded(1),
            &config,
        );
        let ns = NsKey::new(
            OrgId::default_org(),
            NamespaceName::parse("Some.Namespace").expect("a good name"),
        );
        (Log::new(store.clone(), ns.clone(), CpuPool::inline()), store, ns)
    }

    #[tokio::test]
    async fn a_slot_is_created_once_and_listed_in_order() {
        let (log, ..) = log();
        for seq in [1, 2, 300] {
            let (bytes, digest) = encode(&entry(seq, vec![]));
            assert!(matches!(log.append(Seq(seq), bytes.clone()).await, Append::Created));
            assert!(matches!(log.append(Seq(seq), bytes).await, Append::Taken));
            let found = log.get(Seq(seq)).await.expect("readable").expect("just created");
            assert_eq!((found.entry.seq, found.digest), (Seq(seq), digest));
        }
        assert!(log.get(Seq(3)).await.expect("readable").is_none());
        let listed = log.list().await.expect("listable");
        let seqs: Vec<Seq> = listed.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, [Seq(1), Seq(2), Seq(300)]);
        assert!(listed.iter().all(|(_, bytes)| *bytes > 64));
    }

    #[tokio::test]
    async fn an_entry_under_another_number_is_damage() {
        let (log, ..) = log();
        log.append(Seq(2), encode(&entry(1, vec![])).0).await;
        assert!(matches!(log.get(Seq(2)).await, Err(LogError::Damaged { .. })));
    }

    #[tokio::test]
    async fn staged_blobs_are_loaded_in_order_and_checked() {
        let (log, store, ns) = log();
        let blobs = [delete(10..14), delete(20..22)].map(|op| stage(&[op]).remove(0));
        let keys = [Ulid::from_parts(1, 1), Ulid::from_parts(1, 2)];
        let refs = log
            .upload(keys.into_iter().zip(blobs).collect())
            .await
            .expect("uploaded");
        log.append(Seq(1), encode(&entry(1, refs.clone())).0).await;

        let named = log.get(Seq(1)).await.expect("readable").expect("created");
        let EntryKind::Data(requests) = named.entry.kind else {
            panic!("data was appended")
        };
        assert_eq!(requests[0].staged, refs);

        let loaded = log.load(Seq(1)).await.expect("readable").expect("created");
        let EntryKind::Data(requests) = loaded.entry.kind else {
            panic!("data was appended")
        };
        let rows: Vec<usize> = requests[0].operations.iter().map(Operation::rows).collect();
        assert_eq!(rows, [2, 4, 2], "inline first, then the blobs in order");

        let other = stage(&[delete(0..1)]).remove(0);
        store.put(&paths::blob(&ns, keys[1]), other.bytes).await.expect("put");
        assert!(
            matches!(log.load(Seq(1)).await, Err(LogError::Damaged { .. })),
            "valid, but another blob"
        );

        let missing = BlobRef {
            key: Ulid::from_parts(9, 9),
            ..refs[0]
        };
        log.append(Seq(2), encode(&entry(2, vec![missing])).0).await;
        assert!(matches!(log.load(Seq(2)).await, Err(LogError::BlobMissing { .. })));
    }
}
