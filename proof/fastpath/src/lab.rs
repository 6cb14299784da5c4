//! An engine between a client and its servers, the fast path that follows its
//! orders, and the comparison of the two.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_base::Instant;
use holdfast_engine::{
    Binding, ConnFailover, Drop, Engine, FloatingAddress, FloatingKind, FlowKey, Frame, Gate, L2Disc, Limits, Method,
    Offload, OffloadUse, OwnedFrame, Plan, Port, PortId, Service, ServiceId, Spill, Verdict, Vserver, VserverId,
    VserverKind,
};
use holdfast_fastpath::layout::{Entry, Key, Reason};
use holdfast_fastpath::{FlowMaps, Programs, Trial, Which};
use holdfast_netio::Feed;
use holdfast_wire::build::{self, Link};
use holdfast_wire::{Addr, Endpoint, MacAddr, Parsed, TcpFlags, Transport, parse, proto};

use crate::frames::{self, Tcp};

/// Where clients are, and where servers are.
pub const CLIENTS: PortId = PortId(0);
pub const SERVERS: PortId = PortId(1);
/// Ethernet addresses of the node's ports, and of the host behind each.
pub const OWN: [MacAddr; 2] = [MacAddr([2, 0xf, 0, 0, 0, 0]), MacAddr([2, 0xf, 0, 0, 0, 1])];
pub const HOSTS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 0xc1]), MacAddr([2, 0, 0, 0, 0, 0x51])];
/// Numbers of the interfaces that the ports stand for; no frame ever leaves.
const INTERFACES: [u32; 2] = [4711, 4712];
/// MTU of both ports.
pub const MTU: u16 = 1500;
/// When the engine's clock stood at zero: long ago, as far as the kernel is concerned.
const ORIGIN: u64 = 1;

/// What the programs answer.
const TC_NEXT: u32 = u32::MAX;
const TC_SHOT: u32 = 2;
const TC_REDIRECT: u32 = 7;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// A kind of flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// IPv6, else IPv4.
    pub v6: bool,
    /// UDP, else TCP.
    pub udp: bool,
    /// The server sees the client's own address.
    pub usip: bool,
}

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        (0..8).map(|bits| Kind { v6: bits & 1 != 0, udp: bits & 2 != 0, usip: bits & 4 != 0 })
    }

    /// What clients of this kind call.
    pub fn vip(self) -> Endpoint {
        Endpoint { addr: host(self.v6, 1, 100), port: if self.usip { 81 } else { 80 } }
    }

    /// The server of this kind.
    pub fn server(self) -> Endpoint {
        Endpoint { addr: host(self.v6, 2, 21), port: if self.usip { 8081 } else { 8080 } }
    }
}

/// An established flow, as its ends see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What it is.
    pub kind: Kind,
    /// Source and destination of packets from the client, and from the server.
    pub ends: [(Endpoint, Endpoint); 2],
}

impl Flow {
    /// The key of packets that come in by `side`.
    pub fn key(&self, side: PortId) -> Key {
        let (src, dst) = self.ends[usize::from(side.0)];
        Key::new(if self.kind.udp { proto::UDP } else { proto::TCP }, 0, src, dst)
    }

    /// A frame of it from the host behind `side`.
    pub fn frame(&self, side: PortId, tcp: &Tcp<'_>) -> Vec<u8> {
        let ends = self.ends[usize::from(side.0)];
        if self.kind.udp { frames::udp(link(side), ends, tcp.payload) } else { frames::tcp(link(side), ends, tcp) }
    }
}

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves so.
    Forward(Vec<u8>),
    /// It goes up as it came, for this reason.
    Up(Reason),
    /// It goes to the engine alone, as it came, for this reason.
    Taken(Reason),
    /// It was thrown away, for this reason.
    Drop(Reason),
}

/// The engine, the programs and what lies between them.
pub struct Lab {
    pub engine: Engine,
    pub now: Instant,
    pub programs: Programs,
    pub feed: Feed,
    /// Reasons that have been seen.
    pub seen: BTreeSet<Reason>,
    /// Frames that were forwarded.
    pub forwarded: u64,
    next_client: u16,
}

impl Lab {
    pub fn new(programs: Programs, maps: FlowMaps) -> Result<Lab> {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut engine = Engine::new(now, Limits { max_flows: 4096, ..Limits::default() }, 42);
        engine.set_ports(&[CLIENTS, SERVERS].map(|id| Port { id, mac: OWN[usize::from(id.0)], mtu: MTU }));
        engine.set_plan(now, Arc::new(plan()));
        for (number, _) in kinds() {
            engine.set_health(now, ServiceId(number), true);
        }
        engine.set_gate(now, Gate::Open);
        engine.set_offload(true);
        let mut feed = Feed::new(maps, ORIGIN);
        for port in [CLIENTS, SERVERS] {
            feed.set_interface(port, Some(INTERFACES[usize::from(port.0)]));
        }
        feed.set_lease(None);
        feed.maps().set_macs(&OWN);
        let floating = plan().addresses.iter().map(|own| own.addr).collect();
        feed.maps().set_floating(&floating)?;
        let seen = BTreeSet::new();
        let mut lab = Lab { engine, now, programs, feed, seen, forwarded: 0, next_client: 20_000 };
        lab.settle()?;
        Ok(lab)
    }

    /// Forgets every flow, on both paths.
    pub fn clear(&mut self) -> Result<()> {
        self.engine.clear(self.now);
        self.settle()?;
        let sweeper = self.feed.poll_sweep()?.context("cleared flows leave copies to be swept")?;
        sweeper.run()?;
        ensure!(sweeper.run()? == 0, "a sweep leaves nothing stale behind");
        Ok(())
    }

    /// Opens a flow by real packets, until both its copies are in.
    pub fn open(&mut self, kind: Kind) -> Result<Flow> {
        self.next_client = self.next_client.checked_add(1).unwrap_or(20_000);
        let client = Endpoint { addr: host(kind.v6, 1, 9), port: self.next_client };
        let syn = Tcp { flags: TcpFlags::SYN, numbers: (1000, 0), payload: b"" };
        let mut flow = Flow { kind, ends: [(client, kind.vip()), (kind.server(), client)] };
        let first = self.pass(CLIENTS, flow.frame(CLIENTS, &syn))?.context("a first packet is forwarded")?;
        let (source, server) = ends(&first)?;
        flow.ends[1] = (server, source);
        let syn_ack = TcpFlags::SYN.with(TcpFlags::ACK);
        let answer = Tcp { flags: syn_ack, numbers: (5000, 1001), payload: b"" };
        self.pass(SERVERS, flow.frame(SERVERS, &answer))?.context("an answer is forwarded")?;
        let ack = Tcp { flags: TcpFlags::ACK, numbers: (1001, 5001), payload: b"" };
        self.pass(CLIENTS, flow.frame(CLIENTS, &ack))?.context("the client's answer is forwarded")?;
        for side in [CLIENTS, SERVERS] {
            ensure!(self.entry(&flow, side)?.is_some(), "no copy of {flow:?} for packets from port {}", side.0);
        }
        Ok(flow)
    }

    /// The copy for packets that come in by `side`.
    pub fn entry(&mut self, flow: &Flow, side: PortId) -> Result<Option<Entry>> {
        Ok(self.feed.maps().read(&flow.key(side))?)
    }

    /// Runs both programs on a frame and asks the engine about it. Answers what
    /// the tc program made of it.
    pub fn compare(&mut self, port: PortId, frame: &[u8]) -> Result<Fate> {
        self.compare_segments(port, frame, 0)
    }

    /// [`Lab::compare`] with a super-packet whose segments carry so much.
    pub fn compare_segments(&mut self, port: PortId, frame: &[u8], segment: u16) -> Result<Fate> {
        let tc = self.run(Which::Tc, frame, segment)?;
        if segment == 0 {
            let xdp = self.run(Which::Xdp, frame, 0)?;
            ensure!(xdp == tc, "tc: {}\nXDP: {}", show(&tc), show(&xdp));
        }
        self.report(frame)?;
        let leaves = self.interface_of(frame)?;
        let mut bytes = frame.to_vec();
        let gso_type = if segment == 0 { 0 } else { 1 };
        let offload = Offload { gso_type, segment_size: segment, ..Offload::default() };
        let verdict = self.engine.handle_frame(self.now, Frame { port, offload, bytes: &mut bytes });
        match &tc {
            Fate::Forward(left) => {
                let Verdict::Forward(out) = verdict else {
                    anyhow::bail!("the program forwards what the engine does not: {verdict:?}")
                };
                ensure!(*left == bytes, "program {}\nengine  {}", hex(left), hex(&bytes));
                ensure!(
                    leaves == Some(INTERFACES[usize::from(out.0)]),
                    "it leaves by {leaves:?}, not by port {}",
                    out.0
                );
                self.forwarded += 1;
            }
            Fate::Up(_) | Fate::Taken(_) => {}
            Fate::Drop(reason) => {
                ensure!(
                    verdict == Verdict::Drop(Drop::GateClosed),
                    "the program drops ({reason:?}), the engine: {verdict:?}"
                );
            }
        }
        self.settle()?;
        Ok(tc)
    }

    fn counts(&mut self, which: Which) -> Result<Vec<u64>> {
        Reason::ALL.iter().map(|reason| Ok(self.feed.maps().count(which, *reason)?)).collect()
    }

    /// Runs one program on a frame.
    pub fn run(&mut self, which: Which, frame: &[u8], segment: u16) -> Result<Fate> {
        let before = self.counts(which)?;
        let mut out = vec![0; frame.len() + 256];
        let ran = self
            .programs
            .run(which, Trial { frame, segment, repeat: 1 }, &mut out)
            .with_context(|| format!("{which:?} on {}", hex(frame)))?;
        out.truncate(ran.len);
        let after = self.counts(which)?;
        let moved: Vec<Reason> = Reason::ALL
            .iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after)
            .map(|(&reason, _)| reason)
            .collect();
        self.seen.extend(&moved);
        match (which, ran.answer, &moved[..]) {
            (Which::Tc, TC_REDIRECT, []) | (Which::Xdp, XDP_REDIRECT, []) => Ok(Fate::Forward(out)),
            (Which::Tc, TC_REDIRECT, &[reason]) => {
                ensure!(out == frame, "{reason:?}: what is taken was changed: {} to {}", hex(frame), hex(&out));
                Ok(Fate::Taken(reason))
            }
            (Which::Tc, TC_NEXT, &[reason]) | (Which::Xdp, XDP_PASS, &[reason]) => {
                ensure!(out == frame, "{reason:?}: what goes up was changed: {} to {}", hex(frame), hex(&out));
                Ok(Fate::Up(reason))
            }
            (Which::Tc, TC_SHOT, &[reason]) | (Which::Xdp, XDP_DROP, &[reason]) => Ok(Fate::Drop(reason)),
            (_, answer, moved) => anyhow::bail!("{which:?} answers {answer} and counts {moved:?} for {}", hex(frame)),
        }
    }

    /// Where the copy for `frame` lets it leave.
    fn interface_of(&mut self, frame: &[u8]) -> Result<Option<u32>> {
        let Some(key) = key_of(frame) else { return Ok(None) };
        let key = Key::new(key.proto, 0, key.src, key.dst);
        Ok(self.feed.maps().read(&key)?.map(|entry| entry.interface))
    }

    /// Tells the engine what the copy for this frame has seen before the frame is handed in. (The driver asks both copies of a flow, and only
    /// for what may end it.) The programs have seen the frame
    /// itself already, on its behalf: the engine must not be told of that.
    fn report(&mut self, frame: &[u8]) -> Result<()> {
        let Some(key) = key_of(frame) else { return Ok(()) };
        if let Some(report) = self.feed.report_one(&key)? {
            self.engine.handle_use(self.now, &OffloadUse { used: Some(self.now), ..report });
        }
        Ok(())
    }

    /// Hands a frame to the engine; answers its bytes if it (or what waited for a neighbour) leaves.
    pub fn pass(&mut self, port: PortId, mut bytes: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let frame = Frame { port, offload: Offload::default(), bytes: &mut bytes };
        let verdict = self.engine.handle_frame(self.now, frame);
        let released = self.settle()?;
        Ok(if let Verdict::Forward(_) = verdict { Some(bytes) } else { released.into_iter().next() })
    }

    /// Drains the engine: hosts answer who asks for them, orders are carried out.
    pub fn settle(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut left = Vec::new();
        while let Some(frame) = self.engine.poll_transmit() {
            match answer(&frame) {
                Some(mut bytes) => {
                    let offload = Offload::default();
                    self.engine.handle_frame(self.now, Frame { port: frame.port, offload, bytes: &mut bytes });
                }
                None if is_talk(&frame.bytes) => left.push(frame.bytes),
                None => {}
            }
        }
        let mut uses = Vec::new();
        while let Some(order) = self.engine.poll_offload(self.now) {
            self.feed.order(order, &mut uses)?;
        }
        self.feed.flush()?;
        for report in uses {
            self.engine.handle_use(self.now, &report);
        }
        Ok(left)
    }
}

/// The link from the host behind `side` to the node.
pub fn link(side: PortId) -> Link {
    Link::new(OWN[usize::from(side.0)], HOSTS[usize::from(side.0)])
}

/// An address: net 1 is the clients', net 2 the servers'.
pub fn host(v6: bool, net: u8, last: u8) -> Addr {
    if v6 { Addr([0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]) } else { Addr::v4([10, net, 0, last]) }
}

fn ends(frame: &[u8]) -> Result<(Endpoint, Endpoint)> {
    let key = key_of(frame).context("an IP packet")?;
    Ok((key.src, key.dst))
}

fn key_of(frame: &[u8]) -> Option<FlowKey> {
    match parse(frame) {
        Ok((_, Parsed::Ip(packet))) => {
            Some(FlowKey { proto: packet.proto, l2: L2Disc(0), src: packet.source(), dst: packet.destination() })
        }
        Ok((_, Parsed::Arp(_) | Parsed::Other)) | Err(_) => None,
    }
}

/// Whether it is a flow's packet: the node also says things of its own.
fn is_talk(frame: &[u8]) -> bool {
    key_of(frame).is_some_and(|key| matches!(key.proto, proto::TCP | proto::UDP))
}

/// What the host that is asked for answers.
fn answer(asked: &OwnedFrame) -> Option<Vec<u8>> {
    let mut bytes = vec![0; build::MAX_REPLY];
    let (ethernet, parsed) = parse(&asked.bytes[..]).ok()?;
    let mac = HOSTS[usize::from(asked.port.0)];
    let net = asked.port.0 + 1;
    let on_this_port = |addr: Addr| addr.masked(24) == host(false, net, 0) || addr.masked(64) == host(true, net, 0);
    let len = match parsed {
        Parsed::Arp(arp) if arp.sender != arp.target && on_this_port(arp.target) => {
            build::arp_reply(&mut bytes, Link::new(ethernet.src, mac), arp.target, arp.sender)
        }
        Parsed::Ip(packet) => {
            let Transport::NeighbourSolicitation(wanted) = packet.transport else { return None };
            if !on_this_port(wanted.target) {
                return None;
            }
            build::neighbour_advertisement(&mut bytes, Link::new(ethernet.src, mac), wanted.target, packet.src)
        }
        Parsed::Arp(_) | Parsed::Other => return None,
    };
    bytes.truncate(len);
    Some(bytes)
}

/// Kinds of vserver: one for each IP version, with and without USIP.
fn kinds() -> impl Iterator<Item = (u32, Kind)> {
    (0..).zip(Kind::all().filter(|kind| !kind.udp))
}

fn plan() -> Plan {
    let idle = Duration::from_secs(9000);
    let service = |(number, kind): (u32, Kind)| Service {
        id: ServiceId(number),
        server: kind.server(),
        kind: VserverKind::Any,
        hash_id: 0,
        usip: kind.usip,
        enabled: true,
        leaving: false,
        server_idle: idle,
        surge: None,
        max_clients: 0,
    };
    let vserver = |(number, kind): (u32, Kind)| Vserver {
        id: VserverId(number),
        addr: kind.vip().addr,
        port: kind.vip().port,
        kind: VserverKind::Any,
        enabled: true,
        method: Method::RoundRobin,
        persistence: None,
        failover: ConnFailover::Disabled,
        ftp: false,
        one_answer: false,
        listens: true,
        spill: Spill::default(),
        client_idle: idle,
        services: vec![Binding { service: ServiceId(number), weight: 1 }],
    };
    let floating = |v6: bool, net, last, kind| {
        let prefix_len = if v6 { 64 } else { 24 };
        FloatingAddress { addr: host(v6, net, last), prefix_len, kind, arp: true, icmp: true }
    };
    let addresses = [false, true].into_iter().flat_map(|v6| {
        [
            floating(v6, 1, 100, FloatingKind::Vip),
            floating(v6, 1, 5, FloatingKind::Snip),
            floating(v6, 2, 5, FloatingKind::Snip),
        ]
    });
    Plan {
        epoch: 1,
        addresses: addresses.collect(),
        routes: Vec::new(),
        vservers: kinds().map(vserver).collect(),
        services: kinds().map(service).collect(),
        l3_mode: true,
    }
}

fn show(fate: &Fate) -> String {
    match fate {
        Fate::Forward(bytes) => format!("forward {}", hex(bytes)),
        Fate::Up(reason) => format!("up, {}", reason.label()),
        Fate::Taken(reason) => format!("to the engine, {}", reason.label()),
        Fate::Drop(reason) => format!("drop, {}", reason.label()),
    }
}

/// For messages.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
