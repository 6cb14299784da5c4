//! What Holdfast promises, each as a short story: two production nodes,
//! clients and servers with another TCP, and a network that does as told.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::ConnectionRow;
use holdfast_ha::Role;
use holdfast_node::StreamEvent;
use holdfast_sim::apps::{Manner, Outcome};
use holdfast_sim::link::Manners;
use holdfast_sim::machine::Input;
use holdfast_sim::scenario::{DISABLED, DISABLED_USIP, Fault, Opening, SNAT, STATELESS, STICKY, UDP, USIP};
use holdfast_sim::world::{CLIENT_SIDE, SERVER_SIDE, World};
use holdfast_sim::{Scenario, Story};

/// A long freeze: longer than the dead interval.
const LONG: Duration = Duration::from_millis(1500);

/// A quiet pair whose peer link is slow.
fn slow_link(ms: u64) -> Scenario {
    let peer_manners = Manners { delay: Duration::from_millis(ms), ..Manners::CALM };
    Scenario { peer_manners, ..Scenario::quiet(7) }
}

/// Waits until records and acknowledgements keep to the peer link again: on a slow
/// one the first of them took every path.
fn on_the_link_only(story: &mut Story) {
    story.run_ms(2_000);
}

/// The flows of a machine.
fn flows(story: &Story, machine: usize) -> Vec<ConnectionRow> {
    let (mut rows, mut cursor) = (Vec::new(), 0);
    while !story.node(machine).engine().connections(story.world.now, &mut cursor, 4096, &mut rows) {}
    rows
}

/// Every kind of connection that must survive is in the middle of its
/// transfer when `fault` strikes the primary: all end in order.
fn transfers_survive(fault: impl Fn(usize) -> Fault) {
    let mut story = Story::whole(Scenario::quiet(1));
    let kinds = [SNAT, USIP, STICKY, STATELESS].into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    let open: Vec<usize> = kinds.map(|(kind, v6)| story.connect(kind, v6)).collect();
    let before = story.primary();
    story.run_ms(300);
    story.fault(fault(before));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.heal();
    assert_ne!(story.primary(), before, "nobody takes the role back");
    story.end();
}

#[test]
fn transfers_survive_the_kill_of_the_primary() {
    transfers_survive(Fault::Kill);
}

#[test]
fn transfers_survive_the_power_cut_of_the_primary() {
    transfers_survive(Fault::PowerOff);
}

#[test]
fn transfers_survive_the_freeze_of_the_primary() {
    transfers_survive(|primary| Fault::Freeze(primary, LONG));
}

#[test]
fn transfers_survive_an_orderly_stop_of_the_primary() {
    transfers_survive(Fault::Stop);
}

#[test]
fn a_forced_failover_loses_nothing() {
    transfers_survive(|_| Fault::ForceFailover);
}

#[test]
fn addresses_are_announced_in_the_turn_of_the_promotion() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (old, new) = (story.primary(), 1 - story.primary());
    story.fault(Fault::Kill(old));
    story.until("promoted", |world| world.primary() == Some(new));
    let said = story.world.watch.claims_by(new);
    assert!(
        said.is_some_and(|at| at == story.world.now),
        "first announcement at {said:?}, promoted at {:?}",
        story.world.now
    );
}

#[test]
fn a_kill_is_answered_within_milliseconds() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (old, new) = (story.primary(), 1 - story.primary());
    let at = story.world.now;
    story.fault(Fault::Kill(old));
    story.until("promoted", |world| world.primary() == Some(new));
    // 2 ms until the close is seen, 3 ms without an answer to probes.
    assert!(story.world.now.since(at) <= Duration::from_millis(6), "{:?}", story.world.now.since(at));
}

#[test]
fn a_hold_ends_when_the_peer_is_lost() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    story.fault(Fault::Freeze(1 - primary, LONG));
    let number = story.connect(SNAT, false);
    let waited = story.world.now.since(story.connection(number).opened);
    assert!((300..500).contains(&waited.as_millis()), "until the dead interval was over: {waited:?}");
    assert_eq!(story.node(primary).engine().counters().hold_released_unprotected, 1);
    assert_eq!(story.node(primary).engine().counts().protected, 0);
    story.heal();
    story.run_ms(50);
    assert_eq!(story.node(primary).engine().counts().unprotected, 0, "repaired as soon as the peer is back");
    story.fault(Fault::Kill(primary));
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

/// The peer speaks on the data ports while its new peer connection is not yet open.
#[test]
fn the_end_of_a_former_life_is_not_held_against_the_next() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    story.fault(Fault::PowerOff(1 - primary));
    story.until("lost", |world| !world.is_whole());
    story.run_ms(1000);
    story.fault(Fault::PeerLink(false));
    story.fault(Fault::Start(1 - primary));
    story.until("whole again", World::is_whole);
    // Too busy to answer a probe, not so long that it would be lost.
    story.fault(Fault::Freeze(1 - primary, Duration::from_millis(100)));
    story.world.give(primary, Input::Stream(StreamEvent::Closed));
    story.connect(SNAT, false);
    let counters = story.node(primary).engine().counters();
    assert_eq!((counters.hold_released_unprotected, counters.hold_released_by_ack), (0, 1));
    story.end();
}

#[test]
fn the_client_is_established_only_after_the_peer_has_the_record() {
    let mut story = Story::whole(slow_link(40));
    on_the_link_only(&mut story);
    let secondary = 1 - story.primary();
    let number = story.connect(SNAT, false);
    assert!(story.connection(number).opened + Duration::from_millis(80) < story.world.now, "no way to know earlier");
    assert_eq!(flows(&story, secondary).len(), 1);
    assert_eq!(story.node(story.primary()).engine().counters().hold_released_by_ack, 1);
    story.end();
}

#[test]
fn the_primary_dies_between_the_record_and_its_ack() {
    let mut story = Story::whole(slow_link(40));
    on_the_link_only(&mut story);
    let number = story.dial(SNAT, false);
    story.run_ms(60);
    let (old, new) = (story.primary(), 1 - story.primary());
    assert_eq!(
        (flows(&story, new).len(), story.connection(number).established),
        (1, None),
        "recorded, not acknowledged"
    );
    story.fault(Fault::Kill(old));
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

#[test]
fn the_primary_dies_while_the_answer_is_held_and_the_connection_opens_afresh() {
    let mut story = Story::whole(slow_link(40));
    on_the_link_only(&mut story);
    let number = story.dial(SNAT, false);
    story.run_ms(10);
    let (old, new) = (story.primary(), 1 - story.primary());
    assert_eq!((story.node(old).engine().counts().held, flows(&story, new).len()), (1, 0), "held, not recorded");
    story.world.split = true;
    story.fault(Fault::Kill(old));
    story.run_ms(1);
    story.world.split = false;
    assert_eq!(story.end_of(number), Outcome::Finished, "its SYN came again");
    story.end();
}

#[test]
fn a_udp_exchange_keeps_its_server_from_the_first_datagram() {
    let mut story = Story::whole(Scenario { servers: 3, ..slow_link(20) });
    for v6 in [false, true] {
        let number = story.dial(UDP, v6);
        story.until("the first answer", |world| world.clients[0].exchanges[number].answered == 1);
        let old = story.primary();
        story.fault(Fault::Kill(old));
        story.run_ms(3000);
        let exchange = story.exchange(number);
        assert!(exchange.answered > 20 && !exchange.moved, "{exchange:?}");
        story.heal();
    }
    story.end();
}

/// After a takeover the first packet of either end of a DISABLED connection is
/// answered by a reset that the end accepts.
fn disabled_is_reset(vserver: usize, server_speaks_first: bool) {
    for v6 in [false, true] {
        let mut story = Story::whole(Scenario { servers: 1, ..Scenario::quiet(1) });
        let pause = Duration::from_millis(if server_speaks_first { 60_000 } else { 1000 });
        let number = story.open(Opening { pause, ..Opening::plain(Instant::ZERO, vserver, v6) });
        if server_speaks_first {
            story.world.mute_servers(story.world.now + Duration::from_secs(2));
        }
        story.run_ms(500);
        assert!(story.connection(number).established.is_some());
        let old = story.primary();
        story.fault(Fault::Kill(old));
        story.run_ms(300);
        assert_eq!((story.connection(number).outcome, story.world.servers[0].connections()), (Outcome::Open, 1));
        if server_speaks_first {
            story.until("the server is reset", |world| world.servers[0].connections() == 0);
            assert_eq!(story.connection(number).outcome, Outcome::Open, "the client has not said anything");
        } else {
            assert_eq!(story.end_of(number), Outcome::Lost);
            assert!(
                story.connection(number).opened + Duration::from_millis(1200) > story.world.now,
                "by its first packet"
            );
        }
    }
}

#[test]
fn a_disabled_client_is_reset_snat() {
    disabled_is_reset(DISABLED, false);
}

#[test]
fn a_disabled_client_is_reset_usip() {
    disabled_is_reset(DISABLED_USIP, false);
}

#[test]
fn a_disabled_server_is_reset_snat() {
    disabled_is_reset(DISABLED, true);
}

#[test]
fn a_disabled_server_is_reset_usip() {
    disabled_is_reset(DISABLED_USIP, true);
}

#[test]
fn stateless_connections_continue_without_a_mirrored_flow() {
    for (v6, server_speaks_first) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut story = Story::whole(Scenario { servers: 3, ..Scenario::quiet(3) });
        let number = story.connect(STATELESS, v6);
        if server_speaks_first {
            story.world.mute_servers(story.world.now + Duration::from_millis(500));
        }
        story.run_ms(200);
        let (old, new) = (story.primary(), 1 - story.primary());
        assert_eq!(flows(&story, new).len(), 0, "nothing is mirrored");
        story.fault(Fault::Kill(old));
        assert_eq!(story.end_of(number), Outcome::Finished);
        assert!(story.node(new).engine().counters().flows_rebuilt > 0);
        story.end();
    }
}

#[test]
fn persistence_and_health_survive() {
    let mut story = Story::whole(Scenario { servers: 3, ..Scenario::quiet(5) });
    let first = story.connect(STICKY, false);
    let server = |story: &Story, number: usize| story.world.watch.server_of(0, story.connection(number).port, false);
    let (old, new) = (story.primary(), 1 - story.primary());
    story.fault(Fault::Kill(old));
    story.until("promoted", |world| world.primary() == Some(new));
    let shown = story.command(new, "show service sticky-v4-0");
    assert!(shown.contains("State: UP"), "no probe has ended yet:\n{shown}");
    for _ in 0..3 {
        let again = story.connect(STICKY, false);
        assert_eq!(server(&story, again), server(&story, first));
    }
    story.end();
}

#[test]
fn five_rejoins_lose_nothing() {
    let mut story = Story::whole(Scenario::quiet(2));
    for round in 0..5 {
        let open = [SNAT, USIP, STICKY].map(|kind| story.connect(kind, round % 2 == 0));
        let old = story.primary();
        story.fault(Fault::Kill(old));
        story.run_ms(700);
        story.heal();
        for number in open {
            assert_eq!(story.end_of(number), Outcome::Finished, "round {round}");
        }
    }
    story.end();
}

#[test]
fn the_primary_dies_during_bulk_and_the_other_serves_with_what_it_has() {
    let mut story = Story::whole(slow_link(30));
    let (a, b) = (story.primary(), 1 - story.primary());
    story.connect(SNAT, false);
    story.fault(Fault::Kill(a));
    story.run_ms(500);
    story.fault(Fault::Start(a));
    story.until("the transfer has begun", |world| {
        world.machines[a].node.as_ref().is_some_and(|node| node.role() == Role::Secondary && !node.caught_up())
    });
    story.fault(Fault::Kill(b));
    story.until("it serves", |world| world.primary() == Some(a));
    let number = story.connect(SNAT, false);
    assert_eq!(story.end_of(number), Outcome::Finished, "new connections work");
    story.end();
}

#[test]
fn both_die_and_one_returns_with_the_old_configuration() {
    let mut story = Story::whole(Scenario::quiet(4));
    let a = story.primary();
    story.command(a, "add server extra 10.0.2.99");
    story.command(a, "save ns config");
    story.run_ms(200);
    story.fault(Fault::PowerOff(a));
    story.fault(Fault::PowerOff(1 - a));
    story.run_ms(500);
    story.fault(Fault::Start(1 - a));
    story.until("it serves alone", |world| world.primary() == Some(1 - a));
    assert!(story.command(1 - a, "show server extra").contains("10.0.2.99"));
    let number = story.connect(SNAT, false);
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

#[test]
fn a_cut_peer_link_moves_the_mirror_to_a_data_port() {
    let mut story = Story::whole(Scenario::quiet(6));
    let primary = story.primary();
    story.fault(Fault::PeerLink(false));
    story.run_ms(2000);
    let number = story.connect(SNAT, false);
    assert_eq!((story.primary(), flows(&story, 1 - primary).len()), (primary, 1), "no change of roles; recorded");
    story.fault(Fault::Kill(primary));
    assert_eq!(story.end_of(number), Outcome::Finished, "protected without the peer link");
    story.end();
}

#[test]
fn after_a_split_exactly_one_wins_and_its_flows_survive() {
    let mut story = Story::whole(Scenario::quiet(8));
    let before = story.primary();
    let old = story.connect(SNAT, false);
    story.fault(Fault::Split(true));
    story.until("two primaries", |world: &World| {
        world.machines.iter().all(|machine| machine.node.as_ref().is_some_and(|node| node.role() == Role::Primary))
    });
    story.run_ms(1500);
    let new = story.connect(SNAT, true);
    story.fault(Fault::Split(false));
    story.until("one primary", World::is_whole);
    assert_ne!(story.primary(), before, "the one to which the clients went wins");
    assert_eq!((story.end_of(old), story.end_of(new)), (Outcome::Finished, Outcome::Finished));
    story.end();
}

#[test]
fn a_node_cut_off_from_everything_yields_when_it_returns() {
    let mut story = Story::whole(Scenario::quiet(9));
    let a = story.primary();
    let number = story.connect(USIP, false);
    story.fault(Fault::PeerLink(false));
    story.fault(Fault::Cable(a, CLIENT_SIDE, false));
    story.fault(Fault::Cable(a, SERVER_SIDE, false));
    story.run_ms(2000);
    story.heal();
    assert_eq!((story.primary(), story.end_of(number)), (1 - a, Outcome::Finished));
    story.end();
}

#[test]
fn configuration_travels_in_order_and_survives() {
    let mut story = Story::whole(Scenario::quiet(11));
    let (a, b) = (story.primary(), 1 - story.primary());
    for number in 0..20 {
        assert_eq!(story.command(a, &format!("add server box-{number} 10.0.2.{}", 100 + number)), "");
    }
    story.command(a, "rm server box-3");
    story.command(a, "add server box-3 10.0.2.203");
    story.run_ms(100);
    let lines = |story: &Story, machine: usize| story.node(machine).config().lines(holdfast_config::Scope::Shared);
    assert_eq!(lines(&story, a), lines(&story, b));
    assert!(story.command(b, "show server box-3").contains("10.0.2.203"));
    let refused = story.command(b, "add server mine 10.0.2.250");
    assert!(refused.starts_with("ERROR:"), "a secondary refuses changes: {refused}");
    story.command(a, "save ns config");
    story.run_ms(200);
    for machine in &story.world.machines {
        assert!(machine.stored_config.contains("add server box-3 10.0.2.203"), "stored on machine {}", machine.index);
    }
    let before = lines(&story, b);
    story.fault(Fault::Kill(a));
    story.until("promoted", |world| world.primary() == Some(b));
    assert_eq!(lines(&story, b), before);
    assert_eq!(story.command(b, "add server later 10.0.2.240"), "");
    story.end();
}

#[test]
fn every_way_to_end_a_connection_leaves_nothing_behind() {
    let mut story = Story::whole(Scenario::quiet(12));
    for manner in [Manner::ClientCloses, Manner::ServerCloses, Manner::ClientResets] {
        for vserver in [SNAT, USIP] {
            let number = story.open(Opening {
                manner,
                bytes: 500,
                reuse: true,
                ..Opening::plain(Instant::ZERO, vserver, false)
            });
            assert_eq!(story.end_of(number), Outcome::Finished, "{manner:?}");
        }
    }
    story.run_ms(100_000);
    for machine in 0..2 {
        let counts = story.node(machine).engine().counts();
        assert_eq!((counts.flows, counts.leases), (0, 0), "machine {machine}");
    }
    story.end();
}

#[test]
fn a_port_that_is_used_again_makes_a_new_connection() {
    let mut story = Story::whole(Scenario::quiet(13));
    for vserver in [SNAT, USIP, STATELESS] {
        let again = Opening { bytes: 500, reuse: true, ..Opening::plain(Instant::ZERO, vserver, false) };
        let first = story.open(again);
        assert_eq!(story.end_of(first), Outcome::Finished);
        let second = story.open(again);
        assert_eq!(story.connection(first).port, story.connection(second).port);
        assert_eq!(story.end_of(second), Outcome::Finished);
    }
    story.end();
}

/// The operator gives both nodes' passwords a value at one node.
fn change_password(story: &mut Story, machine: usize, password: &str) {
    for node in [1, 2] {
        assert_eq!(story.command(machine, &format!("set ns rpcNode 10.0.3.{node} -password {password}")), "");
    }
    story.run_ms(500);
}

#[test]
fn the_password_of_a_running_pair_is_changed_without_a_gap() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, term) = (story.primary(), story.node(story.primary()).term());
    let number = story.connect(SNAT, false);
    change_password(&mut story, primary, "another-word");
    let shown = story.command(primary, "show HA node");
    assert!(shown.contains("Peer Channel: UP (the peer still uses the former rpcNode password)"), "{shown}");
    let second = story.connect(USIP, true);
    change_password(&mut story, 1 - primary, "another-word");
    for machine in [0, 1] {
        story.command(machine, "save ns config");
        let shown = story.command(machine, "show HA node");
        assert!(shown.contains("Peer Channel: UP\n"), "{shown}");
    }
    assert_eq!((story.primary(), story.node(primary).term()), (primary, term), "nobody took over");
    assert_eq!(story.node(primary).engine().counters().hold_released_unprotected, 0);
    story.fault(Fault::Kill(primary));
    assert_eq!(story.end_of(number), Outcome::Finished);
    assert_eq!(story.end_of(second), Outcome::Finished);
    story.end();
}

#[test]
fn a_wrong_password_on_one_node_of_a_running_pair_changes_nothing_but_what_is_shown() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, term) = (story.primary(), story.node(story.primary()).term());
    change_password(&mut story, 1 - primary, "a-slip-of-the-pen");
    story.run_ms(5000);
    assert_eq!((story.primary(), story.node(primary).term()), (primary, term), "nobody took over");
    assert!(story.world.is_whole());
    let shown = story.command(1 - primary, "show HA node");
    assert!(shown.contains("(the peer still uses the former rpcNode password)"), "{shown}");
    change_password(&mut story, 1 - primary, "correct-horse");
    story.end();
}

#[test]
fn what_was_typed_before_a_planned_switchover_is_on_the_other_node() {
    let mut story = Story::whole(Scenario::quiet(1));
    story.fault(Fault::PeerLoss(300));
    let mut typed = 0;
    for round in 0..20 {
        let primary = story.primary();
        let line = format!("add server box-{round} 10.0.2.{}", 100 + round);
        assert_eq!(story.command(primary, &line), "");
        story.fault(Fault::ForceFailover);
        story.until("the switchover is over", |world| world.primary().is_some());
        if story.primary() != primary {
            typed += 1;
            let shown = story.command(story.primary(), &format!("show server box-{round}"));
            assert!(shown.contains(&format!("10.0.2.{}", 100 + round)), "round {round}: {shown}");
        }
        story.until("the pair is whole", World::is_whole);
        story.run_ms(1100);
    }
    assert!(typed >= 15, "most switchovers succeed: {typed}");
    story.end();
}

#[test]
fn a_node_that_hands_over_takes_no_command() {
    let mut story = Story::whole(slow_link(40));
    let primary = story.primary();
    story.fault(Fault::ForceFailover);
    assert_eq!(story.node(primary).role(), Role::Draining);
    while story.node(primary).role() == Role::Draining {
        for machine in [primary, 1 - primary] {
            // The successor may lead by now, and takes what it is told.
            if story.node(machine).role() != Role::Primary {
                let answer = story.command(machine, "add server late 10.0.2.99");
                assert!(answer.contains("Operation permitted only on primary node"), "machine {machine}: {answer}");
            }
        }
        story.run_ms(5);
    }
    story.until("the switchover is over", |world| world.primary() == Some(1 - primary));
    story.end();
}

#[test]
fn a_peer_link_that_is_dead_in_one_direction_does_not_swallow_the_mirror() {
    for deaf_is_primary in [false, true] {
        let mut story = Story::whole(Scenario::quiet(1));
        let primary = story.primary();
        story.fault(Fault::PeerDeaf(if deaf_is_primary { primary } else { 1 - primary }));
        story.run_ms(1000);
        let mut slow = 0;
        let mut connect = |n: usize| {
            let opened = story.world.now;
            let number = story.connect([SNAT, USIP][n % 2], n.is_multiple_of(2));
            slow += usize::from(story.world.now.since(opened).as_millis() > 20);
            number
        };
        let numbers: Vec<usize> = (0..5).map(&mut connect).collect();
        assert!(slow <= 1, "{slow} connections waited for a path that was known to be dead");
        let node = story.node(primary);
        assert_eq!(node.engine().counters().hold_released_unprotected, 0);
        assert_eq!((story.primary(), node.engine().counts().unprotected), (primary, 0));
        story.fault(Fault::Kill(primary));
        for number in numbers {
            assert_eq!(story.end_of(number), Outcome::Finished);
        }
        story.end();
    }
}

#[test]
fn a_rehearsal_tells_what_a_death_would_cost() {
    let mut story = Story::whole(Scenario::quiet(1));
    let primary = story.primary();
    for number in 0..4 {
        story.connect([SNAT, USIP][number % 2], number % 2 == 0);
    }
    let rehearse = |story: &mut Story| story.command(primary, "failover rehearse");
    let shown = rehearse(&mut story);
    assert!(shown.starts_with("If this node died now: 0 connections would be lost\n"), "{shown}");
    story.fault(Fault::Kill(1 - primary));
    story.run_ms(100);
    let shown = rehearse(&mut story);
    assert!(shown.starts_with("If this node died now: 4 connections would be lost\n"), "{shown}");
    assert!(shown.contains("the peer is not up"), "{shown}");
    story.heal();
    story.run_ms(100);
    let shown = rehearse(&mut story);
    assert!(shown.starts_with("If this node died now: 0 connections would be lost\n"), "{shown}");
    let secondary = story.command(1 - primary, "failover rehearse");
    assert!(secondary.contains("the other node has them"), "{secondary}");
    story.end();
}

#[test]
fn a_standby_that_is_too_small_is_never_taken_for_a_full_copy() {
    let mut story = Story::whole(Scenario { max_flows: [2048, 4], ..Scenario::quiet(1) });
    let primary = story.primary();
    assert_eq!(primary, 0);
    // What the peer has no room for goes unprotected here, and that is honest.
    story.world.checker.link_bad_until = Instant::FAR;
    for number in 0..8 {
        let opened = story.world.now;
        story.connect_for_long([SNAT, USIP][number % 2], false);
        assert!(story.world.now.since(opened).as_millis() < 100, "connection {number} waited for a peer without room");
    }
    story.run_ms(3000);
    assert_eq!(story.node(1).engine().counts().flows, 4);
    assert!(!story.node(1).caught_up());
    let counts = story.node(primary).engine().counts();
    assert!(counts.protected <= 4 && counts.unprotected >= 4, "{counts:?}");
    let shown = story.command(primary, "failover rehearse");
    assert!(shown.contains("the peer's table is full"), "{shown}");
    let node = story.command(primary, "show HA node 1");
    assert!(node.contains("Peer Channel: TABLE FULL (the peer has no room for all flows"), "{node}");
    let log = story.log();
    assert!(log.contains("not caught up: a flow found no room"), "{log}");
    let sessions = log.matches("the peer asks for another mirror session").count();
    assert!((1..12).contains(&sessions), "{sessions} sessions: they come with growing pauses");
    // As soon as all flows fit again, packets wait for the peer again.
    story.run_ms(60_000);
    for number in 0..8 {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.until("all that is left fits", World::is_whole);
    let acked = story.node(primary).engine().counters().hold_released_by_ack;
    let last = story.connect(SNAT, false);
    let node = story.node(primary).engine();
    assert_eq!((node.counters().hold_released_by_ack, node.counts().unprotected), (acked + 1, 0));
    story.fault(Fault::Kill(primary));
    assert_eq!(story.end_of(last), Outcome::Finished);
}

#[test]
fn a_flow_that_vanishes_from_the_standby_is_noticed_and_told_again_within_a_second() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let numbers: Vec<usize> = (0..6).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    story.run_ms(200);
    story.world.checker.may_differ = true;
    let now = story.world.now;
    let before = story.node(secondary).engine().counts().flows;
    assert!(story.world.machines[secondary].node.as_mut().is_some_and(|node| node.lose_a_flow(now)));
    assert_eq!(story.node(secondary).engine().counts().flows, before - 1);
    story.run_ms(1000);
    assert!(story.log().contains("not caught up: digests differ"), "{}", story.log());
    assert!(story.world.is_whole());
    assert_eq!(flows(&story, secondary).len(), flows(&story, primary).len());
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn mirror_mode_and_hold_limit_take_effect_at_once() {
    let mut story = Story::whole(slow_link(200));
    let primary = story.primary();
    let waited = |story: &Story, number: usize| {
        let connection = story.connection(number);
        connection.established.expect("it is").since(connection.opened).as_millis()
    };
    on_the_link_only(&mut story);
    let strict = story.connect(SNAT, false);
    // The peer link is slow; after a hello interval the records take a data port, too.
    assert!(waited(&story, strict) >= 90, "{}", waited(&story, strict));
    assert_eq!(story.command(primary, "set HA node -mirrorMode ASYNC"), "");
    story.world.reference.strict = false;
    let at_once = story.connect(USIP, false);
    assert!(waited(&story, at_once) < 50);
    assert_eq!(story.command(primary, "set HA node -mirrorMode STRICT -holdLimit 50"), "");
    story.world.checker.link_bad_until = Instant::FAR;
    on_the_link_only(&mut story);
    let limited = story.connect(SNAT, true);
    assert!((50..90).contains(&waited(&story, limited)), "{}", waited(&story, limited));
    story.end();
}

#[test]
fn a_vserver_that_is_switched_off_while_there_is_no_peer_has_nothing_to_lose() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.fault(Fault::Kill(secondary));
    story.until("lost", |world| !world.is_whole());
    for _ in 0..6 {
        story.connect_for_long(USIP, false);
    }
    assert_eq!(story.node(primary).engine().counts().unprotected, 6);
    assert_eq!(story.command(primary, "set lb vserver usip-v4 -connFailover DISABLED"), "");
    story.run_ms(50);
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.flows, counts.unprotected), (6, 0));
}

#[test]
fn switching_a_vserver_off_frees_both_nodes_and_switching_it_on_protects_what_is_open() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let numbers: Vec<usize> = (0..6).map(|_| story.connect(USIP, false)).collect();
    story.run_ms(50);
    let counts = |story: &Story, machine: usize| story.node(machine).engine().counts();
    assert_eq!((counts(&story, primary).protected, counts(&story, secondary).flows), (6, 6));
    assert_eq!(story.command(primary, "set lb vserver usip-v4 -connFailover DISABLED"), "");
    story.run_ms(50);
    let left = counts(&story, primary);
    assert_eq!((left.flows, left.protected, left.unprotected, left.in_session), (6, 0, 0, 0));
    assert_eq!(counts(&story, secondary).flows, 0);
    assert_eq!(story.command(primary, "set lb vserver usip-v4 -connFailover STATEFUL"), "");
    story.run_ms(50);
    assert_eq!((counts(&story, primary).protected, counts(&story, secondary).flows), (6, 6));
    story.fault(Fault::Kill(primary));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}
