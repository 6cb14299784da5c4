//! The witness: full partitions, its loss, and both.

use core::time::Duration;

use holdfast_engine::Gate;
use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::machine::Sabotage;
use holdfast_sim::scenario::{Fault, Opening, SNAT, USIP};
use holdfast_sim::{Scenario, Story, run};

fn pair() -> Story {
    Story::whole(Scenario { witness: true, ..Scenario::quiet(1) })
}

fn role(story: &Story, machine: usize) -> Option<Role> {
    story.world.machines[machine].node.as_ref().map(|node| node.role())
}

/// Runs, and counts gates all the while.
fn run_one_gate(story: &mut Story, ms: u64) {
    for _ in 0..ms {
        story.run_ms(1);
        let now = story.world.now;
        let open = story.world.machines.iter().filter(|machine| {
            let node = machine.node.as_ref().filter(|_| machine.is_awake());
            node.is_some_and(|node| node.gate() == Gate::Open && node.lease_expiry().is_none_or(|end| now < end))
        });
        assert!(open.count() <= 1, "two gates are open\n{}", story.log());
    }
}

fn long(story: &mut Story, kind: usize) -> usize {
    let now = story.world.now;
    let number =
        story.open(Opening { bytes: 20_000, pause: Duration::from_millis(400), ..Opening::plain(now, kind, false) });
    story.until("established", |world| world.clients[0].connections[number].established.is_some());
    number
}

#[test]
fn a_full_partition_leaves_the_primary_that_keeps_the_witness() {
    let mut story = pair();
    let primary = story.primary();
    let connection = long(&mut story, SNAT);
    story.fault(Fault::Split(true));
    run_one_gate(&mut story, 10_000);
    assert_eq!(role(&story, primary), Some(Role::Primary));
    assert_eq!(role(&story, 1 - primary), Some(Role::Secondary));
    story.fault(Fault::Split(false));
    run_one_gate(&mut story, 2_000);
    assert_eq!(story.primary(), primary);
    assert_eq!(story.end_of(connection), Outcome::Finished);
    story.end();
}

#[test]
fn a_primary_that_loses_peer_and_witness_gives_way_and_no_connection_is_lost() {
    let mut story = pair();
    let primary = story.primary();
    let connections = [SNAT, USIP].map(|kind| long(&mut story, kind));
    story.fault(Fault::WitnessCable(primary, false));
    run_one_gate(&mut story, 3_000);
    assert_eq!(story.primary(), primary, "the witness alone changes no role");
    story.fault(Fault::Split(true));
    run_one_gate(&mut story, 3_000);
    assert_eq!(role(&story, primary), Some(Role::Secondary));
    assert_eq!(role(&story, 1 - primary), Some(Role::Primary));
    story.heal();
    for connection in connections {
        assert_eq!(story.end_of(connection), Outcome::Finished);
    }
    story.end();
}

#[test]
fn the_loss_of_the_witness_alone_changes_no_role() {
    let mut story = pair();
    let (primary, promotions) = (story.primary(), story.world.checker.promotions);
    let connection = long(&mut story, SNAT);
    story.fault(Fault::Witness(false));
    run_one_gate(&mut story, 20_000);
    assert_eq!((story.primary(), story.world.checker.promotions), (primary, promotions));
    assert!(story.command(primary, "show ha node").contains("Witness: UNREACHABLE since"));
    assert_eq!(story.end_of(connection), Outcome::Finished);
    story.fault(Fault::Witness(true));
    story.run_ms(6_000);
    assert!(story.command(primary, "show ha node").contains("Witness: REACHABLE since"));
    story.end();
}

#[test]
fn without_the_witness_nobody_takes_over_from_a_dead_primary_until_it_is_back() {
    let mut story = pair();
    let primary = story.primary();
    let connection = long(&mut story, SNAT);
    story.fault(Fault::Witness(false));
    story.run_ms(100);
    story.fault(Fault::PowerOff(primary));
    run_one_gate(&mut story, 3_000);
    assert_eq!(role(&story, 1 - primary), Some(Role::Secondary));
    // It comes back with what it held.
    story.fault(Fault::Witness(true));
    story.until("taken over", |world| {
        world.machines[1 - primary].node.as_ref().is_some_and(|node| node.role() == Role::Primary)
    });
    assert_eq!(story.end_of(connection), Outcome::Finished, "the secondary has kept it");
    story.end();
}

#[test]
fn a_primary_alone_closes_its_gate_when_the_witness_goes_and_opens_it_again() {
    let mut story = pair();
    let primary = story.primary();
    story.fault(Fault::PowerOff(1 - primary));
    run_one_gate(&mut story, 5_000);
    assert_eq!(role(&story, primary), Some(Role::Primary), "it leads by the witness");
    assert!(story.command(primary, "show ha node").contains("In Force: YES (this node leads by it)"));
    story.fault(Fault::Witness(false));
    run_one_gate(&mut story, 500);
    assert_eq!(role(&story, primary), Some(Role::Secondary));
    story.fault(Fault::Witness(true));
    run_one_gate(&mut story, 2_000);
    assert_eq!(role(&story, primary), Some(Role::Primary));
    story.end();
}

#[test]
fn a_crash_is_waited_out_and_no_connection_is_lost() {
    let mut story = pair();
    let primary = story.primary();
    let connection = long(&mut story, SNAT);
    story.fault(Fault::Kill(primary));
    run_one_gate(&mut story, 250);
    assert_eq!(role(&story, 1 - primary), Some(Role::Secondary), "a close may be forged");
    run_one_gate(&mut story, 350);
    assert_eq!(role(&story, 1 - primary), Some(Role::Primary));
    assert_eq!(story.end_of(connection), Outcome::Finished);
    story.end();
}

#[test]
fn a_planned_switchover_asks_the_witness_and_loses_nothing() {
    let mut story = pair();
    let primary = story.primary();
    let connection = long(&mut story, SNAT);
    story.fault(Fault::ForceFailover);
    run_one_gate(&mut story, 1_000);
    assert_eq!(story.primary(), 1 - primary);
    assert_eq!(story.end_of(connection), Outcome::Finished);
    story.end();
}

#[test]
fn nodes_that_ask_different_witnesses_are_told_of_it() {
    let mut story = pair();
    let secondary = 1 - story.primary();
    let is_doubted_after = |story: &mut Story, witness: &str| {
        story.command(secondary, &format!("set HA node -witness {witness}"));
        story.run_ms(20_000);
        story.command(secondary, "show HA node").contains("it does not name the primary")
    };
    assert!(!is_doubted_after(&mut story, "http://10.0.9.1:2379"));
    assert!(is_doubted_after(&mut story, "http://10.0.9.2:2379"), "{}", story.log());
    assert!(!is_doubted_after(&mut story, "http://10.0.9.1:2379"), "{}", story.log());
    story.end();
}

#[test]
fn a_node_that_leads_by_a_witness_does_not_doubt_it() {
    let mut story = pair();
    let primary = story.primary();
    let secondary = 1 - primary;
    story.command(secondary, "set HA node -witness http://10.0.9.2:2379");
    story.run_ms(20_000);
    let is_doubted =
        |story: &mut Story| story.command(secondary, "show HA node").contains("it does not name the primary");
    assert!(is_doubted(&mut story));
    story.fault(Fault::Kill(primary));
    story.until("the other one leads", |world| world.primary() == Some(secondary));
    assert!(!is_doubted(&mut story), "{}", story.log());
    story.command(secondary, "set HA node -witness http://10.0.9.1:2379");
    story.end();
}

#[test]
fn a_witness_that_grants_everything_is_noticed() {
    let split = |sabotage| {
        let at = |ms| holdfast_base::Instant::ZERO + Duration::from_millis(ms);
        let faults = vec![(at(3_000), Fault::Split(true)), (at(6_000), Fault::Split(false))];
        let opens = vec![Opening::plain(at(8_000), SNAT, false)];
        run(Scenario { witness: true, sabotage, faults, opens, ..Scenario::quiet(1) }).violations
    };
    assert_eq!(split(Sabotage::None), Vec::<String>::new());
    let found = split(Sabotage::EasyWitness);
    assert!(found.iter().any(|what| what.contains("both nodes may open flows")), "not caught: {found:?}");
}
