//! A packet of a known flow: its transition, its hold, its way out.

use holdfast_base::Instant;
use holdfast_wire::build::ErrorReport;
use holdfast_wire::{Addr, Checksum, Fragment, IpPacket, MacAddr, Rewrite, Tcp, Transport, apply, rewrite, set_macs};

use crate::engine::{Engine, Gate, Mirroring};
use crate::flow::tcp::{Segment, Step, TcpState, step};
use crate::flow::tcp_seen::{Doubt, note, resumed};
use crate::flow::{Flow, FlowState, Hop, NONE, Side};
use crate::frame::{Frame, Offload, OwnedFrame, Port, PortId};
use crate::network::{Resolution, is_link_local};
use crate::path::{Arrival, Passage};
use crate::verdict::{Drop, Verdict};

/// How the next hop of a packet is reached.
enum Way {
    /// Out of this port to this Ethernet address.
    Ready(Port, MacAddr),
    /// It has been asked for its Ethernet address.
    Asked(Addr),
    /// There is no route.
    None,
}

impl Engine {
    /// Moves the flow in `slot` on by a packet of `side`.
    pub(crate) fn advance(&mut self, now: Instant, slot: u32, side: Side, packet: &IpPacket) -> Passage {
        self.bind(slot);
        let segment = match (self.flows.at(slot).state, &packet.transport) {
            (FlowState::Tcp(state), Transport::Tcp(tcp)) => match self.advance_tcp(now, slot, side, state, tcp) {
                Ok(segment) => Some(segment),
                Err(passage) => return passage,
            },
            (FlowState::Tcp(_) | FlowState::Datagram | FlowState::Free, _) => None,
        };
        let flow = self.flows.at_mut(slot);
        flow.last_seen = now;
        flow.set(Flow::UNTOUCHED, false);
        self.passage(slot, side, segment, packet)
    }

    /// Moves a TCP flow on; names the segment, or says what else becomes of it.
    fn advance_tcp(
        &mut self,
        now: Instant,
        slot: u32,
        side: Side,
        state: TcpState,
        tcp: &Tcp,
    ) -> Result<Segment, Passage> {
        let flags = tcp.flags;
        let Some(segment) = Segment::from_flags(flags.fin(), flags.syn(), flags.rst(), flags.ack()) else {
            return Err(Passage::Refuse(Drop::TcpInvalid));
        };
        let seen = note(self.flows.at_mut(slot), state, side, segment, tcp);
        if seen.state != state {
            self.set_tcp_state(now, slot, seen.state);
        }
        // The end that gets it decides; a forged one must not end the flow.
        self.counters.resets_doubted += u64::from(seen.doubt == Doubt::Reset);
        self.counters.fins_doubted += u64::from(seen.doubt == Doubt::Fin);
        if let Doubt::Reset | Doubt::Syn = seen.doubt {
            return Ok(seen.segment);
        }
        match step(seen.state, side, seen.segment) {
            Step::Stay => {}
            Step::Move(next) => {
                let lives = seen.state == TcpState::Reset;
                let next = if lives { resumed(self.flows.at(slot)) } else { next };
                self.set_tcp_state(now, slot, next);
            }
            Step::Reopen => return Err(Passage::Reopen),
            Step::Invalid => return Err(Passage::Refuse(Drop::TcpInvalid)),
        }
        Ok(seen.segment)
    }

    /// Whether the packet may leave: behind a hold it waits, and the packet
    /// that makes an end believe begins one.
    fn passage(&mut self, slot: u32, side: Side, segment: Option<Segment>, packet: &IpPacket) -> Passage {
        let flow = self.flows.at(slot);
        if flow.hold != NONE {
            let syn_seen = flow.state == FlowState::Tcp(TcpState::SynSeen);
            return match (self.holds.get(flow.hold).side == side, segment) {
                // Whoever sent it repeats it. The server's answer must not overtake a SYN with data.
                (_, Some(Segment::SynAck)) => Passage::Refuse(Drop::HoldDuplicate),
                (true, Some(Segment::Syn)) if syn_seen => Passage::Refuse(Drop::HoldDuplicate),
                (false, _) => Passage::Go,
                (true, _) => Passage::Hold,
            };
        }
        let believes = match flow.state {
            FlowState::Tcp(TcpState::SynSeen) => side == Side::Client && packet.tcp().is_some_and(is_fast_open),
            FlowState::Tcp(state) => state == TcpState::Opening || state.is_established(),
            FlowState::Datagram => true,
            FlowState::Free => false,
        };
        // Both ends have believed in one that closes for long: nothing waits.
        let closes = flow.state == FlowState::Tcp(TcpState::Closing);
        let waits = (believes || closes) && self.track(slot);
        if waits && !closes { Passage::Hold } else { Passage::Go }
    }

    /// Notes that a successor should know the flow, if its vserver is STATEFUL,
    /// and marks it. Answers whether the packet must wait for the peer.
    pub(crate) fn track(&mut self, slot: u32) -> bool {
        let flow = self.flows.at(slot);
        if !self.roster.is_stateful(flow.vserver) || flow.has(Flow::TRACKED) {
            return false;
        }
        self.set_tracked(slot, true);
        if self.is_protected(self.flows.at(slot)) {
            return false;
        }
        self.mark(slot);
        matches!(self.mirroring, Mirroring::On { strict: true, .. })
    }

    /// Sends the packet on in the caller's buffer.
    pub(crate) fn forward(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, slot: u32, side: Side) -> Verdict {
        let way = self.way(now, slot, side);
        match way {
            // No unreachable: the way may be back in a moment (a cable, a port that is opened again), and a kernel that hears
            // one gives up its connect. It asks again by itself.
            Way::None => return Verdict::Drop(Drop::NoRoute),
            Way::Ready(port, _) if exceeds(arrival.packet, &arrival.frame.offload, port.mtu) => {
                let mtu = u32::from(port.mtu);
                return self.refuse(now, arrival, ErrorReport::TooBig { mtu }, Drop::TooBig);
            }
            Way::Ready(..) | Way::Asked(_) => {}
        }
        if !self.edit(arrival, slot, side) {
            return Verdict::Drop(Drop::Malformed);
        }
        let verdict = self.leave(arrival.frame, way);
        // The fragments that follow a first one ask the flow where to go.
        let is_whole = arrival.packet.fragment == Fragment::None;
        let is_over = is_whole && side == Side::Server && self.ends_with_answer(slot);
        match verdict {
            Verdict::Forward(_) | Verdict::Consumed if is_over => self.close(slot),
            Verdict::Forward(_) => self.offer_to_fast_path(now, slot),
            Verdict::Consumed | Verdict::ForHost | Verdict::Drop(_) => {}
        }
        verdict
    }

    /// Whether the flow is over once its server has answered (*close on response*), and nothing of it waits.
    pub(crate) fn ends_with_answer(&self, slot: u32) -> bool {
        let flow = self.flows.at(slot);
        let wanted = || self.roster.vserver_at(flow.vserver).is_some_and(|row| row.one_answer);
        flow.state == FlowState::Datagram && flow.hold == NONE && wanted()
    }

    /// Keeps a copy of the packet, ready to leave, until the peer knows the flow.
    pub(crate) fn hold(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, slot: u32, side: Side) -> Verdict {
        let hold = self.flows.at(slot).hold;
        if !self.holds.has_room(hold) {
            if hold == NONE {
                // The next packet of its kind tries again.
                self.set_tracked(slot, false);
            }
            return Verdict::Drop(Drop::HoldQueueFull);
        }
        if !self.edit(arrival, slot, side) {
            return Verdict::Drop(Drop::Malformed);
        }
        let kept = self.copy_of(arrival.frame);
        self.counters.held += 1;
        self.prepare(now, slot, side);
        if hold == NONE {
            let flow = self.flows.reference(slot);
            let deadline = now + self.limits.hold_limit;
            self.flows.at_mut(slot).hold = self.holds.begin(flow, side, kept, deadline);
        } else {
            self.holds.queue(hold, kept).expect("room was checked");
        }
        Verdict::Consumed
    }

    /// Ends the hold of a flow, if it has one: its packets leave in order.
    pub(crate) fn release(&mut self, now: Instant, slot: u32) -> bool {
        let hold = core::mem::replace(&mut self.flows.at_mut(slot).hold, NONE);
        if hold == NONE {
            return false;
        }
        let ended = self.holds.end(hold);
        for frame in ended.frames {
            self.send(now, slot, ended.side, frame);
        }
        true
    }

    /// Routes a packet that is nobody's here.
    pub(crate) fn route(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        let packet = arrival.packet;
        if !self.roster.plan().l3_mode || packet.dst.0[0] == 0xff || is_v4_group(packet.dst) {
            return Verdict::Drop(Drop::NoRoute);
        }
        // RFC 4291 section 2.5.6, RFC 3927 section 2.7: nobody forwards these.
        if is_link_local(packet.src) || is_link_local(packet.dst) {
            return Verdict::Drop(Drop::NoRoute);
        }
        if packet.ttl <= 1 {
            return self.refuse(now, arrival, ErrorReport::TimeExceeded, Drop::TtlExceeded);
        }
        let way = self.way_to(now, packet.dst);
        match way {
            Way::None => return self.refuse(now, arrival, ErrorReport::NetUnreachable, Drop::NoRoute),
            Way::Ready(port, _) if exceeds(packet, &arrival.frame.offload, port.mtu) => {
                let mtu = u32::from(port.mtu);
                return self.refuse(now, arrival, ErrorReport::TooBig { mtu }, Drop::TooBig);
            }
            Way::Ready(..) | Way::Asked(_) => {}
        }
        let unchanged = Rewrite { src: packet.source(), dst: packet.destination(), decrement_ttl: true };
        if !apply(arrival.frame.bytes, &rewrite(packet, &unchanged), checksum_of(&arrival.frame.offload)) {
            return Verdict::Drop(Drop::Malformed);
        }
        self.leave(arrival.frame, way)
    }

    /// Sends an edited frame of a flow that left the caller's buffer. Behind a
    /// closed gate it must not even wait for its neighbour: it would leave at the
    /// next promotion, long after its flow.
    pub(crate) fn send(&mut self, now: Instant, slot: u32, side: Side, mut frame: OwnedFrame) {
        if self.gate == Gate::Closed {
            self.counters.drop(Drop::GateClosed);
            return self.out.recycle(frame.bytes);
        }
        let way = self.way(now, slot, side);
        let reason = match way {
            Way::Ready(port, _) if !frame.offload.is_gso() && frame.bytes.len() > usize::from(port.mtu) + 14 => {
                Drop::TooBig
            }
            Way::Ready(port, mac) => {
                set_macs(&mut frame.bytes, mac, port.mac);
                frame.port = port.id;
                return self.out.push(frame);
            }
            Way::Asked(next_hop) => match self.network.enqueue(next_hop, frame) {
                Ok(()) => return,
                Err(reason) => return self.counters.drop(reason),
            },
            Way::None => Drop::NoRoute,
        };
        self.counters.drop(reason);
        self.out.recycle(frame.bytes);
    }

    /// Lets an edited frame of a flow leave in the caller's buffer.
    pub(crate) fn leave_with(&mut self, now: Instant, frame: &mut Frame<'_>, slot: u32, side: Side) -> Verdict {
        let way = self.way(now, slot, side);
        self.leave(frame, way)
    }

    /// Sets the Ethernet addresses, or queues a copy until they are known.
    fn leave(&mut self, frame: &mut Frame<'_>, way: Way) -> Verdict {
        match way {
            Way::Ready(port, mac) => {
                set_macs(frame.bytes, mac, port.mac);
                Verdict::Forward(port.id)
            }
            Way::Asked(next_hop) => {
                let kept = self.copy_of(frame);
                match self.network.enqueue(next_hop, kept) {
                    Ok(()) => Verdict::Consumed,
                    Err(reason) => Verdict::Drop(reason),
                }
            }
            Way::None => Verdict::Drop(Drop::NoRoute),
        }
    }

    /// Rewrites the packet for the flow's other side and counts it.
    fn edit(&mut self, arrival: &mut Arrival<'_, '_>, slot: u32, side: Side) -> bool {
        let flow = self.flows.at(slot);
        let (src, dst) = flow.rewritten(side);
        let edits = rewrite(arrival.packet, &Rewrite { src, dst, decrement_ttl: true });
        if !apply(arrival.frame.bytes, &edits, checksum_of(&arrival.frame.offload)) {
            return false;
        }
        let (vserver, service, bytes) = (flow.vserver, flow.service, u64::from(arrival.packet.total_len));
        let asks = flow.asker(side);
        self.client_seen |= asks == Side::Client;
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            counters.traffic.add(asks, bytes);
        }
        if let Some(counters) = self.roster.service_counters(service) {
            counters.traffic.add(asks, bytes);
        }
        true
    }

    /// The way out of a flow's packet from `side`: read from the flow, or
    /// resolved and noted there, about once a second.
    fn way(&mut self, now: Instant, slot: u32, side: Side) -> Way {
        let reading = self.reading.number(now, self.network.generation());
        let flow = self.flows.at(slot);
        let hop = match side {
            Side::Client => flow.to_server,
            Side::Server => flow.to_client,
        };
        if hop.reading == reading
            && let Some(&port) = self.network.port(hop.port)
        {
            return Way::Ready(port, hop.mac);
        }
        let (_, dst) = flow.rewritten(side);
        self.refresh_session(now, slot);
        let way = self.way_to(now, dst.addr);
        if let Way::Ready(port, mac) = &way {
            let reading = self.reading.number(now, self.network.generation());
            let hop = Hop { mac: *mac, port: port.id, reading };
            let flow = self.flows.at_mut(slot);
            match side {
                Side::Client => flow.to_server = hop,
                Side::Server => flow.to_client = hop,
            }
        }
        way
    }

    /// Asks for the next hop of packets from `side` before one is on its way.
    pub(crate) fn prepare(&mut self, now: Instant, slot: u32, side: Side) {
        self.way(now, slot, side);
    }

    /// Where packets of `side` leave, if their next hop is known; it is asked for otherwise.
    pub(crate) fn ready_way(&mut self, now: Instant, slot: u32, side: Side) -> Option<(Port, MacAddr)> {
        match self.way(now, slot, side) {
            Way::Ready(port, mac) => Some((port, mac)),
            Way::Asked(_) | Way::None => None,
        }
    }

    fn way_to(&mut self, now: Instant, dst: Addr) -> Way {
        let Some(next_hop) = self.network.next_hop(dst) else { return Way::None };
        match self.network.resolve(now, next_hop, &mut self.out) {
            Resolution::Ready { port, mac } => match self.network.port(port) {
                Some(&port) => Way::Ready(port, mac),
                None => Way::None,
            },
            Resolution::Pending => Way::Asked(next_hop),
        }
    }

    fn copy_of(&mut self, frame: &Frame<'_>) -> OwnedFrame {
        OwnedFrame { port: PortId::default(), offload: frame.offload, bytes: self.out.copy_of(frame.bytes) }
    }

    /// Puts a TCP flow into another state: counters and, if its life has become
    /// shorter, its timer follow.
    fn set_tcp_state(&mut self, now: Instant, slot: u32, state: TcpState) {
        let flow = self.flows.at_mut(slot);
        let before = flow.time_out(&self.limits);
        flow.state = FlowState::Tcp(state);
        let after = flow.time_out(&self.limits);
        if after < before {
            self.flows.arm(slot, now + after);
        }
        match state {
            // If it lives after all its next packet is told, or waits, as a first one does.
            TcpState::Reset => self.set_tracked(slot, false),
            // Nobody believes in it any more: what lingers here is of no use to a successor.
            // What waited for the peer waits for nothing: no record of it will be written.
            TcpState::Closed => {
                self.release(now, slot);
                self.retract(slot);
            }
            TcpState::SynSeen
            | TcpState::Opening
            | TcpState::Established
            | TcpState::ClientFin
            | TcpState::ServerFin
            | TcpState::Closing
            | TcpState::Mirrored => {}
        }
        if state != TcpState::Established {
            self.withdraw_offload(slot);
        }
        self.count_established(slot);
    }
}

/// Whether a server may act on the segment before any handshake: a SYN with data (RFC 7413).
pub(crate) fn is_fast_open(tcp: &Tcp) -> bool {
    tcp.flags.syn() && !tcp.flags.ack() && tcp.payload_len > 0
}

/// Whether the packet, or each segment of a super-packet, is longer than `mtu`.
fn exceeds(packet: &IpPacket, offload: &Offload, mtu: u16) -> bool {
    if !offload.is_gso() {
        return packet.total_len > u32::from(mtu);
    }
    let transport = match packet.transport {
        Transport::Tcp(tcp) => u32::from(tcp.header_len),
        Transport::Udp(_)
        | Transport::Echo(_)
        | Transport::IcmpError(_)
        | Transport::NeighbourSolicitation(_)
        | Transport::NeighbourAdvertisement(_)
        | Transport::OtherIcmp { .. }
        | Transport::Other
        | Transport::None => 8,
    };
    u32::from(packet.l4 - packet.l3) + transport + u32::from(offload.segment_size) > u32::from(mtu)
}

/// What stands in the frame's layer-4 checksum field.
pub(crate) fn checksum_of(offload: &Offload) -> Checksum {
    if offload.is_partial() { Checksum::Partial } else { Checksum::Complete }
}

fn is_v4_group(addr: Addr) -> bool {
    addr.is_v4() && addr.v4_bytes()[0] >= 224
}
