//! From named objects to the engine's plan and the monitors' list.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use holdfast_config as config;
use holdfast_config::Config;
use holdfast_engine as engine;
use holdfast_wire::{Addr, Endpoint};

use crate::effect::ProbeKind;
use crate::health::{MonitorSpec, ServiceSpec};
use crate::probe::{Carrier, Expectation, Inquiry, Login, Question, Records, Script};

#[cfg(test)]
mod tests;

/// The plan of a configuration.
pub(crate) fn plan(config: &Config, epoch: u32) -> engine::Plan {
    let has_part = |v: &&config::LbVserver| v.unserved().is_none() && (v.is_addressed() || config.is_backup(v));
    let served = config.vservers().filter(has_part);
    let mut vservers: Vec<_> = served.filter_map(|v| vserver(config, v)).collect();
    vservers.sort_by_key(|vserver| vserver.id);
    let mut services: Vec<_> = config.services().filter_map(|s| service(config, s)).collect();
    services.sort_by_key(|service| service.id);
    engine::Plan {
        epoch,
        addresses: config.ips().iter().filter(|ip| ip.enabled).map(address).collect(),
        routes: config.routes().iter().map(route).collect(),
        vservers,
        services,
        l3_mode: config.modes().l3,
    }
}

/// What the monitors must watch.
pub(crate) fn watched(config: &Config) -> Vec<ServiceSpec> {
    config
        .services()
        .filter(|service| service.kind.unserved().is_none())
        .filter_map(|service| {
            let server = config.server(&service.server)?;
            let bound = config.effective_monitors(service);
            let monitors = bound.iter().map(|(found, weight)| monitor(found, *weight)).collect();
            let (port, threshold) = (service.port.unwrap_or(0), service.monitor_threshold);
            Some(ServiceSpec { id: service.id, addr: server.addr, port, threshold, monitors })
        })
        .collect()
}

/// The server endpoint and protocol by which a service is known to the peer; `None` for what is not served.
pub(crate) fn service_identity(config: &Config, service: &config::Service) -> Option<(Endpoint, u8)> {
    let server = config.server(&service.server)?;
    let kind = match kind(service.kind)? {
        engine::VserverKind::Tcp => 6,
        engine::VserverKind::Udp => 17,
        engine::VserverKind::Any => 0,
    };
    Some((endpoint(server.addr, service.port), kind))
}

/// The services of each identity, by number.
pub(crate) fn services_by_identity(config: &Config) -> BTreeMap<(Endpoint, u8), Vec<u32>> {
    let mut found: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for service in config.services() {
        if let Some(identity) = service_identity(config, service) {
            found.entry(identity).or_default().push(service.id);
        }
    }
    found
}

fn vserver(config: &Config, vserver: &config::LbVserver) -> Option<engine::Vserver> {
    let served = config.bound_services(vserver).filter(|(service, _)| service.kind.unserved().is_none());
    let services = served.map(|(service, weight)| engine::Binding { service: engine::ServiceId(service.id), weight });
    Some(engine::Vserver {
        id: engine::VserverId(vserver.id),
        addr: vserver.addr.map_or(Addr::UNSPECIFIED, Addr::from),
        port: vserver.port.unwrap_or(0),
        kind: kind(vserver.kind)?,
        enabled: vserver.enabled,
        method: method(vserver),
        persistence: persistence(vserver),
        failover: failover(vserver.failover),
        ftp: vserver.kind == config::ServiceType::Ftp,
        one_answer: vserver.close_on_response,
        listens: vserver.is_addressed(),
        spill: spill(config, vserver),
        client_idle: vserver.client_idle(),
        services: services.collect(),
    })
}

fn service(config: &Config, service: &config::Service) -> Option<engine::Service> {
    let server = config.server(&service.server)?;
    Some(engine::Service {
        id: engine::ServiceId(service.id),
        server: endpoint(server.addr, service.port),
        hash_id: service.hash_id.unwrap_or(0),
        kind: kind(service.kind)?,
        usip: service.usip,
        enabled: config.service_enabled(service),
        leaving: config.leaving(service).is_some(),
        server_idle: service.server_idle(),
        max_clients: service.max_clients,
        surge: surge(config.surge()).filter(|_| service.surge_protection),
    })
}

fn spill(config: &Config, vserver: &config::LbVserver) -> engine::Spill {
    let spill = &vserver.spill;
    let threshold = spill.threshold.unwrap_or(0);
    engine::Spill {
        backup: spill.backup.as_ref().and_then(|name| config.vserver(name)).map(|other| engine::VserverId(other.id)),
        health_threshold: spill.health_threshold,
        enough: match spill.method {
            config::SpillMethod::None => engine::Enough::Never,
            config::SpillMethod::Connection => engine::Enough::Flows(threshold),
            config::SpillMethod::DynamicConnection => engine::Enough::Limits,
            config::SpillMethod::Bandwidth => engine::Enough::Bandwidth(threshold),
            config::SpillMethod::Health => engine::Enough::Health(threshold.min(100) as u8),
        },
        goes_on: spill.accepts,
    }
}

/// `None` while the feature is off.
fn surge(surge: &config::SurgeProtection) -> Option<engine::Surge> {
    let step =
        |(connections, ms): (u32, u32)| engine::SurgeStep { connections, pause: Duration::from_millis(ms.into()) };
    surge.enabled.then(|| engine::Surge { steps: surge.steps().map(step) })
}

fn endpoint(addr: IpAddr, port: Option<u16>) -> Endpoint {
    Endpoint { addr: addr.into(), port: port.unwrap_or(0) }
}

fn address(ip: &config::NsIp) -> engine::FloatingAddress {
    let kind = match ip.kind {
        config::IpKind::Snip => engine::FloatingKind::Snip,
        config::IpKind::Vip => engine::FloatingKind::Vip,
    };
    engine::FloatingAddress { addr: ip.addr.into(), prefix_len: ip.prefix_len, kind, arp: ip.arp, icmp: ip.icmp }
}

fn route(route: &config::Route) -> engine::Route {
    engine::Route { network: route.network.into(), prefix_len: route.prefix_len, gateway: route.gateway.into() }
}

/// `None` for a type that is not served.
fn kind(kind: config::ServiceType) -> Option<engine::VserverKind> {
    match kind {
        config::ServiceType::Tcp | config::ServiceType::Ftp | config::ServiceType::SslBridge => {
            Some(engine::VserverKind::Tcp)
        }
        config::ServiceType::Udp => Some(engine::VserverKind::Udp),
        config::ServiceType::Any => Some(engine::VserverKind::Any),
        config::ServiceType::Kept(_) => None,
    }
}

fn persistence(vserver: &config::LbVserver) -> Option<engine::Persistence> {
    Some(engine::Persistence {
        kind: match vserver.persistence {
            config::Persistence::None => return None,
            config::Persistence::SourceIp => engine::PersistenceKind::Source,
            config::Persistence::DestIp => engine::PersistenceKind::Destination,
            config::Persistence::SrcIpDestIp => engine::PersistenceKind::Both,
        },
        mask: engine::Mask { v4: vserver.persist_mask, v6: vserver.v6_persist_mask_len },
        timeout: Duration::from_secs(60 * u64::from(vserver.persistence_timeout)),
    })
}

fn method(vserver: &config::LbVserver) -> engine::Method {
    let mask = engine::Mask { v4: vserver.hash_mask, v6: vserver.v6_hash_mask_len };
    match vserver.method {
        config::Method::RoundRobin => engine::Method::RoundRobin,
        config::Method::LeastConnection => engine::Method::LeastConnection,
        config::Method::SourceIpHash => engine::Method::SourceIpHash(mask),
        config::Method::SrcIpSrcPortHash => engine::Method::SrcIpSrcPortHash,
        config::Method::DestinationIpHash => engine::Method::DestinationIpHash(mask),
        config::Method::SrcIpDestIpHash => engine::Method::SrcIpDestIpHash(mask),
        config::Method::LeastBandwidth => engine::Method::LeastBandwidth,
        config::Method::LeastPackets => engine::Method::LeastPackets,
        config::Method::LeastResponseTime | config::Method::Lrtm => {
            engine::Method::LeastResponseTime(backup(vserver.backup, mask))
        }
        // There are no load monitors.
        config::Method::CustomLoad => match vserver.backup {
            config::Method::LeastResponseTime => engine::Method::LeastResponseTime(engine::Backup::RoundRobin),
            other => backup(other, mask).into(),
        },
    }
}

fn backup(backup: config::Method, mask: engine::Mask) -> engine::Backup {
    match backup.as_last_resort() {
        config::Method::LeastConnection => engine::Backup::LeastConnection,
        config::Method::LeastBandwidth => engine::Backup::LeastBandwidth,
        config::Method::LeastPackets => engine::Backup::LeastPackets,
        config::Method::SourceIpHash => engine::Backup::SourceIpHash(mask),
        config::Method::RoundRobin
        | config::Method::LeastResponseTime
        | config::Method::Lrtm
        | config::Method::CustomLoad
        | config::Method::SrcIpSrcPortHash
        | config::Method::DestinationIpHash
        | config::Method::SrcIpDestIpHash => engine::Backup::RoundRobin,
    }
}

fn failover(failover: config::ConnFailover) -> engine::ConnFailover {
    match failover {
        config::ConnFailover::Disabled => engine::ConnFailover::Disabled,
        config::ConnFailover::Stateful => engine::ConnFailover::Stateful,
        config::ConnFailover::Stateless => engine::ConnFailover::Stateless,
    }
}

fn monitor(monitor: &config::Monitor, weight: u8) -> MonitorSpec {
    MonitorSpec {
        name: monitor.name.clone(),
        kind: probe(monitor),
        reverse: monitor.reverse,
        weight: weight.into(),
        addr: monitor.dest_ip,
        port: monitor.dest_port,
        interval: Duration::from_millis(monitor.interval_ms.into()),
        timeout: Duration::from_millis(monitor.resp_timeout_ms.into()),
        retries: monitor.retries.into(),
        failure_retries: monitor.failure_retries.into(),
        success_retries: monitor.success_retries.into(),
        down_time: Duration::from_millis(monitor.down_time_ms.into()),
    }
}

fn probe(monitor: &config::Monitor) -> ProbeKind {
    let stream = if monitor.secure { Carrier::Tls } else { Carrier::Tcp };
    let bytes = |text: &String| config::unescape(text);
    let pattern = |of: &config::Pattern| Script::Pattern { send: bytes(&of.send), receive: bytes(&of.recv) };
    let (carrier, script) = match &monitor.kind {
        config::MonitorKind::Ping => return ProbeKind::Ping,
        config::MonitorKind::Tcp => (stream, Script::Handshake),
        config::MonitorKind::TcpEcv(of) => (stream, pattern(of)),
        config::MonitorKind::UdpEcv(of) => (Carrier::Udp, pattern(of)),
        config::MonitorKind::Http(of) => {
            let (request, expect) = (of.request.clone().into_bytes(), Expectation::Codes(of.codes.clone()));
            (stream, Script::Http { request, headers: bytes(&of.headers), expect })
        }
        config::MonitorKind::HttpEcv(of) => {
            let (request, expect) = (bytes(&of.send), Expectation::Body(bytes(&of.recv)));
            (stream, Script::Http { request, headers: bytes(&of.headers), expect })
        }
        config::MonitorKind::Ftp(of) if of.user.is_empty() => (stream, Script::Ftp(None)),
        config::MonitorKind::Ftp(of) => {
            // What another node has closed is of no use here.
            let password = (!of.encrypted).then(|| of.password.clone());
            (stream, Script::Ftp(Some(Login { user: of.user.clone(), password })))
        }
        config::MonitorKind::Dns(of) => (Carrier::Udp, Script::Dns(question(of))),
        config::MonitorKind::DnsTcp(of) => (stream, Script::Dns(question(of))),
    };
    ProbeKind::Ask(Inquiry { carrier, script })
}

fn question(of: &config::DnsQuestion) -> Question {
    let records = match of.records {
        config::DnsRecords::Address => Records::A,
        config::DnsRecords::Aaaa => Records::Aaaa,
        config::DnsRecords::Zone => Records::Soa,
    };
    Question { name: of.name.clone(), records, addresses: of.addresses.clone() }
}
