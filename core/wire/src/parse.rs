//! Finding the headers of a frame, once.

use crate::packet::{ethertype, proto};
use crate::{
    Arp, ArpOp, Ethernet, Fragment, IpPacket, IpVersion, Load, ParseError, Parsed, Tcp, TcpFlags, Transport, Udp,
};

/// Tags looked through; a frame with more is [`Parsed::Other`].
pub const MAX_VLAN_TAGS: usize = 2;

/// IPv6 extension headers looked through; a packet with more is refused.
pub const MAX_EXTENSION_HEADERS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Finds the headers of `frame`. No checksum is verified here; see
/// [`crate::ipv4_checksum_ok`] and [`crate::icmp_checksum_ok`].
///
/// All offsets in the answer lie inside the frame, and so does the whole
/// packet from `l3` to [`IpPacket::end`].
pub fn parse<L: Load + ?Sized>(frame: &L) -> Result<(Ethernet, Parsed), ParseError> {
    let ethernet = parse_ethernet(frame)?;
    let mut packet = IpPacket::default();
    let parsed = if ethernet.ethertype == ethertype::ARP {
        arp(frame, usize::from(ethernet.len))?
    } else if parse_ip(frame, &ethernet, &mut packet)? {
        Parsed::Ip(packet)
    } else {
        Parsed::Other
    };
    Ok((ethernet, parsed))
}

/// The IP part of [`parse`], into a packet that exists: a program in the kernel
/// has no stack for several. `false`: it is no IP packet. Only after `true`
/// does `packet` mean anything.
pub fn parse_ip<L: Load + ?Sized>(frame: &L, ethernet: &Ethernet, packet: &mut IpPacket) -> Result<bool, ParseError> {
    let at = usize::from(ethernet.len);
    let stations_left = match ethernet.ethertype {
        ethertype::IPV4 => ipv4(frame, at, frame.len(), packet)?,
        ethertype::IPV6 => ipv6(frame, at, frame.len(), packet)?,
        _ => return Ok(false),
    };
    if packet.end() > frame.len() {
        return Err(ParseError::Truncated);
    }
    if usize::from(packet.l4) > packet.end() {
        return Err(ParseError::Malformed);
    }
    if stations_left {
        packet.transport = Transport::Other;
    } else {
        transport(frame, packet)?;
    }
    Ok(true)
}

/// The Ethernet part of [`parse`].
pub fn parse_ethernet<L: Load + ?Sized>(frame: &L) -> Result<Ethernet, ParseError> {
    let dst = frame.mac(0).ok_or(ParseError::Truncated)?;
    let src = frame.mac(6).ok_or(ParseError::Truncated)?;
    let mut at = 12;
    let mut kind = frame.be16(at).ok_or(ParseError::Truncated)?;
    let mut vlan = None;
    for _ in 0..MAX_VLAN_TAGS {
        if kind != ethertype::VLAN && kind != ethertype::SERVICE_VLAN {
            break;
        }
        let tag = frame.be16(at + 2).ok_or(ParseError::Truncated)?;
        vlan = vlan.or(Some(tag & 0x0fff));
        at += 4;
        kind = frame.be16(at).ok_or(ParseError::Truncated)?;
    }
    Ok(Ethernet { dst, src, ethertype: kind, vlan, len: (at + 2) as u16 })
}

/// ARP for IPv4 over Ethernet; other hardware, protocols and operations are
/// none of ours.
fn arp<L: Load + ?Sized>(frame: &L, at: usize) -> Result<Parsed, ParseError> {
    const ETHERNET_AND_IPV4: u32 = 0x0001_0800;
    const LENGTHS_6_AND_4: u16 = 0x0604;
    let kinds = frame.be32(at).ok_or(ParseError::Truncated)?;
    let lengths = frame.be16(at + 4).ok_or(ParseError::Truncated)?;
    if kinds != ETHERNET_AND_IPV4 || lengths != LENGTHS_6_AND_4 {
        return Ok(Parsed::Other);
    }
    let op = match frame.be16(at + 6).ok_or(ParseError::Truncated)? {
        1 => ArpOp::Request,
        2 => ArpOp::Reply,
        _ => return Ok(Parsed::Other),
    };
    Ok(Parsed::Arp(Arp {
        op,
        sender_mac: frame.mac(at + 8).ok_or(ParseError::Truncated)?,
        sender: frame.v4(at + 14).ok_or(ParseError::Truncated)?,
        target_mac: frame.mac(at + 18).ok_or(ParseError::Truncated)?,
        target: frame.v4(at + 24).ok_or(ParseError::Truncated)?,
    }))
}

/// The IPv4 header at `at`; nothing at or after `limit` is counted as packet
/// where the header leaves the length open. Fills in everything but the
/// transport; the end may lie beyond the frame. Answers what [`ipv6`] does: `false`.
pub(crate) fn ipv4<L: Load + ?Sized>(
    frame: &L,
    at: usize,
    limit: usize,
    packet: &mut IpPacket,
) -> Result<bool, ParseError> {
    const DONT_FRAGMENT: u16 = 0x4000;
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    let first = frame.u8(at).ok_or(ParseError::Truncated)?;
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < IPV4_HEADER {
        return Err(ParseError::Malformed);
    }
    let available = limit.saturating_sub(at);
    if header_len > available {
        return Err(ParseError::Truncated);
    }
    let stated = usize::from(frame.be16(at + 2).ok_or(ParseError::Truncated)?);
    let total_len = if stated == 0 { available } else { stated };
    if total_len < header_len {
        return Err(ParseError::Malformed);
    }
    let id = u32::from(frame.be16(at + 4).ok_or(ParseError::Truncated)?);
    let flags = frame.be16(at + 6).ok_or(ParseError::Truncated)?;
    // Field by field: a whole packet would be made on the stack first.
    packet.l3 = at as u16;
    packet.l4 = (at + header_len) as u16;
    packet.version = IpVersion::V4;
    packet.src = frame.v4(at + 12).ok_or(ParseError::Truncated)?;
    packet.dst = frame.v4(at + 16).ok_or(ParseError::Truncated)?;
    packet.proto = frame.u8(at + 9).ok_or(ParseError::Truncated)?;
    packet.ttl = frame.u8(at + 8).ok_or(ParseError::Truncated)?;
    packet.total_len = total_len as u32;
    packet.dont_fragment = flags & DONT_FRAGMENT != 0;
    packet.fragment = fragment(flags & OFFSET, flags & MORE_FRAGMENTS != 0, id);
    packet.options = header_len > IPV4_HEADER;
    packet.transport = Transport::None;
    Ok(false)
}

fn fragment(offset: u16, more: bool, id: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::None,
        (0, true) => Fragment::First { id },
        (_, _) => Fragment::Later { id },
    }
}

/// The IPv6 header at `at` with its extension headers; `limit` and what is
/// filled in as in [`ipv4`]. Answers whether a routing header says that `dst` is
/// not the final destination, so that the pseudo-header has another.
pub(crate) fn ipv6<L: Load + ?Sized>(
    frame: &L,
    at: usize,
    limit: usize,
    packet: &mut IpPacket,
) -> Result<bool, ParseError> {
    let first = frame.u8(at).ok_or(ParseError::Truncated)?;
    if first >> 4 != 6 {
        return Err(ParseError::Malformed);
    }
    let available = limit.saturating_sub(at);
    if available < IPV6_HEADER {
        return Err(ParseError::Truncated);
    }
    let stated = usize::from(frame.be16(at + 4).ok_or(ParseError::Truncated)?);
    let total_len = if stated == 0 { available } else { stated + IPV6_HEADER };
    packet.src = frame.v6(at + 8).ok_or(ParseError::Truncated)?;
    packet.dst = frame.v6(at + 24).ok_or(ParseError::Truncated)?;
    // Mapped addresses have no place on a link; here they would be taken for IPv4.
    if packet.src.is_v4() || packet.dst.is_v4() {
        return Err(ParseError::Malformed);
    }
    packet.l3 = at as u16;
    packet.version = IpVersion::V6;
    packet.ttl = frame.u8(at + 7).ok_or(ParseError::Truncated)?;
    packet.total_len = total_len as u32;
    packet.dont_fragment = true;
    packet.transport = Transport::None;
    let stations_left = extensions(frame, at, packet)?;
    packet.options = usize::from(packet.l4) != at + IPV6_HEADER;
    Ok(stations_left)
}

/// Walks the extension headers (RFC 8200 section 4) of the IPv6 header at
/// `l3`, up to the transport header or the end of a later fragment's headers,
/// and fills in what they decide. The last one may reach beyond the packet; who
/// uses `l4` looks. Answers whether a routing header has stations left.
fn extensions<L: Load + ?Sized>(frame: &L, l3: usize, packet: &mut IpPacket) -> Result<bool, ParseError> {
    let mut at = l3 + IPV6_HEADER;
    let mut next = frame.u8(l3 + 6).ok_or(ParseError::Truncated)?;
    let mut stations_left = false;
    packet.fragment = Fragment::None;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(next) || matches!(packet.fragment, Fragment::Later { .. }) {
            break;
        }
        let start = frame.be16(at).ok_or(ParseError::Truncated)?;
        let mut len = (usize::from(start & 0x00ff) + 1) * 8;
        if next == FRAGMENT {
            let place = frame.be16(at + 2).ok_or(ParseError::Truncated)?;
            let id = frame.be32(at + 4).ok_or(ParseError::Truncated)?;
            packet.fragment = fragment(place >> 3, place & 1 != 0, id);
            len = 8;
        }
        if next == ROUTING {
            stations_left |= frame.u8(at + 3).ok_or(ParseError::Truncated)? != 0;
        }
        next = (start >> 8) as u8;
        at += len;
    }
    if is_extension(next) && !matches!(packet.fragment, Fragment::Later { .. }) {
        return Err(ParseError::TooManyHeaders);
    }
    packet.l4 = at as u16;
    packet.proto = next;
    Ok(stations_left)
}

fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Fills in the transport of `packet`, which the header has left at [`Transport::None`].
fn transport<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket) -> Result<(), ParseError> {
    if matches!(packet.fragment, Fragment::Later { .. }) {
        return Ok(());
    }
    match (packet.proto, packet.version) {
        (proto::TCP, _) => tcp(frame, packet),
        (proto::UDP, _) => udp(frame, packet),
        (proto::ICMP, IpVersion::V4) => crate::icmp::icmp(frame, packet),
        (proto::ICMPV6, IpVersion::V6) => crate::icmp::icmpv6(frame, packet),
        (_, IpVersion::V4 | IpVersion::V6) => {
            packet.transport = Transport::Other;
            Ok(())
        }
    }
}

fn tcp<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket) -> Result<(), ParseError> {
    let at = usize::from(packet.l4);
    let room = packet.end().saturating_sub(at);
    if room < TCP_HEADER {
        return Err(ParseError::Truncated);
    }
    let offset_and_flags = frame.be16(at + 12).ok_or(ParseError::Truncated)?;
    let header_len = usize::from(offset_and_flags >> 12) * 4;
    if header_len < TCP_HEADER || header_len > room {
        return Err(ParseError::Malformed);
    }
    packet.transport = Transport::Tcp(Tcp {
        src_port: frame.be16(at).ok_or(ParseError::Truncated)?,
        dst_port: frame.be16(at + 2).ok_or(ParseError::Truncated)?,
        seq: frame.be32(at + 4).ok_or(ParseError::Truncated)?,
        ack: frame.be32(at + 8).ok_or(ParseError::Truncated)?,
        flags: TcpFlags(offset_and_flags as u8),
        window: frame.be16(at + 14).ok_or(ParseError::Truncated)?,
        header_len: header_len as u8,
        payload_len: (room - header_len) as u32,
    });
    Ok(())
}

fn udp<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket) -> Result<(), ParseError> {
    let at = usize::from(packet.l4);
    let room = packet.end().saturating_sub(at);
    if room < UDP_HEADER {
        return Err(ParseError::Truncated);
    }
    let stated = usize::from(frame.be16(at + 4).ok_or(ParseError::Truncated)?);
    let whole = packet.fragment == Fragment::None;
    if stated < UDP_HEADER || (whole && stated > room) {
        return Err(ParseError::Malformed);
    }
    packet.transport = Transport::Udp(Udp {
        src_port: frame.be16(at).ok_or(ParseError::Truncated)?,
        dst_port: frame.be16(at + 2).ok_or(ParseError::Truncated)?,
        payload_len: (stated.min(room) - UDP_HEADER) as u32,
    });
    Ok(())
}
