//! Lines on standard error.

use holdfast_node::Level;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `2026-01-31T12:00:00.000000Z INFO text`
    Text,
    /// One JSON object per line: `time`, `level`, `text`.
    Json,
}

/// Writes lines; a line that equals the one before is counted instead.
pub struct Log {
    format: Format,
    last: Mutex<(String, u64)>,
}

impl Log {
    /// A log in this format.
    pub fn new(format: Format) -> Log {
        Log { format, last: Mutex::new((String::new(), 0)) }
    }

    /// Writes one line at `level`.
    pub fn line(&self, level: Level, text: &str) {
        let Ok(mut last) = self.last.lock() else { return };
        if last.0 == text {
            last.1 += 1;
            return;
        }
        let repeated = std::mem::replace(&mut *last, (text.to_owned(), 0)).1;
        if repeated > 0 {
            self.write(Level::Info, &format!("(the line before came {repeated} more times)"));
        }
        self.write(level, text);
    }

    /// Writes an INFO line.
    pub fn info(&self, text: &str) {
        self.line(Level::Info, text);
    }

    /// Writes a WARN line.
    pub fn warn(&self, text: &str) {
        self.line(Level::Warn, text);
    }

    /// Writes an ERROR line.
    pub fn error(&self, text: &str) {
        self.line(Level::Error, text);
    }

    fn write(&self, level: Level, text: &str) {
        let time = rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO));
        let level = match level {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        let line = match self.format {
            Format::Text => format!("{time} {level} {}\n", printable(text)),
            Format::Json => format!("{}\n", serde_json::json!({ "time": time, "level": level, "text": text })),
        };
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// Control characters escaped: words from outside must not draw on a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// UTC with microseconds (RFC 3339). Days to a date after the proleptic
/// Gregorian calendar, with years that begin in March.
pub fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let micros = since_epoch.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}
