//! The data thread's half: entries, the lease, the counters.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray};
use holdfast_fastpath_layout::{
    COUNTS, ENTRY_LEN, Entry, FLOATING, FLOWS, HOST, KEY_LEN, Key, MAX_FLOATING, MAX_HOST, NODE, Reason, TAPS,
};
use holdfast_wire::{Addr, MacAddr};

use crate::bpf::HashMap;
use crate::error::FastPathError;
use crate::node::MappedNode;
use crate::programs::Which;

/// Entries put in or read by one call at most: about 0.1 ms.
pub const MAX_BATCH: usize = 256;

/// The maps that the program reads.
pub struct FlowMaps {
    flows: OwnedFd,
    floating: AddressSet,
    host: AddressSet,
    taps: OwnedFd,
    /// What is in [`TAPS`].
    sorted: BTreeMap<u32, u32>,
    counts: PerCpuArray<MapData, u64>,
    node: Arc<MappedNode>,
    /// Buffers of one batch.
    keys: Vec<[u8; KEY_LEN]>,
    values: Vec<[u8; ENTRY_LEN]>,
}

impl FlowMaps {
    /// # Safety
    ///
    /// The maps are those of the program, with the layout that this was built with.
    pub(crate) unsafe fn new(
        [flows, floating, host, taps, node]: [OwnedFd; 5],
        counts: PerCpuArray<MapData, u64>,
    ) -> Result<FlowMaps, FastPathError> {
        // SAFETY: the caller's promise.
        let node = unsafe { MappedNode::new(node.as_fd()) }.map_err(failed(NODE, "map it into memory"))?;
        Ok(FlowMaps {
            flows,
            floating: AddressSet {
                name: FLOATING,
                room: MAX_FLOATING as usize,
                map: floating,
                members: BTreeSet::new(),
            },
            host: AddressSet { name: HOST, room: MAX_HOST as usize, map: host, members: BTreeSet::new() },
            taps,
            sorted: BTreeMap::new(),
            counts,
            node: Arc::new(node),
            keys: Vec::with_capacity(MAX_BATCH),
            values: Vec::with_capacity(MAX_BATCH),
        })
    }

    /// Nothing that concerns the node is forwarded from `until` on
    /// (CLOCK_BOOTTIME, nanoseconds): 0 closes the gate,
    /// [`crate::layout::NEVER`] leaves it open. One store: no call, no lock.
    pub fn set_lease(&self, until: u64) {
        self.node.set_lease(until);
    }

    /// Makes every entry of another epoch stale, at once.
    pub fn set_epoch(&self, epoch: u32) {
        self.node.set_epoch(epoch);
    }

    /// Replaces the Ethernet addresses under which frames are the node's. Answers
    /// how many found no room: frames to those go up.
    pub fn set_macs(&self, macs: &[MacAddr]) -> usize {
        self.node.set_macs(macs)
    }

    /// Whether the node routes: whether packets that are sent to its Ethernet
    /// addresses and are for nobody here are kept from the host.
    pub fn set_routes(&self, routes: bool) {
        self.node.set_routes(routes);
    }

    /// When a client's packet was last forwarded, to a millisecond (CLOCK_BOOTTIME, nanoseconds); 0: never.
    pub fn client_seen(&self) -> u64 {
        self.node.client_seen()
    }

    /// Replaces the floating addresses: what is sent there is the engine's, and a
    /// node without a lease keeps away from them. Answers how many found no room.
    pub fn set_floating(&mut self, wanted: &BTreeSet<Addr>) -> Result<usize, FastPathError> {
        self.floating.replace(wanted)
    }

    /// Replaces the host's own addresses: what is sent there is the host's. Answers how many found no room.
    pub fn set_host(&mut self, wanted: &BTreeSet<Addr>) -> Result<usize, FastPathError> {
        self.host.replace(wanted)
    }

    /// Sorts what comes in at `interface` and is not forwarded: the engine's part
    /// goes to the TAP of this number from here on; `None`: all goes up as it came.
    pub fn set_tap(&mut self, interface: u32, tap: Option<u32>) -> Result<(), FastPathError> {
        // SAFETY: the map's key and value are numbers of four bytes.
        let map = unsafe { HashMap::<4, 4>::new(self.taps.as_fd()) };
        let key = interface.to_ne_bytes();
        match tap {
            Some(tap) => {
                map.set(&key, &tap.to_ne_bytes()).map_err(failed(TAPS, "put a TAP in"))?;
                self.sorted.insert(interface, tap);
            }
            None if self.sorted.remove(&interface).is_some() => {
                map.delete(&key).map_err(failed(TAPS, "take a TAP out"))?;
            }
            None => {}
        }
        Ok(())
    }

    /// Puts entries in, or replaces them, in order. Answers how many found no room: the
    /// map may be full, and flows without an entry are only slower.
    pub fn install(&mut self, entries: &[(Key, Entry)]) -> Result<usize, FastPathError> {
        let (mut rest, mut refused) = (entries, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(MAX_BATCH)];
            self.keys.clear();
            self.values.clear();
            self.keys.extend(batch.iter().map(|(key, _)| key.to_bytes()));
            self.values.extend(batch.iter().map(|(_, entry)| entry.to_bytes()));
            let (count, result) = flows(&self.flows).set_all(&self.keys, &self.values);
            rest = &rest[count..];
            match result {
                Ok(()) => {}
                // One behind it may replace another one, and need no room.
                Err(error) if is_full(&error) => (rest, refused) = (rest.get(1..).unwrap_or_default(), refused + 1),
                Err(source) => return Err(failed(FLOWS, "put entries in")(source)),
            }
        }
        Ok(refused)
    }

    /// Takes an entry out and answers what it has seen last; `None`: there was none.
    pub fn remove(&self, key: &Key) -> Result<Option<Entry>, FastPathError> {
        let taken = flows(&self.flows).take(&key.to_bytes()).map_err(failed(FLOWS, "take an entry out"))?;
        Ok(taken.map(|bytes| Entry::from_bytes(&bytes)))
    }

    /// The entry of `key` as it is.
    pub fn read(&self, key: &Key) -> Result<Option<Entry>, FastPathError> {
        let found = flows(&self.flows).get(&key.to_bytes()).map_err(failed(FLOWS, "read an entry"))?;
        Ok(found.map(|bytes| Entry::from_bytes(&bytes)))
    }

    /// What takes out the entries of other epochs.
    pub fn sweeper(&self) -> Result<Sweeper, FastPathError> {
        let flows = self.flows.try_clone().map_err(failed(FLOWS, "copy its descriptor"))?;
        Ok(Sweeper { flows, node: Arc::clone(&self.node) })
    }

    /// Packets that were not forwarded, for each of [`Reason::ALL`], over all processors. What the XDP program lets up is counted by
    /// the tc program below it, and by that one alone here; what it drops nobody else sees.
    pub fn counts(&self) -> Result<Vec<u64>, FastPathError> {
        let of = |reason: &Reason| match reason {
            Reason::Fenced | Reason::Failed => Ok(self.count(Which::Tc, *reason)? + self.count(Which::Xdp, *reason)?),
            _ => self.count(Which::Tc, *reason),
        };
        Reason::ALL.iter().map(of).collect()
    }

    /// What one of the programs has counted for a reason, over all processors.
    pub fn count(&self, which: Which, reason: Reason) -> Result<u64, FastPathError> {
        let first = if which == Which::Tc { 0 } else { Reason::COUNT };
        let values = self
            .counts
            .get(&(first + reason as u32), 0)
            .map_err(|error| failed(COUNTS, "read a counter")(io::Error::other(error)))?;
        Ok(values.iter().sum())
    }
}

/// Addresses in a map, and what is known to be there.
struct AddressSet {
    name: &'static str,
    room: usize,
    map: OwnedFd,
    members: BTreeSet<Addr>,
}

impl AddressSet {
    /// Those that come are in before those that go are out, unless there is no room for both. Answers how many found none.
    fn replace(&mut self, wanted: &BTreeSet<Addr>) -> Result<usize, FastPathError> {
        let kept: BTreeSet<Addr> = wanted.iter().take(self.room).copied().collect();
        let fresh: Vec<Addr> = kept.difference(&self.members).copied().collect();
        let gone: Vec<Addr> = self.members.difference(&kept).copied().collect();
        if self.members.len() + fresh.len() > self.room {
            self.remove(&gone)?;
            self.add(&fresh)?;
        } else {
            self.add(&fresh)?;
            self.remove(&gone)?;
        }
        Ok(wanted.len().saturating_sub(self.room))
    }

    fn add(&mut self, addresses: &[Addr]) -> Result<(), FastPathError> {
        for addr in addresses {
            self.map().set(&addr.0, &1u32.to_ne_bytes()).map_err(failed(self.name, "add an address"))?;
            self.members.insert(*addr);
        }
        Ok(())
    }

    fn remove(&mut self, addresses: &[Addr]) -> Result<(), FastPathError> {
        for addr in addresses {
            self.map().delete(&addr.0).map_err(failed(self.name, "remove an address"))?;
            self.members.remove(addr);
        }
        Ok(())
    }

    fn map(&self) -> HashMap<'_, 16, 4> {
        // SAFETY: the map's key is an address and its value four bytes.
        unsafe { HashMap::new(self.map.as_fd()) }
    }
}

/// Takes entries of other epochs out: of those that nobody names any more.
///
/// For a thread of its own. The kernel passes over the empty places of a map within one call: a map with room for a million flows and
/// few in it keeps the caller for some 10 ms, a full one for a second.
#[derive(Debug)]
pub struct Sweeper {
    flows: OwnedFd,
    node: Arc<MappedNode>,
}

impl Sweeper {
    /// Walks the whole map. Answers how many entries it took out. One that comes meanwhile is of the epoch in force; one that
    /// changes under the sweeper's hands may be missing for a moment.
    pub fn run(&self) -> Result<u64, FastPathError> {
        let (mut keys, mut values) = (vec![[0; KEY_LEN]; MAX_BATCH], vec![[0; ENTRY_LEN]; MAX_BATCH]);
        let (mut cursor, mut taken) = (None, 0);
        loop {
            let read = flows(&self.flows).read_on(cursor, &mut keys, &mut values);
            let (count, next) = read.map_err(failed(FLOWS, "read entries"))?;
            for (key, value) in keys.iter().zip(&values).take(count) {
                if self.is_stale(value) {
                    taken += u64::from(self.take_stale(key)?);
                }
            }
            if next.is_none() {
                return Ok(taken);
            }
            cursor = next;
        }
    }

    fn is_stale(&self, value: &[u8; ENTRY_LEN]) -> bool {
        Entry::from_bytes(value).epoch != self.node.epoch()
    }

    /// Takes the entry out, unless it has been renewed meanwhile.
    fn take_stale(&self, key: &[u8; KEY_LEN]) -> Result<bool, FastPathError> {
        let Some(value) = flows(&self.flows).take(key).map_err(failed(FLOWS, "take an entry out"))? else {
            return Ok(false);
        };
        if self.is_stale(&value) {
            return Ok(true);
        }
        flows(&self.flows).set_new(key, &value).map_err(failed(FLOWS, "put an entry back"))?;
        Ok(false)
    }
}

/// The map of entries, to be called.
fn flows(fd: &OwnedFd) -> HashMap<'_, KEY_LEN, ENTRY_LEN> {
    // SAFETY: `FlowMaps::new` was promised that it has this layout.
    unsafe { HashMap::new(fd.as_fd()) }
}

/// Full, or no memory for another entry: for the caller that is the same.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM))
}

fn failed(map: &'static str, attempt: &'static str) -> impl Fn(io::Error) -> FastPathError {
    move |source| FastPathError::Map { map, attempt, source }
}
