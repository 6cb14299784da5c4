//! The named objects of a configuration: what was configured, typed and checked.
//!
//! Every object carries values as the operator means them (seconds, prefix
//! lengths, names). Lowering to the engine's plan happens elsewhere.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use crate::kept::{KEPT, KeptType, TCP_IDLE_S, Transport, UDP_IDLE_S};
use crate::spill::Spillover;

/// What a vserver or service carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// TCP connections.
    Tcp,
    /// FTP control connections, and the data connections of which they speak.
    Ftp,
    /// UDP flows.
    Udp,
    /// Any TCP, UDP or echo traffic.
    Any,
    /// TLS connections, passed through as TCP.
    SslBridge,
    /// A type that stays in the configuration and is not served.
    Kept(&'static KeptType),
}

impl ServiceType {
    /// Every type that is served.
    pub(crate) const SERVED: [ServiceType; 5] =
        [ServiceType::Tcp, ServiceType::Ftp, ServiceType::Udp, ServiceType::Any, ServiceType::SslBridge];

    /// The type of a word of the market.
    pub(crate) fn of_word(word: &str) -> Option<ServiceType> {
        let served = ServiceType::SERVED.into_iter();
        served.chain(KEPT.iter().map(ServiceType::Kept)).find(|kind| kind.word() == word)
    }

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            ServiceType::Tcp => "TCP",
            ServiceType::Ftp => "FTP",
            ServiceType::Udp => "UDP",
            ServiceType::Any => "ANY",
            ServiceType::SslBridge => "SSL_BRIDGE",
            ServiceType::Kept(kept) => kept.word,
        }
    }

    /// What it travels by.
    pub fn transport(self) -> Transport {
        match self {
            ServiceType::Tcp | ServiceType::Ftp | ServiceType::SslBridge => Transport::Tcp,
            ServiceType::Udp => Transport::Udp,
            ServiceType::Any => Transport::Any,
            ServiceType::Kept(kept) => kept.transport,
        }
    }

    /// Why nothing of this type is served, in a word: the type itself.
    pub fn unserved(self) -> Option<&'static str> {
        match self {
            ServiceType::Tcp | ServiceType::Ftp | ServiceType::Udp | ServiceType::Any | ServiceType::SslBridge => None,
            ServiceType::Kept(kept) => Some(kept.word),
        }
    }

    /// Client-side idle time-out of a flow when neither vserver nor service says otherwise.
    pub fn default_client_idle(self) -> Duration {
        Duration::from_secs(match self {
            ServiceType::Tcp | ServiceType::Ftp | ServiceType::SslBridge => TCP_IDLE_S,
            ServiceType::Udp | ServiceType::Any => UDP_IDLE_S,
            ServiceType::Kept(kept) => kept.client_idle_s,
        })
    }

    /// Server-side idle time-out of a flow when its service does not say otherwise.
    pub fn default_server_idle(self) -> Duration {
        match self {
            ServiceType::Tcp | ServiceType::Ftp | ServiceType::Udp | ServiceType::Any | ServiceType::SslBridge => {
                self.default_client_idle()
            }
            ServiceType::Kept(kept) => Duration::from_secs(kept.server_idle_s),
        }
    }
}

/// How packets of a vserver reach a server (`-m`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirection {
    /// With the server's address as their destination.
    #[default]
    Ip,
    /// With the server's MAC address; not served.
    Mac,
    /// Inside of packets to the server; not served.
    IpTunnel,
}

impl Redirection {
    /// Every mode.
    pub(crate) const ALL: [Redirection; 3] = [Redirection::Ip, Redirection::Mac, Redirection::IpTunnel];

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            Redirection::Ip => "IP",
            Redirection::Mac => "MAC",
            Redirection::IpTunnel => "IPTUNNEL",
        }
    }
}

/// Addresses of a vserver that has none of its own (`-IPPattern`, `-IPMask`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    /// Its bits that count are those of the addresses.
    pub pattern: Ipv4Addr,
    /// The bits that count: some first ones, or some last ones.
    pub mask: Ipv4Addr,
}

/// What a failover means for the flows of a vserver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnFailover {
    /// Flows are forgotten; strays are reset.
    #[default]
    Disabled,
    /// Flows are mirrored.
    Stateful,
    /// Flows are rebuilt from the packets that arrive.
    Stateless,
}

impl ConnFailover {
    /// Every mode.
    pub(crate) const ALL: [ConnFailover; 3] = [ConnFailover::Disabled, ConnFailover::Stateful, ConnFailover::Stateless];

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            ConnFailover::Disabled => "DISABLED",
            ConnFailover::Stateful => "STATEFUL",
            ConnFailover::Stateless => "STATELESS",
        }
    }
}

/// How a vserver chooses a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Weighted round robin.
    RoundRobin,
    /// Fewest open flows per weight.
    #[default]
    LeastConnection,
    /// Consistent hash of the client's address.
    SourceIpHash,
    /// Consistent hash of the client's address and port.
    SrcIpSrcPortHash,
    /// Consistent hash of the address that the client calls.
    DestinationIpHash,
    /// Consistent hash of both addresses.
    SrcIpDestIpHash,
    /// Fewest bytes of late per weight.
    LeastBandwidth,
    /// Fewest packets of late per weight.
    LeastPackets,
    /// Shortest answer to monitors times open flows per weight.
    LeastResponseTime,
    /// The same.
    Lrtm,
    /// What load monitors say; there are none, so the backup method chooses.
    CustomLoad,
}

impl Method {
    /// Every method.
    pub(crate) const ALL: [Method; 11] = [
        Method::RoundRobin,
        Method::LeastConnection,
        Method::SourceIpHash,
        Method::SrcIpSrcPortHash,
        Method::DestinationIpHash,
        Method::SrcIpDestIpHash,
        Method::LeastBandwidth,
        Method::LeastPackets,
        Method::LeastResponseTime,
        Method::Lrtm,
        Method::CustomLoad,
    ];

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            Method::RoundRobin => "ROUNDROBIN",
            Method::LeastConnection => "LEASTCONNECTION",
            Method::SourceIpHash => "SOURCEIPHASH",
            Method::SrcIpSrcPortHash => "SRCIPSRCPORTHASH",
            Method::DestinationIpHash => "DESTINATIONIPHASH",
            Method::SrcIpDestIpHash => "SRCIPDESTIPHASH",
            Method::LeastBandwidth => "LEASTBANDWIDTH",
            Method::LeastPackets => "LEASTPACKETS",
            Method::LeastResponseTime => "LEASTRESPONSETIME",
            Method::Lrtm => "LRTM",
            Method::CustomLoad => "CUSTOMLOAD",
        }
    }

    /// What stands in for it as a backup: it needs nothing that may be missing.
    pub fn as_last_resort(self) -> Method {
        match self {
            Method::LeastResponseTime | Method::Lrtm | Method::CustomLoad => Method::RoundRobin,
            Method::RoundRobin
            | Method::LeastConnection
            | Method::SourceIpHash
            | Method::SrcIpSrcPortHash
            | Method::DestinationIpHash
            | Method::SrcIpDestIpHash
            | Method::LeastBandwidth
            | Method::LeastPackets => self,
        }
    }

    /// Whether `-netmask` and `-v6netmasklen` say which bits of addresses it goes by.
    pub fn is_masked(self) -> bool {
        matches!(self, Method::SourceIpHash | Method::DestinationIpHash | Method::SrcIpDestIpHash)
    }
}

/// What a vserver remembers about its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    #[default]
    None,
    /// The client's address keeps its service.
    SourceIp,
    /// The address called keeps its service.
    DestIp,
    /// The two addresses together do.
    SrcIpDestIp,
}

impl Persistence {
    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            Persistence::None => "NONE",
            Persistence::SourceIp => "SOURCEIP",
            Persistence::DestIp => "DESTIP",
            Persistence::SrcIpDestIp => "SRCIPDESTIP",
        }
    }
}

/// Role of a floating address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpKind {
    /// Source of server-side traffic; its subnet is connected.
    #[default]
    Snip,
    /// Address of vservers.
    Vip,
}

impl IpKind {
    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            IpKind::Snip => "SNIP",
            IpKind::Vip => "VIP",
        }
    }
}

/// The operator's wish for a node's part in the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HaStatus {
    /// Takes part in the election.
    #[default]
    Enabled,
    /// Never becomes primary.
    StaySecondary,
    /// Becomes primary whenever it is healthy.
    StayPrimary,
    /// Takes no part.
    Disabled,
}

impl HaStatus {
    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            HaStatus::Enabled => "ENABLED",
            HaStatus::StaySecondary => "STAYSECONDARY",
            HaStatus::StayPrimary => "STAYPRIMARY",
            HaStatus::Disabled => "DISABLED",
        }
    }
}

/// A route that must work (`bind HA node -routeMonitor`); node-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteMonitor {
    /// `*`: any default route.
    Default,
    /// The route to this network or host.
    To {
        /// Host bits are zero.
        network: IpAddr,
        /// Length of its prefix; the family's own bits for a host.
        prefix_len: u8,
    },
}

/// Interfaces of which one must work (`add fis`); node-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverSet {
    /// Its name.
    pub name: String,
    /// Ids of its interfaces, sorted. An interface is in one set at most.
    pub members: Vec<String>,
}

/// A virtual MAC address (`add vrID`); node-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualRouter {
    /// 1..=255; the last byte of 00:00:5e:00:01:id.
    pub id: u8,
    /// Ids of the interfaces that answer with it, sorted. An interface has one at most.
    pub interfaces: Vec<String>,
}

/// A program run at a change of role (`add HA hook`, an extension); node-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// Absolute path of the program.
    pub command: String,
    /// It is ended after this time, in milliseconds.
    pub timeout_ms: u32,
}

/// Whether a packet waits for the peer's acknowledgement of its flow (extension).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MirrorMode {
    /// The packet that makes an end believe is held until the peer has the flow.
    #[default]
    Strict,
    /// Nothing is held; a flow younger than the mirror lag can be lost.
    Async,
}

impl MirrorMode {
    /// The word of the command language.
    pub fn word(self) -> &'static str {
        match self {
            MirrorMode::Strict => "STRICT",
            MirrorMode::Async => "ASYNC",
        }
    }
}

/// A floating address (`add ns ip`, `add ns ip6`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsIp {
    /// The address.
    pub addr: IpAddr,
    /// Length of its subnet's prefix in the family's own bits.
    pub prefix_len: u8,
    /// SNIP or VIP.
    pub kind: IpKind,
    /// Answer ARP requests and neighbour solicitations.
    pub arp: bool,
    /// Answer echo requests.
    pub icmp: bool,
    /// Not disabled by the operator.
    pub enabled: bool,
    /// Made by a vserver's address rather than by a command; goes with its last vserver.
    pub implicit: bool,
}

/// A static route (`add route`, `add route6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination network; host bits are zero.
    pub network: IpAddr,
    /// Length of its prefix.
    pub prefix_len: u8,
    /// Next hop, of the same family.
    pub gateway: IpAddr,
}

/// How something disabled goes out of service (`disable … [delay] [-graceFul YES]`): until it has gone, clients
/// whose persistence session names it still come. Its connections go on in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// It is gone after this time, in seconds.
    pub delay_s: Option<u32>,
    /// It is gone with its last connection.
    pub graceful: bool,
}

/// A server (`add server`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub addr: IpAddr,
    /// Not disabled by the operator; a disabled server disables its services.
    pub enabled: bool,
    /// How it leaves, while it does.
    pub leaving: Option<Leaving>,
    /// Free text.
    pub comment: String,
}

/// A monitor bound to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorBinding {
    /// Name of the monitor.
    pub monitor: String,
    /// Its share when the service has a monitor threshold, 1..=100.
    pub weight: u8,
    /// Not disabled for this service (`-monState`).
    pub enabled: bool,
}

/// A service: one port of one server (`add service`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Number for the life of the process; never used for another service.
    pub id: u32,
    /// Its name; no operator's if it is a member of a service group.
    pub name: String,
    /// Name of the service group that it is a member of.
    pub group: Option<String>,
    /// Name of its server.
    pub server: String,
    /// What it carries.
    pub kind: ServiceType,
    /// Port of the server; `None` is `*` (the client's destination port is kept).
    pub port: Option<u16>,
    /// The server sees the client's address.
    pub usip: bool,
    /// With USIP: take a port of our own instead of the client's (refused with `usip`).
    pub use_proxy_port: bool,
    /// Established connections at which it gets no new ones; 0: no limit.
    pub max_clients: u32,
    /// New connections wait while it has many, if the feature SP is on.
    pub surge_protection: bool,
    /// TCP buffering was asked for; it has no effect but on what the service may be bound to.
    pub tcp_buffering: bool,
    /// Client-side idle time-out in seconds; used by vservers that name none.
    pub client_timeout: Option<u32>,
    /// Server-side idle time-out in seconds; `None` is the type's default.
    pub server_timeout: Option<u32>,
    /// Probe it; without probes it is always UP.
    pub health_monitor: bool,
    /// Sum of the weights of UP monitors that makes it UP; 0 asks for all of them.
    pub monitor_threshold: u32,
    /// What hashes know it by instead of its address and port; not 0.
    pub hash_id: Option<u32>,
    /// Not disabled by the operator.
    pub enabled: bool,
    /// How it leaves, while it does.
    pub leaving: Option<Leaving>,
    /// Free text.
    pub comment: String,
    /// Bound monitors in the order of binding; empty means the built-in one.
    pub monitors: Vec<MonitorBinding>,
}

impl Service {
    /// Server-side idle time-out that applies to new flows.
    pub fn server_idle(&self) -> Duration {
        self.server_timeout.map_or(self.kind.default_server_idle(), |s| Duration::from_secs(s.into()))
    }

    /// Client-side idle time-out of the service, used only where no vserver names one.
    pub fn client_idle(&self) -> Duration {
        self.client_timeout.map_or(self.kind.default_client_idle(), |s| Duration::from_secs(s.into()))
    }

    /// Name of the built-in monitor that probes the service while none is bound.
    pub fn default_monitor(&self) -> &'static str {
        match (self.kind.transport(), self.port) {
            (Transport::Tcp, Some(_)) => "tcp-default",
            (Transport::Tcp, None) | (Transport::Udp | Transport::Any, _) => "ping-default",
        }
    }
}

/// A service or service group bound to a vserver, or a member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the service, or of the group.
    pub service: String,
    /// Its share, 1..=100; members of a bound group have their own.
    pub weight: u8,
}

/// A load-balancing virtual server (`add lb vserver`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbVserver {
    /// Number for the life of the process; never used for another vserver.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub kind: ServiceType,
    /// Its address; `None` is `*` (any address). 0.0.0.0 receives nothing by itself.
    pub addr: Option<IpAddr>,
    /// Its addresses, if they are those that fit a pattern; `addr` is 0.0.0.0 then.
    pub pattern: Option<AddressPattern>,
    /// Its port; `None` is `*` (any port). `Some(0)` only together with 0.0.0.0.
    pub port: Option<u16>,
    /// Not disabled by the operator.
    pub enabled: bool,
    /// How a service is chosen.
    pub method: Method,
    /// Bits of IPv4 addresses that its hash goes by (`-netmask`).
    pub hash_mask: u8,
    /// Bits of IPv6 addresses that its hash goes by (`-v6netmasklen`).
    pub v6_hash_mask_len: u8,
    /// How, where that does not do (`-backupLBMethod`).
    pub backup: Method,
    /// What is remembered about clients.
    pub persistence: Persistence,
    /// Life of a persistence session after its last use, in minutes (2..=1440).
    pub persistence_timeout: u16,
    /// Bits of IPv4 addresses that count (`-persistMask`).
    pub persist_mask: u8,
    /// Bits of IPv6 addresses that count (`-v6persistmasklen`).
    pub v6_persist_mask_len: u8,
    /// How packets reach a server.
    pub redirection: Redirection,
    /// Each packet is balanced by itself.
    pub sessionless: bool,
    /// What a failover means for its flows.
    pub failover: ConnFailover,
    /// Who serves in its place, and when.
    pub spill: Spillover,
    /// A flow ends with its server's answer (UDP; an extension).
    pub close_on_response: bool,
    /// Client-side idle time-out in seconds; `None` is the type's default.
    pub client_timeout: Option<u32>,
    /// Free text.
    pub comment: String,
    /// Bound services and service groups in the order of binding.
    pub bindings: Vec<Binding>,
}

impl LbVserver {
    /// Client-side idle time-out of new flows; a bound service's own value does not count.
    pub fn client_idle(&self) -> Duration {
        self.client_timeout.map_or(self.kind.default_client_idle(), |s| Duration::from_secs(s.into()))
    }

    /// Whether a service is bound to it, by itself or with its group.
    pub(crate) fn has_bound(&self, service: &Service) -> bool {
        self.bindings.iter().any(|b| b.service == service.name || Some(&b.service) == service.group.as_ref())
    }

    /// Why it is not served, in a word: its type, or the setting that has no counterpart in the engine.
    pub fn unserved(&self) -> Option<&'static str> {
        let redirection = match self.redirection {
            Redirection::Ip => None,
            Redirection::Mac | Redirection::IpTunnel => Some(self.redirection.word()),
        };
        let sessionless = self.sessionless.then_some("sessionless");
        self.kind.unserved().or(self.pattern.map(|_| "IPPattern")).or(sessionless).or(redirection)
    }

    /// Receives traffic of its own: it has an address and a port, or wildcards.
    pub fn is_addressed(&self) -> bool {
        self.addr.is_none_or(|a| !a.is_unspecified()) && self.port != Some(0)
    }
}

/// The other node (`add HA node`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HaPeer {
    /// Its id, 1..=64; the own id is always 0.
    pub id: u8,
    /// Its NSIP.
    pub addr: IpAddr,
}

/// How this node takes part in the pair (`set HA node`); node-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaSettings {
    /// The peer, if any.
    pub peer: Option<HaPeer>,
    /// The operator's wish.
    pub status: HaStatus,
    /// Time between hellos, in milliseconds.
    pub hello_ms: u32,
    /// Silence that means death, in milliseconds.
    pub dead_ms: u32,
    /// Whether packets wait for the peer (extension).
    pub mirror_mode: MirrorMode,
    /// Longest time that a packet waits for the peer, in milliseconds (extension).
    pub hold_limit_ms: u32,
    /// As secondary: take over the primary's configuration (`-haSync`).
    pub sync: bool,
    /// Send changes to the peer (`-haProp`).
    pub propagation: bool,
    /// The nodes are in different subnets (`add HA node -inc`).
    pub inc: bool,
    /// Lead even if this node is not healthy, when nobody healthier can.
    pub fail_safe: bool,
    /// Changes of role for health's sake within `max_flip_time_s`; then the primary stays. 0: no limit.
    pub max_flips: u32,
    /// In seconds; 0: no limit.
    pub max_flip_time_s: u32,
    /// `-syncvlan`; shown, see the manual.
    pub sync_vlan: Option<u16>,
    /// Client addresses of the witness's members; empty: no witness (extension).
    pub witness: Vec<SocketAddr>,
    /// Routes that must work, sorted.
    pub route_monitors: Vec<RouteMonitor>,
}

impl Default for HaSettings {
    fn default() -> Self {
        HaSettings {
            peer: None,
            status: HaStatus::Enabled,
            hello_ms: 100,
            dead_ms: 400,
            mirror_mode: MirrorMode::Strict,
            hold_limit_ms: 1000,
            sync: true,
            propagation: true,
            inc: false,
            fail_safe: false,
            max_flips: 0,
            max_flip_time_s: 0,
            sync_vlan: None,
            witness: Vec::new(),
            route_monitors: Vec::new(),
        }
    }
}

/// Credentials between nodes (`set ns rpcNode`); node-local. One entry per node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcNode {
    /// NSIP of the node.
    pub addr: IpAddr,
    /// The password in clear, or as it is written to `ns.conf`; empty while none was set. Never shown.
    pub password: String,
    /// The password is closed under a key of the node (`-encrypted`).
    pub encrypted: bool,
    /// Source address of connections to this node; `None` is the NSIP of who connects.
    pub src_ip: Option<IpAddr>,
    /// Messages to this node are encrypted, not only authenticated.
    pub secure: bool,
}

impl RpcNode {
    /// An entry as it is made: without a password, encrypted.
    pub(crate) fn new(addr: IpAddr) -> RpcNode {
        RpcNode { addr, password: String::new(), encrypted: false, src_ip: None, secure: true }
    }
}

/// The node's own management address (`set ns config`); node-local.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NsConfig {
    /// The NSIP, a kernel address.
    pub addr: Option<IpAddr>,
    /// Length of its prefix.
    pub prefix_len: u8,
}

/// A data port (`add interface`, an extension); node-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its id as the market writes them, `1/1`.
    pub id: String,
    /// Linux network interface behind it.
    pub device: String,
    /// Not disabled by the operator; a disabled one carries nothing and is not monitored.
    pub enabled: bool,
    /// Its failure makes the node hand over, unless it is in a failover set.
    pub ha_monitor: bool,
    /// Hellos leave by it.
    pub ha_heartbeat: bool,
}

/// Modes that change behaviour (`enable ns mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Route unicast that belongs to no flow and no vserver. On by default.
    pub l3: bool,
    /// Default of `-usip` for services added later. Off by default.
    pub usip: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Modes { l3: true, usip: false }
    }
}
