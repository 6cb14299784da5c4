//! What belongs to no flow: routed, the host's, or refused.

use super::*;

#[test]
fn unicast_for_others_is_routed_with_one_hop_less() {
    for net in [v4(), v6()] {
        let mut routed = plan(&net);
        routed.routes.push(default_route(&net));
        let mut lab = Lab::new(net, routed);
        let world = Endpoint { addr: net.world, port: 53 };
        lab.server(net.servers[0], world, (SYN, 1, 0), b"");
        let sent = lab.next();
        assert_eq!((sent.port, sent.macs().0), (CLIENT_PORT, CLIENT_MAC), "by the gateway");
        assert_eq!((sent.packet().ttl, sent.packet().source()), (63, net.servers[0]));
        assert_eq!(lab.engine.counts().flows, 0);
        lab.segment(CLIENT_PORT, CLIENT_MAC, world, net.servers[0], (SYN_ACK, 1, 2), b"");
        assert_eq!(lab.next().port, SERVER_PORT);
    }
}

#[test]
fn without_l3_mode_or_route_nothing_is_routed() {
    let net = v4();
    let world = Endpoint { addr: net.world, port: 53 };
    let mut lab = Lab::new(net, plan(&net));
    assert_eq!(lab.server(net.servers[0], world, (SYN, 1, 0), b""), Verdict::Drop(Drop::NoRoute));
    lab.next();
    let mut off = plan(&net);
    (off.routes, off.l3_mode) = (vec![default_route(&net)], false);
    lab.set_plan(off);
    assert_eq!(lab.server(net.servers[0], world, (SYN, 1, 0), b""), Verdict::Drop(Drop::NoRoute));
}

#[test]
fn the_last_hop_and_the_too_big_are_told() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        let mut bytes = tcp_bytes(Link::new(OWN_MACS[0], CLIENT_MAC), net.client, net.vip, (SYN, 1, 0), b"");
        // A hop limit stands in no checksum; a TTL of 1 needs its header summed again.
        if net.client.addr.is_v4() {
            let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
            bytes[22] = 1;
            let fixed = (u32::from(sum) + (63 << 8)) % 0xffff;
            bytes[24..26].copy_from_slice(&(fixed as u16).to_be_bytes());
        } else {
            bytes[21] = 1;
        }
        assert_eq!(lab.give(CLIENT_PORT, bytes), Verdict::Drop(Drop::TtlExceeded));
        let told = lab.next();
        assert!(matches!(told.packet().transport, Transport::IcmpError(_)), "{told:?}");
        assert_eq!((told.packet().dst, told.macs().0), (net.client.addr, CLIENT_MAC));

        lab.establish();
        assert_eq!(lab.client(ACK, 101, 501, &[0; 1600]), Verdict::Drop(Drop::TooBig));
        assert!(matches!(lab.next().packet().transport, Transport::IcmpError(_)));
        assert_eq!(lab.client(ACK, 101, 501, &[0; 1400]), Verdict::Forward(SERVER_PORT));
    }
}

#[test]
fn frames_for_the_hosts_kernel_are_left_alone() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.engine.set_host_addresses(vec![net.world]);
        let dst = Endpoint { addr: net.world, port: 22 };
        let verdict = lab.segment(CLIENT_PORT, CLIENT_MAC, net.client, dst, (SYN, 1, 0), b"");
        assert_eq!(verdict, Verdict::ForHost);
    }
}

#[test]
fn frames_for_other_stations_tagged_frames_and_foreign_types_are_dropped() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let elsewhere = tcp_bytes(Link::new(CLIENT_MAC, SERVER_MACS[0]), net.client, net.vip, (SYN, 1, 0), b"");
    assert_eq!(lab.give(CLIENT_PORT, elsewhere), Verdict::Drop(Drop::NotForUs));
    let tagged = Link { vlan: Some(7), ..Link::new(OWN_MACS[0], CLIENT_MAC) };
    let tagged = tcp_bytes(tagged, net.client, net.vip, (SYN, 1, 0), b"");
    assert_eq!(lab.give(CLIENT_PORT, tagged), Verdict::Drop(Drop::Unserved));
    let mut foreign = vec![0; 60];
    foreign[..6].copy_from_slice(&OWN_MACS[0].0);
    foreign[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(lab.give(CLIENT_PORT, foreign), Verdict::Drop(Drop::Unserved));
}

#[test]
fn a_wrong_header_checksum_is_dropped() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let mut bytes = tcp_bytes(Link::new(OWN_MACS[0], CLIENT_MAC), net.client, net.vip, (SYN, 1, 0), b"");
    bytes[24] ^= 1;
    assert_eq!(lab.give(CLIENT_PORT, bytes), Verdict::Drop(Drop::BadChecksum));
}

#[test]
fn a_closed_gate_drops_everything_and_answers_nothing() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.engine.set_gate(lab.now, Gate::Closed);
    only_changed(&mut lab, |lab| _ = lab.client(ACK, 101, 501, b""), &[("frames_in", 1), ("gate_closed", 1)]);
    let mut arp = vec![0; 64];
    let len = build::arp_request(&mut arp, Link::new(MacAddr::BROADCAST, CLIENT_MAC), net.client.addr, net.vip.addr);
    arp.truncate(len);
    assert_eq!(lab.give(CLIENT_PORT, arp), Verdict::Drop(Drop::GateClosed));
    lab.nothing();
}

#[test]
fn a_frame_cut_short_is_dropped_wherever_it_is_cut() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        let whole = tcp_bytes(Link::new(OWN_MACS[0], CLIENT_MAC), net.client, net.vip, (SYN, 1, 0), b"data");
        for len in 0..whole.len() {
            let verdict = lab.give(CLIENT_PORT, whole[..len].to_vec());
            assert_eq!(verdict, Verdict::Drop(Drop::Malformed), "{len} bytes");
        }
        assert_eq!(lab.engine.counts().flows, 0);
    }
}

#[test]
fn a_connect_whose_way_is_gone_for_a_moment_gets_no_unreachable() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    let port = |id: PortId| Port { id, mac: OWN_MACS[usize::from(id.0)], mtu: 1500 };
    // The cable is back, and the servers are heard, before the port is said to be usable.
    lab.engine.set_ports(&[port(CLIENT_PORT)]);
    lab.client(ACK, 101, 501, b"data");
    let mut bytes = vec![0; 64];
    let len = build::gratuitous_arp_reply(&mut bytes, SERVER_MACS[0], net.servers[0].addr);
    bytes.truncate(len);
    lab.give(SERVER_PORT, bytes);
    lab.sent.clear();
    assert_eq!(lab.client(ACK, 105, 501, b"data"), Verdict::Drop(Drop::NoRoute));
    lab.nothing();
    lab.engine.set_ports(&[port(CLIENT_PORT), port(SERVER_PORT)]);
    lab.client(ACK, 105, 501, b"data");
    assert_eq!(lab.next().port, SERVER_PORT);
}
