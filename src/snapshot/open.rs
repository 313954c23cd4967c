//! The state that a manifest describes.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::Snapshot;
use crate::base::{Bitset, CpuPool, Priority};
use crate::cache::Cache;
use crate::manifest::{self, Deletions, Manifest, ManifestError, ManifestSegment, ManifestStore};
use crate::segment::{Segment, SegmentError, SegmentPart};

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

async fn live_rows(
    named: &ManifestSegment,
    manifests: &ManifestStore,
    cpu: &CpuPool,
) -> Result<Arc<Bitset>, OpenError> {
    let rows = named.meta.rows;
    if matches!(named.deletions, Deletions::None) {
        return Ok(Arc::new(Bitset::full(rows as usize)));
    }
    let deleted = manifests.deletions(named).await?;
    let live = move || manifest::live_rows(&deleted, rows);
    Ok(Arc::new(cpu.run(Priority::Foreground, live).await))
}
