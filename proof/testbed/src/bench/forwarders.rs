//! What `bench plane` compares, in one topology: each forwarder begins, carries loads, and ends.
//!
//! The kernel's own and the minimal program work on the first host of the kernel pair, each at the same addresses.

use super::peers::KernelPair;
use super::plane::taken;
use super::stage::{Front, Stage, server_v4};
use crate::ns::Namespace;
use crate::sys;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Port of iperf3 at the first server, and of the virtual servers in front of it.
const BULK_PORT: u16 = 5201;
/// Port of the datagrams' virtual server, and one of the servers' ports.
const DATAGRAMS: (u16, u16) = (53, 7100);
/// The kernel pair's address for clients, and towards servers; others for the second crowd of flows and for the lone datagram, so
/// that each keeps its client's ports.
const KERNEL_VIP: &str = "192.0.2.120";
const KERNEL_SOURCES: [&str; 3] = ["198.51.100.6", "198.51.100.7", "198.51.100.8"];
/// The client's own choice of ports: the minimal program's map has no others.
const CLIENT_PORTS: &str = "32768 60999";
/// The second crowd.
const SECOND_CROWD: &str = "192.0.2.41";
/// Programs are ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// Who forwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Forwarder {
    /// A kernel that routes.
    Routed,
    /// nftables.
    Nft,
    /// HAProxy in TCP mode.
    Haproxy,
    /// The minimal DNAT program at the tc hook.
    DnatTc,
    /// The product, `--dataplane tc`.
    Tc,
    /// The product, `--dataplane user`.
    User,
    /// The minimal DNAT program in the driver; hosts finish their checksums.
    DnatXdp,
    /// The product, `--dataplane xdp`; hosts finish their checksums.
    Xdp,
}

impl Forwarder {
    /// All of them; those that change the hosts come last.
    pub const ALL: [Forwarder; 8] = [
        Forwarder::Routed,
        Forwarder::Nft,
        Forwarder::Haproxy,
        Forwarder::DnatTc,
        Forwarder::Tc,
        Forwarder::User,
        Forwarder::DnatXdp,
        Forwarder::Xdp,
    ];

    /// How tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Forwarder::Routed => "routed hop",
            Forwarder::Nft => "nftables NAT",
            Forwarder::Haproxy => "HAProxy, TCP mode",
            Forwarder::DnatTc => "minimal DNAT, tc",
            Forwarder::Tc => "holdfast, tc",
            Forwarder::User => "holdfast, user",
            Forwarder::DnatXdp => "minimal DNAT, XDP (hosts: tx off)",
            Forwarder::Xdp => "holdfast, xdp (hosts: tx off)",
        }
    }

    /// Why it cannot be measured here, if it cannot.
    pub fn missing(self) -> Option<String> {
        match self {
            Forwarder::Haproxy => missing("haproxy"),
            Forwarder::DnatTc | Forwarder::DnatXdp => bench_program().err().map(|error| error.to_string()),
            Forwarder::Routed | Forwarder::Nft | Forwarder::Tc | Forwarder::User | Forwarder::Xdp => None,
        }
    }

    /// The bound that it is measured against.
    pub fn bound(self) -> Forwarder {
        if self.is_xdp() { Forwarder::DnatXdp } else { Forwarder::DnatTc }
    }

    fn is_xdp(self) -> bool {
        matches!(self, Forwarder::DnatXdp | Forwarder::Xdp)
    }

    fn way(self) -> Option<&'static str> {
        match self {
            Forwarder::Tc => Some("tc"),
            Forwarder::User => Some("user"),
            Forwarder::Xdp => Some("xdp"),
            _ => None,
        }
    }
}

/// The stage, and what runs on it besides.
pub struct Field {
    /// Lab, servers and pairs.
    pub stage: Stage,
    iperf: Option<Child>,
    helper: Option<Child>,
    addresses: Vec<Ipv4Addr>,
}

impl Field {
    /// Adds what the stage lacks: the server of bulk transfers and ways to it.
    pub fn lay(mut stage: Stage) -> Result<Field> {
        for node in &mut stage.pair.nodes {
            let conf = node.conf.take().unwrap_or_default();
            node.conf = Some(
                conf + &format!(
                    "add service bulk s0 TCP {BULK_PORT} -usip NO\nbind service bulk -monitorName bench_ping\n\
                     add lb vserver bulk TCP 192.0.2.114 {BULK_PORT} -connFailover STATEFUL\nbind lb vserver bulk bulk\n"
                ),
            );
        }
        stage.lab.client.sysctl("net/ipv4/ip_local_port_range", CLIENT_PORTS)?;
        for source in &KERNEL_SOURCES[1..] {
            stage.peers.hosts[0].ip_batch(&format!("addr add {source}/32 dev eth-s\n"))?;
        }
        // What HAProxy sends goes by the same algorithm as what the client does (see `bulk`).
        stage.peers.hosts[0].ip_batch("route change 198.51.100.0/24 dev eth-s congctl cubic\n")?;
        let log = std::fs::File::create(stage.lab.directory().join("iperf3.log"))?;
        let mut command = stage.lab.servers[0].command("iperf3")?;
        command.args(["-s", "-p", &BULK_PORT.to_string()]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let iperf = if Field::bulk_missing().is_none() { Some(command.spawn().context("start iperf3")?) } else { None };
        Ok(Field { stage, iperf, helper: None, addresses: Vec::new() })
    }

    /// Why bulk transfers cannot be measured here, if they cannot.
    pub fn bulk_missing() -> Option<String> {
        missing("iperf3")
    }

    /// Makes a forwarder ready.
    pub fn enter(&mut self, forwarder: Forwarder) -> Result<()> {
        self.suit_hosts(forwarder.is_xdp())?;
        match forwarder {
            Forwarder::Routed => Ok(()),
            Forwarder::Nft => self.start_nat(),
            Forwarder::Haproxy => self.start_haproxy(),
            Forwarder::DnatTc => self.start_dnat("tc"),
            Forwarder::DnatXdp => self.start_dnat("xdp"),
            Forwarder::Tc | Forwarder::User | Forwarder::Xdp => {
                for node in &mut self.stage.pair.nodes {
                    node.data_plane = forwarder.way().unwrap_or_default().into();
                }
                self.stage.pair.bring_up(&self.stage.lab)?;
                self.stage.pair.wait_whole().map(drop)
            }
        }
    }

    /// Takes it away.
    pub fn leave(&mut self, forwarder: Forwarder) -> Result<()> {
        if let Some(mut helper) = self.helper.take() {
            drop(helper.stdin.take());
            if forwarder == Forwarder::Haproxy {
                helper.kill()?;
            }
            helper.wait()?;
        }
        match forwarder {
            Forwarder::Routed | Forwarder::Haproxy => Ok(()),
            Forwarder::Nft | Forwarder::DnatTc | Forwarder::DnatXdp => self.stop_nat(),
            Forwarder::Tc | Forwarder::User | Forwarder::Xdp => {
                self.stage.pair.nodes.iter_mut().try_for_each(|node| node.stop())
            }
        }
    }

    /// Where bulk transfers go.
    pub fn bulk_target(&self, forwarder: Forwarder) -> String {
        match forwarder {
            Forwarder::Routed => format!("{}:{BULK_PORT}", server_v4(0)),
            Forwarder::Tc | Forwarder::User | Forwarder::Xdp => format!("192.0.2.114:{BULK_PORT}"),
            _ => format!("{KERNEL_VIP}:{BULK_PORT}"),
        }
    }

    /// Where small datagrams go.
    pub fn datagram_target(&self, forwarder: Forwarder) -> String {
        match forwarder {
            Forwarder::Routed => format!("{}:{}", server_v4(0), DATAGRAMS.1),
            Forwarder::Tc | Forwarder::User | Forwarder::Xdp => Front::Datagrams.address(),
            _ => format!("{KERNEL_VIP}:{}", DATAGRAMS.0),
        }
    }

    /// Where the lone datagram goes.
    pub fn probe_target(&self, forwarder: Forwarder) -> String {
        match forwarder {
            Forwarder::Tc | Forwarder::User | Forwarder::Xdp => Front::Probe.address(),
            _ => self.datagram_target(forwarder),
        }
    }

    /// Client addresses of so many flows.
    pub fn flow_addresses(&mut self, flows: u32) -> Result<Vec<Ipv4Addr>> {
        if self.addresses.is_empty() {
            self.addresses = self.stage.flow_addresses(100_000)?;
        }
        let count = usize::try_from(flows.div_ceil(crate::role::FLOWS_PER_ADDRESS))?;
        Ok(self.addresses.iter().take(count).copied().collect())
    }

    /// Servers throw away what comes in for the small datagrams' port, as early as they can.
    pub fn mute_servers(&self, mute: bool) -> Result<()> {
        let rules = "table netdev mute {\n chain in { type filter hook ingress device \"eth0\" priority 0;\n  \
                     udp dport 7100-7119 drop\n }\n}\n";
        for server in &self.stage.lab.servers {
            if mute {
                server.run("nft", &["-f", "-"], rules)?;
            } else {
                server.run("nft", &["delete", "table", "netdev", "mute"], "")?;
            }
        }
        Ok(())
    }

    /// Frames that the servers' cards have taken.
    pub fn arrived(&self) -> Result<u64> {
        self.stage.lab.servers.iter().map(taken).sum()
    }

    /// XDP wants hosts that finish their checksums, and switch ports that take what a driver's program sends.
    fn suit_hosts(&self, xdp: bool) -> Result<()> {
        let state = if xdp { "off" } else { "on" };
        for host in self.stage.lab.servers.iter().chain([&self.stage.lab.client]) {
            host.run("ethtool", &["-K", "eth0", "tx", state], "")?;
        }
        for port in ["a-c", "a-s", "b-c", "b-s", "ka-c", "ka-s"] {
            self.stage.lab.switch.run("ethtool", &["-K", port, "gro", if xdp { "on" } else { "off" }], "")?;
        }
        Ok(())
    }

    /// Host 0 of the kernel pair translates what all loads use, to one server.
    fn start_nat(&self) -> Result<()> {
        let (server, (front, back)) = (server_v4(0), DATAGRAMS);
        let ([first, second, third], lone) = (KERNEL_SOURCES, Stage::probe_source());
        let rules = format!(
            "table ip plane {{\n chain pre {{ type nat hook prerouting priority -100;\n  ip daddr {KERNEL_VIP} tcp dport {BULK_PORT} dnat \
             to {server}:{BULK_PORT}\n  ip daddr {KERNEL_VIP} udp dport {front} dnat to {server}:{back}\n }}\n chain post {{ type nat hook \
             postrouting priority 100;\n  oifname \"eth-s\" ip saddr {SECOND_CROWD} ct status dnat snat to {second}\n  oifname \"eth-s\" ip saddr {lone} ct status dnat snat to {third}\n  oifname \"eth-s\" ct status dnat snat to {first}\n }}\n}}\n"
        );
        let host = &self.stage.peers.hosts[0];
        host.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1")?;
        host.run("nft", &["-f", "-"], &rules).map(drop)
    }

    fn stop_nat(&self) -> Result<()> {
        let host = &self.stage.peers.hosts[0];
        host.run("nft", &["delete", "table", "ip", "plane"], "")?;
        if KernelPair::conntrackd_missing().is_none() {
            host.run("conntrack", &["-F"], "")?;
        }
        Ok(())
    }

    fn start_haproxy(&mut self) -> Result<()> {
        let conf = self.stage.lab.directory().join("haproxy.cfg");
        let server = server_v4(0);
        std::fs::write(
            &conf,
            format!(
                "global\n maxconn 4096\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen bulk\n bind {KERNEL_VIP}:{BULK_PORT}\n server s {server}:{BULK_PORT}\n"
            ),
        )?;
        let host = &self.stage.peers.hosts[0];
        let mut command = host.command("haproxy")?;
        command.args(["-db", "-f"]).arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.helper = Some(command.spawn().context("start haproxy (cargo xtask setup --bench)")?);
        let client = &self.stage.lab.client;
        sys::wait_until("HAProxy answers", READY_LIMIT, || {
            let call = || Ok(std::net::TcpStream::connect((KERNEL_VIP, BULK_PORT)).is_ok());
            Ok(client.inside(call)?.then_some(()))
        })
    }

    /// The minimal program forwards what belongs to flows; what begins and ends them passes through the NAT behind it, which
    /// keeps the clients' ports.
    fn start_dnat(&mut self, way: &str) -> Result<()> {
        self.start_nat()?;
        let host = &self.stage.peers.hosts[0];
        let mut command = host.command(bench_program()?)?;
        command.args(["dnat", way, "eth-c", "eth-s"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start holdfast-bench")?;
        let lines = self.dnat_lines()?;
        let input = child.stdin.as_mut().context("its input")?;
        input.write_all((lines + "end\n").as_bytes())?;
        let output = child.stdout.take().context("its output")?;
        self.helper = Some(child);
        let mut word = String::new();
        BufReader::new(output).read_line(&mut word)?;
        ensure!(word.trim() == "ready", "the minimal program ended: {word}");
        Ok(())
    }

    fn dnat_lines(&mut self) -> Result<String> {
        let host = &self.stage.peers.hosts[0];
        let own = |device: &str| mac(host, device);
        let there = format!("eth-s,{},{}", mac(&self.stage.lab.servers[0], "eth0")?, own("eth-s")?);
        let back = format!("eth-c,{},{}", mac(&self.stage.lab.client, "eth0")?, own("eth-c")?);
        let (server, (front, port)) = (server_v4(0), DATAGRAMS);
        let [first, second, third] = KERNEL_SOURCES;
        let mut lines =
            format!("192.0.2.10 {CLIENT_PORTS} {KERNEL_VIP}:{BULK_PORT} {first} {server}:{BULK_PORT} {there} {back}\n");
        let flows = self.flow_addresses(100_000)?.into_iter().map(|address| address.to_string());
        for client in flows.chain([Stage::probe_source()]) {
            let (ports, source) = match client.as_str() {
                lone if lone == Stage::probe_source() => (CLIENT_PORTS, third),
                SECOND_CROWD => ("10000 59999", second),
                _ => ("10000 59999", first),
            };
            lines += &format!("{client} {ports} {KERNEL_VIP}:{front} {source} {server}:{port} {there} {back}\n");
        }
        Ok(lines)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for child in self.helper.iter_mut().chain(&mut self.iperf) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn missing(program: &str) -> Option<String> {
    (!sys::is_installed(program)).then(|| format!("{program} is not installed (cargo xtask setup --bench)"))
}

/// `holdfast-bench`, beside this program.
fn bench_program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("holdfast-bench");
    ensure!(path.is_file(), "{} is missing: build it with `cargo build --release -p holdfast-bench`", path.display());
    Ok(path)
}

/// The Ethernet address of a host's interface.
fn mac(host: &Namespace, device: &str) -> Result<String> {
    let text = host.ip(&["-o", "link", "show", "dev", device])?;
    let address = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    address.map(str::to_string).with_context(|| format!("the address of {device}: {text}"))
}
