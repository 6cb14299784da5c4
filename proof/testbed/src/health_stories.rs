//! Stories about cables, routes, virtual MAC addresses and hooks: what works at a node decides who serves.

use crate::config::Vip;
use crate::lab::Family;
use crate::node::Failure;
use crate::sniff::Announcements;
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::sys;
use crate::traffic;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// Idle connections.
const IDLE: u32 = 50;
/// Time for a role to move.
const ROLE_LIMIT: Duration = Duration::from_secs(10);
/// Answers of roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Addresses of the story about many.
const MANY: usize = 1000;
/// All of them are announced in this time. The goal is a tenth of it on a machine that does nothing else; what was
/// measured is printed.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(1);
/// The switch's end of each node's cable: client side, server side.
const CABLES: [[&str; 2]; 2] = [["a-c", "a-s"], ["b-c", "b-s"]];
/// The client side's place among them.
const CLIENT: usize = 0;
/// The server side's place among them.
const SERVER: usize = 1;

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("an_interface_of_the_primary_fails_and_nothing_is_lost", interface_fails),
    ("both_nodes_fail_and_nobody_serves_without_fail_safe", |stage| both_fail(stage, false)),
    ("both_nodes_fail_and_the_last_primary_serves_with_fail_safe", |stage| both_fail(stage, true)),
    ("a_monitored_route_moves_the_role_and_nothing_is_lost", route_fails),
    ("a_virtual_mac_moves_with_the_role", virtual_mac),
    ("hooks_run_at_a_change_of_role", hooks),
    ("a_thousand_addresses_are_announced_at_a_takeover", many_addresses),
];

/// A cable of a node is pulled out or plugged in at the switch.
fn plug(stage: &Stage<'_>, node: usize, side: usize, state: &str) -> Result<()> {
    stage.lab.switch.ip_batch(&format!("link set {} {state}\n", CABLES[node][side]))
}

fn own(stage: &Stage<'_>, node: usize, key: &str) -> Result<Value> {
    Ok(stage.pair.nodes[node].ha()?.raw["hanode"][0][key].clone())
}

/// Each cable of each node in turn, under load: a planned switchover, without a loss.
fn interface_fails(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    for side in [CLIENT, SERVER, CLIENT, SERVER] {
        let primary = stage.pair.wait_whole()?;
        let pulled = Instant::now();
        plug(stage, primary, side, "down")?;
        stage.pair.wait_primary(1 - primary)?;
        println!("    cable pulled: the other node is seen to lead after {} ms", pulled.elapsed().as_millis());
        wait_recovered(&mut traffic)?;
        let (state, failed) = (own(stage, primary, "hastatus")?, own(stage, primary, "pfifaces")?);
        let port = if side == CLIENT { "1/1" } else { "1/2" };
        ensure!(state == "PARTIALFAIL" && failed == port, "the failed node says {state}, {failed}");
        let peer = stage.pair.nodes[1 - primary].ha()?.raw["hanode"][1].clone();
        ensure!(peer["hastatus"] == "PARTIALFAIL" && peer["pfifaces"] == port, "its peer says {peer}");
        plug(stage, primary, side, "up")?;
        sys::wait_until("the node is well again", ROLE_LIMIT, || {
            Ok((own(stage, primary, "hastatus")? == "UP").then_some(()))
        })?;
        let whole = stage.pair.wait_whole()?;
        ensure!(whole == 1 - primary, "a node that is well again took the role back");
    }
    nothing_lost(traffic)
}

/// Both lose their server side, the primary last.
fn both_fail(stage: &mut Stage<'_>, fail_safe: bool) -> Result<()> {
    let mut ends = traffic::start_ends(&stage.lab, Vip::Nat, Family::V4, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    for node in &stage.pair.nodes {
        node.cli(&["set", "HA", "node", "-failSafe", if fail_safe { "ON" } else { "OFF" }])?;
    }
    plug(stage, 1 - primary, SERVER, "down")?;
    sys::wait_until("the primary hears that its peer has failed", ROLE_LIMIT, || {
        Ok((stage.pair.nodes[primary].ha()?.raw["hanode"][1]["hastatus"] == "PARTIALFAIL").then_some(()))
    })?;
    plug(stage, primary, SERVER, "down")?;
    sys::wait_until("both know that they have failed", ROLE_LIMIT, || {
        Ok((own(stage, primary, "hastatus")? == "PARTIALFAIL").then_some(()))
    })?;
    if fail_safe {
        let age =
            |stage: &Stage<'_>| Ok::<_, anyhow::Error>(own(stage, primary, "masterstatetime")?.as_u64().unwrap_or(0));
        let before = age(stage)?;
        // Longer than any switchover takes; a change of role would begin it anew.
        sys::wait_until("the last primary has stayed", ROLE_LIMIT, || Ok((age(stage)? >= before + 3).then_some(())))?;
        let views = [stage.pair.nodes[primary].ha()?, stage.pair.nodes[1 - primary].ha()?];
        ensure!(views[0].is_primary() && views[1].is_secondary(), "{} / {}", views[0].role, views[1].role);
        plug(stage, primary, SERVER, "up")?;
    } else {
        sys::wait_until("nobody serves", ROLE_LIMIT, || {
            let views = [stage.pair.nodes[0].ha()?, stage.pair.nodes[1].ha()?];
            Ok(views.iter().all(|view| view.is_secondary()).then_some(()))
        })?;
        plug(stage, 1 - primary, SERVER, "up")?;
        stage.pair.wait_primary(1 - primary)?;
    }
    let spoken = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "connections that waited: {spoken}");
    for node in 0..2 {
        plug(stage, node, SERVER, "up")?;
    }
    stage.pair.wait_whole().map(drop)
}

/// The primary's server side is cut behind the switch: no carrier is lost, but a server that is monitored no longer
/// answers there. In both families.
fn route_fails(stage: &mut Stage<'_>) -> Result<()> {
    for family in Family::ALL {
        for node in &stage.pair.nodes {
            node.cli(&["bind", "HA", "node", "-routeMonitor", &family.server_net(21)])?;
        }
    }
    let mut traffic = start_traffic(stage)?;
    for _ in 0..2 {
        let primary = stage.pair.wait_whole()?;
        sys::wait_until("both nodes hear the server", ROLE_LIMIT, || {
            let states = [own(stage, 0, "routemonitorstate")?, own(stage, 1, "routemonitorstate")?];
            Ok(states.iter().all(|state| *state == "UP, UP").then_some(()))
        })?;
        let cable = CABLES[primary][SERVER];
        stage.lab.switch.ip_batch(&format!("link set {cable} nomaster\n"))?;
        stage.pair.wait_primary(1 - primary)?;
        let state = own(stage, primary, "hastatus")?;
        ensure!(state == "ROUTEMONITORFAIL", "the failed node says {state}");
        wait_recovered(&mut traffic)?;
        stage.lab.switch.ip_batch(&format!("link set {cable} master br-s\n"))?;
        sys::wait_until("the node is well again", ROLE_LIMIT, || {
            Ok((own(stage, primary, "hastatus")? == "UP").then_some(()))
        })?;
    }
    nothing_lost(traffic)
}

/// The client knows the virtual server by the virtual MAC address before and after a failure, and nothing is lost.
fn virtual_mac(stage: &mut Stage<'_>) -> Result<()> {
    for node in &stage.pair.nodes {
        node.cli(&["add", "vrID", "60"])?;
        node.cli(&["bind", "vrID", "60", "-ifnum", "1/1", "1/2"])?;
    }
    let mut traffic = start_traffic(stage)?;
    let vip = Vip::Nat.address(Family::V4);
    for round in 1..=2 {
        let primary = stage.pair.wait_whole()?;
        wait_recovered(&mut traffic)?;
        sys::wait_until(&format!("round {round}: the client knows the virtual MAC address"), ROLE_LIMIT, || {
            let known = stage.lab.client.ip(&["neigh", "show", &vip])?;
            Ok(known.contains("00:00:5e:00:01:3c").then_some(()))
        })?;
        if round == 1 {
            stage.pair.nodes[primary].cli(&["force", "ha", "failover", "-force"])?;
            stage.pair.wait_primary(1 - primary)?;
        } else {
            let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
            wait_recovered(&mut traffic)?;
            stage.pair.heal(&stage.lab, outage)?;
        }
    }
    let known = stage.lab.client.ip(&["neigh", "show", &vip])?;
    ensure!(known.contains("00:00:5e:00:01:3c") || known.is_empty(), "at the end the client knows {known}");
    nothing_lost(traffic)
}

/// A program that writes down what it finds in its environment.
fn hooks(stage: &mut Stage<'_>) -> Result<()> {
    let folder = stage.lab.directory().to_owned();
    let (program, told) = (folder.join("hook"), folder.join("told"));
    let script = format!(
        "#!/bin/sh\necho \"$HOLDFAST_NODE $HOLDFAST_ROLE $HOLDFAST_CAUSE $HOLDFAST_PEER\" >>{}\n",
        told.display()
    );
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
    for node in &stage.pair.nodes {
        node.cli(&["add", "HA", "hook", "tell", "-command", &program.display().to_string(), "-timeout", "5"])?;
    }
    let primary = stage.pair.wait_whole()?;
    stage.pair.nodes[primary].cli(&["force", "ha", "failover", "-force"])?;
    stage.pair.wait_primary(1 - primary)?;
    let address = |node: usize| crate::lab::peer_address(node as u8);
    let lines = [
        format!("{} Draining Forced {}", address(primary), address(1 - primary)),
        format!("{} Primary Switchover {}", address(1 - primary), address(primary)),
        format!("{} Secondary PeerIsPrimary {}", address(primary), address(1 - primary)),
    ];
    sys::wait_until("every change of role is written down", ROLE_LIMIT, || {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        Ok(lines.iter().all(|line| text.lines().any(|told| told == line)).then_some(()))
    })
}

/// A node that takes over says of each of a thousand addresses where it is now, without losing one of what it serves.
fn many_addresses(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.pair.wait_whole()?;
    let addresses: Vec<IpAddr> =
        (0..MANY).map(|n| IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0xa, n as u16 + 1])).collect();
    let commands: String = addresses
        .iter()
        .enumerate()
        .map(|(n, address)| format!("add lb vserver many_{n} TCP {address} 80\n"))
        .collect();
    stage.pair.nodes[primary].cli_batch(&commands)?;
    let primary = stage.pair.wait_whole()?;
    let mut traffic = start_traffic(stage)?;
    let heard = Announcements::start(&stage.lab, 1 - primary)?;
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    wait_recovered(&mut traffic)?;
    let heard = heard.finish()?;
    let times: Vec<Instant> = addresses.iter().filter_map(|address| heard.get(address).copied()).collect();
    ensure!(times.len() == MANY, "{} of {MANY} addresses were announced", times.len());
    let first = heard.values().min().copied();
    let took = first.zip(times.iter().max().copied()).map(|(first, last)| last - first).unwrap_or_default();
    println!("    {MANY} addresses announced within {:.1} ms of the first", took.as_secs_f64() * 1e3);
    ensure!(took < ANNOUNCE_LIMIT, "the announcements took {} ms", took.as_millis());
    stage.pair.heal(&stage.lab, outage)?;
    nothing_lost(traffic)
}
