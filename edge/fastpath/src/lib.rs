//! The fast path's owner: loads the program, attaches it, feeds its maps.
//!
//! [`load`] answers two halves. [`Programs`] attaches and detaches, which may
//! wait for locks of the kernel: not for the data thread. [`FlowMaps`] is for the
//! data thread: entries in and out, what they have seen, and the lease, which is
//! a store into memory. Both keep descriptors that close with the process
//! (`CLOEXEC`, nothing pinned): where the kernel has tcx or XDP links, nothing
//! of ours forwards once the process is gone.
//!
//! The program is `ebpf/`, built by `cargo xtask ebpf` and committed as
//! `fastpath.o`; the maps are described in `layout/`. Nothing here knows
//! configuration, peers, roles or states: there are only entries.

mod bpf;
mod error;
mod maps;
mod node;
mod programs;

#[cfg(test)]
mod tests;

pub use error::FastPathError;
pub use holdfast_fastpath_layout as layout;
pub use maps::{FlowMaps, MAX_BATCH, Sweeper};
pub use programs::{Attachment, Limits, OBJECT, Programs, Ran, Trial, Which, load, load_object, remove_stale};
