//! Protocols whose text speaks of other connections.
//!
//! On the control connection of an FTP vserver the node reads the lines that speak of data connections, writes its own
//! addresses in place of the hosts' ([`ftp`]), and keeps both ends' sequence numbers apart ([`shift`]). What it announced it
//! expects: the first packet that comes there opens a flow to the control connection's own server (or client) and to nobody
//! else. Shifts and expectations stand in the tail of the flow's record ([`control`]): the packet that
//! announces leaves when the peer has them.
//!
//! ```text
//!            client            node                          server
//! passive      ◄── 227 VIP,p ──┤◄──────── 227 server,q ────────
//!              ──  SYN VIP:p ─►├─  SYN server:q ──────────────►
//! active       ── PORT c,p ───►├─  PORT SNIP,q ───────────────►
//!              ◄─ SYN c:p ─────┤◄─ SYN SNIP:q ─────────────────     from VIP:20
//! ```
//!
//! Bytes are read in their order. A segment before its turn is dropped, and so is the beginning of an address whose end is
//! missing: its sender sends it again, and both ends agree on what was said.

pub(crate) mod control;
pub(crate) mod expect;
pub(crate) mod ftp;
pub(crate) mod shift;

use holdfast_base::Instant;
use holdfast_wire::build::{Altered, Edge, altered_segment};
use holdfast_wire::{Fragment, IpPacket, Parsed, Tcp, TcpFlags, Transport, parse};

use crate::engine::{Engine, Gate, Mirroring};
use crate::flow::tcp::TcpState;
use crate::flow::tcp_seen::is_after;
use crate::flow::{FlowState, Side};
use crate::frame::{Frame, OwnedFrame};
use crate::passage::checksum_of;
use crate::path::{Arrival, Passage};
use crate::verdict::{Drop, Verdict};
use control::{Control, Reading};

/// Room in a packet towards a way out that is not known yet: every link carries it (RFC 8200 section 5).
const LEAST_MTU: u16 = 1280;

impl Engine {
    /// A packet of an FTP control connection.
    pub(crate) fn control_packet(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_, '_>,
        slot: u32,
        side: Side,
    ) -> Verdict {
        let (Some(tcp), Fragment::None) = (arrival.packet.tcp().copied(), arrival.packet.fragment) else {
            return Verdict::Drop(Drop::Fragment);
        };
        // Nothing was said yet on either side of a SYN.
        let shifted = !tcp.flags.syn();
        let ack = if shifted { self.control(slot).shift(side.other()).acknowledged(tcp.ack) } else { tcp.ack };
        let told = Tcp { ack, ..tcp };
        match self.advance(now, slot, side, &IpPacket { transport: Transport::Tcp(told), ..*arrival.packet }) {
            Passage::Refuse(reason) => Verdict::Drop(reason),
            Passage::Reopen if self.gate == Gate::Draining => Verdict::Drop(Drop::Draining),
            Passage::Reopen => {
                self.close(slot);
                self.unknown_packet(now, arrival)
            }
            passage @ (Passage::Go | Passage::Hold) => {
                let passes = self.read_text(slot, side, &told, payload(arrival));
                let Some(passes) = passes else { return Verdict::Drop(Drop::OutOfTurn) };
                let waits = matches!(passage, Passage::Hold) || self.must_be_told(slot, side, &told, passes);
                self.pass_text(now, arrival, (slot, side), (&told, passes), waits)
            }
        }
    }

    /// What is known of a control connection. Of one that is new, or came from a peer without a word, nothing.
    fn control(&mut self, slot: u32) -> &mut Control {
        self.controls.entry(slot).or_default()
    }

    /// Reads what a segment of `side` says; its acknowledgement is that of the other end's own numbers. Answers how many
    /// bytes of it may pass; `None` if others are missing before it.
    fn read_text(&mut self, slot: u32, side: Side, tcp: &Tcp, text: &[u8]) -> Option<usize> {
        let flow = self.flows.at(slot);
        let opens = matches!(flow.state, FlowState::Tcp(TcpState::SynSeen | TcpState::Opening));
        let lives = matches!(flow.state, FlowState::Tcp(state) if state.is_established());
        // As far as both ends agree: anybody can send an acknowledgement.
        let [acked, heard] = [side, side.other()].map(|side| flow.stream(side).acked());
        if tcp.flags.syn() && opens {
            self.begin_text(slot, side, tcp);
        }
        if tcp.flags.syn() || opens {
            return Some(text.len());
        }
        let control = self.control(slot);
        if heard != 0 {
            control.reader(side.other()).catch_up(heard);
        }
        let Reading { mentions, passes } = control.reader(side).read(side, tcp.seq, text)?;
        let mut passes = passes;
        for &(seq, mention) in mentions.iter().filter(|_| lives) {
            if !self.announce_data(slot, side, (seq, mention), (acked != 0).then_some(acked)) {
                // The whole line comes again.
                let line = seq.wrapping_sub(mention.at as u32);
                let cut = if is_after(tcp.seq, line) { tcp.seq } else { line };
                self.control(slot).reader(side).go_back(cut);
                passes = cut.wrapping_sub(tcp.seq) as usize;
                break;
            }
        }
        if lives && !mentions.is_empty() {
            self.tell_again(slot);
        }
        Some(passes)
    }

    /// A connection begins, perhaps another one with the same ends: nothing is shifted.
    fn begin_text(&mut self, slot: u32, side: Side, tcp: &Tcp) {
        if side == Side::Server {
            self.forget_control(slot);
            self.store_tail(slot, &[]);
        }
        self.control(slot).reader(side).begin(tcp.seq.wrapping_add(1));
    }

    /// Whether the segment carries what the peer must know before it leaves.
    fn must_be_told(&mut self, slot: u32, side: Side, tcp: &Tcp, passes: usize) -> bool {
        let flow = self.flows.at(slot);
        let strict = matches!(self.mirroring, Mirroring::On { strict: true, .. });
        let waits =
            strict && self.roster.is_stateful(flow.vserver) && self.is_mirrored(flow) && !self.is_protected(flow);
        waits && self.control(slot).shift(side).touches(tcp.seq, passes as u32)
    }

    /// Lets `passes` bytes of a segment pass, as they shall be said.
    fn pass_text(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_, '_>,
        (slot, side): (u32, Side),
        (tcp, passes): (&Tcp, usize),
        waits: bool,
    ) -> Verdict {
        let whole = passes == payload(arrival).len();
        let control = self.control(slot);
        if whole && control.shift(Side::Client).is_none() && control.shift(Side::Server).is_none() {
            return self.let_pass(now, arrival, slot, side, waits);
        }
        let Some(bytes) = self.altered(now, arrival, (slot, side), (tcp, passes)) else {
            return Verdict::Drop(Drop::Malformed);
        };
        let (mut bytes, offload) = (bytes, arrival.frame.offload);
        let mut frame = Frame { port: arrival.frame.port, offload, bytes: &mut bytes };
        let verdict = match parse(&*frame.bytes) {
            Ok((ethernet, Parsed::Ip(packet))) => {
                let mut arrival = Arrival { frame: &mut frame, ethernet: &ethernet, packet: &packet };
                self.let_pass(now, &mut arrival, slot, side, waits)
            }
            Ok(_) | Err(_) => Verdict::Drop(Drop::Malformed),
        };
        if let Verdict::Forward(port) = verdict {
            self.out.push(OwnedFrame { port, offload, bytes });
            return Verdict::Consumed;
        }
        self.out.recycle(bytes);
        verdict
    }

    fn let_pass(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>, slot: u32, side: Side, waits: bool) -> Verdict {
        if waits { self.hold(now, arrival, slot, side) } else { self.forward(now, arrival, slot, side) }
    }

    /// The segment as it shall be said, addresses not yet rewritten.
    fn altered(
        &mut self,
        now: Instant,
        arrival: &Arrival<'_, '_>,
        (slot, side): (u32, Side),
        (tcp, passes): (&Tcp, usize),
    ) -> Option<Vec<u8>> {
        let packet = arrival.packet;
        let headers = usize::from(packet.l4 - packet.l3) + usize::from(tcp.header_len);
        let mtu = self.ready_way(now, slot, side).map_or(LEAST_MTU, |(port, _)| port.mtu);
        // What does not fit any more is sent again: it has not passed.
        let largest = (packet.total_len as usize).max(usize::from(mtu)) - headers;
        let text = &payload(arrival)[..passes];
        let mut said = self.out.buffer();
        let control = self.control(slot);
        let shift = control.shift(side);
        let covered = shift.write(tcp.seq, text, largest, &mut said);
        let seq = if text.is_empty() { shift.leaving(tcp.seq) } else { shift.begins(tcp.seq) };
        let complete = covered == payload(arrival).len();
        let flags = if complete { tcp.flags } else { TcpFlags(tcp.flags.0 & !TcpFlags::FIN.0) };
        if covered < passes {
            control.reader(side).go_back(tcp.seq.wrapping_add(covered as u32));
        }
        let other = self.control(slot).shift(side.other()).clone();
        let edges = |edge| match edge {
            Edge::First(number) => other.first_of_block(number),
            Edge::Last(number) => other.acknowledged(number),
        };
        let altered = Altered { seq, ack: tcp.ack, flags, payload: &said };
        let mut bytes = self.out.buffer();
        bytes.resize(arrival.frame.bytes.len() + said.len(), 0);
        let checksum = checksum_of(&arrival.frame.offload);
        let len = altered_segment(&mut bytes, arrival.frame.bytes, packet, &altered, checksum, edges);
        self.out.recycle(said);
        bytes.truncate(len?);
        Some(bytes)
    }

    /// The flow's record has changed: the peer must learn it anew.
    pub(crate) fn tell_again(&mut self, slot: u32) {
        self.write_control_tail(slot);
        if self.roster.is_stateful(self.flows.at(slot).vserver) {
            self.set_tracked(slot, true);
            self.unprotect(slot);
            self.mark(slot);
        }
    }
}

/// The payload of a TCP packet.
fn payload<'a>(arrival: &'a Arrival<'_, '_>) -> &'a [u8] {
    let packet = arrival.packet;
    let start = usize::from(packet.l4) + packet.tcp().map_or(0, |tcp| usize::from(tcp.header_len));
    arrival.frame.bytes.get(start..packet.end()).unwrap_or_default()
}
