//! The table "Evidence" of docs/ha.md, row by row: what a node sees of its peer, and what follows from it.
//! (Kill, orderly stop, forced failover and switchover are in `stories.rs`, health in `health.rs`.)

use core::time::Duration;

use holdfast_ha::Role;
use holdfast_node::StreamEvent;
use holdfast_sim::apps::Outcome;
use holdfast_sim::link::Manners;
use holdfast_sim::machine::Input;
use holdfast_sim::scenario::{Fault, SNAT};
use holdfast_sim::world::{CLIENT_SIDE, SERVER_SIDE, World};
use holdfast_sim::{Scenario, Story};

/// Whether the log of a machine has a line that contains this.
fn logged(story: &Story, machine: usize, text: &str) -> bool {
    story.world.machines[machine].log.iter().any(|(_, _, line)| line.contains(text))
}

/// How long the other machine takes to lead after a fault.
fn takeover(story: &mut Story, fault: Fault, old: usize) -> Duration {
    let at = story.world.now;
    story.fault(fault);
    story.until("the other leads", |world| world.primary() == Some(1 - old));
    story.world.now.since(at)
}

/// What a machine sees of the idle connection moves no role, and it does not give its peer up.
fn moves_nothing(story: &mut Story, machine: usize, event: StreamEvent) {
    let leads = story.primary();
    story.world.give(machine, Input::Stream(event));
    story.run_ms(500);
    assert_eq!(story.primary(), leads, "machine {machine} saw it");
    assert!(!logged(story, machine, "peer lost"), "machine {machine} saw it");
}

#[test]
fn silence_on_all_paths_for_the_dead_interval() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    let took = takeover(&mut story, Fault::PowerOff(old), old).as_millis();
    assert!((290..=420).contains(&took), "a dead interval after the last hello: {took} ms");
    assert!(logged(&story, 1 - old, "cause Silence"));
    story.heal();
    story.end();
}

/// A hello that is new ends the silence, however late: cut after cut that is shorter than the dead interval is no death.
#[test]
fn a_hello_in_time_ends_the_silence() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    let number = story.connect(SNAT, false);
    for _ in 0..8 {
        story.fault(Fault::Split(true));
        story.run_ms(250);
        story.fault(Fault::Split(false));
        story.run_ms(150);
        assert_eq!(story.primary(), old);
    }
    assert!(!logged(&story, 1 - old, "peer lost") && !logged(&story, old, "peer lost"));
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

/// The datagrams of a dead process that are still on their way make nobody believe that it lives, nor that its successor
/// has restarted.
#[test]
fn what_a_dead_process_has_said_may_come_late() {
    let late = Manners { delay: Duration::from_millis(1), jitter: Duration::from_millis(60), ..Manners::CALM };
    for of_primary in [false, true] {
        let mut story = Story::whole(Scenario { peer_manners: late, ..Scenario::quiet(3) });
        let old = story.primary();
        let dies = if of_primary { old } else { 1 - old };
        story.fault(Fault::Kill(dies));
        story.fault(Fault::Start(dies));
        story.until("whole", World::is_whole);
        let leads = if of_primary { 1 - old } else { old };
        assert_eq!(story.primary(), leads);
        story.run_ms(1000);
        assert_eq!(story.primary(), leads, "nothing that comes late moves the role");
        let lost =
            story.world.machines[1 - dies].log.iter().filter(|(_, _, line)| line.starts_with("peer lost")).count();
        assert_eq!(lost, 1, "one death is noticed once:\n{}", story.log());
        story.end();
    }
}

#[test]
fn nobody_leads_beside_a_living_peer_without_its_promise() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    story.fault(Fault::ForceFailover);
    let asked = story.world.now;
    story.until("the other leads", |world| world.primary() == Some(1 - old));
    assert!(logged(&story, 1 - old, "cause Switchover"), "by the promise of the old primary");
    assert!(story.world.now.since(asked).as_millis() < 5, "a round trip or two");
    story.end();
}

#[test]
fn a_goodbye_is_believed_at_once() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    story.fault(Fault::Stop(1 - old));
    story.until("it is gone", |world| world.machines[1 - old].node.is_none());
    story.run_ms(5);
    assert!(logged(&story, old, "peer lost: Goodbye"), "no silence is waited for");
    assert_eq!(story.primary(), old);
    story.heal();
    story.end();
}

#[test]
fn copies_of_hellos_are_no_sign_of_life() {
    let copies = Manners { duplicate_permille: 1000, jitter: Duration::from_millis(30), ..Manners::CALM };
    let mut story = Story::whole(Scenario { peer_manners: copies, data_manners: copies, ..Scenario::quiet(1) });
    let old = story.primary();
    let took = takeover(&mut story, Fault::PowerOff(old), old).as_millis();
    assert!(took <= 460, "the last hello counts once: {took} ms");
    story.heal();
    story.end();
}

#[test]
fn a_close_alone_proves_nothing() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    for machine in [1 - old, old] {
        moves_nothing(&mut story, machine, StreamEvent::Closed);
        assert!(logged(&story, machine, "FalseAlarm"), "machine {machine} has asked and was answered");
    }
    story.end();
}

/// On a long way no answer can come as soon as on a short one.
#[test]
fn a_close_alone_proves_nothing_on_a_long_way() {
    let far = Manners { delay: Duration::from_millis(5), ..Manners::CALM };
    let mut story = Story::whole(Scenario { peer_manners: far, data_manners: far, ..Scenario::quiet(1) });
    let old = story.primary();
    for machine in [1 - old, old] {
        moves_nothing(&mut story, machine, StreamEvent::Closed);
        assert!(logged(&story, machine, "FalseAlarm"), "machine {machine} has asked and was answered");
    }
    let took = takeover(&mut story, Fault::Kill(old), old).as_millis();
    assert!(took < 100, "three round trips prove a death: {took} ms");
    story.heal();
    story.end();
}

/// Whoever cuts the connection, and however busy the peer is just then.
#[test]
fn a_cut_connection_proves_nothing_while_the_peer_is_busy() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    for machine in [1 - old, old] {
        story.fault(Fault::Freeze(1 - machine, Duration::from_millis(100)));
        moves_nothing(&mut story, machine, StreamEvent::Cut);
    }
    story.end();
}

#[test]
fn another_boot_that_answers_is_a_restart() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    story.fault(Fault::PeerLink(false));
    story.run_ms(300);
    // No close is seen, and the process is back before anybody misses it.
    story.fault(Fault::Kill(old));
    story.fault(Fault::Start(old));
    story.fault(Fault::PeerLink(true));
    story.until("the other leads", |world| world.primary() == Some(1 - old));
    assert!(logged(&story, 1 - old, "peer lost: Restarted"));
    story.until("whole", World::is_whole);
    assert_eq!(story.primary(), 1 - old, "a restarted node never resumes");
    story.end();
}

#[test]
fn a_node_that_hears_nobody_leads_alone_after_the_start_up_interval() {
    let mut story = Story::begin(Scenario { first_only: true, ..Scenario::quiet(1) });
    story.until("it leads", |world| world.primary() == Some(0));
    let took = story.world.now.since(holdfast_base::Instant::ZERO).as_millis();
    assert!((1000..1200).contains(&took), "{took} ms");
    assert!(logged(&story, 0, "PromotedAlone"));
}

#[test]
fn a_primary_that_is_told_that_it_is_not_heard_gives_way_first() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    // Only the way from the secondary to the primary is left.
    story.fault(Fault::Cable(old, CLIENT_SIDE, false));
    story.fault(Fault::Cable(old, SERVER_SIDE, false));
    story.fault(Fault::PeerDeaf(1 - old));
    story.until("the other leads", |world| {
        world.machines[1 - old].node.as_ref().is_some_and(|node| node.role() == Role::Primary)
    });
    assert!(logged(&story, old, "cause Unheard"));
    assert_eq!(story.node(old).role(), Role::Secondary);
    story.heal();
    story.end();
}

#[test]
fn one_silent_path_is_shown_and_moves_nothing() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    story.fault(Fault::Cable(1 - old, SERVER_SIDE, false));
    story.run_ms(2000);
    assert_eq!(story.primary(), old);
    for machine in 0..2 {
        let text = story.command(machine, "show HA node 0");
        assert!(text.contains("Interfaces on which heartbeats are not seen : 1/2"), "{text}");
    }
    story.fault(Fault::Cable(1 - old, SERVER_SIDE, true));
    story.fault(Fault::PeerLink(false));
    story.run_ms(2000);
    assert_eq!(story.primary(), old, "the peer link is one path, too");
    story.heal();
    story.end();
}

/// A story with a connection that talks, in which a machine goes deaf.
fn with_a_deaf(primary: bool, scenario: Scenario) -> (Story, usize, usize, usize) {
    let mut story = Story::whole(scenario);
    let old = story.primary();
    let number = story.connect_for_long(SNAT, false);
    let deaf = if primary { old } else { 1 - old };
    story.fault(Fault::Deaf(deaf, true));
    (story, old, deaf, number)
}

/// A host tells everybody something, and this machine takes it although it hears nothing else.
fn stray(story: &mut Story, machine: usize) {
    let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 9, 9, 0x12, 0x34], &[0; 46]].concat();
    story.world.give(machine, Input::Frame(holdfast_engine::PortId(0), frame));
}

/// Runs, and counts primaries all the while.
fn run_with_one_primary(story: &mut Story, ms: u64) {
    for _ in 0..ms {
        story.run_ms(1);
        let leads =
            |machine: &holdfast_sim::machine::Machine| machine.node.as_ref().is_some_and(|n| n.role() == Role::Primary);
        assert!(story.world.machines.iter().filter(|machine| leads(machine)).count() <= 1, "two lead\n{}", story.log());
    }
}

#[test]
fn a_secondary_that_hears_nobody_at_all_does_not_take_over() {
    let (mut story, old, deaf, number) = with_a_deaf(false, Scenario::quiet(1));
    // Longer than a round of questions.
    run_with_one_primary(&mut story, 40_000);
    assert_eq!(story.primary(), old, "it is heard, and serves");
    assert!(logged(&story, deaf, "seems to be deaf") && !logged(&story, old, "Unheard"));
    assert!(story.command(deaf, "show HA node 0").contains("Hears Nothing Since"));
    story.heal();
    assert!(logged(&story, deaf, "hears the network again"));
    assert!(!story.command(deaf, "show HA node 0").contains("Hears Nothing Since"));
    assert!(story.connection(number).ended.is_none() || story.end_of(number) == Outcome::Finished);
    story.end();
}

#[test]
fn a_primary_that_hears_nobody_at_all_gives_its_role_away() {
    for witness in [false, true] {
        let (mut story, old, deaf, number) = with_a_deaf(true, Scenario { witness, ..Scenario::quiet(1) });
        let at = story.world.now;
        story.until("the other leads", |world| world.primary() == Some(1 - old));
        let took = story.world.now.since(at).as_millis();
        assert!((600..1500).contains(&took), "two dead intervals: {took} ms");
        assert!(logged(&story, deaf, "cause Deaf") || witness && logged(&story, deaf, "cause Unwitnessed"));
        run_with_one_primary(&mut story, 3_000);
        story.heal();
        assert_eq!(story.end_of(number), Outcome::Finished);
        story.end();
    }
}

#[test]
fn what_strangers_say_now_and_then_makes_no_deaf_node_lead() {
    for primary in [false, true] {
        for every in [150, 320, 1_000] {
            let (mut story, old, _, _) = with_a_deaf(primary, Scenario::quiet(1));
            let deaf = if primary { old } else { 1 - old };
            for _ in 0..8_000 / every {
                run_with_one_primary(&mut story, every);
                stray(&mut story, deaf);
            }
            if every > 200 {
                assert_eq!(story.world.primary(), Some(1 - deaf), "a word each {every} ms, deaf primary: {primary}");
            }
            story.heal();
            story.end();
        }
    }
}

#[test]
fn at_the_shortest_intervals_that_are_allowed_a_deaf_secondary_does_not_take_over_either() {
    for (hello, dead) in [(10, "0.03"), (100, "0.3"), (200, "0.6")] {
        for phase in 0..20 {
            let mut scenario = Scenario::quiet(1);
            for config in &mut scenario.extra_config {
                config.push_str(&format!("set HA node -helloInterval {hello} -deadInterval {dead}\n"));
            }
            let mut story = Story::whole(scenario);
            let old = story.primary();
            story.world.run_until(story.world.now + Duration::from_micros(hello * 50 * phase), |_| false);
            story.fault(Fault::Deaf(1 - old, true));
            stray(&mut story, 1 - old);
            run_with_one_primary(&mut story, 1_000);
            assert_eq!(story.world.primary(), Some(old), "{hello} ms, phase {phase}\n{}", story.log());
        }
    }
}

/// It hears everybody again but the other node: one of them leads, and it is the one that can be told nothing.
#[test]
fn who_was_deaf_and_still_does_not_hear_its_peer_leads_alone() {
    for primary in [false, true] {
        for deaf_for in [500, 1_500, 3_000] {
            let (mut story, old, deaf, number) = with_a_deaf(primary, Scenario::quiet(1));
            run_with_one_primary(&mut story, deaf_for);
            story.world.unheard[deaf] = true;
            story.fault(Fault::PeerDeaf(deaf));
            story.fault(Fault::Deaf(deaf, false));
            let mut twice = 0;
            for _ in 0..3_000 {
                story.run_ms(1);
                twice += u32::from(
                    story.world.primary().is_none()
                        && story
                            .world
                            .machines
                            .iter()
                            .all(|m| m.node.as_ref().is_some_and(|n| n.role() == Role::Primary)),
                );
            }
            assert!(twice < 10, "two led for {twice} ms\n{}", story.log());
            assert_eq!(story.world.primary(), Some(deaf), "old {old}, deaf for {deaf_for} ms\n{}", story.log());
            story.heal();
            assert_eq!(story.end_of(number), Outcome::Finished);
        }
    }
}

/// A node that was lost does not get the role with what it knew then.
#[test]
fn nobody_hands_over_to_a_peer_that_comes_back_with_an_old_state() {
    for fault in [Fault::Deaf(9, true), Fault::Cable(9, 9, false)] {
        let mut story = Story::whole(Scenario::quiet(1));
        let old = story.primary();
        let strike = |story: &mut Story, back: bool| match fault {
            Fault::Deaf(..) => story.fault(Fault::Deaf(1 - old, !back)),
            _ => {
                story.fault(Fault::Cable(1 - old, CLIENT_SIDE, back));
                story.fault(Fault::Cable(1 - old, SERVER_SIDE, back));
                story.fault(Fault::PeerLink(back));
            }
        };
        strike(&mut story, false);
        story.run_ms(3000);
        let number = story.connect_for_long(SNAT, false);
        story.run_ms(500);
        story.command(old, "set HA node -haStatus STAYSECONDARY");
        strike(&mut story, true);
        story.until("it has the role", |world| world.primary() == Some(1 - old));
        story.run_ms(30_000);
        assert_eq!(story.end_of(number), Outcome::Finished, "{}", story.log());
    }
}

#[test]
fn a_deaf_secondary_is_not_waited_for() {
    let (mut story, old, _, _) = with_a_deaf(false, Scenario::quiet(1));
    story.until("its primary goes on alone", |world| {
        world.machines[old].node.as_ref().is_some_and(|node| !node.mirrors())
    });
    let shown = story.command(old, "show HA node 1");
    assert!(shown.contains("DOWN"), "{shown}");
    story.heal();
    story.end();
}

#[test]
fn who_could_hear_nobody_takes_over_with_the_first_answer() {
    let mut story = Story::whole(Scenario::quiet(1));
    let old = story.primary();
    story.fault(Fault::Cable(1 - old, SERVER_SIDE, false));
    story.run_ms(3000);
    assert_eq!(story.primary(), old);
    story.fault(Fault::PowerOff(old));
    story.run_ms(2000);
    assert_eq!(story.world.primary(), None, "nobody is there that it could serve");
    let took = takeover(&mut story, Fault::Cable(1 - old, SERVER_SIDE, true), old).as_millis();
    assert!(took < 600, "a server answers the next question: {took} ms");
    story.heal();
    story.end();
}

#[test]
fn who_hears_nobody_takes_over_where_nobody_is_known_to_answer() {
    let mut story = Story::whole(Scenario { servers: 0, clients: 0, ..Scenario::quiet(1) });
    let old = story.primary();
    let took = takeover(&mut story, Fault::PowerOff(old), old).as_millis();
    assert!((300..500).contains(&took), "{took} ms");
}
