//! Data connections that were announced: what leads to them, and the flows that they become.

use holdfast_base::{Duration, Instant};
use holdfast_wire::build::ErrorReport;
use holdfast_wire::{Addr, Endpoint, IpPacket, proto};

use super::control::{Control, Expected, MAX_EXPECTED, parent_of, parent_tail};
use super::ftp::{self, Mention, Style};
use super::shift::Change;
use crate::engine::{Engine, Gate};
use crate::flow::tcp::TcpState;
use crate::flow::{Flow, FlowState, Side};
use crate::open::{Opening, first_state};
use crate::path::Arrival;
use crate::record::{FlowKey, L2Disc};
use crate::snat::{Destination, LeaseError};
use crate::verdict::{Drop, Verdict};

/// Other ports that are tried for a passive data connection whose own number is taken at the VIP.
const PORTS_TRIED: u16 = 64;
/// The lowest port at which a client may say that it listens (RFC 2577 section 3).
const FIRST_CLIENT_PORT: u16 = 1024;

/// Who expects a packet: where it must go, and who must send it.
pub(crate) type Doorstep = (Endpoint, Addr);

impl Engine {
    /// Notes a data connection of which a control connection speaks, and what shall be said in its place. False: that
    /// cannot be said before the receiver has acknowledged more, which stands at `acked`.
    pub(crate) fn announce_data(
        &mut self,
        slot: u32,
        side: Side,
        (seq, mention): (u32, Mention),
        acked: Option<u32>,
    ) -> bool {
        let said = self.controls.get(&slot).is_some_and(|control| control.shift(side).at(seq).is_some());
        let Ok(len) = u8::try_from(mention.len) else { return true };
        if said {
            return true;
        }
        if !self.has_room_for_tail(slot) {
            // A successor could not know it.
            self.counters.ftp_unannounced += 1;
            return true;
        }
        if !self.controls.get(&slot).is_some_and(|control| control.shift(side).has_room(acked)) {
            return false;
        }
        let flow = *self.flows.at(slot);
        let listens = match side {
            Side::Server => self.expect_passive(slot, &flow, &mention),
            Side::Client => self.expect_active(slot, &flow, &mention),
        };
        let Some(listens) = listens else {
            self.counters.ftp_unannounced += 1;
            return true;
        };
        let change = Change { at: seq, len, text: ftp::write(mention.style, listens) };
        self.controls.get_mut(&slot).is_some_and(|control| control.shift_mut(side).add(change, acked))
    }

    /// The server listens: the client will come to the VIP.
    fn expect_passive(&mut self, slot: u32, flow: &Flow, mention: &Mention) -> Option<Endpoint> {
        if mention.style == Style::Numbers && !flow.vip.addr.is_v4() {
            return None;
        }
        let port = mention.listens.port;
        let announced = self.free_port(slot, flow, port)?;
        self.expect(slot, Expected { active: false, announced, port });
        Some(Endpoint { addr: flow.vip.addr, port: announced })
    }

    /// The client listens: the server will come to the address that it knows the client by.
    fn expect_active(&mut self, slot: u32, flow: &Flow, mention: &Mention) -> Option<Endpoint> {
        let Endpoint { addr, port } = mention.listens;
        // Nobody is sent to a third host on a client's word (RFC 2577 section 3).
        if addr != flow.client.addr || port < FIRST_CLIENT_PORT {
            return None;
        }
        let announced = if flow.source == flow.client {
            port
        } else {
            self.snat.lease(active_lease(flow.source.addr, flow.server.addr)).ok()?
        };
        self.expect(slot, Expected { active: true, announced, port });
        Some(Endpoint { addr: flow.source.addr, port: announced })
    }

    /// The port at the VIP for a server's `port`: the same number, unless a vserver is there or another server was announced to the same client under it.
    fn free_port(&self, slot: u32, flow: &Flow, port: u16) -> Option<u16> {
        let span = u32::from(u16::MAX - FIRST_CLIENT_PORT) + 1;
        let other = |step: u16| {
            let offset = u32::from(port.wrapping_sub(FIRST_CLIENT_PORT)) + u32::from(step) * 257;
            FIRST_CLIENT_PORT + (offset % span) as u16
        };
        let is_free = |&candidate: &u16| {
            let at = Endpoint { addr: flow.vip.addr, port: candidate };
            let vserver = self.roster.vserver_for(at, proto::TCP);
            let taken = vserver.is_some_and(|place| self.roster.plan().vservers[place].port == candidate);
            let owner = self.expectations.get(&(at, flow.client.addr));
            !taken && owner.is_none_or(|owner| owner.slot == slot)
        };
        core::iter::once(port).chain((1..=PORTS_TRIED).map(other)).find(is_free)
    }

    /// Notes one; the oldest gives way if there are many.
    fn expect(&mut self, slot: u32, expected: Expected) {
        let flow = *self.flows.at(slot);
        let control = self.controls.entry(slot).or_default();
        let same = |known: &Expected| doorstep(&flow, known) == doorstep(&flow, &expected);
        let known = control.expected.iter_mut().find(|known| same(known));
        let is_new = known.is_none();
        known.into_iter().for_each(|known| known.port = expected.port);
        let oldest = (is_new && control.expected.len() >= MAX_EXPECTED).then(|| control.expected.remove(0));
        if is_new {
            control.expected.push(expected);
        }
        if let Some(oldest) = oldest {
            self.stop_expecting(slot, &oldest);
        }
        self.expectations.insert(doorstep(&flow, &expected), self.flows.reference(slot));
    }

    fn stop_expecting(&mut self, slot: u32, expected: &Expected) {
        let (flow, own) = (*self.flows.at(slot), self.flows.reference(slot));
        let key = doorstep(&flow, expected);
        // With USIP another connection of the client may expect there meanwhile.
        if self.expectations.get(&key) == Some(&own) {
            self.expectations.remove(&key);
        }
        if expected.active && flow.source != flow.client {
            self.snat.release(active_lease(flow.source.addr, flow.server.addr), expected.announced);
        }
    }

    /// The control connection that expects this packet, which belongs to no flow.
    pub(crate) fn expectation_of(&self, packet: &IpPacket) -> Option<(u32, Expected)> {
        if self.expectations.is_empty() || packet.tcp().is_none() {
            return None;
        }
        let key = (packet.destination(), packet.src);
        let slot = self.flows.slot_of(*self.expectations.get(&key)?)?;
        let flow = self.flows.at(slot);
        let expected = self.controls.get(&slot)?.expected.iter().find(|expected| doorstep(flow, expected) == key)?;
        Some((slot, *expected))
    }

    /// Opens the flow of an expected data connection with its first packet.
    pub(crate) fn expected_packet(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_, '_>,
        (control, expected): (u32, Expected),
    ) -> Verdict {
        if self.gate == Gate::Draining {
            return Verdict::Drop(Drop::Draining);
        }
        if arrival.packet.ttl <= 1 {
            return self.refuse(now, arrival, ErrorReport::TimeExceeded, Drop::TtlExceeded);
        }
        if self.flows.len() >= self.limits.max_flows && !self.evict_for_place(now) {
            return Verdict::Drop(Drop::FlowTableFull);
        }
        let parent = *self.flows.at(control);
        let opening = match self.data_opening(&parent, &expected, arrival.packet) {
            Ok(opening) => opening,
            Err(reason) => return Verdict::Drop(reason),
        };
        match self.open(now, &opening) {
            Ok(slot) => {
                self.store_tail(slot, &parent_tail(parent.vip, parent.server));
                self.let_first_pass(now, arrival, slot)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The flow of a data connection. Whoever opens it is its client side.
    fn data_opening(&mut self, parent: &Flow, expected: &Expected, packet: &IpPacket) -> Result<Opening, Drop> {
        let (client, vip) = (packet.source(), packet.destination());
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let (server, source) = if expected.active {
            // RFC 959 section 3.2: the server's data port is the one before that of the control connection.
            let port = parent.vip.port.wrapping_sub(1).max(1);
            let listener = Endpoint { addr: parent.client.addr, port: expected.port };
            (listener, Endpoint { addr: parent.vip.addr, port })
        } else {
            let server = Endpoint { addr: parent.server.addr, port: expected.port };
            (server, if parent.source == parent.client { client } else { self.lease_towards(parent, server)? })
        };
        let leased = source != client;
        if leased && expected.active {
            self.lease_of_listener(server, source)?;
        }
        Ok(Opening {
            proto: proto::TCP,
            client,
            vip,
            server,
            source,
            vserver: parent.vserver,
            service: parent.service,
            client_idle: seconds(parent.client_idle_s),
            server_idle: seconds(parent.server_idle_s),
            state: first_state(proto::TCP, TcpState::SynSeen),
            flags: if leased { Flow::LEASED } else { 0 } | if expected.active { Flow::REVERSED } else { 0 },
        })
    }

    /// The virtual server's own port towards a client that listens. One that listens there again has had the former connection.
    fn lease_of_listener(&mut self, listener: Endpoint, source: Endpoint) -> Result<(), Drop> {
        let key = FlowKey { proto: proto::TCP, l2: L2Disc(0), src: listener, dst: source };
        if let Some((slot, _)) = self.flows.find(&key)
            && matches!(self.flows.at(slot).state, FlowState::Tcp(TcpState::Closed | TcpState::Reset))
        {
            self.close(slot);
        }
        let destination = Destination { snip: source.addr, server: listener, proto: proto::TCP };
        self.snat.lease_exactly(destination, source.port).map_err(|error| match error {
            LeaseError::Taken => Drop::UsipConflict,
            LeaseError::Exhausted => Drop::SnatExhausted,
        })
    }

    /// A port at the address by which the server knows the control connection: it may refuse another one.
    fn lease_towards(&mut self, parent: &Flow, server: Endpoint) -> Result<Endpoint, Drop> {
        let destination = Destination { snip: parent.source.addr, server, proto: proto::TCP };
        match self.snat.lease(destination) {
            Ok(port) => Ok(Endpoint { addr: parent.source.addr, port }),
            Err(_) => {
                self.counters.snat_exhausted += 1;
                Err(Drop::SnatExhausted)
            }
        }
    }

    /// What the control connection of a data connection calls, and where it goes.
    pub(crate) fn parent_ends(&self, slot: u32) -> Option<(Endpoint, Endpoint)> {
        self.tails.get(&slot).and_then(|tail| parent_of(tail))
    }

    /// Writes what is known of a control connection into the tail of its record.
    pub(crate) fn write_control_tail(&mut self, slot: u32) {
        let before = self.tails.get(&slot).map_or(&[][..], |tail| tail);
        let tail = self.controls.get(&slot).map_or_else(Vec::new, |control| control.tail(before));
        self.store_tail(slot, &tail);
    }

    /// Reads the tail that came with a record.
    pub(crate) fn adopt_tail(&mut self, slot: u32) {
        self.forget_control(slot);
        let Some(tail) = self.tails.get(&slot) else { return };
        if let Some((vip, server)) = parent_of(tail) {
            return self.count_with_parent(slot, vip, server);
        }
        let Some(mut control) = Control::of_tail(tail) else { return };
        let expected = core::mem::take(&mut control.expected);
        self.controls.insert(slot, control);
        self.flows.at_mut(slot).set(Flow::CONTROL, true);
        let flow = *self.flows.at(slot);
        for expected in expected {
            let leases = expected.active && flow.source != flow.client;
            let lease = active_lease(flow.source.addr, flow.server.addr);
            let there = !leases || self.snat.lease_exactly(lease, expected.announced).is_ok();
            if there {
                self.expect(slot, expected);
            }
        }
    }

    /// A data connection counts where its control connection does.
    fn count_with_parent(&mut self, slot: u32, vip: Endpoint, server: Endpoint) {
        let tracked = self.flows.at(slot).has(Flow::TRACKED);
        self.set_tracked(slot, false);
        self.count_close(slot);
        let rows = self.rows_of(vip, server, proto::TCP);
        let flow = self.flows.at_mut(slot);
        (flow.vserver, flow.service) = rows;
        flow.set(Flow::CONTROL, false);
        flow.set(Flow::REVERSED, flow.client.addr == server.addr);
        self.count_open(slot);
        self.set_tracked(slot, tracked);
    }

    /// Forgets what is known of a control connection; its flow is still there.
    pub(crate) fn forget_control(&mut self, slot: u32) {
        let Some(control) = self.controls.remove(&slot) else { return };
        for expected in &control.expected {
            self.stop_expecting(slot, expected);
        }
    }

    /// Whether a packet to this address that belongs to no flow may be of a data connection: the place of an FTP vserver there.
    pub(crate) fn ftp_vserver_at(&self, vip: Addr) -> Option<usize> {
        self.roster.vservers_at(vip).find(|&place| self.roster.plan().vservers[place].ftp)
    }
}

/// Where the first packet of a data connection comes, and from whom.
fn doorstep(flow: &Flow, expected: &Expected) -> Doorstep {
    let (addr, from) =
        if expected.active { (flow.source.addr, flow.server.addr) } else { (flow.vip.addr, flow.client.addr) };
    (Endpoint { addr, port: expected.announced }, from)
}

/// Whose lease the announced port of an active data connection is: the server's port is not known before it comes.
fn active_lease(snip: Addr, server: Addr) -> Destination {
    Destination { snip, server: Endpoint { addr: server, port: 0 }, proto: proto::TCP }
}
