//! `bench million`: memory, bulk transfer and takeover with a million mirrored flows.

use super::loads::{self, Load};
use super::measure::{self, Link, Sender, line_time, median, quantile};
use super::stage::{Front, Stage, TALKS};
use super::{Common, Report, note};
use crate::campaign::keep_evidence;
use crate::node::{Binaries, Failure, Node};
use crate::ns::Namespace;
use crate::role::Role;
use crate::sys;
use crate::traffic::role_log;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Room in the table beyond the flows: TCP connections that come and go.
pub const SPARE_FLOWS: u32 = 131_072;
/// A table so small that what a process needs besides is seen.
const SMALL_TABLE: u32 = 1024;
/// All flows are open within this time.
const OPEN_LIMIT: Duration = Duration::from_secs(600);
/// A returned node has caught up within this time.
const BULK_LIMIT: Duration = Duration::from_secs(120);
/// A sample of flows is answered within this time after a takeover.
const CHECK_LIMIT: Duration = Duration::from_secs(150);
/// A survivor leads within this time.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// How long the probe is watched after a failure.
const AFTERMATH: Duration = Duration::from_millis(1500);
/// How long flows are busy before a failure.
const WARM_UP: Duration = Duration::from_secs(3);
/// Between two readings of the link while a bulk transfer runs.
const LINK_INTERVAL: Duration = Duration::from_millis(2);
/// A bulk transfer carries more than this in one such interval; heartbeats and a few connections do not.
const BULK_BYTES: u64 = 20_000;
/// New connections a second while a bulk transfer runs.
const DELTAS: u32 = 500;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Mirrored flows.
    #[arg(long, default_value_t = 1_000_000)]
    flows: u32,
    /// Restarts of the secondary, and failures of each kind.
    #[arg(long, default_value_t = 7)]
    repetitions: u32,
    /// Flows whose server is asked after each takeover.
    #[arg(long, default_value_t = 20_000)]
    sample: u32,
    /// All flows send while nodes fail: 50,000 datagrams a second, one of each flow in turn, and their answers.
    #[arg(long)]
    busy: bool,
    #[command(flatten)]
    common: Common,
}

/// How much is done.
#[derive(Clone, Copy)]
struct Plan {
    flows: u32,
    repetitions: u32,
    sample: u32,
    busy: bool,
}

/// Stage and clients.
struct Play {
    plan: Plan,
    stage: Stage,
    flows: Option<Role>,
    probe: Option<Role>,
}

/// Runs the bench.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    let Options { flows, repetitions, sample, busy, .. } = *options;
    let mut plan = Plan { flows, repetitions, sample, busy };
    if options.common.smoke {
        plan = Plan { flows: 20_000, repetitions: 1, sample: 2_000, busy };
    }
    let mut report = Report::new("Very many mirrored flows", options.common.out.as_deref());
    let stage = Stage::build(binaries, &["--max-flows".into(), SMALL_TABLE.to_string()])?;
    let mut play = Play { plan, stage, flows: None, probe: None };
    let outcome = play.run(&mut report);
    if outcome.is_err() {
        keep_evidence(&play.stage.lab, &play.stage.pair, &options.common.evidence)?;
    }
    outcome?;
    report.finish()
}

impl Play {
    fn run(&mut self, report: &mut Report) -> Result<()> {
        self.stage.pair.bring_up(&self.stage.lab)?;
        let small = self.memory()?;
        for node in &mut self.stage.pair.nodes {
            node.stop()?;
            node.arguments = vec!["--max-flows".into(), (self.plan.flows + SPARE_FLOWS).to_string()];
        }
        self.stage.pair.bring_up(&self.stage.lab)?;
        self.start_probe()?;
        let empty = self.memory()?;
        let (mut rows, mut raw) = (Vec::new(), Vec::new());
        self.takeovers("no", &mut rows, &mut raw)?;
        self.open_flows(report)?;
        let full = self.memory()?;
        self.tell_memory(report, small, empty, full);
        self.bulk(report)?;
        self.takeovers(&self.plan.flows.to_string(), &mut rows, &mut raw)?;
        if self.plan.busy {
            report.say(&format!(
                "The flows are busy while nodes fail: {} datagrams a second, one of each in turn, and their answers.\n",
                crate::role::BUSY
            ));
        }
        tell_takeovers(report, &rows, &raw);
        Ok(())
    }

    fn start_probe(&mut self) -> Result<()> {
        let args = ["udp-client", "--target", &Front::Probe.address(), "--from", "192.0.2.10", "--rate", "1000"];
        let mut probe = Role::start(&self.stage.lab.client, &args.map(String::from), &role_log(&self.stage.lab))?;
        probe.expect("ready", TAKEOVER_LIMIT)?;
        self.probe = Some(probe);
        Ok(())
    }

    /// The probe's longest gap, in ms, since the window was opened.
    fn gap(&mut self) -> Result<f64> {
        let told = self.probe.as_mut().context("the probe")?.ask("report", TAKEOVER_LIMIT)?;
        ensure!(told["changed_server"] == 0, "the probe's flow moved to another server: {told}");
        told["gap"]["max_ms"].as_f64().context("a gap")
    }

    fn open_window(&mut self) -> Result<()> {
        self.probe.as_mut().context("the probe")?.ask("window", TAKEOVER_LIMIT).map(drop)
    }

    fn set_timers(&mut self, hello: &str, dead: &str) -> Result<()> {
        for node in &self.stage.pair.nodes {
            node.cli(&["set", "ha", "node", "-helloInterval", hello, "-deadInterval", dead])?;
        }
        Ok(())
    }

    /// Resident bytes of both nodes (primary, secondary), and how many of them lie in huge pages.
    fn memory(&mut self) -> Result<[[u64; 2]; 2]> {
        let primary = self.stage.pair.wait_whole()?;
        let mut rows = [[0; 2]; 2];
        for (row, at) in rows.iter_mut().zip([primary, 1 - primary]) {
            let pid = self.stage.pair.nodes[at].pid().context("a living node")?;
            *row = [measure::resident(pid)?, measure::resident_huge(pid)?];
        }
        Ok(rows)
    }

    fn open_flows(&mut self, report: &mut Report) -> Result<()> {
        let (mut flows, opened) = open(&self.stage, self.plan.flows)?;
        if self.plan.busy {
            for _ in 0..TALKS {
                flows.ask(&format!("check {}", self.plan.flows), OPEN_LIMIT)?;
            }
        }
        let seconds = opened["seconds"].as_f64().unwrap_or(f64::NAN);
        let primary = self.stage.pair.wait_whole()?;
        let [there, copy] =
            [primary, 1 - primary].map(|at| self.stage.pair.nodes[at].ha().and_then(|view| view.flows()));
        report.say(&format!(
            "{} UDP flows (one datagram and its answer each) were opened through a STRICT virtual server in {seconds:.1} s: \
             {:.0} a second. The primary then had {} flows, the secondary {}.\n",
            opened["answered"],
            f64::from(self.plan.flows) / seconds,
            there?,
            copy?,
        ));
        self.flows = Some(flows);
        Ok(())
    }

    fn tell_memory(&self, report: &mut Report, small: [[u64; 2]; 2], empty: [[u64; 2]; 2], full: [[u64; 2]; 2]) {
        let mib = |bytes: u64| format!("{:.0}", bytes as f64 / 1048576.0);
        let flows = f64::from(self.plan.flows);
        let each = |from: u64, to: u64| format!("{:.0}", to.saturating_sub(from) as f64 / flows);
        let rows: Vec<Vec<String>> = ["primary", "secondary"]
            .iter()
            .enumerate()
            .map(|(at, name)| {
                vec![
                    (*name).into(),
                    mib(small[at][0]),
                    mib(empty[at][0]),
                    mib(full[at][0]),
                    mib(full[at][1]),
                    each(empty[at][0], full[at][0]),
                    each(small[at][0], full[at][0]),
                ]
            })
            .collect();
        report.table(
            "Memory",
            &format!(
                "Resident memory of the daemons, MiB: with `--max-flows {SMALL_TABLE}`, with `--max-flows {}` and no flow, and with \
                 {} flows. The last column takes everything that a table of that size costs, whether a flow lies there or not. \
                 Goal: ≤ 256 bytes a flow on either node, target 128.",
                self.plan.flows + SPARE_FLOWS,
                self.plan.flows
            ),
            &[
                "node",
                "small table",
                "large table, empty",
                "with flows",
                "of that in huge pages",
                "bytes/flow (flows only)",
                "bytes/flow (all that a large table adds)",
            ],
            &rows,
        );
    }

    /// The secondary is killed and started again, while connections come and go.
    fn bulk(&mut self, report: &mut Report) -> Result<()> {
        let mut rows = Vec::new();
        let mut rates = Vec::new();
        for number in 1..=self.plan.repetitions {
            note(&format!("bulk transfer {number}"));
            let bulk = self.one_bulk()?;
            rates.push(bulk.flows / bulk.seconds);
            rows.push(bulk.row(number));
        }
        report.table(
            "Bulk transfer to a restarted secondary, while connections come and go",
            &format!(
                "The secondary is killed (SIGKILL) and started; {DELTAS} connections a second (connect, 64 bytes there and back, close) \
                 go through a STRICT virtual server all the time. *transfer*: from the first burst on the peer link until the secondary's \
                 log says *caught up*; *absent*: from its start until then. CPU is that of the whole process from the start of the \
                 secondary until it has caught up. Median: {:.0} flows a second (goal ≥ 500,000).",
                median(&rates)
            ),
            &[
                "run",
                "flows",
                "transfer s",
                "flows/s",
                "absent s",
                "CPU primary µs/flow",
                "CPU secondary µs/flow",
                "payload bytes/flow",
                "datagrams",
                "sent again",
                "connections meanwhile: answered, failed",
                "their SYN → SYN-ACK p50 / p99 / max ms",
                "UDP probe's gap ms",
            ],
            &rows,
        );
        Ok(())
    }

    fn one_bulk(&mut self) -> Result<Bulk> {
        let primary = self.stage.pair.wait_whole()?;
        self.open_window()?;
        let (pair, lab) = (&mut self.stage.pair, &self.stage.lab);
        pair.nodes[1 - primary].kill()?;
        sys::wait_until("the primary misses its peer", TAKEOVER_LIMIT, || {
            Ok((!pair.nodes[primary].ha()?.peer_caught_up).then_some(()))
        })?;
        let load = Load { rate: DELTAS, seconds: BULK_LIMIT.as_secs_f64() };
        let args = loads::arguments(&[Front::Kept.address()], load)?;
        let mut deltas = Role::start(&lab.client, &args, &role_log(lab))?;
        deltas.expect("warm", TAKEOVER_LIMIT)?;
        let before = Sender::read(&pair.nodes[primary])?;
        let cpu = measure::cpu_ns(pair.nodes[primary].pid().context("a living node")?)?;
        let logged = std::fs::metadata(pair.nodes[1 - primary].log())?.len();
        let (started, start) = (Instant::now(), measure::time_of_day());
        let (burst, line) = watch_link(&lab.nodes[primary], || {
            pair.nodes[1 - primary].start(lab)?;
            wait_for_line(&mut pair.nodes[1 - primary], logged, "caught up with session", BULK_LIMIT)
        })?;
        let end = line_time(&line).context("a time in the log line")?;
        let flows = line.rsplit_once(": ").and_then(|(_, text)| text.split(' ').next()?.parse::<f64>().ok());
        let primary_cpu = measure::cpu_ns(pair.nodes[primary].pid().context("a living node")?)? - cpu;
        let secondary_cpu = measure::cpu_ns(pair.nodes[1 - primary].pid().context("a living node")?)?;
        note(&format!("caught up after {:.1} s", started.elapsed().as_secs_f64()));
        let sent = Sender::read(&pair.nodes[primary])?.since(before);
        let told = deltas.ask_for("stop", "done", TAKEOVER_LIMIT)?;
        self.stage.pair.wait_whole()?;
        let quantile = |name: &str| told["handshake"][name].as_f64().unwrap_or(f64::NAN) / 1000.0;
        Ok(Bulk {
            gap: self.gap()?,
            flows: flows.with_context(|| format!("the number of flows in: {line}"))?,
            seconds: end - burst,
            absent: end - start,
            cpu_ns: [primary_cpu, secondary_cpu],
            sent,
            deltas: format!("{}, {}", told["answered"], told["failed"]),
            handshake: format!("{:.1} / {:.1} / {:.1}", quantile("p50_us"), quantile("p99_us"), quantile("max_us")),
        })
    }

    /// Each kind of failure, several times, with `resident` flows; and as many times none, for the scale.
    fn takeovers(&mut self, resident: &str, rows: &mut Vec<Vec<String>>, raw: &mut Vec<String>) -> Result<()> {
        for (failure, name, goal) in [
            (None, "none", "–"),
            (Some(Failure::Kill), "kill -9", "≤ 10"),
            (Some(Failure::Power), "power loss", "≤ 50"),
        ] {
            let mut takeovers = Vec::new();
            for number in 1..=self.plan.repetitions {
                let takeover = self.one_takeover(failure)?;
                note(&format!("{resident} flows, failure {name}, {number}: {:.1} ms", takeover.gap));
                takeovers.push(takeover);
            }
            let column = |pick: fn(&Takeover) -> f64| takeovers.iter().map(pick).collect::<Vec<_>>();
            let sum = |pick: fn(&Takeover) -> f64| column(pick).iter().sum::<f64>();
            let three = |values: &[f64]| {
                format!("{:.1} / {:.1} / {:.1}", median(values), quantile(values, 0.99), quantile(values, 1.0))
            };
            let gaps = column(|takeover| takeover.gap);
            rows.push(vec![
                name.into(),
                resident.into(),
                takeovers.len().to_string(),
                three(&gaps),
                goal.into(),
                failure.map_or("–".into(), |_| three(&column(|takeover| takeover.led))),
                sum(|takeover| takeover.asked).to_string(),
                sum(|takeover| takeover.asked - takeover.answered).to_string(),
                sum(|takeover| takeover.changed).to_string(),
            ]);
            let list = gaps.iter().map(|gap| format!("{gap:.1}")).collect::<Vec<_>>().join(", ");
            raw.push(format!("- {name}, {resident} flows: {list}"));
        }
        self.set_timers("100", "0.4")
    }

    fn one_takeover(&mut self, failure: Option<Failure>) -> Result<Takeover> {
        let primary = self.stage.pair.wait_whole()?;
        // A restarted node has the defaults of its file.
        self.set_timers("10", "0.03")?;
        let is_busy = self.plan.busy;
        if let Some(flows) = self.flows.as_mut().filter(|_| is_busy) {
            flows.tell(&format!("busy {}", (WARM_UP + AFTERMATH).as_millis()))?;
            sys::pause(WARM_UP);
        }
        self.open_window()?;
        let logged = std::fs::metadata(self.stage.pair.nodes[1 - primary].log())?.len();
        let begun = measure::time_of_day();
        let (pair, lab) = (&mut self.stage.pair, &self.stage.lab);
        if let Some(failure) = failure {
            pair.nodes[primary].fail(lab, failure)?;
        }
        sys::pause(AFTERMATH);
        let gap = self.gap()?;
        if let Some(flows) = self.flows.as_mut().filter(|_| is_busy) {
            let told = flows.expect("busy", CHECK_LIMIT)?;
            note(&format!("{} datagrams in {:.1} s", told["sent"], told["seconds"].as_f64().unwrap_or_default()));
        }
        let Some(failure) = failure else { return Ok(Takeover { gap, ..Takeover::default() }) };
        let pair = &mut self.stage.pair;
        let line = wait_for_line(&mut pair.nodes[1 - primary], logged, " primary, term", TAKEOVER_LIMIT)?;
        let led = (line_time(&line).context("a time in the log line")? - begun) * 1000.0;
        let mut takeover = Takeover { gap, led, ..Takeover::default() };
        if let Some(flows) = &mut self.flows {
            let told = flows.ask(&format!("check {}", self.plan.sample), CHECK_LIMIT)?;
            let number = |name: &str| told[name].as_f64().unwrap_or_default();
            (takeover.asked, takeover.answered, takeover.changed) =
                (number("asked"), number("answered"), number("changed"));
        }
        pair.nodes[primary].revive(&self.stage.lab, failure)?;
        sys::wait_until("the pair is whole again", BULK_LIMIT, || Ok(pair.wait_whole().ok()))?;
        Ok(takeover)
    }
}

/// Opens so many UDP flows and waits until each has had its answer; returns the role that owns them and what it said.
pub fn open(stage: &Stage, count: u32) -> Result<(Role, Value)> {
    let mut args = vec!["bench-flows".to_string(), "--target".into(), Front::Datagrams.address()];
    for address in stage.flow_addresses(count)? {
        args.extend(["--from".into(), address.to_string()]);
    }
    let mut flows = Role::start(&stage.lab.client, &args, &role_log(&stage.lab))?;
    flows.expect("ready", TAKEOVER_LIMIT)?;
    note(&format!("opening {count} flows"));
    let opened = flows.ask(&format!("open {count}"), OPEN_LIMIT)?;
    ensure!(opened["answered"] == opened["asked"], "not every flow has its answer: {opened}");
    Ok((flows, opened))
}

fn tell_takeovers(report: &mut Report, rows: &[Vec<String>], raw: &[String]) {
    report.table(
        "Takeover",
        "Hello 10 ms, dead interval 30 ms. *gap*: longest time without an answer to a UDP probe that sends every millisecond, within \
         1.5 s (failure *none*: nothing happens, so this is what the machine itself does to the probe). *leads*: from the signal \
         until the survivor's log says that it is primary. *power loss*: the process stops at once, its links go down, then it is \
         killed. After each takeover a sample of the flows, evenly spread, sends one datagram each: *unanswered* within two \
         minutes, and *changed* (another server or source answered than before) must be 0. Between failures the failed node \
         returns and catches up.",
        &[
            "failure",
            "flows resident",
            "times",
            "gap median / p99 / max ms",
            "goal ms",
            "leads median / p99 / max ms",
            "flows asked",
            "unanswered",
            "changed",
        ],
        rows,
    );
    report.say(&format!("Gaps in ms, one by one:\n\n{}\n", raw.join("\n")));
}

/// How one failure went.
#[derive(Default)]
struct Takeover {
    gap: f64,
    led: f64,
    asked: f64,
    answered: f64,
    changed: f64,
}

/// One bulk transfer.
struct Bulk {
    flows: f64,
    seconds: f64,
    absent: f64,
    cpu_ns: [u64; 2],
    sent: Sender,
    deltas: String,
    handshake: String,
    gap: f64,
}

impl Bulk {
    fn row(&self, number: u32) -> Vec<String> {
        let cpu = self.cpu_ns.map(|ns| format!("{:.2}", ns as f64 / self.flows / 1000.0));
        let [primary, secondary] = cpu;
        vec![
            number.to_string(),
            format!("{:.0}", self.flows),
            format!("{:.2}", self.seconds),
            format!("{:.0}", self.flows / self.seconds),
            format!("{:.2}", self.absent),
            primary,
            secondary,
            format!("{:.1}", self.sent.bytes as f64 / self.flows),
            self.sent.datagrams.to_string(),
            self.sent.retransmits.to_string(),
            self.deltas.clone(),
            self.handshake.clone(),
            format!("{:.1}", self.gap),
        ]
    }
}

/// Waits until a node's log, from `from` on, has a line with `words`; returns it.
fn wait_for_line(node: &mut Node, from: u64, words: &str, limit: Duration) -> Result<String> {
    sys::wait_until(&format!("a node says `{words}`"), limit, || {
        node.ensure_alive()?;
        let log = std::fs::read(node.log())?;
        let fresh = String::from_utf8_lossy(&log[usize::try_from(from)?.min(log.len())..]).into_owned();
        Ok(fresh.lines().find(|line| line.contains(words)).map(str::to_string))
    })
}

/// Runs `work` and watches what a node sends on the peer link meanwhile. Returns when the first burst began (time of day)
/// and what `work` returned.
fn watch_link<T>(host: &Namespace, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| host.inside(|| first_burst(&stop)));
        let done = work();
        stop.store(true, Ordering::SeqCst);
        let burst = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        let done = done?;
        Ok((burst?.context("no bulk transfer was seen on the link")?, done))
    })
}

fn first_burst(stop: &AtomicBool) -> Result<Option<f64>> {
    let mut before = Link::here("eth-p")?.tx_bytes;
    while !stop.load(Ordering::SeqCst) {
        sys::pause(LINK_INTERVAL);
        let sent = Link::here("eth-p")?.tx_bytes;
        if sent - before > BULK_BYTES {
            return Ok(Some(measure::time_of_day()));
        }
        before = sent;
    }
    Ok(None)
}
