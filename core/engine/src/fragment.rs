//! Fragments follow the first part of their packet.
//!
//! Only the first fragment names its flow (it has the ports). Where it goes is
//! remembered for the later ones; later ones that come first wait a moment.
//! Nothing is reassembled. Everything is bounded.

use crate::frame::{Frame, OwnedFrame};
use holdfast_base::{Duration, Instant};
use holdfast_wire::Addr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Fragmented packets remembered at a time. A first fragment beyond it takes
/// the place of the oldest; a later one is dropped.
pub(crate) const MAX_PACKETS: usize = 4096;

/// Later fragments of one packet that wait for the first. A 64 KiB datagram
/// over Ethernet has 45 fragments; those that overtake the first are few.
pub(crate) const MAX_WAITING_PER_PACKET: usize = 8;

/// Later fragments that wait in total.
pub(crate) const MAX_WAITING: usize = 4096;

/// Bytes of all waiting fragments: they may be larger than a link's frames
/// where the kernel hands over what no link has carried.
pub(crate) const MAX_WAITING_BYTES: usize = 8 << 20;

/// How long later fragments may follow a first one.
pub(crate) const FOLLOW_TIME: Duration = Duration::from_secs(5);

/// How long later fragments wait for a first one.
pub(crate) const WAIT_TIME: Duration = Duration::from_secs(1);

/// Entries that one call of [`Fragments::handle_timeout`] removes at most.
const MAX_EXPIRED_PER_TURN: usize = 256;

/// What the fragments of one packet have in common (RFC 791 section 3.2,
/// RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FragmentKey {
    /// Source in the frame.
    pub(crate) src: Addr,
    /// Destination in the frame.
    pub(crate) dst: Addr,
    /// IP protocol number.
    pub(crate) proto: u8,
    /// The identification field.
    pub(crate) id: u32,
}

/// What to do with a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FragmentStep<T> {
    /// Treat it as the first one was treated.
    Follow(T),
    /// A copy waits for the first one.
    Queued,
    /// Too many wait; drop it.
    Drop,
}

#[derive(Debug)]
enum Stage<T> {
    /// The first fragment has been seen.
    Known(T),
    /// These came before it.
    Waiting(VecDeque<OwnedFrame>),
}

#[derive(Debug)]
struct Packet<T> {
    stage: Stage<T>,
    deadline: Instant,
}

/// The table of fragmented packets under way; `T` says where their fragments
/// go (a flow and a direction).
#[derive(Debug)]
pub(crate) struct Fragments<T> {
    packets: BTreeMap<FragmentKey, Packet<T>>,
    deadlines: BTreeSet<(Instant, FragmentKey)>,
    waiting: usize,
    waiting_bytes: usize,
}

impl<T: Copy> Fragments<T> {
    /// An empty table.
    pub(crate) fn new() -> Fragments<T> {
        Fragments { packets: BTreeMap::new(), deadlines: BTreeSet::new(), waiting: 0, waiting_bytes: 0 }
    }

    /// The first fragment of `key` was seen and goes to `target`. Returns the
    /// later ones that waited for it, in the order they came, each with the
    /// port it came in by.
    #[must_use]
    pub(crate) fn first(&mut self, now: Instant, key: FragmentKey, target: T) -> VecDeque<OwnedFrame> {
        let waited = self.remove(&key);
        if self.packets.len() >= MAX_PACKETS
            && let Some(&(_, oldest)) = self.deadlines.first()
        {
            self.remove(&oldest);
        }
        self.insert(key, Stage::Known(target), now + FOLLOW_TIME);
        waited
    }

    /// A later fragment of `key` came in as `frame`.
    pub(crate) fn later(&mut self, now: Instant, key: FragmentKey, frame: &Frame<'_>) -> FragmentStep<T> {
        let full = self.waiting >= MAX_WAITING || self.waiting_bytes + frame.bytes.len() > MAX_WAITING_BYTES;
        let table_full = self.packets.len() >= MAX_PACKETS;
        match self.packets.get_mut(&key).map(|packet| &mut packet.stage) {
            Some(Stage::Known(target)) => return FragmentStep::Follow(*target),
            Some(Stage::Waiting(frames)) if full || frames.len() >= MAX_WAITING_PER_PACKET => {
                return FragmentStep::Drop;
            }
            Some(Stage::Waiting(frames)) => frames.push_back(copy_of(frame)),
            None if full || table_full => return FragmentStep::Drop,
            None => self.insert(key, Stage::Waiting(VecDeque::from([copy_of(frame)])), now + WAIT_TIME),
        }
        self.waiting += 1;
        self.waiting_bytes += frame.bytes.len();
        FragmentStep::Queued
    }

    /// Forgets what is due at `now`; returns how many waiting fragments were
    /// dropped with it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        for _ in 0..MAX_EXPIRED_PER_TURN {
            let Some(&(deadline, key)) = self.deadlines.first() else { break };
            if deadline > now {
                break;
            }
            dropped += self.remove(&key).len();
        }
        dropped
    }

    /// When [`Fragments::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    fn insert(&mut self, key: FragmentKey, stage: Stage<T>, deadline: Instant) {
        self.packets.insert(key, Packet { stage, deadline });
        self.deadlines.insert((deadline, key));
    }

    /// Removes `key`; returns what waited under it.
    fn remove(&mut self, key: &FragmentKey) -> VecDeque<OwnedFrame> {
        let Some(packet) = self.packets.remove(key) else { return VecDeque::new() };
        self.deadlines.remove(&(packet.deadline, *key));
        match packet.stage {
            Stage::Known(_) => VecDeque::new(),
            Stage::Waiting(frames) => {
                self.waiting -= frames.len();
                self.waiting_bytes -= frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
                frames
            }
        }
    }
}

fn copy_of(frame: &Frame<'_>) -> OwnedFrame {
    OwnedFrame { port: frame.port, offload: frame.offload, bytes: frame.bytes.to_vec() }
}

#[cfg(test)]
mod tests;
