//! `soak`: no false alarm. Every core is kept busy, each path between the nodes loses heartbeats and delays them, clients go
//! on, and for minutes on end neither node may change its role.
//!
//! The peer link and the heartbeats on data ports travel over a road of ours (`role rough-road`): every frame of the peer
//! link waits up to the jitter, and a share of its datagrams is lost, whether they carry heartbeats or records (from outside
//! they look alike); the heartbeats of both data networks likewise. Packets of clients and servers travel as ever.

use crate::campaign::{keep_evidence, machine};
use crate::config::Vip;
use crate::lab::{Family, Lab};
use crate::node::{Binaries, Node, objects};
use crate::pair::Pair;
use crate::role::Role;
use crate::sys;
use crate::traffic::{self, Load, Traffic, role_log};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A role is ready, and answers, within this time on a machine without an idle moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the roles.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Cores count as busy when at most this share of their time was idle.
const MOST_IDLE: f64 = 0.05;
/// What goes on through the virtual servers meanwhile.
const LOAD: Load = Load { connections: 100, new_per_second: 20, probe_rate: 1000 };

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// How long.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Of a hundred heartbeats on each path so many are lost.
    #[arg(long, default_value_t = 1)]
    loss_percent: u64,
    /// Longest delay of a heartbeat, ms.
    #[arg(long, default_value_t = 10)]
    jitter_ms: u64,
    /// Processes that compute without a pause; default: one for each core.
    #[arg(long)]
    spinners: Option<usize>,
    /// Another hello interval than the product's default, ms.
    #[arg(long)]
    hello_interval: Option<String>,
    /// Another dead interval than the product's default, seconds.
    #[arg(long)]
    dead_interval: Option<String>,
    /// Write what came out, with command and machine, to this Markdown file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to keep logs and states after a failure.
    #[arg(long, default_value = "artifacts/soak")]
    evidence: PathBuf,
}

/// Runs the soak; fails at the first change of a role, and at the end if a connection was lost.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let lab = Lab::build()?;
    let road = build_road(&lab, options)?;
    let _servers = traffic::start_servers(&lab)?;
    let mut pair = Pair::new(&lab, binaries)?;
    let outcome = soak(options, &lab, &mut pair, road);
    if outcome.is_err() {
        keep_evidence(&lab, &pair, &options.evidence)?;
    }
    let text = outcome?;
    println!("{text}");
    if let Some(path) = &options.out {
        std::fs::write(path, text)?;
        println!("written: {}", path.display());
    }
    Ok(())
}

/// All that the nodes say to each other takes the road.
fn build_road(lab: &Lab, options: &Options) -> Result<Role> {
    lab.lead_peer_link_through_switch()?;
    let rules = "table bridge road {\n chain pre {\n  type filter hook prerouting priority 0\n  \
                 ether type 0x88b5 drop\n }\n}\n";
    lab.switch.run("nft", &["-f", "-"], rules)?;
    let line = format!(
        "rough-road --peer a-p,b-p --hello a-c,b-c --hello a-s,b-s --loss-percent {} --jitter-ms {}",
        options.loss_percent, options.jitter_ms
    );
    let args: Vec<String> = line.split(' ').map(String::from).collect();
    let mut road = Role::start(&lab.switch, &args, &role_log(lab))?;
    let ready = road.expect("ready", PATIENCE)?;
    if ready["real_time"] != true {
        println!("the road has no real-time scheduling: its own delays are part of the jitter");
    }
    Ok(road)
}

fn soak(options: &Options, lab: &Lab, pair: &mut Pair, mut road: Role) -> Result<String> {
    pair.bring_up(lab)?;
    for node in &pair.nodes {
        for (name, value) in [("-helloInterval", &options.hello_interval), ("-deadInterval", &options.dead_interval)] {
            if let Some(value) = value {
                node.cli(&["set", "ha", "node", name, value])?;
            }
        }
    }
    let mut traffic = Traffic::start(lab, Vip::Nat, &Family::ALL, LOAD)?;
    let spinners = start_spinners(lab, options)?;
    let before = [Roles::read(&pair.nodes[0])?, Roles::read(&pair.nodes[1])?];
    println!("roles: {} / {}; {} minutes begin", before[0], before[1], options.minutes);
    traffic.open_window()?;
    let (started, idle) = (Instant::now(), idle_seconds()?);
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    while started.elapsed() < length {
        sys::pause(LOOK_INTERVAL.min(length.saturating_sub(started.elapsed())));
        sys::check_interrupt()?;
        pair.ensure_alive()?;
        for (node, then) in pair.nodes.iter().zip(&before) {
            let role = Roles::read(node)?;
            ensure!(
                role.same(then),
                "node {} changed its role after {:.0} s: {then} became {role}; its log:\n{}",
                node.name(),
                started.elapsed().as_secs_f64(),
                node.log_from(then.logged)
            );
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let idle = (idle_seconds()? - idle) / (elapsed * cores);
    let after = [Roles::read(&pair.nodes[0])?, Roles::read(&pair.nodes[1])?];
    let roads = road.ask("report", PATIENCE)?;
    drop(spinners);
    let gaps = traffic.close_window()?;
    let outcome = traffic.finish()?;
    if let Some(complaint) = outcome.complaint() {
        bail!("no role changed, but: {complaint}");
    }
    ensure!(idle <= MOST_IDLE, "the cores were idle for {:.1} % of the time: nothing is proven", idle * 100.0);
    let losses = roads["ends"].as_array().context("the road's report")?.iter();
    ensure!(
        options.loss_percent == 0 || losses.clone().all(|end| end["lost_from"] != 0),
        "a path lost no heartbeat: nothing is proven: {roads}"
    );
    let mut text = document(options, elapsed, idle, &before, &after)?;
    tell_road(&mut text, &roads, options)?;
    writeln!(
        text,
        "\nClients meanwhile: {} connections established, {} lost; longest wait of a long connection p50 / p99 / max \
         {:.0} / {:.0} / {:.0} ms; UDP probe: {} of {} datagrams lost, longest silence {:.0} ms.",
        outcome.established(),
        outcome.lost(),
        gaps.tcp[0],
        gaps.tcp[1],
        gaps.tcp[2],
        outcome.udp["lost_total"],
        outcome.udp["sent_total"],
        gaps.udp
    )?;
    Ok(text)
}

fn start_spinners(lab: &Lab, options: &Options) -> Result<Vec<Role>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut spinners = Vec::new();
    for _ in 0..options.spinners.unwrap_or(cores) {
        let mut role = Role::start(&lab.client, &["spin".to_string()], &role_log(lab))?;
        role.expect("ready", PATIENCE)?;
        spinners.push(role);
    }
    Ok(spinners)
}

/// What a node's counters say about its role.
struct Roles {
    role: String,
    term: u64,
    since: String,
    received: u64,
    sent: u64,
    /// Changes of role in the log, and its length.
    told: usize,
    logged: usize,
}

impl Roles {
    fn read(node: &Node) -> Result<Roles> {
        let text = node.cli(&["stat", "ha", "node", "--json"])?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("JSON of stat ha node: {text}"))?;
        let counters = objects(&value).into_iter().find(|object| object.get("hacurmasterstate").is_some());
        let counters = counters.with_context(|| format!("no role in {text}"))?;
        let number = |name: &str| match &counters[name] {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let log = node.log_from(0);
        Ok(Roles {
            role: counters["hacurmasterstate"].as_str().unwrap_or_default().to_string(),
            term: number("term").context("the term")?,
            since: counters["transtime"].as_str().context("the last transition")?.to_string(),
            received: number("hatotpktrx").context("heartbeats received")?,
            sent: number("hatotpkttx").context("heartbeats sent")?,
            told: log.lines().filter(|line| line.contains(", cause ")).count(),
            logged: log.len(),
        })
    }

    fn same(&self, other: &Roles) -> bool {
        (&self.role, self.term, &self.since, self.told) == (&other.role, other.term, &other.since, other.told)
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} term {} since {} ({} changes told)", self.role, self.term, self.since, self.told)
    }
}

/// Idle time of all cores together since the machine's start.
fn idle_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    text.split_whitespace().nth(1).context("/proc/uptime")?.parse().context("/proc/uptime")
}

fn document(options: &Options, elapsed: f64, idle: f64, before: &[Roles; 2], after: &[Roles; 2]) -> Result<String> {
    let mut text = String::from("# Soak: no false alarm\n\n");
    let words: Vec<String> = std::env::args().skip(1).collect();
    writeln!(text, "Command: `cargo xtask testbed {}`\n\nMachine: {}\n", words.join(" "), machine())?;
    writeln!(
        text,
        "{:.1} minutes with hello interval {} and dead interval {}; cores idle for {:.2} % of the time. **Role changes: 0.**\n",
        elapsed / 60.0,
        options.hello_interval.as_ref().map_or("default".into(), |ms| format!("{ms} ms")),
        options.dead_interval.as_ref().map_or("default".into(), |s| format!("{s} s")),
        idle * 100.0
    )?;
    writeln!(text, "| node | role, term | heartbeats sent | heartbeats received (all paths) |\n|---|---|---|---|")?;
    for (name, (before, after)) in ["a", "b"].iter().zip(before.iter().zip(after)) {
        ensure!(before.same(after), "node {name}: {before} became {after}");
        let (sent, received) = (after.sent - before.sent, after.received - before.received);
        writeln!(text, "| {name} | {}, {} | {sent} | {received} |", after.role, after.term)?;
    }
    Ok(text)
}

fn tell_road(text: &mut String, report: &Value, options: &Options) -> Result<()> {
    writeln!(text, "\n| to | frames carried | datagrams and heartbeats lost on the way from there |\n|---|---|---|")?;
    for end in report["ends"].as_array().into_iter().flatten() {
        writeln!(text, "| {} | {} | {} |", end["to"].as_str().unwrap_or("?"), end["carried"], end["lost_from"])?;
    }
    writeln!(
        text,
        "\nDelay of a frame: evenly between 0 and {} ms, mean {:.2} ms; delivered at most {:.2} ms later than drawn; \
         {} found no room, {} were refused by an interface.",
        options.jitter_ms,
        report["mean_delay_ms"].as_f64().unwrap_or(f64::NAN),
        report["latest_ms"].as_f64().unwrap_or(f64::NAN),
        report["overflow"],
        report["refused"]
    )?;
    Ok(())
}
