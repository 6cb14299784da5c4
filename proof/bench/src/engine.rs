//! The engine's hot path, with real frames.

use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use holdfast_base::Instant;
use holdfast_engine::{
    Binding, ConnFailover, Engine, FloatingAddress, FloatingKind, Frame, Gate, Limits, Method, Offload, Plan, Port,
    PortId, Service, ServiceId, Spill, Verdict, Vserver, VserverId, VserverKind,
};
use holdfast_wire::build::{self, Link, Segment};
use holdfast_wire::{Addr, Endpoint, MacAddr, TcpFlags};

const CLIENT_SIDE: PortId = PortId(0);
const SERVER_SIDE: PortId = PortId(1);
const OWN: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);
const VIP: Endpoint = Endpoint { addr: Addr::v4([10, 0, 1, 100]), port: 80 };
const SERVER: Endpoint = Endpoint { addr: Addr::v4([10, 0, 2, 21]), port: 80 };
const CLIENT_SNIP: Addr = Addr::v4([10, 0, 0, 5]);
const SNIPS: [Addr; 4] =
    [Addr::v4([10, 0, 2, 5]), Addr::v4([10, 0, 2, 6]), Addr::v4([10, 0, 2, 7]), Addr::v4([10, 0, 2, 8])];
/// Packets measured in each run.
pub const PACKETS: usize = 2_000_000;
const DATA: TcpFlags = TcpFlags(0x18);
const SYN_ACK: TcpFlags = TcpFlags(0x12);

struct Lab {
    engine: Engine,
    now: Instant,
    buffer: [u8; 2048],
}

/// Nanoseconds for each of so many `packets` of `flows` established flows, both directions in turn.
pub fn established(flows: u32, packets: usize) -> f64 {
    let mut lab = Lab::new(flows + 1024);
    let opened: Vec<(Endpoint, Endpoint)> = (0..flows).map(|number| lab.open(client(number))).collect();
    let mut frames = Vec::new();
    for number in 0..flows.min(4096) {
        let pick = (u64::from(number) * 2_654_435_761 % u64::from(flows)) as u32;
        frames.push((CLIENT_SIDE, lab.segment(CLIENT_SIDE, client(pick), VIP, DATA)));
        let (server, source) = opened[pick as usize];
        frames.push((SERVER_SIDE, lab.segment(SERVER_SIDE, server, source, DATA)));
    }
    let (mut done, start) = (0, Clock::now());
    'all: loop {
        for (port, bytes) in &frames {
            let forwarded = lab.forward(*port, bytes);
            assert!(forwarded, "a packet of an established flow is forwarded");
            done += 1;
            if done == packets {
                break 'all;
            }
        }
    }
    start.elapsed().as_nanos() as f64 / packets as f64
}

/// Nanoseconds per connection set-up: SYN, SYN-ACK, ACK.
pub fn connections(count: u32) -> f64 {
    let mut lab = Lab::new(count + 1024);
    lab.open(client(0));
    let start = Clock::now();
    for number in 1..=count {
        lab.open(client(number));
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn client(number: u32) -> Endpoint {
    let host = (number / 50_000) as u8 + 1;
    Endpoint { addr: Addr::v4([10, 0, 0, host]), port: 10_000 + (number % 50_000) as u16 }
}

impl Lab {
    fn new(max_flows: u32) -> Lab {
        let now = Instant::ZERO;
        let mut engine = Engine::new(now, Limits { max_flows, ..Limits::default() }, 7);
        engine.set_ports(&[0, 1].map(|index| Port { id: PortId(index as u8), mac: OWN[index], mtu: 1500 }));
        engine.set_plan(now, Arc::new(plan()));
        for service in 0..SNIPS.len() as u32 {
            engine.set_health(now, ServiceId(service), true);
        }
        engine.set_gate(now, Gate::Open);
        engine.promote(now);
        let mut lab = Lab { engine, now, buffer: [0; 2048] };
        lab.learn(CLIENT_SIDE, CLIENT_MAC, Addr::v4([10, 0, 0, 1]), CLIENT_SNIP);
        lab.learn(CLIENT_SIDE, CLIENT_MAC, Addr::v4([10, 0, 0, 2]), CLIENT_SNIP);
        lab.learn(CLIENT_SIDE, CLIENT_MAC, Addr::v4([10, 0, 0, 3]), CLIENT_SNIP);
        for last in 0..SNIPS.len() as u8 {
            lab.learn(SERVER_SIDE, SERVER_MAC, Addr::v4([10, 0, 2, 21 + last]), SNIPS[0]);
        }
        lab
    }

    /// A host asks for one of our addresses, so the engine knows where it is.
    fn learn(&mut self, port: PortId, mac: MacAddr, host: Addr, ours: Addr) {
        let link = Link::new(MacAddr::BROADCAST, mac);
        let len = build::arp_request(&mut self.buffer, link, host, ours);
        let bytes = self.buffer[..len].to_vec();
        self.forward(port, &bytes);
        self.drain();
    }

    /// Opens a connection; returns its server and who the server sees.
    fn open(&mut self, from: Endpoint) -> (Endpoint, Endpoint) {
        let syn = self.segment(CLIENT_SIDE, from, VIP, TcpFlags::SYN);
        let mut seen = syn;
        let frame = Frame { port: CLIENT_SIDE, offload: Offload::default(), bytes: &mut seen };
        let verdict = self.engine.handle_frame(self.now, frame);
        assert!(matches!(verdict, Verdict::Forward(_)), "a SYN is forwarded: {verdict:?}");
        let (server, source) = ends(&seen);
        let answer = self.segment(SERVER_SIDE, server, source, SYN_ACK);
        self.forward(SERVER_SIDE, &answer);
        let ack = self.segment(CLIENT_SIDE, from, VIP, TcpFlags::ACK);
        self.forward(CLIENT_SIDE, &ack);
        (server, source)
    }

    fn segment(&mut self, port: PortId, src: Endpoint, dst: Endpoint, flags: TcpFlags) -> Vec<u8> {
        let mac = if port == CLIENT_SIDE { CLIENT_MAC } else { SERVER_MAC };
        let link = Link::new(OWN[usize::from(port.0)], mac);
        let payload: &[u8] = if flags == DATA { b"0123456789" } else { b"" };
        let segment = Segment { src, dst, seq: 1, ack: 1, flags, window: 1000, mss: None, payload };
        let len = build::tcp_segment(&mut self.buffer, link, &segment);
        self.buffer[..len].to_vec()
    }

    fn forward(&mut self, port: PortId, bytes: &[u8]) -> bool {
        let copy = &mut self.buffer[..bytes.len()];
        copy.copy_from_slice(bytes);
        let verdict = self.engine.handle_frame(self.now, Frame { port, offload: Offload::default(), bytes: copy });
        matches!(verdict, Verdict::Forward(_))
    }

    fn drain(&mut self) {
        while let Some(frame) = self.engine.poll_transmit() {
            self.engine.recycle(frame.bytes);
        }
    }
}

/// Source and destination of a forwarded IPv4 TCP frame, swapped: how the server answers.
fn ends(frame: &[u8]) -> (Endpoint, Endpoint) {
    let holdfast_wire::Parsed::Ip(packet) = holdfast_wire::parse(frame).expect("our own frame parses").1 else {
        panic!("an IP packet was forwarded")
    };
    (packet.destination(), packet.source())
}

fn plan() -> Plan {
    let floating = |addr, kind| FloatingAddress { addr, prefix_len: 24, kind, arp: true, icmp: true };
    let mut addresses: Vec<_> = SNIPS.iter().map(|&snip| floating(snip, FloatingKind::Snip)).collect();
    addresses.push(floating(CLIENT_SNIP, FloatingKind::Snip));
    addresses.push(FloatingAddress { prefix_len: 32, ..floating(VIP.addr, FloatingKind::Vip) });
    let idle = Duration::from_secs(9000);
    // One server address gives 32,256 ports; several give room for many flows.
    let service = |number: u32| Service {
        id: ServiceId(number),
        server: Endpoint { addr: Addr::v4([10, 0, 2, 21 + number as u8]), ..SERVER },
        kind: VserverKind::Tcp,
        hash_id: 0,
        usip: false,
        enabled: true,
        leaving: false,
        server_idle: idle,
        surge: None,
        max_clients: 0,
    };
    let numbers = 0..SNIPS.len() as u32;
    Plan {
        epoch: 1,
        addresses,
        routes: Vec::new(),
        vservers: vec![Vserver {
            id: VserverId(1),
            addr: VIP.addr,
            port: VIP.port,
            kind: VserverKind::Tcp,
            enabled: true,
            method: Method::RoundRobin,
            persistence: None,
            failover: ConnFailover::Disabled,
            ftp: false,
            one_answer: false,
            listens: true,
            spill: Spill::default(),
            client_idle: idle,
            services: numbers.clone().map(|number| Binding { service: ServiceId(number), weight: 1 }).collect(),
        }],
        services: numbers.map(service).collect(),
        l3_mode: false,
    }
}
