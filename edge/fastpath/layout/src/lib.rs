//! The maps that the fast path's program in the kernel and its owner in user
//! space share, and the judgement that both can make of a packet.
//!
//! | map | kind | key | value |
//! |---|---|---|---|
//! | [`FLOWS`] | hash | [`Key`] | [`Entry`] |
//! | [`NODE`] | array of one, mapped into the owner | 0 | [`NodeState`] |
//! | [`FLOATING`] | hash | an address, 16 bytes | 1 |
//! | [`HOST`] | hash | an address, 16 bytes | 1 |
//! | [`TAPS`] | hash | number of a data interface | number of the TAP that stands for it |
//! | [`COUNTS`] | array, per processor | [`Reason`]: tc; [`Reason::COUNT`] + [`Reason`]: XDP | packets, `u64` |
//!
//! What is compared with packets or written into them (addresses, ports,
//! Ethernet addresses) stands in network order; what only this machine reads
//! (times, counters, numbers of TCP, the epoch) in its own order. IPv4
//! addresses are in their mapped form, as everywhere.
//!
//! There are entries only: nothing here knows states, timers or policy.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod entry;
mod judge;
mod node;

#[cfg(test)]
mod tests;

pub use entry::{ENTRY_LEN, Entry, KEY_LEN, Key, Seen, Way, network};
pub use judge::{Reason, advanced, objection};
pub use node::{MAX_MACS, NEVER, NODE_LEN, NodeState, lead};

/// Name of the map of entries.
pub const FLOWS: &str = "FLOWS";
/// Name of the map with the node's state.
pub const NODE: &str = "NODE";
/// Name of the map of floating addresses.
pub const FLOATING: &str = "FLOATING";
/// Name of the map of the host's own addresses.
pub const HOST: &str = "HOST";
/// Name of the map of TAPs.
pub const TAPS: &str = "TAPS";
/// Name of the map of counters.
pub const COUNTS: &str = "COUNTS";

/// Addresses in [`FLOATING`] at most; more are refused, and the owner says so.
pub const MAX_FLOATING: u32 = 65_536;
/// Addresses in [`HOST`] at most; more are refused, and the owner says so.
pub const MAX_HOST: u32 = 4096;
/// The mark of an skb that the program hands to a TAP. What the host itself sends there does not have it.
pub const TAKEN: u32 = 0x4846_5450;
/// Interfaces in [`TAPS`] at most: as many as a node has ports.
pub const MAX_TAPS: u32 = 256;
