//! Connections at a fixed rate, or as many as the machine gives: connect, one request, its answer, close.
//!
//! With `--hold` the connections stay open until the command `release`, so that the cost of opening and of closing can be
//! told apart; `stop` ends a load before its time. Says `warm` when the load is under way, `opened` (with `--hold`), and
//! `done` with totals.

use super::bench_server::REQUEST;
use super::poller::{Poller, STDIN};
use super::{clock, say};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The load counts as under way after this time.
const WARM: Duration = Duration::from_millis(300);
/// What is under way at the end may take this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Connections under way at most, at a fixed rate; the rest of the rate is given up and told.
const MAX_UNDER_WAY: usize = 4096;
/// Files that a load leaves to everything that is not a held connection.
const SPARE_FILES: u64 = 500;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Virtual servers, used in turn.
    #[arg(long)]
    target: Vec<SocketAddr>,
    /// Source addresses, used in turn.
    #[arg(long)]
    from: Vec<IpAddr>,
    /// Connections begun each second; 0: as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Connections under way at a time if there is no rate.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// How long.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Keep them open until told to release them.
    #[arg(long)]
    hold: bool,
}

struct Connection {
    stream: TcpStream,
    begun: Instant,
    connected: bool,
    answered: bool,
}

struct Load<'o> {
    options: &'o Options,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    under_way: usize,
    stopped: bool,
    most_files: u64,
    begun: u64,
    answered: u64,
    failed: u64,
    given_up: u64,
    first_failure: Option<String>,
    latencies: Vec<Duration>,
    handshakes: Vec<Duration>,
}

/// Runs the load to its end.
pub fn run(options: &Options) -> Result<()> {
    anyhow::ensure!(!options.target.is_empty() && !options.from.is_empty(), "a --target and a --from");
    let mut load = Load {
        options,
        poller: Poller::new()?,
        connections: Vec::new(),
        free: Vec::new(),
        under_way: 0,
        stopped: false,
        most_files: crate::sys::file_limit(),
        begun: 0,
        answered: 0,
        failed: 0,
        given_up: 0,
        first_failure: None,
        latencies: Vec::new(),
        handshakes: Vec::new(),
    };
    say(&json!({ "event": "ready" }))?;
    let started = Instant::now();
    load.offer(started)?;
    let seconds = started.elapsed().as_secs_f64();
    load.drain()?;
    if options.hold {
        say(&load.report("opened", seconds))?;
        load.wait_release()?;
        let closing = Instant::now();
        load.release()?;
        return say(&load.report("done", closing.elapsed().as_secs_f64()));
    }
    say(&load.report("done", seconds))
}

impl Load<'_> {
    /// Whether the system allows hardly more sockets than are kept open.
    fn holds_all_it_may(&self) -> bool {
        self.options.hold && self.begun + SPARE_FILES >= self.most_files
    }

    /// Begins connections until the time is over, or no more can be held.
    fn offer(&mut self, started: Instant) -> Result<()> {
        let end = started + Duration::from_secs_f64(self.options.seconds);
        let period = Duration::from_secs(1).checked_div(self.options.rate);
        let (mut due, mut warm) = (started, false);
        loop {
            let now = Instant::now();
            if now >= end || self.stopped || self.holds_all_it_may() {
                return Ok(());
            }
            if !warm && now >= started + WARM {
                warm = true;
                say(&json!({ "event": "warm" }))?;
            }
            match period {
                Some(period) => {
                    while due <= now {
                        due += period;
                        if self.under_way < MAX_UNDER_WAY {
                            self.begin()?;
                        } else {
                            self.given_up += 1;
                        }
                    }
                }
                None => {
                    while self.under_way < self.options.concurrency {
                        self.begin()?;
                    }
                }
            }
            self.take_events(Duration::from_millis(1))?;
        }
    }

    fn drain(&mut self) -> Result<()> {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.under_way > 0 && Instant::now() < deadline {
            self.take_events(Duration::from_millis(5))?;
        }
        self.failed += self.under_way as u64;
        if self.under_way > 0 {
            self.first_failure.get_or_insert_with(|| "no answer".into());
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let turn = self.begun as usize;
        let from = self.options.from[turn % self.options.from.len()];
        let target = self.options.target[turn % self.options.target.len()];
        self.begun += 1;
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        crate::sys::bind_address_no_port(&socket)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        let begun = Instant::now();
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => {
                self.note_failure(&error);
                return Ok(());
            }
        }
        let connection = Connection { stream: socket.into(), begun, connected: false, answered: false };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.poller.watch(&connection.stream, slot as u64, true)?;
        self.connections[slot] = Some(connection);
        self.under_way += 1;
        Ok(())
    }

    fn note_failure(&mut self, error: &std::io::Error) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| error.to_string());
    }

    fn take_events(&mut self, limit: Duration) -> Result<()> {
        for event in self.poller.wait(limit)? {
            if event.token == STDIN {
                let lines = self.poller.commands()?.context("the lab has gone")?;
                self.stopped |= lines.iter().any(|line| line == "stop");
                continue;
            }
            self.react(event.token as usize)?;
        }
        Ok(())
    }

    fn react(&mut self, slot: usize) -> Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(()) };
        let step = if connection.connected {
            take_answer(connection)
        } else {
            match send_request(connection) {
                Ok(()) => {
                    self.latencies.push(connection.begun.elapsed());
                    let measured = crate::sys::tcp_round_trip_us(&connection.stream).unwrap_or_default();
                    self.handshakes.push(Duration::from_micros(measured.into()));
                    self.poller.change(&connection.stream, slot as u64, false)?;
                    connection.connected = true;
                    return Ok(());
                }
                Err(error) => Err(error),
            }
        };
        match step {
            Ok(false) => return Ok(()),
            Ok(true) => {
                self.answered += 1;
                connection.answered = true;
                if self.options.hold {
                    self.under_way -= 1;
                    return Ok(());
                }
            }
            Err(error) => self.note_failure(&error),
        }
        self.under_way -= 1;
        self.connections[slot] = None;
        self.free.push(slot);
        Ok(())
    }

    fn wait_release(&mut self) -> Result<()> {
        loop {
            for event in self.poller.wait(Duration::from_millis(50))? {
                if event.token == STDIN {
                    let lines = self.poller.commands()?.context("the lab has gone")?;
                    if lines.iter().any(|line| line == "release") {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Closes all, at the rate at which they were opened.
    fn release(&mut self) -> Result<()> {
        let mut open: VecDeque<Connection> = self.connections.iter_mut().filter_map(Option::take).collect();
        let period = Duration::from_secs(1).checked_div(self.options.rate).unwrap_or_default();
        let mut due = Instant::now();
        while !open.is_empty() {
            while due <= Instant::now() && open.pop_front().is_some() {
                due += period;
            }
            self.poller.wait(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn report(&self, event: &str, seconds: f64) -> Value {
        json!({
            "event": event, "begun": self.begun, "answered": self.answered, "failed": self.failed,
            "given_up": self.given_up, "seconds": seconds, "first_failure": self.first_failure,
            "connect": clock::micros(self.latencies.clone()), "handshake": clock::micros(self.handshakes.clone()),
        })
    }
}

/// The connection is established, or is not.
fn send_request(connection: &mut Connection) -> std::io::Result<()> {
    if let Some(error) = connection.stream.take_error()? {
        return Err(error);
    }
    connection.stream.write_all(&[7; REQUEST])
}

/// True when the answer is there. It is shorter than any segment, so it arrives whole.
fn take_answer(connection: &mut Connection) -> std::io::Result<bool> {
    let mut answer = [0; REQUEST];
    match connection.stream.read(&mut answer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) if count == REQUEST && answer == [7; REQUEST] => Ok(true),
        Ok(_) => Err(ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
