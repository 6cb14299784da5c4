//! What tests of the mirror stream and of offers have in common.

use core::time::Duration;
use std::sync::Arc;

use holdfast_base::Instant;
use holdfast_engine::{
    ConnFailover, Engine, FlowRecord, L2Disc, Limits, Method, Phase, Plan, Vserver, VserverId, VserverKind,
};
use holdfast_wire::{Addr, Endpoint};

/// Length of a turn.
pub(crate) const TURN: Duration = Duration::from_millis(1);

fn end(last: u8, port: u16) -> Endpoint {
    Endpoint { addr: Addr::from(core::net::IpAddr::from([192, 0, 2, last])), port }
}

/// A flow of the vserver of [`configure`].
pub(crate) fn flow(number: u16) -> FlowRecord {
    FlowRecord {
        stamp: u64::from(number) + 1,
        proto: 6,
        l2: L2Disc(0),
        client: end(10, number),
        vip: end(1, 80),
        server: end(20, 80),
        source: end(10, number),
        phase: Phase::Established,
        client_idle_s: 90,
        server_idle_s: 90,
    }
}

/// An engine with room for `max_flows`, and the vserver of all [`flow`]s.
pub(crate) fn engine(now: Instant, max_flows: u32, failover: ConnFailover) -> Engine {
    let mut engine = Engine::new(now, Limits { max_flows, ..Limits::default() }, 1);
    configure(now, &mut engine, failover);
    engine
}

/// The vserver of all [`flow`]s is configured so.
pub(crate) fn configure(now: Instant, engine: &mut Engine, failover: ConnFailover) {
    let vserver = Vserver {
        id: VserverId(1),
        kind: VserverKind::Tcp,
        addr: end(1, 80).addr,
        port: 80,
        method: Method::RoundRobin,
        persistence: None,
        failover,
        ftp: false,
        one_answer: false,
        listens: true,
        spill: holdfast_engine::Spill::default(),
        client_idle: Duration::from_secs(90),
        enabled: true,
        services: Vec::new(),
    };
    engine.set_plan(now, Arc::new(Plan { epoch: 1, vservers: vec![vserver], ..Plan::default() }));
}
