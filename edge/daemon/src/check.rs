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

/// Applies each line of `text`; a line with an error changes nothing, so later
/// errors can be consequences of earlier ones.
pub fn check(text: &str) -> Vec<Finding> {
    let mut config = Config::new();
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Err(error) = config.apply_line(line) {
            findings.push(Finding { line: at + 1, error: error.to_string() });
        }
    }
    findings
}
