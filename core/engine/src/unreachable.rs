//! Packets that waited in vain for their next hop: their senders are told.

use holdfast_base::Instant;
use holdfast_wire::build::ErrorReport;
use holdfast_wire::{Ethernet, IpPacket, MacAddr, Parsed, Rewrite, apply, parse, rewrite};

use crate::engine::Engine;
use crate::frame::OwnedFrame;
use crate::icmp::Received;
use crate::network::Resolution;
use crate::passage::checksum_of;
use crate::record::{FlowKey, L2Disc};
use crate::verdict::Drop;

impl Engine {
    /// `frame` was ready to leave, and its neighbour does not answer.
    pub(crate) fn give_up(&mut self, now: Instant, mut frame: OwnedFrame) {
        self.counters.drop(Drop::NeighbourUnreachable);
        self.turn_back(&mut frame);
        self.tell_sender(now, &frame);
        self.out.recycle(frame.bytes);
    }

    /// Gives a flow's packet the addresses back that its sender wrote. A packet
    /// of no flow was routed and has them still.
    fn turn_back(&mut self, frame: &mut OwnedFrame) {
        let Some((_, packet)) = read(&frame.bytes) else { return };
        let (src, dst) = (packet.source(), packet.destination());
        let answers = FlowKey { proto: packet.proto, l2: L2Disc(0), src: dst, dst: src };
        if let Some((slot, side)) = self.flows.find(&answers) {
            // How the answers would leave, read backwards, is how it came.
            let (dst, src) = self.flows.at(slot).rewritten(side);
            let edits = rewrite(&packet, &Rewrite { src, dst, decrement_ttl: false });
            apply(&mut frame.bytes[..], &edits, checksum_of(&frame.offload));
        }
    }

    fn tell_sender(&mut self, now: Instant, frame: &OwnedFrame) {
        let Some((ethernet, packet)) = read(&frame.bytes) else { return };
        // Still under an address of ours: its flow is gone, or it is a later
        // fragment; its sender is not known.
        if self.network.floating(packet.src).is_some() {
            return;
        }
        let Some(next_hop) = self.network.next_hop(packet.src) else { return };
        let Resolution::Ready { port, mac } = self.network.resolve(now, next_hop, &mut self.out) else { return };
        let ethernet = Ethernet { src: mac, dst: MacAddr::default(), ..ethernet };
        let received = Received { port, ethernet: &ethernet, packet: &packet, bytes: &frame.bytes };
        self.errors.send(now, &self.network, &received, ErrorReport::HostUnreachable, &mut self.out);
    }
}

/// The headers of a frame of our own making.
fn read(bytes: &[u8]) -> Option<(Ethernet, IpPacket)> {
    match parse(bytes) {
        Ok((ethernet, Parsed::Ip(packet))) => Some((ethernet, packet)),
        Ok((_, Parsed::Arp(_) | Parsed::Other)) | Err(_) => None,
    }
}
