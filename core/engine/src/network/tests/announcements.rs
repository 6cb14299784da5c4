//! Telling the network who is here.

use super::*;

fn gratuitous(port: Port, addr: Addr) -> Said {
    Said { port: port.id, to: MacAddr::BROADCAST, what: What::Arp(arp_request(addr, port.mac, addr)) }
}

/// How many frames leave at each millisecond at which something leaves.
fn burst_sizes(lab: &mut Lab, until: u64) -> Vec<(u64, usize)> {
    let sizes = (0..=until).map(|ms| (ms, lab.run(at(ms)).len()));
    sizes.filter(|&(_, frames)| frames > 0).collect()
}

fn ipv4_only(count: u8) -> Plan {
    let addresses = (0..count).map(|last| vip(client_net(last))).collect();
    Plan { addresses, ..plan() }
}

#[test]
fn ipv4_addresses_are_announced_by_broadcast_requests_on_every_port() {
    let mut lab = Lab::with(&ipv4_only(2), &Limits::default());
    assert_eq!(lab.network.poll_timeout(), None, "nothing is announced before the word is given");
    lab.network.announce(at(0));
    assert_eq!(lab.network.poll_timeout(), Some(at(0)));
    let expected = [
        gratuitous(CLIENT_PORT, client_net(0)),
        gratuitous(SERVER_PORT, client_net(0)),
        gratuitous(CLIENT_PORT, client_net(1)),
        gratuitous(SERVER_PORT, client_net(1)),
    ];
    assert_eq!(lab.run(at(0)), expected);
}

#[test]
fn ipv6_addresses_are_announced_with_their_group() {
    let mut lab = Lab::with(&Plan { addresses: vec![vip(v6(1, 100))], ..plan() }, &Limits::default());
    lab.network.announce(at(0));
    let said = lab.run(at(0));
    assert_eq!(said.len(), 4);
    let What::Membership { src, dst } = said[0].what else { panic!("{said:?}") };
    assert_eq!((src, dst.0[..2].to_vec(), dst.0[15]), (Addr::from(own_link_local()), vec![0xff, 2], 0x16));
    assert!(matches!(said[1].what, What::Membership { .. }));
    let everybody = build::multicast_mac(build::all_nodes());
    for (index, port) in [CLIENT_PORT, SERVER_PORT].into_iter().enumerate() {
        let what = What::Advertisement {
            src: v6(1, 100),
            dst: build::all_nodes(),
            target: v6(1, 100),
            mac: Some(port.mac),
            solicited: false,
            overrides: true,
        };
        assert_eq!(said[2 + index], Said { port: port.id, to: everybody, what });
    }
}

/// The link-local address of [`CLIENT_PORT`], 02:00:00:00:01:01.
fn own_link_local() -> core::net::IpAddr {
    "fe80::ff:fe00:101".parse().expect("an address")
}

#[test]
fn there_are_three_rounds_at_0_100_and_1000_ms() {
    let mut lab = Lab::with(&ipv4_only(3), &Limits::default());
    lab.network.announce(at(0));
    assert_eq!(burst_sizes(&mut lab, 5_000), [(0, 6), (100, 6), (1_000, 6)]);
    assert_eq!(lab.network.poll_timeout(), None);
    assert_eq!(lab.network.counters().announcements, 18);
}

#[test]
fn membership_is_reported_every_minute_afterwards() {
    let mut lab = Lab::with(&Plan { addresses: vec![vip(v6(1, 100))], ..plan() }, &Limits::default());
    lab.network.announce(at(0));
    assert_eq!(burst_sizes(&mut lab, 125_000), [(0, 4), (100, 4), (1_000, 4), (61_000, 2), (121_000, 2)]);
}

#[test]
fn a_turn_sends_64_frames_and_the_rest_is_due_at_once() {
    let mut lab = Lab::with(&ipv4_only(80), &Limits::default());
    lab.network.announce(at(0));
    let mut turns = Vec::new();
    while lab.network.poll_timeout() == Some(at(0)) {
        lab.network.handle_timeout(at(0), &mut lab.out);
        turns.push(lab.said().len());
    }
    assert_eq!(turns, [64, 64, 32], "80 addresses on two ports");
}

#[test]
fn addresses_with_arp_off_are_not_announced() {
    let mut plan = ipv4_only(2);
    plan.addresses[0].arp = false;
    let mut lab = Lab::with(&plan, &Limits::default());
    lab.network.announce(at(0));
    assert_eq!(lab.run(at(0)), [gratuitous(CLIENT_PORT, client_net(1)), gratuitous(SERVER_PORT, client_net(1))]);
}

#[test]
fn only_the_new_addresses_of_a_new_plan_are_announced() {
    let mut lab = Lab::with(&ipv4_only(2), &Limits::default());
    lab.network.announce(at(0));
    burst_sizes(&mut lab, 2_000);
    lab.network.set_plan(&ipv4_only(3));
    lab.network.announce_added(at(2_000));
    assert_eq!(lab.run(at(2_000)), [gratuitous(CLIENT_PORT, client_net(2)), gratuitous(SERVER_PORT, client_net(2))]);
}

#[test]
fn an_address_taken_away_is_not_announced_further_and_begins_anew_when_given_back() {
    let mut lab = Lab::with(&ipv4_only(2), &Limits::default());
    lab.network.announce(at(0));
    lab.run(at(0));
    lab.network.set_plan(&ipv4_only(1));
    assert_eq!(lab.run(at(100)).len(), 2);
    lab.network.set_plan(&ipv4_only(2));
    lab.network.announce_added(at(500));
    let sent: Vec<(u64, usize)> =
        (500..=1_500).map(|ms| (ms, lab.run(at(ms)).len())).filter(|sent| sent.1 > 0).collect();
    assert_eq!(sent, [(500, 2), (600, 2), (1_000, 2), (1_500, 2)]);
}

#[test]
fn a_node_told_to_stop_announces_no_more() {
    let mut lab = Lab::new();
    lab.network.announce(at(0));
    lab.run(at(0));
    lab.network.clear_announcements();
    assert_eq!(lab.network.poll_timeout(), None);
    assert_eq!(lab.run(at(100_000)), []);
}

#[test]
fn every_promotion_announces_everything_anew() {
    let mut lab = Lab::with(&ipv4_only(1), &Limits::default());
    lab.network.announce(at(0));
    lab.run(at(0));
    lab.network.announce(at(50));
    assert_eq!(burst_sizes(&mut lab, 3_000), [(50, 2), (150, 2), (1_050, 2)]);
}

#[test]
fn every_address_that_is_claimed_is_announced_again_however_many_there_are() {
    let mut lab = Lab::with(&ipv4_only(3), &Limits::default());
    lab.network.set_defends(true);
    lab.network.announce(at(0));
    burst_sizes(&mut lab, 2_000);
    let claim = |lab: &mut Lab, ms| {
        for last in 0..3 {
            let claim = arp_request(client_net(last), OTHER_MAC, client_net(last));
            assert_eq!(lab.arp(at(ms), CLIENT_PORT, claim), Verdict::Consumed);
        }
    };
    for ms in [5_000, 5_300, 5_999] {
        claim(&mut lab, ms);
    }
    let sizes = (5_000..=6_000).map(|ms| (ms, lab.run(at(ms)).len())).filter(|sent| sent.1 > 0);
    assert_eq!(
        sizes.collect::<Vec<_>>(),
        [(5_000, 6), (5_100, 6), (6_000, 6)],
        "the last round is after the last claim"
    );
    claim(&mut lab, 6_001);
    assert_eq!(lab.run(at(6_001)).len(), 6, "the next claim is answered at once");
}

#[test]
fn a_claim_is_worth_a_line_once_a_minute_for_each_address() {
    let mut lab = Lab::with(&ipv4_only(2), &Limits::default());
    let told = |lab: &mut Lab, s: u64, last: u8| {
        lab.arp(at(s * 1_000), CLIENT_PORT, arp_request(client_net(last), OTHER_MAC, client_net(last)));
        lab.network.take_claimed()
    };
    lab.network.announce(at(0));
    assert_eq!(told(&mut lab, 1, 0), None, "the address may be the other node's");
    lab.network.set_defends(true);
    assert_eq!(told(&mut lab, 2, 0), Some((client_net(0), OTHER_MAC)));
    assert_eq!(told(&mut lab, 3, 1), Some((client_net(1), OTHER_MAC)));
    assert_eq!(told(&mut lab, 61, 0), None);
    assert_eq!(told(&mut lab, 62, 0), Some((client_net(0), OTHER_MAC)));
    lab.network.set_plan(&ipv4_only(1));
    assert_eq!(told(&mut lab, 200, 1), None, "it is nobody's here");
}

#[test]
fn a_rivals_claims_are_counted_and_answered_seldom() {
    let mut lab = Lab::with(&ipv4_only(1), &Limits::default());
    lab.network.set_defends(true);
    lab.network.announce(at(0));
    burst_sizes(&mut lab, 2_000);
    lab.network.set_rivals(&[OTHER_MAC]);
    let mut claim = |ms| {
        lab.arp(at(ms), CLIENT_PORT, arp_request(client_net(0), OTHER_MAC, client_net(0)));
        (lab.run(at(ms)).len(), lab.network.take_claimed())
    };
    assert_eq!(claim(3_000), (2, Some((client_net(0), OTHER_MAC))), "it is told at once that it is not alone");
    // What leaves then are the rounds of the first answer.
    assert_eq!([claim(3_050), claim(3_200), claim(12_999)].map(|(sent, _)| sent), [0, 2, 2]);
    assert_eq!(claim(13_000).0, 2);
    assert_eq!(lab.network.counters().address_conflicts, 5);
}
