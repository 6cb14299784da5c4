//! The benches with the real programs in namespaces: what mirroring and forwarding cost, how fast a successor takes over, and a million
//! flows.
//!
//! Every comparison is made within one run, in rounds that take turns, so that a machine whose speed drifts moves all columns
//! alike; the tables show medians. No figure is an assertion: a bench fails only when something does not work.

mod blow;
mod forwarders;
mod loads;
mod measure;
mod million;
mod mirror;
mod peers;
mod plane;
mod stage;
mod standstill;
mod takeover;
mod vrrp;

pub use measure::quantile;

use crate::campaign::machine;
use crate::node::Binaries;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Set-up latency, connections a second, CPU and bytes of mirroring, beside what the kernel's own tools do.
    Mirror(mirror::Options),
    /// How long clients wait when the primary fails, or hands over; beside it keepalived with conntrackd.
    Takeover(takeover::Options),
    /// Bulk TCP, small datagrams and latency through each data plane, beside other forwarders.
    Plane(plane::Options),
    /// Memory, bulk transfer and takeover with a million mirrored flows.
    Million(million::Options),
}

/// What every bench takes.
#[derive(clap::Args)]
struct Common {
    /// A little of everything, to see that it works; the figures mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Write the tables, with command and machine, to this Markdown file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to keep logs and states after a failure.
    #[arg(long, default_value = "artifacts/bench")]
    evidence: PathBuf,
}

/// Runs one bench.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    match &options.bench {
        Bench::Mirror(options) => mirror::run(options, binaries),
        Bench::Takeover(options) => takeover::run(options, binaries),
        Bench::Plane(options) => plane::run(options, binaries),
        Bench::Million(options) => million::run(options, binaries),
    }
}

/// A report that grows while the bench runs: each part is printed at once and written at the end.
struct Report {
    text: String,
    out: Option<PathBuf>,
}

impl Report {
    /// Begins with title, command and machine.
    fn new(title: &str, out: Option<&Path>) -> Report {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let mut report = Report { text: String::new(), out: out.map(Path::to_path_buf) };
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("?");
        report.say(&format!(
            "# {title}\n\nCommand: `cargo xtask {}`\n\nMachine: {}; load average at the start {load} (a quiet machine: below 0.3)\n",
            words.join(" "),
            machine()
        ));
        report
    }

    /// One more part.
    fn say(&mut self, part: &str) {
        println!("{part}");
        self.text += part;
        self.text.push('\n');
    }

    /// A part that is a Markdown table under a heading, with a sentence about it.
    fn table(&mut self, heading: &str, about: &str, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("## {heading}\n\n{about}\n\n");
        text += &line(head.iter().map(|word| (*word).to_string()).collect());
        text += &line(head.iter().map(|_| "---".to_string()).collect());
        rows.iter().for_each(|row| text += &line(row.clone()));
        self.say(&text);
    }

    /// Writes the file, if one was asked for.
    fn finish(self) -> Result<()> {
        if let Some(path) = &self.out {
            std::fs::write(path, self.text.trim_end().to_string() + "\n")?;
            println!("written: {}", path.display());
        }
        Ok(())
    }
}

/// Progress, which belongs to no report.
fn note(text: &str) {
    eprintln!("   {text}");
}
