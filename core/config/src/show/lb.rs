//! Views of servers, services, monitors and vservers.

use super::{Scene, chosen, health, numbered, service_health, vserver_health};
use crate::error::CommandError;
use crate::facts::{Health, MonitorFacts, StandIn};
use crate::json::Json;
use crate::lines::port;
use crate::model::{AddressPattern, ConnFailover, LbVserver, Method, Persistence, Server, Service};
use crate::sessions::session_header;
use crate::spill::SpillMethod;
use crate::time::{calendar, millis, since};
use crate::value::mask_text;

pub(super) fn enabled(on: bool) -> &'static str {
    if on { "ENABLED" } else { "DISABLED" }
}

pub(super) fn yes_no(on: bool) -> &'static str {
    if on { "YES" } else { "NO" }
}

// Servers.

fn chosen_servers<'a>(s: &Scene<'a>) -> Result<Vec<&'a Server>, CommandError> {
    chosen(s, "name", s.config.servers.iter(), |o| &o.name)
}

pub(super) fn servers(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, server) in chosen_servers(s)?.into_iter().enumerate() {
        text += &format!("{}Name:     {}      State:{}\n", numbered(s, i), server.name, enabled(server.enabled));
        text += &format!("\tIPAddress:   {}\n", server.addr);
        let users = s.config.services.iter().filter(|service| service.server == server.name);
        for (n, service) in users.enumerate().filter(|_| s.command.text(0).is_some()) {
            let state = health(service_health(s, service));
            let (name, kind) = (service.group.as_ref().unwrap_or(&service.name), service.kind.word());
            text += &format!("{})\t{name} ({}: {}) - {kind} State: {state}\n", n + 1, server.addr, port(service.port));
        }
    }
    Ok(text)
}

pub(super) fn servers_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |server: &Server| {
        Json::Object(vec![
            ("name", server.name.clone().into()),
            ("ipaddress", server.addr.to_string().into()),
            ("state", enabled(server.enabled).into()),
            ("comment", server.comment.clone().into()),
        ])
    };
    Ok(Json::List(chosen_servers(s)?.into_iter().map(one).collect()))
}

// Services.

fn chosen_services<'a>(s: &Scene<'a>) -> Result<Vec<&'a Service>, CommandError> {
    chosen(s, "name", s.config.services.iter().filter(|o| o.group.is_none()), |o| &o.name)
}

pub(super) fn services(s: &Scene<'_>) -> Result<String, CommandError> {
    let single = s.command.text(0).is_some();
    let mut text = String::new();
    for (i, service) in chosen_services(s)?.into_iter().enumerate() {
        text += &service_lines(s, service, &numbered(s, i));
        if single {
            text += "\n";
            text += &service_monitors(s, service);
        }
    }
    Ok(text)
}

fn service_lines(s: &Scene<'_>, service: &Service, head: &str) -> String {
    let facts = s.facts.service(service.id);
    let addr = s.config.service_address(service);
    let mut lines = vec![format!("State: {}", health(service_health(s, service)))];
    // Nobody looks at what is not served.
    if facts.last_change != 0 {
        lines.push(format!("Last state change was at {}", calendar(facts.last_change)));
        lines.push(format!("Time since last state change: {}", since(s.facts.now(), facts.last_change)));
    }
    lines.extend([
        format!("Server Name: {}", service.server),
        format!("Server ID : None \tMonitor Threshold : {}", service.monitor_threshold),
        format!("Max Conn: {}\tMax Req: 0\tMax Bandwidth: 0 kbits", service.max_clients),
        format!("Use Source IP: {}", yes_no(service.usip)),
    ]);
    if service.usip {
        lines.push(format!("Use Proxy Port: {}", yes_no(service.use_proxy_port)));
    }
    if let Some(id) = service.hash_id {
        lines.push(format!("Hash Id: {id}"));
    }
    let (client, server) = (service.client_idle().as_secs(), service.server_idle().as_secs());
    lines.extend(["Client Keepalive(CKA): NO", "Access Down Service: NO"].map(str::to_owned));
    lines.push(format!("TCP Buffering(TCPB): {}", yes_no(service.tcp_buffering)));
    lines.push("HTTP Compression(CMP): NO".to_owned());
    lines.push(format!("Idle timeout: Client: {client} sec\tServer: {server} sec"));
    lines.extend(
        [
            "Client IP: DISABLED",
            "Cacheable: NO",
            "SC: OFF",
            if service.surge_protection { "SP: ON" } else { "SP: OFF" },
            "Down state flush: DISABLED",
            "Appflow logging: DISABLED",
            "Process Local: DISABLED",
            "Traffic Domain: 0",
        ]
        .map(str::to_owned),
    );
    if !service.comment.is_empty() {
        lines.push(format!("Comment: \"{}\"", service.comment));
    }
    if service.surge_protection {
        lines.push(format!("Surge Queue: {}", facts.waiting));
    }
    if service.tcp_buffering {
        lines.push("TCP Buffering has no effect in this release: packets are forwarded, not buffered".to_owned());
    }
    lines.extend(service.kind.unserved().map(not_served));
    let title = format!("{head}{} ({addr}:{}) - {}\n", service.name, port(service.port), service.kind.word());
    lines.iter().fold(title, |text, line| text + "\t" + line + "\n")
}

/// The line of what is kept and not served.
pub(super) fn not_served(why: &str) -> String {
    format!("not served by this release ({why})")
}

fn service_monitors(s: &Scene<'_>, service: &Service) -> String {
    let mut text = String::new();
    for (i, (monitor, weight)) in s.config.effective_monitors(service).iter().enumerate() {
        let facts = s.facts.monitor(service.id, &monitor.name);
        text += &format!("{})\tMonitor Name: {}\n", i + 1, monitor.name);
        text += &format!("\t\tState: {}\tWeight: {weight}\tPassive: 0\n", health(facts.health));
        text += &probe_lines(&facts);
    }
    text
}

/// What the probes of one monitor came to.
pub(super) fn probe_lines(facts: &MonitorFacts) -> String {
    let (probes, total, current) = (facts.probes, facts.failed_total, facts.failed_current);
    let mut text = format!("\t\tProbes: {probes}\tFailed [Total: {total} Current: {current}]\n");
    if !facts.last_response.is_empty() {
        text += &format!("\t\tLast response: {}\n", facts.last_response);
    }
    text + &format!("\t\tResponse Time: {} millisec\n", millis(facts.response_time))
}

pub(super) fn services_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |service: &Service| {
        let facts = s.facts.service(service.id);
        let monitors = s.config.effective_monitors(service);
        let names = monitors.iter().map(|(m, _)| Json::from(m.name.as_str())).collect();
        Json::Object(vec![
            ("name", service.name.clone().into()),
            ("servername", service.server.clone().into()),
            ("ipaddress", s.config.service_address(service).to_string().into()),
            ("servicetype", service.kind.word().into()),
            ("port", u64::from(service.port.unwrap_or(u16::MAX)).into()),
            ("svrstate", health(service_health(s, service)).into()),
            ("usip", yes_no(service.usip).into()),
            ("useproxyport", yes_no(service.use_proxy_port).into()),
            ("maxclient", u64::from(service.max_clients).into()),
            ("sp", if service.surge_protection { "ON" } else { "OFF" }.into()),
            ("tcpb", yes_no(service.tcp_buffering).into()),
            ("clttimeout", service.client_idle().as_secs().into()),
            ("svrtimeout", service.server_idle().as_secs().into()),
            ("healthmonitor", yes_no(service.health_monitor).into()),
            ("monthreshold", u64::from(service.monitor_threshold).into()),
            ("hashid", u64::from(service.hash_id.unwrap_or(0)).into()),
            ("state", enabled(service.enabled).into()),
            ("comment", service.comment.clone().into()),
            ("statechangetimesec", calendar(facts.last_change).into()),
            ("tickssincelaststatechange", ticks(s, facts.last_change).into()),
            ("monitor_name", Json::List(names)),
            ("notserved", service.kind.unserved().unwrap_or_default().into()),
        ])
    };
    Ok(Json::List(chosen_services(s)?.into_iter().map(one).collect()))
}

/// Hundredths of a second since then, as the REST interface counts.
pub(super) fn ticks(s: &Scene<'_>, then: u64) -> String {
    (s.facts.now().saturating_sub(then) / 10).to_string()
}

// Vservers.

fn chosen_vservers<'a>(s: &Scene<'a>) -> Result<Vec<&'a LbVserver>, CommandError> {
    chosen(s, "name", s.config.vservers.iter(), |o| &o.name)
}

/// `192.0.2.10:8080`, or `192.0.2.0/255.255.255.0:8080` for a pattern and its mask.
fn place(vserver: &LbVserver) -> String {
    let addr = match vserver.pattern {
        Some(AddressPattern { pattern, mask }) => format!("{pattern}/{mask}"),
        None => vserver.addr.map_or("*".to_owned(), |a| a.to_string()),
    };
    format!("{addr}:{}", port(vserver.port))
}

/// Bound services, and how many of them are UP.
pub(super) fn bound<'a>(s: &Scene<'a>, vserver: &'a LbVserver) -> (Vec<(&'a Service, u8)>, usize) {
    let services: Vec<(&Service, u8)> = s.config.bound_services(vserver).collect();
    let up = services.iter().filter(|(x, _)| service_health(s, x) == Health::Up).count();
    (services, up)
}

pub(super) fn vservers(s: &Scene<'_>) -> Result<String, CommandError> {
    let single = s.command.text(0).is_some();
    let mut text = String::new();
    for (i, vserver) in chosen_vservers(s)?.into_iter().enumerate() {
        let kind = vserver.kind.word();
        text += &format!("{}{} ({}) - {kind}\tType: ADDRESS \n", numbered(s, i), vserver.name, place(vserver));
        let lines = state_lines(s, vserver).into_iter().chain(setting_lines(s, vserver)).chain(our_lines(s, vserver));
        lines.for_each(|line| text += &format!("\t{line}\n"));
        if single {
            text += &bound_lines(s, vserver);
        }
    }
    Ok(text)
}

/// Bound services, then bound service groups with their members.
fn bound_lines(s: &Scene<'_>, vserver: &LbVserver) -> String {
    let line = |service: &Service, name: &str, weight: u8| {
        let (addr, port) = (s.config.service_address(service), port(service.port));
        let (kind, state) = (service.kind.word(), health(service_health(s, service)));
        format!("{name} ({addr}: {port}) - {kind} State: {state}\tWeight: {weight}\n")
    };
    let (services, _) = bound(s, vserver);
    let own = services.iter().filter(|(service, _)| service.group.is_none());
    let mut text = String::new();
    for (n, (service, weight)) in own.enumerate() {
        text += &format!("{})\t{}", n + 1, line(service, &service.name, *weight));
    }
    let groups = vserver.bindings.iter().filter_map(|binding| s.config.group(&binding.service));
    for (n, group) in groups.enumerate() {
        text += if n == 0 { "\nBound Service Groups:\n" } else { "" };
        text += &format!("{})\tGroup Name: {}\n", n + 1, group.name());
        let members = services.iter().filter(|(service, _)| service.group.as_deref() == Some(group.name()));
        for (n, (member, weight)) in members.enumerate() {
            text += &format!("\t\t{})\t{}", n + 1, line(member, group.name(), *weight));
        }
    }
    text
}

fn state_lines(s: &Scene<'_>, vserver: &LbVserver) -> Vec<String> {
    let facts = s.facts.vserver(vserver.id);
    let state = health(vserver_health(s, vserver));
    let arp = if vserver.addr.is_some_and(|a| a.is_unspecified()) { "  ARP:DISABLED" } else { "" };
    let (services, up) = bound(s, vserver);
    let mut lines = vec![
        format!("State: {state}"),
        format!("Last state change was at {}", calendar(facts.last_change)),
        format!("Time since last state change: {}", since(s.facts.now(), facts.last_change)),
        format!("Effective State: {}{arp}", health(effective_health(s, vserver))),
        format!("Client Idle Timeout: {} sec", vserver.client_idle().as_secs()),
        "Down state flush: DISABLED".to_owned(),
        "Disable Primary Vserver On Down : DISABLED".to_owned(),
    ];
    if !vserver.comment.is_empty() {
        lines.push(format!("Comment: \"{}\"", vserver.comment));
    }
    lines.push("Appflow logging: DISABLED".to_owned());
    lines.push(format!("No. of Bound Services :  {} (Total) \t {up} (Active)", services.len()));
    lines
}

/// The health of a vserver, or of who serves in its place.
fn effective_health(s: &Scene<'_>, vserver: &LbVserver) -> Health {
    match s.config.chain(vserver).any(|serving| vserver_health(s, serving) == Health::Up) {
        true => Health::Up,
        false => vserver_health(s, vserver),
    }
}

/// Who serves in its place, and when.
fn spill_lines(vserver: &LbVserver) -> Vec<String> {
    let spill = &vserver.spill;
    let mut lines = Vec::new();
    lines.extend(spill.backup.as_ref().map(|name| format!("Backup: {name}")));
    if spill.health_threshold > 0 {
        lines.push(format!("Health Threshold: {}", spill.health_threshold));
    }
    if spill.method != SpillMethod::None {
        let threshold = spill.threshold.map_or("maxClient".to_owned(), |n| n.to_string());
        let action = if spill.accepts { "ACCEPT" } else { "DROP" };
        lines.push(format!(
            "Spill over Method: {}\tThreshold: {threshold}\tBackup Action: {action}",
            spill.method.word()
        ));
    }
    lines
}

/// What chooses instead of the vserver's method, why, and the market's number of the reason.
fn stand_in(s: &Scene<'_>, vserver: &LbVserver) -> Option<(Method, &'static str, u64)> {
    let backup = vserver.backup.as_last_resort();
    match (s.facts.vserver(vserver.id).stand_in, vserver.method) {
        (Some(why @ StandIn::MonitorsSilent), Method::CustomLoad) => {
            Some((Method::RoundRobin, why.text(), why.number()))
        }
        (Some(why @ StandIn::MonitorsSilent), _) => Some((backup, why.text(), why.number())),
        (Some(why), _) => Some((Method::RoundRobin, why.text(), why.number())),
        (None, Method::CustomLoad) => Some((vserver.backup, "No load monitor is active", NO_LOAD_MONITOR)),
        (None, _) => None,
    }
}

/// The market's number for a load monitor that says nothing.
const NO_LOAD_MONITOR: u64 = 7;

/// The market writes this one in words.
fn in_words(method: Method) -> &'static str {
    if method == Method::RoundRobin { "Round Robin" } else { method.word() }
}

fn method_lines(s: &Scene<'_>, vserver: &LbVserver) -> Vec<String> {
    let own = format!("Configured Method: {}", vserver.method.word());
    let backup = match vserver.method {
        Method::RoundRobin => String::new(),
        _ => format!("\tBackupMethod: {}", vserver.backup.word()),
    };
    let mut lines = match stand_in(s, vserver) {
        Some((method, why, _)) => {
            vec![own, format!("Current Method: {}, Reason: {why}{backup}", in_words(method))]
        }
        None => vec![own + &backup],
    };
    let (mask, v6_len) = (vserver.hash_mask, vserver.v6_hash_mask_len);
    if vserver.method.is_masked() && (mask, v6_len) != (32, 128) {
        lines.push(format!("Hash Netmask: {}\tv6 Netmask Length: {v6_len}", mask_text(mask)));
    }
    lines
}

fn setting_lines(s: &Scene<'_>, vserver: &LbVserver) -> Vec<String> {
    let persistence = match (vserver.persistence, vserver.addr) {
        (Persistence::None, _) => "NONE".to_owned(),
        (kind @ (Persistence::SourceIp | Persistence::DestIp | Persistence::SrcIpDestIp), addr) => {
            let mask = match addr {
                Some(core::net::IpAddr::V6(_)) => format!("Persistence v6MaskLength: {}", vserver.v6_persist_mask_len),
                Some(core::net::IpAddr::V4(_)) | None => {
                    format!("Persistence Mask: {}", mask_text(vserver.persist_mask))
                }
            };
            format!("{}\t{mask}\tPersistence Timeout: {} min", kind.word(), vserver.persistence_timeout)
        }
    };
    let mut lines = method_lines(s, vserver);
    lines.extend(spill_lines(vserver));
    lines.push(format!("Mode: {}", vserver.redirection.word()));
    lines.push(format!("Persistence: {persistence}"));
    if vserver.sessionless {
        lines.push("Sessionless: ENABLED".to_owned());
    }
    // A type that cannot fail over has no such line.
    if vserver.kind.unserved().is_none() {
        lines.push(format!("Connection Failover: {}", vserver.failover.word()));
    }
    if vserver.close_on_response {
        lines.push("Close On Response: ENABLED".to_owned());
    }
    lines.extend(
        [
            "L2Conn: OFF",
            "Skip Persistency: None",
            "Listen Policy: NONE",
            "IcmpResponse: PASSIVE",
            "RHIstate: PASSIVE",
            "New Service Startup Request Rate: 0 PER_SECOND, Increment Interval: 0",
            "Mac mode Retain Vlan: DISABLED",
            "DBS_LB: DISABLED",
            "Process Local: DISABLED",
            "Traffic Domain: 0",
            "TROFS Persistence honored: ENABLED",
            "Retain Connections on Cluster: NO",
        ]
        .map(str::to_owned),
    );
    lines
}

/// Lines the market does not have, behind its own.
fn our_lines(s: &Scene<'_>, vserver: &LbVserver) -> Vec<String> {
    let facts = s.facts.vserver(vserver.id);
    let (flows, protected, unprotected) = (facts.client_flows, facts.protected, facts.unprotected);
    let counted = match vserver.failover {
        ConnFailover::Stateful => format!("Flows: {flows}  Protected: {protected}  Unprotected: {unprotected}"),
        ConnFailover::Disabled | ConnFailover::Stateless => format!("Flows: {flows}"),
    };
    [counted].into_iter().chain(vserver.unserved().map(not_served)).collect()
}

/// The heading: the rows come from the node.
pub(super) fn session_list(s: &Scene<'_>) -> Result<String, CommandError> {
    s.command.session_scope(s.config)?;
    Ok(session_header() + "\n")
}

pub(super) fn vservers_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    Ok(Json::List(chosen_vservers(s)?.into_iter().map(|v| vserver_json(s, v)).collect()))
}

fn vserver_json(s: &Scene<'_>, v: &LbVserver) -> Json {
    let facts = s.facts.vserver(v.id);
    let state = health(vserver_health(s, v));
    let (services, up) = bound(s, v);
    let binding = |(service, weight): &(&Service, u8)| {
        let name = match &service.group {
            Some(group) => ("servicegroupname", group.clone().into()),
            None => ("servicename", service.name.clone().into()),
        };
        Json::Object(vec![
            ("name", v.name.clone().into()),
            name,
            ("ipv46", s.config.service_address(service).to_string().into()),
            ("port", u64::from(service.port.unwrap_or(u16::MAX)).into()),
            ("servicetype", service.kind.word().into()),
            ("curstate", health(service_health(s, service)).into()),
            ("weight", weight.to_string().into()),
        ])
    };
    let rows = |kind: &dyn Fn(&Service) -> bool| {
        Json::List(services.iter().filter(|(service, _)| kind(service)).map(binding).collect())
    };
    Json::Object(vec![
        ("name", v.name.clone().into()),
        ("ipv46", v.addr.map_or("*".to_owned(), |a| a.to_string()).into()),
        ("ippattern", v.pattern.map(|p| p.pattern.to_string()).unwrap_or_default().into()),
        ("ipmask", v.pattern.map(|p| p.mask.to_string()).unwrap_or_default().into()),
        ("port", u64::from(v.port.unwrap_or(u16::MAX)).into()),
        ("servicetype", v.kind.word().into()),
        ("type", "ADDRESS".into()),
        ("curstate", state.into()),
        ("effectivestate", health(effective_health(s, v)).into()),
        ("backupvserver", v.spill.backup.clone().unwrap_or_default().into()),
        ("healththreshold", u64::from(v.spill.health_threshold).into()),
        ("somethod", v.spill.method.word().into()),
        ("sothreshold", u64::from(v.spill.threshold.unwrap_or(0)).into()),
        ("clttimeout", v.client_idle().as_secs().to_string().into()),
        ("lbmethod", v.method.word().into()),
        ("backuplbmethod", v.backup.word().into()),
        ("netmask", mask_text(v.hash_mask).into()),
        ("v6netmasklen", v.v6_hash_mask_len.to_string().into()),
        ("lbrrreason", stand_in(s, v).map_or(0, |(_, _, number)| number).into()),
        ("persistencetype", v.persistence.word().into()),
        ("timeout", u64::from(v.persistence_timeout).into()),
        ("persistmask", mask_text(v.persist_mask).into()),
        ("v6persistmasklen", v.v6_persist_mask_len.to_string().into()),
        ("m", v.redirection.word().into()),
        ("sessionless", enabled(v.sessionless).into()),
        ("connfailover", v.failover.word().into()),
        ("closeonresponse", enabled(v.close_on_response).into()),
        ("state", enabled(v.enabled).into()),
        ("comment", v.comment.clone().into()),
        ("totalservices", services.len().to_string().into()),
        ("activeservices", up.to_string().into()),
        ("statechangetimesec", calendar(facts.last_change).into()),
        ("tickssincelaststatechange", ticks(s, facts.last_change).into()),
        ("hits", facts.hits.to_string().into()),
        ("flows", facts.client_flows.into()),
        ("protectedflows", facts.protected.into()),
        ("unprotectedflows", facts.unprotected.into()),
        ("notserved", v.unserved().unwrap_or_default().into()),
        ("lbvserver_service_binding", rows(&|service| service.group.is_none())),
        ("lbvserver_servicegroupmember_binding", rows(&|service| service.group.is_some())),
    ])
}
