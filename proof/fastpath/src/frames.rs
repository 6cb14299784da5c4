//! Frames by description, and what can be done to them.

use holdfast_wire::build::{Link, MAX_HEADERS, Segment, echo_request, tcp_segment, udp_datagram};
use holdfast_wire::checksum::{fold, sum};
use holdfast_wire::{Endpoint, TcpFlags};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp<'a> {
    /// Its flags.
    pub flags: TcpFlags,
    /// Its numbers.
    pub numbers: (u32, u32),
    /// What it carries.
    pub payload: &'a [u8],
}

/// A frame with a TCP segment.
pub fn tcp(link: Link, (src, dst): (Endpoint, Endpoint), tcp: &Tcp<'_>) -> Vec<u8> {
    let (seq, ack) = tcp.numbers;
    let segment = Segment { src, dst, seq, ack, flags: tcp.flags, window: 502, mss: None, payload: tcp.payload };
    build(tcp.payload.len(), |out| tcp_segment(out, link, &segment))
}

/// A frame with a datagram.
pub fn udp(link: Link, (src, dst): (Endpoint, Endpoint), payload: &[u8]) -> Vec<u8> {
    build(payload.len(), |out| udp_datagram(out, link, src, dst, payload))
}

/// A frame with an echo request.
pub fn echo(link: Link, (src, dst): (Endpoint, Endpoint)) -> Vec<u8> {
    build(16, |out| echo_request(out, link, (src.addr, dst.addr), (7, 1), &[0; 16]))
}

fn build(payload: usize, write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut out = vec![0; MAX_HEADERS + payload];
    let len = write(&mut out);
    out.truncate(len);
    out
}

/// Whether the frame carries IPv4.
pub fn is_v4(frame: &[u8]) -> bool {
    frame.get(12..ETHERNET) == Some(&[8, 0])
}

/// With another byte at `at`.
pub fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    if let Some(place) = frame.get_mut(at) {
        *place = byte;
    }
    frame
}

/// With another TTL or hop limit.
pub fn with_ttl(frame: Vec<u8>, ttl: u8) -> Vec<u8> {
    let at = if is_v4(&frame) { ETHERNET + 8 } else { ETHERNET + 7 };
    with_header_checksum(with(frame, at, ttl))
}

/// With another traffic class: DSCP and ECN.
pub fn with_class(frame: Vec<u8>, class: u8) -> Vec<u8> {
    if is_v4(&frame) {
        return with_header_checksum(with(frame, ETHERNET + 1, class));
    }
    let low = frame.get(ETHERNET + 1).copied().unwrap_or(0) & 0x0f;
    with(with(frame, ETHERNET, 0x60 | class >> 4), ETHERNET + 1, class << 4 | low)
}

/// With an IPv4 header checksum that is right for 20 bytes of header.
pub fn with_header_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    if is_v4(&frame)
        && let Some(header) = frame.get_mut(ETHERNET..ETHERNET + 20)
    {
        header[10..12].fill(0);
        let checksum = !fold(sum(header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    frame
}

/// With `extra` bytes put in at `at`; lengths are left alone.
pub fn inserted(frame: &[u8], at: usize, extra: &[u8]) -> Vec<u8> {
    [&frame[..at], extra, &frame[at..]].concat()
}

/// Whether the kernel runs a tc program on `frame` at all: it wants a whole IP
/// header behind an IP Ethernet type, and something behind any other.
pub fn is_runnable(frame: &[u8]) -> bool {
    let headers = match frame.get(12..ETHERNET) {
        Some([8, 0]) => ETHERNET + 20,
        Some([0x86, 0xdd]) => ETHERNET + 40,
        _ => ETHERNET + 1,
    };
    frame.len() >= headers
}
