//! The neighbour table: who is behind which Ethernet address and port.
//!
//! States of an entry (RFC 4861 section 7.3.2, with fewer words):
//!
//! ```text
//!              answer                 30 s
//! incomplete ─────────► reachable ──────────► probing ──► removed (no answer)
//!      │                    ▲                    │
//!      └─► removed          └──── answer ────────┘
//! ```
//!
//! An entry stays usable while it is probed. Every entry is probed for as
//! long as it answers, used or not: flows keep a neighbour's address and do
//! not tell when they use it.

use crate::frame::{OwnedFrame, PortId};
use holdfast_base::{Duration, Instant};
use holdfast_wire::{Addr, MacAddr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long an answer is believed before the neighbour is asked again
/// (REACHABLE_TIME of RFC 4861 section 10).
pub(super) const REACHABLE_TIME: Duration = Duration::from_secs(30);

/// Pauses after the first request and after each repetition. When the last
/// one has passed without an answer, the neighbour is unreachable.
pub(super) const RETRY_PAUSES: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(100), Duration::from_millis(100)];

/// How long a neighbour stays on the port it was learned on: when two ports
/// lead to the same wire, its broadcasts and answers arrive on both.
pub(super) const PORT_SETTLED: Duration = Duration::from_secs(1);

/// Frames that may wait in the whole table, so that a sweep over a large
/// subnet cannot fill the memory.
pub(super) const MAX_QUEUED: u32 = 16_384;

/// Bytes of those frames: a super-packet has up to 64 KiB.
pub(super) const MAX_QUEUED_BYTES: usize = 32 << 20;

/// Entries looked at for one listing.
const MAX_LISTED: usize = 4_096;

/// Who a neighbour is, as far as a frame needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) port: PortId,
    pub(super) mac: MacAddr,
}

/// The answer to "where is this neighbour".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Send it there.
    Known(Location),
    /// Asked already; wait.
    Asked,
    /// An entry was made for it: the first request must leave.
    Ask,
    /// No room for another entry.
    Full,
}

/// What the clock asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Repeat the request, to everybody.
    Ask(Addr),
    /// Ask this neighbour whether it is still there.
    Probe(Addr, Location),
    /// The neighbour does not answer; these frames waited for it.
    Unreachable(VecDeque<OwnedFrame>),
    /// An entry of an older activation was removed; ask again.
    Swept,
}

/// How much of the table may be filled, and by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableLimits {
    /// Entries at most.
    pub(super) entries: u32,
    /// Frames that may wait for one neighbour.
    pub(super) queue: u16,
}

#[derive(Debug)]
enum State {
    /// Asked, never answered; the frames wait.
    Incomplete(VecDeque<OwnedFrame>),
    /// Answered not long ago.
    Reachable(Location),
    /// Being asked again; usable meanwhile.
    Probing(Location),
}

#[derive(Debug)]
struct Entry {
    addr: Addr,
    state: State,
    /// Requests sent since the last answer.
    requests: u8,
    /// When something must happen to it; its key in `deadlines`.
    deadline: Instant,
    /// When it last answered.
    confirmed: Instant,
    /// The table's activation at which it was made.
    activation: u32,
}

/// The table. Lookups are O(log n); nothing is allocated for a known neighbour.
#[derive(Debug)]
pub(super) struct Neighbours {
    limits: TableLimits,
    index: BTreeMap<Addr, u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    deadlines: BTreeSet<(Instant, u32)>,
    /// Entries of this activation in state incomplete.
    incomplete: u32,
    /// Frames waiting in all entries, those of older activations included.
    queued: u32,
    queued_bytes: usize,
    /// Entries of an older activation count as absent.
    activation: u32,
    generation: u32,
}

impl Neighbours {
    pub(super) fn new(limits: TableLimits) -> Neighbours {
        Neighbours {
            limits,
            index: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            incomplete: 0,
            queued: 0,
            queued_bytes: 0,
            activation: 0,
            generation: 1,
        }
    }

    /// Grows whenever a location handed out earlier may be wrong.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Makes every location handed out earlier count as unknown to its holder.
    pub(super) fn invalidate(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Forgets everything, in O(1): entries made before are removed when they
    /// are next looked at, or one by one as their time comes.
    pub(super) fn forget_all(&mut self) {
        self.activation = self.activation.wrapping_add(1);
        self.incomplete = 0;
        self.invalidate();
    }

    /// Where `addr` is. [`Lookup::Ask`] makes an entry and starts its clock.
    pub(super) fn lookup(&mut self, now: Instant, addr: Addr) -> Lookup {
        if let Some(slot) = self.find(addr) {
            return match self.entry(slot).state {
                State::Incomplete(_) => Lookup::Asked,
                State::Reachable(location) | State::Probing(location) => Lookup::Known(location),
            };
        }
        // A quarter for unanswered ones: a sweep must not push out the living.
        if self.incomplete >= (self.limits.entries / 4).max(1) || !self.make_room() {
            return Lookup::Full;
        }
        self.insert(addr, State::Incomplete(VecDeque::new()), now, now + RETRY_PAUSES[0]);
        Lookup::Ask
    }

    /// Where `addr` is, if it is known; asks nobody.
    pub(super) fn location(&mut self, addr: Addr) -> Option<Location> {
        let slot = self.find(addr)?;
        match self.entry(slot).state {
            State::Incomplete(_) => None,
            State::Reachable(location) | State::Probing(location) => Some(location),
        }
    }

    /// Queues `frame` for `addr`, or gives it back when too many wait or
    /// nobody has asked for `addr`.
    pub(super) fn enqueue(&mut self, addr: Addr, frame: OwnedFrame) -> Result<(), OwnedFrame> {
        let limit = usize::from(self.limits.queue);
        let len = frame.bytes.len();
        let room = self.queued < MAX_QUEUED && self.queued_bytes + len <= MAX_QUEUED_BYTES;
        let Some(slot) = self.find(addr) else { return Err(frame) };
        match &mut self.entry_mut(slot).state {
            State::Incomplete(queue) if room && queue.len() < limit => queue.push_back(frame),
            State::Incomplete(_) | State::Reachable(_) | State::Probing(_) => return Err(frame),
        }
        self.queued += 1;
        self.queued_bytes += len;
        Ok(())
    }

    /// `addr` has answered, or shown itself in a request: it is at `location`.
    /// Frames that waited for it are returned. With `learn`, an unknown
    /// neighbour is entered; without, it is ignored.
    pub(super) fn confirm(
        &mut self,
        now: Instant,
        addr: Addr,
        location: Location,
        learn: bool,
    ) -> VecDeque<OwnedFrame> {
        let deadline = now + REACHABLE_TIME;
        let Some(slot) = self.find(addr) else {
            if learn && self.index.len() < self.limits.entries as usize {
                self.insert(addr, State::Reachable(location), now, deadline);
            }
            return VecDeque::new();
        };
        let entry = self.entry_mut(slot);
        let (waiting, moved) = match &mut entry.state {
            State::Incomplete(queue) => (Some(core::mem::take(queue)), false),
            State::Reachable(old) if is_echo_of_other_port(old, &location, now.since(entry.confirmed)) => {
                return VecDeque::new();
            }
            State::Reachable(old) | State::Probing(old) => (None, *old != location),
        };
        entry.state = State::Reachable(location);
        entry.requests = 0;
        entry.confirmed = now;
        self.arm(slot, deadline);
        if moved {
            self.invalidate();
        }
        let Some(waiting) = waiting else { return VecDeque::new() };
        self.incomplete -= 1;
        self.leave_queue(&waiting);
        waiting
    }

    /// Takes one thing that is due at `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Due> {
        let &(deadline, slot) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        if self.entry(slot).activation != self.activation {
            self.remove(slot);
            return Some(Due::Swept);
        }
        Some(self.advance(now, slot))
    }

    /// When [`Neighbours::poll`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Entries that count, in address order: address, and location (`None`
    /// while nobody has answered).
    pub(super) fn list(&self) -> impl Iterator<Item = (Addr, Option<Location>)> {
        let current = self.index.values().take(MAX_LISTED).map(|&slot| self.entry(slot));
        current.filter(|entry| entry.activation == self.activation).map(|entry| {
            let location = match entry.state {
                State::Incomplete(_) => None,
                State::Reachable(location) | State::Probing(location) => Some(location),
            };
            (entry.addr, location)
        })
    }

    /// What the passing of its deadline means for the entry in `slot`.
    fn advance(&mut self, now: Instant, slot: u32) -> Due {
        let entry = self.entry_mut(slot);
        let addr = entry.addr;
        let due = match entry.state {
            State::Reachable(location) => {
                entry.state = State::Probing(location);
                Due::Probe(addr, location)
            }
            State::Incomplete(_) | State::Probing(_) if usize::from(entry.requests) >= RETRY_PAUSES.len() => {
                return Due::Unreachable(self.remove(slot));
            }
            State::Probing(location) => Due::Probe(addr, location),
            State::Incomplete(_) => Due::Ask(addr),
        };
        let pause = RETRY_PAUSES[usize::from(entry.requests)];
        entry.requests += 1;
        self.arm(slot, now + pause);
        due
    }

    /// The slot of `addr`, unless its entry is of an older activation; such an
    /// entry is removed.
    fn find(&mut self, addr: Addr) -> Option<u32> {
        let slot = *self.index.get(&addr)?;
        if self.entry(slot).activation == self.activation {
            return Some(slot);
        }
        self.remove(slot);
        None
    }

    fn insert(&mut self, addr: Addr, state: State, now: Instant, deadline: Instant) {
        let incomplete = matches!(state, State::Incomplete(_));
        self.incomplete += u32::from(incomplete);
        let requests = u8::from(incomplete);
        let entry = Entry { addr, state, requests, deadline, confirmed: now, activation: self.activation };
        let slot = self.free.pop().unwrap_or(self.entries.len() as u32);
        if slot as usize == self.entries.len() {
            self.entries.push(Some(entry));
        } else {
            self.entries[slot as usize] = Some(entry);
        }
        self.index.insert(addr, slot);
        self.deadlines.insert((deadline, slot));
    }

    /// Removes the entry in `slot`; returns what waited in it.
    fn remove(&mut self, slot: u32) -> VecDeque<OwnedFrame> {
        let entry = self.entries[slot as usize].take().expect("slot in use");
        self.index.remove(&entry.addr);
        self.deadlines.remove(&(entry.deadline, slot));
        self.free.push(slot);
        match entry.state {
            State::Incomplete(queue) => {
                self.incomplete -= u32::from(entry.activation == self.activation);
                self.leave_queue(&queue);
                queue
            }
            State::Reachable(_) | State::Probing(_) => {
                self.invalidate();
                VecDeque::new()
            }
        }
    }

    /// Counts `frames` as waiting no longer.
    fn leave_queue(&mut self, frames: &VecDeque<OwnedFrame>) {
        self.queued -= frames.len() as u32;
        self.queued_bytes -= frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
    }

    /// Whether there is room for one more entry, if need be by giving up the
    /// one that has not answered for longest.
    fn make_room(&mut self) -> bool {
        if self.index.len() < self.limits.entries as usize {
            return true;
        }
        let Some(&(_, slot)) = self.deadlines.first() else { return false };
        // Deadlines of incomplete entries are near, and frames wait in them:
        // when one comes first, the newcomer has to wait instead.
        let first = self.entry(slot);
        if matches!(first.state, State::Incomplete(_)) && first.activation == self.activation {
            return false;
        }
        self.remove(slot);
        true
    }

    /// Panics if the table's parts contradict each other.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let used: Vec<(u32, &Entry)> =
            (0..).zip(&self.entries).filter_map(|(slot, entry)| Some((slot, entry.as_ref()?))).collect();
        assert_eq!(used.len() + self.free.len(), self.entries.len());
        assert_eq!((used.len(), used.len()), (self.index.len(), self.deadlines.len()));
        let (mut incomplete, mut queued, mut queued_bytes) = (0, 0, 0);
        for (slot, entry) in used {
            assert_eq!(self.index.get(&entry.addr), Some(&slot));
            assert!(self.deadlines.contains(&(entry.deadline, slot)));
            if let State::Incomplete(queue) = &entry.state {
                incomplete += u32::from(entry.activation == self.activation);
                queued += queue.len() as u32;
                queued_bytes += queue.iter().map(|frame| frame.bytes.len()).sum::<usize>();
            }
        }
        assert_eq!((incomplete, queued, queued_bytes), (self.incomplete, self.queued, self.queued_bytes));
    }

    fn arm(&mut self, slot: u32, deadline: Instant) {
        let entry = self.entries[slot as usize].as_mut().expect("slot in use");
        let old = core::mem::replace(&mut entry.deadline, deadline);
        self.deadlines.remove(&(old, slot));
        self.deadlines.insert((deadline, slot));
    }

    fn entry(&self, slot: u32) -> &Entry {
        self.entries[slot as usize].as_ref().expect("slot in use")
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        self.entries[slot as usize].as_mut().expect("slot in use")
    }
}

/// Whether `seen` is the neighbour at `known`, heard on a second port shortly after the first.
fn is_echo_of_other_port(known: &Location, seen: &Location, age: Duration) -> bool {
    known.mac == seen.mac && known.port != seen.port && age < PORT_SETTLED
}
