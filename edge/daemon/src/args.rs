//! The command line of the daemon.

use crate::dataplane::DataPlane;
use crate::log::Format;
use std::path::PathBuf;

/// A high-availability layer-4 load balancer: the node.
#[derive(clap::Parser, Debug)]
#[command(name = "holdfastd", version, about, max_term_width = 100)]
pub struct Args {
    /// The configuration: a file of commands, one per line. `save ns config` writes it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Directory of what must survive a restart (the term).
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    pub state: PathBuf,

    /// Where the `holdfast` command reaches this node.
    #[arg(long, value_name = "PATH", default_value = "/run/holdfast/holdfast.sock")]
    pub socket: PathBuf,

    /// How log lines on standard error look.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,

    /// Size of the flow table. It is allocated at the start.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_flows: Option<u32>,

    /// Which way packets of established flows go.
    #[arg(long, value_name = "WAY", value_enum, default_value = "auto")]
    pub dataplane: DataPlane,

    /// UNSAFE, for tests only: crash at a flow record of a client at 192.0.2.66 or 2001:db8::66,
    /// and do the harm that datagrams to this Unix socket ask for.
    #[arg(long, value_name = "PATH")]
    pub debug_hooks: Option<PathBuf>,

    /// Check the configuration, print every error as FILE:LINE, and exit: 0 if it is valid, else 1.
    #[arg(long)]
    pub check: bool,
}
