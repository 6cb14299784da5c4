//! `cargo xtask ebpf`: builds the eBPF program and checks that the kernel takes it.

use anyhow::{Result, bail};
use std::path::Path;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Only build and load; change nothing.
    #[arg(long)]
    check: bool,
}

/// Builds the program; with `check` also loads it.
pub fn run(_root: &Path, options: &Options) -> Result<()> {
    bail!("the eBPF program is not part of this build yet (check: {})", options.check);
}
