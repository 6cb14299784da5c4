//! The fast path: forwards plain packets of known flows inside the kernel.
//!
//! One walk, built twice: as a tc classifier and as an XDP program. It knows
//! entries only; whatever it does not know, or does not like, goes up as it
//! came: the engine's to the TAP that stands for the interface, the host's to the host.
//! Without a valid lease nothing that concerns the node passes at all, so
//! that a process that is frozen stops forwarding by itself.
//!
//! `walk.rs` tells the story of a frame, `head.rs` is the part of it that is
//! looked at, `tc.rs` and `xdp.rs` are the two ways to read and write it.
#![no_std]
#![no_main]

mod head;
mod tc;
mod walk;
mod xdp;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use holdfast_fastpath_layout::{Entry, Key, MAX_FLOATING, MAX_HOST, MAX_TAPS, NodeState, Reason};

/// Room for entries unless the owner asks for another size when it loads the program.
const DEFAULT_ENTRIES: u32 = 65_536;

#[map]
static FLOWS: HashMap<Key, Entry> = HashMap::with_max_entries(DEFAULT_ENTRIES, BPF_F_NO_PREALLOC);

#[map]
static NODE: Array<NodeState> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static FLOATING: HashMap<[u32; 4], u32> = HashMap::with_max_entries(MAX_FLOATING, BPF_F_NO_PREALLOC);

#[map]
static HOST: HashMap<[u32; 4], u32> = HashMap::with_max_entries(MAX_HOST, BPF_F_NO_PREALLOC);

#[map]
static TAPS: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TAPS, BPF_F_NO_PREALLOC);

#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2 * Reason::COUNT, 0);

/// For tc, at the ingress of a data interface.
#[classifier]
pub fn holdfast_tc(ctx: TcContext) -> i32 {
    walk::walk(&tc::Skb(ctx.skb.skb))
}

/// For XDP, where the driver has it and no frame comes with a partial checksum.
#[xdp]
pub fn holdfast_xdp(ctx: XdpContext) -> u32 {
    walk::walk(&xdp::Buffer(ctx.ctx))
}

/// No panic is left in the program; the verifier refuses the loop otherwise.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// None of the helpers used is reserved to programs under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
