//! A stranger at the channel between the nodes: listens, then sends what it has heard again, cut short and bent, and
//! begins thousands of handshakes that it cannot end. The formats are those drawn in `docs/ha.md`.

use super::pattern::mix;
use super::say;
use crate::sys;
use anyhow::{Context as _, Result};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Listens here; frames leave here.
    #[arg(long)]
    interface: String,
    /// Sends datagrams there, not frames.
    #[arg(long)]
    udp: Option<SocketAddr>,
    /// In whose name: the NSIP of the victim's peer.
    #[arg(long)]
    name: Ipv4Addr,
    /// How long to listen.
    #[arg(long, default_value_t = 1000)]
    listen_ms: u64,
    /// The port of the idle connection: connections are opened there and left.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// So many of them.
    #[arg(long, default_value_t = 2000)]
    connections: usize,
    /// Handshakes to begin.
    #[arg(long, default_value_t = 10_000)]
    half_open: u64,
    /// Pause after each hundred of them, in microseconds.
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
}

/// Ethernet type of the channel on data ports.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Its group address.
const GROUP: [u8; 6] = [0x03, b'H', b'F', 0, 0, 1];
const PORT: u16 = 3003;
const HEADER: usize = 64;
/// Where a step has the cookie of its sender.
const COOKIE_AT: usize = HEADER + 8;
const HAIL: u8 = 1;
const OFFER: u8 = 2;
const REFUSAL: u8 = 4;
/// How long the victim's answer to a hail may take.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Captured datagrams that are used.
const CAPTURED_MAX: usize = 200;
/// A node of another pair.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// Connections that are open at the same time.
const OPEN_MAX: usize = 500;
/// Bytes of a header each of which makes it somebody else's: version, kind, session, lives of sender and receiver, node,
/// fingerprint.
const LABELS: [usize; 7] = [2, 3, 4, 8, 16, 55, 56];
/// An element of the group (the base point of RFC 9496).
const POINT: [u8; 32] = [
    0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00, 0x51, 0x5f, 0x58, 0xe3, 0x0b,
    0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45, 0xe0, 0x8d, 0x2d, 0x76,
];

struct Stranger {
    ear: OwnedFd,
    mouth: Option<(UdpSocket, SocketAddr)>,
    sent: u64,
}

/// Does all of it and says `{"event":"done","captured","cookie","sent","connected"}`.
pub fn run(options: &Options) -> Result<()> {
    let mouth = options.udp.map(|to| UdpSocket::bind((options.name, 0)).map(|socket| (socket, to))).transpose()?;
    let mut stranger = Stranger { ear: sys::packet_socket(&options.interface)?, mouth, sent: 0 };
    let captured = stranger.listen(Duration::from_millis(options.listen_ms), |_| false);
    for datagram in &captured {
        stranger.send(datagram);
        stranger.send(&datagram[..datagram.len() / 2]);
        stranger.send(&datagram[..datagram.len() - 1]);
        let mut bent = datagram.clone();
        let at = (mix(datagram.len() as u64) % bent.len() as u64) as usize;
        bent[at] ^= 0x10;
        stranger.send(&bent);
        for at in LABELS {
            let mut other = datagram.clone();
            other[at] ^= 0x55;
            stranger.send(&other);
        }
    }
    let victim = captured.iter().find(|datagram| datagram[40..56] != node(options.name));
    let boot = victim.and_then(|datagram| datagram[8..16].try_into().ok()).unwrap_or([0; 8]);
    stranger.send(&step(HAIL, options.name, 1, boot, [0; 8]));
    let is_hail = |datagram: &[u8]| {
        datagram.len() > COOKIE_AT + 8 && datagram[4..8] == [0; 4] && datagram[40..56] != node(options.name)
    };
    let answers = stranger.listen(ANSWER_LIMIT, is_hail);
    let hail = answers.iter().find(|datagram| is_hail(datagram));
    let cookie: [u8; 8] = hail.map_or(Ok([0; 8]), |hail| hail[COOKIE_AT..COOKIE_AT + 8].try_into())?;
    let boot: [u8; 8] = hail.map_or(Ok(boot), |hail| hail[8..16].try_into())?;
    stranger.send_pieces(options.name, boot, cookie);
    let connected = options.tcp.map_or(Ok(0), |to| connect_often(options, to))?;
    for number in 0..options.half_open {
        stranger.send(&step(OFFER, options.name, 2 + number, boot, cookie));
        if number % 100 == 99 && options.pause_us > 0 {
            std::thread::sleep(Duration::from_micros(options.pause_us));
        }
    }
    say(&json!({
        "event": "done", "captured": captured.len(), "cookie": hail.is_some(), "sent": stranger.sent,
        "connected": connected
    }))
    .context("nobody listens")
}

/// Opens connections in the peer's name, says something on every other one, and leaves them open until there are too
/// many. How many were begun.
fn connect_often(options: &Options, to: SocketAddr) -> Result<usize> {
    let mut open = Vec::with_capacity(OPEN_MAX);
    for number in 0..options.connections {
        if open.len() == OPEN_MAX {
            open.clear();
        }
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((options.name, 0)).into())?;
        // Refused, or under way: either will do.
        let _ = socket.connect(&to.into());
        if number % 2 == 0 {
            let _ = socket.send(&[0x16; 700]);
        }
        open.push(socket);
    }
    Ok(options.connections)
}

impl Stranger {
    /// Each step of a handshake cut off at every length, with a wrong cookie, to another life, and in the name of a
    /// node of another pair.
    fn send_pieces(&mut self, name: Ipv4Addr, boot: [u8; 8], cookie: [u8; 8]) {
        for kind in HAIL..=REFUSAL {
            let whole = step(kind, name, u64::from(kind) << 32, boot, cookie);
            (0..whole.len()).for_each(|len| self.send(&whole[..len]));
            self.send(&step(kind, name, u64::from(kind) << 33, boot, [9; 8]));
            self.send(&step(kind, name, u64::from(kind) << 34, [9; 8], cookie));
            self.send(&step(kind, STRANGER, u64::from(kind) << 35, boot, cookie));
        }
    }

    /// What the nodes say here, until `enough` or for so long.
    fn listen(&self, limit: Duration, enough: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let (until, mut heard) = (Instant::now() + limit, Vec::new());
        let mut frame = [0u8; 2048];
        while Instant::now() < until && heard.len() < CAPTURED_MAX {
            // SAFETY: the buffer and its length belong together.
            let count =
                unsafe { libc::recv(self.ear.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
            let Ok(count) = usize::try_from(count) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if let Some(datagram) = datagram_in(&frame[..count]) {
                heard.push(datagram.to_vec());
                if enough(datagram) {
                    break;
                }
            }
        }
        heard
    }

    fn send(&mut self, datagram: &[u8]) {
        if let Some((socket, to)) = &self.mouth {
            self.sent += u64::from(socket.send_to(datagram, to).is_ok());
            return;
        }
        let mut frame = Vec::from(GROUP);
        frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 0x67]);
        frame.extend_from_slice(&ETHERTYPE);
        frame.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
        frame.extend_from_slice(datagram);
        frame.resize(frame.len().max(60), 0);
        // SAFETY: the buffer and its length belong together.
        let done = unsafe { libc::send(self.ear.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        self.sent += u64::from(done > 0);
    }
}

/// The datagram of the channel in a frame: of our own type, or UDP over IPv4.
fn datagram_in(frame: &[u8]) -> Option<&[u8]> {
    let inside = match frame.get(12..14)? {
        [0x88, 0xb5] => {
            let len = u16::from_be_bytes(frame.get(14..16)?.try_into().ok()?);
            frame.get(16..16 + usize::from(len))?
        }
        [0x08, 0x00] if *frame.get(23)? == 17 => {
            let ip = frame.get(14..)?;
            let udp = ip.get(usize::from(ip[0] & 15) * 4..)?;
            let to = u16::from_be_bytes(udp.get(2..4)?.try_into().ok()?);
            let len = u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?);
            (to == PORT).then(|| udp.get(8..usize::from(len)))??
        }
        _ => return None,
    };
    (inside.len() > HEADER && inside.starts_with(b"HF")).then_some(inside)
}

/// A node's number: its NSIP, mapped into IPv6.
fn node(name: Ipv4Addr) -> [u8; 16] {
    name.to_ipv6_mapped().octets()
}

/// A step of a handshake in clear, in another life each time.
fn step(kind: u8, name: Ipv4Addr, number: u64, boot: [u8; 8], cookie: [u8; 8]) -> Vec<u8> {
    let mut datagram = b"HF\x02\x06\0\0\0\0".to_vec();
    datagram.extend_from_slice(&(mix(number) | 1).to_be_bytes());
    datagram.extend_from_slice(&boot);
    datagram.extend_from_slice(&[0; 16]);
    datagram.extend_from_slice(&node(name));
    datagram.extend_from_slice(&[0; 8]);
    datagram.extend_from_slice(&[kind, 1, 1, 0, 0, 0, 0, 0]);
    datagram.extend_from_slice(&[7; 8]);
    datagram.extend_from_slice(&cookie);
    datagram.extend_from_slice(&number.to_be_bytes());
    datagram.extend_from_slice(&POINT);
    datagram.extend_from_slice(&[0; 16]);
    datagram
}
