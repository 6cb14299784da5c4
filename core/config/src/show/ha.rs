//! Views of the pair.

use super::Scene;
use super::ports::list;
use crate::error::{CommandError, messages};
use crate::facts::{
    ChannelState, ConfigFacts, DigestState, HaFacts, HaRole, NodeState, PeerFacts, PeerPorts, ResyncFacts,
    SecurityFacts, SecurityFailure, SecurityState, SyncState, TakeoverFacts, WitnessFacts,
};
use crate::json::Json;
use crate::lines::route_monitor;
use crate::model::{HaPeer, HaStatus, Interface, RpcNode};
use crate::time::{calendar, days_hours, interval, millis};
use crate::value::Value;
use core::net::IpAddr;
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
        NodeState::PartialFail => "PARTIALFAIL",
        NodeState::CompleteFail => "COMPLETEFAIL",
        NodeState::RouteMonitorFail => "ROUTEMONITORFAIL",
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
        ChannelState::VersionMismatch => "VERSION MISMATCH",
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
        ChannelState::Down
        | ChannelState::Connecting
        | ChannelState::Bulk
        | ChannelState::Up
        | ChannelState::VersionMismatch => String::new(),
    }
}

fn rekeying_text(rekeying: bool) -> &'static str {
    if rekeying { " (the peer still uses the former rpcNode password)" } else { "" }
}

/// Synchronisation as the market words it.
fn sync_text(state: &SyncState) -> &'static str {
    match state {
        SyncState::Enabled => "ENABLED",
        SyncState::InProgress => "IN PROGRESS",
        SyncState::Success => "SUCCESS",
        SyncState::Failed { .. } => "FAILED",
        SyncState::Disabled => "DISABLED",
    }
}

/// Why synchronisation has failed.
fn failure(state: &SyncState) -> Option<&str> {
    match state {
        SyncState::Failed { reason } => Some(if reason.is_empty() { "UNKNOWN" } else { reason }),
        SyncState::Enabled | SyncState::InProgress | SyncState::Success | SyncState::Disabled => None,
    }
}

fn switch(on: bool) -> &'static str {
    if on { "ENABLED" } else { "DISABLED" }
}

/// The lines of both blocks about configuration, as the market has them.
fn config_lines(inc: bool, f: &ConfigFacts) -> Vec<String> {
    let mut lines = vec![
        format!("INC State: {}", switch(inc)),
        format!("Sync State: {}", sync_text(&f.sync)),
        format!("Propagation: {}", switch(!f.propagation_off)),
    ];
    let reason = failure(&f.sync).map(|reason| format!("Sync Failure Reason: {reason}"));
    lines.splice(2..2, reason);
    lines
}

/// Our line about a node's configuration. `other`: the other node's fingerprint, if it was heard.
fn config_extension(f: &ConfigFacts, other: Option<u64>) -> String {
    let same = match other {
        Some(other) if other == f.fingerprint => " (EQUAL)",
        Some(_) => " (DIFFERENT)",
        None => "",
    };
    let saved = if f.unsaved { "  Last Save: FAILED" } else { "" };
    let (incarnation, fingerprint) = (f.incarnation, f.fingerprint);
    format!("Incarnation: {incarnation}  Configuration: {fingerprint:016x}{same}{saved}")
}

/// Our own data ports of which something is so.
fn ports_that(s: &Scene<'_>, fits: impl Fn(&Interface) -> bool) -> Vec<String> {
    s.config.interfaces.iter().filter(|port| fits(port)).map(|port| port.id.clone()).collect()
}

fn on_off(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

fn up_down(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
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
        text += &peer_lines(s, peer, &facts, number);
    }
    if own && peer.is_some() {
        let critical: Vec<String> = s.config.critical_interfaces().map(|port| port.id.clone()).collect();
        text += &format!("\tLocal node information:\n\tCritical Interfaces: {}\n", list(&critical));
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
        format!("Fail-Safe Mode: {}", on_off(s.config.ha.fail_safe)),
    ]);
    lines.extend(config_lines(s.config.ha.inc, &facts.config));
    lines.extend([
        format!("Enabled Interfaces : {}", list(&ports_that(s, |port| port.enabled))),
        format!("Disabled Interfaces : {}", list(&ports_that(s, |port| !port.enabled))),
        format!("HA MON ON Interfaces : {}", list(&ports_that(s, |port| port.ha_monitor))),
        format!("Interfaces on which heartbeats are not seen : {}", list(&facts.silent_ports)),
        format!("Interfaces causing Partial Failure: {}", list(&facts.failed_ports)),
        "SSL Card Status: NOT PRESENT".to_owned(),
        format!("Hello Interval: {} msecs", s.config.ha.hello_ms),
        format!("Dead Interval: {}", interval(s.config.ha.dead_ms)),
        format!("Node in this Master State for: {} (days:hrs:min:sec)", days_hours(facts.in_role_for)),
    ]);
    lines.extend(health_lines(s, facts));
    lines.extend(own_extension(s, facts));
    numbered_block(number, &lines)
}

/// Heartbeats, flips and routes, where they are in use; the market's newer versions have such lines, too.
fn health_lines(s: &Scene<'_>, facts: &HaFacts) -> Vec<String> {
    let ha = &s.config.ha;
    let mut lines = vec!["Sync Status Strict Mode: ENABLED".to_owned()];
    let quiet = ports_that(s, |port| !port.ha_heartbeat);
    if !quiet.is_empty() {
        lines.push(format!("HA HEARTBEAT OFF Interfaces : {}", quiet.join(" ")));
    }
    lines.extend(ha.sync_vlan.map(|vlan| format!("SYNC VLAN: {vlan}")));
    if ha.max_flips > 0 || facts.flips > 0 {
        let sticky = if facts.sticky { "  Sticky Primary" } else { "" };
        let time = facts.flip_time.unwrap_or_default().as_secs();
        lines.push(format!("Configured/Completed Flips: {}/{}{sticky}", ha.max_flips, facts.flips));
        lines.push(format!("Configured/Completed Flip Time: {}/{time}", ha.max_flip_time_s));
    }
    for (monitor, state) in ha.route_monitors.iter().zip(&facts.routes) {
        let (up, why) = (up_down(state.up), &state.text);
        lines.push(format!("Route Monitor: {}  State: {up} ({why})", route_monitor(*monitor)));
    }
    lines.extend(s.config.failover_sets.iter().map(|set| format!("FIS {}: {}", set.name, list(&set.members))));
    lines
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
        config_extension(&f.config, f.peer.as_ref().and_then(heard_fingerprint)),
        format!("Refused Peer Messages: {}", f.refused_messages),
        witness_line(f.witness),
    ];
    lines.extend(f.deaf_since.map(|since| format!("Hears Nothing Since: {}", calendar(since))));
    lines.extend(
        f.called_off.map(|at| format!("Last Switchover Called Off: {} (nobody took the role up)", calendar(at))),
    );
    if f.persistence_missed > 0 {
        lines.push(format!("Persistence Sessions Without Room: {}", f.persistence_missed));
    }
    let (adopted, refused) = f.offers;
    if f.offered + adopted + refused > 0 {
        lines.push(format!("Flows Offered: {}  Offers Adopted: {adopted}  Offers Refused: {refused}", f.offered));
    }
    lines
}

/// The witness: whether it answers, and whom it names.
fn witness_line(witness: Option<WitnessFacts>) -> String {
    let Some(witness) = witness else { return "Witness: NONE".to_owned() };
    let state = witness_state(witness);
    let since = witness.reachable.map_or(String::new(), |(_, since)| format!(" since {}", calendar(since)));
    let owner = witness.owner.map_or("nobody".to_owned(), |owner| owner.to_string());
    let part = match (witness.in_force, witness.sole, witness.doubted) {
        (false, ..) => "NO (the peer has none)",
        (true, _, true) => "YES (but it does not name the primary: is it the peer's?)",
        (true, false, false) => "YES",
        (true, true, false) => "YES (this node leads by it)",
    };
    format!("Witness: {state}{since}  Owner: {owner}  Term: {}  In Force: {part}", witness.term)
}

fn witness_state(witness: WitnessFacts) -> &'static str {
    match witness.reachable {
        None => "NOT ASKED YET",
        Some((true, _)) => "REACHABLE",
        Some((false, _)) => "UNREACHABLE",
    }
}

/// The same as fields.
fn witness_json(f: &HaFacts) -> Vec<(&'static str, Json)> {
    let Some(witness) = f.witness else { return vec![("witnessstate", "NONE".into())] };
    let mut fields = vec![
        ("witnessstate", witness_state(witness).into()),
        ("witnessterm", witness.term.into()),
        ("witnessinforce", witness.in_force.into()),
        ("witnesssole", witness.sole.into()),
        ("witnessdoubted", witness.doubted.into()),
    ];
    fields.extend(witness.reachable.map(|(_, since)| ("witnesssince", (since / 1000).into())));
    fields.extend(witness.owner.map(|owner| ("witnessowner", owner.to_string().into())));
    fields
}

/// The peer's configuration, if the peer was heard.
fn heard_fingerprint(peer: &PeerFacts) -> Option<u64> {
    peer.last_heard.map(|_| peer.config.fingerprint)
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
    let ResyncFacts { session, began, took, flows, told, released: _ } = resync;
    let age = Duration::from_millis(s.facts.now().saturating_sub(began)).as_secs();
    let took = took.map_or("running".to_owned(), |took| format!("took {} ms", millis(took)));
    format!("{} ({age} s ago), session {session}, {flows} flows, {told} of them sent, {took}", calendar(began))
}

/// What the latest outage was made of.
pub(super) fn takeover_text(takeover: TakeoverFacts) -> String {
    let ms = |time: Duration| format!("{} ms", millis(time));
    let heard = takeover.heard_before.map_or("never".to_owned(), |before| ms(before) + " before");
    let first = takeover.first_packet_after.map_or("not yet".to_owned(), |after| ms(after) + " after");
    format!(
        "{}, term {}, peer last heard {heard}, given up {} before, first packet {first}",
        calendar(takeover.began),
        takeover.term,
        ms(takeover.given_up_before)
    )
}

fn peer_lines(s: &Scene<'_>, peer: HaPeer, own: &HaFacts, number: usize) -> String {
    let facts = &own.peer.clone().unwrap_or_default();
    let mut lines = common_lines(peer.id, peer.addr.to_string(), &facts.host_name);
    let ports =
        facts.ports.clone().unwrap_or_else(|| PeerPorts { enabled: facts.heard_on.clone(), ..Default::default() });
    let heard = facts.last_heard.map_or("never".to_owned(), |d| format!("{} ms ago", millis(d)));
    lines.extend([
        format!("Node State: {}", state_text(facts.state)),
        format!("Master State: {}", role_text(facts.role)),
        format!("Fail-Safe Mode: {}", on_off(ports.fail_safe)),
    ]);
    lines.extend(config_lines(facts.config.inc, &facts.config));
    lines.extend([
        format!("Enabled Interfaces : {}", list(&ports.enabled)),
        format!("Disabled Interfaces : {}", list(&ports.disabled)),
        format!("HA MON ON Interfaces : {}", list(&ports.monitored)),
        format!("Interfaces on which heartbeats are not seen : {}", list(&ports.silent)),
        format!("Interfaces causing Partial Failure: {}", list(&ports.failed)),
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
        format!("Peer Channel Security: {}", security_text(s, own.security)),
        format!("Last Heard: {heard}"),
    ]);
    lines.extend(heard_fingerprint(facts).map(|_| config_extension(&facts.config, Some(own.config.fingerprint))));
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
        nodes.push(peer_json(peer, &facts, &f));
    }
    Ok(Json::List(nodes))
}

fn peer_json(peer: HaPeer, own: &HaFacts, f: &PeerFacts) -> Json {
    let ports = f.ports.clone().unwrap_or_default();
    Json::Object(vec![
        ("id", peer.id.to_string().into()),
        ("ipaddress", peer.addr.to_string().into()),
        ("name", f.host_name.clone().into()),
        ("hastatus", state_text(f.state).into()),
        ("state", role_text(f.role).into()),
        ("hasync", sync_text(&f.config.sync).into()),
        ("hasyncfailurereason", failure(&f.config.sync).unwrap_or_default().into()),
        ("haprop", switch(!f.config.propagation_off).into()),
        ("inc", switch(f.config.inc).into()),
        ("term", f.term.into()),
        ("caughtup", f.caught_up.into()),
        ("ready", (!f.unready).into()),
        ("incarnation", u64::from(f.config.incarnation).into()),
        ("configuration", format!("{:016x}", f.config.fingerprint).into()),
        ("peerchannel", channel_text(f.channel).into()),
        ("rekeying", f.rekeying.into()),
        ("channelsecurity", security_word(own.security.state).into()),
        ("secureheartbeatstate", secure_heartbeats(own.security)),
        ("failsafe", on_off(ports.fail_safe).into()),
        ("enaifaces", ports.enabled.join(" ").into()),
        ("disifaces", ports.disabled.join(" ").into()),
        ("hamonifaces", ports.monitored.join(" ").into()),
        ("ifaces", ports.silent.join(" ").into()),
        ("pfifaces", ports.failed.join(" ").into()),
        ("ssl2", "NOT PRESENT".into()),
    ])
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
            ("hasync", sync_text(&f.config.sync).into()),
            ("hasyncfailurereason", failure(&f.config.sync).unwrap_or_default().into()),
            ("haprop", switch(!f.config.propagation_off).into()),
            ("inc", switch(s.config.ha.inc).into()),
            ("hellointerval", u64::from(s.config.ha.hello_ms).into()),
            ("deadinterval", Json::Millis(s.config.ha.dead_ms.into())),
            ("masterstatetime", f.in_role_for.as_secs().into()),
            ("mirrormode", s.config.ha.mirror_mode.word().into()),
            ("holdlimit", u64::from(s.config.ha.hold_limit_ms).into()),
            ("term", f.term.into()),
            ("caughtup", f.caught_up.into()),
            ("incarnation", u64::from(f.config.incarnation).into()),
            ("configuration", format!("{:016x}", f.config.fingerprint).into()),
        ]
        .into_iter()
        .chain(health_json(s, f))
        .chain(mirror_json(f))
        .chain(witness_json(f))
        .chain(f.deaf_since.map(|since| ("hearsnothingsince", (since / 1000).into())))
        .chain(f.called_off.map(|at| ("switchovercalledoff", (at / 1000).into())))
        .collect(),
    )
}

/// The market's fields about interfaces, flips and monitored routes.
fn health_json(s: &Scene<'_>, f: &HaFacts) -> Vec<(&'static str, Json)> {
    let ha = &s.config.ha;
    let ports = |fits: fn(&Interface) -> bool| ports_that(s, fits).join(" ").into();
    let words = |word: fn(&(String, bool)) -> String| {
        let pairs = ha.route_monitors.iter().zip(&f.routes).map(|(m, state)| (route_monitor(*m), state.up));
        pairs.map(|pair| word(&pair)).collect::<Vec<_>>().join(", ").into()
    };
    let mut fields = vec![
        ("failsafe", on_off(ha.fail_safe).into()),
        ("maxflips", ha.max_flips.to_string().into()),
        ("maxfliptime", ha.max_flip_time_s.to_string().into()),
        ("curflips", u64::from(f.flips).into()),
        ("completedfliptime", f.flip_time.unwrap_or_default().as_secs().into()),
        ("stickyprimary", f.sticky.into()),
        ("syncstatusstrictmode", "ENABLED".into()),
        ("secureheartbeatstate", secure_heartbeats(f.security)),
        ("enaifaces", ports(|port| port.enabled)),
        ("disifaces", ports(|port| !port.enabled)),
        ("downifaces", s.facts.node().ports_down.join(" ").into()),
        ("hamonifaces", ports(|port| port.ha_monitor)),
        ("haheartbeatifaces", ports(|port| !port.ha_heartbeat)),
        ("ifaces", f.silent_ports.join(" ").into()),
        ("pfifaces", f.failed_ports.join(" ").into()),
        ("ssl2", "NOT PRESENT".into()),
        ("routemonitor", words(|(route, _)| route.clone())),
        ("routemonitorstate", words(|(_, up)| up_down(*up).to_owned())),
    ];
    fields.extend(ha.sync_vlan.map(|vlan| ("syncvlan", u64::from(vlan).into())));
    fields
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
        ("maxflows", f.max_flows.into()),
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
        ("flowsoffered", f.offered.into()),
        ("offersadopted", f.offers.0.into()),
        ("offersrefused", f.offers.1.into()),
        ("digest", digest.into()),
    ];
    if let Some(resync) = f.resync {
        fields.push(("resyncsession", u64::from(resync.session).into()));
        fields.push(("resyncbegan", (resync.began / 1000).into()));
        fields.push(("resyncflows", resync.flows.into()));
        fields.push(("resyncsent", resync.told.into()));
        fields.push(("resyncreleasedunprotected", resync.released.into()));
        fields.extend(resync.took.map(|took| ("resynctookus", us(took).into())));
    }
    if let Some(takeover) = f.takeover {
        fields.push(("takeoverterm", takeover.term.into()));
        fields.push(("takeoverbegan", (takeover.began / 1000).into()));
        fields.extend(takeover.heard_before.map(|before| ("takeoverheardbeforeus", us(before).into())));
        fields.push(("takeovergivenupbeforeus", us(takeover.given_up_before).into()));
        fields.extend(takeover.first_packet_after.map(|after| ("takeoverfirstpacketafterus", us(after).into())));
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

/// The cipher of every session.
const CIPHER: &str = "CHACHA20-POLY1305";

fn security_word(state: SecurityState) -> &'static str {
    match state {
        SecurityState::None => "NOT AUTHENTICATED",
        SecurityState::Authenticated => "AUTHENTICATED, NOT ENCRYPTED",
        SecurityState::Encrypted => "AUTHENTICATED, ENCRYPTED",
    }
}

/// Whether hellos are authenticated: always, once there is a session.
fn secure_heartbeats(security: SecurityFacts) -> Json {
    switch(security.state != SecurityState::None).into()
}

fn failure_text(failure: SecurityFailure) -> &'static str {
    match failure {
        SecurityFailure::Password => "the rpcNode passwords of the two nodes differ",
        SecurityFailure::Unset => "no rpcNode password is set",
        SecurityFailure::Secure => "-secure of the two nodes' rpcNode differs",
    }
}

/// A failure that was not followed by a success explains why the session is not as it is set.
fn security_text(s: &Scene<'_>, security: SecurityFacts) -> String {
    let failed = security.last_failure.filter(|_| security.failing);
    let ago = |at: u64| Duration::from_millis(s.facts.now().saturating_sub(at)).as_secs();
    let why =
        failed.map_or(String::new(), |(failure, at)| match lacking(s).filter(|_| failure == SecurityFailure::Unset) {
            Some(addr) => format!(" ({}: set ns rpcNode {addr} -password …)", failure_text(failure)),
            None => format!(" ({}, seen {} s ago)", failure_text(failure), ago(at)),
        });
    format!("{}{why}", security_word(security.state))
}

/// The first node of the pair whose password is empty.
fn lacking(s: &Scene<'_>) -> Option<IpAddr> {
    s.config.nodes_without_password().next()
}

/// The state of the channel, below the peer's entry.
fn channel_lines(s: &Scene<'_>, security: SecurityFacts) -> String {
    let session = match security.state {
        SecurityState::None => "Cipher: NONE  Since: never".to_owned(),
        SecurityState::Authenticated | SecurityState::Encrypted => {
            format!("Cipher: {CIPHER}  Since: {}", calendar(security.since))
        }
    };
    let failure = security
        .last_failure
        .map_or("never".to_owned(), |(failure, at)| format!("{} ({})", calendar(at), failure_text(failure)));
    format!(
        "\tChannel: {}  {session}\n\tHandshakes: {}  Rekeys: {}  Failures: {}  Last Failure: {failure}\n",
        security_text(s, security),
        security.handshakes,
        security.rekeys,
        security.failures,
    )
}

/// Never the password, nor anything made from it: only whether there is one.
pub(super) fn rpc_nodes(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, node) in chosen_rpc(s)?.into_iter().enumerate() {
        let password = if node.password.is_empty() { "not set" } else { crate::value::MASK };
        let (addr, source) = (node.addr, source(s, node));
        let secure = on_off(node.secure);
        text +=
            &format!("{})\tIPAddress:  {addr} Password: {password} Retry: 1 SrcIP: {source} Secure: {secure}\n", i + 1);
        if s.config.ha.peer.is_some_and(|peer| peer.addr == addr) {
            text += &channel_lines(s, s.facts.ha().security);
        }
    }
    Ok(text)
}

pub(super) fn rpc_nodes_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |node: &RpcNode| {
        let mut fields = vec![
            ("ipaddress", node.addr.to_string().into()),
            ("passwordset", (!node.password.is_empty()).into()),
            ("srcip", source(s, node).into()),
            ("secure", on_off(node.secure).into()),
            ("validatecert", "NO".into()),
        ];
        if s.config.ha.peer.is_some_and(|peer| peer.addr == node.addr) {
            let security = s.facts.ha().security;
            fields.push(("channel", security_word(security.state).into()));
            fields.push(("cipher", if security.state == SecurityState::None { "NONE" } else { CIPHER }.into()));
            fields.push(("channelsince", (security.since / 1000).into()));
            fields.push(("handshakes", security.handshakes.into()));
            fields.push(("rekeys", security.rekeys.into()));
            fields.push(("failures", security.failures.into()));
            fields.extend(security.last_failure.map(|(failure, _)| ("lastfailure", failure_text(failure).into())));
        }
        Json::Object(fields)
    };
    Ok(Json::List(chosen_rpc(s)?.into_iter().map(one).collect()))
}
