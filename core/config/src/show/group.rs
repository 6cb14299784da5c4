//! Views of service groups.

use super::lb::{enabled, not_served, probe_lines, ticks, yes_no};
use super::{Scene, chosen, health, numbered, service_health};
use crate::error::CommandError;
use crate::facts::Health;
use crate::group::ServiceGroup;
use crate::json::Json;
use crate::lines::port;
use crate::model::Service;
use crate::time::{calendar, since};

pub(super) fn chosen_groups<'a>(s: &Scene<'a>) -> Result<Vec<&'a ServiceGroup>, CommandError> {
    chosen(s, "serviceGroupName", s.config.groups.iter(), |group| group.name())
}

/// Members with their weights, in the order of binding.
pub(super) fn members<'a>(s: &Scene<'a>, group: &'a ServiceGroup) -> Vec<(&'a Service, u8)> {
    group.members.iter().filter_map(|m| Some((s.config.service(&m.service)?, m.weight))).collect()
}

/// UP with one member that is.
pub(super) fn effective(s: &Scene<'_>, group: &ServiceGroup) -> Health {
    match (group.pattern.enabled, members(s, group).iter().any(|(m, _)| service_health(s, m) == Health::Up)) {
        (false, _) => Health::OutOfService,
        (true, true) => Health::Up,
        (true, false) => Health::Down,
    }
}

pub(super) fn groups(s: &Scene<'_>) -> Result<String, CommandError> {
    let with_members = s.command.text(0).is_some() || s.command.flag("includeMembers");
    let mut text = String::new();
    for (i, group) in chosen_groups(s)?.into_iter().enumerate() {
        text += &settings(s, group, &numbered(s, i));
        if with_members {
            text += &format!("\n\n{}", monitors(group));
            for (n, (member, weight)) in members(s, group).into_iter().enumerate() {
                text += &member_lines(s, n + 1, member, weight);
            }
        }
    }
    Ok(text)
}

fn settings(s: &Scene<'_>, group: &ServiceGroup, head: &str) -> String {
    let of = &group.pattern;
    let (state, effective) = (enabled(of.enabled), health(effective(s, group)));
    let (client, server) = (of.client_idle().as_secs(), of.server_idle().as_secs());
    let mut lines = vec![
        format!("State: {state}\tEffective State: {effective}\tMonitor Threshold : {}", of.monitor_threshold),
        format!("Max Conn: {}\tMax Req: 0\tMax Bandwidth: 0 kbits", of.max_clients),
        format!("Use Source IP: {}", yes_no(of.usip)),
    ];
    if of.usip {
        lines.push(format!("Use Proxy Port: {}", yes_no(of.use_proxy_port)));
    }
    lines.push("Client Keepalive(CKA): NO".to_owned());
    lines.push(format!("TCP Buffering(TCPB): {}", yes_no(of.tcp_buffering)));
    lines.push("HTTP Compression(CMP): NO".to_owned());
    lines.push(format!("Idle timeout: Client: {client} sec\tServer: {server} sec"));
    let sp = if of.surge_protection { "SP: ON" } else { "SP: OFF" };
    let some = ["Client IP: DISABLED", "Cacheable: NO", "SC: OFF", sp, "Down state flush: DISABLED"];
    lines.extend(some.map(str::to_owned));
    lines.extend(["Appflow logging: DISABLED", "Process Local: DISABLED", "Traffic Domain: 0"].map(str::to_owned));
    if !of.comment.is_empty() {
        lines.push(format!("Comment: \"{}\"", of.comment));
    }
    lines.extend(of.kind.unserved().map(not_served));
    let title = format!("{head}{} - {}\n", group.name(), of.kind.word());
    lines.iter().fold(title, |text, line| text + "\t" + line + "\n")
}

/// Monitors of every member.
fn monitors(group: &ServiceGroup) -> String {
    let line = |(n, bound): (usize, &crate::model::MonitorBinding)| {
        let (name, state, weight) = (&bound.monitor, enabled(bound.enabled), bound.weight);
        format!("\t{})\tMonitor Name: {name}\n\t\tState: {state}\tWeight: {weight}\tPassive: 0\n", n + 1)
    };
    let text: String = group.pattern.monitors.iter().enumerate().map(line).collect();
    if text.is_empty() { text } else { text + "\n" }
}

fn member_lines(s: &Scene<'_>, n: usize, member: &Service, weight: u8) -> String {
    let facts = s.facts.service(member.id);
    let (addr, port, state) = (s.config.service_address(member), port(member.port), health(service_health(s, member)));
    let hash = member.hash_id.map_or(String::new(), |id| format!("\tHash Id: {id}"));
    let mut text = format!(
        "\t{n})\t{addr}:{port}\tState: {state}\tServer Name: {}\tServer ID: None\tWeight: {weight}{hash}\n",
        member.server
    );
    // Nobody looks at what is not served.
    if facts.last_change != 0 {
        text += &format!("\t\tLast state change was at {}\n", calendar(facts.last_change));
        text += &format!("\t\tTime since last state change: {}\n", since(s.facts.now(), facts.last_change));
    }
    text += "\n";
    for (monitor, _) in s.config.effective_monitors(member) {
        let facts = s.facts.monitor(member.id, &monitor.name);
        text += &format!("\t\tMonitor Name: {}\tState: {}\tPassive: 0\n", monitor.name, health(facts.health));
        text += &probe_lines(&facts);
    }
    text
}

pub(super) fn groups_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    Ok(Json::List(chosen_groups(s)?.into_iter().map(|group| group_json(s, group)).collect()))
}

fn group_json(s: &Scene<'_>, group: &ServiceGroup) -> Json {
    let of = &group.pattern;
    let member = |(member, weight): (&Service, u8)| {
        let facts = s.facts.service(member.id);
        Json::Object(vec![
            ("servicegroupname", group.name().into()),
            ("ip", s.config.service_address(member).to_string().into()),
            ("servername", member.server.clone().into()),
            ("port", u64::from(member.port.unwrap_or(u16::MAX)).into()),
            ("svrstate", health(service_health(s, member)).into()),
            ("state", enabled(member.enabled).into()),
            ("weight", weight.to_string().into()),
            ("hashid", u64::from(member.hash_id.unwrap_or(0)).into()),
            ("statechangetimesec", calendar(facts.last_change).into()),
            ("tickssincelaststatechange", ticks(s, facts.last_change).into()),
        ])
    };
    let monitor = |bound: &crate::model::MonitorBinding| {
        Json::Object(vec![
            ("servicegroupname", group.name().into()),
            ("monitor_name", bound.monitor.clone().into()),
            ("weight", bound.weight.to_string().into()),
            ("monstate", enabled(bound.enabled).into()),
        ])
    };
    Json::Object(vec![
        ("servicegroupname", group.name().into()),
        ("servicetype", of.kind.word().into()),
        ("state", enabled(of.enabled).into()),
        ("servicegroupeffectivestate", health(effective(s, group)).into()),
        ("usip", yes_no(of.usip).into()),
        ("useproxyport", yes_no(of.use_proxy_port).into()),
        ("tcpb", yes_no(of.tcp_buffering).into()),
        ("clttimeout", of.client_idle().as_secs().into()),
        ("svrtimeout", of.server_idle().as_secs().into()),
        ("healthmonitor", yes_no(of.health_monitor).into()),
        ("monthreshold", u64::from(of.monitor_threshold).into()),
        ("comment", of.comment.clone().into()),
        ("notserved", of.kind.unserved().unwrap_or_default().into()),
        ("servicegroup_servicegroupmember_binding", Json::List(members(s, group).into_iter().map(member).collect())),
        ("servicegroup_lbmonitor_binding", Json::List(of.monitors.iter().map(monitor).collect())),
    ])
}
