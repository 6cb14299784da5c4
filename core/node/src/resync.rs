//! What is told about the mirror stream: the latest transfer, and the traffic.

use core::time::Duration;

use holdfast_base::Instant;

/// Shortest span over which traffic is measured.
const RATE_SPAN: Duration = Duration::from_secs(1);

/// A transfer of the whole state, as either end sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resync {
    /// Its mirror session.
    pub session: u32,
    /// When it began.
    pub began: Instant,
    /// Holds that had ended without an acknowledgement when it began.
    pub released_before: u64,
    /// Flow records written or read before it, and by its end.
    records: (u64, Option<u64>),
    /// When both nodes had the same, and how many flows that were.
    ended: Option<(Instant, u64)>,
}

impl Resync {
    /// A session begins; `records` flow records were written or read before.
    pub fn new(now: Instant, session: u32, records: u64) -> Resync {
        Resync { session, began: now, released_before: 0, records: (records, None), ended: None }
    }

    /// Both nodes have the same `flows`; counts once.
    pub fn end(&mut self, now: Instant, flows: u64, records: u64) {
        if self.ended.is_none() {
            self.ended = Some((now, flows));
            self.records.1 = Some(records);
        }
    }

    /// How long it took, if it has ended.
    pub fn took(&self) -> Option<Duration> {
        self.ended.map(|(at, _)| at.since(self.began))
    }

    /// Flows at its end, or `flows` while it runs.
    pub fn flows(&self, flows: u64) -> u64 {
        self.ended.map_or(flows, |(_, flows)| flows)
    }

    /// Flow records that it took; `records` is their number so far.
    pub fn told(&self, records: u64) -> u64 {
        let (before, after) = self.records;
        after.unwrap_or(records).saturating_sub(before)
    }
}

/// Measures traffic from a growing count of bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    since: Option<(Instant, u64)>,
    per_second: u64,
}

impl Rate {
    /// Whether [`Rate::note`] would measure anything.
    pub fn is_due(&self, now: Instant) -> bool {
        self.since.is_none_or(|(at, _)| now.since(at) >= RATE_SPAN)
    }

    /// Takes note of the count; call it now and then, also when nothing has come.
    pub fn note(&mut self, now: Instant, bytes: u64) {
        let Some((at, before)) = self.since else {
            self.since = Some((now, bytes));
            return;
        };
        let span = now.since(at);
        if span >= RATE_SPAN {
            let nanos = span.as_nanos().max(1);
            let per_second = u128::from(bytes.saturating_sub(before)) * 1_000_000_000 / nanos;
            self.per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
            self.since = Some((now, bytes));
        }
    }

    /// Bytes per second in the latest span.
    pub fn per_second(&self) -> u64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_measured_over_a_second_and_falls_to_nothing() {
        let start = Instant::ZERO;
        let mut rate = Rate::default();
        rate.note(start, 100);
        rate.note(start + Duration::from_millis(999), 5_000);
        assert_eq!(rate.per_second(), 0);
        rate.note(start + Duration::from_secs(2), 20_100);
        assert_eq!(rate.per_second(), 10_000);
        rate.note(start + Duration::from_secs(3), 20_100);
        assert_eq!(rate.per_second(), 0);
    }

    #[test]
    fn a_transfer_ends_once() {
        let start = Instant::ZERO;
        let mut resync = Resync::new(start, 3, 100);
        assert_eq!((resync.took(), resync.flows(7), resync.told(150)), (None, 7, 50));
        resync.end(start + Duration::from_millis(5), 60, 160);
        resync.end(start + Duration::from_millis(9), 90, 900);
        assert_eq!((resync.took(), resync.flows(7), resync.told(999)), (Some(Duration::from_millis(5)), 60, 60));
    }
}
