//! A failure at every step: see `src/steps.rs`.

use holdfast_sim::scenario::{SNAT, UDP, USIP};
use holdfast_sim::steps::{Failure, Tried, during_bulk, during_set_up, set_ups};

/// Every point was tried, there were as many as there must be, and nothing was found.
fn judge(tried: &Tried, at_least: u64) {
    assert!(tried.violations.is_empty(), "{}", tried.violations.join("\n"));
    assert!(tried.points >= at_least && tried.runs == tried.points, "{} points, {} runs", tried.points, tried.runs);
}

/// Each failure at each step of the set-up of a kind of flow, both IP versions
/// and both peer links.
fn no_step_of_a_set_up_loses_it(vserver: usize) {
    let mut all = Tried::default();
    for set_up in set_ups().into_iter().filter(|set_up| set_up.vserver == vserver) {
        for failure in Failure::ALL {
            let tried = during_set_up(set_up, failure);
            judge(&tried, 50);
            assert_eq!(tried.tally.survive as u64, tried.runs, "one failure excuses nothing");
            all.add(tried);
        }
    }
    println!("{} points, {} runs", all.points, all.runs);
}

#[test]
fn no_step_of_a_set_up_through_snat_loses_it() {
    no_step_of_a_set_up_loses_it(SNAT);
}

#[test]
fn no_step_of_a_set_up_with_usip_loses_it() {
    no_step_of_a_set_up_loses_it(USIP);
}

#[test]
fn no_step_of_a_set_up_of_an_exchange_loses_it() {
    no_step_of_a_set_up_loses_it(UDP);
}

/// Flows of the story: those of the table and those that begin while it is told.
const FLOWS: u64 = 320;
/// Of these, on the average over all messages, so many at least when the primary dies before the transfer has ended: the
/// model excuses the others, since nobody is left who must know them.
const TOLD: u64 = 80;

/// A node of the pair fails at every message of a bulk transfer; of each run at least `survive` flows must not be lost.
fn no_message_of_a_bulk_transfer_is_a_trap(failure: Failure, survive: u64) {
    let tried = during_bulk(failure);
    judge(&tried, 30);
    let each = tried.tally.survive as u64 / tried.runs;
    assert!(each >= survive, "of each run only {each} flows had to survive: {:?}", tried.tally);
    println!("{} points, {} runs, {:?}", tried.points, tried.runs, tried.tally);
}

#[test]
fn the_primary_dies_at_every_message_of_a_bulk_transfer() {
    no_message_of_a_bulk_transfer_is_a_trap(Failure::KillPrimary, TOLD);
}

#[test]
fn the_primary_loses_power_at_every_message_of_a_bulk_transfer() {
    no_message_of_a_bulk_transfer_is_a_trap(Failure::PowerPrimary, TOLD);
}

#[test]
fn the_returning_node_dies_at_every_message_of_a_bulk_transfer() {
    no_message_of_a_bulk_transfer_is_a_trap(Failure::KillSecondary, FLOWS);
}

#[test]
fn the_returning_node_stands_still_at_every_message_of_a_bulk_transfer() {
    no_message_of_a_bulk_transfer_is_a_trap(Failure::FreezeSecondary, FLOWS);
}
