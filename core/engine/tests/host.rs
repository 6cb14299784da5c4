//! The node as a network host, through the engine's own doors: it answers,
//! asks, announces, routes, and tells senders what went wrong.

use core::time::Duration;
use std::sync::Arc;

use holdfast_base::Instant;
use holdfast_engine::{
    Binding, ConnFailover, Drop, Engine, FloatingAddress, FloatingKind, Frame, Gate, Limits, Method, Offload,
    OwnedFrame, Plan, Port, PortId, Route, Service, ServiceId, Spill, Verdict, Vserver, VserverId, VserverKind,
};
use holdfast_wire::build::{self, ErrorReport, Link, Quote, Segment};
use holdfast_wire::{
    Addr, Arp, ArpOp, Endpoint, Ethernet, IcmpErrorKind, IpPacket, MacAddr, Parsed, TcpFlags, Transport,
    icmp_checksum_ok, ipv4_checksum_ok, parse, transport_checksum_ok,
};

const CLIENT_PORT: Port = Port { id: PortId(1), mac: MacAddr([2, 0, 0, 0, 1, 1]), mtu: 1500 };
const SERVER_PORT: Port = Port { id: PortId(2), mac: MacAddr([2, 0, 0, 0, 1, 2]), mtu: 1400 };
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 7, 7]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
struct Family {
    client: Addr,
    vip: Addr,
    client_snip: Addr,
    server: Addr,
    server_snip: Addr,
    /// Behind the client's side gateway, `client`.
    far: Addr,
    prefix: u8,
}

const V4: Family = Family {
    client: Addr::v4([192, 0, 2, 9]),
    vip: Addr::v4([192, 0, 2, 100]),
    client_snip: Addr::v4([192, 0, 2, 1]),
    server: Addr::v4([10, 0, 0, 9]),
    server_snip: Addr::v4([10, 0, 0, 2]),
    far: Addr::v4([198, 51, 100, 7]),
    prefix: 24,
};

const V6: Family = Family {
    client: v6(1, 9),
    vip: v6(1, 100),
    client_snip: v6(1, 1),
    server: v6(2, 9),
    server_snip: v6(2, 2),
    far: v6(9, 7),
    prefix: 64,
};

const BOTH: [Family; 2] = [V4, V6];

const fn v6(net: u8, last: u8) -> Addr {
    Addr([0x20, 1, 0x0d, 0xb8, 0, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, last])
}

fn end(addr: Addr, port: u16) -> Endpoint {
    Endpoint { addr, port }
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// For each family: a VIP with a TCP vserver on port 80 and a UDP one on 53,
/// bound to one server, and the far network behind the client.
fn plan() -> Plan {
    let mut plan = Plan { epoch: 1, l3_mode: true, ..Plan::default() };
    for (index, family) in (0..).zip(BOTH) {
        let bits = if family.vip.is_v4() { 32 } else { 128 };
        let vip =
            FloatingAddress { addr: family.vip, prefix_len: bits, kind: FloatingKind::Vip, arp: true, icmp: true };
        let snip = |addr| FloatingAddress { addr, prefix_len: family.prefix, kind: FloatingKind::Snip, ..vip };
        plan.addresses.extend([vip, snip(family.client_snip), snip(family.server_snip)]);
        plan.routes.push(Route { network: family.far, prefix_len: family.prefix, gateway: family.client });
        for (kind, offset) in [(VserverKind::Tcp, 0), (VserverKind::Udp, 1)] {
            let id = 2 * index + offset;
            plan.vservers.push(vserver(id, end(family.vip, if offset == 0 { 80 } else { 53 }), kind));
            plan.services.push(service(id, end(family.server, if offset == 0 { 8_080 } else { 5_353 }), kind));
        }
    }
    plan
}

fn vserver(id: u32, address: Endpoint, kind: VserverKind) -> Vserver {
    Vserver {
        id: VserverId(id),
        addr: address.addr,
        port: address.port,
        kind,
        enabled: true,
        method: Method::RoundRobin,
        persistence: None,
        failover: ConnFailover::Disabled,
        ftp: false,
        one_answer: false,
        listens: true,
        spill: Spill::default(),
        client_idle: Duration::from_secs(180),
        services: vec![Binding { service: ServiceId(id), weight: 1 }],
    }
}

fn service(id: u32, server: Endpoint, kind: VserverKind) -> Service {
    let server_idle = Duration::from_secs(360);
    Service {
        id: ServiceId(id),
        server,
        hash_id: 0,
        kind,
        usip: false,
        enabled: true,
        leaving: false,
        server_idle,
        surge: None,
        max_clients: 0,
    }
}

/// A node with its gate open, and what it sends.
struct Lab {
    engine: Engine,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(plan())
    }

    fn with(plan: Plan) -> Lab {
        let limits = Limits { max_flows: 1_024, max_persistence: 64, max_snat_pools: 64, ..Limits::default() };
        let mut engine = Engine::new(at(0), limits, 1);
        engine.set_ports(&[CLIENT_PORT, SERVER_PORT]);
        let services: Vec<ServiceId> = plan.services.iter().map(|service| service.id).collect();
        engine.set_plan(at(0), Arc::new(plan));
        for service in services {
            engine.set_health(at(0), service, true);
        }
        engine.set_gate(at(0), Gate::Open);
        let mut lab = Lab { engine };
        lab.sent();
        lab
    }

    /// A node that knows the clients and servers of both families already.
    fn acquainted() -> Lab {
        let mut lab = Lab::new();
        for family in BOTH {
            lab.introduce(at(0), CLIENT_PORT, family.client, CLIENT_MAC, family.client_snip);
            lab.introduce(at(0), SERVER_PORT, family.server, SERVER_MAC, family.server_snip);
        }
        lab.sent();
        lab
    }

    /// `neighbour` asks for our address `asked`: that is how we learn of it.
    fn introduce(&mut self, now: Instant, port: Port, neighbour: Addr, mac: MacAddr, asked: Addr) {
        let verdict = if neighbour.is_v4() {
            let link = Link::new(MacAddr::BROADCAST, mac);
            self.hear(now, port, &built(|bytes| build::arp_request(bytes, link, neighbour, asked)))
        } else {
            self.hear(now, port, &built(|bytes| build::neighbour_solicitation(bytes, mac, neighbour, asked)))
        };
        assert_eq!(verdict.0, Verdict::Consumed);
    }

    /// A frame comes in by `port`; the verdict, and the buffer after it.
    fn hear(&mut self, now: Instant, port: Port, bytes: &[u8]) -> (Verdict, Vec<u8>) {
        let mut bytes = bytes.to_vec();
        let frame = Frame { port: port.id, offload: Offload::default(), bytes: &mut bytes };
        let verdict = self.engine.handle_frame(now, frame);
        (verdict, bytes)
    }

    /// Everything the engine wants sent.
    fn sent(&mut self) -> Vec<OwnedFrame> {
        core::iter::from_fn(|| self.engine.poll_transmit()).collect()
    }

    /// Runs the timers that are due at `now`; returns what is sent.
    fn run(&mut self, now: Instant) -> Vec<OwnedFrame> {
        let mut sent = self.sent();
        for _ in 0..10_000 {
            if self.engine.poll_timeout().is_none_or(|due| due > now) {
                return sent;
            }
            self.engine.handle_timeout(now);
            sent.extend(self.sent());
        }
        panic!("timers never rest: still due at {:?}", self.engine.poll_timeout());
    }

    fn drops(&self, reason: Drop) -> u64 {
        self.engine.counters().drops(reason)
    }
}

fn built(write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut bytes = vec![0; 2_048];
    let len = write(&mut bytes);
    bytes.truncate(len);
    bytes
}

fn from_client() -> Link {
    Link::new(CLIENT_PORT.mac, CLIENT_MAC)
}

fn from_server() -> Link {
    Link::new(SERVER_PORT.mac, SERVER_MAC)
}

fn syn(link: Link, src: Endpoint, dst: Endpoint) -> Vec<u8> {
    let flags = TcpFlags::SYN;
    let segment = Segment { src, dst, seq: 1_000, ack: 0, flags, window: 65_000, mss: Some(1_460), payload: &[] };
    built(|bytes| build::tcp_segment(bytes, link, &segment))
}

fn udp(link: Link, src: Endpoint, dst: Endpoint, len: usize) -> Vec<u8> {
    built(|bytes| build::udp_datagram(bytes, link, src, dst, &vec![7; len]))
}

/// Parses what must be an IP packet whose checksums are right.
fn ip(bytes: &[u8]) -> (Ethernet, IpPacket) {
    let Ok((ethernet, Parsed::Ip(packet))) = parse(bytes) else { panic!("not an IP packet: {bytes:?}") };
    assert!(ipv4_checksum_ok(bytes, &packet) && icmp_checksum_ok(bytes, &packet));
    assert!(transport_checksum_ok(bytes, &packet));
    (ethernet, packet)
}

fn arp(bytes: &[u8]) -> (Ethernet, Arp) {
    let Ok((ethernet, Parsed::Arp(arp))) = parse(bytes) else { panic!("not ARP: {bytes:?}") };
    (ethernet, arp)
}

/// The one error among `sent`: its frame's port and headers, and what it reports.
fn the_error(sent: &[OwnedFrame]) -> (PortId, Ethernet, IpPacket, holdfast_wire::IcmpError) {
    let errors: Vec<_> = sent
        .iter()
        .filter_map(|frame| match parse(&frame.bytes[..]) {
            Ok((_, Parsed::Ip(packet))) => match packet.transport {
                Transport::IcmpError(error) => Some((frame, error)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let [(frame, error)] = errors[..] else { panic!("{} errors among {} frames", errors.len(), sent.len()) };
    let (ethernet, packet) = ip(&frame.bytes);
    (frame.port, ethernet, packet, error)
}

#[test]
fn a_client_finds_the_vip_by_arp() {
    let mut lab = Lab::new();
    let link = Link::new(MacAddr::BROADCAST, CLIENT_MAC);
    let asked = built(|bytes| build::arp_request(bytes, link, V4.client, V4.vip));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &asked).0, Verdict::Consumed);
    let sent = lab.sent();
    let (ethernet, answer) = arp(&sent[0].bytes);
    assert_eq!((sent.len(), sent[0].port, ethernet.dst), (1, CLIENT_PORT.id, CLIENT_MAC));
    assert_eq!((answer.op, answer.sender, answer.sender_mac), (ArpOp::Reply, V4.vip, CLIENT_PORT.mac));
}

#[test]
fn a_client_finds_the_vip_by_neighbour_solicitation() {
    let mut lab = Lab::new();
    let asked = built(|bytes| build::neighbour_solicitation(bytes, CLIENT_MAC, V6.client, V6.vip));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &asked).0, Verdict::Consumed);
    let sent = lab.sent();
    let (ethernet, answer) = ip(&sent[0].bytes);
    assert_eq!((sent.len(), ethernet.dst, answer.src, answer.dst), (1, CLIENT_MAC, V6.vip, V6.client));
    let Transport::NeighbourAdvertisement(told) = answer.transport else { panic!("{answer:?}") };
    assert_eq!((told.target, told.mac, told.solicited), (V6.vip, Some(CLIENT_PORT.mac), true));
}

#[test]
fn a_solicitation_with_a_wrong_checksum_is_not_answered() {
    let mut lab = Lab::new();
    let mut asked = built(|bytes| build::neighbour_solicitation(bytes, CLIENT_MAC, V6.client, V6.vip));
    let last = asked.len() - 1;
    asked[last] ^= 1;
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &asked).0, Verdict::Drop(Drop::BadChecksum));
    assert_eq!(lab.sent(), []);
}

#[test]
fn a_node_whose_gate_is_closed_answers_and_announces_nothing() {
    let mut lab = Lab::acquainted();
    lab.engine.promote(at(10));
    lab.engine.set_gate(at(10), Gate::Closed);
    let link = Link::new(MacAddr::BROADCAST, CLIENT_MAC);
    let asked = built(|bytes| build::arp_request(bytes, link, V4.client, V4.vip));
    let echo = built(|bytes| build::echo_request(bytes, from_client(), (V4.client, V4.vip), (1, 1), b"x"));
    for frame in [asked, echo] {
        assert_eq!(lab.hear(at(11), CLIENT_PORT, &frame).0, Verdict::Drop(Drop::GateClosed));
    }
    for second in 0..100 {
        let sent = lab.run(at(11 + second * 1_000));
        assert_eq!(sent, [], "neither announcements nor probes of neighbours");
    }
}

#[test]
fn promotion_announces_every_floating_address_three_times() {
    let mut lab = Lab::new();
    lab.run(at(5_000));
    lab.engine.promote(at(10_000));
    let mut rounds = Vec::new();
    for ms in 10_000..12_000 {
        let sent = lab.run(at(ms));
        let announced = sent.iter().filter(|frame| match parse(&frame.bytes[..]) {
            Ok((_, Parsed::Arp(arp))) => arp.sender == arp.target && arp.op == ArpOp::Request,
            Ok((_, Parsed::Ip(packet))) => matches!(packet.transport, Transport::NeighbourAdvertisement(_)),
            _ => false,
        });
        match announced.count() {
            0 => {}
            count => rounds.push((ms, count)),
        }
    }
    let each = 2 * plan().addresses.len();
    assert_eq!(rounds, [(10_000, each), (10_100, each), (11_000, each)]);
}

#[test]
fn vip_and_snip_answer_echo() {
    for family in BOTH {
        for called in [family.vip, family.client_snip] {
            let mut lab = Lab::new();
            let asked =
                built(|bytes| build::echo_request(bytes, from_client(), (family.client, called), (7, 3), b"hello"));
            let (verdict, bytes) = lab.hear(at(1), CLIENT_PORT, &asked);
            assert_eq!(verdict, Verdict::Forward(CLIENT_PORT.id));
            let (ethernet, reply) = ip(&bytes);
            assert_eq!((ethernet.dst, reply.src, reply.dst), (CLIENT_MAC, called, family.client));
            assert!(matches!(reply.transport, Transport::Echo(echo) if !echo.request && echo.id == 7 && echo.seq == 3));
        }
    }
}

#[test]
fn an_echo_request_with_a_wrong_checksum_is_dropped() {
    for family in BOTH {
        let mut lab = Lab::new();
        let ends = (family.client, family.vip);
        let mut asked = built(|bytes| build::echo_request(bytes, from_client(), ends, (7, 3), b"hello"));
        let last = asked.len() - 1;
        asked[last] ^= 1;
        assert_eq!(lab.hear(at(1), CLIENT_PORT, &asked).0, Verdict::Drop(Drop::BadChecksum));
    }
}

#[test]
fn the_first_packet_waits_while_the_server_is_asked_for() {
    let mut lab = Lab::new();
    lab.introduce(at(0), CLIENT_PORT, V4.client, CLIENT_MAC, V4.vip);
    lab.sent();
    let opening = syn(from_client(), end(V4.client, 40_000), end(V4.vip, 80));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &opening).0, Verdict::Consumed);
    let asked = lab.sent();
    assert_eq!(asked.len(), 2, "on every port");
    for frame in &asked {
        let (ethernet, request) = arp(&frame.bytes);
        assert_eq!((ethernet.dst, request.sender, request.target), (MacAddr::BROADCAST, V4.server_snip, V4.server));
    }
    let link = Link::new(SERVER_PORT.mac, SERVER_MAC);
    let answer = built(|bytes| build::arp_reply(bytes, link, V4.server, V4.server_snip));
    assert_eq!(lab.hear(at(2), SERVER_PORT, &answer).0, Verdict::Consumed);
    let sent = lab.sent();
    let (ethernet, packet) = ip(&sent[0].bytes);
    assert_eq!((sent.len(), sent[0].port), (1, SERVER_PORT.id));
    assert_eq!((ethernet.dst, ethernet.src), (SERVER_MAC, SERVER_PORT.mac));
    assert_eq!((packet.src, packet.destination()), (V4.server_snip, end(V4.server, 8_080)));
}

#[test]
fn a_client_whose_server_does_not_answer_hears_nothing() {
    for family in BOTH {
        let mut lab = Lab::new();
        lab.introduce(at(0), CLIENT_PORT, family.client, CLIENT_MAC, family.vip);
        let opening = syn(from_client(), end(family.client, 40_000), end(family.vip, 80));
        assert_eq!(lab.hear(at(1), CLIENT_PORT, &opening).0, Verdict::Consumed);
        let mut sent = Vec::new();
        for ms in 1..=400 {
            sent.extend(lab.run(at(ms)));
        }
        assert_eq!(lab.drops(Drop::NeighbourUnreachable), 1);
        let is_error = |frame: &OwnedFrame| match parse(&frame.bytes[..]) {
            Ok((_, Parsed::Ip(packet))) => matches!(packet.transport, Transport::IcmpError(_)),
            _ => false,
        };
        assert!(!sent.iter().any(is_error), "it gives up its connect if it is told");
    }
}

#[test]
fn the_servers_reach_the_world_through_the_node() {
    for family in BOTH {
        let mut lab = Lab::acquainted();
        let outgoing = udp(from_server(), end(family.server, 123), end(family.far, 123), 20);
        let (verdict, bytes) = lab.hear(at(1), SERVER_PORT, &outgoing);
        assert_eq!(verdict, Verdict::Forward(CLIENT_PORT.id));
        let (ethernet, packet) = ip(&bytes);
        assert_eq!((ethernet.dst, ethernet.src), (CLIENT_MAC, CLIENT_PORT.mac), "to the gateway");
        assert_eq!((packet.src, packet.dst, packet.ttl), (family.server, family.far, 63));
    }
}

#[test]
fn a_packet_at_the_end_of_its_life_is_not_routed_and_its_sender_told() {
    let mut lab = Lab::acquainted();
    let mut outgoing = udp(from_server(), end(V6.server, 123), end(V6.far, 123), 20);
    outgoing[14 + 7] = 1;
    assert_eq!(lab.hear(at(1), SERVER_PORT, &outgoing).0, Verdict::Drop(Drop::TtlExceeded));
    let (port, ethernet, packet, error) = the_error(&lab.sent());
    assert_eq!((port, ethernet.dst), (SERVER_PORT.id, SERVER_MAC));
    assert_eq!((packet.src, packet.dst), (V6.server_snip, V6.server), "the address facing the sender speaks");
    assert_eq!(error.kind, IcmpErrorKind::TimeExceeded);
}

#[test]
fn who_sends_to_nowhere_is_told() {
    let mut lab = Lab::acquainted();
    let outgoing = udp(from_server(), end(V4.server, 123), end(Addr::v4([203, 0, 113, 1]), 123), 20);
    assert_eq!(lab.hear(at(1), SERVER_PORT, &outgoing).0, Verdict::Drop(Drop::NoRoute));
    assert_eq!(the_error(&lab.sent()).3.kind, IcmpErrorKind::Unreachable);
}

#[test]
fn without_l3_mode_nothing_is_routed() {
    let mut lab = Lab::with(Plan { l3_mode: false, ..plan() });
    let outgoing = udp(from_server(), end(V4.server, 123), end(V4.far, 123), 20);
    assert_eq!(lab.hear(at(1), SERVER_PORT, &outgoing).0, Verdict::Drop(Drop::NoRoute));
}

#[test]
fn link_local_packets_are_not_routed() {
    let mut lab = Lab::acquainted();
    let mut own = V6.server;
    own.0[..8].copy_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
    for (src, dst) in [(own, V6.far), (V6.server, own)] {
        let outgoing = udp(from_server(), end(src, 123), end(dst, 123), 20);
        assert_eq!(lab.hear(at(1), SERVER_PORT, &outgoing).0, Verdict::Drop(Drop::NoRoute));
    }
    assert_eq!(lab.sent(), []);
}

#[test]
fn a_draining_node_says_nothing_about_floating_addresses_and_keeps_its_flows() {
    for family in BOTH {
        let mut lab = Lab::acquainted();
        open_udp(&mut lab, family);
        lab.engine.set_gate(at(2), Gate::Draining);
        let asked = if family.vip.is_v4() {
            let link = Link::new(MacAddr::BROADCAST, CLIENT_MAC);
            built(|bytes| build::arp_request(bytes, link, family.client, family.vip))
        } else {
            built(|bytes| build::neighbour_solicitation(bytes, CLIENT_MAC, family.client, family.vip))
        };
        assert_eq!(lab.hear(at(3), CLIENT_PORT, &asked).0, Verdict::Drop(Drop::Draining));
        let known = udp(from_client(), end(family.client, 40_000), end(family.vip, 53), 20);
        assert_eq!(lab.hear(at(4), CLIENT_PORT, &known).0, Verdict::Forward(SERVER_PORT.id));
        let unknown = udp(from_client(), end(family.client, 40_001), end(family.vip, 53), 20);
        assert_eq!(lab.hear(at(5), CLIENT_PORT, &unknown).0, Verdict::Drop(Drop::Draining));
        assert_eq!(lab.sent(), []);
    }
}

#[test]
fn somebody_who_claims_a_floating_address_is_counted() {
    let mut lab = Lab::acquainted();
    let claim = built(|bytes| build::gratuitous_arp_request(bytes, CLIENT_MAC, V4.vip));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &claim).0, Verdict::Consumed);
    let claim = built(|bytes| build::unsolicited_neighbour_advertisement(bytes, CLIENT_MAC, V6.vip));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &claim).0, Verdict::Consumed);
    assert_eq!(lab.engine.network_counters().address_conflicts, 2);
}

#[test]
fn an_address_that_comes_with_a_new_plan_is_announced() {
    let mut lab = Lab::acquainted();
    lab.engine.promote(at(10));
    for ms in [10, 110, 1_010] {
        lab.run(at(ms));
    }
    let mut wider = plan();
    let added = Addr::v4([192, 0, 2, 101]);
    wider.epoch = 2;
    wider.addresses.push(FloatingAddress { addr: added, ..wider.addresses[0] });
    lab.engine.set_plan(at(6_000), Arc::new(wider));
    let announced: Vec<_> = lab.run(at(6_000)).iter().map(|frame| arp(&frame.bytes).1.sender).collect();
    assert_eq!(announced, [added, added], "on both ports, and no other address");
}

#[test]
fn a_packet_too_big_for_the_servers_link_is_refused_with_its_mtu() {
    for family in BOTH {
        let mut lab = Lab::acquainted();
        let large = udp(from_client(), end(family.client, 40_000), end(family.vip, 53), 1_430);
        assert_eq!(lab.hear(at(1), CLIENT_PORT, &large).0, Verdict::Drop(Drop::TooBig));
        let (port, _, packet, error) = the_error(&lab.sent());
        assert_eq!((port, packet.dst), (CLIENT_PORT.id, family.client));
        assert_eq!(error.kind, IcmpErrorKind::TooBig { mtu: u32::from(SERVER_PORT.mtu) });
        assert_eq!((error.inner.src, error.inner.dst), (end(family.client, 40_000), end(family.vip, 53)));
    }
}

/// Opens a UDP flow; returns the endpoint that the server sees.
fn open_udp(lab: &mut Lab, family: Family) -> Endpoint {
    let (verdict, bytes) =
        lab.hear(at(1), CLIENT_PORT, &udp(from_client(), end(family.client, 40_000), end(family.vip, 53), 20));
    assert_eq!(verdict, Verdict::Forward(SERVER_PORT.id));
    ip(&bytes).1.source()
}

#[test]
fn an_error_from_the_servers_side_reaches_the_client() {
    for family in BOTH {
        let mut lab = Lab::acquainted();
        let source = open_udp(&mut lab, family);
        let forwarded = udp(from_server(), source, end(family.server, 5_353), 20);
        let (_, packet) = ip(&forwarded);
        let quote = Quote { frame: &forwarded, packet: &packet };
        let report = ErrorReport::PortUnreachable;
        let error =
            built(|out| build::icmp_error(out, from_server(), family.server, quote, report).expect("an error is due"));
        let (verdict, bytes) = lab.hear(at(2), SERVER_PORT, &error);
        assert_eq!(verdict, Verdict::Forward(CLIENT_PORT.id));
        let (ethernet, packet) = ip(&bytes);
        assert_eq!((ethernet.dst, packet.src, packet.dst), (CLIENT_MAC, family.vip, family.client));
        let Transport::IcmpError(told) = packet.transport else { panic!("{packet:?}") };
        assert_eq!((told.inner.src, told.inner.dst), (end(family.client, 40_000), end(family.vip, 53)));
    }
}

#[test]
fn an_error_from_the_clients_side_reaches_the_server() {
    for family in BOTH {
        let mut lab = Lab::acquainted();
        let source = open_udp(&mut lab, family);
        let forwarded = udp(from_client(), end(family.vip, 53), end(family.client, 40_000), 20);
        let (_, packet) = ip(&forwarded);
        let quote = Quote { frame: &forwarded, packet: &packet };
        let report = ErrorReport::PortUnreachable;
        let error =
            built(|out| build::icmp_error(out, from_client(), family.client, quote, report).expect("an error is due"));
        let (verdict, bytes) = lab.hear(at(2), CLIENT_PORT, &error);
        assert_eq!(verdict, Verdict::Forward(SERVER_PORT.id));
        let (ethernet, packet) = ip(&bytes);
        assert_eq!((ethernet.dst, packet.src, packet.dst), (SERVER_MAC, source.addr, family.server));
        let Transport::IcmpError(told) = packet.transport else { panic!("{packet:?}") };
        assert_eq!((told.inner.src, told.inner.dst), (end(family.server, 5_353), source));
    }
}

#[test]
fn an_error_about_nothing_known_is_dropped() {
    for family in BOTH {
        let mut lab = Lab::acquainted();
        let never_sent = udp(from_server(), end(family.server_snip, 5_000), end(family.server, 5_353), 20);
        let (_, packet) = ip(&never_sent);
        let quote = Quote { frame: &never_sent, packet: &packet };
        let report = ErrorReport::PortUnreachable;
        let error =
            built(|out| build::icmp_error(out, from_server(), family.server, quote, report).expect("an error is due"));
        assert_eq!(lab.hear(at(2), SERVER_PORT, &error).0, Verdict::Drop(Drop::IcmpUnrelated));
    }
}

/// The two fragments of an IPv4 datagram from the client to the UDP vserver.
fn fragments(id: u8) -> (Vec<u8>, Vec<u8>) {
    cut_v4(&udp(from_client(), end(V4.client, 40_000), end(V4.vip, 53), 1_000), id)
}

/// Cuts the IPv4 packet in `whole` after 800 bytes.
fn cut_v4(whole: &[u8], id: u8) -> (Vec<u8>, Vec<u8>) {
    let cut = |payload: &[u8], flags_and_offset: u16| {
        let mut frame = whole[..34].to_vec();
        frame.extend_from_slice(payload);
        let len = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[18..20].copy_from_slice(&[0, id]);
        frame[20..22].copy_from_slice(&flags_and_offset.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum: u32 = frame[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        frame[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        frame
    };
    (cut(&whole[34..34 + 800], 0x2000), cut(&whole[34 + 800..], 100))
}

#[test]
fn later_fragments_follow_the_first_to_the_server() {
    let mut lab = Lab::acquainted();
    let (first, later) = fragments(1);
    let mut ids = Vec::new();
    for fragment in [first, later] {
        let (verdict, bytes) = lab.hear(at(1), CLIENT_PORT, &fragment);
        assert_eq!(verdict, Verdict::Forward(SERVER_PORT.id));
        let (ethernet, packet) = ip(&bytes);
        assert_eq!((ethernet.dst, packet.src, packet.dst), (SERVER_MAC, V4.server_snip, V4.server));
        ids.push(bytes[18..20].to_vec());
    }
    assert_eq!(ids, [[0, 1], [0, 1]]);
}

/// The two fragments of an IPv6 datagram from the client to the UDP vserver.
fn fragments_v6(id: u8) -> (Vec<u8>, Vec<u8>) {
    let whole = udp(from_client(), end(V6.client, 40_000), end(V6.vip, 53), 1_000);
    let cut = |payload: &[u8], offset_and_more: u16| {
        let mut frame = whole[..54].to_vec();
        let next_header = core::mem::replace(&mut frame[20], 44);
        frame.extend([next_header, 0]);
        frame.extend(offset_and_more.to_be_bytes());
        frame.extend([0, 0, 0, id]);
        frame.extend_from_slice(payload);
        let len = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame
    };
    (cut(&whole[54..54 + 800], 1), cut(&whole[54 + 800..], 800))
}

#[test]
fn ipv6_fragments_find_their_way_in_any_order() {
    for overtaken in [false, true] {
        let mut lab = Lab::acquainted();
        let (first, later) = fragments_v6(1);
        let mut forwarded = Vec::new();
        for fragment in if overtaken { [later, first] } else { [first, later] } {
            match lab.hear(at(1), CLIENT_PORT, &fragment) {
                (Verdict::Forward(port), bytes) => {
                    assert_eq!(port, SERVER_PORT.id);
                    forwarded.push(bytes);
                }
                (verdict, _) => assert_eq!((verdict, overtaken), (Verdict::Consumed, true)),
            }
        }
        forwarded.extend(lab.sent().into_iter().map(|frame| frame.bytes));
        assert_eq!(forwarded.len(), 2);
        for bytes in &forwarded {
            let (ethernet, packet) = ip(bytes);
            assert_eq!((ethernet.dst, packet.src, packet.dst), (SERVER_MAC, V6.server_snip, V6.server));
        }
    }
}

#[test]
fn a_fragment_that_overtakes_the_first_waits_for_it() {
    let mut lab = Lab::acquainted();
    let (first, later) = fragments(2);
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &later).0, Verdict::Consumed);
    assert_eq!(lab.hear(at(2), CLIENT_PORT, &first).0, Verdict::Forward(SERVER_PORT.id));
    let sent = lab.sent();
    let (ethernet, packet) = ip(&sent[0].bytes);
    assert_eq!((sent.len(), sent[0].port, ethernet.dst, packet.dst), (1, SERVER_PORT.id, SERVER_MAC, V4.server));
}

#[test]
fn fragments_of_a_large_ping_are_routed_in_any_order() {
    let mut lab = Lab::acquainted();
    let ends = (V4.server, V4.far);
    let whole = built(|bytes| build::echo_request(bytes, from_server(), ends, (7, 3), &[7; 1_000]));
    let (first, later) = cut_v4(&whole, 9);
    assert_eq!(lab.hear(at(1), SERVER_PORT, &later).0, Verdict::Consumed);
    assert_eq!(lab.hear(at(2), SERVER_PORT, &first).0, Verdict::Forward(CLIENT_PORT.id));
    let sent = lab.sent();
    let (ethernet, packet) = ip(&sent[0].bytes);
    assert_eq!((sent.len(), sent[0].port, ethernet.dst), (1, CLIENT_PORT.id, CLIENT_MAC));
    assert_eq!((packet.src, packet.dst), ends);
}

#[test]
fn a_fragment_whose_first_never_comes_is_dropped_and_counted() {
    let mut lab = Lab::acquainted();
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &fragments(3).1).0, Verdict::Consumed);
    assert_eq!(lab.run(at(1_002)), []);
    assert_eq!(lab.drops(Drop::Fragment), 1);
}

#[test]
fn what_belongs_to_the_kernel_is_left_to_the_kernel() {
    let mut lab = Lab::acquainted();
    let own = Addr::v4([192, 0, 2, 3]);
    lab.engine.set_host_addresses(vec![own]);
    let ssh = syn(from_client(), end(V4.client, 40_000), end(own, 22));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &ssh).0, Verdict::ForHost);
    let link = Link::new(MacAddr::BROADCAST, CLIENT_MAC);
    let asked = built(|bytes| build::arp_request(bytes, link, V4.client, own));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &asked).0, Verdict::ForHost);
    let ping = built(|bytes| build::echo_request(bytes, from_client(), (V4.client, own), (1, 1), b""));
    assert_eq!(lab.hear(at(1), CLIENT_PORT, &ping).0, Verdict::ForHost);
    assert_eq!(lab.sent(), []);
}

#[test]
fn a_server_that_moves_to_another_card_keeps_its_flows() {
    let mut lab = Lab::acquainted();
    let source = open_udp(&mut lab, V4);
    let moved = MacAddr([2, 0, 0, 0, 5, 5]);
    let told = built(|bytes| build::gratuitous_arp_request(bytes, moved, V4.server));
    lab.hear(at(2_000), SERVER_PORT, &told);
    let again = udp(from_client(), end(V4.client, 40_000), end(V4.vip, 53), 20);
    let (verdict, bytes) = lab.hear(at(2_001), CLIENT_PORT, &again);
    assert_eq!(verdict, Verdict::Forward(SERVER_PORT.id));
    let (ethernet, packet) = ip(&bytes);
    assert_eq!((ethernet.dst, packet.source()), (moved, source));
}

#[test]
fn the_listing_of_neighbours_shows_who_was_met() {
    let lab = Lab::acquainted();
    let rows = lab.engine.neighbours();
    let met: Vec<_> = rows.iter().map(|row| (row.addr, row.mac)).collect();
    for family in BOTH {
        assert!(met.contains(&(family.client, Some(CLIENT_MAC))), "{met:?}");
        assert!(met.contains(&(family.server, Some(SERVER_MAC))), "{met:?}");
    }
}
