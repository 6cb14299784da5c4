//! The market's counters of `stat HA node`: an operator may let them begin anew, and heartbeats have a rate.

use holdfast_base::Instant;

use crate::node::Node;
use crate::resync::Rate;

/// Values of the counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HaCounts {
    /// Hellos received and accepted.
    pub received: u64,
    /// Hellos sent.
    pub sent: u64,
    /// Changes that the peer did not confirm in time.
    pub timeouts: u64,
    /// Synchronisations that failed since the latest change of role.
    pub sync_failures: u64,
}

/// What they count from, and how fast hellos come and go.
#[derive(Debug, Default)]
pub(crate) struct HaCounters {
    base: HaCounts,
    received: Rate,
    sent: Rate,
}

impl HaCounters {
    /// Hellos received and sent, per second.
    pub fn rates(&self) -> (u64, u64) {
        (self.received.per_second(), self.sent.per_second())
    }
}

impl Node {
    fn counted(&self) -> HaCounts {
        let status = self.ha.status();
        HaCounts {
            received: status.hellos_received,
            sent: status.hellos_sent,
            timeouts: self.propagations.timeouts(),
            sync_failures: self.mirroring.failures() + self.sync.failures(),
        }
    }

    /// The counters as an operator sees them.
    pub(crate) fn ha_counts(&self) -> HaCounts {
        let (all, base) = (self.counted(), self.ha_counters.base);
        HaCounts {
            received: all.received.saturating_sub(base.received),
            sent: all.sent.saturating_sub(base.sent),
            timeouts: all.timeouts.saturating_sub(base.timeouts),
            sync_failures: all.sync_failures.saturating_sub(base.sync_failures),
        }
    }

    /// `stat HA node -clearstats`.
    pub(crate) fn clear_ha_counters(&mut self) {
        self.ha_counters.base = self.counted();
    }

    /// Failures of synchronisation are counted since the latest change of role, as in the market.
    pub(crate) fn forget_sync_failures(&mut self) {
        self.ha_counters.base.sync_failures = self.counted().sync_failures;
    }

    /// Measures how fast hellos come and go; cheap when nothing is due.
    pub(crate) fn measure_hellos(&mut self, now: Instant) {
        if self.ha_counters.received.is_due(now) {
            let HaCounts { received, sent, .. } = self.counted();
            self.ha_counters.received.note(now, received);
            self.ha_counters.sent.note(now, sent);
        }
    }
}
