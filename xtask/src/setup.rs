//! `cargo xtask setup`: the Debian packages that building and testing need.

use anyhow::{Result, bail, ensure};
use std::process::Command;

/// Program that shows whether something is there, and the packages that bring it.
const NEEDED: &[(&str, &str)] = &[
    ("cc", "gcc libc6-dev"),
    ("update-ca-certificates", "ca-certificates"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("vsftpd", "vsftpd"),
    ("curl", "curl"),
    ("lftp", "lftp"),
    ("ping", "iputils-ping"),
    ("ps", "procps"),
    ("python3", "python3-minimal"),
    ("etcd", "etcd-server"),
    ("bpftool", "bpftool"),
    ("ethtool", "ethtool"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("psql", "postgresql"),
    ("redis-server", "redis-server redis-tools"),
    ("openssl", "openssl"),
    ("dnsmasq", "dnsmasq-base"),
    ("drill", "ldnsutils"),
    ("iperf3", "iperf3"),
];

/// What the benches compare the product with, and load it with; without it they leave that out and say so.
const FOR_BENCHES: &[(&str, &str)] = &[
    ("conntrackd", "conntrackd"),
    ("conntrack", "conntrack"),
    ("keepalived", "keepalived"),
    ("haproxy", "haproxy"),
    ("valgrind", "valgrind"),
];

/// Installs what is missing.
pub fn run(bench: bool) -> Result<()> {
    let further = if bench { FOR_BENCHES } else { &[] };
    let missing: Vec<&str> = NEEDED
        .iter()
        .chain(further)
        .filter(|(program, _)| !is_installed(program))
        .flat_map(|(_, packages)| packages.split(' '))
        .collect();
    if missing.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    println!("missing: {}", missing.join(" "));
    ensure!(
        is_root()?,
        "installing packages needs root: sudo apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], &missing[..]].concat())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    println!("apt-get {}", arguments.join(" "));
    let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status()?;
    if !status.success() {
        bail!("apt-get {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// System programs live in sbin, which a user's PATH may lack.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder: std::path::PathBuf| folder.join(program).is_file())
}

fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}
