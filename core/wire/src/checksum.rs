//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).
//!
//! Sums are plain `u32` counts of 16-bit big-endian words, folded when done.

use crate::packet::proto;
use crate::{Addr, Fragment, IpPacket, IpVersion, Load, Transport};

/// What stands in a frame's layer-4 checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The finished checksum.
    Complete,
    /// Only the sum of the pseudo-header, not inverted; the card or the kernel
    /// adds the rest (`virtio_net_hdr` flag "needs checksum", `CHECKSUM_PARTIAL`).
    Partial,
}

/// The longest IPv4 header in 16-bit words.
const IPV4_HEADER_WORDS: usize = 30;

/// Adds the carries of `sum` back until 16 bits are left.
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// The folded sum of `bytes`; an odd last byte counts as the high half of a word.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut total: u64 = 0;
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        if let [high, low] = word {
            total += u64::from(u16::from_be_bytes([*high, *low]));
        }
    }
    if let [last] = words.remainder() {
        total += u64::from(*last) << 8;
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u32
}

/// The sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1)
/// for `len` bytes of transport header and payload. The mapped prefix of an
/// IPv4 address does not count.
pub fn pseudo_header(src: Addr, dst: Addr, protocol: u8, len: u32) -> u32 {
    let addresses = if src.is_v4() { sum(&src.v4_bytes()) + sum(&dst.v4_bytes()) } else { sum(&src.0) + sum(&dst.0) };
    addresses + u32::from(protocol) + (len >> 16) + (len & 0xffff)
}

/// The difference that replacing the 32-bit word `old` by `new` makes to a sum
/// (eqn. 3 of RFC 1624: `~m + m'`), at most 4 × 0xffff. Halfwords go in the low half.
pub(crate) const fn difference(old: u32, new: u32) -> u32 {
    let removed = !old;
    (removed >> 16) + (removed & 0xffff) + (new >> 16) + (new & 0xffff)
}

/// A finished checksum after `difference` has been made to what it covers.
pub(crate) const fn mend(checksum: u16, difference: u32) -> u16 {
    !fold(fold(difference) as u32 + (!checksum) as u32)
}

/// A pseudo-header sum after `difference` has been made to the pseudo-header.
pub(crate) const fn mend_partial(sum: u16, difference: u32) -> u16 {
    fold(fold(difference) as u32 + sum as u32)
}

/// Whether the IPv4 header checksum of `packet` is right; always so for IPv6,
/// which has none.
pub fn ipv4_checksum_ok<L: Load + ?Sized>(frame: &L, packet: &IpPacket) -> bool {
    match packet.version {
        IpVersion::V6 => true,
        IpVersion::V4 => {
            let at = usize::from(packet.l3);
            let words = usize::from(packet.l4.saturating_sub(packet.l3)) / 2;
            let mut total = 0;
            for index in 0..IPV4_HEADER_WORDS {
                if index < words {
                    total += u32::from(frame.be16(at + 2 * index).unwrap_or(0));
                }
            }
            fold(total) == 0xffff
        }
    }
}

/// Whether the checksum of an ICMP or ICMPv6 message is right. Use it before
/// believing or answering one; `true` for everything that is not ICMP, and for
/// fragments, whose checksum nobody can verify.
pub fn icmp_checksum_ok(frame: &[u8], packet: &IpPacket) -> bool {
    match packet.transport {
        Transport::Echo(_)
        | Transport::IcmpError(_)
        | Transport::NeighbourSolicitation(_)
        | Transport::NeighbourAdvertisement(_)
        | Transport::OtherIcmp { .. } => transport_checksum_ok(frame, packet),
        Transport::Tcp(_) | Transport::Udp(_) | Transport::Other | Transport::None => true,
    }
}

/// Whether the finished TCP, UDP, ICMP or ICMPv6 checksum of `packet` is right.
/// A UDP checksum of zero means "none". `true` for fragments and for protocols
/// whose checksum this crate does not know. Reads the whole packet.
pub fn transport_checksum_ok(frame: &[u8], packet: &IpPacket) -> bool {
    if packet.fragment != Fragment::None {
        return true;
    }
    let at = usize::from(packet.l4);
    let Some(mut segment) = frame.get(at..packet.end()) else { return false };
    let mut len = segment.len() as u32;
    let pseudo = match packet.transport {
        Transport::Other | Transport::None => return true,
        Transport::Udp(udp) => {
            if frame.be16(at + 6) == Some(0) {
                return true;
            }
            // Bytes between the datagram's and the packet's end are not covered.
            len = udp.payload_len + 8;
            segment = segment.get(..len as usize).unwrap_or(segment);
            true
        }
        Transport::Tcp(_) => true,
        Transport::Echo(_)
        | Transport::IcmpError(_)
        | Transport::NeighbourSolicitation(_)
        | Transport::NeighbourAdvertisement(_)
        | Transport::OtherIcmp { .. } => packet.proto == proto::ICMPV6,
    };
    let start = if pseudo { pseudo_header(packet.src, packet.dst, packet.proto, len) } else { 0 };
    fold(start + sum(segment)) == 0xffff
}
