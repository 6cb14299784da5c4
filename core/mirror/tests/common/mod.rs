//! What the tests share: records by number, a source of flows, and a bad
//! network between a sender and a receiver.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_base::{Instant, Rng, StableHasher};
use holdfast_engine::{FlowClose, FlowKey, FlowRecord, FlowRef, L2Disc, PersistenceRecord, Phase, SessionOf};
use holdfast_mirror::wire::{Message, peek};
use holdfast_mirror::{Digest, Limits, Receiver, Record, Sender, Source};
use holdfast_wire::{Addr, Endpoint};

pub fn v4(d: u8, port: u16) -> Endpoint {
    Endpoint { addr: Addr::v4([10, 0, 0, d]), port }
}

pub fn v6(d: u8, port: u16) -> Endpoint {
    let mut addr = [0; 16];
    (addr[0], addr[1], addr[15]) = (0x20, 0x01, d);
    Endpoint { addr: Addr(addr), port }
}

/// The flow with this number; every third is IPv6, every fifth USIP.
pub fn flow(id: u32, stamp: u64) -> FlowRecord {
    let end = if id.is_multiple_of(3) { v6 } else { v4 };
    let client = end(100 + (id >> 16) as u8, id as u16);
    FlowRecord {
        stamp,
        proto: 6,
        l2: L2Disc(0),
        client,
        vip: end(1, 80),
        server: end(200 + (id % 7) as u8, 8080),
        source: if id.is_multiple_of(5) { client } else { end(2, (id as u16).wrapping_mul(3)) },
        phase: Phase::Opening,
        client_idle_s: 9000,
        server_idle_s: 9000,
    }
}

pub fn reference(id: u32) -> FlowRef {
    FlowRef { slot: id, generation: 7 }
}

pub fn session_of(client: u8, stamp: u64) -> PersistenceRecord {
    PersistenceRecord {
        stamp,
        vip: v4(1, 80),
        proto: 0,
        of: SessionOf::Source(Addr::v4([192, 0, 2, client])),
        server: Some(v4(200, 0)),
    }
}

fn digest_of(record: &FlowRecord) -> u64 {
    let mut hasher = StableHasher::new(1, 2);
    for end in [record.client, record.vip, record.server, record.source] {
        hasher.write(&end.addr.0).write(&end.port.to_be_bytes());
    }
    hasher.finish()
}

/// Flows by reference, with the digest over those written.
#[derive(Default)]
pub struct Flows {
    pub live: BTreeMap<FlowRef, FlowRecord>,
    written: BTreeSet<FlowRef>,
    digest: u64,
    /// Stamps of persistence sessions that have moved or ended.
    pub over: BTreeSet<u64>,
    /// Every record handed out, in order.
    pub log: Vec<(FlowRef, u64)>,
}

impl Flows {
    /// Removes a flow; its end is to be mirrored if it had been written.
    pub fn close(&mut self, id: u32, stamp: u64) -> Option<FlowClose> {
        let record = self.live.remove(&reference(id))?;
        let written = self.written.remove(&reference(id));
        if written {
            self.digest ^= digest_of(&record);
        }
        written.then(|| FlowClose { stamp, key: record.client_key() })
    }

    pub fn restart(&mut self) {
        self.written.clear();
        self.digest = 0;
    }
}

impl Source for Flows {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        let record = *self.live.get(&flow)?;
        if self.written.insert(flow) {
            self.digest ^= digest_of(&record);
        }
        self.log.push((flow, record.stamp));
        Some(record)
    }

    fn is_current(&self, session: &PersistenceRecord) -> bool {
        !self.over.contains(&session.stamp)
    }

    fn digest(&mut self) -> Digest {
        Digest { digest: self.digest, flows: self.written.len() as u64, journal: 0 }
    }
}

/// The successor's table.
#[derive(Default)]
pub struct Mirrored {
    pub flows: BTreeMap<FlowKey, FlowRecord>,
    numbers: BTreeMap<u32, FlowKey>,
}

impl Mirrored {
    /// Notes the number of a flow; puts the key for the number of a close. One
    /// whose flow was not read closes nothing and stays as it is.
    pub fn named(&mut self, record: Record, number: Option<u32>) -> Record {
        match record {
            Record::Flow(flow) => {
                number.map(|number| self.numbers.insert(number, flow.client_key()));
            }
            Record::CloseNumber { number, stamp } => {
                let key = self.numbers.get(&number);
                return key.map_or(record, |&key| Record::Close(FlowClose { stamp, key }));
            }
            _ => {}
        }
        record
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Flow(flow) => {
                let known = self.flows.entry(flow.client_key()).or_insert(*flow);
                if known.stamp < flow.stamp {
                    *known = *flow;
                }
            }
            Record::Close(close) => {
                if self.flows.get(&close.key).is_some_and(|known| known.stamp < close.stamp) {
                    self.flows.remove(&close.key);
                }
            }
            Record::BulkEnd(digest) => {
                assert_eq!(self.digest(), (digest.digest, digest.flows), "digests differ at the same position");
            }
            Record::CloseNumber { .. }
            | Record::Persistence(_)
            | Record::Health(_)
            | Record::Journal(_)
            | Record::Kept(_) => {}
        }
    }

    pub fn digest(&self) -> (u64, u64) {
        (self.flows.values().fold(0, |sum, flow| sum ^ digest_of(flow)), self.flows.len() as u64)
    }
}

/// How bad the network is, the same in both directions.
#[derive(Clone, Copy)]
pub struct Weather {
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay: Duration,
    pub jitter: Duration,
}

pub const CALM: Weather =
    Weather { loss_percent: 0, duplicate_percent: 0, delay: Duration::from_micros(100), jitter: Duration::ZERO };

/// A sender and a receiver with a network between them.
pub struct Pair {
    pub now: Instant,
    pub sender: Sender,
    pub receiver: Receiver,
    pub flows: Flows,
    pub mirrored: Mirrored,
    pub weather: Weather,
    pub yielded: Vec<Record>,
    pub stored: Vec<(FlowRef, u64)>,
    /// Payloads that left, of both kinds.
    pub sent: u64,
    /// Whether the receiver's owner takes records out.
    pub reading: bool,
    rng: Rng,
    wire: BTreeMap<(Instant, u64), Vec<u8>>,
}

impl Pair {
    pub fn new(seed: u64, weather: Weather, limits: Limits) -> Pair {
        let mut pair = Pair {
            now: Instant::from_nanos(1_000_000_000),
            sender: Sender::new(limits),
            receiver: Receiver::new(limits),
            flows: Flows::default(),
            mirrored: Mirrored::default(),
            weather,
            yielded: Vec::new(),
            stored: Vec::new(),
            sent: 0,
            reading: true,
            rng: Rng::from_seed(seed),
            wire: BTreeMap::new(),
        };
        pair.start(1);
        pair
    }

    pub fn start(&mut self, session: u32) {
        self.sender.start(self.now, session);
        self.receiver.start(session);
        self.flows.restart();
        self.mirrored = Mirrored::default();
    }

    fn launch(&mut self, payload: &[u8]) {
        self.sent += 1;
        let copies = 1 + u64::from(self.rng.chance(self.weather.duplicate_percent, 100));
        for _ in 0..copies {
            if !self.rng.chance(self.weather.loss_percent, 100) {
                let jitter = self.rng.below(self.weather.jitter.as_nanos() as u64);
                let at = self.now + self.weather.delay + Duration::from_nanos(jitter);
                self.wire.insert((at, self.rng.next_u64()), payload.to_vec());
            }
        }
    }

    /// Takes out everything that both machines have to give.
    pub fn drain(&mut self) {
        let mut out = Vec::new();
        while self.reading
            && let Some(record) = self.receiver.poll_record()
        {
            let record = self.mirrored.named(record, self.receiver.number());
            self.mirrored.apply(&record);
            self.yielded.push(record);
        }
        while self.receiver.poll_ack(self.now, &mut out) {
            self.launch(&out);
        }
        while self.sender.poll_transmit(self.now, &mut self.flows, &mut out) {
            self.launch(&out);
        }
    }

    /// Advances to the next thing that happens; false when nothing ever will.
    pub fn step(&mut self) -> bool {
        self.drain();
        let arrival = self.wire.keys().next().map(|&(at, _)| at);
        let Some(next) = [arrival, self.sender.poll_timeout()].into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        self.sender.handle_timeout(self.now);
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now
        {
            let payload = entry.remove();
            self.deliver(&payload);
        }
        true
    }

    fn deliver(&mut self, payload: &[u8]) {
        match peek(payload).expect("our own message").0 {
            Message::Data => self.receiver.handle_data(self.now, payload).expect("our own data"),
            Message::Summary => panic!("nothing was offered"),
            Message::Ack => {
                let stored = &mut self.stored;
                let mut on_stored = |flow, stamp| stored.push((flow, stamp));
                self.sender.handle_ack(self.now, payload, &mut on_stored).expect("our own ack");
            }
        }
    }

    /// Runs until nothing is under way. Panics if that takes too many steps.
    pub fn settle(&mut self) {
        for _ in 0..2_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("never quiet: {:?}", self.sender.stats(self.now));
    }

    /// Runs for a span of time at most.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end && self.step() {}
    }
}
