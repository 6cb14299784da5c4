//! Changes of service groups.

use super::lb::{blank_service, free_service_name, monitor_bound, monitor_unbound, port, service_server, service_type};
use super::lb::{leaving, replace, weight};
use super::{Applied, exists, missing};
use crate::check::{self, Asked, Candidate};
use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::group::ServiceGroup;
use crate::model::{Binding, Service};
use crate::options::Options as _;
use crate::table::GroupChange;

pub(super) fn carry_out(config: &mut Config, change: GroupChange, c: &Command) -> Applied {
    match change {
        GroupChange::Add => add(config, c),
        GroupChange::Set | GroupChange::Unset => set(config, c),
        GroupChange::Rm => rm(config, c),
        GroupChange::Rename => rename(config, c),
        GroupChange::Enable => enable(config, c, true),
        GroupChange::Disable => enable(config, c, false),
        GroupChange::Bind => bind(config, c),
        GroupChange::Unbind => unbind(config, c),
    }
}

fn add(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    free_service_name(config, "serviceGroupName", name)?;
    let mut group = ServiceGroup::new(blank_service(config, name, service_type(c, 1)?));
    group.put_all(c);
    check::proxy_port(&group.pattern)?;
    config.groups.insert(name, group);
    Ok(())
}

fn found(config: &Config, c: &Command) -> Result<ServiceGroup, CommandError> {
    let name = c.name(0);
    config.groups.get(name).cloned().ok_or_else(|| missing("serviceGroupName", name))
}

fn set(config: &mut Config, c: &Command) -> Applied {
    let of_member = ["weight", "hashId"];
    let misplaced = |member: bool| c.opts.iter().find(|(opt, _)| of_member.contains(&opt.name) != member);
    if c.text(1).is_some() {
        return match misplaced(true) {
            Some((opt, _)) => {
                Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, format!("{}, serverName", opt.name)))
            }
            None => set_member(config, c),
        };
    }
    if let Some((opt, _)) = misplaced(false) {
        return Err(CommandError::with(messages::PREREQUISITE_MISSING, format!("serverName, {}", opt.name)));
    }
    let mut wanted = found(config, c)?;
    wanted.put_all(c);
    fit(config, wanted)
}

/// Puts a group in its place whose settings changed, and its members with it.
fn fit(config: &mut Config, wanted: ServiceGroup) -> Applied {
    let members = wanted.members.iter().filter_map(|member| config.services.get(&member.service));
    let members: Vec<Service> = members.map(|member| wanted.fitted(member)).collect();
    let every = |service: &Service| Candidate::of(config).bound_service(service);
    members.iter().chain([&wanted.pattern]).try_for_each(every)?;
    for member in members {
        replace(config.services.get_mut(&member.name.clone()), member);
    }
    replace(config.groups.get_mut(&wanted.pattern.name.clone()), wanted);
    Ok(())
}

/// Name of the member that a command names by server (or its address) and port.
fn named_member(config: &Config, group: &ServiceGroup, c: &Command) -> Result<String, CommandError> {
    let Some(word) = c.text(1) else { return Err(CommandError::with(messages::ARGUMENT_MISSING, "serverName")) };
    if c.arg(2).is_none() {
        return Err(CommandError::with(messages::ARGUMENT_MISSING, "port"));
    }
    let (server, _) = service_server(config, word)?;
    let name = group.member_name(&server, port(c, 2));
    match config.services.get(&name) {
        Some(_) => Ok(name),
        None => Err(missing("serverName", &format!("{server}, {}", crate::lines::port(port(c, 2))))),
    }
}

fn set_member(config: &mut Config, c: &Command) -> Applied {
    let mut group = found(config, c)?;
    let name = named_member(config, &group, c)?;
    if c.option("weight").is_some() {
        group.members.iter_mut().filter(|m| m.service == name).for_each(|m| m.weight = weight(c));
    }
    if let Some(service) = config.services.get_mut(&name) {
        service.put_all(c);
    }
    replace(config.groups.get_mut(c.name(0)), group);
    Ok(())
}

fn rm(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    let group = config.groups.remove(name).ok_or_else(|| missing("serviceGroupName", name))?;
    for member in &group.members {
        config.services.remove(&member.service);
    }
    for vserver in config.vservers.iter_mut() {
        vserver.bindings.retain(|b| b.service != name);
    }
    Ok(())
}

fn enable(config: &mut Config, c: &Command, on: bool) -> Applied {
    let mut group = found(config, c)?;
    if c.text(1).is_some() {
        let name = named_member(config, &group, c)?;
        if let Some(member) = config.services.get_mut(&name) {
            (member.enabled, member.leaving) = (on, leaving(c));
        }
        return Ok(());
    }
    (group.pattern.enabled, group.pattern.leaving) = (on, leaving(c));
    fit(config, group)
}

fn rename(config: &mut Config, c: &Command) -> Applied {
    let (name, to) = (c.name(0), c.name(1));
    found(config, c)?;
    free_service_name(config, "newName", to)?;
    if let Some(group) = config.groups.rename(name, to) {
        group.pattern.name = to.to_owned();
    }
    let members = config.services.iter_mut().filter(|service| service.group.as_deref() == Some(name));
    members.for_each(|service| service.group = Some(to.to_owned()));
    rename_members(config, |service| service.group.as_deref() == Some(to));
    let bindings = config.vservers.iter_mut().flat_map(|vserver| &mut vserver.bindings);
    bindings.filter(|binding| binding.service == name).for_each(|binding| binding.service = to.to_owned());
    Ok(())
}

/// Gives members the names that follow from their group and server.
pub(super) fn rename_members(config: &mut Config, of: impl Fn(&Service) -> bool) {
    let name_of = |service: &Service| {
        let group = config.groups.get(service.group.as_ref()?)?;
        Some((service.name.clone(), group.member_name(&service.server, service.port)))
    };
    let renamed: Vec<(String, String)> = config.services.iter().filter(|s| of(s)).filter_map(name_of).collect();
    for (name, to) in renamed.into_iter().filter(|(name, to)| name != to) {
        if let Some(service) = config.services.rename(&name, &to) {
            service.name.clone_from(&to);
        }
        let members = config.groups.iter_mut().flat_map(|group| &mut group.members);
        members.filter(|member| member.service == name).for_each(|member| member.service.clone_from(&to));
    }
}

fn bind(config: &mut Config, c: &Command) -> Applied {
    match (c.text(1), c.option("monitorName")) {
        (Some(_), Some(_)) => Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, "serverName, monitorName")),
        (Some(_), None) => bind_member(config, c),
        (None, Some(_)) => {
            let mut group = found(config, c)?;
            monitor_bound(config, &mut group.pattern, c)?;
            fit(config, group)
        }
        (None, None) => Err(CommandError::with(messages::ARGUMENT_MISSING, "serverName")),
    }
}

fn bind_member(config: &mut Config, c: &Command) -> Applied {
    let mut group = found(config, c)?;
    if c.option("monState").is_some() {
        return Err(CommandError::with(messages::PREREQUISITE_MISSING, "monitorName, monState"));
    }
    if c.arg(2).is_none() {
        return Err(CommandError::with(messages::ARGUMENT_MISSING, "port"));
    }
    let (server, made) = service_server(config, c.name(1))?;
    let own = Service {
        id: config.services.next_id(),
        server,
        port: port(c, 2),
        enabled: true,
        leaving: None,
        hash_id: None,
        ..group.pattern.clone()
    };
    let mut member = group.fitted(&own);
    member.put_all(c);
    if config.services.get(&member.name).is_some() {
        return Err(exists("serverName", c.name(1)));
    }
    check::exact_for_ftp(member.kind, member.port.is_some())?;
    check::service_address(config, &member)?;
    let candidate = Candidate { config, server: made.as_ref() };
    config.vservers_of(&member).try_for_each(|vserver| candidate.bound(vserver, &member, Asked::Bind))?;
    if let Some(server) = made {
        config.servers.insert(&server.name.clone(), server);
    }
    group.members.push(Binding { service: member.name.clone(), weight: weight(c) });
    config.services.insert(&member.name.clone(), member);
    replace(config.groups.get_mut(c.name(0)), group);
    Ok(())
}

fn unbind(config: &mut Config, c: &Command) -> Applied {
    let mut group = found(config, c)?;
    match (c.text(1), c.option("monitorName")) {
        (Some(_), Some(_)) => Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, "serverName, monitorName")),
        (None, Some(_)) => {
            monitor_unbound(&mut group.pattern, c)?;
            fit(config, group)
        }
        (_, None) => {
            let name = named_member(config, &group, c)?;
            config.services.remove(&name);
            group.members.retain(|member| member.service != name);
            replace(config.groups.get_mut(c.name(0)), group);
            Ok(())
        }
    }
}
