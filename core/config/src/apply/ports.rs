//! Changes of data ports and of what belongs to several of them.

use super::{Applied, exists, missing};
use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::model::{FailoverSet, Interface, VirtualRouter};
use crate::options::Options as _;
use crate::table::PortChange;
use crate::value::Value;

/// Failover sets at most, as in the market.
const MAX_SETS: usize = 64;

pub(super) fn carry_out(config: &mut Config, change: PortChange, c: &Command) -> Applied {
    match change {
        PortChange::AddInterface => add_interface(config, c),
        PortChange::SetInterface | PortChange::UnsetInterface => set_interface(config, c),
        PortChange::RmInterface => rm_interface(config, c),
        PortChange::EnableInterface => enable_interface(config, c, true),
        PortChange::DisableInterface => enable_interface(config, c, false),
        PortChange::AddFis => add_fis(config, c),
        PortChange::RmFis => rm_fis(config, c),
        PortChange::BindFis => bind_fis(config, c),
        PortChange::UnbindFis => unbind_fis(config, c),
        PortChange::AddVrid => add_vrid(config, c),
        PortChange::RmVrid => rm_vrid(config, c),
        PortChange::BindVrid => bind_vrid(config, c),
        PortChange::UnbindVrid => unbind_vrid(config, c),
    }
}

fn add_interface(config: &mut Config, c: &Command) -> Applied {
    let id = c.name(0);
    if config.interfaces.iter().any(|i| i.id == id) {
        return Err(exists("id", id));
    }
    free_device(config, c, id)?;
    let mut interface =
        Interface { id: id.to_owned(), device: String::new(), enabled: true, ha_monitor: true, ha_heartbeat: true };
    interface.put_all(c);
    config.interfaces.push(interface);
    Ok(())
}

fn set_interface(config: &mut Config, c: &Command) -> Applied {
    free_device(config, c, c.name(0))?;
    find_interface(config, c)?.put_all(c);
    Ok(())
}

/// A device can be behind one port only.
fn free_device(config: &Config, c: &Command, id: &str) -> Applied {
    let Some(Value::Text(device)) = c.option("device") else { return Ok(()) };
    match config.interfaces.iter().find(|i| i.device == *device && i.id != id) {
        Some(other) => Err(CommandError::about(messages::IN_USE, "device", &format!("{device}, {}", other.id))),
        None => Ok(()),
    }
}

fn find_interface<'a>(config: &'a mut Config, c: &Command) -> Result<&'a mut Interface, CommandError> {
    let id = c.name(0);
    config.interfaces.iter_mut().find(|i| i.id == id).ok_or_else(|| missing("id", id))
}

fn enable_interface(config: &mut Config, c: &Command, on: bool) -> Applied {
    find_interface(config, c)?.enabled = on;
    Ok(())
}

fn rm_interface(config: &mut Config, c: &Command) -> Applied {
    let id = find_interface(config, c)?.id.clone();
    let set = set_of(config, &id).map(|set| format!("fis {set}"));
    if let Some(holder) = set.or_else(|| router_of(config, &id).map(|router| format!("vrID {router}"))) {
        return Err(CommandError::about(messages::IN_USE, &id, &holder));
    }
    config.interfaces.retain(|i| i.id != id);
    Ok(())
}

/// The failover set that an interface is in.
fn set_of(config: &Config, id: &str) -> Option<String> {
    let set = config.failover_sets.iter().find(|set| set.members.iter().any(|member| member == id));
    set.map(|set| set.name.clone())
}

/// The virtual MAC address that an interface answers with.
fn router_of(config: &Config, id: &str) -> Option<u8> {
    let router = config.virtual_routers.iter().find(|router| router.interfaces.iter().any(|member| member == id));
    router.map(|router| router.id)
}

fn add_fis(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    if config.failover_sets.iter().any(|set| set.name == name) {
        return Err(exists("name", name));
    }
    if config.failover_sets.len() >= MAX_SETS {
        return Err(CommandError::about(messages::ABOVE_MAXIMUM, "fis", &MAX_SETS.to_string()));
    }
    config.failover_sets.push(FailoverSet { name: name.to_owned(), members: Vec::new() });
    Ok(())
}

/// The position of the set that a command names.
fn find_fis(config: &Config, c: &Command) -> Result<usize, CommandError> {
    let name = c.name(0);
    config.failover_sets.iter().position(|set| set.name == name).ok_or_else(|| missing("name", name))
}

fn rm_fis(config: &mut Config, c: &Command) -> Applied {
    let at = find_fis(config, c)?;
    config.failover_sets.remove(at);
    Ok(())
}

fn bind_fis(config: &mut Config, c: &Command) -> Applied {
    let (at, wanted) = (find_fis(config, c)?, c.arg(1).map_or(&[][..], Value::as_list));
    free_interfaces(config, wanted, |id| set_of(config, id).is_some())?;
    add_members(&mut config.failover_sets[at].members, wanted);
    Ok(())
}

fn unbind_fis(config: &mut Config, c: &Command) -> Applied {
    let at = find_fis(config, c)?;
    remove_members(&mut config.failover_sets[at].members, c.arg(1).map_or(&[][..], Value::as_list))
}

/// The interfaces exist, and none is bound to a thing of this kind already.
fn free_interfaces(config: &Config, wanted: &[String], bound: impl Fn(&str) -> bool) -> Applied {
    for id in wanted {
        if !config.interfaces.iter().any(|i| i.id == *id) {
            return Err(CommandError::about(messages::NO_SUCH_INTERFACE, "ifnum", id));
        }
        if bound(id) {
            return Err(CommandError::about(messages::INTERFACE_BOUND, "ifnum", id));
        }
    }
    Ok(())
}

fn add_members(members: &mut Vec<String>, wanted: &[String]) {
    members.extend(wanted.iter().cloned());
    members.sort_unstable();
}

fn remove_members(members: &mut Vec<String>, gone: &[String]) -> Applied {
    if let Some(stranger) = gone.iter().find(|id| !members.contains(id)) {
        return Err(CommandError::about(messages::INTERFACE_NOT_BOUND, "ifnum", stranger));
    }
    members.retain(|id| !gone.contains(id));
    Ok(())
}

/// The number of a virtual MAC address; the table keeps it within a byte.
fn vrid(c: &Command) -> Result<u8, CommandError> {
    let number = c.arg(0).and_then(Value::as_number).and_then(|n| u8::try_from(n).ok());
    number.ok_or_else(|| CommandError::with(messages::ARGUMENT_MISSING, "id"))
}

fn find_router(config: &mut Config, id: u8) -> Result<&mut VirtualRouter, CommandError> {
    let found = config.virtual_routers.iter_mut().find(|router| router.id == id);
    found.ok_or_else(|| missing("id", &id.to_string()))
}

fn add_vrid(config: &mut Config, c: &Command) -> Applied {
    let id = vrid(c)?;
    match config.virtual_routers.binary_search_by_key(&id, |router| router.id) {
        Ok(_) => return Err(exists("id", &id.to_string())),
        Err(at) => config.virtual_routers.insert(at, VirtualRouter { id, interfaces: Vec::new() }),
    }
    Ok(())
}

fn rm_vrid(config: &mut Config, c: &Command) -> Applied {
    match (c.arg(0).is_some(), c.flag("all")) {
        (true, true) => return Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, "all")),
        (false, true) => config.virtual_routers.clear(),
        (true | false, false) => {
            let id = find_router(config, vrid(c)?)?.id;
            config.virtual_routers.retain(|router| router.id != id);
        }
    }
    Ok(())
}

fn bind_vrid(config: &mut Config, c: &Command) -> Applied {
    let (id, wanted) = (vrid(c)?, c.option("ifnum").map_or(&[][..], Value::as_list));
    find_router(config, id)?;
    free_interfaces(config, wanted, |interface| router_of(config, interface).is_some())?;
    add_members(&mut find_router(config, id)?.interfaces, wanted);
    Ok(())
}

fn unbind_vrid(config: &mut Config, c: &Command) -> Applied {
    let gone = c.option("ifnum").map_or(&[][..], Value::as_list);
    remove_members(&mut find_router(config, vrid(c)?)?.interfaces, gone)
}
