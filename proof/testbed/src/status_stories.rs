//! Stories about what an operator tells a node: statuses, forced failovers that are refused, the words of the pair; and
//! about a connection between the nodes that somebody else closes.

use crate::lab::{peer_address, switch_ports};
use crate::node::{Failure, Node};
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::{config, sys};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::Duration;

/// Time for a role to move.
const ROLE_LIMIT: Duration = Duration::from_secs(10);
/// So long a node must not lead that was told not to: many dead intervals.
const NEVER: u64 = 3;
/// How often the idle connection is closed on each node.
const CLOSES: usize = 5;
/// So long the other node does not run meanwhile: longer than probes may stay unanswered after a death (3 ms; a primary
/// waits for 30 ms).
const STARVED: Duration = Duration::from_millis(40);

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("a_status_decides_who_takes_over", statuses),
    ("a_forced_failover_is_refused_with_the_markets_words", refusals),
    ("a_peer_connection_that_is_closed_moves_nothing", closed_connection),
    ("a_primary_that_is_not_heard_gives_way_and_nothing_is_lost", unheard),
    ("the_words_of_the_pair_work_in_the_shell", words),
];

fn own(node: &Node, key: &str) -> Result<Value> {
    Ok(node.ha()?.raw["hanode"][0][key].clone())
}

fn set_status(stage: &Stage<'_>, node: usize, status: &str) -> Result<()> {
    stage.pair.nodes[node].cli(&["set", "HA", "node", "-haStatus", status])?;
    sys::wait_until("the peer hears of the status", ROLE_LIMIT, || {
        let heard = stage.pair.nodes[1 - node].ha()?.raw["hanode"][1]["hastatus"].clone();
        Ok((heard == if status == "STAYPRIMARY" { "UP" } else { status }).then_some(()))
    })
}

/// A node that is told never to lead does not, though its primary is dead; one that is told to lead gets the role from a
/// willing peer without a loss.
fn statuses(stage: &mut Stage<'_>) -> Result<()> {
    for status in ["STAYSECONDARY", "DISABLED"] {
        let primary = stage.pair.wait_whole()?;
        let other = 1 - primary;
        set_status(stage, other, status)?;
        let age = |stage: &Stage<'_>| -> Result<u64> {
            own(&stage.pair.nodes[other], "masterstatetime")?.as_u64().context("masterstatetime")
        };
        let before = age(stage)?;
        stage.pair.nodes[primary].kill()?;
        // A change of role would begin the age anew.
        sys::wait_until(&format!("{status} does not lead"), ROLE_LIMIT, || {
            Ok((age(stage)? >= before + NEVER).then_some(()))
        })?;
        let view = stage.pair.nodes[other].ha()?;
        ensure!(view.is_secondary(), "{status} beside a dead primary: {}", view.raw);
        stage.pair.nodes[other].cli(&["unset", "HA", "node", "-haStatus"])?;
        stage.pair.wait_primary(other)?;
        stage.pair.nodes[primary].start(&stage.lab)?;
    }
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    for leader in [1 - primary, primary] {
        set_status(stage, leader, "STAYPRIMARY")?;
        stage.pair.wait_primary(leader)?;
        wait_recovered(&mut traffic)?;
        stage.pair.wait_whole()?;
        stage.pair.nodes[leader].cli(&["unset", "HA", "node", "-haStatus"])?;
    }
    nothing_lost(traffic)
}

/// What a node says when it does not want to do something.
fn refused(node: &Node, words: &[&str]) -> Result<String> {
    match node.cli(words) {
        Ok(done) => bail!("`{}` was carried out: {done}", words.join(" ")),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// Every refusal of a forced failover, at the real node's shell. (366, a pair that is not whole yet, is told in simulation.)
fn refusals(stage: &mut Stage<'_>) -> Result<()> {
    const COMMAND: &[&str] = &["force", "HA", "failover", "-force"];
    let primary = stage.pair.wait_whole()?;
    let other = 1 - primary;
    let expect = |stage: &Stage<'_>, node: usize, text: &str| -> Result<()> {
        let told = refused(&stage.pair.nodes[node], COMMAND)?;
        ensure!(told.contains(text), "wanted `{text}`, told: {told}");
        ensure!(stage.pair.nodes[primary].ha()?.is_primary(), "a refusal has moved the role");
        Ok(())
    };
    expect(stage, other, "Operation not possible as system state is invalid. Use show node for more information.")?;
    for status in ["STAYSECONDARY", "DISABLED"] {
        set_status(stage, other, status)?;
        expect(stage, primary, "Operation not possible due to invalid peer state. Rectify and retry.")?;
    }
    set_status(stage, primary, "STAYPRIMARY")?;
    expect(stage, primary, "Cannot failover as Node State set to STAYPRIMARY")?;
    stage.pair.nodes[primary].cli(&["unset", "HA", "node", "-haStatus"])?;
    asks_back(stage, primary)?;
    let outage = stage.pair.fail(&stage.lab, other, Failure::Kill)?;
    sys::wait_until("the peer is missed", ROLE_LIMIT, || {
        Ok((stage.pair.nodes[primary].ha()?.raw["hanode"][1]["hastatus"] == "NOT UP").then_some(()))
    })?;
    expect(stage, primary, "Failover not permitted as one node is up and another node is down")?;
    stage.pair.heal(&stage.lab, outage)?;
    stage.pair.wait_whole()?;
    stage.pair.nodes[other].kill()?;
    stage.pair.nodes[primary].cli(&["rm", "HA", "node", "1"])?;
    expect(stage, primary, "Operation not permitted on stand-alone node")?;
    let words = ["add", "HA", "node", "1", &peer_address(other as u8), "-inc", "ENABLED"];
    let told = refused(&stage.pair.nodes[primary], &words)?;
    ensure!(told.contains("Ha node with INC mode enabled cannot be added"), "with STATEFUL virtual servers: {told}");
    stage.pair.nodes[primary].cli(&words[..5])?;
    stage.pair.nodes[other].start(&stage.lab)
}

/// A peer that is not well may lead, but the operator is asked; without a terminal the question is the answer.
fn asks_back(stage: &Stage<'_>, primary: usize) -> Result<()> {
    let other = &stage.pair.nodes[1 - primary];
    other.cli(&["unset", "HA", "node", "-haStatus"])?;
    other.cli(&["bind", "HA", "node", "-routeMonitor", "192.168.77.0", "255.255.255.0"])?;
    let becomes = |state: &str| {
        sys::wait_until("the peer tells how it is", ROLE_LIMIT, || {
            Ok((stage.pair.nodes[primary].ha()?.raw["hanode"][1]["hastatus"] == state).then_some(()))
        })
    };
    becomes("ROUTEMONITORFAIL")?;
    let told = refused(&stage.pair.nodes[primary], &["force", "HA", "failover"])?;
    ensure!(
        told.contains("peer health not optimum. Reason(s): the peer is ROUTEMONITORFAIL")
            && told.contains("Please confirm whether you want force-failover (Y/N)? [N]:"),
        "1147 and 1146: {told}"
    );
    other.cli(&["unbind", "HA", "node", "-routeMonitor", "192.168.77.0", "255.255.255.0"])?;
    becomes("UP")
}

/// Somebody resets the idle connection between the nodes again and again, while the one that is not told so has no time to
/// answer: nothing moves.
fn closed_connection(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let term = stage.pair.nodes[primary].ha()?.term;
    let peers = "( sport = :3003 or dport = :3003 )";
    for round in 0..2 * CLOSES {
        let namespace = &stage.lab.nodes[round % 2];
        sys::wait_until("the nodes are connected", ROLE_LIMIT, || {
            let open = namespace.run("ss", &["-Htn", "state", "established", peers], "")?;
            Ok((!open.trim().is_empty()).then_some(()))
        })?;
        let other = stage.pair.nodes[1 - round % 2].pid().context("both run")?;
        sys::signal(other, libc::SIGSTOP)?;
        let closed = namespace.run("ss", &["-KHtn", "state", "established", peers], "")?;
        sys::pause(STARVED);
        sys::signal(other, libc::SIGCONT)?;
        ensure!(!closed.trim().is_empty(), "this kernel cannot close another process's connection");
    }
    wait_recovered(&mut traffic)?;
    for node in &stage.pair.nodes {
        let log = std::fs::read_to_string(node.log())?;
        ensure!(log.contains("FalseAlarm"), "node {} has not asked its peer:\n{}", node.name(), node.last_words());
        ensure!(!log.contains("peer lost"), "node {} gave its peer up:\n{}", node.name(), node.last_words());
    }
    ensure!(stage.pair.wait_whole()? == primary, "a closed connection has moved the role");
    let now = stage.pair.nodes[primary].ha()?.term;
    ensure!(now == term, "the role has moved there and back: term {term}, now {now}");
    nothing_lost(traffic)
}

/// What the primary says reaches its peer on no path, and all else works: it learns so from its peer and closes its gate
/// before that one leads.
fn unheard(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let ports = switch_ports(primary);
    let heartbeats = format!(
        "table bridge mute {{\n chain pre {{\n  type filter hook prerouting priority 0\n  iifname {ports} ether type 0x88b5 drop\n }}\n}}\n"
    );
    let link =
        "table inet mute {\n chain out {\n  type filter hook output priority 0\n  oifname \"eth-p\" drop\n }\n}\n";
    stage.lab.switch.run("nft", &["-f", "-"], &heartbeats)?;
    stage.lab.nodes[primary].run("nft", &["-f", "-"], link)?;
    stage.pair.wait_primary(1 - primary)?;
    let view = stage.pair.nodes[primary].ha()?;
    ensure!(!view.is_primary(), "both lead: {}", view.raw);
    let log = std::fs::read_to_string(stage.pair.nodes[primary].log())?;
    ensure!(log.contains("cause Unheard"), "why it gave way:\n{}", stage.pair.nodes[primary].last_words());
    wait_recovered(&mut traffic)?;
    stage.lab.switch.run("nft", &["delete", "table", "bridge", "mute"], "")?;
    stage.lab.nodes[primary].run("nft", &["delete", "table", "inet", "mute"], "")?;
    ensure!(stage.pair.wait_whole()? == 1 - primary, "the role has moved back");
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

/// Newer and rarer words of the market: the password with the peer, `stat` with all its options, `sync HA files`.
fn words(stage: &mut Stage<'_>) -> Result<()> {
    let before = stage.pair.wait_whole()?;
    for node in 0..2u8 {
        let peer = peer_address(1 - node);
        let plain = config::ns_conf(node, &stage.pair.nodes[0].settings);
        let kept = plain.lines().filter(|line| !line.starts_with("set ns rpcNode"));
        let named = format!("add HA node 1 {peer}");
        let conf: String =
            kept.map(|line| line.replace(&named, &format!("{named} -rpcNodePassword n3w")) + "\n").collect();
        stage.pair.nodes[usize::from(node)].conf = Some(conf);
    }
    for node in [before, 1 - before] {
        stage.pair.nodes[node].kill()?;
    }
    for node in 0..2 {
        stage.pair.nodes[node].start(&stage.lab)?;
    }
    let primary = stage.pair.wait_whole()?;
    let node = &stage.pair.nodes[primary];
    let shown = node.cli(&["show", "ha", "node"])?;
    ensure!(shown.contains("Peer Channel Security: AUTHENTICATED, ENCRYPTED\n"), "one password on both nodes: {shown}");
    node.cli(&["save", "ns", "config"])?;
    let saved = node.saved()?;
    ensure!(!saved.contains("n3w") && saved.matches("-encrypted").count() == 2, "as it is saved: {saved}");
    sys::wait_until("heartbeats have a rate", ROLE_LIMIT, || {
        let json: Value = serde_json::from_str(&node.cli(&["stat", "HA", "node", "--json"])?)?;
        let rates = [&json["hanode"]["hapktrxrate"], &json["hanode"]["hapkttxrate"]];
        Ok(rates.iter().all(|rate| rate.as_u64().is_some_and(|rate| rate > 0)).then_some(()))
    })?;
    let detail = node.cli(&["stat", "HA", "node", "-detail", "-fullValues"])?;
    ensure!(detail.contains("Heartbeats received (/s)"), "{detail}");
    let received = |words: &[&str]| -> Result<u64> {
        let json: Value = serde_json::from_str(&node.cli(words)?)?;
        json["hanode"]["hatotpktrx"].as_str().context("hatotpktrx")?.parse().context("a number")
    };
    let before = received(&["stat", "HA", "node", "-clearstats", "basic", "--json"])?;
    let after = received(&["stat", "node", "--json"])?;
    ensure!(after < before, "counted {before} heartbeats before and {after} after -clearstats");
    let twice = node.cli(&["stat", "HA", "node", "-ntimes", "2"])?;
    ensure!(twice.matches("High Availability Summary").count() == 2, "{twice}");
    let told = refused(node, &["stat", "HA", "node", "-logFile", "/var/nslog/newnslog"])?;
    ensure!(told.contains("Not a NetScaler log file [logFile, /var/nslog/newnslog]"), "{told}");
    let told = node.cli(&["sync", "files", "all"])?;
    ensure!(told.contains("Warning: There are no such files") && told.contains(" Done"), "{told}");
    stage.pair.nodes[1 - primary].cli(&["set", "HA", "node", "-haStatus", "DISABLED"])?;
    sys::wait_until("a disabled node takes part in nothing", ROLE_LIMIT, || {
        Ok(node.cli(&["sync", "HA", "files"]).is_err().then_some(()))
    })
}
