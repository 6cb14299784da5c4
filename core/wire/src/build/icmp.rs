//! Echo and ICMP errors.

use super::{DEFAULT_TTL, IpHeader, Link, MAX_REPLY, Writer};
use crate::checksum::{difference, mend};
use crate::icmp::{v4, v6};
use crate::{
    Addr, Checksum, Echo, Endpoint, Fragment, IpPacket, IpVersion, Load, MacAddr, Rewrite, Store, Transport, apply,
    rewrite, set_macs,
};

/// Longest IPv4 packet that an error may be (RFC 1812 section 4.3.2.3).
const V4_ERROR: usize = 576;
/// Longest IPv6 packet that an error may be (RFC 4443 section 2.4 c).
const V6_ERROR: usize = MAX_REPLY - 18;

/// Turns the echo request in `frame` into its reply, from `own`. `false`, and
/// nothing changed, if it is not a whole echo request to a single host.
pub fn echo_reply_in_place(frame: &mut [u8], packet: &IpPacket, own: MacAddr, l4: Checksum) -> bool {
    let Transport::Echo(Echo { request: true, .. }) = packet.transport else { return false };
    let Some(sender) = frame.mac(6) else { return false };
    if packet.fragment != Fragment::None || packet.dst.is_multicast() || frame.len() < packet.end() {
        return false;
    }
    // The identifier stays; an edit list takes a request's from the source.
    let id = packet.source().port;
    let turned = Rewrite {
        src: Endpoint { addr: packet.dst, port: id },
        dst: Endpoint { addr: packet.src, port: 0 },
        decrement_ttl: false,
    };
    if !apply(frame, &rewrite(packet, &turned), l4) {
        return false;
    }
    set_macs(frame, sender, own);
    let (old, new) = match packet.version {
        IpVersion::V4 => (v4::ECHO_REQUEST, v4::ECHO_REPLY),
        IpVersion::V6 => (v6::ECHO_REQUEST, v6::ECHO_REPLY),
    };
    let at = usize::from(packet.l4);
    frame.set_u8(at, new);
    match l4 {
        Checksum::Complete => mend_at(frame, at + 2, u32::from(old) << 8, u32::from(new) << 8),
        // The card adds the message itself, type included.
        Checksum::Partial => {}
    }
    reset_ttl(frame, packet);
    true
}

fn reset_ttl(frame: &mut [u8], packet: &IpPacket) {
    let at = usize::from(packet.l3);
    match packet.version {
        IpVersion::V4 => {
            frame.set_u8(at + 8, DEFAULT_TTL);
            mend_at(frame, at + 10, u32::from(packet.ttl) << 8, u32::from(DEFAULT_TTL) << 8);
        }
        IpVersion::V6 => {
            frame.set_u8(at + 7, DEFAULT_TTL);
        }
    }
}

fn mend_at(frame: &mut [u8], at: usize, old: u32, new: u32) {
    let checksum = frame.be16(at).unwrap_or(0);
    frame.set_be16(at, mend(checksum, difference(old, new)));
}

/// An echo request with identifier `id` and number `seq`. The buffer holds
/// [`super::MAX_HEADERS`] more than `payload`.
pub fn echo_request(out: &mut [u8], link: Link, ends: (Addr, Addr), id_and_seq: (u16, u16), payload: &[u8]) -> usize {
    let header = IpHeader::icmp(ends.0, ends.1);
    let kind = if header.src.is_v4() { v4::ECHO_REQUEST } else { v6::ECHO_REQUEST };
    let mut writer = Writer::new(out, link, header.ethertype());
    writer.ip(&header, 8 + payload.len());
    let start = writer.at;
    writer.bytes(&[kind, 0, 0, 0]);
    writer.be16(id_and_seq.0);
    writer.be16(id_and_seq.1);
    writer.bytes(payload);
    writer.finish(&header, start, start + 2)
}

/// What an error of our own reports, in words of both IP versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorReport {
    /// No route to the destination.
    NetUnreachable,
    /// The destination's neighbour does not answer.
    HostUnreachable,
    /// Nobody serves this port.
    PortUnreachable,
    /// Policy forbids it.
    Prohibited,
    /// Larger than the next link carries: fragmentation needed (RFC 1191) or
    /// packet too big.
    TooBig {
        /// MTU of the next link in bytes.
        mtu: u32,
    },
    /// TTL or hop limit used up.
    TimeExceeded,
}

impl ErrorReport {
    /// Type, code and the word behind the checksum.
    fn fields(self, version: IpVersion) -> (u8, u8, u32) {
        match (version, self) {
            (IpVersion::V4, ErrorReport::NetUnreachable) => (v4::UNREACHABLE, 0, 0),
            (IpVersion::V4, ErrorReport::HostUnreachable) => (v4::UNREACHABLE, 1, 0),
            (IpVersion::V4, ErrorReport::PortUnreachable) => (v4::UNREACHABLE, 3, 0),
            (IpVersion::V4, ErrorReport::Prohibited) => (v4::UNREACHABLE, 13, 0),
            (IpVersion::V4, ErrorReport::TooBig { mtu }) => {
                (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED, mtu.min(0xffff))
            }
            (IpVersion::V4, ErrorReport::TimeExceeded) => (v4::TIME_EXCEEDED, 0, 0),
            (IpVersion::V6, ErrorReport::NetUnreachable) => (v6::UNREACHABLE, 0, 0),
            (IpVersion::V6, ErrorReport::HostUnreachable) => (v6::UNREACHABLE, 3, 0),
            (IpVersion::V6, ErrorReport::PortUnreachable) => (v6::UNREACHABLE, 4, 0),
            (IpVersion::V6, ErrorReport::Prohibited) => (v6::UNREACHABLE, 1, 0),
            (IpVersion::V6, ErrorReport::TooBig { mtu }) => (v6::PACKET_TOO_BIG, 0, mtu),
            (IpVersion::V6, ErrorReport::TimeExceeded) => (v6::TIME_EXCEEDED, 0, 0),
        }
    }
}

/// The packet that caused an error, as it was received (not edited).
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// What the parser found in it.
    pub packet: &'a IpPacket,
}

/// Tells the sender of `quote`, from our address `own`, what went wrong.
/// `None` where RFC 1122 section 3.2.2 and RFC 4443 section 2.4 forbid an
/// error: about ICMP errors and neighbour discovery, later fragments, frames
/// or packets to groups, and senders that are no single host.
pub fn icmp_error(out: &mut [u8], link: Link, own: Addr, quote: Quote<'_>, report: ErrorReport) -> Option<usize> {
    let packet = quote.packet;
    if !may_report(&quote) || own.is_v4() != packet.src.is_v4() {
        return None;
    }
    let header = IpHeader::icmp(own, packet.src);
    let longest = match packet.version {
        IpVersion::V4 => V4_ERROR - 28,
        IpVersion::V6 => V6_ERROR - 48,
    };
    let quoted = quote.frame.get(usize::from(packet.l3)..packet.end())?;
    let quoted = quoted.get(..longest).unwrap_or(quoted);
    let (kind, code, rest) = report.fields(packet.version);
    let mut writer = Writer::new(out, link, header.ethertype());
    writer.ip(&header, 8 + quoted.len());
    let start = writer.at;
    writer.bytes(&[kind, code, 0, 0]);
    writer.be32(rest);
    writer.bytes(quoted);
    Some(writer.finish(&header, start, start + 2))
}

fn may_report(quote: &Quote<'_>) -> bool {
    let packet = quote.packet;
    let about_icmp = match packet.transport {
        Transport::IcmpError(_)
        | Transport::NeighbourSolicitation(_)
        | Transport::NeighbourAdvertisement(_)
        | Transport::OtherIcmp { .. } => true,
        Transport::Tcp(_) | Transport::Udp(_) | Transport::Echo(_) | Transport::Other | Transport::None => false,
    };
    let later = matches!(packet.fragment, Fragment::Later { .. });
    let to_group = packet.dst.is_multicast() || quote.frame.mac(0).is_none_or(MacAddr::is_group);
    !about_icmp && !later && !to_group && packet.src.is_single_host()
}
