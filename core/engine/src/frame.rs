//! Frames on ports: bytes plus what the kernel or the card has left undone.

use holdfast_wire::MacAddr;

/// A data interface of this node. Small dense numbers, given by the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u8);

/// What the engine must know about a data interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// Its Ethernet address; floating addresses are answered with it.
    pub mac: MacAddr,
    /// The largest IP packet it can send, in bytes.
    pub mtu: u16,
}

/// The work on a frame that is left to the card: the fields of a
/// `virtio_net_hdr` (virtio 1.2 section 5.1.6) in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Bit 0: the checksum at `checksum_start + checksum_offset` is partial.
    pub flags: u8,
    /// 0 = one packet; 1 = TCPv4, 4 = TCPv6, 5 = UDP segments; bit 7 = ECN.
    pub gso_type: u8,
    /// Length of all headers in bytes (a hint).
    pub header_len: u16,
    /// Payload bytes per segment when `gso_type` is not 0.
    pub segment_size: u16,
    /// Where the checksummed bytes begin, from the start of the frame.
    pub checksum_start: u16,
    /// Where the checksum field is, from `checksum_start`.
    pub checksum_offset: u16,
}

impl Offload {
    /// The flag bit that says "the checksum is partial".
    pub const NEEDS_CHECKSUM: u8 = 1;

    /// Whether the layer-4 checksum in the frame is only the pseudo-header sum.
    pub const fn is_partial(&self) -> bool {
        self.flags & Offload::NEEDS_CHECKSUM != 0
    }

    /// Whether the frame is a super-packet that leaves as several segments.
    pub const fn is_gso(&self) -> bool {
        self.gso_type & 0x7f != 0
    }
}

/// A received frame in the driver's own buffer, edited in place.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Where it came in.
    pub port: PortId,
    /// What is left undone.
    pub offload: Offload,
    /// From the Ethernet header on.
    pub bytes: &'a mut [u8],
}

/// A frame the engine made, or kept for a while, and now wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedFrame {
    /// Where it goes out.
    pub port: PortId,
    /// What is left undone.
    pub offload: Offload,
    /// From the Ethernet header on. Give it back with `Engine::recycle`.
    pub bytes: Vec<u8>,
}
