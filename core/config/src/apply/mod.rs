//! Changes: a checked copy of the one object that changes takes the place of the old one.

mod group;
mod ha;
mod lb;
mod monitor;
mod net;
mod ports;

use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, Warning, messages};
use crate::options::Options as _;
use crate::table::{Change, Effect, GroupChange};

/// Objects of one kind at most, and bindings of one kind in all: so the whole fits into the queues of the mirror, which
/// hold 262,144 lines.
const MAX_OBJECTS: usize = 16_384;

/// Outcome of a change.
type Applied = Result<(), CommandError>;

pub(crate) fn apply(config: &mut Config, command: &Command) -> Result<Vec<Warning>, CommandError> {
    match command.row.effect {
        Effect::Shared(change) | Effect::Local(change) => {
            find_room(config, change)?;
            carry_out(config, change, command)?;
            Ok(unserved(config, change, command).or_else(|| unproven(config, change)).into_iter().collect())
        }
        Effect::Show(_) | Effect::Act(_) => Err(CommandError::with(messages::NOT_PERMITTED, command.row.title())),
    }
}

/// Refuses what would be one too many. (What one binds twice is no second binding, so a few objects need no counting.)
fn find_room(config: &Config, change: Change) -> Applied {
    let Config { ips, routes, servers, services, monitors, vservers, .. } = config;
    let (what, count) = if change == Change::AddIp {
        ("ip", ips.len())
    } else if change == Change::AddRoute {
        ("route", routes.len())
    } else if change == Change::AddServer {
        ("server", servers.len())
    } else if change == Change::AddService {
        ("service", services.len())
    } else if change == Change::AddMonitor {
        ("monitor", monitors.len())
    } else if change == Change::AddVserver {
        ("vserver", vservers.len())
    } else if change == Change::BindVserver && vservers.len() * services.len() > MAX_OBJECTS {
        ("serviceName", vservers.sum(|vserver| vserver.bindings.len()))
    } else if change == Change::BindService && services.len() * monitors.len() > MAX_OBJECTS {
        ("monitorName", services.sum(|service| service.monitors.len()))
    } else {
        return Ok(());
    };
    if count < MAX_OBJECTS {
        return Ok(());
    }
    Err(CommandError::about(messages::ABOVE_MAXIMUM, what, &MAX_OBJECTS.to_string()))
}

/// What was made or changed and is not served.
fn unserved(config: &Config, change: Change, c: &Command) -> Option<Warning> {
    let name = c.name(0);
    let why = if change == Change::AddService {
        config.services.get(name)?.kind.unserved()?
    } else if change == Change::Group(GroupChange::Add) {
        config.groups.get(name)?.pattern.kind.unserved()?
    } else if [Change::AddVserver, Change::SetVserver].contains(&change) {
        config.vservers.get(name)?.unserved()?
    } else {
        return None;
    };
    Some(Warning::with(messages::NOT_SERVED, format!("{name}, {why}")))
}

/// A peer that nothing can be told from a stranger.
fn unproven(config: &Config, change: Change) -> Option<Warning> {
    let lacking: Vec<_> = config.nodes_without_password().map(|node| node.to_string()).collect();
    (change == Change::AddHaNode && !lacking.is_empty())
        .then(|| Warning::with(messages::NO_PASSWORD, lacking.join(", ")))
}

fn carry_out(config: &mut Config, change: Change, c: &Command) -> Applied {
    match change {
        Change::AddIp => net::add_ip(config, c),
        Change::SetIp | Change::UnsetIp => net::set_ip(config, c),
        Change::RmIp => net::rm_ip(config, c),
        Change::EnableIp => net::enable_ip(config, c, true),
        Change::DisableIp => net::enable_ip(config, c, false),
        Change::AddRoute => net::add_route(config, c),
        Change::SetRoute => net::set_route(config, c),
        Change::RmRoute => net::rm_route(config, c),
        Change::EnableMode => net::set_modes(config, c, true),
        Change::DisableMode => net::set_modes(config, c, false),
        Change::EnableFeature => net::set_features(config, c, true),
        Change::DisableFeature => net::set_features(config, c, false),
        Change::SetSurge | Change::UnsetSurge => {
            config.surge.put_all(c);
            Ok(())
        }
        Change::SetNsConfig => net::set_ns_config(config, c),
        Change::Ports(change) => ports::carry_out(config, change, c),
        Change::AddServer => lb::add_server(config, c),
        Change::SetServer | Change::UnsetServer => lb::set_server(config, c),
        Change::RmServer => lb::rm_server(config, c),
        Change::RenameServer => lb::rename_server(config, c),
        Change::EnableServer => lb::enable_server(config, c, true),
        Change::DisableServer => lb::enable_server(config, c, false),
        Change::AddService => lb::add_service(config, c),
        Change::SetService | Change::UnsetService => lb::set_service(config, c),
        Change::RmService => lb::rm_service(config, c),
        Change::RenameService => lb::rename_service(config, c),
        Change::EnableService => lb::enable_service(config, c, true),
        Change::DisableService => lb::enable_service(config, c, false),
        Change::BindService => lb::bind_monitor(config, c),
        Change::UnbindService => lb::unbind_monitor(config, c),
        Change::Group(change) => group::carry_out(config, change, c),
        Change::AddMonitor => monitor::add(config, c),
        Change::SetMonitor | Change::UnsetMonitor => monitor::set(config, c),
        Change::RmMonitor => monitor::rm(config, c),
        Change::EnableMonitor => monitor::enable(config, c, true),
        Change::DisableMonitor => monitor::enable(config, c, false),
        Change::AddVserver => lb::add_vserver(config, c),
        Change::SetVserver | Change::UnsetVserver => lb::set_vserver(config, c),
        Change::RmVserver => lb::rm_vserver(config, c),
        Change::RenameVserver => lb::rename_vserver(config, c),
        Change::EnableVserver => lb::enable_vserver(config, c, true),
        Change::DisableVserver => lb::enable_vserver(config, c, false),
        Change::BindVserver => lb::bind_vserver(config, c),
        Change::UnbindVserver => lb::unbind_vserver(config, c),
        Change::AddHaNode => ha::add_node(config, c),
        Change::SetHaNode | Change::UnsetHaNode => ha::set_node(config, c),
        Change::RmHaNode => ha::rm_node(config, c),
        Change::BindHaNode => ha::bind_route(config, c),
        Change::UnbindHaNode => ha::unbind_route(config, c),
        Change::AddHook => ha::add_hook(config, c),
        Change::RmHook => ha::rm_hook(config, c),
        Change::SetRpcNode | Change::UnsetRpcNode => ha::set_rpc_node(config, c),
    }
}

/// `No such resource [what, name]`.
fn missing(what: &str, name: &str) -> CommandError {
    CommandError::about(messages::NO_SUCH_RESOURCE, what, name)
}

/// `Resource already exists [what, name]`.
fn exists(what: &str, name: &str) -> CommandError {
    CommandError::about(messages::EXISTS, what, name)
}
