//! The mirror stream as this node lives it: sessions, records, digests, health.

use core::time::Duration;
use holdfast_base::Instant;
use std::collections::BTreeSet;

use holdfast_config::{self as config, Config, Replacement, Scope};
use holdfast_engine::{Applied, FlowRecord, ServiceId};
use holdfast_ha::Role;
use holdfast_mirror::{Digest, HealthRecord, JournalKind, Record};

use crate::effect::{Effect, Level};
use crate::envelope::MessageKind;
use crate::mirroring::{self, JournalStep};
use crate::node::Node;
use crate::sync::Heading;
use crate::{lower, offer, promote};

/// Lines of the primary's configuration applied in one turn.
const LINES_PER_TURN: usize = 64;
/// Records applied, or offered flows judged, in one turn: less than a millisecond. What is left follows in the next.
pub(crate) const RECORDS_PER_TURN: usize = 512;
/// Lines that go with a synchronisation and are told one by one.
const LINES_TOLD: usize = 20;

impl Node {
    /// Starts a mirror session with the peer that is there.
    pub(crate) fn start_session(&mut self, now: Instant) {
        if self.peer_in_quarantine() || !self.gets_on_with_peer() {
            // Nothing waits for who takes nothing.
            return self.stop_session(now);
        }
        self.overflow.settle();
        let (heading, lines) = (self.heading(false, false), self.config.lines(Scope::Shared));
        let health = self.health_records();
        self.propagations.begin_session();
        let session = self.mirroring.start_session(now, heading, lines, health);
        self.note_apart(now);
        self.ha.set_synced_session(session);
        self.engine.set_mirroring(now, promote::engine_mirroring(Some(session), self.is_strict()));
        self.mirroring.note_released(self.engine.counters().hold_released_unprotected);
    }

    /// Starts another session although the peer was there all the time.
    pub(crate) fn restart_session(&mut self, now: Instant, why: &str) {
        self.mirroring.note_restart();
        self.event(Level::Warn, why.into());
        self.start_session(now);
    }

    fn is_strict(&self) -> bool {
        self.config.ha().mirror_mode == config::MirrorMode::Strict
    }

    /// The peer's hello names the session that it has no room for, 0: none. It
    /// acknowledges nothing more of it, and what it has acknowledged may have found no
    /// room either: the session ends, and with it every hold. The peer asks for another one.
    pub(crate) fn hear_full(&mut self, now: Instant, session: u32) {
        if session == mirroring::NO_SESSION || self.mirroring.sender.session() != Some(session) {
            return;
        }
        self.sessions_without_room += 1;
        self.event(
            Level::Warn,
            "the peer has no room for all flows (--max-flows there): nothing waits for it; flows are unprotected until it asks for another session".into(),
        );
        self.stop_session(now);
        self.mirroring.note_peer_full();
    }

    /// A flow of the primary found no room here: nothing must wait for us. The next
    /// turn's end tells it.
    fn note_full(&mut self, now: Instant, why: &str) {
        self.full_untold |= self.mirroring.note_full();
        self.dissent(now, why);
    }

    /// Tells the primary at once that its session has found no room.
    pub(crate) fn tell_full(&mut self, now: Instant) {
        if core::mem::take(&mut self.full_untold) && self.ha.role() == Role::Secondary {
            self.ha.speak(now);
            self.drain_ha(now);
        }
    }

    /// Mirror mode and hold limit as they are set count from here on; holds go on or end.
    pub(crate) fn follow_mirror_settings(&mut self, now: Instant) {
        self.engine.set_hold_limit(now, Duration::from_millis(self.config.ha().hold_limit_ms.into()));
        if let Some(session) = self.mirroring.sender.session() {
            self.engine.set_mirroring(now, promote::engine_mirroring(Some(session), self.is_strict()));
        }
    }

    /// Ends the mirror session; holds end with it.
    pub(crate) fn stop_session(&mut self, now: Instant) {
        self.overflow.settle();
        self.mirroring.stop_session();
        self.abandon_propagations();
        self.engine.set_mirroring(now, promote::engine_mirroring(None, false));
    }

    /// Applies the records that the receiver has ready, in order. A whole
    /// configuration is applied in slices; what follows it waits.
    pub(crate) fn apply_records(&mut self, now: Instant) {
        if !self.continue_replacing(now, LINES_PER_TURN) {
            return;
        }
        let Some(session) = self.mirroring.receiver.session() else { return };
        for _ in 0..RECORDS_PER_TURN {
            let Some(record) = self.mirroring.receiver.poll_record() else { return };
            self.onlooker.see(now, &record);
            if !matches!(record, Record::Journal(_)) {
                self.settle_config(now);
            }
            match record {
                Record::Flow(flow) => self.apply_flow(now, &flow, session),
                Record::Close(close) => self.engine.apply_close(now, &close, session),
                Record::CloseNumber { number, stamp } => self.engine.apply_close_number(now, number, stamp, session),
                Record::Persistence(persistence) => self.engine.apply_persistence(now, &persistence, session),
                Record::Health(health) => self.apply_health(now, &health),
                Record::Journal(line) => match self.mirroring.journal(line) {
                    JournalStep::Wait => {}
                    JournalStep::Replace { heading, lines } => {
                        self.settle_config(now);
                        self.begin_replacing(now, &heading, lines);
                        if !self.continue_replacing(now, LINES_PER_TURN) {
                            return;
                        }
                    }
                    JournalStep::Apply(line) => {
                        let line = self.as_understood(line);
                        self.apply_journal(now, &line);
                    }
                    JournalStep::TooLong => self.dissent(now, "the primary's configuration is longer than the limit"),
                },
                Record::BulkEnd(digest) => self.compare_digests(now, session, digest),
                Record::Kept(kept) => {
                    if !self.engine.keep_buckets(kept.part.into(), kept.buckets) {
                        self.note_full(now, "the table is full: a flow had to make room that the primary counts on");
                    }
                }
            }
        }
    }

    fn apply_flow(&mut self, now: Instant, flow: &FlowRecord, session: u32) {
        match self.engine.apply_record(now, flow, session) {
            Applied::Stored | Applied::Refreshed => {
                let key = flow.client_key();
                if !self.engine.set_tail(&key, self.mirroring.receiver.tail()) {
                    // Without it a successor would not know how the connection's numbers are shifted.
                    self.note_full(now, "what goes with a flow found no room");
                }
                if let Some(number) = self.mirroring.receiver.number() {
                    self.engine.set_number(&key, number);
                }
            }
            // The primary's stream is the pair's truth: what this node has newer will come again from there.
            Applied::Older(_) => {}
            Applied::Full => {
                self.note_full(now, "a flow found no room (is --max-flows the same on both nodes?)");
            }
        }
    }

    /// Applies everything that is stored, in this very turn: the node is about to
    /// lead, or another session begins. The receiver's buffer bounds it; it is all but
    /// empty unless a configuration is being taken over.
    pub(crate) fn apply_all_records(&mut self, now: Instant) {
        loop {
            self.continue_replacing(now, usize::MAX);
            self.apply_records(now);
            if self.replacing.is_none() && !self.mirroring.receiver.is_ready() {
                return self.settle_config(now);
            }
        }
    }

    /// What the primary's commands have changed takes effect, once for all that
    /// came in a turn.
    pub(crate) fn settle_config(&mut self, now: Instant) {
        if core::mem::take(&mut self.config_unsettled) {
            self.config_changed(now);
        }
    }

    /// The primary's whole configuration has come.
    fn begin_replacing(&mut self, now: Instant, heading: &str, lines: Vec<String>) {
        if !self.accepts_config(Heading::read(heading)) {
            return;
        }
        let lines = lines.into_iter().map(|line| self.as_understood(line)).collect();
        self.replacing = Replacement::begin(&self.config, lines);
        if self.replacing.is_none() {
            self.config_taken(now, None);
        }
    }

    /// Goes on with the primary's configuration, if one is being taken over.
    /// True when there is none left to do.
    pub(crate) fn continue_replacing(&mut self, now: Instant, lines: usize) -> bool {
        let Some(mut replacement) = self.replacing.take() else { return true };
        if !replacement.step(lines) {
            self.replacing = Some(replacement);
            return false;
        }
        let replaced = replacement.finish(&self.config);
        if replaced.config != self.config {
            self.tell_what_goes(&replaced.config);
            self.config = replaced.config.clone();
            self.config_changed(now);
            self.event(Level::Info, "configuration synchronised from the primary".into());
        }
        self.config_taken(now, Some(&replaced));
        true
    }

    /// Commands that were accepted here and that the primary does not have: typed
    /// at the losing side of a split, or in a file that differs.
    fn tell_what_goes(&mut self, next: &Config) {
        let kept: BTreeSet<String> = next.lines(Scope::Shared).into_iter().collect();
        let gone: Vec<String> =
            self.config.lines(Scope::Shared).into_iter().filter(|line| !kept.contains(line)).collect();
        for line in gone.iter().take(LINES_TOLD) {
            self.event(Level::Warn, format!("not in the primary's configuration, gone here: {line}"));
        }
        if gone.len() > LINES_TOLD {
            self.event(Level::Warn, format!("… and {} further lines", gone.len() - LINES_TOLD));
        }
    }

    /// What the other end of a stream answers: to the primary's, or to what its secondary offers.
    pub(crate) fn mirror_answer(&mut self, now: Instant, payload: &[u8]) {
        let taken = if self.ha.role() == Role::Secondary {
            self.offers.handle_ack(now, payload)
        } else {
            self.mirroring.handle_answer(now, &mut self.engine, payload)
        };
        self.payloads_refused += u64::from(taken.is_err());
        self.confirm_propagations();
    }

    /// The primary's stream, or what a secondary offers to this one. It counts only once this node follows that very
    /// primary: following forgets what was received before, and what was
    /// acknowledged would not come again.
    pub(crate) fn mirror_data(&mut self, now: Instant, from: (u64, u64), payload: &[u8]) {
        if self.ha.role() == Role::Primary {
            return self.hear_offer(now, from.0, payload);
        }
        if self.ha.role() != Role::Secondary || self.following != Some(from) {
            return;
        }
        if self.quarantine.refuses() || !self.gets_on_with_peer() {
            return;
        }
        let (boot, _) = from;
        let Ok((_, session)) = holdfast_mirror::wire::peek(payload) else {
            self.payloads_refused += 1;
            return;
        };
        if offer::is_offer(session) {
            return;
        }
        if self.mirroring.begins(boot, session) {
            // What lies beyond a gap of the old session was acknowledged: packets may be out on its strength.
            self.mirroring.receiver.salvage();
            self.apply_all_records(now);
            self.mirroring.begin(now, boot, session, &mut self.engine);
            self.sync.begin();
            self.ha.handle_caught_up(now, false);
        }
        if self.mirroring.receiver.handle_data(now, payload).is_err() {
            self.payloads_refused += 1;
        }
        self.apply_records(now);
    }

    fn compare_digests(&mut self, now: Instant, session: u32, theirs: Digest) {
        let ours = mirroring::own_digest(&self.engine, self.fingerprint);
        self.config_compared(now, theirs.journal == ours.journal, theirs.journal);
        let before = self.mirroring.caught_up();
        if self.mirroring.compare(now, theirs, ours) {
            if !before {
                self.ha.set_synced_session(session);
                self.ha.handle_caught_up(now, true);
                self.event(Level::Info, format!("caught up with session {session}: {} flows", theirs.flows));
                self.drain_ha(now);
            }
        } else {
            let text = format!("digests differ: {} flows there, {} here", theirs.flows, ours.flows);
            self.dissent(now, &text);
        }
    }

    /// Flows that went from here by themselves are asked for again.
    pub(crate) fn check_drift(&mut self, now: Instant) {
        let ours = mirroring::own_digest(&self.engine, self.fingerprint);
        if self.ha.role() == Role::Secondary && self.mirroring.has_drifted(ours) {
            self.dissent(now, &format!("digests differ: {} flows are left here", ours.flows));
        }
    }

    /// This node does not hold what the primary believes it does: it is not
    /// caught up, whatever it has acknowledged, and asks for another session.
    pub(crate) fn dissent(&mut self, now: Instant, why: &str) {
        if self.mirroring.dissent(now) {
            self.event(Level::Warn, format!("not caught up: {why}; asking for another session"));
        }
        self.ha.handle_caught_up(now, false);
        self.drain_ha(now);
    }

    /// Complains to the primary, again and again until another session begins.
    pub(crate) fn complain(&mut self, now: Instant) {
        self.ask_for_config(now);
        if !self.gets_on_with_peer() {
            return;
        }
        if let Some(session) = self.mirroring.poll_complaint(now).filter(|_| self.quarantine.ends().is_none()) {
            let head = self.letterhead();
            self.channel.send(None, MessageKind::AskSession, head, &session.to_be_bytes());
        }
    }

    pub(crate) fn health_records(&self) -> Vec<HealthRecord> {
        let up = |id| self.health.service(id).is_some_and(|state| state.up);
        self.config
            .services()
            .filter_map(|service| {
                let (server, kind) = lower::service_identity(&self.config, service)?;
                Some(HealthRecord { server, kind, up: up(service.id) })
            })
            .collect()
    }

    fn apply_health(&mut self, now: Instant, record: &HealthRecord) {
        let matching = self.services_by_identity.get(&(record.server, record.kind)).cloned().unwrap_or_default();
        for id in matching {
            self.health.set_mirrored(now, id, record.up);
        }
        self.drain_health(now);
    }

    /// Changes of health go to selection, to the peer and to the log.
    pub(crate) fn drain_health(&mut self, now: Instant) {
        let mut changed = false;
        while let Some((id, up)) = self.health.poll_change() {
            changed = true;
            self.engine.set_health(now, ServiceId(id), up);
            let Some(service) = self.config.service_by_id(id) else { continue };
            let text = format!("service {} is {}", service.name, if up { "UP" } else { "DOWN" });
            if let Some((server, kind)) = lower::service_identity(&self.config, service)
                && self.mirroring.sender.is_active()
            {
                self.mirroring.sender.push(holdfast_mirror::Item::Health(HealthRecord { server, kind, up }));
            }
            self.event(Level::Info, text);
        }
        if changed {
            self.note_vservers(now);
        }
        while let Some((id, time)) = self.health.poll_response_time() {
            self.engine.set_response_time(ServiceId(id), time);
        }
        while let Some(probe) = self.health.poll_probe() {
            self.effects.push_back(Effect::Probe(probe));
        }
    }

    /// What was accepted here travels to the peer, unless an operator does not want it.
    pub(crate) fn journal(&mut self, line: String) {
        if self.mirroring.sender.is_active() && self.propagation_is_off().is_none() {
            self.mirroring.push_line(JournalKind::Line, line);
        }
    }
}
