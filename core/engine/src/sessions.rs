//! Persistence sessions at the engine's doors: told to the peer, heard from it, listed, cleared, expired.

use holdfast_base::{Duration, Instant};
use holdfast_wire::Addr;

use crate::engine::{Engine, Gate};
use crate::flow::tcp::TcpState;
use crate::flow::{Flow, FlowState};
use crate::open::session_owner;
use crate::plan::VserverId;
use crate::record::PersistenceStep;
use crate::record::{Mark, PersistenceRecord};
use crate::select::persistence::SessionKey;

/// One line of the list of persistence sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The session.
    pub session: PersistenceRecord,
    /// Its vserver, if the plan has it.
    pub vserver: Option<VserverId>,
    /// How long it lasts from here on without being used; on a node that does not forward, from a takeover on.
    pub left: Duration,
    /// Flows of it, as counted by [`Engine::count_session_flows`].
    pub flows: u32,
}

/// Which sessions are to be cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only those of this vserver.
    pub vserver: Option<VserverId>,
    /// Only those with this address, or with its network where a mask applies.
    pub addr: Option<Addr>,
}

impl Engine {
    /// The next persistence session for a bulk transfer, as
    /// [`Engine::next_for_bulk`].
    pub fn persistence_for_bulk(&mut self, cursor: &mut u32, slots: u32) -> PersistenceStep {
        self.persistence_step(cursor, slots)
    }

    /// Whether a persistence session is still as this record says, which must not be that of an end.
    pub fn is_current(&self, session: &PersistenceRecord) -> bool {
        self.sessions.stamp(&SessionKey::of_record(session)) == session.stamp
    }

    /// A persistence session of the peer began, moved or ended.
    pub fn apply_persistence(&mut self, now: Instant, record: &PersistenceRecord, session: u32) {
        self.merge_persistence(now, record, session);
    }

    /// Counts the flows of each session that live with its server, for [`Engine::list_sessions`]: looks at `slots` slots
    /// of the flow table from `cursor` (0 at first). True when the whole table was walked.
    pub fn count_session_flows(&self, cursor: &mut u32, slots: u32, counts: &mut Vec<u32>) -> bool {
        let last = self.flows.slots().min(cursor.saturating_add(slots));
        for slot in *cursor..last {
            let Some(session) = self.flows.live_at(slot).and_then(|flow| self.slot_of_session(flow)) else { continue };
            let session = session as usize;
            if counts.len() <= session {
                counts.resize(session + 1, 0);
            }
            counts[session] += 1;
        }
        *cursor = last;
        last == self.flows.slots()
    }

    /// The slot of the session that a flow goes by; `None` if it is over, or went elsewhere.
    fn slot_of_session(&self, flow: &Flow) -> Option<u32> {
        let (key, _) = self.session_of(flow)?;
        let slot = self.sessions.slot(&key)?;
        let (session, _) = self.sessions.record_at(slot)?;
        let server = session.server.filter(|server| server.addr == flow.server.addr)?;
        let is_over = matches!(flow.state, FlowState::Tcp(TcpState::Closed | TcpState::Reset));
        (!is_over && (server.port == 0 || server.port == flow.server.port)).then_some(slot)
    }

    /// Lists sessions: looks at `slots` slots from `cursor` (0 at first) and appends a row per session, with the
    /// flows that were counted. True when the whole table was walked.
    pub fn list_sessions(
        &self,
        now: Instant,
        cursor: &mut u32,
        slots: u32,
        counts: &[u32],
        out: &mut Vec<SessionRow>,
    ) -> bool {
        let last = self.sessions.slots().min(cursor.saturating_add(slots));
        let since = if self.gate == Gate::Closed { now } else { self.rebased_at };
        for slot in *cursor..last {
            let Some((session, _)) = self.sessions.record_at(slot) else { continue };
            out.push(SessionRow {
                session,
                vserver: self.roster.vserver_named(session.vip, session.proto).map(|vserver| vserver.id),
                left: self.sessions.left(now, slot, since),
                flows: counts.get(slot as usize).copied().unwrap_or(0),
            });
        }
        *cursor = last;
        last == self.sessions.slots()
    }

    /// Ends sessions, and tells the peer: looks at `slots` slots from `cursor` (0 at first). True when the whole
    /// table was walked. Flows stay where they are.
    pub fn clear_sessions(&mut self, filter: &SessionFilter, cursor: &mut u32, slots: u32) -> bool {
        let last = self.sessions.slots().min(cursor.saturating_add(slots));
        for slot in *cursor..last {
            if let Some((session, _)) = self.sessions.record_at(slot)
                && self.is_meant(filter, &session)
            {
                self.sessions.free_slot(slot);
                self.tell_session_end(SessionKey::of_record(&session));
            }
        }
        *cursor = last;
        last == self.sessions.slots()
    }

    fn is_meant(&self, filter: &SessionFilter, session: &PersistenceRecord) -> bool {
        let vserver = filter.vserver.and_then(|id| self.roster.vserver(id));
        let its_own = |vserver| session_owner(vserver) == (session.vip, session.proto);
        if filter.vserver.is_some() && !vserver.is_some_and(its_own) {
            return false;
        }
        let Some(addr) = filter.addr else { return true };
        let owner = self.roster.vserver_named(session.vip, session.proto);
        let mask = owner.and_then(|vserver| vserver.persistence).map(|persistence| persistence.mask);
        let addr = mask.map_or(addr, |mask| mask.of(addr));
        [session.of.source(), session.of.destination()].contains(&Some(addr))
    }

    /// The timer of a persistence session has fired.
    pub(crate) fn expire_session(&mut self, now: Instant, slot: u32) {
        let running = self.gate != Gate::Closed;
        if let Some(key) = self.sessions.expire(now, slot, running, self.rebased_at) {
            self.tell_session_end(key);
        }
    }

    fn tell_session_end(&mut self, key: SessionKey) {
        let stamp = self.next_stamp();
        self.push_mark(Mark::Persistence(key.record(stamp, None)));
    }
}
