//! `cargo xtask coverage`: which lines of `core/` the tests, the simulator and the fuzz corpus run.

use crate::{cargo, step};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the instrumented build lives: apart, so that it never mixes with an ordinary one.
const TARGET: &str = "target/coverage";
/// The report that is committed.
const REPORT: &str = "docs/results/coverage.md";
/// The packages of `core/`, whose tests and lines count.
const CORE: &[&str] = &["base", "wire", "engine", "mirror", "ha", "config", "node"];

/// `cargo xtask coverage`.
#[derive(clap::Args)]
pub struct Options {
    /// Seeds that the simulator runs.
    #[arg(long, default_value_t = 60)]
    seeds: u64,
    /// Fail below this share of lines, in percent.
    #[arg(long)]
    at_least: Option<f64>,
}

/// Lines and regions of one file or crate.
#[derive(Clone, Copy, Default)]
struct Covered {
    lines: (u64, u64),
    regions: (u64, u64),
}

/// Builds, runs, merges, writes the report.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let tools = Tools::find()?;
    let target = root.join(TARGET);
    let raw = target.join("raw");
    if raw.exists() {
        fs::remove_dir_all(&raw).with_context(|| format!("empty {}", raw.display()))?;
    }
    fs::create_dir_all(&raw)?;
    let mut packages: Vec<String> = CORE.iter().map(|name| format!("holdfast-{name}")).collect();
    packages.extend(["holdfast-sim".into(), "holdfast-fuzz".into()]);
    let selected: Vec<&str> = packages.iter().flat_map(|name| ["-p", name.as_str()]).collect();
    let tests = [&["test"], &selected[..], &["--lib", "--tests"]].concat();
    step("instrumented tests and simulation", instrumented(&tests, options, &target, &raw))?;
    let objects =
        objects(instrumented(&[&tests[..], &["--no-run", "--message-format=json"]].concat(), options, &target, &raw))?;
    let profile = target.join("merged.profdata");
    tools.merge(&raw, &profile)?;
    let export = tools.export(root, &profile, &objects)?;
    let report = Report::read(root, &export)?;
    let text = report.text(options)?;
    fs::write(root.join(REPORT), text).with_context(|| format!("write {REPORT}"))?;
    let total = report.total();
    println!("coverage: {} of lines, {} of regions in core/; {REPORT}", share(total.lines), share(total.regions));
    let percent = 100.0 * total.lines.0 as f64 / total.lines.1.max(1) as f64;
    if let Some(least) = options.at_least {
        ensure!(percent >= least, "{percent:.1} % of lines are covered, {least} % are asked for");
    }
    Ok(())
}

/// A cargo command whose programs count what they run. Fewer mutated inputs than usual: the corpus and the well-formed
/// inputs are what counts here.
fn instrumented(arguments: &[&str], options: &Options, target: &Path, raw: &Path) -> Command {
    let mut command = cargo(arguments);
    command
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "-C instrument-coverage")
        .env("LLVM_PROFILE_FILE", raw.join("%p-%m.profraw"))
        .env("HOLDFAST_SIM_SEEDS", options.seeds.to_string())
        .env("HOLDFAST_FUZZ_ITERATIONS", "200");
    command
}

/// The programs that were run: cargo tells where it put them.
fn objects(mut list_tests: Command) -> Result<Vec<PathBuf>> {
    let output = list_tests.output().context("ask cargo for the programs")?;
    ensure!(output.status.success(), "cargo failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeSet::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        found.extend(message["executable"].as_str().map(PathBuf::from));
    }
    ensure!(!found.is_empty(), "cargo named no program");
    Ok(found.into_iter().collect())
}

/// LLVM's readers of what instrumented programs write.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    /// They must be at least as new as the compiler's LLVM: the format changes with it.
    fn find() -> Result<Tools> {
        let rustc = |arguments: &[&str]| -> Result<String> {
            let output = Command::new("rustc").args(arguments).output().context("start rustc")?;
            Ok(String::from_utf8(output.stdout)?)
        };
        let version = rustc(&["-vV"])?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let (host, llvm) = (field("host:"), field("LLVM version:"));
        let major = llvm.split('.').next().unwrap_or_default();
        let own = PathBuf::from(rustc(&["--print", "sysroot"])?.trim()).join("lib/rustlib").join(host).join("bin");
        for folder in [own, PathBuf::from(format!("/usr/lib/llvm-{major}/bin"))] {
            let tools = Tools { profdata: folder.join("llvm-profdata"), cov: folder.join("llvm-cov") };
            if tools.profdata.is_file() && tools.cov.is_file() {
                println!("== LLVM {llvm}: {}", folder.display());
                return Ok(tools);
            }
        }
        bail!(
            "llvm-profdata and llvm-cov of LLVM {major} are missing. With rustup: `rustup component add llvm-tools`. \
             Else install a Debian package llvm-{major} (Debian 12 itself has LLVM 13 to 19, which cannot read what \
             this compiler writes)."
        )
    }

    fn merge(&self, raw: &Path, profile: &Path) -> Result<()> {
        let mut files: Vec<PathBuf> = fs::read_dir(raw)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        ensure!(!files.is_empty(), "the programs wrote no profile");
        let list = raw.with_file_name("raw.txt");
        let lines: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        fs::write(&list, lines.join("\n"))?;
        let mut command = Command::new(&self.profdata);
        command.args(["merge", "--sparse", "--output"]).arg(profile).arg("--input-files").arg(&list);
        step("merge", command)
    }

    fn export(&self, root: &Path, profile: &Path, objects: &[PathBuf]) -> Result<Value> {
        let mut command = Command::new(&self.cov);
        command.arg("export").arg("--instr-profile").arg(profile);
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                command.arg("--object");
            }
            command.arg(object);
        }
        command.arg("--sources").args(CORE.iter().map(|name| root.join("core").join(name).join("src")));
        let output = command.output().context("start llvm-cov")?;
        ensure!(output.status.success(), "llvm-cov failed: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("what llvm-cov exports")
    }
}

/// What was found.
struct Report {
    files: BTreeMap<String, Covered>,
    /// File and line of each function that never ran, with its name.
    untouched: BTreeMap<(String, u64), String>,
}

impl Report {
    fn read(root: &Path, export: &Value) -> Result<Report> {
        let data = &export["data"][0];
        let mut files = BTreeMap::new();
        for file in data["files"].as_array().context("llvm-cov lists files")? {
            let Some(name) = product_file(root, &file["filename"]) else { continue };
            let pair = |kind: &str| -> (u64, u64) {
                let summary = &file["summary"][kind];
                (summary["covered"].as_u64().unwrap_or(0), summary["count"].as_u64().unwrap_or(0))
            };
            files.insert(name, Covered { lines: pair("lines"), regions: pair("regions") });
        }
        // A generic function is there once for each type, and a crate once for each test program: one run is enough.
        let mut ran: BTreeMap<(String, u64), (bool, String)> = BTreeMap::new();
        for function in data["functions"].as_array().context("llvm-cov lists functions")? {
            let Some(name) = product_file(root, &function["filenames"][0]) else { continue };
            let line = function["regions"][0][0].as_u64().unwrap_or(0);
            let runs = function["count"].as_u64().unwrap_or(0) > 0;
            let entry = ran.entry((name, line)).or_default();
            entry.0 |= runs;
            entry.1 = source_line(root, &function["filenames"][0], line);
        }
        // What builds a table of constants runs when it is compiled, where nothing counts.
        let unseen = |runs: bool, text: &str| !runs && !text.contains("const fn ");
        let untouched =
            ran.into_iter().filter(|(_, (runs, text))| unseen(*runs, text)).map(|(at, (_, text))| (at, text)).collect();
        Ok(Report { files, untouched })
    }

    fn total(&self) -> Covered {
        sum(self.files.values())
    }

    fn text(&self, options: &Options) -> Result<String> {
        let mut text = format!(
            "# Coverage of `core/`\n\nCommand: `cargo xtask coverage --seeds {}`\n\nMachine: {}\n\n\
             What runs: the tests of the core crates, of the simulator and of the fuzz targets (corpus, well-formed \
             inputs and 200 mutations of each target), among them {} seeds of the simulator. Test code is not counted; what \
             only the namespace tests run is not counted either.\n\n| | lines | | regions | |\n|---|---|---|---|---|\n",
            options.seeds,
            machine()?,
            options.seeds
        );
        let mut row = |name: &str, covered: Covered| {
            writeln!(
                text,
                "| {name} | {} / {} | {} | {} / {} | {} |",
                covered.lines.0,
                covered.lines.1,
                share(covered.lines),
                covered.regions.0,
                covered.regions.1,
                share(covered.regions)
            )
        };
        row("**core/**", self.total())?;
        for name in CORE {
            let prefix = format!("core/{name}/");
            let own = || self.files.iter().filter(|(file, _)| file.starts_with(&prefix));
            row(&format!("**{name}**"), sum(own().map(|(_, covered)| covered)))?;
            for (file, covered) in own() {
                row(&format!("`{}`", file.trim_start_matches("core/")), *covered)?;
            }
        }
        write!(
            text,
            "\n## Functions and closures that never ran\n\nWithout `const fn`s: they run when they are compiled.\n\n"
        )?;
        if self.untouched.is_empty() {
            writeln!(text, "None.")?;
        }
        for ((file, line), source) in &self.untouched {
            writeln!(text, "- `{file}:{line}`: `{source}`")?;
        }
        Ok(text)
    }
}

/// The path below the root, if it is product code of `core/`.
fn product_file(root: &Path, name: &Value) -> Option<String> {
    let path = Path::new(name.as_str()?).strip_prefix(root).ok()?;
    let test = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    (path.starts_with("core") && !test).then(|| path.display().to_string())
}

/// The line where a function begins, without its body.
fn source_line(root: &Path, file: &Value, line: u64) -> String {
    let path = root.join(file.as_str().unwrap_or_default());
    let text = fs::read_to_string(path).unwrap_or_default();
    let index = usize::try_from(line).unwrap_or(0).saturating_sub(1);
    text.lines().nth(index).unwrap_or_default().trim().trim_end_matches('{').trim().to_owned()
}

fn sum<'a>(parts: impl Iterator<Item = &'a Covered>) -> Covered {
    parts.fold(Covered::default(), |sum, part| Covered {
        lines: (sum.lines.0 + part.lines.0, sum.lines.1 + part.lines.1),
        regions: (sum.regions.0 + part.regions.0, sum.regions.1 + part.regions.1),
    })
}

fn share((covered, count): (u64, u64)) -> String {
    format!("{:.1} %", 100.0 * covered as f64 / count.max(1) as f64)
}

/// The machine in the words of the other results.
pub fn machine() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let processors = read("/proc/cpuinfo")?;
    let models: Vec<&str> = processors.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models.first().and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    Ok(format!("Linux {}, {} cores, {model}", kernel.trim(), models.len()))
}
