//! Packets that are about a flow this node does not have, and fragments and
//! ICMP errors, which name their flow in their own way.

use holdfast_base::Instant;
use holdfast_wire::build::{self, Link};
use holdfast_wire::{Endpoint, Fragment, IcmpError, Transport};

use crate::complain::error_side;
use crate::engine::{Engine, Gate};
use crate::flow::tcp::TcpState;
use crate::flow::{Flow, FlowState, NONE, Side};
use crate::fragment::{FragmentKey, FragmentStep};
use crate::frame::{Frame, Offload, OwnedFrame};
use crate::icmp;
use crate::open::{Opening, Whose, first_state};
use crate::passage::checksum_of;
use crate::path::Arrival;
use crate::plan::ConnFailover;
use crate::record::{FlowRef, L2Disc};
use crate::roster::Bound;
use crate::verdict::{Drop, Verdict};

/// Which end sent a stray packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StrayEnd {
    /// A client of this vserver (place in the plan).
    Client(usize),
    /// A USIP server of this vserver.
    Server(Bound),
}

/// Where the later fragments of a packet go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Train {
    /// With this flow; this end sends them.
    Flow(FlowRef, Side),
    /// They are routed.
    Routed,
}

impl Engine {
    /// A mid-stream packet, or a server's datagram, without a flow: the
    /// vserver's failover setting decides.
    pub(crate) fn stray_packet(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, end: StrayEnd) -> Verdict {
        let plan = self.roster.plan().clone();
        let vserver = match end {
            StrayEnd::Client(place) | StrayEnd::Server(Bound { vserver: place, .. }) => &plan.vservers[place],
        };
        if !vserver.enabled {
            return Verdict::Drop(Drop::VserverDisabled);
        }
        if arrival.packet.tcp().is_some_and(|tcp| tcp.flags.rst()) {
            return Verdict::Drop(Drop::StraySilent);
        }
        let from_server = matches!(end, StrayEnd::Server(_));
        match vserver.failover {
            ConnFailover::Disabled | ConnFailover::Stateless
                if from_server && self.may_be_offered(now, arrival.packet.source(), arrival.packet.proto) =>
            {
                Verdict::Drop(Drop::StraySilent)
            }
            ConnFailover::Disabled => self.reset_sender(now, arrival),
            ConnFailover::Stateful if self.is_in_grace(now) => Verdict::Drop(Drop::StraySilent),
            ConnFailover::Stateful => self.reset_sender(now, arrival),
            ConnFailover::Stateless => self.rebuild(now, arrival, end),
        }
    }

    /// A packet to a VIP at a port of no vserver: a data connection of an FTP vserver has such ports.
    pub(crate) fn stray_data(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        let opens = arrival.packet.tcp().is_none_or(|tcp| tcp.flags.syn());
        match self.ftp_vserver_at(arrival.packet.dst) {
            Some(place) if !opens => self.stray_packet(now, arrival, StrayEnd::Client(place)),
            Some(_) | None => Verdict::Drop(Drop::NoVserver),
        }
    }

    /// A packet to a SNIP without a flow.
    pub(crate) fn stray_to_snip(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        let Some(tcp) = arrival.packet.tcp() else { return Verdict::Drop(Drop::NoVserver) };
        if tcp.flags.rst() {
            return Verdict::Drop(Drop::StraySilent);
        }
        let plan = self.roster.plan();
        let in_grace = self.is_in_grace(now);
        let (server, proto) = (arrival.packet.source(), arrival.packet.proto);
        let bound = || self.roster.bound_to(server, proto).chain(self.roster.ftp_bound_to(server.addr));
        let resets = bound().any(|bound| match plan.vservers[bound.vserver].failover {
            ConnFailover::Disabled | ConnFailover::Stateless => {
                !self.may_be_offered(now, arrival.packet.source(), arrival.packet.proto)
            }
            ConnFailover::Stateful => !in_grace,
        });
        let known = bound().next().is_some();
        match (resets, known) {
            (true, _) => self.reset_sender(now, arrival),
            (false, true) => Verdict::Drop(Drop::StraySilent),
            (false, false) => Verdict::Drop(Drop::NoVserver),
        }
    }

    /// A connection that a USIP server of a STATELESS vserver on any port opens
    /// on its own: it passes with its addresses as they are. Without an entry
    /// its later packets would be taken for a client's.
    pub(crate) fn servers_own(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, bound: Bound) -> Verdict {
        let plan = self.roster.plan().clone();
        let (vserver, service) = (&plan.vservers[bound.vserver], &plan.services[bound.service]);
        if vserver.failover != ConnFailover::Stateless || service.server.port != 0 {
            return self.route(now, arrival);
        }
        let (server, world) = (arrival.packet.source(), arrival.packet.destination());
        let opening = Opening {
            proto: arrival.packet.proto,
            client: world,
            vip: server,
            server,
            source: world,
            vserver: NONE,
            service: NONE,
            client_idle: vserver.client_idle,
            server_idle: service.server_idle,
            state: FlowState::Datagram,
            flags: Flow::PASS_THROUGH,
        };
        match self.open(now, &opening) {
            Ok(slot) => self.forward(now, arrival, slot, Side::Server),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Answers a segment with the reset that its sender accepts.
    fn reset_sender(&mut self, now: Instant, arrival: &Arrival<'_, '_>) -> Verdict {
        let packet = arrival.packet;
        let (Some(reset), Some(port)) = (build::reset_for(packet), self.network.port(arrival.frame.port)) else {
            return Verdict::Drop(Drop::StraySilent);
        };
        if arrival.ethernet.src.is_group() {
            return Verdict::Drop(Drop::Malformed);
        }
        if !self.errors.allow(now) {
            return Verdict::Drop(Drop::RateLimited);
        }
        let mut bytes = self.out.buffer();
        bytes.resize(build::MAX_REPLY, 0);
        let link = Link::answer(arrival.ethernet, port.mac);
        let len = build::tcp_reset(&mut bytes, link, packet.destination(), packet.source(), reset);
        bytes.truncate(len);
        self.out.push(OwnedFrame { port: port.id, offload: Offload::default(), bytes });
        self.counters.resets_sent += 1;
        Verdict::Drop(Drop::StrayReset)
    }

    /// STATELESS: the flow is made again from one of its packets.
    fn rebuild(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, end: StrayEnd) -> Verdict {
        let (opened, side) = match end {
            StrayEnd::Client(vserver) => {
                (self.open_for_client(now, arrival.packet, vserver, TcpState::Established), Side::Client)
            }
            StrayEnd::Server(bound) => (self.open_for_server(now, arrival, bound), Side::Server),
        };
        match opened {
            Ok(slot) => {
                self.counters.flows_rebuilt += 1;
                self.count_established(slot);
                self.forward(now, arrival, slot, side)
            }
            Err(Drop::StrayReset) => self.reset_sender(now, arrival),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The flow of a USIP server's packet: bound to its sender.
    fn open_for_server(&mut self, now: Instant, arrival: &Arrival<'_, '_>, bound: Bound) -> Result<u32, Drop> {
        let plan = self.roster.plan().clone();
        let (vserver, service) = (&plan.vservers[bound.vserver], &plan.services[bound.service]);
        let (server, client) = (arrival.packet.source(), arrival.packet.destination());
        let port = if vserver.port == 0 { server.port } else { vserver.port };
        let vip = Endpoint { addr: vserver.addr, port };
        let same_family = vip.addr.is_v4() == client.addr.is_v4();
        if vip.addr == holdfast_wire::Addr::UNSPECIFIED || !same_family {
            return Err(Drop::NoVserver);
        }
        let opening = Opening {
            proto: arrival.packet.proto,
            client,
            vip,
            server,
            source: client,
            vserver: self.roster.vserver_row(vserver.id),
            service: self.roster.service_row(service.id),
            client_idle: vserver.client_idle,
            server_idle: service.server_idle,
            state: first_state(arrival.packet.proto, TcpState::Established),
            flags: 0,
        };
        self.open(now, &opening)
    }

    /// The first fragment of a packet: it goes its way as any packet, and the
    /// later ones follow it.
    pub(crate) fn first_fragment(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, id: u32) -> Verdict {
        let key = fragment_key(arrival, id);
        let flow_key = arrival.key();
        let verdict = self.transport(now, arrival);
        if matches!(verdict, Verdict::Drop(_) | Verdict::ForHost) {
            return verdict;
        }
        let train = match self.flows.find(&flow_key) {
            Some((slot, side)) => Train::Flow(self.flows.reference(slot), side),
            None => Train::Routed,
        };
        self.lead(now, key, train);
        verdict
    }

    /// Later fragments of `key` follow `train` from here on, those that came
    /// too early at once.
    fn lead(&mut self, now: Instant, key: FragmentKey, train: Train) {
        for mut frame in self.fragments.first(now, key, train) {
            self.follow_late(now, &mut frame, train);
            self.out.recycle(frame.bytes);
        }
    }

    /// A later fragment: follows the first one.
    pub(crate) fn later_fragment(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, id: u32) -> Verdict {
        if self.network.is_host(arrival.packet.dst) {
            return Verdict::ForHost;
        }
        match self.fragments.later(now, fragment_key(arrival, id), arrival.frame) {
            FragmentStep::Follow(train) => self.follow(now, arrival, train),
            FragmentStep::Queued => Verdict::Consumed,
            FragmentStep::Drop => Verdict::Drop(Drop::Fragment),
        }
    }

    fn follow(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, train: Train) -> Verdict {
        match train {
            Train::Routed => self.route(now, arrival),
            Train::Flow(..) if arrival.packet.ttl <= 1 => Verdict::Drop(Drop::TtlExceeded),
            Train::Flow(flow, side) => match self.flows.slot_of(flow) {
                None => Verdict::Drop(Drop::Fragment),
                Some(slot) if self.waits(slot, side) => self.hold(now, arrival, slot, side),
                Some(slot) => self.forward(now, arrival, slot, side),
            },
        }
    }

    /// Sends a fragment that came before the first one.
    fn follow_late(&mut self, now: Instant, frame: &mut OwnedFrame, train: Train) {
        let mut borrowed = Frame { port: frame.port, offload: frame.offload, bytes: &mut frame.bytes };
        let Ok((ethernet, holdfast_wire::Parsed::Ip(packet))) = holdfast_wire::parse(&*borrowed.bytes) else {
            return;
        };
        let mut arrival = Arrival { frame: &mut borrowed, ethernet: &ethernet, packet: &packet };
        match self.follow(now, &mut arrival, train) {
            Verdict::Forward(port) => {
                let bytes = self.out.copy_of(&frame.bytes);
                self.out.push(OwnedFrame { port, offload: frame.offload, bytes });
            }
            Verdict::Drop(reason) => self.counters.drop(reason),
            Verdict::Consumed | Verdict::ForHost => {}
        }
    }

    fn waits(&self, slot: u32, side: Side) -> bool {
        let hold = self.flows.at(slot).hold;
        hold != NONE && self.holds.get(hold).side == side
    }

    /// An ICMP error: about a flow's packet it goes to the other end, as that
    /// end knows the flow; else it is routed, or about nothing of ours.
    pub(crate) fn icmp_error(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, error: &IcmpError) -> Verdict {
        let partial = arrival.frame.offload.is_partial();
        if !partial && !holdfast_wire::icmp_checksum_ok(arrival.frame.bytes, arrival.packet) {
            return Verdict::Drop(Drop::BadChecksum);
        }
        let found = icmp::key_of_quoted(arrival.packet, L2Disc(0)).and_then(|key| self.flows.find(&key));
        let Some((slot, side)) = found else { return self.unrelated_error(now, arrival, error) };
        if arrival.packet.ttl <= 1 {
            return Verdict::Drop(Drop::TtlExceeded);
        }
        if !icmp::translate_error(arrival.frame, arrival.packet, &self.ends(slot), error_side(side)) {
            return Verdict::Drop(Drop::Malformed);
        }
        self.leave_with(now, arrival.frame, slot, side)
    }

    fn unrelated_error(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, error: &IcmpError) -> Verdict {
        let ours = |addr| self.network.floating(addr).is_some();
        if ours(arrival.packet.dst) || ours(error.inner.src.addr) {
            return Verdict::Drop(Drop::IcmpUnrelated);
        }
        if self.network.is_host(arrival.packet.dst) {
            return Verdict::ForHost;
        }
        if self.gate == Gate::Draining {
            return Verdict::Drop(Drop::Draining);
        }
        self.route(now, arrival)
    }

    /// Echo, other ICMP and other protocols: answered, the host's, or routed.
    pub(crate) fn other_packet(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        if self.gate == Gate::Draining {
            return Verdict::Drop(Drop::Draining);
        }
        let floating = self.network.floating(arrival.packet.dst).is_some();
        match (arrival.packet.transport, arrival.packet.fragment) {
            (Transport::Echo(echo), Fragment::None) if floating && echo.request => {
                let source = arrival.packet.src;
                if !source.is_single_host() || self.network.floating(source).is_some() {
                    return Verdict::Drop(Drop::Unserved);
                }
                let complete = checksum_of(&arrival.frame.offload) == holdfast_wire::Checksum::Complete;
                if complete && !holdfast_wire::icmp_checksum_ok(arrival.frame.bytes, arrival.packet) {
                    return Verdict::Drop(Drop::BadChecksum);
                }
                icmp::answer_echo(&self.network, arrival.frame, arrival.packet)
            }
            (_, fragment) => match self.whose(arrival.packet) {
                Whose::Host => Verdict::ForHost,
                _ if floating => Verdict::Drop(Drop::Unserved),
                Whose::World | Whose::Vserver(_) | Whose::ServerOf(_) => {
                    let verdict = self.route(now, arrival);
                    if let Fragment::First { id } = fragment {
                        self.lead(now, fragment_key(arrival, id), Train::Routed);
                    }
                    verdict
                }
                Whose::Snip | Whose::Nobody => Verdict::Drop(Drop::Unserved),
            },
        }
    }
}

fn fragment_key(arrival: &Arrival<'_, '_>, id: u32) -> FragmentKey {
    let packet = arrival.packet;
    FragmentKey { src: packet.src, dst: packet.dst, proto: packet.proto, id }
}
