//! A failure at *every* step: a deterministic story is run once to count the
//! points at which it can strike, and then once for each point and each kind of
//! failure, from scratch. The model judges every run.

use core::time::Duration;

use holdfast_base::Instant;

use crate::apps::Manner;
use crate::ftp::{Session, Stand, Way};
use crate::link::Manners;
use crate::machine::Sabotage;
use crate::reference::Tally;
use crate::runner::{become_whole, finish};
use crate::scenario::{FTP, FTP_USIP, Fault, Opening, SNAT, STICKY, Scenario, UDP, USIP};
use crate::world::{Point, Points, Strike, World};

/// A freeze that nobody takes for a death.
const SHORT: Duration = Duration::from_millis(100);
/// A freeze after which another node leads.
const LONG: Duration = Duration::from_millis(1500);
/// How long what is broken stays so.
const OUTAGE: Duration = Duration::from_millis(2000);
/// How long a story may take to get where it wants.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an FTP session may take: lost segments are repeated after pauses that double.
const SESSION_PATIENCE: Duration = Duration::from_secs(120);
/// Flows of the story about a bulk transfer.
const BULK_FLOWS: u64 = 300;
/// Of this many, one is opened while the transfer runs.
const LATE_FLOWS: u64 = 20;

/// What was tried and what was found.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Points of the story.
    pub points: u64,
    /// Runs.
    pub runs: u64,
    /// What the model said in all of them.
    pub tally: Tally,
    /// What was violated, with the point and the failure.
    pub violations: Vec<String>,
}

impl Tried {
    /// Adds another story's.
    pub fn add(&mut self, other: Tried) {
        self.points += other.points;
        self.runs += other.runs;
        self.tally.add(other.tally);
        self.violations.extend(other.violations);
    }
}

/// A kind of failure, of the primary or of the secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// SIGKILL of the primary.
    KillPrimary,
    /// The primary loses power.
    PowerPrimary,
    /// The primary stands still until another leads.
    FreezePrimary,
    /// The primary stands still for a moment.
    PausePrimary,
    /// SIGKILL of the secondary.
    KillSecondary,
    /// The secondary loses power.
    PowerSecondary,
    /// The secondary stands still until it is given up.
    FreezeSecondary,
}

impl Failure {
    /// All kinds.
    pub const ALL: [Failure; 7] = [
        Failure::KillPrimary,
        Failure::PowerPrimary,
        Failure::FreezePrimary,
        Failure::PausePrimary,
        Failure::KillSecondary,
        Failure::PowerSecondary,
        Failure::FreezeSecondary,
    ];

    /// The fault, when `primary` leads.
    pub fn fault(self, primary: usize) -> Fault {
        match self {
            Failure::KillPrimary => Fault::Kill(primary),
            Failure::PowerPrimary => Fault::PowerOff(primary),
            Failure::FreezePrimary => Fault::Freeze(primary, LONG),
            Failure::PausePrimary => Fault::Freeze(primary, SHORT),
            Failure::KillSecondary => Fault::Kill(1 - primary),
            Failure::PowerSecondary => Fault::PowerOff(1 - primary),
            Failure::FreezeSecondary => Fault::Freeze(1 - primary, LONG),
        }
    }
}

/// The set-up of one connection or exchange.
#[derive(Clone, Copy, Debug)]
pub struct SetUp {
    /// Which vserver.
    pub vserver: usize,
    /// Over IPv6.
    pub v6: bool,
    /// Delay of the peer link.
    pub peer_delay: Duration,
    /// Whether a machine that wakes up has lost what its peer sent.
    pub deaf_thaw: bool,
    /// How the driver is broken.
    pub sabotage: Sabotage,
}

/// The set-ups that are tried: every kind of flow that must survive, on a quick peer link and on a slow one.
pub fn set_ups() -> Vec<SetUp> {
    let kinds = [SNAT, USIP, UDP].into_iter().flat_map(|vserver| [(vserver, false), (vserver, true)]);
    let links = [(Duration::from_micros(20), false), (Duration::from_millis(3), true)];
    kinds
        .flat_map(|(vserver, v6)| {
            links.map(|(peer_delay, deaf_thaw)| SetUp { vserver, v6, peer_delay, deaf_thaw, sabotage: Sabotage::None })
        })
        .collect()
}

/// Fails at every point from the client's first packet until its bytes have come back.
pub fn during_set_up(set_up: SetUp, failure: Failure) -> Tried {
    let peer_manners = Manners { delay: set_up.peer_delay, ..Manners::CALM };
    let begin = || {
        let scenario =
            Scenario { peer_manners, deaf_thaw: set_up.deaf_thaw, sabotage: set_up.sabotage, ..Scenario::quiet(1) };
        let mut world = whole(scenario);
        let plain = Opening::plain(Instant::ZERO, set_up.vserver, set_up.v6);
        world.points = Points::default();
        world.open_one(Opening { bytes: 3000, pause: Duration::from_millis(30), ..plain });
        world
    };
    let exchanged = |world: &mut World| {
        let client = &world.clients[0];
        client.connections.iter().any(|c| c.echoed > 0) || client.exchanges.iter().any(|e| e.answered > 0)
    };
    enumerate(&begin, &exchanged, (Point::Any, 1), |primary| failure.fault(primary))
}

/// A node returns to a primary with hundreds of flows, clients go on opening
/// some, and one of the two fails at every message of the peer link until the
/// pair is whole.
pub fn during_bulk(failure: Failure) -> Tried {
    let begin = || {
        let mut world = whole(Scenario { clients: 3, servers: 3, ..Scenario::quiet(2) });
        let old = world.primary().unwrap_or(0);
        for number in 0..BULK_FLOWS {
            let bytes = if number % 2 == 0 { 300 } else { 1200 };
            world.open_one(Opening { bytes, pause: Duration::from_millis(1500), ..many(number) });
            let next = world.now + Duration::from_micros(500);
            world.run_until(next, |_| false);
        }
        world.apply(Fault::Kill(old));
        let down = world.now + Duration::from_millis(300);
        world.run_until(down, |_| false);
        world.points = Points::default();
        world.apply(Fault::Start(old));
        for number in 0..LATE_FLOWS {
            world.plan_opening(Opening {
                at: world.now + Duration::from_millis(8 * number),
                bytes: 3000,
                pause: Duration::from_millis(100),
                ..many(number)
            });
        }
        world
    };
    enumerate(&begin, &|world| world.is_whole(), (Point::OfPeers, 1), |old| failure.fault(1 - old))
}

/// The next file of an FTP session.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// Which vserver.
    pub vserver: usize,
    /// Over IPv6.
    pub v6: bool,
    /// How the data connection is agreed.
    pub way: Way,
}

impl Fetch {
    /// Every way, over both IP versions, with and without USIP.
    pub fn all() -> Vec<Fetch> {
        let fronts = [FTP, FTP_USIP].into_iter().flat_map(|vserver| [(vserver, false), (vserver, true)]);
        fronts.flat_map(|(vserver, v6)| Way::all(v6).iter().map(move |&way| Fetch { vserver, v6, way })).collect()
    }
}

/// Fails at every point of a session (or at one of `every`), from its first packet until it has ended: however it is agreed, whatever was on its way, the whole file
/// arrives. A second file follows the first on the same control connection, when its numbers are shifted already.
pub fn during_fetch(fetch: Fetch, failure: Failure, every: usize) -> Tried {
    let begin = || {
        let mut world = whole(Scenario::quiet(3).with_ftp());
        world.points = Points::default();
        world.fetch(0, fetch.vserver, fetch.v6, &[fetch.way; 2], 2500);
        world
    };
    let over = |world: &mut World| world.clients[0].sessions.iter().all(Session::is_over);
    enumerate(&begin, &over, (Point::Any, every), |primary| failure.fault(primary))
}

/// One of many connections, each of another kind than the one before.
fn many(number: u64) -> Opening {
    let vserver = [SNAT, USIP, STICKY][(number / 3 % 3) as usize];
    let manner = if number.is_multiple_of(5) { Manner::ServerCloses } else { Manner::ClientCloses };
    Opening {
        manner,
        client: (number % 3) as usize,
        ..Opening::plain(Instant::ZERO, vserver, number.is_multiple_of(4))
    }
}

/// A world in which the pair is whole and has been for a second.
fn whole(scenario: Scenario) -> World {
    let mut world = World::new(scenario);
    world.run_until(Instant::ZERO + PATIENCE, |world| world.is_whole());
    let later = world.now + Duration::from_secs(1);
    world.run_until(later, |_| false);
    world
}

/// Runs the story once to count its points, then once for each (or one of `every`) with a failure there.
fn enumerate(
    begin: &dyn Fn() -> World,
    done: &dyn Fn(&mut World) -> bool,
    (point, every): (fn(u64) -> Point, usize),
    fault: impl Fn(usize) -> Fault,
) -> Tried {
    let mut world = begin();
    // The one that led, or last led, in the beginning of the story.
    let leader = usize::from(world.watch.claims_by(0).is_none());
    let end = world.now + PATIENCE;
    let mut tried = Tried::default();
    if !world.run_until(end, done) || world.checker.failed() {
        tried.violations.push(format!("the story does not get to its end: {:?}", world.checker.violations));
        return tried;
    }
    tried.points = match point(0) {
        Point::Any(_) => world.points.all,
        Point::OfPeers(_) => world.points.of_peers,
    };
    for number in (1..=tried.points).step_by(every) {
        let strike = Strike { at: point(number), fault: fault(leader) };
        let world = struck(begin(), strike);
        tried.runs += 1;
        tried.tally.add(world.tally);
        let found = world.checker.violations;
        tried.violations.extend(found.iter().map(|what| format!("{:?} at {:?}: {what}", strike.fault, strike.at)));
        if world.strike.is_some() {
            tried.violations.push(format!("{:?} at {:?}: the point was never reached", strike.fault, strike.at));
        }
    }
    tried
}

/// Every FTP session comes to its end, with every byte.
pub fn finish_sessions(world: &mut World) {
    let end = world.now + SESSION_PATIENCE;
    world.run_until(end, |world| world.clients.iter().all(|client| client.sessions.iter().all(Session::is_over)));
    for session in world.clients.iter().flat_map(|client| &client.sessions) {
        if session.stand != Stand::Finished {
            world.checker.violations.push(format!("an FTP session: {:?}", session.stand));
        }
    }
}

/// The story with a failure, to its very end.
fn struck(mut world: World, strike: Strike) -> World {
    world.strike = Some(strike);
    let end = world.now + PATIENCE;
    world.run_until(end, |world| world.strike.is_none());
    let mended = world.now + OUTAGE;
    world.run_until(mended, |_| false);
    world.heal();
    if become_whole(&mut world, "after the failure") {
        finish(&mut world, 1);
        finish_sessions(&mut world);
    }
    world
}
