//! Making room: in full tables, what the running mirror session does not speak of gives way to what it tells;
//! where no port is free, or no slot of the table, connections that are over, or that no client completes, give way to
//! new ones.

use holdfast_base::{Duration, Instant};
use holdfast_wire::Endpoint;

use crate::engine::Engine;
use crate::flow::tcp::TcpState;
use crate::flow::{Flow, FlowState, Side};
use crate::mirror::MirrorEnd;
use crate::open::destination_of;
use crate::record::{FlowKey, L2Disc};
use crate::select::persistence::SessionKey;
use crate::snat::Destination;

/// Slots looked at to find one stale flow or persistence session, well below a millisecond;
/// the search goes on there next time, in the next session if need be.
const MAX_EVICTION_LOOKS: u32 = 65_536;

/// Ports looked at, per SNIP and client packet, or slots of the table, to find a connection that gives way: some
/// microseconds.
const MAX_LOOKS: u32 = 64;

/// So long nothing must have been heard of a connection that gives way to a new one. Of a half-open one its server has
/// repeated the SYN-ACK by then (after a second), which renews the time, and a client that lives has answered again;
/// of one that is over an end that lacks the last acknowledgement has repeated its FIN.
const PATIENCE: Duration = Duration::from_millis(1500);

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

    /// All ports towards a server are leased: a connection that is over, else one that no client has completed, gives
    /// its port, the oldest first, so that a flood of SYNs cannot stop new connections. The source that is free
    /// now, leased again; `None` if the search has found none, which goes on there next time.
    ///
    /// A server that closed first keeps what is over for longer than this node does (TIME_WAIT), whether the port is
    /// given away here or at the end of the lingering. It takes a SYN that is ahead of what it remembers at once; any
    /// other it answers as of old, the new client resets that, and its next SYN, a second later, is taken.
    pub(crate) fn evict_for_port(&mut self, now: Instant, server: Endpoint, proto: u8) -> Option<Endpoint> {
        let slot = self.port_that_gives_way(now, server, proto)?;
        let flow = *self.flows.at(slot);
        self.give_way(slot);
        self.snat.lease_exactly(destination_of(&flow), flow.source.port).ok()?;
        Some(flow.source)
    }

    /// The table is full: a connection that is over, or that no client has completed, makes room, so that a flood of
    /// SYNs cannot stop new connections. False: a few looks have found none, and the next ones go on there.
    pub(crate) fn evict_for_place(&mut self, now: Instant) -> bool {
        let slots = self.flows.slots();
        for _ in 0..MAX_LOOKS.min(slots) {
            let slot = self.room_hunt % slots;
            self.room_hunt = slot + 1;
            if self.flows.live_at(slot).is_some_and(|flow| gives_way(now, flow)) {
                self.give_way(slot);
                return true;
            }
        }
        false
    }

    /// The first that is over, among a few ports in turn; else the first half-open one, and the search goes on behind it.
    fn port_that_gives_way(&mut self, now: Instant, server: Endpoint, proto: u8) -> Option<u32> {
        for snip in self.network.snips_for(server.addr) {
            let destination = Destination { snip, server, proto };
            let mut half_open = None;
            for _ in 0..MAX_LOOKS {
                let Some(port) = self.snat.next_in_turn(destination) else { break };
                let key = FlowKey { proto, l2: L2Disc(0), src: server, dst: Endpoint { addr: snip, port } };
                let Some((slot, Side::Server)) = self.flows.find(&key) else { continue };
                let flow = self.flows.at(slot);
                if gives_way(now, flow) && !flow.is_half_open() {
                    return Some(slot);
                }
                if gives_way(now, flow) {
                    half_open = half_open.or(Some((slot, port)));
                }
            }
            if let Some((slot, port)) = half_open {
                self.snat.go_on_behind(destination, port);
                return Some(slot);
            }
        }
        None
    }

    fn give_way(&mut self, slot: u32) {
        match self.flows.at(slot).is_half_open() {
            true => self.counters.half_open_evicted += 1,
            false => self.counters.lingering_evicted += 1,
        }
        self.close(slot);
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

/// Whether a new connection may have its place: nobody has completed it, or both FINs are acknowledged, and no packet
/// of it has come for a while. One that was reset stays, for it may live yet; it goes soon enough.
fn gives_way(now: Instant, flow: &Flow) -> bool {
    let is_over = flow.state == FlowState::Tcp(TcpState::Closed);
    (flow.is_half_open() || is_over) && now.since(flow.last_seen) >= PATIENCE
}
