//! The rules of the witness, one story each. Their numbers are those of
//! `docs/ha.md`, *Witness*.

mod pair_kit;

use holdfast_base::Duration;
use holdfast_ha::{Cause, Claim, Effect, Event, LostCause, NodeId, Role, WitnessAsk, WitnessRequest};
use pair_kit::Pair;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn cell(pair: &Pair) -> Claim {
    pair.cell.expect("somebody has won it")
}

/// The swaps that a node has asked for.
fn swaps(pair: &Pair, node: usize) -> Vec<(Option<Claim>, Claim)> {
    let swap = |effect: &Effect| match effect {
        Effect::AskWitness(WitnessRequest { ask: WitnessAsk::Swap { expect, to }, .. }) => Some((*expect, *to)),
        _ => None,
    };
    pair.history(node).iter().filter_map(swap).collect()
}

#[test]
fn every_promotion_is_won_at_the_witness() {
    let pair = Pair::witnessed();
    assert_eq!(cell(&pair), Claim { owner: A, term: pair.a().term() });
}

#[test]
fn a_primary_that_is_answered_asks_for_nothing() {
    let mut pair = Pair::witnessed();
    pair.witness_cut = [true; 2];
    pair.run(ms(20_000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert_eq!(swaps(&pair, 0), []);
    assert!(pair.saw(0, Effect::Event(Event::WitnessLost)));
    assert!(!pair.saw_any_role(0) && !pair.saw_any_role(1), "the loss of the witness alone changes no role");
}

#[test]
fn rule_2_the_lease_counts_from_the_sending_of_what_was_answered() {
    let mut pair = Pair::witnessed();
    let before = pair.a().lease_expiry();
    pair.witness_cut = [true; 2];
    pair.deafen(0);
    pair.run(ms(200));
    assert!(pair.a().lease_expiry() <= before.map(|end| end + ms(100)), "hellos that nobody answers renew nothing");
    pair.run(ms(200));
    assert!(pair.saw_role(0, Role::Secondary, Cause::Unwitnessed));
    assert_eq!(pair.a().status().frozen, 0);
}

#[test]
fn rule_3_a_primary_that_is_not_answered_takes_another_term_before_its_lease_ends() {
    let mut pair = Pair::witnessed();
    let term = pair.a().term();
    pair.kill(1);
    pair.run(ms(400));
    assert_eq!(swaps(&pair, 0)[0], (Some(Claim { owner: A, term }), Claim { owner: A, term: term + 1 }));
    assert!(pair.saw_role(0, Role::Primary, Cause::Witnessed));
    assert_eq!((pair.a().role(), pair.a().term()), (Role::Primary, term + 1));
    // From then on it asks for its own value.
    pair.run(ms(10_000));
    let own = Claim { owner: A, term: term + 1 };
    assert!(swaps(&pair, 0)[1..].iter().all(|&swap| swap == (Some(own), own)));
    assert!(!pair.saw_role(0, Role::Secondary, Cause::Unwitnessed));
    // Without the witness it may not go on.
    pair.witness_cut[0] = true;
    pair.run(ms(400));
    assert!(pair.saw_role(0, Role::Secondary, Cause::Unwitnessed));
    pair.witness_cut[0] = false;
    pair.run(ms(1_000));
    assert_eq!(pair.a().role(), Role::Primary, "it leads again when the witness is back");
}

#[test]
fn rule_3_the_first_answer_of_the_peer_ends_the_loan() {
    let mut pair = Pair::witnessed();
    pair.cut(true);
    pair.run(ms(1_000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(pair.a().status().witness.is_some_and(|view| view.sole));
    let asked = swaps(&pair, 0).len();
    pair.cut(false);
    pair.run(ms(1_000));
    assert!(!pair.a().status().witness.is_some_and(|view| view.sole));
    assert!(swaps(&pair, 0).len() <= asked + 1, "an answered primary asks no more");
    assert!(
        !pair.saw_role(0, Role::Secondary, Cause::Unwitnessed),
        "the gate stays open while one takes over from the other"
    );
    assert_eq!(pair.b().term(), pair.a().term());
}

#[test]
fn rule_4_a_secondary_that_has_caught_up_leads_at_once_when_it_has_won() {
    let mut pair = Pair::witnessed();
    let term = pair.a().term();
    pair.kill(0);
    pair.run(ms(405));
    assert_eq!(pair.b().role(), Role::Primary);
    assert_eq!(swaps(&pair, 1)[0].0, Some(Claim { owner: A, term }));
    assert_eq!(cell(&pair), Claim { owner: B, term: pair.b().term() });
}

#[test]
fn rule_4_without_the_witness_nobody_takes_over() {
    let mut pair = Pair::witnessed();
    pair.kill(0);
    pair.witness_cut = [true; 2];
    pair.run(ms(5_000));
    assert_eq!(pair.b().role(), Role::Secondary);
    pair.witness_cut = [false; 2];
    pair.run(ms(100));
    assert_eq!(pair.b().role(), Role::Primary, "with the connections that it has kept");
    assert!(!pair.saw(1, Effect::Event(Event::PromotedNotCaughtUp)));
}

#[test]
fn rule_5_a_node_that_has_not_caught_up_waits_and_wins_once_more() {
    let mut pair = Pair::witnessed();
    pair.kill(0);
    pair.kill(1);
    pair.run(ms(10));
    pair.restart(1);
    pair.run(ms(1_000));
    assert_eq!(cell(&pair).owner, A, "it has to see first that nobody lives by what is there");
    pair.run(ms(200));
    let won = cell(&pair);
    assert_eq!(won.owner, B);
    assert_eq!(pair.b().role(), Role::Init, "won, and waits");
    pair.run(ms(800));
    assert_eq!(pair.b().role(), Role::Init);
    pair.run(ms(400));
    assert_eq!((pair.b().role(), pair.b().term()), (Role::Primary, won.term));
}

#[test]
fn rule_6_who_loses_has_no_longer_caught_up() {
    let mut pair = Pair::witnessed();
    pair.cut(true);
    pair.run(ms(500));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(!pair.b().status().caught_up, "the pair went on without it");
    // It sees that somebody lives by the cell, however long the partition lasts.
    pair.run(ms(20_000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(!pair.saw_role(0, Role::Secondary, Cause::Unwitnessed));
    assert_eq!(swaps(&pair, 1).len(), 1);
    // When the primary has lost the witness, too, the other one leads with what it has, aloud.
    pair.witness_cut[0] = true;
    pair.run(ms(4_000));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    assert!(pair.saw(1, Effect::Event(Event::PromotedNotCaughtUp)));
}

#[test]
fn rule_6_who_keeps_the_witness_wins() {
    let mut pair = Pair::witnessed();
    pair.cut(true);
    pair.witness_cut[0] = true;
    for _ in 0..420 {
        pair.run(ms(1));
        assert_ne!(pair.roles(), (Role::Primary, Role::Primary), "the old gate is closed first");
    }
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    pair.witness_cut[0] = false;
    pair.run(ms(3_000));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary), "the other one does not win it back");
    pair.cut(false);
    pair.run(ms(500));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    assert_eq!(pair.a().term(), pair.b().term());
}

#[test]
fn rule_7_a_lower_term_is_not_followed() {
    let mut pair = Pair::witnessed();
    let stale = pair.last_hello(0);
    let old = pair.a().term();
    pair.kill(0);
    pair.run(ms(600));
    assert_eq!(pair.b().role(), Role::Primary);
    let term = pair.b().term();
    pair.inject_with(1, old, &holdfast_ha::Hello { seq: stale.seq + 1000, ..stale });
    pair.run(ms(50));
    assert_eq!((pair.b().role(), pair.b().term()), (Role::Primary, term));
    assert!(!pair.saw(1, Effect::Event(Event::DualPrimary { peer_term: old })));
}

#[test]
fn rule_8_a_close_proves_nothing() {
    let mut pair = Pair::witnessed();
    pair.cut(true);
    pair.close_seen_by(1);
    pair.run(ms(200));
    assert_eq!(pair.b().role(), Role::Secondary);
    assert_eq!(swaps(&pair, 1), []);
    assert!(!pair.saw(1, Effect::PeerLost { boot: pair.boot_of(0), cause: LostCause::ProcessDeath }));
}

#[test]
fn a_planned_switchover_is_won_there_too() {
    let mut pair = Pair::witnessed();
    let now = pair.now();
    pair.a_mut().handle_force_failover(now).expect("the peer has caught up");
    pair.run(ms(50));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    assert_eq!(cell(&pair).owner, B);
}

#[test]
fn a_planned_switchover_without_the_witness_is_called_off() {
    let mut pair = Pair::witnessed();
    pair.witness_cut = [true; 2];
    let now = pair.now();
    pair.a_mut().handle_force_failover(now).expect("the peer has caught up");
    pair.run(ms(2_000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(pair.saw_role(0, Role::Primary, Cause::SwitchoverFailed));
}

#[test]
fn a_claim_whose_answer_was_lost_is_made_again() {
    let mut pair = Pair::witnessed();
    let term = pair.a().term();
    pair.cut(true);
    pair.witness_mute = true;
    pair.run(ms(300));
    assert_eq!(cell(&pair).term, term + 1, "granted, and nobody knows");
    pair.cut(false);
    pair.run(ms(100));
    pair.witness_mute = false;
    pair.run(ms(500));
    assert_eq!((pair.a().role(), pair.a().term()), (Role::Primary, term + 1));
    assert_eq!(pair.b().term(), term + 1);
}

#[test]
fn a_witness_set_on_a_running_pair_learns_of_its_primary() {
    let mut pair = Pair::settled();
    let term = pair.a().term();
    pair.set_witness();
    pair.run(ms(300));
    assert_eq!(pair.cell, Some(Claim { owner: A, term }));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(!pair.saw_any_role(0) && !pair.saw_any_role(1));
}

#[test]
fn a_witness_that_only_one_node_has_decides_nothing() {
    let mut pair = Pair::settled();
    pair.set(0, |settings| settings.witness = true);
    pair.run(ms(1_000));
    assert_eq!(pair.a().status().witness.map(|view| view.in_force), Some(false));
    pair.kill(1);
    pair.run(ms(2_000));
    assert_eq!(pair.a().role(), Role::Primary);
    assert_eq!(swaps(&pair, 0), []);
}

#[test]
fn a_term_that_no_pair_sees_is_no_answer() {
    let mut pair = Pair::witnessed();
    pair.cell = Some(Claim { owner: B, term: u64::MAX });
    pair.kill(0);
    pair.run(ms(2_000));
    assert_eq!(pair.b().role(), Role::Secondary);
    assert!(pair.b().status().caught_up);
    assert!(pair.saw(1, Effect::Event(Event::WitnessLost)));
}
