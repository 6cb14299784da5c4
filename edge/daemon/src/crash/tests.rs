use super::lives::LivesFile;
use super::report::{Cause, LONGEST_REPORT, Page};
use super::trail::{Kind, Phase, Ring};
use super::*;
use crate::log::Format;
use holdfast_base::Rng;
use holdfast_mirror::{JournalKind, JournalLine};
use holdfast_node::Level;

fn report_of(trail: &Trail, signal: i32) -> String {
    let mut written = Vec::new();
    let mut write = |bytes: &[u8]| written.extend_from_slice(bytes);
    let cause = Cause { signal, sender: None, address: None };
    report::write(trail, cause, 1_700_000_000_500_000_000, 1_700_000_000_000_000_000, 77, &mut Page::new(&mut write));
    String::from_utf8(written).expect("a report is text")
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// A frame with a payload of `SECRET`s behind its headers.
fn frame(ethertype: u16, headers: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xaa; 12];
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(b"SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRET");
    frame
}

fn ipv4(proto: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, (fragment >> 8) as u8, fragment as u8, 64, proto, 0, 0];
    packet.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend_from_slice(transport);
    packet
}

fn ipv6(next: u8, transport: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet.extend_from_slice(&[0x20; 32]);
    packet.extend_from_slice(transport);
    packet
}

#[test]
fn a_ring_keeps_the_last_entries_and_no_more() {
    let ring: Ring<4, 6> = Ring::new();
    assert_eq!(ring.entries().count(), 0);
    for number in 1..=10u64 {
        ring.put(number * 100, Kind::Frame, number, 99, format!("entry number {number} is long").as_bytes());
    }
    let entries: Vec<_> = ring.entries().collect();
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [7, 8, 9, 10]);
    for entry in entries {
        assert_eq!((entry.at, entry.detail, entry.kind), (entry.number * 100, entry.number, Some(Kind::Frame)));
        let wanted = format!("entry number {} is long", entry.number);
        assert_eq!((entry.bytes(), entry.whole), (&wanted.as_bytes()[..16], 99), "two words of bytes are kept");
    }
}

#[test]
fn of_a_frame_only_headers_are_kept() {
    let trail = Trail::new();
    let mut tcp = vec![0; 32];
    tcp[12] = 8 << 4;
    let frames = [
        (frame(0x0800, &ipv4(6, 0, &tcp)), 14 + 20 + 32),
        (frame(0x0800, &ipv4(17, 0, &[0; 8])), 14 + 20 + 8),
        (frame(0x0800, &ipv4(6, 0x2001, &[])), 14 + 20),
        (frame(0x0800, &ipv4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0])), 14 + 20 + 8),
        (frame(0x0800, &ipv4(1, 0, &[[3; 8].as_slice(), &[0x45; 28]].concat())), 14 + 20 + 36),
        (frame(0x0800, &ipv4(47, 0, &[])), 14 + 20),
        (frame(0x86dd, &ipv6(6, &tcp)), 14 + 40 + 32),
        (frame(0x86dd, &ipv6(17, &[0; 8])), 14 + 40 + 8),
        (frame(0x86dd, &ipv6(0, &[])), 14 + 40),
        (frame(0x0806, &[1; 28]), 14 + 28),
        (frame(0x1234, &[]), 14),
    ];
    for (bytes, headers) in &frames {
        trail.frame(at(1), 3, bytes);
        let kept = trail.frames.entries().last().expect("just noted");
        assert_eq!((kept.whole, kept.detail), (bytes.len(), 3));
        assert_eq!(kept.bytes(), &bytes[..*headers]);
    }
}

#[test]
fn whatever_bytes_come_the_trail_takes_them() {
    let trail = Trail::new();
    let mut rng = Rng::from_seed(1);
    for round in 0..20_000u64 {
        let len = rng.below(200) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        if len > 14 {
            let types = [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x88, 0xb5]];
            bytes[12..14].copy_from_slice(&types[rng.below(4) as usize]);
        }
        trail.frame(at(round), 1, &bytes);
        trail.datagram(at(round), &bytes);
    }
    assert!(report_of(&trail, libc::SIGSEGV).ends_with("End of the report\n"));
}

#[test]
fn passwords_and_records_in_transit_are_not_kept() {
    let trail = Trail::new();
    let text = "set ns rpcNode 192.0.2.10 -password SECRET".to_owned();
    let line = JournalLine::new(JournalKind::Line, text).expect("short enough");
    trail.record(at(5), &Record::Journal(line));
    trail.datagram(at(6), &[&[7; 64 + 24][..], b"SECRET"].concat());
    let told = report_of(&trail, libc::SIGABRT);
    assert!(told.contains("journal set ns rpcNode 192.0.2.10 …"), "{told}");
    let hidden = b"SECRET".map(|byte| format!("{byte:02x}")).concat();
    assert!(!told.contains("SECRET") && !told.contains(&hidden), "{told}");
}

#[test]
fn a_report_of_full_rings_is_bounded_and_tells_what_is_in_them() {
    let trail = Trail::new();
    let long = "x".repeat(400);
    trail.enter(Phase::Frames);
    let mut tcp = [0; 60];
    tcp[12] = 15 << 4;
    for number in 0..1000 {
        trail.line(at(number), Level::Warn, &format!("line {number} {long}"));
        trail.frame(at(number), 255, &frame(0x86dd, &ipv6(6, &tcp)));
        trail.datagram(at(number), &[0xff; 1400]);
        let line = JournalLine::new(JournalKind::Line, format!("journal {number} {long}")).expect("short enough");
        trail.record(at(number), &Record::Journal(line));
    }
    trail.last_words.put(0, Kind::Panic, 0, 400, &[b'y'; 400]);
    let told = report_of(&trail, libc::SIGABRT);
    assert!((told.len() as u64) < LONGEST_REPORT, "{} bytes", told.len());
    assert!(
        told.contains("cause: signal 6 (SIGABRT)") && told.contains("pid 77, unix time 1700000000.500000"),
        "{told}"
    );
    assert!(told.contains("handling frames") && told.contains("panic: yyyy"), "{told}");
    assert!(told.contains("#1000 0.999000 WARN line 999") && !told.contains("line 935 "), "the last 64 lines");
    assert!(told.ends_with("End of the report\n"));
}

#[test]
fn lives_survive_and_nonsense_is_forgotten_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let open = || LivesFile::open(folder.path());
    let (mut lives, outcome) = open();
    assert!(outcome.is_ok() && lives.lives().is_empty() && lives.last_end().is_none());
    for started in 1..=20 {
        lives.begin(started, (started == 20).then(|| Duration::from_secs(60))).unwrap();
    }
    let (mut lives, outcome) = open();
    assert!(outcome.is_ok());
    assert_eq!((lives.lives().len(), lives.lives()[0].started_ms, lives.last_end()), (16, 5, Some(LifeEnd::Vanished)));
    assert_eq!(lives.lives()[15].quarantine, Some(Duration::from_secs(60)));
    lives.note_crash();
    assert_eq!(lives.last_end(), Some(LifeEnd::Crashed));
    lives.end().unwrap();
    assert_eq!(open().0.last_end(), Some(LifeEnd::Orderly));
    let title = "holdfast lives 1\n";
    let good = "start 1 quarantine 0 end running\n";
    for nonsense in [
        String::new(),
        "term 7\n".to_owned(),
        format!("{title}start x quarantine 0 end running\n"),
        format!("{title}start 1 quarantine -1 end running\n"),
        format!("{title}start 1 quarantine 0 end somehow\n"),
        format!("{title}start 1 quarantine 0\n"),
        format!("{title}{}", good.repeat(17)),
    ] {
        std::fs::write(folder.path().join("lives"), &nonsense).unwrap();
        let (lives, outcome) = open();
        assert!(outcome.is_err() && lives.lives().is_empty(), "{nonsense:?}");
    }
    std::fs::write(folder.path().join("lives"), b"\xff\xfe\x00").unwrap();
    assert!(open().1.is_err());
}

fn begin_in(folder: &Path, now_ms: u64) -> Beginning {
    begin(folder, now_ms, &Log::new(Format::Text))
}

#[test]
fn three_crashes_within_a_minute_begin_a_quarantine_and_only_the_last_reports_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut quarantines = Vec::new();
    for life in 0..12 {
        let beginning = begin_in(folder.path(), 1_700_000_000_000 + life * 1000);
        quarantines.push(beginning.quarantine.map_or(0, |length| length.as_secs()));
        std::fs::write(folder.path().join("crashes").join("pending"), "a report").unwrap();
    }
    assert_eq!(quarantines[..6], [0, 0, 0, 60, 120, 240]);
    assert_eq!(quarantines[6..], [480, 960, 1920, 3600, 3600, 3600]);
    let mut beginning = begin_in(folder.path(), 1_700_000_020_000);
    let names = std::fs::read_dir(folder.path().join("crashes")).unwrap().count();
    assert_eq!(names, KEPT + 1, "the last reports, and the room for the next");
    beginning.lives.end().unwrap();
    assert_eq!(begin_in(folder.path(), 1_700_000_021_000).quarantine, None, "an orderly end forgets");
}

#[test]
fn a_state_directory_that_cannot_be_used_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("lives").join("in the way")).unwrap();
    std::fs::write(folder.path().join("crashes"), "in the way").unwrap();
    let beginning = begin_in(folder.path(), 1);
    assert!(beginning.report.is_none() && beginning.quarantine.is_none());
    let beginning = begin_in(&folder.path().join("missing").join("too"), 1);
    assert!(beginning.quarantine.is_none());
}

#[test]
#[ignore = "measures: cargo test --release -p holdfastd cost_of -- --ignored --nocapture"]
fn the_cost_of_an_entry() {
    const ENTRIES: u64 = 10_000_000;
    let measure = |what: &str, note: &dyn Fn(Instant)| {
        let started = std::time::Instant::now();
        (0..ENTRIES).for_each(|number| note(Instant::from_nanos(number)));
        let nanos = started.elapsed().as_nanos() as f64 / ENTRIES as f64;
        println!("{what}: {nanos:.1} ns");
        assert!(nanos < 200.0, "a note must stay far below what a frame costs");
    };
    let mut tcp = [0; 20];
    tcp[12] = 5 << 4;
    let bytes = frame(0x0800, &ipv4(6, 0, &tcp));
    measure("frame", &|now| TRAIL.frame(now, 1, std::hint::black_box(&bytes)));
    let bytes = [7; 1400];
    measure("datagram", &|now| TRAIL.datagram(now, std::hint::black_box(&bytes)));
}
