//! A hash that is the same on every node, version and machine.

use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// SipHash-1-3 under a caller's key. With a key from the configuration both
/// nodes compute the same choice; with a random key a table resists attackers.
#[derive(Clone, Debug)]
pub struct StableHasher(SipHasher13);

impl StableHasher {
    /// A hasher under the two key words.
    pub fn new(key0: u64, key1: u64) -> StableHasher {
        StableHasher(SipHasher13::new_with_keys(key0, key1))
    }

    /// Feeds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> &mut StableHasher {
        self.0.write(bytes);
        self
    }

    /// The hash of all that was fed.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}
