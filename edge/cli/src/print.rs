//! How answers look.

use crate::client::{Client, Outcome};
use anyhow::Result;
use serde_json::json;
use std::io::Write;

/// Runs a command and prints its answer in the market's way: the text, then
/// ` Done`; errors go to standard error. In JSON every answer is one object on
/// standard output, errors and bare successes as NITRO words them.
pub fn run_and_print(client: &mut Client, line: &str, json: bool) -> Result<Outcome> {
    let mut silent = true;
    let outcome = client.run(line, json, &mut |text, ok| match (ok, json) {
        (true, _) => {
            silent &= text.is_empty();
            print_text(text);
        }
        (false, true) if text.starts_with('{') => print_text(text),
        (false, true) => {
            print_text(&json!({ "errorcode": 1, "message": plain(text), "severity": "ERROR" }).to_string())
        }
        (false, false) => print_error(text),
    })?;
    match (outcome, json) {
        (Outcome::Done, false) => print_text(" Done"),
        (Outcome::Done, true) if silent => {
            print_text(&json!({ "errorcode": 0, "message": "Done", "severity": "NONE" }).to_string());
        }
        (Outcome::Done, true) | (Outcome::Failed, _) => {}
    }
    Ok(outcome)
}

fn plain(text: &str) -> &str {
    text.trim_end().trim_start_matches("ERROR:").trim_start()
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
