//! Quarantine: a node that crashes again and again takes no records of the
//! mirror stream for a while, so that one poison record cannot kill both nodes
//! in turn. It joins the pair all the same; it has not caught up, and the primary
//! mirrors to nobody meanwhile: nothing waits.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_ha::{Hello, Role};

use crate::effect::Level;
use crate::node::Node;

/// Restarts after a crash that are one too many …
const RESTARTS: usize = 3;
/// … within this time.
const WITHIN: Duration = Duration::from_secs(60);
/// The first quarantine.
const FIRST: Duration = Duration::from_secs(60);
/// No quarantine is longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// A crash within this time after a quarantine has ended begins another one, twice as long.
const PROBATION: Duration = Duration::from_secs(300);

/// How a life of the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// It was told to.
    Orderly,
    /// By itself: a panic, or a signal that is a bug.
    Crashed,
    /// Without a word: killed, or the power went.
    Vanished,
}

/// A former life of the process, as the driver remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it began, Unix milliseconds.
    pub started_ms: u64,
    /// The quarantine that it began with.
    pub quarantine: Option<Duration>,
    /// How it ended.
    pub end: LifeEnd,
}

/// The quarantine with which a life begins at `now_ms` (Unix milliseconds) that
/// follows these, oldest first. An orderly end forgets all before it.
pub fn quarantine_at_start(former: &[Life], now_ms: u64) -> Option<Duration> {
    let forgotten = former.iter().rposition(|life| life.end == LifeEnd::Orderly).map_or(0, |index| index + 1);
    let former = &former[forgotten..];
    let last = former.last()?;
    // A clock that was set back makes no restart older than it is.
    let age = |since_ms: u64| Duration::from_millis(now_ms.saturating_sub(since_ms));
    if let Some(served) = last.quarantine {
        match last.end {
            LifeEnd::Crashed if age(last.started_ms) < served + PROBATION => return Some((served * 2).min(LONGEST)),
            LifeEnd::Vanished if age(last.started_ms) < served => return Some(served.min(LONGEST)),
            LifeEnd::Crashed | LifeEnd::Vanished | LifeEnd::Orderly => {}
        }
    }
    let next_starts = former[1..].iter().map(|life| life.started_ms).chain([now_ms]);
    let restarts = former
        .iter()
        .zip(next_starts)
        .filter(|(life, restarted)| life.end == LifeEnd::Crashed && age(*restarted) <= WITHIN);
    (restarts.count() >= RESTARTS).then_some(FIRST)
}

/// What the peer's hello says of its intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// Nothing that was not known.
    Same,
    /// It takes no records for this long.
    Closed(Duration),
    /// It takes records again.
    Opened,
}

/// The quarantine of this node, and that of its peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quarantine {
    ends: Option<Instant>,
    /// Boot of a peer that takes no records, and until when.
    peer: Option<(u64, Instant)>,
    begun: u64,
    begun_by_peer: u64,
    refused: u64,
}

impl Quarantine {
    /// Begins one.
    fn begin(&mut self, now: Instant, length: Duration) {
        self.ends = Some(now + length.min(LONGEST));
        self.begun += 1;
    }

    /// When it ends, if there is one.
    pub fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// How long it lasts yet, if there is one.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.ends.map(|ends| ends.since(now))
    }

    /// The same for a hello: 0 without one.
    pub fn left_ms(&self, now: Instant) -> u64 {
        self.left(now).map_or(0, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    /// Whether a datagram of the mirror stream must be left alone; counts it.
    pub fn refuses(&mut self) -> bool {
        self.refused += u64::from(self.ends.is_some());
        self.ends.is_some()
    }

    /// Ends it when it is time. True if it ended.
    fn expire(&mut self, now: Instant) -> bool {
        let over = self.ends.is_some_and(|ends| now >= ends);
        if over {
            self.ends = None;
        }
        over
    }

    /// A hello of the peer's life `boot`. A life begins in quarantine or is never
    /// in it: while a session with it runs, an older hello closes nothing.
    fn hear(&mut self, now: Instant, boot: u64, quarantine_ms: u64, in_session: bool) -> Intake {
        let left = Duration::from_millis(quarantine_ms).min(LONGEST);
        let known = self.peer.is_some_and(|(other, _)| other == boot);
        match (quarantine_ms > 0, known) {
            (false, false) => Intake::Same,
            (false, true) => {
                self.peer = None;
                Intake::Opened
            }
            (true, _) if in_session => Intake::Same,
            (true, true) => {
                self.peer = Some((boot, now + left));
                Intake::Same
            }
            (true, false) => {
                self.peer = Some((boot, now + left));
                self.begun_by_peer += 1;
                Intake::Closed(left)
            }
        }
    }

    /// Quarantines of this node: 0 or 1 in a life.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Lives of the peer that began in quarantine.
    pub fn begun_by_peer(&self) -> u64 {
        self.begun_by_peer
    }

    /// Datagrams of the mirror stream that were left alone.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl Node {
    /// Before the first turn: this node crashed again and again. It takes no
    /// records for `length` (see [`quarantine_at_start`]).
    pub fn quarantine_intake(&mut self, now: Instant, length: Duration) {
        self.begin(now);
        self.quarantine.begin(now, length);
        let text = format!(
            "quarantine: this node crashed again and again; it takes no mirror records for {} s",
            length.as_secs()
        );
        self.event(Level::Warn, text);
    }

    /// Ends this node's quarantine when it is time.
    pub(crate) fn watch_quarantine(&mut self, now: Instant) {
        if self.quarantine.expire(now) {
            self.event(Level::Warn, "quarantine is over: mirror records are taken again".into());
        }
    }

    /// Notes whether the peer takes records, before its hello has consequences.
    pub(crate) fn hear_intake(&mut self, now: Instant, hello: &Hello) -> Intake {
        let in_session = self.mirroring.sender.is_active() && self.peer_boot == Some(hello.boot);
        self.quarantine.hear(now, hello.boot, hello.quarantine_ms, in_session)
    }

    /// What follows from it, after the hello has had its consequences.
    pub(crate) fn follow_intake(&mut self, now: Instant, intake: Intake) {
        let leads = self.ha.role() == Role::Primary;
        match intake {
            Intake::Same => {}
            Intake::Closed(left) => {
                let text = format!(
                    "the peer is in quarantine: it crashed again and again and takes no records for another {} s; nothing waits for it, flows are unprotected",
                    left.as_secs() + 1
                );
                self.event(Level::Warn, text);
            }
            Intake::Opened => {
                self.event(Level::Warn, "the peer's quarantine is over".into());
                if leads && self.peer_boot.is_some() {
                    self.start_session(now);
                }
            }
        }
    }

    /// Whether the peer that is there takes no records.
    pub(crate) fn peer_in_quarantine(&self) -> bool {
        self.quarantine.peer.is_some_and(|(boot, _)| self.peer_boot == Some(boot))
    }

    /// For how long yet the peer takes no records.
    pub(crate) fn peer_quarantine_left(&self, now: Instant) -> Option<Duration> {
        self.quarantine.peer.filter(|_| self.peer_in_quarantine()).map(|(_, ends)| ends.since(now))
    }
}

#[cfg(test)]
mod tests;
