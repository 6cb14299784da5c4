//! Two machines, a bad network, one seed. See `net/mod.rs` for the world and
//! `net/check.rs` for what must never happen in it.
//!
//! `HOLDFAST_SEED=n` replays one seed, `HOLDFAST_SEEDS=n` runs that many.

mod net;

use net::{Mode, World};

fn run(mode: Mode) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("HOLDFAST_SEED") {
        World::new(seed, mode).run();
        return;
    }
    for seed in 0..number("HOLDFAST_SEEDS").unwrap_or(700) {
        let outcome = std::panic::catch_unwind(|| World::new(seed, mode).run());
        assert!(outcome.is_ok(), "replay with HOLDFAST_SEED={seed} ({mode:?})");
    }
}

/// One path always works: at no instant may two nodes act.
#[test]
fn one_working_path_means_one_primary() {
    run(Mode::OnePathWorks);
}

/// All paths may be cut, in both directions or one: nodes may both lead
/// meanwhile, but after healing one remains, and stays.
#[test]
fn after_any_partition_one_primary_remains() {
    run(Mode::Anything);
}

/// Every path is cut in one direction only: the primary that is not heard gives
/// up before the other takes over.
#[test]
fn a_primary_that_nobody_hears_gives_up_first() {
    run(Mode::OneWay);
}

/// With a witness at no instant may two nodes act, whatever is cut: not even
/// when the witness is slow, cut off from one of them, or down.
#[test]
fn with_a_witness_a_full_partition_has_one_primary() {
    run(Mode::Witnessed);
}
