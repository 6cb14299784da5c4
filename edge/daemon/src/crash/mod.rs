//! What a crash leaves behind, and what the next life makes of it.
//!
//! Nothing here may keep a node from starting: a state directory that is full,
//! read-only or damaged costs the memory of crashes, and a WARN line.

pub mod lives;
pub mod report;
pub mod signals;
pub mod trail;

#[cfg(test)]
mod tests;

use crate::log::{Log, rfc3339};
use anyhow::{Context, Result};
use holdfast_base::Instant;
use holdfast_mirror::Record;
use holdfast_node::{LifeEnd, Onlooker, quarantine_at_start};
use lives::LivesFile;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use trail::Trail;

/// What the data thread of this process does.
pub static TRAIL: Trail = Trail::new();

/// Reports that are kept.
const KEPT: usize = 8;

/// The report of the present life, empty until it dies.
const PENDING: &str = "pending";

/// Writes each record of the peer into the trail.
pub struct Recorder;

impl Onlooker for Recorder {
    fn see(&self, now: Instant, record: &Record) {
        TRAIL.record(now, record);
    }
}

/// What this life has found of the earlier ones.
pub struct Beginning {
    /// Where this life's end is noted.
    pub lives: LivesFile,
    /// The quarantine to begin with.
    pub quarantine: Option<Duration>,
    /// Where a report would go; open for as long as the process lives.
    pub report: Option<File>,
}

/// Finds out how the last life ended, tells the log, and makes room for a report of this one.
pub fn begin(state: &Path, now_ms: u64, log: &Log) -> Beginning {
    let (mut lives, outcome) = LivesFile::open(state);
    let warn = |outcome: Result<()>| {
        if let Err(error) = outcome {
            log.warn(&format!("{error:#}"));
        }
    };
    warn(outcome);
    let folder = state.join("crashes");
    let found = take_report(&folder).unwrap_or_else(|error| {
        warn(Err(error));
        None
    });
    match (found, lives.last_end()) {
        (Some(path), _) => {
            lives.note_crash();
            log.warn(&format!(
                "the last life of this node ended by a crash; what preceded it is in {}",
                path.display()
            ));
        }
        (None, Some(LifeEnd::Vanished)) => {
            log.info("the last life of this node ended without a word: it was killed, or the power went");
        }
        (None, Some(LifeEnd::Crashed | LifeEnd::Orderly) | None) => {}
    }
    let quarantine = quarantine_at_start(lives.lives(), now_ms);
    warn(lives.begin(now_ms, quarantine));
    warn(prune(&folder));
    let report = reserve(&folder.join(PENDING)).map_err(|error| warn(Err(error))).ok();
    Beginning { lives, quarantine, report }
}

/// The last life's report, under the name that it keeps.
fn take_report(folder: &Path) -> Result<Option<PathBuf>> {
    let attempt = || format!("cannot use {}: crashes leave no report", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(attempt)?;
    let pending = folder.join(PENDING);
    let Ok(found) = fs::metadata(&pending) else { return Ok(None) };
    if found.len() == 0 {
        return Ok(None);
    }
    let written = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let name = format!("crash-{}.txt", rfc3339(written).replace(':', ""));
    let path = folder.join(name);
    match fs::rename(&pending, &path) {
        Ok(()) => Ok(Some(path)),
        // It is a crash all the same, and the next one writes over it.
        Err(_) => Ok(Some(pending)),
    }
}

/// Forgets all but the last reports.
fn prune(folder: &Path) -> Result<()> {
    let attempt = || format!("cannot look through {}", folder.display());
    let mut reports = Vec::new();
    for entry in fs::read_dir(folder).with_context(attempt)? {
        let name = entry.with_context(attempt)?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("crash-") && name.ends_with(".txt")) {
            reports.push(name);
        }
    }
    reports.sort();
    for name in &reports[..reports.len().saturating_sub(KEPT)] {
        fs::remove_file(folder.join(name)).with_context(attempt)?;
    }
    Ok(())
}

/// An empty file with room for a report, so that a disk that is full by then does no harm.
fn reserve(path: &Path) -> Result<File> {
    let attempt = || format!("no room for a crash report in {}", path.display());
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).with_context(attempt)?;
    // SAFETY: plain system call on a descriptor that is open.
    let rc = unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, report::LONGEST_REPORT as i64) };
    let error = std::io::Error::last_os_error();
    // Some file systems cannot reserve; most crashes find room all the same.
    if rc != 0 && error.raw_os_error() != Some(libc::EOPNOTSUPP) {
        return Err(error).with_context(attempt);
    }
    Ok(file)
}
