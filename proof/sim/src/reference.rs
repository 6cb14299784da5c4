//! The reference model: what Holdfast promises, told slowly and without any of
//! its code.
//!
//! It sees what an onlooker with a tap on every cable sees: frames, that the
//! machines say *something* to each other (not what), the hosts' sockets, and
//! which faults strike. From that it says of every connection and exchange
//! whether it must survive, may be lost, or must be reset, and at the end
//! compares this with what really became of it.
//!
//! **Who must know a connection.** The node that lets the answer through which
//! makes the client believe. Its peer too, if between the arrival of the client's
//! first packet and the answer's leaving a message went to the peer and another
//! came back: the peer can have acknowledged. Without such a round trip nobody but the node knows
//! it; the answer may leave so only while the peer is not there.
//! When a pair has become whole, both know what either knew.
//!
//! **When it is forgotten.** A fault that takes a node's memory takes the node
//! out of the knowers of all that is open. A connection that nobody knows any
//! more may be lost; every other one must survive.
//!
//! **Divided.** While hosts reach one machine only, each machine serves its side, and nobody can have told anybody. What
//! a side opens then is known by its machine, and must go on when the network is one again, wherever it is
//! served; unless its ends were those of an earlier connection, which the other side may know still. (An exchange may begin
//! afresh at the other machine before that one has heard of it: it is excused.) The same holds for what begins after that,
//! until the pair is whole: one of two that lead serves it.
//!
//! **Whole.** From the moment at which the pair tells its operator so: a claim
//! binds. If it never does, [`HEALED_WITHIN`] after the last disturbance all
//! the same: silence does not excuse.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use core::net::SocketAddr;
use core::time::Duration;

use holdfast_base::Instant;

use crate::apps::{Client, Connection, Exchange};
use crate::scenario::Fault;
use crate::sight::{Segment, Sight, look};
pub use crate::statement::{Statement, Tally};
use crate::statement::{describe, difference, millis};
use crate::world::{CLIENT_SIDE, SERVER_SIDE};
use tracked::{Caller, Peer, Proof, Tracked};

mod tracked;

/// So long after the last disturbance a pair counts as whole, whatever it says.
pub const HEALED_WITHIN: Duration = Duration::from_secs(15);
/// Two nodes that find each other have met within this time.
const MEETING: Duration = Duration::from_secs(1);
/// Messages are forgotten after this long: nothing is under way longer than the longest freeze.
const MESSAGE_LIFE: Duration = Duration::from_secs(20);

/// Why nothing can be said.
const APART: &str = "two nodes served while nothing got from one to the other";

/// What a vserver promises when a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Connections survive, known to both nodes.
    Stateful,
    /// Connections survive, known to nobody: rebuilt from any packet.
    Stateless,
    /// Connections are reset.
    Disabled,
}

/// What is promised to those who call an address.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The address and port that clients call.
    pub at: SocketAddr,
    /// The promise.
    pub promise: Promise,
}

/// What an onlooker knows of one node.
#[derive(Clone, Copy, Debug, Default)]
struct NodeView {
    running: bool,
    frozen_until: Option<Instant>,
    /// Asked to end; it does not count any more.
    leaving: bool,
    cut: [bool; 2],
    /// It has everything that the pair knew, as far as the promise goes.
    stands: bool,
    /// It said that its table has no room, and the pair has not been whole since: it need not know what it acknowledges.
    full: bool,
    /// Lives so far.
    life: u64,
    /// The latest turn of the other node of which something was heard.
    heard: u64,
    /// The latest own turn that the other node had heard of when it said what was heard.
    echoed: u64,
}

/// A message between the machines that is under way.
#[derive(Clone, Copy, Debug)]
struct Message {
    from: usize,
    life: u64,
    turn: u64,
    echo: u64,
    at: Instant,
}

/// The model.
pub struct Reference {
    offers: Vec<Offer>,
    /// No proof leaves before the peer knows: what is promised if the operator has not chosen otherwise.
    pub strict: bool,
    nodes: [NodeView; 2],
    tracked: Vec<Tracked>,
    messages: BTreeMap<u64, Message>,
    turn: u64,
    split: bool,
    divided: bool,
    /// The network is one again, and the pair is not whole since: two nodes may lead until they have met.
    reuniting: bool,
    /// When a machine could not reach the witness, from the cut until all was mended: it gives way if it does not hear the
    /// other one either.
    unwitnessed: Vec<(Instant, Instant)>,
    disturbed: Instant,
    /// The first turn of the time for which the pair has said that it is whole.
    settled: Option<u64>,
    /// When no node was left that stands, and why.
    ruins: Vec<(Instant, String)>,
    /// When a node lost sight of the servers, or may have begun to judge them afresh.
    rehashed: Vec<Instant>,
    /// When a node last said that it refuses new flows since its table is full, and each time before.
    refused: Vec<Instant>,
    /// What was found while it happened.
    found: Vec<String>,
}

impl Reference {
    /// A model of a pair that is off, with what it offers.
    pub fn new(offers: Vec<Offer>) -> Reference {
        Reference {
            offers,
            strict: true,
            nodes: [NodeView::default(); 2],
            tracked: Vec::new(),
            messages: BTreeMap::new(),
            turn: 0,
            split: false,
            divided: false,
            reuniting: false,
            unwitnessed: Vec::new(),
            disturbed: Instant::ZERO,
            settled: None,
            ruins: Vec::new(),
            rehashed: Vec::new(),
            refused: Vec::new(),
            found: Vec::new(),
        }
    }

    /// A machine's process begins a turn.
    pub fn turn_begins(&mut self, now: Instant) {
        self.turn += 1;
        for node in &mut self.nodes {
            if node.frozen_until.is_some_and(|until| until <= now) {
                node.frozen_until = None;
                self.disturbed = now;
            }
        }
        if now.since(self.disturbed) >= HEALED_WITHIN && !self.is_short_of_room() {
            self.become_whole();
        }
    }

    /// The pair tells its operator that it is whole.
    pub fn claims_whole(&mut self) {
        if self.can_be_whole() {
            self.become_whole();
            self.settled.get_or_insert(self.turn + 1);
        }
    }

    fn can_be_whole(&self) -> bool {
        let able =
            |node: &NodeView| node.running && node.frozen_until.is_none() && !node.leaving && node.cut == [false; 2];
        self.nodes.iter().all(able) && !self.split
    }

    /// Both know what either knew.
    fn become_whole(&mut self) {
        if !self.can_be_whole() || self.nodes.iter().all(|node| node.stands && !node.full) {
            return;
        }
        self.nodes.iter_mut().for_each(|node| (node.stands, node.full) = (true, false));
        self.reuniting = false;
        let open = self.tracked.iter_mut().filter(|tracked| tracked.offer.promise == Promise::Stateful);
        for proof in open.flat_map(|tracked| tracked.proofs.values_mut()) {
            if proof.knowers != [false; 2] {
                proof.knowers = [true; 2];
            }
        }
    }

    /// A machine's process says that a flow found no room: whatever it knew may have given way to something else, and the
    /// other node counts on nothing that it acknowledged.
    pub fn has_no_room(&mut self, now: Instant, machine: usize, clients: &[Client]) {
        self.nodes[machine].full = true;
        self.give_up(now, machine, &format!("node {machine} had no room"), clients);
    }

    /// A machine's process says that it refused a new flow for want of room. Whoever was known keeps its place.
    pub fn refuses(&mut self, now: Instant) {
        self.refused.push(now);
    }

    /// A machine's process had no room for what only one side of a divided network had.
    pub fn squeezes(&mut self, now: Instant, clients: &[Client]) {
        for tracked in self.tracked.iter_mut().filter(|tracked| tracked.sided && !tracked.is_over(clients)) {
            tracked.lose(now, "a table was full when the network was one again".into());
        }
    }

    /// A node that leads says that a service went up or down: the same packet may choose another one from here on.
    pub fn rehashes(&mut self, now: Instant) {
        self.rehashed.push(now);
    }

    /// Whether a node has said that it has no room, and the pair has not been whole since.
    pub fn is_short_of_room(&self) -> bool {
        self.nodes.iter().any(|node| node.full)
    }

    /// A machine's process begins its life.
    pub fn starts(&mut self, now: Instant, machine: usize) {
        self.disturb(now);
        let life = self.nodes[machine].life + 1;
        let cut = self.nodes[machine].cut;
        self.nodes[machine] = NodeView { running: true, life, cut, ..NodeView::default() };
    }

    /// A machine's process ends.
    pub fn dies(&mut self, now: Instant, machine: usize, clients: &[Client]) {
        self.forgets(now, machine, &format!("node {machine} died"), clients);
        self.nodes[machine].running = false;
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.is_over(clients)) {
            tracked.dies_with(machine);
        }
    }

    fn disturb(&mut self, now: Instant) {
        self.disturbed = now;
        self.settled = None;
    }

    /// A fault strikes or is mended.
    pub fn strikes(&mut self, now: Instant, fault: Fault, clients: &[Client]) {
        match fault {
            Fault::Kill(_) | Fault::PowerOff(_) | Fault::Start(_) => {}
            Fault::Freeze(machine, pause) => {
                if self.nodes[machine].running && self.nodes[machine].frozen_until.is_none() {
                    self.forgets(now, machine, &format!("node {machine} stood still"), clients);
                    self.nodes[machine].frozen_until = Some(now + pause);
                }
            }
            Fault::Cable(machine, network, up) | Fault::Carrier(machine, network, up) => {
                self.nodes[machine].cut[network] = !up;
                if network == SERVER_SIDE {
                    self.rehashed.push(now);
                }
                if !up {
                    self.forgets(now, machine, &format!("node {machine} lost a cable"), clients);
                }
            }
            Fault::Deaf(machine, deaf) => {
                self.nodes[machine].cut = [deaf; 2];
                self.rehashed.push(now);
                if deaf {
                    self.unwitnessed.push((now, Instant::FAR));
                    self.forgets(now, machine, &format!("node {machine} went deaf"), clients);
                }
            }
            Fault::Stop(machine) => {
                self.forgets(now, machine, &format!("node {machine} was asked to end"), clients);
                self.nodes[machine].leaving = self.nodes[machine].running;
            }
            Fault::ForceFailover => self.hand_over(now, None, "a failover was forced", clients),
            Fault::Split(begins) => self.parts(now, begins, clients),
            Fault::Divide(begins) => {
                self.parts(now, begins, clients);
                (self.divided, self.reuniting) = (begins, !begins);
            }
            Fault::Witness(up) | Fault::WitnessCable(_, up) => {
                if !up {
                    self.unwitnessed.push((now, Instant::FAR));
                }
            }
            Fault::PeerLink(_) | Fault::PeerDeaf(_) | Fault::Loss(_) | Fault::PeerLoss(_) => {}
        }
        self.disturb(now);
    }

    /// Every machine reaches the witness again.
    pub fn witness_mended(&mut self, now: Instant) {
        self.unwitnessed
            .iter_mut()
            .filter(|(_, end)| *end == Instant::FAR)
            .for_each(|(_, end)| *end = now + HEALED_WITHIN);
    }

    /// A node does not count any more: what only it knew is lost.
    fn forgets(&mut self, now: Instant, machine: usize, why: &str, clients: &[Client]) {
        self.hand_over(now, Some(machine), why, clients);
        self.give_up(now, machine, why, clients);
    }

    /// Nobody counts on what a node knows.
    fn give_up(&mut self, now: Instant, machine: usize, why: &str, clients: &[Client]) {
        self.disturb(now);
        self.nodes[machine].stands = false;
        self.nodes.iter_mut().for_each(|node| (node.heard, node.echoed) = (0, 0));
        if self.nodes.iter().all(|node| !node.stands) {
            self.ruins.push((now, format!("{why} and the other node was not whole")));
        }
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.is_over(clients)) {
            tracked.forget(now, machine, why);
        }
    }

    /// Another node may serve from here on what `machine` (or any) served.
    fn hand_over(&mut self, now: Instant, machine: Option<usize>, why: &str, clients: &[Client]) {
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.is_over(clients)) {
            let serves = tracked.believed_proof().is_none_or(|proof| machine.is_none_or(|m| proof.knowers[m]));
            if serves && tracked.handed.is_none() {
                tracked.handed = Some((now, why.into()));
            }
        }
    }

    /// The nodes lose sight of each other, or find each other again.
    fn parts(&mut self, now: Instant, begins: bool, clients: &[Client]) {
        if !begins && !self.split {
            return;
        }
        self.split = begins;
        self.nodes.iter_mut().for_each(|node| node.stands = false);
        self.ruins.push((now, "the nodes did not see each other".into()));
        self.hand_over(now, None, "the nodes did not see each other", clients);
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.is_over(clients)) {
            tracked.parted = true;
            if !tracked.sided {
                tracked.excuse.get_or_insert((now, APART.into()));
            }
        }
    }

    /// A client sends a frame.
    pub fn client_sends(&mut self, now: Instant, client: usize, frame: &[u8]) {
        let (from, to, isn) = match look(frame) {
            Sight::Segment(segment) if segment.syn && !segment.ack => (segment.from, segment.to, segment.sequence),
            Sight::Datagram(from, to, _) => (from, to, 0),
            Sight::Segment(_) | Sight::Private | Sight::Other => return,
        };
        let caller = Caller { client, end: from };
        let Some(&offer) = self.offers.iter().find(|offer| offer.at == to) else { return };
        if self.tracked.iter().any(|known| known.caller == caller && known.isn == isn) {
            return;
        }
        let again = self.tracked.iter().any(|known| known.caller == caller);
        let apart = self.divided || self.reuniting;
        let sided = apart && offer.promise == Promise::Stateful && isn != 0 && !again;
        // Any node rebuilds a stateless one, also while two lead.
        let excused = self.split || self.reuniting && offer.promise != Promise::Stateless;
        let excuse = (excused && !sided).then(|| (now, APART.into()));
        self.tracked.push(Tracked {
            caller,
            offer,
            isn,
            begun: now,
            proofs: BTreeMap::new(),
            believed: None,
            excuse,
            parted: self.split || self.reuniting,
            sided,
            handed: None,
            arrived: [None; 2],
            latest: [None; 2],
            seen: None,
            taken: [false; 2],
        });
    }

    /// A machine's process takes a message of the other machine.
    pub fn hears_peer(&mut self, machine: usize, message: &[u8]) {
        let Some(&Message { from, life, turn, echo, .. }) = self.messages.get(&digest(message)) else { return };
        // What a node had said before it failed does not make it one that knows.
        let sender = &self.nodes[from];
        let counts = sender.running && sender.frozen_until.is_none() && life == sender.life;
        if from == 1 - machine && counts {
            let node = &mut self.nodes[machine];
            node.heard = node.heard.max(turn);
            node.echoed = node.echoed.max(echo);
        }
    }

    /// A machine sends the other a message.
    pub fn says_to_peer(&mut self, now: Instant, machine: usize, message: &[u8]) {
        let NodeView { life, heard: echo, .. } = self.nodes[machine];
        self.messages.insert(digest(message), Message { from: machine, life, turn: self.turn, echo, at: now });
        if self.messages.len() > 10_000 {
            self.messages.retain(|_, message| now.since(message.at) < MESSAGE_LIFE);
        }
    }

    /// A machine's process takes a frame from a data network.
    pub fn machine_takes(&mut self, machine: usize, network: usize, frame: &[u8]) {
        let turn = self.turn;
        match look(frame) {
            Sight::Private => self.hears_peer(machine, frame),
            Sight::Segment(Segment { syn: true, ack: false, from, sequence, .. }) if network == CLIENT_SIDE => {
                let same = |t: &&mut Tracked| t.caller.end == from && t.isn == sequence;
                if let Some(tracked) = self.tracked.iter_mut().rev().find(same) {
                    tracked.seen.get_or_insert(turn);
                    tracked.taken[machine] = true;
                }
            }
            // Before the server's answer is here there is nothing that the other node could be told.
            Sight::Segment(Segment { syn: true, ack: true, acknowledges, .. }) if network == SERVER_SIDE => {
                let isn = acknowledges.wrapping_sub(1);
                if let Some(tracked) = self.tracked.iter_mut().rev().find(|t| t.is_tcp() && t.isn == isn) {
                    tracked.arrived[machine].get_or_insert(turn);
                }
            }
            Sight::Datagram(from, to, _) if network == CLIENT_SIDE => {
                if let Some(tracked) = self.tracked.iter_mut().find(|t| t.caller.end == from && t.offer.at == to) {
                    tracked.seen.get_or_insert(turn);
                    tracked.arrived[machine].get_or_insert(turn);
                    tracked.latest[machine] = Some(turn);
                }
            }
            Sight::Segment(_) | Sight::Datagram(..) | Sight::Other => {}
        }
    }

    /// A frame leaves a machine.
    pub fn machine_sends(&mut self, now: Instant, machine: usize, network: usize, frame: &[u8], link_bad: bool) {
        match look(frame) {
            Sight::Private => self.says_to_peer(now, machine, frame),
            Sight::Segment(segment) if network == CLIENT_SIDE => {
                if segment.syn && segment.ack {
                    let isn = segment.acknowledges.wrapping_sub(1);
                    let asked = |t: &Tracked| t.isn == isn && t.caller.end == segment.to && t.offer.at == segment.from;
                    let index = self.tracked.iter().rposition(|t| t.is_tcp() && asked(t));
                    let key = Peer::Sequence(segment.sequence);
                    self.released(now, machine, index, key, link_bad);
                } else {
                    self.goes_on(now, machine, &segment);
                }
            }
            Sight::Datagram(_, to, payload) if network == SERVER_SIDE => {
                let index = self.exchange_of(&payload);
                self.released(now, machine, index, Peer::Server(to), link_bad);
            }
            Sight::Segment(_) | Sight::Datagram(..) | Sight::Other => {}
        }
    }

    /// A proof leaves a node.
    fn released(&mut self, now: Instant, machine: usize, index: Option<usize>, key: Peer, link_bad: bool) {
        let node = self.nodes[machine];
        let there = self.settled.filter(|_| self.nodes.iter().all(|node| node.stands) && !link_bad);
        let Some(index) = index else { return };
        let reused = self.tracked[..index].iter().any(|earlier| earlier.caller == self.tracked[index].caller);
        let tracked = &mut self.tracked[index];
        let name = tracked.to_string();
        let proof = tracked.proofs.entry(key).or_default();
        if proof.knowers[machine] {
            return;
        }
        (proof.released, proof.forgotten) = (true, None);
        proof.knowers[machine] = true;
        if !tracked.is_tcp() && !tracked.parted && tracked.believed.is_some_and(|(known, _)| known == key) {
            tracked.excuse = None;
        }
        if tracked.offer.promise != Promise::Stateful {
            return;
        }
        let Some(proof) = tracked.proofs.get_mut(&key) else { return };
        let Some(arrived) = tracked.arrived[machine] else { return };
        let there = there.is_some_and(|since| tracked.seen.is_some_and(|seen| since <= seen));
        // Two that lead and find each other again say a lot, but nothing of this.
        if self.nodes[1 - machine].full || tracked.parted {
            return;
        }
        if node.echoed >= tracked.latest[machine].unwrap_or(arrived) || there && reused {
            // What had the same ends before may be known still, and need not be told.
            proof.knowers[1 - machine] = true;
        } else if self.strict && there && node.echoed < arrived {
            self.found.push(format!(
                "{:?}: {name} was let through by node {machine} before its peer, which was there, can have known of it",
                millis(now)
            ));
        }
    }

    /// Data passes a node towards a client.
    fn goes_on(&mut self, now: Instant, machine: usize, segment: &Segment) {
        let met = |t: &&Tracked| t.is_tcp() && t.caller.end == segment.to && t.offer.at == segment.from;
        let mut met = self.tracked.iter().rev().filter(met);
        let Some(tracked) = met.next() else { return };
        let Some(proof) = tracked.believed_proof() else { return };
        if met.next().is_some() {
            // What had the same ends before may be known still.
            return;
        }
        // Who took its first packet may have made a flow of it, though another answered: a node that froze then, say.
        let knows = proof.knowers[machine] || tracked.taken[machine];
        if tracked.offer.promise == Promise::Disabled && segment.payload > 0 && !segment.rst && !knows {
            self.found.push(format!(
                "{:?}: {tracked} goes on through node {machine}, which cannot know it: its vserver is DISABLED",
                millis(now)
            ));
        }
    }

    /// A client takes a frame.
    pub fn client_takes(&mut self, now: Instant, client: usize, frame: &[u8]) {
        let Sight::Segment(segment) = look(frame) else { return };
        if !(segment.syn && segment.ack) {
            return;
        }
        let isn = segment.acknowledges.wrapping_sub(1);
        let caller = Caller { client, end: segment.to };
        let mine = |t: &&mut Tracked| t.caller == caller && t.offer.at == segment.from && t.isn == isn && t.is_tcp();
        if let Some(tracked) = self.tracked.iter_mut().find(mine) {
            tracked.believe(now, Peer::Sequence(segment.sequence));
        }
    }

    /// A server takes a frame.
    pub fn server_takes(&mut self, now: Instant, frame: &[u8]) {
        let Sight::Datagram(_, to, payload) = look(frame) else { return };
        let Some(tracked) = self.exchange_of(&payload).and_then(|index| self.tracked.get_mut(index)) else { return };
        let key = Peer::Server(to);
        match tracked.believed {
            Some((before, _)) if before != key => {
                if tracked.believed_proof().is_some_and(|proof| proof.knowers != [false; 2])
                    && tracked.excuse.is_none()
                    && tracked.offer.promise == Promise::Stateful
                {
                    self.found.push(format!("{:?}: {tracked} moved from {before:?} to {key:?}", millis(now)));
                }
                tracked.believed = None;
                tracked.excuse.take_if(|_| !tracked.parted);
                tracked.believe(now, key);
            }
            Some(_) => {}
            None => tracked.believe(now, key),
        }
    }

    /// The exchange that a datagram's first bytes name.
    fn exchange_of(&self, payload: &[u8]) -> Option<usize> {
        let (client, port) = Exchange::name_in(payload)?;
        let client = usize::from(client);
        self.tracked.iter().position(|t| !t.is_tcp() && t.caller.client == client && t.caller.end.port() == port)
    }

    /// What the model says of a client's connection.
    pub fn statement(&self, client: usize, connection: &Connection) -> Statement {
        let ended = connection.ended.unwrap_or(Instant::FAR);
        let within = |at: Instant| connection.opened <= at && at <= ended;
        let ruin = self.ruins.iter().find(|(at, _)| within(*at));
        let refused = self.refused.iter().any(|&at| within(at));
        let unseen = || match ruin {
            Some((_, why)) => Statement::MayBeLost(why.clone()),
            None if refused => Statement::MayBeLost("the table was full".into()),
            None => Statement::MustOpen,
        };
        let Some(tracked) = self.of_connection(client, connection) else { return unseen() };
        if let Some((_, why)) = tracked.excuse.as_ref().filter(|(at, _)| *at <= ended) {
            return Statement::MayBeLost(why.clone());
        }
        let Some((_, at)) = tracked.believed else { return unseen() };
        let handed = tracked.handed.as_ref().filter(|(at, _)| within(*at));
        match (tracked.offer.promise, handed) {
            (Promise::Stateful, _) => Statement::MustSurvive(format!("believed since {:?} and known", millis(at))),
            (Promise::Stateless, _) => match ruin {
                Some((_, why)) => Statement::MayBeLost(why.clone()),
                None if self.rehashed.iter().any(|&at| within(at)) => {
                    Statement::MayBeLost("a service went up or down".into())
                }
                // It is rebuilt as a new flow.
                None if refused && handed.is_some() => Statement::MayBeLost("the table was full".into()),
                None => Statement::MustSurvive("any node can rebuild it".into()),
            },
            (Promise::Disabled, None) => {
                let met = |(at, _): &(Instant, String)| *at <= connection.opened && connection.opened < *at + MEETING;
                if self.ruins.iter().any(met) {
                    return Statement::MayBeLost("both nodes may have led when it began".into());
                }
                if self.unwitnessed.iter().any(|&(from, to)| from <= ended && connection.opened <= to) {
                    return Statement::MayBeLost("its node may have given way for want of the witness".into());
                }
                Statement::MustSurvive("nothing befell its node".into())
            }
            (Promise::Disabled, Some((_, why))) if tracked.believed_proof().is_some_and(Proof::is_unknown) => {
                Statement::MustBeReset(why.clone())
            }
            (Promise::Disabled, Some((_, why))) => Statement::MayBeLost(why.clone()),
        }
    }

    fn of_connection(&self, client: usize, connection: &Connection) -> Option<&Tracked> {
        let same = |t: &&Tracked| {
            let end = t.caller.end;
            t.is_tcp() && t.caller.client == client && end.port() == connection.port && end.is_ipv6() == connection.v6
        };
        self.tracked.iter().filter(same).find(|t| t.begun >= connection.opened)
    }

    /// Whether a client's connection may have been lost by `now`.
    pub fn excuses(&self, client: usize, connection: &Connection) -> bool {
        matches!(self.statement(client, connection), Statement::MayBeLost(_) | Statement::MustBeReset(_))
    }

    /// When no node was left that had to know what the pair had known.
    pub fn last_ruin(&self) -> Instant {
        self.ruins.last().map_or(Instant::ZERO, |(at, _)| *at)
    }

    /// What was found since this was last asked.
    pub fn take_found(&mut self) -> Vec<String> {
        core::mem::take(&mut self.found)
    }

    /// Compares what became of everything with what the model says; `judged_from`: since when exchanges have been watched.
    pub fn compare(&self, judged_from: Instant, clients: &[Client]) -> (Tally, Vec<String>) {
        let (mut tally, mut differences) = (Tally::default(), Vec::new());
        for (number, client) in clients.iter().enumerate() {
            for connection in &client.connections {
                let statement = self.statement(number, connection);
                tally.count(&statement);
                if let Some(what) = difference(&statement, connection) {
                    differences.push(format!("client {number} {}: {what}", describe(connection)));
                }
            }
            for exchange in &client.exchanges {
                let refused = self.refused.last().is_some_and(|&at| at >= judged_from);
                if refused && !self.must_know(number, exchange.name.1) {
                    tally.excused += 1;
                    continue;
                }
                tally.survive += 1;
                if !exchange.answers {
                    let (port, answered) = (exchange.name.1, exchange.answered);
                    differences.push(format!(
                        "client {number} port {port}: its datagrams must be answered and are not, after {answered} answers"
                    ));
                }
            }
        }
        (tally, differences)
    }

    /// Whether somebody must know an exchange: it needs no room in a table.
    fn must_know(&self, client: usize, port: u16) -> bool {
        let mut own =
            self.tracked.iter().filter(|t| !t.is_tcp() && t.caller.client == client && t.caller.end.port() == port);
        own.any(|t| t.excuse.is_none() && t.believed_proof().is_some_and(|proof| proof.knowers != [false; 2]))
    }
}

fn digest(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(message);
    hasher.finish()
}
