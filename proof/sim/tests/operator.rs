//! What an operator asks of a running pair, and what is true at that moment.

use core::time::Duration;

use holdfast_sim::link::Manners;
use holdfast_sim::scenario::{DISABLED, Fault, SNAT};
use holdfast_sim::world::World;
use holdfast_sim::{Scenario, Story};

/// Listings that a node serves at once.
const LISTINGS: u64 = 16;

#[test]
fn the_connection_table_tells_names_and_roles_on_both_nodes() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    story.connect(SNAT, false);
    story.connect(DISABLED, false);
    story.until("both are mirrored or never will be", |world| world.is_whole());
    let table = story.command(primary, "show ns connectiontable -detail FULL");
    assert_eq!(table.matches(" PROTECTED").count(), 1, "{table}");
    assert_eq!(table.matches(" LOCAL").count(), 1, "{table}");
    let kept = story.command(1 - primary, "show ns connectiontable");
    assert_eq!(kept.matches(" MIRRORED").count(), 1, "{kept}");
    assert!(!kept.contains("LOCAL"), "what is not mirrored is not there: {kept}");
    story.end();
}

#[test]
fn a_connection_that_is_over_is_shown_as_it_is_counted() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    let number = story.connect(SNAT, false);
    story.end_of(number);
    story.run_ms(500);
    let table = story.command(primary, "show ns connectiontable");
    assert!(table.trim_end().ends_with("TIME_WAIT     -"), "{table}");
    let status = story.command(primary, "show ha node");
    assert!(status.contains("Flows: 1  Protected: 0  Unprotected: 0"), "{status}");
    story.end();
}

#[test]
fn a_connection_that_waits_for_the_peer_is_held_and_not_lost() {
    let peer_manners = Manners { delay: Duration::from_millis(40), ..Manners::CALM };
    let mut story = Story::whole(Scenario { peer_manners, ..Scenario::quiet(7) });
    let primary = story.primary();
    story.dial(SNAT, false);
    let held = |story: &Story| story.node(primary).engine().held_vservers().count();
    for _ in 0..100 {
        if held(&story) > 0 {
            break;
        }
        story.run_ms(1);
    }
    assert_eq!(held(&story), 1, "its SYN-ACK waits for the peer");
    let table = story.command(primary, "show ns connectiontable");
    assert_eq!(table.matches(" HELD").count(), 1, "{table}");
    let rehearsal = story.command(primary, "failover rehearse");
    assert!(rehearsal.starts_with("If this node died now: 0 connections would be lost"), "{rehearsal}");
    story.end();
}

#[test]
fn the_listing_too_many_is_refused_and_the_others_are_served() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    story.connect(SNAT, false);
    // They wait in the socket of a process that pauses, and are read in one turn.
    story.fault(Fault::Freeze(primary, Duration::from_millis(20)));
    for request in 1..=LISTINGS + 1 {
        story.world.command(primary, request, "show ns connectiontable");
    }
    story.until("all are answered", |world| {
        let replies = &world.machines[primary].replies;
        (1..=LISTINGS + 1).all(|request| replies.iter().any(|reply| reply.request == request && reply.last))
    });
    let refused: Vec<u64> =
        story.world.machines[primary].replies.iter().filter(|reply| !reply.ok).map(|reply| reply.request).collect();
    assert_eq!(refused, [LISTINGS + 1]);
    story.end();
}

#[test]
fn the_counters_of_both_ends_tell_the_same_records() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    story.connect(SNAT, false);
    story.until("whole", |world| world.is_whole());
    let value = |story: &Story, machine: usize, room: &str, name: &str| -> u64 {
        let lines = story.node(machine).counter_lines();
        let line = lines.iter().find(|line| line.starts_with(room)).cloned().unwrap_or_default();
        let rest = line.split_once(&format!(" {name} ")).map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split(',').next().and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    let lines = story.node(primary).counter_lines().join("\n");
    let sent = value(&story, primary, "mirror sender", "records");
    let stored = value(&story, 1 - primary, "mirror receiver", "records");
    assert!(sent > 0 && sent == stored, "sent {sent}, stored {stored}:\n{lines}");
    story.end();
}

#[test]
fn the_status_that_an_operator_sets_reaches_the_election() {
    let mut story = Story::whole(Scenario::quiet(1));
    let before = story.primary();
    let answer = story.command(before, "set ha node -haStatus STAYSECONDARY");
    assert!(!answer.contains("ERROR"), "{answer}");
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    story.command(before, "set ha node -haStatus ENABLED");
    story.until("whole again", |world| world.is_whole());
    assert_eq!(story.primary(), 1 - before, "nobody takes the role back");
    story.command(before, "set ha node -haStatus STAYPRIMARY");
    story.until("it takes the role from a willing peer", |world| world.primary() == Some(before));
    story.command(1 - before, "set ha node -haStatus DISABLED");
    story.run_ms(500);
    let refused = story.command(before, "force ha failover");
    assert!(refused.contains("STAYPRIMARY"), "{refused}");
    story.command(before, "set ha node -haStatus ENABLED");
    let refused = story.command(before, "force ha failover");
    assert!(refused.contains("invalid peer state"), "{refused}");
    story.command(1 - before, "set ha node -haStatus ENABLED");
    story.end();
}

/// Ends the pair at a machine while both live; what it answers.
fn end_pair(story: &mut Story, machine: usize) -> String {
    let answer = story.command(machine, "rm HA node 1");
    story.run_ms(3000);
    answer
}

#[test]
fn a_pair_that_ends_at_the_primary_leaves_the_role_there() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    let number = story.connect_for_long(SNAT, false);
    let answer = end_pair(&mut story, primary);
    assert!(answer.contains("Warning: The pair has ended"), "{answer}");
    assert_eq!(story.world.primary(), Some(primary), "and nobody else leads");
    assert!(story.command(1 - primary, "show HA node").contains("STAYSECONDARY"));
    let log = story.log();
    assert!(log.contains("the peer's operator has removed this node") && !log.contains("DualPrimary"), "{log}");
    // The same on the other node, and it still serves nobody; then its operator wants it to.
    end_pair(&mut story, 1 - primary);
    assert_eq!(story.world.primary(), Some(primary));
    assert!(story.connection(number).ended.is_none());
}

#[test]
fn a_pair_that_ends_at_the_secondary_leaves_the_role_where_it_is() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    let answer = end_pair(&mut story, 1 - primary);
    assert!(answer.contains("Warning: The pair has ended"), "{answer}");
    assert_eq!(story.world.primary(), Some(primary), "and nobody else leads");
    assert!(!story.node(primary).mirrors());
    let held = story.node(primary).engine().counters().hold_released_unprotected;
    assert_eq!(held, 0, "nothing had to wait for a peer that is gone");
    // It comes back as what it is, and is an ordinary secondary again when it is told so.
    story.command(1 - primary, &format!("add HA node 1 10.0.3.{}", primary + 1));
    for node in [1, 2] {
        story.command(1 - primary, &format!("set ns rpcNode 10.0.3.{node} -password correct-horse"));
    }
    story.command(1 - primary, "set HA node -haStatus ENABLED");
    story.until("the pair is whole again", World::is_whole);
    assert_eq!(story.primary(), primary);
    story.fault(Fault::Kill(primary));
    story.until("the other leads", |world| world.primary() == Some(1 - primary));
    story.heal();
    story.end();
}

#[test]
fn a_secondary_whose_primary_is_off_takes_its_place_when_the_pair_is_ended() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    story.command(1 - primary, "set HA node -haStatus STAYSECONDARY");
    story.fault(Fault::PowerOff(primary));
    story.run_ms(2000);
    assert_eq!(story.world.primary(), None);
    let answer = story.command(1 - primary, "rm HA node 1");
    assert!(!answer.contains("Warning"), "{answer}");
    assert_eq!(story.world.primary(), None, "it was told to stay what it is");
    story.command(1 - primary, "set HA node -haStatus ENABLED");
    assert_eq!(story.world.primary(), Some(1 - primary));
}

#[test]
fn the_nsip_of_a_pair_stays_what_it_is() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    for machine in 0..2 {
        let answer = story.command(machine, "set ns config -IPAddress 10.0.3.77 -netmask 255.255.255.0");
        assert!(
            answer.contains("cannot be changed while an HA node is configured; remove it first [10.0.3.77]"),
            "{answer}"
        );
    }
    story.run_ms(2000);
    assert_eq!(story.world.primary(), Some(primary));
    story.end();
}

#[test]
fn a_switchover_that_is_called_off_is_shown() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    assert!(!story.command(primary, "show HA node 0").contains("Called Off"));
    story.world.command(primary, 1, "force HA failover");
    story.fault(Fault::Deaf(1 - primary, true));
    story.until("it is called off", |world| world.primary() == Some(primary));
    let shown = story.command(primary, "show HA node 0");
    assert!(shown.contains("Last Switchover Called Off: "), "{shown}");
    story.heal();
    story.end();
}
