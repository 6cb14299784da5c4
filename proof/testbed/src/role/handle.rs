//! The lab's end of a role: start it, tell it things, wait for what it says.

use crate::ns::Namespace;
use crate::sys;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// A role that runs in a namespace; killed and reaped on drop.
pub struct Role {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
    waiting: Vec<Value>,
    progress: Value,
}

impl Role {
    /// Starts `holdfast-testbed role <args>` inside. What it complains about goes to `log`.
    pub fn start(namespace: &Namespace, args: &[String], log: &Path) -> Result<Role> {
        let name = args.first().cloned().unwrap_or_default();
        let mut child = namespace
            .command(std::env::current_exe()?)?
            .arg("role")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .spawn()
            .with_context(|| format!("start role {name}"))?;
        let stdin = child.stdin.take().context("the role's standard input")?;
        let stdout = child.stdout.take().context("the role's standard output")?;
        let (sender, lines) = channel();
        // Ends with the role: its standard output closes.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Ok(Role { name, child, stdin, lines, waiting: Vec::new(), progress: Value::Null })
    }

    /// Sends one command.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin, "{command}").with_context(|| format!("tell {} to {command}", self.name))
    }

    /// Waits for the next line whose `event` is `event`; keeps the others.
    pub fn expect(&mut self, event: &str, limit: Duration) -> Result<Value> {
        let what = format!("role {} says {event}", self.name);
        sys::wait_until(&what, limit, || {
            let alive = self.take_in()?;
            let found = self.waiting.iter().position(|line| line["event"] == event);
            match found {
                Some(index) => Ok(Some(self.waiting.remove(index))),
                None if alive => Ok(None),
                None => bail!("role {} ended before it said {event}", self.name),
            }
        })
    }

    /// Takes all lines whose `event` is `event` that have arrived.
    pub fn drain(&mut self, event: &str) -> Result<Vec<Value>> {
        self.take_in()?;
        let (found, rest) = std::mem::take(&mut self.waiting).into_iter().partition(|line| line["event"] == event);
        self.waiting = rest;
        Ok(found)
    }

    /// The newest progress report, if any.
    pub fn progress(&mut self) -> Result<&Value> {
        if !self.take_in()? {
            bail!("role {} has ended", self.name);
        }
        Ok(&self.progress)
    }

    /// Asks and waits for the answer of the same name.
    pub fn ask(&mut self, command: &str, limit: Duration) -> Result<Value> {
        self.tell(command)?;
        let event = command.split(' ').next().unwrap_or(command).to_string();
        self.expect(&event, limit)
    }

    /// Tells it `command` and waits until it says `event`.
    pub fn ask_for(&mut self, command: &str, event: &str, limit: Duration) -> Result<Value> {
        self.tell(command)?;
        self.expect(event, limit)
    }

    fn take_in(&mut self) -> Result<bool> {
        loop {
            match self.lines.try_recv() {
                Ok(line) if line["event"] == "progress" => self.progress = line,
                Ok(line) => self.waiting.push(line),
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a role to its end inside and returns its last line.
pub fn play_inside(namespace: &Namespace, args: &[String], limit: Duration, log: &Path) -> Result<Value> {
    let mut role = Role::start(namespace, args, log)?;
    role.expect("done", limit)
}
