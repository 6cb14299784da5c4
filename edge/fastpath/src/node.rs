//! The node's state, mapped: each change is a store that programs see at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use holdfast_fastpath_layout::{MAX_MACS, NODE_LEN, NodeState, lead};
use holdfast_wire::MacAddr;

/// The map of one [`NodeState`] in this process's memory.
#[derive(Debug)]
pub(crate) struct MappedNode {
    base: NonNull<u8>,
}

// SAFETY: all access is by atomic operations on memory that lives until the drop.
unsafe impl Send for MappedNode {}
// SAFETY: as above.
unsafe impl Sync for MappedNode {}

impl MappedNode {
    /// # Safety
    ///
    /// `fd` is an array map of one [`NodeState`] that may be mapped.
    pub(crate) unsafe fn new(fd: BorrowedFd<'_>) -> io::Result<MappedNode> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping; the kernel rounds its length up to a page, as it did for the map.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), NODE_LEN, access, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        Ok(MappedNode { base })
    }

    /// Ends the lease at `until` (CLOCK_BOOTTIME, nanoseconds).
    pub(crate) fn set_lease(&self, until: u64) {
        self.word(NodeState::LEASE).store(until, Ordering::Release);
    }

    /// Makes entries of other epochs stale.
    pub(crate) fn set_epoch(&self, epoch: u32) {
        self.half_word(NodeState::EPOCH).store(epoch, Ordering::Release);
    }

    /// The epoch in force.
    pub(crate) fn epoch(&self) -> u32 {
        self.half_word(NodeState::EPOCH).load(Ordering::Acquire)
    }

    /// Replaces the node's Ethernet addresses; answers how many found no room.
    /// A program that reads meanwhile finds a mixture of old and new ones.
    pub(crate) fn set_macs(&self, macs: &[MacAddr]) -> usize {
        for index in 0..MAX_MACS {
            let word = macs.get(index).map_or(0, |&mac| {
                let [a, b, c, d, e, f, g, h, ..] = lead(mac);
                u64::from_ne_bytes([a, b, c, d, e, f, g, h])
            });
            self.word(NodeState::MACS + 8 * index).store(word, Ordering::Release);
        }
        macs.len().saturating_sub(MAX_MACS)
    }

    /// Whether packets for nobody here are the engine's alone.
    pub(crate) fn set_routes(&self, routes: bool) {
        self.half_word(NodeState::ROUTES).store(routes.into(), Ordering::Release);
    }

    /// When a client's packet was last forwarded (CLOCK_BOOTTIME, nanoseconds); 0: never.
    pub(crate) fn client_seen(&self) -> u64 {
        self.word(NodeState::CLIENT_SEEN).load(Ordering::Acquire)
    }

    fn half_word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= NODE_LEN, "a field of the state");
        // SAFETY: the callers' places are aligned and inside the mapping, and touched by atomic operations only.
        unsafe { AtomicU32::from_ptr(self.base.add(at).as_ptr().cast()) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at + 8 <= NODE_LEN, "a field of the state");
        // SAFETY: the callers' places are aligned and inside the mapping.
        unsafe { AtomicU64::from_ptr(self.base.add(at).as_ptr().cast()) }
    }
}

impl Drop for MappedNode {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), NODE_LEN) };
    }
}
