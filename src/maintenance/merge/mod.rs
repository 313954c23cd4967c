//! Several segments become one, without their deleted rows.
//!
//! A merge works on a manifest alone, not on the tail: rows that only the tail has replaced are part of the state at
//! `indexed_seq` and stay. It may take long, and flushes go on meanwhile; rows that they deleted in what was merged are
//! deleted in the result when it is published, because their new numbers follow from their old ones.

pub mod policy;

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::job::{Job, JobError, Outcome};
use super::pace::Pace;
use super::rows::{Piece, concat};
use crate::base::Priority;
use crate::cache::ReadKind;
use crate::manifest::{Deletions, Manifest, ManifestSegment};
use crate::model::Attribute;
use crate::segment::{EncodeOptions, Segment, SegmentId, SegmentMeta};
use crate::wal::Digest;

/// About how many bytes of a segment are read at a time.
const BATCH_BYTES: u64 = 8 << 20;
/// At most so many rows at a time.
const BATCH_ROWS: u64 = 64 * 1024;
/// The highest level.
const LEVEL_MAX: u32 = 60;

/// A merge that is done but for the manifest.
pub struct Merged {
    inputs: Vec<Input>,
    /// `None` when no row was live.
    output: Option<SegmentMeta>,
}

/// A segment that was merged.
struct Input {
    id: SegmentId,
    /// What was deleted in it and is not in the output.
    deleted: Arc<RoaringBitmap>,
    /// The number in the output of its first live row.
    first: u64,
}

impl Input {
    /// The number in the output of a row that was live.
    fn moved(&self, row: u32) -> u32 {
        let number = self.first + u64::from(row) - self.deleted.rank(row);
        u32::try_from(number).expect("a segment has less than 2^32 rows")
    }
}

/// Reads the live rows of segments and writes them as one.
///
/// Costs what reading all of them costs, and one PUT. Holds about twice the live rows in memory.
///
/// * `inputs` — of `base`, in the order in which their rows are wanted
pub async fn merge(job: &Job, base: &Manifest, inputs: &[SegmentId], pace: &Pace) -> Result<Merged, JobError> {
    let named: Vec<&ManifestSegment> = inputs.iter().filter_map(|id| base.segment(*id)).collect();
    let attributes: Vec<Attribute> = base.schema.attributes().cloned().collect();
    let (mut pieces, mut merged, mut first) = (Vec::new(), Vec::new(), 0);
    for segment in &named {
        let deleted = job.manifests.deletions(segment).await?;
        merged.push(Input {
            id: segment.meta.id,
            deleted: deleted.clone(),
            first,
        });
        first += u64::from(segment.live());
        if segment.live() > 0 {
            read(job, segment, &deleted, &attributes, pace, &mut pieces).await?;
        }
    }
    let output = match pieces.is_empty() {
        true => None,
        false => Some(write(job, base, &named, pieces, pace).await?),
    };
    Ok(Merged { inputs: merged, output })
}

/// Reads the live rows of a segment, a batch at a time.
async fn read(
    job: &Job,
    segment: &ManifestSegment,
    deleted: &RoaringBitmap,
    attributes: &[Attribute],
    pace: &Pace,
    pieces: &mut Vec<Piece>,
) -> Result<(), JobError> {
    let (cache, cpu) = (&job.workshop.cache, &job.workshop.runtime.cpu);
    let meta = &segment.meta;
    let open = Segment::open(meta.clone(), job.ns(), cache, cpu).await?;
    let bytes_per_row = (meta.unpacked_bytes() / u64::from(meta.rows.max(1))).max(1);
    let batch = (BATCH_BYTES / bytes_per_row).clamp(1, BATCH_ROWS) as usize;
    let live: Vec<u32> = (0..meta.rows).filter(|row| !deleted.contains(*row)).collect();
    for rows in live.chunks(batch) {
        job.check()?;
        pace.take(rows.len() as u64 * bytes_per_row).await;
        pieces.push(Piece::whole(open.fetch(rows, attributes, ReadKind::Scan).await?));
    }
    Ok(())
}

async fn write(
    job: &Job,
    base: &Manifest,
    inputs: &[&ManifestSegment],
    pieces: Vec<Piece>,
    pace: &Pace,
) -> Result<SegmentMeta, JobError> {
    let metas = || inputs.iter().map(|s| &s.meta);
    let highest = metas().map(|m| m.level).max().unwrap_or(0);
    let options = EncodeOptions {
        // A segment that is rewritten alone stays where it is.
        level: if inputs.len() > 1 {
            (highest + 1).min(LEVEL_MAX)
        } else {
            highest
        },
        min_seq: metas().map(|m| m.min_seq).min().unwrap_or_default(),
        max_seq: metas().map(|m| m.max_seq).max().unwrap_or_default(),
    };
    let (schema, wanted) = (base.schema.clone(), base.schema.clone());
    let cpu = &job.workshop.runtime.cpu;
    let rows = cpu.run(Priority::Background, move || concat(&pieces, &wanted)).await;
    let encoded = job.encode(rows, schema, options).await;
    pace.take(encoded.meta.len).await;
    job.upload(encoded, false).await
}

/// Publishes a merge as the successor of the newest manifest, whatever was flushed since.
///
/// Costs one PUT and one for the hint; a GET for each deletion bitmap that is not in the manifest.
///
/// [`Outcome::Abandoned`] when a segment that was merged is not in the manifest any more: it was merged by another, or
/// the namespace was deleted.
pub async fn publish(job: &Job, merged: &Merged, newest: (&Manifest, Digest)) -> Result<Outcome, JobError> {
    let (base, digest) = newest;
    let mut deleted = RoaringBitmap::new();
    for input in &merged.inputs {
        let Some(segment) = base.segment(input.id) else {
            return Ok(Outcome::Abandoned);
        };
        let now = job.manifests.deletions(segment).await?;
        deleted.extend((&*now - &*input.deleted).iter().map(|row| input.moved(row)));
    }
    let mut next = Manifest {
        generation: base.generation.next(),
        prev_digest: digest,
        writer: job.workshop.writer,
        job: job.id,
        created_ms: job.now_ms(),
        ..base.clone()
    };
    let is_input = |s: &ManifestSegment| merged.inputs.iter().any(|i| i.id == s.meta.id);
    let at = next.segments.iter().position(is_input).unwrap_or(0);
    next.segments.retain(|s| !is_input(s));
    if let Some(meta) = merged.output.clone() {
        let deletions = match deleted.is_empty() {
            true => Deletions::None,
            false => job.manifests.put_deletions(deleted, job.new_name()).await?,
        };
        next.segments
            .insert(at.min(next.segments.len()), ManifestSegment { meta, deletions });
    }
    job.publish(next, Some(newest)).await
}
