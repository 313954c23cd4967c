//! The first rows of a segment by an attribute or by id, found in an index in that order.

use std::ops::Bound;
use std::sync::Arc;

use super::plan::{Action, OrderTarget, Plan};
use super::reader::{PAGE_BYTES, Reader};
use crate::base::{Bitset, Priority};
use crate::cache::ReadKind;
use crate::error::Result;
use crate::index::attribute::{AttributeIndex, NullsAt, RowSet};
use crate::model::{AttrId, Direction};

/// Rows that may be passed over however few are expected.
const QUICK_ROWS: u64 = 20_000;
/// Rows that a walk looks at in place; of more so many at a time on the CPU pool.
const IN_PLACE_ROWS: u64 = if cfg!(test) { 50 } else { QUICK_ROWS };
/// How many times more rows than expected may be passed over before the walk is given up.
const PATIENCE: u64 = 4;

/// Leaves out rows that are certainly not among the first of the plan's order, where that is cheaper than to compare
/// all of them. Costs a few reads of an index.
///
/// * `live` — the rows that pass the filter
pub(super) async fn narrow(reader: Reader<'_>, plan: &Plan, live: Bitset) -> Result<Bitset> {
    let Some(walk) = Walk::of(plan, live.count(), live.len()) else {
        return Ok(live);
    };
    match &plan.action {
        Action::OrderedScan { keys } => match keys.first().map(|key| (key.target, key.direction)) {
            Some((OrderTarget::Attribute(id), direction)) => by_attribute(reader, walk, id, direction, live).await,
            _ => Ok(live),
        },
        Action::Lookup { direction } => by_id(reader, walk, *direction, live).await,
        Action::ExactNearest { .. } | Action::TextTopK { .. } | Action::ScoreTopK { .. } | Action::Aggregate(_) => {
            Ok(live)
        }
    }
}

/// The first rows of a page: of ids above or below some id, which are all that a filter says. `None` for other plans.
/// Costs reads of the ids from there on, as many as it takes.
///
/// * `live` — the rows of the segment that are
pub(super) async fn page(reader: Reader<'_>, plan: &Plan, live: &Bitset) -> Result<Option<Bitset>> {
    let (Action::Lookup { direction }, None, Some(filter)) = (&plan.action, &plan.per, &plan.filter) else {
        return Ok(None);
    };
    let Some(bounds) = reader.schema.id_kind.and_then(|kind| filter.ids(kind)) else {
        return Ok(None);
    };
    let mut scan = reader
        .segment
        .scan_ids(bounds, *direction == Direction::Desc, ReadKind::Index);
    let mut kept = Bitset::empty(live.len());
    let mut left = plan.wanted;
    while left > 0 {
        let Some(block) = scan.next().await? else { break };
        let found = block.rows.iter().filter(|row| live.contains(**row as usize));
        for row in found.take(left) {
            kept.insert(*row as usize);
            left -= 1;
        }
    }
    Ok(Some(kept))
}

/// How far it is.
#[derive(Clone, Copy)]
struct Walk {
    /// Rows to find.
    wanted: u64,
    /// Rows that are passed until then, when those that pass the filter are spread evenly.
    expected: u64,
}

impl Walk {
    /// `None` when all rows are compared.
    ///
    /// * `passing` — how many of the `rows` pass the filter
    fn of(plan: &Plan, passing: usize, rows: usize) -> Option<Self> {
        // Caps on equal rows may ask for any number of rows.
        if plan.per.is_some() || plan.wanted >= passing {
            return None;
        }
        Some(Self {
            wanted: plan.wanted as u64,
            // Of rows that pass here and there.
            expected: plan.wanted as u64 * rows as u64 / passing as u64,
        })
    }

    /// What the walk reads of an index of so many bytes, and then of rows.
    fn bytes(self, index_bytes: u64, rows: usize) -> u64 {
        let share = u128::from(index_bytes) * u128::from(self.expected) / rows.max(1) as u128;
        share as u64 + self.wanted * PAGE_BYTES
    }

    fn gives_up(self, passed: u64) -> bool {
        passed > PATIENCE * self.expected + QUICK_ROWS
    }
}

/// What is read to compare all rows.
fn compared_bytes(reader: Reader<'_>, id: AttrId) -> u64 {
    reader.column_bytes(id) + reader.ids_bytes()
}

/// How the first rows of a segment are found, in words.
///
/// * `passing` — how many rows pass the filter, about
pub(super) async fn describe(reader: Reader<'_>, plan: &Plan, passing: usize) -> Result<Option<String>> {
    let Action::OrderedScan { keys } = &plan.action else {
        return Ok(None);
    };
    let Some(OrderTarget::Attribute(id)) = keys.first().map(|key| key.target) else {
        return Ok(None);
    };
    let name = reader.attribute(id).map_or("", |a| &a.name);
    let compared = compared_bytes(reader, id);
    let index: Option<AttributeIndex> = reader.indexes(&[id]).await?.remove(&id);
    let walk = Walk::of(plan, passing, reader.len()).zip(index);
    let walked = walk.map(|(walk, index)| (walk, walk.bytes(index.groups_estimate().bytes, reader.len())));
    Ok(Some(match walked {
        Some((walk, bytes)) if bytes < compared => {
            let rows = walk.expected;
            format!("order: index of {name:?}, about {rows} rows, {bytes} bytes; columns have {compared} bytes")
        }
        Some((_, bytes)) => format!("order: columns, {compared} bytes; the index of {name:?} takes {bytes} bytes"),
        None => format!("order: columns, {compared} bytes"),
    }))
}

async fn by_attribute(
    reader: Reader<'_>,
    walk: Walk,
    id: AttrId,
    direction: Direction,
    live: Bitset,
) -> Result<Bitset> {
    let index: Option<AttributeIndex> = reader.indexes(&[id]).await?.remove(&id);
    let Some(index) = index else { return Ok(live) };
    if walk.bytes(index.groups_estimate().bytes, live.len()) >= compared_bytes(reader, id) {
        return Ok(live);
    }
    let nulls = match direction {
        Direction::Asc => NullsAt::First,
        Direction::Desc => NullsAt::Last,
    };
    let Some(mut order) = index.order(direction, Bound::Unbounded, nulls) else {
        return Ok(live);
    };
    let mut kept = Bitset::empty(live.len());
    let (mut found, mut passed) = (0, 0);
    let (mut waiting, mut waiting_rows) = (Vec::new(), 0);
    let live = Arc::new(live);
    // Rows with the same value are told apart by what comes after it: all of them are kept.
    while found < walk.wanted {
        let next = order.next().await.map_err(|e| reader.index_error(e))?;
        let is_end = next.is_none();
        if let Some((_, rows)) = next {
            passed += rows.len();
            if walk.gives_up(passed) {
                return Ok(Arc::unwrap_or_clone(live));
            }
            if passed <= IN_PLACE_ROWS {
                found += add(&rows, &live, &mut kept);
                continue;
            }
            waiting_rows += rows.len();
            waiting.push(rows);
        }
        // Many at a time, as soon as they can be enough.
        if is_end || waiting_rows >= IN_PLACE_ROWS || found + waiting_rows >= walk.wanted {
            let (within, mut set, rows) = (live.clone(), kept, std::mem::take(&mut waiting));
            let count = move || {
                let count: u64 = rows.iter().map(|rows| add(rows, &within, &mut set)).sum();
                (set, count)
            };
            let (set, count) = reader.cpu.run(Priority::Foreground, count).await;
            (kept, waiting_rows) = (set, 0);
            found += count;
        }
        if is_end {
            break;
        }
    }
    Ok(kept)
}

/// Adds those of `rows` that are in `within`; returns how many they are.
fn add(rows: &RowSet, within: &Bitset, kept: &mut Bitset) -> u64 {
    let mut count = 0;
    rows.each(|row| {
        if within.contains(row as usize) {
            kept.insert(row as usize);
            count += 1;
        }
    });
    count
}

async fn by_id(reader: Reader<'_>, walk: Walk, direction: Direction, live: Bitset) -> Result<Bitset> {
    if walk.bytes(reader.ids_bytes(), live.len()) >= reader.ids_bytes() {
        return Ok(live);
    }
    let descending = direction == Direction::Desc;
    let mut scan = reader
        .segment
        .scan_ids((Bound::Unbounded, Bound::Unbounded), descending, ReadKind::Index);
    let mut kept = Bitset::empty(live.len());
    let (mut found, mut passed) = (0, 0);
    while found < walk.wanted {
        let Some(block) = scan.next().await? else { break };
        for row in &block.rows {
            if found < walk.wanted && live.contains(*row as usize) {
                kept.insert(*row as usize);
                found += 1;
            }
        }
        passed += block.rows.len() as u64;
        if walk.gives_up(passed) && found < walk.wanted {
            return Ok(live);
        }
    }
    Ok(kept)
}
