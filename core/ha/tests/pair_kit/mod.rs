//! Two machines on a perfect network, for stories: a step is 500 µs, a hello
//! takes one step, a disk answers in one step.

#![allow(dead_code, reason = "each test file uses a part of it")]

use holdfast_base::{Duration, Instant};
use holdfast_ha::{
    Cause, Claim, Effect, HaStatus, Held, Hello, Machine, NodeHealth, NodeId, PathId, Role, Settings, WitnessAnswer,
    WitnessAsk, WitnessRequest,
};

const STEP: Duration = Duration::from_micros(500);

/// One node that has no peer.
pub fn standalone() -> Machine {
    Machine::new(Instant::ZERO, Settings::new(NodeId(1), None), 77, 0)
}

pub struct Pair {
    now: Instant,
    machines: [Machine; 2],
    dead: [bool; 2],
    frozen: [Option<Instant>; 2],
    cut: bool,
    /// Hears nothing.
    deaf: [bool; 2],
    broken_disk: [bool; 2],
    stored: [u64; 2],
    boots: [u64; 2],
    mail: [Vec<(u64, Hello)>; 2],
    disk: [Vec<u64>; 2],
    history: [Vec<Effect>; 2],
    /// What the witness holds; it answers in one step.
    pub cell: Option<Claim>,
    /// It does not answer this node.
    revision: u64,
    pub witness_cut: [bool; 2],
    /// It does what it is asked, and its answers are lost.
    pub witness_mute: bool,
    asked: [Option<WitnessRequest>; 2],
    witness: bool,
}

impl Pair {
    /// Both nodes start now, with these terms on their disks.
    pub fn with_terms(a: u64, b: u64) -> Pair {
        let now = Instant::from_nanos(5_000_000_000);
        let settings = |node| Settings::new(NodeId(node), Some(NodeId(3 - node)));
        Pair {
            now,
            machines: [Machine::new(now, settings(1), 101, a), Machine::new(now, settings(2), 102, b)],
            dead: [false; 2],
            frozen: [None; 2],
            cut: false,
            deaf: [false; 2],
            broken_disk: [false; 2],
            stored: [a, b],
            boots: [101, 102],
            mail: [Vec::new(), Vec::new()],
            disk: [Vec::new(), Vec::new()],
            history: [Vec::new(), Vec::new()],
            cell: None,
            revision: 0,
            witness_cut: [false; 2],
            witness_mute: false,
            asked: [None; 2],
            witness: false,
        }
    }

    /// A is primary, B is its secondary and has caught up.
    pub fn settled() -> Pair {
        Pair::settle(false)
    }

    /// The same, and both ask a witness.
    pub fn witnessed() -> Pair {
        Pair::settle(true)
    }

    fn settle(witness: bool) -> Pair {
        let mut pair = Pair::with_terms(0, 0);
        if witness {
            pair.set_witness();
            pair.run(Duration::from_millis(900));
        }
        pair.run(Duration::from_millis(300));
        let now = pair.now;
        pair.machines[1].handle_caught_up(now, true);
        pair.run(Duration::from_millis(150));
        assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
        pair.history = [Vec::new(), Vec::new()];
        pair.run(Duration::from_millis(100));
        pair
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            for node in 0..2 {
                self.step(node);
            }
        }
    }

    fn step(&mut self, node: usize) {
        if self.dead[node] || self.frozen[node].is_some_and(|until| self.now < until) {
            return;
        }
        let now = self.now;
        let peer = NodeId(2 - node as u128);
        self.machines[node].handle_turn(now);
        for (term, hello) in core::mem::take(&mut self.mail[node]) {
            self.machines[node].handle_hello(now, PathId(0), term, peer, &hello);
        }
        if !self.broken_disk[node] {
            for term in core::mem::take(&mut self.disk[node]) {
                self.stored[node] = self.stored[node].max(term);
                self.machines[node].handle_term_stored(now, term);
            }
        }
        if let Some(request) = self.asked[node].take() {
            let answer = if self.witness_cut[node] { WitnessAnswer::Unreachable } else { self.judge(request.ask) };
            let answer = if self.witness_mute { WitnessAnswer::Unreachable } else { answer };
            self.machines[node].handle_witness(now, request.number, answer);
        }
        self.machines[node].handle_timeout(now);
        while let Some(effect) = self.machines[node].poll_effect() {
            self.history[node].push(effect);
            match effect {
                Effect::Send { hello, .. } => {
                    if !self.cut && !self.dead[1 - node] && !self.deaf[1 - node] {
                        let term = self.machines[node].term();
                        self.mail[1 - node].push((term, hello));
                    }
                }
                Effect::StoreTerm(term) => self.disk[node].push(term),
                Effect::AskWitness(request) => self.asked[node] = Some(request),
                Effect::Role { .. }
                | Effect::Follow { .. }
                | Effect::PeerJoined { .. }
                | Effect::PeerLost { .. }
                | Effect::Event(_) => {}
            }
        }
    }

    /// The cell is compared and swapped.
    fn judge(&mut self, ask: WitnessAsk) -> WitnessAnswer {
        let held = self.cell.map(|claim| Held { claim, revision: self.revision });
        match ask {
            WitnessAsk::Swap { expect, to } => {
                let lower = self.cell.is_none_or(|held| held.term < to.term);
                let equal = if expect.is_some() { self.cell == expect } else { lower };
                if equal || self.cell == Some(to) {
                    self.cell = Some(to);
                    self.revision += 1;
                    return WitnessAnswer::Granted;
                }
                WitnessAnswer::Holds(held)
            }
            WitnessAsk::Confirm(claim) if self.cell == Some(claim) => WitnessAnswer::Granted,
            WitnessAsk::Confirm(_) | WitnessAsk::Look => WitnessAnswer::Holds(held),
        }
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn a(&self) -> &Machine {
        &self.machines[0]
    }

    pub fn b(&self) -> &Machine {
        &self.machines[1]
    }

    pub fn a_mut(&mut self) -> &mut Machine {
        &mut self.machines[0]
    }

    pub fn b_mut(&mut self) -> &mut Machine {
        &mut self.machines[1]
    }

    pub fn roles(&self) -> (Role, Role) {
        (self.a().role(), self.b().role())
    }

    pub fn kill(&mut self, node: usize) {
        self.dead[node] = true;
    }

    pub fn restart(&mut self, node: usize) {
        self.boots[node] += 1000;
        let id = node as u128 + 1;
        let settings = Settings { witness: self.witness, ..Settings::new(NodeId(id), Some(NodeId(3 - id))) };
        self.machines[node] = Machine::new(self.now, settings, self.boots[node], self.stored[node]);
        self.mail[node].clear();
        self.dead[node] = false;
    }

    /// Runs the other node while this one stands still.
    pub fn freeze(&mut self, node: usize, time: Duration) {
        self.frozen[node] = Some(self.now + time + STEP);
        self.run(time);
        self.frozen[node] = None;
    }

    /// The same, and nothing that came meanwhile is kept.
    pub fn freeze_and_lose_mail(&mut self, node: usize, time: Duration) {
        self.freeze(node, time);
        self.mail[node].clear();
    }

    /// Nothing reaches this node from here on, what is under way included; what it says arrives.
    pub fn deafen(&mut self, node: usize) {
        self.deaf[node] = true;
        self.mail[node].clear();
    }

    pub fn cut(&mut self, cut: bool) {
        self.cut = cut;
    }

    pub fn break_disk(&mut self, node: usize) {
        self.broken_disk[node] = true;
    }

    pub fn mend_disk(&mut self, node: usize) {
        self.broken_disk[node] = false;
    }

    pub fn close_seen_by(&mut self, node: usize) {
        self.machines[node].handle_peer_closed(self.now);
    }

    pub fn set_status(&mut self, node: usize, status: HaStatus) {
        self.set(node, |settings| settings.status = status);
    }

    /// The defaults with a change.
    pub fn set(&mut self, node: usize, change: impl FnOnce(&mut Settings)) {
        let id = node as u128 + 1;
        let mut settings = Settings { witness: self.witness, ..Settings::new(NodeId(id), Some(NodeId(3 - id))) };
        change(&mut settings);
        self.machines[node].set_settings(self.now, settings);
    }

    pub fn ail(&mut self, node: usize, health: NodeHealth) {
        self.machines[node].handle_health(self.now, health);
    }

    pub fn set_dead(&mut self, node: usize, dead: Duration) {
        let id = node as u128 + 1;
        let settings = Settings { dead, ..Settings::new(NodeId(id), Some(NodeId(3 - id))) };
        self.machines[node].set_settings(self.now, settings);
    }

    /// The present boot of a node.
    pub fn boot_of(&self, node: usize) -> u64 {
        self.boots[node]
    }

    pub fn last_hello(&self, node: usize) -> Hello {
        *self.hellos_of(node).last().expect("the node has sent something")
    }

    pub fn hellos_of(&self, node: usize) -> Vec<Hello> {
        let sent = |effect: &Effect| match effect {
            Effect::Send { hello, .. } => Some(*hello),
            Effect::StoreTerm(_)
            | Effect::AskWitness(_)
            | Effect::Role { .. }
            | Effect::Follow { .. }
            | Effect::PeerJoined { .. }
            | Effect::PeerLost { .. }
            | Effect::Event(_) => None,
        };
        self.history[node].iter().filter_map(sent).collect()
    }

    pub fn inject(&mut self, to: usize, hello: &Hello) {
        let term = self.machines[1 - to].term();
        self.inject_with(to, term, hello);
    }

    pub fn inject_with(&mut self, to: usize, term: u64, hello: &Hello) {
        self.mail[to].push((term, *hello));
    }

    /// Both get a witness.
    pub fn set_witness(&mut self) {
        self.witness = true;
        (0..2).for_each(|node| self.set(node, |_| ()));
    }

    pub fn history(&self, node: usize) -> &[Effect] {
        &self.history[node]
    }

    pub fn saw_any_role(&self, node: usize) -> bool {
        self.history[node].iter().any(|effect| matches!(effect, Effect::Role { .. }))
    }

    pub fn saw(&self, node: usize, effect: Effect) -> bool {
        self.history[node].contains(&effect)
    }

    pub fn position(&self, node: usize, effect: Effect) -> usize {
        self.history[node].iter().position(|&seen| seen == effect).expect("it happened")
    }

    pub fn saw_role(&self, node: usize, wanted: Role, why: Cause) -> bool {
        self.history[node]
            .iter()
            .any(|effect| matches!(effect, Effect::Role { role, cause, .. } if (*role, *cause) == (wanted, why)))
    }
}
