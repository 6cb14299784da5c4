//! Leases of source ports for server-side connections.
//!
//! One pool per (SNIP, server, protocol): a server sees each pair of source and
//! destination at most once, and one SNIP carries tens of thousands of
//! connections per server. A pool is a bitmap over all 65,536 ports, in pieces
//! that exist only while they hold a lease; a pool without leases is gone.

use std::collections::BTreeMap;

use holdfast_wire::{Addr, Endpoint};

use crate::engine::Half;

/// The lowest port that is ever leased.
pub(crate) const FIRST_PORT: u16 = 1024;
/// The lowest port of [`Half::Upper`].
pub(crate) const FIRST_UPPER_PORT: u16 = 33_280;

/// Where a pool searches that holds only leases of the peer: in no half.
const NOT_BEGUN: u16 = 0;

/// Ports per piece of a pool's bitmap.
const PIECE_PORTS: usize = 1024;
/// Words per piece.
const PIECE_WORDS: usize = PIECE_PORTS / 64;
/// Pieces per pool.
const PIECES: usize = 65_536 / PIECE_PORTS;

/// Whose ports a pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    /// The source address.
    pub(crate) snip: Addr,
    /// The server.
    pub(crate) server: Endpoint,
    /// IP protocol number.
    pub(crate) proto: u8,
}

/// Why no port was leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseError {
    /// Every port of our half is leased, or there are too many destinations.
    Exhausted,
    /// This very port is leased already.
    Taken,
}

/// All leases of this node.
#[derive(Debug)]
pub(crate) struct Snat {
    pools: BTreeMap<Destination, Pool>,
    half: Half,
    max_pools: usize,
    leases: u32,
    /// Where a pool begins to search in a half: moves with every lease, so that a
    /// pool that comes back does not begin with the ports it used last.
    rotation: u16,
}

#[derive(Debug)]
struct Pool {
    pieces: [Option<Box<Piece>>; PIECES],
    leases: u32,
    /// Where to search, or [`NOT_BEGUN`].
    next: u16,
}

#[derive(Debug, Default)]
struct Piece {
    words: [u64; PIECE_WORDS],
    leases: u16,
}

impl Snat {
    /// No leases; at most `max_pools` destinations. `rotation`: where to begin, another
    /// place in every life, since servers may still have connections of the former one.
    pub(crate) fn new(max_pools: usize, rotation: u16) -> Snat {
        Snat { pools: BTreeMap::new(), half: Half::Lower, max_pools, leases: 0, rotation }
    }

    /// From now on new leases come from this half. Those made stay.
    pub(crate) fn set_half(&mut self, half: Half) {
        self.half = half;
    }

    /// Ports leased.
    pub(crate) fn leases(&self) -> u32 {
        self.leases
    }

    /// Leases the next free port of our half, in rotation.
    pub(crate) fn lease(&mut self, destination: Destination) -> Result<u16, LeaseError> {
        let (first, last) = range(self.half);
        let start = first + self.rotation % (last - first + 1);
        let pool = self.pool(destination)?;
        if pool.next < first || pool.next > last {
            pool.next = start;
        }
        let from = pool.next;
        let found = pool.first_free(from, last).or_else(|| pool.first_free(first, from));
        let Some(port) = found else { return Err(LeaseError::Exhausted) };
        pool.set(port);
        pool.next = if port == last { first } else { port + 1 };
        self.rotation = self.rotation.wrapping_add(1);
        self.leases += 1;
        Ok(port)
    }

    /// The next port of our half in rotation, leased or not: where all are leased, the one whose
    /// lease is the oldest. `None`: there is no pool, or it has no lease of ours.
    pub(crate) fn next_in_turn(&mut self, destination: Destination) -> Option<u16> {
        let (first, last) = range(self.half);
        let pool = self.pools.get_mut(&destination)?;
        if pool.next < first || pool.next > last {
            return None;
        }
        let port = pool.next;
        pool.next = if port == last { first } else { port + 1 };
        Some(port)
    }

    /// The next port in turn is the one behind this one, which was in turn.
    pub(crate) fn go_on_behind(&mut self, destination: Destination, port: u16) {
        let (first, last) = range(self.half);
        if let Some(pool) = self.pools.get_mut(&destination) {
            pool.next = if port == last { first } else { port + 1 };
        }
    }

    /// Leases this very port, of whichever half: the peer did before us.
    pub(crate) fn lease_exactly(&mut self, destination: Destination, port: u16) -> Result<(), LeaseError> {
        let pool = self.pool(destination)?;
        if pool.is_set(port) {
            return Err(LeaseError::Taken);
        }
        pool.set(port);
        self.leases += 1;
        Ok(())
    }

    /// Gives a port back. It must be leased (our own invariant).
    pub(crate) fn release(&mut self, destination: Destination, port: u16) {
        let pool = self.pools.get_mut(&destination).expect("a leased port has a pool");
        pool.unset(port);
        self.leases -= 1;
        if pool.leases == 0 {
            self.pools.remove(&destination);
        }
    }

    /// Forgets every lease.
    pub(crate) fn clear(&mut self) {
        self.pools.clear();
        self.leases = 0;
    }

    fn pool(&mut self, destination: Destination) -> Result<&mut Pool, LeaseError> {
        if self.pools.len() >= self.max_pools && !self.pools.contains_key(&destination) {
            return Err(LeaseError::Exhausted);
        }
        let empty = || Pool { pieces: [const { None }; PIECES], leases: 0, next: NOT_BEGUN };
        Ok(self.pools.entry(destination).or_insert_with(empty))
    }
}

impl Pool {
    /// The first free port in `from..=to`.
    fn first_free(&self, from: u16, to: u16) -> Option<u16> {
        let mut port = usize::from(from);
        while port <= usize::from(to) {
            let Some(piece) = &self.pieces[port / PIECE_PORTS] else { return Some(port as u16) };
            let offset = port % PIECE_PORTS;
            let taken = piece.words[offset / 64] | ((1u64 << (offset % 64)) - 1);
            if taken != u64::MAX {
                let found = port - offset % 64 + taken.trailing_ones() as usize;
                return (found <= usize::from(to)).then_some(found as u16);
            }
            port += 64 - offset % 64;
        }
        None
    }

    fn is_set(&self, port: u16) -> bool {
        let (piece, word, bit) = place(port);
        self.pieces[piece].as_ref().is_some_and(|piece| piece.words[word] & bit != 0)
    }

    fn set(&mut self, port: u16) {
        let (index, word, bit) = place(port);
        let piece = self.pieces[index].get_or_insert_default();
        assert!(piece.words[word] & bit == 0, "a port is leased once");
        piece.words[word] |= bit;
        piece.leases += 1;
        self.leases += 1;
    }

    fn unset(&mut self, port: u16) {
        let (index, word, bit) = place(port);
        let piece = self.pieces[index].as_mut().expect("a leased port has a piece");
        assert!(piece.words[word] & bit != 0, "only a leased port is released");
        piece.words[word] &= !bit;
        piece.leases -= 1;
        if piece.leases == 0 {
            self.pieces[index] = None;
        }
        self.leases -= 1;
    }
}

fn place(port: u16) -> (usize, usize, u64) {
    let offset = usize::from(port) % PIECE_PORTS;
    (usize::from(port) / PIECE_PORTS, offset / 64, 1 << (offset % 64))
}

/// First and last port of a half.
fn range(half: Half) -> (u16, u16) {
    match half {
        Half::Lower => (FIRST_PORT, FIRST_UPPER_PORT - 1),
        Half::Upper => (FIRST_UPPER_PORT, u16::MAX),
    }
}
