//! Two real election machines: `holdfast_ha::Machine` itself, driven as `core/node` drives it, in every order of events
//! within a bound. Time runs in steps of 20 ms from one origin; a state is what two machines say of themselves
//! (`Debug`), so that nothing of theirs is left out.

use holdfast_base::{Duration, Instant};
use holdfast_ha::{
    Effect, Held, Hello, LostCause, Machine, NodeHealth, NodeId, PathId, Role, Settings, StatusView, WitnessAnswer,
    WitnessAsk, WitnessRequest,
};
use stateright::{Model, Property};
use std::hash::{Hash, Hasher};

/// One step of time: half a lease margin of the settings below.
const STEP: Duration = Duration::from_millis(20);
/// Calm steps after which the pair must be whole again: the start-up interval and an election.
const SETTLED: u16 = 60;
/// A mirror session is complete so many steps after it began.
const BULK_STEPS: u8 = 1;

/// What is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machines {
    /// Steps of time after which a history ends.
    pub steps: u16,
    /// Steps in which something may fail; the rest is calm.
    pub restless: u16,
    /// Kills, power losses and freezes.
    pub faults: u8,
    /// Switchovers that an operator forces.
    pub forced: u8,
    /// Times that an interface fails; it is mended whenever you like.
    pub ails: u8,
    /// Full partitions; with each, any of the nodes may lose the witness, too.
    pub cuts: u8,
    /// Both ask a witness.
    pub witness: bool,
    /// How the driver sins, if it does.
    pub sin: Option<Sin>,
}

/// A rule of the driver that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sin {
    /// A term counts as durable although the disk never got it.
    NoFsync,
    /// The clock stands still while the process is frozen.
    FrozenClock,
    /// The node claims to have caught up as soon as it follows.
    EarlyCaughtUp,
    /// It takes every answer of the witness for a grant.
    EasyWitness,
}

/// A hello on its way, with what the envelope says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Letter {
    term: u64,
    /// The boot that the sender has heard last.
    echo: u64,
    hello: Hello,
}

/// A node as its driver and its disk see it.
#[derive(Clone, Debug)]
struct Seat {
    machine: Option<Machine>,
    boot: u64,
    disk: u64,
    /// A term on its way to the disk.
    storing: Option<u64>,
    frozen: bool,
    /// Steps during which a sinful clock stood still.
    behind: u64,
    /// The peer's boot as its newest letter says.
    knows: u64,
    /// Hellos that have arrived, and are read in the next turn.
    inbox: Vec<Letter>,
    /// A question to the witness, which is answered in the next turn.
    asked: Option<WitnessRequest>,
    /// The witness does not answer it.
    unwitnessed: bool,
    /// The peer's connection closed.
    closed: bool,
    /// As primary: the boot with which a session runs, and steps until it is complete.
    session: Option<(u64, u8)>,
    /// As secondary: boot and term of the primary that it follows.
    follows: Option<(u64, u64)>,
    /// It has the connection in its table.
    holds: bool,
    /// An interface of it does not work; outlives the process.
    ill: bool,
}

/// Both nodes and the clock.
#[derive(Clone, Debug)]
pub struct Pair {
    seats: [Seat; 2],
    step: u16,
    /// The seat that takes its turn next.
    next: usize,
    boots: u64,
    faults: u8,
    forced: u8,
    ails: u8,
    cuts: u8,
    /// No path works.
    cut: bool,
    /// It has lost the peer and the witness, and the pair was not whole since.
    lonely: [bool; 2],
    /// What the witness holds.
    cell: Option<Held>,
    /// The highest term that each has led.
    led: [u64; 2],
    /// Roles as last told, to count promotions.
    role: [Role; 2],
    term_again: bool,
    /// A client has opened its connection: the first primary was there.
    opened: bool,
    /// An end believes in it, and no second loss excuses its end.
    must: bool,
    /// Steps in which both have run since something failed.
    calm: u16,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The next node takes its turn; after both, time passes.
    Turn,
    /// SIGKILL: the kernel closes the connection.
    Kill(usize),
    /// Power loss: nobody tells.
    Power(usize),
    /// The process starts again.
    Start(usize),
    /// SIGSTOP.
    Freeze(usize),
    /// SIGCONT.
    Thaw(usize),
    /// `force HA failover`.
    Force(usize),
    /// An interface fails.
    Ail(usize),
    /// It works again.
    Recover(usize),
    /// Every path is cut, and the witness answers only these nodes.
    Cut([bool; 2]),
    /// Everything connects again.
    Heal,
}

impl Hash for Pair {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Machines {
    const PATH_WORKS: Machines =
        Machines { steps: 90, restless: 20, faults: 1, forced: 0, ails: 0, cuts: 0, witness: false, sin: None };
    const WITNESS: Machines =
        Machines { steps: 100, restless: 20, faults: 0, cuts: 1, witness: true, ..Machines::PATH_WORKS };

    /// What an ordinary test run explores.
    pub const SLICE: &[Machines] = &[
        Machines { steps: 85, restless: 8, ..Machines::PATH_WORKS },
        Machines { faults: 0, forced: 1, ..Machines::PATH_WORKS },
        Machines { steps: 85, restless: 12, faults: 0, ails: 1, ..Machines::PATH_WORKS },
        Machines { restless: 16, ..Machines::WITNESS },
    ];

    /// What `cargo xtask model` explores.
    pub const FULL: &[Machines] = &[
        Machines::PATH_WORKS,
        Machines { faults: 0, forced: 1, ..Machines::PATH_WORKS },
        Machines { steps: 85, restless: 14, forced: 1, ..Machines::PATH_WORKS },
        Machines { steps: 30, restless: 10, faults: 2, ..Machines::PATH_WORKS },
        Machines { faults: 0, ails: 2, ..Machines::PATH_WORKS },
        Machines { steps: 40, restless: 10, ails: 1, ..Machines::PATH_WORKS },
        Machines::WITNESS,
    ];

    /// The settings of both: the shortest that the machine accepts, so that few steps show much.
    fn settings(self, node: usize) -> Settings {
        let id = |node: usize| NodeId(node as u128 + 1);
        Settings {
            hello: Duration::from_millis(40),
            dead: Duration::from_millis(120),
            lease_margin: Duration::from_millis(20),
            witness: self.witness,
            ..Settings::new(id(node), Some(id(1 - node)))
        }
    }
}

/// One of two interfaces does not work, or all do.
fn health(ill: bool) -> NodeHealth {
    if ill { NodeHealth::PartialFail } else { NodeHealth::Up }
}

impl Seat {
    fn empty() -> Seat {
        Seat {
            machine: None,
            boot: 0,
            disk: 0,
            storing: None,
            frozen: false,
            behind: 0,
            knows: 0,
            inbox: Vec::new(),
            asked: None,
            unwitnessed: false,
            closed: false,
            session: None,
            follows: None,
            holds: false,
            ill: false,
        }
    }

    fn runs(&self) -> bool {
        self.machine.is_some() && !self.frozen
    }

    fn role(&self) -> Option<Role> {
        self.machine.as_ref().map(Machine::role)
    }
}

impl Pair {
    /// True time.
    fn now(&self) -> Instant {
        Instant::ZERO + STEP * u32::from(self.step)
    }

    /// What the node's clock shows.
    fn clock(&self, node: usize) -> Instant {
        Instant::ZERO + STEP * (u32::from(self.step) - self.seats[node].behind as u32)
    }

    /// Whether the gate is open, to those outside: with an unexpired lease, even if the process is frozen.
    fn acts(&self, node: usize) -> bool {
        let Some(machine) = &self.seats[node].machine else { return false };
        let now = if self.seats[node].behind > 0 { self.clock(node) } else { self.now() };
        machine.role() == Role::Primary && machine.lease_expiry().is_some_and(|end| now < end)
    }

    fn is_whole(&self) -> bool {
        (0..2).any(|node| {
            let follower = self.seats[1 - node].machine.as_ref().map(Machine::status);
            let runs = self.seats[0].runs() && self.seats[1].runs();
            let follows = |status: &StatusView| status.role == Role::Secondary && status.caught_up;
            runs && self.acts(node) && follower.as_ref().is_some_and(follows)
        })
    }

    fn start(&mut self, machines: &Machines, node: usize) {
        let sin = machines.sin;
        self.boots += 1;
        let now = self.now();
        let Seat { disk, ill, unwitnessed, .. } = self.seats[node];
        let mut machine = Machine::new(now, machines.settings(node), self.boots, disk);
        machine.handle_health(now, health(ill));
        self.seats[node] = Seat { machine: Some(machine), boot: self.boots, disk, ill, unwitnessed, ..Seat::empty() };
        self.role[node] = Role::Init;
        self.drain(sin, node);
    }

    /// What only this node has is lost, unless the pair was whole or the other node serves.
    fn fault(&mut self, node: usize) {
        self.faults -= 1;
        let served = self.seats[1 - node].runs() && self.acts(1 - node);
        self.must &= self.is_whole() || served;
    }

    fn end(&mut self, node: usize, closed: bool) {
        let Seat { disk, ill, unwitnessed, .. } = self.seats[node];
        self.seats[node] = Seat { disk, ill, unwitnessed, ..Seat::empty() };
        self.seats[1 - node].closed |= closed;
        self.role[node] = Role::Init;
    }

    /// A turn of the driver: the gate, what the disk and the mirror say, hellos, then timers.
    fn turn(&mut self, sin: Option<Sin>, node: usize) {
        let now = self.clock(node);
        if !self.seats[node].runs() {
            return;
        }
        self.input(sin, node, |machine| {
            machine.handle_turn(now);
        });
        if let Some(term) = self.seats[node].storing.take() {
            self.seats[node].disk = self.seats[node].disk.max(term);
            self.input(sin, node, |machine| machine.handle_term_stored(now, term));
        }
        for letter in core::mem::take(&mut self.seats[node].inbox) {
            self.seats[node].knows = letter.hello.boot;
            if letter.echo == self.seats[node].boot {
                let peer = NodeId(2 - node as u128);
                self.input(sin, node, |machine| machine.handle_hello(now, PathId(0), letter.term, peer, &letter.hello));
            }
        }
        if core::mem::take(&mut self.seats[node].closed) {
            self.input(sin, node, |machine| machine.handle_peer_closed(now));
        }
        self.mirror(sin, node);
        if let Some(request) = self.seats[node].asked.take() {
            let answer = self.judge(sin, node, request.ask);
            self.input(sin, node, |machine| machine.handle_witness(now, request.number, answer));
        }
        self.input(sin, node, |machine| machine.handle_timeout(now));
        if !self.opened && self.acts(node) {
            (self.opened, self.must, self.seats[node].holds) = (true, true, true);
        }
    }

    fn input(&mut self, sin: Option<Sin>, node: usize, input: impl FnOnce(&mut Machine)) {
        if let Some(machine) = &mut self.seats[node].machine {
            input(machine);
            self.drain(sin, node);
        }
    }

    /// Cuts every path or none; who can reach the witness.
    fn connect(&mut self, cut: bool, witnessed: [bool; 2]) {
        self.cut = cut;
        for (seat, witnessed) in self.seats.iter_mut().zip(witnessed) {
            seat.unwitnessed = !witnessed;
            if cut {
                seat.inbox.clear();
            }
        }
        if cut {
            self.lonely = witnessed.map(|witnessed| !witnessed);
        }
    }

    fn set_health(&mut self, sin: Option<Sin>, node: usize, ill: bool) {
        let now = self.clock(node);
        self.seats[node].ill = ill;
        self.input(sin, node, |machine| machine.handle_health(now, health(ill)));
    }

    /// The session as `core/node` runs it: begun when the peer joins a primary or a joined node becomes primary; read by
    /// a secondary that follows this very primary; complete after a while.
    fn mirror(&mut self, sin: Option<Sin>, node: usize) {
        let now = self.clock(node);
        let Some((boot, left)) = self.seats[node].session else { return };
        let (own, term) = (self.seats[node].boot, self.seats[node].machine.as_ref().map_or(0, Machine::term));
        let reader = &self.seats[1 - node];
        if self.cut || reader.boot != boot || !reader.runs() || reader.follows != Some((own, term)) {
            return;
        }
        if left > 0 {
            self.seats[node].session = Some((boot, left - 1));
            self.input(sin, 1 - node, |machine| machine.handle_caught_up(now, false));
            if left == 1 {
                self.seats[1 - node].holds |= self.seats[node].holds;
                self.input(sin, 1 - node, |machine| machine.handle_caught_up(now, true));
            }
        }
    }

    fn drain(&mut self, sin: Option<Sin>, node: usize) {
        while let Some(effect) = self.seats[node].machine.as_mut().and_then(Machine::poll_effect) {
            match effect {
                Effect::Send { hello, .. } => self.send(node, hello),
                Effect::StoreTerm(term) if sin == Some(Sin::NoFsync) => {
                    let now = self.clock(node);
                    if let Some(machine) = &mut self.seats[node].machine {
                        machine.handle_term_stored(now, term);
                    }
                }
                Effect::StoreTerm(term) => self.seats[node].storing = Some(term),
                Effect::AskWitness(request) => self.seats[node].asked = Some(request),
                Effect::Role { role, term, .. } => self.role_changed(node, role, term),
                Effect::Follow { boot, term } => {
                    self.seats[node].follows = Some((boot, term));
                    self.seats[node].holds = false;
                    if sin == Some(Sin::EarlyCaughtUp) {
                        let now = self.clock(node);
                        if let Some(machine) = &mut self.seats[node].machine {
                            machine.handle_caught_up(now, true);
                        }
                    }
                }
                Effect::PeerJoined { boot } => {
                    if self.seats[node].role() == Some(Role::Primary) {
                        self.seats[node].session = Some((boot, BULK_STEPS));
                    }
                }
                Effect::PeerLost { cause, .. } => {
                    let known = matches!(cause, LostCause::Silence | LostCause::ProcessDeath | LostCause::Restarted);
                    assert!(known, "no other cause is possible here");
                    self.seats[node].session = None;
                }
                Effect::Event(_) => {}
            }
        }
    }

    /// The cell is compared and swapped.
    fn judge(&mut self, sin: Option<Sin>, node: usize, ask: WitnessAsk) -> WitnessAnswer {
        if self.seats[node].unwitnessed {
            return WitnessAnswer::Unreachable;
        }
        let claim = self.cell.map(|held| held.claim);
        let granted = match ask {
            WitnessAsk::Look => return WitnessAnswer::Holds(self.cell),
            WitnessAsk::Confirm(own) => claim == Some(own),
            WitnessAsk::Swap { expect: None, to } => claim == Some(to) || claim.is_none_or(|held| held.term < to.term),
            WitnessAsk::Swap { expect, to } => claim == Some(to) || claim == expect,
        };
        if let (true, WitnessAsk::Swap { to, .. }) = (granted, ask) {
            let revision = self.cell.map_or(0, |held| held.revision) + 1;
            self.cell = Some(Held { claim: to, revision });
        }
        if granted {
            return WitnessAnswer::Granted;
        }
        if sin == Some(Sin::EasyWitness) { WitnessAnswer::Granted } else { WitnessAnswer::Holds(self.cell) }
    }

    fn role_changed(&mut self, node: usize, role: Role, term: u64) {
        let led = matches!(self.role[node], Role::Primary | Role::Draining);
        self.role[node] = role;
        match role {
            Role::Init | Role::Secondary => self.seats[node].session = None,
            Role::Draining => {}
            Role::Primary => {
                let taken_back = led && self.led[node] == term;
                self.term_again |= !taken_back && self.led[node] >= term || term > self.seats[node].disk;
                self.led[node] = self.led[node].max(term);
                // Said aloud (`PromotedNotCaughtUp`): the other one cannot lead, and nobody knows for how long.
                self.must &= !self.lonely[1 - node];
                self.seats[node].follows = None;
                let peer = self.seats[node].machine.as_ref().and_then(|machine| machine.status().peer);
                self.seats[node].session = peer.map(|peer| (peer.boot, BULK_STEPS));
            }
        }
    }

    /// The working path: what is sent is there in the peer's next turn.
    fn send(&mut self, node: usize, hello: Hello) {
        let term = self.seats[node].machine.as_ref().map_or(0, Machine::term);
        let letter = Letter { term, echo: self.seats[node].knows, hello };
        if self.seats[1 - node].machine.is_some() && !self.cut {
            self.seats[1 - node].inbox.push(letter);
        }
    }
}

impl Model for Machines {
    type State = Pair;
    type Action = Event;

    fn init_states(&self) -> Vec<Pair> {
        let mut pair = Pair {
            seats: [Seat::empty(), Seat::empty()],
            step: 0,
            next: 0,
            boots: 0,
            faults: self.faults,
            forced: self.forced,
            ails: self.ails,
            cuts: self.cuts,
            cut: false,
            lonely: [false; 2],
            cell: None,
            led: [0; 2],
            role: [Role::Init; 2],
            term_again: false,
            opened: false,
            must: false,
            calm: 0,
        };
        pair.start(self, 0);
        pair.start(self, 1);
        vec![pair]
    }

    fn actions(&self, pair: &Pair, actions: &mut Vec<Event>) {
        if pair.step >= self.steps {
            return;
        }
        actions.push(Event::Turn);
        let restless = pair.step < self.restless;
        if pair.cut {
            actions.push(Event::Heal);
        } else if restless && pair.cuts > 0 {
            actions.extend([[true, false], [false, true], [true, true], [false, false]].map(Event::Cut));
        }
        for node in 0..2 {
            let seat = &pair.seats[node];
            match (&seat.machine, seat.frozen) {
                (None, _) => actions.push(Event::Start(node)),
                (Some(_), true) => actions.push(Event::Thaw(node)),
                (Some(_), false) if restless && pair.faults > 0 => {
                    actions.extend([Event::Kill(node), Event::Power(node), Event::Freeze(node)]);
                }
                (Some(_), false) => {}
            }
            if restless && pair.forced > 0 && seat.runs() && seat.role() == Some(Role::Primary) {
                actions.push(Event::Force(node));
            }
            if seat.ill && seat.runs() {
                actions.push(Event::Recover(node));
            } else if restless && pair.ails > 0 && seat.runs() {
                actions.push(Event::Ail(node));
            }
        }
    }

    fn next_state(&self, pair: &Pair, event: Event) -> Option<Pair> {
        let mut next = pair.clone();
        match event {
            Event::Kill(node) | Event::Power(node) | Event::Freeze(node) => next.fault(node),
            Event::Turn | Event::Start(_) | Event::Thaw(_) | Event::Force(_) | Event::Ail(_) | Event::Recover(_) => {}
            Event::Cut(_) | Event::Heal => {}
        }
        match event {
            Event::Turn => {
                next.turn(self.sin, next.next);
                next.next = 1 - next.next;
                if next.next == 0 {
                    self.pass_time(&mut next);
                }
                return Some(next);
            }
            Event::Kill(node) => next.end(node, true),
            Event::Power(node) => next.end(node, false),
            Event::Start(node) => next.start(self, node),
            Event::Cut(witnessed) => {
                next.cuts -= 1;
                next.connect(true, witnessed);
            }
            Event::Heal => next.connect(false, [true; 2]),
            Event::Freeze(node) => next.seats[node].frozen = true,
            Event::Thaw(node) => next.seats[node].frozen = false,
            Event::Ail(node) => {
                next.ails -= 1;
                next.set_health(self.sin, node, true);
            }
            Event::Recover(node) => next.set_health(self.sin, node, false),
            Event::Force(node) => {
                let now = next.clock(node);
                next.forced -= 1;
                next.input(self.sin, node, |machine| {
                    let _refused = machine.handle_force_failover(now);
                });
            }
        }
        next.calm = 0;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Machines>> {
        let mut properties = vec![
            Property::<Machines>::always("at most one gate is open", |_, pair| !(pair.acts(0) && pair.acts(1))),
            Property::<Machines>::always("no node leads a term twice, or one that is not durable", |_, pair| {
                !pair.term_again
            }),
            Property::<Machines>::always("a primary has the connection that an end believes in", |_, pair| {
                (0..2).all(|node| !pair.acts(node) || !pair.must || pair.seats[node].holds)
            }),
            Property::<Machines>::sometimes("a takeover", |_, pair| pair.led.iter().all(|&term| term > 0)),
            Property::<Machines>::sometimes("a rejoin", |_, pair| {
                pair.faults == 0 && pair.cuts == 0 && !pair.cut && pair.is_whole()
            }),
        ];
        if self.steps > self.restless + SETTLED {
            properties.push(Property::<Machines>::always("calm makes the pair whole again", |_, pair| {
                pair.calm < SETTLED || pair.is_whole()
            }));
        }
        properties
    }
}

impl Machines {
    fn pass_time(&self, pair: &mut Pair) {
        pair.step += 1;
        if pair.is_whole() {
            pair.lonely = [false; 2];
        }
        pair.calm = if !pair.cut && pair.seats.iter().all(|seat| seat.runs() && !seat.ill) { pair.calm + 1 } else { 0 };
        for seat in &mut pair.seats {
            if seat.frozen && self.sin == Some(Sin::FrozenClock) {
                seat.behind += 1;
            }
        }
    }
}
