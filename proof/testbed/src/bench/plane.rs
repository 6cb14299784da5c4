//! `bench plane`: what forwarding costs: bulk TCP, small datagrams of many flows, and the wait of a lone one. The product's data
//! planes beside a routed hop, nftables, HAProxy and the least program that does the work.
//!
//! All forwarders take turns in each round, so that a machine whose speed drifts moves all rows alike.

use super::forwarders::{Field, Forwarder};
use super::measure::{self, Link, quantile};
use super::stage::{Stage, TALKS};
use super::{Common, Report, note};
use crate::campaign::keep_evidence;
use crate::node::Binaries;
use crate::role::{Role, play_inside};
use crate::sys;
use crate::traffic::role_log;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Roles say what they have to say within this time.
const SAY_LIMIT: Duration = Duration::from_secs(60);
/// Lone datagrams before those that are measured.
const FIRST_ONES: usize = 16;
/// Flows in the table of small datagrams.
const CROWDS: [u32; 3] = [1, 10_000, 100_000];

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds, of which the tables show the medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only these forwarders.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Forwarder>,
    /// Only these tables.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    #[command(flatten)]
    common: Common,
}

/// A table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Part {
    /// iperf3, one stream and eight.
    Bulk,
    /// Datagrams of 8 bytes, as many as can be sent.
    Packets,
    /// One datagram and its answer.
    Latency,
}

impl Part {
    /// The lone datagram before the crowds, which leave tables full of flows behind.
    const ALL: [Part; 3] = [Part::Bulk, Part::Latency, Part::Packets];
}

/// One figure of one forwarder: its values, round by round.
struct Row {
    forwarder: Forwarder,
    what: String,
    /// What is compared: more is better, or less.
    values: Vec<f64>,
    /// A further figure of the same loads.
    beside: Vec<f64>,
}

/// Runs the bench.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let mut report = Report::new("What forwarding costs", options.common.out.as_deref());
    let stage = Stage::build(binaries, &[])?;
    let mut field = Field::lay(stage)?;
    let outcome = play(options, &mut field, &mut report);
    if outcome.is_err() {
        keep_evidence(&field.stage.lab, &field.stage.pair, &options.common.evidence)?;
    }
    outcome?;
    report.finish()
}

fn play(options: &Options, field: &mut Field, report: &mut Report) -> Result<()> {
    let (rounds, seconds) = if options.common.smoke { (1, 0.5) } else { (options.rounds, options.seconds) };
    let chosen = |forwarder: &Forwarder| options.only.is_empty() || options.only.contains(forwarder);
    let forwarders: Vec<Forwarder> = Forwarder::ALL.into_iter().filter(chosen).collect();
    let mut parts: Vec<Part> =
        Part::ALL.into_iter().filter(|part| options.part.is_empty() || options.part.contains(part)).collect();
    if let Some(why) = Field::bulk_missing() {
        report.say(&format!("Bulk TCP was not measured: {why}.\n"));
        parts.retain(|part| *part != Part::Bulk);
    }
    let mut rows: Vec<(Part, Row)> = Vec::new();
    for round in 1..=rounds {
        for forwarder in &forwarders {
            if let Some(why) = forwarder.missing() {
                if round == 1 {
                    report.say(&format!("{} was not measured: {why}.\n", forwarder.name()));
                }
                continue;
            }
            note(&format!("round {round}: {}", forwarder.name()));
            field.enter(*forwarder).with_context(|| format!("{} begins", forwarder.name()))?;
            for part in &parts {
                let measured = measure(field, *forwarder, *part, seconds, options.common.smoke);
                for row in measured.with_context(|| format!("{}, {part:?}", forwarder.name()))? {
                    add(&mut rows, *part, row);
                }
            }
            field.leave(*forwarder)?;
        }
    }
    for part in parts {
        let rows: Vec<&Row> = rows.iter().filter(|(of, _)| *of == part).map(|(_, row)| row).collect();
        tell(report, part, &rows);
    }
    Ok(())
}

fn add(rows: &mut Vec<(Part, Row)>, part: Part, row: Row) {
    let same =
        |(of, other): &&mut (Part, Row)| *of == part && other.forwarder == row.forwarder && other.what == row.what;
    match rows.iter_mut().find(same) {
        Some((_, known)) => {
            known.values.extend(row.values);
            known.beside.extend(row.beside);
        }
        None => rows.push((part, row)),
    }
}

fn measure(field: &mut Field, forwarder: Forwarder, part: Part, seconds: f64, smoke: bool) -> Result<Vec<Row>> {
    match part {
        Part::Bulk => [1, 8].into_iter().map(|streams| bulk(field, forwarder, streams, seconds)).collect(),
        // HAProxy forwards no datagrams.
        Part::Packets | Part::Latency if forwarder == Forwarder::Haproxy => Ok(Vec::new()),
        Part::Packets => {
            let crowds = CROWDS.into_iter().filter(|flows| !smoke || *flows < 10_000);
            crowds.map(|flows| packets(field, forwarder, flows, seconds)).collect()
        }
        Part::Latency => latency(field, forwarder, if smoke { 50 } else { 500 }).map(|row| vec![row]),
    }
}

/// Gbit/s that arrive; beside it CPU seconds of the whole machine for each GB.
///
/// Client and server share one core: on virtual cables a stream that two cores carry arrives out of order, now more, now less, and
/// what is measured then is the sender's recovery. For the same reason not BBR, whose estimates live on the time between packets.
fn bulk(field: &Field, forwarder: Forwarder, streams: u32, seconds: f64) -> Result<Row> {
    let target = field.bulk_target(forwarder);
    let (address, port) = target.rsplit_once(':').context("a port")?;
    let before = measure::machine_ns()?;
    let streams_text = streams.to_string();
    let seconds_text = format!("{}", seconds.ceil());
    let text = field.stage.lab.client.run(
        "iperf3",
        &[
            "-c",
            address,
            "-p",
            port,
            "-B",
            "192.0.2.10",
            "-P",
            &streams_text,
            "-t",
            &seconds_text,
            "-A",
            "0,0",
            "-C",
            "cubic",
            "-J",
        ],
        "",
    )?;
    let cpu = (measure::machine_ns()? - before) as f64 / 1e9;
    let told: Value = serde_json::from_str(&text)?;
    let bits = told["end"]["sum_received"]["bits_per_second"].as_f64().context("bits per second")?;
    let bytes = told["end"]["sum_received"]["bytes"].as_f64().context("bytes")?;
    let what = format!("{streams} {}", if streams == 1 { "stream" } else { "streams" });
    Ok(Row { forwarder, what, values: vec![bits / 1e9], beside: vec![cpu / (bytes / 1e9)] })
}

/// Datagrams that arrive at the servers, thousands a second; beside it those sent.
fn packets(field: &mut Field, forwarder: Forwarder, flows: u32, seconds: f64) -> Result<Row> {
    let addresses = field.flow_addresses(flows)?;
    let mut args = vec!["bench-flows".to_string(), "--target".into(), field.datagram_target(forwarder)];
    for address in &addresses {
        args.extend(["--from".into(), address.to_string()]);
    }
    let mut role = Role::start(&field.stage.lab.client, &args, &role_log(&field.stage.lab))?;
    role.expect("ready", SAY_LIMIT)?;
    let opened = role.ask_for(&format!("open {flows}"), "open", SAY_LIMIT * 3)?;
    ensure!(opened["answered"] == flows, "not all flows were answered: {opened}");
    // So often that every flow has been copied into the fast path, where there is one.
    for _ in 0..TALKS {
        role.ask_for(&format!("check {flows}"), "check", SAY_LIMIT * 2)?;
    }
    field.mute_servers(true)?;
    let before = field.arrived()?;
    let told = role.ask_for(&format!("blast {}", (seconds * 1e3) as u64), "blast", SAY_LIMIT)?;
    sys::pause(Duration::from_millis(200));
    let arrived = field.arrived()? - before;
    field.mute_servers(false)?;
    let took = told["seconds"].as_f64().context("seconds")?;
    let sent = told["sent"].as_f64().context("sent")?;
    Ok(Row {
        forwarder,
        what: format!("{flows} {}", if flows == 1 { "flow" } else { "flows" }),
        values: vec![arrived as f64 / took / 1e3],
        beside: vec![sent / took / 1e3],
    })
}

/// Microseconds from a datagram to its answer, one at a time, a millisecond apart: the median; beside it p99.
fn latency(field: &Field, forwarder: Forwarder, count: u32) -> Result<Row> {
    let target = field.probe_target(forwarder);
    let count = count.to_string();
    let args = ["bench-probe", "--datagrams", "--target", &target, "--from", &Stage::probe_source(), "--count", &count];
    let done = play_inside(&field.stage.lab.client, &args.map(String::from), SAY_LIMIT, &role_log(&field.stage.lab))?;
    let times = done["connect_us"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    // The first ones find neighbours, and a way into the fast path.
    let times: Vec<f64> = times.skip(FIRST_ONES).collect();
    let failed = done["failed"].as_u64().context("failed")?;
    ensure!(failed == 0, "{failed} datagrams without an answer");
    Ok(Row {
        forwarder,
        what: "datagram".into(),
        values: vec![quantile(&times, 0.5)],
        beside: vec![quantile(&times, 0.99)],
    })
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn tell(report: &mut Report, part: Part, rows: &[&Row]) {
    let (heading, about, unit, beside) = match part {
        Part::Bulk => (
            "Bulk TCP",
            "iperf3 from one client to one server. *CPU* is that of the whole machine, hosts included, which share its cores with the forwarder.",
            "Gbit/s",
            "CPU s/GB",
        ),
        Part::Packets => (
            "Small datagrams",
            "UDP, 8 bytes each, one of each flow in turn, sent as fast as one core can, and thrown away at the servers' cards: on a virtual cable the \
             sender's core does the forwarding too, so a figure holds the cost of both.",
            "thousand/s arrived",
            "thousand/s sent",
        ),
        Part::Latency => (
            "Latency",
            "A UDP datagram and its answer, one at a time, a millisecond apart, without other load. Microseconds.",
            "p50",
            "p99",
        ),
    };
    let mut table = Vec::new();
    for row in rows {
        let bound = |of: Forwarder| {
            let other = rows.iter().find(|other| other.forwarder == of && other.what == row.what)?;
            let pairs = row.values.iter().zip(&other.values);
            let ratios: Vec<f64> = pairs.map(|(own, other)| own / other).collect();
            Some(format!("{:.2}", median(&ratios)))
        };
        let against = |of: Forwarder| bound(of).unwrap_or_else(|| "–".into());
        table.push(vec![
            row.forwarder.name().into(),
            row.what.clone(),
            format!("{:.1}", median(&row.values)),
            format!("{:.2}", median(&row.beside)),
            against(row.forwarder.bound()),
            against(Forwarder::Nft),
            row.values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(", "),
        ]);
    }
    report.table(
        heading,
        about,
        &["forwarder", "load", unit, beside, "/ minimal DNAT of its kind", "/ nftables", "each round"],
        &table,
    );
}

/// Datagrams that a server's card has taken.
pub(super) fn taken(host: &crate::ns::Namespace) -> Result<u64> {
    Ok(Link::read(host, "eth0")?.rx_packets)
}
