//! How answers look.

use crate::client::{Client, Outcome};
use anyhow::Result;
use holdfast_config::{messages, parse};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Pause between the answers that `-ntimes` asks for, as in the market.
const STAT_INTERVAL: Duration = Duration::from_secs(7);

/// Runs a command. If the node asks back and an operator is there, asks them, and
/// repeats the command with the answer.
pub fn run_and_confirm(client: &mut Client, line: &str, json: bool) -> Result<Outcome> {
    let mut asked = None;
    let outcome = print_answers(client, line, json, &mut asked)?;
    let Some(warning) = asked else { return Ok(outcome) };
    let question = messages::CONFIRM_FAILOVER.text;
    if json || !std::io::stdin().is_terminal() {
        print_error(&format!("{warning} {question} (-force is the answer Y)"));
        return Ok(outcome);
    }
    print_text(&format!("Warning: {warning}"));
    let mut out = std::io::stdout().lock();
    write!(out, "{question} ").and_then(|()| out.flush())?;
    drop(out);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().starts_with(['y', 'Y']) {
        true => run_and_print(client, &format!("{line} -force"), json),
        false => Ok(outcome),
    }
}

/// Runs a command and prints its answer in the market's way: the text, then
/// ` Done`; errors go to standard error. In JSON every answer is one object on
/// standard output, errors and bare successes as NITRO words them.
pub fn run_and_print(client: &mut Client, line: &str, json: bool) -> Result<Outcome> {
    let mut asked = None;
    let outcome = print_answers(client, line, json, &mut asked)?;
    if let Some(warning) = asked {
        print_error(&format!("{warning} {}", messages::CONFIRM_FAILOVER.text));
    }
    Ok(outcome)
}

/// Runs a command as often as its `-ntimes` says. All parts of the answers are printed but a question, which is
/// left in `asked`.
fn print_answers(client: &mut Client, line: &str, json: bool, asked: &mut Option<String>) -> Result<Outcome> {
    let times = parse(line).map_or(1, |command| command.times());
    let mut printed = 0;
    loop {
        let outcome = print_answer(client, line, json, asked)?;
        printed += 1;
        if printed == times || outcome == Outcome::Failed {
            return Ok(outcome);
        }
        std::thread::sleep(STAT_INTERVAL);
    }
}

fn print_answer(client: &mut Client, line: &str, json: bool, asked: &mut Option<String>) -> Result<Outcome> {
    let mut silent = true;
    let outcome = client.run(line, json, &mut |text, ok| match (ok, json) {
        (false, false) if question_in(text).is_some() => *asked = question_in(text).map(str::to_owned),
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

/// What stands before the question that the node asks back, if it does.
pub(crate) fn question_in(text: &str) -> Option<&str> {
    let warning = text.trim_end().strip_suffix(messages::CONFIRM_FAILOVER.text)?;
    Some(plain(warning).trim_end())
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
