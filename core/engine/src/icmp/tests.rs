//! Stories of echo, of errors we make, and of errors that speak of a flow.

use super::*;
use crate::frame::Port;
use crate::limits::Limits;
use crate::plan::{FloatingAddress, FloatingKind, Plan};
use holdfast_wire::build::{Segment, echo_request, tcp_segment, udp_datagram};
use holdfast_wire::{
    IcmpErrorKind, MacAddr, Parsed, TcpFlags, icmp_checksum_ok, ipv4_checksum_ok, parse, transport_checksum_ok,
};

const PORT: Port = Port { id: PortId(1), mac: MacAddr([2, 0, 0, 0, 1, 1]), mtu: 1500 };
const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);

/// The addresses of one family.
#[derive(Clone, Copy)]
struct Family {
    client: Addr,
    vip: Addr,
    server: Addr,
    snip: Addr,
    router: Addr,
    icmp: u8,
}

const V4: Family = Family {
    client: Addr::v4([192, 0, 2, 9]),
    vip: Addr::v4([192, 0, 2, 100]),
    server: Addr::v4([10, 0, 0, 9]),
    snip: Addr::v4([10, 0, 0, 2]),
    router: Addr::v4([10, 0, 0, 254]),
    icmp: 1,
};

const V6: Family =
    Family { client: v6(1, 9), vip: v6(1, 100), server: v6(2, 9), snip: v6(2, 2), router: v6(2, 254), icmp: 58 };

const BOTH: [Family; 2] = [V4, V6];

const fn v6(net: u8, last: u8) -> Addr {
    Addr([0x20, 1, 0x0d, 0xb8, 0, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, last])
}

fn end(addr: Addr, port: u16) -> Endpoint {
    Endpoint { addr, port }
}

impl Family {
    fn ends(&self) -> Ends {
        Ends {
            client: end(self.client, 40_000),
            vip: end(self.vip, 80),
            server: end(self.server, 8_080),
            source: end(self.snip, 1_024),
        }
    }
}

fn network(echo: bool) -> Network {
    let mut addresses = Vec::new();
    for family in BOTH {
        let bits = if family.vip.is_v4() { 32 } else { 128 };
        let vip =
            FloatingAddress { addr: family.vip, prefix_len: bits, kind: FloatingKind::Vip, arp: true, icmp: echo };
        let snip = FloatingAddress { addr: family.snip, prefix_len: bits / 4 * 3, kind: FloatingKind::Snip, ..vip };
        addresses.extend([vip, snip]);
    }
    let mut network = Network::new(&Limits::default());
    network.set_ports(&[PORT]);
    network.set_plan(&Plan { addresses, ..Plan::default() });
    network
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn link() -> Link {
    Link::new(PORT.mac, HOST_MAC)
}

/// The bytes that `write` makes.
fn built(write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut bytes = vec![0; 2_048];
    let len = write(&mut bytes);
    bytes.truncate(len);
    bytes
}

fn udp(src: Endpoint, dst: Endpoint) -> Vec<u8> {
    built(|bytes| udp_datagram(bytes, link(), src, dst, b"payload"))
}

fn tcp(src: Endpoint, dst: Endpoint) -> Vec<u8> {
    let flags = TcpFlags::ACK;
    let segment = Segment { src, dst, seq: 77, ack: 88, flags, window: 1_000, mss: None, payload: b"payload" };
    built(|bytes| tcp_segment(bytes, link(), &segment))
}

/// Parses what must be an IP packet with right checksums.
fn ip(bytes: &[u8]) -> (Ethernet, IpPacket) {
    let Ok((ethernet, Parsed::Ip(packet))) = parse(bytes) else { panic!("not an IP packet") };
    assert!(ipv4_checksum_ok(bytes, &packet) && icmp_checksum_ok(bytes, &packet));
    (ethernet, packet)
}

/// The error that `own` sends about the packet in `bytes`, as a frame.
fn error_about(bytes: &[u8], own: Addr, report: ErrorReport) -> Vec<u8> {
    let (_, packet) = ip(bytes);
    let quote = Quote { frame: bytes, packet: &packet };
    built(|out| build::icmp_error(out, link(), own, quote, report).expect("an error is due"))
}

/// Sends the error through a fresh maker; returns the frame, if any.
fn complain(bytes: &[u8], report: ErrorReport) -> Option<OwnedFrame> {
    let mut out = Outbox::default();
    let (ethernet, Parsed::Ip(packet)) = parse(bytes).expect("well-formed") else { panic!("not IP") };
    let received = Received { port: PORT.id, ethernet: &ethernet, packet: &packet, bytes };
    let sent = ErrorMaker::new(10).send(at(0), &network(true), &received, report, &mut out);
    let frame = out.pop();
    assert_eq!((sent, out.pop()), (frame.is_some(), None));
    frame
}

#[test]
fn an_echo_request_to_a_floating_address_is_answered_in_place() {
    for family in BOTH {
        for called in [family.vip, family.snip] {
            let mut bytes = built(|out| echo_request(out, link(), (family.client, called), (7, 3), b"abcdefgh"));
            let (_, packet) = ip(&bytes);
            let mut frame = Frame { port: PORT.id, offload: Offload::default(), bytes: &mut bytes };
            assert_eq!(answer_echo(&network(true), &mut frame, &packet), Verdict::Forward(PORT.id));
            let (ethernet, reply) = ip(&bytes);
            assert_eq!((ethernet.dst, ethernet.src), (HOST_MAC, PORT.mac));
            assert_eq!((reply.src, reply.dst), (called, family.client));
            let Transport::Echo(echo) = reply.transport else { panic!("{reply:?}") };
            assert_eq!((echo.request, echo.id, echo.seq), (false, 7, 3));
        }
    }
}

#[test]
fn echo_is_not_answered_for_others_nor_where_it_is_turned_off() {
    for (network, called) in [(network(true), V4.server), (network(false), V4.vip), (network(false), V6.vip)] {
        let client = if called.is_v4() { V4.client } else { V6.client };
        let mut bytes = built(|out| echo_request(out, link(), (client, called), (7, 3), b""));
        let (_, packet) = ip(&bytes);
        let before = bytes.clone();
        let mut frame = Frame { port: PORT.id, offload: Offload::default(), bytes: &mut bytes };
        assert_eq!(answer_echo(&network, &mut frame, &packet), Verdict::Drop(Drop::Unserved));
        assert_eq!(bytes, before);
    }
}

#[test]
fn an_error_quotes_the_packet_and_goes_back_where_it_came_from() {
    let reports = [
        (ErrorReport::NetUnreachable, IcmpErrorKind::Unreachable),
        (ErrorReport::HostUnreachable, IcmpErrorKind::Unreachable),
        (ErrorReport::PortUnreachable, IcmpErrorKind::Unreachable),
        (ErrorReport::TooBig { mtu: 1_400 }, IcmpErrorKind::TooBig { mtu: 1_400 }),
        (ErrorReport::TimeExceeded, IcmpErrorKind::TimeExceeded),
    ];
    for family in BOTH {
        for (report, kind) in reports {
            let ends = family.ends();
            let sent = complain(&udp(ends.client, ends.vip), report).expect("an error");
            let (ethernet, packet) = ip(&sent.bytes);
            assert_eq!((sent.port, ethernet.dst, ethernet.src), (PORT.id, HOST_MAC, PORT.mac));
            assert_eq!((packet.src, packet.dst), (family.vip, family.client), "the address called speaks");
            let Transport::IcmpError(error) = packet.transport else { panic!("{packet:?}") };
            assert_eq!((error.kind, error.inner.src, error.inner.dst), (kind, ends.client, ends.vip));
        }
    }
}

#[test]
fn about_routed_packets_the_address_facing_the_sender_speaks() {
    for family in BOTH {
        let routed = udp(end(family.server, 1), end(family.client, 2));
        let sent = complain(&routed, ErrorReport::TimeExceeded).expect("an error");
        assert_eq!(ip(&sent.bytes).1.src, family.snip);
    }
}

#[test]
fn no_error_is_sent_about_errors_later_fragments_and_groups() {
    let ends = V4.ends();
    let error = error_about(&udp(ends.vip, ends.client), V4.client, ErrorReport::PortUnreachable);
    assert_eq!(complain(&error, ErrorReport::TimeExceeded), None);

    let mut later = udp(ends.client, ends.vip);
    later[20..22].copy_from_slice(&[0, 100]);
    assert_eq!(complain(&later, ErrorReport::TimeExceeded), None);

    let to_group = udp(ends.client, end(Addr::v4([224, 0, 0, 9]), 520));
    assert_eq!(complain(&to_group, ErrorReport::TimeExceeded), None);

    let from_group = udp(end(Addr::v4([224, 0, 0, 9]), 520), ends.vip);
    assert_eq!(complain(&from_group, ErrorReport::TimeExceeded), None);

    let mut broadcast = udp(ends.client, ends.vip);
    holdfast_wire::set_macs(&mut broadcast, MacAddr::BROADCAST, HOST_MAC);
    assert_eq!(complain(&broadcast, ErrorReport::TimeExceeded), None);

    let mut from_group_mac = udp(ends.client, ends.vip);
    holdfast_wire::set_macs(&mut from_group_mac, PORT.mac, MacAddr::BROADCAST);
    assert_eq!(complain(&from_group_mac, ErrorReport::TimeExceeded), None);
}

#[test]
fn errors_beyond_the_rate_are_not_sent() {
    let bytes = udp(V4.ends().client, V4.ends().vip);
    let (ethernet, packet) = ip(&bytes);
    let received = Received { port: PORT.id, ethernet: &ethernet, packet: &packet, bytes: &bytes };
    let mut maker = ErrorMaker::new(10_000);
    let mut out = Outbox::default();
    let network = network(true);
    let mut burst = |now, out: &mut Outbox| {
        (0..5_000).filter(|_| maker.send(now, &network, &received, ErrorReport::NetUnreachable, out)).count()
    };
    assert_eq!(burst(at(1_000), &mut out), 1_000);
    assert_eq!(burst(at(1_010), &mut out), 100, "10 ms at 10,000 a second");
    assert_eq!(burst(at(60_000), &mut out), 1_000, "never more than the bucket holds");
    assert_eq!(core::iter::from_fn(|| out.pop()).count(), 2_100);
}

#[test]
fn packets_that_deserve_no_error_use_up_no_rate() {
    let bytes = udp(V4.ends().client, V4.ends().vip);
    let to_group = udp(V4.ends().client, end(Addr::v4([224, 0, 0, 9]), 520));
    let network = network(true);
    let mut maker = ErrorMaker::new(10_000);
    let mut out = Outbox::default();
    let mut send = |bytes: &[u8]| {
        let (ethernet, packet) = ip(bytes);
        let received = Received { port: PORT.id, ethernet: &ethernet, packet: &packet, bytes };
        maker.send(at(0), &network, &received, ErrorReport::NetUnreachable, &mut out)
    };
    assert!((0..2_000).all(|_| !send(&to_group)));
    assert!(send(&bytes));
}

/// Translates `error` and returns the frame after it.
fn translated(mut error: Vec<u8>, family: Family, side: ErrorSide) -> Vec<u8> {
    let (_, packet) = ip(&error);
    let mut frame = Frame { port: PORT.id, offload: Offload::default(), bytes: &mut error };
    assert!(translate_error(&mut frame, &packet, &family.ends(), side));
    error
}

#[test]
fn an_error_from_behind_the_server_reaches_the_client_in_its_own_words() {
    for family in BOTH {
        for packet_of in [tcp, udp] {
            let ends = family.ends();
            let report = ErrorReport::TooBig { mtu: 1_300 };
            let error = error_about(&packet_of(ends.source, ends.server), family.router, report);
            let (_, before) = ip(&error);
            let key = key_of_quoted(&before, L2Disc::default()).expect("a quoted packet");
            assert_eq!((key.src, key.dst), (ends.server, ends.source), "the flow is found by its server-side key");

            let after = translated(error, family, ErrorSide::Server);
            let (_, packet) = ip(&after);
            assert_eq!((packet.src, packet.dst, packet.ttl), (family.router, family.client, before.ttl - 1));
            let Transport::IcmpError(error) = packet.transport else { panic!("{packet:?}") };
            assert_eq!((error.inner.src, error.inner.dst), (ends.client, ends.vip));
            assert_eq!(error.kind, IcmpErrorKind::TooBig { mtu: 1_300 });
            quoted_is_what_was_sent(&after, &packet, &packet_of(ends.client, ends.vip));
        }
    }
}

#[test]
fn an_error_from_the_client_side_reaches_the_server_in_its_own_words() {
    for family in BOTH {
        let ends = family.ends();
        let error = error_about(&tcp(ends.vip, ends.client), family.client, ErrorReport::HostUnreachable);
        let key = key_of_quoted(&ip(&error).1, L2Disc::default()).expect("a quoted packet");
        assert_eq!((key.src, key.dst), (ends.client, ends.vip), "the flow is found by its client-side key");
        let after = translated(error, family, ErrorSide::Client);
        let (_, packet) = ip(&after);
        assert_eq!((packet.src, packet.dst), (family.snip, family.server), "the client is known as the SNIP");
        quoted_is_what_was_sent(&after, &packet, &tcp(ends.server, ends.source));
    }
}

#[test]
fn an_error_of_the_server_itself_comes_from_the_vip() {
    for family in BOTH {
        let ends = family.ends();
        let error = error_about(&udp(ends.source, ends.server), family.server, ErrorReport::PortUnreachable);
        let after = translated(error, family, ErrorSide::Server);
        let (_, packet) = ip(&after);
        assert_eq!((packet.src, packet.dst, packet.proto), (family.vip, family.client, family.icmp));
    }
}

/// The quote in the error `packet` equals what the listener really sent.
fn quoted_is_what_was_sent(bytes: &[u8], packet: &IpPacket, sent: &[u8]) {
    let quoted = &bytes[usize::from(packet.l4) + 8..packet.end()];
    let (_, original) = ip(sent);
    assert!(transport_checksum_ok(sent, &original));
    assert_eq!(quoted, &sent[usize::from(original.l3)..][..quoted.len()], "checksums included");
}

#[test]
fn other_packets_are_no_errors_to_translate() {
    let ends = V4.ends();
    let mut bytes = udp(ends.source, ends.server);
    let (_, packet) = ip(&bytes);
    assert_eq!(key_of_quoted(&packet, L2Disc::default()), None);
    let before = bytes.clone();
    let mut frame = Frame { port: PORT.id, offload: Offload::default(), bytes: &mut bytes };
    assert!(!translate_error(&mut frame, &packet, &ends, ErrorSide::Server));
    assert_eq!(bytes, before);
}
