//! Surge protection: who waits at a primary that dies is served by its successor.

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
