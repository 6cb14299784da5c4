//! What a seed decides: the pair's configuration, the network's manners, who
//! connects when, and what breaks.

use core::fmt::Write as _;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use holdfast_base::{Instant, Rng};
use holdfast_node::StreamEvent;

use crate::apps::{ECHO, Manner};
use crate::ftp::CONTROL;
use crate::link::Manners;
use crate::machine::{PORTS, Sabotage};

/// Something breaks or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process of a machine dies; its kernel closes its connections.
    Kill(usize),
    /// A machine loses power.
    PowerOff(usize),
    /// A machine's cables are plugged in and its process starts.
    Start(usize),
    /// A machine's process stands still for a while.
    Freeze(usize, Duration),
    /// The peer link is cut or mended.
    PeerLink(bool),
    /// What is sent to this machine on the peer link is lost; the other way works.
    PeerDeaf(usize),
    /// Nothing that is sent to this machine arrives, by any port; what it sends does. Or it hears again.
    Deaf(usize, bool),
    /// A machine's cable to a network is cut or mended.
    Cable(usize, usize, bool),
    /// The same, and the machine's port loses or finds its carrier, so that it is told.
    Carrier(usize, usize, bool),
    /// The operator forces a failover.
    ForceFailover,
    /// A machine's process is asked to end.
    Stop(usize),
    /// Nothing gets from one machine to the other, or again something does;
    /// both reach all hosts.
    Split(bool),
    /// The network falls into two halves, or is one again: nothing gets from one machine to the other, and each
    /// host reaches one of them only ([`crate::reach::side_of`]).
    Divide(bool),
    /// The witness ends, or comes back with what it held.
    Witness(bool),
    /// A machine's way to the witness is cut or mended.
    WitnessCable(usize, bool),
    /// Frames are lost on the data networks, per thousand.
    Loss(u64),
    /// Datagrams are lost on the peer link, per thousand.
    PeerLoss(u64),
}

/// A kind of traffic and the vservers (IPv4 and IPv6) that take it.
#[derive(Clone, Debug)]
pub struct VserverSpec {
    /// Name in the configuration.
    pub name: &'static str,
    /// `TCP`, `UDP`, `ANY` or `FTP`.
    pub kind: &'static str,
    /// `STATEFUL`, `STATELESS` or `DISABLED`.
    pub failover: &'static str,
    /// Servers see the client's address.
    pub usip: bool,
    /// Further options.
    pub options: &'static str,
    /// The IPv4 VIP.
    pub v4: Ipv4Addr,
    /// The IPv6 VIP.
    pub v6: Ipv6Addr,
    /// The port that clients call.
    pub port: u16,
}

/// A connection or exchange that a client opens.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// When.
    pub at: Instant,
    /// Which client.
    pub client: usize,
    /// Which vserver.
    pub vserver: usize,
    /// Over IPv6.
    pub v6: bool,
    /// A UDP exchange instead of a connection.
    pub udp: bool,
    /// Bytes to be echoed.
    pub bytes: u64,
    /// Time between chunks.
    pub pause: Duration,
    /// Who ends the connection.
    pub manner: Manner,
    /// From a port that was used for the same place before.
    pub reuse: bool,
}

impl Opening {
    /// A connection of the first client that is open for a while and says a lot.
    pub fn plain(at: Instant, vserver: usize, v6: bool) -> Opening {
        Opening {
            at,
            client: 0,
            vserver,
            v6,
            udp: vserver == UDP,
            bytes: 20_000,
            pause: Duration::from_millis(50),
            manner: Manner::ClientCloses,
            reuse: false,
        }
    }
}

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides all else.
    pub seed: u64,
    /// Client hosts.
    pub clients: usize,
    /// Server hosts.
    pub servers: usize,
    /// Kinds of traffic.
    pub vservers: Vec<VserverSpec>,
    /// Manners of the peer link.
    pub peer_manners: Manners,
    /// Manners of the data networks.
    pub data_manners: Manners,
    /// What the nodes are told, `STRICT` or `ASYNC`; strict mirroring is promised.
    pub mirror_mode: &'static str,
    /// The machines start within this time, in milliseconds.
    pub start_spread_ms: u64,
    /// Slowest disk write, in microseconds.
    pub disk_us: u64,
    /// Traffic.
    pub opens: Vec<Opening>,
    /// Faults planned by time; the runner adds its own.
    pub faults: Vec<(Instant, Fault)>,
    /// Faults that the runner applies, one at a time, each to a whole pair.
    pub rounds: usize,
    /// A machine that wakes up has lost what the peer sent meanwhile.
    pub deaf_thaw: bool,
    /// How the driver is broken.
    pub sabotage: Sabotage,
    /// How long a machine takes to open its data ports.
    pub ports_after: Duration,
    /// Only the first machine is switched on in the beginning.
    pub first_only: bool,
    /// Size of the flow table, by machine.
    pub max_flows: [u32; 2],
    /// Size of the persistence table, by machine.
    pub max_persistence: [u32; 2],
    /// Further lines of `ns.conf`, by machine.
    pub extra_config: [String; 2],
    /// Both machines ask a witness.
    pub witness: bool,
    /// After the rounds the network is divided, and each half opens connections of its own.
    pub divides: bool,
    /// What the other node sees of the idle connection when a process dies.
    pub death_seen: StreamEvent,
}

/// TCP through SNAT, STATEFUL.
pub const SNAT: usize = 0;
/// TCP with USIP, STATEFUL.
pub const USIP: usize = 1;
/// UDP, STATEFUL.
pub const UDP: usize = 2;
/// ANY with USIP, STATELESS.
pub const STATELESS: usize = 3;
/// TCP through SNAT, DISABLED.
pub const DISABLED: usize = 4;
/// TCP with USIP, DISABLED.
pub const DISABLED_USIP: usize = 5;
/// TCP through SNAT, STATEFUL, SOURCEIP persistence.
pub const STICKY: usize = 6;
/// FTP through SNAT, STATEFUL, of [`Scenario::with_ftp`].
pub const FTP: usize = 7;
/// FTP with USIP, STATEFUL, of [`Scenario::with_ftp`].
pub const FTP_USIP: usize = 8;

impl Scenario {
    /// A quiet pair on good cables with no traffic: the start of every story.
    pub fn quiet(seed: u64) -> Scenario {
        Scenario {
            seed,
            clients: 1,
            servers: 2,
            vservers: vservers(),
            peer_manners: Manners::CALM,
            data_manners: Manners::CALM,
            mirror_mode: "STRICT",
            start_spread_ms: 0,
            disk_us: 1000,
            opens: Vec::new(),
            faults: Vec::new(),
            rounds: 0,
            deaf_thaw: false,
            sabotage: Sabotage::None,
            ports_after: Duration::ZERO,
            first_only: false,
            max_flows: [2048; 2],
            max_persistence: [512; 2],
            extra_config: [const { String::new() }; 2],
            witness: false,
            divides: false,
            death_seen: StreamEvent::Closed,
        }
    }

    /// The same with FTP vservers. (Not in every run: seeds keep their meaning.)
    pub fn with_ftp(self) -> Scenario {
        let mut vservers = self.vservers;
        vservers.push(spec(7, CONTROL[0], "ftp", "FTP", "STATEFUL", false, ""));
        vservers.push(spec(8, CONTROL[1], "ftp-usip", "FTP", "STATEFUL", true, ""));
        Scenario { vservers, ..self }
    }

    /// The run that a seed stands for.
    pub fn from_seed(seed: u64) -> Scenario {
        let mut rng = Rng::from_seed(seed);
        let clients = 1 + rng.below(3) as usize;
        let rounds = 1 + rng.below(3) as usize;
        let slowest = [200, 200, 5000][rng.below(3) as usize];
        let mut scenario = Scenario {
            clients,
            servers: 1 + rng.below(3) as usize,
            peer_manners: if rng.chance(1, 8) { poor(&mut rng) } else { manners(&mut rng, slowest) },
            data_manners: manners(&mut rng, 200),
            start_spread_ms: [0, 30, 1500][rng.below(3) as usize],
            disk_us: [500, 5_000, 40_000][rng.below(3) as usize],
            rounds,
            deaf_thaw: rng.chance(1, 2),
            // From a stream of its own: all else of a seed is what it was.
            witness: Rng::from_seed(seed ^ 0x0077_6974_6e65).chance(1, 8),
            divides: Rng::from_seed(seed ^ 0x6469_7669_6465).chance(1, 5),
            death_seen: if Rng::from_seed(seed ^ 0x6375_7473).chance(1, 6) {
                StreamEvent::Cut
            } else {
                StreamEvent::Closed
            },
            ..Scenario::quiet(seed)
        };
        let span = 3000 + 5000 * rounds as u64;
        let bursts: Vec<Instant> = (0..=rounds).map(|_| at_ms(500 + rng.below(span))).collect();
        // Rarely so many that a bulk transfer takes many datagrams.
        let connections = if rng.chance(1, 12) { 150 + rng.below(150) } else { 10 + rng.below(40) };
        for _ in 0..connections {
            let burst = bursts[rng.below(bursts.len() as u64) as usize];
            scenario.opens.push(opening(&mut rng, clients, span, connections > 100, burst));
        }
        scenario.max_flows = table_sizes(seed, connections);
        scenario
    }

    /// `ns.conf` of a machine.
    pub fn config(&self, machine: usize) -> String {
        let mut text = String::new();
        let (own, peer) = (machine + 1, 2 - machine);
        let _ = writeln!(text, "set ns config -IPAddress 10.0.3.{own} -netmask 255.255.255.0");
        for (id, device) in PORTS {
            let _ = writeln!(text, "add interface {id} -device {device}");
        }
        let _ = writeln!(text, "add HA node 1 10.0.3.{peer}");
        let _ = writeln!(text, "set HA node -mirrorMode {}", self.mirror_mode);
        if self.witness {
            text.push_str("set HA node -witness http://10.0.9.1:2379\n");
        }
        for node in [1, 2] {
            let _ = writeln!(text, "set ns rpcNode 10.0.3.{node} -password correct-horse");
        }
        text.push_str(
            "add ns ip 10.0.2.5 255.255.255.0 -type SNIP\nadd ns ip6 fd00:2::5/64 -type SNIP\n\
             add ns ip 10.0.1.5 255.255.255.0 -type SNIP\nadd ns ip6 fd00:1::5/64 -type SNIP\n",
        );
        for server in 0..self.servers {
            let last = server + 21;
            let _ = writeln!(text, "add server v4-{server} 10.0.2.{last}\nadd server v6-{server} fd00:2::{last:x}");
        }
        for vserver in &self.vservers {
            for (family, vip) in [("v4", vserver.v4.to_string()), ("v6", vserver.v6.to_string())] {
                vserver.write(&mut text, family, &vip, self.servers);
            }
        }
        text.push_str(&self.extra_config[machine]);
        text
    }
}

impl VserverSpec {
    fn write(&self, text: &mut String, family: &str, vip: &str, servers: usize) {
        let VserverSpec { name, kind, failover, options, .. } = self;
        let port = if *kind == "ANY" { "*".into() } else { self.port.to_string() };
        let usip = if self.usip { "YES" } else { "NO" };
        for server in 0..servers {
            let service = format!("{name}-{family}-{server}");
            let _ = writeln!(text, "add service {service} {family}-{server} {kind} {port} -usip {usip} -svrTimeout 90");
        }
        let vserver = format!("{name}-{family}");
        let _ = writeln!(text, "add lb vserver {vserver} {kind} {vip} {port} {options} -cltTimeout 90");
        for server in 0..servers {
            let _ = writeln!(text, "bind lb vserver {vserver} {name}-{family}-{server}");
        }
        let _ = writeln!(text, "set lb vserver {vserver} -connFailover {failover}");
    }
}

/// One connection or exchange somewhere in the run.
fn opening(rng: &mut Rng, clients: usize, span: u64, crowd: bool, burst: Instant) -> Opening {
    let vserver = match rng.below(20) {
        0..=3 => SNAT,
        4..=7 => USIP,
        8..=10 => UDP,
        11..=14 => STATELESS,
        15 => DISABLED,
        16 => DISABLED_USIP,
        _ => STICKY,
    };
    // Many begin together, and faults like to strike there.
    let at =
        if rng.chance(1, 3) { burst + Duration::from_micros(rng.below(3000)) } else { at_ms(500 + rng.below(span)) };
    let most = if rng.chance(1, 3) { 500 } else { 30_000 } / if crowd { 10 } else { 1 };
    Opening {
        at,
        client: rng.below(clients as u64) as usize,
        vserver,
        v6: rng.chance(1, 3),
        udp: vserver == UDP,
        bytes: 1 + rng.below(most),
        pause: Duration::from_millis(rng.below(300)),
        manner: match rng.below(8) {
            0 | 1 => Manner::ServerCloses,
            2 => Manner::ClientResets,
            _ => Manner::ClientCloses,
        },
        reuse: rng.chance(1, 2),
    }
}

fn spec(
    number: u8,
    port: u16,
    name: &'static str,
    kind: &'static str,
    failover: &'static str,
    usip: bool,
    options: &'static str,
) -> VserverSpec {
    let v4 = Ipv4Addr::new(10, 0, 1, 100 + number);
    let v6 = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100 + u16::from(number));
    VserverSpec { name, kind, failover, usip, options, v4, v6, port }
}

fn vservers() -> Vec<VserverSpec> {
    vec![
        spec(0, ECHO[0], "snat", "TCP", "STATEFUL", false, ""),
        spec(1, ECHO[1], "usip", "TCP", "STATEFUL", true, "-lbMethod ROUNDROBIN"),
        spec(2, ECHO[0], "udp", "UDP", "STATEFUL", false, "-lbMethod ROUNDROBIN"),
        spec(3, ECHO[0], "stateless", "ANY", "STATELESS", true, "-lbMethod SRCIPSRCPORTHASH"),
        spec(4, ECHO[2], "disabled", "TCP", "DISABLED", false, ""),
        spec(5, ECHO[3], "disabled-usip", "TCP", "DISABLED", true, ""),
        spec(6, ECHO[4], "sticky", "TCP", "STATEFUL", false, "-lbMethod ROUNDROBIN -persistenceType SOURCEIP"),
    ]
}

fn at_ms(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

/// In one seed of six one machine's table has room for a part of the connections only. (Drawn apart from all else, which
/// means what it meant before there were such seeds.)
fn table_sizes(seed: u64, connections: u64) -> [u32; 2] {
    let mut rng = Rng::from_seed(seed ^ 0x7ab1e);
    let mut sizes = Scenario::quiet(seed).max_flows;
    if rng.chance(1, 6) {
        sizes[rng.below(2) as usize] = 4 + rng.below(connections / 2) as u32;
    }
    sizes
}

/// A peer link that is slow, jumbles, repeats and loses.
fn poor(rng: &mut Rng) -> Manners {
    Manners {
        delay: Duration::from_millis(1 + rng.below(30)),
        jitter: Duration::from_millis(rng.below(40)),
        loss_permille: rng.below(100),
        duplicate_permille: rng.below(200),
    }
}

fn manners(rng: &mut Rng, slowest: u64) -> Manners {
    Manners {
        delay: Duration::from_micros(10 + rng.below(slowest)),
        jitter: Duration::from_micros([0, 100, 3000][rng.below(3) as usize]),
        loss_permille: [0, 0, 5, 30][rng.below(4) as usize],
        duplicate_permille: [0, 5][rng.below(2) as usize],
    }
}
