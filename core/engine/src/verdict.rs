//! How a packet ends: a verdict with a reason. The reasons are the counters.

use crate::frame::PortId;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the caller's (edited) buffer, with its (kept) offload, out of this port.
    Forward(PortId),
    /// The engine took what it needed: answered, learned, queued or held.
    Consumed,
    /// The frame belongs to the host's own kernel; leave it alone.
    ForHost,
    /// Thrown away, for this reason.
    Drop(Drop),
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $label:literal,)*) => {
        /// Why a frame was thrown away. One counter each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Drop { $($(#[doc = $doc])* $name,)* }

        impl Drop {
            /// Every reason, in counter order.
            pub const ALL: &'static [Drop] = &[$(Drop::$name,)*];

            /// The counter's name in `show` output and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Drop::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// The node may not forward now (secondary, stepped down, lease over).
    GateClosed = "gate_closed",
    /// The gate lets known flows pass only (DRAINING) and this would open one.
    Draining = "draining",
    /// Headers cut short or lengths that contradict each other.
    Malformed = "malformed",
    /// An IPv4 header or ICMP checksum that is wrong.
    BadChecksum = "bad_checksum",
    /// Not for this node's Ethernet address.
    NotForUs = "not_for_us",
    /// An Ethernet type, IP protocol or ICMP type that nothing here serves.
    Unserved = "unserved",
    /// TTL or hop limit used up.
    TtlExceeded = "ttl_exceeded",
    /// A fragment whose first part was not seen, or fragments beyond the limit.
    Fragment = "fragment",
    /// Larger than the way out allows; the sender was told.
    TooBig = "too_big",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The next hop did not answer ARP or neighbour solicitation.
    NeighbourUnreachable = "neighbour_unreachable",
    /// Too many packets wait for a next hop's address.
    NeighbourQueueFull = "neighbour_queue_full",
    /// The address is ours, the port is nobody's.
    NoVserver = "no_vserver",
    /// The vserver is disabled.
    VserverDisabled = "vserver_disabled",
    /// The vserver has no usable service.
    NoService = "no_service",
    /// The vserver has enough (spill-over) and nobody serves in its place.
    SpilledOver = "spilled_over",
    /// Too many clients wait for services that have many (surge protection).
    SurgeQueueFull = "surge_queue_full",
    /// The flow table is full.
    FlowTableFull = "flow_table_full",
    /// No free SNAT port towards this server.
    SnatExhausted = "snat_exhausted",
    /// No SNIP for the server's address family or subnet.
    NoSnip = "no_snip",
    /// With USIP: the client's address and port are taken towards this server.
    UsipConflict = "usip_conflict",
    /// A segment that belongs to no flow and was answered by resets.
    StrayReset = "stray_reset",
    /// A segment that belongs to no flow, ignored (grace after a promotion, or itself a reset).
    StraySilent = "stray_silent",
    /// Flags or numbers that no TCP end could have sent in this state.
    TcpInvalid = "tcp_invalid",
    /// Too many packets wait behind a hold.
    HoldQueueFull = "hold_queue_full",
    /// A retransmission of what the hold already keeps, or an answer to an earlier SYN that would overtake it.
    HoldDuplicate = "hold_duplicate",
    /// A segment of a control connection before its turn: others before it are missing, or the peer must know them first.
    OutOfTurn = "out_of_turn",
    /// An ICMP error that matches no flow.
    IcmpUnrelated = "icmp_unrelated",
    /// Rate limit of replies made by the node itself.
    RateLimited = "rate_limited",
}
