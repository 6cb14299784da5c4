//! Runs the mirror: which session, what goes into it, and what its end means.
//!
//! The primary starts a session when the peer joins. The session carries, in
//! this order: the shared configuration and service health; then, as bulk (a slice per
//! turn, behind everything urgent), flows that no peer was told of, persistence sessions
//! and the flows of the table; and at last the digest. The secondary has *caught up* when its own digest at
//! that position of the stream is equal.

use core::time::Duration;

use crate::resync::{Rate, Resync};
use holdfast_base::Instant;
use holdfast_engine::{
    BUCKETS_PER_PART, BulkStep, Engine, FlowRecord, FlowRef, Mark, PARTS, PersistenceRecord, PersistenceStep,
};
use holdfast_mirror::wire::{self, Message, Summary, Told};
use holdfast_mirror::{
    Digest, HealthRecord, Item, JournalKind, JournalLine, Kept, KindCounts, Limits, Receiver, RecordKind, Sender,
    Source, WireError,
};

/// Table slots looked at per turn during a bulk transfer, or for an offer: far below a millisecond.
pub(crate) const BULK_SLOTS_PER_TURN: u32 = 2048;
/// Datagrams written per turn at most; the rest follows in the next turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Stale flows looked at per turn after a bulk transfer.
const SWEEP_SLOTS_PER_TURN: u32 = 1024;
/// Time between two digests in a stream that says something: a difference is
/// found within a second.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the flows wait for the peer's summary: several rounds of it.
const SUMMARY_PATIENCE: Duration = Duration::from_millis(100);
/// A session that was of use for so long is not held against the next.
const FORGIVEN_AFTER: Duration = Duration::from_secs(1);
/// How long every path is used after one was found not to answer: whoever tries
/// it again waits for it again.
const DETOUR: Duration = Duration::from_secs(1);
/// In a request for a session: there is none. Sessions count from 1.
pub(crate) const NO_SESSION: u32 = 0;
/// Time between two requests for another session.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// Longest pause before the first request, when sessions are of no use again
/// and again: another one costs the primary a walk over its table.
const MAX_ASK_PAUSE: Duration = Duration::from_secs(5);

/// Where the bulk transfer of the running session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bulk {
    /// No session, or all of it has been pushed.
    Idle,
    /// Walking the flow table for what no peer was ever told of.
    Untold(u32),
    /// Walking the persistence table.
    Persistence(u32),
    /// Waiting until then for what the peer has already.
    Summary(Instant),
    /// Waiting until the peer has stored what was decided about its summary: all
    /// below this position of the stream.
    Kept(u64),
    /// Walking the flow table.
    Flows(u32),
}

/// Both ends of the mirror stream, of which one is in use at a time.
pub(crate) struct Mirroring {
    pub sender: Sender,
    pub receiver: Receiver,
    bulk: Bulk,
    /// Parts of the peer's summary that were compared, bit by bit.
    compared: u64,
    last_session: u32,
    /// The peer's boot whose sessions are counted, and the latest of them that began
    /// here: one that was begun and forgotten is never taken up in the middle.
    begun: Option<(u64, u32)>,
    /// A whole configuration on its way.
    snapshot: Option<Snapshot>,
    /// Snapshots of the configuration that were longer than the limit.
    snapshots_refused: u64,
    sweeping: bool,
    /// Flows of this node's own are being offered: they must not be swept yet.
    sweep_waits: bool,
    caught_up: bool,
    /// When to complain next about the running session, if it is to be.
    complaint: Option<Instant>,
    /// Pause before a complaint: grows while one session after the other ends in one.
    pause: Duration,
    /// Since when the running session has been of use.
    equal_since: Option<Instant>,
    /// As primary: when the next digest is due, and the records written before the last one.
    next_check: Option<Instant>,
    checked_records: u64,
    checked_journal: u64,
    /// As secondary: when the digests were equal last, at what, and the records read by then.
    agreed: Option<(Instant, Digest, u64)>,
    /// A flow of the running session found no room.
    full: bool,
    /// As primary: the peer found no room for the session that ran last.
    peer_full: bool,
    /// Without a session: how far the flows of vservers that are not STATEFUL any more are forgotten.
    retracting: Option<u32>,
    /// The latest transfer of the whole state.
    resync: Option<Resync>,
    rate: Rate,
    /// Copies that the receiver had been sent as of the last look.
    copies: u64,
    /// Data, or acknowledgements, take every path until then.
    data_detour: Detour,
    ack_detour: Detour,
    mismatches: u64,
    restarts: u64,
}

/// What the receiver must do with a journal line.
pub(crate) enum JournalStep {
    /// Wait for more.
    Wait,
    /// Replace the shared configuration by these commands.
    Replace {
        /// What was said at the beginning of them.
        heading: String,
        /// The commands.
        lines: Vec<String>,
    },
    /// Carry out this command.
    Apply(String),
    /// The snapshot was longer than any that a sender would write: nothing of it is used.
    TooLong,
}

/// The primary's whole configuration while it is being received.
#[derive(Debug, Default)]
struct Snapshot {
    /// What was said at its beginning.
    heading: String,
    lines: Vec<String>,
    bytes: usize,
    too_long: bool,
}

impl Snapshot {
    /// Keeps a line, within what a sender could have queued.
    fn push(&mut self, line: String) {
        let limits = Limits::default();
        self.bytes = self.bytes.saturating_add(line.len());
        self.too_long |= self.bytes > limits.journal_bytes as usize || self.lines.len() >= limits.urgent as usize;
        if self.too_long {
            self.lines = Vec::new();
        } else {
            self.lines.push(line);
        }
    }
}

impl Mirroring {
    pub fn new() -> Mirroring {
        Mirroring {
            sender: Sender::new(Limits::default()),
            receiver: Receiver::new(Limits::default()),
            bulk: Bulk::Idle,
            compared: 0,
            last_session: 0,
            begun: None,
            snapshot: None,
            snapshots_refused: 0,
            sweeping: false,
            sweep_waits: false,
            caught_up: false,
            complaint: None,
            pause: Duration::ZERO,
            equal_since: None,
            next_check: None,
            checked_records: 0,
            checked_journal: 0,
            agreed: None,
            full: false,
            peer_full: false,
            retracting: None,
            resync: None,
            rate: Rate::default(),
            copies: 0,
            data_detour: Detour::default(),
            ack_detour: Detour::default(),
            mismatches: 0,
            restarts: 0,
        }
    }

    /// Begins a session towards the peer with the whole shared state queued.
    /// Returns its number.
    pub fn start_session(
        &mut self,
        now: Instant,
        heading: String,
        lines: Vec<String>,
        health: Vec<HealthRecord>,
    ) -> u32 {
        self.last_session += 1;
        self.sender.start(now, self.last_session);
        self.push_config(heading, lines);
        for record in health {
            self.sender.push(Item::Health(record));
        }
        self.bulk = Bulk::Untold(0);
        // The bulk looks at every flow, and forgets what a walk without a session would have.
        self.retracting = None;
        self.peer_full = false;
        self.compared = 0;
        self.resync = Some(Resync::new(now, self.last_session, self.flows_written(now)));
        self.last_session
    }

    /// As primary: `count` holds had ended without an acknowledgement when the session began.
    pub fn note_released(&mut self, count: u64) {
        if let Some(resync) = &mut self.resync {
            resync.released_before = count;
        }
    }

    /// As primary: walks the flow table once more, since another kind of flow is to be mirrored. (A
    /// secondary forgets flows when the primary says so, or its digest would run ahead.)
    pub fn rescan(&mut self) {
        if !self.sender.is_active() {
            self.retracting = Some(0);
        } else if self.bulk == Bulk::Idle {
            self.bulk = Bulk::Flows(0);
        } else if let Bulk::Flows(cursor) = &mut self.bulk {
            *cursor = 0;
        }
    }

    /// Ends the session towards the peer.
    pub fn stop_session(&mut self) {
        self.sender.stop();
        if self.bulk != Bulk::Idle {
            // What it has not come to is not mirrored any more all the same.
            self.retracting = Some(0);
        }
        self.bulk = Bulk::Idle;
        self.peer_full = false;
    }

    /// Queues a whole configuration; `heading` says what about it.
    pub fn push_config(&mut self, heading: String, lines: Vec<String>) {
        self.push_line(JournalKind::Begin, heading);
        for line in lines {
            self.push_line(JournalKind::Line, line);
        }
        self.push_line(JournalKind::End, String::new());
    }

    /// Queues a journal line. The configuration refuses commands that would be
    /// too long for one ([`holdfast_config::MAX_LINE`]).
    pub fn push_line(&mut self, kind: JournalKind, text: String) {
        let line = JournalLine::new(kind, text).expect("a command that was accepted fits a journal line");
        self.sender.push(Item::Journal(line));
    }

    /// Queues marks and a slice of the bulk.
    pub fn collect(&mut self, now: Instant, engine: &mut Engine) {
        if !self.sender.is_active() {
            return self.retract(engine);
        }
        // What bulk finds leaves marks behind: the digest at its end must not be written before them.
        self.collect_bulk(now, engine);
        while self.sender.wants_marks() {
            match engine.poll_mark() {
                Some(Mark::Flow(flow)) => self.sender.push(Item::Flow(flow)),
                Some(Mark::Closed(flow, close)) => self.sender.push(Item::Close(flow, close)),
                Some(Mark::Persistence(record)) => self.sender.push(Item::Persistence(record)),
                None => break,
            }
        }
    }

    /// As primary: an acknowledgement or a part of the summary came from the peer.
    pub fn handle_answer(&mut self, now: Instant, engine: &mut Engine, payload: &[u8]) -> Result<(), WireError> {
        let (message, _) = wire::peek(payload)?;
        match message {
            Message::Summary => self.handle_summary(engine, payload),
            Message::Ack | Message::Data => {
                self.sender.handle_ack(now, payload, &mut |flow, stamp| engine.handle_ack(now, flow, stamp))
            }
        }
    }

    /// The peer tells what it began the running session with. The buckets in
    /// which both have the same need not be written.
    fn handle_summary(&mut self, engine: &mut Engine, payload: &[u8]) -> Result<(), WireError> {
        let Summary { session, told } = wire::decode_summary(payload)?;
        let awaited = match self.bulk {
            Bulk::Untold(_) | Bulk::Persistence(_) | Bulk::Summary(_) => true,
            // Flows are told by what was decided until then; what is decided later the peer would hear too late.
            Bulk::Kept(_) | Bulk::Flows(_) | Bulk::Idle => false,
        };
        if self.sender.session() != Some(session) || !awaited {
            return Ok(());
        }
        match told {
            Told::Part { part, digests } => self.compare_part(engine, part, &digests),
            Told::Nothing => {
                for part in 0..PARTS as u8 {
                    self.compare_part(engine, part, &[0; BUCKETS_PER_PART]);
                }
            }
        }
        Ok(())
    }

    fn compare_part(&mut self, engine: &mut Engine, part: u8, theirs: &[u64; BUCKETS_PER_PART]) {
        let bit = 1 << part;
        if self.compared & bit == 0 {
            self.compared |= bit;
            let buckets = engine.compare_summary(part.into(), theirs);
            self.sender.push(Item::Kept(Kept { part, buckets }));
        }
    }

    /// Writes the next datagrams' payloads, each handed to `send`.
    pub fn transmit(&mut self, now: Instant, engine: &mut Engine, journal: u64, send: impl FnMut(&[u8])) {
        transmit(&mut self.sender, now, &mut EngineSource(engine, journal), send);
    }

    /// Whether another turn should follow at once: bulk or stale flows are left.
    pub fn is_busy(&self, now: Instant) -> bool {
        let goes_on = match self.bulk {
            Bulk::Idle => false,
            Bulk::Summary(until) => (self.has_summary() || until <= now) && self.sender.written().is_some(),
            Bulk::Kept(position) => self.sender.stored_below() >= position,
            Bulk::Untold(_) | Bulk::Persistence(_) | Bulk::Flows(_) => true,
        };
        let walking = goes_on && self.sender.wants_bulk();
        self.sweeping && !self.sweep_waits || walking || self.retracting.is_some() || self.receiver.is_ready()
    }

    /// When something is due here, if nothing else happens.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let bulk = match self.bulk {
            // Later on it waits for what is before it, as all that is bulk.
            Bulk::Summary(until) => Some(until).filter(|&until| until > now),
            Bulk::Idle | Bulk::Untold(_) | Bulk::Persistence(_) | Bulk::Kept(_) | Bulk::Flows(_) => None,
        };
        [self.sender.poll_timeout(), self.receiver.poll_timeout(), self.complaint, bulk].into_iter().flatten().min()
    }

    /// As primary: whether the peer has stored all that is to be told to it. A walk under way may find more.
    pub fn is_drained(&self) -> bool {
        self.bulk == Bulk::Idle && self.retracting.is_none() && self.sender.is_drained()
    }

    /// As primary: the position behind all that stood in the tables, and everything urgent, if it has been written.
    pub fn bulk_written(&self) -> Option<u64> {
        self.sender.written_whole().filter(|_| self.sender.is_active() && self.bulk == Bulk::Idle)
    }

    /// Whether all of the peer's summary was compared.
    fn has_summary(&self) -> bool {
        self.compared == u64::MAX
    }

    /// Whether a datagram of the peer's life `boot` begins another session.
    pub fn begins(&self, boot: u64, session: u32) -> bool {
        !self.begun.is_some_and(|(known, latest)| known == boot && session <= latest)
    }

    /// Begins to receive a session, with what `engine` has of earlier ones.
    pub fn begin(&mut self, now: Instant, boot: u64, session: u32, engine: &mut Engine) {
        self.stop_receiving();
        self.receiver.start(session);
        engine.begin_session(session);
        let has = engine.has_summary();
        self.receiver.offer(if has { (0..PARTS).flat_map(|part| engine.summary(part)).collect() } else { Vec::new() });
        self.begun = Some((boot, session));
        self.resync = Some(Resync::new(now, session, self.flows_read()));
    }

    /// Ends reception: this node follows nobody.
    pub fn stop_receiving(&mut self) {
        self.receiver.stop();
        self.retracting = None;
        self.snapshot = None;
        self.caught_up = false;
        self.sweeping = false;
        self.complaint = None;
        self.full = false;
        self.equal_since = None;
        self.agreed = None;
    }

    /// Sorts a journal line: part of a snapshot, the end of one, or a single command.
    pub fn journal(&mut self, line: JournalLine) -> JournalStep {
        match (line.kind(), &mut self.snapshot) {
            (JournalKind::Begin, snapshot) => {
                *snapshot = Some(Snapshot { heading: line.into_text(), ..Snapshot::default() });
                JournalStep::Wait
            }
            (JournalKind::Line, Some(snapshot)) => {
                snapshot.push(line.into_text());
                JournalStep::Wait
            }
            (JournalKind::Line, None) => JournalStep::Apply(line.into_text()),
            (JournalKind::End, snapshot) => match snapshot.take() {
                Some(Snapshot { too_long: true, .. }) => {
                    self.snapshots_refused += 1;
                    JournalStep::TooLong
                }
                Some(Snapshot { heading, lines, .. }) => JournalStep::Replace { heading, lines },
                // The end of something that never began.
                None => JournalStep::Wait,
            },
        }
    }

    /// The stream's digest has arrived; `ours` is this node's at the same
    /// position. True when the node has caught up by it: it has the flows. Whether it
    /// has the configuration is another question (`sync.rs`).
    pub fn compare(&mut self, now: Instant, theirs: Digest, ours: Digest) -> bool {
        // After a complaint the session is not complete, whatever its digest says.
        let equal = same_flows(theirs, ours) && self.complaint.is_none();
        if equal {
            self.sweeping |= !self.caught_up;
            self.caught_up = true;
            self.equal_since.get_or_insert(now);
            self.agreed = Some((now, ours, told(&self.receiver.stats().records)));
            let records = self.flows_read();
            if let Some(resync) = &mut self.resync {
                resync.end(now, theirs.flows, records);
            }
        }
        equal
    }

    /// As secondary: whether `ours` has changed although the primary has said
    /// nothing since the digests were equal.
    pub fn has_drifted(&self, ours: Digest) -> bool {
        let agreed = self.agreed.filter(|(_, _, read)| self.caught_up && *read == told(&self.receiver.stats().records));
        agreed.is_some_and(|(_, digest, _)| !same_flows(digest, ours))
    }

    /// As primary: follows what was written by a digest, so that the peer notices
    /// if it does not hold the same. A stream that says nothing stays silent.
    /// `journal`: fingerprint of the configuration.
    pub fn push_check(&mut self, now: Instant, journal: u64) {
        if !self.sender.is_active() || self.bulk != Bulk::Idle || self.next_check.is_some_and(|at| now < at) {
            return;
        }
        self.next_check = Some(now + CHECK_INTERVAL);
        let written = told(&self.sender.stats(now).records);
        if (written, journal) != (self.checked_records, self.checked_journal) {
            (self.checked_records, self.checked_journal) = (written, journal);
            self.sender.push_bulk(Item::BulkEnd);
        }
    }

    /// As primary: the next digest is due at once.
    pub fn check_soon(&mut self) {
        self.next_check = None;
    }

    /// The running session has not told everything, or not everything could be
    /// used. True if that is news.
    pub fn dissent(&mut self, now: Instant) -> bool {
        self.caught_up = false;
        self.sweeping = false;
        if self.complaint.is_some() || self.receiver.session().is_none() {
            return false;
        }
        self.mismatches += 1;
        if self.equal_since.take().is_some_and(|since| now.since(since) >= FORGIVEN_AFTER) {
            self.pause = Duration::ZERO;
        }
        self.complaint = Some(now + self.pause);
        self.pause = (self.pause * 2).clamp(ASK_INTERVAL, MAX_ASK_PAUSE);
        true
    }

    /// A flow of the running session found no room: nothing more of it is
    /// acknowledged, so that the primary does not take for protected what is not.
    /// True if that is news.
    pub fn note_full(&mut self) -> bool {
        !core::mem::replace(&mut self.full, true)
    }

    /// The session of which a flow found no room, 0: none.
    pub fn full_session(&self) -> u32 {
        self.receiver.session().filter(|_| self.full).unwrap_or(0)
    }

    /// As primary: the peer has found no room for the session that has just been stopped.
    pub fn note_peer_full(&mut self) {
        self.peer_full = true;
    }

    /// As primary: whether no session runs because the peer has no room for one.
    pub fn is_peer_full(&self) -> bool {
        self.peer_full && !self.sender.is_active()
    }

    /// Whether a flow of the running session found no room.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// This node follows a primary that may not know it, and go on in a session
    /// of which nothing is here any more: unless one begins soon, it asks for one.
    pub fn await_session(&mut self, now: Instant) {
        self.complaint = Some(now + ASK_INTERVAL);
    }

    /// The session to complain about, if it is time to; [`NO_SESSION`] if none runs.
    pub fn poll_complaint(&mut self, now: Instant) -> Option<u32> {
        self.complaint.filter(|&due| due <= now)?;
        self.complaint = Some(now + ASK_INTERVAL);
        Some(self.receiver.session().unwrap_or(NO_SESSION))
    }

    /// As primary: whether a request for another session than `asked` is due. A
    /// peer without a session may not have heard of the one that has just begun.
    /// `patience`: time for the session's first datagrams to arrive by some path.
    pub fn must_restart(&self, now: Instant, asked: u32, patience: Duration) -> bool {
        let Some(session) = self.sender.session() else { return self.peer_full };
        let settled = self.resync.is_some_and(|resync| now.since(resync.began) > patience.max(ASK_INTERVAL));
        asked == session || (asked == NO_SESSION && settled)
    }

    /// Whether data must take every path: the peer has left, or left a moment ago,
    /// something unacknowledged for so long that the path may be dead.
    pub fn note_unanswered(&mut self, now: Instant, hello: Duration) -> bool {
        let patience = hello.max(self.sender.round_trip() * 4);
        let unanswered = self.sender.oldest_unacked(now).is_some_and(|age| age > patience);
        self.data_detour.note(now, unanswered)
    }

    /// Whether acknowledgements must: copies of what was here already have come
    /// since the last call, or came a moment ago. Our acknowledgements may not arrive.
    pub fn note_copies(&mut self, now: Instant) -> bool {
        let before = core::mem::replace(&mut self.copies, self.receiver.stats().duplicates);
        let hears_copies = self.copies > before;
        self.ack_detour.note(now, hears_copies)
    }

    /// Times that data, and that acknowledgements, began to take every path.
    pub fn detours(&self) -> [u64; 2] {
        [self.data_detour.begun, self.ack_detour.begun]
    }

    /// As primary: the peer says whether it holds all of the running session. True
    /// if it did and does not any more: what it has acknowledged may be gone.
    pub fn note_synced(&mut self, now: Instant, synced: bool, flows: u64) -> bool {
        let written = self.flows_written(now);
        let Some(resync) = self.resync.as_mut().filter(|_| self.sender.is_active()) else { return false };
        if synced {
            resync.end(now, flows, written);
        }
        !synced && resync.took().is_some()
    }

    /// The latest transfer of the whole state, either way.
    pub fn resync(&self) -> Option<&Resync> {
        self.resync.as_ref()
    }

    /// Flow records written (as primary) or read so far.
    pub fn flow_records(&self, now: Instant) -> u64 {
        if self.sender.is_active() { self.flows_written(now) } else { self.flows_read() }
    }

    fn flows_read(&self) -> u64 {
        self.receiver.stats().records.get(RecordKind::Flow)
    }

    fn flows_written(&self, now: Instant) -> u64 {
        self.sender.stats(now).records.get(RecordKind::Flow)
    }

    /// Measures the traffic of the stream; to be called now and then.
    pub fn note_traffic(&mut self, now: Instant) {
        if self.rate.is_due(now) {
            self.rate.note(now, self.sender.stats(now).bytes + self.receiver.stats().bytes);
        }
    }

    /// Bytes of the stream per second, before the envelope.
    pub fn traffic(&self) -> u64 {
        self.rate.per_second()
    }

    /// As secondary: when the digests were equal last in the running session.
    pub fn agreed_at(&self) -> Option<Instant> {
        self.agreed.map(|(at, ..)| at)
    }

    /// As secondary: whether the running session was found to be of no use.
    pub fn differs(&self) -> bool {
        self.complaint.is_some() && self.receiver.session().is_some()
    }

    /// Whether this node holds all that the primary had.
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }

    /// Forgets a slice of the flows that the primary no longer has.
    pub fn sweep(&mut self, engine: &mut Engine) {
        if self.sweeping && !self.sweep_waits {
            self.sweeping = !engine.sweep_stale(SWEEP_SLOTS_PER_TURN);
        }
    }

    /// Whether what the primary does not have may be forgotten.
    pub fn let_sweep(&mut self, may: bool) {
        self.sweep_waits = !may;
    }

    /// As secondary: configurations of the primary that were longer than the limit.
    pub fn snapshots_refused(&self) -> u64 {
        self.snapshots_refused
    }

    /// As secondary: sessions that this node could not use.
    pub fn failures(&self) -> u64 {
        self.mismatches
    }

    /// As primary: sessions started again although the peer was there all the time.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Counts a session that had to be started again.
    pub fn note_restart(&mut self) {
        self.restarts += 1;
    }

    /// Without a session: a slice of the walk that finds flows which are not mirrored any more.
    fn retract(&mut self, engine: &mut Engine) {
        let Some(mut cursor) = self.retracting.take() else { return };
        let last = cursor.saturating_add(BULK_SLOTS_PER_TURN);
        while cursor < last {
            let slots = last - cursor;
            if engine.next_for_bulk(&mut cursor, slots) == BulkStep::Done {
                return;
            }
        }
        self.retracting = Some(cursor);
    }

    fn collect_bulk(&mut self, now: Instant, engine: &mut Engine) {
        let mut slots = BULK_SLOTS_PER_TURN;
        while slots > 0 && self.sender.wants_bulk() {
            match self.bulk {
                Bulk::Idle => return,
                Bulk::Untold(from) => {
                    let mut cursor = from;
                    let step = engine.next_untold(&mut cursor, slots);
                    self.bulk = self.take(step, Bulk::Untold(cursor), Bulk::Persistence(0));
                    slots = slots.saturating_sub((cursor - from).max(1));
                }
                Bulk::Persistence(mut cursor) => match engine.persistence_for_bulk(&mut cursor, slots) {
                    PersistenceStep::Session(record) => {
                        slots -= 1;
                        self.sender.push_bulk(Item::Persistence(record));
                        self.bulk = Bulk::Persistence(cursor);
                    }
                    PersistenceStep::Scanned => return self.bulk = Bulk::Persistence(cursor),
                    PersistenceStep::Done => self.bulk = Bulk::Summary(now + SUMMARY_PATIENCE),
                },
                Bulk::Summary(until) if now < until && !self.has_summary() => return,
                Bulk::Summary(_) => match self.sender.written() {
                    Some(position) => self.bulk = Bulk::Kept(position),
                    None => return,
                },
                Bulk::Kept(position) if self.sender.stored_below() < position => return,
                Bulk::Kept(_) => self.bulk = Bulk::Flows(0),
                Bulk::Flows(from) => {
                    let mut cursor = from;
                    let step = engine.next_for_bulk(&mut cursor, slots);
                    self.bulk = self.take(step, Bulk::Flows(cursor), Bulk::Idle);
                    slots = slots.saturating_sub((cursor - from).max(1));
                    if self.bulk == Bulk::Idle {
                        self.sender.push_bulk(Item::BulkEnd);
                    }
                }
            }
        }
    }

    /// Takes what a step of a walk over the flow table has found; where the bulk
    /// stands: the walk goes `on`, or is over and something else follows.
    fn take(&mut self, step: BulkStep, on: Bulk, then: Bulk) -> Bulk {
        match step {
            BulkStep::Flow(flow) => self.sender.push_bulk(Item::Flow(flow)),
            BulkStep::Kept | BulkStep::Scanned => {}
            BulkStep::Done => return then,
        }
        on
    }
}

/// A time in which every path is used.
#[derive(Clone, Copy, Debug, Default)]
struct Detour {
    until: Option<Instant>,
    begun: u64,
}

impl Detour {
    /// Begins one, or prolongs it, if there is `cause`; whether one is under way.
    fn note(&mut self, now: Instant, cause: bool) -> bool {
        let under_way = self.until.is_some_and(|until| now < until);
        if cause {
            self.begun += u64::from(!under_way);
            self.until = Some(now + DETOUR);
        }
        under_way || cause
    }
}

/// Writes the payloads of a turn, each handed to `send`.
pub(crate) fn transmit(sender: &mut Sender, now: Instant, source: &mut impl Source, mut send: impl FnMut(&[u8])) {
    let mut payload = Vec::new();
    for _ in 0..DATAGRAMS_PER_TURN {
        if !sender.poll_transmit(now, source, &mut payload) {
            break;
        }
        send(&payload);
    }
}

/// Whether two digests tell of the same flows.
fn same_flows(one: Digest, other: Digest) -> bool {
    (one.digest, one.flows) == (other.digest, other.flows)
}

/// Records that change something.
fn told(records: &KindCounts) -> u64 {
    records.total() - records.get(RecordKind::BulkEnd)
}

/// The engine as the sender reads it while it writes a datagram.
struct EngineSource<'a>(&'a mut Engine, u64);

impl Source for EngineSource<'_> {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        self.0.record(flow)
    }

    fn is_current(&self, session: &PersistenceRecord) -> bool {
        self.0.is_current(session)
    }

    fn tail(&self, flow: FlowRef) -> &[u8] {
        self.0.tail(flow)
    }

    fn digest(&mut self) -> Digest {
        own_digest(self.0, self.1)
    }
}

/// The digest of the flows written or applied in the running session, and of
/// the configuration.
pub(crate) fn own_digest(engine: &Engine, journal: u64) -> Digest {
    Digest { digest: engine.digest(), flows: u64::from(engine.counts().in_session), journal }
}

#[cfg(test)]
mod tests;
