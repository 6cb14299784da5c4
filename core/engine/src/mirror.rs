//! What a successor must know: marks, records, acks, bulk, and their other end.
//!
//! Sessions have a *serial*: it grows whenever a session begins or ends, so a
//! flow is "in the session" or "protected" by comparing one number, and all
//! flows leave both states at once without being touched.

use std::collections::BTreeSet;

use holdfast_base::Instant;
use holdfast_wire::proto;

use crate::buckets::{BUCKETS, BUCKETS_PER_PART, PARTS};
use crate::engine::{Engine, Gate, Mirroring};
use crate::evict::Hunt;
use crate::flow::table::Refused;
use crate::flow::tcp::TcpState;
use crate::flow::tcp_seen::Stream;
use crate::flow::{Flow, FlowState, Hop, NONE, Side};
use crate::open::destination_of;
use crate::record::{Applied, BulkStep, PersistenceStep};
use crate::record::{FlowClose, FlowKey, FlowRecord, FlowRef, Mark, PersistenceRecord, Phase};
use crate::roster::VserverRow;
use crate::select::persistence::SessionKey;
use crate::snat::LeaseError;

/// Our own stamps continue above a peer's up to here. No node counts so far in its life: what is above comes
/// from a faulty one, and what we wrote in its wake would be refused as soon as stamps were used up.
const MAX_STAMP_HEARD: u64 = 1 << 61;

/// In place of the session in which the peer acknowledged a flow: it was the peer that told of it.
const TOLD_BY_PEER: u32 = u32::MAX;

/// Which end of the mirror this node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MirrorEnd {
    /// None.
    #[default]
    Idle,
    /// Records are written.
    Sending,
    /// Records of this session are applied.
    Receiving(u32),
}

/// Why a flow of the peer has no place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// Another flow has one of its keys, or its port.
    Taken,
    /// The table, or the number of destinations that ports are leased towards, is at its limit.
    NoRoom,
}

/// The mirror session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Session {
    /// Grows with every change; 0 is before the first one.
    pub(crate) serial: u32,
    pub(crate) end: MirrorEnd,
    /// What was told or applied up to this serial is forgotten as such ([`Engine::set_aside`]).
    pub(crate) floor: u32,
    /// How far the sweep of stale flows has come, and that of stale sessions.
    pub(crate) swept: (u32, u32),
    /// The search for a stale flow to evict, and that for a persistence session.
    pub(crate) flow_hunt: Hunt,
    pub(crate) persistence_hunt: Hunt,
    /// Persistence sessions of this session that found no room.
    pub(crate) persistence_missed: u32,
}

impl Engine {
    /// See [`Engine::set_mirroring`].
    pub(crate) fn change_mirroring(&mut self, now: Instant, mirroring: Mirroring) {
        let before = core::mem::replace(&mut self.mirroring, mirroring);
        if before == mirroring {
            return;
        }
        let number = |mirroring| match mirroring {
            Mirroring::Off => None,
            Mirroring::On { session, .. } => Some(session),
        };
        if number(before) != number(mirroring) {
            let end = if number(mirroring).is_some() { MirrorEnd::Sending } else { MirrorEnd::Idle };
            self.turn_session(end);
            self.marks_overflowed = false;
        }
        match mirroring {
            Mirroring::On { strict: true, .. } => {
                self.holds.calm();
                for flow in self.holds.flows() {
                    self.mark(flow.slot);
                }
            }
            Mirroring::On { strict: false, .. } | Mirroring::Off => {
                self.holds.hasten();
                self.release_overdue(now);
            }
        }
    }

    /// Marks a flow as changed.
    pub(crate) fn mark(&mut self, slot: u32) {
        let stamp = self.next_stamp();
        let reference = self.flows.reference(slot);
        let serial = self.session.serial;
        let flow = self.flows.at_mut(slot);
        flow.stamp = stamp;
        if self.mirroring != Mirroring::Off && flow.marked != serial {
            flow.marked = serial;
            self.push_mark(Mark::Flow(reference));
        }
    }

    /// A session begins or ends: nothing is in it, protected or waiting.
    pub(crate) fn turn_session(&mut self, end: MirrorEnd) {
        let Session { serial, floor, flow_hunt, persistence_hunt, .. } = self.session;
        let (flow_hunt, persistence_hunt) = (flow_hunt.anew(), persistence_hunt.anew());
        self.session = Session { serial: serial + 1, end, floor, flow_hunt, persistence_hunt, ..Session::default() };
        self.buckets.begin();
        self.forget_protected();
        self.marks.clear();
    }

    /// The next number in the order of changes.
    pub(crate) fn next_stamp(&mut self) -> u64 {
        self.last_stamp += 1;
        self.last_stamp
    }

    /// Queues a mark.
    pub(crate) fn push_mark(&mut self, mark: Mark) {
        if self.mirroring == Mirroring::Off {
            return;
        }
        if self.marks.len() >= self.limits.max_marks as usize {
            self.marks_overflowed = true;
            self.counters.marks_lost += 1;
            return;
        }
        self.marks.push_back(mark);
    }

    /// See [`Engine::record`].
    pub(crate) fn read_record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        let slot = self.flows.slot_of(flow)?;
        self.flows.at_mut(slot).marked = 0;
        let flow = self.flows.at(slot);
        let is_over = flow.state == FlowState::Tcp(TcpState::Closed);
        if !self.is_told(flow) && (is_over || self.is_unmirrored(slot)) {
            // It was retracted since it was marked.
            self.set_tracked(slot, false);
            return None;
        }
        self.enter_session(slot);
        Some(self.flows.at(slot).record())
    }

    /// See [`Engine::handle_ack`].
    pub(crate) fn acknowledge(&mut self, now: Instant, flow: FlowRef, stamp: u64) {
        let Some(slot) = self.flows.slot_of(flow) else { return };
        let flow = self.flows.at(slot);
        // What was retracted since its record was written is not there any more.
        if self.mirroring == Mirroring::Off || stamp < flow.stamp || !self.is_told(flow) {
            return;
        }
        self.protect(slot);
        if self.release(now, slot) {
            self.counters.hold_released_by_ack += 1;
            self.retract_unmirrored(slot);
        }
    }

    /// The peer has the flow.
    fn protect(&mut self, slot: u32) {
        let serial = self.session.serial;
        let flow = self.flows.at_mut(slot);
        if flow.acked != serial {
            flow.acked = serial;
            let (vserver, tracked) = (flow.vserver, flow.has(Flow::TRACKED));
            if tracked {
                self.count_protected(vserver, true);
            }
        }
    }

    /// What the peer has of the flow is not what it must have.
    pub(crate) fn unprotect(&mut self, slot: u32) {
        let flow = self.flows.at(slot);
        let (vserver, counted) = (flow.vserver, flow.has(Flow::TRACKED) && self.is_protected(flow));
        self.flows.at_mut(slot).acked = 0;
        if counted {
            self.count_protected(vserver, false);
        }
    }

    /// Ends a hold that the peer has not acknowledged. False: there is none.
    pub(crate) fn release_unprotected(&mut self, now: Instant, slot: u32) -> bool {
        let released = self.release(now, slot);
        let promised = !self.is_unmirrored(slot);
        // While the gate is closed nothing leaves: what a node held that was frozen, and has lost its role meanwhile, is thrown away.
        let leaves = self.gate != Gate::Closed;
        self.counters.hold_released_unprotected += u64::from(released && promised && leaves);
        self.retract_unmirrored(slot);
        released
    }

    /// Another plan is in force: nothing waits for the peer on account of a vserver
    /// that is not STATEFUL any more. As many end in this turn as may, the others are due at once.
    pub(crate) fn release_unmirrored(&mut self, now: Instant) {
        let is_free = |flow: &FlowRef| self.flows.slot_of(*flow).is_some_and(|slot| self.is_unmirrored(slot));
        let free: BTreeSet<FlowRef> = self.holds.flows().into_iter().filter(is_free).collect();
        if !free.is_empty() {
            self.holds.hurry(now, &free);
            self.release_overdue(now);
        }
    }

    fn is_unmirrored(&self, slot: u32) -> bool {
        self.roster.vserver_at(self.flows.at(slot).vserver).is_some_and(VserverRow::is_unmirrored)
    }

    /// What a hold kept from being retracted is retracted when it ends.
    fn retract_unmirrored(&mut self, slot: u32) {
        if self.is_unmirrored(slot) {
            self.retract(slot);
        }
    }

    /// See [`Engine::next_for_bulk`].
    pub(crate) fn bulk_step(&mut self, cursor: &mut u32, slots: u32, untold: bool) -> BulkStep {
        let last = cursor.saturating_add(slots);
        while let Some(slot) = self.flows.next_live(cursor, last, |flow| !untold || !self.is_told(flow)) {
            let flow = self.flows.at(slot);
            if self.is_mirrored(flow) && flow.session != self.session.serial {
                self.prepare_for_bulk(slot);
                return self.offer(slot);
            }
            self.retract_unmirrored(slot);
        }
        self.walked(*cursor)
    }

    /// What a walk over the flow table that found nothing more has come to.
    pub(crate) fn walked(&self, cursor: u32) -> BulkStep {
        if cursor >= self.flows.slots() { BulkStep::Done } else { BulkStep::Scanned }
    }

    /// A mirrored flow is written, unless the peer began the session with it and it
    /// is as it was told: then it is protected without a record.
    fn offer(&mut self, slot: u32) -> BulkStep {
        let flow = self.flows.at(slot);
        let has = self.is_told(flow) && self.buckets.is_kept(flow.bucket) && flow.fingerprint().1 == flow.share;
        if !has {
            return BulkStep::Flow(self.flows.reference(slot));
        }
        self.protect(slot);
        BulkStep::Kept
    }

    /// The flow's vserver is not STATEFUL any more, or the connection is over: the peer forgets its copy.
    pub(crate) fn retract(&mut self, slot: u32) {
        let flow = *self.flows.at(slot);
        if flow.hold != NONE {
            return;
        }
        self.forget_share(slot, &flow);
        self.set_tracked(slot, false);
        let flow = self.flows.at_mut(slot);
        (flow.session, flow.acked) = (0, 0);
    }

    /// See [`Engine::compare_summary`].
    pub(crate) fn keep_equal(&mut self, part: usize, theirs: &[u64; BUCKETS_PER_PART]) -> u128 {
        let mut kept = 0;
        for (bit, (bucket, base)) in buckets_of(part).zip(theirs).enumerate() {
            if self.buckets.base(bucket) == *base && self.buckets.keep(bucket) {
                kept |= 1 << bit;
            }
        }
        kept
    }

    /// See [`Engine::keep_buckets`].
    pub(crate) fn keep_all(&mut self, part: usize, kept: u128) -> bool {
        let mut complete = true;
        for (bit, bucket) in buckets_of(part).enumerate() {
            if kept >> bit & 1 == 1 {
                complete &= self.buckets.keep(bucket);
            } else {
                self.buckets.spoil(bucket);
            }
        }
        complete
    }

    /// Whether both ends count the flow as told in the running session.
    pub(crate) fn is_in_session(&self, flow: &Flow) -> bool {
        self.is_told(flow) && (flow.session == self.session.serial || self.buckets.is_kept(flow.bucket))
    }

    /// Whether a record of the flow was ever written or applied, as far as that counts.
    pub(crate) fn is_told(&self, flow: &Flow) -> bool {
        flow.session > self.session.floor
    }

    /// Whether this node had the flow when it gave way to another primary, which has not spoken of it.
    pub(crate) fn is_aside(&self, flow: &Flow) -> bool {
        self.session.floor > 0 && !self.is_told(flow)
    }

    /// See [`Engine::persistence_for_bulk`].
    pub(crate) fn persistence_step(&mut self, cursor: &mut u32, slots: u32) -> PersistenceStep {
        let last = self.sessions.slots().min(cursor.saturating_add(slots));
        while *cursor < last {
            let slot = *cursor;
            *cursor += 1;
            match self.sessions.record_at(slot) {
                Some((record, serial)) if serial != self.session.serial => {
                    self.sessions.set_serial(slot, self.session.serial);
                    return PersistenceStep::Session(record);
                }
                Some(_) | None => {}
            }
        }
        if *cursor >= self.sessions.slots() { PersistenceStep::Done } else { PersistenceStep::Scanned }
    }

    /// Whether the flow is one that a successor should know.
    pub(crate) fn is_mirrored(&self, flow: &Flow) -> bool {
        let known = match flow.state {
            // Only one whose SYN carried data: its server may act on it.
            FlowState::Tcp(TcpState::SynSeen) => flow.has(Flow::TRACKED),
            FlowState::Tcp(TcpState::Reset | TcpState::Closed) | FlowState::Free => false,
            FlowState::Tcp(
                TcpState::Opening
                | TcpState::Established
                | TcpState::ClientFin
                | TcpState::ServerFin
                | TcpState::Closing
                | TcpState::Mirrored,
            )
            | FlowState::Datagram => true,
        };
        // A record whose vserver the plan does not have (yet) is passed on.
        let stateful = match self.roster.vserver_at(flow.vserver) {
            Some(row) => row.stateful,
            None => flow.has(Flow::TRACKED),
        };
        known && stateful && !flow.has(Flow::PASS_THROUGH)
    }

    /// A flow that bulk offers counts as tracked and has a stamp.
    pub(crate) fn prepare_for_bulk(&mut self, slot: u32) {
        let unstamped = self.flows.at(slot).stamp == 0;
        let stamp = if unstamped { self.next_stamp() } else { 0 };
        if unstamped {
            self.flows.at_mut(slot).stamp = stamp;
        }
        self.set_tracked(slot, true);
    }

    /// Whether the peer has acknowledged the flow in this session.
    pub(crate) fn is_protected(&self, flow: &Flow) -> bool {
        flow.acked != 0 && flow.acked == self.session.serial
    }

    /// Sets whether the flow counts as one that a successor should know.
    pub(crate) fn set_tracked(&mut self, slot: u32, tracked: bool) {
        let flow = self.flows.at(slot);
        if flow.has(Flow::TRACKED) == tracked {
            return;
        }
        let (vserver, protected) = (flow.vserver, self.is_protected(flow));
        self.count_tracked(vserver, tracked);
        if protected {
            self.count_protected(vserver, tracked);
        }
        self.flows.at_mut(slot).set(Flow::TRACKED, tracked);
    }

    /// One flow more (or less) that a successor should know, in all and at its vserver.
    fn count_tracked(&mut self, vserver: u32, more: bool) {
        shift(&mut self.tracked, more);
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            shift(&mut counters.tracked, more);
        }
    }

    /// One flow more (or less) that the peer has, in all and at its vserver.
    fn count_protected(&mut self, vserver: u32, more: bool) {
        shift(&mut self.protected, more);
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            shift(&mut counters.protected, more);
        }
    }

    /// A flow has found its vserver: what is known of it counts there from here on.
    pub(crate) fn count_bound(&mut self, slot: u32) {
        let flow = self.flows.at(slot);
        let (vserver, tracked) = (flow.vserver, flow.has(Flow::TRACKED));
        let protected = tracked && self.is_protected(flow);
        if let Some(counters) = self.roster.vserver_counters(vserver) {
            counters.tracked += u32::from(tracked);
            counters.protected += u32::from(protected);
        }
    }

    fn forget_protected(&mut self) {
        self.protected = 0;
        self.roster.forget_protected();
    }

    /// See [`Engine::begin_session`].
    pub(crate) fn receive_session(&mut self, number: u32) {
        self.mirroring = Mirroring::Off;
        self.turn_session(MirrorEnd::Receiving(number));
        self.drop_holds();
    }

    /// See [`Engine::apply_record`].
    pub(crate) fn merge(&mut self, now: Instant, record: &FlowRecord, session: u32) -> Applied {
        self.hear(session, record.stamp);
        for key in [record.client_key(), record.server_key()] {
            let Some((slot, _)) = self.flows.find(&key) else { continue };
            let ours = self.flows.at(slot);
            let same = ours.client_key() == record.client_key() && ours.server_key() == record.server_key();
            // Within a session the larger stamp wins, whatever the order. What an earlier session has left gives
            // way in any case, or a copy with a wrong stamp would never heal.
            let stale = matches!(self.session.end, MirrorEnd::Receiving(_)) && !self.is_in_session(ours);
            if same && stale && self.is_aside(ours) {
                // What its packets showed here while this node led is no more than a part of the truth.
                self.close(slot);
                continue;
            }
            if same && (stale || record.stamp >= ours.stamp) {
                return self.refresh(slot, record);
            }
            if !stale && !supersedes(record, &ours.record()) {
                if !same {
                    self.counters.record_conflicts += 1;
                }
                return Applied::Older(ours.record());
            }
            self.counters.record_conflicts += 1;
            self.close(slot);
        }
        self.install(now, record)
    }

    /// See [`Engine::set_tail`].
    pub(crate) fn keep_tail(&mut self, key: &FlowKey, tail: &[u8]) -> bool {
        if tail.is_empty() && self.tails.is_empty() {
            return true;
        }
        let Some((slot, Side::Client)) = self.flows.find(key) else { return true };
        self.take_tail(slot, tail);
        tail.is_empty() || self.flows.at(slot).has(Flow::TAIL)
    }

    /// Keeps what came with a flow's record, and does what it says.
    pub(crate) fn take_tail(&mut self, slot: u32, tail: &[u8]) {
        self.store_tail(slot, tail);
        self.adopt_tail(slot);
    }

    /// Whether a tail can be kept with the flow.
    pub(crate) fn has_room_for_tail(&self, slot: u32) -> bool {
        self.tails.len() < self.limits.max_tails as usize || self.tails.contains_key(&slot)
    }

    /// Keeps the tail of a flow's record; an empty one clears.
    pub(crate) fn store_tail(&mut self, slot: u32, tail: &[u8]) {
        let has = !tail.is_empty() && self.has_room_for_tail(slot);
        self.counters.tails_lost += u64::from(!tail.is_empty() && !has);
        if has {
            self.tails.insert(slot, tail.into());
        } else if self.flows.at(slot).has(Flow::TAIL) {
            self.tails.remove(&slot);
        }
        self.flows.at_mut(slot).set(Flow::TAIL, has);
    }

    /// See [`Engine::apply_close`].
    pub(crate) fn merge_close(&mut self, close: &FlowClose, session: u32) {
        self.hear(session, close.stamp);
        if let Some((slot, _)) = self.flows.find(&close.key)
            && self.flows.at(slot).client_key() == close.key
            && self.flows.at(slot).stamp < close.stamp
        {
            self.close(slot);
        }
    }

    /// See [`Engine::set_number`].
    pub(crate) fn number_flow(&mut self, key: &FlowKey, number: u32) {
        let Some((slot, Side::Client)) = self.flows.find(key) else { return };
        self.numbers.set(number, self.flows.reference(slot), self.session.serial);
    }

    /// See [`Engine::apply_close_number`].
    pub(crate) fn merge_close_number(&mut self, number: u32, stamp: u64, session: u32) {
        self.hear(session, stamp);
        let flow = self.numbers.get(number, self.session.serial);
        match flow.and_then(|flow| self.flows.slot_of(flow)) {
            Some(slot) if self.flows.at(slot).stamp < stamp => self.close(slot),
            Some(_) => {}
            None => self.counters.unnumbered += 1,
        }
    }

    /// See [`Engine::apply_persistence`].
    pub(crate) fn merge_persistence(&mut self, now: Instant, record: &PersistenceRecord, session: u32) {
        self.hear(session, record.stamp);
        let key = SessionKey::of_record(record);
        if record.stamp < self.sessions.stamp(&key) && !self.sessions.is_aside(&key, self.session.floor) {
            return;
        }
        let Some(server) = record.server else { return self.sessions.remove(&key) };
        let told = (server, record.stamp, self.session.serial);
        if !self.store_told(now, key, told) {
            self.counters.persistence_full += 1;
            self.session.persistence_missed += 1;
            return;
        }
        let plan = self.roster.plan();
        let vserver = self.roster.vserver_for(record.vip, if record.proto == 0 { proto::TCP } else { record.proto });
        if let Some(persistence) = vserver.and_then(|place| plan.vservers[place].persistence) {
            self.sessions.set_timeout(&key, persistence.timeout);
        }
    }

    /// See [`Engine::sweep_stale`].
    pub(crate) fn sweep(&mut self, slots: u32) -> bool {
        let serial = self.session.serial;
        let (flow, session) = self.session.swept;
        let last_flow = self.flows.slots().min(flow.saturating_add(slots));
        for slot in flow..last_flow {
            if self.flows.live_at(slot).is_some_and(|flow| !self.is_in_session(flow)) {
                self.close(slot);
            }
        }
        let last_session = self.sessions.slots().min(session.saturating_add(slots));
        for slot in session..last_session {
            if self.sessions.record_at(slot).is_some_and(|(_, seen)| seen != serial) {
                self.sessions.free_slot(slot);
            }
        }
        let done = last_flow == self.flows.slots() && last_session == self.sessions.slots();
        self.session.swept = if done { (0, 0) } else { (last_flow, last_session) };
        done
    }

    /// Removes a flow: the peer hears of it if it was told of it.
    pub(crate) fn close(&mut self, slot: u32) {
        let flow = self.take_out(slot);
        self.forget_share(slot, &flow);
    }

    /// A flow leaves the digest; the peer hears of it if it counts it as told in
    /// this session. What it has of an earlier one is not in this session there
    /// either, and goes with all that is stale.
    fn forget_share(&mut self, slot: u32, flow: &Flow) {
        if !self.is_told(flow) {
            return;
        }
        let told = self.is_in_session(flow);
        let fresh = flow.session == self.session.serial;
        self.buckets.leave(flow.bucket, flow.share, fresh);
        match self.session.end {
            MirrorEnd::Sending if told => {
                let stamp = self.next_stamp();
                let reference = fresh.then_some(FlowRef { slot, generation: flow.generation });
                self.push_mark(Mark::Closed(reference, FlowClose { stamp, key: flow.client_key() }));
            }
            MirrorEnd::Sending => self.buckets.spoil(flow.bucket),
            MirrorEnd::Idle | MirrorEnd::Receiving(_) => {}
        }
    }

    /// Takes a flow out of the table and everything that counts it.
    fn take_out(&mut self, slot: u32) -> Flow {
        self.count_close(slot);
        self.set_tracked(slot, false);
        self.withdraw_offload(slot);
        self.forget_control(slot);
        let flow = self.flows.remove(slot);
        if flow.has(Flow::TAIL) {
            self.tails.remove(&slot);
        }
        if flow.hold != NONE {
            for frame in self.holds.end(flow.hold).frames {
                self.out.recycle(frame.bytes);
            }
        }
        if flow.has(Flow::LEASED) {
            self.snat.release(destination_of(&flow), flow.source.port);
        }
        self.counters.flows_closed += 1;
        flow
    }

    /// A message of `session` with this stamp came: a session that nobody began
    /// begins with it, and our own stamps continue above.
    fn hear(&mut self, session: u32, stamp: u64) {
        match self.session.end {
            MirrorEnd::Sending => {}
            MirrorEnd::Receiving(current) if current == session => {}
            MirrorEnd::Receiving(_) | MirrorEnd::Idle => self.receive_session(session),
        }
        if stamp <= MAX_STAMP_HEARD {
            self.last_stamp = self.last_stamp.max(stamp);
        }
    }

    fn refresh(&mut self, slot: u32, record: &FlowRecord) -> Applied {
        let flow = self.flows.at_mut(slot);
        let newer = record.stamp != flow.stamp;
        if newer {
            flow.stamp = record.stamp;
            (flow.client_idle_s, flow.server_idle_s) = (record.client_idle_s, record.server_idle_s);
            flow.state = state_of(record);
        }
        self.set_tracked(slot, true);
        self.count_established(slot);
        self.adopt(slot);
        if newer { Applied::Stored } else { Applied::Refreshed }
    }

    fn install(&mut self, now: Instant, record: &FlowRecord) -> Applied {
        match self.place(now, record) {
            Ok(slot) => {
                self.adopt(slot);
                Applied::Stored
            }
            Err(Unplaced::Taken | Unplaced::NoRoom) => {
                self.counters.record_full += 1;
                Applied::Full
            }
        }
    }

    /// Puts a flow of the peer into the table, and its port into the leases. Whether it is told, and to whom, is
    /// the caller's.
    pub(crate) fn place(&mut self, now: Instant, record: &FlowRecord) -> Result<u32, Unplaced> {
        let mut flow = flow_of(now, record);
        (flow.vserver, flow.service) = self.rows_of(flow.vip, flow.server, flow.proto);
        flow.set(Flow::CONTROL, self.roster.vserver_at(flow.vserver).is_some_and(|row| row.ftp));
        if flow.source != flow.client {
            self.snat.lease_exactly(destination_of(&flow), flow.source.port).map_err(|error| match error {
                LeaseError::Taken => Unplaced::Taken,
                LeaseError::Exhausted => Unplaced::NoRoom,
            })?;
            flow.set(Flow::LEASED, true);
        }
        if self.flows.len() >= self.limits.max_flows {
            self.evict_stale();
        }
        match self.flows.insert(flow) {
            Ok(slot) => {
                self.flows.arm(slot, now + flow.time_out(&self.limits));
                self.set_tracked(slot, true);
                self.count_open(slot);
                self.count_established(slot);
                self.infer_session(now, slot);
                self.counters.flows_mirrored += 1;
                Ok(slot)
            }
            Err(refused) => {
                if flow.has(Flow::LEASED) {
                    self.snat.release(destination_of(&flow), flow.source.port);
                }
                Err(match refused {
                    Refused::Full => Unplaced::NoRoom,
                    Refused::Taken(_) => Unplaced::Taken,
                })
            }
        }
    }

    /// The persistence session that the primary must have had to choose this
    /// server: its own record may be lost with the primary, while the flow's was
    /// acknowledged. What is known already stands.
    fn infer_session(&mut self, now: Instant, slot: u32) {
        let flow = self.flows.at(slot);
        let Some((key, timeout)) = self.session_of(flow) else { return };
        let Some(service) = self.roster.service_at(flow.service).and_then(|row| self.roster.service(row.id)) else {
            return;
        };
        let server = service.server;
        if self.sessions.find(&key).is_none() || self.sessions.is_aside(&key, self.session.floor) {
            if self.sessions.infer(now, key, server, self.session.serial) {
                self.sessions.set_timeout(&key, timeout);
                // It may give way again.
                self.session.persistence_hunt = self.session.persistence_hunt.anew();
            } else {
                self.counters.persistence_full += 1;
            }
        }
    }

    /// A record's flow is in the session; a sender has to pass it on first.
    fn adopt(&mut self, slot: u32) {
        match self.session.end {
            MirrorEnd::Sending => self.mark(slot),
            MirrorEnd::Receiving(_) | MirrorEnd::Idle => {
                self.flows.at_mut(slot).acked = TOLD_BY_PEER;
                self.enter_session(slot);
            }
        }
    }

    /// Counts the flow, as its record is at this moment, into the digest.
    fn enter_session(&mut self, slot: u32) {
        let Session { serial, floor, .. } = self.session;
        let flow = self.flows.at_mut(slot);
        if flow.session > floor {
            self.buckets.leave(flow.bucket, flow.share, flow.session == serial);
        }
        (flow.bucket, flow.share) = flow.fingerprint();
        flow.session = serial;
        self.buckets.enter(flow.bucket, flow.share);
    }

    pub(crate) fn drop_holds(&mut self) {
        for flow in self.holds.flows() {
            if let Some(slot) = self.flows.slot_of(flow) {
                self.flows.at_mut(slot).hold = NONE;
            }
        }
        self.holds.clear();
    }
}

/// The buckets of a part; none beyond the last part.
fn buckets_of(part: usize) -> impl Iterator<Item = u16> {
    let first = part.min(PARTS) * BUCKETS_PER_PART;
    (first..BUCKETS.min(first + BUCKETS_PER_PART)).map(|bucket| bucket as u16)
}

/// Whether `record` wins against `ours`: the larger stamp, and between two
/// nodes that gave the same stamp, any order that both compute alike.
fn supersedes(record: &FlowRecord, ours: &FlowRecord) -> bool {
    let order = |record: &FlowRecord| (record.stamp, record.client_key(), record.server_key());
    order(record) > order(ours)
}

fn shift(count: &mut u32, more: bool) {
    *count = if more { *count + 1 } else { *count - 1 };
}

fn state_of(record: &FlowRecord) -> FlowState {
    match (record.proto, record.phase) {
        (proto::TCP, Phase::Opening | Phase::Established) => FlowState::Tcp(TcpState::Mirrored),
        // What is left of it may not be acknowledged yet: a successor's peer is told of it, too.
        (proto::TCP, Phase::Closing) => FlowState::Tcp(TcpState::Closing),
        (_, Phase::Opening | Phase::Established | Phase::Closing) => FlowState::Datagram,
    }
}

fn flow_of(now: Instant, record: &FlowRecord) -> Flow {
    Flow {
        client: record.client,
        vip: record.vip,
        server: record.server,
        source: record.source,
        last_seen: now,
        stamp: record.stamp,
        to_client: Hop::default(),
        to_server: Hop::default(),
        l2: record.l2,
        generation: 0,
        share: 0,
        session: 0,
        acked: 0,
        marked: 0,
        vserver: NONE,
        service: NONE,
        hold: NONE,
        streams: [Stream::default(); 2],
        client_idle_s: record.client_idle_s,
        server_idle_s: record.server_idle_s,
        bucket: 0,
        proto: record.proto,
        state: state_of(record),
        flags: Flow::UNTOUCHED,
        syn_again: false,
    }
}
