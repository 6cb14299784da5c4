//! What a node's health does to its role: one behaviour each.

use crate::pair_kit::Pair;
use holdfast_base::Duration;
use holdfast_ha::{Cause, Effect, Event, HaStatus, Machine, NodeHealth, Refusal, Role};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const ILL: [NodeHealth; 3] = [NodeHealth::RouteMonitorFail, NodeHealth::PartialFail, NodeHealth::CompleteFail];
const BOTH: (Role, Role) = (Role::Secondary, Role::Secondary);
const A_LEADS: (Role, Role) = (Role::Primary, Role::Secondary);
const B_LEADS: (Role, Role) = (Role::Secondary, Role::Primary);

#[test]
fn a_primary_that_fails_hands_over_to_a_healthy_peer() {
    for ill in ILL {
        let mut pair = Pair::settled();
        pair.ail(0, ill);
        pair.run(ms(4));
        assert_eq!(pair.roles(), B_LEADS, "{ill:?}");
        assert!(pair.saw_role(0, Role::Draining, Cause::Unhealthy), "{ill:?}");
        assert!(pair.saw_role(1, Role::Primary, Cause::Switchover), "{ill:?}: nothing is lost");
    }
}

#[test]
fn a_node_that_is_well_again_does_not_take_the_role_back() {
    let mut pair = Pair::settled();
    pair.ail(0, NodeHealth::PartialFail);
    pair.run(ms(10));
    pair.ail(0, NodeHealth::Up);
    pair.run(ms(3000));
    assert_eq!(pair.roles(), B_LEADS);
}

#[test]
fn a_primary_that_fails_waits_until_the_peer_has_caught_up() {
    let mut pair = Pair::with_terms(0, 0);
    pair.run(ms(300));
    pair.ail(0, NodeHealth::PartialFail);
    pair.run(ms(500));
    assert_eq!(pair.roles(), A_LEADS, "its connections are nowhere else");
    let now = pair.now();
    pair.b_mut().handle_caught_up(now, true);
    pair.run(ms(110));
    assert_eq!(pair.roles(), B_LEADS);
}

#[test]
fn if_both_fail_without_fail_safe_nobody_serves_until_one_is_well() {
    for well in [0, 1] {
        let mut pair = Pair::settled();
        pair.ail(1, NodeHealth::PartialFail);
        pair.run(ms(10));
        pair.ail(0, NodeHealth::PartialFail);
        pair.run(ms(3000));
        assert_eq!(pair.roles(), BOTH);
        assert!(pair.saw(0, Effect::Event(Event::NobodyServes)));
        pair.ail(well, NodeHealth::Up);
        pair.run(ms(10));
        let leads = if well == 0 { A_LEADS } else { B_LEADS };
        assert_eq!(pair.roles(), leads, "whichever is well leads at once, with every connection");
        assert!(!pair.saw(well, Effect::Event(Event::PromotedNotCaughtUp)));
    }
}

#[test]
fn if_both_fail_with_fail_safe_the_last_primary_stays() {
    for first in [0, 1] {
        let mut pair = Pair::settled();
        (0..2).for_each(|node| pair.set(node, |settings| settings.fail_safe = true));
        pair.ail(first, NodeHealth::PartialFail);
        pair.run(ms(10));
        let last = if first == 0 { B_LEADS } else { A_LEADS };
        assert_eq!(pair.roles(), last);
        pair.ail(1 - first, NodeHealth::PartialFail);
        pair.run(ms(3000));
        assert_eq!(pair.roles(), last, "{first} failed first");
    }
}

#[test]
fn fail_safe_is_a_nodes_own() {
    let mut pair = Pair::settled();
    pair.set(1, |settings| settings.fail_safe = true);
    pair.ail(1, NodeHealth::PartialFail);
    pair.ail(0, NodeHealth::PartialFail);
    pair.run(ms(20));
    assert_eq!(pair.roles(), B_LEADS, "it leads as it is, and the other does not");
}

#[test]
fn a_failed_node_beside_one_that_stays_secondary() {
    for (fail_safe, wanted) in [(false, BOTH), (true, A_LEADS)] {
        let mut pair = Pair::settled();
        pair.set(0, |settings| settings.fail_safe = fail_safe);
        pair.set_status(1, HaStatus::StaySecondary);
        pair.run(ms(150));
        pair.ail(0, NodeHealth::PartialFail);
        pair.run(ms(1000));
        assert_eq!(pair.roles(), wanted, "failSafe {fail_safe}");
    }
}

#[test]
fn a_failed_primary_that_is_alone_goes_on_with_what_works() {
    let mut pair = Pair::settled();
    pair.kill(1);
    pair.run(ms(600));
    pair.ail(0, NodeHealth::PartialFail);
    pair.run(ms(2000));
    assert_eq!(pair.a().role(), Role::Primary, "nothing is gained by losing the rest");
}

#[test]
fn a_primary_without_any_interface_and_peer_stands_down_and_listens_before_it_leads_again() {
    let mut pair = Pair::settled();
    pair.cut(true);
    pair.run(ms(500));
    pair.ail(0, NodeHealth::CompleteFail);
    pair.run(ms(50));
    assert_eq!(pair.roles(), B_LEADS);
    pair.ail(0, NodeHealth::Up);
    pair.cut(false);
    pair.run(ms(120));
    assert_eq!(pair.roles(), B_LEADS, "it hears who leads before it says anything");
    assert_eq!(pair.b().status().dual_primary, 0);
    pair.cut(true);
    pair.ail(0, NodeHealth::CompleteFail);
    pair.kill(1);
    pair.run(ms(1000));
    pair.ail(0, NodeHealth::Up);
    pair.run(ms(1100));
    assert_eq!(pair.a().role(), Role::Primary, "nobody is there");
}

#[test]
fn a_failed_secondary_does_not_take_over_from_a_dead_primary_without_fail_safe() {
    for (fail_safe, wanted) in [(false, Role::Secondary), (true, Role::Primary)] {
        let mut pair = Pair::settled();
        pair.set(1, |settings| settings.fail_safe = fail_safe);
        pair.ail(1, NodeHealth::PartialFail);
        pair.run(ms(10));
        pair.kill(0);
        pair.run(ms(2000));
        assert_eq!(pair.b().role(), wanted);
        assert_eq!(pair.saw(1, Effect::Event(Event::NobodyServes)), !fail_safe);
        pair.ail(1, NodeHealth::Up);
        pair.run(ms(500));
        assert_eq!(pair.b().role(), Role::Primary);
    }
}

#[test]
fn a_secondary_that_fails_a_route_monitor_still_takes_over_from_a_dead_primary() {
    let mut pair = Pair::settled();
    pair.ail(1, NodeHealth::RouteMonitorFail);
    pair.run(ms(10));
    pair.kill(0);
    pair.run(ms(500));
    assert_eq!(pair.b().role(), Role::Primary);
}

#[test]
fn if_both_fail_a_route_monitor_they_change_places_now_and_then() {
    let mut pair = Pair::settled();
    pair.ail(1, NodeHealth::RouteMonitorFail);
    pair.run(ms(10));
    pair.ail(0, NodeHealth::RouteMonitorFail);
    pair.run(ms(100_000));
    assert_eq!(pair.roles(), A_LEADS);
    pair.run(ms(85_000));
    assert_eq!(pair.roles(), B_LEADS, "after 180 s, without a loss");
    settle(&mut pair, 0);
    pair.ail(0, NodeHealth::Up);
    pair.run(ms(200));
    assert_eq!(pair.roles(), A_LEADS, "who is well leads, whatever the time");
}

/// The new secondary catches up, and the promise that it gave runs out.
fn settle(pair: &mut Pair, node: usize) {
    let now = pair.now();
    if node == 0 {
        pair.a_mut().handle_caught_up(now, true)
    } else {
        pair.b_mut().handle_caught_up(now, true)
    }
    pair.run(ms(500));
}

#[test]
fn after_as_many_flips_as_allowed_the_primary_stays_until_the_interval_is_over() {
    let mut pair = Pair::settled();
    for node in 0..2 {
        pair.set(node, |settings| (settings.max_flips, settings.max_flip_time) = (2, ms(20_000)));
    }
    pair.ail(0, NodeHealth::PartialFail);
    pair.run(ms(10));
    assert_eq!(pair.roles(), B_LEADS);
    pair.ail(0, NodeHealth::Up);
    settle(&mut pair, 0);
    pair.ail(1, NodeHealth::PartialFail);
    pair.run(ms(10));
    assert_eq!(pair.roles(), A_LEADS);
    for status in [pair.a().status(), pair.b().status()] {
        assert_eq!((status.flips, status.sticky), (2, true), "both nodes count the same flips");
    }
    pair.ail(1, NodeHealth::Up);
    settle(&mut pair, 1);
    pair.ail(0, NodeHealth::PartialFail);
    pair.run(ms(10_000));
    assert_eq!(pair.roles(), A_LEADS, "sticky primary");
    pair.run(ms(10_000));
    assert_eq!(pair.roles(), B_LEADS, "the interval is over");
    assert_eq!(pair.b().status().flips, 1);
}

/// (status of the first, status of the second, whether the first is ill, who leads after all).
type Row = (HaStatus, HaStatus, bool, (Role, Role));

#[test]
fn every_combination_of_statuses_and_an_ill_primary() {
    use HaStatus::{Disabled, Enabled, StayPrimary, StaySecondary};
    let rows: [Row; 32] = [
        (Enabled, Enabled, false, A_LEADS),
        (Enabled, Enabled, true, B_LEADS),
        (Enabled, StaySecondary, false, A_LEADS),
        (Enabled, StaySecondary, true, BOTH),
        (Enabled, StayPrimary, false, B_LEADS),
        (Enabled, StayPrimary, true, B_LEADS),
        (Enabled, Disabled, false, A_LEADS),
        (Enabled, Disabled, true, BOTH),
        (StaySecondary, Enabled, false, B_LEADS),
        (StaySecondary, Enabled, true, B_LEADS),
        (StaySecondary, StaySecondary, false, A_LEADS),
        (StaySecondary, StaySecondary, true, BOTH),
        (StaySecondary, StayPrimary, false, B_LEADS),
        (StaySecondary, StayPrimary, true, B_LEADS),
        (StaySecondary, Disabled, false, A_LEADS),
        (StaySecondary, Disabled, true, BOTH),
        (StayPrimary, Enabled, false, A_LEADS),
        (StayPrimary, Enabled, true, B_LEADS),
        (StayPrimary, StaySecondary, false, A_LEADS),
        (StayPrimary, StaySecondary, true, BOTH),
        (StayPrimary, StayPrimary, false, A_LEADS),
        (StayPrimary, StayPrimary, true, B_LEADS),
        (StayPrimary, Disabled, false, A_LEADS),
        (StayPrimary, Disabled, true, BOTH),
        (Disabled, Enabled, false, A_LEADS),
        (Disabled, Enabled, true, A_LEADS),
        (Disabled, StaySecondary, false, A_LEADS),
        (Disabled, StaySecondary, true, A_LEADS),
        (Disabled, StayPrimary, false, A_LEADS),
        (Disabled, StayPrimary, true, A_LEADS),
        (Disabled, Disabled, false, A_LEADS),
        (Disabled, Disabled, true, A_LEADS),
    ];
    for (first, second, ill, wanted) in rows {
        let mut pair = Pair::settled();
        pair.set_status(1, second);
        pair.set_status(0, first);
        if ill {
            pair.ail(0, NodeHealth::PartialFail);
        }
        pair.run(ms(3000));
        assert_eq!(pair.roles(), wanted, "{first:?} beside {second:?}, ill: {ill}");
    }
}

#[test]
fn a_node_that_stays_primary_takes_the_role_only_when_it_is_well() {
    let mut pair = Pair::settled();
    pair.ail(1, NodeHealth::RouteMonitorFail);
    pair.set_status(1, HaStatus::StayPrimary);
    pair.run(ms(1000));
    assert_eq!(pair.roles(), A_LEADS);
    pair.ail(1, NodeHealth::Up);
    pair.run(ms(200));
    assert_eq!(pair.roles(), B_LEADS);
}

#[test]
fn a_failover_cannot_be_forced_upon_a_node_that_may_not_lead() {
    let mut pair = Pair::settled();
    pair.ail(1, NodeHealth::PartialFail);
    pair.run(ms(10));
    let now = pair.now();
    assert_eq!(pair.a_mut().handle_force_failover(now), Err(Refusal::PeerState));
    pair.ail(1, NodeHealth::RouteMonitorFail);
    pair.run(ms(10));
    let now = pair.now();
    assert_eq!(pair.a_mut().handle_force_failover(now), Ok(()));
    pair.run(ms(10));
    settle(&mut pair, 0);
    pair.run(ms(1000));
    assert_eq!(pair.roles(), B_LEADS, "what an operator forces is not undone at once");
}

/// A draining node that may not lead takes its role back all the same when nobody leads, so one that
/// leads unheard must give way to it first.
#[test]
fn a_failed_node_whose_successor_it_cannot_hear_does_not_lead_beside_it() {
    let mut pair = Pair::settled();
    pair.ail(0, NodeHealth::PartialFail);
    while pair.b().role() != Role::Primary {
        pair.run(Duration::from_micros(500));
    }
    pair.deafen(0);
    for _ in 0..1000 {
        pair.run(Duration::from_micros(500));
        let acts = |machine: &Machine| machine.role() == Role::Primary;
        assert!(!(acts(pair.a()) && acts(pair.b())));
    }
}

#[test]
fn a_restart_of_the_primary_is_taken_over_by_the_healthier_of_two() {
    let mut pair = Pair::settled();
    pair.ail(1, NodeHealth::RouteMonitorFail);
    pair.kill(0);
    pair.run(ms(20));
    pair.restart(0);
    pair.run(ms(210));
    assert_eq!(pair.roles(), B_LEADS, "who holds the connections comes before who is well");
    settle(&mut pair, 0);
    assert_eq!(pair.roles(), A_LEADS, "and gives the role to who is well when it holds them, too");
}
