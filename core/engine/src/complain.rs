//! What the node tells the sender of a packet that it does not deliver.

use holdfast_base::Instant;
use holdfast_wire::build::ErrorReport;

use crate::engine::Engine;
use crate::flow::Side;
use crate::icmp::{Ends, ErrorSide, Received};
use crate::path::Arrival;
use crate::verdict::{Drop, Verdict};

impl Engine {
    /// Drops a packet and tells its sender why, within the rate limit.
    pub(crate) fn refuse(
        &mut self,
        now: Instant,
        arrival: &Arrival<'_, '_>,
        report: ErrorReport,
        reason: Drop,
    ) -> Verdict {
        let received = Received {
            port: arrival.frame.port,
            bytes: &*arrival.frame.bytes,
            ethernet: arrival.ethernet,
            packet: arrival.packet,
        };
        self.errors.send(now, &self.network, &received, report, &mut self.out);
        Verdict::Drop(reason)
    }

    /// The four ends of a flow.
    pub(crate) fn ends(&self, slot: u32) -> Ends {
        let flow = self.flows.at(slot);
        Ends { client: flow.client, vip: flow.vip, server: flow.server, source: flow.source }
    }
}

/// Where an error comes from, in the words of the translation.
pub(crate) fn error_side(side: Side) -> ErrorSide {
    match side {
        Side::Client => ErrorSide::Client,
        Side::Server => ErrorSide::Server,
    }
}
