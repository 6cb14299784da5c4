//! `bench mirror`: what mirroring costs a connection.

use super::loads::{self, Lives, Load, Sample, Subject, Timed, Told};
use super::measure::{median, quantile};
use super::peers::KernelPair;
use super::stage::{Front, Stage};
use super::{Common, Report, note};
use crate::campaign::keep_evidence;
use crate::node::Binaries;
use anyhow::Result;

/// Connections a second behind the timed ones.
const BACKGROUNDS: [u32; 3] = [0, 1000, 5000];
/// Rates at which costs are compared; 0 is the highest.
const RATES: [u32; 3] = [1000, 5000, 0];

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds; in each one all subjects take turns.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Timed connections in each round.
    #[arg(long, default_value_t = 400)]
    probes: u32,
    /// Only these tables.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Only these forwarders in the table of costs.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Only these rates in the table of costs (connections a second; 0: the highest).
    #[arg(long, value_delimiter = ',')]
    rate: Vec<u32>,
    #[command(flatten)]
    common: Common,
}

/// A table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Part {
    /// Times of single set-ups.
    SetUp,
    /// Connections a second and what each costs.
    Costs,
    /// Bytes on the mirror.
    Bytes,
}

/// How much is done.
struct Plan {
    parts: Vec<Part>,
    subjects: Vec<Subject>,
    rounds: u32,
    seconds: f64,
    probes: u32,
    backgrounds: Vec<u32>,
    rates: Vec<u32>,
    fronts: Vec<Front>,
    /// Heartbeats are measured when the ends of earlier connections have been told.
    settled: bool,
}

impl Plan {
    fn of(options: &Options) -> Plan {
        let chosen = |part: &Part| options.part.is_empty() || options.part.contains(part);
        let mut plan = Plan {
            parts: [Part::SetUp, Part::Costs, Part::Bytes].into_iter().filter(chosen).collect(),
            subjects: Subject::all(),
            rounds: options.rounds,
            seconds: options.seconds,
            probes: options.probes,
            backgrounds: BACKGROUNDS.to_vec(),
            rates: if options.rate.is_empty() { RATES.to_vec() } else { options.rate.clone() },
            fronts: vec![Front::Kept, Front::Kept6],
            settled: !options.common.smoke,
        };
        plan.subjects.retain(|subject| options.only.is_empty() || options.only.contains(subject));
        if options.common.smoke {
            (plan.rounds, plan.seconds, plan.probes) = (1, 0.7, 30);
            (plan.backgrounds, plan.rates) = (vec![0, 200], vec![200]);
            // A connection is remembered for 40 s after its end: too long here.
            plan.parts.retain(|part| *part != Part::Bytes);
        }
        plan
    }
}

/// Runs the bench.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let mut report = Report::new("What mirroring costs", options.common.out.as_deref());
    let mut stage = Stage::build(binaries, &[])?;
    let outcome = play(&Plan::of(options), &mut stage, &mut report);
    if outcome.is_err() {
        keep_evidence(&stage.lab, &stage.pair, &options.common.evidence)?;
    }
    outcome?;
    report.finish()
}

fn play(plan: &Plan, stage: &mut Stage, report: &mut Report) -> Result<()> {
    stage.pair.bring_up(&stage.lab)?;
    if let Some(why) = KernelPair::conntrackd_missing() {
        report.say(&format!("conntrackd was not measured: {why}.\n"));
    }
    for part in &plan.parts {
        match part {
            Part::SetUp => set_up_times(plan, stage, report)?,
            Part::Costs => costs(plan, stage, report)?,
            Part::Bytes => bytes(plan, stage, report)?,
        }
    }
    Ok(())
}

/// Times of single set-ups, in rounds in which the modes take turns.
fn set_up_times(plan: &Plan, stage: &mut Stage, report: &mut Report) -> Result<()> {
    let mut rows = Vec::new();
    let mut floor = Timed::default();
    for background in &plan.backgrounds {
        let mut times: Vec<(Timed, Vec<f64>)> = vec![Default::default(); Subject::OURS.len()];
        for round in 0..plan.rounds {
            note(&format!("set-up times, {background}/s behind, round {}", round + 1));
            for (subject, (all, rates)) in Subject::OURS.iter().zip(&mut times) {
                subject.enter(stage)?;
                let (timed, rate) = loads::probe(stage, *subject, *background, plan.probes)?;
                subject.leave(stage)?;
                all.extend(timed);
                rates.push(rate);
            }
            if *background == 0 {
                floor.extend(loads::floor(stage, plan.probes)?);
            }
        }
        let base = times[0].0.clone();
        for (subject, (timed, rates)) in Subject::OURS.iter().zip(&times) {
            rows.push(set_up_row(*subject, *background, median(rates), timed, &base));
        }
    }
    rows.push(floor_row(&floor));
    report.table(
        "Set-up time of a connection",
        "One connection after the other, a millisecond apart, all modes in turn. *SYN → SYN-ACK* is the client kernel's own \
         measurement, *connect* what the program feels (it includes being woken up). *added* is the difference of the same \
         quantile to DISABLED. The peer link is a veth pair. *floor*: between the rounds without load, a datagram of 96 bytes \
         between two plain processes over the peer link and its answer; what waits for the other host's word cannot add \
         less. Microseconds.",
        &[
            "mode",
            "new connections/s behind it",
            "timed",
            "failed",
            "SYN → SYN-ACK p50 / p99",
            "added p50 / p99",
            "connect p50 / p99",
            "added p50 / p99",
        ],
        &rows,
    );
    Ok(())
}

fn set_up_row(subject: Subject, background: u32, reached: f64, timed: &Timed, base: &Timed) -> Vec<String> {
    let pair = |values: &[f64]| [quantile(values, 0.5), quantile(values, 0.99)];
    let two = |[a, b]: [f64; 2]| format!("{a:.0} / {b:.0}");
    let added = |own: [f64; 2], base: [f64; 2]| format!("{:+.0} / {:+.0}", own[0] - base[0], own[1] - base[1]);
    let (handshake, connect) = (pair(&timed.handshake), pair(&timed.connect));
    vec![
        subject.name().into(),
        if background == 0 { "none".into() } else { format!("{background} ({reached:.0} reached)") },
        timed.connect.len().to_string(),
        timed.failed.to_string(),
        two(handshake),
        added(handshake, pair(&base.handshake)),
        two(connect),
        added(connect, pair(&base.connect)),
    ]
}

fn floor_row(timed: &Timed) -> Vec<String> {
    let [p50, p99] = [0.5, 0.99].map(|part| quantile(&timed.connect, part));
    let (count, failed) = (timed.connect.len().to_string(), timed.failed.to_string());
    let none = || "–".to_string();
    vec!["floor".into(), "none".into(), count, failed, none(), format!("{p50:.0} / {p99:.0}"), none(), none()]
}

/// Connections a second, CPU and bytes, in rounds in which all subjects take turns.
fn costs(plan: &Plan, stage: &mut Stage, report: &mut Report) -> Result<()> {
    let subjects = &plan.subjects;
    let (mut rows, mut raw) = (Vec::new(), Vec::new());
    let quiet = loads::silence(stage, plan.seconds, plan.settled)?;
    for rate in &plan.rates {
        let load = Load { rate: *rate, seconds: plan.seconds };
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); subjects.len()];
        for round in 0..plan.rounds {
            note(&format!("connections at {}, round {}", load.name(), round + 1));
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                subject.enter(stage)?;
                let sample = loads::measure(stage, *subject, load);
                subject.leave(stage)?;
                samples.push(sample?);
            }
        }
        for (subject, samples) in subjects.iter().zip(&samples) {
            let own = Subject::OURS.contains(subject).then_some(&quiet);
            rows.push(cost_row(*subject, load, samples, own));
            raw.push(format!("- {}, {}: {}", load.name(), subject.name(), rates_of(samples)));
        }
        if *rate == 0 {
            report.say(&ratios(subjects, &samples));
        }
    }
    report.table(
        "Connections: connect, 64 bytes there and back, close",
        "Medians over rounds in which all take turns (64 connections under way at a time for *highest*); clients, servers and both hosts share the machine. *daemons* is the CPU time \
         of the forwarding or mirroring processes (acting host + stand-by); the kernel's own forwarding is only in *machine*, \
         which counts everything, clients and servers included. *link* is what crosses the wire between the two hosts, both \
         directions, Ethernet headers included, heartbeats subtracted for holdfast.",
        &[
            "offered",
            "forwarder",
            "connections/s",
            "failed",
            "connect p50 / p99 µs",
            "daemons µs/connection",
            "machine µs/connection",
            "link bytes/connection",
            "link frames/connection",
        ],
        &rows,
    );
    report.say(&format!("Connections a second in each round:\n\n{}\n", raw.join("\n")));
    Ok(())
}

fn cost_row(subject: Subject, load: Load, samples: &[Sample], quiet: Option<&Told>) -> Vec<String> {
    let mid = |read: &dyn Fn(&Sample) -> f64| median(&samples.iter().map(read).collect::<Vec<_>>());
    // Heartbeats flow whether there are connections or not.
    let idle = quiet.map_or([0.0; 2], |told| {
        [told.link.bytes() as f64, told.link.packets() as f64].map(|count| count / told.seconds * load.seconds)
    });
    let link = |count: f64, idle: f64, sample: &Sample| (count - idle).max(0.0) / sample.answered;
    let daemons = [0, 1].map(|at| mid(&|s: &Sample| s.daemons_ns[at] / s.answered / 1000.0));
    vec![
        load.name(),
        subject.name().into(),
        format!("{:.0}", mid(&|s| s.per_second)),
        format!("{:.0}", samples.iter().map(|s| s.failed).sum::<f64>()),
        format!("{:.0} / {:.0}", mid(&|s| s.connect[0]), mid(&|s| s.connect[1])),
        match subject {
            Subject::Routed | Subject::Nft => "–".into(),
            Subject::Conntrackd | Subject::Disabled | Subject::Async | Subject::Strict => {
                format!("{:.1} + {:.1}", daemons[0], daemons[1])
            }
        },
        format!("{:.0}", mid(&|s| s.machine_ns / s.answered / 1000.0)),
        match subject {
            Subject::Routed | Subject::Nft => "–".into(),
            Subject::Conntrackd | Subject::Disabled | Subject::Async | Subject::Strict => {
                format!("{:.1}", mid(&|s| link(s.link.bytes() as f64, idle[0], s)))
            }
        },
        match subject {
            Subject::Routed | Subject::Nft => "–".into(),
            Subject::Conntrackd | Subject::Disabled | Subject::Async | Subject::Strict => {
                format!("{:.2}", mid(&|s| link(s.link.packets() as f64, idle[1], s)))
            }
        },
    ]
}

fn rates_of(samples: &[Sample]) -> String {
    samples.iter().map(|sample| format!("{:.0}", sample.per_second)).collect::<Vec<_>>().join(", ")
}

/// The ratios of the targets, from rounds next to each other, so that drift cancels.
fn ratios(subjects: &[Subject], samples: &[Vec<Sample>]) -> String {
    let of = |wanted: Subject| subjects.iter().position(|subject| *subject == wanted).map(|at| &samples[at]);
    let mut text = String::from("Highest rate, median of the rounds' ratios:\n\n");
    for (over, under, goal) in [
        (Subject::Strict, Subject::Disabled, "goal ≥ 0.9"),
        (Subject::Async, Subject::Disabled, ""),
        (Subject::Strict, Subject::Conntrackd, "goal ≥ 2"),
        (Subject::Disabled, Subject::Nft, "goal ≥ 0.8, stretch 1"),
        (Subject::Conntrackd, Subject::Nft, ""),
        (Subject::Nft, Subject::Routed, ""),
    ] {
        let (Some(over_samples), Some(under_samples)) = (of(over), of(under)) else { continue };
        let rounds: Vec<f64> =
            over_samples.iter().zip(under_samples).map(|(o, u)| o.per_second / u.per_second).collect();
        let goal = if goal.is_empty() { String::new() } else { format!(" ({goal})") };
        text += &format!("- {} / {}: {:.2}{goal}\n", over.name(), under.name(), median(&rounds));
    }
    text
}

/// Bytes of a connection's life, stage by stage.
fn bytes(plan: &Plan, stage: &mut Stage, report: &mut Report) -> Result<()> {
    Subject::Strict.enter(stage)?;
    let quiet = loads::silence(stage, plan.seconds, plan.settled)?;
    let mut rows = Vec::new();
    for front in &plan.fronts {
        for rate in &plan.rates {
            let load = Load { rate: *rate, seconds: plan.seconds * 0.7 };
            note(&format!("bytes of a connection: {front:?} at {}", load.name()));
            let lives = loads::lives(stage, *front, load)?;
            rows.push(bytes_row(*front, load, &lives, &quiet));
        }
    }
    report.table(
        "Bytes of one connection on the mirror (STRICT)",
        "*payload* is what the sender writes, before the envelope and without acknowledgements: the records and the 24 bytes at the \
         head of each datagram (goal: IPv4 ≤ 32 to open and ≤ 12 to close, IPv6 ≤ 48). A connection is told to be over when both FINs \
         are acknowledged, or, if one was not seen, when the node forgets it. *wire* is everything on the peer link in both directions, Ethernet, IP and UDP headers, envelope and \
         acknowledgements included, heartbeats subtracted. *records/s* are those of the opens, *records per datagram* is what batching achieves.",
        &[
            "IP",
            "offered",
            "connections/s",
            "records/s",
            "payload to open",
            "payload at the FINs",
            "payload when forgotten",
            "records per datagram (open)",
            "wire to open",
            "frames to open",
            "wire when forgotten",
        ],
        &rows,
    );
    Ok(())
}

fn bytes_row(front: Front, load: Load, lives: &Lives, quiet: &Told) -> Vec<String> {
    let payload = |told: &Told| told.sender.bytes as f64 / lives.count;
    let rate = |count: u64| count as f64 / quiet.seconds;
    let wire = |told: &Told| {
        let idle = rate(quiet.link.bytes()) * told.seconds;
        (told.link.bytes() as f64 - idle).max(0.0) / lives.count
    };
    let frames = (lives.open.link.packets() as f64 - rate(quiet.link.packets()) * lives.open.seconds) / lives.count;
    vec![
        if front == Front::Kept6 { "v6" } else { "v4" }.into(),
        load.name(),
        format!("{:.0}", lives.per_second),
        format!("{:.0}", lives.open.sender.records as f64 / lives.count * lives.per_second),
        format!("{:.1}", payload(&lives.open)),
        format!("{:.1}", payload(&lives.close)),
        format!("{:.1}", payload(&lives.forget)),
        format!("{:.1}", lives.open.sender.records as f64 / lives.open.sender.datagrams.max(1) as f64),
        format!("{:.0}", wire(&lives.open)),
        format!("{:.2}", frames.max(0.0)),
        format!("{:.0}", wire(&lives.forget)),
    ]
}
