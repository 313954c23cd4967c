//! Slots of a node that organizations share: one of them cannot keep the others out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::base::{Tenant, Turns};

/// Slots that are given by turns: who waits for many of them does not stand before who waits for one.
pub(super) struct FairSlots {
    /// Held to take or give back one slot.
    state: Mutex<SlotState>,
}

struct SlotState {
    free: usize,
    /// Not empty only while `free` is 0.
    waiting: Turns<oneshot::Sender<FairPermit>>,
}

/// One slot; free again when it is dropped.
pub(super) struct FairPermit {
    slots: Option<Arc<FairSlots>>,
}

impl FairSlots {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(SlotState {
                free: count,
                waiting: Turns::default(),
            }),
        })
    }

    /// Waits for a slot. Dropping the future gives up its place.
    pub async fn acquire(self: &Arc<Self>, tenant: Tenant) -> FairPermit {
        let turn = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return self.permit();
            }
            // Whoever gave up meanwhile need not be remembered.
            state.waiting.retain(|waiter| !waiter.is_closed());
            let (sender, turn) = oneshot::channel();
            state.waiting.push(tenant, sender);
            turn
        };
        turn.await.expect("a waiter is forgotten only after it gave up")
    }

    fn permit(self: &Arc<Self>) -> FairPermit {
        FairPermit {
            slots: Some(self.clone()),
        }
    }

    fn give_back(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let Some(next) = state.waiting.pop() else {
                    state.free += 1;
                    return;
                };
                next
            };
            match next.send(self.permit()) {
                Ok(()) => return,
                // It gave up: the slot goes to the next one.
                Err(mut permit) => permit.slots = None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            slots.give_back();
        }
    }
}

/// Places that are given at once or not at all. A quarter of them is kept for organizations that have less than
/// half.
pub(super) struct FairPlaces {
    count: usize,
    /// Who has how many. Held to take or give back one.
    taken: Mutex<HashMap<Tenant, usize>>,
}

/// One place; free again when it is dropped.
pub(super) struct Place {
    places: Arc<FairPlaces>,
    tenant: Tenant,
}

impl FairPlaces {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            count,
            taken: Mutex::default(),
        })
    }

    /// A place; `None` when there is none for this organization now.
    pub fn take(self: &Arc<Self>, tenant: Tenant) -> Option<Place> {
        let mut taken = self.taken();
        let free = self.count.saturating_sub(taken.values().sum());
        let own = taken.get(&tenant).copied().unwrap_or(0);
        let kept = if own < self.count / 2 { 0 } else { self.count / 4 };
        (free > kept).then(|| {
            *taken.entry(tenant).or_default() += 1;
            Place {
                places: self.clone(),
                tenant,
            }
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Tenant, usize>> {
        self.taken.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn slots_go_round_among_those_who_wait() {
        let slots = FairSlots::new(2);
        let (a, b) = (Tenant::named("a"), Tenant::named("b"));
        let mut held = vec![slots.acquire(a).await, slots.acquire(a).await];
        let mut flood: Vec<_> = (0..10).map(|_| Box::pin(slots.acquire(a))).collect();
        assert!(flood.iter_mut().all(|f| f.now_or_never().is_none()));
        let mut one = Box::pin(slots.acquire(b));
        assert!((&mut one).now_or_never().is_none());
        drop(held.pop());
        let first = (&mut flood[0]).now_or_never().expect("it came first");
        drop(held.pop());
        let other = (&mut one)
            .now_or_never()
            .expect("its turn comes after one of the flood");
        assert!((&mut flood[1]).now_or_never().is_none());
        // Those who give up are passed over, and no slot is lost.
        flood.drain(1..9);
        drop(first);
        let last = (&mut flood[1]).now_or_never().expect("the only one left");
        drop((other, last));
        assert_eq!(slots.state().free, 2);
    }

    #[tokio::test]
    async fn a_slot_given_to_a_dropped_future_is_given_on() {
        let slots = FairSlots::new(1);
        let a = Tenant::named("a");
        let held = slots.acquire(a).await;
        let mut waiting = Box::pin(slots.acquire(a));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        drop(waiting);
        assert_eq!(slots.state().free, 1);
    }

    #[test]
    fn a_quarter_of_the_places_is_kept_for_others() {
        let places = FairPlaces::new(64);
        let (a, b) = (Tenant::named("a"), Tenant::named("b"));
        let mine: Vec<_> = std::iter::from_fn(|| places.take(a)).collect();
        assert_eq!(mine.len(), 48);
        let theirs: Vec<_> = std::iter::from_fn(|| places.take(b)).collect();
        assert_eq!(theirs.len(), 16);
        drop((mine, theirs));
        assert!(places.taken().is_empty());
    }
}
