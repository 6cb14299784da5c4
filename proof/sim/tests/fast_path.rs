//! Machines whose kernels forward packets of known flows without the process.

use core::time::Duration;

use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT, USIP};
use holdfast_sim::{Scenario, Story};

/// A whole pair, both with a fast path, or one of them.
fn pair(offloads: [bool; 2]) -> Story {
    let mut story = Story::begin(Scenario::quiet(1));
    for (machine, offloads) in story.world.machines.iter_mut().zip(offloads) {
        machine.offloads = offloads;
    }
    story.until("the pair is whole", holdfast_sim::world::World::is_whole);
    story.run_ms(1000);
    story
}

/// Connections of every kind, that last.
fn connect(story: &mut Story) -> Vec<usize> {
    let kinds = [(SNAT, false), (USIP, false), (SNAT, true), (USIP, true)];
    kinds.map(|(vserver, v6)| story.connect_for_long(vserver, v6)).to_vec()
}

fn bypassed(story: &Story, machine: usize) -> u64 {
    story.world.machines[machine].bypassed
}

fn all_finish(story: &mut Story, connections: &[usize]) {
    for number in connections {
        assert_eq!(story.end_of(*number), Outcome::Finished, "{}", story.log());
    }
}

#[test]
fn established_connections_are_forwarded_by_the_kernel_and_end_in_order() {
    let mut story = pair([true; 2]);
    let connections = connect(&mut story);
    story.run_ms(5000);
    let primary = story.primary();
    assert!(bypassed(&story, primary) > 20 && bypassed(&story, 1 - primary) == 0, "{}", story.log());
    all_finish(&mut story, &connections);
    story.end();
}

#[test]
fn without_a_fast_path_nothing_bypasses_the_process() {
    let mut story = pair([false; 2]);
    let connections = connect(&mut story);
    story.run_ms(3000);
    assert_eq!([0, 1].map(|machine| bypassed(&story, machine)), [0, 0]);
    all_finish(&mut story, &connections);
    story.end();
}

#[test]
fn the_kernel_of_a_frozen_primary_goes_on_for_its_lease_and_connections_go_on_elsewhere() {
    for offloads in [[true, true], [true, false], [false, true]] {
        let mut story = pair(offloads);
        let connections = connect(&mut story);
        story.run_ms(1200);
        let primary = story.primary();
        let before = bypassed(&story, primary);
        story.fault(Fault::Freeze(primary, Duration::from_secs(8)));
        story.run_ms(5000);
        assert_eq!(story.node(1 - primary).role(), Role::Primary, "{}", story.log());
        let after = bypassed(&story, primary);
        story.run_ms(2000);
        assert_eq!(bypassed(&story, primary), after, "it forwards behind its lease; {before} before it was frozen");
        assert!(bypassed(&story, 1 - primary) > 0 || !offloads[1 - primary], "the other one's kernel has taken over");
        story.heal();
        all_finish(&mut story, &connections);
        story.end();
    }
}

#[test]
fn killed_primaries_leave_nothing_behind_in_their_kernels() {
    let mut story = pair([true; 2]);
    let connections = connect(&mut story);
    for _ in 0..4 {
        story.run_ms(1000);
        let primary = story.primary();
        story.fault(Fault::Kill(primary));
        let before = bypassed(&story, primary);
        story.run_ms(3000);
        assert_eq!(bypassed(&story, primary), before);
        story.heal();
    }
    all_finish(&mut story, &connections);
    story.end();
}
