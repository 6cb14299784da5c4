//! Packets that waited in vain for their next hop.

use holdfast_base::Instant;
use holdfast_wire::build::ErrorReport;
use holdfast_wire::{Ethernet, IpPacket, MacAddr, Parsed, parse};

use crate::engine::Engine;
use crate::frame::OwnedFrame;
use crate::icmp::Received;
use crate::network::Resolution;
use crate::record::{FlowKey, L2Disc};
use crate::verdict::Drop;

impl Engine {
    /// `frame` was ready to leave, and its neighbour does not answer.
    pub(crate) fn give_up(&mut self, now: Instant, frame: OwnedFrame) {
        self.counters.drop(Drop::NeighbourUnreachable);
        self.tell_sender(now, &frame);
        self.out.recycle(frame.bytes);
    }

    /// Whether the packet, edited as it is, belongs to a flow.
    fn is_a_flows(&self, packet: &IpPacket) -> bool {
        let (src, dst) = (packet.source(), packet.destination());
        let answers = FlowKey { proto: packet.proto, l2: L2Disc(0), src: dst, dst: src };
        self.flows.find(&answers).is_some()
    }

    /// Tells the sender of a routed packet. An end of a flow is told nothing: a server that hears it about its SYN-ACK
    /// forgets a connection that its client believes established, and a client gives up a connect that would succeed
    /// as soon as the cable is back or the other node leads. Both ask again by themselves.
    fn tell_sender(&mut self, now: Instant, frame: &OwnedFrame) {
        let Some((ethernet, packet)) = read(&frame.bytes) else { return };
        // Under an address of ours without a flow: the flow is gone, or it is a later
        // fragment; its sender is not known.
        if self.is_a_flows(&packet) || self.network.floating(packet.src).is_some() {
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
