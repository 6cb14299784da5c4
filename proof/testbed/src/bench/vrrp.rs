//! keepalived beside the kernel pair of the benches: the virtual server's address and the source address of the translation
//! move between two hosts, and conntrackd's copy of the connections is committed by the script that its package ships as an
//! example for this purpose.

use super::blow::{Blow, set_cables};
use super::peers::KernelPair;
use super::stage::Stage;
use crate::ns;
use crate::sys;
use anyhow::{Context, Result, ensure};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The example of the Debian package.
const SCRIPT: &str = "/usr/share/doc/conntrackd/examples/sync/primary-backup.sh";
/// Where its words about the configuration and the lock point.
const SCRIPT_PATHS: [(&str, &str); 2] =
    [("/etc/conntrackd/conntrackd.conf", "conf"), ("/var/lock/conntrack.lock", "lock")];
/// The floating addresses, and their interfaces.
const FLOATING: [(&str, &str); 2] = [("192.0.2.120/32", "eth-c"), ("198.51.100.6/32", "eth-s")];
/// One host has both addresses and the other none within this time.
const WHOLE_LIMIT: Duration = Duration::from_secs(40);
/// keepalived ends within this time after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The hosts' names at the switch.
const NAMES: [&str; 2] = ["ka", "kb"];
/// What makes keepalived give up its addresses, written to the file that it watches.
const HAND_OVER: &str = "1\n";
/// What a host with strict tracking adds: what belongs to no known connection is dropped, neither adopted nor answered.
const STRICT_RULES: &str = "table ip strict {\n chain pre {\n  type filter hook prerouting priority -150\n  \
                            ct state invalid drop\n }\n}\n";

/// How it is set.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Seconds between two advertisements, as keepalived reads them.
    pub interval: &'static str,
    /// Connections are never adopted in their middle.
    pub strict: bool,
}

/// keepalived on both hosts of the kernel pair.
pub struct Vrrp {
    settings: Settings,
    daemons: [Option<Child>; 2],
}

impl Vrrp {
    /// Why it cannot be measured here, if it cannot.
    pub fn missing() -> Option<String> {
        if let Some(why) = KernelPair::conntrackd_missing() {
            return Some(why);
        }
        if !sys::is_installed("keepalived") {
            return Some("keepalived is not installed (cargo xtask setup --bench)".into());
        }
        (!Path::new(SCRIPT).is_file()).then(|| format!("{SCRIPT} is missing: the package's examples were left out"))
    }

    /// Starts everything on both hosts.
    pub fn enter(stage: &mut Stage, settings: Settings) -> Result<Vrrp> {
        let mut vrrp = Vrrp { settings, daemons: [None, None] };
        for host in &stage.peers.hosts {
            drop_addresses(host);
            host.run(
                "nft",
                &["-f", "-"],
                &KernelPair::nat_rules("  ip daddr 192.0.2.120 udp dport 53 dnat to 198.51.100.21:7001\n"),
            )?;
            if settings.strict {
                host.run("nft", &["-f", "-"], STRICT_RULES)?;
            }
            host.sysctl("net/netfilter/nf_conntrack_tcp_loose", if settings.strict { "0" } else { "1" })?;
        }
        stage.peers.start_conntrackd()?;
        for index in 0..2 {
            vrrp.start(stage, index)?;
        }
        Ok(vrrp)
    }

    /// Ends everything, and leaves the hosts as they were found.
    pub fn leave(mut self, stage: &mut Stage) -> Result<()> {
        for index in 0..2 {
            self.end(stage, index)?;
        }
        for host in &stage.peers.hosts {
            drop_addresses(host);
            host.run("nft", &["flush", "ruleset"], "")?;
            host.run("conntrack", &["-F"], "")?;
        }
        let lines = FLOATING.map(|(address, device)| format!("addr add {address} dev {device}\n")).concat();
        stage.peers.hosts[0].ip_batch(&lines)
    }

    /// Waits until one host has both addresses and the other has none; returns the former.
    pub fn wait_whole(&mut self, stage: &Stage) -> Result<usize> {
        sys::wait_until("one host of keepalived's pair has both addresses", WHOLE_LIMIT, || {
            let mut held = [0; 2];
            for (index, host) in stage.peers.hosts.iter().enumerate() {
                let daemon = self.daemons[index].as_mut().context("keepalived is not running")?;
                ensure!(daemon.try_wait()?.is_none(), "keepalived ended: {}", log_of(stage, index).display());
                held[index] = floating(host)?;
            }
            Ok(match held {
                [2, 0] => Some(0),
                [0, 2] => Some(1),
                _ => None,
            })
        })
    }

    /// Does it to host `master`.
    pub fn strike(&mut self, stage: &mut Stage, master: usize, blow: Blow) -> Result<()> {
        match blow {
            Blow::None => Ok(()),
            Blow::Kill => {
                signal_all(stage, master, libc::SIGSTOP)?; // nobody has time for a last word
                self.end(stage, master)
            }
            Blow::Power => {
                signal_all(stage, master, libc::SIGSTOP)?;
                set_cables(stage, NAMES[master], "down")?;
                stage.peers.hosts[master].ip_batch("link set eth-p down\n")?;
                self.end(stage, master)
            }
            Blow::Freeze => signal_all(stage, master, libc::SIGSTOP),
            Blow::Cut => set_cables(stage, NAMES[master], "down"),
            Blow::Planned => Ok(std::fs::write(track_file(stage, master), HAND_OVER)?),
            Blow::Term => {
                let mut daemon = self.daemons[master].take().context("keepalived runs")?;
                sys::signal(daemon.id(), libc::SIGTERM)?;
                sys::wait_until("keepalived has ended", STOP_LIMIT, || Ok(daemon.try_wait()?)).map(drop)
            }
        }
    }

    /// Takes it back and waits until the pair is whole.
    pub fn heal(&mut self, stage: &mut Stage, victim: usize, blow: Blow) -> Result<()> {
        match blow {
            Blow::None => {}
            Blow::Kill | Blow::Power => {
                // A host that was started anew: it has no floating address and knows no connection.
                let host = &stage.peers.hosts[victim];
                drop_addresses(host);
                host.run("conntrack", &["-F"], "")?;
                host.ip_batch("link set eth-p up\n")?;
                set_cables(stage, NAMES[victim], "up")?;
                stage.peers.spawn_conntrackd(victim)?;
                stage.peers.await_conntrackd(victim)?;
                self.start(stage, victim)?;
            }
            Blow::Freeze => signal_all(stage, victim, libc::SIGCONT)?,
            Blow::Cut => set_cables(stage, NAMES[victim], "up")?,
            Blow::Planned => std::fs::write(track_file(stage, victim), "0\n")?,
            Blow::Term => self.start(stage, victim)?,
        }
        self.wait_whole(stage).map(drop)
    }

    fn start(&mut self, stage: &Stage, index: usize) -> Result<()> {
        let directory = stage.peers.directory();
        let at = |end: &str| directory.join(format!("keepalived-{index}.{end}"));
        std::fs::write(track_file(stage, index), "0\n")?;
        std::fs::write(at("conf"), self.conf(stage, index)?)?;
        let log = File::options().create(true).append(true).open(log_of(stage, index))?;
        let mut command = stage.peers.hosts[index].command("keepalived")?;
        command.args(["--dont-fork", "--vrrp", "--log-console", "--log-detail", "--no-syslog"]);
        command.arg("--use-file").arg(at("conf")).arg("--pid").arg(at("pid")).arg("--vrrp_pid").arg(at("vrrp-pid"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemons[index] = Some(command.spawn().context("start keepalived")?);
        Ok(())
    }

    /// Ends what runs on a host: keepalived with its child, and conntrackd; all by their pid.
    fn end(&mut self, stage: &mut Stage, index: usize) -> Result<()> {
        signal_all(stage, index, libc::SIGKILL)?;
        if let Some(mut daemon) = self.daemons[index].take() {
            daemon.wait()?;
        }
        stage.peers.end_conntrackd(index)?;
        for end in ["pid", "vrrp-pid"] {
            let _ = std::fs::remove_file(stage.peers.directory().join(format!("keepalived-{index}.{end}")));
        }
        Ok(())
    }

    /// Both addresses move together; nobody takes them from a master that works.
    fn conf(&self, stage: &Stage, index: usize) -> Result<String> {
        let script = script(stage, index)?;
        let script = script.display();
        let mut conf = String::from("global_defs {\n script_user root\n vrrp_version 3\n}\n");
        conf += &format!("track_file hand_over {{\n file \"{}\"\n weight 0\n}}\n", track_file(stage, index).display());
        conf += "vrrp_sync_group both {\n group {\n  c\n  s\n }\n";
        for (state, word) in [("master", "primary"), ("backup", "backup"), ("fault", "fault")] {
            conf += &format!(" notify_{state} \"{script} {word}\"\n");
        }
        conf += "}\n";
        for ((address, device), (name, id)) in FLOATING.iter().zip([("c", 61), ("s", 62)]) {
            let track = if name == "c" { " track_file {\n  hand_over\n }\n" } else { "" };
            conf += &format!(
                "vrrp_instance {name} {{\n interface {device}\n state BACKUP\n nopreempt\n virtual_router_id {id}\n priority 80\n \
                 advert_int {}\n virtual_ipaddress {{\n  {address} dev {device}\n }}\n{track}}}\n",
                self.settings.interval
            );
        }
        Ok(conf)
    }
}

impl Drop for Vrrp {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().flatten() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The package's script, with the paths of this host's conntrackd.
fn script(stage: &Stage, index: usize) -> Result<PathBuf> {
    let mut text = std::fs::read_to_string(SCRIPT).with_context(|| format!("read {SCRIPT}"))?;
    for (there, end) in SCRIPT_PATHS {
        text = text.replace(there, &stage.peers.conntrackd_file(index, end).display().to_string());
    }
    let path = stage.peers.directory().join(format!("primary-backup-{index}.sh"));
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

fn track_file(stage: &Stage, index: usize) -> PathBuf {
    stage.peers.directory().join(format!("keepalived-{index}.hand-over"))
}

fn log_of(stage: &Stage, index: usize) -> PathBuf {
    stage.peers.directory().join(format!("keepalived-{index}.log"))
}

/// Whether a host has both addresses.
pub fn leads(stage: &Stage, index: usize) -> Result<bool> {
    Ok(floating(&stage.peers.hosts[index])? == FLOATING.len())
}

/// How many floating addresses a host has.
fn floating(host: &ns::Namespace) -> Result<usize> {
    let text = host.ip(&["-4", "-o", "addr", "show"])?;
    Ok(FLOATING.iter().filter(|(address, _)| text.contains(address)).count())
}

fn drop_addresses(host: &ns::Namespace) {
    for (address, device) in FLOATING {
        let _ = host.ip(&["addr", "del", address, "dev", device]); // it may not have it
    }
}

/// Signals every process of a host by its pid.
fn signal_all(stage: &Stage, index: usize, signal: i32) -> Result<()> {
    let host = &stage.peers.hosts[index];
    let pids = ns::ip(&["netns", "pids", host.name()], "")?;
    for pid in pids.split_whitespace().filter_map(|word| word.parse::<u32>().ok()) {
        let _ = sys::signal(pid, signal); // one may have ended meanwhile
    }
    Ok(())
}
