//! Checksums of frames on the wire, judged by smoltcp, which shares no code
//! with the product.

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet,
    TcpPacket, UdpPacket,
};

/// What is wrong with the checksums of a frame; `None` if nothing is.
pub fn wrong(frame: &[u8]) -> Option<&'static str> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let Ok(packet) = Ipv4Packet::new_checked(ethernet.payload()) else { return Some("IPv4 header") };
            if !packet.verify_checksum() {
                return Some("IPv4 header checksum");
            }
            if packet.more_frags() || packet.frag_offset() != 0 {
                return None;
            }
            transport(packet.next_header(), packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        }
        EthernetProtocol::Ipv6 => {
            let Ok(packet) = Ipv6Packet::new_checked(ethernet.payload()) else { return Some("IPv6 header") };
            transport(packet.next_header(), packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        }
        EthernetProtocol::Arp | EthernetProtocol::Unknown(_) => None,
    }
}

fn transport(protocol: IpProtocol, src: IpAddress, dst: IpAddress, payload: &[u8]) -> Option<&'static str> {
    let (name, right) = match (protocol, src, dst) {
        (IpProtocol::Tcp, ..) => {
            ("TCP checksum", TcpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(&src, &dst)))
        }
        (IpProtocol::Udp, ..) => {
            ("UDP checksum", UdpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(&src, &dst)))
        }
        (IpProtocol::Icmp, ..) => {
            ("ICMP checksum", Icmpv4Packet::new_checked(payload).is_ok_and(|packet| packet.verify_checksum()))
        }
        (IpProtocol::Icmpv6, IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => (
            "ICMPv6 checksum",
            Icmpv6Packet::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(&src, &dst)),
        ),
        _ => return None,
    };
    (!right).then_some(name)
}
