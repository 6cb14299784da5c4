//! `cargo xtask model`: explores the models of roles and commit, and keeps the table.

use crate::{cargo, coverage, program, step};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// The report that is committed.
const REPORT: &str = "docs/results/model.md";

/// `cargo xtask model`.
#[derive(clap::Args)]
pub struct Options {
    /// Only the small variants, as in a test run; writes nothing.
    #[arg(long)]
    slice: bool,
}

/// Builds, explores, prints the table and writes the report.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    step("build", cargo(&["build", "--release", "-p", "holdfast-model"]))?;
    if options.slice {
        return step("models, a slice", program("holdfast-model", &["--slice".into()])?);
    }
    println!("== models: every variant; needs some 3 GB of memory");
    let child = program("holdfast-model", &[])?.stdout(Stdio::piped()).spawn().context("start holdfast-model")?;
    let output = child.wait_with_output().context("holdfast-model")?;
    let table = String::from_utf8(output.stdout)?;
    println!("{table}");
    ensure!(output.status.success(), "holdfast-model failed ({})", output.status);
    let text = format!(
        "# Models of roles and commit\n\nCommand: `cargo xtask model`\n\nMachine: {}\n\n\
         What the variants are, what they take from the real machine, and which are of paper: the documentation of \
         `proof/model`. *Unique* is the number of states; every one of them was reached and checked. *Depth* is the \
         greatest number of steps to one. That the checker finds a rule that is broken is shown by \
         `proof/model/tests/mutations.rs`.\n\n{table}",
        coverage::machine()?
    );
    fs::write(root.join(REPORT), text).with_context(|| format!("write {REPORT}"))
}
