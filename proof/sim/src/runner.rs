//! One run: the pair becomes whole, breaks, is mended, becomes whole again …
//! and at the end everything is judged.

use core::time::Duration;

use holdfast_base::{Instant, Rng};
use holdfast_node::Node;

use crate::apps::Outcome;
use crate::check::Checker;
use crate::reference::Tally;
use crate::scenario::{DISABLED, Fault, Opening, SNAT, STICKY, Scenario, UDP, USIP};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, World};

/// The pair must be whole this long after the last thing was mended.
const WHOLE_WITHIN: Duration = Duration::from_secs(15);
/// Connections must have ended this long after the last fault.
const FINISH_WITHIN: Duration = Duration::from_secs(240);
/// After this long without traffic every flow has timed out.
const ALL_FORGOTTEN: Duration = Duration::from_secs(250);
/// One run in so many waits for every time-out, to find leaks.
const LEAK_RUNS: u64 = 4;

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was violated; empty is good.
    pub violations: Vec<String>,
    /// What was done, for the reader.
    pub story: Vec<String>,
    /// Connections that the clients saw established.
    pub established: usize,
    /// What the model said of them.
    pub tally: Tally,
    /// Promotions.
    pub promotions: u64,
    /// Packets that fast paths have forwarded.
    pub bypassed: u64,
    /// A standby had no room for a flow.
    pub short_of_room: bool,
    /// Events handled.
    pub steps: u64,
    /// The logs of both machines.
    pub log: Vec<String>,
}

/// Runs a seed.
pub fn run_seed(seed: u64) -> Report {
    run(Scenario::from_seed(seed))
}

/// Runs a seed and notes every frame in the log.
pub fn run_traced(seed: u64) -> Report {
    let mut world = World::new(Scenario::from_seed(seed));
    world.traced = true;
    run_world(world)
}

/// Runs a scenario to its end.
pub fn run(scenario: Scenario) -> Report {
    run_world(World::new(scenario))
}

fn run_world(mut world: World) -> Report {
    let (seed, rounds) = (world.scenario.seed, world.scenario.rounds);
    let mut rng = Rng::from_seed(seed ^ 0xfa);
    if become_whole(&mut world, "after the start") {
        for _ in 0..rounds {
            if !round(&mut world, &mut rng) {
                break;
            }
        }
        if world.scenario.divides && !world.checker.failed() {
            divided_round(&mut world, &mut Rng::from_seed(seed ^ 0xd1));
        }
    }
    if !world.checker.failed() {
        finish(&mut world, seed);
    }
    report(seed, world)
}

/// One round of faults and their mending. False when the run is over.
fn round(world: &mut World, rng: &mut Rng) -> bool {
    let strike = moment(world, rng);
    world.run_until(strike, |_| false);
    judge_protection(world);
    let Some(primary) = world.primary() else { return become_whole(world, "in a pause") };
    type_something(world, rng, primary);
    let mut stopping = None;
    for (after, fault) in choose(rng, primary) {
        world.run_until(world.now + after, |_| false);
        world.apply(fault);
        if let Fault::Stop(machine) = fault {
            stopping = Some(machine);
        }
    }
    if world.scenario.witness {
        for fault in world.witness.faults() {
            world.apply(fault);
        }
    }
    let outage = Duration::from_millis(300 + rng.below(3000));
    world.run_until(world.now + outage, |_| false);
    // A hand-over may have to wait until a promise has run out; who is stopped is started again only when it has ended.
    world.run_until(world.now + WHOLE_WITHIN, |world| {
        stopping.is_none_or(|machine| world.machines[machine].node.is_none())
    });
    if world.checker.failed() {
        return false;
    }
    world.checker.story.push((world.now, "everything is mended".into()));
    world.heal();
    become_whole(world, "after a fault was mended")
}

/// The network is divided, each side serves its clients, and it is one again: in quiet, with a peer link that loses,
/// or while one of the nodes fails.
fn divided_round(world: &mut World, rng: &mut Rng) {
    let apart = 700 + rng.below(3000);
    world.apply(Fault::Divide(true));
    for _ in 0..4 + rng.below(12) {
        let vserver = [SNAT, USIP, UDP, STICKY, DISABLED, SNAT, USIP][rng.below(7) as usize];
        world.plan_opening(Opening {
            client: rng.below(world.clients.len() as u64) as usize,
            bytes: 1 + rng.below(30_000),
            pause: Duration::from_millis(rng.below(300)),
            reuse: rng.chance(1, 6),
            ..Opening::plain(world.now + Duration::from_millis(rng.below(apart + 100)), vserver, rng.chance(1, 3))
        });
    }
    world.run_until(world.now + Duration::from_millis(apart), |_| false);
    if rng.chance(1, 3) {
        world.apply(Fault::PeerLoss(50 + rng.below(350)));
    }
    world.apply(Fault::Divide(false));
    if rng.chance(1, 2) {
        let within = [3_000, 50_000, 600_000][rng.below(3) as usize];
        world.run_until(world.now + Duration::from_micros(rng.below(within)), |_| false);
        let machine = rng.below(2) as usize;
        let freeze = Duration::from_millis(20 + rng.below(2500));
        world.apply(
            [Fault::Kill(machine), Fault::PowerOff(machine), Fault::Freeze(machine, freeze)][rng.below(3) as usize],
        );
        world.run_until(world.now + Duration::from_millis(300 + rng.below(2000)), |_| false);
    } else {
        world.run_until(world.now + Duration::from_millis(rng.below(1000)), |_| false);
    }
    world.checker.story.push((world.now, "everything is mended".into()));
    world.heal();
    become_whole(world, "after the network was divided");
}

/// When the next fault strikes: soon, or just when a client has begun something.
fn moment(world: &World, rng: &mut Rng) -> Instant {
    let opens = world.scenario.opens.iter().map(|open| open.at);
    let soon = opens.filter(|&at| at > world.now && at < world.now + Duration::from_secs(3));
    let begun: Vec<Instant> = soon.collect();
    if begun.is_empty() || rng.chance(1, 2) {
        return world.now + Duration::from_micros(rng.below(1_500_000));
    }
    begun[rng.below(begun.len() as u64) as usize] + Duration::from_micros(rng.below(6000))
}

/// Sometimes an operator is at work when the fault strikes.
fn type_something(world: &mut World, rng: &mut Rng, primary: usize) {
    for _ in 0..rng.below(4) {
        let name = rng.below(30);
        let line = match rng.below(4) {
            0 | 1 => format!("add server box-{name} 10.0.2.{}", 100 + name),
            2 => format!("rm server box-{name}"),
            _ => format!("set lb vserver snat-v4 -comment note-{name}"),
        };
        world.command(primary, 1, &line);
    }
}

/// The faults of a round, each with the time since the one before.
fn choose(rng: &mut Rng, primary: usize) -> Vec<(Duration, Fault)> {
    let secondary = 1 - primary;
    let freeze = Duration::from_millis(20 + rng.below(2500));
    let soon = Duration::from_micros(rng.below(30_000));
    let later = Duration::from_millis(300 + rng.below(1500));
    let network = [CLIENT_SIDE, SERVER_SIDE][rng.below(2) as usize];
    let one = |fault| vec![(Duration::ZERO, fault)];
    let then = |first, after, second| vec![(Duration::ZERO, first), (after, second)];
    match rng.below(34) {
        0..=2 => one(Fault::Kill(primary)),
        3 | 4 => one(Fault::PowerOff(primary)),
        5 | 6 => one(Fault::Freeze(primary, freeze)),
        7 => one(Fault::Kill(secondary)),
        8 => one(Fault::Freeze(secondary, freeze)),
        9 => one(Fault::PeerLink(false)),
        10 | 11 => one(Fault::Cable(rng.below(2) as usize, network, false)),
        12 => one(Fault::ForceFailover),
        13 => one(Fault::Stop(primary)),
        14 => one(Fault::Stop(secondary)),
        15 => one(Fault::Loss(50 + rng.below(300))),
        16 => one(Fault::Split(true)),
        // The mirror moves to a data port, then the primary goes.
        17 => then(Fault::PeerLink(false), later, Fault::Kill(primary)),
        18 => then(Fault::Loss(50 + rng.below(100)), soon, Fault::PowerOff(primary)),
        // Two failures: some connections are excused.
        19 => then(Fault::Kill(primary), soon, Fault::Kill(secondary)),
        20 => then(Fault::Freeze(secondary, freeze), soon, Fault::Kill(primary)),
        // The returning node is ended at once, or its primary is: death during bulk.
        21 => vec![
            (Duration::ZERO, Fault::Kill(primary)),
            (later, Fault::Start(primary)),
            (soon * 10, Fault::Kill(primary)),
        ],
        22 => vec![
            (Duration::ZERO, Fault::Kill(primary)),
            (later, Fault::Start(primary)),
            (soon * 10, Fault::Kill(secondary)),
        ],
        23 => one(Fault::PeerLoss(100 + rng.below(400))),
        24 => then(Fault::PeerLoss(100 + rng.below(300)), later, Fault::Kill(primary)),
        25 if freeze.as_millis().is_multiple_of(2) => one(Fault::Deaf(rng.below(2) as usize, true)),
        25 => one(Fault::PeerDeaf(rng.below(2) as usize)),
        26 => then(Fault::PeerDeaf(secondary), later, Fault::Kill(primary)),
        27 => then(Fault::PeerDeaf(primary), later, Fault::PowerOff(primary)),
        28 => then(Fault::ForceFailover, soon, Fault::Kill(primary)),
        29..=32 => successor_fails(rng, primary, freeze),
        _ => then(Fault::PeerLoss(100 + rng.below(300)), later, Fault::Freeze(primary, freeze)),
    }
}

/// The primary fails and returns, and its successor fails: before the primary has
/// joined, while it is told what it missed, or when it has caught up.
fn successor_fails(rng: &mut Rng, primary: usize, freeze: Duration) -> Vec<(Duration, Fault)> {
    let fault = |kind, machine| match kind {
        0 => Fault::Kill(machine),
        1 => Fault::PowerOff(machine),
        _ => Fault::Freeze(machine, freeze),
    };
    let away = Duration::from_millis(300 + rng.below(1500));
    let mut plan = vec![(Duration::ZERO, fault(rng.below(3), primary)), (away, Fault::Start(primary))];
    let within = [20_000, 300_000, 3_000_000][rng.below(3) as usize];
    let back = Duration::from_micros(rng.below(within));
    plan.push((back, fault(rng.below(3), 1 - primary)));
    plan
}

pub(crate) fn become_whole(world: &mut World, when: &str) -> bool {
    let whole = world.run_until(world.now + WHOLE_WITHIN, |world| world.is_whole());
    if world.checker.failed() {
        return false;
    }
    let short = world.is_short_of_room();
    if !whole && !short {
        world.checker.violations.push(format!("the pair is not whole {WHOLE_WITHIN:?} {when}"));
    }
    judge_protection(world);
    (whole || short) && !world.checker.failed()
}

fn judge_protection(world: &mut World) {
    let now = world.now;
    judge_pair(world, |checker, scenario, primary, secondary| {
        checker.judge_protection(now, scenario, primary, secondary);
    });
}

/// Judges the nodes of a whole pair, the primary first.
fn judge_pair(world: &mut World, judge: impl FnOnce(&mut Checker, &Scenario, &Node, &Node)) {
    if let (Some(primary), true) = (world.primary(), world.is_whole()) {
        let [a, b] = [primary, 1 - primary].map(|machine| world.machines[machine].node.as_ref());
        if let (Some(a), Some(b)) = (a, b) {
            judge(&mut world.checker, &world.scenario, a, b);
        }
    }
}

/// Lets all connections end, then judges them, the tables and what is left.
pub(crate) fn finish(world: &mut World, seed: u64) {
    // Everybody's retransmissions get through from here on; smoltcp's pauses only ever grow.
    world.calm_networks();
    let judged_from = world.now;
    world.clients.iter_mut().flat_map(|client| &mut client.exchanges).for_each(|exchange| exchange.answers = false);
    world.run_until(world.now + FINISH_WITHIN, |world| {
        let ended = |client: &crate::apps::Client| {
            client.connections.iter().all(|c| !matches!(c.outcome, Outcome::Opening | Outcome::Open))
        };
        let last = world.scenario.opens.iter().map(|open| open.at).max().unwrap_or(Instant::ZERO);
        let answers = |client: &crate::apps::Client| client.exchanges.iter().all(|exchange| exchange.answers);
        world.now > last + Duration::from_secs(2) && world.clients.iter().all(|c| ended(c) && answers(c))
    });
    if world.checker.failed() {
        return;
    }
    let (tally, differences) = world.reference.compare(judged_from, &world.clients);
    world.tally = tally;
    world.checker.violations.extend(differences);
    if !world.checker.story.iter().any(|(_, text)| text.starts_with("Cable")) {
        world.checker.judge_persistence(&world.scenario, &world.clients, &world.watch, &world.reference);
    }
    become_whole(world, "at the end");
    world.run_until(world.now + Duration::from_millis(500), |_| false);
    // A flow that times out at this very moment has its close under way.
    world.run_until(world.now + Duration::from_secs(1), |world| world.agrees());
    let now = world.now;
    judge_pair(world, |checker, _, primary, secondary| {
        checker.judge_tables(now, primary, secondary);
        checker.judge_config(primary, secondary);
    });
    if seed.is_multiple_of(LEAK_RUNS) && !world.checker.failed() {
        for client in &mut world.clients {
            client.exchanges.clear();
        }
        world.run_until(world.now + ALL_FORGOTTEN, |_| false);
        world.checker.judge_leaks(&world.machines);
        if !world.is_whole() {
            world.checker.violations.push("nothing is left that needs room, and the pair is not whole".into());
        }
    }
}

fn report(seed: u64, world: World) -> Report {
    let micros = |at: Instant| at.as_nanos() / 1000;
    let mut log: Vec<(Instant, String)> = Vec::new();
    for machine in &world.machines {
        for (at, level, text) in &machine.log {
            log.push((*at, format!("{:>10} machine {} {level:?} {text}", micros(*at), machine.index)));
        }
    }
    log.extend(world.checker.story.iter().map(|(at, text)| (*at, format!("{:>10} *** {text}", micros(*at)))));
    log.sort_by_key(|(at, _)| *at);
    Report {
        seed,
        violations: world.checker.violations,
        story: world.checker.story.iter().map(|(at, text)| format!("{:>10} {text}", micros(*at))).collect(),
        established: world.clients.iter().flat_map(|c| &c.connections).filter(|c| c.established.is_some()).count(),
        tally: world.tally,
        promotions: world.checker.promotions,
        bypassed: world.machines.iter().map(|machine| machine.bypassed).sum(),
        short_of_room: world.machines.iter().any(|machine| machine.ever_without_room),
        steps: world.steps,
        log: log.into_iter().map(|(_, line)| line).collect(),
    }
}
