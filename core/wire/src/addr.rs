//! Addresses as they stand in headers, in one form for both IP versions.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether the group bit is set (multicast or broadcast).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IP address in network order: IPv6 as it is, IPv4 in its mapped form
/// (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), so that one key type serves both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// `::`, the address of nobody; in a vserver: any address.
    pub const UNSPECIFIED: Addr = Addr([0; 16]);

    /// From the four bytes of an IPv4 header.
    pub const fn v4(b: [u8; 4]) -> Addr {
        Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]])
    }

    /// Whether this is an IPv4 address.
    pub const fn is_v4(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
    }

    /// The four bytes of an IPv4 header (the last four bytes of any address).
    pub const fn v4_bytes(self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// Whether this is a multicast group of either IP version.
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { self.0[12] >> 4 == 0xe } else { self.0[0] == 0xff }
    }

    /// Whether a single host can have this address: not unspecified, loopback, a
    /// group or broadcast (RFC 1122 section 3.2.1.3), nor one of the IPv6
    /// addresses beside `::1` that nobody has (RFC 4291 section 2.5.5.1).
    pub const fn is_single_host(self) -> bool {
        let never_v4 = self.is_v4() && matches!(self.0[12], 0 | 127 | 240..=255);
        let never_v6 = matches!(self.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, _]);
        !never_v4 && !never_v6 && !self.is_multicast()
    }

    /// Whether the first `bits` bits equal those of `other`, counted in the
    /// address family's own length (0..=32 for IPv4, 0..=128 for IPv6).
    /// Addresses of different families never match.
    pub fn matches_prefix(self, other: Addr, bits: u8) -> bool {
        self.is_v4() == other.is_v4() && self.masked(bits) == other.masked(bits)
    }

    /// This address with all bits after the first `bits` cleared, counted as
    /// in [`Addr::matches_prefix`].
    pub fn masked(self, bits: u8) -> Addr {
        let bits = if self.is_v4() { bits.min(32) + 96 } else { bits.min(128) };
        let mut bytes = self.0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let kept = bits.saturating_sub(8 * index as u8).min(8);
            *byte &= (0xff00u16 >> kept) as u8;
        }
        Addr(bytes)
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Addr {
        match ip {
            IpAddr::V4(v4) => Addr::v4(v4.octets()),
            IpAddr::V6(v6) => Addr(v6.octets()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> IpAddr {
        if addr.is_v4() { IpAddr::V4(Ipv4Addr::from(addr.v4_bytes())) } else { IpAddr::V6(Ipv6Addr::from(addr.0)) }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

/// An address and a TCP or UDP port (host order); for ICMP echo flows the
/// identifier stands in for the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port, host order.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addr.is_v4() {
            write!(f, "{}:{}", self.addr, self.port)
        } else {
            write!(f, "[{}]:{}", self.addr, self.port)
        }
    }
}
