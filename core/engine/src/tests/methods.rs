//! The methods one by one: how they share out, what they go by, and what stands in for them.

use super::selection::{lab, many, open};
use super::*;
use crate::roster::Roster;
use crate::select::{Ends, Turns};
use crate::{Backup, OffloadOrder, OffloadUse, STARTUP_FLOWS, StandIn};

const CLIENTS: u32 = 10_000;
const HASHES: [Method; 4] = [
    Method::SourceIpHash(Mask::WHOLE),
    Method::DestinationIpHash(Mask::WHOLE),
    Method::SrcIpDestIpHash(Mask::WHOLE),
    Method::SrcIpSrcPortHash,
];

/// Services with these weights under `method`, all up.
fn roster(weights: &[u8], method: Method) -> Roster {
    let mut roster = Roster::new();
    roster.set_plan(Arc::new(many(&v4(), weights, method)));
    for index in 0..weights.len() {
        roster.set_health(ServiceId(10 + index as u32), true);
    }
    roster
}

/// The `index`th client, which calls the `index`th address from a port of its own.
fn ends(index: u32) -> Ends {
    let [_, a, b, c] = index.to_be_bytes();
    let client = Endpoint { addr: Addr::v4([10, a, b, c]), port: 1024 + index as u16 };
    Ends { client, called: Addr::v4([172, a, b, c]) }
}

/// Which service each client gets.
fn shares(roster: &Roster) -> Vec<u32> {
    let vserver = &roster.plan().vservers[0];
    let mut turns = Turns::default();
    let choose = |index| turns.choose(vserver, ends(index), roster).expect("one is usable").service.0 - 10;
    (0..CLIENTS).map(choose).collect()
}

fn count(shares: &[u32], service: u32) -> u32 {
    shares.iter().filter(|&&share| share == service).count() as u32
}

#[test]
fn each_hash_shares_ten_thousand_clients_out_by_weight() {
    for method in HASHES {
        let shares = shares(&roster(&[10, 30, 60], method));
        for (service, expected) in [(0, 1_000), (1, 3_000), (2, 6_000)] {
            let got = count(&shares, service);
            assert!(got.abs_diff(expected) < 200, "{method:?}: service {service} has {got} of {expected}");
        }
    }
}

#[test]
fn each_hash_moves_only_the_clients_of_a_service_that_leaves_and_takes_them_back() {
    for method in HASHES {
        let mut roster = roster(&[10, 30, 60], method);
        let before = shares(&roster);
        roster.set_health(ServiceId(11), false);
        let without = shares(&roster);
        let moved: Vec<u32> =
            before.iter().zip(&without).filter(|(old, new)| old != new).map(|(_, &new)| new).collect();
        assert_eq!(moved.len() as u32, count(&before, 1), "{method:?}: nobody else moves");
        let light = count(&moved, 0);
        assert!(light.abs_diff(moved.len() as u32 / 7) < 100, "{method:?}: 10 to 60, not {light} of {}", moved.len());
        roster.set_health(ServiceId(11), true);
        assert_eq!(shares(&roster), before, "{method:?}");
    }
}

/// Where `ends` go under `method`, among many services: equal places mean that what differs does not count.
fn place(method: Method, ends: Ends) -> u32 {
    let roster = roster(&[1; 64], method);
    Turns::default().choose(&roster.plan().vservers[0], ends, &roster).expect("one is usable").service.0
}

#[test]
fn each_hash_goes_by_its_own_addresses_and_by_what_a_mask_leaves_of_them() {
    let (one, mask) = (ends(0x0101), Mask { v4: 24, v6: 64 });
    let neighbour = |end: Endpoint| Endpoint { addr: Addr::v4([10, 0, 1, 77]), ..end };
    let client = Ends { client: neighbour(one.client), ..one };
    let called = Ends { called: Addr::v4([172, 0, 1, 77]), ..one };
    let port = Ends { client: Endpoint { port: 9, ..one.client }, ..one };
    let moves = |method: Method| [client, called, port].map(|other| place(method, other) != place(method, one));
    assert_eq!(moves(Method::SourceIpHash(Mask::WHOLE)), [true, false, false]);
    assert_eq!(moves(Method::DestinationIpHash(Mask::WHOLE)), [false, true, false]);
    assert_eq!(moves(Method::SrcIpDestIpHash(Mask::WHOLE)), [true, true, false]);
    assert_eq!(moves(Method::SrcIpSrcPortHash), [true, false, true]);
    assert_eq!(moves(Method::SourceIpHash(mask)), [false; 3]);
    assert_eq!(moves(Method::DestinationIpHash(mask)), [false; 3]);
    assert_eq!(moves(Method::SrcIpDestIpHash(mask)), [false; 3]);
    let wide = |last: u8| Ends { called: addr(&format!("2001:db8:9:9::{last:x}")), ..one };
    let hash = Method::DestinationIpHash(mask);
    assert_eq!(place(hash, wide(1)), place(hash, wide(2)), "the same 64 bits");
    assert_ne!(place(Method::DestinationIpHash(Mask::WHOLE), wide(1)), place(hash, wide(1)));
}

#[test]
fn a_hash_id_stands_for_the_server_that_has_it() {
    let method = Method::SourceIpHash(Mask::WHOLE);
    let named = |first_octet: u8| {
        let mut plan = many(&v4(), &[1, 1, 1], method);
        for (service, octet) in plan.services.iter_mut().zip(first_octet..) {
            (service.server.addr, service.hash_id) = (Addr::v4([198, 51, 100, octet]), 7 + service.id.0);
        }
        let mut roster = roster(&[1, 1, 1], method);
        roster.set_plan(Arc::new(plan));
        shares(&roster)
    };
    assert_eq!(named(20), named(50), "the servers have moved to other addresses");
    assert_ne!(named(20), shares(&roster(&[1, 1, 1], method)));
}

/// A connection to each of two services, begun by a vserver that has left its start-up behind.
fn two_connections(method: Method) -> (Lab, [(Endpoint, Endpoint); 2]) {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let first = lab.establish();
    lab.net.client.port += 1;
    let second = lab.establish();
    let mut plan = plan(&net);
    plan.vservers[0].method = method;
    lab.set_plan(plan);
    lab.engine.promote(lab.now);
    lab.pass(Duration::from_secs(20));
    lab.sent.clear();
    (lab, [first, second])
}

/// Which server the next client is sent to.
fn next_server(lab: &mut Lab) -> Endpoint {
    lab.net.client.port += 1;
    lab.client(SYN, 1, 0, b"");
    lab.next().packet().destination()
}

#[test]
fn least_bandwidth_and_least_packets_go_by_what_passed_in_the_last_seconds() {
    for (method, wanted) in [(Method::LeastBandwidth, 1), (Method::LeastPackets, 0)] {
        let (mut lab, [first, second]) = two_connections(method);
        lab.server(first.0, first.1, (ACK, 501, 101), &[0; 1200]);
        for _ in 0..9 {
            lab.server(second.0, second.1, (ACK, 501, 101), b"x");
        }
        lab.sent.clear();
        let servers = [first.0, second.0];
        for _ in 0..3 {
            assert_eq!(next_server(&mut lab), servers[wanted], "{method:?}");
        }
        lab.pass(Duration::from_secs(10));
        assert_eq!(next_server(&mut lab), servers[wanted], "{method:?}: still in the window");
        lab.pass(Duration::from_secs(29));
        let turns = [next_server(&mut lab), next_server(&mut lab)];
        assert_ne!(turns[0], turns[1], "{method:?}: nothing has passed for long");
    }
}

#[test]
fn what_a_fast_path_carries_counts_as_well() {
    let (mut lab, [first, second]) = two_connections(Method::LeastBandwidth);
    lab.engine.set_offload(true);
    lab.client(ACK, 101, 501, b"data");
    let copies: Vec<_> = std::iter::from_fn(|| lab.engine.poll_offload(lab.now)).collect();
    let [_, OffloadOrder::Install(copy), _] = copies[..] else { panic!("two copies, not {copies:?}") };
    assert_eq!(copy.dst, second.0, "of the latest client's flow");
    let report = OffloadUse {
        key: copy.key,
        packets: 1000,
        bytes: 1_000_000,
        used: Some(lab.now),
        end: 105,
        ack: 501,
        last: false,
    };
    lab.server(first.0, first.1, (ACK, 501, 101), &[0; 1200]);
    lab.sent.clear();
    assert_eq!(next_server(&mut lab), second.0);
    lab.engine.handle_use(lab.now, &report);
    assert_eq!(next_server(&mut lab), first.0);
}

#[test]
fn loads_are_noted_only_where_a_method_compares_them_and_the_gate_is_open() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    assert_eq!(lab.engine.loads_due(), None);
    let mut plan = lab.plan();
    plan.vservers[0].method = Method::LeastPackets;
    lab.set_plan(plan);
    assert!(lab.engine.loads_due().is_some());
    lab.pass(Duration::from_secs(1));
    let due = lab.engine.loads_due();
    lab.pass(Duration::from_secs(2));
    assert_ne!(lab.engine.loads_due(), due);
    lab.engine.set_gate(lab.now, Gate::Closed);
    assert_eq!(lab.engine.loads_due(), None);
}

#[test]
fn what_passed_before_a_method_looked_at_it_does_not_count() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let (server, source) = lab.establish();
    lab.server(server, source, (ACK, 501, 101), &[0; 1200]);
    lab.sent.clear();
    let mut plan = lab.plan();
    plan.vservers[0].method = Method::LeastBandwidth;
    lab.set_plan(plan);
    lab.engine.promote(lab.now);
    let turns = [next_server(&mut lab), next_server(&mut lab)];
    assert!(turns.contains(&server), "{turns:?}");
}

#[test]
fn least_response_time_weighs_answers_with_open_connections() {
    let mut lab = lab(&[1, 1, 2], Method::LeastResponseTime(Backup::RoundRobin));
    lab.engine.promote(lab.now);
    for (service, millis) in [(10, 1), (11, 3), (12, 2)] {
        lab.engine.set_response_time(ServiceId(service), Duration::from_millis(millis));
    }
    let mut counts = [0u32; 3];
    for port in 1..=70 {
        counts[open(&mut lab, port)] += 1;
    }
    // Flows are as 1/1 to 1/3 to 2/2.
    for (count, expected) in counts.into_iter().zip([30, 10, 30]) {
        assert!(count.abs_diff(expected) <= 1, "{counts:?}");
    }
}

#[test]
fn a_service_that_has_not_answered_yet_makes_least_response_time_give_way_to_its_backup() {
    let mut lab = lab(&[1, 1], Method::LeastResponseTime(Backup::SourceIpHash(Mask::WHOLE)));
    lab.engine.promote(lab.now);
    lab.engine.set_response_time(ServiceId(10), Duration::from_millis(1));
    assert_eq!(lab.engine.stand_in(VSERVER), Some(StandIn::MonitorsSilent));
    let first = open(&mut lab, 1);
    assert!((2..20).all(|port| open(&mut lab, port) == first), "the backup is a hash");
    lab.engine.set_response_time(ServiceId(11), Duration::from_millis(1));
    assert_eq!(lab.engine.stand_in(VSERVER), None);
    assert_ne!(open(&mut lab, 20), first, "it has fewer connections");
}

/// Opens flows until nothing stands in for the method any more; how many each service got.
fn until_started(lab: &mut Lab, services: usize, port: &mut u16) -> Vec<u32> {
    let mut counts = vec![0; services];
    while lab.engine.stand_in(VSERVER).is_some() {
        *port += 1;
        counts[open(lab, *port)] += 1;
    }
    counts
}

#[test]
fn a_new_service_is_not_flooded_by_a_method_that_goes_by_load() {
    let mut port = 0;
    let mut lab = lab(&[1, 1], Method::LeastConnection);
    lab.engine.set_gate(lab.now, Gate::Closed);
    assert_eq!(lab.engine.stand_in(VSERVER), None, "a successor goes on by load");
    lab.engine.set_gate(lab.now, Gate::Open);
    assert_eq!(lab.engine.stand_in(VSERVER), Some(StandIn::ServiceUp));
    assert_eq!(until_started(&mut lab, 2, &mut port), [STARTUP_FLOWS; 2]);
    lab.set_plan(many(&lab.net, &[1, 1, 1], Method::LeastConnection));
    assert_eq!(lab.engine.stand_in(VSERVER), Some(StandIn::ServiceBound));
    lab.engine.set_health(lab.now, ServiceId(12), true);
    assert_eq!(lab.engine.stand_in(VSERVER), Some(StandIn::ServiceUp));
    assert_eq!(until_started(&mut lab, 3, &mut port), [STARTUP_FLOWS; 3]);
    assert!((0..STARTUP_FLOWS).all(|_| {
        port += 1;
        open(&mut lab, port) == 2
    }));
}

#[test]
fn start_up_waits_for_usable_services_only() {
    let mut port = 0;
    let mut lab = lab(&[1, 1], Method::LeastConnection);
    lab.engine.set_health(lab.now, ServiceId(11), false);
    assert_eq!(until_started(&mut lab, 2, &mut port), [STARTUP_FLOWS, 0]);
    lab.engine.set_health(lab.now, ServiceId(11), false);
    assert_eq!(lab.engine.stand_in(VSERVER), None, "it was down before");
}

#[test]
fn what_begins_start_up_and_what_does_not() {
    /// What is changed; what stands in then, and once it is changed back.
    type Case = (fn(&mut Plan), Option<StandIn>, Option<StandIn>);
    let changes: [Case; 7] = [
        (|_| {}, None, None),
        (
            |plan| plan.vservers[0].method = Method::LeastPackets,
            Some(StandIn::MethodChanged),
            Some(StandIn::MethodChanged),
        ),
        (|plan| plan.vservers[0].method = Method::RoundRobin, None, Some(StandIn::MethodChanged)),
        (|plan| plan.vservers[0].method = Method::SrcIpSrcPortHash, None, Some(StandIn::MethodChanged)),
        (|plan| plan.vservers[0].services.truncate(1), None, Some(StandIn::ServiceBound)),
        (|plan| plan.services[0].enabled = false, None, Some(StandIn::ServiceUp)),
        (|plan| plan.vservers[0].enabled = false, None, Some(StandIn::VserverEnabled)),
    ];
    for (index, (change, then, and_back)) in changes.into_iter().enumerate() {
        let mut lab = lab(&[1, 1], Method::LeastConnection);
        lab.engine.promote(lab.now);
        let whole = lab.plan();
        let mut plan = whole.clone();
        change(&mut plan);
        lab.set_plan(plan);
        assert_eq!(lab.engine.stand_in(VSERVER), then, "change {index}");
        lab.engine.promote(lab.now);
        lab.set_plan(whole);
        assert_eq!(lab.engine.stand_in(VSERVER), and_back, "and back from change {index}");
    }
}
