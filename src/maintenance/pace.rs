//! How fast merges go.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A limit on bytes per second that all merges of a node share.
pub struct Pace {
    /// 0 for no limit.
    bytes_per_second: u64,
    /// Protects the moment at which what was taken is paid for; held to move it.
    paid: Mutex<Option<Instant>>,
}

impl Pace {
    /// * `bytes_per_second` — 0 for no limit
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            paid: Mutex::new(None),
        }
    }

    /// Waits until so many bytes may be moved.
    pub async fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let start = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = now();
            let start = paid.map_or(now, |paid| paid.max(now));
            *paid = Some(start + cost);
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

/// Tokio's clock, which a simulation pauses: only differences of it are used.
#[allow(clippy::disallowed_methods, reason = "sleeps are on Tokio's clock")]
fn now() -> Instant {
    Instant::now()
}
