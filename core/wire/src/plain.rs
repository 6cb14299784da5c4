//! The plain packet: the one kind that a fast path may forward by itself.
//!
//! [`plain`] looks at fixed places only and answers a subset of what
//! [`crate::parse`] does: whatever it accepts, `parse` reads the same way (a
//! property test), and whatever it refuses is for the engine to judge. An
//! eBPF program runs it for a tenth of what the whole parser costs.

use crate::checksum::fold;
use crate::packet::{ethertype, proto};
use crate::{Addr, Endpoint, IpVersion, Load, TcpFlags};

const ETHERNET: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Extension headers of IPv6 that the whole parser walks (RFC 8200 section 4).
const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// The fragment header among them.
const FRAGMENT: u8 = 44;

/// How far [`plain`] looks: to the end of a TCP header behind IPv6.
pub const PLAIN_HEAD: usize = ETHERNET + IPV6_HEADER + TCP_HEADER;

/// A whole TCP or UDP packet behind an untagged Ethernet header and an IP
/// header without options, whose lengths (and IPv4 checksum) are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// IP version.
    pub version: IpVersion,
    /// [`proto::TCP`] or [`proto::UDP`].
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP's flags; none in UDP.
    pub flags: TcpFlags,
    /// Length of the transport header with its options, in bytes.
    pub header_len: u8,
    /// Length of the IP packet, in bytes.
    pub total_len: u32,
    /// TCP's sequence number; 0 in UDP.
    pub seq: u32,
    /// TCP's acknowledgement number; 0 in UDP.
    pub ack: u32,
    /// The source address.
    pub src: Words,
    /// The destination address.
    pub dst: Words,
    /// Both ports, the source's in the high half.
    pub ports: u32,
}

/// An address as four numbers in host order, IPv4 in its mapped form. A
/// program in the kernel moves words; sixteen bytes it would move one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words(pub [u32; 4]);

impl Words {
    /// The third word of a mapped address.
    const MAPPED: u32 = 0xffff;

    /// The IPv4 address that this number is.
    #[inline(always)]
    pub const fn v4(number: u32) -> Words {
        Words([0, 0, Words::MAPPED, number])
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Words::MAPPED
    }
}

impl From<Addr> for Words {
    fn from(addr: Addr) -> Words {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.0;
        Words([[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_be_bytes))
    }
}

impl From<Words> for Addr {
    fn from(words: Words) -> Addr {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = words.0.map(u32::to_be_bytes);
        Addr([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

impl Default for Plain {
    /// A packet that says nothing, to parse into.
    #[inline(always)]
    fn default() -> Plain {
        Plain {
            version: IpVersion::V4,
            proto: 0,
            ttl: 0,
            flags: TcpFlags(0),
            header_len: 0,
            total_len: 0,
            seq: 0,
            ack: 0,
            src: Words([0; 4]),
            dst: Words([0; 4]),
            ports: 0,
        }
    }
}

impl Plain {
    /// Where it comes from.
    pub fn source(&self) -> Endpoint {
        Endpoint { addr: self.src.into(), port: (self.ports >> 16) as u16 }
    }

    /// Where it goes.
    pub fn destination(&self) -> Endpoint {
        Endpoint { addr: self.dst.into(), port: self.ports as u16 }
    }

    /// Offset of the transport header in the frame.
    #[inline(always)]
    pub const fn l4(&self) -> usize {
        ETHERNET + self.ip_header_len()
    }

    /// Length of all headers from the IP header on, in bytes.
    #[inline(always)]
    pub const fn headers_len(&self) -> u32 {
        self.ip_header_len() as u32 + self.header_len as u32
    }

    /// Bytes behind all headers.
    #[inline(always)]
    pub const fn payload_len(&self) -> u32 {
        self.total_len.saturating_sub(self.headers_len())
    }

    #[inline(always)]
    const fn ip_header_len(&self) -> usize {
        match self.version {
            IpVersion::V4 => IPV4_HEADER,
            IpVersion::V6 => IPV6_HEADER,
        }
    }
}

/// Why a frame is not plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Unusual {
    /// Neither IPv4 nor IPv6 follows the Ethernet addresses.
    NotIp,
    /// A VLAN tag does.
    Tagged,
    /// Lengths or versions contradict each other, or the frame ends too early.
    Malformed,
    /// The IPv4 header checksum is wrong.
    BadChecksum,
    /// IPv4 options or IPv6 extension headers.
    Options,
    /// Part of a datagram.
    Fragment,
    /// Neither TCP nor UDP.
    Protocol,
    /// The header leaves the length open (a super-packet beyond 65535 bytes).
    Jumbo,
    /// UDP over IPv6 without a checksum (RFC 6935): not every kernel's helpers leave that zero alone.
    NoChecksum,
}

/// Reads a plain packet into one that exists: a program in the kernel has no
/// stack for several. Only after `Ok` does `packet` mean anything. Looks at the
/// first [`PLAIN_HEAD`] bytes of the frame, and at its length.
#[inline(always)]
pub fn plain<L: Load + ?Sized>(frame: &L, packet: &mut Plain) -> Result<(), Unusual> {
    let Some(kind) = frame.be16(12) else { return Err(Unusual::Malformed) };
    match kind {
        ethertype::IPV4 => ipv4(frame, packet),
        ethertype::IPV6 => ipv6(frame, packet),
        ethertype::VLAN | ethertype::SERVICE_VLAN => Err(Unusual::Tagged),
        _ => Err(Unusual::NotIp),
    }
}

/// Source and destination of an untagged IP packet, plain or not; `None`
/// outside IP. Nothing else is looked at: who has to keep away from some
/// addresses asks this.
#[inline(always)]
pub fn addresses<L: Load + ?Sized>(frame: &L) -> Option<(Words, Words)> {
    match frame.be16(12)? {
        ethertype::IPV4 if frame.len() >= ETHERNET + IPV4_HEADER => {
            Some((Words::v4(word(frame, ETHERNET + 12)), Words::v4(word(frame, ETHERNET + 16))))
        }
        ethertype::IPV6 if frame.len() >= ETHERNET + IPV6_HEADER => {
            Some((address(frame, ETHERNET + 8), address(frame, ETHERNET + 24)))
        }
        _ => None,
    }
}

/// The word at `at`, which lies in the frame: its length has been looked at.
#[inline(always)]
fn word<L: Load + ?Sized>(frame: &L, at: usize) -> u32 {
    frame.be32(at).unwrap_or(0)
}

/// The IPv6 address at `at`, which lies in the frame.
#[inline(always)]
fn address<L: Load + ?Sized>(frame: &L, at: usize) -> Words {
    Words([word(frame, at), word(frame, at + 4), word(frame, at + 8), word(frame, at + 12)])
}

/// Both halves of a word, added.
#[inline(always)]
const fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

#[inline(always)]
fn ipv4<L: Load + ?Sized>(frame: &L, packet: &mut Plain) -> Result<(), Unusual> {
    const MORE_OR_OFFSET: u32 = 0x3fff;
    if frame.len() < ETHERNET + IPV4_HEADER {
        return Err(Unusual::Malformed);
    }
    let first = word(frame, ETHERNET);
    let second = word(frame, ETHERNET + 4);
    let third = word(frame, ETHERNET + 8);
    let src = word(frame, ETHERNET + 12);
    let dst = word(frame, ETHERNET + 16);
    match first >> 24 {
        0x45 => {}
        0x46..=0x4f => return Err(Unusual::Options),
        _ => return Err(Unusual::Malformed),
    }
    if second & MORE_OR_OFFSET != 0 {
        return Err(Unusual::Fragment);
    }
    if fold(halves(first) + halves(second) + halves(third) + halves(src) + halves(dst)) != 0xffff {
        return Err(Unusual::BadChecksum);
    }
    packet.version = IpVersion::V4;
    packet.total_len = first & 0xffff;
    packet.ttl = (third >> 24) as u8;
    packet.proto = (third >> 16) as u8;
    packet.src = Words::v4(src);
    packet.dst = Words::v4(dst);
    match packet.total_len {
        0 => Err(Unusual::Jumbo),
        total_len => transport(frame, ETHERNET + IPV4_HEADER, total_len.saturating_sub(IPV4_HEADER as u32), packet),
    }
}

#[inline(always)]
fn ipv6<L: Load + ?Sized>(frame: &L, packet: &mut Plain) -> Result<(), Unusual> {
    if frame.len() < ETHERNET + IPV6_HEADER {
        return Err(Unusual::Malformed);
    }
    let second = word(frame, ETHERNET + 4);
    if word(frame, ETHERNET) >> 28 != 6 {
        return Err(Unusual::Malformed);
    }
    let next = (second >> 8) as u8;
    if next == FRAGMENT {
        return Err(Unusual::Fragment);
    }
    if EXTENSIONS.contains(&next) {
        return Err(Unusual::Options);
    }
    packet.version = IpVersion::V6;
    packet.proto = next;
    packet.ttl = second as u8;
    packet.src = address(frame, ETHERNET + 8);
    packet.dst = address(frame, ETHERNET + 24);
    // Mapped addresses have no place on a link; as a key they would be taken for IPv4.
    if packet.src.is_v4() || packet.dst.is_v4() {
        return Err(Unusual::Malformed);
    }
    match second >> 16 {
        0 => Err(Unusual::Jumbo),
        payload => {
            packet.total_len = payload + IPV6_HEADER as u32;
            transport(frame, ETHERNET + IPV6_HEADER, payload, packet)
        }
    }
}

/// The transport header at `at`; `room` bytes of IP packet are left for it.
#[inline(always)]
fn transport<L: Load + ?Sized>(frame: &L, at: usize, room: u32, packet: &mut Plain) -> Result<(), Unusual> {
    if ETHERNET + packet.total_len as usize > frame.len() || frame.len() < at + UDP_HEADER {
        return Err(Unusual::Malformed);
    }
    match packet.proto {
        proto::TCP => tcp(frame, at, room, packet)?,
        proto::UDP => udp(frame, at, room, packet)?,
        _ => return Err(Unusual::Protocol),
    }
    packet.ports = word(frame, at);
    Ok(())
}

#[inline(always)]
fn tcp<L: Load + ?Sized>(frame: &L, at: usize, room: u32, packet: &mut Plain) -> Result<(), Unusual> {
    if frame.len() < at + TCP_HEADER {
        return Err(Unusual::Malformed);
    }
    let third = word(frame, at + 12);
    let header_len = (third >> 28) * 4;
    if header_len < TCP_HEADER as u32 || header_len > room {
        return Err(Unusual::Malformed);
    }
    packet.header_len = header_len as u8;
    packet.flags = TcpFlags((third >> 16) as u8);
    packet.seq = word(frame, at + 4);
    packet.ack = word(frame, at + 8);
    Ok(())
}

#[inline(always)]
fn udp<L: Load + ?Sized>(frame: &L, at: usize, room: u32, packet: &mut Plain) -> Result<(), Unusual> {
    let length_and_checksum = word(frame, at + 4);
    let stated = length_and_checksum >> 16;
    if stated < UDP_HEADER as u32 || stated > room {
        return Err(Unusual::Malformed);
    }
    if packet.version == IpVersion::V6 && length_and_checksum & 0xffff == 0 {
        return Err(Unusual::NoChecksum);
    }
    packet.header_len = UDP_HEADER as u8;
    packet.flags = TcpFlags(0);
    packet.seq = 0;
    packet.ack = 0;
    Ok(())
}
