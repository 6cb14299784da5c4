//! Changes of the pair.

use core::net::IpAddr;

use super::{Applied, exists, missing};
use crate::check;
use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::lines::route_monitor;
use crate::model::{HaPeer, HaSettings, Hook, RouteMonitor, RpcNode};
use crate::options::{Options as _, witness_list};
use crate::value::{self, Value, address_bits, masked};

/// Routes that one node monitors at most.
const MAX_ROUTE_MONITORS: usize = 64;
/// Programs that one node runs at a change of role at most.
const MAX_HOOKS: usize = 16;
/// The default of `-timeout`, in milliseconds.
const HOOK_TIMEOUT_MS: u32 = 10_000;

/// Longest password in clear, bytes.
const MAX_PASSWORD: usize = 127;

pub(super) fn add_node(config: &mut Config, c: &Command) -> Applied {
    let (id, Some(Value::Address(Some(addr)))) = (node_id(c)?, c.arg(1)) else {
        return Err(CommandError::with(messages::ARGUMENT_MISSING, "IPAddress"));
    };
    let invalid = || CommandError::with(messages::INVALID_PEER_IP, addr.to_string());
    if let Some(peer) = config.ha.peer {
        return Err(match peer.id == id {
            true => super::exists("id", &id.to_string()),
            false => CommandError::with(messages::TOO_MANY_NODES, id.to_string()),
        });
    }
    check::host_address(*addr).map_err(|_| invalid())?;
    if config.ns_config.addr == Some(*addr) || config.ips.iter().any(|i| i.addr == *addr) {
        return Err(invalid());
    }
    let inc = c.option("inc").and_then(Value::as_word) == Some("ENABLED");
    match inc {
        true => check::no_stateful_vserver(config)?,
        false => check::on_own_subnet(&config.ns_config, *addr)?,
    }
    let password = new_password(c)?;
    config.ha.inc = inc;
    config.ha.peer = Some(HaPeer { id, addr: *addr });
    if config.rpc_node(*addr).is_none() {
        config.rpc_nodes.push(RpcNode::new(*addr));
    }
    let without = |entry: &&mut RpcNode| entry.addr == *addr || entry.password.is_empty();
    if let Some(password) = password {
        config.rpc_nodes.iter_mut().filter(without).for_each(|entry| {
            (entry.password, entry.encrypted) = (password.to_owned(), false);
        });
    }
    Ok(())
}

/// `-rpcNodePassword`, in clear.
fn new_password(c: &Command) -> Result<Option<&str>, CommandError> {
    match given_password(c, "rpcNodePassword")? {
        Some(clear) if clear.len() > MAX_PASSWORD => {
            Err(CommandError::with(messages::STRING_TOO_LONG, "rpcNodePassword"))
        }
        password => Ok(password),
    }
}

/// The password of this option. What `show` prints instead of one is known to everybody, and refused.
fn given_password<'c>(c: &'c Command, option: &str) -> Result<Option<&'c str>, CommandError> {
    match c.option(option).and_then(Value::as_text) {
        Some(value::MASK) => Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, option, value::MASK)),
        password => Ok(password),
    }
}

fn node_id(c: &Command) -> Result<u8, CommandError> {
    match c.arg(0) {
        Some(Value::Number(n @ 1..=64)) => Ok(*n as u8),
        Some(Value::Number(n)) => Err(CommandError::about(messages::INVALID_NODE_ID, "id", &n.to_string())),
        Some(_) | None => Err(CommandError::with(messages::ARGUMENT_MISSING, "id")),
    }
}

pub(super) fn rm_node(config: &mut Config, c: &Command) -> Applied {
    let id = node_id(c)?;
    let Some(peer) = config.ha.peer.filter(|p| p.id == id) else { return Err(missing("id", &id.to_string())) };
    if !config.ha.route_monitors.is_empty() {
        return Err(CommandError::new(messages::ROUTE_MONITORS_BOUND));
    }
    if let Some(vlan) = config.ha.sync_vlan {
        return Err(CommandError::with(messages::SYNC_VLAN_SET, vlan.to_string()));
    }
    (config.ha.peer, config.ha.inc) = (None, false);
    config.rpc_nodes.retain(|n| n.addr != peer.addr);
    Ok(())
}

pub(super) fn set_node(config: &mut Config, c: &Command) -> Applied {
    if let Some(text) = c.option("witness").and_then(Value::as_text).filter(|text| witness_list(text).is_none()) {
        return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "witness", text));
    }
    let mut wanted: HaSettings = config.ha.clone();
    wanted.put_all(c);
    if wanted.dead_ms < 3 * wanted.hello_ms {
        let word = format!("{} ms, {} ms", wanted.dead_ms, wanted.hello_ms);
        return Err(CommandError::with(messages::DEAD_TOO_SHORT, word));
    }
    config.ha = wanted;
    Ok(())
}

/// The route that a command names.
fn route_argument(c: &Command) -> Result<RouteMonitor, CommandError> {
    if let Some(id) = c.arg(0).and_then(Value::as_number).filter(|id| *id != 0) {
        return Err(CommandError::about(messages::INVALID_NODE_ID, "id", &id.to_string()));
    }
    let mask = c.option("netmask").and_then(Value::as_number).and_then(|len| u8::try_from(len).ok());
    let route = c.option("routeMonitor").and_then(Value::as_network);
    let (network, prefix_len) = match (route, mask) {
        (None, None) => return Ok(RouteMonitor::Default),
        (None, Some(_)) | (Some((_, Some(_))), Some(_)) => {
            return Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, "netmask"));
        }
        (Some((network, Some(len))), None) => (network, len),
        (Some((network, None)), mask) => (network, mask.unwrap_or(address_bits(network))),
    };
    if prefix_len > address_bits(network) || masked(network, prefix_len) != network {
        return Err(CommandError::about(messages::INVALID_NETMASK, "netmask", &format!("{network}/{prefix_len}")));
    }
    Ok(RouteMonitor::To { network, prefix_len })
}

pub(super) fn bind_route(config: &mut Config, c: &Command) -> Applied {
    let route = route_argument(c)?;
    let routes = &mut config.ha.route_monitors;
    match routes.binary_search(&route) {
        Ok(_) => return Err(exists("routeMonitor", &route_monitor(route))),
        Err(_) if routes.len() >= MAX_ROUTE_MONITORS => {
            return Err(CommandError::about(messages::ABOVE_MAXIMUM, "routeMonitor", &MAX_ROUTE_MONITORS.to_string()));
        }
        Err(at) => routes.insert(at, route),
    }
    Ok(())
}

pub(super) fn unbind_route(config: &mut Config, c: &Command) -> Applied {
    let route = route_argument(c)?;
    let at = config.ha.route_monitors.binary_search(&route);
    config.ha.route_monitors.remove(at.map_err(|_| missing("routeMonitor", &route_monitor(route)))?);
    Ok(())
}

pub(super) fn add_hook(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    if config.hooks.iter().any(|hook| hook.name == name) {
        return Err(exists("name", name));
    }
    if config.hooks.len() >= MAX_HOOKS {
        return Err(CommandError::about(messages::ABOVE_MAXIMUM, "hook", &MAX_HOOKS.to_string()));
    }
    let mut hook = Hook { name: name.to_owned(), command: String::new(), timeout_ms: HOOK_TIMEOUT_MS };
    hook.put_all(c);
    if !hook.command.starts_with('/') {
        return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "command", &hook.command));
    }
    config.hooks.push(hook);
    Ok(())
}

pub(super) fn rm_hook(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    let at = config.hooks.iter().position(|hook| hook.name == name).ok_or_else(|| missing("name", name))?;
    config.hooks.remove(at);
    Ok(())
}

pub(super) fn set_rpc_node(config: &mut Config, c: &Command) -> Applied {
    let Some((addr, _)) = c.network(0) else { return Err(CommandError::with(messages::ARGUMENT_MISSING, "IPAddress")) };
    let (password, encrypted) = (given_password(c, "password")?, c.option("encrypted").is_some());
    if let Some(Value::Address(Some(source))) = c.option("srcIP")
        && (source.is_ipv4() != addr.is_ipv4() || check::host_address(*source).is_err())
    {
        return Err(CommandError::about(messages::INVALID_IP, "srcIP", &source.to_string()));
    }
    let entry = config.rpc_nodes.iter_mut().find(|n| n.addr == addr);
    let entry = entry.ok_or_else(|| missing("IPAddress", &addr.to_string()))?;
    match password {
        Some(clear) if !encrypted && clear.len() > MAX_PASSWORD => {
            return Err(CommandError::with(messages::STRING_TOO_LONG, "password"));
        }
        Some(closed)
            if encrypted
                && !(closed.len().is_multiple_of(2) && closed.bytes().all(|digit| digit.is_ascii_hexdigit())) =>
        {
            return Err(CommandError::with(messages::INVALID_ARGUMENT_VALUE, "password"));
        }
        Some(_) => entry.encrypted = encrypted,
        // For `unset` every option is a flag.
        None if c.option("password").is_some() => entry.encrypted = false,
        None if encrypted => return Err(CommandError::with(messages::ARGUMENT_MISSING, "password")),
        None => {}
    }
    entry.put_all(c);
    Ok(())
}

/// The own RPC entry follows the NSIP and keeps its password.
pub(super) fn move_own_entry(config: &mut Config, old: Option<IpAddr>, new: IpAddr) {
    match config.rpc_nodes.iter_mut().find(|n| Some(n.addr) == old) {
        Some(own) => own.addr = new,
        None => config.rpc_nodes.insert(0, RpcNode::new(new)),
    }
}
