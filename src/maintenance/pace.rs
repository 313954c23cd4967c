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

#[cfg(test)]
mod tests {
    use super::*;

    async fn took(f: impl Future<Output = ()>) -> u64 {
        let start = now();
        f.await;
        start.elapsed().as_millis() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn all_share_the_bytes_of_a_second_and_save_none_up() {
        let pace = Pace::new(1_000);
        assert_eq!(took(pace.take(500)).await, 0, "what is taken is paid for afterwards");
        assert_eq!(took(pace.take(2_000)).await, 500);
        let all = async {
            tokio::join!(pace.take(100), pace.take(200), pace.take(300));
        };
        assert_eq!(took(all).await, 2_300, "the last one waits for those before it");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(took(pace.take(1_000)).await, 0);
        assert_eq!(took(pace.take(1)).await, 1_000, "a minute of rest is not made up for");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let pace = Pace::new(0);
        assert_eq!(
            took(async {
                for _ in 0..10 {
                    pace.take(u64::MAX).await
                }
            })
            .await,
            0
        );
    }
}
