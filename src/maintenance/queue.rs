//! Jobs that wait and jobs that run: whose turn it is, and whether there is room.
//!
//! # What stays true
//!
//! - At most one job of a kind waits for or works on a namespace.
//! - Organizations take turns; within one, jobs of a kind run in the order in which they came.
//! - A job that comes to its turn and does not fit into the memory keeps its turn: what is started before it fits
//!   beside it. So no stream of small jobs holds up a large one for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::UpkeepOptions;
use super::indexer::Name;
use crate::base::{Tenant, Turns};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Flush,
    Look,
    Merge,
}

impl Kind {
    /// In the order in which they are started.
    pub const ALL: [Kind; 3] = [Kind::Flush, Kind::Look, Kind::Merge];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Flush => "flush",
            Kind::Look => "look",
            Kind::Merge => "merge",
        }
    }
}

/// A job that waits for its turn, or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub name: Name,
    pub kind: Kind,
    /// About how much memory it takes; at most what all may take.
    pub bytes: u64,
}

impl Task {
    pub fn tenant(&self) -> Tenant {
        Tenant::named(self.name.0.as_str())
    }
}

/// The jobs of a node.
pub(super) struct Queue {
    bounds: Bounds,
    waiting: BTreeMap<Kind, Turns<Task>>,
    /// Has had its turn and waits for memory; it holds its place among the running ones.
    reserved: Option<Task>,
    /// What waits or runs.
    known: BTreeSet<(Kind, Name)>,
    running: BTreeMap<Kind, usize>,
    running_by_org: BTreeMap<Tenant, usize>,
    running_bytes: u64,
}

/// How much may run at the same time.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    flushes: usize,
    merges: usize,
    per_org: usize,
    memory_bytes: u64,
}

impl Queue {
    pub fn new(options: &UpkeepOptions) -> Self {
        Self {
            bounds: Bounds {
                flushes: options.flushes_at_once.max(1),
                merges: options.merges_at_once.max(1),
                per_org: options.jobs_per_org.max(1),
                memory_bytes: options.memory_bytes,
            },
            waiting: BTreeMap::new(),
            reserved: None,
            known: BTreeSet::new(),
            running: BTreeMap::new(),
            running_by_org: BTreeMap::new(),
            running_bytes: 0,
        }
    }

    /// Has a job wait for its turn, unless it waits or runs already.
    ///
    /// * `bytes` — about how much memory it takes. A merge that takes more than there is runs alone, and a flush counts as a
    ///   quarter of what there is at most.
    pub fn push(&mut self, name: Name, kind: Kind, bytes: u64) {
        if !self.known.insert((kind, name.clone())) {
            return;
        }
        let most = match kind {
            // A flush does not wait for a merge to end; one that takes more than this takes it beside the merge.
            Kind::Flush | Kind::Look => self.bounds.memory_bytes / 4,
            Kind::Merge => self.bounds.memory_bytes,
        };
        let bytes = bytes.min(most);
        let task = Task { name, kind, bytes };
        self.waiting.entry(kind).or_default().push(task.tenant(), task);
    }

    /// The next job to start, which from now on runs; `None` while nothing may.
    pub fn start(&mut self) -> Option<Task> {
        if let Some(task) = self.reserved.take_if(|task| {
            let room = self.bounds.memory_bytes.saturating_sub(self.running_bytes);
            task.bytes <= room
        }) {
            self.running_bytes += task.bytes;
            return Some(task);
        }
        Kind::ALL.into_iter().find_map(|kind| self.start_one_of(kind))
    }

    fn start_one_of(&mut self, kind: Kind) -> Option<Task> {
        let at_once = match kind {
            Kind::Flush | Kind::Look => self.bounds.flushes,
            Kind::Merge => self.bounds.merges,
        };
        while self.running.get(&kind).copied().unwrap_or(0) < at_once {
            let held = self.reserved.as_ref().map_or(0, |task| task.bytes);
            let used = self.running_bytes.saturating_add(held);
            let room = self.bounds.memory_bytes.saturating_sub(used);
            let may_reserve = self.reserved.is_none();
            let (by_org, per_org) = (&self.running_by_org, self.bounds.per_org);
            let has_place = |task: &Task| by_org.get(&task.tenant()).copied().unwrap_or(0) < per_org;
            let turns = self.waiting.get_mut(&kind)?;
            let task = turns.pop_if(|task| has_place(task) && (may_reserve || task.bytes <= room))?;
            *self.running.entry(kind).or_default() += 1;
            *self.running_by_org.entry(task.tenant()).or_default() += 1;
            if task.bytes <= room {
                self.running_bytes += task.bytes;
                return Some(task);
            }
            self.reserved = Some(task);
        }
        None
    }

    /// Gives back the place of a job that ran.
    pub fn end(&mut self, task: &Task) {
        self.known.remove(&(task.kind, task.name.clone()));
        subtract(&mut self.running, &task.kind);
        subtract(&mut self.running_by_org, &task.tenant());
        self.running_bytes = self.running_bytes.saturating_sub(task.bytes);
    }

    /// Whether a job waits or runs.
    pub fn knows(&self, kind: Kind, name: &Name) -> bool {
        self.known.contains(&(kind, name.clone()))
    }

    /// Whether a job of that kind waits.
    pub fn has_waiting(&self, kind: Kind) -> bool {
        self.waiting.get(&kind).is_some_and(|turns| !turns.is_empty())
    }

    /// Whether no job waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.reserved.is_none() && self.waiting.values().all(Turns::is_empty)
    }
}

fn subtract<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NamespaceName, OrgId};

    fn name(org: &str, ns: &str) -> Name {
        (
            OrgId::parse(org).expect("an organization"),
            NamespaceName::parse(ns).expect("a name"),
        )
    }

    fn queue(memory_bytes: u64) -> Queue {
        Queue::new(&UpkeepOptions {
            memory_bytes,
            ..UpkeepOptions::default()
        })
    }

    fn started(queue: &mut Queue) -> Vec<Task> {
        std::iter::from_fn(|| queue.start()).collect()
    }

    fn names(tasks: &[Task]) -> Vec<&str> {
        tasks.iter().map(|t| t.name.1.as_str()).collect()
    }

    #[test]
    fn a_large_job_gets_its_turn_beside_a_stream_of_small_ones() {
        let mut queue = queue(100);
        queue.push(name("a", "small-0"), Kind::Flush, 10);
        let mut running = started(&mut queue);
        queue.push(name("b", "large"), Kind::Merge, 95);
        for n in 1..20 {
            queue.push(name("a", &format!("small-{n}")), Kind::Flush, 10);
            running.extend(started(&mut queue));
            if running.iter().any(|t| t.name.1.as_str() == "large") {
                return;
            }
            if !running.is_empty() {
                let ended = running.remove(0);
                queue.end(&ended);
            }
        }
        panic!("it never ran");
    }

    #[test]
    fn a_job_larger_than_the_memory_runs_alone() {
        let mut queue = queue(100);
        queue.push(name("a", "one"), Kind::Flush, 30);
        let one = started(&mut queue);
        queue.push(name("b", "huge"), Kind::Merge, 5_000);
        queue.push(name("c", "two"), Kind::Flush, 30);
        queue.push(name("c", "look"), Kind::Look, 0);
        let beside = started(&mut queue);
        assert_eq!(names(&beside), ["two", "look"], "flushes come before merges");
        queue.push(name("d", "three"), Kind::Flush, 30);
        queue.push(name("d", "four"), Kind::Look, 0);
        assert_eq!(names(&started(&mut queue)), ["four"], "the memory is reserved");
        queue.end(&one[0]);
        assert!(started(&mut queue).is_empty());
        queue.end(&beside[0]);
        let huge = started(&mut queue);
        assert_eq!(names(&huge), ["huge"]);
        assert_eq!(huge[0].bytes, 100);
        queue.end(&huge[0]);
        assert_eq!(names(&started(&mut queue)), ["three"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_reserved_leaves_room_to_what_fits_beside_it() {
        let mut queue = queue(100);
        queue.push(name("a", "one"), Kind::Merge, 60);
        queue.push(name("b", "two"), Kind::Flush, 70);
        let running = started(&mut queue);
        assert_eq!(
            names(&running),
            ["two", "one"],
            "a large flush does not wait for a merge"
        );
        queue.push(name("c", "three"), Kind::Flush, 25);
        queue.push(name("d", "four"), Kind::Flush, 10);
        assert!(started(&mut queue).is_empty(), "the next one's place is kept for it");
        queue.end(&running[1]);
        assert_eq!(names(&started(&mut queue)), ["three", "four"]);
    }

    #[test]
    fn organizations_take_turns_and_each_keeps_its_order() {
        let mut queue = queue(1_000);
        for n in 0..6 {
            queue.push(name("a", &format!("a{n}")), Kind::Flush, 1);
            queue.push(name("a", &format!("a{n}")), Kind::Flush, 1);
        }
        queue.push(name("b", "b0"), Kind::Flush, 1);
        let mut order = Vec::new();
        let mut running = started(&mut queue);
        assert_eq!(names(&running), ["a0", "b0", "a1"], "two of one organization");
        while !running.is_empty() {
            let ended = running.remove(0);
            queue.end(&ended);
            order.push(ended.name.1.as_str().to_owned());
            running.extend(started(&mut queue));
        }
        assert_eq!(order, ["a0", "b0", "a1", "a2", "a3", "a4", "a5"]);
        assert_eq!((queue.running_bytes, queue.running.len()), (0, 0));
        assert!(queue.running_by_org.is_empty() && queue.known.is_empty());
    }
}
