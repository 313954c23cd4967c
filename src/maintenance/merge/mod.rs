//! Several segments become one, or a large one several, without their deleted rows.
//!
//! A merge works on a manifest alone, not on the tail: rows that only the tail has replaced are part of the state at
//! `indexed_seq` and stay. It may take long, and flushes go on meanwhile; rows that they deleted in what was merged are
//! deleted in the result when it is published, because their new numbers follow from their old ones.

pub mod policy;
mod texts;

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::job::{Job, JobError, Outcome};
use super::pace::Pace;
use super::rows::{Piece, concat};
use crate::base::Priority;
use crate::cache::ReadKind;
use crate::manifest::{Deletions, Manifest, ManifestSegment, deletions_inline_max};
use crate::model::Attribute;
use crate::segment::{self, EncodeOptions, Segment, SegmentId, SegmentMeta};
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
    /// In the order of their rows; none when no row was live.
    outputs: Vec<Output>,
}

/// A segment that was merged.
struct Input {
    /// As it was read: a restored namespace may name the same object with other rows alive.
    meta: SegmentMeta,
    /// What was deleted in it and is not in the outputs.
    deleted: Arc<RoaringBitmap>,
    /// The number among the rows of all outputs of its first live row.
    first: u64,
}

impl Input {
    /// The number among the rows of all outputs of a row that was live.
    fn moved(&self, row: u32) -> u64 {
        self.first + u64::from(row) - self.deleted.rank(row)
    }
}

/// A segment that was made.
struct Output {
    meta: SegmentMeta,
    /// The number among the rows of all outputs of its first row.
    first: u64,
}

/// Reads the live rows of segments and writes them as one, or as several where they are more than
/// [`UpkeepOptions::merge_bytes_max`](crate::maintenance::UpkeepOptions): so a merge never holds more than about three
/// times that in memory, however large its inputs are.
///
/// Texts are analysed only where an input has no index of them with the tokens that the schema asks for.
///
/// Costs what reading all of them costs, and one PUT per segment.
///
/// * `inputs` — of `base`, in the order in which their rows are wanted
pub async fn merge(job: &Job, base: &Manifest, inputs: &[SegmentId], pace: &Pace) -> Result<Merged, JobError> {
    let named: Vec<&ManifestSegment> = inputs.iter().filter_map(|id| base.segment(*id)).collect();
    let attributes: Vec<Attribute> = base.schema.attributes().cloned().collect();
    let mut merging = Merging {
        job,
        base,
        pace,
        options: options(&named),
        room: job.workshop.options.merge_bytes_max,
        batches: Vec::new(),
        written: 0,
        outputs: Vec::new(),
    };
    let (mut merged, mut first) = (Vec::new(), 0);
    for segment in &named {
        let deleted = job.manifests.deletions(segment).await?;
        merged.push(Input {
            meta: segment.meta.clone(),
            deleted: deleted.clone(),
            first,
        });
        first += u64::from(segment.live());
        if segment.live() > 0 {
            merging.read(segment, &deleted, &attributes).await?;
        }
    }
    merging.write().await?;
    Ok(Merged {
        inputs: merged,
        outputs: merging.outputs,
    })
}

fn options(inputs: &[&ManifestSegment]) -> EncodeOptions {
    let metas = || inputs.iter().map(|s| &s.meta);
    let highest = metas().map(|m| m.level).max().unwrap_or(0);
    EncodeOptions {
        // A segment that is rewritten alone stays where it is.
        level: match inputs.len() > 1 {
            true => (highest + 1).min(LEVEL_MAX),
            false => highest,
        },
        min_seq: metas().map(|m| m.min_seq).min().unwrap_or_default(),
        max_seq: metas().map(|m| m.max_seq).max().unwrap_or_default(),
    }
}

/// A merge between its first row and its last.
struct Merging<'a> {
    job: &'a Job,
    base: &'a Manifest,
    pace: &'a Pace,
    options: EncodeOptions,
    /// How many more bytes of rows go into the output at hand.
    room: u64,
    /// Its rows so far.
    batches: Vec<Batch>,
    /// Rows in outputs before it.
    written: u64,
    outputs: Vec<Output>,
}

/// Some rows of a segment.
struct Batch {
    segment: Arc<Segment>,
    piece: Piece,
    /// Their numbers there, ascending.
    rows: Vec<u32>,
}

impl Merging<'_> {
    /// Reads the live rows of a segment, a batch at a time, and writes what is enough for an output.
    async fn read(
        &mut self,
        segment: &ManifestSegment,
        deleted: &RoaringBitmap,
        attributes: &[Attribute],
    ) -> Result<(), JobError> {
        let workshop = &self.job.workshop;
        let meta = &segment.meta;
        let open = Segment::open(meta.clone(), self.job.ns(), &workshop.cache, &workshop.runtime.cpu).await?;
        let open = Arc::new(open);
        let bytes_per_row = (meta.unpacked_bytes() / u64::from(meta.rows.max(1))).max(1);
        let batch = (BATCH_BYTES / bytes_per_row).clamp(1, BATCH_ROWS) as usize;
        let live: Vec<u32> = (0..meta.rows).filter(|row| !deleted.contains(*row)).collect();
        for rows in live.chunks(batch) {
            self.job.check()?;
            let bytes = rows.len() as u64 * bytes_per_row;
            if self.room < bytes && !self.batches.is_empty() {
                self.write().await?;
            }
            self.room = self.room.saturating_sub(bytes);
            self.pace.take(bytes).await;
            self.batches.push(Batch {
                segment: open.clone(),
                piece: Piece::whole(open.fetch(rows, attributes, ReadKind::Scan).await?),
                rows: rows.to_vec(),
            });
        }
        Ok(())
    }

    /// Writes the output at hand, if it has rows.
    async fn write(&mut self) -> Result<(), JobError> {
        let batches = std::mem::take(&mut self.batches);
        self.room = self.job.workshop.options.merge_bytes_max;
        if batches.is_empty() {
            return Ok(());
        }
        let texts = texts::read(&self.base.schema, &batches).await?;
        let (schema, options) = (self.base.schema.clone(), self.options.clone());
        let id = SegmentId(self.job.new_name());
        let encode = move || {
            let pieces: Vec<Piece> = batches.into_iter().map(|batch| batch.piece).collect();
            let rows = concat(&pieces, &schema);
            drop(pieces);
            let texts = texts.merge();
            segment::encode_merged(id, &rows, &schema, &options, &texts)
        };
        let encoded = self.job.workshop.runtime.cpu.run(Priority::Background, encode).await;
        self.pace.take(encoded.meta.len).await;
        let meta = self.job.upload(encoded, false).await?;
        let first = self.written;
        self.written += u64::from(meta.rows);
        self.outputs.push(Output { meta, first });
        Ok(())
    }
}

/// Publishes a merge as the successor of the newest manifest, whatever was flushed since.
///
/// Costs one PUT and one for the hint; a GET for each deletion bitmap that is not in the manifest.
///
/// [`Outcome::Abandoned`] when a segment that was merged is not in the manifest any more: it was merged by another, or
/// the namespace was deleted. If it was restored since, the manifest may name the segment again, with rows alive that are
/// not in the outputs; then what it says of the segment differs.
pub async fn publish(job: &Job, merged: &Merged, newest: (&Manifest, Digest)) -> Result<Outcome, JobError> {
    let (base, digest) = newest;
    let mut deleted = vec![RoaringBitmap::new(); merged.outputs.len()];
    for input in &merged.inputs {
        let Some(segment) = base.segment(input.meta.id).filter(|s| s.meta == input.meta) else {
            return Ok(Outcome::Abandoned);
        };
        let now = job.manifests.deletions(segment).await?;
        for row in (&*now - &*input.deleted).iter() {
            let moved = input.moved(row);
            let at = merged.outputs.partition_point(|output| output.first <= moved) - 1;
            let row = moved - merged.outputs[at].first;
            deleted[at].insert(u32::try_from(row).expect("a segment has less than 2^32 rows"));
        }
    }
    let mut next = Manifest {
        generation: base.generation.next(),
        prev_digest: digest,
        writer: job.workshop.writer,
        job: job.id,
        created_ms: job.now_ms(),
        ..base.clone()
    };
    let is_input = |s: &ManifestSegment| merged.inputs.iter().any(|i| i.meta.id == s.meta.id);
    let at = next.segments.iter().position(is_input).unwrap_or(0);
    next.segments.retain(|s| !is_input(s));
    let inline_max = deletions_inline_max(next.segments.len() + merged.outputs.len());
    let mut made = Vec::with_capacity(merged.outputs.len());
    for (output, deleted) in merged.outputs.iter().zip(deleted) {
        let deletions = match deleted.is_empty() {
            true => Deletions::None,
            false => job.manifests.put_deletions(deleted, job.new_name(), inline_max).await?,
        };
        let meta = output.meta.clone();
        made.push(ManifestSegment { meta, deletions });
    }
    let at = at.min(next.segments.len());
    next.segments.splice(at..at, made);
    job.publish(next, Some(newest)).await
}
