//! Stories about a full partition: the nodes do not hear each other on any path, both lead, and then it heals.
//!
//! The cables stay plugged in, so neither node thinks that it has failed. Without a witness both may lead meanwhile
//! (docs/ha.md); what is told here is how it ends.

use crate::config::Vip;
use crate::lab::{Family, SECOND_CLIENT};
use crate::node::Node;
use crate::sniff::Announcements;
use crate::stories::Stage;
use crate::{sys, traffic};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// Idle connections.
const IDLE: u32 = 50;
/// Time for a node to see that a server is gone.
const MONITOR_LIMIT: Duration = Duration::from_secs(60);
/// Time for roles to move.
const ROLE_LIMIT: Duration = Duration::from_secs(10);
/// Answers of roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The overlap ends within this time. The claim is one hello interval (200 ms at most here) and what a busy machine adds;
/// what was measured is printed.
const OVERLAP_LIMIT: Duration = Duration::from_millis(1000);

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("after_a_split_that_clients_followed_their_new_node_leads", clients_follow),
    ("what_both_sides_of_a_split_opened_goes_on_when_it_heals", both_sides_go_on),
];

/// What the switch drops: heartbeats.
const HEARTBEATS: &str = "table bridge split {\n chain pre {\n  type filter hook prerouting priority 0\n  \
                          ether type 0x88b5 drop\n }\n}\n";

/// What the switch drops: all that goes from one half of the network to the other.
const HALVES: &str = r#"table bridge split {
 chain between {
  type filter hook forward priority 0
  iifname { "cl", "a-c", "a-s", "s1" } oifname { "c2", "b-c", "b-s", "s2" } drop
  iifname { "c2", "b-c", "b-s", "s2" } oifname { "cl", "a-c", "a-s", "s1" } drop
 }
}
"#;

/// Cuts the peer link and what `rules` say, and waits until both lead.
fn split(stage: &mut Stage<'_>, rules: &str) -> Result<()> {
    stage.lab.switch.run("nft", &["-f", "-"], rules)?;
    stage.lab.nodes[0].ip_batch("link set eth-p down\n")?;
    sys::wait_until("both nodes lead", ROLE_LIMIT, || {
        stage.pair.ensure_alive()?;
        let views = [stage.pair.nodes[0].ha()?, stage.pair.nodes[1].ha()?];
        Ok(views.iter().all(|view| view.is_primary()).then_some(()))
    })
}

/// Ends it. Returns how long both led from the first path on that is whole again, as far as can be seen from outside.
fn heal(stage: &mut Stage<'_>, winner: usize) -> Result<Duration> {
    let loser = 1 - winner;
    stage.lab.nodes[0].ip_batch("link set eth-p up\n")?;
    let healed = Instant::now();
    stage.lab.switch.run("nft", &["delete", "table", "bridge", "split"], "")?;
    sys::wait_until("the loser steps down", ROLE_LIMIT, || {
        Ok((!stage.pair.nodes[loser].ha()?.is_primary()).then_some(()))
    })?;
    let overlap = healed.elapsed();
    let leads = stage.pair.wait_whole()?;
    ensure!(leads == winner, "node {} leads after the split", stage.pair.nodes[leads].name());
    ensure!(overlap < OVERLAP_LIMIT, "both led for {} ms after the split had healed", overlap.as_millis());
    println!("    one leads again, seen {:.1} ms after the first path was whole", overlap.as_secs_f64() * 1e3);
    Ok(overlap)
}

/// Only the nodes' own words are cut: the new primary announces the addresses, and the clients go to it. Its side wins;
/// connections from before the split live on, wherever their packets went meanwhile.
fn clients_follow(stage: &mut Stage<'_>) -> Result<()> {
    let mut ends = traffic::start_ends(&stage.lab, Vip::Nat, Family::V4, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    let heard = Announcements::start(&stage.lab, 1 - primary)?;
    split(stage, HEARTBEATS)?;
    let spoken = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "in the split: {spoken}");
    let newcomer = heard.finish()?;
    ensure!(!newcomer.is_empty(), "the new primary announced nothing");
    heal(stage, 1 - primary)?;
    let spoken = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "after the split: {spoken}");
    Ok(())
}

/// Each half of the network has a node, a client and a server, and opens connections; all of them go on at whoever leads
/// when it is one again.
fn both_sides_go_on(stage: &mut Stage<'_>) -> Result<()> {
    let second = stage.lab.add_client()?;
    stage.pair.wait_whole()?;
    split(stage, HALVES)?;
    sys::wait_until("each node sees one server only", MONITOR_LIMIT, || {
        let seen = |node: &Node| -> Result<bool> {
            let text = node.cli(&["show", "service"])?;
            Ok(text.contains("State: UP") && text.contains("State: DOWN"))
        };
        Ok((seen(&stage.pair.nodes[0])? && seen(&stage.pair.nodes[1])?).then_some(()))
    })?;
    let mut ends = Vec::new();
    for (vip, family) in [(Vip::Nat, Family::V4), (Vip::Usip, Family::V6), (Vip::Usip, Family::V4)] {
        ends.push(traffic::start_ends(&stage.lab, vip, family, IDLE)?);
        let address = [family.client_net(SECOND_CLIENT)];
        ends.push(traffic::start_ends_of(&stage.lab, (&second, &address), vip, family, IDLE)?);
    }
    stage.lab.nodes[0].ip_batch("link set eth-p up\n")?;
    stage.lab.switch.run("nft", &["delete", "table", "bridge", "split"], "")?;
    let winner = stage.pair.wait_whole()?;
    for (index, part) in ends.iter_mut().enumerate() {
        let spoken = part.ask("send", ANSWER_LIMIT)?;
        ensure!(spoken["answered"] == IDLE, "connections of part {index} after the split: {spoken}");
    }
    let view = stage.pair.nodes[winner].ha()?;
    let count = |name: &str| view.raw["hanode"][0][name].as_u64().context(name.to_owned());
    let (adopted, refused) = (count("offersadopted")?, count("offersrefused")?);
    ensure!(adopted >= 3 * u64::from(IDLE) && refused == 0, "{adopted} adopted, {refused} refused");
    println!("    {adopted} connections of the other side adopted");
    Ok(())
}
