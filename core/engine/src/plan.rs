//! The plan: the configuration lowered to what a packet needs.
//!
//! Immutable; a change makes another plan with the next epoch. Numbers
//! ([`VserverId`], [`ServiceId`]) stay with their object for the life of the
//! process and are never used again, so flows may keep them across plans.

use core::time::Duration;
use holdfast_wire::{Addr, Endpoint};

use crate::record::SessionOf;

/// Number of a vserver; stable over its life, process-local, never mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VserverId(pub u32);

/// Number of a service; stable over its life, process-local, never mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// The lowered configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Grows by one with every plan.
    pub epoch: u32,
    /// VIPs and SNIPs: the addresses this node answers for while its gate is open.
    pub addresses: Vec<FloatingAddress>,
    /// Static routes; connected subnets follow from `addresses`.
    pub routes: Vec<Route>,
    /// Virtual servers, sorted by id.
    pub vservers: Vec<Vserver>,
    /// Services, sorted by id.
    pub services: Vec<Service>,
    /// Route unicast that belongs to no flow and no vserver (`ns mode L3`).
    pub l3_mode: bool,
}

/// Who a floating address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatingKind {
    /// Address of virtual servers.
    Vip,
    /// Source address of server-side traffic; its subnet is connected.
    Snip,
}

/// An address that the forwarding node answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatingAddress {
    /// The address.
    pub addr: Addr,
    /// Length of the subnet's prefix in the family's own bits (VIP: usually 32 or 128).
    pub prefix_len: u8,
    /// VIP or SNIP.
    pub kind: FloatingKind,
    /// Answer ARP requests and neighbour solicitations for it.
    pub arp: bool,
    /// Answer echo requests sent to it.
    pub icmp: bool,
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination network.
    pub network: Addr,
    /// Its prefix length in the family's own bits; the longest match wins.
    pub prefix_len: u8,
    /// The next hop; must lie in a connected subnet to be of use.
    pub gateway: Addr,
}

/// What a vserver or service carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VserverKind {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// TCP and UDP (and echo), port usually `*`.
    Any,
}

/// The market's `-connFailover` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnFailover {
    /// Nothing survives; strays are reset at both ends.
    #[default]
    Disabled,
    /// Flows are mirrored.
    Stateful,
    /// Flows are rebuilt from packets.
    Stateless,
}

/// Bits of an address that count, from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Of an IPv4 address.
    pub v4: u8,
    /// Of an IPv6 address.
    pub v6: u8,
}

impl Mask {
    /// Every bit.
    pub const WHOLE: Mask = Mask { v4: 32, v6: 128 };

    /// What counts of `addr`.
    pub fn of(self, addr: Addr) -> Addr {
        addr.masked(if addr.is_v4() { self.v4 } else { self.v6 })
    }
}

/// How a service is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Weighted round robin.
    RoundRobin,
    /// Fewest open flows per weight.
    #[default]
    LeastConnection,
    /// Fewest bytes of late per weight.
    LeastBandwidth,
    /// Fewest packets of late per weight.
    LeastPackets,
    /// Shortest answer to its monitors, times its open flows, per weight; while a usable service has not answered
    /// yet, another method.
    LeastResponseTime(Backup),
    /// Consistent hash of the client's address.
    SourceIpHash(Mask),
    /// Consistent hash of the address that the client calls.
    DestinationIpHash(Mask),
    /// Consistent hash of both addresses.
    SrcIpDestIpHash(Mask),
    /// Consistent hash of the client's address and port.
    SrcIpSrcPortHash,
}

/// What may stand in for [`Method::LeastResponseTime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backup {
    /// As [`Method::RoundRobin`].
    #[default]
    RoundRobin,
    /// As [`Method::LeastConnection`].
    LeastConnection,
    /// As [`Method::LeastBandwidth`].
    LeastBandwidth,
    /// As [`Method::LeastPackets`].
    LeastPackets,
    /// As [`Method::SourceIpHash`].
    SourceIpHash(Mask),
}

/// What a persistence session is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceKind {
    /// SOURCEIP: the client's address.
    Source,
    /// DESTIP: the address that the client calls.
    Destination,
    /// SRCIPDESTIP: both.
    Both,
}

/// `-persistenceType` and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// What a session is found by.
    pub kind: PersistenceKind,
    /// Bits of these addresses that count.
    pub mask: Mask,
    /// How long a session lasts after its last use.
    pub timeout: Duration,
}

impl Persistence {
    /// The session of a client that calls this address.
    pub fn session_of(&self, client: Addr, called: Addr) -> SessionOf {
        let (source, destination) = (self.mask.of(client), self.mask.of(called));
        match self.kind {
            PersistenceKind::Source => SessionOf::Source(source),
            PersistenceKind::Destination => SessionOf::Destination(destination),
            PersistenceKind::Both => SessionOf::Both { source, destination },
        }
    }
}

/// A service bound to a vserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which service.
    pub service: ServiceId,
    /// Its share, 1..=100.
    pub weight: u8,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq)]
pub struct Vserver {
    /// Its number.
    pub id: VserverId,
    /// Its address; [`Addr::UNSPECIFIED`] is any address.
    pub addr: Addr,
    /// Its port; 0 is any port (`*`).
    pub port: u16,
    /// What it carries.
    pub kind: VserverKind,
    /// It is FTP's control connection that arrives here (of kind [`VserverKind::Tcp`], at one address and port): what is said
    /// there of data connections is followed.
    pub ftp: bool,
    /// Packets to its address are its own; else it serves only in place of others.
    pub listens: bool,
    /// When another one serves in its place, and which.
    pub spill: Spill,
    /// A flow ends with the first datagram of the server (of kind [`VserverKind::Udp`]).
    pub one_answer: bool,
    /// Enabled by the operator.
    pub enabled: bool,
    /// Choice of service.
    pub method: Method,
    /// Client-to-service memory, if configured.
    pub persistence: Option<Persistence>,
    /// What a failover means for its flows.
    pub failover: ConnFailover,
    /// Idle time after which a flow is forgotten, client side (`-cltTimeout`).
    pub client_idle: Duration,
    /// Its services, in the order of binding.
    pub services: Vec<Binding>,
}

/// When a vserver is DOWN or has enough, and who serves new flows then. Flows that are open stay where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spill {
    /// Who serves in its place (`-backupVServer`), if it is enabled and UP.
    pub backup: Option<VserverId>,
    /// Percent of its services that must be UP, or it is DOWN; 0: one of them (`-healthThreshold`).
    pub health_threshold: u8,
    /// When it has enough.
    pub enough: Enough,
    /// If nobody can serve in its place it goes on, though it has enough (`-soBackupAction ACCEPT`).
    pub goes_on: bool,
}

/// When a vserver has enough (`-soMethod` with `-soThreshold`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enough {
    /// Never.
    #[default]
    Never,
    /// At so many established flows of its services (CONNECTION).
    Flows(u32),
    /// At as many established flows as its services that are UP may have together (DYNAMICCONNECTION).
    Limits,
    /// At so many kilobits a second, both directions (BANDWIDTH).
    Bandwidth(u32),
    /// With less than this percentage of its services UP (HEALTH).
    Health(u8),
}

/// A service: one server and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// The server; port 0 keeps the client's destination port (`*`).
    pub server: Endpoint,
    /// What hashes know it by instead of `server` (`-hashId`); 0: nothing.
    pub hash_id: u32,
    /// What it carries.
    pub kind: VserverKind,
    /// The server sees the client's address (`-usip YES`). The client's port is kept.
    pub usip: bool,
    /// Enabled by the operator.
    pub enabled: bool,
    /// Not enabled, but clients whose persistence session names it still come (`disable … -graceFul`).
    pub leaving: bool,
    /// Idle time, server side (`-svrTimeout`).
    pub server_idle: Duration,
    /// Established flows at which it gets no new ones; 0: no limit (`-maxClient`).
    pub max_clients: u32,
    /// New TCP connections wait while it has many (`-sp ON`).
    pub surge: Option<Surge>,
}

/// Paces of surge protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surge {
    /// In rising order of connections.
    pub steps: [SurgeStep; 4],
}

/// From so many connections of a service on, new ones open one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurgeStep {
    /// Open connections.
    pub connections: u32,
    /// Time between two new ones.
    pub pause: Duration,
}
