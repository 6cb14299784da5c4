//! Stories about a standby that is harmed: a record that kills whoever applies it, and copies that diverge.
//! The harm is done by the daemon's own `--debug-hooks`, in the real binary.

use crate::config::{ECHO_PORT, Vip};
use crate::lab::Family;
use crate::node::Failure;
use crate::role::Role;
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::sys;
use crate::traffic::{self, Load, Traffic};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

type Plot = fn(&mut Stage<'_>) -> Result<()>;

/// Name and plot.
pub const STORIES: &[(&str, Plot)] = &[
    ("a_poison_record_kills_the_secondary_thrice_and_then_no_more", poison_and_time),
    ("an_orderly_restart_ends_a_quarantine", poison_and_restart),
    ("a_flow_lost_on_the_standby_is_shown_within_a_second_and_healed", |stage| diverge(stage, "lose", 0)),
    ("a_flow_lost_on_the_standby_under_load_is_shown_and_healed", |stage| diverge(stage, "lose", 200)),
    ("a_flow_with_a_wrong_server_on_the_standby_is_shown_and_healed", |stage| diverge(stage, "bend", 0)),
];

/// Whose flow records are poison under `--debug-hooks`.
const POISON: &str = "192.0.2.66";
/// Crashes that go before a quarantine.
const CRASHES: u32 = 3;
/// The first quarantine, with time for what comes after it.
const QUARANTINE_LIMIT: Duration = Duration::from_secs(75);
/// A node must have died of poison within this time.
const CRASH_LIMIT: Duration = Duration::from_secs(10);
/// A divergence must be shown within this time.
const NOTICE_LIMIT: Duration = Duration::from_secs(1);
/// A flow lingers for 40 s after its connection has ended.
const LINGER_LIMIT: Duration = Duration::from_secs(50);
/// Other waits.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the traffic through a pair with a quarantined node is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// No answer may take longer: the hold limit, as if a packet had waited for the peer.
const HOLD_LIMIT_MS: f64 = 1000.0;

/// Restarts the secondary with debug hooks; returns the primary's and the secondary's index.
fn arm_secondary(stage: &mut Stage<'_>) -> Result<(usize, usize)> {
    let primary = stage.pair.wait_whole()?;
    let secondary = 1 - primary;
    let node = &mut stage.pair.nodes[secondary];
    node.stop()?;
    node.debug_hooks = true;
    node.start(&stage.lab)?;
    ensure!(stage.pair.wait_whole()? == primary, "a restart of the secondary moved the role");
    Ok((primary, secondary))
}

/// A connection whose flow record kills whoever applies it. It kills the secondary as often as it restarts, at once, as
/// a supervisor would have it, until it restarts in quarantine.
fn poison_secondary(stage: &mut Stage<'_>, primary: usize, secondary: usize) -> Result<Role> {
    let start = stage.pair.nodes[secondary].log_from(0).len();
    stage.lab.client.ip(&["address", "add", &format!("{POISON}/24"), "dev", "eth0"])?;
    let args: Vec<String> = ["ends", "--connections", "1", "--from", POISON, "--target"].map(String::from).into();
    let target = Family::V4.endpoint(&Vip::Nat.address(Family::V4), ECHO_PORT);
    let args = [args, vec![target]].concat();
    let mut poison = Role::start(&stage.lab.client, &args, &traffic::role_log(&stage.lab))?;
    for crash in 1..=CRASHES {
        let node = &mut stage.pair.nodes[secondary];
        node.wait_for_crash(CRASH_LIMIT).with_context(|| format!("crash {crash}"))?;
        node.spawn(&stage.lab)?;
    }
    poison.expect("ready", LIMIT)?;
    let mut seen = String::new();
    sys::wait_until("both operators can see the quarantine", LIMIT, || {
        stage.pair.ensure_alive()?;
        let answers: Vec<String> =
            stage.pair.nodes.iter().map(|node| node.cli(&["show", "ha", "node"]).unwrap_or_default()).collect();
        seen = answers.join("\n");
        let shown = |index: usize, who: &str| {
            answers[index].contains(&format!("Peer Channel: QUARANTINED ({who} crashed again and again"))
        };
        Ok((shown(primary, "the peer") && shown(secondary, "this node")).then_some(()))
    })
    .with_context(|| seen)?;
    let log = stage.pair.nodes[secondary].log_from(start);
    let crashes = log.matches("WARN the last life of this node ended by a crash").count();
    ensure!(crashes == CRASHES as usize, "{crashes} crashes are told:\n{log}");
    ensure!(log.contains("WARN quarantine: this node crashed again and again"), "no event:\n{log}");
    let told = stage.pair.nodes[primary].log_from(0);
    ensure!(told.contains("WARN the peer is in quarantine"), "the primary does not tell:\n{told}");
    check_reports(stage, secondary)?;
    Ok(poison)
}

/// Each crash has left a report that names the poison as the last record.
fn check_reports(stage: &Stage<'_>, node: usize) -> Result<()> {
    let mut reports = 0;
    for entry in std::fs::read_dir(stage.pair.nodes[node].state().join("crashes"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let report = std::fs::read_to_string(&path)?;
        let records = report.split("Records of the peer").nth(1).and_then(|rest| rest.split("\n\n").next());
        let last = records.and_then(|records| records.lines().last()).unwrap_or_default();
        ensure!(last.contains(&format!("client {POISON} ")), "the last record is {last:?} in\n{report}");
        ensure!(report.contains("this record is poison") && !report.contains("s3cret"), "{report}");
        reports += 1;
    }
    ensure!(reports == CRASHES, "{reports} reports");
    Ok(())
}

/// While the secondary is in quarantine, nothing waits for it, and what is unprotected is shown.
fn watch_unharmed(stage: &mut Stage<'_>, primary: usize, traffic: &mut [Traffic; 2]) -> Result<()> {
    wait_recovered(traffic)?;
    let before = stage.pair.nodes[primary].ha()?;
    traffic.iter_mut().try_for_each(Traffic::open_window)?;
    let started = Instant::now();
    sys::wait_until("the traffic was watched", WATCHED + LIMIT, || {
        let view = stage.pair.nodes[primary].ha()?;
        let own = own(&view.raw);
        ensure!(own["heldpackets"] == 0, "packets wait for a node in quarantine: {}", view.raw);
        ensure!(own["protectedflows"] == 0, "a node in quarantine protects nothing: {}", view.raw);
        ensure!(!view.peer_caught_up, "a node in quarantine has not caught up: {}", view.raw);
        Ok((started.elapsed() >= WATCHED).then_some(()))
    })?;
    for part in traffic.iter_mut() {
        let gaps = part.close_window()?;
        ensure!(gaps.tcp[2] < HOLD_LIMIT_MS, "an answer took {} ms beside a node in quarantine", gaps.tcp[2]);
    }
    let after = stage.pair.nodes[primary].ha()?;
    ensure!(after.is_primary(), "the primary's role has moved: {}", after.raw);
    ensure!(
        after.released_unprotected == before.released_unprotected,
        "holds ended without an acknowledgement: {} before, {} after",
        before.released_unprotected,
        after.released_unprotected
    );
    let rehearsal = stage.pair.nodes[primary].cli(&["failover", "rehearse"])?;
    ensure!(rehearsal.contains("the peer is in quarantine and takes no records"), "no reason:\n{rehearsal}");
    Ok(())
}

/// The first object of `show ha node`: the node itself.
fn own(raw: &Value) -> &Value {
    raw["hanode"].get(0).or_else(|| raw.get(0)).unwrap_or(raw)
}

/// The pair is whole, and the old secondary takes over without a loss.
fn prove_whole(stage: &mut Stage<'_>, primary: usize, mut traffic: [Traffic; 2]) -> Result<()> {
    ensure!(stage.pair.wait_whole()? == primary, "the role has moved");
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    wait_recovered(&mut traffic)?;
    stage.pair.heal(&stage.lab, outage)?;
    nothing_lost(traffic)
}

/// One poison record: the secondary dies of it again and again, the primary and all connections live on. The third
/// restart within a minute takes no records and stays alive; it takes them again after a minute.
fn poison_and_time(stage: &mut Stage<'_>) -> Result<()> {
    let (primary, secondary) = arm_secondary(stage)?;
    let mut traffic = start_traffic(stage)?;
    let poison = poison_secondary(stage, primary, secondary)?;
    let since = Instant::now();
    watch_unharmed(stage, primary, &mut traffic)?;
    // The record goes with its connection, 40 s later; else the node would die of it once more after the quarantine.
    drop(poison);
    sys::wait_until("the quarantine is over", QUARANTINE_LIMIT, || {
        stage.pair.ensure_alive()?;
        let shown = stage.pair.nodes[primary].cli(&["show", "ha", "node"])?;
        Ok((!shown.contains("QUARANTINED")).then_some(()))
    })?;
    let took = since.elapsed();
    ensure!(took > Duration::from_secs(50), "the quarantine was over after {took:?}");
    prove_whole(stage, primary, traffic)
}

/// The operator's way out of a quarantine: a stop and a start.
fn poison_and_restart(stage: &mut Stage<'_>) -> Result<()> {
    let (primary, secondary) = arm_secondary(stage)?;
    let mut traffic = start_traffic(stage)?;
    drop(poison_secondary(stage, primary, secondary)?);
    wait_recovered(&mut traffic)?;
    sys::wait_until("the poison's flow is gone", LINGER_LIMIT, || {
        let listed = stage.pair.nodes[primary].cli(&["show", "ns", "connectiontable"])?;
        Ok((!listed.contains(POISON)).then_some(()))
    })?;
    let node = &mut stage.pair.nodes[secondary];
    node.stop()?;
    node.start(&stage.lab)?;
    prove_whole(stage, primary, traffic)
}

/// A copy on the standby goes wrong. It is shown within a second and mended; the connections prove it by surviving.
fn diverge(stage: &mut Stage<'_>, harm: &str, new_per_second: u32) -> Result<()> {
    let (primary, secondary) = arm_secondary(stage)?;
    let load = Load { connections: 100, new_per_second, probe_rate: 20 };
    let traffic = [
        Traffic::start(&stage.lab, Vip::Nat, &Family::ALL, load)?,
        Traffic::start(&stage.lab, Vip::Usip, &Family::ALL, load)?,
    ];
    for _ in 0..3 {
        stage.pair.wait_whole()?;
        let node = &stage.pair.nodes[secondary];
        let (start, failures) = (node.log_from(0).len(), sync_failures(stage, secondary)?);
        node.hook(harm)?;
        let harmed = Instant::now();
        sys::wait_until("the divergence is shown", NOTICE_LIMIT, || {
            let told = node.log_from(start).contains("WARN not caught up: digests differ");
            Ok((told && sync_failures(stage, secondary)? > failures).then_some(()))
        })
        .with_context(|| node.log_from(start))?;
        println!("    {harm} with {new_per_second} new connections/s: shown after {} ms", harmed.elapsed().as_millis());
        ensure!(!node.log_from(start).contains("there is no such flow"), "nothing was harmed");
        ensure!(stage.pair.wait_whole()? == primary, "the role has moved");
    }
    prove_whole(stage, primary, traffic)
}

/// `stat ha node`: sessions that this node could not use.
fn sync_failures(stage: &Stage<'_>, node: usize) -> Result<u64> {
    let text = stage.pair.nodes[node].cli(&["stat", "ha", "node"])?;
    let line = text.lines().find(|line| line.starts_with("Sync failure")).with_context(|| text.clone())?;
    line.split_whitespace().last().and_then(|count| count.parse().ok()).with_context(|| text.clone())
}
