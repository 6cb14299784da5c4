//! The connection to the node's command socket.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// Refused.
    Failed,
}

/// An open connection; any number of commands, one after the other.
pub struct Client {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the node that serves `path`.
    pub fn connect(path: &Path) -> Result<Client> {
        let stream = UnixStream::connect(path).with_context(|| match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                format!("cannot connect to {}: is holdfastd running? (another socket: --socket PATH)", path.display())
            }
            _ => format!("cannot connect to {} (it belongs to the user that runs holdfastd)", path.display()),
        })?;
        Ok(Client { path: path.to_owned(), reader: BufReader::new(stream) })
    }

    /// Carries out one command and gives each part of the answer to `part`
    /// (text, and whether it is good news).
    pub fn run(&mut self, line: &str, json: bool, part: &mut dyn FnMut(&str, bool)) -> Result<Outcome> {
        let lost = || format!("the node behind {} closed the connection", self.path.display());
        let request = json!({ "line": line, "json": json }).to_string() + "\n";
        // A node that refuses us has said why before it closed: read that first.
        let written = self.reader.get_mut().write_all(request.as_bytes());
        let mut outcome = Outcome::Done;
        loop {
            let mut answer = String::new();
            if self.reader.read_line(&mut answer).with_context(lost)? == 0 {
                written.with_context(lost)?;
                bail!(lost());
            }
            let answer: Value = serde_json::from_str(&answer).context("the node's answer makes no sense")?;
            let flag = |name: &str, otherwise| answer.get(name).and_then(Value::as_bool).unwrap_or(otherwise);
            if !flag("ok", false) {
                outcome = Outcome::Failed;
            }
            part(answer.get("text").and_then(Value::as_str).unwrap_or_default(), flag("ok", false));
            if flag("last", true) {
                return Ok(outcome);
            }
        }
    }

    /// Carries out one command and collects its answer.
    pub fn ask(&mut self, line: &str, json: bool) -> Result<(Outcome, String)> {
        let mut text = String::new();
        let outcome = self.run(line, json, &mut |part, _| text.push_str(part))?;
        Ok((outcome, text))
    }
}
