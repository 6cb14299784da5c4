//! Large tables in huge pages.
//!
//! When a process dies, its memory is torn down before its sockets are closed,
//! and the peer learns of the death by that close. One gigabyte in 4 KiB pages
//! delays it by 70 to 90 ms, in 2 MiB pages by 5 to 7 ms. So every allocation
//! of 2 MiB or more gets a mapping of its own, aligned to 2 MiB, with the
//! advice to use huge pages; smaller ones go to the system's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// Size of a huge page, and the smallest allocation that gets some.
const HUGE: usize = 2 << 20;

/// The allocator of the daemon.
pub struct HugePageHeap;

/// Bytes of the mapping that serves `layout`, if it is a large one.
fn mapping_len(size: usize, align: usize) -> Option<usize> {
    if size < HUGE || align > HUGE { None } else { size.checked_next_multiple_of(HUGE) }
}

/// Maps `len` zeroed bytes on a 2 MiB boundary; null if there are none.
fn map(len: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let Some(wide) = len.checked_add(HUGE) else { return ptr::null_mut() };
    // SAFETY: a fresh anonymous mapping touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), wide, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    let start = start.cast::<u8>();
    let head = start.align_offset(HUGE);
    // SAFETY: all three ranges lie within the mapping made above, which nobody else knows yet:
    // `head + len <= wide` because `head < HUGE`.
    unsafe {
        let aligned = start.add(head);
        if head > 0 {
            libc::munmap(start.cast(), head);
        }
        libc::munmap(aligned.add(len).cast(), HUGE - head);
        // Advice only: without huge pages everything works, and a death is noticed later.
        libc::madvise(aligned.cast(), len, libc::MADV_HUGEPAGE);
        aligned
    }
}

// SAFETY: large layouts are served by mappings of their own, found again from size and alignment
// alone; all others by the system's allocator, under the same rule.
unsafe impl GlobalAlloc for HugePageHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match mapping_len(layout.size(), layout.align()) {
            Some(len) => map(len),
            // SAFETY: the caller's promises are passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match mapping_len(layout.size(), layout.align()) {
            Some(len) => map(len),
            // SAFETY: the caller's promises are passed on.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match mapping_len(layout.size(), layout.align()) {
            Some(len) => {
                // SAFETY: `at` came from `map(len)` with this very layout.
                unsafe { libc::munmap(at.cast(), len) };
            }
            // SAFETY: the caller's promises are passed on.
            None => unsafe { System.dealloc(at, layout) },
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, new) = (mapping_len(layout.size(), layout.align()), mapping_len(size, layout.align()));
        if old.is_none() && new.is_none() {
            // SAFETY: the caller's promises are passed on.
            return unsafe { System.realloc(at, layout, size) };
        }
        if old == new {
            return at;
        }
        // SAFETY: `size` with the old alignment is a valid layout by the caller's promise; both
        // blocks hold at least the smaller size and do not overlap.
        unsafe {
            let fresh = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !fresh.is_null() {
                ptr::copy_nonoverlapping(at, fresh, layout.size().min(size));
                self.dealloc(at, layout);
            }
            fresh
        }
    }
}
