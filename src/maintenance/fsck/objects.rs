//! The objects that the newest manifest names: segments and deletion bitmaps.

use futures::{StreamExt, stream};

use super::{FindingKind, FsckError, Look, READ_AT_ONCE};
use crate::manifest::{Deletions, ManifestError, ManifestSegment};
use crate::segment::{Segment, SegmentError, SegmentMeta};
use crate::store::StoreError;
use crate::store::paths::{self, NsKey};

/// What is wrong with an object.
type Wrong = (FindingKind, String, String);

impl Look<'_> {
    /// Opens all of these segments, and reads which of their rows are deleted.
    pub(super) async fn all_segments(&mut self, needed: &[ManifestSegment]) -> Result<(), FsckError> {
        let this = &*self;
        let looks = stream::iter(needed).map(|segment| this.segment(segment));
        let looks: Vec<_> = looks.buffered(READ_AT_ONCE).collect().await;
        for looked in looks {
            for (kind, key, what) in looked? {
                self.find(kind, key, what);
            }
        }
        Ok(())
    }

    async fn segment(&self, named: &ManifestSegment) -> Result<Vec<Wrong>, FsckError> {
        let mut wrong = Vec::new();
        let key = segment_key(&named.meta, self.ns);
        let listing = match &named.meta.owner {
            None => Some(&self.listing),
            Some(owner) => self.owners.get(owner),
        };
        // One that is not listed may have come after its part of the listing: whether it is there, opening it says.
        let listed = listing.and_then(|listing| listing.segments.get(&named.meta.id.0));
        if let Some(len) = listed.filter(|len| **len != named.meta.len) {
            let what = format!("it has {len} bytes, the manifest says {}", named.meta.len);
            wrong.push((FindingKind::SegmentDamaged, key.clone(), what));
        } else {
            let opened = Segment::open(named.meta.clone(), self.ns, &self.cache, &self.runtime.cpu).await;
            if let Err(error) = opened {
                wrong.push(segment_wrong(error, key)?);
            }
        }
        match self.manifests.deletions(named).await {
            Ok(_) => {}
            Err(ManifestError::Missing { key }) => {
                let what = "it does not exist, and the newest manifest names it".to_owned();
                wrong.push((FindingKind::DeletionsLost, key, what));
            }
            Err(ManifestError::Damaged { key, source }) => {
                let (kind, what) = Self::undecodable(FindingKind::DeletionsLost, &source);
                wrong.push((kind, key, what));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(wrong)
    }
}

/// Where a segment lies.
///
/// * `ns` — whose manifest names it
pub(super) fn segment_key(meta: &SegmentMeta, ns: &NsKey) -> String {
    let key = paths::segment(meta.owner.as_ref().unwrap_or(ns), meta.id.0);
    match meta.inline {
        Some(_) => format!("{key} (no object: it is in the manifest)"),
        None => key.to_string(),
    }
}

/// What an error of a segment says about it.
///
/// # Errors
///
/// It says something about the store.
pub(super) fn segment_wrong(error: SegmentError, key: String) -> Result<Wrong, FsckError> {
    match error {
        SegmentError::Damaged { why, .. } => Ok((FindingKind::SegmentDamaged, key, why)),
        SegmentError::Newer { what, .. } => Ok((FindingKind::Newer, key, what)),
        SegmentError::Store(StoreError::Corrupt { reason, .. }) => Ok((FindingKind::SegmentDamaged, key, reason)),
        SegmentError::Store(StoreError::Missing { .. }) => {
            let what = "it does not exist, and the newest manifest names it".to_owned();
            Ok((FindingKind::SegmentMissing, key, what))
        }
        error => Err(error.into()),
    }
}

/// The objects of other namespaces that a segment needs: whose, and which.
pub(super) fn foreign(named: &ManifestSegment) -> impl Iterator<Item = (&NsKey, ulid::Ulid)> {
    let segment = named.meta.owner.as_ref().map(|owner| (owner, named.meta.id.0));
    let deletions = match &named.deletions {
        Deletions::Object(object) => object.owner.as_ref().map(|owner| (owner, object.key)),
        Deletions::None | Deletions::Inline(_) => None,
    };
    segment.into_iter().chain(deletions)
}
