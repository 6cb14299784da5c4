//! Which routes lead where, what a port's failure means, and who answers.

use super::*;
use holdfast_engine::PortId;

fn config(lines: &[&str]) -> Config {
    let mut config = Config::new();
    for line in lines {
        config.apply_line(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    config
}

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn table() -> Config {
    config(&[
        "add ns ip 10.0.1.5 24",
        "add ns ip6 2001:db8:1::5/64",
        "add route 0.0.0.0 0.0.0.0 10.0.1.1",
        "add route6 ::/0 2001:db8:1::1",
        "add route 172.16.0.0 255.240.0.0 10.0.1.2",
        "add route 172.16.5.0 255.255.255.0 10.0.1.3",
    ])
}

#[test]
fn a_monitored_route_leads_where_the_table_says() {
    let next_hop = |hop: &str| Some(Target::Neighbour(addr(hop)));
    for (network, len, wanted) in [
        ("172.16.0.0", 12, next_hop("10.0.1.2")),
        ("172.16.5.0", 24, next_hop("10.0.1.3")),
        ("172.16.5.9", 32, next_hop("10.0.1.3")),
        ("172.17.0.0", 16, next_hop("10.0.1.2")),
        ("192.0.2.1", 32, next_hop("10.0.1.1")),
        ("10.0.1.77", 32, next_hop("10.0.1.77")),
        ("10.0.1.0", 24, Some(Target::Connected)),
        ("10.0.1.5", 32, Some(Target::Connected)),
        ("2001:db8:1::9", 128, next_hop("2001:db8:1::9")),
        ("2001:db8:7::", 48, next_hop("2001:db8:1::1")),
    ] {
        assert_eq!(target(&table(), addr(network), len), wanted, "{network}/{len}");
    }
    assert_eq!(target(&config(&["add ns ip 10.0.1.5 24"]), addr("192.0.2.0"), 24), None, "no route, no default");
    let defaults = targets(&table(), RouteMonitor::Default);
    assert_eq!(defaults, [Target::Neighbour(addr("10.0.1.1")), Target::Neighbour(addr("2001:db8:1::1"))]);
}

fn port(id: &str, up: bool) -> PortState {
    let port = Port { id: PortId(1), mac: MacAddr([2, 0, 0, 0, 0, 1]), mtu: 1500 };
    PortState { port: Some(port), id: id.into(), device: "x".into(), up }
}

fn found(lines: &[&str], ports: &[PortState]) -> (NodeHealth, String) {
    let mut all = vec!["add interface 1/1 -device a", "add interface 1/2 -device b", "add interface 1/3 -device c"];
    all.extend(lines);
    let (health, failed) = interfaces(&config(&all), ports);
    (health, failed.join(" "))
}

#[test]
fn what_the_failure_of_interfaces_means() {
    let all = |ups: [bool; 3]| vec![port("1/1", ups[0]), port("1/2", ups[1]), port("1/3", ups[2])];
    let fail = |failed: &str| (NodeHealth::PartialFail, failed.to_owned());
    let up = (NodeHealth::Up, String::new());
    assert_eq!(found(&[], &[]), up, "nothing is known yet");
    assert_eq!(found(&[], &[port("1/2", true)]), up, "the others were not looked at");
    assert_eq!(found(&[], &all([true; 3])), up);
    assert_eq!(found(&[], &all([false, true, true])), fail("1/1"));
    assert_eq!(found(&["set interface 1/1 -haMonitor OFF"], &all([false, true, true])), up);
    assert_eq!(found(&["disable interface 1/1"], &all([false, true, true])), up);
    let set = ["add fis s", "bind fis s 1/1 1/2"];
    assert_eq!(found(&set, &all([false, true, true])), up, "one member of the set is left");
    assert_eq!(found(&set, &all([false, false, true])), fail("1/1 1/2"));
    assert_eq!(found(&set, &all([true, true, false])), fail("1/3"), "it is in no set");
    assert_eq!(found(&[], &all([false; 3])), (NodeHealth::CompleteFail, "1/1 1/2 1/3".into()));
    let unwatched = ["1/1", "1/2", "1/3"].map(|id| format!("set interface {id} -haMonitor OFF"));
    assert_eq!(found(&unwatched.each_ref().map(String::as_str), &all([false; 3])), up, "nobody asked to watch them");
}

#[test]
fn a_question_is_asked_under_no_address_of_ours() {
    let port = Port { id: PortId(3), mac: MacAddr([2, 0, 0, 0, 0, 9]), mtu: 1500 };
    let arp = question(port, addr("192.0.2.1"));
    assert_eq!(speaker_of(&arp.bytes), Some(Addr::v4([0; 4])));
    assert_eq!(arp.bytes[38..42], [192, 0, 2, 1]);
    let solicitation = question(port, addr("2001:db8::1"));
    assert_eq!(solicitation.bytes[22..24], [0xfe, 0x80]);
    assert_eq!(speaker_of(&solicitation.bytes), None, "a solicitation says nothing of its target");
}

#[test]
fn an_answer_of_either_family_is_a_sign_of_life() {
    let mac = MacAddr([2, 0, 0, 0, 7, 7]);
    let mut bytes = [0; 128];
    let len = build::arp_reply(&mut bytes, Link::new(MacAddr::BROADCAST, mac), addr("10.0.1.1"), Addr::v4([0; 4]));
    assert_eq!(speaker_of(&bytes[..len]), Some(addr("10.0.1.1")));
    let len = build::unsolicited_neighbour_advertisement(&mut bytes, mac, addr("2001:db8::1"));
    assert_eq!(speaker_of(&bytes[..len]), Some(addr("2001:db8::1")));
    for len in 0..len {
        let _ = speaker_of(&bytes[..len]);
    }
}

#[test]
fn three_unanswered_questions_are_needed_and_one_answer_is_enough() {
    let mut fitness = Fitness::default();
    let mut config = table();
    config.apply_line("bind HA node -routeMonitor *").unwrap();
    fitness.set_config(Instant::ZERO, &config);
    let mut silent = Vec::new();
    for _ in 0..5 {
        fitness.asked.iter_mut().for_each(|asked| asked.unanswered = (asked.unanswered + 1).min(MISSES + 1));
        silent.push(fitness.asked[0].is_silent());
    }
    assert_eq!(silent, [false, false, false, true, true]);
    let mut bytes = [0; 128];
    let link = Link::new(MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 7, 7]));
    let len = build::arp_reply(&mut bytes, link, addr("10.0.1.1"), Addr::v4([0; 4]));
    let speaker = speaker_of(&bytes[..len]).expect("it says where it is");
    assert!(fitness.hear(speaker) && !fitness.hear(speaker), "it is back once");
    assert!(fitness.answers(addr("10.0.1.1")) && !fitness.answers(addr("2001:db8:1::1")));
}
