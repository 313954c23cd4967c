//! Seedable randomness.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A shared random generator. Clones draw from the same sequence.
#[derive(Clone)]
pub struct Rng {
    /// Protects the generator's state only; held for one draw.
    state: Arc<Mutex<StdRng>>,
}

impl Rng {
    /// Seeded from the operating system.
    #[allow(clippy::disallowed_methods, reason = "the one place that may")]
    pub fn from_os() -> Self {
        Self::with(StdRng::from_rng(&mut rand::rng()))
    }

    /// Seeded by the caller: the same seed gives the same draws.
    pub fn seeded(seed: u64) -> Self {
        Self::with(StdRng::seed_from_u64(seed))
    }

    fn with(state: StdRng) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn draw<T>(&self, f: impl FnOnce(&mut StdRng) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// 128 random bits, for identities.
    pub fn u128(&self) -> u128 {
        self.draw(|r| r.random())
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        self.draw(|r| r.random())
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.draw(|r| r.random_range(0..bound))
    }

    /// A duration between half of `base` and one and a half of it.
    pub fn jitter(&self, base: Duration) -> Duration {
        base.mul_f64(0.5 + self.draw(|r| r.random::<f64>()))
    }

    /// A version 4 UUID.
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.u128().to_le_bytes()).into_uuid()
    }

    /// A ULID made at `wall_ms`.
    pub fn ulid(&self, wall_ms: u64) -> ulid::Ulid {
        ulid::Ulid::from_parts(wall_ms, self.u128())
    }
}
