//! A manifest that could not be taken over, so that it is not tried again at every look.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::state::Trouble;
use crate::model::Gen;

/// The first and the longest wait before the same manifest is tried again. It may be read by then: an operator has put
/// back what was missing, or what is in use here was wrong.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What is known of the newest manifest that was refused.
#[derive(Default)]
pub(super) struct Refused {
    /// Protects the refusal; held to read or replace it.
    last: Mutex<Option<Refusal>>,
}

#[derive(Clone)]
struct Refusal {
    generation: Gen,
    why: Trouble,
    times: u32,
    /// On the clock that never goes back.
    not_before: Duration,
}

impl Refused {
    fn last(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.last.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Why this manifest is not to be tried now; `None` when it may be.
    pub fn get(&self, generation: Gen, now: Duration) -> Option<Trouble> {
        let last = self.last();
        let refusal = last
            .as_ref()
            .filter(|r| r.generation == generation && now < r.not_before)?;
        Some(refusal.why.clone())
    }

    /// Whether the newest manifest that is known was refused and is not to be tried now.
    pub fn waits(&self, now: Duration) -> bool {
        self.last().as_ref().is_some_and(|r| now < r.not_before)
    }

    /// Notes that a manifest could not be taken over. Not if another try may well succeed: when the store was not
    /// reached, or this node knows too little.
    pub fn note(&self, generation: Gen, why: &Trouble, now: Duration) {
        if !matches!(why, Trouble::Damaged(_) | Trouble::Newer(_) | Trouble::Failed(_)) {
            return;
        }
        let mut last = self.last();
        let times = match &*last {
            Some(known) if known.generation > generation => return,
            // Two tried at the same time: that is one refusal.
            Some(known) if known.generation == generation && now < known.not_before => return,
            Some(known) if known.generation == generation => known.times.saturating_add(1),
            _ => 0,
        };
        let wait = WAIT.0.saturating_mul(1 << times.min(16)).min(WAIT.1);
        *last = Some(Refusal {
            generation,
            why: why.clone(),
            times,
            not_before: now.saturating_add(wait),
        });
    }

    /// Notes that a manifest was taken over.
    pub fn forget(&self, upto: Gen) {
        let mut last = self.last();
        if last.as_ref().is_some_and(|r| r.generation <= upto) {
            *last = None;
        }
    }
}
