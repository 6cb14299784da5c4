//! The frames that both sides are asked about.

use holdfast_base::Rng;
use holdfast_wire::build::{Link, Segment, echo_request, tcp_segment, udp_datagram};
use holdfast_wire::{Addr, Endpoint, MacAddr, TcpFlags};

const LINK: Link = Link { dst: MacAddr([2, 0, 0, 0, 0, 1]), src: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
const PAYLOAD: &[u8] = b"an odd number of bytes.";
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;

/// One frame of each kind that the parser tells apart.
pub fn named() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for (v6, tcp_name, udp_name, echo_name) in [
        (false, "TCP over IPv4", "UDP over IPv4", "ICMP echo"),
        (true, "TCP over IPv6", "UDP over IPv6", "ICMPv6 echo"),
    ] {
        all.push((tcp_name, tcp(v6)));
        all.push((udp_name, udp(v6)));
        all.push((echo_name, echo(v6)));
    }
    all.push(("UDP without checksum", without_checksum()));
    all.push(("TCP behind one VLAN tag", tagged(&tcp(false), 1)));
    all.push(("TCP over IPv6 behind two VLAN tags", tagged(&tcp(true), 2)));
    all.push(("TCP behind IPv4 options", with_options()));
    all.push(("first fragment", fragment(0x2000)));
    all.push(("later fragment", fragment(0x0010)));
    all.push(("TCP behind extension headers", with_extensions()));
    all.push(("ICMP error", icmp_error(false)));
    all.push(("ICMPv6 error", icmp_error(true)));
    all.push(("neighbour solicitation", neighbour_solicitation()));
    all.push(("ARP", arp()));
    all.push(("truncated", tcp(false)[..40].to_vec()));
    all.push(("Ethernet padding", [udp(false), vec![0; 9]].concat()));
    all
}

/// A named frame with a few bytes changed, or shortened, or lengthened.
pub fn mutated(rng: &mut Rng) -> Vec<u8> {
    let all = named();
    let (_, mut frame) = all[rng.below(all.len() as u64) as usize].clone();
    for _ in 0..rng.below(4) {
        // Headers are where the decisions are.
        let within = if rng.chance(3, 4) { frame.len().min(80) } else { frame.len() };
        let at = rng.below(within as u64) as usize;
        frame[at] = match rng.below(4) {
            0 => 0,
            1 => 0xff,
            2 => frame[at] ^ (1 << rng.below(8)),
            _ => rng.next_u64() as u8,
        };
    }
    match rng.below(8) {
        0 => frame.truncate(ETHERNET + rng.below((frame.len() - ETHERNET + 1) as u64) as usize),
        1 => frame.resize(frame.len() + rng.below(64) as usize, 0),
        _ => {}
    }
    frame
}

/// Whether the kernel runs a program on `frame` at all: it wants a whole IP
/// header behind an IP Ethernet type, and something behind any other.
pub fn is_runnable(frame: &[u8]) -> bool {
    let headers = match frame.get(12..14) {
        Some([8, 0]) => ETHERNET + IPV4,
        Some([0x86, 0xdd]) => ETHERNET + IPV6,
        _ => ETHERNET + 1,
    };
    frame.len() >= headers
}

fn ends(v6: bool) -> (Endpoint, Endpoint) {
    let host = |last: u8| {
        if v6 { Addr([0xfd, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]) } else { Addr::v4([10, 1, 0, last]) }
    };
    (Endpoint { addr: host(9), port: 51_234 }, Endpoint { addr: host(100), port: 80 })
}

fn build(write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut out = vec![0; 256];
    let len = write(&mut out);
    out.truncate(len);
    out
}

fn tcp(v6: bool) -> Vec<u8> {
    let (src, dst) = ends(v6);
    let flags = TcpFlags::ACK.with(TcpFlags::PSH);
    let segment =
        Segment { src, dst, seq: 0x1234_5678, ack: 0x9abc_def0, flags, window: 502, mss: None, payload: PAYLOAD };
    build(|out| tcp_segment(out, LINK, &segment))
}

fn udp(v6: bool) -> Vec<u8> {
    let (src, dst) = ends(v6);
    build(|out| udp_datagram(out, LINK, src, dst, PAYLOAD))
}

fn echo(v6: bool) -> Vec<u8> {
    let (src, dst) = ends(v6);
    build(|out| echo_request(out, LINK, (src.addr, dst.addr), (0x4242, 7), PAYLOAD))
}

fn without_checksum() -> Vec<u8> {
    let mut frame = udp(false);
    frame[ETHERNET + IPV4 + 6..][..2].fill(0);
    frame
}

fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
    let tag: &[u8] = &[0x81, 0, 0x20, 0x2a];
    [&frame[..12], &tag.repeat(tags), &frame[12..]].concat()
}

/// Makes room for `extra` bytes at `at` and fills them; lengths are left alone.
fn inserted(frame: &[u8], at: usize, extra: &[u8]) -> Vec<u8> {
    [&frame[..at], extra, &frame[at..]].concat()
}

fn with_options() -> Vec<u8> {
    let mut frame = inserted(&tcp(false), ETHERNET + IPV4, &[1, 1, 1, 0]);
    frame[ETHERNET] = 0x46;
    frame[ETHERNET + 3] += 4;
    frame
}

fn fragment(place: u16) -> Vec<u8> {
    let mut frame = udp(false);
    frame[ETHERNET + 6..][..2].copy_from_slice(&place.to_be_bytes());
    frame
}

/// Hop-by-hop, destination and (atomic) fragment headers before TCP.
fn with_extensions() -> Vec<u8> {
    let headers = [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 9];
    let mut frame = inserted(&tcp(true), ETHERNET + IPV6, &headers);
    frame[ETHERNET + 6] = 0;
    frame[ETHERNET + 5] += headers.len() as u8;
    frame
}

/// A destination unreachable that quotes a whole UDP packet.
fn icmp_error(v6: bool) -> Vec<u8> {
    let header = if v6 { IPV6 } else { IPV4 };
    let quoted = udp(v6)[ETHERNET..].to_vec();
    let mut frame = udp(v6)[..ETHERNET + header].to_vec();
    frame.extend([if v6 { 1 } else { 3 }, 1, 0x55, 0xaa, 0, 0, 0, 0]);
    frame.extend(&quoted);
    let payload = (frame.len() - ETHERNET - header) as u16;
    if v6 {
        frame[ETHERNET + 4..][..2].copy_from_slice(&payload.to_be_bytes());
        frame[ETHERNET + 6] = 58;
    } else {
        frame[ETHERNET + 2..][..2].copy_from_slice(&(payload + IPV4 as u16).to_be_bytes());
        frame[ETHERNET + 9] = 1;
    }
    frame
}

fn neighbour_solicitation() -> Vec<u8> {
    let mut frame = udp(true)[..ETHERNET + IPV6].to_vec();
    frame[ETHERNET + 4..][..4].copy_from_slice(&[0, 32, 58, 255]);
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([1, 1, 2, 0, 0, 0, 0, 2]);
    frame
}

fn arp() -> Vec<u8> {
    let mut frame = [0xff; 12].to_vec();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 1, 0, 9, 0, 0, 0, 0, 0, 0, 10, 1, 0, 100]);
    frame
}
