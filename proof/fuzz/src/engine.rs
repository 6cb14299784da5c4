//! Hostile frames through an engine with an open gate.
//!
//! An input is a list of pieces: a control byte, then its argument. See [`step`].

use std::sync::Arc;

use holdfast_base::{Duration, Instant};
use holdfast_engine::{
    Binding, BulkStep, ConnFailover, Engine, FloatingAddress, FloatingKind, Frame, Gate, Limits, Mark, Mask, Method,
    Mirroring, Offload, Persistence, PersistenceKind, Plan, Port, PortId, Route, Service, ServiceId, Spill, Verdict,
    Vserver, VserverId, VserverKind,
};
use holdfast_wire::{Endpoint, parse};

use crate::Input;
use crate::frames::{self, OWN_MACS, host, server, vip};

/// Pieces of one input at most.
const MAX_STEPS: usize = 64;
/// Frames that the engine may send of its own accord after one step.
const MAX_SENT: usize = 4096;

/// Reads `data` as pieces and plays them on an engine.
pub fn engine_frames(data: &[u8]) {
    let mut lab = play(data);
    lab.now = lab.now + Duration::from_secs(600);
    lab.engine.handle_timeout(lab.now);
    lab.drain();
}

fn play(data: &[u8]) -> Lab {
    let mut input = Input(data);
    let options = input.u8();
    let mut lab = Lab::new(options);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        lab.step(&mut input);
        lab.drain();
    }
    lab
}

struct Lab {
    engine: Engine,
    now: Instant,
    marks: Vec<Mark>,
    /// Frames that went straight through.
    forwarded: u32,
}

impl Lab {
    /// Bits of `options`: 0 strict mirroring, 1 USIP, 2–3 failover mode, 4 persistence, 5 by both addresses.
    fn new(options: u8) -> Lab {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut engine = Engine::new(now, limits(), 42);
        let port = |id: u8| Port { id: PortId(id), mac: OWN_MACS[usize::from(id)], mtu: 1500 };
        engine.set_ports(&[port(0), port(1)]);
        engine.set_plan(now, Arc::new(plan(options)));
        for id in 0..4 {
            engine.set_health(now, ServiceId(id), true);
        }
        engine.set_gate(now, Gate::Open);
        engine.promote(now);
        if options & 1 != 0 {
            engine.set_mirroring(now, Mirroring::On { session: 1, strict: true });
        }
        Lab { engine, now, marks: Vec::new(), forwarded: 0 }
    }

    /// Control byte: 0..=199 a frame (bit 0 port, bit 1 partial checksum, bit 2
    /// GSO; then its length in 2 bytes and its bytes), 200..=219 time passes (2
    /// bytes of milliseconds), 220..=239 the oldest mark is acknowledged, above:
    /// a slice of bulk, of listing, another gate.
    fn step(&mut self, input: &mut Input<'_>) {
        let control = input.u8();
        match control {
            0..=199 => self.frame(control, input),
            200..=219 => {
                self.now = self.now + Duration::from_millis(input.be16().into());
                self.engine.handle_timeout(self.now);
            }
            220..=239 => self.acknowledge(),
            240..=244 => {
                let mut cursor = u32::from(input.u8());
                while let BulkStep::Flow(flow) = self.engine.next_for_bulk(&mut cursor, 16) {
                    let _ = self.engine.record(flow);
                }
            }
            245..=249 => {
                let (mut cursor, mut rows) = (u32::from(input.u8()), Vec::new());
                self.engine.connections(self.now, &mut cursor, 64, &mut rows);
                let _ = (self.engine.counts(), self.engine.neighbours());
            }
            250 => self.engine.set_gate(self.now, Gate::Draining),
            251 => self.engine.set_gate(self.now, Gate::Closed),
            _ => self.engine.set_gate(self.now, Gate::Open),
        }
    }

    fn frame(&mut self, control: u8, input: &mut Input<'_>) {
        let len = usize::from(input.be16());
        let mut bytes = input.take(len).to_vec();
        let mut offload = Offload::default();
        if control & 2 != 0 {
            offload = Offload { flags: Offload::NEEDS_CHECKSUM, checksum_start: 34, checksum_offset: 16, ..offload };
        }
        if control & 4 != 0 {
            offload = Offload { gso_type: 1, segment_size: 1400, header_len: 54, ..offload };
        }
        let frame = Frame { port: PortId(control & 1), offload, bytes: &mut bytes };
        if let Verdict::Forward(port) = self.engine.handle_frame(self.now, frame) {
            self.forwarded += 1;
            assert!(port.0 < 2, "only ports that exist");
            assert!(parse(&bytes[..]).is_ok(), "what is forwarded still parses");
        }
    }

    /// As the peer does: the record is written, then acknowledged.
    fn acknowledge(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        if let Mark::Flow(flow) = self.marks.remove(0)
            && let Some(record) = self.engine.record(flow)
        {
            self.engine.handle_ack(self.now, flow, record.stamp);
        }
    }

    fn drain(&mut self) {
        while let Some(mark) = self.engine.poll_mark() {
            self.marks.push(mark);
        }
        for _ in 0..MAX_SENT {
            let Some(frame) = self.engine.poll_transmit() else { return };
            assert!(parse(&frame.bytes[..]).is_ok(), "what is sent parses");
            self.engine.recycle(frame.bytes);
        }
        panic!("the engine does not stop sending");
    }
}

fn limits() -> Limits {
    Limits {
        max_flows: 8,
        hold_packets_per_flow: 3,
        held_bytes: 16 << 10,
        max_persistence: 4,
        max_snat_pools: 4,
        max_neighbours: 8,
        neighbour_queue: 2,
        ..Limits::default()
    }
}

/// Web (TCP), names (UDP) and everything else (ANY) in both IP versions.
fn plan(options: u8) -> Plan {
    let floating = |addr, kind| FloatingAddress {
        prefix_len: if holdfast_wire::Addr::is_v4(addr) { 24 } else { 64 },
        addr,
        kind,
        arp: true,
        icmp: true,
    };
    let failover = [ConnFailover::Disabled, ConnFailover::Stateful, ConnFailover::Stateless, ConnFailover::Stateful];
    let mut plan = Plan { epoch: 1, l3_mode: true, ..Plan::default() };
    for (index, v6) in [(0, false), (2, true)] {
        plan.addresses.push(floating(vip(v6).addr, FloatingKind::Vip));
        plan.addresses.push(floating(host(v6, 1, 5), FloatingKind::Snip));
        plan.addresses.push(floating(host(v6, 2, 5), FloatingKind::Snip));
        plan.routes.push(Route { network: host(v6, 9, 0), prefix_len: 16, gateway: host(v6, 1, 1) });
        for (offset, port, kind) in [(0, 80, VserverKind::Tcp), (1, 0, VserverKind::Any)] {
            let id = index + offset;
            plan.services.push(Service {
                id: ServiceId(id),
                server: Endpoint { port, ..server(v6) },
                kind,
                hash_id: 0,
                usip: options & 2 != 0,
                enabled: true,
                leaving: false,
                server_idle: Duration::from_secs(300),
                surge: None,
                max_clients: 0,
            });
            plan.vservers.push(Vserver {
                id: VserverId(id),
                addr: vip(v6).addr,
                port,
                kind,
                enabled: true,
                method: Method::SourceIpHash(Mask::WHOLE),
                persistence: (options & 16 != 0).then_some(Persistence {
                    kind: if options & 32 == 0 { PersistenceKind::Source } else { PersistenceKind::Both },
                    mask: Mask { v4: 24, v6: 64 },
                    timeout: Duration::from_secs(120),
                }),
                failover: failover[usize::from(options >> 2 & 3)],
                ftp: false,
                one_answer: false,
                listens: true,
                spill: Spill::default(),
                client_idle: Duration::from_secs(180),
                services: vec![Binding { service: ServiceId(id), weight: 1 }],
            });
        }
    }
    plan
}

/// Conversations, with every set of options.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..64).map(|options| conversation(options, options & 1 != 0)).collect()
}

fn conversation(options: u8, v6: bool) -> Vec<u8> {
    let mut out = vec![options];
    for frame in frames::conversation(v6) {
        let from_server = frame[5] == OWN_MACS[1].0[5];
        out.push(u8::from(from_server));
        out.extend((frame.len() as u16).to_be_bytes());
        out.extend(frame);
        out.extend([220, 200, 0, 10]);
    }
    out.extend([240, 0, 245, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversations_open_flows_and_get_through() {
        for data in seeds() {
            let lab = play(&data);
            assert!(lab.engine.counts().flows > 0, "options {:#b}", data[0]);
            assert!(lab.forwarded > 1, "options {:#b}", data[0]);
        }
    }
}
