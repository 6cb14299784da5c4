//! Packets without a flow: reset, rebuilt, or ignored, by the vserver's setting.

use super::*;

/// A node that has just taken over and knows no flow.
fn successor(net: Net, plan: Plan) -> Lab {
    let mut lab = Lab::new(net, plan);
    lab.engine.promote(lab.now);
    lab.settle();
    lab.sent.clear();
    lab
}

fn expect_reset(lab: &mut Lab, from: Endpoint, to: Endpoint, seq: u32, macs: (MacAddr, MacAddr)) {
    let reset = lab.next();
    let packet = reset.packet();
    assert_eq!((packet.source(), packet.destination()), (from, to));
    assert_eq!((reset.tcp().flags, reset.tcp().seq), (RST, seq));
    assert_eq!(reset.macs(), macs);
    lab.nothing();
}

#[test]
fn disabled_each_end_is_reset_with_the_number_it_expects() {
    for net in [v4(), v6()] {
        let mut lab = successor(net, with_failover(plan(&net), ConnFailover::Disabled));
        assert_eq!(lab.client(ACK, 101, 7777, b"x"), Verdict::Drop(Drop::StrayReset));
        expect_reset(&mut lab, net.vip, net.client, 7777, (CLIENT_MAC, OWN_MACS[0]));
        let source = Endpoint { addr: net.snip, port: 2000 };
        lab.server(net.servers[1], source, (ACK, 1, 8888), b"x");
        expect_reset(&mut lab, source, net.servers[1], 8888, (SERVER_MACS[1], OWN_MACS[1]));
        assert_eq!(lab.engine.counters().resets_sent, 2);
    }
}

#[test]
fn disabled_with_usip_the_server_is_reset_in_the_clients_name() {
    for net in [v4(), v6()] {
        let mut lab = successor(net, with_failover(usip_plan(&net), ConnFailover::Disabled));
        lab.server(net.servers[1], net.client, (ACK, 1, 8888), b"x");
        expect_reset(&mut lab, net.client, net.servers[1], 8888, (SERVER_MACS[1], OWN_MACS[1]));
    }
}

#[test]
fn stateful_strays_are_ignored_for_the_grace_and_reset_after_it() {
    for net in [v4(), v6()] {
        let mut lab = successor(net, plan(&net));
        let source = Endpoint { addr: net.snip, port: 2000 };
        assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StraySilent));
        assert_eq!(lab.server(net.servers[0], source, (ACK, 1, 8888), b""), Verdict::Drop(Drop::StraySilent));
        lab.pass(Duration::from_secs(2));
        assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StrayReset));
        assert_eq!(lab.server(net.servers[0], source, (ACK, 1, 8888), b""), Verdict::Drop(Drop::StrayReset));
    }
}

#[test]
fn resets_are_never_answered() {
    let net = v4();
    for failover in [ConnFailover::Disabled, ConnFailover::Stateless, ConnFailover::Stateful] {
        let mut lab = Lab::new(net, with_failover(plan(&net), failover));
        assert_eq!(lab.client(RST, 101, 0, b""), Verdict::Drop(Drop::StraySilent));
        let source = Endpoint { addr: net.snip, port: 2000 };
        assert_eq!(lab.server(net.servers[0], source, (RST, 1, 0), b""), Verdict::Drop(Drop::StraySilent));
        lab.nothing();
    }
}

#[test]
fn resets_are_limited_in_rate() {
    let net = v4();
    let limits = Limits { max_flows: 16, replies_per_second: 10, ..Limits::default() };
    let mut lab = Lab::with_limits(net, with_failover(plan(&net), ConnFailover::Disabled), limits);
    let mut limited = 0;
    for _ in 0..2000 {
        limited += u32::from(lab.client(ACK, 1, 1, b"") == Verdict::Drop(Drop::RateLimited));
    }
    assert!(limited >= 1000 - 10, "{limited}");
}

#[test]
fn somebody_who_is_no_server_gets_no_reset_from_a_snip() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let verdict = lab.server(end("198.51.100.99", 8080), Endpoint { addr: net.snip, port: 2000 }, (ACK, 1, 1), b"");
    assert_eq!(verdict, Verdict::Drop(Drop::NoVserver));
}

fn stateless(net: &Net) -> Plan {
    let mut plan = with_failover(usip_plan(net), ConnFailover::Stateless);
    plan.vservers[0].method = Method::SourceIpHash(Mask::WHOLE);
    plan.vservers[0].port = 0;
    for service in &mut plan.services {
        service.server.port = 0;
    }
    plan
}

#[test]
fn stateless_connections_continue_from_the_clients_packet_on_the_same_server() {
    for net in [v4(), v6()] {
        for n in 0..20 {
            let mut lab = Lab::new(net, stateless(&net));
            lab.net.client.port = 40_000 + n;
            let (server, _) = lab.establish();
            let mut other = successor(net, stateless(&net));
            other.net.client = lab.net.client;
            other.client(ACK, 101, 501, b"x");
            let data = other.next().packet();
            assert_eq!((data.source(), data.destination()), (other.net.client, server));
            assert_eq!(other.engine.counters().flows_rebuilt, 1);
            assert_eq!(other.engine.vserver_counters(VSERVER).established, 1);
        }
    }
}

#[test]
fn stateless_a_servers_packet_is_bound_to_its_sender() {
    for net in [v4(), v6()] {
        let mut lab = successor(net, stateless(&net));
        let server = Endpoint { port: 80, ..net.servers[1] };
        lab.server(server, net.client, (ACK, 501, 101), b"x");
        let data = lab.next().packet();
        assert_eq!((data.source(), data.destination()), (net.vip, net.client));
        lab.client(ACK, 101, 502, b"y");
        assert_eq!(lab.next().packet().destination(), server);
    }
}

#[test]
fn stateless_datagrams_of_a_server_are_bound_to_their_sender() {
    let net = v4();
    let mut lab = successor(net, stateless(&net));
    lab.datagram(SERVER_PORT, Endpoint { port: 80, ..net.servers[1] }, net.client, b"x");
    let data = lab.next().packet();
    assert_eq!((data.source(), data.destination()), (net.vip, net.client));
}

#[test]
fn stateless_without_usip_cannot_be_rebuilt_and_is_reset() {
    let net = v4();
    let mut lab = successor(net, with_failover(plan(&net), ConnFailover::Stateless));
    assert_eq!(lab.client(ACK, 1, 77, b""), Verdict::Drop(Drop::StrayReset));
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn a_connection_that_a_server_opens_itself_passes_with_its_own_address() {
    let net = v4();
    let world = Endpoint { addr: net.client.addr, port: 443 };
    let server = Endpoint { port: 50_000, ..net.servers[0] };
    for plan in [stateless(&net), usip_plan(&net)] {
        let mut lab = Lab::new(net, plan);
        lab.server(server, world, (SYN, 1, 0), b"");
        let syn = lab.next().packet();
        assert_eq!((syn.source(), syn.destination()), (server, world));
        lab.segment(CLIENT_PORT, CLIENT_MAC, world, server, (SYN_ACK, 9, 2), b"");
        assert_eq!(lab.next().packet().source(), world);
        lab.server(server, world, (ACK, 2, 10), b"x");
        let data = lab.next().packet();
        assert_eq!((data.source(), data.destination()), (server, world));
    }
}

/// A server serves a STATEFUL vserver on its port and a STATELESS one on every port. After a takeover its SYN-ACK comes before the
/// client's SYN is repeated: it is taken for the STATELESS vserver's, and must not keep the connection out.
#[test]
fn a_stray_answer_that_was_taken_for_another_vservers_gives_way_to_the_clients_syn() {
    for net in [v4(), v6()] {
        let mut plan = usip_plan(&net);
        let any = Vserver {
            id: VserverId(8),
            addr: net.snip,
            port: 0,
            failover: ConnFailover::Stateless,
            method: Method::SrcIpSrcPortHash,
            services: vec![Binding { service: ServiceId(9), weight: 1 }],
            ..plan.vservers[0].clone()
        };
        let wide = Service { id: ServiceId(9), server: Endpoint { port: 0, ..net.servers[0] }, ..plan.services[0] };
        plan.addresses[1].kind = FloatingKind::Vip;
        plan.vservers.push(any);
        plan.services.push(wide);
        let mut lab = Lab::new(net, plan);
        lab.engine.set_health(lab.now, ServiceId(9), true);
        lab.server(net.servers[0], net.client, (SYN_ACK, 500, 101), b"");
        assert_eq!(lab.next().packet().source().addr, net.snip, "as the STATELESS vserver's");
        // Its client knows of no such connection.
        lab.segment(
            CLIENT_PORT,
            CLIENT_MAC,
            net.client,
            Endpoint { addr: net.snip, port: net.servers[0].port },
            (RST, 101, 0),
            b"",
        );
        lab.sent.clear();
        lab.client(SYN, 100, 0, b"");
        let syn = lab.next().packet();
        assert_eq!((syn.source(), syn.destination()), (net.client, net.servers[0]));
        assert_eq!(lab.drops(Drop::UsipConflict), 0);
    }
}
