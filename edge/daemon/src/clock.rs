//! The process's one clock.

use holdfast_base::Instant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CLOCK_BOOTTIME, counted from the start of the process. It runs on while the
/// machine is suspended: a lease must end then, too.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin_nanos: u64,
    unix_nanos_at_origin: u64,
}

impl Clock {
    /// A clock that starts at zero.
    pub fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix_nanos_at_origin = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Clock { origin_nanos: boot_nanos(), unix_nanos_at_origin }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(boot_nanos().saturating_sub(self.origin_nanos))
    }

    /// CLOCK_BOOTTIME at the origin in nanoseconds.
    pub fn origin_nanos(&self) -> u64 {
        self.origin_nanos
    }

    /// Unix time of the origin in nanoseconds.
    pub fn unix_nanos_at_origin(&self) -> u64 {
        self.unix_nanos_at_origin
    }
}

/// Nanoseconds since the machine was switched on, suspended time included.
fn boot_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a writable timespec. The clock exists since Linux 2.6.39.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    assert_eq!(rc, 0, "CLOCK_BOOTTIME can be read");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
