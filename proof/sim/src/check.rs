//! What must always hold, whatever the seed does. The checker looks from
//! outside: at roles, gates and tables through the node's doors, and at what
//! clients saw.

use std::collections::BTreeMap;

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::Gate;
use holdfast_ha::Role;
use holdfast_node::Node;

use crate::apps::{Client, Outcome};
use crate::machine::Machine;
use crate::scenario::Scenario;

/// After all paths were cut, two primaries are excused for this long.
const PARTITION_GRACE: Duration = Duration::from_secs(1);

/// Findings and what is needed to make them.
#[derive(Default)]
pub struct Checker {
    /// What was violated; empty is good.
    pub violations: Vec<String>,
    /// What was done to the world, for the reader of a failure.
    pub story: Vec<(Instant, String)>,
    /// Which life was primary in which term.
    terms: BTreeMap<u64, (usize, u64)>,
    partitioned: Option<Instant>,
    /// Failovers seen.
    pub promotions: u64,
}

impl Checker {
    /// Whether anything was violated.
    pub fn failed(&self) -> bool {
        !self.violations.is_empty()
    }

    /// After every turn: at most one node opens flows or announces, and no term
    /// has two primaries.
    pub fn after_turn(&mut self, now: Instant, machines: &[Machine; 2], peer_link: bool, plugged: [[bool; 2]; 2]) {
        let path = peer_link || (0..2).any(|network| plugged[0][network] && plugged[1][network]);
        if !path {
            self.partitioned = Some(now);
        }
        let excused = self.partitioned.is_some_and(|at| now.since(at) < PARTITION_GRACE);
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
        if open > 1 && !excused {
            self.violations.push(format!("{:?}: both nodes may open flows", millis(now)));
        }
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
                    Outcome::Lost => survives,
                    // Established and still not finished although the world was given time.
                    Outcome::Open => survives,
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
            for exchange in &client.exchanges {
                if exchange.moved && scenario.vservers[exchange.vserver].failover == "STATEFUL" {
                    self.violations.push(format!("client {number}: a UDP exchange moved to another server"));
                }
                if exchange.answered == 0 {
                    self.violations.push(format!("client {number}: a UDP exchange was never answered"));
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
                Some(other) if (&other.0, &other.1) == (&flow.0, &flow.1) => {}
                None if !stateful => {}
                other => {
                    self.violations.push(format!("flow {key:?} is {flow:?} on the primary, {other:?} on the secondary"))
                }
            }
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
        match self.terms.get(&term) {
            None => {
                self.promotions += 1;
                self.terms.insert(term, life);
            }
            Some(&other) if other == life => {}
            Some(&other) => {
                self.violations.push(format!("term {term} has two primaries: {other:?} and {life:?}"));
            }
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
