//! The lab of the benches: the usual one, with more servers' ports, a pair of nodes with virtual servers of their own,
//! and beside it a second pair of hosts whose kernels forward in the product's place.

use super::peers::KernelPair;
use crate::lab::{Lab, peer_address};
use crate::node::Binaries;
use crate::pair::Pair;
use crate::role::Role;
use crate::traffic::role_log;
use anyhow::Result;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Ports of the TCP servers, on each of two hosts: with SNAT a server endpoint has room for 32,256 connections of a node,
/// and each stays for a while after its end.
pub const TCP_PORTS: std::ops::Range<u16> = 8000..8008;
/// Ports of the UDP servers, on each host: 40 endpoints have room for 1,290,240 flows.
pub const UDP_PORTS: std::ops::Range<u16> = 7100..7120;
/// Port of the TCP virtual servers.
const FRONT_PORT: u16 = 80;
/// Port of the UDP virtual servers.
const DATAGRAM_PORT: u16 = 53;
/// Datagrams and answers of a flow, beyond its first, that surely bring copies of it into the fast path.
pub const TALKS: u32 = 5;
/// Idle time-out of flows that must stay.
const LONG_IDLE: u32 = 9000;
/// A role is ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Client addresses of the million: 192.0.2.40 and up.
const FIRST_FLOW_ADDRESS: u8 = 40;
/// Source addresses of TCP loads.
const LOAD_ADDRESSES: u8 = 7;

/// A virtual server of the benches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Front {
    /// TCP, `-connFailover DISABLED`.
    Plain,
    /// TCP, `-connFailover STATEFUL`.
    Kept,
    /// The same over IPv6.
    Kept6,
    /// UDP, STATEFUL, for the million.
    Datagrams,
    /// UDP, STATEFUL, for the 1 kHz probe.
    Probe,
}

impl Front {
    /// Where clients call.
    pub fn address(self) -> String {
        match self {
            Front::Plain => format!("192.0.2.110:{FRONT_PORT}"),
            Front::Kept => format!("192.0.2.111:{FRONT_PORT}"),
            Front::Kept6 => format!("[2001:db8:1::111]:{FRONT_PORT}"),
            Front::Datagrams => format!("192.0.2.112:{DATAGRAM_PORT}"),
            Front::Probe => format!("192.0.2.113:{DATAGRAM_PORT}"),
        }
    }
}

/// Everything that a bench needs.
pub struct Stage {
    /// The product.
    pub pair: Pair,
    /// What it is compared with.
    pub peers: KernelPair,
    _servers: Vec<Role>,
    /// The namespaces; last, so that what runs in them ends before.
    pub lab: Lab,
}

impl Stage {
    /// Builds the lab and starts the servers; the nodes are not started.
    pub fn build(binaries: &Binaries, arguments: &[String]) -> Result<Stage> {
        let lab = Lab::build()?;
        // The bridges are cables, not firewalls: where the kernel's bridge filter is loaded it costs every frame.
        for family in ["iptables", "ip6tables", "arptables"] {
            let _ = lab.switch.sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "0");
        }
        // A client that closes first is left in TIME_WAIT. Beyond a few of them the kernel skips that, so that a long
        // run does not end up looking for free ports.
        lab.client.sysctl("net/ipv4/tcp_max_tw_buckets", "4096")?;
        let peers = KernelPair::lay(&lab)?;
        let servers = start_servers(&lab)?;
        let mut pair = Pair::new(&lab, binaries)?;
        for node in &mut pair.nodes {
            node.conf = Some(ns_conf(node.index));
            node.arguments = arguments.to_vec();
        }
        Ok(Stage { pair, peers, _servers: servers, lab })
    }

    /// Source addresses for TCP loads, in the family of `target`.
    pub fn sources(target: SocketAddr) -> Vec<String> {
        let address = |n: u8| if target.is_ipv4() { format!("192.0.2.{n}") } else { format!("2001:db8:1::{n}") };
        (10..10 + LOAD_ADDRESSES).map(address).collect()
    }

    /// Source address of the sequential probe: none of the load's.
    pub fn probe_source() -> String {
        format!("192.0.2.{}", 10 + LOAD_ADDRESSES)
    }

    /// Gives the client the addresses from which `flows` UDP clients speak, and returns them. Answers to ports without a
    /// socket must not make the client's kernel complain to the servers.
    pub fn flow_addresses(&self, flows: u32) -> Result<Vec<Ipv4Addr>> {
        let count = u8::try_from(flows.div_ceil(crate::role::FLOWS_PER_ADDRESS))?;
        let list: Vec<_> = (0..count).map(|n| Ipv4Addr::new(192, 0, 2, FIRST_FLOW_ADDRESS + n)).collect();
        self.lab.client.ip_batch(
            &list.iter().fold(String::new(), |lines, address| lines + &format!("addr add {address}/24 dev eth0\n")),
        )?;
        let rules = "table ip bench {\n chain out { type filter hook output priority 0;\n  \
                     icmp type destination-unreachable drop\n }\n}\n";
        self.lab.client.run("nft", &["-f", "-"], rules)?;
        Ok(list)
    }
}

fn start_servers(lab: &Lab) -> Result<Vec<Role>> {
    let mut roles = Vec::new();
    for index in 0..2_u8 {
        let (v4, v6) = (server_v4(index), server_v6(index));
        let mut args = vec!["bench-server".to_string(), "--number".into(), (index + 1).to_string()];
        for port in TCP_PORTS {
            args.extend(["--tcp".into(), format!("{v4}:{port}"), "--tcp".into(), format!("[{v6}]:{port}")]);
        }
        for port in UDP_PORTS {
            args.extend(["--udp".into(), format!("{v4}:{port}")]);
        }
        roles.push(Role::start(&lab.servers[usize::from(index)], &args, &role_log(lab))?);
    }
    // The probe's server says its name, as in the stories.
    let echo = ["echo-server", "--name", "srv1", "--listen", "198.51.100.21:7001"].map(String::from);
    roles.push(Role::start(&lab.servers[0], &echo, &role_log(lab))?);
    for role in &mut roles {
        role.expect("ready", READY_LIMIT)?;
    }
    Ok(roles)
}

/// A server's addresses: those of the lab's first row.
pub fn server_v4(index: u8) -> String {
    format!("198.51.100.{}", 21 + index)
}

fn server_v6(index: u8) -> String {
    format!("2001:db8:2::{}", 21 + index)
}

/// The configuration of node 0 or 1.
fn ns_conf(node: u8) -> String {
    let (own, peer) = (peer_address(node), peer_address(1 - node));
    let mut conf = format!(
        "set ns config -IPAddress {own} -netmask 255.255.255.0\n\
         add interface 1/1 -device eth-c\n\
         add interface 1/2 -device eth-s\n\
         add HA node 1 {peer}\n\
         set ns rpcNode {own} -password s3cret\n\
         set ns rpcNode {peer} -password s3cret\n\
         add ns ip 198.51.100.5 255.255.255.0 -type SNIP\n\
         add ns ip 192.0.2.5 255.255.255.0 -type SNIP\n\
         add ns ip6 2001:db8:2::5/64 -type SNIP\n\
         add ns ip6 2001:db8:1::5/64 -type SNIP\n\
         add lb monitor bench_ping PING\n"
    );
    for (name, kind, front, failover) in [
        ("plain", "TCP", Front::Plain, "DISABLED"),
        ("kept", "TCP", Front::Kept, "STATEFUL"),
        ("kept6", "TCP", Front::Kept6, "STATEFUL"),
        ("datagrams", "UDP", Front::Datagrams, "STATEFUL"),
        ("probe", "UDP", Front::Probe, "STATEFUL"),
    ] {
        let (address, port) = split(&front.address());
        let _ = writeln!(
            conf,
            "add lb vserver {name} {kind} {address} {port} -lbMethod ROUNDROBIN -cltTimeout {LONG_IDLE} \
             -connFailover {failover}"
        );
    }
    for index in 0..2 {
        let _ = writeln!(conf, "add server s{index} {}\nadd server s{index}v6 {}", server_v4(index), server_v6(index));
        for port in TCP_PORTS {
            conf += &service("TCP", index, "", port, &["plain", "kept"]);
            conf += &service("TCP", index, "v6", port, &["kept6"]);
        }
        for port in UDP_PORTS {
            conf += &service("UDP", index, "", port, &["datagrams"]);
        }
    }
    conf + &service("UDP", 0, "", 7001, &["probe"])
}

fn service(kind: &str, server: u8, family: &str, port: u16, fronts: &[&str]) -> String {
    let name = format!("{}_{server}{family}_{port}", kind.to_lowercase());
    let mut text = format!("add service {name} s{server}{family} {kind} {port} -usip NO -svrTimeout {LONG_IDLE}\n");
    // A TCP check of each port every few seconds would be traffic of its own: all are asked by ping.
    let _ = writeln!(text, "bind service {name} -monitorName bench_ping");
    for front in fronts {
        let _ = writeln!(text, "bind lb vserver {front} {name}");
    }
    text
}

/// Address and port of `address:port`, without brackets.
fn split(endpoint: &str) -> (String, u16) {
    let (address, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "0"));
    (address.trim_matches(['[', ']']).to_string(), port.parse().unwrap_or(0))
}
