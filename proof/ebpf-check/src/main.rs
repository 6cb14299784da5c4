//! A tc program that proves that `holdfast-wire` passes the kernel's verifier.
//!
//! It parses every frame through wire's [`Load`] over the skb, lets wire's
//! [`rewrite`] compute the edits for the addresses that stand in the map
//! `WANTED`, and applies them with the kernel's checksum helpers, which know
//! whether the skb's checksum is partial. It is no fast path: nothing attaches
//! it to an interface; the loader beside it runs it on frames of its own.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::{bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use holdfast_wire::{
    Addr, Cover, Edit, EditList, Endpoint, IpPacket, Load, MAX_EDITS, MacAddr, Rewrite, parse_ethernet, parse_ip,
    rewrite_into,
};

/// The frame was rewritten (`TC_ACT_OK`).
const REWRITTEN: i32 = 0;
/// The frame does not parse (`TC_ACT_SHOT`).
const BROKEN: i32 = 2;
/// The frame is no IP packet (`TC_ACT_PIPE`).
const NOT_IP: i32 = 3;
/// A helper refused, or there is no rewrite in the map (`TC_ACT_STOLEN`): never
/// seen unless the program is wrong.
const FAILED: i32 = 4;

/// The rewrite to make, laid out as bytes: source and destination address (16
/// each), source and destination port (2 each, network order), decrement (1).
#[map]
static WANTED: Array<[u8; WANTED_LEN]> = Array::with_max_entries(1, 0);
const WANTED_LEN: usize = 40;

/// An skb as wire reads it: every load is a helper call of constant size.
struct Skb(*mut __sk_buff);

impl Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = [0u8; N];
        // SAFETY: `self.0` is the program's context and `bytes` has room for N bytes.
        let refused = unsafe { bpf_skb_load_bytes(self.0.cast(), at as u32, bytes.as_mut_ptr().cast(), N as u32) };
        if refused == 0 { Some(bytes) } else { None }
    }
}

impl Load for Skb {
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: `self.0` is the program's context.
        unsafe { (*self.0).len as usize }
    }

    #[inline(always)]
    fn u8(&self, at: usize) -> Option<u8> {
        self.load(at).map(|[byte]: [u8; 1]| byte)
    }

    #[inline(always)]
    fn be16(&self, at: usize) -> Option<u16> {
        self.load(at).map(u16::from_be_bytes)
    }

    #[inline(always)]
    fn be32(&self, at: usize) -> Option<u32> {
        self.load(at).map(u32::from_be_bytes)
    }

    #[inline(always)]
    fn mac(&self, at: usize) -> Option<MacAddr> {
        self.load(at).map(MacAddr)
    }

    #[inline(always)]
    fn v4(&self, at: usize) -> Option<Addr> {
        self.load(at).map(Addr::v4)
    }

    #[inline(always)]
    fn v6(&self, at: usize) -> Option<Addr> {
        self.load(at).map(Addr)
    }
}

/// What the phases hand to each other. A program's stack has 512 bytes for all
/// nested calls together: a parsed packet and an edit list do not fit beside
/// the temporaries of their making.
struct Scratch {
    packet: IpPacket,
    list: EditList,
}

#[map]
static SCRATCH: PerCpuArray<MaybeUninit<Scratch>> = PerCpuArray::with_max_entries(1, 0);

/// The program's door: three phases, each with the stack for itself.
#[classifier]
pub fn wire_check(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return FAILED };
    let scratch = scratch.cast::<Scratch>();
    match find(&skb, scratch) {
        REWRITTEN => {}
        other => return other,
    }
    if decide(scratch) != REWRITTEN {
        return FAILED;
    }
    execute(&skb, scratch)
}

/// First phase: finds the headers.
#[inline(never)]
fn find(skb: &Skb, scratch: *mut Scratch) -> i32 {
    let Ok(ethernet) = parse_ethernet(skb) else { return BROKEN };
    // SAFETY: `scratch` is this processor's map value, which nobody else uses
    // during the program; a packet of any former bytes is overwritten whole.
    match parse_ip(skb, &ethernet, unsafe { &mut (*scratch).packet }) {
        Ok(true) => REWRITTEN,
        Ok(false) => NOT_IP,
        Err(_) => BROKEN,
    }
}

/// Second phase: makes the edit list.
#[inline(never)]
fn decide(scratch: *mut Scratch) -> i32 {
    let Some(wanted) = wanted() else { return FAILED };
    // SAFETY: as in `find`, which has filled in `packet`.
    let Scratch { packet, list } = unsafe { &mut *scratch };
    rewrite_into(list, packet, &wanted);
    REWRITTEN
}

/// Third phase: the kernel's helpers mend the checksums, then the fields are written.
#[inline(never)]
fn execute(skb: &Skb, scratch: *const Scratch) -> i32 {
    // SAFETY: as in `find`; `decide` has written the list.
    let list = unsafe { &(*scratch).list };
    for index in 0..MAX_EDITS {
        let Some(edit) = list.get(index) else { break };
        let header = if edit.in_header { list.header_checksum } else { None };
        if let Some(at) = header
            && !mend_header(skb, at, edit)
        {
            return FAILED;
        }
        if let Some(field) = list.transport_checksum
            && !mend_transport(skb, field.at, field.udp, edit)
        {
            return FAILED;
        }
        if !store(skb, edit) {
            return FAILED;
        }
    }
    REWRITTEN
}

#[inline(always)]
fn wanted() -> Option<Rewrite> {
    let bytes = WANTED.get(0)?;
    let src: [u8; 16] = *bytes.first_chunk()?;
    let dst: [u8; 16] = *bytes.get(16..)?.first_chunk()?;
    Some(Rewrite {
        src: Endpoint { addr: Addr(src), port: u16::from_be_bytes([bytes[32], bytes[33]]) },
        dst: Endpoint { addr: Addr(dst), port: u16::from_be_bytes([bytes[34], bytes[35]]) },
        decrement_ttl: bytes[36] != 0,
    })
}

/// An edit's number as it stands in the frame, at the start of a word.
#[inline(always)]
fn in_network_order(edit: &Edit, value: u32) -> u64 {
    match edit.len {
        1 => u64::from(value),
        2 => u64::from((value as u16).to_be()),
        _ => u64::from(value.to_be()),
    }
}

#[inline(always)]
fn mend_header(skb: &Skb, at: u16, edit: &Edit) -> bool {
    let (old, new) = (in_network_order(edit, edit.old), in_network_order(edit, edit.new));
    // SAFETY: `skb.0` is the program's context.
    unsafe { bpf_l3_csum_replace(skb.0, u32::from(at), old, new, u64::from(edit.len)) == 0 }
}

#[inline(always)]
fn mend_transport(skb: &Skb, at: u16, udp: bool, edit: &Edit) -> bool {
    let mut flags = u64::from(edit.len);
    match edit.transport {
        Cover::No => return true,
        Cover::Direct => {}
        Cover::Pseudo => flags |= u64::from(BPF_F_PSEUDO_HDR),
    }
    if udp {
        flags |= u64::from(BPF_F_MARK_MANGLED_0);
    }
    let (old, new) = (in_network_order(edit, edit.old), in_network_order(edit, edit.new));
    // SAFETY: `skb.0` is the program's context.
    unsafe { bpf_l4_csum_replace(skb.0, u32::from(at), old, new, flags) == 0 }
}

/// Writes the new value; the size of each store is a constant.
#[inline(always)]
fn store(skb: &Skb, edit: &Edit) -> bool {
    match edit.len {
        1 => put(skb, edit.at, [edit.new as u8]),
        2 => put(skb, edit.at, (edit.new as u16).to_be_bytes()),
        _ => put(skb, edit.at, edit.new.to_be_bytes()),
    }
}

#[inline(always)]
fn put<const N: usize>(skb: &Skb, at: u16, bytes: [u8; N]) -> bool {
    // SAFETY: `skb.0` is the program's context and `bytes` has N bytes.
    unsafe { bpf_skb_store_bytes(skb.0, u32::from(at), bytes.as_ptr().cast(), N as u32, 0) == 0 }
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
