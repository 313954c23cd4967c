//! Whether what lies in the store of a namespace is whole.
//!
//! Nodes check what they read when they read it; this looks at everything at once, without a node, for an operator who
//! wants to know, and for tests.
//!
//! # What stays true
//!
//! - Nothing is written.
//! - A namespace that is written to, flushed or collected meanwhile is not called damaged: what is wrong counts only if
//!   the manifests are still those that were looked at, else everything is looked at again.
//! - What cannot be known, because the store does not answer, is an error and no finding.
//! - A look holds a few objects at a time; a deep one the tail of the namespace, and of one segment after the other the
//!   rows, or those of some attributes (see [`Segment::verify`](crate::segment::Segment::verify)).
//!
//! # Who touches it
//!
//! `cli`, and tests.
//!
//! # Cost
//!
//! For each namespace one LIST per thousand objects, and one GET for each manifest, for each entry that is not in segments,
//! for the hot region of each segment, for each deletion bitmap of its own and for each hold; the same LISTs for each namespace
//! that it shares segments with. A deep look reads all entries that are still there, and all segments of the newest manifest about three times.

mod finding;
mod holds;
mod listing;
mod log;
mod manifests;
mod objects;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use crate::base::Runtime;
use crate::cache::{Cache, CacheOptions};
use crate::manifest::{DecodeError, ManifestError, ManifestStore};
use crate::segment::SegmentError;
use crate::store::paths::NsKey;
use crate::store::{Store, StoreError};
use crate::wal::{Log, LogError};

pub use finding::{Finding, FindingKind, Report, Severity};
pub use listing::{Gaps, Listing, PARTS, namespaces};

/// Objects that are read at the same time.
const READ_AT_ONCE: usize = 16;
/// How often a namespace is looked at that changes meanwhile.
const LOOKS_MAX: usize = 4;
/// Memory for what is read of segments, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// How thoroughly is looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsckOptions {
    /// Whether every byte is read, rows are compared with what was derived from them, and ids with one another.
    pub deep: bool,
    /// Findings of one namespace; the rest is left out.
    pub findings_max: usize,
}

impl Default for FsckOptions {
    fn default() -> Self {
        Self {
            deep: false,
            findings_max: 1000,
        }
    }
}

/// Nothing can be said, because something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Something seemed to be wrong, and the namespace had changed each time.
    #[error("it changed during each of {0} looks: look again while less is written to it")]
    Busy(usize),
}

/// Looks at namespaces of a store.
pub struct Fsck {
    store: Store,
    runtime: Runtime,
    options: FsckOptions,
}

impl Fsck {
    /// Does no I/O.
    pub fn new(store: Store, runtime: Runtime, options: FsckOptions) -> Self {
        Self {
            store,
            runtime,
            options,
        }
    }

    /// The store that is looked at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Looks at a namespace. One that has no objects has no findings.
    ///
    /// # Errors
    ///
    /// The store did not answer: nothing is known.
    pub async fn look(&self, ns: &NsKey) -> Result<Report, FsckError> {
        let mut looks = 1;
        loop {
            let listing = Listing::of(&self.store, ns).await?;
            let mut look = Look::new(self, ns, listing);
            look.all().await?;
            let report = look.report();
            // What was published or collected meanwhile may be missed where it was.
            if report.findings.is_empty() || !look.has_changed().await? {
                return Ok(report);
            }
            if looks == LOOKS_MAX {
                return Err(FsckError::Busy(looks));
            }
            looks += 1;
        }
    }
}

/// One look at one namespace.
struct Look<'a> {
    store: &'a Store,
    runtime: &'a Runtime,
    options: &'a FsckOptions,
    ns: &'a NsKey,
    cache: Cache,
    log: Log,
    manifests: ManifestStore,
    listing: Listing,
    /// Of the namespaces that this one shares objects with.
    owners: BTreeMap<NsKey, Listing>,
    findings: Vec<Finding>,
    is_cut: bool,
    /// What manifests, entries and holds that are there name in this directory.
    named: Named,
    segments: u64,
    rows: u64,
}

/// Objects in the directory of a namespace that are named by something.
#[derive(Default)]
struct Named {
    segments: BTreeSet<Ulid>,
    deletions: BTreeSet<Ulid>,
    /// `None` when not all entries were read.
    blobs: Option<BTreeSet<Ulid>>,
}

impl<'a> Look<'a> {
    fn new(fsck: &'a Fsck, ns: &'a NsKey, listing: Listing) -> Self {
        let (store, cpu) = (&fsck.store, &fsck.runtime.cpu);
        Self {
            store,
            runtime: &fsck.runtime,
            options: &fsck.options,
            ns,
            // Of its own and without a disk: what lies in the store is to be seen.
            cache: Cache::new(store.clone(), &fsck.runtime, CacheOptions::memory_only(CACHE_BYTES)),
            log: Log::new(store.clone(), ns.clone(), cpu.clone()),
            manifests: ManifestStore::new(store.clone(), ns.clone(), cpu.clone()),
            listing,
            owners: BTreeMap::new(),
            findings: Vec::new(),
            is_cut: false,
            named: Named::default(),
            segments: 0,
            rows: 0,
        }
    }

    async fn all(&mut self) -> Result<(), FsckError> {
        let past = self.all_manifests().await?;
        let newest = past.newest.as_ref().map(|(manifest, _)| manifest);
        let branches = self.all_entries(&past).await?;
        let mut needed = newest.map(|m| m.segments.clone()).unwrap_or_default();
        self.segments = needed.len() as u64;
        self.rows = newest.map_or(0, |m| m.rows());
        needed.extend(branches);
        self.own_holds().await?;
        self.foreign_holds(&needed).await?;
        self.all_segments(&needed).await?;
        if self.options.deep {
            self.all_rows(newest, &needed).await?;
        }
        Ok(())
    }

    /// Whether there are other manifests than were looked at.
    async fn has_changed(&self) -> Result<bool, FsckError> {
        let now = self.manifests.list().await?;
        let now = now.iter().rev().map(|(generation, _)| generation);
        Ok(!now.eq(self.listing.manifests.keys()))
    }

    fn find(&mut self, kind: FindingKind, object: impl ToString, what: impl Into<String>) {
        if self.findings.len() >= self.options.findings_max {
            self.is_cut = true;
            return;
        }
        self.findings.push(Finding {
            kind,
            object: object.to_string(),
            what: what.into(),
        });
    }

    /// The kind of a finding about bytes that cannot be decoded, and what to say.
    fn undecodable(kind: FindingKind, error: &DecodeError) -> (FindingKind, String) {
        match error {
            DecodeError::Corrupt(why) => (kind, why.clone()),
            DecodeError::Newer(why) => (FindingKind::Newer, why.clone()),
        }
    }

    fn report(&mut self) -> Report {
        let mut findings = std::mem::take(&mut self.findings);
        findings.sort_by_key(|f| f.kind.severity());
        let (listing, named) = (&self.listing, &self.named);
        let unnamed = |named: &BTreeSet<Ulid>, id: &Ulid| !named.contains(id);
        let segments = listing.segments.iter().filter(|(id, _)| unnamed(&named.segments, id));
        let deletions = listing.deletions.iter().filter(|(id, _)| unnamed(&named.deletions, id));
        let is_orphan = |id: &Ulid| named.blobs.as_ref().is_some_and(|blobs| unnamed(blobs, id));
        let blobs = listing.blobs.iter().filter(|(id, _)| is_orphan(id));
        let orphans: Vec<u64> = segments
            .chain(deletions)
            .chain(blobs)
            .map(|(_, bytes)| *bytes)
            .collect();
        Report {
            namespace: self.ns.clone(),
            findings,
            is_cut: self.is_cut,
            objects: listing.objects,
            bytes: listing.bytes,
            manifests: listing.manifests.len() as u64,
            entries: listing.entries.len() as u64,
            segments: self.segments,
            rows: self.rows,
            orphans: orphans.len() as u64,
            orphan_bytes: orphans.iter().sum(),
            foreign: listing.foreign,
        }
    }
}
