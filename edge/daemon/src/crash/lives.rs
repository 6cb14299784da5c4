//! The former lives of this node, one line each in the file `lives` of the state directory.

use crate::store::replace;
use anyhow::{Context, Result, bail, ensure};
use holdfast_node::{Life, LifeEnd};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lives that are remembered.
const REMEMBERED: usize = 16;

/// First line of the file.
const TITLE: &str = "holdfast lives 1";

/// The file.
#[derive(Debug)]
pub struct LivesFile {
    path: PathBuf,
    /// Oldest first; the last one is the present life once it has begun. A life that is running
    /// counts as vanished: if it is found like that, it was.
    lives: Vec<Life>,
}

impl LivesFile {
    /// Reads the file in `state`; one that makes no sense is an error, and then nothing is remembered.
    pub fn open(state: &Path) -> (LivesFile, Result<()>) {
        let path = state.join("lives");
        let (lives, outcome) = match std::fs::read_to_string(&path) {
            Ok(text) => match parse(&text) {
                Ok(lives) => (lives, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => (Vec::new(), Ok(())),
            Err(error) => (Vec::new(), Err(error.into())),
        };
        let outcome =
            outcome.with_context(|| format!("{} cannot be read: earlier crashes are forgotten", path.display()));
        (LivesFile { path, lives }, outcome)
    }

    /// How the last life is told to have ended.
    pub fn last_end(&self) -> Option<LifeEnd> {
        self.lives.last().map(|life| life.end)
    }

    /// The last life left a crash report.
    pub fn note_crash(&mut self) {
        if let Some(life) = self.lives.last_mut() {
            life.end = LifeEnd::Crashed;
        }
    }

    /// All of them.
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// A life begins.
    pub fn begin(&mut self, started_ms: u64, quarantine: Option<Duration>) -> Result<()> {
        self.lives.push(Life { started_ms, quarantine, end: LifeEnd::Vanished });
        let excess = self.lives.len().saturating_sub(REMEMBERED);
        self.lives.drain(..excess);
        self.save()
    }

    /// The present life ends as it should.
    pub fn end(&mut self) -> Result<()> {
        if let Some(life) = self.lives.last_mut() {
            life.end = LifeEnd::Orderly;
        }
        self.save()
    }

    fn save(&self) -> Result<()> {
        replace(&self.path, &print(&self.lives))
            .with_context(|| format!("cannot write {}: crashes from here on may be forgotten", self.path.display()))
    }
}

fn print(lives: &[Life]) -> String {
    let line = |life: &Life| {
        let end = match life.end {
            LifeEnd::Orderly => "orderly",
            LifeEnd::Crashed => "crashed",
            LifeEnd::Vanished => "running",
        };
        let quarantine = life.quarantine.map_or(0, |length| length.as_secs());
        format!("start {} quarantine {quarantine} end {end}\n", life.started_ms)
    };
    format!("{TITLE}\n{}", lives.iter().map(line).collect::<String>())
}

fn parse(text: &str) -> Result<Vec<Life>> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some(TITLE), "its first line is not `{TITLE}`");
    let lives: Vec<Life> = lines.map(parse_line).collect::<Result<_>>()?;
    ensure!(lives.len() <= REMEMBERED, "it has more than {REMEMBERED} lives");
    Ok(lives)
}

fn parse_line(line: &str) -> Result<Life> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["start", started, "quarantine", quarantine, "end", end] = words[..] else {
        bail!("this line makes no sense: {line:?}");
    };
    let quarantine: u64 = quarantine.parse().with_context(|| format!("a number in {line:?}"))?;
    let end = match end {
        "orderly" => LifeEnd::Orderly,
        "crashed" => LifeEnd::Crashed,
        "running" => LifeEnd::Vanished,
        _ => bail!("this line makes no sense: {line:?}"),
    };
    Ok(Life {
        started_ms: started.parse().with_context(|| format!("a number in {line:?}"))?,
        quarantine: (quarantine > 0).then(|| Duration::from_secs(quarantine)),
        end,
    })
}
