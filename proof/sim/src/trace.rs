//! What went over the networks, for the reader of a failure.

use holdfast_wire::{Addr, ArpOp, Endpoint, MacAddr, Parsed, TcpFlags, Transport, build, parse};

/// One line about a frame; `None` for what is not TCP, UDP or ARP.
pub fn describe(frame: &[u8]) -> Option<String> {
    match parse(frame).ok()?.1 {
        Parsed::Ip(packet) => match packet.transport {
            Transport::Tcp(tcp) => Some(format!(
                "{} > {} flags {:#04x} seq {} ack {} len {}",
                packet.source(),
                packet.destination(),
                tcp.flags.0,
                tcp.seq,
                tcp.ack,
                tcp.payload_len
            )),
            Transport::NeighbourSolicitation(asked) => {
                Some(format!("asks for {}", core::net::IpAddr::from(asked.target)))
            }
            Transport::NeighbourAdvertisement(said) => {
                Some(format!("says {} is at {:?}", core::net::IpAddr::from(said.target), said.mac))
            }
            Transport::Udp(_) => Some(format!("{} > {} udp", packet.source(), packet.destination())),
            _ => None,
        },
        Parsed::Arp(arp) => Some(format!(
            "ARP {:?} of {} for {}",
            arp.op,
            core::net::IpAddr::from(arp.sender),
            core::net::IpAddr::from(arp.target)
        )),
        Parsed::Other => None,
    }
}

/// Whom a frame asks for, if it asks under no address that is anybody's.
pub fn anonymous_question(frame: &[u8]) -> Option<Addr> {
    match parse(frame).ok()?.1 {
        Parsed::Arp(arp) if arp.op == ArpOp::Request && arp.sender.v4_bytes() == [0; 4] => Some(arp.target),
        Parsed::Ip(packet) if packet.src.0[..2] == [0xfe, 0x80] => match packet.transport {
            Transport::NeighbourSolicitation(asked) => Some(asked.target),
            _ => None,
        },
        Parsed::Arp(_) | Parsed::Ip(_) | Parsed::Other => None,
    }
}

/// How a host at `mac` answers such a question, as kernels do: to all who listen.
pub fn answer(target: Addr, mac: MacAddr) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    let len = match target.is_v4() {
        true => {
            let link = build::Link::new(MacAddr::BROADCAST, mac);
            build::arp_reply(&mut bytes, link, target, Addr::v4([0; 4]))
        }
        false => build::unsolicited_neighbour_advertisement(&mut bytes, mac, target),
    };
    bytes.truncate(len);
    bytes
}

/// Whether a frame is one node's message to the other.
pub fn is_peer(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&holdfast_node::PEER_ETHERTYPE.to_be_bytes())
}

/// Whether a frame says that an address is where it comes from.
pub fn claims(frame: &[u8]) -> bool {
    match parse(frame) {
        Ok((_, Parsed::Arp(arp))) => arp.op == ArpOp::Reply || arp.sender == arp.target,
        Ok((_, Parsed::Ip(packet))) => matches!(packet.transport, Transport::NeighbourAdvertisement(_)),
        Ok((_, Parsed::Other)) | Err(_) => false,
    }
}

/// Sender, receiver and sequence number of a segment that opens a TCP connection.
pub fn opening(frame: &[u8]) -> Option<(Endpoint, Endpoint, u32)> {
    let Parsed::Ip(packet) = parse(frame).ok()?.1 else { return None };
    let Transport::Tcp(tcp) = packet.transport else { return None };
    let opens = tcp.flags.0 & (TcpFlags::SYN.0 | TcpFlags::ACK.0) == TcpFlags::SYN.0;
    opens.then(|| (packet.source(), packet.destination(), tcp.seq))
}
