//! The healing of a split: what the node that gives way has and the other lacks.
//!
//! Both led. The loser follows from here on, but its flows stay in the table, *set aside*: no session has ever
//! spoken of them, so what the winner tells takes their place, flow by flow. What is left then is offered, and the
//! winner *adopts* it by a rule of its own: stamps say nothing between two nodes that counted apart, so whatever
//! the winner has stays as it is, and only what takes nothing away from it comes in. An adopted flow is a flow
//! of the winner, which tells the loser of it as of any other.

use holdfast_base::Instant;
use holdfast_wire::Endpoint;

use crate::alg::control::{Control, parent_of};
use crate::engine::{Engine, Mirroring};
use crate::flow::tcp::TcpState;
use crate::flow::{Flow, FlowState};
use crate::fragment::Fragments;
use crate::mirror::{MirrorEnd, Unplaced};
use crate::plan::ConnFailover;
use crate::record::BulkStep;
use crate::record::{FlowRecord, FlowRef, Phase};

/// What became of a flow that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is a flow of this node from here on.
    Adopted,
    /// This node has it: the same ends, by the same way.
    Known,
    /// A flow of this node has one of its keys, or its SNAT port.
    Conflicting,
    /// The table has no room, or the SNAT ports none for another destination.
    NoRoom,
    /// Its vserver is not there, or not STATEFUL.
    Unserved,
}

impl Engine {
    /// This node led and follows another primary from now on, as [`Engine::clear`], but its flows stay: none
    /// counts as told, and each gives way to what the new primary tells. So do its persistence sessions: should this node
    /// lead again before that, new connections go where the old ones are. What is left goes with
    /// [`Engine::sweep_stale`]. O(1).
    pub fn set_aside(&mut self) {
        self.mirroring = Mirroring::Off;
        self.turn_session(MirrorEnd::Idle);
        self.drop_holds();
        self.session.floor = self.session.serial;
        self.buckets.clear();
        self.fragments = Fragments::new();
    }

    /// The next flow to offer that no peer was ever told of, as far as is known: what was written to one counts only if
    /// that has acknowledged it. Looks at `slots` slots at most, from `cursor` (0 at first).
    pub fn next_untold_aside(&mut self, cursor: &mut u32, slots: u32) -> BulkStep {
        self.step_aside(cursor, slots, |flow| flow.session == 0 || flow.acked == 0)
    }

    /// The next flow to offer of which the running session does not speak, and that was not offered yet. With
    /// `used_since`: that had a packet since then; what had none is over at the new primary if it is not there.
    pub fn next_aside(&mut self, cursor: &mut u32, slots: u32, used_since: Option<Instant>) -> BulkStep {
        self.step_aside(cursor, slots, |flow| used_since.is_none_or(|since| flow.last_seen >= since))
    }

    fn step_aside(&mut self, cursor: &mut u32, slots: u32, wanted: impl Fn(&Flow) -> bool) -> BulkStep {
        let (last, floor) = (cursor.saturating_add(slots), self.session.floor);
        let is_next = |flow: &Flow| {
            let offered = flow.marked == floor;
            self.is_aside(flow) && !offered && wanted(flow) && self.is_mirrored(flow)
        };
        let Some(slot) = self.flows.next_live(cursor, last, is_next) else { return self.walked(*cursor) };
        self.prepare_for_bulk(slot);
        self.flows.at_mut(slot).marked = floor;
        BulkStep::Flow(self.flows.reference(slot))
    }

    /// The record of a flow to offer, read when a datagram is written; `None` if it has given way meanwhile.
    pub fn offered_record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        let slot = self.flows.slot_of(flow).filter(|&slot| self.is_aside(self.flows.at(slot)))?;
        self.counters.flows_offered += 1;
        Some(self.flows.at(slot).record())
    }

    /// A flow that the loser of a split offers, with its tail. Nothing of this node's own is closed or changed by it, but for
    /// connections that are over.
    pub fn adopt_offered(&mut self, now: Instant, record: &FlowRecord, tail: &[u8]) -> Offered {
        let offered = self.judge_offered(now, record, tail);
        let counters = &mut self.counters;
        let count = match offered {
            Offered::Adopted => &mut counters.offers_adopted,
            Offered::Known => &mut counters.offers_known,
            Offered::Conflicting => &mut counters.offers_conflicting,
            Offered::NoRoom => &mut counters.offers_without_room,
            Offered::Unserved => &mut counters.offers_unserved,
        };
        *count += 1;
        offered
    }

    fn judge_offered(&mut self, now: Instant, record: &FlowRecord, tail: &[u8]) -> Offered {
        self.make_way(record);
        let [by_client, by_server] = [record.client_key(), record.server_key()].map(|key| self.flows.find(&key));
        match (by_client, by_server) {
            (None, None) => {}
            (Some((one, _)), Some((other, _)))
                if one == other && self.flows.at(one).client_key() == record.client_key() =>
            {
                self.learn_shift(one, tail);
                return Offered::Known;
            }
            (Some(_), _) | (_, Some(_)) => return Offered::Conflicting,
        }
        let (vip, server) = parent_of(tail).unwrap_or((record.vip, record.server));
        let (vserver, _) = self.rows_of(vip, server, record.proto);
        if !self.roster.is_stateful(vserver) {
            return Offered::Unserved;
        }
        match self.place(now, record) {
            Ok(slot) => {
                self.take_tail(slot, tail);
                // Told to the peer as any change; without a session the next one's bulk does.
                self.mark(slot);
                Offered::Adopted
            }
            Err(Unplaced::Taken) => Offered::Conflicting,
            Err(Unplaced::NoRoom) => Offered::NoRoom,
        }
    }

    /// A control connection that both have: it went on by the loser if that has replaced more of its text.
    fn learn_shift(&mut self, slot: u32, tail: &[u8]) {
        let Some(theirs) = Control::of_tail(tail) else { return };
        if self.controls.get(&slot).is_none_or(|ours| theirs.is_ahead_of(ours)) {
            self.take_tail(slot, tail);
            self.mark(slot);
        }
    }

    /// A connection that lives takes the keys of one that is over and lingers here, as a client's SYN does.
    fn make_way(&mut self, record: &FlowRecord) {
        if record.phase == Phase::Closing {
            return;
        }
        for key in [record.client_key(), record.server_key()] {
            if let Some((slot, _)) = self.flows.find(&key)
                && self.flows.at(slot).state == FlowState::Tcp(TcpState::Closed)
            {
                self.close(slot);
            }
        }
    }

    /// Strays of STATEFUL vservers are ignored until then at least: they may be packets of flows that are about to
    /// be offered.
    pub fn keep_silent(&mut self, until: Instant) {
        self.silent_until = self.silent_until.max(until);
    }

    /// Nothing is offered any more. The grace after a promotion stands.
    pub fn end_silence(&mut self) {
        self.silent_until = Instant::ZERO;
    }

    /// Whether a stray of a STATEFUL vserver may belong to a flow that is on its way here.
    pub(crate) fn is_in_grace(&self, now: Instant) -> bool {
        now < self.grace_until.max(self.silent_until)
    }

    /// Whether a server's stray may belong to an offer, although its sender serves a STATELESS vserver: made a flow of
    /// that one, it would keep the offered one out.
    pub(crate) fn may_be_offered(&self, now: Instant, server: Endpoint, proto: u8) -> bool {
        let plan = self.roster.plan();
        let stateful = |place: usize| plan.vservers[place].failover == ConnFailover::Stateful;
        now < self.silent_until && self.roster.bound_to(server, proto).any(|bound| stateful(bound.vserver))
    }
}
