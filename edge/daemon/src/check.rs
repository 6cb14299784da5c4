//! `--check`: every error of a configuration, not only the first.

use holdfast_config::Config;
use std::fmt;

/// An error of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// From 1.
    pub line: usize,
    /// As the CLI prints it.
    pub error: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.error)
    }
}

/// The text of a file, and every error in it. Each line is applied; one with an
/// error changes nothing, so later errors can be consequences of earlier ones.
pub fn check(bytes: &[u8]) -> (String, Vec<Finding>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut config = Config::new();
    let mut findings = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let applied = match std::str::from_utf8(line) {
            Ok(line) => config.apply_line(line).map_err(|error| error.to_string()),
            Err(error) => Err(format!("ERROR: Not UTF-8 text [byte {} of the line]", error.valid_up_to() + 1)),
        };
        if let Err(error) = applied {
            findings.push(Finding { line: at + 1, error });
        }
    }
    (String::from_utf8_lossy(bytes).into_owned(), findings)
}
