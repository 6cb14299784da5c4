//! The mirror stream's three messages, through codec and machines.

use holdfast_base::Instant;
use holdfast_engine::{BUCKETS_PER_PART, FlowClose, FlowRecord, FlowRef, L2Disc, PersistenceRecord, Phase, SessionOf};
use holdfast_mirror::wire::{
    self, Ack, Cursor, DataWriter, Summary, Told, decode_ack, decode_summary, encode_ack, encode_summary, peek,
    validate_data,
};
use holdfast_mirror::{
    Digest, HealthRecord, Item, JournalKind, JournalLine, Kept, KnownNames, Limits, MAX_NAMES, Names, Receiver, Sender,
    Source,
};

use crate::Input;
use crate::frames::{client, host, server, vip};

const SESSION: u32 = 5;
/// Messages of one input at most.
const MAX_MESSAGES: usize = 32;

fn limits() -> Limits {
    Limits { window: 64, bulk_window: 16, marks: 64, urgent: 256, journal_bytes: 65_536, bulk: 64, receive: 64 }
}

/// Hears `data` as a data message: alone, behind one that told names, and as several messages, each behind its length.
pub fn mirror_data(data: &[u8]) {
    alone(data);
    behind_names(data);
    one_by_one(data);
}

/// A valid message goes through a receiver that knows nothing.
fn alone(data: &[u8]) {
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

/// A receiver that has learned names hears what may lean on them.
fn behind_names(data: &[u8]) {
    let session = peek(data).map_or(SESSION, |(_, session)| session);
    let mut receiver = Receiver::new(limits());
    receiver.start(session);
    assert_eq!(receiver.handle_data(Instant::ZERO, &names_told(session).0), Ok(()));
    let before = receiver.stats().datagrams;
    let taken = receiver.handle_data(Instant::ZERO, data);
    assert!(taken.is_ok() || receiver.stats().datagrams == before, "what is refused is not stored");
    drain(&mut receiver);
    let _ = receiver.salvage();
    drain(&mut receiver);
}

/// Messages behind each other, each with its length in two bytes before it, through one receiver.
fn one_by_one(data: &[u8]) {
    let mut input = Input(data);
    let mut receiver = Receiver::new(limits());
    receiver.start(SESSION);
    for _ in 0..MAX_MESSAGES {
        if input.is_empty() {
            break;
        }
        let len = input.be16().into();
        let _ = receiver.handle_data(Instant::ZERO, input.take(len));
        drain(&mut receiver);
    }
    let _ = receiver.salvage();
    drain(&mut receiver);
}

/// Takes everything out; own acknowledgements are readable.
fn drain(receiver: &mut Receiver) {
    let mut ack = Vec::new();
    while receiver.poll_record().is_some() {
        assert!(receiver.tail().len() <= wire::MAX_TAIL);
    }
    if receiver.poll_ack(Instant::ZERO, &mut ack) {
        assert!(decode_ack(&ack).is_ok(), "own acknowledgements are readable");
    }
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

/// Kinds of records that [`write`] knows.
const KINDS: u8 = 11;

/// Data messages: one of each kind of record alone, one with all of them. Each can be read without another.
pub fn data_seeds() -> Vec<Vec<u8>> {
    messages(0, || Names::new(MAX_NAMES))
}

/// The same as second messages of a session whose first one told names: they call addresses by number.
pub fn later_seeds() -> Vec<Vec<u8>> {
    messages(1, || names_told(SESSION).1)
}

/// Everything that the target begins with: both of these, and pairs of messages in order, reversed and repeated.
pub fn all_data_seeds() -> Vec<Vec<u8>> {
    let (first, later) = (names_told(SESSION).0, later_seeds());
    let train = |messages: &[&[u8]]| -> Vec<u8> {
        let prefixed =
            messages.iter().flat_map(|message| [&(message.len() as u16).to_be_bytes()[..], message].concat());
        prefixed.collect()
    };
    let mut all = data_seeds();
    for message in &later {
        all.push(train(&[&first, message]));
    }
    let last = &later[usize::from(KINDS)];
    all.extend([train(&[last, &first]), train(&[&first, &first, last, last])]);
    all.extend(later);
    all
}

/// The first message of a session, which tells every name, and the names as its sender has them once it is acknowledged.
pub fn names_told(session: u32) -> (Vec<u8>, Names) {
    let (mut out, mut names) = (Vec::new(), Names::new(MAX_NAMES));
    let mut writer = DataWriter::new(&mut out, session, 0, &mut names);
    writer.flow(&record(false, 7), Some(1));
    writer.flow(&record(true, 8), Some(2));
    names.confirm(0..MAX_NAMES);
    (out, names)
}

fn messages(seq: u64, names: fn() -> Names) -> Vec<Vec<u8>> {
    let message = |kind| {
        let (mut out, mut names) = (Vec::new(), names());
        let mut writer = DataWriter::new(&mut out, SESSION, seq, &mut names);
        for each in (0..KINDS).filter(|&each| kind == each || kind == KINDS) {
            write(&mut writer, each);
        }
        out
    };
    (0..=KINDS).map(message).collect()
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
            let of = SessionOf::Source(client);
            writer.persistence(&PersistenceRecord { stamp: 12, vip, proto: 6, of, server: Some(server(true)) });
            let of = SessionOf::Both { source: client, destination: vip.addr };
            writer.persistence(&PersistenceRecord { stamp: 13, vip, proto: 6, of, server: Some(server(true)) });
        }
        4 => writer.health(&HealthRecord { server: server(false), kind: 6, up: true }),
        5 => {
            let line = JournalLine::new(JournalKind::Line, "add server s1 10.0.2.21".into()).expect("short");
            writer.journal(line.kind(), line.text(), 0);
        }
        6 => {
            let (vip, client) = (vip(false), client(false).addr);
            let of = SessionOf::Source(client);
            writer.persistence(&PersistenceRecord { stamp: 13, vip, proto: 6, of, server: None });
            let of = SessionOf::Destination(vip.addr);
            writer.persistence(&PersistenceRecord { stamp: 14, vip, proto: 6, of, server: None });
        }
        7 => writer.kept(Kept { part: 63, buckets: 1 << 127 | 5 }),
        // Fields of another version: one that may be skipped, and one of the longest.
        8 => writer.flow_with_tail(&record(false, 14), Some(4), &[1, 2, 3, 4]),
        9 => writer.flow_with_tail(&record(true, 15), None, &longest_tail()),
        _ => writer.bulk_end(&Digest { digest: 0x1122_3344_5566_7788, flows: 3, journal: 9 }),
    }
}

fn longest_tail() -> Vec<u8> {
    let len = wire::MAX_TAIL as u8 - 2;
    [1, len].into_iter().chain((0..len).map(|byte| byte.wrapping_mul(37))).collect()
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
