//! Commands from standard input, one per line.

use crate::client::{Client, Outcome};
use crate::print::run_and_print;
use anyhow::{Context, Result};
use std::io::BufRead;

/// Runs every line; blank ones and `#` comments are skipped. A command that
/// fails is told with its line number, and the rest still runs.
pub fn run(client: &mut Client, input: impl BufRead, json: bool) -> Result<Outcome> {
    let mut failed = 0;
    let mut total = 0;
    for (at, line) in input.lines().enumerate() {
        let line = line.context("cannot read commands from standard input")?;
        let line = line.trim();
        match line {
            "" => continue,
            comment if comment.starts_with('#') => continue,
            "exit" | "quit" => break,
            _ => {}
        }
        total += 1;
        if run_and_print(client, line, json)? == Outcome::Failed {
            failed += 1;
            eprintln!("(line {}: {line})", at + 1);
        }
    }
    if failed == 0 {
        return Ok(Outcome::Done);
    }
    eprintln!("{failed} of {total} commands failed");
    Ok(Outcome::Failed)
}
