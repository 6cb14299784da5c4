//! Stories about the pair's configuration: changes and saves reach both nodes, an old file is made up for under load.

use crate::config::Vip;
use crate::lab::Family;
use crate::node::{Failure, Node};
use crate::stories::Stage;
use crate::sys;
use crate::traffic::{self, Load, Traffic};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// Idle connections.
const IDLE: u32 = 50;
/// Time for the nodes to be of one mind.
const AGREE_LIMIT: Duration = Duration::from_secs(10);
/// Answers of roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A change is on both nodes when its operator has the answer, and in both files after one save; it survives a failover
/// that comes at once.
pub fn changes_reach_both(stage: &mut Stage<'_>) -> Result<()> {
    let mut ends = traffic::start_ends(&stage.lab, Vip::Nat, Family::V4, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    for number in 0..20 {
        let line = format!("add server extra{number} 10.77.0.{}", number + 1);
        stage.pair.nodes[primary].cli(&line.split(' ').collect::<Vec<_>>())?;
        let there = running(&stage.pair.nodes[1 - primary])?;
        ensure!(there.contains(&line), "node {} has not `{line}`", stage.pair.nodes[1 - primary].name());
    }
    stage.pair.nodes[primary].cli(&["save", "ns", "config"])?;
    for node in &stage.pair.nodes {
        sys::wait_until(&format!("node {} has saved", node.name()), AGREE_LIMIT, || {
            Ok(node.saved()?.contains("add server extra19 10.77.0.20").then_some(()))
        })?;
    }
    stage.pair.nodes[primary].cli(&["set", "server", "extra0", "-comment", "last"])?;
    let _outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    ensure!(running(&stage.pair.nodes[1 - primary])?.contains("-comment last"), "a confirmed change is lost");
    let spoken = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "connections after the takeover: {spoken}");
    Ok(())
}

/// The secondary comes back with the file of the beginning while clients are busy: it takes over what it has missed, nobody
/// notices, and it can lead.
pub fn old_file_under_load(stage: &mut Stage<'_>) -> Result<()> {
    let load = Load { connections: 300, new_per_second: 200, probe_rate: 1000 };
    let mut traffic = Traffic::start(&stage.lab, Vip::Nat, &Family::ALL, load)?;
    let mut idle = traffic::start_ends(&stage.lab, Vip::Usip, Family::V6, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    stage.pair.nodes[1 - primary].kill()?;
    for number in 0..50 {
        let line = format!("add server late{number} 10.78.0.{}", number + 1);
        stage.pair.nodes[primary].cli(&line.split(' ').collect::<Vec<_>>())?;
    }
    stage.pair.nodes[1 - primary].start(&stage.lab)?;
    stage.pair.wait_whole()?;
    let [own, other] = [primary, 1 - primary].map(|index| &stage.pair.nodes[index]);
    sys::wait_until("one configuration on both nodes", AGREE_LIMIT, || {
        Ok((sync_state(other)? == "SUCCESS" && running(own)?.contains("late49")).then_some(()))
    })?;
    ensure!(shared(&running(own)?) == shared(&running(other)?), "the configurations differ");
    let refused = other.cli(&["rm", "server", "late0"]).err().context("a secondary took a change")?;
    ensure!(format!("{refused:#}").contains("permitted only on primary"), "{refused:#}");
    other.cli(&["force", "HA", "sync", "-save", "YES"])?;
    sys::wait_until("the secondary has saved", AGREE_LIMIT, || Ok(other.saved()?.contains("late49").then_some(())))?;
    let _outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    traffic.wait_recovered()?;
    let spoken = idle.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "idle connections: {spoken}");
    traffic.finish()?.complaint().map_or(Ok(()), |complaint| anyhow::bail!(complaint))
}

fn running(node: &Node) -> Result<String> {
    node.cli(&["show", "ns", "runningConfig"])
}

fn sync_state(node: &Node) -> Result<String> {
    let text = node.cli(&["show", "ha", "node", "0"])?;
    let state = text.lines().find_map(|line| line.trim().strip_prefix("Sync State: "));
    state.map(str::to_owned).with_context(|| format!("no synchronisation state in {text}"))
}

/// The lines that both nodes must have.
fn shared(running: &str) -> Vec<&str> {
    let own = ["set ns config", "add interface", "set HA node", "add HA node", "set ns rpcNode", "#"];
    running.lines().filter(|line| !own.iter().any(|own| line.starts_with(own))).collect()
}
