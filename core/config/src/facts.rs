//! What `show` and `stat` need from the live node, as plain values.
//!
//! Times are given as Unix time in milliseconds, because `show` prints calendar
//! dates; 0 means unknown.

use std::collections::BTreeMap;

use core::net::IpAddr;
use core::time::Duration;

/// Source of live facts. Every method must be cheap; `show` calls it per object.
pub trait Facts {
    /// Wall-clock time, Unix milliseconds.
    fn now(&self) -> u64;
    /// About this node itself.
    fn node(&self) -> NodeFacts;
    /// About the pair.
    fn ha(&self) -> HaFacts;
    /// About a vserver, by [`LbVserver::id`](crate::LbVserver::id).
    fn vserver(&self, id: u32) -> VserverFacts;
    /// By vserver: flows whose packets wait for the peer's acknowledgement; those
    /// without any may be left out.
    fn held_flows(&self) -> BTreeMap<u32, u64>;
    /// About a service, by [`Service::id`](crate::Service::id).
    fn service(&self, id: u32) -> ServiceFacts;
    /// About one monitor of a service.
    fn monitor(&self, service: u32, monitor: &str) -> MonitorFacts;
}

/// Health of a vserver or service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Usable.
    Up,
    /// Not usable: probes fail, or no bound service is UP.
    Down,
    /// Nothing known yet.
    #[default]
    Unknown,
    /// Disabled by the operator.
    OutOfService,
    /// Disabled, usable for who persists on it until it has gone.
    GoingOutOfService,
    /// The same, but its probes fail.
    DownWhenGoingOutOfService,
}

/// About this node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Its host name; may be empty.
    pub host_name: String,
    /// Version of the program, `0.1.0`.
    pub version: String,
    /// Ids of data ports that are up, in the order of the configuration.
    pub ports_up: Vec<String>,
    /// Ids of data ports that are configured and down.
    pub ports_down: Vec<String>,
    /// Drops by reason, in the order of the engine's table; zeroes may be left out.
    pub drops: Vec<(&'static str, u64)>,
    /// Which way packets go.
    pub data_plane: DataPlaneFacts,
}

/// Which way packets go.
#[derive(Clone, Debug, Default)]
pub struct DataPlaneFacts {
    /// `tc` or `xdp`, with a program in the kernel, or `user`.
    pub way: &'static str,
    /// Why it is this one.
    pub why: String,
    /// How each open interface is watched, by its id.
    pub interfaces: Vec<(String, String)>,
    /// Copies of flows in the kernel, one for each direction.
    pub copies: u64,
    /// Copies that found no room since the start.
    pub refused: u64,
    /// Packets that the program did not forward, by reason; zeroes may be left out.
    pub not_forwarded: Vec<(&'static str, u64)>,
}

/// The part a node plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HaRole {
    /// Joining; nothing decided.
    #[default]
    Init,
    /// Stores the primary's flows.
    Secondary,
    /// Forwards.
    Primary,
    /// Handing over to the peer.
    Draining,
}

/// Condition of a node as the pair sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeState {
    /// Never heard.
    #[default]
    Unknown,
    /// Joining.
    Init,
    /// Silent for longer than the dead interval.
    NotUp,
    /// Can be primary or secondary.
    Up,
    /// A monitored interface, or every one of a failover set, does not work.
    PartialFail,
    /// No interface works.
    CompleteFail,
    /// A monitored route does not work.
    RouteMonitorFail,
    /// Told to stay secondary.
    StaySecondary,
    /// Told to take no part.
    Disabled,
}

/// State of the channel that carries records and the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// Nothing authenticated was heard.
    #[default]
    Down,
    /// Heard, no session yet.
    Connecting,
    /// The whole table is being transferred.
    Bulk,
    /// The secondary has no room for all flows; nothing waits for it.
    Full,
    /// Records flow and are acknowledged.
    Up,
    /// The peer's build and ours have no HA version in common.
    VersionMismatch,
    /// The secondary takes no records: it crashed again and again.
    Quarantined {
        /// Until it takes them again.
        left: Duration,
    },
}

/// How far the configuration of a node follows the primary's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SyncState {
    /// It would be taken over; there is nothing to do, or this is the primary.
    #[default]
    Enabled,
    /// It is being taken over.
    InProgress,
    /// It is the primary's.
    Success,
    /// It is not the primary's.
    Failed {
        /// Why not; empty: unknown here.
        reason: String,
    },
    /// The operator does not want it.
    Disabled,
}

/// A node's configuration, as far as the other node must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFacts {
    /// Whether it follows the primary's.
    pub sync: SyncState,
    /// Changes do not travel (`-haProp DISABLED`).
    pub propagation_off: bool,
    /// The nodes are in different subnets.
    pub inc: bool,
    /// Changes so far that both nodes should have.
    pub incarnation: u32,
    /// Hash of what both nodes have in common.
    pub fingerprint: u64,
    /// The last save did not reach the disk.
    pub unsaved: bool,
    /// HA version that the node speaks; 0: unknown.
    pub version: u8,
}

/// About the pair, from this node's seat.
#[derive(Clone, Debug, Default)]
pub struct HaFacts {
    /// Our role.
    pub role: HaRole,
    /// Our state.
    pub state: NodeState,
    /// Our term.
    pub term: u64,
    /// We hold the primary's state (as primary: always true).
    pub caught_up: bool,
    /// How long we have played this role.
    pub in_role_for: Duration,
    /// Last change of role, Unix milliseconds.
    pub last_transition: u64,
    /// Hellos received and accepted.
    pub hellos_received: u64,
    /// Hellos sent.
    pub hellos_sent: u64,
    /// Hellos received and sent in the last second or so.
    pub hello_rates: (u64, u64),
    /// Changes that the peer did not confirm in time.
    pub propagation_timeouts: u64,
    /// Failed synchronisations: configurations that could not be taken over, mirror
    /// sessions that were of no use.
    pub sync_failures: u64,
    /// This node's configuration.
    pub config: ConfigFacts,
    /// Peer messages refused: wrong password, malformed, replayed.
    pub refused_messages: u64,
    /// Data ports on which the peer's hellos are missing.
    pub silent_ports: Vec<String>,
    /// Data ports whose failure makes this node partially fail.
    pub failed_ports: Vec<String>,
    /// Monitored routes, in the order of the configuration.
    pub routes: Vec<RouteFacts>,
    /// Changes of role for health's sake in the present interval.
    pub flips: u32,
    /// How much of the interval is over; `None` if none runs.
    pub flip_time: Option<Duration>,
    /// As many flips as allowed: the primary stays.
    pub sticky: bool,
    /// Nothing has come in at any port since then (Unix milliseconds), and neighbours do not answer; `None`: we hear.
    pub deaf_since: Option<u64>,
    /// When a switchover that we had begun was last called off (Unix milliseconds), in this life.
    pub called_off: Option<u64>,
    /// The peer, if one is configured.
    pub peer: Option<PeerFacts>,
    /// Flows in our table.
    pub flows: u64,
    /// Room for so many (`--max-flows`).
    pub max_flows: u64,
    /// Flows that the peer has acknowledged.
    pub protected: u64,
    /// Flows of STATEFUL vservers that the peer has not acknowledged.
    pub unprotected: u64,
    /// Packets that wait for an acknowledgement.
    pub held: u64,
    /// Holds that ended without an acknowledgement, ever.
    pub released_unprotected: u64,
    /// Records written and not acknowledged.
    pub unacked_records: u64,
    /// Age of the oldest of them.
    pub mirror_lag: Duration,
    /// Smoothed time from writing a record to its acknowledgement; zero before the first.
    pub mirror_delay: Duration,
    /// Flows that both nodes count as mirrored: written to the peer, or read from it.
    pub mirrored: u64,
    /// As secondary: persistence sessions of the primary that found no room here.
    pub persistence_missed: u64,
    /// Flows that this node had when a split healed, offered to the winner; since the start.
    pub offered: u64,
    /// As winner of a split: offered flows that live on here, and those that were refused; since the start.
    pub offers: (u64, u64),
    /// Bytes of the mirror stream in the last second or so, before the envelope.
    pub mirror_rate: u64,
    /// The latest transfer of the whole state; `None` if there was none.
    pub resync: Option<ResyncFacts>,
    /// The latest promotion of this life; `None` if there was none.
    pub takeover: Option<TakeoverFacts>,
    /// Whether both nodes hold the same.
    pub digest: DigestState,
    /// How the messages between the nodes are protected.
    pub security: SecurityFacts,
    /// The witness; `None` without one.
    pub witness: Option<WitnessFacts>,
}

/// The witness that decides who leads when the nodes do not hear each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WitnessFacts {
    /// It decides; not while the peer has none.
    pub in_force: bool,
    /// Whether it answers, and since when (Unix milliseconds); `None` before the first answer.
    pub reachable: Option<(bool, u64)>,
    /// Whom it names.
    pub owner: Option<IpAddr>,
    /// With which term; 0 if it names nobody.
    pub term: u64,
    /// This node leads by it, for the peer does not answer.
    pub sole: bool,
    /// As secondary: look after look it does not name the primary that is heard, which asks another one, it seems.
    pub doubted: bool,
}

/// How the messages between the nodes are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityFacts {
    /// Whether there is a session, and what it gives.
    pub state: SecurityState,
    /// Since when the present keys are used, Unix milliseconds; 0 without.
    pub since: u64,
    /// The latest handshake that failed, and when, Unix milliseconds.
    pub last_failure: Option<(SecurityFailure, u64)>,
    /// It explains why there is no session, or none as it is set.
    pub failing: bool,
    /// Sessions with another life of the peer.
    pub handshakes: u64,
    /// Sessions that replaced one with the same life.
    pub rekeys: u64,
    /// Handshakes that failed.
    pub failures: u64,
}

/// What a session with the peer gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityState {
    /// There is none.
    #[default]
    None,
    /// Nobody else can speak for the peer.
    Authenticated,
    /// Nor read what it says.
    Encrypted,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityFailure {
    /// The rpcNode passwords of the two nodes differ.
    Password,
    /// This node has an empty one.
    Unset,
    /// `-secure` of the two nodes differs.
    Secure,
}

/// What is known of a monitored route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFacts {
    /// It works.
    pub up: bool,
    /// What was found, in words.
    pub text: String,
}

/// The peer's data ports, as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPorts {
    /// Enabled ones.
    pub enabled: Vec<String>,
    /// Disabled ones.
    pub disabled: Vec<String>,
    /// Monitored ones.
    pub monitored: Vec<String>,
    /// Those on which it misses our hellos.
    pub silent: Vec<String>,
    /// Those that make it partially fail.
    pub failed: Vec<String>,
    /// Its `-failSafe`.
    pub fail_safe: bool,
}

/// A transfer of the whole state to the other node, or from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncFacts {
    /// Number of its mirror session.
    pub session: u32,
    /// When it began, Unix milliseconds.
    pub began: u64,
    /// How long it took; `None` while it runs.
    pub took: Option<Duration>,
    /// Flows that both nodes had at its end (so far).
    pub flows: u64,
    /// Records of flows that travelled meanwhile, changes included.
    pub told: u64,
    /// Holds that ended without an acknowledgement since the session began.
    pub released: u64,
}

/// When this node began to lead, and what the outage before was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakeoverFacts {
    /// The term that began.
    pub term: u64,
    /// When it began, Unix milliseconds.
    pub began: u64,
    /// How long before that the peer was last heard; `None`: never.
    pub heard_before: Option<Duration>,
    /// How long before that the peer was given up; zero at a planned switchover.
    pub given_up_before: Duration,
    /// How long after that the first packet was forwarded; `None`: none yet.
    pub first_packet_after: Option<Duration>,
}

/// What is known of the digests of the two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestState {
    /// They were not compared in the running session, or none runs.
    #[default]
    NotCompared,
    /// Equal when compared last. As primary: the peer has said so.
    Equal {
        /// Age of the last comparison; `None` where the peer compares.
        ago: Option<Duration>,
    },
    /// They differ; another session was asked for.
    Different,
}

/// About the other node.
#[derive(Clone, Debug, Default)]
pub struct PeerFacts {
    /// Its host name; may be empty.
    pub host_name: String,
    /// Its role.
    pub role: HaRole,
    /// Its state.
    pub state: NodeState,
    /// Its term.
    pub term: u64,
    /// It said that it holds our state.
    pub caught_up: bool,
    /// It would not lead if it had to: it stays secondary, is ending, or cannot
    /// store a term.
    pub unready: bool,
    /// Ids of our data ports on which its hellos arrive.
    pub heard_on: Vec<String>,
    /// Its data ports, if it tells.
    pub ports: Option<PeerPorts>,
    /// State of the channel to it.
    pub channel: ChannelState,
    /// Our password was changed and the peer still uses the one before.
    pub rekeying: bool,
    /// Its configuration, as it says.
    pub config: ConfigFacts,
    /// Time since an authenticated message of it arrived; `None` if never.
    pub last_heard: Option<Duration>,
}

/// About a vserver.
#[derive(Clone, Debug, Default)]
pub struct VserverFacts {
    /// Its health.
    pub health: Health,
    /// Last change of health, Unix milliseconds.
    pub last_change: u64,
    /// Flows opened.
    pub hits: u64,
    /// Flows with a client, open at this moment.
    pub client_flows: u64,
    /// Flows with a server, open at this moment.
    pub server_flows: u64,
    /// Flows past their set-up.
    pub established: u64,
    /// Flows the peer has acknowledged.
    pub protected: u64,
    /// Flows of a STATEFUL vserver the peer has not acknowledged.
    pub unprotected: u64,
    /// Persistence sessions.
    pub persistence_sessions: u64,
    /// Why another method chooses than its own, if one does.
    pub stand_in: Option<StandIn>,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// Why another method chooses than a vserver's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// Round robin, since the method was changed.
    MethodChanged,
    /// Round robin, since a service came up or was enabled.
    ServiceUp,
    /// Round robin, since a service was bound, or the vserver is new.
    ServiceBound,
    /// Round robin, since the vserver was enabled.
    VserverEnabled,
    /// The backup method: a service has not answered its monitors yet.
    MonitorsSilent,
}

impl StandIn {
    /// The reason in words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            StandIn::MethodChanged => "The method was changed",
            StandIn::ServiceUp => "Bound service's state changed to UP",
            StandIn::ServiceBound => "A new service is bound",
            StandIn::VserverEnabled => "The vserver was enabled",
            StandIn::MonitorsSilent => "A bound service has not answered its monitors yet",
        }
    }

    /// The market's number of it (`lbrrreason`).
    pub(crate) fn number(self) -> u64 {
        match self {
            StandIn::MethodChanged => 2,
            StandIn::ServiceUp => 3,
            StandIn::ServiceBound => 4,
            StandIn::MonitorsSilent => 7,
            StandIn::VserverEnabled => 8,
        }
    }
}

/// About a service.
#[derive(Clone, Debug, Default)]
pub struct ServiceFacts {
    /// Its health.
    pub health: Health,
    /// Last change of health, Unix milliseconds.
    pub last_change: u64,
    /// Flows opened to it.
    pub hits: u64,
    /// Flows open at this moment.
    pub flows: u64,
    /// Clients that wait since it has many.
    pub waiting: u64,
    /// Packets to the server.
    pub packets_in: u64,
    /// Packets from the server.
    pub packets_out: u64,
    /// Bytes to the server.
    pub bytes_in: u64,
    /// Bytes from the server.
    pub bytes_out: u64,
}

/// About one monitor of a service.
#[derive(Clone, Debug, Default)]
pub struct MonitorFacts {
    /// What it says.
    pub health: Health,
    /// Probes sent.
    pub probes: u64,
    /// Failed probes, ever.
    pub failed_total: u64,
    /// Failed probes in a row at this moment.
    pub failed_current: u64,
    /// `Success - TCP syn+ack received.` or why it failed; empty if none was sent.
    pub last_response: String,
    /// Time to the last answer.
    pub response_time: Duration,
}
