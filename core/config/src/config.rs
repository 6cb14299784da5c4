//! The configuration: all objects, found by name.

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::command::Command;
use crate::error::{CommandError, Warning};
use crate::model::{
    FailoverSet, HaSettings, Hook, Interface, LbVserver, Modes, Monitor, MonitorBinding, NsConfig, NsIp, Route,
    RpcNode, Server, Service, VirtualRouter,
};

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

/// Objects in the order of creation, found by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<T> {
    objects: BTreeMap<u32, T>,
    names: BTreeMap<String, u32>,
    next: u32,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named { objects: BTreeMap::new(), names: BTreeMap::new(), next: 1 }
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
        self.next += 1;
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<T> {
        self.objects.remove(&self.names.remove(name)?)
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
        self.objects.values()
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
    pub(crate) servers: Named<Server>,
    pub(crate) services: Named<Service>,
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

    /// Carries out a change: either all of it, or an error and nothing.
    ///
    /// Commands that are no change are refused with 257.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Warning>, CommandError> {
        crate::apply::apply(self, command)
    }

    /// The configuration as commands that make it again when replayed in this order.
    ///
    /// Passwords are in clear: for the 0600 file and the authenticated peer only.
    pub fn lines(&self, scope: Scope) -> Vec<String> {
        crate::lines::lines(self, scope, crate::lines::Style::File)
    }

    /// A hash of what both nodes have in common (FNV-1a over the shared lines); equal on both
    /// nodes if their configurations are.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for line in self.lines(Scope::Shared) {
            for byte in line.bytes().chain([b'\n']) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash
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

    /// Servers, in the order of creation.
    pub fn servers(&self) -> impl Iterator<Item = &Server> + Clone {
        self.servers.iter()
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.get(name)
    }

    /// Services, in the order of creation, which is the order of their ids.
    pub fn services(&self) -> impl Iterator<Item = &Service> + Clone {
        self.services.iter()
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// Vservers, in the order of creation, which is the order of their ids.
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

    /// Neither the service nor its server is disabled.
    pub fn service_enabled(&self, service: &Service) -> bool {
        service.enabled && self.servers.get(&service.server).is_some_and(|s| s.enabled)
    }

    /// What probes a service at this moment: its bound monitors, else the built-in one; nothing
    /// if health monitoring is off. Disabled monitors and bindings are left out.
    pub fn effective_monitors(&self, service: &Service) -> Vec<(Monitor, u8)> {
        if !service.health_monitor {
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

    /// Vservers that a service is bound to.
    pub fn vservers_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a LbVserver> + 'a {
        self.vservers.iter().filter(move |v| v.bindings.iter().any(|b| b.service == service))
    }
}
