//! The configuration written back as commands.

use crate::config::{Config, Scope};
use crate::group::ServiceGroup;
use crate::model::{Interface, IpKind, LbVserver, Leaving, Modes, NsIp, Route, RouteMonitor, RpcNode, Service};
use crate::monitor::Monitor;
use crate::options::Options;
use crate::table::{Change, GroupChange, Opt, PortChange, options_of};
use crate::value::{Value, mask_text, quote};

/// For whom the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// For replay: passwords as they are kept, defaults left out.
    File,
    /// For eyes: passwords hidden.
    Shown {
        /// With settings that have their default.
        defaults: bool,
    },
}

pub(crate) fn lines(config: &Config, scope: Scope, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    match scope {
        Scope::All => {
            local(config, style, &mut lines);
            shared(config, style, &mut lines);
        }
        Scope::Local => local(config, style, &mut lines),
        Scope::Shared => shared(config, style, &mut lines),
    }
    lines
}

fn local(config: &Config, style: Style, lines: &mut Vec<String>) {
    if let Some(addr) = config.ns_config.addr {
        let mask = mask_text(config.ns_config.prefix_len);
        lines.push(format!("set ns config -IPAddress {addr} -netmask {mask}"));
    }
    let interface =
        |i: &Interface| format!("add interface {}", i.id) + &options(i, Change::Ports(PortChange::AddInterface), style);
    lines.extend(config.interfaces.iter().map(interface));
    let disabled = config.interfaces.iter().filter(|i| !i.enabled);
    lines.extend(disabled.map(|i| format!("disable interface {}", i.id)));
    ports(config, lines);
    lines.extend(with_options("set HA node", &config.ha, Change::SetHaNode, style));
    let inc = if config.ha.inc { " -inc ENABLED" } else { "" };
    lines.extend(config.ha.peer.map(|p| format!("add HA node {} {}{inc}", p.id, p.addr)));
    let rpc = |n: &RpcNode| with_options(&format!("set ns rpcNode {}", n.addr), n, Change::SetRpcNode, style);
    lines.extend(config.rpc_nodes.iter().filter_map(rpc));
    if config.ha.inc {
        lines.extend(config.ips.iter().filter(|i| i.kind == IpKind::Snip).map(|i| ip(i, style)));
        lines.extend(config.routes.iter().map(route));
    }
    lines.extend(config.ha.route_monitors.iter().map(|m| format!("bind HA node -routeMonitor {}", route_monitor(*m))));
    let hook = |h: &crate::model::Hook| format!("add HA hook {}", quote(&h.name)) + &options(h, Change::AddHook, style);
    lines.extend(config.hooks.iter().map(hook));
}

/// What belongs to several interfaces.
fn ports(config: &Config, lines: &mut Vec<String>) {
    for set in &config.failover_sets {
        lines.push(format!("add fis {}", quote(&set.name)));
        lines.extend(set.members.iter().map(|id| format!("bind fis {} {id}", quote(&set.name))));
    }
    for router in &config.virtual_routers {
        lines.push(format!("add vrID {}", router.id));
        lines.extend(router.interfaces.iter().map(|id| format!("bind vrID {} -ifnum {id}", router.id)));
    }
}

/// A monitored route as commands write it.
pub(crate) fn route_monitor(monitor: RouteMonitor) -> String {
    match monitor {
        RouteMonitor::Default => "*".to_owned(),
        RouteMonitor::To { network, prefix_len } if network.is_ipv4() => format!("{network} {}", mask_text(prefix_len)),
        RouteMonitor::To { network, prefix_len } => format!("{network}/{prefix_len}"),
    }
}

fn shared(config: &Config, style: Style, lines: &mut Vec<String>) {
    lines.extend(modes(config.modes));
    lines.extend(config.surge.enabled.then(|| "enable ns feature SP".to_owned()));
    lines.extend(with_options("set ns spParams", &config.surge, Change::SetSurge, style));
    let stays = |ip: &NsIp| ip.implicit || config.ha.inc && ip.kind == IpKind::Snip;
    lines.extend(config.ips.iter().filter(|i| !stays(i)).map(|i| ip(i, style)));
    if !config.ha.inc {
        lines.extend(config.routes.iter().map(route));
    }
    for server in config.servers.iter() {
        let head = format!("add server {} {}", quote(&server.name), server.addr);
        lines.push(head.clone() + &options(server, Change::AddServer, style));
    }
    let services = config.services.iter().filter(|service| service.group.is_none());
    lines.extend(services.clone().map(|s| service(s, style)));
    lines.extend(config.groups.iter().map(|g| group(g, style)));
    lines.extend(config.monitors.iter().map(|m| monitor(m, style)));
    lines.extend(services.flat_map(|s| monitor_bindings("bind service", s)));
    for group in config.groups.iter() {
        lines.extend(members(config, group));
        lines.extend(monitor_bindings("bind serviceGroup", &group.pattern));
    }
    lines.extend(leavers(config).into_iter().map(going));
    lines.extend(config.vservers.iter().map(|v| vserver(v, style)));
    let backup = |v: &LbVserver| {
        let name = v.spill.backup.as_ref()?;
        Some(format!("set lb vserver {} -backupVServer {}", quote(&v.name), quote(name)))
    };
    lines.extend(config.vservers.iter().filter_map(backup));
    lines.extend(config.vservers.iter().flat_map(bindings));
}

/// Whether a service belongs to what is leaving.
type IsPart<'a> = Box<dyn Fn(&Service) -> bool + 'a>;

/// What is going out of service: the command that ends it, how it goes, and which services are part of it.
pub(crate) fn leavers(config: &Config) -> Vec<(String, Leaving, IsPart<'_>)> {
    let mut found: Vec<(String, Leaving, IsPart<'_>)> = Vec::new();
    for server in config.servers.iter() {
        let line = format!("disable server {}", quote(&server.name));
        found.extend(server.leaving.map(|l| (line, l, Box::new(|s: &Service| s.server == server.name) as IsPart<'_>)));
    }
    for service in config.services.iter() {
        let line = match &service.group {
            Some(group) => {
                let (group, server) = (quote(group), quote(&service.server));
                format!("disable serviceGroup {group} {server} {}", port(service.port))
            }
            None => format!("disable service {}", quote(&service.name)),
        };
        found.extend(service.leaving.map(|l| (line, l, Box::new(|s: &Service| s.id == service.id) as IsPart<'_>)));
    }
    for group in config.groups.iter() {
        let line = format!("disable serviceGroup {}", quote(group.name()));
        let is_member = |s: &Service| s.group.as_deref() == Some(group.name());
        found.extend(group.pattern.leaving.map(|l| (line, l, Box::new(is_member) as IsPart<'_>)));
    }
    found
}

/// The command that makes something go as it goes.
fn going((line, leaving, _): (String, Leaving, IsPart<'_>)) -> String {
    let option = if line.starts_with("disable serviceGroup") { " -delay" } else { "" };
    let delay = leaving.delay_s.map_or(String::new(), |seconds| format!("{option} {seconds}"));
    let graceful = if leaving.graceful { " -graceFul YES" } else { "" };
    format!("{line}{delay}{graceful}")
}

fn modes(modes: Modes) -> Vec<String> {
    let default = Modes::default();
    let line = |on: bool, default: bool, name: &str| {
        (on != default).then(|| format!("{} ns mode {name}", if on { "enable" } else { "disable" }))
    };
    [line(modes.l3, default.l3, "L3"), line(modes.usip, default.usip, "USIP")].into_iter().flatten().collect()
}

fn ip(ip: &NsIp, style: Style) -> String {
    let head = match ip.addr.is_ipv4() {
        true => format!("add ns ip {} {}", ip.addr, mask_text(ip.prefix_len)),
        false => format!("add ns ip6 {}/{}", ip.addr, ip.prefix_len),
    };
    let listed = match ip.addr.is_ipv4() {
        true => options_of(Change::AddIp).to_vec(),
        false => options_of(Change::AddIp).iter().map(|o| if o.name == "arp" { nd(o) } else { *o }).collect(),
    };
    debug_assert!(ip.kind == IpKind::Vip || ip.kind == IpKind::Snip);
    head + &listed_options(ip, &listed, style)
}

/// The IPv6 name of `-arp`.
fn nd(arp: &Opt) -> Opt {
    Opt { name: "nd", ..*arp }
}

fn route(route: &Route) -> String {
    match route.network.is_ipv4() {
        true => format!("add route {} {} {}", route.network, mask_text(route.prefix_len), route.gateway),
        false => format!("add route6 {}/{} {}", route.network, route.prefix_len, route.gateway),
    }
}

/// A port as commands write it.
pub(crate) fn port(port: Option<u16>) -> String {
    port.map_or("*".to_owned(), |p| p.to_string())
}

fn service(s: &Service, style: Style) -> String {
    let head = format!("add service {} {} {} {}", quote(&s.name), quote(&s.server), s.kind.word(), port(s.port));
    head + &options(s, Change::AddService, style)
}

/// The command that makes a monitor.
pub(crate) fn monitor(m: &Monitor, style: Style) -> String {
    format!("add lb monitor {} {}", quote(&m.name), m.kind.word()) + &options(m, Change::AddMonitor, style)
}

fn group(g: &ServiceGroup, style: Style) -> String {
    let head = format!("add serviceGroup {} {}", quote(g.name()), g.pattern.kind.word());
    head + &options(g, Change::Group(GroupChange::Add), style)
}

fn members(config: &Config, group: &ServiceGroup) -> Vec<String> {
    let line = |m: &crate::model::Binding| {
        let member = config.services.get(&m.service)?;
        let state = if member.enabled { "" } else { " -state DISABLED" };
        let hash = member.hash_id.map_or(String::new(), |id| format!(" -hashId {id}"));
        let (group, server) = (quote(group.name()), quote(&member.server));
        Some(format!("bind serviceGroup {group} {server} {}{}{state}{hash}", port(member.port), weight(m.weight)))
    };
    group.members.iter().filter_map(line).collect()
}

/// A weight, if it is not the usual one.
fn weight(weight: u8) -> String {
    if weight == 1 { String::new() } else { format!(" -weight {weight}") }
}

fn monitor_bindings(head: &str, s: &Service) -> Vec<String> {
    let line = |b: &crate::model::MonitorBinding| {
        let state = if b.enabled { "" } else { " -monState DISABLED" };
        format!("{head} {} -monitorName {}{state}{}", quote(&s.name), quote(&b.monitor), weight(b.weight))
    };
    s.monitors.iter().map(line).collect()
}

fn vserver(v: &LbVserver, style: Style) -> String {
    let addr = v.addr.map_or("*".to_owned(), |a| a.to_string());
    let head = format!("add lb vserver {} {} {addr} {}", quote(&v.name), v.kind.word(), port(v.port));
    // Who serves in its place may not be there yet.
    let listed: Vec<Opt> =
        options_of(Change::AddVserver).iter().filter(|o| o.name != "backupVServer").copied().collect();
    head + &listed_options(v, &listed, style)
}

fn bindings(v: &LbVserver) -> Vec<String> {
    let line = |b: &crate::model::Binding| {
        format!("bind lb vserver {} {}{}", quote(&v.name), quote(&b.service), weight(b.weight))
    };
    v.bindings.iter().map(line).collect()
}

/// A `set` line, if there is anything to set.
fn with_options(head: &str, object: &impl Options, change: Change, style: Style) -> Option<String> {
    let options = options(object, change, style);
    (!options.is_empty()).then(|| format!("{head}{options}"))
}

fn options(object: &impl Options, change: Change, style: Style) -> String {
    listed_options(object, options_of(change), style)
}

fn listed_options(object: &impl Options, listed: &[Opt], style: Style) -> String {
    let mut text = String::new();
    for opt in listed.iter().filter(|o| !o.neutral) {
        let Some(value) = object.get(opt.name) else { continue };
        let with_defaults = style == Style::Shown { defaults: true };
        if !with_defaults && !opt.always && opt.default_value().as_ref() == Some(&value) {
            continue;
        }
        text.push_str(&format!(" -{}", opt.name));
        if value != Value::Flag {
            text.push_str(&format!(" {}", value.shown(&opt.kind, style != Style::File)));
        }
    }
    text
}
