//! Sessions after the first: only what differs travels, and the operator sees it.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT, STICKY, USIP};
use holdfast_sim::{Scenario, Story, World};

/// What `show ha node` says about the latest transfer: flows, and how many of
/// them were sent.
fn last_resync(story: &mut Story, machine: usize) -> (u64, u64) {
    let shown = story.command(machine, "show ha node 0");
    let line = shown.lines().find(|line| line.contains("Last Resync:")).unwrap_or_else(|| panic!("{shown}"));
    let number = |what: &str| {
        let before = line.split(what).next().and_then(|text| text.split_whitespace().last());
        before.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    (number(" flows"), number(" of them sent"))
}

#[test]
fn after_a_short_outage_of_the_secondary_only_what_differs_travels() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let mut numbers: Vec<usize> = (0..40).map(|n| story.connect([SNAT, USIP][n % 2], n % 3 == 0)).collect();
    story.fault(Fault::Freeze(secondary, Duration::from_millis(1500)));
    story.run_ms(1000);
    numbers.extend((0..2).map(|_| story.connect(SNAT, false)));
    story.until("the pair is whole again", holdfast_sim::World::is_whole);
    story.run_ms(200);
    for machine in [primary, secondary] {
        let (flows, sent) = last_resync(&mut story, machine);
        assert!(flows >= 40, "{flows} flows");
        assert!((2..12).contains(&sent), "{sent} of {flows} sent");
    }
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.unprotected, counts.protected), (0, counts.in_session));
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn a_lost_flow_is_shown_and_costs_its_bucket() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let numbers: Vec<usize> = (0..30).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    story.run_ms(700);
    let shown = story.command(secondary, "show ha node 0");
    assert!(shown.contains("Digest: EQUAL (compared"), "{shown}");
    story.world.checker.may_differ = true;
    let now = story.world.now;
    assert!(story.world.machines[secondary].node.as_mut().is_some_and(|node| node.lose_a_flow(now)));
    story.run_ms(1000);
    let (flows, sent) = last_resync(&mut story, secondary);
    assert!(flows >= 30 && sent < 10, "{sent} of {flows} sent");
    let shown = story.command(secondary, "stat ha node");
    assert!(shown.lines().any(|line| line.starts_with("Sync failure") && line.ends_with(" 1")), "{shown}");
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

/// Found by the model of roles and commit: a secondary leads for a moment that the primary does not notice, and follows it
/// again with empty hands, while the primary goes on in the old session.
#[test]
fn a_secondary_that_lost_its_session_unnoticed_asks_for_another() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let numbers: Vec<usize> = (0..10).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    story.run_ms(100);
    let now = story.world.now;
    story.world.machines[secondary].node.as_mut().expect("it runs").follow_anew(now);
    assert_eq!(story.node(secondary).engine().counts().flows, 0);
    story.run_ms(1000);
    assert!(story.world.is_whole(), "{}", story.log());
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

/// As above, while something is in the stream: what was forgotten is not taken up in the middle.
#[test]
fn a_session_that_was_forgotten_is_not_taken_up_in_the_middle() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let mut numbers: Vec<usize> = (0..10).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    story.run_ms(100);
    let now = story.world.now;
    story.world.machines[secondary].node.as_mut().expect("it runs").follow_anew(now);
    story.run_ms(5);
    numbers.push(story.connect(SNAT, false));
    story.run_ms(500);
    assert!(story.world.is_whole(), "{}", story.log());
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.unprotected, story.node(secondary).engine().counts().flows), (0, counts.flows));
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

/// The peer link is dead towards a secondary that has nothing, and hellos are far apart: its requests do not keep the
/// primary from trying the other paths.
#[test]
fn requests_for_a_session_leave_time_to_find_another_path() {
    let mut scenario = Scenario::quiet(1);
    scenario.extra_config.iter_mut().for_each(|text| text.push_str("set HA node -helloInterval 400 -deadInterval 2\n"));
    let mut story = Story::whole(scenario);
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    for number in 0..10 {
        story.connect([SNAT, USIP][number % 2], false);
    }
    story.run_ms(500);
    story.fault(Fault::PeerDeaf(secondary));
    let now = story.world.now;
    story.world.machines[secondary].node.as_mut().expect("it runs").follow_anew(now);
    story.run_ms(10_000);
    assert!(story.world.is_whole(), "{}", story.log());
    assert_eq!(story.node(primary).engine().counts().unprotected, 0);
}

#[test]
fn a_secondary_that_will_not_lead_protects_nothing() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    for number in 0..4 {
        story.connect([SNAT, USIP][number % 2], false);
    }
    story.run_ms(300);
    assert!(story.command(primary, "failover rehearse").starts_with("If this node died now: 0 connections"));
    assert_eq!(story.command(secondary, "set HA node -haStatus STAYSECONDARY"), "");
    story.run_ms(300);
    let told = story.command(primary, "failover rehearse");
    assert!(
        told.starts_with("If this node died now: 4 connections") && told.contains("the peer cannot lead"),
        "{told}"
    );
    assert!(story.command(primary, "show ha node").contains("Ready To Lead: NO"));
    assert_eq!(story.command(secondary, "set HA node -haStatus ENABLED"), "");
    story.run_ms(300);
    assert!(story.command(primary, "failover rehearse").starts_with("If this node died now: 0 connections"));
    story.end();
}

/// Found by the random campaign on a starved machine: the peer link is cut, and a node that starts opens its data ports later than
/// a start-up interval. It must not take the silence of ports that are not open for the peer's.
#[test]
fn a_node_does_not_lead_alone_before_its_data_ports_are_open() {
    let mut story = Story::whole(Scenario { ports_after: Duration::from_secs(3), ..Scenario::quiet(1) });
    let before = story.primary();
    let numbers: Vec<usize> = (0..6).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    story.fault(Fault::PeerLink(false));
    story.run_ms(300);
    story.fault(Fault::Kill(before));
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    story.fault(Fault::Start(before));
    story.run_ms(2900);
    assert_eq!(story.primary(), 1 - before, "{}", story.log());
    story.until("the pair is whole", holdfast_sim::World::is_whole);
    assert_eq!(story.primary(), 1 - before);
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

/// Found by the random campaign on a busy machine: what a starting node heard before its data ports were open was
/// acknowledged and then forgotten, and packets waited for it for as long as they may.
#[test]
fn what_is_heard_before_the_data_ports_are_open_is_not_acknowledged_and_forgotten() {
    for ports_after in (20..400).step_by(20).map(Duration::from_millis) {
        let mut story = Story::whole(Scenario { ports_after, ..Scenario::quiet(1) });
        let (primary, secondary) = (story.primary(), 1 - story.primary());
        story.fault(Fault::Kill(secondary));
        story.until("lost", |world| !world.is_whole());
        story.fault(Fault::Start(secondary));
        story.run_ms(600);
        assert!(story.world.is_whole(), "{ports_after:?}: {}", story.log());
        let before = story.node(primary).engine().counters().hold_released_by_ack;
        story.connect(SNAT, false);
        let counters = story.node(primary).engine().counters();
        assert_eq!((counters.hold_released_by_ack, counters.hold_released_unprotected), (before + 1, 0));
        story.end();
    }
}

/// The peer has no room and asks for another session; its requests lie in the socket of a primary that stands still until
/// the peer leads. Whoever reads them then is secondary, and must not begin a session.
#[test]
fn requests_that_a_frozen_primary_finds_begin_no_session() {
    let mut story = Story::whole(Scenario { max_flows: [2048, 4], ..Scenario::quiet(1) });
    let primary = story.primary();
    assert_eq!(primary, 0);
    story.world.checker.link_bad_until = Instant::FAR;
    for number in 0..8 {
        story.connect_for_long([SNAT, USIP][number % 2], false);
    }
    story.until("full", |world| world.machines[1].log.iter().any(|(.., text)| text.contains("found no room")));
    story.run_ms(50);
    story.fault(Fault::Freeze(primary, Duration::from_secs(5)));
    story.until("the other leads", |world| world.primary() == Some(1));
    story.run_ms(5_500);
    assert_eq!(story.node(primary).role(), Role::Secondary);
    assert!(!story.node(primary).mirrors(), "{}", story.log());
    story.until("the pair is whole", World::is_whole);
    let before = story.log().matches("another mirror session").count();
    story.run_ms(3_000);
    assert_eq!(story.log().matches("another mirror session").count(), before, "{}", story.log());
}

/// The operator removes a vserver whose connections live on: a secondary that starts afterwards is told of them, too, and
/// the rehearsal does not forget them.
#[test]
fn connections_of_a_removed_vserver_stay_protected() {
    let mut scenario = Scenario::quiet(1);
    // The address stays when its last vserver goes.
    scenario.extra_config.iter_mut().for_each(|text| text.push_str("add ns ip 10.0.1.101 255.255.255.255 -type VIP\n"));
    let mut story = Story::whole(scenario);
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let numbers: Vec<usize> = (0..6).map(|_| story.connect_for_long(USIP, false)).collect();
    assert_eq!(story.command(primary, "rm lb vserver usip-v4"), "");
    story.run_ms(50);
    let rehearse = |story: &mut Story| story.command(primary, "failover rehearse");
    let shown = rehearse(&mut story);
    assert!(shown.starts_with("If this node died now: 0 connections would be lost\n"), "{shown}");
    story.fault(Fault::Kill(secondary));
    story.run_ms(100);
    let shown = rehearse(&mut story);
    assert!(shown.starts_with("If this node died now: 6 connections would be lost\n"), "{shown}");
    let line = shown.lines().find(|line| line.starts_with("(removed)")).unwrap_or_else(|| panic!("{shown}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["(removed)", "STATEFUL", "6", "0", "0", "6", "the", "peer", "is", "not", "up"]);
    story.fault(Fault::Start(secondary));
    story.until("the pair is whole", World::is_whole);
    story.run_ms(200);
    let shown = rehearse(&mut story);
    assert!(shown.starts_with("If this node died now: 0 connections would be lost\n"), "{shown}");
    assert_eq!(story.node(secondary).engine().counts().flows, 6);
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
}

/// A persistence session without room on the secondary is told to the operator, and leaves connections protected.
#[test]
fn a_full_persistence_table_of_the_secondary_unprotects_nothing() {
    let mut story = Story::whole(Scenario { max_persistence: [512, 1], ..Scenario::quiet(1) });
    assert_eq!(story.primary(), 0);
    let first = story.connect(STICKY, false);
    let second = story.connect(STICKY, true);
    story.run_ms(300);
    assert!(story.world.is_whole(), "{}", story.log());
    assert_eq!(story.node(0).engine().counts().unprotected, 0);
    let shown = story.command(1, "show ha node 0");
    assert!(shown.contains("Persistence Sessions Without Room: 1\n"), "{shown}");
    assert!(!story.command(0, "show ha node 0").contains("Without Room"));
    story.run_ms(1_000);
    let sessions = story.log().matches("another mirror session").count();
    assert_eq!(sessions, 0, "{}", story.log());
    story.fault(Fault::Kill(0));
    for number in [first, second] {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
}

/// Both nodes number the sessions that they begin from one on. What the old primary says of its own is no word on
/// the session of the new one, which would have to begin another, and would take the peer for whole meanwhile.
#[test]
fn a_switchover_begins_one_session() {
    let mut story = Story::whole(Scenario::quiet(1));
    let numbers: Vec<usize> = (0..10).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    for _ in 0..3 {
        let successor = 1 - story.primary();
        story.fault(Fault::ForceFailover);
        story.until("the role has moved", |world| world.primary() == Some(successor));
        story.until("the pair is whole again", World::is_whole);
        story.run_ms(300);
        let log = &story.world.machines[successor].log;
        let again = log.iter().find(|(_, _, text)| text.contains("starting another mirror session"));
        assert!(again.is_none(), "{again:?}");
    }
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}
