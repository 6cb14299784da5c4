//! The packet of an established TCP flow costs no allocation.
//!
//! A test binary of its own: it counts what the global allocator is asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use holdfast_base::{Duration, Instant};
use holdfast_engine::{
    Binding, ConnFailover, Engine, FloatingAddress, FloatingKind, Frame, Gate, Limits, Method, Offload, Plan, Port,
    PortId, Service, ServiceId, Spill, Verdict, Vserver, VserverId, VserverKind,
};
use holdfast_wire::build::{self, Link, Segment};
use holdfast_wire::{Addr, Endpoint, MacAddr, TcpFlags};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const PORT: PortId = PortId(0);

fn end(last: u8, net: u8, port: u16) -> Endpoint {
    Endpoint { addr: Addr::v4([10, 0, net, last]), port }
}

fn plan() -> Plan {
    let floating = |addr, kind| FloatingAddress { addr, prefix_len: 24, kind, arp: true, icmp: true };
    Plan {
        epoch: 1,
        addresses: vec![
            floating(end(1, 1, 0).addr, FloatingKind::Vip),
            floating(end(1, 2, 0).addr, FloatingKind::Snip),
        ],
        routes: Vec::new(),
        vservers: vec![Vserver {
            id: VserverId(1),
            addr: end(1, 1, 0).addr,
            port: 80,
            kind: VserverKind::Tcp,
            enabled: true,
            method: Method::RoundRobin,
            persistence: None,
            failover: ConnFailover::Stateful,
            ftp: false,
            one_answer: false,
            listens: true,
            spill: Spill::default(),
            client_idle: Duration::from_secs(60),
            services: vec![Binding { service: ServiceId(1), weight: 1 }],
        }],
        services: vec![Service {
            id: ServiceId(1),
            server: end(2, 2, 80),
            kind: VserverKind::Tcp,
            hash_id: 0,
            usip: false,
            enabled: true,
            leaving: false,
            server_idle: Duration::from_secs(60),
            surge: None,
            max_clients: 0,
        }],
        l3_mode: true,
    }
}

fn segment(mac: MacAddr, src: Endpoint, dst: Endpoint, flags: TcpFlags) -> Vec<u8> {
    let mut bytes = vec![0; 200];
    let segment = Segment { src, dst, seq: 1, ack: 1, flags, window: 1, mss: None, payload: b"x" };
    let len = build::tcp_segment(&mut bytes, Link::new(OWN_MAC, mac), &segment);
    bytes.truncate(len);
    bytes
}

#[test]
fn established_packets_allocate_nothing() {
    let now = Instant::from_nanos(5_000_000_000);
    let mut engine = Engine::new(now, Limits { max_flows: 1000, ..Limits::default() }, 1);
    engine.set_ports(&[Port { id: PORT, mac: OWN_MAC, mtu: 1500 }]);
    engine.set_plan(now, Arc::new(plan()));
    engine.set_health(now, ServiceId(1), true);
    engine.set_gate(now, Gate::Open);
    let give = |engine: &mut Engine, mut bytes: Vec<u8>| {
        let verdict = engine.handle_frame(now, Frame { port: PORT, offload: Offload::default(), bytes: &mut bytes });
        (verdict, bytes)
    };
    for (mac, who, ours) in [(CLIENT_MAC, end(9, 1, 0), end(1, 1, 0)), (SERVER_MAC, end(2, 2, 0), end(1, 2, 0))] {
        let mut ask = vec![0; 64];
        let len = build::arp_request(&mut ask, Link::new(MacAddr::BROADCAST, mac), who.addr, ours.addr);
        ask.truncate(len);
        assert_eq!(give(&mut engine, ask).0, Verdict::Consumed);
    }
    let (client, vip) = (end(9, 1, 4000), end(1, 1, 80));
    let (verdict, sent) = give(&mut engine, segment(CLIENT_MAC, client, vip, TcpFlags::SYN));
    assert_eq!(verdict, Verdict::Forward(PORT));
    let source = Endpoint { addr: end(1, 2, 0).addr, port: u16::from_be_bytes([sent[34], sent[35]]) };
    let server = end(2, 2, 80);
    give(&mut engine, segment(SERVER_MAC, server, source, TcpFlags::SYN.with(TcpFlags::ACK)));

    let mut up = segment(CLIENT_MAC, client, vip, TcpFlags::ACK);
    let mut down = segment(SERVER_MAC, server, source, TcpFlags::ACK);
    let (fresh_up, fresh_down) = (up.clone(), down.clone());
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        for (bytes, fresh) in [(&mut up, &fresh_up), (&mut down, &fresh_down)] {
            bytes.copy_from_slice(fresh);
            let frame = Frame { port: PORT, offload: Offload::default(), bytes };
            assert_eq!(engine.handle_frame(now, frame), Verdict::Forward(PORT));
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
