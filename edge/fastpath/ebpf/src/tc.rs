//! A frame as an skb.

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::{
    bpf_clone_redirect, bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use holdfast_fastpath_layout::TAKEN;
use holdfast_wire::{IpVersion, Plain, Ready, checksum_at, hop_limit_change, proto};

use crate::TAPS;
use crate::head::Head;
use crate::walk::Carrier;

/// The next program decides, and behind the last one the kernel
/// (`TC_ACT_UNSPEC`, which tcx calls `TCX_NEXT`).
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const SHOT: i32 = 2;

/// Ethernet and IPv4 header and both ports.
const HEAD_V4: u32 = 14 + 20 + 4;
/// Ethernet and IPv6 header and both ports.
const HEAD_V6: u32 = 14 + 40 + 4;

/// An skb at the ingress of an interface.
pub struct Skb(pub *mut __sk_buff);

impl Carrier for Skb {
    type Action = i32;
    const UP: i32 = NEXT;
    const DROP: i32 = SHOT;
    const COUNTERS: u32 = 0;

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: `self.0` is the program's context.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_present != 0 }
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn load(&self, head: &mut Head) -> bool {
        let wanted = head.wanted();
        if wanted == 0 {
            return false;
        }
        // SAFETY: `head` has room for what it wants.
        unsafe { bpf_skb_load_bytes(self.0.cast(), 0, head.as_mut_ptr().cast(), wanted) == 0 }
    }

    #[inline(always)]
    fn store(&self, head: &mut Head, packet: &Plain, ready: &Ready) -> bool {
        if !self.mend_transport(packet, ready) {
            return false;
        }
        let from = head.as_ptr().cast();
        // SAFETY: `head` is longer than either.
        let refused = match packet.version {
            IpVersion::V4 => unsafe { bpf_skb_store_bytes(self.0, 0, from, HEAD_V4, 0) },
            IpVersion::V6 => unsafe { bpf_skb_store_bytes(self.0, 0, from, HEAD_V6, 0) },
        };
        refused == 0
    }

    #[inline(always)]
    fn redirect(&self, interface: u32) -> i32 {
        // SAFETY: the helper has no conditions.
        unsafe { bpf_redirect(interface, 0) as i32 }
    }

    #[inline(always)]
    fn tap(&self) -> Option<u32> {
        // SAFETY: `self.0` is the program's context.
        let interface = unsafe { (*self.0).ifindex };
        // SAFETY: the owner replaces a value as a whole, and a number that is gone is one to which nothing is sent.
        unsafe { TAPS.get(&interface).copied() }
    }

    #[inline(always)]
    fn hand_to(&self, tap: u32) -> i32 {
        // SAFETY: `self.0` is the program's context, and the mark may be written.
        unsafe { (*self.0).mark = TAKEN };
        self.redirect(tap)
    }

    #[inline(always)]
    fn copy_to(&self, tap: u32) {
        // SAFETY: as above. A copy that finds no room is lost, as on any wire.
        unsafe {
            let mark = (*self.0).mark;
            (*self.0).mark = TAKEN;
            bpf_clone_redirect(self.0, tap, 0);
            (*self.0).mark = mark;
        }
    }
}

impl Skb {
    /// Only the kernel knows whether the field holds a finished checksum or the
    /// pseudo-header's sum, and keeps its own sum over the bytes beside it.
    #[inline(always)]
    fn mend_transport(&self, packet: &Plain, ready: &Ready) -> bool {
        let mut flags = 0;
        if packet.proto == proto::UDP {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        let addresses = ready.addresses_change;
        let pseudo = flags | u64::from(BPF_F_PSEUDO_HDR);
        if addresses != 0 && !self.mend(packet, addresses, pseudo) {
            return false;
        }
        if ready.ports_change != 0 && !self.mend(packet, ready.ports_change, flags) {
            return false;
        }
        if packet.version == IpVersion::V6 {
            self.keep_sum(addresses, hop_limit_change(packet));
        }
        true
    }

    /// Adds a difference to the transport checksum.
    #[inline(always)]
    fn mend(&self, packet: &Plain, change: u16, flags: u64) -> bool {
        let at = checksum_at(packet) as u32;
        // SAFETY: `self.0` is the program's context. With a length of 0 in the flags `to` is a difference.
        unsafe { bpf_l4_csum_replace(self.0, at, 0, in_network_order(change), flags) == 0 }
    }

    /// Makes the kernel's own sum over an IPv6 packet right again, where there is one
    /// (`CHECKSUM_COMPLETE`). The addresses stand in the packet and come back out in its
    /// checksum, so they change nothing; the helper that mended the checksum has
    /// taken them for a pseudo-header outside (which is right in IPv4 only: there
    /// the header has a checksum of its own that makes up for them). The hop limit
    /// is made up for by nothing.
    #[inline(always)]
    fn keep_sum(&self, addresses: u16, hop_limit: u16) {
        for change in [addresses, hop_limit] {
            if change != 0 {
                // SAFETY: `self.0` is the program's context. It refuses where there is no such sum.
                unsafe { bpf_csum_update(self.0, in_network_order(change) as u32) };
            }
        }
    }
}

/// A sum of words in network order, as the kernel counts.
#[inline(always)]
fn in_network_order(sum: u16) -> u64 {
    u64::from(sum.to_be())
}
