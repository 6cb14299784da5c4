//! The configuration: all objects, found by name.

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::command::Command;
use crate::error::{CommandError, Warning};
use crate::group::ServiceGroup;
use crate::model::{
    Binding, FailoverSet, HaSettings, Hook, Interface, IpKind, LbVserver, Leaving, Modes, MonitorBinding, NsConfig,
    NsIp, Route, RpcNode, Server, Service, VirtualRouter,
};
use crate::monitor::Monitor;
use crate::surge::SurgeProtection;
use crate::table::{Effect, Subject};
use crate::value::Value;

/// Which part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What both nodes have in common.
    Shared,
    /// What belongs to this node: its address, ports, peer, passwords.
    Local,
}

/// Objects in the order of the commands that make them, found by name and by number.
///
/// A number belongs to one object for ever. Where it stands is another matter: what the primary's
/// configuration puts between two objects that are here already stands between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<T> {
    objects: BTreeMap<u32, T>,
    names: BTreeMap<String, u32>,
    order: Vec<u32>,
    next: u32,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named { objects: BTreeMap::new(), names: BTreeMap::new(), order: Vec::new(), next: 1 }
    }
}

impl<T> Named<T> {
    /// An empty collection whose numbers go on where those of `former` ended.
    pub(crate) fn continuing(former: &Named<T>) -> Named<T> {
        Named { next: former.next, ..Named::default() }
    }

    /// The number that the next object gets; numbers are never used twice.
    pub(crate) fn next_id(&self) -> u32 {
        self.next
    }

    pub(crate) fn insert(&mut self, name: &str, object: T) {
        let id = self.next;
        assert!(self.names.insert(name.to_owned(), id).is_none(), "names are unique");
        self.objects.insert(id, object);
        self.order.push(id);
        self.next += 1;
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<T> {
        let id = self.names.remove(name)?;
        self.order.retain(|other| *other != id);
        self.objects.remove(&id)
    }

    /// Gives an object another name, which must be free; the object's own copy of it is the caller's.
    pub(crate) fn rename(&mut self, name: &str, to: &str) -> Option<&mut T> {
        let id = self.names.remove(name)?;
        assert!(self.names.insert(to.to_owned(), id).is_none(), "names are unique");
        self.objects.get_mut(&id)
    }

    /// What `former` has too, as `same` judges, gets the number that it has there; `put` writes
    /// it into the object. The others keep theirs, which `former` must not know.
    pub(crate) fn renumber(&mut self, former: &Named<T>, same: impl Fn(&T, &T) -> bool, put: impl Fn(&mut T, u32)) {
        let mut numbers = BTreeMap::new();
        for (name, id) in &mut self.names {
            let Some(known) = former.names.get(name) else { continue };
            if self.objects.get(id).zip(former.objects.get(known)).is_some_and(|(ours, theirs)| same(ours, theirs)) {
                numbers.insert(*id, *known);
                *id = *known;
            }
        }
        let number = |id: u32| numbers.get(&id).copied().unwrap_or(id);
        self.order.iter_mut().for_each(|id| *id = number(*id));
        for (id, mut object) in core::mem::take(&mut self.objects) {
            put(&mut object, number(id));
            self.objects.insert(number(id), object);
        }
        self.next = self.objects.keys().next_back().map_or(0, |last| last + 1).max(former.next);
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<&T> {
        self.objects.get(&id)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.objects.get(self.names.get(name)?)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.objects.get_mut(self.names.get(name)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.order.iter().filter_map(|id| self.objects.get(id))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// What all of them have, in all.
    pub(crate) fn sum(&self, of: impl Fn(&T) -> usize) -> usize {
        self.objects.values().map(of).sum()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.objects.values_mut()
    }
}

/// The configuration of a node. Every value in it has passed all checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(crate) ips: Vec<NsIp>,
    pub(crate) routes: Vec<Route>,
    pub(crate) modes: Modes,
    pub(crate) surge: SurgeProtection,
    pub(crate) servers: Named<Server>,
    pub(crate) services: Named<Service>,
    pub(crate) groups: Named<ServiceGroup>,
    pub(crate) monitors: Named<Monitor>,
    pub(crate) vservers: Named<LbVserver>,
    pub(crate) ns_config: NsConfig,
    pub(crate) ha: HaSettings,
    pub(crate) rpc_nodes: Vec<RpcNode>,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) failover_sets: Vec<FailoverSet>,
    pub(crate) virtual_routers: Vec<VirtualRouter>,
    pub(crate) hooks: Vec<Hook>,
}

impl Config {
    /// An empty configuration: nothing but defaults.
    pub fn new() -> Self {
        Config::default()
    }

    /// Whether a change belongs to this node alone and does not travel to the peer. With
    /// `-inc ENABLED` that is also what depends on the node's own subnets: SNIPs and routes.
    pub fn keeps_to_itself(&self, command: &Command) -> bool {
        let change = match command.row.effect {
            Effect::Local(_) => return true,
            Effect::Show(_) | Effect::Act(_) => return false,
            Effect::Shared(change) => change,
        };
        let snip = |addr| self.ips.iter().any(|ip| ip.addr == addr && ip.kind == IpKind::Snip);
        self.ha.inc
            && match change.subject() {
                Subject::Route => true,
                Subject::NewIp => command.option("type").and_then(Value::as_word) != Some(IpKind::Vip.word()),
                Subject::Ip => command.network(0).is_some_and(|(addr, _)| snip(addr)),
                Subject::Other => false,
            }
    }

    /// Carries out a change: either all of it, or an error and nothing.
    ///
    /// Commands that are no change are refused with 257.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Warning>, CommandError> {
        crate::apply::apply(self, command)
    }

    /// The configuration as commands that make it again when replayed in this order.
    ///
    /// Passwords that were not closed yet ([`Config::close_password`]) are in clear: for the 0600 file only.
    pub fn lines(&self, scope: Scope) -> Vec<String> {
        crate::lines::lines(self, scope, crate::lines::Style::File)
    }

    /// A hash of what both nodes have in common (FNV-1a over the shared lines); equal on both
    /// nodes if their configurations are.
    pub fn fingerprint(&self) -> u64 {
        fingerprint_of(&self.lines(Scope::Shared))
    }

    /// Passwords that are not closed yet, each with its entry.
    pub fn clear_passwords(&self) -> Vec<(IpAddr, String)> {
        let clear = self.rpc_nodes.iter().filter(|node| !node.encrypted && !node.password.is_empty());
        clear.map(|node| (node.addr, node.password.clone())).collect()
    }

    /// Replaces an entry's password in clear by what is written to the file.
    pub fn close_password(&mut self, addr: IpAddr, closed: String) {
        if let Some(node) = self.rpc_nodes.iter_mut().find(|node| node.addr == addr) {
            (node.password, node.encrypted) = (closed, true);
        }
    }

    /// Passwords of monitors that are closed, each with its monitor's name.
    pub fn closed_monitor_passwords(&self) -> Vec<(String, String)> {
        let closed = |m: &Monitor| {
            let login = m.kind.login().filter(|login| login.encrypted)?;
            Some((m.name.clone(), login.password.clone()))
        };
        self.monitors.iter().filter_map(closed).collect()
    }

    /// Replaces a monitor's closed password by the same in clear.
    pub fn open_monitor_password(&mut self, monitor: &str, clear: String) {
        if let Some(login) = self.monitors.get_mut(monitor).and_then(|m| m.kind.login_mut()) {
            (login.password, login.encrypted) = (clear, false);
        }
    }

    /// As [`Config::lines`] with everything, for a file: `close` closes the passwords that both nodes have in clear.
    pub fn lines_to_save(&self, mut close: impl FnMut(&str) -> String) -> Vec<String> {
        let mut closed = self.clone();
        let logins = closed.monitors.iter_mut().filter_map(|m| m.kind.login_mut());
        for login in logins.filter(|login| !login.encrypted && !login.password.is_empty()) {
            (login.password, login.encrypted) = (close(&login.password), true);
        }
        closed.lines(Scope::All)
    }

    /// Floating addresses, in the order they were added; those made by vservers included.
    pub fn ips(&self) -> &[NsIp] {
        &self.ips
    }

    /// Static routes.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Modes.
    pub fn modes(&self) -> Modes {
        self.modes
    }

    /// Surge protection.
    pub fn surge(&self) -> &SurgeProtection {
        &self.surge
    }

    /// Numbers of the services that a name stands for: a service, a service group, or those of a vserver.
    pub fn services_named(&self, name: &str) -> Vec<u32> {
        let vserver = self.vservers.get(name).into_iter().flat_map(|vserver| self.bound_services(vserver));
        let named = self.services.iter().filter(|s| s.name == name || s.group.as_deref() == Some(name));
        named.chain(vserver.map(|(service, _)| service)).map(|service| service.id).collect()
    }

    /// Servers, in the order of creation.
    pub fn servers(&self) -> impl Iterator<Item = &Server> + Clone {
        self.servers.iter()
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.get(name)
    }

    /// Services, members of service groups among them, in the order of the commands that make them.
    pub fn services(&self) -> impl Iterator<Item = &Service> + Clone {
        self.services.iter()
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// Service groups, in the order of creation.
    pub fn groups(&self) -> impl Iterator<Item = &ServiceGroup> + Clone {
        self.groups.iter()
    }

    /// The service group of that name.
    pub fn group(&self, name: &str) -> Option<&ServiceGroup> {
        self.groups.get(name)
    }

    /// What a binding stands for, as far as rules go: a service, or what a group's members are made from and
    /// its members. Nothing if there is no such thing.
    pub(crate) fn behind(&self, binding: &Binding) -> Vec<&Service> {
        let group = self.groups.get(&binding.service);
        let members = group.into_iter().flat_map(|g| &g.members).filter_map(|m| self.services.get(&m.service));
        let pattern = group.map(|group| &group.pattern);
        self.services.get(&binding.service).into_iter().chain(pattern).chain(members).collect()
    }

    /// The services of a vserver with their weights: those bound, and the members of groups bound.
    pub fn bound_services<'a>(&'a self, vserver: &'a LbVserver) -> impl Iterator<Item = (&'a Service, u8)> + 'a {
        let members = |binding: &'a Binding| match self.groups.get(&binding.service) {
            Some(group) => group.members.as_slice(),
            None => core::slice::from_ref(binding),
        };
        let bound = vserver.bindings.iter().flat_map(members);
        bound.filter_map(|binding| Some((self.services.get(&binding.service)?, binding.weight)))
    }

    /// Vservers, in the order of the commands that make them.
    pub fn vservers(&self) -> impl Iterator<Item = &LbVserver> + Clone {
        self.vservers.iter()
    }

    /// The vserver of that name.
    pub fn vserver(&self, name: &str) -> Option<&LbVserver> {
        self.vservers.get(name)
    }

    /// Monitors that were added; the built-in ones are not among them.
    pub fn monitors(&self) -> impl Iterator<Item = &Monitor> + Clone {
        self.monitors.iter()
    }

    /// The monitor of that name, built-in or added.
    pub fn monitor(&self, name: &str) -> Option<Monitor> {
        let built_in = || Monitor::built_in().into_iter().find(|m| m.name == name);
        self.monitors.get(name).cloned().or_else(built_in)
    }

    /// The node's management address.
    pub fn ns_config(&self) -> &NsConfig {
        &self.ns_config
    }

    /// How the node takes part in the pair.
    pub fn ha(&self) -> &HaSettings {
        &self.ha
    }

    /// RPC entries: the own one if the NSIP is known, and the peer's.
    pub fn rpc_nodes(&self) -> &[RpcNode] {
        &self.rpc_nodes
    }

    /// The RPC entry of a node.
    pub fn rpc_node(&self, addr: IpAddr) -> Option<&RpcNode> {
        self.rpc_nodes.iter().find(|n| n.addr == addr)
    }

    /// The nodes of a pair whose password is empty: with either, nobody is the peer.
    pub fn nodes_without_password(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let pair = self.ha.peer.map(|peer| [self.ns_config.addr, Some(peer.addr)]);
        let nodes = pair.into_iter().flatten().flatten();
        nodes.filter(|node| self.rpc_node(*node).is_none_or(|entry| entry.password.is_empty()))
    }

    /// Data ports, in the order they were added.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Failover sets, in the order they were added.
    pub fn failover_sets(&self) -> &[FailoverSet] {
        &self.failover_sets
    }

    /// Virtual MAC addresses, by number.
    pub fn virtual_routers(&self) -> &[VirtualRouter] {
        &self.virtual_routers
    }

    /// Programs run at a change of role, in the order they were added.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Interfaces whose failure alone is a partial failure of the node: enabled,
    /// monitored, in no failover set.
    pub fn critical_interfaces(&self) -> impl Iterator<Item = &Interface> {
        let in_set = |id: &String| self.failover_sets.iter().any(|set| set.members.contains(id));
        self.interfaces.iter().filter(move |port| port.enabled && port.ha_monitor && !in_set(&port.id))
    }

    /// Address of a service's server.
    pub fn service_address(&self, service: &Service) -> IpAddr {
        let server = self.servers.get(&service.server);
        server.map_or(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), |s| s.addr)
    }

    /// Neither the service nor its server is disabled, nor the group whose member it is.
    pub fn service_enabled(&self, service: &Service) -> bool {
        let group = service.group.as_ref().and_then(|name| self.groups.get(name));
        let server = self.servers.get(&service.server);
        service.enabled && server.is_some_and(|s| s.enabled) && group.is_none_or(|g| g.pattern.enabled)
    }

    /// How a service goes that is not enabled; `None`: at once. Who disabled its server or its group has a say in it.
    pub fn leaving(&self, service: &Service) -> Option<Leaving> {
        let server = self.servers.get(&service.server).map(|server| (server.enabled, server.leaving));
        let group = service.group.as_ref().and_then(|name| self.groups.get(name)).map(|group| &group.pattern);
        let group = group.map(|group| (group.enabled, group.leaving));
        let parts = [Some((service.enabled, service.leaving)), group, server];
        let mut disabled = parts.into_iter().flatten().filter(|(enabled, _)| !enabled).map(|(_, leaving)| leaving);
        let first = disabled.next()??;
        disabled.all(|leaving| leaving.is_some()).then_some(first)
    }

    /// All that is going out of service: the command that ends it, how it goes, and the numbers of its services.
    pub fn leavers(&self) -> Vec<(String, Leaving, Vec<u32>)> {
        crate::lines::leavers(self)
            .into_iter()
            .map(|(line, leaving, is_part)| {
                (line, leaving, self.services.iter().filter(|s| is_part(s)).map(|service| service.id).collect())
            })
            .collect()
    }

    /// What probes a service at this moment: its bound monitors, else the built-in one; nothing
    /// if health monitoring is off or the type is not served. Disabled monitors and bindings are left out.
    pub fn effective_monitors(&self, service: &Service) -> Vec<(Monitor, u8)> {
        if !service.health_monitor || service.kind.unserved().is_some() {
            return Vec::new();
        }
        if service.monitors.is_empty() {
            let built_in = self.monitor(service.default_monitor());
            return built_in.map(|m| (m, 1)).into_iter().collect();
        }
        let used = |b: &MonitorBinding| {
            let monitor = self.monitor(&b.monitor).filter(|m| m.enabled && b.enabled);
            monitor.map(|m| (m, b.weight))
        };
        service.monitors.iter().filter_map(used).collect()
    }

    /// The vserver with this number.
    pub fn vserver_by_id(&self, id: u32) -> Option<&LbVserver> {
        self.vservers.by_id(id)
    }

    /// The service with this number.
    pub fn service_by_id(&self, id: u32) -> Option<&Service> {
        self.services.by_id(id)
    }

    /// Vservers that a service is bound to, by itself or with its group.
    pub fn vservers_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a LbVserver> + 'a {
        self.vservers.iter().filter(move |vserver| vserver.has_bound(service))
    }
}

/// See [`Config::fingerprint`].
pub(crate) fn fingerprint_of(lines: &[String]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in lines.iter().flat_map(|line| line.bytes().chain([b'\n'])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
