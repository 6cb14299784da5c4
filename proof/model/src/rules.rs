//! What a node does: the rules of `core/ha/src/{machine,state,inquiry}.rs` and of `core/node/src/promote.rs`, without
//! the planned switchover, the statuses and the comparison of clients' packets.

use crate::node::{Kind, Knows, Letter, Licence, Life, Node, Outcome, Request, Role, Stream};
use crate::variant::{Rule, Variant};
use crate::world::{Action, World, letter};

/// Terms with a bit in [`World::led`].
const TERM_BITS: u8 = 16;

/// One step that is being taken.
pub(crate) struct Step<'a> {
    v: &'a Variant,
    w: &'a mut World,
    late: bool,
}

impl<'a> Step<'a> {
    pub(crate) fn new(v: &'a Variant, w: &'a mut World) -> Step<'a> {
        Step { v, w, late: false }
    }

    pub(crate) fn take(&mut self, action: Action) {
        match action {
            Action::Tick => {}
            Action::Turn { node, late } => self.sending(node, late, |step| step.turn(node)),
            Action::Deliver { to, index, late } => self.sending(to, late, |step| step.deliver(to, index)),
            Action::Judge { node, late } => {
                self.judge(node);
                if self.v.prompt {
                    self.sending(node, late, |step| step.answered(node));
                }
            }
            Action::Answer { node, late } => self.sending(node, late, |step| step.answered(node)),
            Action::Open { node } => self.open(node),
            Action::Record { from, connection } => self.record(from, connection),
            Action::Digest { from, late } => self.digest(from, late),
            Action::Ack { to, connection } => self.ack(to, connection),
            Action::Closed { node, late } => self.sending(node, late, |step| step.closed(node)),
            Action::Kill { node } => self.end(node, true),
            Action::Power { node } => self.end(node, false),
            Action::Start { node } => self.start(node),
            Action::Freeze { node } => {
                self.fault(node);
                self.w.nodes[node].life = Life::Frozen;
                self.w.nodes[node].turned = true;
            }
            Action::Thaw { node } => {
                self.w.nodes[node].life = Life::Running;
                self.w.nodes[node].turned = false;
            }
            Action::Cut => {
                self.w.works = false;
                // The newest of what is under way may be late; the rest is lost.
                for letters in &mut self.w.letters {
                    letters.drain(..letters.len().saturating_sub(1));
                }
                self.w.cuts -= 1;
                self.w.calm = 0;
            }
            Action::Heal => self.w.works = true,
        }
    }

    /// Every input begins with a look at the lease, and ends with what is due.
    fn sending(&mut self, node: usize, late: bool, act: impl FnOnce(&mut Step<'a>)) {
        self.late = late;
        self.enter(node);
        act(self);
        self.reserve(node);
    }

    fn node(&mut self, node: usize) -> &mut Node {
        &mut self.w.nodes[node]
    }

    /// A primary whose lease has ended, and a node that was not run for longer than the dead interval, listen first.
    fn enter(&mut self, node: usize) {
        let lapsed = self.w.nodes[node].role == Role::Primary && !self.w.is_leased(self.v, node);
        let one = &mut self.w.nodes[node];
        let gap = core::mem::take(&mut one.gap);
        if gap > 0 {
            leave_room(one, self.v);
        }
        if (lapsed || gap > self.v.dead) && self.v.keeps(Rule::Lease) {
            one.listen = self.v.dead;
            one.quiet = 0;
            if one.role == Role::Primary {
                self.become_secondary(node);
            }
        }
    }

    fn turn(&mut self, node: usize) {
        let durable = self.v.keeps(Rule::Fsync);
        let one = self.node(node);
        one.turned = true;
        if core::mem::take(&mut one.storing) && durable {
            // The disk has answered, no sooner than this.
            one.disk = one.disk.max(one.known + 1);
        }
        if self.w.nodes[node].joined && self.w.nodes[node].quiet >= self.v.dead {
            self.lose(node, false);
        }
        self.decide(node);
        self.ask_witness(node);
        self.send(node, Kind::Hello);
    }

    // ---- hellos ----

    /// Sends a hello, which renews the lease. A primary whose term is not durable says nothing.
    fn send(&mut self, node: usize, kind: Kind) {
        let one = &mut self.w.nodes[node];
        if one.role == Role::Primary && one.term > one.disk && self.v.keeps(Rule::Fsync) {
            return;
        }
        if one.role == Role::Primary {
            one.sent = 0;
        }
        let limit = if one.current { self.v.dead } else { self.v.start };
        let gives_up = one.role != Role::Primary && one.disk > one.known && one.quiet + 1 >= limit;
        let letter = letter(one, kind, gives_up);
        let (life, works) = (self.w.nodes[1 - node].life, self.w.works);
        let waiting = &mut self.w.letters[1 - node];
        match life {
            // Nothing that names an ended life reaches the next one.
            Life::Down { .. } => return,
            Life::Running if works => {}
            // What waits in the socket of a process that is not run: the newest counts.
            Life::Frozen if works => waiting.clear(),
            Life::Running | Life::Frozen if self.late && self.w.late > 0 => self.w.late -= 1,
            Life::Running | Life::Frozen => return,
        }
        waiting.push(letter);
    }

    fn deliver(&mut self, to: usize, index: usize) {
        let letter = self.w.letters[to][index];
        // Older ones say nothing any more.
        self.w.letters[to].drain(..=index);
        let witness = self.v.witness;
        let one = self.node(to);
        if letter.dead_boot && (one.acquainted || one.knows != Knows::Former) {
            return;
        }
        let news = !letter.dead_boot && !core::mem::replace(&mut one.acquainted, true);
        if !letter.dead_boot && witness {
            one.heard_age = letter.age;
        }
        if !letter.echoes {
            if news {
                // An introduction: it names the life that it answers.
                self.send(to, Kind::Hello);
            }
            return;
        }
        match (one.knows, letter.kind) {
            (Knows::Never | Knows::Present, _) => {}
            (Knows::Former, _) if letter.dead_boot => {}
            (Knows::Former, Kind::Reply { fresh: true, .. }) if one.asked.is_some() => {
                self.lose(to, false);
                self.node(to).restarted_peer();
            }
            (Knows::Former, Kind::Hello | Kind::Probe { .. } | Kind::Reply { .. }) => {
                // Another life: does it live? Only its answer proves it.
                self.probe(to);
                if let Kind::Probe { fresh } = letter.kind {
                    self.send(to, Kind::Reply { fresh, promise: false });
                }
                return;
            }
        }
        if !letter.dead_boot {
            self.node(to).knows = Knows::Present;
        }
        self.hear(to, &letter);
    }

    fn hear(&mut self, node: usize, letter: &Letter) {
        if self.v.witness && !self.is_word(node, letter) {
            if self.w.nodes[node].role == Role::Primary {
                // It answers this, or follows.
                self.send(node, Kind::Hello);
            }
            return;
        }
        let lease = self.v.lease;
        let one = self.node(node);
        one.known = one.known.max(letter.term);
        one.quiet = 0;
        one.lost_dead = false;
        one.peer_role = letter.role;
        one.peer_term = letter.term;
        one.peer_current = letter.current;
        one.peer_listening = letter.listening;
        let parted = !core::mem::replace(&mut one.joined, true);
        if self.v.witness {
            let ends = self.v.keeps(Rule::LoanEnds);
            let one = self.node(node);
            one.acked = one.acked.min(letter.acks_age);
            if one.role == Role::Primary && one.sole {
                one.sole = false;
                if ends {
                    one.verified = lease;
                    one.request = None;
                }
            }
        }
        let synced = self.w.streams[node].is_some_and(|stream| stream.synced);
        let forgot = self.v.keeps(Rule::SessionAsked) && synced && !letter.current && self.w.nodes[node].session;
        if (parted || forgot) && self.w.nodes[node].role == Role::Primary {
            self.start_session(node);
        }
        self.hear_role(node, letter);
        match letter.kind {
            Kind::Hello => {
                if self.v.witness && letter.role == Role::Primary {
                    self.send(node, Kind::Hello);
                }
            }
            Kind::Probe { fresh } => self.answer(node, fresh, letter),
            Kind::Reply { fresh, promise } => self.hear_reply(node, fresh, promise, letter),
        }
    }

    /// With a witness: whether the letter counts. Nobody leads a lower term any more; without a witness somebody may. And
    /// as long as a loan of the witness lasts, only an answer that takes its place is a word from the peer.
    fn is_word(&self, node: usize, letter: &Letter) -> bool {
        let one = &self.w.nodes[node];
        match letter.role {
            Role::Primary => one.role == Role::Init || letter.term >= one.term || !self.v.keeps(Rule::Term),
            Role::Init | Role::Secondary => one.role != Role::Primary || !one.sole || letter.acks_age < self.v.lease,
        }
    }

    /// Who must give way?
    fn hear_role(&mut self, node: usize, letter: &Letter) {
        match (self.w.nodes[node].role, letter.role) {
            (Role::Init | Role::Secondary, Role::Primary) => {
                self.node(node).licence = None;
                if self.v.keeps(Rule::NoPreemption) || node == 1 {
                    self.follow(node, letter.term);
                }
            }
            (Role::Init | Role::Secondary, Role::Init | Role::Secondary) => {}
            (Role::Primary, Role::Init | Role::Secondary) => {
                if letter.gives_up && !self.v.witness {
                    self.become_secondary(node);
                }
            }
            (Role::Primary, Role::Primary) => {
                let higher = (self.w.nodes[node].term, 1 - node) > (letter.term, node);
                if higher && self.v.keeps(Rule::Term) {
                    self.send(node, Kind::Hello);
                } else {
                    self.follow(node, letter.term);
                }
            }
        }
    }

    /// What this node holds is not a new primary's state.
    fn follow(&mut self, node: usize, term: u8) {
        let one = self.node(node);
        let news = one.following != Some(term);
        one.term = term;
        if news {
            one.following = Some(term);
            one.current = false;
            one.table = 0;
        }
        if one.role != Role::Secondary {
            self.become_secondary(node);
        }
    }

    fn answer(&mut self, node: usize, fresh: bool, letter: &Letter) {
        let follower = letter.role != Role::Primary && self.w.nodes[node].role != Role::Primary;
        let promise = follower && !self.outranks(node);
        if promise {
            let bound = self.v.dead;
            let one = self.node(node);
            one.asked = None;
            one.promised = bound;
        }
        self.send(node, Kind::Reply { fresh, promise });
    }

    fn hear_reply(&mut self, node: usize, fresh: bool, promise: bool, letter: &Letter) {
        if !fresh || self.node(node).asked.take().is_none() {
            return;
        }
        let followers = letter.role != Role::Primary && self.w.nodes[node].role != Role::Primary;
        if followers && promise {
            self.lead(node);
        }
    }

    fn outranks(&self, node: usize) -> bool {
        let one = &self.w.nodes[node];
        let ours = (one.current, one.listen == 0, one.role == Role::Secondary, one.term, 1 - node);
        let theirs = (one.peer_current, !one.peer_listening, one.peer_role == Role::Secondary, one.peer_term, node);
        ours > theirs
    }

    fn probe(&mut self, node: usize) {
        if self.w.nodes[node].asked.is_some() {
            return;
        }
        self.node(node).asked = Some(0);
        for letter in &mut self.w.letters[1 - node] {
            if let Kind::Probe { fresh } = &mut letter.kind {
                *fresh = false;
            }
        }
        for letter in &mut self.w.letters[node] {
            if let Kind::Reply { fresh, .. } = &mut letter.kind {
                *fresh = false;
            }
        }
        self.send(node, Kind::Probe { fresh: true });
    }

    fn closed(&mut self, node: usize) {
        self.lose(node, true);
        self.decide(node);
    }

    /// The peer is declared gone: holds end.
    fn lose(&mut self, node: usize, dead: bool) {
        let one = self.node(node);
        if !core::mem::replace(&mut one.joined, false) {
            return;
        }
        one.lost_dead = dead;
        one.asked = None;
        (one.peer_role, one.peer_term) = (Role::Init, 0);
        (one.peer_current, one.peer_listening) = (false, false);
        if core::mem::replace(&mut one.session, false) {
            let held = core::mem::take(&mut one.held);
            if self.w.acts(self.v, node) {
                self.believe(node, held, false);
            }
        }
    }

    // ---- roles ----

    fn decide(&mut self, node: usize) {
        let one = self.w.nodes[node];
        if one.role == Role::Primary {
            return;
        }
        if one.joined {
            match one.peer_role {
                Role::Primary if self.v.keeps(Rule::NoPreemption) || node == 1 => {}
                Role::Primary => self.lead(node),
                Role::Init | Role::Secondary => {
                    if self.outranks(node) && one.listen == 0 && one.promised == 0 && self.reserved(node).is_some() {
                        self.probe(node);
                    }
                }
            }
        } else if one.current && (one.lost_dead || one.quiet >= self.v.dead) || one.quiet >= self.v.start {
            self.lead(node);
        }
    }

    /// A durable term above every known one.
    fn reserved(&self, node: usize) -> Option<u8> {
        let one = &self.w.nodes[node];
        if !self.v.keeps(Rule::Fsync) {
            return Some(one.known + 1);
        }
        (one.disk > one.known).then_some(one.disk)
    }

    fn reserve(&mut self, node: usize) {
        let one = self.node(node);
        one.storing |= one.disk <= one.known;
    }

    /// Leads, unless a promise, a freeze or the witness forbids it.
    fn lead(&mut self, node: usize) {
        let one = self.w.nodes[node];
        if one.listen > 0 || one.promised > 0 {
            return;
        }
        let Some(term) = self.reserved(node) else { return };
        if !self.v.witness || !self.v.keeps(Rule::Witness) {
            self.promote(node, term);
            return;
        }
        match one.licence {
            Some(licence) => {
                let waited = licence.exact || licence.age >= self.v.dead;
                if waited && one.verified < self.v.lease && licence.term > one.term {
                    self.promote(node, licence.term);
                }
            }
            None if one.request.is_none() => {
                let exact = match one.following {
                    Some(followed) => Some((peer_of(node), followed)),
                    None if one.current => Some((node as u8, one.term)),
                    None => None,
                };
                let expect = exact.filter(|_| one.current);
                self.node(node).request = Some(Request { age: 0, expect, to: term, outcome: None });
            }
            None => {}
        }
    }

    fn promote(&mut self, node: usize, term: u8) {
        let was_current = self.w.nodes[node].current;
        if !was_current && !self.w.works {
            // Said aloud (`PromotedNotCaughtUp`): it leads with what it has.
            self.w.must = 0;
        }
        let led = &mut self.w.led;
        assert!(term < TERM_BITS, "terms fit the checker's sets");
        self.w.seen.term_again |= led[node] >> term != 0;
        self.w.seen.term_shared |= led[1 - node] >> term & 1 == 1;
        led[node] |= 1 << term;
        let one = self.node(node);
        one.known = one.known.max(term);
        one.term = term;
        one.role = Role::Primary;
        one.asked = None;
        one.current = true;
        one.following = None;
        one.licence = None;
        one.sole = !one.joined;
        if one.joined {
            self.start_session(node);
        }
        self.send(node, Kind::Hello);
    }

    /// The gate closes first: what is held does not get out.
    fn become_secondary(&mut self, node: usize) {
        let lease = self.v.lease;
        let one = self.node(node);
        one.role = Role::Secondary;
        one.asked = None;
        one.held = 0;
        one.session = false;
        one.sent = lease;
        one.sole = false;
        one.request = None;
        self.send(node, Kind::Hello);
    }

    // ---- the witness ----

    /// A primary that the peer does not answer must win the cell before its lease ends, with another term, so that the
    /// peer cannot win from the term that it knows; then it asks again and again. So does a node that waits with what
    /// it has won.
    fn ask_witness(&mut self, node: usize) {
        let one = self.w.nodes[node];
        if !self.v.witness || !self.v.keeps(Rule::Witness) || one.request.is_some() {
            return;
        }
        let me = node as u8;
        let lonely = one.role == Role::Primary && one.acked + 1 >= self.v.lease;
        let (expect, to) = match one.licence {
            Some(licence) => (licence.term, licence.term),
            None if lonely && one.sole => (one.term, one.term),
            None if lonely => {
                let Some(term) = self.reserved(node) else { return };
                (one.term, term)
            }
            None => return,
        };
        self.node(node).request = Some(Request { age: 0, expect: Some((me, expect)), to, outcome: None });
    }

    /// The cell is compared and swapped, never expires, and knows no time.
    fn judge(&mut self, node: usize) {
        let Some(request) = self.w.nodes[node].request else { return };
        let cell = &mut self.w.cell;
        let equal = match request.expect {
            // A request that was answered before, but whose answer was lost, is granted again.
            Some(expected) => *cell == expected || *cell == (node as u8, request.to),
            None => request.to > cell.1,
        };
        let outcome = if equal { Outcome::Won } else { Outcome::Lost(cell.1) };
        if equal {
            *cell = (node as u8, request.to);
        }
        if let Some(request) = &mut self.node(node).request {
            request.outcome = Some(outcome);
        }
    }

    fn answered(&mut self, node: usize) {
        let Some(request) = self.node(node).request.take() else { return };
        let one = self.node(node);
        match request.outcome {
            Some(Outcome::Won) => {
                // The loan is counted from the sending of the request.
                one.verified = one.verified.min(request.age);
                let kept = one.licence.is_some_and(|licence| licence.term == request.to);
                if kept || one.role == Role::Primary && one.term == request.to {
                    return;
                }
                if one.role == Role::Primary {
                    // The peer cannot lead from what it holds any more: nothing waits for it.
                    self.lose(node, false);
                    self.promote(node, request.to);
                    return;
                }
                let exact = request.expect.is_some();
                // Whoever wins from an unknown state waits, from here on, for the end of all that was lent before.
                one.licence = Some(Licence { term: request.to, age: 0, exact });
                self.decide(node);
            }
            Some(Outcome::Lost(term)) => {
                one.known = one.known.max(term);
                one.licence = None;
                if one.role != Role::Primary {
                    // The pair went on without us.
                    one.current = false;
                }
            }
            None => {}
        }
    }

    // ---- connections ----

    fn start_session(&mut self, node: usize) {
        let live =
            self.w.nodes[node].knows == Knows::Present && !matches!(self.w.nodes[1 - node].life, Life::Down { .. });
        let one = self.node(node);
        one.session = true;
        let (term, table) = (one.term, one.table);
        self.w.streams[node] =
            Some(Stream { term, live, begun: false, records: table, stored: 0, bulk: table, acks: 0, synced: false });
    }

    fn open(&mut self, node: usize) {
        let connection = 1 << self.w.opened;
        self.w.opened += 1;
        let one = &mut self.w.nodes[node];
        one.table |= connection;
        if one.session
            && let Some(stream) = &mut self.w.streams[node]
        {
            stream.records |= connection;
            if self.v.keeps(Rule::Hold) {
                one.held |= connection;
                return;
            }
            self.believe(node, connection, true);
            return;
        }
        self.believe(node, connection, false);
    }

    /// The held packet is out: an end believes. In a partition, only what the peer has acknowledged is promised.
    fn believe(&mut self, node: usize, connections: u8, acknowledged: bool) {
        let promised = acknowledged || self.w.works && !self.w.acts(self.v, 1 - node);
        if self.v.promises_connections() && promised {
            self.w.must |= connections;
        }
    }

    /// The peer reads what comes in the stream from `from`.
    fn read_stream(&mut self, from: usize, read: impl FnOnce(&mut Stream, &mut Node)) {
        self.enter(1 - from);
        let Some(mut stream) = self.w.read_by_peer(from) else { return };
        let reader = self.node(1 - from);
        if !core::mem::replace(&mut stream.begun, true) {
            // Another session: what is here is not known to be complete.
            reader.current = false;
        }
        read(&mut stream, reader);
        self.w.streams[from] = Some(stream);
    }

    fn record(&mut self, from: usize, connection: u8) {
        self.read_stream(from, |stream, reader| {
            stream.records &= !connection;
            stream.stored |= connection;
            stream.acks |= connection;
            reader.table |= connection;
        });
    }

    fn digest(&mut self, from: usize, late: bool) {
        self.late = late;
        let v = *self.v;
        self.read_stream(from, |stream, reader| {
            stream.synced = true;
            reader.current = true;
            leave_room(reader, &v);
        });
        self.send(1 - from, Kind::Hello);
        self.decide(1 - from);
    }

    fn ack(&mut self, to: usize, connection: u8) {
        self.enter(to);
        if let Some(stream) = &mut self.w.streams[to] {
            stream.acks &= !connection;
        }
        let one = self.node(to);
        let released = one.held & connection;
        one.held &= !connection;
        if self.w.acts(self.v, to) {
            self.believe(to, released, true);
        }
    }

    // ---- faults ----

    /// What only this node knows is lost, unless the pair was whole or the other node serves.
    fn fault(&mut self, node: usize) {
        self.w.faults -= 1;
        self.w.calm = 0;
        let served = self.w.nodes[1 - node].runs() && self.w.acts(self.v, 1 - node);
        if !self.w.is_whole(self.v) && !served {
            self.w.must = 0;
        }
    }

    fn end(&mut self, node: usize, closed: bool) {
        self.fault(node);
        let disk = self.w.nodes[node].disk;
        self.w.nodes[node] = Node::ended(disk, self.v.lease, closed);
        self.w.letters[node].clear();
        if let Some(stream) = &mut self.w.streams[1 - node] {
            stream.live = false;
            stream.records = 0;
        }
    }

    fn start(&mut self, node: usize) {
        self.w.nodes[node] = Node::started(self.w.nodes[node].disk, self.v.lease);
        self.reserve(node);
        self.w.letters[1 - node].retain(|letter| !letter.dead_boot);
        for letter in &mut self.w.letters[1 - node] {
            letter.dead_boot = true;
        }
        let peer = self.node(1 - node);
        peer.acquainted = false;
        if peer.knows == Knows::Present {
            peer.knows = Knows::Former;
        }
    }
}

impl Node {
    /// The peer's present life has proven itself.
    fn restarted_peer(&mut self) {
        self.knows = Knows::Present;
        self.asked = Some(0);
    }
}

/// However long the silence was: another tick of listening before it has consequences.
fn leave_room(node: &mut Node, v: &Variant) {
    let limit = if node.joined || node.current { v.dead } else { v.start };
    node.quiet = node.quiet.min(limit - 1);
}

fn peer_of(node: usize) -> u8 {
    1 - node as u8
}
