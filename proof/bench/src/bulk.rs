//! A bulk transfer from engine to engine in memory, stage by stage: where does the time of a restarted secondary go?
//!
//! The stages are those of the daemons, in their order and with their batches, without sockets and without threads. The
//! envelope is timed by what it costs: its cipher over header and payload at each end.

use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use holdfast_base::Instant;
use holdfast_engine::{
    Applied, BulkStep, ConnFailover, Engine, FlowRecord, FlowRef, Gate, L2Disc, Limits, Method, Mirroring, Phase, Plan,
    Service, ServiceId, Spill, Vserver, VserverId, VserverKind,
};
use holdfast_mirror::{Digest, Item, Limits as MirrorLimits, Receiver, Record, Sender, Source};
use holdfast_wire::{Addr, Endpoint};

const NOW: Instant = Instant::ZERO;
/// The session of the transfer.
const SESSION: u32 = 2;
/// Datagrams handled at a time, as in a turn of the data thread.
const BATCH: usize = 64;
/// Slots looked at in one step of the walk.
const SLOTS: u32 = 2048;
/// Bytes of the envelope before the payload.
const ENVELOPE: usize = 64;
/// Server endpoints; each has room for 65,536 ports of one SNIP.
const SERVERS: u32 = 40;
const VIP: Endpoint = Endpoint { addr: Addr::v4([192, 0, 2, 112]), port: 53 };
const UDP: u8 = 17;

/// The stages, in order, with their names.
const STAGES: [&str; 8] = [
    "walk the table, queue (primary)",
    "write records into datagrams (primary)",
    "close: encrypt (primary)",
    "open: decrypt (secondary)",
    "check and store datagrams (secondary)",
    "read records (secondary)",
    "apply records to the table (secondary)",
    "acknowledge (both)",
];

/// What a transfer showed.
pub struct Transfer {
    /// Each stage's name and nanoseconds per flow.
    pub stages: Vec<(&'static str, f64)>,
    /// Then: how long a node that takes over needs to leave the session, and to forget an ended one.
    pub leave: Duration,
    /// How long the engine needs to become primary.
    pub promote: Duration,
}

struct Reader<'e>(&'e mut Engine);

impl Source for Reader<'_> {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        self.0.record(flow)
    }

    fn digest(&mut self) -> Digest {
        Digest { digest: self.0.digest(), flows: u64::from(self.0.counts().in_session), journal: 0 }
    }
}

/// Transfers `flows` UDP flows behind SNAT.
pub fn transfer(flows: u32) -> Transfer {
    let (mut primary, mut secondary) = (engine(flows), engine(flows));
    for number in 0..flows {
        let applied = primary.apply_record(NOW, &record(number), 1);
        assert_eq!(applied, Applied::Stored, "the primary's own flow {number}");
    }
    primary.set_gate(NOW, Gate::Open);
    primary.promote(NOW);
    primary.set_mirroring(NOW, Mirroring::On { session: SESSION, strict: true });
    secondary.begin_session(SESSION);
    let (mut sender, mut receiver) = (Sender::new(MirrorLimits::default()), Receiver::new(MirrorLimits::default()));
    sender.start(NOW, SESSION);
    receiver.start(SESSION);
    let spent = run(&mut primary, &mut secondary, &mut sender, &mut receiver);
    let stages = STAGES.iter().zip(spent).map(|(name, time)| (*name, time.as_nanos() as f64 / f64::from(flows)));
    let stages = stages.collect();
    let begun = Clock::now();
    receiver.salvage();
    receiver.stop();
    let leave = begun.elapsed();
    let begun = Clock::now();
    secondary.set_gate(NOW, Gate::Open);
    secondary.promote(NOW);
    secondary.set_mirroring(NOW, Mirroring::Off);
    Transfer { stages, leave, promote: begun.elapsed() }
}

/// Adds the time since `mark` to a stage and moves the mark.
fn lap(spent: &mut Duration, mark: &mut Clock) {
    let now = Clock::now();
    *spent += now - *mark;
    *mark = now;
}

fn run(primary: &mut Engine, secondary: &mut Engine, sender: &mut Sender, receiver: &mut Receiver) -> [Duration; 8] {
    let mut spent = [Duration::ZERO; 8];
    let (cipher, nonce) = (ChaCha20Poly1305::new(&[7; 32].into()), Nonce::default());
    let (mut cursor, mut walking) = (0, true);
    let mut records = Vec::new();
    let mut ack = Vec::new();
    loop {
        let mut mark = Clock::now();
        while walking && sender.wants_bulk() {
            match primary.next_for_bulk(&mut cursor, SLOTS) {
                BulkStep::Flow(flow) => sender.push_bulk(Item::Flow(flow)),
                BulkStep::Kept | BulkStep::Scanned => {}
                BulkStep::Done => {
                    sender.push_bulk(Item::BulkEnd);
                    walking = false;
                }
            }
        }
        lap(&mut spent[0], &mut mark);
        let mut datagrams: Vec<Vec<u8>> = Vec::with_capacity(BATCH);
        let mut payload = Vec::new();
        while datagrams.len() < BATCH
            && sender.wants_marks()
            && sender.poll_transmit(NOW, &mut Reader(primary), &mut payload)
        {
            let mut sealed = vec![0; ENVELOPE];
            sealed.extend_from_slice(&payload);
            datagrams.push(sealed);
        }
        lap(&mut spent[1], &mut mark);
        let mut tags = Vec::with_capacity(BATCH);
        for datagram in &mut datagrams {
            let (header, payload) = datagram.split_at_mut(ENVELOPE);
            tags.push(cipher.encrypt_inout_detached(&nonce, header, payload.into()).expect("a short datagram"));
        }
        lap(&mut spent[2], &mut mark);
        for (datagram, tag) in datagrams.iter_mut().zip(&tags) {
            let (header, payload) = datagram.split_at_mut(ENVELOPE);
            cipher.decrypt_inout_detached(&nonce, header, payload.into(), tag).expect("our own datagram");
        }
        lap(&mut spent[3], &mut mark);
        for datagram in &datagrams {
            receiver.handle_data(NOW, &datagram[ENVELOPE..]).expect("our own payload");
        }
        lap(&mut spent[4], &mut mark);
        records.extend(std::iter::from_fn(|| receiver.poll_record()));
        lap(&mut spent[5], &mut mark);
        let ended = apply(secondary, &mut records);
        lap(&mut spent[6], &mut mark);
        if receiver.poll_ack(NOW, &mut ack) {
            sender.handle_ack(NOW, &ack, &mut |flow, stamp| primary.handle_ack(NOW, flow, stamp)).expect("our own ack");
        }
        lap(&mut spent[7], &mut mark);
        if ended {
            return spent;
        }
    }
}

/// Applies what was read; true at the end of the bulk, whose digest must be equal.
fn apply(secondary: &mut Engine, records: &mut Vec<Record>) -> bool {
    let mut ended = false;
    for record in records.drain(..) {
        match record {
            Record::Flow(flow) => {
                let applied = secondary.apply_record(NOW, &flow, SESSION);
                assert_eq!(applied, Applied::Stored, "a flow of the bulk");
            }
            Record::BulkEnd(theirs) => {
                assert_eq!(theirs.digest, secondary.digest(), "both tables are equal");
                ended = true;
            }
            Record::Close(_)
            | Record::CloseNumber { .. }
            | Record::Kept(_)
            | Record::Persistence(_)
            | Record::Health(_)
            | Record::Journal(_) => unreachable!("nothing else was pushed"),
        }
    }
    ended
}

fn engine(flows: u32) -> Engine {
    let mut engine = Engine::new(NOW, Limits { max_flows: flows + 1024, ..Limits::default() }, 7);
    engine.set_plan(NOW, Arc::new(plan()));
    engine
}

fn server(number: u32) -> Endpoint {
    Endpoint { addr: Addr::v4([198, 51, 100, 21 + (number % 2) as u8]), port: 7100 + (number / 2) as u16 }
}

/// The flow with this number: its client, its server, its SNAT port.
fn record(number: u32) -> FlowRecord {
    let (host, port) = (40 + (number / 50_000) as u8, 10_000 + (number % 50_000) as u16);
    FlowRecord {
        stamp: u64::from(number) + 1,
        proto: UDP,
        l2: L2Disc(0),
        client: Endpoint { addr: Addr::v4([192, 0, 2, host]), port },
        vip: VIP,
        server: server(number % SERVERS),
        source: Endpoint { addr: Addr::v4([198, 51, 100, 5]), port: 1024 + (number / SERVERS) as u16 },
        phase: Phase::Established,
        client_idle_s: 9000,
        server_idle_s: 9000,
    }
}

fn plan() -> Plan {
    let idle = Duration::from_secs(9000);
    let service = |number: u32| Service {
        id: ServiceId(number),
        server: server(number),
        kind: VserverKind::Udp,
        hash_id: 0,
        usip: false,
        enabled: true,
        leaving: false,
        server_idle: idle,
        surge: None,
        max_clients: 0,
    };
    Plan {
        epoch: 1,
        addresses: Vec::new(),
        routes: Vec::new(),
        vservers: vec![Vserver {
            id: VserverId(1),
            addr: VIP.addr,
            port: VIP.port,
            kind: VserverKind::Udp,
            enabled: true,
            method: Method::RoundRobin,
            persistence: None,
            failover: ConnFailover::Stateful,
            ftp: false,
            one_answer: false,
            listens: true,
            spill: Spill::default(),
            client_idle: idle,
            services: (0..SERVERS)
                .map(|number| holdfast_engine::Binding { service: ServiceId(number), weight: 1 })
                .collect(),
        }],
        services: (0..SERVERS).map(service).collect(),
        l3_mode: false,
    }
}
