//! One connection after the other, each timed: how long does a set-up take?
//!
//! Two clocks: the call of `connect` as the program feels it, and the kernel's own time from the SYN to the SYN-ACK
//! (`tcpi_rtt` of a connection that has seen nothing else), which does not depend on when the program runs again.

use super::say;
use anyhow::{Context, Result};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A connect takes no longer.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

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
}

/// Says `{"event":"done","connect_us":[…],"handshake_us":[…],"failed":n}`.
pub fn run(options: &Options) -> Result<()> {
    let (mut connect, mut handshake, mut failed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.count {
        match once(options) {
            Ok((felt, measured)) => {
                connect.push(felt.as_nanos() as f64 / 1000.0);
                handshake.push(measured);
            }
            Err(_) => failed += 1,
        }
        crate::sys::pause(Duration::from_millis(1));
    }
    say(&json!({ "event": "done", "connect_us": connect, "handshake_us": handshake, "failed": failed }))
}

fn once(options: &Options) -> Result<(Duration, u32)> {
    let socket = Socket::new(Domain::for_address(options.target), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(options.from, 0).into())?;
    socket.set_write_timeout(Some(CONNECT_LIMIT))?; // bounds connect(2) as well
    let begun = Instant::now();
    socket.connect(&options.target.into())?;
    let felt = begun.elapsed();
    Ok((felt, crate::sys::tcp_round_trip_us(&socket).context("TCP_INFO")?))
}
