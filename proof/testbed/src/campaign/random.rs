//! The random campaign: one seed decides what clients do and what fails when; the first loss ends it.

use super::crowd::{Crowd, Size};
use super::releases::Releases;
use super::schedule::{self, Way};
use super::strike::Field;
use super::tally::Tally;
use super::{Options, fronts, keep_evidence, machine};
use crate::lab::Lab;
use crate::node::{Binaries, Failure};
use crate::pair::Pair;
use crate::recorder::Recorder;
use crate::sys;
use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Clients of the random campaign, if nothing else is asked for.
const SIZE: Size = Size { connections: 300, new_per_second: 100, udp_flows: 48 };
/// Failures, if nothing else is asked for.
const KILLS: u32 = 100;
/// What is lost must be told within this time.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

/// What a campaign has come to.
#[derive(Default)]
struct Course {
    tally: Tally,
    /// What happened when, a line each.
    story: String,
    /// Totals of the clients, the UDP flows', and excused ends at servers; there if all ended well.
    end: Option<(Value, Value, u64)>,
    /// Connections that no excuse covered since they began late enough.
    spared: u64,
}

/// Runs it; prints a line for each failure and the table.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let seed = options.seed.unwrap_or_else(seed_of_the_day);
    let ways = chosen(options)?;
    println!("seed {seed}: replay with --seed {seed}");
    let lab = Lab::build()?;
    let recorder = Recorder::start(&lab)?;
    let mut pair = Pair::new(&lab, binaries)?;
    pair.nodes.iter_mut().for_each(|node| node.settings.virtual_servers = Some(fronts::lines()));
    let size = Size {
        connections: options.connections.unwrap_or(SIZE.connections),
        new_per_second: options.new_per_second.unwrap_or(SIZE.new_per_second),
        ..SIZE
    };
    let started = Instant::now();
    let mut course = Course::default();
    let mut crowd = None;
    let outcome = campaign(&lab, &mut pair, &mut crowd, (seed, size, &ways, options), &mut course);
    sys::check_interrupt()?;
    print!("\n{}", course.tally.table());
    if let Err(error) = &outcome {
        // While every socket still stands as it stood.
        evidence(&lab, &pair, seed, &course, &options.evidence)?;
        recorder.write(&options.evidence)?;
        std::fs::write(options.evidence.join("complaint.txt"), format!("{error:#}\n"))?;
    }
    drop(crowd);
    if let Some(path) = &options.out {
        let complaint = outcome.as_ref().err().map(|error| format!("{error:#}"));
        std::fs::write(path, document(seed, size, &course, started, complaint.as_deref()))?;
        println!("written: {}", path.display());
    }
    match outcome {
        Ok(()) => {
            let (failures, spared) = (course.tally.failures(), course.spared);
            let took = started.elapsed().as_secs_f64();
            println!(
                "{failures} failures, nothing lost, {spared} connections protected while a node was filled ({took:.0} s)"
            );
            Ok(())
        }
        Err(error) => bail!("{error:#}\nseed {seed}; evidence: {}", options.evidence.display()),
    }
}

/// The whole course; `crowd` outlives it, so that its sockets can be looked at after a failure.
fn campaign(
    lab: &Lab,
    pair: &mut Pair,
    crowd: &mut Option<Crowd>,
    (seed, size, ways, options): (u64, Size, &[(Way, u64)], &Options),
    course: &mut Course,
) -> Result<()> {
    let servers = Crowd::start_servers(lab, seed)?;
    pair.bring_up(lab)?;
    let crowd = crowd.insert(Crowd::start(lab, servers, seed, size)?);
    let outcome = fail_again_and_again(lab, pair, crowd, (seed, ways, options), course);
    course.spared = crowd.spared();
    outcome?;
    course.end = Some(crowd.finish()?);
    Ok(())
}

/// Lets the primary of virtual servers that mirror nothing die amid a small crowd: the instruments must tell the losses.
pub fn notices_losses(lab: &Lab, pair: &mut Pair) -> Result<()> {
    let mirroring_nothing = fronts::lines().replace("STATEFUL", "DISABLED");
    for node in &mut pair.nodes {
        node.stop()?;
        node.settings.virtual_servers = Some(mirroring_nothing.clone());
    }
    let servers = Crowd::start_servers(lab, 1)?;
    pair.bring_up(lab)?;
    let mut crowd = Crowd::start(lab, servers, 1, Size { connections: 60, new_per_second: 20, udp_flows: 8 })?;
    crowd.wait_calm()?;
    let primary = pair.wait_whole()?;
    let _outage = pair.fail(lab, primary, Failure::Kill)?;
    // A UDP flow that has moved may be told before the first reset.
    sys::wait_until("the campaign tells that connections were reset", NOTICE_LIMIT, || {
        let Err(error) = crowd.check() else { return Ok(None) };
        let told = error.to_string();
        if !told.contains(" losses:") {
            return Err(error);
        }
        Ok(told.contains("\"what\":\"reset\"").then_some(()))
    })
}

fn chosen(options: &Options) -> Result<Vec<(Way, u64)>> {
    let wanted = |way: &Way| options.only.as_ref().is_none_or(|part| way.name().contains(part.as_str()));
    let ways: Vec<_> = Way::ALL.into_iter().filter(|(way, _)| wanted(way)).collect();
    let names: Vec<String> = Way::ALL.iter().map(|(way, _)| way.name()).collect();
    ensure!(!ways.is_empty(), "--only fits none of: {}", names.join("; "));
    Ok(ways)
}

fn fail_again_and_again(
    lab: &Lab,
    pair: &mut Pair,
    crowd: &mut Crowd,
    (seed, ways, options): (u64, &[(Way, u64)], &Options),
    course: &mut Course,
) -> Result<()> {
    pair.wait_healthy()?;
    crowd.wait_calm()?;
    let mut before = crowd.totals()?;
    let mut releases = Releases::default();
    let mut settled = true;
    for number in 1..=options.kills.unwrap_or(KILLS) {
        let step = schedule::step(seed, number, ways);
        let primary = pair.wait_whole()?;
        sys::pause(step.delay);
        let at = crate::role::monotonic_ms();
        let name = pair.nodes[primary].name();
        let _ = writeln!(course.story, "{at:.1} ms: {step}; {name} is primary");
        crowd.open_window()?;
        let mut outcome = Field { lab, pair, crowd, releases: &mut releases }.strike(&step, primary);
        let released = releases.take();
        let mut gaps = None;
        if outcome.is_ok() {
            outcome = if step.settle { crowd.wait_calm() } else { crowd.check() };
        }
        // A failure that came right after another one would show the other one's gaps.
        if outcome.is_ok() && step.settle && settled {
            gaps = Some(crowd.close_window()?);
        }
        settled = step.settle;
        if outcome.is_ok() && released > 0 {
            outcome = Err(anyhow::anyhow!("{released} packets were let go without the peer's acknowledgement"));
        }
        let totals = crowd.totals()?;
        course.tally.book(step.way, totals.since(&before), released, gaps, outcome.is_err());
        before = totals;
        let took = (crate::role::monotonic_ms() - at) / 1000.0;
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        let _ = writeln!(course.story, "    {took:.1} s: {verdict}; {totals:?} {gaps:.0?}");
        println!("{step} ... {verdict} ({took:.1} s)");
        outcome.map_err(|error| anyhow::anyhow!("failure {step}: {error:#}"))?;
    }
    crowd.wait_calm()
}

fn evidence(lab: &Lab, pair: &Pair, seed: u64, course: &Course, directory: &Path) -> Result<()> {
    keep_evidence(lab, pair, directory)?;
    std::fs::write(directory.join("story.txt"), format!("seed {seed}\n{}", course.story))?;
    let hosts = [("client", &lab.client), ("srv1", &lab.servers[0]), ("srv2", &lab.servers[1])];
    for (name, host) in hosts {
        let sockets = host.run("ss", &["-tuanoei"], "").unwrap_or_else(|error| format!("{error:#}"));
        std::fs::write(directory.join(format!("{name}-sockets.txt")), sockets)?;
    }
    Ok(())
}

fn seed_of_the_day() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    crate::role::mix(now.as_nanos() as u64) % 1_000_000
}

fn document(seed: u64, size: Size, course: &Course, started: Instant, complaint: Option<&str>) -> String {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let mut text = String::from("# Random campaign\n\n");
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let _ = writeln!(text, "Command: `cargo xtask testbed {}`\n", command.join(" "));
    let _ = writeln!(text, "Machine: {}. Seed: {seed}. It took {minutes:.0} minutes.\n", machine());
    let Size { connections, new_per_second, udp_flows } = size;
    let _ = writeln!(
        text,
        "{connections} connections of every kind at any time, {new_per_second} new short ones a second, {udp_flows} UDP flows and a\n\
         1 kHz UDP probe, over {} virtual servers in two IP versions, through {} random failures. `docs/testing.md`\n\
         says what each failure is, what is checked, and what is excused.\n\n\
         *established*: what the clients' kernels reported between this failure and the next. *lost*: reset, ended early,\n\
         silent for 20 s, a wrong byte, or a connect that failed. *excused*: connections that existed when no node held the\n\
         state of all of them, and how many of these were lost. *gap TCP*: the longest wait for an answer of each\n\
         connection that talks all the time (median over failures of the p50, worst p99, worst of all), *gap UDP*: the\n\
         longest silence of the probe; both only of failures that were allowed to settle and came after one that was.\n",
        fronts::FRONTS.len(),
        course.tally.failures(),
    );
    text += &course.tally.table();
    if let Some((tcp, udp, servers)) = &course.end {
        text += "\n| kind of connection | established | completed, both ends agreeing on every byte |\n|---|---|---|\n";
        let kinds = tcp["established_by_kind"].as_object().cloned().unwrap_or_default();
        for (kind, established) in kinds {
            let _ = writeln!(text, "| {kind} | {established} | {} |", tcp["done_by_kind"][&kind]);
        }
        let flows = udp["earlier"].as_u64().unwrap_or_default() + udp["flows"].as_u64().unwrap_or_default();
        let _ = writeln!(
            text,
            "\nUDP: {flows} flows, {} datagrams sent, {} answered, none with a wrong byte, none by another server or\n\
             from another port of ours than before. Servers saw {servers} ends of excused connections. {} connections\n\
             existed when an excuse was granted and were not covered: they began while the successor was being filled.",
            udp["sent"], udp["received"], course.spared,
        );
    }
    if let Some(complaint) = complaint {
        let _ = writeln!(text, "\nFAILED: {complaint}");
    }
    text
}
