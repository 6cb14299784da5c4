//! One measured load through one subject of comparison.

use super::measure::{self, Link, Sender};
use super::peers::{KERNEL_VIP, KernelPair};
use super::stage::{Front, Stage};
use crate::lab::peer_address;
use crate::role::{Role, play_inside};
use crate::traffic::role_log;
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// A load says what it has to say within this time beyond its own length.
const SAY_LIMIT: Duration = Duration::from_secs(30);

/// All connections are forgotten within this time after their end.
const FORGET_LIMIT: Duration = Duration::from_secs(90);
/// UDP port of the floor's answering process, on a node's host.
const FLOOR_PORT: u16 = 7990;

/// What forwards the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Subject {
    /// A kernel that routes.
    Routed,
    /// A kernel that translates (nftables).
    Nft,
    /// The same, with conntrackd telling a second host.
    Conntrackd,
    /// A virtual server with `-connFailover DISABLED`.
    Disabled,
    /// STATEFUL with `-mirrorMode ASYNC`.
    Async,
    /// STATEFUL with `-mirrorMode STRICT`.
    Strict,
}

impl Subject {
    /// The product's three.
    pub const OURS: [Subject; 3] = [Subject::Disabled, Subject::Async, Subject::Strict];

    /// All that can be measured here.
    pub fn all() -> Vec<Subject> {
        let mut list = vec![Subject::Routed, Subject::Nft];
        list.extend(KernelPair::conntrackd_missing().is_none().then_some(Subject::Conntrackd));
        list.extend(Subject::OURS);
        list
    }

    /// How tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Routed => "routed hop (kernel)",
            Subject::Nft => "nftables NAT",
            Subject::Conntrackd => "nftables NAT + conntrackd FT-FW",
            Subject::Disabled => "holdfast DISABLED",
            Subject::Async => "holdfast ASYNC",
            Subject::Strict => "holdfast STRICT",
        }
    }

    /// Where clients call.
    fn targets(self) -> Vec<String> {
        match self {
            Subject::Routed => KernelPair::server_endpoints(),
            Subject::Nft | Subject::Conntrackd => vec![KERNEL_VIP.into()],
            Subject::Disabled => vec![Front::Plain.address()],
            Subject::Async | Subject::Strict => vec![Front::Kept.address()],
        }
    }

    /// Makes it ready to forward.
    pub fn enter(self, stage: &mut Stage) -> Result<()> {
        match self {
            Subject::Routed | Subject::Disabled => Ok(()),
            Subject::Nft => stage.peers.start_nat(),
            Subject::Conntrackd => {
                stage.peers.start_conntrackd()?;
                stage.peers.start_nat()
            }
            Subject::Async => set_mode(stage, "ASYNC"),
            Subject::Strict => set_mode(stage, "STRICT"),
        }
    }

    /// Takes it back.
    pub fn leave(self, stage: &mut Stage) -> Result<()> {
        match self {
            Subject::Routed | Subject::Disabled | Subject::Async | Subject::Strict => Ok(()),
            Subject::Nft => stage.peers.stop_nat(),
            Subject::Conntrackd => {
                stage.peers.stop_conntrackd()?;
                stage.peers.stop_nat()
            }
        }
    }
}

fn set_mode(stage: &Stage, mode: &str) -> Result<()> {
    for node in &stage.pair.nodes {
        node.cli(&["set", "ha", "node", "-mirrorMode", mode])?;
    }
    Ok(())
}

/// How hard, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections a second; 0: as many as possible.
    pub rate: u32,
    /// Seconds.
    pub seconds: f64,
}

impl Load {
    /// How tables name it.
    pub fn name(self) -> String {
        match self.rate {
            0 => "highest".into(),
            rate => format!("{rate}/s"),
        }
    }
}

/// What one load showed.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Connections that got their answer.
    pub answered: f64,
    /// Connections that did not.
    pub failed: f64,
    /// Connections a second.
    pub per_second: f64,
    /// p50 and p99 of `connect` in the load's own event loop, microseconds.
    pub connect: [f64; 2],
    /// CPU time of the forwarding daemons (acting, standing by), nanoseconds.
    pub daemons_ns: [f64; 2],
    /// CPU time of the whole machine, load and servers included, nanoseconds.
    pub machine_ns: f64,
    /// What crossed the link between the two hosts.
    pub link: Link,
}

/// The arguments of a load.
pub fn arguments(targets: &[String], load: Load) -> Result<Vec<String>> {
    let mut args = vec!["bench-load".to_string()];
    args.extend(["--rate".into(), load.rate.to_string(), "--seconds".into(), load.seconds.to_string()]);
    let first: SocketAddr = targets.first().context("a target")?.parse()?;
    for target in targets {
        args.extend(["--target".into(), target.clone()]);
    }
    for address in Stage::sources(first) {
        args.extend(["--from".into(), address]);
    }
    Ok(args)
}

/// Runs one load through `subject`, which has been entered.
pub fn measure(stage: &mut Stage, subject: Subject, load: Load) -> Result<Sample> {
    let primary = stage.pair.wait_whole()?;
    let mut role = Role::start(&stage.lab.client, &arguments(&subject.targets(), load)?, &role_log(&stage.lab))?;
    let daemons = daemons(stage, subject, primary)?;
    let host = match subject {
        Subject::Routed | Subject::Nft | Subject::Conntrackd => &stage.peers.hosts[0],
        Subject::Disabled | Subject::Async | Subject::Strict => &stage.lab.nodes[primary],
    };
    let (link, machine) = (Link::read(host, "eth-p")?, measure::machine_ns()?);
    let before = cpu(&daemons)?;
    let done = role.expect("done", Duration::from_secs_f64(load.seconds) + SAY_LIMIT)?;
    let after = cpu(&daemons)?;
    let number = |name: &str| done[name].as_f64().unwrap_or_default();
    Ok(Sample {
        answered: number("answered"),
        failed: number("failed"),
        per_second: number("answered") / number("seconds"),
        connect: ["p50_us", "p99_us"].map(|name| done["connect"][name].as_f64().unwrap_or(f64::NAN)),
        daemons_ns: [0, 1].map(|at| after[at] - before[at]),
        machine_ns: (measure::machine_ns()? - machine) as f64,
        link: Link::read(host, "eth-p")?.since(link),
    })
}

/// The processes whose CPU time counts as this subject's, the acting one first.
fn daemons(stage: &Stage, subject: Subject, primary: usize) -> Result<Vec<u32>> {
    match subject {
        Subject::Routed | Subject::Nft => Ok(Vec::new()),
        Subject::Conntrackd => Ok(stage.peers.conntrackd_pids()),
        Subject::Disabled | Subject::Async | Subject::Strict => {
            [primary, 1 - primary].map(|at| stage.pair.nodes[at].pid().context("a living node")).into_iter().collect()
        }
    }
}

fn cpu(daemons: &[u32]) -> Result<[f64; 2]> {
    let mut times = [0.0; 2];
    for (time, pid) in times.iter_mut().zip(daemons) {
        *time = measure::cpu_ns(*pid)? as f64;
    }
    Ok(times)
}

/// Times of single connections, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    /// `connect` as the program felt it, microseconds.
    pub connect: Vec<f64>,
    /// SYN to SYN-ACK by the client's kernel, microseconds.
    pub handshake: Vec<f64>,
    /// Connections that failed.
    pub failed: u64,
}

impl Timed {
    /// Adds another series.
    pub fn extend(&mut self, other: Timed) {
        self.connect.extend(other.connect);
        self.handshake.extend(other.handshake);
        self.failed += other.failed;
    }
}

/// Times `count` connections through one of our subjects while `background` connections a second go the same way.
/// Returns the times and the rate that the background reached.
pub fn probe(stage: &mut Stage, subject: Subject, background: u32, count: u32) -> Result<(Timed, f64)> {
    let targets = subject.targets();
    let target = targets.first().context("a target")?.clone();
    let log = role_log(&stage.lab);
    let limit = Duration::from_secs(u64::from(count) / 20) + SAY_LIMIT;
    let mut behind = None;
    if background > 0 {
        let load = Load { rate: background, seconds: limit.as_secs_f64() };
        let mut role = Role::start(&stage.lab.client, &arguments(&targets, load)?, &log)?;
        role.expect("warm", SAY_LIMIT)?;
        behind = Some(role);
    }
    let args = ["bench-probe", "--target", &target, "--from", &Stage::probe_source(), "--count", &count.to_string()]
        .map(String::from);
    let timed = timed(&play_inside(&stage.lab.client, &args, limit, &log)?);
    let mut reached = 0.0;
    if let Some(mut role) = behind {
        role.tell("stop")?;
        let told = role.expect("done", SAY_LIMIT)?;
        reached = told["answered"].as_f64().unwrap_or_default() / told["seconds"].as_f64().unwrap_or(f64::NAN);
    }
    Ok((timed, reached))
}

fn timed(done: &Value) -> Timed {
    let list =
        |name: &str| -> Vec<f64> { done[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let failed = done["failed"].as_u64().unwrap_or_default();
    Timed { connect: list("connect_us"), handshake: list("handshake_us"), failed }
}

/// Times `count` datagrams from one node's host to the other's over the peer link, and their answers, of two plain
/// processes: what any word of the other host costs here and now.
pub fn floor(stage: &Stage, count: u32) -> Result<Timed> {
    let log = role_log(&stage.lab);
    let target = format!("{}:{FLOOR_PORT}", peer_address(1));
    let args = ["bench-server", "--number", "1", "--udp", &target].map(String::from);
    let mut server = Role::start(&stage.lab.nodes[1], &args, &log)?;
    server.expect("ready", SAY_LIMIT)?;
    let (from, count_text) = (peer_address(0), count.to_string());
    let args = ["bench-probe", "--datagrams", "--target", &target, "--from", &from, "--count", &count_text];
    let limit = Duration::from_secs(u64::from(count) / 20) + SAY_LIMIT;
    Ok(timed(&play_inside(&stage.lab.nodes[0], &args.map(String::from), limit, &log)?))
}

/// What crossed the mirror in one stage of connections' lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Counted by the sender, before the envelope.
    pub sender: Sender,
    /// Counted at the link, both directions.
    pub link: Link,
    /// Seconds.
    pub seconds: f64,
}

/// The three stages of many connections: opening, closing, and being forgotten.
pub struct Lives {
    /// Connections.
    pub count: f64,
    /// Connections a second while they were opened.
    pub per_second: f64,
    /// Until all had their answer.
    pub open: Told,
    /// While they were closed.
    pub close: Told,
    /// Until the nodes had forgotten them.
    pub forget: Told,
}

/// Opens connections to `front` at a rate, keeps them, closes them, waits until they are forgotten; reads the counters in
/// between.
pub fn lives(stage: &mut Stage, front: Front, load: Load) -> Result<Lives> {
    let primary = stage.pair.wait_whole()?;
    let mut args = arguments(&[front.address()], load)?;
    args.push("--hold".into());
    wait_forgotten(stage, primary)?;
    let first = reading(stage, primary)?;
    let mut role = Role::start(&stage.lab.client, &args, &role_log(&stage.lab))?;
    let opened = role.expect("opened", Duration::from_secs_f64(load.seconds) + SAY_LIMIT)?;
    let second = reading(stage, primary)?;
    role.ask_for("release", "done", Duration::from_secs_f64(load.seconds) + SAY_LIMIT)?;
    drop(role);
    let third = reading(stage, primary)?;
    wait_forgotten(stage, primary)?;
    let last = reading(stage, primary)?;
    let number = |name: &str| opened[name].as_f64().unwrap_or_default();
    let between = |from: (Sender, Link, f64), to: (Sender, Link, f64)| Told {
        sender: to.0.since(from.0),
        link: to.1.since(from.1),
        seconds: to.2 - from.2,
    };
    Ok(Lives {
        count: number("answered"),
        per_second: number("answered") / number("seconds"),
        open: between(first, second),
        close: between(second, third),
        forget: between(third, last),
    })
}

/// What the link carries in `seconds` without any traffic; `settled`: nor the ends of earlier connections.
pub fn silence(stage: &mut Stage, seconds: f64, settled: bool) -> Result<Told> {
    let primary = stage.pair.wait_whole()?;
    if settled {
        wait_forgotten(stage, primary)?;
    }
    let before = reading(stage, primary)?;
    crate::sys::pause(Duration::from_secs_f64(seconds));
    crate::sys::check_interrupt()?;
    let after = reading(stage, primary)?;
    Ok(Told { sender: after.0.since(before.0), link: after.1.since(before.1), seconds: after.2 - before.2 })
}

fn reading(stage: &Stage, primary: usize) -> Result<(Sender, Link, f64)> {
    let link = Link::read(&stage.lab.nodes[primary], "eth-p")?;
    Ok((Sender::read(&stage.pair.nodes[primary])?, link, measure::time_of_day()))
}

/// A connection that has ended stays in the table for 40 s.
fn wait_forgotten(stage: &Stage, primary: usize) -> Result<()> {
    crate::sys::wait_until("the nodes have forgotten the connections", FORGET_LIMIT, || {
        let left = stage.pair.nodes.iter().map(|node| node.ha()?.flows()).sum::<Result<u64>>()?;
        Ok((left == 0).then_some(()))
    })
    .with_context(|| format!("node {} is primary", stage.pair.nodes[primary].name()))
}
