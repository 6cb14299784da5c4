//! `cargo xtask setup`: the Debian packages that building and testing need.

use anyhow::{Result, bail, ensure};
use std::process::Command;

/// What `./x` reads too. Each line: what it is for (`demo`, `test`, or `bench`: what the benches compare the product with
/// and load it with, and leave out with a word when it is not there), a program (or file) that shows whether it is there, and the
/// packages that bring it.
const PACKAGES: &str = include_str!("../packages.txt");

/// Installs what is missing.
pub fn run(bench: bool) -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| (bench || words[0] != "bench") && !is_installed(words[1]))
        .flat_map(|words| words[2..].to_vec())
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
