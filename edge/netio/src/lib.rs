//! Frames in and out.
//!
//! [`Ports`] is the door that the data thread uses; [`PacketPorts`] stands on
//! AF_PACKET sockets, [`MemoryPorts`] on queues for tests. Beside them live the
//! questions to the host that the edge asks now and then ([`link`],
//! [`host_addresses`]) and the [`Guard`] that keeps the host's own stack away
//! from floating addresses. [`Feed`] carries the engine's offload orders to the fast
//! path and its use back. Nothing here knows configuration, peers or roles.

mod arena;
mod feed;
mod guard;
mod host;
mod memory;
mod packet;
mod ports;
mod socket;
mod tap;
mod transmit;
mod vnet;

pub use feed::Feed;
pub use guard::{Guard, GuardError, GuardPlan};
pub use host::{HostAddress, Link, LinkEvents, host_addresses, link};
pub use memory::MemoryPorts;
pub use packet::{PacketPorts, PortSockets};
pub use ports::{BATCH, Outbox, PortCounters, Ports, TURN_FRAMES};
pub use socket::{ExtraMac, OpenError, PacketSocket};
pub use tap::Tap;
pub use vnet::{VNET_HEADER_LEN, decode_offload, encode_offload};

#[cfg(test)]
mod tests;
