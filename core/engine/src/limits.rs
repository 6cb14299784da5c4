//! Every limit of the engine, each with its default.

use core::time::Duration;

/// Sizes of tables and queues, and the time-outs that no command sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows in the table; allocated once. A client packet beyond it is dropped as `FlowTableFull`.
    pub max_flows: u32,
    /// Packets kept behind one hold, the held one included; more are `HoldQueueFull`.
    pub hold_packets_per_flow: u16,
    /// Memory of all held frames together, in bytes: buffers as large as they are, and bookkeeping. Once it is taken,
    /// further ones are `HoldQueueFull`.
    pub held_bytes: u32,
    /// How long a hold may wait for the peer; then it is released unprotected and counted.
    pub hold_limit: Duration,
    /// Marks that wait for the mirror; beyond it they are lost and the node has
    /// to start another session ([`crate::Engine::needs_session`]).
    pub max_marks: u32,
    /// Flows with rare fields beside their record: FTP's connections, and those with fields of another version. More lose these
    /// fields, and FTP announces no data connections.
    pub max_tails: u32,
    /// Persistence sessions; at the limit a new client is balanced without being remembered.
    pub max_persistence: u32,
    /// SNAT destinations (SNIP, server, protocol) with a lease; more are `SnatExhausted`.
    pub max_snat_pools: u32,
    /// Neighbours in the table.
    pub max_neighbours: u32,
    /// Packets that wait for one neighbour's address.
    pub neighbour_queue: u16,
    /// How long strays of STATEFUL vservers are ignored after a promotion.
    pub stray_grace: Duration,
    /// How long a TCP flow lives between the client's SYN and the server's answer.
    pub half_open: Duration,
    /// How long a TCP flow lives without a packet from the server's answer until the client completes
    /// (RFC 5382 section 5 REQ-5: not under 4 minutes); a shorter idle time-out stands. Servers
    /// repeat their answer at most 120 s apart, so that none is forgotten whose server still asks.
    pub opening: Duration,
    /// How long a flow lingers once both FINs are acknowledged (TIME_WAIT-like). Before that it has its
    /// idle time-out, as any connection: what is not acknowledged is sent again, up to 120 s apart.
    pub closing_linger: Duration,
    /// How long a flow lingers after a reset that the other end believes.
    pub reset_linger: Duration,
    /// Replies the node makes itself (resets, ICMP errors), per second.
    pub replies_per_second: u32,
    /// Packets that the engine forwards of a flow that could have copies in a fast path before it gets some: a connection
    /// that is over after a question and an answer would cost more by them than they save.
    pub offload_after: u8,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_flows: 1_048_576,
            hold_packets_per_flow: 64,
            held_bytes: 256 << 20,
            hold_limit: Duration::from_secs(1),
            max_marks: 262_144,
            max_tails: 65_536,
            max_persistence: 250_000,
            max_snat_pools: 65_536,
            max_neighbours: 65_536,
            neighbour_queue: 128,
            stray_grace: Duration::from_secs(2),
            half_open: Duration::from_secs(30),
            opening: Duration::from_secs(240),
            closing_linger: Duration::from_secs(40),
            reset_linger: Duration::from_secs(4),
            replies_per_second: 10_000,
            offload_after: 0,
        }
    }
}
