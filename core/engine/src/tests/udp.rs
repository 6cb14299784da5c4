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
