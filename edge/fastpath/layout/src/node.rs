//! What holds for every packet: whether the node may forward at all.

use core::mem::{offset_of, size_of};

use holdfast_wire::MacAddr;

/// Ethernet addresses of the node at most, floating ones included. With as many, or more, frames without an entry that are for
/// nobody here are seen by the host, too.
pub const MAX_MACS: usize = 16;

/// Size of a [`NodeState`].
pub const NODE_LEN: usize = 24 + 8 * MAX_MACS;

/// The lease of a node that has nobody to fear: it never ends.
pub const NEVER: u64 = u64::MAX;

/// The node's state. The owner has it mapped, and writes each field by one store, but for the one that the program writes.
///
/// ```text
///   0                8       12       16            24              152
///  +----------------+-------+--------+-------------+------ ... ----+
///  | lease ends at  | epoch | routes | client seen | 0 0 + MAC, 8  |
///  |                |       | 1 or 0 |             | bytes each,   |
///  |                |       |        |             | zero: no more |
///  +----------------+-------+--------+-------------+------ ... ----+
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct NodeState {
    /// From then on nothing is forwarded: CLOCK_BOOTTIME, nanoseconds. 0: the
    /// gate is closed; [`NEVER`]: there is no peer that could take over.
    pub lease: u64,
    /// Entries of another epoch are stale.
    pub epoch: u32,
    /// Not 0: packets to our Ethernet addresses that are for nobody here are the
    /// engine's alone, because the node routes; 0: the host sees them, too.
    pub routes: u32,
    /// When a client's packet was last forwarded, to a millisecond: CLOCK_BOOTTIME,
    /// nanoseconds. The program writes it.
    pub client_seen: u64,
    macs: [u64; MAX_MACS],
}

const _: () = assert!(size_of::<NodeState>() == NODE_LEN && offset_of!(NodeState, macs) == NodeState::MACS);

impl NodeState {
    /// Offset of the lease.
    pub const LEASE: usize = 0;
    /// Offset of the epoch.
    pub const EPOCH: usize = 8;
    /// Offset of the word that says whether the node routes.
    pub const ROUTES: usize = 12;
    /// Offset of the time of a client's packet.
    pub const CLIENT_SEEN: usize = 16;
    /// Offset of the list of Ethernet addresses.
    pub const MACS: usize = 24;

    /// A state with these Ethernet addresses, the gate closed.
    pub fn with_macs(macs: &[u64]) -> NodeState {
        let mut state = NodeState::default();
        for (place, &mac) in state.macs.iter_mut().zip(macs) {
            *place = mac;
        }
        state
    }

    /// The `index`-th Ethernet address of the node as a frame's first eight
    /// bytes with two zero bytes before them; `None` behind the last one.
    #[inline(always)]
    pub fn mac(&self, index: usize) -> Option<u64> {
        match self.macs.get(index) {
            Some(&0) | None => None,
            Some(&word) => Some(word),
        }
    }

    /// Whether a frame whose bytes begin so is sent to this node.
    #[inline(always)]
    pub fn is_own(&self, first: u64) -> bool {
        for index in 0..MAX_MACS {
            match self.mac(index) {
                Some(word) if word == first => return true,
                Some(_) => {}
                None => return false,
            }
        }
        false
    }

    /// Whether all Ethernet addresses of the node are surely known here.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        self.macs[MAX_MACS - 1] == 0
    }
}

/// An Ethernet header behind two zero bytes, of which only the destination is
/// filled in.
pub const fn lead(mac: MacAddr) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac.0;
    [0, 0, a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0]
}
