//! What every job of upkeep needs, and the rule that it ends in time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ulid::Ulid;

use super::UpkeepOptions;
use crate::base::clock::wall_ms;
use crate::base::{Priority, Runtime};
use crate::cache::{Cache, ObjectRef};
use crate::manifest::{INLINE_BYTES_MAX, Manifest, ManifestError, ManifestStore, Published};
use crate::model::{Gen, Schema};
use crate::segment::{self, EncodeOptions, Encoded, Rows, SegmentError, SegmentId, SegmentMeta};
use crate::store::paths::{self, NsKey};
use crate::store::{Store, StoreError};
use crate::wal::Digest;

/// Where jobs run and on what. Clones share it.
#[derive(Clone)]
pub struct Workshop {
    pub runtime: Runtime,
    pub store: Store,
    pub cache: Cache,
    /// Random per process start.
    pub writer: u128,
    /// How long objects stay after nothing needs them.
    pub grace: Duration,
    pub options: Arc<UpkeepOptions>,
}

/// Why a job did not do what it was to do. Nothing is wrong with the namespace; what was uploaded is garbage.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It took so long that what it knew may not be true any more.
    #[error("the job took longer than half the grace time")]
    Late,
    /// Another manifest than the one it began with is in force.
    #[error("the job began with manifest {expected}, and was given {found}")]
    Superseded { expected: Gen, found: Gen },
}

/// How a job ended.
#[derive(Debug)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// The manifest is in force.
    Published(Box<Manifest>, Digest),
    /// Another manifest came first; the job may be done again on it.
    Lost(Box<Manifest>, Digest),
    /// What the job worked on is not there any more.
    Abandoned,
    /// Whether it is in force is not known. What it would say is the same.
    Unknown,
}

/// One attempt to make the next manifest of a namespace.
pub struct Job {
    pub workshop: Workshop,
    pub manifests: ManifestStore,
    pub id: Ulid,
    began: (Duration, Duration),
}

impl Job {
    /// A job that begins now. What it works on has to be read afterwards.
    pub fn begin(workshop: Workshop, ns: NsKey) -> Self {
        let (clock, cpu) = (workshop.runtime.clock.clone(), workshop.runtime.cpu.clone());
        Self {
            manifests: ManifestStore::new(workshop.store.clone(), ns, cpu),
            id: workshop.runtime.rng.ulid(wall_ms(clock.as_ref())),
            began: (clock.boot(), clock.wall()),
            workshop,
        }
    }

    /// Whose it is.
    pub fn ns(&self) -> &NsKey {
        self.manifests.key()
    }

    /// Whether the job is younger than half the grace time, by whichever clock says more.
    pub fn in_time(&self) -> bool {
        let clock = &self.workshop.runtime.clock;
        let boot = clock.boot().saturating_sub(self.began.0);
        boot.max(clock.wall().saturating_sub(self.began.1)) <= self.workshop.grace / 2
    }

    /// Fails when it is not.
    pub fn check(&self) -> Result<(), JobError> {
        match self.in_time() {
            true => Ok(()),
            false => Err(JobError::Late),
        }
    }

    /// A name that was never used.
    pub fn new_name(&self) -> Ulid {
        self.workshop.runtime.rng.ulid(self.now_ms())
    }

    /// Wall time in milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        wall_ms(self.workshop.runtime.clock.as_ref())
    }

    /// Encodes rows as a segment, on the CPU pool.
    pub async fn encode(&self, rows: Rows, schema: Arc<Schema>, options: EncodeOptions) -> Encoded {
        let id = SegmentId(self.new_name());
        let encode = move || segment::encode(id, &rows, &schema, &options);
        self.workshop.runtime.cpu.run(Priority::Background, encode).await
    }

    /// Makes a segment ready to be named by a manifest. One PUT, unless it is put into the manifest.
    ///
    /// * `may_inline` — whether it may be put there if it is small enough
    pub async fn upload(&self, encoded: Encoded, may_inline: bool) -> Result<SegmentMeta, JobError> {
        let Encoded { bytes, mut meta } = encoded;
        if may_inline && self.workshop.options.inline && meta.len <= INLINE_BYTES_MAX {
            meta.inline = Some(bytes);
            return Ok(meta);
        }
        self.check()?;
        let key = paths::segment(self.ns(), meta.id.0);
        self.workshop.store.put(&key, bytes.clone()).await?;
        self.keep(&meta, bytes).await;
        Ok(meta)
    }

    /// What was just written is read soon.
    async fn keep(&self, meta: &SegmentMeta, bytes: Bytes) {
        let object = ObjectRef {
            key: Arc::new(paths::segment(self.ns(), meta.id.0)),
            len: meta.len,
            org: self.ns().org().clone(),
        };
        self.workshop.cache.put_through(&object, bytes).await;
    }

    /// Publishes the successor of `base`.
    pub async fn publish(&self, next: Manifest, base: Option<(&Manifest, Digest)>) -> Result<Outcome, JobError> {
        next.check_successor(base).map_err(ManifestError::from)?;
        let published = self.manifests.publish(&next, &|| self.in_time()).await?;
        Ok(match published {
            Published::Ours(digest) => Outcome::Published(Box::new(next), digest),
            Published::Lost(other, digest) => Outcome::Lost(other, digest),
            Published::Unknown => Outcome::Unknown,
        })
    }
}
