//! Well-formed frames to start from: what a client, two servers and a router say.

use holdfast_wire::build::{self, ErrorReport, Link, Quote, Segment};
use holdfast_wire::{Addr, Endpoint, MacAddr, Parsed, TcpFlags, parse};

/// Ethernet addresses of the node's two ports.
pub const OWN_MACS: [MacAddr; 2] = [MacAddr([2, 0xf, 0, 0, 0, 0]), MacAddr([2, 0xf, 0, 0, 0, 1])];
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc1]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x51]);

/// A host of the test network: subnet 1 is the clients', 2 the servers'.
pub fn host(v6: bool, subnet: u8, last: u8) -> Addr {
    if v6 { Addr([0xfd, 0, 0, subnet, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]) } else { Addr::v4([10, 0, subnet, last]) }
}

/// The client's end.
pub fn client(v6: bool) -> Endpoint {
    Endpoint { addr: host(v6, 1, 31), port: 40_000 }
}

/// The vserver's address and port.
pub fn vip(v6: bool) -> Endpoint {
    Endpoint { addr: host(v6, 1, 100), port: 80 }
}

/// The server's end.
pub fn server(v6: bool) -> Endpoint {
    Endpoint { addr: host(v6, 2, 21), port: 80 }
}

/// Bytes written by one of wire's builders.
pub fn built(write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut out = vec![0; 1600];
    let len = write(&mut out);
    out.truncate(len);
    out
}

/// One frame of each kind, in both IP versions.
pub fn all() -> Vec<Vec<u8>> {
    let mut frames = vec![vec![]];
    for v6 in [false, true] {
        frames.extend(conversation(v6));
    }
    frames
}

/// What arrives while a client talks to the vserver, in an order that makes sense.
pub fn conversation(v6: bool) -> Vec<Vec<u8>> {
    let to_node = Link::new(OWN_MACS[0], CLIENT_MAC);
    let from_server = Link::new(OWN_MACS[1], SERVER_MAC);
    let snip = Endpoint { addr: host(v6, 2, 5), port: 1024 };
    let segment = |link, src, dst, flags, payload: &[u8]| {
        let segment = Segment { src, dst, seq: 1000, ack: 2000, flags, window: 500, mss: Some(1460), payload };
        built(|out| build::tcp_segment(out, link, &segment))
    };
    let (syn, ack, fin) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN.with(TcpFlags::ACK));
    let mut frames = vec![neighbour(v6, to_node, client(v6).addr, vip(v6).addr)];
    frames.push(segment(to_node, client(v6), vip(v6), syn, b""));
    frames.push(neighbour(v6, from_server, server(v6).addr, snip.addr));
    frames.push(segment(from_server, server(v6), snip, syn.with(ack), b""));
    frames.push(segment(to_node, client(v6), vip(v6), ack, b"a request"));
    frames.push(segment(from_server, server(v6), snip, fin, b"an answer"));
    frames.push(segment(to_node, client(v6), vip(v6), TcpFlags::RST, b""));
    let asked = Endpoint { port: 53, ..vip(v6) };
    frames.push(built(|out| build::udp_datagram(out, to_node, client(v6), asked, b"a question")));
    let answering = Endpoint { port: 53, ..server(v6) };
    let datagram = built(|out| build::udp_datagram(out, from_server, answering, snip, b"an answer"));
    frames.push(unreachable(&datagram, snip.addr));
    frames.push(datagram);
    let ends = (client(v6).addr, vip(v6).addr);
    frames.push(built(|out| build::echo_request(out, to_node, ends, (7, 1), b"ping")));
    frames.push(fragment(v6, &frames[7]));
    frames
}

/// Makes the host known to the node: ARP, or a neighbour solicitation.
fn neighbour(v6: bool, link: Link, host: Addr, asked: Addr) -> Vec<u8> {
    built(|out| {
        if v6 {
            build::neighbour_solicitation(out, link.src, host, asked)
        } else {
            build::arp_request(out, Link::new(MacAddr::BROADCAST, link.src), host, asked)
        }
    })
}

fn unreachable(quoted: &[u8], own: Addr) -> Vec<u8> {
    let Ok((_, Parsed::Ip(packet))) = parse(quoted) else { return Vec::new() };
    let link = Link::new(OWN_MACS[1], SERVER_MAC);
    let quote = Quote { frame: quoted, packet: &packet };
    let mut out = vec![0; build::MAX_REPLY];
    let len = build::icmp_error(&mut out, link, own, quote, ErrorReport::HostUnreachable).unwrap_or_default();
    out.truncate(len);
    out
}

/// The first fragment of a UDP datagram.
fn fragment(v6: bool, datagram: &[u8]) -> Vec<u8> {
    let mut frame = datagram.to_vec();
    if v6 {
        frame.splice(54..54, [17, 0, 0, 1, 0, 0, 0, 9]);
        frame[20] = 44;
        frame[19] += 8;
    } else {
        frame[20] |= 0x20;
    }
    frame
}
