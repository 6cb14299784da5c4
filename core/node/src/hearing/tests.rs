use holdfast_engine::{Limits, Port, PortId};

use super::*;
use crate::{NodeOptions, PortState};

const PACE: Pace = Pace { limit: Duration::from_millis(175), patience: Duration::from_millis(25), joined: true };

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<core::net::IpAddr>().unwrap())
}

fn hearing(lines: &[&str]) -> Hearing {
    let mut config = Config::default();
    lines.iter().for_each(|line| {
        config.apply_line(line).unwrap();
    });
    let mut hearing = Hearing::new(at(0));
    hearing.set_config(at(0), &config);
    hearing
}

/// Two neighbours; the first one answers.
fn acquainted() -> Hearing {
    let mut hearing =
        hearing(&["add ns ip 10.0.1.5 24", "add route 0.0.0.0 0.0.0.0 10.0.1.1", "add service s 10.0.1.21 TCP 80"]);
    hearing.next_round = None;
    hearing.note_speaker(addr("10.0.1.1"));
    hearing
}

#[test]
fn gateways_and_servers_that_no_gateway_is_needed_for_are_asked() {
    let hearing = hearing(&[
        "add ns ip 10.0.1.5 24",
        "add ns ip6 2001:db8:1::5/64",
        "add service near 10.0.1.21 TCP 80",
        "add service near2 10.0.1.21 TCP 81",
        "add service far 10.9.9.9 TCP 80",
        "add service six 2001:db8:1::21 TCP 80",
        "add route 0.0.0.0 0.0.0.0 10.0.1.1",
    ]);
    let asked: Vec<Addr> = hearing.neighbours.iter().map(|known| known.addr).collect();
    assert_eq!(asked, ["10.0.1.1", "10.0.1.21", "2001:db8:1::21"].map(addr));
    assert_eq!(hearing.next_round, Some(at(0)), "it is not known yet who answers");
    let many: Vec<String> = (1..30).map(|last| format!("add service s{last} 10.0.1.{last} TCP 80")).collect();
    let mut lines: Vec<&str> = many.iter().map(String::as_str).collect();
    lines.insert(0, "add ns ip 10.0.1.50 24");
    assert_eq!(super::tests::hearing(&lines).neighbours.len(), MAX_NEIGHBOURS);
}

#[test]
fn where_nobody_is_known_to_answer_or_no_peer_was_there_nothing_is_due() {
    let mut hearing = acquainted();
    assert_eq!(hearing.poll_timeout(Pace { joined: false, ..PACE }), None);
    hearing.neighbours.iter_mut().for_each(|known| known.answers = false);
    assert_eq!((hearing.may_ask(), hearing.poll_timeout(PACE)), (false, None));
}

#[test]
fn silence_is_in_doubt_a_moment_after_the_question_and_only_a_proof_ends_it() {
    let mut hearing = acquainted();
    hearing.note(at(1000), false);
    assert_eq!(hearing.poll_timeout(PACE), Some(at(1175)));
    (hearing.asked, hearing.next_question) = (Some(at(1175)), at(1350));
    assert_eq!(hearing.poll_timeout(PACE), Some(at(1200)));
    let in_doubt = |hearing: &Hearing, ms| hearing.is_in_doubt(at(ms), PACE.patience);
    assert!(!in_doubt(&hearing, 1199) && in_doubt(&hearing, 1200));
    (hearing.told, hearing.next_round) = (false, Some(at(1210)));
    assert_eq!(hearing.poll_timeout(PACE), Some(at(1350)), "a round that is due does not keep it busy");
    assert!(!hearing.note(at(1250), false) && in_doubt(&hearing, 1251), "a stranger speaks to everybody");
    assert!(hearing.note(at(1260), true) && !hearing.note(at(1261), true), "that somebody is heard is news once");
    assert!(!in_doubt(&hearing, 1300));
}

#[test]
fn who_does_not_answer_for_some_rounds_is_not_counted_on() {
    let mut hearing = acquainted();
    let counts = |hearing: &mut Hearing| {
        hearing.begin_round(at(0));
        hearing.may_ask()
    };
    assert_eq!([counts(&mut hearing), counts(&mut hearing), counts(&mut hearing)], [true, true, false]);
    assert!(!hearing.note_speaker(addr("10.0.1.1")) && hearing.may_ask(), "it answers again, and was not known to");
    assert!(counts(&mut hearing) && hearing.note_speaker(addr("10.0.1.1")) && counts(&mut hearing));
    assert!(!hearing.note_speaker(addr("192.0.2.7")), "others are none of its business");
}

#[test]
fn who_hears_strangers_for_a_minute_and_no_neighbour_believes_that_those_are_gone() {
    let mut hearing = acquainted();
    hearing.asked = Some(at(1000));
    hearing.note(at(60_500), false);
    assert!(!hearing.forget(at(60_900)) && hearing.asked.is_some());
    assert!(!hearing.forget(at(61_600)), "the stranger is silent, too");
    hearing.note(at(61_600), false);
    assert!(hearing.forget(at(61_700)) && !hearing.may_ask() && hearing.asked.is_none());
}

#[test]
fn what_is_known_of_a_neighbour_outlives_a_change_of_the_configuration() {
    let mut hearing = acquainted();
    let mut config = Config::default();
    for line in ["add ns ip 10.0.1.5 24", "add route 0.0.0.0 0.0.0.0 10.0.1.1"] {
        config.apply_line(line).unwrap();
    }
    hearing.next_round = Some(at(30_000));
    hearing.set_config(at(5), &config);
    assert!(hearing.may_ask() && hearing.neighbours.len() == 1);
    assert_eq!(hearing.next_round, Some(at(30_000)), "nobody is new");
    hearing.set_config(at(6), &Config::default());
    assert_eq!((hearing.may_ask(), hearing.next_round), (false, None));
}

#[test]
fn its_own_broadcasts_that_come_back_by_another_port_are_nobody() {
    let options = NodeOptions {
        boot: 1,
        seed: 1,
        secret: [1; 32],
        password_key: [1; 32],
        stored_term: 0,
        config: "set ns config -IPAddress 10.0.1.2 -netmask 255.255.255.0".into(),
        limits: Limits { max_flows: 16, max_neighbours: 16, max_persistence: 4, ..Limits::default() },
        unix_nanos_at_origin: 0,
        host_name: "n".into(),
    };
    let mut node = Node::new(at(0), options).unwrap();
    let port = |id: u8| PortState {
        port: Some(Port { id: PortId(id), mac: MacAddr([2, 0, 0, 0, 0, id]), mtu: 1500 }),
        id: format!("1/{}", id + 1),
        device: format!("eth{}", id + 1),
        up: true,
    };
    node.handle_ports(at(0), vec![port(0), port(1)]);
    let heard_at = |node: &mut Node, ms, frame: [u8; 14]| {
        node.hear_frame(at(ms), &frame, None);
        node.hearing.heard
    };
    let frame = |to: u8, from: u8| [to, to, to, to, to, to, 2, 0, 0, 0, 0, from, 0x08, 0x06];
    assert_eq!(heard_at(&mut node, 10, frame(0xff, 0)), at(0), "sent by one port, seen at the other");
    assert_eq!(heard_at(&mut node, 20, frame(0xff, 9)), at(20));
    node.hearing.asked = Some(at(20));
    assert_eq!(heard_at(&mut node, 30, frame(0xff, 1)), at(20), "in doubt, too");
}
