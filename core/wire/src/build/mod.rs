//! Frames that a node makes itself.
//!
//! Every builder writes a whole frame, from the Ethernet header on, with
//! finished checksums, into the caller's buffer and answers its length.
//! [`MAX_REPLY`] bytes are enough for all of them, except for those that
//! carry the caller's payload ([`tcp_segment`], [`udp_datagram`],
//! [`echo_request`]: [`MAX_HEADERS`] more than the payload; [`altered_segment`]). A smaller buffer
//! is the caller's bug and panics. Short frames are not padded; drivers do that.

mod altered;
mod arp;
mod icmp;
mod neighbour;
mod segment;

pub use altered::{Altered, Edge, altered_segment};
pub use arp::{arp_reply, arp_request, gratuitous_arp_reply, gratuitous_arp_request};
pub use icmp::{ErrorReport, Quote, echo_reply_in_place, echo_request, icmp_error};
pub use neighbour::{
    MAX_MLD_GROUPS, all_nodes, mld2_report, multicast_mac, neighbour_advertisement, neighbour_probe,
    neighbour_solicitation, solicited_node, unsolicited_neighbour_advertisement,
};
pub use segment::{Reset, Segment, reset_for, tcp_reset, tcp_segment, udp_datagram};

use crate::checksum::{fold, pseudo_header, sum};
use crate::packet::{ethertype, proto};
use crate::{Addr, Ethernet, MacAddr};

/// Ethernet with one tag, IPv6 and a TCP header with its MSS option.
pub const MAX_HEADERS: usize = 18 + 40 + 24;

/// The buffer that suffices for every reply: a tagged Ethernet header and an
/// IPv6 packet of the minimum MTU (RFC 4443 section 2.4 c).
pub const MAX_REPLY: usize = 18 + 1280;

/// TTL or hop limit of packets that may be routed.
const DEFAULT_TTL: u8 = 64;

/// The Ethernet header of a frame to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination.
    pub dst: MacAddr,
    /// Source: the Ethernet address of the port the frame leaves by.
    pub src: MacAddr,
    /// VLAN number for an 802.1Q tag; `None` sends untagged.
    pub vlan: Option<u16>,
}

impl Link {
    /// An untagged header.
    pub const fn new(dst: MacAddr, src: MacAddr) -> Link {
        Link { dst, src, vlan: None }
    }

    /// The way back to where `received` came from, in the same VLAN, from `own`.
    pub const fn answer(received: &Ethernet, own: MacAddr) -> Link {
        Link { dst: received.src, src: own, vlan: received.vlan }
    }
}

/// Writes bytes one after the other into a buffer that must be large enough.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer behind the Ethernet header of `link`.
    fn new(out: &'a mut [u8], link: Link, kind: u16) -> Writer<'a> {
        let mut writer = Writer { out, at: 0 };
        writer.bytes(&link.dst.0);
        writer.bytes(&link.src.0);
        if let Some(vlan) = link.vlan {
            writer.be16(ethertype::VLAN);
            writer.be16(vlan & 0x0fff);
        }
        writer.be16(kind);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        assert!(end <= self.out.len(), "a builder's buffer is at least as long as its documentation asks");
        self.out[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn be16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn be32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Overwrites the 16 bits at `at`, which were written before.
    fn patch(&mut self, at: usize, value: u16) {
        self.out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes the IP header of a packet with `payload` bytes behind it.
    fn ip(&mut self, header: &IpHeader, payload: usize) {
        if header.src.is_v4() {
            self.ipv4(header, payload);
        } else {
            self.ipv6(header, header.protocol, payload);
        }
    }

    /// An atomic packet (RFC 6864): "don't fragment", identification zero.
    fn ipv4(&mut self, header: &IpHeader, payload: usize) {
        let start = self.at;
        self.be16(0x4500);
        self.be16((20 + payload) as u16);
        self.be32(0x0000_4000);
        self.u8(header.ttl);
        self.u8(header.protocol);
        self.be16(0);
        self.bytes(&header.src.v4_bytes());
        self.bytes(&header.dst.v4_bytes());
        let checksum = !fold(sum(&self.out[start..self.at]));
        self.patch(start + 10, checksum);
    }

    fn ipv6(&mut self, header: &IpHeader, next_header: u8, payload: usize) {
        self.be32(0x6000_0000);
        self.be16(payload as u16);
        self.u8(next_header);
        self.u8(header.ttl);
        self.bytes(&header.src.0);
        self.bytes(&header.dst.0);
    }

    /// Finishes the transport checksum at `field` over everything from
    /// `start` on, and the frame with it.
    fn finish(mut self, header: &IpHeader, start: usize, field: usize) -> usize {
        let pseudo = match header.protocol {
            proto::ICMP => 0,
            _ => pseudo_header(header.src, header.dst, header.protocol, (self.at - start) as u32),
        };
        self.patch(field, 0);
        let mut checksum = !fold(pseudo + sum(&self.out[start..self.at]));
        if checksum == 0 && header.protocol == proto::UDP {
            checksum = 0xffff;
        }
        self.patch(field, checksum);
        self.at
    }
}

/// The fields of an IP header that builders choose.
#[derive(Clone, Copy)]
struct IpHeader {
    src: Addr,
    dst: Addr,
    protocol: u8,
    ttl: u8,
}

impl IpHeader {
    fn new(src: Addr, dst: Addr, protocol: u8) -> IpHeader {
        assert_eq!(src.is_v4(), dst.is_v4(), "a packet's addresses are of one family");
        IpHeader { src, dst, protocol, ttl: DEFAULT_TTL }
    }

    /// ICMP of the addresses' family.
    fn icmp(src: Addr, dst: Addr) -> IpHeader {
        IpHeader::new(src, dst, if src.is_v4() { proto::ICMP } else { proto::ICMPV6 })
    }

    fn with_ttl(self, ttl: u8) -> IpHeader {
        IpHeader { ttl, ..self }
    }

    fn ethertype(&self) -> u16 {
        if self.src.is_v4() { ethertype::IPV4 } else { ethertype::IPV6 }
    }
}
