//! A TCP segment with other numbers and another payload.

use super::Writer;
use crate::checksum::{fold, pseudo_header, sum};
use crate::packet::proto;
use crate::{Checksum, IpPacket, IpVersion, TcpFlags};

/// Longest packet that an IPv4 header can state; an IPv6 one states as much behind its header.
const LONGEST: usize = 65_535;
/// TCP options (RFC 9293 section 3.1, RFC 2018 section 3).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const SELECTIVE_ACK: u8 = 5;
/// Length of a TCP header without options.
const TCP_HEADER: usize = 20;

/// What a segment shall say in place of what it says. Addresses, ports, window and options stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Altered<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Payload.
    pub payload: &'a [u8],
}

/// An edge of a block that a selective acknowledgement names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The first byte of the block.
    First(u32),
    /// The byte behind its last one.
    Last(u32),
}

/// Copies the TCP segment in `frame` with what `altered` says; `edges` translates the edges of selective
/// acknowledgements, and `checksum` says what stands in the checksum's place, there and then here. The buffer holds as much as
/// `frame` and the payload together. Answers the length; `None` if it is no TCP segment, or would be too long.
pub fn altered_segment(
    out: &mut [u8],
    frame: &[u8],
    packet: &IpPacket,
    altered: &Altered<'_>,
    checksum: Checksum,
    edges: impl Fn(Edge) -> u32,
) -> Option<usize> {
    let tcp = packet.tcp()?;
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let headers = frame.get(..l4 + usize::from(tcp.header_len))?;
    let stated = headers.len() - l3 + altered.payload.len();
    if stated > LONGEST {
        return None;
    }
    let mut writer = Writer { out, at: 0 };
    writer.bytes(headers);
    writer.bytes(altered.payload);
    let end = writer.at;
    match packet.version {
        IpVersion::V4 => {
            writer.patch(l3 + 2, stated as u16);
            writer.patch(l3 + 10, 0);
            let header = !fold(sum(&writer.out[l3..l4]));
            writer.patch(l3 + 10, header);
        }
        IpVersion::V6 => writer.patch(l3 + 4, (stated - 40) as u16),
    }
    let segment = &mut writer.out[l4..end];
    segment[4..8].copy_from_slice(&altered.seq.to_be_bytes());
    segment[8..12].copy_from_slice(&altered.ack.to_be_bytes());
    segment[13] = altered.flags.0;
    translate_blocks(&mut segment[TCP_HEADER..usize::from(tcp.header_len)], edges);
    let pseudo = pseudo_header(packet.src, packet.dst, proto::TCP, segment.len() as u32);
    segment[16..18].fill(0);
    let value = match checksum {
        Checksum::Partial => fold(pseudo),
        Checksum::Complete => !fold(pseudo + sum(segment)),
    };
    segment[16..18].copy_from_slice(&value.to_be_bytes());
    Some(end)
}

/// Translates the blocks of selective acknowledgements among `options`.
fn translate_blocks(options: &mut [u8], edges: impl Fn(Edge) -> u32) {
    let mut rest = options;
    loop {
        let len = match rest {
            [] | [END_OF_OPTIONS, ..] => return,
            [NO_OPERATION, ..] => 1,
            [_, len, ..] => usize::from(*len),
            [_] => return,
        };
        if len == 0 || len > rest.len() || rest[0] != NO_OPERATION && len < 2 {
            return;
        }
        let (option, behind) = rest.split_at_mut(len);
        if option[0] == SELECTIVE_ACK {
            for block in option[2..].as_chunks_mut::<8>().0 {
                let [a, b, c, d, e, f, g, h] = *block;
                let first = edges(Edge::First(u32::from_be_bytes([a, b, c, d])));
                let last = edges(Edge::Last(u32::from_be_bytes([e, f, g, h])));
                block[..4].copy_from_slice(&first.to_be_bytes());
                block[4..].copy_from_slice(&last.to_be_bytes());
            }
        }
        rest = behind;
    }
}
