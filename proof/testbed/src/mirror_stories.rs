//! Stories about the mirror as its operator sees it: switching modes, the rehearsal, the transfer after an outage.

use crate::config::Vip;
use crate::lab::Family;
use crate::node::{Failure, Node};
use crate::stories::Stage;
use crate::sys;
use crate::traffic::{self, Load, Traffic};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Idle connections.
const IDLE: u32 = 50;
/// Time for counters to become what they must be.
const COUNTER_LIMIT: Duration = Duration::from_secs(10);
/// Answers of roles.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A vserver with live connections becomes STATEFUL, DISABLED and STATEFUL again: both nodes' counters follow, and what was
/// open before survives the primary's death.
pub fn switching_modes(stage: &mut Stage<'_>) -> Result<()> {
    let (vip, family) = (Vip::DisabledNat, Family::V4);
    let name = tcp_vserver(vip, family);
    let mut ends = traffic::start_ends(&stage.lab, vip, family, IDLE)?;
    let primary = stage.pair.wait_whole()?;
    let set = |stage: &Stage<'_>, mode: &str| {
        stage.pair.nodes[primary].cli(&["set", "lb", "vserver", &name, "-connFailover", mode]).map(drop)
    };
    let wait = |stage: &Stage<'_>, what: &str, ours: [u64; 2], theirs: u64| {
        sys::wait_until(what, COUNTER_LIMIT, || {
            let count = |node: &Node, key: &str| vserver_count(node, &name, key);
            let (own, other) = (&stage.pair.nodes[primary], &stage.pair.nodes[1 - primary]);
            let seen = [count(own, "protectedflows")?, count(own, "unprotectedflows")?];
            Ok((seen == ours && count(other, "curclntconnections")? == theirs).then_some(()))
        })
    };
    wait(stage, "a DISABLED vserver has nothing on the secondary", [0, 0], 0)?;
    set(stage, "STATEFUL")?;
    wait(stage, "open connections become protected", [IDLE.into(), 0], IDLE.into())?;
    set(stage, "DISABLED")?;
    wait(stage, "DISABLED frees both nodes", [0, 0], 0)?;
    set(stage, "STATEFUL")?;
    wait(stage, "open connections become protected again", [IDLE.into(), 0], IDLE.into())?;
    let _outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    let spoken = ends.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "connections opened before STATEFUL was set: {spoken}");
    Ok(())
}

/// `failover rehearse` says 0 under load; without a peer it counts every connection of STATEFUL vservers.
pub fn rehearsal(stage: &mut Stage<'_>) -> Result<()> {
    let load = Load { connections: 300, new_per_second: 300, probe_rate: 1000 };
    let traffic = Traffic::start(&stage.lab, Vip::Nat, &Family::ALL, load)?;
    let primary = stage.pair.wait_whole()?;
    for _ in 0..50 {
        let lost = rehearse(&stage.pair.nodes[primary])?;
        ensure!(lost == 0, "under load, with a whole pair, {lost} would be lost");
    }
    let mut idle = traffic::start_ends(&stage.lab, Vip::Usip, Family::V4, IDLE)?;
    let outage = stage.pair.cut_off(&stage.lab, 1 - primary)?;
    let (nat, usip) = (tcp_vserver(Vip::Nat, Family::V4), tcp_vserver(Vip::Usip, Family::V4));
    sys::wait_until("the loss of the peer shows in the rehearsal", COUNTER_LIMIT, || {
        let fates = fates(&stage.pair.nodes[primary])?;
        let of = |name: &str| fates.iter().find(|fate| fate["name"] == name).cloned().unwrap_or_default();
        let (nat, usip) = (of(&nat), of(&usip));
        let counted = usip["lost"] == IDLE && nat["lost"].as_u64() >= Some(u64::from(load.connections) / 2);
        Ok((counted && usip["reason"] == "the peer is not up").then_some(()))
    })?;
    stage.pair.heal(&stage.lab, outage)?;
    sys::wait_until("nothing would be lost again", COUNTER_LIMIT, || {
        Ok((rehearse(&stage.pair.nodes[primary])? == 0).then_some(()))
    })?;
    let spoken = idle.ask("send", ANSWER_LIMIT)?;
    ensure!(spoken["answered"] == IDLE, "idle connections: {spoken}");
    traffic.finish()?.complaint().map_or(Ok(()), |complaint| anyhow::bail!(complaint))
}

/// After a short outage of the secondary only what differs is sent.
pub fn short_outage(stage: &mut Stage<'_>) -> Result<()> {
    let mut before = traffic::start_ends(&stage.lab, Vip::Nat, Family::V4, 4 * IDLE)?;
    let primary = stage.pair.wait_whole()?;
    let outage = stage.pair.cut_off(&stage.lab, 1 - primary)?;
    let mut during = traffic::start_ends(&stage.lab, Vip::Nat, Family::V6, 10)?;
    stage.pair.heal(&stage.lab, outage)?;
    for node in &stage.pair.nodes {
        let view = node.ha()?.raw;
        let own = view["hanode"].get(0).cloned().unwrap_or_default();
        let number = |key: &str| own[key].as_u64().with_context(|| format!("no {key} in {own}"));
        let (flows, sent) = (number("resyncflows")?, number("resyncsent")?);
        ensure!(flows >= u64::from(4 * IDLE) + 10, "node {}: {flows} flows in the transfer", node.name());
        ensure!((10..40).contains(&sent), "node {}: {sent} of {flows} flows were sent", node.name());
        ensure!(own["digest"] == "EQUAL", "node {}: the digest is {}", node.name(), own["digest"]);
    }
    let _outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    for (ends, count) in [(&mut before, 4 * IDLE), (&mut during, 10)] {
        let spoken = ends.ask("send", ANSWER_LIMIT)?;
        ensure!(spoken["answered"] == count, "connections after the takeover: {spoken}");
    }
    Ok(())
}

fn tcp_vserver(vip: Vip, family: Family) -> String {
    format!("{}_tcp", vip.name(family))
}

fn vserver_count(node: &Node, name: &str, key: &str) -> Result<u64> {
    let text = node.cli(&["stat", "lb", "vserver", name, "--json"])?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("JSON of stat lb vserver: {text}"))?;
    let field = &json["lbvserver"][0][key];
    let number = field.as_u64().or_else(|| field.as_str().and_then(|text| text.parse().ok()));
    number.with_context(|| format!("no {key} in {text}"))
}

fn fates(node: &Node) -> Result<Vec<Value>> {
    let text = node.cli(&["failover", "rehearse", "--json"])?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("JSON of failover rehearse: {text}"))?;
    let list = json.as_object().and_then(|object| object.values().find_map(Value::as_array)).cloned();
    list.with_context(|| format!("no list in {text}"))
}

fn rehearse(node: &Node) -> Result<u64> {
    Ok(fates(node)?.iter().filter_map(|fate| fate["lost"].as_u64()).sum())
}
