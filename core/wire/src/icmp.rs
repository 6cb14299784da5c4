//! ICMP and ICMPv6: echo, errors with the packet they quote, neighbour discovery.

use crate::packet::proto;
use crate::parse::{ipv4, ipv6};
use crate::{
    Echo, Embedded, Endpoint, Fragment, IcmpError, IcmpErrorKind, IpPacket, IpVersion, Load, MacAddr,
    NeighbourAdvertisement, NeighbourSolicitation, ParseError, Ports, Transport,
};

/// Types of RFC 792.
pub(crate) mod v4 {
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Code of [`UNREACHABLE`] whose rest-of-header is the next link's MTU (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// Types of RFC 4443, RFC 4861 and RFC 3810.
pub(crate) mod v6 {
    pub const UNREACHABLE: u8 = 1;
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const MLD2_REPORT: u8 = 143;
}

/// Bytes before the body of every ICMP message read here.
pub(crate) const ICMP_HEADER: usize = 8;

/// Link-layer address options (RFC 4861 section 4.6.1).
pub(crate) const SOURCE_LINK_LAYER: u8 = 1;
/// See [`SOURCE_LINK_LAYER`].
pub(crate) const TARGET_LINK_LAYER: u8 = 2;

/// Options of a neighbour message that are looked through.
const MAX_ND_OPTIONS: usize = 8;

/// Transport bytes that every error must quote (RFC 792; IPv6 quotes more).
const QUOTED_TRANSPORT: usize = 8;

pub(crate) fn icmp<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket) -> Result<(), ParseError> {
    let message = message(frame, packet)?;
    let kind = match message.kind {
        v4::ECHO_REQUEST | v4::ECHO_REPLY => {
            packet.transport = message.echo(message.kind == v4::ECHO_REQUEST);
            return Ok(());
        }
        v4::UNREACHABLE if message.code == v4::FRAGMENTATION_NEEDED => {
            IcmpErrorKind::TooBig { mtu: message.rest & 0xffff }
        }
        v4::UNREACHABLE => IcmpErrorKind::Unreachable,
        v4::TIME_EXCEEDED => IcmpErrorKind::TimeExceeded,
        v4::PARAMETER_PROBLEM => IcmpErrorKind::ParameterProblem,
        _ => {
            packet.transport = message.other();
            return Ok(());
        }
    };
    if !error(frame, packet, kind, message.code) {
        packet.transport = message.other();
    }
    Ok(())
}

pub(crate) fn icmpv6<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket) -> Result<(), ParseError> {
    let message = message(frame, packet)?;
    let kind = match message.kind {
        v6::ECHO_REQUEST | v6::ECHO_REPLY => {
            packet.transport = message.echo(message.kind == v6::ECHO_REQUEST);
            return Ok(());
        }
        v6::NEIGHBOUR_SOLICITATION | v6::NEIGHBOUR_ADVERTISEMENT => {
            if !neighbour(frame, packet, message) {
                packet.transport = message.other();
            }
            return Ok(());
        }
        v6::UNREACHABLE => IcmpErrorKind::Unreachable,
        v6::PACKET_TOO_BIG => IcmpErrorKind::TooBig { mtu: message.rest },
        v6::TIME_EXCEEDED => IcmpErrorKind::TimeExceeded,
        v6::PARAMETER_PROBLEM => IcmpErrorKind::ParameterProblem,
        _ => {
            packet.transport = message.other();
            return Ok(());
        }
    };
    if !error(frame, packet, kind, message.code) {
        packet.transport = message.other();
    }
    Ok(())
}

/// The first eight bytes of a message.
#[derive(Clone, Copy)]
struct Message {
    kind: u8,
    code: u8,
    rest: u32,
}

impl Message {
    fn echo(self, request: bool) -> Transport {
        Transport::Echo(Echo { request, id: (self.rest >> 16) as u16, seq: self.rest as u16 })
    }

    fn other(self) -> Transport {
        Transport::OtherIcmp { kind: self.kind, code: self.code }
    }
}

fn message<L: Load + ?Sized>(frame: &L, packet: &IpPacket) -> Result<Message, ParseError> {
    let at = usize::from(packet.l4);
    if at + ICMP_HEADER > packet.end() {
        return Err(ParseError::Truncated);
    }
    let kind_and_code = frame.be16(at).ok_or(ParseError::Truncated)?;
    let rest = frame.be32(at + 4).ok_or(ParseError::Truncated)?;
    Ok(Message { kind: (kind_and_code >> 8) as u8, code: kind_and_code as u8, rest })
}

/// Fills in an error, unless the packet it quotes does not name ports (answers `false`).
///
/// Apart from its callers, so that the compiler cannot make one store of theirs
/// and this one: parts of it would be undefined, which the verifier refuses.
#[inline(never)]
fn error<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket, kind: IcmpErrorKind, code: u8) -> bool {
    if packet.fragment != Fragment::None {
        return false;
    }
    let at = usize::from(packet.l4) + ICMP_HEADER;
    let mut inner = IpPacket::default();
    let stations_left = match packet.version {
        IpVersion::V4 => ipv4(frame, at, packet.end(), &mut inner),
        IpVersion::V6 => ipv6(frame, at, packet.end(), &mut inner),
    };
    if stations_left != Ok(false) {
        return false;
    }
    let Some(inner) = embedded(frame, &inner, packet.end()) else { return false };
    packet.transport = Transport::IcmpError(IcmpError { kind, code, inner });
    true
}

/// The quoted `packet`, if its ports are among the bytes before `end`.
fn embedded<L: Load + ?Sized>(frame: &L, packet: &IpPacket, end: usize) -> Option<Embedded> {
    let at = usize::from(packet.l4);
    if matches!(packet.fragment, Fragment::Later { .. }) || at + QUOTED_TRANSPORT > end {
        return None;
    }
    let (ports, checksum_at) = match (packet.proto, packet.version) {
        (proto::TCP, _) => (Ports::Pair, 16),
        (proto::UDP, _) => (Ports::Pair, 6),
        (proto::ICMP, IpVersion::V4) => (echo_ports(frame.u8(at)?, v4::ECHO_REQUEST, v4::ECHO_REPLY)?, 2),
        (proto::ICMPV6, IpVersion::V6) => (echo_ports(frame.u8(at)?, v6::ECHO_REQUEST, v6::ECHO_REPLY)?, 2),
        (_, IpVersion::V4 | IpVersion::V6) => return None,
    };
    let (src, dst) = match ports {
        Ports::Pair => (frame.be16(at)?, frame.be16(at + 2)?),
        Ports::EchoRequest => (frame.be16(at + 4)?, 0),
        Ports::EchoReply => (0, frame.be16(at + 4)?),
    };
    Some(Embedded {
        l3: packet.l3,
        l4: packet.l4,
        version: packet.version,
        proto: packet.proto,
        src: Endpoint { addr: packet.src, port: src },
        dst: Endpoint { addr: packet.dst, port: dst },
        ports,
        has_checksum: at + checksum_at + 2 <= end,
    })
}

fn echo_ports(kind: u8, request: u8, reply: u8) -> Option<Ports> {
    if kind == request {
        Some(Ports::EchoRequest)
    } else if kind == reply {
        Some(Ports::EchoReply)
    } else {
        None
    }
}

/// Fills in a neighbour message, if it passes the checks of RFC 4861 section
/// 7.1 (the checksum apart). Apart from its caller for the reason of [`error`].
#[inline(never)]
fn neighbour<L: Load + ?Sized>(frame: &L, packet: &mut IpPacket, message: Message) -> bool {
    let at = usize::from(packet.l4);
    let Some(target) = frame.v6(at + ICMP_HEADER) else { return false };
    let body_end = at + ICMP_HEADER + 16;
    let hop_limit_kept = packet.ttl == 255;
    if !hop_limit_kept || message.code != 0 || body_end > packet.end() || target.is_multicast() || target.is_v4() {
        return false;
    }
    let mut mac = MacAddr::default();
    if message.kind == v6::NEIGHBOUR_SOLICITATION {
        let Some(there) = link_layer_option(frame, body_end, packet.end(), SOURCE_LINK_LAYER, &mut mac) else {
            return false;
        };
        let source_mac = there.then_some(mac);
        packet.transport = Transport::NeighbourSolicitation(NeighbourSolicitation { target, source_mac });
    } else {
        let Some(there) = link_layer_option(frame, body_end, packet.end(), TARGET_LINK_LAYER, &mut mac) else {
            return false;
        };
        packet.transport = Transport::NeighbourAdvertisement(NeighbourAdvertisement {
            target,
            mac: there.then_some(mac),
            solicited: message.rest & 0x4000_0000 != 0,
            override_cache: message.rest & 0x2000_0000 != 0,
            router: message.rest & 0x8000_0000 != 0,
        });
    }
    true
}

/// Looks for the option `wanted` between `at` and `end` and copies its address
/// to `mac`: `None` says that the options are broken, `false` that it is not there.
fn link_layer_option<L: Load + ?Sized>(
    frame: &L,
    at: usize,
    end: usize,
    wanted: u8,
    mac: &mut MacAddr,
) -> Option<bool> {
    let mut at = at;
    for _ in 0..MAX_ND_OPTIONS {
        if at + 8 > end {
            return Some(false);
        }
        let start = frame.be16(at)?;
        let len = usize::from(start & 0x00ff) * 8;
        if len == 0 || at + len > end {
            return None;
        }
        if (start >> 8) as u8 == wanted && len == 8 {
            *mac = frame.mac(at + 2)?;
            return Some(true);
        }
        at += len;
    }
    Some(false)
}
