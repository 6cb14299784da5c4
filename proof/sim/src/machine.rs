//! One simulated computer that runs the production `Node`.
//!
//! It plays the daemon's part: stamps time, feeds inputs, drains outputs, and
//! carries out slow work (disk, key derivation, probes) with a delay.

use holdfast_base::{Instant, StableHasher};
use holdfast_engine::{Drop, Frame, Limits, Offload, Port, PortId, Verdict};
use holdfast_ha::{Role, WitnessAnswer};
use holdfast_node::{
    Effect, HookRun, Level, Node, NodeOptions, PortState, ProbeOutcome, ProbeRequest, Reply, StreamEvent, WitnessCall,
};
use holdfast_wire::MacAddr;

use crate::kernel::{Fate, Kernel};

/// Data ports of each machine: client side and server side.
pub const PORTS: [(&str, &str); 2] = [("1/1", "client-side"), ("1/2", "server-side")];

/// Something that reaches a running process.
#[derive(Clone, Debug)]
pub enum Input {
    /// A frame on a data port.
    Frame(PortId, Vec<u8>),
    /// A datagram on the peer link.
    Peer(Vec<u8>),
    /// The idle connection.
    Stream(StreamEvent),
    /// The disk is done.
    TermStored(u64),
    /// The disk is done, or was full.
    ConfigStored(u64, bool),
    /// The key is ready.
    Key(u64, [u8; 32]),
    /// A probe has ended.
    Probe(u64, ProbeOutcome),
    /// The witness has answered, or has not.
    Witness(u32, WitnessAnswer),
    /// The state of the data ports.
    Ports,
    /// A command of the operator.
    Command(u64, String),
    /// SIGTERM.
    Stop,
    /// Nothing but time.
    Timer,
}

/// What a process wants from the world after a turn.
#[derive(Debug)]
pub enum Wish {
    /// Send a frame.
    Frame(PortId, Vec<u8>),
    /// Send a datagram on the peer link.
    Peer(Vec<u8>),
    /// Store a term.
    StoreTerm(u64),
    /// Store the configuration.
    StoreConfig(u64, String),
    /// Derive a key.
    Key(u64, [u8; 32]),
    /// Probe a service.
    Probe(ProbeRequest),
    /// Ask the witness.
    Witness(WitnessCall),
    /// Report the ports.
    Ports,
    /// The process ends.
    Stopped,
}

/// How the driver is broken on purpose, to see whether the checkers notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Not at all.
    #[default]
    None,
    /// The clock stands still while the process is frozen, so that no lease ends.
    ForgetLease,
    /// A term counts as stored although nothing was written.
    ForgetTerm,
    /// A node that takes over has lost every flow.
    ForgetFlows,
    /// A secondary that has caught up forgets what it acknowledged, a flow in each turn.
    DropRecords,
    /// Every answer of the witness is taken for a grant.
    EasyWitness,
}

/// What was true of a process when its last turn began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// It was primary or draining.
    pub serving: bool,
    /// Its lease had ended, by the world's clock.
    pub lapsed: bool,
    /// Lines of its log.
    pub logged: usize,
    /// Holds it had released without an ack.
    pub unprotected: u64,
    /// Flows of its peer that had found no room.
    pub without_room: u64,
    /// New flows that it had refused, since its table was full.
    pub refused: u64,
    /// Flows offered to it for which it had no room, and flows of its own that had to make room.
    pub squeezed: u64,
}

/// A computer and, while it runs, its process.
pub struct Machine {
    /// The beginning of its last turn.
    pub before: Before,
    /// On waking up it finds that its sockets had no room for the peer's messages.
    pub deaf_thaw: bool,
    /// The lease as the process gave it, and its end by the world's clock.
    lease: Option<(Instant, Instant)>,
    /// 0 or 1.
    pub index: usize,
    /// The process.
    pub node: Option<Node>,
    /// Its fast path, if it has one: known while the process runs.
    pub kernel: Option<Kernel>,
    /// It has a fast path.
    pub offloads: bool,
    /// Packets that never visited its process, in all lives.
    pub bypassed: u64,
    /// Lives so far.
    pub boot: u64,
    /// What its disk says.
    pub stored_term: u64,
    /// What its disk says.
    pub stored_config: String,
    /// No configuration can be stored.
    pub disk_full: bool,
    /// Not before then does the process get a turn.
    pub frozen_until: Option<Instant>,
    /// When it was last frozen.
    pub frozen_at: Instant,
    /// What arrived while it was frozen.
    pub backlog: Vec<Input>,
    /// Size of its flow table.
    pub max_flows: u32,
    /// Size of its persistence table.
    pub max_persistence: u32,
    /// How the driver is broken.
    pub sabotage: Sabotage,
    /// Time lost to freezes that a broken clock does not see.
    hidden: core::time::Duration,
    /// Answers to commands.
    pub replies: Vec<Reply>,
    /// Programs that the process wanted run.
    pub hooks: Vec<HookRun>,
    /// What reaches it on the peer link, if somebody listens there.
    pub overheard: Option<Vec<Vec<u8>>>,
    /// Which of its data ports have a carrier.
    pub carriers: [bool; 2],
    /// Ethernet addresses of its ports beside their own.
    pub floating_macs: Vec<MacAddr>,
    /// Which of them the configuration wants.
    wanted: Vec<String>,
    /// A flow of its peer found no room, in any life.
    pub ever_without_room: bool,
    /// Lines of the log, with their time.
    pub log: Vec<(Instant, Level, String)>,
    seed: u64,
}

impl Machine {
    /// A computer that is off.
    pub fn new(index: usize, config: String, seed: u64) -> Machine {
        Machine {
            before: Before::default(),
            deaf_thaw: false,
            lease: None,
            index,
            node: None,
            kernel: None,
            bypassed: 0,
            offloads: StableHasher::new(seed, 0x0ff1_0ad0 + index as u64).finish().is_multiple_of(2),
            boot: 0,
            stored_term: 0,
            stored_config: config,
            disk_full: false,
            frozen_until: None,
            frozen_at: Instant::ZERO,
            backlog: Vec::new(),
            max_flows: 2048,
            max_persistence: 512,
            sabotage: Sabotage::None,
            hidden: core::time::Duration::ZERO,
            replies: Vec::new(),
            hooks: Vec::new(),
            overheard: None,
            carriers: [true; 2],
            floating_macs: Vec::new(),
            wanted: Vec::new(),
            ever_without_room: false,
            log: Vec::new(),
            seed,
        }
    }

    /// Starts the process.
    pub fn start(&mut self, now: Instant) {
        self.boot += 1;
        self.wanted = PORTS.map(|(id, _)| id.to_owned()).to_vec();
        self.lease = None;
        self.frozen_until = None;
        self.backlog.clear();
        let limits = Limits {
            max_flows: self.max_flows,
            max_persistence: self.max_persistence,
            max_snat_pools: 256,
            max_neighbours: 256,
            ..Limits::default()
        };
        let mut hasher = StableHasher::new(self.seed, self.index as u64);
        let boot = hasher.write(&self.boot.to_be_bytes()).finish() | 1;
        let options = NodeOptions {
            boot,
            seed: boot.rotate_left(17),
            secret: secret(boot),
            password_key: [self.index as u8 + 1; 32],
            stored_term: self.stored_term,
            config: self.stored_config.clone(),
            limits,
            unix_nanos_at_origin: 1_700_000_000_000_000_000,
            host_name: format!("node-{}", self.index),
        };
        match Node::new(self.seen(now), options) {
            Ok(mut node) => {
                if self.offloads {
                    node.set_offload(self.seen(now), true);
                }
                self.kernel = self.offloads.then(Kernel::new);
                self.node = Some(node);
            }
            Err(error) => panic!("configuration of machine {}: line {}: {}", self.index, error.line, error.error),
        }
    }

    /// Stores a configuration. Whether there was room.
    pub fn store_config(&mut self, text: String) -> bool {
        if !self.disk_full {
            self.stored_config = text;
        }
        !self.disk_full
    }

    /// A frame comes in: what the kernel makes of it. Nothing of a process that is gone is left there.
    pub fn kernel_takes(&mut self, now: Instant, frame: &[u8]) -> Fate {
        let at = self.seen(now);
        let fate = self.kernel.as_mut().map_or(Fate::Up, |kernel| kernel.take(at, frame));
        self.bypassed += u64::from(matches!(fate, Fate::Forward(..)));
        fate
    }

    /// Ends the process at once.
    pub fn stop(&mut self) {
        self.node = None;
        self.kernel = None;
        self.frozen_until = None;
        self.backlog.clear();
    }

    /// Stops the process's clock turns until `until`.
    pub fn freeze(&mut self, now: Instant, until: Instant) {
        (self.frozen_at, self.frozen_until) = (now, Some(until));
        if self.sabotage == Sabotage::ForgetLease {
            self.hidden += until.since(now);
        }
    }

    /// Whether a flow of its peer found no room in its last turn, or had to make room for another.
    pub fn found_no_room(&self) -> bool {
        let Some(node) = &self.node else { return false };
        let lines = self.log.get(self.before.logged..).unwrap_or_default();
        node.engine().counters().record_full > self.before.without_room
            || lines.iter().any(|(_, _, text)| text.contains("had to make room"))
    }

    /// Whether it refused a new flow in its last turn, since its table is full.
    pub fn refused_a_flow(&self) -> bool {
        let refused = |node: &Node| node.engine().counters().drops(Drop::FlowTableFull) > self.before.refused;
        self.node.as_ref().is_some_and(refused)
    }

    /// Whether what only one side of a split had was lost in its last turn, since a table was full.
    pub fn was_squeezed(&self) -> bool {
        self.node.as_ref().is_some_and(|node| squeezed(node) > self.before.squeezed)
    }

    /// Whether it said in its last turn, leading, that a service went up or down.
    pub fn judged_a_service(&self) -> bool {
        let lines = self.log.get(self.before.logged..).unwrap_or_default();
        let judged = lines.iter().any(|(_, _, text)| text.starts_with("service "));
        judged && self.node.as_ref().is_some_and(|node| node.role() == Role::Primary)
    }

    /// Whether the process runs and is not frozen.
    pub fn is_awake(&self) -> bool {
        self.node.is_some() && self.frozen_until.is_none()
    }

    /// Ends a freeze; what arrived meanwhile.
    pub fn thaw(&mut self) -> Vec<Input> {
        self.frozen_until = None;
        let mut backlog = core::mem::take(&mut self.backlog);
        if self.deaf_thaw {
            backlog.retain(|input| match input {
                Input::Peer(_) => false,
                Input::Frame(_, bytes) => !crate::trace::is_peer(bytes),
                _ => true,
            });
        }
        backlog
    }

    /// One turn of the driver.
    pub fn turn(&mut self, now: Instant, inputs: Vec<Input>) -> Vec<Wish> {
        self.before = self.standing(now);
        let wishes = self.run(now, inputs);
        self.forget_flows(now);
        self.drop_records(now);
        self.ever_without_room |= self.found_no_room();
        let lease = self.node.as_ref().and_then(Node::lease_expiry);
        if lease != self.lease.map(|(said, _)| said) {
            self.lease = lease.map(|said| (said, said + self.hidden));
        }
        wishes
    }

    /// Broken on purpose: whoever has just taken over knows nothing.
    fn forget_flows(&mut self, now: Instant) {
        let (was_serving, at) = (self.before.serving, self.seen(now));
        let forgets = self.sabotage == Sabotage::ForgetFlows && !was_serving;
        if let Some(node) = self.node.as_mut().filter(|node| forgets && node.role() == Role::Primary) {
            while node.lose_a_flow(at) {}
        }
    }

    /// Broken on purpose: what was acknowledged is dropped.
    fn drop_records(&mut self, now: Instant) {
        let (drops, at) = (self.sabotage == Sabotage::DropRecords, self.seen(now));
        let follows = |node: &&mut Node| drops && node.role() == Role::Secondary && node.caught_up();
        if let Some(node) = self.node.as_mut().filter(follows) {
            node.lose_a_flow(at);
        }
    }

    fn standing(&self, now: Instant) -> Before {
        let Some(node) = &self.node else { return Before::default() };
        Before {
            serving: matches!(node.role(), Role::Primary | Role::Draining),
            lapsed: self.lease.is_some_and(|(_, end)| now >= end),
            logged: self.log.len(),
            unprotected: node.engine().counters().hold_released_unprotected,
            without_room: node.engine().counters().record_full,
            refused: node.engine().counters().drops(Drop::FlowTableFull),
            squeezed: squeezed(node),
        }
    }

    fn run(&mut self, now: Instant, inputs: Vec<Input>) -> Vec<Wish> {
        let at = self.seen(now);
        let mut wishes = Vec::new();
        let Some(node) = &mut self.node else { return wishes };
        node.handle_turn(at);
        let (first, later): (Vec<_>, Vec<_>) =
            inputs.into_iter().partition(|input| matches!(input, Input::Peer(_) | Input::Stream(_)));
        let ports = ports(self.index, self.carriers, &self.wanted);
        for input in first.into_iter().chain(later) {
            if let (Some(overheard), Input::Peer(bytes)) = (&mut self.overheard, &input) {
                overheard.push(bytes.clone());
            }
            if let (Some(kernel), Input::Frame(_, bytes)) = (&self.kernel, &input) {
                kernel.tell_of_copies(at, node, bytes);
            }
            feed(node, at, &ports, input, &mut wishes);
        }
        node.handle_timeout(at);
        while let Some(frame) = node.poll_frame() {
            wishes.push(Wish::Frame(frame.port, frame.bytes.clone()));
            node.recycle(frame.bytes);
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.settle(at, node);
        }
        let mut effects = Vec::new();
        while let Some(effect) = node.poll_effect() {
            effects.push(effect);
        }
        for effect in effects {
            self.carry_out(now, effect, &mut wishes);
        }
        wishes
    }

    /// When the process wants its next turn.
    pub fn next_turn(&self) -> Option<Instant> {
        self.node.as_ref()?.poll_timeout().map(|at| at + self.hidden)
    }

    /// The time as the process sees it.
    pub fn seen(&self, now: Instant) -> Instant {
        now - self.hidden
    }

    fn carry_out(&mut self, now: Instant, effect: Effect, wishes: &mut Vec<Wish>) {
        match effect {
            Effect::PeerDatagram(bytes) => wishes.push(Wish::Peer(bytes)),
            Effect::StoreTerm(term) => wishes.push(Wish::StoreTerm(term)),
            Effect::StoreConfig { request, text } => wishes.push(Wish::StoreConfig(request, text)),
            Effect::DeriveKey { request, password, salt } => {
                let mut key = [0; 32];
                for (index, part) in key.chunks_mut(8).enumerate() {
                    let mut hasher = StableHasher::new(index as u64, 0);
                    part.copy_from_slice(&hasher.write(password.as_bytes()).write(&salt).finish().to_be_bytes());
                }
                wishes.push(Wish::Key(request, key));
            }
            Effect::Interfaces(wanted) => {
                self.wanted = wanted.into_iter().map(|(id, _)| id).collect();
                wishes.push(Wish::Ports);
            }
            Effect::Probe(request) => wishes.push(Wish::Probe(request)),
            Effect::Reply(reply) => self.replies.push(reply),
            Effect::Event(level, text) => self.log.push((now, level, text)),
            Effect::Witness(call) => wishes.push(Wish::Witness(call)),
            Effect::Hook(run) => self.hooks.push(run),
            Effect::Stopped => wishes.push(Wish::Stopped),
            // A machine's port lets every frame in that is meant for it.
            Effect::FloatingMacs(list) => self.floating_macs = list.into_iter().map(|(_, mac)| mac).collect(),
            // The idle connection is made by the world; there is no host stack to guard.
            Effect::PeerLink(_) | Effect::Guard { .. } => {}
        }
    }
}

fn feed(node: &mut Node, now: Instant, ports: &[PortState], input: Input, wishes: &mut Vec<Wish>) {
    match input {
        Input::Frame(port, mut bytes) => {
            let frame = Frame { port, offload: Offload::default(), bytes: &mut bytes };
            if let Verdict::Forward(out) = node.handle_frame(now, frame) {
                wishes.push(Wish::Frame(out, bytes));
            }
        }
        Input::Peer(bytes) => node.handle_peer_datagram(now, &bytes),
        Input::Stream(event) => node.handle_peer_stream(now, event),
        Input::TermStored(term) => node.handle_term_stored(now, term),
        Input::ConfigStored(request, stored) => {
            let result = if stored { Ok(()) } else { Err("the disk is full".into()) };
            node.handle_config_stored(now, request, result);
        }
        Input::Key(request, key) => node.handle_peer_key(now, request, key),
        Input::Probe(id, outcome) => node.handle_probe_outcome(now, id, outcome),
        Input::Witness(number, answer) => node.handle_witness(now, number, answer),
        Input::Ports => node.handle_ports(now, ports.to_vec()),
        Input::Command(request, line) => node.handle_command(now, request, &line, false),
        Input::Stop => node.handle_stop(now),
        Input::Timer => {}
    }
}

/// What a process gets from its computer's random numbers: another value in each life.
fn squeezed(node: &Node) -> u64 {
    let counters = node.engine().counters();
    counters.offers_without_room + counters.stale_evicted
}

fn secret(boot: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    for (index, part) in secret.chunks_mut(8).enumerate() {
        let mut hasher = StableHasher::new(boot, index as u64);
        part.copy_from_slice(&hasher.write(b"secret").finish().to_be_bytes());
    }
    secret
}

/// The data ports of a machine that it wants.
fn ports(machine: usize, carriers: [bool; 2], wanted: &[String]) -> Vec<PortState> {
    let state = |(number, (id, device)): (usize, &(&str, &str))| PortState {
        port: Some(Port { id: PortId(number as u8), mac: mac(machine, number), mtu: 1500 }),
        id: (*id).into(),
        device: (*device).into(),
        up: carriers[number],
    };
    let wanted = |(_, (id, _)): &(usize, &(&str, &str))| wanted.iter().any(|wanted| wanted == id);
    PORTS.iter().enumerate().filter(wanted).map(state).collect()
}

/// The Ethernet address of a machine's port.
pub fn mac(machine: usize, port: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, machine as u8 + 1, port as u8 + 1])
}
