//! From the engine's offload orders to the fast path's maps, and back: what the
//! copies have been used for.

use std::collections::BTreeMap;

use holdfast_base::Instant;
use holdfast_engine::{FlowKey, OffloadEntry, OffloadOrder, OffloadUse, PortId};
use holdfast_fastpath::layout::{Entry, Key, Way, advanced};
use holdfast_fastpath::{FastPathError, FlowMaps, MAX_BATCH, Sweeper};
use holdfast_wire::{Addr, Ready, ethertype};

/// The data thread's hold on the fast path.
///
/// Copies to put in are gathered, and go in by batches with [`Feed::flush`]; what takes
/// copies out, or makes them stale, is done at once. An error of the kernel is no reason to stop:
/// the caller begins a new epoch and goes on, or without a fast path.
pub struct Feed {
    maps: FlowMaps,
    interfaces: BTreeMap<PortId, u32>,
    /// CLOCK_BOOTTIME at the engine's [`Instant::ZERO`], nanoseconds.
    origin: u64,
    epoch: u32,
    waiting: Vec<(Key, Entry)>,
    /// Somebody must sweep.
    sweep: bool,
    refused: u64,
}

impl Feed {
    /// Feeds `maps`; `origin` is CLOCK_BOOTTIME at the engine's [`Instant::ZERO`], in nanoseconds.
    pub fn new(maps: FlowMaps, origin: u64) -> Feed {
        Feed {
            maps,
            interfaces: BTreeMap::new(),
            origin,
            epoch: 0,
            waiting: Vec::with_capacity(MAX_BATCH),
            sweep: false,
            refused: 0,
        }
    }

    /// The maps, for what is not an order: the lease, the node's addresses, counters.
    pub fn maps(&mut self) -> &mut FlowMaps {
        &mut self.maps
    }

    /// Number of the interface that a port is now; `None`: it is closed. Answers what it was.
    pub fn set_interface(&mut self, port: PortId, interface: Option<u32>) -> Option<u32> {
        match interface {
            Some(number) => self.interfaces.insert(port, number),
            None => self.interfaces.remove(&port),
        }
    }

    /// Nothing is forwarded from `until` on; `None`: this node has nobody to fear.
    pub fn set_lease(&self, until: Option<Instant>) {
        let until =
            until.map_or(holdfast_fastpath::layout::NEVER, |until| until.as_nanos().saturating_add(self.origin));
        self.maps.set_lease(until);
    }

    /// When a client's packet was last forwarded, to a millisecond; `None`: never.
    pub fn client_seen(&self) -> Option<Instant> {
        let at = self.maps.client_seen();
        (at != 0).then(|| Instant::from_nanos(at.saturating_sub(self.origin)))
    }

    /// Carries an order out, or gathers it; appends the last use of copies that were taken out.
    pub fn order(&mut self, order: OffloadOrder, uses: &mut Vec<OffloadUse>) -> Result<(), FastPathError> {
        match order {
            OffloadOrder::Epoch(epoch) => {
                self.epoch = epoch;
                self.maps.set_epoch(epoch);
            }
            OffloadOrder::Install(copy) => self.gather(&copy, uses)?,
            OffloadOrder::Remove(key) => {
                let name = key_of(&key);
                self.waiting.retain(|(waiting, _)| *waiting != name);
                if let Some(entry) = self.maps.remove(&name)? {
                    uses.push(OffloadUse { last: true, ..self.use_of(key, &entry) });
                }
            }
            OffloadOrder::Sweep => self.sweep = true,
        }
        Ok(())
    }

    /// Puts the gathered copies in. Call it when the orders are drained, and the frames of the turn have left: a packet that
    /// waits there must not be overtaken.
    pub fn flush(&mut self) -> Result<(), FastPathError> {
        let refused = self.maps.install(&self.waiting);
        self.waiting.clear();
        self.refused += refused? as u64;
        Ok(())
    }

    /// What was ordered to be swept: for a thread that may wait.
    pub fn poll_sweep(&mut self) -> Result<Option<Sweeper>, FastPathError> {
        std::mem::take(&mut self.sweep).then(|| self.maps.sweeper()).transpose()
    }

    /// What the copy with this key has been used for: ask it before a packet with
    /// this key is handed to the engine, which judges resets and FINs by it.
    pub fn report_one(&mut self, key: &FlowKey) -> Result<Option<OffloadUse>, FastPathError> {
        let entry = self.maps.read(&key_of(key))?;
        Ok(entry.map(|entry| self.use_of(*key, &entry)))
    }

    /// Copies that found no room, or no interface for their port: their flows stay on the slow path.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn gather(&mut self, copy: &OffloadEntry, uses: &mut Vec<OffloadUse>) -> Result<(), FastPathError> {
        let Some(&interface) = self.interfaces.get(&copy.port) else {
            self.refused += 1;
            return Ok(());
        };
        let key = key_of(&copy.key);
        let mut entry = entry_of(copy, interface);
        if copy.replaces
            && let Some(old) = self.maps.read(&key)?
        {
            // Its counters go on; packets that pass between here and the flush are lost to them. What it knows of the connection is
            // newer than what the engine has heard: the engine's numbers count only if they are those of packets since then.
            (entry.packets, entry.bytes, entry.used) = (old.packets, old.bytes, old.used);
            (entry.end, entry.ack) = (advanced(old.end, entry.end), advanced(old.ack, entry.ack));
            uses.push(self.use_of(copy.key, &old));
        }
        self.waiting.push((key, entry));
        Ok(())
    }

    fn use_of(&self, key: FlowKey, entry: &Entry) -> OffloadUse {
        let used = Instant::from_nanos(entry.used.saturating_sub(self.origin));
        OffloadUse {
            key,
            packets: entry.packets,
            bytes: entry.bytes,
            used: (entry.used != 0).then_some(used),
            end: entry.end,
            ack: entry.ack,
            last: false,
        }
    }
}

fn key_of(key: &FlowKey) -> Key {
    Key::new(key.proto, key.l2.0, key.src, key.dst)
}

/// The map's form of a copy.
fn entry_of(copy: &OffloadEntry, interface: u32) -> Entry {
    let ready = Ready::new((copy.key.src, copy.key.dst), (copy.src, copy.dst));
    let way = Way { interface, mtu: copy.mtu, to: copy.to, from: copy.from };
    let mut entry = Entry::new(copy.epoch, &ready, &way, kind_of(copy.dst.addr));
    entry.from = if copy.from_client { Entry::CLIENTS } else { 0 };
    (entry.end, entry.ack) = (copy.end, copy.ack);
    entry
}

fn kind_of(addr: Addr) -> u16 {
    if addr.is_v4() { ethertype::IPV4 } else { ethertype::IPV6 }
}
