//! The established packet costs no memory: counted at the allocator.

use core::time::Duration;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use holdfast_base::Instant;
use holdfast_engine::{
    Binding, ConnFailover, Engine, FloatingAddress, FloatingKind, Frame, Gate, Limits, Method, Offload, Plan, Port,
    PortId, Service, ServiceId, Spill, Verdict, Vserver, VserverId, VserverKind,
};
use holdfast_wire::build::{self, Link};
use holdfast_wire::{Addr, Endpoint, MacAddr};

struct Counting;

thread_local! {
    /// The test runner's own threads allocate, too.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PORT: Port = Port { id: PortId(1), mac: MacAddr([2, 0, 0, 0, 1, 1]), mtu: 1500 };
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 7, 7]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const CLIENT: Endpoint = Endpoint { addr: Addr::v4([10, 0, 0, 7]), port: 40_000 };
const VIP: Endpoint = Endpoint { addr: Addr::v4([10, 0, 0, 100]), port: 53 };
const SERVER: Endpoint = Endpoint { addr: Addr::v4([10, 0, 0, 9]), port: 5_353 };
const SNIP: Addr = Addr::v4([10, 0, 0, 1]);

fn plan() -> Plan {
    let vip = FloatingAddress { addr: VIP.addr, prefix_len: 32, kind: FloatingKind::Vip, arp: true, icmp: true };
    let snip = FloatingAddress { addr: SNIP, prefix_len: 24, kind: FloatingKind::Snip, ..vip };
    let idle = Duration::from_secs(120);
    let vserver = Vserver {
        id: VserverId(1),
        addr: VIP.addr,
        port: VIP.port,
        kind: VserverKind::Udp,
        enabled: true,
        method: Method::RoundRobin,
        persistence: None,
        failover: ConnFailover::Disabled,
        ftp: false,
        one_answer: false,
        listens: true,
        spill: Spill::default(),
        client_idle: idle,
        services: vec![Binding { service: ServiceId(1), weight: 1 }],
    };
    let service = Service {
        id: ServiceId(1),
        server: SERVER,
        kind: VserverKind::Udp,
        hash_id: 0,
        usip: false,
        enabled: true,
        leaving: false,
        server_idle: idle,
        surge: None,
        max_clients: 0,
    };
    Plan { epoch: 1, addresses: vec![vip, snip], vservers: vec![vserver], services: vec![service], ..Plan::default() }
}

fn acquainted() -> Engine {
    let limits = Limits { max_flows: 1_024, max_persistence: 64, max_snat_pools: 64, ..Limits::default() };
    let mut engine = Engine::new(Instant::ZERO, limits, 1);
    engine.set_ports(&[PORT]);
    engine.set_plan(Instant::ZERO, Arc::new(plan()));
    engine.set_health(Instant::ZERO, ServiceId(1), true);
    engine.set_gate(Instant::ZERO, Gate::Open);
    for (addr, mac) in [(CLIENT.addr, CLIENT_MAC), (SERVER.addr, SERVER_MAC)] {
        let mut bytes = [0; 64];
        let len = build::arp_request(&mut bytes, Link::new(MacAddr::BROADCAST, mac), addr, SNIP);
        let frame = Frame { port: PORT.id, offload: Offload::default(), bytes: &mut bytes[..len] };
        assert_eq!(engine.handle_frame(Instant::ZERO, frame), Verdict::Consumed);
    }
    engine
}

#[test]
fn a_packet_of_a_known_flow_to_a_known_neighbour_allocates_nothing() {
    let mut engine = acquainted();
    let mut template = [0; 256];
    let len = build::udp_datagram(&mut template, Link::new(PORT.mac, CLIENT_MAC), CLIENT, VIP, &[7; 64]);
    let mut send = |millis: u64| {
        let mut bytes = template;
        let frame = Frame { port: PORT.id, offload: Offload::default(), bytes: &mut bytes[..len] };
        engine.handle_frame(Instant::from_nanos(millis * 1_000_000), frame)
    };
    assert_eq!(send(1), Verdict::Forward(PORT.id));
    let before = ALLOCATIONS.get();
    let forwarded = (2..10_000).filter(|&millis| send(millis) == Verdict::Forward(PORT.id)).count();
    let after = ALLOCATIONS.get();
    assert_eq!((forwarded, after - before), (9_998, 0));
}
