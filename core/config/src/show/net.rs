//! Views of addresses, routes, modes, ports and the node itself.

use super::Scene;
use crate::command::Command;
use crate::config::Scope;
use crate::connections::{ConnectionFilter, connection_header};
use crate::error::{CommandError, messages};
use crate::json::Json;
use crate::lines::{Style, lines};
use crate::model::{IpKind, NsIp};
use crate::time::calendar;
use crate::value::mask_text;

fn on_off(on: bool) -> &'static str {
    if on { "Enabled" } else { "Disabled" }
}

fn upper(on: bool) -> &'static str {
    if on { "ENABLED" } else { "DISABLED" }
}

/// The addresses asked for.
fn chosen_ips<'a>(s: &Scene<'a>) -> Result<Vec<&'a NsIp>, CommandError> {
    let Some((addr, _)) = s.command.network(0) else { return Ok(s.config.ips.iter().collect()) };
    let found: Vec<&NsIp> = s.config.ips.iter().filter(|i| i.addr == addr).collect();
    let own = s.config.ns_config.addr == Some(addr);
    match found.is_empty() && !own {
        true => Err(CommandError::about(messages::NO_SUCH_RESOURCE, "IPAddress", &addr.to_string())),
        false => Ok(found),
    }
}

pub(super) fn ips(s: &Scene<'_>) -> Result<String, CommandError> {
    let header = ["Ipaddress", "Traffic Domain", "Type", "Mode", "Arp", "Icmp", "Vserver", "State"];
    let mut rows: Vec<[String; 8]> = vec![header.map(str::to_owned)];
    let asked = s.command.network(0).map(|(addr, _)| addr);
    if let Some(addr) = s.config.ns_config.addr.filter(|a| asked.is_none_or(|x| x == *a)) {
        let cells = [&addr.to_string(), "0", "NetScaler IP", "Active", "Enabled", "Enabled", "NA", "Enabled"];
        rows.push(cells.map(str::to_owned));
    }
    for ip in chosen_ips(s)? {
        let kind = ip.kind.word();
        let vserver = match ip.kind {
            IpKind::Vip => "Enabled",
            IpKind::Snip => "NA",
        };
        let (arp, icmp, state) = (on_off(ip.arp), on_off(ip.icmp), on_off(ip.enabled));
        let addr = format!("{}/{}", ip.addr, ip.prefix_len);
        rows.push([&addr, "0", kind, "Active", arp, icmp, vserver, state].map(str::to_owned));
    }
    Ok(table(&rows))
}

/// Cells under a heading with a rule, rows numbered as the market does.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let join = |cells: &[String; N], head: String| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = head + &padded.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    };
    let rule: [String; N] = core::array::from_fn(|i| "-".repeat(rows[0][i].len()));
    let mut text = join(&rows[0], "\t".to_owned()) + &join(&rule, "\t".to_owned());
    for (i, row) in rows.iter().skip(1).enumerate() {
        text += &join(row, format!("{})\t", i + 1));
    }
    text
}

pub(super) fn ips_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |ip: &NsIp| {
        let mut fields: Vec<(&'static str, Json)> = match ip.addr.is_ipv4() {
            true => vec![("ipaddress", ip.addr.to_string().into()), ("netmask", mask_text(ip.prefix_len).into())],
            false => vec![("ipv6address", format!("{}/{}", ip.addr, ip.prefix_len).into())],
        };
        fields.push(("type", ip.kind.word().into()));
        fields.push((if ip.addr.is_ipv4() { "arp" } else { "nd" }, upper(ip.arp).into()));
        fields.push(("icmp", upper(ip.icmp).into()));
        fields.push(("state", upper(ip.enabled).into()));
        fields.push(("td", "0".into()));
        Json::Object(fields)
    };
    Ok(Json::List(chosen_ips(s)?.into_iter().map(one).collect()))
}

pub(super) fn routes(s: &Scene<'_>) -> String {
    let header = ["Network", "Netmask", "Gateway/OwnedIP", "State", "Traffic Domain", "Type"];
    let mut rows: Vec<[String; 6]> = vec![header.map(str::to_owned)];
    for (network, prefix_len, gateway, kind) in all_routes(s) {
        let mask = if network.is_ipv4() { mask_text(prefix_len) } else { format!("/{prefix_len}") };
        let state = if is_reachable(s, gateway) { "UP" } else { "DOWN" };
        rows.push([&network.to_string(), mask.as_str(), &gateway.to_string(), state, "0", kind].map(str::to_owned));
    }
    table(&rows)
}

/// Whether a gateway lies in a connected subnet; else its route carries nothing.
fn is_reachable(s: &Scene<'_>, gateway: core::net::IpAddr) -> bool {
    let link_local = matches!(gateway, core::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
    let holds = |ip: &crate::model::NsIp| {
        ip.enabled
            && ip.addr.is_ipv4() == gateway.is_ipv4()
            && crate::value::masked(ip.addr, ip.prefix_len) == crate::value::masked(gateway, ip.prefix_len)
    };
    link_local || s.config.ips.iter().any(holds)
}

/// Static routes, then the subnets of SNIPs.
fn all_routes(s: &Scene<'_>) -> Vec<(core::net::IpAddr, u8, core::net::IpAddr, &'static str)> {
    let mut all: Vec<_> = s.config.routes.iter().map(|r| (r.network, r.prefix_len, r.gateway, "STATIC")).collect();
    let connected = s.config.ips.iter().filter(|i| i.enabled && i.prefix_len < crate::value::address_bits(i.addr));
    for ip in connected {
        let network = crate::value::masked(ip.addr, ip.prefix_len);
        if !all.iter().any(|(n, len, _, kind)| *n == network && *len == ip.prefix_len && *kind == "DIRECT") {
            all.push((network, ip.prefix_len, ip.addr, "DIRECT"));
        }
    }
    all
}

pub(super) fn routes_json(s: &Scene<'_>) -> Json {
    let one = |(network, prefix_len, gateway, kind): (core::net::IpAddr, u8, core::net::IpAddr, &str)| {
        let mut fields: Vec<(&'static str, Json)> = match network.is_ipv4() {
            true => vec![("network", network.to_string().into()), ("netmask", mask_text(prefix_len).into())],
            false => vec![("network", format!("{network}/{prefix_len}").into())],
        };
        fields.push(("gateway", gateway.to_string().into()));
        fields.push(("type", kind.into()));
        Json::Object(fields)
    };
    Json::List(all_routes(s).into_iter().map(one).collect())
}

/// The modes of this program: long name, acronym, state. USNIP cannot be switched off.
fn mode_list(s: &Scene<'_>) -> [(&'static str, &'static str, bool); 3] {
    let modes = s.config.modes;
    [
        ("Use Source IP", "USIP", modes.usip),
        ("Use Subnet IP", "USNIP", true),
        ("Layer 3 mode (ip forwarding)", "L3", modes.l3),
    ]
}

/// What is on and what is off: name, acronym, state.
fn switches(title: &str, list: impl Iterator<Item = (&'static str, &'static str, bool)>) -> String {
    let mut text = format!(
        "\t{title:<30} Acronym              Status\n\t-------                        -------              ------\n"
    );
    for (i, (name, acronym, on)) in list.enumerate() {
        let state = if on { "ON" } else { "OFF" };
        text += &format!("{:2})\t{name:<30} {acronym:<20} {state}\n", i + 1);
    }
    text
}

pub(super) fn modes(s: &Scene<'_>) -> String {
    switches("Mode", mode_list(s).into_iter())
}

/// A feature that operators of the market ask about.
struct Feature {
    name: &'static str,
    acronym: &'static str,
    /// Its REST name.
    json: &'static str,
    on: bool,
}

fn feature_list(s: &Scene<'_>) -> [Feature; 5] {
    let feature = |name, acronym, json, on| Feature { name, acronym, json, on };
    [
        feature("Surge Protection", "SP", "sp", s.config.surge.enabled),
        feature("Load Balancing", "LB", "lb", true),
        feature("Content Switching", "CS", "cs", false),
        feature("SSL Offloading", "SSL", "ssl", false),
        feature("Application Firewall", "AppFw", "appfw", false),
    ]
}

pub(super) fn features(s: &Scene<'_>) -> String {
    switches("Feature", feature_list(s).into_iter().map(|feature| (feature.name, feature.acronym, feature.on)))
}

pub(super) fn features_json(s: &Scene<'_>) -> Json {
    let list = feature_list(s);
    let on = list.iter().filter(|feature| feature.on).map(|feature| Json::from(feature.acronym)).collect();
    let states = list.iter().map(|feature| (feature.json, feature.on.into()));
    Json::Object([("feature", Json::List(on))].into_iter().chain(states).collect())
}

/// The threshold in force, and the throttle.
pub(super) fn surge(s: &Scene<'_>) -> String {
    let surge = s.config.surge;
    format!("\tBase Threshold: {}\n\tThrottle: {}\n", surge.steps()[0].0, surge.throttle.word())
}

pub(super) fn surge_json(s: &Scene<'_>) -> Json {
    let surge = s.config.surge;
    let table = surge.steps().into_iter().map(|(connections, ms)| Json::from(format!("{connections}:{ms}"))).collect();
    Json::Object(vec![
        ("basethreshold", u64::from(surge.steps()[0].0).into()),
        ("throttle", surge.throttle.word().into()),
        ("table", Json::List(table)),
    ])
}

pub(super) fn modes_json(s: &Scene<'_>) -> Json {
    let list = mode_list(s);
    let on = list.iter().filter(|(_, _, on)| *on).map(|(_, acronym, _)| Json::from(*acronym)).collect();
    let state = |wanted: &str| list.iter().any(|(_, acronym, on)| *acronym == wanted && *on);
    Json::Object(vec![
        ("mode", Json::List(on)),
        ("usip", state("USIP").into()),
        ("usnip", state("USNIP").into()),
        ("l3", state("L3").into()),
    ])
}

pub(super) fn ns_config(s: &Scene<'_>) -> String {
    let c = &s.config.ns_config;
    let addr = c.addr.map_or("None".to_owned(), |a| format!("{a}  (mask: {})", mask_text(c.prefix_len)));
    let kind = if s.config.ha.peer.is_some() { "HA" } else { "Stand-alone" };
    format!("\tNetScaler IP: {addr}\n\tSystem Type: {kind}\n\tCurrent system time: {}\n", calendar(s.facts.now()))
}

pub(super) fn ns_config_json(s: &Scene<'_>) -> Json {
    let c = &s.config.ns_config;
    let addr = c.addr.map_or(String::new(), |a| a.to_string());
    let kind = if s.config.ha.peer.is_some() { "HA" } else { "Stand-alone" };
    Json::Object(vec![
        ("ipaddress", addr.into()),
        ("netmask", mask_text(c.prefix_len).into()),
        ("systemtype", kind.into()),
        ("currentsytemtime", calendar(s.facts.now()).into()),
    ])
}

fn running_lines(s: &Scene<'_>) -> Vec<String> {
    lines(s.config, Scope::All, Style::Shown { defaults: s.command.flag("withDefaults") })
}

pub(super) fn running_config(s: &Scene<'_>) -> String {
    let version = s.facts.node().version;
    let mut text = format!("#Holdfast {version}\n");
    text.extend(running_lines(s).into_iter().map(|line| line + "\n"));
    text
}

pub(super) fn running_config_json(s: &Scene<'_>) -> Json {
    Json::Object(vec![("response", running_lines(s).join("\n").into())])
}

/// Clients parse `NS<major>.<minor>: Build <n>.<n>.nc`, so our version is told in that form too.
fn version_text(s: &Scene<'_>) -> String {
    let version = s.facts.node().version;
    let (major_minor, patch) = version.rsplit_once('.').unwrap_or((&version, "0"));
    format!("NetScaler NS{major_minor}: Build {patch}.0.nc, Holdfast {version} (64-bit)")
}

pub(super) fn version(s: &Scene<'_>) -> String {
    format!("\t{}\n", version_text(s))
}

pub(super) fn version_json(s: &Scene<'_>) -> Json {
    Json::Object(vec![("version", version_text(s).into()), ("mode", "0".into())])
}

/// Our own view: the market's boxes have one way.
pub(super) fn data_plane(s: &Scene<'_>) -> String {
    let plane = s.facts.node().data_plane;
    let mut text = format!("\tData Plane: {} ({})\n", plane.way, plane.why);
    for (id, how) in &plane.interfaces {
        text += &format!("\tInterface {id}: {how}\n");
    }
    text += &format!("\tFast Path Entries: {}  Refused: {}\n", plane.copies, plane.refused);
    let counted = plane.not_forwarded.iter().filter(|(_, count)| *count > 0);
    let counted: Vec<String> = counted.map(|(reason, count)| format!("{reason} {count}")).collect();
    text + &format!(
        "\tPackets Not Forwarded By It: {}\n",
        if counted.is_empty() { "None".into() } else { counted.join(", ") }
    )
}

pub(super) fn data_plane_json(s: &Scene<'_>) -> Json {
    let plane = s.facts.node().data_plane;
    let interface = |(id, how): &(String, String)| {
        Json::Object(vec![("id", id.clone().into()), ("attachment", how.clone().into())])
    };
    let reason = |&(reason, count): &(&'static str, u64)| (reason, count.into());
    Json::Object(vec![
        ("dataplane", plane.way.into()),
        ("reason", plane.why.into()),
        ("interfaces", Json::List(plane.interfaces.iter().map(interface).collect())),
        ("entries", plane.copies.into()),
        ("refused", plane.refused.into()),
        (
            "notforwarded",
            Json::Object(plane.not_forwarded.iter().filter(|(_, count)| *count > 0).map(reason).collect()),
        ),
    ])
}

pub(super) fn connection_table(command: &Command) -> Result<String, CommandError> {
    let filter = ConnectionFilter::parse(command.connection_filter().unwrap_or_default())?;
    Ok(connection_header(&filter) + "\n")
}
