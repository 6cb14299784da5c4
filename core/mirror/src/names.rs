//! The session's dictionary: addresses of vservers, servers and SNIPs by number.
//!
//! An address is told once, beside the first record that has it. Until the peer
//! has acknowledged that datagram it is written out, after that its number
//! stands for it. So a number never points to what may still be lost, and a
//! datagram beyond a gap can be read when the primary dies.

use core::ops::Range;
use std::collections::BTreeMap;

use holdfast_wire::Addr;

/// Addresses that a session may name; further ones are written out. A number
/// takes at most two bytes.
pub const MAX_NAMES: u16 = 1_024;

/// How the sender writes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By this number: the peer has stored what it stands for.
    Number(u16),
    /// Written out; it was told and may still be lost, or there is no room.
    Out,
    /// Written out, and told under this number in the same datagram.
    Tell(u16),
}

/// The sender's end.
#[derive(Debug)]
pub struct Names {
    limit: u16,
    numbers: BTreeMap<Addr, u16>,
    /// By number: whether the peer has stored it.
    stored: Vec<bool>,
}

impl Names {
    /// An empty dictionary with room for `limit` addresses, [`MAX_NAMES`] at most.
    pub fn new(limit: u16) -> Names {
        Names { limit: limit.min(MAX_NAMES), numbers: BTreeMap::new(), stored: Vec::new() }
    }

    /// Another session: nothing is known to the peer.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.stored.clear();
    }

    /// The number that the next new address gets.
    pub(crate) fn next(&self) -> u16 {
        self.stored.len() as u16
    }

    /// How to write `addr`; a new one gets a number while there is room.
    pub(crate) fn name(&mut self, addr: Addr) -> Naming {
        if let Some(&number) = self.numbers.get(&addr) {
            let stored = self.stored[usize::from(number)];
            return if stored { Naming::Number(number) } else { Naming::Out };
        }
        let number = self.next();
        if number >= self.limit {
            return Naming::Out;
        }
        self.numbers.insert(addr, number);
        self.stored.push(false);
        Naming::Tell(number)
    }

    /// The peer has stored the datagram that told these.
    pub fn confirm(&mut self, told: Range<u16>) {
        for number in told {
            if let Some(stored) = self.stored.get_mut(usize::from(number)) {
                *stored = true;
            }
        }
    }
}

/// The receiver's end.
#[derive(Debug, Default)]
pub struct KnownNames(Vec<Option<Addr>>);

impl KnownNames {
    /// Another session begins.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What a number stands for.
    pub(crate) fn get(&self, number: u64) -> Option<Addr> {
        *self.0.get(usize::try_from(number).ok()?)?
    }

    /// Whether `number` may stand for `addr`: nothing else has been told of it.
    pub(crate) fn agrees(&self, number: u64, addr: Addr) -> bool {
        number < MAX_NAMES.into() && self.get(number).is_none_or(|known| known == addr)
    }

    /// Remembers what [`KnownNames::agrees`] with the rest.
    pub fn learn(&mut self, number: u16, addr: Addr) {
        let index = usize::from(number);
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index].get_or_insert(addr);
    }
}
