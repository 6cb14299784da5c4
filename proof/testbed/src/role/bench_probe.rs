//! One connection after the other, each timed: how long does a set-up take?
//!
//! Two clocks: the call of `connect` as the program feels it, and the kernel's own time from the SYN to the SYN-ACK
//! (`tcpi_rtt` of a connection that has seen nothing else), which does not depend on when the program runs again.
//!
//! With `--datagrams`: one datagram and its answer after the other. Between two hosts that is what a program must wait
//! for the word of another one, whatever it does with it.

use super::say;
use anyhow::{Context, Result};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A connect, or an answer, takes no longer.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a datagram: those of a sealed record of a connection.
const DATAGRAM: usize = 96;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// The virtual server.
    #[arg(long)]
    target: SocketAddr,
    /// Source address.
    #[arg(long)]
    from: IpAddr,
    /// Connections.
    #[arg(long, default_value_t = 300)]
    count: u32,
    /// Datagrams and their answers instead of connections.
    #[arg(long)]
    datagrams: bool,
}

/// Says `{"event":"done","connect_us":[…],"handshake_us":[…],"failed":n}`; of datagrams both lists are the same.
pub fn run(options: &Options) -> Result<()> {
    let (mut connect, mut handshake, mut failed) = (Vec::new(), Vec::new(), 0);
    let datagrams = if options.datagrams { Some(datagram_socket(options)?) } else { None };
    for _ in 0..options.count {
        match datagrams.as_ref().map_or_else(|| once(options), ask) {
            Ok((felt, measured)) => {
                connect.push(felt);
                handshake.push(measured);
            }
            Err(_) => failed += 1,
        }
        crate::sys::pause(Duration::from_millis(1));
    }
    say(&json!({ "event": "done", "connect_us": connect, "handshake_us": handshake, "failed": failed }))
}

/// What the program felt, and what the kernel measured, microseconds.
type Times = (f64, f64);

fn once(options: &Options) -> Result<Times> {
    let socket = Socket::new(Domain::for_address(options.target), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(options.from, 0).into())?;
    socket.set_write_timeout(Some(CONNECT_LIMIT))?; // bounds connect(2) as well
    let begun = Instant::now();
    socket.connect(&options.target.into())?;
    let felt = microseconds(begun.elapsed());
    Ok((felt, crate::sys::tcp_round_trip_us(&socket).context("TCP_INFO")?.into()))
}

fn datagram_socket(options: &Options) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(options.from, 0))?;
    socket.connect(options.target)?;
    socket.set_read_timeout(Some(CONNECT_LIMIT))?;
    Ok(socket)
}

fn ask(socket: &UdpSocket) -> Result<Times> {
    let begun = Instant::now();
    socket.send(&[0; DATAGRAM])?;
    socket.recv(&mut [0; DATAGRAM])?;
    let felt = microseconds(begun.elapsed());
    Ok((felt, felt))
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
