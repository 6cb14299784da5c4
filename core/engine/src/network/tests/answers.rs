//! Who is answered, and what is learned from the question.

use super::*;

const HOST: u8 = 9;

fn solicitation(lab: &mut Lab, mac: MacAddr, src: Addr, target: Addr) -> Verdict {
    lab.hear(at(0), CLIENT_PORT, |bytes| build::neighbour_solicitation(bytes, mac, src, target))
}

#[test]
fn a_floating_ipv4_address_is_answered_on_any_port_with_that_ports_address() {
    for port in [CLIENT_PORT, SERVER_PORT] {
        let mut lab = Lab::new();
        let verdict = lab.arp(at(0), port, arp_request(client_net(HOST), OTHER_MAC, client_net(100)));
        assert_eq!(verdict, Verdict::Consumed);
        let answer = arp_reply(client_net(100), port.mac, client_net(HOST), OTHER_MAC);
        assert_eq!(lab.said(), [Said { port: port.id, to: OTHER_MAC, what: What::Arp(answer) }]);
        assert_eq!(lab.network.counters().answers, 1);
    }
}

#[test]
fn who_asks_us_is_remembered() {
    let mut lab = Lab::new();
    lab.arp(at(0), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(100)));
    let known = Resolution::Ready { port: CLIENT_PORT.id, mac: OTHER_MAC };
    assert_eq!(lab.resolve(at(1), client_net(HOST)), known);
    solicitation(&mut lab, OTHER_MAC, v6(1, HOST), v6(1, 100));
    assert_eq!(lab.resolve(at(1), v6(1, HOST)), known);
    solicitation(&mut lab, OTHER_MAC, link_local(HOST), v6(1, 100));
    assert_eq!(lab.resolve(at(1), link_local(HOST)), known);
}

#[test]
fn who_asks_for_others_or_from_elsewhere_is_not_remembered() {
    let mut lab = Lab::new();
    let verdict = lab.arp(at(0), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(77)));
    assert_eq!(verdict, Verdict::Drop(Drop::NotForUs));
    lab.arp(at(0), CLIENT_PORT, arp_request(Addr::v4([8, 8, 8, 8]), OTHER_MAC, client_net(100)));
    lab.arp(at(0), CLIENT_PORT, arp_request(client_net(8), OTHER_MAC, client_net(8)));
    assert_eq!(lab.network.neighbours(100), []);
}

#[test]
fn a_question_from_whom_we_wait_for_ends_the_wait() {
    let mut lab = Lab::new();
    lab.resolve(at(0), client_net(HOST));
    lab.queue(client_net(HOST), 5).unwrap();
    lab.said();
    lab.arp(at(1), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(1)));
    let said = lab.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(matches!(&said[0].what, What::Payload(bytes) if bytes[20] == 5));
    assert_eq!(said[0].to, OTHER_MAC);
}

#[test]
fn a_probe_for_a_floating_address_is_answered_and_teaches_nothing() {
    let mut lab = Lab::new();
    lab.arp(at(0), CLIENT_PORT, arp_request(Addr::v4([0; 4]), OTHER_MAC, client_net(100)));
    let said = lab.said();
    assert_eq!((said.len(), said[0].to), (1, OTHER_MAC));
    assert_eq!(lab.network.neighbours(100), []);
}

#[test]
fn addresses_with_arp_off_and_addresses_of_others_are_not_answered() {
    let mut plan = plan();
    plan.addresses[0].arp = false;
    plan.addresses[3].arp = false;
    let mut lab = Lab::with(&plan, &Limits::default());
    lab.arp(at(0), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(100)));
    lab.arp(at(0), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(50)));
    solicitation(&mut lab, OTHER_MAC, v6(1, HOST), v6(1, 100));
    solicitation(&mut lab, OTHER_MAC, v6(1, HOST), v6(1, 50));
    assert_eq!(lab.said(), []);
}

#[test]
fn the_kernels_questions_and_answers_are_left_to_the_kernel() {
    let mut lab = Lab::new();
    lab.network.set_host_addresses(vec![client_net(3), v6(1, 3)]);
    let asked = arp_request(client_net(HOST), OTHER_MAC, client_net(3));
    assert_eq!(lab.arp(at(0), CLIENT_PORT, asked), Verdict::ForHost);
    let told = arp_reply(client_net(HOST), OTHER_MAC, client_net(3), CLIENT_PORT.mac);
    assert_eq!(lab.arp(at(0), CLIENT_PORT, told), Verdict::ForHost);
    assert_eq!(solicitation(&mut lab, OTHER_MAC, v6(1, HOST), v6(1, 3)), Verdict::ForHost);
    let link = Link::new(CLIENT_PORT.mac, OTHER_MAC);
    let told = |bytes: &mut [u8]| build::neighbour_advertisement(bytes, link, v6(1, HOST), v6(1, 3));
    assert_eq!(lab.hear(at(0), CLIENT_PORT, told), Verdict::ForHost);
    assert_eq!(lab.said(), []);
}

#[test]
fn somebody_who_claims_a_floating_address_is_counted_and_not_believed() {
    let mut lab = Lab::new();
    let claim = arp_request(client_net(100), OTHER_MAC, client_net(100));
    assert_eq!(lab.arp(at(0), CLIENT_PORT, claim), Verdict::Consumed);
    lab.advertise(at(0), CLIENT_PORT, v6(1, 100), OTHER_MAC, true);
    assert_eq!(lab.network.counters().address_conflicts, 2);
    assert_eq!(lab.network.neighbours(100), []);
    assert_eq!(lab.said(), []);
}

#[test]
fn our_own_announcements_coming_back_are_no_conflict() {
    let mut lab = Lab::new();
    let own = arp_request(client_net(100), CLIENT_PORT.mac, client_net(100));
    assert_eq!(lab.arp(at(0), SERVER_PORT, own), Verdict::Drop(Drop::NotForUs));
    assert_eq!(lab.network.counters(), &NetworkCounters::default());
}

#[test]
fn a_floating_ipv6_address_is_advertised_to_who_solicits_it() {
    let mut lab = Lab::new();
    assert_eq!(solicitation(&mut lab, OTHER_MAC, v6(1, HOST), v6(1, 100)), Verdict::Consumed);
    let what = What::Advertisement {
        src: v6(1, 100),
        dst: v6(1, HOST),
        target: v6(1, 100),
        mac: Some(CLIENT_PORT.mac),
        solicited: true,
        overrides: true,
    };
    assert_eq!(lab.said(), [Said { port: CLIENT_PORT.id, to: OTHER_MAC, what }]);
}

#[test]
fn a_unicast_solicitation_is_answered_like_a_multicast_one() {
    let mut lab = Lab::new();
    let link = Link::new(CLIENT_PORT.mac, OTHER_MAC);
    lab.hear(at(0), CLIENT_PORT, |bytes| build::neighbour_probe(bytes, link, v6(1, HOST), v6(1, 1)));
    let said = lab.said();
    assert!(matches!(said[..], [Said { what: What::Advertisement { solicited: true, .. }, .. }]), "{said:?}");
}

#[test]
fn who_wants_to_take_a_floating_ipv6_address_hears_so_with_everybody() {
    let mut lab = Lab::new();
    solicitation(&mut lab, OTHER_MAC, Addr::UNSPECIFIED, v6(1, 100));
    let what = What::Advertisement {
        src: v6(1, 100),
        dst: build::all_nodes(),
        target: v6(1, 100),
        mac: Some(CLIENT_PORT.mac),
        solicited: false,
        overrides: true,
    };
    let to = build::multicast_mac(build::all_nodes());
    assert_eq!(lab.said(), [Said { port: CLIENT_PORT.id, to, what }]);
    assert_eq!(lab.network.counters().address_conflicts, 1);
    assert_eq!(lab.network.neighbours(100), []);
}

#[test]
fn who_may_announce_answers_under_the_floating_ethernet_address_and_nobody_else() {
    let mut lab = Lab::new();
    lab.network.set_floating_macs(&[(CLIENT_PORT.id, FLOATING)]);
    for (defends, mac) in [(false, CLIENT_PORT.mac), (true, FLOATING), (false, CLIENT_PORT.mac)] {
        lab.network.set_defends(defends);
        lab.arp(at(0), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(100)));
        let answer = arp_reply(client_net(100), mac, client_net(HOST), OTHER_MAC);
        assert_eq!(lab.said(), [Said { port: CLIENT_PORT.id, to: OTHER_MAC, what: What::Arp(answer) }]);
        assert!(lab.network.is_own_mac(FLOATING) && lab.network.is_own_mac(CLIENT_PORT.mac), "both are heard");
    }
    lab.network.set_defends(true);
    lab.arp(at(0), SERVER_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(100)));
    let answer = arp_reply(client_net(100), SERVER_PORT.mac, client_net(HOST), OTHER_MAC);
    assert_eq!(lab.said(), [Said { port: SERVER_PORT.id, to: OTHER_MAC, what: What::Arp(answer) }], "it has none");
    lab.network.set_floating_macs(&[]);
    assert!(!lab.network.is_own_mac(FLOATING));
}

#[test]
fn a_floating_ethernet_address_comes_and_goes_without_a_question_to_any_neighbour() {
    let mut lab = Lab::new();
    lab.arp(at(0), CLIENT_PORT, arp_request(client_net(HOST), OTHER_MAC, client_net(100)));
    lab.said();
    lab.network.set_floating_macs(&[(CLIENT_PORT.id, FLOATING)]);
    lab.network.set_defends(true);
    let known = Resolution::Ready { port: CLIENT_PORT.id, mac: OTHER_MAC };
    assert_eq!(lab.resolve(at(1), client_net(HOST)), known);
    assert_eq!(lab.network.port(CLIENT_PORT.id).map(|port| port.mac), Some(FLOATING), "frames leave under it");
}
