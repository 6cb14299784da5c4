//! What goes into and comes out of a node: plain values, both ways.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use holdfast_engine::{Limits, Port, PortId};
use holdfast_ha::WitnessAsk;
use holdfast_wire::MacAddr;

use crate::probe::{Carrier, Inquiry, Script};

/// All that a node needs to be born. Everything random or remembered comes in here.
#[derive(Clone)]
pub struct NodeOptions {
    /// Random per process start: tells one life of a node from the next.
    pub boot: u64,
    /// Seed of hash-table keys and of back-off jitter; random in production.
    pub seed: u64,
    /// Random and secret, never the same twice: ephemeral keys are drawn from it.
    pub secret: [u8; 32],
    /// Closes the passwords in `ns.conf`; kept in a file of this node, and nowhere else.
    pub password_key: [u8; 32],
    /// The highest term this node has made durable, 0 if none.
    pub stored_term: u64,
    /// `ns.conf`: one command per line; `#` comments and blank lines are skipped.
    pub config: String,
    /// Sizes of tables and queues.
    pub limits: Limits,
    /// Unix time in nanoseconds at the driver's origin, for `show` output.
    pub unix_nanos_at_origin: u64,
    /// Host name shown in `show ha node`.
    pub host_name: String,
}

/// A configuration that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// Line of `ns.conf`, from 1.
    pub line: usize,
    /// The error as the CLI prints it.
    pub error: String,
}

/// A data interface that the edge has opened, or found missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// Number, MAC and MTU; `None` while the device is missing.
    pub port: Option<Port>,
    /// The model's name, e.g. `1/1`.
    pub id: String,
    /// The device's name in the host, e.g. `eth1`.
    pub device: String,
    /// Carrier and administrative state.
    pub up: bool,
}

/// Which way packets go, as the driver knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataPlane {
    /// `tc`, `xdp` or `user`.
    pub way: &'static str,
    /// Why it is this one.
    pub why: String,
    /// How each open port is watched.
    pub ports: Vec<(PortId, String)>,
    /// Copies of rewrites in the fast path, two for each flow.
    pub copies: u64,
    /// Copies that found no room there since the start.
    pub refused: u64,
    /// Packets that the fast path did not forward, by reason; zeroes may be left out.
    pub not_forwarded: Vec<(&'static str, u64)>,
}

/// What the idle TCP connection between the two data threads did. A hint only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Connected or accepted.
    Open {
        /// How long its handshake took to the peer's kernel and back.
        round_trip: Duration,
    },
    /// It has come to its end (FIN), or a new one is refused, as when the peer's process is dead.
    Closed,
    /// Reset, or it cannot be made. A process that lives lets go of it with a reset, and so does whoever is in between.
    Cut,
}

/// Where to find the peer. Sent whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLink {
    /// This node's NSIP: bind UDP [`PEER_PORT`] here.
    pub local: IpAddr,
    /// The peer's NSIP: send there.
    pub peer: IpAddr,
    /// Send from here (`-srcIP` of the peer's entry; else `local`).
    pub source: IpAddr,
    /// Accept only from there (`-srcIP` of our own entry; else `peer`).
    pub expected: IpAddr,
    /// The idle TCP connection is opened by this side (the larger NSIP);
    /// the other side listens on TCP [`PEER_PORT`].
    pub connects: bool,
}

/// UDP port of all peer datagrams and TCP port of the idle connection.
pub const PEER_PORT: u16 = 3003;

/// A monitor probe to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Comes back with the outcome.
    pub id: u64,
    /// An echo, or a conversation.
    pub kind: ProbeKind,
    /// A good answer counts as a failure, and the lack of one as a success.
    pub reverse: bool,
    /// Whom to ask.
    pub addr: IpAddr,
    /// TCP or UDP port; 0 for echo.
    pub port: u16,
    /// Give up after this long.
    pub timeout: Duration,
}

/// How to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// ICMP or ICMPv6 echo.
    Ping,
    /// A conversation, from [`crate::Conversation`].
    Ask(Inquiry),
}

impl ProbeKind {
    /// A TCP handshake, then a close.
    pub const TCP: ProbeKind = ProbeKind::Ask(Inquiry { carrier: Carrier::Tcp, script: Script::Handshake });
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOutcome {
    /// The service answered as it should.
    pub ok: bool,
    /// In the model's words, e.g. `Success - TCP syn+ack received.`; when this
    /// host has no kernel address in the server's subnet, a text that says so.
    pub text: String,
    /// How long the answer took.
    pub took: Duration,
}

/// How loud an event is (style.md 19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Role, configuration and server changes.
    Info,
    /// Might wake someone.
    Warn,
    /// A bug, or a dead node.
    Error,
}

/// Something the driver must do. Effects leave in the order in which they must happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this datagram to the peer over UDP.
    PeerDatagram(Vec<u8>),
    /// Open, move or close the peer link.
    PeerLink(Option<PeerLink>),
    /// Make this term durable (fsync), then call `handle_term_stored`.
    StoreTerm(u64),
    /// Write `ns.conf` atomically, then call `handle_config_stored` with the request.
    StoreConfig {
        /// The command that asked.
        request: u64,
        /// The whole file.
        text: String,
    },
    /// Stretch a password into the peer key off the data thread (it takes tens
    /// of milliseconds), then call `handle_peer_key`.
    DeriveKey {
        /// Comes back with the key; only the newest counts.
        request: u64,
        /// The rpcNode password.
        password: String,
        /// Public, the same on both nodes.
        salt: Vec<u8>,
    },
    /// The complete list of data ports (id, device) the configuration wants.
    Interfaces(Vec<(String, String)>),
    /// The complete list of Ethernet addresses (device, address) that devices must let in beside their own.
    FloatingMacs(Vec<(String, MacAddr)>),
    /// Keep the host's own stack away from these addresses.
    Guard {
        /// VIPs and SNIPs.
        floating: Vec<IpAddr>,
        /// Also from all transit unicast (`ns mode L3`).
        transit: bool,
    },
    /// Probe now; answer with `handle_probe_outcome` within the time-out.
    Probe(ProbeRequest),
    /// Ask the witness; answer with `handle_witness`. A call replaces the one before.
    Witness(WitnessCall),
    /// Answer to an operator's command.
    Reply(Reply),
    /// A line for the log.
    Event(Level, String),
    /// Run a program off the data thread, those of one name one after the other.
    Hook(HookRun),
    /// The operator's hand-over is complete: the process may end.
    Stopped,
}

/// A question to the witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessCall {
    /// Comes back with the answer.
    pub number: u32,
    /// Its members, to be tried one after the other.
    pub members: Vec<SocketAddr>,
    /// Where the cell is kept.
    pub key: String,
    /// What is asked; [`crate::claim_text`] is what the cell holds.
    pub ask: WitnessAsk,
    /// After this time an answer is of no use.
    pub patience: Duration,
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRun {
    /// The hook's name, for the log.
    pub name: String,
    /// Absolute path of the program.
    pub command: String,
    /// End it after this time.
    pub timeout: Duration,
    /// What it finds in its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// Answer, or part of an answer, to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number given to `handle_command`.
    pub request: u64,
    /// Text to print (without ` Done`).
    pub text: String,
    /// `false`: `text` is an error line.
    pub ok: bool,
    /// No more parts follow.
    pub last: bool,
}
