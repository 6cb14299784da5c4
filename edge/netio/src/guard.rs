//! Keeping the host's own stack away from floating addresses.
//!
//! The engine sees every frame through its packet sockets; the host's stack
//! sees the same frames a moment later. Where it forwards (`ip_forward=1`) it
//! would send them on a second time. So a chain on the ingress hook of each
//! data interface, which runs after packet sockets, drops what is the node's.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// Prefix of our tables; the process id follows.
const TABLE_PREFIX: &str = "holdfast_";

/// What the host's stack must not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardPlan {
    /// Interfaces to watch; each one must exist.
    pub devices: BTreeSet<String>,
    /// Addresses that are the node's own.
    pub floating: BTreeSet<IpAddr>,
    /// With the host's own addresses: also every unicast packet to another
    /// address, because the node routes it.
    pub transit: Option<BTreeSet<IpAddr>>,
}

/// A guard that could not be put up.
#[derive(Debug)]
pub enum GuardError {
    /// There is no `nft` program.
    Missing,
    /// It refused; its own words.
    Refused(String),
    /// It could not be run.
    Io(io::Error),
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot keep the host's own stack away from floating addresses: ")?;
        match self {
            GuardError::Missing => f.write_str(
                "the nft program is missing (install nftables; until then switch off IP forwarding on this host)",
            ),
            GuardError::Refused(words) => write!(f, "nft: {words}"),
            GuardError::Io(error) => write!(f, "running nft: {error}"),
        }
    }
}

impl std::error::Error for GuardError {}

/// The rules of one process, in a table of its own. All calls wait for the
/// `nft` program: not for the data thread.
#[derive(Debug)]
pub struct Guard {
    table: String,
    applied: GuardPlan,
}

impl Guard {
    /// The guard of the process `pid`; nothing is installed yet.
    pub fn new(pid: u32) -> Guard {
        Guard { table: format!("{TABLE_PREFIX}{pid}"), applied: GuardPlan::default() }
    }

    /// Makes the rules match `plan`, in one transaction; does nothing if they
    /// already do. Returns whether something changed.
    pub fn apply(&mut self, plan: &GuardPlan) -> Result<bool, GuardError> {
        if *plan == self.applied {
            return Ok(false);
        }
        run_nft(&["-f", "-"], &script(&self.table, plan))?;
        self.applied = plan.clone();
        Ok(true)
    }

    /// Forgets what was applied, so that the next `apply` acts: after an
    /// interface was replaced its chain is gone with it.
    pub fn invalidate(&mut self) {
        self.applied = GuardPlan::default();
    }

    /// Takes the rules away.
    pub fn remove(&mut self) -> Result<(), GuardError> {
        if self.applied != GuardPlan::default() {
            run_nft(&["-f", "-"], &script(&self.table, &GuardPlan::default()))?;
            self.applied = GuardPlan::default();
        }
        Ok(())
    }

    /// Removes the tables of earlier processes that were killed. `alive` tells
    /// whether a process id belongs to a running daemon of ours.
    pub fn remove_stale(&self, alive: impl Fn(u32) -> bool) -> Result<(), GuardError> {
        let tables = run_nft(&["list", "tables", "netdev"], "")?;
        for pid in stale_pids(&tables) {
            let table = format!("{TABLE_PREFIX}{pid}");
            if table == self.table || !alive(pid) {
                run_nft(&["delete", "table", "netdev", &table], "")?;
            }
        }
        Ok(())
    }
}

fn stale_pids(tables: &str) -> Vec<u32> {
    let pid = |line: &str| line.trim().strip_prefix("table netdev ")?.strip_prefix(TABLE_PREFIX)?.parse().ok();
    tables.lines().filter_map(pid).collect()
}

/// One nft transaction: the old table goes, the wanted one comes.
pub(crate) fn script(table: &str, plan: &GuardPlan) -> String {
    let mut out = format!("add table netdev {table}\ndelete table netdev {table}\n");
    if plan.devices.is_empty() || (plan.floating.is_empty() && plan.transit.is_none()) {
        return out;
    }
    let _ = writeln!(out, "table netdev {table} {{");
    write_sets(&mut out, "floating", &plan.floating);
    if let Some(host) = &plan.transit {
        write_sets(&mut out, "host", host);
    }
    for (at, device) in plan.devices.iter().enumerate() {
        let _ = writeln!(out, " chain port{at} {{");
        let _ = writeln!(out, "  type filter hook ingress device \"{device}\" priority -500; policy accept;");
        out.push_str("  ip daddr @floating4 drop\n  ip6 daddr @floating6 drop\n  arp daddr ip @floating4 drop\n");
        if plan.transit.is_some() {
            out.push_str("  meta pkttype host ip daddr != @host4 drop\n");
            out.push_str("  meta pkttype host ip6 daddr != @host6 drop\n");
        }
        out.push_str(" }\n");
    }
    out.push_str("}\n");
    out
}

fn write_sets(out: &mut String, name: &str, addresses: &BTreeSet<IpAddr>) {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|addr| addr.is_ipv4());
    for (version, kind, members) in [("4", "ipv4_addr", v4), ("6", "ipv6_addr", v6)] {
        let _ = write!(out, " set {name}{version} {{ type {kind};");
        if !members.is_empty() {
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            let _ = write!(out, " elements = {{ {} }};", members.join(", "));
        }
        out.push_str(" }\n");
    }
}

fn run_nft(arguments: &[&str], input: &str) -> Result<String, GuardError> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut child = Command::new("nft")
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GuardError::Missing,
            _ => GuardError::Io(error),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that stopped reading tells why by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(GuardError::Io)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(GuardError::Refused(words.lines().next().unwrap_or("failed without a word").to_owned()))
}
