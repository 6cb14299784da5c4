use super::*;

const LIMIT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_millis(50);

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
fn where_nobody_is_known_to_answer_nothing_is_due() {
    let mut hearing = acquainted();
    hearing.neighbours.iter_mut().for_each(|known| known.answers = false);
    assert_eq!((hearing.may_ask(), hearing.poll_timeout(LIMIT, PATIENCE)), (false, None));
}

#[test]
fn silence_is_in_doubt_a_moment_after_the_question_and_any_frame_ends_it() {
    let mut hearing = acquainted();
    hearing.note(at(1000));
    assert_eq!(hearing.poll_timeout(LIMIT, PATIENCE), Some(at(1200)));
    (hearing.asked, hearing.next_question) = (Some(at(1200)), at(1400));
    assert_eq!(hearing.poll_timeout(LIMIT, PATIENCE), Some(at(1250)));
    assert!(!hearing.is_in_doubt(at(1249), PATIENCE) && hearing.is_in_doubt(at(1250), PATIENCE));
    (hearing.told, hearing.next_round) = (false, Some(at(1210)));
    assert_eq!(hearing.poll_timeout(LIMIT, PATIENCE), Some(at(1400)), "a round that is due does not keep it busy");
    assert!(hearing.note(at(1260)) && !hearing.note(at(1261)), "that somebody is heard is news once");
    assert!(!hearing.is_in_doubt(at(1300), PATIENCE));
}

#[test]
fn who_does_not_answer_a_node_that_hears_is_not_counted_on() {
    let mut hearing = acquainted();
    // It was asked while others were heard, and has until the next occasion to answer.
    hearing.neighbours.iter_mut().for_each(|known| known.owes = known.answers);
    assert!(hearing.may_ask());
    hearing.strike();
    assert!(!hearing.may_ask());
    hearing.note_speaker(addr("10.0.1.1"));
    hearing.strike();
    assert!(hearing.may_ask(), "it has answered since");
    hearing.note_speaker(addr("192.0.2.7"));
    assert_eq!(hearing.neighbours.iter().filter(|known| known.answers).count(), 1, "others are none of its business");
}

#[test]
fn what_is_known_of_a_neighbour_outlives_a_change_of_the_configuration() {
    let mut hearing = acquainted();
    let mut config = Config::default();
    for line in ["add ns ip 10.0.1.5 24", "add route 0.0.0.0 0.0.0.0 10.0.1.1"] {
        config.apply_line(line).unwrap();
    }
    hearing.set_config(at(5), &config);
    assert!(hearing.may_ask() && hearing.neighbours.len() == 1);
    hearing.set_config(at(6), &Config::default());
    assert_eq!((hearing.may_ask(), hearing.next_round), (false, None));
}
