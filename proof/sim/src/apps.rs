//! What the hosts do: clients that say numbered things and check every echoed
//! byte, servers that echo.

use std::collections::BTreeMap;

use core::net::SocketAddr;
use core::time::Duration;

use holdfast_base::{Instant, Rng};
use holdfast_wire::Endpoint;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::IpAddress;

use crate::ftp::{FtpServer, Session, Way};
use crate::host::Host;
use crate::trace;

/// The TCP echo ports of every server; the first is for UDP too. A server
/// endpoint belongs to one service, so each kind of TCP vserver has its own.
pub const ECHO: [u16; 5] = [7, 8, 9, 10, 11];
/// The last byte of a connection that the server is asked to close; no other byte has this value.
const PLEASE_CLOSE: u8 = 0xff;
/// Listening sockets kept ready per server and port.
const BACKLOG: usize = 8;

/// What became of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not established yet.
    Opening,
    /// Established; bytes flow.
    Open,
    /// All bytes came back and it was closed in order.
    Finished,
    /// Never established: refused, or nobody answered.
    Failed,
    /// It was established, and then it was reset or timed out.
    Lost,
    /// A byte came back that was not sent.
    Corrupt,
}

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The client closes when everything has come back.
    ClientCloses,
    /// The server closes behind the last byte.
    ServerCloses,
    /// The client resets half-way.
    ClientResets,
}

/// A connection that a client is to open.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which vserver, an index of the world's list.
    pub vserver: usize,
    /// Its address and port.
    pub to: (IpAddress, u16),
    /// Bytes to send in all.
    pub total: u64,
    /// Time between chunks.
    pub pause: Duration,
    /// Who ends it.
    pub manner: Manner,
    /// Use the port of the last finished connection to the same place again.
    pub reuse: bool,
}

/// One client connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who ends it.
    pub manner: Manner,
    to: (IpAddress, u16),
    /// Which vserver, an index of the world's list.
    pub vserver: usize,
    /// IPv6?
    pub v6: bool,
    /// The client's port.
    pub port: u16,
    /// When it was opened, was established, ended.
    pub opened: Instant,
    /// When the client saw it established.
    pub established: Option<Instant>,
    /// When it ended.
    pub ended: Option<Instant>,
    /// Where it stands.
    pub outcome: Outcome,
    socket: SocketHandle,
    /// Bytes to send in all.
    pub total: u64,
    sent: u64,
    /// Bytes that came back, all of them right.
    pub echoed: u64,
    next_chunk: Instant,
    pause: Duration,
}

/// A client's UDP exchange: datagrams with its name and their number, answered
/// with the same and the server's number.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The client and its port: its first bytes.
    pub name: (u8, u16),
    /// Which vserver.
    pub vserver: usize,
    socket: SocketHandle,
    to: (IpAddress, u16),
    next: Instant,
    number: u32,
    /// Datagrams answered.
    pub answered: u32,
    /// Answered since somebody set this to false.
    pub answers: bool,
    /// The server of the first answer.
    pub server: Option<u8>,
    /// An answer came from another server.
    pub moved: bool,
}

/// A client host and what it runs.
pub struct Client {
    /// The host.
    pub host: Host,
    /// Its connections, ended ones too.
    pub connections: Vec<Connection>,
    /// Its UDP exchanges.
    pub exchanges: Vec<Exchange>,
    /// Its FTP sessions.
    pub sessions: Vec<Session>,
    next_port: u16,
}

impl Client {
    /// A client that runs nothing yet.
    pub fn new(host: Host) -> Client {
        Client { host, connections: Vec::new(), exchanges: Vec::new(), sessions: Vec::new(), next_port: 20_000 }
    }

    /// Opens a connection; its number in the list.
    pub fn open(&mut self, now: Instant, call: &Call) -> usize {
        let port = self.port_for(call);
        let socket = self.host.connect(call.to, port);
        self.connections.push(Connection {
            manner: call.manner,
            to: call.to,
            vserver: call.vserver,
            v6: matches!(call.to.0, IpAddress::Ipv6(_)),
            port,
            opened: now,
            established: None,
            ended: None,
            outcome: Outcome::Opening,
            socket,
            total: call.total,
            sent: 0,
            echoed: 0,
            next_chunk: now,
            pause: call.pause,
        });
        self.connections.len() - 1
    }

    /// A fresh port, or one that a finished connection to the same place had.
    fn port_for(&mut self, call: &Call) -> u16 {
        let over = |connection: &&mut Connection| {
            connection.to == call.to
                && connection.outcome == Outcome::Finished
                && connection.manner != Manner::ClientResets
        };
        if let Some(old) = self.connections.iter_mut().rev().find(over).filter(|_| call.reuse) {
            let (port, to) = (old.port, old.to);
            let taken =
                self.connections.iter().any(|other| other.port == port && other.to == to && other.ended.is_none());
            if !taken {
                return self.forget_socket(port, to);
            }
        }
        self.next_port += 1;
        self.next_port
    }

    /// Takes the sockets of ended connections away without a word on the wire.
    fn forget_socket(&mut self, port: u16, to: (IpAddress, u16)) -> u16 {
        for old in self.connections.iter_mut().filter(|old| old.port == port && old.to == to) {
            self.host.sockets.remove(old.socket);
            old.socket = self.host.idle_socket();
        }
        port
    }

    /// Starts a UDP exchange.
    pub fn exchange(&mut self, now: Instant, client: usize, vserver: usize, to: (IpAddress, u16)) {
        self.next_port += 1;
        let socket = self.host.udp(self.next_port);
        self.exchanges.push(Exchange {
            name: (client as u8, self.next_port),
            vserver,
            socket,
            to,
            next: now,
            number: 0,
            answered: 0,
            answers: false,
            server: None,
            moved: false,
        });
    }

    /// Begins an FTP session.
    pub fn fetch(&mut self, to: (IpAddress, u16), ways: &[Way], bytes: u64) {
        self.next_port += 1;
        self.sessions.push(Session::begin(&mut self.host, to, self.next_port, ways, bytes));
    }

    /// Lets every program run once.
    pub fn run(&mut self, now: Instant, rng: &mut Rng) {
        self.sessions.iter_mut().for_each(|session| session.run(&mut self.host));
        for connection in self.connections.iter_mut().filter(|connection| connection.ended.is_none()) {
            connection.run(now, self.host.sockets.get_mut::<tcp::Socket<'_>>(connection.socket), rng);
            if connection.ended.is_some() && connection.outcome != Outcome::Finished {
                self.host.sockets.get_mut::<tcp::Socket<'_>>(connection.socket).abort();
            }
        }
        for exchange in &mut self.exchanges {
            exchange.run(now, self.host.sockets.get_mut::<udp::Socket<'_>>(exchange.socket));
        }
    }

    /// When a program wants to run again.
    pub fn next_run(&self) -> Option<Instant> {
        let chunks =
            self.connections.iter().filter(|c| c.outcome == Outcome::Open && c.sent < c.total).map(|c| c.next_chunk);
        chunks.chain(self.exchanges.iter().map(|exchange| exchange.next)).min()
    }
}

impl Connection {
    /// The byte at a place of this connection's stream.
    fn byte(&self, at: u64) -> u8 {
        let byte = (at.wrapping_mul(31).wrapping_add(u64::from(self.port).wrapping_mul(7)) >> 1) as u8;
        if self.manner == Manner::ServerCloses && at + 1 == self.total {
            PLEASE_CLOSE
        } else {
            byte.min(PLEASE_CLOSE - 1)
        }
    }

    fn end(&mut self, now: Instant, outcome: Outcome) {
        self.outcome = outcome;
        self.ended = Some(now);
    }

    fn run(&mut self, now: Instant, socket: &mut tcp::Socket<'_>, rng: &mut Rng) {
        if self.outcome == Outcome::Opening {
            match socket.state() {
                tcp::State::SynSent => return,
                tcp::State::Closed => return self.end(now, Outcome::Failed),
                _ => {
                    self.outcome = Outcome::Open;
                    self.established = Some(now);
                }
            }
        }
        self.check_echo(now, socket);
        if self.ended.is_some() {
            return;
        }
        if self.manner == Manner::ClientResets && self.echoed * 2 >= self.total {
            socket.abort();
            self.end(now, Outcome::Finished);
        } else if self.echoed == self.total {
            if self.manner != Manner::ServerCloses || socket.state() != tcp::State::Established {
                socket.close();
            }
            if matches!(socket.state(), tcp::State::TimeWait | tcp::State::Closed | tcp::State::Closing) {
                self.end(now, Outcome::Finished);
            }
        } else if socket.state() == tcp::State::Closed || !socket.may_recv() {
            self.end(now, Outcome::Lost);
        } else {
            self.say(now, socket, rng);
        }
    }

    fn say(&mut self, now: Instant, socket: &mut tcp::Socket<'_>, rng: &mut Rng) {
        if self.sent >= self.total || now < self.next_chunk || !socket.can_send() {
            return;
        }
        let len = (1 + rng.below(700)).min(self.total - self.sent);
        let chunk: Vec<u8> = (self.sent..self.sent + len).map(|at| self.byte(at)).collect();
        self.sent += socket.send_slice(&chunk).unwrap_or(0) as u64;
        self.next_chunk = now + self.pause;
    }

    fn check_echo(&mut self, now: Instant, socket: &mut tcp::Socket<'_>) {
        let mut buffer = [0; 2048];
        while socket.can_recv() {
            let Ok(len) = socket.recv_slice(&mut buffer) else { return };
            for &byte in &buffer[..len] {
                if byte != self.byte(self.echoed) || self.echoed >= self.sent {
                    return self.end(now, Outcome::Corrupt);
                }
                self.echoed += 1;
            }
        }
    }
}

impl Exchange {
    /// The name with which a datagram begins.
    pub fn name_in(datagram: &[u8]) -> Option<(u8, u16)> {
        let &[client, high, low, ..] = datagram else { return None };
        Some((client, u16::from_be_bytes([high, low])))
    }

    fn run(&mut self, now: Instant, socket: &mut udp::Socket<'_>) {
        while let Ok((data, _)) = socket.recv() {
            let Some(&server) = data.last() else { continue };
            (self.answered, self.answers) = (self.answered + 1, true);
            self.moved |= self.server.is_some_and(|first| first != server);
            self.server.get_or_insert(server);
        }
        if now >= self.next {
            self.number += 1;
            let ((client, port), [a, b, c, d]) = (self.name, self.number.to_be_bytes());
            let [high, low] = port.to_be_bytes();
            let _ = socket.send_slice(&[client, high, low, a, b, c, d], self.to);
            self.next = now + Duration::from_millis(100);
        }
    }
}

/// A server host: TCP and UDP echo.
pub struct Server {
    /// The host.
    pub host: Host,
    number: u8,
    listening: Vec<(u16, SocketHandle)>,
    open: Vec<SocketHandle>,
    /// The sequence number of the last SYN from each place.
    begun: BTreeMap<(Endpoint, Endpoint), u32>,
    udp: SocketHandle,
    ftp: FtpServer,
    /// Its programs do nothing before this time; its TCP goes on.
    pub muted_until: Instant,
}

impl Server {
    /// A server that listens.
    pub fn new(mut host: Host, number: u8) -> Server {
        let ports = (0..BACKLOG).flat_map(|_| ECHO);
        let listening = ports.map(|port| (port, host.listen(port))).collect();
        let (udp, ftp) = (host.udp(ECHO[0]), FtpServer::new(&mut host));
        Server {
            host,
            number,
            listening,
            open: Vec::new(),
            begun: BTreeMap::new(),
            udp,
            ftp,
            muted_until: Instant::ZERO,
        }
    }

    /// Connections that have not ended.
    pub fn connections(&self) -> usize {
        self.open.len()
    }

    /// A frame arrives. smoltcp hands a repeated SYN to any listening socket,
    /// also while an earlier one is answering it; a real TCP looks for the
    /// connection first. So a repeated SYN is left to the retransmission timer.
    /// Another SYN from the same place means that the other end has forgotten:
    /// a real TCP challenges it and is reset in answer; here the old connection
    /// goes without these two segments, and the next SYN finds nothing in its way.
    pub fn receive(&mut self, frame: Vec<u8>) {
        let Some((from, to, sequence)) = trace::opening(&frame) else { return self.host.receive(frame) };
        let before = self.begun.insert((from, to), sequence);
        let remote = SocketAddr::new(from.addr.into(), from.port);
        let sockets = &self.host.sockets;
        let known = |handle: SocketHandle| {
            let socket = sockets.get::<tcp::Socket<'_>>(handle);
            let over = matches!(socket.state(), tcp::State::TimeWait | tcp::State::Closed | tcp::State::Listen);
            let local = socket.local_endpoint().map(|local| local.port);
            !over && socket.remote_endpoint() == Some(remote.into()) && local == Some(to.port)
        };
        let answering = self.listening.iter().map(|&(_, handle)| handle).chain(self.ftp.answering()).any(known);
        let open = self.open.iter().position(|&handle| known(handle));
        match open {
            Some(place) if before != Some(sequence) => {
                let handle = self.open.remove(place);
                self.host.sockets.remove(handle);
            }
            None if !answering => self.host.receive(frame),
            Some(_) | None => {}
        }
    }

    /// Lets the echo programs run once.
    pub fn run(&mut self, now: Instant) {
        for index in 0..self.listening.len() {
            let (port, handle) = self.listening[index];
            if self.host.sockets.get::<tcp::Socket<'_>>(handle).state() != tcp::State::Listen {
                self.open.push(handle);
                self.listening[index] = (port, self.host.listen(port));
            }
        }
        if now < self.muted_until {
            return;
        }
        self.ftp.run(&mut self.host);
        let sockets = &mut self.host.sockets;
        self.open.retain(|&handle| {
            let alive = echo(sockets.get_mut::<tcp::Socket<'_>>(handle));
            if !alive {
                sockets.remove(handle);
            }
            alive
        });
        let number = self.number;
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.udp);
        while let Ok((data, from)) = socket.recv() {
            let mut answer = data.to_vec();
            answer.push(number);
            let _ = socket.send_slice(&answer, from);
        }
    }
}

/// Sends back what came; false when the connection is over.
fn echo(socket: &mut tcp::Socket<'_>) -> bool {
    let mut buffer = [0; 1024];
    while socket.can_recv() && socket.can_send() {
        let room = (socket.send_capacity() - socket.send_queue()).min(buffer.len());
        let Ok(len) = socket.recv_slice(&mut buffer[..room]) else { break };
        if len == 0 {
            break;
        }
        let _ = socket.send_slice(&buffer[..len]);
        if buffer[len - 1] == PLEASE_CLOSE {
            socket.close();
        }
    }
    if !socket.may_recv() && !socket.can_recv() && socket.state() != tcp::State::SynReceived {
        socket.close();
    }
    socket.state() != tcp::State::Closed
}
