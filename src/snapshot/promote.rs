//! Rows of segments that an entry names, before it is applied.
//!
//! Segments are never changed, and applying an entry is pure and knows the tail alone. So whatever an entry names
//! is taken out of the segments first: rows that it replaces or deletes are hidden there, rows whose old values it
//! needs move into the tail. The snapshot then says the same of every other row, and no id of the entry is live in
//! a segment any more.
//!
//! # What stays true
//!
//! - Promotion for an entry depends on nothing but the entry and the snapshot, so that every node that applies the
//!   same entries to the same manifest has the same parts.
//!
//! # Cost
//!
//! What [`Segment::find`](crate::segment::Segment::find) costs for ids that are not live in the tail, and the pages
//! of the rows that move.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::Snapshot;
use crate::base::{Bitset, CpuPool, Priority};
use crate::cache::ReadKind;
use crate::model::{Attribute, Id, IdColumn};
use crate::segment::{Hit, Rows, SegmentError, SegmentPart};
use crate::tail::{self, Part};
use crate::wal::{Entry, EntryKind, Operation};

/// How many segments are read at a time.
const SEGMENTS_AT_ONCE: usize = 32;
/// Looking so few ids up in the tail, or taking their rows out of segments, takes well under half a millisecond.
const INLINE_IDS: usize = 256;

/// Ids whose rows are to leave the segments.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// In the order in which they were named first, each once.
    ids: Vec<(Id, Use)>,
    // Only looked up, never iterated: its order matters to nobody.
    known: HashMap<Id, usize>,
    /// Whether the rows that move are going to be searched.
    searched: bool,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// It is hidden.
    Hide,
    /// Its id moves, without values: that it exists is all that matters.
    Exist,
    /// It moves.
    Values,
}

impl Wanted {
    /// For rows that conditions and filters are evaluated on.
    pub fn to_evaluate() -> Self {
        Self {
            searched: true,
            ..Self::default()
        }
    }

    /// What applying an entry needs.
    pub fn by(entry: &Entry) -> Self {
        let mut wanted = Self::default();
        let EntryKind::Data(requests) = &entry.kind else {
            return wanted;
        };
        for operation in requests.iter().flat_map(|r| &r.operations) {
            // The first use counts: a row that the entry itself made is not the stored one.
            match operation {
                Operation::Upsert(batch) => wanted.name(&batch.ids, |known| known.unwrap_or(Use::Hide)),
                Operation::Patch(batch) => wanted.name(&batch.ids, |known| known.unwrap_or(Use::Values)),
                Operation::Delete(ids) => wanted.name(ids, |known| known.unwrap_or(Use::Hide)),
            }
        }
        wanted
    }

    /// Rows of which must be known that they exist.
    pub fn exist(&mut self, ids: &IdColumn) {
        self.name(ids, |known| known.map_or(Use::Exist, |k| k.max(Use::Exist)));
    }

    /// Rows whose values are needed.
    pub fn values(&mut self, ids: &IdColumn) {
        self.name(ids, |_| Use::Values);
    }

    /// * `how` — the use, given the one so far
    fn name(&mut self, ids: &IdColumn, how: impl Fn(Option<Use>) -> Use) {
        for row in 0..ids.len() {
            let id = ids.get(row);
            match self.known.get(&id) {
                Some(at) => self.ids[*at].1 = how(Some(self.ids[*at].1)),
                None => {
                    self.known.insert(id.clone(), self.ids.len());
                    self.ids.push((id, how(None)));
                }
            }
        }
    }

    /// Whether no row is wanted.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Without the rows that are live in these parts, which are live in no segment.
    fn outside(self, parts: &[Part]) -> (Vec<Id>, Vec<Use>) {
        let outside = |(id, _): &(Id, Use)| tail::find(parts, id).is_none();
        self.ids.into_iter().filter(outside).unzip()
    }
}

/// Takes the wanted rows out of the segments: the rest of the snapshot is the same.
///
/// # Errors
///
/// When a segment cannot be read; [`StoreError::Missing`](crate::store::StoreError) inside when it is gone, because
/// the manifest is an old one.
pub async fn promote(snapshot: &Snapshot, wanted: Wanted, cpu: &CpuPool) -> Result<Snapshot, SegmentError> {
    if snapshot.segments.is_empty() || wanted.is_empty() {
        return Ok(snapshot.clone());
    }
    let searched = wanted.searched;
    let (ids, uses) = match wanted.ids.len() <= INLINE_IDS {
        true => wanted.outside(&snapshot.parts),
        false => {
            let parts = snapshot.parts.clone();
            cpu.run(Priority::Foreground, move || wanted.outside(&parts)).await
        }
    };
    if ids.is_empty() {
        return Ok(snapshot.clone());
    }
    let ids: Arc<[Id]> = ids.into();
    let count = snapshot.segments.len();
    let finds: Vec<_> = snapshot
        .segments
        .iter()
        .map(|part| part.segment.hits(&ids, count))
        .collect();
    let found: Vec<_> = stream::iter(finds).buffered(SEGMENTS_AT_ONCE).try_collect().await?;
    let known = snapshot.segments.clone();
    let Taken {
        segments,
        moving,
        existing,
    } = match found.iter().map(Vec::len).sum::<usize>() <= INLINE_IDS {
        true => take(&known, found, &uses),
        false => {
            let take = move || take(&known, found, &uses);
            cpu.run(Priority::Foreground, take).await
        }
    };
    let attributes: Vec<Attribute> = snapshot.schema.attributes().cloned().collect();
    let fetches = moving.iter().map(|(at, rows)| {
        let segment = &snapshot.segments[*at].segment;
        segment.fetch(rows, &attributes, ReadKind::Rows)
    });
    let fetches: Vec<_> = fetches.collect();
    let mut sources: Vec<Rows> = stream::iter(fetches).buffered(SEGMENTS_AT_ONCE).try_collect().await?;
    if let (Some(kind), false) = (snapshot.schema.id_kind, existing.is_empty()) {
        sources.push(Rows {
            ids: IdColumn::from_ids(kind, existing.iter().map(|id| &ids[*id as usize])),
            columns: BTreeMap::new(),
        });
    }
    let parts = match sources.is_empty() {
        true => snapshot.parts.clone(),
        false => {
            let (parts, schema) = (snapshot.parts.clone(), snapshot.schema.clone());
            let join = move || tail::with_part(&parts, tail::promoted(sources, &schema, searched));
            cpu.run(Priority::Foreground, join).await
        }
    };
    Ok(Snapshot {
        parts,
        segments: Arc::new(segments),
        ..snapshot.clone()
    })
}

/// What is left in the segments, and what leaves them.
struct Taken {
    segments: Vec<SegmentPart>,
    /// Rows that move, ascending, by the places of their segments.
    moving: Vec<(usize, Vec<u32>)>,
    /// Places of the ids that move without values, in the order in which they were named in each segment.
    existing: Vec<u32>,
}

/// Takes the rows that are live out of the segments.
///
/// * `found` — of each segment
/// * `uses` — of each id
fn take(segments: &[SegmentPart], found: Vec<Vec<Hit>>, uses: &[Use]) -> Taken {
    let mut taken = Taken {
        segments: segments.to_vec(),
        moving: Vec::new(),
        existing: Vec::new(),
    };
    for (at, mut hits) in found.into_iter().enumerate() {
        let live = &segments[at].live;
        hits.retain(|hit| (hit.row as usize) < live.len() && live.contains(hit.row as usize));
        if hits.is_empty() {
            continue;
        }
        hits.sort_unstable_by_key(|hit| hit.id);
        let mut live = Bitset::clone(live);
        hits.iter().for_each(|hit| live.remove(hit.row as usize));
        taken.segments[at].live = Arc::new(live.into());
        let used = |how: Use| hits.iter().filter(move |hit| uses[hit.id as usize] == how);
        taken.existing.extend(used(Use::Exist).map(|hit| hit.id));
        let mut rows: Vec<u32> = used(Use::Values).map(|hit| hit.row).collect();
        rows.sort_unstable();
        if !rows.is_empty() {
            taken.moving.push((at, rows));
        }
    }
    taken
}
