//! The campaign's traffic: servers, TCP clients, UDP flows and a UDP probe, and what is wrong with them.

use super::fronts::{FRONTS, Mute};
use crate::lab::{Family, Lab};
use crate::role::Role;
use crate::sys;
use crate::traffic::role_log;
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A role is ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Answers to questions that need no waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Everybody is served again within this time after a failure; longer than what a client calls silence.
const CALM_LIMIT: Duration = Duration::from_secs(30);
/// Everything has come to its end within this time.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);
/// Whoever has been waiting for less is served.
const NORMAL_WAIT_MS: f64 = 400.0;
/// A UDP flow that was answered before and is not for this long is lost.
const SILENCE_LIMIT_MS: f64 = 20_000.0;
/// Datagrams a second of the probe.
const PROBE_RATE: u32 = 1000;

/// How much traffic there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Connections that are not short, at any time.
    pub connections: u32,
    /// Short connections begun each second.
    pub new_per_second: u32,
    /// UDP flows at any time.
    pub udp_flows: u32,
}

/// Running traffic.
pub struct Crowd {
    servers: [Role; 2],
    tcp: Role,
    udp: Role,
    probe: Role,
    excuses: Vec<Excuse>,
    /// Connections that an excuse did not cover although nobody held the state of all, since they began late enough.
    spared: u64,
    /// Clients that came to another server, seen while an excuse was being granted that does not cover it.
    moved_unexcused: Vec<Value>,
    /// Server-side ends of marked connections.
    excused_at_servers: u64,
}

/// Connections numbered below `next` (long ones, short ones) may be lost since `at_ms`, but for the spared ones.
struct Excuse {
    next: [u64; 2],
    at_ms: f64,
    spared: BTreeSet<u64>,
}

/// Totals at one moment; the difference of two says what happened between them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Totals {
    /// Connections that the clients saw established.
    pub established: u64,
    /// Losses, as the clients saw them.
    pub lost: u64,
    /// Resets among them.
    pub reset: u64,
    /// Bytes that were not what had been sent.
    pub wrong_bytes: u64,
    /// Connections that an excuse was granted to.
    pub marked: u64,
    /// Those of them that were lost.
    pub excused: u64,
}

impl Totals {
    /// What came since `before`.
    pub fn since(&self, before: &Totals) -> Totals {
        Totals {
            established: self.established - before.established,
            lost: self.lost - before.lost,
            reset: self.reset - before.reset,
            wrong_bytes: self.wrong_bytes - before.wrong_bytes,
            marked: self.marked - before.marked,
            excused: self.excused - before.excused,
        }
    }
}

impl Crowd {
    /// Starts the servers; monitors find them.
    pub fn start_servers(lab: &Lab, seed: u64) -> Result<[Role; 2]> {
        Ok([start_server(lab, 0, seed)?, start_server(lab, 1, seed)?])
    }

    /// Starts the clients.
    pub fn start(lab: &Lab, servers: [Role; 2], seed: u64, size: Size) -> Result<Crowd> {
        let sources: Vec<String> = Family::ALL.iter().flat_map(|family| family.client_addresses()).collect();
        let sources: Vec<String> = sources.into_iter().flat_map(|address| ["--from".into(), address]).collect();
        let targets = |option: &str, wanted: fn(&super::fronts::Front) -> bool| -> Vec<String> {
            let fronts = FRONTS.iter().filter(|front| wanted(front));
            let each = fronts.flat_map(|front| Family::ALL.map(|family| front.target(family)));
            each.flat_map(|target| [option.to_string(), target]).collect()
        };
        let words = |line: String| -> Vec<String> { line.split(' ').map(String::from).collect() };

        let mut args = words(format!("udp-client --rate 20 --bytes 200 --life-ms 15000 --flows {}", size.udp_flows));
        args.extend(targets("--target", |front| front.udp));
        args.extend(sources.clone());
        let udp = Role::start(&lab.client, &args, &role_log(lab))?;

        let mut args = words(format!("udp-client --rate {PROBE_RATE} --flows 1"));
        args.extend(targets("--target", |front| front.udp));
        args.extend(sources.clone());
        let probe = Role::start(&lab.client, &args, &role_log(lab))?;

        let Size { connections, new_per_second, .. } = size;
        let mut args = words(format!("crowd-client --seed {seed} --connections {connections}"));
        args.extend(words(format!("--new-per-second {new_per_second}")));
        args.extend(targets("--target", |front| front.tcp && front.mute == Mute::Never));
        args.extend(targets("--mute", |front| front.mute != Mute::Never));
        args.extend(targets("--sticky", |front| front.tcp && front.sticky));
        args.extend(sources);
        let tcp = Role::start(&lab.client, &args, &role_log(lab))?;
        let mut crowd = Crowd {
            servers,
            tcp,
            udp,
            probe,
            excuses: Vec::new(),
            spared: 0,
            moved_unexcused: Vec::new(),
            excused_at_servers: 0,
        };
        for role in [&mut crowd.udp, &mut crowd.probe, &mut crowd.tcp] {
            role.expect("ready", READY_LIMIT)?;
        }
        Ok(crowd)
    }

    /// Begins a measurement.
    pub fn open_window(&mut self) -> Result<()> {
        self.tcp.ask("window", ANSWER_LIMIT)?;
        self.probe.ask("window", ANSWER_LIMIT).map(drop)
    }

    /// Ends it: the longest waits for an answer (median, p99, worst) and the probe's longest silence, in ms.
    pub fn close_window(&mut self) -> Result<[f64; 4]> {
        let tcp = self.tcp.ask("report", ANSWER_LIMIT)?;
        let probe = self.probe.ask("report", ANSWER_LIMIT)?;
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let waits = &tcp["waits"];
        let tcp = ["p50_ms", "p99_ms", "max_ms"].map(|name| number(&waits[name]));
        Ok([tcp[0], tcp[1], tcp[2], number(&probe["gap"]["max_ms"])])
    }

    /// Waits until every connection and every UDP flow is served. An error at the first loss.
    pub fn wait_calm(&mut self) -> Result<()> {
        let mut calm_since = None;
        let mut last = Value::Null;
        let outcome = sys::wait_until("everybody is served", CALM_LIMIT, || {
            self.check()?;
            last = self.tcp.progress()?.clone();
            let at = last["at_ms"].as_f64().unwrap_or_default();
            let udp = self.udp.ask("report", ANSWER_LIMIT)?["silent_ms"].as_f64().unwrap_or_default();
            let waits = last["waiting_ms"].as_f64().is_some_and(|wait| wait >= NORMAL_WAIT_MS);
            if waits || udp >= NORMAL_WAIT_MS || at == 0.0 {
                calm_since = None;
                return Ok(None);
            }
            // A second report: the first may be older than the failure.
            let since = *calm_since.get_or_insert(at);
            Ok((at > since).then_some(()))
        });
        outcome.map_err(|error| anyhow::anyhow!("{error:#}; who waits longest: {}", last["waiting"]))
    }

    /// Totals so far.
    pub fn totals(&mut self) -> Result<Totals> {
        let report = self.tcp.ask("totals", ANSWER_LIMIT)?;
        let count = |name: &str| report[name].as_u64().unwrap_or_default();
        Ok(Totals {
            established: count("established"),
            lost: count("lost"),
            reset: report["lost_by_cause"]["reset"].as_u64().unwrap_or_default(),
            wrong_bytes: count("wrong_bytes"),
            marked: count("marked"),
            excused: count("excused"),
        })
    }

    /// An error that tells the first losses, if there are any that nothing excuses.
    pub fn check(&mut self) -> Result<()> {
        let mut complaints = self.tcp.drain("loss")?;
        complaints.extend(self.tcp.drain("moved")?);
        complaints.append(&mut self.moved_unexcused);
        for server in &mut self.servers {
            for loss in server.drain("loss")? {
                if self.excuses.iter().any(|excuse| excuse.covers(&loss)) {
                    self.excused_at_servers += 1;
                } else {
                    complaints.push(loss);
                }
            }
        }
        for role in [&mut self.udp, &mut self.probe] {
            complaints.extend(role.drain("moved")?);
            let report = role.ask("report", ANSWER_LIMIT)?;
            let silent = report["silent_ms"].as_f64() > Some(SILENCE_LIMIT_MS);
            if report["changed_server"] != 0 || report["corrupt"] != 0 || silent {
                complaints.push(report);
            }
        }
        if complaints.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = complaints.iter().take(10).map(Value::to_string).collect();
        bail!("{} losses:\n{}", complaints.len(), told.join("\n"))
    }

    /// What begins from now on, and is established when [`Crowd::spare_no_more`] is called, is not covered by the excuse
    /// that follows: two nodes know of it.
    pub fn spare_what_begins(&mut self) -> Result<()> {
        self.tcp.ask("spare", ANSWER_LIMIT).map(drop)
    }

    /// Ends what [`Crowd::spare_what_begins`] began; without one before it nothing is spared.
    pub fn spare_no_more(&mut self) -> Result<()> {
        self.tcp.ask("spared", ANSWER_LIMIT).map(drop)
    }

    /// Nobody held the state of all that exists at this moment: whatever exists may be lost, and is counted apart.
    pub fn excuse(&mut self) -> Result<()> {
        let spared = self.excuse_again()?;
        self.spared += spared;
        Ok(())
    }

    /// Says how many connections were spared.
    fn excuse_again(&mut self) -> Result<u64> {
        let answer = self.tcp.ask("excuse", ANSWER_LIMIT)?;
        let next = [0, 1].map(|index| answer["next"][index].as_u64().unwrap_or_default());
        let at_ms = answer["at_ms"].as_f64().unwrap_or_default();
        let spared: BTreeSet<u64> =
            answer["spared"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let count = spared.len() as u64;
        self.excuses.push(Excuse { next, at_ms, spared });
        self.udp.ask("reopen", ANSWER_LIMIT)?;
        self.probe.ask("reopen", ANSWER_LIMIT)?;
        Ok(count)
    }

    /// Ends what an [`Crowd::excuse`] began: what exists at this moment is excused as well, but for what that one spared, and
    /// so are clients that came to another server than before since then.
    pub fn excuse_since_the_last(&mut self) -> Result<()> {
        let begun = self.excuses.last().map(|excuse| excuse.at_ms);
        self.excuse_again()?;
        let moved = self.tcp.drain("moved")?;
        self.moved_unexcused.extend(moved.into_iter().filter(|event| event["at_ms"].as_f64() < begun));
        Ok(())
    }

    /// How many connections no excuse covered that only the time of their beginning told apart.
    pub fn spared(&self) -> u64 {
        self.spared
    }

    /// Lets everything come to its end; checks that both ends agree on what was completed. Returns the clients' totals,
    /// the UDP flows' and how many marked connections the servers saw broken.
    pub fn finish(&mut self) -> Result<(Value, Value, u64)> {
        for server in &mut self.servers {
            server.ask("hurry", ANSWER_LIMIT)?;
        }
        self.tcp.tell("stop")?;
        let done = sys::wait_until("all connections have ended", DRAIN_LIMIT, || {
            self.check()?;
            Ok(self.tcp.drain("stop")?.pop())
        });
        let tcp = match done {
            Ok(tcp) => tcp,
            Err(error) => bail!("{error:#}; who waits longest: {}", self.tcp.progress()?["waiting"]),
        };
        self.check()?;
        let mut seen = String::new();
        let agreed = sys::wait_until("the servers have completed what the clients have", ANSWER_LIMIT, || {
            let (mut completed, mut open) = (0, Vec::new());
            for server in &mut self.servers {
                let status = server.ask("status", ANSWER_LIMIT)?;
                completed += status["done"].as_u64().unwrap_or_default();
                let ids = status["open"].as_array().cloned().unwrap_or_default();
                open.extend(ids.iter().filter_map(Value::as_u64));
            }
            open.retain(|id| !self.excuses.iter().any(|excuse| excuse.is_marked(*id)));
            seen = format!("clients completed {}, servers {completed}; open at servers: {open:?}", tcp["done"]);
            Ok((Some(completed) >= tcp["done"].as_u64() && open.is_empty()).then_some(()))
        });
        if let Err(error) = agreed {
            bail!("{error:#}: {seen}");
        }
        let udp = self.udp.ask("stop", ANSWER_LIMIT)?;
        Ok((tcp, udp, self.excused_at_servers))
    }
}

impl Excuse {
    fn is_marked(&self, id: u64) -> bool {
        id / 2 < self.next[(id % 2) as usize] && !self.spared.contains(&id)
    }

    fn covers(&self, loss: &Value) -> bool {
        // Bytes must never be wrong.
        let excusable = loss["what"] != "corrupt" && loss["at_ms"].as_f64() >= Some(self.at_ms);
        excusable && loss["id"].as_u64().is_some_and(|id| self.is_marked(id))
    }
}

fn start_server(lab: &Lab, index: u8, seed: u64) -> Result<Role> {
    let mut args = vec!["crowd-server".to_string(), "--number".into(), (index + 1).to_string()];
    args.extend(["--seed".into(), seed.to_string()]);
    // A TCP and a UDP virtual server may share a port: it is listened on once, for both.
    for front in FRONTS.iter().filter(|front| front.tcp) {
        let option = match front.mute {
            Mute::Never => "--listen",
            Mute::Syn => "--mute-syn",
            Mute::Ack => "--mute-ack",
        };
        args.extend(Family::ALL.iter().flat_map(|family| [option.into(), front.listener(*family, index)]));
    }
    let mut role = Role::start(&lab.servers[usize::from(index)], &args, &role_log(lab))?;
    role.expect("ready", READY_LIMIT)?;
    Ok(role)
}
