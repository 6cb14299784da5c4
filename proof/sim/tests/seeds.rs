//! Runs seeds: a few hundred by default, any number on demand.

use std::time::{Duration, Instant};

use holdfast_sim::run_seed;

/// Seeds of a test run.
const SEEDS: u64 = 300;
/// A slow machine stops here; what was run counts.
const AT_MOST: Duration = Duration::from_secs(60);

/// With `HOLDFAST_SIM_SEEDS=N` all of N seeds are run, however long it takes.
#[test]
fn no_seed_finds_anything() {
    let asked: Option<u64> = std::env::var("HOLDFAST_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let started = Instant::now();
    for seed in 1..=asked.unwrap_or(SEEDS) {
        let report = run_seed(seed);
        assert!(
            report.violations.is_empty(),
            "seed {seed}:\n{}\n{}\nreplay: cargo xtask sim --first {seed} --seeds 1 --trace",
            report.log.join("\n"),
            report.violations.join("\n")
        );
        if asked.is_none() && started.elapsed() > AT_MOST {
            eprintln!("stopped after {seed} seeds");
            break;
        }
    }
}
