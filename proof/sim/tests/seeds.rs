//! Runs seeds: a few hundred by default, any number on demand.

use holdfast_sim::run_seed;

/// Seeds of a test run; `HOLDFAST_SIM_SEEDS=N` runs N.
const SEEDS: u64 = 300;

#[test]
fn no_seed_finds_anything() {
    let asked: Option<u64> = std::env::var("HOLDFAST_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut short = 0;
    for seed in 1..=asked.unwrap_or(SEEDS) {
        let report = run_seed(seed);
        assert!(
            report.violations.is_empty(),
            "seed {seed}:\n{}\n{}\nreplay: cargo xtask sim --first {seed} --seeds 1 --trace",
            report.log.join("\n"),
            report.violations.join("\n")
        );
        short += u64::from(report.short_of_room);
    }
    assert!(short > 0 || asked.is_some(), "no standby was ever short of room");
}
