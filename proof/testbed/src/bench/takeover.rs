//! `bench takeover`: how long clients wait when the primary fails or hands over, with two settings of the product, and with
//! keepalived, conntrackd and nftables on a second pair of hosts in the same topology and run.
//!
//! Each failure has clients of its own: long TCP connections and a trickle of short ones. The UDP probe goes on. Failures take
//! turns, so that a machine whose speed drifts moves all rows of a subject alike.

use super::blow::{self, Blow};
use super::measure::quantile;
use super::million::{self, SPARE_FLOWS};
use super::peers::KERNEL_VIP;
use super::stage::{Front, Stage};
use super::standstill::Standstill;
use super::vrrp::{self, Vrrp};
use super::{Common, Report, note};
use crate::campaign::keep_evidence;
use crate::node::Binaries;
use crate::role::{LATE, Role};
use crate::sys;
use crate::traffic::role_log;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Roles are ready, and answer, within this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Clients are done within this time after they were told to stop; longer than what they call silence.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);
/// Clients run so long before something happens.
const WARM_UP: Duration = Duration::from_millis(500);
/// Nobody is waited for any longer; what has not been taken over by then is not.
const RECOVERY_LIMIT: Duration = Duration::from_secs(8);
/// So long everything is watched at least, after a blow and after a successor that comes later than that.
const AFTERMATH: Duration = Duration::from_millis(700);
/// A client that waits no longer is served.
const SERVED_MS: f64 = 100.0;
/// A run in which no processor stood still for so long is of a machine that was itself.
const QUIET_MS: f64 = 2.0;
/// Long connections of a run, the time between their messages, and short connections a second.
const CLIENTS: [&str; 6] = ["--connections", "100", "--interval-ms", "20", "--new-per-second", "20"];
/// Flows that are resident with `--million`.
const RESIDENT: u32 = 1_000_000;
/// The probe's virtual server on the kernel pair.
const KERNEL_PROBE: &str = "192.0.2.120:53";

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Failures of each kind.
    #[arg(long, default_value_t = 50)]
    runs: u32,
    /// Also `kill -9` with a million mirrored flows resident.
    #[arg(long)]
    million: bool,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    subject: Vec<Subject>,
    /// Only these failures.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Blow>,
    #[command(flatten)]
    common: Common,
}

/// What takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Subject {
    /// The product with its default intervals.
    Default,
    /// The product with `-helloInterval 10 -deadInterval 0.03`.
    Fast,
    /// keepalived, conntrackd and nftables as they come.
    Keepalived,
    /// The same with ten advertisements a second and strict tracking.
    KeepalivedFast,
}

impl Subject {
    const ALL: [Subject; 4] = [Subject::Default, Subject::Fast, Subject::Keepalived, Subject::KeepalivedFast];

    fn name(self) -> &'static str {
        match self {
            Subject::Default => "holdfast, default",
            Subject::Fast => "holdfast, 10 ms / 30 ms",
            Subject::Keepalived => "keepalived + conntrackd, advert_int 1",
            Subject::KeepalivedFast => "keepalived + conntrackd, advert_int 0.1, strict tracking",
        }
    }

    /// Where TCP clients and the probe call.
    fn targets(self) -> [String; 2] {
        match self {
            Subject::Default | Subject::Fast => [Front::Kept.address(), Front::Probe.address()],
            Subject::Keepalived | Subject::KeepalivedFast => [KERNEL_VIP.into(), KERNEL_PROBE.into()],
        }
    }
}

/// Stage, clients, and the pair that is being measured.
struct Play {
    stage: Stage,
    subject: Subject,
    vrrp: Option<Vrrp>,
    probe: Option<Role>,
    standstill: Standstill,
    evidence: PathBuf,
}

/// What one failure did.
struct Run {
    gap: f64,
    lost: u64,
    /// The longest time in which a processor ran nobody, milliseconds.
    standstill: f64,
    waits: Vec<f64>,
    served: bool,
    end: Value,
}

/// Runs the bench.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let mut report = Report::new("Takeover", options.common.out.as_deref());
    let size = if options.million { vec!["--max-flows".into(), (RESIDENT + SPARE_FLOWS).to_string()] } else { vec![] };
    let stage = Stage::build(binaries, &size)?;
    let standstill = Standstill::watch()?;
    let evidence = options.common.evidence.clone();
    let mut play = Play { stage, subject: Subject::Default, vrrp: None, probe: None, standstill, evidence };
    let outcome = play.run(options, &mut report);
    if outcome.is_err() {
        keep_evidence(&play.stage.lab, &play.stage.pair, &options.common.evidence)?;
        for index in 0..2 {
            let name = format!("keepalived-{index}.log");
            let _ = std::fs::copy(play.stage.peers.directory().join(&name), options.common.evidence.join(&name));
        }
    }
    outcome?;
    report.finish()
}

impl Play {
    fn run(&mut self, options: &Options, report: &mut Report) -> Result<()> {
        self.stage.pair.bring_up(&self.stage.lab)?;
        let (smoke, runs) = (options.common.smoke, if options.common.smoke { 1 } else { options.runs });
        let chosen = |subject: &Subject| match smoke {
            true => matches!(subject, Subject::Fast | Subject::KeepalivedFast),
            false => options.subject.is_empty() || options.subject.contains(subject),
        };
        let blows: Vec<Blow> = match (smoke, options.only.is_empty()) {
            (true, _) => vec![Blow::Kill, Blow::Planned],
            (false, true) => Blow::ALL.to_vec(),
            (false, false) => options.only.clone(),
        };
        let missing = Vrrp::missing();
        let mut rows = Vec::new();
        for subject in Subject::ALL.into_iter().filter(chosen) {
            if subject.targets()[0] == KERNEL_VIP && missing.is_some() {
                continue;
            }
            self.enter(subject)?;
            rows.extend(self.rows(&blows, runs, "no")?);
            self.leave()?;
        }
        if options.million {
            let (_flows, _) = million::open(&self.stage, RESIDENT)?;
            for subject in [Subject::Default, Subject::Fast].into_iter().filter(chosen) {
                self.enter(subject)?;
                rows.extend(self.rows(&[Blow::Kill], runs, "1,000,000")?);
                self.leave()?;
            }
        }
        tell(report, &rows);
        if let Some(why) = missing {
            report.say(&format!("keepalived was not measured: {why}.\n"));
        }
        Ok(())
    }

    /// Makes `subject` ready, and starts its probe.
    fn enter(&mut self, subject: Subject) -> Result<()> {
        self.subject = subject;
        match subject {
            Subject::Default => self.set_timers("100", "0.4")?,
            Subject::Fast => self.set_timers("10", "0.03")?,
            Subject::Keepalived => {
                self.vrrp = Some(Vrrp::enter(&mut self.stage, vrrp::Settings { interval: "1", strict: false })?);
            }
            Subject::KeepalivedFast => {
                self.vrrp = Some(Vrrp::enter(&mut self.stage, vrrp::Settings { interval: "0.1", strict: true })?);
            }
        }
        self.wait_whole()?;
        let [_, target] = subject.targets();
        let args = ["udp-client", "--target", &target, "--from", "192.0.2.10", "--rate", "1000"];
        let mut probe = Role::start(&self.stage.lab.client, &args.map(String::from), &role_log(&self.stage.lab))?;
        probe.expect("ready", ANSWER_LIMIT)?;
        self.probe = Some(probe);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.probe = None;
        match self.vrrp.take() {
            Some(vrrp) => vrrp.leave(&mut self.stage),
            None => Ok(()),
        }
    }

    /// Of the living nodes, and of a node that is started again.
    fn set_timers(&mut self, hello: &str, dead: &str) -> Result<()> {
        let line = format!("set HA node -helloInterval {hello} -deadInterval {dead}");
        for node in &mut self.stage.pair.nodes {
            node.cli(&line.split(' ').collect::<Vec<_>>())?;
            let conf = node.conf.take().unwrap_or_default();
            let rest = conf.lines().filter(|old| !old.starts_with("set HA node -helloInterval"));
            node.conf = Some(rest.chain([line.as_str()]).fold(String::new(), |text, line| text + line + "\n"));
        }
        Ok(())
    }

    fn wait_whole(&mut self) -> Result<usize> {
        match &mut self.vrrp {
            Some(vrrp) => vrrp.wait_whole(&self.stage),
            None => self.stage.pair.wait_whole(),
        }
    }

    /// Each blow `runs` times, in turns.
    fn rows(&mut self, blows: &[Blow], runs: u32, resident: &str) -> Result<Vec<Vec<String>>> {
        let mut all: Vec<Vec<Run>> = blows.iter().map(|_| Vec::new()).collect();
        for number in 1..=runs {
            for (blow, list) in blows.iter().zip(&mut all) {
                let name = format!("{}, {}, {number}", self.subject.name(), blow.name());
                // The machine may have stood still, and the role moved, since the pair was whole.
                let again = |error: anyhow::Error| note(&format!("{name}: not struck ({error:#}); once more"));
                let run = self.one(*blow).or_else(|error| {
                    again(error);
                    self.one(*blow)
                });
                let run = run.with_context(|| name.clone())?;
                let tcp = [quantile(&run.waits, 0.5), quantile(&run.waits, 1.0)];
                let (gap, lost, served) = (run.gap, run.lost, if run.served { "" } else { ", NOT TAKEN OVER" });
                let still = run.standstill;
                note(&format!(
                    "{name}: gap {gap:.1} ms, {lost} lost, stood still {still:.1} ms, TCP {:.0} / {:.0} ms{served}",
                    tcp[0], tcp[1]
                ));
                if run.lost > 0 && blow.is_planned() && self.vrrp.is_none() {
                    let folder = self.evidence.join(format!("{}-{number}", blow.name().replace(' ', "-")));
                    keep_evidence(&self.stage.lab, &self.stage.pair, &folder)?;
                }
                list.push(run);
            }
        }
        let name = self.subject.name();
        Ok(blows.iter().zip(&all).map(|(blow, list)| row(name, *blow, resident, list)).collect())
    }

    fn one(&mut self, blow: Blow) -> Result<Run> {
        let primary = self.wait_whole()?;
        let mut tcp = self.start_clients()?;
        sys::pause(WARM_UP);
        let mut probe = self.probe.take().context("the probe")?;
        let begun = tcp.progress()?["at_ms"].as_f64();
        tcp.ask("window", ANSWER_LIMIT)?;
        probe.ask("window", ANSWER_LIMIT)?;
        self.standstill.take_ms();
        let struck = match &mut self.vrrp {
            Some(vrrp) => vrrp.strike(&mut self.stage, primary, blow),
            None => blow::strike(&mut self.stage, primary, blow),
        };
        if let Err(error) = struck {
            self.probe = Some(probe);
            return Err(error);
        }
        // Nothing is asked of anybody while the successor works: the machine is shared.
        sys::pause(AFTERMATH);
        let led = blow == Blow::None || self.wait_led(1 - primary)?;
        let served = led && wait_served(&mut tcp, &mut probe, begun)?;
        sys::pause(LATE);
        let standstill = self.standstill.take_ms();
        let told = probe.ask("report", ANSWER_LIMIT)?;
        ensure!(told["changed_server"] == 0, "the probe's flow moved to another server: {told}");
        let waits = tcp.ask("report", ANSWER_LIMIT)?;
        match &mut self.vrrp {
            Some(vrrp) => vrrp.heal(&mut self.stage, primary, blow)?,
            None => blow::heal(&mut self.stage, primary, blow)?,
        }
        self.probe = Some(probe);
        Ok(Run {
            gap: told["gap"]["max_ms"].as_f64().context("a gap")?,
            lost: told["lost"].as_u64().context("lost datagrams")?,
            standstill,
            waits: waits["waits_ms"].as_array().context("waits")?.iter().filter_map(Value::as_f64).collect(),
            served,
            end: tcp.ask("stop", DRAIN_LIMIT)?,
        })
    }

    /// Whether the successor leads before nobody is waited for any longer. A kernel whose keepalived is dead or frozen goes
    /// on forwarding until then.
    fn wait_led(&mut self, successor: usize) -> Result<bool> {
        let deadline = Instant::now() + RECOVERY_LIMIT;
        let mut looks = 0;
        let led = sys::wait_until("the successor leads or is given up", RECOVERY_LIMIT + ANSWER_LIMIT, || {
            looks += 1;
            let leads = match &self.vrrp {
                Some(_) => vrrp::leads(&self.stage, successor)?,
                None => self.stage.pair.nodes[successor].ha().is_ok_and(|view| view.is_primary()),
            };
            Ok((leads || Instant::now() >= deadline).then_some(leads))
        })?;
        if looks > 1 {
            sys::pause(AFTERMATH); // it came late, and so does what it does to clients
        }
        Ok(led)
    }

    fn start_clients(&self) -> Result<Role> {
        let [target, _] = self.subject.targets();
        let mut args = vec!["echo-client".to_string(), "--target".into(), target.clone()];
        for address in Stage::sources(target.parse()?) {
            args.extend(["--from".into(), address]);
        }
        args.extend(CLIENTS.map(String::from));
        let mut tcp = Role::start(&self.stage.lab.client, &args, &role_log(&self.stage.lab))?;
        let ready = tcp.expect("ready", ANSWER_LIMIT)?;
        ensure!(ready["established"] == 100, "not all connections came up: {ready}");
        Ok(tcp)
    }
}

/// Waits until probe and connections are answered, for as long as is bearable; whether the probe is.
fn wait_served(tcp: &mut Role, probe: &mut Role, begun: Option<f64>) -> Result<bool> {
    let deadline = Instant::now() + RECOVERY_LIMIT;
    sys::wait_until("clients are served or given up", RECOVERY_LIMIT + ANSWER_LIMIT, || {
        let short = |ms: Option<f64>| ms.is_some_and(|ms| ms < SERVED_MS);
        let probed = short(probe.ask("report", ANSWER_LIMIT)?["silent_ms"].as_f64());
        let clients = tcp.progress()?;
        let fresh = clients["at_ms"].as_f64() > begun.map(|at| at + AFTERMATH.as_secs_f64() * 1000.0);
        let served = fresh && probed && short(clients["waiting_ms"].as_f64());
        Ok((served || Instant::now() >= deadline).then_some(probed))
    })
}

/// Median, 99 of 100, and the worst.
fn three(values: &[f64]) -> String {
    match values {
        [] => "–".to_string(),
        _ => format!("{:.1} / {:.1} / {:.1}", quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)),
    }
}

fn row(subject: &str, blow: Blow, resident: &str, runs: &[Run]) -> Vec<String> {
    let of = |value: fn(&Run) -> f64, runs: &[&Run]| three(&runs.iter().map(|run| value(run)).collect::<Vec<_>>());
    let (all, quiet): (Vec<&Run>, Vec<&Run>) =
        (runs.iter().collect(), runs.iter().filter(|run| run.standstill < QUIET_MS).collect());
    let count = |name: &str| runs.iter().map(|run| run.end[name].as_u64().unwrap_or_default()).sum::<u64>();
    vec![
        subject.into(),
        blow.name().into(),
        resident.into(),
        runs.len().to_string(),
        of(|run| run.gap, &all),
        of(|run| run.lost as f64, &all),
        of(|run| run.standstill, &all),
        format!("{} of {}", of(|run| run.gap, &quiet), quiet.len()),
        three(&runs.iter().flat_map(|run| run.waits.clone()).collect::<Vec<_>>()),
        (count("long_established") + count("short_established")).to_string(),
        count("lost").to_string(),
        count("reset").to_string(),
        count("not_opened").to_string(),
        runs.iter().filter(|run| !run.served).count().to_string(),
    ]
}

fn tell(report: &mut Report, rows: &[Vec<String>]) {
    report.table(
        "Takeover",
        &format!(
            "*gap*: longest time without an answer to a UDP probe that sends every millisecond. *datagrams lost*: those of the probe \
             without an answer, in a run. *stood still*: the longest time in which a processor of this machine ran nobody, not even a thread \
             of the highest priority; *gap, quiet*: of the runs in which that was less than {QUIET_MS} ms, and how many those are. *TCP wait*: longest wait for an answer of each of 100 connections that send every 20 ms and were not lost; a \
             lost segment costs a retransmission time-out of at least 200 ms. Connections (long ones and 20 new ones a second): \
             *lost* were established and were then reset, ended or silent for 20 s; *not opened* had no answer to their connect. \
             *not taken over*: runs in which the other node or host did not lead, or the probe was not answered, within {limit} s; \
             their gap is what had passed by then. \
             keepalived's planned switchover is a watched file that makes the master give up its addresses; a killed or frozen \
             keepalived leaves a kernel that goes on forwarding.",
            limit = RECOVERY_LIMIT.as_secs()
        ),
        &[
            "subject",
            "failure",
            "flows resident",
            "runs",
            "gap p50 / p99 / max ms",
            "datagrams lost p50 / p99 / max",
            "stood still p50 / p99 / max ms",
            "gap, quiet p50 / p99 / max ms",
            "TCP wait p50 / p99 / max ms",
            "connections established",
            "lost",
            "of these reset",
            "not opened",
            "not taken over",
        ],
        rows,
    );
}
