//! One behaviour each, as a story that a newcomer can read.

mod health;
mod pair_kit;

use holdfast_base::{Duration, Instant};
use holdfast_ha::{
    Cause, Effect, Event, HaStatus, Hello, HelloKind, LostCause, Machine, NodeId, Refusal, Role, Settings,
};
use pair_kit::Pair;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_standalone_node_is_primary_at_once_and_needs_no_lease() {
    let mut one = pair_kit::standalone();
    assert_eq!(one.role(), Role::Primary);
    assert_eq!(one.lease_expiry(), None);
    assert_eq!(one.poll_timeout(), None);
    let first = one.poll_effect();
    assert_eq!(first, Some(Effect::Role { role: Role::Primary, term: 1, cause: Cause::Standalone }));
}

#[test]
fn at_cold_start_the_higher_stored_term_wins() {
    let mut pair = Pair::with_terms(3, 7);
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    assert!(pair.b().term() > 7);
}

#[test]
fn at_cold_start_with_equal_terms_the_lower_node_id_wins() {
    let mut pair = Pair::with_terms(5, 5);
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
}

#[test]
fn a_node_whose_peer_is_never_heard_waits_the_start_up_interval() {
    let mut pair = Pair::with_terms(0, 0);
    pair.kill(1);
    pair.run(ms(990));
    assert_eq!(pair.a().role(), Role::Init);
    pair.run(ms(20));
    assert_eq!(pair.a().role(), Role::Primary);
    assert!(pair.saw(0, Effect::Event(Event::PromotedAlone)));
}

#[test]
fn a_node_that_heard_nobody_waits_while_an_unproven_primary_speaks() {
    let mut machine = Machine::new(Instant::ZERO, Settings::new(NodeId(1), Some(NodeId(2))), 7, 0);
    let mut live = |from: u64, to: u64, unproven: bool| {
        for now in (from..to).step_by(50).map(|at| Instant::ZERO + ms(at)) {
            machine.handle_turn(now);
            if unproven {
                machine.handle_unproven_primary(now);
            }
            machine.handle_timeout(now);
            while let Some(effect) = machine.poll_effect() {
                if let Effect::StoreTerm(term) = effect {
                    machine.handle_term_stored(now, term);
                }
            }
        }
        machine.role()
    };
    assert_ne!(live(0, 5000, true), Role::Primary);
    assert_eq!(live(5000, 6100, false), Role::Primary, "it has fallen silent for the start-up interval");
}

#[test]
fn a_caught_up_secondary_takes_over_milliseconds_after_a_kill() {
    let mut pair = Pair::settled();
    pair.kill(0);
    pair.run(ms(4));
    pair.close_seen_by(1);
    pair.run(ms(4));
    assert_eq!(pair.b().role(), Role::Primary);
    assert!(pair.saw_role(1, Role::Primary, Cause::PeerDied));
    let boot = pair.boot_of(0);
    assert!(pair.saw(1, Effect::PeerLost { boot, cause: LostCause::ProcessDeath }));
}

#[test]
fn a_forged_close_makes_nobody_primary() {
    let mut pair = Pair::settled();
    pair.close_seen_by(1);
    pair.run(ms(500));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(pair.saw(1, Effect::Event(Event::FalseAlarm)));
}

#[test]
fn after_a_power_cut_the_silence_of_one_dead_interval_promotes() {
    let mut pair = Pair::settled();
    pair.kill(0);
    pair.run(ms(290));
    assert_eq!(pair.b().role(), Role::Secondary);
    pair.run(ms(130));
    assert!(pair.saw_role(1, Role::Primary, Cause::Silence));
}

#[test]
fn a_secondary_that_has_not_caught_up_waits_longer_and_says_so() {
    let mut pair = Pair::with_terms(0, 0);
    pair.run(ms(300));
    pair.kill(0);
    pair.run(ms(850));
    assert_eq!(pair.b().role(), Role::Secondary);
    pair.run(ms(250));
    assert_eq!(pair.b().role(), Role::Primary);
    assert!(pair.saw(1, Effect::Event(Event::PromotedNotCaughtUp)));
}

#[test]
fn a_frozen_primary_closes_its_gate_in_its_first_turn() {
    let mut pair = Pair::settled();
    pair.freeze(0, ms(450));
    let now = pair.now();
    assert!(pair.a_mut().handle_turn(now), "before any frame is looked at");
    assert_eq!(pair.a().role(), Role::Secondary);
    pair.run(ms(50));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
}

#[test]
fn a_thawed_primary_without_a_peer_listens_for_one_dead_interval() {
    let mut pair = Pair::settled();
    pair.kill(1);
    pair.run(ms(500));
    pair.freeze(0, ms(700));
    pair.run(ms(390));
    assert_eq!(pair.a().role(), Role::Secondary);
    pair.run(ms(20));
    assert_eq!(pair.a().role(), Role::Primary);
}

#[test]
fn the_lease_ends_before_the_peer_loses_patience() {
    let mut pair = Pair::settled();
    let lease = pair.a().lease_expiry().expect("a primary with a peer has a lease");
    pair.kill(0);
    while pair.b().role() != Role::Primary {
        pair.run(ms(1));
    }
    assert!(pair.now() >= lease + ms(40), "two margins apart");
}

#[test]
fn a_primary_that_restarts_at_once_does_not_resume() {
    let mut pair = Pair::settled();
    let old = pair.boot_of(0);
    pair.kill(0);
    pair.run(ms(20));
    pair.restart(0);
    pair.run(ms(210));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    let lost = Effect::PeerLost { boot: old, cause: LostCause::Restarted };
    let joined = Effect::PeerJoined { boot: pair.boot_of(0) };
    assert!(pair.position(1, lost) < pair.position(1, joined), "first lost, then joined");
}

#[test]
fn a_forced_failover_takes_one_round_trip() {
    let mut pair = Pair::settled();
    let now = pair.now();
    pair.a_mut().handle_force_failover(now).expect("the peer has caught up");
    assert_eq!(pair.a().role(), Role::Draining);
    pair.run(ms(4));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    assert!(pair.saw_role(1, Role::Primary, Cause::Switchover));
}

#[test]
fn a_failover_that_nobody_takes_up_is_called_off() {
    let mut pair = Pair::settled();
    let now = pair.now();
    pair.a_mut().handle_force_failover(now).expect("the peer has caught up");
    pair.kill(1);
    pair.run(ms(1500));
    assert!(pair.saw_role(0, Role::Primary, Cause::SwitchoverFailed));
}

#[test]
fn a_forced_failover_is_refused_with_the_models_numbers() {
    let mut pair = Pair::with_terms(0, 0);
    pair.run(ms(300));
    let now = pair.now();
    let code = |answer: Result<(), Refusal>| answer.expect_err("refused").code();
    assert_eq!(code(pair.b_mut().handle_force_failover(now)), 365, "not primary");
    assert_eq!(code(pair.a_mut().handle_force_failover(now)), 366, "not caught up");
    pair.kill(1);
    pair.run(ms(500));
    let now = pair.now();
    assert_eq!(code(pair.a_mut().handle_force_failover(now)), 1449, "the peer is down");
    assert_eq!(code(pair_kit::standalone().handle_force_failover(now)), 363, "standalone");
    let mut pair = Pair::settled();
    pair.set_status(1, HaStatus::StaySecondary);
    pair.run(ms(150));
    let now = pair.now();
    assert_eq!(code(pair.a_mut().handle_force_failover(now)), 364, "the peer stays secondary");
    pair.set_status(0, HaStatus::StayPrimary);
    assert_eq!(code(pair.a_mut().handle_force_failover(now)), 1441, "stays primary");
}

#[test]
fn a_stopped_primary_hands_over_and_says_goodbye() {
    let mut pair = Pair::settled();
    let now = pair.now();
    pair.a_mut().handle_stop(now);
    pair.run(ms(10));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
    assert!(pair.saw(0, Effect::Event(Event::Stopped)));
    let boot = pair.boot_of(0);
    assert!(pair.saw(1, Effect::PeerLost { boot, cause: LostCause::Goodbye }));
}

#[test]
fn after_a_partition_the_node_that_served_clients_last_remains() {
    let mut pair = Pair::settled();
    pair.cut(true);
    pair.run(ms(600));
    assert_eq!(pair.roles(), (Role::Primary, Role::Primary), "nobody can know better");
    pair.run(ms(600));
    let now = pair.now();
    pair.a_mut().handle_client_packet_seen(now);
    pair.cut(false);
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary), "though its term was lower");
    assert!(pair.a().term() > 2 && pair.a().term() == pair.b().term());
}

#[test]
fn after_a_partition_without_clients_the_higher_term_remains() {
    let mut pair = Pair::settled();
    pair.cut(true);
    pair.run(ms(1200));
    pair.cut(false);
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
}

#[test]
fn a_node_without_a_durable_term_never_leads() {
    let mut pair = Pair::with_terms(0, 0);
    pair.break_disk(0);
    pair.kill(1);
    pair.run(ms(5000));
    assert_eq!(pair.a().role(), Role::Secondary);
    pair.mend_disk(0);
    pair.run(ms(10));
    assert_eq!(pair.a().role(), Role::Primary);
}

#[test]
fn a_broken_disk_lets_the_other_node_lead() {
    let mut pair = Pair::with_terms(0, 0);
    pair.break_disk(0);
    pair.run(ms(1200));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
}

#[test]
fn a_node_that_stays_secondary_never_leads() {
    let mut pair = Pair::settled();
    pair.set_status(1, HaStatus::StaySecondary);
    pair.kill(0);
    pair.run(ms(3000));
    assert_eq!(pair.b().role(), Role::Secondary);
}

#[test]
fn a_node_that_stays_primary_gets_the_role_from_a_willing_peer() {
    let mut pair = Pair::settled();
    pair.set_status(1, HaStatus::StayPrimary);
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
}

#[test]
fn a_disabled_node_keeps_its_role_whatever_the_peer_wants() {
    let mut pair = Pair::settled();
    pair.set_status(0, HaStatus::Disabled);
    pair.set_status(1, HaStatus::StayPrimary);
    pair.run(ms(1000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    pair.set_status(0, HaStatus::Enabled);
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary));
}

#[test]
fn a_standalone_node_that_stays_secondary_leads_nobody() {
    let settings = |status| Settings { status, ..Settings::new(NodeId(1), None) };
    let mut machine = Machine::new(Instant::ZERO, settings(HaStatus::StaySecondary), 1, 0);
    assert_eq!(machine.role(), Role::Secondary);
    machine.set_settings(Instant::ZERO, settings(HaStatus::Enabled));
    assert_eq!(machine.role(), Role::Primary);
    machine.set_settings(Instant::ZERO, settings(HaStatus::StaySecondary));
    assert_eq!(machine.role(), Role::Primary, "there is nobody to whom it could give what it serves");
}

#[test]
fn a_late_letter_of_a_dead_process_is_not_a_restart() {
    let mut pair = Pair::settled();
    let mut ghost = pair.last_hello(0);
    ghost.boot ^= 1;
    ghost.role = Role::Init;
    pair.inject(1, &ghost);
    pair.run(ms(1000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(!pair.saw(1, Effect::PeerJoined { boot: ghost.boot }));
}

#[test]
fn an_old_copy_of_a_hello_is_not_a_sign_of_life() {
    let mut pair = Pair::settled();
    let copy = pair.last_hello(0);
    assert_eq!(copy.kind, HelloKind::Hello);
    pair.kill(0);
    for _ in 0..45 {
        pair.run(ms(10));
        pair.inject(1, &copy);
    }
    assert_eq!(pair.b().role(), Role::Primary);
}

#[test]
fn a_stall_of_the_secondary_is_not_silence_of_the_primary() {
    let mut pair = Pair::settled();
    pair.freeze_and_lose_mail(1, ms(390));
    pair.cut(true);
    pair.run(ms(250));
    assert_eq!(pair.b().role(), Role::Secondary, "it has listened for 350 ms at most");
    pair.run(ms(200));
    assert_eq!(pair.b().role(), Role::Primary);
}

#[test]
fn a_late_turn_at_the_end_of_the_silence_listens_once_more() {
    for half_millis in 600..900 {
        let mut pair = Pair::settled();
        pair.kill(0);
        pair.run(Duration::from_micros(500) * half_millis);
        if pair.b().role() == Role::Primary {
            return;
        }
        pair.freeze(1, ms(30));
        let now = pair.now();
        pair.b_mut().handle_timeout(now);
        assert_eq!(pair.b().role(), Role::Secondary, "what came meanwhile is still unread");
    }
    panic!("the silence of a dead primary never ends");
}

#[test]
fn a_stall_while_probing_is_not_the_peers_death() {
    let mut pair = Pair::settled();
    pair.close_seen_by(1);
    pair.run(Duration::from_micros(500));
    pair.freeze(1, ms(10));
    let now = pair.now();
    pair.b_mut().handle_timeout(now);
    assert_eq!(pair.b().role(), Role::Secondary, "the answers are still unread");
    pair.run(ms(10));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
}

#[test]
fn the_longer_dead_interval_of_the_two_counts() {
    let mut pair = Pair::settled();
    pair.set_dead(0, ms(800));
    pair.run(ms(200));
    pair.kill(0);
    pair.run(ms(690));
    assert_eq!(pair.b().role(), Role::Secondary, "the primary's lease may still run");
    pair.run(ms(130));
    assert_eq!(pair.b().role(), Role::Primary);
}

#[test]
fn a_new_follower_no_longer_claims_to_hold_the_state() {
    let mut pair = Pair::settled();
    let now = pair.now();
    pair.a_mut().handle_force_failover(now).expect("the peer has caught up");
    pair.run(ms(10));
    let (boot, term) = (pair.boot_of(1), pair.b().term());
    assert!(pair.saw(0, Effect::Follow { boot, term }), "the tables are emptied");
    assert!(!pair.last_hello(0).caught_up);
    assert!(!pair.a().status().caught_up);
}

#[test]
fn a_promise_is_kept_even_if_the_peer_seems_dead() {
    let mut pair = Pair::settled();
    let mut probe = pair.last_hello(0);
    probe.kind = HelloKind::Probe { nonce: 5 };
    probe.seq += 1000;
    probe.role = Role::Secondary;
    pair.kill(0);
    pair.inject(1, &probe);
    pair.run(ms(2));
    assert_eq!(pair.last_hello(1).promise_ms, 400, "the lower node id outranks us");
    pair.close_seen_by(1);
    pair.run(ms(390));
    assert_eq!(pair.b().role(), Role::Secondary, "the peer may lead on our word");
    pair.run(ms(20));
    assert_eq!(pair.b().role(), Role::Primary);
}

#[test]
fn nothing_is_promised_to_a_node_of_lower_rank() {
    let mut pair = Pair::settled();
    let mut probe = pair.last_hello(0);
    probe.kind = HelloKind::Probe { nonce: 5 };
    probe.seq += 1000;
    probe.role = Role::Init;
    probe.caught_up = false;
    pair.kill(0);
    pair.inject(1, &probe);
    pair.run(ms(1));
    let promised = |hello: &holdfast_ha::Hello| hello.promise_ms != 0;
    assert!(!pair.hellos_of(1).iter().any(promised));
}

#[test]
fn a_longer_dead_interval_lengthens_the_lease_only_when_the_peer_knows_of_it() {
    let mut pair = Pair::settled();
    let left = |pair: &Pair| pair.a().lease_expiry().expect("a lease runs").since(pair.now());
    pair.set_dead(0, ms(2000));
    pair.run(ms(390));
    assert!(left(&pair) <= ms(360), "a peer that has not heard of it may act as before");
    pair.run(ms(20));
    assert!(left(&pair) > ms(1500), "by now it waits for the longer interval");
}

#[test]
fn a_longer_hello_interval_deposes_nobody() {
    for alone in [false, true] {
        let mut pair = Pair::settled();
        if alone {
            pair.kill(1);
            pair.run(ms(2000));
        }
        for (hello, dead) in [(1000, 30_000), (100, 1000), (2000, 60_000), (3000, 60_000)] {
            for node in 0..2 {
                pair.set(node, |settings| (settings.hello, settings.dead) = (ms(hello), ms(dead)));
                pair.run(ms(150));
            }
            pair.run(ms(7000));
            assert_eq!(pair.a().role(), Role::Primary, "alone: {alone}, hello {hello}");
        }
        assert!(!pair.saw_role(0, Role::Secondary, Cause::Frozen));
    }
}

#[test]
fn a_primary_is_not_deposed_by_what_its_lost_peer_said_before_they_parted() {
    let mut pair = Pair::settled();
    let silent = pair.last_hello(1);
    pair.cut(true);
    pair.run(ms(1200));
    assert_eq!(pair.roles(), (Role::Primary, Role::Primary));
    let now = pair.now();
    pair.a_mut().handle_client_packet_seen(now);
    // It waited on the way: nothing heard for longer than the dead interval, and about to lead.
    let late = Hello { seq: silent.seq + 1, silence_ms: 500, ready: true, ..silent };
    pair.cut(false);
    pair.inject(0, &late);
    pair.run(ms(1000));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary), "it served clients last");
    assert!(!pair.saw_role(0, Role::Secondary, Cause::Unheard));
}

/// A cut has healed; the old primary served clients last, and its disk does not answer.
fn healed_with_a_dead_disk() -> Pair {
    let mut pair = Pair::settled();
    pair.cut(true);
    pair.run(ms(1200));
    let now = pair.now();
    pair.a_mut().handle_client_packet_seen(now);
    pair.break_disk(0);
    pair.cut(false);
    pair
}

#[test]
fn a_primary_whose_disk_does_not_answer_yields_instead_of_outbidding() {
    let mut pair = healed_with_a_dead_disk();
    pair.run(ms(200));
    assert_eq!(pair.a().role(), Role::Primary, "it was the one that served clients, and waits for its disk");
    pair.run(ms(300));
    assert_eq!(pair.roles(), (Role::Secondary, Role::Primary), "but not for ever");
}

#[test]
fn a_primary_that_waits_to_outbid_one_that_dies_stays_primary() {
    let mut pair = healed_with_a_dead_disk();
    pair.run(ms(20));
    pair.kill(1);
    pair.close_seen_by(0);
    pair.run(ms(1000));
    assert_eq!(pair.a().role(), Role::Primary);
}

/// The whole story lies within the primary's patience, so it notices nothing; only
/// the hello tells it that its session is not read any more.
#[test]
fn a_secondary_that_led_unnoticed_says_that_it_holds_nothing() {
    let mut pair = Pair::settled();
    let (boot, term) = (pair.boot_of(0), pair.a().term());
    pair.cut(true);
    while pair.last_hello(1).silence_ms < 360 {
        pair.run(ms(1));
    }
    let late = pair.last_hello(1);
    pair.run(ms(20));
    pair.inject(0, &late);
    pair.run(ms(30));
    assert_eq!(pair.roles(), (Role::Primary, Role::Primary));
    pair.freeze(1, ms(362));
    pair.cut(false);
    pair.run(ms(50));
    assert_eq!(pair.roles(), (Role::Primary, Role::Secondary));
    assert!(pair.saw(1, Effect::Follow { boot, term }), "it follows the same primary again");
    let unnoticed = LostCause::Silence;
    assert!(!pair.saw(0, Effect::PeerLost { boot: pair.boot_of(1), cause: unnoticed }));
    assert!(!pair.last_hello(1).caught_up);
}
