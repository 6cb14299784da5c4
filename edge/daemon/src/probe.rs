//! Monitor probes through the host's own sockets.

use holdfast_netio::HostAddress;
use holdfast_node::{ProbeKind, ProbeOutcome, ProbeRequest};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::timeout;

const TCP_OK: &str = "Success - TCP syn+ack received.";
const TCP_REFUSED: &str = "Failure - TCP connection refused";
const TCP_TIMEOUT: &str = "Failure - Time out during TCP connection establishment stage";
const PING_OK: &str = "Success - ICMP echo reply received.";
const PING_TIMEOUT: &str = "Failure - Probe timed out.";

/// ICMP types (RFC 792, RFC 4443): request and reply.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// Payload of an echo request: tells our replies from everybody else's.
type Token = [u8; 16];

/// Makes one probe; takes no longer than the request allows.
pub async fn probe(request: &ProbeRequest, host: &[HostAddress], secret: u64) -> ProbeOutcome {
    let started = Instant::now();
    let (ok, text) = if host.iter().any(|own| own.reaches(request.addr)) {
        match request.kind {
            ProbeKind::Tcp => tcp(request).await,
            ProbeKind::Ping => ping(request, secret).await,
        }
    } else {
        let text =
            format!("Failure - No kernel address in the subnet of {} to send the monitor probe from.", request.addr);
        (false, text)
    };
    ProbeOutcome { ok, text, took: started.elapsed() }
}

async fn tcp(request: &ProbeRequest) -> (bool, String) {
    match timeout(request.timeout, TcpStream::connect((request.addr, request.port))).await {
        Ok(Ok(_stream)) => (true, TCP_OK.to_owned()),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused => (false, TCP_REFUSED.to_owned()),
            ErrorKind::TimedOut => (false, TCP_TIMEOUT.to_owned()),
            _ => (false, format!("Failure - TCP connection could not be made: {error}")),
        },
        Err(_) => (false, TCP_TIMEOUT.to_owned()),
    }
}

async fn ping(request: &ProbeRequest, secret: u64) -> (bool, String) {
    let mut token = Token::default();
    token[..8].copy_from_slice(&request.id.to_be_bytes());
    token[8..].copy_from_slice(&secret.to_be_bytes());
    match timeout(request.timeout, echo(request.addr, token)).await {
        Ok(Ok(())) => (true, PING_OK.to_owned()),
        Ok(Err(error)) => (false, format!("Failure - ICMP echo request could not be sent: {error}")),
        Err(_) => (false, PING_TIMEOUT.to_owned()),
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
