//! What becomes of a packet, as far as it can be said without a helper of the kernel.

use holdfast_wire::{Plain, TcpFlags, Unusual, proto};

use crate::Entry;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $label:literal,)*) => {
        /// Why the fast path did not forward a packet. One counter each. All but
        /// [`Reason::Fenced`] leave the frame as it came: it goes up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])* $name,)* }

        impl Reason {
            /// Every reason, in counter order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The counter's name in `show` output and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// No entry has its key.
    Unknown = "unknown",
    /// Neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// In a VLAN.
    Tagged = "tagged",
    /// Lengths or versions that contradict each other.
    Malformed = "malformed",
    /// A wrong IPv4 header checksum.
    BadChecksum = "bad_checksum",
    /// IPv4 options or IPv6 extension headers.
    Options = "options",
    /// Part of a datagram.
    Fragment = "fragment",
    /// Neither TCP nor UDP.
    Protocol = "protocol",
    /// A super-packet beyond 65535 bytes.
    Jumbo = "jumbo",
    /// UDP over IPv6 without a checksum.
    NoChecksum = "no_checksum",
    /// Its entry is of another epoch.
    Stale = "stale",
    /// Not sent to an Ethernet address of ours.
    NotForUs = "not_for_us",
    /// TTL or hop limit used up.
    Ttl = "ttl",
    /// A SYN of a known flow.
    Syn = "syn",
    /// A FIN.
    Fin = "fin",
    /// A reset.
    Rst = "rst",
    /// Flags that no end sends.
    OddFlags = "odd_flags",
    /// Larger than the way out allows.
    TooBig = "too_big",
    /// The kernel refused to edit the frame, which was dropped.
    Failed = "failed",
    /// The lease is over: dropped, it has to do with a floating address or a known flow.
    Fenced = "fenced",
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: u32 = Reason::ALL.len() as u32;
}

impl From<Unusual> for Reason {
    #[inline(always)]
    fn from(unusual: Unusual) -> Reason {
        match unusual {
            Unusual::NotIp => Reason::NotIp,
            Unusual::Tagged => Reason::Tagged,
            Unusual::Malformed => Reason::Malformed,
            Unusual::BadChecksum => Reason::BadChecksum,
            Unusual::Options => Reason::Options,
            Unusual::Fragment => Reason::Fragment,
            Unusual::Protocol => Reason::Protocol,
            Unusual::Jumbo => Reason::Jumbo,
            Unusual::NoChecksum => Reason::NoChecksum,
        }
    }
}

/// Why `packet`, which names `entry`, must go up; `None`: it may be forwarded.
/// `segment` is the payload of each segment of a super-packet, 0 for one packet.
#[inline(always)]
pub fn objection(packet: &Plain, entry: &Entry, epoch: u32, segment: u32) -> Option<Reason> {
    if entry.epoch != epoch {
        return Some(Reason::Stale);
    }
    if packet.ttl <= 1 {
        return Some(Reason::Ttl);
    }
    if packet.proto == proto::TCP
        && let Some(reason) = special(packet.flags)
    {
        return Some(reason);
    }
    let longest = if segment == 0 { packet.total_len } else { packet.headers_len() + segment };
    if longest > entry.mtu as u32 { Some(Reason::TooBig) } else { None }
}

/// A segment that begins or ends something, or makes no sense. The usual one
/// costs a single comparison.
#[inline(always)]
fn special(flags: TcpFlags) -> Option<Reason> {
    const DECIDE: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0;
    if flags.0 & DECIDE == TcpFlags::ACK.0 {
        return None;
    }
    Some(match (flags.syn(), flags.rst(), flags.fin()) {
        (true, false, false) => Reason::Syn,
        (false, true, _) => Reason::Rst,
        (false, false, true) => Reason::Fin,
        (true, _, _) | (false, false, false) => Reason::OddFlags,
    })
}

/// More than an end has under way, in bytes.
const LEAP: u32 = 16 << 20;

/// What an entry knows of a number of TCP after a packet, or an earlier entry, has shown `number`: it moves on, and not back by what was
/// sent again; 0 is "not known". What is further ahead than any window, or behind, is no end's.
#[inline(always)]
pub const fn advanced(known: u32, number: u32) -> u32 {
    if known == 0 || (number != 0 && number.wrapping_sub(known) <= LEAP) { number } else { known }
}
