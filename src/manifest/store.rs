//! Reading and publishing the manifests of one namespace.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use roaring::RoaringBitmap;
use ulid::Ulid;

use super::deletions::decode_object;
use super::{
    DecodeError, Deletions, Gen, InvalidManifest, MANIFEST_BYTES_MAX, MANIFEST_BYTES_WARNED, Manifest, ManifestSegment,
    format,
};
use crate::base::{CpuPool, Priority};
use crate::error::{Error, ErrorKind};
use crate::store::paths::{self, NsKey};
use crate::store::{CreateError, Store, StoreError};
use crate::wal::Digest;

/// How often a generation whose fate is unknown is sent again.
const RESENDS_MAX: usize = 4;
/// How often a listing is repeated because what it named was gone.
const RELISTS_MAX: usize = 4;
/// After how many generations, found one after the other, the newest is listed.
const STEPS_MAX: usize = 4;
/// How many of the newest generations are tried when they are damaged.
const OLDER_TRIED: usize = 4;

/// Why manifests could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Try again later.
    #[error("manifests cannot be reached")]
    Store(#[from] StoreError),
    /// The object is there, was read twice and is not what it should be.
    #[error("object {key} is damaged")]
    Damaged { key: String, source: DecodeError },
    /// A manifest names an object that is gone: there is a newer manifest that does not.
    #[error("object {key}, which a manifest names, does not exist")]
    Missing { key: String },
    /// It would say what cannot be; nothing was written.
    #[error(transparent)]
    Invalid(#[from] InvalidManifest),
    /// It is too large to be published; nothing was written. Merges have to make room.
    #[error("the manifest would have {bytes} bytes, at most {MANIFEST_BYTES_MAX} are possible")]
    TooLarge { bytes: usize },
}

impl ManifestError {
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
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        match error {
            _ if error.is_newer() => Error::newer_version(),
            ManifestError::Store(_) | ManifestError::Missing { .. } => {
                Error::new(ErrorKind::Unavailable, "the object store cannot be reached")
            }
            ManifestError::Damaged { .. } | ManifestError::Invalid(_) | ManifestError::TooLarge { .. } => {
                Error::new(ErrorKind::Internal, "the namespace's index is damaged")
            }
        }
        .because(error)
    }
}

/// What became of a manifest that was to be published.
#[derive(Debug)]
pub enum Published {
    /// It is the manifest of its generation; here is its digest.
    Ours(Digest),
    /// This one is. Ours is not and never will be.
    Lost(Box<Manifest>, Digest),
    /// It may be, now or later. Forget it: nothing was promised to anybody.
    Unknown,
}

/// The manifests of one namespace. Cheap to clone.
#[derive(Clone)]
pub struct ManifestStore {
    store: Store,
    ns: NsKey,
    cpu: CpuPool,
}

impl ManifestStore {
    /// The manifests of `ns`. Does no I/O.
    pub fn new(store: Store, ns: NsKey, cpu: CpuPool) -> Self {
        Self { store, ns, cpu }
    }

    /// Whose they are.
    pub fn key(&self) -> &NsKey {
        &self.ns
    }

    /// The store that holds them.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A recent manifest, nearly always the newest; `None` when there is none. One GET; one LIST and one GET more when
    /// the hint is missing or damaged.
    ///
    /// The hint may be old. What needs the newest one asks [`newer_than`](Self::newer_than), or, when the objects that
    /// it names are gone, [`listed`](Self::listed).
    pub async fn newest(&self) -> Result<Option<(Manifest, Digest)>, ManifestError> {
        match self.hint().await? {
            Some(found) => Ok(Some(found)),
            None => self.listed().await,
        }
    }

    /// What the hint says; `None` when it is missing or damaged. One GET.
    pub async fn hint(&self) -> Result<Option<(Manifest, Digest)>, ManifestError> {
        match self.read(&paths::head(&self.ns)).await {
            Err(ManifestError::Damaged { key, source }) => {
                tracing::warn!(key, %source, "the hint at the newest manifest is damaged");
                Ok(None)
            }
            read => read,
        }
    }

    /// The newest manifest there is; `None` when there is none. One LIST and one GET.
    ///
    /// One that is damaged is reported, and the one before it returned, which says the same as long as the log after
    /// its `indexed_seq` is whole: the caller checks the chain.
    pub async fn listed(&self) -> Result<Option<(Manifest, Digest)>, ManifestError> {
        let mut damage = None;
        for _ in 0..RELISTS_MAX {
            let newest = self.newest_generations().await?;
            if newest.is_empty() {
                return Ok(None);
            }
            for generation in newest {
                match self.get(generation).await {
                    Ok(Some(found)) => return Ok(Some(found)),
                    // Deleted since: a newer one was there for long.
                    Ok(None) => break,
                    Err(ManifestError::Damaged { key, source }) => {
                        let what = match &source {
                            DecodeError::Newer(_) => {
                                "a manifest is of a newer version: upgrade; the one before it is tried"
                            }
                            DecodeError::Corrupt(_) => "a manifest is damaged; the one before it is tried",
                        };
                        tracing::error!(key, %source, "{what}");
                        damage.get_or_insert(ManifestError::Damaged { key, source });
                    }
                    Err(error) => return Err(error),
                }
            }
            if damage.is_some() {
                break;
            }
        }
        Err(damage.unwrap_or_else(|| ManifestError::Missing {
            key: paths::manifest_prefix(&self.ns).to_string(),
        }))
    }

    /// The newest manifest after `known`; `None` when there is none. One GET, and one more per generation found; a LIST and
    /// a GET instead of going on when there are many.
    ///
    /// * `known` — read less than half the grace time ago: older ones may have no successor left
    pub async fn newer_than(&self, known: Gen) -> Result<Option<(Manifest, Digest)>, ManifestError> {
        let (mut newest, mut next) = (None, known.next());
        for _ in 0..STEPS_MAX {
            let Some(found) = self.get(next).await? else {
                return Ok(newest);
            };
            newest = Some(found);
            next = next.next();
        }
        self.listed().await
    }

    /// One generation; `None` when there is none. One GET; what is damaged is read once more.
    pub async fn get(&self, generation: Gen) -> Result<Option<(Manifest, Digest)>, ManifestError> {
        let key = paths::manifest(&self.ns, generation);
        let read = match self.read(&key).await {
            Err(ManifestError::Damaged { .. }) => self.read(&key).await?,
            read => read?,
        };
        match read {
            Some((manifest, _)) if manifest.generation != generation => Err(ManifestError::Damaged {
                key: key.to_string(),
                source: DecodeError::Corrupt(format!("it is manifest {}", manifest.generation)),
            }),
            read => Ok(read),
        }
    }

    /// All generations with the times at which the store created them, in milliseconds since the epoch, newest first.
    /// One LIST per thousand.
    pub async fn list(&self) -> Result<Vec<(Gen, u64)>, ManifestError> {
        let listed: Vec<_> = self
            .store
            .list(&paths::manifest_prefix(&self.ns), None)
            .try_collect()
            .await?;
        let mut found: Vec<_> = listed
            .into_iter()
            .filter_map(|o| {
                let created_ms = u64::try_from(o.last_modified.timestamp_millis()).unwrap_or(0);
                Some((paths::parse_manifest(&o.location)?, created_ms))
            })
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    async fn newest_generations(&self) -> Result<Vec<Gen>, ManifestError> {
        if !self.store.lists_in_order() {
            let all = self.list().await?;
            return Ok(all.into_iter().take(OLDER_TRIED).map(|(g, _)| g).collect());
        }
        let prefix = paths::manifest_prefix(&self.ns);
        let mut listing = self.store.list(&prefix, None);
        let mut found = Vec::new();
        while found.len() < OLDER_TRIED
            && let Some(object) = listing.next().await
        {
            found.extend(paths::parse_manifest(&object?.location));
        }
        Ok(found)
    }

    /// Publishes a manifest as the one of its generation. One PUT, and one for the hint; a GET more when the first was
    /// not confirmed.
    ///
    /// * `next` — the successor of one that was read
    /// * `in_time` — whether all that it names is younger than half the grace time and it was decided on knowledge as
    ///   young. Asked before anything is sent and after the answer; nothing is sent once it says no.
    ///
    /// Not cancel safe: dropping the future is [`Published::Unknown`].
    ///
    /// # Errors
    ///
    /// It was not published, and never will be.
    pub async fn publish(
        &self,
        next: &Manifest,
        in_time: &(dyn Fn() -> bool + Sync),
    ) -> Result<Published, ManifestError> {
        let (bytes, digest) = self.seal(next).await?;
        let key = paths::manifest(&self.ns, next.generation);
        for sent in 0..RESENDS_MAX {
            if !in_time() {
                return Ok(Published::Unknown);
            }
            let refused = match self.store.create(&key, bytes.clone()).await {
                Ok(()) if in_time() => return Ok(self.won(bytes, digest).await),
                Ok(()) => return Ok(Published::Unknown),
                // An earlier attempt may still arrive after this one was refused.
                Err(CreateError::Refused(error)) if sent == 0 => Some(error),
                Err(CreateError::Refused(_) | CreateError::Exists | CreateError::Ambiguous(_)) => None,
            };
            match (self.get(next.generation).await, refused) {
                (Ok(Some((found, _))), _) if is_same(&found, next) => {
                    return Ok(match in_time() {
                        true => self.won(bytes, digest).await,
                        false => Published::Unknown,
                    });
                }
                (Ok(Some((found, digest))), _) => return Ok(Published::Lost(Box::new(found), digest)),
                (Ok(None), Some(error)) => return Err(error.into()),
                // Empty, or not known: only the same bytes may be sent.
                (Ok(None) | Err(ManifestError::Store(_)), _) => {}
                (Err(damaged), _) => return Err(damaged),
            }
        }
        tracing::warn!(%key, "it is unknown whether a manifest was published");
        Ok(Published::Unknown)
    }

    async fn seal(&self, next: &Manifest) -> Result<(Bytes, Digest), ManifestError> {
        next.check()?;
        let manifest = next.clone();
        let (bytes, digest) = self
            .cpu
            .run(Priority::Background, move || format::encode(&manifest))
            .await;
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let inline: usize = next
            .segments
            .iter()
            .filter_map(|s| Some(s.meta.inline.as_ref()?.len()))
            .sum();
        if bytes.len() - inline > MANIFEST_BYTES_WARNED {
            tracing::warn!(
                namespace = %next.namespace, bytes = bytes.len(), segments = next.segments.len(),
                "a manifest grows large: merging does not keep up, or many requests have idempotency keys"
            );
        }
        Ok((bytes, digest))
    }

    async fn won(&self, bytes: Bytes, digest: Digest) -> Published {
        self.leave_hint(bytes).await;
        Published::Ours(digest)
    }

    /// Hints at a manifest that had to be listed, because the hint is missing, damaged or old: so that nobody has to list
    /// again. It may be old by the time it is there, as every hint. One PUT.
    pub async fn hint_at(&self, listed: &Manifest) {
        match self.seal(listed).await {
            Ok((bytes, _)) => self.leave_hint(bytes).await,
            Err(error) => tracing::debug!(%error, "no hint at a manifest that was listed"),
        }
    }

    async fn leave_hint(&self, bytes: Bytes) {
        let key = paths::head(&self.ns);
        if let Err(error) = self.store.put(&key, bytes).await {
            tracing::debug!(%key, %error, "no hint at the newest manifest was left");
        }
    }

    /// The deleted rows of a segment. One GET when they are not in the manifest.
    pub async fn deletions(&self, segment: &ManifestSegment) -> Result<Arc<RoaringBitmap>, ManifestError> {
        let object = match &segment.deletions {
            Deletions::None => return Ok(Arc::default()),
            Deletions::Inline(rows) => return Ok(rows.clone()),
            Deletions::Object(object) => object.clone(),
        };
        let key = paths::deletions(object.owner.as_ref().unwrap_or(&self.ns), object.key);
        let rows = segment.meta.rows;
        let mut twice = 0;
        loop {
            let found = self.store.get(&key).await?;
            let bytes = found.ok_or_else(|| ManifestError::Missing { key: key.to_string() })?;
            let object = object.clone();
            let decode = move || decode_object(&object, rows, &bytes);
            match self.cpu.run(Priority::Foreground, decode).await {
                Ok(rows) => return Ok(Arc::new(rows)),
                Err(_) if twice == 0 => twice += 1,
                Err(source) => {
                    return Err(ManifestError::Damaged {
                        key: key.to_string(),
                        source,
                    });
                }
            }
        }
    }

    /// Makes deleted rows ready to be named by a manifest. One PUT when they are too many to be in it.
    ///
    /// * `key` — new; what is put is garbage until a manifest names it
    /// * `inline_max` — see [`deletions_inline_max`](super::deletions_inline_max)
    pub async fn put_deletions(
        &self,
        deleted: RoaringBitmap,
        key: Ulid,
        inline_max: usize,
    ) -> Result<Deletions, ManifestError> {
        let prepare = move || Deletions::prepare(deleted, key, inline_max);
        let (deletions, object) = self.cpu.run(Priority::Background, prepare).await;
        if let Some(bytes) = object {
            self.store.put(&paths::deletions(&self.ns, key), bytes).await?;
        }
        Ok(deletions)
    }

    async fn read(&self, key: &Path) -> Result<Option<(Manifest, Digest)>, ManifestError> {
        let Some(bytes) = self.store.get(key).await? else {
            return Ok(None);
        };
        let len = bytes.len();
        let decode = move || format::decode(&bytes);
        let decoded = self.cpu.run_on(len, Priority::Foreground, decode).await;
        decoded.map(Some).map_err(|source| ManifestError::Damaged {
            key: key.to_string(),
            source,
        })
    }
}

/// Whether two manifests are of one attempt of one writer.
fn is_same(a: &Manifest, b: &Manifest) -> bool {
    a.writer == b.writer && a.job == b.job
}
