//! The campaigns: random failures at random instants amid random traffic ([`random`]), or, with `--matrix`, every way to
//! fail × USIP × IP version, many times, under an even load. A table at the end.

mod crowd;
mod fronts;
mod random;
mod releases;
mod schedule;
mod strike;
mod tally;

pub use random::notices_losses;

use crate::cell::{self, Cell, CellReport};
use crate::lab::{Family, Lab};
use crate::node::{Binaries, Failure};
use crate::pair::Pair;
use crate::traffic::{self, Load};
use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Yes, no or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Usip {
    /// Servers see the client.
    Yes,
    /// Servers see the SNIP.
    No,
}

/// Arguments.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Failures [default: 100], or with --matrix failures in each cell [default: 20].
    #[arg(long)]
    pub kills: Option<u32>,
    /// Decides what clients do and what fails when; one is drawn and printed if none is given.
    #[arg(long, conflicts_with = "matrix")]
    pub seed: Option<u64>,
    /// Only ways to fail whose name contains this.
    #[arg(long, conflicts_with = "matrix")]
    pub only: Option<String>,
    /// Every way to fail × USIP × IP version in turn, instead of what a seed decides.
    #[arg(long)]
    pub matrix: bool,
    /// Only these ways to fail.
    #[arg(long, value_enum, value_delimiter = ',', requires = "matrix")]
    pub fail: Vec<Failure>,
    /// Only with or only without USIP.
    #[arg(long, value_enum, value_delimiter = ',', requires = "matrix")]
    pub usip: Vec<Usip>,
    /// Only this IP version.
    #[arg(long, value_enum, value_delimiter = ',', requires = "matrix")]
    pub ip: Vec<Family>,
    /// Connections that are not short [default: 300; with --matrix 1000].
    #[arg(long)]
    pub connections: Option<u32>,
    /// New short connections each second [default: 100; with --matrix 500].
    #[arg(long)]
    pub new_per_second: Option<u32>,
    /// Write the table, with command and machine, to this Markdown file.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where to keep logs and states after a loss.
    #[arg(long, default_value = "artifacts/testbed")]
    pub evidence: PathBuf,
}

/// Failures in each cell of the matrix, if nothing else is asked for.
const MATRIX_KILLS: u32 = 20;

impl Options {
    /// The load of the matrix.
    fn load(&self) -> Load {
        let (connections, new_per_second) = (self.connections.unwrap_or(1000), self.new_per_second.unwrap_or(500));
        Load { connections, new_per_second, probe_rate: 1000 }
    }

    /// The cells that were asked for.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for failure in Failure::ALL {
            for usip in [Usip::No, Usip::Yes] {
                for family in Family::ALL {
                    let wanted = (self.fail.is_empty() || self.fail.contains(&failure))
                        && (self.usip.is_empty() || self.usip.contains(&usip))
                        && (self.ip.is_empty() || self.ip.contains(&family));
                    if wanted {
                        cells.push(Cell { failure, usip: usip == Usip::Yes, family });
                    }
                }
            }
        }
        cells
    }
}

/// Runs the campaign; fails on the first loss, with evidence kept.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    if options.matrix { run_matrix(options, binaries) } else { random::run(options, binaries) }
}

fn run_matrix(options: &Options, binaries: &Binaries) -> Result<()> {
    let lab = Lab::build()?;
    let mut servers = traffic::start_servers(&lab)?;
    let mut pair = Pair::new(&lab, binaries)?;
    if let Err(error) = pair.bring_up(&lab) {
        keep_evidence(&lab, &pair, &options.evidence)?;
        return Err(error);
    }
    let (load, kills) = (options.load(), options.kills.unwrap_or(MATRIX_KILLS));
    let mut reports = Vec::new();
    println!("{HEAD}");
    let mut complaint = None;
    for cell in options.cells() {
        let report = cell::run(&lab, &mut pair, &mut servers, cell, load, kills)?;
        println!("{}", row(&report));
        complaint = report.complaint.as_ref().map(|text| format!("{cell}: {text}"));
        reports.push(report);
        if complaint.is_some() {
            keep_evidence(&lab, &pair, &options.evidence)?;
            break;
        }
    }
    if let Some(path) = &options.out {
        std::fs::write(path, document(options, &reports, complaint.as_deref())?)?;
        println!("written: {}", path.display());
    }
    match complaint {
        Some(text) => bail!("{text}\nevidence: {}", options.evidence.display()),
        None => Ok(()),
    }
}

/// Copies what helps to find a cause.
pub fn keep_evidence(lab: &Lab, pair: &Pair, directory: &Path) -> Result<()> {
    pair.keep_evidence(directory)?;
    for file in ["roles.log", "vsftpd.log"] {
        let _ = std::fs::copy(lab.directory().join(file), directory.join(file));
    }
    println!("evidence kept in {}", directory.display());
    Ok(())
}

const HEAD: &str = "\
| failure | USIP | IP | failures | established | lost | reset | released unacknowledged | new/s | gap TCP p50 / p99 / max ms | gap UDP median / max ms | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|";

fn row(report: &CellReport) -> String {
    let cell = report.cell;
    let count =
        |read: fn(&traffic::Outcome) -> u64| report.outcome.as_ref().map_or("?".into(), |o| read(o).to_string());
    let tcp = |index: usize, pick: fn(Vec<f64>) -> f64| pick(report.gaps.iter().map(|gaps| gaps.tcp[index]).collect());
    let udp: Vec<f64> = report.gaps.iter().map(|gaps| gaps.udp).collect();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} / {:.0} / {:.0} | {:.0} / {:.0} | {} |",
        cell.failure,
        if cell.usip { "YES" } else { "NO" },
        cell.family,
        report.gaps.len(),
        count(traffic::Outcome::established),
        count(traffic::Outcome::lost),
        count(traffic::Outcome::reset),
        report.released,
        report.new_per_second,
        tcp(0, median),
        tcp(1, maximum),
        tcp(2, maximum),
        median(udp.clone()),
        maximum(udp),
        if report.complaint.is_none() { "ok" } else { "FAILED" },
    )
}

fn document(options: &Options, reports: &[CellReport], complaint: Option<&str>) -> Result<String> {
    let mut text = String::from("# Failover campaign\n\n");
    let command: Vec<String> = std::env::args().skip(1).collect();
    writeln!(text, "Command: `cargo xtask testbed {}`\n", command.join(" "))?;
    writeln!(text, "Machine: {}\n", machine())?;
    let load = options.load();
    writeln!(
        text,
        "Each cell: {} long connections that send a checked message every 100 ms, {} new connections a second, and a\n\
         1 kHz UDP probe, through {} failures of whoever is primary; the failed node returns and catches up in between.\n\
         *established* counts all connections that the client saw established, *lost* those of them that were reset,\n\
         ended, fell silent for 20 s or carried a wrong byte. *gap TCP* is the longest wait for an answer on each long\n\
         connection around a failure (median over failures of the p50, worst p99, worst of all; an undisturbed\n\
         answer takes about a millisecond). *gap UDP* is the longest time without an answer to the probe.\n\
         *released unacknowledged* counts packets let go while the pair was whole without the peer's acknowledgement.\n",
        load.connections,
        load.new_per_second,
        options.kills.unwrap_or(MATRIX_KILLS)
    )?;
    writeln!(text, "{HEAD}")?;
    for report in reports {
        writeln!(text, "{}", row(report))?;
    }
    if let Some(complaint) = complaint {
        writeln!(text, "\nFAILED: {complaint}")?;
    }
    Ok(text)
}

/// Kernel, cores, processor.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("", |(_, m)| m.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {}, {cores} cores, {model}", kernel.trim())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn maximum(values: Vec<f64>) -> f64 {
    values.into_iter().fold(f64::NAN, f64::max)
}
