//! The codec: what is written is read back, what is broken is refused, nothing
//! panics.

mod common;

use common::{v4, v6};
use holdfast_engine::{FlowClose, FlowKey, FlowRecord, L2Disc, PARTS, PersistenceRecord, Phase, SessionOf};
use holdfast_mirror::wire::{
    self, ACK_HEADER, Ack, Cursor, DATA_HEADER, DataHeader, DataWriter, Entry, MAX_BITMAP, MAX_RECORD, Message,
    Summary, Told,
};
use holdfast_mirror::{
    Digest, HealthRecord, JournalKind, Kept, KnownNames, MAX_NAMES, MAX_NUMBERS, MAX_PAYLOAD, Names, WireError,
};
use holdfast_wire::{Addr, Endpoint};
use proptest::prelude::*;

/// Checks a message that leans on no names told before.
fn check(payload: &[u8]) -> Result<DataHeader, WireError> {
    wire::validate_data(payload, &KnownNames::default()).map(|checked| checked.header)
}

/// Walks a checked message; journal fragments appear as health records never do.
fn entries(payload: &[u8]) -> Result<Vec<Entry<'_>>, WireError> {
    let header = wire::decode_data_header(payload)?;
    let mut cursor = Cursor::new(&header);
    std::iter::from_fn(|| cursor.next(payload, &KnownNames::default())).collect()
}

fn addr() -> impl Strategy<Value = Addr> {
    // Few values, so that "as before" happens, and arbitrary ones.
    prop_oneof![
        4 => (0u8..4).prop_map(|d| Addr::v4([10, 0, 0, d])),
        2 => any::<[u8; 4]>().prop_map(Addr::v4),
        1 => any::<[u8; 16]>().prop_map(Addr),
        1 => (0u8..4).prop_map(|d| v6(d, 0).addr),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (addr(), prop_oneof![Just(80), any::<u16>()]).prop_map(|(addr, port)| Endpoint { addr, port })
}

fn proto() -> impl Strategy<Value = u8> {
    prop_oneof![Just(6), Just(17), Just(0), any::<u8>()]
}

fn stamp() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..1000, 1..1u64 << 62, Just(1), Just((1 << 62) - 1)]
}

fn flow() -> impl Strategy<Value = FlowRecord> {
    let phase = prop_oneof![Just(Phase::Opening), Just(Phase::Established), Just(Phase::Closing)];
    let l2 = prop_oneof![Just(0), any::<u32>()].prop_map(L2Disc);
    let idle = prop_oneof![Just(0), Just(180), Just(9000), any::<u32>()];
    let ends = (endpoint(), endpoint(), endpoint(), endpoint(), any::<bool>());
    (stamp(), proto(), l2, ends, phase, idle.clone(), idle).prop_map(
        |(stamp, proto, l2, ends, phase, client, server)| {
            let source = if ends.4 { ends.0 } else { ends.3 };
            FlowRecord {
                stamp,
                proto,
                l2,
                client: ends.0,
                vip: ends.1,
                server: ends.2,
                source,
                phase,
                client_idle_s: client,
                server_idle_s: server,
            }
        },
    )
}

fn entry() -> impl Strategy<Value = Entry<'static>> {
    let close = (stamp(), proto(), prop_oneof![Just(0), any::<u32>()], endpoint(), endpoint())
        .prop_map(|(stamp, proto, l2, src, dst)| FlowClose { stamp, key: FlowKey { proto, l2: L2Disc(l2), src, dst } });
    let of = prop_oneof![
        addr().prop_map(SessionOf::Source),
        addr().prop_map(SessionOf::Destination),
        (addr(), addr()).prop_map(|(source, destination)| SessionOf::Both { source, destination }),
    ];
    let persistence = (stamp(), endpoint(), proto(), of, prop::option::of(endpoint()))
        .prop_map(|(stamp, vip, proto, of, server)| PersistenceRecord { stamp, vip, proto, of, server });
    let health =
        (endpoint(), any::<u8>(), any::<bool>()).prop_map(|(server, kind, up)| HealthRecord { server, kind, up });
    prop_oneof![
        4 => (flow(), prop::option::of(0..MAX_NUMBERS)).prop_map(|(flow, number)| Entry::Flow(flow, number)),
        1 => (stamp(), 0..MAX_NUMBERS).prop_map(|(stamp, number)| Entry::CloseNumber { number, stamp }),
        2 => close.prop_map(Entry::Close),
        1 => persistence.prop_map(Entry::Persistence),
        1 => health.prop_map(Entry::Health),
        1 => (0..PARTS as u8, any::<u128>()).prop_map(|(part, buckets)| Entry::Kept(Kept { part, buckets })),
        1 => any::<[u64; 3]>().prop_map(|[digest, flows, journal]| Entry::BulkEnd(Digest { digest, flows, journal })),
    ]
}

fn put(writer: &mut DataWriter<'_>, entry: &Entry<'_>) {
    match entry {
        Entry::Flow(record, number) => writer.flow(record, *number),
        Entry::CloseNumber { number, stamp } => writer.close_number(*number, *stamp),
        Entry::Close(record) => writer.close(record),
        Entry::Persistence(record) => writer.persistence(record),
        Entry::Health(record) => writer.health(record),
        Entry::BulkEnd(digest) => writer.bulk_end(digest),
        Entry::Fragment(fragment) => {
            writer.journal(fragment.kind, fragment.text, 0).expect("room for it");
        }
        Entry::Kept(kept) => writer.kept(*kept),
        Entry::Name { .. } | Entry::Unknown => panic!("nobody writes these by itself"),
    }
}

fn message(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut names = Names::new(0);
    let mut writer = DataWriter::new(&mut out, 7, 9, &mut names);
    for entry in entries {
        put(&mut writer, entry);
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(written in prop::collection::vec(entry(), 1..13)) {
        let out = message(&written);
        prop_assert!(out.len() <= DATA_HEADER + written.len() * MAX_RECORD);
        let header = check(&out).expect("our own message");
        prop_assert_eq!((header.session, header.seq), (7, 9));
        prop_assert_eq!(entries(&out).expect("our own message"), written);
    }

    #[test]
    fn journal_text_survives_any_cut(text in "\\PC{0,3000}", filler in 0usize..1250) {
        let mut from = 0;
        let mut joined = String::new();
        let filler = "x".repeat(filler);
        loop {
            let mut out = Vec::new();
            let mut names = Names::new(0);
            let mut writer = DataWriter::new(&mut out, 1, 0, &mut names);
            writer.journal(JournalKind::Begin, &filler, 0);
            let next = writer.journal(JournalKind::Line, &text, from);
            let read = entries(&out).expect("our own message");
            let Some(next) = next else {
                // No room worth it beside the filler; a fresh datagram has.
                prop_assert_eq!(read.len(), 1);
                prop_assert!(from + 64 <= text.len() || from == 0);
                break;
            };
            let Some(Entry::Fragment(fragment)) = read.last() else { panic!("{read:?}") };
            prop_assert_eq!((fragment.first, fragment.last), (from == 0, next == text.len()));
            prop_assert_eq!(fragment.kind, JournalKind::Line);
            joined.push_str(fragment.text);
            from = next;
            if fragment.last {
                prop_assert_eq!(&joined, &text);
                break;
            }
        }
    }

    #[test]
    fn truncation_is_noticed_unless_it_falls_between_records(
        written in prop::collection::vec(entry(), 1..6), cut in any::<prop::sample::Index>()
    ) {
        let out = message(&written);
        let cut = &out[..cut.index(out.len())];
        if check(cut).is_ok() {
            let read = entries(cut).expect("just checked");
            prop_assert!(read.len() < written.len());
            prop_assert_eq!(&read[..], &written[..read.len()]);
        }
    }

    #[test]
    fn mutation_never_panics_and_a_checked_message_reads_to_its_end(
        written in prop::collection::vec(entry(), 1..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut out = message(&written);
        for (at, byte) in changes {
            let at = at.index(out.len());
            out[at] = byte;
        }
        let _ = wire::peek(&out);
        let _ = wire::decode_ack(&out);
        if check(&out).is_ok() {
            prop_assert!(entries(&out).is_ok());
        }
    }

    #[test]
    fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..1400), kind in 1u8..4) {
        let _ = (wire::peek(&bytes), check(&bytes), wire::decode_ack(&bytes), wire::decode_summary(&bytes));
        if bytes.len() > 2 {
            (bytes[0], bytes[1]) = (wire::VERSION, kind);
            let _ = (wire::peek(&bytes), check(&bytes), wire::decode_ack(&bytes));
            if let Ok(summary) = wire::decode_summary(&bytes) {
                let mut again = Vec::new();
                wire::encode_summary(&mut again, &summary);
                prop_assert_eq!(again, bytes, "nothing of it was passed over");
            }
        }
    }

    #[test]
    fn acknowledgements_are_read_back(
        session in any::<u32>(), room in any::<u16>(), cumulative in 0u64..1 << 63,
        bitmap in prop::collection::vec(any::<u8>(), 0..=MAX_BITMAP)
    ) {
        let ack = Ack { session, room, cumulative, bitmap: &bitmap };
        let mut out = Vec::new();
        wire::encode_ack(&mut out, &ack);
        prop_assert_eq!(out.len(), ACK_HEADER + bitmap.len());
        prop_assert_eq!(wire::decode_ack(&out), Ok(ack));
        prop_assert_eq!(ack.beyond().count() as u32, bitmap.iter().map(|byte| byte.count_ones()).sum::<u32>());
        prop_assert!(ack.beyond().all(|seq| seq > cumulative && seq <= cumulative + 1024));
        prop_assert!(ack.beyond().is_sorted());
    }
}

fn simple(proto: u8, end: fn(u8, u16) -> Endpoint) -> FlowRecord {
    FlowRecord {
        stamp: 1 << 40,
        proto,
        l2: L2Disc(0),
        client: end(9, 50_000),
        vip: end(1, 443),
        server: end(3, 8443),
        source: end(2, 40_000),
        phase: Phase::Opening,
        client_idle_s: 9000,
        server_idle_s: 9000,
    }
}

/// Bytes of a record written by itself in a session whose names are all known.
fn settled_bytes(entry: &Entry<'_>) -> usize {
    let mut names = Names::new(MAX_NAMES);
    let mut out = Vec::new();
    put(&mut DataWriter::new(&mut out, 7, 9, &mut names), entry);
    names.confirm(0..MAX_NAMES);
    put(&mut DataWriter::new(&mut out, 7, 10, &mut names), entry);
    out.len() - DATA_HEADER
}

/// The targets are 32 and 48 bytes for an open and 12 for a close.
#[test]
fn an_open_takes_24_bytes_of_ipv4_and_36_of_ipv6_and_a_close_6() {
    for (end, limit) in [(v4 as fn(u8, u16) -> Endpoint, 24), (v6, 36)] {
        assert_eq!(settled_bytes(&Entry::Flow(simple(6, end), Some(1_000_000))), limit);
        let close = Entry::CloseNumber { number: 1_000_000, stamp: 1 << 40 };
        assert_eq!(settled_bytes(&close), 6);
        // Before the names are known, and behind a neighbour of the same datagram.
        let alone = message(&[Entry::Flow(simple(6, end), Some(1_000_000))]).len() - DATA_HEADER;
        assert!(alone <= limit + 3 * 16, "{alone}");
        let other = FlowRecord { stamp: (1 << 40) + 1, client: end(10, 50_001), ..simple(6, end) };
        let both = message(&[Entry::Flow(simple(6, end), Some(1_000_000)), Entry::Flow(other, Some(1_000_000))]).len()
            - DATA_HEADER;
        assert!(both - alone <= limit - 8, "a neighbour costs {}", both - alone);
    }
}

#[test]
fn a_name_is_told_once_and_used_only_when_it_is_stored() {
    let (mut sender, mut receiver) = (Names::new(MAX_NAMES), KnownNames::default());
    let record = Entry::Flow(simple(6, v4), Some(1_000_000));
    let mut sizes = Vec::new();
    for round in 0..3 {
        let mut out = Vec::new();
        put(&mut DataWriter::new(&mut out, 7, round, &mut sender), &record);
        let checked = wire::validate_data(&out, &receiver).expect("our own message");
        assert_eq!(checked.names, if round == 0 { 3 } else { 0 });
        let mut cursor = Cursor::new(&checked.header);
        let mut flows = Vec::new();
        while let Some(entry) = cursor.next(&out, &receiver) {
            match entry.expect("checked") {
                Entry::Name { number, addr } => receiver.learn(number, addr),
                flow => flows.push(flow),
            }
        }
        assert_eq!(flows, [record]);
        sizes.push(out.len() - DATA_HEADER);
        if round == 1 {
            sender.confirm(0..3);
            assert_eq!(wire::validate_data(&out, &KnownNames::default()).map(|checked| checked.names), Ok(0));
        } else if round == 2 {
            assert_eq!(wire::validate_data(&out, &KnownNames::default()), Err(WireError::Reference));
        }
    }
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

#[test]
fn a_number_never_stands_for_two_addresses() {
    let mut known = KnownNames::default();
    known.learn(0, v4(1, 0).addr);
    assert!(wire::validate_data(&raw(&[7, 5, 0, 10, 0, 0, 1]), &known).is_ok());
    assert_eq!(wire::validate_data(&raw(&[7, 5, 0, 10, 0, 0, 2]), &known), Err(WireError::Value));
}

#[test]
fn addresses_beyond_the_dictionary_are_written_out() {
    let mut names = Names::new(2);
    let mut out = Vec::new();
    put(&mut DataWriter::new(&mut out, 7, 9, &mut names), &Entry::Flow(simple(6, v6), Some(1_000_000)));
    names.confirm(0..2);
    put(&mut DataWriter::new(&mut out, 7, 10, &mut names), &Entry::Flow(simple(6, v6), Some(1_000_000)));
    assert_eq!(out.len() - DATA_HEADER, 36 + 16);
}

#[test]
fn the_largest_record_fits_the_room_that_is_asked_for() {
    let record = FlowRecord {
        stamp: u64::MAX >> 1,
        l2: L2Disc(u32::MAX),
        client_idle_s: u32::MAX,
        server_idle_s: u32::MAX - 1,
        ..simple(200, v6)
    };
    // The difference of the stamps is the largest there is, and nothing is shared.
    let first = FlowRecord { stamp: u64::MAX, ..simple(6, v4) };
    let alone = message(&[Entry::Flow(first, Some(1_000_000))]).len();
    assert_eq!(
        message(&[Entry::Flow(first, Some(1_000_000)), Entry::Flow(record, Some(MAX_NUMBERS - 1))]).len() - alone,
        MAX_RECORD
    );
}

/// A data message with this body, base stamp 1.
fn raw(body: &[u8]) -> Vec<u8> {
    let mut out = vec![wire::VERSION, 1, 0, 0, 0, 0, 0, 7];
    out.extend_from_slice(&0u64.to_be_bytes());
    out.extend_from_slice(&1u64.to_be_bytes());
    out.extend_from_slice(body);
    out
}

#[test]
fn every_reason_to_refuse_is_told_apart() {
    let ends = [10, 0, 0, 9, 1, 2, 0, 10, 0, 0, 1, 0, 80, 0, 10, 0, 0, 3, 0, 80, 0, 10, 0, 0, 2, 0, 9];
    let with = |tag: u8, shape: u8| [&[tag, 33, shape, 0, 6][..], &ends, &[1, 1, 0]].concat();
    assert_eq!(check(&raw(&with(1, 0))).map(|header| header.base), Ok(1), "the plain one is right");
    let cases: &[(&[u8], WireError)] = &[
        (&[], WireError::Empty),
        (&[1], WireError::Truncated),
        (&[1, 5, 0], WireError::Truncated),
        (&[1, 0], WireError::Truncated),
        (&[6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], WireError::Truncated),
        (&[6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], WireError::Varint),
        (&[6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], WireError::Varint),
        (&[12, 0], WireError::UnknownRecord),
        (&[15, 0], WireError::UnknownRecord),
        (&with(0x31, 0), WireError::Value),
        (&with(0x01, 0x18), WireError::Value),
        (&with(0x81, 0x80), WireError::Value),
        (&with(0x01, 0x20), WireError::Reference),
        (&[1, 3, 1, 1, 0], WireError::Stamp),
        // A close by number 0 whose stamp is 2^62: the difference to the base, 1, zigzag.
        (&[0x82, 10, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], WireError::Stamp),
        (&[5, 2, 0xc3, 0x28], WireError::Text),
        (&[7, 5, 0x80, 8, 10, 0, 0, 1], WireError::Truncated),
        (&[7, 6, 0x80, 8, 10, 0, 0, 1], WireError::Value),
        (&[0x87, 5, 0, 10, 0, 0, 1], WireError::Value),
        (&[0x82, 2, 0, 0], WireError::Value),
        (&[0x82, 6, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], WireError::Value),
        (&[0x92, 2, 0, 1], WireError::Value),
        (&[0x35, 0], WireError::Value),
        (&[&[0x16, 24][..], &[0; 24]].concat(), WireError::Value),
        (&[8, 17, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WireError::Value),
        (&[0x18, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WireError::Value),
        (&[8, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WireError::Truncated),
        (&[4, 9, 6, 10, 0, 0, 3, 0, 80, 0x80, 0], WireError::UnknownField),
        (&[4, 9, 6, 10, 0, 0, 3, 0, 80, 0x01, 1], WireError::Truncated),
    ];
    for (body, reason) in cases {
        assert_eq!(check(&raw(body)), Err(*reason), "{body:02x?}");
    }
    assert_eq!(check(&[0; MAX_PAYLOAD + 1]), Err(WireError::TooLong));
    assert_eq!(check(&[2, 1, 0, 0, 0, 0, 0, 0]), Err(WireError::Version));
    assert_eq!(check(&[1, 3, 0, 0, 0, 0, 0, 0]), Err(WireError::MessageKind));
    assert_eq!(check(&[1, 2, 0, 0, 0, 0, 0, 0]), Err(WireError::MessageKind));
    assert_eq!(wire::decode_ack(&raw(&[])), Err(WireError::MessageKind));
    let mut far = raw(&[12, 0]);
    far[8] = 0x80;
    assert_eq!(check(&far), Err(WireError::Sequence));
    let mut wide = vec![0; ACK_HEADER + MAX_BITMAP + 1];
    (wide[0], wide[1]) = (wire::VERSION, 2);
    assert_eq!(wire::decode_ack(&wide), Err(WireError::AckTooWide));
    assert_eq!(wire::peek(&wide), Ok((Message::Ack, 0)));
}

#[test]
fn a_summary_is_read_back_and_a_broken_one_refused() {
    let digests = Box::new(core::array::from_fn(|bucket| bucket as u64 * 77));
    let mut out = Vec::new();
    for told in [Told::Nothing, Told::Part { part: 63, digests }] {
        let summary = Summary { session: 7, told };
        wire::encode_summary(&mut out, &summary);
        assert!(out.len() <= MAX_PAYLOAD);
        assert_eq!(wire::decode_summary(&out), Ok(summary));
        assert_eq!(wire::peek(&out), Ok((Message::Summary, 7)));
    }
    assert_eq!(wire::decode_summary(&out[..out.len() - 1]), Err(WireError::Truncated));
    assert_eq!(wire::decode_summary(&[&out[..], &[0]].concat()), Err(WireError::TooLong));
    out[3] = 1;
    assert_eq!(wire::decode_summary(&out), Err(WireError::Value));
    out[3] = 0;
    out[2] = 64;
    assert_eq!(wire::decode_summary(&out), Err(WireError::Value));
    assert_eq!(wire::decode_summary(&raw(&[])), Err(WireError::MessageKind));
    assert_eq!(wire::decode_ack(&out), Err(WireError::MessageKind));
}

#[test]
fn fields_of_another_version_are_found_and_written_again() {
    let tail = [0x01, 3, 1, 2, 3, 0x7f, 1, 9];
    let record = simple(6, v4);
    let mut out = Vec::new();
    for tail in [&tail[..], &[0x02, 62].into_iter().chain([5; 62]).collect::<Vec<u8>>()] {
        let mut names = Names::new(0);
        let mut writer = DataWriter::new(&mut out, 7, 9, &mut names);
        writer.flow_with_tail(&record, Some(3), tail);
        writer.flow(&record, None);
        check(&out).expect("our own message");
        let mut cursor = Cursor::new(&wire::decode_data_header(&out).expect("our own header"));
        assert_eq!(cursor.next(&out, &KnownNames::default()), Some(Ok(Entry::Flow(record, Some(3)))));
        assert_eq!(cursor.tail(&out), tail);
        assert_eq!(cursor.next(&out, &KnownNames::default()), Some(Ok(Entry::Flow(record, None))));
        assert_eq!(cursor.tail(&out), []);
    }
}

#[test]
fn records_and_tail_fields_of_later_versions_are_skipped_and_counted() {
    let payload = raw(&[9, 2, 0xaa, 0xbb, 4, 12, 6, 10, 0, 0, 3, 0, 80, 0x01, 3, 1, 2, 3]);
    check(&payload).expect("only skippable things");
    let mut cursor = Cursor::new(&wire::decode_data_header(&payload).expect("our own header"));
    assert_eq!(cursor.next(&payload, &KnownNames::default()), Some(Ok(Entry::Unknown)));
    let health = HealthRecord { server: v4(3, 80), kind: 6, up: false };
    assert_eq!(cursor.next(&payload, &KnownNames::default()), Some(Ok(Entry::Health(health))));
    assert_eq!((cursor.next(&payload, &KnownNames::default()), cursor.unknown()), (None, 2));
}

/// The end of a session of `client` with these tail fields.
fn session_end(client: [u8; 4], tail: &[u8]) -> Vec<u8> {
    let fields = [&[1, 0][..], &client, &[0, 10, 0, 0, 1, 0, 80], tail].concat();
    raw(&[&[0x83, fields.len() as u8][..], &fields].concat())
}

#[test]
fn whose_a_session_is_stands_in_tail_fields_that_must_make_sense() {
    let (somebody, nobody) = ([10, 0, 0, 9], [0; 4]);
    let read = |client, tail: &[u8]| {
        let payload = session_end(client, tail);
        check(&payload)?;
        let mut cursor = Cursor::new(&wire::decode_data_header(&payload).expect("our own header"));
        match cursor.next(&payload, &KnownNames::default()) {
            Some(Ok(Entry::Persistence(record))) => Ok((record.of, cursor.unknown())),
            other => panic!("a session, not {other:?}"),
        }
    };
    let (source, destination) = (v4(9, 0).addr, v4(7, 0).addr);
    assert_eq!(read(somebody, &[]), Ok((SessionOf::Source(source), 0)));
    assert_eq!(read(somebody, &[1, 4, 10, 0, 0, 7]), Ok((SessionOf::Both { source, destination }, 0)));
    assert_eq!(read(nobody, &[2, 4, 10, 0, 0, 7]), Ok((SessionOf::Destination(destination), 0)));
    let later = [9, 1, 5, 1, 4, 10, 0, 0, 7, 0x7f, 0];
    assert_eq!(read(somebody, &later), Ok((SessionOf::Both { source, destination }, 2)), "others are skipped");
    let cases: [(_, &[u8], _); 8] = [
        (somebody, &[2, 4, 10, 0, 0, 7], WireError::Value),
        (somebody, &[1, 4, 10, 0, 0, 7, 1, 4, 10, 0, 0, 7], WireError::Value),
        (nobody, &[1, 4, 10, 0, 0, 7, 2, 4, 10, 0, 0, 7], WireError::Value),
        (somebody, &[1, 3, 10, 0, 0], WireError::Truncated),
        (somebody, &[1, 5, 10, 0, 0, 7, 7], WireError::Truncated),
        (somebody, &[1, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WireError::Value),
        (somebody, &[1, 4, 10, 0, 0], WireError::Truncated),
        (somebody, &[0x80, 0], WireError::UnknownField),
    ];
    for (client, tail, reason) in cases {
        assert_eq!(read(client, tail), Err(reason), "{tail:02x?}");
    }
}

#[test]
fn each_reason_has_its_own_index() {
    for (index, reason) in WireError::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
        assert!(!reason.to_string().is_empty());
    }
}
