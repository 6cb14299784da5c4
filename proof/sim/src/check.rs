//! What must always hold, whatever the seed does. The checker looks from
//! outside: at roles, gates and tables through the node's doors, and at what
//! clients saw.

use std::collections::BTreeMap;

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::Gate;
use holdfast_ha::Role;
use holdfast_node::{Level, Node};

use crate::apps::{Client, Outcome};
use crate::machine::Machine;
use crate::scenario::Scenario;
use crate::watch::Watch;

/// After all paths were cut, two primaries are excused for this long.
const PARTITION_GRACE: Duration = Duration::from_secs(1);

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
    /// When a failure last struck a pair that was not whole: what the nodes knew may be gone.
    pub excused_at: Instant,
    /// Failovers seen.
    pub promotions: u64,
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
    pub fn after_turn(&mut self, now: Instant, machines: &[Machine; 2], machine: usize, path: bool) {
        if !path {
            self.partitioned = Some(now);
        }
        let leads = |machine: &Machine| machine.node.as_ref().filter(|n| n.role() == Role::Primary).map(|n| n.term());
        // A node that never heard of a term, because all who knew it are dead, may use it again.
        if let [Some(a), Some(b)] = [0, 1].map(|m| leads(&machines[m]))
            && a == b
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
                self.note_primary(machine, node.term());
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
        let Some(node) = &machine.node else { return };
        let released = node.engine().counters().hold_released_unprotected;
        let reason = |text: &str| text.starts_with("peer lost") || text.contains(", cause ");
        if released > machine.before.unprotected && !lines.iter().any(|(_, _, text)| reason(text)) {
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

    /// At the end: what the clients saw.
    pub fn judge_clients(&mut self, scenario: &Scenario, clients: &[Client]) {
        for (number, client) in clients.iter().enumerate() {
            for connection in &client.connections {
                let vserver = &scenario.vservers[connection.vserver];
                let survives = vserver.failover != "DISABLED";
                let bad = match connection.outcome {
                    Outcome::Corrupt => true,
                    // Open: established and still not finished although the world was given time.
                    Outcome::Lost | Outcome::Open => survives && !connection.excused,
                    Outcome::Opening | Outcome::Finished | Outcome::Failed => false,
                };
                if bad {
                    self.violations.push(format!(
                        "client {number} port {} to {} ({}): {:?}, opened {:?}, established {:?}, ended {:?}, {} of {} bytes back",
                        connection.port,
                        vserver.name,
                        if connection.v6 { "IPv6" } else { "IPv4" },
                        connection.outcome,
                        millis(connection.opened),
                        connection.established.map(millis),
                        connection.ended.map(millis),
                        connection.echoed,
                        connection.total,
                    ));
                }
            }
            // smoltcp believes a neighbour for a minute; when all announcements were lost it speaks to a dead node so long.
            for exchange in &client.exchanges {
                if exchange.moved && !exchange.excused && scenario.vservers[exchange.vserver].failover == "STATEFUL" {
                    self.violations.push(format!("client {number}: a UDP exchange moved to another server"));
                }
                if exchange.answered == 0 && !self.story.iter().any(|(_, text)| text.starts_with("Loss")) {
                    self.violations.push(format!("client {number}: a UDP exchange was never answered"));
                }
            }
        }
    }

    /// Connections of a client to a vserver with SOURCEIP persistence all go to
    /// one server, whichever node chose it.
    pub fn judge_persistence(&mut self, scenario: &Scenario, clients: &[Client], watch: &Watch) {
        let sticky = |index: usize| scenario.vservers[index].options.contains("SOURCEIP");
        for (number, client) in clients.iter().enumerate() {
            let mut first = BTreeMap::new();
            let after = |at: Option<Instant>| at.is_some_and(|at| at > self.excused_at);
            let known = client.connections.iter().filter(|c| sticky(c.vserver) && after(c.established) && !c.excused);
            for connection in known {
                let server = watch.server_of(number, connection.port, connection.v6);
                let expected = *first.entry((connection.vserver, connection.v6)).or_insert(server);
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
        for node in [primary, secondary] {
            let mut sources: Vec<_> = table(now, node).into_iter().map(|(key, flow)| (key.0, flow.0, flow.1)).collect();
            let all = sources.len();
            sources.sort_unstable();
            sources.dedup();
            if sources.len() != all {
                self.violations.push("a source address and port has two owners".into());
            }
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

    fn note_primary(&mut self, machine: &Machine, term: u64) {
        let life = (machine.index, machine.boot);
        if self.ruler.is_none_or(|(_, _, highest)| term > highest) {
            self.ruler = Some((life.0, life.1, term));
        }
        match self.terms.insert((term, life.0), life.1) {
            None => self.promotions += 1,
            Some(boot) if boot == life.1 => {}
            Some(boot) => self
                .violations
                .push(format!("two lives of machine {} lead in term {term}: {boot} and {}", life.0, life.1)),
        }
    }
}

type FlowName = (u8, String, String);
type FlowValue = (String, String, bool);

/// The flows of a node that a successor should know.
fn table(now: Instant, node: &Node) -> BTreeMap<FlowName, FlowValue> {
    let (mut rows, mut cursor) = (Vec::new(), 0);
    while !node.engine().connections(now, &mut cursor, 4096, &mut rows) {}
    rows.iter()
        .map(|row| {
            let key = (row.proto, row.client.to_string(), row.vip.to_string());
            (key, (row.server.to_string(), row.source.to_string(), row.protected))
        })
        .collect()
}

fn millis(at: Instant) -> Duration {
    Duration::from_micros(at.as_nanos() / 1000)
}
