//! What an onlooker sees in a frame, with smoltcp's eyes: nothing here comes
//! from the product.

use core::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber, UdpPacket,
};

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A TCP segment.
    Segment(Segment),
    /// A UDP datagram: from, to, payload.
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
    /// Neither IP nor ARP: what the machines say to each other on a data network.
    Private,
    /// Anything else.
    Other,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// RST.
    pub rst: bool,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledges: u32,
    /// Bytes of data.
    pub payload: usize,
}

/// Looks at a frame.
pub fn look(frame: &[u8]) -> Sight {
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Sight::Other };
    let seen = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(ethernet.payload()).ok().and_then(|packet| {
            let ends = (packet.src_addr().into(), packet.dst_addr().into());
            transport(packet.next_header(), ends, packet.payload())
        }),
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(ethernet.payload()).ok().and_then(|packet| {
            let ends = (packet.src_addr().into(), packet.dst_addr().into());
            transport(packet.next_header(), ends, packet.payload())
        }),
        EthernetProtocol::Arp => None,
        EthernetProtocol::Unknown(_) => Some(Sight::Private),
    };
    seen.unwrap_or(Sight::Other)
}

fn transport(protocol: IpProtocol, (from, to): (IpAddress, IpAddress), bytes: &[u8]) -> Option<Sight> {
    let end = |address: IpAddress, port| SocketAddr::new(IpAddr::from(address), port);
    if protocol == IpProtocol::Udp {
        let udp = UdpPacket::new_checked(bytes).ok()?;
        return Some(Sight::Datagram(end(from, udp.src_port()), end(to, udp.dst_port()), udp.payload().to_vec()));
    }
    if protocol != IpProtocol::Tcp {
        return None;
    }
    let tcp = TcpPacket::new_checked(bytes).ok()?;
    let TcpSeqNumber(sequence) = tcp.seq_number();
    let TcpSeqNumber(acknowledges) = tcp.ack_number();
    Some(Sight::Segment(Segment {
        from: end(from, tcp.src_port()),
        to: end(to, tcp.dst_port()),
        syn: tcp.syn(),
        ack: tcp.ack(),
        rst: tcp.rst(),
        sequence: sequence as u32,
        acknowledges: acknowledges as u32,
        payload: tcp.payload().len(),
    }))
}
