//! What the product is compared with, in the same topology and the same run: a second pair of hosts whose kernels forward.
//!
//! *Routed*: no NAT at all, no connection tracking. *nftables*: DNAT to one of the servers in turn and SNAT to one address,
//! no standby. *conntrackd*: the same rules, and every connection told to a second host by conntrackd in the FT-FW mode, with
//! the settings that its own package ships as an example; only addresses, interface and paths are ours.

use super::stage::{TCP_PORTS, server_v4};
use crate::lab::Lab;
use crate::ns::Namespace;
use crate::sys;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The example of the Debian package.
const EXAMPLE: &str = "/usr/share/doc/conntrackd/examples/sync/ftfw/conntrackd.conf";
/// The virtual server of the kernel pair.
pub const KERNEL_VIP: &str = "192.0.2.120:80";
/// conntrackd answers on its socket within this time.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The kernel pair: host 0 forwards, host 1 stands by.
pub struct KernelPair {
    /// Both hosts.
    pub hosts: [Namespace; 2],
    daemons: [Option<Child>; 2],
    directory: PathBuf,
}

impl KernelPair {
    /// Two more hosts on the lab's networks, with a link between them.
    pub fn lay(lab: &Lab) -> Result<KernelPair> {
        let hosts = [Namespace::create("ka")?, Namespace::create("kb")?];
        let mut lines = String::new();
        for (host, name) in hosts.iter().zip(["ka", "kb"]) {
            for (side, device) in [("c", "eth-c"), ("s", "eth-s")] {
                let _ = writeln!(lines, "link add {name}-{side} type veth peer name {device} netns {}", host.name());
                let _ = writeln!(lines, "link set {name}-{side} master br-{side} up");
            }
        }
        lab.switch.ip_batch(&lines)?;
        hosts[0].ip_batch(&format!("link add eth-p type veth peer name eth-p netns {}\n", hosts[1].name()))?;
        for (index, host) in hosts.iter().enumerate() {
            host.ip_batch(&format!(
                "addr add 192.0.2.{}/24 dev eth-c\naddr add 198.51.100.{}/24 dev eth-s\naddr add 203.0.113.{}/24 dev eth-p\n\
                 link set eth-c up\nlink set eth-s up\nlink set eth-p up\n",
                30 + index,
                13 + index,
                101 + index
            ))?;
            host.sysctl("net/ipv4/ip_forward", "1")?;
        }
        hosts[0].ip_batch("addr add 192.0.2.120/32 dev eth-c\naddr add 198.51.100.6/32 dev eth-s\n")?;
        lab.client.ip_batch("route add 198.51.100.0/24 via 192.0.2.30\n")?;
        for server in &lab.servers {
            server.ip_batch("route add 192.0.2.0/24 via 198.51.100.13\n")?;
        }
        Ok(KernelPair { hosts, daemons: [None, None], directory: lab.directory().to_path_buf() })
    }

    /// Why conntrackd cannot be measured here, if it cannot.
    pub fn conntrackd_missing() -> Option<String> {
        for program in ["conntrackd", "conntrack"] {
            if !sys::is_installed(program) {
                return Some(format!("{program} is not installed (cargo xtask setup --bench)"));
            }
        }
        (!Path::new(EXAMPLE).is_file()).then(|| format!("{EXAMPLE} is missing: the package's examples were left out"))
    }

    /// Addresses of the servers themselves, for the routed comparison.
    pub fn server_endpoints() -> Vec<String> {
        TCP_PORTS.flat_map(|port| (0..2).map(move |index| format!("{}:{port}", server_v4(index)))).collect()
    }

    /// Host 0 translates.
    pub fn start_nat(&self) -> Result<()> {
        self.hosts[0].run("nft", &["-f", "-"], &KernelPair::nat_rules("")).map(drop)
    }

    /// The table of a host that translates, with more rules in its `prerouting` chain.
    pub fn nat_rules(more: &str) -> String {
        let endpoints = KernelPair::server_endpoints();
        let map: Vec<String> =
            endpoints.iter().enumerate().map(|(n, end)| format!("{n} : {}", end.replace(':', " . "))).collect();
        format!(
            "table ip bench {{\n chain pre {{ type nat hook prerouting priority -100;\n{more}  ip daddr 192.0.2.120 tcp dport 80 \
             dnat ip addr . port to numgen inc mod {} map {{ {} }}\n }}\n chain post {{ type nat hook postrouting \
             priority 100;\n  oifname \"eth-s\" ct status dnat snat ip to 198.51.100.6\n }}\n}}\n",
            endpoints.len(),
            map.join(", ")
        )
    }

    /// Host 0 only routes; what it had tracked is forgotten.
    pub fn stop_nat(&self) -> Result<()> {
        self.hosts[0].run("nft", &["delete", "table", "ip", "bench"], "")?;
        if KernelPair::conntrackd_missing().is_none() {
            self.hosts[0].run("conntrack", &["-F"], "")?;
        }
        Ok(())
    }

    /// Starts conntrackd on both hosts and waits until both answer.
    pub fn start_conntrackd(&mut self) -> Result<()> {
        self.spawn_conntrackd(0)?;
        self.spawn_conntrackd(1)?;
        self.await_conntrackd(0)?;
        self.await_conntrackd(1)
    }

    /// Starts conntrackd on one host.
    pub fn spawn_conntrackd(&mut self, index: usize) -> Result<()> {
        let conf = self.conntrackd_file(index, "conf");
        std::fs::write(&conf, self.conntrackd_conf(index)?)?;
        let log = File::options().create(true).append(true).open(self.directory.join("conntrackd.log"))?;
        let mut command = self.hosts[index].command("conntrackd")?;
        command.arg("-C").arg(&conf).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemons[index] = Some(command.spawn().context("start conntrackd")?);
        Ok(())
    }

    /// Waits until the one on this host answers.
    pub fn await_conntrackd(&mut self, index: usize) -> Result<()> {
        let conf = self.conntrackd_file(index, "conf").display().to_string();
        sys::wait_until("conntrackd answers", START_LIMIT, || {
            let exited = self.daemons[index].as_mut().map(Child::try_wait).transpose()?.flatten();
            anyhow::ensure!(exited.is_none(), "conntrackd ended: see its log in {}", self.directory.display());
            Ok(self.hosts[index].run("conntrackd", &["-C", &conf, "-s"], "").ok())
        })
        .map(drop)
    }

    /// Ends both (by their pid).
    pub fn stop_conntrackd(&mut self) -> Result<()> {
        self.end_conntrackd(0)?;
        self.end_conntrackd(1)
    }

    /// Ends the one on this host, if it has not ended, and removes what a killed one leaves: it would stop the next.
    pub fn end_conntrackd(&mut self, index: usize) -> Result<()> {
        if let Some(mut child) = self.daemons[index].take() {
            child.kill()?;
            child.wait()?;
        }
        for end in ["lock", "ctl"] {
            let _ = std::fs::remove_file(self.conntrackd_file(index, end));
        }
        Ok(())
    }

    /// One of the files of the conntrackd on this host: its `conf`, `lock`, `ctl` or `log`.
    pub fn conntrackd_file(&self, index: usize, end: &str) -> PathBuf {
        self.directory.join(format!("conntrackd-{index}.{end}"))
    }

    /// Where further files may lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process ids of both, while they run.
    pub fn conntrackd_pids(&self) -> Vec<u32> {
        self.daemons.iter().flatten().map(Child::id).collect()
    }

    fn conntrackd_conf(&self, index: usize) -> Result<String> {
        let text = std::fs::read_to_string(EXAMPLE).with_context(|| format!("read {EXAMPLE}"))?;
        let at = |end: &str| self.conntrackd_file(index, end).display().to_string();
        let address = format!("203.0.113.{}", 101 + index);
        Ok(text
            .replace("IPv4_interface 192.168.100.100", &format!("IPv4_interface {address}"))
            .replace("Interface eth2", "Interface eth-p")
            .replace("/var/lock/conntrack.lock", &at("lock"))
            .replace("/var/run/conntrackd.ctl", &at("ctl"))
            .replace("LogFile on", &format!("LogFile {}", at("log"))))
    }
}

impl Drop for KernelPair {
    fn drop(&mut self) {
        for child in self.daemons.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
