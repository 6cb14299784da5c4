//! Idle connections that speak once when told: how does each end learn that its connection is gone, or that it lives?
//!
//! Opens its connections, exchanges one message on each, says `ready`, and then is silent. `send` writes one message on
//! each and reports how it went; `hear` reports how many connections have received the server's push.

use super::pattern::{self, MESSAGE};
use super::say;
use crate::sys;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long `send` and `hear` wait for all connections together.
const REACTION_LIMIT: Duration = Duration::from_secs(3);

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// The virtual server.
    #[arg(long)]
    target: SocketAddr,
    /// Source addresses, used in turn.
    #[arg(long)]
    from: Vec<IpAddr>,
    /// Number of connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
}

/// Serves commands until the standard input ends.
pub fn run(options: &Options) -> Result<()> {
    let mut streams = Vec::new();
    for index in 0..options.connections {
        let from = options.from.get(index % options.from.len().max(1)).context("a --from")?;
        streams.push(open(options.target, *from, index as u64).with_context(|| format!("connection {index}"))?);
    }
    say(&json!({ "event": "ready" }))?;
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "send" => say(&send(&mut streams))?,
            "hear" => say(&hear(&mut streams))?,
            other => anyhow::bail!("unknown command {other}"),
        }
    }
    Ok(())
}

fn open(target: SocketAddr, from: IpAddr, id: u64) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&target.into(), Duration::from_secs(5))?;
    socket.set_tcp_nodelay(true)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut message, mut answer) = ([0; MESSAGE], [0; MESSAGE]);
    pattern::fill(id, 0, &mut message);
    stream.write_all(&message)?;
    stream.read_exact(&mut answer)?;
    ensure!(message == answer, "the echo differs");
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[derive(Default)]
struct Outcome {
    answered: usize,
    reset: usize,
    ended: usize,
    retransmitted: usize,
}

fn send(streams: &mut [TcpStream]) -> Value {
    let mut message = [0; MESSAGE];
    pattern::fill(1, 0, &mut message);
    for stream in streams.iter_mut() {
        let _ = stream.write(&message); // the reaction is what counts
    }
    let outcome = await_reactions(streams);
    json!({
        "event": "send", "connections": streams.len(), "answered": outcome.answered, "reset": outcome.reset,
        "ended": outcome.ended, "retransmitted": outcome.retransmitted,
    })
}

fn hear(streams: &mut [TcpStream]) -> Value {
    let outcome = await_reactions(streams);
    json!({
        "event": "hear", "connections": streams.len(), "heard": outcome.answered, "reset": outcome.reset,
        "ended": outcome.ended,
    })
}

/// Waits until each connection has received something or failed.
fn await_reactions(streams: &mut [TcpStream]) -> Outcome {
    let deadline = Instant::now() + REACTION_LIMIT;
    let mut open: Vec<&mut TcpStream> = streams.iter_mut().collect();
    let mut outcome = Outcome::default();
    while !open.is_empty() && Instant::now() < deadline {
        open.retain_mut(|stream| {
            let mut buffer = [0; MESSAGE];
            match stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(0) => outcome.ended += 1,
                Ok(_) => outcome.answered += 1,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    outcome.reset += 1;
                    outcome.retransmitted += usize::from(sys::tcp_retransmits(*stream) != Some(0));
                }
                Err(_) => outcome.ended += 1,
            }
            false
        });
        sys::pause(Duration::from_millis(2));
    }
    outcome
}
