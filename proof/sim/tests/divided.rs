//! A network that falls into two halves, with a machine, clients and servers in each, and is one again: what either
//! side opened meanwhile goes on, wherever it is served then.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::{FlowRecord, L2Disc, Phase};
use holdfast_ha::Role;
use holdfast_mirror::wire::{DataWriter, ROOM_FOR_ANY};
use holdfast_mirror::{MAX_NAMES, Names};
use holdfast_sim::apps::Outcome;
use holdfast_sim::link::Manners;
use holdfast_sim::scenario::{Fault, Opening, SNAT, UDP, USIP};
use holdfast_sim::world::World;
use holdfast_sim::{Scenario, Story};
use holdfast_wire::{Addr, Endpoint};

/// The kind of message that carries a mirror stream, or an offer.
const MIRROR_DATA: u8 = 2;

/// Two clients and two servers, one of each at each side.
fn halves() -> Scenario {
    Scenario { clients: 2, servers: 2, ..Scenario::quiet(1) }
}

/// Connections that last; by client and number.
type Open = Vec<(usize, usize)>;

/// Whether both lead.
fn both_lead(world: &World) -> bool {
    world.machines.iter().all(|machine| machine.node.as_ref().is_some_and(|node| node.role() == Role::Primary))
}

/// Whether the machine that follows has something to offer yet.
fn offers(world: &World, loser: usize) -> bool {
    world.machines[loser].node.as_ref().is_some_and(|node| node.role() == Role::Secondary && !node.caught_up())
}

/// Divides the network, and clients of both sides open connections; some go to a server of the other side, and open
/// when the network is one again.
fn divide(story: &mut Story) -> Open {
    story.fault(Fault::Divide(true));
    story.until("both lead", both_lead);
    let mut open = Open::new();
    for client in [0, 1] {
        // Every other one goes to the server of its own side.
        for (vserver, v6) in [(SNAT, false), (USIP, false), (SNAT, true), (USIP, true)].repeat(2) {
            let pause = Duration::from_millis(800);
            open.push((client, story.open(Opening { client, pause, ..Opening::plain(Instant::ZERO, vserver, v6) })));
        }
    }
    story.run_ms(1500);
    for client in [0, 1] {
        let established = open.iter().filter(|(c, n)| *c == client && connection(story, (client, *n)).0).count();
        assert!(established >= 2, "{established} connections of client {client} are established");
    }
    open
}

fn connection(story: &Story, (client, number): (usize, usize)) -> (bool, Outcome) {
    let connection = &story.world.clients[client].connections[number];
    (connection.established.is_some(), connection.outcome)
}

/// Waits until all have ended, each in order. Messages may be short, so that a connection takes many of them.
fn all_finish(story: &mut Story, open: &Open) {
    story.run_ms(60_000);
    for &(client, number) in open {
        story.until("it has ended", |world| world.clients[client].connections[number].ended.is_some());
        assert_eq!(
            connection(story, (client, number)).1,
            Outcome::Finished,
            "client {client}, {number}\n{}",
            story.log()
        );
    }
}

/// The machine that follows after the two have met.
fn loser(story: &mut Story) -> usize {
    story.until("they have met", |world| world.primary().is_some());
    1 - story.primary()
}

/// Flows offered by the loser, and adopted and refused by the winner.
fn counts(story: &Story, loser: usize) -> (u64, u64, u64) {
    let winner = story.node(1 - loser).engine().counters();
    (story.node(loser).engine().counters().flows_offered, winner.offers_adopted, winner.offers_refused())
}

#[test]
fn what_both_sides_opened_goes_on_when_the_network_is_one_again() {
    for seed in 1..=6 {
        let mut story = Story::whole(Scenario { seed, ..halves() });
        let open = divide(&mut story);
        story.fault(Fault::Divide(false));
        let loser = loser(&mut story);
        story.until("whole", World::is_whole);
        let (offered, adopted, refused) = counts(&story, loser);
        assert!(offered >= 2 && adopted == offered && refused == 0, "{:?}", (offered, adopted, refused));
        let shown = story.command(1 - loser, "show HA node");
        assert!(shown.contains(&format!("Offers Adopted: {adopted}  Offers Refused: 0\n")), "{shown}");
        all_finish(&mut story, &open);
        assert_eq!(story.node(1 - loser).engine().counters().resets_sent, 0);
        story.end();
    }
}

#[test]
fn an_offer_is_over_within_moments() {
    let mut story = Story::whole(halves());
    divide(&mut story);
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.until("it offers", |world| offers(world, loser));
    let met = story.world.now;
    story.until("whole", World::is_whole);
    let took = story.world.now.since(met);
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_peer_link_that_loses_and_jumbles_loses_no_connection() {
    let peer_manners = Manners {
        delay: Duration::from_millis(3),
        jitter: Duration::from_millis(20),
        loss_permille: 250,
        duplicate_permille: 100,
    };
    let mut story = Story::whole(Scenario { peer_manners, ..halves() });
    let open = divide(&mut story);
    story.fault(Fault::Divide(false));
    all_finish(&mut story, &open);
    story.end();
}

/// The winner, or the loser, fails this long after they have met.
fn fails(fault: fn(usize) -> Fault, winner: bool, after_us: u64) {
    let mut story = Story::whole(halves());
    divide(&mut story);
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.world.run_until(story.world.now + Duration::from_micros(after_us), |_| false);
    story.fault(fault(if winner { 1 - loser } else { loser }));
    story.run_ms(2000);
    // The model demands what the other one has to know.
    story.end();
}

#[test]
fn the_winner_dies_before_it_was_offered_anything() {
    for after in [0, 20, 50, 100, 200, 500, 1_000, 5_000, 20_000, 100_000] {
        fails(Fault::Kill, true, after);
        fails(Fault::PowerOff, true, after);
    }
}

#[test]
fn the_loser_dies_amid_its_offer() {
    for after in [0, 20, 50, 100, 200, 500, 1_000, 5_000, 20_000, 100_000] {
        fails(Fault::Kill, false, after);
        fails(|machine| Fault::Freeze(machine, Duration::from_millis(1500)), false, after);
    }
}

#[test]
fn when_the_winner_dies_as_soon_as_the_pair_is_whole_the_loser_has_everything() {
    let mut story = Story::whole(halves());
    let open = divide(&mut story);
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.until("whole", World::is_whole);
    story.fault(Fault::Kill(1 - loser));
    all_finish(&mut story, &open);
    story.end();
}

#[test]
fn when_the_loser_dies_as_soon_as_the_pair_is_whole_the_winner_has_everything() {
    let mut story = Story::whole(halves());
    let open = divide(&mut story);
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.until("whole", World::is_whole);
    story.fault(Fault::Kill(loser));
    all_finish(&mut story, &open);
    story.end();
}

#[test]
fn a_full_winner_keeps_its_own() {
    let mut story = Story::whole(halves());
    let open = divide(&mut story);
    let winner = {
        story.fault(Fault::Divide(false));
        1 - loser(&mut story)
    };
    // Once more, and this time there is room for nothing else.
    all_finish(&mut story, &open);
    story.end();
    let mut max_flows = halves().max_flows;
    max_flows[winner] = 8;
    let mut story = Story::whole(Scenario { max_flows, ..halves() });
    let open = divide(&mut story);
    let of_winner = open.iter().filter(|(client, _)| *client == winner);
    let established: std::collections::BTreeMap<usize, bool> =
        of_winner.map(|&one| (one.1, connection(&story, one).0)).collect();
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.run_ms(3000);
    let (_, adopted, refused) = counts(&story, loser);
    assert_eq!((loser, refused > 0), (1 - winner, true), "{adopted} adopted, {refused} refused");
    // One that was never open may wait for room for ever.
    let own = |one: &&(usize, usize)| one.0 == winner && established[&one.1];
    for &(client, number) in open.iter().filter(own) {
        story.until("it has ended", |world| world.clients[client].connections[number].ended.is_some());
        if story.world.reference.excuses(client, &story.world.clients[client].connections[number]) {
            continue;
        }
        assert_eq!(connection(&story, (client, number)).1, Outcome::Finished);
    }
}

#[test]
fn an_older_build_offers_nothing_and_is_offered_nothing() {
    for old in [0, 1] {
        let mut story = Story::whole(halves());
        if let Some(node) = &mut story.world.machines[old].node {
            node.speak_version(2, 1);
        }
        story.run_ms(500);
        divide(&mut story);
        story.fault(Fault::Divide(false));
        let loser = loser(&mut story);
        story.until("whole", World::is_whole);
        assert_eq!(counts(&story, loser), (0, 0, 0));
        assert_eq!(story.node(loser).engine().counts().stale, 0, "emptied at once");
        // And the model notices.
        story.run_ms(60_000);
        let (_, differences) = story.world.reference.compare(story.world.now, &story.world.clients);
        assert!(differences.iter().any(|what| what.contains("must survive")), "{differences:?}");
    }
}

#[test]
fn who_hands_over_or_comes_back_has_nothing_to_offer() {
    let mut story = Story::whole(halves());
    let kept: Vec<usize> = [SNAT, USIP, UDP].map(|kind| story.dial(kind, false)).to_vec();
    story.run_ms(500);
    story.fault(Fault::ForceFailover);
    story.until("handed over and whole", World::is_whole);
    story.run_ms(1000);
    let old = story.primary();
    story.fault(Fault::Kill(old));
    story.run_ms(1000);
    story.heal();
    for machine in [0, 1] {
        assert_eq!(counts(&story, machine), (0, 0, 0));
    }
    assert_eq!(story.end_of(kept[0]), Outcome::Finished);
    story.end();
}

#[test]
fn a_client_whose_connection_is_gone_is_reset_when_the_offer_is_over() {
    let mut story = Story::whole(halves());
    divide(&mut story);
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.until("whole", World::is_whole);
    let counters = story.node(1 - loser).engine().counters();
    assert_eq!(counters.resets_sent, 0, "nobody who is waited for");
    story.run_ms(500);
    let number = story.connect_for_long(SNAT, false);
    while story.world.machines[1 - loser].node.as_mut().is_some_and(|node| node.lose_a_flow(story.world.now)) {}
    story.until("reset", |world| world.clients[0].connections[number].ended.is_some());
    assert_eq!(story.connection(number).outcome, Outcome::Lost);
}

/// Two that parted before one of them led lead under one term, and both tell their state when they meet: neither
/// stream is an offer.
#[test]
fn who_parted_before_one_of_them_led_loses_nothing_either() {
    for seed in 1..=6 {
        let mut story = Story::begin(Scenario { seed, ..halves() });
        story.world.checker.strangers = true;
        let heard = |world: &World, text: &str| {
            world.machines.iter().all(|machine| machine.log.iter().any(|(_, _, line)| line.contains(text)))
        };
        story.until("they hear each other", |world| heard(world, "peer joined"));
        let open = divide(&mut story);
        assert_eq!(story.node(0).term(), story.node(1).term());
        story.fault(Fault::Divide(false));
        let loser = loser(&mut story);
        story.until("whole", World::is_whole);
        let (offered, adopted, refused) = counts(&story, loser);
        assert!(offered >= 2 && adopted == offered && refused == 0, "{:?}", (offered, adopted, refused));
        all_finish(&mut story, &open);
        story.end();
    }
}

/// A connection of this client that says something now and then only.
fn seldom(story: &mut Story, client: usize, pause: Duration) -> (usize, usize) {
    let opening = Opening { client, pause, bytes: 3_000, ..Opening::plain(Instant::ZERO, SNAT, false) };
    (client, story.open(opening))
}

/// A winner that was restarted lacks what the loser had told its former life, and is gone again before it has that.
#[test]
fn an_offer_that_a_second_split_cuts_off_is_made_again() {
    let mut story = Story::whole(halves());
    let winner = 1 - story.primary();
    let idle = seldom(&mut story, 1 - winner, Duration::from_secs(8));
    story.run_ms(1000);
    story.fault(Fault::Divide(true));
    story.until("both lead", both_lead);
    story.fault(Fault::Kill(winner));
    story.run_ms(100);
    story.fault(Fault::Start(winner));
    story.until("both lead", both_lead);
    let pause = Duration::from_millis(300);
    // Its monitors need a moment. Every other one goes to the server of its own side.
    story.run_ms(200);
    let call = Opening { client: winner, pause, ..Opening::plain(Instant::ZERO, SNAT, false) };
    let mut open: Open = [0, 1].map(|_| (winner, story.open(call))).to_vec();
    open.push(idle);
    story.run_ms(500);
    story.fault(Fault::Divide(false));
    assert_eq!(loser(&mut story), 1 - winner);
    story.until("it offers", |world| offers(world, 1 - winner));
    story.fault(Fault::Divide(true));
    story.until("both lead", both_lead);
    story.run_ms(500);
    let adopted = story.node(winner).engine().counters().offers_adopted;
    assert!(adopted < open.len() as u64, "the offer was over before it could be cut off: {adopted}");
    story.fault(Fault::Divide(false));
    assert_eq!(loser(&mut story), 1 - winner);
    story.until("whole", World::is_whole);
    all_finish(&mut story, &open);
    story.end();
}

/// A connection goes on at the side that gives way, for longer than it may be idle at the other one.
#[test]
fn what_went_on_at_the_other_side_was_not_idle() {
    let mut story = Story::whole(halves());
    let open = [0, 1].map(|client| seldom(&mut story, client, Duration::from_secs(20))).to_vec();
    story.run_ms(1000);
    story.fault(Fault::Divide(true));
    story.until("both lead", both_lead);
    story.run_ms(84_000);
    story.fault(Fault::Divide(false));
    story.until("whole", World::is_whole);
    // Until it has been idle for too long at the side that has not seen it, and its client speaks again.
    story.run_ms(20_000);
    all_finish(&mut story, &open);
    assert!([0, 1].map(|machine| story.node(machine).engine().counters().resets_sent) == [0; 2]);
    story.end();
}

/// The loser waits for as long as the winner may be silent, which is longer than it would be itself: a connection that
/// was used early in that time was used since the two were apart.
#[test]
fn what_was_used_while_the_silence_was_still_borne_is_offered() {
    let mut story = Story::whole(halves());
    let winner = 1 - story.primary();
    assert_eq!(story.command(winner, "set HA node -deadInterval 3"), "");
    // Every other one goes to the server of its own side, here and below.
    let idle = [0, 1].map(|_| seldom(&mut story, 1 - winner, Duration::from_secs(8)));
    story.run_ms(7_500);
    story.fault(Fault::Divide(true));
    // The winner will lack them, although it was told.
    while story.world.machines[winner].node.as_mut().is_some_and(|node| node.lose_a_flow(story.world.now)) {}
    story.world.checker.may_differ = true;
    story.until("both lead", both_lead);
    story.run_ms(1_000);
    let pause = Duration::from_millis(300);
    let call = Opening { client: winner, pause, ..Opening::plain(Instant::ZERO, SNAT, false) };
    let mut open: Open = [0, 1].map(|_| (winner, story.open(call))).to_vec();
    open.extend(idle);
    story.run_ms(500);
    story.fault(Fault::Divide(false));
    assert_eq!(loser(&mut story), 1 - winner);
    story.until("whole", World::is_whole);
    assert!(story.node(winner).engine().counters().offers_adopted > 0);
    all_finish(&mut story, &open);
    story.end();
}

/// The payloads of a stream with this number: flows that no vserver here is for.
fn stream(number: u32, flows: u16) -> Vec<Vec<u8>> {
    let end = |port| Endpoint { addr: Addr::from(core::net::IpAddr::from([203, 0, 113, 7])), port };
    let record = |port| FlowRecord {
        stamp: u64::from(port),
        proto: 6,
        l2: L2Disc(0),
        client: end(port),
        vip: end(1),
        server: end(2),
        source: end(port),
        phase: Phase::Established,
        client_idle_s: 90,
        server_idle_s: 90,
    };
    let mut names = Names::new(MAX_NAMES);
    let mut ports = (10..10 + flows).peekable();
    let mut payloads = Vec::new();
    while ports.peek().is_some() {
        let mut payload = Vec::new();
        let mut writer = DataWriter::new(&mut payload, number, payloads.len() as u64, &mut names);
        while writer.room() >= ROOM_FOR_ANY
            && let Some(port) = ports.next()
        {
            writer.flow(&record(port), None);
        }
        payloads.push(payload);
    }
    payloads
}

/// The secondary sends such a stream; how much of it the primary has judged by the end of the turn, and of the next.
fn hears(story: &mut Story, number: u32) -> [u64; 2] {
    let (winner, now) = (story.primary(), story.world.now);
    let term = story.node(winner).term();
    let mut judged = [0; 2];
    for payload in stream(number, 2_000) {
        let loser = story.world.machines[1 - winner].node.as_mut().expect("it runs");
        let closed = loser.close_for_peer(MIRROR_DATA, term, &payload).expect("a session");
        story.world.machines[winner].node.as_mut().expect("it runs").handle_peer_datagram(now, &closed);
    }
    for judged in &mut judged {
        *judged = story.node(winner).engine().counters().offers_unserved;
        story.world.machines[winner].node.as_mut().expect("it runs").handle_timeout(now);
    }
    judged
}

#[test]
fn a_turn_judges_so_much_of_an_offer_however_many_datagrams_it_had() {
    let mut story = Story::whole(halves());
    let [first, second] = hears(&mut story, 1 << 31 | 1);
    assert!(first == 0 && second > 0 && second <= 512, "{first} {second}");
}

#[test]
fn a_mirror_session_is_no_offer() {
    let mut story = Story::whole(halves());
    assert_eq!(hears(&mut story, 1), [0, 0]);
}

/// A winner in quarantine takes nothing for longer than the loser would wait for anything else.
#[test]
fn a_winner_in_quarantine_is_waited_for() {
    let mut story = Story::whole(halves());
    let open = divide(&mut story);
    for machine in [0, 1] {
        let node = story.world.machines[machine].node.as_mut().expect("it runs");
        node.quarantine_intake(story.world.now, Duration::from_secs(45));
    }
    story.fault(Fault::Divide(false));
    let loser = loser(&mut story);
    story.run_ms(44_000);
    assert_eq!(counts(&story, loser).1, 0);
    story.run_ms(10_000);
    let (offered, adopted, _) = counts(&story, loser);
    assert!(adopted > 0 && open.len() > 2, "{offered} {adopted}");
}

/// The loser's table has room for little else than what the winner tells.
#[test]
fn a_full_loser_says_what_made_room() {
    let mut story = Story::whole(halves());
    divide(&mut story);
    story.fault(Fault::Divide(false));
    let index = loser(&mut story);
    let mut max_flows = halves().max_flows;
    max_flows[index] = 8;
    let mut story = Story::whole(Scenario { max_flows, ..halves() });
    divide(&mut story);
    story.fault(Fault::Divide(false));
    assert_eq!(loser(&mut story), index);
    story.run_ms(3_000);
    let evicted = story.node(index).engine().counters().aside_evicted;
    assert!(evicted > 0 && story.log().contains("made room for the other side's"), "{evicted}");
}
