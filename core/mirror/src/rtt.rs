//! How long to wait for an acknowledgement (the estimator of RFC 6298, with
//! bounds of a local network).

use core::time::Duration;

/// Time-out before the first sample.
const INITIAL: Duration = Duration::from_millis(10);
/// No time-out is shorter: the peer's data thread may take a turn of 1 ms.
const MIN: Duration = Duration::from_millis(2);
/// No time-out is longer: a path that heals is used again at once.
const MAX: Duration = Duration::from_millis(200);
/// Doublings after which every time-out is at [`MAX`].
const MAX_BACK_OFF: u32 = 7;

/// Smoothed round-trip time, its variation, and the back-off of the timer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    /// Smoothed time and mean deviation; `None` before the first sample.
    smoothed: Option<(Duration, Duration)>,
    back_off: u32,
}

impl Rtt {
    /// The time-out of a datagram sent at this moment.
    pub(crate) fn timeout(&self) -> Duration {
        (self.base() * (1 << self.back_off)).min(MAX)
    }

    /// The time-out without back-off.
    fn base(&self) -> Duration {
        self.smoothed.map_or(INITIAL, |(srtt, var)| srtt + 4 * var).clamp(MIN, MAX)
    }

    /// The smoothed round-trip time; zero before the first sample.
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed.map_or(Duration::ZERO, |(srtt, _)| srtt)
    }

    /// Takes the round-trip time of a datagram that was sent only once.
    pub(crate) fn sample(&mut self, rtt: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (rtt, rtt / 2),
            Some((srtt, var)) => (srtt * 7 / 8 + rtt / 8, var * 3 / 4 + srtt.abs_diff(rtt) / 4),
        });
    }

    /// Everything that was stored had been sent again, and one of it first so long ago. On a path that has become
    /// slower than the time-out that is the round-trip time, and nothing else would ever tell it: all would be sent
    /// twice for ever. After a loss it is too long, so it counts for two time-outs at most.
    pub(crate) fn sample_at_most(&mut self, rtt: Duration) {
        self.sample(rtt.min(2 * self.base()));
    }

    /// Something new was stored: the back-off ends.
    pub(crate) fn progress(&mut self) {
        self.back_off = 0;
    }

    /// A time-out passed in silence: the next one is twice as long.
    pub(crate) fn back_off(&mut self) {
        self.back_off = (self.back_off + 1).min(MAX_BACK_OFF);
    }
}
