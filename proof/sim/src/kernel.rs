//! The fast path of a machine: what its kernel forwards without the process.
//!
//! The program's parser, judgement and rewrite are those that the eBPF program is made of; its maps are plain ones here. The orders are
//! the engine's own, all carried out at the end of each turn. It has no Ethernet addresses of its own and no super-packets. A frozen
//! process's kernel goes on until its lease is over.

use std::collections::BTreeMap;

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::{FlowKey, Gate, L2Disc, OffloadEntry, OffloadOrder, OffloadUse, PortId};
use holdfast_fastpath_layout::{Entry, Way, advanced, objection};
use holdfast_node::Node;
use holdfast_wire::{Checksum, Plain, Ready, ethertype, plain, set_macs};

/// A node whose gate is closed is handed what comes in for so long after each turn.
const ALIVE: Duration = Duration::from_secs(2);

/// What becomes of a frame.
pub enum Fate {
    /// It is for the process.
    Up,
    /// It leaves so, by this port.
    Forward(PortId, Vec<u8>),
    /// It is thrown away: the lease is over.
    Drop,
}

/// A copy of a rewrite.
struct Copy {
    order: OffloadEntry,
    entry: Entry,
    used: Option<Instant>,
}

/// The program's maps.
pub struct Kernel {
    copies: BTreeMap<FlowKey, Copy>,
    epoch: u32,
    /// Nothing is forwarded from then on; `None`: it never ends.
    lease: Option<Instant>,
    client_seen: Option<Instant>,
}

impl Kernel {
    /// No copies, and no lease.
    pub(crate) fn new() -> Kernel {
        Kernel { copies: BTreeMap::new(), epoch: 0, lease: Some(Instant::ZERO), client_seen: None }
    }

    /// A frame comes in.
    pub fn take(&mut self, now: Instant, frame: &[u8]) -> Fate {
        let mut packet = Plain::default();
        if plain(frame, &mut packet).is_err() {
            return Fate::Up;
        }
        let key = FlowKey { proto: packet.proto, l2: L2Disc(0), src: packet.source(), dst: packet.destination() };
        let Some(copy) = self.copies.get_mut(&key) else { return Fate::Up };
        if self.lease.is_some_and(|end| now >= end) {
            return Fate::Drop;
        }
        if objection(&packet, &copy.entry, self.epoch, 0).is_some() {
            return Fate::Up;
        }
        let mut bytes = frame.to_vec();
        let ready = copy.entry.ready();
        ready.write(&mut bytes[..], &packet);
        ready.mend_transport(&mut bytes[..], &packet, Checksum::Complete);
        set_macs(&mut bytes, copy.order.to, copy.order.from);
        copy.entry.packets += 1;
        copy.entry.bytes += u64::from(packet.total_len);
        copy.used = Some(now);
        copy.entry.end = advanced(copy.entry.end, packet.seq.wrapping_add(packet.payload_len()));
        copy.entry.ack = advanced(copy.entry.ack, packet.ack);
        if copy.order.from_client {
            self.client_seen = Some(now);
        }
        Fate::Forward(copy.order.port, bytes)
    }

    /// Before a frame is handed in: what the node must know of the flow that it may end.
    pub fn tell_of_copies(&self, now: Instant, node: &mut Node, frame: &[u8]) {
        for key in node.copies_to_ask(frame).into_iter().flatten() {
            if let Some(copy) = self.copies.get(&key) {
                node.handle_use(now, &copy.report(key, false));
            }
        }
    }

    /// The end of a turn.
    pub fn settle(&mut self, now: Instant, node: &mut Node) {
        let mut uses = Vec::new();
        while let Some(order) = node.poll_offload(now) {
            match order {
                OffloadOrder::Epoch(epoch) => self.epoch = epoch,
                OffloadOrder::Install(order) => uses.extend(self.install(order)),
                OffloadOrder::Remove(key) => uses.extend(self.copies.remove(&key).map(|copy| copy.report(key, true))),
                OffloadOrder::Sweep => self.sweep(&mut uses),
            }
        }
        let mut asked = Vec::new();
        node.next_copies(now, &mut asked);
        uses.extend(asked.iter().filter_map(|key| Some(self.copies.get(key)?.report(*key, false))));
        for report in uses {
            node.handle_use(now, &report);
        }
        if let Some(seen) = self.client_seen.take() {
            node.handle_client_seen(seen);
        }
        self.lease = match node.gate() {
            Gate::Closed => Some(now + ALIVE),
            Gate::Open | Gate::Draining => node.lease_expiry(),
        };
    }

    fn sweep(&mut self, uses: &mut Vec<OffloadUse>) {
        let epoch = self.epoch;
        let stale = self.copies.extract_if(.., |_, copy| copy.order.epoch != epoch);
        uses.extend(stale.map(|(key, copy)| copy.report(key, true)));
    }

    /// Puts a copy in; what the one in its place has seen is told, and goes on in it, as in the daemon's feed.
    fn install(&mut self, order: OffloadEntry) -> Option<OffloadUse> {
        let ready = Ready::new((order.key.src, order.key.dst), (order.src, order.dst));
        let way = Way { interface: order.port.0.into(), mtu: order.mtu, to: order.to, from: order.from };
        let kind = if order.dst.addr.is_v4() { ethertype::IPV4 } else { ethertype::IPV6 };
        let mut entry = Entry::new(order.epoch, &ready, &way, kind);
        (entry.end, entry.ack) = (order.end, order.ack);
        let former = self.copies.get(&order.key).filter(|_| order.replaces);
        let (used, report) = (former.and_then(|copy| copy.used), former.map(|copy| copy.report(order.key, false)));
        if let Some(Copy { entry: old, .. }) = former {
            (entry.packets, entry.bytes) = (old.packets, old.bytes);
            (entry.end, entry.ack) = (advanced(old.end, entry.end), advanced(old.ack, entry.ack));
        }
        self.copies.insert(order.key, Copy { order, entry, used });
        report
    }
}

impl Copy {
    fn report(&self, key: FlowKey, last: bool) -> OffloadUse {
        let Entry { packets, bytes, end, ack, .. } = self.entry;
        OffloadUse { key, packets, bytes, used: self.used, end, ack, last }
    }
}
