//! One node of the pair: the daemon's process, how it is started and how it dies, and what its operator sees.

use crate::config::{self, Settings};
use crate::lab::{Lab, NODE_DEVICES};
use crate::ns;
use crate::sys;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A daemon must answer on its socket within this time after its start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Time for a signal to take effect.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `holdfastd`.
    pub daemon: PathBuf,
    /// `holdfast`.
    pub cli: PathBuf,
    /// Which way packets go, as `holdfastd --dataplane` wants it.
    pub data_plane: String,
}

impl Binaries {
    /// Looks in `directory`, or beside this program.
    pub fn find(directory: Option<&Path>, data_plane: &str) -> Result<Binaries> {
        let own = std::env::current_exe()?;
        let directory = directory.or(own.parent()).context("the folder of this program")?;
        let (daemon, cli) = (directory.join("holdfastd"), directory.join("holdfast"));
        for program in [&daemon, &cli] {
            ensure!(
                program.is_file(),
                "{} is missing: build it with `cargo build --release -p holdfastd -p holdfast-cli`",
                program.display()
            );
        }
        Ok(Binaries { daemon, cli, data_plane: data_plane.into() })
    }
}

/// How a node fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Failure {
    /// SIGKILL.
    Kill,
    /// All its links go down and its process is killed.
    Power,
    /// SIGSTOP; it wakes up later and must have noticed.
    Freeze,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 3] = [Failure::Kill, Failure::Power, Failure::Freeze];
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Failure::Kill => "kill",
            Failure::Power => "power",
            Failure::Freeze => "freeze",
        })
    }
}

/// A mirror session, as one node calls it: its number, and the second in which it began.
pub type Session = (u64, u64);

/// What `show ha node` says.
#[derive(Clone, Debug)]
pub struct HaView {
    /// `Primary`, `Secondary`, …
    pub role: String,
    /// As secondary: it holds the primary's state.
    pub caught_up: bool,
    /// The peer said that it holds our state.
    pub peer_caught_up: bool,
    /// Holds that ended without an acknowledgement, since the start of the process.
    pub released_unprotected: u64,
    /// Those of them since the latest mirror session began.
    pub released_in_session: u64,
    /// The term that it knows.
    pub term: u64,
    /// The whole answer.
    pub raw: Value,
}

impl HaView {
    /// Does it forward?
    pub fn is_primary(&self) -> bool {
        self.role.eq_ignore_ascii_case("primary")
    }

    /// Flows in its table.
    pub fn flows(&self) -> Result<u64> {
        let own = objects(&self.raw).into_iter().find_map(|object| object.get("flows")?.as_u64());
        own.context("flows in show ha node")
    }

    /// The latest mirror session; none if there was none yet.
    pub fn session(&self) -> Option<Session> {
        let told = objects(&self.raw)
            .into_iter()
            .find_map(|object| Some((object.get("resyncsession")?.as_u64()?, object.get("resyncbegan")?.as_u64()?)));
        told.filter(|(number, _)| *number > 0)
    }

    /// Is it the stand-by?
    pub fn is_secondary(&self) -> bool {
        self.role.eq_ignore_ascii_case("secondary")
    }
}

/// One node.
pub struct Node {
    /// 0 (a) or 1 (b).
    pub index: u8,
    /// Its configuration's variables; used at the next start.
    pub settings: Settings,
    /// It does harm on request (`--debug-hooks`); used at the next start.
    pub debug_hooks: bool,
    /// Another configuration than the lab's; used at the next start.
    pub conf: Option<String>,
    /// Further arguments of the daemon; used at the next start.
    pub arguments: Vec<String>,
    /// Which way its packets go; used at the next start.
    pub data_plane: String,
    /// What runs the daemon, if something does; used at the next start.
    pub wrapper: Vec<String>,
    directory: PathBuf,
    binaries: Binaries,
    child: Option<Child>,
}

impl Node {
    /// A node that has not been started.
    pub fn new(lab: &Lab, index: u8, binaries: &Binaries) -> Result<Node> {
        let directory = lab.directory().join(if index == 0 { "a" } else { "b" });
        std::fs::create_dir_all(directory.join("state"))?;
        Ok(Node {
            index,
            settings: Settings::default(),
            debug_hooks: false,
            conf: None,
            arguments: Vec::new(),
            data_plane: binaries.data_plane.clone(),
            wrapper: Vec::new(),
            directory,
            binaries: binaries.clone(),
            child: None,
        })
    }

    /// `a` or `b`.
    pub fn name(&self) -> &'static str {
        if self.index == 0 { "a" } else { "b" }
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("holdfast.sock")
    }

    /// Where its messages go.
    pub fn log(&self) -> PathBuf {
        self.directory.join("holdfastd.log")
    }

    /// The process, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self, lab: &Lab) -> Result<()> {
        self.spawn(lab)?;
        sys::wait_until(&format!("node {} answers", self.name()), START_LIMIT, || {
            self.ensure_alive()?;
            Ok(self.ha().ok())
        })
        .map(drop)
    }

    /// Starts the daemon, whatever becomes of it.
    pub fn spawn(&mut self, lab: &Lab) -> Result<()> {
        ensure!(self.child.is_none(), "node {} runs already", self.name());
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.command(lab)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("start holdfastd")?);
        Ok(())
    }

    /// Starts the daemon, which must refuse to run; what it says.
    pub fn start_refused(&mut self, lab: &Lab) -> Result<String> {
        let output = self.command(lab)?.stdin(Stdio::null()).output().context("start holdfastd")?;
        ensure!(!output.status.success(), "node {} does run", self.name());
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn command(&self, lab: &Lab) -> Result<Command> {
        let conf = self.directory.join("ns.conf");
        let text = self.conf.clone().unwrap_or_else(|| config::ns_conf(self.index, &self.settings));
        std::fs::write(&conf, text)?;
        let daemon = self.binaries.daemon.display().to_string();
        let words: Vec<&str> = self.wrapper.iter().map(String::as_str).chain([daemon.as_str()]).collect();
        let mut command = lab.nodes[usize::from(self.index)].command(words[0])?;
        command
            .args(&words[1..])
            .arg("--config")
            .arg(&conf)
            .arg("--state")
            .arg(self.state())
            .arg("--socket")
            .arg(self.socket());
        command.arg("--dataplane").arg(&self.data_plane);
        command.args(&self.arguments);
        if self.debug_hooks {
            command.arg("--debug-hooks").arg(self.hooks());
        }
        Ok(command)
    }

    /// Its configuration as it is on the disk.
    pub fn saved(&self) -> Result<String> {
        std::fs::read_to_string(self.directory.join("ns.conf")).context("read ns.conf")
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn hooks(&self) -> PathBuf {
        self.directory.join("hooks.sock")
    }

    /// Asks a node with [`Node::debug_hooks`] for harm.
    pub fn hook(&self, word: &str) -> Result<()> {
        let sent = UnixDatagram::unbound()?.send_to(word.as_bytes(), self.hooks());
        sent.map(drop).with_context(|| format!("debug hook {word} of node {}", self.name()))
    }

    /// Waits until the process has died of a bug of its own.
    pub fn wait_for_crash(&mut self, limit: Duration) -> Result<()> {
        let name = self.name();
        let child = self.child.as_mut().with_context(|| format!("node {name} is not running"))?;
        let status = sys::wait_until(&format!("node {name} crashes"), limit, || Ok(child.try_wait()?))?;
        self.child = None;
        ensure!(status.signal() == Some(libc::SIGABRT), "node {name} ended with {status}:\n{}", self.last_words());
        Ok(())
    }

    /// What the log says from this byte on.
    pub fn log_from(&self, start: usize) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
    }

    /// An error that quotes the log if the process has ended by itself.
    pub fn ensure_alive(&mut self) -> Result<()> {
        let Some(child) = self.child.as_mut() else { anyhow::bail!("node {} is not running", self.name()) };
        if let Some(status) = child.try_wait()? {
            self.child = None;
            anyhow::bail!("node {} ended by itself ({status}); its last words:\n{}", self.name(), self.last_words());
        }
        Ok(())
    }

    /// The end of the log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// One command through the command line tool.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        self.cli_with(words, "")
    }

    /// Many commands, one in each line.
    pub fn cli_batch(&self, lines: &str) -> Result<String> {
        self.cli_with(&[], lines)
    }

    fn cli_with(&self, words: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.binaries.cli);
        command.arg("--socket").arg(self.socket()).args(words);
        ns::run(command, input).with_context(|| format!("holdfast {} (node {})", words.join(" "), self.name()))
    }

    /// How to run a command by hand.
    pub fn command_line(&self, words: &str) -> String {
        format!("{} --socket {} {words}", self.binaries.cli.display(), self.socket().display())
    }

    /// What the node says about the pair.
    pub fn ha(&self) -> Result<HaView> {
        let text = self.cli(&["show", "ha", "node", "--json"])?;
        let raw: Value = serde_json::from_str(&text).with_context(|| format!("JSON of show ha node: {text}"))?;
        HaView::from_json(raw)
    }

    /// Peer messages refused since the start of the process: wrong password, malformed, replayed.
    pub fn refused(&self) -> Result<u64> {
        let text = self.cli(&["show", "ha", "node"])?;
        let count = text.lines().find_map(|line| line.trim().strip_prefix("Refused Peer Messages: "));
        count.and_then(|count| count.parse().ok()).with_context(|| format!("no refused messages in {text}"))
    }

    /// Lets the node fail. Returns when the failure is a fact.
    pub fn fail(&mut self, lab: &Lab, failure: Failure) -> Result<()> {
        self.ensure_alive()?;
        let pid = self.pid().context("a living node has a pid")?;
        match failure {
            Failure::Kill => self.kill(),
            // Silence at one instant: the process stops, then its links go down one after the other (which takes the
            // kernel milliseconds, in which a living node would hand over), and only then it is killed, so that
            // nothing of its end leaves.
            Failure::Power => {
                freeze(pid)?;
                self.set_links(lab, "down")?;
                self.kill()
            }
            Failure::Freeze => freeze(pid),
        }
    }

    /// Takes the failure back: the process runs again, or is started anew.
    pub fn revive(&mut self, lab: &Lab, failure: Failure) -> Result<()> {
        match failure {
            Failure::Kill => self.start(lab),
            Failure::Power => {
                self.set_links(lab, "up")?;
                self.start(lab)
            }
            Failure::Freeze => sys::signal(self.pid().context("a frozen node has a pid")?, libc::SIGCONT),
        }
    }

    /// SIGKILL by pid; reaps the process.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the daemon to end (SIGTERM) and waits for it.
    pub fn stop(&mut self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        sys::signal(pid, libc::SIGTERM)?;
        sys::wait_until("the daemon has ended", SIGNAL_LIMIT, || {
            Ok(match self.child.as_mut() {
                Some(child) => child.try_wait()?.map(drop),
                None => Some(()),
            })
        })?;
        self.child = None;
        Ok(())
    }

    fn set_links(&self, lab: &Lab, state: &str) -> Result<()> {
        let lines: String = NODE_DEVICES.iter().map(|device| format!("link set {device} {state}\n")).collect();
        lab.nodes[usize::from(self.index)].ip_batch(&lines)
    }
}

fn freeze(pid: u32) -> Result<()> {
    sys::signal(pid, libc::SIGSTOP)?;
    sys::wait_until("the process is stopped", SIGNAL_LIMIT, || Ok(sys::is_stopped(pid).then_some(())))
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

impl HaView {
    /// The answer is a list: this node, then its peer.
    fn from_json(raw: Value) -> Result<HaView> {
        let nodes: Vec<&Value> = objects(&raw).into_iter().filter(|object| object.get("caughtup").is_some()).collect();
        let own = nodes.first().with_context(|| format!("no node in {raw}"))?;
        Ok(HaView {
            role: own["state"].as_str().unwrap_or_default().to_string(),
            caught_up: own["caughtup"] == true,
            peer_caught_up: nodes.get(1).is_some_and(|peer| peer["caughtup"] == true),
            released_unprotected: own["releasedunprotected"].as_u64().context("releasedunprotected")?,
            released_in_session: own["resyncreleasedunprotected"].as_u64().unwrap_or(0),
            term: own["term"].as_u64().context("term")?,
            raw,
        })
    }
}

/// All objects in a value, outer ones first.
pub fn objects(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(map) => std::iter::once(value).chain(map.values().flat_map(objects)).collect(),
        Value::Array(items) => items.iter().flat_map(objects).collect(),
        _ => Vec::new(),
    }
}
