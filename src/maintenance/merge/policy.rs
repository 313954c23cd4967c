//! Which segments are merged: a pure function of what the manifest says.
//!
//! Segments of about one size, within a factor of the fan-out, make a tier; as many as the fan-out become one of the
//! next tier. So a row is rewritten once per tier, which is the logarithm of the number of segments.

use crate::maintenance::UpkeepOptions;
use crate::manifest::Manifest;
use crate::model::Seq;
use crate::segment::SegmentId;
use crate::snapshot::Snapshot;

/// Segments up to this size are of the lowest tier, in bytes.
const LOWEST_TIER_BYTES: u64 = 1 << 20;

/// A segment that may be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: SegmentId,
    pub min_seq: Seq,
    pub rows: u32,
    pub live: u32,
    /// Of the object.
    pub bytes: u64,
    /// Whether it has not the indexes that the schema asks for now.
    pub is_stale: bool,
}

impl Candidate {
    /// Bytes without the deleted rows: what a merge reads.
    pub fn live_bytes(&self) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(self.live) / u128::from(self.rows.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// The candidates of a manifest. Inline segments are none: flushes put them together.
///
/// * `is_stale` — whether a segment has not the indexes that the schema asks for now
pub fn candidates(manifest: &Manifest, is_stale: impl Fn(SegmentId) -> bool) -> Vec<Candidate> {
    let stored = manifest.segments.iter().filter(|s| s.meta.inline.is_none());
    stored
        .map(|s| Candidate {
            id: s.meta.id,
            min_seq: s.meta.min_seq,
            rows: s.meta.rows,
            live: s.live(),
            // What a merge holds in memory is not compressed.
            bytes: s.meta.unpacked_bytes(),
            is_stale: is_stale(s.meta.id),
        })
        .collect()
}

/// The candidates of an open namespace. What only its tail has replaced counts as deleted.
pub fn candidates_open(snapshot: &Snapshot) -> Vec<Candidate> {
    let stored = snapshot
        .segments
        .iter()
        .filter(|part| part.segment.meta().inline.is_none());
    stored
        .map(|part| {
            let meta = part.segment.meta();
            Candidate {
                id: meta.id,
                min_seq: meta.min_seq,
                rows: meta.rows,
                live: u32::try_from(part.live.count()).unwrap_or(u32::MAX),
                bytes: meta.unpacked_bytes(),
                is_stale: part.segment.lacks_index(&snapshot.schema),
            }
        })
        .collect()
}

/// What to merge next, in the order of their rows; empty when nothing is worth it.
///
/// First what is free: segments without live rows. Then whole tiers, the lowest first; then what has many deleted
/// rows, the most first; then what has old indexes, the smallest first.
pub fn choose(candidates: &[Candidate], options: &UpkeepOptions) -> Vec<SegmentId> {
    let chosen = dead(candidates)
        .or_else(|| tier(candidates, options))
        .or_else(|| sparse(candidates, options))
        .or_else(|| stale(candidates, options));
    let mut chosen = chosen.unwrap_or_default();
    chosen.sort_unstable_by_key(|c| (c.min_seq, c.id));
    chosen.into_iter().map(|c| c.id).collect()
}

fn some(chosen: Vec<&Candidate>) -> Option<Vec<&Candidate>> {
    (!chosen.is_empty()).then_some(chosen)
}

fn dead(candidates: &[Candidate]) -> Option<Vec<&Candidate>> {
    some(candidates.iter().filter(|c| c.live == 0).collect())
}

/// As many of the smallest as fit into one segment; none when that is less than two.
fn fitting<'a>(mut candidates: Vec<&'a Candidate>, options: &UpkeepOptions) -> Option<Vec<&'a Candidate>> {
    candidates.sort_unstable_by_key(|c| (c.live_bytes(), c.min_seq, c.id));
    let mut bytes = 0u64;
    candidates.retain(|c| {
        bytes = bytes.saturating_add(c.live_bytes());
        bytes <= options.merge_bytes_max
    });
    candidates.truncate(options.merge_fan_out.max(2));
    (candidates.len() > 1).then_some(candidates)
}

fn tier_of(candidate: &Candidate, options: &UpkeepOptions) -> u32 {
    let ratio = candidate.live_bytes() / LOWEST_TIER_BYTES;
    match ratio {
        0 => 0,
        ratio => 1 + ratio.ilog(options.merge_fan_out.max(2) as u64),
    }
}

fn tier<'a>(candidates: &'a [Candidate], options: &UpkeepOptions) -> Option<Vec<&'a Candidate>> {
    // What is larger than half of the largest size cannot be merged with one of its kind.
    let mergeable = candidates
        .iter()
        .filter(|c| c.live_bytes() <= options.merge_bytes_max / 2);
    let mut tiers: std::collections::BTreeMap<u32, Vec<&Candidate>> = std::collections::BTreeMap::new();
    for candidate in mergeable {
        tiers.entry(tier_of(candidate, options)).or_default().push(candidate);
    }
    let full = tiers
        .into_values()
        .filter(|tier| tier.len() >= options.merge_fan_out.max(2));
    full.filter_map(|tier| fitting(tier, options)).next()
}

fn sparse<'a>(candidates: &'a [Candidate], options: &UpkeepOptions) -> Option<Vec<&'a Candidate>> {
    let dead = |c: &Candidate| u64::from(c.rows - c.live.min(c.rows));
    let is_sparse = |c: &&Candidate| dead(c) * 100 > u64::from(c.rows) * u64::from(options.merge_dead_percent);
    let share = |c: &Candidate| (dead(c) << 20) / u64::from(c.rows.max(1));
    let most = candidates.iter().filter(is_sparse).max_by_key(|c| (share(c), c.id))?;
    let of_its_tier = |c: &&Candidate| is_sparse(c) && tier_of(c, options) == tier_of(most, options);
    let together = fitting(candidates.iter().filter(of_its_tier).collect(), options);
    Some(
        together
            .filter(|chosen| chosen.contains(&most))
            .unwrap_or_else(|| vec![most]),
    )
}

fn stale<'a>(candidates: &'a [Candidate], options: &UpkeepOptions) -> Option<Vec<&'a Candidate>> {
    let stale: Vec<&Candidate> = candidates.iter().filter(|c| c.is_stale).collect();
    let smallest = *stale.iter().min_by_key(|c| (c.live_bytes(), c.id))?;
    let of_its_tier = stale
        .into_iter()
        .filter(|c| tier_of(c, options) == tier_of(smallest, options));
    Some(fitting(of_its_tier.collect(), options).unwrap_or_else(|| vec![smallest]))
}
