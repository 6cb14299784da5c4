//! The campaign's clients: a steady number of connections of every kind, and a stream of short ones.
//!
//! Whatever the client's kernel reported as established must end as planned: every byte of both directions right and in
//! order, both ends closed, all of it acknowledged. A reset, an early end, a wrong byte, or silence where something is due
//! is a loss, told at once as `{"event":"loss"}`; so is a connect that fails.
//!
//! Commands: `window` starts a measurement, `report` tells it, `totals` counts, `excuse` marks all connections that exist (their loss is
//! counted apart), but for those that began after `spare` and were established by the latest `spared`; `stop` finishes all without pauses and tells the totals.

use super::crowd_conn::{Connection, Fate};
use super::crowd_plan::{Kind, Places, plan};
use super::poller::{Event, Poller, STDIN};
use super::{clock, say};
use crate::dice::Dice;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How often every connection is looked at for silence.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// At most so many losses are told one by one.
const LOSSES_TOLD: u64 = 50;
/// Connects started in one turn, so that a stall does not end in a burst.
const CONNECTS_PER_TURN: usize = 16;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Virtual servers.
    #[arg(long)]
    target: Vec<SocketAddr>,
    /// Virtual servers whose servers are mute at times; only connections that are meant to stay half open go there.
    #[arg(long)]
    mute: Vec<SocketAddr>,
    /// Virtual servers that must send one client always to the same server; also given as --target.
    #[arg(long)]
    sticky: Vec<SocketAddr>,
    /// Source addresses, of any family.
    #[arg(long)]
    from: Vec<IpAddr>,
    /// Connections that are not short, at any time.
    #[arg(long, default_value_t = 300)]
    connections: usize,
    /// Short connections begun each second.
    #[arg(long, default_value_t = 100)]
    new_per_second: u32,
    /// Decides what each connection does.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Default)]
struct Totals {
    begun: BTreeMap<Kind, u64>,
    established: BTreeMap<Kind, u64>,
    done: BTreeMap<Kind, u64>,
    lost: BTreeMap<&'static str, u64>,
    wrong_bytes: u64,
    marked: u64,
    excused: u64,
    moved: u64,
}

struct Client<'a> {
    options: &'a Options,
    places: Places,
    poller: Poller,
    connections: BTreeMap<u64, Connection>,
    /// When a connection has something to do by itself.
    due: BTreeSet<(Instant, u64)>,
    /// Numbers of the next long and the next short connection; ids are twice the number, odd for short ones.
    next: [u64; 2],
    long_open: usize,
    arrivals: Dice,
    next_arrival: Instant,
    stopping: bool,
    ready: bool,
    totals: Totals,
    served_by: BTreeMap<(IpAddr, SocketAddr), u32>,
    /// Numbers from which on connections are spared.
    spare_from: Option<[u64; 2]>,
    ended_waits: Vec<Duration>,
    next_progress: Instant,
    next_sweep: Instant,
}

/// Runs until told to stop.
pub fn run(options: &Options) -> Result<()> {
    let now = Instant::now();
    let mut client = Client {
        options,
        places: Places { targets: options.target.clone(), mute: options.mute.clone(), from: options.from.clone() },
        poller: Poller::new()?,
        connections: BTreeMap::new(),
        due: BTreeSet::new(),
        next: [0, 0],
        long_open: 0,
        arrivals: Dice::new(options.seed, u64::MAX),
        next_arrival: now,
        stopping: false,
        ready: false,
        totals: Totals::default(),
        served_by: BTreeMap::new(),
        spare_from: None,
        ended_waits: Vec::new(),
        next_progress: now,
        next_sweep: now,
    };
    while client.turn()? {}
    Ok(())
}

impl Client<'_> {
    /// One round: events, due actions, new connections, reports. `false` ends the role.
    fn turn(&mut self) -> Result<bool> {
        for event in self.poller.wait(Duration::from_millis(1))? {
            if event.token == STDIN {
                let Some(lines) = self.poller.commands()? else { return Ok(false) };
                lines.iter().try_for_each(|line| self.command(line))?;
            } else {
                self.react(event)?;
            }
        }
        let now = Instant::now();
        self.act_due(now)?;
        self.open_due(now)?;
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            let all: Vec<u64> = self.connections.keys().copied().collect();
            all.into_iter().try_for_each(|id| self.step(id, |connection| connection.sweep(now)))?;
        }
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_INTERVAL;
            say(&self.progress(now))?;
        }
        if !self.ready && self.begun(false) >= self.options.connections as u64 {
            self.ready = true;
            say(&json!({ "event": "ready" }))?;
        }
        if self.stopping && self.connections.is_empty() {
            say(&self.totals_as("stop"))?;
            return Ok(false);
        }
        Ok(true)
    }

    // --- opening -----------------------------------------------------------------------------------------------------

    fn begun(&self, short: bool) -> u64 {
        self.next[usize::from(short)]
    }

    fn open_due(&mut self, now: Instant) -> Result<()> {
        if self.stopping {
            return Ok(());
        }
        let mut budget = CONNECTS_PER_TURN;
        while self.long_open < self.options.connections && budget > 0 {
            self.open(false, now)?;
            budget -= 1;
        }
        while self.next_arrival <= now && self.options.new_per_second > 0 && budget > 0 {
            let mean = 1e6 / f64::from(self.options.new_per_second);
            // Exponential gaps: arrivals that know nothing of each other.
            let share = (self.arrivals.bits() >> 11) as f64 / (1u64 << 53) as f64;
            self.next_arrival += Duration::from_micros((mean * -(1.0 - share).ln()) as u64 + 1);
            self.open(true, now)?;
            budget -= 1;
        }
        Ok(())
    }

    fn open(&mut self, short: bool, now: Instant) -> Result<()> {
        let number = &mut self.next[usize::from(short)];
        let id = *number * 2 + u64::from(short);
        *number += 1;
        let plan = plan(self.options.seed, id, short, &self.places).context("a --target and a --from of its family")?;
        *self.totals.begun.entry(plan.kind).or_default() += 1;
        let connection = Connection::open(plan, now)?;
        self.poller.watch_edges(connection.socket(), id)?;
        self.due.extend(connection.next_action().map(|at| (at, id)));
        self.long_open += usize::from(!short);
        self.connections.insert(id, connection);
        Ok(())
    }

    // --- events ------------------------------------------------------------------------------------------------------

    fn react(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        self.step(event.token, |connection| connection.react(event, now))
    }

    fn act_due(&mut self, now: Instant) -> Result<()> {
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                return Ok(());
            }
            self.due.pop_first();
            let hurry = self.stopping;
            self.step(id, |connection| connection.act(now, hurry))?;
        }
        Ok(())
    }

    /// Lets one connection act, and draws the conclusions.
    fn step(&mut self, id: u64, act: impl FnOnce(&mut Connection) -> Fate) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let (was_established, action) = (connection.is_established(), connection.next_action());
        let was_greeted = connection.server();
        let fate = act(connection);
        if !was_established && connection.is_established() {
            *self.totals.established.entry(connection.plan().kind).or_default() += 1;
        }
        // Where a spared one goes was decided by what nobody knows any more.
        let judged = !connection.excused && !connection.spared;
        if let (None, Some(server), true) = (was_greeted, connection.server(), judged) {
            let place = (connection.plan().from, connection.plan().target);
            let moved = self.options.sticky.contains(&place.1)
                && self.served_by.insert(place, server).is_some_and(|before| before != server);
            self.totals.moved += u64::from(moved);
            if moved {
                say(&json!({ "event": "moved", "id": id, "at_ms": clock::monotonic_ms(), "server": server,
                    "from": place.0.to_string(), "target": place.1.to_string() }))?;
            }
        }
        if connection.next_action() != action {
            self.due.extend(connection.next_action().map(|at| (at, id)));
        }
        match fate {
            Fate::Goes => Ok(()),
            Fate::Done => {
                if let Some(connection) = self.forget(id) {
                    *self.totals.done.entry(connection.plan().kind).or_default() += 1;
                    self.ended_waits.extend(connection.longest_wait(Instant::now()));
                }
                Ok(())
            }
            Fate::Lost { what, detail, wrong_bytes } => self.lose(id, what, &detail, wrong_bytes),
        }
    }

    fn forget(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.long_open -= usize::from(connection.plan().kind != Kind::Short);
        Some(connection)
    }

    fn lose(&mut self, id: u64, what: &'static str, detail: &str, wrong_bytes: u64) -> Result<()> {
        let Some(connection) = self.forget(id) else { return Ok(()) };
        // Whatever happens: bytes must not be wrong.
        if connection.excused && what != "corrupt" {
            self.totals.excused += 1;
            return Ok(());
        }
        *self.totals.lost.entry(what).or_default() += 1;
        self.totals.wrong_bytes += wrong_bytes;
        if self.totals.lost.values().sum::<u64>() > LOSSES_TOLD {
            return Ok(());
        }
        let mut story = connection.story(Instant::now());
        story["event"] = json!("loss");
        story["what"] = json!(what);
        story["detail"] = json!(detail);
        say(&story)
    }

    // --- reports -----------------------------------------------------------------------------------------------------

    fn command(&mut self, line: &str) -> Result<()> {
        let now = Instant::now();
        match line {
            "window" => {
                self.connections.values_mut().for_each(Connection::forget_waits);
                self.ended_waits.clear();
                say(&json!({ "event": "window" }))
            }
            "report" => {
                let mut waits = self.ended_waits.clone();
                waits.extend(self.connections.values().filter_map(|connection| connection.longest_wait(now)));
                say(&json!({ "event": "report", "waits": clock::summary(waits) }))
            }
            "totals" => say(&self.totals_as("totals")),
            "spare" => {
                self.spare_from = Some(self.next);
                say(&json!({ "event": "spare" }))
            }
            "spared" => {
                let from = self.spare_from.take().unwrap_or([u64::MAX; 2]);
                for (id, connection) in &mut self.connections {
                    connection.spared = id / 2 >= from[(id % 2) as usize] && connection.is_established();
                }
                say(&json!({ "event": "spared" }))
            }
            "excuse" => self.excuse(),
            "stop" => {
                self.stopping = true;
                // Nobody asks what becomes of them, and their silence would last.
                self.connections.retain(|_, connection| !connection.excused);
                self.due.extend(self.connections.keys().map(|id| (now, *id)));
                Ok(())
            }
            other => anyhow::bail!("unknown command {other}"),
        }
    }

    fn excuse(&mut self) -> Result<()> {
        self.served_by.clear();
        let (mut spared, mut marked) = (Vec::new(), 0);
        for (id, connection) in &mut self.connections {
            if connection.spared {
                spared.push(*id);
            } else {
                connection.excused = true;
                marked += 1;
            }
        }
        self.totals.marked += marked;
        let at = clock::monotonic_ms();
        say(&json!({ "event": "excuse", "next": self.next, "at_ms": at, "spared": spared }))
    }

    fn progress(&self, now: Instant) -> Value {
        let waits = self.connections.values().filter(|connection| !connection.excused);
        let longest = waits.map(|connection| (connection.wait(now), connection)).max_by_key(|(wait, _)| *wait);
        let mut value = self.totals_as("progress");
        value["waiting_ms"] = json!(longest.as_ref().map_or(0.0, |(wait, _)| clock::ms(*wait)));
        value["waiting"] = longest.map_or(Value::Null, |(_, connection)| connection.story(now));
        value
    }

    fn totals_as(&self, event: &str) -> Value {
        let totals = &self.totals;
        let named = |counts: &BTreeMap<Kind, u64>| -> BTreeMap<&str, u64> {
            counts.iter().map(|(kind, count)| (kind.name(), *count)).collect()
        };
        json!({
            "event": event,
            "at_ms": clock::monotonic_ms(),
            "begun": totals.begun.values().sum::<u64>(),
            "established": totals.established.values().sum::<u64>(),
            "established_by_kind": named(&totals.established),
            "done": totals.done.values().sum::<u64>(),
            "done_by_kind": named(&totals.done),
            "open": self.connections.len(),
            "lost": totals.lost.values().sum::<u64>(),
            "lost_by_cause": totals.lost,
            "wrong_bytes": totals.wrong_bytes,
            "marked": totals.marked,
            "excused": totals.excused,
            "moved": totals.moved,
        })
    }
}
