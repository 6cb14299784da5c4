//! Changes of addresses, routes, modes, ports and the node itself.

use core::net::IpAddr;

use super::{Applied, exists, missing};
use crate::check;
use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::model::{IpKind, NsIp, Route};
use crate::options::Options as _;
use crate::value::{Value, address_bits, masked};

pub(super) fn add_ip(config: &mut Config, c: &Command) -> Applied {
    let (addr, len) = ip_argument(c)?;
    check::floating_address(config, addr)?;
    let prefix_len = prefix_argument(addr, len, c.arg(1))?;
    if is_of_the_network_itself(addr, prefix_len) {
        return Err(CommandError::about(messages::INVALID_IP, "IPAddress", &addr.to_string()));
    }
    let mut ip = NsIp { addr, prefix_len, kind: IpKind::Snip, arp: true, icmp: true, enabled: true, implicit: false };
    ip.put_all(c);
    match config.ips.iter_mut().find(|i| i.addr == addr) {
        // A vserver made it; the command makes it lasting.
        Some(old) if old.implicit && ip.kind == IpKind::Vip => *old = ip,
        Some(old) if old.implicit => {
            return Err(CommandError::about(messages::ADDRESS_IN_USE, "IPAddress", &addr.to_string()));
        }
        Some(_) => return Err(exists("IPAddress", &addr.to_string())),
        None => config.ips.push(ip),
    }
    Ok(())
}

/// The first and the last address of an IPv4 subnet are no host's (RFC 3021: but
/// for a subnet of two).
fn is_of_the_network_itself(addr: IpAddr, prefix_len: u8) -> bool {
    let IpAddr::V4(v4) = addr else { return false };
    let hosts = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
    let host = v4.to_bits() & hosts;
    prefix_len < 31 && (host == 0 || host == hosts)
}

fn ip_argument(c: &Command) -> Result<(IpAddr, Option<u8>), CommandError> {
    let (addr, len) = c.network(0).ok_or_else(|| CommandError::with(messages::ARGUMENT_MISSING, "IPAddress"))?;
    if c.row.object.last() == Some(&"ip6") && addr.is_ipv4() {
        return Err(CommandError::about(messages::INVALID_IP, "IPv6Address", &addr.to_string()));
    }
    Ok((addr, len))
}

/// The prefix length of an address: behind its slash, or as a mask of its own.
fn prefix_argument(addr: IpAddr, len: Option<u8>, mask: Option<&Value>) -> Result<u8, CommandError> {
    let mask = mask.and_then(Value::as_number).and_then(|len| u8::try_from(len).ok());
    match (len, mask) {
        (Some(_), Some(_)) => Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, "netmask")),
        (None, None) if addr.is_ipv6() => Err(CommandError::with(messages::PREFIX_LENGTH_MISSING, addr.to_string())),
        (None, None) => Err(CommandError::with(messages::ARGUMENT_MISSING, "netmask")),
        (Some(len), None) | (None, Some(len)) if len <= address_bits(addr) => Ok(len),
        (Some(len), None) | (None, Some(len)) => {
            Err(CommandError::about(messages::INVALID_NETMASK, "netmask", &len.to_string()))
        }
    }
}

fn find_ip<'a>(config: &'a mut Config, c: &Command) -> Result<&'a mut NsIp, CommandError> {
    let (addr, _) = ip_argument(c)?;
    config.ips.iter_mut().find(|i| i.addr == addr).ok_or_else(|| missing("IPAddress", &addr.to_string()))
}

pub(super) fn set_ip(config: &mut Config, c: &Command) -> Applied {
    let ip = find_ip(config, c)?;
    if ip.addr.is_ipv4() && c.flag("nd") || ip.addr.is_ipv6() && c.flag("arp") {
        let name = if ip.addr.is_ipv4() { "-nd" } else { "-arp" };
        return Err(CommandError::with(messages::NO_SUCH_ARGUMENT, name));
    }
    ip.put_all(c);
    ip.implicit = false;
    Ok(())
}

pub(super) fn enable_ip(config: &mut Config, c: &Command, on: bool) -> Applied {
    let ip = find_ip(config, c)?;
    if ip.enabled != on {
        ip.enabled = on;
        ip.implicit = false;
    }
    Ok(())
}

pub(super) fn rm_ip(config: &mut Config, c: &Command) -> Applied {
    let addr = find_ip(config, c)?.addr;
    if config.vservers.iter().any(|v| v.addr == Some(addr)) {
        return Err(CommandError::about(messages::IN_USE, "IPAddress", &addr.to_string()));
    }
    config.ips.retain(|i| i.addr != addr);
    Ok(())
}

/// The VIP of a vserver: an existing one, or one that goes with its last vserver.
pub(super) fn claim_vip(config: &mut Config, addr: Option<IpAddr>) -> Applied {
    let Some(addr) = addr.filter(|a| !a.is_unspecified()) else { return Ok(()) };
    check::floating_address(config, addr)?;
    match config.ips.iter().find(|i| i.addr == addr).map(|i| i.kind) {
        Some(IpKind::Vip) => {}
        Some(IpKind::Snip) => {
            return Err(CommandError::about(messages::ADDRESS_IN_USE, "IPAddress", &addr.to_string()));
        }
        None => config.ips.push(NsIp {
            addr,
            prefix_len: address_bits(addr),
            kind: IpKind::Vip,
            arp: true,
            icmp: true,
            enabled: true,
            implicit: true,
        }),
    }
    Ok(())
}

/// Forgets the VIP that a vserver had, if only vservers asked for it and none has it any more.
pub(super) fn release_vip(config: &mut Config, addr: Option<IpAddr>) {
    let Some(addr) = addr else { return };
    let at = config.ips.iter().position(|i| i.addr == addr && i.implicit);
    if let Some(at) = at.filter(|_| !config.vservers.iter().any(|v| v.addr == Some(addr))) {
        config.ips.remove(at);
    }
}

fn route_arguments(c: &Command) -> Result<Route, CommandError> {
    let (network, len) = c.network(0).ok_or_else(|| CommandError::with(messages::ARGUMENT_MISSING, "network"))?;
    let last = c.row.args.len() - 1;
    let mask = if last == 2 { c.arg(1) } else { None };
    let prefix_len = prefix_argument(network, len, mask)?;
    let Some(Value::Address(Some(gateway))) = c.arg(last) else {
        return Err(CommandError::with(messages::ARGUMENT_MISSING, "gateway"));
    };
    let gateway = *gateway;
    check::host_address(gateway)?;
    let v6 = c.row.object.last() == Some(&"route6");
    if network.is_ipv4() != gateway.is_ipv4() || v6 != network.is_ipv6() {
        return Err(CommandError::about(messages::INVALID_IP, "gateway", &gateway.to_string()));
    }
    if masked(network, prefix_len) != network {
        return Err(CommandError::about(messages::INVALID_NETMASK, "network", &format!("{network}/{prefix_len}")));
    }
    Ok(Route { network, prefix_len, gateway })
}

pub(super) fn add_route(config: &mut Config, c: &Command) -> Applied {
    let route = route_arguments(c)?;
    gateway_is_another(config, &route)?;
    if config.routes.iter().any(|r| r.network == route.network && r.prefix_len == route.prefix_len) {
        return Err(exists("network", &format!("{}/{}", route.network, route.prefix_len)));
    }
    config.routes.push(route);
    Ok(())
}

/// A gateway is somebody else.
fn gateway_is_another(config: &Config, route: &Route) -> Applied {
    match config.ips.iter().any(|ip| ip.addr == route.gateway) {
        true => Err(CommandError::about(messages::ADDRESS_IN_USE, "gateway", &route.gateway.to_string())),
        false => Ok(()),
    }
}

pub(super) fn set_route(config: &mut Config, c: &Command) -> Applied {
    let route = route_arguments(c)?;
    gateway_is_another(config, &route)?;
    let to = |old: &&mut Route| old.network == route.network && old.prefix_len == route.prefix_len;
    let Some(old) = config.routes.iter_mut().find(to) else {
        return Err(missing("network", &format!("{}/{}", route.network, route.prefix_len)));
    };
    *old = route;
    Ok(())
}

pub(super) fn rm_route(config: &mut Config, c: &Command) -> Applied {
    let route = route_arguments(c)?;
    let at = config.routes.iter().position(|r| *r == route);
    let at = at.ok_or_else(|| missing("network", &format!("{}/{}", route.network, route.prefix_len)))?;
    config.routes.remove(at);
    Ok(())
}

/// Load balancing is what the node is for: it cannot be switched off.
pub(super) fn set_features(config: &mut Config, c: &Command, on: bool) -> Applied {
    let Some(Value::Words(features)) = c.arg(0) else { return Ok(()) };
    for feature in features {
        match (*feature, on) {
            ("LB", true) => {}
            ("SP", _) => config.surge.enabled = on,
            (other, _) => return Err(CommandError::about(messages::INVALID_VALUE, "feature", other)),
        }
    }
    Ok(())
}

pub(super) fn set_modes(config: &mut Config, c: &Command, on: bool) -> Applied {
    let Some(Value::Words(modes)) = c.arg(0) else { return Ok(()) };
    for mode in modes {
        match *mode {
            "L3" => config.modes.l3 = on,
            "USIP" => config.modes.usip = on,
            other => return Err(CommandError::about(messages::INVALID_VALUE, "mode", other)),
        }
    }
    Ok(())
}

pub(super) fn set_ns_config(config: &mut Config, c: &Command) -> Applied {
    let mut wanted = config.ns_config.clone();
    if let Some(Value::Address(addr)) = c.option("IPAddress") {
        wanted.addr = *addr;
        wanted.prefix_len = addr.map_or(0, address_bits);
    }
    let Some(addr) = wanted.addr else { return Err(CommandError::with(messages::ARGUMENT_MISSING, "IPAddress")) };
    if let Some(Value::Mask(len)) = c.option("netmask") {
        wanted.prefix_len = *len;
    }
    check::host_address(addr)?;
    if wanted.prefix_len > address_bits(addr) {
        return Err(CommandError::about(messages::INVALID_NETMASK, "netmask", &wanted.prefix_len.to_string()));
    }
    if config.ha.peer.is_some() && config.ns_config.addr.is_some_and(|old| old != addr) {
        return Err(CommandError::with(messages::NSIP_OF_A_PAIR, addr.to_string()));
    }
    let taken = config.ips.iter().any(|i| i.addr == addr) || config.ha.peer.is_some_and(|p| p.addr == addr);
    if taken {
        return Err(CommandError::about(messages::ADDRESS_IN_USE, "IPAddress", &addr.to_string()));
    }
    if let Some(peer) = config.ha.peer.filter(|_| !config.ha.inc) {
        check::on_own_subnet(&wanted, peer.addr)?;
    }
    let old = core::mem::replace(&mut config.ns_config, wanted).addr;
    super::ha::move_own_entry(config, old, addr);
    Ok(())
}
