//! FTP through the pair, in every way there is, and a failure at every step of it.

use holdfast_sim::World;
use holdfast_sim::ftp::{Stand, Way};
use holdfast_sim::scenario::{FTP, FTP_USIP, Scenario};
use holdfast_sim::steps::{Failure, Fetch, Tried, during_fetch, finish_sessions};

use core::time::Duration;

#[test]
fn files_come_in_every_way() {
    for vserver in [FTP, FTP_USIP] {
        for v6 in [false, true] {
            let mut world = World::new(Scenario::quiet(4).with_ftp());
            let end = world.now + Duration::from_secs(20);
            assert!(world.run_until(end, |world| world.is_whole()));
            let later = world.now + Duration::from_secs(1);
            world.run_until(later, |_| false);
            world.fetch(0, vserver, v6, &[Way::all(v6), Way::all(v6)].concat(), 20_000);
            finish_sessions(&mut world);
            assert!(world.checker.violations.is_empty(), "{:?}", world.checker.violations);
            assert_eq!(world.clients[0].sessions[0].stand, Stand::Finished);
        }
    }
}

/// One step of so many: with a number that is no divisor of their periods. `cargo xtask sim --steps` takes all.
const EVERY: usize = 7;

fn no_step_loses_it(failure: Failure) {
    let mut all = Tried::default();
    for fetch in Fetch::all() {
        let tried = during_fetch(fetch, failure, EVERY);
        assert!(tried.violations.is_empty(), "{fetch:?}:\n{}", tried.violations.join("\n"));
        assert!(
            tried.points >= 150 && tried.runs >= tried.points / EVERY as u64,
            "{} points, {} runs",
            tried.points,
            tried.runs
        );
        all.add(tried);
    }
    println!("{failure:?}: {} points, {} runs", all.points, all.runs);
}

#[test]
fn the_primary_dies_at_any_step_of_a_session() {
    no_step_loses_it(Failure::KillPrimary);
}

#[test]
fn the_primary_freezes_at_any_step_of_a_session() {
    no_step_loses_it(Failure::FreezePrimary);
}

#[test]
fn the_secondary_dies_at_any_step_of_a_session() {
    no_step_loses_it(Failure::KillSecondary);
}
