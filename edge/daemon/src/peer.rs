//! The sockets between the two data threads: datagrams, and one idle TCP
//! connection whose only message is its end.
//!
//! Its orderly end (FIN) is what the kernel of a dead process sends, and it refuses a new one. Whoever lives and lets go of
//! it resets it, and what resets it on the way says nothing about the process either.

use crate::poller::Poller;
use crate::queue::JobSender;
use holdfast_base::Instant;
use holdfast_node::{Level, PEER_PORT, PeerLink, StreamEvent};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

/// Tokens of these sockets at the poller; ports have small numbers.
pub const DATAGRAMS: u64 = 1 << 32;
/// The listening socket.
pub const LISTENER: u64 = 2 << 32;
/// The idle connection.
pub const STREAM: u64 = 3 << 32;

/// Pause between attempts to connect, and to bind.
const RETRY: Duration = Duration::from_millis(100);

/// An attempt to connect that was not even refused is given up after this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// A peer that was silent for this long and speaks again may have been
/// restarted by a power cut, which closes nothing: connect anew.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Kernel buffer for bursts of mirror datagrams.
const RECEIVE_BUFFER: libc::c_int = 16 << 20;

/// Kernel buffer for a turn's datagrams; the system's limit may make it smaller.
const SEND_BUFFER: usize = 4 << 20;

/// The idle connection gets a descriptor from here on: above all packet sockets.
const HIGH_DESCRIPTOR: libc::c_int = 900;

/// Longest datagram taken.
const DATAGRAM_LIMIT: usize = 2048;

/// Class selector 6 (RFC 4594): network control, before other traffic.
const TRAFFIC_CLASS: u32 = 0xc0;

/// The idle connection.
enum Stream {
    None,
    Connecting { socket: Socket, until: Instant },
    Open(Socket),
}

/// Counters of the peer link.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerCounters {
    /// Datagrams that the kernel would not take (buffer full, unreachable).
    pub unsent: u64,
    /// Datagrams and connections from an address that is not the peer's.
    pub foreign: u64,
}

/// The peer link of this node.
pub struct Peer {
    link: Option<PeerLink>,
    datagrams: Option<UdpSocket>,
    /// Sends, where that is done from another address.
    sending: Option<UdpSocket>,
    listener: Option<Socket>,
    stream: Stream,
    retry_at: Instant,
    heard_at: Instant,
    told: Option<StreamEvent>,
    events: Vec<StreamEvent>,
    complaint: String,
    counters: PeerCounters,
}

impl Peer {
    /// No link.
    pub fn new() -> Peer {
        Peer {
            link: None,
            datagrams: None,
            sending: None,
            listener: None,
            stream: Stream::None,
            retry_at: Instant::ZERO,
            heard_at: Instant::ZERO,
            told: None,
            events: Vec::new(),
            complaint: String::new(),
            counters: PeerCounters::default(),
        }
    }

    /// Opens, moves or closes the link.
    pub fn set_link(&mut self, now: Instant, link: Option<PeerLink>) {
        if self.link != link {
            self.reset_stream();
            let counters = self.counters;
            *self = Peer { link, retry_at: now, counters, ..Peer::new() };
        }
    }

    /// Counters so far.
    pub fn counters(&self) -> PeerCounters {
        self.counters
    }

    /// What happened to the idle connection, in order.
    pub fn take_events(&mut self) -> Vec<StreamEvent> {
        std::mem::take(&mut self.events)
    }

    /// When `maintain` has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        let sends = link.source == link.local || self.sending.is_some();
        let complete = sends && self.datagrams.is_some() && (link.connects || self.listener.is_some());
        match &self.stream {
            Stream::Connecting { until, .. } => Some(*until),
            Stream::None if link.connects => Some(self.retry_at),
            Stream::None | Stream::Open(_) => (!complete).then_some(self.retry_at),
        }
    }

    /// Opens what is missing, not more often than every 100 ms.
    pub fn maintain(&mut self, now: Instant, poller: &Poller, jobs: &mut JobSender) {
        let Some(link) = self.link.clone() else { return };
        if matches!(&self.stream, Stream::Connecting { until, .. } if now >= *until) {
            self.end_stream(now, StreamEvent::Cut);
        }
        if now < self.retry_at {
            return;
        }
        self.retry_at = now + RETRY;
        if let Err(error) = self.open_missing(now, &link, poller) {
            let text = format!(
                "peer link: cannot open port {PEER_PORT} on {}: {error} (the NSIP must be an address of this host; trying again)",
                link.local
            );
            if text != self.complaint {
                jobs.log(Level::Warn, text.clone());
                self.complaint = text;
            }
        } else {
            self.complaint.clear();
        }
    }

    fn open_missing(&mut self, now: Instant, link: &PeerLink, poller: &Poller) -> io::Result<()> {
        if self.datagrams.is_none() {
            let socket = open_datagrams(link.local)?;
            poller.add(socket.as_raw_fd(), DATAGRAMS, false)?;
            self.datagrams = Some(socket);
        }
        if link.source != link.local && self.sending.is_none() {
            self.sending = Some(open_datagrams(link.source)?);
        }
        if !link.connects && self.listener.is_none() {
            let socket = open_listener(link.local)?;
            poller.add(socket.as_raw_fd(), LISTENER, false)?;
            self.listener = Some(socket);
        }
        if link.connects && matches!(self.stream, Stream::None) {
            self.connect(now, link, poller);
        }
        Ok(())
    }

    fn connect(&mut self, now: Instant, link: &PeerLink, poller: &Poller) {
        match start_connect(link) {
            Ok(socket) if poller.add(socket.as_raw_fd(), STREAM, true).is_ok() => {
                self.stream = Stream::Connecting { socket, until: now + CONNECT_LIMIT };
            }
            Ok(_) => self.tell_end(StreamEvent::Cut),
            Err(error) => self.tell_end(meaning_of(&error)),
        }
    }

    /// The descriptor of `token` is ready.
    pub fn handle_ready(&mut self, now: Instant, token: u64, poller: &Poller) {
        match token {
            LISTENER => self.accept(poller),
            STREAM => self.look_at_stream(now, poller),
            _ => {}
        }
    }

    fn accept(&mut self, poller: &Poller) {
        let (Some(link), Some(listener)) = (&self.link, &self.listener) else { return };
        let Ok((socket, from)) = listener.accept() else { return };
        if from.as_socket().map(|from| from.ip()) != Some(link.expected) {
            self.counters.foreign += 1;
            return reset(&socket);
        }
        let socket = with_high_descriptor(socket);
        // The peer has one connection: when it opens another the old one is that of a life or of a path
        // that has ended, and its end says nothing about the peer that has just called.
        let watched = socket.set_nonblocking(true).and_then(|()| poller.add(socket.as_raw_fd(), STREAM, false));
        if watched.is_err() {
            return reset(&socket);
        }
        self.open_stream(socket);
    }

    fn look_at_stream(&mut self, now: Instant, poller: &Poller) {
        match std::mem::replace(&mut self.stream, Stream::None) {
            Stream::None => {}
            Stream::Connecting { socket, .. } => {
                let error = socket.take_error().unwrap_or_else(Some);
                let connected = error.is_none() && socket.peer_addr().is_ok();
                if connected && poller.change(socket.as_raw_fd(), STREAM, false).is_ok() {
                    self.heard_at = now;
                    self.open_stream(socket);
                } else {
                    reset(&socket);
                    self.end_stream(now, error.as_ref().map_or(StreamEvent::Cut, meaning_of));
                }
            }
            Stream::Open(socket) => {
                // Nothing is ever said on it; bytes are swallowed, a little at a time.
                let outcome = (&socket).read(&mut [0; 512]);
                self.stream = Stream::Open(socket);
                match outcome {
                    Ok(count) if count > 0 => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(_) => self.end_stream(now, StreamEvent::Closed),
                    Err(_) => self.end_stream(now, StreamEvent::Cut),
                }
            }
        }
    }

    fn end_stream(&mut self, now: Instant, event: StreamEvent) {
        self.reset_stream();
        self.retry_at = self.retry_at.max(now + RETRY);
        self.tell_end(event);
    }

    fn reset_stream(&mut self) {
        match std::mem::replace(&mut self.stream, Stream::None) {
            Stream::Open(socket) | Stream::Connecting { socket, .. } => reset(&socket),
            Stream::None => {}
        }
    }

    /// Each new connection is told, also when it takes the place of one.
    fn open_stream(&mut self, socket: Socket) {
        let event = StreamEvent::Open { round_trip: round_trip(&socket) };
        self.reset_stream();
        self.stream = Stream::Open(socket);
        self.told = Some(event);
        self.events.push(event);
    }

    /// Told once, however often an attempt to connect fails.
    fn tell_end(&mut self, event: StreamEvent) {
        if self.told != Some(event) {
            self.told = Some(event);
            self.events.push(event);
        }
    }

    /// Up to `budget` datagrams from the peer's address.
    pub fn receive(&mut self, now: Instant, budget: usize, handle: &mut dyn FnMut(&[u8])) {
        let (Some(link), Some(socket)) = (&self.link, &self.datagrams) else { return };
        let mut heard = false;
        let mut buffer = [0; DATAGRAM_LIMIT];
        for _ in 0..budget {
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) if from.ip() == link.expected => {
                    heard = true;
                    handle(&buffer[..len]);
                }
                Ok(_) => self.counters.foreign += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // An ICMP error of something sent before: the next call goes on.
                Err(_) => {}
            }
        }
        if heard {
            self.note_heard(now);
        }
    }

    fn note_heard(&mut self, now: Instant) {
        let silent = now.since(self.heard_at);
        self.heard_at = now;
        let connects = self.link.as_ref().is_some_and(|link| link.connects);
        if connects && silent > STALE_AFTER && matches!(self.stream, Stream::Open(_)) {
            // Not a close that could be held against the peer: it speaks.
            self.reset_stream();
            self.retry_at = now;
        }
    }

    /// Sends to the peer; what the kernel does not take is counted, and said
    /// again by those whose business it is.
    pub fn send(&mut self, bytes: &[u8]) {
        let own = self.sending.as_ref().or(self.datagrams.as_ref());
        let (Some(link), Some(socket)) = (&self.link, own) else {
            self.counters.unsent += 1;
            return;
        };
        if socket.send_to(bytes, SocketAddr::new(link.peer, PEER_PORT)).is_err() {
            self.counters.unsent += 1;
        }
    }
}

/// How long the kernels' handshake took, which waits for no process; zero if that is not known.
fn round_trip(socket: &Socket) -> Duration {
    // SAFETY: all-zero is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has room for `len` bytes; a kernel that knows less writes less.
    let rc = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    if rc == 0 { Duration::from_micros(info.tcpi_rtt.into()) } else { Duration::ZERO }
}

/// What a failed attempt to connect says about the peer.
fn meaning_of(error: &io::Error) -> StreamEvent {
    match error.kind() {
        ErrorKind::ConnectionRefused => StreamEvent::Closed,
        _ => StreamEvent::Cut,
    }
}

/// Lets go of a connection in a way that no dead process can.
fn reset(socket: &Socket) {
    // Who cannot say so is taken for dead and asked.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

fn new_socket(local: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(local, 0)), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Helps, and works without it.
    let _ = match local {
        IpAddr::V4(_) => socket.set_tos_v4(TRAFFIC_CLASS),
        IpAddr::V6(_) => socket.set_tclass_v6(TRAFFIC_CLASS),
    };
    Ok(socket)
}

/// Not connected: what somebody else sends in the peer's name is to be counted.
fn open_datagrams(local: IpAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(local, Type::DGRAM, Protocol::UDP)?;
    let size: *const libc::c_int = &RECEIVE_BUFFER;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `size` points at `len` readable bytes. Without the right to it the limit of the system holds.
    let forced =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size.cast(), len) };
    if forced != 0 {
        socket.set_recv_buffer_size(RECEIVE_BUFFER as usize)?;
    }
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&SocketAddr::new(local, PEER_PORT).into())?;
    Ok(socket.into())
}

fn open_listener(local: IpAddr) -> io::Result<Socket> {
    let socket = new_socket(local, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(local, PEER_PORT).into())?;
    socket.listen(4)?;
    Ok(socket)
}

fn start_connect(link: &PeerLink) -> io::Result<Socket> {
    let socket = with_high_descriptor(new_socket(link.source, Type::STREAM, Protocol::TCP)?);
    socket.bind(&SocketAddr::new(link.source, 0).into())?;
    let peer: SockAddr = SocketAddr::new(link.peer, PEER_PORT).into();
    match socket.connect(&peer) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// When a process dies, the kernel finishes the closing of its descriptors with
/// the highest one first, and each packet socket waits there for an RCU grace
/// period. Measured from SIGKILL to the peer's notice: 7 ms with this
/// connection above the packet sockets, 33 to 38 ms below them.
fn with_high_descriptor(socket: Socket) -> Socket {
    // SAFETY: duplicates a descriptor that is open.
    let fd = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR) };
    if fd < 0 {
        return socket;
    }
    // SAFETY: `fd` is a descriptor that nobody else owns.
    unsafe { Socket::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests;
