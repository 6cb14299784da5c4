//! Copies of rewrites in the fast path: which flows have some, what the fast
//! path is to be told, and what it tells back.
//!
//! An *offload* is a copy of one direction's rewrite. A flow gets one for each
//! direction when both ends believe in it, nothing of it is on hold and both
//! next hops are known; it loses them when it begins to close, or ends. What is
//! true of many flows at once (plan, ports, neighbours) is an *epoch*: when it
//! changes, every copy made before is stale, and packets come here again. A copy
//! may be lost at any time: that is slower, and nothing else.
//!
//! The engine does not know what the fast path is. It writes orders, and hears
//! of the use of copies now and then, and before each FIN or reset of a flow
//! with copies.

use std::collections::VecDeque;

use holdfast_base::{Duration, Instant};
use holdfast_wire::{Endpoint, MacAddr, Plain, plain};

use crate::engine::{Engine, Gate};
use crate::flow::tcp::TcpState;
use crate::flow::tcp_seen::note_offloaded;
use crate::flow::{Flow, FlowState, NONE, Side};
use crate::frame::PortId;
use crate::record::{FlowKey, L2Disc};

/// Orders that wait to be polled; beyond it a new epoch stands for all of them.
const MAX_ORDERS: usize = 65_536;

/// Pause between two epochs that neighbours begin, and how much longer it is for each flow with copies: a neighbour that says every
/// moment that it is elsewhere must not bring every packet of every flow here. To make the copies of a flow anew takes some 10 µs.
const NETWORK_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_FOR_EACH: Duration = Duration::from_micros(20);

/// A flow with copies that seems idle gets so much more time: they are taken out, and what they report then is the truth.
pub(crate) const REPORT_GRACE: Duration = Duration::from_secs(2);

/// All copies are named by [`Engine::next_copies`] so often at most, and with this pause between two calls that name some: 256 look-ups
/// in the kernel take some 0.2 ms.
const ROUND: Duration = Duration::from_secs(1);
const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// Slots that [`Engine::next_copies`] looks at by one call, and flows whose copies it names, at most.
const SLOTS_AT_ONCE: u32 = 4096;
const FLOWS_AT_ONCE: usize = 128;

/// A copy of one direction's rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadEntry {
    /// How packets name it.
    pub key: FlowKey,
    /// It is for packets of the client.
    pub from_client: bool,
    /// The source that they leave with.
    pub src: Endpoint,
    /// The destination that they leave with.
    pub dst: Endpoint,
    /// Where they leave.
    pub port: PortId,
    /// The largest IP packet that fits there.
    pub mtu: u16,
    /// Ethernet address of the next hop.
    pub to: MacAddr,
    /// Ethernet address that they leave under.
    pub from: MacAddr,
    /// It is valid in this epoch only.
    pub epoch: u32,
    /// TCP: after the last byte that passed; 0: not known.
    pub end: u32,
    /// TCP: how far the sender has acknowledged; 0: not known.
    pub ack: u32,
    /// There may be a copy of an earlier epoch, whose counters go on in this one.
    pub replaces: bool,
}

/// What the fast path is to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadOrder {
    /// Copies of other epochs are stale from now on.
    Epoch(u32),
    /// Put this copy in.
    Install(OffloadEntry),
    /// Take the copy with this key out, and report its use a last time.
    Remove(FlowKey),
    /// Orders were thrown away: take out what is of other epochs, sooner or later. Nobody else would.
    Sweep,
}

/// What a copy has been used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadUse {
    /// Whose it is.
    pub key: FlowKey,
    /// Packets since it was put in.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// When the last one passed; `None`: none yet.
    pub used: Option<Instant>,
    /// TCP: after the last byte that passed; 0: not known.
    pub end: u32,
    /// TCP: how far the sender has acknowledged; 0: not known.
    pub ack: u32,
    /// It was taken out: this is the last report of it.
    pub last: bool,
}

/// What is known of the copies of the flow in a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    /// Generation of the flow that they are of; 0: none.
    flow: u32,
    /// Their epoch.
    epoch: u32,
    /// They were not withdrawn since they were put in.
    live: bool,
    /// Packets of the flow that came here while it could have had some.
    passed: u8,
    /// Packets (modulo 2^32) and bytes reported so far, by side.
    packets: [u32; 2],
    bytes: [u64; 2],
}

/// Which flows have copies, and what the fast path has still to be told.
#[derive(Debug, Default)]
pub(crate) struct Offloads {
    on: bool,
    epoch: u32,
    /// The epoch that the fast path was told of last.
    told: u32,
    /// Generation of the network tables that the epoch was begun with, and when it was.
    network: u32,
    network_at: Instant,
    orders: VecDeque<OffloadOrder>,
    /// The fast path must be told that orders were thrown away.
    sweep: bool,
    /// Where [`Engine::next_copies`] goes on; flows with copies that its round has met, and that the last one met.
    next: u32,
    met: u32,
    live: u32,
    /// When it has something to say, and when its round began.
    due: Instant,
    round_began: Instant,
    /// By slot of the flow, all at once; empty while off. Of a flow that is gone nothing is left that counts: the next one in its slot has
    /// another generation.
    copies: Vec<Copies>,
}

impl Offloads {
    /// The copies of the flow of this generation in `slot`, if it has any.
    fn of(&mut self, slot: u32, flow: u32) -> Option<&mut Copies> {
        self.copies.get_mut(slot as usize).filter(|copies| copies.flow == flow && flow != 0)
    }

    /// What is known of the copies of the flow of this generation in `slot`: nothing, if they were of another one.
    fn known(&mut self, slot: u32, flow: u32) -> &mut Copies {
        let copies = &mut self.copies[slot as usize];
        if copies.flow != flow {
            *copies = Copies { flow, ..Copies::default() };
        }
        copies
    }

    /// From here on every copy is stale. The fast path hears of it before
    /// anything else that waits.
    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// A new epoch stands for all orders that wait.
    fn throw_away(&mut self) {
        self.orders.clear();
        self.sweep = true;
        self.begin_epoch();
    }

    /// Appends an order that must not be lost.
    fn push(&mut self, order: OffloadOrder) {
        if self.orders.len() >= MAX_ORDERS {
            self.throw_away();
        }
        self.orders.push_back(order);
    }
}

impl Engine {
    /// Whether there is a fast path. Off at first; without one nothing is noted, and nothing changes.
    pub fn set_offload(&mut self, on: bool) {
        if self.offloads.on == on {
            return;
        }
        let slots = if on { self.limits.max_flows as usize } else { 0 };
        let Offloads { epoch, told, network_at, .. } = self.offloads;
        self.offloads = Offloads { on, epoch, told, network_at, ..Offloads::default() };
        self.offloads.copies = vec![Copies::default(); slots];
        self.offloads.network = self.network.generation();
        self.offloads.begin_epoch();
    }

    /// Flows with copies, as the last round of [`Engine::next_copies`] has met them.
    pub fn offloaded_flows(&self) -> u32 {
        self.offloads.live
    }

    /// The next thing that the fast path must be told. What makes copies stale or takes them out
    /// is to be done before the frames of the turn leave: what answers a FIN must come here. New ones
    /// are put in after them: a packet that waits here must not be overtaken.
    pub fn poll_offload(&mut self, now: Instant) -> Option<OffloadOrder> {
        self.follow_network(now);
        let Offloads { epoch, told, .. } = self.offloads;
        if epoch != told {
            self.offloads.told = epoch;
            return Some(OffloadOrder::Epoch(epoch));
        }
        if std::mem::take(&mut self.offloads.sweep) {
            return Some(OffloadOrder::Sweep);
        }
        self.offloads.orders.pop_front()
    }

    /// When [`Engine::next_copies`] names some.
    pub fn copies_due(&self) -> Instant {
        self.offloads.due
    }

    /// If it is time, appends the keys of some more copies that may be in use, to be asked for their use (see [`Engine::handle_use`]):
    /// all of them in a round, and then from the beginning. A call looks at a bounded part of the table, however few copies there are.
    pub fn next_copies(&mut self, now: Instant, keys: &mut Vec<FlowKey>) {
        if now < self.offloads.due {
            return;
        }
        let end = (self.flows.slots()).min(self.offloads.copies.len() as u32);
        let last = self.offloads.next.saturating_add(SLOTS_AT_ONCE).min(end);
        let mut named = 0;
        while self.offloads.next < last && named < FLOWS_AT_ONCE {
            let slot = self.offloads.next;
            self.offloads.next += 1;
            if self.is_offloaded(slot) {
                named += 1;
                keys.extend([Side::Client, Side::Server].map(|side| self.flows.at(slot).key(side)));
            }
        }
        self.offloads.met += named as u32;
        self.offloads.due = now + BATCH_PAUSE;
        if self.offloads.next >= end {
            self.offloads.live = std::mem::take(&mut self.offloads.met);
            self.offloads.next = 0;
            self.offloads.due = self.offloads.due.max(self.offloads.round_began + ROUND);
            self.offloads.round_began = self.offloads.due;
        }
    }

    /// A copy has been used: its flow lives, and so do its client's session and
    /// its next hop; its packets count. Reports of one copy come in the order in
    /// which they were made. One of a flow that is gone says nothing.
    pub fn handle_use(&mut self, now: Instant, report: &OffloadUse) {
        let Some((slot, side)) = self.flows.find(&report.key) else { return };
        let generation = self.flows.at(slot).generation;
        let Some(copies) = self.offloads.of(slot, generation) else { return };
        let (packets_told, bytes_told) = (&mut copies.packets[side as usize], &mut copies.bytes[side as usize]);
        // Fewer than before: the copy was lost, and another one began at zero.
        let (bytes, packets) = match report.bytes.checked_sub(*bytes_told) {
            Some(bytes) => (bytes, (report.packets as u32).wrapping_sub(*packets_told).into()),
            None => (report.bytes, report.packets),
        };
        (*packets_told, *bytes_told) = if report.last { (0, 0) } else { (report.packets as u32, report.bytes) };
        let Some(used) = report.used else { return };
        let flow = self.flows.at_mut(slot);
        flow.last_seen = flow.last_seen.max(used.min(now));
        if let FlowState::Tcp(_) = flow.state {
            note_offloaded(flow, side, report.end, report.ack);
        }
        if packets > 0 {
            self.count_offloaded(slot, self.flows.at(slot).asker(side), packets, bytes);
            self.prepare(now, slot, side);
        }
    }

    fn count_offloaded(&mut self, slot: u32, side: Side, packets: u64, bytes: u64) {
        let (vserver, service) = (self.flows.at(slot).vserver, self.flows.at(slot).service);
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            counters.traffic.add_all(side, packets, bytes);
        }
        if let Some(counters) = self.roster.service_counters(service) {
            counters.traffic.add_all(side, packets, bytes);
        }
    }

    /// A packet of the flow in `slot` was forwarded: the next ones need not come
    /// here, if both directions have a way and nothing is left to be decided.
    pub(crate) fn offer_to_fast_path(&mut self, now: Instant, slot: u32) {
        if !self.offloads.on || self.gate != Gate::Open {
            return;
        }
        self.follow_network(now);
        let (generation, epoch) = (self.flows.at(slot).generation, self.offloads.epoch);
        let live = self.offloads.of(slot, generation).filter(|copies| copies.live).map(|copies| copies.epoch);
        if live == Some(epoch) || !self.may_offload(slot) || self.offloads.orders.len() + 2 > MAX_ORDERS {
            return;
        }
        if live.is_none() && !self.lasts(slot, generation) {
            return;
        }
        let (Some(client), Some(server)) =
            (self.copy_for(now, slot, Side::Client), self.copy_for(now, slot, Side::Server))
        else {
            return;
        };
        let known = self.offloads.known(slot, generation);
        (known.epoch, known.live) = (epoch, true);
        for copy in [client, server] {
            let replaces = live.is_some();
            self.offloads.push(OffloadOrder::Install(OffloadEntry { epoch, replaces, ..copy }));
        }
    }

    /// Counts a packet of a flow that could have copies; whether it has had enough of them to get some.
    fn lasts(&mut self, slot: u32, flow: u32) -> bool {
        if self.limits.offload_after == 0 {
            return true;
        }
        let copies = self.offloads.known(slot, flow);
        copies.passed = copies.passed.saturating_add(1);
        copies.passed > self.limits.offload_after
    }

    /// Both ends believe in the flow and nothing of it waits.
    fn may_offload(&self, slot: u32) -> bool {
        let flow = self.flows.at(slot);
        if flow.has(Flow::CONTROL) || self.ends_with_answer(slot) {
            return false;
        }
        let plain = match flow.state {
            FlowState::Tcp(TcpState::Established) | FlowState::Datagram => true,
            FlowState::Tcp(
                TcpState::SynSeen
                | TcpState::Opening
                | TcpState::ClientFin
                | TcpState::ServerFin
                | TcpState::Closing
                | TcpState::Closed
                | TcpState::Reset
                | TcpState::Mirrored,
            )
            | FlowState::Free => false,
        };
        plain && flow.hold == NONE
    }

    /// A copy of the rewrite of packets of `side`; `None`: their next hop is not known.
    fn copy_for(&mut self, now: Instant, slot: u32, side: Side) -> Option<OffloadEntry> {
        let (port, to) = self.ready_way(now, slot, side)?;
        let flow = self.flows.at(slot);
        let (src, dst) = flow.rewritten(side);
        Some(OffloadEntry {
            key: flow.key(side),
            from_client: flow.asker(side) == Side::Client,
            src,
            dst,
            port: port.id,
            mtu: port.mtu,
            to,
            from: port.mac,
            epoch: 0,
            end: flow.stream(side).end(),
            ack: flow.stream(side.other()).acked(),
            replaces: false,
        })
    }

    /// The flow in `slot` begins to close, or ends: its packets come here again.
    pub(crate) fn withdraw_offload(&mut self, slot: u32) {
        let flow = self.flows.at(slot);
        let keys = [flow.key(Side::Client), flow.key(Side::Server)];
        let generation = flow.generation;
        let Some(copies) = self.offloads.of(slot, generation).filter(|copies| copies.live) else { return };
        copies.live = false;
        for key in keys {
            self.offloads.push(OffloadOrder::Remove(key));
        }
    }

    /// Both copies of a flow that this frame may end: what has passed elsewhere must be told before the frame is handed in
    /// (see [`Engine::handle_use`]), since a FIN or reset is believed only if its numbers fit, and those are compared with what
    /// the other end has acknowledged.
    pub fn copies_to_ask(&self, frame: &[u8]) -> Option<[FlowKey; 2]> {
        if !self.offloads.on {
            return None;
        }
        let mut packet = Plain::default();
        plain(frame, &mut packet).ok()?;
        if !(packet.flags.fin() || packet.flags.rst()) {
            return None;
        }
        let key = FlowKey { proto: packet.proto, l2: L2Disc(0), src: packet.source(), dst: packet.destination() };
        let (slot, _) = self.flows.find(&key)?;
        let flow = self.flows.at(slot);
        self.is_offloaded(slot).then(|| [flow.key(Side::Client), flow.key(Side::Server)])
    }

    /// Whether packets of the flow in `slot` may pass elsewhere; `false` for a slot that is not in use.
    pub(crate) fn is_offloaded(&self, slot: u32) -> bool {
        let Some(flow) = self.flows.live_at(slot) else { return false };
        let copies = self.offloads.copies.get(slot as usize);
        copies.is_some_and(|copies| copies.live && copies.flow == flow.generation)
    }

    /// Every flow is gone.
    pub(crate) fn forget_offloads(&mut self) {
        if self.offloads.on {
            self.offloads.throw_away();
        }
    }

    /// No copy is right any more: plan or ports are others, the node speaks under other Ethernet
    /// addresses, or its gate has moved.
    pub(crate) fn renew_offloads(&mut self) {
        if self.offloads.on {
            self.offloads.network = self.network.generation();
            self.offloads.begin_epoch();
        }
    }

    /// Neighbours have changed: no copy is right any more.
    fn follow_network(&mut self, now: Instant) {
        if self.offload_due().is_some_and(|due| now >= due) {
            self.offloads.network = self.network.generation();
            self.offloads.network_at = now;
            self.offloads.begin_epoch();
        }
    }

    /// When the fast path must be told that copies are not right any more, if that waits.
    pub(crate) fn offload_due(&self) -> Option<Instant> {
        let changed = self.offloads.on && self.offloads.network != self.network.generation();
        changed.then(|| self.offloads.network_at + NETWORK_PAUSE + PAUSE_FOR_EACH * self.offloads.live)
    }
}
