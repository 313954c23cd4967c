//! The state that a manifest describes.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::Snapshot;
use crate::base::{Bitset, CpuPool, Priority};
use crate::cache::Cache;
use crate::manifest::{self, DecodeError, Deletions, Manifest, ManifestError, ManifestSegment, ManifestStore};
use crate::model::{Schema, Seq};
use crate::segment::{Live, Segment, SegmentError, SegmentPart};

/// Segments that are opened at the same time.
const OPENED_AT_ONCE: usize = 64;

/// Why the state that a manifest describes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl OpenError {
    /// Whether an object is gone that the manifest names: there must be a newer manifest.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Manifest(error) => matches!(error, ManifestError::Missing { .. }),
            Self::Segment(error) => error.is_missing(),
        }
    }
}

impl Snapshot {
    /// The state at the `indexed_seq` of a manifest.
    ///
    /// * `segments` — those of the manifest, in its order
    pub fn at(manifest: &Manifest, segments: Vec<SegmentPart>) -> Self {
        Self {
            seq: manifest.indexed_seq,
            digest: manifest.indexed_digest,
            namespace: Some(manifest.namespace),
            incarnation: manifest.incarnation,
            schema: manifest.schema.clone(),
            recent: manifest.recent.clone(),
            settings: manifest.settings.clone(),
            segments: Arc::new(segments),
            generation: manifest.generation,
            indexed_seq: manifest.indexed_seq,
            hlc_ms: manifest.hlc_ms,
            ..Self::empty()
        }
    }

    /// The state before the operations of an entry that makes this namespace, which does not exist, a branch.
    ///
    /// * `opened` — the state of the manifest in the entry
    pub fn branched(&self, opened: Snapshot) -> Self {
        let used = self.schema.next_attribute_id().max(opened.schema.next_attribute_id());
        Self {
            segments: opened.segments,
            schema: Arc::new(Schema::clone(&opened.schema).with_used_below(used)),
            ..self.clone()
        }
    }

    /// Opens the segments of a manifest and reads which of their rows are deleted. Costs one GET per segment that is
    /// neither inline nor among `known`, and one per deletion bitmap that is not in the manifest, all at once.
    ///
    /// * `known` — open segments, which are used again
    pub async fn open(
        manifest: &Manifest,
        manifests: &ManifestStore,
        known: &[SegmentPart],
        cache: &Cache,
        cpu: &CpuPool,
    ) -> Result<Self, OpenError> {
        let one = |named: ManifestSegment| async move {
            let open = async {
                let known = known.iter().find(|k| *k.segment.meta() == named.meta);
                Ok::<_, OpenError>(match known {
                    Some(known) => known.segment.clone(),
                    None => Arc::new(Segment::open(named.meta.clone(), manifests.key(), cache, cpu).await?),
                })
            };
            let (segment, live) = futures::try_join!(open, live_rows(&named, manifests, cpu))?;
            Ok::<_, OpenError>(SegmentPart { segment, live })
        };
        let opened = stream::iter(manifest.segments.clone())
            .map(one)
            .buffered(OPENED_AT_ONCE);
        let segments: Vec<SegmentPart> = opened.try_collect().await?;
        Ok(Self::at(manifest, segments))
    }
}

/// The manifest in an entry that creates a branch, with segments that count as written by that entry. Takes long when
/// small segments are in it.
pub fn branch_manifest(bytes: &Bytes, entry: Seq) -> Result<Manifest, DecodeError> {
    let (mut manifest, _) = manifest::decode(bytes)?;
    for segment in &mut manifest.segments {
        (segment.meta.min_seq, segment.meta.max_seq) = (entry, entry);
    }
    Ok(manifest)
}

async fn live_rows(named: &ManifestSegment, manifests: &ManifestStore, cpu: &CpuPool) -> Result<Arc<Live>, OpenError> {
    let rows = named.meta.rows;
    if matches!(named.deletions, Deletions::None) {
        return Ok(Arc::new(Bitset::full(rows as usize).into()));
    }
    let deleted = manifests.deletions(named).await?;
    let live = move || manifest::live_rows(&deleted, rows).into();
    Ok(Arc::new(cpu.run(Priority::Foreground, live).await))
}
