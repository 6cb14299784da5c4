//! Stories about floods that fill a table.

use crate::config::{ECHO_PORT, Vip};
use crate::lab::Family;
use crate::role::play_inside;
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::traffic::ask_who;
use crate::{sys, traffic};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[("a_flood_of_syns_in_a_full_table_stops_nobody", flood_of_syns)];

/// Room for so many flows.
const ROOM: u64 = 4000;
/// SYNs of strangers: the table is full of them twice over.
const SYNS: u64 = 8000;
/// SYNs a second.
const RATE: u64 = 1000;
/// How long they may take.
const FLOOD_LIMIT: Duration = Duration::from_secs(30);
/// Time for the pair to be whole again.
const RESTART_LIMIT: Duration = Duration::from_secs(20);

/// Strangers fill the table of both nodes through a virtual server that uses the clients' addresses, so that no port runs out.
/// What is established goes on, others are served, the log tells, and the primary may die.
fn flood_of_syns(stage: &mut Stage<'_>) -> Result<()> {
    for node in &mut stage.pair.nodes {
        node.stop()?;
        node.arguments = vec!["--max-flows".into(), ROOM.to_string()];
        node.spawn(&stage.lab)?;
    }
    let primary = sys::wait_until("the pair is whole", RESTART_LIMIT, || Ok(stage.pair.wait_whole().ok()))?;
    stage.pair.wait_healthy()?;
    let mut traffic = start_traffic(stage)?;
    let target = Family::V4.endpoint(&Vip::Usip.address(Family::V4), ECHO_PORT);
    let (count, rate) = (SYNS.to_string(), RATE.to_string());
    let args = ["syn-flood", "--target", &target, "--count", &count, "--rate", &rate].map(String::from);
    let sent = play_inside(&stage.lab.client, &args, FLOOD_LIMIT, &traffic::role_log(&stage.lab))?;
    ensure!(sent["sent"] == SYNS, "the flood: {sent}");
    let view = stage.pair.nodes[primary].ha()?;
    ensure!(view.flows()? == ROOM, "the table is full: {} of {ROOM}", view.flows()?);
    everybody_is_served(stage)?;
    let log = std::fs::read_to_string(stage.pair.nodes[primary].log())?;
    ensure!(log.contains("connections that no client has completed make room"), "the log says so");
    wait_recovered(&mut traffic)?;
    let outage = stage.pair.fail(&stage.lab, primary, crate::node::Failure::Kill)?;
    wait_recovered(&mut traffic)?;
    everybody_is_served(stage)?;
    stage.pair.heal(&stage.lab, outage)?;
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic).context("established connections and those of others")
}

/// Each client address gets an answer from another virtual server.
fn everybody_is_served(stage: &Stage<'_>) -> Result<()> {
    let answers = ask_who(&stage.lab, Vip::Stateless, Family::V4)?;
    let refused: Vec<_> = answers.iter().filter(|(_, server)| server.starts_with("nobody")).collect();
    ensure!(refused.is_empty() && !answers.is_empty(), "not served: {refused:?}");
    Ok(())
}
