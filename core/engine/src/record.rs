//! What a successor must know about a flow: values that cross between nodes.
//!
//! Never table indexes, pointers, instants or configuration numbers. A record
//! is read from the flow when a datagram is written; merging is monotone by
//! `stamp`: the larger stamp wins, an equal one changes nothing.

use holdfast_wire::{Addr, Endpoint};

/// Layer-2 discriminator of a flow (L2Conn); 0 = off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct L2Disc(pub u32);

/// How a packet names a flow: one direction's addresses as they stand in the
/// frame. Each flow has two: client → VIP, and server → SNIP (or client).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// IP protocol number: 6, 17, or 1/58 for echo.
    pub proto: u8,
    /// Layer-2 discriminator, 0 = off.
    pub l2: L2Disc,
    /// Source in the frame.
    pub src: Endpoint,
    /// Destination in the frame.
    pub dst: Endpoint,
}

/// Where a flow stands, as far as a successor cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Set-up: an end may believe it established as soon as the hold ends.
    Opening,
    /// Both ends may send.
    Established,
    /// Both ends have closed or one has reset; lingers.
    Closing,
}

/// A mirrored flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Order of changes; grows over the whole node, and continues above the
    /// largest one seen after a promotion. Never 0.
    pub stamp: u64,
    /// IP protocol number.
    pub proto: u8,
    /// Layer-2 discriminator, 0 = off.
    pub l2: L2Disc,
    /// The client.
    pub client: Endpoint,
    /// What the client calls: address and port of the vserver.
    pub vip: Endpoint,
    /// The server chosen.
    pub server: Endpoint,
    /// Who the server sees: SNIP and leased port, or the client itself (USIP).
    pub source: Endpoint,
    /// Where it stands.
    pub phase: Phase,
    /// Client-side idle time-out, seconds.
    pub client_idle_s: u32,
    /// Server-side idle time-out, seconds.
    pub server_idle_s: u32,
}

impl FlowRecord {
    /// The client-side key.
    pub fn client_key(&self) -> FlowKey {
        FlowKey { proto: self.proto, l2: self.l2, src: self.client, dst: self.vip }
    }

    /// The server-side key: as the server's packets arrive.
    pub fn server_key(&self) -> FlowKey {
        FlowKey { proto: self.proto, l2: self.l2, src: self.server, dst: self.source }
    }
}

/// The end of a mirrored flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowClose {
    /// The last stamp of the flow plus one or more: it closes nothing that is newer.
    /// Nothing is kept of a closed flow; records are applied in order, so none of it follows.
    pub stamp: u64,
    /// Its client-side key.
    pub key: FlowKey,
}

/// What of a packet a persistence session is found by: addresses, masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionOf {
    /// SOURCEIP: the client's address.
    Source(Addr),
    /// DESTIP: the address that the client calls.
    Destination(Addr),
    /// SRCIPDESTIP: both.
    Both {
        /// The client's address.
        source: Addr,
        /// The address that it calls.
        destination: Addr,
    },
}

impl SessionOf {
    /// The client's address, if it counts.
    pub fn source(self) -> Option<Addr> {
        match self {
            SessionOf::Source(source) | SessionOf::Both { source, .. } => Some(source),
            SessionOf::Destination(_) => None,
        }
    }

    /// The address that the client calls, if it counts.
    pub fn destination(self) -> Option<Addr> {
        match self {
            SessionOf::Destination(destination) | SessionOf::Both { destination, .. } => Some(destination),
            SessionOf::Source(_) => None,
        }
    }
}

/// A persistence session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistenceRecord {
    /// Order of changes, as in [`FlowRecord::stamp`].
    pub stamp: u64,
    /// The vserver, by what clients call: its address and port (0 = `*`).
    pub vip: Endpoint,
    /// IP protocol of the vserver: 6 TCP, 17 UDP, 0 ANY.
    pub proto: u8,
    /// Which packets it is of.
    pub of: SessionOf,
    /// The server their flows go to, as configured in the service (port 0 = `*`);
    /// `None` when the session has ended.
    pub server: Option<Endpoint>,
}

/// A flow in this engine's own table: slot number plus generation, so that a
/// reference outliving its flow is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowRef {
    /// Index into the slab.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// Something changed that a successor must know. The engine only says *what*;
/// the record is read when a datagram is written (`Engine::record`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The flow was opened or changed. At most one is outstanding per flow.
    Flow(FlowRef),
    /// The flow is gone and the peer counts it as told in this session; with its
    /// reference if a record of it was read in this session, and not only kept.
    Closed(Option<FlowRef>, FlowClose),
    /// A persistence session began, moved or ended.
    Persistence(PersistenceRecord),
}

/// A step of the walk over the flow table for a bulk transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkStep {
    /// This flow is to be written.
    Flow(FlowRef),
    /// The peer has this one already.
    Kept,
    /// The budget of slots is used up; call again with the same cursor.
    Scanned,
    /// The whole table was walked.
    Done,
}

/// A step of the walk over the persistence table for a bulk transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceStep {
    /// This session is to be written.
    Session(PersistenceRecord),
    /// The budget of slots is used up; call again with the same cursor.
    Scanned,
    /// The whole table was walked.
    Done,
}

/// What became of a record from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A flow was installed or replaced.
    Stored,
    /// The flow was known with this stamp already.
    Refreshed,
    /// Ours is newer; here it is, for the peer.
    Older(FlowRecord),
    /// No room for it.
    Full,
}
