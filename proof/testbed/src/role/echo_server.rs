//! A server for thousands of connections: echoes TCP and UDP, and pushes to idle clients on command.
//!
//! Commands: `push PORT` sends one message on every connection of that port that has spoken and reports how the connections
//! took it (`{"event":"push","connections","reset","retransmitted","open"}`); `status` reports totals.

use super::pattern::{self, MESSAGE};
use super::poller::{Event, Poller, STDIN};
use super::say;
use crate::sys;
use anyhow::Result;
use serde_json::json;
use socket2::Socket;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long `push` waits for the ends to react.
const PUSH_LIMIT: Duration = Duration::from_secs(3);

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Name that UDP answers and the `who` port carry.
    #[arg(long)]
    name: String,
    /// Where to echo.
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// Where to say the name and hang up.
    #[arg(long)]
    who: Vec<SocketAddr>,
}

enum Entry {
    Listener {
        socket: Socket,
        port: u16,
        who: bool,
    },
    Datagrams(UdpSocket),
    /// `heard`: it has spoken, which a monitor's probe does not.
    Stream {
        stream: TcpStream,
        port: u16,
        unsent: Vec<u8>,
        heard: bool,
        pushed: bool,
    },
}

#[derive(Default)]
struct Totals {
    accepted: u64,
    closed: u64,
    reset: u64,
    pushed_reset: u64,
    pushed_retransmitted: u64,
}

struct Server {
    name: String,
    poller: Poller,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    totals: Totals,
    push: Option<(Instant, u64)>,
}

/// Serves until the standard input ends.
pub fn run(options: &Options) -> Result<()> {
    let mut server = Server {
        name: options.name.clone(),
        poller: Poller::new()?,
        entries: BTreeMap::new(),
        next: 0,
        totals: Totals::default(),
        push: None,
    };
    for address in &options.listen {
        server.listen(*address, false)?;
        let socket = sys::datagrams(*address)?;
        server.add(Entry::Datagrams(socket))?;
    }
    for address in &options.who {
        server.listen(*address, true)?;
    }
    say(&json!({ "event": "ready" }))?;
    loop {
        for event in server.poller.wait(Duration::from_millis(50))? {
            if event.token == STDIN {
                match server.poller.commands()? {
                    None => return Ok(()),
                    Some(lines) => lines.iter().try_for_each(|line| server.command(line))?,
                }
            } else {
                server.react(event)?;
            }
        }
        server.finish_push()?;
    }
}

impl Server {
    fn listen(&mut self, address: SocketAddr, who: bool) -> Result<()> {
        let socket = sys::listener(address)?;
        self.add(Entry::Listener { socket, port: address.port(), who })
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        let token = self.next;
        self.next += 1;
        match &entry {
            Entry::Listener { socket, .. } => self.poller.watch(socket, token, false)?,
            Entry::Datagrams(socket) => self.poller.watch(socket, token, false)?,
            Entry::Stream { stream, .. } => self.poller.watch(stream, token, false)?,
        }
        self.entries.insert(token, entry);
        Ok(())
    }

    fn react(&mut self, event: Event) -> Result<()> {
        match self.entries.get_mut(&event.token) {
            None => Ok(()),
            Some(Entry::Listener { .. }) => self.accept(event.token),
            Some(Entry::Datagrams(socket)) => {
                answer_datagrams(socket, &self.name);
                Ok(())
            }
            Some(Entry::Stream { .. }) => self.echo(event.token),
        }
    }

    fn accept(&mut self, token: u64) -> Result<()> {
        loop {
            let Some(Entry::Listener { socket, port, who }) = self.entries.get(&token) else { return Ok(()) };
            let (port, who) = (*port, *who);
            let Ok((accepted, _)) = socket.accept() else { return Ok(()) };
            accepted.set_nonblocking(true)?;
            accepted.set_tcp_nodelay(true)?;
            let mut stream = TcpStream::from(accepted);
            self.totals.accepted += 1;
            if who {
                // The answer fits any send buffer; a client that is gone needs none.
                let _ = writeln!(stream, "{}", self.name);
            } else {
                self.add(Entry::Stream { stream, port, unsent: Vec::new(), heard: false, pushed: false })?;
            }
        }
    }

    fn echo(&mut self, token: u64) -> Result<()> {
        let Some(Entry::Stream { stream, unsent, heard, pushed, .. }) = self.entries.get_mut(&token) else {
            return Ok(());
        };
        let blocked_before = !unsent.is_empty();
        match echo_all(stream, unsent) {
            Ok(true) => {
                *heard = true;
                let blocked = !unsent.is_empty();
                if blocked != blocked_before {
                    self.poller.change(stream, token, blocked)?;
                }
                return Ok(());
            }
            Ok(false) => self.totals.closed += 1,
            Err(_) => {
                self.totals.reset += 1;
                if *pushed {
                    self.totals.pushed_reset += 1;
                    let retransmits = crate::sys::tcp_retransmits(stream);
                    self.totals.pushed_retransmitted += u64::from(retransmits != Some(0));
                }
            }
        }
        self.entries.remove(&token);
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<()> {
        match line.split_once(' ') {
            Some(("push", port)) => self.start_push(port.parse()?),
            _ => self.status("status"),
        }
    }

    fn status(&self, event: &str) -> Result<()> {
        let open = self.entries.values().filter(|entry| matches!(entry, Entry::Stream { .. })).count();
        let totals = &self.totals;
        say(&json!({
            "event": event, "open": open, "accepted": totals.accepted, "closed": totals.closed, "reset": totals.reset,
        }))
    }

    fn start_push(&mut self, wanted: u16) -> Result<()> {
        (self.totals.pushed_reset, self.totals.pushed_retransmitted) = (0, 0);
        let mut count = 0;
        let mut message = [0; MESSAGE];
        pattern::fill(0, 0, &mut message);
        for entry in self.entries.values_mut() {
            if let Entry::Stream { stream, port, heard: true, pushed, .. } = entry
                && *port == wanted
            {
                *pushed = true;
                count += 1;
                let _ = stream.write(&message); // the reaction is what counts
            }
        }
        self.push = Some((Instant::now() + PUSH_LIMIT, count));
        Ok(())
    }

    fn finish_push(&mut self) -> Result<()> {
        let Some((deadline, count)) = self.push else { return Ok(()) };
        if self.totals.pushed_reset < count && Instant::now() < deadline {
            return Ok(());
        }
        self.push = None;
        say(&json!({
            "event": "push", "connections": count, "reset": self.totals.pushed_reset,
            "retransmitted": self.totals.pushed_retransmitted,
        }))
    }
}

/// Reads what there is and sends it back; `false` at the end of the stream.
fn echo_all(stream: &mut TcpStream, unsent: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        while !unsent.is_empty() {
            match stream.write(unsent) {
                Ok(count) => drop(unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => unsent.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Answers each datagram with itself, followed by our name.
fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    while let Ok((count, from)) = socket.recv_from(&mut buffer[..1500]) {
        buffer[count..count + name.len()].copy_from_slice(name.as_bytes());
        let _ = socket.send_to(&buffer[..count + name.len()], from); // datagrams may be lost
    }
}
