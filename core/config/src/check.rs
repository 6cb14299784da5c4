//! Rules between objects. Every rule is asked from each side that could break it.

use core::net::IpAddr;

use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::model::{ConnFailover, LbVserver, Method, Monitor, NsConfig, Persistence, Server, Service, ServiceType};
use crate::value::{address_bits, masked};

/// Which command asks; some rules have a text of their own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A vserver is being added or set.
    Vserver,
    /// A service is being bound.
    Bind,
    /// A service or its server is being set.
    Service,
}

/// The configuration as it would be with one object exchanged.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub config: &'a Config,
    pub service: Option<&'a Service>,
    pub server: Option<&'a Server>,
}

impl<'a> Candidate<'a> {
    pub(crate) fn of(config: &'a Config) -> Self {
        Candidate { config, service: None, server: None }
    }

    fn service(&self, name: &str) -> Option<&'a Service> {
        self.service.filter(|s| s.name == name).or_else(|| self.config.services.get(name))
    }

    fn address(&self, service: &Service) -> Option<IpAddr> {
        let server = self.server.filter(|s| s.name == service.server);
        server.or_else(|| self.config.servers.get(&service.server)).map(|s| s.addr)
    }

    /// All rules about a vserver as it would be.
    pub(crate) fn vserver(&self, vserver: &LbVserver) -> Result<(), CommandError> {
        match vserver.failover {
            ConnFailover::Stateless => stateless_possible(vserver)?,
            ConnFailover::Stateful if self.config.ha.inc => {
                return Err(CommandError::with(messages::FAILOVER_IN_INC, vserver.name.clone()));
            }
            ConnFailover::Stateful | ConnFailover::Disabled => {}
        }
        for binding in &vserver.bindings {
            if let Some(service) = self.service(&binding.service) {
                self.bound(vserver, service, Asked::Vserver)?;
            }
        }
        Ok(())
    }

    /// All rules about a service as it would be, and about the vservers it is bound to.
    pub(crate) fn bound_service(&self, service: &Service) -> Result<(), CommandError> {
        proxy_port(service)?;
        self.config.vservers_of(&service.name).try_for_each(|v| self.bound(v, service, Asked::Service))
    }

    /// All rules about one binding.
    pub(crate) fn bound(&self, vserver: &LbVserver, service: &Service, asked: Asked) -> Result<(), CommandError> {
        let refuse = |message| Err(CommandError::with(message, service.name.clone()));
        let addr = self.address(service);
        if vserver.kind != service.kind {
            return refuse(messages::TYPE_MISMATCH);
        }
        let families = vserver.addr.filter(|v| !v.is_unspecified()).zip(addr);
        if families.is_some_and(|(v, s)| v.is_ipv4() != s.is_ipv4()) {
            return refuse(messages::FAMILY_MISMATCH);
        }
        if vserver.failover != ConnFailover::Disabled && addr.is_some_and(|a| a.is_loopback()) {
            return match asked {
                Asked::Bind => refuse(messages::FAILOVER_BIND_LOOPBACK),
                Asked::Vserver | Asked::Service => refuse(messages::FAILOVER_SET_LOOPBACK),
            };
        }
        if vserver.failover == ConnFailover::Stateless && !service.usip {
            return refuse(messages::FAILOVER_NEEDS_USIP);
        }
        let stateless = |v: &LbVserver| v.failover == ConnFailover::Stateless;
        let suspects = self.config.vservers.iter().filter(|v| stateless(vserver) || stateless(v));
        let mut others = suspects.filter(|v| v.name != vserver.name);
        if others.any(|v| v.bindings.iter().any(|b| b.service == service.name)) {
            return refuse(messages::STATELESS_ONE_VSERVER);
        }
        Ok(())
    }
}

/// With USIP the client's port is kept, whatever is asked.
pub(crate) fn proxy_port(service: &Service) -> Result<(), CommandError> {
    match service.usip && service.use_proxy_port {
        true => Err(CommandError::with(messages::USIP_KEEPS_PORT, format!("useproxyport, {}", service.name))),
        false => Ok(()),
    }
}

/// A successor must find the server from the packet alone.
fn stateless_possible(vserver: &LbVserver) -> Result<(), CommandError> {
    let refuse = |message| Err(CommandError::with(message, format!("connFailover, {}", vserver.name)));
    match vserver.kind {
        ServiceType::Tcp | ServiceType::Udp => return refuse(messages::FAILOVER_NEEDS_ANY),
        ServiceType::Any => {}
    }
    match (vserver.persistence, vserver.method) {
        (Persistence::SourceIp, _) | (Persistence::None, Method::SrcIpSrcPortHash) => Ok(()),
        (Persistence::None | Persistence::DestIp | Persistence::SrcIpDestIp, _) => {
            refuse(messages::STATELESS_NEEDS_KEY)
        }
    }
}

/// No other vserver receives the same packets.
pub(crate) fn vserver_address(config: &Config, vserver: &LbVserver) -> Result<(), CommandError> {
    if vserver.port == Some(0) && vserver.addr.is_none_or(|a| !a.is_unspecified()) {
        return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "port", "0"));
    }
    let same = |other: &&LbVserver| {
        let place = other.addr == vserver.addr && other.port == vserver.port;
        other.name != vserver.name && place && overlap(other.kind, vserver.kind)
    };
    match config.vservers.iter().find(same).filter(|_| vserver.is_addressed()) {
        Some(other) => Err(CommandError::with(messages::ADDRESS_IN_USE, other.name.clone())),
        None => Ok(()),
    }
}

/// No other service is the same port of the same server. Servers have distinct addresses, so
/// their names decide.
pub(crate) fn service_address(config: &Config, service: &Service) -> Result<(), CommandError> {
    let same = |other: &&Service| {
        let place = other.port == service.port && other.server == service.server;
        place && other.kind == service.kind && other.name != service.name
    };
    match config.services.iter().find(same) {
        Some(other) => Err(CommandError::with(messages::ADDRESS_IN_USE, other.name.clone())),
        None => Ok(()),
    }
}

fn overlap(a: ServiceType, b: ServiceType) -> bool {
    a == b || a == ServiceType::Any || b == ServiceType::Any
}

/// The address belongs to no node.
fn not_a_node(config: &Config, addr: IpAddr) -> Result<(), CommandError> {
    if config.ha.peer.is_some_and(|peer| peer.addr == addr) {
        return Err(CommandError::with(messages::PEER_ADDRESS, addr.to_string()));
    }
    match config.ns_config.addr == Some(addr) {
        true => Err(CommandError::with(messages::ADDRESS_IN_USE, addr.to_string())),
        false => Ok(()),
    }
}

/// An address that a host can have.
pub(crate) fn host_address(addr: IpAddr) -> Result<(), CommandError> {
    let broadcast = addr == IpAddr::V4(core::net::Ipv4Addr::BROADCAST);
    match addr.is_unspecified() || addr.is_multicast() || broadcast {
        true => Err(CommandError::with(messages::INVALID_IP, addr.to_string())),
        false => Ok(()),
    }
}

/// An address that a node can answer for on the network.
pub(crate) fn floating_address(config: &Config, addr: IpAddr) -> Result<(), CommandError> {
    host_address(addr)?;
    if addr.is_loopback() {
        return Err(CommandError::with(messages::INVALID_IP, addr.to_string()));
    }
    // A gateway is somebody else.
    if config.routes.iter().any(|route| route.gateway == addr) {
        return Err(CommandError::with(messages::ADDRESS_IN_USE, addr.to_string()));
    }
    not_a_node(config, addr)
}

/// A flow that survives needs the same SNIPs on both nodes; asked when the pair gets INC mode.
pub(crate) fn no_stateful_vserver(config: &Config) -> Result<(), CommandError> {
    match config.vservers.iter().find(|vserver| vserver.failover == ConnFailover::Stateful) {
        Some(vserver) => Err(CommandError::with(messages::INC_WITH_FAILOVER, vserver.name.clone())),
        None => Ok(()),
    }
}

/// Without INC mode both nodes have the same floating addresses, hence the same subnets. An NSIP
/// without a mask has a subnet that is not known.
pub(crate) fn on_own_subnet(node: &NsConfig, peer: IpAddr) -> Result<(), CommandError> {
    let len = node.prefix_len;
    let apart = |own: &IpAddr| len < address_bits(*own) && masked(*own, len) != masked(peer, len);
    match node.addr.as_ref().is_some_and(apart) {
        true => Err(CommandError::with(messages::PEER_ON_OTHER_SUBNET, peer.to_string())),
        false => Ok(()),
    }
}

/// The answer must be due before the next probe.
pub(crate) fn monitor(monitor: &Monitor) -> Result<(), CommandError> {
    match monitor.interval_ms > monitor.resp_timeout_ms {
        true => Ok(()),
        false => Err(CommandError::with(messages::INTERVAL_TOO_SHORT, monitor.name.clone())),
    }
}
