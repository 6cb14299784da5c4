//! The hello as bytes.

use holdfast_base::Rng;
use holdfast_ha::{
    Answered, HaStatus, Hello, HelloError, HelloKind, MAX_HELLO, NodeHealth, Role, tail_value, write_tail_value,
};

fn any_hello(rng: &mut Rng) -> Hello {
    let nonce = rng.next_u64() as u32;
    let kinds = [HelloKind::Hello, HelloKind::Probe { nonce }, HelloKind::ProbeReply { nonce }, HelloKind::Goodbye];
    let statuses = [HaStatus::Enabled, HaStatus::StaySecondary, HaStatus::StayPrimary, HaStatus::Disabled];
    let healths = [NodeHealth::Up, NodeHealth::RouteMonitorFail, NodeHealth::PartialFail, NodeHealth::CompleteFail];
    Hello {
        kind: kinds[rng.below(4) as usize],
        boot: rng.next_u64(),
        seq: rng.next_u64(),
        role: [Role::Init, Role::Secondary, Role::Primary, Role::Draining][rng.below(4) as usize],
        status: statuses[rng.below(4) as usize],
        caught_up: rng.chance(1, 2),
        ready: rng.chance(1, 2),
        listening: rng.chance(1, 2),
        synced_session: rng.next_u64() as u32,
        promise_ms: rng.next_u64() as u32,
        dead_ms: rng.next_u64() as u32,
        silence_ms: rng.next_u64() as u32,
        last_client_packet_ago: if rng.chance(1, 2) { u64::MAX } else { rng.below(9_999_999) },
        decided_over: rng.below(3),
        health: healths[rng.below(4) as usize],
        witness: rng.chance(1, 2).then(|| Answered { boot: rng.next_u64(), seq: rng.below(9) }),
        quarantine_ms: rng.below(2) * 60_000,
        full_session: rng.below(2) as u32 * 7,
        aside: rng.below(2) * u64::from(u32::MAX),
    }
}

fn bytes_of(hello: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    bytes
}

#[test]
fn what_is_written_is_read() {
    let mut rng = Rng::from_seed(1);
    for _ in 0..2000 {
        let hello = any_hello(&mut rng);
        let bytes = bytes_of(&hello);
        assert!(bytes.len() <= MAX_HELLO);
        assert_eq!(Hello::decode(&bytes), Ok(hello));
    }
}

#[test]
fn whoever_carries_hellos_can_add_to_them() {
    let hello = any_hello(&mut Rng::from_seed(5));
    let mut bytes = bytes_of(&hello);
    write_tail_value(&mut bytes, 77, b"more");
    assert_eq!(Hello::decode(&bytes), Ok(hello));
    assert_eq!(tail_value(&bytes, 77), Some(&b"more"[..]));
    assert_eq!(tail_value(&bytes, 78), None);
    assert_eq!(tail_value(&bytes[..bytes.len() - 1], 77), None);
    assert_eq!(tail_value(&bytes[..20], 77), None);
}

#[test]
fn a_later_versions_fields_are_skipped() {
    let hello = any_hello(&mut Rng::from_seed(2));
    let mut bytes = bytes_of(&hello);
    bytes.extend_from_slice(&[0x7f, 0xff, 0, 3, 1, 2, 3]);
    assert_eq!(Hello::decode(&bytes), Ok(hello));
    bytes[0] = 2;
    assert_eq!(Hello::decode(&bytes), Ok(hello), "whoever speaks a later version lives");
    (bytes[1], bytes[3]) = (200, 200);
    let known = Hello { kind: HelloKind::Hello, status: HaStatus::Enabled, ..hello };
    assert_eq!(Hello::decode(&bytes), Ok(known));
    bytes[2] = 200;
    assert_eq!(Hello::decode(&bytes), Err(HelloError::Role(200)), "what it leads or follows must be known");
}

#[test]
fn bad_bytes_are_refused_with_their_reason() {
    let plain = Hello { decided_over: 1, health: NodeHealth::Up, witness: None, ..any_hello(&mut Rng::from_seed(3)) };
    let good = bytes_of(&plain);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Hello::decode(&bytes)
    };
    assert_eq!(with(0, 0), Err(HelloError::Version(0)));
    assert_eq!(with(1, 5), Err(HelloError::Kind(5)));
    assert_eq!(with(2, 4), Err(HelloError::Role(4)));
    assert_eq!(with(3, 200), Err(HelloError::Status(200)));
    let length_of_last_field = good.len() - 9;
    assert_eq!(with(length_of_last_field, 9), Err(HelloError::Truncated));
    let mut short = good.clone();
    short[length_of_last_field] = 7;
    short.pop();
    assert_eq!(Hello::decode(&short), Err(HelloError::Length));
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let mut rng = Rng::from_seed(4);
    for _ in 0..20_000 {
        let mut bytes = bytes_of(&any_hello(&mut rng));
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
        for _ in 0..rng.below(4) {
            if let Some(byte) = bytes.get_mut(rng.below(70) as usize) {
                *byte = rng.next_u64() as u8;
            }
        }
        let _ = Hello::decode(&bytes);
    }
}

#[test]
fn every_refusal_says_what_it_refuses() {
    let errors = [
        HelloError::Truncated,
        HelloError::Version(9),
        HelloError::Kind(9),
        HelloError::Role(9),
        HelloError::Status(9),
        HelloError::Length,
    ];
    let texts: std::collections::BTreeSet<String> = errors.iter().map(|error| error.to_string()).collect();
    assert_eq!(texts.len(), errors.len(), "{texts:?}");
}
