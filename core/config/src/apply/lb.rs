//! Changes of servers, services, monitors and vservers.

use core::net::{IpAddr, Ipv4Addr};

use super::net::{claim_vip, release_vip};
use super::{Applied, exists, missing};
use crate::check::{self, Asked, Candidate};
use crate::command::Command;
use crate::config::{Config, Named};
use crate::error::{CommandError, messages};
use crate::model::{
    AddressPattern, Binding, ConnFailover, LbVserver, Leaving, Method, MonitorBinding, Persistence, Redirection,
    Server, Service, ServiceType,
};
use crate::options::Options as _;
use crate::spill::{self, Spillover};
use crate::value::Value;

pub(super) fn service_type(c: &Command, at: usize) -> Result<ServiceType, CommandError> {
    let word = c.name(at);
    ServiceType::of_word(word).ok_or_else(|| CommandError::about(messages::INVALID_VALUE, "serviceType", word))
}

fn address(c: &Command, at: usize) -> Result<IpAddr, CommandError> {
    let (addr, _) = c.network(at).ok_or_else(|| CommandError::with(messages::ARGUMENT_MISSING, "IPAddress"))?;
    Ok(addr)
}

pub(super) fn port(c: &Command, at: usize) -> Option<u16> {
    c.arg(at).and_then(Value::as_port)
}

pub(super) fn weight(c: &Command) -> u8 {
    c.option("weight").and_then(Value::as_number).map_or(1, |n| u8::try_from(n).unwrap_or(100))
}

// Servers.

pub(super) fn add_server(config: &mut Config, c: &Command) -> Applied {
    let (name, addr) = (c.name(0), address(c, 1)?);
    let mut server = free_server(config, name, addr)?;
    server.put_all(c);
    config.servers.insert(name, server);
    Ok(())
}

/// A server that may be added under that name and address.
fn free_server(config: &Config, name: &str, addr: IpAddr) -> Result<Server, CommandError> {
    if config.servers.get(name).is_some() {
        return Err(exists("name", name));
    }
    free_server_address(config, name, addr)?;
    Ok(Server { name: name.to_owned(), addr, enabled: true, leaving: None, comment: String::new() })
}

fn free_server_address(config: &Config, name: &str, addr: IpAddr) -> Applied {
    check::host_address(addr)?;
    match config.servers.iter().find(|s| s.addr == addr && s.name != name) {
        Some(other) => Err(CommandError::about(messages::ADDRESS_IN_USE, "IPAddress", &other.name)),
        None => Ok(()),
    }
}

pub(super) fn set_server(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    let mut wanted = config.servers.get(name).ok_or_else(|| missing("name", name))?.clone();
    wanted.put_all(c);
    free_server_address(config, name, wanted.addr)?;
    let candidate = Candidate { config, server: Some(&wanted) };
    for service in config.services.iter().filter(|s| s.server == name) {
        candidate.bound_service(service)?;
    }
    replace(config.servers.get_mut(name), wanted);
    Ok(())
}

pub(super) fn replace<T>(place: Option<&mut T>, wanted: T) {
    if let Some(place) = place {
        *place = wanted;
    }
}

pub(super) fn rm_server(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    config.servers.get(name).ok_or_else(|| missing("name", name))?;
    if let Some(user) = config.services.iter().find(|s| s.server == name) {
        let user = user.group.as_ref().unwrap_or(&user.name);
        return Err(CommandError::about(messages::IN_USE, "name", &format!("{name}, {user}")));
    }
    config.servers.remove(name);
    Ok(())
}

pub(super) fn rename_server(config: &mut Config, c: &Command) -> Applied {
    let (name, to) = new_name(&config.servers, c)?;
    if let Some(server) = config.servers.rename(name, to) {
        server.name = to.to_owned();
    }
    let users = config.services.iter_mut().filter(|service| service.server == name);
    users.for_each(|service| service.server = to.to_owned());
    super::group::rename_members(config, |service| service.server == to);
    Ok(())
}

/// The name of an object that is there, and the free one that it gets.
fn new_name<'c, T>(objects: &Named<T>, c: &'c Command) -> Result<(&'c str, &'c str), CommandError> {
    let (name, to) = (c.name(0), c.name(1));
    objects.get(name).ok_or_else(|| missing("name", name))?;
    if objects.get(to).is_some() {
        return Err(exists("newName", to));
    }
    Ok((name, to))
}

pub(super) fn enable_server(config: &mut Config, c: &Command, on: bool) -> Applied {
    let name = c.name(0);
    let server = config.servers.get_mut(name).ok_or_else(|| missing("name", name))?;
    (server.enabled, server.leaving) = (on, leaving(c));
    Ok(())
}

/// How `disable` says that something goes; `enable` has no words for it.
pub(super) fn leaving(c: &Command) -> Option<Leaving> {
    let given = c.option("delay").or(c.arg(1)).and_then(Value::as_number);
    let delay = given.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let graceful = c.option("graceFul").and_then(Value::as_word) == Some("YES");
    (delay.is_some() || graceful).then_some(Leaving { delay_s: delay, graceful })
}

// Services.

pub(super) fn add_service(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    free_service_name(config, "name", name)?;
    let (server, made) = service_server(config, c.name(1))?;
    let mut service = Service { server, port: port(c, 3), ..blank_service(config, name, service_type(c, 2)?) };
    service.put_all(c);
    check::proxy_port(&service)?;
    check::exact_for_ftp(service.kind, service.port.is_some())?;
    check::service_address(config, &service)?;
    if let Some(server) = made {
        config.servers.insert(&server.name.clone(), server);
    }
    config.services.insert(name, service);
    Ok(())
}

/// Services and service groups are bound by name alone, so they share their names.
pub(super) fn free_service_name(config: &Config, argument: &str, name: &str) -> Applied {
    match config.services.get(name).is_some() || config.groups.get(name).is_some() {
        true => Err(exists(argument, name)),
        false => Ok(()),
    }
}

/// A service as it is made, without a server.
pub(super) fn blank_service(config: &Config, name: &str, kind: ServiceType) -> Service {
    Service {
        id: config.services.next_id(),
        name: name.to_owned(),
        group: None,
        server: String::new(),
        kind,
        port: None,
        usip: config.modes.usip,
        use_proxy_port: false,
        max_clients: 0,
        surge_protection: false,
        tcp_buffering: false,
        client_timeout: None,
        server_timeout: None,
        health_monitor: true,
        monitor_threshold: 0,
        hash_id: None,
        enabled: true,
        leaving: None,
        comment: String::new(),
        monitors: Vec::new(),
    }
}

/// The server that a service names: by its name, by its address, or one to be made.
pub(super) fn service_server(config: &Config, word: &str) -> Result<(String, Option<Server>), CommandError> {
    if config.servers.get(word).is_some() {
        return Ok((word.to_owned(), None));
    }
    let Ok(addr) = word.parse::<IpAddr>() else { return Err(CommandError::with(messages::NO_SUCH_SERVER, word)) };
    if let Some(server) = config.servers.iter().find(|s| s.addr == addr) {
        return Ok((server.name.clone(), None));
    }
    let server = free_server(config, &addr.to_string(), addr)?;
    Ok((server.name.clone(), Some(server)))
}

pub(super) fn set_service(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    let mut wanted = config.services.get(name).ok_or_else(|| missing("name", name))?.clone();
    wanted.put_all(c);
    Candidate::of(config).bound_service(&wanted)?;
    replace(config.services.get_mut(name), wanted);
    Ok(())
}

pub(super) fn rm_service(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    config.services.remove(name).ok_or_else(|| missing("name", name))?;
    for vserver in config.vservers.iter_mut() {
        vserver.bindings.retain(|b| b.service != name);
    }
    Ok(())
}

pub(super) fn rename_service(config: &mut Config, c: &Command) -> Applied {
    let (name, to) = new_name(&config.services, c)?;
    free_service_name(config, "newName", to)?;
    if let Some(service) = config.services.rename(name, to) {
        service.name = to.to_owned();
    }
    let bindings = config.vservers.iter_mut().flat_map(|vserver| &mut vserver.bindings);
    bindings.filter(|binding| binding.service == name).for_each(|binding| binding.service = to.to_owned());
    Ok(())
}

pub(super) fn enable_service(config: &mut Config, c: &Command, on: bool) -> Applied {
    let name = c.name(0);
    let service = config.services.get_mut(name).ok_or_else(|| missing("name", name))?;
    (service.enabled, service.leaving) = (on, leaving(c));
    Ok(())
}

pub(super) fn bind_monitor(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    let mut wanted = config.services.get(name).ok_or_else(|| missing("name", name))?.clone();
    monitor_bound(config, &mut wanted, c)?;
    replace(config.services.get_mut(name), wanted);
    Ok(())
}

/// Binds the monitor that a command names to a service, or to what a group's members are made from.
pub(super) fn monitor_bound(config: &Config, service: &mut Service, c: &Command) -> Applied {
    let monitor = monitor_option(c);
    if config.monitor(monitor).is_none() {
        return Err(missing("monitorName", monitor));
    }
    if service.monitors.iter().any(|b| b.monitor == monitor) {
        return Err(exists("monitorName", monitor));
    }
    let enabled = c.option("monState") != Some(&Value::Word("DISABLED"));
    service.monitors.push(MonitorBinding { monitor: monitor.to_owned(), weight: weight(c), enabled });
    Ok(())
}

fn monitor_option(c: &Command) -> &str {
    c.option("monitorName").and_then(Value::as_text).unwrap_or_default()
}

pub(super) fn unbind_monitor(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    monitor_unbound(config.services.get_mut(name).ok_or_else(|| missing("name", name))?, c)
}

/// Unbinds the monitor that a command names.
pub(super) fn monitor_unbound(service: &mut Service, c: &Command) -> Applied {
    let monitor = monitor_option(c);
    let at = service.monitors.iter().position(|b| b.monitor == monitor);
    service.monitors.remove(at.ok_or_else(|| missing("monitorName", monitor))?);
    Ok(())
}

// Vservers.

pub(super) fn add_vserver(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    if config.vservers.get(name).is_some() {
        return Err(exists("name", name));
    }
    let mut vserver = LbVserver {
        id: config.vservers.next_id(),
        name: name.to_owned(),
        kind: service_type(c, 1)?,
        addr: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        pattern: pattern(c)?,
        port: Some(0),
        enabled: true,
        method: Method::default(),
        hash_mask: 32,
        v6_hash_mask_len: 128,
        backup: Method::RoundRobin,
        persistence: Persistence::None,
        persistence_timeout: 2,
        persist_mask: 32,
        v6_persist_mask_len: 128,
        redirection: Redirection::Ip,
        sessionless: false,
        failover: ConnFailover::Disabled,
        spill: Spillover::default(),
        close_on_response: false,
        client_timeout: None,
        comment: String::new(),
        bindings: Vec::new(),
    };
    match (c.arg(2), c.arg(3)) {
        (Some(Value::Address(addr)), Some(Value::Port(port))) => (vserver.addr, vserver.port) = (*addr, *port),
        (None, _) => {}
        (Some(_), _) => return Err(CommandError::with(messages::ARGUMENT_MISSING, "port")),
    }
    vserver.put_all(c);
    checked_vserver(config, &vserver)?;
    config.vservers.insert(name, vserver);
    Ok(())
}

/// The addresses of a vserver without one of its own.
fn pattern(c: &Command) -> Result<Option<AddressPattern>, CommandError> {
    let v4 = |option| match c.option(option).and_then(Value::as_network) {
        Some((IpAddr::V4(addr), _)) => Ok(Some(addr)),
        Some((addr, _)) => Err(CommandError::about(messages::INVALID_IP, option, &addr.to_string())),
        None => Ok(None),
    };
    let pattern = match (v4("IPPattern")?, v4("IPMask")?) {
        (Some(pattern), Some(mask)) => AddressPattern { pattern, mask },
        (Some(_), None) => return Err(CommandError::with(messages::ARGUMENT_MISSING, "IPMask")),
        (None, Some(_)) => return Err(CommandError::with(messages::PREREQUISITE_MISSING, "IPMask, IPPattern")),
        (None, None) => return Ok(None),
    };
    check::pattern(&pattern)?;
    Ok(Some(pattern))
}

/// All rules about a vserver; makes its VIP if it has none.
fn checked_vserver(config: &mut Config, vserver: &LbVserver) -> Applied {
    check_mask(vserver)?;
    if vserver.pattern.is_some() && vserver.addr != Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
        return Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, "IPAddress, IPPattern"));
    }
    check_backup(vserver)?;
    check::close_on_response(vserver)?;
    spill::possible(config, vserver)?;
    Candidate::of(config).vserver(vserver)?;
    check::vserver_address(config, vserver)?;
    claim_vip(config, vserver.addr)
}

fn check_mask(vserver: &LbVserver) -> Applied {
    for (option, len) in [("persistMask", vserver.persist_mask), ("netmask", vserver.hash_mask)] {
        if !(1..=32).contains(&len) {
            return Err(CommandError::about(messages::INVALID_NETMASK, option, &len.to_string()));
        }
    }
    Ok(())
}

/// A method cannot stand in for itself; ROUNDROBIN needs nobody, and has the default behind it.
fn check_backup(vserver: &LbVserver) -> Applied {
    match vserver.backup == vserver.method && vserver.method != Method::RoundRobin {
        true => Err(CommandError::about(messages::BACKUP_IS_PRIMARY, "backupLBMethod", vserver.backup.word())),
        false => Ok(()),
    }
}

pub(super) fn set_vserver(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    let mut wanted = config.vservers.get(name).ok_or_else(|| missing("name", name))?.clone();
    wanted.put_all(c);
    checked_vserver(config, &wanted)?;
    let old = config.vservers.get(name).and_then(|v| v.addr);
    replace(config.vservers.get_mut(name), wanted);
    release_vip(config, old);
    Ok(())
}

pub(super) fn rm_vserver(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    if let Some(user) = config.vservers.iter().find(|v| v.spill.backup.as_deref() == Some(name)) {
        return Err(CommandError::about(messages::IN_USE, "name", &format!("{name}, {}", user.name)));
    }
    let removed = config.vservers.remove(name).ok_or_else(|| missing("name", name))?;
    release_vip(config, removed.addr);
    Ok(())
}

pub(super) fn rename_vserver(config: &mut Config, c: &Command) -> Applied {
    let (name, to) = new_name(&config.vservers, c)?;
    if let Some(vserver) = config.vservers.rename(name, to) {
        vserver.name = to.to_owned();
    }
    let users = config.vservers.iter_mut().filter(|v| v.spill.backup.as_deref() == Some(name));
    users.for_each(|vserver| vserver.spill.backup = Some(to.to_owned()));
    Ok(())
}

pub(super) fn enable_vserver(config: &mut Config, c: &Command, on: bool) -> Applied {
    let name = c.name(0);
    config.vservers.get_mut(name).ok_or_else(|| missing("name", name))?.enabled = on;
    Ok(())
}

pub(super) fn bind_vserver(config: &mut Config, c: &Command) -> Applied {
    let (name, service) = (c.name(0), c.name(1));
    let mut wanted = config.vservers.get(name).ok_or_else(|| missing("name", name))?.clone();
    if wanted.bindings.iter().any(|b| b.service == service) {
        return Err(exists("serviceName", service));
    }
    let binding = Binding { service: service.to_owned(), weight: weight(c) };
    let bound = config.behind(&binding);
    if bound.is_empty() {
        return Err(missing("serviceName", service));
    }
    // Each member has a weight of its own.
    if config.groups.get(service).is_some() && c.option("weight").is_some() {
        return Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, format!("{service}, weight")));
    }
    wanted.bindings.push(binding);
    bound.into_iter().try_for_each(|bound| Candidate::of(config).bound(&wanted, bound, Asked::Bind))?;
    replace(config.vservers.get_mut(name), wanted);
    Ok(())
}

pub(super) fn unbind_vserver(config: &mut Config, c: &Command) -> Applied {
    let (name, service) = (c.name(0), c.name(1));
    let vserver = config.vservers.get_mut(name).ok_or_else(|| missing("name", name))?;
    let at = vserver.bindings.iter().position(|b| b.service == service);
    vserver.bindings.remove(at.ok_or_else(|| missing("serviceName", service))?);
    Ok(())
}
