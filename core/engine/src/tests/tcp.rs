//! TCP flows end to end.

use super::*;
use crate::Half;

#[test]
fn a_connection_goes_through_with_snat_and_back() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        assert_eq!(lab.client(SYN, 100, 0, b""), Verdict::Consumed, "waits for the server's Ethernet address");
        let syn = lab.next();
        assert_eq!(syn.port, SERVER_PORT);
        assert_eq!(syn.macs(), (SERVER_MACS[0], OWN_MACS[1]));
        let packet = syn.packet();
        assert_eq!(packet.destination(), net.servers[0]);
        assert_eq!(packet.src, net.snip);
        assert_eq!(packet.ttl, 63);
        assert!((1024..=33_279).contains(&packet.source().port));
        let source = packet.source();

        lab.server(net.servers[0], source, (SYN_ACK, 500, 101), b"");
        let answer = lab.next();
        assert_eq!((answer.port, answer.macs()), (CLIENT_PORT, (CLIENT_MAC, OWN_MACS[0])));
        assert_eq!((answer.packet().source(), answer.packet().destination()), (net.vip, net.client));

        assert_eq!(lab.client(ACK, 101, 501, b"hello"), Verdict::Forward(SERVER_PORT));
        let data = lab.next();
        assert_eq!(&data.bytes[data.bytes.len() - 5..], b"hello");
        assert_eq!((data.packet().source(), data.packet().destination()), (source, net.servers[0]));
        assert_eq!(lab.server(net.servers[0], source, (ACK, 501, 106), b"hi"), Verdict::Forward(CLIENT_PORT));
        assert_eq!(lab.next().tcp().payload_len, 2);
        lab.nothing();

        let counters = lab.engine.vserver_counters(VSERVER);
        assert_eq!((counters.hits, counters.flows, counters.established), (1, 1, 1));
        assert_eq!((counters.traffic.client_packets, counters.traffic.server_packets), (2, 2));
        assert_eq!(lab.engine.service_counters(SERVICES[0]).flows, 1);
        assert_eq!(lab.engine.service_counters(SERVICES[1]).flows, 0);
    }
}

#[test]
fn with_usip_the_server_sees_the_client() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, usip_plan(&net));
        let (server, source) = lab.establish();
        assert_eq!((server, source), (net.servers[0], net.client));
        lab.server(server, source, (ACK, 501, 101), b"x");
        let sent = lab.next().packet();
        assert_eq!((sent.source(), sent.destination()), (net.vip, net.client));
    }
}

#[test]
fn a_packet_of_a_known_flow_changes_nothing_but_its_counters() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.establish();
    only_changed(&mut lab, |lab| _ = lab.client(ACK, 101, 501, b"x"), &[("frames_in", 1), ("forwarded", 1)]);
}

#[test]
fn services_on_any_port_keep_the_clients_destination_port() {
    let net = v4();
    let mut wide = plan(&net);
    wide.vservers[0].port = 0;
    for service in &mut wide.services {
        service.server.port = 0;
    }
    let mut lab = Lab::new(net, wide);
    lab.net.vip.port = 2121;
    let (server, _) = lab.establish();
    assert_eq!(server.port, 2121);
}

#[test]
fn each_half_leases_from_its_own_ports() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.engine.set_half(Half::Upper);
    let (_, source) = lab.establish();
    assert!(source.port >= 33_280);
}

#[test]
fn a_closed_connection_lingers_forty_seconds_and_gives_its_port_back() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        let (server, source) = lab.establish();
        lab.finish(server, source);
        assert_eq!(lab.engine.vserver_counters(VSERVER).established, 0);
        lab.pass(Duration::from_secs(39));
        assert_eq!((lab.engine.counts().flows, lab.engine.counts().leases), (1, 1));
        lab.pass(Duration::from_secs(2));
        assert_eq!((lab.engine.counts().flows, lab.engine.counts().leases), (0, 0));
        assert_eq!(lab.engine.vserver_counters(VSERVER).flows, 0);
    }
}

#[test]
fn a_reset_connection_lingers_four_seconds() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    assert_eq!(lab.server(server, source, (RST, 501, 0), b""), Verdict::Forward(CLIENT_PORT));
    lab.pass(Duration::from_secs(3));
    assert_eq!(lab.engine.counts().flows, 1);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn a_reset_that_is_not_believed_leaves_the_connection_alive() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    lab.client(RST, 9999, 0, b"");
    lab.server(server, source, (ACK, 501, 101), b"challenge");
    lab.pass(Duration::from_secs(10));
    assert_eq!(lab.engine.counts().flows, 1);
    assert_eq!(lab.engine.vserver_counters(VSERVER).established, 1);
}

#[test]
fn a_forged_reset_does_not_end_an_idle_connection() {
    for by_client in [true, false] {
        let mut lab = Lab::new(v4(), plan(&v4()));
        let (server, source) = lab.establish();
        lab.server(server, source, (ACK, 501, 101), b"hello");
        lab.client(ACK, 101, 506, b"");
        let (far, near) = (0x7000_0000, if by_client { 101 } else { 506 });
        let reset = |lab: &mut Lab, seq| {
            if by_client { lab.client(RST, seq, 0, b"") } else { lab.server(server, source, (RST, seq, 0), b"") }
        };
        assert!(matches!(reset(&mut lab, far), Verdict::Forward(_)), "the end itself decides");
        lab.pass(Duration::from_secs(100));
        assert_eq!(lab.engine.counts().flows, 1);
        assert_eq!(lab.engine.counters().resets_doubted, 1);
        reset(&mut lab, near);
        lab.pass(Duration::from_secs(5));
        assert_eq!(lab.engine.counts().flows, 0);
    }
}

#[test]
fn a_new_syn_on_a_closed_connection_opens_another_one() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    lab.finish(server, source);
    lab.client(SYN, 7000, 0, b"");
    let syn = lab.next().packet();
    assert_ne!(syn.source(), source, "another lease");
    assert_eq!(lab.engine.counts().flows, 1);
    assert_eq!(lab.engine.counters().flows_opened, 2);
    assert_eq!(lab.engine.counters().flows_closed, 1);
}

#[test]
fn a_syn_on_a_living_connection_goes_to_its_server() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    lab.client(SYN, 7000, 0, b"");
    let syn = lab.next().packet();
    assert_eq!((syn.source(), syn.destination()), (source, server));
}

#[test]
fn a_half_open_connection_is_forgotten_after_thirty_seconds() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.client(SYN, 100, 0, b"");
    lab.pass(Duration::from_secs(29));
    assert_eq!(lab.engine.counts().flows, 1);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn an_idle_connection_is_forgotten_after_the_longer_time_out_and_nothing_is_sent() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.establish();
    lab.pass(Duration::from_secs(200));
    lab.client(ACK, 101, 501, b"");
    lab.next();
    lab.pass(Duration::from_secs(299));
    assert_eq!(lab.engine.counts().flows, 1);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.engine.counts().flows, 0);
    lab.nothing();
}

#[test]
fn many_flows_that_end_at_once_end_in_bounded_turns() {
    let net = v4();
    let mut lab = Lab::with_limits(net, plan(&net), Limits { max_flows: 2000, ..Limits::default() });
    for n in 0..1000 {
        lab.net.client.port = 1000 + n;
        lab.client(SYN, 1, 0, b"");
    }
    lab.now = lab.now + Duration::from_secs(40);
    let mut turns = 0;
    while lab.engine.poll_timeout().is_some_and(|due| due <= lab.now) {
        let before = lab.engine.counts().flows;
        lab.engine.handle_timeout(lab.now);
        assert!(before - lab.engine.counts().flows <= 128);
        turns += 1;
        assert!(turns < 10_000);
    }
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn flags_that_no_end_sends_are_dropped() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.establish();
    for flags in [TcpFlags(0x03), TcpFlags(0x06), TcpFlags(0)] {
        assert_eq!(lab.client(flags, 101, 501, b""), Verdict::Drop(Drop::TcpInvalid));
    }
    assert_eq!(lab.client(SYN_ACK, 101, 501, b""), Verdict::Drop(Drop::TcpInvalid));
}

#[test]
fn a_disabled_vserver_a_missing_one_and_one_without_services_refuse_with_their_reasons() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let mut off = plan(&net);
    off.vservers[0].enabled = false;
    lab.set_plan(off);
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::VserverDisabled));
    lab.set_plan(plan(&net));
    for service in SERVICES {
        lab.engine.set_health(lab.now, service, false);
    }
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::NoService));
    lab.net.vip.port = 81;
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::NoVserver));
}

#[test]
fn a_server_without_a_snip_cannot_be_reached() {
    let net = v4();
    let mut bare = plan(&net);
    bare.addresses.truncate(1);
    let mut lab = Lab::new(net, bare);
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::NoSnip));
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old_ones() {
    let net = v4();
    let mut lab = Lab::with_limits(net, plan(&net), Limits { max_flows: 1, ..Limits::default() });
    lab.establish();
    lab.net.client.port = 40_001;
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::FlowTableFull));
    lab.net.client.port = 40_000;
    assert_eq!(lab.client(ACK, 101, 501, b""), Verdict::Forward(SERVER_PORT));
}

/// A flood of SYNs fills the table: new connections are served all the same, and established ones never make room.
#[test]
fn in_a_full_table_what_stands_half_open_makes_room() {
    let net = v4();
    let mut lab = Lab::with_limits(net, usip_plan(&net), Limits { max_flows: 8, ..Limits::default() });
    let (server, source) = lab.establish();
    for port in 1..8 {
        lab.net.client.port = port;
        assert_ne!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::FlowTableFull));
    }
    lab.net.client.port = 9;
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::FlowTableFull), "their clients may yet answer");
    lab.pass(Duration::from_millis(1500));
    for port in 11..18 {
        lab.net.client.port = port;
        assert_ne!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::FlowTableFull));
    }
    assert_eq!((lab.engine.counters().half_open_evicted, lab.engine.counts().flows), (7, 8));
    lab.net.client.port = 40_000;
    assert_eq!(lab.client(ACK, 101, 501, b""), Verdict::Forward(SERVER_PORT));
    assert_eq!(lab.server(server, source, (ACK, 501, 101), b""), Verdict::Forward(CLIENT_PORT));
}

#[test]
fn with_usip_one_client_port_reaches_one_server_once() {
    let net = v4();
    let mut two = usip_plan(&net);
    let mut second = two.vservers[0].clone();
    (second.id, second.port) = (VserverId(8), 81);
    two.vservers.push(second);
    for vserver in &mut two.vservers {
        vserver.services.truncate(1);
    }
    let mut lab = Lab::new(net, two);
    lab.establish();
    lab.net.vip.port = 81;
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::UsipConflict));
}

#[test]
fn every_port_of_a_half_can_be_leased_and_then_exhaustion_is_counted() {
    let net = v4();
    let mut one = plan(&net);
    one.vservers[0].services.truncate(1);
    let mut lab = Lab::with_limits(net, one, Limits { max_flows: 40_000, ..Limits::default() });
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..32_256u32 {
        lab.net.client = Endpoint { addr: net.client.addr, port: 1 + (n % 60_000) as u16 };
        seen.insert(lab.establish().1.port);
    }
    assert_eq!(seen.len(), 32_256);
    lab.net.client.port = 65_000;
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::SnatExhausted));
    assert_eq!(lab.engine.counters().snat_exhausted, 1);
}

#[test]
fn a_super_packet_with_a_partial_checksum_passes_as_one() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    let link = Link::new(OWN_MACS[0], CLIENT_MAC);
    let bytes = tcp_bytes(link, net.client, net.vip, (ACK, 101, 501), &[7; 9000]);
    let big =
        Offload { flags: 1, gso_type: 1, header_len: 54, segment_size: 1448, checksum_start: 34, checksum_offset: 16 };
    assert_eq!(lab.give_with(CLIENT_PORT, bytes.clone(), big), Verdict::Forward(SERVER_PORT));
    let sent = lab.next();
    assert_eq!((sent.offload, sent.tcp().payload_len), (big, 9000));
    let oversized = Offload { segment_size: 1480, ..big };
    assert_eq!(lab.give_with(CLIENT_PORT, bytes, oversized), Verdict::Drop(Drop::TooBig));
}

#[test]
fn a_server_that_answers_no_arp_costs_the_packets_that_wait() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.mute = true;
        assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Consumed);
        lab.pass(Duration::from_secs(1));
        assert_eq!(lab.drops(Drop::NeighbourUnreachable), 1);
    }
}

#[test]
fn a_forged_fin_does_not_close_a_living_connection() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    let far = 0x7000_0000;
    lab.client(FIN_ACK, far, 501, b"");
    lab.server(server, source, (FIN_ACK, far, 101), b"");
    // Each end answers what it cannot place with what it has.
    lab.client(ACK, 101, 501, b"");
    lab.server(server, source, (ACK, 501, 101), b"");
    lab.pass(Duration::from_secs(100));
    assert_eq!((lab.engine.counts().flows, lab.engine.counters().fins_doubted), (1, 2));
    assert_eq!(lab.engine.vserver_counters(VSERVER).established, 1);
}

/// A server that still has a connection of a former life of this node from the very port that is leased
/// answers with an ACK; the client resets that, and asks again.
#[test]
fn a_stale_connection_of_the_server_costs_one_retransmission_and_no_other_port() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.client(SYN, 100, 0, b"");
    let first = lab.next().packet();
    let (server, source) = (first.destination(), first.source());
    lab.server(server, source, (ACK, 9000, 77), b"");
    lab.client(RST, 77, 0, b"");
    lab.pass(Duration::from_secs(1));
    lab.sent.clear();
    lab.client(SYN, 100, 0, b"");
    let again = lab.next().packet();
    assert_eq!((again.destination(), again.source()), (server, source));
}
