//! What is on disk, in memory: which blocks with which checksums, whose, and what goes first.
//!
//! What is evicted is a region of 1 MiB of an object. Each has a credit, which reads renew and the hand of the clock
//! takes away one by one; what is worth more gets more. Every organization has a clock of its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::map::{Extent, Owner, SUBS};
use crate::cache::ReadKind;
use crate::cache::memory::SteadyState;
use crate::cache::pieces::{EXTENT, SUB_BLOCK};

/// What is evicted at a time, in bytes of an object.
pub(super) const REGION: u64 = 1 << 20;
const EXTENTS_PER_REGION: u64 = REGION / EXTENT;
/// What an object takes on disk beside its blocks: directory, map, the ends of files.
const OBJECT_BYTES: u64 = 16 << 10;
/// Pins count up to this share of the limit.
const PINNED_PERCENT: u64 = 70;

/// A name for an object's directory.
pub(super) type Id = u128;
pub(super) type RegionId = (Id, u64);

struct Object {
    owner: Owner,
    extents: BTreeMap<u64, Extent>,
    /// Extents that the disk could not read: not written again.
    quarantined: HashSet<u64, SteadyState>,
    bytes: u64,
    demoted: bool,
}

struct Region {
    credit: u8,
    kind: ReadKind,
    bytes: u64,
}

#[derive(Default)]
struct Org {
    bytes: u64,
    /// The clock: its hand is at the front. Regions that are gone are skipped.
    ring: VecDeque<RegionId>,
}

/// See the module.
pub(super) struct Index {
    limit: u64,
    used: u64,
    pinned_bytes: u64,
    objects: HashMap<Id, Object, SteadyState>,
    regions: HashMap<RegionId, Region, SteadyState>,
    orgs: BTreeMap<String, Org>,
    pinned: HashSet<Id, SteadyState>,
}

/// Blocks that follow each other and are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: Range<u64>,
    /// One per sub-block.
    pub(super) crcs: Vec<u32>,
}

impl Run {
    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

fn credit(kind: ReadKind) -> u8 {
    match kind {
        ReadKind::Hot => 8,
        ReadKind::Index => 4,
        ReadKind::Rows => 2,
        ReadKind::Vectors | ReadKind::Scan => 1,
    }
}

fn bit(sub: u64) -> u16 {
    1 << (sub % SUBS as u64)
}

impl Index {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            pinned_bytes: 0,
            objects: HashMap::default(),
            regions: HashMap::default(),
            orgs: BTreeMap::new(),
            pinned: HashSet::default(),
        }
    }

    /// Bytes that the tier takes on disk, about.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether so many more bytes fit.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.used.saturating_add(bytes) <= self.limit
    }

    pub(super) fn knows(&self, id: Id) -> bool {
        self.objects.contains_key(&id)
    }

    /// Whether the object of that name is this one, and not another with the same hash.
    pub(super) fn is(&self, id: Id, key: &str, len: u64) -> bool {
        let object = self.objects.get(&id);
        object.is_some_and(|o| o.owner.key == key && o.owner.len == len)
    }

    /// Takes in an object whose directory exists, unless it is known.
    pub(super) fn insert(&mut self, id: Id, owner: Owner, extents: Vec<(u64, Extent)>) {
        if self.knows(id) {
            return;
        }
        self.used += OBJECT_BYTES;
        let object = Object {
            owner,
            extents: BTreeMap::new(),
            quarantined: HashSet::default(),
            bytes: 0,
            demoted: false,
        };
        self.objects.insert(id, object);
        for (number, extent) in extents {
            let first = number * SUBS as u64;
            for sub in (0..SUBS as u64).filter(|sub| extent.mask & bit(*sub) != 0) {
                self.add(id, first + sub, extent.crcs[sub as usize], extent.kind);
            }
        }
    }

    /// Notes that a sub-block is there.
    pub(super) fn add(&mut self, id: Id, sub: u64, crc: u32, kind: ReadKind) {
        let Some(object) = self.objects.get_mut(&id) else {
            return;
        };
        let number = sub / SUBS as u64;
        let extent = object.extents.entry(number).or_insert(Extent {
            mask: 0,
            kind,
            crcs: [0; SUBS],
        });
        extent.kind = extent.kind.min(kind);
        extent.crcs[(sub % SUBS as u64) as usize] = crc;
        if extent.mask & bit(sub) != 0 {
            return;
        }
        extent.mask |= bit(sub);
        object.bytes += SUB_BLOCK;
        self.used += SUB_BLOCK;
        if self.pinned.contains(&id) {
            self.pinned_bytes += SUB_BLOCK;
        }
        let org = self.orgs.entry(object.owner.org.clone()).or_default();
        org.bytes += SUB_BLOCK;
        let demoted = object.demoted;
        let region = (id, number / EXTENTS_PER_REGION);
        let entry = self.regions.entry(region).or_insert_with(|| {
            org.ring.push_back(region);
            Region {
                credit: if demoted { 0 } else { credit(kind) - 1 },
                kind,
                bytes: 0,
            }
        });
        entry.kind = entry.kind.min(kind);
        entry.bytes += SUB_BLOCK;
    }

    /// Notes that a sub-block is not there, if it is and has that checksum.
    pub(super) fn drop_block(&mut self, id: Id, sub: u64, crc: u32) -> bool {
        let Some(object) = self.objects.get_mut(&id) else {
            return false;
        };
        let number = sub / SUBS as u64;
        let Some(extent) = object.extents.get_mut(&number) else {
            return false;
        };
        if extent.mask & bit(sub) == 0 || extent.crcs[(sub % SUBS as u64) as usize] != crc {
            return false;
        }
        extent.mask &= !bit(sub);
        let org = object.owner.org.clone();
        object.bytes -= SUB_BLOCK;
        self.take(id, &org, SUB_BLOCK);
        let place = (id, number / EXTENTS_PER_REGION);
        if let Some(region) = self.regions.get_mut(&place) {
            region.bytes = region.bytes.saturating_sub(SUB_BLOCK);
            if region.bytes == 0 {
                self.regions.remove(&place);
            }
        }
        true
    }

    fn take(&mut self, id: Id, org: &str, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        if self.pinned.contains(&id) {
            self.pinned_bytes = self.pinned_bytes.saturating_sub(bytes);
        }
        if let Some(held) = self.orgs.get_mut(org) {
            held.bytes = held.bytes.saturating_sub(bytes);
            if held.bytes == 0 {
                self.orgs.remove(org);
            }
        }
    }

    /// Forgets an extent that the disk cannot read, and keeps it from being written again.
    pub(super) fn quarantine(&mut self, id: Id, number: u64) {
        let Some(object) = self.objects.get_mut(&id) else {
            return;
        };
        object.quarantined.insert(number);
        if let Some(extent) = object.extents.get(&number).cloned() {
            for sub in (0..SUBS as u64).filter(|sub| extent.mask & bit(*sub) != 0) {
                self.drop_block(id, number * SUBS as u64 + sub, extent.crcs[sub as usize]);
            }
        }
    }

    /// What of `range` (aligned) is there, as runs of at most `max` bytes; renews the credit of its regions.
    pub(super) fn find(&mut self, id: Id, key: &str, len: u64, range: &Range<u64>, max: u64) -> Vec<Run> {
        if !self.is(id, key, len) {
            return Vec::new();
        }
        let Some(object) = self.objects.get(&id) else {
            return Vec::new();
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut last: Option<(u64, Option<&Extent>)> = None;
        for sub in range.start / SUB_BLOCK..range.end.div_ceil(SUB_BLOCK) {
            let number = sub / SUBS as u64;
            let extent = match last {
                Some((same, extent)) if same == number => extent,
                _ => object.extents.get(&number),
            };
            last = Some((number, extent));
            let Some(extent) = extent.filter(|e| e.mask & bit(sub) != 0) else {
                continue;
            };
            let crc = extent.crcs[(sub % SUBS as u64) as usize];
            let block = sub * SUB_BLOCK..((sub + 1) * SUB_BLOCK).min(object.owner.len);
            match runs.last_mut() {
                Some(run) if run.range.end == block.start && block.end - run.range.start <= max => {
                    run.range.end = block.end;
                    run.crcs.push(crc);
                }
                _ => runs.push(Run {
                    range: block,
                    crcs: vec![crc],
                }),
            }
        }
        if !object.demoted {
            for run in &runs {
                for region in run.range.start / REGION..run.range.end.div_ceil(REGION) {
                    if let Some(region) = self.regions.get_mut(&(id, region)) {
                        region.credit = region.credit.max(credit(region.kind));
                    }
                }
            }
        }
        runs
    }

    /// The sub-blocks of `range` (aligned) that may be written, as ranges of numbers.
    pub(super) fn writable(&self, id: Id, range: &Range<u64>) -> Vec<Range<u64>> {
        let Some(object) = self.objects.get(&id) else {
            return Vec::new();
        };
        let mut runs: Vec<Range<u64>> = Vec::new();
        for sub in range.start / SUB_BLOCK..range.end.div_ceil(SUB_BLOCK) {
            let number = sub / SUBS as u64;
            let held = object.extents.get(&number).is_some_and(|e| e.mask & bit(sub) != 0);
            if held || object.quarantined.contains(&number) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == sub => run.end += 1,
                _ => runs.push(sub..sub + 1),
            }
        }
        runs
    }

    /// The same of an object that may not be known.
    pub(super) fn missing(&self, id: Id, key: &str, len: u64, range: &Range<u64>) -> Vec<Range<u64>> {
        match self.is(id, key, len) {
            true => self.writable(id, range),
            false => std::iter::once(range.start / SUB_BLOCK..range.end.div_ceil(SUB_BLOCK)).collect(),
        }
    }

    /// Whether so many bytes more may be pinned.
    pub(super) fn takes_pinned(&self, bytes: u64) -> bool {
        self.pinned_bytes + bytes <= self.pins_max()
    }

    fn pins_max(&self) -> u64 {
        self.limit / 100 * PINNED_PERCENT
    }

    /// What the map shall say of an extent.
    pub(super) fn extent(&self, id: Id, number: u64) -> Option<&Extent> {
        self.objects.get(&id)?.extents.get(&number)
    }

    /// The region that goes next to make room for `asking`: one of its own if it has more than its share, otherwise
    /// one of who has most. `None` when nothing may go.
    pub(super) fn victim(&mut self, asking: Option<&str>) -> Option<RegionId> {
        let others = self.orgs.keys().filter(|org| Some(org.as_str()) != asking).count();
        let share = self.limit / (others as u64 + u64::from(asking.is_some())).max(1);
        if let Some(org) = asking
            && self.orgs.get(org).is_some_and(|o| o.bytes + REGION > share)
            && let Some(region) = self.victim_of(org)
        {
            return Some(region);
        }
        let most = self
            .orgs
            .iter()
            .max_by_key(|(_, o)| o.bytes)
            .map(|(org, _)| org.clone())?;
        if let Some(region) = self.victim_of(&most) {
            return Some(region);
        }
        // All that it has is pinned.
        let mut orgs: Vec<(u64, String)> = self.orgs.iter().map(|(org, o)| (o.bytes, org.clone())).collect();
        orgs.sort_unstable_by(|a, b| b.cmp(a));
        orgs.iter().find_map(|(_, org)| self.victim_of(org))
    }

    fn victim_of(&mut self, org: &str) -> Option<RegionId> {
        let protects = self.pinned_bytes <= self.pins_max();
        let ring = &mut self.orgs.get_mut(org)?.ring;
        // As many rounds as the largest credit, and one to take.
        for _ in 0..=ring.len().saturating_mul(9) {
            let id = ring.pop_front()?;
            let Some(region) = self.regions.get_mut(&id) else {
                continue;
            };
            let pinned = protects && self.pinned.contains(&id.0);
            if region.credit == 0 && !pinned {
                return Some(id);
            }
            if !pinned {
                region.credit -= 1;
            }
            ring.push_back(id);
        }
        None
    }

    /// Forgets a region. The extents whose records are to be cleared, and whether nothing is left of the object.
    pub(super) fn remove_region(&mut self, region: RegionId) -> (Range<u64>, bool) {
        let (id, number) = region;
        let extents = number * EXTENTS_PER_REGION..(number + 1) * EXTENTS_PER_REGION;
        self.regions.remove(&region);
        let Some(object) = self.objects.get_mut(&id) else {
            return (extents, true);
        };
        let extents = extents.start..extents.end.min(object.owner.len.div_ceil(EXTENT));
        let mut freed = 0;
        for number in extents.clone() {
            if let Some(extent) = object.extents.remove(&number) {
                freed += u64::from(extent.mask.count_ones()) * SUB_BLOCK;
            }
        }
        object.bytes -= freed;
        let empty = object.extents.is_empty() && object.quarantined.is_empty();
        let org = object.owner.org.clone();
        self.take(id, &org, freed);
        if empty {
            self.objects.remove(&id);
            self.used = self.used.saturating_sub(OBJECT_BYTES);
        }
        (extents, empty)
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(object) = self.objects.remove(&id) else { return };
        for number in object.extents.keys() {
            self.regions.remove(&(id, number / EXTENTS_PER_REGION));
        }
        self.take(id, &object.owner.org, object.bytes);
        self.used = self.used.saturating_sub(OBJECT_BYTES);
    }

    /// From now on the object's regions go before others.
    pub(super) fn demote(&mut self, id: Id) {
        let Some(object) = self.objects.get_mut(&id) else {
            return;
        };
        object.demoted = true;
        let numbers: HashSet<u64, SteadyState> = object.extents.keys().map(|n| n / EXTENTS_PER_REGION).collect();
        let Some(org) = self.orgs.get_mut(&object.owner.org) else {
            return;
        };
        // To the front of the clock; what stays behind of them is skipped once they are gone.
        for number in numbers {
            if let Some(region) = self.regions.get_mut(&(id, number)) {
                region.credit = 0;
                org.ring.push_front((id, number));
            }
        }
    }

    pub(super) fn pin(&mut self, id: Id) {
        if self.pinned.insert(id) {
            self.pinned_bytes += self.objects.get(&id).map_or(0, |o| o.bytes);
        }
    }

    pub(super) fn unpin(&mut self, id: Id) {
        if self.pinned.remove(&id) {
            let bytes = self.objects.get(&id).map_or(0, |o| o.bytes);
            self.pinned_bytes = self.pinned_bytes.saturating_sub(bytes);
        }
    }

    /// Bytes of the object that are there.
    pub(super) fn bytes_of(&self, id: Id) -> u64 {
        self.objects.get(&id).map_or(0, |o| o.bytes.min(o.owner.len))
    }
}
