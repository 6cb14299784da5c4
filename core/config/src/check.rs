//! Rules between objects. Every rule is asked from each side that could break it.

use core::net::IpAddr;

use crate::config::Config;
use crate::error::{CommandError, Message, messages};
use crate::model::{
    AddressPattern, ConnFailover, LbVserver, Method, NsConfig, Persistence, Redirection, Server, Service, ServiceType,
};
use crate::spill;
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
    pub server: Option<&'a Server>,
}

impl<'a> Candidate<'a> {
    pub(crate) fn of(config: &'a Config) -> Self {
        Candidate { config, server: None }
    }

    fn address(&self, service: &Service) -> Option<IpAddr> {
        let server = self.server.filter(|s| s.name == service.server);
        server.or_else(|| self.config.servers.get(&service.server)).map(|s| s.addr)
    }

    /// All rules about a vserver as it would be.
    pub(crate) fn vserver(&self, vserver: &LbVserver) -> Result<(), CommandError> {
        self.failover_possible(vserver)?;
        if vserver.sessionless {
            sessionless_possible(vserver)?;
        }
        redirection_possible(vserver)?;
        for binding in &vserver.bindings {
            for service in self.config.behind(binding) {
                self.bound(vserver, service, Asked::Vserver)?;
            }
        }
        Ok(())
    }

    /// What a vserver's own settings have to say about its failover.
    fn failover_possible(&self, vserver: &LbVserver) -> Result<(), CommandError> {
        let refuse = |message| Err(CommandError::with(message, format!("connFailover, {}", vserver.name)));
        match vserver.failover {
            ConnFailover::Disabled => Ok(()),
            ConnFailover::Stateful | ConnFailover::Stateless if vserver.pattern.is_some() => {
                refuse(messages::FAILOVER_OF_PATTERN)
            }
            ConnFailover::Stateful | ConnFailover::Stateless if vserver.sessionless => {
                refuse(messages::FAILOVER_OF_SESSIONLESS)
            }
            ConnFailover::Stateless if vserver.kind != ServiceType::Any => refuse(messages::FAILOVER_NEEDS_ANY),
            ConnFailover::Stateless => stateless_possible(vserver),
            ConnFailover::Stateful if vserver.kind.unserved().is_some() => refuse(messages::FAILOVER_TYPE),
            ConnFailover::Stateful if self.config.ha.inc => refuse(messages::FAILOVER_IN_INC),
            ConnFailover::Stateful => Ok(()),
        }
    }

    /// All rules about a service as it would be, and about the vservers it is bound to.
    pub(crate) fn bound_service(&self, service: &Service) -> Result<(), CommandError> {
        proxy_port(service)?;
        self.config.vservers_of(service).try_for_each(|v| self.bound(v, service, Asked::Service))
    }

    /// All rules about one binding.
    pub(crate) fn bound(&self, vserver: &LbVserver, service: &Service, asked: Asked) -> Result<(), CommandError> {
        let refuse = |message| Err(CommandError::with(message, service.name.clone()));
        let addr = self.address(service);
        // The node would end the TLS of such a service itself.
        let ends_tls = vserver.kind == ServiceType::Tcp && service.kind.word() == "SSL_TCP";
        if vserver.kind != service.kind && !ends_tls {
            return refuse(messages::TYPE_MISMATCH);
        }
        let of_vserver = vserver.pattern.map(|p| p.pattern.into()).or(vserver.addr.filter(|v| !v.is_unspecified()));
        if of_vserver.zip(addr).is_some_and(|(v, s)| v.is_ipv4() != s.is_ipv4()) {
            return refuse(messages::FAMILY_MISMATCH);
        }
        spill::bound(vserver, service)?;
        if let Some(message) = mirroring_forbidden(vserver, service, ends_tls, asked) {
            return refuse(message);
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
        if vserver.sessionless && !service.usip {
            return refuse(messages::SESSIONLESS_NEEDS_USIP);
        }
        let stateless = |v: &LbVserver| v.failover == ConnFailover::Stateless;
        let suspects = self.config.vservers.iter().filter(|v| stateless(vserver) || stateless(v));
        let mut others = suspects.filter(|v| v.name != vserver.name);
        if others.any(|v| v.has_bound(service)) {
            return refuse(messages::STATELESS_ONE_VSERVER);
        }
        Ok(())
    }
}

/// What a node would know of a service's flows beyond their records, and a successor would not.
fn mirroring_forbidden(vserver: &LbVserver, service: &Service, ends_tls: bool, asked: Asked) -> Option<Message> {
    if vserver.failover != ConnFailover::Stateful {
        return None;
    }
    match (ends_tls, service.tcp_buffering, asked) {
        (true, _, Asked::Bind) => Some(messages::FAILOVER_BIND_SSL_TCP),
        (true, _, Asked::Vserver | Asked::Service) => Some(messages::FAILOVER_SET_SSL_TCP),
        (false, true, Asked::Bind) => Some(messages::FAILOVER_BIND_BUFFERING),
        (false, true, Asked::Vserver) => Some(messages::FAILOVER_SET_BUFFERING),
        (false, true, Asked::Service) => Some(messages::BUFFERING_WITH_FAILOVER),
        (false, false, _) => None,
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
    match (vserver.persistence, vserver.method) {
        (Persistence::SourceIp, _) | (Persistence::None, Method::SrcIpSrcPortHash) => Ok(()),
        (Persistence::None | Persistence::DestIp | Persistence::SrcIpDestIp, _) => {
            Err(CommandError::with(messages::STATELESS_NEEDS_KEY, format!("connFailover, {}", vserver.name)))
        }
    }
}

/// Control connections have one address and port: what comes to others may be data.
pub(crate) fn exact_for_ftp(kind: ServiceType, is_exact: bool) -> Result<(), CommandError> {
    match kind == ServiceType::Ftp && !is_exact {
        true => Err(CommandError::with(messages::FTP_NEEDS_PORT, "port, *")),
        false => Ok(()),
    }
}

/// A connection has an end of its own.
pub(crate) fn close_on_response(vserver: &LbVserver) -> Result<(), CommandError> {
    match vserver.close_on_response && vserver.kind != ServiceType::Udp {
        true => Err(CommandError::with(messages::ANSWER_NEEDS_UDP, format!("closeOnResponse, {}", vserver.name))),
        false => Ok(()),
    }
}

/// Each packet must find its server from itself alone, and arrive there as it was sent.
fn sessionless_possible(vserver: &LbVserver) -> Result<(), CommandError> {
    let refuse = |message| Err(CommandError::with(message, format!("sessionless, {}", vserver.name)));
    if !["ANY", "DNS", "UDP"].contains(&vserver.kind.word()) {
        return refuse(messages::SESSIONLESS_TYPE);
    }
    if vserver.redirection == Redirection::Ip {
        return refuse(messages::SESSIONLESS_MODE);
    }
    match (vserver.persistence, vserver.method) {
        (Persistence::SourceIp | Persistence::DestIp | Persistence::SrcIpDestIp, _) => {
            refuse(messages::SESSIONLESS_PERSISTENCE)
        }
        (
            Persistence::None,
            Method::RoundRobin
            | Method::SourceIpHash
            | Method::SrcIpSrcPortHash
            | Method::DestinationIpHash
            | Method::SrcIpDestIpHash,
        ) => Ok(()),
        (
            Persistence::None,
            Method::LeastConnection
            | Method::LeastBandwidth
            | Method::LeastPackets
            | Method::LeastResponseTime
            | Method::Lrtm
            | Method::CustomLoad,
        ) => refuse(messages::SESSIONLESS_METHOD),
    }
}

/// A server that gets packets as they were sent must expect their destination.
fn redirection_possible(vserver: &LbVserver) -> Result<(), CommandError> {
    let meant_for_any = vserver.addr.is_none() || vserver.kind == ServiceType::Any || vserver.sessionless;
    match vserver.redirection {
        Redirection::Mac | Redirection::IpTunnel if !meant_for_any => {
            Err(CommandError::with(messages::REDIRECTION_NEEDS_ANY, format!("m, {}", vserver.name)))
        }
        Redirection::Ip | Redirection::Mac | Redirection::IpTunnel => Ok(()),
    }
}

/// A pattern stands for several addresses: its mask has ones at one end, and some elsewhere are zero.
pub(crate) fn pattern(pattern: &AddressPattern) -> Result<(), CommandError> {
    let bits = u32::from(pattern.mask);
    let ones = bits.count_ones();
    match ones > 0 && (bits.leading_ones() == ones || bits.trailing_ones() == ones) {
        true => Ok(()),
        false => Err(CommandError::about(messages::INVALID_NETMASK, "IPMask", &pattern.mask.to_string())),
    }
}

/// No other vserver receives the same packets.
pub(crate) fn vserver_address(config: &Config, vserver: &LbVserver) -> Result<(), CommandError> {
    exact_for_ftp(vserver.kind, vserver.addr.is_some() && vserver.port.is_some())?;
    if vserver.port == Some(0) && vserver.addr.is_none_or(|a| !a.is_unspecified()) {
        return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "port", "0"));
    }
    let covers = |v: &LbVserver| v.pattern.map(|p| (u32::from(p.pattern) & u32::from(p.mask), p.mask));
    let same = |other: &&LbVserver| {
        let place = (other.addr, covers(other), other.port) == (vserver.addr, covers(vserver), vserver.port);
        other.name != vserver.name && place && other.kind.transport().overlaps(vserver.kind.transport())
    };
    match config.vservers.iter().find(same).filter(|_| vserver.is_addressed() || vserver.pattern.is_some()) {
        Some(other) => Err(CommandError::with(messages::ADDRESS_IN_USE, other.name.clone())),
        None => Ok(()),
    }
}

/// No other service is the same port of the same server. Servers have distinct addresses, so
/// their names decide.
pub(crate) fn service_address(config: &Config, service: &Service) -> Result<(), CommandError> {
    let same = |other: &&Service| {
        let place = other.port == service.port && other.server == service.server;
        place && alike(other.kind, service.kind) && other.name != service.name
    };
    match config.services.iter().find(same) {
        Some(other) => Err(CommandError::with(messages::ADDRESS_IN_USE, other.name.clone())),
        None => Ok(()),
    }
}

/// The same to a peer, which knows a served service by its server, port and protocol.
fn alike(a: ServiceType, b: ServiceType) -> bool {
    a == b || a.unserved().is_none() && b.unserved().is_none() && a.transport() == b.transport()
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
