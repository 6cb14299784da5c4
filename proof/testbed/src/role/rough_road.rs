//! A bad road between two cables: carries frames from one to the other, each after a delay of its own, and loses some.
//!
//! This is what `netem` does; many kernels lack it. Each pair of interfaces is one road, in both directions. A frame waits
//! for a time drawn evenly between nothing and `--jitter-ms`, so that frames overtake each other; of the datagrams of the
//! peer link (UDP to its port) and of the heartbeats on data ports (an Ethernet type of their own) a share is lost. On a
//! road of kind `peer` everything travels, on a road of kind `hello` only heartbeats: whoever builds it must see to it
//! that they find no other way.
//!
//! The road is part of the network and not of the hosts whose cores are taken away: it asks for real-time scheduling, and
//! tells how late it was itself.

use super::poller::{Poller, STDIN};
use super::say;
use crate::dice::Dice;
use crate::sys;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Ethernet type of heartbeats on data ports.
const HELLO_TYPE: u16 = 0x88b5;
/// UDP port of the peer link.
const PEER_PORT: u16 = 3003;
/// What the kernel puts before each frame: a checksum may be left to be filled in, and must be on the other side, too.
const VNET_HEADER: usize = 10;
/// Longest frame, segmentation offload included.
const LONGEST: usize = VNET_HEADER + 65_550;
/// Frames under way on all roads; more are lost and counted.
const UNDER_WAY: usize = 65_536;
/// What a poll's time is counted in.
const POLL_STEP: Duration = Duration::from_millis(1);
/// Frames taken from one cable before another gets its turn.
const BATCH: usize = 64;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// A road on which everything travels: two interfaces, `a-p,b-p`.
    #[arg(long)]
    peer: Vec<String>,
    /// A road for heartbeats only.
    #[arg(long)]
    hello: Vec<String>,
    /// Of a hundred datagrams so many are lost.
    #[arg(long, default_value_t = 1)]
    loss_percent: u64,
    /// Longest delay.
    #[arg(long, default_value_t = 10)]
    jitter_ms: u64,
    /// Decides delays and losses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

struct End {
    socket: OwnedFd,
    name: String,
    carried: u64,
    lost: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

struct Road<'o> {
    options: &'o Options,
    /// Ends 2n and 2n + 1 belong together.
    ends: Vec<End>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    dice: Dice,
    number: u64,
    overflow: u64,
    refused: u64,
    delay_sum: Duration,
    latest: Duration,
}

/// Carries frames until the standard input ends; `report` tells what was carried and lost.
pub fn run(options: &Options) -> Result<()> {
    let real_time = sys::ask_for_real_time();
    let mut ends = Vec::new();
    for (pair, hello) in options.peer.iter().map(|p| (p, false)).chain(options.hello.iter().map(|p| (p, true))) {
        let (one, other) = pair.split_once(',').with_context(|| format!("two interfaces in {pair}"))?;
        for name in [one, other] {
            let socket = sys::packet_socket(name)?;
            sys::with_offload_header(&socket)?;
            if hello {
                sys::hear_only_ethernet_type(&socket, HELLO_TYPE)?;
            }
            ends.push(End { socket, name: name.into(), carried: 0, lost: 0 });
        }
    }
    let mut poller = Poller::new()?;
    for (at, end) in ends.iter().enumerate() {
        poller.watch(&end.socket, at as u64, false)?;
    }
    let mut road = Road {
        options,
        ends,
        waiting: BinaryHeap::new(),
        dice: Dice::new(options.seed, 0),
        number: 0,
        overflow: 0,
        refused: 0,
        delay_sum: Duration::ZERO,
        latest: Duration::ZERO,
    };
    say(&json!({ "event": "ready", "real_time": real_time }))?;
    let mut frame = vec![0; LONGEST];
    loop {
        for event in poller.wait(road.pause())? {
            if event.token != STDIN {
                road.take(event.token as usize, &mut frame);
                continue;
            }
            let Some(lines) = poller.commands()? else { return Ok(()) };
            for _ in lines.iter().filter(|line| *line == "report") {
                say(&road.report())?;
            }
        }
        road.deliver();
    }
}

impl Road<'_> {
    /// Until the next frame is due, rounded up to what a poll can wait.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let due = self.waiting.peek().map(|Reverse(first)| first.due.saturating_duration_since(now));
        match due {
            None => Duration::from_millis(100),
            Some(Duration::ZERO) => Duration::ZERO,
            Some(due) => due + POLL_STEP,
        }
    }

    fn take(&mut self, at: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Some(count) = sys::receive_now(&self.ends[at].socket, buffer) else { return };
            let frame = &buffer[..count];
            let unlucky = self.dice.percent(self.options.loss_percent);
            if may_be_lost(frame.get(VNET_HEADER..).unwrap_or_default()) && unlucky {
                self.ends[at].lost += 1;
                continue;
            }
            if self.waiting.len() >= UNDER_WAY {
                self.overflow += 1;
                continue;
            }
            let delay = self.dice.ms(0, self.options.jitter_ms);
            self.delay_sum += delay;
            self.number += 1;
            let due = Instant::now() + delay;
            self.waiting.push(Reverse(Waiting { due, number: self.number, to: at ^ 1, frame: frame.to_vec() }));
        }
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
            let Some(Reverse(first)) = self.waiting.pop() else { return };
            self.latest = self.latest.max(now - first.due);
            let end = &mut self.ends[first.to];
            match sys::send_now(&end.socket, &first.frame) {
                true => end.carried += 1,
                false => self.refused += 1,
            }
        }
    }

    fn report(&self) -> Value {
        let ends: Vec<Value> = self
            .ends
            .iter()
            .map(|end| json!({ "to": end.name, "carried": end.carried, "lost_from": end.lost }))
            .collect();
        let mean = self.delay_sum.as_secs_f64() * 1000.0 / self.number.max(1) as f64;
        json!({ "event": "report", "ends": ends, "frames": self.number, "mean_delay_ms": mean,
            "latest_ms": self.latest.as_secs_f64() * 1000.0, "overflow": self.overflow, "refused": self.refused })
    }
}

/// Is this a datagram to the peer's port, or a heartbeat on a data port?
fn may_be_lost(frame: &[u8]) -> bool {
    let at16 = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    match at16(12) {
        Some(HELLO_TYPE) => true,
        // The peer link's packets have no IP options.
        Some(0x0800) => frame.get(14) == Some(&0x45) && frame.get(23) == Some(&17) && at16(36) == Some(PEER_PORT),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_peers_datagrams_and_heartbeats_are_lost() {
        let mut frame = vec![0; 60];
        assert!(!may_be_lost(&frame) && !may_be_lost(&frame[..3]));
        frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        frame[23] = 17;
        assert!(!may_be_lost(&frame));
        frame[36..38].copy_from_slice(&PEER_PORT.to_be_bytes());
        assert!(may_be_lost(&frame));
        frame[23] = 6;
        assert!(!may_be_lost(&frame));
        frame[12..14].copy_from_slice(&HELLO_TYPE.to_be_bytes());
        assert!(may_be_lost(&frame));
    }
}
