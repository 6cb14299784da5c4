//! Stories about the channel between the nodes: passwords, and strangers.

use crate::lab::peer_address;
use crate::node::Failure;
use crate::role::{Role, play_inside};
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::{sys, traffic};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// Answers of nodes and roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// A stranger is done within this time.
const ATTACK_LIMIT: Duration = Duration::from_secs(60);
/// Memory that a node may grow by under attack, in KiB.
const GROWTH_MAX: u64 = 16 << 10;
const DIFFER: &str = "the rpcNode passwords of the two nodes differ";

fn channel(stage: &Stage<'_>, node: usize) -> Result<String> {
    stage.pair.nodes[node].cli(&["show", "ns", "rpcNode", &peer_address(1 - node as u8)])
}

/// The other node comes back with another password: both operators read why there is no mirroring, the primary goes on.
pub fn wrong_password(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let other = 1 - primary;
    drop(stage.pair.fail(&stage.lab, other, Failure::Kill)?);
    stage.pair.nodes[other].settings.password = "wrong".into();
    stage.pair.nodes[other].start(&stage.lab)?;
    for node in 0..2 {
        sys::wait_until("both nodes tell that the passwords differ", ANSWER_LIMIT, || {
            let shown = stage.pair.nodes[node].cli(&["show", "ha", "node"])?;
            let told = shown.contains(DIFFER) && channel(stage, node)?.contains(DIFFER);
            let logged = std::fs::read_to_string(stage.pair.nodes[node].log())?.contains(DIFFER);
            Ok((told && logged).then_some(()))
        })?;
    }
    wait_recovered(&mut traffic)?;
    let views = [stage.pair.nodes[primary].ha()?, stage.pair.nodes[other].ha()?];
    ensure!(views[0].is_primary() && !views[0].peer_caught_up, "the primary goes on alone: {}", views[0].raw);
    ensure!(!views[1].is_primary() && !views[1].caught_up, "the other one takes nothing over: {}", views[1].raw);
    let answer = stage.pair.nodes[primary].cli(&["add", "server", "alone", "10.77.0.9"])?;
    ensure!(answer.contains("Command propagation failed due to user authentication problems"), "{answer}");
    // Put right at the node, without a restart.
    set_password(stage, other, "s3cret")?;
    let whole = stage.pair.wait_whole()?;
    ensure!(whole == primary, "the roles have changed");
    nothing_lost(traffic)
}

fn set_password(stage: &Stage<'_>, node: usize, password: &str) -> Result<()> {
    for entry in 0..2 {
        stage.pair.nodes[node].cli(&["set", "ns", "rpcNode", &peer_address(entry), "-password", password])?;
    }
    Ok(())
}

/// A new password on one node after the other, under traffic; then both lives end and begin again with it.
pub fn password_changed(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    set_password(stage, primary, "another-one")?;
    sys::wait_until("the primary says that its peer has the former one", ANSWER_LIMIT, || {
        let shown = stage.pair.nodes[primary].cli(&["show", "ha", "node"])?;
        Ok(shown.contains("the peer still uses the former rpcNode password").then_some(()))
    })?;
    ensure!(stage.pair.wait_whole()? == primary, "the session goes on");
    set_password(stage, 1 - primary, "another-one")?;
    for node in 0..2 {
        sys::wait_until("both have keys of the new password", ANSWER_LIMIT, || {
            let shown = stage.pair.nodes[node].cli(&["show", "ha", "node"])?;
            let done = shown.contains("Peer Channel Security: AUTHENTICATED, ENCRYPTED\n")
                && !shown.contains("former rpcNode password");
            Ok(done.then_some(()))
        })?;
        let handshakes = channel(stage, node)?;
        ensure!(handshakes.contains("Handshakes: 1 "), "the session was never lost: {handshakes}");
    }
    wait_recovered(&mut traffic)?;
    stage.pair.nodes.iter_mut().for_each(|node| node.settings.password = "another-one".into());
    for victim in [1 - primary, primary] {
        let outage = stage.pair.fail(&stage.lab, victim, Failure::Kill)?;
        wait_recovered(&mut traffic)?;
        stage.pair.heal(&stage.lab, outage)?;
    }
    nothing_lost(traffic)
}

/// Strangers on a data network, and with the very address of the peer on the peer link: replays, pieces, and handshakes
/// that nobody ends. Nothing changes but counters; a node that restarts meanwhile finds its peer.
pub fn attacked(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let refused = [stage.pair.nodes[0].refused()?, stage.pair.nodes[1].refused()?];
    let resident = [resident(stage, 0)?, resident(stage, 1)?];
    let term = stage.pair.nodes[primary].ha()?.term;
    for node in 0..2u8 {
        let (own, peer) = (peer_address(node), format!("{}:3003", peer_address(1 - node)));
        let on_the_link = ["attack", "--interface", "eth-p", "--name", &own, "--udp", &peer, "--tcp", &peer];
        let on_the_lan = ["attack", "--interface", "eth0", "--name", &own];
        for (namespace, args) in
            [(&stage.lab.nodes[usize::from(node)], &on_the_link[..]), (&stage.lab.client, &on_the_lan)]
        {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            play_inside(namespace, &args, ATTACK_LIMIT, &traffic::role_log(&stage.lab))?;
        }
    }
    stage.pair.ensure_alive()?;
    wait_recovered(&mut traffic)?;
    ensure!(stage.pair.wait_whole()? == primary, "an attack moved the primary's role");
    let now = stage.pair.nodes[primary].ha()?.term;
    ensure!(now == term, "an attack has moved the role there and back: term {term}, now {now}");
    for node in 0..2 {
        every_refusal_is_counted(stage, node)?;
        let shown = channel(stage, node)?;
        ensure!(shown.contains("Channel: AUTHENTICATED, ENCRYPTED") && shown.contains("Handshakes: 1 "), "{shown}");
        let (before, after) = (refused[node], stage.pair.nodes[node].refused()?);
        ensure!(after > before + 10_000, "refused messages must be counted: {before} before, {after} after");
        let grown = self::resident(stage, node)?.saturating_sub(resident[node]);
        ensure!(grown < GROWTH_MAX, "node {node} has grown by {grown} KiB");
        let log = std::fs::read_to_string(stage.pair.nodes[node].log()).unwrap_or_default();
        ensure!(
            !log.contains("panic") && log.lines().count() < 1000,
            "node {node} logged {} lines",
            log.lines().count()
        );
    }
    comes_back_under_attack(stage, primary)?;
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

/// Asks a node for its counters, as an operator does: each kind of rubbish has one of its own.
fn every_refusal_is_counted(stage: &Stage<'_>, node: usize) -> Result<()> {
    let start = std::fs::metadata(stage.pair.nodes[node].log())?.len() as usize;
    sys::signal(stage.pair.nodes[node].pid().context("the node runs")?, libc::SIGUSR1)?;
    let counted = sys::wait_until("the node tells its counters", ANSWER_LIMIT, || {
        let told = stage.pair.nodes[node].log_from(start);
        Ok(told.lines().find(|line| line.contains("peer channel refused:")).map(str::to_owned))
    })?;
    // Who answers handshakes has no time for so many; who begins them has not asked for an answer.
    let handshakes = ["busy", "stale"][node];
    for reason in ["malformed", "version", "authentication", "stranger", "unkeyed", "replayed", "cookie", handshakes] {
        ensure!(counted.contains(&format!("{reason} ")), "node {node} has not counted {reason}: {counted}");
    }
    Ok(())
}

fn comes_back_under_attack(stage: &mut Stage<'_>, primary: usize) -> Result<()> {
    let secondary = 1 - primary;
    let outage = stage.pair.fail(&stage.lab, secondary, Failure::Kill)?;
    let name = peer_address(secondary as u8);
    // About ten thousand a second, for the time that the node needs to come back.
    let words = ["attack", "--interface", "eth0", "--name", &name, "--half-open", "300000", "--pause-us", "10000"];
    let args: Vec<String> = words.iter().map(ToString::to_string).collect();
    let attack = Role::start(&stage.lab.client, &args, &traffic::role_log(&stage.lab))?;
    stage.pair.heal(&stage.lab, outage).context("the node did not come back under attack")?;
    drop(attack);
    Ok(())
}

/// One node sends from another address of its host (`-srcIP`), and the other one expects it.
pub fn another_source(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let (receiver, sender) = (peer_address(1), &stage.lab.nodes[0]);
    let own = peer_address(0);
    let source = format!("{}77", own.trim_end_matches(|last: char| last.is_ascii_digit()));
    sender.ip(&["address", "add", &format!("{source}/24"), "dev", "eth-p"])?;
    for node in 0..2 {
        stage.pair.nodes[node].cli(&["set", "ns", "rpcNode", &receiver, "-srcIP", &source])?;
    }
    sys::wait_until("datagrams leave from there", ANSWER_LIMIT, || {
        Ok(sender.run("ss", &["-uan"], "")?.contains(&format!("{source}:3003")).then_some(()))
    })?;
    wait_recovered(&mut traffic)?;
    ensure!(stage.pair.wait_whole()? == primary, "the roles have changed");
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    wait_recovered(&mut traffic)?;
    stage.pair.heal(&stage.lab, outage)?;
    nothing_lost(traffic)
}

/// Resident memory of a node's process, KiB.
fn resident(stage: &Stage<'_>, node: usize) -> Result<u64> {
    let pid = stage.pair.nodes[node].pid().context("the node runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
