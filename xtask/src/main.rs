//! `cargo xtask <chore>`: one command per chore; each prints what it runs.

mod coverage;
mod ebpf;
mod matrix;
mod model;
mod setup;
mod tidy;

use anyhow::{Context, Result, bail};
use clap::Parser as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

/// Simulation seeds of a test run.
const CI_SEEDS: &str = "200";

/// The slice of the soak.
const CI_SOAK: [&str; 3] = ["soak", "--minutes", "5"];

/// The namespace tests that also run with the data planes that `auto` does not choose here.
const CI_OTHER_WAYS: &[&str] =
    &["loses_nothing", "udp_flows", "do_not_visit_the_engine", "after_its_lease", "in_the_kernel"];

/// The slice of the random campaign: a seed whose schedule begins with every way to fail.
const CI_CAMPAIGN: [&str; 5] = ["campaign", "--kills", "40", "--seed", "141"];

#[derive(clap::Parser)]
#[command(about = "The project's chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(clap::Subcommand)]
enum Chore {
    /// Installs what building and testing need (Debian packages, as root).
    Setup {
        /// Also what the benches compare the product with.
        #[arg(long)]
        bench: bool,
    },
    /// Everything that a change must pass: format, lints, tidy, tests, simulation, namespaces.
    Ci {
        /// Leave out what needs root.
        #[arg(long)]
        no_namespaces: bool,
    },
    /// Checks the walls between crates, sizes and words.
    Tidy,
    /// Simulation: `cargo xtask sim --seeds 1000`.
    Sim {
        /// Arguments of holdfast-sim.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The lab: `cargo xtask testbed demo`, `… test`, `… campaign --kills 20`, `… soak`, `… switchovers`.
    Testbed {
        /// Arguments of holdfast-testbed.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Explores the models of roles and commit in full, and writes docs/results/model.md.
    Model(model::Options),
    /// Runs the test behind each row of the market's tables, and writes docs/feature-matrix.md.
    Matrix,
    /// Measures which lines of core/ are tested, and writes docs/results/coverage.md.
    Coverage(coverage::Options),
    /// Builds or checks the eBPF program.
    Ebpf(ebpf::Options),
    /// Measures: `cargo xtask bench` the engine alone; `cargo xtask bench fastpath` the fast path's programs;
    /// `cargo xtask bench mirror`, `… plane`, `… takeover` and `… million` the real daemons.
    Bench {
        /// `mirror`, `plane`, `takeover` or `million` and their arguments; `fastpath`, `instructions` or none: holdfast-bench.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds the API documentation of all crates.
    Docs,
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    let root = root()?;
    std::env::set_current_dir(&root).with_context(|| format!("enter {}", root.display()))?;
    match chore {
        Chore::Setup { bench } => setup::run(bench),
        Chore::Ci { no_namespaces } => ci(no_namespaces),
        Chore::Tidy => tidy::run(&root),
        Chore::Sim { arguments } => {
            step("build", cargo(&["build", "--release", "-p", "holdfast-sim"]))?;
            step("simulation", program("holdfast-sim", &arguments)?)
        }
        Chore::Testbed { arguments } => {
            build_testbed()?;
            step("lab", program("holdfast-testbed", &arguments)?)
        }
        Chore::Model(options) => model::run(&root, &options),
        Chore::Matrix => matrix::run(&root),
        Chore::Coverage(options) => coverage::run(&root, &options),
        Chore::Ebpf(options) => ebpf::run(&root, &options),
        Chore::Bench { arguments }
            if arguments.first().is_some_and(|word| !["fastpath", "instructions"].contains(&word.as_str())) =>
        {
            build_testbed()?;
            build_bench()?;
            step("measurements", program("holdfast-testbed", &[&["bench".into()], &arguments[..]].concat())?)
        }
        Chore::Bench { arguments } => {
            build_bench()?;
            step("measurements", program("holdfast-bench", &arguments)?)
        }
        Chore::Docs => step("documentation", {
            let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
            command.env("RUSTDOCFLAGS", "-D warnings");
            command
        }),
    }
}

/// Everything that a change must pass, quick checks first.
fn ci(no_namespaces: bool) -> Result<()> {
    let started = Instant::now();
    let mut left_out = Vec::new();
    if is_there("fmt", &mut left_out) {
        step("format", cargo(&["fmt", "--all", "--check"]))?;
    }
    tidy::run(&root()?).context("tidy")?;
    if is_there("clippy", &mut left_out) {
        step("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    }
    step("unit, property and golden tests", cargo(&["test", "--workspace"]))?;
    step("build", cargo(&["build", "--release", "-p", "holdfast-sim"]))?;
    let simulation = || step("simulation", program("holdfast-sim", &["--seeds".into(), CI_SEEDS.into()])?);
    if no_namespaces {
        simulation()?;
        left_out.push("namespace tests");
    } else {
        build_testbed()?;
        // It wants a machine without a free core: beside it runs what only computes.
        let soak = Aside::begin("soak", program("holdfast-testbed", &CI_SOAK.map(String::from))?)?;
        simulation()?;
        println!("== ebpf: the kernel's verifier reads core/wire");
        ebpf::run(&root()?, &ebpf::Options { check: true })?;
        soak.end()?;
        step("lab instruments", program("holdfast-testbed", &["selftest".into()])?)?;
        step("namespace tests", program("holdfast-testbed", &["test".into()])?)?;
        for way in ["xdp", "user"] {
            let words = [&["--dataplane", way, "test"], CI_OTHER_WAYS].concat();
            let words: Vec<String> = words.into_iter().map(String::from).collect();
            step("namespace tests, a slice with another data plane", program("holdfast-testbed", &words)?)?;
        }
        build_bench()?;
        for bench in ["mirror", "plane", "takeover", "million"] {
            let words = ["bench", bench, "--smoke"].map(String::from);
            step("benches, a few seconds of each", program("holdfast-testbed", &words)?)?;
        }
        step("random campaign", program("holdfast-testbed", &CI_CAMPAIGN.map(String::from))?)?;
    }
    let without = if left_out.is_empty() { String::new() } else { format!(", WITHOUT {}", left_out.join(", ")) };
    println!("== all passed in {} s{without}", started.elapsed().as_secs());
    Ok(())
}

/// Debian's cargo comes without these two; a change is checked by whoever has them.
fn is_there(subcommand: &'static str, left_out: &mut Vec<&'static str>) -> bool {
    let there = cargo(&[subcommand, "--version"]).output().is_ok_and(|output| output.status.success());
    if !there {
        println!("== cargo {subcommand} is not installed: left out");
        left_out.push(subcommand);
    }
    there
}

fn build_testbed() -> Result<()> {
    let packages = ["-p", "holdfastd", "-p", "holdfast-cli", "-p", "holdfast-testbed"];
    step("build", cargo(&[&["build", "--release"], &packages[..]].concat()))
}

fn build_bench() -> Result<()> {
    step("build", cargo(&["build", "--release", "-p", "holdfast-bench"]))
}

/// The workspace's root: the folder above this crate.
fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own.parent().context("xtask has a parent folder")?.to_path_buf())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// A release build's program.
fn program(name: &str, arguments: &[String]) -> Result<Command> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let mut command = Command::new(std::path::absolute(target.join("release").join(name))?);
    command.args(arguments);
    Ok(command)
}

/// Prints a command, runs it, and prints how long it took.
fn step(what: &str, mut command: Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    println!("== {what}: {} {}", command.get_program().to_string_lossy(), words.join(" "));
    let started = Instant::now();
    let status = command.status().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    println!("== {what}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// A command that runs beside others. Its output is shown when it has ended.
struct Aside {
    what: &'static str,
    begun: Instant,
    child: Option<Child>,
}

impl Aside {
    fn begin(what: &'static str, mut command: Command) -> Result<Aside> {
        println!("== {what}, beside what follows: {command:?}");
        let child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {what}"))?;
        Ok(Aside { what, begun: Instant::now(), child: Some(child) })
    }

    fn end(mut self) -> Result<()> {
        let Some(child) = self.child.take() else { return Ok(()) };
        let output = child.wait_with_output().with_context(|| format!("waiting for {}", self.what))?;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        println!("== {}: {:.1} s", self.what, self.begun.elapsed().as_secs_f32());
        if output.status.success() { Ok(()) } else { bail!("{} failed ({})", self.what, output.status) }
    }
}

impl Drop for Aside {
    /// Something else has failed: it ends by itself and cleans up behind itself.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}
