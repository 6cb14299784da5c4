//! One connection of the campaign's client.

use super::clock;
use super::crowd_plan::{Kind, Plan};
use super::poller::Event;
use super::script::{self, GREETING, HEADER, Incoming, Outgoing, Script};
use crate::sys;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Nothing for this long where something is due is a loss.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
/// The same for a handshake that was kept incomplete: both kernels take the time that it took for the round trip, and
/// repeat a lost segment only after many seconds.
const HALF_OPEN_LIMIT: Duration = Duration::from_secs(60);
/// A connect without an answer for this long is a loss.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// What becomes of a connection.
pub enum Fate {
    /// It goes on.
    Goes,
    /// It ended as planned.
    Done,
    /// It did not.
    Lost {
        /// `connect`, `reset`, `ended`, `corrupt`, `silent`.
        what: &'static str,
        /// In the kernel's words.
        detail: String,
        /// Bytes that are not what was sent.
        wrong_bytes: u64,
    },
}

fn lost(what: &'static str, detail: impl ToString) -> Fate {
    Fate::Lost { what, detail: detail.to_string(), wrong_bytes: 0 }
}

/// A connection, from the connect to the end of both directions.
pub struct Connection {
    /// Its loss does not count.
    pub excused: bool,
    /// The latest excuse does not cover it.
    pub spared: bool,
    plan: Plan,
    socket: TcpStream,
    opened: Instant,
    established: Option<Instant>,
    up: Outgoing,
    down: Incoming,
    /// When to send the next chunk, or to listen again.
    action: Option<Instant>,
    deaf: bool,
    closed: bool,
    ended: bool,
    hurry: bool,
    /// End position and time of each message that was not answered in full.
    unanswered: VecDeque<(u64, Instant)>,
    longest_wait: Duration,
    last_arrival: Option<Instant>,
    /// What the server's kernel had not acknowledged at the last look, and since when it is as much.
    outstanding: (u64, Instant),
}

impl Connection {
    /// Begins to connect.
    pub fn open(plan: Plan, now: Instant) -> Result<Connection> {
        let socket = Socket::new(Domain::for_address(plan.target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        sys::bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(plan.from, 0).into()).with_context(|| format!("bind to {}", plan.from))?;
        if plan.deaf.is_some() {
            sys::hear_nothing(&socket)?;
        }
        match socket.connect(&plan.target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("connect to {}", plan.target)),
        }
        let header = plan.header;
        Ok(Connection {
            excused: false,
            spared: false,
            socket: socket.into(),
            opened: now,
            established: None,
            up: Outgoing::new(2 * header.id, header.encode()),
            down: Incoming::new(2 * header.id + 1, GREETING),
            action: plan.deaf.map(|time| now + time),
            deaf: plan.deaf.is_some(),
            closed: false,
            ended: false,
            hurry: false,
            unanswered: VecDeque::new(),
            longest_wait: Duration::ZERO,
            last_arrival: None,
            outstanding: (0, now),
            plan,
        })
    }

    /// Its part.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// For the poller.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Did our kernel say so?
    pub fn is_established(&self) -> bool {
        self.established.is_some()
    }

    /// When it wants [`Connection::act`].
    pub fn next_action(&self) -> Option<Instant> {
        self.action
    }

    /// The server that greeted it.
    pub fn server(&self) -> Option<u32> {
        self.down.lead().and_then(script::greeted_by)
    }

    /// Something happened to the socket.
    pub fn react(&mut self, event: Event, now: Instant) -> Fate {
        if self.established.is_none() {
            if !event.writable {
                return Fate::Goes;
            }
            if let Ok(Some(error)) | Err(error) = self.socket.take_error() {
                return lost("connect", error);
            }
            self.established = Some(now);
            self.outstanding = (0, now);
            if let Fate::Lost { what, detail, wrong_bytes } = self.send_chunk(now) {
                return Fate::Lost { what, detail, wrong_bytes };
            }
        }
        if event.readable { self.receive(now) } else { self.push() }
    }

    /// The time of [`Connection::next_action`] has come.
    pub fn act(&mut self, now: Instant, hurry: bool) -> Fate {
        self.hurry |= hurry;
        if self.deaf && self.plan.deaf.is_some_and(|time| hurry || now >= self.opened + time) {
            self.deaf = false;
            self.action = None;
            if let Err(error) = sys::hear(&self.socket) {
                return lost("connect", error);
            }
        }
        match self.established {
            Some(_) => self.send_chunk(now),
            None => Fate::Goes,
        }
    }

    /// Looks for silence, and for acknowledgements.
    pub fn sweep(&mut self, now: Instant) -> Fate {
        if self.established.is_none() {
            return match now - self.opened > CONNECT_LIMIT {
                true => lost("connect", "no answer"),
                false => Fate::Goes,
            };
        }
        let outstanding = sys::unacknowledged(&self.socket).unwrap_or_default();
        if outstanding != self.outstanding.0 || outstanding == 0 {
            self.outstanding = (outstanding, now);
        }
        if self.ended && self.closed && outstanding == 0 {
            return Fate::Done;
        }
        let limit = if self.plan.kind == Kind::HalfOpen { HALF_OPEN_LIMIT } else { SILENCE_LIMIT };
        if self.silence(now) > limit { lost("silent", "nothing where something is due") } else { Fate::Goes }
    }

    /// How long an answer or data is overdue; zero for those of [`HALF_OPEN_LIMIT`].
    pub fn wait(&self, now: Instant) -> Duration {
        if self.plan.kind == Kind::HalfOpen || self.established.is_none() { Duration::ZERO } else { self.silence(now) }
    }

    /// The longest wait for an answer of this measurement, of connections that talk all the time and are not excused.
    pub fn longest_wait(&self, now: Instant) -> Option<Duration> {
        (self.plan.kind == Kind::Chat && self.is_established() && !self.excused)
            .then(|| self.longest_wait.max(self.wait(now)))
    }

    /// Begins a measurement.
    pub fn forget_waits(&mut self) {
        self.longest_wait = Duration::ZERO;
    }

    /// Its circumstances.
    pub fn story(&self, now: Instant) -> Value {
        let at = |time: Instant| clock::monotonic_ms() - clock::ms(now.saturating_duration_since(time));
        json!({
            "id": self.plan.header.id,
            "kind": self.plan.kind.name(),
            "local": self.socket.local_addr().ok().map(|a| a.to_string()),
            "target": self.plan.target.to_string(),
            "server": self.server(),
            "at_ms": clock::monotonic_ms(),
            "opened_ms": at(self.opened),
            "established_ms": self.established.map(at),
            "last_arrival_ms": self.last_arrival.map(at),
            "sent": self.up.sent(),
            "to_send": HEADER as u64 + self.plan.header.up(),
            "unacknowledged": sys::unacknowledged(&self.socket).ok(),
            "received": self.down.received(),
            "expected": GREETING as u64 + self.plan.header.down(),
            "closed": self.closed,
            "server_closed": self.ended,
        })
    }

    fn silence(&self, now: Instant) -> Duration {
        let since = |time: Instant| now.saturating_duration_since(time);
        let header = &self.plan.header;
        let answer = self.unanswered.front().map_or(Duration::ZERO, |(_, asked)| since(*asked));
        let start = self.last_arrival.or(self.established).unwrap_or(self.opened);
        let due = match header.script {
            Script::Source if self.down.checked() < header.down() => since(start + header.pace.interval),
            Script::Sink if !self.ended => since(start),
            // All is there: the other end's close is due.
            Script::Exchange | Script::Source if self.closed && !self.ended => since(start),
            Script::Exchange | Script::Source | Script::Sink => Duration::ZERO,
        };
        let acknowledgement = if self.outstanding.0 > 0 { since(self.outstanding.1) } else { Duration::ZERO };
        // A client that sends all the time gets no arrival to count from: its answers count.
        let due = if header.script == Script::Exchange && !self.unanswered.is_empty() { Duration::ZERO } else { due };
        answer.max(due).max(acknowledgement)
    }

    /// Allows the next chunk if it is due, or all of them, and sends.
    fn send_chunk(&mut self, now: Instant) -> Fate {
        let header = self.plan.header;
        let before = self.up.allowed();
        if before < header.up() && (self.hurry || self.action.is_none_or(|at| at <= now)) {
            let step = if self.hurry { header.up() } else { header.pace.chunk };
            let end = (before + step).min(header.up());
            self.up.allow(end);
            if header.script == Script::Exchange {
                self.unanswered.push_back((end, now));
            }
            self.action = (end < header.up()).then(|| now + header.pace.interval);
        }
        self.push()
    }

    /// Hands over what may be sent; closes our direction when its time has come.
    fn push(&mut self) -> Fate {
        if let Err(error) = self.up.flush(&mut self.socket) {
            return lost("reset", error);
        }
        let header = &self.plan.header;
        let all_sent = self.up.is_flushed() && self.up.allowed() == header.up();
        let may_close = match header.script {
            Script::Sink => true,
            Script::Source => self.plan.closes_early || self.ended,
            Script::Exchange => self.plan.closes_early || self.down.checked() == header.down(),
        };
        if all_sent && may_close && !self.closed {
            self.closed = true;
            if let Err(error) = self.socket.shutdown(Shutdown::Write) {
                return lost("reset", error);
            }
        }
        Fate::Goes
    }

    fn receive(&mut self, now: Instant) -> Fate {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    if self.down.lead().is_none() || self.down.checked() != self.plan.header.down() {
                        return lost("ended", "end of stream");
                    }
                    self.ended = true;
                    self.last_arrival = Some(now);
                    return self.push();
                }
                Ok(count) => {
                    self.last_arrival = Some(now);
                    let wrong_bytes = self.take_in(&buffer[..count], now);
                    if wrong_bytes > 0 {
                        let detail = format!("{wrong_bytes} wrong bytes");
                        return Fate::Lost { what: "corrupt", detail, wrong_bytes };
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.push(),
                Err(error) => return lost("reset", error),
            }
        }
    }

    /// Takes bytes in; returns how many are wrong.
    fn take_in(&mut self, bytes: &[u8], now: Instant) -> u64 {
        let rest = self.down.take_lead(bytes);
        let foreign = self.down.lead().is_some_and(|lead| script::greeted_by(lead).is_none());
        let wrong = self.down.take_pattern(rest) + if foreign { GREETING as u64 } else { 0 };
        while let Some((end, asked)) = self.unanswered.front()
            && *end <= self.down.checked()
        {
            self.longest_wait = self.longest_wait.max(now - *asked);
            self.unanswered.pop_front();
        }
        let header = &self.plan.header;
        let most = if header.script == Script::Exchange { self.up.allowed() } else { header.down() };
        wrong + self.down.checked().saturating_sub(most)
    }
}
