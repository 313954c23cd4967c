//! When a namespace is flushed: a pure function of its tail.

use std::time::Duration;

use super::UpkeepOptions;
use crate::namespace::Dirty;

/// What is known of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    pub entries: u64,
    pub bytes: u64,
    /// Since its first entry was written.
    pub age: Duration,
    /// Since its last one was seen.
    pub quiet: Duration,
    /// Since the last flush began; `None` without one.
    pub since_flush: Option<Duration>,
}

impl Tail {
    /// What the entries themselves say.
    ///
    /// * `since_flush` — since the last flush began
    pub fn of(dirty: &Dirty, since_flush: Option<Duration>) -> Self {
        Self {
            entries: dirty.entries(),
            bytes: dirty.unindexed_bytes,
            age: dirty.age,
            quiet: dirty.quiet,
            since_flush,
        }
    }
}

/// How long to wait before it is flushed.
pub fn due_in(tail: &Tail, options: &UpkeepOptions) -> Duration {
    let is_large = tail.bytes > options.flush_bytes || tail.entries > options.flush_entries;
    let (wait, pause) = if is_large {
        (Duration::ZERO, options.flush_pause)
    } else if tail.bytes > options.small_bytes {
        (options.flush_age.saturating_sub(tail.age), options.flush_pause)
    } else if tail.entries >= options.small_entries {
        (Duration::ZERO, options.small_pause)
    } else {
        let quiet = options.small_quiet.saturating_sub(tail.quiet);
        (
            quiet.min(options.small_age.saturating_sub(tail.age)),
            options.small_pause,
        )
    };
    let rest = tail
        .since_flush
        .map_or(Duration::ZERO, |since| pause.saturating_sub(since));
    wait.max(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_goes_first_and_what_is_small_waits_for_quiet() {
        let options = UpkeepOptions::default();
        let seconds = Duration::from_secs;
        let tail = |entries, bytes, age, quiet, since: Option<u64>| Tail {
            entries,
            bytes,
            age: seconds(age),
            quiet: seconds(quiet),
            since_flush: since.map(seconds),
        };
        for (tail, due) in [
            (tail(1, 100, 0, 0, None), 30),
            (tail(1, 100, 10, 10, None), 20),
            (tail(1, 100, 30, 30, None), 0),
            (tail(7, 100, 100, 0, None), 20),
            (tail(7, 100, 200, 0, None), 0),
            (tail(8, 100, 0, 0, None), 0),
            (tail(8, 100, 0, 0, Some(3)), 7),
            (tail(8, 100, 0, 0, Some(60)), 0),
            (tail(8, 2 << 20, 5, 0, None), 15),
            (tail(8, 2 << 20, 25, 0, Some(1)), 1),
            (tail(65, 2 << 20, 0, 0, None), 0),
            (tail(65, 2 << 20, 0, 0, Some(0)), 2),
            (tail(1, 9 << 20, 0, 0, None), 0),
        ] {
            assert_eq!(due_in(&tail, &options), seconds(due), "{tail:?}");
        }
    }
}
