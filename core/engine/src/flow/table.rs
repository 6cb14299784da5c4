//! The flow table: two keys lead to one flow.
//!
//! A slab and an index, both allocated once at full size, so that the
//! allocator can place them in huge pages. The index holds two entries per
//! flow (slot and side) under a keyed hash that clients cannot predict.

use core::hash::Hasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use holdfast_base::{Instant, Rng, TimerWheel};
use siphasher::sip::SipHasher13;

use super::{Flow, FlowState, NONE, Side, key_bytes};
use crate::record::{FlowKey, FlowRef};

/// Why a flow was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No slot is free.
    Full,
    /// This slot's flow has one of the keys.
    Taken(u32),
}

/// All flows of this node.
pub(crate) struct FlowTable {
    flows: Vec<Flow>,
    free: u32,
    limit: u32,
    live: u32,
    next_generation: u32,
    index: HashTable<u32>,
    hash_keys: (u64, u64),
    wheel: TimerWheel,
}

impl FlowTable {
    /// An empty table for `limit` flows; `seed` decides the hash keys. All
    /// memory is reserved here.
    pub(crate) fn new(now: Instant, limit: u32, seed: u64) -> FlowTable {
        assert!(limit < NONE / 2, "slot and side share 32 bits");
        let mut rng = Rng::from_seed(seed);
        FlowTable {
            flows: Vec::with_capacity(limit as usize),
            free: NONE,
            limit,
            live: 0,
            next_generation: 1,
            index: HashTable::with_capacity(2 * limit as usize),
            hash_keys: (rng.next_u64(), rng.next_u64()),
            wheel: TimerWheel::new(now, limit as usize),
        }
    }

    /// Flows in the table.
    pub(crate) fn len(&self) -> u32 {
        self.live
    }

    /// Slots ever used since the last clearing: the range for walks.
    pub(crate) fn slots(&self) -> u32 {
        self.flows.len() as u32
    }

    /// The flow that packets with `key` belong to, and which end sends them.
    pub(crate) fn find(&self, key: &FlowKey) -> Option<(u32, Side)> {
        let hash = hash(self.hash_keys, key);
        let entry = *self.index.find(hash, |&entry| key_of(&self.flows, entry) == *key)?;
        Some((entry >> 1, side_of(entry)))
    }

    /// The flow in `slot`, which must be in use (our own invariant).
    pub(crate) fn at(&self, slot: u32) -> &Flow {
        &self.flows[slot as usize]
    }

    /// The flow in `slot`. Keys and generation must not be changed through it.
    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut Flow {
        &mut self.flows[slot as usize]
    }

    /// The slot of a reference, unless its flow is gone.
    pub(crate) fn slot_of(&self, flow: FlowRef) -> Option<u32> {
        let found = self.flows.get(flow.slot as usize)?;
        (found.state != FlowState::Free && found.generation == flow.generation).then_some(flow.slot)
    }

    /// The flow in `slot`, if the slot is in use.
    pub(crate) fn live_at(&self, slot: u32) -> Option<&Flow> {
        self.flows.get(slot as usize).filter(|flow| flow.state != FlowState::Free)
    }

    /// The next slot in use whose flow is `wanted`, for walks: from `cursor`, which moves behind it, up to `last`.
    pub(crate) fn next_live(&self, cursor: &mut u32, last: u32, wanted: impl Fn(&Flow) -> bool) -> Option<u32> {
        while *cursor < last.min(self.slots()) {
            let slot = *cursor;
            *cursor += 1;
            if self.live_at(slot).is_some_and(&wanted) {
                return Some(slot);
            }
        }
        None
    }

    /// A reference to the flow in `slot`.
    pub(crate) fn reference(&self, slot: u32) -> FlowRef {
        FlowRef { slot, generation: self.at(slot).generation }
    }

    /// Puts a flow in, under both its keys, and gives it a generation.
    pub(crate) fn insert(&mut self, mut flow: Flow) -> Result<u32, Refused> {
        for side in [Side::Client, Side::Server] {
            if let Some((slot, _)) = self.find(&flow.key(side)) {
                return Err(Refused::Taken(slot));
            }
        }
        flow.generation = self.next_generation;
        let slot = self.claim(flow)?;
        self.next_generation = self.next_generation.wrapping_add(1);
        for side in [Side::Client, Side::Server] {
            let entry = slot << 1 | side as u32;
            let key = flow.key(side);
            let (flows, keys) = (&self.flows, self.hash_keys);
            let place =
                self.index.entry(hash(keys, &key), |&other| other == entry, |&other| hash(keys, &key_of(flows, other)));
            match place {
                Entry::Vacant(vacant) => {
                    vacant.insert(entry);
                }
                Entry::Occupied(_) => unreachable!("a slot is indexed once per side"),
            }
        }
        self.live += 1;
        Ok(slot)
    }

    /// Takes the flow in `slot` out.
    pub(crate) fn remove(&mut self, slot: u32) -> Flow {
        let flow = self.flows[slot as usize];
        assert!(flow.state != FlowState::Free, "removed twice");
        for side in [Side::Client, Side::Server] {
            let entry = slot << 1 | side as u32;
            let found = self.index.find_entry(hash(self.hash_keys, &flow.key(side)), |&other| other == entry);
            found.expect("both keys of a flow are indexed").remove();
        }
        let freed = &mut self.flows[slot as usize];
        freed.state = FlowState::Free;
        freed.hold = self.free;
        self.free = slot;
        self.live -= 1;
        self.wheel.cancel(slot);
        flow
    }

    /// Forgets every flow. Timers that are still armed fire into nothing or
    /// into a later flow, which re-arms them: harmless.
    pub(crate) fn clear(&mut self) {
        self.flows.clear();
        self.index.clear();
        self.free = NONE;
        self.live = 0;
    }

    /// Arms the timer of `slot`.
    pub(crate) fn arm(&mut self, slot: u32, deadline: Instant) {
        self.wheel.set(slot, deadline);
    }

    /// A slot whose timer has fired, if any. Its flow may be gone since the
    /// table was cleared.
    pub(crate) fn poll_timer(&mut self, now: Instant) -> Option<u32> {
        self.wheel.poll(now)
    }

    /// When [`FlowTable::poll_timer`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    fn claim(&mut self, flow: Flow) -> Result<u32, Refused> {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.flows[slot as usize].hold;
            self.flows[slot as usize] = flow;
            return Ok(slot);
        }
        if self.flows.len() >= self.limit as usize {
            return Err(Refused::Full);
        }
        self.flows.push(flow);
        Ok(self.flows.len() as u32 - 1)
    }
}

fn side_of(entry: u32) -> Side {
    if entry & 1 == Side::Client as u32 { Side::Client } else { Side::Server }
}

fn key_of(flows: &[Flow], entry: u32) -> FlowKey {
    flows[(entry >> 1) as usize].key(side_of(entry))
}

fn hash(keys: (u64, u64), key: &FlowKey) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(keys.0, keys.1);
    hasher.write(&key_bytes(key));
    hasher.finish()
}
