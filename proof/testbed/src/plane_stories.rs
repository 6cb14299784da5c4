//! Stories about the way that packets go: in the kernel, through the engine, or nowhere.

use crate::config::{ECHO_PORT, Vip};
use crate::lab::Family;
use crate::node::{Failure, Node};
use crate::role::Role;
use crate::sniff::Watch;
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::traffic::{Load, Traffic, role_log};
use crate::{ftp, ns, sys};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// Time for something to be seen.
const LIMIT: Duration = Duration::from_secs(10);
/// Last part of the address of the virtual server in the servers' network.
const ARM_HOST: u8 = 120;
/// So long packets are counted.
const WHILE: Duration = Duration::from_secs(2);
/// Datagrams a second while they are.
const RATE: u64 = 1000;
/// The longest time that a frozen node's kernel goes on: the dead interval less two margins, and what a busy machine adds to what the
/// listener calls now.
const LEASE: Duration = Duration::from_millis(360 + 20);
/// A node without the rights for eBPF, and with all others that it needs.
const WITHOUT_BPF: [&str; 2] = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"];

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("packets_of_known_flows_do_not_visit_the_engine", in_the_kernel),
    ("a_frozen_primary_forwards_nothing_after_its_lease", frozen),
    ("a_killed_daemon_leaves_nothing_in_the_kernel", nothing_left),
    ("bulk_connections_that_passed_in_the_kernel_close_in_order", bulk_closes),
    ("clients_and_servers_behind_one_interface_survive", one_arm),
    ("a_tap_that_is_taken_away_is_made_again", tap_taken_away),
    ("without_rights_for_the_kernel_packets_pass_through_the_engine", without_rights),
];

/// What a node says about its data plane.
fn plane(node: &Node) -> Result<Value> {
    let text = node.cli(&["--json", "show", "ns", "dataplane"])?;
    Ok(serde_json::from_str::<Value>(&text)?["nsdataplane"].take())
}

/// Packets that the program in the kernel has not forwarded.
fn not_forwarded(node: &Node) -> Result<u64> {
    let told = plane(node)?;
    let counts = told["notforwarded"].as_object().with_context(|| format!("counts: {told}"))?;
    Ok(counts.values().filter_map(Value::as_u64).sum())
}

/// Where there is no program the story says so and has nothing to show.
fn is_user(stage: &Stage<'_>) -> Result<bool> {
    Ok(plane(&stage.pair.nodes[0])?["dataplane"] == "user")
}

/// A datagram a millisecond there and back: without a program in the kernel the engine would see each of them.
fn in_the_kernel(stage: &mut Stage<'_>) -> Result<()> {
    let wanted = stage.pair.nodes[0].data_plane.clone();
    let told = plane(&stage.pair.nodes[0])?;
    ensure!(wanted == "auto" && told["dataplane"] == "tc" || told["dataplane"] == wanted.as_str(), "{wanted}: {told}");
    if is_user(stage)? {
        return Ok(());
    }
    let attached = told["interfaces"].as_array().map_or(0, Vec::len);
    ensure!(attached == 2, "two interfaces are watched: {told}");
    let target = Family::V4.endpoint(&Vip::Nat.address(Family::V4), ECHO_PORT);
    let rate = RATE.to_string();
    let args = ["udp-client", "--flows", "1", "--rate", &rate, "--target", &target, "--from", "192.0.2.10"];
    let mut probe = Role::start(&stage.lab.client, &args.map(String::from), &role_log(&stage.lab))?;
    probe.expect("ready", LIMIT)?;
    let primary = stage.pair.wait_whole()?;
    let node = &stage.pair.nodes[primary];
    sys::wait_until("the flow is in the fast path", LIMIT, || {
        Ok((plane(node)?["entries"].as_u64() >= Some(2)).then_some(()))
    })?;
    let before = not_forwarded(node)?;
    probe.ask("window", LIMIT)?;
    sys::pause(WHILE);
    let report = probe.ask("report", LIMIT)?;
    let seen = not_forwarded(node)? - before;
    let passed = 2 * RATE * WHILE.as_secs();
    ensure!(report["lost"] == 0, "{report}");
    ensure!(seen < passed / 4, "of {passed} packets {seen} were not forwarded in the kernel: {}", plane(node)?);
    Ok(())
}

/// Its process does nothing any more, and its kernel only what the lease allows: nothing once the other node may lead.
fn frozen(stage: &mut Stage<'_>) -> Result<()> {
    let user = is_user(stage)?;
    let mut traffic = start_traffic(stage)?;
    for _ in 0..2 {
        let primary = stage.pair.wait_whole()?;
        wait_recovered(&mut traffic)?;
        stage.pair.nodes[primary].fail(&stage.lab, Failure::Freeze)?;
        let stopped = Instant::now();
        let watches = [Watch::start(&stage.lab, primary)?, Watch::start(&stage.lab, 1 - primary)?];
        stage.pair.wait_primary(1 - primary)?;
        wait_recovered(&mut traffic)?;
        let [old, new] = watches.map(Watch::finish);
        let (old, new) = (old?, new?);
        let first = new.span.context("the new primary speaks")?.0;
        ensure!(user || old.count > 0, "the kernel of the frozen node forwarded nothing at all: is it the fast path?");
        if let Some((_, last)) = old.span {
            let after = last - stopped;
            ensure!(after < LEASE, "the frozen node forwarded {} ms after its end", after.as_millis());
            ensure!(last < first, "two forwarders: the frozen node spoke {:?} after the new one", last - first);
            println!(
                "    the frozen node's kernel forwarded for {} ms; {:.1} ms later the other node did",
                after.as_millis(),
                (first - last).as_secs_f64() * 1e3
            );
        }
        stage.pair.nodes[primary].revive(&stage.lab, Failure::Freeze)?;
    }
    stage.pair.wait_whole()?;
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

/// Programs and maps of ours in this kernel, of all nodes.
fn objects() -> Result<[usize; 2]> {
    let count = |kind: &str, name: &str| -> Result<usize> {
        let mut command = Command::new("bpftool");
        command.args([kind, "show"]);
        let listed = ns::run(command, "").context("bpftool (cargo xtask setup)")?;
        Ok(listed.matches(name).count())
    };
    Ok([count("prog", "name holdfast_")?, count("map", "name FLO")?])
}

/// While a child of a hook lives on, too: what belongs to the process must not belong to it.
fn nothing_left(stage: &mut Stage<'_>) -> Result<()> {
    let folder = stage.lab.directory().to_owned();
    let (program, told) = (folder.join("hook"), folder.join("child"));
    std::fs::write(&program, format!("#!/bin/sh\necho $$ >>{}\nexec sleep 60\n", told.display()))?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
    for node in &stage.pair.nodes {
        node.cli(&["add", "HA", "hook", "stay", "-command", &program.display().to_string(), "-timeout", "60"])?;
    }
    let former = stage.pair.wait_whole()?;
    stage.pair.nodes[former].cli(&["force", "ha", "failover", "-force"])?;
    stage.pair.wait_primary(1 - former)?;
    let primary = stage.pair.wait_whole()?;
    let children = sys::wait_until("both nodes run their hooks", LIMIT, || {
        let pids: Vec<u32> =
            std::fs::read_to_string(&told).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect();
        Ok((pids.len() >= 2).then_some(pids))
    })?;
    let user = is_user(stage)?;
    let before = objects()?;
    ensure!(user || before.iter().all(|count| *count >= 2), "programs and maps of two nodes: {before:?}");
    stage.pair.nodes[primary].kill()?;
    ensure!(children.iter().any(|pid| sys::process_state(*pid).is_some()), "no child of a hook has outlived its node");
    if !user {
        let half = before.map(|count| count / 2);
        sys::wait_until("programs and maps are gone", LIMIT, || Ok((objects()? == half).then_some(())))?;
    }
    let host = &stage.lab.nodes[primary];
    let taps = host.ip(&["-o", "link", "show", "type", "tun"])?;
    ensure!(taps.is_empty(), "left behind: {taps}");
    for device in ["eth-c", "eth-s"] {
        let link = host.ip(&["link", "show", "dev", device])?;
        ensure!(!link.contains("xdp"), "left behind: {link}");
        let mut tc = host.command("tc")?;
        tc.args(["qdisc", "show", "dev", device]);
        let queues = ns::run(tc, "")?;
        ensure!(!queues.contains("clsact"), "left behind: {queues}");
    }
    for child in children {
        // Those of the living node are ended by it.
        let _ = sys::signal(child, libc::SIGKILL);
    }
    stage.pair.nodes[primary].start(&stage.lab)?;
    stage.pair.wait_whole().map(drop)
}

/// What passes between two reports may be more than any window: the end of such a connection must be believed all the same, or it
/// stays in the table for hours. Also when copies are made anew meanwhile, which begin with what the former ones have seen.
fn bulk_closes(stage: &mut Stage<'_>) -> Result<()> {
    let files = ftp::Servers::start(&stage.lab, 96)?;
    let mut downloads = Vec::new();
    for family in Family::ALL {
        downloads.push(ftp::Download::start(&stage.lab, &files, family, Duration::from_millis(700))?);
    }
    let primary = stage.pair.wait_whole()?;
    for number in 200..206 {
        // Each makes every copy stale.
        stage.pair.nodes[primary].cli(&[
            "add",
            "lb",
            "vserver",
            &format!("v{number}"),
            "TCP",
            &format!("192.0.2.{number}"),
            "81",
        ])?;
    }
    for download in &mut downloads {
        let verdict = download.finish(Duration::from_secs(30))?;
        ensure!(verdict.equal, "the download differs: {}", verdict.message);
    }
    let node = &stage.pair.nodes[primary];
    let ended = |state: &str| node.cli(&["show", "ns", "connectiontable"]).map(|table| table.matches(state).count());
    sys::wait_until("control and data connections have ended", LIMIT, || {
        Ok((ended("TIME_WAIT")? >= 4 && ended("ESTABLISHED")? == 0).then_some(()))
    })?;
    ensure!(ended("CLOSING")? == 0, "{}", node.cli(&["show", "ns", "connectiontable"])?);
    Ok(())
}

/// Packets leave where they have come in: the second server's host is the client of the first one.
fn one_arm(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.pair.wait_whole()?;
    let (node, port) = (&stage.pair.nodes[primary], ECHO_PORT.to_string());
    let mut ends = Vec::new();
    for family in Family::ALL {
        let address = family.server_net(ARM_HOST);
        for kind in ["tcp", "udp"] {
            let (name, service) = (format!("arm_{family}_{kind}"), format!("{}_{kind}_1", Vip::Nat.name(family)));
            node.cli(&["add", "lb", "vserver", &name, kind, &address, &port, "-connFailover", "STATEFUL"])?;
            node.cli(&["bind", "lb", "vserver", &name, &service])?;
        }
        ends.extend(["--target".to_string(), family.endpoint(&address, ECHO_PORT)]);
        ends.extend(["--from".to_string(), family.server_net(22)]);
    }
    let load = Load { connections: 100, new_per_second: 50, probe_rate: 500 };
    let mut traffic = Traffic::begin(&stage.lab, &stage.lab.servers[1], &ends, load)?;
    for failure in [Failure::Kill, Failure::Power] {
        let primary = stage.pair.wait_whole()?;
        traffic.wait_recovered()?;
        stage.pair.nodes[primary].fail(&stage.lab, failure)?;
        stage.pair.wait_primary(1 - primary)?;
        traffic.wait_recovered()?;
        stage.pair.nodes[primary].revive(&stage.lab, failure)?;
    }
    stage.pair.wait_whole()?;
    traffic.finish()?.complaint().map_or(Ok(()), |complaint| bail!(complaint))
}

/// Deleted, taken down: the interface is opened again, and new connections go on.
fn tap_taken_away(stage: &mut Stage<'_>) -> Result<()> {
    if is_user(stage)? {
        return Ok(());
    }
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    for harm in [&["link", "del"][..], &["link", "set", "down", "dev"]] {
        let host = &stage.lab.nodes[primary];
        let listed = host.ip(&["-o", "link", "show", "type", "tun"])?;
        let names: Vec<&str> =
            listed.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| name.trim_end_matches(':')).collect();
        ensure!(names.len() == 2, "two TAPs: {listed}");
        for name in names {
            host.ip(&[harm, &[name]].concat())?;
        }
        wait_recovered(&mut traffic)?;
    }
    ensure!(stage.pair.wait_whole()? == primary, "the role has moved");
    nothing_lost(traffic)
}

/// `auto` says why and goes on; who asks for the fast path is told what is missing.
fn without_rights(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let poor = 1 - primary;
    stage.pair.nodes[poor].stop()?;
    stage.pair.nodes[poor].wrapper = WITHOUT_BPF.map(String::from).to_vec();
    stage.pair.nodes[poor].data_plane = "tc".into();
    let refused = stage.pair.nodes[poor].start_refused(&stage.lab)?;
    ensure!(refused.contains("CAP_BPF"), "what is missing is said: {refused}");
    stage.pair.nodes[poor].data_plane = "auto".into();
    stage.pair.nodes[poor].start(&stage.lab)?;
    stage.pair.wait_whole()?;
    let told = plane(&stage.pair.nodes[poor])?;
    let why = told["reason"].as_str().unwrap_or_default();
    ensure!(told["dataplane"] == "user" && why.contains("CAP_BPF"), "what is in use, and why: {told}");
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    wait_recovered(&mut traffic)?;
    stage.pair.heal(&stage.lab, outage)?;
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}
