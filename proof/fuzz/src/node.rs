//! A node, or a pair of them, under datagrams and events chosen by the input.
//!
//! A peer's messages are closed by a real peer, a second node that has a session
//! with the first: so they get past the tag, and every byte behind it is the
//! input's. Steps of handshakes are written by their drawing in `docs/ha.md`.

use holdfast_base::{Duration, Instant};
use holdfast_engine::{Frame, Limits, Port, PortId};
use holdfast_node::{Effect, Node, NodeOptions, PortState, ProbeOutcome, StreamEvent};

use crate::config::CONFIG;
use crate::frames::{self, OWN_MACS};
use crate::{Input, ha, mirror};

/// Events of one input at most.
const MAX_STEPS: usize = 400;
/// Frames and effects that may follow one event.
const MAX_OUTPUTS: usize = 10_000;
/// Datagrams in flight that a pair remembers.
const MAX_IN_FLIGHT: usize = 64;
const KEY: [u8; 32] = [0x5a; 32];
const MAGIC_AND_VERSION: [u8; 3] = [b'H', b'F', 2];
const HEADER_LEN: usize = 64;
const STEP_LEN: usize = 80;
const HANDSHAKE: u8 = 6;
/// `boot` of the node that hears.
const BOOT: u64 = 0x1111;
/// Steps of one input at most.
const MAX_HANDSHAKE_STEPS: usize = 16;

/// Gives `data` to a node as a datagram: bare, and as the contents of a closed
/// envelope from the peer (1 byte kind, 1 byte term, then the payload).
pub fn node_envelope(data: &[u8]) {
    let mut one = One::new(0, BOOT);
    one.turn(|node, now| node.handle_peer_datagram(now, data));
    let mut pair = met();
    let [one, peer] = &mut pair.nodes;
    let mut input = Input(data);
    let (kind, term) = (input.u8() % 8, u64::from(input.u8()));
    for _ in 0..3 {
        if let Some(closed) = peer.node.close_for_peer(kind, term, input.0) {
            one.turn(|node, now| node.handle_peer_datagram(now, &closed));
        }
        one.now = one.now + Duration::from_millis(100);
        one.turn(|_, _| {});
    }
}

/// A pair whose nodes have a session.
fn met() -> Pair {
    let mut pair = Pair { nodes: [One::new(0, BOOT), One::new(1, 0x2222)], in_flight: Default::default() };
    for _ in 0..3 {
        pair.pass(50);
        while !pair.in_flight.is_empty() {
            pair.deliver(None);
        }
    }
    pair
}

/// Reads `data` as steps of handshakes of a stranger who has heard the node's
/// cookie: 1 byte who hears and whether the cookie is right, then the step.
pub fn peer_steps(data: &[u8]) {
    let mut nodes = [One::new(0, BOOT), One::new(1, 0x2222)];
    let mut input = Input(data);
    for _ in 0..MAX_HANDSHAKE_STEPS {
        if input.is_empty() {
            break;
        }
        let flags = input.u8();
        let (one, from) = (&mut nodes[usize::from(flags & 1)], [2, 1][usize::from(flags & 1)]);
        one.now = one.now + Duration::from_millis(60);
        one.turn(|_, _| {});
        let said = |from: usize| one.sent.last().and_then(|hail| hail.get(from..from + 8)).map(<[u8]>::to_vec);
        let (Some(boot), Some(cookie)) = (said(8), said(HEADER_LEN + 8)) else { continue };
        let mut step = input.take(STEP_LEN).to_vec();
        if flags & 2 != 0 && step.len() >= 24 {
            step[16..24].copy_from_slice(&cookie);
        }
        let mut datagram = Vec::from(MAGIC_AND_VERSION);
        datagram.push(HANDSHAKE);
        datagram.extend([0; 4]);
        datagram.extend([0, 0, 0, 0, 0, 0, 0x33, flags]);
        datagram.extend(boot);
        datagram.extend([0; 16]);
        datagram.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 3, from]);
        datagram.extend([0; 8]);
        assert_eq!(datagram.len(), HEADER_LEN);
        datagram.extend(step);
        one.sent.clear();
        one.turn(|node, now| node.handle_peer_datagram(now, &datagram));
        // Without the password there is no session, whatever is said.
        assert!(one.node.close_for_peer(1, 1, &[]).is_none());
        for answer in &one.sent {
            assert!(answer.len() <= HEADER_LEN + STEP_LEN);
        }
    }
}

/// Hails, offers, answers, refusals.
pub fn step_seeds() -> Vec<Vec<u8>> {
    // The base point of the group (RFC 9496, A.1).
    let point: Vec<u8> = "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"
        .as_bytes()
        .chunks(2)
        .filter_map(|digits| u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    let step = |flags: u8, kind: u8| {
        let mut bytes = vec![flags, kind, 1, 2, 0, 0, 0, 0, 0];
        bytes.extend([kind; 24]);
        bytes.extend(&point);
        bytes.extend([9; 16]);
        bytes
    };
    let alone = (0..4).flat_map(|flags| (1..=4).map(move |kind| step(flags, kind)));
    let talk = [step(3, 1), step(3, 3), step(2, 2), step(2, 2), step(2, 4)].concat();
    alone.chain([talk]).collect()
}

/// Reads `data` as a list of events for a pair of nodes.
pub fn node_scenario(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> Pair {
    let mut input = Input(data);
    let mut pair = Pair { nodes: [One::new(0, 0x1111), One::new(1, 0x2222)], in_flight: Default::default() };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        pair.step(&mut input);
    }
    pair
}

/// A node and its driver.
struct One {
    node: Node,
    now: Instant,
    /// Datagrams for the peer that have left the node.
    sent: Vec<Vec<u8>>,
    probes: Vec<u64>,
}

impl One {
    fn new(index: u8, boot: u64) -> One {
        let config = if index == 0 { CONFIG.to_owned() } else { mirror_image() };
        let config: Vec<&str> = config.lines().take_while(|line| !line.starts_with("add server pool")).collect();
        let now = Instant::from_nanos(1_000_000_000);
        let options = NodeOptions {
            boot,
            seed: 7,
            secret: [boot as u8; 32],
            password_key: [index; 32],
            stored_term: 0,
            config: config.join("\n"),
            limits: Limits { max_flows: 64, max_neighbours: 64, max_persistence: 16, ..Limits::default() },
            unix_nanos_at_origin: 1_700_000_000_000_000_000,
            host_name: "fuzz".into(),
        };
        let node = Node::new(now, options).unwrap_or_else(|error| panic!("line {}: {}", error.line, error.error));
        let mut one = One { node, now, sent: Vec::new(), probes: Vec::new() };
        let port = |id: u8| PortState {
            port: Some(Port { id: PortId(id), mac: OWN_MACS[usize::from(id)], mtu: 1500 }),
            id: format!("1/{}", id + 1),
            device: format!("eth{}", id + 1),
            up: true,
        };
        one.turn(|node, now| node.handle_ports(now, vec![port(0), port(1)]));
        one
    }

    /// One turn of the driver, with `event` in its middle.
    fn turn(&mut self, event: impl FnOnce(&mut Node, Instant)) {
        self.node.handle_turn(self.now);
        event(&mut self.node, self.now);
        self.node.handle_timeout(self.now);
        for _ in 0..MAX_OUTPUTS {
            if let Some(frame) = self.node.poll_frame() {
                self.node.recycle(frame.bytes);
            } else if let Some(effect) = self.node.poll_effect() {
                self.carry_out(effect);
            } else {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::PeerDatagram(bytes) => self.sent.push(bytes),
            Effect::StoreTerm(term) => self.node.handle_term_stored(self.now, term),
            Effect::StoreConfig { request, .. } => self.node.handle_config_stored(self.now, request, Ok(())),
            Effect::DeriveKey { request, .. } => self.node.handle_peer_key(self.now, request, KEY),
            Effect::Probe(probe) => self.probes.push(probe.id),
            Effect::PeerLink(_)
            | Effect::Interfaces(_)
            | Effect::Guard { .. }
            | Effect::Reply(_)
            | Effect::Event(..)
            | Effect::Witness(_)
            | Effect::Hook(_)
            | Effect::FloatingMacs(_)
            | Effect::Stopped => {}
        }
    }
}

/// The other node's `ns.conf`.
fn mirror_image() -> String {
    CONFIG
        .replace("-IPAddress 10.0.3.1", "-IPAddress 10.0.3.2")
        .replace("add HA node 1 10.0.3.2", "add HA node 1 10.0.3.1")
}

/// Two nodes with a hostile wire between them.
struct Pair {
    nodes: [One; 2],
    /// Datagrams on their way: whom for, and what.
    in_flight: std::collections::VecDeque<(usize, Vec<u8>)>,
}

impl Pair {
    /// An event: 1 byte of kind, the node in its lowest bit, then its argument.
    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        let at = usize::from(kind & 1);
        match kind >> 1 {
            0..=39 => self.pass(u64::from(input.u8()) + 1),
            40..=69 => self.deliver(None),
            70..=74 => drop(self.in_flight.pop_front()),
            75..=79 => {
                let flip = (usize::from(input.be16()), input.u8());
                self.deliver(Some(flip));
            }
            80..=84 => {
                let again = self.in_flight.front().cloned();
                self.in_flight.extend(again);
            }
            85..=104 => {
                let (port, len) = (input.u8() & 1, usize::from(input.be16()));
                let mut bytes = input.take(len).to_vec();
                self.event(at, |node, now| {
                    node.handle_frame(
                        now,
                        Frame { port: PortId(port), offload: Default::default(), bytes: &mut bytes },
                    );
                });
            }
            105..=106 => self.event(at, |node, now| node.handle_peer_stream(now, StreamEvent::Closed)),
            107 => self.event(at, |node, now| node.handle_peer_stream(now, StreamEvent::Cut)),
            108..=109 => {
                let round_trip = Duration::from_millis(input.u8().into());
                self.event(at, |node, now| node.handle_peer_stream(now, StreamEvent::Open { round_trip }));
            }
            110..=114 => {
                let ok = input.u8() & 1 == 0;
                let outcome = ProbeOutcome { ok, text: "fuzz".into(), took: Duration::from_millis(1) };
                if let Some(id) = self.nodes[at].probes.pop() {
                    self.event(at, |node, now| node.handle_probe_outcome(now, id, outcome));
                }
            }
            115..=122 => {
                let line = COMMANDS[usize::from(input.u8()) % COMMANDS.len()];
                let json = input.u8() & 1 != 0;
                self.event(at, |node, now| node.handle_command(now, 1, line, json));
            }
            123 => self.event(at, |node, now| node.handle_stop(now)),
            124 => {
                let term = input.be64();
                self.event(at, |node, now| node.handle_term_stored(now, term));
            }
            125 => {
                let boot = input.be64().max(3);
                let now = self.nodes[at].now;
                self.nodes[at] = One::new(at as u8, boot);
                self.nodes[at].now = now;
            }
            _ => self.pass(u64::from(input.be16())),
        }
    }

    /// Time passes for both, in turns of at most 50 ms; what is in flight stays.
    fn pass(&mut self, millis: u64) {
        let mut left = millis.min(5000);
        while left > 0 {
            let step = left.min(50);
            left -= step;
            for at in 0..2 {
                self.nodes[at].now = self.nodes[at].now + Duration::from_millis(step);
                self.event(at, |_, _| {});
            }
        }
    }

    /// The oldest datagram arrives, perhaps bent.
    fn deliver(&mut self, flip: Option<(usize, u8)>) {
        let Some((to, mut bytes)) = self.in_flight.pop_front() else { return };
        if let Some((at, bits)) = flip {
            let at = at % bytes.len().max(1);
            bytes[at] ^= bits;
        }
        self.event(to, |node, now| node.handle_peer_datagram(now, &bytes));
    }

    fn event(&mut self, at: usize, event: impl FnOnce(&mut Node, Instant)) {
        self.nodes[at].turn(event);
        for bytes in self.nodes[at].sent.drain(..) {
            if self.in_flight.len() < MAX_IN_FLIGHT {
                self.in_flight.push_back((1 - at, bytes));
            }
        }
    }
}

const COMMANDS: &[&str] = &[
    "show ha node",
    "show ns connectiontable",
    "show lb vserver",
    "show service",
    "stat lb vserver",
    "force HA failover -force",
    "set HA node -haStatus STAYSECONDARY",
    "set HA node -haStatus ENABLED",
    "rm HA node 1",
    "add HA node 1 10.0.3.2",
    "add server late 10.0.2.77",
    "rm lb vserver web4",
    "set lb vserver web6 -connFailover DISABLED",
    "disable service web-v6",
    "save ns config",
    "set ns rpcNode 10.0.3.2 -password another-horse",
];

/// Hellos and mirror messages as contents of an envelope.
pub fn envelope_seeds() -> Vec<Vec<u8>> {
    let kinds = [
        (1, ha::seeds()),
        (2, [mirror::data_seeds(), mirror::later_seeds()].concat()),
        (3, mirror::ack_seeds()),
        (4, vec![vec![0, 0, 0, 5]]),
        (6, step_seeds().into_iter().map(|step| step[1..].to_vec()).collect()),
    ];
    kinds
        .into_iter()
        .flat_map(|(kind, payloads)| payloads.into_iter().map(move |payload| [&[kind, 1][..], &payload].concat()))
        .collect()
}

/// A pair that finds each other, serves a client, and loses a node.
pub fn scenario_seeds() -> Vec<Vec<u8>> {
    const DELIVER: u8 = 80;
    const PASS: u8 = 0;
    let mut calm = Vec::new();
    // Until they have a session, there is more to say.
    for _ in 0..4 {
        calm.extend([PASS, 99]);
        calm.extend([DELIVER; 30]);
    }
    for _ in 0..13 {
        calm.extend([PASS, 199]);
        calm.extend([DELIVER; 9]);
    }
    let mut busy = calm.clone();
    for _ in 0..4 {
        busy.extend([220, 0, 221, 0]);
    }
    for frame in frames::conversation(false) {
        let port = u8::from(frame[5] == OWN_MACS[1].0[5]);
        busy.extend([170, port]);
        busy.extend((frame.len() as u16).to_be_bytes());
        busy.extend(frame);
        busy.extend([DELIVER; 4]);
    }
    let mut lost = busy.clone();
    lost.extend([211, PASS, 200, 211, PASS, 250, PASS, 250]);
    let mut handed_over = busy.clone();
    handed_over.extend([230, 5, 0]);
    handed_over.extend(&calm[..80]);
    vec![calm, busy, lost, handed_over]
}

#[cfg(test)]
mod tests {
    use holdfast_ha::Role;

    use super::*;

    #[test]
    fn the_well_formed_scenarios_reach_what_they_are_for() {
        let seeds = scenario_seeds();
        let roles = |pair: &Pair| [pair.nodes[0].node.role(), pair.nodes[1].node.role()];
        let calm = play(&seeds[0]);
        assert!(roles(&calm).contains(&Role::Primary) && roles(&calm).contains(&Role::Secondary), "{:?}", roles(&calm));
        assert!(calm.nodes.iter().all(|one| one.node.caught_up()), "the pair is in step");
        let busy = play(&seeds[1]);
        assert!(busy.nodes.iter().any(|one| one.node.engine().counts().flows > 0), "flows are open");
    }

    #[test]
    fn a_closed_hello_is_heard() {
        let mut pair = met();
        let closed = pair.nodes[1].node.close_for_peer(1, 1, &ha::seeds()[0]).expect("a session");
        let refused =
            |one: &One| one.node.counter_lines().into_iter().find(|line| line.starts_with("peer channel refused"));
        let before = refused(&pair.nodes[0]);
        pair.event(0, |node, now| node.handle_peer_datagram(now, &closed));
        assert_eq!(refused(&pair.nodes[0]), before, "it is taken");
        pair.event(0, |node, now| node.handle_peer_datagram(now, &closed));
        assert_ne!(refused(&pair.nodes[0]), before, "and only once");
    }
}
