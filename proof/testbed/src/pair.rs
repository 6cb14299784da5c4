//! Both nodes together: who is primary, is the pair whole, kill one and bring it back.

use crate::lab::Lab;
use crate::node::{Binaries, Failure, Node};
use crate::sniff::Watch;
use crate::sys;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// A pair must be whole within this time after a start or a return.
const WHOLE_LIMIT: Duration = Duration::from_secs(30);
/// The survivor must call itself primary within this time.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// Servers must be found healthy within this time.
const HEALTH_LIMIT: Duration = Duration::from_secs(30);

/// Two nodes.
pub struct Pair {
    /// a and b.
    pub nodes: [Node; 2],
}

/// A node that has failed, and the eye kept on it.
pub struct Outage {
    /// Which node.
    pub victim: usize,
    /// How.
    pub failure: Failure,
    watch: Watch,
}

/// How long a node that has failed so may forward: the kernel of a frozen one does until its lease is over, which is two margins
/// of 20 ms before the dead interval is (by default 400 ms).
fn may_go_on(failure: Failure) -> Duration {
    match failure {
        Failure::Kill | Failure::Power => Duration::ZERO,
        Failure::Freeze => Duration::from_millis(360),
    }
}

impl Pair {
    /// Two nodes that have not been started.
    pub fn new(lab: &Lab, binaries: &Binaries) -> Result<Pair> {
        if binaries.data_plane == "xdp" {
            lab.suit_xdp()?;
        }
        Ok(Pair { nodes: [Node::new(lab, 0, binaries)?, Node::new(lab, 1, binaries)?] })
    }

    /// Starts both nodes and waits until the pair is whole and the servers are healthy.
    pub fn bring_up(&mut self, lab: &Lab) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.start(lab))?;
        self.wait_whole()?;
        self.wait_healthy()
    }

    /// Waits until one node is primary and the other has caught up; returns the primary's index.
    pub fn wait_whole(&mut self) -> Result<usize> {
        let mut seen = String::new();
        let outcome = sys::wait_until("the pair is whole", WHOLE_LIMIT, || {
            self.ensure_alive()?;
            let views = [self.nodes[0].ha(), self.nodes[1].ha()];
            seen = views
                .iter()
                .map(|view| match view {
                    Ok(view) => {
                        format!("{} caught_up={} peer_caught_up={}", view.role, view.caught_up, view.peer_caught_up)
                    }
                    Err(error) => format!("{error:#}"),
                })
                .collect::<Vec<_>>()
                .join(" / ");
            let [Ok(a), Ok(b)] = views else { return Ok(None) };
            let whole = |p: &crate::node::HaView, s: &crate::node::HaView| {
                p.is_primary() && p.peer_caught_up && s.is_secondary() && s.caught_up
            };
            Ok(match (whole(&a, &b), whole(&b, &a)) {
                (true, _) => Some(0),
                (_, true) => Some(1),
                _ => None,
            })
        });
        outcome.with_context(|| format!("the nodes say: {seen}"))
    }

    /// Waits until every virtual server of the primary is UP.
    pub fn wait_healthy(&mut self) -> Result<()> {
        let primary = self.wait_whole()?;
        let mut seen = String::new();
        let outcome = sys::wait_until("all virtual servers and services are UP", HEALTH_LIMIT, || {
            let text = self.nodes[primary].cli(&["show", "service"])?;
            let down: Vec<&str> =
                text.lines().filter(|line| line.contains("State:") && !line.contains("State: UP")).collect();
            seen = down.join("\n");
            Ok((text.contains("State: UP") && down.is_empty()).then_some(()))
        });
        outcome.with_context(|| format!("not UP:\n{seen}"))
    }

    /// Waits until this node leads.
    pub fn wait_primary(&mut self, node: usize) -> Result<()> {
        sys::wait_until("the role has moved", TAKEOVER_LIMIT, || {
            self.ensure_alive()?;
            Ok(self.nodes[node].ha()?.is_primary().then_some(()))
        })
    }

    /// An error if a node that should live has ended by itself.
    pub fn ensure_alive(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|node| node.pid().is_some()).try_for_each(Node::ensure_alive)
    }

    /// Lets node `victim` fail, begins to watch its cables, and waits until the other one is primary.
    pub fn fail(&mut self, lab: &Lab, victim: usize, failure: Failure) -> Result<Outage> {
        self.nodes[victim].fail(lab, failure)?;
        let watch = Watch::start_after(lab, victim, may_go_on(failure))?;
        let survivor = 1 - victim;
        sys::wait_until(&format!("node {} takes over", self.nodes[survivor].name()), TAKEOVER_LIMIT, || {
            self.nodes[survivor].ensure_alive()?;
            Ok(self.nodes[survivor].ha()?.is_primary().then_some(()))
        })?;
        Ok(Outage { victim, failure, watch })
    }

    /// Freezes the secondary until the primary has noticed.
    pub fn cut_off(&mut self, lab: &Lab, secondary: usize) -> Result<Outage> {
        self.nodes[secondary].fail(lab, Failure::Freeze)?;
        let watch = Watch::start(lab, secondary)?;
        let primary = 1 - secondary;
        sys::wait_until("the primary misses its peer", TAKEOVER_LIMIT, || {
            Ok((!self.nodes[primary].ha()?.peer_caught_up).then_some(()))
        })?;
        Ok(Outage { victim: secondary, failure: Failure::Freeze, watch })
    }

    /// Brings the victim back and waits until it has caught up. Until then it must not have sent one frame in the name
    /// of a floating address.
    pub fn heal(&mut self, lab: &Lab, outage: Outage) -> Result<()> {
        self.nodes[outage.victim].revive(lab, outage.failure)?;
        self.caught_up_in_silence(outage.victim, outage.watch)
    }

    /// Waits until `node`, which was watched since it failed, has caught up. Until then it must not have sent one frame in
    /// the name of a floating address.
    pub fn caught_up_in_silence(&mut self, node: usize, watch: Watch) -> Result<()> {
        let primary = self.wait_whole()?;
        ensure!(primary != node, "node {} came back and took the primary's place", self.nodes[node].name());
        self.ensure_silent(node, watch)
    }

    /// Ends a watch over `node`, which must not have sent one frame in the name of a floating address.
    pub fn ensure_silent(&self, node: usize, watch: Watch) -> Result<()> {
        let seen = watch.finish()?;
        let (name, count) = (self.nodes[node].name(), seen.count);
        if let Some(first) = seen.first {
            bail!("node {name} spoke for floating addresses {count} times while it was not primary; first: {first}");
        }
        Ok(())
    }

    /// Saves logs and what both operators see, for whoever looks for the cause of a loss.
    pub fn keep_evidence(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        for node in &self.nodes {
            let name = node.name();
            let _ = std::fs::copy(node.log(), directory.join(format!("{name}-holdfastd.log")));
            for (file, words) in [
                ("ha-node.txt", &["show", "ha", "node"][..]),
                ("stat-ha.txt", &["stat", "ha", "node"][..]),
                ("dataplane.txt", &["show", "ns", "dataplane"][..]),
                ("connectiontable.txt", &["show", "ns", "connectiontable"][..]),
                ("stat-vserver.txt", &["stat", "lb", "vserver"][..]),
                ("runningconfig.txt", &["show", "ns", "runningConfig"][..]),
            ] {
                // A frozen node would not answer: ask only who can.
                let asleep = node.pid().and_then(sys::process_state) == Some('T');
                let text =
                    if asleep { "frozen".to_string() } else { node.cli(words).unwrap_or_else(|e| format!("{e:#}")) };
                std::fs::write(directory.join(format!("{name}-{file}")), text)?;
            }
        }
        Ok(())
    }
}
