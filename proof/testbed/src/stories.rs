//! The namespace tests: each is a story with a name.

use crate::campaign;
use crate::cell::{self, Cell};
use crate::channel_stories;
use crate::config::Vip;
use crate::config_stories;
use crate::lab::{Family, Lab, peer_address};
use crate::mirror_stories;
use crate::node::{Binaries, Failure};
use crate::pair::Pair;
use crate::role::{Role, play_inside};
use crate::sys;
use crate::traffic::{self, Load, Traffic};
use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Load of a story: about half of the campaign's, so that a slow machine can carry it.
const LOAD: Load = Load { connections: 500, new_per_second: 300, probe_rate: 1000 };
/// Idle connections in the stories about resets.
const IDLE: u32 = 50;
/// Answers of roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Only stories whose name contains one of these.
    filter: Vec<String>,
    /// Only names the stories.
    #[arg(long)]
    list: bool,
    /// Failures in each cell of the matrix.
    #[arg(long, default_value_t = 2)]
    kills: u32,
    /// Rejoin cycles.
    #[arg(long, default_value_t = 3)]
    rejoins: u32,
    /// Where to keep logs and states after a failure.
    #[arg(long, default_value = "artifacts/testbed")]
    evidence: PathBuf,
}

/// Lab, servers and pair of one story.
pub struct Stage<'o> {
    /// Both nodes.
    pub pair: Pair,
    servers: [Role; 2],
    /// Where it plays.
    pub lab: Lab,
    options: &'o Options,
}

type Story = Box<dyn Fn(&mut Stage<'_>) -> Result<()>>;

/// Runs the stories that match; an error if one failed.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let stories: Vec<(String, Story)> = all()
        .into_iter()
        .filter(|(name, _)| {
            options.filter.is_empty() || options.filter.iter().any(|filter| name.contains(filter.as_str()))
        })
        .collect();
    if options.list {
        stories.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let mut failed = Vec::new();
    for (name, story) in &stories {
        let started = Instant::now();
        let outcome = tell(name, story, options, binaries);
        sys::check_interrupt()?;
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("test {name} ... ok ({took:.1} s)"),
            Err(error) => {
                println!("test {name} ... FAILED ({took:.1} s)\n    {error:#}");
                failed.push(name.as_str());
            }
        }
    }
    println!("\n{} passed, {} failed", stories.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn tell(name: &str, story: &Story, options: &Options, binaries: &Binaries) -> Result<()> {
    let lab = Lab::build()?;
    let servers = traffic::start_servers(&lab)?;
    let mut pair = Pair::new(&lab, binaries)?;
    let outcome = pair.bring_up(&lab);
    let mut stage = Stage { pair, servers, lab, options };
    let outcome = outcome.and_then(|()| story(&mut stage)).and_then(|()| stage.pair.ensure_alive());
    if outcome.is_err() {
        campaign::keep_evidence(&stage.lab, &stage.pair, &options.evidence.join(name))?;
    }
    outcome
}

fn all() -> Vec<(String, Story)> {
    let mut stories: Vec<(String, Story)> = Vec::new();
    for failure in Failure::ALL {
        for usip in [false, true] {
            for family in Family::ALL {
                let cell = Cell { failure, usip, family };
                let name = format!("{failure}_loses_nothing_usip_{}_{family}", if usip { "yes" } else { "no" });
                stories.push((name, Box::new(move |stage| matrix_cell(stage, cell))));
            }
        }
    }
    let mut add = |name: &str, story: fn(&mut Stage<'_>) -> Result<()>| stories.push((name.into(), Box::new(story)));
    add("rejoining_again_and_again_loses_nothing", rejoin_cycles);
    add("death_of_the_secondary_loses_nothing", secondary_dies);
    add("planned_failover_loses_nothing", planned_failover);
    add("orderly_stop_of_the_primary_loses_nothing", orderly_stop);
    add("disabled_resets_both_ends_at_their_first_packet_nat_v4", |s| disabled(s, Vip::DisabledNat, Family::V4));
    add("disabled_resets_both_ends_at_their_first_packet_nat_v6", |s| disabled(s, Vip::DisabledNat, Family::V6));
    add("disabled_resets_both_ends_at_their_first_packet_usip_v4", |s| disabled(s, Vip::DisabledUsip, Family::V4));
    add("disabled_resets_both_ends_at_their_first_packet_usip_v6", |s| disabled(s, Vip::DisabledUsip, Family::V6));
    add("stateless_connections_continue_v4", |s| stateless(s, Family::V4));
    add("stateless_connections_continue_v6", |s| stateless(s, Family::V6));
    add("udp_flows_keep_their_server", udp_keeps_server);
    add("rubbish_on_every_socket_harms_nothing", rubbish);
    add("the_random_campaign_notices_losses", |stage| campaign::notices_losses(&stage.lab, &mut stage.pair));
    add("wrong_password_means_no_mirroring_and_is_shown", channel_stories::wrong_password);
    add("the_password_of_a_running_pair_is_changed_without_a_loss", channel_stories::password_changed);
    add("the_peer_link_may_have_another_source_address", channel_stories::another_source);
    add("strangers_at_the_peer_port_change_nothing", channel_stories::attacked);
    add("switching_failover_modes_frees_and_protects_live_connections", mirror_stories::switching_modes);
    add("rehearse_says_zero_under_load_and_counts_without_a_peer", mirror_stories::rehearsal);
    add("after_a_short_outage_only_what_differs_is_sent", mirror_stories::short_outage);
    add("a_change_is_on_both_nodes_when_it_is_answered", config_stories::changes_reach_both);
    add("an_old_file_is_made_up_for_under_load", config_stories::old_file_under_load);
    crate::flood_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::ftp_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::health_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::lone_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::monitor_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::plane_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::split_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::status_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::witness_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::program_stories::STORIES.iter().for_each(|(name, story)| add(name, *story));
    crate::poison::STORIES.iter().for_each(|(name, story)| add(name, *story));
    stories
}

fn matrix_cell(stage: &mut Stage<'_>, cell: Cell) -> Result<()> {
    let report = cell::run(&stage.lab, &mut stage.pair, &mut stage.servers, cell, LOAD, stage.options.kills)?;
    report.complaint.map_or(Ok(()), |complaint| bail!(complaint))
}

fn rejoin_cycles(stage: &mut Stage<'_>) -> Result<()> {
    let cell = Cell { failure: Failure::Kill, usip: false, family: Family::V4 };
    let report = cell::run(&stage.lab, &mut stage.pair, &mut stage.servers, cell, LOAD, stage.options.rejoins)?;
    report.complaint.map_or(Ok(()), |complaint| bail!(complaint))
}

/// Traffic through both kinds of virtual server, in both families.
pub fn start_traffic(stage: &Stage<'_>) -> Result<[Traffic; 2]> {
    let half = Load { connections: LOAD.connections / 2, new_per_second: LOAD.new_per_second / 2, ..LOAD };
    Ok([
        Traffic::start(&stage.lab, Vip::Nat, &Family::ALL, half)?,
        Traffic::start(&stage.lab, Vip::Usip, &Family::ALL, half)?,
    ])
}

/// Waits until everything flows again.
pub fn wait_recovered(traffic: &mut [Traffic; 2]) -> Result<()> {
    traffic.iter_mut().try_for_each(Traffic::wait_recovered)
}

/// Ends the traffic; an error if anything was lost.
pub fn nothing_lost(traffic: [Traffic; 2]) -> Result<()> {
    for part in traffic {
        if let Some(complaint) = part.finish()?.complaint() {
            bail!(complaint);
        }
    }
    Ok(())
}

fn secondary_dies(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    for failure in Failure::ALL {
        let primary = stage.pair.wait_whole()?;
        let outage = stage.pair.fail(&stage.lab, 1 - primary, failure)?;
        wait_recovered(&mut traffic)?;
        stage.pair.heal(&stage.lab, outage)?;
    }
    nothing_lost(traffic)
}

fn planned_failover(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    for round in 1..=4 {
        let primary = stage.pair.wait_whole()?;
        stage.pair.nodes[primary].cli(&["force", "ha", "failover", "-force"])?;
        let after = sys::wait_until(&format!("round {round}: the roles are swapped"), ANSWER_LIMIT, || {
            let whole = stage.pair.wait_whole()?;
            Ok((whole != primary).then_some(whole))
        })?;
        ensure!(after != primary, "round {round}: node {primary} is still primary");
        wait_recovered(&mut traffic)?;
    }
    nothing_lost(traffic)
}

fn orderly_stop(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    for _ in 0..2 {
        let primary = stage.pair.wait_whole()?;
        stage.pair.nodes[primary].stop()?;
        wait_recovered(&mut traffic)?;
        stage.pair.nodes[primary].start(&stage.lab)?;
        stage.pair.wait_whole()?;
    }
    nothing_lost(traffic)
}

/// After the takeover nobody knows the connections of a DISABLED virtual server: the first packet of each end must be
/// answered with a reset that its kernel accepts, without a retransmission.
fn disabled(stage: &mut Stage<'_>, vip: Vip, family: Family) -> Result<()> {
    let mut ends = traffic::start_ends(&stage.lab, vip, family, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    let _outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    let client = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(
        client["reset"] == IDLE && client["retransmitted"] == 0,
        "clients were not all reset by their first packet: {client}"
    );
    let port = vip.server_port().unwrap_or_default();
    let (mut pushed, mut reset, mut retransmitted) = (0, 0, 0);
    for server in &mut stage.servers {
        let answer = server.ask(&format!("push {port}"), ANSWER_LIMIT)?;
        let number = |key: &str| answer[key].as_u64().unwrap_or_default();
        pushed += number("connections");
        reset += number("reset");
        retransmitted += number("retransmitted");
    }
    ensure!(
        pushed == u64::from(IDLE) && reset == pushed && retransmitted == 0,
        "servers: {pushed} connections, {reset} reset, {retransmitted} of them after a retransmission"
    );
    Ok(())
}

/// Nothing is mirrored, and yet clients go on, servers' pushes arrive, and persistence holds.
fn stateless(stage: &mut Stage<'_>, family: Family) -> Result<()> {
    let mut talking = traffic::start_ends(&stage.lab, Vip::Stateless, family, IDLE)?;
    let mut listening = traffic::start_ends(&stage.lab, Vip::Stateless, family, IDLE)?;
    let before = traffic::ask_who(&stage.lab, Vip::Stateless, family)?;
    ensure!(before.values().all(|server| server.starts_with("srv")), "before the failure: {before:?}");
    let primary = stage.pair.wait_whole()?;
    let _outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    let spoken = talking.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "clients that spoke first: {spoken}");
    // The listeners' flows are unknown to the survivor until the server speaks.
    listening.tell("hear")?;
    for server in &mut stage.servers {
        server.tell(&format!("push {}", crate::config::ECHO_PORT))?;
    }
    let heard = listening.expect("hear", ANSWER_LIMIT)?;
    ensure!(heard["heard"] == IDLE, "clients that only listened: {heard}");
    let after = traffic::ask_who(&stage.lab, Vip::Stateless, family)?;
    ensure!(before == after, "persistence was lost: {before:?} became {after:?}");
    Ok(())
}

fn udp_keeps_server(stage: &mut Stage<'_>) -> Result<()> {
    for vip in [Vip::Nat, Vip::Usip] {
        let mut args = vec!["udp-client".to_string(), "--flows".into(), "64".into(), "--rate".into(), "20".into()];
        for family in Family::ALL {
            args.extend(["--target".into(), family.endpoint(&vip.address(family), crate::config::ECHO_PORT)]);
            args.extend(family.client_addresses().into_iter().flat_map(|address| ["--from".into(), address]));
        }
        let mut flows = Role::start(&stage.lab.client, &args, &traffic::role_log(&stage.lab))?;
        flows.expect("ready", ANSWER_LIMIT)?;
        all_answered(&mut flows)?;
        let primary = stage.pair.wait_whole()?;
        let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
        let report = all_answered(&mut flows)?;
        ensure!(report["changed_server"] == 0, "flows changed their server: {report}");
        let servers = report["servers"].as_array().map_or(0, Vec::len);
        ensure!(servers == 2, "the flows should be spread over both servers: {report}");
        stage.pair.heal(&stage.lab, outage)?;
    }
    Ok(())
}

/// Waits until every flow has been answered since the call.
fn all_answered(flows: &mut Role) -> Result<Value> {
    flows.ask("window", ANSWER_LIMIT)?;
    sys::wait_until("every UDP flow is answered", ANSWER_LIMIT, || {
        let report = flows.ask("report", ANSWER_LIMIT)?;
        Ok((report["answered"] == report["flows"]).then_some(report))
    })
}

/// The pair goes on under rubbish on the peer link, on the control sockets and on the data interfaces, and counts it.
fn rubbish(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let before = stage.pair.nodes[primary].refused()?;
    for (index, namespace) in stage.lab.nodes.iter().enumerate() {
        // From each node's own host: the peer's sockets over the peer link, its own control socket.
        let peer = peer_address(1 - index as u8);
        let mut args = vec!["garbage".to_string(), "--seed".into(), (index + 1).to_string()];
        args.extend(["--udp".into(), format!("{peer}:3003"), "--tcp".into(), format!("{peer}:3003")]);
        args.extend(["--unix".into(), stage.pair.nodes[index].socket().display().to_string()]);
        play_inside(namespace, &args, Duration::from_secs(60), &traffic::role_log(&stage.lab))?;
    }
    let mac = data_mac(stage, primary)?;
    for (namespace, seed) in [(&stage.lab.client, "11"), (&stage.lab.servers[0], "12")] {
        for target in ["ffffffffffff", mac.as_str()] {
            let args: Vec<String> =
                ["garbage", "--seed", seed, "--count", "5000", "--interface", "eth0", "--mac", target]
                    .map(String::from)
                    .into();
            play_inside(namespace, &args, Duration::from_secs(60), &traffic::role_log(&stage.lab))?;
        }
    }
    stage.pair.ensure_alive()?;
    wait_recovered(&mut traffic)?;
    let whole = stage.pair.wait_whole()?;
    ensure!(whole == primary, "rubbish moved the primary's role");
    let after = stage.pair.nodes[primary].refused()?;
    ensure!(after > before, "refused peer messages were not counted: {before} before, {after} after");
    for node in &stage.pair.nodes {
        let log = std::fs::read_to_string(node.log()).unwrap_or_default();
        ensure!(!log.contains("panic"), "node {} panicked:\n{}", node.name(), node.last_words());
        ensure!(log.lines().count() < 1000, "node {} logged {} lines", node.name(), log.lines().count());
    }
    nothing_lost(traffic)
}

/// MAC address of the node's client-side interface, as 12 digits.
fn data_mac(stage: &Stage<'_>, node: usize) -> Result<String> {
    let text = stage.lab.nodes[node].ip(&["-o", "link", "show", "eth-c"])?;
    let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap_or_default();
    Ok(mac.replace(':', ""))
}
