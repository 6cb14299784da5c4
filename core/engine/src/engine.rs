//! The engine's doors.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use holdfast_base::{Duration, Instant};
use holdfast_wire::{Addr, Arp, ArpOp, MacAddr, icmp_checksum_ok};

use crate::alg::control::Control;
use crate::alg::expect::Doorstep;
use crate::buckets::{BUCKETS_PER_PART, Buckets};
use crate::counters::{ConnectionRow, Counters, Counts, ServiceCounters, VserverCounters};
use crate::flow::hold::Holds;
use crate::flow::numbers::Numbers;
use crate::flow::table::FlowTable;
use crate::flow::{Flow, FlowState, NONE, Reading};
use crate::fragment::Fragments;
use crate::frame::{Frame, OwnedFrame, Port, PortId};
use crate::icmp::ErrorMaker;
use crate::limits::Limits;
use crate::mirror::Session;
use crate::network::{Network, NetworkCounters};
use crate::offload::{Offloads, REPORT_GRACE};
use crate::open::session_owner;
use crate::outbox::Outbox;
use crate::passage::checksum_of;
use crate::path::Arrival;
use crate::plan::{Method, Plan, ServiceId, VserverId};
use crate::record::{Applied, BulkStep, FlowClose, FlowKey, FlowRecord, FlowRef, Mark};
use crate::roster::Roster;
use crate::select::persistence::Sessions;
use crate::select::{StandIn, Turns, has_silent};
use crate::snat::Snat;
use crate::stray::Train;
use crate::surge::Surges;
use crate::verdict::{Drop, Verdict};

/// Flow timers served in one turn, and likewise sessions and holds; the rest is
/// due at once. Closing a flow costs a few microseconds, and a turn of the data
/// thread stays under a millisecond.
const MAX_TIMERS_PER_TURN: usize = 128;

/// Ended holds passed over in one turn while looking for those to release.
const MAX_HOLDS_LOOKED_AT: usize = 1024;

/// Neighbours listed by [`Engine::neighbours`].
const MAX_NEIGHBOURS_LISTED: usize = 1024;

/// Which half of every SNAT port range new leases come from. The two nodes of
/// a pair take different halves, so that they never lease the same port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Half {
    /// Ports 1024 to 33279.
    #[default]
    Lower,
    /// Ports 33280 to 65535.
    Upper,
}

/// Whether this node may forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Nothing: every frame is dropped, nothing is answered.
    #[default]
    Closed,
    /// Known flows only; no flow is opened, no address announced.
    Draining,
    /// Everything.
    Open,
}

/// Whether changes of flows are told to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirroring {
    /// No peer: no marks, no holds.
    #[default]
    Off,
    /// A peer listens in this session.
    On {
        /// Number of the mirror session, given by the node.
        session: u32,
        /// Hold the packet that makes an end believe until the peer has the record.
        strict: bool,
    },
}

/// A neighbour, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourRow {
    /// Its address.
    pub addr: Addr,
    /// Its Ethernet address, if known.
    pub mac: Option<MacAddr>,
    /// Where it was learned.
    pub port: Option<PortId>,
}

/// The flow engine of one node: a sans-IO machine.
///
/// `now` never goes backwards between calls. After each `handle_*` drain
/// [`Engine::poll_mark`], then [`Engine::poll_transmit`]; then arm one timer for
/// [`Engine::poll_timeout`].
pub struct Engine {
    pub(crate) limits: Limits,
    pub(crate) gate: Gate,
    pub(crate) mirroring: Mirroring,
    pub(crate) session: Session,
    /// Digests over the flows that were told.
    pub(crate) buckets: Buckets,
    pub(crate) roster: Roster,
    pub(crate) flows: FlowTable,
    pub(crate) holds: Holds,
    /// Where the search for a connection that gives way goes on.
    pub(crate) room_hunt: u32,
    /// Clients that wait since their service has many.
    pub(crate) surges: Surges,
    pub(crate) snat: Snat,
    pub(crate) turns: Turns,
    /// When it is noted next what services have carried.
    pub(crate) loads_at: Instant,
    pub(crate) sessions: Sessions,
    pub(crate) fragments: Fragments<Train>,
    pub(crate) network: Network,
    pub(crate) reading: Reading,
    pub(crate) errors: ErrorMaker,
    pub(crate) out: Outbox,
    /// What the peer must learn, in order.
    pub(crate) marks: VecDeque<Mark>,
    /// As receiver: the flow that each number of the session stands for.
    pub(crate) numbers: Numbers,
    /// What goes with flows' records beyond the fields of all, by slot: what is known of control connections and
    /// of data connections' parents, and what a peer of another version said. Only flows with [`Flow::TAIL`] have an entry.
    pub(crate) tails: BTreeMap<u32, Box<[u8]>>,
    /// What is known of control connections, by slot.
    pub(crate) controls: BTreeMap<u32, Control>,
    /// The control connections that announced these data connections.
    pub(crate) expectations: BTreeMap<Doorstep, FlowRef>,
    /// A mark was lost: the stream of this session is not complete.
    pub(crate) marks_overflowed: bool,
    /// A client's packet was forwarded since [`Engine::take_client_seen`].
    pub(crate) client_seen: bool,
    /// Copies of rewrites in the fast path.
    pub(crate) offloads: Offloads,
    pub(crate) counters: Counters,
    /// Flows that a successor should know.
    pub(crate) tracked: u32,
    /// Those of them that the peer has acknowledged in this session.
    pub(crate) protected: u32,
    pub(crate) last_stamp: u64,
    /// Every idle time counts from here at the earliest.
    pub(crate) rebased_at: Instant,
    /// Until then strays of STATEFUL vservers are ignored: this node was promoted.
    pub(crate) grace_until: Instant,
    /// Until then, too: the loser of a split has flows to offer, or may have ([`Engine::keep_silent`]).
    pub(crate) silent_until: Instant,
}

impl Engine {
    /// An engine without ports, plan and flows, its gate closed. All large
    /// tables are allocated here, once. `seed` keys the hash tables: take it
    /// from the operating system's randomness, or a constant in tests.
    pub fn new(now: Instant, limits: Limits, seed: u64) -> Engine {
        Engine {
            gate: Gate::Closed,
            mirroring: Mirroring::Off,
            session: Session::default(),
            buckets: Buckets::new(),
            roster: Roster::new(),
            flows: FlowTable::new(now, limits.max_flows, seed),
            room_hunt: 0,
            surges: Surges::default(),
            holds: Holds::new(usize::from(limits.hold_packets_per_flow), limits.held_bytes as usize),
            snat: Snat::new(limits.max_snat_pools as usize, (seed >> 32) as u16),
            turns: Turns::default(),
            loads_at: now,
            sessions: Sessions::new(now, limits.max_persistence, seed),
            fragments: Fragments::new(),
            network: Network::new(&limits),
            reading: Reading::default(),
            errors: ErrorMaker::new(limits.replies_per_second),
            out: Outbox::default(),
            marks: VecDeque::new(),
            numbers: Numbers::new(limits.max_flows),
            tails: BTreeMap::new(),
            controls: BTreeMap::new(),
            expectations: BTreeMap::new(),
            marks_overflowed: false,
            client_seen: false,
            offloads: Offloads::default(),
            counters: Counters::default(),
            tracked: 0,
            protected: 0,
            last_stamp: 0,
            rebased_at: now,
            grace_until: Instant::ZERO,
            silent_until: Instant::ZERO,
            limits,
        }
    }

    /// Which half of every SNAT range new leases come from. Leases made stay.
    pub fn set_half(&mut self, half: Half) {
        self.snat.set_half(half);
    }

    /// How long a hold may wait for the peer, from `now` on or from its beginning.
    pub fn set_hold_limit(&mut self, now: Instant, limit: Duration) {
        if limit < self.limits.hold_limit {
            self.holds.shorten(now + limit);
        }
        self.limits.hold_limit = limit;
    }

    /// Replaces the data ports.
    pub fn set_ports(&mut self, ports: &[Port]) {
        self.network.set_ports(ports);
        self.renew_offloads();
    }

    /// Replaces the floating Ethernet addresses: ports that answer for floating
    /// addresses, and announce and send, under another address than their own while
    /// the gate is open.
    pub fn set_floating_macs(&mut self, now: Instant, macs: &[(PortId, MacAddr)]) {
        let changed = self.network.set_floating_macs(macs);
        if changed {
            self.renew_offloads();
        }
        if changed && self.gate == Gate::Open {
            self.network.announce(now);
        }
    }

    /// Replaces the addresses that the host's own kernel has on data ports:
    /// frames to them end as [`Verdict::ForHost`].
    pub fn set_host_addresses(&mut self, addresses: Vec<Addr>) {
        self.network.set_host_addresses(addresses);
    }

    /// Puts a plan in force. Flows stay with their servers; addresses that are
    /// new are announced while the gate is open. Vservers and services must be
    /// sorted by id.
    pub fn set_plan(&mut self, now: Instant, plan: Arc<Plan>) {
        self.network.set_plan(&plan);
        self.renew_offloads();
        self.turns.follow(self.roster.plan(), &plan);
        self.roster.set_plan(plan);
        self.release_unmirrored(now);
        if self.gate == Gate::Open {
            self.network.announce_added(now);
        }
    }

    /// What the monitors say about a service. Stays across plans; a service
    /// never heard of is down.
    pub fn set_health(&mut self, _now: Instant, service: ServiceId, up: bool) {
        if self.roster.set_health(service, up) {
            self.turns.service_came_up(self.roster.plan(), service);
        }
    }

    /// How long a service takes to answer its monitors.
    pub fn set_response_time(&mut self, service: ServiceId, time: Duration) {
        self.roster.set_response_time(service, time);
    }

    /// Why another method chooses than the vserver's own, if one does; on a node that does not forward, if one would
    /// after a takeover.
    pub fn stand_in(&self, vserver: VserverId) -> Option<StandIn> {
        let found = self.roster.vserver(vserver)?;
        let silent = matches!(found.method, Method::LeastResponseTime(_)) && has_silent(found, &self.roster);
        let startup = self.turns.startup(vserver).filter(|_| self.gate != Gate::Closed);
        startup.or(silent.then_some(StandIn::MonitorsSilent))
    }

    /// Whether this node may forward. Closing the gate forgets neighbours,
    /// announcements and every frame not yet polled.
    pub fn set_gate(&mut self, _now: Instant, gate: Gate) {
        if self.gate == Gate::Closed {
            self.discard_output();
        }
        self.gate = gate;
        self.renew_offloads();
        self.network.set_quiet(gate == Gate::Closed);
        self.network.set_defends(gate == Gate::Open);
        if gate != Gate::Open {
            self.network.clear_announcements();
            // They ask again, whoever leads then.
            self.surges.clear();
        }
        if gate == Gate::Closed {
            self.discard_output();
        }
    }

    /// This node forwards from now on: every flow gets a full idle time-out
    /// from here (O(1)), the stray grace begins, all floating addresses are
    /// announced. Call it with the gate opened.
    pub fn promote(&mut self, now: Instant) {
        self.turns.end_startups();
        self.forgive_idleness(now);
        self.grace_until = now + self.limits.stray_grace;
        self.network.announce(now);
    }

    /// Every flow gets a full idle time-out from here: its packets may have gone by another node until now. O(1).
    pub fn forgive_idleness(&mut self, now: Instant) {
        self.rebased_at = now;
    }

    /// Announces all floating addresses (again), if the gate is open: when ports
    /// come up, and when another node may have announced them.
    pub fn announce(&mut self, now: Instant) {
        if self.gate == Gate::Open {
            self.network.announce(now);
        }
    }

    /// Whether, and in which session, changes of flows are told to a peer. With
    /// another session every flow becomes unprotected at once (O(1)); `Off` and
    /// `strict: false` release all holds, counted as unprotected.
    pub fn set_mirroring(&mut self, now: Instant, mirroring: Mirroring) {
        self.change_mirroring(now, mirroring);
    }

    /// A frame came in. On [`Verdict::Forward`] the caller sends its buffer,
    /// which was edited, with its offload unchanged. No allocation for packets
    /// of known flows whose next hop is known.
    pub fn handle_frame(&mut self, now: Instant, mut frame: Frame<'_>) -> Verdict {
        let len = frame.bytes.len() as u64;
        let verdict = self.walk(now, &mut frame);
        self.counters.count(verdict, len);
        verdict
    }

    /// Does what is due at `now`: holds over their limit, idle flows and
    /// sessions, neighbours, announcements. Bounded per call; what is left is
    /// due at once.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.release_overdue(now);
        for _ in 0..MAX_TIMERS_PER_TURN {
            let Some(slot) = self.flows.poll_timer(now) else { break };
            self.expire(now, slot);
        }
        for _ in 0..MAX_TIMERS_PER_TURN {
            let Some(slot) = self.sessions.poll_timer(now) else { break };
            self.expire_session(now, slot);
        }
        for _ in 0..self.fragments.handle_timeout(now) {
            self.counters.drop(Drop::Fragment);
        }
        self.note_loads(now);
        self.let_surges(now);
        self.network.handle_timeout(now, &mut self.out);
        while let Some(frame) = self.network.poll_unreachable() {
            self.give_up(now, frame);
        }
    }

    /// When to call [`Engine::handle_timeout`] next; possibly early, never late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [
            self.holds.poll_timeout(),
            self.flows.poll_timeout(),
            self.sessions.poll_timeout(),
            self.fragments.poll_timeout(),
            self.network.poll_timeout(),
            self.offload_due(),
            self.loads_due(),
            self.surges.poll_timeout(),
        ];
        due.into_iter().flatten().min()
    }

    /// The next frame to send: replies, released holds, queued packets,
    /// announcements, in order. Drain marks first. Nothing leaves while the gate
    /// is closed, whatever a timer or an ack has released meanwhile.
    pub fn poll_transmit(&mut self) -> Option<OwnedFrame> {
        if self.gate == Gate::Closed {
            self.discard_output();
        }
        let frame = self.out.pop()?;
        self.counters.transmitted += 1;
        Some(frame)
    }

    /// Gives the buffer of a frame back that was sent.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.out.recycle(buffer);
    }

    /// The next thing that the peer must learn; write marks in the order of polling.
    pub fn poll_mark(&mut self) -> Option<Mark> {
        self.marks.pop_front()
    }

    /// Whether marks were lost, so that only another session tells the peer everything.
    pub fn needs_session(&self) -> bool {
        self.marks_overflowed
    }

    /// Whether a packet of a client's side of a flow was forwarded since the last call.
    pub fn take_client_seen(&mut self) -> bool {
        core::mem::take(&mut self.client_seen)
    }

    /// Whether something waits for [`Engine::poll_mark`].
    pub fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The record of a flow as it is now, read when a datagram is written;
    /// `None` if the flow is gone. The flow counts as written in this session.
    pub fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        self.read_record(flow)
    }

    /// The peer has stored the flow as of `stamp`: it is protected, and its
    /// hold ends, unless the flow has changed since. Only acks of the current
    /// session may be handed in.
    pub fn handle_ack(&mut self, now: Instant, flow: FlowRef, stamp: u64) {
        self.acknowledge(now, flow, stamp);
    }

    /// The next flow for a bulk transfer: looks at `slots` slots at most, from
    /// `cursor` (0 at first). Skips flows that were written in this session and
    /// flows whose vserver is not STATEFUL.
    pub fn next_for_bulk(&mut self, cursor: &mut u32, slots: u32) -> BulkStep {
        self.bulk_step(cursor, slots, false)
    }

    /// As [`Engine::next_for_bulk`], but only flows that no peer was ever told of:
    /// these cannot wait until it is known what the peer has.
    pub fn next_untold(&mut self, cursor: &mut u32, slots: u32) -> BulkStep {
        self.bulk_step(cursor, slots, true)
    }

    /// The peer has this flow. The larger stamp wins, also against other flows
    /// that have one of its keys; its SNAT port is leased. A session that was
    /// not begun begins.
    pub fn apply_record(&mut self, now: Instant, record: &FlowRecord, session: u32) -> Applied {
        self.merge(now, record, session)
    }

    /// What came with the record last applied beyond the fields of all flows: kept with the flow, for the next node
    /// that is told of it, and obeyed as far as this version knows it. An empty one clears. False: there is no room.
    pub fn set_tail(&mut self, key: &FlowKey, tail: &[u8]) -> bool {
        self.keep_tail(key, tail)
    }

    /// What was kept by [`Engine::set_tail`]; empty if there is nothing.
    pub fn tail(&self, flow: FlowRef) -> &[u8] {
        let slot = self.flows.slot_of(flow).filter(|&slot| self.flows.at(slot).has(Flow::TAIL));
        slot.and_then(|slot| self.tails.get(&slot)).map_or(&[], |tail| tail)
    }

    /// The peer's flow is gone. Nothing happens if ours is newer.
    pub fn apply_close(&mut self, _now: Instant, close: &FlowClose, session: u32) {
        self.merge_close(close, session);
    }

    /// The flow with this client-side key, just applied, may be closed by a number
    /// in the current session. A number stands for the last flow that got it.
    pub fn set_number(&mut self, key: &FlowKey, number: u32) {
        self.number_flow(key, number);
    }

    /// As [`Engine::apply_close`], by the flow's number.
    pub fn apply_close_number(&mut self, _now: Instant, number: u32, stamp: u64, session: u32) {
        self.merge_close_number(number, stamp, session);
    }

    /// XOR over all flows written (sender), applied (receiver) or kept in the
    /// current session: equal on both nodes when they know the same records. What
    /// closed flows have left is counted at once: a digest is written only when
    /// every mark before it has been.
    pub fn digest(&self) -> u64 {
        self.buckets.digest()
    }

    /// What the buckets of a part (0 to [`PARTS`] - 1) held when the current
    /// session began, for the sender to compare with its own.
    pub fn summary(&self, part: usize) -> impl Iterator<Item = u64> {
        self.buckets.bases(part)
    }

    /// Whether a summary would tell anything: this node began the session with flows.
    pub fn has_summary(&self) -> bool {
        self.buckets.has_bases()
    }

    /// As sender: which buckets of a part (bit by bit, the first lowest) both
    /// nodes began the session with; their flows need not be written. `theirs`
    /// is the peer's summary of the part.
    pub fn compare_summary(&mut self, part: usize, theirs: &[u64; BUCKETS_PER_PART]) -> u128 {
        self.keep_equal(part, theirs)
    }

    /// As receiver: the flows of these buckets of a part are in the session. False
    /// if one of them had to make room meanwhile: the session is not complete.
    pub fn keep_buckets(&mut self, part: usize, buckets: u128) -> bool {
        self.keep_all(part, buckets)
    }

    /// This node receives from now on: mirroring is off, holds are dropped,
    /// every flow is stale until a record of this session speaks of it.
    pub fn begin_session(&mut self, session: u32) {
        self.receive_session(session);
    }

    /// Removes flows and persistence sessions that the current session has not
    /// spoken of, `slots` slots per call. True when the whole table was walked;
    /// the next call begins again.
    pub fn sweep_stale(&mut self, slots: u32) -> bool {
        self.sweep(slots)
    }

    /// Forgets all flows, sessions, holds and leases. Sends nothing.
    pub fn clear(&mut self, _now: Instant) {
        self.flows.clear();
        self.forget_offloads();
        self.snat.clear();
        self.holds.clear();
        self.sessions.clear();
        self.fragments = Fragments::new();
        self.marks.clear();
        self.tails.clear();
        self.controls.clear();
        self.expectations.clear();
        self.roster.forget_flows();
        (self.tracked, self.protected) = (0, 0);
        self.buckets.clear();
        self.session.swept = (0, 0);
    }

    /// The vservers of the unprotected flows whose first packets wait for the peer, one for each:
    /// neither end believes in them. Established connections whose vserver has just become
    /// STATEFUL are not among them.
    pub fn held_vservers(&self) -> impl Iterator<Item = VserverId> {
        let slots = self.holds.flows().into_iter().filter_map(|flow| self.flows.slot_of(flow));
        let opening = |&slot: &u32| {
            let flow = self.flows.at(slot);
            let established = matches!(flow.state, FlowState::Tcp(state) if state.is_established());
            flow.has(Flow::TRACKED) && !self.is_protected(flow) && !established
        };
        slots.filter(opening).filter_map(|slot| self.roster.vserver_at(self.flows.at(slot).vserver)).map(|row| row.id)
    }

    /// The limits it was made with, or was given since.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sizes of tables at this moment.
    pub fn counts(&self) -> Counts {
        Counts {
            flows: self.flows.len(),
            protected: self.protected,
            unprotected: self.tracked - self.protected,
            held: self.holds.len(),
            stale: self.flows.len().saturating_sub(self.buckets.flows()),
            in_session: self.buckets.flows(),
            persistence: self.sessions.len(),
            persistence_missed: self.session.persistence_missed,
            leases: self.snat.leases(),
        }
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counters of the node as a network host, since the start.
    pub fn network_counters(&self) -> &NetworkCounters {
        self.network.counters()
    }

    /// Whether the host's kernel owns this address.
    pub fn is_host_address(&self, addr: Addr) -> bool {
        self.network.is_host(addr)
    }

    /// Whether anything is known of the host's addresses.
    pub fn knows_host(&self) -> bool {
        self.network.knows_host()
    }

    /// The stations of another node that may lead; their claims of floating addresses are answered seldom.
    pub fn set_rivals(&mut self, rivals: &[MacAddr]) {
        self.network.set_rivals(rivals);
    }

    /// The station that claimed a floating address in the last frame, if that is worth a line in the log.
    pub fn take_claimed(&mut self) -> Option<(Addr, MacAddr)> {
        self.network.take_claimed()
    }

    /// Counters of a vserver; zeros for one never heard of.
    pub fn vserver_counters(&self, vserver: VserverId) -> VserverCounters {
        let row = self.roster.vserver_at(self.roster.vserver_row(vserver));
        let counters = row.map_or_else(VserverCounters::default, |row| row.counters);
        let sessions = self.roster.vserver(vserver).map(session_owner);
        VserverCounters {
            persistence: sessions.map_or(0, |(vip, proto)| self.sessions.of_vserver(vip, proto)),
            ..counters
        }
    }

    /// Counters of a service; zeros for one never heard of.
    pub fn service_counters(&self, service: ServiceId) -> ServiceCounters {
        let row = self.roster.service_at(self.roster.service_row(service));
        row.map_or_else(ServiceCounters::default, |row| row.counters)
    }

    /// Lists flows: looks at `slots` slots from `cursor` (0 at first) and
    /// appends a row per flow. True when the whole table was walked.
    pub fn connections(&self, now: Instant, cursor: &mut u32, slots: u32, out: &mut Vec<ConnectionRow>) -> bool {
        let last = self.flows.slots().min(cursor.saturating_add(slots));
        for slot in *cursor..last {
            if let Some(flow) = self.flows.live_at(slot) {
                out.push(self.row_of(now, flow));
            }
        }
        *cursor = last;
        last == self.flows.slots()
    }

    /// The neighbours, in address order, up to a limit of 1024.
    pub fn neighbours(&self) -> Vec<NeighbourRow> {
        self.network.neighbours(MAX_NEIGHBOURS_LISTED)
    }

    fn row_of(&self, now: Instant, flow: &Flow) -> ConnectionRow {
        ConnectionRow {
            proto: flow.proto,
            client: flow.client,
            vip: flow.vip,
            server: flow.server,
            source: flow.source,
            vserver: self.roster.vserver_at(flow.vserver).map(|row| row.id),
            service: self.roster.service_at(flow.service).map(|row| row.id),
            state: flow.state_label(),
            idle: now.since(flow.last_seen),
            mirrored: flow.has(Flow::UNTOUCHED),
            tracked: flow.has(Flow::TRACKED),
            protected: flow.has(Flow::TRACKED) && self.is_protected(flow),
            held: flow.hold != NONE,
        }
    }

    fn discard_output(&mut self) {
        while let Some(frame) = self.out.pop() {
            self.out.recycle(frame.bytes);
        }
    }

    /// Releases the holds that are over their limit, or that nobody will ever
    /// acknowledge, a bounded number at a time.
    pub(crate) fn release_overdue(&mut self, now: Instant) {
        let mut released = 0;
        for _ in 0..MAX_HOLDS_LOOKED_AT {
            let Some(flow) = self.holds.poll_expired(now) else { return };
            let slot = flow.and_then(|flow| self.flows.slot_of(flow));
            let holds = slot.is_some_and(|slot| self.release_unprotected(now, slot));
            released += usize::from(holds);
            if released == MAX_TIMERS_PER_TURN {
                return;
            }
        }
    }

    /// The timer of a flow has fired: it may have been used since, and nothing
    /// expires while this node does not forward.
    fn expire(&mut self, now: Instant, slot: u32) {
        let Some(flow) = self.flows.live_at(slot) else { return };
        let time_out = flow.time_out(&self.limits);
        let deadline = flow.last_seen.max(self.rebased_at) + time_out;
        if self.gate == Gate::Closed {
            self.flows.arm(slot, now + time_out);
        } else if deadline > now {
            self.flows.arm(slot, deadline);
        } else if self.is_offloaded(slot) {
            // Its packets may pass elsewhere.
            self.withdraw_offload(slot);
            self.flows.arm(slot, now + REPORT_GRACE);
        } else {
            self.close(slot);
        }
    }

    /// ARP: while draining, nothing is said about floating addresses.
    pub(crate) fn arp(&mut self, now: Instant, port: PortId, arp: &Arp) -> Verdict {
        if self.gate == Gate::Draining && arp.op == ArpOp::Request && self.network.floating(arp.target).is_some() {
            return Verdict::Drop(Drop::Draining);
        }
        self.network.handle_arp(now, port, arp, &mut self.out)
    }

    /// Neighbour solicitations and advertisements, as [`Engine::arp`].
    pub(crate) fn neighbour_discovery(&mut self, now: Instant, arrival: &Arrival<'_, '_>) -> Verdict {
        let complete = checksum_of(&arrival.frame.offload) == holdfast_wire::Checksum::Complete;
        if complete && !icmp_checksum_ok(arrival.frame.bytes, arrival.packet) {
            return Verdict::Drop(Drop::BadChecksum);
        }
        if self.gate == Gate::Draining
            && let holdfast_wire::Transport::NeighbourSolicitation(asked) = arrival.packet.transport
            && self.network.floating(asked.target).is_some()
        {
            return Verdict::Drop(Drop::Draining);
        }
        let port = arrival.frame.port;
        self.network.handle_neighbour(now, port, arrival.ethernet, arrival.packet, &mut self.out)
    }

    /// Counts a flow that has come, or has found its vserver.
    pub(crate) fn count_open(&mut self, slot: u32) {
        let (vserver, service) = (self.flows.at(slot).vserver, self.flows.at(slot).service);
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            counters.flows += 1;
        }
        if let Some(counters) = self.roster.service_counters(service) {
            counters.flows += 1;
        }
        self.flows.at_mut(slot).set(Flow::COUNTED_ESTABLISHED, false);
        self.count_established(slot);
    }

    /// Makes the number of established flows true after a change of `slot`.
    pub(crate) fn count_established(&mut self, slot: u32) {
        let flow = self.flows.at_mut(slot);
        let established = match flow.state {
            FlowState::Tcp(state) => state.is_established(),
            FlowState::Datagram => true,
            FlowState::Free => false,
        };
        if flow.has(Flow::COUNTED_ESTABLISHED) != established {
            flow.set(Flow::COUNTED_ESTABLISHED, established);
            let (vserver, service) = (flow.vserver, flow.service);
            self.shift_established(vserver, service, established);
        }
    }

    /// Counts a flow that is about to go.
    pub(crate) fn count_close(&mut self, slot: u32) {
        let flow = self.flows.at_mut(slot);
        let (vserver, service) = (flow.vserver, flow.service);
        if flow.has(Flow::COUNTED_ESTABLISHED) {
            flow.set(Flow::COUNTED_ESTABLISHED, false);
            self.shift_established(vserver, service, false);
        }
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            counters.flows -= 1;
        }
        if let Some(counters) = self.roster.service_counters(service) {
            counters.flows -= 1;
        }
    }

    fn shift_established(&mut self, vserver: u32, service: u32, up: bool) {
        let step = if up { 1 } else { u32::MAX };
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            counters.established = counters.established.wrapping_add(step);
        }
        if let Some(counters) = self.roster.service_counters(service) {
            counters.established = counters.established.wrapping_add(step);
        }
    }
}
