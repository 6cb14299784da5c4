//! `holdfast-sim [--first SEED] [--seeds N] [--verbose] [--trace]`: runs seeds,
//! prints progress, and for a failing one its story and how to replay it.

use std::process::ExitCode;

use holdfast_sim::reference::Tally;
use holdfast_sim::{run_seed, run_traced};

fn main() -> ExitCode {
    let (mut first, mut seeds, mut verbose, mut traced) = (1u64, 200u64, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = |value: Option<String>| value.and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--first" => first = number(arguments.next()).unwrap_or(first),
            "--seeds" => seeds = number(arguments.next()).unwrap_or(seeds),
            "--verbose" => verbose = true,
            "--trace" => traced = true,
            other => {
                eprintln!("unknown argument `{other}`; known: --first SEED, --seeds N, --verbose, --trace");
                return ExitCode::from(2);
            }
        }
    }
    let (mut established, mut promotions, mut failed) = (0, 0, 0u64);
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        let report = if traced { run_traced(seed) } else { run_seed(seed) };
        established += report.established;
        promotions += report.promotions;
        tally.add(report.tally);
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
    println!("sim: {} passed, {failed} failed; {established} connections, {promotions} promotions", seeds - failed);
    println!(
        "model: {} had to survive, {} might be lost, {} had to be reset",
        tally.survive, tally.excused, tally.reset
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
