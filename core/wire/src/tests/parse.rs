//! What the parser finds, frame by frame.

use super::support::*;
use crate::build::{self, Link};
use crate::{
    Addr, Arp, ArpOp, Checksum, Echo, Fragment, IcmpErrorKind, IpVersion, Load, MAX_EXTENSION_HEADERS, MacAddr,
    ParseError, Parsed, Ports, Store, TcpFlags, Transport, Udp, ipv4_checksum_ok, parse, transport_checksum_ok,
};
use std::boxed::Box;
use std::vec::Vec;

fn client() -> crate::Endpoint {
    end(v4(10, 0, 0, 1), 40_000)
}

fn vip() -> crate::Endpoint {
    end(v4(10, 0, 0, 100), 80)
}

fn frame(shape: &Shape) -> Vec<u8> {
    shape.frame(Checksum::Complete)
}

#[test]
fn tcp_segment_over_ipv4() {
    let frame = frame(&plain_tcp(client(), vip()));
    let packet = ip(&frame);
    assert_eq!((packet.source(), packet.destination()), (client(), vip()));
    assert_eq!((packet.l3, packet.l4, packet.total_len), (14, 34, 45));
    assert_eq!((packet.version, packet.proto, packet.ttl), (IpVersion::V4, 6, 64));
    assert!(packet.dont_fragment && !packet.options && packet.fragment == Fragment::None);
    let tcp = packet.tcp().copied().expect("a TCP header");
    assert_eq!((tcp.seq, tcp.ack, tcp.flags), (1000, 2000, TcpFlags::ACK));
    assert_eq!((tcp.window, tcp.header_len, tcp.payload_len), (0x1234, 20, 5));
    assert!(ipv4_checksum_ok(&frame[..], &packet) && transport_checksum_ok(&frame, &packet));
}

#[test]
fn ethernet_padding_is_no_payload() {
    let shape = Shape { payload: Vec::new(), padding: 6, ..plain_tcp(client(), vip()) };
    let packet = ip(&frame(&shape));
    assert_eq!(packet.tcp().map(|tcp| tcp.payload_len), Some(0));
    assert_eq!(packet.end(), 54);
}

#[test]
fn tags_are_looked_through_and_the_outermost_is_named() {
    for (vlans, len, vlan) in [(Vec::new(), 14, None), (std::vec![7], 18, Some(7)), (std::vec![7, 9], 22, Some(7))] {
        let shape = Shape { vlans, ..plain_tcp(client(), vip()) };
        let Ok((ethernet, Parsed::Ip(packet))) = parse(&frame(&shape)[..]) else { panic!("an IP packet") };
        assert_eq!((ethernet.len, ethernet.vlan, ethernet.ethertype), (len, vlan, 0x0800));
        assert_eq!((ethernet.dst, ethernet.src), (OUR_MAC, THEIR_MAC));
        assert_eq!(packet.l3, len);
    }
    let shape = Shape { vlans: std::vec![1, 2, 3], ..plain_tcp(client(), vip()) };
    assert!(matches!(parse(&frame(&shape)[..]), Ok((_, Parsed::Other))));
}

#[test]
fn ipv4_header_checksum_is_verified_on_demand() {
    let mut bytes = frame(&Shape { extra: 3, ..plain_tcp(client(), vip()) });
    assert!(ip(&bytes).options);
    assert!(ipv4_checksum_ok(&bytes[..], &ip(&bytes)));
    bytes[22] ^= 1;
    assert!(!ipv4_checksum_ok(&bytes[..], &ip(&bytes)));
}

#[test]
fn published_ipv4_header_verifies() {
    let mut bytes = std::vec![0; 14];
    bytes[12] = 8;
    bytes.extend_from_slice(&[0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61]);
    bytes.extend_from_slice(&[0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7, 0, 1, 0, 2, 0, 0x5f, 0, 0]);
    bytes.resize(14 + 0x73, 0);
    let packet = ip(&bytes);
    assert!(ipv4_checksum_ok(&bytes[..], &packet));
    assert_eq!(packet.transport, Transport::Udp(Udp { src_port: 1, dst_port: 2, payload_len: 0x5f - 8 }));
}

#[test]
fn extension_headers_are_walked_up_to_the_limit() {
    let shape = |extra| Shape { extra, ..plain_tcp(end(v6(1), 40_000), end(v6(2), 80)) };
    for extra in 0..=MAX_EXTENSION_HEADERS {
        let packet = ip(&frame(&shape(extra)));
        assert_eq!(usize::from(packet.l4), 14 + 40 + 8 * extra);
        assert_eq!((packet.options, packet.proto), (extra > 0, 6));
        assert_eq!(packet.destination(), end(v6(2), 80));
    }
    assert_eq!(parse(&frame(&shape(MAX_EXTENSION_HEADERS + 1))[..]), Err(ParseError::TooManyHeaders));
}

#[test]
fn routing_header_with_stations_left_hides_the_transport() {
    let mut bytes = frame(&Shape { extra: 2, ..plain_tcp(end(v6(1), 1), end(v6(2), 2)) });
    bytes[14 + 40 + 8 + 3] = 1;
    assert_eq!(ip(&bytes).transport, Transport::Other);
}

#[test]
fn mapped_addresses_are_refused_in_ipv6() {
    let mut bytes = frame(&plain_tcp(end(v6(1), 1), end(v6(2), 2)));
    bytes[22..38].copy_from_slice(&v4(10, 0, 0, 1).0);
    assert_eq!(parse(&bytes[..]), Err(ParseError::Malformed));
}

#[test]
fn fragments_are_told_apart() {
    for ends in [(client(), vip()), (end(v6(1), 40_000), end(v6(2), 80))] {
        let shape = plain_tcp(ends.0, ends.1);
        let first = ip(&frame(&Shape { place: Place::First(77), ..shape.clone() }));
        assert_eq!((first.fragment, first.source()), (Fragment::First { id: 77 }, ends.0));
        let later = ip(&frame(&Shape { place: Place::Later(77), ..shape }));
        assert_eq!((later.fragment, later.transport), (Fragment::Later { id: 77 }, Transport::None));
        assert_eq!((later.proto, later.source().port), (6, 0));
    }
}

#[test]
fn atomic_ipv6_fragment_is_a_whole_packet() {
    let mut bytes = frame(&Shape { place: Place::First(77), ..plain_tcp(end(v6(1), 1), end(v6(2), 2)) });
    bytes[14 + 40 + 3] = 0;
    let packet = ip(&bytes);
    assert_eq!((packet.fragment, packet.options), (Fragment::None, true));
}

#[test]
fn first_udp_fragment_may_state_more_than_it_carries() {
    let shape = Shape { body: Body::Udp { checksum: true }, place: Place::First(1), ..plain_tcp(client(), vip()) };
    let mut bytes = frame(&shape);
    bytes.set_be16(38, 4000);
    assert_eq!(ip(&bytes).transport, Transport::Udp(Udp { src_port: 40_000, dst_port: 80, payload_len: 5 }));
    bytes.set_be16(20, 0x4000);
    assert_eq!(parse(&bytes[..]), Err(ParseError::Malformed), "a whole datagram may not");
}

#[test]
fn bytes_behind_a_datagram_in_its_packet_do_not_count() {
    let mut bytes = frame(&Shape { body: Body::Udp { checksum: true }, padding: 3, ..plain_tcp(client(), vip()) });
    bytes.set_be16(16, 20 + 8 + 5 + 3);
    let packet = ip(&bytes);
    assert_eq!(packet.transport, Transport::Udp(Udp { src_port: 40_000, dst_port: 80, payload_len: 5 }));
    assert!(transport_checksum_ok(&bytes, &packet));
}

#[test]
fn last_extension_header_must_end_in_the_packet() {
    let mut bytes = frame(&Shape { extra: 1, ..plain_tcp(end(v6(1), 1), end(v6(2), 2)) });
    bytes[14 + 40 + 1] = 200;
    assert_eq!(parse(&bytes[..]), Err(ParseError::Malformed));
}

#[test]
fn contradictions_are_malformed() {
    let good = frame(&plain_tcp(client(), vip()));
    for (at, value, why) in [
        (14, 0x55, "version"),
        (14, 0x44, "IPv4 header shorter than 20"),
        (46, 0x40, "TCP header shorter than 20"),
        (46, 0xf0, "TCP header longer than the packet"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(parse(&bytes[..]), Err(ParseError::Malformed), "{why}");
    }
    let mut bytes = good.clone();
    bytes.set_be16(16, 19);
    assert_eq!(parse(&bytes[..]), Err(ParseError::Malformed), "total length shorter than the header");
    let mut bytes = good;
    bytes.set_be16(16, 46);
    assert_eq!(parse(&bytes[..]), Err(ParseError::Truncated), "total length longer than the frame");
}

#[test]
fn echo_identifier_is_the_port_of_the_end_that_asks() {
    for is_v4 in [true, false] {
        let (a, b) = if is_v4 { (v4(10, 0, 0, 1), v4(10, 0, 0, 2)) } else { (v6(1), v6(2)) };
        let request = Shape { body: Body::Echo { request: true, seq: 3 }, ..plain_tcp(end(a, 0xabcd), end(b, 0)) };
        let packet = ip(&frame(&request));
        assert_eq!(packet.transport, Transport::Echo(Echo { request: true, id: 0xabcd, seq: 3 }));
        assert_eq!((packet.source(), packet.destination()), (end(a, 0xabcd), end(b, 0)));
        let reply = Shape { body: Body::Echo { request: false, seq: 3 }, ..plain_tcp(end(b, 0), end(a, 0xabcd)) };
        let packet = ip(&frame(&reply));
        assert_eq!((packet.source(), packet.destination()), (end(b, 0), end(a, 0xabcd)));
    }
}

#[test]
fn icmp_error_names_the_ends_of_the_packet_it_quotes() {
    let quoted = plain_tcp(vip(), client());
    let body = Body::Error { kind: 3, code: 4, quoted: Box::new(quoted), keep: 28 };
    let shape = Shape { body, ..plain_tcp(end(v4(10, 0, 0, 254), 0), end(vip().addr, 0)) };
    let packet = ip(&frame(&shape));
    let Transport::IcmpError(error) = packet.transport else { panic!("{packet:?}") };
    assert_eq!((error.kind, error.code), (IcmpErrorKind::TooBig { mtu: 0x500 }, 4));
    assert_eq!((error.inner.src, error.inner.dst), (vip(), client()));
    assert_eq!((error.inner.l3, error.inner.l4, error.inner.proto), (42, 62, 6));
    assert_eq!((error.inner.ports, error.inner.has_checksum), (Ports::Pair, false));
}

#[test]
fn icmp_error_whose_quote_has_no_ports_is_some_other_message() {
    let quote = |quoted: Shape, keep| {
        let body = Body::Error { kind: 11, code: 0, quoted: Box::new(quoted), keep };
        ip(&frame(&Shape { body, ..plain_tcp(end(v4(10, 0, 0, 254), 0), end(vip().addr, 0)) })).transport
    };
    let other = Transport::OtherIcmp { kind: 11, code: 0 };
    assert_eq!(quote(plain_tcp(vip(), client()), 27), other, "cut short");
    assert_eq!(quote(Shape { body: Body::Unknown(132), ..plain_tcp(vip(), client()) }, 60), other);
    assert_eq!(quote(Shape { place: Place::Later(1), ..plain_tcp(vip(), client()) }, 60), other);
    let body = Body::Error { kind: 11, code: 0, quoted: Box::new(plain_tcp(vip(), client())), keep: 28 };
    let first = Shape { body, place: Place::First(1), ..plain_tcp(end(v4(10, 0, 0, 254), 0), end(vip().addr, 0)) };
    assert_eq!(ip(&frame(&first)).transport, other, "an error in pieces");
}

#[test]
fn arp_is_read_and_foreign_arp_is_not_ours() {
    let mut out = [0; 64];
    let len = build::arp_request(&mut out, Link::new(MacAddr::BROADCAST, THEIR_MAC), client().addr, vip().addr);
    let arp = Arp {
        op: ArpOp::Request,
        sender_mac: THEIR_MAC,
        sender: client().addr,
        target_mac: MacAddr::default(),
        target: vip().addr,
    };
    assert!(matches!(parse(&out[..len]), Ok((_, Parsed::Arp(found))) if found == arp));
    assert_eq!(parse(&out[..len - 1]).err(), Some(ParseError::Truncated));
    out[21] = 9;
    assert!(matches!(parse(&out[..len]), Ok((_, Parsed::Other))), "an operation that is not request or reply");
    out[14] = 9;
    assert!(matches!(parse(&out[..len]), Ok((_, Parsed::Other))), "hardware that is not Ethernet");
}

#[test]
fn neighbour_messages_are_believed_only_from_the_link() {
    let mut out = [0; 128];
    let len = build::neighbour_solicitation(&mut out, THEIR_MAC, v6(1), v6(2));
    let Transport::NeighbourSolicitation(found) = ip(&out[..len]).transport else { panic!("a solicitation") };
    assert_eq!((found.target, found.source_mac), (v6(2), Some(THEIR_MAC)));
    let other = Transport::OtherIcmp { kind: 135, code: 0 };
    let changed = |at: usize, value: u8| {
        let mut frame = out;
        frame[at] = value;
        ip(&frame[..len]).transport
    };
    assert_eq!(changed(21, 254), other, "it has passed a router");
    assert_eq!(changed(14 + 40 + 1, 1), Transport::OtherIcmp { kind: 135, code: 1 });
    assert_eq!(changed(14 + 40 + 8, 0xff), other, "the target is a group");
    assert_eq!(changed(14 + 40 + 25, 0), other, "an option without length");
    assert_eq!(changed(14 + 40 + 25, 2), other, "an option that ends outside");
    let Transport::NeighbourSolicitation(found) = changed(14 + 40 + 24, 9) else { panic!("a solicitation") };
    assert_eq!(found.source_mac, None, "another option");
}

#[test]
fn unknown_ethernet_type_and_protocol_are_other() {
    let mut bytes = frame(&plain_tcp(client(), vip()));
    bytes.set_be16(12, 0x88cc);
    assert!(matches!(parse(&bytes[..]), Ok((_, Parsed::Other))));
    let packet = ip(&frame(&Shape { body: Body::Unknown(47), ..plain_tcp(client(), vip()) }));
    assert_eq!((packet.transport, packet.proto), (Transport::Other, 47));
    assert_eq!(packet.source(), end(client().addr, 0));
}

#[test]
fn loads_outside_the_frame_are_none_and_stores_do_nothing() {
    let mut bytes = [1u8, 2, 3];
    let slice = &mut bytes[..];
    assert_eq!((slice.u8(2), slice.u8(3)), (Some(3), None));
    assert_eq!((slice.be16(1), slice.be16(2), slice.be16(usize::MAX)), (Some(0x0203), None, None));
    assert_eq!((slice.be32(0), slice.mac(0), slice.v4(0), slice.v6(0)), (None, None, None, None));
    assert!(!slice.set_be16(2, 0xffff) && !slice.set_be32(0, 0) && !slice.set_u8(3, 0));
    assert!(slice.set_be16(1, 0x0405));
    assert_eq!(bytes, [1, 4, 5]);
    assert!(Load::is_empty(&[][..]));
}

#[test]
fn groups_and_addresses_of_nobody_are_no_single_hosts() {
    let v6 = |first: u8, last: u8| Addr([first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let groups = [v4(224, 0, 0, 1), v4(239, 255, 255, 255), v6(0xff, 1)];
    assert!(groups.iter().all(|group| group.is_multicast() && !group.is_single_host()));
    let nobody = [v4(0, 0, 0, 0), v4(127, 0, 0, 1), v4(255, 255, 255, 255), v6(0, 0), v6(0, 1), v6(0, 2)];
    assert!(nobody.iter().all(|addr| !addr.is_multicast() && !addr.is_single_host()));
    let hosts = [v4(10, 0, 0, 1), v4(223, 255, 255, 255), v6(0xfe, 1), v6(0x20, 0)];
    assert!(hosts.iter().all(|host| !host.is_multicast() && host.is_single_host()));
}

#[test]
fn addresses_keep_their_family() {
    assert!(v4(10, 0, 0, 1).is_v4() && !v6(1).is_v4());
    assert_eq!(v4(10, 1, 2, 3).masked(16), v4(10, 1, 0, 0));
    assert_eq!(Addr([0xff; 16]).masked(12).0[..3], [0xff, 0xf0, 0]);
    assert!(v4(10, 1, 2, 3).matches_prefix(v4(10, 1, 9, 9), 16));
    assert!(!v4(10, 1, 2, 3).matches_prefix(v4(10, 2, 2, 3), 16));
    assert!(!v4(0, 0, 0, 0).matches_prefix(Addr::UNSPECIFIED, 0));
}
