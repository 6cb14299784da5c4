//! `holdfast`: the operator's shell.

mod batch;
mod client;
mod print;
mod shell;
mod status;
#[cfg(test)]
mod tests;
mod words;

use clap::Parser;
use client::{Client, Outcome};
use print::{print_error, print_text, run_and_confirm};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Words of this program itself, behind the list of commands.
const OWN_WORDS: &str = "\
status                           one screen about node and pair; exit status 0 good, 1 degraded, 2 bad
help <words>                     about the commands that begin with these words";

/// Exit status when no node could be asked.
const NO_NODE: u8 = 2;

/// Talk to a Holdfast node: one command, a shell (no words, on a terminal), or commands from standard input.
///
/// `holdfast status` prints one screen and exits with 0 (good), 1 (degraded) or 2 (bad).
#[derive(Parser, Debug)]
#[command(name = "holdfast", version, max_term_width = 100, trailing_var_arg = true)]
struct Args {
    /// The node's command socket.
    #[arg(long, value_name = "PATH", default_value = "/run/holdfast/holdfast.sock")]
    socket: PathBuf,

    /// Print answers as JSON.
    #[arg(long)]
    json: bool,

    /// The command, such as: show lb vserver
    #[arg(value_name = "WORD", allow_hyphen_values = true)]
    words: Vec<String>,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    // Also behind the command, where hands put it; no command has such a word.
    let count = args.words.len();
    args.words.retain(|word| word != "--json");
    args.json |= args.words.len() < count;
    match run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::from(NO_NODE)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<u8> {
    let line = words::command_line(&args.words);
    match args.words.first().map(String::as_str) {
        Some("help" | "?") => {
            let words = args.words[1..].join(" ");
            let text = holdfast_config::help(&words);
            if text.is_empty() {
                print_error(&format!("ERROR: No such command [{words}]; `holdfast help` lists them"));
                return Ok(1);
            }
            print_text(&text);
            if words.is_empty() {
                print_text(OWN_WORDS);
            }
            return Ok(0);
        }
        Some("exit" | "quit") => return Ok(0),
        _ => {}
    }
    let mut client = Client::connect(&args.socket)?;
    let outcome = match line.as_str() {
        "status" => return status::run(&mut client, args.json),
        "" if std::io::stdin().is_terminal() => shell::run(&mut client, &args.socket, args.json)?,
        "" => batch::run(&mut client, std::io::stdin().lock(), args.json)?,
        line => run_and_confirm(&mut client, line, args.json)?,
    };
    Ok(match outcome {
        Outcome::Done => 0,
        Outcome::Failed => 1,
    })
}
