//! Doors by which tests make a copy wrong on purpose. No packet comes by here.

use holdfast_base::Instant;

use crate::engine::Engine;
use crate::mirror::MirrorEnd;
use crate::record::Applied;

impl Engine {
    /// Loses a flow, for tests of what then happens: one that the running session
    /// has spoken of. False if there is none.
    pub fn lose_a_flow(&mut self) -> bool {
        let found = self.told_flow();
        if let Some(slot) = found {
            self.close(slot);
        }
        found.is_some()
    }

    /// Changes the server of a mirrored flow, for tests of what then happens: as if
    /// an older state of it had been the last one to arrive. False if there is none.
    pub fn bend_a_flow(&mut self, now: Instant) -> bool {
        let session = match self.session.end {
            MirrorEnd::Receiving(session) => session,
            MirrorEnd::Sending | MirrorEnd::Idle => return false,
        };
        let Some(slot) = self.told_flow() else { return false };
        let mut record = self.flows.at(slot).record();
        record.server.port ^= 1;
        record.stamp = record.stamp.saturating_sub(1).max(1);
        self.close(slot);
        match self.merge(now, &record, session) {
            Applied::Stored | Applied::Refreshed => true,
            Applied::Older(_) | Applied::Full => false,
        }
    }

    /// The oldest flow that the running session has spoken of: a young one may be over before
    /// anybody can notice what was done to it.
    fn told_flow(&self) -> Option<u32> {
        let told = |&slot: &u32| self.flows.live_at(slot).is_some_and(|flow| self.is_in_session(flow));
        (0..self.flows.slots()).filter(told).min_by_key(|&slot| self.flows.at(slot).stamp)
    }
}
