//! Stories about a node that is on its own without the other one being dead: it hears nobody, or its operator ends the
//! pair.

use crate::config::Vip;
use crate::lab::{Family, peer_address, switch_ports};
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::{sys, traffic};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Time for a node to notice and for a role to move.
const LIMIT: Duration = Duration::from_secs(10);
/// So long nothing may have changed.
const WHILE: Duration = Duration::from_secs(3);
/// Idle connections.
const IDLE: u32 = 50;
/// Answers of roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("a_deaf_secondary_does_not_take_over_from_a_primary_that_serves", deaf_secondary),
    ("a_deaf_primary_gives_its_role_away_and_nothing_is_lost", deaf_primary),
    ("a_secondary_that_is_cut_off_from_everybody_leads_nobody", cut_off),
    ("a_pair_that_is_ended_while_both_live_has_one_primary", pair_ended),
];

/// What is sent to this node arrives no more, by any port; or does again.
fn deafen(stage: &Stage<'_>, node: usize, deaf: bool) -> Result<()> {
    let (switch, namespace) = (&stage.lab.switch, &stage.lab.nodes[node]);
    if !deaf {
        switch.run("nft", &["delete", "table", "bridge", "deaf"], "")?;
        return namespace.run("nft", &["delete", "table", "netdev", "deaf"], "").map(drop);
    }
    let ports = switch_ports(node);
    let to_node = format!(
        "table bridge deaf {{\n chain post {{\n  type filter hook postrouting priority 0\n  oifname {ports} drop\n }}\n}}\n"
    );
    let link =
        "table netdev deaf {\n chain in {\n  type filter hook ingress device \"eth-p\" priority 0\n  drop\n }\n}\n";
    switch.run("nft", &["-f", "-"], &to_node)?;
    namespace.run("nft", &["-f", "-"], link).map(drop)
}

/// The line by which a node tells that it hears nobody.
fn says_deaf(stage: &Stage<'_>, node: usize) -> Result<bool> {
    Ok(stage.pair.nodes[node].cli(&["show", "ha", "node", "0"])?.contains("Hears Nothing Since: "))
}

fn wait_deaf(stage: &Stage<'_>, node: usize) -> Result<()> {
    sys::wait_until("the node says that it hears nobody", LIMIT, || Ok(says_deaf(stage, node)?.then_some(())))
}

fn leads(stage: &Stage<'_>, node: usize) -> Result<bool> {
    Ok(stage.pair.nodes[node].ha()?.is_primary())
}

/// It is heard all the while, so the primary knows nothing of a failure; and it must not take the role for nobody.
fn deaf_secondary(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    deafen(stage, 1 - primary, true)?;
    wait_deaf(stage, 1 - primary)?;
    sys::pause(WHILE);
    ensure!(leads(stage, primary)? && !leads(stage, 1 - primary)?, "the role has moved to a node that hears nobody");
    wait_recovered(&mut traffic)?;
    deafen(stage, 1 - primary, false)?;
    ensure!(stage.pair.wait_whole()? == primary, "the role has moved when it heard again");
    ensure!(!says_deaf(stage, 1 - primary)?, "it still says that it hears nobody");
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

/// It can serve nobody, and the other one can.
fn deaf_primary(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    deafen(stage, primary, true)?;
    stage.pair.wait_primary(1 - primary)?;
    wait_deaf(stage, primary)?;
    ensure!(!leads(stage, primary)?, "both lead");
    let log = std::fs::read_to_string(stage.pair.nodes[primary].log())?;
    ensure!(log.contains("cause Deaf"), "why it gave way:\n{}", stage.pair.nodes[primary].last_words());
    wait_recovered(&mut traffic)?;
    deafen(stage, primary, false)?;
    ensure!(stage.pair.wait_whole()? == 1 - primary, "the role has moved back");
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

/// Nothing gets to it or away from it. It cannot know whether the primary lives, and nobody is there whom it could serve.
fn cut_off(stage: &mut Stage<'_>) -> Result<()> {
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let other = 1 - primary;
    let ports = switch_ports(other);
    let rules = format!(
        "table bridge split {{\n chain pre {{\n  type filter hook prerouting priority 0\n  iifname {ports} drop\n }}\n \
         chain post {{\n  type filter hook postrouting priority 0\n  oifname {ports} drop\n }}\n}}\n"
    );
    stage.lab.switch.run("nft", &["-f", "-"], &rules)?;
    stage.lab.nodes[0].ip_batch("link set eth-p down\n")?;
    wait_deaf(stage, other)?;
    sys::pause(WHILE);
    ensure!(leads(stage, primary)? && !leads(stage, other)?, "a node that is cut off leads");
    wait_recovered(&mut traffic)?;
    stage.lab.nodes[0].ip_batch("link set eth-p up\n")?;
    stage.lab.switch.run("nft", &["delete", "table", "bridge", "split"], "")?;
    ensure!(stage.pair.wait_whole()? == primary, "the role has moved when it was back");
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

/// `rm HA node` at the secondary, then at the primary: whoever serves goes on, and nobody else does.
fn pair_ended(stage: &mut Stage<'_>) -> Result<()> {
    let mut ends = traffic::start_ends(&stage.lab, Vip::Nat, Family::V4, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    for at in [1 - primary, primary] {
        let told = stage.pair.nodes[at].cli(&["rm", "HA", "node", "1"])?;
        ensure!(told.contains("The pair has ended while both nodes are up"), "no warning: {told}");
        sys::pause(WHILE);
        ensure!(leads(stage, primary)? && !leads(stage, 1 - primary)?, "ended at {at}: who leads has changed");
        let spoken = ends.ask("send", ANSWER_LIMIT)?;
        ensure!(spoken["answered"] == IDLE, "ended at {at}: {spoken}");
        let other = &stage.pair.nodes[1 - primary];
        ensure!(other.cli(&["show", "ha", "node", "0"])?.contains("STAYSECONDARY"), "it was to stay secondary");
        // The pair is made again.
        let peer = peer_address(1 - at as u8);
        stage.pair.nodes[at].cli(&["add", "HA", "node", "1", &peer])?;
        let password = &["set", "ns", "rpcNode", &peer, "-password", &stage.pair.nodes[at].settings.password];
        stage.pair.nodes[at].cli(password)?;
        stage.pair.nodes[1 - primary].cli(&["set", "HA", "node", "-haStatus", "ENABLED"])?;
        ensure!(stage.pair.wait_whole()? == primary, "made again, another node leads");
    }
    stage.pair.nodes[primary].kill()?;
    stage.pair.wait_primary(1 - primary)?;
    let spoken = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "after a failover of the pair made again: {spoken}");
    Ok(())
}
