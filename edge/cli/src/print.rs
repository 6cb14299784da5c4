//! How answers look.

use crate::client::{Client, Outcome};
use anyhow::Result;
use std::io::Write;

/// Runs a command and prints its answer in the market's way: the text, then
/// ` Done`; errors go to standard error. JSON comes without ` Done`.
pub fn run_and_print(client: &mut Client, line: &str, json: bool) -> Result<Outcome> {
    let outcome = client.run(line, json, &mut |text, ok| if ok { print_text(text) } else { print_error(text) })?;
    if outcome == Outcome::Done && !json {
        print_text(" Done");
    }
    Ok(outcome)
}

/// Prints `text` as lines. A closed pipe (`| head`) ends the program quietly.
pub fn print_text(text: &str) {
    if text.is_empty() {
        return;
    }
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let mut out = std::io::stdout().lock();
    if write!(out, "{text}{end}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints an error line.
pub fn print_error(text: &str) {
    let start = if text.starts_with("ERROR") { "" } else { "ERROR: " };
    eprintln!("{start}{}", text.trim_end());
}
