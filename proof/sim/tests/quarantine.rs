//! A node that crashed again and again takes no records for a while: what the pair does meanwhile and afterwards.

use core::time::Duration;

use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT, USIP};
use holdfast_sim::world::World;
use holdfast_sim::{Scenario, Story};

/// The quarantine in these stories.
const LENGTH: Duration = Duration::from_secs(3);

/// The secondary of a whole pair dies and comes back in quarantine; the primary's number.
fn quarantined(story: &mut Story) -> usize {
    let primary = story.primary();
    let secondary = 1 - primary;
    story.fault(Fault::Kill(secondary));
    story.run_ms(500);
    story.fault(Fault::Start(secondary));
    let now = story.world.now;
    let node = story.world.machines[secondary].node.as_mut().expect("just started");
    node.quarantine_intake(now, LENGTH);
    story.until("the secondary follows", |world| {
        world.machines[secondary].node.as_ref().is_some_and(|node| node.role() == Role::Secondary)
    });
    primary
}

fn milliseconds_to_establish(story: &Story, number: usize) -> u128 {
    let connection = story.connection(number);
    connection.established.expect("it is").since(connection.opened).as_millis()
}

#[test]
fn nothing_waits_for_a_node_in_quarantine_and_everything_is_protected_afterwards() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old: Vec<usize> = (0..4).map(|n| story.connect_for_long([SNAT, USIP][n % 2], n > 1)).collect();
    let primary = quarantined(&mut story);
    let secondary = 1 - primary;
    let new: Vec<usize> = (0..4).map(|n| story.connect_for_long([SNAT, USIP][n % 2], n > 1)).collect();
    for &number in &new {
        assert!(milliseconds_to_establish(&story, number) < 50, "{}", milliseconds_to_establish(&story, number));
    }
    story.run_ms(1000);
    assert!(!story.node(primary).mirrors() && !story.node(secondary).caught_up());
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.protected, counts.held, counts.unprotected), (0, 0, 8));
    assert_eq!(story.node(secondary).engine().counts().flows, 0);
    assert!(story.command(primary, "show ha node").contains("QUARANTINED (the peer crashed again and again"));
    assert!(story.command(secondary, "show ha node").contains("QUARANTINED (this node crashed again and again"));
    assert!(story.command(primary, "failover rehearse").contains("the peer is in quarantine and takes no records"));
    assert!(story.command(primary, "force HA failover -force").contains("ERROR"), "it must not hand over");
    story.until("the pair is whole", World::is_whole);
    let log = story.log();
    assert_eq!(log.matches("the peer is in quarantine").count(), 1, "{log}");
    assert!(log.contains("quarantine is over: mirror records are taken again"), "{log}");
    story.run_ms(500);
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.protected, counts.unprotected), (8, 0));
    story.fault(Fault::Kill(primary));
    for number in old.into_iter().chain(new) {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn a_node_in_quarantine_leads_when_nobody_else_does() {
    let mut story = Story::whole(Scenario::quiet(2));
    let primary = quarantined(&mut story);
    let secondary = 1 - primary;
    story.run_ms(500);
    story.fault(Fault::Kill(primary));
    story.until("the survivor leads", |world| world.primary() == Some(secondary));
    let number = story.connect(SNAT, false);
    // As primary it tells its peer everything, quarantine or not.
    story.fault(Fault::Start(primary));
    story.until("the pair is whole", World::is_whole);
    story.fault(Fault::Kill(secondary));
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

#[test]
fn two_nodes_in_quarantine_serve_and_become_whole() {
    let mut story = Story::whole(Scenario::quiet(3));
    story.fault(Fault::Kill(0));
    story.fault(Fault::Kill(1));
    story.run_ms(100);
    for machine in 0..2 {
        story.fault(Fault::Start(machine));
        let now = story.world.now;
        story.world.machines[machine].node.as_mut().expect("just started").quarantine_intake(now, LENGTH);
    }
    story.until("one leads", |world| world.primary().is_some());
    let number = story.connect(SNAT, false);
    assert!(!story.world.is_whole());
    story.until("the pair is whole", World::is_whole);
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}
