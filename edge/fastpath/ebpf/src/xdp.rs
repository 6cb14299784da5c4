//! A frame in the driver's buffer. Its transport checksum is taken for finished:
//! XDP cannot see a partial one, so the owner never attaches this program where
//! there may be some.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use holdfast_fastpath_layout::Reason;
use holdfast_wire::{Checksum, IpVersion, Plain, Ready, proto};

use crate::head::Head;
use crate::walk::Carrier;

/// Bytes to write back: Ethernet and IP header, and the transport header up to its checksum.
const HEAD_V4_TCP: u32 = 14 + 20 + 18;
const HEAD_V4_UDP: u32 = 14 + 20 + 8;
const HEAD_V6_TCP: u32 = 14 + 40 + 18;
const HEAD_V6_UDP: u32 = 14 + 40 + 8;

/// A buffer at the ingress of an interface.
pub struct Buffer(pub *mut xdp_md);

impl Carrier for Buffer {
    type Action = u32;
    const UP: u32 = XDP_PASS;
    const DROP: u32 = XDP_DROP;
    const COUNTERS: u32 = Reason::COUNT;

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: `self.0` is the program's context.
        unsafe { (*self.0).data_end.wrapping_sub((*self.0).data) }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        false
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn load(&self, head: &mut Head) -> bool {
        let wanted = head.wanted();
        if wanted == 0 || wanted > holdfast_wire::PLAIN_HEAD as u32 {
            return false;
        }
        // SAFETY: `head` has room for what it wants.
        unsafe { bpf_xdp_load_bytes(self.0, 0, head.as_mut_ptr().cast(), wanted) == 0 }
    }

    #[inline(always)]
    fn store(&self, head: &mut Head, packet: &Plain, ready: &Ready) -> bool {
        ready.mend_transport(head, packet, Checksum::Complete);
        let len = match (packet.version, packet.proto) {
            (IpVersion::V4, proto::TCP) => HEAD_V4_TCP,
            (IpVersion::V4, _) => HEAD_V4_UDP,
            (IpVersion::V6, proto::TCP) => HEAD_V6_TCP,
            (IpVersion::V6, _) => HEAD_V6_UDP,
        };
        // SAFETY: `head` is longer than any of them.
        unsafe { bpf_xdp_store_bytes(self.0, 0, head.as_mut_ptr().cast(), len) == 0 }
    }

    #[inline(always)]
    fn redirect(&self, interface: u32) -> u32 {
        // SAFETY: the helper has no conditions.
        unsafe { bpf_redirect(interface, 0) as u32 }
    }

    /// What goes up is sorted by the tc program on the same interface.
    #[inline(always)]
    fn tap(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn hand_to(&self, _tap: u32) -> u32 {
        XDP_PASS
    }

    #[inline(always)]
    fn copy_to(&self, _tap: u32) {}
}
