//! `switchovers`: the operator hands the role over, back and forth, a hundred times, while iperf3 runs at about half of what the
//! pair can carry, clients chat, and a UDP probe sends every millisecond. No datagram, no connection may be lost, and nobody
//! may be reset. How long the probe waited is told and not judged.

use crate::bench::quantile;
use crate::campaign::{keep_evidence, machine};
use crate::config::Vip;
use crate::lab::{Family, Lab, SERVER_ROWS};
use crate::node::Binaries;
use crate::pair::Pair;
use crate::role::{LATE, Role};
use crate::sys;
use crate::traffic::{self, Load, Traffic, server_resets};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Questions to roles are answered within this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The role has changed hands within this time.
const ROLE_LIMIT: Duration = Duration::from_secs(20);
/// The probe and the clients run so long without a switchover first, which must lose nothing either.
const CALM: Duration = Duration::from_secs(5);
/// How long after a switchover its window stays open; by then a datagram without an answer is lost.
const AFTERMATH: Duration = LATE.saturating_add(Duration::from_millis(200));
/// iperf3's port.
const IPERF_PORT: &str = "5201";
/// iperf3 is measured at its highest rate for so many seconds.
const FULL_RATE_SECONDS: &str = "3";
/// Longer than any campaign; it is ended by a signal.
const IPERF_SECONDS: &str = "86400";

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Switchovers.
    #[arg(long, default_value_t = 100)]
    count: u32,
    /// Connections that chat.
    #[arg(long, default_value_t = 200)]
    connections: u32,
    /// New short connections each second.
    #[arg(long, default_value_t = 50)]
    new_per_second: u32,
    /// Without iperf3.
    #[arg(long)]
    without_iperf: bool,
    /// Write the table, with command and machine, to this Markdown file, whatever the verdict.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to keep logs and states after a loss.
    #[arg(long, default_value = "artifacts/switchovers")]
    evidence: PathBuf,
}

/// What one switchover did.
struct Step {
    gap: f64,
    lost: u64,
    tcp: [f64; 3],
}

/// Everything that was seen.
struct Story {
    calm: Step,
    steps: Vec<Step>,
    iperf: String,
    summary: String,
    complaints: Vec<String>,
}

/// Runs the campaign; fails if anything was lost.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let lab = Lab::build()?;
    let mut servers = traffic::start_servers(&lab)?;
    let mut pair = Pair::new(&lab, binaries)?;
    let outcome = play(options, &lab, &mut servers, &mut pair);
    if outcome.as_ref().map_or(true, |story| !story.complaints.is_empty()) {
        keep_evidence(&lab, &pair, &options.evidence)?;
    }
    let story = outcome?;
    let text = document(options, &story)?;
    println!("{text}");
    if let Some(path) = &options.out {
        std::fs::write(path, text)?;
        println!("written: {}", path.display());
    }
    ensure!(story.complaints.is_empty(), "{}\nevidence: {}", story.complaints.join("; "), options.evidence.display());
    Ok(())
}

fn play(options: &Options, lab: &Lab, servers: &mut [Role; 2], pair: &mut Pair) -> Result<Story> {
    pair.bring_up(lab)?;
    let mut iperf = if options.without_iperf { None } else { Some(Iperf::start(lab)?) };
    let load = Load { connections: options.connections, new_per_second: options.new_per_second, probe_rate: 1000 };
    let mut traffic = Traffic::start(lab, Vip::Nat, &Family::ALL, load)?;
    let resets = server_resets(servers)?;
    traffic.open_window()?;
    sys::pause(CALM);
    let mut total = 0;
    let calm = Step::read(&mut traffic, &mut total)?;
    println!("calm for {CALM:?}: {} lost, gap {:.1} ms, TCP {:?} ms", calm.lost, calm.gap, calm.tcp);
    let mut steps = Vec::new();
    for number in 1..=options.count {
        let primary = pair.wait_whole()?;
        traffic.open_window()?;
        pair.nodes[primary].cli(&["force", "ha", "failover", "-force"])?;
        // Nothing is asked of the nodes while they work: the machine is shared.
        sys::pause(AFTERMATH);
        sys::wait_until("the roles are swapped", ROLE_LIMIT, || Ok((pair.wait_whole()? != primary).then_some(())))?;
        sys::pause(AFTERMATH);
        let step = Step::read(&mut traffic, &mut total)?;
        println!("{number}: gap {:.1} ms, {} lost, TCP p50 / p99 / max {:?} ms", step.gap, step.lost, step.tcp);
        steps.push(step);
        if let Some(iperf) = &mut iperf {
            iperf.ensure_alive()?;
        }
    }
    sys::pause(AFTERMATH);
    let told = match iperf {
        Some(iperf) => iperf.finish()?,
        None => "iperf3 did not run".into(),
    };
    // Asked before the client is told to stop: what it has just sent is then not waited for.
    let lost = traffic.udp.ask("report", ANSWER_LIMIT)?["lost_total"].as_u64().context("lost datagrams")?;
    let outcome = traffic.finish()?;
    let mut complaints: Vec<String> = outcome.complaint().into_iter().collect();
    if lost > 0 {
        let [calm, after] = [calm.lost, lost.saturating_sub(total)];
        complaints.push(format!(
            "{lost} datagrams of the probe lost ({calm} of them before the first switchover, {after} when all were over)"
        ));
    }
    let resets = server_resets(servers)? - resets;
    if resets > 0 {
        complaints.push(format!("the servers saw {resets} connections reset"));
    }
    let summary = format!(
        "{} connections established, {} lost, {} of them reset, {} not opened; {} datagrams sent, {lost} lost, {} answered twice.",
        outcome.established(),
        outcome.lost(),
        outcome.reset(),
        outcome.count("not_opened"),
        outcome.udp["sent_total"],
        outcome.udp["twice"]
    );
    Ok(Story { calm, steps, iperf: told, summary, complaints })
}

impl Step {
    /// Closes a window. What was lost is what `total` did not contain, so that no time between two windows is left out.
    fn read(traffic: &mut Traffic, total: &mut u64) -> Result<Step> {
        let udp = traffic.udp.ask("report", ANSWER_LIMIT)?;
        let before = std::mem::replace(total, udp["lost_total"].as_u64().context("lost datagrams")?);
        let gaps = traffic.close_window()?;
        Ok(Step {
            gap: udp["gap"]["max_ms"].as_f64().context("a gap")?,
            lost: total.saturating_sub(before),
            tcp: gaps.tcp,
        })
    }
}

/// iperf3 through the virtual server of type ANY, at half of its highest rate.
struct Iperf {
    servers: Vec<Child>,
    client: Child,
    output: PathBuf,
    full: f64,
}

impl Iperf {
    fn start(lab: &Lab) -> Result<Iperf> {
        ensure!(sys::is_installed("iperf3"), "iperf3 is not installed: cargo xtask setup, or --without-iperf");
        let output = lab.directory().join("iperf3.json");
        let mut servers = Vec::new();
        for (index, host) in lab.servers.iter().enumerate() {
            let address = Family::V4.server_net(SERVER_ROWS[2] + 1 + index as u8);
            let log = File::create(lab.directory().join(format!("iperf3-server-{index}.log")))?;
            let mut command = host.command("iperf3")?;
            command.args(["-s", "-B", &address, "-p", IPERF_PORT]);
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            servers.push(command.spawn().context("start iperf3 -s")?);
        }
        let target = Vip::Ftp.address(Family::V4);
        let words = ["-c", &target, "-p", IPERF_PORT, "--json", "-t"];
        let full = sys::wait_until("iperf3 has measured the highest rate", ROLE_LIMIT, || {
            let told = lab.client.run("iperf3", &[&words[..], &[FULL_RATE_SECONDS]].concat(), "");
            Ok(told.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok()))
        })?["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .context("iperf3's rate")?;
        println!("iperf3: {:.2} Gbit/s at most; half of it from here on", full / 1e9);
        let mut command = lab.client.command("iperf3")?;
        command.args(words).args([IPERF_SECONDS, "-b", &format!("{:.0}", full / 2.0)]);
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(Stdio::null());
        let client = command.spawn().context("start iperf3 -c")?;
        Ok(Iperf { servers, client, output, full })
    }

    fn ensure_alive(&mut self) -> Result<()> {
        if let Some(status) = self.client.try_wait()? {
            let text = std::fs::read_to_string(&self.output).unwrap_or_default();
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            bail!("iperf3's connection did not survive ({status}): {}", value["error"]);
        }
        Ok(())
    }

    /// Ends it (SIGINT by its pid) and says what it has carried.
    fn finish(mut self) -> Result<String> {
        self.ensure_alive()?;
        sys::signal(self.client.id(), libc::SIGINT)?;
        sys::wait_until("iperf3 has ended", ANSWER_LIMIT, || Ok(self.client.try_wait()?))?;
        let text = std::fs::read_to_string(&self.output)?;
        let value: Value = serde_json::from_str(&text).context("iperf3's report")?;
        let sent = &value["end"]["sum_sent"];
        Ok(format!(
            "iperf3: {:.2} Gbit/s at most before, then paced to half: {:.2} Gbit/s over {:.0} s, {} segments sent again, one connection from begin to end",
            self.full / 1e9,
            sent["bits_per_second"].as_f64().unwrap_or(f64::NAN) / 1e9,
            sent["seconds"].as_f64().unwrap_or(f64::NAN),
            sent["retransmits"]
        ))
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain([&mut self.client]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn document(options: &Options, story: &Story) -> Result<String> {
    let mut text = String::from("# Planned switchovers under load\n\n");
    let words: Vec<String> = std::env::args().skip(1).collect();
    writeln!(text, "Command: `cargo xtask testbed {}`\n\nMachine: {}\n", words.join(" "), machine())?;
    let column = |pick: fn(&Step) -> f64| {
        let values: Vec<f64> = story.steps.iter().map(pick).collect();
        let at = |share| quantile(&values, share);
        format!("{:.1} / {:.1} / {:.1}", at(0.5), at(0.99), at(1.0))
    };
    let lossy = story.steps.iter().filter(|step| step.lost > 0).count();
    writeln!(
        text,
        "{} switchovers (`force HA failover -force`), back and forth. Beside {} chats and {} new connections a second: {}. The probe \
         sends 1,000 datagrams a second in each IP version; one without an answer for {} ms is lost. *calm*: {} s before the first \
         switchover.\n",
        story.steps.len(),
        options.connections,
        options.new_per_second,
        story.iperf,
        LATE.as_millis(),
        CALM.as_secs()
    )?;
    writeln!(text, "| | median / p99 / max | calm |\n|---|---|---|")?;
    writeln!(text, "| gap of the UDP probe, ms | {} | {:.1} |", column(|step| step.gap), story.calm.gap)?;
    writeln!(text, "| datagrams lost | {} | {} |", column(|step| step.lost as f64), story.calm.lost)?;
    writeln!(text, "| longest wait of a chat, ms | {} | {:.1} |", column(|step| step.tcp[2]), story.calm.tcp[2])?;
    writeln!(text, "\nSwitchovers that lost a datagram: {lossy} of {}. {}", story.steps.len(), story.summary)?;
    let verdict = if story.complaints.is_empty() { "nothing lost".into() } else { story.complaints.join("; ") };
    writeln!(text, "\nVerdict: {verdict}.")?;
    Ok(text)
}
