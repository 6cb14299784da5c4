//! What went over the networks, for the reader of a failure.

use core::net::{IpAddr, SocketAddr};

use holdfast_wire::{Parsed, TcpFlags, Transport, parse};

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
            Transport::Udp(_) => Some(format!("{} > {} udp", packet.source(), packet.destination())),
            _ => None,
        },
        Parsed::Arp(arp) => Some(format!("{arp:?}")),
        Parsed::Other => None,
    }
}

/// The sender of a frame that opens a TCP connection.
pub fn syn_from(frame: &[u8]) -> Option<SocketAddr> {
    let Parsed::Ip(packet) = parse(frame).ok()?.1 else { return None };
    let Transport::Tcp(tcp) = packet.transport else { return None };
    let opens = tcp.flags.0 & (TcpFlags::SYN.0 | TcpFlags::ACK.0) == TcpFlags::SYN.0;
    opens.then(|| SocketAddr::new(IpAddr::from(packet.src), tcp.src_port))
}
