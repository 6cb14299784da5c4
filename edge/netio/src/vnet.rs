//! The `virtio_net_hdr` that precedes each frame on a packet socket.
//!
//! ```text
//!  0        1          2           4              6              8
//! +--------+----------+-----------+--------------+--------------+---------------+
//! | flags  | gso_type | hdr_len   | gso_size     | csum_start   | csum_offset   |
//! +--------+----------+-----------+--------------+--------------+---------------+
//! ```
//! (virtio 1.2 section 5.1.6, legacy layout without `num_buffers`.) Packet
//! sockets carry the 16-bit fields in the machine's own byte order.

use holdfast_engine::Offload;

/// Bytes of the header.
pub const VNET_HEADER_LEN: usize = 10;

/// Reads a header.
pub fn decode_offload(bytes: &[u8; VNET_HEADER_LEN]) -> Offload {
    let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    Offload {
        flags: bytes[0],
        gso_type: bytes[1],
        header_len: word(2),
        segment_size: word(4),
        checksum_start: word(6),
        checksum_offset: word(8),
    }
}

/// Writes a header.
pub fn encode_offload(offload: &Offload) -> [u8; VNET_HEADER_LEN] {
    let [h0, h1] = offload.header_len.to_ne_bytes();
    let [s0, s1] = offload.segment_size.to_ne_bytes();
    let [c0, c1] = offload.checksum_start.to_ne_bytes();
    let [o0, o1] = offload.checksum_offset.to_ne_bytes();
    [offload.flags, offload.gso_type, h0, h1, s0, s1, c0, c1, o0, o1]
}
