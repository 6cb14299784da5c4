//! The secondary's end of the stream.

use std::collections::VecDeque;

use holdfast_base::Instant;

use crate::names::KnownNames;
use crate::record::{KindCounts, RecordKind};
use crate::summary::Offer;
use crate::wire::{self, Ack, Cursor, Entry, Fragment, MAX_BITMAP, MAX_TAIL};
use crate::{JournalKind, JournalLine, Limits, MAX_JOURNAL_TEXT, MAX_WINDOW, Record, WireError};

/// Buffers kept for re-use; about what one batch brings.
const SPARE: usize = 256;

/// The receiver's counters. They grow over the life of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverStats {
    /// Datagrams stored.
    pub datagrams: u64,
    /// Payload bytes stored.
    pub bytes: u64,
    /// Datagrams that were here already.
    pub duplicates: u64,
    /// Datagrams that arrived before an earlier one.
    pub out_of_order: u64,
    /// Datagrams of another session, ignored.
    pub stale: u64,
    /// Datagrams refused because the buffer was full.
    pub no_room: u64,
    /// Records yielded, by kind.
    pub records: KindCounts,
    /// Records and tail fields skipped because this version does not know them.
    pub unknown: u64,
    /// Payloads refused, by [`WireError::index`].
    pub refused: [u64; WireError::ALL.len()],
    /// Acknowledgements written.
    pub acks: u64,
    /// Datagrams stored and not yet yielded.
    pub waiting: u64,
    /// Datagrams thrown away unread by a start or stop; stays 0 if the node
    /// salvages before.
    pub forgotten: u64,
    /// Journal lines and digests beyond a gap that a salvage left out.
    pub salvage_skipped: u64,
}

/// What a salvage found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Datagrams that follow in order, before the first gap.
    pub in_order: u64,
    /// Datagrams beyond the first gap.
    pub beyond: u64,
    /// Datagrams known to be missing.
    pub missing: u64,
}

/// Stores datagrams, acknowledges them, and yields their records in order.
#[derive(Debug)]
pub struct Receiver {
    limit: u16,
    session: Option<u32>,
    /// Sequence number of the front of `slots`: the next to be read.
    next_read: u64,
    /// Everything below is stored; this one is not.
    cumulative: u64,
    /// Datagrams that are here, from `next_read` on; at most `limit`.
    slots: VecDeque<Option<Vec<u8>>>,
    names: KnownNames,
    /// The number of the flow yielded last.
    number: Option<u32>,
    /// The datagram being read.
    reading: Option<(Vec<u8>, Cursor)>,
    /// The journal line whose end has not been read.
    line: Option<(JournalKind, String)>,
    ack_owed: bool,
    offer: Offer,
    /// The room that the latest acknowledgement told.
    told_room: u16,
    mode: Mode,
    spare: Vec<Vec<u8>>,
    stats: ReceiverStats,
}

/// How far the reading may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Up to the first gap.
    InOrder,
    /// To the end; no gap has been passed yet.
    Salvaging,
    /// To the end; what depends on order is left out.
    BeyondGap,
}

impl Receiver {
    /// A stopped receiver. Panics if `limits.receive` is smaller than the window.
    pub fn new(limits: Limits) -> Receiver {
        assert!(limits.receive >= limits.window, "a whole window can be stored");
        Receiver {
            limit: limits.receive,
            session: None,
            next_read: 0,
            cumulative: 0,
            slots: VecDeque::new(),
            names: KnownNames::default(),
            number: None,
            reading: None,
            line: None,
            ack_owed: false,
            offer: Offer::default(),
            told_room: limits.receive,
            mode: Mode::InOrder,
            spare: Vec::new(),
            stats: ReceiverStats::default(),
        }
    }

    /// Begins a session at its first datagram. What was not yet yielded of an
    /// earlier one is forgotten, although it was acknowledged and packets may
    /// have been released on its account: the caller first takes it out, with
    /// [`Receiver::salvage`] and [`Receiver::poll_record`], and applies it under
    /// the session that it belongs to. [`ReceiverStats::forgotten`] counts what
    /// was thrown away nevertheless.
    pub fn start(&mut self, session: u32) {
        self.stop();
        self.session = Some(session);
    }

    /// Ends the session and forgets what was not yet yielded, as
    /// [`Receiver::start`] does.
    pub fn stop(&mut self) {
        self.session = None;
        self.stats.forgotten += self.stats.waiting;
        (self.next_read, self.cumulative) = (0, 0);
        self.slots.clear();
        self.names.clear();
        self.number = None;
        self.stats.waiting = 0;
        self.reading = None;
        self.line = None;
        self.ack_owed = false;
        self.offer.withdraw();
        self.told_room = self.limit;
        self.mode = Mode::InOrder;
    }

    /// What this node begins the running session with: the digest of each bucket,
    /// or nothing at all if it has none of the flows. The sender leaves out what
    /// it has the same.
    pub fn offer(&mut self, digests: Vec<u64>) {
        self.offer = Offer::new(digests);
    }

    /// Writes the next message of the summary into `out` (cleared first), until
    /// the sender has answered all of it.
    pub fn poll_summary(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(session) = self.session.filter(|_| self.mode == Mode::InOrder) else { return false };
        self.offer.poll(now, session, out)
    }

    /// When to call [`Receiver::poll_summary`] next, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.offer.poll_timeout().filter(|_| self.mode == Mode::InOrder)
    }

    /// The number of the running session.
    pub fn session(&self) -> Option<u32> {
        self.session
    }

    /// Takes a datagram's payload: checks all of it, stores it, and owes an
    /// acknowledgement. One of another session, or after [`Receiver::salvage`],
    /// is counted and ignored.
    pub fn handle_data(&mut self, _now: Instant, payload: &[u8]) -> Result<(), WireError> {
        let taken = self.take(payload);
        if let Err(error) = taken {
            self.stats.refused[error.index()] += 1;
        }
        taken
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let header = wire::decode_data_header(payload)?;
        if self.session != Some(header.session) || self.mode != Mode::InOrder {
            self.stats.stale += 1;
            return Ok(());
        }
        let Some(beyond) = header.seq.checked_sub(self.cumulative) else {
            self.stats.duplicates += 1;
            self.ack_owed = true;
            return Ok(());
        };
        let index = header.seq - self.next_read;
        if beyond > MAX_WINDOW.into() || index >= self.limit.into() {
            self.stats.no_room += 1;
            self.ack_owed = true;
            return Ok(());
        }
        let index = index as usize;
        if self.slots.get(index).is_some_and(Option::is_some) {
            self.stats.duplicates += 1;
            self.ack_owed = true;
            return Ok(());
        }
        let checked = wire::validate_data(payload, &self.names)?;
        if checked.names > 0 {
            self.learn_names(payload, &checked.header)?;
        }
        self.store(index, payload);
        self.stats.out_of_order += u64::from(beyond > 0);
        Ok(())
    }

    /// Notes the names that a checked datagram tells. From here on the sender may
    /// use them: it is about to be acknowledged.
    /// Refused if it tells two addresses under one number.
    fn learn_names(&mut self, payload: &[u8], header: &wire::DataHeader) -> Result<(), WireError> {
        let mut cursor = Cursor::new(header);
        while let Some(entry) = cursor.next(payload, &self.names) {
            if let Entry::Name { number, addr } = entry? {
                self.names.learn(number, addr);
            }
        }
        Ok(())
    }

    /// Stores a datagram that was checked, at an index below the limit.
    fn store(&mut self, index: usize, payload: &[u8]) {
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(payload);
        self.slots[index] = Some(bytes);
        while self.slots.get((self.cumulative - self.next_read) as usize).is_some_and(Option::is_some) {
            self.cumulative += 1;
        }
        self.stats.datagrams += 1;
        self.stats.waiting += 1;
        self.stats.bytes += payload.len() as u64;
        self.ack_owed = true;
    }

    /// The next record in order; `None` when the next datagram is not here.
    pub fn poll_record(&mut self) -> Option<Record> {
        loop {
            if self.reading.is_none() {
                self.reading = Some(self.open_next()?);
            }
            let (bytes, cursor) = self.reading.as_mut()?;
            // The datagram was checked when it came; an error is its end.
            let Some(Ok(entry)) = cursor.next(bytes, &self.names) else {
                self.stats.unknown += cursor.unknown();
                if let Some((bytes, _)) = self.reading.take()
                    && self.spare.len() < SPARE
                {
                    self.spare.push(bytes);
                }
                continue;
            };
            let record = match entry {
                Entry::Flow(record, number) => {
                    self.number = number;
                    Some(Record::Flow(record))
                }
                Entry::Close(close) => Some(Record::Close(close)),
                Entry::CloseNumber { number, stamp } => Some(Record::CloseNumber { number, stamp }),
                Entry::Persistence(record) => Some(Record::Persistence(record)),
                Entry::Health(record) => Some(Record::Health(record)),
                Entry::BulkEnd(digest) => {
                    self.offer.withdraw();
                    Some(Record::BulkEnd(digest))
                }
                Entry::Kept(kept) => {
                    self.offer.answer(kept.part);
                    Some(Record::Kept(kept))
                }
                Entry::Fragment(fragment) => append(&mut self.line, &fragment, &mut self.stats).map(Record::Journal),
                Entry::Name { .. } | Entry::Unknown => None,
            };
            if let Some(record) = record.and_then(|record| self.admit(record)) {
                return Some(record);
            }
        }
    }

    /// Whether [`Receiver::poll_record`] has something to read.
    pub fn is_ready(&self) -> bool {
        let next = match self.mode {
            Mode::InOrder => self.next_read < self.cumulative,
            Mode::Salvaging | Mode::BeyondGap => !self.slots.is_empty(),
        };
        self.reading.is_some() || next
    }

    /// The tail fields of the flow record that [`Receiver::poll_record`] has
    /// yielded last: this version knows none of them, a later one may, so they are
    /// kept with the flow. Empty if it has none, or more than [`wire::MAX_TAIL`] bytes.
    pub fn tail(&self) -> &[u8] {
        let tail = self.reading.as_ref().map_or(&[][..], |(bytes, cursor)| cursor.tail(bytes));
        if tail.len() > MAX_TAIL { &[] } else { tail }
    }

    /// The number under which the flow that [`Receiver::poll_record`] has yielded
    /// last may be closed in this session.
    pub fn number(&self) -> Option<u32> {
        self.number
    }

    /// Takes the next datagram out of its slot; when salvaging, the next that
    /// is here.
    fn open_next(&mut self) -> Option<(Vec<u8>, Cursor)> {
        loop {
            if self.mode == Mode::InOrder && self.next_read == self.cumulative {
                return None;
            }
            let slot = self.slots.pop_front()?;
            self.next_read += 1;
            let Some(bytes) = slot else {
                self.mode = Mode::BeyondGap;
                self.stats.salvage_skipped += u64::from(self.line.take().is_some());
                continue;
            };
            self.stats.waiting -= 1;
            if let Ok(header) = wire::decode_data_header(&bytes) {
                return Some((bytes, Cursor::new(&header)));
            }
        }
    }

    /// Counts a record, or leaves it out if it depends on what is missing.
    fn admit(&mut self, record: Record) -> Option<Record> {
        let (kind, needs_order) = match record {
            Record::Flow(_) => (RecordKind::Flow, false),
            Record::Close(_) | Record::CloseNumber { .. } => (RecordKind::Close, false),
            Record::Persistence(_) => (RecordKind::Persistence, false),
            Record::Health(_) => (RecordKind::Health, false),
            Record::Journal(_) => (RecordKind::Journal, true),
            Record::BulkEnd(_) => (RecordKind::BulkEnd, true),
            Record::Kept(_) => (RecordKind::Kept, false),
        };
        if needs_order && self.mode == Mode::BeyondGap {
            self.stats.salvage_skipped += 1;
            return None;
        }
        self.stats.records.add(kind);
        Some(record)
    }

    /// Writes an acknowledgement into `out` (cleared first) if one is owed.
    /// Called after each batch of datagrams and of [`Receiver::poll_record`].
    pub fn poll_ack(&mut self, _now: Instant, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(session) = self.session.filter(|_| self.mode == Mode::InOrder) else { return false };
        let used = self.cumulative - self.next_read;
        let room = self.limit - used as u16;
        let reopened = self.told_room < self.limit / 4 && room >= self.limit / 2;
        if !self.ack_owed && !reopened {
            return false;
        }
        self.ack_owed = false;
        self.told_room = room;
        let mut bitmap = [0u8; MAX_BITMAP];
        let mut len = 0;
        for (bit, slot) in self.slots.iter().skip(used as usize + 1).enumerate() {
            if slot.is_some() {
                bitmap[bit / 8] |= 1 << (bit % 8);
                len = bit / 8 + 1;
            }
        }
        wire::encode_ack(out, &Ack { session, room, cumulative: self.cumulative, bitmap: &bitmap[..len] });
        self.stats.acks += 1;
        true
    }

    /// At promotion: no datagram is taken any more, and
    /// [`Receiver::poll_record`] goes on beyond the gaps, in order. Journal
    /// lines and digests beyond a gap are left out: without what precedes
    /// them they would be wrong. Flow records are not: the larger stamp wins.
    pub fn salvage(&mut self) -> Salvage {
        if self.mode == Mode::InOrder {
            self.mode = Mode::Salvaging;
        }
        // When it is called again, the reading may have passed the gap.
        let in_order = self.cumulative.saturating_sub(self.next_read);
        let beyond = self.slots.iter().skip(in_order as usize);
        let missing = beyond.clone().filter(|slot| slot.is_none()).count() as u64;
        Salvage { in_order, beyond: beyond.len() as u64 - missing, missing }
    }

    /// Counters.
    pub fn stats(&self) -> ReceiverStats {
        self.stats
    }
}

/// Adds a fragment to the line begun before it; the line when it is complete.
/// A fragment out of step, which only a faulty sender writes, drops the line.
fn append(
    line: &mut Option<(JournalKind, String)>,
    fragment: &Fragment<'_>,
    stats: &mut ReceiverStats,
) -> Option<JournalLine> {
    let begun = line.take();
    let (kind, mut text) = match begun {
        None if fragment.first => (fragment.kind, String::new()),
        Some((kind, text)) if !fragment.first && kind == fragment.kind => (kind, text),
        None | Some(_) => {
            stats.refused[WireError::Journal.index()] += 1;
            return None;
        }
    };
    if text.len() + fragment.text.len() > MAX_JOURNAL_TEXT {
        stats.refused[WireError::Journal.index()] += 1;
        return None;
    }
    text.push_str(fragment.text);
    if fragment.last {
        return JournalLine::new(kind, text).ok();
    }
    *line = Some((kind, text));
    None
}
