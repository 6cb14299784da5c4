//! Receive buffers: one allocation, made once.

use crate::ports::TURN_FRAMES;
use crate::vnet::VNET_HEADER_LEN;

/// Longest frame taken: the largest super-packet (64 KiB of IP, RFC 8200
/// without a jumbo payload) and its Ethernet header with two tags.
const MAX_FRAME: usize = 65_536 + 40 + 22;

/// Bytes a slot can hold: header and frame.
pub(crate) const SLOT_LEN: usize = VNET_HEADER_LEN + MAX_FRAME;

/// Distance between slots. Not a multiple of 4096: otherwise the headers of
/// all frames would compete for the same few cache sets.
const STRIDE: usize = 65_536 + 576;

/// Puts the IP header on a 4-byte boundary: 6 + 10 + 14 = 30, + 2.
const HEAD_ROOM: usize = 8;

const _: () = assert!(HEAD_ROOM + SLOT_LEN <= STRIDE && STRIDE.is_multiple_of(64) && !STRIDE.is_multiple_of(4096));

/// [`TURN_FRAMES`] slots. The process's allocator puts it in huge pages.
pub(crate) struct Arena {
    bytes: Vec<u8>,
    used: usize,
}

impl Arena {
    pub(crate) fn new() -> Arena {
        // Written once here, so that no page fault delays a turn later.
        Arena { bytes: vec![0xff; STRIDE * TURN_FRAMES], used: 0 }
    }

    /// Slots not yet filled since the last `reset`.
    pub(crate) fn free(&self) -> usize {
        TURN_FRAMES - self.used
    }

    /// The next free slot's number.
    pub(crate) fn next(&self) -> usize {
        self.used
    }

    /// Marks the next `count` slots as filled.
    pub(crate) fn take(&mut self, count: usize) {
        assert!(count <= self.free(), "the kernel filled more slots than it was given");
        self.used += count;
    }

    /// All slots are free again.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
    }

    /// A slot's bytes: header, then frame.
    pub(crate) fn slot(&mut self, slot: usize) -> &mut [u8] {
        let start = slot * STRIDE + HEAD_ROOM;
        &mut self.bytes[start..start + SLOT_LEN]
    }
}
