//! Changes of the pair.

use core::net::IpAddr;

use super::{Applied, missing};
use crate::check;
use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::model::{HaPeer, HaSettings, RpcNode};
use crate::options::Options as _;
use crate::value::{self, Value};

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
    config.ha.inc = inc;
    config.ha.peer = Some(HaPeer { id, addr: *addr });
    if config.rpc_node(*addr).is_none() {
        config.rpc_nodes.push(RpcNode::new(*addr));
    }
    Ok(())
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
    (config.ha.peer, config.ha.inc) = (None, false);
    config.rpc_nodes.retain(|n| n.addr != peer.addr);
    Ok(())
}

pub(super) fn set_node(config: &mut Config, c: &Command) -> Applied {
    let mut wanted: HaSettings = config.ha.clone();
    wanted.put_all(c);
    if wanted.dead_ms < 3 * wanted.hello_ms {
        let word = format!("{} ms, {} ms", wanted.dead_ms, wanted.hello_ms);
        return Err(CommandError::with(messages::DEAD_TOO_SHORT, word));
    }
    config.ha = wanted;
    Ok(())
}

pub(super) fn set_rpc_node(config: &mut Config, c: &Command) -> Applied {
    let Some((addr, _)) = c.network(0) else { return Err(CommandError::with(messages::ARGUMENT_MISSING, "IPAddress")) };
    // What `show` prints instead of a password is known to everybody.
    if c.option("password").and_then(Value::as_text) == Some(value::MASK) {
        return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "password", value::MASK));
    }
    let entry = config.rpc_nodes.iter_mut().find(|n| n.addr == addr);
    let entry = entry.ok_or_else(|| missing("IPAddress", &addr.to_string()))?;
    let (password, encrypted) = (c.option("password").and_then(Value::as_text), c.option("encrypted").is_some());
    match password {
        Some(clear) if !encrypted && clear.len() > MAX_PASSWORD => {
            return Err(CommandError::with(messages::STRING_TOO_LONG, "password"));
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
