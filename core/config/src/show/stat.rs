//! Views of counters.

use super::lb::bound;
use super::net::table;
use super::{Scene, chosen, health, service_health, vserver_health};
use crate::error::{CommandError, messages};
use crate::facts::{HaFacts, HaRole, NodeState};
use crate::group::ServiceGroup;
use crate::json::Json;
use crate::lines::port;
use crate::model::{LbVserver, Service};
use crate::time::calendar;
use crate::value::Value;

/// `label    value` lines.
fn pairs(lines: &[(&str, String)]) -> String {
    lines.iter().fold(String::new(), |text, (label, value)| text + &format!("{label:<46} {value:>24}\n"))
}

fn address(vserver: &LbVserver) -> String {
    vserver.addr.map_or("*".to_owned(), |a| a.to_string())
}

fn chosen_vservers<'a>(s: &Scene<'a>) -> Result<Vec<&'a LbVserver>, CommandError> {
    chosen(s, "name", s.config.vservers.iter(), |o| &o.name)
}

pub(super) fn vservers(s: &Scene<'_>) -> Result<String, CommandError> {
    let found = chosen_vservers(s)?;
    if let (Some(_), [vserver]) = (s.command.text(0), found.as_slice()) {
        return Ok(vserver_detail(s, vserver));
    }
    let header = ["Name", "vsvrIP", "port", "Protocol", "State", "Hits", "ClntConn", "Protected", "Unprotected"];
    let mut rows: Vec<[String; 9]> = vec![header.map(str::to_owned)];
    for v in found {
        let f = s.facts.vserver(v.id);
        let (kind, state) = (v.kind.word().to_owned(), health(vserver_health(s, v)).to_owned());
        let (hits, flows) = (f.hits.to_string(), f.client_flows.to_string());
        let (yes, no) = (f.protected.to_string(), f.unprotected.to_string());
        rows.push([v.name.clone(), address(v), port(v.port), kind, state, hits, flows, yes, no]);
    }
    Ok(format!("\nVirtual Server(s) Summary\n{}", table(&rows)))
}

/// How many of the bound services are UP, and how many there are.
fn active(s: &Scene<'_>, v: &LbVserver) -> (usize, usize) {
    let (services, up) = bound(s, v);
    (up, services.len())
}

fn vserver_detail(s: &Scene<'_>, v: &LbVserver) -> String {
    let f = s.facts.vserver(v.id);
    let (up, total) = active(s, v);
    let mut text = "\nVirtual Server Summary\n".to_owned();
    text += &pairs(&[
        ("Vserver IP address (vsvrIP)", address(v)),
        ("Port (port)", port(v.port)),
        ("Protocol", v.kind.word().to_owned()),
        ("State", health(vserver_health(s, v)).to_owned()),
        ("Vserver Health (Health)", (up * 100).checked_div(total).unwrap_or(0).to_string()),
        ("total ACTIVE services (actSvcs)", up.to_string()),
        ("total INACTIVE services (inactSvcs)", (total - up).to_string()),
    ]);
    text += "\nVirtual Server Statistics\n";
    text += &pairs(&[
        ("Vserver hits (Hits)", f.hits.to_string()),
        ("Total Packets rcvd", f.packets_in.to_string()),
        ("Total Packets sent", f.packets_out.to_string()),
        ("Request bytes", f.bytes_in.to_string()),
        ("Response bytes", f.bytes_out.to_string()),
        ("Current client connections (ClntConn)", f.client_flows.to_string()),
        ("Current server connections (SvrConn)", f.server_flows.to_string()),
        ("Current Client Est connections (ClntEstConn)", f.established.to_string()),
        ("Current Persistence Sessions", f.persistence_sessions.to_string()),
        ("Protected flows", f.protected.to_string()),
        ("Unprotected flows", f.unprotected.to_string()),
    ]);
    text
}

pub(super) fn vservers_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |v: &LbVserver| {
        let f = s.facts.vserver(v.id);
        let (up, total) = active(s, v);
        Json::Object(vec![
            ("name", v.name.clone().into()),
            ("primaryipaddress", address(v).into()),
            ("primaryport", u64::from(v.port.unwrap_or(u16::MAX)).into()),
            ("type", v.kind.word().into()),
            ("state", health(vserver_health(s, v)).into()),
            ("vslbhealth", (up * 100).checked_div(total).unwrap_or(0).to_string().into()),
            ("actsvcs", up.to_string().into()),
            ("inactsvcs", (total - up).to_string().into()),
            ("tothits", f.hits.to_string().into()),
            ("totalpktsrecvd", f.packets_in.to_string().into()),
            ("totalpktssent", f.packets_out.to_string().into()),
            ("totalrequestbytes", f.bytes_in.to_string().into()),
            ("totalresponsebytes", f.bytes_out.to_string().into()),
            ("curclntconnections", f.client_flows.to_string().into()),
            ("cursrvrconnections", f.server_flows.to_string().into()),
            ("establishedconn", f.established.to_string().into()),
            ("curpersistencesessions", f.persistence_sessions.to_string().into()),
            ("protectedflows", f.protected.to_string().into()),
            ("unprotectedflows", f.unprotected.to_string().into()),
        ])
    };
    Ok(Json::List(chosen_vservers(s)?.into_iter().map(one).collect()))
}

fn chosen_services<'a>(s: &Scene<'a>) -> Result<Vec<&'a Service>, CommandError> {
    chosen(s, "name", s.config.services.iter().filter(|o| o.group.is_none()), |o| &o.name)
}

pub(super) fn services(s: &Scene<'_>) -> Result<String, CommandError> {
    let services = chosen_services(s)?;
    Ok(format!("\nService(s) Summary\n{}", service_table(s, services.into_iter(), "Name", |service| &service.name)))
}

/// Counters of services, a row each, under what `name` says.
fn service_table<'a>(
    s: &Scene<'_>,
    services: impl Iterator<Item = &'a Service>,
    title: &str,
    name: impl Fn(&'a Service) -> &'a str,
) -> String {
    let header =
        [title, "IP", "port", "Protocol", "State", "Hits", "SvrConn", "PktsTo", "PktsFrom", "BytesTo", "BytesFrom"];
    let mut rows: Vec<[String; 11]> = vec![header.map(str::to_owned)];
    for service in services {
        let f = s.facts.service(service.id);
        rows.push([
            name(service).to_owned(),
            s.config.service_address(service).to_string(),
            port(service.port),
            service.kind.word().to_owned(),
            health(service_health(s, service)).to_owned(),
            f.hits.to_string(),
            f.flows.to_string(),
            f.packets_in.to_string(),
            f.packets_out.to_string(),
            f.bytes_in.to_string(),
            f.bytes_out.to_string(),
        ]);
    }
    table(&rows)
}

pub(super) fn groups(s: &Scene<'_>) -> Result<String, CommandError> {
    let groups = super::group::chosen_groups(s)?;
    let members = groups.into_iter().flat_map(|group| super::group::members(s, group));
    let rows = service_table(s, members.map(|(service, _)| service), "Server", |service| &service.server);
    Ok(format!("\nService Group Member(s) Summary\n{rows}"))
}

pub(super) fn groups_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |group: &ServiceGroup| {
        let members = super::group::members(s, group);
        let rows = members.iter().map(|(service, _)| service_json(s, service)).collect();
        Json::Object(vec![
            ("servicegroupname", group.name().into()),
            ("servicetype", group.pattern.kind.word().into()),
            ("state", health(super::group::effective(s, group)).into()),
            ("servicegroupmember", Json::List(rows)),
        ])
    };
    Ok(Json::List(super::group::chosen_groups(s)?.into_iter().map(one).collect()))
}

pub(super) fn services_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    Ok(Json::List(chosen_services(s)?.into_iter().map(|service| service_json(s, service)).collect()))
}

fn service_json(s: &Scene<'_>, service: &Service) -> Json {
    let f = s.facts.service(service.id);
    let name = match &service.group {
        Some(group) => ("servicegroupname", group.clone().into()),
        None => ("name", service.name.clone().into()),
    };
    Json::Object(vec![
        name,
        ("servername", service.server.clone().into()),
        ("primaryipaddress", s.config.service_address(service).to_string().into()),
        ("primaryport", u64::from(service.port.unwrap_or(u16::MAX)).into()),
        ("servicetype", service.kind.word().into()),
        ("state", health(service_health(s, service)).into()),
        ("tothits", f.hits.to_string().into()),
        ("cursrvrconnections", f.flows.to_string().into()),
        ("surgecount", f.waiting.to_string().into()),
        ("totalpktssent", f.packets_in.to_string().into()),
        ("totalpktsrecvd", f.packets_out.to_string().into()),
        ("totalrequestbytes", f.bytes_in.to_string().into()),
        ("totalresponsebytes", f.bytes_out.to_string().into()),
    ])
}

/// The market's upper-case spelling; DRAINING is ours.
fn master_state(f: &HaFacts) -> &'static str {
    match f.role {
        HaRole::Init => "UNKNOWN",
        HaRole::Secondary if f.state == NodeState::StaySecondary => "STAYSECONDARY",
        HaRole::Secondary => "SECONDARY",
        HaRole::Primary => "PRIMARY",
        HaRole::Draining => "DRAINING",
    }
}

/// Counters call a node that only listens otherwise than `show` does.
fn system_state(state: NodeState) -> &'static str {
    if state == NodeState::StaySecondary { "DUMB" } else { super::ha::state_text(state) }
}

/// There are no files with counters of the past.
fn from_this_node(s: &Scene<'_>) -> Result<(), CommandError> {
    match s.command.option("logFile").and_then(Value::as_text) {
        Some(file) => Err(CommandError::about(messages::NOT_A_LOG_FILE, "logFile", file)),
        None => Ok(()),
    }
}

/// YES while there is a pair; the rest is not meaningful otherwise.
fn current_status(s: &Scene<'_>) -> &'static str {
    if s.config.ha.peer.is_some() { "YES" } else { "NO" }
}

pub(super) fn ha_node(s: &Scene<'_>) -> Result<String, CommandError> {
    from_this_node(s)?;
    let f: HaFacts = s.facts.ha();
    let mut text = "\nHigh Availability Summary\n".to_owned();
    text += &pairs(&[
        ("High Availability (HA)", current_status(s).to_owned()),
        ("System state", system_state(f.state).to_owned()),
        ("Master state (mastate)", master_state(&f).to_owned()),
        ("Last Transition time (TransTime)", calendar(f.last_transition)),
        ("Heartbeats received (HApktrx)", f.hellos_received.to_string()),
        ("Heartbeats sent (HApkttx)", f.hellos_sent.to_string()),
        ("Propagation timeouts (ptimeout)", f.propagation_timeouts.to_string()),
        ("Sync failure (syncfail)", f.sync_failures.to_string()),
    ]);
    if s.command.flag("detail") {
        text += &ha_detail(&f);
    }
    text += "\nConnection Mirroring\n";
    text += &pairs(&[
        ("Term", f.term.to_string()),
        ("Flows", f.flows.to_string()),
        ("Protected flows", f.protected.to_string()),
        ("Unprotected flows", f.unprotected.to_string()),
        ("Held packets", f.held.to_string()),
        ("Released unprotected", f.released_unprotected.to_string()),
        ("Unacknowledged records", f.unacked_records.to_string()),
        ("Mirror lag (us)", f.mirror_lag.as_micros().to_string()),
        ("Mean mirror delay (us)", f.mirror_delay.as_micros().to_string()),
        ("Mirrored flows", f.mirrored.to_string()),
        ("Mirror traffic (bytes/s)", f.mirror_rate.to_string()),
        ("Digest", super::ha::digest_text(f.digest)),
        ("Flows offered", f.offered.to_string()),
        ("Offers adopted", f.offers.0.to_string()),
        ("Offers refused", f.offers.1.to_string()),
        ("Refused peer messages", f.refused_messages.to_string()),
    ]);
    text +=
        &format!("Last resync: {}\n", f.resync.map_or("never".to_owned(), |resync| super::ha::resync_text(s, resync)));
    text += &format!("Last takeover: {}\n", f.takeover.map_or("never".to_owned(), super::ha::takeover_text));
    let drops = s.facts.node().drops;
    if !drops.is_empty() {
        text += "\nDrops\n";
        let lines: Vec<(&str, String)> = drops.iter().map(|(reason, n)| (*reason, n.to_string())).collect();
        text += &pairs(&lines);
    }
    Ok(text)
}

/// What `-detail` adds.
fn ha_detail(f: &HaFacts) -> String {
    let (received, sent) = f.hello_rates;
    "\nHigh Availability Detail\n".to_owned()
        + &pairs(&[
            ("Heartbeats received (/s)", received.to_string()),
            ("Heartbeats sent (/s)", sent.to_string()),
            ("Completed flips", f.flips.to_string()),
            ("Handshakes with the peer", f.security.handshakes.to_string()),
            ("Keys replaced", f.security.rekeys.to_string()),
            ("Failed handshakes", f.security.failures.to_string()),
        ])
}

pub(super) fn ha_node_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    from_this_node(s)?;
    let f = s.facts.ha();
    let (received, sent) = f.hello_rates;
    let fields = [
        ("hacurstatus", current_status(s).into()),
        ("hacurstate", system_state(f.state).into()),
        ("hacurmasterstate", master_state(&f).into()),
        ("transtime", calendar(f.last_transition).into()),
        ("hatotpktrx", f.hellos_received.to_string().into()),
        ("hapktrxrate", received.into()),
        ("hatotpkttx", f.hellos_sent.to_string().into()),
        ("hapkttxrate", sent.into()),
        ("haerrproptimeout", f.propagation_timeouts.to_string().into()),
        ("haerrsyncfailure", f.sync_failures.to_string().into()),
        ("term", f.term.into()),
    ];
    Ok(Json::Object(fields.into_iter().chain(super::ha::mirror_json(&f)).collect()))
}
