//! `holdfast-testbed`: the real daemon in network namespaces, with real kernels' TCP, real FTP, and real kills.
//!
//! ```text
//! demo      one screen that shows the promise
//! test      named stories
//! campaign  the matrix of failures, with a table
//! soak      minutes on busy cores and bad paths without a change of role
//! switchovers  the role handed over a hundred times under load
//! bench     what mirroring costs, takeovers, and a million flows
//! selftest  the lab's instruments, without the product
//! ```

mod bench;
mod campaign;
mod cell;
mod channel_stories;
mod config;
mod config_stories;
mod demo;
mod dice;
mod flood_stories;
mod ftp;
mod ftp_stories;
mod health_stories;
mod lab;
mod lone_stories;
mod mirror_stories;
mod monitor_stories;
mod node;
mod ns;
mod pair;
mod plane_stories;
mod poison;
mod program_stories;
mod recorder;
mod role;
mod screen;
mod sniff;
mod soak;
mod split_stories;
mod standin;
mod status_stories;
mod stories;
mod switchovers;
mod sys;
mod traffic;
mod witness_stories;

use anyhow::Result;
use clap::Parser as _;
use node::Binaries;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Parser)]
#[command(version, about)]
struct Cli {
    /// Folder of `holdfastd` and `holdfast`; default: the folder of this program.
    #[arg(long, global = true)]
    bin_dir: Option<PathBuf>,
    /// Which way the nodes let packets go: auto, tc, xdp or user.
    #[arg(long, global = true, default_value = "auto")]
    dataplane: String,
    #[command(subcommand)]
    command: Cmd,
}

#[derive(clap::Subcommand)]
enum Cmd {
    /// Downloads and 1,000 connections survive the death of each node in turn.
    Demo(demo::Options),
    /// The namespace tests.
    Test(stories::Options),
    /// Every way to fail × USIP × IP version, many times, under load.
    Campaign(campaign::Options),
    /// No role may change while every core is busy and every path loses and delays heartbeats.
    Soak(soak::Options),
    /// The role is handed over again and again under load; nothing may be lost.
    Switchovers(switchovers::Options),
    /// Measures with the real programs; prints tables.
    Bench(bench::Options),
    /// Checks the lab and its instruments without the product.
    Selftest,
    /// Prints the configuration of node 0 or 1 of the lab.
    Config {
        /// Which node.
        #[arg(default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
        node: u8,
    },
    /// Internal: one client or server program inside a namespace.
    #[command(hide = true)]
    Role {
        #[command(subcommand)]
        role: role::RoleCommand,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if let Cmd::Role { role } = &cli.command {
        return role::play(role);
    }
    sys::catch_signals()?;
    let binaries = || Binaries::find(cli.bin_dir.as_deref(), &cli.dataplane);
    match &cli.command {
        Cmd::Demo(options) => demo::run(options, &binaries()?),
        Cmd::Test(options) => stories::run(options, &binaries()?),
        Cmd::Campaign(options) => campaign::run(options, &binaries()?),
        Cmd::Soak(options) => soak::run(options, &binaries()?),
        Cmd::Switchovers(options) => switchovers::run(options, &binaries()?),
        Cmd::Bench(options) => bench::run(options, &binaries()?),
        Cmd::Selftest => standin::run(),
        Cmd::Config { node } => {
            print!("{}", config::ns_conf(*node, &config::Settings::default()));
            Ok(())
        }
        Cmd::Role { .. } => Ok(()),
    }
}
