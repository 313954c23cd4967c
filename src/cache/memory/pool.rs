//! A part of the memory tier with a limit of its own, shared by organizations.
//!
//! Each entry has a credit, which reads renew and the hand of a clock takes away one by one; what is worth more gets more.
//! Something new has half of it, so that what is read once goes before what is read again. Every organization has a clock
//! of its own: one that has more than its share makes room for itself by what it has itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use object_store::path::Path;

use super::super::pieces;
use super::super::{ObjectRef, ReadKind};
use super::{Decoded, SteadyState};
use crate::model::OrgId;

/// What an entry costs beside its bytes, about.
pub(super) const OVERHEAD_BYTES: u64 = 200;
/// So many entries the hand passes to find one that nobody used; then that with the least credit goes. Or one that makes
/// room would once in a while have to pass all there is.
const PASSED_MAX: usize = 32;
/// Places of entries that are gone stay in the clock until there are so many more than entries.
const SPARE_PLACES: usize = 64;

/// Which entry of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The run that begins there.
    Run(u64),
    /// What was decoded under this tag.
    Decoded(u64),
}

struct Entry<T> {
    value: T,
    weight: u64,
    /// Tells it from an entry that was at the same place before.
    serial: u64,
    credit: AtomicU8,
    /// What reads renew the credit to.
    most: u8,
}

impl<T> Entry<T> {
    fn touch(&self) {
        // Not written where it says so already: others read it.
        if self.credit.load(Ordering::Relaxed) != self.most {
            self.credit.store(self.most, Ordering::Relaxed);
        }
    }
}

struct Object {
    org: OrgId,
    /// Of all runs.
    bytes: u64,
    /// By where they begin; they never overlap.
    runs: BTreeMap<u64, Entry<Bytes>>,
    decoded: BTreeMap<u64, Entry<Decoded>>,
}

impl Object {
    /// The runs that have something of `range`.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Entry<Bytes>)> {
        let before = self.runs.range(..range.start).next_back();
        let inside = self.runs.range(range.start..range.end.max(range.start));
        let from = range.start;
        let all = before.into_iter().chain(inside).map(|(start, run)| (*start, run));
        all.filter(move |(start, run)| start + run.value.len() as u64 > from)
    }

    fn serial(&self, place: Place) -> Option<u64> {
        match place {
            Place::Run(start) => self.runs.get(&start).map(|e| e.serial),
            Place::Decoded(tag) => self.decoded.get(&tag).map(|e| e.serial),
        }
    }

    fn credit(&self, place: Place) -> Option<&AtomicU8> {
        match place {
            Place::Run(start) => self.runs.get(&start).map(|e| &e.credit),
            Place::Decoded(tag) => self.decoded.get(&tag).map(|e| &e.credit),
        }
    }
}

/// Where a hand passes.
struct Tick {
    key: Arc<Path>,
    place: Place,
    serial: u64,
}

#[derive(Default)]
struct Org {
    bytes: u64,
    entries: usize,
    /// The clock: its hand is at the front. Entries that are gone are skipped.
    ring: VecDeque<Tick>,
}

#[derive(Default)]
struct Shelves {
    used: u64,
    next: u64,
    objects: HashMap<Arc<Path>, Object, SteadyState>,
    orgs: BTreeMap<OrgId, Org>,
    /// Who had most when that was looked up last.
    largest: Option<OrgId>,
}

/// What was taken out. Dropped when nobody waits for the lock: giving memory back takes its time.
#[derive(Default)]
pub(super) struct Dropped {
    runs: Vec<Bytes>,
    decoded: Vec<Decoded>,
}

/// See the module.
pub(super) struct Pool {
    limit: u64,
    /// Held to look up or change, never to copy bytes.
    shelves: RwLock<Shelves>,
}

fn credit(kind: ReadKind) -> u8 {
    match kind {
        ReadKind::Hot => 6,
        ReadKind::Index => 4,
        ReadKind::Rows => 2,
        ReadKind::Vectors | ReadKind::Scan => 1,
    }
}

impl Pool {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            shelves: RwLock::default(),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    fn look(&self) -> RwLockReadGuard<'_, Shelves> {
        self.shelves.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Shelves> {
        self.shelves.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes held, overhead included.
    pub(super) fn weight(&self) -> u64 {
        self.look().used
    }

    pub(super) fn bytes_of(&self, key: &Path) -> u64 {
        self.look().objects.get(key).map_or(0, |o| o.bytes)
    }

    /// These bytes, if they lie in one run.
    pub(super) fn slice(&self, key: &Path, range: &Range<u64>) -> Option<Bytes> {
        let shelves = self.look();
        let (start, run) = shelves.objects.get(key)?.runs.range(..=range.start).next_back()?;
        if start + (run.value.len() as u64) < range.end {
            return None;
        }
        run.touch();
        let slice = (range.start - start) as usize..(range.end - start) as usize;
        Some(run.value.slice(slice))
    }

    /// Calls `f` with each run that has something of `range`, and where it begins.
    pub(super) fn each(&self, key: &Path, range: &Range<u64>, mut f: impl FnMut(u64, &Bytes)) {
        let shelves = self.look();
        let Some(object) = shelves.objects.get(key) else { return };
        object.overlapping(range).for_each(|(start, run)| {
            run.touch();
            f(start, &run.value);
        });
    }

    /// What of `range` is in no run, ascending.
    pub(super) fn gaps(&self, key: &Path, range: &Range<u64>) -> Vec<Range<u64>> {
        let shelves = self.look();
        match shelves.objects.get(key) {
            None => pieces::subtract(range, []),
            Some(object) => {
                let held = object.overlapping(range);
                pieces::subtract(range, held.map(|(start, run)| start..start + run.value.len() as u64))
            }
        }
    }

    /// Makes one run of those that `range` lies in, and returns these bytes. `None` when some are missing, or when the run
    /// would have more than `bytes_max` bytes or be too large for the pool.
    pub(super) fn join(&self, key: &Arc<Path>, range: &Range<u64>, bytes_max: u64) -> Option<Bytes> {
        let mut parts: Vec<(u64, u64, Bytes)> = Vec::new();
        let most = {
            let shelves = self.look();
            let object = shelves.objects.get(key)?;
            let mut most = 0;
            for (start, run) in object.overlapping(range) {
                if parts.last().is_some_and(|(s, _, b)| s + b.len() as u64 != start) {
                    return None;
                }
                parts.push((start, run.serial, run.value.clone()));
                most = most.max(run.most);
            }
            most
        };
        let start = parts.first()?.0;
        let len: u64 = parts.iter().map(|(_, _, bytes)| bytes.len() as u64).sum();
        let is_whole = start <= range.start && start + len >= range.end;
        if !is_whole || len > bytes_max.min(super::run_bytes_max(self.limit)) {
            return None;
        }
        let mut joined = Vec::with_capacity(len as usize);
        parts.iter().for_each(|(_, _, bytes)| joined.extend_from_slice(bytes));
        let joined = Bytes::from(joined);
        let slice = joined.slice((range.start - start) as usize..(range.end - start) as usize);
        let mut dropped = Dropped::default();
        let mut shelves = self.change();
        // Unless somebody else did, or one of them had to go.
        let unchanged = |object: &Object| {
            let same = |(start, serial, _): &(u64, u64, Bytes)| object.serial(Place::Run(*start)) == Some(*serial);
            parts.iter().all(same)
        };
        if let Some(object) = shelves.objects.get(key).filter(|o| unchanged(o)) {
            let org = object.org.clone();
            for (start, ..) in &parts {
                shelves.take(key, Place::Run(*start), &mut dropped);
            }
            shelves.put_run(key, &org, most, start, joined);
        }
        drop(shelves);
        drop(dropped);
        Some(slice)
    }

    /// Adds runs of an object, each as far as nothing of it is there and it fits.
    pub(super) fn insert_runs(&self, object: &ObjectRef, kind: ReadKind, runs: Vec<(u64, Bytes)>) {
        let mut dropped = Dropped::default();
        let mut shelves = self.change();
        for (start, bytes) in runs {
            let range = start..start + bytes.len() as u64;
            let held = shelves.objects.get(&object.key);
            let known = held.is_some_and(|o| o.overlapping(&range).next().is_some());
            let weight = OVERHEAD_BYTES + bytes.len() as u64;
            if !known && !bytes.is_empty() && shelves.make_room(self.limit, &object.org, weight, &mut dropped) {
                shelves.put_run(&object.key, &object.org, credit(kind), start, bytes);
            }
        }
        drop(shelves);
        drop(dropped);
    }

    pub(super) fn decoded(&self, key: &Path, tag: u64) -> Option<(Decoded, u64)> {
        let shelves = self.look();
        let entry = shelves.objects.get(key)?.decoded.get(&tag)?;
        entry.touch();
        Some((entry.value.clone(), entry.weight - OVERHEAD_BYTES))
    }

    pub(super) fn insert_decoded(&self, object: &ObjectRef, tag: u64, value: Decoded, weight: u64, kind: ReadKind) {
        let mut dropped = Dropped::default();
        let weight = weight.saturating_add(OVERHEAD_BYTES);
        let mut shelves = self.change();
        shelves.take(&object.key, Place::Decoded(tag), &mut dropped);
        if shelves.make_room(self.limit, &object.org, weight, &mut dropped) {
            let most = credit(kind);
            let place = Place::Decoded(tag);
            let serial = shelves.count_in(&object.key, &object.org, place, weight);
            let entry = Entry {
                value,
                weight,
                serial,
                credit: AtomicU8::new(most / 2),
                most,
            };
            shelves.object(&object.key, &object.org).decoded.insert(tag, entry);
        }
        drop(shelves);
        drop(dropped);
    }

    /// Takes all credit from what there is of an object.
    pub(super) fn demote(&self, key: &Path) {
        let shelves = self.look();
        let Some(object) = shelves.objects.get(key) else { return };
        let credits = object.runs.values().map(|e| &e.credit);
        let credits = credits.chain(object.decoded.values().map(|e| &e.credit));
        credits.for_each(|credit| credit.store(0, Ordering::Relaxed));
    }

    /// Drops everything of an object.
    pub(super) fn remove(&self, key: &Arc<Path>) {
        let mut dropped = Dropped::default();
        let mut shelves = self.change();
        if let Some(object) = shelves.objects.get(key) {
            let runs = object.runs.keys().map(|start| Place::Run(*start));
            let all: Vec<Place> = runs
                .chain(object.decoded.keys().map(|tag| Place::Decoded(*tag)))
                .collect();
            all.into_iter().for_each(|place| {
                shelves.take(key, place, &mut dropped);
            });
        }
        drop(shelves);
        drop(dropped);
    }
}

impl Shelves {
    fn object(&mut self, key: &Arc<Path>, org: &OrgId) -> &mut Object {
        self.objects.entry(key.clone()).or_insert_with(|| Object {
            org: org.clone(),
            bytes: 0,
            runs: BTreeMap::new(),
            decoded: BTreeMap::new(),
        })
    }

    /// Notes that something is there. Returns its serial number.
    fn count_in(&mut self, key: &Arc<Path>, org: &OrgId, place: Place, weight: u64) -> u64 {
        // An object has one owner; whoever names another is counted as the first.
        let org = self.object(key, org).org.clone();
        self.next += 1;
        self.used += weight;
        let serial = self.next;
        let held = self.orgs.entry(org).or_default();
        held.bytes += weight;
        held.entries += 1;
        held.ring.push_back(Tick {
            key: key.clone(),
            place,
            serial,
        });
        if held.ring.len() > 2 * held.entries + SPARE_PLACES {
            let objects = &self.objects;
            let there = |t: &Tick| t.serial == serial || is_there(objects, t);
            held.ring.retain(there);
        }
        serial
    }

    fn put_run(&mut self, key: &Arc<Path>, org: &OrgId, most: u8, start: u64, bytes: Bytes) {
        let weight = OVERHEAD_BYTES + bytes.len() as u64;
        let serial = self.count_in(key, org, Place::Run(start), weight);
        let object = self.object(key, org);
        object.bytes += bytes.len() as u64;
        let entry = Entry {
            value: bytes,
            weight,
            serial,
            credit: AtomicU8::new(most / 2),
            most,
        };
        object.runs.insert(start, entry);
    }

    /// Takes something out, if it is there.
    fn take(&mut self, key: &Arc<Path>, place: Place, dropped: &mut Dropped) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let weight = match place {
            Place::Run(start) => object.runs.remove(&start).map(|run| {
                object.bytes -= run.value.len() as u64;
                dropped.runs.push(run.value);
                run.weight
            }),
            Place::Decoded(tag) => object.decoded.remove(&tag).map(|entry| {
                dropped.decoded.push(entry.value);
                entry.weight
            }),
        };
        let Some(weight) = weight else { return };
        self.used -= weight;
        if let Some(held) = self.orgs.get_mut(&object.org) {
            held.bytes -= weight;
            held.entries -= 1;
            if held.entries == 0 {
                self.orgs.remove(&object.org);
            }
        }
        if object.runs.is_empty() && object.decoded.is_empty() {
            self.objects.remove(key);
        }
    }

    /// Whether there is room for so many bytes more, made where there was none.
    fn make_room(&mut self, limit: u64, asking: &OrgId, weight: u64, dropped: &mut Dropped) -> bool {
        if weight > limit {
            return false;
        }
        while self.used + weight > limit {
            let Some(org) = self.next_to_give(limit, asking, weight) else {
                return false;
            };
            if !self.evict(&org, dropped) {
                return false;
            }
        }
        true
    }

    /// Who has to give something: who asks, if that is more than its share, otherwise who has most.
    fn next_to_give(&mut self, limit: u64, asking: &OrgId, weight: u64) -> Option<OrgId> {
        let others = self.orgs.len() - usize::from(self.orgs.contains_key(asking));
        let share = limit / (others as u64 + 1);
        let has = |org: &OrgId| self.orgs.get(org).map_or(0, |o| o.bytes);
        if has(asking) > 0 && has(asking) + weight > share {
            return Some(asking.clone());
        }
        // Whoever had most still has too much, usually; looking at all of them takes longer.
        if let Some(org) = self.largest.as_ref().filter(|org| has(org) > share) {
            return Some(org.clone());
        }
        let most = self.orgs.iter().max_by_key(|(_, o)| o.bytes);
        self.largest = most.map(|(org, _)| org.clone());
        self.largest.clone()
    }

    /// Takes out one entry of an organization; false when it has none.
    fn evict(&mut self, org: &OrgId, dropped: &mut Dropped) -> bool {
        let Some(held) = self.orgs.get_mut(org) else {
            return false;
        };
        let mut least: Option<(u8, Tick)> = None;
        let mut passed = 0;
        while passed < PASSED_MAX {
            let Some(tick) = held.ring.pop_front() else { break };
            let object = self.objects.get(&tick.key);
            let there = object.filter(|o| o.serial(tick.place) == Some(tick.serial));
            let Some(credit) = there.and_then(|o| o.credit(tick.place)) else {
                continue;
            };
            passed += 1;
            let left = credit.load(Ordering::Relaxed);
            credit.store(left.saturating_sub(1), Ordering::Relaxed);
            let back = match &least {
                Some((lowest, _)) if *lowest <= left => Some(tick),
                _ => least.replace((left, tick)).map(|(_, tick)| tick),
            };
            held.ring.extend(back);
            if left == 0 {
                break;
            }
        }
        let Some((_, tick)) = least else { return false };
        self.take(&tick.key, tick.place, dropped);
        true
    }
}

fn is_there(objects: &HashMap<Arc<Path>, Object, SteadyState>, tick: &Tick) -> bool {
    let object = objects.get(&tick.key);
    object.is_some_and(|o| o.serial(tick.place) == Some(tick.serial))
}
