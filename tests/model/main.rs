//! The commit protocol of the log, checked over every interleaving of a small world.
//!
//! Two writers follow the protocol step by step against a store that delays, loses and misreports. A third one commits in single steps, an indexer and a garbage collector follow,
//! the grace time passes whenever it likes, and nodes restart and open with stale heads. The
//! exploration is breadth first and complete for its bounds.
//!
//! Every rule of the protocol can be left out, and then the check must fail: that is how we know
//! that the model is able to see the failure, and that the rule is needed.
//!
//! What stands for what: a batch id for the content of an entry; the list of batches before it
//! for `prev_digest`, which determines them; `fresh` for "`verified_at` is younger than half the
//! grace time". A request in flight may take effect at any later time, even after the grace: the
//! writer checks its knowledge again after the reply, so that must be safe as well. One that is never
//! delivered is one that was lost.

mod steps;

use stateright::{Checker, Model};

/// Writer and number. The third writer has number [`RIVAL`].
type Batch = (u8, u8);

const WRITERS: usize = 2;
const RIVAL: u8 = 9;

/// The rules; each is on in the real protocol.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// After an ambiguous outcome only the same slot may be touched until its owner is known.
    same_slot: bool,
    /// "Exists" is no verdict: read the entry and compare the batch.
    own_write: bool,
    /// Success counts only while the writer's knowledge is fresh.
    staleness: bool,
    /// An ambiguous batch that went stale is answered "unknown" and never sent again.
    no_resend: bool,
    /// An entry is applied only to the history its `prev_digest` names.
    chain: bool,
    /// Opening checks that the tail continues the manifest, and distrusts the head otherwise.
    open_check: bool,
}

const ALL_RULES: Rules = Rules {
    same_slot: true,
    own_write: true,
    staleness: true,
    no_resend: true,
    chain: true,
    open_check: true,
};

/// The bounds of the exploration.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    rules: Rules,
    slots: usize,
    /// Batches that each of the two writers is given.
    batches: [u8; WRITERS],
    /// Entries that the third writer commits, each in one step.
    rivals: u8,
    crashes: u8,
    /// How often the store replaces an existing entry although it must not.
    overwrites: u8,
    /// Whether there is an indexer, a collector, and time that passes.
    upkeep: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    batch: Batch,
    base: Vec<Batch>,
}

/// A create-if-absent on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Request {
    batch: Batch,
    slot: usize,
    base: Vec<Batch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reply {
    Created,
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Restarted and not open yet.
    Closed,
    Idle,
    /// Evaluated on the history, to be sent to `slot`. `tried`: an earlier attempt is ambiguous.
    Ready {
        batch: Batch,
        slot: usize,
        tried: bool,
    },
    Waiting {
        batch: Batch,
        slot: usize,
        reply: Option<Reply>,
    },
    /// The outcome is unknown until the slot has been read.
    Resolving {
        batch: Batch,
        slot: usize,
    },
    /// Every batch was answered; nothing the writer knows matters any more.
    Done,
    /// The chain broke: no more writes, and an alarm.
    ReadOnly,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    /// What it has applied; the length is `T`.
    history: Vec<Batch>,
    fresh: bool,
    submitted: u8,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    /// `slots[i]` is entry `i + 1`.
    slots: Vec<Option<Entry>>,
    /// What the newest manifest covers; older manifests cover prefixes of it.
    indexed: Vec<Batch>,
    /// How much of it has been covered for longer than the grace time.
    collectable: usize,
    /// Sorted, so that equal sets are equal states.
    requests: Vec<Request>,
    writers: [Writer; WRITERS],
    acked: Vec<Batch>,
    rivals: u8,
    crashes: u8,
    overwrites: u8,
    /// Someone applied an entry to a history it was not made for.
    forked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Submit(usize),
    Send(usize),
    /// The store handles a request: now, or long after its sender gave up.
    Deliver(Request),
    /// The store answers "conflict" without having stored anything.
    Spurious(Request),
    /// The writer sees the reply.
    Reply(usize),
    /// The writer stops waiting: the reply, or the request itself, may still be on its way.
    Timeout(usize),
    /// The writer reads the slot whose owner it does not know.
    Resolve(usize),
    /// The client is told that the outcome is unknown.
    GiveUp(usize),
    Refresh(usize),
    Crash(usize),
    /// Opens with a head that names the manifest covering this many entries.
    Open(usize, usize),
    Rival,
    Index,
    /// More than the grace time passes.
    Grace,
    Collect(usize),
}

impl World {
    fn slot(&self, seq: usize) -> Option<&Entry> {
        self.slots.get(seq.checked_sub(1)?)?.as_ref()
    }

    /// The number of the newest entry in the store; 0 when there is none.
    fn newest(&self) -> usize {
        self.slots.iter().rposition(Option::is_some).map_or(0, |i| i + 1)
    }

    /// What a reader sees: the newest manifest, then the entries after it up to the first gap.
    fn visible(&self) -> Vec<Batch> {
        let mut log = self.indexed.clone();
        while let Some(entry) = self.slot(log.len() + 1) {
            log.push(entry.batch);
        }
        log
    }

    /// The history a node arrives at from this manifest, if the store's listing agrees with it.
    fn opened_at(&self, head: usize) -> Option<Vec<Batch>> {
        let mut log = self.indexed[..head].to_vec();
        if head > 0 && self.newest() == head {
            let newest = self.slot(head)?;
            return (newest.base == log[..head - 1] && newest.batch == log[head - 1]).then_some(log);
        }
        if self.newest() < head {
            return None;
        }
        for seq in head + 1..=self.newest() {
            let entry = self.slot(seq).filter(|e| e.base == log)?;
            log.push(entry.batch);
        }
        Some(log)
    }

    /// Applies the entry after `log`, if the chain permits. `false`: the chain is broken.
    fn apply(&mut self, rules: Rules, log: &mut Vec<Batch>, entry: &Entry) -> bool {
        if entry.base != *log {
            if rules.chain {
                return false;
            }
            self.forked = true;
        }
        log.push(entry.batch);
        true
    }

    fn commit(&mut self, w: usize, batch: Batch) {
        self.writers[w].history.push(batch);
        self.writers[w].phase = Phase::Idle;
        self.acked.push(batch);
        self.acked.sort_unstable();
    }

    fn ready(&mut self, w: usize, batch: Batch) {
        let slot = self.writers[w].history.len() + 1;
        self.writers[w].phase = Phase::Ready {
            batch,
            slot,
            tried: false,
        };
    }

    fn take_request(&mut self, request: &Request) {
        let at = self
            .requests
            .iter()
            .position(|r| r == request)
            .expect("actions name requests that exist");
        self.requests.remove(at);
    }

    fn answer(&mut self, request: &Request, answer: Reply) {
        let writer = &mut self.writers[usize::from(request.batch.0)];
        if let Phase::Waiting { batch, slot, reply } = &mut writer.phase
            && (*batch, *slot) == (request.batch, request.slot)
            && reply.is_none()
        {
            *reply = Some(answer);
        }
    }
}

const NO_BATCH_TWICE: &str = "no batch is in the log twice";
const CONTIGUOUS: &str = "no entry lies behind a gap";
const NO_FORK: &str = "an entry is only applied to the history it was made for";
const ACKED_IS_VISIBLE: &str = "what was acknowledged is in the visible log exactly once";
const ALL_ACKED: &str = "everything can be acknowledged";
const NAME_USED_AGAIN: &str = "a late request can take the name of a collected entry";
const ALARM: &str = "a broken chain is noticed";

impl Protocol {
    /// Whether the bounds allow the interesting states, so that the check is not vacuous.
    fn expect_progress(&self) -> bool {
        self.overwrites == 0 && self.crashes == 0
    }

    fn holds(self) {
        let checker = self.checker().spawn_bfs().join();
        eprintln!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
        checker.assert_properties();
    }

    /// Explores until the first violation and names it.
    fn violates(self, allowed: &[&'static str]) {
        let checker = self
            .checker()
            .finish_when(stateright::HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        eprintln!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
        let found = checker.discoveries();
        let found: Vec<_> = allowed.iter().filter(|name| found.contains_key(**name)).collect();
        assert!(!found.is_empty(), "{:?} without a violation of {allowed:?}", self.rules);
    }
}

const SMALL: Protocol = Protocol {
    rules: ALL_RULES,
    slots: 3,
    batches: [1, 1],
    rivals: 1,
    crashes: 0,
    overwrites: 0,
    upkeep: true,
};

fn without(change: impl FnOnce(&mut Rules)) -> Protocol {
    let mut model = SMALL;
    change(&mut model.rules);
    model
}

#[test]
fn the_protocol_keeps_its_promises_in_every_interleaving() {
    SMALL.holds();
}

#[test]
fn it_keeps_them_when_a_node_restarts_and_opens_with_a_stale_head() {
    Protocol {
        batches: [1, 1],
        rivals: 1,
        crashes: 1,
        ..SMALL
    }
    .holds();
}

#[test]
fn it_keeps_them_when_a_batch_follows_one_of_unknown_outcome() {
    Protocol {
        batches: [2, 1],
        rivals: 0,
        ..SMALL
    }
    .holds();
}

#[test]
fn without_the_same_slot_rule_writes_are_lost() {
    without(|r| r.same_slot = false).violates(&[ACKED_IS_VISIBLE, CONTIGUOUS, NO_BATCH_TWICE]);
}

#[test]
fn without_the_own_write_rule_writes_are_lost() {
    without(|r| r.own_write = false).violates(&[ACKED_IS_VISIBLE]);
}

#[test]
fn without_the_staleness_rule_writes_are_lost() {
    without(|r| r.staleness = false).violates(&[ACKED_IS_VISIBLE]);
}

#[test]
fn without_the_no_resend_rule_a_batch_is_in_the_log_twice() {
    without(|r| r.no_resend = false).violates(&[NO_BATCH_TWICE]);
}

#[test]
fn without_the_check_on_opening_writes_are_lost() {
    let mut model = Protocol {
        batches: [1, 0],
        rivals: 2,
        crashes: 1,
        ..SMALL
    };
    model.rules.open_check = false;
    model.violates(&[ACKED_IS_VISIBLE, NO_FORK, CONTIGUOUS]);
}

#[test]
fn a_store_that_replaces_entries_is_noticed_by_the_chain() {
    let broken = Protocol {
        overwrites: 1,
        upkeep: false,
        ..SMALL
    };
    broken.holds();
    let mut unchecked = broken;
    unchecked.rules.chain = false;
    unchecked.violates(&[NO_FORK]);
}
