//! UDP flows.

use super::*;

#[test]
fn datagrams_go_to_one_server_and_back_and_idle_flows_are_forgotten() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"ask");
        let asked = lab.next().packet();
        assert_eq!((asked.destination(), asked.src), (net.servers[0], net.snip));
        lab.datagram(SERVER_PORT, asked.destination(), asked.source(), b"told");
        let told = lab.next().packet();
        assert_eq!((told.source(), told.destination()), (net.vip, net.client));
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"again");
        assert_eq!(lab.next().packet().destination(), net.servers[0]);
        assert_eq!(lab.engine.counts().flows, 1);
        lab.pass(Duration::from_secs(301));
        assert_eq!((lab.engine.counts().flows, lab.engine.counts().leases), (0, 0));
    }
}

#[test]
fn the_first_datagram_waits_for_the_peer_and_later_ones_behind_it() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.mirror(1, true);
        for n in 0..3u8 {
            assert_eq!(lab.datagram(CLIENT_PORT, net.client, net.vip, &[n]), Verdict::Consumed);
        }
        lab.nothing();
        assert_eq!(lab.marks.len(), 1);
        lab.acknowledge();
        for n in 0..3u8 {
            assert_eq!(lab.next().bytes.last(), Some(&n));
        }
        lab.nothing();
        assert_eq!(lab.datagram(CLIENT_PORT, net.client, net.vip, b"x"), Verdict::Forward(SERVER_PORT));
        assert_eq!(lab.engine.counters().hold_released_by_ack, 1);
    }
}

#[test]
fn a_datagram_of_a_server_without_a_flow_is_dropped_at_a_snip_and_routed_with_usip() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let verdict = lab.datagram(SERVER_PORT, net.servers[0], Endpoint { addr: net.snip, port: 5 }, b"x");
    assert_eq!(verdict, Verdict::Drop(Drop::NoVserver));
    let mut lab = Lab::new(net, usip_plan(&net));
    lab.datagram(SERVER_PORT, net.servers[0], net.client, b"x");
    assert_eq!(lab.next().packet().source(), net.servers[0]);
}

#[test]
fn a_mirrored_datagram_flow_keeps_its_server() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let mut other = lab.standby(plan(&net));
    lab.mirror(1, true);
    lab.datagram(CLIENT_PORT, net.client, net.vip, b"x");
    let [Mark::Flow(flow)] = lab.marks[..] else { panic!() };
    let record = lab.engine.record(flow).expect("alive");
    other.engine.apply_record(other.now, &record, 1);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.datagram(CLIENT_PORT, net.client, net.vip, b"y");
    let sent = other.next().packet();
    assert_eq!((sent.source(), sent.destination()), (record.source, record.server));
}

/// A plan whose flows end with the server's answer.
fn of_one_answer(net: &Net) -> Plan {
    let mut plan = plan(net);
    plan.vservers[0].kind = VserverKind::Udp;
    plan.vservers[0].one_answer = true;
    plan
}

#[test]
fn a_flow_that_closes_on_response_ends_with_the_answer_here_and_at_the_peer() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, of_one_answer(&net));
        lab.mirror(1, true);
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"ask");
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"ask again");
        lab.acknowledge();
        let asked = lab.next().packet();
        lab.next();
        lab.datagram(SERVER_PORT, asked.destination(), asked.source(), b"told");
        assert_eq!(lab.next().packet().destination(), net.client);
        let counts = lab.engine.counts();
        assert_eq!((counts.flows, counts.leases, counts.protected, counts.unprotected), (0, 0, 0, 0));
        lab.settle();
        assert!(matches!(lab.marks[..], [Mark::Closed(..)]), "the peer is told: {:?}", lab.marks);
        let late = lab.datagram(SERVER_PORT, asked.destination(), asked.source(), b"late");
        assert!(matches!(late, Verdict::Drop(_)), "the second answer comes too late");
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"more");
        lab.acknowledge();
        assert_eq!(lab.next().packet().destination(), net.servers[1], "another flow, another turn");
    }
}

#[test]
fn a_flow_that_closes_on_response_closes_at_a_successor_too_or_idles_out() {
    let net = v4();
    for answered in [true, false] {
        let mut lab = Lab::new(net, of_one_answer(&net));
        lab.mirror(1, true);
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"ask");
        let records = lab.records();
        lab.acknowledge();
        let asked = lab.next().packet();
        let mut heir = lab.standby(of_one_answer(&net));
        heir.engine.apply_record(heir.now, &records[0], 1);
        heir.engine.set_gate(heir.now, Gate::Open);
        heir.engine.promote(heir.now);
        if answered {
            heir.datagram(SERVER_PORT, asked.destination(), asked.source(), b"told");
            assert_eq!(heir.next().packet().destination(), net.client);
            assert_eq!(heir.engine.counts().flows, 0);
        }
        heir.pass(Duration::from_secs(301));
        assert_eq!((heir.engine.counts().flows, heir.engine.counts().leases), (0, 0));
    }
}

#[test]
fn the_kernel_gets_no_copies_of_a_flow_that_closes_on_response() {
    let net = v4();
    let mut lab = Lab::new(net, of_one_answer(&net));
    lab.engine.set_offload(true);
    for _ in 0..3 {
        lab.datagram(CLIENT_PORT, net.client, net.vip, b"ask");
    }
    lab.settle();
    while let Some(order) = lab.engine.poll_offload(lab.now) {
        assert!(!matches!(order, crate::OffloadOrder::Install(_)), "{order:?}");
    }
}
