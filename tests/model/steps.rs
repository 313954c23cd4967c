//! What may happen next, and what must be true: the protocol step by step.

use stateright::{Model, Property};

use super::*;

impl Protocol {
    fn stale(&self, writer: &Writer) -> bool {
        self.rules.staleness && !writer.fresh
    }

    fn send(&self, world: &mut World, w: usize) {
        let writer = &mut world.writers[w];
        let Phase::Ready { batch, slot, .. } = writer.phase else {
            return;
        };
        writer.phase = Phase::Waiting {
            batch,
            slot,
            reply: None,
        };
        let base = writer.history.clone();
        world.requests.push(Request { batch, slot, base });
        world.requests.sort_unstable();
    }

    fn deliver(&self, world: &mut World, request: &Request) {
        world.take_request(request);
        let taken = world.slot(request.slot).is_some();
        if taken && world.overwrites == 0 {
            return world.answer(request, Reply::Exists);
        }
        world.overwrites -= u8::from(taken);
        world.slots[request.slot - 1] = Some(Entry {
            batch: request.batch,
            base: request.base.clone(),
        });
        world.answer(request, Reply::Created);
    }

    fn reply(&self, world: &mut World, w: usize) {
        let Phase::Waiting {
            batch,
            slot,
            reply: Some(reply),
        } = world.writers[w].phase
        else {
            return;
        };
        if self.stale(&world.writers[w]) {
            world.writers[w].phase = Phase::Idle; // unknown, even after "created"
        } else if reply == Reply::Created || !self.rules.own_write {
            world.commit(w, batch);
        } else {
            world.writers[w].phase = Phase::Resolving { batch, slot };
        }
    }

    fn timeout(&self, world: &mut World, w: usize) {
        let Phase::Waiting { batch, slot, .. } = world.writers[w].phase else {
            return;
        };
        world.writers[w].phase = match self.rules.same_slot {
            true => Phase::Resolving { batch, slot },
            false => Phase::Ready {
                batch,
                slot: slot + 1,
                tried: true,
            },
        };
    }

    fn resolve(&self, world: &mut World, w: usize) {
        let Phase::Resolving { batch, slot } = world.writers[w].phase else {
            return;
        };
        if self.stale(&world.writers[w]) && self.rules.no_resend {
            world.writers[w].phase = Phase::Idle;
            return;
        }
        match world.slot(slot).cloned() {
            None => {
                world.writers[w].phase = Phase::Ready {
                    batch,
                    slot,
                    tried: true,
                }
            }
            Some(entry) if entry.batch == batch && !self.stale(&world.writers[w]) => world.commit(w, batch),
            Some(entry) if entry.batch == batch => {
                world.writers[w].phase = Phase::Ready {
                    batch,
                    slot,
                    tried: true,
                }
            }
            // A rival's entry, or an older batch of this writer whose outcome was unknown.
            Some(entry) => {
                let mut log = world.writers[w].history.clone();
                if world.apply(self.rules, &mut log, &entry) {
                    world.writers[w].history = log;
                    world.ready(w, batch);
                } else {
                    world.writers[w].phase = Phase::ReadOnly;
                }
            }
        }
    }

    /// Reads the newest manifest, if stale, and then the entries up to the end.
    fn refresh(&self, world: &mut World, w: usize) {
        let mut log = match world.writers[w].fresh {
            true => world.writers[w].history.clone(),
            false => world.indexed.clone(),
        };
        while let Some(entry) = world.slot(log.len() + 1).cloned() {
            if !world.apply(self.rules, &mut log, &entry) {
                world.writers[w].phase = Phase::ReadOnly;
                return;
            }
        }
        let tail = world.indexed.len().min(log.len());
        let found = |batch: Batch| log[tail..].contains(&batch);
        world.writers[w].fresh = true;
        let phase = world.writers[w].phase.clone();
        match phase {
            // Only without the no-re-send rule: at least it looks before it sends again.
            Phase::Ready { batch, tried: true, .. } if found(batch) => {
                world.commit(w, batch);
                world.writers[w].history = log;
            }
            Phase::Ready { batch, .. } => {
                world.writers[w].history = log;
                world.ready(w, batch);
            }
            _ => world.writers[w].history = log,
        }
    }

    fn open(&self, world: &mut World, w: usize, head: usize) {
        let log = if self.rules.open_check {
            // The head lied: the newest manifest is found by listing.
            world.opened_at(head).or_else(|| world.opened_at(world.indexed.len()))
        } else {
            let mut log = world.indexed[..head].to_vec();
            while let Some(entry) = world.slot(log.len() + 1) {
                log.push(entry.batch);
            }
            Some(log)
        };
        let writer = &mut world.writers[w];
        writer.phase = if log.is_some() { Phase::Idle } else { Phase::ReadOnly };
        writer.fresh = log.is_some();
        writer.history = log.unwrap_or_default();
    }

    /// Makes states equal that differ only in what nobody will look at.
    fn forget_what_no_longer_matters(&self, world: &mut World) {
        for (w, writer) in world.writers.iter_mut().enumerate() {
            if writer.phase == Phase::Idle && writer.submitted == self.batches[w] {
                writer.phase = Phase::Done;
            }
            if matches!(writer.phase, Phase::Done | Phase::ReadOnly) {
                writer.history.clear();
                writer.fresh = false;
            }
        }
    }

    fn writer_actions(&self, world: &World, w: usize, actions: &mut Vec<Action>) {
        let writer = &world.writers[w];
        let in_flight = world.requests.iter().filter(|r| usize::from(r.batch.0) == w).count();
        match writer.phase {
            Phase::Closed => actions.extend((0..=world.indexed.len()).map(|head| Action::Open(w, head))),
            Phase::Idle => {
                if writer.submitted < self.batches[w] {
                    actions.push(Action::Submit(w));
                }
                actions.push(Action::Refresh(w));
            }
            Phase::Ready { slot, tried, .. } => {
                let stale = self.stale(writer);
                // Two in flight: one that is late, and the one that is waited for.
                if !stale && in_flight < 2 && slot <= self.slots {
                    actions.push(Action::Send(w));
                }
                if stale && !(tried && self.rules.no_resend) {
                    actions.push(Action::Refresh(w));
                }
                if tried {
                    actions.push(Action::GiveUp(w));
                }
            }
            Phase::Waiting { reply, .. } => {
                if reply.is_some() {
                    actions.push(Action::Reply(w));
                }
                actions.push(Action::Timeout(w));
            }
            Phase::Resolving { .. } => actions.extend([Action::Resolve(w), Action::GiveUp(w)]),
            Phase::Done | Phase::ReadOnly => {}
        }
        if world.crashes > 0 && !matches!(writer.phase, Phase::Closed | Phase::Done) {
            actions.push(Action::Crash(w));
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let writer = Writer {
            history: Vec::new(),
            fresh: true,
            submitted: 0,
            phase: Phase::Idle,
        };
        let mut world = World {
            slots: vec![None; self.slots],
            indexed: Vec::new(),
            collectable: 0,
            requests: Vec::new(),
            writers: [writer.clone(), writer],
            acked: Vec::new(),
            rivals: self.rivals,
            crashes: self.crashes,
            overwrites: self.overwrites,
            forked: false,
        };
        self.forget_what_no_longer_matters(&mut world);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for w in 0..WRITERS {
            self.writer_actions(world, w, actions);
        }
        let mut previous = None;
        for request in world.requests.iter().filter(|r| previous.replace(*r) != Some(*r)) {
            actions.push(Action::Deliver(request.clone()));
            if world.slot(request.slot).is_none() {
                actions.push(Action::Spurious(request.clone()));
            }
        }
        actions.push(Action::Rival);
        if self.upkeep {
            actions.extend([Action::Index, Action::Grace]);
            actions.extend((1..=world.collectable).map(Action::Collect));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Submit(w) => {
                let batch = (w as u8, world.writers[w].submitted);
                world.writers[w].submitted += 1;
                world.ready(w, batch);
            }
            Action::Send(w) => self.send(&mut world, w),
            Action::Deliver(request) => self.deliver(&mut world, &request),
            Action::Spurious(request) => {
                world.take_request(&request);
                world.answer(&request, Reply::Exists);
            }
            Action::Reply(w) => self.reply(&mut world, w),
            Action::Timeout(w) => self.timeout(&mut world, w),
            Action::Resolve(w) => self.resolve(&mut world, w),
            Action::GiveUp(w) => world.writers[w].phase = Phase::Idle,
            Action::Refresh(w) => self.refresh(&mut world, w),
            Action::Crash(w) => {
                world.crashes -= 1;
                world.writers[w].phase = Phase::Closed;
                world.writers[w].fresh = false;
                world.writers[w].history.clear();
            }
            Action::Open(w, head) => self.open(&mut world, w, head),
            Action::Rival => {
                let base = world.visible();
                if world.rivals == 0 || base.len() >= self.slots {
                    return None;
                }
                let (slot, batch) = (base.len(), (RIVAL, world.rivals));
                world.slots[slot] = Some(Entry { batch, base });
                world.rivals -= 1;
            }
            Action::Index => {
                let entry = world.slot(world.indexed.len() + 1)?.clone();
                let mut log = world.indexed.clone();
                if !world.apply(self.rules, &mut log, &entry) {
                    return None;
                }
                world.indexed = log;
            }
            Action::Grace => {
                world.collectable = world.indexed.len();
                world.writers.iter_mut().for_each(|w| w.fresh = false);
            }
            Action::Collect(seq) => {
                if seq == world.newest() {
                    return None;
                }
                world.slots[seq - 1] = None;
            }
        }
        self.forget_what_no_longer_matters(&mut world);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always(NO_FORK, |_, world: &World| !world.forked)];
        if self.overwrites == 0 {
            // A store that replaces entries loses data whatever we do; we only refuse to go on.
            properties.extend([
                Property::always(NO_BATCH_TWICE, |_, world: &World| {
                    let mut log = world.visible();
                    log.sort_unstable();
                    log.windows(2).all(|w| w[0] != w[1])
                }),
                Property::always(CONTIGUOUS, |_, world: &World| world.newest() <= world.visible().len()),
                Property::always(ACKED_IS_VISIBLE, |_, world: &World| {
                    let log = world.visible();
                    world.acked.iter().all(|b| log.iter().filter(|v| *v == b).count() == 1)
                }),
            ]);
        }
        if self.expect_progress() {
            properties.push(Property::sometimes(ALL_ACKED, |model: &Protocol, world: &World| {
                world.acked.len() == model.batches.iter().map(|n| usize::from(*n)).sum::<usize>()
            }));
            properties.push(Property::sometimes(NAME_USED_AGAIN, |_, world: &World| {
                let found = |seq: usize, batch: &Batch| world.slot(seq).is_some_and(|e| e.batch != *batch);
                world.indexed.iter().enumerate().any(|(i, batch)| found(i + 1, batch))
            }));
        }
        if self.overwrites > 0 && self.rules.chain {
            properties.push(Property::sometimes(ALARM, |_, world: &World| {
                world.writers.iter().any(|w| w.phase == Phase::ReadOnly)
            }));
        }
        properties
    }
}
