//! UDP flows that send numbered datagrams at a fixed rate and watch who answers, and when.
//!
//! Commands: `window` starts a new measurement, `report` says what was measured since, `reopen` replaces every flow by one from
//! another port, `stop` ends. A datagram without an answer for [`LATE`] is *lost*; an answer that comes twice is counted, too.

use super::poller::{Poller, STDIN};
use super::{clock, pattern, say};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A datagram that is not answered for so long counts as lost, unless its answer comes before the report.
pub const LATE: Duration = Duration::from_millis(500);
/// So many unanswered datagrams of a flow are remembered one by one; older ones are only counted.
const REMEMBERED: usize = 1 << 20;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Virtual servers; flows are dealt out among them.
    #[arg(long)]
    target: Vec<SocketAddr>,
    /// Source addresses, of any family.
    #[arg(long)]
    from: Vec<IpAddr>,
    /// Number of flows.
    #[arg(long, default_value_t = 1)]
    flows: usize,
    /// Datagrams a second on each flow.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Length of a datagram: its number, then bytes that the number decides.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(8..=1200))]
    bytes: u16,
    /// Each flow lives so long and is then replaced; 0: for ever.
    #[arg(long, default_value_t = 0)]
    life_ms: u64,
}

struct Flow {
    socket: UdpSocket,
    target: SocketAddr,
    due: Instant,
    ends: Option<Instant>,
    earlier: u64,
    sent: u64,
    received: u64,
    server: Option<String>,
    changed_server: bool,
    corrupt: u64,
    last_answer: Option<Instant>,
    longest_gap: Duration,
    sent_before_window: u64,
    received_before_window: u64,
    unanswered: BTreeMap<u64, Instant>,
    /// Lost and not remembered any more: of a replaced socket, or too many.
    lost_before: u64,
    twice: u64,
}

impl Flow {
    /// Datagrams from number `first` on that are lost by `now`.
    fn lost_since(&self, first: u64, now: Instant) -> u64 {
        self.unanswered.range(first..).filter(|(_, sent)| now.saturating_duration_since(**sent) >= LATE).count() as u64
    }
}

/// Sends until told to stop.
pub fn run(options: &Options) -> Result<()> {
    let mut poller = Poller::new()?;
    let period = Duration::from_secs(1) / options.rate.max(1);
    let mut flows = open(options, period)?;
    for (index, flow) in flows.iter().enumerate() {
        poller.watch(&flow.socket, index as u64, false)?;
    }
    say(&json!({ "event": "ready" }))?;
    loop {
        for event in poller.wait(Duration::from_millis(1))? {
            if event.token != STDIN {
                receive(&mut flows[event.token as usize], usize::from(options.bytes))?;
                continue;
            }
            let Some(lines) = poller.commands()? else { return Ok(()) };
            for line in lines {
                if line == "reopen" {
                    for (index, flow) in flows.iter_mut().enumerate() {
                        replace(flow)?;
                        poller.watch(&flow.socket, index as u64, false)?;
                    }
                }
                command(&line, &mut flows)?;
            }
        }
        let now = Instant::now();
        for (index, flow) in flows.iter_mut().enumerate() {
            send_due(flow, now, period, usize::from(options.bytes));
            if flow.ends.is_some_and(|end| end <= now) {
                flow.ends = flow.ends.map(|end| end + Duration::from_millis(options.life_ms));
                replace(flow)?;
                poller.watch(&flow.socket, index as u64, false)?;
            }
        }
    }
}

/// The same flow from another port, whom another server may answer.
fn replace(flow: &mut Flow) -> Result<()> {
    let from = flow.socket.local_addr()?.ip();
    flow.socket = connect(from, flow.target)?;
    flow.earlier += 1;
    flow.lost_before += flow.lost_since(0, Instant::now());
    flow.unanswered.clear();
    (flow.server, flow.last_answer) = (None, None);
    Ok(())
}

fn connect(from: IpAddr, target: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open(options: &Options, period: Duration) -> Result<Vec<Flow>> {
    let start = Instant::now();
    (0..options.flows)
        .map(|index| {
            let target = options.target.get(index % options.target.len().max(1)).context("a --target")?;
            let sources: Vec<_> = options.from.iter().filter(|ip| ip.is_ipv4() == target.is_ipv4()).collect();
            let from = sources.get(index / options.target.len() % sources.len().max(1)).context("a --from")?;
            let share = index as f64 / options.flows as f64;
            let life = Duration::from_millis(options.life_ms);
            Ok(Flow {
                socket: connect(**from, *target)?,
                target: *target,
                due: start + period.mul_f64(share),
                ends: (!life.is_zero()).then(|| start + life.mul_f64(1.0 + share)),
                earlier: 0,
                sent: 0,
                received: 0,
                server: None,
                changed_server: false,
                corrupt: 0,
                last_answer: None,
                longest_gap: Duration::ZERO,
                sent_before_window: 0,
                received_before_window: 0,
                unanswered: BTreeMap::new(),
                lost_before: 0,
                twice: 0,
            })
        })
        .collect()
}

fn send_due(flow: &mut Flow, now: Instant, period: Duration, bytes: usize) {
    while flow.due <= now {
        flow.due += period;
        // A refused or dropped datagram shows as a missing answer.
        let _ = flow.socket.send(&datagram(flow.sent, bytes));
        flow.unanswered.insert(flow.sent, now);
        if flow.unanswered.len() > REMEMBERED {
            flow.unanswered.pop_first();
            flow.lost_before += 1;
        }
        flow.sent += 1;
    }
}

fn datagram(number: u64, bytes: usize) -> Vec<u8> {
    let mut datagram = vec![0; bytes];
    datagram[..8].copy_from_slice(&number.to_be_bytes());
    pattern::fill(number, 0, &mut datagram[8..]);
    datagram
}

fn receive(flow: &mut Flow, bytes: usize) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let count = match flow.socket.recv(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => continue, // an ICMP error for an earlier datagram
        };
        let Some((sent, name)) = buffer[..count].split_at_checked(bytes) else {
            flow.corrupt += 1;
            continue;
        };
        let number = sent.first_chunk::<8>().map_or(u64::MAX, |number| u64::from_be_bytes(*number));
        flow.corrupt += u64::from(number >= flow.sent || datagram(number, bytes) != sent);
        flow.twice += u64::from(flow.unanswered.remove(&number).is_none());
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(before) = flow.server.replace(name.clone()).filter(|before| *before != name) {
            flow.changed_server = true;
            let local = flow.socket.local_addr()?.to_string();
            say(&json!({ "event": "moved", "at_ms": clock::monotonic_ms(), "local": local,
                "target": flow.target.to_string(), "before": before, "after": name, "number": number,
                "received": flow.received }))?;
        }
        let now = Instant::now();
        if let Some(before) = flow.last_answer {
            flow.longest_gap = flow.longest_gap.max(now - before);
        }
        flow.last_answer = Some(now);
        flow.received += 1;
    }
}

fn command(line: &str, flows: &mut [Flow]) -> Result<()> {
    match line {
        "window" => {
            for flow in flows {
                flow.longest_gap = Duration::ZERO;
                (flow.sent_before_window, flow.received_before_window) = (flow.sent, flow.received);
            }
            say(&json!({ "event": "window" }))
        }
        "reopen" => say(&json!({ "event": "reopen" })),
        "report" | "stop" => say(&report(line, flows)),
        other => anyhow::bail!("unknown command {other}"),
    }
}

fn report(event: &str, flows: &[Flow]) -> Value {
    let now = Instant::now();
    // A flow that is silent at this moment counts with its silence so far.
    let gaps = flows.iter().map(|flow| {
        let silence = flow.last_answer.map_or(Duration::ZERO, |last| now - last);
        flow.longest_gap.max(silence)
    });
    let silence = flows.iter().filter_map(|flow| flow.last_answer).map(|last| now - last).max().unwrap_or_default();
    json!({
        "event": event,
        "flows": flows.len(),
        "earlier": flows.iter().map(|flow| flow.earlier).sum::<u64>(),
        "silent_ms": clock::ms(silence),
        "answered": flows.iter().filter(|flow| flow.received > flow.received_before_window).count(),
        "changed_server": flows.iter().filter(|flow| flow.changed_server).count(),
        "servers": flows.iter().filter_map(|flow| flow.server.as_deref()).collect::<std::collections::BTreeSet<_>>(),
        "corrupt": flows.iter().map(|flow| flow.corrupt).sum::<u64>(),
        "sent": flows.iter().map(|flow| flow.sent - flow.sent_before_window).sum::<u64>(),
        "received": flows.iter().map(|flow| flow.received - flow.received_before_window).sum::<u64>(),
        "lost": flows.iter().map(|flow| flow.lost_since(flow.sent_before_window, now)).sum::<u64>(),
        "sent_total": flows.iter().map(|flow| flow.sent).sum::<u64>(),
        "lost_total": flows.iter().map(|flow| flow.lost_before + flow.lost_since(0, now)).sum::<u64>(),
        "twice": flows.iter().map(|flow| flow.twice).sum::<u64>(),
        "gap": clock::summary(gaps.collect()),
    })
}
