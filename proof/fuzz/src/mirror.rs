//! The mirror stream's three messages, through codec and machines.

use holdfast_base::Instant;
use holdfast_engine::{BUCKETS_PER_PART, FlowClose, FlowRecord, FlowRef, L2Disc, PersistenceRecord, Phase};
use holdfast_mirror::wire::{
    Ack, Cursor, DataWriter, Summary, Told, decode_ack, decode_summary, encode_ack, encode_summary, peek, validate_data,
};
use holdfast_mirror::{
    Digest, HealthRecord, Item, JournalKind, JournalLine, KnownNames, Limits, MAX_NAMES, Names, Receiver, Sender,
    Source,
};

use crate::frames::{client, host, server, vip};

const SESSION: u32 = 5;

fn limits() -> Limits {
    Limits { window: 64, bulk_window: 16, marks: 64, urgent: 256, journal_bytes: 65_536, bulk: 64, receive: 64 }
}

/// Decodes `data` as a data message; a valid one goes through a receiver.
pub fn mirror_data(data: &[u8]) {
    let valid = validate_data(data, &KnownNames::default());
    if let Ok(checked) = valid {
        let mut cursor = Cursor::new(&checked.header);
        while let Some(entry) = cursor.next(data, &KnownNames::default()) {
            assert!(entry.is_ok(), "a validated message has no broken record");
        }
    }
    let session = peek(data).map_or(SESSION, |(_, session)| session);
    let mut receiver = Receiver::new(limits());
    receiver.start(session);
    let mut ack = Vec::new();
    for _ in 0..2 {
        let _ = receiver.handle_data(Instant::ZERO, data);
        assert!(receiver.stats().datagrams == 0 || valid.is_ok(), "only what is valid is stored");
        while receiver.poll_record().is_some() {}
        if receiver.poll_ack(Instant::ZERO, &mut ack) {
            assert!(decode_ack(&ack).is_ok(), "own acknowledgements are readable");
        }
    }
    let _ = receiver.salvage();
    while receiver.poll_record().is_some() {}
}

/// Gives `data` to a sender that has datagrams in flight.
pub fn mirror_ack(data: &[u8]) {
    let decoded = decode_ack(data);
    if let Ok(ack) = decoded {
        assert!(ack.beyond().all(|seq| seq > ack.cumulative));
        let mut again = Vec::new();
        encode_ack(&mut again, &ack);
        assert_eq!(decode_ack(&again), Ok(ack));
    }
    if let Ok(summary) = decode_summary(data) {
        let mut again = Vec::new();
        encode_summary(&mut again, &summary);
        assert_eq!(decode_summary(&again), Ok(summary));
    }
    let mut sender = Sender::new(limits());
    let session = peek(data).map_or(SESSION, |(_, session)| session);
    sender.start(Instant::ZERO, session);
    let mut out = Vec::new();
    for slot in 0..3 {
        sender.push(Item::Flow(FlowRef { slot, generation: 1 }));
        sender.poll_transmit(Instant::ZERO, &mut Flows, &mut out);
    }
    let mut stored = Vec::new();
    let taken = sender.handle_ack(Instant::ZERO, data, &mut |flow, stamp| stored.push((flow, stamp)));
    assert!(taken.is_ok() || stored.is_empty(), "a refused acknowledgement stores nothing");
    assert!(stored.len() <= 3, "no flow is acknowledged twice");
}

/// Every flow exists and is the same one.
struct Flows;

impl Source for Flows {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        Some(record(false, u64::from(flow.slot) + 1))
    }

    fn digest(&mut self) -> Digest {
        Digest::default()
    }
}

fn record(v6: bool, stamp: u64) -> FlowRecord {
    FlowRecord {
        stamp,
        proto: 6,
        l2: L2Disc(0),
        client: client(v6),
        vip: vip(v6),
        server: server(v6),
        source: holdfast_wire::Endpoint { addr: host(v6, 2, 5), port: 1024 },
        phase: Phase::Established,
        client_idle_s: 180,
        server_idle_s: 300,
    }
}

/// Data messages: one with every kind of record, one of each kind alone.
pub fn data_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut out = Vec::new();
    for kind in 0..8 {
        let mut names = Names::new(MAX_NAMES);
        let mut writer = DataWriter::new(&mut out, SESSION, 0, &mut names);
        for each in 0..7 {
            if kind == each || kind == 7 {
                write(&mut writer, each);
            }
        }
        all.push(out.clone());
    }
    all
}

fn write(writer: &mut DataWriter<'_>, kind: u8) {
    match kind {
        0 => writer.flow(&record(false, 9), Some(3)),
        1 => writer.flow(&record(true, 10), None),
        2 => {
            writer.close(&FlowClose { stamp: 11, key: record(false, 9).client_key() });
            writer.close_number(3, 12);
        }
        3 => {
            let (vip, client) = (vip(true), client(true).addr);
            writer.persistence(&PersistenceRecord { stamp: 12, vip, proto: 6, client, server: Some(server(true)) });
        }
        4 => writer.health(&HealthRecord { server: server(false), kind: 6, up: true }),
        5 => {
            let line = JournalLine::new(JournalKind::Line, "add server s1 10.0.2.21".into()).expect("short");
            writer.journal(line.kind(), line.text(), 0);
        }
        _ => writer.bulk_end(&Digest { digest: 0x1122_3344_5566_7788, flows: 3, journal: 9 }),
    }
}

/// Acknowledgements.
pub fn ack_seeds() -> Vec<Vec<u8>> {
    let acks = [(0, &[][..]), (1, &[0b10][..]), (3, &[0; 8][..])].map(|(cumulative, bitmap)| {
        let mut out = Vec::new();
        encode_ack(&mut out, &Ack { session: SESSION, room: 64, cumulative, bitmap });
        out
    });
    let summaries = [Told::Nothing, Told::Part { part: 2, digests: Box::new([7; BUCKETS_PER_PART]) }].map(|told| {
        let mut out = Vec::new();
        encode_summary(&mut out, &Summary { session: SESSION, told });
        out
    });
    acks.into_iter().chain(summaries).collect()
}
