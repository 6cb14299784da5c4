//! TCP segments, resets and UDP datagrams.

use super::{IpHeader, Link, Writer};
use crate::packet::proto;
use crate::{Endpoint, IpPacket, TcpFlags, Transport};

/// A TCP segment to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source.
    pub src: Endpoint,
    /// Destination.
    pub dst: Endpoint,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window, unscaled.
    pub window: u16,
    /// Maximum segment size option, for SYN segments.
    pub mss: Option<u16>,
    /// Payload.
    pub payload: &'a [u8],
}

/// Builds a TCP segment. The buffer holds [`super::MAX_HEADERS`] more than the payload.
pub fn tcp_segment(out: &mut [u8], link: Link, segment: &Segment<'_>) -> usize {
    let header = IpHeader::new(segment.src.addr, segment.dst.addr, proto::TCP);
    let header_len: u8 = if segment.mss.is_some() { 24 } else { 20 };
    let mut writer = Writer::new(out, link, header.ethertype());
    writer.ip(&header, usize::from(header_len) + segment.payload.len());
    let start = writer.at;
    writer.be16(segment.src.port);
    writer.be16(segment.dst.port);
    writer.be32(segment.seq);
    writer.be32(segment.ack);
    writer.bytes(&[header_len << 2, segment.flags.0]);
    writer.be16(segment.window);
    writer.be32(0);
    if let Some(mss) = segment.mss {
        writer.bytes(&[2, 4]);
        writer.be16(mss);
    }
    writer.bytes(segment.payload);
    writer.finish(&header, start, start + 16)
}

/// The numbers of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; counts if `flags` has ACK.
    pub ack: u32,
    /// RST, or RST and ACK.
    pub flags: TcpFlags,
}

/// The reset that answers the segment in `packet` where no connection exists
/// (RFC 9293 section 3.10.7.1); `None` for resets and for what is not TCP.
pub fn reset_for(packet: &IpPacket) -> Option<Reset> {
    let Transport::Tcp(tcp) = packet.transport else { return None };
    if tcp.flags.rst() {
        return None;
    }
    if tcp.flags.ack() {
        return Some(Reset { seq: tcp.ack, ack: 0, flags: TcpFlags::RST });
    }
    let length = tcp.payload_len + u32::from(tcp.flags.syn()) + u32::from(tcp.flags.fin());
    Some(Reset { seq: 0, ack: tcp.seq.wrapping_add(length), flags: TcpFlags::RST.with(TcpFlags::ACK) })
}

/// Builds a reset from `src` to `dst`. To answer a received packet, `src` is
/// its destination and `dst` its source, with the numbers of [`reset_for`].
pub fn tcp_reset(out: &mut [u8], link: Link, src: Endpoint, dst: Endpoint, reset: Reset) -> usize {
    let Reset { seq, ack, flags } = reset;
    tcp_segment(out, link, &Segment { src, dst, seq, ack, flags, window: 0, mss: None, payload: &[] })
}

/// Builds a UDP datagram. The buffer holds [`super::MAX_HEADERS`] more than the payload.
pub fn udp_datagram(out: &mut [u8], link: Link, src: Endpoint, dst: Endpoint, payload: &[u8]) -> usize {
    let header = IpHeader::new(src.addr, dst.addr, proto::UDP);
    let mut writer = Writer::new(out, link, header.ethertype());
    writer.ip(&header, 8 + payload.len());
    let start = writer.at;
    writer.be16(src.port);
    writer.be16(dst.port);
    writer.be16((8 + payload.len()) as u16);
    writer.be16(0);
    writer.bytes(payload);
    writer.finish(&header, start, start + 6)
}
