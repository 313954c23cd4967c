//! The rows of the tail become a segment.
//!
//! A flush is a function of a snapshot: its live tail rows, in the order of their arrival, become segments of level 0;
//! rows of older segments that the tail has replaced or deleted become deleted there; and the next manifest says that
//! everything up to the snapshot's entry is in segments. As long as all of it is small, the segment lies in the
//! manifest and takes the rows of the one before it along, so that a small namespace is one object.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::job::{Job, JobError, Outcome};
use super::rows::{Piece, concat, split};
use crate::base::Priority;
use crate::cache::ReadKind;
use crate::manifest::{Deletions, INLINE_BYTES_MAX, Manifest, ManifestSegment, deleted_rows, deletions_inline_max};
use crate::model::{Attribute, Seq};
use crate::segment::{EncodeOptions, SegmentPart};
use crate::snapshot::Snapshot;
use crate::wal::Digest;

/// A tail and an inline segment of up to so many bytes together are put together: compressed, they may fit.
const FOLD_BYTES_MAX: u64 = 2 * INLINE_BYTES_MAX;
/// Deletion bitmaps that are put at the same time.
const PUT_AT_ONCE: usize = 16;

/// Puts the tail of a snapshot into segments and publishes the next manifest.
///
/// Costs one PUT and one for the hint; one more for each segment that is too large for the manifest, and for each
/// older segment so many of whose rows were deleted that their bitmap is; those are put 16 at a time.
///
/// * `base` — the manifest that the snapshot has its segments from; `None` when it has none
///
/// # Errors
///
/// Nothing was published. Not cancel safe in the sense of [`ManifestStore::publish`](crate::manifest::ManifestStore).
pub async fn flush(job: &Job, snapshot: &Snapshot, base: Option<(&Manifest, Digest)>) -> Result<Outcome, JobError> {
    let Some(namespace) = snapshot.namespace else {
        return Ok(Outcome::Nothing);
    };
    let found = base.map_or(Default::default(), |(m, _)| m.generation);
    if found != snapshot.generation {
        return Err(JobError::Superseded {
            expected: snapshot.generation,
            found,
        });
    }
    if base.is_some_and(|(m, _)| m.indexed_seq == snapshot.seq) {
        return Ok(Outcome::Nothing);
    }
    job.check()?;
    let (folded, kept) = choose_folded(snapshot);
    let inline_max = deletions_inline_max(kept.len());
    let base_manifest = base.map(|(m, _)| m);
    let keeping: Vec<_> = kept
        .iter()
        .map(|part| keep(job, part, base_manifest, inline_max))
        .collect();
    let mut segments: Vec<ManifestSegment> = stream::iter(keeping).buffered(PUT_AT_ONCE).try_collect().await?;
    segments.extend(
        make(
            job,
            snapshot,
            &folded,
            kept.iter().all(|p| p.segment.meta().inline.is_none()),
        )
        .await?,
    );
    let next = Manifest {
        generation: snapshot.generation.next(),
        prev_digest: base.map_or_else(Digest::default, |(_, digest)| digest),
        namespace,
        writer: job.workshop.writer,
        job: job.id,
        created_ms: job.now_ms(),
        indexed_seq: snapshot.seq,
        indexed_digest: snapshot.digest,
        hlc_ms: snapshot.hlc_ms,
        incarnation: snapshot.incarnation,
        schema: snapshot.schema.clone(),
        settings: snapshot.settings.clone(),
        recent: snapshot.recent.clone(),
        segments,
        pins: base.map(|(m, _)| m.pins.clone()).unwrap_or_default(),
    };
    job.publish(next, base).await
}

/// Which segments are put together with the tail, and which stay as they are.
fn choose_folded(snapshot: &Snapshot) -> (Vec<&SegmentPart>, Vec<&SegmentPart>) {
    let inline_bytes = |part: &SegmentPart| part.segment.meta().inline.as_ref().map(|b| b.len() as u64);
    let (inline, stored): (Vec<_>, Vec<_>) = snapshot.segments.iter().partition(|p| inline_bytes(p).is_some());
    let bytes = inline.iter().filter_map(|p| inline_bytes(p)).sum::<u64>() + tail_bytes(snapshot);
    let changes = snapshot.parts.iter().any(|p| !p.live.none())
        || inline.iter().any(|p| p.live.count() < p.segment.rows() as usize);
    match changes && bytes <= FOLD_BYTES_MAX {
        true => (inline, stored),
        false => (Vec::new(), snapshot.segments.iter().collect()),
    }
}

/// About how much memory the live rows of the tail take, in bytes.
fn tail_bytes(snapshot: &Snapshot) -> u64 {
    let live = |p: &crate::tail::Part| {
        let share = p.live.count() as u64 * p.chunk.memory_bytes() as u64;
        share / (p.chunk.len() as u64).max(1)
    };
    snapshot.parts.iter().map(live).sum()
}

/// A segment that stays, with what is deleted in it now.
///
/// * `inline_max` — how large a bitmap may be that stays in the manifest, in bytes
async fn keep(
    job: &Job,
    part: &SegmentPart,
    base: Option<&Manifest>,
    inline_max: usize,
) -> Result<ManifestSegment, JobError> {
    let meta = part.segment.meta().clone();
    let dead = meta.rows as usize - part.live.count();
    // Deleted rows stay deleted: as many are the same. Except where the segment was shared with the name again after a
    // deletion: then it is another one, with other entries and other deletions.
    if let Some(known) = base.and_then(|m| m.segment(meta.id))
        && known.meta == meta
        && known.deletions.rows() as usize == dead
        && known.deletions.inline_bytes() <= inline_max
    {
        return Ok(known.clone());
    }
    let live = part.live.clone();
    let cpu = &job.workshop.runtime.cpu;
    let deleted = cpu.run(Priority::Background, move || deleted_rows(&live)).await;
    let deletions = job.manifests.put_deletions(deleted, job.new_name(), inline_max).await?;
    Ok(ManifestSegment { meta, deletions })
}

/// Encodes and uploads the live rows of the tail, after those of the folded segments.
async fn make(
    job: &Job,
    snapshot: &Snapshot,
    folded: &[&SegmentPart],
    may_inline: bool,
) -> Result<Vec<ManifestSegment>, JobError> {
    let schema = &snapshot.schema;
    let attributes: Vec<Attribute> = schema.attributes().cloned().collect();
    let mut pieces = Vec::new();
    let genesis = snapshot.incarnation.map_or(Seq::ZERO, |i| i.genesis);
    let mut min_seq = snapshot.indexed_seq.next().max(genesis).min(snapshot.seq);
    for part in folded {
        let rows: Vec<u32> = part.live.iter().map(|row| row as u32).collect();
        if rows.is_empty() {
            continue;
        }
        min_seq = min_seq.min(part.segment.meta().min_seq);
        pieces.push(Piece::whole(
            part.segment.fetch(&rows, &attributes, ReadKind::Scan).await?,
        ));
    }
    for part in snapshot.parts.iter().filter(|p| !p.live.none()) {
        pieces.push(Piece {
            ids: part.chunk.ids.clone(),
            columns: part.chunk.columns.clone(),
            rows: part.live.iter().map(|row| row as u32).collect(),
        });
    }
    let groups = split(pieces, job.workshop.options.flush_segment_bytes);
    let may_inline = may_inline && groups.len() == 1;
    let mut made = Vec::with_capacity(groups.len());
    for group in groups {
        job.check()?;
        let options = EncodeOptions {
            level: 0,
            min_seq,
            max_seq: snapshot.seq,
        };
        let (schema, wanted) = (schema.clone(), schema.clone());
        let cpu = &job.workshop.runtime.cpu;
        let rows = cpu.run(Priority::Background, move || concat(&group, &wanted)).await;
        let encoded = job.encode(rows, Arc::clone(&schema), options).await;
        let meta = job.upload(encoded, may_inline).await?;
        made.push(ManifestSegment {
            meta,
            deletions: Deletions::None,
        });
    }
    Ok(made)
}
