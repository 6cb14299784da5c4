//! The process's one clock.

use holdfast_base::Instant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CLOCK_MONOTONIC, counted from the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    unix_nanos_at_origin: u64,
}

impl Clock {
    /// A clock that starts at zero.
    pub fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix_nanos_at_origin = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Clock { origin: std::time::Instant::now(), unix_nanos_at_origin }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Unix time of the origin in nanoseconds.
    pub fn unix_nanos_at_origin(&self) -> u64 {
        self.unix_nanos_at_origin
    }
}
