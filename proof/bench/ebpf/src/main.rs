//! The least that rewrites a TCP or UDP flow over IPv4: a look-up, both addresses and
//! ports, the checksums, a redirect. No clock, no lease, no counters, no TTL, no
//! MTU, no second IP version. It is the bound that the fast path is measured
//! against, as a tc classifier and as an XDP program.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_NO_PREALLOC, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::{bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect, bpf_skb_store_bytes};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{TcContext, XdpContext};

/// Offsets in an Ethernet frame behind 20 bytes of IPv4 header.
const HEADER_CHECKSUM: usize = 24;
const ADDRESSES: usize = 26;
const UDP_CHECKSUM: usize = 40;
const UDP_HEADERS: usize = 42;
const TCP_CHECKSUM: usize = 50;
const TCP_HEADERS: usize = 54;

/// `TC_ACT_OK`, `TC_ACT_SHOT`.
const OK: i32 = 0;
const SHOT: i32 = 2;

/// Source and destination address and both ports, as they stand in the frame.
type Ends = [u32; 3];

/// What becomes of a flow's packets.
#[repr(C)]
#[derive(Clone, Copy)]
struct Target {
    ends: Ends,
    interface: u32,
    macs: [u32; 3],
}

#[map]
static TARGETS: HashMap<Ends, Target> = HashMap::with_max_entries(1 << 19, BPF_F_NO_PREALLOC);

/// As a tc classifier: the kernel's helpers mend the checksums.
#[classifier]
pub fn dnat_tc(ctx: TcContext) -> i32 {
    let Some((old, udp)) = ends(ctx.data(), ctx.data_end()) else { return OK };
    let Some(target) = TARGETS.get_ptr(&old) else { return OK };
    // SAFETY: a map value lives until the program ends.
    let target = unsafe { &*target };
    let (place, flags) =
        if udp { (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0)) } else { (TCP_CHECKSUM, 0) };
    let (addresses, ports) = (difference(&old, &target.ends, 2), port_difference(&old, &target.ends));
    let skb = ctx.skb.skb;
    // SAFETY: `skb` is the program's context, and the lengths are those of the values.
    let refused = unsafe {
        bpf_l4_csum_replace(skb, place as u32, 0, addresses, u64::from(BPF_F_PSEUDO_HDR) | flags)
            | bpf_l4_csum_replace(skb, place as u32, 0, ports, flags)
            | bpf_l3_csum_replace(skb, HEADER_CHECKSUM as u32, 0, addresses, 0)
            | bpf_skb_store_bytes(skb, ADDRESSES as u32, (&raw const target.ends).cast(), 12, 0)
            | bpf_skb_store_bytes(skb, 0, (&raw const target.macs).cast(), 12, 0)
    };
    if refused != 0 {
        return SHOT;
    }
    // SAFETY: the helper has no conditions.
    unsafe { bpf_redirect(target.interface, 0) as i32 }
}

/// As an XDP program: checksums are finished.
#[xdp]
pub fn dnat_xdp(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    let Some((old, udp)) = ends(start, ctx.data_end()) else { return XDP_PASS };
    let Some(target) = TARGETS.get_ptr(&old) else { return XDP_PASS };
    // SAFETY: a map value lives until the program ends.
    let target = unsafe { &*target };
    let (addresses, all) = (difference(&old, &target.ends, 2), difference(&old, &target.ends, 3));
    if start + UDP_HEADERS > ctx.data_end() || !udp && start + TCP_HEADERS > ctx.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: all places lie in the frame.
    unsafe {
        mend((start + HEADER_CHECKSUM) as *mut u16, addresses);
        if udp {
            mend((start + UDP_CHECKSUM) as *mut u16, all);
        } else {
            mend((start + TCP_CHECKSUM) as *mut u16, all);
        }
        *((start + ADDRESSES) as *mut [u16; 6]) = core::mem::transmute::<Ends, [u16; 6]>(target.ends);
        *(start as *mut [u16; 6]) = core::mem::transmute::<[u32; 3], [u16; 6]>(target.macs);
        bpf_redirect(target.interface, 0) as u32
    }
}

/// Names the flow of a packet without IP options that is not part of a larger one, and, of TCP,
/// neither begins nor ends a connection; whether it is a datagram.
#[inline(always)]
fn ends(start: usize, end: usize) -> Option<(Ends, bool)> {
    if start + UDP_HEADERS > end {
        return None;
    }
    // SAFETY: all places lie before `UDP_HEADERS`, which lies in the frame, or are looked for first.
    unsafe {
        let ethertype = *((start + 12) as *const u16);
        let version = *((start + 14) as *const u8);
        let fragment = *((start + 20) as *const u16);
        let udp = match *((start + 23) as *const u8) {
            17 => true,
            6 if start + TCP_HEADERS <= end && *((start + 47) as *const u8) & 0x17 == 0x10 => false,
            _ => return None,
        };
        if ethertype != 0x0800u16.to_be() || version != 0x45 || fragment & 0x3fffu16.to_be() != 0 {
            return None;
        }
        let words = *((start + ADDRESSES) as *const [u16; 6]);
        Some((core::mem::transmute::<[u16; 6], Ends>(words), udp))
    }
}

/// What replacing the first `words` words makes of a sum over them.
#[inline(always)]
fn difference(old: &Ends, new: &Ends, words: u32) -> u64 {
    // SAFETY: both have three words.
    let sum = unsafe { bpf_csum_diff(old.as_ptr().cast_mut(), words * 4, new.as_ptr().cast_mut(), words * 4, 0) };
    sum as u64 & 0xffff_ffff
}

#[inline(always)]
fn port_difference(old: &Ends, new: &Ends) -> u64 {
    let sum = u64::from(!old[2]) + u64::from(new[2]);
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// Adds a difference to a finished checksum.
///
/// # Safety
///
/// `place` lies in the frame.
#[inline(always)]
unsafe fn mend(place: *mut u16, difference: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = difference + u64::from(!*place);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        *place = !(((sum & 0xffff) + (sum >> 16)) as u16);
    }
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
