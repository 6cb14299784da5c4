//! Views of the pair.

use super::Scene;
use crate::error::{CommandError, messages};
use crate::facts::{ChannelState, DigestState, HaFacts, HaRole, NodeState, PeerFacts, ResyncFacts};
use crate::json::Json;
use crate::model::{HaPeer, HaStatus, RpcNode};
use crate::time::{calendar, days_hours, interval, millis};
use crate::value::Value;
use core::time::Duration;

/// `show ha node` spelling; DRAINING is ours.
fn role_text(role: HaRole) -> &'static str {
    match role {
        HaRole::Init => "UNKNOWN",
        HaRole::Secondary => "Secondary",
        HaRole::Primary => "Primary",
        HaRole::Draining => "Draining",
    }
}

pub(super) fn state_text(state: NodeState) -> &'static str {
    match state {
        NodeState::Unknown => "UNKNOWN",
        NodeState::Init => "INIT",
        NodeState::NotUp => "NOT UP",
        NodeState::Up => "UP",
        NodeState::StaySecondary => "STAYSECONDARY",
        NodeState::Disabled => "DISABLED",
    }
}

fn channel_text(state: ChannelState) -> &'static str {
    match state {
        ChannelState::Down => "DOWN",
        ChannelState::Connecting => "CONNECTING",
        ChannelState::Bulk => "BULK TRANSFER",
        ChannelState::Full => "TABLE FULL",
        ChannelState::Up => "UP",
        ChannelState::Quarantined { .. } => "QUARANTINED",
    }
}

/// Who takes no records, and why. `peer` is the peer's role: whoever is not primary is meant.
fn intake_text(state: ChannelState, peer: HaRole) -> String {
    let who = match peer {
        HaRole::Primary | HaRole::Draining => "this node",
        HaRole::Init | HaRole::Secondary => "the peer",
    };
    match state {
        ChannelState::Quarantined { left } => {
            format!(" ({who} crashed again and again; it takes no records for another {} s)", left.as_secs() + 1)
        }
        ChannelState::Full => format!(" ({who} has no room for all flows, see --max-flows; new ones are unprotected)"),
        ChannelState::Down | ChannelState::Connecting | ChannelState::Bulk | ChannelState::Up => String::new(),
    }
}

fn rekeying_text(rekeying: bool) -> &'static str {
    if rekeying { " (the peer still uses the former rpcNode password)" } else { "" }
}

/// Synchronisation as the market words it: the primary shows ENABLED, a secondary how far it is.
fn sync_text(role: HaRole, caught_up: bool) -> &'static str {
    match (role, caught_up) {
        (HaRole::Primary | HaRole::Draining, _) => "ENABLED",
        (HaRole::Secondary, true) => "SUCCESS",
        (HaRole::Secondary, false) => "IN PROGRESS",
        (HaRole::Init, _) => "ENABLED",
    }
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "None".to_owned() } else { words.join(" ") }
}

/// Which of the two nodes are asked for.
fn wanted(s: &Scene<'_>) -> Result<(bool, Option<HaPeer>), CommandError> {
    let peer = s.config.ha.peer;
    match s.command.arg(0) {
        Some(Value::Number(0)) => Ok((true, None)),
        Some(Value::Number(n)) => match peer.filter(|p| u64::from(p.id) == *n) {
            Some(peer) => Ok((false, Some(peer))),
            None => Err(CommandError::about(messages::NO_SUCH_RESOURCE, "id", &n.to_string())),
        },
        Some(_) | None => Ok((true, peer)),
    }
}

fn own_state(s: &Scene<'_>, facts: &HaFacts) -> &'static str {
    match s.config.ha.status {
        HaStatus::StaySecondary => "STAYSECONDARY",
        HaStatus::Disabled => "DISABLED",
        HaStatus::Enabled | HaStatus::StayPrimary => state_text(facts.state),
    }
}

pub(super) fn nodes(s: &Scene<'_>) -> Result<String, CommandError> {
    let (own, peer) = wanted(s)?;
    let facts = s.facts.ha();
    let mut text = String::new();
    let mut number = 0;
    if own {
        number += 1;
        text += &own_lines(s, &facts, number);
    }
    if let Some(peer) = peer {
        number += 1;
        text += &peer_lines(peer, &facts.peer.clone().unwrap_or_default(), number);
    }
    if own && peer.is_some() {
        text += "\tLocal node information:\n\tCritical Interfaces: None\n";
    }
    Ok(text)
}

fn common_lines(id: u8, addr: String, name: &str) -> Vec<String> {
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    vec![format!("Node ID:      {id}"), format!("IP:\t{addr}{name}")]
}

fn own_lines(s: &Scene<'_>, facts: &HaFacts, number: usize) -> String {
    let node = s.facts.node();
    let addr = s.config.ns_config.addr.map_or("None".to_owned(), |a| a.to_string());
    let mut lines = common_lines(0, addr, &node.host_name);
    lines.extend([
        format!("Node State: {}", own_state(s, facts)),
        format!("Master State: {}", role_text(facts.role)),
        "Fail-Safe Mode: OFF".to_owned(),
        "INC State: DISABLED".to_owned(),
        format!("Sync State: {}", sync_text(facts.role, facts.caught_up)),
        "Propagation: ENABLED".to_owned(),
        format!("Enabled Interfaces : {}", list(&node.ports_up)),
        format!("Disabled Interfaces : {}", list(&node.ports_down)),
        "HA MON ON Interfaces : None".to_owned(),
        format!("Interfaces on which heartbeats are not seen : {}", list(&facts.silent_ports)),
        "Interfaces causing Partial Failure: None".to_owned(),
        "SSL Card Status: NOT PRESENT".to_owned(),
        format!("Hello Interval: {} msecs", s.config.ha.hello_ms),
        format!("Dead Interval: {}", interval(s.config.ha.dead_ms)),
        format!("Node in this Master State for: {} (days:hrs:min:sec)", days_hours(facts.in_role_for)),
    ]);
    lines.extend(own_extension(s, facts));
    numbered_block(number, &lines)
}

/// Lines the market does not have, behind its own.
fn own_extension(s: &Scene<'_>, f: &HaFacts) -> Vec<String> {
    let mut lines = vec![
        format!("Term: {}", f.term),
        format!("Caught Up: {}", if f.caught_up { "YES" } else { "NO" }),
        format!("Mirror Mode: {}  Hold Limit: {} msecs", s.config.ha.mirror_mode.word(), s.config.ha.hold_limit_ms),
        format!("Flows: {}  Protected: {}  Unprotected: {}  Held: {}", f.flows, f.protected, f.unprotected, f.held),
        format!(
            "Unacknowledged Records: {}  Mirror Lag: {} us (mean {} us)  Released Unprotected: {}",
            f.unacked_records,
            f.mirror_lag.as_micros(),
            f.mirror_delay.as_micros(),
            f.released_unprotected
        ),
        format!(
            "Mirrored Flows: {}  Mirror Traffic: {} bytes/s  Digest: {}",
            f.mirrored,
            f.mirror_rate,
            digest_text(f.digest)
        ),
        format!("Last Resync: {}", f.resync.map_or("never".to_owned(), |resync| resync_text(s, resync))),
        format!("Refused Peer Messages: {}", f.refused_messages),
    ];
    if f.persistence_missed > 0 {
        lines.push(format!("Persistence Sessions Without Room: {}", f.persistence_missed));
    }
    lines
}

pub(super) fn digest_text(digest: DigestState) -> String {
    match digest {
        DigestState::NotCompared => "NOT COMPARED".to_owned(),
        DigestState::Equal { ago: None } => "EQUAL".to_owned(),
        DigestState::Equal { ago: Some(ago) } => format!("EQUAL (compared {} ms ago)", millis(ago)),
        DigestState::Different => "DIFFERENT (another session was asked for)".to_owned(),
    }
}

/// When, how many, how long.
pub(super) fn resync_text(s: &Scene<'_>, resync: ResyncFacts) -> String {
    let ResyncFacts { session, began, took, flows, told } = resync;
    let age = Duration::from_millis(s.facts.now().saturating_sub(began)).as_secs();
    let took = took.map_or("running".to_owned(), |took| format!("took {} ms", millis(took)));
    format!("{} ({age} s ago), session {session}, {flows} flows, {told} of them sent, {took}", calendar(began))
}

fn peer_lines(peer: HaPeer, facts: &PeerFacts, number: usize) -> String {
    let mut lines = common_lines(peer.id, peer.addr.to_string(), &facts.host_name);
    let heard = facts.last_heard.map_or("never".to_owned(), |d| format!("{} ms ago", millis(d)));
    lines.extend([
        format!("Node State: {}", state_text(facts.state)),
        format!("Master State: {}", role_text(facts.role)),
        "Fail-Safe Mode: OFF".to_owned(),
        "INC State: DISABLED".to_owned(),
        format!("Sync State: {}", sync_text(facts.role, facts.caught_up)),
        "Propagation: ENABLED".to_owned(),
        format!("Enabled Interfaces : {}", list(&facts.heard_on)),
        "Disabled Interfaces : None".to_owned(),
        "HA MON ON Interfaces : None".to_owned(),
        "Interfaces on which heartbeats are not seen : None".to_owned(),
        "Interfaces causing Partial Failure: None".to_owned(),
        "SSL Card Status: NOT PRESENT".to_owned(),
        format!("Term: {}", facts.term),
        format!("Caught Up: {}", if facts.caught_up { "YES" } else { "NO" }),
        format!("Ready To Lead: {}", if facts.unready { "NO" } else { "YES" }),
        format!(
            "Peer Channel: {}{}{}",
            channel_text(facts.channel),
            intake_text(facts.channel, facts.role),
            rekeying_text(facts.rekeying)
        ),
        format!("Last Heard: {heard}"),
    ]);
    numbered_block(number, &lines)
}

fn numbered_block(number: usize, lines: &[String]) -> String {
    let mut text = format!("{number})\t{}\n", lines[0]);
    lines[1..].iter().for_each(|line| text += &format!("\t{line}\n"));
    text
}

pub(super) fn nodes_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let (own, peer) = wanted(s)?;
    let facts = s.facts.ha();
    let mut nodes = Vec::new();
    if own {
        nodes.push(own_json(s, &facts));
    }
    if let Some(peer) = peer {
        let f = facts.peer.clone().unwrap_or_default();
        nodes.push(Json::Object(vec![
            ("id", peer.id.to_string().into()),
            ("ipaddress", peer.addr.to_string().into()),
            ("name", f.host_name.clone().into()),
            ("hastatus", state_text(f.state).into()),
            ("state", role_text(f.role).into()),
            ("hasync", sync_text(f.role, f.caught_up).into()),
            ("inc", "DISABLED".into()),
            ("term", f.term.into()),
            ("caughtup", f.caught_up.into()),
            ("ready", (!f.unready).into()),
            ("peerchannel", channel_text(f.channel).into()),
            ("rekeying", f.rekeying.into()),
        ]));
    }
    Ok(Json::List(nodes))
}

fn own_json(s: &Scene<'_>, f: &HaFacts) -> Json {
    let node = s.facts.node();
    let addr = s.config.ns_config.addr.map_or(String::new(), |a| a.to_string());
    Json::Object(
        [
            ("id", "0".into()),
            ("ipaddress", addr.into()),
            ("name", node.host_name.into()),
            ("hastatus", own_state(s, f).into()),
            ("state", role_text(f.role).into()),
            ("hasync", sync_text(f.role, f.caught_up).into()),
            ("haprop", "ENABLED".into()),
            ("inc", "DISABLED".into()),
            ("hellointerval", u64::from(s.config.ha.hello_ms).into()),
            ("deadinterval", Json::Millis(s.config.ha.dead_ms.into())),
            ("masterstatetime", f.in_role_for.as_secs().into()),
            ("enaifaces", node.ports_up.join(" ").into()),
            ("disifaces", node.ports_down.join(" ").into()),
            ("mirrormode", s.config.ha.mirror_mode.word().into()),
            ("holdlimit", u64::from(s.config.ha.hold_limit_ms).into()),
            ("term", f.term.into()),
            ("caughtup", f.caught_up.into()),
        ]
        .into_iter()
        .chain(mirror_json(f))
        .collect(),
    )
}

/// What both JSON views say about the mirror.
pub(super) fn mirror_json(f: &HaFacts) -> Vec<(&'static str, Json)> {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let digest = match f.digest {
        DigestState::NotCompared => "NOT COMPARED",
        DigestState::Equal { .. } => "EQUAL",
        DigestState::Different => "DIFFERENT",
    };
    let mut fields = vec![
        ("flows", f.flows.into()),
        ("protectedflows", f.protected.into()),
        ("unprotectedflows", f.unprotected.into()),
        ("heldpackets", f.held.into()),
        ("releasedunprotected", f.released_unprotected.into()),
        ("unackedrecords", f.unacked_records.into()),
        ("mirrorlagus", us(f.mirror_lag).into()),
        ("mirrordelayus", us(f.mirror_delay).into()),
        ("mirroredflows", f.mirrored.into()),
        ("mirrorbytespersecond", f.mirror_rate.into()),
        ("persistencewithoutroom", f.persistence_missed.into()),
        ("digest", digest.into()),
    ];
    if let Some(resync) = f.resync {
        fields.push(("resyncsession", u64::from(resync.session).into()));
        fields.push(("resyncbegan", (resync.began / 1000).into()));
        fields.push(("resyncflows", resync.flows.into()));
        fields.push(("resyncsent", resync.told.into()));
        fields.extend(resync.took.map(|took| ("resynctookus", us(took).into())));
    }
    fields
}

fn chosen_rpc<'a>(s: &Scene<'a>) -> Result<Vec<&'a RpcNode>, CommandError> {
    let Some((addr, _)) = s.command.network(0) else { return Ok(s.config.rpc_nodes.iter().collect()) };
    match s.config.rpc_node(addr) {
        Some(node) => Ok(vec![node]),
        None => Err(CommandError::about(messages::NO_SUCH_RESOURCE, "IPAddress", &addr.to_string())),
    }
}

/// The source address that is used; `*` is written as the NSIP, as the market does.
fn source(s: &Scene<'_>, node: &RpcNode) -> String {
    node.src_ip.or(s.config.ns_config.addr).map_or("*".to_owned(), |a| a.to_string())
}

/// Never the password, nor anything made from it: only whether there is one.
pub(super) fn rpc_nodes(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, node) in chosen_rpc(s)?.into_iter().enumerate() {
        let password = if node.password.is_empty() { "not set" } else { crate::value::MASK };
        let (addr, source) = (node.addr, source(s, node));
        text += &format!("{})\tIPAddress:  {addr} Password: {password} SrcIP: {source} Secure: OFF\n", i + 1);
    }
    Ok(text)
}

pub(super) fn rpc_nodes_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |node: &RpcNode| {
        Json::Object(vec![
            ("ipaddress", node.addr.to_string().into()),
            ("passwordset", (!node.password.is_empty()).into()),
            ("srcip", source(s, node).into()),
            ("secure", "OFF".into()),
        ])
    };
    Ok(Json::List(chosen_rpc(s)?.into_iter().map(one).collect()))
}
