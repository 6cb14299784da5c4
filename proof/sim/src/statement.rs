//! What the model says of a connection, and what really became of it.

use core::time::Duration;

use holdfast_base::Instant;

use crate::apps::{Connection, Outcome};

/// What the model says of a connection or exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It must go on to its end.
    MustSurvive(String),
    /// Whatever becomes of it is no fault.
    MayBeLost(String),
    /// It must not go on.
    MustBeReset(String),
    /// The client must be let in.
    MustOpen,
}

/// How many of each statement there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Had to survive, or to be let in.
    pub survive: usize,
    /// Might be lost.
    pub excused: usize,
    /// Had to be reset.
    pub reset: usize,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: Tally) {
        self.survive += other.survive;
        self.excused += other.excused;
        self.reset += other.reset;
    }

    pub(crate) fn count(&mut self, statement: &Statement) {
        match statement {
            Statement::MustSurvive(_) | Statement::MustOpen => self.survive += 1,
            Statement::MayBeLost(_) => self.excused += 1,
            Statement::MustBeReset(_) => self.reset += 1,
        }
    }
}

/// In which way a connection's fate is not what was said; `None` if it is.
pub(crate) fn difference(statement: &Statement, connection: &Connection) -> Option<String> {
    let outcome = connection.outcome;
    if outcome == Outcome::Corrupt {
        return Some("a byte came back that was not sent".into());
    }
    match statement {
        Statement::MayBeLost(_) => None,
        Statement::MustSurvive(why) => {
            (outcome != Outcome::Finished).then(|| format!("must survive ({why}), and is {outcome:?}"))
        }
        Statement::MustOpen => {
            (outcome != Outcome::Finished).then(|| format!("must be let in sooner or later, and is {outcome:?}"))
        }
        Statement::MustBeReset(why) => matches!(outcome, Outcome::Open | Outcome::Opening)
            .then(|| format!("must be reset ({why}, and it was DISABLED), and hangs")),
    }
}

pub(crate) fn describe(connection: &Connection) -> String {
    format!(
        "port {} ({}): opened {:?}, established {:?}, ended {:?}, {} of {} bytes back",
        connection.port,
        if connection.v6 { "IPv6" } else { "IPv4" },
        millis(connection.opened),
        connection.established.map(millis),
        connection.ended.map(millis),
        connection.echoed,
        connection.total,
    )
}

pub(crate) fn millis(at: Instant) -> Duration {
    Duration::from_micros(at.as_nanos() / 1000)
}
