//! What the builders make is what the parser reads, with checksums that verify.

use super::support::*;
use crate::build::*;
use crate::{
    Addr, ArpOp, Checksum, Echo, Endpoint, IcmpErrorKind, Load, MacAddr, NeighbourAdvertisement, NeighbourSolicitation,
    Parsed, TcpFlags, Transport, Udp, ipv4_checksum_ok, parse, transport_checksum_ok,
};
use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

fn built(build: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut out = std::vec![0xa5; 4096];
    let len = build(&mut out);
    out.truncate(len);
    out
}

/// Parses a built frame after asserting that its checksums are right.
fn verified(frame: &[u8]) -> crate::IpPacket {
    let packet = ip(frame);
    assert!(ipv4_checksum_ok(frame, &packet), "IPv4 header of {packet:?}");
    assert!(transport_checksum_ok(frame, &packet), "transport of {packet:?}");
    assert_eq!(packet.end(), frame.len());
    packet
}

fn link() -> Link {
    Link::new(THEIR_MAC, OUR_MAC)
}

#[test]
fn arp_reply_answers_the_one_who_asked() {
    let frame = built(|out| arp_reply(out, link(), v4(10, 0, 0, 100), v4(10, 0, 0, 1)));
    let wanted = [
        [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6].as_slice(),
        &[0, 1, 8, 0, 6, 4, 0, 2],
        &[2, 0, 0, 0, 0, 1, 10, 0, 0, 100],
        &[2, 0, 0, 0, 0, 2, 10, 0, 0, 1],
    ];
    assert_eq!(frame, wanted.concat());
}

#[test]
fn gratuitous_arp_comes_in_both_forms() {
    let vip = v4(10, 0, 0, 100);
    let forms =
        [built(|out| gratuitous_arp_request(out, OUR_MAC, vip)), built(|out| gratuitous_arp_reply(out, OUR_MAC, vip))];
    for (frame, op) in forms.iter().zip([ArpOp::Request, ArpOp::Reply]) {
        let Ok((ethernet, Parsed::Arp(arp))) = parse(&frame[..]) else { panic!("ARP") };
        assert_eq!((ethernet.dst, ethernet.src), (MacAddr::BROADCAST, OUR_MAC));
        assert_eq!((arp.op, arp.sender_mac, arp.sender, arp.target), (op, OUR_MAC, vip, vip));
    }
}

#[test]
fn answers_stay_in_their_vlan() {
    let request = Shape { vlans: std::vec![42], ..plain_tcp(end(v4(10, 0, 0, 1), 1), end(v4(10, 0, 0, 2), 2)) };
    let Ok((ethernet, _)) = parse(&request.frame(Checksum::Complete)[..]) else { panic!("a frame") };
    let frame = built(|out| arp_reply(out, Link::answer(&ethernet, OUR_MAC), v4(10, 0, 0, 2), v4(10, 0, 0, 1)));
    let Ok((answer, Parsed::Arp(_))) = parse(&frame[..]) else { panic!("ARP") };
    assert_eq!((answer.vlan, answer.dst, answer.src), (Some(42), THEIR_MAC, OUR_MAC));
}

#[test]
fn solicited_node_group_takes_the_last_24_bits() {
    let addr = Addr([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb, 0xcc]);
    let (group, mac) = solicited_node(addr);
    assert_eq!(std::format!("{group} {mac}"), "ff02::1:ffaa:bbcc 33:33:ff:aa:bb:cc");
}

#[test]
fn neighbour_solicitation_goes_to_the_group_and_a_probe_to_the_neighbour() {
    let asked = NeighbourSolicitation { target: v6(2), source_mac: Some(OUR_MAC) };
    let frame = built(|out| neighbour_solicitation(out, OUR_MAC, v6(1), v6(2)));
    let packet = verified(&frame);
    assert_eq!(frame.mac(0), Some(solicited_node(v6(2)).1));
    assert_eq!((packet.src, packet.dst, packet.ttl), (v6(1), solicited_node(v6(2)).0, 255));
    assert_eq!(packet.transport, Transport::NeighbourSolicitation(asked));

    let frame = built(|out| neighbour_probe(out, link(), v6(1), v6(2)));
    let packet = verified(&frame);
    assert_eq!((frame.mac(0), packet.dst), (Some(THEIR_MAC), v6(2)));
    assert_eq!(packet.transport, Transport::NeighbourSolicitation(asked));
}

#[test]
fn neighbour_advertisement_is_solicited_or_announced() {
    let said = |solicited| NeighbourAdvertisement {
        target: v6(9),
        mac: Some(OUR_MAC),
        solicited,
        override_cache: true,
        router: false,
    };
    let packet = verified(&built(|out| neighbour_advertisement(out, link(), v6(9), v6(1))));
    assert_eq!((packet.src, packet.dst), (v6(9), v6(1)));
    assert_eq!(packet.transport, Transport::NeighbourAdvertisement(said(true)));

    let frame = built(|out| unsolicited_neighbour_advertisement(out, OUR_MAC, v6(9)));
    let packet = verified(&frame);
    assert_eq!((packet.dst, frame.mac(0)), (all_nodes(), Some(MacAddr([0x33, 0x33, 0, 0, 0, 1]))));
    assert_eq!(packet.transport, Transport::NeighbourAdvertisement(said(false)));
}

#[test]
fn listener_report_names_the_groups_behind_a_router_alert() {
    let groups: Vec<Addr> = (0..MAX_MLD_GROUPS as u8).map(|last| solicited_node(v6(last)).0).collect();
    let frame = built(|out| mld2_report(out, OUR_MAC, Addr::UNSPECIFIED, &groups));
    assert!(frame.len() <= MAX_REPLY);
    let packet = verified(&frame);
    assert_eq!((packet.ttl, packet.options, packet.src), (1, true, Addr::UNSPECIFIED));
    assert_eq!(packet.transport, Transport::OtherIcmp { kind: 143, code: 0 });
    assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
    let body = usize::from(packet.l4) + 8;
    assert_eq!(frame[body], 4);
    assert_eq!(frame.v6(body + 4), Some(groups[0]));
    assert_eq!(frame.v6(body + 20 * (MAX_MLD_GROUPS - 1) + 4), groups.last().copied());
}

#[test]
fn echo_request_and_the_reply_made_of_it() {
    for (ours, theirs) in [(v4(10, 0, 0, 100), v4(10, 0, 0, 1)), (v6(100), v6(1))] {
        let mut frame = built(|out| echo_request(out, Link::new(OUR_MAC, THEIR_MAC), (theirs, ours), (7, 8), b"ping"));
        let packet = verified(&frame);
        assert_eq!(packet.transport, Transport::Echo(Echo { request: true, id: 7, seq: 8 }));
        assert!(echo_reply_in_place(&mut frame, &packet, OUR_MAC, Checksum::Complete));
        let reply = verified(&frame);
        assert_eq!((reply.src, reply.dst, reply.ttl), (ours, theirs, 64));
        assert_eq!(reply.transport, Transport::Echo(Echo { request: false, id: 7, seq: 8 }));
        assert_eq!((frame.mac(0), frame.mac(6)), (Some(THEIR_MAC), Some(OUR_MAC)));
        assert!(frame.ends_with(b"ping"));
        let again = ip(&frame);
        assert!(!echo_reply_in_place(&mut frame, &again, OUR_MAC, Checksum::Complete), "a reply is not answered");
    }
}

#[test]
fn echo_to_a_group_or_in_pieces_is_not_answered() {
    let request = Shape {
        body: Body::Echo { request: true, seq: 1 },
        ..plain_tcp(end(v4(10, 0, 0, 1), 5), end(v4(224, 0, 0, 1), 0))
    };
    let pieces = Shape { place: Place::First(1), dst: end(v4(10, 0, 0, 2), 0), ..request.clone() };
    for shape in [request, pieces] {
        let before = shape.frame(Checksum::Complete);
        let mut frame = before.clone();
        assert!(!echo_reply_in_place(&mut frame, &ip(&before), OUR_MAC, Checksum::Complete));
        assert_eq!(frame, before);
    }
}

/// A received TCP segment with these flags and numbers, and its payload.
fn received(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> crate::IpPacket {
    let body = Body::Tcp { seq, ack, flags, options: 0 };
    let shape = Shape { body, payload: payload.to_vec(), ..plain_tcp(end(v6(1), 1), end(v6(2), 2)) };
    ip(&shape.frame(Checksum::Complete))
}

#[test]
fn reset_numbers_follow_the_standard() {
    let rst_ack = TcpFlags::RST.with(TcpFlags::ACK);
    let with_ack = |seq| Some(Reset { seq, ack: 0, flags: TcpFlags::RST });
    let without_ack = |ack| Some(Reset { seq: 0, ack, flags: rst_ack });
    assert_eq!(reset_for(&received(0x10, 5, 77, b"abc")), with_ack(77), "SEG.ACK becomes SEQ");
    assert_eq!(reset_for(&received(0x12, 5, 77, b"")), with_ack(77), "SYN-ACK");
    assert_eq!(reset_for(&received(0x02, 5, 0, b"")), without_ack(6), "SYN counts one");
    assert_eq!(reset_for(&received(0x03, u32::MAX, 0, b"abc")), without_ack(4), "SYN, FIN and data, across zero");
    assert_eq!(reset_for(&received(0x04, 5, 0, b"")), None);
    assert_eq!(reset_for(&received(0x14, 5, 77, b"")), None);
}

#[test]
fn reset_answers_the_received_segment() {
    let packet = received(0x10, 5, 77, b"abc");
    let reset = reset_for(&packet).expect("no reset");
    let answer = verified(&built(|out| tcp_reset(out, link(), packet.destination(), packet.source(), reset)));
    assert_eq!((answer.source(), answer.destination()), (end(v6(2), 2), end(v6(1), 1)));
    assert_eq!(answer.tcp().map(|tcp| (tcp.seq, tcp.flags, tcp.window)), Some((77, TcpFlags::RST, 0)));
}

fn reports() -> [(ErrorReport, IcmpErrorKind); 6] {
    [
        (ErrorReport::NetUnreachable, IcmpErrorKind::Unreachable),
        (ErrorReport::HostUnreachable, IcmpErrorKind::Unreachable),
        (ErrorReport::PortUnreachable, IcmpErrorKind::Unreachable),
        (ErrorReport::Prohibited, IcmpErrorKind::Unreachable),
        (ErrorReport::TooBig { mtu: 1400 }, IcmpErrorKind::TooBig { mtu: 1400 }),
        (ErrorReport::TimeExceeded, IcmpErrorKind::TimeExceeded),
    ]
}

#[test]
fn icmp_error_quotes_as_much_as_allowed() {
    let ends = [
        (end(v4(10, 0, 0, 1), 40_000), end(v4(10, 9, 0, 1), 80), v4(10, 0, 0, 254), 576),
        (end(v6(1), 40_000), end(v6(2), 80), v6(254), 1280),
    ];
    for (src, dst, own, longest) in ends {
        for (report, kind) in reports() {
            for payload in [10, 9000] {
                let shape = Shape { payload: std::vec![3; payload], padding: 4, ..plain_tcp(src, dst) };
                let original = shape.frame(Checksum::Complete);
                let packet = ip(&original);
                let quote = Quote { frame: &original, packet: &packet };
                let frame = built(|out| icmp_error(out, link(), own, quote, report).unwrap_or(0));
                let answer = verified(&frame);
                assert_eq!((answer.src, answer.dst), (own, src.addr));
                let Transport::IcmpError(error) = answer.transport else { panic!("{answer:?}") };
                assert_eq!((error.kind, error.inner.src, error.inner.dst), (kind, src, dst));
                let whole = answer.l4 as usize - 14 + 8 + packet.total_len as usize;
                assert_eq!(answer.total_len as usize, whole.min(longest));
            }
        }
    }
}

#[test]
fn icmp_error_is_not_sent_where_forbidden() {
    let refused = |shape: &Shape, own: Addr| {
        let original = shape.frame(Checksum::Complete);
        let packet = ip(&original);
        let quote = Quote { frame: &original, packet: &packet };
        icmp_error(&mut [0; MAX_REPLY], link(), own, quote, ErrorReport::TimeExceeded).is_none()
    };
    let own = v4(10, 0, 0, 254);
    let good = plain_tcp(end(v4(10, 0, 0, 1), 1), end(v4(10, 9, 0, 1), 2));
    assert!(!refused(&good, own));
    assert!(refused(&good, v6(1)), "our address is of the other family");
    assert!(refused(&Shape { place: Place::Later(1), ..good.clone() }, own), "a later fragment");
    assert!(refused(&good.between(good.src, end(v4(224, 0, 0, 5), 2)), own), "to a group");
    for source in [v4(0, 0, 0, 0), v4(127, 0, 0, 1), v4(224, 0, 0, 1), v4(255, 255, 255, 255)] {
        assert!(refused(&good.between(end(source, 1), good.dst), own), "from {source}");
    }
    assert!(refused(&plain_tcp(end(Addr::UNSPECIFIED, 1), end(v6(2), 2)), v6(9)));
    let body = Body::Error { kind: 3, code: 1, quoted: Box::new(good.clone()), keep: 28 };
    assert!(refused(&Shape { body, ..good }, own), "about an error");
}

fn datagram(src: Endpoint, dst: Endpoint, payload: &[u8]) -> Vec<u8> {
    built(|out| udp_datagram(out, link(), src, dst, payload))
}

#[test]
fn built_udp_checksum_of_zero_is_written_as_all_ones() {
    let ends = (v4(10, 0, 0, 1), v4(10, 0, 0, 2));
    let hits = (0..=0xffff)
        .map(|port| datagram(end(ends.0, port), end(ends.1, 53), b"query"))
        .filter(|frame| matches!(frame.be16(40), Some(0 | 0xffff)))
        .inspect(|frame| assert_eq!(frame.be16(40), Some(0xffff)))
        .count();
    assert!(hits >= 1);
}

#[test]
#[should_panic(expected = "buffer")]
fn buffer_that_is_too_small_is_the_callers_bug() {
    arp_request(&mut [0; 41], link(), v4(1, 1, 1, 1), v4(2, 2, 2, 2));
}

proptest! {
    #[test]
    fn segments_and_datagrams_parse_back(
        (src, dst) in any::<bool>().prop_flat_map(|is_v4| (endpoint(is_v4), endpoint(is_v4))),
        (seq, ack, flags, window) in any::<(u32, u32, u8, u16)>(),
        mss in any::<Option<u16>>(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let segment = Segment { src, dst, seq, ack, flags: TcpFlags(flags), window, mss, payload: &payload };
        let frame = built(|out| tcp_segment(out, link(), &segment));
        prop_assert!(frame.len() <= MAX_HEADERS + payload.len());
        let packet = verified(&frame);
        prop_assert_eq!((packet.source(), packet.destination()), (src, dst));
        let Transport::Tcp(tcp) = packet.transport else { panic!("TCP") };
        prop_assert_eq!((tcp.seq, tcp.ack, tcp.flags.0, tcp.window), (seq, ack, flags, window));
        prop_assert_eq!(tcp.payload_len as usize, payload.len());
        prop_assert_eq!(tcp.header_len, if mss.is_some() { 24 } else { 20 });
        prop_assert!(frame.ends_with(&payload));

        let frame = datagram(src, dst, &payload);
        let udp = Udp { src_port: src.port, dst_port: dst.port, payload_len: payload.len() as u32 };
        prop_assert_eq!(verified(&frame).transport, Transport::Udp(udp));
        prop_assert_ne!(frame.be16(usize::from(verified(&frame).l4) + 6), Some(0));
    }
}
