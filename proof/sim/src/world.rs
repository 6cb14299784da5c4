//! The world: two machines, hosts, three networks and a clock.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use holdfast_base::{Instant, Rng};
use holdfast_ha::Role;
use holdfast_node::{Node, StreamEvent};
use holdfast_wire::MacAddr;
use smoltcp::wire::IpAddress;

use crate::apps::{Call, Client, Server};
use crate::check::Checker;
use crate::clock::Agenda;
use crate::ftp::Way;
use crate::host::Host;
use crate::machine::{Input, Machine, Sabotage, Wish};
use crate::reference::{Offer, Promise, Reference, Tally};
use crate::scenario::{Fault, Opening, Scenario, VserverSpec};
use crate::watch::Watch;
use crate::witness::{Question, Witness};

mod wires;

/// The client-side network, and the index of the port on it.
pub const CLIENT_SIDE: usize = 0;
/// The server-side network, and the index of the port on it.
pub const SERVER_SIDE: usize = 1;
/// How long a kernel takes to tell the peer that a process is gone.
const CLOSE_DELAY: Duration = Duration::from_millis(2);
/// How long the idle connection takes to be made.
const CONNECT_DELAY: Duration = Duration::from_millis(5);
/// How long a kernel takes to tell that a carrier is gone or back.
const CARRIER_DELAY: Duration = Duration::from_millis(1);
/// How long a key derivation takes.
const KEY_DELAY: Duration = Duration::from_millis(40);
/// Host programs look at their sockets at least this often while something runs.
const PROGRAM_TICK: Duration = Duration::from_millis(10);

/// What will happen.
#[derive(Debug)]
enum Event {
    /// A frame arrives at a station of a network.
    Frame { network: usize, station: usize, bytes: Vec<u8> },
    /// Something reaches a machine's process, if it is still the same life.
    Input { machine: usize, boot: u64, input: Input },
    /// A machine's timer.
    Timer { machine: usize, at: Instant },
    /// A host runs.
    Host { host: usize, at: Instant },
    /// The disk of a machine has finished writing.
    Stored { machine: usize, boot: u64, write: Write },
    /// A question gets to the witness.
    Question(Question),
    /// Something breaks or is mended.
    Fault(Fault),
    /// A client opens a connection or an exchange.
    Open(usize),
}

#[derive(Debug)]
enum Write {
    Term(u64),
    Config(u64, String),
}

/// Where frames can arrive: on each network, the two machines and its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Station {
    Machine(usize),
    Client(usize),
    Server(usize),
}

/// How many points have been passed at which a failure may strike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// Before and behind each event and before everything that a process sends.
    pub all: u64,
    /// Those of them at which the machines speak to each other on the peer link.
    pub of_peers: u64,
}

/// A point, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Among all.
    Any(u64),
    /// Among those of the peer link.
    OfPeers(u64),
}

/// A failure and the point at which it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Where.
    pub at: Point,
    /// What breaks.
    pub fault: Fault,
}

/// All of it.
pub struct World {
    /// The time.
    pub now: Instant,
    /// What the seed decided.
    pub scenario: Scenario,
    /// The two machines.
    pub machines: [Machine; 2],
    /// The client hosts.
    pub clients: Vec<Client>,
    /// The server hosts.
    pub servers: Vec<Server>,
    /// What must always hold.
    pub checker: Checker,
    /// What was seen on the wire.
    pub watch: Watch,
    /// What must become of every connection.
    pub reference: Reference,
    /// The witness, whether it is asked or not.
    pub witness: Witness,
    agenda: Agenda<Event>,
    rng: Rng,
    networks: [Vec<Station>; 2],
    /// Cable of machine `m` on network `n` is plugged in.
    pub plugged: [[bool; 2]; 2],
    /// The peer link works.
    pub peer_link: bool,
    /// Nothing gets from one machine to the other, while both reach all hosts.
    pub split: bool,
    /// Then: the hosts are apart, too, each at the side of one machine.
    pub divided: bool,
    /// Frames lost on the data networks on top of their manners, per thousand.
    pub extra_loss: u64,
    /// Machines that nothing reaches on the peer link.
    pub peer_deaf: [bool; 2],
    /// Machines at which nothing arrives.
    pub deaf: [bool; 2],
    /// Machines at which no frame of the other one arrives.
    pub unheard: [bool; 2],
    /// Datagrams lost on the peer link on top of its manners, per thousand.
    pub peer_loss: u64,
    stream_open: bool,
    timers: [Option<Instant>; 2],
    host_timers: Vec<Option<Instant>>,
    /// Events handled.
    pub steps: u64,
    /// Points passed at which a failure may strike.
    pub points: Points,
    /// A failure that strikes at a point.
    pub strike: Option<Strike>,
    /// What the model said at the end.
    pub tally: Tally,
    /// Note every frame in the checker's story.
    pub traced: bool,
}

impl World {
    /// The world that a scenario describes, switched on.
    pub fn new(scenario: Scenario) -> World {
        let mut rng = Rng::from_seed(scenario.seed ^ 0x5eed);
        let machines = [0, 1].map(|index| {
            let mut machine = Machine::new(index, scenario.config(index), rng.next_u64());
            (machine.sabotage, machine.deaf_thaw) = (scenario.sabotage, scenario.deaf_thaw);
            machine.max_flows = scenario.max_flows[index];
            machine.max_persistence = scenario.max_persistence[index];
            machine
        });
        let clients: Vec<Client> = (0..scenario.clients).map(|n| Client::new(client_host(n, rng.next_u64()))).collect();
        let servers: Vec<Server> =
            (0..scenario.servers).map(|n| Server::new(server_host(n, rng.next_u64()), n as u8)).collect();
        let on_client_side = [0, 1].map(Station::Machine).into_iter().chain((0..clients.len()).map(Station::Client));
        let on_server_side = [0, 1].map(Station::Machine).into_iter().chain((0..servers.len()).map(Station::Server));
        let hosts = clients.len() + servers.len();
        let reference = Reference::new(scenario.vservers.iter().flat_map(offers).collect());
        let mut world = World {
            now: Instant::ZERO,
            networks: [on_client_side.collect(), on_server_side.collect()],
            machines,
            clients,
            servers,
            checker: Checker::default(),
            watch: Watch::default(),
            reference,
            witness: Witness::new(scenario.seed),
            agenda: Agenda::default(),
            rng,
            plugged: [[true; 2]; 2],
            peer_link: true,
            split: false,
            divided: false,
            extra_loss: 0,
            peer_deaf: [false; 2],
            deaf: [false; 2],
            unheard: [false; 2],
            peer_loss: 0,
            stream_open: false,
            timers: [None; 2],
            host_timers: vec![None; hosts],
            steps: 0,
            points: Points::default(),
            strike: None,
            tally: Tally::default(),
            traced: false,
            scenario,
        };
        // Else the nodes themselves would say so first, and no checker would have to.
        world.checker.may_differ = world.scenario.sabotage == Sabotage::DropRecords;
        world.switch_on();
        world
    }

    /// Runs until `end`, or until `done` says so after an event. Whether it did.
    pub fn run_until(&mut self, end: Instant, mut done: impl FnMut(&mut World) -> bool) -> bool {
        while self.agenda.next_at().is_some_and(|at| at <= end) {
            let Some((at, event)) = self.agenda.pop() else { break };
            self.now = at;
            self.steps += 1;
            let peers = matches!(event, Event::Input { input: Input::Peer(_), .. });
            self.pass_point(peers);
            self.handle(event);
            self.pass_point(peers);
            self.checker.violations.extend(self.reference.take_found());
            if self.checker.failed() || done(self) {
                return true;
            }
        }
        self.now = self.now.max(end);
        false
    }

    /// Gives a running process something, in a turn of its own.
    pub fn give(&mut self, machine: usize, input: Input) {
        let target = &mut self.machines[machine];
        if target.node.is_none() {
            return;
        }
        if target.frozen_until.is_some() {
            target.backlog.push(input);
            return;
        }
        self.take_turn(machine, vec![input]);
    }

    /// A turn of a machine's process, and what comes of it.
    fn take_turn(&mut self, machine: usize, inputs: Vec<Input>) {
        self.reference.turn_begins(self.now);
        for input in &inputs {
            match input {
                Input::Peer(message) => self.reference.hears_peer(machine, message),
                Input::Frame(port, frame) => self.reference.machine_takes(machine, port.0.into(), frame),
                _ => {}
            }
        }
        let wishes = self.machines[machine].turn(self.now, inputs);
        self.grant(machine, wishes);
    }

    /// Starts a machine's process.
    pub fn start(&mut self, machine: usize) {
        if self.machines[machine].node.is_some() {
            return;
        }
        self.machines[machine].start(self.now);
        self.reference.starts(self.now, machine);
        if self.scenario.ports_after.is_zero() {
            self.give(machine, Input::Ports);
        }
        self.arm(machine);
        self.connect_stream();
    }

    /// Ends a machine's process; the other's kernel may notice.
    pub fn kill(&mut self, machine: usize, closes: bool) {
        if self.machines[machine].node.is_none() {
            return;
        }
        self.checker.note_death(self.now, machine);
        self.reference.dies(self.now, machine, &self.clients);
        self.machines[machine].stop();
        if self.stream_open {
            self.stream_open = false;
            if closes && self.peer_link && !self.split {
                let boot = self.machines[1 - machine].boot;
                let input = Input::Stream(self.scenario.death_seen);
                self.agenda.plan(self.now + CLOSE_DELAY, Event::Input { machine: 1 - machine, boot, input });
            }
        }
    }

    /// Whether the pair is whole: one primary, and a secondary that has caught up.
    pub fn is_whole(&self) -> bool {
        let [Some(a), Some(b)] = [0, 1].map(|m| self.machines[m].node.as_ref()) else { return false };
        let awake = self.machines.iter().all(Machine::is_awake);
        let (primary, secondary) = if a.role() == Role::Primary { (a, b) } else { (b, a) };
        awake
            && primary.role() == Role::Primary
            && primary.mirrors()
            && secondary.role() == Role::Secondary
            && secondary.caught_up()
            && secondary.term() == primary.term()
    }

    /// Whether there is a primary and a secondary that has no room for all of its flows: as whole as such a pair becomes.
    pub fn is_short_of_room(&self) -> bool {
        let roles =
            [0, 1].map(|m| self.machines[m].node.as_ref().filter(|_| self.machines[m].is_awake()).map(Node::role));
        let pair = [Some(Role::Primary), Some(Role::Secondary)];
        let small = self.scenario.max_flows[0] != self.scenario.max_flows[1];
        small && self.reference.is_short_of_room() && (roles == pair || roles == [pair[1], pair[0]])
    }

    /// Whether both machines know the same flows.
    pub fn agrees(&self) -> bool {
        let digest = |machine: &Machine| {
            machine.node.as_ref().map(|node| (node.engine().digest(), node.engine().counts().in_session))
        };
        digest(&self.machines[0]) == digest(&self.machines[1])
    }

    /// The machine that is primary, if exactly one is.
    pub fn primary(&self) -> Option<usize> {
        let is = |m: &usize| self.machines[*m].node.as_ref().is_some_and(|n| n.role() == Role::Primary);
        let mut primaries = [0, 1].into_iter().filter(is);
        primaries.next().filter(|_| primaries.next().is_none())
    }

    /// Breaks or mends something.
    pub fn apply(&mut self, fault: Fault) {
        self.checker.story.push((self.now, format!("{fault:?}")));
        self.reference.strikes(self.now, fault, &self.clients);
        match fault {
            Fault::Kill(machine) => self.kill(machine, true),
            Fault::PowerOff(machine) => {
                self.plugged[machine] = [false; 2];
                self.kill(machine, false);
            }
            Fault::Start(machine) => {
                self.plugged[machine] = [true; 2];
                self.start(machine);
            }
            Fault::Freeze(machine, pause) => {
                if self.machines[machine].is_awake() {
                    let until = self.now + pause;
                    self.machines[machine].freeze(self.now, until);
                    self.agenda.plan(until, Event::Timer { machine, at: until });
                }
            }
            Fault::PeerLink(up) => {
                self.peer_link = up;
                if up {
                    self.connect_stream();
                }
            }
            Fault::Cable(machine, network, up) => self.plugged[machine][network] = up,
            Fault::Carrier(machine, network, up) => {
                self.plugged[machine][network] = up;
                self.machines[machine].carriers[network] = up;
                let boot = self.machines[machine].boot;
                let event = Event::Input { machine, boot, input: Input::Ports };
                self.agenda.plan(self.now + CARRIER_DELAY, event);
            }
            Fault::ForceFailover => {
                if let Some(machine) = self.primary() {
                    self.give(machine, Input::Command(1, "force HA failover -force".into()));
                }
            }
            Fault::Stop(machine) => self.give(machine, Input::Stop),
            Fault::Split(split) => self.split = split,
            Fault::Divide(divided) => (self.split, self.divided) = (divided, divided),
            Fault::Witness(up) => self.witness.up = up,
            Fault::WitnessCable(machine, up) => self.witness.reaches[machine] = up,
            Fault::Loss(permille) => self.extra_loss = permille,
            Fault::PeerDeaf(machine) => self.peer_deaf[machine] = true,
            Fault::Deaf(machine, deaf) => {
                (self.deaf[machine], self.witness.reaches[machine]) = (deaf, !deaf);
            }
            Fault::PeerLoss(permille) => {
                self.peer_loss = permille;
                self.checker.link_bad_until = Instant::FAR;
            }
        }
    }

    /// The networks lose nothing any more.
    pub fn calm_networks(&mut self) {
        self.scenario.data_manners.loss_permille = 0;
        self.scenario.peer_manners.loss_permille = 0;
    }

    /// An operator types a command at a machine.
    pub fn command(&mut self, machine: usize, request: u64, line: &str) {
        self.give(machine, Input::Command(request, line.into()));
    }

    /// Keeps the servers' programs silent for a while; their TCP goes on.
    pub fn mute_servers(&mut self, until: Instant) {
        let mut hosts = Vec::new();
        for (number, server) in self.servers.iter_mut().enumerate() {
            server.muted_until = until;
            let host = self.clients.len() + number;
            hosts.push(host);
        }
        hosts.into_iter().for_each(|host| self.run_host(host));
    }

    /// The machine's own view of its neighbours' whereabouts aside, everything
    /// that is broken is mended and everything that is off is switched on.
    pub fn heal(&mut self) {
        for (machine, network) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            if !self.machines[machine].carriers[network] {
                self.apply(Fault::Carrier(machine, network, true));
            } else if !self.plugged[machine][network] {
                self.apply(Fault::Cable(machine, network, true));
            }
        }
        for machine in (0..2).filter(|machine| self.deaf[*machine]).collect::<Vec<_>>() {
            self.apply(Fault::Deaf(machine, false));
        }
        if self.peer_loss > 0 {
            self.checker.link_bad_until = self.now + Duration::from_secs(2);
        }
        self.witness.heal();
        self.reference.witness_mended(self.now);
        (self.extra_loss, self.peer_loss, self.peer_deaf, self.unheard) = (0, 0, [false; 2], [false; 2]);
        if self.split {
            self.apply(if self.divided { Fault::Divide(false) } else { Fault::Split(false) });
        }
        for machine in 0..2 {
            if let Some(until) = self.machines[machine].frozen_until {
                self.agenda.plan(until.max(self.now), Event::Timer { machine, at: until });
            }
            self.start(machine);
        }
        self.apply(Fault::PeerLink(true));
    }

    fn switch_on(&mut self) {
        for machine in 0..if self.scenario.first_only { 1 } else { 2 } {
            let delay = Duration::from_millis(self.rng.below(self.scenario.start_spread_ms + 1));
            self.agenda.plan(self.now + delay, Event::Fault(Fault::Start(machine)));
        }
        for (at, fault) in self.scenario.faults.clone() {
            self.agenda.plan(at, Event::Fault(fault));
        }
        for (index, open) in self.scenario.opens.iter().enumerate() {
            self.agenda.plan(open.at, Event::Open(index));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Frame { network, station, bytes } => self.deliver(network, station, bytes),
            Event::Input { machine, boot, input } => {
                if self.machines[machine].boot == boot {
                    if let Input::Stream(event) = &input {
                        self.stream_open |= matches!(event, StreamEvent::Open { .. });
                    }
                    self.give(machine, input);
                }
            }
            Event::Timer { machine, at } => self.timer(machine, at),
            Event::Host { host, at } => {
                if self.host_timers[host] == Some(at) {
                    self.run_host(host);
                }
            }
            Event::Stored { machine, boot, write } => self.stored(machine, boot, write),
            Event::Question(question) => self.answer(question),
            Event::Fault(fault) => self.apply(fault),
            Event::Open(index) => self.open(index),
        }
    }

    fn timer(&mut self, machine: usize, at: Instant) {
        let target = &mut self.machines[machine];
        if let Some(until) = target.frozen_until {
            if self.now < until || target.node.is_none() {
                return;
            }
            let backlog = target.thaw();
            self.take_turn(machine, backlog);
        } else if self.timers[machine] == Some(at) {
            self.timers[machine] = None;
            self.give(machine, Input::Timer);
        }
    }

    fn stored(&mut self, machine: usize, boot: u64, write: Write) {
        // What was being written when the process died may or may not be there; here it is not.
        if self.machines[machine].boot != boot || self.machines[machine].node.is_none() {
            return;
        }
        match write {
            Write::Term(term) => {
                if self.scenario.sabotage != Sabotage::ForgetTerm {
                    self.machines[machine].stored_term = term;
                }
                self.give(machine, Input::TermStored(term));
            }
            Write::Config(request, text) => {
                let stored = self.machines[machine].store_config(text);
                self.give(machine, Input::ConfigStored(request, stored));
            }
        }
    }

    /// Carries out what a process wants, and checks it.
    fn grant(&mut self, machine: usize, wishes: Vec<Wish>) {
        let boot = self.machines[machine].boot;
        let whole = self.is_whole();
        let excused = !self.has_path() && !self.scenario.witness;
        self.checker.after_turn(self.now, &self.machines, machine, !excused, whole);
        if self.machines[machine].refused_a_flow() {
            self.reference.refuses(self.now);
        }
        if self.machines[machine].judged_a_service() {
            self.reference.rehashes(self.now);
        }
        if self.machines[machine].was_squeezed() {
            self.reference.squeezes(self.now, &self.clients);
        }
        if self.machines[machine].found_no_room() {
            self.reference.has_no_room(self.now, machine, &self.clients);
        }
        if whole {
            self.reference.claims_whole();
        }
        for wish in wishes {
            self.pass_point(matches!(wish, Wish::Peer(_)));
            // It may have died amid the turn: what it had not sent it never sends.
            if self.machines[machine].boot != boot || self.machines[machine].node.is_none() {
                return;
            }
            match wish {
                Wish::Frame(port, bytes) => self.watched_send(machine, port, bytes),
                Wish::Peer(bytes) => {
                    self.reference.says_to_peer(self.now, machine, &bytes);
                    self.send_peer(1 - machine, bytes);
                }
                Wish::StoreTerm(term) => self.write(machine, Write::Term(term)),
                Wish::StoreConfig(request, text) => self.write(machine, Write::Config(request, text)),
                Wish::Key(request, key) => {
                    let input = Input::Key(request, key);
                    self.agenda.plan(self.now + KEY_DELAY, Event::Input { machine, boot, input });
                }
                Wish::Witness(call) => self.ask_witness(machine, call),
                Wish::Probe(request) => self.probe(machine, &request),
                Wish::Ports => {
                    let at = self.now + self.scenario.ports_after;
                    self.agenda.plan(at, Event::Input { machine, boot, input: Input::Ports });
                }
                Wish::Stopped => self.kill(machine, true),
            }
        }
        self.arm(machine);
    }

    /// A failure may strike here: before an event, behind one, or amid a turn,
    /// before something that the process sends.
    fn pass_point(&mut self, peers: bool) {
        self.points.all += 1;
        self.points.of_peers += u64::from(peers);
        let Some(strike) = self.strike else { return };
        let reached = match strike.at {
            Point::Any(number) => self.points.all == number,
            Point::OfPeers(number) => peers && self.points.of_peers == number,
        };
        if reached {
            self.strike = None;
            self.apply(strike.fault);
        }
    }

    /// Something reaches a machine's process later, if it is still the same life.
    pub(crate) fn plan_input(&mut self, at: Instant, machine: usize, input: Input) {
        let boot = self.machines[machine].boot;
        self.agenda.plan(at, Event::Input { machine, boot, input });
    }

    /// A question gets to the witness later, whatever becomes of who asked.
    pub(crate) fn plan_question(&mut self, at: Instant, question: Question) {
        self.agenda.plan(at, Event::Question(question));
    }

    fn write(&mut self, machine: usize, write: Write) {
        let boot = self.machines[machine].boot;
        let delay = Duration::from_micros(200 + self.rng.below(self.scenario.disk_us));
        self.agenda.plan(self.now + delay, Event::Stored { machine, boot, write });
    }

    fn arm(&mut self, machine: usize) {
        let Some(at) = self.machines[machine].next_turn() else { return };
        let at = at.max(self.now + Duration::from_micros(1));
        if self.timers[machine].is_none_or(|armed| at < armed || armed < self.now) {
            self.timers[machine] = Some(at);
            self.agenda.plan(at, Event::Timer { machine, at });
        }
    }

    fn send_peer(&mut self, to: usize, bytes: Vec<u8>) {
        if !self.peer_link || self.split || self.peer_deaf[to] || self.deaf[to] || self.rng.chance(self.peer_loss, 1000)
        {
            return;
        }
        let boot = self.machines[to].boot;
        for at in self.scenario.peer_manners.arrivals(self.now, &mut self.rng) {
            self.agenda.plan(at, Event::Input { machine: to, boot, input: Input::Peer(bytes.clone()) });
        }
    }

    fn open(&mut self, index: usize) {
        self.open_one(self.scenario.opens[index]);
    }

    /// A client will open a connection or an exchange.
    pub fn plan_opening(&mut self, open: Opening) {
        self.scenario.opens.push(open);
        self.agenda.plan(open.at, Event::Open(self.scenario.opens.len() - 1));
    }

    /// A client opens a connection or an exchange now; its number in the client's list.
    pub fn open_one(&mut self, open: Opening) -> usize {
        let vserver = &self.scenario.vservers[open.vserver];
        let to: IpAddress = if open.v6 { IpAddress::Ipv6(vserver.v6) } else { IpAddress::Ipv4(vserver.v4) };
        let port = vserver.port;
        let client = &mut self.clients[open.client];
        let number = if open.udp {
            client.exchange(self.now, open.client, open.vserver, (to, port));
            client.exchanges.len() - 1
        } else {
            let Opening { vserver, bytes: total, pause, manner, reuse, .. } = open;
            client.open(self.now, &Call { vserver, to: (to, port), total, pause, manner, reuse })
        };
        self.run_host(open.client);
        number
    }

    /// A client begins an FTP session now.
    pub fn fetch(&mut self, client: usize, vserver: usize, v6: bool, ways: &[Way], bytes: u64) {
        let vserver = &self.scenario.vservers[vserver];
        let to: IpAddress = if v6 { IpAddress::Ipv6(vserver.v6) } else { IpAddress::Ipv4(vserver.v4) };
        let port = vserver.port;
        self.clients[client].fetch((to, port), ways, bytes);
        self.run_host(client);
    }

    fn connect_stream(&mut self) {
        if !self.peer_link
            || self.split
            || self.stream_open
            || self.machines.iter().any(|machine| machine.node.is_none())
        {
            return;
        }
        for machine in 0..2 {
            let boot = self.machines[machine].boot;
            let input = Input::Stream(StreamEvent::Open { round_trip: self.scenario.peer_manners.delay * 2 });
            self.agenda.plan(self.now + CONNECT_DELAY, Event::Input { machine, boot, input });
        }
    }
}

/// What a vserver promises, at its two addresses.
fn offers(spec: &VserverSpec) -> [Offer; 2] {
    let promise = match spec.failover {
        "STATEFUL" => Promise::Stateful,
        "STATELESS" => Promise::Stateless,
        _ => Promise::Disabled,
    };
    let at = |ip| Offer { at: SocketAddr::new(ip, spec.port), promise };
    [at(spec.v4.into()), at(spec.v6.into())]
}

fn client_host(number: usize, seed: u64) -> Host {
    let last = number as u8 + 11;
    let v6 = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last.into());
    Host::new(Instant::ZERO, MacAddr([2, 0, 0, 1, 0, last]), Ipv4Addr::new(10, 0, 1, last), v6, None, seed)
}

fn server_addresses(number: usize) -> [IpAddr; 2] {
    let last = number as u8 + 21;
    [Ipv4Addr::new(10, 0, 2, last).into(), Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, last.into()).into()]
}

fn server_host(number: usize, seed: u64) -> Host {
    let last = number as u8 + 21;
    let v6 = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, last.into());
    let gateway = (Ipv4Addr::new(10, 0, 2, 5), Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 5));
    Host::new(Instant::ZERO, MacAddr([2, 0, 0, 2, 0, last]), Ipv4Addr::new(10, 0, 2, last), v6, Some(gateway), seed)
}
