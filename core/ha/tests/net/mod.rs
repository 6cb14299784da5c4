//! A world of two machines: clocks that drift, disks that answer late, three
//! paths that delay, lose, copy and reorder, and processes that die, freeze and
//! come back. Everything follows from one seed.

pub mod cell;
pub mod check;

use cell::Cell;
use check::Checker;
use holdfast_base::{Duration, Instant, Rng};
use holdfast_ha::{Effect, Event, Hello, Machine, NodeHealth, NodeId, PathId, Role, Settings};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub const PATHS: usize = 3;
/// Faults happen before this time, in microseconds; then everything heals.
const CHAOS: u64 = 12_000_000;
/// From the healing until one primary must have emerged.
const CALM: u64 = 4_000_000;
/// How long it must then stay.
const QUIET: u64 = 3_000_000;

/// How bad the network may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    OnePathWorks,
    Anything,
    OneWay,
    /// Anything, and both ask a witness, which may be slow, cut off or down.
    Witnessed,
}

/// One direction of one path.
#[derive(Clone, Copy, Debug)]
struct Link {
    cut: bool,
    loss: u64,
    copies: u64,
    delay: u64,
    jitter: u64,
}

const GOOD: Link = Link { cut: false, loss: 0, copies: 5, delay: 50, jitter: 700 };

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Deliver {
        to: usize,
        letter: Letter,
    },
    Timer {
        node: usize,
    },
    Stored {
        node: usize,
        boot: u64,
        term: u64,
    },
    CaughtUp {
        node: usize,
        boot: u64,
        follows: (u64, u64),
    },
    Closed {
        node: usize,
    },
    Thaw {
        node: usize,
    },
    Start {
        node: usize,
    },
    /// The witness reads a question; its answer arrives.
    Judge {
        asked: usize,
    },
    Answer {
        asked: usize,
    },
    Fault,
    Heal,
    Settled,
    End,
}

/// A hello in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    path: u8,
    term: u64,
    /// The sender's boot and the time of sending.
    from: u64,
    sent: u64,
    /// The boot that the sender last heard: only a letter that names the
    /// receiver's present boot is evidence.
    echo: u64,
    bytes: Vec<u8>,
}

pub struct Node {
    pub machine: Option<Machine>,
    pub settings: Settings,
    /// What works there; outlives the process.
    pub health: NodeHealth,
    pub boot: u64,
    /// Until when the process is not run, in microseconds of true time; 0: it
    /// runs.
    pub frozen_until: u64,
    disk: u64,
    disk_delay: u64,
    rate: u64,
    offset: u64,
    inbox: Vec<Letter>,
    /// Boot of the peer as its newest letter says, and when that was sent.
    knows: (u64, u64),
    pub follows: Option<(u64, u64)>,
    pub last_turn: u64,
}

impl Node {
    /// The node's own clock, which drifts.
    pub fn local(&self, at: u64) -> Instant {
        Instant::from_nanos(self.offset + at * self.rate)
    }

    fn true_time(&self, local: Instant) -> u64 {
        (local.as_nanos() - self.offset).div_ceil(self.rate)
    }
}

pub struct World {
    pub rng: Rng,
    pub mode: Mode,
    pub now: u64,
    pub nodes: [Node; 2],
    pub healed: bool,
    /// Which direction stays open in [`Mode::OneWay`].
    open: usize,
    awake_until: u64,
    links: [[Link; PATHS]; 2],
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    sequence: u64,
    boots: u64,
    cell: Cell,
    check: Checker,
    trace: bool,
}

impl World {
    pub fn new(seed: u64, mode: Mode) -> World {
        let mut rng = Rng::from_seed(seed ^ 0x6861);
        let dead = [400, 400, 400, 800, 200][rng.below(5) as usize];
        let node = |index: u128, rng: &mut Rng| {
            let mut settings = Settings::new(NodeId(index + 1), Some(NodeId(2 - index)));
            settings.dead = Duration::from_millis(dead);
            settings.hello = Duration::from_millis(dead / 4);
            if mode != Mode::OneWay && rng.chance(1, 8) {
                settings.dead *= 2;
            }
            settings.lease_margin = Duration::from_millis(dead / 20);
            settings.witness = mode == Mode::Witnessed;
            settings.fail_safe = rng.chance(1, 4);
            if rng.chance(1, 4) {
                (settings.max_flips, settings.max_flip_time) = (1 + rng.below(3) as u32, Duration::from_secs(4));
            }
            Node {
                machine: None,
                settings,
                health: NodeHealth::Up,
                boot: 0,
                frozen_until: 0,
                disk: rng.below(4),
                disk_delay: [0, 300, 20_000][rng.below(3) as usize],
                rate: 993 + rng.below(15),
                offset: rng.below(1 << 40),
                inbox: Vec::new(),
                knows: (0, 0),
                follows: None,
                last_turn: 0,
            }
        };
        let nodes = [node(0, &mut rng), node(1, &mut rng)];
        let open = rng.below(2) as usize;
        let mut world = World {
            rng,
            mode,
            now: 0,
            nodes,
            healed: false,
            open,
            awake_until: 0,
            links: [[GOOD; PATHS]; 2],
            queue: BinaryHeap::new(),
            sequence: 0,
            boots: 0,
            cell: Cell::new(seed),
            check: Checker::default(),
            trace: std::env::var("HOLDFAST_SEED").is_ok(),
        };
        for node in 0..2 {
            let late = [0, 3_000, 700_000, 3_000_000][world.rng.below(4) as usize];
            let late = if mode == Mode::OneWay { 0 } else { late };
            world.at(world.rng.clone().below(1000) + late, What::Start { node });
        }
        world.at(CHAOS, What::Heal);
        // A promise given to a node that then has to wait for the witness is kept all the same.
        let calm = if mode == Mode::Witnessed { 2 * CALM } else { CALM };
        world.at(CHAOS + calm, What::Settled);
        world.at(CHAOS + calm + QUIET, What::End);
        // One way only, two nodes that never met cannot meet.
        let first = if mode == Mode::OneWay { 1_500_000 } else { 200_000 };
        world.at(first, What::Fault);
        world
    }

    pub fn run(mut self) {
        while let Some(Reverse((at, _, what))) = self.queue.pop() {
            assert!(at >= self.now);
            self.now = at;
            if what == What::End {
                self.check.settled(&self);
                return;
            }
            self.happen(what);
            let mut check = core::mem::take(&mut self.check);
            check.after_step(&self);
            self.check = check;
        }
    }

    fn at(&mut self, at: u64, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, what)));
    }

    fn after(&mut self, delay: u64, what: What) {
        self.at(self.now + delay, what);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver { to, letter } => self.deliver(to, letter),
            What::Timer { node } => self.timer(node),
            What::Stored { node, boot, term } => {
                if self.runs(node, boot) {
                    self.nodes[node].disk = self.nodes[node].disk.max(term);
                    self.input(node, |machine, now| machine.handle_term_stored(now, term));
                }
            }
            What::CaughtUp { node, boot, follows } => self.caught_up(node, boot, follows),
            What::Closed { node } => {
                if !self.is_frozen(node) {
                    self.input(node, Machine::handle_peer_closed);
                }
            }
            What::Thaw { node } => {
                if self.is_frozen(node) && self.now >= self.nodes[node].frozen_until {
                    self.nodes[node].frozen_until = 0;
                    self.turn(node);
                }
            }
            What::Judge { asked } => self.judge(asked),
            What::Answer { asked } => self.answered(asked),
            What::Start { node } => self.start(node),
            What::Fault => self.fault(),
            What::Heal => self.heal(),
            What::Settled => {
                let mut check = core::mem::take(&mut self.check);
                check.begin_quiet(self);
                self.check = check;
            }
            What::End => {}
        }
    }

    fn runs(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].machine.is_some() && self.nodes[node].boot == boot
    }

    pub fn is_frozen(&self, node: usize) -> bool {
        self.nodes[node].frozen_until != 0
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].machine.is_some() {
            return;
        }
        self.boots += 1;
        // Boots are names, not numbers to compare.
        let boot = self.boots.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let one = &mut self.nodes[node];
        one.boot = boot;
        one.frozen_until = 0;
        one.inbox.clear();
        one.knows = (0, 0);
        one.follows = None;
        one.last_turn = self.now;
        let now = one.local(self.now);
        let mut machine = Machine::new(now, one.settings, boot, one.disk);
        machine.handle_health(now, one.health);
        one.machine = Some(machine);
        self.check.started(node);
        self.note(node, "starts");
        self.drain(node);
    }

    fn deliver(&mut self, to: usize, letter: Letter) {
        if self.nodes[to].machine.is_none() {
            return;
        }
        self.nodes[to].inbox.push(letter);
        if !self.is_frozen(to) {
            self.turn(to);
        }
    }

    fn timer(&mut self, node: usize) {
        let Some(machine) = &self.nodes[node].machine else { return };
        let due = machine.poll_timeout().is_some_and(|at| at <= self.nodes[node].local(self.now));
        if due && !self.is_frozen(node) {
            self.turn(node);
        }
    }

    /// One turn of the driver: the gate, then hellos and timers in any order.
    fn turn(&mut self, node: usize) {
        let now = self.nodes[node].local(self.now);
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let closed = machine.handle_turn(now);
        self.check.first_look(&self.nodes[node], node, now, closed);
        self.drain(node);
        if self.rng.chance(1, 2) {
            self.input(node, Machine::handle_timeout);
        }
        let peer = NodeId(2 - node as u128);
        for letter in core::mem::take(&mut self.nodes[node].inbox) {
            let hello = Hello::decode(&letter.bytes).expect("our own bytes");
            if letter.sent >= self.nodes[node].knows.1 {
                self.nodes[node].knows = (letter.from, letter.sent);
            }
            if letter.echo == self.nodes[node].boot {
                self.input(node, |machine, now| {
                    machine.handle_hello(now, PathId(letter.path), letter.term, peer, &hello);
                });
            }
        }
        self.input(node, Machine::handle_timeout);
    }

    fn input(&mut self, node: usize, input: impl FnOnce(&mut Machine, Instant)) {
        let now = self.nodes[node].local(self.now);
        self.nodes[node].last_turn = self.now;
        let Some(machine) = &mut self.nodes[node].machine else { return };
        input(machine, now);
        if machine.role() == Role::Primary && self.rng.chance(1, 3) {
            machine.handle_client_packet_seen(now);
        }
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].machine.as_mut().and_then(Machine::poll_effect) {
            let mut check = core::mem::take(&mut self.check);
            check.effect(self, node, &effect);
            self.check = check;
            self.carry_out(node, effect);
            if self.nodes[node].machine.is_none() {
                return;
            }
        }
        let one = &self.nodes[node];
        let Some(machine) = &one.machine else { return };
        if let Some(at) = machine.poll_timeout() {
            assert!(at > one.local(self.now), "a timer that is always due");
            let late = [0, 0, 60, 400][self.rng.below(4) as usize];
            let at = one.true_time(at).max(self.now) + late;
            self.at(at, What::Timer { node });
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Send { path, hello } => {
                assert_eq!(path, None);
                self.send(node, &hello);
            }
            Effect::StoreTerm(term) => {
                let boot = self.nodes[node].boot;
                let delay = self.nodes[node].disk_delay;
                let delay = delay / 2 + self.rng.below(delay + 1);
                self.after(delay, What::Stored { node, boot, term });
            }
            Effect::AskWitness(request) => self.ask_witness(node, request),
            Effect::Role { role, term, cause } => {
                self.note(node, &format!("{role:?} term {term} {cause:?}"));
                if role == Role::Primary {
                    self.nodes[node].follows = None;
                }
            }
            Effect::Follow { boot, term } => {
                self.nodes[node].follows = Some((boot, term));
                let own = self.nodes[node].boot;
                let bulk = [2_000, 150_000, 900_000][self.rng.below(3) as usize];
                self.after(bulk, What::CaughtUp { node, boot: own, follows: (boot, term) });
            }
            Effect::PeerJoined { .. } => self.note(node, "peer joined"),
            Effect::PeerLost { cause, .. } => self.note(node, &format!("peer lost {cause:?}")),
            Effect::Event(Event::Stopped) => self.die(node),
            Effect::Event(event) => self.note(node, &format!("{event:?}")),
        }
    }

    fn send(&mut self, node: usize, hello: &Hello) {
        let term = self.nodes[node].machine.as_ref().map_or(0, Machine::term);
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        for path in 0..PATHS {
            let link = self.links[node][path];
            let copies = if self.rng.chance(link.copies, 100) { 2 } else { 1 };
            for _ in 0..copies {
                if link.cut || self.rng.chance(link.loss, 100) {
                    continue;
                }
                let delay = link.delay + self.rng.below(link.jitter + 1);
                let letter = Letter {
                    path: path as u8,
                    term,
                    from: self.nodes[node].boot,
                    sent: self.now,
                    echo: self.nodes[node].knows.0,
                    bytes: bytes.clone(),
                };
                self.after(delay, What::Deliver { to: 1 - node, letter });
            }
        }
    }

    fn caught_up(&mut self, node: usize, boot: u64, follows: (u64, u64)) {
        if !self.runs(node, boot) || self.nodes[node].follows != Some(follows) {
            return;
        }
        let other = &self.nodes[1 - node];
        let alive =
            other.boot == follows.0 && other.machine.as_ref().is_some_and(|machine| machine.term() == follows.1);
        let leads = other.machine.as_ref().is_some_and(|machine| machine.role() == Role::Primary);
        let mut reached = !self.links[1 - node].iter().all(|link| link.cut);
        if self.mode == Mode::Witnessed {
            // A session runs with a peer that is heard, and only then.
            let heard = other.machine.as_ref().and_then(|machine| machine.status().peer);
            reached &= heard.is_some_and(|peer| peer.boot == boot);
        }
        if alive && leads && reached && !self.is_frozen(node) && !self.is_frozen(1 - node) {
            self.input(node, |machine, now| machine.handle_caught_up(now, true));
        } else if alive {
            self.after(50_000, What::CaughtUp { node, boot, follows });
        }
    }

    /// The process is gone; the kernel closes its connection if it lives.
    fn die(&mut self, node: usize) {
        self.note(node, "dies");
        self.nodes[node].machine = None;
        if self.rng.chance(2, 3) {
            let delay = 2_000 + self.rng.below(4_000);
            self.after(delay, What::Closed { node: 1 - node });
        }
        let back = [1_000, 40_000, 300_000, 1_500_000][self.rng.below(4) as usize];
        let back = back + self.rng.below(back);
        self.after(back, What::Start { node });
    }

    fn fault(&mut self) {
        let pause = [1_000, 60_000, 500_000, 1_500_000, 2_500_000][self.rng.below(5) as usize];
        let pause = 1 + self.rng.below(pause);
        if self.now + pause < CHAOS {
            self.after(pause, What::Fault);
        }
        if self.mode == Mode::Witnessed {
            self.cell.fault();
        }
        let node = self.rng.below(2) as usize;
        match self.rng.below(12) {
            // A process that starts while its peer cannot hear it never has its
            // boot echoed, so it is alone as far as it can know.
            0 | 1 if self.nodes[node].machine.is_some() && self.mode != Mode::OneWay => {
                self.die(node);
            }
            2..=4 => self.freeze(node),
            5 => {
                // Forged, or a connection that broke: both nodes are well. A
                // primary that stalls at that very moment is docs/ha.md's
                // residual risk.
                if self.mode != Mode::OneWay && !self.is_frozen(0) && !self.is_frozen(1) {
                    self.after(0, What::Closed { node });
                    self.awake_until = self.now + 10_000;
                }
            }
            6 => {
                if !self.is_frozen(node) {
                    self.input(node, |machine, now| {
                        let _ = machine.handle_force_failover(now);
                    });
                }
            }
            7 if !self.is_frozen(node) && self.mode != Mode::OneWay => {
                self.note(node, "is asked to stop");
                self.input(node, Machine::handle_stop);
            }
            8 | 9 if !self.is_frozen(node) => {
                let all =
                    [NodeHealth::Up, NodeHealth::RouteMonitorFail, NodeHealth::PartialFail, NodeHealth::CompleteFail];
                let health = all[self.rng.below(4) as usize];
                self.ail(node, health);
            }
            _ => self.worsen(),
        }
    }

    fn freeze(&mut self, node: usize) {
        let most = [5_000, 300_000, 450_000, 2_500_000][self.rng.below(4) as usize];
        let until = self.now + 1 + self.rng.below(most);
        let gone = self.nodes[node].machine.is_none();
        if gone || self.is_frozen(node) || self.now < self.awake_until {
            return;
        }
        self.note(node, &format!("frozen for {} us", until - self.now));
        self.nodes[node].frozen_until = until;
        self.at(until, What::Thaw { node });
    }

    fn ail(&mut self, node: usize, health: NodeHealth) {
        self.note(node, &format!("is {health:?}"));
        self.nodes[node].health = health;
        self.input(node, |machine, now| machine.handle_health(now, health));
    }

    fn worsen(&mut self) {
        for direction in 0..2 {
            for path in 0..PATHS {
                self.links[direction][path] = Link {
                    cut: self.rng.chance(1, 3),
                    loss: [0, 10, 60, 95][self.rng.below(4) as usize],
                    copies: 10,
                    delay: [50, 1_000, 30_000, 900_000][self.rng.below(4) as usize],
                    jitter: [0, 1_000, 200_000][self.rng.below(3) as usize],
                };
            }
        }
        match self.mode {
            Mode::OnePathWorks => (0..2).for_each(|direction| self.links[direction][1] = GOOD),
            Mode::OneWay => {
                let open = self.open;
                let shut = Link { cut: self.rng.chance(1, 2), ..GOOD };
                self.links = [[shut; PATHS]; 2];
                self.links[open] = [GOOD; PATHS];
            }
            Mode::Anything | Mode::Witnessed => {
                if self.rng.chance(1, 3) {
                    self.links.iter_mut().flatten().for_each(|link| link.cut = true);
                }
            }
        }
        if self.trace {
            println!("{:>9} links {:?}", self.now, self.links);
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        self.cell.heal();
        self.links = [[GOOD; PATHS]; 2];
        for node in 0..2 {
            if self.is_frozen(node) {
                self.nodes[node].frozen_until = 0;
                self.turn(node);
            }
            self.ail(node, NodeHealth::Up);
            self.after(0, What::Start { node });
        }
        if self.trace {
            println!("{:>9} healed", self.now);
        }
    }

    fn note(&self, node: usize, text: &str) {
        if self.trace {
            println!("{:>9} node {} {text}", self.now, node + 1);
        }
    }
}

impl World {
    /// The highest term on this node's disk.
    pub fn disk(&self, node: usize) -> u64 {
        self.nodes[node].disk
    }
}
