//! Monitor probes through the host's own sockets.

#[cfg(test)]
mod tests;
mod tls;

use holdfast_netio::HostAddress;
use holdfast_node::{Carrier, Conversation, Event, Inquiry, MAX_HEARD, ProbeKind, ProbeOutcome, ProbeRequest, Verdict};
use socket2::{Domain, Protocol, Socket, Type};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PING_OK: &str = "ICMP echo reply received.";
const PING_TIMEOUT: &str = "Probe timed out.";
/// Bytes that are read at once.
const READ_SIZE: usize = 4096;

/// ICMP types (RFC 792, RFC 4443): request and reply.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// Payload of an echo request: tells our replies from everybody else's.
type Token = [u8; 16];

/// Makes one probe; takes no longer than the request allows.
pub async fn probe(request: &ProbeRequest, host: &[HostAddress], secret: u64) -> ProbeOutcome {
    let started = Instant::now();
    let verdict = if !host.iter().any(|own| own.reaches(request.addr)) {
        local(&format!("No kernel address in the subnet of {} to send the monitor probe from.", request.addr))
    } else {
        match &request.kind {
            ProbeKind::Ping => ping(request, secret).await,
            ProbeKind::Ask(_) if request.port == 0 => local("The service has no port to probe; use -destPort"),
            ProbeKind::Ask(inquiry) => ask(request, inquiry, secret).await,
        }
    };
    ProbeOutcome { ok: verdict.ok, text: verdict.text, took: started.elapsed() }
}

/// This host could not ask: that says nothing of the service, and no reversed monitor turns it around.
fn local(why: &str) -> Verdict {
    Verdict { ok: false, text: format!("Failure - {why}") }
}

/// Holds a conversation until it is over, or time is up.
async fn ask(request: &ProbeRequest, inquiry: &Inquiry, secret: u64) -> Verdict {
    let place = (request.addr, request.port);
    let mut talk = Conversation::new(inquiry, request.reverse, place, unguessable(secret, request.id));
    let result = timeout(request.timeout, carry(inquiry.carrier, place.into(), &mut talk)).await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => match told(&error) {
            Some(Told::Refused) => talk.handle(Event::Refused),
            Some(Told::TimedOut) => talk.handle(Event::TimedOut),
            Some(Told::Failed) => talk.handle(Event::Failed(&error.to_string())),
            None => return local(&format!("The monitor probe could not be sent: {error}")),
        },
        Err(_) => talk.handle(Event::TimedOut),
    }
    talk.verdict().cloned().unwrap_or_else(|| local("The monitor probe has come to no end"))
}

/// A number that only who knows the secret can tell from the probe's.
fn unguessable(secret: u64, id: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (secret, id).hash(&mut hasher);
    hasher.finish()
}

/// What an error of a socket says about the server.
enum Told {
    Refused,
    /// The kernel has given up before the probe's own time was over.
    TimedOut,
    Failed,
}

/// `None`: it is this host's own trouble.
fn told(error: &io::Error) -> Option<Told> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Told::Refused),
        ErrorKind::TimedOut => Some(Told::TimedOut),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::UnexpectedEof
        | ErrorKind::InvalidData => Some(Told::Failed),
        _ => None,
    }
}

/// Moves the conversation's bytes.
async fn carry(carrier: Carrier, place: SocketAddr, talk: &mut Conversation) -> io::Result<()> {
    match carrier {
        Carrier::Udp => exchange(place, talk).await,
        Carrier::Tcp => {
            let stream = TcpStream::connect(place).await?;
            talk.handle(Event::Connected);
            converse(stream, talk).await
        }
        Carrier::Tls => {
            let stream = TcpStream::connect(place).await?;
            talk.handle(Event::Connected);
            let stream = tls::handshake(stream, place.ip()).await?;
            talk.handle(Event::Secured);
            converse(stream, talk).await
        }
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, talk: &mut Conversation) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        while let Some(bytes) = talk.poll_send() {
            let sent = async {
                stream.write_all(&bytes).await?;
                stream.flush().await
            };
            // Behind the verdict it was a good-bye, which nobody need hear.
            if let (Err(error), None) = (sent.await, talk.verdict()) {
                return Err(error);
            }
        }
        if talk.verdict().is_some() {
            return Ok(());
        }
        match stream.read(&mut buffer).await? {
            0 => talk.handle(Event::End),
            len => talk.handle(Event::Bytes(&buffer[..len])),
        }
    }
}

async fn exchange(place: SocketAddr, talk: &mut Conversation) -> io::Result<()> {
    let any: IpAddr = if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: answers come from the server only, and so do its host's errors.
    socket.connect(place).await?;
    talk.handle(Event::Connected);
    while let Some(bytes) = talk.poll_send() {
        socket.send(&bytes).await?;
    }
    let mut buffer = vec![0; MAX_HEARD];
    while talk.verdict().is_none() {
        let len = socket.recv(&mut buffer).await?;
        talk.handle(Event::Bytes(&buffer[..len]));
    }
    Ok(())
}

async fn ping(request: &ProbeRequest, secret: u64) -> Verdict {
    let mut token = Token::default();
    token[..8].copy_from_slice(&request.id.to_be_bytes());
    token[8..].copy_from_slice(&secret.to_be_bytes());
    match timeout(request.timeout, echo(request.addr, token)).await {
        Ok(Ok(())) => Verdict::new(request.reverse, true, PING_OK),
        Ok(Err(error)) => local(&format!("ICMP echo request could not be sent: {error}")),
        Err(_) => Verdict::new(request.reverse, false, PING_TIMEOUT),
    }
}

/// Returns when the reply is there.
async fn echo(addr: IpAddr, token: Token) -> io::Result<()> {
    let (domain, protocol, kinds) = match addr {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ECHO_V4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ECHO_V6),
    };
    // A raw socket needs CAP_NET_RAW, which the daemon has anyway; a datagram
    // one needs the group range that few hosts set.
    let socket =
        Socket::new(domain, Type::RAW, Some(protocol)).or_else(|_| Socket::new(domain, Type::DGRAM, Some(protocol)))?;
    socket.set_nonblocking(true)?;
    // Connected: replies come from this address only.
    socket.connect(&SocketAddr::new(addr, 0).into())?;
    // SAFETY: a `Socket` owns its descriptor and gives the same one for as long as it lives.
    let socket = unsafe { AsyncFd::register(socket) }?;
    socket.get_ref().send(&echo_request(kinds.0, token))?;
    loop {
        let mut buffer = [0; 256];
        let mut ready = socket.readable().await?;
        match ready.try_io(|inner| inner.get_ref().read(&mut buffer)) {
            Ok(Ok(len)) if is_reply(addr, &buffer[..len], kinds.1, token) => return Ok(()),
            // Somebody else's, an ICMP error, or nothing any more: keep waiting.
            Ok(_) | Err(_) => {}
        }
    }
}

pub(crate) fn echo_request(kind: u8, token: Token) -> [u8; 24] {
    let mut message = [0; 24];
    message[0] = kind;
    message[4..6].copy_from_slice(&token[6..8]);
    message[6..8].copy_from_slice(&1u16.to_be_bytes());
    message[8..].copy_from_slice(&token);
    // Over IPv6 the kernel overwrites it, because it covers a pseudo-header.
    let sum = message.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&(!folded).to_be_bytes());
    message
}

/// Raw IPv4 sockets deliver the IP header too; all others do not.
pub(crate) fn is_reply(addr: IpAddr, packet: &[u8], kind: u8, token: Token) -> bool {
    let message = match (addr, packet.first()) {
        (IpAddr::V4(_), Some(first)) if first >> 4 == 4 => packet.get(usize::from(first & 0xf) * 4..),
        _ => Some(packet),
    };
    message.is_some_and(|message| message.first() == Some(&kind) && message.get(8..24) == Some(&token[..]))
}
