//! Asks a virtual server, from several addresses, which server answers.

use super::say;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// The virtual server.
    #[arg(long)]
    target: SocketAddr,
    /// Addresses to ask from.
    #[arg(long)]
    from: Vec<IpAddr>,
}

/// Says `{"event":"done","answers":{"address":"server"}}`.
pub fn run(options: &Options) -> Result<()> {
    let mut answers = Map::new();
    for from in &options.from {
        let answer = ask(options.target, *from).unwrap_or_else(|error| format!("nobody: {error:#}"));
        answers.insert(from.to_string(), Value::String(answer));
    }
    say(&json!({ "event": "done", "answers": answers }))
}

fn ask(target: SocketAddr, from: IpAddr) -> Result<String> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&target.into(), Duration::from_secs(5)).context("connect")?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read")?;
    Ok(answer.trim().to_string())
}
