//! What the parser found: offsets and the values that decide.
//!
//! Offsets count from the first byte of the frame; ports and numbers are in
//! host order.

use crate::{Addr, Endpoint, MacAddr};

/// Ethernet types.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// IP protocol numbers.
pub mod proto {
    /// ICMP (for IPv4).
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// Why a frame could not be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The frame ends before its headers (or the packet its header states) do.
    Truncated,
    /// Lengths or versions contradict each other.
    Malformed,
    /// More IPv6 extension headers than [`crate::MAX_EXTENSION_HEADERS`].
    TooManyHeaders,
}

/// The Ethernet header with its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// What follows the tags; below 0x600 it is an 802.3 length.
    pub ethertype: u16,
    /// The outermost tag's VLAN number (0 = priority tag only), if tagged.
    pub vlan: Option<u16>,
    /// Length including tags: 14, 18 or 22.
    pub len: u16,
}

/// What follows the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// An IPv4 or IPv6 packet.
    Ip(IpPacket),
    /// Anything else.
    Other,
}

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOp {
    /// Who has `target`?
    Request,
    /// `sender` is at `sender_mac`.
    Reply,
}

/// An ARP packet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub op: ArpOp,
    /// Ethernet address of the sender.
    pub sender_mac: MacAddr,
    /// IPv4 address of the sender (0.0.0.0 in a probe, RFC 5227).
    pub sender: Addr,
    /// Ethernet address of the target; zero in most requests.
    pub target_mac: MacAddr,
    /// IPv4 address asked for, or answered to.
    pub target: Addr,
}

/// IP version of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Place of a packet among the fragments of a datagram. An atomic IPv6
/// fragment (RFC 6946) counts as no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole datagram.
    None,
    /// The first part: it carries the transport header.
    First {
        /// Identification (16 bits in IPv4).
        id: u32,
    },
    /// A later part: it has no transport header.
    Later {
        /// Identification (16 bits in IPv4).
        id: u32,
    },
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header, after options or extension headers.
    pub l4: u16,
    /// IP version.
    pub version: IpVersion,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The final protocol, after extension headers.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Length of the IP packet from `l3` on, in bytes; trailing Ethernet
    /// padding does not count. Where the header states 0 (super-packets beyond
    /// 65535 bytes) it is what the frame holds.
    pub total_len: u32,
    /// Routers may not fragment it (always so in IPv6).
    pub dont_fragment: bool,
    /// Place among fragments.
    pub fragment: Fragment,
    /// IPv4 options or IPv6 extension headers are present.
    pub options: bool,
    /// The transport header.
    pub transport: Transport,
}

impl Default for IpPacket {
    /// A packet that says nothing, to parse into.
    fn default() -> IpPacket {
        IpPacket {
            l3: 0,
            l4: 0,
            version: IpVersion::V4,
            src: Addr::UNSPECIFIED,
            dst: Addr::UNSPECIFIED,
            proto: 0,
            ttl: 0,
            total_len: 0,
            dont_fragment: false,
            fragment: Fragment::None,
            options: false,
            transport: Transport::None,
        }
    }
}

impl IpPacket {
    /// Source address and port. For echo the identifier is the port of the end
    /// that asks: the source of a request, the destination of a reply; the
    /// other end has port 0, as have all ends of other packets.
    pub fn source(&self) -> Endpoint {
        Endpoint { addr: self.src, port: self.transport.ports().map_or(0, |(src, _)| src) }
    }

    /// Destination address and port, as in [`IpPacket::source`].
    pub fn destination(&self) -> Endpoint {
        Endpoint { addr: self.dst, port: self.transport.ports().map_or(0, |(_, dst)| dst) }
    }

    /// Offset just past the packet; what follows in the frame is padding.
    pub fn end(&self) -> usize {
        usize::from(self.l3) + self.total_len as usize
    }

    /// The TCP header, if it is a TCP packet.
    pub fn tcp(&self) -> Option<&Tcp> {
        if let Transport::Tcp(tcp) = &self.transport { Some(tcp) } else { None }
    }
}

/// The transport header of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP or ICMPv6 echo.
    Echo(Echo),
    /// An ICMP or ICMPv6 error whose quoted packet names its ports.
    IcmpError(IcmpError),
    /// A valid neighbour solicitation (hop limit 255; checksum not verified).
    NeighbourSolicitation(NeighbourSolicitation),
    /// A valid neighbour advertisement (hop limit 255; checksum not verified).
    NeighbourAdvertisement(NeighbourAdvertisement),
    /// Any other ICMP or ICMPv6 message, or one that is not valid as what it claims to be.
    OtherIcmp {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
    /// Another protocol, or an IPv6 packet whose routing header has stations left.
    Other,
    /// No transport header: a later fragment.
    None,
}

impl Transport {
    /// Source and destination port; see [`IpPacket::source`] for echo.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Transport::Tcp(tcp) => Some((tcp.src_port, tcp.dst_port)),
            Transport::Udp(udp) => Some((udp.src_port, udp.dst_port)),
            Transport::Echo(echo) if echo.request => Some((echo.id, 0)),
            Transport::Echo(echo) => Some((0, echo.id)),
            Transport::IcmpError(_)
            | Transport::NeighbourSolicitation(_)
            | Transport::NeighbourAdvertisement(_)
            | Transport::OtherIcmp { .. }
            | Transport::Other
            | Transport::None => None,
        }
    }
}

/// TCP flags as they stand in the header's 14th byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement field counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x20);

    /// Whether all flags of `other` are set here.
    pub const fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn with(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }

    /// Whether FIN is set.
    pub const fn fin(self) -> bool {
        self.contains(TcpFlags::FIN)
    }

    /// Whether SYN is set.
    pub const fn syn(self) -> bool {
        self.contains(TcpFlags::SYN)
    }

    /// Whether RST is set.
    pub const fn rst(self) -> bool {
        self.contains(TcpFlags::RST)
    }

    /// Whether ACK is set.
    pub const fn ack(self) -> bool {
        self.contains(TcpFlags::ACK)
    }
}

/// A TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window as sent, unscaled.
    pub window: u16,
    /// Header length with options, 20..=60 bytes.
    pub header_len: u8,
    /// Payload bytes in this packet.
    pub payload_len: u32,
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Payload bytes in this packet (of a first fragment: in the fragment).
    pub payload_len: u32,
}

/// An echo request or reply (RFC 792, RFC 4443 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Request, else reply.
    pub request: bool,
    /// Identifier; stands in for a port.
    pub id: u16,
    /// Sequence number.
    pub seq: u16,
}

/// What an ICMP error reports, in words of both IP versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// Destination unreachable.
    Unreachable,
    /// Larger than the next link: fragmentation needed, or packet too big.
    TooBig {
        /// MTU of the next link in bytes; 0 from routers before RFC 1191.
        mtu: u32,
    },
    /// TTL or reassembly time exceeded.
    TimeExceeded,
    /// Parameter problem.
    ParameterProblem,
}

/// An ICMP or ICMPv6 error and the packet it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// What it reports.
    pub kind: IcmpErrorKind,
    /// The ICMP code.
    pub code: u8,
    /// The quoted packet.
    pub inner: Embedded,
}

/// How the ports of a packet are kept in its transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Source and destination port first, as in TCP and UDP.
    Pair,
    /// The identifier of an echo request: the source's port.
    EchoRequest,
    /// The identifier of an echo reply: the destination's port.
    EchoReply,
}

/// A packet quoted by an ICMP error: at least 8 bytes of its transport header
/// are there. Its lengths are not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Offset of its IP header in the frame.
    pub l3: u16,
    /// Offset of its transport header in the frame.
    pub l4: u16,
    /// Its IP version.
    pub version: IpVersion,
    /// Its final protocol.
    pub proto: u8,
    /// Its source, port rule as in [`IpPacket::source`].
    pub src: Endpoint,
    /// Its destination, port rule as in [`IpPacket::source`].
    pub dst: Endpoint,
    /// How its ports are kept.
    pub ports: Ports,
    /// The quote is long enough to hold its transport checksum.
    pub has_checksum: bool,
}

/// A neighbour solicitation (RFC 4861 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourSolicitation {
    /// The address asked for.
    pub target: Addr,
    /// Source link-layer option; none in duplicate address detection.
    pub source_mac: Option<MacAddr>,
}

/// A neighbour advertisement (RFC 4861 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourAdvertisement {
    /// The address it speaks of.
    pub target: Addr,
    /// Target link-layer option.
    pub mac: Option<MacAddr>,
    /// The S flag: an answer to a solicitation.
    pub solicited: bool,
    /// The O flag: replaces what is cached.
    pub override_cache: bool,
    /// The R flag: the sender is a router.
    pub router: bool,
}
