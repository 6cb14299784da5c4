//! Many TCP connections that send numbered, checked bytes all the time, and a stream of short connections beside them.
//!
//! A *long* connection writes one message each `--interval-ms` without waiting for answers and checks every byte that
//! comes back. A *short* one writes one message, awaits its echo and closes; they begin at `--new-per-second`. Whatever the
//! client's kernel reported as established must from then on neither be reset, nor end, nor fall silent for good, nor
//! carry a wrong byte: each such case counts as lost and is told with its circumstances.
//!
//! Commands: `window` starts a measurement, `report` tells it, `quiet` stops new connections and waits until all that is
//! under way has ended, `stop` drains everything and tells the totals.

use super::clock;
use super::pattern::{self, MESSAGE};
use super::poller::{Event, Poller, STDIN};
use super::say;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An established connection without an answer for this long is lost.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
/// A connect without an answer for this long has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// At most so many failures are told one by one.
const FAILURES_TOLD: usize = 20;
/// Connects started in one turn, so that a stall does not end in a burst.
const CONNECTS_PER_TURN: usize = 32;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Virtual servers; connections are dealt out among them.
    #[arg(long)]
    target: Vec<SocketAddr>,
    /// Source addresses, of any family.
    #[arg(long)]
    from: Vec<IpAddr>,
    /// Long connections.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Time between two messages of a long connection.
    #[arg(long, default_value_t = 100)]
    interval_ms: u64,
    /// Short connections begun each second.
    #[arg(long, default_value_t = 500)]
    new_per_second: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Long,
    Short,
}

struct Connection {
    stream: TcpStream,
    kind: Kind,
    opened: Instant,
    established: Option<Instant>,
    last_answer: Option<Instant>,
    queued: u64,
    sent: u64,
    received: u64,
    /// End position and time of each message that has not come back in full.
    unanswered: VecDeque<(u64, Instant)>,
    longest_wait: Duration,
}

#[derive(Default)]
struct Totals {
    long_established: u64,
    long_alive: u64,
    short_begun: u64,
    short_established: u64,
    short_done: u64,
    not_opened: u64,
    reset: u64,
    silent: u64,
    ended: u64,
    corrupt: u64,
    messages: u64,
}

struct Client<'a> {
    options: &'a Options,
    poller: Poller,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    long_begun: usize,
    /// Long connections by the time of their next message.
    schedule: VecDeque<(Instant, u64)>,
    started: Instant,
    short_due: Instant,
    accepting: bool,
    sending: bool,
    totals: Totals,
    short_waits: Vec<Duration>,
    failures: Vec<Value>,
    asked: Option<&'static str>,
    ready: bool,
    next_progress: Instant,
    next_sweep: Instant,
}

/// Runs until told to stop.
pub fn run(options: &Options) -> Result<()> {
    let now = Instant::now();
    let mut client = Client {
        options,
        poller: Poller::new()?,
        connections: BTreeMap::new(),
        next: 0,
        long_begun: 0,
        schedule: VecDeque::new(),
        started: now,
        short_due: now,
        accepting: true,
        sending: true,
        totals: Totals::default(),
        short_waits: Vec::new(),
        failures: Vec::new(),
        asked: None,
        ready: false,
        next_progress: now,
        next_sweep: now,
    };
    while client.turn()? {}
    Ok(())
}

impl Client<'_> {
    /// One round: events, due messages, new connections, reports. `false` ends the role.
    fn turn(&mut self) -> Result<bool> {
        for event in self.poller.wait(Duration::from_millis(1))? {
            if event.token == STDIN {
                let Some(lines) = self.poller.commands()? else { return Ok(false) };
                for line in lines {
                    self.command(&line)?;
                }
            } else {
                self.react(event)?;
            }
        }
        let now = Instant::now();
        self.send_due(now);
        self.open_due(now)?;
        if now >= self.next_sweep {
            self.next_sweep = now + Duration::from_millis(100);
            self.sweep(now);
        }
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_INTERVAL;
            say(&self.progress(now))?;
        }
        self.answer_when_done()
    }

    // --- opening -----------------------------------------------------------------------------------------------------

    fn open_due(&mut self, now: Instant) -> Result<()> {
        let mut budget = CONNECTS_PER_TURN;
        while self.sending && self.long_begun < self.options.connections && budget > 0 {
            self.open(Kind::Long, now)?;
            self.long_begun += 1;
            budget -= 1;
        }
        if !self.all_long_ready() || !self.accepting || self.options.new_per_second == 0 {
            self.short_due = now;
            return Ok(());
        }
        while self.short_due <= now && budget > 0 {
            self.short_due += Duration::from_secs(1) / self.options.new_per_second;
            self.open(Kind::Short, now)?;
            self.totals.short_begun += 1;
            budget -= 1;
        }
        Ok(())
    }

    fn all_long_ready(&self) -> bool {
        self.totals.long_established as usize + self.totals.not_opened as usize >= self.options.connections
    }

    fn open(&mut self, kind: Kind, now: Instant) -> Result<()> {
        let token = self.next;
        self.next += 1;
        let targets = &self.options.target;
        let target = targets.get(token as usize % targets.len().max(1)).context("a --target")?;
        let sources: Vec<_> = self.options.from.iter().filter(|ip| ip.is_ipv4() == target.is_ipv4()).collect();
        let from = sources.get(token as usize / targets.len() % sources.len().max(1)).context("a --from")?;
        let socket = Socket::new(Domain::for_address(*target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        crate::sys::bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(**from, 0).into()).with_context(|| format!("bind to {from}"))?;
        match socket.connect(&(*target).into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => {
                self.totals.not_opened += 1;
                self.tell_failure(kind, "connect", &error.to_string(), None, now);
                return Ok(());
            }
        }
        let stream = TcpStream::from(socket);
        self.poller.watch(&stream, token, true)?;
        let connection = Connection {
            stream,
            kind,
            opened: now,
            established: None,
            last_answer: None,
            queued: 0,
            sent: 0,
            received: 0,
            unanswered: VecDeque::new(),
            longest_wait: Duration::ZERO,
        };
        self.connections.insert(token, connection);
        Ok(())
    }

    // --- events ------------------------------------------------------------------------------------------------------

    fn react(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        let Some(connection) = self.connections.get_mut(&event.token) else { return Ok(()) };
        if connection.established.is_none() {
            if !event.writable {
                return Ok(());
            }
            if let Some(error) = connection.stream.take_error()? {
                return self.fail(event.token, "connect", &error.to_string(), now);
            }
            return self.established(event.token, now);
        }
        if event.readable {
            return self.receive(event.token, now);
        }
        connection.flush(event.token);
        Ok(())
    }

    fn established(&mut self, token: u64, now: Instant) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        connection.established = Some(now);
        self.poller.change(&connection.stream, token, false)?;
        match connection.kind {
            Kind::Long => {
                self.totals.long_established += 1;
                self.totals.long_alive += 1;
                // Spread over the interval by number, so that the load is even.
                let interval = Duration::from_millis(self.options.interval_ms);
                let share = token as f64 / self.options.connections.max(1) as f64;
                let period_start =
                    now - Duration::from_nanos(((now - self.started).as_nanos() % interval.as_nanos().max(1)) as u64);
                let due = period_start + interval + interval.mul_f64(share.fract());
                let at = self.schedule.partition_point(|(other, _)| *other <= due);
                self.schedule.insert(at, (due, token));
            }
            Kind::Short => {
                self.totals.short_established += 1;
                connection.queue(now);
                connection.flush(token);
                self.totals.messages += 1;
            }
        }
        Ok(())
    }

    fn receive(&mut self, token: u64, now: Instant) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
            match connection.stream.read(&mut buffer) {
                Ok(0) => return self.fail(token, "ended", "end of stream", now),
                Ok(count) => {
                    if !connection.take_in(token, &buffer[..count], now) {
                        return self.fail(token, "corrupt", "wrong bytes", now);
                    }
                    if connection.kind == Kind::Short && connection.received >= MESSAGE as u64 {
                        self.totals.short_done += 1;
                        self.short_waits.push(now - connection.opened);
                        self.connections.remove(&token);
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return self.fail(token, "reset", &error.to_string(), now),
            }
        }
    }

    fn fail(&mut self, token: u64, what: &'static str, detail: &str, now: Instant) -> Result<()> {
        let Some(connection) = self.connections.remove(&token) else { return Ok(()) };
        if connection.kind == Kind::Long && connection.established.is_some() {
            self.totals.long_alive -= 1;
        }
        *match what {
            "connect" => &mut self.totals.not_opened,
            "reset" => &mut self.totals.reset,
            "ended" => &mut self.totals.ended,
            "corrupt" => &mut self.totals.corrupt,
            _ => &mut self.totals.silent,
        } += 1;
        self.tell_failure(connection.kind, what, detail, Some(&connection), now);
        Ok(())
    }

    fn tell_failure(&mut self, kind: Kind, what: &str, detail: &str, connection: Option<&Connection>, now: Instant) {
        if self.failures.len() >= FAILURES_TOLD {
            return;
        }
        let at = |time: Instant| clock::ms(time.saturating_duration_since(self.started));
        self.failures.push(json!({
            "kind": if kind == Kind::Long { "long" } else { "short" },
            "what": what,
            "detail": detail,
            "local": connection.and_then(|c| c.stream.local_addr().ok()).map(|a| a.to_string()),
            "opened_ms": connection.map(|c| at(c.opened)),
            "established_ms": connection.and_then(|c| c.established).map(at),
            "last_answer_ms": connection.and_then(|c| c.last_answer).map(at),
            "failed_ms": at(now),
            "sent": connection.map(|c| c.sent),
            "received": connection.map(|c| c.received),
        }));
    }

    // --- time --------------------------------------------------------------------------------------------------------

    fn send_due(&mut self, now: Instant) {
        while let Some((due, token)) = self.schedule.front().copied() {
            if due > now || !self.sending {
                return;
            }
            self.schedule.pop_front();
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            connection.queue(now);
            connection.flush(token);
            self.totals.messages += 1;
            self.schedule.push_back((due + Duration::from_millis(self.options.interval_ms), token));
        }
    }

    fn sweep(&mut self, now: Instant) {
        let late: Vec<(u64, &'static str)> = self
            .connections
            .iter()
            .filter_map(|(token, connection)| match connection.established {
                None => (now - connection.opened > CONNECT_LIMIT).then_some((*token, "connect")),
                Some(_) => (connection.wait(now) > SILENCE_LIMIT).then_some((*token, "silent")),
            })
            .collect();
        for (token, what) in late {
            let _ = self.fail(token, what, "no answer", now);
        }
    }

    // --- reports -----------------------------------------------------------------------------------------------------

    fn command(&mut self, line: &str) -> Result<()> {
        match line {
            "window" => {
                self.connections.values_mut().for_each(|connection| connection.longest_wait = Duration::ZERO);
                self.short_waits.clear();
                say(&json!({ "event": "window" }))
            }
            "report" => {
                let now = Instant::now();
                say(&self.window(now))
            }
            "quiet" => {
                self.accepting = false;
                self.asked = Some("quiet");
                Ok(())
            }
            "resume" => {
                self.accepting = true;
                Ok(())
            }
            "stop" => {
                (self.accepting, self.sending) = (false, false);
                self.asked = Some("stop");
                Ok(())
            }
            other => anyhow::bail!("unknown command {other}"),
        }
    }

    fn answer_when_done(&mut self) -> Result<bool> {
        if !self.ready && self.all_long_ready() {
            self.ready = true;
            say(&json!({ "event": "ready", "established": self.totals.long_established }))?;
        }
        let busy = |connection: &Connection| match connection.kind {
            Kind::Short => true,
            Kind::Long => !self.sending && connection.sent > connection.received,
        };
        if self.asked.is_none() || self.connections.values().any(busy) {
            return Ok(true);
        }
        let now = Instant::now();
        match self.asked.take() {
            Some("stop") => {
                say(&self.totals_as("stop", now))?;
                Ok(false)
            }
            Some(event) => say(&self.totals_as(event, now)).map(|()| true),
            None => Ok(true),
        }
    }

    fn progress(&self, now: Instant) -> Value {
        let longest = self.connections.values().map(|connection| connection.wait(now)).max().unwrap_or_default();
        let mut value = self.totals_as("progress", now);
        value["waiting_ms"] = json!(clock::ms(longest));
        value
    }

    fn window(&self, now: Instant) -> Value {
        let long = self.connections.values().filter(|c| c.kind == Kind::Long);
        let waits: Vec<Duration> = long.map(|c| c.longest_wait.max(c.wait(now))).collect();
        json!({
            "event": "report",
            "waits_ms": waits.iter().map(|wait| clock::ms(*wait)).collect::<Vec<_>>(),
            "long": clock::summary(waits),
            "short": clock::summary(self.short_waits.clone()),
        })
    }

    fn totals_as(&self, event: &str, now: Instant) -> Value {
        let totals = &self.totals;
        let lost = totals.reset + totals.silent + totals.ended + totals.corrupt;
        json!({
            "event": event,
            "at_ms": clock::ms(now - self.started),
            "long_established": totals.long_established,
            "long_alive": totals.long_alive,
            "short_begun": totals.short_begun,
            "short_established": totals.short_established,
            "short_done": totals.short_done,
            "messages": totals.messages,
            "not_opened": totals.not_opened,
            "reset": totals.reset,
            "silent": totals.silent,
            "ended": totals.ended,
            "corrupt": totals.corrupt,
            "lost": lost,
            "failures": if event == "progress" { json!([]) } else { json!(self.failures) },
        })
    }
}

impl Connection {
    fn queue(&mut self, now: Instant) {
        self.queued += MESSAGE as u64;
        self.unanswered.push_back((self.queued, now));
    }

    /// Writes what is queued, as far as the kernel takes it; an error shows at the next read.
    fn flush(&mut self, id: u64) {
        while self.sent < self.queued {
            let mut bytes = [0; 4 * MESSAGE];
            let count = (self.queued - self.sent).min(bytes.len() as u64) as usize;
            pattern::fill(id, self.sent, &mut bytes[..count]);
            match self.stream.write(&bytes[..count]) {
                Ok(count) => self.sent += count as u64,
                Err(_) => return,
            }
        }
    }

    /// Checks what came back; `false` if it is not what was sent.
    fn take_in(&mut self, id: u64, bytes: &[u8], now: Instant) -> bool {
        if !pattern::matches(id, self.received, bytes) {
            return false;
        }
        self.received += bytes.len() as u64;
        self.last_answer = Some(now);
        while let Some((end, since)) = self.unanswered.front()
            && *end <= self.received
        {
            self.longest_wait = self.longest_wait.max(now - *since);
            self.unanswered.pop_front();
        }
        self.received <= self.sent
    }

    /// How long the oldest unanswered message has been waiting.
    fn wait(&self, now: Instant) -> Duration {
        self.unanswered.front().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }
}
