//! Two readings of time, real and simulated.

use std::time::Duration;

/// Where time comes from.
///
/// Every implementation must guarantee that `boot` never goes backwards and counts time during
/// which the process or the machine was suspended. `wall` may jump either way.
pub trait Clock: Send + Sync + 'static {
    /// Time since the Unix epoch.
    fn wall(&self) -> Duration;
    /// Time since an arbitrary start, suspended time included.
    fn boot(&self) -> Duration;
}

/// Wall time in whole milliseconds since the Unix epoch.
pub fn wall_ms(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.wall().as_millis()).unwrap_or(u64::MAX)
}

/// The machine's clocks: `CLOCK_REALTIME` and `CLOCK_BOOTTIME`.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

fn read(id: rustix::time::ClockId) -> Duration {
    let t = rustix::time::clock_gettime(id);
    Duration::new(
        u64::try_from(t.tv_sec).unwrap_or(0),
        u32::try_from(t.tv_nsec).unwrap_or(0),
    )
}

impl Clock for SystemClock {
    fn wall(&self) -> Duration {
        read(rustix::time::ClockId::Realtime)
    }

    fn boot(&self) -> Duration {
        // Monotonic time stands still while a virtual machine is suspended; the staleness rule of
        // the log (docs/design/0003-log.md) needs the suspended time too.
        #[cfg(target_os = "linux")]
        return read(rustix::time::ClockId::Boottime);
        #[cfg(not(target_os = "linux"))]
        return read(rustix::time::ClockId::Monotonic);
    }
}

/// A clock that follows Tokio's (possibly paused) clock, for simulation.
#[derive(Debug, Clone)]
pub struct TokioClock {
    start: tokio::time::Instant,
    wall_at_start: Duration,
}

impl TokioClock {
    /// Starts at `wall_at_start` since the Unix epoch. Must be called inside a Tokio runtime.
    pub fn new(wall_at_start: Duration) -> Self {
        Self {
            start: tokio::time::Instant::now(),
            wall_at_start,
        }
    }
}

impl Clock for TokioClock {
    fn wall(&self) -> Duration {
        self.wall_at_start + self.boot()
    }

    fn boot(&self) -> Duration {
        self.start.elapsed()
    }
}
