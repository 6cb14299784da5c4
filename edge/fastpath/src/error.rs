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
            FastPathError::Missing(name) => write!(f, "the fast path's object has no {name}"),
        }
    }
}

impl std::error::Error for FastPathError {}

/// An error and what caused it. Without rights the last cause is EPERM: what is
/// missing is said beside it.
fn write_causes(f: &mut fmt::Formatter<'_>, error: &(dyn std::error::Error + 'static)) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    let mut refused = is_refusal(error);
    while let Some(next) = cause {
        write!(f, ": {next}")?;
        refused |= is_refusal(next);
        cause = next.source();
    }
    if refused { f.write_str(" (needs CAP_BPF and CAP_NET_ADMIN: run as root, or grant them)") } else { Ok(()) }
}

fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied)
}
