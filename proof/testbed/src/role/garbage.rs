//! Rubbish for every socket of a node: UDP, TCP, the local control socket, and raw frames.

use super::pattern::mix;
use super::say;
use crate::sys;
use anyhow::Result;
use serde_json::json;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Datagrams of rubbish go here.
    #[arg(long)]
    udp: Vec<SocketAddr>,
    /// Connections full of rubbish go here.
    #[arg(long)]
    tcp: Vec<SocketAddr>,
    /// Local sockets that get rubbish.
    #[arg(long)]
    unix: Vec<PathBuf>,
    /// Interfaces that send malformed frames.
    #[arg(long)]
    interface: Vec<String>,
    /// Destination MAC address of the frames, as 12 hexadecimal digits; default broadcast.
    #[arg(long, default_value = "ffffffffffff")]
    mac: String,
    /// Pieces for each destination.
    #[arg(long, default_value_t = 500)]
    count: u64,
    /// Seed of the rubbish.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Sends everything and says `{"event":"done","sent"}`.
pub fn run(options: &Options) -> Result<()> {
    let mut sent = 0u64;
    for target in &options.udp {
        let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        for index in 0..options.count {
            sent += u64::from(socket.send_to(&rubbish(options.seed, index, 1400), target).is_ok());
        }
    }
    for target in &options.tcp {
        for index in 0..options.count.min(50) {
            sent += u64::from(rubbish_connection(*target, &rubbish(options.seed, index, 60_000)));
        }
    }
    for path in &options.unix {
        for index in 0..options.count.min(50) {
            if let Ok(mut stream) = UnixStream::connect(path) {
                sent += u64::from(stream.write_all(&rubbish(options.seed, index, 20_000)).is_ok());
            }
        }
    }
    for interface in &options.interface {
        let socket = sys::packet_socket(interface)?;
        let mac = parse_mac(&options.mac)?;
        for index in 0..options.count {
            let frame = malformed_frame(mac, options.seed, index);
            // SAFETY: the buffer and its length belong together.
            let done = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            sent += u64::from(done > 0);
        }
    }
    say(&json!({ "event": "done", "sent": sent }))
}

fn rubbish_connection(target: SocketAddr, bytes: &[u8]) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else { return false };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
    stream.write_all(bytes).is_ok()
}

/// Up to `limit` bytes that follow from seed and index.
fn rubbish(seed: u64, index: u64, limit: u64) -> Vec<u8> {
    let length = mix(seed ^ index.rotate_left(32)) % limit + 1;
    (0..length).map(|at| mix(seed.wrapping_add(index << 20).wrapping_add(at)) as u8).collect()
}

/// A frame that starts like IPv4, IPv6, ARP or nothing known, and then is wrong in one of many ways: cut short, with
/// absurd lengths, with random headers.
fn malformed_frame(mac: [u8; 6], seed: u64, index: u64) -> Vec<u8> {
    let ethertype: [u8; 2] =
        [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x81, 0x00], [0xff, 0x01]][(index % 5) as usize];
    let mut frame = Vec::with_capacity(1514);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 0x66]);
    frame.extend_from_slice(&ethertype);
    let mut body = rubbish(seed, index, 1400);
    match ethertype {
        [0x08, 0x00] => plausible_ipv4(&mut body, index),
        [0x86, 0xdd] => plausible_ipv6(&mut body, index),
        _ => {}
    }
    frame.extend_from_slice(&body);
    frame
}

/// Version, a header length and a protocol that pass a first look; addressed to a virtual server.
fn plausible_ipv4(body: &mut Vec<u8>, index: u64) {
    body.resize(body.len().max(24), 0);
    body[0] = 0x40 | (mix(index) % 16) as u8;
    body[9] = [6, 17, 1, 47][(index / 5 % 4) as usize];
    body[16..20].copy_from_slice(&[192, 0, 2, 100]);
    body.truncate(1 + (mix(index ^ 77) % body.len() as u64) as usize);
}

fn plausible_ipv6(body: &mut Vec<u8>, index: u64) {
    body.resize(body.len().max(48), 0);
    body[0] = 0x60;
    body[6] = [6, 17, 58, 0, 43, 44, 60][(index / 5 % 7) as usize];
    body[24..40].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    body.truncate(1 + (mix(index ^ 77) % body.len() as u64) as usize);
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let number = u64::from_str_radix(text, 16)?.to_be_bytes();
    let mut mac = [0; 6];
    mac.copy_from_slice(&number[2..]);
    Ok(mac)
}
