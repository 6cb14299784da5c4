//! A rewrite that is ready: what every plain packet of one direction of a flow
//! gets, with the checksum arithmetic done once.
//!
//! It says what [`crate::rewrite`] would say for each of these packets (a
//! property test). The addresses and ports that go away are those of the
//! flow's key, so the difference that replacing them makes is the same for all.

use crate::checksum::{difference, fold, mend, mend_partial};
use crate::{Addr, Checksum, Endpoint, IpVersion, Plain, Store, Words, proto};

const ETHERNET: usize = 14;

/// The rewrite of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The new source address.
    pub src: Words,
    /// The new destination address.
    pub dst: Words,
    /// The new ports, source in the high half.
    pub ports: u32,
    /// The difference that the addresses make to a sum, folded; 0: they stay.
    pub addresses_change: u16,
    /// The difference that the ports make to a sum, folded; 0: they stay.
    pub ports_change: u16,
}

impl Ready {
    /// What turns packets from `old.0` to `old.1` into packets from `new.0` to
    /// `new.1`, all four of one IP version.
    pub fn new(old: (Endpoint, Endpoint), new: (Endpoint, Endpoint)) -> Ready {
        let addresses = address_change(old.0.addr, new.0.addr) + address_change(old.1.addr, new.1.addr);
        let ports = port_change(old.0.port, new.0.port) + port_change(old.1.port, new.1.port);
        Ready {
            src: new.0.addr.into(),
            dst: new.1.addr.into(),
            ports: u32::from(new.0.port) << 16 | u32::from(new.1.port),
            addresses_change: fold(addresses),
            ports_change: fold(ports),
        }
    }

    /// Writes addresses, ports and a TTL (or hop limit) that is one less into
    /// the frame that `packet` was read from, and mends the IPv4 header
    /// checksum. The transport checksum is for [`Ready::mend_transport`], or
    /// for the kernel's helpers, which know what stands there.
    #[inline(always)]
    pub fn write<F: Store + ?Sized>(&self, frame: &mut F, packet: &Plain) {
        match packet.version {
            IpVersion::V4 => self.write_v4(frame, packet),
            IpVersion::V6 => self.write_v6(frame, packet),
        }
        frame.set_be32(packet.l4(), self.ports);
    }

    #[inline(always)]
    fn write_v4<F: Store + ?Sized>(&self, frame: &mut F, packet: &Plain) {
        // Checksums count words: TTL shares one with the protocol number.
        let old = u32::from(packet.ttl) << 8 | u32::from(packet.proto);
        let new = u32::from(packet.ttl.saturating_sub(1)) << 8 | u32::from(packet.proto);
        let checksum = frame.be16(ETHERNET + 10).unwrap_or(0);
        let change = u32::from(self.addresses_change) + if old == new { 0 } else { difference(old, new) };
        let checksum = if change == 0 { checksum } else { mend(checksum, change) };
        frame.set_be32(ETHERNET + 8, new << 16 | u32::from(checksum));
        frame.set_be32(ETHERNET + 12, self.src.0[3]);
        frame.set_be32(ETHERNET + 16, self.dst.0[3]);
    }

    #[inline(always)]
    fn write_v6<F: Store + ?Sized>(&self, frame: &mut F, packet: &Plain) {
        frame.set_u8(ETHERNET + 7, packet.ttl.saturating_sub(1));
        let (Words([s0, s1, s2, s3]), Words([d0, d1, d2, d3])) = (self.src, self.dst);
        frame.set_be32(ETHERNET + 8, s0);
        frame.set_be32(ETHERNET + 12, s1);
        frame.set_be32(ETHERNET + 16, s2);
        frame.set_be32(ETHERNET + 20, s3);
        frame.set_be32(ETHERNET + 24, d0);
        frame.set_be32(ETHERNET + 28, d1);
        frame.set_be32(ETHERNET + 32, d2);
        frame.set_be32(ETHERNET + 36, d3);
    }

    /// Mends the transport checksum of the frame that `packet` was read from;
    /// `l4` says what stands there.
    #[inline(always)]
    pub fn mend_transport<F: Store + ?Sized>(&self, frame: &mut F, packet: &Plain, l4: Checksum) {
        let at = checksum_at(packet);
        let change = match l4 {
            Checksum::Complete => u32::from(self.addresses_change) + u32::from(self.ports_change),
            Checksum::Partial => u32::from(self.addresses_change),
        };
        if change == 0 {
            return;
        }
        let udp = packet.proto == proto::UDP;
        let old = frame.be16(at).unwrap_or(0);
        let new = match l4 {
            Checksum::Partial => mend_partial(old, change),
            // Zero means none and stays; a computed zero is written as 0xffff (RFC 768).
            Checksum::Complete if udp && old == 0 => 0,
            Checksum::Complete => match mend(old, change) {
                0 if udp => 0xffff,
                new => new,
            },
        };
        frame.set_be16(at, new);
    }
}

/// Offset of the transport checksum of `packet` in its frame.
#[inline(always)]
pub const fn checksum_at(packet: &Plain) -> usize {
    packet.l4() + if packet.proto == proto::TCP { 16 } else { 6 }
}

/// The difference that a smaller TTL (or hop limit) makes to a sum over the IPv6 header.
#[inline(always)]
pub const fn hop_limit_change(packet: &Plain) -> u16 {
    let rest = (packet.proto as u32) << 8;
    let (old, new) = (rest | packet.ttl as u32, rest | packet.ttl.saturating_sub(1) as u32);
    if old == new { 0 } else { fold(difference(old, new)) }
}

/// Words that stay make no difference: not even the one that counts as zero.
/// (The mapped prefix of IPv4 addresses stays, and stands in no packet.)
fn address_change(old: Addr, new: Addr) -> u32 {
    let pairs = Words::from(old).0.into_iter().zip(Words::from(new).0).filter(|(old, new)| old != new);
    pairs.map(|(old, new)| u32::from(fold(difference(old, new)))).sum()
}

fn port_change(old: u16, new: u16) -> u32 {
    if old == new { 0 } else { difference(u32::from(old), u32::from(new)) }
}
