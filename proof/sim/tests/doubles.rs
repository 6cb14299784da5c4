//! Two failures, one after the other, every ordered pair of kinds; and peer
//! links that are slow, jumble, repeat and lose. The model judges each run;
//! here stands in addition which connections it must not have excused.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::link::Manners;
use holdfast_sim::reference::Statement;
use holdfast_sim::scenario::{Fault, Opening, SNAT, STICKY, UDP, USIP};
use holdfast_sim::world::World;
use holdfast_sim::{Scenario, Story};

/// Longer than the dead interval.
const LONG: Duration = Duration::from_millis(1500);

/// How a node fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Kill,
    Power,
    Freeze,
}

const FAILURES: [Failure; 3] = [Failure::Kill, Failure::Power, Failure::Freeze];

impl Failure {
    fn of(self, machine: usize) -> Fault {
        match self {
            Failure::Kill => Fault::Kill(machine),
            Failure::Power => Fault::PowerOff(machine),
            Failure::Freeze => Fault::Freeze(machine, LONG),
        }
    }
}

/// When the second failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The first node is still away.
    Away,
    /// It has returned and is told what it missed.
    Bulk,
    /// It has caught up.
    CaughtUp,
}

/// Who is struck second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// The node that took over.
    Successor,
    /// The node that failed first, again.
    Returning,
}

/// Opens a connection of every kind that must survive; their numbers.
fn connections(story: &mut Story) -> Vec<usize> {
    let kinds = [(SNAT, false), (USIP, false), (STICKY, true), (USIP, true)];
    let opening = |(kind, v6)| Opening { bytes: 4000, pause: LONG, ..Opening::plain(Instant::ZERO, kind, v6) };
    let numbers: Vec<usize> = kinds.into_iter().map(|kind| story.open(opening(kind))).collect();
    story.dial(UDP, false);
    let last = *numbers.last().expect("some were opened");
    story.until("established", |world| world.clients[0].connections[last].established.is_some());
    numbers
}

/// Waits for the moment of the second failure.
fn wait_for(story: &mut Story, moment: Moment, first: Failure, old: usize) {
    let successor = 1 - old;
    if moment == Moment::Away {
        return;
    }
    if first != Failure::Freeze {
        story.run_ms(300);
        story.fault(Fault::Start(old));
    }
    match moment {
        Moment::Away => {}
        Moment::Bulk => story.until("the transfer has begun", |world| {
            let node = world.machines[old].node.as_ref();
            world.machines[old].is_awake()
                && node.is_some_and(|node| node.role() == Role::Secondary && !node.caught_up())
        }),
        Moment::CaughtUp => story.until("whole again", World::is_whole),
    }
    assert_eq!(story.primary(), successor, "nobody takes the role back");
}

fn two_failures(first: Failure, second: Failure, moment: Moment, who: Second) {
    // A transfer takes a while, also on a data port.
    let peer_manners = Manners { delay: Duration::from_millis(10), ..Manners::CALM };
    let data_manners = Manners { delay: Duration::from_millis(2), ..Manners::CALM };
    let scenario = Scenario { peer_manners, data_manners, deaf_thaw: true, ..Scenario::quiet(1) };
    let mut story = Story::whole(scenario);
    let old = story.primary();
    let before = connections(&mut story);
    story.fault(first.of(old));
    // A frozen node does not know yet that it no longer leads.
    story.until("taken over", |world| {
        world.machines[1 - old].node.as_ref().is_some_and(|node| node.role() == Role::Primary)
    });
    // Clients have heard where the addresses are.
    story.run_ms(20);
    let between = connections(&mut story);
    wait_for(&mut story, moment, first, old);
    story.fault(second.of(if who == Second::Successor { 1 - old } else { old }));
    story.run_ms(2000);
    story.heal();
    let after = connections(&mut story);
    for number in before.iter().chain(&between).chain(&after) {
        let outcome = story.end_of(*number);
        let statement = story.world.reference.statement(0, story.connection(*number));
        let must = moment == Moment::CaughtUp || who == Second::Returning || after.contains(number);
        let told = format!("{first:?}, {second:?}, {moment:?}, {who:?}: connection {number}: {statement:?}");
        assert!(!must || matches!(statement, Statement::MustSurvive(_)), "{told}");
        assert!(!must || outcome == Outcome::Finished, "{told}, and is {outcome:?}");
    }
    story.end();
}

fn every_pair(moment: Moment, who: Second) {
    for first in FAILURES {
        for second in FAILURES {
            two_failures(first, second, moment, who);
        }
    }
}

#[test]
fn both_fail_and_the_pair_serves_again() {
    every_pair(Moment::Away, Second::Successor);
}

#[test]
fn the_successor_fails_while_the_other_is_told_what_it_missed() {
    every_pair(Moment::Bulk, Second::Successor);
}

#[test]
fn the_successor_fails_when_the_other_has_caught_up_and_nothing_is_lost() {
    every_pair(Moment::CaughtUp, Second::Successor);
}

#[test]
fn the_returning_node_fails_again_and_nothing_is_lost() {
    every_pair(Moment::Bulk, Second::Returning);
    every_pair(Moment::CaughtUp, Second::Returning);
}

/// What is opened while a node is being told what it missed, and was let
/// through, is on that node: it survives the death of the other.
#[test]
fn what_is_opened_during_bulk_is_known_at_once() {
    let peer_manners = Manners { delay: Duration::from_millis(40), ..Manners::CALM };
    let mut story = Story::whole(Scenario { peer_manners, ..Scenario::quiet(1) });
    let old = story.primary();
    story.fault(Fault::Kill(old));
    story.run_ms(500);
    story.fault(Fault::Start(old));
    story.until("the transfer has begun", |world| {
        world.machines[old].node.as_ref().is_some_and(|node| node.role() == Role::Secondary && !node.caught_up())
    });
    let plain = |n: usize| Opening::plain(Instant::ZERO, [SNAT, USIP][n % 2], n.is_multiple_of(3));
    let opening = |n| Opening { bytes: 4000, pause: LONG, ..plain(n) };
    let numbers: Vec<usize> = (0..6).map(|n| story.open(opening(n))).collect();
    story.until("the first is let through", |world| world.clients[0].connections[numbers[0]].established.is_some());
    story.fault(Fault::PowerOff(1 - old));
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

/// All manners that a peer link may have at once.
fn poor_links() -> [Manners; 4] {
    let link = |delay, jitter, loss_permille, duplicate_permille| Manners {
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        loss_permille,
        duplicate_permille,
    };
    [link(30, 0, 0, 0), link(1, 40, 0, 0), link(5, 20, 0, 300), link(5, 30, 150, 100)]
}

#[test]
fn a_poor_peer_link_costs_time_and_no_connection() {
    for peer_manners in poor_links() {
        for failure in FAILURES {
            for deaf in [None, Some(false), Some(true)] {
                let mut story = Story::whole(Scenario { peer_manners, ..Scenario::quiet(3) });
                let primary = story.primary();
                if let Some(deaf_is_primary) = deaf {
                    story.fault(Fault::PeerDeaf(if deaf_is_primary { primary } else { 1 - primary }));
                    story.run_ms(700);
                }
                let first = connections(&mut story);
                let second = connections(&mut story);
                story.fault(failure.of(primary));
                for number in first.iter().chain(&second) {
                    assert_eq!(story.end_of(*number), Outcome::Finished, "{peer_manners:?} {failure:?} {deaf:?}");
                }
                story.end();
            }
        }
    }
}
