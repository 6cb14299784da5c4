//! Instructions for each packet in the engine, counted by callgrind: the same on a busy machine as on a quiet one.
//!
//! This program runs itself under callgrind twice, with few packets and with more; what the second run has done beyond the first
//! is the packets' part.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::engine;

/// What is counted: a name, and the word and number of flows by which the inner run is called.
const LOADS: [(&str, &str, u32); 4] = [
    ("established TCP, 1 flow, a packet", "packets", 1),
    ("established TCP, 1,000 flows, a packet", "packets", 1000),
    ("established TCP, 10,000 flows, a packet", "packets", 10_000),
    ("TCP set-up, 3 packets, DISABLED, a connection", "connections", 0),
];
/// Packets or connections of the short run, and how many more the long one has.
const SHORT: u32 = 1000;
const MORE: u32 = 20_000;

/// Prints the table; with arguments it is the inner run.
pub fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => {
            println!("{:<48} {:>12}", "engine, one thread", "instructions");
            for (name, word, flows) in LOADS {
                let (short, long) = (count(word, flows, SHORT)?, count(word, flows, SHORT + MORE)?);
                println!("{name:<48} {:>12.0}", (long - short) / f64::from(MORE));
            }
            Ok(())
        }
        [word, flows, number] => {
            let (flows, number) = (flows.parse().context("flows")?, number.parse::<u32>().context("a number")?);
            match word.as_str() {
                "packets" => engine::established(flows, number as usize),
                "connections" => engine::connections(number),
                other => bail!("unknown load {other}"),
            };
            Ok(())
        }
        _ => bail!("usage: holdfast-bench instructions"),
    }
}

/// Instructions of a whole inner run.
fn count(word: &str, flows: u32, number: u32) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe()?).args(["instructions", word, &flows.to_string(), &number.to_string()]);
    let done = command.output().context("start valgrind (Debian package valgrind)")?;
    let text = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "the run under callgrind failed: {text}");
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind's count")?;
    Ok(line.1.trim().parse()?)
}
