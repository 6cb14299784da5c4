//! `show` and `stat`: configuration and live facts in the market's layouts.
//!
//! Each view has two forms: text, line by line as the market prints it with our own lines
//! behind, and JSON with the names of the REST interface.

mod group;
mod ha;
mod lb;
mod monitor;
mod net;
mod ports;
mod rehearse;
mod stat;

use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::facts::{Facts, Health};
use crate::json::Json;
use crate::model::{LbVserver, Service};
use crate::table::{Effect, View};

/// What a view is made of.
pub(crate) struct Scene<'a> {
    pub config: &'a Config,
    pub facts: &'a dyn Facts,
    pub command: &'a Command,
}

/// The answer to a `show` or `stat` command, without the ` Done` that follows it. Ends with a
/// line feed unless empty.
///
/// `show ns connectiontable` and `show lb persistentSessions` give the header only: the rows come from the node in slices.
pub fn show(command: &Command, config: &Config, facts: &dyn Facts) -> Result<String, CommandError> {
    let scene = Scene { config, facts, command };
    match view(command)? {
        View::Ip => net::ips(&scene),
        View::Route => Ok(net::routes(&scene)),
        View::Mode => Ok(net::modes(&scene)),
        View::Feature => Ok(net::features(&scene)),
        View::Surge => Ok(net::surge(&scene)),
        View::NsConfig => Ok(net::ns_config(&scene)),
        View::Interface => ports::interfaces(&scene),
        View::Fis => ports::failover_sets(&scene),
        View::Vrid => ports::virtual_routers(&scene),
        View::Hook => ports::hooks(&scene),
        View::RunningConfig => Ok(net::running_config(&scene)),
        View::Version => Ok(net::version(&scene)),
        View::ConnectionTable => net::connection_table(command),
        View::PersistentSessions => lb::session_list(&scene),
        View::DataPlane => Ok(net::data_plane(&scene)),
        View::Server => lb::servers(&scene),
        View::Service => lb::services(&scene),
        View::Group => group::groups(&scene),
        View::StatGroup => stat::groups(&scene),
        View::Monitor => monitor::list(&scene),
        View::Vserver => lb::vservers(&scene),
        View::HaNode => ha::nodes(&scene),
        View::RpcNode => ha::rpc_nodes(&scene),
        View::StatVserver => stat::vservers(&scene),
        View::StatService => stat::services(&scene),
        View::StatHaNode => stat::ha_node(&scene),
        View::Rehearse => Ok(rehearse::text(&scene)),
    }
}

/// The same as JSON: one object whose key is the REST resource, as its `GET` answers.
pub fn show_json(command: &Command, config: &Config, facts: &dyn Facts) -> Result<String, CommandError> {
    let scene = Scene { config, facts, command };
    let value = match view(command)? {
        View::Ip => net::ips_json(&scene)?,
        View::Route => net::routes_json(&scene),
        View::Mode => net::modes_json(&scene),
        View::Feature => net::features_json(&scene),
        View::Surge => net::surge_json(&scene),
        View::NsConfig => net::ns_config_json(&scene),
        View::Interface => ports::interfaces_json(&scene)?,
        View::Fis => ports::failover_sets_json(&scene)?,
        View::Vrid => ports::virtual_routers_json(&scene)?,
        View::Hook => ports::hooks_json(&scene)?,
        View::RunningConfig => net::running_config_json(&scene),
        View::Version => net::version_json(&scene),
        View::ConnectionTable | View::PersistentSessions => Json::List(Vec::new()),
        View::DataPlane => net::data_plane_json(&scene),
        View::Server => lb::servers_json(&scene)?,
        View::Service => lb::services_json(&scene)?,
        View::Group => group::groups_json(&scene)?,
        View::StatGroup => stat::groups_json(&scene)?,
        View::Monitor => monitor::list_json(&scene)?,
        View::Vserver => lb::vservers_json(&scene)?,
        View::HaNode => ha::nodes_json(&scene)?,
        View::RpcNode => ha::rpc_nodes_json(&scene)?,
        View::StatVserver => stat::vservers_json(&scene)?,
        View::StatService => stat::services_json(&scene)?,
        View::StatHaNode => stat::ha_node_json(&scene)?,
        View::Rehearse => rehearse::json(&scene),
    };
    Ok(Json::Object(vec![(command.row.nitro, value)]).write())
}

fn view(command: &Command) -> Result<View, CommandError> {
    match command.row.effect {
        Effect::Show(view) => Ok(view),
        Effect::Shared(_) | Effect::Local(_) | Effect::Act(_) => {
            Err(CommandError::with(messages::NOT_PERMITTED, command.row.title()))
        }
    }
}

/// The objects that a command asks for: the named one, or all.
fn chosen<'a, T>(
    scene: &Scene<'_>,
    what: &str,
    all: impl Iterator<Item = &'a T>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<&'a T>, CommandError> {
    match scene.command.text(0) {
        None => Ok(all.collect()),
        Some(wanted) => {
            let found: Vec<&T> = all.filter(|o| name(o) == wanted).collect();
            match found.is_empty() {
                true => Err(CommandError::about(messages::NO_SUCH_RESOURCE, what, wanted)),
                false => Ok(found),
            }
        }
    }
}

/// The health as the market spells it.
fn health(health: Health) -> &'static str {
    match health {
        Health::Up => "UP",
        Health::Down => "DOWN",
        Health::Unknown => "UNKNOWN",
        Health::OutOfService => "OUT OF SERVICE",
        Health::GoingOutOfService => "GOING OUT OF SERVICE",
        Health::DownWhenGoingOutOfService => "DOWN WHEN GOING OUT OF SERVICE",
    }
}

/// The health of a service: what is not served is DOWN, or what the operator took out of service.
fn service_health(s: &Scene<'_>, service: &Service) -> Health {
    let leaving = || s.config.leaving(service).is_some() && service.kind.unserved().is_none();
    match (s.config.service_enabled(service), service.kind.unserved()) {
        (false, _) if leaving() => match s.facts.service(service.id).health {
            Health::Up => Health::GoingOutOfService,
            _ => Health::DownWhenGoingOutOfService,
        },
        (false, _) => Health::OutOfService,
        (true, Some(_)) => Health::Down,
        (true, None) => s.facts.service(service.id).health,
    }
}

/// The health of a vserver: what is not served is DOWN, or what the operator took out of service.
fn vserver_health(s: &Scene<'_>, vserver: &LbVserver) -> Health {
    match (vserver.enabled, vserver.unserved()) {
        (false, _) => Health::OutOfService,
        (true, Some(_)) => Health::Down,
        (true, None) => s.facts.vserver(vserver.id).health,
    }
}

/// Numbers an entry of a list; a single one asked for by name stands alone.
fn numbered(scene: &Scene<'_>, index: usize) -> String {
    if scene.command.text(0).is_some() { "\t".to_owned() } else { format!("{})\t", index + 1) }
}
