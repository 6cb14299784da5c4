//! What can go wrong, with what was attempted.

use std::fmt;
use std::io;

/// The kernel, or the loader, refused something.
#[derive(Debug)]
pub enum FastPathError {
    /// The object or one of its programs is refused.
    Load {
        /// What was being loaded.
        what: &'static str,
        /// Why, in the words of the loader and of the verifier.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program cannot be attached to an interface.
    Attach {
        /// The interface.
        device: String,
        /// How it was attempted.
        how: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call on a map failed.
    Map {
        /// The map.
        map: &'static str,
        /// What was attempted.
        attempt: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host lacks something.
    Host(String),
    /// A map is too small.
    Room {
        /// How many found none.
        left_out: usize,
        /// What they are.
        what: &'static str,
    },
    /// The object lacks a map or program: it was built from other sources.
    Missing(&'static str),
}

impl fmt::Display for FastPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FastPathError::Load { what, source } => {
                write!(f, "the kernel does not take the fast path's {what}: ")?;
                write_causes(f, source.as_ref())
            }
            FastPathError::Attach { device, how, source } => {
                write!(f, "interface {device}: cannot attach the fast path by {how}: ")?;
                write_causes(f, source.as_ref())
            }
            FastPathError::Map { map, attempt, source } => write!(f, "map {map}: cannot {attempt}: {source}"),
            FastPathError::Host(why) => write!(f, "no fast path on this host: {why}"),
            FastPathError::Room { left_out, what } => {
                write!(
                    f,
                    "the fast path has no room for {left_out} {what}: their frames pass through the engine, and through the host"
                )
            }
            FastPathError::Missing(name) => write!(f, "the fast path's object has no {name}"),
        }
    }
}

impl std::error::Error for FastPathError {}

/// An error and what caused it. Without rights the last cause is EPERM: what is
/// missing is said beside it.
fn write_causes(f: &mut fmt::Formatter<'_>, error: &(dyn std::error::Error + 'static)) -> fmt::Result {
    f.write_str(&brief(&error.to_string()))?;
    let mut cause = error.source();
    let mut refused = is_refusal(error);
    while let Some(next) = cause {
        write!(f, ": {}", brief(&next.to_string()))?;
        refused |= is_refusal(next);
        cause = next.source();
    }
    if refused {
        f.write_str(" (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: run as root, or grant them)")
    } else {
        Ok(())
    }
}

/// Without the verifier's walk, which may be thousands of lines: what it said last is why.
fn brief(text: &str) -> String {
    let Some((before, walk)) = text.split_once(" Verifier output:") else { return text.into() };
    let counts = ["processed ", "stack depth ", "verification time "];
    let said = |line: &&str| !line.is_empty() && !counts.iter().any(|count| line.starts_with(count));
    match walk.lines().map(str::trim).rfind(said) {
        Some(last) => format!("{before} The verifier says: {last}"),
        None => before.into(),
    }
}

fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied)
}
