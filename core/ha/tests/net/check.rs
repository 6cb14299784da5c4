//! What must never happen. The checker sees the world from outside: true
//! time, both nodes, and what they did, never the machines' own reasons.

use super::{Mode, Node, World};
use holdfast_base::Instant;
use holdfast_ha::{Effect, LostCause, NodeHealth, Role};
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Checker {
    /// (term, node) ever led: no pair twice.
    led: BTreeSet<(u64, usize)>,
    last_led: [u64; 2],
    durable: [u64; 2],
    /// The boot that each node has joined.
    joined: [Option<u64>; 2],
    was_current: [bool; 2],
    /// True time at which a thawed node may promote again.
    listens_until: [Option<Instant>; 2],
    /// Since when each runs and may lead.
    awake_since: [u64; 2],
    sent: [(u64, u64); 2],
    role: [Option<Role>; 2],
    quiet: Option<[Option<Role>; 2]>,
}

impl Checker {
    pub fn started(&mut self, node: usize) {
        self.joined[node] = None;
        self.was_current[node] = false;
        self.listens_until[node] = None;
        self.role[node] = None;
    }

    /// The first call of a turn, after a pause or not.
    pub fn first_look(&mut self, node: &Node, index: usize, now: Instant, closed: bool) {
        let paused = now.since(node.local(node.last_turn));
        let led = self.role[index].is_some_and(|role| role == Role::Primary || role == Role::Draining);
        if paused > node.settings.dead {
            assert!(closed, "the gate is open after {paused:?} of not running");
            if led {
                self.listens_until[index] = Some(now + node.settings.dead);
            }
        }
    }

    pub fn effect(&mut self, world: &World, node: usize, effect: &Effect) {
        match *effect {
            Effect::StoreTerm(_) | Effect::AskWitness(_) | Effect::Follow { .. } | Effect::Event(_) => {}
            Effect::Send { .. } => self.sends(world, node),
            Effect::Role { role, term, .. } => {
                if role == Role::Primary && self.role[node] != Some(Role::Draining) {
                    self.leads(world, node, term);
                }
                self.role[node] = Some(role);
            }
            Effect::PeerJoined { boot } => {
                assert_eq!(self.joined[node].replace(boot), None, "joined twice");
            }
            Effect::PeerLost { boot, cause } => {
                assert_eq!(self.joined[node].take(), Some(boot), "lost what was not joined");
                let other = &world.nodes[1 - node];
                let lives = other.machine.is_some() && other.boot == boot;
                let proof = match cause {
                    LostCause::Restarted | LostCause::Goodbye => true,
                    LostCause::Silence | LostCause::ProcessDeath | LostCause::Removed => false,
                };
                assert!(!proof || !lives, "{cause:?} of a process that lives");
            }
        }
    }

    /// No storms of hellos.
    fn sends(&mut self, world: &World, node: usize) {
        let second = world.now / 1_000_000;
        let (at, count) = &mut self.sent[node];
        if *at != second {
            (*at, *count) = (second, 0);
        }
        *count += 1;
        // Who waits for the witness meanwhile asks and answers, each once in 2.5 ms at the shortest settings.
        let most = if world.mode == Mode::Witnessed { 900 } else { 700 };
        assert!(*count < most, "node {} floods the peer", node + 1);
    }

    fn leads(&mut self, world: &World, node: usize, term: u64) {
        let name = node + 1;
        let disk = world.disk(node);
        assert!(term <= disk, "node {name} leads term {term}, but {disk} is durable");
        assert!(self.led.insert((term, node)), "node {name} leads term {term} twice");
        assert!(term > self.last_led[node], "terms of node {name} go back");
        self.last_led[node] = term;
        self.durable[node] = disk;
        let now = world.nodes[node].local(world.now);
        if let Some(until) = self.listens_until[node] {
            assert!(now >= until, "node {name} thawed and promoted without listening");
        }
        let other = 1 - node;
        let other_fit = world.nodes[other].machine.is_some()
            && !world.is_frozen(other)
            && world.now - self.awake_since[other] > 2_500_000
            && self.was_current[other];
        let leader = self.role[other] == Some(Role::Draining);
        assert!(
            world.mode != Mode::OnePathWorks || leader || self.was_current[node] || !other_fit,
            "node {name} promotes without the state, though the other has it"
        );
    }

    pub fn after_step(&mut self, world: &World) {
        for node in 0..2 {
            let machine = world.nodes[node].machine.as_ref();
            self.was_current[node] = machine.is_some_and(|m| m.status().caught_up);
            let ill = world.nodes[node].health >= NodeHealth::PartialFail && !world.nodes[node].settings.fail_safe;
            if machine.is_none() || world.is_frozen(node) || ill {
                self.awake_since[node] = world.now;
            }
        }
        let both = acts(world, 0) && acts(world, 1);
        let excused = match world.mode {
            Mode::OnePathWorks | Mode::OneWay | Mode::Witnessed => false,
            Mode::Anything => true,
        };
        assert!(!both || excused, "two nodes act at {} us", world.now);
        if let Some(roles) = self.quiet {
            assert_eq!(roles, roles_of(world), "roles change though nothing happens");
        }
    }

    /// Time enough has passed since everything healed.
    pub fn begin_quiet(&mut self, world: &World) {
        self.settled(world);
        self.quiet = Some(roles_of(world));
    }

    pub fn settled(&self, world: &World) {
        let acting = usize::from(acts(world, 0)) + usize::from(acts(world, 1));
        assert_eq!(acting, 1, "{:?} long after healing", roles_of(world));
        let leader = usize::from(acts(world, 1));
        let [lead, follow] = [leader, 1 - leader].map(|node| &world.nodes[node]);
        let machine = follow.machine.as_ref().expect("it was restarted");
        assert_eq!(machine.role(), Role::Secondary);
        assert_eq!(Some(machine.term()), lead.machine.as_ref().map(|m| m.term()));
        assert!(machine.status().caught_up, "the secondary never catches up");
    }
}

/// May the node open flows and announce addresses at this instant?
fn acts(world: &World, node: usize) -> bool {
    let now = world.nodes[node].local(world.now);
    let open = world.nodes[node]
        .machine
        .as_ref()
        .is_some_and(|machine| machine.role() == Role::Primary && machine.lease_expiry().is_none_or(|end| now < end));
    open && !world.is_frozen(node)
}

fn roles_of(world: &World) -> [Option<Role>; 2] {
    [0, 1].map(|node| world.nodes[node].machine.as_ref().map(|machine| machine.role()))
}
