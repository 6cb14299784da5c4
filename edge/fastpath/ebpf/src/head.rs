//! The beginning of a frame, copied onto the program's stack.

use core::mem::MaybeUninit;

use holdfast_wire::{Addr, Load, MacAddr, PLAIN_HEAD, Store};

/// Bytes before the frame: the IP header stands at a multiple of four then, and
/// the compiler reads words instead of bytes.
const LEAD: usize = 2;
/// All bytes, a multiple of eight.
const SIZE: usize = (LEAD + PLAIN_HEAD).next_multiple_of(8);

/// Bytes of a frame up to the end of its transport header.
#[repr(C, align(8))]
pub struct Head {
    bytes: [u8; SIZE],
    /// Length of the whole frame.
    len: usize,
}

impl Head {
    /// Begins the head of a frame of `len` bytes, to be loaded. All of it is
    /// zero: the kernel's helpers refuse a part of the stack that was never
    /// written. Word by word, since the compiler would call a loop over bytes.
    #[inline(always)]
    pub fn begin(place: &mut MaybeUninit<Head>, len: u32) -> &mut Head {
        let head = place.as_mut_ptr();
        for index in 0..SIZE / 8 {
            // SAFETY: inside `bytes`, which is aligned to eight.
            unsafe { (&raw mut (*head).bytes).cast::<u64>().add(index).write_volatile(0) };
        }
        // SAFETY: both fields are written before anybody reads them.
        unsafe {
            (&raw mut (*head).len).write(len as usize);
            &mut *head
        }
    }

    /// How many bytes of the frame are to be loaded.
    #[inline(always)]
    pub fn wanted(&self) -> u32 {
        if self.len < PLAIN_HEAD { self.len as u32 } else { PLAIN_HEAD as u32 }
    }

    /// The frame's first byte.
    #[inline(always)]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: `LEAD` is less than `SIZE`.
        unsafe { self.bytes.as_mut_ptr().add(LEAD) }
    }

    /// The frame's first byte.
    #[inline(always)]
    pub fn as_ptr(&self) -> *const u8 {
        // SAFETY: `LEAD` is less than `SIZE`.
        unsafe { self.bytes.as_ptr().add(LEAD) }
    }

    /// Two zero bytes and the destination's Ethernet address.
    #[inline(always)]
    pub fn first_word(&self) -> u64 {
        u64::from_ne_bytes(self.at(0).unwrap_or_default())
    }

    /// Writes the Ethernet header, which comes with two zero bytes before it.
    #[inline(always)]
    pub fn set_lead(&mut self, [first, second]: [u64; 2]) {
        let [a, b, c, d, e, f, g, h] = first.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = second.to_ne_bytes();
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
        }
    }

    #[inline(always)]
    fn at<const N: usize>(&self, place: usize) -> Option<[u8; N]> {
        self.bytes.get(place..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at + N > self.len || at + N > PLAIN_HEAD { None } else { self.at(LEAD + at) }
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) -> bool {
        let Some(place) = self.bytes.get_mut(LEAD + at..).and_then(<[u8]>::first_chunk_mut) else { return false };
        *place = value;
        true
    }
}

impl Load for Head {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
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

impl Store for Head {
    #[inline(always)]
    fn set_u8(&mut self, at: usize, value: u8) -> bool {
        self.put(at, [value])
    }

    #[inline(always)]
    fn set_be16(&mut self, at: usize, value: u16) -> bool {
        self.put(at, value.to_be_bytes())
    }

    #[inline(always)]
    fn set_be32(&mut self, at: usize, value: u32) -> bool {
        self.put(at, value.to_be_bytes())
    }
}
