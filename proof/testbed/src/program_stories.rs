//! A story about real programs: what people leave open for hours, across the deaths of both nodes, each checked by what it says.

use crate::ftp::PYTHON;
use crate::lab::Family;
use crate::node::{Failure, Node};
use crate::ns::Namespace;
use crate::stories::Stage;
use crate::sys;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] =
    &[("real_programs_survive_ssh_postgresql_redis_tls_websocket_dns_and_iperf3", real_programs)];

/// Last part of the virtual servers' address.
const HOST: u8 = 140;
/// What every session says: so many things, one in each pause.
const COUNT: u32 = 150;
const PAUSE: &str = "0.05";
/// Between the sessions' beginning and the deaths.
const BEFORE_DEATHS: [Duration; 2] = [Duration::from_millis(1500), Duration::from_millis(1000)];
/// Something must be there within this time.
const LIMIT: Duration = Duration::from_secs(60);
/// A name that the servers' DNS knows, and where it points.
const NAME: [&str; 2] = ["holdfast.test", "192.0.2.77"];

/// Port of the WebSocket, and its server and client.
const WEBSOCKET: u16 = 8088;
const WEBSOCKET_PROGRAM: &str = include_str!("programs/websocket.py");

/// Ports of iperf3 for a stream and for datagrams: a server of it serves one test at a time.
fn iperf_ports(family: Family) -> [u16; 2] {
    match family {
        Family::V4 => [5201, 5203],
        Family::V6 => [5202, 5204],
    }
}

/// Type and port of the virtual servers.
fn fronts(family: Family) -> [(&'static str, u16); 9] {
    let [stream, datagrams] = iperf_ports(family);
    [
        ("TCP", 22),
        ("TCP", 5432),
        ("TCP", 6379),
        ("SSL_BRIDGE", 4433),
        ("TCP", WEBSOCKET),
        ("TCP", stream),
        // iperf3 speaks of its datagrams on a connection.
        ("TCP", datagrams),
        ("UDP", datagrams),
        ("UDP", 53),
    ]
}

/// A program of the story, ended with it.
pub struct Program {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Program {
    /// Starts it; what it says goes to a file of its own.
    pub fn start(folder: &Path, name: &str, mut command: Command) -> Result<Program> {
        let output = folder.join(format!("{name}.out"));
        let file = File::create(&output)?;
        let errors = File::create(folder.join(format!("{name}.err")))?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.with_context(|| format!("start {name} ({command:?}): cargo xtask setup installs it"))?;
        Ok(Program { name: name.to_owned(), child, output })
    }

    /// What it has said so far.
    fn said(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.output)?).into_owned())
    }

    /// What it said until its end, which must be a good one.
    fn finish(&mut self) -> Result<String> {
        let status = sys::wait_until(&format!("{} ends", self.name), LIMIT, || Ok(self.child.try_wait()?))?;
        let errors = std::fs::read_to_string(self.output.with_extension("err")).unwrap_or_default();
        ensure!(status.success(), "{}: {status}; said {:?}; {errors}", self.name, self.said()?);
        self.said()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prepares a program in a namespace.
pub fn command(host: &Namespace, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = host.command(program)?;
    command.args(arguments);
    Ok(command)
}

/// Runs a program to its end, outside of any namespace.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program}: cargo xtask setup installs it"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A program of PostgreSQL, which Debian keeps apart.
fn of_postgres(program: &str) -> Result<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let kept = versions.map(|version| version.path().join("bin").join(program)).find(|path| path.exists());
    match kept {
        Some(path) => Ok(path.display().to_string()),
        None if sys::is_installed(program) => Ok(program.to_owned()),
        None => bail!("{program} is not installed: cargo xtask setup"),
    }
}

fn ssh_server(host: &Namespace, folder: &Path) -> Result<Program> {
    let path = |name: &str| folder.join(name).display().to_string();
    for key in ["host_key", "client_key"] {
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)])?;
    }
    std::fs::copy(path("client_key.pub"), path("authorized"))?;
    std::fs::create_dir_all("/run/sshd").context("sshd's empty folder")?;
    let text = format!(
        "Port 22\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPermitRootLogin prohibit-password\nPidFile none\nUsePAM no\n\
         MaxStartups 100\n",
        path("host_key"),
        path("authorized")
    );
    std::fs::write(path("sshd_config"), text)?;
    Program::start(folder, "sshd", command(host, "/usr/sbin/sshd", &["-D", "-e", "-f", &path("sshd_config")])?)
}

/// The database runs as nobody: it refuses to run as root.
fn postgres_server(host: &Namespace, folder: &Path) -> Result<Program> {
    let data = folder.join("postgres").display().to_string();
    std::fs::create_dir_all(&data)?;
    run("chown", &["nobody", &data])?;
    let as_nobody = ["--reuid=nobody", "--clear-groups"];
    let init = of_postgres("initdb")?;
    run("setpriv", &[&as_nobody[..], &[&init, "-D", &data, "-U", "root", "-A", "trust", "-N"]].concat())?;
    let rules = Path::new(&data).join("pg_hba.conf");
    std::fs::write(rules, "host all all all trust\nlocal all all trust\n")?;
    let server = of_postgres("postgres")?;
    let arguments = [&as_nobody[..], &[&server, "-D", &data, "-h", "*", "-p", "5432", "-k", &data]].concat();
    Program::start(folder, "postgres", command(host, "setpriv", &arguments)?)
}

/// Every server program, on the first server.
fn servers(stage: &Stage<'_>, folder: &Path) -> Result<Vec<Program>> {
    let host = &stage.lab.servers[0];
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (path("tls.pem"), path("tls.key"));
    let subject = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=holdfast.test"];
    run("openssl", &[&["req"], &subject[..], &["-keyout", &key, "-out", &certificate]].concat())?;
    let redis =
        ["--port", "6379", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "", "--dir", &path("")];
    let tls = ["s_server", "-accept", "4433", "-cert", &certificate, "-key", &key, "-quiet", "-rev"];
    let address = format!("--address=/{}/{}", NAME[0], NAME[1]);
    let dns =
        ["--no-daemon", "--port=53", "--no-resolv", "--no-hosts", "--user=root", "--conf-file=/dev/null", &address];
    let start = |name: &str, program: &str, arguments: &[&str]| {
        Program::start(folder, name, command(host, program, arguments)?)
    };
    let mut servers = vec![
        ssh_server(host, folder)?,
        postgres_server(host, folder)?,
        start("redis", "redis-server", &redis)?,
        start("tls-server", "openssl", &tls)?,
        start("dnsmasq", "dnsmasq", &dns)?,
        start("websocket", PYTHON, &["-c", WEBSOCKET_PROGRAM, "serve", &WEBSOCKET.to_string()])?,
    ];
    for family in Family::ALL {
        // It answers datagrams from whatever address its kernel likes, unless it is told.
        let address = family.server_net(21);
        for port in iperf_ports(family).map(|port| port.to_string()) {
            servers.push(start(&format!("iperf-server-{port}"), "iperf3", &["-s", "-p", &port, "-B", &address])?);
        }
    }
    Ok(servers)
}

fn add_fronts(node: &Node) -> Result<()> {
    for family in Family::ALL {
        for (kind, port) in fronts(family) {
            let (name, port) = (format!("p_{kind}_{port}_{family}"), port.to_string());
            let host = format!("srv21_{family}");
            node.cli(&[
                "add",
                "lb",
                "vserver",
                &name,
                kind,
                &family.client_net(HOST),
                &port,
                "-connFailover",
                "STATEFUL",
            ])?;
            node.cli(&["add", "service", &name, &host, kind, &port])?;
            if kind == "UDP" {
                node.cli(&["bind", "service", &name, "-monitorName", "echo_ping"])?;
            }
            node.cli(&["bind", "lb", "vserver", &name, &name])?;
        }
    }
    for family in Family::ALL {
        for (kind, port) in fronts(family) {
            let name = format!("p_{kind}_{port}_{family}");
            sys::wait_until(&format!("{name} is UP"), LIMIT, || {
                let told = node.cli(&["show", "lb", "vserver", &name])?;
                Ok((told.matches("State: UP").count() >= 2).then_some(()))
            })?;
        }
    }
    Ok(())
}

/// The sessions of one family, each with what it must have said.
struct Sessions {
    ssh: Program,
    psql: Program,
    redis: Program,
    tls: Program,
    websocket: Program,
    streams: [Program; 2],
    names: Program,
}

fn begin(stage: &Stage<'_>, folder: &Path, family: Family) -> Result<Sessions> {
    let host = &stage.lab.client;
    let (vip, [stream, datagrams]) = (family.client_net(HOST), iperf_ports(family));
    let start = |name: &str, program: &str, arguments: &[&str]| {
        Program::start(folder, &format!("{name}-{family}"), command(host, program, arguments)?)
    };
    let counting = |what: &str| format!("i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); {what}; sleep {PAUSE}; done");
    let key = folder.join("client_key").display().to_string();
    let trusting = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"];
    let count = counting("echo $i");
    let remote = [&trusting[..], &["-i", &key, "-l", "root", &vip, &count]].concat();
    let table = format!("t_{family}");
    let slow = format!(
        "begin; create table {table} (n int); do $$ begin for i in 1..{COUNT} loop insert into {table} values (i); \
         perform pg_sleep({PAUSE}); end loop; end $$; commit; select count(*), sum(n) from {table}"
    );
    let bridge = format!("openssl s_client -quiet -no_ign_eof -connect {} 2>/dev/null", family.endpoint(&vip, 4433));
    let talk = format!("({}; sleep 1) | {bridge}", counting("echo line $i"));
    let look = format!("drill @{vip} {} A | grep -c '{}$' || true", NAME[0], NAME[1]);
    let (port, number) = (WEBSOCKET.to_string(), COUNT.to_string());
    let count_by_websocket = ["-c", WEBSOCKET_PROGRAM, "count", &vip, &port, &number, PAUSE];
    Ok(Sessions {
        ssh: start("ssh", "ssh", &remote)?,
        psql: start(
            "psql",
            "psql",
            &["-h", &vip, "-U", "root", "-d", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", &slow],
        )?,
        redis: start("redis-cli", "redis-cli", &["-h", &vip, "subscribe", &format!("numbers_{family}")])?,
        tls: start("tls", "sh", &["-c", &talk])?,
        websocket: start("websocket-client", PYTHON, &count_by_websocket)?,
        streams: [
            start("iperf-tcp", "iperf3", &["-c", &vip, "-p", &stream.to_string(), "-t", "6", "-b", "20M", "--json"])?,
            start(
                "iperf-udp",
                "iperf3",
                &["-c", &vip, "-u", "-p", &datagrams.to_string(), "-t", "6", "-b", "5M", "--json"],
            )?,
        ],
        names: start("names", "sh", &["-c", &counting(&look)])?,
    })
}

impl Sessions {
    /// Everything was said, in its order, and nothing else.
    fn finish(mut self, family: Family) -> Result<()> {
        let numbers: Vec<String> = (1..=COUNT).map(|number| number.to_string()).collect();
        let ssh = self.ssh.finish()?;
        ensure!(ssh.lines().eq(numbers.iter().map(String::as_str)), "ssh {family}: {ssh}");
        let websocket = self.websocket.finish()?;
        ensure!(websocket.lines().eq(numbers.iter().map(String::as_str)), "WebSocket {family}: {websocket}");
        let sum = COUNT * (COUNT + 1) / 2;
        let psql = self.psql.finish()?;
        ensure!(psql.trim() == format!("{COUNT}|{sum}"), "psql {family}: {psql}");
        let tls = self.tls.finish()?;
        let reversed = numbers.iter().map(|number| format!("line {number}").chars().rev().collect::<String>());
        ensure!(tls.lines().eq(reversed), "TLS {family}: {tls}");
        for stream in &mut self.streams {
            arrived(&stream.finish()?).with_context(|| format!("{} {family}", stream.name))?;
        }
        let names = self.names.finish()?;
        ensure!(
            names.lines().count() == COUNT as usize && names.lines().all(|line| line == "1"),
            "names {family}: {names}"
        );
        let redis = sys::wait_until("every message has come", LIMIT, || {
            let said = self.redis.said()?;
            Ok((said.lines().last() == Some(&COUNT.to_string())).then_some(said))
        });
        let redis = redis.with_context(|| format!("redis {family}: {:?}", self.redis.said().unwrap_or_default()))?;
        let heard: Vec<&str> = redis
            .lines()
            .collect::<Vec<_>>()
            .chunks(3)
            .filter(|said| said[0] == "message")
            .map(|said| said[2])
            .collect();
        ensure!(heard.iter().eq(numbers.iter()), "redis {family}: {heard:?}");
        Ok(())
    }
}

/// What iperf3 tells of a test: something was sent until its very end, and arrived.
fn arrived(report: &str) -> Result<()> {
    let report: Value = serde_json::from_str(report).context("iperf3's report")?;
    ensure!(report["error"].is_null(), "{}", report["error"]);
    let last = report["intervals"].as_array().and_then(|all| all.last()).context("intervals")?;
    let (sum, end) = (&last["sum"]["bytes"], &report["end"]);
    ensure!(sum.as_u64() > Some(0), "nothing in the last second: {last}");
    let sent = end["sum_sent"]["bytes"].as_u64().or(end["sum"]["bytes"].as_u64());
    ensure!(sent > Some(0), "{end}");
    Ok(())
}

/// Says the numbers to whoever has subscribed, from the server's own host.
fn publish(stage: &Stage<'_>, folder: &Path, family: Family) -> Result<Program> {
    let line = format!(
        "i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); redis-cli -h 127.0.0.1 publish numbers_{family} $i; sleep {PAUSE}; done"
    );
    Program::start(folder, &format!("publisher-{family}"), command(&stage.lab.servers[0], "sh", &["-c", &line])?)
}

fn real_programs(stage: &mut Stage<'_>) -> Result<()> {
    let folder = stage.lab.directory().join("programs");
    std::fs::create_dir_all(&folder)?;
    run("chmod", &["755", &stage.lab.directory().display().to_string(), &folder.display().to_string()])?;
    stage.lab.servers[0].ip(&["link", "set", "lo", "up"])?;
    let _servers = servers(stage, &folder)?;
    let primary = stage.pair.wait_whole()?;
    add_fronts(&stage.pair.nodes[primary])?;
    let mut sessions = Vec::new();
    let mut publishers = Vec::new();
    for family in Family::ALL {
        let begun = begin(stage, &folder, family)?;
        sys::wait_until("the subscription", LIMIT, || Ok(begun.redis.said()?.contains("subscribe").then_some(())))?;
        publishers.push(publish(stage, &folder, family)?);
        sessions.push((family, begun));
    }
    for before in BEFORE_DEATHS {
        sys::pause(before);
        let primary = stage.pair.wait_whole()?;
        let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
        stage.pair.wait_primary(1 - primary)?;
        stage.pair.heal(&stage.lab, outage)?;
    }
    for (family, session) in sessions {
        session.finish(family)?;
    }
    Ok(())
}
