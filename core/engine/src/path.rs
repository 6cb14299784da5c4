//! The story of a packet, phase by phase. No arithmetic here: each phase is
//! one call that answers with an enum.
//!
//! gate → parse → for us? → flow known? →
//!   yes: `next_packet`: transition → hold? → rewrite → out
//!   no:  whose? → SYN or datagram: `first_packet`: may it → where → as whom → open → out
//!                 else: `stray_packet`: reset, rebuild, or silence
//!                 nobody's: route

use holdfast_base::Instant;
use holdfast_wire::build::ErrorReport;
use holdfast_wire::{Ethernet, Fragment, IpPacket, Parsed, Transport, ipv4_checksum_ok, parse};

use crate::engine::{Engine, Gate};
use crate::flow::tcp::{Segment, TcpState};
use crate::flow::{Flow, Side};
use crate::frame::Frame;
use crate::open::Whose;
use crate::record::{FlowKey, L2Disc};
use crate::stray::StrayEnd;
use crate::verdict::{Drop, Verdict};

/// A received packet with its frame.
pub(crate) struct Arrival<'a, 'f> {
    /// The frame, in the driver's buffer.
    pub(crate) frame: &'a mut Frame<'f>,
    /// Its Ethernet header.
    pub(crate) ethernet: &'a Ethernet,
    /// Its IP packet.
    pub(crate) packet: &'a IpPacket,
}

impl Arrival<'_, '_> {
    /// How the packet names its flow.
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey { proto: self.packet.proto, l2: L2Disc(0), src: self.packet.source(), dst: self.packet.destination() }
    }
}

/// What the transition table and the mirror say about a flow's packet.
pub(crate) enum Passage {
    /// Forward it.
    Go,
    /// Keep it until the peer has acknowledged the flow.
    Hold,
    /// The old flow is over; this packet opens another one.
    Reopen,
    /// Drop it.
    Refuse(Drop),
}

impl Engine {
    /// The way of a frame through this node.
    pub(crate) fn walk(&mut self, now: Instant, frame: &mut Frame<'_>) -> Verdict {
        if self.gate == Gate::Closed {
            return Verdict::Drop(Drop::GateClosed);
        }
        let Ok((ethernet, parsed)) = parse(&*frame.bytes) else {
            return Verdict::Drop(Drop::Malformed);
        };
        if ethernet.vlan.is_some_and(|vlan| vlan != 0) {
            return Verdict::Drop(Drop::Unserved);
        }
        match parsed {
            Parsed::Arp(arp) => self.arp(now, frame.port, &arp),
            Parsed::Ip(packet) => self.packet(now, &mut Arrival { frame, ethernet: &ethernet, packet: &packet }),
            Parsed::Other => Verdict::Drop(Drop::Unserved),
        }
    }

    fn packet(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        let packet = arrival.packet;
        if let Transport::NeighbourSolicitation(_) | Transport::NeighbourAdvertisement(_) = packet.transport {
            return self.neighbour_discovery(now, arrival);
        }
        if !self.network.is_own_mac(arrival.ethernet.dst) {
            return Verdict::Drop(Drop::NotForUs);
        }
        if !ipv4_checksum_ok(&*arrival.frame.bytes, packet) {
            return Verdict::Drop(Drop::BadChecksum);
        }
        match (packet.transport, packet.fragment) {
            (_, Fragment::Later { id }) => self.later_fragment(now, arrival, id),
            (Transport::Tcp(_) | Transport::Udp(_), Fragment::None) => self.transport(now, arrival),
            (Transport::Tcp(_) | Transport::Udp(_), Fragment::First { id }) => self.first_fragment(now, arrival, id),
            (Transport::IcmpError(error), Fragment::None | Fragment::First { .. }) => {
                self.icmp_error(now, arrival, &error)
            }
            (
                Transport::Echo(_)
                | Transport::NeighbourSolicitation(_)
                | Transport::NeighbourAdvertisement(_)
                | Transport::OtherIcmp { .. }
                | Transport::Other
                | Transport::None,
                Fragment::None | Fragment::First { .. },
            ) => self.other_packet(now, arrival),
        }
    }

    /// TCP and UDP.
    pub(crate) fn transport(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        match self.flows.find(&arrival.key()) {
            Some((slot, side)) => self.next_packet(now, arrival, slot, side),
            None => self.unknown_packet(now, arrival),
        }
    }

    /// A packet of a known flow.
    fn next_packet(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, slot: u32, side: Side) -> Verdict {
        if arrival.packet.ttl <= 1 {
            return self.refuse(now, arrival, ErrorReport::TimeExceeded, Drop::TtlExceeded);
        }
        if self.flows.at(slot).has(Flow::CONTROL) {
            return self.control_packet(now, arrival, slot, side);
        }
        match self.advance(now, slot, side, arrival.packet) {
            Passage::Go => self.forward(now, arrival, slot, side),
            Passage::Hold => self.hold(now, arrival, slot, side),
            Passage::Refuse(reason) => Verdict::Drop(reason),
            Passage::Reopen => {
                if self.gate == Gate::Draining {
                    return Verdict::Drop(Drop::Draining);
                }
                self.close(slot);
                self.unknown_packet(now, arrival)
            }
        }
    }

    /// A packet of no flow.
    pub(crate) fn unknown_packet(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        let opens = match arrival.packet.transport {
            Transport::Tcp(tcp) => {
                let flags = tcp.flags;
                match Segment::from_flags(flags.fin(), flags.syn(), flags.rst(), flags.ack()) {
                    None => return Verdict::Drop(Drop::TcpInvalid),
                    Some(segment) => segment == Segment::Syn,
                }
            }
            Transport::Udp(_)
            | Transport::Echo(_)
            | Transport::IcmpError(_)
            | Transport::NeighbourSolicitation(_)
            | Transport::NeighbourAdvertisement(_)
            | Transport::OtherIcmp { .. }
            | Transport::Other
            | Transport::None => true,
        };
        if opens && let Some(expected) = self.expectation_of(arrival.packet) {
            return self.expected_packet(now, arrival, expected);
        }
        match self.whose(arrival.packet) {
            Whose::Host => Verdict::ForHost,
            _ if self.gate == Gate::Draining => Verdict::Drop(Drop::Draining),
            Whose::Vserver(vserver) if opens => self.first_packet(now, arrival, vserver),
            Whose::Vserver(vserver) => self.stray_packet(now, arrival, StrayEnd::Client(vserver)),
            Whose::ServerOf(bound) if opens && arrival.packet.tcp().is_some() => self.servers_own(now, arrival, bound),
            Whose::ServerOf(bound) => self.stray_packet(now, arrival, StrayEnd::Server(bound)),
            Whose::Snip => self.stray_to_snip(now, arrival),
            Whose::Nobody => self.stray_data(now, arrival),
            Whose::World => self.route(now, arrival),
        }
    }

    /// A client's packet that may open a flow to `vserver` (place in the plan).
    fn first_packet(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, vserver: usize) -> Verdict {
        if arrival.packet.ttl <= 1 {
            return self.refuse(now, arrival, ErrorReport::TimeExceeded, Drop::TtlExceeded);
        }
        let slot = match self.open_for_client(now, arrival.packet, vserver, TcpState::SynSeen) {
            Ok(slot) => slot,
            Err(Drop::SurgeQueueFull) => return self.wait_in_surge(now, arrival),
            Err(reason) => return Verdict::Drop(reason),
        };
        self.let_first_pass(now, arrival, slot)
    }

    /// The packet that opened the flow in `slot` goes its way.
    pub(crate) fn let_first_pass(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, slot: u32) -> Verdict {
        // The answer need not wait for the client's Ethernet address then.
        self.prepare(now, slot, Side::Server);
        match self.opened(slot, arrival.packet) {
            Passage::Go => self.forward(now, arrival, slot, Side::Client),
            Passage::Hold => self.hold(now, arrival, slot, Side::Client),
            Passage::Reopen => unreachable!("a new flow is not over"),
            Passage::Refuse(reason) => Verdict::Drop(reason),
        }
    }
}
