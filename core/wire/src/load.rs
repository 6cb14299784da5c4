//! Bytes read and written at constant sizes, so that a slice, an skb and an
//! XDP buffer can stand behind the same parser.

use crate::{Addr, MacAddr};

/// A frame that can be read. Every load is of constant size and answers `None`
/// outside the frame; numbers come out in host order.
pub trait Load {
    /// Length of the frame in bytes.
    fn len(&self) -> usize;
    /// Whether the frame has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The byte at `at`.
    fn u8(&self, at: usize) -> Option<u8>;
    /// The 16-bit number at `at`.
    fn be16(&self, at: usize) -> Option<u16>;
    /// The 32-bit number at `at`.
    fn be32(&self, at: usize) -> Option<u32>;
    /// The Ethernet address at `at`.
    fn mac(&self, at: usize) -> Option<MacAddr>;
    /// The IPv4 address at `at`, in its mapped form.
    fn v4(&self, at: usize) -> Option<Addr>;
    /// The IPv6 address at `at`.
    fn v6(&self, at: usize) -> Option<Addr>;
}

/// A frame that can be written at constant sizes. A store outside the frame
/// changes nothing and answers `false`.
pub trait Store: Load {
    /// Writes one byte.
    fn set_u8(&mut self, at: usize, value: u8) -> bool;
    /// Writes a 16-bit number in network order.
    fn set_be16(&mut self, at: usize, value: u16) -> bool;
    /// Writes a 32-bit number in network order.
    fn set_be32(&mut self, at: usize, value: u32) -> bool;
}

impl Load for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn be16(&self, at: usize) -> Option<u16> {
        array(self, at).map(u16::from_be_bytes)
    }

    fn be32(&self, at: usize) -> Option<u32> {
        array(self, at).map(u32::from_be_bytes)
    }

    fn mac(&self, at: usize) -> Option<MacAddr> {
        array(self, at).map(MacAddr)
    }

    fn v4(&self, at: usize) -> Option<Addr> {
        array(self, at).map(Addr::v4)
    }

    fn v6(&self, at: usize) -> Option<Addr> {
        array(self, at).map(Addr)
    }
}

impl Store for [u8] {
    fn set_u8(&mut self, at: usize, value: u8) -> bool {
        put(self, at, [value])
    }

    fn set_be16(&mut self, at: usize, value: u16) -> bool {
        put(self, at, value.to_be_bytes())
    }

    fn set_be32(&mut self, at: usize, value: u32) -> bool {
        put(self, at, value.to_be_bytes())
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> bool {
    let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else {
        return false;
    };
    *place = value;
    true
}
