//! Making room: in full tables, what the running mirror session does not speak of gives way to what it tells;
//! where no port is free, or no slot of the table, connections that no client completes give way to new ones.

use holdfast_base::{Duration, Instant};
use holdfast_wire::Endpoint;

use crate::engine::Engine;
use crate::flow::{Flow, Side};
use crate::mirror::MirrorEnd;
use crate::open::destination_of;
use crate::record::{FlowKey, L2Disc};
use crate::select::persistence::SessionKey;
use crate::snat::Destination;

/// Slots looked at to find one stale flow or persistence session, well below a millisecond;
/// the search goes on there next time, in the next session if need be.
const MAX_EVICTION_LOOKS: u32 = 65_536;

/// Ports looked at, per SNIP and client packet, or slots of the table, to find a connection that no client has completed: some
/// microseconds.
const MAX_HALF_OPEN_LOOKS: u32 = 64;

/// The table is full: so long nothing must have been heard of a half-open connection that makes room. By then its server
/// has repeated its SYN-ACK (after a second), which renews the time, and a client that lives has answered again.
const HALF_OPEN_PATIENCE: Duration = Duration::from_millis(1500);

/// A search for something that may be evicted, which goes on where it was left off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hunt {
    next: u32,
    /// How many looks in a row have found nothing.
    vain: u32,
}

impl Hunt {
    /// Something was found, or another session begins: a whole round may be of use again.
    pub(crate) fn anew(self) -> Hunt {
        Hunt { vain: 0, ..self }
    }

    /// The next slot to look at; `None` when all of them were looked at in vain.
    fn look(&mut self, slots: u32) -> Option<u32> {
        if self.vain >= slots {
            return None;
        }
        let slot = self.next % slots;
        (self.next, self.vain) = (slot + 1, self.vain + 1);
        Some(slot)
    }
}

impl Engine {
    /// Makes room in a full table: a flow that the running session has not spoken
    /// of gives way to one that it does.
    pub(crate) fn evict_stale(&mut self) {
        if !matches!(self.session.end, MirrorEnd::Receiving(_)) {
            return;
        }
        let mut undecided = None;
        for _ in 0..self.flows.slots().min(MAX_EVICTION_LOOKS) {
            let Some(slot) = self.session.flow_hunt.look(self.flows.slots()) else { break };
            let Some(flow) = self.flows.live_at(slot).filter(|flow| !self.is_in_session(flow)) else { continue };
            if !self.is_told(flow) || !self.buckets.is_open(flow.bucket) {
                return self.evict(slot);
            }
            undecided = undecided.or(Some(slot));
        }
        if let Some(slot) = undecided {
            // The primary may be about to leave it out as kept.
            self.buckets.spoil(self.flows.at(slot).bucket);
            self.evict(slot);
        }
    }

    /// All ports towards a server are leased: a connection that no client has completed makes
    /// room, the oldest first, so that a flood of SYNs cannot stop new connections. The source that is free
    /// now, leased again; `None` if the search has found none, which goes on there next time.
    pub(crate) fn evict_half_open(&mut self, server: Endpoint, proto: u8) -> Option<Endpoint> {
        let slot = self.half_open_towards(server, proto)?;
        let flow = *self.flows.at(slot);
        self.close(slot);
        self.counters.half_open_evicted += 1;
        self.snat.lease_exactly(destination_of(&flow), flow.source.port).ok()?;
        Some(flow.source)
    }

    /// The table is full: a connection that no client has completed for a while makes room, so that a flood of SYNs
    /// cannot stop new connections. False: a few looks have found none, and the next ones go on there.
    pub(crate) fn evict_any_half_open(&mut self, now: Instant) -> bool {
        let slots = self.flows.slots();
        for _ in 0..MAX_HALF_OPEN_LOOKS.min(slots) {
            let slot = self.half_open_hunt % slots;
            self.half_open_hunt = slot + 1;
            let waits = |flow: &Flow| flow.is_half_open() && now.since(flow.last_seen) >= HALF_OPEN_PATIENCE;
            if self.flows.live_at(slot).is_some_and(waits) {
                self.close(slot);
                self.counters.half_open_evicted += 1;
                return true;
            }
        }
        false
    }

    fn half_open_towards(&mut self, server: Endpoint, proto: u8) -> Option<u32> {
        for snip in self.network.snips_for(server.addr) {
            for _ in 0..MAX_HALF_OPEN_LOOKS {
                let Some(port) = self.snat.next_in_turn(Destination { snip, server, proto }) else { break };
                let key = FlowKey { proto, l2: L2Disc(0), src: server, dst: Endpoint { addr: snip, port } };
                if let Some((slot, Side::Server)) = self.flows.find(&key)
                    && self.flows.at(slot).is_half_open()
                {
                    return Some(slot);
                }
            }
        }
        None
    }

    fn evict(&mut self, slot: u32) {
        let flow = self.flows.at(slot);
        self.counters.aside_evicted += u64::from(self.is_aside(flow) && self.is_mirrored(flow));
        self.close(slot);
        self.session.flow_hunt = self.session.flow_hunt.anew();
        self.counters.stale_evicted += 1;
    }

    /// Stores a persistence session that the peer told of (server, stamp, serial of the
    /// mirror session). Where the table is full one of which it has not spoken makes room, or
    /// one that is only inferred. False: there is no room.
    pub(crate) fn store_told(&mut self, now: Instant, key: SessionKey, told: (Endpoint, u64, u32)) -> bool {
        let (server, stamp, serial) = told;
        self.sessions.store(now, key, server, stamp, serial)
            || self.evict_stale_session() && self.sessions.store(now, key, server, stamp, serial)
    }

    fn evict_stale_session(&mut self) -> bool {
        if !matches!(self.session.end, MirrorEnd::Receiving(_)) {
            return false;
        }
        for _ in 0..self.sessions.slots().min(MAX_EVICTION_LOOKS) {
            let Some(slot) = self.session.persistence_hunt.look(self.sessions.slots()) else { return false };
            if self.sessions.may_give_way(slot, self.session.serial) {
                self.sessions.free_slot(slot);
                self.session.persistence_hunt = self.session.persistence_hunt.anew();
                self.counters.stale_evicted += 1;
                return true;
            }
        }
        false
    }
}
