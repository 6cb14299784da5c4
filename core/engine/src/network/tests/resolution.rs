//! Asking for neighbours, waiting for them, losing them.

use super::*;

const SERVER: u8 = 9;

fn asked_by_arp(port: Port, target: Addr) -> Said {
    Said { port: port.id, to: MacAddr::BROADCAST, what: What::Arp(arp_request(server_net(2), port.mac, target)) }
}

fn answer(lab: &mut Lab, now: Instant) -> Verdict {
    lab.arp(now, SERVER_PORT, arp_reply(server_net(SERVER), SERVER_MAC, server_net(2), SERVER_PORT.mac))
}

#[test]
fn a_next_hop_is_asked_for_on_every_port_and_found_on_one() {
    let mut lab = Lab::new();
    let server = server_net(SERVER);
    assert_eq!(lab.resolve(at(0), server), Resolution::Pending);
    lab.queue(server, 1).unwrap();
    lab.queue(server, 2).unwrap();
    assert_eq!(lab.said(), [asked_by_arp(CLIENT_PORT, server), asked_by_arp(SERVER_PORT, server)]);

    assert_eq!(answer(&mut lab, at(3)), Verdict::Consumed);
    let sent = lab.said();
    let contents: Vec<(PortId, MacAddr, u8)> = sent
        .iter()
        .map(|said| match &said.what {
            What::Payload(bytes) => (said.port, said.to, bytes[20]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(contents, [(SERVER_PORT.id, SERVER_MAC, 1), (SERVER_PORT.id, SERVER_MAC, 2)]);
    assert_eq!(lab.resolve(at(4), server), Resolution::Ready { port: SERVER_PORT.id, mac: SERVER_MAC });
    assert_eq!(lab.said(), []);
}

#[test]
fn a_silent_neighbour_is_asked_four_times_and_then_its_frames_come_back() {
    let mut lab = Lab::new();
    let server = server_net(SERVER);
    lab.resolve(at(0), server);
    lab.queue(server, 7).unwrap();
    lab.said();
    let mut asked_at = Vec::new();
    for ms in 0..=320 {
        if lab.run(at(ms)) == [asked_by_arp(CLIENT_PORT, server), asked_by_arp(SERVER_PORT, server)] {
            asked_at.push(ms);
        }
        if ms < 320 {
            assert_eq!(lab.network.poll_unreachable(), None);
        }
    }
    assert_eq!(asked_at, [20, 120, 220]);
    assert_eq!(lab.network.poll_unreachable().map(|frame| frame.bytes[20]), Some(7));
    assert_eq!(lab.network.poll_unreachable(), None);
    assert_eq!(lab.network.counters().unreachable, 1);
    assert_eq!(lab.network.poll_timeout(), None);
    assert_eq!(lab.resolve(at(400), server), Resolution::Pending, "the next packet asks again");
    assert_eq!(lab.said().len(), 2);
}

#[test]
fn the_queue_of_a_silent_neighbour_is_bounded() {
    let limits = Limits { neighbour_queue: 3, ..Limits::default() };
    let mut lab = Lab::with(&plan(), &limits);
    lab.resolve(at(0), server_net(SERVER));
    for content in 0..3 {
        assert_eq!(lab.queue(server_net(SERVER), content), Ok(()));
    }
    assert_eq!(lab.queue(server_net(SERVER), 3), Err(Drop::NeighbourQueueFull));
}

#[test]
fn after_half_a_minute_a_neighbour_is_probed_and_stays_usable_meanwhile() {
    let mut lab = Lab::new();
    let server = server_net(SERVER);
    lab.resolve(at(0), server);
    answer(&mut lab, at(1));
    lab.said();
    let generation = lab.network.generation();
    assert_eq!(lab.network.poll_timeout(), Some(at(30_001)));
    let probe = Said { to: SERVER_MAC, ..asked_by_arp(SERVER_PORT, server) };
    assert_eq!(lab.run(at(30_001)), [probe], "unicast, on its port only");
    assert_eq!(lab.resolve(at(30_002), server), Resolution::Ready { port: SERVER_PORT.id, mac: SERVER_MAC });
    answer(&mut lab, at(30_003));
    assert_eq!(lab.network.poll_timeout(), Some(at(60_003)));
    assert_eq!(lab.network.generation(), generation, "flows keep what they know");
}

#[test]
fn a_neighbour_that_answers_no_probe_is_forgotten_and_flows_are_told() {
    let mut lab = Lab::new();
    lab.resolve(at(0), server_net(SERVER));
    answer(&mut lab, at(0));
    lab.said();
    let generation = lab.network.generation();
    let mut probes = 0;
    for ms in (30_000..30_400).step_by(5) {
        probes += lab.run(at(ms)).len();
    }
    assert_eq!(probes, 4);
    assert_ne!(lab.network.generation(), generation);
    assert_eq!(lab.resolve(at(31_000), server_net(SERVER)), Resolution::Pending);
}

#[test]
fn a_neighbour_that_moves_is_followed() {
    let mut lab = Lab::new();
    lab.resolve(at(0), server_net(SERVER));
    answer(&mut lab, at(0));
    let generation = lab.network.generation();
    let moved = arp_request(server_net(SERVER), OTHER_MAC, server_net(SERVER));
    assert_eq!(lab.arp(at(5_000), CLIENT_PORT, moved), Verdict::Consumed);
    assert_ne!(lab.network.generation(), generation);
    let there = Resolution::Ready { port: CLIENT_PORT.id, mac: OTHER_MAC };
    assert_eq!(lab.resolve(at(5_001), server_net(SERVER)), there);
}

#[test]
fn ipv6_neighbours_are_solicited_by_the_snip_of_their_subnet() {
    let mut lab = Lab::new();
    let server = v6(2, SERVER);
    lab.resolve(at(0), server);
    let (group, group_mac) = build::solicited_node(server);
    let solicited = |port: Port| Said {
        port: port.id,
        to: group_mac,
        what: What::Solicitation { src: v6(2, 2), dst: group, target: server, mac: Some(port.mac) },
    };
    assert_eq!(lab.said(), [solicited(CLIENT_PORT), solicited(SERVER_PORT)]);
    lab.advertise(at(1), SERVER_PORT, server, SERVER_MAC, true);
    assert_eq!(lab.resolve(at(2), server), Resolution::Ready { port: SERVER_PORT.id, mac: SERVER_MAC });

    let probe = lab.run(at(30_001));
    let What::Solicitation { dst, target, .. } = probe[0].what else { panic!("{probe:?}") };
    assert_eq!((probe.len(), probe[0].to, dst, target), (1, SERVER_MAC, server, server));
}

#[test]
fn a_link_local_gateway_is_solicited_too() {
    let mut lab = Lab::new();
    let gateway = lab.network.next_hop(v6(9, 9)).unwrap();
    lab.resolve(at(0), gateway);
    let said = lab.said();
    let What::Solicitation { src, target, .. } = said[0].what else { panic!("{said:?}") };
    assert_eq!((src, target), (v6(1, 1), link_local(254)));
}

#[test]
fn an_advertisement_without_override_does_not_move_a_neighbour() {
    let mut lab = Lab::new();
    lab.resolve(at(0), v6(2, SERVER));
    lab.advertise(at(1), SERVER_PORT, v6(2, SERVER), SERVER_MAC, true);
    lab.advertise(at(2_000), SERVER_PORT, v6(2, SERVER), OTHER_MAC, false);
    let known = Resolution::Ready { port: SERVER_PORT.id, mac: SERVER_MAC };
    assert_eq!(lab.resolve(at(2_001), v6(2, SERVER)), known);
    lab.advertise(at(2_002), SERVER_PORT, v6(2, SERVER), OTHER_MAC, true);
    let moved = Resolution::Ready { port: SERVER_PORT.id, mac: OTHER_MAC };
    assert_eq!(lab.resolve(at(2_003), v6(2, SERVER)), moved);
}

#[test]
fn answers_nobody_asked_for_are_not_remembered() {
    let mut lab = Lab::new();
    answer(&mut lab, at(0));
    lab.advertise(at(0), SERVER_PORT, v6(2, SERVER), SERVER_MAC, true);
    assert_eq!(lab.network.neighbours(100), []);
}

#[test]
fn a_quiet_node_asks_nobody_and_begins_anew() {
    let mut lab = Lab::new();
    lab.resolve(at(0), server_net(SERVER));
    answer(&mut lab, at(0));
    lab.resolve(at(0), server_net(8));
    lab.queue(server_net(8), 1).unwrap();
    lab.network.announce(at(0));
    lab.said();
    lab.network.set_quiet(true);
    assert_eq!(lab.network.poll_timeout(), None);
    assert_eq!(lab.run(at(60_000)), []);
    lab.network.set_quiet(false);
    assert_eq!(lab.run(at(60_001)), []);
    assert_eq!(lab.network.poll_unreachable(), None, "nobody waits for an answer from before");
    assert_eq!(lab.resolve(at(60_002), server_net(SERVER)), Resolution::Pending);
}

#[test]
fn new_ports_and_a_new_plan_end_a_generation() {
    let mut lab = Lab::new();
    lab.resolve(at(0), server_net(SERVER));
    answer(&mut lab, at(0));
    let first = lab.network.generation();
    lab.network.set_plan(&plan());
    let second = lab.network.generation();
    assert_ne!(first, second);
    let known = Resolution::Ready { port: SERVER_PORT.id, mac: SERVER_MAC };
    assert_eq!(lab.resolve(at(1), server_net(SERVER)), known);
    lab.network.set_ports(&[CLIENT_PORT]);
    assert_ne!(lab.network.generation(), second);
    assert_eq!(lab.resolve(at(2), server_net(SERVER)), Resolution::Pending);
}

#[test]
fn the_listing_shows_who_is_where() {
    let mut lab = Lab::new();
    lab.resolve(at(0), server_net(SERVER));
    answer(&mut lab, at(0));
    lab.resolve(at(0), server_net(8));
    let row = |last, mac, port| NeighbourRow { addr: server_net(last), mac, port };
    let rows = [row(8, None, None), row(SERVER, Some(SERVER_MAC), Some(SERVER_PORT.id))];
    assert_eq!(lab.network.neighbours(100), rows);
    assert_eq!(lab.network.neighbours(1).len(), 1);
}

#[test]
fn a_turn_gives_up_a_bounded_number_of_frames() {
    let mut lab = Lab::new();
    for last in 10..20 {
        lab.resolve(at(0), server_net(last));
        for content in 0..100 {
            lab.queue(server_net(last), content).unwrap();
        }
    }
    for ms in [20, 120, 220] {
        lab.run(at(ms));
    }
    let mut turns = Vec::new();
    while lab.network.poll_timeout().is_some() {
        lab.network.handle_timeout(at(320), &mut lab.out);
        turns.push(core::iter::from_fn(|| lab.network.poll_unreachable()).count());
    }
    assert_eq!(turns, [200, 200, 200, 200, 200]);
}
