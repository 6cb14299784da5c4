//! What travels on a test connection: bytes that both ends can compute from the connection's number and the position.

/// Length of one message.
pub const MESSAGE: usize = 64;

/// Fills `out` with the bytes of stream `id` from `position` on.
pub fn fill(id: u64, position: u64, out: &mut [u8]) {
    for (byte, at) in out.iter_mut().zip(position..) {
        let word = mix(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at / 8));
        *byte = word.to_le_bytes()[(at % 8) as usize];
    }
}

/// Are `bytes` those of stream `id` from `position` on?
pub fn matches(id: u64, position: u64, bytes: &[u8]) -> bool {
    let mut expected = [0; 1024];
    let mut at = position;
    bytes.chunks(expected.len()).all(|chunk| {
        let expected = &mut expected[..chunk.len()];
        fill(id, at, expected);
        at += chunk.len() as u64;
        expected == chunk
    })
}

/// A well mixed function of 64 bits (the finaliser of splitmix64).
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
