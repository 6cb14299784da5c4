//! Two engines, joined by the sender and the receiver over a network that loses, repeats and reorders: at every digest of
//! the stream both tables are equal, and in the end so is what is in them, flow by flow.
//!
//! This is the guarantee as it is (docs/mirror-protocol.md, "What the stream guarantees"): the records alone would not
//! converge in any order, since nothing remembers a flow that was closed.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::{Weather, v4};
use holdfast_base::{Instant, Rng};
use holdfast_engine::{
    Applied, BUCKETS_PER_PART, Binding, BulkStep, ConnFailover, ConnectionRow, Engine, FloatingAddress, FloatingKind,
    FlowRecord, FlowRef, Frame, Gate, Limits, Mark, Mask, Method, Mirroring, Offload, PARTS, Persistence,
    PersistenceKind, PersistenceRecord, PersistenceStep, Plan, Port, PortId, Service, ServiceId, SessionOf, Spill,
    Verdict, Vserver, VserverId, VserverKind,
};
use holdfast_mirror::wire::{self, Message, Told, peek};
use holdfast_mirror::{Digest, Item, Kept, Receiver, Record, Sender, Source};
use holdfast_wire::build::{self, Link, Segment};
use holdfast_wire::{ArpOp, Endpoint, MacAddr, Parsed, TcpFlags, parse};

const STORM: Weather = Weather {
    loss_percent: 25,
    duplicate_percent: 15,
    delay: Duration::from_micros(50),
    jitter: Duration::from_micros(600),
};
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
const OWN: [MacAddr; 2] = [MacAddr([2, 1, 0, 0, 0, 0]), MacAddr([2, 1, 0, 0, 0, 1])];
const SYN_ACK: TcpFlags = TcpFlags(0x12);
const SERVER_ISN: u32 = 900;
/// Few, so that flow after flow has the addresses of an earlier one.
const CLIENTS: u64 = 5;
const CLIENT_PORTS: u64 = 4;

fn vip() -> Endpoint {
    v4(1, 80)
}

fn plan() -> Plan {
    let floating = |d, kind| FloatingAddress { addr: v4(d, 0).addr, prefix_len: 24, kind, arp: true, icmp: true };
    let services = (0..3).map(|n| Service {
        id: ServiceId(n),
        server: v4(201 + n as u8, 8080),
        kind: VserverKind::Any,
        hash_id: 0,
        usip: false,
        enabled: true,
        leaving: false,
        server_idle: Duration::from_secs(9000),
        surge: None,
        max_clients: 0,
    });
    Plan {
        epoch: 1,
        addresses: vec![floating(1, FloatingKind::Vip), floating(2, FloatingKind::Snip)],
        routes: Vec::new(),
        vservers: vec![Vserver {
            id: VserverId(1),
            addr: vip().addr,
            port: vip().port,
            kind: VserverKind::Any,
            enabled: true,
            method: Method::RoundRobin,
            persistence: Some(Persistence {
                kind: PersistenceKind::Both,
                mask: Mask::WHOLE,
                timeout: Duration::from_secs(9000),
            }),
            failover: ConnFailover::Stateful,
            ftp: false,
            one_answer: false,
            listens: true,
            spill: Spill::default(),
            client_idle: Duration::from_secs(9000),
            services: (0..3).map(|n| Binding { service: ServiceId(n), weight: 1 }).collect(),
        }],
        services: services.collect(),
        l3_mode: true,
    }
}

fn engine(now: Instant, seed: u64, gate: Gate) -> Engine {
    let mut engine = Engine::new(now, Limits { max_flows: 256, ..Limits::default() }, seed);
    let port = |n: u8| Port { id: PortId(n), mac: OWN[usize::from(n)], mtu: 1500 };
    engine.set_ports(&[port(0), port(1)]);
    engine.set_plan(now, Arc::new(plan()));
    (0..3).for_each(|service| engine.set_health(now, ServiceId(service), true));
    engine.set_gate(now, gate);
    engine
}

/// The engine as the sender reads it.
struct EngineSource<'a>(&'a mut Engine);

impl Source for EngineSource<'_> {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        self.0.record(flow)
    }

    fn is_current(&self, session: &PersistenceRecord) -> bool {
        self.0.is_current(session)
    }

    fn digest(&mut self) -> Digest {
        digest(self.0)
    }
}

fn digest(engine: &Engine) -> Digest {
    Digest { digest: engine.digest(), flows: engine.counts().in_session.into(), journal: 0 }
}

/// Where the transfer of the whole table stands.
#[derive(Clone, Copy, PartialEq)]
enum Bulk {
    Persistence(u32),
    Summary,
    Kept(u64),
    Flows(u32),
    Done,
}

/// Both nodes, as far as the mirror concerns them, and the network between.
struct Pair {
    now: Instant,
    primary: Engine,
    secondary: Engine,
    sender: Sender,
    receiver: Receiver,
    session: u32,
    bulk: Bulk,
    compared: u64,
    weather: Weather,
    rng: Rng,
    wire: BTreeMap<(Instant, u64), Vec<u8>>,
    /// The latest initial sequence number of each client.
    isns: BTreeMap<Endpoint, u32>,
    /// Digests that were read and found equal.
    equal: u64,
}

impl Pair {
    fn new(seed: u64, weather: Weather) -> Pair {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut pair = Pair {
            now,
            primary: engine(now, 1, Gate::Open),
            secondary: engine(now, 2, Gate::Closed),
            sender: Sender::new(holdfast_mirror::Limits::default()),
            receiver: Receiver::new(holdfast_mirror::Limits::default()),
            session: 0,
            bulk: Bulk::Done,
            compared: 0,
            weather,
            rng: Rng::from_seed(seed),
            wire: BTreeMap::new(),
            isns: BTreeMap::new(),
            equal: 0,
        };
        pair.begin();
        pair
    }

    /// Another session begins, whatever became of the one before.
    fn begin(&mut self) {
        // What was acknowledged is salvaged.
        self.receiver.salvage();
        self.read();
        self.session += 1;
        self.sender.start(self.now, self.session);
        self.primary.set_mirroring(self.now, Mirroring::On { session: self.session, strict: false });
        self.receiver.start(self.session);
        self.secondary.begin_session(self.session);
        let has = self.secondary.has_summary();
        let told = (0..PARTS).flat_map(|part| self.secondary.summary(part));
        self.receiver.offer(if has { told.collect() } else { Vec::new() });
        (self.bulk, self.compared) = (Bulk::Persistence(0), 0);
    }

    // --- traffic -----------------------------------------------------------------------------------------------------

    /// A client opens, says something or aborts, and servers answer or abort: addresses are used again and again.
    fn traffic(&mut self) {
        let client = v4(100 + self.rng.below(CLIENTS) as u8, 1000 + self.rng.below(CLIENT_PORTS) as u16);
        let known = self.isns.get(&client).copied();
        match (self.rng.below(4), known) {
            (0, Some(isn)) => self.segment(0, client, vip(), TcpFlags::RST, (isn.wrapping_add(1), 0)),
            (1, _) => self.datagram(client),
            _ => {
                let isn = self.rng.next_u64() as u32;
                self.isns.insert(client, isn);
                self.segment(0, client, vip(), TcpFlags::SYN, (isn, 0));
            }
        }
        for row in self.rows_of_primary() {
            let ack = self.isns.get(&row.client).map_or(0, |isn| isn.wrapping_add(1));
            if self.rng.chance(1, 3) && row.state.starts_with("SYN") {
                self.segment(1, row.server, row.source, SYN_ACK, (SERVER_ISN, ack));
            } else if self.rng.chance(1, 40) {
                self.segment(1, row.server, row.source, TcpFlags::RST, (SERVER_ISN + 1, ack));
            }
        }
    }

    fn rows_of_primary(&self) -> Vec<ConnectionRow> {
        rows(&self.primary, self.now).into_iter().filter(|row| row.proto == 6).collect()
    }

    fn segment(&mut self, port: u8, src: Endpoint, dst: Endpoint, flags: TcpFlags, numbers: (u32, u32)) {
        let mut bytes = vec![0; build::MAX_REPLY];
        let (seq, ack) = numbers;
        let segment = Segment { src, dst, seq, ack, flags, window: 1000, mss: None, payload: b"" };
        let len = build::tcp_segment(&mut bytes, Link::new(OWN[usize::from(port)], HOST), &segment);
        bytes.truncate(len);
        self.give(port, bytes);
    }

    fn datagram(&mut self, src: Endpoint) {
        let mut bytes = vec![0; build::MAX_REPLY];
        let len = build::udp_datagram(&mut bytes, Link::new(OWN[0], HOST), src, vip(), b"hello");
        bytes.truncate(len);
        self.give(0, bytes);
    }

    /// Hosts answer ARP.
    fn give(&mut self, port: u8, bytes: Vec<u8>) {
        let mut waiting = vec![(port, bytes)];
        while let Some((port, mut bytes)) = waiting.pop() {
            let frame = Frame { port: PortId(port), offload: Offload::default(), bytes: &mut bytes };
            let _: Verdict = self.primary.handle_frame(self.now, frame);
            while let Some(frame) = self.primary.poll_transmit() {
                let Ok((ethernet, Parsed::Arp(arp))) = parse(&frame.bytes[..]) else { continue };
                if arp.op == ArpOp::Request && arp.sender != arp.target {
                    let mut answer = vec![0; build::MAX_REPLY];
                    let len = build::arp_reply(&mut answer, Link::new(ethernet.src, HOST), arp.target, arp.sender);
                    answer.truncate(len);
                    waiting.push((frame.port.0, answer));
                }
            }
        }
    }

    // --- the mirror --------------------------------------------------------------------------------------------------

    fn collect(&mut self) {
        while self.sender.wants_bulk() && self.bulk != Bulk::Done {
            let before = self.bulk;
            self.bulk = self.collect_bulk();
            if self.bulk == before {
                break;
            }
        }
        while self.sender.wants_marks() {
            match self.primary.poll_mark() {
                Some(Mark::Flow(flow)) => self.sender.push(Item::Flow(flow)),
                Some(Mark::Closed(flow, close)) => self.sender.push(Item::Close(flow, close)),
                Some(Mark::Persistence(record)) => self.sender.push(Item::Persistence(record)),
                None => return,
            }
        }
    }

    fn collect_bulk(&mut self) -> Bulk {
        match self.bulk {
            Bulk::Persistence(mut cursor) => match self.primary.persistence_for_bulk(&mut cursor, 64) {
                PersistenceStep::Session(record) => {
                    self.sender.push_bulk(Item::Persistence(record));
                    Bulk::Persistence(cursor)
                }
                PersistenceStep::Scanned => Bulk::Persistence(cursor),
                PersistenceStep::Done => Bulk::Summary,
            },
            Bulk::Summary if self.compared != u64::MAX => Bulk::Summary,
            Bulk::Summary => self.sender.written().map_or(Bulk::Summary, Bulk::Kept),
            Bulk::Kept(position) if self.sender.stored_below() < position => Bulk::Kept(position),
            Bulk::Kept(_) => Bulk::Flows(0),
            Bulk::Flows(mut cursor) => match self.primary.next_for_bulk(&mut cursor, 64) {
                BulkStep::Flow(flow) => {
                    self.sender.push_bulk(Item::Flow(flow));
                    Bulk::Flows(cursor)
                }
                BulkStep::Kept | BulkStep::Scanned => Bulk::Flows(cursor),
                BulkStep::Done => {
                    self.sender.push_bulk(Item::BulkEnd);
                    Bulk::Done
                }
            },
            Bulk::Done => Bulk::Done,
        }
    }

    /// What the receiver has in order reaches the secondary's engine.
    fn read(&mut self) {
        let (now, session) = (self.now, self.session);
        while let Some(record) = self.receiver.poll_record() {
            match record {
                Record::Flow(flow) => {
                    let applied = self.secondary.apply_record(now, &flow, session);
                    assert_ne!(applied, Applied::Full, "there is room, and no port is leased twice: {flow:?}");
                    if let Some(number) = self.receiver.number() {
                        self.secondary.set_number(&flow.client_key(), number);
                    }
                }
                Record::Close(close) => self.secondary.apply_close(now, &close, session),
                Record::CloseNumber { number, stamp } => self.secondary.apply_close_number(now, number, stamp, session),
                Record::Persistence(record) => self.secondary.apply_persistence(now, &record, session),
                Record::BulkEnd(theirs) => {
                    assert_eq!(digest(&self.secondary), theirs, "at the same position of the stream");
                    self.equal += 1;
                }
                Record::Kept(kept) => assert!(self.secondary.keep_buckets(kept.part.into(), kept.buckets)),
                Record::Health(_) | Record::Journal(_) => {}
            }
        }
    }

    fn launch(&mut self, payload: &[u8]) {
        for _ in 0..1 + u64::from(self.rng.chance(self.weather.duplicate_percent, 100)) {
            if !self.rng.chance(self.weather.loss_percent, 100) {
                let jitter = self.rng.below(self.weather.jitter.as_nanos() as u64);
                let at = self.now + self.weather.delay + Duration::from_nanos(jitter);
                self.wire.insert((at, self.rng.next_u64()), payload.to_vec());
            }
        }
    }

    /// Everybody says what there is to say.
    fn turn(&mut self) {
        let mut out = Vec::new();
        self.read();
        self.collect();
        while self.receiver.poll_ack(self.now, &mut out) || self.receiver.poll_summary(self.now, &mut out) {
            self.launch(&out);
        }
        while self.sender.poll_transmit(self.now, &mut EngineSource(&mut self.primary), &mut out) {
            self.launch(&out);
        }
    }

    /// Time passes until something arrives or is due; false if nothing ever will.
    fn step(&mut self) -> bool {
        self.turn();
        let arrival = self.wire.keys().next().map(|&(at, _)| at);
        let due = [arrival, self.sender.poll_timeout(), self.receiver.poll_timeout()];
        let Some(next) = due.into_iter().flatten().min() else { return false };
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
            Message::Summary => self.compare(payload),
            Message::Ack => {
                let (now, primary) = (self.now, &mut self.primary);
                let mut stored = |flow, stamp| primary.handle_ack(now, flow, stamp);
                self.sender.handle_ack(now, payload, &mut stored).expect("our own acknowledgement");
            }
        }
    }

    fn compare(&mut self, payload: &[u8]) {
        let summary = wire::decode_summary(payload).expect("our own summary");
        if self.sender.session() != Some(summary.session) {
            return;
        }
        let (parts, theirs) = match summary.told {
            Told::Part { part, digests } => (part..part + 1, digests),
            Told::Nothing => (0..PARTS as u8, Box::new([0; BUCKETS_PER_PART])),
        };
        for part in parts.filter(|part| self.compared & (1 << part) == 0).collect::<Vec<u8>>() {
            self.compared |= 1 << part;
            let buckets = self.primary.compare_summary(part.into(), &theirs);
            self.sender.push(Item::Kept(Kept { part, buckets }));
        }
    }

    /// Until nothing is under way, and one digest more.
    fn settle(&mut self) {
        for last in [false, true] {
            if last {
                self.sender.push_bulk(Item::BulkEnd);
            }
            let mut steps = 0;
            while self.step() {
                steps += 1;
                assert!(steps < 200_000, "never quiet: {:?}", self.sender.stats(self.now));
            }
        }
        while !self.secondary.sweep_stale(64) {}
    }

    /// Nothing is on the one that is not on the other, but what never had to be told.
    fn compare_tables(&mut self) {
        let name = |row: &ConnectionRow| (row.proto, row.client, row.vip, row.server, row.source);
        let (ours, theirs) = (rows(&self.primary, self.now), rows(&self.secondary, self.now));
        let all: BTreeSet<_> = ours.iter().map(name).collect();
        // One that was reset counts as protected no more, and is still told of.
        let told: BTreeSet<_> = ours.iter().filter(|row| row.protected).map(name).collect();
        let theirs: BTreeSet<_> = theirs.iter().map(name).collect();
        let (missing, foreign): (Vec<_>, Vec<_>) =
            (told.difference(&theirs).collect(), theirs.difference(&all).collect());
        assert!(missing.is_empty() && foreign.is_empty(), "missing: {missing:?}, foreign: {foreign:?}");
        let counts = self.primary.counts();
        assert_eq!((counts.unprotected, counts.in_session), (0, theirs.len() as u32), "{counts:?}");
        assert_eq!(digest(&self.primary), digest(&self.secondary));
        assert_eq!(self.secondary.counts().leases, self.secondary.counts().flows, "one port for each flow");
        assert_eq!(sessions(&mut self.primary), sessions(&mut self.secondary));
    }
}

fn rows(engine: &Engine, now: Instant) -> Vec<ConnectionRow> {
    let (mut rows, mut cursor) = (Vec::new(), 0);
    while !engine.connections(now, &mut cursor, 4096, &mut rows) {}
    rows
}

/// Which session leads to which server.
fn sessions(engine: &mut Engine) -> BTreeSet<(SessionOf, Option<Endpoint>)> {
    let (mut all, mut cursor) = (BTreeSet::new(), 0);
    loop {
        match engine.persistence_for_bulk(&mut cursor, 64) {
            PersistenceStep::Session(record) => drop(all.insert((record.of, record.server))),
            PersistenceStep::Scanned => {}
            PersistenceStep::Done => return all,
        }
    }
}

#[test]
fn both_tables_are_equal_whatever_the_network_loses_repeats_and_reorders() {
    let (mut closes, mut digests, mut flows) = (0, 0, 0);
    for seed in 0..80 {
        let mut rng = Rng::from_seed(seed ^ 0x7ab1e);
        let mut pair = Pair::new(seed, Weather { loss_percent: rng.below(40), ..STORM });
        for _ in 0..300 {
            for _ in 0..rng.below(4) {
                pair.traffic();
            }
            // A gap of the session may never be closed: then another begins.
            if rng.chance(1, 100) {
                pair.begin();
            }
            for _ in 0..rng.below(6) {
                pair.step();
            }
        }
        pair.settle();
        pair.compare_tables();
        let records = pair.receiver.stats().records;
        closes += records.get(holdfast_mirror::RecordKind::Close);
        (digests, flows) = (digests + pair.equal, flows + u64::from(pair.secondary.counts().flows));
    }
    assert!(closes > 1000 && digests > 160 && flows > 500, "{closes} closes, {digests} digests, {flows} flows");
}
