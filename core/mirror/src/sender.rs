//! The primary's end of the stream.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::FlowRef;

use crate::flight::Flight;
use crate::names::{MAX_NAMES, Names};
use crate::pending::Pending;
use crate::record::{KindCounts, RecordKind};
use crate::wire::{self, DataWriter, ROOM_FOR_ANY};
use crate::{Item, Limits, MAX_NUMBERS, MAX_WINDOW, Source, WireError};

/// Flows looked up per call of [`Sender::poll_transmit`] at most: when very
/// many waiting flows are gone, finding that out is spread over turns.
const LOOKUPS: u32 = 1_024;

/// How long ends of flows may wait for something to travel with: nobody waits
/// for them, and a datagram of its own costs forty times an end.
const CLOSE_PATIENCE: Duration = Duration::from_millis(5);
/// So many of them are worth a datagram.
const MANY_CLOSES: usize = 128;

/// The sender's counters and measures. Counters grow over the life of the
/// process, across sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderStats {
    /// Datagrams written for the first time.
    pub datagrams: u64,
    /// Datagrams sent again.
    pub retransmits: u64,
    /// Of these, after three later ones had left and one of them was stored.
    pub fast_retransmits: u64,
    /// Retransmission time-outs.
    pub timeouts: u64,
    /// Payload bytes handed out, retransmissions included.
    pub bytes: u64,
    /// Records written, by kind.
    pub records: KindCounts,
    /// Flows that were gone when their datagram was written, and persistence sessions that had moved or ended.
    pub gone: u64,
    /// Acknowledgements taken.
    pub acks: u64,
    /// Acknowledgements of another session, ignored.
    pub stale_acks: u64,
    /// Turns in which writing stopped at the window.
    pub window_full: u64,
    /// Items lost to a full queue (each sets [`Sender::needs_restart`]).
    pub overflows: u64,
    /// Urgent items waiting to be written.
    pub urgent_waiting: u64,
    /// Bulk items waiting to be written.
    pub bulk_waiting: u64,
    /// Datagrams written and not acknowledged.
    pub in_flight: u64,
    /// Records written and not acknowledged.
    pub unacked_records: u64,
    /// Age of the oldest datagram that is not acknowledged.
    pub oldest_unacked: Option<Duration>,
    /// Smoothed round-trip time, microseconds; 0 before the first sample.
    pub rtt_us: u64,
    /// Smoothed time from first writing to acknowledgement, retransmissions
    /// included, microseconds: how far the peer lags behind.
    pub lag_us: u64,
}

/// Writes items into datagrams and keeps each until the peer has stored it.
#[derive(Debug)]
pub struct Sender {
    limits: Limits,
    session: Option<u32>,
    pending: Pending,
    flight: Flight,
    names: Names,
    /// When to go on with what was left: at once if the look-ups of a call ran out,
    /// later if only ends of flows wait.
    resume_at: Option<Instant>,
    /// Until when these may wait.
    closes_due: Option<Instant>,
    lag: Duration,
    stats: SenderStats,
}

impl Sender {
    /// A stopped sender. Panics on limits that contradict their documentation.
    pub fn new(limits: Limits) -> Sender {
        assert!((1..=MAX_WINDOW).contains(&limits.window), "the bitmap covers the window");
        assert!(limits.bulk_window >= 1 && limits.marks >= 1 && limits.bulk >= 1, "no queue may be stuck for ever");
        Sender {
            limits,
            session: None,
            pending: Pending::new(limits),
            flight: Flight::default(),
            names: Names::new(MAX_NAMES),
            resume_at: None,
            closes_due: None,
            lag: Duration::ZERO,
            stats: SenderStats::default(),
        }
    }

    /// Begins a session: everything queued or in flight of an earlier one is
    /// forgotten and [`Sender::needs_restart`] is cleared. `session` must
    /// differ from those used before towards this peer.
    pub fn start(&mut self, _now: Instant, session: u32) {
        self.stop();
        self.session = Some(session);
    }

    /// Ends the session and forgets everything queued or in flight.
    pub fn stop(&mut self) {
        self.session = None;
        self.pending = Pending::new(self.limits);
        self.flight.reset(self.limits.window);
        self.names.clear();
        self.resume_at = None;
        self.closes_due = None;
        self.lag = Duration::ZERO;
    }

    /// Whether a session runs.
    pub fn is_active(&self) -> bool {
        self.session.is_some()
    }

    /// The number of the running session.
    pub fn session(&self) -> Option<u32> {
        self.session
    }

    /// Whether the peer has stored everything that was pushed.
    pub fn is_drained(&self) -> bool {
        self.pending.is_empty() && self.flight.unacked_records() == 0
    }

    /// Position of the stream behind all urgent items, if all of them have been
    /// written: what was pushed so far is stored when [`Sender::stored_below`] reaches it.
    pub fn written(&self) -> Option<u64> {
        self.pending.urgent_is_drained().then(|| self.flight.next_seq())
    }

    /// As [`Sender::written`], behind all bulk items, too.
    pub fn written_whole(&self) -> Option<u64> {
        self.pending.is_empty().then(|| self.flight.next_seq())
    }

    /// The peer has stored every datagram below this position.
    pub fn stored_below(&self) -> u64 {
        self.flight.base()
    }

    /// Whether an item was lost to a full queue: the stream is not complete any
    /// more and the node must start another session. Until then no `BulkEnd` is
    /// written and further items are dropped; what was written stays valid.
    pub fn needs_restart(&self) -> bool {
        self.pending.overflowed()
    }

    /// Whether more marks may be taken from the engine. The node asks before
    /// each mark, and takes marks until there are none or this is false, before
    /// every [`Sender::poll_transmit`]: a digest is written only when every
    /// mark before it has been. True when stopped (items are then ignored).
    pub fn wants_marks(&mut self) -> bool {
        self.pending.wants_marks()
    }

    /// Queues an urgent item: marks, health, and the whole journal (snapshots
    /// included, since its order counts). Ignored when stopped.
    pub fn push(&mut self, item: Item) {
        if self.is_active() && !self.pending.push_urgent(item) {
            self.stats.overflows += 1;
        }
    }

    /// Whether there is room for more bulk items.
    pub fn wants_bulk(&self) -> bool {
        self.pending.wants_bulk()
    }

    /// Queues an item behind everything urgent: the flows and persistence
    /// sessions that exist at a session's start, and [`Item::BulkEnd`]. Ignored
    /// when stopped.
    pub fn push_bulk(&mut self, item: Item) {
        if self.is_active() && !self.pending.push_bulk(item) {
            self.stats.overflows += 1;
        }
    }

    /// Writes the next datagram's payload into `out` (cleared first), lost ones
    /// before fresh ones. False, with `out` empty, when there is nothing to send.
    pub fn poll_transmit(&mut self, now: Instant, source: &mut impl Source, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.resume_at = None;
        let Some(session) = self.session else { return false };
        if let Some(bytes) = self.flight.resend(now) {
            out.extend_from_slice(bytes);
            self.stats.retransmits += 1;
        } else if !self.write_fresh(now, session, source, out) {
            return false;
        }
        self.stats.bytes += out.len() as u64;
        true
    }

    fn write_fresh(&mut self, now: Instant, session: u32, source: &mut impl Source, out: &mut Vec<u8>) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        if self.flight.len() >= self.limits.window.into() || !self.flight.has_room() {
            self.stats.window_full += 1;
            return false;
        }
        if self.pending.has_only_closes(MANY_CLOSES) {
            let due = *self.closes_due.get_or_insert(now + CLOSE_PATIENCE);
            if now < due {
                self.resume_at = Some(due);
                return false;
            }
        }
        self.closes_due = None;
        let (mut bytes, mut flows) = self.flight.buffers();
        let first_name = self.names.next();
        let mut writing = Writing {
            writer: DataWriter::new(&mut bytes, session, self.flight.next_seq(), &mut self.names),
            flows: &mut flows,
            source,
            stats: &mut self.stats,
            lookups: LOOKUPS,
        };
        writing.fill(&mut self.pending, Queue::Urgent);
        let bulk_may = self.flight.len() < self.limits.bulk_window.into() && !self.flight.has_lost();
        if bulk_may && self.pending.urgent_is_drained() {
            writing.fill(&mut self.pending, Queue::Bulk);
        }
        let records = writing.writer.records();
        if writing.lookups == 0 {
            self.resume_at = Some(now);
        }
        if records == 0 {
            bytes.clear();
            self.flight.give_back(bytes, flows);
            return false;
        }
        out.extend_from_slice(&bytes);
        self.flight.push(now, (bytes, flows), records, first_name..self.names.next());
        self.stats.datagrams += 1;
        true
    }

    /// Takes an acknowledgement. `on_stored` is called exactly once for each
    /// record of a flow that was written, with its stamp, when the peer has it.
    /// An acknowledgement of another session is counted and ignored.
    pub fn handle_ack(
        &mut self,
        now: Instant,
        payload: &[u8],
        on_stored: &mut impl FnMut(FlowRef, u64),
    ) -> Result<(), WireError> {
        let ack = wire::decode_ack(payload)?;
        if self.session != Some(ack.session) {
            self.stats.stale_acks += 1;
            return Ok(());
        }
        let stored = self.flight.handle_ack(now, &ack, &mut self.names, on_stored)?;
        self.stats.acks += 1;
        self.stats.fast_retransmits += stored.lost;
        if let Some(lag) = stored.lag {
            self.lag = if self.lag.is_zero() { lag } else { self.lag * 7 / 8 + lag / 8 };
        }
        Ok(())
    }

    /// Declares datagrams lost whose time has come; harmless at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.flight.handle_timeout(now) {
            self.stats.timeouts += 1;
        }
    }

    /// When to call [`Sender::handle_timeout`] and [`Sender::poll_transmit`]
    /// next, if nothing else happens. `None` while nothing is in flight.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.flight.deadline(), self.resume_at) {
            (Some(deadline), Some(resume)) => Some(deadline.min(resume)),
            (deadline, resume) => deadline.or(resume),
        }
    }

    /// Age of the oldest datagram that is not acknowledged.
    pub fn oldest_unacked(&self, now: Instant) -> Option<Duration> {
        self.flight.oldest_unacked(now)
    }

    /// The smoothed round trip; zero before the first sample.
    pub fn round_trip(&self) -> Duration {
        self.flight.rtt().smoothed()
    }

    /// Counters and measures as of `now`.
    pub fn stats(&self, now: Instant) -> SenderStats {
        SenderStats {
            urgent_waiting: self.pending.urgent_len() as u64,
            bulk_waiting: self.pending.bulk_len() as u64,
            in_flight: self.flight.len() as u64,
            unacked_records: self.flight.unacked_records(),
            oldest_unacked: self.flight.oldest_unacked(now),
            rtt_us: micros(self.flight.rtt().smoothed()),
            lag_us: micros(self.lag),
            ..self.stats
        }
    }
}

/// The number under which a flow is closed again: its slot, which no other flow
/// has before its close is written.
fn number_of(flow: FlowRef) -> Option<u32> {
    Some(flow.slot).filter(|&slot| slot < MAX_NUMBERS)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Which queue a datagram is being filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Urgent,
    Bulk,
}

/// One datagram while it is being written.
struct Writing<'a, S> {
    writer: DataWriter<'a>,
    flows: &'a mut Vec<(FlowRef, u64)>,
    source: &'a mut S,
    stats: &'a mut SenderStats,
    lookups: u32,
}

impl<S: Source> Writing<'_, S> {
    /// Writes items from a queue until it is empty or the datagram is full.
    fn fill(&mut self, pending: &mut Pending, queue: Queue) {
        loop {
            if pending.partial.is_some() {
                if !self.continue_line(pending) {
                    return;
                }
                continue;
            }
            let front = match queue {
                Queue::Urgent => pending.front_urgent(),
                Queue::Bulk => pending.front_bulk(),
            };
            let fits = match front {
                Some(Item::Journal(_)) => true,
                Some(&Item::Flow(flow)) => self.lookups > 0 && self.writer.room() >= self.room_for(flow),
                Some(Item::Close(..) | Item::Persistence(_) | Item::Health(_) | Item::BulkEnd | Item::Kept(_)) => {
                    self.writer.room() >= ROOM_FOR_ANY
                }
                None => false,
            };
            if !fits {
                return;
            }
            let item = match queue {
                Queue::Urgent => pending.pop_urgent(),
                Queue::Bulk => pending.pop_bulk(),
            };
            if let Some(item) = item {
                self.write(item, pending);
            }
        }
    }

    fn room_for(&self, flow: FlowRef) -> usize {
        let tail = self.source.tail(flow).len();
        ROOM_FOR_ANY + if tail == 0 { 0 } else { tail + 1 }
    }

    fn write(&mut self, item: Item, pending: &mut Pending) {
        let kind = match item {
            Item::Flow(flow) => {
                self.lookups -= 1;
                let Some(record) = self.source.record(flow) else {
                    self.stats.gone += 1;
                    return;
                };
                self.writer.flow_with_tail(&record, number_of(flow), self.source.tail(flow));
                self.flows.push((flow, record.stamp));
                RecordKind::Flow
            }
            Item::Close(flow, close) => {
                match flow.and_then(number_of) {
                    Some(number) => self.writer.close_number(number, close.stamp),
                    None => self.writer.close(&close),
                }
                RecordKind::Close
            }
            Item::Persistence(record) => {
                if record.server.is_some() && !self.source.is_current(&record) {
                    self.stats.gone += 1;
                    return;
                }
                self.writer.persistence(&record);
                RecordKind::Persistence
            }
            Item::Health(record) => {
                self.writer.health(&record);
                RecordKind::Health
            }
            Item::Journal(line) => {
                pending.partial = Some((line, 0));
                RecordKind::Journal
            }
            Item::BulkEnd => {
                self.writer.bulk_end(&self.source.digest());
                RecordKind::BulkEnd
            }
            Item::Kept(kept) => {
                self.writer.kept(kept);
                RecordKind::Kept
            }
        };
        self.stats.records.add(kind);
    }

    /// Writes the next fragment of a begun line. False if none fits any more.
    fn continue_line(&mut self, pending: &mut Pending) -> bool {
        let Some((line, from)) = &mut pending.partial else { return true };
        match self.writer.journal(line.kind(), line.text(), *from) {
            Some(next) if next == line.text().len() => pending.partial = None,
            Some(next) => *from = next,
            None => return false,
        }
        true
    }
}
