//! Stories: real frames through `handle_frame`, on two ports, in both IP versions.

mod fast_open;
mod flood;
mod forged;
mod ftp;
mod icmp;
mod listing;
mod methods;
mod mirror;
mod odd;
mod offer;
mod offload;
mod properties;
mod resync;
mod routing;
mod selection;
mod spill;
mod sticky;
mod stray;
mod succession;
mod surge;
mod tables;
mod tcp;
mod udp;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use holdfast_base::{Duration, Instant};
use holdfast_wire::build::{self, Link, Segment};
use holdfast_wire::{
    Addr, ArpOp, Endpoint, IpPacket, MacAddr, Parsed, Tcp, TcpFlags, Transport, ipv4_checksum_ok, parse,
    transport_checksum_ok,
};

use crate::{
    Binding, ConnFailover, Counters, Drop, Engine, FloatingAddress, FloatingKind, Frame, Gate, Limits, Mark, Mask,
    Method, Mirroring, Offload, OwnedFrame, Persistence, PersistenceKind, Plan, Port, PortId, Route, Service,
    ServiceId, Spill, Verdict, Vserver, VserverId, VserverKind,
};

pub(super) const CLIENT_PORT: PortId = PortId(0);
pub(super) const SERVER_PORT: PortId = PortId(1);
pub(super) const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc1]);
pub(super) const SERVER_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 0x51]), MacAddr([2, 0, 0, 0, 0, 0x52])];
pub(super) const OWN_MACS: [MacAddr; 2] = [MacAddr([2, 0xf, 0, 0, 0, 0]), MacAddr([2, 0xf, 0, 0, 0, 1])];

pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const ACK: TcpFlags = TcpFlags::ACK;
pub(super) const RST: TcpFlags = TcpFlags::RST;
pub(super) const SYN_ACK: TcpFlags = TcpFlags(0x12);
pub(super) const FIN_ACK: TcpFlags = TcpFlags(0x11);

pub(super) const VSERVER: VserverId = VserverId(7);
pub(super) const SERVICES: [ServiceId; 2] = [ServiceId(3), ServiceId(4)];

/// The addresses of one IP version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    pub(super) client: Endpoint,
    pub(super) vip: Endpoint,
    pub(super) snip: Addr,
    pub(super) servers: [Endpoint; 2],
    pub(super) prefix: u8,
    pub(super) world: Addr,
}

pub(super) fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().expect("an address"))
}

pub(super) fn end(text: &str, port: u16) -> Endpoint {
    Endpoint { addr: addr(text), port }
}

pub(super) fn v4() -> Net {
    Net {
        client: end("192.0.2.10", 40_000),
        vip: end("192.0.2.1", 80),
        snip: addr("198.51.100.1"),
        servers: [end("198.51.100.11", 8080), end("198.51.100.12", 8080)],
        prefix: 24,
        world: addr("203.0.113.9"),
    }
}

pub(super) fn v6() -> Net {
    Net {
        client: end("2001:db8:1::10", 40_000),
        vip: end("2001:db8:1::1", 80),
        snip: addr("2001:db8:2::1"),
        servers: [end("2001:db8:2::11", 8080), end("2001:db8:2::12", 8080)],
        prefix: 64,
        world: addr("2001:db8:9::9"),
    }
}

/// A plan with one vserver and two services; tests change what they are about.
pub(super) fn plan(net: &Net) -> Plan {
    let floating = |addr, kind| FloatingAddress { addr, prefix_len: net.prefix, kind, arp: true, icmp: true };
    let service = |index: usize| Service {
        id: SERVICES[index],
        server: net.servers[index],
        kind: VserverKind::Any,
        hash_id: 0,
        usip: false,
        enabled: true,
        leaving: false,
        server_idle: Duration::from_secs(300),
        surge: None,
        max_clients: 0,
    };
    Plan {
        epoch: 1,
        addresses: vec![floating(net.vip.addr, FloatingKind::Vip), floating(net.snip, FloatingKind::Snip)],
        routes: Vec::new(),
        vservers: vec![Vserver {
            id: VSERVER,
            addr: net.vip.addr,
            port: net.vip.port,
            kind: VserverKind::Any,
            enabled: true,
            method: Method::RoundRobin,
            persistence: None,
            failover: ConnFailover::Stateful,
            ftp: false,
            one_answer: false,
            listens: true,
            spill: Spill::default(),
            client_idle: Duration::from_secs(180),
            services: SERVICES.map(|service| Binding { service, weight: 1 }).to_vec(),
        }],
        services: vec![service(0), service(1)],
        l3_mode: true,
    }
}

/// The same with the client's address visible to the servers.
pub(super) fn usip_plan(net: &Net) -> Plan {
    let mut plan = plan(net);
    for service in &mut plan.services {
        service.usip = true;
    }
    plan
}

pub(super) fn with_failover(mut plan: Plan, failover: ConnFailover) -> Plan {
    plan.vservers[0].failover = failover;
    plan
}

/// A frame that left the engine.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) port: PortId,
    pub(super) offload: Offload,
    pub(super) bytes: Vec<u8>,
}

impl Sent {
    /// The IP packet in it, whose checksums must be right.
    pub(super) fn packet(&self) -> IpPacket {
        let (_, Parsed::Ip(packet)) = parse(&self.bytes[..]).expect("well-formed") else { panic!("not IP: {self:?}") };
        assert!(ipv4_checksum_ok(&self.bytes[..], &packet), "IPv4 header checksum");
        if !self.offload.is_partial() {
            assert!(transport_checksum_ok(&self.bytes, &packet), "transport checksum");
        }
        packet
    }

    pub(super) fn tcp(&self) -> Tcp {
        *self.packet().tcp().expect("TCP")
    }

    pub(super) fn macs(&self) -> (MacAddr, MacAddr) {
        let (ethernet, _) = parse(&self.bytes[..]).expect("well-formed");
        (ethernet.dst, ethernet.src)
    }
}

/// An engine between a client port and a server port. Hosts answer ARP and
/// neighbour solicitations unless they are mute.
pub(super) struct Lab {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) net: Net,
    pub(super) marks: Vec<Mark>,
    pub(super) sent: VecDeque<Sent>,
    hosts: BTreeMap<Addr, (PortId, MacAddr)>,
    pub(super) mute: bool,
}

impl Lab {
    pub(super) fn new(net: Net, plan: Plan) -> Lab {
        Lab::with_limits(net, plan, Limits { max_flows: 1024, ..Limits::default() })
    }

    pub(super) fn with_limits(net: Net, plan: Plan, limits: Limits) -> Lab {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut engine = Engine::new(now, limits, 42);
        let port = |id: PortId| Port { id, mac: OWN_MACS[usize::from(id.0)], mtu: 1500 };
        engine.set_ports(&[port(CLIENT_PORT), port(SERVER_PORT)]);
        engine.set_plan(now, Arc::new(plan));
        for service in SERVICES {
            engine.set_health(now, service, true);
        }
        engine.set_gate(now, Gate::Open);
        let mut hosts = BTreeMap::new();
        hosts.insert(net.client.addr, (CLIENT_PORT, CLIENT_MAC));
        for (server, mac) in net.servers.iter().zip(SERVER_MACS) {
            hosts.insert(server.addr, (SERVER_PORT, mac));
        }
        let mut lab = Lab { engine, now, net, marks: Vec::new(), sent: VecDeque::new(), hosts, mute: false };
        lab.settle();
        lab.sent.clear();
        lab
    }

    /// A second node with the same plan, gate closed.
    pub(super) fn standby(&self, plan: Plan) -> Lab {
        let mut other = Lab::new(self.net, plan);
        other.engine.set_gate(other.now, Gate::Closed);
        other.now = self.now;
        other
    }

    pub(super) fn add_host(&mut self, host: Addr, port: PortId, mac: MacAddr) {
        self.hosts.insert(host, (port, mac));
    }

    pub(super) fn remove_host(&mut self, host: Addr) {
        self.hosts.remove(&host);
    }

    pub(super) fn plan(&self) -> Plan {
        (**self.engine.roster.plan()).clone()
    }

    pub(super) fn set_plan(&mut self, plan: Plan) {
        self.engine.set_plan(self.now, Arc::new(plan));
        self.settle();
    }

    pub(super) fn mirror(&mut self, session: u32, strict: bool) {
        self.engine.set_mirroring(self.now, Mirroring::On { session, strict });
        self.settle();
    }

    /// Hands a frame in, with its answers and their answers.
    pub(super) fn give(&mut self, port: PortId, bytes: Vec<u8>) -> Verdict {
        self.give_with(port, bytes, Offload::default())
    }

    pub(super) fn give_with(&mut self, port: PortId, mut bytes: Vec<u8>, offload: Offload) -> Verdict {
        let verdict = self.engine.handle_frame(self.now, Frame { port, offload, bytes: &mut bytes });
        if let Verdict::Forward(port) = verdict {
            self.sent.push_back(Sent { port, offload, bytes });
        }
        self.settle();
        verdict
    }

    /// Lets time pass in steps, with timeouts where they are due.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.engine.poll_timeout().filter(|&due| due <= end);
            let next = due.unwrap_or(end).max(self.now);
            self.now = next.max(self.now + Duration::from_millis(1)).min(end);
            self.engine.handle_timeout(self.now);
            self.settle();
            if self.now >= end {
                return;
            }
        }
    }

    /// Drains the engine; hosts answer what asks for them.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(mark) = self.engine.poll_mark() {
                self.marks.push(mark);
            }
            let Some(frame) = self.engine.poll_transmit() else { return };
            let answer = if self.mute { None } else { self.answer(&frame) };
            if let Some((port, mut bytes)) = answer {
                let offload = Offload::default();
                self.engine.handle_frame(self.now, Frame { port, offload, bytes: &mut bytes });
            } else if !is_resolution(&frame) {
                let OwnedFrame { port, offload, bytes } = frame;
                self.sent.push_back(Sent { port, offload, bytes });
            }
        }
    }

    fn answer(&self, asked: &OwnedFrame) -> Option<(PortId, Vec<u8>)> {
        let mut bytes = vec![0; build::MAX_REPLY];
        let (ethernet, parsed) = parse(&asked.bytes[..]).ok()?;
        let (target, len) = match parsed {
            Parsed::Arp(arp) if arp.op == ArpOp::Request && arp.sender != arp.target => {
                let &(port, mac) = self.hosts.get(&arp.target)?;
                let link = Link::new(ethernet.src, mac);
                ((port, mac), build::arp_reply(&mut bytes, link, arp.target, arp.sender))
            }
            Parsed::Ip(packet) => {
                let Transport::NeighbourSolicitation(wanted) = packet.transport else { return None };
                let &(port, mac) = self.hosts.get(&wanted.target)?;
                let link = Link::new(ethernet.src, mac);
                ((port, mac), build::neighbour_advertisement(&mut bytes, link, wanted.target, packet.src))
            }
            Parsed::Arp(_) | Parsed::Other => return None,
        };
        if target.0 != asked.port {
            return None;
        }
        bytes.truncate(len);
        Some((target.0, bytes))
    }

    /// A segment of the client.
    pub(super) fn client(&mut self, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) -> Verdict {
        let (src, dst) = (self.net.client, self.net.vip);
        self.segment(CLIENT_PORT, CLIENT_MAC, src, dst, (flags, seq, ack), payload)
    }

    /// A segment of the server `server` to `dst`.
    pub(super) fn server(
        &mut self,
        server: Endpoint,
        dst: Endpoint,
        numbers: (TcpFlags, u32, u32),
        payload: &[u8],
    ) -> Verdict {
        let mac = self.hosts.get(&server.addr).map_or(SERVER_MACS[0], |&(_, mac)| mac);
        self.segment(SERVER_PORT, mac, server, dst, numbers, payload)
    }

    pub(super) fn segment(
        &mut self,
        port: PortId,
        mac: MacAddr,
        src: Endpoint,
        dst: Endpoint,
        (flags, seq, ack): (TcpFlags, u32, u32),
        payload: &[u8],
    ) -> Verdict {
        let link = Link::new(OWN_MACS[usize::from(port.0)], mac);
        let bytes = tcp_bytes(link, src, dst, (flags, seq, ack), payload);
        self.give(port, bytes)
    }

    pub(super) fn datagram(&mut self, port: PortId, src: Endpoint, dst: Endpoint, payload: &[u8]) -> Verdict {
        let mac = if port == CLIENT_PORT { CLIENT_MAC } else { SERVER_MACS[0] };
        let mut bytes = vec![0; build::MAX_HEADERS + payload.len()];
        let link = Link::new(OWN_MACS[usize::from(port.0)], mac);
        let len = build::udp_datagram(&mut bytes, link, src, dst, payload);
        bytes.truncate(len);
        self.give(port, bytes)
    }

    /// The next frame that left; there must be one.
    #[track_caller]
    pub(super) fn next(&mut self) -> Sent {
        self.sent.pop_front().expect("a frame was sent")
    }

    /// Nothing (more) must have left.
    #[track_caller]
    pub(super) fn nothing(&self) {
        assert!(self.sent.is_empty(), "unexpected: {:?}", self.sent);
    }

    /// A whole handshake. Returns the server and who it sees.
    #[track_caller]
    pub(super) fn establish(&mut self) -> (Endpoint, Endpoint) {
        self.client(SYN, 100, 0, b"");
        let syn = self.next().packet();
        let (source, server) = (syn.source(), syn.destination());
        self.server(server, source, (SYN_ACK, 500, 101), b"");
        let answer = self.next();
        assert_eq!(answer.tcp().flags, SYN_ACK);
        self.client(ACK, 101, 501, b"");
        assert_eq!(self.next().packet().destination(), server);
        self.nothing();
        (server, source)
    }

    /// Both ends close; the flow lingers.
    pub(super) fn finish(&mut self, server: Endpoint, source: Endpoint) {
        self.client(FIN_ACK, 101, 501, b"");
        self.server(server, source, (FIN_ACK, 501, 102), b"");
        self.client(ACK, 102, 502, b"");
        self.sent.clear();
    }

    /// Writes every mark so far and acknowledges it, as a peer would.
    pub(super) fn acknowledge(&mut self) {
        for mark in std::mem::take(&mut self.marks) {
            if let Mark::Flow(flow) = mark
                && let Some(record) = self.engine.record(flow)
            {
                self.engine.handle_ack(self.now, flow, record.stamp);
            }
        }
        self.settle();
    }

    pub(super) fn drops(&self, reason: Drop) -> u64 {
        self.engine.counters().drops(reason)
    }
}

fn is_resolution(frame: &OwnedFrame) -> bool {
    match parse(&frame.bytes[..]) {
        Ok((_, Parsed::Arp(_))) => true,
        Ok((_, Parsed::Ip(packet))) => matches!(
            packet.transport,
            Transport::NeighbourSolicitation(_)
                | Transport::NeighbourAdvertisement(_)
                | Transport::OtherIcmp { kind: 143, .. }
        ),
        Ok((_, Parsed::Other)) | Err(_) => false,
    }
}

pub(super) fn tcp_bytes(
    link: Link,
    src: Endpoint,
    dst: Endpoint,
    (flags, seq, ack): (TcpFlags, u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; build::MAX_HEADERS + payload.len()];
    let segment = Segment { src, dst, seq, ack, flags, window: 1000, mss: None, payload };
    let len = build::tcp_segment(&mut bytes, link, &segment);
    bytes.truncate(len);
    bytes
}

/// Runs `step` and asserts that of all counters exactly these moved, by this much.
#[track_caller]
pub(super) fn only_changed(lab: &mut Lab, step: impl FnOnce(&mut Lab), expected: &[(&str, u64)]) {
    let before = numbers(lab.engine.counters());
    step(lab);
    let after = numbers(lab.engine.counters());
    let moved: BTreeMap<&str, u64> = after
        .iter()
        .filter_map(|(&name, &value)| Some((name, value - before[name])).filter(|&(_, by)| by != 0))
        .collect();
    assert_eq!(moved, expected.iter().copied().collect::<BTreeMap<_, _>>());
}

fn numbers(counters: &Counters) -> BTreeMap<&'static str, u64> {
    // Bytes follow from frames and are tested by themselves.
    counters.listed().filter(|(name, _)| !name.contains("bytes")).collect()
}

/// A route for tests that need the world beyond a gateway.
pub(super) fn default_route(net: &Net) -> Route {
    let network = if net.client.addr.is_v4() { addr("0.0.0.0") } else { addr("::") };
    Route { network, prefix_len: 0, gateway: net.client.addr }
}

/// SOURCEIP persistence by whole addresses.
pub(super) fn by_source(timeout: u64) -> Option<Persistence> {
    by(PersistenceKind::Source, timeout)
}

/// Persistence by whole addresses.
pub(super) fn by(kind: PersistenceKind, timeout: u64) -> Option<Persistence> {
    Some(Persistence { kind, mask: Mask::WHOLE, timeout: Duration::from_secs(timeout) })
}
