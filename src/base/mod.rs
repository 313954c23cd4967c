//! What every other module may use: clocks, seeded randomness, task spawning, the CPU pool, the
//! memory ledger, bitsets, agendas, seals, whose work a task does. Knows nothing of databases.
//!
//! # What stays true
//!
//! - Time, randomness and tasks come only from here (`clippy.toml` bans the direct calls), so a
//!   simulated run replays from its seed.

pub mod agenda;
pub mod bitset;
pub mod clock;
pub mod coding;
pub mod context;
#[cfg(test)]
pub mod counted;
pub mod cpu;
pub mod memory;
pub mod rng;
pub mod seal;
pub mod spawn;
pub mod turns;
#[cfg(test)]
pub(crate) mod varied;

pub use agenda::Agenda;
pub use bitset::Bitset;
pub use clock::{Clock, SystemClock, TokioClock};
pub use context::Tenant;
pub use cpu::{CpuPool, Priority, is_abandoned};
pub use memory::{Charge, Ledger, MemoryShare};
pub use rng::Rng;
pub use spawn::{Spawner, TokioSpawner};
pub use turns::Turns;

use std::sync::Arc;

/// The seams through which a node meets the outside world, handed down from `main` or from the
/// simulator.
#[derive(Clone)]
pub struct Runtime {
    pub clock: Arc<dyn Clock>,
    pub rng: Rng,
    pub spawner: Arc<dyn Spawner>,
    pub cpu: CpuPool,
    pub memory: Ledger,
}

#[cfg(test)]
impl Runtime {
    /// Everything on this thread, with memory for whatever tests do.
    pub(crate) fn of_tests(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            clock,
            rng: Rng::seeded(seed),
            spawner: Arc::new(TokioSpawner::default()),
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, 1 << 30),
        }
    }
}
