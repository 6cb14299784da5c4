//! Two nodes, a network, disks, a witness and clients: what can happen next.

use crate::node::{Kind, Letter, Life, Node, Request, Role, Stream};
use crate::rules::Step;
use crate::variant::{Rule, Variant};
use stateright::{Model, Property};

/// Everything there is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Both nodes.
    pub nodes: [Node; 2],
    /// Hellos on their way to each node, oldest first; all of them newer than what it has heard.
    pub letters: [Vec<Letter>; 2],
    /// The last mirror session of each node, and what is left of it when its sender is gone.
    pub streams: [Option<Stream>; 2],
    /// The witness: who leads, and with which term.
    pub cell: (u8, u8),
    /// A path works, to the peer and to the witness: what is sent arrives within the tick. Otherwise it is lost,
    /// or arrives at any time or never.
    pub works: bool,
    /// Faults left.
    pub faults: u8,
    /// Partitions left.
    pub cuts: u8,
    /// Hellos left that are slow instead of lost while no path works.
    pub late: u8,
    /// Connections opened so far.
    pub opened: u8,
    /// Connections that an end believes in, a bit each, without those that a second loss excuses.
    pub must: u8,
    /// Terms led so far by each node, a bit each.
    pub led: [u16; 2],
    /// What the checker has seen and a state does not show.
    pub seen: Seen,
    /// Ticks since everything has worked.
    pub calm: u8,
}

/// Things that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// A node led a term again, or a lower one than before.
    pub term_again: bool,
    /// Both nodes led the same term.
    pub term_shared: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node's turn. `late`: what it sends while no path works is slow, not lost.
    Turn { node: usize, late: bool },
    /// A hello arrives.
    Deliver { to: usize, index: usize, late: bool },
    /// The witness reads a request.
    Judge { node: usize, late: bool },
    /// Its answer arrives.
    Answer { node: usize, late: bool },
    /// A client opens a connection.
    Open { node: usize },
    /// The record of a connection arrives.
    Record { from: usize, connection: u8 },
    /// The digest arrives.
    Digest { from: usize, late: bool },
    /// The acknowledgement of a record arrives.
    Ack { to: usize, connection: u8 },
    /// The peer's connection closed, and no probe was answered.
    Closed { node: usize, late: bool },
    /// SIGKILL.
    Kill { node: usize },
    /// The machine loses power.
    Power { node: usize },
    /// The process starts.
    Start { node: usize },
    /// SIGSTOP.
    Freeze { node: usize },
    /// SIGCONT.
    Thaw { node: usize },
    /// Every path is cut, the witness's too; what is under way may still arrive.
    Cut,
    /// A path works again.
    Heal,
}

impl World {
    /// Two processes that have just started on empty disks.
    pub fn new(variant: &Variant) -> World {
        World {
            nodes: [Node::started(0, variant.lease); 2],
            letters: [Vec::new(), Vec::new()],
            streams: [None; 2],
            cell: (0, 0),
            works: true,
            faults: variant.faults,
            cuts: variant.cuts,
            late: variant.late,
            opened: 0,
            must: 0,
            led: [0; 2],
            seen: Seen::default(),
            calm: 0,
        }
    }

    /// One step in which nothing fails.
    fn first_step(&mut self, variant: &Variant) {
        let mut actions = Vec::new();
        (0..2).for_each(|node| self.node_actions(variant, node, &mut actions));
        (0..2).for_each(|node| self.mirror_actions(variant, node, &mut actions));
        let harmless = actions.into_iter().find(|action| match action {
            Action::Turn { .. } | Action::Deliver { .. } | Action::Judge { .. } | Action::Answer { .. } => true,
            Action::Record { .. } | Action::Digest { .. } | Action::Ack { .. } => true,
            Action::Open { .. } | Action::Tick | Action::Closed { .. } => false,
            Action::Kill { .. } | Action::Power { .. } | Action::Start { .. } | Action::Freeze { .. } => false,
            Action::Thaw { .. } | Action::Cut | Action::Heal => false,
        });
        match harmless {
            Some(action) => Step::new(variant, self).take(action),
            None => self.tick(variant),
        }
    }

    /// Whether this node's gate is open: to the clients it is there, even if the process is frozen.
    pub fn acts(&self, variant: &Variant, node: usize) -> bool {
        let one = &self.nodes[node];
        let alive = matches!(one.life, Life::Running | Life::Frozen);
        alive && one.role == Role::Primary && self.is_leased(variant, node)
    }

    /// Whether the lease of a primary lasts.
    pub fn is_leased(&self, variant: &Variant, node: usize) -> bool {
        let one = &self.nodes[node];
        if !variant.keeps(Rule::Lease) {
            return true;
        }
        if variant.witness && variant.keeps(Rule::Witness) {
            return one.acked < variant.lease || one.verified < variant.lease;
        }
        one.sent < variant.lease
    }

    /// Whether a secondary has a complete copy of what an acting primary has, as both of them see it.
    pub fn is_whole(&self, variant: &Variant) -> bool {
        (0..2).any(|from| {
            let (lead, follow) = (&self.nodes[from], &self.nodes[1 - from]);
            let synced =
                self.streams[from].is_some_and(|stream| stream.live && stream.synced && stream.term == lead.term);
            let leads = lead.runs() && lead.session && self.acts(variant, from);
            leads && synced && follow.runs() && follow.current && follow.following == Some(lead.term)
        })
    }

    /// The stream from this node, if the other takes what comes in it.
    pub fn read_by_peer(&self, from: usize) -> Option<Stream> {
        let reader = &self.nodes[1 - from];
        self.streams[from].filter(|stream| {
            let follows = reader.role == Role::Secondary && reader.following == Some(stream.term);
            stream.live && reader.runs() && follows && reader.term == stream.term
        })
    }

    /// The stream from this node, if it takes its acknowledgements.
    pub fn written_by(&self, from: usize) -> Option<Stream> {
        let writer = &self.nodes[from];
        self.streams[from].filter(|stream| writer.runs() && writer.session && writer.term == stream.term)
    }

    /// Whether a record, a digest or an acknowledgement can be read at once.
    fn mirror_waits(&self) -> bool {
        (0..2).any(|from| {
            self.read_by_peer(from).is_some_and(|stream| stream.records != 0 || !stream.synced)
                || self.written_by(from).is_some_and(|stream| stream.acks != 0)
        })
    }

    /// Whether time may pass: every process that runs has taken its turn, and, where a path works,
    /// everything has arrived.
    fn may_tick(&self) -> bool {
        let late = |node: usize| {
            let one = &self.nodes[node];
            let waits = !self.letters[node].is_empty() || one.request.is_some();
            one.runs() && (!one.turned || self.works && waits)
        };
        !(late(0) || late(1) || self.works && self.mirror_waits())
    }

    fn tick(&mut self, variant: &Variant) {
        let (up, down) = (
            |clock: &mut u8, most: u8| *clock = most.min(*clock + 1),
            |clock: &mut u8| {
                *clock = clock.saturating_sub(1);
            },
        );
        let lease = variant.lease;
        let calm = self.works && self.nodes.iter().all(Node::runs);
        self.calm = if calm { variant.settled.min(self.calm + 1) } else { 0 };
        for node in &mut self.nodes {
            match node.life {
                Life::Down { .. } => continue,
                Life::Running => {
                    node.turned = false;
                    let most = if node.role == Role::Primary || node.current { variant.dead } else { variant.start };
                    up(&mut node.quiet, most);
                }
                // Time in which we were not run is not the peer's silence.
                Life::Frozen => up(&mut node.gap, variant.dead + 1),
            }
            up(&mut node.sent, lease);
            down(&mut node.listen);
            down(&mut node.promised);
            node.asked = node.asked.map(|age| age + 1).filter(|&age| age < lease);
            if variant.witness {
                up(&mut node.acked, lease);
                up(&mut node.heard_age, lease);
                up(&mut node.verified, lease);
                // A request whose loan would have ended is given up: it, or its answer, is lost.
                node.request = node.request.map(|request| Request { age: request.age + 1, ..request });
                node.request = node.request.filter(|request| request.age < lease);
                if let Some(licence) = &mut node.licence {
                    up(&mut licence.age, variant.dead);
                }
            }
        }
        if variant.witness {
            for letter in self.letters.iter_mut().flatten() {
                up(&mut letter.age, lease);
                letter.acks_age = lease.min(letter.acks_age.saturating_add(1));
            }
        }
    }

    /// What a node can do or have done to it.
    fn node_actions(&self, variant: &Variant, node: usize, actions: &mut Vec<Action>) {
        let one = &self.nodes[node];
        let peer = &self.nodes[1 - node];
        match one.life {
            Life::Down { .. } => {
                actions.push(Action::Start { node });
                return;
            }
            Life::Frozen => actions.push(Action::Thaw { node }),
            Life::Running => {
                // In a turn hellos are read before timers and frames.
                let read = !self.works || self.letters[node].is_empty();
                // In a partition the order of turns within a tick does not matter: nothing arrives at once.
                let first = self.works || node == 0 || peer.turned || !peer.runs();
                if !one.turned && read && first {
                    self.push_sending(actions, |late| Action::Turn { node, late });
                }
                let ready = if self.works { self.letters[node].len().min(1) } else { self.letters[node].len() };
                for index in 0..ready {
                    self.push_sending(actions, |late| Action::Deliver { to: node, index, late });
                }
                let dead = peer.life == Life::Down { closed: true };
                if one.joined && (dead || !self.works && !variant.keeps(Rule::HonestClose)) {
                    self.push_sending(actions, |late| Action::Closed { node, late });
                }
                if one.turned && read && self.opened < variant.connections && self.acts(variant, node) {
                    actions.push(Action::Open { node });
                }
                if let Some(request) = one.request {
                    match request.outcome {
                        None => self.push_sending(actions, |late| Action::Judge { node, late }),
                        Some(_) => self.push_sending(actions, |late| Action::Answer { node, late }),
                    }
                }
            }
        }
        if self.faults > 0 {
            actions.push(Action::Kill { node });
            actions.push(Action::Power { node });
            if one.runs() {
                actions.push(Action::Freeze { node });
            }
        }
    }

    /// A step in which something may be sent.
    fn push_sending(&self, actions: &mut Vec<Action>, action: impl Fn(bool) -> Action) {
        actions.push(action(false));
        if !self.works && self.late > 0 {
            actions.push(action(true));
        }
    }

    fn mirror_actions(&self, variant: &Variant, from: usize, actions: &mut Vec<Action>) {
        for connection in (0..8).map(|bit| 1u8 << bit) {
            if self.read_by_peer(from).is_some_and(|stream| stream.records & connection != 0) {
                actions.push(Action::Record { from, connection });
            }
            if self.written_by(from).is_some_and(|stream| stream.acks & connection != 0) {
                actions.push(Action::Ack { to: from, connection });
            }
        }
        let complete = |stream: &Stream| stream.bulk & !stream.stored == 0 || !variant.keeps(Rule::CatchUp);
        if self.read_by_peer(from).is_some_and(|stream| !stream.synced && complete(&stream)) {
            self.push_sending(actions, |late| Action::Digest { from, late });
        }
    }
}

impl Model for Variant {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self);
        while self.whole && !world.is_whole(self) {
            world.first_step(self);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.may_tick() {
            actions.push(Action::Tick);
        }
        for node in 0..2 {
            world.node_actions(self, node, actions);
            world.mirror_actions(self, node, actions);
        }
        if world.works && world.cuts > 0 {
            actions.push(Action::Cut);
        }
        if !world.works {
            actions.push(Action::Heal);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        if action == Action::Tick {
            next.tick(self);
        } else {
            Step::new(self, &mut next).take(action);
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Variant>> {
        let mut properties = vec![
            Property::<Variant>::always("no node leads a term twice, or a lower one", |_, world| {
                !world.seen.term_again
            }),
            Property::<Variant>::always("calm makes the pair whole again", |variant, world| {
                world.calm < variant.settled || world.is_whole(variant)
            }),
            Property::<Variant>::sometimes("the pair is whole again after all that may fail", |variant, world| {
                let spent = world.faults == 0 && world.cuts == 0 && world.works;
                spent && world.is_whole(variant) && (variant.connections == 0 || world.must != 0)
            }),
        ];
        if self.faults > 0 {
            properties.push(Property::<Variant>::sometimes("a takeover", |variant, world| {
                let heir = |node: usize| world.acts(variant, node) && world.nodes[node].table & world.must != 0;
                variant.connections == 0 && world.led[0] != 0 && world.led[1] != 0
                    || (0..2).any(|node| heir(node) && world.led[1 - node] != 0)
            }));
        }
        if self.connections > 0 {
            properties.push(Property::<Variant>::sometimes(
                "both nodes hold a connection that an end believes in",
                |variant, world| world.is_whole(variant) && world.nodes.iter().all(|node| world.must & node.table != 0),
            ));
        }
        if self.connections > 0 && self.faults + self.cuts > 0 {
            properties.push(Property::<Variant>::sometimes("a hold ends because the peer is gone", |_, world| {
                world.streams.iter().flatten().any(|stream| world.must & stream.records & !stream.bulk != 0)
            }));
        }
        if self.witness || self.cuts == 0 {
            properties.push(Property::<Variant>::always("at most one gate is open", |variant, world| {
                !(world.acts(variant, 0) && world.acts(variant, 1))
            }));
            properties.push(Property::<Variant>::always(
                "a primary has every connection that an end believes in",
                |variant, world| {
                    (0..2).all(|node| !world.acts(variant, node) || world.must & !world.nodes[node].table == 0)
                },
            ));
        } else {
            properties.push(Property::<Variant>::sometimes(
                "two gates are open: nobody can know better",
                |variant, world| world.acts(variant, 0) && world.acts(variant, 1),
            ));
        }
        if self.witness || self.faults < 2 && self.cuts == 0 {
            properties
                .push(Property::<Variant>::always("no term is led by two nodes", |_, world| !world.seen.term_shared));
        }
        properties
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.nodes.iter().all(|node| node.known <= self.max_term && node.disk <= self.max_term + 1)
    }
}

/// A letter that says nothing yet.
pub(crate) fn letter(node: &Node, kind: Kind, gives_up: bool) -> Letter {
    Letter {
        kind,
        role: node.role,
        term: node.term,
        current: node.current,
        listening: node.listen > 0,
        gives_up,
        echoes: node.acquainted,
        dead_boot: false,
        age: 0,
        acks_age: if node.role == Role::Primary { u8::MAX } else { node.heard_age },
    }
}
