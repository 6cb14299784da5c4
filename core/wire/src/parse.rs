//! Finding the headers of a frame, once.

use crate::packet::{ethertype, proto};
use crate::{
    Addr, Arp, ArpOp, Ethernet, Fragment, IpPacket, IpVersion, Load, ParseError, Parsed, Tcp, TcpFlags, Transport, Udp,
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
    let ethernet = ethernet(frame)?;
    let at = usize::from(ethernet.len);
    let parsed = match ethernet.ethertype {
        ethertype::ARP => arp(frame, at)?,
        ethertype::IPV4 => Parsed::Ip(outer(frame, ipv4(frame, at, frame.len())?)?),
        ethertype::IPV6 => Parsed::Ip(outer(frame, ipv6(frame, at, frame.len())?)?),
        _ => Parsed::Other,
    };
    Ok((ethernet, parsed))
}

fn ethernet<L: Load + ?Sized>(frame: &L) -> Result<Ethernet, ParseError> {
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

/// Completes a header found in the frame itself (not quoted by an error).
fn outer<L: Load + ?Sized>(frame: &L, header: Header) -> Result<IpPacket, ParseError> {
    let mut packet = header.packet;
    if packet.end() > frame.len() {
        return Err(ParseError::Truncated);
    }
    if usize::from(packet.l4) > packet.end() {
        return Err(ParseError::Malformed);
    }
    packet.transport = if header.stations_left { Transport::Other } else { transport(frame, &packet)? };
    Ok(packet)
}

/// An IP header as found, before the transport header is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    /// Everything but the transport; the end may lie beyond the frame.
    pub packet: IpPacket,
    /// A routing header says that `dst` is not the final destination, so its
    /// pseudo-header is not what stands in the IP header.
    pub stations_left: bool,
}

/// The IPv4 header at `at`; nothing at or after `limit` is counted as packet
/// where the header leaves the length open.
pub(crate) fn ipv4<L: Load + ?Sized>(frame: &L, at: usize, limit: usize) -> Result<Header, ParseError> {
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
    let packet = IpPacket {
        l3: at as u16,
        l4: (at + header_len) as u16,
        version: IpVersion::V4,
        src: frame.v4(at + 12).ok_or(ParseError::Truncated)?,
        dst: frame.v4(at + 16).ok_or(ParseError::Truncated)?,
        proto: frame.u8(at + 9).ok_or(ParseError::Truncated)?,
        ttl: frame.u8(at + 8).ok_or(ParseError::Truncated)?,
        total_len: total_len as u32,
        dont_fragment: flags & DONT_FRAGMENT != 0,
        fragment: fragment(flags & OFFSET, flags & MORE_FRAGMENTS != 0, id),
        options: header_len > IPV4_HEADER,
        transport: Transport::None,
    };
    Ok(Header { packet, stations_left: false })
}

fn fragment(offset: u16, more: bool, id: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::None,
        (0, true) => Fragment::First { id },
        (_, _) => Fragment::Later { id },
    }
}

/// The IPv6 header at `at` with its extension headers; `limit` as in [`ipv4`].
pub(crate) fn ipv6<L: Load + ?Sized>(frame: &L, at: usize, limit: usize) -> Result<Header, ParseError> {
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
    let src = frame.v6(at + 8).ok_or(ParseError::Truncated)?;
    let dst = frame.v6(at + 24).ok_or(ParseError::Truncated)?;
    // Mapped addresses have no place on a link; here they would be taken for IPv4.
    if src.is_v4() || dst.is_v4() {
        return Err(ParseError::Malformed);
    }
    let extensions = extensions(frame, at)?;
    let packet = IpPacket {
        l3: at as u16,
        l4: extensions.l4 as u16,
        version: IpVersion::V6,
        src,
        dst,
        proto: extensions.proto,
        ttl: frame.u8(at + 7).ok_or(ParseError::Truncated)?,
        total_len: total_len as u32,
        dont_fragment: true,
        fragment: extensions.fragment,
        options: extensions.l4 != at + IPV6_HEADER,
        transport: Transport::None,
    };
    Ok(Header { packet, stations_left: extensions.stations_left })
}

struct Extensions {
    l4: usize,
    proto: u8,
    fragment: Fragment,
    stations_left: bool,
}

/// Walks the extension headers (RFC 8200 section 4) of the IPv6 header at
/// `l3`, up to the transport header or the end of a later fragment's headers.
/// The last one may reach beyond the packet; who uses `l4` looks.
fn extensions<L: Load + ?Sized>(frame: &L, l3: usize) -> Result<Extensions, ParseError> {
    let mut found = Extensions {
        l4: l3 + IPV6_HEADER,
        proto: frame.u8(l3 + 6).ok_or(ParseError::Truncated)?,
        fragment: Fragment::None,
        stations_left: false,
    };
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(found.proto) || matches!(found.fragment, Fragment::Later { .. }) {
            return Ok(found);
        }
        let at = found.l4;
        let start = frame.be16(at).ok_or(ParseError::Truncated)?;
        let mut len = (usize::from(start & 0x00ff) + 1) * 8;
        if found.proto == FRAGMENT {
            let place = frame.be16(at + 2).ok_or(ParseError::Truncated)?;
            let id = frame.be32(at + 4).ok_or(ParseError::Truncated)?;
            found.fragment = fragment(place >> 3, place & 1 != 0, id);
            len = 8;
        }
        if found.proto == ROUTING {
            found.stations_left |= frame.u8(at + 3).ok_or(ParseError::Truncated)? != 0;
        }
        found.proto = (start >> 8) as u8;
        found.l4 = at + len;
    }
    if is_extension(found.proto) && !matches!(found.fragment, Fragment::Later { .. }) {
        return Err(ParseError::TooManyHeaders);
    }
    Ok(found)
}

fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

fn transport<L: Load + ?Sized>(frame: &L, packet: &IpPacket) -> Result<Transport, ParseError> {
    if matches!(packet.fragment, Fragment::Later { .. }) {
        return Ok(Transport::None);
    }
    match (packet.proto, packet.version) {
        (proto::TCP, _) => tcp(frame, packet),
        (proto::UDP, _) => udp(frame, packet),
        (proto::ICMP, IpVersion::V4) => crate::icmp::icmp(frame, packet),
        (proto::ICMPV6, IpVersion::V6) => crate::icmp::icmpv6(frame, packet),
        (_, IpVersion::V4 | IpVersion::V6) => Ok(Transport::Other),
    }
}

fn tcp<L: Load + ?Sized>(frame: &L, packet: &IpPacket) -> Result<Transport, ParseError> {
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
    Ok(Transport::Tcp(Tcp {
        src_port: frame.be16(at).ok_or(ParseError::Truncated)?,
        dst_port: frame.be16(at + 2).ok_or(ParseError::Truncated)?,
        seq: frame.be32(at + 4).ok_or(ParseError::Truncated)?,
        ack: frame.be32(at + 8).ok_or(ParseError::Truncated)?,
        flags: TcpFlags(offset_and_flags as u8),
        window: frame.be16(at + 14).ok_or(ParseError::Truncated)?,
        header_len: header_len as u8,
        payload_len: (room - header_len) as u32,
    }))
}

fn udp<L: Load + ?Sized>(frame: &L, packet: &IpPacket) -> Result<Transport, ParseError> {
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
    Ok(Transport::Udp(Udp {
        src_port: frame.be16(at).ok_or(ParseError::Truncated)?,
        dst_port: frame.be16(at + 2).ok_or(ParseError::Truncated)?,
        payload_len: (stated.min(room) - UDP_HEADER) as u32,
    }))
}

/// Whether `addr` is a multicast group of either IP version.
pub(crate) fn is_multicast(addr: Addr) -> bool {
    if addr.is_v4() { addr.v4_bytes()[0] >> 4 == 0xe } else { addr.0[0] == 0xff }
}
