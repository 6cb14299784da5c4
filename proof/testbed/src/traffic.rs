//! Servers and clients of the lab, as the tests use them.

use crate::config::{ECHO_PORT, Vip, WHO_PORT};
use crate::lab::{Family, Lab, SERVER_ROWS};
use crate::ns::Namespace;
use crate::role::{Role, play_inside};
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A role is ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// All that is under way has ended within this time; longer than what a client calls silence.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Answers to questions that need no waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Traffic flows again within this time after a failure.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);
/// A message that has been waiting for less counts as normal traffic.
const NORMAL_WAIT_MS: f64 = 400.0;

/// Where a role's complaints go.
pub fn role_log(lab: &Lab) -> PathBuf {
    lab.directory().join("roles.log")
}

/// Starts the echo servers of both server hosts.
pub fn start_servers(lab: &Lab) -> Result<[Role; 2]> {
    let start = |index: u8| -> Result<Role> {
        let mut args = vec!["echo-server".to_string(), "--name".into(), format!("srv{}", index + 1)];
        for family in Family::ALL {
            let balanced = family.server_net(SERVER_ROWS[0] + 1 + index);
            for port in Vip::ALL.iter().filter_map(|vip| vip.server_port()) {
                args.extend(["--listen".into(), family.endpoint(&balanced, port)]);
            }
            let any = family.server_net(SERVER_ROWS[1] + 1 + index);
            args.extend(["--listen".into(), family.endpoint(&any, ECHO_PORT)]);
            args.extend(["--who".into(), family.endpoint(&any, WHO_PORT)]);
        }
        let mut role = Role::start(&lab.servers[usize::from(index)], &args, &role_log(lab))?;
        role.expect("ready", READY_LIMIT)?;
        Ok(role)
    };
    Ok([start(0)?, start(1)?])
}

/// Connections that the servers' kernels reported as reset, so far.
pub fn server_resets(servers: &mut [Role; 2]) -> Result<u64> {
    let mut sum = 0;
    for server in servers {
        sum += server.ask("status", ANSWER_LIMIT)?["reset"].as_u64().unwrap_or_default();
    }
    Ok(sum)
}

/// How much the clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Long connections.
    pub connections: u32,
    /// Short connections begun each second.
    pub new_per_second: u32,
    /// Datagrams a second of the UDP probe.
    pub probe_rate: u32,
}

/// What one failure did to the clients.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// Longest wait for an answer on each long connection: median, 99th percentile, maximum, in ms.
    pub tcp: [f64; 3],
    /// Longest silence of the UDP probe, in ms.
    pub udp: f64,
}

/// Running traffic: TCP and a UDP probe to the same virtual servers.
pub struct Traffic {
    /// The TCP client.
    pub tcp: Role,
    /// The UDP client.
    pub udp: Role,
}

impl Traffic {
    /// Starts the clients against `vip` in `families` and waits until all long connections are established.
    pub fn start(lab: &Lab, vip: Vip, families: &[Family], load: Load) -> Result<Traffic> {
        let mut common = Vec::new();
        for family in families {
            common.extend(["--target".to_string(), family.endpoint(&vip.address(*family), ECHO_PORT)]);
            for address in family.client_addresses() {
                common.extend(["--from".to_string(), address]);
            }
        }
        Traffic::begin(lab, &lab.client, &common, load)
    }

    /// Starts the clients on `host`, with `common` for their targets and addresses.
    pub fn begin(lab: &Lab, host: &Namespace, common: &[String], load: Load) -> Result<Traffic> {
        let flows = common.iter().filter(|word| *word == "--target").count();
        let mut args = vec!["udp-client".to_string(), "--flows".into(), flows.to_string()];
        args.extend(["--rate".into(), load.probe_rate.to_string()]);
        args.extend_from_slice(common);
        let udp = Role::start(host, &args, &role_log(lab))?;

        let mut args = vec!["echo-client".to_string(), "--connections".into(), load.connections.to_string()];
        args.extend(["--new-per-second".into(), load.new_per_second.to_string()]);
        args.extend_from_slice(common);
        let tcp = Role::start(host, &args, &role_log(lab))?;
        let mut traffic = Traffic { tcp, udp };
        traffic.udp.expect("ready", READY_LIMIT)?;
        let ready = traffic.tcp.expect("ready", READY_LIMIT)?;
        if ready["established"].as_u64() != Some(u64::from(load.connections)) {
            let end = traffic.finish()?;
            bail!("only {} of {} connections came up: {}", ready["established"], load.connections, end.failures_told());
        }
        Ok(traffic)
    }

    /// Begins a measurement.
    pub fn open_window(&mut self) -> Result<()> {
        self.tcp.ask("window", ANSWER_LIMIT)?;
        self.udp.ask("window", ANSWER_LIMIT).map(drop)
    }

    /// Waits until every connection is answered promptly again.
    pub fn wait_recovered(&mut self) -> Result<()> {
        let mut last = Value::Null;
        let mut since = None;
        let outcome = crate::sys::wait_until("every connection is answered again", RECOVERY_LIMIT, || {
            last = self.tcp.progress()?.clone();
            // Two reports in a row: the first may be older than the failure.
            let fresh = last["at_ms"].as_f64();
            let first = *since.get_or_insert(fresh);
            let calm = last["waiting_ms"].as_f64().is_some_and(|wait| wait < NORMAL_WAIT_MS);
            Ok((calm && fresh > first).then_some(()))
        });
        outcome.map_err(|error| anyhow::anyhow!("{error:#}; the clients' last report: {last}"))
    }

    /// Ends a measurement.
    pub fn close_window(&mut self) -> Result<Gaps> {
        let tcp = self.tcp.ask("report", ANSWER_LIMIT)?;
        let udp = self.udp.ask("report", ANSWER_LIMIT)?;
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let long = &tcp["long"];
        Ok(Gaps {
            tcp: [number(&long["p50_ms"]), number(&long["p99_ms"]), number(&long["max_ms"])],
            udp: number(&udp["gap"]["max_ms"]),
        })
    }

    /// Lets everything come to its end and counts.
    pub fn finish(mut self) -> Result<Outcome> {
        let tcp = self.tcp.ask("stop", DRAIN_LIMIT)?;
        let udp = self.udp.ask("stop", ANSWER_LIMIT)?;
        Ok(Outcome { tcp, udp })
    }
}

/// What the clients saw in the whole run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The TCP client's totals.
    pub tcp: Value,
    /// The UDP client's totals.
    pub udp: Value,
}

impl Outcome {
    /// One of the TCP client's counters.
    pub fn count(&self, name: &str) -> u64 {
        self.tcp[name].as_u64().unwrap_or_default()
    }

    /// Connections that the client saw established: long ones and short ones.
    pub fn established(&self) -> u64 {
        self.count("long_established") + self.count("short_established")
    }

    /// Established connections that were reset.
    pub fn reset(&self) -> u64 {
        self.count("reset")
    }

    /// Established connections that were lost in any way, resets included.
    pub fn lost(&self) -> u64 {
        self.count("lost")
    }

    /// What is wrong with this outcome, in words; `None` if nothing is.
    pub fn complaint(&self) -> Option<String> {
        let mut complaints = Vec::new();
        if self.lost() > 0 {
            complaints.push(format!("{} connections lost: {}", self.lost(), self.failures_told()));
        }
        let changed = self.udp["changed_server"].as_u64().unwrap_or(1);
        if changed > 0 {
            complaints.push(format!("{changed} UDP flows changed their server"));
        }
        if self.udp["corrupt"] != 0 {
            complaints.push(format!("{} corrupt datagrams", self.udp["corrupt"]));
        }
        (!complaints.is_empty()).then(|| complaints.join("; "))
    }

    /// The first failures, one by one.
    pub fn failures_told(&self) -> String {
        self.tcp["failures"].to_string()
    }
}

/// Starts idle connections to a virtual server.
pub fn start_ends(lab: &Lab, vip: Vip, family: Family, connections: u32) -> Result<Role> {
    start_ends_of(lab, (&lab.client, &family.client_addresses()), vip, family, connections)
}

/// The same of any client: its host, and the addresses to use.
pub fn start_ends_of(
    lab: &Lab,
    (client, addresses): (&Namespace, &[String]),
    vip: Vip,
    family: Family,
    connections: u32,
) -> Result<Role> {
    let mut args = vec!["ends".to_string(), "--connections".into(), connections.to_string()];
    args.extend(["--target".into(), family.endpoint(&vip.address(family), ECHO_PORT)]);
    for address in addresses {
        args.extend(["--from".into(), address.clone()]);
    }
    let mut role = Role::start(client, &args, &role_log(lab))?;
    role.expect("ready", READY_LIMIT)?;
    Ok(role)
}

/// Asks the stateless virtual server from every client address which server answers.
pub fn ask_who(lab: &Lab, vip: Vip, family: Family) -> Result<BTreeMap<String, String>> {
    let mut args = vec!["who".to_string(), "--target".into(), family.endpoint(&vip.address(family), WHO_PORT)];
    for address in family.client_addresses() {
        args.extend(["--from".into(), address]);
    }
    let answer = play_inside(&lab.client, &args, READY_LIMIT, &role_log(lab))?;
    let map = answer["answers"].as_object().cloned().unwrap_or_default();
    Ok(map.into_iter().map(|(from, server)| (from, server.as_str().unwrap_or("?").to_string())).collect())
}

/// Checks that client and servers cannot reach each other but through a virtual server.
pub fn assert_no_bypass(lab: &Lab) -> Result<()> {
    for family in Family::ALL {
        for server in [21, 22, 41, 42] {
            let address = family.server_net(server);
            if let Ok(route) = lab.client.ip(&["route", "get", &address]) {
                bail!("the client has a route to server {address}: {route}");
            }
        }
    }
    for namespace in &lab.servers {
        let routes = namespace.ip(&["-o", "route", "show"])? + &namespace.ip(&["-o", "-6", "route", "show"])?;
        if let Some(line) = routes.lines().find(|line| line.contains("192.0.2.") || line.contains("2001:db8:1:")) {
            bail!("a server has a route to the client network: {line}");
        }
    }
    Ok(())
}
