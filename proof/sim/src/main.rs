//! `holdfast-sim [--first SEED] [--seeds N] [--verbose] [--trace]`: runs seeds,
//! prints progress, and for a failing one its story and how to replay it.
//! `holdfast-sim --steps`: a failure at every step of the stories that are enumerated.

use std::process::ExitCode;

use holdfast_sim::reference::Tally;
use holdfast_sim::scenario::FTP;
use holdfast_sim::steps::{Failure, Fetch, SetUp, Tried, during_bulk, during_fetch, during_set_up, set_ups};
use holdfast_sim::{run_seed, run_traced};

fn main() -> ExitCode {
    let (mut first, mut seeds, mut verbose, mut traced, mut by_step) = (1u64, 200u64, false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = |value: Option<String>| value.and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--first" => first = number(arguments.next()).unwrap_or(first),
            "--seeds" => seeds = number(arguments.next()).unwrap_or(seeds),
            "--steps" => by_step = true,
            "--verbose" => verbose = true,
            "--trace" => traced = true,
            other => {
                eprintln!("unknown argument `{other}`; known: --first SEED, --seeds N, --verbose, --trace, --steps");
                return ExitCode::from(2);
            }
        }
    }
    if by_step {
        return every_step();
    }
    let (mut established, mut promotions, mut bypassed, mut short, mut failed) = (0, 0, 0u64, 0u64, 0u64);
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        let report = if traced { run_traced(seed) } else { run_seed(seed) };
        established += report.established;
        promotions += report.promotions;
        bypassed += report.bypassed;
        tally.add(report.tally);
        short += u64::from(report.short_of_room);
        if verbose {
            println!("{}", report.log.join("\n"));
        }
        if !report.violations.is_empty() {
            failed += 1;
            println!("seed {seed}: {} violations", report.violations.len());
            println!("{}", report.log.join("\n"));
            println!("{}", report.violations.join("\n"));
            println!("replay: cargo xtask sim --first {seed} --seeds 1 --trace");
        }
        if (seed - first + 1).is_multiple_of(100) {
            println!(
                "{} seeds, {established} connections established, {promotions} promotions, {failed} failed",
                seed - first + 1
            );
        }
    }
    println!(
        "sim: {} passed, {failed} failed; {established} connections, {promotions} promotions; {bypassed} packets by fast paths; in {short} seeds a standby was short of room",
        seeds - failed
    );
    println!(
        "model: {} had to survive, {} might be lost, {} had to be reset",
        tally.survive, tally.excused, tally.reset
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Enumerates, and prints how many points and runs there were.
fn every_step() -> ExitCode {
    let mut all = Tried::default();
    let mut row = |story: String, tried: Tried| {
        let Tried { points, runs, tally, ref violations } = tried;
        let found = violations.len();
        println!("{story:<58} {points:>5} {runs:>5} {:>7} {:>7} {found:>6}", tally.survive, tally.excused);
        all.add(tried);
    };
    println!("{:<58} {:>5} {:>5} {:>7} {:>7} {:>6}", "story", "points", "runs", "must", "may", "found");
    for set_up in set_ups() {
        let SetUp { vserver, v6, peer_delay, .. } = set_up;
        for failure in Failure::ALL {
            let family = if v6 { "IPv6" } else { "IPv4" };
            let name = ["TCP SNAT", "TCP USIP", "UDP"][vserver];
            row(format!("{name} {family}, peer {peer_delay:?}, {failure:?}"), during_set_up(set_up, failure));
        }
    }
    for failure in Failure::ALL {
        row(format!("bulk, {failure:?}"), during_bulk(failure));
    }
    for fetch in Fetch::all() {
        for failure in Failure::ALL {
            let Fetch { vserver, v6, way } = fetch;
            let (usip, family) = (if vserver == FTP { "SNAT" } else { "USIP" }, if v6 { "IPv6" } else { "IPv4" });
            row(format!("FTP {usip} {family}, {way:?}, {failure:?}"), during_fetch(fetch, failure, 1));
        }
    }
    println!("{} points, {} runs, {} findings", all.points, all.runs, all.violations.len());
    println!("{}", all.violations.join("\n"));
    if all.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
