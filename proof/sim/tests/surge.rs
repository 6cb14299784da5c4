//! Surge protection and spill-over: who waits at a primary that dies is served by its successor, and who was spilled goes on there.

use holdfast_engine::ServiceId;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT};
use holdfast_sim::{Scenario, Story};

/// Clients that wait at a machine.
fn waiting(story: &Story, machine: usize) -> u64 {
    let node = story.node(machine);
    node.config().services().map(|service| node.engine().surge_waiting(ServiceId(service.id))).sum()
}

#[test]
fn clients_that_wait_when_the_primary_dies_are_served_by_the_successor() {
    for fault in [Fault::Kill, Fault::PowerOff, Fault::Stop] {
        let mut story = Story::whole(Scenario::quiet(1));
        let primary = story.primary();
        for line in [
            "enable ns feature SP",
            "set ns spParams -baseThreshold 2",
            "set service snat-v4-0 -sp ON",
            "set service snat-v4-1 -sp ON",
        ] {
            assert_eq!(story.command(primary, line), "");
        }
        let clients: Vec<usize> = (0..40).map(|_| story.dial(SNAT, false)).collect();
        story.run_ms(40);
        assert!(waiting(&story, primary) > 10, "{}", waiting(&story, primary));
        story.fault(fault(primary));
        for number in clients {
            assert_eq!(story.end_of(number), Outcome::Finished);
        }
        story.end();
    }
}

#[test]
fn a_flushed_queue_fills_again_and_everybody_is_served() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    for line in ["enable ns feature SP", "set ns spParams -baseThreshold 2", "set service snat-v4-0 -sp ON"] {
        assert_eq!(story.command(primary, line), "");
    }
    let clients: Vec<usize> = (0..40).map(|_| story.dial(SNAT, false)).collect();
    story.run_ms(20);
    assert!(waiting(&story, primary) > 5);
    assert!(story.command(primary, "flush ns surgeQ -name nobody").contains("No such resource [name, nobody]"));
    assert_eq!(story.command(primary, "flush ns surgeQ -name snat-v4"), "");
    assert_eq!(waiting(&story, primary), 0);
    for number in clients {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn a_spilled_connection_goes_on_at_the_successor_which_spills_at_the_same_threshold() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let line = "set lb vserver snat-v4 -backupVServer sticky-v4 -soMethod CONNECTION -soThreshold 3";
    assert_eq!(story.command(primary, line), "");
    let spilled = |story: &Story, machine: usize| -> u32 {
        let node = story.node(machine);
        let behind = node.config().services().filter(|service| service.name.starts_with("sticky-v4"));
        behind.map(|service| node.engine().service_counters(ServiceId(service.id)).established).sum()
    };
    let mut clients: Vec<usize> = (0..5).map(|_| story.connect_for_long(SNAT, false)).collect();
    story.run_ms(100);
    assert_eq!(spilled(&story, primary), 2);
    story.fault(Fault::Kill(primary));
    story.until("the other leads", move |world| world.primary() == Some(secondary));
    assert_eq!(spilled(&story, secondary), 2);
    clients.push(story.connect_for_long(SNAT, false));
    story.run_ms(100);
    assert_eq!(spilled(&story, secondary), 3);
    for number in clients {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn a_backup_serves_while_the_vserver_is_down_and_its_connections_survive() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    for line in
        ["set lb vserver snat-v4 -backupVServer sticky-v4", "disable service snat-v4-0", "disable service snat-v4-1"]
    {
        assert_eq!(story.command(primary, line), "");
    }
    let shown = story.command(primary, "show lb vserver snat-v4");
    assert!(shown.contains("State: DOWN") && shown.contains("Effective State: UP"), "{shown}");
    let mut clients: Vec<usize> = (0..4).map(|_| story.connect(SNAT, false)).collect();
    story.run_ms(100);
    story.fault(Fault::PowerOff(primary));
    story.until("the other leads", move |world| world.primary() == Some(secondary));
    clients.push(story.connect(SNAT, false));
    for number in clients {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}
