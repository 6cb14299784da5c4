//! Fragments, moved neighbours, changed plans.

use super::*;

/// An IPv4 UDP datagram cut in two at a multiple of eight bytes.
fn fragments(net: &Net) -> [Vec<u8>; 2] {
    let mut bytes = vec![0; 2000];
    let link = Link::new(OWN_MACS[0], CLIENT_MAC);
    let payload: Vec<u8> = (0..800u32).map(|n| n as u8).collect();
    let len = build::udp_datagram(&mut bytes, link, net.client, net.vip, &payload);
    bytes.truncate(len);
    let (header, body) = bytes.split_at(34);
    let piece = |offset: usize, end: usize, more: bool| {
        let mut piece = [header, &body[offset..end]].concat();
        piece[16..18].copy_from_slice(&((20 + end - offset) as u16).to_be_bytes());
        piece[18..20].copy_from_slice(&[0x12, 0x34]);
        let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        piece[20..22].copy_from_slice(&field.to_be_bytes());
        piece[24..26].copy_from_slice(&[0, 0]);
        let sum = holdfast_wire::checksum::sum(&piece[14..34]);
        piece[24..26].copy_from_slice(&(!holdfast_wire::checksum::fold(sum)).to_be_bytes());
        piece
    };
    [piece(0, 400, true), piece(400, body.len(), false)]
}

#[test]
fn later_fragments_follow_the_first_also_when_they_come_before_it() {
    let net = v4();
    for reversed in [false, true] {
        let mut lab = Lab::new(net, plan(&net));
        let mut pieces = fragments(&net);
        if reversed {
            pieces.reverse();
        }
        for piece in pieces {
            lab.give(CLIENT_PORT, piece);
        }
        for _ in 0..2 {
            let sent = lab.next();
            assert_eq!((sent.packet().src, sent.packet().dst), (net.snip, net.servers[0].addr));
            assert_eq!(sent.macs(), (SERVER_MACS[0], OWN_MACS[1]));
        }
        lab.nothing();
    }
}

#[test]
fn a_fragment_whose_first_part_never_comes_is_dropped_and_counted() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let [_, later] = fragments(&net);
    assert_eq!(lab.give(CLIENT_PORT, later), Verdict::Consumed);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.drops(Drop::Fragment), 1);
}

#[test]
fn fragments_of_a_held_datagram_wait_with_it() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    for piece in fragments(&net) {
        assert_eq!(lab.give(CLIENT_PORT, piece), Verdict::Consumed);
    }
    lab.nothing();
    lab.acknowledge();
    assert!(matches!(lab.next().packet().transport, Transport::Udp(_)));
    assert!(matches!(lab.next().packet().transport, Transport::None));
    lab.nothing();
}

#[test]
fn a_server_that_moves_to_another_ethernet_address_is_followed() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    let moved = MacAddr([2, 0, 0, 0, 0, 0x99]);
    lab.add_host(net.servers[0].addr, SERVER_PORT, moved);
    let mut bytes = vec![0; 64];
    let len = build::gratuitous_arp_reply(&mut bytes, moved, net.servers[0].addr);
    bytes.truncate(len);
    lab.give(SERVER_PORT, bytes);
    lab.client(ACK, 101, 501, b"");
    assert_eq!(lab.next().macs().0, moved);
}

#[test]
fn flows_stay_with_their_server_when_the_plan_loses_it() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let (server, source) = lab.establish();
    let mut less = plan(&net);
    less.services.remove(0);
    less.vservers[0].services.remove(0);
    lab.set_plan(less);
    lab.client(ACK, 101, 501, b"");
    assert_eq!(lab.next().packet().destination(), server);
    lab.server(server, source, (ACK, 501, 101), b"");
    assert_eq!(lab.next().packet().destination(), net.client);
    lab.net.client.port += 1;
    assert_eq!(lab.establish().0, net.servers[1]);
}

#[test]
fn a_vserver_that_becomes_stateful_protects_its_flows_from_the_next_packet_on() {
    let net = v4();
    let mut lab = Lab::new(net, with_failover(plan(&net), ConnFailover::Disabled));
    lab.mirror(1, true);
    lab.establish();
    lab.set_plan(plan(&net));
    assert_eq!(lab.client(ACK, 101, 501, b"x"), Verdict::Consumed);
    lab.acknowledge();
    lab.next();
    assert_eq!(lab.engine.counts().protected, 1);
}
