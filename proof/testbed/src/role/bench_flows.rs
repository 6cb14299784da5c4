//! A million UDP clients in one process: frames made by hand, answers remembered.
//!
//! Client number *n* is one of the given addresses and one of [`PORTS`] ports. `open N` sends one datagram for each of
//! the first N and goes on until all are answered; `check K` does the same for K of them, evenly spread, and counts those
//! whose answer tells of another server or source than the first one did. `blast MS` sends as fast as it can for so long, one
//! datagram of each client in turn, and waits for nothing; `busy MS` does so at [`BUSY`] datagrams a second, and throws the answers
//! away. Datagrams leave through a raw IP socket, so the
//! kernel finds the way (and learns a new one after a takeover); answers are read from a raw UDP socket.

use super::poller::{Poller, STDIN};
use super::say;
use crate::sys;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

/// First port of a client address, and how many it has.
const FIRST_PORT: u32 = 10_000;
/// Ports of each client address.
pub const PORTS: u32 = 50_000;
/// Datagrams in one system call.
const BATCH: usize = 64;
/// IP header, UDP header, number and round.
const LENGTH: usize = 20 + 8 + 8;
/// Datagrams without an answer at a time.
const WINDOW: usize = 1024;
/// Without an answer for this long, what is under way counts as lost and is sent again later.
const PATIENCE: Duration = Duration::from_millis(100);
/// Datagrams a second of `busy`.
pub const BUSY: u32 = 50_000;
/// All answers must have come within this time.
const LIMIT: Duration = Duration::from_secs(120);

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// The virtual server.
    #[arg(long)]
    target: SocketAddrV4,
    /// Client addresses.
    #[arg(long)]
    from: Vec<Ipv4Addr>,
}

struct Clients<'o> {
    options: &'o Options,
    out: Socket,
    back: Socket,
    round: u32,
    /// What the first answer to each client said: server and source.
    first: Vec<u64>,
}

/// All clients in turn, without an end.
struct Batches {
    clients: u32,
    next: u32,
}

impl Batches {
    fn next(&mut self) -> [u32; BATCH] {
        std::array::from_fn(|_| {
            let number = self.next;
            self.next = (self.next + 1) % self.clients.max(1);
            number
        })
    }
}

/// How an exchange went.
#[derive(Default)]
struct Exchange {
    asked: usize,
    answered: usize,
    changed: usize,
    sent: usize,
}

/// Serves commands until the standard input ends.
pub fn run(options: &Options) -> Result<()> {
    let mut clients = Clients::open(options)?;
    let mut poller = Poller::new()?;
    say(&json!({ "event": "ready" }))?;
    loop {
        for event in poller.wait(Duration::from_secs(1))? {
            if event.token != STDIN {
                continue;
            }
            let Some(lines) = poller.commands()? else { return Ok(()) };
            for line in lines {
                clients.command(&line)?;
            }
        }
    }
}

impl Clients<'_> {
    fn open(options: &Options) -> Result<Clients<'_>> {
        let target = (*options.target.ip(), 0).into();
        let target: std::net::SocketAddr = target;
        let out = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        out.connect(&target.into())?;
        let back = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
        // Not connected: that would also choose one of our addresses.
        back.set_nonblocking(true)?;
        sys::force_receive_buffer(&back, 64 << 20)?;
        Ok(Clients { options, out, back, round: 0, first: Vec::new() })
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let (word, count) = line.split_once(' ').context("a command and a number")?;
        let count: u32 = count.parse()?;
        let total = self.first.len();
        match word {
            "blast" => return self.blast(Duration::from_millis(count.into())),
            "busy" => return self.keep_busy(Duration::from_millis(count.into())),
            _ => {}
        }
        let asked: Vec<u32> = match word {
            "open" => {
                self.first = vec![0; count as usize];
                (0..count).collect()
            }
            "check" => (0..u64::from(count)).map(|k| (k * total as u64 / u64::from(count)) as u32).collect(),
            other => bail!("unknown command {other}"),
        };
        let begun = Instant::now();
        let exchange = self.exchange(&asked)?;
        say(&told(word, &exchange, begun.elapsed()))
    }

    fn blast(&mut self, time: Duration) -> Result<()> {
        let mut batches = self.all_in_turn();
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < time {
            sent += self.send(&batches.next())?;
        }
        say(&json!({ "event": "blast", "sent": sent, "seconds": begun.elapsed().as_secs_f64() }))
    }

    fn keep_busy(&mut self, time: Duration) -> Result<()> {
        let mut batches = self.all_in_turn();
        let (begun, mut sent, mut nobody) = (Instant::now(), 0, Vec::new());
        self.round += 1;
        while begun.elapsed() < time {
            let due = (begun.elapsed().as_secs_f64() * f64::from(BUSY)) as usize;
            if sent < due {
                sent += self.send(&batches.next())?;
            } else {
                self.wait_readable();
            }
            self.receive(&mut nobody, &mut Exchange::default())?;
        }
        say(&json!({ "event": "busy", "sent": sent, "seconds": begun.elapsed().as_secs_f64() }))
    }

    fn all_in_turn(&self) -> Batches {
        Batches { clients: self.first.len() as u32, next: 0 }
    }

    /// Sends to the virtual server from each of `asked` until each has its answer, or time is over.
    fn exchange(&mut self, asked: &[u32]) -> Result<Exchange> {
        self.round += 1;
        let mut exchange = Exchange { asked: asked.len(), ..Exchange::default() };
        let mut done = vec![false; self.first.len()];
        let deadline = Instant::now() + LIMIT;
        let mut left: Vec<u32> = asked.to_vec();
        while !left.is_empty() && Instant::now() < deadline {
            self.pass(&left, &mut done, &mut exchange)?;
            left.retain(|number| !done[*number as usize]);
        }
        Ok(exchange)
    }

    /// Sends once for each of `left`, with a window; ends when nothing more comes.
    fn pass(&mut self, left: &[u32], done: &mut [bool], exchange: &mut Exchange) -> Result<()> {
        let (mut next, mut under_way) = (0, 0_usize);
        let mut heard = Instant::now();
        while next < left.len() || under_way > 0 {
            if next < left.len() && under_way < WINDOW {
                let end = left.len().min(next + BATCH);
                let sent = self.send(&left[next..end])?;
                next += sent;
                under_way += sent;
                exchange.sent += sent;
            }
            let fresh = self.receive(done, exchange)?;
            under_way = under_way.saturating_sub(fresh);
            if fresh > 0 {
                heard = Instant::now();
            } else if under_way >= WINDOW || next == left.len() {
                if heard.elapsed() > PATIENCE {
                    under_way = 0;
                    heard = Instant::now();
                    continue;
                }
                self.wait_readable();
            }
        }
        Ok(())
    }

    fn endpoint(&self, number: u32) -> SocketAddrV4 {
        let address = self.options.from[(number / PORTS) as usize % self.options.from.len()];
        SocketAddrV4::new(address, (FIRST_PORT + number % PORTS) as u16)
    }

    fn send(&self, numbers: &[u32]) -> Result<usize> {
        let mut packets = [[0u8; LENGTH]; BATCH];
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: LENGTH }; BATCH];
        // SAFETY: all-zero is a valid mmsghdr: no name (the socket is connected), no parts, no control data.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let lanes = packets.iter_mut().zip(&mut parts).zip(&mut messages);
        for (number, ((packet, part), message)) in numbers.iter().zip(lanes) {
            write_datagram(packet, self.endpoint(*number), self.options.target, *number, self.round);
            part.iov_base = packet.as_mut_ptr().cast();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = numbers.len().min(BATCH) as libc::c_uint;
        // SAFETY: the first `count` messages each point at one part, and that at LENGTH bytes of `packets`.
        let sent = unsafe { libc::sendmmsg(self.out.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        match usize::try_from(sent) {
            Ok(sent) => Ok(sent),
            Err(_) => Err(std::io::Error::last_os_error()).context("send datagrams"),
        }
    }

    /// Reads what has come; returns how many answers of this round are new.
    fn receive(&mut self, done: &mut [bool], exchange: &mut Exchange) -> Result<usize> {
        let mut buffers = [[0u8; 128]; BATCH];
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 128 }; BATCH];
        // SAFETY: as in `send`.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for ((buffer, part), message) in buffers.iter_mut().zip(&mut parts).zip(&mut messages) {
            part.iov_base = buffer.as_mut_ptr().cast();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let (fd, flags) = (self.back.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: each message points at one part, and each part at 128 bytes of a buffer of its own.
        let count = unsafe {
            libc::recvmmsg(fd, messages.as_mut_ptr(), BATCH as libc::c_uint, flags as _, std::ptr::null_mut())
        };
        let count = usize::try_from(count).unwrap_or(0); // nothing there, or an ICMP error of something sent
        let mut fresh = 0;
        for (buffer, message) in buffers.iter().zip(&messages).take(count) {
            fresh += usize::from(self.take(&buffer[..message.msg_len as usize], done, exchange));
        }
        Ok(fresh)
    }

    fn take(&mut self, packet: &[u8], done: &mut [bool], exchange: &mut Exchange) -> bool {
        let Some(answer) = packet.get(28..) else { return false };
        if packet[12..16] != self.options.target.ip().octets() {
            return false;
        }
        let Some((head, seen)) = answer.split_first_chunk::<8>() else { return false };
        let number = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let round = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let to = packet.get(22..24).map(|port| u16::from_be_bytes([port[0], port[1]]));
        if round != self.round
            || number >= done.len()
            || done[number]
            || to != Some(self.endpoint(number as u32).port())
        {
            return false;
        }
        done[number] = true;
        exchange.answered += 1;
        let said = fingerprint(seen);
        match &mut self.first[number] {
            first if *first == 0 => *first = said,
            first => exchange.changed += usize::from(*first != said),
        }
        true
    }

    fn wait_readable(&self) {
        let mut wait = libc::pollfd { fd: self.back.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut wait, 1, 1) };
    }
}

fn told(event: &str, exchange: &Exchange, took: Duration) -> Value {
    json!({
        "event": event, "asked": exchange.asked, "answered": exchange.answered, "changed": exchange.changed,
        "sent": exchange.sent, "seconds": took.as_secs_f64(),
    })
}

/// A number for what a server said of itself and of us; never 0.
fn fingerprint(seen: &[u8]) -> u64 {
    seen.iter().fold(1, |sum: u64, byte| super::pattern::mix(sum ^ u64::from(*byte))) | 1
}

/// Header fields that are 0 here (identification, IP checksum) are the kernel's to fill in.
fn write_datagram(packet: &mut [u8; LENGTH], from: SocketAddrV4, to: SocketAddrV4, number: u32, round: u32) {
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(LENGTH as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..26].copy_from_slice(&(LENGTH as u16 - 20).to_be_bytes());
    packet[28..32].copy_from_slice(&number.to_be_bytes());
    packet[32..36].copy_from_slice(&round.to_be_bytes());
    let sum = checksum(&packet[12..], 17 + (LENGTH as u32 - 20));
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
}

/// The UDP checksum (RFC 768) over addresses and datagram; `start` is the rest of the pseudo-header.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum =
        bytes.chunks_exact(2).fold(start, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_with_its_checksum_sums_to_all_ones() {
        let mut packet = [0; LENGTH];
        let (from, to) = ("192.0.2.40:10007".parse().unwrap(), "192.0.2.112:53".parse().unwrap());
        write_datagram(&mut packet, from, to, 77, 3);
        // Summed over the checksum as well, the complement is 0, which is written as all ones.
        assert_eq!(checksum(&packet[12..], 17 + (LENGTH as u32 - 20)), 0xffff);
    }

    #[test]
    fn what_a_server_says_has_one_number_and_never_zero() {
        assert_eq!(fingerprint(b"abc"), fingerprint(b"abc"));
        assert_ne!(fingerprint(b"abc"), fingerprint(b"abd"));
        assert_ne!(fingerprint(b""), 0);
    }
}
