//! Datagrams in flight: kept byte for byte until stored, found lost, sent again.

use std::collections::VecDeque;

use core::ops::Range;
use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::FlowRef;

use crate::WireError;
use crate::names::Names;
use crate::rtt::Rtt;
use crate::wire::Ack;

/// A datagram is lost when one that left this many transmissions later is
/// stored; less would take the network's reordering for loss.
const REORDER_THRESHOLD: u64 = 3;
/// Retransmissions that may follow a time-out before anything new is stored:
/// a silent peer costs this many datagrams per (backed-off) time-out, not a
/// whole window.
const BURST_AFTER_TIMEOUT: u32 = 16;
/// Buffers kept for re-use; about what a busy round trip holds.
const SPARE: usize = 256;

/// The payload of a datagram and the flow records in it.
type Buffers = (Vec<u8>, Vec<(FlowRef, u64)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    Stored,
}

/// One datagram that was written.
#[derive(Debug)]
struct Sent {
    bytes: Vec<u8>,
    /// The flow records in it, for whoever waits for them.
    flows: Vec<(FlowRef, u64)>,
    records: u32,
    /// The names told in it.
    names: Range<u16>,
    state: State,
    /// Number of its first and of its latest transmission, counted over the
    /// session.
    first: u64,
    latest: u64,
    first_at: Instant,
    latest_at: Instant,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Datagrams stored that were not known to be.
    pub(crate) datagrams: u64,
    /// Datagrams found lost, to be sent again.
    pub(crate) lost: u64,
    /// Age of the oldest of the newly stored.
    pub(crate) lag: Option<Duration>,
}

/// The window between the first datagram not stored and the next to be written.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// Sequence number of the front of `sent`.
    base: u64,
    sent: VecDeque<Sent>,
    /// Sequence numbers to send again, in the order in which they were found.
    lost: VecDeque<u64>,
    /// Number of the next transmission.
    next_transmission: u64,
    /// Latest transmission known to have arrived, plus one. Of a datagram sent
    /// several times the first counts: too early finds too little, never too much.
    arrived: u64,
    /// Datagrams must stay below this sequence number, says the receiver.
    room_end: u64,
    rtt: Rtt,
    deadline: Option<Instant>,
    /// Retransmissions left; `None` unless recovering from a time-out.
    budget: Option<u32>,
    unacked_records: u64,
    spare: Vec<Buffers>,
}

impl Flight {
    /// Forgets everything; the first datagram has sequence number 0 again.
    /// The round-trip estimate survives, the path being the same.
    pub(crate) fn reset(&mut self, window: u16) {
        while let Some(sent) = self.sent.pop_front() {
            self.keep_spare(sent);
        }
        self.lost.clear();
        (self.base, self.next_transmission, self.arrived) = (0, 0, 0);
        self.room_end = window.into();
        self.deadline = None;
        self.budget = None;
        self.unacked_records = 0;
        self.rtt.progress();
    }

    /// Datagrams from the first that is not stored to the last written.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.base + self.sent.len() as u64
    }

    /// Whether the receiver has room for another. With nothing in flight one
    /// datagram may always go: it asks whether there is room again.
    pub(crate) fn has_room(&self) -> bool {
        self.sent.is_empty() || self.next_seq() < self.room_end
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(crate) fn unacked_records(&self) -> u64 {
        self.unacked_records
    }

    pub(crate) fn oldest_unacked(&self, now: Instant) -> Option<Duration> {
        self.sent.front().map(|sent| now.since(sent.first_at))
    }

    pub(crate) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes two empty buffers for the next datagram.
    pub(crate) fn buffers(&mut self) -> Buffers {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives unused buffers back.
    pub(crate) fn give_back(&mut self, bytes: Vec<u8>, flows: Vec<(FlowRef, u64)>) {
        if self.spare.len() < SPARE {
            self.spare.push((bytes, flows));
        }
    }

    /// Notes that a datagram with the sequence number [`Flight::next_seq`] has
    /// been written and leaves at `now`.
    pub(crate) fn push(&mut self, now: Instant, buffers: Buffers, records: u32, names: Range<u16>) {
        let (bytes, flows) = buffers;
        let number = self.next_transmission;
        self.next_transmission += 1;
        self.unacked_records += u64::from(records);
        self.sent.push_back(Sent {
            bytes,
            flows,
            records,
            names,
            state: State::InFlight,
            first: number,
            latest: number,
            first_at: now,
            latest_at: now,
        });
        self.deadline.get_or_insert(now + self.rtt.timeout());
    }

    /// The bytes of the next datagram to be sent again; it is in flight again.
    pub(crate) fn resend(&mut self, now: Instant) -> Option<&[u8]> {
        if self.budget == Some(0) {
            return None;
        }
        let index = loop {
            let index = self.lost.pop_front()?.checked_sub(self.base);
            let index = index.and_then(|index| usize::try_from(index).ok());
            match index.and_then(|index| self.sent.get(index)) {
                Some(sent) if sent.state == State::Lost => break index?,
                Some(_) | None => {}
            }
        };
        if let Some(budget) = &mut self.budget {
            *budget -= 1;
        }
        let number = self.next_transmission;
        self.next_transmission += 1;
        self.deadline.get_or_insert(now + self.rtt.timeout());
        let sent = &mut self.sent[index];
        sent.state = State::InFlight;
        (sent.latest, sent.latest_at) = (number, now);
        Some(&sent.bytes)
    }

    /// Takes an acknowledgement of this session; nothing changes on an error.
    pub(crate) fn handle_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        names: &mut Names,
        on_stored: &mut impl FnMut(FlowRef, u64),
    ) -> Result<Stored, WireError> {
        let end = self.next_seq();
        if ack.cumulative > end || ack.beyond().any(|seq| seq >= end) {
            return Err(WireError::AckBeyondSent);
        }
        self.room_end = self.room_end.max(ack.cumulative + u64::from(ack.room));
        let mut news = News::default();
        let base = self.base;
        for seq in (base..ack.cumulative).chain(ack.beyond().filter(|&seq| seq >= base)) {
            names.confirm(self.store(now, seq, &mut news, on_stored));
        }
        if news.stored.datagrams == 0 {
            return Ok(news.stored);
        }
        match (news.sample, news.resent) {
            (Some((_, sample)), _) => self.rtt.sample(sample),
            (None, Some(at_most)) => self.rtt.sample_at_most(at_most),
            (None, None) => {}
        }
        self.rtt.progress();
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.state == State::Stored) {
            self.base += 1;
            self.keep_spare(sent);
        }
        news.stored.lost = self.find_lost();
        if let Some(budget) = self.budget {
            let grown = budget.saturating_add(2 * news.stored.datagrams as u32);
            self.budget = if self.has_lost() { Some(grown) } else { None };
        }
        self.rearm();
        Ok(news.stored)
    }

    /// The datagram is with the peer; the names that it told.
    fn store(
        &mut self,
        now: Instant,
        seq: u64,
        news: &mut News,
        on_stored: &mut impl FnMut(FlowRef, u64),
    ) -> Range<u16> {
        // The caller checked that `base <= seq < next_seq`.
        let sent = &mut self.sent[(seq - self.base) as usize];
        if sent.state == State::Stored {
            return 0..0;
        }
        sent.state = State::Stored;
        for (flow, stamp) in sent.flows.drain(..) {
            on_stored(flow, stamp);
        }
        self.unacked_records -= u64::from(sent.records);
        self.arrived = self.arrived.max(sent.first + 1);
        news.stored.datagrams += 1;
        news.stored.lag = news.stored.lag.max(Some(now.since(sent.first_at)));
        // Only datagrams sent once tell the round-trip time (Karn's rule), and
        // of these the latest, which was not waiting for another to be answered.
        if sent.first != sent.latest {
            let at_most = now.since(sent.first_at);
            news.resent = Some(news.resent.map_or(at_most, |other| other.min(at_most)));
        } else if news.sample.is_none_or(|(latest, _)| latest < sent.latest) {
            news.sample = Some((sent.latest, now.since(sent.latest_at)));
        }
        sent.names.clone()
    }

    /// Declares lost what left long before something that has arrived.
    fn find_lost(&mut self) -> u64 {
        let mut found = 0;
        for (seq, sent) in (self.base..).zip(&mut self.sent) {
            if sent.first + REORDER_THRESHOLD >= self.arrived {
                break;
            }
            if sent.state == State::InFlight && sent.latest + REORDER_THRESHOLD < self.arrived {
                sent.state = State::Lost;
                self.lost.push_back(seq);
                found += 1;
            }
        }
        found
    }

    /// Declares lost what has waited for a whole time-out. Whether it did.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return false;
        }
        let timeout = self.rtt.timeout();
        let mut found = false;
        for (seq, sent) in (self.base..).zip(&mut self.sent) {
            if sent.state == State::InFlight && sent.latest_at + timeout <= now {
                sent.state = State::Lost;
                self.lost.push_back(seq);
                found = true;
            }
        }
        if found {
            self.rtt.back_off();
            self.budget = Some(BURST_AFTER_TIMEOUT);
        }
        self.rearm();
        found
    }

    /// The deadline is that of the datagram which has been under way longest.
    fn rearm(&mut self) {
        let in_flight = self.sent.iter().filter(|sent| sent.state == State::InFlight);
        let oldest = in_flight.map(|sent| sent.latest_at).min();
        self.deadline = oldest.map(|at| at + self.rtt.timeout());
    }

    fn keep_spare(&mut self, sent: Sent) {
        let Sent { mut bytes, mut flows, .. } = sent;
        bytes.clear();
        flows.clear();
        self.give_back(bytes, flows);
    }
}

/// What one acknowledgement has told so far.
#[derive(Default)]
struct News {
    stored: Stored,
    /// Transmission number and round-trip time of the best sample.
    sample: Option<(u64, Duration)>,
    /// Of those that were sent again: the shortest time since one was sent first.
    resent: Option<Duration>,
}
