//! The bytes of each message and record, pinned: two versions of the program
//! must understand each other. `HOLDFAST_GOLDEN=write cargo test` writes the
//! files anew; their difference is then to be reviewed.

mod common;

use std::fmt::Write as _;
use std::path::Path;

use common::{flow, session_of, v4, v6};
use holdfast_engine::{FlowClose, FlowRecord, L2Disc, PersistenceRecord, Phase, SessionOf};
use holdfast_mirror::wire::{Ack, DATA_HEADER, DataWriter, Summary, Told, encode_ack, encode_summary};
use holdfast_mirror::{Digest, HealthRecord, JournalKind, Kept, Names};

fn data(write: impl FnOnce(&mut DataWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut DataWriter::new(&mut out, 0x0102_0304, 0x0a0b, &mut Names::new(0)));
    out
}

/// Two digits a byte, sixteen bytes a line; of data the fixed part stands apart.
fn hex(bytes: &[u8]) -> String {
    let (header, rest) = bytes.split_at(bytes.len().min(DATA_HEADER));
    let mut text = String::new();
    for line in [header].into_iter().chain(rest.chunks(16)) {
        let line: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", line.join(" ")).expect("strings take everything");
    }
    text
}

fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("hex");
    if std::env::var("HOLDFAST_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, hex(bytes)).expect("the folder is writable");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(hex(bytes), known, "{}", path.display());
}

#[test]
fn flows() {
    golden("flow-v4", &data(|out| out.flow(&flow(1, 0x0102_0304_0506), Some(77))));
    golden("flow-v4-usip", &data(|out| out.flow(&flow(5, 77), Some(77))));
    golden("flow-v6", &data(|out| out.flow(&flow(3, 77), Some(77))));
    let rare = FlowRecord {
        proto: 1,
        l2: L2Disc(0xdead_beef),
        phase: Phase::Closing,
        client_idle_s: 2,
        server_idle_s: 120,
        ..flow(1, 77)
    };
    let mut names = Names::new(4);
    let mut told = Vec::new();
    DataWriter::new(&mut told, 1, 1, &mut names).flow(&flow(1, 77), Some(77));
    golden("flow-names-told", &told);
    names.confirm(0..4);
    DataWriter::new(&mut told, 1, 2, &mut names).flow(&flow(1, 77), Some(77));
    golden("flow-names-used", &told);
    golden("flow-rare", &data(|out| out.flow(&rare, Some(77))));
    let before = FlowRecord { proto: 17, phase: Phase::Established, client: v4(8, 9), ..flow(1, 70) };
    golden("flow-as-before", &data(|out| [flow(1, 77), before].iter().for_each(|flow| out.flow(flow, None))));
}

#[test]
fn closes() {
    let close = |id| FlowClose { stamp: 78, key: flow(id, 77).client_key() };
    golden("close-number", &data(|out| out.close_number(77, 78)));
    golden("close-v4", &data(|out| out.close(&close(1))));
    golden("close-v6", &data(|out| out.close(&close(3))));
}

#[test]
fn persistence_sessions() {
    golden("persistence", &data(|out| out.persistence(&session_of(9, 77))));
    let ended = PersistenceRecord { server: None, ..session_of(9, 78) };
    golden("persistence-ended", &data(|out| out.persistence(&ended)));
    let wide = PersistenceRecord {
        of: SessionOf::Source(v6(9, 0).addr),
        vip: v6(1, 80),
        proto: 6,
        server: Some(v6(3, 8080)),
        ..session_of(9, 79)
    };
    golden("persistence-v6", &data(|out| out.persistence(&wide)));
    let by_destination = |of| PersistenceRecord { of, ..session_of(9, 80) };
    let (source, destination) = (v4(9, 0).addr, v4(7, 0).addr);
    golden("persistence-destip", &data(|out| out.persistence(&by_destination(SessionOf::Destination(destination)))));
    let both = by_destination(SessionOf::Both { source, destination });
    golden("persistence-srcipdestip", &data(|out| out.persistence(&both)));
    let both = SessionOf::Both { source: v6(9, 0).addr, destination: v6(7, 0).addr };
    golden("persistence-srcipdestip-v6", &data(|out| out.persistence(&PersistenceRecord { of: both, ..wide })));
}

#[test]
fn health() {
    golden("health-up-v4", &data(|out| out.health(&HealthRecord { server: v4(3, 80), kind: 6, up: true })));
    golden("health-down-v6", &data(|out| out.health(&HealthRecord { server: v6(3, 0), kind: 0, up: false })));
}

#[test]
fn journal_lines() {
    let lines = |out: &mut DataWriter<'_>| {
        out.journal(JournalKind::Begin, "", 0);
        out.journal(JournalKind::Line, "add server s1 10.0.0.3", 0);
        out.journal(JournalKind::End, "", 0);
    };
    golden("journal", &data(lines));
    let text = "long ".repeat(400);
    golden("journal-continued", &data(|out| assert_eq!(out.journal(JournalKind::Line, &text, 1_990), Some(2_000))));
    golden("journal-more", &data(|out| assert_eq!(out.journal(JournalKind::Line, &text, 0), Some(1_293))));
}

#[test]
fn digest() {
    golden("bulk-end", &data(|out| out.bulk_end(&Digest { digest: 0x0123_4567_89ab_cdef, flows: 1_000, journal: 77 })));
}

#[test]
fn kept_buckets_and_summaries() {
    golden("kept", &data(|out| out.kept(Kept { part: 63, buckets: 1 << 127 | 5 })));
    let mut out = Vec::new();
    encode_summary(&mut out, &Summary { session: 0x0102_0304, told: Told::Nothing });
    golden("summary-nothing", &out);
    let digests = Box::new(core::array::from_fn(|bucket| 0x0101_0101_0101_0101 * bucket as u64));
    encode_summary(&mut out, &Summary { session: 0x0102_0304, told: Told::Part { part: 3, digests } });
    golden("summary", &out);
}

#[test]
fn a_flow_with_fields_of_another_version() {
    golden("flow-tail", &data(|out| out.flow_with_tail(&flow(1, 77), Some(77), &[1, 3, 7, 8, 9])));
    golden(
        "flow-long-tail",
        &data(|out| out.flow_with_tail(&flow(3, 77), Some(77), &[[1, 62].as_slice(), &[5; 62]].concat())),
    );
}

#[test]
fn acknowledgements() {
    let mut out = Vec::new();
    for (name, bitmap) in [("ack", &[][..]), ("ack-with-gaps", &[0b1010_0110, 0x01])] {
        encode_ack(&mut out, &Ack { session: 0x0102_0304, room: 2_000, cumulative: 0x0a0b, bitmap });
        golden(name, &out);
    }
}
