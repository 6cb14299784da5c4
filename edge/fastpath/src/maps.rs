//! The data thread's half: entries, the lease, the counters.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{MapData, PerCpuArray};
use holdfast_fastpath_layout::{
    COUNTS, ENTRY_LEN, Entry, FLOATING, FLOWS, HOST, KEY_LEN, Key, MAX_FLOATING, MAX_HOST, NODE, Reason, TAPS,
};
use holdfast_wire::{Addr, MacAddr};

use crate::bpf::HashMap;
use crate::error::FastPathError;
use crate::node::MappedNode;

/// Entries put in or read by one call at most: about 0.1 ms.
pub const MAX_BATCH: usize = 256;

/// A place in the map of entries, for [`FlowMaps::read_on`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Option<u32>);

/// The maps that the program reads.
pub struct FlowMaps {
    flows: OwnedFd,
    floating: AddressSet,
    host: AddressSet,
    taps: OwnedFd,
    /// What is in [`TAPS`].
    sorted: BTreeMap<u32, u32>,
    counts: PerCpuArray<MapData, u64>,
    node: MappedNode,
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
            node,
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

    /// When the lease ends.
    pub fn lease(&self) -> u64 {
        self.node.lease()
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

    /// Puts entries in, or replaces them, in order. Answers how many are in: the
    /// map may be full, and flows without an entry are only slower.
    pub fn install(&mut self, entries: &[(Key, Entry)]) -> Result<usize, FastPathError> {
        let mut done = 0;
        for batch in entries.chunks(MAX_BATCH) {
            self.keys.clear();
            self.values.clear();
            self.keys.extend(batch.iter().map(|(key, _)| key.to_bytes()));
            self.values.extend(batch.iter().map(|(_, entry)| entry.to_bytes()));
            let (count, result) = flows(&self.flows).set_all(&self.keys, &self.values);
            done += count;
            match result {
                Ok(()) => {}
                Err(error) if is_full(&error) => return Ok(done),
                Err(source) => return Err(failed(FLOWS, "put entries in")(source)),
            }
        }
        Ok(done)
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

    /// Reads up to [`MAX_BATCH`] entries behind `cursor` and appends them. `true`:
    /// the whole map has been read, and the next call begins again. Entries that
    /// come or go meanwhile may be missed, or come twice.
    pub fn read_on(&mut self, cursor: &mut Cursor, out: &mut Vec<(Key, Entry)>) -> Result<bool, FastPathError> {
        self.keys.resize(MAX_BATCH, [0; KEY_LEN]);
        self.values.resize(MAX_BATCH, [0; ENTRY_LEN]);
        let (count, next) = flows(&self.flows)
            .read_on(cursor.0, &mut self.keys, &mut self.values)
            .map_err(failed(FLOWS, "read entries"))?;
        let read = self.keys.iter().zip(&self.values).take(count);
        out.extend(read.map(|(key, value)| (Key::from_bytes(key), Entry::from_bytes(value))));
        *cursor = Cursor(next);
        Ok(next.is_none())
    }

    /// Packets that were not forwarded, for each of [`Reason::ALL`], over all processors.
    pub fn counts(&self) -> Result<Vec<u64>, FastPathError> {
        let of = |reason: &Reason| {
            let values = self
                .counts
                .get(&(*reason as u32), 0)
                .map_err(|error| failed(COUNTS, "read a counter")(io::Error::other(error)))?;
            Ok(values.iter().sum())
        };
        Reason::ALL.iter().map(of).collect()
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
    /// Those that come are in before those that go are out. Answers how many found no room.
    fn replace(&mut self, wanted: &BTreeSet<Addr>) -> Result<usize, FastPathError> {
        // SAFETY: the map's key is an address and its value four bytes.
        let map = unsafe { HashMap::<16, 4>::new(self.map.as_fd()) };
        for addr in wanted.iter().take(self.room).filter(|addr| !self.members.contains(addr)) {
            map.set(&addr.0, &1u32.to_ne_bytes()).map_err(failed(self.name, "add an address"))?;
        }
        for addr in self.members.iter().filter(|addr| !wanted.contains(addr)) {
            map.delete(&addr.0).map_err(failed(self.name, "remove an address"))?;
        }
        self.members = wanted.iter().take(self.room).copied().collect();
        Ok(wanted.len().saturating_sub(self.room))
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
