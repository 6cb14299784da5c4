//! Hellos: through the codec, then into a machine that follows or leads.

use holdfast_base::{Duration, Instant};
use holdfast_ha::{
    Answered, HaStatus, Hello, HelloKind, MAX_HELLO, Machine, NodeHealth, NodeId, PathId, Role, Settings,
};

/// Effects that one hello may cause at most.
const MAX_EFFECTS: usize = 64;

/// Decodes `data` as a hello and gives it to machines in several situations.
pub fn ha_hello(data: &[u8]) {
    let Ok(hello) = Hello::decode(data) else { return };
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    assert!(bytes.len() <= MAX_HELLO);
    assert_eq!(Hello::decode(&bytes), Ok(hello), "what is written is read");
    for term in [0, 1, u64::MAX] {
        for lone_first in [false, true] {
            hear(&hello, term, lone_first);
        }
    }
}

fn hear(hello: &Hello, term: u64, lone_first: bool) {
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut machine = Machine::new(now, Settings::new(NodeId(1), Some(NodeId(2))), 77, 0);
    machine.handle_turn(now);
    drain(&mut machine, now);
    for step in 0..40u64 {
        if !lone_first || step > 30 {
            let hello = Hello { seq: hello.seq.saturating_add(step), ..*hello };
            machine.handle_hello(now, PathId(0), term, NodeId(2), &hello);
        }
        drain(&mut machine, now);
        now = now + Duration::from_millis(50);
        machine.handle_turn(now);
        machine.handle_timeout(now);
        drain(&mut machine, now);
    }
    let _ = machine.status();
}

fn drain(machine: &mut Machine, now: Instant) {
    for _ in 0..MAX_EFFECTS {
        match machine.poll_effect() {
            None => return,
            Some(holdfast_ha::Effect::StoreTerm(term)) => machine.handle_term_stored(now, term),
            Some(_) => {}
        }
    }
    panic!("the machine does not stop asking");
}

/// Hellos of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let kinds = [
        HelloKind::Hello,
        HelloKind::Probe { nonce: 3 },
        HelloKind::ProbeReply { nonce: 3 },
        HelloKind::Goodbye,
        HelloKind::Release,
    ];
    let roles = [Role::Init, Role::Secondary, Role::Primary, Role::Draining];
    kinds.iter().flat_map(|&kind| roles.map(|role| encoded(kind, role))).collect()
}

fn encoded(kind: HelloKind, role: Role) -> Vec<u8> {
    let hello = Hello {
        kind,
        boot: 1234,
        seq: 1,
        role,
        status: HaStatus::Enabled,
        caught_up: true,
        ready: true,
        listening: false,
        synced_session: 5,
        promise_ms: 100,
        dead_ms: 400,
        silence_ms: 0,
        last_client_packet_ago: 10,
        decided_over: 1,
        health: NodeHealth::RouteMonitorFail,
        witness: Some(Answered { boot: 5, seq: 6 }),
        quarantine_ms: 60_000,
        full_session: 7,
        aside: u64::MAX,
    };
    let mut out = Vec::new();
    hello.encode(&mut out);
    out
}
