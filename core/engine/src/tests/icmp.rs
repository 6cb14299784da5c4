//! Echo, and errors about flows.

use super::*;
use holdfast_wire::build::{ErrorReport, Quote};

#[test]
fn vips_and_snips_answer_echo() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        for own in [net.vip.addr, net.snip] {
            let mut bytes = vec![0; 200];
            let link = Link::new(OWN_MACS[0], CLIENT_MAC);
            let len = build::echo_request(&mut bytes, link, (net.client.addr, own), (5, 6), b"ping");
            bytes.truncate(len);
            assert_eq!(lab.give(CLIENT_PORT, bytes), Verdict::Forward(CLIENT_PORT));
            let reply = lab.next();
            assert_eq!((reply.packet().src, reply.packet().dst), (own, net.client.addr));
            assert_eq!(reply.macs(), (CLIENT_MAC, OWN_MACS[0]));
        }
    }
}

/// An error about `about`, made by `speaker` behind `mac`.
fn error(about: &Sent, port: PortId, mac: MacAddr, speaker: Addr, report: ErrorReport) -> Vec<u8> {
    let mut bytes = vec![0; build::MAX_REPLY];
    let packet = about.packet();
    let link = Link::new(OWN_MACS[usize::from(port.0)], mac);
    let quote = Quote { frame: &about.bytes, packet: &packet };
    let len = build::icmp_error(&mut bytes, link, speaker, quote, report).expect("may be reported");
    bytes.truncate(len);
    bytes
}

#[test]
fn an_error_about_a_flows_packet_reaches_the_end_that_sent_it_in_its_own_terms() {
    for net in [v4(), v6()] {
        for plan in [plan(&net), usip_plan(&net)] {
            let mut lab = Lab::new(net, plan);
            let (server, source) = lab.establish();
            lab.client(ACK, 101, 501, &[1; 900]);
            let data = lab.next();
            let report = ErrorReport::TooBig { mtu: 1300 };
            lab.give(SERVER_PORT, error(&data, SERVER_PORT, SERVER_MACS[0], server.addr, report));
            let told = lab.next();
            let Transport::IcmpError(quoted) = told.packet().transport else { panic!("{told:?}") };
            assert_eq!((told.port, told.packet().src, told.packet().dst), (CLIENT_PORT, net.vip.addr, net.client.addr));
            assert_eq!((quoted.inner.src, quoted.inner.dst), (net.client, net.vip));

            lab.server(server, source, (ACK, 501, 101), &[1; 900]);
            let data = lab.next();
            lab.give(CLIENT_PORT, error(&data, CLIENT_PORT, CLIENT_MAC, net.client.addr, report));
            let told = lab.next();
            let Transport::IcmpError(quoted) = told.packet().transport else { panic!("{told:?}") };
            assert_eq!((told.port, told.packet().dst), (SERVER_PORT, server.addr));
            assert_eq!((quoted.inner.src, quoted.inner.dst), (server, source));
        }
    }
}

#[test]
fn an_error_about_nothing_of_ours_is_dropped() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.client(ACK, 101, 501, b"x");
    let data = lab.next();
    lab.engine.clear(lab.now);
    let report = ErrorReport::PortUnreachable;
    let verdict = lab.give(SERVER_PORT, error(&data, SERVER_PORT, SERVER_MACS[0], net.servers[0].addr, report));
    assert_eq!(verdict, Verdict::Drop(Drop::IcmpUnrelated));
}

#[test]
fn a_client_whose_server_cannot_be_reached_is_told_nothing_and_tries_again() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.remove_host(net.servers[0].addr);
        assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Consumed);
        lab.pass(Duration::from_secs(1));
        assert_eq!(lab.drops(Drop::NeighbourUnreachable), 1);
        lab.nothing();
        lab.add_host(net.servers[0].addr, SERVER_PORT, SERVER_MACS[0]);
        lab.client(SYN, 1, 0, b"");
        assert_eq!(lab.next().port, SERVER_PORT);
    }
}

#[test]
fn a_server_whose_syn_ack_cannot_be_delivered_is_told_nothing() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.client(SYN, 1, 0, b"");
        let source = lab.next().packet().source();
        lab.remove_host(net.client.addr);
        lab.engine.set_ports(&[CLIENT_PORT, SERVER_PORT].map(|id| Port {
            id,
            mac: OWN_MACS[usize::from(id.0)],
            mtu: 1500,
        }));
        assert_eq!(lab.server(net.servers[0], source, (SYN_ACK, 1, 2), b""), Verdict::Consumed);
        lab.pass(Duration::from_secs(1));
        assert_eq!(lab.drops(Drop::NeighbourUnreachable), 1);
        lab.nothing();
    }
}

#[test]
fn the_sender_of_a_routed_packet_is_told_that_its_destination_cannot_be_reached() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.establish();
        lab.remove_host(net.client.addr);
        lab.engine.set_gate(lab.now, Gate::Closed);
        lab.engine.set_gate(lab.now, Gate::Open);
        lab.client(ACK, 101, 501, b"");
        lab.sent.clear();
        lab.server(net.servers[0], Endpoint { port: 1, ..net.client }, (SYN, 1, 0), b"");
        lab.pass(Duration::from_secs(1));
        let told = lab.next();
        assert!(matches!(told.packet().transport, Transport::IcmpError(_)), "{told:?}");
        assert_eq!((told.port, told.packet().src, told.packet().dst), (SERVER_PORT, net.snip, net.servers[0].addr));
    }
}
