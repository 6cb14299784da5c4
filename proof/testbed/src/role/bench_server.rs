//! The server of the benches: answers requests on TCP connections, and tells UDP clients what it sees of them.
//!
//! TCP: each request of [`REQUEST`] bytes gets as many back, until the client hangs up. UDP: a datagram's first eight
//! bytes come back, followed by our number, the port on which it arrived, and the address and port that it came from, so
//! that a client notices when its flow moves to another server or gets another source.

use super::poller::{Poller, STDIN};
use super::say;
use crate::sys;
use anyhow::Result;
use serde_json::json;
use socket2::Socket;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// Bytes of a request and of its answer.
pub const REQUEST: usize = 64;
/// Datagrams answered before other sockets get their turn.
const DATAGRAM_BATCH: usize = 64;
/// Kernel buffer for bursts of datagrams.
const RECEIVE_BUFFER: usize = 32 << 20;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Our number in UDP answers.
    #[arg(long)]
    number: u8,
    /// Where to answer TCP requests.
    #[arg(long)]
    tcp: Vec<SocketAddr>,
    /// Where to answer datagrams.
    #[arg(long)]
    udp: Vec<SocketAddr>,
}

enum Entry {
    Listener(Socket),
    Datagrams { socket: UdpSocket, port: u16 },
    Stream(TcpStream),
}

struct Server {
    number: u8,
    poller: Poller,
    /// By descriptor, which is also the poller's token.
    entries: Vec<Option<Entry>>,
}

/// Serves until the standard input ends.
pub fn run(options: &Options) -> Result<()> {
    let mut server = Server { number: options.number, poller: Poller::new()?, entries: Vec::new() };
    for address in &options.tcp {
        let socket = sys::listener(*address)?;
        server.add(socket.as_raw_fd(), Entry::Listener(socket))?;
    }
    for address in &options.udp {
        let socket = sys::datagrams(*address)?;
        sys::force_receive_buffer(&socket, RECEIVE_BUFFER)?;
        server.add(socket.as_raw_fd(), Entry::Datagrams { socket, port: address.port() })?;
    }
    say(&json!({ "event": "ready" }))?;
    loop {
        for event in server.poller.wait(Duration::from_secs(1))? {
            if event.token == STDIN {
                if server.poller.commands()?.is_none() {
                    return Ok(());
                }
                continue;
            }
            server.react(event.token as usize)?;
        }
    }
}

impl Server {
    fn add(&mut self, fd: i32, entry: Entry) -> Result<()> {
        let at = usize::try_from(fd)?;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        match &entry {
            Entry::Listener(socket) => self.poller.watch(socket, at as u64, false)?,
            Entry::Datagrams { socket, .. } => self.poller.watch(socket, at as u64, false)?,
            Entry::Stream(stream) => self.poller.watch(stream, at as u64, false)?,
        }
        self.entries[at] = Some(entry);
        Ok(())
    }

    fn react(&mut self, at: usize) -> Result<()> {
        match self.entries.get_mut(at).and_then(Option::as_mut) {
            None => Ok(()),
            Some(Entry::Listener(_)) => self.accept(at),
            Some(Entry::Datagrams { socket, port }) => {
                answer_datagrams(socket, *port, self.number);
                Ok(())
            }
            Some(Entry::Stream(stream)) => {
                if !answer_requests(stream) {
                    self.entries[at] = None;
                }
                Ok(())
            }
        }
    }

    fn accept(&mut self, at: usize) -> Result<()> {
        loop {
            let Some(Some(Entry::Listener(socket))) = self.entries.get(at) else { return Ok(()) };
            let Ok((accepted, _)) = socket.accept() else { return Ok(()) };
            accepted.set_nonblocking(true)?;
            let mut stream = TcpStream::from(accepted);
            // The request is often there already.
            if answer_requests(&mut stream) {
                self.add(stream.as_raw_fd(), Entry::Stream(stream))?;
            }
        }
    }
}

/// Answers what has arrived; `false` at the end of the connection. A request is shorter than any segment, so it arrives
/// whole, and its answer fits any send buffer.
fn answer_requests(stream: &mut TcpStream) -> bool {
    let mut request = [0; REQUEST];
    loop {
        match stream.read(&mut request) {
            Ok(0) => return false,
            Ok(count) => {
                if stream.write_all(&request[..count]).is_err() {
                    return false;
                }
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, port: u16, number: u8) {
    let mut buffer = [0; 64];
    for _ in 0..DATAGRAM_BATCH {
        let Ok((count, from)) = socket.recv_from(&mut buffer[..8]) else { return };
        let mut answer = buffer[..count].to_vec();
        answer.push(number);
        answer.extend_from_slice(&port.to_be_bytes());
        answer.extend_from_slice(&from.port().to_be_bytes());
        match from.ip() {
            IpAddr::V4(ip) => answer.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => answer.extend_from_slice(&ip.octets()),
        }
        let _ = socket.send_to(&answer, from); // a lost answer is asked for again
    }
}
