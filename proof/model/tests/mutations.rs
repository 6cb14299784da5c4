//! Broken on purpose: each rule is broken alone, and the checker must find a history in which the promise that rests on
//! it is broken. So the models can fail, and each rule is needed.

use holdfast_model::{Machines, Rule, Sin, Variant, seek};

const ONE_GATE: &str = "at most one gate is open";
const KEPT: &str = "a primary has every connection that an end believes in";
const NO_TERM_TWICE: &str = "no node leads a term twice, or a lower one";
const WHOLE_AGAIN: &str = "calm makes the pair whole again";

/// Two processes, one fault, no connection.
const BARE: Variant = Variant { faults: 1, connections: 0, ..Variant::PATH_WORKS };
/// The same with one connection.
const SERVING: Variant = Variant { faults: 1, ..Variant::PATH_WORKS };
/// A whole pair with a witness.
const WITNESSED: Variant = Variant { connections: 0, ..Variant::WITNESS };

fn breaks(variant: Variant, rule: Rule, property: &'static str) {
    let history = seek(variant.without(rule), property, 2);
    assert!(history.is_some(), "without {rule:?} nothing breaks: {property}");
}

#[test]
fn a_term_announced_before_it_is_durable_is_led_again() {
    breaks(Variant { faults: 2, ..BARE }, Rule::Fsync, NO_TERM_TWICE);
}

#[test]
fn without_a_lease_a_frozen_primary_stays_at_the_gate() {
    breaks(BARE, Rule::Lease, ONE_GATE);
}

#[test]
fn a_lease_longer_than_the_peers_patience_overlaps() {
    breaks(Variant { lease: BARE.dead + 1, ..BARE }, Rule::LeaseEndsFirst, ONE_GATE);
}

#[test]
fn a_packet_released_without_ack_is_a_connection_lost() {
    breaks(SERVING, Rule::Hold, KEPT);
}

#[test]
fn a_node_eligible_before_it_has_caught_up_loses_a_connection() {
    breaks(Variant::PATH_WORKS, Rule::CatchUp, KEPT);
}

#[test]
fn a_lower_term_that_is_not_ignored_costs_a_connection() {
    breaks(Variant::WITNESS, Rule::Term, KEPT);
}

#[test]
fn pre_emption_opens_a_second_gate() {
    breaks(BARE, Rule::NoPreemption, ONE_GATE);
}

#[test]
fn a_witness_that_nobody_asks_prevents_nothing() {
    breaks(WITNESSED, Rule::Witness, ONE_GATE);
}

#[test]
fn a_loan_of_the_witness_that_outlives_the_peers_return_overlaps() {
    breaks(Variant { cuts: 2, ..WITNESSED }, Rule::LoanEnds, ONE_GATE);
}

#[test]
fn a_forged_close_in_a_partition_deceives_even_with_a_witness() {
    breaks(WITNESSED, Rule::HonestClose, ONE_GATE);
}

#[test]
fn a_secondary_that_lost_its_session_unnoticed_waits_for_ever() {
    breaks(Variant::CUT, Rule::SessionAsked, WHOLE_AGAIN);
}

/// The real machines under a driver that sins.
fn falls(sin: Sin, property: &'static str) {
    let machines =
        Machines { steps: 40, restless: 16, faults: 1, forced: 0, ails: 0, cuts: 0, witness: false, sin: Some(sin) };
    assert!(seek(machines, property, 2).is_some(), "{sin:?} breaks nothing: {property}");
}

#[test]
fn a_real_machine_on_a_disk_that_lies_leads_a_term_twice() {
    falls(Sin::NoFsync, "no node leads a term twice, or one that is not durable");
}

#[test]
fn a_real_machine_on_a_clock_that_stands_still_keeps_its_gate_open() {
    falls(Sin::FrozenClock, ONE_GATE);
}

#[test]
fn a_real_machine_whose_witness_grants_everything_opens_a_second_gate() {
    let machines = Machines { steps: 40, restless: 20, cuts: 1, witness: true, ..Machines::FULL[0] };
    let machines = Machines { faults: 0, sin: Some(Sin::EasyWitness), ..machines };
    assert!(seek(machines, ONE_GATE, 2).is_some(), "nothing breaks: {ONE_GATE}");
}

#[test]
fn a_real_machine_told_too_early_that_it_has_caught_up_loses_the_connection() {
    falls(Sin::EarlyCaughtUp, "a primary has the connection that an end believes in");
}
