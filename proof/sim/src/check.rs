//! What must always hold, whatever the seed does. The checker looks from
//! outside: at roles, gates and tables through the node's doors, and at what
//! clients saw.

use std::collections::BTreeMap;

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::Gate;
use holdfast_ha::Role;
use holdfast_node::{Level, Node};

use crate::apps::Client;
use crate::machine::Machine;
use crate::reference::Reference;
use crate::scenario::{Scenario, VserverSpec};
use crate::watch::Watch;

/// The primary's flows are protected this long after the pair has become whole,
/// on the slowest and worst peer link of a run.
const REPAIRED_WITHIN: Duration = Duration::from_secs(1);
/// After all paths were cut, two primaries are excused for this long.
const PARTITION_GRACE: Duration = Duration::from_secs(1);

/// How long a persistence session outlives its last use (the default of `-timeout`).
const SESSION_LIFE: Duration = Duration::from_secs(120);

/// Findings and what is needed to make them.
#[derive(Default)]
pub struct Checker {
    /// What was violated; empty is good.
    pub violations: Vec<String>,
    /// What was done to the world, for the reader of a failure.
    pub story: Vec<(Instant, String)>,
    /// Which life of a machine was primary in which term.
    terms: BTreeMap<(u64, usize), u64>,
    /// The primary of the highest term: machine, life, term.
    ruler: Option<(usize, u64, u64)>,
    partitioned: Option<Instant>,
    /// The machines have started apart: without a common history they may lead under one term.
    pub strangers: bool,
    /// The peer link loses more than a mirror can bear: holds may reach their limit until then.
    pub link_bad_until: Instant,
    /// A flow was taken from a node on purpose: digests may differ.
    pub may_differ: bool,
    /// Since when the pair has been whole, as of the last turn.
    whole_since: Option<Instant>,
    /// Whether each machine is handing over, as of its last turn.
    draining: [bool; 2],
    /// When each machine last began to hand over.
    pub draining_since: [Option<Instant>; 2],
    /// Failovers seen.
    pub promotions: u64,
    /// The last of them.
    pub promoted_at: Instant,
}

impl Checker {
    /// Whether anything was violated.
    pub fn failed(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Notes a violation.
    pub fn violate(&mut self, now: Instant, what: String) {
        self.violations.push(format!("{:?}: {what}", millis(now)));
    }

    /// After a turn of `machine` and before its frames leave: at most one node
    /// opens flows or announces, no term has two primaries, no hold ends
    /// without reason, no log line says that there is a bug.
    pub fn after_turn(&mut self, now: Instant, machines: &[Machine; 2], machine: usize, path: bool, whole: bool) {
        if !path {
            self.partitioned = Some(now);
        }
        self.whole_since = whole.then(|| self.whole_since.unwrap_or(now));
        let drains = machines[machine].node.as_ref().is_some_and(|node| node.role() == Role::Draining);
        if drains && !self.draining[machine] {
            self.draining_since[machine] = Some(now);
        }
        self.draining[machine] = drains;
        // A node that never heard of a term, because all who knew it are dead or stand still, may use it again;
        // whoever wakes up from standing still yields before it does anything.
        let leads = |machine: &Machine| {
            let node = machine.node.as_ref().filter(|node| machine.is_awake() && node.role() == Role::Primary);
            node.map(Node::term)
        };
        if let [Some(a), Some(b)] = [0, 1].map(|m| leads(&machines[m]))
            && a == b
            && !self.strangers
        {
            self.violate(now, format!("both nodes lead in term {a}"));
        }
        let mut open = 0;
        for machine in machines.iter().filter(|machine| machine.is_awake()) {
            let Some(node) = &machine.node else { continue };
            if node.gate() == Gate::Open && node.lease_expiry().is_none_or(|end| machine.seen(now) < end) {
                open += 1;
            }
            if node.role() == Role::Primary {
                self.note_primary(now, machine, node.term());
            }
        }
        if open > 1 && !self.is_parted(now) {
            self.violate(now, "both nodes may open flows".into());
        }
        self.judge_turn(now, &machines[machine]);
    }

    /// What the last turn of a machine logged and counted.
    fn judge_turn(&mut self, now: Instant, machine: &Machine) {
        let lines = machine.log.get(machine.before.logged..).unwrap_or_default();
        for (_, _, text) in lines.iter().filter(|(_, level, _)| *level == Level::Error) {
            self.violate(now, format!("machine {}: {text}", machine.index));
        }
        if !self.may_differ && lines.iter().any(|(_, _, text)| text.contains("digests differ")) {
            self.violate(now, format!("machine {} finds that digests differ", machine.index));
        }
        let Some(node) = &machine.node else { return };
        let released = node.engine().counters().hold_released_unprotected;
        let reason = |text: &str| {
            text.starts_with("peer lost") || text.contains(", cause ") || text.starts_with("the peer has no room")
        };
        let excused = now < self.link_bad_until;
        if released > machine.before.unprotected && !excused && !lines.iter().any(|(_, _, text)| reason(text)) {
            self.violate(now, format!("machine {} released a hold although the peer was there", machine.index));
        }
    }

    /// Whether the other machine, and not this one, is the rightful primary.
    pub fn rules_instead(&self, now: Instant, machines: &[Machine; 2], machine: usize) -> bool {
        let Some((ruler, boot, term)) = self.ruler else { return false };
        let other = &machines[ruler];
        let rules = other.node.as_ref().is_some_and(|node| node.role() == Role::Primary && node.term() == term);
        ruler != machine && other.boot == boot && other.is_awake() && rules && !self.is_parted(now)
    }

    fn is_parted(&self, now: Instant) -> bool {
        self.partitioned.is_some_and(|at| now.since(at) < PARTITION_GRACE)
    }

    /// A process is about to die.
    pub fn note_death(&mut self, now: Instant, machine: usize) {
        self.story.push((now, format!("machine {machine} dies")));
    }

    /// Connections of a client to a vserver with SOURCEIP persistence all go to
    /// one server, whichever node chose it.
    pub fn judge_persistence(&mut self, scenario: &Scenario, clients: &[Client], watch: &Watch, reference: &Reference) {
        let sticky = |index: usize| scenario.vservers[index].options.contains("SOURCEIP");
        for (number, client) in clients.iter().enumerate() {
            let mut sessions = BTreeMap::new();
            let after = |at: Option<Instant>| at.is_some_and(|at| at > reference.last_ruin());
            let mut known: Vec<_> = client
                .connections
                .iter()
                .filter(|c| sticky(c.vserver) && after(c.established) && !reference.excuses(number, c))
                .collect();
            known.sort_by_key(|connection| connection.established);
            for connection in known {
                let server = watch.server_of(number, connection.port, connection.v6);
                let begun = connection.established.unwrap_or(Instant::FAR);
                let ended = connection.ended.unwrap_or(Instant::FAR);
                let (expected, used) = sessions.entry((connection.vserver, connection.v6)).or_insert((server, ended));
                if begun > *used + SESSION_LIFE {
                    // A full table let the client in so late that its session was over.
                    *expected = server;
                }
                *used = ended.max(*used);
                let expected = *expected;
                if server != expected {
                    self.violations
                        .push(format!("client {number}: SOURCEIP sent it to {expected:?} and to {server:?}"));
                }
            }
        }
    }

    /// In a whole, quiet pair: the secondary has every flow that the primary
    /// must not lose, with the same server and the same source.
    pub fn judge_tables(&mut self, now: Instant, primary: &Node, secondary: &Node) {
        let (ours, theirs) = (table(now, primary), table(now, secondary));
        for (key, flow) in &ours {
            let stateful = flow.2;
            match theirs.get(key) {
                // A protected flow is equal; an unprotected one is of a vserver that is not mirrored.
                Some(other) if (&other.0, &other.1) == (&flow.0, &flow.1) => {}
                None if !stateful => {}
                other => {
                    self.violations.push(format!("flow {key:?} is {flow:?} on the primary, {other:?} on the secondary"))
                }
            }
        }
        for (key, flow) in theirs.iter().filter(|(key, _)| !ours.contains_key(*key)) {
            self.violations.push(format!("flow {key:?} is {flow:?} on the secondary and not on the primary"));
        }
        let digest = |node: &Node| (node.engine().digest(), node.engine().counts().in_session);
        if digest(primary) != digest(secondary) {
            self.violations.push(format!("digests differ: {:?} and {:?}", digest(primary), digest(secondary)));
        }
    }

    /// At any time in a whole pair: what the primary calls protected is there on
    /// the secondary, unless it lies unread beyond a gap; and once it has been whole for long enough that the acks of
    /// the bulk are back, what must survive is protected or held.
    pub fn judge_protection(&mut self, now: Instant, scenario: &Scenario, primary: &Node, secondary: &Node) {
        let theirs = table(now, secondary);
        let repaired = self.whole_since.is_some_and(|since| now.since(since) > REPAIRED_WITHIN);
        let must_protect = repaired && now >= self.link_bad_until;
        for (key, flow) in table(now, primary) {
            let stored = theirs.get(&key).is_some_and(|other| (&other.0, &other.1) == (&flow.0, &flow.1));
            if flow.2 && !stored && secondary.unread_datagrams() == 0 {
                self.violate(now, format!("flow {key:?} counts as protected and is not on the secondary"));
            }
            let vip = |spec: &VserverSpec| key.2.contains(&spec.v4.to_string()) || key.2.contains(&spec.v6.to_string());
            let stateful = scenario.vservers.iter().any(|spec| spec.failover == "STATEFUL" && vip(spec));
            if must_protect && stateful && flow.3 && !flow.2 {
                self.violate(now, format!("flow {key:?} is established and not protected in a whole pair"));
            }
        }
    }

    /// In a whole, quiet pair: the shared configuration is the same, and so is
    /// what a save would store of it.
    pub fn judge_config(&mut self, a: &Node, b: &Node) {
        let lines = |node: &Node| node.config().lines(holdfast_config::Scope::Shared);
        if lines(a) != lines(b) || a.config().fingerprint() != b.config().fingerprint() {
            self.violations.push("the nodes have different configurations".into());
        }
    }

    /// After every time-out has passed: nothing is left.
    pub fn judge_leaks(&mut self, machines: &[Machine; 2]) {
        for machine in machines {
            let Some(node) = &machine.node else { continue };
            let counts = node.engine().counts();
            if counts.flows != 0 || counts.leases != 0 || counts.held != 0 {
                self.violations.push(format!("machine {} keeps {counts:?} after all traffic has ended", machine.index));
            }
        }
    }

    fn note_primary(&mut self, now: Instant, machine: &Machine, term: u64) {
        let life = (machine.index, machine.boot);
        if self.ruler.is_none_or(|(_, _, highest)| term > highest) {
            self.ruler = Some((life.0, life.1, term));
        }
        match self.terms.insert((term, life.0), life.1) {
            None => (self.promotions, self.promoted_at) = (self.promotions + 1, now),
            Some(boot) if boot == life.1 => {}
            Some(boot) => self
                .violations
                .push(format!("two lives of machine {} lead in term {term}: {boot} and {}", life.0, life.1)),
        }
    }
}

type FlowName = (u8, String, String);
/// Server, source, protected, established and not held.
type FlowValue = (String, String, bool, bool);

/// The flows of a node that a successor should know.
fn table(now: Instant, node: &Node) -> BTreeMap<FlowName, FlowValue> {
    let (mut rows, mut cursor) = (Vec::new(), 0);
    while !node.engine().connections(now, &mut cursor, 4096, &mut rows) {}
    rows.iter()
        .map(|row| {
            let key = (row.proto, row.client.to_string(), row.vip.to_string());
            let established = row.state == "ESTABLISHED" && !row.held;
            (key, (row.server.to_string(), row.source.to_string(), row.protected, established))
        })
        .collect()
}

fn millis(at: Instant) -> Duration {
    Duration::from_micros(at.as_nanos() / 1000)
}
